//! Fuzz target: responses of LeadSquared, read by every operation.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{DATE, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::Value as Json;
use uuid::Uuid;

use super::Operation;
use super::activity::{
    CreateActivity, GetActivityDetails, GetActivitySetting, GetActivityTypes, RetrieveActivities,
    RetrieveModifiedActivities, UpdateActivity,
};
use super::authentication::UserByAccessKey;
use super::batch::{Batchable, MemberResult};
use super::clock::{UpstreamClock, retry_after};
use super::json::{ListShape, Records};
use super::lead::{
    CaptureLead, CapturedLeadId, ClearWith, CreateLead, CreateOrUpdateLead, GetLeadByEmail, GetLeadById,
    GetLeadByNumber, GetLeadByPhone, GetLeadsByIds, UpdateLead,
};
use super::metadata::LeadsMetaData;
use super::removal::{DeleteLead, MergeLeads};
use super::response::UpstreamResponse;
use super::search::{QuickSearchLeads, RecentlyModifiedLeads, SearchLeads};
use super::share::{GetAccessStatus, GrantAccess, RevokeAccess};
use super::user::{GetUsers, RetrieveUser};
use crate::clock;
use crate::domain::activity::{ActivityTarget, ActivityWriteRequest};
use crate::domain::criterion::{Criterion, Operator, SearchAttribute, SortOrder};
use crate::domain::field::{Catalog, Field};
use crate::domain::lead::{CaptureBehavior, LEAD_ID, Lead, RawFields, WriteAction, WriteRequest};
use crate::domain::listed::{Listed, Unreadable};
use crate::domain::share::{Access, Share, SharedEntity};
use crate::domain::user::UserKey;
use crate::domain::value::ValueKind;
use crate::error::{Error, ErrorKind};
use crate::quota::Verdict;

/// The id, the email address and the numbers in the requests. Responses in the corpus have them.
const ID: &str = "b2c4-11";
const EMAIL: &str = "asha@example.com";
const PHONE: &str = "+91-9845098450";
const NUMBER: &str = "17";
/// A text that no error may show.
const PERSONAL: &str = "Asha Rao, 98450";
/// Maximum length of the text of an error.
const MAX_TEXT: usize = 8 * 1024;

/// The requests whose responses are read.
struct Requests {
    share: Share,
    activity: Arc<ActivityWriteRequest>,
    write: Arc<WriteRequest>,
    update: Arc<WriteRequest>,
    capture: Arc<WriteRequest>,
    now: Timestamp,
}

static REQUESTS: LazyLock<Requests> = LazyLock::new(|| {
    let write = |action| {
        Arc::new(WriteRequest {
            action,
            attributes: std::iter::empty().collect(),
            cleared: vec![],
            violations: vec![],
        })
    };
    let entity = SharedEntity::Opportunity { id: ID.to_owned() };
    let now = Timestamp::UNIX_EPOCH;
    Requests {
        share: Share::new(Uuid::nil(), entity, ID.to_owned(), Access::Read, 60, now),
        activity: Arc::new(ActivityWriteRequest {
            target: ActivityTarget::Lead(ID.to_owned()),
            code: 201,
            note: None,
            at: None,
            owner_id: String::new(),
            fields: BTreeMap::new(),
            violations: vec![],
        }),
        write: write(WriteAction::Create),
        update: write(WriteAction::Update {
            lead_id: ID.to_owned(),
            run_automations: false,
        }),
        capture: write(WriteAction::Capture {
            match_by: None,
            behavior: CaptureBehavior::Update,
        }),
        now,
    }
});

