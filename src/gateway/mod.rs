//! The operations of the gateway: one short function for each. Does not depend on protobuf or HTTP.

mod activity;
mod cursor;
mod duplicate;
mod entry;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod lead;
mod lookup;
mod modified;
mod reads;
mod reconcile;
mod removal;
mod rest;
mod search;
mod unfinished;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cached::Cached;
use crate::cluster::TenantLease;
pub use crate::context::Criticality;
use crate::context::RequestContext;
use crate::crm;
use crate::crm::activity::GetActivityTypes;
pub use crate::crm::activity::{ActivityOffset, RetrieveModifiedActivities};
pub use crate::crm::endpoints::{OTHER as OTHER_REST_NAME, is_read as is_rest_read};
use crate::crm::lead::{CapturedLeadId, ClearWith};
use crate::crm::lost::LostWrite;
use crate::crm::metadata::LeadsMetaData;
use crate::crm::passthrough::UnknownPaths;
pub use crate::crm::search::MODIFIED;
use crate::domain::activity::ActivityType;
use crate::domain::field::Catalog;
use crate::domain::handover::Handover;
use crate::domain::lead::WriteResult;
use crate::domain::listed::Listed;
pub use crate::domain::phone::CountryCode;
use crate::domain::rest::RestResult;
use crate::domain::usage::QuotaUsage;
use crate::domain::user::{self, Roster, User};
use crate::error::{Cause, Error, ErrorKind, Recovery, Result, Violation};
use crate::quota::Quota;
use crate::quota::lane::{BatchSizes, Lane};
pub use crate::quota::{BreakerSnapshot, BreakerState, QuotaSnapshot, WindowSnapshot, WindowUse};
use crate::quota::{CallerQuotas, QuotaLimits};
pub use crate::sharing;
use crate::sharing::Sharing;
use crate::store::{self, PriorAttempt, Requests, Store, StoredResult};
use crate::users::Users;
use entry::KnownLeads;
pub use entry::WriteEntry;
pub use fields::{FieldCheck, hides_any, is_hidden, visible_error};
pub use lead::{BatchGetResult, WriteMode};
pub use modified::{Export, ExportFrom, ListedPage, Listing, MAX as MAX_MODIFIED};
use reads::Reads;
pub use removal::Removal;
pub use rest::{RestEntry, RestOptions, audited_rest_name, rest_costs_bulk, rest_name};
pub use search::LeadSearch;

/// The settings of one account (`[tenants.NAME]`), except for those of the client and the quota.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// How long cached metadata, users and activity types are fresh.
    pub metadata_lifetime: Duration,
    /// How long request ids and their results are kept.
    pub keep_request_ids: Duration,
    /// The settings of writes.
    pub writes: WriteSettings,
    /// What `Offset` counts in a read of a lead's activities.
    pub activity_offset: ActivityOffset,
    /// The country code of phone numbers without one.
    pub default_country_code: CountryCode,
    /// The settings of sharing.
    pub sharing: sharing::SharingSettings,
    /// The settings of batching.
    pub batching: Batching,
}

/// The settings of writes (`[tenants.NAME.writes]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteSettings {
    /// How an attribute is cleared.
    pub clear_with: ClearWith,
    /// Which id in the response to a capture is that of the lead.
    pub captured_lead_id: CapturedLeadId,
    /// Whether LeadSquared may reject an update as a duplicate of the updated lead itself, as observed once. If true, the lead with
    /// the rejected value is looked up. If it is the updated lead, the attribute is removed from the update.
    pub own_values_may_clash: bool,
    /// The unique attributes: no two leads have the same value. A create that may have been executed is sent again only if it has one
    /// of them, so that LeadSquared rejects a second lead.
    pub unique: Vec<String>,
    /// Whether a value that is not an option of a dropdown is rejected before anything is sent.
    pub check_options: bool,
    /// Whether the other lead of a duplicate is looked up if LeadSquared does not name it.
    pub find_duplicates: bool,
}

