//! Several replicas, a database and LeadSquared in virtual time, with faults. After each step it is checked that no two replicas
//! may send for a tenant, and at the end that no window had more calls than the limit, and that each tenant is served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::database::{Answer, Database, Progress, Request, Statements, Time, TransactionId};
use crate::cluster::lease::TenantLease;
use crate::cluster::machine::{Action, Event, Replica, ReplicaSettings, Rule};
use crate::domain::lease::ReplicaName;

const MS: Time = 1_000;
const SECOND: Time = 1_000 * MS;

pub(super) const LEASE: Duration = Duration::from_secs(3);
/// The limit of LeadSquared: this number of calls in any window.
const CALLS: usize = 3;
const WINDOW: Time = 2 * SECOND;
const LATENESS: Time = SECOND;
/// The timeout of a call.
const TIMEOUT: Time = 8 * SECOND;
/// Until then the world has faults.
const FAULTS_END: Time = 30 * SECOND;
/// Within this time after the last fault each tenant is served: the grace time and the watch, which begins again after a reset of
/// the history; a beat that is lost; the slots of calls in progress; windows; a reset; two beats for the preferred replica.
const RECOVERY: Time = 24 * SECOND;
const END: Time = FAULTS_END + RECOVERY + 4 * SECOND;

/// What is done differently from the rules.
#[derive(Clone, Debug)]
pub(super) struct Design {
    pub broken: Vec<Rule>,
    pub statements: Statements,
    /// The lease is checked again immediately before the first byte.
    pub checks_before_sending: bool,
    /// Without a handover all windows count as full.
    pub waits_for_windows: bool,
    /// A handover has the slots of calls in progress.
    pub hands_over_calls_in_progress: bool,
    /// Bytes arrive after the lateness at the latest.
    pub has_user_timeout: bool,
}

