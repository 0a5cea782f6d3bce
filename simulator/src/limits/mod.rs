//! How many calls are let through: ordinary, bulk and per day. Pure: `now` is an argument, and
//! nothing here knows what a call asks for.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The tenant's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls in each `per`; 0: no limit. Default 25, as printed on every documentation page.
    pub calls: u32,
    /// Bulk calls in each `per`; 0: no limit. Default 1, the oldest documented figure.
    pub bulk: u32,
    /// Length of the window. Default 5 s, as documented.
    #[serde(with = "humantime_serde")]
    pub per: Duration,
    /// Calls in a day; 0: no limit. Default 0.
    pub daily: u32,
    /// The hour, UTC, at which a new day begins. Unknown upstream. Default 0.
    pub daily_reset_hour: u8,
    /// How calls are counted. Unknown upstream. Default [`Window::Sliding`].
    pub window: Window,
    /// How far into a fixed window the simulator starts. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub phase: Duration,
    /// The HTTP status of a refusal. Default 429, as documented.
    pub refusal: Refusal,
    /// Whether refusals have a `Retry-After` with the window in seconds. None was seen. Default false.
    pub retry_after: bool,
    /// Whether a bulk call also counts as an ordinary one. Unknown upstream. Default true.
    pub bulk_pays_calls: bool,
    /// Whether calls with wrong keys count. Unknown upstream. Default false.
    pub count_bad_keys: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 25,
            bulk: 1,
            per: Duration::from_secs(5),
            daily: 0,
            daily_reset_hour: 0,
            window: Window::Sliding,
            phase: Duration::ZERO,
            refusal: Refusal::S429,
            retry_after: false,
            bulk_pays_calls: true,
            count_bad_keys: false,
        }
    }
}

/// How the calls of one window are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// Windows one after the other from the start of the simulator.
    Fixed,
    /// A window opens with the first accepted call when none is open.
    FirstRequest,
    /// At most N accepted calls in any half-open interval.
    Sliding,
    /// The same, but refused calls are counted too: hammering never gets through.
    SlidingCountingRefusals,
    /// N tokens, refilled continuously.
    TokenBucket,
}

/// The HTTP status of a rate refusal; all three were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Refusal {
    /// 429 Too Many Requests.
    #[serde(rename = "429")]
    #[value(name = "429")]
    S429,
    /// 403 Forbidden.
    #[serde(rename = "403")]
    #[value(name = "403")]
    S403,
    /// 200 OK with an error body.
    #[serde(rename = "200")]
    #[value(name = "200")]
    S200,
}

impl Refusal {
    /// The status as a number.
    pub fn status(self) -> u16 {
        match self {
            Self::S429 => 429,
            Self::S403 => 403,
            Self::S200 => 200,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status())
    }
}

impl FromStr for Refusal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false)
    }
}

/// What became of a call at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was let in.
    Admitted,
    /// The window of `limit` calls is full.
    Refused {
        /// The calls of a window.
        limit: u32,
    },
    /// The day's calls are spent.
    RefusedDaily,
}

/// The state behind [`Limits`].
#[derive(Debug)]
pub struct Limiter {
    calls: Gate,
    bulk: Gate,
    day: i64,
    used: u64,
}

impl Limiter {
    /// Nothing let in yet; the first window begins at `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            calls: Gate::new(start),
            bulk: Gate::new(start),
            day: 0,
            used: 0,
        }
    }

    /// Lets a call through and counts it, or refuses it. A call refused by one gate is not
    /// counted by the other.
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

    /// A refusal that the counts do not explain, as foreign traffic on the account causes. It
    /// takes no room, except where refusals are counted.
    pub fn refuse(&mut self, now: Instant, bulk: bool, limits: &Limits) -> Verdict {
        if limits.window == Window::SlidingCountingRefusals {
            self.count(now, bulk, !bulk || limits.bulk_pays_calls, limits);
        }
        Verdict::Refused {
            limit: if bulk { limits.bulk } else { limits.calls },
        }
    }

    /// Calls let through on `day`.
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

/// One counter, able to count in each of the ways. A change of the way in mid-run begins with
/// whatever that way remembers, which may be nothing.
#[derive(Debug)]
struct Gate {
    start: Instant,
    /// Fixed: the number of the current window.
    turn: u128,
    /// FirstRequest: when the current window opened.
    opened: Option<Instant>,
    /// Fixed, FirstRequest: calls in the current window.
    used: u32,
    /// Sliding: the stamps of the last `per`.
    log: VecDeque<Instant>,
    /// TokenBucket: what is left, and since when; nothing before the first call.
    tokens: Option<(f64, Instant)>,
}

impl Gate {
    fn new(start: Instant) -> Self {
        Self {
            start,
            turn: 0,
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
                let turn = ((now - self.start) + limits.phase).as_nanos() / limits.per.as_nanos();
                if turn != self.turn {
                    (self.turn, self.used) = (turn, 0);
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
                self.forget(now, limits.per);
                self.log.len() < limit as usize
            }
            Window::TokenBucket => {
                let full = f64::from(limit);
                let tokens = self.tokens.map_or(full, |(left, since)| {
                    let refill = (now - since).as_secs_f64() * full / limits.per.as_secs_f64();
                    (left + refill).min(full)
                });
                self.tokens = Some((tokens, now));
                // A token that took exactly its time to refill must not fail on rounding.
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
                self.forget(now, limits.per);
                self.log.push_back(now);
            }
            Window::TokenBucket => {
                if let Some((left, _)) = &mut self.tokens {
                    *left -= 1.0;
                }
            }
        }
    }

