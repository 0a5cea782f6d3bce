//! Values of every kind that the store contains, for the tests of the records. The rows in `tests/golden/records` were written
//! from them: one line per value, in this order. New values are added at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::lead::WriteResult;
use crate::domain::share::{Access, Share, ShareContext, ShareStage, ShareStep, SharedEntity};
use crate::domain::usage::{HeldSlots, HeldSlotsOfLimit};
use crate::domain::value::{FieldSet, Value};
use crate::error::{
    Cause, Certificate, Denial, Error, ErrorKind, FailureDetails, Limit, Recovery, Refusal, Resource, Violation,
};

/// A time with a fraction of a second.
fn at(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + second, 123_456_789).unwrap()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0000 + number)
}

fn after(seconds: u64) -> Duration {
    Duration::new(seconds, 5_000_000)
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Every kind of error without details, then one error with all details, then every cause and every way to determine an outcome.
pub(in crate::store) fn errors() -> Vec<Error> {
    let kinds = [
        ErrorKind::Invalid(vec![
            Violation::new("lead.first_name", "is too long"),
            Violation::new("lead.custom[\"mx_Größe\"]", "is not a number"),
        ]),
        ErrorKind::Invalid(vec![]),
        ErrorKind::Duplicate {
            attribute: text("EmailAddress"),
            lead_id: text("lead-7"),
        },
        ErrorKind::Duplicate {
            attribute: None,
            lead_id: None,
        },
        ErrorKind::NotFound(Resource::Lead),
        ErrorKind::NotFound(Resource::User),
        ErrorKind::NotFound(Resource::Activity),
        ErrorKind::NotFound(Resource::Opportunity),
        ErrorKind::NotFound(Resource::Share),
        ErrorKind::DeadlineInfeasible { retry_after: after(1) },
        ErrorKind::CallerLimit { retry_after: after(2) },
        ErrorKind::QueueFull { retry_after: after(3) },
        ErrorKind::DailyBudgetExhausted { retry_after: after(4) },
        ErrorKind::CredentialsRejected {
            suggested_host: text("api-us11.leadsquared.com"),
        },
        ErrorKind::Denied {
            suggested_host: text("api-us11.leadsquared.com"),
        },
        ErrorKind::FeatureDisabled,
        ErrorKind::NotASalesUser,
        ErrorKind::ShareLimitReached,
        ErrorKind::ShareExists { by: Some(id(9)) },
        ErrorKind::ShareExists { by: None },
        ErrorKind::ShareNotActive,
        ErrorKind::ShareNotRetryable,
        ErrorKind::Exception,
        ErrorKind::Refused(Refusal::Window(Some(Limit {
            calls: 25,
            per: Duration::from_secs(5),
        }))),
        ErrorKind::Refused(Refusal::Window(None)),
        ErrorKind::Refused(Refusal::Daily),
        ErrorKind::Unavailable { sent: true },
        ErrorKind::Unavailable { sent: false },
        ErrorKind::BreakerOpen { retry_after: after(5) },
        ErrorKind::OutcomeUnknown,
        ErrorKind::ResponseTooLarge {
            bytes: 5_000_000,
            limit: 4_194_304,
            lead_id: text("lead-7"),
        },
        ErrorKind::DeadlineExceeded { place: "a slot".into() },
        ErrorKind::Unreadable {
            path: "Leads[0].ProspectID".to_owned(),
        },
        ErrorKind::StoreUnavailable,
        ErrorKind::StoreUnreadable,
        ErrorKind::StreamNotRead,
        ErrorKind::ShuttingDown,
        ErrorKind::StreamInterrupted,
        ErrorKind::CallerCancelled,
    ];
    let mut errors: Vec<Error> = kinds.map(Error::from).into();
    errors.push(Error {
        kind: ErrorKind::Exception,
        details: Box::new(details()),
    });
    let causes = [
        Cause::Dns,
        Cause::Refused,
        Cause::Unreachable,
        Cause::Certificate(Certificate::UnknownIssuer),
        Cause::Certificate(Certificate::Expired),
        Cause::Certificate(Certificate::NotYetValid),
        Cause::Certificate(Certificate::OtherName),
        Cause::Certificate(Certificate::Revoked),
        Cause::Certificate(Certificate::SelfSigned),
        Cause::Certificate(Certificate::Invalid),
        Cause::NoTls,
        Cause::HandshakeEnded,
        Cause::Tls,
        Cause::NoHttp,
        Cause::HttpsOnly,
        Cause::ConnectTimeout,
        Cause::ResponseTimeout,
        Cause::Closed,
        Cause::Proxy,
        Cause::Other,
    ];
    errors.extend(causes.map(|cause| Error::from(ErrorKind::Unavailable { sent: false }).with_cause(cause)));
    let recoveries = [
        Recovery::SameRequestId { after: after(6) },
        Recovery::Share,
        Recovery::Lead,
        Recovery::Activity,
    ];
    errors.extend(recoveries.map(|recovery| Error::from(ErrorKind::OutcomeUnknown).with_recovery(recovery)));
    let of_callers = [
        ErrorKind::CallerUnknown,
        ErrorKind::CallerNotAllowed(Denial::Method),
        ErrorKind::CallerNotAllowed(Denial::Tenant),
        ErrorKind::CallerNotAllowed(Denial::Fields(vec![Violation::new("lead.owner_id", "is denied")])),
        ErrorKind::AuditUnavailable,
    ];
    errors.extend(of_callers.map(Error::from));
    // Later kinds are appended, because records are never changed.
    errors.push(Error::from(ErrorKind::Unavailable { sent: false }).with_cause(Cause::PrivateAddress));
    errors.push(ErrorKind::CallerRpcLimit { retry_after: after(7) }.into());
    errors
}

fn details() -> FailureDetails {
    FailureDetails {
        upstream_status: Some(500),
        exception_type: text("MXInvalidInputException"),
        is_page: true,
        attempts: 3,
        queued: Duration::new(7, 1),
        share_id: Some(id(8)),
        cause: Some(Cause::Certificate(Certificate::Expired)),
        recovery: Some(Recovery::SameRequestId {
            after: Duration::from_millis(1500),
        }),
    }
}

/// A value of every kind, including the minimum and maximum values.
fn values() -> BTreeMap<String, Value> {
    let set = FieldSet {
        value: "v".to_owned(),
        fields: [("mx_CustomObject_1", "x"), ("Status", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    [
        ("Text", Value::Text("Größe \"L\"\n".to_owned())),
        ("Number", Value::Number(0.1)),
        ("Number_large", Value::Number(1e21)),
        ("Number_small", Value::Number(5e-324)),
        ("Number_zero", Value::Number(-0.0)),
        ("Integer", Value::Integer(i64::MIN)),
        ("Flag", Value::Flag(true)),
        ("Time", Value::Time(at(1))),
        ("Time_first", Value::Time(Timestamp::MIN)),
        ("Time_last", Value::Time(Timestamp::MAX)),
        ("FieldSet", Value::FieldSet(set)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Every kind of shared entity: a lead through a new activity before and after the post, a lead through an existing activity, and
/// an opportunity.
fn entities(number: u128) -> [SharedEntity; 4] {
    let lead = |context| SharedEntity::Lead {
        id: format!("Lead-{number}"),
        number: format!("{}", 1000 + number),
        context,
    };
    [
        lead(ShareContext::New {
            id: None,
            code: 201,
            note: "shared for the visit".to_owned(),
            fields: values(),
        }),
        lead(ShareContext::New {
            id: Some(format!("activity-{number}")),
            code: -1,
            note: String::new(),
            fields: BTreeMap::new(),
        }),
        lead(ShareContext::Existing {
            id: format!("activity-{number}"),
        }),
        SharedEntity::Opportunity {
            id: format!("Opportunity-{number}"),
        },
    ]
}

/// The stages in the order of the golden rows.
const STAGES: [ShareStage; 15] = [
    ShareStage::Created,
    ShareStage::PostingActivity,
    ShareStage::VerifyingActivity,
    ShareStage::ShareQueued,
    ShareStage::RequestingShare,
    ShareStage::ShareInProgress,
    ShareStage::EndingPredecessor,
    ShareStage::Active,
    ShareStage::RevokeQueued,
    ShareStage::RequestingRevoke,
    ShareStage::RevokeInProgress,
    ShareStage::Uncertain,
    ShareStage::Expired,
    ShareStage::Failed,
    ShareStage::Revoked,
];

/// A share in every stage, with alternating entities. Shares at an even index have a value in every field, shares at an odd index
/// only in the required fields.
pub(in crate::store) fn shares() -> Vec<Share> {
    let steps = [ShareStep::PostActivity, ShareStep::Share, ShareStep::Revoke];
    let share = |(index, stage): (usize, ShareStage)| {
        let number = index as u128;
        let entity = entities(number)[index / 2 % 4].clone();
        let access = if index % 4 < 2 { Access::Read } else { Access::Write };
        let user = format!("User-{}", index % 3);
        let minutes = 30 + u32::try_from(index).unwrap();
        let minimal = Share {
            stage,
            ..Share::new(id(100 + number), entity, user, access, minutes, at(0))
        };
        if index % 2 == 1 {
            return minimal;
        }
        Share {
            caller: "crm".to_owned(),
            criticality: "critical-plus".to_owned(),
            revoke_requested: index % 4 == 0,
            possibly_granted_before: true,
            share_again: true,
            posted_again: true,
            attempts: 4,
            upstream_request_id: text("request-7"),
            request_id: Some(id(200 + number)),
            extends: Some(id(300 + number)),
            additional: true,
            changed: at(1),
            last_requested: Some(at(2)),
            granted: Some(at(3)),
            expires: Some(at(1800)),
            failure: Some(Error {
                kind: ErrorKind::Unavailable { sent: true },
                details: Box::new(details()),
            }),
            step: Some(steps[index / 2 % 3]),
            ..minimal
        }
    };
    STAGES.into_iter().enumerate().map(share).collect()
}

/// The results of writes to leads, executed and rejected.
pub(in crate::store) fn lead_results() -> Vec<Result<WriteResult, Error>> {
    let written = |created| WriteResult {
        lead_id: "lead-7".to_owned(),
        affected_rows: 1,
        created,
    };
    let rejected = Error {
        kind: ErrorKind::Duplicate {
            attribute: text("EmailAddress"),
            lead_id: text("lead-7"),
        },
        details: Box::new(details()),
    };
    vec![
        Ok(written(Some(true))),
        Ok(written(Some(false))),
        Ok(written(None)),
        Err(rejected),
        Err(Error::invalid("lead.first_name", "is too long")),
    ]
}

/// The results of posts of activities.
pub(in crate::store) fn activity_results() -> Vec<Result<String, Error>> {
    vec![
        Ok("activity-7".to_owned()),
        Err(ErrorKind::NotFound(Resource::Activity).into()),
    ]
}

/// The results of shares.
pub(in crate::store) fn share_results() -> Vec<Result<Uuid, Error>> {
    vec![Ok(id(7)), Err(ErrorKind::NotFound(Resource::User).into())]
}

/// The slots that are held at a graceful shutdown.
pub(in crate::store) fn held_slots() -> Vec<HeldSlots> {
    let held = |window, free_at: &[Timestamp]| HeldSlotsOfLimit {
        window,
        free_at: free_at.to_vec(),
    };
    vec![
        HeldSlots {
            calls: held(Duration::from_secs(5), &[at(1), at(2), Timestamp::MAX]),
            bulk: held(Duration::new(60, 1), &[]),
        },
        HeldSlots {
            calls: held(Duration::ZERO, &[]),
            bulk: held(Duration::from_millis(1500), &[Timestamp::MIN]),
        },
    ]
}
