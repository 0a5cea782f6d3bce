//! Shares: access to a lead or an opportunity that a user has for a limited time. Contains the data of a share. How a share is
//! made is in `sharing`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::activity::NOTE;
use super::value::Value;
use crate::error::Error;

/// A share, as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The id of the share in leadgate. Later shares have greater ids.
    pub id: Uuid,
    /// The lead or opportunity that is shared.
    pub entity: SharedEntity,
    /// The id of the user that gets access.
    pub user_id: String,
    /// The caller that requested the share. The upstream calls for the share count as calls of this caller.
    pub caller: String,
    /// The name of the criticality of the request. The upstream calls for the share have this criticality.
    pub criticality: String,
    /// The access that the user gets.
    pub access: Access,
    /// The duration of the access, in minutes.
    pub minutes: u32,
    /// The current stage.
    pub stage: ShareStage,
    /// Whether a revoke was requested that can start only when the outcome of the current step is known.
    pub revoke_requested: bool,
    /// Whether an earlier request with the same effect was sent, with an unknown outcome.
    pub possibly_granted_before: bool,
    /// Whether the share is being revoked only because it may have been granted. After the revoke it is requested again.
    pub share_again: bool,
    /// Whether the activity was posted a second time because the first one was not found.
    pub posted_again: bool,
    /// Number of upstream requests for the share, status polls excluded. Includes a request that the process may not have sent
    /// before it ended.
    pub attempts: u32,
    /// LeadSquared's id of the last share or revoke request that it accepted.
    pub upstream_request_id: Option<String>,
    /// The request id of the RPC that created the share.
    pub request_id: Option<Uuid>,
    /// The id of the share that this share extends. That share is ended when this share is granted.
    pub extends: Option<Uuid>,
    /// Whether the share may exist beside other shares of the same lead with the same user.
    pub additional: bool,
    /// When the share was created.
    pub created: Timestamp,
    /// When the share last changed.
    pub changed: Timestamp,
    /// When a share or revoke request was last started, or RetryShare was last called.
    pub last_requested: Option<Timestamp>,
    /// When LeadSquared reported that the share is granted.
    pub granted: Option<Timestamp>,
    /// When the access ends. Before the share is granted: the latest time at which the access could end.
    pub expires: Option<Timestamp>,
    /// Why the share failed, or why the last revoke failed.
    pub failure: Option<Error>,
    /// The step that failed or whose outcome is unknown.
    pub step: Option<ShareStep>,
}

/// The lead or opportunity that is shared.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedEntity {
    /// A lead.
    Lead {
        /// The id of the lead.
        id: String,
        /// The number of the lead (`ProspectAutoId`).
        number: String,
        /// The activity that LeadSquared requires as context.
        context: ShareContext,
    },
    /// An opportunity.
    Opportunity {
        /// The id of the opportunity.
        id: String,
    },
}

/// The activity that a lead is shared through.
#[derive(Clone, Debug, PartialEq)]
pub enum ShareContext {
    /// An activity that exists.
    Existing {
        /// The id of the activity.
        id: String,
    },
    /// An activity that is posted for the share.
    New {
        /// The id of the activity; `None` until it is posted.
        id: Option<String>,
        /// The code of the activity type.
        code: i32,
        /// The note of the caller.
        note: String,
        /// The fields of the activity by schema name.
        fields: BTreeMap<String, Value>,
    },
}

impl ShareContext {
    /// Returns the schema names of the fields that a new activity has.
    pub fn field_names(&self) -> Vec<String> {
        match self {
            Self::Existing { .. } => vec![],
            Self::New { note, fields, .. } => {
                let note = (!note.is_empty()).then(|| NOTE.to_owned());
                fields.keys().cloned().chain(note).collect()
            }
        }
    }
}

