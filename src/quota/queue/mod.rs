//! Who is next, now: the tickets that wait for slots of one tenant's quota. Pure bookkeeping with `now` as an argument,
//! which knows how many slots are free but not which, and nothing of what a ticket is for.
//!
//! The order has four steps, each a rule of its own:
//! 1. *Classes* (`share`): the higher first, but a fifth of the slots is kept for the upper two as far as they have
//!    asked for it lately, and each of the lower two has at least one grant in twenty while it waits.
//! 2. *Callers* (`fair`): start-time fair queueing by weight inside a class.
//! 3. *Costs*: a bulk call takes a slot of each kind. Where no bulk slot is free, bulk tickets have no turn and hold up
//!    nobody.
//! 4. *Reads and writes* of one caller take turns: writes in the order in which they came, reads by deadline.
//!
//! Over all of it, writes with a common key keep their order (`lines`), and callers keep to their caps (`callers`). A
//! flood of the lower two classes beside which others come is spread over the window (`share`), so that slots fall free
//! evenly.
//!
//! What an upper ticket may count on: once its like has been seen for a window, it finds a slot free as long as fewer
//! kept slots were taken in the last window than are kept. The first after a silence, and what exceeds the kept slots,
//! waits for the next slots that fall free, of which at most one in ten goes to the lower two classes.

mod admission;
mod callers;
mod fair;
mod lanes;
mod lines;
mod promises;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use admission::Infeasible;
use callers::Callers;
pub use callers::Share;
use fair::{CallerIndex, Class, Flow, Place, Turn};
use lanes::Lanes;
pub use lines::Key;
use lines::Lines;
use promises::{Promises, Steady};
use share::{Floor, Reserve, Spread};

use super::Cost;
use super::lane::{Lane, Sizes};
pub use crate::context::{Criticality, Position};

/// Maximum number of keys that a write takes over from writes ahead of it.
const MAX_LINKED: usize = 64;

/// The name of a ticket, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(u64);

/// What a ticket asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks.
    pub caller: Arc<str>,
    /// How much it matters. Lowered to what the caller may ask at most.
    pub criticality: Criticality,
    /// What it pays.
    pub cost: Cost,
    /// What it writes; empty for a read.
    pub keys: Vec<Key>,
    /// The position that was reserved for it in the lines of its keys; `None`: at their ends.
    pub position: Option<Position>,
    /// When it is of no use any more.
    pub deadline: Instant,
    /// Where it can travel together with others.
    pub lane: Option<Lane>,
}

/// How much may wait, and the callers' shares.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// How many tickets may wait.
    pub max_waiting: usize,
    /// How many of one caller.
    pub max_per_caller: usize,
    /// The shares of callers by name.
    pub callers: HashMap<Arc<str>, Share>,
    /// The share of every other caller.
    pub others: Share,
    /// How many of each lane travel in one call.
    pub sizes: Sizes,
}

/// One kind of slots now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// How many there are.
    pub limit: usize,
    /// How many of them are free.
    pub free: usize,
}

/// The slots now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Those of all calls.
    pub calls: Slots,
    /// Those of bulk calls.
    pub bulk: Slots,
    /// The window of both.
    pub window: Duration,
    /// How much too early a call would go now to be spread over the window.
    pub too_early: Duration,
}

/// The tickets that wait. `T` is what each of them is for.
#[derive(Debug)]
pub struct Queue<T> {
    settings: QueueSettings,
    tickets: HashMap<TicketId, Ticket<T>>,
    next_id: u64,
    /// Up to this one, all had to wait.
    left_waiting: TicketId,
    /// The tickets by deadline.
    deadlines: BTreeSet<(Instant, TicketId)>,
    classes: [Class; 4],
    callers: Callers,
    lines: Lines,
    /// The keys of reserved positions.
    reserved: HashMap<Position, Reserved>,
    lanes: Lanes,
    promises: Promises,
    steady: Steady,
    reserve: Reserve,
    floor: Floor,
    spread: Spread,
}

