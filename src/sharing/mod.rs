//! Sharing of leads and opportunities: one RPC per share. This module checks requests, stores shares and waits for their
//! results. `machine` decides the next task of a share, `driver` executes it.

mod driver;
mod handle;
pub mod machine;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::audit::AuditSubject;
use crate::clock;
use crate::cluster::TenantLease;
use crate::context::{RequestContext, RequestId, deadline_exceeded};
use crate::crm;
use crate::crm::activity::ActivityOffset;
use crate::crm::lead::{GetLeadById, GetLeadByNumber};
use crate::crm::share::{AccessStatus, GetAccessStatus};
use crate::domain::lead::{self, LEAD_ID, LEAD_NUMBER, RawFields};
use crate::domain::share::{
    Access, Share, ShareChange, ShareContext, ShareFilter, ShareStage, ShareState, ShareStep, SharedEntity,
};
use crate::domain::user;
use crate::error::{Denial, Error, ErrorKind, Recovery, Resource, Result, Violation};
use crate::store::{self, AddShareResult, PriorAttempt, Requests, Store, StoreError};
use crate::users::Users;
pub use handle::ShareWatcher;
use handle::{ShareHandle, ShareHandles};
use machine::{ShareEvent, TransitionRules};

/// Maximum of durations in the settings.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
/// The additional time for the store after the deadline of the RPC.
const STORE_GRACE: Duration = Duration::from_secs(10);
/// The error text for a missing activity type. An extension of a share with an existing activity also needs a type.
const NO_TYPE: &str = "is required: the account has no sharing.default_activity_type";

/// The settings of sharing (`[tenants.NAME.sharing]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharingSettings {
    /// The type of the activity that is posted for a share without a context. 0: no default.
    pub default_activity_type: i32,
    /// The duration of a share whose request has no duration.
    #[serde(with = "humantime_serde")]
    pub default_duration: Duration,
    /// Maximum duration of a share.
    #[serde(with = "humantime_serde")]
    pub max_duration: Duration,
    /// The roles of users with whom leads and opportunities can be shared.
    pub roles: Vec<String>,
    /// Maximum number of leads that can be shared with one user.
    pub leads_per_user: u32,
    /// What happens to a share that would exceed `leads_per_user`.
    pub at_limit: AtLimit,
    /// The values of `ShareStatus` that mean that a request is processed.
    pub processed: Vec<i64>,
    /// Whether two identical share requests have the effect of a single request.
    pub may_ask_again: bool,
    /// The texts in responses of LeadSquared that mean that there is no access to revoke.
    pub gone_texts: Vec<String>,
    /// Minimum time between two status polls of a request.
    #[serde(with = "humantime_serde")]
    pub poll_every: Duration,
    /// Maximum time between two status polls while no caller waits for the share.
    #[serde(with = "humantime_serde")]
    pub poll_at_most: Duration,
    /// How long after a lost response an activity can appear in LeadSquared.
    #[serde(with = "humantime_serde")]
    pub settle_after: Duration,
    /// How long a step is retried, and how long a request is polled.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
    /// How long shares are kept after they have ended.
    #[serde(with = "humantime_serde")]
    pub keep_ended: Duration,
}

/// What happens to a share with a user who already has the maximum number of leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtLimit {
    /// The request fails with SHARE_LIMIT_REACHED.
    Refuse,
    /// The share is created, and a warning is logged.
    Warn,
}

impl SharingSettings {
    /// Returns the invalid settings: each key with a description of valid values.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        if self.default_activity_type < 0 {
            errors.push(("default_activity_type", "must be the code of a type, or 0".to_owned()));
        }
        if self.max_duration < MINUTE || self.max_duration > MAX_DURATION {
            errors.push(("max_duration", "must be between 1 minute and 10 years".to_owned()));
        }
        if !is_minutes(self.default_duration) || self.default_duration > self.max_duration {
            let text = "must be in whole minutes, at least one and at most max_duration";
            errors.push(("default_duration", text.to_owned()));
        }
        if self.roles.is_empty() {
            errors.push(("roles", "must name at least one role".to_owned()));
        }
        if self.processed.is_empty() {
            errors.push(("processed", "must have at least one number".to_owned()));
        }
        if self.gone_texts.iter().any(|text| text.trim().is_empty()) {
            let text = "must be texts of at least one letter, such as [\"No such share\"]";
            errors.push(("gone_texts", text.to_owned()));
        }
        let not_zero = [
            ("poll_every", self.poll_every),
            ("poll_at_most", self.poll_at_most),
            ("give_up_after", self.give_up_after),
        ];
        for (key, duration) in not_zero {
            if duration.is_zero() || duration > MAX_DURATION {
                errors.push((key, "must be more than zero and at most 10 years".to_owned()));
            }
        }
        if self.keep_ended > MAX_DURATION {
            errors.push(("keep_ended", "must be at most 10 years".to_owned()));
        }
        errors
    }
}

/// A request for a new share.
#[derive(Clone, Debug)]
pub struct NewShare {
    /// The lead or opportunity to share.
    pub target: ShareTarget,
    /// The user that gets access.
    pub user: user::UserKey,
    /// The access that the user gets.
    pub access: Access,
    /// The duration of the access. `None`: the default of the account.
    pub duration: Option<Duration>,
    /// Whether the share is created even if the user already has access.
    pub additional: bool,
}

