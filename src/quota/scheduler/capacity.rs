//! The capacity of one account: its two windows, its day, the circuit breaker, and the measured latencies. Depends
//! neither on the queue nor on which call gets a slot.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use crate::clock;
use crate::domain::handover::{Handover, LimitHandover};
use crate::domain::usage::{HeldSlots, HeldSlotsOfLimit, QuotaUsage};
use crate::error::{Limit, Refusal};
use crate::quota::breaker::{Breaker, BreakerSettings, ProbeId};
use crate::quota::daily::Daily;
use crate::quota::latency::{Latency, LatencyEstimate};
use crate::quota::queue::{SlotSupply, Supply};
use crate::quota::utilization::UtilizationMeter;
use crate::quota::window::{NextSlot, Window, WindowGrant, WindowSnapshot};
use crate::quota::{Before, BreakerSnapshot, BreakerState, Cost, QueueSnapshot, QuotaLimits, QuotaSnapshot, Verdict};

/// How much later than the last grant before a restart LeadSquared's window may have begun.
const WINDOW_START_DELAY: Duration = Duration::from_millis(50);

/// The capacity of one account.
pub(super) struct Capacity {
    pub(super) calls: Window,
    pub(super) bulk: Window,
    /// Whether a bulk call takes a slot of all calls too.
    bulk_pays_calls: bool,
    pub(super) daily: Daily,
    pub(super) breaker: Breaker,
    /// The recent latencies of each endpoint.
    latencies: HashMap<&'static str, Latency>,
    /// Those of the former owner of the tenant, until the endpoint is used.
    former_latencies: BTreeMap<String, Latency>,
    /// The last time at which LeadSquared may have counted a call: when it was granted, and until it ended.
    last_stamp: Timestamp,
    /// Number of slots granted so far.
    grants: u64,
    utilization: UtilizationMeter,
}

/// The capacity that one call holds.
pub(super) struct HeldCapacity {
    calls: Option<WindowGrant>,
    bulk: Option<WindowGrant>,
    /// The call as a probe of the circuit breaker, until its response was judged.
    pub(super) probe: Option<ProbeId>,
}

impl Capacity {
    /// The capacity by these limits, less what was used before.
    pub(super) fn new(limits: &QuotaLimits, breaker: BreakerSettings, before: Before<'_>) -> Self {
        let limit = |calls| Limit {
            calls,
            per: limits.window,
        };
        let mut capacity = Self {
            calls: Window::new(limit(limits.calls), limits.reserve),
            bulk: Window::new(limit(limits.bulk), 0),
            bulk_pays_calls: limits.bulk_pays_calls,
            daily: Daily::new(limits.daily, daily_zone(limits)),
            breaker: Breaker::new(breaker),
            latencies: HashMap::new(),
            former_latencies: BTreeMap::new(),
            last_stamp: Timestamp::UNIX_EPOCH,
            grants: 0,
            utilization: UtilizationMeter::default(),
        };
        let now = Instant::now();
        match before {
            Before::Nothing => {}
            Before::Usage(usage) => capacity.continue_usage(usage, limits.window, now),
            Before::Handover(handover) => {
                capacity.continue_handover(handover, 0, now);
                capacity.calls.hold_slots(&handover.calls, now);
                capacity.bulk.hold_slots(&handover.bulk, now);
            }
            Before::NoHandover { saved, lease, lateness } => {
                if let Some(saved) = saved {
                    let uncounted = calls_since_saved(&saved.calls, lease);
                    capacity.continue_handover(saved, uncounted, now);
                }
                capacity.calls.full_after_loss(lateness, now);
                capacity.bulk.full_after_loss(lateness, now);
            }
        }
        capacity
    }

    /// Continues with the usage of the previous process.
    fn continue_usage(&mut self, usage: &QuotaUsage, per: Duration, now: Instant) {
        self.daily.resume(&usage.day, usage.calls);
        self.last_stamp = usage.last_grant.min(clock::now());
        let resume = |window: &mut Window, held: Option<&HeldSlotsOfLimit>| match held.filter(|held| held.window == per)
        {
            Some(held) => {
                let remaining = held.free_at.iter().map(|at| held_for(*at, per));
                remaining
                    .filter(|remaining| !remaining.is_zero())
                    .for_each(|remaining| window.hold(now + remaining));
            }
            None => window.full_until(now + remaining_window(usage, per)),
        };
        let slots = usage.slots.as_ref();
        resume(&mut self.calls, slots.map(|held| &held.calls));
        resume(&mut self.bulk, slots.map(|held| &held.bulk));
    }

