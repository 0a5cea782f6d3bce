//! Does what is to be done for a share: each step is written down before it is taken and after, so that whoever comes next
//! knows what may have happened. Decides nothing that `machine` could decide.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Shared;
use super::handle::ShareHandle;
use super::machine::{self, Event, Task};
use crate::clock;
use crate::context::{Criticality, RequestContext};
use crate::crm::CallPermit;
use crate::crm::activity::{CreateActivity, RetrieveActivities};
use crate::crm::batch::{Berth, Way};
use crate::crm::share::{GetAccessStatus, GrantAccess, RevokeAccess};
use crate::domain::activity::{NOTE, Post, Target};
use crate::domain::share::{Share, ShareContext, ShareStage, ShareStep, SharedEntity};
use crate::domain::user;
use crate::error::{Error, ErrorKind, Outcome, Result};

/// How many activities of a lead are looked through at a time, and how often, for one whose answer was lost.
const LOOK_AT: usize = 100;
const MAX_LOOKS: usize = 5;
/// How often more it is asked how a request stands once somebody wants the share revoked.
const POLLS_BEFORE_REVOKE: u32 = 3;
/// Who asks how requests stand: nobody's share of the quota but their own.
const POLLS: &str = "leadgate-polls";
/// The pauses before something is tried again that could not be done.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The process is told to stop; the next one goes on.
struct Stopped;

/// A step whose turn has come.
enum Turn {
    Post(Berth, CreateActivity, Way),
    Ask(CallPermit),
}

/// What a driver remembers of one share while it drives it.
struct DriveState {
    /// Since when the present step cannot be taken, and the pause before it is tried again.
    stuck: Option<Instant>,
    pause: Duration,
    /// How often, and when last, it was asked how the request stands.
    polls: u32,
    polled: Option<Instant>,
}

impl Shared {
    /// Does what is to be done for a share, in a task of its own, unless somebody does already.
    pub(super) fn drive(self: &Arc<Self>, handle: Arc<ShareHandle>) {
        if machine::task(handle.current().stage) != Task::Rest && handle.take_over() {
            let this = self.clone();
            self.tasks.spawn(async move {
                let _ = this.drive_until_idle(&handle).await;
            });
        }
    }

    /// Until there is nothing to be done any more, or the process is told to stop.
    async fn drive_until_idle(self: &Arc<Self>, handle: &Arc<ShareHandle>) -> std::result::Result<(), Stopped> {
        let mut drive_state = DriveState::new();
        loop {
            if self.stop.is_cancelled() {
                return Err(Stopped);
            }
            let share = handle.current();
            let event = match machine::task(share.stage) {
                Task::Rest => {
                    handle.leave();
                    // Somebody may have asked for more just before.
                    if machine::task(handle.current().stage) == Task::Rest || !handle.take_over() {
                        return Ok(());
                    }
                    continue;
                }
                // Whoever began is not here any more: this task would know.
                Task::Recover => Event::Lost,
                Task::Take(step) => match self.take(handle, &share, step, &mut drive_state).await? {
                    Some(event) => event,
                    None => continue,
                },
                Task::Look => self.look(&share, &mut drive_state).await?,
                Task::Poll => self.poll(handle, &share, &mut drive_state).await?,
                Task::Succeed => self.succeed(&share).await,
            };
            let is_stuck = event == Event::NotTaken;
            self.insist(handle, event).await?;
            if !is_stuck {
                drive_state = DriveState::new();
            } else if self.is_too_late(&drive_state) {
                let error = ErrorKind::Unavailable { sent: false }.into();
                self.insist(handle, Event::GivenUp(error)).await?;
                // Where there is nothing to give up, it is tried as if for the first time, pauses included.
                drive_state = DriveState::new();
            } else {
                self.rest(&mut drive_state).await?;
            }
        }
    }

