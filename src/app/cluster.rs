//! The database task of a replica, and the tenants that this replica owns.
//!
//! The rules are in `cluster::machine`. The task here executes its actions one after the other, and acts on its events: it builds the
//! gateway of a tenant that was acquired, hands it over, and routes the RPCs of all other tenants to their owners.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accounts::Accounts;
use super::joining::{self, OtherReplica};
use crate::clock;
use crate::cluster::{Action, Directory, Event, Owner, Replica, ReplicaSettings, TenantLease, handover};
use crate::domain::lease::{AcquiredLease, Beat, Move, MoveReason, ReplicaName, ReplicaRow};
use crate::gateway::Gateway;
use crate::grpc::{PeerEvents, Peers};
use crate::quota::Before;
use crate::store::{LeaseConnection, Store, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::tenant::{self, LastMove, TenantRoute, Tenants};

/// Maximum time for which a handover waits for the calls in progress. The slot of a call that has not ended then is not free for the
/// timeout of the call and a window, so a shorter time costs more than it saves.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval in which a handover looks whether the calls in progress have ended.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
/// The pause before the next attempt to connect to the database.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// The pause before something that failed is read from the database again.
const READ_PAUSE: Duration = Duration::from_millis(500);
/// The pause before the gateway of a tenant is built again, or before the next check whether it can be, after an error of its
/// settings.
const BUILD_PAUSE: Duration = Duration::from_secs(5);
/// Interval of deleting the rows of replicas that ended a day ago.
const CLEAN_INTERVAL: Duration = Duration::from_secs(3600);
/// Maximum interval of saving the state of a quota.
const MAX_SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// What the database task is told.
enum Input {
    /// Another replica owns a tenant, or it is free.
    OwnerChanged {
        tenant: String,
        epoch: i64,
        address: Option<String>,
    },
    /// Another replica has named an epoch.
    EpochSeen { tenant: String, epoch: i64 },
    /// The calls of a tenant that is handed over have ended, or are counted in this state.
    Drained { tenant: String, epoch: i64, state: String },
    /// Whether other replicas can reach this one, or why not.
    Checked(Result<(), String>),
    /// This replica cannot serve a tenant that it owns.
    CannotServe { tenant: String },
    /// The reason why this replica could not serve a tenant is gone.
    CanServe { tenant: String },
    /// Hand over all tenants. The sender is notified when this replica owns none.
    Stop(oneshot::Sender<()>),
}

/// The connection of other parts of the process to the database task. Clones share it.
#[derive(Clone)]
pub(super) struct ClusterHandle {
    shared: Arc<Shared>,
}

struct Shared {
    inputs: mpsc::UnboundedSender<Input>,
    tenants: Tenants,
    /// The leases of this replica, by tenant.
    leases: Mutex<BTreeMap<String, TenantLease>>,
    is_store_unavailable: AtomicBool,
}

/// The parts of the database task.
pub(super) struct ClusterParts {
    pub(super) name: ReplicaName,
    /// The address of this replica for others.
    pub(super) address: Arc<str>,
    pub(super) lease: Duration,
    pub(super) lateness: Duration,
    pub(super) accounts: Accounts,
    pub(super) tenants: Tenants,
    pub(super) store: Store,
    pub(super) peers: Arc<Peers>,
    pub(super) metrics: Arc<Metrics>,
    /// Whether the gateways do their background work. A command that makes a few calls does not.
    pub(super) is_serving: bool,
}

/// The database task.
pub(super) struct ClusterTask {
    parts: ClusterParts,
    machine: Replica,
    directory: Directory,
    connection: Option<LeaseConnection>,
    shared: Arc<Shared>,
    inputs: mpsc::UnboundedReceiver<Input>,
    /// The tenants that this replica owns: how their tasks are told to hand over.
    owned: BTreeMap<String, OwnedTenant>,
    /// The other replicas that beat, as of the last beat. Those of which no beat was seen count as well, for the duration of a lease.
    others: BTreeSet<OtherReplica>,
    join: Join,
    /// The tenants that this replica cannot serve, and when it checks next whether it can.
    unservable: BTreeMap<String, Instant>,
    stopped: Vec<oneshot::Sender<()>>,
    cleaned: Instant,
}

/// Whether this replica has joined the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    /// The next beat begins a check.
    Unchecked,
    /// A check is in progress.
    Checking,
    /// Other replicas can reach this one, as far as it has been seen once.
    Joined,
}