    /// Continues with the state of the former owner of the tenant, without its slots.
    fn continue_handover(&mut self, handover: &Handover, uncounted: u64, now: Instant) {
        self.calls.resume(&handover.calls, now);
        self.bulk.resume(&handover.bulk, now);
        let at = clock::now();
        self.daily.continue_day(&handover.day, uncounted, at);
        self.last_stamp = at;
        let latencies = handover.latencies.iter();
        self.former_latencies = latencies
            .map(|(endpoint, samples)| (endpoint.clone(), Latency::resume(samples, now)))
            .collect();
    }

    /// The state for the next owner of the tenant. `timeout` is that of the calls in progress.
    pub(super) fn handover(&mut self, timeout: Duration, now: Instant) -> Handover {
        let window = self.calls.limit().per;
        let known = self
            .latencies
            .iter()
            .map(|(endpoint, latency)| ((*endpoint).to_owned(), latency));
        let former = self
            .former_latencies
            .iter()
            .map(|(endpoint, latency)| (endpoint.clone(), latency));
        let latencies = former
            .chain(known)
            .map(|(endpoint, latency)| (endpoint, latency.handover(now, window)));
        Handover {
            calls: self.calls.handover(timeout, now),
            bulk: self.bulk.handover(timeout, now),
            day: self.daily.handover(clock::now()),
            latencies: latencies.filter(|(_, samples)| !samples.is_empty()).collect(),
        }
    }

    /// Number of calls that hold a slot and have not ended.
    pub(super) fn in_progress(&self) -> usize {
        self.calls.in_progress().max(self.bulk.in_progress())
    }

    /// Changes the limits. Slots in use stay counted, and so do the calls of the day.
    pub(super) fn set_limits(&mut self, limits: &QuotaLimits, now: Instant) {
        let limit = |calls| Limit {
            calls,
            per: limits.window,
        };
        self.calls.set_limit(limit(limits.calls), limits.reserve, now);
        self.bulk.set_limit(limit(limits.bulk), 0, now);
        self.daily.set_limit(limits.daily, daily_zone(limits), clock::now());
        if limits.bulk_pays_calls && !self.bulk_pays_calls {
            // Bulk calls in progress are assumed to end now.
            for free_at in self.bulk.held(now) {
                self.calls.hold(free_at.unwrap_or(now + self.calls.limit().per));
            }
        }
        self.bulk_pays_calls = limits.bulk_pays_calls;
    }

    /// The slots as the queue sees them. Ignores the circuit breaker.
    pub(super) fn supply(&mut self, now: Instant) -> Supply {
        let slots = |window: &mut Window| SlotSupply {
            limit: window.effective(),
            free: window.free(now),
        };
        Supply {
            window: self.calls.limit().per,
            calls: slots(&mut self.calls),
            bulk: slots(&mut self.bulk),
            pacing_delay: self.calls.pacing_delay(now),
        }
    }

    /// The measured latency of an endpoint, mutable.
    pub(super) fn latency(&mut self, endpoint: &'static str) -> &mut Latency {
        let former = &mut self.former_latencies;
        let first = || former.remove(endpoint).unwrap_or_default();
        self.latencies.entry(endpoint).or_insert_with(first)
    }

    /// The expected latency of a call to that endpoint.
    pub(super) fn estimate(&self, endpoint: &'static str, now: Instant) -> LatencyEstimate {
        let latency = self
            .latencies
            .get(endpoint)
            .or_else(|| self.former_latencies.get(endpoint));
        latency.map_or_else(LatencyEstimate::default, |latency| {
            latency.estimate(now, self.calls.limit().per)
        })
    }