impl Default for Design {
    fn default() -> Self {
        Self {
            broken: vec![],
            statements: Statements::default(),
            checks_before_sending: true,
            waits_for_windows: true,
            hands_over_calls_in_progress: true,
            has_user_timeout: true,
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The seed of the usual delays and losses.
    pub seed: u64,
    pub replicas: usize,
    pub tenants: usize,
    pub faults: Vec<Fault>,
}

#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub at: Time,
    pub kind: FaultKind,
    /// The replica, as an index.
    pub replica: usize,
    pub length: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The process is stopped and continues.
    Freeze,
    /// `kill -9`, and a restart.
    Kill,
    /// SIGTERM, and a restart.
    Stop,
    /// The first tenant is handed over.
    Move,
    /// The database is stopped and started.
    DatabaseDown,
    /// A standby without the last commits is promoted.
    Failover { forgets: Time },
    /// The database's clock jumps.
    Clock { by: i64 },
    /// The replica does not reach the database.
    Cut,
    /// Answers of the database do not reach the replica.
    Deaf,
    /// Requests of the replica are slow.
    Slow,
    /// Answers of the database reach the replica late, but in time.
    SlowAnswers,
    /// Commits are slow.
    SlowCommits,
    /// Bytes to LeadSquared arrive late.
    Stall,
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![
        3 => Just(FaultKind::Freeze),
        2 => Just(FaultKind::Kill),
        1 => Just(FaultKind::Stop),
        3 => Just(FaultKind::Move),
        1 => Just(FaultKind::DatabaseDown),
        2 => (0..SECOND).prop_map(|forgets| FaultKind::Failover { forgets }),
        1 => (-7_200_000_000_i64..7_200_000_000).prop_map(|by| FaultKind::Clock { by }),
        2 => Just(FaultKind::Cut),
        2 => Just(FaultKind::Deaf),
        2 => Just(FaultKind::Slow),
        2 => Just(FaultKind::SlowAnswers),
        1 => Just(FaultKind::SlowCommits),
        2 => Just(FaultKind::Stall),
    ];
    let length = prop_oneof![2 => 10 * MS..SECOND, 2 => SECOND..6 * SECOND];
    let fault =
        (8 * SECOND..FAULTS_END - SECOND, kind, 0_usize..4, length).prop_map(|(at, kind, replica, length)| Fault {
            at,
            kind,
            replica,
            length,
        });
    let faults = prop::collection::vec(fault, 0..14);
    (any::<u64>(), 2_usize..5, 1_usize..3, faults).prop_map(|(seed, replicas, tenants, faults)| Case {
        seed,
        replicas,
        tenants,
        faults,
    })
}

/// Cases of one tenant with many faults of these kinds. Their length is about that of a lease, so that leases lapse and are taken.
pub(super) fn storms(kinds: &'static [FaultKind]) -> impl Strategy<Value = Case> {
    let fault = (
        6 * SECOND..FAULTS_END - SECOND,
        prop::sample::select(kinds),
        0_usize..3,
        2 * SECOND..4_500 * MS,
        0..SECOND,
    );
    let fault = fault.prop_map(|(at, kind, replica, length, forgets)| {
        let kind = match kind {
            FaultKind::Failover { .. } => FaultKind::Failover { forgets },
            kind => kind,
        };
        Fault {
            at,
            kind,
            replica,
            length,
        }
    });
    let faults = prop::collection::vec(fault, 12..24);
    (any::<u64>(), 2_usize..4, faults).prop_map(|(seed, replicas, faults)| Case {
        seed,
        replicas,
        tenants: 1,
        faults,
    })
}

enum Step {
    Fault(usize),
    Start(usize),
    Deliver(TransactionId, Request),
    Database(TransactionId),
    /// A lock may be free.
    Retry(TransactionId),
    LockTimeout(TransactionId),
    Process(usize, ProcessStep),
}

/// A step of a process. It is delayed while the process is frozen.
enum ProcessStep {
    Wake,
    Answer(TransactionId, Option<Answer>),
    AnswerTimeout(TransactionId),
    Pump(u64),
    Connected(u64),
    Sending(u64),
    Ended(u64),
    Draining(String, i64, Time),
    Epoch(String, i64),
    Free,
    Exit(Time),
}

struct Process {
    /// The place of the process: its restarts have the same.
    place: usize,
    name: ReplicaName,
    machine: Replica,
    is_alive: bool,
    /// How much faster its clock is, in parts per million.
    drift: i64,
    frozen_until: Time,
    cut_until: Time,
    deaf_until: Time,
    slow_until: Time,
    slow_answers_until: Time,
    stalled_until: Time,
    wakes_at: Time,
    /// The transaction of the pending action.
    action: Option<TransactionId>,
    quotas: BTreeMap<String, Quota>,
}

struct Quota {
    id: u64,
    lease: TenantLease,
    is_granting: bool,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    free_at: Time,
    call: Option<u64>,
}

struct Call {
    tenant: String,
    quota: u64,
    lease: TenantLease,
    ends: Time,
}

/// What happened in a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub violations: Vec<String>,
    pub calls: usize,
    pub acquisitions: usize,
    pub handovers: usize,
}

struct World {
    design: Design,
    case: Case,
    start: Instant,
    now: Time,
    random: u64,
    steps: BTreeMap<(Time, u64), Step>,
    next_id: u64,
    database: Database,
    /// The process that waits for each transaction of a record, with the call.
    senders: BTreeMap<TransactionId, (usize, Option<u64>)>,
    waiting: BTreeSet<TransactionId>,
    slow_commits_until: Time,
    processes: Vec<Process>,
    calls: BTreeMap<u64, Call>,
    /// From when to when each call may be stamped, by tenant.
    stamps: BTreeMap<String, Vec<(Time, Time)>>,
    report: Report,
}

/// Runs a case.
pub(super) fn run(case: &Case, design: &Design) -> Report {
    let tenants: Vec<String> = (0..case.tenants).map(|at| format!("tenant-{at}")).collect();
    let mut world = World {
        design: design.clone(),
        case: case.clone(),
        start: Instant::now(),
        now: 0,
        random: case.seed,
        steps: BTreeMap::new(),
        next_id: 0,
        database: Database::new(design.statements, &tenants, LEASE),
        senders: BTreeMap::new(),
        waiting: BTreeSet::new(),
        slow_commits_until: 0,
        processes: vec![],
        calls: BTreeMap::new(),
        stamps: tenants.into_iter().map(|tenant| (tenant, vec![])).collect(),
        report: Report::default(),
    };
    for place in 0..case.replicas {
        let at = world.between(0, 2 * SECOND);
        world.at(at, Step::Start(place));
    }
    for (index, fault) in case.faults.iter().enumerate() {
        world.at(fault.at, Step::Fault(index));
    }
    world.run();
    world.report
}

