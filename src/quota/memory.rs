//! The quota of one process: the queue in front of the windows, and the task that wakes when a slot falls free. The only
//! part of `quota` that waits.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::breaker::{self, Breaker, ProbeId};
use super::daily::Daily;
use super::lane::{Lane, Sizes};
use super::latency::{Estimate, Latency};
use super::meter::Meter;
use super::queue::{self, Ask, Infeasible, Key, Queue, Receipt, Supply, TicketId};
use super::window::{self, Grant, Next, Window};
use super::{BreakerSnapshot, Callers, Cost, Limits, Ride, Snapshot, Verdict, Want};
use crate::clock;
use crate::context::{Criticality, Position, RequestContext, deadline_exceeded};
use crate::domain::usage::{HeldSlots, HeldSlotsOfLimit, QuotaUsage};
use crate::error::{Error, ErrorKind, Limit, Refusal, Result};

/// What waits name in errors.
const PLACE: &str = "a slot of the quota";
const BEHIND: &str = "an earlier write to the same lead";
/// How much later than its last grant a window may have begun, as a server counts.
const LATE: Duration = Duration::from_millis(50);
/// How long the first of those who can only go together waits for others where a bulk slot is free.
const TOGETHER: Duration = Duration::from_millis(5);
/// How many retries of calls that found the queue full are counted.
const MAX_FULL: usize = 4_096;

/// The quota of one tenant. Clones share it.
#[derive(Clone)]
pub struct Quota {
    shared: Arc<Shared>,
}

/// The right to make one call. It must be told what became of it; dropped after the request was sent, it counts as
/// unanswered.
pub struct Slot {
    shared: Arc<Shared>,
    held: Option<Held>,
    endpoint: &'static str,
    sent: Option<Instant>,
    is_shared: bool,
    /// Those who are to be taken along and do not know it yet.
    party: Vec<(Receipt, Ticket)>,
}

/// What a slot holds.
struct Held {
    calls: Option<Grant>,
    bulk: Option<Grant>,
    receipts: Vec<Receipt>,
    /// The name of the probe that it is, until what became of it is known.
    probe: Option<ProbeId>,
}

/// Whose turn it is, and how it goes.
pub enum Turn {
    /// By its own endpoint.
    Alone(Slot),
    /// By the shared endpoint of its lane, with those who follow: [`Slot::depart`].
    Leads(Slot),
    /// On the slot of another one, which waits for it.
    Follows(Boarding),
}

/// A place in somebody else's call: what is to travel is sent there. Dropped, it is left empty.
pub struct Boarding {
    /// The name of the ticket in [`Again::ticket`].
    pub ticket: TicketId,
    sender: mpsc::UnboundedSender<Passenger>,
}

/// Those who come along. It ends when all have boarded or left.
pub type Party = mpsc::UnboundedReceiver<Passenger>;

/// What travels: known to those of one lane, and to nobody here.
type Passenger = Box<dyn Any + Send>;

/// What is left of a turn when its call has ended: the keys that it holds, until this is dropped, and the right of a call
/// that was refused to its place at the head of the queue.
pub struct Again {
    shared: Arc<Shared>,
    receipt: Option<Receipt>,
}

/// A position in the order of the writes to some keys. Calls that name it ([`RequestContext::position`]) wait there; later writes to
/// these keys are sent after it is dropped.
pub struct Reservation {
    shared: Arc<Shared>,
    position: Position,
}

struct Shared {
    state: Mutex<State>,
    /// Something changed that the waking task should look at.
    changed: Notify,
}

struct State {
    calls: Window,
    bulk: Window,
    /// Whether a bulk call takes a slot of all calls too.
    bulk_pays_calls: bool,
    daily: Daily,
    breaker: Breaker,
    queue: Queue<Ticket>,
    /// When LeadSquared may last have counted a call: at its grant, and until it has ended.
    last_stamp: Timestamp,
    /// How long the calls of each endpoint have taken recently.
    latencies: HashMap<&'static str, Latency>,
    /// When the calls are to retry that found the queue full, by cost.
    full: [Vec<Instant>; 2],
    grants: u64,
    meter: Meter,
    /// When the next call of each lane is due.
    due: [Option<Instant>; Lane::ALL.len()],
    closed: bool,
}

struct Ticket {
    grant: oneshot::Sender<Result<Turn>>,
    cost: Cost,
    endpoint: &'static str,
    ride: Option<Ride>,
}

