//! The retry times that refused callers were given: each is a virtual reservation of a place, so that the next refused
//! caller is given the place behind it. A reservation keeps nobody out, and it expires. Pure, and bounded in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Criticality;
use crate::quota::Cost;
use crate::quota::lane::Lane;

/// The number of reservations that are remembered. Further ones are given a time and not counted.
const MAX_PROMISES: usize = 4_096;
/// How much too early a retry may come and still be taken for the one that was promised.
const EARLY: Duration = Duration::from_millis(5);
/// The most turns by which a reservation is moved.
const MAX_MOVES: usize = 8;
/// Those by cost, and those of each lane.
const KINDS: usize = 2 + Lane::ALL.len();

/// What a refused call would have needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptKind {
    Alone(Cost),
    Batched(Lane),
}

impl AttemptKind {
    pub(super) fn of(cost: Cost, lane: Option<Lane>) -> Self {
        lane.map_or(Self::Alone(cost), Self::Batched)
    }

    fn index(self) -> usize {
        match self {
            Self::Alone(cost) => cost as usize,
            Self::Batched(lane) => 2 + lane as usize,
        }
    }
}

/// How many reservations of each kind are ahead of a refused call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Those of its own caller and class.
    own: [usize; KINDS],
    /// Those of others that have their turns before it.
    others: [usize; KINDS],
}

impl Ahead {
    pub(super) fn own(&self, kind: AttemptKind) -> usize {
        self.own[kind.index()]
    }

    pub(super) fn others(&self, kind: AttemptKind) -> usize {
        self.others[kind.index()]
    }
}

/// The reservations of one caller in one class.
#[derive(Debug, Default)]
struct Flow {
    weight: u32,
    /// In the order in which they were made.
    kinds: [VecDeque<Retry>; KINDS],
}

/// One reservation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// When the call is to be made again.
    pub due: Instant,
    /// When it will have a slot then, at the latest.
    pub served: Instant,
    /// When the reservation expires.
    pub expires: Instant,
}

impl Flow {
    fn lengths(&self) -> [usize; KINDS] {
        self.kinds.each_ref().map(VecDeque::len)
    }
}

/// All reservations.
#[derive(Debug, Default)]
pub(super) struct Promises {
    classes: [HashMap<Arc<str>, Flow>; 4],
    count: usize,
    /// Before this time none expires.
    next_expiry: Option<Instant>,
}