impl World {
    fn run(&mut self) {
        while let Some(((time, _), step)) = self.steps.pop_first() {
            if time > END || !self.report.violations.is_empty() {
                break;
            }
            self.now = time;

            // A lease becomes valid by an answer of the database only.
            let is_answer = matches!(step, Step::Process(_, ProcessStep::Answer(..)));
            self.execute(step);
            self.report.violations.append(&mut self.database.violations);
            if is_answer {
                self.check_owners();
            }
        }
        if self.report.violations.is_empty() {
            self.check_windows();
            self.check_liveness();
        }
    }

    fn check_owners(&mut self) {
        for tenant in self.stamps.keys() {
            let owners: Vec<_> = (0..self.processes.len())
                .filter(|at| self.may_send(*at, tenant))
                .collect();
            if owners.len() > 1 {
                let names: Vec<_> = owners.iter().map(|at| &self.processes[*at].name).collect();
                let violation = format!("{names:?} may send for {tenant} at {}", self.now);
                self.report.violations.push(violation);
            }
        }
    }

    fn may_send(&self, process: usize, tenant: &str) -> bool {
        let lease = self.processes[process].machine.lease(tenant);
        self.processes[process].is_alive && lease.is_some_and(|lease| lease.is_valid(self.local(process)))
    }

    /// No window has more calls than the limit, whenever each call was stamped.
    fn check_windows(&mut self) {
        for (tenant, stamps) in &self.stamps {
            let mut first: Vec<Time> = stamps.iter().map(|(first, _)| *first).collect();
            let mut last: Vec<Time> = stamps.iter().map(|(_, last)| *last).collect();
            first.sort_unstable();
            last.sort_unstable();
            for begin in &last {
                let begun = first.partition_point(|first| *first < begin + WINDOW);
                let count = begun - last.partition_point(|last| last < begin);
                if count > CALLS {
                    let violation = format!("{count} calls of {tenant} in the window at {begin}");
                    return self.report.violations.push(violation);
                }
            }
        }
    }

    fn check_liveness(&mut self) {
        for (tenant, stamps) in &self.stamps {
            if stamps.last().is_none_or(|(first, _)| *first < FAULTS_END + RECOVERY) {
                let violation = format!("{tenant} is not served after the faults: {:?}", stamps.last());
                self.report.violations.push(violation);
            }
        }
    }

    fn execute(&mut self, step: Step) {
        match step {
            Step::Fault(index) => self.fault(index),
            Step::Start(place) => self.start(place),
            Step::Deliver(id, request) => {
                if !self.database.is_up(self.now) {
                    return self.answer(id, None);
                }
                self.database.begin(id, request);
                self.at(self.now, Step::Database(id));
                self.at(self.now + LEASE.as_micros() as Time / 5, Step::LockTimeout(id));
            }
            Step::Database(id) => self.database_step(id),
            Step::Retry(id) => {
                if self.waiting.contains(&id) {
                    self.database_step(id);
                }
            }
            Step::LockTimeout(id) => {
                if self.waiting.remove(&id) {
                    self.database.abort(id);
                    self.answer(id, None);
                }
            }
            Step::Process(process, step) => {
                let frozen_until = self.processes[process].frozen_until;
                if !self.processes[process].is_alive {
                    return;
                }
                if self.now < frozen_until {
                    return self.at(frozen_until, Step::Process(process, step));
                }
                self.process_step(process, step);
            }
        }
    }

    fn database_step(&mut self, id: TransactionId) {
        if !self.database.is_open(id) {
            return;
        }
        self.waiting.remove(&id);
        match self.database.step(id, self.now) {
            Progress::Waits => drop(self.waiting.insert(id)),
            Progress::Continues => {
                let delay = match self.now < self.slow_commits_until {
                    true => self.between(0, 500 * MS),
                    false => self.usual_delay(),
                };
                self.at(self.now + delay, Step::Database(id));
            }
            Progress::Committed(answer) => {
                self.answer(id, Some(answer));
                for id in self.waiting.clone() {
                    self.at(self.now, Step::Retry(id));
                }
            }
        }
    }

