//! What an account has spent of its quota, as it is carried over a restart.

use jiff::Timestamp;

/// What an account has spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The day, in the account's zone, as `2026-07-31`.
    pub day: String,
    /// The calls of that day.
    pub calls: u64,
    /// When LeadSquared may last have counted a call: when the last one was granted, or has ended.
    pub last_grant: Timestamp,
}