impl Promises {
    /// Forgets what has expired.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for class in &mut self.classes {
            class.retain(|_, flow| {
                for kind in &mut flow.kinds {
                    kind.retain(|retry| retry.expires > now);
                    let first = kind.iter().map(|retry| retry.expires).min();
                    next = [next, first].into_iter().flatten().min();
                }
                flow.kinds.iter().any(|kind| !kind.is_empty())
            });
        }
        self.next_expiry = next;
        let flows = self.classes.iter().flat_map(HashMap::values);
        self.count = flows.map(|flow| flow.lengths().iter().sum::<usize>()).sum();
    }

    /// Whether no call is to retry.
    pub(super) fn is_empty(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.count == 0
    }

    /// A call has come: if its caller was told to retry by now, this is the retry, and its reservation has served. Whether
    /// it is one.
    pub(super) fn arrived(&mut self, class: Criticality, caller: &str, kind: AttemptKind, now: Instant) -> bool {
        let Some(flow) = self.classes[class as usize].get_mut(caller) else {
            return false;
        };
        let kind = &mut flow.kinds[kind.index()];
        let Some(due) = kind.iter().position(|retry| retry.due <= now + EARLY) else {
            return false;
        };
        kind.remove(due);
        self.count -= 1;
        true
    }

    /// What is ahead of a call that is refused now: all reservations of higher classes and of its own caller, and of
    /// each other caller of its class as many as have their turns by then.
    pub(super) fn ahead(&self, class: Criticality, caller: &str, weight: u32) -> Ahead {
        let mut ahead = Ahead::default();
        let mine = &self.classes[class as usize];
        ahead.own = mine.get(caller).map(Flow::lengths).unwrap_or_default();
        let turns = ahead.own.iter().sum::<usize>() + 1;
        let add = |others: &mut [usize; KINDS], more: [usize; KINDS]| {
            others.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        };
        for (_, flow) in mine.iter().filter(|(name, _)| ***name != *caller) {
            let lengths = flow.lengths();
            let all: usize = lengths.iter().sum();
            let share = (turns * flow.weight as usize).div_ceil(weight.max(1) as usize).min(all);
            add(
                &mut ahead.others,
                lengths.map(|length| (length * share).div_ceil(all.max(1))),
            );
        }
        for flow in self.classes[class as usize + 1..].iter().flat_map(HashMap::values) {
            add(&mut ahead.others, flow.lengths());
        }
        ahead
    }

    /// The first time from then on at which no other caller of the class has a reservation of this kind, but no more than
    /// a turn of each later: with one slot in each pace, two retries at about the same time would be in each other's way.
    pub(super) fn first_free(
        &self,
        class: Criticality,
        caller: &str,
        kind: AttemptKind,
        mut served: Instant,
        pace: Duration,
    ) -> Instant {
        let others = || {
            let flows = self.classes[class as usize]
                .iter()
                .filter(|(name, _)| ***name != *caller);
            flows.map(|(_, flow)| &flow.kinds[kind.index()])
        };
        for _ in 0..others().count().min(MAX_MOVES) {
            let times = others().flatten().map(|retry| retry.served);
            let Some(taken) = times
                .filter(|other| *other < served + pace && served < *other + pace)
                .max()
            else {
                break;
            };
            served = taken + pace;
        }
        served
    }

    /// Remembers what a caller was told.
    pub(super) fn promise(
        &mut self,
        (class, caller, weight): (Criticality, &Arc<str>, u32),
        kind: AttemptKind,
        retry: Retry,
    ) {
        if self.count >= MAX_PROMISES {
            return;
        }
        let flow = self.classes[class as usize].entry(caller.clone()).or_default();
        flow.weight = weight;
        flow.kinds[kind.index()].push_back(retry);
        self.count += 1;
        let expires = retry.expires;
        self.next_expiry = Some(self.next_expiry.map_or(expires, |next| next.min(expires)));
    }
}

/// The calls that come one by one, window after window: they will come until a retry is due too, and have their turns.
#[derive(Debug, Default)]
pub(super) struct Steady {
    came: VecDeque<(Instant, Criticality)>,
}

/// How many of them are remembered.
const MAX_STEADY: usize = 512;

impl Steady {
    /// A call has come that is no retry, and whose caller had nothing waiting.
    pub(super) fn came(&mut self, class: Criticality, now: Instant) {
        if self.came.len() == MAX_STEADY {
            self.came.pop_front();
        }
        self.came.push_back((now, class));
    }