/// The access that a share gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// The stage of a share. `PostingActivity`, `RequestingShare` and `RequestingRevoke` are stored before the request is sent, so
/// the request may or may not have been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShareStage {
    /// The next step is to post the activity.
    Created,
    /// The activity is being posted.
    PostingActivity,
    /// The outcome of the post is unknown. The next step is to look the activity up.
    VerifyingActivity,
    /// The next step is to send the share request.
    ShareQueued,
    /// The share request is being sent.
    RequestingShare,
    /// LeadSquared accepted the share request and processes it.
    ShareInProgress,
    /// The user has access. The next step is to end the share that this share extends.
    EndingPredecessor,
    /// The user has access.
    Active,
    /// The next step is to send the revoke request.
    RevokeQueued,
    /// The revoke request is being sent.
    RequestingRevoke,
    /// LeadSquared accepted the revoke request and processes it.
    RevokeInProgress,
    /// The outcome of a step is unknown.
    Uncertain,
    /// The duration of the share is over, or another share replaced it.
    Expired,
    /// The share was not granted.
    Failed,
    /// The access was revoked.
    Revoked,
}

/// The steps whose outcome may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareStep {
    /// Posting the activity.
    PostActivity,
    /// Sending the share request.
    Share,
    /// Sending the revoke request.
    Revoke,
}

/// The state of a share in the public contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ShareState {
    /// The share is being prepared.
    Pending = 1,
    /// The share request is being sent.
    Submitted = 2,
    /// LeadSquared accepted the share request and processes it.
    Processing = 3,
    /// The user has access.
    Active = 4,
    /// The duration of the share is over.
    Expired = 5,
    /// The share was not granted.
    Failed = 6,
    /// The share is being revoked.
    Revoking = 7,
    /// The access was revoked.
    Revoked = 8,
    /// The outcome of a step is unknown.
    Uncertain = 9,
}

/// A change of the state or of the failure of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareChange {
    /// The new state.
    pub state: ShareState,
    /// When the share changed.
    pub at: Timestamp,
    /// The name of the error if the share or a revoke failed; empty otherwise.
    pub failure: String,
}

/// Selects shares for a list. A field that is unset matches all shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareFilter {
    /// Only shares of this lead or opportunity.
    pub entity_id: Option<String>,
    /// `true`: only shares of leads; `false`: only shares of opportunities.
    pub of_leads: Option<bool>,
    /// Only shares with this user.
    pub user_id: Option<String>,
    /// Only shares in these states. Empty: shares in every state.
    pub states: Vec<ShareState>,
    /// Only shares whose access ends before this time.
    pub expire_before: Option<Timestamp>,
    /// Only shares that are older than this share.
    pub older_than: Option<Uuid>,
    /// Maximum number of shares to return.
    pub limit: usize,
}

impl ShareStage {
    /// Every stage.
    pub const ALL: [Self; 15] = [
        Self::Created,
        Self::PostingActivity,
        Self::VerifyingActivity,
        Self::ShareQueued,
        Self::RequestingShare,
        Self::ShareInProgress,
        Self::EndingPredecessor,
        Self::Active,
        Self::RevokeQueued,
        Self::RequestingRevoke,
        Self::RevokeInProgress,
        Self::Uncertain,
        Self::Expired,
        Self::Failed,
        Self::Revoked,
    ];

    /// Whether the gateway has work to do for the share without a further request.
    pub fn is_in_progress(self) -> bool {
        !matches!(
            self,
            Self::Active | Self::Uncertain | Self::Expired | Self::Failed | Self::Revoked
        )
    }

    /// Whether the user has access, may have access, or will get it.
    pub fn is_live(self) -> bool {
        !self.has_ended()
    }

    /// Whether the share has ended. Only RetryShare can change a failed share.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Expired | Self::Failed | Self::Revoked)
    }
}

impl ShareState {
    /// The states in which the user has access, may have access, or will get it.
    pub const LIVE: [Self; 6] = [
        Self::Pending,
        Self::Submitted,
        Self::Processing,
        Self::Active,
        Self::Revoking,
        Self::Uncertain,
    ];

    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Submitted,
        Self::Processing,
        Self::Active,
        Self::Expired,
        Self::Failed,
        Self::Revoking,
        Self::Revoked,
        Self::Uncertain,
    ];

    /// Returns the state with this number.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i64 == number)
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Submitted => "submitted",
            Self::Processing => "processing",
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
            Self::Uncertain => "uncertain",
        }
    }
}

