//! The circuit breaker of one tenant: whether calls may be sent while LeadSquared fails. Pure, with `now` as an
//! argument. Does not depend on the queue or HTTP.
//!
//! The breaker opens after several failures in a row of different operations. While it is open, one call at a time is sent as a
//! probe, after growing pauses. Any response that is not a failure closes it. A `Retry-After` of LeadSquared is
//! respected in every state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::window::NextSlot;

/// The settings of the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Number of failures in a row that open it. 0: it never opens.
    pub failures: u32,
    /// The pause before the first probe. Each further pause is twice as long.
    pub pause: Duration,
    /// Maximum length of a pause.
    pub max_pause: Duration,
    /// Maximum `Retry-After` that is respected. Longer times are lowered to it. Zero: `Retry-After` is ignored.
    pub max_retry_after: Duration,
}

/// The identity of an operation. All attempts of one operation, and all parts of one split batch, have the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(u64);

impl OperationId {
    /// An identity that no other operation of this process has.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a response, or its absence, says about LeadSquared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSignal {
    /// The operation that was sent.
    pub operation: OperationId,
    /// Whether LeadSquared failed: there was no response, or one that is not LeadSquared's own.
    pub is_failure: bool,
    /// The pause that LeadSquared requests (`Retry-After`).
    pub retry_after: Option<Duration>,
}

/// What a signal has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// The breaker has opened.
    Opened {
        /// Number of failures in a row.
        failures: usize,
        /// Time until the first probe.
        next_probe: Duration,
    },
    /// A probe has failed.
    ProbeFailed {
        /// Time until the next probe.
        next_probe: Duration,
    },
    /// The breaker has closed.
    Closed {
        /// How long it was open.
        open: Duration,
        /// Number of probes that were sent.
        probes: u32,
    },
}

/// The states of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are sent as the quota allows.
    Closed,
    /// No calls are sent.
    Open,
    /// One call is sent as a probe, or its response is pending.
    HalfOpen,
}

/// The identity of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeId(u64);

