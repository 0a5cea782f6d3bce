//! The stored form of a share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ErrorRecord;
use super::value::ValueRecord;
use super::{Version1, names};
use crate::domain::share as domain;

/// A share. Fields with a default are missing in the oldest documents.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct ShareRecord {
    #[serde(default, skip_serializing)]
    version: Version1,
    id: Uuid,
    #[serde(rename = "what")]
    entity: SharedEntityRecord,
    user_id: String,
    #[serde(default)]
    caller: String,
    #[serde(default)]
    criticality: String,
    access: AccessRecord,
    minutes: u32,
    stage: ShareStageRecord,
    #[serde(rename = "revoke_wanted")]
    revoke_requested: bool,
    #[serde(rename = "doubted")]
    possibly_granted_before: bool,
    #[serde(default)]
    share_again: bool,
    posted_again: bool,
    #[serde(default, rename = "sends")]
    attempts: u32,
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
    failure: Option<ErrorRecord>,
    step: Option<ShareStepRecord>,
}

/// The lead or opportunity that is shared.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum SharedEntityRecord {
    Lead {
        id: String,
        number: String,
        context: ShareContextRecord,
    },
    Opportunity {
        id: String,
    },
}

/// The activity that a lead is shared through.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum ShareContextRecord {
    #[serde(rename = "Given")]
    Existing { id: String },
    New {
        id: Option<String>,
        code: i32,
        note: String,
        fields: BTreeMap<String, ValueRecord>,
    },
}

names! {
    /// The access of the user.
    AccessRecord of domain::Access {
        "Read" = Read,
        "Write" = Write,
    }
}

names! {
    /// The stage of a share.
    ShareStageRecord of domain::ShareStage {
        "Written" = Created,
        "Posting" = PostingActivity,
        "Looking" = VerifyingActivity,
        "Ready" = ShareQueued,
        "Asking" = RequestingShare,
        "Granting" = ShareInProgress,
        "Succeeding" = EndingPredecessor,
        "Active" = Active,
        "Leaving" = RevokeQueued,
        "Revoking" = RequestingRevoke,
        "Withdrawing" = RevokeInProgress,
        "Uncertain" = Uncertain,
        "Expired" = Expired,
        "Failed" = Failed,
        "Revoked" = Revoked,
    }
}

names! {
    /// A step whose outcome may be unknown.
    ShareStepRecord of domain::ShareStep {
        "PostActivity" = PostActivity,
        "Share" = Share,
        "Revoke" = Revoke,
    }
}

impl From<domain::Share> for ShareRecord {
    fn from(share: domain::Share) -> Self {
        let domain::Share {
            id,
            entity,
            user_id,
            caller,
            criticality,
            access,
            minutes,
            stage,
            revoke_requested,
            possibly_granted_before,
            share_again,
            posted_again,
            attempts,
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
        } = share;
        Self {
            version: Version1,
            id,
            entity: entity.into(),
            user_id,
            caller,
            criticality,
            access: access.into(),
            minutes,
            stage: stage.into(),
            revoke_requested,
            possibly_granted_before,
            share_again,
            posted_again,
            attempts,
            upstream_request_id,
            request_id,
            extends,
            additional,
            created,
            changed,
            last_requested,
            granted,
            expires,
            failure: failure.map(ErrorRecord::from),
            step: step.map(ShareStepRecord::from),
        }
    }
}

impl From<ShareRecord> for domain::Share {
    fn from(record: ShareRecord) -> Self {
        let ShareRecord {
            version: Version1,
            id,
            entity,
            user_id,
            caller,
            criticality,
            access,
            minutes,
            stage,
            revoke_requested,
            possibly_granted_before,
            share_again,
            posted_again,
            attempts,
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
            entity: entity.into(),
            user_id,
            caller,
            criticality,
            access: access.into(),
            minutes,
            stage: stage.into(),
            revoke_requested,
            possibly_granted_before,
            share_again,
            posted_again,
            attempts,
            upstream_request_id,
            request_id,
            extends,
            additional,
            created,
            changed,
            last_requested,
            granted,
            expires,
            failure: failure.map(crate::error::Error::from),
            step: step.map(domain::ShareStep::from),
        }
    }
}

impl From<domain::SharedEntity> for SharedEntityRecord {
    fn from(entity: domain::SharedEntity) -> Self {
        match entity {
            domain::SharedEntity::Lead { id, number, context } => Self::Lead {
                id,
                number,
                context: context.into(),
            },
            domain::SharedEntity::Opportunity { id } => Self::Opportunity { id },
        }
    }
}

impl From<SharedEntityRecord> for domain::SharedEntity {
    fn from(record: SharedEntityRecord) -> Self {
        match record {
            SharedEntityRecord::Lead { id, number, context } => Self::Lead {
                id,
                number,
                context: context.into(),
            },
            SharedEntityRecord::Opportunity { id } => Self::Opportunity { id },
        }
    }
}

impl From<domain::ShareContext> for ShareContextRecord {
    fn from(context: domain::ShareContext) -> Self {
        match context {
            domain::ShareContext::Existing { id } => Self::Existing { id },
            domain::ShareContext::New { id, code, note, fields } => Self::New {
                id,
                code,
                note,
                fields: converted(fields),
            },
        }
    }
}

impl From<ShareContextRecord> for domain::ShareContext {
    fn from(record: ShareContextRecord) -> Self {
        match record {
            ShareContextRecord::Existing { id } => Self::Existing { id },
            ShareContextRecord::New { id, code, note, fields } => Self::New {
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
