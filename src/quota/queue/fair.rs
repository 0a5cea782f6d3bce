//! Start-time fair queueing (Goyal, Vin, Cheng 1996) of the callers inside one class. Callers have
//! numbers here, and tickets have ids. Slots and deadlines are not handled here.
//!
//! The flow of each caller has a start tag in virtual time. The flow with the least tag is served. Its tag becomes the
//! virtual time of the class, and moves on by one stride, which is inverse to the weight of the caller. A flow without ready
//! tickets has no place in the order. When it has a ready ticket again, it starts at the virtual time or at its own tag,
//! whichever is later. So idle time gives no advantage.
//!
//! There are two such clocks because there are two resources: one for the slots of all calls, and one for the bulk slots.
//! With a single clock, a caller that only sends bulk calls would always have used fewer slots and get every bulk slot.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::ids::CallerIndex;
use super::ids::TicketId;
use crate::quota::Cost;
use crate::quota::settings::MAX_WEIGHT;

/// Both costs, to iterate over.
pub(super) const COSTS: [Cost; 2] = [Cost::Call, Cost::Bulk];

/// The stride at weight 1. The virtual time of the busiest tenant passes 2^64 after thousands of years.
const STRIDE: u64 = 1 << 24;

/// The tickets of one caller in one class.
#[derive(Debug)]
pub(super) struct CallerFlow {
    weight: u32,
    /// The start tags on the clock of all slots and on that of the bulk slots.
    start: [u64; 2],
    /// Whether it has a place in the order, by cost.
    queued: [bool; 2],
    ready: [ReadyTickets; 2],
    last: Cost,
    /// Number of tickets without a lane, ready or not, by cost.
    waiting: [usize; 2],
    /// Number of tickets with a lane, ready or not.
    batchable: usize,
    /// All of them by age.
    by_age: BTreeSet<TicketId>,
}

/// The ready tickets of a flow: those that wait for nothing but a slot.
#[derive(Debug, Default)]
struct ReadyTickets {
    /// Tickets with keys, in the order of arrival.
    writes: BTreeSet<TicketId>,
    /// Tickets without keys, the earliest deadline first.
    reads: BTreeSet<(Instant, TicketId)>,
    /// Tickets with a lane, reads and writes. The earliest deadline first, since it becomes the leader of the batch.
    batchable: BTreeSet<(Instant, TicketId)>,
    last: TicketKind,
}

/// The kinds of tickets that take turns in a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TicketKind {
    Write,
    Read,
    #[default]
    Batchable,
}

/// One class: the order of its flows, and its tickets.
#[derive(Debug, Default)]
pub(super) struct ClassQueue {
    order: [BTreeSet<(u64, CallerIndex)>; 2],
    virtual_time: [u64; 2],
    /// Number of tickets without a lane, by cost.
    waiting: [usize; 2],
    /// Tickets that were granted a slot and refused, by cost. They go before all flows and are not charged again.
    requeued: [BTreeSet<TicketId>; 2],
    /// All tickets by age, with the flow of each.
    by_age: BTreeMap<TicketId, CallerIndex>,
}

/// The properties of a ticket that decide its place in the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct TicketPlace {
    pub(super) id: TicketId,
    pub(super) caller: CallerIndex,
    pub(super) cost: Cost,
    pub(super) deadline: Instant,
    pub(super) is_write: bool,
    pub(super) is_batchable: bool,
    pub(super) requeued: bool,
}

/// The next grant of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextInClass {
    /// A ticket that was refused before.
    Requeued(TicketId),
    /// The next ticket of this cost of a caller.
    Fair(CallerIndex, Cost),
}

impl ReadyTickets {
    fn is_empty(&self) -> bool {
        self.len() == 0 && self.batchable.is_empty()
    }

    /// Number of tickets without a lane.
    fn len(&self) -> usize {
        self.writes.len() + self.reads.len()
    }

    fn insert(&mut self, place: &TicketPlace) {
        if place.is_batchable {
            self.batchable.insert((place.deadline, place.id));
        } else if place.is_write {
            self.writes.insert(place.id);
        } else {
            self.reads.insert((place.deadline, place.id));
        }
    }

    fn remove(&mut self, place: &TicketPlace) {
        if place.is_batchable {
            self.batchable.remove(&(place.deadline, place.id));
        } else if place.is_write {
            self.writes.remove(&place.id);
        } else {
            self.reads.remove(&(place.deadline, place.id));
        }
    }

