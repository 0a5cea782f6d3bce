//! Tickets: the request of a call in the queue, and the response of the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fair::TicketPlace;
use super::ids::{CallerIndex, TicketId};
use super::keys::WriteKey;
use crate::context::{Criticality, Position};
use crate::quota::lane::{BatchSizes, Lane};
use crate::quota::{CallerQuotas, Cost};

/// A request for a ticket.
#[derive(Clone, Debug)]
pub struct TicketRequest {
    /// The name of the caller.
    pub caller: Arc<str>,
    /// The criticality of the call. Lowered to the maximum of the caller.
    pub criticality: Criticality,
    /// The windows in which the call counts.
    pub cost: Cost,
    /// The keys of the records that the call writes. Empty for a read.
    pub keys: Vec<WriteKey>,
    /// The reserved position in the queues of these keys. `None`: at their ends.
    pub position: Option<Position>,
    /// The time until which the call must be granted a slot.
    pub deadline: Instant,
    /// The lane of the batches that the call may be a member of.
    pub lane: Option<Lane>,
}

/// The limits of the queue, and the quotas of the callers.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Maximum number of tickets.
    pub max_waiting: usize,
    /// Maximum number of tickets of one caller.
    pub max_per_caller: usize,
    /// The quotas of the callers.
    pub callers: CallerQuotas,
    /// Maximum number of members of a batch, by lane.
    pub sizes: BatchSizes,
}

/// The slots of one window at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSupply {
    /// Number of slots.
    pub limit: usize,
    /// Number of free slots.
    pub free: usize,
}

/// The slots of both windows at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// The window of all calls.
    pub calls: SlotSupply,
    /// The window of bulk calls.
    pub bulk: SlotSupply,
    /// The length of both windows.
    pub window: Duration,
    /// Time until the next call is due if calls are spread evenly over the window.
    pub pacing_delay: Duration,
}

/// A ticket that was added to the queue.
#[derive(Debug)]
pub struct Pushed<T> {
    /// Its id.
    pub id: TicketId,
    /// The ticket that was removed to make room for it. Its call fails.
    pub dropped: Option<(TicketId, T)>,
}

/// The next step of the queue.
#[derive(Debug)]
pub enum NextTicket<T> {
    /// This ticket gets a slot.
    Granted(Receipt, T),
    /// The deadline of this ticket has passed. It takes no slot. The flag: whether it waited for an earlier write.
    Expired(TicketId, T, bool),
    /// No ticket can be granted a slot now.
    None,
}

/// A granted ticket. It holds the keys of the ticket, so it must be passed to `Queue::done` or `Queue::requeue`: otherwise
/// later writes to these keys wait for ever.
#[derive(Debug)]
#[must_use = "the keys of the ticket are held until the receipt is passed back"]
pub struct Receipt {
    pub(super) id: TicketId,
    pub(super) request: TicketRequest,
    pub(super) position: Position,
    pub(super) since: Instant,
}

/// The state of the queue at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Number of tickets, by class.
    pub waiting: [usize; 4],
    /// Since when the oldest ticket of each class waits.
    pub oldest: [Option<Instant>; 4],
    /// The callers that have tickets, by name.
    pub callers: Vec<CallerSnapshot>,
}

/// The tickets of a caller at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSnapshot {
    /// The name of the caller.
    pub name: Arc<str>,
    /// Number of tickets.
    pub waiting: usize,
    /// Since when the oldest ticket waits.
    pub oldest: Option<Instant>,
}

/// Where a ticket waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingPlace {
    /// The class. It may be higher than requested.
    pub class: Criticality,
    /// Number of tickets in its class and in the higher ones, the ticket itself included.
    pub position: usize,
    /// The windows in which the call counts.
    pub cost: Cost,
    /// Whether it waits for an earlier write with a common key.
    pub is_behind: bool,
    /// Whether it waits for others of its lane.
    pub is_gathering: bool,
}

/// A ticket in the queue.
#[derive(Debug)]
pub(super) struct Ticket<T> {
    pub(super) payload: T,
    pub(super) class: Criticality,
    pub(super) caller: CallerIndex,
    pub(super) cost: Cost,
    pub(super) lane: Option<Lane>,
    pub(super) keys: Box<[WriteKey]>,
    /// Its position in the queues of its keys.
    pub(super) position: Position,
    /// Whether the position outlives the ticket.
    pub(super) is_reserved: bool,
    pub(super) deadline: Instant,
    pub(super) since: Instant,
    /// Whether it was granted a slot before, and refused.
    pub(super) requeued: bool,
    /// Whether it waits for others of its lane.
    pub(super) gathering: bool,
}

impl Receipt {
    /// The id of the ticket.
    pub fn id(&self) -> TicketId {
        self.id
    }

    /// Sets the lane of the ticket for its next grant. `None`: sent alone.
    pub fn set_lane(&mut self, lane: Option<Lane>) {
        self.request.lane = lane;
    }

    /// The class in which the ticket was granted. It may be higher than requested.
    pub fn criticality(&self) -> Criticality {
        self.request.criticality
    }
}

impl<T> Ticket<T> {
    pub(super) fn place(&self, id: TicketId) -> TicketPlace {
        TicketPlace {
            id,
            caller: self.caller,
            cost: self.cost,
            deadline: self.deadline,
            is_write: !self.keys.is_empty(),
            is_batchable: self.lane.is_some(),
            requeued: self.requeued,
        }
    }
}
