//! Shares: access to a lead or an opportunity that a user has for some time. What is remembered of each, and nothing of how
//! it is made.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::value::Value;
use crate::error::Error;

/// A share, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// leadgate's own id of it; ids of later shares are greater.
    pub id: Uuid,
    /// What is shared.
    pub what: SharedEntity,
    /// Whom it is shared with.
    pub user_id: String,
    /// Who has asked for it, and in which class: its calls wait in his name.
    pub caller: String,
    /// The class.
    pub criticality: String,
    /// What the user may do.
    pub access: Access,
    /// For how long, in minutes.
    pub minutes: u32,
    /// Where it is on its way.
    pub stage: ShareStage,
    /// It is to be revoked as soon as it is known whether it was granted.
    pub revoke_wanted: bool,
    /// What is being asked for was asked for before, with an outcome that is not known.
    pub doubted: bool,
    /// It is being revoked because it may have been granted, and LeadSquared is asked to share again once it is revoked.
    pub share_again: bool,
    /// The activity was posted a second time, since the first was not found.
    pub posted_again: bool,
    /// How many requests were sent for it, or were about to be when the process ended; not those that ask how it stands.
    pub sends: u32,
    /// LeadSquared's id of the request that is, or was last, under way.
    pub upstream_request_id: Option<String>,
    /// The request id that it was asked for with.
    pub request_id: Option<Uuid>,
    /// The share that this one takes over from.
    pub extends: Option<Uuid>,
    /// Whether it was asked for in addition to others of the same user and lead.
    pub additional: bool,
    /// When it was written down.
    pub created: Timestamp,
    /// When it last changed.
    pub changed: Timestamp,
    /// When LeadSquared was last asked to share or revoke it, or somebody last wanted to know what became of that.
    pub asked: Option<Timestamp>,
    /// When it was seen granted.
    pub granted: Option<Timestamp>,
    /// When it ends by itself; while that is not known, when it would have ended at the latest.
    pub expires: Option<Timestamp>,
    /// Why it came to nothing, or why the last revoke did.
    pub failure: Option<Error>,
    /// The step that failed, or whose outcome is not known.
    pub step: Option<ShareStep>,
}

/// What is shared.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedEntity {
    /// A lead.
    Lead {
        /// Its id.
        id: String,
        /// Its number.
        number: String,
        /// The activity that LeadSquared wants as context.
        context: ShareContext,
    },
    /// An opportunity.
    Opportunity {
        /// Its id.
        id: String,
    },
}

/// The activity that a lead is shared through.
#[derive(Clone, Debug, PartialEq)]
pub enum ShareContext {
    /// That one.
    Given {
        /// Its id.
        id: String,
    },
    /// One that is posted for it.
    New {
        /// Its id, once it is posted.
        id: Option<String>,
        /// The code of its type.
        code: i32,
        /// The caller's note.
        note: String,
        /// The fields by schema name.
        fields: BTreeMap<String, Value>,
    },
}

/// What the user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// Where a share is on its way. "About to" means that it may have been done already: that is written down first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShareStage {
    /// Its activity is to be posted.
    Created,
    /// Its activity is about to be posted.
    PostingActivity,
    /// Whether its activity was posted is to be looked up.
    VerifyingActivity,
    /// All is there; LeadSquared is to be asked.
    ShareQueued,
    /// LeadSquared is about to be asked.
    RequestingShare,
    /// LeadSquared works on it.
    ShareInProgress,
    /// The user has access, and the share that it takes over from is to be ended.
    EndingPredecessor,
    /// The user has access.
    Active,
    /// LeadSquared is to be asked to revoke it.
    RevokeQueued,
    /// LeadSquared is about to be asked to revoke it.
    RequestingRevoke,
    /// LeadSquared works on revoking it.
    RevokeInProgress,
    /// Whether a step was done is not known.
    Uncertain,
    /// Its time is over.
    Expired,
    /// It came to nothing.
    Failed,
    /// Access was taken back.
    Revoked,
}

/// The steps whose outcome may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareStep {
    /// Posting the activity.
    PostActivity,
    /// Asking to share.
    Share,
    /// Asking to revoke.
    Revoke,
}

/// A share's way as callers are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ShareState {
    /// It is being prepared.
    Pending = 1,
    /// LeadSquared is being asked.
    Submitted = 2,
    /// LeadSquared works on it.
    Processing = 3,
    /// The user has access.
    Active = 4,
    /// Its time is over.
    Expired = 5,
    /// It came to nothing.
    Failed = 6,
    /// It is being revoked.
    Revoking = 7,
    /// Access was taken back.
    Revoked = 8,
    /// Whether a step was done is not known.
    Uncertain = 9,
}

