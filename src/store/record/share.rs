//! The stored form of a share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::Error;
use super::value::Value;
use super::{Version1, names};
use crate::domain::share as domain;

/// A share. The fields with a default are missing in the oldest documents.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Share {
    #[serde(default, skip_serializing)]
    version: Version1,
    id: Uuid,
    #[serde(rename = "what")]
    subject: Subject,
    user_id: String,
    #[serde(default)]
    caller: String,
    #[serde(default)]
    criticality: String,
    access: Access,
    minutes: u32,
    stage: Stage,
    revoke_wanted: bool,
    #[serde(rename = "doubted")]
    possibly_granted_before: bool,
    #[serde(default)]
    share_again: bool,
    posted_again: bool,
    #[serde(default)]
    sends: u32,
    upstream_request_id: Option<String>,
    request_id: Option<Uuid>,
    extends: Option<Uuid>,
    additional: bool,
    created: Timestamp,
    changed: Timestamp,
    #[serde(rename = "asked")]
    last_requested: Option<Timestamp>,
    granted: Option<Timestamp>,
    expires: Option<Timestamp>,
    failure: Option<Error>,
    step: Option<Step>,
}

/// What is shared.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum Subject {
    Lead {
        id: String,
        number: String,
        context: Context,
    },
    Opportunity {
        id: String,
    },
}

/// The activity that a lead is shared through.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum Context {
    #[serde(rename = "Given")]
    Existing { id: String },
    New {
        id: Option<String>,
        code: i32,
        note: String,
        fields: BTreeMap<String, Value>,
    },
}

names! {
    /// What the user may do.
    Access of domain::Access {
        "Read" = Read,
        "Write" = Write,
    }
}

names! {
    /// The stage of a share.
    Stage of domain::Stage {
        "Written" = Written,
        "Posting" = Posting,
        "Looking" = Looking,
        "Ready" = Ready,
        "Asking" = Asking,
        "Granting" = Granting,
        "Succeeding" = Succeeding,
        "Active" = Active,
        "Leaving" = Leaving,
        "Revoking" = Revoking,
        "Withdrawing" = Withdrawing,
        "Uncertain" = Uncertain,
        "Expired" = Expired,
        "Failed" = Failed,
        "Revoked" = Revoked,
    }
}

names! {
    /// A step whose outcome may be unknown.
    Step of domain::Step {
        "PostActivity" = PostActivity,
        "Share" = Share,
        "Revoke" = Revoke,
    }
}

impl From<domain::Share> for Share {
    fn from(share: domain::Share) -> Self {
        let domain::Share {
            id,
            what,
            user_id,
            caller,
            criticality,
            access,
            minutes,
            stage,
            revoke_wanted,
            doubted,
            share_again,
            posted_again,
            sends,
            upstream_request_id,
            request_id,
            extends,
            additional,
            created,
            changed,
            asked,
            granted,
            expires,
            failure,
            step,
        } = share;
        Self {
            version: Version1,
            id,
            subject: what.into(),
            user_id,
            caller,
            criticality,
            access: access.into(),
            minutes,
            stage: stage.into(),
            revoke_wanted,
            possibly_granted_before: doubted,
            share_again,
            posted_again,
            sends,
            upstream_request_id,
            request_id,
            extends,
            additional,
            created,
            changed,
            last_requested: asked,
            granted,
            expires,
            failure: failure.map(Error::from),
            step: step.map(Step::from),
        }
    }
}

impl From<Share> for domain::Share {
    fn from(record: Share) -> Self {
        let Share {
            version: Version1,
            id,
            subject,
            user_id,
            caller,
            criticality,
            access,
            minutes,
            stage,
            revoke_wanted,
            possibly_granted_before,
            share_again,
            posted_again,
            sends,
            upstream_request_id,
            request_id,
            extends,
            additional,
            created,
            changed,
            last_requested,
            granted,
            expires,
            failure,
            step,
        } = record;
        Self {
            id,
            what: subject.into(),
            user_id,
            caller,
            criticality,
            access: access.into(),
            minutes,
            stage: stage.into(),
            revoke_wanted,
            doubted: possibly_granted_before,
            share_again,
            posted_again,
            sends,
            upstream_request_id,
            request_id,
            extends,
            additional,
            created,
            changed,
            asked: last_requested,
            granted,
            expires,
            failure: failure.map(crate::error::Error::from),
            step: step.map(domain::Step::from),
        }
    }
}

impl From<domain::What> for Subject {
    fn from(what: domain::What) -> Self {
        match what {
            domain::What::Lead { id, number, context } => Self::Lead {
                id,
                number,
                context: context.into(),
            },
            domain::What::Opportunity { id } => Self::Opportunity { id },
        }
    }
}

impl From<Subject> for domain::What {
    fn from(record: Subject) -> Self {
        match record {
            Subject::Lead { id, number, context } => Self::Lead {
                id,
                number,
                context: context.into(),
            },
            Subject::Opportunity { id } => Self::Opportunity { id },
        }
    }
}

impl From<domain::Context> for Context {
    fn from(context: domain::Context) -> Self {
        match context {
            domain::Context::Given { id } => Self::Existing { id },
            domain::Context::New { id, code, note, fields } => Self::New {
                id,
                code,
                note,
                fields: converted(fields),
            },
        }
    }
}

impl From<Context> for domain::Context {
    fn from(record: Context) -> Self {
        match record {
            Context::Existing { id } => Self::Given { id },
            Context::New { id, code, note, fields } => Self::New {
                id,
                code,
                note,
                fields: converted(fields),
            },
        }
    }
}

fn converted<A, B: From<A>>(fields: BTreeMap<String, A>) -> BTreeMap<String, B> {
    fields.into_iter().map(|(name, value)| (name, value.into())).collect()
}
