//! Admission: whether a ticket would be served before its deadline. Otherwise the ticket is refused at once. The function
//! `wait` is the only source of the times at which slots become free.
//!
//! The estimate is a number of slots that go to other tickets before, turned into a time by `wait`. Each rule of the queue
//! has a term in it:
//!
//! | rule | term of the estimate |
//! |---|---|
//! | a higher class goes first | `waiting_above`, and `slots_of_batchable` of the higher classes |
//! | slots are kept for the upper two classes | `UpperReserve::kept` and `UpperReserve::owned`, in `wait_behind` |
//! | each of the lower two classes gets one grant in twenty | for the ticket's own class `by_floor`, in `fair_wait`; for the classes below `grants_below` |
//! | callers are served in turns by weight | `turns_of_others` |
//! | calls and bulk calls of a caller take turns | `before`, in `fair_wait` |
//! | reads and writes of a caller take turns, reads by deadline | `CallerFlow::ahead` |
//! | a refused ticket goes first when it is requeued | it is counted as a ticket of its caller |
//! | without a free bulk slot, bulk tickets are skipped | `slots_taken` for calls; `for_bulk`, in `wait_behind`, for bulk calls |
//! | members of a batch share a slot | `per_slot`: in `batch_calls_before` for a batchable ticket, in `slots_of_batchable` and `batchable_between` for all tickets |
//! | writes with a common key keep their order | `NewTicket::writes_ahead`, as slots and as calls one after the other, in `wait_behind` |
//! | a caller keeps to its cap | `wait_for_cap` |
//! | a flood of the lower two classes is paced | `wait`: the scheduler passes the paced wait |
//! | nothing is sent while the circuit breaker is open | `wait`: the scheduler adds the wait for the breaker |
//! | a call has to be complete at its deadline | the usual latency is subtracted from the timeout: `patience`, in `admit` |
//!
//! Gathering delays are not in the estimate: the scheduler delays a call only if its deadline allows it.

use std::time::Duration;

use tokio::time::Instant;

use super::callers::CallerState;
use super::fair::{COSTS, CallerFlow};
use super::ids::CallerIndex;
use super::{Criticality, Queue, Supply, TicketRequest, classes};
use crate::quota::Cost;
use crate::quota::lane::Lane;
use crate::quota::latency::LatencyEstimate;

/// Why a ticket would not be served in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infeasible {
    /// How long it would have waited.
    pub wait: Duration,
    /// Whether the call itself takes longer than its timeout, however short the wait.
    pub is_too_slow: bool,
    /// Whether the caller's own cap makes it wait so long.
    pub by_own_cap: bool,
}

/// How long a ticket waits: for a slot, and for its caller's cap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) slot: Duration,
    pub(super) cap: Duration,
}

/// A new ticket, as the estimate sees it.
pub(super) struct NewTicket<'a> {
    pub(super) class: Criticality,
    pub(super) cost: Cost,
    pub(super) lane: Option<Lane>,
    index: Option<CallerIndex>,
    pub(super) caller: Option<&'a CallerState>,
    pub(super) weight: u32,
    /// The writes ahead of it in the longest queue of its keys.
    writes_ahead: usize,
    /// The usual latency of such a call.
    usual: Duration,
}

impl Wait {
    pub(super) fn longer(&self) -> Duration {
        self.slot.max(self.cap)
    }
}

impl NewTicket<'_> {
    pub(super) fn flow(&self) -> Option<&CallerFlow> {
        self.caller?.flow(self.class)
    }
}