    /// Takes a step: waits for its turn, writes down that it is about to be taken, takes it. `None` where it was not begun.
    async fn take(
        &self,
        handle: &ShareHandle,
        share: &Share,
        step: ShareStep,
        drive_state: &mut DriveState,
    ) -> std::result::Result<Option<Event>, Stopped> {
        // What may be on its way is let arrive before it is taken back.
        if step == ShareStep::Revoke
            && share.doubted
            && let Some(left) = share.asked.and_then(|asked| left(asked, self.settings.settle_after))
        {
            self.sleep(left).await?;
        }
        let context = self.call(share);
        let place = match step {
            ShareStep::PostActivity => {
                let (create, way) = self.activity(&context, share).await;
                let berth = self.crm.berth(way, &context, &create).await;
                berth.map(|berth| Turn::Post(berth, create, way))
            }
            ShareStep::Share => self.crm.acquire(&context, &GrantAccess(share)).await.map(Turn::Ask),
            ShareStep::Revoke => self.crm.acquire(&context, &self.revoke(share)).await.map(Turn::Ask),
        };
        let begun = match place {
            Ok(place) => match self.happen(handle, Event::Begun(step)).await {
                Ok(Some(share)) => Ok((place, share)),
                // Meanwhile it was revoked, say.
                Ok(None) => return Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let (place, share) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                if self.is_too_late(drive_state) {
                    return Ok(Some(Event::GivenUp(error)));
                }
                self.rest(drive_state).await?;
                return Ok(None);
            }
        };
        let crm = &self.crm;
        let taken = match place {
            Turn::Post(berth, create, way) => crm
                .ride_from(Some(berth), way, &context, &create, &mut None)
                .await
                .map(Event::Posted),
            Turn::Ask(place) if step == ShareStep::Revoke => crm
                .call_from(Some(place), &context, &self.revoke(&share))
                .await
                .map(Event::Taken),
            Turn::Ask(place) => crm
                .call_from(Some(place), &context, &GrantAccess(&share))
                .await
                .map(Event::Taken),
        };
        Ok(Some(taken.unwrap_or_else(|error| judge(step, at_home(step, error)))))
    }

    fn revoke<'a>(&'a self, share: &'a Share) -> RevokeAccess<'a> {
        RevokeAccess {
            share,
            gone_texts: &self.settings.gone_texts,
        }
    }

    /// The activity of a share, and how it may be posted: the shared endpoint knows owners by their addresses only.
    async fn activity(&self, context: &RequestContext, share: &Share) -> (CreateActivity, Way) {
        // One that was lost with its batch may have been what the batch failed for.
        let owner = match self.activities_together && !share.posted_again {
            true => {
                self.users
                    .get_if_available(context, &user::Key::Id(share.user_id.clone()))
                    .await
            }
            false => None,
        };
        let owner_email_address = owner
            .map(|user| user.email_address)
            .filter(|address| !address.is_empty());
        let way = if owner_email_address.is_some() {
            Way::Either
        } else {
            Way::Alone
        };
        let create = CreateActivity {
            post: Arc::new(post(share)),
            lead_id: share.entity_id().to_owned(),
            owner_email_address,
        };
        (create, way)
    }

    /// Looks for the activity whose answer was lost: by its note, which has the share's id.
    async fn look(&self, share: &Share, drive_state: &mut DriveState) -> std::result::Result<Event, Stopped> {
        let SharedEntity::Lead {
            id: lead_id,
            context: ShareContext::New { code, .. },
            ..
        } = &share.what
        else {
            return Ok(Event::NotPosted);
        };
        let mark = mark(share);
        loop {
            let error = match self.look_through(&self.call(share), lead_id, *code, &mark).await {
                Ok(Some(id)) => return Ok(Event::Posted(id)),
                // It may be on its way still.
                Ok(None) => match left(share.changed, self.settings.settle_after) {
                    None => return Ok(Event::NotPosted),
                    Some(left) => {
                        self.sleep(left).await?;
                        continue;
                    }
                },
                Err(error) => error,
            };
            if self.is_too_late(drive_state) {
                return Ok(Event::GivenUp(error));
            }
            self.rest(drive_state).await?;
        }
    }

