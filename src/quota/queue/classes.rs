//! How the classes share the slots: the slots that are kept for the upper two classes, the minimum of the lower two, and
//! when calls of the lower two are paced although a slot is free. Does not depend on tickets.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Criticality, Supply};

/// One slot in this many is kept for the upper two classes.
const KEPT: usize = 5;
/// Number of windows for which a demand is remembered after the window in which it was made. Also the number of windows for
/// which an arriving caller is remembered.
const REMEMBERED: usize = 4;
/// A waiting class gets at least one grant in this many, for any load of the classes above it. The default class is
/// included: otherwise it would get no slots under overload, while the class below it gets one in twenty.
const ONE_IN: [Option<usize>; 4] = [Some(20), Some(20), None, None];

/// The slots kept for the upper two classes.
///
/// Their number is the demand of these classes in the busiest of the last few windows, at most a fifth of the limit, less
/// the kept slots that were taken in the last window. So slots are free for a steady demand, no slots are kept without
/// demand, and all other slots go to any class.
#[derive(Debug, Default)]
pub(super) struct UpperReserve {
    /// The demands of the windows, the current one last.
    demands: VecDeque<usize>,
    /// When the current window ends. `None` while no demand is remembered.
    ends: Option<Instant>,
    window: Duration,
    /// When the kept slots that were taken are given back.
    taken: VecDeque<Instant>,
}

impl UpperReserve {
    /// A ticket of the upper classes arrived.
    pub(super) fn requested(&mut self, now: Instant) {
        self.forget(now);
        match self.demands.back_mut() {
            Some(demand) => *demand += 1,
            None => self.demands.push_back(1),
        }
    }

    /// A ticket of the upper classes found a slot free. Tickets that had to wait are not counted here. Otherwise they would
    /// use the slots that are kept for later tickets. Then the later tickets would wait, and so on in each window.
    pub(super) fn taken(&mut self, now: Instant, window: Duration) {
        self.taken.push_back(now + window);
    }

    /// Deletes the history. From now on windows have this length.
    pub(super) fn advance(&mut self, now: Instant, window: Duration) {
        while self.taken.front().is_some_and(|until| *until <= now) {
            self.taken.pop_front();
        }
        // A window of length zero would never end the loop in `forget`.
        self.window = window.max(Duration::from_millis(1));
        self.forget(now);
        if self.ends.is_none() && !self.demands.is_empty() {
            self.ends = Some(now + self.window);
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(ends) = self.ends.filter(|ends| *ends <= now) {
            self.demands.push_back(0);
            if self.demands.len() > REMEMBERED + 1 {
                self.demands.pop_front();
            }
            if self.demands.iter().all(|demand| *demand == 0) {
                self.demands.clear();
            }
            self.ends = Some(ends + self.window).filter(|_| !self.demands.is_empty());
        }
    }

    /// Number of slots of this limit that belong to the upper classes now.
    pub(super) fn owned(&self, limit: usize) -> usize {
        let demand = self.demands.iter().max().copied().unwrap_or(0);
        demand.min(limit / KEPT)
    }

    /// Number of free slots that only the upper classes may take now.
    pub(super) fn kept(&self, limit: usize) -> usize {
        self.owned(limit).saturating_sub(self.taken.len())
    }

    /// When fewer slots may be kept than now.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.ends
    }
}

/// Paces a flood in the lower two classes: spreads its calls evenly over the window.
///
/// Slots that were taken together become free together. A caller that arrives in between waits for most of a window, with
/// any weight. So while callers without waiting calls arrive, a caller that has more waiting calls than a window has slots
/// waits until its next call is due. This delays each flood by half a window once, and by little after that. A flood is not
/// paced if it is the only load, or if all other callers always have waiting calls: pacing would not help them.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// When a caller without waiting calls last arrived.
    joined: Option<Instant>,
    held_until: Option<Instant>,
}

impl Pacing {
    /// A caller without waiting calls arrived while others waited.
    pub(super) fn caller_joined(&mut self, now: Instant) {
        self.joined = Some(now);
    }

    /// Whether the next caller of the lower two classes is held. `waiting` is the number of its ready calls.
    pub(super) fn holds(&mut self, waiting: usize, supply: &Supply, now: Instant) -> bool {
        let remembered = supply.window * REMEMBERED as u32;
        let is_shared = self.joined.is_some_and(|joined| now < joined + remembered);
        let holds = is_shared && waiting > supply.calls.limit && !supply.pacing_delay.is_zero();
        self.held_until = holds.then(|| now + supply.pacing_delay);
        holds
    }

    /// Until when the next caller is held. `None` if it is not.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }
}

/// The minimum share of the grants that each class gets while it waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClassFloors {
    /// Number of grants since the last grant of the class, less the grants that it had early.
    passed: [usize; 4],
}

impl ClassFloors {
    /// A grant was made to this class. `waited`: whether each class had tickets.
    pub(super) fn granted(&mut self, to: Criticality, waited: [bool; 4], limit: usize) {
        for (class, one_in) in Criticality::ALL.into_iter().zip(ONE_IN) {
            let Some(one_in) = one_in else { continue };
            let passed = &mut self.passed[class as usize];
            // A wait caused by the kept slots is made up for. Other waits are not.
            let max = one_in + limit / KEPT;
            *passed = match (class == to, waited[class as usize]) {
                (_, false) => 0,
                (true, true) => (*passed + 1).saturating_sub(one_in),
                (false, true) => (*passed + 1).min(max),
            };
        }
    }

    /// The order of the classes for the next grant: overdue classes from the lowest up, then all classes from the highest
    /// down.
    pub(super) fn order(&self) -> impl Iterator<Item = Criticality> {
        let overdue = Criticality::ALL.into_iter().filter(|class| self.is_overdue(*class));
        overdue.chain(Criticality::ALL.into_iter().rev())
    }

    pub(super) fn is_overdue(&self, class: Criticality) -> bool {
        one_in(class).is_some_and(|one_in| self.passed[class as usize] + 1 >= one_in)
    }
}

/// A waiting class gets at least one grant in this many. `None`: no minimum.
pub(super) fn one_in(class: Criticality) -> Option<usize> {
    ONE_IN[class as usize]
}
