//! What a quota continues with: the usage of the previous process, or the state of the former owner of the tenant.

use std::time::Duration;

use crate::domain::handover::Handover;
use crate::domain::usage::QuotaUsage;

/// What a quota continues with.
#[derive(Clone, Copy, Debug, Default)]
pub enum Before<'a> {
    /// No process has used the account lately.
    #[default]
    Nothing,
    /// The previous process has stored its usage.
    Usage(&'a QuotaUsage),
    /// The former owner of the tenant has handed over, and has sent nothing since.
    Handover(&'a Handover),
    /// The former owner did not hand over, or it is not known. All windows count as full for the window, the margin and
    /// `lateness`.
    NoHandover {
        /// The last state that the former owner has stored. Its slots are outdated.
        saved: Option<&'a Handover>,
        /// The duration of a lease. The former owner may have made calls for so long after it stored its state.
        lease: Duration,
        /// `cluster.lateness`: how much later than it was sent a call may arrive.
        lateness: Duration,
    },
}

impl<'a> From<Option<&'a QuotaUsage>> for Before<'a> {
    fn from(usage: Option<&'a QuotaUsage>) -> Self {
        usage.map_or(Self::Nothing, Self::Usage)
    }
}
