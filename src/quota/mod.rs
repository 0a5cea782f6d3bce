//! The tenant's quota: nothing reaches LeadSquared without a slot from here.

pub mod daily;
mod memory;
pub mod slots;

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Deserialize;

pub use memory::{Quota, Slot, Snapshot, Turn};

/// What a call pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One call.
    Call,
    /// One call of the bulk endpoints, which pays in their window and in that of all calls.
    Bulk,
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
}

/// More calls in a window than any plan has.
const MOST_CALLS: u32 = 10_000;
/// More calls than memory should be spent on.
const MOST_WAITING: usize = 1_000_000;

impl Limits {
    /// What is wrong with them: the key, and what would be right.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for (key, count) in [("calls", self.calls), ("bulk", self.bulk)] {
            if !(1..=MOST_CALLS).contains(&count) {
                faults.push((key, format!("must be 1 to {MOST_CALLS}")));
            }
        }
        if self.window < Duration::from_millis(10) || self.window > Duration::from_secs(3600) {
            faults.push(("window", "must be between 10ms and 1h".to_owned()));
        }
        if self.reserve > 0 && self.reserve >= self.calls {
            faults.push(("reserve", "must be less than calls".to_owned()));
        }
        if !(1..=MOST_WAITING).contains(&self.queue) {
            faults.push(("queue", format!("must be 1 to {MOST_WAITING}")));
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
