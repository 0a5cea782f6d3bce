//! The quota of one tenant. No call is sent to LeadSquared without a slot of the quota.
//!
//! * `scheduler` gives slots to the calls that wait, and is the only part that waits or locks.
//! * `queue` keeps the order of the calls that wait.
//! * `window` and its parts (`slots`, `round_trips`, `controller`) count the slots of one limit.
//! * `daily`, `breaker`, `latency` and `utilization` each keep one piece of state.
//! * `before` is what a quota continues with after a restart or a change of the tenant's owner.
//! * `settings` has the limits of the account and the quotas of the callers.

mod before;
pub mod breaker;
pub mod controller;
pub mod daily;
pub mod lane;
pub mod latency;
pub mod queue;
pub mod round_trips;
mod scheduler;
pub mod settings;
pub mod slots;
pub mod utilization;
pub mod window;

use std::time::Duration;

use tokio::time::Instant;

pub use before::Before;
pub use breaker::BreakerState;
pub use daily::DailySnapshot;
pub use lane::Lane;
pub use queue::{QueueSnapshot, WriteKey};
pub use scheduler::{BatchMember, Granted, JoinedMembers, Quota, Requeue, Reservation, Slot};
pub use settings::{CallerQuota, CallerQuotas, QuotaLimits};
pub use utilization::WindowUse;
pub use window::{NextSlot, Window, WindowGrant, WindowSnapshot};

/// The windows in which a call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The window of all calls.
    Call,
    /// The window of bulk calls, and that of all calls too.
    Bulk,
}

/// A request for a slot of the quota.
#[derive(Clone, Debug)]
pub struct SlotRequest {
    /// The windows in which the call counts.
    pub cost: Cost,
    /// LeadSquared's name of the endpoint. Latencies are measured by endpoint.
    pub endpoint: &'static str,
    /// The keys of the records that the call writes. Empty for a read. Calls with a common key are sent one after the other,
    /// in the order of their requests.
    pub keys: Vec<String>,
    /// The batch that the call may become a member of. `None`: only sent by its own endpoint.
    pub batch: Option<BatchOption>,
}

/// The batch that a call may become a member of.
#[derive(Clone, Copy, Debug)]
pub struct BatchOption {
    /// The lane. All members of a batch are of one lane.
    pub lane: Lane,
    /// LeadSquared's name of the endpoint that takes the whole batch.
    pub endpoint: &'static str,
}

/// The state of the quota at one moment.
#[derive(Clone, Debug)]
pub struct QuotaSnapshot {
    /// The window of all calls.
    pub calls: WindowSnapshot,
    /// The window of bulk calls.
    pub bulk: WindowSnapshot,
    /// The day.
    pub daily: DailySnapshot,
    /// The circuit breaker.
    pub breaker: BreakerSnapshot,
    /// The queue.
    pub queue: QueueSnapshot,
    /// When the snapshot was taken.
    pub now: Instant,
    /// Number of slots granted so far.
    pub grants: u64,
    /// The used part of the last whole window, from 0 to 1.
    pub utilization: f64,
}

impl QuotaSnapshot {
    /// The use of the window of all calls.
    pub fn use_of_calls(&self) -> WindowUse {
        WindowUse {
            utilization: self.utilization,
            ..self.calls.usage()
        }
    }

    /// The use of the window of bulk calls.
    pub fn use_of_bulk(&self) -> WindowUse {
        self.bulk.usage()
    }
}

/// The state of the circuit breaker at one moment.
#[derive(Clone, Copy, Debug)]
pub struct BreakerSnapshot {
    /// Its state.
    pub state: BreakerState,
    /// When it opened. `None` while it is closed.
    pub since: Option<jiff::Timestamp>,
    /// Time until the next probe. `None` unless it is open.
    pub next_probe_in: Option<Duration>,
}

/// Whether LeadSquared's rate limiter accepted a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rate limiter accepted the call. The call may have failed afterwards.
    Accepted,
    /// The call was refused because of a limit.
    Refused(crate::error::Refusal),
}
