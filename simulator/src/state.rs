//! The state of the simulator behind one lock. Each call is recorded, counted and executed under this lock, so calls
//! are serialized.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activities::store::Activities;
use crate::clock::Clock;
use crate::control::journal::Journal;
use crate::faults::Faults;
use crate::leads::fields::Schema;
use crate::leads::store::Leads;
use crate::limits::Limiter;
use crate::random::Random;
use crate::recording::{Replay, Traffic};
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
    /// Cancelled if the recording of calls fails. The simulator then stops.
    pub(crate) recording_failed: CancellationToken,
}

impl SharedState {
    pub(crate) fn new(initial: InitialState) -> Self {
        Self {
            state: Mutex::new(State::new(Arc::new(initial))),
            tasks: TaskTracker::new(),
            recording_failed: CancellationToken::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic may leave the state inconsistent. Failing all further calls would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state at the start, which a reset restores.
pub(crate) struct InitialState {
    pub(crate) options: Options,
    pub(crate) leads: Leads,
}

pub(crate) struct State {
    initial: Arc<InitialState>,
    pub(crate) tenant: Tenant,
    pub(crate) leads: Leads,
    pub(crate) activities: Activities,
    pub(crate) shares: Shares,
    pub(crate) limiter: Limiter,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    /// Whether the calls are recorded, or answered from a recording.
    pub(crate) traffic: Traffic,
}

impl State {
    fn new(initial: Arc<InitialState>) -> Self {
        let clock = Clock::start();
        let tenant = Tenant::new(initial.options.clone());
        Self {
            leads: initial.leads.clone(),
            activities: Activities::new(tenant.options.seed),
            shares: Shares::new(tenant.options.seed),
            limiter: Limiter::new(clock.started()),
            faults: Faults::default(),
            journal: Journal::new(clock.started()),
            // Latencies have a generator of their own, so that a latency does not change the ids.
            random: Random::new(!tenant.options.seed),
            traffic: Traffic::Simulated,
            clock,
            tenant,
            initial,
        }
    }

    /// Restores the initial state: options, leads, clock, limits, and no faults, calls and counts. A recording continues,
    /// and so does a replay: the same tests with the same resets can run against both.
    pub(crate) fn reset(&mut self) {
        let mut state = Self::new(self.initial.clone());
        state.journal = self.journal.emptied(state.clock.started());
        state.traffic = std::mem::take(&mut self.traffic);
        *self = state;
    }

    /// Advances the clock.
    pub(crate) fn advance_clock(&mut self, by: Duration) -> Result<(), String> {
        self.change_clock(|clock| clock.advance(by))
    }

    /// Stops the clock at a time.
    pub(crate) fn stop_clock(&mut self, time: Timestamp) -> Result<(), String> {
        self.change_clock(|clock| {
            clock.stop_at(time);
            Ok(())
        })
    }

    fn change_clock(&mut self, change: impl FnOnce(&mut Clock) -> Result<(), String>) -> Result<(), String> {
        if self.traffic.replay().is_some() {
            return Err("the clock does not apply to a replay".into());
        }
        self.process_due();
        change(&mut self.clock)?;
        self.process_due();
        Ok(())
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
            replay_unmatched: self.traffic.replay().map_or(0, Replay::unmatched),
            replay_unused: self.traffic.replay().map_or(0, Replay::unused),
            ..self.journal.counts.clone()
        }
    }
}
