//! The five kinds of windows as pure models, with times in seconds. [`Counter::admit`] decides about one call.
//!
//! The simulator has the same rules in `simulator/src/limits/limiter.rs`. A unit test compares the two.

use std::collections::VecDeque;
use std::fmt;

/// How LeadSquared counts the calls of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Consecutive windows whose boundaries do not depend on the calls.
    Fixed,
    /// A window begins with the first accepted call after the end of the previous window.
    FirstRequest,
    /// The accepted calls in the interval before each call count.
    Sliding,
    /// Like `Sliding`, but refused calls count too.
    SlidingCountingRefusals,
    /// A bucket with as many tokens as the limit, which is refilled continuously within the length of a window.
    TokenBucket,
}

impl WindowKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Fixed,
        Self::FirstRequest,
        Self::Sliding,
        Self::SlidingCountingRefusals,
        Self::TokenBucket,
    ];

    /// The name in the JSON report, which is the name in the options of the simulator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::FirstRequest => "first-request",
            Self::Sliding => "sliding",
            Self::SlidingCountingRefusals => "sliding-counting-refusals",
            Self::TokenBucket => "token-bucket",
        }
    }
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A limit: its kind, the maximum number of calls in a window, and the length of a window in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) kind: WindowKind,
    pub(super) calls: u32,
    pub(super) per: f64,
}

/// The state of one limit.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    /// `Fixed` and `FirstRequest`: the start of the current window. `TokenBucket`: when `used` was computed.
    pub(super) since: f64,
    /// `Fixed` and `FirstRequest`: the calls in the current window. `TokenBucket`: the missing tokens.
    used: f64,
    /// `Sliding` and `SlidingCountingRefusals`: the times of the calls that count.
    log: VecDeque<f64>,
}

impl Counter {
    /// A counter without calls. A fixed window begins at `since`.
    pub(super) fn new(since: f64) -> Self {
        Self {
            since,
            used: 0.0,
            log: VecDeque::new(),
        }
    }

    /// Accepts and counts a call at `now`, or refuses it. `now` never decreases.
    pub(super) fn admit(&mut self, now: f64, rule: &Rule) -> bool {
        let limit = f64::from(rule.calls);
        match rule.kind {
            WindowKind::Fixed => {
                if now - self.since >= rule.per {
                    self.since += ((now - self.since) / rule.per).floor() * rule.per;
                    self.used = 0.0;
                }
            }
            WindowKind::FirstRequest => {
                if now - self.since >= rule.per {
                    self.used = 0.0;
                }
                if self.used == 0.0 {
                    self.since = now;
                }
            }
            WindowKind::TokenBucket => {
                let refill = (now - self.since) * limit / rule.per;
                (self.used, self.since) = ((self.used - refill).max(0.0), now);
            }
            WindowKind::Sliding | WindowKind::SlidingCountingRefusals => {
                while self.log.front().is_some_and(|stamp| now - stamp >= rule.per) {
                    self.log.pop_front();
                }
                let admitted = self.log.len() < rule.calls as usize;
                if admitted || rule.kind == WindowKind::SlidingCountingRefusals {
                    self.log.push_back(now);
                }
                return admitted;
            }
        }
        // The tolerance accepts a token that a rounding error makes slightly less than 1.
        let admitted = self.used <= limit - 1.0 + 1e-9;
        if admitted {
            self.used += 1.0;
        }
        admitted
    }

    /// Corrects the state after [`Counter::admit`] has refused a call at `now` that was accepted.
    pub(super) fn accept_anyway(&mut self, now: f64, rule: &Rule) {
        match rule.kind {
            WindowKind::Fixed | WindowKind::FirstRequest => (self.since, self.used) = (now, 1.0),
            WindowKind::TokenBucket => self.used = f64::from(rule.calls),
            WindowKind::Sliding => {
                self.log.pop_front();
                self.log.push_back(now);
            }
            // The call is in the log.
            WindowKind::SlidingCountingRefusals => self
                .log
                .drain(..self.log.len().saturating_sub(rule.calls as usize))
                .for_each(drop),
        }
    }

    /// Corrects the state after [`Counter::admit`] has accepted a call at `now` that was refused: the limit is reached. `random`
    /// returns random numbers from 0 to 1.
    pub(super) fn exhaust(&mut self, now: f64, rule: &Rule, mut random: impl FnMut() -> f64) {
        match rule.kind {
            WindowKind::Fixed | WindowKind::FirstRequest => self.used = f64::from(rule.calls),
            WindowKind::TokenBucket => self.used = f64::from(rule.calls) - random(),
            WindowKind::Sliding | WindowKind::SlidingCountingRefusals => {
                let missing = (rule.calls as usize).saturating_sub(self.log.len());
                let unseen = (0..missing).map(|_| now - rule.per * random());
                self.log.extend(unseen);
                self.log.make_contiguous().sort_unstable_by(f64::total_cmp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leadgate_simulator::Window;
    use leadgate_simulator::limits::{Limiter, Limits, Verdict};
    use tokio::time::Instant;

    use super::super::random::Random;
    use super::*;

    #[test]
    fn each_kind_decides_like_the_simulator() {
        let windows = [
            Window::Fixed,
            Window::FirstRequest,
            Window::Sliding,
            Window::SlidingCountingRefusals,
            Window::TokenBucket,
        ];
        let mut random = Random::new(7);
        for (kind, window) in WindowKind::ALL.into_iter().zip(windows) {
            for calls in [1, 2, 5, 25] {
                let limits = Limits {
                    calls,
                    window,
                    phase: Duration::from_millis(1_300),
                    ..Limits::default()
                };
                let rule = Rule { kind, calls, per: 5.0 };
                let start = Instant::now();
                let (mut limiter, mut counter) = (Limiter::new(start), Counter::new(-1.3));
                let mut millis = 0;
                let mut refused = 0;
                for call in 0..1_000 {
                    // Mean rates around the limit, and now and then a silence.
                    let pause = 7_000.0 / f64::from(calls) * random.uniform();
                    millis += if call % 200 == 0 { 6_001 } else { pause as u64 | 1 };
                    let now = start + Duration::from_millis(millis);
                    let expected = limiter.admit(now, 0, false, &limits) == Verdict::Admitted;
                    let admitted = counter.admit((now - start).as_secs_f64(), &rule);
                    assert_eq!(admitted, expected, "{kind}, {calls} calls, at {millis} ms");
                    refused += u32::from(!admitted);
                }
                assert!(refused > 20, "{kind}, {calls} calls: {refused} refused");
            }
        }
    }
}