    /// The waits for slots as admission sees them. With `is_paced`, calls are spread evenly over the window.
    pub(super) fn waits(&mut self, is_paced: bool, now: Instant) -> SlotWaits<'_> {
        SlotWaits {
            breaker: self.breaker.wait(now),
            calls: &mut self.calls,
            bulk: &mut self.bulk,
            is_paced,
        }
    }

    /// Takes the slots of a call of this cost.
    pub(super) fn take(&mut self, cost: Cost, now: Instant) -> HeldCapacity {
        let is_bulk = cost == Cost::Bulk;
        let held = HeldCapacity {
            calls: (!is_bulk || self.bulk_pays_calls).then(|| self.calls.granted(now)),
            bulk: is_bulk.then(|| self.bulk.granted(now)),
            probe: self.breaker.granted(),
        };
        let at = clock::now();
        self.daily.save_usage(at);
        self.last_stamp = at;
        held
    }

    /// Counts a slot that a call has received.
    pub(super) fn count_grant(&mut self, now: Instant) {
        self.grants += 1;
        self.utilization.granted(self.calls.limit().per, now);
    }

    /// The call was not sent.
    pub(super) fn unsent(&mut self, held: HeldCapacity) {
        held.probe.into_iter().for_each(|probe| self.breaker.unsent(probe));
        held.calls.into_iter().for_each(|grant| self.calls.unsent(grant));
        held.bulk.into_iter().for_each(|grant| self.bulk.unsent(grant));
        self.daily.give_back();
    }

    /// The call was sent, and there is no response.
    pub(super) fn lost(&mut self, held: HeldCapacity, now: Instant) {
        held.probe.into_iter().for_each(|probe| self.breaker.lost(probe, now));
        self.last_stamp = clock::now();
        held.calls.into_iter().for_each(|grant| self.calls.lost(grant, now));
        held.bulk.into_iter().for_each(|grant| self.bulk.lost(grant, now));
    }

    /// A response to the call was received.
    pub(super) fn responded(
        &mut self,
        held: HeldCapacity,
        endpoint: &'static str,
        sent: Instant,
        received: Instant,
        verdict: Verdict,
    ) {
        self.last_stamp = clock::now();
        // A server in front of the endpoint may send a refusal earlier than the endpoint responds.
        if verdict == Verdict::Accepted {
            let took = received.saturating_duration_since(sent);
            self.latency(endpoint).learn(received, took);
        }
        match verdict {
            Verdict::Accepted => self.daily.open(),
            Verdict::Refused(Refusal::Daily) => self.daily.close(clock::now()),
            Verdict::Refused(Refusal::Window(_)) => {}
        }
        // Only one of its two windows has refused a bulk call: that of all calls if the response names the limit of all calls.
        let now = Instant::now();
        let calls_refused = match (verdict, &held.bulk) {
            (Verdict::Refused(Refusal::Window(Some(named))), Some(_)) => {
                named.calls == self.calls.snapshot(now).limit.calls
                    && named.calls != self.bulk.snapshot(now).limit.calls
            }
            (_, bulk) => bulk.is_none(),
        };
        // For a window, the end of the day is neutral.
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
                .and_then(|grant| self.calls.responded(grant, endpoint, sent, received, to_calls)),
            held.bulk
                .and_then(|grant| self.bulk.responded(grant, endpoint, sent, received, to_bulk)),
        ];
        for (window, changed) in ["calls", "bulk"].into_iter().zip(changes) {
            if let Some(limit) = changed {
                tracing::warn!(window, calls = limit.calls, per = ?limit.per, "rate limit changed to the limit that LeadSquared reports");
            }
        }
    }

    /// The limit of the window of calls of this cost, and the number of calls that leadgate uses of it.
    pub(super) fn limits(&self, cost: Cost) -> (i64, i64) {
        let window = match cost {
            Cost::Call => &self.calls,
            Cost::Bulk => &self.bulk,
        };
        let effective = i64::try_from(window.effective()).unwrap_or(i64::MAX);
        (window.limit().calls.into(), effective)
    }

    /// The usage, to be stored for the next process.
    pub(super) fn usage(&mut self, now: Instant) -> QuotaUsage {
        let at = clock::now();
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
            calls: held(&mut self.calls),
            bulk: held(&mut self.bulk),
        };
        let (day, calls) = self.daily.usage(at);
        QuotaUsage {
            day,
            calls,
            last_grant: self.last_stamp,
            slots: Some(slots),
        }
    }

    /// The state at this moment, with that of the queue.
    pub(super) fn snapshot(&mut self, queue: QueueSnapshot, now: Instant) -> QuotaSnapshot {
        let at = clock::now();
        let limit = self.calls.snapshot(now).limit;
        let breaker_next = self.breaker.next(now);
        let window = |mut window: WindowSnapshot| {
            window.free_in = match breaker_next {
                NextSlot::Now => window.free_in,
                NextSlot::At(at) => window.free_in.map(|free_in| free_in.max(at - now)),
                NextSlot::AfterCallEnds => None,
            };
            window
        };
        let breaker_state = self.breaker.state(now);
        let since = self.breaker.opened();
        let next_probe_in = (breaker_state == BreakerState::Open).then(|| self.breaker.wait(now));
        QuotaSnapshot {
            calls: window(self.calls.snapshot(now)),
            bulk: window(self.bulk.snapshot(now)),
            daily: self.daily.snapshot(at),
            breaker: BreakerSnapshot {
                state: breaker_state,
                since: since.map(|since| at - now.saturating_duration_since(since)),
                next_probe_in,
            },
            queue,
            now,
            grants: self.grants,
            utilization: self.utilization.last(limit, now),
        }
    }
}

