//! The exact requests to LeadSquared. Requests with an example in LeadSquared's documentation are compared with the example.

use leadgate::crm::activity;
use leadgate::crm::authentication::UserByAccessKey;
use leadgate::crm::batch::Batchable;
use leadgate::crm::lead::{
    CaptureLead, CapturedLeadId, ClearWith, CreateLead, CreateOrUpdateLead, GetLeadByEmail, GetLeadById,
    GetLeadByNumber, GetLeadByPhone, GetLeadsByIds, UpdateLead,
};
use leadgate::crm::metadata::LeadsMetaData;
use leadgate::crm::removal::{DeleteLead, MergeLeads};
use leadgate::crm::search::{QuickSearchLeads, RecentlyModifiedLeads, SearchLeads};
use leadgate::crm::share::{GetAccessStatus, GrantAccess, RevokeAccess};
use leadgate::crm::user::{GetUsers, RetrieveUser};
use leadgate::crm::{Operation, UpstreamRequest};
use leadgate::domain::activity::{ActivityTarget, ActivityWriteRequest};
use leadgate::domain::criterion::{Criterion, Operator, SearchAttribute, SortOrder};
use leadgate::domain::lead::{CaptureBehavior, WriteAction, WriteRequest};
use leadgate::domain::share::{Access, Share, ShareContext, ShareStage, SharedEntity};
use leadgate::domain::user::UserKey;
use leadgate::domain::value::{FieldSet, Value, ValueKind};
use serde_json::Value as Json;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn write(action: WriteAction, pairs: &[(&str, Value)]) -> WriteRequest {
    WriteRequest {
        action,
        attributes: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        cleared: vec![],
        violations: vec![],
    }
}

/// A request as text: verb, path, query, and the formatted body.
fn formatted(request: &UpstreamRequest) -> String {
    let verb = if request.body.is_some() { "POST" } else { "GET" };
    let query: Vec<String> = request
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let body = request.body.as_ref().map_or(String::new(), |body| {
        let json: Json = serde_json::from_str(body).unwrap();
        format!("\n{json:#}")
    });
    format!("{verb} /v2/{}{mark}{}{body}", request.path, query.join("&"))
}

fn golden<O: Operation<Request = UpstreamRequest>>(name: &str, operation: &O) {
    insta::with_settings!({snapshot_path => "../golden"}, { insta::assert_snapshot!(name, formatted(&operation.request())) });
}

