//! The tickets of each lane, and the order in which they become members of a batch. Does not depend on slots or deadlines.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::CallerIndex;
use super::{Criticality, TicketId};
use crate::quota::lane::{BatchSizes, Lane};

/// The tickets of all lanes.
#[derive(Debug)]
pub(super) struct LaneTickets {
    sizes: BatchSizes,
    lanes: [[LaneClass; 4]; Lane::ALL.len()],
    /// The tickets of each lane that wait for other tickets of the lane.
    gathering: [Vec<TicketId>; Lane::ALL.len()],
}

/// The tickets of one lane in one class.
#[derive(Debug, Default)]
struct LaneClass {
    /// Number of tickets, ready or not.
    waiting: usize,
    /// The tickets that wait for nothing but a slot, by caller.
    ready: BTreeMap<CallerIndex, BTreeSet<TicketId>>,
    /// The current caller, and the number of members that it still has before the next caller.
    turn: (CallerIndex, u32),
}

impl LaneTickets {
    pub(super) fn new(sizes: BatchSizes) -> Self {
        Self {
            sizes,
            lanes: Default::default(),
            gathering: Default::default(),
        }
    }

    pub(super) fn start_gathering(&mut self, lane: Lane, id: TicketId) {
        self.gathering[lane as usize].push(id);
    }

    /// Returns the tickets that were gathering. They may have been removed from the queue in the meantime.
    pub(super) fn end_gathering(&mut self, lane: Lane) -> Vec<TicketId> {
        std::mem::take(&mut self.gathering[lane as usize])
    }

    pub(super) fn is_gathering(&self, lane: Lane) -> bool {
        !self.gathering[lane as usize].is_empty()
    }

    /// Maximum number of members of a batch.
    pub(super) fn max_batch(&self, lane: Lane) -> usize {
        self.sizes.of(lane)
    }

    /// Number of tickets of a lane in that class.
    pub(super) fn waiting(&self, lane: Lane, class: Criticality) -> usize {
        self.lanes[lane as usize][class as usize].waiting
    }

    pub(super) fn enter(&mut self, lane: Lane, class: Criticality) {
        self.lanes[lane as usize][class as usize].waiting += 1;
    }

    pub(super) fn make_ready(&mut self, lane: Lane, class: Criticality, caller: CallerIndex, id: TicketId) {
        let tickets = &mut self.lanes[lane as usize][class as usize];
        tickets.ready.entry(caller).or_default().insert(id);
    }

    pub(super) fn leave(&mut self, lane: Lane, class: Criticality, caller: CallerIndex, id: TicketId) {
        let tickets = &mut self.lanes[lane as usize][class as usize];
        tickets.waiting -= 1;
        if let Some(of_caller) = tickets.ready.get_mut(&caller) {
            of_caller.remove(&id);
            if of_caller.is_empty() {
                tickets.ready.remove(&caller);
            }
        }
    }

    /// The next member of a batch: of the highest class, of its callers in turns, as many of each as its weight.
    pub(super) fn next(&mut self, lane: Lane, weight: impl Fn(CallerIndex) -> u32) -> Option<TicketId> {
        let mut from_highest = self.lanes[lane as usize].iter_mut().rev();
        let tickets = from_highest.find(|tickets| !tickets.ready.is_empty())?;
        let (last, remaining) = tickets.turn;
        let caller = match remaining > 0 && tickets.ready.contains_key(&last) {
            true => last,
            false => {
                let after = tickets.ready.range(last + 1..).next();
                let (caller, _) = after.or_else(|| tickets.ready.first_key_value())?;
                tickets.turn = (*caller, weight(*caller).max(1));
                *caller
            }
        };
        tickets.turn.1 -= 1;
        tickets.ready.get(&caller)?.first().copied()
    }
}
