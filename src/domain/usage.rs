//! The usage of an account's quota. It is stored, so that a restart does not use a window twice.

use std::time::Duration;

use jiff::Timestamp;

/// The usage of an account's quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    /// The day in the time zone of the account, as `2026-07-31`.
    pub day: String,
    /// The number of calls on that day.
    pub calls: u64,
    /// The latest time at which LeadSquared may have counted a call: the last grant, or the last end of a call.
    pub last_grant: Timestamp,
    /// The slots in use. `None` unless the process was shut down properly.
    pub slots: Option<HeldSlots>,
}

/// The slots in use when a process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSlots {
    /// The slots of the limit of all calls.
    pub calls: HeldSlotsOfLimit,
    /// The slots of the limit of bulk calls.
    pub bulk: HeldSlotsOfLimit,
}

/// The slots in use of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSlotsOfLimit {
    /// The window of the limit. If the limit has another window now, the times cannot be used.
    pub window: Duration,
    /// When each slot is free. The maximum time for a call that has not ended.
    pub free_at: Vec<Timestamp>,
}