/// The body in an example of LeadSquared's documentation.
fn documented_body(name: &str) -> Json {
    let path = format!("{}/tests/golden/pages/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn body(request: &UpstreamRequest) -> Json {
    serde_json::from_str(request.body.as_ref().unwrap()).unwrap()
}

#[test]
fn a_create_equals_the_documented_example() {
    let kyc = FieldSet {
        value: String::new(),
        fields: [
            ("Status".to_owned(), "Pending".to_owned()),
            ("mx_CustomObject_1".to_owned(), "XYZ12345.png".to_owned()),
            ("mx_CustomObject_2".to_owned(), "864563".to_owned()),
        ]
        .into(),
    };
    let write = write(
        WriteAction::Create,
        &[
            ("EmailAddress", text("john.smith@example.com")),
            ("FirstName", text("John")),
            ("LastName", text("Smith")),
            ("Phone", text("8888888888")),
            ("mx_City", text("Bangalore")),
            ("mx_KYC", Value::FieldSet(kyc)),
        ],
    );
    let create = CreateLead {
        write: write.into(),
        clear_with: ClearWith::EmptyText,
    };
    assert_eq!(body(&create.request()), documented_body("create-a-lead"));
    golden("create", &create);
}

#[test]
fn an_update_equals_the_documented_example() {
    let action = WriteAction::Update {
        lead_id: "leadid".to_owned(),
        run_automations: true,
    };
    let mut write = write(action, &[("Phone", text("9999999999")), ("mx_City", text("London"))]);
    let update = UpdateLead {
        write: write.clone().into(),
        clear_with: ClearWith::EmptyText,
    };
    assert_eq!(body(&update.request()), documented_body("update-a-lead"));
    golden("update", &update);

    write.cleared = vec!["Company".to_owned()];
    for (name, clear_with) in [
        ("update_clearing_by_text", ClearWith::EmptyText),
        ("update_clearing_by_null", ClearWith::Null),
    ] {
        golden(
            name,
            &UpdateLead {
                write: write.clone().into(),
                clear_with,
            },
        );
    }
}

#[test]
fn upserts_and_captures() {
    let pairs = [("EmailAddress", text("a@b.co")), ("Phone", text("+91-9845098450"))];
    for (name, match_by, run_automations) in [("upsert", None, false), ("upsert_by_phone", Some("Phone"), true)] {
        let action = WriteAction::Upsert {
            match_by: match_by.map(str::to_owned),
            run_automations,
        };
        golden(
            name,
            &CreateOrUpdateLead {
                write: write(action, &pairs).into(),
                clear_with: ClearWith::EmptyText,
            },
        );
    }
    for (name, behavior) in [
        ("capture", CaptureBehavior::Update),
        ("capture_do_not_update", CaptureBehavior::DoNotUpdate),
        ("capture_only_empty", CaptureBehavior::UpdateOnlyEmptyFields),
        ("capture_not_unique", CaptureBehavior::DoNotUpdateUniqueFields),
    ] {
        let action = WriteAction::Capture {
            match_by: None,
            behavior,
        };
        golden(
            name,
            &CaptureLead {
                write: write(action, &pairs).into(),
                clear_with: ClearWith::EmptyText,
                captured_lead_id: CapturedLeadId::Id,
            },
        );
    }
}

#[test]
fn every_value_is_written_as_text() {
    let at = "2026-07-31T05:33:50Z".parse().unwrap();
    let pairs = [
        ("mx_Text", text("\"quoted\" ☂")),
        ("mx_Number", Value::Number(250_000.5)),
        ("mx_Integer", Value::Integer(-10)),
        ("mx_Flag", Value::Flag(true)),
        ("mx_Time", Value::Time(at)),
    ];
    golden(
        "every_value",
        &CreateLead {
            write: write(WriteAction::Create, &pairs).into(),
            clear_with: ClearWith::EmptyText,
        },
    );
}

#[test]
fn batches() {
    let update = |id: &str, city: &str| UpdateLead {
        write: write(
            WriteAction::Update {
                lead_id: id.to_owned(),
                run_automations: false,
            },
            &[("mx_City", text(city))],
        )
        .into(),
        clear_with: ClearWith::EmptyText,
    };
    golden(
        "updates_together",
        &UpdateLead::batch_call(&[update("a", "Pune"), update("b", "Delhi")]),
    );
    let upsert = |email: &str, match_by: Option<&str>| CreateOrUpdateLead {
        write: write(
            WriteAction::Upsert {
                match_by: match_by.map(str::to_owned),
                run_automations: false,
            },
            &[("EmailAddress", text(email))],
        )
        .into(),
        clear_with: ClearWith::EmptyText,
    };
    let upserts = [upsert("a@b.co", Some("EmailAddress")), upsert("c@d.co", None)];
    golden("upserts_together", &CreateOrUpdateLead::batch_call(&upserts));
    let create = |email: &str| CreateLead {
        write: write(WriteAction::Create, &[("EmailAddress", text(email))]).into(),
        clear_with: ClearWith::EmptyText,
    };
    golden(
        "creates_together",
        &CreateLead::batch_call(&[create("a@b.co"), create("c@d.co")]),
    );
    let read = |id: &str, columns: &[&str]| GetLeadById {
        id: id.to_owned(),
        columns: Some(columns.iter().map(|name| (*name).to_owned()).collect()),
    };
    let reads = [read("a", &["FirstName", "mx_City"]), read("b", &["mx_City", "Phone"])];
    golden("reads_together", &GetLeadById::batch_call(&reads));
    let activity = |lead: &str| activity::CreateActivity {
        post: ActivityWriteRequest {
            target: ActivityTarget::Lead(lead.to_owned()),
            code: 201,
            note: Some("note".to_owned()),
            at: None,
            owner_id: "u".to_owned(),
            fields: [("mx_Custom_1".to_owned(), text("x"))].into(),
            violations: vec![],
        }
        .into(),
        lead_id: lead.to_owned(),
        owner_email_address: Some("sam@x.co".to_owned()),
    };
    golden(
        "activities_together",
        &activity::CreateActivity::batch_call(&[activity("a"), activity("b")]),
    );
}

#[test]
fn reads() {
    let columns = vec!["FirstName".to_owned(), "ProspectID".to_owned()];
    golden("get_by_id", &GetLeadById::new("c7f5b5b0"));
    golden("get_by_email", &GetLeadByEmail("a+b@b.co".to_owned()));
    golden("get_by_phone", &GetLeadByPhone("+91-9845098450".to_owned()));
    golden(
        "get_by_number",
        &GetLeadByNumber {
            number: "1016".to_owned(),
            columns: columns.clone(),
        },
    );
    golden(
        "get_by_ids",
        &GetLeadsByIds {
            ids: vec!["a".to_owned(), "b".to_owned()],
            columns,
            page: 1,
        },
    );
    golden("metadata", &LeadsMetaData);
    golden("key_owner", &UserByAccessKey);
}

#[test]
fn searches_and_ranges() {
    let columns = vec!["FirstName".to_owned(), "ProspectID".to_owned()];
    for (name, operator, value, order) in [
        ("search", Operator::Equal, Value::Flag(true), SortOrder::by_id()),
        (
            "search_by_time",
            Operator::GreaterOrEqual,
            Value::Time("2026-07-31T05:33:50.9Z".parse().unwrap()),
            SortOrder {
                name: "CreatedOn".to_owned(),
                descending: true,
            },
        ),
    ] {
        let attribute = SearchAttribute {
            name: "mx_Any".to_owned(),
            kind: ValueKind::Text,
        };
        let search = SearchLeads {
            criterion: Criterion::new(attribute, operator, &value).unwrap(),
            order,
            columns: columns.clone(),
            page: 2,
            size: 100,
        };
        golden(name, &search);
    }
    golden("quick_search", &QuickSearchLeads("a word".to_owned()));
    let modified = RecentlyModifiedLeads {
        start: "2026-09-01T00:00:00.5Z".parse().unwrap(),
        end: "2026-09-02T00:00:00.5Z".parse().unwrap(),
        columns,
        page: 1,
        size: 5000,
    };
    golden("recently_modified", &modified);
}

#[test]
fn removals() {
    golden("delete", &DeleteLead("c7f5b5b0"));
    let (master, child) = ("c7f5b5b0", "0203f172");
    golden("merge", &MergeLeads { master, child });
}

#[test]
fn activities() {
    let post = |target| ActivityWriteRequest {
        target,
        code: 201,
        note: Some("text".to_owned()),
        at: Some("2015-10-11T12:13:44Z".parse().unwrap()),
        owner_id: "u".to_owned(),
        fields: [
            ("mx_Custom_1".to_owned(), text("123")),
            ("Status".to_owned(), text("Active")),
        ]
        .into(),
        violations: vec![],
    };
    let new = post(ActivityTarget::Lead("l".to_owned()));
    golden(
        "activity_create",
        &activity::CreateActivity {
            post: new.into(),
            lead_id: "l".to_owned(),
            owner_email_address: None,
        },
    );
    let old = post(ActivityTarget::Activity("a".to_owned()));
    golden(
        "activity_update",
        &activity::UpdateActivity {
            post: &old,
            activity_id: "a",
        },
    );
    golden("activity_details", &activity::GetActivityDetails("a".to_owned()));
    for (name, code) in [("activities_of_lead", None), ("activities_of_lead_by_type", Some(201))] {
        let operation = activity::RetrieveActivities {
            lead_id: "l".to_owned(),
            code,
            offset: 25,
            count: 25,
        };
        golden(name, &operation);
    }
    for (name, code) in [
        ("activities_modified", None),
        ("activities_modified_by_type", Some(154)),
    ] {
        let operation = activity::RetrieveModifiedActivities {
            from: "2026-09-01T00:00:00Z".parse().unwrap(),
            to: "2026-09-02T00:00:00.5Z".parse().unwrap(),
            code,
            page: 1,
            count: 100,
        };
        golden(name, &operation);
    }
    golden("activity_types", &activity::GetActivityTypes);
    golden("activity_setting", &activity::GetActivitySetting(201));
}

#[test]
fn users() {
    golden("users", &GetUsers);
    golden("user_by_id", &RetrieveUser(UserKey::Id("u".to_owned())));
    golden("user_by_email", &RetrieveUser(UserKey::Email("a@b.co".to_owned())));
}

/// A share of half an hour with a user, as in LeadSquared's example.
fn share(entity: SharedEntity, access: Access) -> Share {
    let id = "019fa88d-1a2b-7c3d-8e4f-5a6b7c8d9e0f".parse().unwrap();
    let user_id = "0203f172-8642-11e7-9bed-069b743e848f".to_owned();
    let now = "2026-09-01T00:00:00Z".parse().unwrap();
    Share {
        stage: ShareStage::ShareQueued,
        ..Share::new(id, entity, user_id, access, 30, now)
    }
}

fn revoke(share: &Share) -> RevokeAccess<'_> {
    RevokeAccess { share, gone_texts: &[] }
}