impl Quota {
    /// The quota by these limits, less what a process before has spent, shared between callers as told. Its task runs on
    /// `tasks` until `stop`, after which nothing is handed out.
    pub fn new(
        limits: &Limits,
        callers: &Callers,
        sizes: Sizes,
        breaker: breaker::BreakerSettings,
        before: Option<&QuotaUsage>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let zone = TimeZone::get(&limits.daily_reset_zone).unwrap_or(TimeZone::UTC);
        let mut daily = Daily::new(limits.daily, zone);
        let held = before.and_then(|before| before.slots.as_ref());
        let window = |calls, reserve, held: Option<&HeldSlotsOfLimit>| {
            let per = limits.window;
            let (mut window, now) = (Window::new(Limit { calls, per }, reserve), Instant::now());
            match (held.filter(|held| held.window == per), before) {
                (Some(held), _) => {
                    let left = held.free_at.iter().map(|at| left_until(*at, per));
                    left.filter(|left| !left.is_zero())
                        .for_each(|left| window.hold(now + left));
                }
                (None, Some(before)) => window.full_until(now + left_of_window(before, per)),
                (None, None) => {}
            }
            window
        };
        let calls = window(limits.calls, limits.reserve, held.map(|held| &held.calls));
        let bulk = window(limits.bulk, 0, held.map(|held| &held.bulk));
        if let Some(before) = before {
            daily.resume(&before.day, before.calls);
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                calls,
                bulk,
                bulk_pays_calls: limits.bulk_pays_calls,
                daily,
                breaker: Breaker::new(breaker),
                queue: Queue::new(queue::QueueSettings {
                    max_waiting: limits.queue,
                    max_per_caller: limits.queue_per_caller,
                    callers: callers.named.clone(),
                    others: callers.others.clone(),
                    sizes,
                }),
                last_stamp: before.map_or(Timestamp::UNIX_EPOCH, |before| before.last_grant.min(clock::now())),
                latencies: HashMap::new(),
                full: Default::default(),
                grants: 0,
                meter: Meter::default(),
                due: Default::default(),
                closed: false,
            }),
            changed: Notify::new(),
        });
        tasks.spawn(wake(shared.clone(), stop));
        Self { shared }
    }

    /// Takes the next position in the order of the writes to these keys, at once.
    pub fn reserve(&self, keys: &[String]) -> Reservation {
        let keys = keys.iter().map(Key::of).collect();
        Reservation {
            position: self.shared.lock().queue.reserve(keys),
            shared: self.shared.clone(),
        }
    }

    /// Waits for the right to make a call. A call that would not be served before its deadline is refused at once, and one
    /// that leaves costs nothing. One that was refused by LeadSquared comes `again`, before all others of its class.
    pub async fn acquire(&self, context: &RequestContext, want: &Want, again: Option<Again>) -> Result<Slot> {
        match self.board(context, want, again).await? {
            Turn::Alone(slot) | Turn::Leads(slot) => Ok(slot),
            // Nobody takes along who is in no lane.
            Turn::Follows(_) => Err(ErrorKind::ShuttingDown.into()),
        }
    }

    /// The same for a call that may travel together with others of its lane, on the slot of whoever's turn comes first.
    pub async fn board(&self, context: &RequestContext, want: &Want, again: Option<Again>) -> Result<Turn> {
        // Taken out before the lock, which dropping the rest would take too.
        let receipt = again.and_then(|mut again| again.receipt.take());
        let (id, mut granted) = {
            let mut state = self.shared.lock();
            let now = Instant::now();
            let waiting = state.enter(context, want, receipt, now)?;
            state.grant_all(&self.shared, now);
            waiting
        };
        self.shared.changed.notify_one();
        let _place = Place {
            shared: &self.shared,
            id,
        };
        match context.wait(PLACE, &mut granted).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(ErrorKind::ShuttingDown.into()),
            Err(Error {
                kind: ErrorKind::DeadlineExceeded { .. },
                ..
            }) => {
                let is_behind = self.shared.lock().queue.is_behind(id);
                // The queue may have taken it out in this moment.
                match granted.try_recv() {
                    Ok(Err(error)) => Err(error),
                    Ok(Ok(_)) | Err(_) => Err(deadline_exceeded(place(is_behind))),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The right to make a call that nobody has asked for, if it is free now: no call in the queue could have it, no refused call is
    /// to retry, and the call can be expected to end before its deadline. With `if_idle`, at least half of the slots have to be
    /// free. Never waits.
    pub fn try_acquire(&self, context: &RequestContext, want: &Want, if_idle: bool) -> Option<Slot> {
        let (id, mut granted) = {
            let mut state = self.shared.lock();
            let now = Instant::now();
            let waiting = state.try_enter(context, want, if_idle, now)?;
            state.grant_all(&self.shared, now);
            waiting
        };
        let _place = Place {
            shared: &self.shared,
            id,
        };
        match granted.try_recv() {
            Ok(Ok(Turn::Alone(slot) | Turn::Leads(slot))) => Some(slot),
            Ok(Ok(Turn::Follows(_)) | Err(_)) | Err(_) => None,
        }
    }

    /// Whether the circuit breaker is not closed: calls wait for a probe to succeed.
    pub fn is_open(&self) -> bool {
        self.shared.lock().breaker.is_open()
    }

    /// How long the circuit breaker, or a pause that LeadSquared has asked for, lets no call through at least.
    pub fn breaker_wait(&self) -> Duration {
        self.shared.lock().breaker.wait(Instant::now())
    }

    /// What has been spent, to be remembered over a restart.
    pub fn usage(&self) -> QuotaUsage {
        let mut state = self.shared.lock();
        let (now, at) = (Instant::now(), clock::now());
        let held = |window: &mut Window| {
            let free_at = window.held(now).into_iter();
            HeldSlotsOfLimit {
                window: window.limit().per,
                free_at: free_at
                    .map(|free| free.map_or(Timestamp::MAX, |free| at + free.saturating_duration_since(now)))
                    .collect(),
            }
        };
        let slots = HeldSlots {
            calls: held(&mut state.calls),
            bulk: held(&mut state.bulk),
        };
        let (day, calls) = state.daily.usage(at);
        QuotaUsage {
            day,
            calls,
            last_grant: state.last_stamp,
            slots: Some(slots),
        }
    }

    /// Whether a call would be let in, were it made now. Nothing is reserved or remembered.
    pub fn would_admit(&self, context: &RequestContext, want: &Want) -> bool {
        let mut state = self.shared.lock();
        let now = Instant::now();
        let ask = ask(context, want);
        let (estimate, supply) = (state.estimate(want.endpoint, now), state.supply(now));
        state.check(context, now).is_ok() && state.judge(&ask, &estimate, &supply, now).is_ok()
    }

    /// The state at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.shared.lock();
        let (now, at) = (Instant::now(), clock::now());
        let limit = state.calls.snapshot(now).limit;
        let breaker_next = state.breaker.next(now);
        let window = |mut window: window::Snapshot| {
            window.free_in = match breaker_next {
                Next::Now => window.free_in,
                Next::At(at) => window.free_in.map(|free_in| free_in.max(at - now)),
                Next::AfterAnEnd => None,
            };
            window
        };
        let breaker_state = state.breaker.state(now);
        let since = state.breaker.opened();
        let next_probe_in = (breaker_state == breaker::State::Open).then(|| state.breaker.wait(now));
        Snapshot {
            calls: window(state.calls.snapshot(now)),
            bulk: window(state.bulk.snapshot(now)),
            daily: state.daily.snapshot(at),
            breaker: BreakerSnapshot {
                state: breaker_state,
                since: since.map(|since| at - now.saturating_duration_since(since)),
                next_probe_in,
            },
            queue: state.queue.snapshot(),
            now,
            grants: state.grants,
            utilisation: state.meter.last(limit, now),
        }
    }
}

impl Slot {
    /// The request is about to be sent.
    pub fn sent(&mut self) {
        self.sent = Some(Instant::now());
    }

    /// What the response, or its absence, says about LeadSquared, and what that has changed. To be said before the slot ends.
    pub fn judged(&mut self, response: &breaker::Response) -> Option<breaker::Change> {
        let held = self.held.as_mut()?;
        let now = Instant::now();
        let sent = self.sent.unwrap_or(now);
        let mut state = self.shared.lock();
        state.breaker.response(held.probe.take(), sent, response, now)
    }

    /// The others that this call takes along are told so, and bring what is to travel.
    pub fn depart(&mut self) -> Party {
        let (sender, party) = mpsc::unbounded_channel();
        let mut left = Vec::new();
        for (receipt, ticket) in self.party.drain(..) {
            let boarding = Boarding {
                ticket: receipt.id(),
                sender: sender.clone(),
            };
            match (ticket.grant.send(Ok(Turn::Follows(boarding))), &mut self.held) {
                (Ok(()), Some(held)) => held.receipts.push(receipt),
                _ => left.push(receipt),
            }
        }
        if !left.is_empty() {
            self.shared
                .end(|state| left.into_iter().for_each(|receipt| state.queue.done(receipt)));
        }
        party
    }

    /// The ticket by which it was granted.
    pub fn ticket(&self) -> Option<TicketId> {
        Some(self.held.as_ref()?.receipts.first()?.id())
    }

    /// An answer came. What was refused may come again; who travelled with others keeps the keys until it drops its turn,
    /// as the others' answers are not known yet.
    pub fn answered(mut self, verdict: Verdict) -> Vec<Again> {
        let Some(mut held) = self.held.take() else {
            return Vec::new();
        };
        let (sent, answered) = (self.sent.unwrap_or_else(Instant::now), Instant::now());
        let receipts = self.shared.end(|state| {
            // The response was not judged.
            let probe = held.probe.take();
            probe.into_iter().for_each(|probe| state.breaker.lost(probe, answered));
            state.answered(&held, self.endpoint, sent, answered, verdict);
            let receipts = held.receipts.drain(..);
            if verdict == Verdict::Accepted && !self.is_shared {
                receipts.for_each(|receipt| state.queue.done(receipt));
                return Vec::new();
            }
            receipts.collect()
        });
        let again = |receipt| Again {
            shared: self.shared.clone(),
            receipt: Some(receipt),
        };
        receipts.into_iter().map(again).collect()
    }

    /// Nothing reached LeadSquared.
    pub fn unsent(mut self) {
        if let Some(held) = self.held.take() {
            self.shared.end(|state| state.unsent(held));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        let (is_sent, party) = (self.sent.is_some(), std::mem::take(&mut self.party));
        self.shared.end(|state| {
            let now = Instant::now();
            // Who was to be taken along by one that left before goes on waiting.
            for (receipt, ticket) in party {
                state.queue.put_back(receipt, ticket, now);
            }
            match is_sent {
                true => state.unanswered(held, now),
                false => state.unsent(held),
            }
        });
    }
}

impl Boarding {
    /// Brings what is to travel; it comes back where the call has left without it.
    pub fn board<P: Any + Send>(self, passenger: P) -> std::result::Result<(), P> {
        let Err(mpsc::error::SendError(refused)) = self.sender.send(Box::new(passenger)) else {
            return Ok(());
        };
        match refused.downcast() {
            Ok(passenger) => Err(*passenger),
            Err(_) => Ok(()),
        }
    }
}

impl Again {
    /// The ticket whose turn it was.
    pub fn ticket(&self) -> Option<TicketId> {
        Some(self.receipt.as_ref()?.id())
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            self.shared.end(|state| state.queue.done(receipt));
        }
    }
}

impl Reservation {
    /// What calls of the write are to name.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.end(|state| state.queue.release(self.position));
    }
}

