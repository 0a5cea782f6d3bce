//! The scheduler of one tenant: gives slots of the quota to the calls that wait in the queue. The only part of `quota` that
//! waits or locks.
//!
//! * `admission` adds a call to the queue, or refuses it at once.
//! * `dispatch` grants slots to the calls in the queue.
//! * `lanes` delays calls so that they can be sent as a batch.
//! * `capacity` has the windows, the day, the circuit breaker and the latencies.
//! * `handles` has the handles that the scheduler returns: slots, roles in a batch, claims on keys.
//! * `wait` says why a call waits, for traces.
//!
//! All parts are one state behind one lock. Slots are granted whenever the state changes: when a call enters the queue and
//! when a call ends. The task `wake` grants slots that become free as time passes.

mod admission;
mod capacity;
mod dispatch;
mod handles;
mod lanes;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use capacity::Capacity;
pub use handles::{BatchMember, Granted, JoinedMembers, Requeue, Reservation, Slot};
use handles::{HeldSlot, QueuedCall};

use super::breaker::BreakerSettings;
use super::daily::DayChange;
use super::lane::{BatchSizes, Lane};
use super::queue::{Queue, QueueSettings, WriteKey};
use super::{BatchOption, Before, CallerQuotas, Cost, QuotaLimits, QuotaSnapshot, SlotRequest};
use crate::clock;
use crate::cluster::TenantLease;
use crate::context::{RequestContext, deadline_exceeded};
use crate::domain::handover::Handover;
use crate::domain::usage::QuotaUsage;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::trace::Span;

/// Minimum wait for the next day, whose beginning is a time of another clock.
const MIN_DAY_WAIT: Duration = Duration::from_secs(1);
/// What a call waits for, as errors name it.
const SLOT: &str = "a slot of the quota";
const EARLIER_WRITE: &str = "an earlier write to the same lead";

/// The quota of one tenant. Clones share it.
#[derive(Clone)]
pub struct Quota {
    shared: Arc<SharedScheduler>,
}

struct SharedScheduler {
    scheduler: Mutex<Scheduler>,
    /// Notified when slots are to be granted earlier than the task `wake` expects.
    changed: Notify,
    /// Whether an operator has paused the tenant. Changes under the lock of the scheduler.
    is_paused: watch::Sender<bool>,
}

/// The state of the scheduler.
struct Scheduler {
    capacity: Capacity,
    queue: Queue<WaitingCall>,
    /// The due times of the retries of calls that found the queue full, by cost.
    full_retries: [Vec<Instant>; 2],
    /// When the next call of each lane is due.
    lanes_due: [Option<Instant>; Lane::ALL.len()],
    /// When the task `wake` looks at the state if it is not notified. `None`: only when it is notified.
    wakes_at: Option<Instant>,
    /// The lease of the tenant. No slot is granted while it is not valid.
    lease: TenantLease,
    /// Why no more slots are granted.
    closed: Option<Closed>,
    /// Whether an operator has paused the tenant, so that no slots are granted.
    is_paused: bool,
}

/// Why no more slots are granted.
#[derive(Clone, Copy)]
enum Closed {
    /// The process is shutting down.
    ShuttingDown,
    /// The tenant moves to another replica.
    OwnerMoved,
}

impl Closed {
    fn error(self) -> Error {
        match self {
            Self::ShuttingDown => ErrorKind::ShuttingDown.into(),
            Self::OwnerMoved => ErrorKind::Moved { sent: false }.into(),
        }
    }
}

/// A call that waits in the queue.
struct WaitingCall {
    grant: oneshot::Sender<Result<Granted>>,
    cost: Cost,
    endpoint: &'static str,
    batch: Option<BatchOption>,
}

impl Quota {
    /// The quota by these limits, less what was used before. Slots are granted while the lease is valid. The task of the quota runs
    /// on `tasks` until `stop`, or until the lease has ended. After that, no slots are granted. `tenant` is the name in its log lines.
    #[expect(clippy::too_many_arguments, reason = "each is another part of the process")]
    pub fn new(
        tenant: &str,
        limits: &QuotaLimits,
        callers: &CallerQuotas,
        sizes: BatchSizes,
        breaker: BreakerSettings,
        before: Before<'_>,
        lease: TenantLease,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(SharedScheduler {
            scheduler: Mutex::new(Scheduler {
                capacity: Capacity::new(limits, breaker, before),
                queue: Queue::new(QueueSettings {
                    max_waiting: limits.queue,
                    max_per_caller: limits.queue_per_caller,
                    callers: callers.clone(),
                    sizes,
                }),
                full_retries: Default::default(),
                lanes_due: Default::default(),
                wakes_at: None,
                lease: lease.clone(),
                closed: None,
                is_paused: false,
            }),
            changed: Notify::new(),
            is_paused: watch::Sender::new(false),
        });
        tasks.spawn(wake(shared.clone(), tenant.to_owned(), lease, stop));
        Self { shared }
    }

