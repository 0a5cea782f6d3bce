//! The quota of one process: a queue in front of the slots, and the task that hands them out. The only part of `quota`
//! that waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::daily::Daily;
use super::slots::{End, Slots};
use super::{Cost, Limits, Verdict};
use crate::caller::{Call, exceeded};
use crate::clock;
use crate::domain::spent::Spent;
use crate::error::{Kind, Refusal, Result};

/// How much longer than its window a slot is held, for the jitter of the network.
const MARGIN: Duration = Duration::from_millis(50);
/// What waits name in errors.
const PLACE: &str = "a slot of the quota";

/// The quota of one tenant. Clones share it.
#[derive(Clone)]
pub struct Quota {
    shared: Arc<Shared>,
}

/// The right to make one call. It must be told what became of it; dropped after the request was sent, it counts as
/// unanswered.
pub struct Slot {
    shared: Arc<Shared>,
    cost: Cost,
    sent: Option<Instant>,
    ended: bool,
}

/// Where in the queue a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Behind everybody.
    Last,
    /// Before everybody: it had its turn, and LeadSquared refused it.
    First,
}

/// The state of the quota at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Slots held, of all calls.
    pub used: usize,
    /// Slots there are.
    pub limit: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls left today, where a limit is known.
    pub daily_remaining: Option<u64>,
}

struct Shared {
    state: Mutex<State>,
    /// Something changed that the handing-out task should look at.
    changed: Notify,
}

struct State {
    /// The calls of a window by configuration, reserve taken off.
    configured: u32,
    calls: Slots,
    bulk: Slots,
    daily: Daily,
    /// Tickets by turn, those that pay in bulk apart, so that they do not hold up the others.
    waiting: [BTreeMap<i64, Ticket>; 2],
    most_waiting: usize,
    next_turn: i64,
    first_turn: i64,
    /// After a refusal, and after a restart, nothing is handed out until then.
    held_until: Option<Instant>,
    last_grant: Timestamp,
    refusals_in_a_row: u32,
    /// How long an answer usually takes: a moving average.
    round_trip: Duration,
    closed: bool,
}

type Ticket = oneshot::Sender<Result<Slot>>;

impl Quota {
    /// The quota by these limits, less what a process before has spent. Its task runs on `tasks` until `stop`, after which
    /// nothing is handed out.
    pub fn new(limits: &Limits, before: Option<&Spent>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let calls = limits.calls.saturating_sub(limits.reserve);
        let zone = TimeZone::get(&limits.daily_reset_zone).unwrap_or(TimeZone::UTC);
        let mut daily = Daily::new(limits.daily, zone);
        if let Some(before) = before {
            daily.resume(&before.day, before.calls);
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                configured: calls.max(1),
                calls: Slots::new(calls, limits.window, MARGIN),
                bulk: Slots::new(limits.bulk, limits.window, MARGIN),
                daily,
                waiting: [BTreeMap::new(), BTreeMap::new()],
                most_waiting: limits.queue,
                next_turn: 0,
                first_turn: -1,
                held_until: before.map(|before| Instant::now() + left_of_window(before, limits.window)),
                last_grant: before.map_or(Timestamp::UNIX_EPOCH, |before| before.last_grant.min(clock::now())),
                refusals_in_a_row: 0,
                round_trip: Duration::ZERO,
                closed: false,
            }),
            changed: Notify::new(),
        });
        tasks.spawn(hand_out(shared.clone(), stop));
        Self { shared }
    }

    /// Waits for the right to make a call: first come, first served. A call whose deadline would pass first is refused at
    /// once, and one that leaves costs nothing.
    pub async fn acquire(&self, call: &Call, cost: Cost, turn: Turn) -> Result<Slot> {
        let (turn, grant) = {
            let mut state = self.shared.lock();
            let now = Instant::now();
            state.admit(call.deadline, cost, turn, now)?;
            let is_next = turn == Turn::First || state.waiting[cost as usize].is_empty();
            if is_next && let Some(slot) = state.take(&self.shared, cost, now) {
                return Ok(slot);
            }
            state.enqueue(cost, turn)
        };
        self.shared.changed.notify_one();
        let _place = Place {
            shared: &self.shared,
            cost,
            turn,
        };
        match call.wait(PLACE, grant).await? {
            Ok(granted) => granted,
            Err(_) => Err(Kind::ShuttingDown.into()),
        }
    }

    /// What has been spent, to be remembered over a restart.
    pub fn spent(&self) -> Spent {
        let mut state = self.shared.lock();
        let (day, calls) = state.daily.spent(clock::now());
        let last_grant = state.last_grant;
        Spent { day, calls, last_grant }
    }

    /// The state at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.shared.lock();
        Snapshot {
            used: state.calls.used(Instant::now()),
            limit: state.calls.limit(),
            waiting: state.waiting.iter().map(BTreeMap::len).sum(),
            daily_remaining: state.daily.remaining(clock::now()),
        }
    }
}