/// A place in the queue, left when dropped.
struct Place<'a> {
    shared: &'a Shared,
    id: TicketId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Dropped outside of the lock: a grant in it would lock again.
        let _left = self.shared.lock().queue.remove(self.id);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call has ended: whoever can go now does.
    fn end<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        state.grant_all(self, Instant::now());
        drop(state);
        self.changed.notify_one();
        changed
    }
}

/// How long the window that a process before has spent may last at most: it is taken to have been spent whole. A grant in
/// the future is one of a process that came to no orderly end, or of a clock that was put back: then nothing is known.
fn left_of_window(before: &QuotaUsage, window: Duration) -> Duration {
    let whole = window + LATE;
    let since = clock::now().duration_since(before.last_grant);
    Duration::try_from(since).map_or(whole, |since| whole.saturating_sub(since))
}

/// How long a slot of a process before is still held; a window at most, where the call had not ended or the clock was put
/// back.
fn left_until(free_at: Timestamp, window: Duration) -> Duration {
    let left = free_at.duration_since(clock::now());
    Duration::try_from(left).map_or(Duration::ZERO, |left| left.min(window + LATE))
}

/// What a call asks the queue for.
fn ask(context: &RequestContext, want: &Want) -> Ask {
    Ask {
        caller: context.caller.clone(),
        criticality: context.criticality,
        cost: want.cost,
        keys: want.keys.iter().map(Key::of).collect(),
        position: context.position.filter(|_| !want.keys.is_empty()),
        deadline: context.deadline,
        lane: want.ride.map(|ride| ride.lane),
    }
}

