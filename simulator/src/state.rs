//! The state of the simulator behind one lock. Each call is recorded, counted and executed under this lock, so calls
//! are serialized.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;

use crate::activities::store::Activities;
use crate::clock::Clock;
use crate::control::journal::Journal;
use crate::faults::Faults;
use crate::leads::fields::Schema;
use crate::leads::store::Leads;
use crate::limits::Limiter;
use crate::random::Random;
use crate::sharing::store::{Shares, SharingContext};
use crate::{Options, Stats};

/// The simulated account: its options and the lead fields that they define.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) options: Options,
    pub(crate) schema: Schema,
}

impl Tenant {
    pub(crate) fn new(options: Options) -> Self {
        let schema = Schema::new(&options);
        Self { options, schema }
    }

    /// Returns the names of the mandatory attributes of a lead.
    pub(crate) fn mandatory(&self) -> impl Iterator<Item = &str> {
        let marked = self.schema.fields().iter().filter(|field| field.mandatory);
        let marked = marked.map(|field| field.schema_name.as_str());
        self.options.mandatory.iter().map(String::as_str).chain(marked)
    }
}

/// The state that all clones of a [`crate::Simulator`] share.
pub(crate) struct SharedState {
    state: Mutex<State>,
    /// The tasks that execute calls. A call continues after its client disconnects.
    pub(crate) tasks: TaskTracker,
}

impl SharedState {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            state: Mutex::new(State::new(options)),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic may leave the state inconsistent. Failing all further calls would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct State {
    pub(crate) tenant: Tenant,
    pub(crate) leads: Leads,
    pub(crate) activities: Activities,
    pub(crate) shares: Shares,
    pub(crate) limiter: Limiter,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
}

impl State {
    fn new(options: Options) -> Self {
        let clock = Clock::start();
        let tenant = Tenant::new(options);
        Self {
            leads: Leads::new(&tenant),
            activities: Activities::new(tenant.options.seed),
            shares: Shares::new(tenant.options.seed),
            limiter: Limiter::new(clock.started()),
            faults: Faults::default(),
            journal: Journal::new(clock.started()),
            // Latencies have a generator of their own, so that a latency does not change the ids.
            random: Random::new(!tenant.options.seed),
            clock,
            tenant,
        }
    }

    /// Restores the initial state with the current options.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.tenant.options.clone());
    }

    pub(crate) fn set_options(&mut self, options: Options) {
        // Share requests that are due now are processed with the old options.
        self.process_due();
        self.tenant = Tenant::new(options);
        self.leads.reindex(&self.tenant);
    }

    /// Processes the share requests that are due.
    pub(crate) fn process_due(&mut self) {
        let context = SharingContext {
            tenant: &self.tenant,
            leads: &self.leads,
            activities: &self.activities,
        };
        self.shares.process_due(&context, self.clock.now());
    }

    pub(crate) fn stats(&mut self) -> Stats {
        self.process_due();
        let limits = &self.tenant.options.limits;
        let now = tokio::time::Instant::now();
        Stats {
            daily_used: self.limiter.used_on(self.clock.day(limits.daily_reset_hour)),
            worst_window: self.journal.worst_window(limits.per),
            worst_bulk_window: self.journal.worst_bulk_window(limits.per),
            now_ms: self.journal.millis(now),
            leads: self.leads.len(),
            activities: self.activities.len(),
            shares: self.shares.live(self.clock.now()).count(),
            duplicates: self.leads.duplicates,
            automations_fired: self.leads.automations,
            ..self.journal.counts.clone()
        }
    }
}
