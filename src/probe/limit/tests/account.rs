//! An account in tokio's time, which tests pause: the limiter of the simulator behind a network with jitter, and foreign calls.

use std::sync::Mutex;
use std::time::Duration;

use leadgate_simulator::limits::{Limiter, Limits, Verdict};
use tokio::time::{Instant, sleep};

use super::super::random::Random;
use crate::probe::call::{CallKind, CallObservation, CallOutcome, ProbeCaller};

/// The account and its network.
#[derive(Clone, Debug)]
pub(crate) struct AccountOptions {
    pub(crate) limits: Limits,
    /// Maximum latency. Each call gets a random part of it, half before and half after the limiter.
    pub(crate) jitter: Duration,
    /// Foreign calls per second, at random times.
    pub(crate) foreign: f64,
    /// Foreign calls at regular times: the interval in seconds, and how many there are at each time.
    pub(crate) regular: Option<(f64, u32)>,
    /// Whether the refusals name the limit.
    pub(crate) named: bool,
    /// Whether calls of an unknown path, and calls with an invalid body, count.
    pub(crate) charged: [bool; 2],
    /// What happens after a number of calls, instead of a response.
    pub(crate) ends: Option<(u32, CallOutcome)>,
    /// Number of calls that may be sent.
    pub(crate) budget: u32,
    pub(crate) seed: u64,
}

/// The server and the network of a test.
pub(crate) struct Account {
    options: AccountOptions,
    state: Mutex<State>,
}

struct State {
    limiter: Limiter,
    random: Random,
    next_foreign: Instant,
    pub(crate) sent: u32,
}

impl Account {
    pub(crate) fn new(options: AccountOptions) -> Self {
        // Foreign calls, and the first fixed window, begin before the measurement.
        let start = Instant::now();
        let state = State {
            limiter: Limiter::new(start),
            random: Random::new(options.seed),
            next_foreign: start,
            sent: 0,
        };
        let account = Self {
            options,
            state: Mutex::new(state),
        };
        account.schedule_foreign(&mut account.state.lock().unwrap(), start);
        account
    }

    pub(crate) fn sent(&self) -> u32 {
        self.state.lock().unwrap().sent
    }

    fn schedule_foreign(&self, state: &mut State, after: Instant) {
        let pause = match self.options {
            AccountOptions {
                regular: Some((interval, _)),
                ..
            } => interval,
            AccountOptions { foreign, .. } if foreign > 0.0 => state.random.exponential() / foreign,
            _ => 1e9,
        };
        state.next_foreign = after + Duration::from_secs_f64(pause);
    }

    fn decide(&self, kind: CallKind) -> CallOutcome {
        let now = Instant::now();
        let state = &mut *self.state.lock().unwrap();
        let limits = &self.options.limits;
        while state.next_foreign <= now {
            let at = state.next_foreign;
            for _ in 0..self.options.regular.map_or(1, |(_, count)| count) {
                state.limiter.admit(at, 0, false, limits);
            }
            self.schedule_foreign(state, at);
        }
        state.sent += 1;
        if let Some((after, outcome)) = &self.options.ends
            && state.sent > *after
        {
            return outcome.clone();
        }
        let (status, counts) = match kind {
            CallKind::Read | CallKind::Bulk => (200, true),
            CallKind::UnknownPath => (404, self.options.charged[0]),
            CallKind::BadJson => (400, self.options.charged[1]),
        };
        if !counts {
            return CallOutcome::Accepted(status);
        }
        match state.limiter.admit(now, 0, kind == CallKind::Bulk, limits) {
            Verdict::Admitted => CallOutcome::Accepted(status),
            Verdict::Refused { limit } => CallOutcome::Refused {
                status: limits.refusal.status(),
                text: match self.options.named {
                    false => "too many calls".to_owned(),
                    true => format!(
                        "API calls exceeded the limit of {limit} in {} second(s)",
                        limits.per.as_secs().max(1)
                    ),
                },
            },
            Verdict::RefusedDaily => CallOutcome::DailyRefused {
                status: 429,
                text: "daily".into(),
            },
        }
    }
}

impl ProbeCaller for Account {
    async fn call(&self, kind: CallKind) -> CallObservation {
        let sent = Instant::now();
        let half = self
            .options
            .jitter
            .mul_f64(self.state.lock().unwrap().random.uniform() / 2.0);
        sleep(half).await;
        let outcome = self.decide(kind);
        sleep(half).await;
        CallObservation {
            kind,
            sent,
            received: Instant::now(),
            outcome,
        }
    }

    fn calls_left(&self) -> u32 {
        self.options.budget.saturating_sub(self.sent())
    }

    fn progress(&self, _text: &str, _fraction: f32) {}
}
