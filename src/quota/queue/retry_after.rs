//! The time after which a refused ticket is to be requested again: the estimate of `admission`, behind all tickets that wait and all
//! retries that were promised before.

use std::time::Duration;

use tokio::time::Instant;

use super::fair::COSTS;
use super::promised_retries::{AttemptKind, PromisedRetry, RetriesAhead};
use super::{Queue, Supply, TicketRequest};
use crate::quota::Cost;
use crate::quota::lane::Lane;
use crate::quota::latency::LatencyEstimate;

impl<T> Queue<T> {
    /// Returns the time after which a refused ticket would be admitted with the same timeout. Its place is behind all waiting
    /// tickets and all promised retries of refused tickets. The place is counted when the next ticket is refused. `drift` is how
    /// much longer than a window each call may hold its slot.
    pub fn retry_after(
        &mut self,
        request: &TicketRequest,
        estimate: &LatencyEstimate,
        drift: Duration,
        supply: &Supply,
        now: Instant,
        mut wait: impl FnMut(Cost, usize) -> Duration,
    ) -> Duration {
        self.retries.expire(now);
        self.arrived(request, now);
        let timeout = request.deadline.saturating_duration_since(now);
        let patience = timeout.saturating_sub(estimate.usual);
        let kind = AttemptKind::of(request.cost, request.lane);
        let ticket = self.new_ticket(request, estimate.usual);
        let (class, weight) = (ticket.class, ticket.weight);
        let ahead = self.retries.ahead(class, &request.caller, weight);
        let retry_slots = self.slots_of_retries(&ahead, kind, supply);
        let first = self.fair_wait(&ticket, 0, [0; 2], supply, now, &mut wait);
        // Under a steady load, other callers get no more than their fair share before this ticket.
        let steady = self.steady_load.in_a_window(class, now, supply.window);
        let steady = steady.min(supply.calls.limit / 2);
        let mut later = |cost: Cost, slots: usize| {
            let (limit, slots) = match cost {
                Cost::Call => {
                    let limit = supply.calls.limit;
                    (limit, (slots * limit).div_ceil((limit - steady).max(1)))
                }
                Cost::Bulk => (supply.bulk.limit, slots),
            };
            let rounds = u32::try_from(slots / limit.max(1) + 1).unwrap_or(u32::MAX);
            wait(cost, slots).saturating_add(drift.saturating_mul(rounds))
        };
        let mut served = Duration::ZERO;
        let place = if first.longer() <= patience {
            // The deadline of the retry is later too, so all waiting tickets of its caller may be ahead of it then.
            match request.lane {
                None => {
                    let own = ticket.flow().map_or(0, |flow| flow.waiting(request.cost)) + ahead.own(kind);
                    let mut others = retry_slots;
                    others[request.cost as usize] -= ahead.own(kind);
                    let mut fair = |own| self.fair_wait(&ticket, own, others, supply, now, &mut later);
                    let last = fair(own);
                    // The wait does not always shrink as time passes: enough calls of the caller must be served first.
                    let (mut fitting, mut over) = (0, own);
                    while over - fitting > 1 {
                        let middle = fitting.midpoint(over);
                        if fair(middle).longer() <= patience {
                            fitting = middle;
                        } else {
                            over = middle;
                        }
                    }
                    if last.longer() > patience {
                        served = fair(own - over).longer();
                    }
                    last
                }
                Some(lane) => {
                    let own = self.batch_calls_before(&ticket, lane, supply);
                    self.fair_wait(&ticket, own, retry_slots, supply, now, &mut later)
                }
            }
        } else {
            // Even as the first ticket of its caller, it waits too long. Only the end of all tickets ahead is certain to help.
            self.longest_wait(&ticket, retry_slots, supply, now, &mut later)
        };
        let own = ticket.caller.map_or(0, |caller| caller.waiting) + ahead.own(kind);
        let held = ticket.caller.map_or(Duration::ZERO, |caller| {
            caller.wait_for_cap(own, now, supply.window, drift)
        });
        // A retry of the caller uses the cap when it gets a slot, not now.
        let rounds = self
            .quota_of(&request.caller)
            .calls_per_window
            .map_or(0, |cap| own / cap.max(1) as usize);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        let cap = held.max(match rounds {
            0 => Duration::ZERO,
            rounds => first
                .slot
                .saturating_add((supply.window + drift).saturating_mul(rounds)),
        });
        let after = place.longer().max(cap).saturating_sub(patience).max(served);
        let after = after.max(Duration::from_millis(1));
        let slots = match request.cost {
            Cost::Call => supply.calls.limit,
            Cost::Bulk => supply.bulk.limit,
        };
        let pace = supply.window / u32::try_from(slots.max(1)).unwrap_or(u32::MAX);
        let expected = now + after + patience;
        let served = self.retries.first_free(class, &request.caller, kind, expected, pace);
        let due = served - patience;
        let expires = due + patience.min(supply.window);
        let retry = PromisedRetry { due, served, expires };
        self.retries.add((class, &request.caller, weight), kind, retry);
        due - now
    }

    /// Counts a request, which may be a promised retry. Returns whether it is.
    pub(super) fn arrived(&mut self, request: &TicketRequest, now: Instant) -> bool {
        let kind = AttemptKind::of(request.cost, request.lane);
        let class = self.class_of(request);
        self.retries.arrived(class, &request.caller, kind, now)
    }

    /// Number of slots of both costs that go to promised retries before a ticket of this kind.
    fn slots_of_retries(&self, ahead: &RetriesAhead, kind: AttemptKind, supply: &Supply) -> [usize; 2] {
        let mut slots = COSTS.map(|cost| {
            let kind = AttemptKind::Alone(cost);
            ahead.own(kind) + ahead.others(kind)
        });
        for lane in Lane::ALL {
            let batched = AttemptKind::Batched(lane);
            let count = ahead.own(batched) + ahead.others(batched);
            let per_slot = self.per_slot(lane, Cost::Call, supply);
            // The last batch of its own lane includes the ticket.
            slots[Cost::Call as usize] += match batched == kind {
                true => count / per_slot,
                false => count.div_ceil(per_slot),
            };
        }
        slots
    }
}
