//! Sharing as one call: the ledger of shares, who waits for which, and what may be asked for. `machine` knows what comes
//! next, `driver` does it.

mod driver;
mod handle;
pub mod machine;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock;
use crate::context::{RequestContext, RequestId, deadline_exceeded};
use crate::crm;
use crate::crm::activity::ActivityOffset;
use crate::crm::lead::{GetLeadById, GetLeadByNumber};
use crate::crm::share::{AccessStatus, GetAccessStatus};
use crate::domain::lead::{self, LEAD_ID, LEAD_NUMBER, Row};
use crate::domain::share::{
    Access, Share, ShareChange, ShareContext, ShareFilter, ShareStage, ShareState, ShareStep, SharedEntity,
};
use crate::domain::user;
use crate::error::{Error, ErrorKind, Recovery, Resource, Result};
use crate::store::{self, Added, Before, Requests, Store, StoreError};
use crate::users::Users;
pub use handle::Listener;
use handle::{ShareHandle, ShareHandles};
use machine::{Event, Rules};

/// The longest time that anything is shared for.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
/// How long writing a share down may take after the deadline.
const PATIENCE: Duration = Duration::from_secs(10);
/// The type of an activity that was given by its id, for an extension that needs another one.
const NO_TYPE: &str = "is required: the account has no sharing.default_activity_type";

/// How sharing behaves (`[tenants.NAME.sharing]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharingSettings {
    /// The type of the activity that is posted for a share without a context; 0: none.
    pub default_activity_type: i32,
    /// How long a share lasts that names no duration.
    #[serde(with = "humantime_serde")]
    pub default_duration: Duration,
    /// The longest duration that may be asked for.
    #[serde(with = "humantime_serde")]
    pub max_duration: Duration,
    /// The roles with which can be shared.
    pub roles: Vec<String>,
    /// The leads that can be shared with one user.
    pub leads_per_user: u32,
    /// What becomes of a share that would exceed that.
    pub at_limit: AtLimit,
    /// The numbers of `ShareStatus` that mean that a request is processed.
    pub processed: Vec<i64>,
    /// Whether asking twice for the same share has the effect of asking once.
    pub may_ask_again: bool,
    /// The texts by which LeadSquared says that there is no access to revoke.
    pub gone_texts: Vec<String>,
    /// The least time between two questions how a request stands.
    #[serde(with = "humantime_serde")]
    pub poll_every: Duration,
    /// The longest time between them, while nobody waits.
    #[serde(with = "humantime_serde")]
    pub poll_at_most: Duration,
    /// How long after its answer was lost an activity may show up.
    #[serde(with = "humantime_serde")]
    pub settle_after: Duration,
    /// How long a step is tried, and a request is followed.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
    /// How long shares that are over are kept.
    #[serde(with = "humantime_serde")]
    pub keep_ended: Duration,
}

/// What becomes of a share with a user who has the most leads already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtLimit {
    /// It is refused.
    Refuse,
    /// It is asked for, and the log tells.
    Warn,
}

impl SharingSettings {
    /// What is wrong with them: the key, and what would be right.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.default_activity_type < 0 {
            faults.push(("default_activity_type", "must be the code of a type, or 0".to_owned()));
        }
        if self.max_duration < MINUTE || self.max_duration > LONGEST {
            faults.push(("max_duration", "must be between 1 minute and 10 years".to_owned()));
        }
        if !is_minutes(self.default_duration) || self.default_duration > self.max_duration {
            let text = "must be in whole minutes, at least one and at most max_duration";
            faults.push(("default_duration", text.to_owned()));
        }
        if self.roles.is_empty() {
            faults.push(("roles", "must name at least one role".to_owned()));
        }
        if self.processed.is_empty() {
            faults.push(("processed", "must have at least one number".to_owned()));
        }
        if self.gone_texts.iter().any(|text| text.trim().is_empty()) {
            let text = "must be texts of at least one letter, such as [\"No such share\"]";
            faults.push(("gone_texts", text.to_owned()));
        }
        let not_zero = [
            ("poll_every", self.poll_every),
            ("poll_at_most", self.poll_at_most),
            ("give_up_after", self.give_up_after),
        ];
        for (key, duration) in not_zero {
            if duration.is_zero() || duration > LONGEST {
                faults.push((key, "must be more than zero and at most 10 years".to_owned()));
            }
        }
        if self.keep_ended > LONGEST {
            faults.push(("keep_ended", "must be at most 10 years".to_owned()));
        }
        faults
    }
}