impl<T> Queue<T> {
    /// Returns how long a new ticket would wait, or an error if that is too long for its deadline. `estimate` is the latency
    /// of such a call. `wait(cost, ahead)` is the time until `ahead` slots have gone to other tickets and one more is free.
    ///
    /// Only tickets that wait now are counted. Later tickets that may go ahead count as far as slots are kept for them.
    pub fn admit(
        &mut self,
        request: &TicketRequest,
        estimate: &LatencyEstimate,
        supply: &Supply,
        now: Instant,
        mut wait: impl FnMut(Cost, usize) -> Duration,
    ) -> Result<Duration, Infeasible> {
        self.reserve.advance(now, supply.window);
        let timeout = request.deadline.saturating_duration_since(now);
        let ticket = self.new_ticket(request, estimate.usual);
        // More tickets than this are not served in time anyway.
        let windows = timeout.div_duration_f64(supply.window.max(Duration::from_millis(1)));
        let max = supply.calls.limit.saturating_mul(windows as usize + 2);
        let own = match request.lane {
            None => ticket.flow().map_or(0, |flow| {
                flow.ahead(request.cost, !request.keys.is_empty(), request.deadline, max)
            }),
            Some(lane) => self.batch_calls_before(&ticket, lane, supply),
        };
        let expected = self.fair_wait(&ticket, own, [0; 2], supply, now, &mut wait);
        let wait_now = expected.longer();
        // A call that finds a free slot is sent unless no call was ever fast enough.
        if wait_now.is_zero() && estimate.least < timeout {
            return Ok(wait_now);
        }
        let patience = timeout.checked_sub(estimate.usual);
        if patience.is_some_and(|patience| wait_now <= patience) {
            return Ok(wait_now);
        }
        Err(Infeasible {
            wait: wait_now,
            is_too_slow: estimate.least >= timeout,
            by_own_cap: patience.is_some_and(|patience| expected.slot <= patience),
        })
    }

