//! Whether a ticket would be served before its deadline: the estimate by which it is let in or refused at once. Knows
//! when slots fall free only by asking.

use std::time::Duration;

use tokio::time::Instant;

use super::callers::Caller;
use super::fair::COSTS;
use super::promises::{Ahead, AttemptKind, Retry};
use super::{Ask, Criticality, Queue, Supply, share};
use crate::quota::Cost;
use crate::quota::lane::Lane;
use crate::quota::latency::Estimate;

/// A ticket that would not be served in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infeasible {
    /// How long it would have waited.
    pub wait: Duration,
    /// Whether the call itself seems to take longer than its timeout, however short the wait.
    pub is_too_slow: bool,
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
        let expected = self.fair_wait(&newcomer, own, [0; 2], supply, now, &mut wait);
        let wait_now = expected.longer();
        // With a free slot the call can only gain: it is sent unless no call was ever quick enough.
        if wait_now.is_zero() && estimate.least < timeout {
            return Ok(wait_now);
        }
        let patience = timeout.checked_sub(estimate.usual);
        if patience.is_some_and(|patience| wait_now <= patience) {
            return Ok(wait_now);
        }
        Err(Infeasible {
            wait: wait_now,
            is_too_slow: estimate.least >= timeout,
            by_own_cap: patience.is_some_and(|patience| expected.slot <= patience),
        })
    }

    /// A ticket is refused: the time after which it would be let in with as much time. It is given the place behind all
    /// that wait and all that were refused before and are to retry by then, and this place is counted when the next one
    /// is refused. `drift` is how much longer than a window each call may hold its slot.
    pub fn promise(
        &mut self,
        ask: &Ask,
        estimate: &Estimate,
        drift: Duration,
        supply: &Supply,
        now: Instant,
        mut wait: impl FnMut(Cost, usize) -> Duration,
    ) -> Duration {
        self.promises.expire(now);
        self.arrived(ask, now);
        let timeout = ask.deadline.saturating_duration_since(now);
        let patience = timeout.saturating_sub(estimate.usual);
        let kind = AttemptKind::of(ask.cost, ask.lane);
        let newcomer = self.newcomer(ask, estimate.usual);
        let (class, weight) = (newcomer.class, newcomer.weight);
        let ahead = self.promises.ahead(class, &ask.caller, weight);
        let promised = self.slots_promised(&ahead, kind, supply);
        let first = self.fair_wait(&newcomer, 0, [0; 2], supply, now, &mut wait);
        // Of a steady load no more than its fair share has its turns before.
        let steady = self.steady.in_a_window(class, now, supply.window);
        let steady = steady.min(supply.calls.limit / 2);
        let mut later = |cost: Cost, slots: usize| {
            let (limit, slots) = match cost {
                Cost::Call => {
                    let limit = supply.calls.limit;
                    (limit, (slots * limit).div_ceil((limit - steady).max(1)))
                }
                Cost::Bulk => (supply.bulk.limit, slots),
            };
            let rounds = u32::try_from(slots / limit.max(1) + 1).unwrap_or(u32::MAX);
            wait(cost, slots).saturating_add(drift.saturating_mul(rounds))
        };
        let mut served = Duration::ZERO;
        let place = if first.longer() <= patience {
            let flow = newcomer.caller.and_then(|caller| caller.flow(class));
            // Later its deadline is later too, so all that its caller has waiting may be ahead of it then.
            match ask.lane {
                None => {
                    let own = flow.map_or(0, |flow| flow.waiting(ask.cost)) + ahead.own(kind);
                    let mut others = promised;
                    others[ask.cost as usize] -= ahead.own(kind);
                    let mut fair = |own| self.fair_wait(&newcomer, own, others, supply, now, &mut later);
                    let last = fair(own);
                    // The wait does not always shrink as time passes: enough calls of its caller must be served first.
                    let (mut fitting, mut over) = (0, own);
                    while over - fitting > 1 {
                        let middle = fitting.midpoint(over);
                        if fair(middle).longer() <= patience {
                            fitting = middle;
                        } else {
                            over = middle;
                        }
                    }
                    if last.longer() > patience {
                        served = fair(own - over).longer();
                    }
                    last
                }
                Some(lane) => {
                    let own = self.calls_before(&newcomer, lane, supply);
                    self.fair_wait(&newcomer, own, promised, supply, now, &mut later)
                }
            }
        } else {
            // Even the first of its caller waits too long: only the end of all that is ahead now is sure to help.
            self.longest_wait(&newcomer, promised, supply, now, &mut later)
        };
        let own = newcomer.caller.map_or(0, |caller| caller.waiting) + ahead.own(kind);
        let held = newcomer.caller.map_or(Duration::ZERO, |caller| {
            caller.wait_for_cap(own, now, supply.window, drift)
        });
        // What its caller is to retry uses the cap when it has a slot, and not now.
        let rounds = self
            .share(&ask.caller)
            .calls_per_window
            .map_or(0, |cap| own / cap.max(1) as usize);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        let cap = held.max(match rounds {
            0 => Duration::ZERO,
            rounds => first
                .slot
                .saturating_add((supply.window + drift).saturating_mul(rounds)),
        });
        let after = place.longer().max(cap).saturating_sub(patience).max(served);
        let after = after.max(Duration::from_millis(1));
        let slots = match ask.cost {
            Cost::Call => supply.calls.limit,
            Cost::Bulk => supply.bulk.limit,
        };
        let pace = supply.window / u32::try_from(slots.max(1)).unwrap_or(u32::MAX);
        let wanted = now + after + patience;
        let served = self.promises.first_free(class, &ask.caller, kind, wanted, pace);
        let due = served - patience;
        let expires = due + patience.min(supply.window);
        let retry = Retry { due, served, expires };
        self.promises.promise((class, &ask.caller, weight), kind, retry);
        due - now
    }

    /// A ticket has come, which may be one that was told to retry by now.
    pub(super) fn arrived(&mut self, ask: &Ask, now: Instant) -> bool {
        let kind = AttemptKind::of(ask.cost, ask.lane);
        self.promises.arrived(self.class_of(ask), &ask.caller, kind, now)
    }

    /// How many slots of both costs go to those who were refused before a call of this kind and are to retry.
    fn slots_promised(&self, ahead: &Ahead, kind: AttemptKind, supply: &Supply) -> [usize; 2] {
        let mut slots = COSTS.map(|cost| {
            let kind = AttemptKind::Alone(cost);
            ahead.own(kind) + ahead.others(kind)
        });
        for lane in Lane::ALL {
            let batched = AttemptKind::Batched(lane);
            let (count, most) = (
                ahead.own(batched) + ahead.others(batched),
                self.per_slot(lane, Cost::Call, supply),
            );
            // Those of its own lane take it along.
            slots[Cost::Call as usize] += match batched == kind {
                true => count / most,
                false => count.div_ceil(most),
            };
        }
        slots
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
    /// lane. And behind so many promised places of both costs.
    fn fair_wait(
        &self,
        newcomer: &Newcomer<'_>,
        own: usize,
        promised: [usize; 2],
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
            before[cost as usize]
                + backlog.share_of_others(newcomer.weight, waiting[cost as usize], turns)
                + promised[cost as usize]
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

    /// The wait until everything has gone that could go before, and so many promised places of both costs.
    fn longest_wait(
        &self,
        newcomer: &Newcomer<'_>,
        promised: [usize; 2],
        supply: &Supply,
        now: Instant,
        wait: &mut impl FnMut(Cost, usize) -> Duration,
    ) -> Wait {
        let higher = self.waiting_above(newcomer.class);
        let peers = COSTS.map(|cost| self.classes[newcomer.class as usize].waiting(cost));
        let classes = Criticality::ALL.into_iter().filter(|class| *class >= newcomer.class);
        let slots = higher.iter().chain(&peers).chain(&promised).sum::<usize>() + self.slots_of_riders(classes, supply);
        let own = newcomer.caller.map_or(0, |caller| caller.waiting);
        // A bulk slot may lie unused for a while, since calls have their turns too.
        let bulk = higher[Cost::Bulk as usize] + peers[Cost::Bulk as usize] + promised[Cost::Bulk as usize] + 1;
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
        newcomer.caller.map_or(Duration::ZERO, |caller| {
            caller.wait_for_cap(own, now, supply.window, Duration::ZERO)
        })
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