/// The lead or opportunity of a new share.
#[derive(Clone, Debug)]
pub enum ShareTarget {
    /// A lead by its id or number, and the activity that it is shared through. `None`: a new activity of the default type.
    Lead(lead::LeadKey, Option<ShareContext>),
    /// The opportunity with this id.
    Opportunity(String),
}

impl NewShare {
    fn audit_subject(&self) -> AuditSubject {
        match &self.target {
            ShareTarget::Lead(key, context) => audit_subject(Some(key), context.as_ref()),
            ShareTarget::Opportunity(_) => AuditSubject::default(),
        }
    }
}

/// The subject of a new share of a lead, for the audit.
pub fn audit_subject(lead: Option<&lead::LeadKey>, share_context: Option<&ShareContext>) -> AuditSubject {
    AuditSubject {
        lead_id: match lead {
            Some(lead::LeadKey::Id(id)) => Some(id.clone()),
            _ => None,
        },
        share_id: None,
        fields: share_context.map(ShareContext::field_names).unwrap_or_default(),
    }
}

/// Selects a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareSelector {
    /// The share with this id.
    Id(Uuid),
    /// The live share of a lead with a user. The activity is required if there are several.
    Triple {
        /// The id of the lead.
        lead_id: String,
        /// The id of the user.
        user_id: String,
        /// The id of the activity.
        activity_id: Option<String>,
    },
}

/// The point that a share has to reach before the RPC returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Do not wait.
    Nothing,
    /// LeadSquared accepted the request.
    Submitted,
    /// LeadSquared processed the request.
    Processed,
}

/// The shares of one account. Clones refer to the same shares.
#[derive(Clone)]
pub struct Sharing {
    shared: Arc<Shared>,
}

struct Shared {
    tenant: String,
    crm: crm::Client,
    users: Users,
    store: Store,
    settings: SharingSettings,
    activity_offset: ActivityOffset,
    activities_together: bool,
    requests: Arc<Requests<Uuid>>,
    /// When the steps of all earlier owners of the tenant have ended. `None`: there is no earlier owner.
    earlier_calls_end: Option<Instant>,
    lease: TenantLease,
    handles: ShareHandles,
    expiry: Expiry,
    /// The number of shares by state, as last counted.
    counts: Mutex<Option<ShareCounts>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The number of shares in each state.
type ShareCounts = [(ShareState, u64); ShareState::ALL.len()];

/// When to look for shares whose duration is over, so that the store is not read before.
#[derive(Default)]
struct Expiry {
    /// Held while shares expire.
    expiring: tokio::sync::Mutex<()>,
    times: Mutex<ExpiryTimes>,
}

#[derive(Default)]
struct ExpiryTimes {
    /// No share expires before this time. `None`: unknown.
    earliest: Option<Timestamp>,
    /// The first end of a share that was noted since the last read began.
    noted: Option<Timestamp>,
}

impl Expiry {
    /// The store is read. Until the read has ended, the time is unknown.
    fn begin_read(&self) {
        *self.lock() = ExpiryTimes::default();
    }

    /// The store was read. `next` is the first end of a share there. Shares may have been saved since.
    fn end_read(&self, next: Option<Timestamp>) {
        let mut times = self.lock();
        let found = next.into_iter().chain(times.noted).min();
        times.earliest = Some(found.unwrap_or(Timestamp::MAX));
    }

    /// Notes when a share expires.
    fn note(&self, share: &Share) {
        let Some(time) = share.expires.filter(|_| !share.stage.has_ended()) else {
            return;
        };
        let mut times = self.lock();
        times.noted = times.noted.into_iter().chain([time]).min();
        times.earliest = times.earliest.map(|earliest| earliest.min(time));
    }

    /// Lets the next call read the store.
    fn forget(&self) {
        self.lock().earliest = None;
    }

    fn is_before(&self, now: Timestamp) -> bool {
        self.lock().earliest.is_some_and(|earliest| now < earliest)
    }

