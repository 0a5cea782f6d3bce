//! Whether a ticket would be served before its deadline: the estimate by which it is let in or refused at once. Knows
//! when slots fall free only by asking.

use std::time::Duration;

use tokio::time::Instant;

use super::callers::Caller;
use super::fair::COSTS;
use super::{Ask, Criticality, Queue, Supply, share};
use crate::quota::Cost;

/// A ticket that would not be served in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infeasible {
    /// After this long, the same ticket with as much time would be let in, unless more has come by then. `None`: never,
    /// as the call itself takes longer.
    pub retry_after: Option<Duration>,
    /// Whether it is the caller's own cap that makes it wait so long.
    pub by_own_cap: bool,
}

/// How long a ticket waits: for a slot, and for its caller's cap.
#[derive(Clone, Copy, Debug)]
struct Wait {
    slot: Duration,
    cap: Duration,
}

/// A new ticket, seen from the queue.
struct Newcomer<'a> {
    class: Criticality,
    cost: Cost,
    caller: Option<&'a Caller>,
    weight: u32,
    /// The writes ahead of it in its longest line.
    line: usize,
    /// How long a call like it takes.
    typical: Duration,
}

impl Wait {
    fn longer(&self) -> Duration {
        self.slot.max(self.cap)
    }
}

impl<T> Queue<T> {
    /// How long a new ticket would wait, or that this leaves too little of its time. `typical` is how long such a call
    /// takes; `wait(cost, ahead)` is how long it is until so many slots have gone to others and one more is free.
    ///
    /// Counted are those who wait now. What may still come ahead is counted only as far as slots are kept for it.
    pub fn admit(
        &mut self,
        ask: &Ask,
        typical: Duration,
        supply: &Supply,
        now: Instant,
        mut wait: impl FnMut(Cost, usize) -> Duration,
    ) -> Result<Duration, Infeasible> {
        self.reserve.pass(now, supply.window);
        let timeout = ask.deadline.saturating_duration_since(now);
        let Some(patience) = timeout.checked_sub(typical) else {
            return Err(Infeasible {
                retry_after: None,
                by_own_cap: false,
            });
        };
        let newcomer = self.newcomer(ask, typical);
        let flow = newcomer.caller.and_then(|caller| caller.flow(newcomer.class));
        // No more can be served in time, so there is no need to count further.
        let windows = timeout.div_duration_f64(supply.window.max(Duration::from_millis(1)));
        let most = supply.calls.limit.saturating_mul(windows as usize + 2);
        let own = flow.map_or(0, |flow| flow.ahead(ask.cost, !ask.keys.is_empty(), ask.deadline, most));
        let mut fair = |own| self.fair_wait(&newcomer, own, supply, now, &mut wait);
        let expected = fair(own);
        if expected.longer() <= patience {
            return Ok(expected.longer());
        }
        // Later its deadline is later too, so all that its caller has waiting may be ahead of it then.
        let all_own = flow.map_or(0, |flow| flow.waiting(ask.cost));
        let fits = |fair: &mut dyn FnMut(usize) -> Wait, own| fair(own).longer() <= patience;
        let retry_after = if fits(&mut fair, 0) {
            // As many of them must have gone that it fits behind the rest.
            let (mut fitting, mut over) = (0, all_own);
            while over - fitting > 1 {
                let middle = fitting.midpoint(over);
                if fits(&mut fair, middle) {
                    fitting = middle;
                } else {
                    over = middle;
                }
            }
            fair(all_own - over).longer()
        } else {
            // Even the first of them waits too long: only the end of all that is ahead now is sure to help.
            let longest = self.longest_wait(&newcomer, supply, now, &mut wait);
            longest.longer().saturating_sub(patience)
        };
        Err(Infeasible {
            retry_after: Some(retry_after.max(Duration::from_millis(1))),
            by_own_cap: expected.slot <= patience,
        })
    }