/// The settings of batching (`[tenants.NAME.batching]`): which operations may share one call, and how many.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    /// Whether GetLead by id may be batched.
    pub reads: bool,
    /// Whether UpdateLead without automations may be batched.
    pub updates: bool,
    /// Whether CreateLead may be batched.
    pub creates: bool,
    /// Whether UpsertLead without automations may be batched.
    pub upserts: bool,
    /// Whether the activities of shares may be batched.
    pub activities: bool,
    /// Maximum number of reads in one call.
    pub max_reads: usize,
    /// Maximum number of updates in one call.
    pub max_updates: usize,
    /// Maximum number of creates in one call.
    pub max_creates: usize,
    /// Maximum number of upserts in one call.
    pub max_upserts: usize,
    /// Maximum number of activities in one call.
    pub max_activities: usize,
    /// Maximum number of requests in one BatchCreateLeads, BatchUpdateLeads or BatchUpsertLeads.
    pub max_requests: usize,
    /// Maximum number of rows in progress of one ImportLeads.
    pub import_window: usize,
}

/// Maximum of `max_requests` and `import_window`.
const MAX_IN_PROGRESS: usize = 100_000;

impl Batching {
    /// Returns the invalid settings: the key, and what is valid.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let key = |lane: Lane| match lane {
            Lane::Reads => "max_reads",
            Lane::Updates => "max_updates",
            Lane::Upserts => "max_upserts",
            Lane::Creates => "max_creates",
            Lane::Activities => "max_activities",
        };
        let sizes = self.sizes();
        let lanes = Lane::ALL.map(|lane| (key(lane), sizes.0[lane as usize], lane.max_batch()));
        let others = [
            ("max_requests", self.max_requests, MAX_IN_PROGRESS),
            ("import_window", self.import_window, MAX_IN_PROGRESS),
        ];
        let invalid = lanes
            .into_iter()
            .chain(others)
            .filter(|(_, size, max)| !(1..=*max).contains(size));
        invalid
            .map(|(key, _, max)| (key, format!("must be 1 to {max}")))
            .collect()
    }

    /// Maximum number of operations in one call, by lane.
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