/// A ticket that found its place.
#[derive(Debug)]
pub struct Pushed<T> {
    /// Its name.
    pub id: TicketId,
    /// Another one that had to go for it, to be told so.
    pub dropped: Option<(TicketId, T)>,
}

/// What comes next.
#[derive(Debug)]
pub enum Next<T> {
    /// This ticket takes a slot.
    Granted(Receipt, T),
    /// This ticket's deadline has passed, and whether it waited for an earlier write until then. It costs nothing.
    Dead(TicketId, T, bool),
    /// Nobody can go now.
    Nobody,
}

/// What is left of a ticket once it was granted. It holds the ticket's keys, so it must come back, to [`Queue::done`]
/// or to [`Queue::put_back`]: else nobody writes to them any more.
#[derive(Debug)]
#[must_use = "the keys of the ticket are held until it comes back"]
pub struct Receipt {
    id: TicketId,
    ask: Ask,
    position: Position,
    since: Instant,
}

/// What waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many tickets wait, by class.
    pub waiting: [usize; 4],
    /// Since when the oldest of each class waits.
    pub oldest: [Option<Instant>; 4],
    /// How many wait of each caller that has any, by name.
    pub callers: Vec<(Arc<str>, usize)>,
}

/// A position in the lines of some keys, which a write holds until its outcome is known, over all its calls.
#[derive(Debug)]
struct Reserved {
    keys: Box<[Key]>,
    /// The call of the write that waits for a slot now.
    ticket: Option<TicketId>,
}

#[derive(Debug)]
struct Ticket<T> {
    payload: T,
    class: Criticality,
    caller: CallerIndex,
    cost: Cost,
    lane: Option<Lane>,
    keys: Box<[Key]>,
    /// Its position in the lines of its keys, and whether that outlives the ticket.
    position: Position,
    is_reserved: bool,
    deadline: Instant,
    since: Instant,
    returned: bool,
    /// It waits for others of its lane.
    parked: bool,
}

impl Receipt {
    /// The ticket.
    pub fn id(&self) -> TicketId {
        self.id
    }

    /// From now on it travels in that lane, or alone.
    pub fn ride(&mut self, lane: Option<Lane>) {
        self.ask.lane = lane;
    }

    /// The class in which it was granted, which may be above the one it asked for.
    pub fn criticality(&self) -> Criticality {
        self.ask.criticality
    }
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            lanes: Lanes::new(settings.sizes),
            settings,
            tickets: HashMap::new(),
            next_id: 0,
            left_waiting: TicketId(0),
            deadlines: BTreeSet::new(),
            classes: Default::default(),
            callers: Callers::new(),
            lines: Lines::default(),
            reserved: HashMap::new(),
            promises: Promises::default(),
            steady: Steady::default(),
            reserve: Reserve::default(),
            floor: Floor::default(),
            spread: Spread::default(),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Takes a position at the end of the lines of these keys, before there is a ticket for it. Later writes with a common
    /// key wait until it is given back with [`Queue::release`].
    pub fn reserve(&mut self, own: Vec<Key>) -> Position {
        self.next_id += 1;
        let position = Position(self.next_id);
        // A write by an email address waits for those by a phone, if one that is not done yet has both.
        let last = |key: &Key| self.reserved.get(&self.lines.last(*key)?);
        let ahead = own.iter().filter_map(last);
        let mut keys: Vec<Key> = ahead.flat_map(|ahead| ahead.keys.iter().copied()).collect();
        keys.truncate(MAX_LINKED);
        keys.extend(own);
        keys.sort_unstable();
        keys.dedup();
        self.lines.join(position, &keys);
        let keys = keys.into();
        self.reserved.insert(position, Reserved { keys, ticket: None });
        position
    }

    /// Gives a reserved position back: the next writes to its keys may go.
    pub fn release(&mut self, position: Position) {
        if let Some(reserved) = self.reserved.remove(&position) {
            self.leave_lines(position, &reserved.keys);
        }
    }