/// The circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    /// The operations that have failed since the last response that was not a failure.
    failed: Vec<OperationId>,
    open: Option<Open>,
    /// When it last closed. Failures of calls that were sent before are ignored.
    closed: Option<Instant>,
    /// The end of the pause that LeadSquared has requested.
    hold_until: Option<Instant>,
    next_id: u64,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    pause: Duration,
    next_probe: Instant,
    probe: Option<ProbeId>,
    probes: u32,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            failed: Vec::new(),
            open: None,
            closed: None,
            hold_until: None,
            next_id: 0,
        }
    }

    /// When the breaker allows the next call.
    pub fn next(&self, now: Instant) -> NextSlot {
        let at = match &self.open {
            Some(open) if open.probe.is_some() => return NextSlot::AfterCallEnds,
            Some(open) => self.hold_until.max(Some(open.next_probe)),
            None => self.hold_until,
        };
        match at.filter(|at| *at > now) {
            Some(at) => NextSlot::At(at),
            None => NextSlot::Now,
        }
    }

    /// Minimum time for which no call is allowed.
    pub fn wait(&self, now: Instant) -> Duration {
        match self.next(now) {
            NextSlot::At(at) => at - now,
            NextSlot::Now | NextSlot::AfterCallEnds => Duration::ZERO,
        }
    }

    /// Whether it is open or half open: calls wait for a probe to succeed.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Counts a call that [`Breaker::next`] has allowed. Returns its id if it is a probe.
    pub fn granted(&mut self) -> Option<ProbeId> {
        let open = self.open.as_mut()?;
        let id = ProbeId(self.next_id);
        self.next_id += 1;
        open.probe = Some(id);
        Some(id)
    }

    /// The probe was not sent, so another call may be a probe.
    pub fn unsent(&mut self, probe: ProbeId) {
        if let Some(open) = &mut self.open
            && open.probe == Some(probe)
        {
            open.probe = None;
        }
    }

    /// The probe was sent, and its outcome is unknown.
    pub fn lost(&mut self, probe: ProbeId, now: Instant) {
        let _change = self.probe_failed(probe, now);
    }

    /// Processes the response to a call that was sent at `sent`, or its absence.
    pub fn signal(
        &mut self,
        probe: Option<ProbeId>,
        sent: Instant,
        signal: &BreakerSignal,
        now: Instant,
    ) -> Option<BreakerChange> {
        let most = self.settings.max_retry_after;
        let retry_after = signal.retry_after.map(|after| after.min(most));
        let retry_after = retry_after.filter(|after| !after.is_zero());
        if let Some(after) = retry_after {
            self.hold_until = self.hold_until.max(Some(now + after));
        }
        if !signal.is_failure {
            self.failed.clear();
            let open = self.open.take()?;
            self.closed = Some(now);
            return Some(BreakerChange::Closed {
                open: now - open.since,
                probes: open.probes + u32::from(open.probe.is_some()),
            });
        }
        if self.open.is_some() {
            return self.probe_failed(probe?, now);
        }
        if self.settings.failures == 0 || self.closed.is_some_and(|closed| sent < closed) {
            return None;
        }
        if !self.failed.contains(&signal.operation) {
            self.failed.push(signal.operation);
        }
        let failures = self.failed.len();
        // After a `Retry-After`, no further calls are sent to reach the number of failures.
        if retry_after.is_none() && failures < self.settings.failures as usize {
            return None;
        }
        let pause = self.settings.pause;
        self.open = Some(Open {
            since: now,
            pause,
            next_probe: now + pause,
            probe: None,
            probes: 0,
        });
        let next_probe = self.wait(now);
        Some(BreakerChange::Opened { failures, next_probe })
    }

    fn probe_failed(&mut self, probe: ProbeId, now: Instant) -> Option<BreakerChange> {
        let open = self.open.as_mut().filter(|open| open.probe == Some(probe))?;
        open.probe = None;
        open.probes += 1;
        open.pause = (open.pause * 2).min(self.settings.max_pause);
        open.next_probe = now + open.pause;
        let next_probe = self.wait(now);
        Some(BreakerChange::ProbeFailed { next_probe })
    }

    /// The state at this moment.
    pub fn state(&self, now: Instant) -> BreakerState {
        match (&self.open, self.next(now)) {
            (None, _) => BreakerState::Closed,
            (Some(_), NextSlot::At(_)) => BreakerState::Open,
            (Some(_), NextSlot::Now | NextSlot::AfterCallEnds) => BreakerState::HalfOpen,
        }
    }

    /// When it opened. `None` while it is closed.
    pub fn opened(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SETTINGS: BreakerSettings = BreakerSettings {
        failures: 5,
        pause: SECOND,
        max_pause: Duration::from_secs(30),
        max_retry_after: Duration::from_secs(300),
    };

    fn failure(operation: u64) -> BreakerSignal {
        BreakerSignal {
            operation: OperationId(operation),
            is_failure: true,
            retry_after: None,
        }
    }

    fn good() -> BreakerSignal {
        BreakerSignal {
            operation: OperationId(1_000),
            is_failure: false,
            retry_after: None,
        }
    }

    fn after(response: BreakerSignal, seconds: u64) -> BreakerSignal {
        BreakerSignal {
            retry_after: Some(Duration::from_secs(seconds)),
            ..response
        }
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for operation in 0..5 {
            assert!(!breaker.is_open());
            breaker.signal(None, now, &failure(operation), now);
        }
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn failures_in_a_row_of_different_operations_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for operation in [1, 1, 2, 2, 1, 3, 4, 4, 4] {
            assert_eq!(breaker.signal(None, now, &failure(operation), now), None);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        let change = breaker.signal(None, now, &failure(5), now);
        let (failures, next_probe) = (5, SECOND);
        assert_eq!(change, Some(BreakerChange::Opened { failures, next_probe }));
        assert_eq!(breaker.next(now), NextSlot::At(now + SECOND));
        assert_eq!((breaker.state(now), breaker.opened()), (BreakerState::Open, Some(now)));
    }

    #[test]
    fn a_good_response_resets_the_count() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for round in 0..10 {
            for operation in 0..4 {
                breaker.signal(None, now, &failure(round * 10 + operation), now);
            }
            breaker.signal(None, now, &good(), now);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn zero_failures_disable_it() {
        let now = Instant::now();
        let settings = BreakerSettings {
            failures: 0,
            ..SETTINGS
        };
        let mut breaker = Breaker::new(settings);
        for operation in 0..100 {
            breaker.signal(None, now, &failure(operation), now);
        }
        assert_eq!((breaker.is_open(), breaker.next(now)), (false, NextSlot::Now));
        // A `Retry-After` is respected nevertheless.
        breaker.signal(None, now, &after(failure(1), 7), now);
        assert_eq!((breaker.is_open(), breaker.wait(now)), (false, 7 * SECOND));
    }

    #[test]
    fn pauses_grow_from_probe_to_probe_up_to_the_maximum() {
        let mut now = Instant::now();
        let (begun, mut breaker) = (now, opened(now));
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let pause = SECOND * pause;
            assert_eq!(breaker.next(now), NextSlot::At(now + pause));
            assert_eq!(
                breaker.next(now + pause - Duration::from_millis(1)),
                NextSlot::At(now + pause)
            );
            now += pause;
            assert_eq!(
                (breaker.next(now), breaker.state(now)),
                (NextSlot::Now, BreakerState::HalfOpen)
            );
            let probe = breaker.granted();
            assert_eq!(
                (breaker.next(now), breaker.state(now)),
                (NextSlot::AfterCallEnds, BreakerState::HalfOpen)
            );
            // Responses to calls that were sent before it opened change nothing.
            assert_eq!(breaker.signal(None, begun, &failure(77), now), None);
            assert_eq!(breaker.next(now), NextSlot::AfterCallEnds);
            now += SECOND / 10;
            let change = breaker.signal(probe, now, &failure(78), now);
            assert!(matches!(change, Some(BreakerChange::ProbeFailed { .. })), "{change:?}");
        }
        now += SECOND * 30;
        let probe = breaker.granted();
        let change = breaker.signal(probe, now, &good(), now);
        let (open, probes) = (now - begun, 8);
        assert_eq!(change, Some(BreakerChange::Closed { open, probes }));
        assert_eq!((breaker.next(now), breaker.opened()), (NextSlot::Now, None));
    }

    #[test]
    fn after_a_probe_that_was_not_sent_another_call_is_a_probe() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SECOND;
        let first = breaker.granted().unwrap();
        breaker.unsent(first);
        assert_eq!(breaker.next(later), NextSlot::Now);
        let second = breaker.granted().unwrap();
        breaker.unsent(first);
        assert_eq!(breaker.next(later), NextSlot::AfterCallEnds);
        breaker.lost(second, later);
        assert_eq!(breaker.wait(later), 2 * SECOND);
    }

    #[test]
    fn failures_of_calls_that_were_sent_before_it_closed_do_not_count() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SECOND;
        let probe = breaker.granted();
        breaker.signal(probe, later, &good(), later);
        for operation in 10..20 {
            breaker.signal(None, now, &failure(operation), later);
        }
        assert!(!breaker.is_open());
        for operation in 20..25 {
            breaker.signal(None, later, &failure(operation), later);
        }
        assert!(breaker.is_open());
    }

    #[test]
    fn a_failure_with_retry_after_opens_it_at_once() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        let change = breaker.signal(None, now, &after(failure(1), 20), now);
        let (failures, next_probe) = (1, 20 * SECOND);
        assert_eq!(change, Some(BreakerChange::Opened { failures, next_probe }));
        assert_eq!(breaker.next(now), NextSlot::At(now + 20 * SECOND));
        // A shorter `Retry-After` of another call does not shorten the time.
        breaker.signal(None, now, &after(failure(2), 3), now);
        assert_eq!(breaker.wait(now), 20 * SECOND);
        let mut breaker = Breaker::new(SETTINGS);
        breaker.signal(None, now, &after(failure(1), 1_000), now);
        assert_eq!(breaker.wait(now), 300 * SECOND);
    }

    #[test]
    fn a_refusal_with_retry_after_holds_calls_back_and_is_no_failure() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..10 {
            breaker.signal(None, now, &after(good(), 4), now);
        }
        assert_eq!(
            (breaker.state(now), breaker.wait(now)),
            (BreakerState::Closed, 4 * SECOND)
        );
        // A good response to another call does not shorten the time.
        breaker.signal(None, now, &good(), now);
        assert_eq!(breaker.wait(now), 4 * SECOND);
        assert_eq!(breaker.next(now + 4 * SECOND), NextSlot::Now);
    }

    /// A step of a test case.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Wait(u64),
        Send,
        /// The call at this index among those in progress ends.
        End {
            which: usize,
            operation: u64,
            is_failure: bool,
            retry_after: Option<u64>,
        },
        Unsent(usize),
    }

    fn events() -> impl Strategy<Value = Event> {
        let end = (
            any::<usize>(),
            0..20_u64,
            any::<bool>(),
            prop::option::weighted(0.1, 0..400_u64),
        );
        prop_oneof![
            3 => (1..5_000_u64).prop_map(Event::Wait),
            6 => Just(Event::Send),
            6 => end.prop_map(|(which, operation, is_failure, retry_after)| Event::End {
                which, operation, is_failure, retry_after
            }),
            1 => any::<usize>().prop_map(Event::Unsent),
        ]
    }

    proptest! {
        #[test]
        fn one_probe_at_a_time_never_before_retry_after_and_any_good_response_closes(
            failures in 0..6_u32,
            events in prop::collection::vec(events(), 1..300),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(BreakerSettings { failures, ..SETTINGS });
            let mut in_flight: Vec<(Option<ProbeId>, Instant)> = Vec::new();
            let mut hold_until = now;
            let mut not_before = now;
            let (mut distinct, mut pause) = (Vec::new(), Duration::ZERO);
            for event in events {
                match event {
                    Event::Wait(ms) => now += Duration::from_millis(ms),
                    Event::Send if breaker.next(now) == NextSlot::Now => {
                        prop_assert!(now >= hold_until && now >= not_before);
                        let probe = breaker.granted();
                        prop_assert_eq!(probe.is_some(), breaker.is_open());
                        in_flight.push((probe, now));
                        // Probes of an earlier opening are not counted.
                        let probes = in_flight.iter().filter(|(probe, _)| {
                            probe.is_some() && breaker.open.as_ref().is_some_and(|open| open.probe == *probe)
                        });
                        prop_assert!(probes.count() <= 1);
                        if breaker.is_open() {
                            prop_assert_ne!(breaker.next(now), NextSlot::Now);
                        }
                    }
                    Event::Send => {}
                    Event::Unsent(which) if !in_flight.is_empty() => {
                        if let (Some(probe), _) = in_flight.remove(which % in_flight.len()) {
                            breaker.unsent(probe);
                        }
                    }
                    Event::Unsent(_) => {}
                    Event::End { which, operation, is_failure, retry_after } if !in_flight.is_empty() => {
                        let (probe, sent) = in_flight.remove(which % in_flight.len());
                        let retry_after = retry_after.map(Duration::from_secs);
                        let was_open = breaker.is_open();
                        let response = BreakerSignal { operation: OperationId(operation), is_failure, retry_after };
                        let change = breaker.signal(probe, sent, &response, now);
                        if let Some(after) = retry_after {
                            hold_until = hold_until.max(now + after.min(SETTINGS.max_retry_after));
                        }
                        if !is_failure {
                            prop_assert!(!breaker.is_open());
                            prop_assert_eq!(matches!(change, Some(BreakerChange::Closed { .. })), was_open);
                            distinct.clear();
                            not_before = now;
                        } else if !distinct.contains(&operation) {
                            distinct.push(operation);
                        }
                        match change {
                            Some(BreakerChange::Opened { .. }) => {
                                prop_assert!(failures > 0);
                                let is_asked = retry_after.is_some_and(|after| !after.is_zero());
                                prop_assert!(is_asked || distinct.len() >= failures as usize);
                                pause = SETTINGS.pause;
                                not_before = now + pause;
                            }
                            Some(BreakerChange::ProbeFailed { .. }) => {
                                prop_assert!(was_open && probe.is_some());
                                pause = (pause * 2).min(SETTINGS.max_pause);
                                not_before = now + pause;
                            }
                            Some(BreakerChange::Closed { .. }) | None => {}
                        }
                        prop_assert!(failures > 0 || !breaker.is_open());
                    }
                    Event::End { .. } => {}
                }
                // It never gets stuck: without a probe in progress there is a time at which a call may be sent.
                if breaker.open.as_ref().is_none_or(|open| open.probe.is_none()) {
                    let until = now + breaker.wait(now);
                    prop_assert_eq!(breaker.next(until), NextSlot::Now);
                }
            }
        }
    }
}