/// A change of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareChange {
    /// What it became.
    pub state: ShareState,
    /// When.
    pub at: Timestamp,
    /// Why, where something went wrong: the error's name.
    pub failure: String,
}

/// Which shares to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareFilter {
    /// Only those of that lead or opportunity.
    pub entity_id: Option<String>,
    /// Only those of leads, or only those of opportunities.
    pub of_leads: Option<bool>,
    /// Only those of that user.
    pub user_id: Option<String>,
    /// Only those in these states; empty: in every state.
    pub states: Vec<ShareState>,
    /// Only those that end before then.
    pub expire_before: Option<Timestamp>,
    /// Only those older than that one.
    pub before: Option<Uuid>,
    /// The most to return.
    pub most: usize,
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

    /// Whether there is something to be done for it without anybody asking.
    pub fn is_unsettled(self) -> bool {
        !matches!(
            self,
            Self::Active | Self::Uncertain | Self::Expired | Self::Failed | Self::Revoked
        )
    }

    /// Whether the user may have access, or is to get it.
    pub fn is_live(self) -> bool {
        !self.is_over()
    }

    /// Whether nothing can become of it any more, but by asking for it again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Expired | Self::Failed | Self::Revoked)
    }
}

impl ShareState {
    /// Every state in which the user may have access, or is to get it.
    pub const LIVE: [Self; 6] = [
        Self::Pending,
        Self::Submitted,
        Self::Processing,
        Self::Active,
        Self::Revoking,
        Self::Uncertain,
    ];

    /// The state of that number.
    pub fn from_number(number: i64) -> Option<Self> {
        let all = [
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
        all.into_iter().find(|state| *state as i64 == number)
    }
}

impl Share {
    /// A share of which nothing is done yet.
    pub fn new(id: Uuid, what: SharedEntity, user_id: String, access: Access, minutes: u32, now: Timestamp) -> Self {
        let is_posted = !matches!(
            what,
            SharedEntity::Lead {
                context: ShareContext::New { .. },
                ..
            }
        );
        Self {
            id,
            what,
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
            revoke_wanted: false,
            doubted: false,
            share_again: false,
            posted_again: false,
            sends: 0,
            upstream_request_id: None,
            request_id: None,
            extends: None,
            additional: false,
            created: now,
            changed: now,
            asked: None,
            granted: None,
            expires: None,
            failure: None,
            step: None,
        }
    }

    /// Its way as callers are told it.
    pub fn state(&self) -> ShareState {
        match self.stage {
            ShareStage::Expired => ShareState::Expired,
            ShareStage::Failed => ShareState::Failed,
            ShareStage::Revoked => ShareState::Revoked,
            ShareStage::Uncertain => ShareState::Uncertain,
            _ if self.revoke_wanted => ShareState::Revoking,
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

    /// The activity that it goes through, once there is one.
    pub fn activity_id(&self) -> Option<&str> {
        match &self.what {
            SharedEntity::Lead {
                context: ShareContext::Given { id },
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
        match &self.what {
            SharedEntity::Lead { id, .. } | SharedEntity::Opportunity { id } => id,
        }
    }

    /// The number of the lead.
    pub fn lead_number(&self) -> Option<&str> {
        match &self.what {
            SharedEntity::Lead { number, .. } => Some(number),
            SharedEntity::Opportunity { .. } => None,
        }
    }

    /// Whether it is a lead that is shared.
    pub fn is_of_lead(&self) -> bool {
        matches!(self.what, SharedEntity::Lead { .. })
    }

    /// How long it lasts.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.minutes) * 60)
    }

    /// Whether both give the same user access to the same thing.
    pub fn is_same_pair(&self, other: &Self) -> bool {
        self.user_id.eq_ignore_ascii_case(&other.user_id)
            && self.is_of_lead() == other.is_of_lead()
            && self.entity_id().eq_ignore_ascii_case(other.entity_id())
    }

    /// Whether the other may not be made beside this one: the user has access already and nobody asked for more, or
    /// LeadSquared could not tell the two apart, so that to revoke one would revoke both.
    pub fn is_in_the_way_of(&self, other: &Self) -> bool {
        let is_same_grant = match self.activity_id() {
            // An activity that is yet to be posted is another one.
            None => !self.is_of_lead(),
            Some(id) => other.activity_id().is_some_and(|other| other.eq_ignore_ascii_case(id)),
        };
        let is_same_successor = self.extends.is_some() && self.extends == other.extends;
        self.stage.is_live()
            && self.is_same_pair(other)
            && self.id != other.id
            && other.extends != Some(self.id)
            && (!other.additional || is_same_grant || is_same_successor)
    }
}
