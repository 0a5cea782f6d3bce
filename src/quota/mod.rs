//! The tenant's quota: nothing reaches LeadSquared without a slot from here.

pub mod breaker;
pub mod controller;
pub mod daily;
pub mod lane;
pub mod latency;
mod memory;
pub mod meter;
pub mod queue;
pub mod round_trips;
pub mod slots;
pub mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::time::Instant;

pub use breaker::State as BreakerState;
pub use lane::Lane;
pub use memory::{Again, Boarding, Party, Quota, Reservation, Slot, Turn};
pub use window::{Grant, Next, Snapshot as WindowSnapshot, Window};

/// What a call pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One call.
    Call,
    /// One call of the bulk endpoints, which pays in their window and in that of all calls.
    Bulk,
}

/// What a call needs a slot for.
#[derive(Clone, Debug)]
pub struct Want {
    /// What it pays.
    pub cost: Cost,
    /// The vendor's name of the endpoint: each takes its own time.
    pub endpoint: &'static str,
    /// What it writes; calls that write the same keep their order, and none is sent before the one ahead has ended.
    pub keys: Vec<String>,
    /// Where it can travel together with others.
    pub ride: Option<Ride>,
}

/// How a call can travel together with others.
#[derive(Clone, Copy, Debug)]
pub struct Ride {
    /// With which others.
    pub lane: Lane,
    /// The vendor's name of the endpoint that they share.
    pub endpoint: &'static str,
}

/// The state of the quota at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The window of all calls.
    pub calls: WindowSnapshot,
    /// The window of bulk calls.
    pub bulk: WindowSnapshot,
    /// The day.
    pub daily: daily::Snapshot,
    /// The circuit breaker.
    pub breaker: BreakerSnapshot,
    /// Who waits.
    pub queue: queue::Snapshot,
    /// When that was.
    pub now: Instant,
    /// Slots granted so far.
    pub grants: u64,
    /// The share of the last whole window that was used, from 0 to 1.
    pub utilisation: f64,
}

/// The state of the circuit breaker at one moment.
#[derive(Clone, Copy, Debug)]
pub struct BreakerSnapshot {
    /// Its state.
    pub state: BreakerState,
    /// When it opened, if it is not closed.
    pub since: Option<jiff::Timestamp>,
    /// The time until the next probe, while it is open.
    pub next_probe_in: Option<Duration>,
}

/// What LeadSquared said to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was let in, whatever became of it then.
    Accepted,
    /// It was refused because of a limit.
    Refused(crate::error::Refusal),
}

/// The limits of one account (`[tenants.NAME.limits]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The calls that the plan allows in a window.
    pub calls: u32,
    /// The calls of the bulk endpoints that it allows in a window.
    pub bulk: u32,
    /// The window.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The calls of a day; 0: none known.
    pub daily: u64,
    /// Where the day begins, as an IANA name.
    pub daily_reset_zone: String,
    /// Calls of each window that are left to others who use the account.
    pub reserve: u32,
    /// How many calls may wait.
    pub queue: usize,
    /// How many calls of one caller may wait.
    pub queue_per_caller: usize,
    /// Whether a call of the bulk endpoints counts as a call too.
    pub bulk_pays_calls: bool,
}

/// More calls in a window than any plan has.
const MAX_CALLS: u32 = 10_000;
/// More calls than memory should be spent on.
const MAX_WAITING: usize = 1_000_000;

impl Limits {
    /// What is wrong with them: the key, and what would be right.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for (key, count) in [("calls", self.calls), ("bulk", self.bulk)] {
            if !(1..=MAX_CALLS).contains(&count) {
                faults.push((key, format!("must be 1 to {MAX_CALLS}")));
            }
        }
        if self.window < Duration::from_millis(10) || self.window > Duration::from_secs(3600) {
            faults.push(("window", "must be between 10ms and 1h".to_owned()));
        }
        if self.reserve > 0 && self.reserve >= self.calls {
            faults.push(("reserve", "must be less than calls".to_owned()));
        }
        for (key, count) in [("queue", self.queue), ("queue_per_caller", self.queue_per_caller)] {
            if !(1..=MAX_WAITING).contains(&count) {
                faults.push((key, format!("must be 1 to {MAX_WAITING}")));
            }
        }
        if TimeZone::get(&self.daily_reset_zone).is_err() {
            faults.push((
                "daily_reset_zone",
                "must be an IANA time zone, such as \"Asia/Kolkata\"".to_owned(),
            ));
        }
        faults
    }
}

/// What each caller may have of the quota.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// Those that are named.
    pub named: HashMap<Arc<str>, queue::Share>,
    /// All others.
    pub others: queue::Share,
}

/// What a caller may have of the quota (`[callers.NAME]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerShare {
    /// How many turns it has for one of a caller of weight 1.
    pub weight: u32,
    /// What it asks above this is lowered to it.
    pub max_criticality: crate::context::Criticality,
    /// The most calls that it gets in a window; 0: as many as fall to it.
    pub calls_per_window: u32,
}

/// More turns than fairness can be told with.
const MAX_WEIGHT: u32 = 10_000;

impl CallerShare {
    /// What is wrong with it: the key, and what would be right.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !(1..=MAX_WEIGHT).contains(&self.weight) {
            faults.push(("weight", format!("must be 1 to {MAX_WEIGHT}")));
        }
        if self.calls_per_window > MAX_CALLS {
            faults.push(("calls_per_window", format!("must be at most {MAX_CALLS}; 0: no cap")));
        }
        faults
    }
}

impl From<&CallerShare> for queue::Share {
    fn from(share: &CallerShare) -> Self {
        Self {
            weight: share.weight,
            calls_per_window: Some(share.calls_per_window).filter(|calls| *calls > 0),
            max_criticality: share.max_criticality,
        }
    }
}
