//! Start-time fair queueing (Goyal, Vin, Cheng 1996) of the callers inside one class. Knows callers by number and
//! tickets by id, and neither deadlines' passing nor slots.
//!
//! Each caller's flow has a start tag in virtual time. The least tag is served, becomes the class's virtual time, and
//! moves on by one stride, which is inverse to the caller's weight. A flow that has nothing ready has no place in the
//! order; when it has again, it starts at the virtual time or at its own tag, whichever is later: idle time earns
//! nothing.
//!
//! There are two such clocks, since there are two resources: one for the slots of all calls, and one for the bulk
//! slots. With one clock, a caller who only sends bulk calls would lag behind in slots for ever and so win every bulk
//! slot.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::TicketId;
use crate::quota::Cost;

/// Both costs, to go through.
pub(super) const COSTS: [Cost; 2] = [Cost::Call, Cost::Bulk];

/// A stride at weight 1. The virtual time of the busiest tenant passes 2^64 after thousands of years.
const STRIDE: u64 = 1 << 24;
/// A stride must stay long enough for its rounding not to show.
const MAX_WEIGHT: u32 = 10_000;

/// The number of a caller.
pub(super) type CallerIndex = usize;

/// The tickets of one caller in one class.
#[derive(Debug)]
pub(super) struct Flow {
    weight: u32,
    /// The start tags on the clock of all slots and on that of the bulk slots.
    start: [u64; 2],
    /// Whether it has a place in the order, by cost.
    queued: [bool; 2],
    ready: [Ready; 2],
    last: Cost,
    /// How many wait, ready or not, by cost; those of lanes apart.
    waiting: [u32; 2],
    /// How many wait in lanes.
    riders: u32,
    /// All of them by age.
    by_age: BTreeSet<TicketId>,
}

/// The tickets of a flow that nothing but the want of a slot keeps waiting.
#[derive(Debug, Default)]
struct Ready {
    /// Those with keys: first come, first served.
    writes: BTreeSet<TicketId>,
    /// Those without: the earliest deadline first.
    reads: BTreeSet<(Instant, TicketId)>,
    /// Those that can travel together, reads and writes: the earliest deadline first, since it takes others along.
    riders: BTreeSet<(Instant, TicketId)>,
    last: TurnKind,
}

/// The three that take turns in a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TurnKind {
    Write,
    Read,
    #[default]
    Rider,
}

/// One class: the order of its flows, and what waits in it.
#[derive(Debug, Default)]
pub(super) struct Class {
    order: [BTreeSet<(u64, CallerIndex)>; 2],
    virtual_time: [u64; 2],
    backlog: [Backlog; 2],
    /// The tickets of lanes, of both costs.
    riders: Backlog,
    /// Tickets that had their turn and were refused, by cost: they go before all flows and have paid already.
    returned: [BTreeSet<TicketId>; 2],
    /// All tickets by age, with the flow of each.
    by_age: BTreeMap<TicketId, CallerIndex>,
}

/// What distinguishes one waiting ticket for the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: TicketId,
    pub(super) caller: CallerIndex,
    pub(super) cost: Cost,
    pub(super) deadline: Instant,
    pub(super) is_write: bool,
    pub(super) is_rider: bool,
    pub(super) returned: bool,
}

impl Ready {
    fn is_empty(&self) -> bool {
        self.len() == 0 && self.riders.is_empty()
    }

    /// How many there are that go alone.
    fn len(&self) -> usize {
        self.writes.len() + self.reads.len()
    }

    fn insert(&mut self, place: &Place) {
        if place.is_rider {
            self.riders.insert((place.deadline, place.id));
        } else if place.is_write {
            self.writes.insert(place.id);
        } else {
            self.reads.insert((place.deadline, place.id));
        }
    }

    fn remove(&mut self, place: &Place) {
        if place.is_rider {
            self.riders.remove(&(place.deadline, place.id));
        } else if place.is_write {
            self.writes.remove(&place.id);
        } else {
            self.reads.remove(&(place.deadline, place.id));
        }
    }

