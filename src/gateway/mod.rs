//! The life of a request: one short function per operation. Knows neither protobuf nor HTTP.

mod activity;
mod cursor;
mod duplicate;
mod entry;
mod lead;
mod lookup;
mod modified;
mod reads;
mod reconcile;
mod removal;
mod search;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cached::Cached;
pub use crate::context::Criticality;
use crate::context::RequestContext;
use crate::crm;
use crate::crm::activity::GetTypes;
pub use crate::crm::activity::{Offset, RetrieveModified as Modified};
use crate::crm::authentication::{KeyOwner, UserByAccessKey};
use crate::crm::lead::ClearWith;
use crate::crm::lost::LostWrite;
use crate::crm::metadata::LeadsMetaData;
use crate::domain::activity::ActivityType;
use crate::domain::field::Catalog;
use crate::domain::lead::WriteResult;
use crate::domain::listed::Listed;
pub use crate::domain::phone::CountryCode;
use crate::domain::usage::QuotaUsage;
use crate::domain::user::{self, Roster, User};
use crate::error::{Error, ErrorKind, Recovery, Result, Violation};
use crate::quota::Quota;
use crate::quota::lane::{BatchSizes, Lane};
pub use crate::quota::{BreakerSnapshot, BreakerState, QuotaSnapshot, WindowSnapshot};
pub use crate::sharing;
use crate::sharing::Sharing;
use crate::store::{self, PriorAttempt, Requests, Store};
use crate::users::Users;
pub use entry::Entry;
use entry::KnownLeads;
pub use lead::{BatchGetResult, WriteMode};
pub use modified::{Export, ExportFrom, ListedPage, Listing, MAX as MAX_MODIFIED};
use reads::Reads;
pub use removal::Removal;
pub use search::Search;

/// What differs between accounts and is not documented, or is a matter of taste (`[tenants.NAME]`).
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// How long the metadata counts as fresh.
    pub metadata_lifetime: Duration,
    /// How long request ids are remembered.
    pub keep_request_ids: Duration,
    /// How writes behave.
    pub writes: WriteSettings,
    /// What the pages of a lead's activities are counted by.
    pub activity_offset: Offset,
    /// The country code of phone numbers that are given without one.
    pub default_country_code: CountryCode,
    /// How sharing behaves.
    pub sharing: sharing::SharingSettings,
    /// What may travel together.
    pub batching: Batching,
}

/// How writes behave (`[tenants.NAME.writes]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteSettings {
    /// How an attribute is cleared.
    pub clear_with: ClearWith,
    /// Whether an update may be refused as a duplicate of the very lead that it updates. It was seen once; then the
    /// attribute is looked up and, if it is the lead's own, left out.
    pub own_values_may_clash: bool,
    /// The attributes of which no two leads have the same value. A create that may have been executed is sent again only if
    /// it has one of them, so that LeadSquared itself refuses to do it twice.
    pub unique: Vec<String>,
    /// Whether a value that is none of the options of a closed dropdown is refused before anything is sent.
    pub check_options: bool,
    /// Whether the lead that a write clashes with is looked up, where LeadSquared does not name it.
    pub find_duplicates: bool,
}

/// What may travel together with others in one call (`[tenants.NAME.batching]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    /// Whether GetLead by id may.
    pub reads: bool,
    /// Whether UpdateLead may that runs no automations.
    pub updates: bool,
    /// Whether CreateLead may.
    pub creates: bool,
    /// Whether UpsertLead may that runs no automations.
    pub upserts: bool,
    /// Whether the activities that are posted for shares may.
    pub activities: bool,
    /// The most reads in one call.
    pub max_reads: usize,
    /// The most updates in one call.
    pub max_updates: usize,
    /// The most creates in one call.
    pub max_creates: usize,
    /// The most upserts in one call.
    pub max_upserts: usize,
    /// The most activities in one call.
    pub max_activities: usize,
    /// The most requests in one BatchCreateLeads, BatchUpdateLeads or BatchUpsertLeads.
    pub max_requests: usize,
    /// The most rows of one ImportLeads in work at one time.
    pub import_window: usize,
}

/// How many are in work at one time at most.
const MAX_IN_WORK: usize = 100_000;

impl Batching {
    /// What is wrong with it: the key, and what would be right.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let most = |lane: Lane| match lane {
            Lane::Reads => "max_reads",
            Lane::Updates => "max_updates",
            Lane::Upserts => "max_upserts",
            Lane::Creates => "max_creates",
            Lane::Activities => "max_activities",
        };
        let sizes = self.sizes();
        let lanes = Lane::ALL.map(|lane| (most(lane), sizes.0[lane as usize], lane.max_batch()));
        let others = [
            ("max_requests", self.max_requests, MAX_IN_WORK),
            ("import_window", self.import_window, MAX_IN_WORK),
        ];
        let wrong = lanes
            .into_iter()
            .chain(others)
            .filter(|(_, size, most)| !(1..=*most).contains(size));
        wrong
            .map(|(key, _, most)| (key, format!("must be 1 to {most}")))
            .collect()
    }

    /// How many of each lane travel in one call.
    pub fn sizes(&self) -> BatchSizes {
        BatchSizes(Lane::ALL.map(|lane| match lane {
            Lane::Reads => self.max_reads,
            Lane::Updates => self.max_updates,
            Lane::Upserts => self.max_upserts,
            Lane::Creates => self.max_creates,
            Lane::Activities => self.max_activities,
        }))
    }
}

