//! Runs a scenario: the real quota between simulated callers and the limiter of the simulator behind a simulated
//! network. Knows nothing of the expected figures.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use leadgate::clock;
use leadgate::cluster::TenantLease;
use leadgate::context::RequestContext;
use leadgate::domain::usage::QuotaUsage;
use leadgate::error::{Error, ErrorKind, Limit, Refusal};
use leadgate::quota::breaker::{self, OperationId};
use leadgate::quota::{CallerQuota, CallerQuotas, Cost, Quota, QuotaLimits, SlotRequest, Verdict};
use leadgate_simulator::limits::{Limiter, Verdict as Admission};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::script::{Arrivals, Caller, Event, Restart, Script};

/// The results of a run.
#[derive(Debug, Default)]
pub struct RunResult {
    pub stamps: Vec<Stamp>,
    pub outcomes: Vec<CallOutcome>,
    /// Our own calls in the order in which they ended.
    pub exchanges: Vec<Exchange>,
    /// Number of slots that the quota has granted, and number of slots used for a call.
    pub granted: u64,
    pub sent: u64,
    /// Number of writes that were sent while a write to the same key was in progress.
    pub overlapping: u64,
    /// The limit as far as the quota knows it at the end.
    pub limit: u32,
}

/// A call that reached the server.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub at: Duration,
    pub is_foreign: bool,
    pub is_bulk: bool,
    pub accepted: bool,
    /// The server failed.
    pub failed: bool,
    /// The key that it writes, and its place in the order of all requests to write it.
    pub write: Option<(u32, u64)>,
}

/// A call of ours, from its start to its end.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub begun: Duration,
    pub ended: Duration,
    pub failed: bool,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallOutcome {
    /// The index of its stream in the script.
    pub stream: usize,
    pub end: End,
    /// The time until the attempt that was accepted was sent, or until the call was refused.
    pub waited: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Served,
    Rejected,
    /// Its deadline passed in the queue.
    Expired,
    /// The server failed at every attempt.
    Failed,
}

/// Maximum number of attempts of an operation, and the pause between two attempts, as with the defaults of the
/// gateway.
const MAX_ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

struct Runner {
    script: Script,
    start: Instant,
    tasks: TaskTracker,
    state: Mutex<State>,
}

struct State {
    server: Limiter,
    limits: leadgate_simulator::Limits,
    foreign: f64,
    is_outage: bool,
    random: Random,
    quota: Quota,
    stop: CancellationToken,
    /// Number of processes that have ended.
    generation: u32,
    writes: HashMap<u32, u64>,
    writing: HashSet<u32>,
    result: RunResult,
}

/// Runs the scenario to its end.
pub async fn run(script: &Script) -> RunResult {
    let runner = Arc::new(Runner::new(script.clone()));
    let mut acting = JoinSet::new();
    acting.spawn(runner.clone().act_foreign());
    acting.spawn(runner.clone().act_events());
    for stream in 0..script.callers.len() {
        acting.spawn(runner.clone().act_caller(stream));
    }
    sleep(script.lasts).await;
    // A call that was granted a slot at this moment still uses it.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    acting.shutdown().await;
    let mut state = runner.state();
    state.close();
    std::mem::take(&mut state.result)
}

