//! All that the simulator remembers, behind one lock: a call is counted, recorded and worked
//! on at one moment, so that what happened has one order.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;

use crate::activities::store::Activities;
use crate::clock::{Clock, Dice};
use crate::control::journal::Journal;
use crate::faults::Faults;
use crate::leads::fields::Schema;
use crate::leads::store::Crm;
use crate::limits::Limiter;
use crate::sharing::store::{Ledger, World};
use crate::{Options, Stats};

/// The account that is imitated: what was chosen, and the fields that follow from it.
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

    /// The attributes a lead must have.
    pub(crate) fn mandatory(&self) -> impl Iterator<Item = &str> {
        let marked = self.schema.fields().iter().filter(|field| field.mandatory);
        let marked = marked.map(|field| field.schema_name.as_str());
        self.options.mandatory.iter().map(String::as_str).chain(marked)
    }
}

/// What every handle of one simulator shares.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Where calls go on when their clients have left.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            state: Mutex::new(State::new(options)),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a panic that the next call could trip over worse than
        // over a simulator that has stopped answering.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct State {
    pub(crate) tenant: Tenant,
    pub(crate) crm: Crm,
    pub(crate) activities: Activities,
    pub(crate) ledger: Ledger,
    pub(crate) limiter: Limiter,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
}

impl State {
    fn new(options: Options) -> Self {
        let clock = Clock::start();
        let tenant = Tenant::new(options);
        Self {
            crm: Crm::new(&tenant),
            activities: Activities::new(tenant.options.seed),
            ledger: Ledger::new(tenant.options.seed),
            limiter: Limiter::new(clock.started()),
            faults: Faults::default(),
            journal: Journal::new(clock.started()),
            // Not the ids' dice: a latency must not change which ids are made.
            dice: Dice::new(!tenant.options.seed),
            clock,
            tenant,
        }
    }

    /// As new, with the options there are.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.tenant.options.clone());
    }

    pub(crate) fn set_options(&mut self, options: Options) {
        // What was due until now was due under the old ones.
        self.settle();
        self.tenant = Tenant::new(options);
        self.crm.reindex(&self.tenant);
    }

    /// Processes the share requests whose time has come.
    pub(crate) fn settle(&mut self) {
        let world = World {
            tenant: &self.tenant,
            crm: &self.crm,
            activities: &self.activities,
        };
        self.ledger.settle(&world, self.clock.now());
    }

    pub(crate) fn stats(&mut self) -> Stats {
        self.settle();
        let limits = &self.tenant.options.limits;
        let now = tokio::time::Instant::now();
        Stats {
            daily_used: self.limiter.used_on(self.clock.day(limits.daily_reset_hour)),
            worst_window: self.journal.worst_window(limits.per),
            worst_bulk_window: self.journal.worst_bulk_window(limits.per),
            now_ms: self.journal.millis(now),
            leads: self.crm.len(),
            activities: self.activities.len(),
            shares: self.ledger.live(self.clock.now()).count(),
            duplicates: self.crm.duplicates,
            automations_fired: self.crm.automations,
            ..self.journal.counts.clone()
        }
    }
}