    /// Adds a ticket. Where too many wait already, the newest of the lowest class goes, of the caller's own or of all;
    /// the payload comes back as the error if that is the newcomer.
    pub fn push(&mut self, mut ask: Ask, payload: T, now: Instant) -> Result<Pushed<T>, T> {
        let mut class = self.class_of(&ask);
        let is_retry = self.arrived(&ask, now);
        let caller = self.caller(&ask.caller, now);
        let dropped = match self.overflow(caller) {
            Some((lowest, _)) if lowest >= class => return Err(payload),
            Some((_, newest)) => self.remove(newest).map(|payload| (newest, payload)),
            None => None,
        };
        if class.is_upper() {
            self.reserve.asked(now);
        } else if self.callers.get(caller).waiting == 0 && self.turn_below().is_some() {
            self.spread.joined(now);
        }
        if !is_retry && ask.cost == Cost::Call && ask.lane.is_none() && self.callers.get(caller).waiting == 0 {
            self.steady.came(class, now);
        }
        self.next_id += 1;
        let id = TicketId(self.next_id);
        let reserved = ask
            .position
            .and_then(|position| Some((position, self.reserved.get(&position)?)));
        let (position, keys) = match reserved {
            Some((position, reserved)) => (position, reserved.keys.clone()),
            None => {
                ask.keys.sort_unstable();
                ask.keys.dedup();
                let position = Position(id.0);
                self.lines.join(position, &ask.keys);
                (position, ask.keys.into())
            }
        };
        let is_reserved = position != Position(id.0);
        if is_reserved {
            class = class.max(self.class_behind(position, &keys).unwrap_or(class));
        }
        self.raise_those_ahead(position, &keys, class);
        let ticket = Ticket {
            payload,
            class,
            caller,
            cost: ask.cost,
            lane: ask.lane,
            keys,
            position,
            is_reserved,
            deadline: ask.deadline,
            since: now,
            returned: false,
            parked: false,
        };
        self.attach(id, ticket);
        Ok(Pushed { id, dropped })
    }

    /// Whether a ticket of this caller takes nothing from others: none has to be dropped for it, and no refused call is to retry,
    /// which may count on the slot.
    pub fn has_room(&mut self, caller: &Arc<str>, now: Instant) -> bool {
        let caller = self.caller(caller, now);
        self.overflow(caller).is_none() && self.promises.is_empty(now)
    }

    /// Lets a ticket of a lane wait for others, whatever is free, until [`Queue::unpark`].
    pub fn park(&mut self, id: TicketId) {
        if let Some(mut ticket) = self.detach(id)
            && let Some(lane) = ticket.lane
        {
            ticket.parked = true;
            self.attach(id, ticket);
            self.lanes.park(lane, id);
        }
    }

    /// Whether any of a lane wait for others.
    pub fn has_parked(&self, lane: Lane) -> bool {
        self.lanes.has_parked(lane)
    }

    /// Those of a lane that have waited for others may go.
    pub fn unpark(&mut self, lane: Lane) {
        for id in self.lanes.unpark(lane) {
            let Some(ticket) = self.tickets.get_mut(&id) else {
                continue;
            };
            ticket.parked = false;
            if self.lines.is_first(ticket.position, &ticket.keys) {
                self.make_ready(id);
            }
        }
    }

    /// Puts a ticket that was granted and refused back to the head of its class, before all callers. It has paid its
    /// turn, so it pays neither its caller's share nor his cap again, and it keeps its place in the lines of its keys.
    pub fn put_back(&mut self, receipt: Receipt, payload: T, now: Instant) {
        let Receipt {
            id,
            ask,
            position,
            since,
        } = receipt;
        let caller = self.caller(&ask.caller, now);
        // Those behind it may have come from higher classes while it was on its way.
        let class = self.class_behind(position, &ask.keys);
        let ticket = Ticket {
            payload,
            class: ask.criticality.max(class.unwrap_or(ask.criticality)),
            caller,
            cost: ask.cost,
            lane: ask.lane,
            keys: ask.keys.into(),
            position,
            is_reserved: ask.position.is_some(),
            deadline: ask.deadline,
            since,
            returned: true,
            parked: false,
        };
        self.attach(id, ticket);
    }