impl Share {
    /// A new share. No step is done.
    pub fn new(id: Uuid, entity: SharedEntity, user_id: String, access: Access, minutes: u32, now: Timestamp) -> Self {
        let is_posted = !matches!(
            entity,
            SharedEntity::Lead {
                context: ShareContext::New { .. },
                ..
            }
        );
        Self {
            id,
            entity,
            user_id,
            caller: String::new(),
            criticality: String::new(),
            access,
            minutes,
            stage: if is_posted {
                ShareStage::ShareQueued
            } else {
                ShareStage::Created
            },
            revoke_requested: false,
            possibly_granted_before: false,
            share_again: false,
            posted_again: false,
            attempts: 0,
            upstream_request_id: None,
            request_id: None,
            extends: None,
            additional: false,
            created: now,
            changed: now,
            last_requested: None,
            granted: None,
            expires: None,
            failure: None,
            step: None,
        }
    }

    /// The state of the share in the public contract.
    pub fn state(&self) -> ShareState {
        match self.stage {
            ShareStage::Expired => ShareState::Expired,
            ShareStage::Failed => ShareState::Failed,
            ShareStage::Revoked => ShareState::Revoked,
            ShareStage::Uncertain => ShareState::Uncertain,
            _ if self.revoke_requested => ShareState::Revoking,
            _ if self.share_again => ShareState::Pending,
            ShareStage::Created | ShareStage::PostingActivity | ShareStage::VerifyingActivity => ShareState::Pending,
            ShareStage::ShareQueued | ShareStage::RequestingShare => ShareState::Submitted,
            ShareStage::ShareInProgress => ShareState::Processing,
            ShareStage::EndingPredecessor | ShareStage::Active => ShareState::Active,
            ShareStage::RevokeQueued | ShareStage::RequestingRevoke | ShareStage::RevokeInProgress => {
                ShareState::Revoking
            }
        }
    }

    /// The id of the activity that the lead is shared through; `None` until it is posted.
    pub fn activity_id(&self) -> Option<&str> {
        match &self.entity {
            SharedEntity::Lead {
                context: ShareContext::Existing { id },
                ..
            } => Some(id),
            SharedEntity::Lead {
                context: ShareContext::New { id, .. },
                ..
            } => id.as_deref(),
            SharedEntity::Opportunity { .. } => None,
        }
    }

    /// The id of the lead or of the opportunity.
    pub fn entity_id(&self) -> &str {
        match &self.entity {
            SharedEntity::Lead { id, .. } | SharedEntity::Opportunity { id } => id,
        }
    }

    /// The id of the lead; `None` for an opportunity.
    pub fn lead_id(&self) -> Option<&str> {
        self.is_of_lead().then(|| self.entity_id())
    }

    /// The number of the lead; `None` for an opportunity.
    pub fn lead_number(&self) -> Option<&str> {
        match &self.entity {
            SharedEntity::Lead { number, .. } => Some(number),
            SharedEntity::Opportunity { .. } => None,
        }
    }

    /// Whether a lead is shared.
    pub fn is_of_lead(&self) -> bool {
        matches!(self.entity, SharedEntity::Lead { .. })
    }

    /// The duration of the access.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.minutes) * 60)
    }

    /// Whether both shares give the same user access to the same lead or opportunity.
    pub fn has_same_user_and_entity(&self, other: &Self) -> bool {
        self.user_id.eq_ignore_ascii_case(&other.user_id)
            && self.is_of_lead() == other.is_of_lead()
            && self.entity_id().eq_ignore_ascii_case(other.entity_id())
    }

    /// Whether the other share must not be created while this share exists: the user already has access and no additional
    /// share was requested, or LeadSquared could not distinguish the two. Then a revoke of one would revoke both.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let is_same_grant = match self.activity_id() {
            // An activity that is not posted yet is a different activity.
            None => !self.is_of_lead(),
            Some(id) => other.activity_id().is_some_and(|other| other.eq_ignore_ascii_case(id)),
        };
        let is_same_successor = self.extends.is_some() && self.extends == other.extends;
        self.stage.is_live()
            && self.has_same_user_and_entity(other)
            && self.id != other.id
            && other.extends != Some(self.id)
            && (!other.additional || is_same_grant || is_same_successor)
    }
}
