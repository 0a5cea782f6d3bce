//! Dispatch: grants free slots to the calls in the queue, and removes calls that cannot be served.

use std::sync::Arc;

use tokio::time::Instant;

use super::handles::{HeldSlot, Slot};
use super::{Closed, Granted, Scheduler, SharedScheduler, WaitingCall, waits_for};
use crate::clock;
use crate::context::{Criticality, deadline_exceeded};
use crate::error::ErrorKind;
use crate::quota::Cost;
use crate::quota::lane::Lane;
use crate::quota::queue::{NextTicket, Receipt};
use crate::quota::window::NextSlot;

impl Scheduler {
    /// Grants all slots that can be granted now.
    pub(super) fn grant_all(&mut self, shared: &Arc<SharedScheduler>, now: Instant) {
        if self.queue.is_empty() {
            return;
        }
        // The members of a batch whose leader was cancelled are in the queue again.
        if let Some(Closed::OwnerMoved) = self.closed {
            return self.close(Closed::OwnerMoved);
        }
        if self.is_paused {
            return self.fail_all(|| ErrorKind::TenantPaused.into());
        }
        self.fail_if_day_is_over();
        self.fail_unservable(now);
        self.end_due_gathering(now);
        loop {
            let mut supply = self.capacity.supply(now);
            if self.capacity.breaker.next(now) != NextSlot::Now || !self.lease.is_valid(now) {
                (supply.calls.free, supply.bulk.free) = (0, 0);
            }
            match self.queue.next(&supply, now) {
                NextTicket::None => return,
                NextTicket::Expired(_, call, is_behind) => {
                    drop(call.grant.send(Err(deadline_exceeded(waits_for(is_behind)))));
                }
                NextTicket::Granted(receipt, call) => self.grant(shared, receipt, call, now),
            }
        }
    }

    /// When to grant slots again if nothing changes before.
    pub(super) fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        let queue = self.queue.next_wake()?;
        let at = |next| match next {
            NextSlot::Now | NextSlot::AfterCallEnds => None,
            NextSlot::At(at) => Some(at),
        };
        let gathering = self.next_gathering_end();
        let capacity = &mut self.capacity;
        let (calls, bulk) = (at(capacity.calls.next(now)), at(capacity.bulk.next(now)));
        let breaker = at(capacity.breaker.next(now));
        let all = [calls, bulk, gathering, breaker].into_iter().flatten();
        Some(all.fold(queue, Instant::min))
    }

    /// Fails all calls in the queue if the day is over, for a call of the highest class too.
    fn fail_if_day_is_over(&mut self) {
        let at = clock::now();
        let daily = &mut self.capacity.daily;
        if daily.refusal(at, Criticality::CriticalPlus).is_none() {
            return;
        }
        for call in self.queue.drain() {
            let retry_after = daily.refusal(at, Criticality::Sheddable).unwrap_or_default();
            let _ = call
                .grant
                .send(Err(ErrorKind::DailyBudgetExhausted { retry_after }.into()));
        }
    }

    /// Fails the calls whose deadlines pass while the circuit breaker, or a `Retry-After` of LeadSquared, allows no call.
    fn fail_unservable(&mut self, now: Instant) {
        let breaker = &self.capacity.breaker;
        let NextSlot::At(end) = breaker.next(now) else {
            return;
        };
        let retry_after = end - now;
        while let Some(call) = self.queue.remove_due_by(end) {
            let kind = match breaker.is_open() {
                true => ErrorKind::BreakerOpen { retry_after },
                false => ErrorKind::DeadlineInfeasible { retry_after },
            };
            let _ = call.grant.send(Err(kind.into()));
        }
    }

    /// Grants a slot to a call: alone, or as the leader of a batch.
    fn grant(&mut self, shared: &Arc<SharedScheduler>, receipt: Receipt, call: WaitingCall, now: Instant) {
        if call.grant.is_closed() {
            return self.queue.done(receipt);
        }
        if let Some(batch) = call.batch {
            self.queue.end_gathering(batch.lane);
        }
        let batch = call
            .batch
            .filter(|batch| self.may_send_batch(batch.lane, call.cost, now));
        let members = batch.map_or_else(Vec::new, |batch| self.take_members(batch.lane));
        // A call that has no endpoint of its own is sent as a batch of one.
        let batch = batch.filter(|batch| {
            let is_bulk_only = call.cost == batch.lane.cost() && call.cost == Cost::Bulk;
            !members.is_empty() || is_bulk_only
        });
        let cost = batch.map_or(call.cost, |batch| batch.lane.cost());
        let held = HeldSlot {
            capacity: self.capacity.take(cost, now),
            receipts: vec![receipt],
        };
        if let Some(batch) = call.batch {
            self.lanes_due[batch.lane as usize] = Some(self.next_of_lane(now));
        }
        let slot = Slot {
            shared: shared.clone(),
            held: Some(held),
            endpoint: batch.map_or(call.endpoint, |batch| batch.endpoint),
            sent: None,
            is_batch: batch.is_some(),
            members,
        };
        let granted = match batch {
            Some(_) => Granted::BatchLeader(slot),
            None => Granted::Alone(slot),
        };
        // The call may have been cancelled since the check above. The slot is taken apart here, since its drop would lock.
        if let Err(Ok(Granted::Alone(mut unused) | Granted::BatchLeader(mut unused))) = call.grant.send(Ok(granted)) {
            for (receipt, member) in unused.members.drain(..) {
                self.queue.requeue(receipt, member, now);
            }
            if let Some(held) = unused.held.take() {
                self.unsent(held);
            }
            return;
        }
        self.capacity.count_grant(now);
    }

    /// Takes the members of a batch out of the queue.
    fn take_members(&mut self, lane: Lane) -> Vec<(Receipt, WaitingCall)> {
        let max = self.queue.max_batch(lane) - 1;
        let mut members = Vec::new();
        while members.len() < max
            && let Some((receipt, call)) = self.queue.take_member(lane)
        {
            match call.grant.is_closed() {
                true => self.queue.done(receipt),
                false => members.push((receipt, call)),
            }
        }
        members
    }
}