    /// Sends an answer. An answer of the database that is lost, or that comes too late, has no effect.
    fn answer(&mut self, id: TransactionId, answer: Option<Answer>) {
        let Some((process, _)) = self.senders.get(&id).copied() else {
            return;
        };
        let is_lost = self.now < self.processes[process].deaf_until || self.is_noisy() && self.between(0, 100) < 2;
        if !is_lost {
            let delay = match self.now < self.processes[process].slow_answers_until {
                true => self.between(400 * MS, 595 * MS),
                false => self.usual_delay(),
            };
            self.at(
                self.now + delay,
                Step::Process(process, ProcessStep::Answer(id, answer)),
            );
        }
    }

    fn request(&mut self, process: usize, call: Option<u64>, request: Request) -> TransactionId {
        let id = self.id();
        self.senders.insert(id, (process, call));
        let sender = &self.processes[process];
        let (is_cut, is_slow) = (self.now < sender.cut_until, self.now < sender.slow_until);
        let delay = if is_slow {
            self.between(0, 2 * SECOND)
        } else {
            self.usual_delay()
        };
        let is_lost = is_cut || self.is_noisy() && self.between(0, 100) < 1;
        if !is_lost {
            self.at(self.now + delay, Step::Deliver(id, request));
        }
        let limit = LEASE.as_micros() as Time / 5;
        self.at(self.now + limit, Step::Process(process, ProcessStep::AnswerTimeout(id)));
        id
    }

    fn start(&mut self, place: usize) {
        let process = self.processes.len();
        let name: ReplicaName = format!("replica-{place}-{process}").into();
        let settings = ReplicaSettings {
            name: name.clone(),
            tenants: self.stamps.keys().cloned().collect(),
            lease: LEASE,
            lateness: Duration::from_secs(1),
        };
        let drift = self.between(0, 40_000) as i64 - 20_000;
        let now = local(self.start, self.now, drift);
        let machine = Replica::breaking(settings, &self.design.broken, now);
        self.processes.push(Process {
            place,
            name,
            machine,
            is_alive: true,
            drift,
            frozen_until: 0,
            cut_until: 0,
            deaf_until: 0,
            slow_until: 0,
            slow_answers_until: 0,
            stalled_until: 0,
            wakes_at: 0,
            action: None,
            quotas: BTreeMap::new(),
        });
        self.poll(process);
    }

    fn fault(&mut self, index: usize) {
        let Fault {
            kind, replica, length, ..
        } = self.case.faults[index].clone();
        let until = (self.now + length).min(FAULTS_END);
        let place = replica % self.case.replicas;
        let found = self.processes.iter().rposition(|process| process.place == place);
        let (Some(process), now) = (found, self.now) else {
            return;
        };
        let is_alive = self.processes[process].is_alive;
        match kind {
            FaultKind::Freeze => self.processes[process].frozen_until = until,
            FaultKind::Kill if is_alive => {
                self.processes[process].is_alive = false;
                self.at(until, Step::Start(place));
            }
            FaultKind::Stop if is_alive => {
                let local = self.local(process);
                let events = self.processes[process].machine.stop(local);
                self.events(process, events);
                self.at(now, Step::Process(process, ProcessStep::Exit(now)));
                self.poll(process);
            }
            FaultKind::Move => {
                let tenant = self.stamps.keys().next().unwrap().clone();
                for process in 0..self.processes.len() {
                    if self.processes[process].is_alive && now >= self.processes[process].frozen_until {
                        let events = self.processes[process].machine.request_handover(&tenant);
                        self.events(process, events);
                    }
                }
            }
            FaultKind::DatabaseDown => self.database.fail(now, until - now, None),
            FaultKind::Failover { forgets } => self.database.fail(now, (until - now) / 4, Some(forgets)),
            FaultKind::Clock { by } => self.database.clock_offset += by,
            FaultKind::Cut => self.processes[process].cut_until = until,
            FaultKind::Deaf => self.processes[process].deaf_until = until,
            FaultKind::Slow => self.processes[process].slow_until = until,
            FaultKind::SlowAnswers => self.processes[process].slow_answers_until = until,
            FaultKind::SlowCommits => self.slow_commits_until = until,
            FaultKind::Stall => self
                .processes
                .iter_mut()
                .for_each(|process| process.stalled_until = until),
            FaultKind::Kill | FaultKind::Stop => {}
        }
    }