impl Slot {
    /// The request is about to be sent.
    pub fn sent(&mut self) {
        self.sent = Some(Instant::now());
    }

    /// An answer came.
    pub fn answered(mut self, verdict: Verdict) {
        let answered = Instant::now();
        let sent = self.sent.unwrap_or(answered);
        self.end(End::Answered { sent, answered }, Some((verdict, sent)));
    }

    /// Nothing reached LeadSquared.
    pub fn unsent(mut self) {
        self.end(End::Unsent, None);
    }

    fn end(&mut self, end: End, verdict: Option<(Verdict, Instant)>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mut state = self.shared.lock();
        state.calls.end(end);
        if self.cost == Cost::Bulk {
            state.bulk.end(end);
        }
        match end {
            End::Unsent => state.daily.give_back(),
            End::Answered { sent, answered } => {
                let took = answered.saturating_duration_since(sent);
                state.round_trip = (state.round_trip * 7 + took) / 8;
            }
            End::Unanswered { .. } => {}
        }
        match verdict {
            Some((Verdict::Accepted, _)) => state.accepted(),
            Some((Verdict::Refused(refusal), sent)) => state.refused(refusal, self.cost, sent),
            None => {}
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let end = match self.sent {
            Some(_) => End::Unanswered {
                given_up: Instant::now(),
            },
            None => End::Unsent,
        };
        self.end(end, None);
    }
}

/// A place in the queue, left when dropped.
struct Place<'a> {
    shared: &'a Shared,
    cost: Cost,
    turn: i64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting[self.cost as usize].remove(&self.turn);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the window that a process before has spent may last at most: it is taken to have been spent whole. A grant in
/// the future is one of a process that came to no orderly end, or of a clock that was put back: then nothing is known.
fn left_of_window(before: &Spent, window: Duration) -> Duration {
    let whole = window + MARGIN;
    let since = clock::now().duration_since(before.last_grant);
    Duration::try_from(since).map_or(whole, |since| whole.saturating_sub(since))
}

/// Hands out slots as they fall free.
async fn hand_out(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let wake = {
            let mut state = shared.lock();
            let now = Instant::now();
            state.grant_all(&shared, now);
            state.next_wake(now)
        };
        let timer = async {
            match wake {
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
    let waiting = {
        let mut state = shared.lock();
        state.closed = true;
        std::mem::take(&mut state.waiting)
    };
    for (_, ticket) in waiting.into_iter().flatten() {
        // A waiter that has left needs no answer.
        let _ = ticket.send(Err(Kind::ShuttingDown.into()));
    }
}

impl State {
    /// Whether a call may wait at all.
    fn admit(&mut self, deadline: Instant, cost: Cost, turn: Turn, now: Instant) -> Result<()> {
        if self.closed {
            return Err(Kind::ShuttingDown.into());
        }
        if let Some(retry_after) = self.daily.refusal(clock::now()) {
            return Err(Kind::DailyBudgetExhausted { retry_after }.into());
        }
        if now >= deadline {
            return Err(exceeded(PLACE));
        }
        let waiting: usize = self.waiting.iter().map(BTreeMap::len).sum();
        let wait = |state: &mut Self, ahead| state.predicted_wait(cost, ahead, now);
        // Who had a turn already is not turned away.
        if waiting >= self.most_waiting && turn == Turn::Last {
            let retry_after = wait(self, 0).max(Duration::from_millis(1));
            return Err(Kind::QueueFull { retry_after }.into());
        }
        let ahead = if turn == Turn::First { 0 } else { waiting };
        let served = now + wait(self, ahead) + self.round_trip;
        if served > deadline {
            let retry_after = (served - deadline).max(Duration::from_millis(1));
            return Err(Kind::DeadlineInfeasible { retry_after }.into());
        }
        Ok(())
    }

    fn predicted_wait(&mut self, cost: Cost, ahead: usize, now: Instant) -> Duration {
        let held = self
            .held_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let calls = self.calls.predicted_wait(now, ahead);
        let bulk = match cost {
            Cost::Call => Duration::ZERO,
            Cost::Bulk => {
                let ahead = ahead.min(self.waiting[Cost::Bulk as usize].len());
                self.bulk.predicted_wait(now, ahead)
            }
        };
        held.max(calls).max(bulk)
    }

    fn enqueue(&mut self, cost: Cost, turn: Turn) -> (i64, oneshot::Receiver<Result<Slot>>) {
        let turn = match turn {
            Turn::Last => {
                self.next_turn += 1;
                self.next_turn
            }
            Turn::First => {
                self.first_turn -= 1;
                self.first_turn
            }
        };
        let (ticket, grant) = oneshot::channel();
        self.waiting[cost as usize].insert(turn, ticket);
        (turn, grant)
    }

    fn is_free(&mut self, cost: Cost, now: Instant) -> bool {
        let held = self.held_until.is_some_and(|until| now < until);
        !held
            && self.calls.is_free(now)
            && (cost == Cost::Call || self.bulk.is_free(now))
            && self.daily.refusal(clock::now()).is_none()
    }

    fn take(&mut self, shared: &Arc<Shared>, cost: Cost, now: Instant) -> Option<Slot> {
        if !self.is_free(cost, now) {
            return None;
        }
        self.calls.take();
        if cost == Cost::Bulk {
            self.bulk.take();
        }
        let at = clock::now();
        self.daily.spend(at);
        self.last_grant = at;
        Some(Slot {
            shared: shared.clone(),
            cost,
            sent: None,
            ended: false,
        })
    }

    /// Grants whatever can be granted, in the order of turns.
    fn grant_all(&mut self, shared: &Arc<Shared>, now: Instant) {
        if let Some(retry_after) = self.daily.refusal(clock::now()) {
            for (_, ticket) in std::mem::take(&mut self.waiting).into_iter().flatten() {
                let _ = ticket.send(Err(Kind::DailyBudgetExhausted { retry_after }.into()));
            }
        }
        while let Some(cost) = self.next_cost(now) {
            let Some((_, ticket)) = self.waiting[cost as usize].pop_first() else {
                return;
            };
            if ticket.is_closed() {
                continue;
            }
            let Some(slot) = self.take(shared, cost, now) else {
                return;
            };
            if let Err(Ok(mut unwanted)) = ticket.send(Ok(slot)) {
                // The waiter left between the look and the grant. Ended here, since dropping it would lock again.
                unwanted.ended = true;
                self.calls.end(End::Unsent);
                if cost == Cost::Bulk {
                    self.bulk.end(End::Unsent);
                }
                self.daily.give_back();
            }
        }
    }

    /// Whose turn it is among those that could go now.
    fn next_cost(&mut self, now: Instant) -> Option<Cost> {
        [Cost::Call, Cost::Bulk]
            .into_iter()
            .filter_map(|cost| {
                let (turn, _) = self.waiting[cost as usize].first_key_value()?;
                let turn = *turn;
                self.is_free(cost, now).then_some((turn, cost))
            })
            .min_by_key(|(turn, _)| *turn)
            .map(|(_, cost)| cost)
    }

    /// When to look again, if nothing else happens before.
    fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        if self.waiting.iter().all(BTreeMap::is_empty) {
            return None;
        }
        let held = self.held_until.filter(|until| now < *until);
        let bulk = if self.waiting[Cost::Bulk as usize].is_empty() {
            None
        } else {
            self.bulk.next_free(now)
        };
        match held {
            Some(until) => Some(until),
            None => [self.calls.next_free(now), bulk].into_iter().flatten().min(),
        }
    }

    fn accepted(&mut self) {
        self.refusals_in_a_row = 0;
        self.daily.open();
    }

    /// Somebody else uses the account, or its limit is lower than configured: hold back, the longer the oftener.
    fn refused(&mut self, refusal: Refusal, cost: Cost, sent: Instant) {
        let now = Instant::now();
        let limit = match refusal {
            Refusal::Daily => return self.daily.close(clock::now()),
            Refusal::Window(limit) => limit,
        };
        // Refusals of one burst are one piece of news.
        let known = self.held_until.is_some_and(|until| sent < until);
        if !known {
            self.refusals_in_a_row += 1;
            self.held_until = Some(now + self.calls.per() * self.refusals_in_a_row.min(5) / 5);
        }
        if let Some(limit) = limit
            && cost == Cost::Call
            && limit.per == self.calls.per()
        {
            // Never above what is configured, and never so low that one odd text brings everything to a stop.
            let least = (self.configured / 5).max(1);
            let told = limit.calls.clamp(least, self.configured);
            if told as usize != self.calls.limit() {
                tracing::warn!(
                    configured = self.configured,
                    told = limit.calls,
                    kept = told,
                    "LeadSquared names another limit than the one kept to"
                );
                self.calls.resize(told);
            }
        }
    }
}