/// The slots as admission sees them.
struct Windows<'a> {
    calls: &'a mut Window,
    bulk: &'a mut Window,
    /// Whether calls are spread over the window.
    is_spread: bool,
    /// How long the circuit breaker lets no call through.
    held: Duration,
}

impl Windows<'_> {
    /// How long it is until so many slots have gone to others and one more is free.
    fn wait(&mut self, now: Instant, cost: Cost, ahead: usize) -> Duration {
        let slot = match cost {
            Cost::Call if self.is_spread => self.calls.spread_wait(now, ahead),
            Cost::Call => self.calls.predicted_wait(now, ahead),
            Cost::Bulk => self.bulk.predicted_wait(now, ahead),
        };
        if self.held.is_zero() {
            return slot;
        }
        // The calls ahead wait for the circuit breaker as well. When it closes, the slots of a window are free at once.
        let window = match cost {
            Cost::Call => &self.calls,
            Cost::Bulk => &self.bulk,
        };
        let rounds = u32::try_from(ahead / window.effective().max(1)).unwrap_or(u32::MAX);
        slot.max(self.held.saturating_add(window.limit().per.saturating_mul(rounds)))
    }
}

/// Where a call waits.
fn place(is_behind: bool) -> &'static str {
    if is_behind { BEHIND } else { PLACE }
}

/// How much longer than a window each call may hold its slot: a call holds it at most for its own time too.
fn drift(estimate: &Estimate, window: Duration) -> Duration {
    estimate.long.max(window / 25)
}