struct OwnedTenant {
    epoch: i64,
    hand_over: CancellationToken,
    /// Why the tenant is handed over, once it is.
    handover_reason: MoveReason,
}

/// Work with the database. It returns the connection and the result.
type Work = Pin<Box<dyn Future<Output = WorkResult> + Send>>;
type WorkResult = (LeaseConnection, Result<Answer, StoreError>);

/// The work in progress.
struct Pending {
    work: Work,
    /// An action that is not confirmed until then is lost. `None`: no action was sent.
    limit: Option<Instant>,
}

enum Answer {
    /// Connected.
    Ready,
    Beat(Beat),
    Acquired(Vec<AcquiredLease>),
    Written,
}

impl Shared {
    fn leases(&self) -> MutexGuard<'_, BTreeMap<String, TenantLease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, input: Input) {
        // Without a task, the process is ending.
        let _ = self.inputs.send(input);
    }
}

impl ClusterHandle {
    /// Hands over all tenants, and waits until this replica owns none, but no longer than the limit.
    pub(super) async fn stop(&self, limit: Duration) {
        let (done, stopped) = oneshot::channel();
        self.shared.send(Input::Stop(done));
        if tokio::time::timeout(limit, stopped).await.is_err() {
            tracing::warn!("handing over the tenants timed out; another replica takes them over after cluster.lease");
        }
    }

    /// Why the store cannot be written, as far as the last beat shows.
    pub(super) fn store_error(&self) -> Option<String> {
        let is_unavailable = self.shared.is_store_unavailable.load(Ordering::Relaxed);
        is_unavailable.then(|| "the leases cannot be renewed: the database does not respond".to_owned())
    }
}

impl PeerEvents for ClusterHandle {
    fn owner_changed(&self, tenant: &str, epoch: i64, address: Option<&str>) {
        self.end_older(tenant, epoch);
        self.shared.send(Input::OwnerChanged {
            tenant: tenant.to_owned(),
            epoch,
            address: address.map(str::to_owned),
        });
    }

    fn epoch_seen(&self, tenant: &str, epoch: i64) {
        if self.end_older(tenant, epoch) {
            self.shared.send(Input::EpochSeen {
                tenant: tenant.to_owned(),
                epoch,
            });
        }
    }

    fn is_store_unavailable(&self) -> bool {
        self.shared.is_store_unavailable.load(Ordering::Relaxed)
    }
}

impl ClusterHandle {
    /// Ends a lease of this replica with a lower epoch, before anything else is sent. Returns whether there was one.
    fn end_older(&self, tenant: &str, epoch: i64) -> bool {
        {
            let mut leases = self.shared.leases();
            match leases.get(tenant) {
                Some(lease) if lease.epoch() < epoch => lease.end(),
                _ => return false,
            }
            leases.remove(tenant);
        }
        if let Some(tenant) = self.shared.tenants.named(tenant) {
            tenant.set_route(TenantRoute::Unknown);
        }
        true
    }
}

impl ClusterTask {
    /// Makes the task. `connection` is used by nothing else.
    pub(super) fn new(parts: ClusterParts, connection: LeaseConnection) -> (Self, ClusterHandle) {
        let (inputs, received) = mpsc::unbounded_channel();
        let now = Instant::now();
        let settings = ReplicaSettings {
            name: parts.name.clone(),
            tenants: parts.accounts.names(),
            lease: parts.lease,
            lateness: parts.lateness,
        };
        let shared = Arc::new(Shared {
            inputs,
            tenants: parts.tenants.clone(),
            leases: Mutex::default(),
            is_store_unavailable: AtomicBool::new(false),
        });
        for tenant in parts.accounts.names() {
            parts.metrics.set_owned(&tenant, false);
        }
        parts.metrics.set_replicas(1);
        let mut machine = Replica::new(settings, now);
        // A command serves nobody, so no replica has to reach it.
        let join = if parts.is_serving {
            Join::Unchecked
        } else {
            Join::Joined
        };
        machine.set_may_acquire(join == Join::Joined, now);
        let task = Self {
            parts,
            machine,
            directory: Directory::default(),
            connection: Some(connection),
            shared: shared.clone(),
            inputs: received,
            owned: BTreeMap::new(),
            others: BTreeSet::new(),
            join,
            unservable: BTreeMap::new(),
            stopped: Vec::new(),
            cleaned: now,
        };
        (task, ClusterHandle { shared })
    }