/// A share that somebody asks for.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What to share.
    pub what: Wanted,
    /// With whom.
    pub user: user::Key,
    /// What the user may do.
    pub access: Access,
    /// For how long; `None`: as long as usual.
    pub duration: Option<Duration>,
    /// Also where the user has access already.
    pub additional: bool,
}

/// What somebody wants to share.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A lead: by its id or number, through an activity.
    Lead(lead::Key, Option<ShareContext>),
    /// The opportunity of that id.
    Opportunity(String),
}

/// Which share somebody means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// That one.
    Id(Uuid),
    /// The live one of that lead and user, and of that activity where one is named.
    Triple {
        /// The lead.
        lead_id: String,
        /// The user.
        user_id: String,
        /// The activity.
        activity_id: Option<String>,
    },
}

/// How far a share is followed before its caller gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Not at all.
    Nothing,
    /// Until LeadSquared has taken the request.
    Submitted,
    /// Until LeadSquared has processed it.
    Processed,
}

/// The shares of one account. Clones share them.
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
    handles: ShareHandles,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What sharing is made of.
pub struct Parts {
    /// The account's name.
    pub tenant: String,
    /// Its client.
    pub crm: crm::Client,
    /// Its users.
    pub users: Users,
    /// Where the ledger is.
    pub store: Store,
    /// How long request ids are remembered.
    pub keep_request_ids: Duration,
    /// What the pages of a lead's activities are counted by.
    pub activity_offset: ActivityOffset,
    /// Whether the activities of several shares may travel in one call.
    pub activities_together: bool,
    /// Where the work runs.
    pub tasks: TaskTracker,
    /// When the process is told to stop: then no step is begun any more.
    pub stop: CancellationToken,
}