/// Hands out slots that fall free with time.
async fn wake(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let at = {
            let mut state = shared.lock();
            let now = Instant::now();
            state.grant_all(&shared, now);
            state.next_wake(now)
        };
        let timer = async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.changed.notified() => {}
            () = timer => {}
        }
    }
    let mut state = shared.lock();
    state.closed = true;
    for ticket in state.queue.drain() {
        // A waiter that has left needs no answer.
        let _ = ticket.grant.send(Err(ErrorKind::ShuttingDown.into()));
    }
}

impl State {
    /// Lets a call into the queue, or tells it at once that there is no use in waiting.
    fn enter(
        &mut self,
        context: &RequestContext,
        want: &Want,
        receipt: Option<Receipt>,
        now: Instant,
    ) -> Result<(TicketId, oneshot::Receiver<Result<Turn>>)> {
        if let Err(error) = self.check(context, now) {
            receipt.into_iter().for_each(|receipt| self.queue.done(receipt));
            return Err(error);
        }
        let (grant, granted) = oneshot::channel();
        let mut ticket = Ticket {
            grant,
            cost: want.cost,
            endpoint: want.endpoint,
            ride: want.ride,
        };
        // Who had a turn already is not turned away.
        if let Some(mut receipt) = receipt {
            let id = receipt.id();
            receipt.ride(ticket.ride.map(|ride| ride.lane));
            self.queue.put_back(receipt, ticket, now);
            return Ok((id, granted));
        }
        let mut ask = ask(context, want);
        if self.prefers_bulk(&ask, want.endpoint, now) {
            (ask.cost, ticket.cost) = (Cost::Bulk, Cost::Bulk);
        } else {
            self.admit(&ask, want.endpoint, now)?;
        }
        let gathers = ask
            .lane
            .is_some_and(|lane| self.gathers(lane, &ask, want.endpoint, now));
        match self.queue.push(ask, ticket, now) {
            Ok(pushed) => {
                if gathers {
                    self.queue.park(pushed.id);
                }
                if let Some((_, dropped)) = pushed.dropped {
                    let _ = dropped.grant.send(Err(self.full(want.cost, now)));
                }
                Ok((pushed.id, granted))
            }
            Err(_) => Err(self.full(want.cost, now)),
        }
    }

    /// Lets a call into the queue only if it need not wait there, as far as that is known before.
    fn try_enter(
        &mut self,
        context: &RequestContext,
        want: &Want,
        if_idle: bool,
        now: Instant,
    ) -> Option<(TicketId, oneshot::Receiver<Result<Turn>>)> {
        self.check(context, now).ok()?;
        if self.breaker.next(now) != Next::Now {
            return None;
        }
        let least = if if_idle { self.calls.effective().div_ceil(2) } else { 1 };
        let usual = self.estimate(want.endpoint, now).usual;
        self.full.iter_mut().for_each(|full| full.retain(|due| *due > now));
        if self.full.iter().any(|full| !full.is_empty()) {
            return None;
        }
        if self.calls.free(now) < least || now + usual >= context.deadline || !self.queue.has_room(&context.caller, now)
        {
            return None;
        }
        let (grant, granted) = oneshot::channel();
        let ticket = Ticket {
            grant,
            cost: want.cost,
            endpoint: want.endpoint,
            ride: None,
        };
        let ask = Ask {
            caller: context.caller.clone(),
            criticality: context.criticality,
            cost: want.cost,
            keys: Vec::new(),
            position: None,
            deadline: context.deadline,
            lane: None,
        };
        Some((self.queue.push(ask, ticket, now).ok()?.id, granted))
    }

    /// When the next call of a lane is due after one that goes now: with more than half of the slots used, the free ones have
    /// to last until the next falls free. Else those who come first would take them one by one, and all others would wait
    /// for a window. With half of the slots that is two slots' time at most.
    fn next_of_lane(&mut self, now: Instant) -> Instant {
        let free = self.calls.free(now);
        let until = self.calls.predicted_wait(now, free);
        now + until / u32::try_from(free + 1).unwrap_or(u32::MAX)
    }

    /// Whether a newcomer waits for others of its lane although a slot is free.
    fn gathers(&mut self, lane: Lane, ask: &Ask, endpoint: &'static str, now: Instant) -> bool {
        // What is asked for in bulk comes together, and a bulk slot is too dear for the first of them alone.
        if ask.cost == Cost::Bulk {
            if self.bulk.next(now) != Next::Now || now + TOGETHER >= ask.deadline {
                return false;
            }
            if !self.queue.has_parked(lane) {
                self.due[lane as usize] = Some(now + TOGETHER);
            }
            return true;
        }
        let Some(due) = self.due[lane as usize].filter(|due| *due > now) else {
            return false;
        };
        let (limit, free) = (self.calls.effective(), self.calls.free(now));
        let usual = self.estimate(endpoint, now).usual;
        (1..=limit / 2).contains(&free) && due + usual < ask.deadline
    }

