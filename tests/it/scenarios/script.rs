//! What happens in a scenario, as its file says it. Knows nothing of how it is played.

use std::time::Duration;

use leadgate::context::Criticality;
use leadgate_simulator::Limits;
use serde::Deserialize;

/// One file of `tests/scenarios`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// How long it lasts, in virtual time.
    #[serde(with = "humantime_serde")]
    pub lasts: Duration,
    /// The seed of all chance.
    #[serde(default)]
    pub seed: u64,
    /// How the server counts, and how much it allows.
    #[serde(default)]
    pub server: Limits,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub quota: Settings,
    pub callers: Vec<Caller>,
    #[serde(default)]
    pub events: Vec<Event>,
    /// The range of each figure, by its path: `used`, `caller.NAME.wait_p99`.
    pub expect: toml::Table,
}

/// The way to the server and back, and who else uses the account.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The least time of one way.
    #[serde(with = "humantime_serde")]
    pub one_way: Duration,
    /// The mean of what is added to each way, exponentially distributed.
    #[serde(with = "humantime_serde")]
    pub jitter: Duration,
    /// The share of calls that are delayed by another 100 to 900 ms, half of them on the way there.
    pub spikes: f64,
    /// How many calls a second somebody else makes on the account.
    pub foreign: f64,
}

/// What the quota is told. What is left out is as the server has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub calls: Option<u32>,
    pub daily: u64,
    pub queue: Option<usize>,
}

/// A stream of calls. Several of one name are one caller.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    pub name: String,
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub criticality: Criticality,
    /// The most calls that it gets in a window.
    pub cap: Option<u32>,
    pub arrivals: Arrivals,
    /// Its calls begin so long after the beginning of the scenario.
    #[serde(with = "humantime_serde", default)]
    pub begins: Duration,
    /// Whether a call that is refused is made a second time when it was told to; only the second outcome counts then.
    #[serde(default)]
    pub obeys: bool,
    #[serde(with = "humantime_serde", default = "an_hour")]
    pub deadline: Duration,
    /// Of its calls so many are bulk calls, from 0 to 1.
    #[serde(default)]
    pub bulk: f64,
    /// Of its calls so many are writes, from 0 to 1.
    #[serde(default)]
    pub writes: f64,
    /// To so many keys.
    #[serde(default = "one")]
    pub keys: u32,
}

/// When its calls come.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// So many wait or are under way at any time. One that is turned away comes again when it was told to.
    Saturating(usize),
    /// At random.
    PerSecond(f64),
    /// One each so many seconds.
    Every(f64),
    /// All at the beginning.
    AtOnce(usize),
}

/// Something that happens at one moment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    #[serde(with = "humantime_serde")]
    pub at: Duration,
    /// The plan changes: the server allows so many calls from now on.
    pub calls: Option<u32>,
    /// The others make so many calls a second from now on.
    pub foreign: Option<f64>,
    /// Whether the server fails from now on: HTTP 503 for every call of ours.
    pub outage: Option<bool>,
    /// The process with the quota ends, and another takes its place.
    pub restart: Option<Restart>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// When each slot is free is known.
    Orderly,
    /// It is not, nor when the last one was granted.
    Killed,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            one_way: Duration::from_millis(40),
            jitter: Duration::from_millis(8),
            spikes: 0.005,
            foreign: 0.0,
        }
    }
}

impl Script {
    /// How much the server allows at that time from the beginning on.
    pub fn calls_at(&self, at: Duration) -> u32 {
        let past = self.events.iter().filter(|event| event.at <= at);
        past.rev().find_map(|event| event.calls).unwrap_or(self.server.calls)
    }
}

fn one() -> u32 {
    1
}

fn an_hour() -> Duration {
    Duration::from_secs(3600)
}
