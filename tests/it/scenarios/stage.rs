//! Plays a scenario: the real quota between made-up callers and the simulator's own limiter behind a made-up network. Knows
//! nothing of what is expected.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use leadgate::clock;
use leadgate::context::RequestContext;
use leadgate::domain::usage::QuotaUsage;
use leadgate::error::{Error, ErrorKind, Limit, Refusal};
use leadgate::quota::breaker::{self, OperationId};
use leadgate::quota::{CallerQuota, CallerQuotas, Cost, Limits, Quota, SlotRequest, Verdict};
use leadgate_simulator::limits::{Limiter, Verdict as Admission};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::script::{Arrivals, Caller, Event, Restart, Script};

/// What happened.
#[derive(Debug, Default)]
pub struct Played {
    pub stamps: Vec<Stamp>,
    pub asked: Vec<Asked>,
    /// Our own calls in the order in which they ended.
    pub exchanges: Vec<Exchange>,
    /// Slots that the quota says it has granted, and those that were taken to the server.
    pub granted: u64,
    pub sent: u64,
    /// Writes that were sent while one to the same key was under way.
    pub overlapping: u64,
    /// The limit as the quota knows it in the end.
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
    /// The key that it writes, and its place among all who asked to write it.
    pub write: Option<(u32, u64)>,
}

/// A call of ours, from its beginning to its end.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub begun: Duration,
    pub ended: Duration,
    pub failed: bool,
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Which of the script's streams it belongs to.
    pub stream: usize,
    pub end: End,
    /// How long it took until the sending that was let in, or until it was turned away.
    pub waited: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Served,
    TurnedAway,
    /// It waited in vain.
    Expired,
    /// The server failed at every attempt.
    Failed,
}

/// How often an operation is sent at most, and the pause between two attempts, as with the defaults of the gateway.
const MAX_ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

struct Stage {
    script: Script,
    start: Instant,
    tasks: TaskTracker,
    scene: Mutex<Scene>,
}

struct Scene {
    server: Limiter,
    limits: leadgate_simulator::Limits,
    foreign: f64,
    is_outage: bool,
    random: Random,
    quota: Quota,
    stop: CancellationToken,
    /// How many processes have ended.
    generation: u32,
    writes: HashMap<u32, u64>,
    writing: HashSet<u32>,
    played: Played,
}

/// Plays it to its end.
pub async fn play(script: &Script) -> Played {
    let stage = Arc::new(Stage::new(script.clone()));
    let mut acting = JoinSet::new();
    acting.spawn(stage.clone().act_foreign());
    acting.spawn(stage.clone().act_events());
    for stream in 0..script.callers.len() {
        acting.spawn(stage.clone().act_caller(stream));
    }
    sleep(script.lasts).await;
    // Who was granted a slot at this very moment takes it yet.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    acting.shutdown().await;
    let mut scene = stage.scene();
    scene.close();
    std::mem::take(&mut scene.played)
}