impl Runner {
    fn new(script: Script) -> Self {
        let (start, tasks) = (Instant::now(), TaskTracker::new());
        let (quota, stop) = begin(&script, None, &tasks);
        let state = State {
            server: Limiter::new(start),
            limits: script.server.clone(),
            foreign: script.network.foreign,
            is_outage: false,
            random: Random::new(script.seed),
            quota,
            stop,
            generation: 0,
            writes: HashMap::new(),
            writing: HashSet::new(),
            result: RunResult::default(),
        };
        Self {
            script,
            start,
            tasks,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn act_foreign(self: Arc<Self>) {
        loop {
            let rate = self.state().foreign;
            if rate == 0.0 {
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            let pause = self.state().random.pause(rate);
            sleep(pause).await;
            self.state().admit(self.start, true, Cost::Call, None);
        }
    }

    async fn act_events(self: Arc<Self>) {
        for event in &self.script.events {
            tokio::time::sleep_until(self.start + event.at).await;
            self.happens(event);
        }
        std::future::pending().await
    }

    fn happens(&self, event: &Event) {
        let mut state = self.state();
        state.limits.calls = event.calls.unwrap_or(state.limits.calls);
        state.foreign = event.foreign.unwrap_or(state.foreign);
        state.is_outage = event.outage.unwrap_or(state.is_outage);
        if let Some(restart) = event.restart {
            let mut before = state.quota.usage();
            if let Restart::Killed = restart {
                (before.last_grant, before.slots) = (Timestamp::MAX, None);
            }
            state.close();
            (state.quota, state.stop) = begin(&self.script, Some(&before), &self.tasks);
            state.generation += 1;
        }
    }

    async fn act_caller(self: Arc<Self>, stream: usize) {
        let mut calls = JoinSet::new();
        sleep(self.script.callers[stream].begins).await;
        match self.script.callers[stream].arrivals {
            Arrivals::Saturating(count) => {
                for _ in 0..count {
                    calls.spawn(self.clone().send_calls(stream));
                }
            }
            Arrivals::AtOnce(count) => {
                for _ in 0..count {
                    calls.spawn(self.clone().send_once(stream));
                }
            }
            Arrivals::Every(seconds) => loop {
                sleep(Duration::from_secs_f64(seconds)).await;
                calls.spawn(self.clone().send_once(stream));
                while calls.try_join_next().is_some() {}
            },
            Arrivals::PerSecond(rate) => loop {
                let pause = self.state().random.pause(rate);
                sleep(pause).await;
                calls.spawn(self.clone().send_once(stream));
                while calls.try_join_next().is_some() {}
            },
        }
        while calls.join_next().await.is_some() {}
    }

    /// Sends one call after the other, and respects the retry delays.
    async fn send_calls(self: Arc<Self>, stream: usize) {
        loop {
            if let Err(retry_after) = self.send_call(stream).await {
                sleep(retry_after).await;
            }
        }
    }

    async fn send_once(self: Arc<Self>, stream: usize) {
        let outcome = self.send_call(stream).await;
        if let Err(retry_after) = outcome
            && self.script.callers[stream].retries
        {
            self.state().forget_refusal(stream);
            sleep(retry_after).await;
            let _rejected = self.send_call(stream).await;
        }
    }

    /// Sends a call. If it is refused, returns its retry delay.
    async fn send_call(&self, stream: usize) -> Result<(), Duration> {
        let caller = &self.script.callers[stream];
        let began = Instant::now();
        let (cost, write) = self.state().draw(caller);
        let call = RequestContext::internal("scenario", caller.deadline).of(&caller.name, caller.criticality);
        let request = SlotRequest {
            cost,
            endpoint: "one",
            keys: write.iter().map(|(key, _)| key.to_string()).collect(),
            batch: None,
        };
        let mut requeue = None;
        let (operation, mut failures) = (OperationId::unique(), 0);
        loop {
            let (quota, generation) = {
                let state = self.state();
                (state.quota.clone(), state.generation)
            };
            let mut slot = match quota.acquire(&call, &request, requeue.take()).await {
                Ok(slot) => slot,
                // The process has ended. The call is sent to the next one.
                Err(error) if error.kind == ErrorKind::ShuttingDown => continue,
                Err(error) => return self.refused(stream, began, &error),
            };
            slot.sent();
            let sent = Instant::now();
            let (verdict, is_failure) = self.exchange(cost, write).await;
            let response = breaker::BreakerSignal {
                operation,
                is_failure,
                retry_after: None,
            };
            slot.judged(&response);
            let refused = slot.responded(verdict).pop();
            if is_failure {
                failures += 1;
                if failures == MAX_ATTEMPTS {
                    let waited = began.elapsed();
                    let end = End::Failed;
                    self.state().result.outcomes.push(CallOutcome { stream, end, waited });
                    return Ok(());
                }
                if !quota.is_open() {
                    sleep(RETRY_PAUSE).await;
                }
                continue;
            }
            if refused.is_none() {
                self.state().result.outcomes.push(CallOutcome {
                    stream,
                    end: End::Served,
                    waited: sent - began,
                });
                return Ok(());
            }
            // A place in the queue of a process that has ended is of no use.
            requeue = refused.filter(|_| self.state().generation == generation);
        }
    }

    fn refused(&self, stream: usize, began: Instant, error: &Error) -> Result<(), Duration> {
        let (end, retry_after) = match error.kind {
            ErrorKind::DeadlineInfeasible { retry_after }
            | ErrorKind::CallerLimit { retry_after }
            | ErrorKind::QueueFull { retry_after }
            | ErrorKind::BreakerOpen { retry_after }
            | ErrorKind::DailyBudgetExhausted { retry_after } => (End::Rejected, Some(retry_after)),
            ErrorKind::DeadlineExceeded { .. } => (End::Expired, None),
            _ => panic!("{error:?}"),
        };
        self.state().result.outcomes.push(CallOutcome {
            stream,
            end,
            waited: began.elapsed(),
        });
        Err(retry_after.unwrap_or(Duration::from_secs(1)))
    }

    /// Sends the call to the server, and returns its response.
    async fn exchange(&self, cost: Cost, write: Option<(u32, u64)>) -> (Verdict, bool) {
        let begun = self.start.elapsed();
        let [there, back] = {
            let mut state = self.state();
            state.result.sent += 1;
            if let Some((key, _)) = write
                && !state.writing.insert(key)
            {
                state.result.overlapping += 1;
            }
            state.random.ways(&self.script)
        };
        sleep(there).await;
        let (verdict, failed) = {
            let mut state = self.state();
            (state.admit(self.start, false, cost, write), state.is_outage)
        };
        sleep(back).await;
        let ended = self.start.elapsed();
        self.state().result.exchanges.push(Exchange { begun, ended, failed });
        if let Some((key, _)) = write {
            self.state().writing.remove(&key);
        }
        (verdict, failed)
    }
}

impl State {
    /// Removes the last recorded refusal of a stream.
    fn forget_refusal(&mut self, stream: usize) {
        let outcomes = &mut self.result.outcomes;
        if let Some(last) = outcomes
            .iter()
            .rposition(|outcome| outcome.stream == stream && outcome.end == End::Rejected)
        {
            outcomes.remove(last);
        }
    }

    /// The cost and the key of the next call of a caller.
    fn draw(&mut self, caller: &Caller) -> (Cost, Option<(u32, u64)>) {
        let is_bulk = self.random.uniform() < caller.bulk;
        let cost = if is_bulk { Cost::Bulk } else { Cost::Call };
        if self.random.uniform() >= caller.writes {
            return (cost, None);
        }
        let key = (self.random.uniform() * f64::from(caller.keys)) as u32;
        let place = self.writes.entry(key).or_default();
        *place += 1;
        (cost, Some((key, *place)))
    }

    fn admit(&mut self, start: Instant, is_foreign: bool, cost: Cost, write: Option<(u32, u64)>) -> Verdict {
        let (now, is_bulk) = (Instant::now(), cost == Cost::Bulk);
        let failed = self.is_outage && !is_foreign;
        // A failure occurs in front of the limiter.
        let admission = match failed {
            true => Admission::Admitted,
            false => self.server.admit(now, 0, is_bulk, &self.limits),
        };
        self.result.stamps.push(Stamp {
            at: now - start,
            is_foreign,
            is_bulk,
            accepted: admission == Admission::Admitted && !failed,
            failed,
            write,
        });
        let per = self.limits.per;
        match admission {
            Admission::Admitted => Verdict::Accepted,
            Admission::Refused { limit: calls } => Verdict::Refused(Refusal::Window(Some(Limit { calls, per }))),
            Admission::RefusedDaily => Verdict::Refused(Refusal::Daily),
        }
    }

    /// Ends the process that has the quota.
    fn close(&mut self) {
        let last = self.quota.snapshot();
        self.result.granted += last.grants;
        self.result.limit = last.calls.limit.calls;
        self.stop.cancel();
    }
}

/// The defaults of the gateway.
const BREAKER: breaker::BreakerSettings = breaker::BreakerSettings {
    failures: 5,
    pause: Duration::from_secs(1),
    max_pause: Duration::from_secs(30),
    max_retry_after: Duration::from_secs(300),
};

/// Starts a process with a quota of its own.
fn begin(script: &Script, before: Option<&QuotaUsage>, tasks: &TaskTracker) -> (Quota, CancellationToken) {
    let limits = QuotaLimits {
        calls: script.quota.calls.unwrap_or(script.server.calls),
        bulk: script.server.bulk,
        window: script.server.per,
        daily: script.quota.daily,
        daily_reset_zone: noon().to_owned(),
        reserve: 0,
        queue: script.quota.queue.unwrap_or(20_000),
        queue_per_caller: script.quota.queue.unwrap_or(20_000),
        bulk_pays_calls: script.server.bulk_pays_calls,
    };
    let share = |caller: &Caller| CallerQuota {
        weight: caller.weight,
        calls_per_window: caller.cap,
        ..CallerQuota::default()
    };
    let named = script.callers.iter();
    let callers = CallerQuotas {
        named: named
            .map(|caller| (caller.name.as_str().into(), share(caller)))
            .collect(),
        others: CallerQuota::default(),
    };
    let stop = CancellationToken::new();
    (
        Quota::new(
            "acme",
            &limits,
            &callers,
            Default::default(),
            BREAKER,
            before.into(),
            TenantLease::permanent(),
            tasks,
            stop.clone(),
        ),
        stop,
    )
}

/// A time zone in which no day begins during the test: days depend on the wall clock.
fn noon() -> &'static str {
    let hour = clock::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    if hour < 12 { "UTC" } else { "Etc/GMT+12" }
}

/// Random numbers from a seed: xorshift64*, the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Multiplied, since neighboring seeds would start alike; and never 0, which would stay 0.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number from 0 up to but not including 1.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed with a mean of 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    fn pause(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(self.exponential() / per_second)
    }

    /// The times of the next request and of its response on the network.
    fn ways(&mut self, script: &Script) -> [Duration; 2] {
        let network = script.network;
        let mut ways = [network.one_way; 2].map(|way| way + network.jitter.mul_f64(self.exponential()));
        if self.uniform() < network.spikes {
            let way = usize::from(self.uniform() < 0.5);
            ways[way] += Duration::from_millis(100) + Duration::from_millis(800).mul_f64(self.uniform());
        }
        ways
    }
}