/// Reads a response by every operation. The input is the HTTP status in the first line, headers, an empty line and the body.
pub(crate) fn upstream_response(data: &[u8]) {
    let (headers, response) = parse(data);
    check_headers(&headers);
    check_split(&response.body);
    let Requests {
        share,
        activity,
        write,
        update,
        capture,
        now,
    } = &*REQUESTS;
    let clear_with = ClearWith::default();

    let catalog = decode(&LeadsMetaData, &response).map(|fields| {
        check_listed(&fields);
        catalog(fields, *now)
    });
    let catalog = catalog.as_ref();
    let _ = decode(&UserByAccessKey, &response);

    let create = CreateLead {
        write: write.clone(),
        clear_with,
    };
    let update = UpdateLead {
        write: update.clone(),
        clear_with,
    };
    let upsert = CreateOrUpdateLead {
        write: write.clone(),
        clear_with,
    };
    let create_activity = CreateActivity {
        post: activity.clone(),
        lead_id: ID.to_owned(),
        owner_email_address: None,
    };
    let _ = decode(&create, &response);
    let _ = decode(&update, &response);
    let _ = decode(&upsert, &response);
    let capture = CaptureLead {
        write: capture.clone(),
        clear_with,
        captured_lead_id: CapturedLeadId::default(),
    };
    let _ = decode(&capture, &response);
    let _ = decode(&create_activity, &response);
    decode_batch(&[create.clone(), create], &response);
    decode_batch(&[update.clone(), update], &response);
    decode_batch(&[upsert.clone(), upsert], &response);
    decode_batch(&[create_activity.clone(), create_activity], &response);

    let read = GetLeadById::new(ID);
    check_lead(decode(&read, &response), catalog);
    decode_batch(&[read.clone(), GetLeadById::new("other"), read], &response);
    check_lead(decode(&GetLeadByEmail(EMAIL.to_owned()), &response), catalog);
    check_lead(decode(&GetLeadByPhone(PHONE.to_owned()), &response), catalog);
    let by_number = GetLeadByNumber {
        number: NUMBER.to_owned(),
        columns: vec![],
    };
    check_lead(decode(&by_number, &response), catalog);
    let by_ids = GetLeadsByIds {
        ids: vec![ID.to_owned()],
        columns: vec![],
        page: 1,
    };
    check_leads(decode(&by_ids, &response), catalog);
    check_leads(decode(&QuickSearchLeads("Asha".to_owned()), &response), catalog);
    for (name, kind, value) in [
        ("EmailAddress", ValueKind::Text, EMAIL),
        ("mx_Number", ValueKind::Number, "7"),
        ("CreatedOn", ValueKind::Time, "2026-07-31 05:33:50"),
    ] {
        check_leads(decode(&search(name, kind, value), &response), catalog);
    }
    let modified = RecentlyModifiedLeads {
        start: *now,
        end: *now + Duration::from_secs(60),
        columns: vec![],
        page: 1,
        size: 10,
    };
    check_leads(decode(&modified, &response).map(|page| page.rows), catalog);

    let update_activity = UpdateActivity {
        post: activity,
        activity_id: ID,
    };
    let _ = decode(&update_activity, &response);
    let _ = decode(&GetActivityDetails(ID.to_owned()), &response);
    let of_lead = RetrieveActivities {
        lead_id: ID.to_owned(),
        code: None,
        offset: 0,
        count: 10,
    };
    let of_all = RetrieveModifiedActivities {
        from: *now,
        to: *now,
        code: None,
        page: 1,
        count: 10,
    };
    for page in [decode(&of_lead, &response), decode(&of_all, &response)] {
        page.iter().for_each(|page| check_listed(&page.activities));
    }
    let types = decode(&GetActivityTypes, &response);
    types.iter().for_each(check_listed);
    let _ = decode(&GetActivitySetting(201), &response);

    let _ = decode(&DeleteLead(ID), &response);
    let merge = MergeLeads {
        master: ID,
        child: "other",
    };
    let _ = decode(&merge, &response);

    let gone_texts = &["not shared with".to_owned()];
    let _ = decode(&GrantAccess(share), &response);
    let _ = decode(&RevokeAccess { share, gone_texts }, &response);
    let status = GetAccessStatus {
        id: ID,
        processed: &[6],
        gone_texts,
    };
    if let Some(status) = decode(&status, &response) {
        status.failed.iter().for_each(check_error);
        assert!(
            !(status.processed && status.failed.is_some()),
            "both processed and failed"
        );
    }

    let users = decode(&GetUsers, &response);
    users.iter().for_each(check_listed);
    let _ = decode(&RetrieveUser(UserKey::Id(ID.to_owned())), &response);
    let _ = decode(&RetrieveUser(UserKey::Email(EMAIL.to_owned())), &response);
}

