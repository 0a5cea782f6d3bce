//! The callers that have something waiting or had it lately: their shares, their flows and their own caps. Knows no
//! order among them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Criticality;
use super::fair::{CallerIndex, Flow};

/// What one caller may have of the quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// How many turns it has for one turn of a caller of weight 1 in its class.
    pub weight: u32,
    /// The most slots that it gets in a window; `None`: as many as fall to it.
    pub calls_per_window: Option<u32>,
    /// What it asks above this is lowered to it.
    pub max_criticality: Criticality,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            weight: 1,
            calls_per_window: None,
            max_criticality: Criticality::CriticalPlus,
        }
    }
}

#[derive(Debug)]
pub(super) struct Caller {
    pub(super) name: Arc<str>,
    pub(super) share: Share,
    pub(super) flows: [Option<Box<Flow>>; 4],
    pub(super) waiting: usize,
    /// When its grants of the last window leave its cap. Empty where there is none.
    grants: VecDeque<Instant>,
    capped_until: Option<Instant>,
}

/// Callers by number and by name.
#[derive(Debug)]
pub(super) struct Callers {
    all: Vec<Option<Caller>>,
    vacant: Vec<CallerIndex>,
    by_name: HashMap<Arc<str>, CallerIndex>,
    /// Those at their cap, by when it next lets one through.
    capped: BTreeSet<(Instant, CallerIndex)>,
    /// With so many, those who have nothing here any more are forgotten.
    sweep_at: usize,
}

/// So few callers are not worth a sweep.
const FEW: usize = 64;

impl Caller {
    fn new(name: Arc<str>, mut share: Share) -> Self {
        // A cap of nothing would make it wait for ever.
        share.calls_per_window = share.calls_per_window.map(|cap| cap.max(1));
        Self {
            name,
            share,
            flows: [None, None, None, None],
            waiting: 0,
            grants: VecDeque::new(),
            capped_until: None,
        }
    }

    pub(super) fn is_capped(&self) -> bool {
        self.capped_until.is_some()
    }

    pub(super) fn flow(&self, class: Criticality) -> Option<&Flow> {
        self.flows[class as usize].as_deref()
    }

    pub(super) fn flow_mut(&mut self, class: Criticality) -> &mut Flow {
        let weight = self.share.weight;
        self.flows[class as usize].get_or_insert_with(|| Box::new(Flow::new(weight)))
    }

    /// Its newest ticket of its lowest class.
    pub(super) fn least(&self) -> Option<(Criticality, super::TicketId)> {
        let newest = |class| Some((class, self.flow(class)?.newest()?));
        Criticality::ALL.into_iter().find_map(newest)
    }

    /// How long its cap makes a ticket wait that has so many of its own ahead, if each round takes so much longer than a
    /// window.
    pub(super) fn wait_for_cap(&self, ahead: usize, now: Instant, window: Duration, drift: Duration) -> Duration {
        let Some(cap) = self.share.calls_per_window else {
            return Duration::ZERO;
        };
        let cap = cap as usize;
        let held: Vec<_> = self.grants.iter().filter(|until| **until > now).collect();
        let Some(turn) = (held.len() + ahead).checked_sub(cap) else {
            return Duration::ZERO;
        };
        // Turns that are not held yet are taken to be used at once.
        let first = held.get(turn % cap).map_or(window, |until| until.duration_since(now));
        let windows = u32::try_from(turn / cap).unwrap_or(u32::MAX);
        first
            .saturating_add(window.saturating_mul(windows))
            .saturating_add(drift.saturating_mul(windows.saturating_add(1)))
    }
}

impl Callers {
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            vacant: Vec::new(),
            by_name: HashMap::new(),
            capped: BTreeSet::new(),
            sweep_at: FEW,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Caller> {
        self.by_name.get(name).map(|index| self.get(*index))
    }

    /// The number of this caller, who may be new.
    pub(super) fn index(&mut self, name: &Arc<str>, share: impl FnOnce() -> Share, now: Instant) -> CallerIndex {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        if self.by_name.len() >= self.sweep_at {
            self.sweep(now);
        }
        let caller = Some(Caller::new(name.clone(), share()));
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
    pub(super) fn get(&self, index: CallerIndex) -> &Caller {
        self.all[index]
            .as_ref()
            .expect("a caller with tickets is never forgotten")
    }

    #[expect(clippy::expect_used, reason = "numbers are given out here and end in `sweep` only")]
    pub(super) fn get_mut(&mut self, index: CallerIndex) -> &mut Caller {
        self.all[index]
            .as_mut()
            .expect("a caller with tickets is never forgotten")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Caller> {
        self.all.iter().flatten()
    }

    /// A slot was granted to it, which was not at its cap: whether it is now.
    pub(super) fn granted(&mut self, index: CallerIndex, now: Instant, window: Duration) -> bool {
        let caller = self.get_mut(index);
        let Some(cap) = caller.share.calls_per_window else {
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

    /// One whose cap lets it through again.
    pub(super) fn uncap(&mut self, now: Instant) -> Option<CallerIndex> {
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

    /// When the next cap lets somebody through.
    pub(super) fn next_uncap(&self) -> Option<Instant> {
        self.capped.first().map(|(until, _)| *until)
    }

    /// Forgets callers who have nothing here. One that comes back has lost a debt of one turn at most.
    fn sweep(&mut self, now: Instant) {
        for (index, place) in self.all.iter_mut().enumerate() {
            let is_idle = |caller: &mut Caller| {
                caller.waiting == 0 && !caller.is_capped() && caller.grants.iter().all(|until| *until <= now)
            };
            if let Some(caller) = place.take_if(is_idle) {
                self.by_name.remove(&caller.name);
                self.vacant.push(index);
            }
        }
        self.sweep_at = (self.by_name.len() * 2).max(FEW);
    }
}
