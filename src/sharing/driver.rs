//! Executes the tasks of shares. Each step is stored before and after it is executed, so a later process knows what may have
//! happened. All decisions about the next task are in `machine`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Shared;
use super::handle::ShareHandle;
use super::machine::{self, ShareEvent, ShareTask};
use crate::clock;
use crate::context::{Criticality, RequestContext};
use crate::crm::CallPermit;
use crate::crm::activity::{CreateActivity, RetrieveActivities};
use crate::crm::batch::{BatchMode, Ready};
use crate::crm::share::{GetAccessStatus, GrantAccess, RevokeAccess};
use crate::domain::activity::{ActivityTarget, ActivityWriteRequest, NOTE};
use crate::domain::share::{Share, ShareContext, ShareStage, ShareStep, SharedEntity};
use crate::domain::user;
use crate::error::{Error, ErrorKind, Outcome, Result};

/// Number of activities per page of the look-up for an activity whose post has an unknown outcome.
const LOOKUP_PAGE_SIZE: usize = 100;
/// Maximum number of pages of this look-up.
const MAX_LOOKUP_PAGES: usize = 5;
/// Maximum number of status polls after a revoke was requested.
const POLLS_BEFORE_REVOKE: u32 = 3;
/// The caller of status polls. Status polls use a separate part of the quota, not the part of the caller of the share.
const POLLS_CALLER: &str = "leadgate-polls";
/// The first pause before a retry. Each further pause is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause before a retry.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The process is shutting down. The next process continues with the share.
struct ShuttingDown;

/// A step that has a slot of the quota.
enum ReadyStep {
    Post(Ready, CreateActivity, BatchMode),
    Request(CallPermit),
}

/// The state of a driver of one share.
struct DriveState {
    /// Since when the current task fails.
    blocked_since: Option<Instant>,
    /// The pause before the next retry.
    next_pause: Duration,
    /// Number of status polls.
    polls: u32,
    /// When the status was last polled.
    last_poll: Option<Instant>,
    /// When the account was last resumed after a pause.
    resumed: Option<Instant>,
}

impl Shared {
    /// Starts a background task that drives the share, unless there is nothing to do or another task drives it.
    pub(super) fn drive(self: &Arc<Self>, handle: Arc<ShareHandle>) {
        if machine::task(handle.current().stage) != ShareTask::Idle && handle.start_driving() {
            let this = self.clone();
            self.tasks.spawn(async move {
                let _ = this.drive_until_idle(&handle).await;
            });
        }
    }

    /// Executes tasks until there is nothing to do or the process is shutting down.
    async fn drive_until_idle(self: &Arc<Self>, handle: &Arc<ShareHandle>) -> std::result::Result<(), ShuttingDown> {
        let mut drive_state = DriveState::new();
        loop {
            if self.stop.is_cancelled() {
                return Err(ShuttingDown);
            }
            self.wait_while_paused(&mut drive_state).await?;
            let share = handle.current();
            let event = match machine::task(share.stage) {
                ShareTask::Idle => {
                    handle.stop_driving();
                    // A revoke or retry may have been requested in the meantime.
                    if machine::task(handle.current().stage) == ShareTask::Idle || !handle.start_driving() {
                        return Ok(());
                    }
                    continue;
                }
                // The step was started by an earlier process. A step of this process ends in `execute_step`.
                ShareTask::RecoverStep => match self.wait_for_earlier_owner(handle).await? {
                    true => continue,
                    false => ShareEvent::OutcomeUnknown,
                },
                ShareTask::Execute(step) => match self.execute_step(handle, &share, step, &mut drive_state).await? {
                    Some(event) => event,
                    None => continue,
                },
                ShareTask::VerifyActivity => self.verify_activity(handle, &share, &mut drive_state).await?,
                ShareTask::PollStatus => self.poll_status(handle, &share, &mut drive_state).await?,
                ShareTask::EndPredecessor => self.end_predecessor(handle, &share).await,
            };
            let is_blocked = event == ShareEvent::NotExecuted;
            self.apply_until_stored(handle, event).await?;
            if !is_blocked {
                drive_state = DriveState::new();
            } else if self.should_give_up(&drive_state) {
                let error = ErrorKind::Unavailable { sent: false }.into();
                self.apply_until_stored(handle, ShareEvent::GaveUp(error)).await?;
                // In a stage that cannot be given up, the task is retried with the initial pause.
                drive_state = DriveState::new();
            } else {
                self.back_off(&mut drive_state).await?;
            }
        }
    }