    /// What became of a granted ticket is known: the next writes to its keys may go.
    pub fn done(&mut self, receipt: Receipt) {
        if receipt.ask.position.is_none() {
            self.leave_lines(receipt.position, &receipt.ask.keys);
        }
    }

    /// Whether it waits for an earlier write of the same key.
    pub fn is_behind(&self, id: TicketId) -> bool {
        let ticket = self.tickets.get(&id);
        ticket.is_some_and(|ticket| !self.lines.is_first(ticket.position, &ticket.keys))
    }

    /// Takes out a ticket whose waiter has left.
    pub fn remove(&mut self, id: TicketId) -> Option<T> {
        let ticket = self.detach(id)?;
        if !ticket.is_reserved {
            self.leave_lines(ticket.position, &ticket.keys);
        }
        Some(ticket.payload)
    }

    /// Takes out the ticket with the earliest deadline, if that is no later than a time.
    pub fn remove_due_by(&mut self, time: Instant) -> Option<T> {
        let (deadline, id) = self.deadlines.first().copied()?;
        if deadline > time {
            return None;
        }
        self.remove(id)
    }

    /// Takes all of them out.
    pub fn drain(&mut self) -> Vec<T> {
        let mut ids: Vec<_> = self.tickets.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Who goes now. To be asked until it is nobody, with a supply that is up to date each time.
    pub fn next(&mut self, supply: &Supply, now: Instant) -> Next<T> {
        if let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let is_behind = self.is_behind(id);
            if let Some(payload) = self.remove(id) {
                return Next::Dead(id, payload, is_behind);
            }
        }
        while let Some(caller) = self.callers.uncap(now) {
            self.settle(caller);
        }
        self.reserve.pass(now, supply.window);
        let kept = match self.spread.holds(self.turn_below().map_or(0, Flow::ready), supply, now) {
            true => supply.calls.free,
            false => self.reserve.kept(supply.calls.limit),
        };
        let is_exhausted = self.classes.iter().zip(Criticality::ALL).any(|(class, criticality)| {
            criticality.is_upper() && class.oldest().is_some_and(|oldest| oldest <= self.left_waiting)
        });
        let floor = self.floor;
        for class in floor.order() {
            // Where upper work waits as it is, there is nothing to keep from those who have waited too long.
            let may_take_kept = class.is_upper() || is_exhausted && floor.is_overdue(class);
            if supply.calls.free > if may_take_kept { 0 } else { kept }
                && let Some(id) = self.take_turn(class, supply, now)
                && let Some(granted) = self.grant(id)
            {
                return Next::Granted(granted.0, granted.1);
            }
        }
        self.left_waiting = TicketId(self.next_id);
        Next::Nobody
    }

    /// Takes the next ticket of a lane along on the slot of another one that was just granted: of the highest class, of
    /// its callers in turns. It costs its caller nothing, so no cap keeps it. None that waits for a key goes, so no two
    /// that go together have a key in common.
    pub fn take_along(&mut self, lane: Lane) -> Option<(Receipt, T)> {
        let callers = &self.callers;
        let id = self.lanes.next(lane, |caller| callers.get(caller).share.weight)?;
        self.grant(id)
    }

    /// How many tickets of a lane travel in one call.
    pub fn most(&self, lane: Lane) -> usize {
        self.lanes.most(lane)
    }