    /// Runs until `end`.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let mut pending: Option<Pending> = None;
        // While the database cannot be reached: when to connect again.
        let mut connect_at: Option<Instant> = None;
        loop {
            if pending.is_none() && connect_at.is_none_or(|at| at <= Instant::now()) {
                pending = self.begin();
            }
            let until = match &pending {
                Some(pending) => pending.limit,
                None => connect_at.or_else(|| Some(self.machine.wake_at(Instant::now()))),
            };
            let answered = async {
                match &mut pending {
                    Some(pending) => pending.work.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            let passed = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let events = tokio::select! {
                () = end.cancelled() => break,
                (connection, answer) = answered => {
                    pending = None;
                    let is_connected = connection.is_connected();
                    connect_at = (!is_connected).then(|| Instant::now() + CONNECT_PAUSE);
                    self.connection = Some(connection);
                    self.answered(answer)
                }
                Some(input) = self.inputs.recv() => self.told(input),
                () = passed => match pending.take() {
                    // An answer that comes later is never used: the connection is closed with the action.
                    Some(_) => {
                        self.set_store_unavailable(true);
                        self.machine.lost(Instant::now())
                    }
                    None => Vec::new(),
                },
            };
            self.act(events);
            self.update_routes();
            if self.machine.owns_nothing() {
                for stopped in self.stopped.drain(..) {
                    let _ = stopped.send(());
                }
            }
        }
        if let Some(mut connection) = self.connection.take() {
            if let Err(error) = connection.leave().await {
                tracing::debug!(%error, "deleting the row of this replica failed");
            }
            connection.close().await;
        }
    }

    /// Begins the next work, if there is any: to connect, or the next action.
    fn begin(&mut self) -> Option<Pending> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self
                .parts
                .store
                .lease_connection(self.parts.name.clone(), self.parts.lease)?,
        };
        let is_cleaning = self.cleaned.elapsed() >= CLEAN_INTERVAL;
        // The time of a beat begins when it is sent, so no action connects.
        if !connection.is_connected() || is_cleaning {
            if is_cleaning {
                self.cleaned = Instant::now();
            }
            return Some(Pending {
                work: Box::pin(prepare(connection, is_cleaning)),
                limit: None,
            });
        }
        self.begin_action(connection)
    }

    fn begin_action(&mut self, mut connection: LeaseConnection) -> Option<Pending> {
        let now = Instant::now();
        let Some(action) = self.machine.next_action(now) else {
            self.connection = Some(connection);
            return None;
        };
        let address = self.parts.address.clone();
        let reason = match &action {
            Action::Handover { tenant, .. } => self.handover_reason(tenant),
            _ => MoveReason::Requested,
        };
        let work = Box::pin(async move {
            let answer = match action {
                Action::Beat { tenants } => connection.beat(&address, &tenants).await.map(Answer::Beat),
                // Each beat adds the missing rows of owners.
                Action::AddReplica { .. } => Ok(Answer::Written),
                Action::Acquire(acquisition) => connection.acquire(&acquisition).await.map(Answer::Acquired),
                Action::Reset { tenant, fence } => connection
                    .reset(&tenant, fence.epoch, &fence.history)
                    .await
                    .map(|_| Answer::Written),
                Action::Handover { tenant, fence, state } => connection
                    .hand_over(&tenant, fence.epoch, &fence.history, &state, reason)
                    .await
                    .map(|_| Answer::Written),
            };
            (connection, answer)
        });
        Some(Pending {
            work,
            limit: Some(now + self.machine.answer_limit()),
        })
    }

    fn answered(&mut self, answer: Result<Answer, StoreError>) -> Vec<Event> {
        let now = Instant::now();
        if !matches!(answer, Ok(Answer::Ready)) {
            self.set_store_unavailable(answer.is_err());
        }
        match answer {
            Ok(Answer::Ready) => Vec::new(),
            Ok(Answer::Beat(beat)) => {
                self.directory.beat(&beat);
                self.parts.tenants.pauses().replace(beat.pauses.clone());
                let events = self.machine.beat_confirmed(now, &beat);
                let others = beat.replicas.iter().filter(|row| row.name != self.parts.name);
                // A replica without tenants is stopping, has ended, or has not joined.
                let others = others.filter(|row| !row.address.is_empty() && !row.tenants.is_empty());
                let others = others.filter(|row| !self.machine.is_silent(&row.name, now));
                let other = |row: &ReplicaRow| OtherReplica {
                    address: row.address.as_str().into(),
                    name: row.name.clone(),
                };
                self.others = others.map(other).collect();
                self.check_join();
                self.check_unservable(now);
                self.set_replicas(self.machine.alive(now));
                events
            }
            Ok(Answer::Acquired(leases)) => self.machine.acquired(now, leases),
            Ok(Answer::Written) => self.machine.written(now),
            Err(error) => {
                tracing::debug!(%error, "an action of the leases failed");
                self.machine.lost(now)
            }
        }
    }

    fn told(&mut self, input: Input) -> Vec<Event> {
        let now = Instant::now();
        match input {
            Input::OwnerChanged { tenant, epoch, address } => {
                match address {
                    Some(address) => {
                        let name = address.as_str().into();
                        self.directory.owned_by(&tenant, Owner { name, address, epoch });
                    }
                    None => {
                        self.directory.released(&tenant, epoch);
                        self.machine.look_at_once(now);
                    }
                }
                self.machine.epoch_seen(&tenant, epoch)
            }
            Input::EpochSeen { tenant, epoch } => self.machine.epoch_seen(&tenant, epoch),
            Input::Drained { tenant, epoch, state } => {
                self.machine.drained(&tenant, epoch, state);
                Vec::new()
            }
            Input::Checked(checked) => {
                self.checked(checked, now);
                Vec::new()
            }
            Input::CannotServe { tenant } => {
                let events = self.machine.set_can_serve(&tenant, false, now);
                self.unservable.insert(tenant, now + BUILD_PAUSE);
                events
            }
            Input::CanServe { tenant } => {
                tracing::info!(tenant, "the tenant can be served by this replica again");
                self.unservable.remove(&tenant);
                self.machine.set_can_serve(&tenant, true, now)
            }
            Input::Stop(done) => {
                self.stopped.push(done);
                self.machine.stop(now)
            }
        }
    }

    /// Begins a check whether other replicas can reach this one, until one has succeeded.
    fn check_join(&mut self) {
        if self.join != Join::Unchecked {
            return;
        }
        self.join = Join::Checking;
        let (peers, me, address) = (
            self.parts.peers.clone(),
            self.parts.name.clone(),
            self.parts.address.clone(),
        );
        let others: Vec<OtherReplica> = self.others.iter().cloned().collect();
        let shared = self.shared.clone();
        self.parts.accounts.spawn(async move {
            let checked = joining::check(peers, &me, &address, others).await;
            shared.send(Input::Checked(checked));
        });
    }

    /// Checks from time to time whether this replica can serve the tenants that it could not serve: the files of their settings may
    /// have changed.
    fn check_unservable(&mut self, now: Instant) {
        for (tenant, check_at) in self.unservable.iter_mut().filter(|(_, check_at)| **check_at <= now) {
            *check_at = now + BUILD_PAUSE;
            let (accounts, shared, tenant) = (self.parts.accounts.clone(), self.shared.clone(), tenant.clone());
            // In a task of its own, since a file may block.
            self.parts.accounts.spawn(async move {
                if accounts.check(&tenant).is_ok() {
                    shared.send(Input::CanServe { tenant });
                }
            });
        }
    }

    fn checked(&mut self, checked: Result<(), String>, now: Instant) {
        let problem = checked.err();
        let membership = self.parts.tenants.membership();
        let before = membership.and_then(|membership| membership.set_problem(problem.clone()));
        let Some(reason) = problem else {
            self.join = Join::Joined;
            tracing::info!(replicas = self.others.len() + 1, "joined the cluster");
            self.machine.set_may_acquire(true, now);
            return;
        };
        self.join = Join::Unchecked;
        if before.as_ref() != Some(&reason) {
            tracing::error!(
                reason,
                "not ready: this replica acquires no tenants, because others cannot reach it"
            );
        }
    }

    fn act(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Acquired {
                    tenant,
                    lease,
                    handover,
                    moved,
                } => self.acquired(tenant, lease, handover, moved),
                Event::StartHandover { tenant, epoch, reason } => self.start_handover(&tenant, epoch, reason),
                Event::HandedOver { tenant, epoch } => {
                    let reason = self.handover_reason(&tenant);
                    tracing::info!(tenant, epoch, reason = reason.name(), "tenant handed over");
                    self.moved_from(&tenant, epoch, reason);
                    self.directory.released(&tenant, epoch);
                    self.forget(&tenant, epoch);
                    self.announce(&tenant, epoch, None);
                }
                Event::Lost { tenant, epoch, reason } => {
                    tracing::warn!(tenant, epoch, reason = reason.name(), "tenant lost");
                    self.moved_from(&tenant, epoch, reason);
                    self.forget(&tenant, epoch);
                }
            }
        }
    }

    fn acquired(&mut self, tenant: String, lease: TenantLease, handover: Option<String>, moved: Move) {
        let (epoch, reason) = (lease.epoch(), moved.reason.name());
        match (moved.reason, self.directory.owner(&tenant)) {
            (MoveReason::Takeover, former) => {
                let former_owner = former.map(|owner| owner.address.clone());
                tracing::warn!(tenant, epoch, reason, former_owner, "tenant acquired");
            }
            _ => tracing::info!(tenant, epoch, reason, "tenant acquired"),
        }
        self.parts.metrics.set_owned(&tenant, true);
        let is_acquisition = true;
        self.moved(
            &tenant,
            LastMove {
                is_acquisition,
                epoch,
                moved,
            },
        );
        let owner = Owner {
            name: self.parts.name.clone(),
            address: self.parts.address.to_string(),
            epoch,
        };
        self.directory.owned_by(&tenant, owner);
        self.shared.leases().insert(tenant.clone(), lease.clone());
        let hand_over = CancellationToken::new();
        self.owned.insert(
            tenant.clone(),
            OwnedTenant {
                epoch,
                hand_over: hand_over.clone(),
                handover_reason: MoveReason::Requested,
            },
        );
        let address = self.parts.address.clone();
        self.announce(&tenant, epoch, Some(&address));
        let run = OwnedRun {
            tenant,
            lease,
            handover,
            hand_over,
            accounts: self.parts.accounts.clone(),
            tenants: self.parts.tenants.clone(),
            store: self.parts.store.clone(),
            duration: self.parts.lease,
            lateness: self.parts.lateness,
            shared: self.shared.clone(),
            is_serving: self.parts.is_serving,
        };
        self.parts.accounts.spawn(run.run());
    }

    fn start_handover(&mut self, tenant: &str, epoch: i64, reason: MoveReason) {
        tracing::info!(tenant, epoch, reason = reason.name(), "tenant handover started");
        match self.owned.get_mut(tenant).filter(|owned| owned.epoch == epoch) {
            Some(owned) => {
                owned.handover_reason = reason;
                owned.hand_over.cancel();
            }
            // Does not happen: the task of the tenant began when it was acquired.
            None => self.shared.send(Input::Drained {
                tenant: tenant.to_owned(),
                epoch,
                state: String::new(),
            }),
        }
    }

    fn handover_reason(&self, tenant: &str) -> MoveReason {
        let owned = self.owned.get(tenant);
        owned.map_or(MoveReason::Requested, |owned| owned.handover_reason)
    }

    /// Records the move of a tenant for callers and operators.
    fn moved(&self, tenant: &str, last_move: LastMove) {
        self.parts.metrics.tenant_moved(tenant, last_move.moved.reason.name());
        if let Some(tenant) = self.parts.tenants.named(tenant) {
            tenant.set_last_move(last_move);
        }
    }

    fn moved_from(&self, tenant: &str, epoch: i64, reason: MoveReason) {
        self.parts.metrics.set_owned(tenant, false);
        let last_move = LastMove {
            is_acquisition: false,
            epoch,
            moved: Move {
                at: clock::now(),
                reason,
            },
        };
        self.moved(tenant, last_move);
    }

    fn set_replicas(&self, count: usize) {
        self.parts.metrics.set_replicas(count);
        if let Some(membership) = self.parts.tenants.membership() {
            membership.set_replicas(count);
        }
    }

    fn forget(&mut self, tenant: &str, epoch: i64) {
        if self.owned.get(tenant).is_some_and(|owned| owned.epoch == epoch) {
            self.owned.remove(tenant);
        }
        let mut leases = self.shared.leases();
        if leases.get(tenant).is_some_and(|lease| lease.epoch() == epoch) {
            leases.remove(tenant);
        }
    }

    fn announce(&self, tenant: &str, epoch: i64, owner: Option<&str>) {
        let peers = self.parts.peers.clone();
        let addresses: Vec<Arc<str>> = self.others.iter().map(|other| other.address.clone()).collect();
        let (tenant, owner) = (tenant.to_owned(), owner.map(str::to_owned));
        self.parts.accounts.spawn(async move {
            peers.announce(addresses, &tenant, epoch, owner.as_deref()).await;
        });
    }

    /// Routes the RPCs of the tenants that this replica does not own. The task of an owned tenant routes its own.
    fn update_routes(&self) {
        for tenant in self.parts.tenants.iter() {
            if self.owned.contains_key(tenant.name()) {
                continue;
            }
            let owner = self.directory.owner(tenant.name());
            let route = match owner.filter(|owner| *owner.address != *self.parts.address) {
                Some(owner) => TenantRoute::Replica(tenant::Owner {
                    address: owner.address.as_str().into(),
                    epoch: owner.epoch,
                }),
                None => TenantRoute::Unknown,
            };
            tenant.change_route(route);
        }
    }

    fn set_store_unavailable(&self, is_unavailable: bool) {
        let before = self.shared.is_store_unavailable.swap(is_unavailable, Ordering::Relaxed);
        match (before, is_unavailable) {
            (false, true) => tracing::error!("the leases cannot be renewed: the database does not respond"),
            (true, false) => tracing::info!("the leases are renewed again"),
            _ => {}
        }
    }
}