impl Stage {
    fn new(script: Script) -> Self {
        let (start, tasks) = (Instant::now(), TaskTracker::new());
        let (quota, stop) = begin(&script, None, &tasks);
        let scene = Scene {
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
            played: Played::default(),
        };
        Self {
            script,
            start,
            tasks,
            scene: Mutex::new(scene),
        }
    }

    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap()
    }

    async fn act_foreign(self: Arc<Self>) {
        loop {
            let rate = self.scene().foreign;
            if rate == 0.0 {
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            let pause = self.scene().random.pause(rate);
            sleep(pause).await;
            self.scene().admit(self.start, true, Cost::Call, None);
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
        let mut scene = self.scene();
        scene.limits.calls = event.calls.unwrap_or(scene.limits.calls);
        scene.foreign = event.foreign.unwrap_or(scene.foreign);
        scene.is_outage = event.outage.unwrap_or(scene.is_outage);
        if let Some(restart) = event.restart {
            let mut before = scene.quota.usage();
            if let Restart::Killed = restart {
                (before.last_grant, before.slots) = (Timestamp::MAX, None);
            }
            scene.close();
            (scene.quota, scene.stop) = begin(&self.script, Some(&before), &self.tasks);
            scene.generation += 1;
        }
    }

    async fn act_caller(self: Arc<Self>, stream: usize) {
        let mut calls = JoinSet::new();
        sleep(self.script.callers[stream].begins).await;
        match self.script.callers[stream].arrivals {
            Arrivals::Saturating(count) => {
                for _ in 0..count {
                    calls.spawn(self.clone().insist(stream));
                }
            }
            Arrivals::AtOnce(count) => {
                for _ in 0..count {
                    calls.spawn(self.clone().ask_once(stream));
                }
            }
            Arrivals::Every(seconds) => loop {
                sleep(Duration::from_secs_f64(seconds)).await;
                calls.spawn(self.clone().ask_once(stream));
                while calls.try_join_next().is_some() {}
            },
            Arrivals::PerSecond(rate) => loop {
                let pause = self.scene().random.pause(rate);
                sleep(pause).await;
                calls.spawn(self.clone().ask_once(stream));
                while calls.try_join_next().is_some() {}
            },
        }
        while calls.join_next().await.is_some() {}
    }

    /// Makes one call after the other, and obeys where it is turned away.
    async fn insist(self: Arc<Self>, stream: usize) {
        loop {
            if let Err(retry_after) = self.ask(stream).await {
                sleep(retry_after).await;
            }
        }
    }

    async fn ask_once(self: Arc<Self>, stream: usize) {
        let asked = self.ask(stream).await;
        if let Err(retry_after) = asked
            && self.script.callers[stream].obeys
        {
            self.scene().forget_refusal(stream);
            sleep(retry_after).await;
            let _turned_away = self.ask(stream).await;
        }
    }

    /// Makes a call; where it is turned away, when to come again.
    async fn ask(&self, stream: usize) -> Result<(), Duration> {
        let caller = &self.script.callers[stream];
        let began = Instant::now();
        let (cost, write) = self.scene().draw(caller);
        let call = RequestContext::internal("scenario", caller.deadline).of(&caller.name, caller.criticality);
        let want = SlotRequest {
            cost,
            endpoint: "one",
            keys: write.iter().map(|(key, _)| key.to_string()).collect(),
            batch: None,
        };
        let mut again = None;
        let (operation, mut failures) = (OperationId::unique(), 0);
        loop {
            let (quota, generation) = {
                let scene = self.scene();
                (scene.quota.clone(), scene.generation)
            };
            let mut slot = match quota.acquire(&call, &want, again.take()).await {
                Ok(slot) => slot,
                // The process has ended; its successor is asked anew.
                Err(error) if error.kind == ErrorKind::ShuttingDown => continue,
                Err(error) => return self.turned_away(stream, began, &error),
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
                    self.scene().played.asked.push(Asked { stream, end, waited });
                    return Ok(());
                }
                if !quota.is_open() {
                    sleep(RETRY_PAUSE).await;
                }
                continue;
            }
            if refused.is_none() {
                self.scene().played.asked.push(Asked {
                    stream,
                    end: End::Served,
                    waited: sent - began,
                });
                return Ok(());
            }
            // A place in the queue of a process that has ended is worth nothing.
            again = refused.filter(|_| self.scene().generation == generation);
        }
    }

    fn turned_away(&self, stream: usize, began: Instant, error: &Error) -> Result<(), Duration> {
        let (end, retry_after) = match error.kind {
            ErrorKind::DeadlineInfeasible { retry_after }
            | ErrorKind::CallerLimit { retry_after }
            | ErrorKind::QueueFull { retry_after }
            | ErrorKind::BreakerOpen { retry_after }
            | ErrorKind::DailyBudgetExhausted { retry_after } => (End::TurnedAway, Some(retry_after)),
            ErrorKind::DeadlineExceeded { .. } => (End::Expired, None),
            _ => panic!("{error:?}"),
        };
        self.scene().played.asked.push(Asked {
            stream,
            end,
            waited: began.elapsed(),
        });
        Err(retry_after.unwrap_or(Duration::from_secs(1)))
    }

    /// The call goes to the server and its answer comes back.
    async fn exchange(&self, cost: Cost, write: Option<(u32, u64)>) -> (Verdict, bool) {
        let begun = self.start.elapsed();
        let [there, back] = {
            let mut scene = self.scene();
            scene.played.sent += 1;
            if let Some((key, _)) = write
                && !scene.writing.insert(key)
            {
                scene.played.overlapping += 1;
            }
            scene.random.ways(&self.script)
        };
        sleep(there).await;
        let (verdict, failed) = {
            let mut scene = self.scene();
            (scene.admit(self.start, false, cost, write), scene.is_outage)
        };
        sleep(back).await;
        let ended = self.start.elapsed();
        self.scene().played.exchanges.push(Exchange { begun, ended, failed });
        if let Some((key, _)) = write {
            self.scene().writing.remove(&key);
        }
        (verdict, failed)
    }
}

impl Scene {
    /// The refusal that was noted last does not count.
    fn forget_refusal(&mut self, stream: usize) {
        let asked = &mut self.played.asked;
        if let Some(last) = asked
            .iter()
            .rposition(|asked| asked.stream == stream && asked.end == End::TurnedAway)
        {
            asked.remove(last);
        }
    }

    /// What the next call of that caller is: what it pays and what it writes.
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
        // What fails stands before the limiter.
        let admission = match failed {
            true => Admission::Admitted,
            false => self.server.admit(now, 0, is_bulk, &self.limits),
        };
        self.played.stamps.push(Stamp {
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
        self.played.granted += last.grants;
        self.played.limit = last.calls.limit.calls;
        self.stop.cancel();
    }
}

/// As the gateway's defaults are.
const BREAKER: breaker::BreakerSettings = breaker::BreakerSettings {
    failures: 5,
    pause: Duration::from_secs(1),
    max_pause: Duration::from_secs(30),
    max_retry_after: Duration::from_secs(300),
};

/// A process with a quota of its own.
fn begin(script: &Script, before: Option<&QuotaUsage>, tasks: &TaskTracker) -> (Quota, CancellationToken) {
    let limits = Limits {
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
            &limits,
            &callers,
            Default::default(),
            BREAKER,
            before,
            tasks,
            stop.clone(),
        ),
        stop,
    )
}

/// A zone in which no day begins during the test: days go by the wall clock.
fn noon() -> &'static str {
    let hour = clock::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    if hour < 12 { "UTC" } else { "Etc/GMT+12" }
}

/// Chance with a seed: xorshift64*, the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Spread, since neighbouring seeds would begin alike; and never 0, which would stay 0.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 up to but not including 1.
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

    /// How long the next call takes there and back.
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