    /// Changes the limits of the account. Slots in use stay counted, and calls stay in the queue, also if it is longer than its
    /// new maximum. Free slots are granted at once. For a longer window, no call is sent until it is certain that no earlier
    /// call that has given its slot back is in one window with it.
    pub fn set_limits(&self, limits: &QuotaLimits) {
        self.shared.update(|scheduler| {
            scheduler.capacity.set_limits(limits, Instant::now());
            scheduler.queue.set_maxima(limits.queue, limits.queue_per_caller);
        });
    }

    /// Changes the quotas of the callers. Calls stay in the queue. Weights and caps apply to them at once, and maximum
    /// criticalities to later calls.
    pub fn set_callers(&self, callers: CallerQuotas) {
        self.shared
            .update(|scheduler| scheduler.queue.set_callers(callers, Instant::now()));
    }

    /// Maximum number of calls of a caller in a window, if it has one of its own.
    pub fn calls_per_window(&self, caller: &str) -> Option<u32> {
        self.shared.lock().queue.quota_of(caller).calls_per_window
    }

    /// Takes the next position in the order of the writes to these keys. Never waits.
    pub fn reserve(&self, keys: Vec<WriteKey>) -> Reservation {
        Reservation {
            position: self.shared.lock().queue.reserve(keys),
            shared: self.shared.clone(),
        }
    }

    /// Waits for a slot for a call that is sent alone. A call that would not be served before its deadline fails at once. A call
    /// that is cancelled uses no slot. A call that LeadSquared refused passes its `requeue`, and is served before all other
    /// calls of its class.
    pub async fn acquire(
        &self,
        context: &RequestContext,
        request: &SlotRequest,
        requeue: Option<Requeue>,
    ) -> Result<Slot> {
        match self.acquire_batched(context, request, requeue).await? {
            Granted::Alone(slot) | Granted::BatchLeader(slot) => Ok(slot),
            // A call without a lane never becomes a member of a batch.
            Granted::BatchMember(_) => Err(ErrorKind::ShuttingDown.into()),
        }
    }

    /// Waits like [`Quota::acquire`] for a slot for a call that may be sent in a batch: a slot of its own, or a place in the batch of
    /// another call.
    pub async fn acquire_batched(
        &self,
        context: &RequestContext,
        request: &SlotRequest,
        requeue: Option<Requeue>,
    ) -> Result<Granted> {
        let mut span = context.trace.span("quota wait");
        span.set("leadgate.endpoint", request.endpoint);
        let granted = self.acquire_in_span(context, request, requeue, &mut span).await;
        match &granted {
            Ok(granted) => span.set("leadgate.quota.role", wait::role(granted)),
            Err(error) => span.fail(error.name()),
        }
        granted
    }