    /// The next ticket: writes, reads and batchable tickets take turns.
    fn next(&mut self) -> Option<TicketId> {
        let first = |tickets: &BTreeSet<(Instant, TicketId)>| tickets.first().map(|(_, id)| *id);
        let of = |kind| match kind {
            TicketKind::Write => self.writes.first().copied(),
            TicketKind::Read => first(&self.reads),
            TicketKind::Batchable => first(&self.batchable),
        };
        let turns = match self.last {
            TicketKind::Write => [TicketKind::Read, TicketKind::Batchable, TicketKind::Write],
            TicketKind::Read => [TicketKind::Batchable, TicketKind::Write, TicketKind::Read],
            TicketKind::Batchable => [TicketKind::Write, TicketKind::Read, TicketKind::Batchable],
        };
        let (kind, id) = turns.into_iter().find_map(|kind| Some((kind, of(kind)?)))?;
        self.last = kind;
        Some(id)
    }
}

impl CallerFlow {
    pub(super) fn new(weight: u32) -> Self {
        Self {
            weight: weight.clamp(1, MAX_WEIGHT),
            start: [0; 2],
            queued: [false; 2],
            ready: [ReadyTickets::default(), ReadyTickets::default()],
            last: Cost::Call,
            waiting: [0; 2],
            batchable: 0,
            by_age: BTreeSet::new(),
        }
    }

    fn stride(&self) -> u64 {
        STRIDE / u64::from(self.weight)
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) fn set_weight(&mut self, weight: u32) {
        self.weight = weight.clamp(1, MAX_WEIGHT);
    }

    /// Number of tickets of this cost without a lane, ready or not.
    pub(super) fn waiting(&self, cost: Cost) -> usize {
        self.waiting[cost as usize]
    }

    /// Number of tickets with a lane, ready or not.
    pub(super) fn batchable(&self) -> usize {
        self.batchable
    }

    /// Number of ready calls without a lane.
    pub(super) fn ready(&self) -> usize {
        self.ready[Cost::Call as usize].len()
    }

    pub(super) fn oldest(&self) -> Option<TicketId> {
        self.by_age.first().copied()
    }

    pub(super) fn newest(&self) -> Option<TicketId> {
        self.by_age.last().copied()
    }

    /// Number of tickets of this cost that are served before a new one. Counts no more than `max` reads.
    pub(super) fn ahead(&self, cost: Cost, is_write: bool, deadline: Instant, max: usize) -> usize {
        let ready = &self.ready[cost as usize];
        // A ticket that is not ready is a write behind another write.
        let writes = self.waiting(cost) - ready.reads.len();
        let reads = ready.reads.len();
        if is_write {
            return writes + reads.min(writes);
        }
        let urgent = ready.reads.range(..(deadline, TicketId(u64::MAX))).take(max).count();
        urgent + writes.min(urgent + 1)
    }
}