    /// Waits while an earlier owner of the tenant may still execute the step of a share, or store its result. Returns `false` when it
    /// cannot any more, and `true` if the share is to be looked at again.
    async fn wait_for_earlier_owner(&self, handle: &ShareHandle) -> std::result::Result<bool, ShuttingDown> {
        let Some(end) = self.earlier_calls_end else {
            return Ok(false);
        };
        let before = handle.current();
        let had_ended = Instant::now() >= end;
        if !had_ended {
            self.sleep(PAUSE.min(end - Instant::now())).await?;
        }
        // A result that was stored before the end may be read after it.
        let is_current = self.reload(handle).await.is_ok();
        if !is_current {
            self.sleep(PAUSE).await?;
        }
        Ok(!had_ended || !is_current || handle.current().stage != before.stage)
    }

    /// Waits for a slot, stores that the step starts, and executes it. Returns `None` if the step was not started.
    async fn execute_step(
        &self,
        handle: &ShareHandle,
        share: &Share,
        step: ShareStep,
        drive_state: &mut DriveState,
    ) -> std::result::Result<Option<ShareEvent>, ShuttingDown> {
        // A share request with an unknown outcome may still be executed. The revoke waits for it.
        if step == ShareStep::Revoke
            && share.possibly_granted_before
            && let Some(remaining_time) = share
                .last_requested
                .and_then(|last_requested| remaining(last_requested, self.settings.settle_after))
        {
            self.sleep(remaining_time).await?;
        }
        let context = self.context_for(handle, share);
        let ready = match step {
            ShareStep::PostActivity => {
                let (create, way) = self.activity(&context, share).await;
                let ready = self.crm.ready(way, &context, &create).await;
                ready.map(|ready| ReadyStep::Post(ready, create, way))
            }
            ShareStep::Share => self
                .crm
                .acquire(&context, &GrantAccess(share))
                .await
                .map(ReadyStep::Request),
            ShareStep::Revoke => self
                .crm
                .acquire(&context, &self.revoke(share))
                .await
                .map(ReadyStep::Request),
        };
        let started = match ready {
            Ok(ready) => match self.apply_event(handle, ShareEvent::StepStarted(step)).await {
                Ok(Some(share)) => Ok((ready, share)),
                // The stage has changed, for example by a revoke.
                Ok(None) => return Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let (ready, share) = match started {
            Ok(started) => started,
            // The next attempt is made when the account is resumed.
            Err(error) if error.kind == ErrorKind::TenantPaused => return Ok(None),
            Err(error) => {
                if self.should_give_up(drive_state) {
                    return Ok(Some(ShareEvent::GaveUp(error)));
                }
                self.back_off(drive_state).await?;
                return Ok(None);
            }
        };
        let crm = &self.crm;
        let executed = match ready {
            ReadyStep::Post(ready, create, way) => crm
                .call_batched_from(Some(ready), way, &context, &create, &mut None)
                .await
                .map(ShareEvent::ActivityPosted),
            ReadyStep::Request(place) if step == ShareStep::Revoke => crm
                .call_from(Some(place), &context, &self.revoke(&share))
                .await
                .map(ShareEvent::RequestAccepted),
            ReadyStep::Request(place) => crm
                .call_from(Some(place), &context, &GrantAccess(&share))
                .await
                .map(ShareEvent::RequestAccepted),
        };
        Ok(Some(executed.unwrap_or_else(|error| {
            event_of_error(step, with_share_fields(step, error))
        })))
    }

    fn revoke<'a>(&'a self, share: &'a Share) -> RevokeAccess<'a> {
        RevokeAccess {
            share,
            gone_texts: &self.settings.gone_texts,
        }
    }

    /// Returns the post of the activity of a share, and whether it may be part of a batch. The batch endpoint identifies owners only
    /// by their email addresses.
    async fn activity(&self, context: &RequestContext, share: &Share) -> (CreateActivity, BatchMode) {
        // An activity that was lost with its batch may have been the reason why the batch failed.
        let owner = match self.activities_together && !share.posted_again {
            true => {
                self.users
                    .get_if_available(context, &user::UserKey::Id(share.user_id.clone()))
                    .await
            }
            false => None,
        };
        let owner_email_address = owner
            .map(|user| user.email_address)
            .filter(|address| !address.is_empty());
        let way = if owner_email_address.is_some() {
            BatchMode::Opportunistic
        } else {
            BatchMode::Never
        };
        let create = CreateActivity {
            post: Arc::new(post(share)),
            lead_id: share.entity_id().to_owned(),
            owner_email_address,
        };
        (create, way)
    }

    /// Looks up the activity whose post has an unknown outcome. Its note contains the id of the share.
    async fn verify_activity(
        &self,
        handle: &ShareHandle,
        share: &Share,
        drive_state: &mut DriveState,
    ) -> std::result::Result<ShareEvent, ShuttingDown> {
        let SharedEntity::Lead {
            id: lead_id,
            context: ShareContext::New { code, .. },
            ..
        } = &share.entity
        else {
            return Ok(ShareEvent::ActivityNotFound);
        };
        let marker = activity_marker(share);
        loop {
            let error = match self
                .find_activity(&self.context_for(handle, share), lead_id, *code, &marker)
                .await
            {
                Ok(Some(id)) => return Ok(ShareEvent::ActivityPosted(id)),
                // The post may still be executed.
                Ok(None) => match remaining(share.changed, self.settings.settle_after) {
                    None => return Ok(ShareEvent::ActivityNotFound),
                    Some(remaining_time) => {
                        self.sleep(remaining_time).await?;
                        continue;
                    }
                },
                Err(error) if error.kind == ErrorKind::TenantPaused => {
                    self.wait_while_paused(drive_state).await?;
                    continue;
                }
                Err(error) => error,
            };
            if self.should_give_up(drive_state) {
                return Ok(ShareEvent::GaveUp(error));
            }
            self.back_off(drive_state).await?;
        }
    }

    async fn find_activity(
        &self,
        context: &RequestContext,
        lead_id: &str,
        code: i32,
        marker: &str,
    ) -> Result<Option<String>> {
        for page in 0..MAX_LOOKUP_PAGES {
            let operation = RetrieveActivities {
                lead_id: lead_id.to_owned(),
                code: Some(code),
                offset: self.activity_offset.of(page, LOOKUP_PAGE_SIZE),
                count: LOOKUP_PAGE_SIZE,
            };
            let found = self.crm.call(context, &operation).await?.activities;
            let is_last = found.count() < LOOKUP_PAGE_SIZE;
            let note =
                |fields: &crate::domain::lead::RawFields| fields.get(NOTE).cloned().flatten().unwrap_or_default();
            let mut activities = found.records.into_iter();
            if let Some(ours) = activities.find(|activity| note(&activity.fields).contains(marker)) {
                return Ok(Some(ours.id));
            }
            if !found.unreadable.is_empty() {
                // The unreadable activity may be the activity of the share.
                return Err(ErrorKind::OutcomeUnknown.into());
            }
            if is_last {
                return Ok(None);
            }
        }
        // The lead has more activities than the look-up reads, so the activity may still exist.
        Err(ErrorKind::OutcomeUnknown.into())
    }

    /// Polls the status of the upstream request until its result is known, with increasing pauses.
    async fn poll_status(
        &self,
        handle: &ShareHandle,
        share: &Share,
        drive_state: &mut DriveState,
    ) -> std::result::Result<ShareEvent, ShuttingDown> {
        let Some(id) = share.upstream_request_id.as_deref() else {
            return Ok(ShareEvent::GaveUp(ErrorKind::OutcomeUnknown.into()));
        };
        let last_requested = share.last_requested.unwrap_or(share.changed);
        let mut polls_before_revoke = POLLS_BEFORE_REVOKE;
        loop {
            self.wait_for_next_poll(handle, drive_state).await?;
            self.wait_while_paused(drive_state).await?;
            let operation = GetAccessStatus {
                id,
                processed: &self.settings.processed,
                // These texts mean that a revoke is done. For a share request they are errors.
                gone_texts: match share.stage {
                    ShareStage::RevokeInProgress => &self.settings.gone_texts,
                    _ => &[],
                },
            };
            // The next poll is the retry.
            let context = self.context_for(handle, share).of(POLLS_CALLER, Criticality::Sheddable);
            let status = self.crm.try_once(&context, &operation).await;
            drive_state.last_poll = Some(Instant::now());
            // It was not sent, so it proves nothing about the time that LeadSquared needs.
            if status
                .as_ref()
                .is_err_and(|error| error.kind == ErrorKind::TenantPaused)
            {
                continue;
            }
            drive_state.polls += 1;
            match status {
                Ok(status) if status.processed => return Ok(ShareEvent::RequestProcessed),
                Ok(status) => {
                    if let Some(error) = status.failed {
                        return Ok(match share.stage {
                            ShareStage::RevokeInProgress if is_access_not_found(&error) => ShareEvent::AccessNotFound,
                            _ => ShareEvent::Rejected(error),
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(share_id = %share.id, error = error.name(), "polling the status of a share failed");
                }
            }
            // A revoke does not wait as long for the result as a share does.
            if handle.current().revoke_requested {
                polls_before_revoke = polls_before_revoke.saturating_sub(1);
            }
            let is_over = remaining(last_requested, self.settings.give_up_after).is_none()
                && drive_state
                    .resumed
                    .is_none_or(|resumed| resumed.elapsed() >= self.settings.give_up_after);
            if polls_before_revoke == 0 || is_over {
                return Ok(ShareEvent::GaveUp(ErrorKind::OutcomeUnknown.into()));
            }
        }
    }

    /// Waits for the time of the next status poll. A new watcher makes it earlier, but not earlier than `poll_every` allows.
    async fn wait_for_next_poll(
        &self,
        handle: &ShareHandle,
        drive_state: &DriveState,
    ) -> std::result::Result<(), ShuttingDown> {
        let started = drive_state.last_poll.unwrap_or_else(Instant::now);
        loop {
            let at = started + drive_state.until_poll(self, handle.has_watchers());
            tokio::select! {
                () = tokio::time::sleep_until(at) => return Ok(()),
                () = handle.watcher_added() => {}
                () = self.stop.cancelled() => return Err(ShuttingDown),
            }
        }
    }

    /// Ends the share that this share extends, after this share is granted.
    async fn end_predecessor(self: &Arc<Self>, handle: &ShareHandle, share: &Share) -> ShareEvent {
        let Some(old) = share.extends else {
            return ShareEvent::PredecessorEnded;
        };
        // LeadSquared does not distinguish two shares of an opportunity, so there is nothing to revoke.
        let event = if share.is_of_lead() {
            ShareEvent::RevokeRequested
        } else {
            ShareEvent::ReplacedBySuccessor
        };
        let ended = async {
            let old = self.handle(old).await?;
            old.set_trace(&handle.trace());
            self.apply_event(&old, event).await?;
            self.drive(old);
            Ok::<_, Error>(())
        };
        match ended.await {
            // Any other error, for example because the old share was deleted, is final.
            Err(error) if matches!(error.kind, ErrorKind::StoreUnavailable | ErrorKind::Moved { .. }) => {
                ShareEvent::NotExecuted
            }
            _ => ShareEvent::PredecessorEnded,
        }
    }

    /// Applies an event and retries until the store accepts it. The event has happened and cannot be undone.
    async fn apply_until_stored(
        &self,
        handle: &ShareHandle,
        event: ShareEvent,
    ) -> std::result::Result<(), ShuttingDown> {
        while self.apply_event(handle, event.clone()).await.is_err() {
            self.sleep(PAUSE).await?;
        }
        Ok(())
    }

    async fn back_off(&self, drive_state: &mut DriveState) -> std::result::Result<(), ShuttingDown> {
        drive_state.blocked_since.get_or_insert_with(Instant::now);
        let pause = drive_state.next_pause;
        drive_state.next_pause = (pause * 2).min(MAX_PAUSE);
        self.sleep(pause).await
    }

    fn should_give_up(&self, drive_state: &DriveState) -> bool {
        let since = drive_state.blocked_since.map(|since| since.elapsed());
        since.is_some_and(|since| since >= self.settings.give_up_after)
    }

    /// Waits while the account is paused. The time before is forgotten, so that a pause does not count for `give_up_after`.
    async fn wait_while_paused(&self, drive_state: &mut DriveState) -> std::result::Result<(), ShuttingDown> {
        if !self.crm.is_paused() {
            return Ok(());
        }
        tokio::select! {
            () = self.crm.until_paused(false) => {}
            () = self.stop.cancelled() => return Err(ShuttingDown),
        }
        *drive_state = DriveState {
            resumed: Some(Instant::now()),
            ..DriveState::new()
        };
        Ok(())
    }

    async fn sleep(&self, pause: Duration) -> std::result::Result<(), ShuttingDown> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(ShuttingDown),
        }
    }

    /// The context of an upstream call for a share: with the caller of the share, and with `give_up_after` as deadline.
    fn context_for(&self, handle: &ShareHandle, share: &Share) -> RequestContext {
        let criticality = Criticality::named(&share.criticality).unwrap_or_default();
        RequestContext {
            mutation: share.request_id,
            trace: handle.trace(),
            ..RequestContext::internal(&share.id.to_string(), self.settings.give_up_after)
                .of(&share.caller, criticality)
        }
    }
}

impl DriveState {
    fn new() -> Self {
        Self {
            blocked_since: None,
            next_pause: PAUSE,
            polls: 0,
            last_poll: None,
            resumed: None,
        }
    }

    /// The time from the last status poll to the next one: 1, 2, 4 ... 30 s with the default settings. While the share has
    /// watchers: `poll_every`.
    fn until_poll(&self, shared: &Shared, has_watchers: bool) -> Duration {
        let min = shared.settings.poll_every;
        match self.polls {
            0 => min / 2,
            _ if has_watchers => min,
            polls => (min * 2_u32.saturating_pow((polls - 1).min(16))).min(shared.settings.poll_at_most.max(min)),
        }
    }
}

/// The activity of a share in the form in which it is posted.
fn post(share: &Share) -> ActivityWriteRequest {
    let (code, note, fields) = match &share.entity {
        SharedEntity::Lead {
            context: ShareContext::New { code, note, fields, .. },
            ..
        } => (*code, note.as_str(), fields.clone()),
        // No activity is posted for these shares.
        SharedEntity::Lead { .. } | SharedEntity::Opportunity { .. } => Default::default(),
    };
    // The marker comes first because LeadSquared may truncate a long note.
    let separator = if note.is_empty() { "" } else { "\n" };
    ActivityWriteRequest {
        target: ActivityTarget::Lead(share.entity_id().to_owned()),
        code,
        note: Some(format!("{}{separator}{note}", activity_marker(share))),
        at: None,
        owner_id: share.user_id.clone(),
        fields,
        violations: vec![],
    }
}

/// The beginning of the note of the activity of a share, for look-ups.
fn activity_marker(share: &Share) -> String {
    format!("leadgate share {}", share.id)
}

/// The remaining time of a period that started at `since`. `None` if it is over.
fn remaining(since: Timestamp, limit: Duration) -> Option<Duration> {
    let elapsed = Duration::try_from(clock::now().duration_since(since)).unwrap_or_default();
    limit.checked_sub(elapsed).filter(|time| !time.is_zero())
}

/// The event that follows from the error of a step.
fn event_of_error(step: ShareStep, error: Error) -> ShareEvent {
    match error.outcome() {
        Outcome::Unknown => ShareEvent::OutcomeUnknown,
        Outcome::NotExecuted { is_transient: true } => ShareEvent::NotExecuted,
        _ if step == ShareStep::Revoke && is_access_not_found(&error) => ShareEvent::AccessNotFound,
        _ => ShareEvent::Rejected(error),
    }
}

/// Returns the error with the field names of a share request.
fn with_share_fields(step: ShareStep, mut error: Error) -> Error {
    if let (ShareStep::PostActivity, ErrorKind::Invalid(violations)) = (step, &mut error.kind) {
        for violation in violations {
            let field = violation.field.replacen("lead.custom", "fields", 1);
            violation.field = match field.as_str() {
                "lead" => "new_activity".to_owned(),
                field => format!("new_activity.{}", field.trim_start_matches("lead.")),
            };
        }
    }
    error
}

/// Whether a revoke failed because there is no access to revoke.
fn is_access_not_found(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::NotFound(_))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::pin::Pin;
    use std::task::{Context as Cx, Poll};

    use proptest::prelude::*;
    use tokio::runtime::{Builder, Runtime};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::cluster::TenantLease;
    use crate::config::Config;
    use crate::crm;
    use crate::domain::share::Access;
    use crate::quota::{Before, Quota};
    use crate::sharing::{Sharing, SharingParts};
    use crate::store::Store;
    use crate::telemetry::metrics::Metrics;
    use crate::users::Users;
    use leadgate_simulator::{Fault, FaultKind as UpstreamFault, Options, Reshare, Simulator};

    const SAM: &str = "a0000000-0000-4000-8000-000000000002";
    const LIMIT: Duration = Duration::from_secs(60);

    /// A process that is killed after a number of polls: the future and all its state are dropped.
    struct KilledAfter<F> {
        process: Option<Pin<Box<F>>>,
        polls: usize,
    }

    impl<F: Future> KilledAfter<F> {
        fn new(process: F, polls: usize) -> Self {
            Self {
                process: Some(Box::pin(process)),
                polls,
            }
        }
    }

    impl<F: Future> Future for KilledAfter<F> {
        /// Whether the process ended by itself.
        type Output = bool;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<bool> {
            if self.polls == 0 {
                self.process = None;
                return Poll::Ready(false);
            }
            self.polls -= 1;
            let Some(process) = &mut self.process else {
                return Poll::Ready(false);
            };
            process.as_mut().poll(cx).map(|_| true)
        }
    }

    /// LeadSquared and the store. They outlive the processes of a test.
    struct TestWorld {
        runtime: Runtime,
        simulator: Simulator,
        directory: tempfile::TempDir,
        settings: String,
    }

    /// Opens the store in this directory. Waits until the killed process has released it.
    async fn open(directory: &tempfile::TempDir) -> Store {
        let url = format!("sqlite://{}/leadgate.db", directory.path().display());
        loop {
            match Store::open(&url).await {
                Ok(store) => return store,
                Err(error) => assert!(error.is_in_use(), "{error}"),
            }
        }
    }

    impl TestWorld {
        fn new(faults: &[(&'static str, UpstreamFault)]) -> Self {
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let mut options = Options {
                // Makes a second grant visible.
                reshare: Reshare::Duplicate,
                // Requests whose response was lost are also processed, by time.
                share_polls: 0,
                share_delay: Duration::from_millis(3),
                ..Options::default()
            };
            options.limits.calls = 0;
            let (access, secret) = (options.access_key.clone(), options.secret_key.clone());
            let simulator = Simulator::new(options);
            for (endpoint, fault) in faults {
                simulator.add_fault(Fault::new(*endpoint, fault.clone())).unwrap();
            }
            let address = runtime.block_on(async {
                let watcher = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = watcher.local_addr().unwrap();
                TaskTracker::new().spawn(simulator.clone().serve(watcher, std::future::pending()));
                address
            });
            let settings = format!(
                "[tenants.acme]\nbase_url = \"http://{address}\"\naccess_key = \"{access}\"\nsecret_key = \"{secret}\"\n\
                 [tenants.acme.limits]\ncalls = 10000\n[tenants.acme.sharing]\ndefault_activity_type = 201\n\
                 poll_every = \"4ms\"\npoll_at_most = \"8ms\"\nsettle_after = \"5ms\"\n"
            );
            Self {
                runtime,
                simulator,
                directory: tempfile::tempdir().unwrap(),
                settings,
            }
        }

        /// Reads the store while no process runs.
        fn with_store<T, F: Future<Output = T>>(&self, read: impl FnOnce(Store) -> F) -> T {
            self.runtime.block_on(async {
                let store = open(&self.directory).await;
                let found = read(store.clone()).await;
                store.close().await;
                found
            })
        }

        /// Stores a share of a new lead.
        fn create_share(&self, name: &str) -> Share {
            let lead = self.simulator.insert_lead(&[("FirstName", name)]);
            let leads = self.simulator.leads();
            let row = leads
                .iter()
                .find(|row| row["ProspectID"].as_deref() == Some(&lead))
                .unwrap();
            let entity = SharedEntity::Lead {
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
                entity,
                SAM.to_owned(),
                Access::Write,
                30,
                clock::now(),
            );
            let added = share.clone();
            self.with_store(|store| async move { store.add_share("acme", &added, None).await.unwrap() });
            share
        }

        /// Runs a process that continues all shares and is killed after a number of polls. Returns whether it ended before.
        fn run_process(&self, polls: usize, revoke: Option<&Share>) -> bool {
            self.run_process_with(polls, revoke.map(|share| (share, ShareEvent::RevokeRequested)))
        }

        /// Runs a process in which this event happens to a share.
        fn run_process_with(&self, polls: usize, change: Option<(&Share, ShareEvent)>) -> bool {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let process = async {
                let sharing = self.sharing(open(&self.directory).await);
                let shared = sharing.shared.clone();
                let unfinished = shared.store.shares_in_progress("acme").await.unwrap();
                let mut drivers = Vec::new();
                for share in unfinished {
                    let handle = shared.handles.of(share);
                    assert!(handle.start_driving());
                    let shared = shared.clone();
                    drivers.push(async move {
                        let _ = shared.drive_until_idle(&handle).await;
                    });
                }
                if let Some((share, event)) = change {
                    let handle = shared.handle(share.id).await.unwrap();
                    let _ = shared.apply_event(&handle, event).await;
                    // A share without tasks has no driver.
                    if handle.start_driving() {
                        let shared = shared.clone();
                        shared.drive_until_idle(&handle).await.unwrap_or(());
                    }
                }
                for driver in drivers {
                    driver.await;
                }
            };
            runtime.block_on(KilledAfter::new(process, polls))
        }

        fn sharing(&self, store: Store) -> Sharing {
            let config = Config::read("test", &self.settings, std::iter::empty()).unwrap();
            let tenant = config.tenants.into_values().next().unwrap();
            let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
            let quota = Quota::new(
                "acme",
                &tenant.limits,
                &Default::default(),
                Default::default(),
                tenant.upstream.breaker(),
                Before::Nothing,
                TenantLease::permanent(),
                &tasks,
                stop.clone(),
            );
            let metrics = std::sync::Arc::new(Metrics::default());
            let crm = crm::Client::new("acme", tenant.base_url, &tenant.keys, tenant.upstream, quota, metrics).unwrap();
            let parts = SharingParts {
                tenant: "acme".to_owned(),
                users: Users::new(crm.clone(), LIMIT, tasks.clone()),
                crm,
                store,
                keep_request_ids: LIMIT,
                lease: TenantLease::permanent(),
                activity_offset: tenant.activity_offset,
                activities_together: tenant.batching.activities,
                tasks,
                stop,
            };
            Sharing::new(parts, tenant.sharing)
        }

        fn stored(&self, share: &Share) -> Share {
            let found = self.with_store(|store| async move { store.share("acme", share.id).await });
            found.unwrap().unwrap()
        }

        /// Checks that the store and LeadSquared agree. No share has tasks.
        fn check(&self, shares: &[Share]) {
            let granted = self.simulator.shares();
            let granted: Vec<_> = granted
                .iter()
                .map(|share| {
                    (
                        share.entity_id.clone(),
                        share.activity_id.clone().unwrap(),
                        share.access,
                    )
                })
                .collect();
            let distinct: BTreeSet<_> = granted.iter().cloned().collect();
            assert_eq!(distinct.len(), granted.len(), "granted twice: {granted:?}");
            let (mut certain, mut possible) = (BTreeSet::new(), BTreeSet::new());
            for share in shares {
                let now = self.stored(share);
                assert!(!now.stage.is_in_progress(), "in progress: {now:?}");
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
                    .filter(|activity| activity.note.as_deref() == Some(&activity_marker(share)));
                assert!(posted.count() <= 2);
            }
            assert!(
                certain.is_subset(&distinct),
                "granted according to the store: {certain:?}, in LeadSquared: {distinct:?}"
            );
            let rest: BTreeSet<_> = distinct.difference(&certain).cloned().collect();
            assert!(
                rest.is_subset(&possible),
                "the store does not know these grants: {rest:?}"
            );
        }
    }

    #[test]
    fn a_share_is_completed_after_a_crash_at_every_await() {
        for polls in 1.. {
            let world = TestWorld::new(&[]);
            let share = world.create_share("Ann");
            let ended = world.run_process(polls, None);
            assert!(world.run_process(usize::MAX, None));
            world.check(std::slice::from_ref(&share));
            if ended {
                assert_eq!(world.stored(&share).stage, ShareStage::Active);
                assert!(polls > 10, "only {polls} polls");
                return;
            }
        }
    }

    #[test]
    fn a_retried_share_is_not_granted_twice_after_a_crash_at_every_await() {
        for polls in 1.. {
            let world = TestWorld::new(&[("EntityAccess.Share", UpstreamFault::CommitThenDrop)]);
            let share = world.create_share("Ann");
            assert!(world.run_process(usize::MAX, None));
            assert_eq!(world.stored(&share).stage, ShareStage::Uncertain);
            let ended = world.run_process_with(polls, Some((&share, ShareEvent::RetryRequested)));
            assert!(world.run_process(usize::MAX, None));
            world.check(std::slice::from_ref(&share));
            if ended {
                assert_eq!(world.stored(&share).stage, ShareStage::Active);
                assert!(polls > 10, "only {polls} polls");
                return;
            }
            // The process may have been killed before the retry was stored, or before the request was sent.
            if world.stored(&share).stage == ShareStage::Uncertain {
                assert!(world.run_process_with(usize::MAX, Some((&share, ShareEvent::RetryRequested))));
                world.check(std::slice::from_ref(&share));
            }
            assert_eq!(world.stored(&share).stage, ShareStage::Active);
        }
    }

    #[test]
    fn a_share_expires_after_its_duration_without_an_upstream_call() {
        let world = TestWorld::new(&[]);
        let share = world.create_share("Ann");
        assert!(world.run_process(usize::MAX, None));
        assert_eq!(world.stored(&share).stage, ShareStage::Active);
        let calls = world.simulator.calls().len();
        world.runtime.block_on(async {
            let store = open(&world.directory).await;
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

    /// Sets the end of a stored share without the process that uses the store.
    async fn end_now(store: &Store, share: &Share) {
        let mut over = store.share("acme", share.id).await.unwrap().unwrap();
        over.expires = Some(clock::now() - Duration::from_secs(1));
        store.save_share("acme", &over, false).await.unwrap();
    }

    #[test]
    fn the_store_is_read_for_expired_shares_only_if_there_may_be_one() {
        let world = TestWorld::new(&[]);
        let (first, second) = (world.create_share("Ann"), world.create_share("Bob"));
        assert!(world.run_process(usize::MAX, None));
        world.runtime.block_on(async {
            let store = open(&world.directory).await;
            let sharing = world.sharing(store.clone());
            let stage = async |share: &Share| store.share("acme", share.id).await.unwrap().unwrap().stage;
            sharing.expire_due().await.unwrap();
            for share in [&first, &second] {
                end_now(&store, share).await;
            }
            sharing.expire_due().await.unwrap();
            assert_eq!(stage(&first).await, ShareStage::Active);
            // A share that was read is known.
            assert_eq!(sharing.get(first.id).await.unwrap().0.stage, ShareStage::Active);
            sharing.expire_due().await.unwrap();
            assert_eq!(
                (stage(&first).await, stage(&second).await),
                (ShareStage::Expired, ShareStage::Expired)
            );
            store.close().await;
        });
    }

    #[test]
    fn a_share_that_is_granted_expires_in_the_process_that_granted_it() {
        let world = TestWorld::new(&[]);
        let share = world.create_share("Ann");
        world.runtime.block_on(async {
            let store = open(&world.directory).await;
            let sharing = world.sharing(store.clone());
            sharing.expire_due().await.unwrap();
            assert!(sharing.shared.expiry.is_before(Timestamp::MAX - Duration::from_secs(1)));
            sharing.resume().await.unwrap();
            let expires = loop {
                let found = store.share("acme", share.id).await.unwrap().unwrap();
                match found.stage {
                    ShareStage::Active => break found.expires.unwrap(),
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            };
            assert!(sharing.shared.expiry.is_before(clock::now()));
            assert!(!sharing.shared.expiry.is_before(expires));
            // Afterwards the store is read again.
            sharing.delete_expired().await.unwrap();
            assert!(!sharing.shared.expiry.is_before(clock::now()));
            // Dropped after its first poll, as when a caller cancels.
            let mut expiring = Box::pin(sharing.expire_due());
            let is_pending = std::future::poll_fn(|cx| Poll::Ready(expiring.as_mut().poll(cx).is_pending())).await;
            drop(expiring);
            // It may have ended at the first poll.
            assert_ne!(is_pending, sharing.shared.expiry.is_before(clock::now()));
            sharing.expire_due().await.unwrap();
            assert!(sharing.shared.expiry.is_before(clock::now()));
            store.close().await;
        });
    }

    fn upstream_fault() -> impl Strategy<Value = (&'static str, UpstreamFault)> {
        let endpoint = proptest::sample::select(vec![
            "ProspectActivity.Create",
            "ProspectActivity.Retrieve",
            "EntityAccess.Share",
            "EntityAccess.Status",
            "EntityAccess.Revoke",
        ]);
        let fault = proptest::sample::select(vec![
            UpstreamFault::DropBefore,
            UpstreamFault::CommitThenDrop,
            UpstreamFault::GarbageJson,
            UpstreamFault::Html502,
            UpstreamFault::Empty500,
            UpstreamFault::Refuse,
        ]);
        (endpoint, fault)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn store_and_leadsquared_agree_after_crashes_and_upstream_faults(
            faults in proptest::collection::vec(upstream_fault(), 0..5),
            processes in proptest::collection::vec((1..60_usize, proptest::sample::select(vec![None, Some(ShareEvent::RevokeRequested), Some(ShareEvent::RetryRequested)])), 0..4),
            revoke in any::<bool>(),
        ) {
            let world = TestWorld::new(&faults);
            let shares: Vec<_> = ["Ann", "Ben", "Cid"].iter().map(|name| world.create_share(name)).collect();
            for (polls, event) in processes {
                world.run_process_with(polls, event.map(|event| (&shares[0], event)));
            }
            prop_assert!(world.run_process(usize::MAX, revoke.then_some(&shares[1])));
            // A lost request may still be executed. A second process sees its effect.
            prop_assert!(world.run_process(usize::MAX, None));
            world.check(&shares);
        }
    }
}
