//! The queue of one tenant's quota: which ticket gets the next slot. Pure, with `now` as an argument. Its input is the
//! number of free slots. It depends neither on the slots themselves nor on the purpose of a ticket.
//!
//! Four rules, each applied inside the one before it:
//! 1. *Classes* (`classes`): a higher class goes first. But a fifth of the slots is kept for the upper two classes, as far as
//!    these have used it lately, and each of the lower two classes gets at least one grant in twenty while it waits.
//! 2. *Callers* (`fair`): start-time fair queueing by weight inside a class.
//! 3. *Costs*: a bulk call takes a slot of each window. While no bulk slot is free, bulk tickets are skipped.
//! 4. *Reads and writes* of one caller take turns: writes in the order of arrival, reads by deadline.
//!
//! In addition, writes with a common key keep their order (`keys`), and each caller keeps to its cap (`callers`). A flood
//! of the lower two classes is paced over the window while other callers arrive (`classes`), so that slots become free
//! evenly.
//!
//! The guarantee for a ticket of the upper two classes: once such tickets have arrived for a window, a slot is free for the
//! ticket as long as fewer kept slots were used in the last window than are kept. The first ticket after a pause, and tickets
//! beyond the kept slots, wait for the next slots that become free. At most one in ten of these slots goes to the
//! lower two classes.

mod admission;
mod callers;
mod classes;
mod fair;
mod ids;
mod keys;
mod lanes;
mod links;
mod promised_retries;
mod retry_after;
#[cfg(test)]
mod tests;
mod ticket;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

pub use admission::Infeasible;
use callers::CallerTable;
use classes::{ClassFloors, Pacing, UpperReserve};
use fair::{CallerFlow, ClassQueue, NextInClass};
use ids::CallerIndex;
pub use ids::TicketId;
use keys::KeyQueues;
pub use keys::WriteKey;
use lanes::LaneTickets;
use promised_retries::{PromisedRetries, SteadyLoad};
use ticket::Ticket;
pub use ticket::{
    CallerSnapshot, NextTicket, Pushed, QueueSettings, QueueSnapshot, Receipt, SlotSupply, Supply, TicketRequest,
    WaitingPlace,
};

use super::lane::Lane;
use super::{CallerQuota, CallerQuotas, Cost};
pub use crate::context::{Criticality, Position};

/// Maximum number of keys that a write takes over from writes ahead of it.
const MAX_LINKED_KEYS: usize = 64;

/// The tickets that wait. `T` is the payload of a ticket.
#[derive(Debug)]
pub struct Queue<T> {
    settings: QueueSettings,
    tickets: HashMap<TicketId, Ticket<T>>,
    next_id: u64,
    /// All tickets up to this id had to wait for a slot.
    waiting_up_to: TicketId,
    /// The tickets by deadline.
    deadlines: BTreeSet<(Instant, TicketId)>,
    classes: [ClassQueue; 4],
    callers: CallerTable,
    key_queues: KeyQueues,
    reserved: HashMap<Position, ReservedPosition>,
    lanes: LaneTickets,
    retries: PromisedRetries,
    steady_load: SteadyLoad,
    reserve: UpperReserve,
    floors: ClassFloors,
    pacing: Pacing,
}

