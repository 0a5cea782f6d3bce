//! The callers that have tickets in the queue, or had some lately: their quotas, their flows and their caps. The order among
//! callers is in `fair`.
//!
//! Each caller has an entry of its own. But callers name themselves, and admission looks at each entry. So while
//! `MAX_OWN_ENTRIES` callers without settings have tickets, the tickets of further callers without settings share one entry,
//! which is one caller in all respects: for its weight, its cap and its maximum number of tickets.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fair::CallerFlow;
use super::ids::{CallerIndex, TicketId};
use crate::context::{Criticality, INTERNAL_CALLER};
use crate::quota::{CallerQuota, CallerQuotas};

#[derive(Debug)]
pub(super) struct CallerState {
    pub(super) name: Arc<str>,
    pub(super) quota: CallerQuota,
    /// Whether its tickets may be in the shared entry.
    may_share: bool,
    pub(super) flows: [Option<Box<CallerFlow>>; 4],
    /// Number of its tickets.
    pub(super) waiting: usize,
    /// When its grants of the last window stop counting against its cap, the earliest first. Not recorded without a cap.
    grants: VecDeque<Instant>,
    capped_until: Option<Instant>,
}

/// All callers, by number and by name.
#[derive(Debug)]
pub(super) struct CallerTable {
    all: Vec<Option<CallerState>>,
    vacant: Vec<CallerIndex>,
    by_name: HashMap<Arc<str>, CallerIndex>,
    /// Number of callers that may share an entry and have tickets in an entry of their own.
    own_entries: usize,
    /// The callers at their cap, by when the cap is lifted.
    capped: BTreeSet<(Instant, CallerIndex)>,
    /// Number of callers at which idle callers are removed.
    sweep_at: usize,
}

/// Minimum number of callers at which idle callers are removed.
const MIN_SWEEP: usize = 64;
/// Maximum number of callers without settings that have tickets in an entry of their own.
pub(super) const MAX_OWN_ENTRIES: usize = 1_000;
/// The name of the shared entry. It is not valid as the name of a caller.
pub(super) const SHARED_ENTRY: &str = "(others)";

impl CallerState {
    fn new(name: Arc<str>, quotas: &CallerQuotas) -> Self {
        Self {
            quota: quota_of(&name, quotas),
            may_share: may_share(&name, quotas),
            name,
            flows: [None, None, None, None],
            waiting: 0,
            grants: VecDeque::new(),
            capped_until: None,
        }
    }

    /// Changes the quota, also for the tickets that wait.
    fn set_quotas(&mut self, quotas: &CallerQuotas, now: Instant) {
        self.quota = quota_of(&self.name, quotas);
        self.may_share = may_share(&self.name, quotas);
        for flow in self.flows.iter_mut().flatten() {
            flow.set_weight(self.quota.weight);
        }
        self.capped_until = self.cap_end(now);
    }

    /// Until when the caller is at its cap. `None` if it is not. Removes the grants that have stopped counting.
    fn cap_end(&mut self, now: Instant) -> Option<Instant> {
        while self.grants.front().is_some_and(|until| *until <= now) {
            self.grants.pop_front();
        }
        let cap = self.quota.calls_per_window? as usize;
        let surplus = self.grants.len().checked_sub(cap)?;
        self.grants.get(surplus).copied()
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
        let mut held: Vec<_> = self.grants.iter().filter(|until| **until > now).collect();
        // After the cap was lowered, more grants may be held than it allows.
        held.drain(..held.len().saturating_sub(cap));
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
            own_entries: 0,
            capped: BTreeSet::new(),
            sweep_at: MIN_SWEEP,
        }
    }

    /// The number of the entry that a new ticket of this caller gets, if it is in the table.
    pub(super) fn find(&self, name: &str, quotas: &CallerQuotas) -> Option<CallerIndex> {
        self.by_name.get(self.entry(name, quotas)).copied()
    }

    /// The number of the entry that a new ticket of this caller gets. Adds the entry if it is new.
    pub(super) fn index(&mut self, name: &str, quotas: &CallerQuotas, now: Instant) -> CallerIndex {
        let name = self.entry(name, quotas);
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        if self.by_name.len() >= self.sweep_at {
            self.sweep(now);
        }
        let name: Arc<str> = name.into();
        let caller = Some(CallerState::new(name.clone(), quotas));
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
        self.by_name.insert(name, index);
        index
    }

    /// The name of the entry that a new ticket of this caller gets.
    fn entry<'a>(&self, name: &'a str, quotas: &CallerQuotas) -> &'a str {
        let index = self.by_name.get(name);
        let has_tickets = index.is_some_and(|index| self.get(*index).waiting > 0);
        if self.own_entries < MAX_OWN_ENTRIES || has_tickets || !may_share(name, quotas) {
            name
        } else {
            SHARED_ENTRY
        }
    }

    /// Counts a ticket of this caller.
    pub(super) fn add_ticket(&mut self, index: CallerIndex) -> &mut CallerState {
        let is_first = self.get(index).waiting == 0;
        self.own_entries += usize::from(is_first && self.get(index).may_share);
        let caller = self.get_mut(index);
        caller.waiting += 1;
        caller
    }

    /// Counts a ticket of this caller less.
    pub(super) fn remove_ticket(&mut self, index: CallerIndex) -> &mut CallerState {
        let is_last = self.get(index).waiting == 1;
        self.own_entries -= usize::from(is_last && self.get(index).may_share);
        let caller = self.get_mut(index);
        caller.waiting -= 1;
        caller
    }

    /// Changes the quotas of all callers. Returns the callers.
    pub(super) fn set_quotas(&mut self, quotas: &CallerQuotas, now: Instant) -> Vec<CallerIndex> {
        (self.own_entries, self.capped) = (0, BTreeSet::new());
        let mut indexes = Vec::new();
        for (index, caller) in self.all.iter_mut().enumerate() {
            let Some(caller) = caller else { continue };
            caller.set_quotas(quotas, now);
            self.own_entries += usize::from(caller.may_share && caller.waiting > 0);
            self.capped.extend(caller.capped_until.map(|until| (until, index)));
            indexes.push(index);
        }
        indexes
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
        if caller.quota.calls_per_window.is_none() {
            return false;
        }
        // The window may have been longer before.
        let until = caller
            .grants
            .back()
            .map_or(now + window, |last| (now + window).max(*last));
        caller.grants.push_back(until);
        caller.capped_until = caller.cap_end(now);
        let capped_until = caller.capped_until;
        self.capped.extend(capped_until.map(|until| (until, index)));
        capped_until.is_some()
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

fn quota_of(name: &str, quotas: &CallerQuotas) -> CallerQuota {
    let mut quota = quotas.of(name).clone();
    // With a cap of zero, the caller would wait forever.
    quota.calls_per_window = quota.calls_per_window.map(|cap| cap.max(1));
    quota
}

/// Whether the tickets of a caller may be in the shared entry: not those of a caller with settings, nor those of leadgate
/// itself.
fn may_share(name: &str, quotas: &CallerQuotas) -> bool {
    !quotas.named.contains_key(name) && name != INTERNAL_CALLER && name != SHARED_ENTRY
}