    /// Writes, reads and riders take turns.
    fn next(&mut self) -> Option<TicketId> {
        let first = |tickets: &BTreeSet<(Instant, TicketId)>| tickets.first().map(|(_, id)| *id);
        let of = |kind| match kind {
            TurnKind::Write => self.writes.first().copied(),
            TurnKind::Read => first(&self.reads),
            TurnKind::Rider => first(&self.riders),
        };
        let turns = match self.last {
            TurnKind::Write => [TurnKind::Read, TurnKind::Rider, TurnKind::Write],
            TurnKind::Read => [TurnKind::Rider, TurnKind::Write, TurnKind::Read],
            TurnKind::Rider => [TurnKind::Write, TurnKind::Read, TurnKind::Rider],
        };
        let (kind, id) = turns.into_iter().find_map(|kind| Some((kind, of(kind)?)))?;
        self.last = kind;
        Some(id)
    }
}

impl Flow {
    pub(super) fn new(weight: u32) -> Self {
        Self {
            weight: weight.clamp(1, MAX_WEIGHT),
            start: [0; 2],
            queued: [false; 2],
            ready: [Ready::default(), Ready::default()],
            last: Cost::Call,
            waiting: [0; 2],
            riders: 0,
            by_age: BTreeSet::new(),
        }
    }

    fn stride(&self) -> u64 {
        STRIDE / u64::from(self.weight)
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) fn waiting(&self, cost: Cost) -> usize {
        self.waiting[cost as usize] as usize
    }

    pub(super) fn riders(&self) -> usize {
        self.riders as usize
    }

    /// How many of its calls, riders apart, nothing but the want of a slot keeps waiting.
    pub(super) fn ready(&self) -> usize {
        self.ready[Cost::Call as usize].len()
    }

    pub(super) fn newest(&self) -> Option<TicketId> {
        self.by_age.last().copied()
    }

    /// How many tickets of this cost go before a new one.
    pub(super) fn ahead(&self, cost: Cost, is_write: bool, deadline: Instant, most: usize) -> usize {
        let ready = &self.ready[cost as usize];
        // What is not ready is a write behind another one.
        let writes = self.waiting(cost) - ready.reads.len();
        let reads = ready.reads.len();
        if is_write {
            return writes + reads.min(writes);
        }
        let urgent = ready.reads.range(..(deadline, TicketId(u64::MAX))).take(most).count();
        urgent + writes.min(urgent + 1)
    }
}

impl Class {
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

    pub(super) fn waiting(&self, cost: Cost) -> usize {
        self.backlog[cost as usize].tickets
    }

    pub(super) fn backlog(&self, cost: Cost) -> &Backlog {
        &self.backlog[cost as usize]
    }

    pub(super) fn riders(&self) -> &Backlog {
        &self.riders
    }

    /// A ticket waits from now on, though it may not be ready.
    pub(super) fn enter(&mut self, place: &Place, flow: &mut Flow) {
        self.by_age.insert(place.id, place.caller);
        flow.by_age.insert(place.id);
        self.count(place, flow, |waiting| waiting + 1);
    }

    /// It waits no more.
    pub(super) fn leave(&mut self, place: &Place, flow: &mut Flow, is_capped: bool) {
        self.by_age.remove(&place.id);
        flow.by_age.remove(&place.id);
        self.count(place, flow, |waiting| waiting - 1);
        if place.returned {
            self.returned[place.cost as usize].remove(&place.id);
        } else {
            flow.ready[place.cost as usize].remove(place);
            self.settle(place.caller, flow, is_capped);
        }
    }

    fn count(&mut self, place: &Place, flow: &mut Flow, change: impl Fn(u32) -> u32) {
        let (waiting, backlog) = match place.is_rider {
            true => (&mut flow.riders, &mut self.riders),
            false => {
                let cost = place.cost as usize;
                (&mut flow.waiting[cost], &mut self.backlog[cost])
            }
        };
        let before = *waiting;
        *waiting = change(before);
        backlog.change(flow.weight, before, *waiting);
    }

    /// Nothing but the want of a slot keeps it waiting from now on.
    pub(super) fn make_ready(&mut self, place: &Place, flow: &mut Flow, is_capped: bool) {
        if place.returned {
            self.returned[place.cost as usize].insert(place.id);
        } else {
            flow.ready[place.cost as usize].insert(place);
            self.settle(place.caller, flow, is_capped);
        }
    }

    /// Gives the flow its place in the order if it has something ready, and takes it away if not.
    pub(super) fn settle(&mut self, caller: CallerIndex, flow: &mut Flow, is_capped: bool) {
        for cost in COSTS {
            let cost = cost as usize;
            let wanted = !is_capped && !flow.ready[cost].is_empty();
            if wanted && !flow.queued[cost] {
                flow.start[cost] = flow.start[cost].max(self.virtual_time[cost]);
                self.order[cost].insert((flow.start[cost], caller));
            } else if !wanted && flow.queued[cost] {
                self.order[cost].remove(&(flow.start[cost], caller));
            }
            flow.queued[cost] = wanted;
        }
    }