/// Connects, and deletes the rows of ended replicas from time to time.
async fn prepare(mut connection: LeaseConnection, is_cleaning: bool) -> WorkResult {
    if let Err(error) = connection.connect().await {
        return (connection, Err(error));
    }
    if is_cleaning && let Err(error) = connection.delete_old_replicas().await {
        tracing::warn!(%error, "deleting the rows of ended replicas failed");
    }
    (connection, Ok(Answer::Ready))
}

/// A tenant that this replica owns, from its acquisition to the end of its lease.
struct OwnedRun {
    tenant: String,
    lease: TenantLease,
    handover: Option<String>,
    /// Cancelled when the tenant is to be handed over.
    hand_over: CancellationToken,
    accounts: Accounts,
    tenants: Tenants,
    store: Store,
    duration: Duration,
    lateness: Duration,
    shared: Arc<Shared>,
    is_serving: bool,
}

impl OwnedRun {
    async fn run(self) {
        let ended = self.lease.ended().clone();
        let stop = CancellationToken::new();
        let gateway = tokio::select! {
            gateway = self.build(&stop) => gateway,
            () = ended.cancelled() => return,
            // Nothing was granted, so the state of the former owner still holds.
            () = self.hand_over.cancelled() => return self.drained(self.handover.clone().unwrap_or_default()),
        };
        if let Some(tenant) = self.tenants.named(&self.tenant)
            && !ended.is_cancelled()
        {
            tenant.set_route(TenantRoute::Here(gateway.clone()));
        }
        let serve = async {
            if self.is_serving {
                self.accounts.start(&self.tenant, &gateway);
                self.continue_shares(&gateway).await;
            }
            self.save_states(&gateway).await;
        };
        tokio::select! {
            () = ended.cancelled() => {}
            () = serve => {}
            () = self.hand_over.cancelled() => self.drain(&gateway).await,
        }
        ended.cancelled().await;
        self.leave(&gateway);
        stop.cancel();
    }