    /// Whether to wait for a bulk slot, though a call of its own might go sooner: where the day's calls have to be saved and
    /// there is time.
    fn prefers_bulk(&mut self, ask: &Ask, endpoint: &'static str, now: Instant) -> bool {
        let may_share = ask.cost == Cost::Call && ask.lane.is_some_and(|lane| lane.cost() == Cost::Bulk);
        let as_bulk = || Ask {
            cost: Cost::Bulk,
            ..ask.clone()
        };
        if !may_share || !self.daily.is_short(clock::now()) {
            return false;
        }
        let (estimate, supply) = (self.estimate(endpoint, now), self.supply(now));
        self.judge(&as_bulk(), &estimate, &supply, now).is_ok()
    }

    /// Whether anybody may wait at all.
    fn check(&mut self, context: &RequestContext, now: Instant) -> Result<()> {
        if self.closed {
            return Err(ErrorKind::ShuttingDown.into());
        }
        if let Some(retry_after) = self.daily.refusal(clock::now(), context.criticality) {
            return Err(ErrorKind::DailyBudgetExhausted { retry_after }.into());
        }
        if now >= context.deadline {
            return Err(deadline_exceeded(PLACE));
        }
        Ok(())
    }

    /// Whether a call would be served in time. If not, the error says when to retry.
    fn admit(&mut self, ask: &Ask, endpoint: &'static str, now: Instant) -> Result<()> {
        let estimate = self.estimate(endpoint, now);
        let supply = self.supply(now);
        let Err(infeasible) = self.judge(ask, &estimate, &supply, now) else {
            return Ok(());
        };
        let retry_after = if infeasible.is_too_slow {
            let (timeout, window) = (ask.deadline.saturating_duration_since(now), supply.window);
            let latency = self.latencies.entry(endpoint).or_default();
            // Without a probe nothing would be learned of an endpoint that is fast again. One that waits for a slot
            // until its deadline tells nothing.
            if infeasible.wait <= timeout / 2 && latency.probe(now, window) {
                return Ok(());
            }
            let retry_after = latency.retry_after(timeout, now, window).max(infeasible.wait);
            retry_after.max(Duration::from_millis(1))
        } else {
            self.promise(ask, &estimate, &supply, now)
        };
        Err(match (infeasible.by_own_cap, self.breaker.is_open()) {
            (true, _) => ErrorKind::CallerLimit { retry_after },
            (false, true) => ErrorKind::BreakerOpen {
                retry_after: retry_after.max(self.breaker.wait(now)),
            },
            (false, false) => ErrorKind::DeadlineInfeasible { retry_after },
        }
        .into())
    }

    fn judge(
        &mut self,
        ask: &Ask,
        estimate: &Estimate,
        supply: &Supply,
        now: Instant,
    ) -> std::result::Result<(), Infeasible> {
        let held = self.breaker.wait(now);
        let Self { queue, calls, bulk, .. } = self;
        // Of the lower two classes a flood is held back, and who comes behind it with it.
        let is_spread = !ask.criticality.is_upper() && queue.is_flooded(supply);
        let mut windows = Windows {
            calls,
            bulk,
            is_spread,
            held,
        };
        let wait = |cost, ahead| windows.wait(now, cost, ahead);
        queue.admit(ask, estimate, supply, now, wait).map(drop)
    }

    /// After which time a call that is refused now will be let in.
    fn promise(&mut self, ask: &Ask, estimate: &Estimate, supply: &Supply, now: Instant) -> Duration {
        let held = self.breaker.wait(now);
        let Self { queue, calls, bulk, .. } = self;
        let timeout = ask.deadline.saturating_duration_since(now);
        // Calls with more time than a window may become a flood until then.
        let is_spread = !ask.criticality.is_upper() && (timeout > supply.window || queue.is_flooded(supply));
        let drift = drift(estimate, supply.window);
        let mut windows = Windows {
            calls,
            bulk,
            is_spread,
            held,
        };
        let wait = |cost, ahead| windows.wait(now, cost, ahead);
        queue.promise(ask, estimate, drift, supply, now, wait)
    }

    /// How long a call of that endpoint takes.
    fn estimate(&self, endpoint: &'static str, now: Instant) -> Estimate {
        let latency = self.latencies.get(endpoint);
        latency.map_or_else(Estimate::default, |latency| {
            latency.estimate(now, self.calls.limit().per)
        })
    }