    /// Which caller's call has the least tag.
    pub(super) fn first(&self) -> Option<CallerIndex> {
        self.order[Cost::Call as usize].first().map(|(_, caller)| *caller)
    }

    /// Whose turn it is: the ticket that was refused before, or the caller and what his ticket costs.
    pub(super) fn next<'a>(&self, bulk_is_free: bool, flow: impl Fn(CallerIndex) -> Option<&'a Flow>) -> Option<Turn> {
        let first = |cost: Cost| self.returned[cost as usize].first().copied();
        let returned = [first(Cost::Call), first(Cost::Bulk).filter(|_| bulk_is_free)];
        if let Some(id) = returned.into_iter().flatten().min() {
            return Some(Turn::Returned(id));
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
                // On a tie the bulk slots go first, as there are fewer of them.
                if bulk_tag <= *tag {
                    (*bulk, Cost::Bulk)
                } else {
                    (*call, Cost::Call)
                }
            }
            (None, None) => return None,
        };
        Some(Turn::Fair(caller, cost))
    }

    /// Serves a caller: his next ticket of this cost, which still waits until it leaves.
    pub(super) fn serve(&mut self, caller: CallerIndex, cost: Cost, flow: &mut Flow) -> Option<TicketId> {
        let id = flow.ready[cost as usize].next()?;
        flow.last = cost;
        // Every call takes a slot of all calls, and a bulk call one of the others besides.
        self.charge(Cost::Call, caller, flow);
        if cost == Cost::Bulk {
            self.charge(Cost::Bulk, caller, flow);
        }
        Some(id)
    }

    /// Moves a flow on by a stride on one clock, and the clock to where the flow was.
    fn charge(&mut self, clock: Cost, caller: CallerIndex, flow: &mut Flow) {
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

/// Whose turn it is in a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A ticket that was refused before.
    Returned(TicketId),
    /// The next ticket of a caller, of this cost.
    Fair(CallerIndex, Cost),
}

/// How much waits in the flows of a class, by powers of two of tickets per weight, so that the share of any number of
/// flows is estimated in constant time.
#[derive(Debug)]
pub(super) struct Backlog {
    tickets: usize,
    sizes: [Flows; u64::BITS as usize],
}

/// Flows of about one size.
#[derive(Clone, Copy, Debug, Default)]
struct Flows {
    count: u64,
    tickets: u64,
    weights: u64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            tickets: 0,
            sizes: [Flows::default(); u64::BITS as usize],
        }
    }
}

impl Backlog {
    fn size(weight: u32, tickets: u32) -> usize {
        let per_weight = (u64::from(tickets) << 16) / u64::from(weight);
        per_weight.max(1).ilog2() as usize
    }

    fn change(&mut self, weight: u32, before: u32, after: u32) {
        if before > 0 {
            let flows = &mut self.sizes[Self::size(weight, before)];
            flows.count -= 1;
            flows.tickets -= u64::from(before);
            flows.weights -= u64::from(weight);
        }
        if after > 0 {
            let flows = &mut self.sizes[Self::size(weight, after)];
            flows.count += 1;
            flows.tickets += u64::from(after);
            flows.weights += u64::from(weight);
        }
        self.tickets = self.tickets + after as usize - before as usize;
    }

    /// How many tickets of other flows are served at most before a ticket of a flow of this weight that has so many of
    /// its own ahead: the shares of those, and one more of each flow that happens to be before it in the round. Too
    /// high only for the flows of that size at which some have less than their share and some have more.
    pub(super) fn share_of_others(&self, weight: u32, own_waiting: usize, own_ahead: usize) -> usize {
        let own_size = Self::size(weight, u32::try_from(own_waiting).unwrap_or(u32::MAX));
        let shares = self.sizes.iter().enumerate().map(|(size, flows)| {
            let mut others = *flows;
            if own_waiting > 0 && size == own_size {
                others.count -= 1;
                others.tickets -= own_waiting as u64;
                others.weights -= u64::from(weight);
            }
            let share = (others.weights * own_ahead as u64).div_ceil(u64::from(weight)) + others.count;
            share.min(others.tickets)
        });
        usize::try_from(shares.sum::<u64>()).unwrap_or(usize::MAX)
    }
}