    async fn look_through(
        &self,
        context: &RequestContext,
        lead_id: &str,
        code: i32,
        mark: &str,
    ) -> Result<Option<String>> {
        for page in 0..MAX_LOOKS {
            let operation = RetrieveActivities {
                lead_id: lead_id.to_owned(),
                code: Some(code),
                offset: self.activity_offset.of(page, LOOK_AT),
                count: LOOK_AT,
            };
            let found = self.crm.call(context, &operation).await?.activities;
            let is_last = found.count() < LOOK_AT;
            let note = |fields: &crate::domain::lead::Row| fields.get(NOTE).cloned().flatten().unwrap_or_default();
            let mut activities = found.records.into_iter();
            if let Some(ours) = activities.find(|activity| note(&activity.fields).contains(mark)) {
                return Ok(Some(ours.id));
            }
            if !found.unreadable.is_empty() {
                // It may be the one that cannot be read.
                return Err(ErrorKind::OutcomeUnknown.into());
            }
            if is_last {
                return Ok(None);
            }
        }
        // Nobody has so many; it proves nothing that it is not among them.
        Err(ErrorKind::OutcomeUnknown.into())
    }

    /// Asks how the request stands until it is known, each time after a longer pause.
    async fn poll(
        &self,
        handle: &ShareHandle,
        share: &Share,
        drive_state: &mut DriveState,
    ) -> std::result::Result<Event, Stopped> {
        let Some(id) = share.upstream_request_id.as_deref() else {
            return Ok(Event::GivenUp(ErrorKind::OutcomeUnknown.into()));
        };
        let asked = share.asked.unwrap_or(share.changed);
        let mut patience = POLLS_BEFORE_REVOKE;
        loop {
            self.await_poll(handle, drive_state).await?;
            let operation = GetAccessStatus {
                id,
                processed: &self.settings.processed,
                // Only of a revoke they mean that it is done.
                gone_texts: match share.stage {
                    ShareStage::RevokeInProgress => &self.settings.gone_texts,
                    _ => &[],
                },
            };
            // The next poll is what tries again.
            let context = self.call(share).of(POLLS, Criticality::Sheddable);
            let standing = self.crm.try_once(&context, &operation).await;
            drive_state.polled = Some(Instant::now());
            drive_state.polls += 1;
            match standing {
                Ok(standing) if standing.processed => return Ok(Event::Done),
                Ok(standing) => {
                    if let Some(error) = standing.failed {
                        return Ok(match share.stage {
                            ShareStage::RevokeInProgress if is_gone(&error) => Event::Gone,
                            _ => Event::Refused(error),
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(share_id = %share.id, error = error.name(), "how a share stands could not be asked");
                }
            }
            // Somebody who wants it revoked does not wait as long as somebody who wants it granted.
            if handle.current().revoke_wanted {
                patience = patience.saturating_sub(1);
            }
            if patience == 0 || left(asked, self.settings.give_up_after).is_none() {
                return Ok(Event::GivenUp(ErrorKind::OutcomeUnknown.into()));
            }
        }
    }

    /// Waits until it is time to ask. Somebody who begins to listen makes it earlier, never more often than is allowed.
    async fn await_poll(&self, handle: &ShareHandle, drive_state: &DriveState) -> std::result::Result<(), Stopped> {
        let begun = drive_state.polled.unwrap_or_else(Instant::now);
        loop {
            let at = begun + drive_state.until_poll(self, handle.is_listened_to());
            tokio::select! {
                () = tokio::time::sleep_until(at) => return Ok(()),
                () = handle.joined() => {}
                () = self.stop.cancelled() => return Err(Stopped),
            }
        }
    }

    /// Ends the share that this one takes over from, now that there is no gap.
    async fn succeed(self: &Arc<Self>, share: &Share) -> Event {
        let Some(old) = share.extends else {
            return Event::Succeeded;
        };
        // An opportunity's two shares are one to LeadSquared.
        let event = if share.is_of_lead() {
            Event::Revoke
        } else {
            Event::TakenOver
        };
        let ended = async {
            let handle = self.handle(old).await?;
            self.happen(&handle, event).await?;
            self.drive(handle);
            Ok::<_, Error>(())
        };
        match ended.await {
            // It may have been swept.
            Err(error) if error.kind == ErrorKind::StoreUnavailable => Event::NotTaken,
            _ => Event::Succeeded,
        }
    }

    /// Writes down what has happened, however long it takes: it cannot be undone.
    async fn insist(&self, handle: &ShareHandle, event: Event) -> std::result::Result<(), Stopped> {
        while self.happen(handle, event.clone()).await.is_err() {
            self.sleep(PAUSE).await?;
        }
        Ok(())
    }

    async fn rest(&self, drive_state: &mut DriveState) -> std::result::Result<(), Stopped> {
        drive_state.stuck.get_or_insert_with(Instant::now);
        let pause = drive_state.pause;
        drive_state.pause = (pause * 2).min(LONGEST_PAUSE);
        self.sleep(pause).await
    }

    fn is_too_late(&self, drive_state: &DriveState) -> bool {
        let since = drive_state.stuck.map(|since| since.elapsed());
        since.is_some_and(|since| since >= self.settings.give_up_after)
    }

    async fn sleep(&self, pause: Duration) -> std::result::Result<(), Stopped> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(Stopped),
        }
    }

    /// In the name of who asked for the share, but with nobody's deadline except that of giving up.
    fn call(&self, share: &Share) -> RequestContext {
        let criticality = Criticality::named(&share.criticality).unwrap_or_default();
        RequestContext {
            mutation: share.request_id,
            ..RequestContext::internal(&share.id.to_string(), self.settings.give_up_after)
                .of(&share.caller, criticality)
        }
    }
}

impl DriveState {
    fn new() -> Self {
        Self {
            stuck: None,
            pause: PAUSE,
            polls: 0,
            polled: None,
        }
    }