    fn process_step(&mut self, process: usize, step: ProcessStep) {
        let now = self.local(process);
        match step {
            ProcessStep::Wake => {}
            ProcessStep::Answer(id, answer) => match self.senders.remove(&id) {
                Some((_, Some(call))) => match answer {
                    Some(Answer::Written) => self.connect(process, call),
                    _ => self.unsent(process, call),
                },
                Some((_, None)) if self.processes[process].action == Some(id) => {
                    self.processes[process].action = None;
                    let machine = &mut self.processes[process].machine;
                    let events = match answer {
                        Some(Answer::Beat(beat)) => machine.beat_confirmed(now, &beat),
                        Some(Answer::Acquired(leases)) => machine.acquired(now, leases),
                        Some(Answer::Written | Answer::NotOwner) => machine.written(now),
                        None => machine.lost(now),
                    };
                    self.events(process, events);
                }
                _ => {}
            },
            ProcessStep::AnswerTimeout(id) => match self.senders.remove(&id) {
                Some((_, Some(call))) => self.unsent(process, call),
                Some((_, None)) if self.processes[process].action == Some(id) => {
                    self.processes[process].action = None;
                    let events = self.processes[process].machine.lost(now);
                    self.events(process, events);
                }
                _ => {}
            },
            ProcessStep::Pump(quota) => return self.pump(process, quota),
            ProcessStep::Connected(call) => return self.connect(process, call),
            ProcessStep::Sending(call) => return self.send(process, call),
            ProcessStep::Ended(call) => {
                let ends = self.calls[&call].ends;
                return self.end_call(process, call, ends + WINDOW);
            }
            ProcessStep::Draining(tenant, epoch, since) => self.drain(process, tenant, epoch, since),
            ProcessStep::Epoch(tenant, epoch) => {
                let events = self.processes[process].machine.epoch_seen(&tenant, epoch);
                self.events(process, events);
            }
            ProcessStep::Free => self.processes[process].machine.look_at_once(now),
            ProcessStep::Exit(since) => {
                if self.processes[process].machine.owns_nothing() || self.now > since + 4 * SECOND {
                    self.processes[process].is_alive = false;
                    let (place, at) = (self.processes[process].place, self.between(0, 3 * SECOND));
                    self.at((self.now + at).min(FAULTS_END.max(self.now)), Step::Start(place));
                } else {
                    self.at(self.now + 50 * MS, Step::Process(process, ProcessStep::Exit(since)));
                }
            }
        }
        self.poll(process);
    }

    /// Sends the next action of a replica.
    fn poll(&mut self, process: usize) {
        if !self.processes[process].is_alive || self.now < self.processes[process].frozen_until {
            return;
        }
        let now = self.local(process);
        if self.processes[process].action.is_none()
            && let Some(action) = self.processes[process].machine.next_action(now)
        {
            let me = self.processes[process].name.clone();
            let request = match action {
                Action::Beat { tenants } => Request::Beat { me, tenants },
                Action::AddReplica { name } => Request::AddReplica(name),
                Action::Acquire(acquisition) => Request::Acquire { me, acquisition },
                Action::Reset { tenant, fence } => Request::Release {
                    tenant,
                    fence,
                    state: None,
                },
                Action::Handover { tenant, fence, state } => Request::Release {
                    tenant,
                    fence,
                    state: Some(state),
                },
            };
            let id = self.request(process, None, request);
            self.processes[process].action = Some(id);
        }
        let Process { machine, drift, .. } = &self.processes[process];
        let since = machine.wake_at(now).saturating_duration_since(self.start).as_nanos() as i64;
        let at = (since / (1_000 + drift / 1_000) + 1) as Time;
        let at = at.max(self.now + MS);
        if self.processes[process].action.is_none()
            && (at < self.processes[process].wakes_at || self.processes[process].wakes_at <= self.now)
        {
            self.processes[process].wakes_at = at;
            self.at(at, Step::Process(process, ProcessStep::Wake));
        }
    }