impl ClassQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn oldest(&self) -> Option<TicketId> {
        self.by_age.first_key_value().map(|(id, _)| *id)
    }

    pub(super) fn newest(&self) -> Option<TicketId> {
        self.by_age.last_key_value().map(|(id, _)| *id)
    }

    /// Number of tickets of this cost without a lane, ready or not.
    pub(super) fn waiting(&self, cost: Cost) -> usize {
        self.waiting[cost as usize]
    }

    /// Adds a ticket, which is not ready yet.
    pub(super) fn enter(&mut self, place: &TicketPlace, flow: &mut CallerFlow) {
        self.by_age.insert(place.id, place.caller);
        flow.by_age.insert(place.id);
        if place.is_batchable {
            flow.batchable += 1;
        } else {
            flow.waiting[place.cost as usize] += 1;
            self.waiting[place.cost as usize] += 1;
        }
    }

    /// Removes a ticket.
    pub(super) fn leave(&mut self, place: &TicketPlace, flow: &mut CallerFlow, is_capped: bool) {
        self.by_age.remove(&place.id);
        flow.by_age.remove(&place.id);
        if place.is_batchable {
            flow.batchable -= 1;
        } else {
            flow.waiting[place.cost as usize] -= 1;
            self.waiting[place.cost as usize] -= 1;
        }
        if place.requeued {
            self.requeued[place.cost as usize].remove(&place.id);
        } else {
            flow.ready[place.cost as usize].remove(place);
            self.update_order(place.caller, flow, is_capped);
        }
    }

    /// Makes a ticket ready: from now on it waits for nothing but a slot.
    pub(super) fn make_ready(&mut self, place: &TicketPlace, flow: &mut CallerFlow, is_capped: bool) {
        if place.requeued {
            self.requeued[place.cost as usize].insert(place.id);
        } else {
            flow.ready[place.cost as usize].insert(place);
            self.update_order(place.caller, flow, is_capped);
        }
    }

    /// Gives the flow a place in the order if it has ready tickets and its caller is not at its cap. Otherwise removes it.
    pub(super) fn update_order(&mut self, caller: CallerIndex, flow: &mut CallerFlow, is_capped: bool) {
        for cost in COSTS {
            let cost = cost as usize;
            let is_servable = !is_capped && !flow.ready[cost].is_empty();
            if is_servable && !flow.queued[cost] {
                flow.start[cost] = flow.start[cost].max(self.virtual_time[cost]);
                self.order[cost].insert((flow.start[cost], caller));
            } else if !is_servable && flow.queued[cost] {
                self.order[cost].remove(&(flow.start[cost], caller));
            }
            flow.queued[cost] = is_servable;
        }
    }

    /// The caller whose flow has the least tag on the clock of all slots.
    pub(super) fn first(&self) -> Option<CallerIndex> {
        self.order[Cost::Call as usize].first().map(|(_, caller)| *caller)
    }

    /// The next grant of the class.
    pub(super) fn next<'a>(
        &self,
        bulk_is_free: bool,
        flow: impl Fn(CallerIndex) -> Option<&'a CallerFlow>,
    ) -> Option<NextInClass> {
        let first = |cost: Cost| self.requeued[cost as usize].first().copied();
        let requeued = [first(Cost::Call), first(Cost::Bulk).filter(|_| bulk_is_free)];
        if let Some(id) = requeued.into_iter().flatten().min() {
            return Some(NextInClass::Requeued(id));
        }
        let call = self.order[Cost::Call as usize].first();
        let bulk = self.order[Cost::Bulk as usize].first().filter(|_| bulk_is_free);
        let (caller, cost) = match (call, bulk) {
            (Some((_, caller)), None) => (*caller, Cost::Call),
            (None, Some((_, caller))) => (*caller, Cost::Bulk),
            (Some((_, same)), Some((_, caller))) if same == caller => match flow(*caller)?.last {
                Cost::Call => (*caller, Cost::Bulk),
                Cost::Bulk => (*caller, Cost::Call),
            },
            (Some((tag, call)), Some((_, bulk))) => {
                let bulk_tag = flow(*bulk)?.start[Cost::Call as usize].max(self.virtual_time[Cost::Call as usize]);
                // On a tie the bulk ticket goes first, since there are fewer bulk slots.
                if bulk_tag <= *tag {
                    (*bulk, Cost::Bulk)
                } else {
                    (*call, Cost::Call)
                }
            }
            (None, None) => return None,
        };
        Some(NextInClass::Fair(caller, cost))
    }

    /// Charges a caller for its next ticket of this cost, and returns the ticket. The ticket waits until [`ClassQueue::leave`].
    pub(super) fn serve(&mut self, caller: CallerIndex, cost: Cost, flow: &mut CallerFlow) -> Option<TicketId> {
        let id = flow.ready[cost as usize].next()?;
        flow.last = cost;
        // Each call takes a slot of all calls. A bulk call takes a bulk slot too.
        self.charge(Cost::Call, caller, flow);
        if cost == Cost::Bulk {
            self.charge(Cost::Bulk, caller, flow);
        }
        Some(id)
    }

    /// Moves a flow on by one stride on one clock, and the clock to the start of the flow.
    fn charge(&mut self, clock: Cost, caller: CallerIndex, flow: &mut CallerFlow) {
        let clock = clock as usize;
        if flow.queued[clock] {
            self.order[clock].remove(&(flow.start[clock], caller));
        }
        self.virtual_time[clock] = self.virtual_time[clock].max(flow.start[clock]);
        flow.start[clock] = self.virtual_time[clock] + flow.stride();
        if flow.queued[clock] {
            self.order[clock].insert((flow.start[clock], caller));
        }
    }
}
