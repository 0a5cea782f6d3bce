//! The names of tickets and callers in the queue.

/// The identity of a ticket. Later tickets have higher ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub(super) u64);

/// The number of a caller in the table of callers.
pub(super) type CallerIndex = usize;