    fn events(&mut self, process: usize, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Acquired {
                    tenant,
                    lease,
                    handover,
                    ..
                } => self.acquired(process, tenant, lease, handover),
                Event::StartHandover { tenant, epoch, .. } => {
                    if let Some(quota) = self.processes[process].quotas.get_mut(&tenant) {
                        quota.is_granting = false;
                    }
                    let step = ProcessStep::Draining(tenant, epoch, self.now);
                    self.at(self.now, Step::Process(process, step));
                }
                Event::HandedOver { tenant, .. } => {
                    self.processes[process].quotas.remove(&tenant);
                    self.report.handovers += 1;
                    self.tell(process, || ProcessStep::Free);
                }
                Event::Lost { tenant, .. } => drop(self.processes[process].quotas.remove(&tenant)),
            }
        }
    }

    fn acquired(&mut self, process: usize, tenant: String, lease: TenantLease, handover: Option<String>) {
        self.report.acquisitions += 1;
        let full_until = match self.design.waits_for_windows {
            true => self.now + WINDOW + LATENESS,
            false => self.now,
        };
        let slots = match handover {
            None => vec![full_until; CALLS],
            Some(state) => {
                let held: Vec<Time> = serde_json::from_str(&state).unwrap();
                let mut slots: Vec<_> = held.into_iter().map(|free_in| self.now + free_in).collect();
                slots.resize(CALLS, self.now);
                slots
            }
        };
        let slot = |free_at| Slot { free_at, call: None };
        let id = self.id();
        let epoch = lease.epoch();
        let quota = Quota {
            id,
            lease,
            is_granting: true,
            slots: slots.into_iter().map(slot).collect(),
        };
        self.processes[process].quotas.insert(tenant.clone(), quota);
        self.at(self.now, Step::Process(process, ProcessStep::Pump(id)));
        self.tell(process, || ProcessStep::Epoch(tenant.clone(), epoch));
    }

    /// Tells all other replicas. A message may be lost.
    fn tell(&mut self, process: usize, step: impl Fn() -> ProcessStep) {
        for other in 0..self.processes.len() {
            if other != process && self.between(0, 100) < 80 {
                let at = self.now + self.usual_delay();
                self.at(at, Step::Process(other, step()));
            }
        }
    }

    /// Grants slots while the lease is valid.
    fn pump(&mut self, process: usize, quota_id: u64) {
        let local = self.local(process);
        let Some((tenant, quota)) = self.processes[process]
            .quotas
            .iter()
            .find(|(_, quota)| quota.id == quota_id)
        else {
            return;
        };
        let (tenant, lease) = (tenant.clone(), quota.lease.clone());
        let may = quota.is_granting && lease.is_valid(local);
        let is_free = |slot: &Slot| slot.call.is_none() && slot.free_at <= self.now;
        let free = quota.slots.iter().filter(|slot| is_free(slot)).count();
        for _ in 0..if may { free } else { 0 } {
            let call = self.id();
            let now = self.now;
            let quota = self.processes[process].quotas.get_mut(&tenant).unwrap();
            let slot = quota
                .slots
                .iter_mut()
                .find(|slot| slot.call.is_none() && slot.free_at <= now);
            slot.unwrap().call = Some(call);
            self.calls.insert(
                call,
                Call {
                    tenant: tenant.clone(),
                    quota: quota_id,
                    lease: lease.clone(),
                    ends: 0,
                },
            );
            // Some calls are mutations, whose record is written before the connection is opened.
            match self.between(0, 3) {
                0 => {
                    let fence = (*lease.fence().unwrap()).clone();
                    let record = Request::Record {
                        tenant: tenant.clone(),
                        fence,
                    };
                    self.request(process, Some(call), record);
                }
                _ => self.at(self.now, Step::Process(process, ProcessStep::Connected(call))),
            }
        }
        let next = self.now + self.between(10 * MS, 150 * MS);
        self.at(next, Step::Process(process, ProcessStep::Pump(quota_id)));
    }

    /// Opens a connection, which may take long.
    fn connect(&mut self, process: usize, call: u64) {
        let at = self.now + self.usual_delay();
        self.at(at, Step::Process(process, ProcessStep::Sending(call)));
    }

    /// The last check and the first byte.
    fn send(&mut self, process: usize, call: u64) {
        let Call { tenant, lease, .. } = &self.calls[&call];
        if self.design.checks_before_sending && !lease.is_valid(self.local(process)) {
            return self.unsent(process, call);
        }
        let tenant = tenant.clone();
        if let Some(other) = (0..self.processes.len()).find(|other| *other != process && self.may_send(*other, &tenant))
        {
            let violation = format!(
                "call {call} of {tenant} sent by {process} while {other} is the owner at {}",
                self.now
            );
            self.report.violations.push(violation);
        }
        let is_stalled = self.now < self.processes[process].stalled_until && self.between(0, 2) == 0;
        let usual = self.now + self.between(20 * MS, 300 * MS);
        let (last_stamp, ends) = match (is_stalled, self.design.has_user_timeout) {
            (false, _) => (usual, usual),
            (true, true) => (self.now + LATENESS, self.now + TIMEOUT),
            (true, false) => (self.now + TIMEOUT, self.now + TIMEOUT),
        };
        self.report.calls += 1;
        self.stamps.get_mut(&tenant).unwrap().push((self.now, last_stamp));
        self.calls.get_mut(&call).unwrap().ends = ends;
        self.at(ends, Step::Process(process, ProcessStep::Ended(call)));
    }

    fn unsent(&mut self, process: usize, call: u64) {
        self.end_call(process, call, self.now);
    }

    fn end_call(&mut self, process: usize, call: u64, free_at: Time) {
        let Some(Call { tenant, quota, .. }) = self.calls.remove(&call) else {
            return;
        };
        let current = self.processes[process].quotas.get_mut(&tenant);
        let Some(current) = current.filter(|current| current.id == quota) else {
            return;
        };
        for slot in current.slots.iter_mut().filter(|slot| slot.call == Some(call)) {
            *slot = Slot { free_at, call: None };
        }
    }

    /// Waits for the calls in progress, one second at most, and hands over.
    fn drain(&mut self, process: usize, tenant: String, epoch: i64, since: Time) {
        let Some(quota) = self.processes[process].quotas.get(&tenant) else {
            return;
        };
        let is_idle = quota.slots.iter().all(|slot| slot.call.is_none());
        if !is_idle && self.now < since + SECOND {
            let step = ProcessStep::Draining(tenant, epoch, since);
            return self.at(self.now + 20 * MS, Step::Process(process, step));
        }
        let counts = self.design.hands_over_calls_in_progress;
        let free_in = |slot: &Slot| match slot.call {
            Some(_) if counts => TIMEOUT + WINDOW,
            Some(_) => 0,
            None => slot.free_at.saturating_sub(self.now),
        };
        let held: Vec<Time> = quota.slots.iter().map(free_in).collect();
        let state = serde_json::to_string(&held).unwrap();
        self.processes[process].machine.drained(&tenant, epoch, state);
    }

    /// The monotonic time of a process.
    fn local(&self, process: usize) -> Instant {
        local(self.start, self.now, self.processes[process].drift)
    }

    fn is_noisy(&self) -> bool {
        self.now < FAULTS_END
    }

    /// Short, sometimes longer, and now and then too long for an answer.
    fn usual_delay(&mut self) -> Time {
        match self.between(0, 100) {
            _ if !self.is_noisy() => self.between(100, 5 * MS),
            0 => self.between(300 * MS, 1_500 * MS),
            1..6 => self.between(5 * MS, 300 * MS),
            _ => self.between(100, 5 * MS),
        }
    }

    fn at(&mut self, time: Time, step: Step) {
        let id = self.id();
        self.steps.insert((time, id), step);
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A random number from `least` to below `end` (SplitMix64).
    fn between(&mut self, least: Time, end: Time) -> Time {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        least + (mixed ^ mixed >> 31) % (end - least)
    }
}

fn local(start: Instant, now: Time, drift: i64) -> Instant {
    start + Duration::from_nanos((now as i64 * (1_000 + drift / 1_000)) as u64)
}