impl Sharing {
    /// The shares of an account. Nothing is done for them until [`Sharing::resume`].
    pub fn new(parts: Parts, settings: SharingSettings) -> Self {
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
            requests: Arc::new(requests),
            handles: ShareHandles::default(),
            tasks: parts.tasks,
            stop: parts.stop,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes up what a process before has left; how many shares they are.
    pub async fn resume(&self) -> Result<usize> {
        let shared = &self.shared;
        let unsettled = shared.store.unsettled_shares(&shared.tenant).await;
        let unsettled = unsettled.map_err(|fault| unreachable_store(&fault))?;
        let count = unsettled.len();
        for share in unsettled {
            shared.drive(shared.handles.of(share));
        }
        Ok(count)
    }

    /// Ends the shares whose time is over, for whoever looks next. That it could not be written down is no reason not to look.
    async fn tend_first(&self) {
        if let Err(error) = self.expire_due().await {
            tracing::warn!(tenant = %self.shared.tenant, error = error.name(), "shares could not be ended");
        }
    }

    /// Ends the shares whose time is over.
    pub async fn expire_due(&self) -> Result<()> {
        let shared = &self.shared;
        let ended = shared.store.ended_shares(&shared.tenant, clock::now()).await;
        for id in ended.map_err(|fault| unreachable_store(&fault))? {
            let handle = shared.handle(id).await?;
            shared.happen(&handle, Event::TimeOver).await?;
        }
        Ok(())
    }

    /// Forgets shares that are over for long enough.
    pub async fn sweep(&self) -> std::result::Result<u64, StoreError> {
        let oldest = clock::now() - self.shared.settings.keep_ended;
        self.shared.store.sweep_shares(&self.shared.tenant, oldest).await
    }

    /// Shares, once per request id. The deadline ends the wait and not the share; what is wrong with what is asked for is
    /// told before anything is sent.
    pub async fn share(
        &self,
        context: &RequestContext,
        draft: Draft,
        request: Option<RequestId>,
        wait: WaitFor,
    ) -> Result<Arc<Share>> {
        let begin = |shared: Arc<Shared>, context, id| async move { shared.begin(&context, draft, id).await };
        self.make(context, request, wait, begin).await
    }

    /// Makes a share that lasts for longer and takes over from that one, so that there is no gap.
    pub async fn extend(
        &self,
        context: &RequestContext,
        id: Uuid,
        duration: Option<Duration>,
        request: Option<RequestId>,
        wait: WaitFor,
    ) -> Result<Arc<Share>> {
        let begin = move |shared: Arc<Shared>, context, request_id| async move {
            shared.begin_extension(&context, id, duration, request_id).await
        };
        self.make(context, request, wait, begin).await
    }

    /// Takes a share back before its time.
    pub async fn revoke(
        &self,
        context: &RequestContext,
        meant: Meant,
        request: Option<RequestId>,
        wait: WaitFor,
    ) -> Result<Arc<Share>> {
        let shared = self.shared.clone();
        let entry = request.map(|request| self.shared.requests.enter(request));
        let asked = recorded(context, entry.as_ref());
        let work = move |_| async move {
            let id = shared.find(&meant).await?;
            asked.begin().await?;
            shared.turn(id, Event::Revoke, ErrorKind::ShareNotActive).await?;
            shared.revoke_others_of(id).await?;
            Ok(id)
        };
        let has_id = request.is_some();
        let revoked = async {
            let id = self.shared.requests.once(&patient(context), entry, work).await?;
            revoked(self.wait(context, id, |share| has_left(wait, share)).await?)
        };
        revoked.await.map_err(|error| of_mutation(context, error, has_id))
    }

    /// Tries the step again that failed, or whose outcome is not known. What may have been granted is revoked first.
    pub async fn retry(&self, context: &RequestContext, id: Uuid, wait: WaitFor) -> Result<Arc<Share>> {
        let shared = self.shared.clone();
        let work = move |_| async move { shared.turn(id, Event::Retry, ErrorKind::ShareNotRetryable).await };
        let id = self.shared.requests.once(&patient(context), None, work).await?;
        // The step may be the revoke.
        let is_enough = |share: &Share| match share.state() {
            ShareState::Revoking => has_left(wait, share),
            _ => has_come_to(wait, share),
        };
        let retried = granted(self.wait(context, id, is_enough).await?);
        retried.map_err(|error| of_mutation(context, error, false))
    }

    /// The share of that id as it is now, and what became of it until now.
    pub async fn get(&self, id: Uuid) -> Result<(Arc<Share>, Vec<ShareChange>)> {
        self.tend_first().await;
        let shared = &self.shared;
        let share = shared.handle(id).await?.current();
        let history = shared.store.share_history(&shared.tenant, id).await;
        Ok((share, history.map_err(|fault| unreachable_store(&fault))?))
    }

    /// Shares, the newest first.
    pub async fn list(&self, filter: &ShareFilter) -> Result<Vec<Share>> {
        self.tend_first().await;
        let shared = &self.shared;
        let found = shared.store.shares(&shared.tenant, filter).await;
        found.map_err(|fault| unreachable_store(&fault))
    }

    /// Follows a share: whoever listens is told of every change, and it is asked for more often how it stands.
    pub async fn listen(&self, id: Uuid) -> Result<Listener> {
        self.tend_first().await;
        Ok(Listener::new(self.shared.handle(id).await?))
    }

    /// The user of that key, and how many leads that user may have access to by shares of ours.
    pub async fn usage(&self, context: &RequestContext, key: &user::Key) -> Result<(String, u32)> {
        self.tend_first().await;
        let user = self.shared.users.get(context, key).await?;
        let used = self.shared.usage(&user.id).await?;
        Ok((user.id, used))
    }

    /// The leads that can be shared with one user.
    pub fn leads_per_user(&self) -> u32 {
        self.shared.settings.leads_per_user
    }

    /// How one of LeadSquared's requests stands.
    pub async fn request_status(&self, context: &RequestContext, id: &str) -> Result<AccessStatus> {
        let operation = GetAccessStatus {
            id,
            processed: &self.shared.settings.processed,
            gone_texts: &[],
        };
        self.shared.crm.call(context, &operation).await
    }

    /// Begins a share once per request id, and follows it.
    async fn make<B, F>(
        &self,
        context: &RequestContext,
        request: Option<RequestId>,
        wait: WaitFor,
        begin: B,
    ) -> Result<Arc<Share>>
    where
        B: FnOnce(Arc<Shared>, RequestContext, Option<Uuid>) -> F + Send + 'static,
        F: Future<Output = Result<Uuid>> + Send + 'static,
    {
        let id = request.map(|request| request.id);
        let entry = request.map(|request| self.shared.requests.enter(request));
        let (shared, asked) = (self.shared.clone(), recorded(context, entry.as_ref()));
        let work = move |before| async move {
            match shared.begun_before(before, id).await? {
                Some(id) => Ok(id),
                None => begin(shared, asked, id).await,
            }
        };
        let made = async {
            let id = self.shared.requests.once(&patient(context), entry, work).await?;
            let share = self.wait(context, id, |share| has_come_to(wait, share)).await?;
            match share.step {
                // It was granted: only whether it is revoked is not known.
                Some(ShareStep::Revoke) if share.granted.is_some() => Ok(share),
                _ => granted(share),
            }
        };
        made.await.map_err(|error| of_mutation(context, error, id.is_some()))
    }

    /// Waits until it is enough for the caller, the deadline is there, or the process is told to stop.
    async fn wait(&self, context: &RequestContext, id: Uuid, is_enough: impl Fn(&Share) -> bool) -> Result<Arc<Share>> {
        let mut listener = Listener::new(self.shared.handle(id).await?);
        loop {
            let share = listener.current();
            if is_enough(&share) {
                return Ok(share);
            }
            tokio::select! {
                () = listener.changed() => {}
                () = tokio::time::sleep_until(context.deadline) => return Ok(listener.current()),
                () = self.shared.stop.cancelled() => return Ok(listener.current()),
            }
        }
    }
}

impl Shared {
    /// The share that was written down for a request id before, if it was.
    async fn begun_before(&self, before: Before, id: Option<Uuid>) -> Result<Option<Uuid>> {
        match (before, id) {
            (Before::Uncertain { .. }, Some(id)) => {
                let found = self.store.share_of_request(&self.tenant, id).await;
                found.map_err(|fault| unreachable_store(&fault))
            }
            _ => Ok(None),
        }
    }