    fn lock(&self) -> MutexGuard<'_, ExpiryTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The components that sharing uses.
pub struct SharingParts {
    /// The name of the tenant.
    pub tenant: String,
    /// The upstream client of the tenant.
    pub crm: crm::Client,
    /// The users of the tenant.
    pub users: Users,
    /// The store for shares and request ids.
    pub store: Store,
    /// How long request ids are kept.
    pub keep_request_ids: Duration,
    /// The lease of the tenant.
    pub lease: TenantLease,
    /// The unit of the offset in lists of activities.
    pub activity_offset: ActivityOffset,
    /// Whether the activities of several shares may be posted in one batch.
    pub activities_together: bool,
    /// The tracker of background tasks.
    pub tasks: TaskTracker,
    /// Cancelled at shutdown. No step starts afterwards.
    pub stop: CancellationToken,
}

impl Sharing {
    /// The shares of an account. No share is processed until [`Sharing::resume`].
    pub fn new(parts: SharingParts, settings: SharingSettings) -> Self {
        let earlier_calls_end = parts.lease.earlier_calls_end(parts.crm.timeout());
        let requests = Requests::new(
            parts.store.clone(),
            &parts.tenant,
            parts.keep_request_ids,
            parts.tasks.clone(),
        );
        let shared = Shared {
            tenant: parts.tenant,
            crm: parts.crm,
            users: parts.users,
            store: parts.store,
            settings,
            activity_offset: parts.activity_offset,
            activities_together: parts.activities_together,
            requests: Arc::new(requests.after_earlier_calls(earlier_calls_end)),
            earlier_calls_end,
            lease: parts.lease,
            handles: ShareHandles::default(),
            expiry: Expiry::default(),
            counts: Mutex::default(),
            tasks: parts.tasks,
            stop: parts.stop,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Continues all shares in progress after a start. Returns the number of these shares.
    pub async fn resume(&self) -> Result<usize> {
        let shared = &self.shared;
        let unfinished = shared.store.shares_in_progress(&shared.tenant).await;
        let unfinished = unfinished.map_err(|error| store_read_error(&error))?;
        let count = unfinished.len();
        for share in unfinished {
            shared.drive(shared.handles.of(share));
        }
        Ok(count)
    }

    /// Expires shares whose duration is over, before a read. An error is only logged, so the read continues.
    async fn try_expire_due(&self) {
        if let Err(error) = self.expire_due().await {
            tracing::warn!(tenant = %self.shared.tenant, error = error.name(), "expiring shares failed");
        }
    }

    /// Expires all shares whose duration is over. Reads the store only if there may be one.
    pub async fn expire_due(&self) -> Result<()> {
        let shared = &self.shared;
        let _expiring = shared.expiry.expiring.lock().await;
        let now = clock::now();
        if shared.expiry.is_before(now) {
            return Ok(());
        }
        // After an error, or if this future is dropped, the next call reads the store again.
        shared.expiry.begin_read();
        shared.expiry.end_read(shared.expire(now).await?);
        Ok(())
    }

    /// Counts the shares by state, for [`Sharing::counts`].
    pub async fn count(&self) -> std::result::Result<(), StoreError> {
        let shared = &self.shared;
        let found = shared.store.count_shares(&shared.tenant).await?;
        let count = |state| (state, found.get(&state).copied().unwrap_or(0));
        *shared.counts.lock().unwrap_or_else(PoisonError::into_inner) = Some(ShareState::ALL.map(count));
        Ok(())
    }

    /// Returns the number of shares by state. `None`: they were not counted yet.
    pub fn counts(&self) -> Option<ShareCounts> {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes shares that ended more than `keep_ended` ago. Returns the number of deleted shares.
    pub async fn delete_expired(&self) -> std::result::Result<u64, StoreError> {
        // A replica that lost the tenant may have saved a share later.
        self.shared.expiry.forget();
        let oldest = clock::now() - self.shared.settings.keep_ended;
        self.shared.store.delete_ended_shares(&self.shared.tenant, oldest).await
    }

    /// Creates a share, once per request id. An invalid request fails before the share is stored. The deadline ends the wait, not
    /// the share.
    pub async fn share(
        &self,
        context: &RequestContext,
        new_share: NewShare,
        request: Option<RequestId>,
        wait: WaitFor,
    ) -> Result<Arc<Share>> {
        let subject = new_share.audit_subject();
        let create = |shared: Arc<Shared>, context, id| async move { shared.create(&context, new_share, id).await };
        let share = |context| async move { self.create_once(&context, request, wait, create).await };
        context.audited(subject, share).await
    }

    /// Creates a share that replaces share `id` without an interruption of the access. `duration` is the duration of the new
    /// share; `None`: the duration of the old share.
    pub async fn extend(
        &self,
        context: &RequestContext,
        id: Uuid,
        duration: Option<Duration>,
        request: Option<RequestId>,
        wait: WaitFor,
    ) -> Result<Arc<Share>> {
        let create = move |shared: Arc<Shared>, context, request_id| async move {
            shared.create_extension(&context, id, duration, request_id).await
        };
        let extend = |context| async move {
            self.check_activity(&context, id, false).await?;
            self.create_once(&context, request, wait, create).await
        };
        context.audited(of_share(id), extend).await
    }

    /// Revokes a share before it expires.
    pub async fn revoke(
        &self,
        context: &RequestContext,
        selector: ShareSelector,
        request: Option<RequestId>,
        wait: WaitFor,
    ) -> Result<Arc<Share>> {
        let subject = match &selector {
            ShareSelector::Id(id) => of_share(*id),
            ShareSelector::Triple { lead_id, .. } => AuditSubject {
                lead_id: Some(lead_id.clone()),
                ..AuditSubject::default()
            },
        };
        let revoke = |context| async move { self.revoke_once(&context, selector, request, wait).await };
        context.audited(subject, revoke).await
    }

    async fn revoke_once(
        &self,
        context: &RequestContext,
        selector: ShareSelector,
        request: Option<RequestId>,
        wait: WaitFor,
    ) -> Result<Arc<Share>> {
        let shared = self.shared.clone();
        let entry = request.map(|request| self.shared.requests.enter(request, vec![]));
        let recorded = with_record(context, entry.as_ref());
        let work = move |_| async move {
            let id = shared.find(&selector).await?;
            recorded.begin().await?;
            shared
                .apply_request(&recorded, id, ShareEvent::RevokeRequested, ErrorKind::ShareNotActive)
                .await?;
            shared.revoke_related_to(&recorded, id).await?;
            Ok(id)
        };
        let has_id = request.is_some();
        let revoked = async {
            let id = self
                .shared
                .requests
                .once(&with_store_grace(context), entry, work)
                .await?;
            let is_enough = |share: &Share| is_revoke_wait_over(wait, share);
            revoke_result(self.wait(context, id, has_id, is_enough).await?)
        };
        revoked.await.map_err(|error| of_mutation(context, error, has_id))
    }

    /// Retries the step that failed or whose outcome is unknown. Access that may have been granted is revoked first.
    pub async fn retry(&self, context: &RequestContext, id: Uuid, wait: WaitFor) -> Result<Arc<Share>> {
        let retry = |context| async move { self.retry_once(&context, id, wait).await };
        context.audited(of_share(id), retry).await
    }

    async fn retry_once(&self, context: &RequestContext, id: Uuid, wait: WaitFor) -> Result<Arc<Share>> {
        self.check_activity(context, id, true).await?;
        let shared = self.shared.clone();
        let retrying = context.clone();
        let work = move |_| async move {
            shared
                .apply_request(&retrying, id, ShareEvent::RetryRequested, ErrorKind::ShareNotRetryable)
                .await
        };
        let id = self
            .shared
            .requests
            .once(&with_store_grace(context), None, work)
            .await?;
        // The step can be the revoke.
        let is_enough = |share: &Share| match share.state() {
            ShareState::Revoking => is_revoke_wait_over(wait, share),
            _ => is_share_wait_over(wait, share),
        };
        let retried = share_result(self.wait(context, id, false, is_enough).await?);
        retried.map_err(|error| of_mutation(context, error, false))
    }

    /// Returns a share and the history of its changes.
    pub async fn get(&self, id: Uuid) -> Result<(Arc<Share>, Vec<ShareChange>)> {
        self.try_expire_due().await;
        let shared = &self.shared;
        let share = shared.handle(id).await?.current();
        let history = shared.store.share_history(&shared.tenant, id).await;
        Ok((share, history.map_err(|error| store_read_error(&error))?))
    }

    /// Returns the shares that the filter selects, newest first.
    pub async fn list(&self, filter: &ShareFilter) -> Result<Vec<Share>> {
        self.try_expire_due().await;
        let shared = &self.shared;
        let found = shared.store.shares(&shared.tenant, filter).await;
        found.map_err(|error| store_read_error(&error))
    }

    /// Watches a share. While a share has watchers, the status of its upstream request is polled more often.
    pub async fn watch(&self, id: Uuid) -> Result<ShareWatcher> {
        self.try_expire_due().await;
        Ok(ShareWatcher::new(self.shared.handle(id).await?))
    }

    /// Returns the id of a user and the number of leads that the user may have access to through shares of leadgate.
    pub async fn usage(&self, context: &RequestContext, key: &user::UserKey) -> Result<(String, u32)> {
        self.try_expire_due().await;
        let user = self.shared.users.get(context, key).await?;
        let used = self.shared.usage(&user.id).await?;
        Ok((user.id, used))
    }

    /// Maximum number of leads that can be shared with one user.
    pub fn leads_per_user(&self) -> u32 {
        self.shared.settings.leads_per_user
    }

    /// Returns the status of an upstream share or revoke request.
    pub async fn request_status(&self, context: &RequestContext, id: &str) -> Result<AccessStatus> {
        let operation = GetAccessStatus {
            id,
            processed: &self.shared.settings.processed,
            gone_texts: &[],
        };
        self.shared.crm.call(context, &operation).await
    }

    /// Checks that the caller may write the fields of a share's activity, before it is posted for an extension or again. The
    /// share may be of another caller. `if_unposted`: only an activity that is not posted yet is checked.
    async fn check_activity(&self, context: &RequestContext, id: Uuid, if_unposted: bool) -> Result<()> {
        let denied = &context.permissions.deny_fields;
        if denied.is_empty() {
            return Ok(());
        }
        let handle = match self.shared.handle(id).await {
            Err(error) if error.kind == ErrorKind::NotFound(Resource::Share) => return Ok(()),
            handle => handle?,
        };
        let share = handle.current();
        let names: Vec<String> = match &share.entity {
            SharedEntity::Lead {
                context: context @ ShareContext::New { id, .. },
                ..
            } if !if_unposted || id.is_none() => {
                let names = context.field_names().into_iter();
                names.filter(|name| denied.contains(name)).collect()
            }
            _ => return Ok(()),
        };
        if names.is_empty() {
            return Ok(());
        }
        let text = format!(
            "the activity of the share sets {}, which the caller may not write (deny_fields)",
            names.join(", ")
        );
        let violations = vec![Violation::new("share_id", text)];
        Err(ErrorKind::CallerNotAllowed(Denial::Fields(violations)).into())
    }

    /// Creates a share once per request id, and waits for it.
    async fn create_once<C, F>(
        &self,
        context: &RequestContext,
        request: Option<RequestId>,
        wait: WaitFor,
        create: C,
    ) -> Result<Arc<Share>>
    where
        C: FnOnce(Arc<Shared>, RequestContext, Option<Uuid>) -> F + Send + 'static,
        F: Future<Output = Result<Uuid>> + Send + 'static,
    {
        let id = request.map(|request| request.id);
        let entry = request.map(|request| self.shared.requests.enter(request, vec![]));
        let (shared, recorded) = (self.shared.clone(), with_record(context, entry.as_ref()));
        let work = move |prior| async move {
            match shared.share_of_earlier_call(prior, id).await? {
                Some(id) => Ok(id),
                None => create(shared, recorded, id).await,
            }
        };
        let created = async {
            let id = self
                .shared
                .requests
                .once(&with_store_grace(context), entry, work)
                .await?;
            let is_enough = |share: &Share| is_share_wait_over(wait, share);
            let share = self.wait(context, id, request.is_some(), is_enough).await?;
            match share.step {
                // The share was granted. Only the outcome of the revoke is unknown.
                Some(ShareStep::Revoke) if share.granted.is_some() => Ok(share),
                _ => share_result(share),
            }
        };
        created.await.map_err(|error| of_mutation(context, error, id.is_some()))
    }

    /// Waits until `is_enough` accepts the share, until the deadline, or until a shutdown or a pause of the account. Returns the current
    /// share. If the tenant moves to another replica, a call that `can_repeat` waits there.
    async fn wait(
        &self,
        context: &RequestContext,
        id: Uuid,
        can_repeat: bool,
        is_enough: impl Fn(&Share) -> bool,
    ) -> Result<Arc<Share>> {
        let mut watcher = ShareWatcher::new(self.shared.handle(id).await?);
        context.audit.learn(watcher.current().lead_id(), None);
        loop {
            let share = watcher.current();
            if is_enough(&share) {
                return Ok(share);
            }
            tokio::select! {
                () = watcher.changed() => {}
                () = tokio::time::sleep_until(context.deadline) => return Ok(watcher.current()),
                () = self.shared.crm.until_paused(true) => return Ok(watcher.current()),
                () = self.shared.stop.cancelled() => {
                    return match can_repeat && self.shared.lease.ended().is_cancelled() {
                        true => Err(ErrorKind::Moved { sent: true }.into()),
                        false => Ok(watcher.current()),
                    };
                }
            }
        }
    }
}

impl Shared {
    /// Returns the share that an earlier call with the same request id created, if there is one.
    async fn share_of_earlier_call(&self, prior: PriorAttempt, id: Option<Uuid>) -> Result<Option<Uuid>> {
        match (prior, id) {
            (PriorAttempt::OutcomeUnknown { .. }, Some(id)) => {
                let found = self.store.share_of_request(&self.tenant, id).await;
                found.map_err(|error| store_read_error(&error))
            }
            _ => Ok(None),
        }
    }

    /// Looks up the lead and the user, and creates the share.
    async fn create(
        self: &Arc<Self>,
        context: &RequestContext,
        new_share: NewShare,
        request_id: Option<Uuid>,
    ) -> Result<Uuid> {
        let minutes = self.minutes(new_share.duration)?;
        let entity = match new_share.target {
            ShareTarget::Opportunity(id) => SharedEntity::Opportunity { id },
            ShareTarget::Lead(key, share_context) => {
                let share_context = self.share_context(share_context)?;
                let (id, number) = self.lead(context, key).await?;
                SharedEntity::Lead {
                    id,
                    number,
                    context: share_context,
                }
            }
        };
        let user = self.users.get(context, &new_share.user).await?;
        let has_role = self
            .settings
            .roles
            .iter()
            .any(|role| role.eq_ignore_ascii_case(&user.role));
        if !user.active || !has_role {
            return Err(ErrorKind::NotASalesUser.into());
        }
        let mut share = Share::new(Uuid::now_v7(), entity, user.id, new_share.access, minutes, clock::now());
        share.additional = new_share.additional;
        share.request_id = request_id;
        self.add(context, share).await
    }

    async fn create_extension(
        self: &Arc<Self>,
        context: &RequestContext,
        id: Uuid,
        duration: Option<Duration>,
        request_id: Option<Uuid>,
    ) -> Result<Uuid> {
        let old = self.handle(id).await?.current();
        if old.stage != ShareStage::Active {
            return Err(Error::from(ErrorKind::ShareNotActive).with_share(id));
        }
        let minutes = self.minutes(duration.or(Some(old.duration())))?;
        // LeadSquared could not distinguish two shares through the same activity.
        let entity = match &old.entity {
            SharedEntity::Opportunity { id } => SharedEntity::Opportunity { id: id.clone() },
            SharedEntity::Lead { id, number, context } => SharedEntity::Lead {
                id: id.clone(),
                number: number.clone(),
                context: match context {
                    ShareContext::Existing { .. } => self.share_context(None)?,
                    ShareContext::New { code, note, fields, .. } => ShareContext::New {
                        id: None,
                        code: *code,
                        note: note.clone(),
                        fields: fields.clone(),
                    },
                },
            },
        };
        let mut share = Share::new(
            Uuid::now_v7(),
            entity,
            old.user_id.clone(),
            old.access,
            minutes,
            clock::now(),
        );
        share.additional = true;
        share.extends = Some(id);
        share.request_id = request_id;
        self.add(context, share).await
    }

    /// Stores a new share and starts to drive it. Until the share is stored, the deadline ends the call. Afterwards it ends only the
    /// wait.
    async fn add(self: &Arc<Self>, context: &RequestContext, mut share: Share) -> Result<Uuid> {
        share.caller = context.caller.to_string();
        share.criticality = context.criticality.name().to_owned();
        if context.cancelled.is_cancelled() {
            return Err(ErrorKind::CallerCancelled.into());
        }
        if Instant::now() >= context.deadline {
            return Err(deadline_exceeded("the ledger"));
        }
        let limit = match self.settings.at_limit {
            AtLimit::Refuse => Some(self.settings.leads_per_user),
            AtLimit::Warn => None,
        };
        context.begin().await?;
        let added = self.store.add_share(&self.tenant, &share, limit);
        let added = self.store.traced(&context.trace, "add_share", added).await;
        let trace_id = context.trace.id().map(tracing::field::display);
        match added.map_err(|error| store_write_error(&error))? {
            AddShareResult::Added { used } => {
                if used > self.settings.leads_per_user {
                    let text = "more leads are shared with the user than leads_per_user allows";
                    tracing::warn!(trace_id, tenant = %self.tenant, share_id = %share.id, used, text);
                }
            }
            AddShareResult::Conflict(other) => return Err(ErrorKind::ShareExists { by: Some(other) }.into()),
            AddShareResult::LimitReached => return Err(ErrorKind::ShareLimitReached.into()),
        }
        let id = share.id;
        tracing::info!(trace_id, tenant = %self.tenant, share_id = %id, "share created");
        let handle = self.handles.of(share);
        handle.set_trace(&context.trace);
        self.drive(handle);
        Ok(id)
    }

    /// Revokes the shares that a revoke of this share includes: an extension of it, and all shares of the same opportunity with the
    /// same user. LeadSquared does not distinguish shares of an opportunity.
    async fn revoke_related_to(self: &Arc<Self>, context: &RequestContext, id: Uuid) -> Result<()> {
        let share = self.handle(id).await?.current();
        for other in self
            .live_shares(&share.user_id, share.entity_id(), share.is_of_lead())
            .await?
        {
            if other.id != id && (other.extends == Some(id) || !share.is_of_lead()) {
                let handle = self.handle(other.id).await?;
                handle.set_trace(&context.trace);
                self.apply_event(&handle, ShareEvent::RevokeRequested).await?;
                self.drive(handle);
            }
        }
        Ok(())
    }

    /// Returns the live shares of a lead or an opportunity with a user.
    async fn live_shares(&self, user_id: &str, entity_id: &str, is_of_lead: bool) -> Result<Vec<Share>> {
        let filter = ShareFilter {
            user_id: Some(user_id.to_owned()),
            entity_id: Some(entity_id.to_owned()),
            of_leads: Some(is_of_lead),
            states: ShareState::LIVE.to_vec(),
            limit: 1000,
            ..ShareFilter::default()
        };
        let found = self.store.shares(&self.tenant, &filter).await;
        found.map_err(|error| store_read_error(&error))
    }

    /// Applies a revoke or retry that a caller requested. Returns `error_kind` if the share is in the wrong stage for it.
    async fn apply_request(
        self: &Arc<Self>,
        context: &RequestContext,
        id: Uuid,
        event: ShareEvent,
        error_kind: ErrorKind,
    ) -> Result<Uuid> {
        let handle = self.handle(id).await?;
        handle.set_trace(&context.trace);
        if event == ShareEvent::RetryRequested && handle.current().stage == ShareStage::Failed {
            self.check_no_conflict(&handle.current()).await?;
        }
        match self.apply_event(&handle, event).await? {
            Some(_) => {
                self.drive(handle);
                Ok(id)
            }
            None => Err(Error::from(error_kind).with_share(id)),
        }
    }

    /// Fails if another share conflicts with a failed share that is retried.
    async fn check_no_conflict(&self, share: &Share) -> Result<()> {
        let others = self
            .live_shares(&share.user_id, share.entity_id(), share.is_of_lead())
            .await?;
        match others.iter().find(|other| other.conflicts_with(share)) {
            Some(other) => Err(ErrorKind::ShareExists { by: Some(other.id) }.into()),
            None => Ok(()),
        }
    }

    async fn find(&self, selector: &ShareSelector) -> Result<Uuid> {
        let (lead_id, user_id, activity_id) = match selector {
            ShareSelector::Id(id) => return Ok(*id),
            ShareSelector::Triple {
                lead_id,
                user_id,
                activity_id,
            } => (lead_id, user_id, activity_id.as_deref()),
        };
        let found = self.live_shares(user_id, lead_id, true).await?;
        let is_selected = |share: &&Share| match (activity_id, share.activity_id()) {
            (None, _) => true,
            (Some(selected), Some(id)) => selected.eq_ignore_ascii_case(id),
            (Some(_), None) => false,
        };
        let mut found = found.iter().filter(is_selected);
        match (found.next(), found.next()) {
            (None, _) => Err(ErrorKind::NotFound(Resource::Share).into()),
            (Some(share), None) => Ok(share.id),
            (Some(_), Some(_)) => {
                let text = "is required: the lead is shared with the user more than once (RevokeShares revokes all of these shares)";
                Err(Error::invalid("triple.activity_id", text))
            }
        }
    }

    fn minutes(&self, duration: Option<Duration>) -> Result<u32> {
        let duration = duration.unwrap_or(self.settings.default_duration);
        let max = self.settings.max_duration;
        if !is_minutes(duration) || duration > max {
            let text = format!(
                "must be in whole minutes, at least one and at most {}",
                max.as_secs() / 60
            );
            return Err(Error::invalid("duration", text));
        }
        Ok(u32::try_from(duration.as_secs() / 60).unwrap_or(u32::MAX))
    }

    /// Returns the activity that a lead is shared through. A new activity without a type gets the default type of the account.
    fn share_context(&self, context: Option<ShareContext>) -> Result<ShareContext> {
        let default_type = self.settings.default_activity_type;
        let mut context = context.unwrap_or_else(|| ShareContext::New {
            id: None,
            code: 0,
            note: String::new(),
            fields: Default::default(),
        });
        if let ShareContext::New { code, .. } = &mut context
            && *code == 0
        {
            if default_type == 0 {
                return Err(Error::invalid("new_activity.activity_type", NO_TYPE));
            }
            *code = default_type;
        }
        Ok(context)
    }

    /// Returns the id and the number of a lead: from an earlier share of the lead if there is one, otherwise with one upstream
    /// call.
    async fn lead(&self, context: &RequestContext, key: lead::LeadKey) -> Result<(String, String)> {
        let known = self.store.share_of_lead(&self.tenant, &key).await;
        let known = known.map_err(|error| store_read_error(&error))?;
        if let Some(SharedEntity::Lead { id, number, .. }) = known.map(|share| share.entity) {
            return Ok((id, number));
        }
        let row = match key {
            lead::LeadKey::Number(number) => {
                let columns = vec![LEAD_NUMBER.to_owned()];
                self.crm.call(context, &GetLeadByNumber { number, columns }).await?
            }
            lead::LeadKey::Id(id) => self.crm.call(context, &GetLeadById::new(&id)).await?,
            lead::LeadKey::Email(_) | lead::LeadKey::Phone(_) => {
                return Err(Error::invalid("lead", "must be an id or a number"));
            }
        };
        let attribute = |row: &RawFields, name: &str| row.get(name).cloned().flatten().filter(|text| !text.is_empty());
        match (attribute(&row, LEAD_ID), attribute(&row, LEAD_NUMBER)) {
            (Some(id), Some(number)) => Ok((id, number)),
            (id, _) => {
                let path = if id.is_none() { LEAD_ID } else { LEAD_NUMBER }.to_owned();
                Err(ErrorKind::Unreadable { path }.into())
            }
        }
    }

    async fn usage(&self, user_id: &str) -> Result<u32> {
        let used = self.store.share_usage(&self.tenant, user_id).await;
        used.map_err(|error| store_read_error(&error))
    }

    /// Returns the handle of a share. Reads the share if it is not in use.
    async fn handle(&self, id: Uuid) -> Result<Arc<ShareHandle>> {
        if let Some(handle) = self.handles.get(id) {
            return Ok(handle);
        }
        // Without this lock, another task could create a handle, change the share and drop the handle between the read and the
        // creation of the handle.
        let _creation = self.handles.creation().await;
        if let Some(handle) = self.handles.get(id) {
            return Ok(handle);
        }
        let share = self.store.share(&self.tenant, id).await;
        let share = share.map_err(|error| store_read_error(&error))?;
        let share = share.ok_or_else(|| Error::from(ErrorKind::NotFound(Resource::Share)).with_share(id))?;
        self.expiry.note(&share);
        Ok(self.handles.of(share))
    }

    /// Reads a share from the store, after an earlier owner of the tenant may have changed it.
    async fn reload(&self, handle: &ShareHandle) -> Result<()> {
        let _change = handle.lock_for_change().await;
        let before = handle.current();
        let stored = self.store.share(&self.tenant, before.id).await;
        if let Some(stored) = stored.map_err(|error| store_read_error(&error))?
            && stored != *before
        {
            self.expiry.note(&stored);
            handle.publish(stored);
        }
        Ok(())
    }

    /// Expires the shares whose duration is over. Returns when the next duration is over.
    async fn expire(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let next = self.store.next_expiry(&self.tenant).await;
        let next = next.map_err(|error| store_read_error(&error))?;
        if next.is_none_or(|next| now < next) {
            return Ok(next);
        }
        let due = self.store.shares_due_to_expire(&self.tenant, now).await;
        for id in due.map_err(|error| store_read_error(&error))? {
            let handle = self.handle(id).await?;
            self.apply_event(&handle, ShareEvent::DurationOver).await?;
        }
        // The following one is found by the next read.
        Ok(next)
    }

    /// Applies an event to a share, and stores the result. Returns `None` if the event is invalid in the current stage.
    async fn apply_event(&self, handle: &ShareHandle, event: ShareEvent) -> Result<Option<Arc<Share>>> {
        let _change = handle.lock_for_change().await;
        let before = handle.current();
        let rules = TransitionRules {
            may_ask_again: self.settings.may_ask_again,
        };
        let Ok(after) = machine::apply(&before, event, rules, clock::now()) else {
            return Ok(None);
        };
        let unchanged = Share {
            changed: before.changed,
            ..after.clone()
        };
        if unchanged == *before {
            return Ok(Some(before));
        }
        let is_visible = after.state() != before.state() || after.failure != before.failure;
        // Also if this future is dropped, or if it is unknown whether the share was saved.
        self.expiry.note(&after);
        let trace = handle.trace();
        let saved = self.store.save_share(&self.tenant, &after, is_visible);
        let saved = self.store.traced(&trace, "save_share", saved).await;
        self.expiry.note(&after);
        saved.map_err(|error| store_write_error(&error))?;
        if is_visible {
            let failure = after.failure.as_ref().map(Error::name);
            let state = after.state();
            let trace_id = trace.id().map(tracing::field::display);
            tracing::info!(trace_id, tenant = %self.tenant, share_id = %after.id, ?state, failure, "share changed");
        }
        Ok(Some(handle.publish(after)))
    }
}

fn is_minutes(duration: Duration) -> bool {
    duration >= MINUTE && duration.subsec_nanos() == 0 && duration.as_secs().is_multiple_of(60)
}

/// Whether the wait for a new share is over: the share has reached the point, was beyond it before, or will not reach it.
fn is_share_wait_over(wait: WaitFor, share: &Share) -> bool {
    match share.stage {
        _ if share.state() == ShareState::Revoking => true,
        ShareStage::Active | ShareStage::EndingPredecessor | ShareStage::Uncertain | ShareStage::Expired | ShareStage::Failed | ShareStage::Revoked => true,
        ShareStage::ShareInProgress => wait != WaitFor::Processed,
        ShareStage::Created
        | ShareStage::PostingActivity
        | ShareStage::VerifyingActivity
        | ShareStage::ShareQueued
        | ShareStage::RequestingShare
        // Access that may have been granted is revoked before the share is requested again.
        | ShareStage::RevokeQueued
        | ShareStage::RequestingRevoke
        | ShareStage::RevokeInProgress => wait == WaitFor::Nothing,
    }
}

/// Whether the wait for a revoke is over: the revoke has reached the point or will not reach it.
fn is_revoke_wait_over(wait: WaitFor, share: &Share) -> bool {
    match share.stage {
        ShareStage::Uncertain | ShareStage::Expired | ShareStage::Failed | ShareStage::Revoked | ShareStage::Active => {
            true
        }
        ShareStage::RevokeInProgress => wait != WaitFor::Processed,
        ShareStage::Created
        | ShareStage::PostingActivity
        | ShareStage::VerifyingActivity
        | ShareStage::ShareQueued
        | ShareStage::RequestingShare
        | ShareStage::ShareInProgress
        | ShareStage::EndingPredecessor
        | ShareStage::RevokeQueued
        | ShareStage::RequestingRevoke => wait == WaitFor::Nothing,
    }
}

/// The subject of a mutation of that share, for the audit.
fn of_share(id: Uuid) -> AuditSubject {
    AuditSubject {
        share_id: Some(id),
        ..AuditSubject::default()
    }
}

/// Returns the context with the record of its request id.
fn with_record(context: &RequestContext, entry: Option<&store::RequestEntry>) -> RequestContext {
    entry.map_or_else(|| context.clone(), |entry| entry.recorded(context))
}

/// Returns the context with additional time, so that a call at the deadline still gets the result of its write to the store.
fn with_store_grace(context: &RequestContext) -> RequestContext {
    RequestContext {
        deadline: context.deadline + STORE_GRACE,
        ..context.clone()
    }
}

/// Adds the details for callers to the error of a create, revoke or retry call.
fn of_mutation(context: &RequestContext, error: Error, has_request_id: bool) -> Error {
    match error.details.share_id {
        // A repetition with the same request id returns the same share in its current state.
        Some(_) => error.with_recovery(Recovery::Share),
        None => context
            .with_progress(error)
            .of_mutation(has_request_id, Recovery::Share),
    }
}

/// The result of a call that creates or retries a share: an error if the share failed or is uncertain.
fn share_result(share: Arc<Share>) -> Result<Arc<Share>> {
    match (share.stage, &share.failure) {
        (ShareStage::Failed, failure) => {
            let error = failure.clone().unwrap_or_else(|| ErrorKind::Exception.into());
            Err(error.with_share(share.id))
        }
        (ShareStage::Uncertain, _) => {
            let mut error = Error::from(ErrorKind::OutcomeUnknown).with_recovery(Recovery::Share);
            error.details.attempts = share.attempts;
            Err(error.with_share(share.id))
        }
        _ => Ok(share),
    }
}

/// The result of a revoke call: an error if the share is still active, failed or is uncertain.
fn revoke_result(share: Arc<Share>) -> Result<Arc<Share>> {
    match (share.stage, &share.failure) {
        (ShareStage::Active, Some(failure)) => Err(failure.clone().with_share(share.id)),
        (ShareStage::Failed | ShareStage::Uncertain, _) => share_result(share),
        _ => Ok(share),
    }
}

fn store_read_error(error: &StoreError) -> Error {
    tracing::error!(fault = %error, "reading shares failed");
    error.kind().into()
}

fn store_write_error(error: &StoreError) -> Error {
    match error.is_not_owner() {
        true => tracing::debug!("a share is not changed, because another replica owns the tenant"),
        false => tracing::error!(fault = %error, "storing a share failed"),
    }
    error.kind().into()
}
