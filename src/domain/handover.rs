//! The state of a quota that the owner of a tenant hands over to the next one. All times are durations from the moment of the
//! handover, since the clocks of two machines are never compared.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Limit;

/// The state of a quota that is handed over.
#[derive(Clone, Debug, PartialEq)]
pub struct Handover {
    /// The limit of all calls.
    pub calls: LimitHandover,
    /// The limit of bulk calls.
    pub bulk: LimitHandover,
    /// The day.
    pub day: DayHandover,
    /// The recent latencies of each endpoint, by LeadSquared's name of the endpoint. The oldest first.
    pub latencies: BTreeMap<String, Vec<LatencySample>>,
}

/// The state of one limit.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitHandover {
    /// The limit in the settings of the former owner.
    pub configured: Limit,
    /// The limit as far as it is known. LeadSquared may have named another one than the settings.
    pub limit: Limit,
    /// The time until each held slot is free. For a call in progress: its timeout and a window.
    pub free_in: Vec<Duration>,
    /// What refusals have taught.
    pub controller: ControllerHandover,
}

/// What the refusals of one limit have taught.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControllerHandover {
    /// The effective limit with its fraction. `None`: the whole limit.
    pub effective: Option<f64>,
    /// The effective limit at the last foreign refusal.
    pub refused_at: f64,
    /// Clean windows since then.
    pub clean: f64,
    /// Accepted calls since then.
    pub accepted: u32,
    /// Whether others use the account steadily.
    pub is_steady: bool,
    /// Number of refusals without an accepted call between them.
    pub refusals_in_row: u32,
    /// Maximum charge for the delay of a usual call.
    pub margin: Duration,
    /// For how long no call may be sent.
    pub held_for: Duration,
}

/// The day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayHandover {
    /// The day in the time zone of the account, as `2026-07-31`.
    pub day: String,
    /// The number of calls on that day.
    pub calls: u64,
    /// LeadSquared has closed the day: the time until the next probe.
    pub closed_for: Option<Duration>,
}

/// The latency of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySample {
    /// The time since the response.
    pub age: Duration,
    /// The duration of the call.
    pub took: Duration,
}