    async fn acquire_in_span(
        &self,
        context: &RequestContext,
        request: &SlotRequest,
        requeue: Option<Requeue>,
        span: &mut Span,
    ) -> Result<Granted> {
        // The receipt is taken out before the lock, since dropping a whole `Requeue` locks too.
        let receipt = requeue.and_then(|mut requeue| requeue.receipt.take());
        let (id, mut granted) = {
            let mut scheduler = self.shared.lock();
            let now = Instant::now();
            let waiting = scheduler.enter(context, request, receipt, now)?;
            self.shared.grant_all(&mut scheduler, now);
            // Not for each call, since it takes time under the lock.
            if span.is_recorded() {
                let wait = scheduler.wait_of(waiting.0, now);
                span.set(
                    "leadgate.quota.class",
                    wait.map_or(context.criticality, |wait| wait.class).name(),
                );
                let (limit, effective) = scheduler.capacity.limits(request.cost);
                span.set("leadgate.quota.limit", limit);
                span.set("leadgate.quota.effective_limit", effective);
                if let Some(wait) = wait {
                    span.set(
                        "leadgate.quota.position",
                        i64::try_from(wait.position).unwrap_or(i64::MAX),
                    );
                    span.set("leadgate.quota.wait_reason", wait.reason);
                }
            }
            waiting
        };
        let _queued = QueuedCall {
            shared: &self.shared,
            id,
        };
        match context.wait(SLOT, &mut granted).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(ErrorKind::ShuttingDown.into()),
            Err(Error {
                kind: ErrorKind::DeadlineExceeded { .. },
                ..
            }) => {
                let (is_behind, has_lapsed) = {
                    let scheduler = self.shared.lock();
                    (scheduler.queue.is_behind(id), !scheduler.lease.is_valid(Instant::now()))
                };
                // The queue may have removed the call at the same time.
                match granted.try_recv() {
                    Ok(Err(error)) => Err(error),
                    _ if has_lapsed => Err(ErrorKind::Moved { sent: false }.into()),
                    Ok(Ok(_)) | Err(_) => Err(deadline_exceeded(waits_for(is_behind))),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Returns a slot if one is free for an optional call now: no call in the queue could use it, no refused call is to
    /// retry, and the call is expected to end before its deadline. With `if_idle`, at least half of the slots must be
    /// free. Never waits.
    pub fn try_acquire(&self, context: &RequestContext, request: &SlotRequest, if_idle: bool) -> Option<Slot> {
        let (id, mut granted) = {
            let mut scheduler = self.shared.lock();
            let now = Instant::now();
            let waiting = scheduler.try_enter(context, request, if_idle, now)?;
            scheduler.grant_all(&self.shared, now);
            waiting
        };
        let _queued = QueuedCall {
            shared: &self.shared,
            id,
        };
        match granted.try_recv() {
            Ok(Ok(Granted::Alone(slot) | Granted::BatchLeader(slot))) => Some(slot),
            Ok(Ok(Granted::BatchMember(_)) | Err(_)) | Err(_) => None,
        }
    }

    /// Whether the circuit breaker is open or half open: calls wait for a probe to succeed.
    pub fn is_open(&self) -> bool {
        self.shared.lock().capacity.breaker.is_open()
    }

    /// Minimum time for which the circuit breaker, or a `Retry-After` of LeadSquared, allows no call.
    pub fn breaker_wait(&self) -> Duration {
        self.shared.lock().capacity.breaker.wait(Instant::now())
    }

    /// The usual latency of calls that are measured under that name.
    pub fn usual_latency(&self, endpoint: &'static str) -> Duration {
        let now = Instant::now();
        let estimate = self.shared.lock().capacity.estimate(endpoint, now);
        // A call that is expected to take at least its whole time would not be admitted.
        estimate.usual.max(estimate.least)
    }

    /// The usage, to be stored for the next process.
    pub fn usage(&self) -> QuotaUsage {
        self.shared.lock().capacity.usage(Instant::now())
    }

    /// The lease of the tenant.
    pub fn lease(&self) -> TenantLease {
        self.shared.lock().lease.clone()
    }

    /// Grants no more slots, because the tenant moves to another replica. The calls in the queue fail: they were not sent.
    pub fn stop_granting(&self) {
        self.shared.lock().close(Closed::OwnerMoved);
    }

    /// Pauses the tenant, or resumes it. While it is paused, no slots are granted, and calls fail at once with
    /// [`ErrorKind::TenantPaused`]. So do the calls in the queue. Calls that have their slots continue.
    pub fn set_paused(&self, is_paused: bool) {
        let mut scheduler = self.shared.lock();
        scheduler.is_paused = is_paused;
        self.shared
            .is_paused
            .send_if_modified(|current| std::mem::replace(current, is_paused) != is_paused);
        if is_paused {
            scheduler.fail_all(|| ErrorKind::TenantPaused.into());
        }
    }

    /// Whether an operator has paused the tenant.
    pub fn is_paused(&self) -> bool {
        *self.shared.is_paused.borrow()
    }

    /// Waits until the tenant is paused (`true`) or not paused.
    pub async fn until_paused(&self, is_paused: bool) {
        let mut current = self.shared.is_paused.subscribe();
        // The sender lives as long as the quota.
        let _ = current.wait_for(|current| *current == is_paused).await;
    }

    /// Number of calls that were granted a slot and have not ended.
    pub fn in_progress(&self) -> usize {
        self.shared.lock().capacity.in_progress()
    }

    /// The state for the next owner of the tenant, after [`Quota::stop_granting`]. A call that has not ended may be counted until
    /// `timeout` from now.
    pub fn handover(&self, timeout: Duration) -> Handover {
        self.shared.lock().capacity.handover(timeout, Instant::now())
    }

    /// Whether a call would be admitted to the queue now. Changes nothing.
    pub fn would_admit(&self, context: &RequestContext, request: &SlotRequest) -> bool {
        self.shared.lock().would_admit(context, request, Instant::now())
    }

    /// The state at this moment.
    pub fn snapshot(&self) -> QuotaSnapshot {
        let mut scheduler = self.shared.lock();
        let queue = scheduler.queue.snapshot();
        scheduler.capacity.snapshot(queue, Instant::now())
    }
}

impl SharedScheduler {
    fn lock(&self) -> MutexGuard<'_, Scheduler> {
        // No code under the lock panics halfway through a change.
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and grants the slots that can be granted then.
    fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut Scheduler) -> T) -> T {
        let mut scheduler = self.lock();
        let changed = change(&mut scheduler);
        self.grant_all(&mut scheduler, Instant::now());
        changed
    }

    /// Grants all slots that can be granted now. Notifies the task `wake` if slots are to be granted before it wakes, or if it has to log
    /// the end of the day.
    fn grant_all(self: &Arc<Self>, scheduler: &mut Scheduler, now: Instant) {
        scheduler.grant_all(self, now);
        let next = scheduler.next_wake(now);
        let is_earlier = next.is_some_and(|next| scheduler.wakes_at.is_none_or(|wakes_at| next < wakes_at));
        if is_earlier || scheduler.capacity.daily.has_change() {
            self.changed.notify_one();
        }
    }
}

impl Scheduler {
    /// Grants no more slots. The calls in the queue fail. The first reason counts.
    fn close(&mut self, reason: Closed) {
        let reason = *self.closed.get_or_insert(reason);
        self.fail_all(|| reason.error());
    }