/// The parts of an input. Without a valid status it is 200, and without an empty line everything is the body.
fn parse(data: &[u8]) -> (HeaderMap, UpstreamResponse) {
    let mut headers = HeaderMap::new();
    let split = data.windows(2).position(|window| window == b"\n\n");
    let (head, body) = match split {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (&b""[..], data),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = StatusCode::from_bytes(lines.next().unwrap_or_default()).unwrap_or(StatusCode::OK);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(at + 1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let body = Bytes::copy_from_slice(body);
    (
        headers,
        UpstreamResponse {
            status,
            body,
            head: Default::default(),
        },
    )
}

fn check_headers(headers: &HeaderMap) {
    let _ = retry_after(headers);
    if let Some(date) = headers.get(DATE) {
        let clock = UpstreamClock::default();
        clock.observe(date);
        let now = clock::now();
        let _ = clock.is_since(now, now + Duration::from_secs(1));
        let _ = clock.is_since(Timestamp::MIN, now);
        let _ = clock.is_since(Timestamp::MAX, now);
    }
}

/// A list of objects that is valid JSON is split into exactly these objects.
fn check_split(body: &[u8]) {
    const SHAPE: ListShape = ListShape {
        names: &[],
        marks: &[LEAD_ID],
        ids: &[LEAD_ID],
    };
    let Ok(expected) = serde_json::from_slice::<Vec<serde_json::Map<String, Json>>>(body) else {
        return;
    };
    let expected: Vec<Json> = expected.into_iter().map(Json::Object).collect();
    let records = Records::split(body, &SHAPE).expect("a valid list is split");
    let listed = records.read(&SHAPE, |row: Json| Ok(Some(row)));
    assert_eq!(listed.records, expected);
    assert!(listed.unreadable.is_empty() && !listed.is_count_uncertain);
}

fn decode<O: Operation>(operation: &O, response: &UpstreamResponse) -> Option<O::Output> {
    let decoded = operation.decode(response);
    if let Err(error) = &decoded {
        check_error(error);
    }
    let is_refused = decoded.as_ref().is_err_and(Error::is_refused);
    assert!(
        !is_refused || matches!(response.verdict(), Verdict::Refused(_)),
        "{} is refused, but the verdict is that it is accepted",
        O::NAME
    );
    decoded.ok()
}

fn decode_batch<O: Batchable>(members: &[O], response: &UpstreamResponse) {
    let Some(results) = decode(&O::batch_call(members), response) else {
        return;
    };
    assert_eq!(results.len(), members.len());
    for result in &results {
        if let MemberResult::Final(Err(error)) | MemberResult::NotExecuted(error) = result {
            check_error(error);
        }
    }
}

/// An error shows names only, and no text of the response.
fn check_error(error: &Error) {
    let mut texts = vec![error.to_string()];
    texts.extend(error.details.exception_type.clone());
    match &error.kind {
        ErrorKind::Invalid(violations) => {
            let pairs = violations.iter().flat_map(|found| [&found.field, &found.description]);
            texts.extend(pairs.cloned());
        }
        ErrorKind::Unreadable { path } => texts.push(path.clone()),
        ErrorKind::Duplicate { attribute, lead_id } => {
            texts.extend([attribute, lead_id].into_iter().flatten().cloned())
        }
        _ => {}
    }
    texts.iter().for_each(|text| check_text(text));
    assert!(texts[0].len() <= MAX_TEXT, "{} bytes", texts[0].len());
}

fn check_text(text: &str) {
    let is_shown = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    assert!(is_shown && !text.contains(PERSONAL), "{text:?}");
}

fn check_listed<T>(listed: &Listed<T>) {
    let mut positions = vec![];
    for Unreadable { id, position, path } in &listed.unreadable {
        check_text(path);
        id.iter().for_each(|id| check_text(id));
        positions.push(*position);
    }
    positions.extend((0..listed.records.len()).map(|index| listed.position(index)));
    positions.sort_unstable();
    // Each record has one position.
    assert_eq!(positions, (0..listed.count()).collect::<Vec<_>>());
}

fn check_leads(rows: Option<Listed<RawFields>>, catalog: Option<&Catalog>) {
    if let Some(rows) = rows {
        check_listed(&rows);
        rows.records.into_iter().for_each(|row| check_lead(Some(row), catalog));
    }
}

fn check_lead(row: Option<RawFields>, catalog: Option<&Catalog>) {
    if let Some(row) = row {
        let lead = Lead::from_row(row, catalog);
        assert!(lead.score.is_none_or(f64::is_finite));
    }
}

fn catalog(fields: Listed<Field>, now: Timestamp) -> Catalog {
    let names: Vec<String> = fields.records.iter().map(|field| field.schema_name.clone()).collect();
    let catalog = Catalog::new(fields, now);
    for name in names {
        assert!(catalog.get(&name).is_some(), "{name:?} is not in its catalog");
    }
    catalog
}

fn search(name: &str, kind: ValueKind, value: &str) -> SearchLeads {
    SearchLeads {
        criterion: Criterion {
            attribute: SearchAttribute {
                name: name.to_owned(),
                kind,
            },
            operator: Operator::Equal,
            value: value.to_owned(),
        },
        order: SortOrder::by_id(),
        columns: vec![],
        page: 1,
        size: 10,
    }
}
