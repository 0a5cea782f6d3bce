//! The rate limiter: counts calls against the ordinary, the bulk and the daily limit. It is pure: `now` is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Limits, Window};

/// The decision of the limiter about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call is accepted.
    Admitted,
    /// The call exceeds the limit of a window.
    Refused {
        /// Maximum number of calls in a window.
        limit: u32,
    },
    /// The call exceeds the daily limit.
    RefusedDaily,
}

/// The state behind [`Limits`].
#[derive(Debug)]
pub struct Limiter {
    calls: Counter,
    bulk: Counter,
    day: i64,
    used: u64,
}

impl Limiter {
    /// Creates a limiter without calls. The first fixed window begins at `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            calls: Counter::new(start),
            bulk: Counter::new(start),
            day: 0,
            used: 0,
        }
    }

    /// Accepts a call and counts it, or refuses it. A call that one limit refuses does not count against the other
    /// limits, except with [`Window::SlidingCountingRefusals`].
    pub fn admit(&mut self, now: Instant, day: i64, bulk: bool, limits: &Limits) -> Verdict {
        if self.day != day {
            (self.day, self.used) = (day, 0);
        }
        let pays_calls = !bulk || limits.bulk_pays_calls;
        let verdict = if limits.daily > 0 && self.used >= u64::from(limits.daily) {
            Verdict::RefusedDaily
        } else if bulk && !self.bulk.has_room(now, limits.bulk, limits) {
            Verdict::Refused { limit: limits.bulk }
        } else if pays_calls && !self.calls.has_room(now, limits.calls, limits) {
            Verdict::Refused { limit: limits.calls }
        } else {
            self.used += 1;
            Verdict::Admitted
        };
        if verdict == Verdict::Admitted || limits.window == Window::SlidingCountingRefusals {
            self.count(now, bulk, pays_calls, limits);
        }
        verdict
    }

    /// Refuses a call although no limit is exceeded, as if other clients of the account had used the limit. The call is
    /// counted only with [`Window::SlidingCountingRefusals`].
    pub fn refuse(&mut self, now: Instant, bulk: bool, limits: &Limits) -> Verdict {
        if limits.window == Window::SlidingCountingRefusals {
            self.count(now, bulk, !bulk || limits.bulk_pays_calls, limits);
        }
        Verdict::Refused {
            limit: if bulk { limits.bulk } else { limits.calls },
        }
    }

    /// Returns the number of calls that were accepted on `day`.
    pub fn used_on(&self, day: i64) -> u64 {
        if self.day == day { self.used } else { 0 }
    }

    fn count(&mut self, now: Instant, bulk: bool, pays_calls: bool, limits: &Limits) {
        if bulk {
            self.bulk.count(now, limits);
        }
        if pays_calls {
            self.calls.count(now, limits);
        }
    }
}

/// A counter with the state of every kind of [`Window`]. After a change of the kind at run time the new kind continues
/// with its own state, which may be empty.
#[derive(Debug)]
struct Counter {
    start: Instant,
    /// `Fixed`: the number of the current window.
    index: u128,
    /// `FirstRequest`: the start of the current window.
    opened: Option<Instant>,
    /// `Fixed` and `FirstRequest`: the number of calls in the current window.
    used: u32,
    /// `Sliding` and `SlidingCountingRefusals`: the times of the calls in the last `per`.
    log: VecDeque<Instant>,
    /// `TokenBucket`: the remaining tokens, and the time at which they were computed. Unset before the first call.
    tokens: Option<(f64, Instant)>,
}

impl Counter {
    fn new(start: Instant) -> Self {
        Self {
            start,
            index: 0,
            opened: None,
            used: 0,
            log: VecDeque::new(),
            tokens: None,
        }
    }

    fn has_room(&mut self, now: Instant, limit: u32, limits: &Limits) -> bool {
        if limit == 0 || limits.per.is_zero() {
            return true;
        }
        match limits.window {
            Window::Fixed => {
                let index = ((now - self.start) + limits.phase).as_nanos() / limits.per.as_nanos();
                if index != self.index {
                    (self.index, self.used) = (index, 0);
                }
                self.used < limit
            }
            Window::FirstRequest => {
                if self.opened.is_some_and(|opened| now - opened >= limits.per) {
                    (self.opened, self.used) = (None, 0);
                }
                self.used < limit
            }
            Window::Sliding | Window::SlidingCountingRefusals => {
                self.remove_expired(now, limits.per);
                self.log.len() < limit as usize
            }
            Window::TokenBucket => {
                let full = f64::from(limit);
                let tokens = self.tokens.map_or(full, |(tokens, since)| {
                    let refill = (now - since).as_secs_f64() * full / limits.per.as_secs_f64();
                    (tokens + refill).min(full)
                });
                self.tokens = Some((tokens, now));
                // The tolerance accepts a token that a rounding error makes slightly less than 1.
                tokens >= 1.0 - 1e-9
            }
        }
    }

    fn count(&mut self, now: Instant, limits: &Limits) {
        match limits.window {
            Window::Fixed => self.used += 1,
            Window::FirstRequest => {
                self.opened.get_or_insert(now);
                self.used += 1;
            }
            Window::Sliding | Window::SlidingCountingRefusals => {
                self.remove_expired(now, limits.per);
                self.log.push_back(now);
            }
            Window::TokenBucket => {
                if let Some((tokens, _)) = &mut self.tokens {
                    *tokens -= 1.0;
                }
            }
        }
    }