    /// When to look again, if neither a slot falls free nor a ticket comes before.
    pub fn next_wake(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline)?;
        let others = [
            self.callers.next_uncap(),
            self.reserve.next_change(),
            self.spread.held_until(),
        ];
        Some(others.into_iter().flatten().fold(deadline, Instant::min))
    }

    /// What waits.
    pub fn snapshot(&self) -> Snapshot {
        let since = |id| Some(self.tickets.get(&id)?.since);
        let waiting = self.callers.iter().filter(|caller| caller.waiting > 0);
        let mut callers: Vec<_> = waiting.map(|caller| (caller.name.clone(), caller.waiting)).collect();
        callers.sort_unstable();
        Snapshot {
            waiting: self.classes.each_ref().map(Class::len),
            oldest: self.classes.each_ref().map(|class| class.oldest().and_then(since)),
            callers,
        }
    }

    /// Whether it is the turn of a caller who has more calls waiting than a window serves.
    pub fn is_flooded(&self, supply: &Supply) -> bool {
        self.turn_below().map_or(0, Flow::ready) > supply.calls.limit
    }

    /// Whose turn it is in the lower two classes, but for what is overdue.
    fn turn_below(&self) -> Option<&Flow> {
        let lower = Criticality::ALL.into_iter().rev().filter(|class| !class.is_upper());
        let mut flows = lower.filter_map(|class| {
            let caller = self.classes[class as usize].first()?;
            self.callers.get(caller).flow(class)
        });
        flows.next()
    }

    fn share(&self, caller: &str) -> &Share {
        self.settings.callers.get(caller).unwrap_or(&self.settings.others)
    }

    fn caller(&mut self, name: &Arc<str>, now: Instant) -> CallerIndex {
        let settings = &self.settings;
        let share = || settings.callers.get(name).unwrap_or(&settings.others).clone();
        self.callers.index(name, share, now)
    }

    fn class_of(&self, ask: &Ask) -> Criticality {
        ask.criticality.min(self.share(&ask.caller).max_criticality)
    }

    /// Who has to go for one more ticket of this caller, if somebody has to.
    fn overflow(&self, caller: CallerIndex) -> Option<(Criticality, TicketId)> {
        let caller = self.callers.get(caller);
        if caller.waiting >= self.settings.max_per_caller {
            return caller.least();
        }
        if self.len() < self.settings.max_waiting {
            return None;
        }
        let newest = |class| Some((class, self.classes[class as usize].newest()?));
        Criticality::ALL.into_iter().find_map(newest)
    }

    /// Gives those who are ahead in these lines the class of who waits for them, or it would wait in theirs. Along a
    /// line no class is below one behind it, so each walk ends where the class is high enough already.
    fn raise_those_ahead(&mut self, position: Position, keys: &[Key], class: Criticality) {
        let mut walks: Vec<_> = keys.iter().map(|key| (position, *key)).collect();
        while let Some((position, key)) = walks.pop() {
            // A position without a ticket gets its class when its ticket comes.
            let tickets = self.lines.ahead(position, key).filter_map(|at| self.ticket_at(at));
            let lower = |id: &TicketId| self.tickets.get(id).is_some_and(|ticket| ticket.class < class);
            let ahead: Vec<_> = tickets.take_while(lower).collect();
            for id in ahead {
                if let Some(mut ticket) = self.detach(id) {
                    ticket.class = class;
                    walks.extend(ticket.keys.iter().map(|key| (ticket.position, *key)));
                    self.attach(id, ticket);
                }
            }
        }
    }

    /// The highest class that waits behind this position.
    fn class_behind(&self, position: Position, keys: &[Key]) -> Option<Criticality> {
        let next = |key: &Key| self.lines.behind(position, *key).find_map(|at| self.ticket_at(at));
        let class = |id| Some(self.tickets.get(&id)?.class);
        keys.iter().filter_map(next).filter_map(class).max()
    }

    /// The ticket that waits at this position.
    fn ticket_at(&self, position: Position) -> Option<TicketId> {
        match self.reserved.get(&position) {
            Some(reserved) => reserved.ticket,
            None => Some(TicketId(position.0)).filter(|id| self.tickets.contains_key(id)),
        }
    }

    /// A ticket of this class that can go now. Its caller has paid for it.
    fn take_turn(&mut self, class: Criticality, supply: &Supply, now: Instant) -> Option<TicketId> {
        let Self { classes, callers, .. } = self;
        let in_class = &mut classes[class as usize];
        // A caller in the order has a flow in it.
        let turn = in_class.next(supply.bulk.free > 0, |caller| callers.get(caller).flow(class))?;
        let id = match turn {
            Turn::Returned(id) => id,
            Turn::Fair(caller, cost) => {
                let id = in_class.serve(caller, cost, callers.get_mut(caller).flow_mut(class))?;
                if callers.granted(caller, now, supply.window) {
                    self.settle(caller);
                }
                id
            }
        };
        if class.is_upper() && id > self.left_waiting {
            self.reserve.taken(now, supply.window);
        }
        let waited = self.classes.each_ref().map(|class| !class.is_empty());
        self.floor.granted(class, waited, supply.calls.limit);
        Some(id)
    }

    fn grant(&mut self, id: TicketId) -> Option<(Receipt, T)> {
        let ticket = self.detach(id)?;
        let ask = Ask {
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
            ask,
            position: ticket.position,
            since: ticket.since,
        };
        Some((receipt, ticket.payload))
    }

    /// Makes a ticket wait; its lines it has joined before.
    fn attach(&mut self, id: TicketId, ticket: Ticket<T>) {
        let place = ticket.place(id);
        let caller = self.callers.get_mut(ticket.caller);
        caller.waiting += 1;
        self.deadlines.insert((ticket.deadline, id));
        self.classes[ticket.class as usize].enter(&place, caller.flow_mut(ticket.class));
        if let Some(lane) = ticket.lane {
            self.lanes.enter(lane, ticket.class);
        }
        let is_first = self.lines.is_first(ticket.position, &ticket.keys);
        self.set_waiting(ticket.position, Some(id));
        self.tickets.insert(id, ticket);
        if is_first {
            self.make_ready(id);
        }
    }

    /// Makes it wait no more; its lines it keeps.
    fn detach(&mut self, id: TicketId) -> Option<Ticket<T>> {
        let ticket = self.tickets.remove(&id)?;
        let caller = self.callers.get_mut(ticket.caller);
        caller.waiting -= 1;
        self.deadlines.remove(&(ticket.deadline, id));
        if let Some(lane) = ticket.lane {
            self.lanes.leave(lane, ticket.class, ticket.caller, id);
        }
        let is_capped = caller.is_capped();
        let flow = caller.flow_mut(ticket.class);
        self.classes[ticket.class as usize].leave(&ticket.place(id), flow, is_capped);
        self.set_waiting(ticket.position, None);
        Some(ticket)
    }

    /// Says which ticket waits at a reserved position.
    fn set_waiting(&mut self, position: Position, ticket: Option<TicketId>) {
        if let Some(reserved) = self.reserved.get_mut(&position) {
            reserved.ticket = ticket;
        }
    }

    fn leave_lines(&mut self, position: Position, keys: &[Key]) {
        for head in self.lines.leave(position, keys) {
            let Some(id) = self.ticket_at(head) else {
                continue;
            };
            let is_first = |ticket: &Ticket<T>| self.lines.is_first(head, &ticket.keys);
            if self.tickets.get(&id).is_some_and(is_first) {
                self.make_ready(id);
            }
        }
    }

    fn make_ready(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get(&id).filter(|ticket| !ticket.parked) {
            if let Some(lane) = ticket.lane {
                self.lanes.make_ready(lane, ticket.class, ticket.caller, id);
            }
            let caller = self.callers.get_mut(ticket.caller);
            let is_capped = caller.is_capped();
            let flow = caller.flow_mut(ticket.class);
            self.classes[ticket.class as usize].make_ready(&ticket.place(id), flow, is_capped);
        }
    }

    /// A caller has come to its cap, or its cap lets it through again.
    fn settle(&mut self, caller: CallerIndex) {
        let state = self.callers.get_mut(caller);
        let is_capped = state.is_capped();
        for (class, flow) in self.classes.iter_mut().zip(&mut state.flows) {
            if let Some(flow) = flow {
                class.settle(caller, flow, is_capped);
            }
        }
    }
}

impl<T> Ticket<T> {
    fn place(&self, id: TicketId) -> Place {
        Place {
            id,
            caller: self.caller,
            cost: self.cost,
            deadline: self.deadline,
            is_write: !self.keys.is_empty(),
            is_rider: self.lane.is_some(),
            returned: self.returned,
        }
    }
}
