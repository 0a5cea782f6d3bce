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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::Receiver;

    use super::super::tests::{BREAKER, limits, quota_with};
    use super::*;
    use crate::context::RequestContext;
    use crate::error::Result;
    use crate::quota::breaker::{BreakerSettings, BreakerSignal, OperationId};
    use crate::quota::lane::Lane;
    use crate::quota::{BatchOption, Quota, SlotRequest};

    fn quota(calls: u32) -> Quota {
        let breaker = BreakerSettings { failures: 1, ..BREAKER };
        quota_with(&limits(calls, 1), breaker)
    }

    fn read() -> SlotRequest {
        SlotRequest {
            cost: Cost::Call,
            endpoint: "Leads.GetById",
            keys: Vec::new(),
            batch: None,
        }
    }

    /// Adds a call to the queue. Returns how it begins to wait, and where its grant arrives.
    fn enter(
        quota: &Quota,
        criticality: Criticality,
        request: &SlotRequest,
    ) -> (Option<(usize, &'static str)>, Receiver<Result<Granted>>) {
        let context = RequestContext::internal("test", Duration::from_secs(36_000)).of("a", criticality);
        let now = Instant::now();
        let mut scheduler = quota.shared.lock();
        let (id, granted) = scheduler.enter(&context, request, None, now).unwrap();
        scheduler.grant_all(&quota.shared, now);
        let wait = scheduler.wait_of(id, now);
        (wait.map(|wait| (wait.position, wait.reason)), granted)
    }

    fn granted(mut call: Receiver<Result<Granted>>) -> super::super::Slot {
        match call.try_recv().unwrap().unwrap() {
            Granted::Alone(slot) | Granted::BatchLeader(slot) => slot,
            Granted::BatchMember(_) => panic!("no slot"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_behind_those_of_its_class_and_of_higher_ones() {
        let quota = quota(1);
        let (sheddable, usual, critical) = (
            Criticality::Sheddable,
            Criticality::SheddablePlus,
            Criticality::Critical,
        );
        let first = enter(&quota, usual, &read());
        assert_eq!(first.0, None);
        let calls = [usual, sheddable, usual, critical, sheddable].map(|class| enter(&quota, class, &read()));
        let waits = calls.each_ref().map(|(wait, _)| wait.unwrap());
        assert_eq!(waits.map(|(position, _)| position), [1, 2, 2, 1, 5]);
        assert!(waits.iter().all(|(_, reason)| *reason == "window_full"), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_reason_for_a_wait_has_a_name() {
        let usual = Criticality::default();
        let write = SlotRequest {
            keys: vec!["lead".to_owned()],
            ..read()
        };
        let calls = quota(10);
        let (_, _first) = enter(&calls, usual, &write);
        assert_eq!(enter(&calls, usual, &write).0, Some((1, "earlier_write")));

        let in_batches = SlotRequest {
            cost: Cost::Bulk,
            batch: Some(BatchOption {
                lane: Lane::Creates,
                endpoint: "Lead/Bulk/Create",
            }),
            ..read()
        };
        assert_eq!(enter(&quota(10), usual, &in_batches).0, Some((1, "lane")));

        for (is_failure, retry_after, reason) in
            [(true, None, "breaker"), (false, Some(Duration::from_secs(10)), "held")]
        {
            let calls = quota(10);
            let mut slot = granted(enter(&calls, usual, &read()).1);
            slot.sent();
            slot.judged(&BreakerSignal {
                operation: OperationId::unique(),
                is_failure,
                retry_after,
            });
            assert_eq!(enter(&calls, usual, &read()).0, Some((1, reason)));
        }
    }
}