    /// How long after the last question the next one comes: 1, 2, 4 ... 30 s with the usual settings; while somebody waits
    /// as soon as it is allowed.
    fn until_poll(&self, shared: &Shared, is_listened_to: bool) -> Duration {
        let least = shared.settings.poll_every;
        match self.polls {
            0 => least / 2,
            _ if is_listened_to => least,
            polls => (least * 2_u32.saturating_pow((polls - 1).min(16))).min(shared.settings.poll_at_most.max(least)),
        }
    }
}

/// The activity that a share goes through, as it is posted.
fn post(share: &Share) -> Post {
    let (code, note, fields) = match &share.what {
        SharedEntity::Lead {
            context: ShareContext::New { code, note, fields, .. },
            ..
        } => (*code, note.as_str(), fields.clone()),
        // None is posted for these.
        SharedEntity::Lead { .. } | SharedEntity::Opportunity { .. } => Default::default(),
    };
    // First, since a long note may be cut.
    let separator = if note.is_empty() { "" } else { "\n" };
    Post {
        target: Target::Lead(share.entity_id().to_owned()),
        code,
        note: Some(format!("{}{separator}{note}", mark(share))),
        at: None,
        owner_id: share.user_id.clone(),
        fields,
        faults: vec![],
    }
}

/// What the note of a share's activity begins with, so that it can be found again.
fn mark(share: &Share) -> String {
    format!("leadgate share {}", share.id)
}

/// What is left of a time that began then.
fn left(since: Timestamp, limit: Duration) -> Option<Duration> {
    let elapsed = Duration::try_from(clock::now().duration_since(since)).unwrap_or_default();
    limit.checked_sub(elapsed).filter(|left| !left.is_zero())
}

/// What an error says about the step that failed with it.
fn judge(step: ShareStep, error: Error) -> Event {
    match error.outcome() {
        Outcome::Unknown => Event::Lost,
        Outcome::NotExecuted { is_transient: true } => Event::NotTaken,
        _ if step == ShareStep::Revoke && is_gone(&error) => Event::Gone,
        _ => Event::Refused(error),
    }
}

/// The same error with its faults where they stand in the request for a share.
fn at_home(step: ShareStep, mut error: Error) -> Error {
    if let (ShareStep::PostActivity, ErrorKind::Invalid(faults)) = (step, &mut error.kind) {
        for fault in faults {
            let field = fault.field.replacen("lead.custom", "fields", 1);
            fault.field = match field.as_str() {
                "lead" => "new_activity".to_owned(),
                field => format!("new_activity.{}", field.trim_start_matches("lead.")),
            };
        }
    }
    error
}

/// Whether a revoke failed because there is nothing to revoke.
fn is_gone(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::NotFound(_))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::pin::Pin;
    use std::task::{Context as Cx, Poll};

