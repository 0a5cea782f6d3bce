//! Whether a ticket would be served before its deadline: the estimate by which it is let in or refused at once. Knows
//! when slots fall free only by asking.

use std::time::Duration;

use tokio::time::Instant;

use super::callers::Caller;
use super::fair::COSTS;
use super::{Ask, Criticality, Queue, Supply, share};
use crate::quota::Cost;
use crate::quota::lane::Lane;
use crate::quota::latency::Estimate;

/// A ticket that would not be served in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infeasible {
    /// After this long, the same ticket with as much time would be let in, unless more has come by then. `None`: never,
    /// as the call itself takes longer.
    pub retry_after: Option<Duration>,
    /// How long it would have waited.
    pub wait: Duration,
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
    lane: Option<Lane>,
    caller: Option<&'a Caller>,
    weight: u32,
    /// The writes ahead of it in its longest line.
    line: usize,
    /// How long a call like it usually takes.
    usual: Duration,
}

impl Wait {
    fn longer(&self) -> Duration {
        self.slot.max(self.cap)
    }
}

impl<T> Queue<T> {
    /// How long a new ticket would wait, or that this leaves too little of its time. `estimate` is how long such a
    /// call takes; `wait(cost, ahead)` is how long it is until so many slots have gone to others and one more is free.
    ///
    /// Counted are those who wait now. What may still come ahead is counted only as far as slots are kept for it.
    pub fn admit(
        &mut self,
        ask: &Ask,
        estimate: &Estimate,
        supply: &Supply,
        now: Instant,
        mut wait: impl FnMut(Cost, usize) -> Duration,
    ) -> Result<Duration, Infeasible> {
        self.reserve.pass(now, supply.window);
        let timeout = ask.deadline.saturating_duration_since(now);
        let newcomer = self.newcomer(ask, estimate.usual);
        let flow = newcomer.caller.and_then(|caller| caller.flow(newcomer.class));
        // No more can be served in time, so there is no need to count further.
        let windows = timeout.div_duration_f64(supply.window.max(Duration::from_millis(1)));
        let most = supply.calls.limit.saturating_mul(windows as usize + 2);
        let own = match ask.lane {
            None => flow.map_or(0, |flow| flow.ahead(ask.cost, !ask.keys.is_empty(), ask.deadline, most)),
            Some(lane) => self.calls_before(&newcomer, lane, supply),
        };
        let mut fair = |own| self.fair_wait(&newcomer, own, supply, now, &mut wait);
        let expected = fair(own);
        let wait_now = expected.longer();
        // With a free slot the call can only gain: it is sent unless no call was ever quick enough.
        if wait_now.is_zero() && estimate.least < timeout {
            return Ok(wait_now);
        }
        let Some(patience) = timeout.checked_sub(estimate.usual) else {
            return Err(Infeasible {
                retry_after: (estimate.least < timeout).then_some(wait_now),
                wait: wait_now,
                by_own_cap: false,
            });
        };
        if wait_now <= patience {
            return Ok(wait_now);
        }
        // Later its deadline is later too, so all that its caller has waiting may be ahead of it then.
        let all_own = match ask.lane {
            None => flow.map_or(0, |flow| flow.waiting(ask.cost)),
            Some(_) => own,
        };
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
            wait: wait_now,
            by_own_cap: expected.slot <= patience,
        })
    }

    fn newcomer(&self, ask: &Ask, usual: Duration) -> Newcomer<'_> {
        let class = self.class_of(ask);
        let caller = self.callers.find(&ask.caller);
        let flow = caller.and_then(|caller| caller.flow(class));
        Newcomer {
            class,
            cost: ask.cost,
            lane: ask.lane,
            caller,
            weight: flow.map_or_else(|| self.share(&ask.caller).weight.max(1), |flow| flow.weight()),
            line: match ask
                .position
                .and_then(|position| Some((position, self.reserved.get(&position)?)))
            {
                Some((position, reserved)) => self.lines.longest(&reserved.keys, Some(position)),
                None => self.lines.longest(&ask.keys, None),
            },
            usual,
        }
    }

    /// How many calls of its lane go before the one that takes it along.
    fn calls_before(&self, newcomer: &Newcomer<'_>, lane: Lane, supply: &Supply) -> usize {
        let class = newcomer.class;
        let own = newcomer.caller.and_then(|caller| caller.flow(class));
        let own = own.map_or(0, |flow| flow.riders());
        let riders = self.classes[class as usize].riders();
        // All of the lane's, or what takes turns with its caller's, be it of this lane or of others.
        let by_turns = own + riders.share_of_others(newcomer.weight, own, own + 1);
        let peers = by_turns.min(self.lanes.waiting(lane, class));
        let above = Criticality::ALL.into_iter().filter(|above| *above > class);
        let higher: usize = above.map(|above| self.lanes.waiting(lane, above)).sum();
        (peers + higher) / self.per_slot(lane, newcomer.cost, supply)
    }

    /// How many riders of a lane go by one slot of that cost, in the mean.
    fn per_slot(&self, lane: Lane, cost: Cost, supply: &Supply) -> usize {
        let most = self.lanes.most(lane);
        let (calls, bulk) = (supply.calls.limit, supply.bulk.limit.min(supply.calls.limit));
        match (lane.cost(), cost) {
            (Cost::Call, _) | (Cost::Bulk, Cost::Bulk) => most,
            // Some slots come with a bulk slot, and by the others one goes alone.
            (Cost::Bulk, Cost::Call) => (bulk * most + (calls - bulk)) / calls.max(1),
        }
        .max(1)
    }

    /// How many slots the riders of these classes take.
    fn slots_of_riders(&self, classes: impl Iterator<Item = Criticality> + Clone, supply: &Supply) -> usize {
        let of_lane = |lane| {
            let waiting: usize = classes.clone().map(|class| self.lanes.waiting(lane, class)).sum();
            waiting.div_ceil(self.per_slot(lane, Cost::Call, supply))
        };
        Lane::ALL.into_iter().map(of_lane).sum()
    }

    /// The wait behind so many tickets of its own flow, by the rules of the order; for a rider behind so many calls of its
    /// lane.
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
            match (cost == newcomer.cost, newcomer.lane) {
                (true, None) => own,
                // Writes and reads have their turns, too.
                (true, Some(_)) => own + all.min(2 * own + 2),
                (false, _) => all.min(own + 1),
            }
        });
        let turns = before[0] + before[1];
        let peers = COSTS.map(|cost| {
            let backlog = self.classes[class as usize].backlog(cost);
            before[cost as usize] + backlog.share_of_others(newcomer.weight, waiting[cost as usize], turns)
        });
        let higher = self.waiting_above(class);
        let all = [higher[0] + peers[0], higher[1] + peers[1]];
        let above = Criticality::ALL.into_iter().filter(|above| *above > class);
        let by_order = slots_taken(newcomer.cost, all, supply)
            + self.slots_of_riders(above, supply)
            + self.riders_between(newcomer, turns, supply);
        let by_floor = share::one_in(class).map(|one_in| one_in * (peers[0] + peers[1] + 1) - 1);
        let slots = by_floor.map_or(by_order, |by_floor| by_floor.min(by_order));
        Wait {
            slot: self.wait_behind(newcomer, slots, all[Cost::Bulk as usize], supply, wait),
            cap: self.wait_for_cap(newcomer, own, now, supply),
        }
    }

    /// How many slots go to the riders of its class that have their turns before it.
    fn riders_between(&self, newcomer: &Newcomer<'_>, turns: usize, supply: &Supply) -> usize {
        let class = newcomer.class;
        let flow = newcomer.caller.and_then(|caller| caller.flow(class));
        let own = flow.map_or(0, |flow| flow.riders());
        let riders = self.classes[class as usize].riders();
        let by_turns = own.min(turns + 1) + riders.share_of_others(newcomer.weight, own, turns);
        let counted = newcomer.lane.map_or(0, |_| turns);
        let all = self.slots_of_riders(std::iter::once(class), supply);
        by_turns.min(all).saturating_sub(counted)
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
        let classes = Criticality::ALL.into_iter().filter(|class| *class >= newcomer.class);
        let slots = higher.iter().chain(&peers).sum::<usize>() + self.slots_of_riders(classes, supply);
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
        for_slot.max(for_bulk).max(newcomer.usual.saturating_mul(writes))
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