    /// Builds the gateway. Repeats it after an error, since files of the settings may change.
    async fn build(&self, stop: &CancellationToken) -> Arc<Gateway> {
        let store = self.store.fenced(self.lease.clone());
        let handed_over = self.handover.as_deref().and_then(handover::from_json);
        let saved = match handed_over {
            Some(_) => None,
            None => self.saved_state().await,
        };
        let before = match &handed_over {
            Some(handover) => Before::Handover(handover),
            None => Before::NoHandover {
                saved: saved.as_ref(),
                lease: self.duration,
                lateness: self.lateness,
            },
        };
        loop {
            let built = self
                .accounts
                .build(&self.tenant, &store, before, self.lease.clone(), stop.clone());
            match built {
                Ok(gateway) => {
                    self.hold_earlier_mutations(&gateway, &store).await;
                    return gateway;
                }
                Err(error) => {
                    tracing::error!(
                        tenant = self.tenant,
                        error,
                        "the tenant cannot be served by this replica"
                    );
                    // Another replica may have a different problem, or none.
                    let tenant = self.tenant.clone();
                    self.shared.send(Input::CannotServe { tenant });
                    tokio::time::sleep(BUILD_PAUSE).await;
                }
            }
        }
    }

    /// Repeats it until the database responds: no write may be sent before.
    async fn hold_earlier_mutations(&self, gateway: &Gateway, store: &Store) {
        loop {
            match gateway.hold_earlier_mutations(&self.tenant, store).await {
                Ok(0) => return,
                Ok(mutations) => {
                    let tenant = &self.tenant;
                    tracing::info!(tenant, mutations, "waiting for the mutations of an earlier owner");
                    return;
                }
                Err(error) => {
                    tracing::warn!(tenant = self.tenant, %error, "reading the mutations of an earlier owner failed");
                    tokio::time::sleep(READ_PAUSE).await;
                }
            }
        }
    }