    fn full(&mut self, cost: Cost, now: Instant) -> Error {
        let window = match cost {
            Cost::Call => &mut self.calls,
            Cost::Bulk => &mut self.bulk,
        };
        // Each slot that is granted makes room for one more, and each call that was refused before and is to retry
        // takes that room.
        let promised = &mut self.full[cost as usize];
        promised.retain(|due| *due > now);
        let ahead = u32::try_from(promised.len()).unwrap_or(u32::MAX);
        let state = window.snapshot(now);
        let turn = state.limit.per / state.effective.max(1);
        let rounds = ahead / state.effective.max(1) + 1;
        let slot = window.predicted_wait(now, promised.len()) + drift(&Estimate::default(), state.limit.per) * rounds;
        let retry_after = slot.max(turn.saturating_mul(ahead + 1)).max(self.breaker.wait(now));
        if promised.len() < MAX_FULL {
            promised.push(now + retry_after);
        }
        ErrorKind::QueueFull { retry_after }.into()
    }

    fn supply(&mut self, now: Instant) -> Supply {
        let slots = |window: &mut Window| queue::Slots {
            limit: window.effective(),
            free: window.free(now),
        };
        Supply {
            window: self.calls.limit().per,
            calls: slots(&mut self.calls),
            bulk: slots(&mut self.bulk),
            too_early: self.calls.too_early(now),
        }
    }

    /// Grants whatever can be granted.
    fn grant_all(&mut self, shared: &Arc<Shared>, now: Instant) {
        if self.queue.is_empty() {
            return;
        }
        self.shed();
        self.shed_unservable(now);
        for lane in Lane::ALL {
            if self.queue.has_parked(lane) && self.due[lane as usize].is_none_or(|due| due <= now) {
                self.queue.unpark(lane);
            }
        }
        loop {
            let mut supply = self.supply(now);
            if self.breaker.next(now) != Next::Now {
                (supply.calls.free, supply.bulk.free) = (0, 0);
            }
            match self.queue.next(&supply, now) {
                queue::Next::Nobody => return,
                queue::Next::Dead(_, ticket, is_behind) => {
                    drop(ticket.grant.send(Err(deadline_exceeded(place(is_behind)))));
                }
                queue::Next::Granted(receipt, ticket) => self.grant(shared, receipt, ticket, now),
            }
        }
    }

    /// On a day that is over nobody waits for a slot, but for one call that may probe.
    fn shed(&mut self) {
        let at = clock::now();
        if self.daily.refusal(at, Criticality::CriticalPlus).is_none() {
            return;
        }
        for ticket in self.queue.drain() {
            let retry_after = self.daily.refusal(at, Criticality::Sheddable);
            let retry_after = retry_after.unwrap_or_default();
            let _ = ticket
                .grant
                .send(Err(ErrorKind::DailyBudgetExhausted { retry_after }.into()));
        }
    }

    /// While the circuit breaker is open, or LeadSquared has asked for a pause, calls fail whose deadlines pass before it ends.
    fn shed_unservable(&mut self, now: Instant) {
        let Next::At(end) = self.breaker.next(now) else {
            return;
        };
        let retry_after = end - now;
        while let Some(ticket) = self.queue.remove_due_by(end) {
            let kind = match self.breaker.is_open() {
                true => ErrorKind::BreakerOpen { retry_after },
                false => ErrorKind::DeadlineInfeasible { retry_after },
            };
            let _ = ticket.grant.send(Err(kind.into()));
        }
    }

    fn grant(&mut self, shared: &Arc<Shared>, receipt: Receipt, ticket: Ticket, now: Instant) {
        if ticket.grant.is_closed() {
            return self.queue.done(receipt);
        }
        if let Some(ride) = ticket.ride {
            self.queue.unpark(ride.lane);
        }
        let shared_call = ticket.ride.filter(|ride| self.may_share(ride.lane, ticket.cost, now));
        let party = shared_call.map_or_else(Vec::new, |ride| self.party(ride.lane));
        // What is not to go by its own endpoint shares a call also where nobody else comes.
        let together = shared_call
            .filter(|ride| !party.is_empty() || ticket.cost == ride.lane.cost() && ticket.cost == Cost::Bulk);
        let cost = together.map_or(ticket.cost, |ride| ride.lane.cost());
        let is_bulk = cost == Cost::Bulk;
        let held = Held {
            calls: (!is_bulk || self.bulk_pays_calls).then(|| self.calls.granted(now)),
            bulk: is_bulk.then(|| self.bulk.granted(now)),
            receipts: vec![receipt],
            probe: self.breaker.granted(),
        };
        if let Some(ride) = ticket.ride {
            self.due[ride.lane as usize] = Some(self.next_of_lane(now));
        }
        let at = clock::now();
        self.daily.save_usage(at);
        self.last_stamp = at;
        let slot = Slot {
            shared: shared.clone(),
            held: Some(held),
            endpoint: together.map_or(ticket.endpoint, |ride| ride.endpoint),
            sent: None,
            is_shared: together.is_some(),
            party,
        };
        let turn = match together {
            Some(_) => Turn::Leads(slot),
            None => Turn::Alone(slot),
        };
        // The waiter may have left between the look and the grant. Ended here, since dropping it would lock again.
        if let Err(Ok(Turn::Alone(mut unwanted) | Turn::Leads(mut unwanted))) = ticket.grant.send(Ok(turn)) {
            for (receipt, ticket) in unwanted.party.drain(..) {
                self.queue.put_back(receipt, ticket, now);
            }
            if let Some(held) = unwanted.held.take() {
                self.unsent(held);
            }
            return;
        }
        self.grants += 1;
        self.meter.granted(self.calls.limit().per, now);
    }