    /// How many of them come in a window, of that class and those above. What came in one window only was a burst.
    pub(super) fn in_a_window(&self, class: Criticality, now: Instant, window: Duration) -> usize {
        let mut windows = [0; 2];
        for (at, _) in self.came.iter().filter(|(_, other)| *other >= class) {
            let ago = now.saturating_duration_since(*at).div_duration_f64(window);
            if let Some(count) = windows.get_mut(ago as usize) {
                *count += 1;
            }
        }
        windows[0].min(windows[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_steady_if_it_came_in_both_of_the_last_windows() {
        let (mut steady, start, window) = (Steady::default(), Instant::now(), Duration::from_secs(5));
        (0..25).for_each(|_| steady.came(PLUS, start));
        assert_eq!(steady.in_a_window(PLUS, start + window / 2, window), 0, "a burst");
        (1..=15).for_each(|second| steady.came(PLUS, start + Duration::from_secs(second)));
        let now = start + Duration::from_millis(15_500);
        assert_eq!(steady.in_a_window(PLUS, now, window), 5);
        assert_eq!(steady.in_a_window(Criticality::Critical, now, window), 0);
        assert_eq!(steady.in_a_window(PLUS, now + window, window), 0, "it has ended");
        (0..2_000).for_each(|_| steady.came(PLUS, now));
        assert_eq!(steady.came.len(), MAX_STEADY);
    }

    const CALL: AttemptKind = AttemptKind::Alone(Cost::Call);
    const PLUS: Criticality = Criticality::SheddablePlus;

    fn promise(promises: &mut Promises, class: Criticality, caller: &str, weight: u32, due: Instant) {
        let retry = Retry {
            due,
            served: due,
            expires: due + Duration::from_secs(3),
        };
        promises.promise((class, &caller.into(), weight), CALL, retry);
    }

    #[test]
    fn a_reservation_counts_until_its_retry_has_come_or_it_expires() {
        let (mut promises, now) = (Promises::default(), Instant::now());
        let due = now + Duration::from_secs(2);
        promise(&mut promises, PLUS, "a", 1, due);
        promise(&mut promises, PLUS, "a", 1, due);
        assert_eq!(promises.ahead(PLUS, "a", 1).own(CALL), 2);
        // A call that comes before is another one.
        promises.arrived(PLUS, "a", CALL, now);
        promises.arrived(PLUS, "a", AttemptKind::Alone(Cost::Bulk), due);
        promises.arrived(PLUS, "b", CALL, due);
        assert_eq!(promises.ahead(PLUS, "a", 1).own(CALL), 2);
        promises.arrived(PLUS, "a", CALL, due);
        assert_eq!(promises.ahead(PLUS, "a", 1).own(CALL), 1);
        promises.expire(due + Duration::from_secs(3));
        assert_eq!(promises.ahead(PLUS, "a", 1), Ahead::default());
        assert_eq!((promises.count, promises.classes[PLUS as usize].len()), (0, 0));
    }

    #[test]
    fn a_caller_with_many_reservations_delays_others_by_their_turns_only() {
        let (mut promises, now) = (Promises::default(), Instant::now());
        (0..500).for_each(|_| promise(&mut promises, PLUS, "flooder", 1, now));
        assert_eq!(promises.ahead(PLUS, "other", 1).others(CALL), 1);
        assert_eq!(promises.ahead(PLUS, "flooder", 1).own(CALL), 500);
        promise(&mut promises, PLUS, "other", 1, now);
        assert_eq!(promises.ahead(PLUS, "other", 1).others(CALL), 2);
        assert_eq!(promises.ahead(PLUS, "flooder", 1).others(CALL), 1);
        // Higher classes go before, lower ones do not.
        assert_eq!(promises.ahead(Criticality::Sheddable, "other", 1).others(CALL), 501);
        assert_eq!(promises.ahead(Criticality::Critical, "other", 1).others(CALL), 0);
    }

    #[test]
    fn a_reservation_keeps_its_distance_from_those_of_others_by_a_turn_of_each() {
        let (mut promises, now) = (Promises::default(), Instant::now());
        let pace = Duration::from_secs(1);
        let at = |tenths: u32| now + pace * tenths / 10;
        let free = |promises: &Promises, caller, tenths| promises.first_free(PLUS, caller, CALL, at(tenths), pace);
        for tenths in [20, 30, 40, 50] {
            promise(&mut promises, PLUS, "a", 1, at(tenths));
        }
        promise(&mut promises, Criticality::Critical, "b", 1, at(100));
        assert_eq!(free(&promises, "b", 10), at(10));
        assert_eq!(free(&promises, "b", 14), at(30), "a turn of the one other caller");
        assert_eq!(free(&promises, "b", 45), at(60));
        assert_eq!(free(&promises, "b", 100), at(100), "other classes are counted as turns");
        assert_eq!(free(&promises, "a", 20), at(20), "its own are counted as turns too");
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let (mut promises, now) = (Promises::default(), Instant::now());
        for caller in 0..MAX_PROMISES + 100 {
            promise(&mut promises, PLUS, &caller.to_string(), 1, now);
        }
        assert_eq!(promises.count, MAX_PROMISES);
        assert_eq!(promises.ahead(PLUS, "other", 1).others(CALL), MAX_PROMISES);
    }
}