#[test]
fn a_share_of_a_lead_equals_the_documented_example() {
    let activity = "f2dbf1d5-bbab-418b-bddc-4c92ecdef214".to_owned();
    let lead = |context| SharedEntity::Lead {
        id: "c7f5b5b0".to_owned(),
        number: "869196".to_owned(),
        context,
    };
    let posted = ShareContext::New {
        id: Some(activity.clone()),
        code: 201,
        note: "a note".to_owned(),
        fields: [("mx_Custom_1".to_owned(), text("123"))].into(),
    };
    let write = share(lead(posted), Access::Write);
    assert_eq!(body(&GrantAccess(&write).request()), documented_body("share-a-lead"));
    golden("share_lead_write", &GrantAccess(&write));
    golden("revoke_lead_write", &revoke(&write));

    let read = share(lead(ShareContext::Existing { id: activity }), Access::Read);
    golden("share_lead_read", &GrantAccess(&read));
    golden("revoke_lead_read", &revoke(&read));
}

#[test]
fn a_share_of_an_opportunity_has_no_context() {
    let entity = SharedEntity::Opportunity {
        id: "f85f3b60-bec7-47c8-8fcd-ae5d9df2d0e5".to_owned(),
    };
    let share = share(entity, Access::Write);
    golden("share_opportunity", &GrantAccess(&share));
    golden("revoke_opportunity", &revoke(&share));
}

#[test]
fn the_status_of_a_share_request() {
    let status = GetAccessStatus {
        id: "98fe2984209c413c9b6b06a1b68111ff",
        processed: &[6],
        gone_texts: &[],
    };
    golden("share_status", &status);
}