    use proptest::prelude::*;
    use secrecy::SecretString;
    use tokio::runtime::{Builder, Runtime};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::config::Config;
    use crate::crm;
    use crate::domain::share::Access;
    use crate::quota::Quota;
    use crate::sharing::{Parts, Sharing};
    use crate::store::Store;
    use crate::telemetry::metrics::Metrics;
    use crate::users::Users;
    use leadgate_simulator::{Fault, Options, Reshare, Simulator, What as Mishap};

    const SAM: &str = "a0000000-0000-4000-8000-000000000002";
    const LIMIT: Duration = Duration::from_secs(60);

    /// A future that dies after so many polls, and with it all that it has in its hands.
    struct Mortal<F> {
        life: Option<Pin<Box<F>>>,
        polls: usize,
    }

    impl<F: Future> Mortal<F> {
        fn new(life: F, polls: usize) -> Self {
            Self {
                life: Some(Box::pin(life)),
                polls,
            }
        }
    }

    impl<F: Future> Future for Mortal<F> {
        /// Whether it came to its end by itself.
        type Output = bool;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<bool> {
            if self.polls == 0 {
                self.life = None;
                return Poll::Ready(false);
            }
            self.polls -= 1;
            let Some(life) = &mut self.life else {
                return Poll::Ready(false);
            };
            life.as_mut().poll(cx).map(|_| true)
        }
    }

    /// LeadSquared and the store, which outlive every process.
    struct World {
        outside: Runtime,
        simulator: Simulator,
        folder: tempfile::TempDir,
        settings: String,
    }

    /// The store in that folder. The process before may have died a moment ago.
    async fn open(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite://{}/leadgate.db", folder.path().display());
        loop {
            match Store::open(&url).await {
                Ok(store) => return store,
                Err(fault) => assert!(fault.is_in_use(), "{fault}"),
            }
        }
    }

    impl World {
        fn new(faults: &[(&'static str, Mishap)]) -> Self {
            let outside = Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let mut options = Options {
                // A second grant would be seen.
                reshare: Reshare::Duplicate,
                // Also those whose answer was lost are processed, by time.
                share_polls: 0,
                share_delay: Duration::from_millis(3),
                ..Options::default()
            };
            options.limits.calls = 0;
            let (access, secret) = (options.access_key.clone(), options.secret_key.clone());
            let simulator = Simulator::new(options);
            for (endpoint, what) in faults {
                simulator.order(Fault::new(*endpoint, what.clone()));
            }
            let address = outside.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                TaskTracker::new().spawn(simulator.clone().serve(listener, std::future::pending()));
                address
            });
            let settings = format!(
                "[tenants.acme]\nbase_url = \"http://{address}\"\naccess_key = \"{access}\"\nsecret_key = \"{secret}\"\n\
                 [tenants.acme.limits]\ncalls = 10000\n[tenants.acme.sharing]\ndefault_activity_type = 201\n\
                 poll_every = \"4ms\"\npoll_at_most = \"8ms\"\nsettle_after = \"5ms\"\n"
            );
            Self {
                outside,
                simulator,
                folder: tempfile::tempdir().unwrap(),
                settings,
            }
        }

        /// What an operator would find in the store while no process runs.
        fn with_store<T, F: Future<Output = T>>(&self, look: impl FnOnce(Store) -> F) -> T {
            self.outside.block_on(async {
                let store = open(&self.folder).await;
                let found = look(store.clone()).await;
                store.close().await;
                found
            })
        }

        /// A share of a lead of its own, written down.
        fn write(&self, name: &str) -> Share {
            let lead = self.simulator.insert_lead(&[("FirstName", name)]);
            let leads = self.simulator.leads();
            let row = leads
                .iter()
                .find(|row| row["ProspectID"].as_deref() == Some(&lead))
                .unwrap();
            let what = SharedEntity::Lead {
                id: lead.clone(),
                number: row["ProspectAutoId"].clone().unwrap(),
                context: ShareContext::New {
                    id: None,
                    code: 201,
                    note: String::new(),
                    fields: BTreeMap::new(),
                },
            };
            let share = Share::new(
                uuid::Uuid::now_v7(),
                what,
                SAM.to_owned(),
                Access::Write,
                30,
                clock::now(),
            );
            let added = share.clone();
            self.with_store(|store| async move { store.add_share("acme", &added, None).await.unwrap() });
            share
        }