    /// Reads the state that the former owner saved, until it succeeds.
    async fn saved_state(&self) -> Option<crate::domain::handover::Handover> {
        loop {
            match self.store.quota_state(&self.tenant).await {
                Ok(state) => return handover::from_json(&state?),
                Err(error) => {
                    tracing::warn!(tenant = self.tenant, %error, "reading the state of the quota failed; retrying");
                    tokio::time::sleep(READ_PAUSE).await;
                }
            }
        }
    }

    /// Continues the shares in progress. Repeats it after an error.
    async fn continue_shares(&self, gateway: &Gateway) {
        while let Err(error) = self.accounts.continue_shares(&self.tenant, gateway).await {
            tracing::error!(tenant = self.tenant, error, "continuing the shares failed; retrying");
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    /// Saves the state of the quota in each window, so that the next owner knows it after a crash. Never returns.
    async fn save_states(&self, gateway: &Gateway) {
        let store = self.store.fenced(self.lease.clone());
        let window = gateway.quota().calls.limit.per;
        let interval = window.clamp(Duration::from_secs(1), MAX_SAVE_INTERVAL);
        let mut saved = String::new();
        loop {
            tokio::time::sleep(interval).await;
            let state = handover::to_json(&gateway.handover());
            if state == saved {
                continue;
            }
            match store.save_quota_state(&self.tenant, &state).await {
                Ok(()) => saved = state,
                Err(error) => tracing::debug!(tenant = self.tenant, %error, "saving the state of the quota failed"),
            }
        }
    }

    /// Stops granting, waits for the calls in progress, and passes on the state of the quota.
    async fn drain(&self, gateway: &Gateway) {
        self.leave(gateway);
        gateway.stop_granting();
        let idle = async {
            while gateway.calls_in_progress() > 0 {
                tokio::time::sleep(DRAIN_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, idle).await;
        self.drained(handover::to_json(&gateway.handover()));
    }

    fn drained(&self, state: String) {
        self.shared.send(Input::Drained {
            tenant: self.tenant.clone(),
            epoch: self.lease.epoch(),
            state,
        });
    }

    /// Routes no more RPCs to the gateway.
    fn leave(&self, gateway: &Gateway) {
        if let Some(tenant) = self.tenants.named(&self.tenant)
            && tenant.gateway().is_some_and(|current| std::ptr::eq(&*current, gateway))
        {
            tenant.set_route(TenantRoute::Unknown);
        }
    }
}
