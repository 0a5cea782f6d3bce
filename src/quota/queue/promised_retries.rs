//! The retries that refused callers were promised. Each is a virtual reservation of a place, so that the next refused caller
//! gets the place behind it. A reservation delays no other ticket, and it expires. Pure, and bounded in memory.
//! The retries of calls that LeadSquared has failed are another subject: see `crm::retry`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Criticality;
use crate::quota::Cost;
use crate::quota::lane::Lane;

/// Maximum number of stored retries. Further retries get a retry time, but are not counted.
const MAX_RETRIES: usize = 4_096;
/// Maximum time by which a retry may be too early and still count as the promised retry.
const EARLY: Duration = Duration::from_millis(5);
/// Maximum number of turns by which a retry is moved.
const MAX_MOVES: usize = 8;
/// Number of kinds: one for each cost, and one for each lane.
const KINDS: usize = 2 + Lane::ALL.len();

/// The kind of slot that a refused call needs.
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

/// Number of promised retries of each kind that are ahead of a refused call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RetriesAhead {
    /// Retries of its own caller and class.
    own: [usize; KINDS],
    /// Retries of other callers that have their turns before it.
    others: [usize; KINDS],
}

impl RetriesAhead {
    pub(super) fn own(&self, kind: AttemptKind) -> usize {
        self.own[kind.index()]
    }

    pub(super) fn others(&self, kind: AttemptKind) -> usize {
        self.others[kind.index()]
    }
}

/// The promised retries of one caller in one class.
#[derive(Debug, Default)]
struct CallerRetries {
    weight: u32,
    /// In the order in which they were promised.
    kinds: [VecDeque<PromisedRetry>; KINDS],
}

/// One promised retry.
#[derive(Clone, Copy, Debug)]
pub(super) struct PromisedRetry {
    /// When the caller is to retry.
    pub due: Instant,
    /// When the retry will be granted a slot at the latest.
    pub served: Instant,
    /// When the promise expires.
    pub expires: Instant,
}

impl CallerRetries {
    fn lengths(&self) -> [usize; KINDS] {
        self.kinds.each_ref().map(VecDeque::len)
    }
}

/// All promised retries.
#[derive(Debug, Default)]
pub(super) struct PromisedRetries {
    classes: [HashMap<Arc<str>, CallerRetries>; 4],
    count: usize,
    /// No promise expires before this time.
    next_expiry: Option<Instant>,
}

impl PromisedRetries {
    /// Removes expired promises.
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

    /// Whether there are no promised retries.
    pub(super) fn is_empty(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.count == 0
    }

    /// Counts a call. If a retry of its caller and kind is due by now, the call is that retry, and the promise is kept.
    /// Returns whether it is one.
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