    /// The interval is half open: a stamp exactly `per` ago no longer counts.
    fn forget(&mut self, now: Instant, per: Duration) {
        while self.log.front().is_some_and(|&stamp| now - stamp >= per) {
            self.log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        start: Instant,
        limits: Limits,
        limiter: Limiter,
    }

    impl Bench {
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
            self.ask(millis, 0, false) == Verdict::Admitted
        }

        fn ask(&mut self, millis: u64, day: i64, bulk: bool) -> Verdict {
            let now = self.start + Duration::from_millis(millis);
            self.limiter.admit(now, day, bulk, &self.limits)
        }

        fn ask_all(&mut self, millis: &[u64]) -> Vec<bool> {
            millis.iter().map(|&millis| self.at(millis)).collect()
        }
    }

    #[test]
    fn a_fixed_window_admits_twice_its_size_across_a_boundary() {
        let mut bench = Bench::new(Window::Fixed, 2);
        let admitted = bench.ask_all(&[4_900, 4_999, 4_999, 5_000, 5_001, 5_002, 10_000]);
        assert_eq!(admitted, [true, true, false, true, true, false, true]);
    }

    #[test]
    fn a_phase_moves_the_boundary_of_a_fixed_window() {
        let mut bench = Bench::new(Window::Fixed, 1);
        bench.limits.phase = Duration::from_secs(2);
        assert_eq!(
            bench.ask_all(&[0, 2_999, 3_000, 7_999, 8_000]),
            [true, false, true, false, true]
        );
    }

    #[test]
    fn a_window_that_opens_with_the_first_request_closes_after_its_length() {
        let mut bench = Bench::new(Window::FirstRequest, 2);
        let admitted = bench.ask_all(&[3_000, 7_999, 7_999, 8_000, 12_999, 12_999, 13_000]);
        assert_eq!(admitted, [true, true, false, true, true, false, true]);
    }

    #[test]
    fn a_sliding_window_is_half_open() {
        let mut bench = Bench::new(Window::Sliding, 2);
        let admitted = bench.ask_all(&[0, 1_000, 4_999, 5_000, 5_999, 6_000]);
        assert_eq!(admitted, [true, true, false, true, false, true]);
    }

    #[test]
    fn counted_refusals_keep_a_hammering_client_out() {
        let mut bench = Bench::new(Window::SlidingCountingRefusals, 1);
        let admitted = bench.ask_all(&[0, 3_000, 6_000, 9_000, 14_000]);
        assert_eq!(admitted, [true, false, false, false, true]);
    }

    #[test]
    fn a_token_bucket_refills_evenly() {
        let mut bench = Bench::new(Window::TokenBucket, 5);
        assert_eq!(bench.ask_all(&[0; 6]), [true, true, true, true, true, false]);
        assert_eq!(bench.ask_all(&[999, 1_000, 1_001, 2_000]), [false, true, false, true]);
        assert_eq!(bench.ask_all(&[60_000; 6]), [true, true, true, true, true, false]);
    }

    #[test]
    fn a_bulk_call_pays_both_gates_or_one() {
        for pays in [true, false] {
            let mut bench = Bench::new(Window::Sliding, 2);
            bench.limits.bulk_pays_calls = pays;
            assert_eq!(bench.ask(0, 0, true), Verdict::Admitted);
            assert_eq!(bench.ask(1, 0, true), Verdict::Refused { limit: 1 });
            assert_eq!(bench.ask_all(&[2, 3]), [true, !pays]);
        }
    }

    #[test]
    fn a_bulk_call_refused_by_the_ordinary_gate_leaves_the_bulk_gate_alone() {
        let mut bench = Bench::new(Window::Sliding, 1);
        assert!(bench.at(0));
        assert_eq!(bench.ask(1, 0, true), Verdict::Refused { limit: 1 });
        assert_eq!(bench.ask(5_000, 0, true), Verdict::Admitted);
    }

    #[test]
    fn the_day_has_its_own_limit() {
        let mut bench = Bench::new(Window::Sliding, 0);
        bench.limits.daily = 2;
        let day: Vec<_> = (0..3).map(|n| bench.ask(n, 7, false)).collect();
        assert_eq!(day, [Verdict::Admitted, Verdict::Admitted, Verdict::RefusedDaily]);
        assert_eq!(bench.ask(4, 8, false), Verdict::Admitted);
        assert_eq!((bench.limiter.used_on(8), bench.limiter.used_on(9)), (1, 0));
    }

    #[test]
    fn a_limit_of_nothing_is_no_limit() {
        let mut bench = Bench::new(Window::Fixed, 0);
        assert!(bench.ask_all(&[0; 100]).iter().all(|admitted| *admitted));
        bench.limits.calls = 1;
        bench.limits.per = Duration::ZERO;
        assert!(bench.ask_all(&[0; 100]).iter().all(|admitted| *admitted));
    }

    #[test]
    fn a_refusal_is_spelt_as_its_status() {
        assert_eq!("403".parse(), Ok(Refusal::S403));
        assert_eq!(Refusal::S200.to_string(), "200");
        assert!("500".parse::<Refusal>().is_err());
    }
}
