//! A model of the database with the statements of the lease, step by step: snapshots, row locks, commits. READ COMMITTED: a
//! statement reads what was committed when it began, and looks again at a row whose lock it had to wait for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::lease::{
    AcquiredLease, Acquisition, Beat, Fence, History, LeaseRow, Move, MoveReason, ReplicaName, ReplicaRow,
};

/// Microseconds of virtual time.
pub(super) type Time = u64;
pub(super) type TransactionId = u64;

/// How long commits can be forgotten by a failover.
const FORGOTTEN: Time = 1_000_000;

/// Which statements are as they must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statements {
    /// The beat reads in a second statement.
    pub beat_reads_afterwards: bool,
    /// An acquisition locks the row of the owner FOR SHARE.
    pub acquire_locks_beat: bool,
    /// A write to the store is fenced.
    pub fence: bool,
    /// Acquisitions wait for the grace time by the database's clock.
    pub grace: bool,
}

impl Default for Statements {
    fn default() -> Self {
        Self {
            beat_reads_afterwards: true,
            acquire_locks_beat: true,
            fence: true,
            grace: true,
        }
    }
}

/// What is committed.
#[derive(Clone, Debug, Default)]
struct State {
    replicas: BTreeMap<ReplicaName, (i64, Vec<String>)>,
    leases: BTreeMap<String, Lease>,
    histories: BTreeMap<History, i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Lease {
    owner: Option<ReplicaName>,
    epoch: i64,
    handover: Option<(History, String)>,
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    Beat {
        me: ReplicaName,
        tenants: Vec<String>,
    },
    AddReplica(ReplicaName),
    Acquire {
        me: ReplicaName,
        acquisition: Acquisition,
    },
    Release {
        tenant: String,
        fence: Fence,
        state: Option<String>,
    },
    /// A record of a mutation, with the fence.
    Record {
        tenant: String,
        fence: Fence,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Beat(Beat),
    Acquired(Vec<AcquiredLease>),
    Written,
    NotOwner,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Replica(ReplicaName),
    Tenant(String),
}

struct Transaction {
    request: Request,
    step: u8,
    answer: Option<Answer>,
}

/// What a step of a transaction does next.
pub(super) enum Progress {
    /// The next step is executed after a delay.
    Continues,
    /// It waits for a lock. It is tried again when a transaction ends.
    Waits,
    /// It is committed.
    Committed(Answer),
}

pub(super) struct Database {
    statements: Statements,
    state: State,
    /// The states of the last second, for a failover.
    past: VecDeque<(Time, State)>,
    transactions: BTreeMap<TransactionId, Transaction>,
    shared: BTreeSet<(Row, TransactionId)>,
    exclusive: BTreeMap<Row, TransactionId>,
    timeline: u32,
    /// The wall clock minus virtual time.
    pub clock_offset: i64,
    pub down_until: Time,
    lease: Duration,
    /// The acquisitions so far, as tenant, history and epoch.
    used_epochs: BTreeSet<(String, History, i64)>,
    pub violations: Vec<String>,
}

impl Database {
    pub(super) fn new(statements: Statements, tenants: &[String], lease: Duration) -> Self {
        let leases = tenants.iter().map(|tenant| (tenant.clone(), Lease::default()));
        let state = State {
            leases: leases.collect(),
            ..State::default()
        };
        Self {
            statements,
            state,
            past: VecDeque::new(),
            transactions: BTreeMap::new(),
            shared: BTreeSet::new(),
            exclusive: BTreeMap::new(),
            timeline: 1,
            clock_offset: 1_000_000_000_000,
            down_until: 0,
            lease,
            used_epochs: BTreeSet::new(),
            violations: vec![],
        }
    }

    pub(super) fn is_up(&self, now: Time) -> bool {
        now >= self.down_until
    }

    /// The server ends, and all transactions with it. `forgets`: a standby is promoted that has not received the last commits.
    pub(super) fn fail(&mut self, now: Time, down: Time, forgets: Option<Time>) {
        self.transactions.clear();
        self.shared.clear();
        self.exclusive.clear();
        self.down_until = self.down_until.max(now + down);
        if let Some(forgets) = forgets {
            let kept = now.saturating_sub(forgets.min(FORGOTTEN));
            let state = self.past.iter().rev().find(|(since, _)| *since <= kept);
            if let Some((_, state)) = state.or(self.past.front()) {
                self.state = state.clone();
            }
            self.past.clear();
            self.timeline += 1;
        }
    }

    pub(super) fn begin(&mut self, id: TransactionId, request: Request) {
        self.transactions.insert(
            id,
            Transaction {
                request,
                step: 0,
                answer: None,
            },
        );
    }

    pub(super) fn abort(&mut self, id: TransactionId) {
        self.transactions.remove(&id);
        self.unlock(id);
    }

    pub(super) fn is_open(&self, id: TransactionId) -> bool {
        self.transactions.contains_key(&id)
    }

    /// Executes the next step of a transaction.
    pub(super) fn step(&mut self, id: TransactionId, now: Time) -> Progress {
        let Some(mut transaction) = self.transactions.remove(&id) else {
            return Progress::Waits;
        };
        let progress = self.execute(id, &mut transaction, now);
        match &progress {
            Progress::Continues => transaction.step += 1,
            Progress::Waits => {}
            Progress::Committed(_) => {
                self.unlock(id);
                while self.past.len() > 1 && self.past[1].0 + FORGOTTEN <= now {
                    self.past.pop_front();
                }
                self.past.push_back((now, self.state.clone()));
                return progress;
            }
        }
        self.transactions.insert(id, transaction);
        progress
    }

    fn execute(&mut self, id: TransactionId, transaction: &mut Transaction, now: Time) -> Progress {
        let (request, step) = (transaction.request.clone(), transaction.step);
        match (request, step) {
            (Request::Beat { me, .. }, 0) => {
                if !self.statements.beat_reads_afterwards && transaction.answer.is_none() {
                    transaction.answer = Some(self.read(&me, now));
                }
                self.lock(Row::Replica(me), id, true)
            }
            (Request::Beat { me, .. }, 1) => {
                if self.statements.beat_reads_afterwards {
                    transaction.answer = Some(self.read(&me, now));
                }
                Progress::Continues
            }
            (Request::Beat { me, tenants }, _) => {
                let history = self.history();
                let first_seen = self.first_seen(now);
                self.state.histories.insert(history, first_seen);
                let row = self.state.replicas.entry(me).or_default();
                *row = (row.0 + 1, tenants);
                Progress::Committed(transaction.answer.take().unwrap())
            }
            (Request::AddReplica(name), _) => {
                self.state.replicas.entry(name).or_default();
                Progress::Committed(Answer::Written)
            }
            (Request::Acquire { acquisition, .. }, 0) => {
                // The snapshot of the statement.
                if transaction.answer.is_none() {
                    let is_old = match self.state.histories.get(&self.history()) {
                        Some(first_seen) => *first_seen + self.lease.as_micros() as i64 <= self.clock(now),
                        None => false,
                    };
                    let is_old = is_old || !self.statements.grace;
                    if self.history() != acquisition.history || !is_old || !self.is_unchanged(&acquisition) {
                        return Progress::Committed(Answer::Acquired(vec![]));
                    }
                    transaction.answer = Some(Answer::Acquired(vec![]));
                }
                match &acquisition.owner {
                    Some((name, _)) if self.statements.acquire_locks_beat => {
                        self.lock(Row::Replica(name.clone()), id, false)
                    }
                    _ => Progress::Continues,
                }
            }
            (Request::Acquire { acquisition, .. }, 1) => {
                if self.statements.acquire_locks_beat && !self.is_unchanged(&acquisition) {
                    return Progress::Committed(Answer::Acquired(vec![]));
                }
                for (tenant, _) in &acquisition.tenants {
                    if let Progress::Waits = self.lock(Row::Tenant(tenant.clone()), id, true) {
                        return Progress::Waits;
                    }
                }
                // Rows that changed before they were locked are left out.
                Progress::Continues
            }
            (Request::Acquire { me, acquisition }, _) => {
                let history = self.history();
                let owner = acquisition.owner.map(|(name, _)| name);
                let mut acquired = vec![];
                for (tenant, epoch) in acquisition.tenants {
                    let lease = self.state.leases.get_mut(&tenant).unwrap();
                    if lease.epoch != epoch || lease.owner != owner {
                        continue;
                    }
                    let handover = lease.handover.take().filter(|(written, _)| *written == history);
                    *lease = Lease {
                        owner: Some(me.clone()),
                        epoch: epoch + 1,
                        handover: None,
                    };
                    if !self.used_epochs.insert((tenant.clone(), history.clone(), epoch + 1)) {
                        self.violations
                            .push(format!("epoch {} of {tenant} acquired twice", epoch + 1));
                    }
                    acquired.push(AcquiredLease {
                        tenant,
                        epoch: epoch + 1,
                        handover: handover.map(|(_, state)| state),
                        moved: Move {
                            at: Timestamp::UNIX_EPOCH,
                            reason: MoveReason::Free,
                        },
                    });
                }
                Progress::Committed(Answer::Acquired(acquired))
            }
            (Request::Release { tenant, .. }, 0) => self.lock(Row::Tenant(tenant), id, true),
            (Request::Release { tenant, fence, state }, _) => {
                if self.is_owned(&tenant, &fence) {
                    let handover = state.map(|state| (self.history(), state));
                    let lease = self.state.leases.get_mut(&tenant).unwrap();
                    (lease.owner, lease.handover) = (None, handover);
                }
                Progress::Committed(Answer::Written)
            }
            (Request::Record { tenant, fence }, 0) if self.statements.fence => {
                let progress = self.lock(Row::Tenant(tenant.clone()), id, false);
                match progress {
                    Progress::Continues if !self.is_owned(&tenant, &fence) => Progress::Committed(Answer::NotOwner),
                    progress => progress,
                }
            }
            (Request::Record { .. }, 0) => Progress::Continues,
            (Request::Record { tenant, fence }, _) => {
                if !self.is_owned(&tenant, &fence) {
                    self.violations
                        .push(format!("record of {tenant} written in epoch {}", fence.epoch));
                }
                Progress::Committed(Answer::Written)
            }
        }
    }

    /// Locks a row exclusively (FOR UPDATE, an UPDATE) or shared (FOR SHARE).
    fn lock(&mut self, row: Row, id: TransactionId, exclusive: bool) -> Progress {
        let is_locked = self.exclusive.get(&row).is_some_and(|holder| *holder != id);
        let is_shared = || {
            self.shared
                .iter()
                .any(|(shared, holder)| *shared == row && *holder != id)
        };
        if is_locked || exclusive && is_shared() {
            return Progress::Waits;
        }
        match exclusive {
            true => drop(self.exclusive.insert(row, id)),
            false => drop(self.shared.insert((row, id))),
        }
        Progress::Continues
    }

    fn unlock(&mut self, id: TransactionId) {
        self.shared.retain(|(_, holder)| *holder != id);
        self.exclusive.retain(|_, holder| *holder != id);
    }

    fn history(&self) -> History {
        format!("7/{:08}", self.timeline).into()
    }

    fn clock(&self, now: Time) -> i64 {
        now as i64 + self.clock_offset
    }

    /// When the current history was first seen. A time in the future, after the clock was set back, is replaced by the current one.
    fn first_seen(&self, now: Time) -> i64 {
        let is_used = self.state.leases.values().any(|lease| lease.epoch > 0);
        let new = if is_used { self.clock(now) } else { 0 };
        let known = self.state.histories.get(&self.history()).copied();
        known.unwrap_or(new).min(self.clock(now))
    }

    fn read(&self, me: &ReplicaName, now: Time) -> Answer {
        let beat_of = |name: &ReplicaName| Some(self.state.replicas.get(name)?.0);
        let lease = |(tenant, lease): (&String, &Lease)| LeaseRow {
            tenant: tenant.clone(),
            owner: lease.owner.clone(),
            epoch: lease.epoch,
            beat: lease.owner.as_ref().and_then(beat_of),
            is_handed_over: lease.owner.is_none()
                && lease
                    .handover
                    .as_ref()
                    .is_some_and(|(written, _)| *written == self.history()),
        };
        let replica = |(name, (beat, tenants)): (&ReplicaName, &(i64, Vec<String>))| ReplicaRow {
            name: name.clone(),
            address: String::new(),
            beat: *beat + i64::from(name == me),
            tenants: tenants.clone(),
            lease: Duration::ZERO,
        };
        Answer::Beat(Beat {
            history: self.history(),
            history_age: Duration::from_micros(
                u64::try_from(self.clock(now) - self.first_seen(now)).unwrap_or_default(),
            ),
            leases: self.state.leases.iter().map(lease).collect(),
            replicas: self.state.replicas.iter().map(replica).collect(),
            pauses: Default::default(),
        })
    }

    fn is_unchanged(&self, acquisition: &Acquisition) -> bool {
        match &acquisition.owner {
            None => true,
            Some((name, beat)) => self.state.replicas.get(name).is_some_and(|row| row.0 == *beat),
        }
    }

    fn is_owned(&self, tenant: &str, fence: &Fence) -> bool {
        let lease = &self.state.leases[tenant];
        lease.owner.as_ref() == Some(&fence.owner) && lease.epoch == fence.epoch && self.history() == fence.history
    }
}
