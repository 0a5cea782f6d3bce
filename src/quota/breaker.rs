//! The circuit breaker of one tenant: whether calls may be sent while LeadSquared fails. Pure, with `now` as an argument;
//! it knows neither the queue nor HTTP.
//!
//! It opens after some failures in a row of different operations. While it is open, one call at a time is sent as a
//! probe, after growing pauses. Any response that is not a failure closes it. A time that LeadSquared names
//! (`Retry-After`) is kept to in every state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::window::Next;

/// How the breaker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Number of failures in a row that open it; 0: it never opens.
    pub failures: u32,
    /// The pause before the first probe. Each further pause is twice as long.
    pub pause: Duration,
    /// Maximum length of a pause.
    pub max_pause: Duration,
    /// Maximum time of a `Retry-After` that is kept to; longer ones are cut to it. Zero: none is kept to.
    pub max_retry_after: Duration,
}

/// The identity of an operation. All attempts of one operation, and all parts of one split batch, have the same.
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
pub struct Response {
    /// The operation that was sent.
    pub operation: OperationId,
    /// Whether LeadSquared failed: there was no response, or one that is not LeadSquared's own.
    pub is_failure: bool,
    /// How long LeadSquared asks to send nothing.
    pub retry_after: Option<Duration>,
}

/// What a response has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The breaker has opened.
    Opened {
        /// The number of failures in a row.
        failures: usize,
        /// The time until the first probe.
        next_probe: Duration,
    },
    /// A probe has failed.
    ProbeFailed {
        /// The time until the next probe.
        next_probe: Duration,
    },
    /// The breaker has closed.
    Closed {
        /// How long it was open.
        open: Duration,
        /// The number of probes that were sent.
        probes: u32,
    },
}

/// The three states of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls are sent as the quota allows.
    Closed,
    /// No calls are sent.
    Open,
    /// One call is sent as a probe, or its response is awaited.
    HalfOpen,
}

/// The name of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeId(u64);