        /// One process: it goes on with what is to be done, and dies after so many polls. Whether it came to an end before.
        fn live(&self, polls: usize, revoke: Option<&Share>) -> bool {
            self.live_with(polls, revoke.map(|share| (share, Event::Revoke)))
        }

        /// One process in which that happens to a share.
        fn live_with(&self, polls: usize, change: Option<(&Share, Event)>) -> bool {
            let process = Builder::new_current_thread().enable_all().build().unwrap();
            let life = async {
                let sharing = self.sharing(open(&self.folder).await);
                let shared = sharing.shared.clone();
                let unsettled = shared.store.unsettled_shares("acme").await.unwrap();
                let mut drivers = Vec::new();
                for share in unsettled {
                    let handle = shared.handles.of(share);
                    assert!(handle.take_over());
                    let shared = shared.clone();
                    drivers.push(async move {
                        let _ = shared.drive_until_idle(&handle).await;
                    });
                }
                if let Some((share, event)) = change {
                    let handle = shared.handle(share.id).await.unwrap();
                    let _ = shared.happen(&handle, event).await;
                    // Nobody drives one that was at rest.
                    if handle.take_over() {
                        let shared = shared.clone();
                        shared.drive_until_idle(&handle).await.unwrap_or(());
                    }
                }
                for driver in drivers {
                    driver.await;
                }
            };
            process.block_on(Mortal::new(life, polls))
        }

        fn sharing(&self, store: Store) -> Sharing {
            let config = Config::read("test", &self.settings, std::iter::empty()).unwrap();
            let tenant = config.tenants.into_values().next().unwrap();
            let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
            let quota = Quota::new(
                &tenant.limits,
                &Default::default(),
                Default::default(),
                tenant.upstream.breaker(),
                None,
                &tasks,
                stop.clone(),
            );
            let keys = crm::Keys {
                access: SecretString::from(Options::default().access_key),
                secret: SecretString::from(Options::default().secret_key),
            };
            let metrics = std::sync::Arc::new(Metrics::default());
            let crm = crm::Client::new("acme", tenant.base_url, &keys, tenant.upstream, quota, metrics).unwrap();
            let parts = Parts {
                tenant: "acme".to_owned(),
                users: Users::new(crm.clone(), LIMIT, tasks.clone()),
                crm,
                store,
                keep_request_ids: LIMIT,
                activity_offset: tenant.activity_offset,
                activities_together: tenant.batching.activities,
                tasks,
                stop,
            };
            Sharing::new(parts, tenant.sharing)
        }

        fn now(&self, share: &Share) -> Share {
            let found = self.with_store(|store| async move { store.share("acme", share.id).await });
            found.unwrap().unwrap()
        }

        /// What has to be true of a world that has come to rest.
        fn check(&self, shares: &[Share]) {
            let there: Vec<_> = self.simulator.shares();
            let there: Vec<_> = there
                .iter()
                .map(|share| {
                    (
                        share.entity_id.clone(),
                        share.activity_id.clone().unwrap(),
                        share.access,
                    )
                })
                .collect();
            let distinct: BTreeSet<_> = there.iter().cloned().collect();
            assert_eq!(distinct.len(), there.len(), "granted twice: {there:?}");
            let (mut certain, mut possible) = (BTreeSet::new(), BTreeSet::new());
            for share in shares {
                let now = self.now(share);
                assert!(!now.stage.is_unsettled(), "not at rest: {now:?}");
                let grant = || {
                    let number = now.lead_number().unwrap().to_owned();
                    (number, now.activity_id().unwrap_or_default().to_owned(), 2)
                };
                match (now.stage, now.step) {
                    (ShareStage::Active, _) => drop(certain.insert(grant())),
                    (ShareStage::Uncertain, _) => drop(possible.insert(grant())),
                    _ => {}
                }
                let posted = self.simulator.activities();
                let posted = posted
                    .iter()
                    .filter(|activity| activity.note.as_deref() == Some(&mark(share)));
                assert!(posted.count() <= 2);
            }
            assert!(certain.is_subset(&distinct), "{certain:?} are not all of {distinct:?}");
            let rest: BTreeSet<_> = distinct.difference(&certain).cloned().collect();
            assert!(
                rest.is_subset(&possible),
                "LeadSquared has {rest:?}, which nobody knows of"
            );
        }
    }