/// The gateway of one account.
pub struct Gateway {
    crm: crm::Client,
    quota: Quota,
    metadata: Cached<LeadsMetaData, Catalog>,
    users: Users,
    activity_types: Cached<GetActivityTypes, Listed<ActivityType>>,
    requests: Arc<Requests<WriteResult>>,
    posts: Arc<Requests<String>>,
    passed_on: Arc<Requests<RestResult>>,
    unknown_paths: UnknownPaths,
    settings: WriteSettings,
    batching: Batching,
    reads: Reads,
    known_leads: KnownLeads,
    activity_offset: ActivityOffset,
    country_code: CountryCode,
    sharing: Sharing,
    lease: TenantLease,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Gateway {
    /// A gateway of the client's account. After `stop` it begins no background work, and grants no slots.
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
        let lease = quota.lease();
        let earlier_calls_end = lease.earlier_calls_end(crm.timeout());
        let users = Users::new(crm.clone(), lifetime, tasks.clone());
        let parts = sharing::SharingParts {
            tenant: name.to_owned(),
            crm: crm.clone(),
            users: users.clone(),
            store: store.clone(),
            keep_request_ids: settings.keep_request_ids,
            lease: lease.clone(),
            activity_offset: settings.activity_offset,
            activities_together: settings.batching.activities,
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        Self {
            metadata: Cached::new(crm.clone(), LeadsMetaData, Catalog::new, lifetime, tasks.clone()),
            users,
            sharing: Sharing::new(parts, settings.sharing),
            activity_types: Cached::new(crm.clone(), GetActivityTypes, |types, _| types, lifetime, tasks.clone()),
            posts: requests(store, name, settings.keep_request_ids, earlier_calls_end, tasks),
            passed_on: requests(store, name, settings.keep_request_ids, earlier_calls_end, tasks),
            unknown_paths: UnknownPaths::default(),
            activity_offset: settings.activity_offset,
            country_code: settings.default_country_code,
            requests: requests(store, name, settings.keep_request_ids, earlier_calls_end, tasks),
            known_leads: KnownLeads::new(),
            reads: Reads::new(name, crm.metrics().clone(), lease.clone()),
            settings: settings.writes,
            batching: settings.batching,
            crm,
            quota,
            lease,
            tasks: tasks.clone(),
            stop,
        }
    }

    /// Cancelled when the gateway ends: calls that wait for a slot fail, and streams end.
    pub fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// Whether this process certainly owns the tenant now. A lease that has lapsed may be valid again later.
    pub fn is_owner(&self) -> bool {
        self.lease.is_valid(Instant::now())
    }

    /// Whether another process may become the owner of the tenant.
    pub fn may_move(&self) -> bool {
        self.lease.fence().is_some()
    }

    /// Fetches in the background the values that the first calls need.
    pub fn warm_up(&self) {
        self.metadata.refresh();
    }

    /// Returns the state of the account's quota.
    pub fn quota(&self) -> QuotaSnapshot {
        self.quota.snapshot()
    }

    /// Returns the usage of the quota, which is kept over a restart.
    pub fn quota_usage(&self) -> QuotaUsage {
        self.quota.usage()
    }

    /// Grants no more slots, because the account moves to another replica. The calls that wait fail: they were not sent.
    pub fn stop_granting(&self) {
        self.quota.stop_granting();
    }

    /// Pauses the account, or resumes it. While it is paused, nothing is sent to LeadSquared, and calls fail with TENANT_PAUSED.
    pub fn set_paused(&self, is_paused: bool) {
        self.quota.set_paused(is_paused);
        if !is_paused && !self.has_metadata() {
            self.warm_up();
        }
    }

    /// Whether an operator has paused the account.
    pub fn is_paused(&self) -> bool {
        self.quota.is_paused()
    }

    /// Waits until the account is paused.
    pub async fn until_paused(&self) {
        self.quota.until_paused(true).await;
    }

    /// Number of calls that were granted a slot and have not ended.
    pub fn calls_in_progress(&self) -> usize {
        self.quota.in_progress()
    }

    /// The state of the quota for the next owner of the account.
    pub fn handover(&self) -> Handover {
        self.quota.handover(self.crm.timeout())
    }

    /// Changes the limits of the account's quota.
    pub fn set_limits(&self, limits: &QuotaLimits) {
        self.quota.set_limits(limits);
    }

    /// Maximum number of calls of a caller in a window, if it has one of its own.
    pub fn calls_per_window(&self, caller: &str) -> Option<u32> {
        self.quota.calls_per_window(caller)
    }

    /// Changes the parts of the account's quota that callers may use.
    pub fn set_callers(&self, callers: CallerQuotas) {
        self.quota.set_callers(callers);
    }

    /// Deletes expired request ids and shares. Returns their number.
    pub async fn sweep(&self) -> std::result::Result<u64, store::StoreError> {
        Ok(self.requests.delete_expired().await? + self.sharing.delete_expired().await?)
    }

    /// The client of LeadSquared.
    pub fn crm(&self) -> &crm::Client {
        &self.crm
    }

    /// Why LeadSquared cannot be reached now, with host and port. The text is for operators.
    pub fn outage(&self) -> Option<String> {
        self.crm.outage()
    }

    /// The cause of [`Gateway::outage`].
    pub fn outage_cause(&self) -> Option<Cause> {
        self.crm.outage_cause()
    }

    /// Whether LeadSquared rejected the keys, and has accepted no call since.
    pub fn credentials_rejected(&self) -> bool {
        self.crm.credentials_rejected()
    }

    /// Whether the account's metadata has been fetched.
    pub fn has_metadata(&self) -> bool {
        self.metadata.is_available()
    }

    /// Returns the attributes of leads.
    pub async fn describe_fields(&self, context: &RequestContext) -> Result<Arc<Catalog>> {
        self.metadata.get(context).await
    }

    /// Returns one user.
    pub async fn get_user(&self, context: &RequestContext, key: &user::UserKey) -> Result<User> {
        self.users.get(context, key).await
    }

    /// Returns all users.
    pub async fn users(&self, context: &RequestContext) -> Result<Arc<Roster>> {
        self.users.all(context).await
    }

    /// The unique attributes.
    pub fn unique_attributes(&self) -> &[String] {
        &self.settings.unique
    }

    /// The settings of batching.
    pub fn batching(&self) -> &Batching {
        &self.batching
    }

    /// The shares of the account.
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }
}

impl Gateway {
    /// The write of an earlier attempt of the same mutation, if there was one.
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

fn requests<T: StoredResult>(
    store: &Store,
    name: &str,
    keep: Duration,
    earlier_calls_end: Option<Instant>,
    tasks: &TaskTracker,
) -> Arc<Requests<T>> {
    let requests = Requests::new(store.clone(), name, keep, tasks.clone());
    Arc::new(requests.after_earlier_calls(earlier_calls_end))
}

fn or_invalid(violations: Vec<Violation>) -> Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    Err(ErrorKind::Invalid(violations).into())
}
