//! The settings of a quota: the limits of an account, and the part of them that each caller may use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

use crate::context::Criticality;

/// Maximum number of calls in a window. No plan of LeadSquared allows more.
pub const MAX_CALLS: u32 = 10_000;
/// Maximum number of calls in the queue. More of them would need too much memory.
const MAX_WAITING: usize = 1_000_000;
/// Maximum weight of a caller. With larger weights, rounding would make the order unfair.
pub const MAX_WEIGHT: u32 = 10_000;

/// The limits of one account (`[tenants.NAME.limits]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaLimits {
    /// Number of calls that the plan allows in a window.
    pub calls: u32,
    /// Number of calls to the bulk endpoints that the plan allows in a window.
    pub bulk: u32,
    /// Length of the window.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Number of calls that the plan allows in a day. 0: unknown.
    pub daily: u64,
    /// Time zone in which the day begins, as an IANA name.
    pub daily_reset_zone: String,
    /// Number of calls in each window that leadgate keeps for other users of the account.
    pub reserve: u32,
    /// Maximum number of calls in the queue.
    pub queue: usize,
    /// Maximum number of calls of one caller in the queue.
    pub queue_per_caller: usize,
    /// Whether a call to a bulk endpoint also counts against `calls`.
    pub bulk_pays_calls: bool,
}

impl QuotaLimits {
    /// Returns an error for each invalid value: the key, and which values are valid.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        for (key, count) in [("calls", self.calls), ("bulk", self.bulk)] {
            if !(1..=MAX_CALLS).contains(&count) {
                errors.push((key, format!("must be 1 to {MAX_CALLS}")));
            }
        }
        if self.window < Duration::from_millis(10) || self.window > Duration::from_secs(3600) {
            errors.push(("window", "must be between 10ms and 1h".to_owned()));
        }
        if self.reserve > 0 && self.reserve >= self.calls {
            errors.push(("reserve", "must be less than calls".to_owned()));
        }
        for (key, count) in [("queue", self.queue), ("queue_per_caller", self.queue_per_caller)] {
            if !(1..=MAX_WAITING).contains(&count) {
                errors.push((key, format!("must be 1 to {MAX_WAITING}")));
            }
        }
        if TimeZone::get(&self.daily_reset_zone).is_err() {
            errors.push((
                "daily_reset_zone",
                "must be an IANA time zone, such as \"Asia/Kolkata\"".to_owned(),
            ));
        }
        errors
    }
}

/// The quotas of all callers.
#[derive(Clone, Debug, Default)]
pub struct CallerQuotas {
    /// The quotas of the callers that have settings of their own, by name.
    pub named: HashMap<Arc<str>, CallerQuota>,
    /// The quota of every other caller.
    pub others: CallerQuota,
}

impl CallerQuotas {
    /// The quota of the caller of this name.
    pub fn of(&self, caller: &str) -> &CallerQuota {
        self.named.get(caller).unwrap_or(&self.others)
    }
}

/// The part of the quota that one caller may use (`[callers.NAME]`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerQuota {
    /// Number of grants that the caller gets for each grant of a caller of weight 1 in the same class.
    pub weight: u32,
    /// Maximum criticality of the caller's requests. Higher values are lowered to it.
    pub max_criticality: Criticality,
    /// Maximum number of slots that the caller gets in a window. `None` (0 in the settings): no maximum of its own.
    #[serde(deserialize_with = "zero_as_none")]
    pub calls_per_window: Option<u32>,
}

impl CallerQuota {
    /// Returns an error for each invalid value: the key, and which values are valid.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        if !(1..=MAX_WEIGHT).contains(&self.weight) {
            errors.push(("weight", format!("must be 1 to {MAX_WEIGHT}")));
        }
        if self.calls_per_window.is_some_and(|calls| calls > MAX_CALLS) {
            errors.push((
                "calls_per_window",
                format!("must be at most {MAX_CALLS}; 0: no maximum"),
            ));
        }
        errors
    }
}

impl Default for CallerQuota {
    fn default() -> Self {
        Self {
            weight: 1,
            calls_per_window: None,
            max_criticality: Criticality::CriticalPlus,
        }
    }
}

fn zero_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let calls = u32::deserialize(deserializer)?;
    Ok(Some(calls).filter(|calls| *calls > 0))
}
