//! The callers that have tickets in the queue, or had some lately: their quotas, their flows and their caps. The order among
//! callers is in `fair`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Criticality;
use super::fair::CallerFlow;
use super::ids::{CallerIndex, TicketId};
use crate::quota::CallerQuota;

#[derive(Debug)]
pub(super) struct CallerState {
    pub(super) name: Arc<str>,
    pub(super) quota: CallerQuota,
    pub(super) flows: [Option<Box<CallerFlow>>; 4],
    /// Number of its tickets.
    pub(super) waiting: usize,
    /// When its grants of the last window stop counting against its cap. Empty without a cap.
    grants: VecDeque<Instant>,
    capped_until: Option<Instant>,
}

/// All callers, by number and by name.
#[derive(Debug)]
pub(super) struct CallerTable {
    all: Vec<Option<CallerState>>,
    vacant: Vec<CallerIndex>,
    by_name: HashMap<Arc<str>, CallerIndex>,
    /// The callers at their cap, by when the cap is lifted.
    capped: BTreeSet<(Instant, CallerIndex)>,
    /// Number of callers at which idle callers are removed.
    sweep_at: usize,
}

/// Minimum number of callers at which idle callers are removed.
const MIN_SWEEP: usize = 64;

impl CallerState {
    fn new(name: Arc<str>, mut quota: CallerQuota) -> Self {
        // With a cap of zero, the caller would wait forever.
        quota.calls_per_window = quota.calls_per_window.map(|cap| cap.max(1));
        Self {
            name,
            quota,
            flows: [None, None, None, None],
            waiting: 0,
            grants: VecDeque::new(),
            capped_until: None,
        }
    }

    pub(super) fn is_capped(&self) -> bool {
        self.capped_until.is_some()
    }

    pub(super) fn flow(&self, class: Criticality) -> Option<&CallerFlow> {
        self.flows[class as usize].as_deref()
    }

    pub(super) fn flow_mut(&mut self, class: Criticality) -> &mut CallerFlow {
        let weight = self.quota.weight;
        self.flows[class as usize].get_or_insert_with(|| Box::new(CallerFlow::new(weight)))
    }

    /// The newest ticket of its lowest class.
    pub(super) fn lowest(&self) -> Option<(Criticality, TicketId)> {
        let newest = |class| Some((class, self.flow(class)?.newest()?));
        Criticality::ALL.into_iter().find_map(newest)
    }

    /// How long the cap makes a ticket wait behind this many tickets of the caller. `drift` is how much longer than a window each
    /// round takes.
    pub(super) fn wait_for_cap(&self, ahead: usize, now: Instant, window: Duration, drift: Duration) -> Duration {
        let Some(cap) = self.quota.calls_per_window else {
            return Duration::ZERO;
        };
        let cap = cap as usize;
        let held: Vec<_> = self.grants.iter().filter(|until| **until > now).collect();
        let Some(turn) = (held.len() + ahead).checked_sub(cap) else {
            return Duration::ZERO;
        };
        // Grants of the cap that are not held yet are assumed to be used at once.
        let first = held.get(turn % cap).map_or(window, |until| until.duration_since(now));
        let windows = u32::try_from(turn / cap).unwrap_or(u32::MAX);
        first
            .saturating_add(window.saturating_mul(windows))
            .saturating_add(drift.saturating_mul(windows.saturating_add(1)))
    }
}

impl CallerTable {
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            vacant: Vec::new(),
            by_name: HashMap::new(),
            capped: BTreeSet::new(),
            sweep_at: MIN_SWEEP,
        }
    }

    /// The number of the caller of this name, if it is in the table.
    pub(super) fn find(&self, name: &str) -> Option<CallerIndex> {
        self.by_name.get(name).copied()
    }

    /// The number of the caller of this name. Adds the caller if it is new.
    pub(super) fn index(&mut self, name: &Arc<str>, quota: impl FnOnce() -> CallerQuota, now: Instant) -> CallerIndex {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        if self.by_name.len() >= self.sweep_at {
            self.sweep(now);
        }
        let caller = Some(CallerState::new(name.clone(), quota()));
        let index = match self.vacant.pop() {
            Some(index) => {
                self.all[index] = caller;
                index
            }
            None => {
                self.all.push(caller);
                self.all.len() - 1
            }
        };
        self.by_name.insert(name.clone(), index);
        index
    }

    #[expect(clippy::expect_used, reason = "numbers are given out here and end in `sweep` only")]
    pub(super) fn get(&self, index: CallerIndex) -> &CallerState {
        self.all[index]
            .as_ref()
            .expect("a caller with tickets is never removed")
    }

    #[expect(clippy::expect_used, reason = "numbers are given out here and end in `sweep` only")]
    pub(super) fn get_mut(&mut self, index: CallerIndex) -> &mut CallerState {
        self.all[index]
            .as_mut()
            .expect("a caller with tickets is never removed")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CallerState> {
        self.all.iter().flatten()
    }

    /// All callers but this one.
    pub(super) fn others(&self, own: Option<CallerIndex>) -> impl Iterator<Item = &CallerState> {
        let others = self
            .all
            .iter()
            .enumerate()
            .filter(move |(index, _)| own != Some(*index));
        others.filter_map(|(_, caller)| caller.as_ref())
    }

    /// Counts a grant of a caller that is not at its cap. Returns whether it is at its cap now.
    pub(super) fn granted(&mut self, index: CallerIndex, now: Instant, window: Duration) -> bool {
        let caller = self.get_mut(index);
        let Some(cap) = caller.quota.calls_per_window else {
            return false;
        };
        caller.grants.push_back(now + window);
        while caller.grants.front().is_some_and(|until| *until <= now) {
            caller.grants.pop_front();
        }
        match caller.grants.front().copied() {
            Some(until) if caller.grants.len() >= cap as usize => {
                caller.capped_until = Some(until);
                self.capped.insert((until, index));
                true
            }
            _ => false,
        }
    }

    /// Lifts the next cap that ends by now. Returns its caller.
    pub(super) fn lift_cap(&mut self, now: Instant) -> Option<CallerIndex> {
        let (until, index) = *self.capped.first()?;
        if until > now {
            return None;
        }
        self.capped.remove(&(until, index));
        let caller = self.get_mut(index);
        caller.capped_until = None;
        while caller.grants.front().is_some_and(|until| *until <= now) {
            caller.grants.pop_front();
        }
        Some(index)
    }

    /// When the next cap ends.
    pub(super) fn next_cap_end(&self) -> Option<Instant> {
        self.capped.first().map(|(until, _)| *until)
    }

    /// Removes idle callers. A caller that returns later has gained one grant at most.
    fn sweep(&mut self, now: Instant) {
        for (index, place) in self.all.iter_mut().enumerate() {
            let is_idle = |caller: &mut CallerState| {
                caller.waiting == 0 && !caller.is_capped() && caller.grants.iter().all(|until| *until <= now)
            };
            if let Some(caller) = place.take_if(is_idle) {
                self.by_name.remove(&caller.name);
                self.vacant.push(index);
            }
        }
        self.sweep_at = (self.by_name.len() * 2).max(MIN_SWEEP);
    }
}
