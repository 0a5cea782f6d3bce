//! Who of a lane travels next: the tickets that can go together in one call, and in which order they are taken along.
//! Knows neither slots nor deadlines.

use std::collections::{BTreeMap, BTreeSet};

use super::fair::CallerIndex;
use super::{Criticality, TicketId};
use crate::quota::lane::{Lane, Sizes};

/// The tickets of all lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    sizes: Sizes,
    lanes: [[Boarding; 4]; Lane::ALL.len()],
    /// Those that wait for others to come.
    parked: [Vec<TicketId>; Lane::ALL.len()],
}

/// The tickets of one lane in one class.
#[derive(Debug, Default)]
struct Boarding {
    /// How many wait, ready or not.
    waiting: usize,
    /// Those that nothing but the want of a slot keeps waiting.
    ready: BTreeMap<CallerIndex, BTreeSet<TicketId>>,
    /// Whose turn it is, and how many more it may send before the next one.
    turn: (CallerIndex, u32),
}

impl Lanes {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            lanes: Default::default(),
            parked: Default::default(),
        }
    }

    pub(super) fn park(&mut self, lane: Lane, id: TicketId) {
        self.parked[lane as usize].push(id);
    }

    /// Those that were parked, which may have left meanwhile.
    pub(super) fn unpark(&mut self, lane: Lane) -> Vec<TicketId> {
        std::mem::take(&mut self.parked[lane as usize])
    }

    pub(super) fn has_parked(&self, lane: Lane) -> bool {
        !self.parked[lane as usize].is_empty()
    }

    /// The most in one call.
    pub(super) fn most(&self, lane: Lane) -> usize {
        self.sizes.of(lane)
    }

    /// How many wait in that class.
    pub(super) fn waiting(&self, lane: Lane, class: Criticality) -> usize {
        self.lanes[lane as usize][class as usize].waiting
    }

    pub(super) fn enter(&mut self, lane: Lane, class: Criticality) {
        self.lanes[lane as usize][class as usize].waiting += 1;
    }

    pub(super) fn make_ready(&mut self, lane: Lane, class: Criticality, caller: CallerIndex, id: TicketId) {
        let boarding = &mut self.lanes[lane as usize][class as usize];
        boarding.ready.entry(caller).or_default().insert(id);
    }

    pub(super) fn leave(&mut self, lane: Lane, class: Criticality, caller: CallerIndex, id: TicketId) {
        let boarding = &mut self.lanes[lane as usize][class as usize];
        boarding.waiting -= 1;
        if let Some(tickets) = boarding.ready.get_mut(&caller) {
            tickets.remove(&id);
            if tickets.is_empty() {
                boarding.ready.remove(&caller);
            }
        }
    }

    /// The next to be taken along: of the highest class, of its callers in turns, as many of each as its weight says.
    pub(super) fn next(&mut self, lane: Lane, weight: impl Fn(CallerIndex) -> u32) -> Option<TicketId> {
        let boarding = self.lanes[lane as usize]
            .iter_mut()
            .rev()
            .find(|boarding| !boarding.ready.is_empty())?;
        let (last, left) = boarding.turn;
        let caller = match left > 0 && boarding.ready.contains_key(&last) {
            true => last,
            false => {
                let after = boarding.ready.range(last + 1..).next();
                let (caller, _) = after.or_else(|| boarding.ready.first_key_value())?;
                boarding.turn = (*caller, weight(*caller).max(1));
                *caller
            }
        };
        boarding.turn.1 -= 1;
        boarding.ready.get(&caller)?.first().copied()
    }
}