    /// Fails the calls in the queue.
    fn fail_all(&mut self, error: impl Fn() -> Error) {
        for call in self.queue.drain() {
            // The error of a cancelled call has no receiver.
            let _ = call.grant.send(Err(error()));
        }
    }

    /// The call was not sent: its capacity is free, and its keys too.
    fn unsent(&mut self, held: HeldSlot) {
        self.capacity.unsent(held.capacity);
        self.queue.done_all(held.receipts);
    }

    /// The call was sent, and there is no response.
    fn lost(&mut self, held: HeldSlot, now: Instant) {
        self.capacity.lost(held.capacity, now);
        self.queue.done_all(held.receipts);
    }
}

/// What a call waits for, as its error names it.
fn waits_for(is_behind: bool) -> &'static str {
    if is_behind { EARLIER_WRITE } else { SLOT }
}

/// Logs the end of the daily budget, and that calls are sent again.
fn log_day(tenant: &str, change: DayChange) {
    match change {
        DayChange::Exhausted {
            by_upstream,
            used,
            reset,
        } => {
            let cause = if by_upstream { "LeadSquared" } else { "limits.daily" };
            tracing::warn!(%tenant, cause, used, %reset, "daily budget exhausted: calls fail");
        }
        DayChange::Available => tracing::info!(%tenant, "daily budget available again"),
    }
}

/// Grants slots that become free as time passes, and logs the end of the day, until `stop` or the end of the lease.
async fn wake(shared: Arc<SharedScheduler>, tenant: String, lease: TenantLease, stop: CancellationToken) {
    let reason = loop {
        // Before the state is looked at, so that no renewal is missed.
        let renewed = lease.renewed();
        let (at, day_change) = {
            let mut scheduler = shared.lock();
            let now = Instant::now();
            scheduler.grant_all(&shared, now);
            let (daily, at) = (&mut scheduler.capacity.daily, clock::now());
            let change = daily.change(at);
            let day_ends = daily.ends_in(at).map(|wait| now + wait.max(MIN_DAY_WAIT));
            scheduler.wakes_at = scheduler.next_wake(now).into_iter().chain(day_ends).min();
            (scheduler.wakes_at, change)
        };
        if let Some(change) = day_change {
            log_day(&tenant, change);
        }
        let timer = async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break Closed::ShuttingDown,
            () = lease.ended().cancelled() => break Closed::OwnerMoved,
            () = shared.changed.notified() => {}
            () = renewed => {}
            () = timer => {}
        }
    };
    shared.lock().close(reason);
}
