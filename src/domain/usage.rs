//! What an account has spent of its quota, as it is carried over a restart.

use std::time::Duration;

use jiff::Timestamp;

/// What an account has spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    /// The day, in the account's zone, as `2026-07-31`.
    pub day: String,
    /// The calls of that day.
    pub calls: u64,
    /// When LeadSquared may last have counted a call: when the last one was granted, or has ended.
    pub last_grant: Timestamp,
    /// The slots that are held; `None` unless the process has come to an orderly end.
    pub slots: Option<HeldSlots>,
}

/// The slots that calls hold when a process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSlots {
    /// Those of the limit of all calls.
    pub calls: HeldSlotsOfLimit,
    /// Those of the limit of bulk calls.
    pub bulk: HeldSlotsOfLimit,
}

/// The held slots of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSlotsOfLimit {
    /// The window of the limit: with another one, the times say nothing.
    pub window: Duration,
    /// When each slot is free; the end of time for a call that has not ended.
    pub free_at: Vec<Timestamp>,
}