    /// Whether a call that all of a lane share can go now.
    fn may_share(&mut self, lane: Lane, cost: Cost, now: Instant) -> bool {
        match lane.cost() {
            Cost::Call => true,
            // Whose own cost it is was granted one.
            Cost::Bulk => cost == Cost::Bulk || self.bulk.next(now) == Next::Now,
        }
    }

    /// Those of a lane who go along with the one whose turn it is.
    fn party(&mut self, lane: Lane) -> Vec<(Receipt, Ticket)> {
        let most = self.queue.most(lane) - 1;
        let mut party = Vec::new();
        while party.len() < most
            && let Some((receipt, ticket)) = self.queue.take_along(lane)
        {
            match ticket.grant.is_closed() {
                true => self.queue.done(receipt),
                false => party.push((receipt, ticket)),
            }
        }
        party
    }

    fn unsent(&mut self, held: Held) {
        held.probe.into_iter().for_each(|probe| self.breaker.unsent(probe));
        held.calls.into_iter().for_each(|grant| self.calls.unsent(grant));
        held.bulk.into_iter().for_each(|grant| self.bulk.unsent(grant));
        self.daily.give_back();
        held.receipts.into_iter().for_each(|receipt| self.queue.done(receipt));
    }

    fn unanswered(&mut self, held: Held, now: Instant) {
        held.probe.into_iter().for_each(|probe| self.breaker.lost(probe, now));
        self.last_stamp = clock::now();
        held.calls
            .into_iter()
            .for_each(|grant| self.calls.unanswered(grant, now));
        held.bulk.into_iter().for_each(|grant| self.bulk.unanswered(grant, now));
        held.receipts.into_iter().for_each(|receipt| self.queue.done(receipt));
    }

    fn answered(&mut self, held: &Held, endpoint: &'static str, sent: Instant, answered: Instant, verdict: Verdict) {
        self.last_stamp = clock::now();
        // A rate limited call may be answered by something in front of the endpoint, and sooner.
        if verdict == Verdict::Accepted {
            let took = answered.saturating_duration_since(sent);
            self.latencies.entry(endpoint).or_default().learn(answered, took);
        }
        match verdict {
            Verdict::Accepted => self.daily.open(),
            Verdict::Refused(Refusal::Daily) => self.daily.close(clock::now()),
            Verdict::Refused(Refusal::Window(_)) => {}
        }
        // Only one of its two windows has refused a bulk call: that of all calls if the text names its number.
        let now = Instant::now();
        let calls_refused = match (verdict, &held.bulk) {
            (Verdict::Refused(Refusal::Window(Some(named))), Some(_)) => {
                named.calls == self.calls.snapshot(now).limit.calls
                    && named.calls != self.bulk.snapshot(now).limit.calls
            }
            (_, bulk) => bulk.is_none(),
        };
        let neutral = match verdict {
            Verdict::Accepted => Verdict::Accepted,
            Verdict::Refused(_) => Verdict::Refused(Refusal::Daily),
        };
        let (to_calls, to_bulk) = match calls_refused {
            true => (verdict, neutral),
            false => (neutral, verdict),
        };
        let changes = [
            held.calls
                .and_then(|grant| self.calls.answered(grant, endpoint, sent, answered, to_calls)),
            held.bulk
                .and_then(|grant| self.bulk.answered(grant, endpoint, sent, answered, to_bulk)),
        ];
        for (window, told) in ["calls", "bulk"].into_iter().zip(changes) {
            if let Some(told) = told {
                tracing::warn!(window, calls = told.calls, per = ?told.per, "LeadSquared names another limit, which is kept to from now on");
            }
        }
    }

    /// When to look again, if nothing else happens before.
    fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        let own = self.queue.next_wake()?;
        let at = |next| match next {
            Next::Now | Next::AfterAnEnd => None,
            Next::At(at) => Some(at),
        };
        let (calls, bulk) = (at(self.calls.next(now)), at(self.bulk.next(now)));
        let breaker = at(self.breaker.next(now));
        let parked = Lane::ALL.into_iter().filter(|lane| self.queue.has_parked(*lane));
        let due = parked.filter_map(|lane| self.due[lane as usize]).min();
        Some(
            [calls, bulk, due, breaker]
                .into_iter()
                .flatten()
                .fold(own, Instant::min),
        )
    }
}
