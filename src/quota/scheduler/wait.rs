//! Why a call waits for its slot, for traces. Changes nothing.

use tokio::time::Instant;

use super::{Granted, Scheduler};
use crate::context::Criticality;
use crate::quota::Cost;
use crate::quota::queue::{TicketId, WaitingPlace};
use crate::quota::window::NextSlot;

/// How a call begins to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// The class in which it waits.
    pub(super) class: Criticality,
    /// Number of calls in its class and in the higher ones, the call itself included.
    pub(super) position: usize,
    /// Why it waits.
    pub(super) reason: &'static str,
}

impl Scheduler {
    /// Why a call in the queue waits. `None`: it does not wait any more.
    pub(super) fn wait_of(&mut self, id: TicketId, now: Instant) -> Option<Wait> {
        let place = self.queue.place(id)?;
        Some(Wait {
            class: place.class,
            position: place.position,
            reason: self.wait_reason(&place, now),
        })
    }

    fn wait_reason(&mut self, place: &WaitingPlace, now: Instant) -> &'static str {
        let capacity = &mut self.capacity;
        let (is_held, is_full) = match place.cost {
            Cost::Call => (capacity.calls.is_held(now), capacity.calls.free(now) == 0),
            Cost::Bulk => (
                capacity.calls.is_held(now) || capacity.bulk.is_held(now),
                capacity.calls.free(now) == 0 || capacity.bulk.free(now) == 0,
            ),
        };
        if !self.lease.is_valid(now) {
            "lease"
        } else if capacity.breaker.next(now) != NextSlot::Now {
            // Also closed, it obeys a `Retry-After`.
            if capacity.breaker.is_open() { "breaker" } else { "held" }
        } else if place.is_behind {
            "earlier_write"
        } else if is_held {
            "held"
        } else if is_full {
            "window_full"
        } else if place.is_gathering {
            "lane"
        } else {
            // Free slots are kept for other classes, or calls are paced.
            "fairness"
        }
    }
}

/// How the call is sent.
pub(super) fn role(granted: &Granted) -> &'static str {
    match granted {
        Granted::Alone(_) => "alone",
        Granted::BatchLeader(_) => "batch_leader",
        Granted::BatchMember(_) => "batch_member",
    }
}
