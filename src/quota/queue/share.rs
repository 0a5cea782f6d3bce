//! How the classes share the slots: what is kept for the upper two, the least that the lower two get, and when these wait
//! although a slot is free. Knows no tickets.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Criticality, Supply};

/// One slot in so many is kept for the upper two classes.
const KEPT: usize = 5;
/// How many windows a demand is remembered after the one in which it was made, and a caller who joined others.
const REMEMBERED: usize = 4;
/// In how many grants a class has one while it waits, whatever waits above it. The default class has it too: else
/// overload would starve it wholly while the class below it gets its twentieth.
const ONE_IN: [Option<usize>; 4] = [Some(20), Some(20), None, None];

/// Slots kept for the upper two classes.
///
/// As many are kept as those classes asked for in the busiest of the last few windows, a fifth of the limit at most,
/// less those that were taken in the last window. So a steady demand finds its slots free, nobody pays for a demand
/// that is not made, and what is not kept is lent to whoever waits.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// The demands of the windows, the current one last.
    demands: VecDeque<usize>,
    /// When the current one ends; `None` while nothing is remembered.
    ends: Option<Instant>,
    window: Duration,
    /// When the kept slots that were taken are given back.
    taken: VecDeque<Instant>,
}

impl Reserve {
    /// A ticket of the upper classes came.
    pub(super) fn asked(&mut self, now: Instant) {
        self.forget(now);
        match self.demands.back_mut() {
            Some(demand) => *demand += 1,
            None => self.demands.push_back(1),
        }
    }

    /// One of them found a slot free. One that had to wait is not told of here: else it would use up what is kept for
    /// those to come, they would wait in turn, and so the wait would be handed on from window to window.
    pub(super) fn taken(&mut self, now: Instant, window: Duration) {
        self.taken.push_back(now + window);
    }

    /// Forgets what is past, with windows of this length from now on.
    pub(super) fn pass(&mut self, now: Instant, window: Duration) {
        while self.taken.front().is_some_and(|until| *until <= now) {
            self.taken.pop_front();
        }
        // The shortest window is there so that time passes whatever is configured.
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

    /// How many of the limit's slots belong to the upper classes now.
    pub(super) fn owned(&self, limit: usize) -> usize {
        let demand = self.demands.iter().max().copied().unwrap_or(0);
        demand.min(limit / KEPT)
    }

    /// How many free slots nobody else may take now.
    pub(super) fn kept(&self, limit: usize) -> usize {
        self.owned(limit).saturating_sub(self.taken.len())
    }

    /// When less may be kept than now.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.ends
    }
}

/// Spreads a flood in the lower two classes over the window.
///
/// Slots that were taken together fall free together, and who comes between waits for most of a window, whatever its
/// share. So a caller that has more calls waiting than a window serves is held at its turn until a call is due, as long
/// as callers with nothing waiting come upon it. It costs half a window once for each flood and little after. Nobody pays
/// it who floods alone, or beside others who always have something waiting: they would gain nothing.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// When such a caller last came.
    joined: Option<Instant>,
    held_until: Option<Instant>,
}

impl Spread {
    /// A caller with nothing waiting came while others waited.
    pub(super) fn joined(&mut self, now: Instant) {
        self.joined = Some(now);
    }

    /// Whether a caller in the lower two classes that has so many calls waiting is held at its turn.
    pub(super) fn holds(&mut self, waiting: usize, supply: &Supply, now: Instant) -> bool {
        let remembered = supply.window * REMEMBERED as u32;
        let is_shared = self.joined.is_some_and(|joined| now < joined + remembered);
        let holds = is_shared && waiting > supply.calls.limit && !supply.too_early.is_zero();
        self.held_until = holds.then(|| now + supply.too_early);
        holds
    }

    /// Until when, if it is.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }
}

/// The least share of the grants that a class gets while it waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// The grants since its last one, less those it had early.
    passed: [usize; 4],
}

impl Floor {
    /// A grant was made to this class while those waited.
    pub(super) fn granted(&mut self, to: Criticality, waited: [bool; 4], limit: usize) {
        for (class, one_in) in Criticality::ALL.into_iter().zip(ONE_IN) {
            let Some(one_in) = one_in else { continue };
            let passed = &mut self.passed[class as usize];
            // What the reserve makes it wait is made up for; a wait for something else is not.
            let most = one_in + limit / KEPT;
            *passed = match (class == to, waited[class as usize]) {
                (_, false) => 0,
                (true, true) => (*passed + 1).saturating_sub(one_in),
                (false, true) => (*passed + 1).min(most),
            };
        }
    }

    /// Who is next, by class: the overdue, the lowest first; then from the highest down.
    pub(super) fn order(&self) -> impl Iterator<Item = Criticality> {
        let overdue = Criticality::ALL.into_iter().filter(|class| self.is_overdue(*class));
        overdue.chain(Criticality::ALL.into_iter().rev())
    }

    pub(super) fn is_overdue(&self, class: Criticality) -> bool {
        one_in(class).is_some_and(|one_in| self.passed[class as usize] + 1 >= one_in)
    }
}

/// In how many grants a class has one at least.
pub(super) fn one_in(class: Criticality) -> Option<usize> {
    ONE_IN[class as usize]
}