/// The gateway to one account.
pub struct Gateway {
    crm: crm::Client,
    quota: Quota,
    metadata: Cached<LeadsMetaData, Catalog>,
    users: Users,
    activity_types: Cached<GetTypes, Listed<ActivityType>>,
    requests: Arc<Requests<WriteResult>>,
    posts: Arc<Requests<String>>,
    settings: WriteSettings,
    batching: Batching,
    reads: Reads,
    known_leads: KnownLeads,
    activity_offset: Offset,
    country_code: CountryCode,
    sharing: Sharing,
}

impl Gateway {
    /// A gateway to the account of that client. After `stop` it begins nothing that nobody waits for.
    pub fn new(
        name: &str,
        crm: crm::Client,
        quota: Quota,
        store: &Store,
        settings: GatewaySettings,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let lifetime = settings.metadata_lifetime;
        let users = Users::new(crm.clone(), lifetime, tasks.clone());
        let parts = sharing::SharingParts {
            tenant: name.to_owned(),
            crm: crm.clone(),
            users: users.clone(),
            store: store.clone(),
            keep_request_ids: settings.keep_request_ids,
            activity_offset: settings.activity_offset,
            activities_together: settings.batching.activities,
            tasks: tasks.clone(),
            stop,
        };
        Self {
            metadata: Cached::new(crm.clone(), LeadsMetaData, Catalog::new, lifetime, tasks.clone()),
            users,
            sharing: Sharing::new(parts, settings.sharing),
            activity_types: Cached::new(crm.clone(), GetTypes, |types, _| types, lifetime, tasks.clone()),
            posts: Arc::new(Requests::new(
                store.clone(),
                name,
                settings.keep_request_ids,
                tasks.clone(),
            )),
            activity_offset: settings.activity_offset,
            country_code: settings.default_country_code,
            requests: Arc::new(Requests::new(
                store.clone(),
                name,
                settings.keep_request_ids,
                tasks.clone(),
            )),
            known_leads: KnownLeads::new(),
            reads: Reads::new(name, crm.metrics().clone(), tasks.clone()),
            settings: settings.writes,
            batching: settings.batching,
            crm,
            quota,
        }
    }

    /// Fetches in the background what the first calls would have to wait for.
    pub fn warm_up(&self) {
        self.metadata.refresh();
    }

    /// The state of the account's quota.
    pub fn quota(&self) -> QuotaSnapshot {
        self.quota.snapshot()
    }

    /// What has been spent of the quota, to be remembered over a restart.
    pub fn quota_usage(&self) -> QuotaUsage {
        self.quota.usage()
    }

    /// Forgets request ids and shares that are old enough.
    pub async fn sweep(&self) -> std::result::Result<u64, store::StoreError> {
        Ok(self.requests.delete_expired().await? + self.sharing.delete_expired().await?)
    }

    /// Whose keys these are.
    pub async fn key_owner(&self, context: &RequestContext) -> Result<KeyOwner> {
        self.crm.call(context, &UserByAccessKey).await
    }

    /// Why LeadSquared cannot be reached at present, with host and port, for operators.
    pub fn outage(&self) -> Option<String> {
        self.crm.outage()
    }

    /// Whether LeadSquared rejected the keys, and has accepted no call since.
    pub fn credentials_rejected(&self) -> bool {
        self.crm.credentials_rejected()
    }

    /// Whether the account's metadata has been fetched.
    pub fn has_metadata(&self) -> bool {
        self.metadata.is_available()
    }

    /// What attributes leads have.
    pub async fn describe_fields(&self, context: &RequestContext) -> Result<Arc<Catalog>> {
        self.metadata.get(context).await
    }

    /// One user.
    pub async fn get_user(&self, context: &RequestContext, key: &user::UserKey) -> Result<User> {
        self.users.get(context, key).await
    }

    /// All users.
    pub async fn users(&self, context: &RequestContext) -> Result<Arc<Roster>> {
        self.users.all(context).await
    }

    /// The attributes of which no two leads have the same value.
    pub fn unique_attributes(&self) -> &[String] {
        &self.settings.unique
    }

    /// What may travel together.
    pub fn batching(&self) -> &Batching {
        &self.batching
    }

    /// The shares of the account.
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }
}

impl Gateway {
    /// The write that a mutation was begun with before, if any.
    fn begun_before(&self, before: PriorAttempt) -> Option<LostWrite> {
        match before {
            PriorAttempt::None => None,
            PriorAttempt::OutcomeUnknown { since } => Some(self.crm.begun_before(since)),
        }
    }

    /// The error of a mutation, with what its caller can do.
    fn final_error(&self, context: &RequestContext, error: Error, has_request_id: bool, otherwise: Recovery) -> Error {
        let mut error = context.with_progress(error).of_mutation(has_request_id, otherwise);
        if error.kind == ErrorKind::OutcomeUnknown
            && let Some(Recovery::SameRequestId { after }) = &mut error.details.recovery
        {
            // While the circuit breaker is open, nothing can be looked up.
            *after = (*after).max(self.quota.breaker_wait());
        }
        error
    }
}

fn or_invalid(violations: Vec<Violation>) -> Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    Err(ErrorKind::Invalid(violations).into())
}