    #[test]
    fn a_share_survives_the_death_of_its_process_at_every_await() {
        for polls in 1.. {
            let world = World::new(&[]);
            let share = world.write("Ann");
            let ended = world.live(polls, None);
            assert!(world.live(usize::MAX, None));
            world.check(std::slice::from_ref(&share));
            if ended {
                assert_eq!(world.now(&share).stage, ShareStage::Active);
                assert!(polls > 10, "there are more awaits than {polls}");
                return;
            }
        }
    }

    #[test]
    fn a_share_that_is_retried_is_not_granted_twice_wherever_its_process_dies() {
        for polls in 1.. {
            let world = World::new(&[("EntityAccess.Share", Mishap::CommitThenDrop)]);
            let share = world.write("Ann");
            assert!(world.live(usize::MAX, None));
            assert_eq!(world.now(&share).stage, ShareStage::Uncertain);
            let ended = world.live_with(polls, Some((&share, Event::Retry)));
            assert!(world.live(usize::MAX, None));
            world.check(std::slice::from_ref(&share));
            if ended {
                assert_eq!(world.now(&share).stage, ShareStage::Active);
                assert!(polls > 10, "there are more awaits than {polls}");
                return;
            }
            // The process may have died before the retry was written down, or when LeadSquared was about to be asked.
            if world.now(&share).stage == ShareStage::Uncertain {
                assert!(world.live_with(usize::MAX, Some((&share, Event::Retry))));
                world.check(std::slice::from_ref(&share));
            }
            assert_eq!(world.now(&share).stage, ShareStage::Active);
        }
    }

    #[test]
    fn a_share_whose_time_is_over_has_expired_and_one_that_is_settled_costs_nothing() {
        let world = World::new(&[]);
        let share = world.write("Ann");
        assert!(world.live(usize::MAX, None));
        assert_eq!(world.now(&share).stage, ShareStage::Active);
        let calls = world.simulator.calls().len();
        world.outside.block_on(async {
            let store = open(&world.folder).await;
            let now = clock::now();
            let mut over = store.share("acme", share.id).await.unwrap().unwrap();
            over.expires = Some(now - Duration::from_secs(1));
            store.save_share("acme", &over, false).await.unwrap();
            let sharing = world.sharing(store.clone());
            assert_eq!(sharing.resume().await.unwrap(), 0);
            let (share, changes) = sharing.get(share.id).await.unwrap();
            assert_eq!(share.stage, ShareStage::Expired);
            assert_eq!(changes.last().unwrap().state, crate::domain::share::ShareState::Expired);
            store.close().await;
        });
        assert_eq!(world.simulator.calls().len(), calls);
    }

    fn mishap() -> impl Strategy<Value = (&'static str, Mishap)> {
        let endpoint = proptest::sample::select(vec![
            "ProspectActivity.Create",
            "ProspectActivity.Retrieve",
            "EntityAccess.Share",
            "EntityAccess.Status",
            "EntityAccess.Revoke",
        ]);
        let what = proptest::sample::select(vec![
            Mishap::DropBefore,
            Mishap::CommitThenDrop,
            Mishap::GarbageJson,
            Mishap::Html502,
            Mishap::Empty500,
            Mishap::Refuse,
        ]);
        (endpoint, what)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_lost_and_whoever_dies_ledger_and_leadsquared_agree(
            faults in proptest::collection::vec(mishap(), 0..5),
            lives in proptest::collection::vec((1..60_usize, proptest::sample::select(vec![None, Some(Event::Revoke), Some(Event::Retry)])), 0..4),
            revoke in any::<bool>(),
        ) {
            let world = World::new(&faults);
            let shares: Vec<_> = ["Ann", "Ben", "Cid"].iter().map(|name| world.write(name)).collect();
            for (polls, event) in lives {
                world.live_with(polls, event.map(|event| (&shares[0], event)));
            }
            prop_assert!(world.live(usize::MAX, revoke.then_some(&shares[1])));
            // What was lost may come still; then there is nothing left to be lost.
            prop_assert!(world.live(usize::MAX, None));
            world.check(&shares);
        }
    }
}