    /// The retries ahead of a call that is refused now: all retries of higher classes and of its own caller, and of each
    /// other caller of its class as many as are served by then.
    pub(super) fn ahead(&self, class: Criticality, caller: &str, weight: u32) -> RetriesAhead {
        let mut ahead = RetriesAhead::default();
        let in_class = &self.classes[class as usize];
        ahead.own = in_class.get(caller).map(CallerRetries::lengths).unwrap_or_default();
        let turns = ahead.own.iter().sum::<usize>() + 1;
        let add = |others: &mut [usize; KINDS], more: [usize; KINDS]| {
            others.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        };
        for (_, flow) in in_class.iter().filter(|(name, _)| ***name != *caller) {
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

    /// The first time from `served` on at which no other caller of the class has a retry of this kind. It is later by no more than
    /// one turn of each: with one slot in each `pace`, two retries at about the same time would block each other.
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

    /// Remembers a promised retry.
    pub(super) fn add(
        &mut self,
        (class, caller, weight): (Criticality, &Arc<str>, u32),
        kind: AttemptKind,
        retry: PromisedRetry,
    ) {
        if self.count >= MAX_RETRIES {
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

/// The steady load: calls that arrive one by one, window after window. More of these calls will arrive before a retry is
/// due, and are served before it.
#[derive(Debug, Default)]
pub(super) struct SteadyLoad {
    arrived: VecDeque<(Instant, Criticality)>,
}

/// Maximum number of remembered calls of the steady load.
const MAX_STEADY: usize = 512;

impl SteadyLoad {
    /// A call arrived that is no retry, and whose caller had no other call waiting.
    pub(super) fn arrived(&mut self, class: Criticality, now: Instant) {
        if self.arrived.len() == MAX_STEADY {
            self.arrived.pop_front();
        }
        self.arrived.push_back((now, class));
    }

    /// Number of such calls in a window, of that class and the classes above. Calls in only one of the last two windows were
    /// a burst.
    pub(super) fn in_a_window(&self, class: Criticality, now: Instant, window: Duration) -> usize {
        let mut windows = [0; 2];
        for (at, _) in self.arrived.iter().filter(|(_, other)| *other >= class) {
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
    fn a_load_is_steady_if_it_arrived_in_both_of_the_last_windows() {
        let (mut steady_load, start, window) = (SteadyLoad::default(), Instant::now(), Duration::from_secs(5));
        (0..25).for_each(|_| steady_load.arrived(PLUS, start));
        assert_eq!(steady_load.in_a_window(PLUS, start + window / 2, window), 0, "a burst");
        (1..=15).for_each(|second| steady_load.arrived(PLUS, start + Duration::from_secs(second)));
        let now = start + Duration::from_millis(15_500);
        assert_eq!(steady_load.in_a_window(PLUS, now, window), 5);
        assert_eq!(steady_load.in_a_window(Criticality::Critical, now, window), 0);
        assert_eq!(
            steady_load.in_a_window(PLUS, now + window, window),
            0,
            "the load has ended"
        );
        (0..2_000).for_each(|_| steady_load.arrived(PLUS, now));
        assert_eq!(steady_load.arrived.len(), MAX_STEADY);
    }

    const CALL: AttemptKind = AttemptKind::Alone(Cost::Call);
    const PLUS: Criticality = Criticality::SheddablePlus;

    fn add(retries: &mut PromisedRetries, class: Criticality, caller: &str, weight: u32, due: Instant) {
        let retry = PromisedRetry {
            due,
            served: due,
            expires: due + Duration::from_secs(3),
        };
        retries.add((class, &caller.into(), weight), CALL, retry);
    }

    #[test]
    fn a_promised_retry_counts_until_it_arrives_or_expires() {
        let (mut retries, now) = (PromisedRetries::default(), Instant::now());
        let due = now + Duration::from_secs(2);
        add(&mut retries, PLUS, "a", 1, due);
        add(&mut retries, PLUS, "a", 1, due);
        assert_eq!(retries.ahead(PLUS, "a", 1).own(CALL), 2);
        // A call that arrives too early is not the retry.
        retries.arrived(PLUS, "a", CALL, now);
        retries.arrived(PLUS, "a", AttemptKind::Alone(Cost::Bulk), due);
        retries.arrived(PLUS, "b", CALL, due);
        assert_eq!(retries.ahead(PLUS, "a", 1).own(CALL), 2);
        retries.arrived(PLUS, "a", CALL, due);
        assert_eq!(retries.ahead(PLUS, "a", 1).own(CALL), 1);
        retries.expire(due + Duration::from_secs(3));
        assert_eq!(retries.ahead(PLUS, "a", 1), RetriesAhead::default());
        assert_eq!((retries.count, retries.classes[PLUS as usize].len()), (0, 0));
    }

    #[test]
    fn a_caller_with_many_promised_retries_delays_others_by_their_turns_only() {
        let (mut retries, now) = (PromisedRetries::default(), Instant::now());
        (0..500).for_each(|_| add(&mut retries, PLUS, "flooder", 1, now));
        assert_eq!(retries.ahead(PLUS, "other", 1).others(CALL), 1);
        assert_eq!(retries.ahead(PLUS, "flooder", 1).own(CALL), 500);
        add(&mut retries, PLUS, "other", 1, now);
        assert_eq!(retries.ahead(PLUS, "other", 1).others(CALL), 2);
        assert_eq!(retries.ahead(PLUS, "flooder", 1).others(CALL), 1);
        // Higher classes go first, lower classes do not.
        assert_eq!(retries.ahead(Criticality::Sheddable, "other", 1).others(CALL), 501);
        assert_eq!(retries.ahead(Criticality::Critical, "other", 1).others(CALL), 0);
    }

    #[test]
    fn a_promised_retry_keeps_its_distance_from_retries_of_others_by_a_turn_of_each() {
        let (mut retries, now) = (PromisedRetries::default(), Instant::now());
        let pace = Duration::from_secs(1);
        let at = |tenths: u32| now + pace * tenths / 10;
        let free = |retries: &PromisedRetries, caller, tenths| retries.first_free(PLUS, caller, CALL, at(tenths), pace);
        for tenths in [20, 30, 40, 50] {
            add(&mut retries, PLUS, "a", 1, at(tenths));
        }
        add(&mut retries, Criticality::Critical, "b", 1, at(100));
        assert_eq!(free(&retries, "b", 10), at(10));
        assert_eq!(free(&retries, "b", 14), at(30), "a turn of the one other caller");
        assert_eq!(free(&retries, "b", 45), at(60));
        assert_eq!(free(&retries, "b", 100), at(100), "other classes are counted as turns");
        assert_eq!(free(&retries, "a", 20), at(20), "its own are counted as turns too");
    }

    #[test]
    fn the_number_of_remembered_retries_has_a_maximum() {
        let (mut retries, now) = (PromisedRetries::default(), Instant::now());
        for caller in 0..MAX_RETRIES + 100 {
            add(&mut retries, PLUS, &caller.to_string(), 1, now);
        }
        assert_eq!(retries.count, MAX_RETRIES);
        assert_eq!(retries.ahead(PLUS, "other", 1).others(CALL), MAX_RETRIES);
    }
}