    fn newcomer(&self, ask: &Ask, typical: Duration) -> Newcomer<'_> {
        let class = self.class_of(ask);
        let caller = self.callers.find(&ask.caller);
        let flow = caller.and_then(|caller| caller.flow(class));
        Newcomer {
            class,
            cost: ask.cost,
            caller,
            weight: flow.map_or_else(|| self.share(&ask.caller).weight.max(1), |flow| flow.weight()),
            line: self.lines.longest(&ask.keys),
            typical,
        }
    }

    /// The wait behind so many tickets of its own flow, by the rules of the order.
    fn fair_wait(
        &self,
        newcomer: &Newcomer<'_>,
        own: usize,
        supply: &Supply,
        now: Instant,
        wait: &mut impl FnMut(Cost, usize) -> Duration,
    ) -> Wait {
        let class = newcomer.class;
        let flow = newcomer.caller.and_then(|caller| caller.flow(class));
        let waiting = COSTS.map(|cost| flow.map_or(0, |flow| flow.waiting(cost)));
        // Its caller's calls and bulk calls take turns.
        let before = COSTS.map(|cost| {
            let all = waiting[cost as usize];
            if cost == newcomer.cost { own } else { all.min(own + 1) }
        });
        let turns = before[0] + before[1];
        let peers = COSTS.map(|cost| {
            let backlog = self.classes[class as usize].backlog(cost);
            before[cost as usize] + backlog.share_of_others(newcomer.weight, waiting[cost as usize], turns)
        });
        let higher = self.waiting_above(class);
        let all = [higher[0] + peers[0], higher[1] + peers[1]];
        let by_order = slots_taken(newcomer.cost, all, supply);
        let by_floor = share::one_in(class).map(|one_in| one_in * (peers[0] + peers[1] + 1) - 1);
        let slots = by_floor.map_or(by_order, |by_floor| by_floor.min(by_order));
        Wait {
            slot: self.wait_behind(newcomer, slots, all[Cost::Bulk as usize], supply, wait),
            cap: self.wait_for_cap(newcomer, own, now, supply),
        }
    }

    /// The wait until everything has gone that could go before.
    fn longest_wait(
        &self,
        newcomer: &Newcomer<'_>,
        supply: &Supply,
        now: Instant,
        wait: &mut impl FnMut(Cost, usize) -> Duration,
    ) -> Wait {
        let higher = self.waiting_above(newcomer.class);
        let peers = COSTS.map(|cost| self.classes[newcomer.class as usize].waiting(cost));
        let slots = higher.iter().chain(&peers).sum();
        let own = newcomer.caller.map_or(0, |caller| caller.waiting);
        // A bulk slot may lie unused for a while, since calls have their turns too.
        let bulk = higher[Cost::Bulk as usize] + peers[Cost::Bulk as usize] + 1;
        Wait {
            slot: self.wait_behind(newcomer, slots, bulk, supply, wait),
            cap: self.wait_for_cap(newcomer, own, now, supply),
        }
    }

    /// What waits in higher classes, by cost.
    fn waiting_above(&self, class: Criticality) -> [usize; 2] {
        let above = &self.classes[class as usize + 1..];
        COSTS.map(|cost| above.iter().map(|class| class.waiting(cost)).sum())
    }

    /// The wait behind so many slots, and behind so many bulk slots, with what goes to other classes meanwhile.
    fn wait_behind(
        &self,
        newcomer: &Newcomer<'_>,
        slots: usize,
        bulk: usize,
        supply: &Supply,
        wait: &mut impl FnMut(Cost, usize) -> Duration,
    ) -> Duration {
        let slots = slots.max(newcomer.line);
        let lent = self.lent_below(newcomer.class, slots, usize::MAX);
        let mut slots = slots + lent;
        if !newcomer.class.is_upper() {
            let limit = supply.calls.limit;
            let owned = self.reserve.owned(limit);
            slots += self.reserve.kept(limit) + (slots * owned).div_ceil((limit - owned).max(1));
        }
        let for_slot = wait(Cost::Call, slots);
        let for_bulk = match newcomer.cost {
            Cost::Call => Duration::ZERO,
            Cost::Bulk => {
                // All the grants that go by until then count for the floors below, which may be paid in bulk slots.
                let grants = slots.max(bulk * supply.calls.limit / supply.bulk.limit.max(1));
                let below = &self.classes[..newcomer.class as usize];
                let most = below.iter().map(|class| class.waiting(Cost::Bulk)).sum();
                wait(Cost::Bulk, bulk + self.lent_below(newcomer.class, grants, most))
            }
        };
        let writes = u32::try_from(newcomer.line).unwrap_or(u32::MAX);
        for_slot.max(for_bulk).max(newcomer.typical.saturating_mul(writes))
    }

    /// How many of so many grants go to classes below, to keep their floors.
    fn lent_below(&self, class: Criticality, grants: usize, most: usize) -> usize {
        let below = Criticality::ALL.into_iter().take_while(|below| *below < class);
        let waiting = below.filter(|below| !self.classes[*below as usize].is_empty());
        let lent = waiting.filter_map(|below| Some((grants + 1) / (share::one_in(below)? - 1)));
        lent.sum::<usize>().min(most)
    }

    fn wait_for_cap(&self, newcomer: &Newcomer<'_>, own: usize, now: Instant, supply: &Supply) -> Duration {
        newcomer
            .caller
            .map_or(Duration::ZERO, |caller| caller.wait_for_cap(own, now, supply.window))
    }
}

/// How many slots tickets of both costs take before one of this cost has its turn: bulk tickets take no more than there
/// are bulk slots, and calls go by meanwhile.
fn slots_taken(cost: Cost, [calls, bulk]: [usize; 2], supply: &Supply) -> usize {
    let others = supply.calls.limit.saturating_sub(supply.bulk.limit);
    if cost == Cost::Bulk || others == 0 {
        return calls + bulk;
    }
    let share = (calls + 1) * supply.bulk.limit / others;
    calls + bulk.min(share + supply.bulk.free)
}