/// The waits for slots as admission sees them.
pub(super) struct SlotWaits<'a> {
    calls: &'a mut Window,
    bulk: &'a mut Window,
    /// Whether calls are spread evenly over the window.
    is_paced: bool,
    /// For how long the circuit breaker allows no call.
    breaker: Duration,
}

impl SlotWaits<'_> {
    /// The time until this number of slots has gone to other calls and one more is free.
    pub(super) fn wait(&mut self, now: Instant, cost: Cost, ahead: usize) -> Duration {
        let slot = match cost {
            Cost::Call if self.is_paced => self.calls.paced_wait(now, ahead),
            Cost::Call => self.calls.predicted_wait(now, ahead),
            Cost::Bulk => self.bulk.predicted_wait(now, ahead),
        };
        if self.breaker.is_zero() {
            return slot;
        }
        // The calls ahead wait for the circuit breaker as well. When it closes, the slots of a window are free at once.
        let window = match cost {
            Cost::Call => &self.calls,
            Cost::Bulk => &self.bulk,
        };
        let rounds = u32::try_from(ahead / window.effective().max(1)).unwrap_or(u32::MAX);
        slot.max(self.breaker.saturating_add(window.limit().per.saturating_mul(rounds)))
    }
}

/// How much longer than a window a call may hold its slot: the time that the call takes.
pub(super) fn drift(estimate: &LatencyEstimate, window: Duration) -> Duration {
    estimate.long.max(window / 25)
}

/// The maximum number of calls that the former owner of a tenant has made since it stored its state, which it does once per window.
fn calls_since_saved(calls: &LimitHandover, lease: Duration) -> u64 {
    let windows = lease.as_nanos().div_ceil(calls.limit.per.as_nanos().max(1)) + 2;
    u64::from(calls.limit.calls).saturating_mul(u64::try_from(windows).unwrap_or(u64::MAX))
}

/// The time zone in which the day of the daily limit begins.
fn daily_zone(limits: &QuotaLimits) -> TimeZone {
    TimeZone::get(&limits.daily_reset_zone).unwrap_or(TimeZone::UTC)
}

/// The maximum remaining time of the window that a previous process has used. The window is taken to be full. If the last
/// grant is in the future, that process did not shut down, or the clock was set back: then the whole window is assumed.
fn remaining_window(before: &QuotaUsage, window: Duration) -> Duration {
    let whole = window + WINDOW_START_DELAY;
    let since = clock::now().duration_since(before.last_grant);
    Duration::try_from(since).map_or(whole, |since| whole.saturating_sub(since))
}

/// For how long a slot of a previous process is still held: at most one window, if the call had not ended or the clock was
/// set back.
fn held_for(free_at: Timestamp, window: Duration) -> Duration {
    let remaining = free_at.duration_since(clock::now());
    Duration::try_from(remaining).map_or(Duration::ZERO, |remaining| remaining.min(window + WINDOW_START_DELAY))
}