/// The circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    /// The operations that have failed since the last response that was not a failure.
    failed: Vec<OperationId>,
    open: Option<Open>,
    /// When it last closed. Failures of calls that were sent before say nothing about the time after.
    closed: Option<Instant>,
    /// Until when LeadSquared has asked to send nothing.
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

    /// When a call may be sent, as far as the breaker is concerned.
    pub fn next(&self, now: Instant) -> Next {
        let at = match &self.open {
            Some(open) if open.probe.is_some() => return Next::AfterAnEnd,
            Some(open) => self.hold_until.max(Some(open.next_probe)),
            None => self.hold_until,
        };
        match at.filter(|at| *at > now) {
            Some(at) => Next::At(at),
            None => Next::Now,
        }
    }

    /// How long no call is sent at least.
    pub fn wait(&self, now: Instant) -> Duration {
        match self.next(now) {
            Next::At(at) => at - now,
            Next::Now | Next::AfterAnEnd => Duration::ZERO,
        }
    }

    /// Whether calls wait for a probe to succeed.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A call is sent that [`Breaker::next`] has allowed. If it is a probe, its name.
    pub fn granted(&mut self) -> Option<ProbeId> {
        let open = self.open.as_mut()?;
        let id = ProbeId(self.next_id);
        self.next_id += 1;
        open.probe = Some(id);
        Some(id)
    }

    /// The probe was not sent, so another call may be one.
    pub fn unsent(&mut self, probe: ProbeId) {
        if let Some(open) = &mut self.open
            && open.probe == Some(probe)
        {
            open.probe = None;
        }
    }

    /// The probe was sent and nobody knows what became of it.
    pub fn lost(&mut self, probe: ProbeId, now: Instant) {
        let _change = self.probe_failed(probe, now);
    }

    /// There was a response to a call that was sent then, or none will come.
    pub fn response(
        &mut self,
        probe: Option<ProbeId>,
        sent: Instant,
        response: &Response,
        now: Instant,
    ) -> Option<Change> {
        let most = self.settings.max_retry_after;
        let retry_after = response.retry_after.map(|after| after.min(most));
        let retry_after = retry_after.filter(|after| !after.is_zero());
        if let Some(after) = retry_after {
            self.hold_until = self.hold_until.max(Some(now + after));
        }
        if !response.is_failure {
            self.failed.clear();
            let open = self.open.take()?;
            self.closed = Some(now);
            return Some(Change::Closed {
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
        if !self.failed.contains(&response.operation) {
            self.failed.push(response.operation);
        }
        let failures = self.failed.len();
        // To send four more calls would be sooner than LeadSquared has asked for.
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
        Some(Change::Opened { failures, next_probe })
    }

    fn probe_failed(&mut self, probe: ProbeId, now: Instant) -> Option<Change> {
        let open = self.open.as_mut().filter(|open| open.probe == Some(probe))?;
        open.probe = None;
        open.probes += 1;
        open.pause = (open.pause * 2).min(self.settings.max_pause);
        open.next_probe = now + open.pause;
        let next_probe = self.wait(now);
        Some(Change::ProbeFailed { next_probe })
    }

    /// The state at this moment.
    pub fn state(&self, now: Instant) -> State {
        match (&self.open, self.next(now)) {
            (None, _) => State::Closed,
            (Some(_), Next::At(_)) => State::Open,
            (Some(_), Next::Now | Next::AfterAnEnd) => State::HalfOpen,
        }
    }

    /// When it opened, if it is not closed.
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

    fn failure(operation: u64) -> Response {
        Response {
            operation: OperationId(operation),
            is_failure: true,
            retry_after: None,
        }
    }

    fn good() -> Response {
        Response {
            operation: OperationId(1_000),
            is_failure: false,
            retry_after: None,
        }
    }

    fn after(response: Response, seconds: u64) -> Response {
        Response {
            retry_after: Some(Duration::from_secs(seconds)),
            ..response
        }
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for operation in 0..5 {
            assert!(!breaker.is_open());
            breaker.response(None, now, &failure(operation), now);
        }
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn failures_in_a_row_of_different_operations_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for operation in [1, 1, 2, 2, 1, 3, 4, 4, 4] {
            assert_eq!(breaker.response(None, now, &failure(operation), now), None);
        }
        assert_eq!(breaker.state(now), State::Closed);
        let change = breaker.response(None, now, &failure(5), now);
        let (failures, next_probe) = (5, SECOND);
        assert_eq!(change, Some(Change::Opened { failures, next_probe }));
        assert_eq!(breaker.next(now), Next::At(now + SECOND));
        assert_eq!((breaker.state(now), breaker.opened()), (State::Open, Some(now)));
    }

    #[test]
    fn a_good_response_ends_the_count() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for round in 0..10 {
            for operation in 0..4 {
                breaker.response(None, now, &failure(round * 10 + operation), now);
            }
            breaker.response(None, now, &good(), now);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn zero_failures_switch_it_off() {
        let now = Instant::now();
        let settings = BreakerSettings {
            failures: 0,
            ..SETTINGS
        };
        let mut breaker = Breaker::new(settings);
        for operation in 0..100 {
            breaker.response(None, now, &failure(operation), now);
        }
        assert_eq!((breaker.is_open(), breaker.next(now)), (false, Next::Now));
        // What LeadSquared asks for is kept to nevertheless.
        breaker.response(None, now, &after(failure(1), 7), now);
        assert_eq!((breaker.is_open(), breaker.wait(now)), (false, 7 * SECOND));
    }

    #[test]
    fn pauses_grow_from_probe_to_probe_up_to_the_maximum() {
        let mut now = Instant::now();
        let (begun, mut breaker) = (now, opened(now));
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let pause = SECOND * pause;
            assert_eq!(breaker.next(now), Next::At(now + pause));
            assert_eq!(
                breaker.next(now + pause - Duration::from_millis(1)),
                Next::At(now + pause)
            );
            now += pause;
            assert_eq!((breaker.next(now), breaker.state(now)), (Next::Now, State::HalfOpen));
            let probe = breaker.granted();
            assert_eq!(
                (breaker.next(now), breaker.state(now)),
                (Next::AfterAnEnd, State::HalfOpen)
            );
            // Others that were sent before it opened change nothing.
            assert_eq!(breaker.response(None, begun, &failure(77), now), None);
            assert_eq!(breaker.next(now), Next::AfterAnEnd);
            now += SECOND / 10;
            let change = breaker.response(probe, now, &failure(78), now);
            assert!(matches!(change, Some(Change::ProbeFailed { .. })), "{change:?}");
        }
        now += SECOND * 30;
        let probe = breaker.granted();
        let change = breaker.response(probe, now, &good(), now);
        let (open, probes) = (now - begun, 8);
        assert_eq!(change, Some(Change::Closed { open, probes }));
        assert_eq!((breaker.next(now), breaker.opened()), (Next::Now, None));
    }

    #[test]
    fn a_probe_that_was_not_sent_makes_room_for_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SECOND;
        let first = breaker.granted().unwrap();
        breaker.unsent(first);
        assert_eq!(breaker.next(later), Next::Now);
        let second = breaker.granted().unwrap();
        breaker.unsent(first);
        assert_eq!(breaker.next(later), Next::AfterAnEnd);
        breaker.lost(second, later);
        assert_eq!(breaker.wait(later), 2 * SECOND);
    }

    #[test]
    fn failures_of_calls_that_were_sent_before_it_closed_do_not_count() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + SECOND;
        let probe = breaker.granted();
        breaker.response(probe, later, &good(), later);
        for operation in 10..20 {
            breaker.response(None, now, &failure(operation), later);
        }
        assert!(!breaker.is_open());
        for operation in 20..25 {
            breaker.response(None, later, &failure(operation), later);
        }
        assert!(breaker.is_open());
    }

    #[test]
    fn a_failure_with_a_time_opens_it_at_once() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        let change = breaker.response(None, now, &after(failure(1), 20), now);
        let (failures, next_probe) = (1, 20 * SECOND);
        assert_eq!(change, Some(Change::Opened { failures, next_probe }));
        assert_eq!(breaker.next(now), Next::At(now + 20 * SECOND));
        // A shorter time of another call does not shorten it.
        breaker.response(None, now, &after(failure(2), 3), now);
        assert_eq!(breaker.wait(now), 20 * SECOND);
        let mut breaker = Breaker::new(SETTINGS);
        breaker.response(None, now, &after(failure(1), 1_000), now);
        assert_eq!(breaker.wait(now), 300 * SECOND);
    }

    #[test]
    fn a_refusal_with_a_time_holds_calls_back_and_is_no_failure() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..10 {
            breaker.response(None, now, &after(good(), 4), now);
        }
        assert_eq!((breaker.state(now), breaker.wait(now)), (State::Closed, 4 * SECOND));
        // A good response of another call does not make it shorter.
        breaker.response(None, now, &good(), now);
        assert_eq!(breaker.wait(now), 4 * SECOND);
        assert_eq!(breaker.next(now + 4 * SECOND), Next::Now);
    }

    /// What happens next.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Wait(u64),
        Send,
        /// The call of that position among those in flight ends.
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
        fn one_probe_at_a_time_never_sooner_than_asked_and_any_good_response_closes(
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
                    Event::Send if breaker.next(now) == Next::Now => {
                        prop_assert!(now >= hold_until && now >= not_before);
                        let probe = breaker.granted();
                        prop_assert_eq!(probe.is_some(), breaker.is_open());
                        in_flight.push((probe, now));
                        // None of an earlier opening is counted.
                        let probes = in_flight.iter().filter(|(probe, _)| {
                            probe.is_some() && breaker.open.as_ref().is_some_and(|open| open.probe == *probe)
                        });
                        prop_assert!(probes.count() <= 1);
                        if breaker.is_open() {
                            prop_assert_ne!(breaker.next(now), Next::Now);
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
                        let response = Response { operation: OperationId(operation), is_failure, retry_after };
                        let change = breaker.response(probe, sent, &response, now);
                        if let Some(after) = retry_after {
                            hold_until = hold_until.max(now + after.min(SETTINGS.max_retry_after));
                        }
                        if !is_failure {
                            prop_assert!(!breaker.is_open());
                            prop_assert_eq!(matches!(change, Some(Change::Closed { .. })), was_open);
                            distinct.clear();
                            not_before = now;
                        } else if !distinct.contains(&operation) {
                            distinct.push(operation);
                        }
                        match change {
                            Some(Change::Opened { .. }) => {
                                prop_assert!(failures > 0);
                                let is_asked = retry_after.is_some_and(|after| !after.is_zero());
                                prop_assert!(is_asked || distinct.len() >= failures as usize);
                                pause = SETTINGS.pause;
                                not_before = now + pause;
                            }
                            Some(Change::ProbeFailed { .. }) => {
                                prop_assert!(was_open && probe.is_some());
                                pause = (pause * 2).min(SETTINGS.max_pause);
                                not_before = now + pause;
                            }
                            Some(Change::Closed { .. }) | None => {}
                        }
                        prop_assert!(failures > 0 || !breaker.is_open());
                    }
                    Event::End { .. } => {}
                }
                // It never gets stuck: without a probe under way there is a time at which a call may be sent.
                if breaker.open.as_ref().is_none_or(|open| open.probe.is_none()) {
                    let until = now + breaker.wait(now);
                    prop_assert_eq!(breaker.next(until), Next::Now);
                }
            }
        }
    }
}