/// A position in the queues of some keys. A write holds it until its outcome is known, over all its calls.
#[derive(Debug)]
struct ReservedPosition {
    keys: Box<[WriteKey]>,
    /// The call of the write that waits for a slot now.
    ticket: Option<TicketId>,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            lanes: LaneTickets::new(settings.sizes),
            settings,
            tickets: HashMap::new(),
            next_id: 0,
            waiting_up_to: TicketId(0),
            deadlines: BTreeSet::new(),
            classes: Default::default(),
            callers: CallerTable::new(),
            key_queues: KeyQueues::default(),
            reserved: HashMap::new(),
            retries: PromisedRetries::default(),
            steady_load: SteadyLoad::default(),
            reserve: UpperReserve::default(),
            floors: ClassFloors::default(),
            pacing: Pacing::default(),
        }
    }

    /// Changes the maximum number of tickets, of all callers and of one caller. Tickets in excess stay.
    pub fn set_maxima(&mut self, max_waiting: usize, max_per_caller: usize) {
        self.settings.max_waiting = max_waiting;
        self.settings.max_per_caller = max_per_caller;
    }

    /// Changes the quotas of the callers. Tickets keep their classes. Tickets of a caller without settings that share an entry
    /// stay there.
    pub fn set_callers(&mut self, quotas: CallerQuotas, now: Instant) {
        for caller in self.callers.set_quotas(&quotas, now) {
            self.update_order(caller);
        }
        self.settings.callers = quotas;
    }

    /// Number of tickets.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether there are no tickets.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Takes a position at the end of the queues of these keys, before there is a ticket for it. Later writes with a common
    /// key wait until it is released with [`Queue::release`].
    pub fn reserve(&mut self, own: Vec<WriteKey>) -> Position {
        self.next_id += 1;
        let position = Position(self.next_id);
        // A write by email address waits for writes by phone number if an unfinished write ahead has both keys.
        let mut ahead: Vec<Position> = own.iter().filter_map(|key| self.key_queues.last(*key)).collect();
        ahead.sort_unstable();
        ahead.dedup();
        let ahead = ahead.iter().filter_map(|position| self.reserved.get(position));
        let linked = ahead.flat_map(|ahead| ahead.keys.iter().copied());
        let mut keys: Vec<WriteKey> = linked.take(MAX_LINKED_KEYS).collect();
        keys.extend(own);
        keys.sort_unstable();
        keys.dedup();
        self.key_queues.enter(position, &keys);
        let keys = keys.into();
        self.reserved.insert(position, ReservedPosition { keys, ticket: None });
        position
    }

    /// Releases a reserved position: the next writes to its keys may be sent.
    pub fn release(&mut self, position: Position) {
        if let Some(reserved) = self.reserved.remove(&position) {
            self.leave_key_queues(position, &reserved.keys);
        }
    }

    /// Adds a ticket. If the queue is full, the newest ticket of the lowest class is removed: of the caller, if its own limit
    /// is reached, or of all callers. If that is the new ticket, its payload is returned as the error.
    pub fn push(&mut self, mut request: TicketRequest, payload: T, now: Instant) -> Result<Pushed<T>, T> {
        let mut class = self.class_of(&request);
        let is_retry = self.arrived(&request, now);
        let caller = self.caller(&request.caller, now);
        let dropped = match self.overflow(caller) {
            Some((lowest, _)) if lowest >= class => return Err(payload),
            Some((_, newest)) => self.remove(newest).map(|payload| (newest, payload)),
            None => None,
        };
        if class.is_upper() {
            self.reserve.requested(now);
        } else if self.callers.get(caller).waiting == 0 && self.next_lower_flow().is_some() {
            self.pacing.caller_joined(now);
        }
        let is_single_call = request.cost == Cost::Call && request.lane.is_none();
        if !is_retry && is_single_call && self.callers.get(caller).waiting == 0 {
            self.steady_load.arrived(class, now);
        }
        self.next_id += 1;
        let id = TicketId(self.next_id);
        let reserved = request
            .position
            .and_then(|position| Some((position, self.reserved.get(&position)?)));
        let (position, keys) = match reserved {
            Some((position, reserved)) => (position, reserved.keys.clone()),
            None => {
                request.keys.sort_unstable();
                request.keys.dedup();
                let position = Position(id.0);
                self.key_queues.enter(position, &request.keys);
                (position, request.keys.into())
            }
        };
        let is_reserved = position != Position(id.0);
        if is_reserved {
            class = class.max(self.class_behind(position, &keys).unwrap_or(class));
        }
        self.raise_class_ahead(position, &keys, class);
        let ticket = Ticket {
            payload,
            class,
            caller,
            cost: request.cost,
            lane: request.lane,
            keys,
            position,
            is_reserved,
            deadline: request.deadline,
            since: now,
            requeued: false,
            gathering: false,
        };
        self.attach(id, ticket);
        Ok(Pushed { id, dropped })
    }

    /// Whether a ticket of this caller delays no other call: no ticket has to be removed for it, and no refused call has a
    /// promised retry that may need the slot.
    pub fn has_room(&mut self, caller: &Arc<str>, now: Instant) -> bool {
        let caller = self.caller(caller, now);
        self.overflow(caller).is_none() && self.retries.is_empty(now)
    }

    /// Makes a ticket of a lane wait for other tickets of the lane until [`Queue::end_gathering`].
    pub fn start_gathering(&mut self, id: TicketId) {
        if let Some(mut ticket) = self.detach(id)
            && let Some(lane) = ticket.lane
        {
            ticket.gathering = true;
            self.attach(id, ticket);
            self.lanes.start_gathering(lane, id);
        }
    }

    /// Whether tickets of this lane wait for other tickets of the lane.
    pub fn is_gathering(&self, lane: Lane) -> bool {
        self.lanes.is_gathering(lane)
    }

    /// Makes the tickets ready that wait for other tickets of this lane.
    pub fn end_gathering(&mut self, lane: Lane) {
        for id in self.lanes.end_gathering(lane) {
            let Some(ticket) = self.tickets.get_mut(&id) else {
                continue;
            };
            ticket.gathering = false;
            if self.key_queues.is_first(ticket.position, &ticket.keys) {
                self.make_ready(id);
            }
        }
    }

    /// Moves a ticket that was granted and refused to the head of its class, before all callers. It is charged neither to its
    /// caller's turns nor to its caller's cap again, and it keeps its position in the queues of its keys.
    pub fn requeue(&mut self, receipt: Receipt, payload: T, now: Instant) {
        let Receipt {
            id,
            request,
            position,
            since,
        } = receipt;
        let caller = self.caller(&request.caller, now);
        // Tickets of higher classes may have arrived behind it in the meantime.
        let class = self.class_behind(position, &request.keys);
        let ticket = Ticket {
            payload,
            class: request.criticality.max(class.unwrap_or(request.criticality)),
            caller,
            cost: request.cost,
            lane: request.lane,
            keys: request.keys.into(),
            position,
            is_reserved: request.position.is_some(),
            deadline: request.deadline,
            since,
            requeued: true,
            gathering: false,
        };
        self.attach(id, ticket);
    }

    /// Ends a granted ticket whose outcome is known: the next writes to its keys may be sent.
    pub fn done(&mut self, receipt: Receipt) {
        if receipt.request.position.is_none() {
            self.leave_key_queues(receipt.position, &receipt.request.keys);
        }
    }

    /// Ends granted tickets like [`Queue::done`].
    pub fn done_all(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        receipts.into_iter().for_each(|receipt| self.done(receipt));
    }

    /// Whether a ticket waits for an earlier write with a common key.
    pub fn is_behind(&self, id: TicketId) -> bool {
        let ticket = self.tickets.get(&id);
        ticket.is_some_and(|ticket| !self.key_queues.is_first(ticket.position, &ticket.keys))
    }

    /// Where a ticket waits. `None`: it does not wait any more.
    pub fn place(&self, id: TicketId) -> Option<WaitingPlace> {
        let ticket = self.tickets.get(&id)?;
        let from_class = self.classes.iter().skip(ticket.class as usize);
        Some(WaitingPlace {
            class: ticket.class,
            position: from_class.map(ClassQueue::len).sum(),
            cost: ticket.cost,
            is_behind: self.is_behind(id),
            is_gathering: ticket.gathering,
        })
    }

    /// Removes a ticket. Returns its payload.
    pub fn remove(&mut self, id: TicketId) -> Option<T> {
        let ticket = self.detach(id)?;
        if !ticket.is_reserved {
            self.leave_key_queues(ticket.position, &ticket.keys);
        }
        Some(ticket.payload)
    }

    /// Removes the ticket with the earliest deadline if that is no later than `time`. Returns its payload.
    pub fn remove_due_by(&mut self, time: Instant) -> Option<T> {
        let (deadline, id) = self.deadlines.first().copied()?;
        if deadline > time {
            return None;
        }
        self.remove(id)
    }

    /// Removes all tickets. Returns their payloads, the oldest first.
    pub fn drain(&mut self) -> Vec<T> {
        let mut ids: Vec<_> = self.tickets.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Returns the next ticket that gets a slot or whose deadline has passed. To be called until it returns
    /// [`NextTicket::None`], each time with the supply of that moment.
    pub fn next(&mut self, supply: &Supply, now: Instant) -> NextTicket<T> {
        if let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let is_behind = self.is_behind(id);
            if let Some(payload) = self.remove(id) {
                return NextTicket::Expired(id, payload, is_behind);
            }
        }
        while let Some(caller) = self.callers.lift_cap(now) {
            self.update_order(caller);
        }
        self.reserve.advance(now, supply.window);
        let lower_ready = self.next_lower_flow().map_or(0, CallerFlow::ready);
        let kept = match self.pacing.holds(lower_ready, supply, now) {
            true => supply.calls.free,
            false => self.reserve.kept(supply.calls.limit),
        };
        let is_exhausted = self.classes.iter().zip(Criticality::ALL).any(|(class, criticality)| {
            criticality.is_upper() && class.oldest().is_some_and(|oldest| oldest <= self.waiting_up_to)
        });
        let floors = self.floors;
        for class in floors.order() {
            // While tickets of the upper classes wait anyway, keeping slots from overdue tickets of the lower classes is of no use.
            let may_take_kept = class.is_upper() || is_exhausted && floors.is_overdue(class);
            if supply.calls.free > if may_take_kept { 0 } else { kept }
                && let Some(id) = self.take_turn(class, supply, now)
                && let Some((receipt, payload)) = self.grant(id)
            {
                return NextTicket::Granted(receipt, payload);
            }
        }
        self.waiting_up_to = TicketId(self.next_id);
        NextTicket::None
    }

    /// Grants the next ticket of a lane as a member of a batch: of the highest class, of its callers in turns. It is not charged to
    /// its caller, so no cap applies. Tickets that wait for a key are skipped, so no two members have a key in common.
    pub fn take_member(&mut self, lane: Lane) -> Option<(Receipt, T)> {
        let callers = &self.callers;
        let id = self.lanes.next(lane, |caller| callers.get(caller).quota.weight)?;
        self.grant(id)
    }

    /// Maximum number of members of a batch of this lane.
    pub fn max_batch(&self, lane: Lane) -> usize {
        self.lanes.max_batch(lane)
    }

    /// When to look again if no slot becomes free and no ticket arrives before.
    pub fn next_wake(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline)?;
        let others = [
            self.callers.next_cap_end(),
            self.reserve.next_change(),
            self.pacing.held_until(),
        ];
        Some(others.into_iter().flatten().fold(deadline, Instant::min))
    }

    /// The state at this moment.
    pub fn snapshot(&self) -> QueueSnapshot {
        let since = |id| Some(self.tickets.get(&id)?.since);
        let waiting = self.callers.iter().filter(|caller| caller.waiting > 0);
        let mut callers: Vec<_> = waiting
            .map(|caller| {
                let flows = Criticality::ALL.into_iter().filter_map(|class| caller.flow(class));
                CallerSnapshot {
                    name: caller.name.clone(),
                    waiting: caller.waiting,
                    oldest: flows.filter_map(CallerFlow::oldest).filter_map(since).min(),
                }
            })
            .collect();
        callers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        QueueSnapshot {
            waiting: self.classes.each_ref().map(ClassQueue::len),
            oldest: self.classes.each_ref().map(|class| class.oldest().and_then(since)),
            callers,
        }
    }

    /// Whether the next caller of the lower two classes has more ready calls than a window has slots.
    pub fn is_flooded(&self, supply: &Supply) -> bool {
        self.next_lower_flow().map_or(0, CallerFlow::ready) > supply.calls.limit
    }

    /// The flow that is next in the lower two classes, floors aside.
    fn next_lower_flow(&self) -> Option<&CallerFlow> {
        let lower = Criticality::ALL.into_iter().rev().filter(|class| !class.is_upper());
        let mut flows = lower.filter_map(|class| {
            let caller = self.classes[class as usize].first()?;
            self.callers.get(caller).flow(class)
        });
        flows.next()
    }

    /// The quota of the caller of that name.
    pub fn quota_of(&self, caller: &str) -> &CallerQuota {
        self.settings.callers.of(caller)
    }

    fn caller(&mut self, name: &Arc<str>, now: Instant) -> CallerIndex {
        self.callers.index(name, &self.settings.callers, now)
    }

    fn class_of(&self, request: &TicketRequest) -> Criticality {
        request.criticality.min(self.quota_of(&request.caller).max_criticality)
    }

    /// The ticket that has to be removed for one more ticket of this caller, if any.
    fn overflow(&self, caller: CallerIndex) -> Option<(Criticality, TicketId)> {
        let caller = self.callers.get(caller);
        if caller.waiting >= self.settings.max_per_caller {
            return caller.lowest();
        }
        if self.len() < self.settings.max_waiting {
            return None;
        }
        let newest = |class| Some((class, self.classes[class as usize].newest()?));
        Criticality::ALL.into_iter().find_map(newest)
    }

    /// The next ticket of this class that can be granted. It is charged to its caller.
    fn take_turn(&mut self, class: Criticality, supply: &Supply, now: Instant) -> Option<TicketId> {
        let Self { classes, callers, .. } = self;
        let in_class = &mut classes[class as usize];
        // Each caller in the order has a flow in it.
        let next = in_class.next(supply.bulk.free > 0, |caller| callers.get(caller).flow(class))?;
        let id = match next {
            NextInClass::Requeued(id) => id,
            NextInClass::Fair(caller, cost) => {
                let id = in_class.serve(caller, cost, callers.get_mut(caller).flow_mut(class))?;
                if callers.granted(caller, now, supply.window) {
                    self.update_order(caller);
                }
                id
            }
        };
        if class.is_upper() && id > self.waiting_up_to {
            self.reserve.taken(now, supply.window);
        }
        let waited = self.classes.each_ref().map(|class| !class.is_empty());
        self.floors.granted(class, waited, supply.calls.limit);
        Some(id)
    }

    fn grant(&mut self, id: TicketId) -> Option<(Receipt, T)> {
        let ticket = self.detach(id)?;
        let request = TicketRequest {
            caller: self.callers.get(ticket.caller).name.clone(),
            criticality: ticket.class,
            cost: ticket.cost,
            keys: ticket.keys.into(),
            position: ticket.is_reserved.then_some(ticket.position),
            deadline: ticket.deadline,
            lane: ticket.lane,
        };
        let receipt = Receipt {
            id,
            request,
            position: ticket.position,
            since: ticket.since,
        };
        Some((receipt, ticket.payload))
    }
}
