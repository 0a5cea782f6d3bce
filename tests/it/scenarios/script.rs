//! The description of a scenario, as read from its file. Does not know how it is run.

use std::time::Duration;

use leadgate::context::Criticality;
use leadgate_simulator::Limits;
use serde::Deserialize;

/// One file of `tests/scenarios`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The length of the scenario in virtual time.
    #[serde(with = "humantime_serde")]
    pub lasts: Duration,
    /// The seed of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// How the server counts, and its limits.
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

/// The network to the server, and the other users of the account.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Minimum time of one way.
    #[serde(with = "humantime_serde")]
    pub one_way: Duration,
    /// Mean of the jitter of each way, exponentially distributed.
    #[serde(with = "humantime_serde")]
    pub jitter: Duration,
    /// Part of the calls that are delayed by another 100 to 900 ms, half of them on the way to the server.
    pub spikes: f64,
    /// Number of calls per second of other users of the account.
    pub foreign: f64,
}

/// The settings of the quota. Missing settings are those of the server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub calls: Option<u32>,
    pub daily: u64,
    pub queue: Option<usize>,
}

/// A stream of calls. Several streams of one name are one caller.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    pub name: String,
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub criticality: Criticality,
    /// Maximum number of calls in a window.
    pub cap: Option<u32>,
    pub arrivals: Arrivals,
    /// When its first call arrives, from the beginning of the scenario.
    #[serde(with = "humantime_serde", default)]
    pub begins: Duration,
    /// Whether a refused call is retried once after its retry delay. Then only the second outcome counts.
    #[serde(default)]
    pub retries: bool,
    #[serde(with = "humantime_serde", default = "an_hour")]
    pub deadline: Duration,
    /// Part of its calls that are bulk calls, from 0 to 1.
    #[serde(default)]
    pub bulk: f64,
    /// Part of its calls that are writes, from 0 to 1.
    #[serde(default)]
    pub writes: f64,
    /// Number of keys that it writes.
    #[serde(default = "one")]
    pub keys: u32,
}

/// When its calls arrive.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// This number of calls is waiting or in progress at any time. A refused call is retried after its retry delay.
    Saturating(usize),
    /// At random.
    PerSecond(f64),
    /// One call in this number of seconds.
    Every(f64),
    /// All at the beginning.
    AtOnce(usize),
}

/// An event at one moment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    #[serde(with = "humantime_serde")]
    pub at: Duration,
    /// The plan changes: the server allows this number of calls from now on.
    pub calls: Option<u32>,
    /// Other users make this number of calls per second from now on.
    pub foreign: Option<f64>,
    /// Whether the server fails from now on: HTTP 503 for every call of ours.
    pub outage: Option<bool>,
    /// The process with the quota ends, and another one starts.
    pub restart: Option<Restart>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// When each slot becomes free is known.
    Orderly,
    /// Neither when each slot becomes free is known, nor when the last one was granted.
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
    /// Number of calls that the server allows at this time, from the beginning of the scenario.
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