    pub(super) fn new_ticket(&self, request: &TicketRequest, usual: Duration) -> NewTicket<'_> {
        let class = self.class_of(request);
        let index = self.callers.find(&request.caller, &self.settings.callers);
        let caller = index.map(|index| self.callers.get(index));
        let flow = caller.and_then(|caller| caller.flow(class));
        NewTicket {
            class,
            cost: request.cost,
            lane: request.lane,
            index,
            caller,
            weight: flow.map_or_else(|| self.quota_of(&request.caller).weight.max(1), |flow| flow.weight()),
            writes_ahead: match request
                .position
                .and_then(|position| Some((position, self.reserved.get(&position)?)))
            {
                Some((position, reserved)) => self.key_queues.writes_ahead(&reserved.keys, Some(position)),
                None => self.key_queues.writes_ahead(&request.keys, None),
            },
            usual,
        }
    }

    /// Number of batches of its lane that are sent before the batch of the ticket.
    pub(super) fn batch_calls_before(&self, ticket: &NewTicket<'_>, lane: Lane, supply: &Supply) -> usize {
        let class = ticket.class;
        let own = ticket.flow().map_or(0, CallerFlow::batchable);
        // All tickets of the lane, or all that take turns with those of its caller, of any lane.
        let by_turns = own + self.turns_of_others(ticket, own + 1, CallerFlow::batchable);
        let peers = by_turns.min(self.lanes.waiting(lane, class));
        let above = Criticality::ALL.into_iter().filter(|above| *above > class);
        let higher: usize = above.map(|above| self.lanes.waiting(lane, above)).sum();
        (peers + higher) / self.per_slot(lane, ticket.cost, supply)
    }

    /// Mean number of members of a lane that are sent on one slot of that cost.
    pub(super) fn per_slot(&self, lane: Lane, cost: Cost, supply: &Supply) -> usize {
        let max = self.lanes.max_batch(lane);
        let (calls, bulk) = (supply.calls.limit, supply.bulk.limit.min(supply.calls.limit));
        match (lane.cost(), cost) {
            (Cost::Call, _) | (Cost::Bulk, Cost::Bulk) => max,
            // Some slots come with a bulk slot. On each of the others, one call is sent alone.
            (Cost::Bulk, Cost::Call) => (bulk * max + (calls - bulk)) / calls.max(1),
        }
        .max(1)
    }

    /// Number of slots that the batchable tickets of these classes take.
    fn slots_of_batchable(&self, classes: impl Iterator<Item = Criticality> + Clone, supply: &Supply) -> usize {
        let of_lane = |lane| {
            let waiting: usize = classes.clone().map(|class| self.lanes.waiting(lane, class)).sum();
            waiting.div_ceil(self.per_slot(lane, Cost::Call, supply))
        };
        Lane::ALL.into_iter().map(of_lane).sum()
    }

    /// Maximum number of tickets of other callers that are served before a ticket that has this many turns of its own flow before it,
    /// its own included. `waiting` is the number of tickets of a flow that count. Each other flow has its share by weight,
    /// and one more if it happens to be first in the round.
    fn turns_of_others(&self, ticket: &NewTicket<'_>, turns: usize, waiting: impl Fn(&CallerFlow) -> usize) -> usize {
        let weight = u64::from(ticket.weight);
        let others = self.callers.others(ticket.index);
        let flows = others.filter_map(|caller| caller.flow(ticket.class));
        let served = flows.map(|flow| {
            let share = (u64::from(flow.weight()) * turns as u64).div_ceil(weight) + 1;
            waiting(flow).min(usize::try_from(share).unwrap_or(usize::MAX))
        });
        served.sum()
    }

    /// The wait by the rules of the queue, behind `own` tickets of the ticket's own flow; for a batchable ticket, behind `own`
    /// batches of its lane. `retries` is the number of slots that go to promised retries before, by cost.
    pub(super) fn fair_wait(
        &self,
        ticket: &NewTicket<'_>,
        own: usize,
        retries: [usize; 2],
        supply: &Supply,
        now: Instant,
        wait: &mut impl FnMut(Cost, usize) -> Duration,
    ) -> Wait {
        let class = ticket.class;
        // Calls and bulk calls of a caller take turns.
        let before = COSTS.map(|cost| {
            let all = ticket.flow().map_or(0, |flow| flow.waiting(cost));
            match (cost == ticket.cost, ticket.lane) {
                (true, None) => own,
                // Writes and reads have their turns too.
                (true, Some(_)) => own + all.min(2 * own + 2),
                (false, _) => all.min(own + 1),
            }
        });
        let turns = before[0] + before[1];
        let peers = COSTS.map(|cost| {
            before[cost as usize]
                + self.turns_of_others(ticket, turns, |flow| flow.waiting(cost))
                + retries[cost as usize]
        });
        let higher = self.waiting_above(class);
        let all = [higher[0] + peers[0], higher[1] + peers[1]];
        let above = Criticality::ALL.into_iter().filter(|above| *above > class);
        let by_order = slots_taken(ticket.cost, all, supply)
            + self.slots_of_batchable(above, supply)
            + self.batchable_between(ticket, turns, supply);
        let by_floor = classes::one_in(class).map(|one_in| one_in * (peers[0] + peers[1] + 1) - 1);
        let slots = by_floor.map_or(by_order, |by_floor| by_floor.min(by_order));
        Wait {
            slot: self.wait_behind(ticket, slots, all[Cost::Bulk as usize], supply, wait),
            cap: self.wait_for_cap(ticket, own, now, supply),
        }
    }

    /// Number of slots that go to batchable tickets of its class that have their turns before the ticket.
    fn batchable_between(&self, ticket: &NewTicket<'_>, turns: usize, supply: &Supply) -> usize {
        let own = ticket.flow().map_or(0, CallerFlow::batchable);
        let by_turns = own.min(turns + 1) + self.turns_of_others(ticket, turns, CallerFlow::batchable);
        let counted = ticket.lane.map_or(0, |_| turns);
        let all = self.slots_of_batchable(std::iter::once(ticket.class), supply);
        by_turns.min(all).saturating_sub(counted)
    }

    /// The wait until all tickets that could go before are served, and all promised retries.
    pub(super) fn longest_wait(
        &self,
        ticket: &NewTicket<'_>,
        retries: [usize; 2],
        supply: &Supply,
        now: Instant,
        wait: &mut impl FnMut(Cost, usize) -> Duration,
    ) -> Wait {
        let higher = self.waiting_above(ticket.class);
        let peers = COSTS.map(|cost| self.classes[ticket.class as usize].waiting(cost));
        let classes = Criticality::ALL.into_iter().filter(|class| *class >= ticket.class);
        let slots =
            higher.iter().chain(&peers).chain(&retries).sum::<usize>() + self.slots_of_batchable(classes, supply);
        let own = ticket.caller.map_or(0, |caller| caller.waiting);
        // A bulk slot may stay unused for a while, since calls have their turns too.
        let bulk = higher[Cost::Bulk as usize] + peers[Cost::Bulk as usize] + retries[Cost::Bulk as usize] + 1;
        Wait {
            slot: self.wait_behind(ticket, slots, bulk, supply, wait),
            cap: self.wait_for_cap(ticket, own, now, supply),
        }
    }

    /// Number of tickets without a lane in higher classes, by cost.
    fn waiting_above(&self, class: Criticality) -> [usize; 2] {
        let above = &self.classes[class as usize + 1..];
        COSTS.map(|cost| above.iter().map(|class| class.waiting(cost)).sum())
    }

    /// The wait behind this number of slots, and behind this number of bulk slots, including the slots that go to other classes in
    /// the meantime.
    fn wait_behind(
        &self,
        ticket: &NewTicket<'_>,
        slots: usize,
        bulk: usize,
        supply: &Supply,
        wait: &mut impl FnMut(Cost, usize) -> Duration,
    ) -> Duration {
        let slots = slots.max(ticket.writes_ahead);
        let mut slots = slots + self.grants_below(ticket.class, slots, usize::MAX);
        if !ticket.class.is_upper() {
            let limit = supply.calls.limit;
            let owned = self.reserve.owned(limit);
            slots += self.reserve.kept(limit) + (slots * owned).div_ceil((limit - owned).max(1));
        }
        let for_slot = wait(Cost::Call, slots);
        let for_bulk = match ticket.cost {
            Cost::Call => Duration::ZERO,
            Cost::Bulk => {
                // All grants until then count for the floors of the classes below, which may take bulk slots.
                let grants = slots.max(bulk * supply.calls.limit / supply.bulk.limit.max(1));
                let below = &self.classes[..ticket.class as usize];
                let max = below.iter().map(|class| class.waiting(Cost::Bulk)).sum();
                wait(Cost::Bulk, bulk + self.grants_below(ticket.class, grants, max))
            }
        };
        let writes = u32::try_from(ticket.writes_ahead).unwrap_or(u32::MAX);
        for_slot.max(for_bulk).max(ticket.usual.saturating_mul(writes))
    }

    /// How many of this number of grants go to classes below for their floors, `max` at most.
    fn grants_below(&self, class: Criticality, grants: usize, max: usize) -> usize {
        let below = Criticality::ALL.into_iter().take_while(|below| *below < class);
        let waiting = below.filter(|below| !self.classes[*below as usize].is_empty());
        let of_floors = waiting.filter_map(|below| Some((grants + 1) / (classes::one_in(below)? - 1)));
        of_floors.sum::<usize>().min(max)
    }

    fn wait_for_cap(&self, ticket: &NewTicket<'_>, own: usize, now: Instant, supply: &Supply) -> Duration {
        ticket.caller.map_or(Duration::ZERO, |caller| {
            caller.wait_for_cap(own, now, supply.window, Duration::ZERO)
        })
    }
}

/// Number of slots that tickets of both costs take before a ticket of this cost has its turn. Bulk tickets take no more slots
/// than there are bulk slots, and calls go before the others.
fn slots_taken(cost: Cost, [calls, bulk]: [usize; 2], supply: &Supply) -> usize {
    let others = supply.calls.limit.saturating_sub(supply.bulk.limit);
    if cost == Cost::Bulk || others == 0 {
        return calls + bulk;
    }
    let share = (calls + 1) * supply.bulk.limit / others;
    calls + bulk.min(share + supply.bulk.free)
}