    /// Removes the calls that no longer count. The window is half-open: a call exactly `per` ago does not count.
    fn remove_expired(&mut self, now: Instant, per: Duration) {
        while self.log.front().is_some_and(|&stamp| now - stamp >= per) {
            self.log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestLimiter {
        start: Instant,
        limits: Limits,
        limiter: Limiter,
    }

    impl TestLimiter {
        fn new(window: Window, calls: u32) -> Self {
            let start = Instant::now();
            Self {
                start,
                limits: Limits {
                    calls,
                    window,
                    ..Limits::default()
                },
                limiter: Limiter::new(start),
            }
        }

        fn at(&mut self, millis: u64) -> bool {
            self.admit(millis, 0, false) == Verdict::Admitted
        }

        fn admit(&mut self, millis: u64, day: i64, bulk: bool) -> Verdict {
            let now = self.start + Duration::from_millis(millis);
            self.limiter.admit(now, day, bulk, &self.limits)
        }

        fn admit_all(&mut self, millis: &[u64]) -> Vec<bool> {
            millis.iter().map(|&millis| self.at(millis)).collect()
        }
    }

    #[test]
    fn a_fixed_window_admits_twice_its_limit_around_a_boundary() {
        let mut test = TestLimiter::new(Window::Fixed, 2);
        let admitted = test.admit_all(&[4_900, 4_999, 4_999, 5_000, 5_001, 5_002, 10_000]);
        assert_eq!(admitted, [true, true, false, true, true, false, true]);
    }

    #[test]
    fn the_phase_moves_the_boundary_of_a_fixed_window() {
        let mut test = TestLimiter::new(Window::Fixed, 1);
        test.limits.phase = Duration::from_secs(2);
        assert_eq!(
            test.admit_all(&[0, 2_999, 3_000, 7_999, 8_000]),
            [true, false, true, false, true]
        );
    }

    #[test]
    fn a_first_request_window_begins_with_a_call_and_ends_after_its_length() {
        let mut test = TestLimiter::new(Window::FirstRequest, 2);
        let admitted = test.admit_all(&[3_000, 7_999, 7_999, 8_000, 12_999, 12_999, 13_000]);
        assert_eq!(admitted, [true, true, false, true, true, false, true]);
    }

    #[test]
    fn a_sliding_window_is_half_open() {
        let mut test = TestLimiter::new(Window::Sliding, 2);
        let admitted = test.admit_all(&[0, 1_000, 4_999, 5_000, 5_999, 6_000]);
        assert_eq!(admitted, [true, true, false, true, false, true]);
    }

    #[test]
    fn counted_refusals_extend_the_window() {
        let mut test = TestLimiter::new(Window::SlidingCountingRefusals, 1);
        let admitted = test.admit_all(&[0, 3_000, 6_000, 9_000, 14_000]);
        assert_eq!(admitted, [true, false, false, false, true]);
    }

    #[test]
    fn a_token_bucket_refills_continuously() {
        let mut test = TestLimiter::new(Window::TokenBucket, 5);
        assert_eq!(test.admit_all(&[0; 6]), [true, true, true, true, true, false]);
        assert_eq!(test.admit_all(&[999, 1_000, 1_001, 2_000]), [false, true, false, true]);
        assert_eq!(test.admit_all(&[60_000; 6]), [true, true, true, true, true, false]);
    }

    #[test]
    fn a_bulk_call_counts_against_both_limits_or_only_the_bulk_limit() {
        for pays in [true, false] {
            let mut test = TestLimiter::new(Window::Sliding, 2);
            test.limits.bulk_pays_calls = pays;
            assert_eq!(test.admit(0, 0, true), Verdict::Admitted);
            assert_eq!(test.admit(1, 0, true), Verdict::Refused { limit: 1 });
            assert_eq!(test.admit_all(&[2, 3]), [true, !pays]);
        }
    }

    #[test]
    fn a_bulk_call_that_the_ordinary_limit_refuses_does_not_count_against_the_bulk_limit() {
        let mut test = TestLimiter::new(Window::Sliding, 1);
        assert!(test.at(0));
        assert_eq!(test.admit(1, 0, true), Verdict::Refused { limit: 1 });
        assert_eq!(test.admit(5_000, 0, true), Verdict::Admitted);
    }

    #[test]
    fn calls_above_the_daily_limit_are_refused() {
        let mut test = TestLimiter::new(Window::Sliding, 0);
        test.limits.daily = 2;
        let day: Vec<_> = (0..3).map(|n| test.admit(n, 7, false)).collect();
        assert_eq!(day, [Verdict::Admitted, Verdict::Admitted, Verdict::RefusedDaily]);
        assert_eq!(test.admit(4, 8, false), Verdict::Admitted);
        assert_eq!((test.limiter.used_on(8), test.limiter.used_on(9)), (1, 0));
    }

    #[test]
    fn a_limit_or_window_of_zero_disables_the_limit() {
        let mut test = TestLimiter::new(Window::Fixed, 0);
        assert!(test.admit_all(&[0; 100]).iter().all(|admitted| *admitted));
        test.limits.calls = 1;
        test.limits.per = Duration::ZERO;
        assert!(test.admit_all(&[0; 100]).iter().all(|admitted| *admitted));
    }
}