    /// Looks up what the share is about, and writes it down.
    async fn begin(self: &Arc<Self>, context: &RequestContext, draft: Draft, request_id: Option<Uuid>) -> Result<Uuid> {
        let minutes = self.minutes(draft.duration)?;
        let what = match draft.what {
            Wanted::Opportunity(id) => SharedEntity::Opportunity { id },
            Wanted::Lead(key, share_context) => {
                let share_context = self.share_context(share_context)?;
                let (id, number) = self.lead(context, key).await?;
                SharedEntity::Lead {
                    id,
                    number,
                    context: share_context,
                }
            }
        };
        let user = self.users.get(context, &draft.user).await?;
        let sells = self
            .settings
            .roles
            .iter()
            .any(|role| role.eq_ignore_ascii_case(&user.role));
        if !user.active || !sells {
            return Err(ErrorKind::NotASalesUser.into());
        }
        let mut share = Share::new(Uuid::now_v7(), what, user.id, draft.access, minutes, clock::now());
        share.additional = draft.additional;
        share.request_id = request_id;
        self.add(context, share).await
    }

    async fn begin_extension(
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
        // Through the same activity LeadSquared could not tell the two apart.
        let what = match &old.what {
            SharedEntity::Opportunity { id } => SharedEntity::Opportunity { id: id.clone() },
            SharedEntity::Lead { id, number, context } => SharedEntity::Lead {
                id: id.clone(),
                number: number.clone(),
                context: match context {
                    ShareContext::Given { .. } => self.share_context(None)?,
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
            what,
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

    /// Writes a new share down, and sets out with it: until then the deadline ends it all, from then on only the wait.
    async fn add(self: &Arc<Self>, context: &RequestContext, mut share: Share) -> Result<Uuid> {
        share.caller = context.caller.to_string();
        share.criticality = context.criticality.name().to_owned();
        if context.cancelled.is_cancelled() {
            return Err(ErrorKind::CallerCancelled.into());
        }
        if Instant::now() >= context.deadline {
            return Err(deadline_exceeded("the ledger"));
        }
        let most = match self.settings.at_limit {
            AtLimit::Refuse => Some(self.settings.leads_per_user),
            AtLimit::Warn => None,
        };
        context.begin().await?;
        let added = self.store.add_share(&self.tenant, &share, most).await;
        match added.map_err(|fault| unwritable_store(&fault))? {
            Added::Written { used } => {
                if used > self.settings.leads_per_user {
                    let text = "more leads are shared with the user than LeadSquared is known to allow";
                    tracing::warn!(tenant = %self.tenant, share_id = %share.id, used, text);
                }
            }
            Added::Other(other) => return Err(ErrorKind::ShareExists { by: Some(other) }.into()),
            Added::Full => return Err(ErrorKind::ShareLimitReached.into()),
        }
        let id = share.id;
        tracing::info!(tenant = %self.tenant, share_id = %id, "a share was written down");
        self.drive(self.handles.of(share));
        Ok(id)
    }

    /// Whoever takes a share back means what takes over from it too. An opportunity's shares are one to LeadSquared.
    async fn revoke_others_of(self: &Arc<Self>, id: Uuid) -> Result<()> {
        let share = self.handle(id).await?.current();
        for other in self
            .live_like(&share.user_id, share.entity_id(), share.is_of_lead())
            .await?
        {
            if other.id != id && (other.extends == Some(id) || !share.is_of_lead()) {
                let handle = self.handle(other.id).await?;
                self.happen(&handle, Event::Revoke).await?;
                self.drive(handle);
            }
        }
        Ok(())
    }

    /// The live shares of that user and that lead or opportunity.
    async fn live_like(&self, user_id: &str, entity_id: &str, is_of_lead: bool) -> Result<Vec<Share>> {
        let filter = ShareFilter {
            user_id: Some(user_id.to_owned()),
            entity_id: Some(entity_id.to_owned()),
            of_leads: Some(is_of_lead),
            states: ShareState::LIVE.to_vec(),
            most: 1000,
            ..ShareFilter::default()
        };
        let found = self.store.shares(&self.tenant, &filter).await;
        found.map_err(|fault| unreachable_store(&fault))
    }

    /// Something that somebody asks for happens to a share.
    async fn turn(self: &Arc<Self>, id: Uuid, event: Event, otherwise: ErrorKind) -> Result<Uuid> {
        let handle = self.handle(id).await?;
        if event == Event::Retry && handle.current().stage == ShareStage::Failed {
            self.check_alone(&handle.current()).await?;
        }
        match self.happen(&handle, event).await? {
            Some(_) => {
                self.drive(handle);
                Ok(id)
            }
            None => Err(Error::from(otherwise).with_share(id)),
        }
    }

    /// Whether no other share is in the way of one that comes to life again.
    async fn check_alone(&self, share: &Share) -> Result<()> {
        let others = self
            .live_like(&share.user_id, share.entity_id(), share.is_of_lead())
            .await?;
        match others.iter().find(|other| other.is_in_the_way_of(share)) {
            Some(other) => Err(ErrorKind::ShareExists { by: Some(other.id) }.into()),
            None => Ok(()),
        }
    }

    async fn find(&self, meant: &Meant) -> Result<Uuid> {
        let (lead_id, user_id, activity_id) = match meant {
            Meant::Id(id) => return Ok(*id),
            Meant::Triple {
                lead_id,
                user_id,
                activity_id,
            } => (lead_id, user_id, activity_id.as_deref()),
        };
        let found = self.live_like(user_id, lead_id, true).await?;
        let is_meant = |share: &&Share| match (activity_id, share.activity_id()) {
            (None, _) => true,
            (Some(wanted), Some(id)) => wanted.eq_ignore_ascii_case(id),
            (Some(_), None) => false,
        };
        let mut found = found.iter().filter(is_meant);
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
        let most = self.settings.max_duration;
        if !is_minutes(duration) || duration > most {
            let text = format!(
                "must be in whole minutes, at least one and at most {}",
                most.as_secs() / 60
            );
            return Err(Error::invalid("duration", text));
        }
        Ok(u32::try_from(duration.as_secs() / 60).unwrap_or(u32::MAX))
    }

    /// The activity that a share goes through: what is given, with the account's usual type where none is named.
    fn share_context(&self, context: Option<ShareContext>) -> Result<ShareContext> {
        let usual = self.settings.default_activity_type;
        let mut context = context.unwrap_or_else(|| ShareContext::New {
            id: None,
            code: 0,
            note: String::new(),
            fields: Default::default(),
        });
        if let ShareContext::New { code, .. } = &mut context
            && *code == 0
        {
            if usual == 0 {
                return Err(Error::invalid("new_activity.activity_type", NO_TYPE));
            }
            *code = usual;
        }
        Ok(context)
    }

    /// The id and the number of a lead: from the ledger if it was shared before, else with one read.
    async fn lead(&self, context: &RequestContext, key: lead::Key) -> Result<(String, String)> {
        let known = self.store.share_of_lead(&self.tenant, &key).await;
        let known = known.map_err(|fault| unreachable_store(&fault))?;
        if let Some(SharedEntity::Lead { id, number, .. }) = known.map(|share| share.what) {
            return Ok((id, number));
        }
        let row = match key {
            lead::Key::Number(number) => {
                let columns = vec![LEAD_NUMBER.to_owned()];
                self.crm.call(context, &GetLeadByNumber { number, columns }).await?
            }
            lead::Key::Id(id) => self.crm.call(context, &GetLeadById::new(&id)).await?,
            lead::Key::Email(_) | lead::Key::Phone(_) => {
                return Err(Error::invalid("lead", "must be an id or a number"));
            }
        };
        let given = |row: &Row, name: &str| row.get(name).cloned().flatten().filter(|text| !text.is_empty());
        match (given(&row, LEAD_ID), given(&row, LEAD_NUMBER)) {
            (Some(id), Some(number)) => Ok((id, number)),
            (id, _) => {
                let path = if id.is_none() { LEAD_ID } else { LEAD_NUMBER }.to_owned();
                Err(ErrorKind::Unreadable { path }.into())
            }
        }
    }

    async fn usage(&self, user_id: &str) -> Result<u32> {
        let used = self.store.share_usage(&self.tenant, user_id).await;
        used.map_err(|fault| unreachable_store(&fault))
    }

    /// Where a share is worked on, at most one place each.
    async fn handle(&self, id: Uuid) -> Result<Arc<ShareHandle>> {
        if let Some(handle) = self.handles.get(id) {
            return Ok(handle);
        }
        // Between reading a share and giving it its place nobody else may give it one, change it and leave.
        let _seating = self.handles.creation().await;
        if let Some(handle) = self.handles.get(id) {
            return Ok(handle);
        }
        let share = self.store.share(&self.tenant, id).await;
        let share = share.map_err(|fault| unreachable_store(&fault))?;
        let share = share.ok_or_else(|| Error::from(ErrorKind::NotFound(Resource::Share)).with_share(id))?;
        Ok(self.handles.of(share))
    }

    /// Lets something happen to a share, and writes down what became of it; `None` where it cannot happen.
    async fn happen(&self, handle: &ShareHandle, event: Event) -> Result<Option<Arc<Share>>> {
        let _writing = handle.writing().await;
        let before = handle.current();
        let rules = Rules {
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
        let is_told = after.state() != before.state() || after.failure != before.failure;
        let saved = self.store.save_share(&self.tenant, &after, is_told).await;
        saved.map_err(|fault| unwritable_store(&fault))?;
        if is_told {
            let failure = after.failure.as_ref().map(Error::name);
            let state = after.state();
            tracing::info!(tenant = %self.tenant, share_id = %after.id, ?state, failure, "a share has changed");
        }
        Ok(Some(handle.tell(after)))
    }
}

fn is_minutes(duration: Duration) -> bool {
    duration >= MINUTE && duration.subsec_nanos() == 0 && duration.as_secs().is_multiple_of(60)
}

/// Whether a share is as far as it is waited for, was so before, or will not get there.
fn has_come_to(wait: WaitFor, share: &Share) -> bool {
    match share.stage {
        _ if share.state() == ShareState::Revoking => true,
        ShareStage::Active | ShareStage::EndingPredecessor | ShareStage::Uncertain | ShareStage::Expired | ShareStage::Failed | ShareStage::Revoked => true,
        ShareStage::ShareInProgress => wait != WaitFor::Processed,
        ShareStage::Created
        | ShareStage::PostingActivity
        | ShareStage::VerifyingActivity
        | ShareStage::ShareQueued
        | ShareStage::RequestingShare
        // What may have been granted is revoked before LeadSquared is asked again.
        | ShareStage::RevokeQueued
        | ShareStage::RequestingRevoke
        | ShareStage::RevokeInProgress => wait == WaitFor::Nothing,
    }
}

/// Whether a share is as far revoked as it is waited for, or will not be.
fn has_left(wait: WaitFor, share: &Share) -> bool {
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

/// The same call with the record of its request id.
fn recorded(context: &RequestContext, entry: Option<&store::Entry>) -> RequestContext {
    entry.map_or_else(|| context.clone(), |entry| entry.recorded(context))
}

/// The same call with time to hear what became of what was written down at the last moment.
fn patient(context: &RequestContext) -> RequestContext {
    RequestContext {
        deadline: context.deadline + PATIENCE,
        ..context.clone()
    }
}

/// The error of a call that asks for a share to be made, revoked or retried.
fn of_mutation(context: &RequestContext, error: Error, has_request_id: bool) -> Error {
    match error.details.share_id {
        // The same request id would return the same share, as it is.
        Some(_) => error.with_recovery(Recovery::Share),
        None => context
            .with_progress(error)
            .of_mutation(has_request_id, Recovery::Share),
    }
}

/// A share that came to nothing is an error to whoever asked for it.
fn granted(share: Arc<Share>) -> Result<Arc<Share>> {
    match (share.stage, &share.failure) {
        (ShareStage::Failed, failure) => {
            let error = failure.clone().unwrap_or_else(|| ErrorKind::Exception.into());
            Err(error.with_share(share.id))
        }
        (ShareStage::Uncertain, _) => {
            let mut error = Error::from(ErrorKind::OutcomeUnknown).with_recovery(Recovery::Share);
            error.details.attempts = share.sends;
            Err(error.with_share(share.id))
        }
        _ => Ok(share),
    }
}

/// A share that is as active as it was is an error to whoever wanted it revoked.
fn revoked(share: Arc<Share>) -> Result<Arc<Share>> {
    match (share.stage, &share.failure) {
        (ShareStage::Active, Some(failure)) => Err(failure.clone().with_share(share.id)),
        (ShareStage::Failed | ShareStage::Uncertain, _) => granted(share),
        _ => Ok(share),
    }
}

fn unreachable_store(fault: &StoreError) -> Error {
    tracing::error!(%fault, "the ledger cannot be read");
    fault.kind().into()
}

fn unwritable_store(fault: &StoreError) -> Error {
    tracing::error!(%fault, "a share cannot be written down");
    fault.kind().into()
}
