//! The rules of the lease: what the database task of a replica does next, and for which tenants the replica is the owner. Pure,
//! with `now` as an argument: the monotonic time of this machine. Times of two machines are never compared.
//!
//! The database task is a loop: [`Replica::next_action`], execute it within [`Replica::answer_limit`], report the result. Only one
//! action is pending at a time. An action without a confirmed commit is reported as [`Replica::lost`], and an answer that arrives
//! later is never used. Each method returns the events that its caller has to act on.
//!
//! Why two replicas never own a tenant at the same time: a beat that is confirmed makes the lease valid until 0.9 leases after the
//! beat was *sent*. A challenger takes the lease only after it has seen the beat unchanged for a whole lease *after* it was
//! committed, and only if the beat is unchanged in the same statement. A later beat of the owner commits before that, and the
//! acquisition fails; or it commits after that, and shows the owner that the lease was taken.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::balance::Peers;
use super::lease::TenantLease;
use crate::domain::lease::{AcquiredLease, Acquisition, Beat, Fence, History, LeaseRow, Move, MoveReason, ReplicaName};

/// For how long a replica that has handed over a tenant does not acquire it.
const ABSTENTION: Duration = Duration::from_secs(5);
/// Minimum time for which a replica owns a tenant before it hands the tenant to a better owner.
const MIN_OWNED: Duration = Duration::from_secs(60);
/// Number of beats for which a replica that is not preferred leaves a tenant to the preferred one.
const DEFERRED_BEATS: u32 = 2;

/// Minimum time between two actions if the first one fails at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The settings of a replica.
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// The name of this run of the process.
    pub name: ReplicaName,
    /// The tenants in the settings.
    pub tenants: Vec<String>,
    /// The duration of a lease.
    pub lease: Duration,
    /// `cluster.lateness`.
    pub lateness: Duration,
}

impl ReplicaSettings {
    /// Time between two beats.
    pub fn beat_interval(&self) -> Duration {
        (self.lease / 5).clamp(Duration::from_millis(500), Duration::from_secs(1))
    }

    /// An action that is not confirmed within this time counts as lost.
    pub fn answer_limit(&self) -> Duration {
        self.lease / 5
    }

    /// How long a lease is valid after a beat was sent.
    fn validity(&self) -> Duration {
        self.lease * 9 / 10
    }
}

/// What the database task does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Increment the beat of this replica, then read all leases in a second statement.
    Beat {
        /// The tenants to write to the row of this replica: those that it can serve. Empty while it acquires none, so that no replica
        /// waits for it.
        tenants: Vec<String>,
    },
    /// Add a row with beat 0 for a replica that owns a tenant and has no row. Its beat is then watched.
    AddReplica {
        /// The name of that replica.
        name: ReplicaName,
    },
    /// Acquire leases.
    Acquire(Acquisition),
    /// Write a lease free without a handover, if it still has this owner and epoch in this history.
    Reset {
        /// The tenant.
        tenant: String,
        /// This replica, the epoch and the current history.
        fence: Fence,
    },
    /// Write a lease free with the state of the quota, if it still has this owner and epoch in this history.
    Handover {
        /// The tenant.
        tenant: String,
        /// This replica, the epoch and the history of the lease.
        fence: Fence,
        /// The state of the quota as JSON.
        state: String,
    },
}

/// What has changed for a tenant.
#[derive(Clone, Debug)]
pub enum Event {
    /// This replica is the owner from now on. All replicas are to be told.
    Acquired {
        /// The tenant.
        tenant: String,
        /// The lease. It has the epoch and the fence.
        lease: TenantLease,
        /// The state that the former owner handed over in this history, as JSON. `None`: all windows count as full for the
        /// window, the margin and `cluster.lateness`.
        handover: Option<String>,
        /// When and why.
        moved: Move,
    },
    /// Stop granting slots. Then wait for the calls in progress and their results, one second at most, and pass the state of the
    /// quota to [`Replica::drained`].
    StartHandover {
        /// The tenant.
        tenant: String,
        /// The epoch of the lease.
        epoch: i64,
        /// Why.
        reason: MoveReason,
    },
    /// The tenant is free, and no call of the epoch is sent any more. All replicas are to be told, and beat at once.
    HandedOver {
        /// The tenant.
        tenant: String,
        /// The epoch of the lease.
        epoch: i64,
    },
    /// This replica is not the owner any more. Everything of the tenant is dropped; calls that were not sent go to the next owner.
    Lost {
        /// The tenant.
        tenant: String,
        /// The epoch of the lease.
        epoch: i64,
        /// Why.
        reason: MoveReason,
    },
}

/// A rule of the lease that tests can switch off, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// The validity of a lease counts from the request, not from the answer.
    ValidFromRequest,
    /// A lease that has lapsed is not resumed in another history.
    NotResumedInOtherHistory,
    /// A lease in the name of this replica that it does not hold is reset, not resumed.
    Reset,
    /// A lease that is taken is watched for a whole lease.
    Watch,
    /// Nothing is acquired for one lease after a new history was seen.
    Grace,
    /// An epoch is not used again after its handover was sent.
    ReleasedForEver,
}

/// The leases of one replica.
#[derive(Debug)]
pub struct Replica {
    settings: ReplicaSettings,
    tenants: BTreeMap<String, Tenant>,
    history: Option<SeenHistory>,
    peers: Peers,
    pending: Option<Pending>,
    beat_due: Instant,
    /// Whether the last action was a beat that was confirmed. Then other actions go first.
    has_beaten: bool,
    /// Whether an action was lost since the last beat that was confirmed. Then a beat goes first.
    has_lost: bool,
    /// Whether the lost action was an acquisition, so that a lease may be in the name of this replica.
    may_own_more: bool,
    is_stopping: bool,
    /// Whether this replica acquires tenants. It keeps those that it owns.
    may_acquire: bool,
    #[cfg(test)]
    broken: std::collections::HashSet<Rule>,
}

#[derive(Debug)]
struct Pending {
    action: Action,
    sent: Instant,
}

/// The history of the database that the last beat showed.
#[derive(Debug)]
struct SeenHistory {
    id: History,
    /// Until then nothing is acquired: by this replica's clock, and by the age that the database told.
    grace_until: Instant,
    old_enough_from: Instant,
}

/// What a replica knows about one of its tenants.
#[derive(Debug)]
struct Tenant {
    role: Role,
    /// The lease of another owner, or a free one. `None`: not seen.
    watched: Option<Watched>,
    /// An epoch in the name of this replica that it does not hold.
    reset: Option<i64>,
    /// The replica that prefers the tenant, as of the last beat.
    preferred: ReplicaName,
    /// Until when the tenant is left to others, after a handover.
    abstains_until: Option<Instant>,
    /// Whether this replica can serve the tenant, as far as it knows.
    can_serve: bool,
}

#[derive(Debug)]
enum Role {
    /// This replica is not the owner.
    NotOwner,
    /// This replica is the owner.
    Owner(Owned),
    /// The quota grants nothing more, and the calls in progress end.
    Draining(Owned),
    /// The handover is sent until it is answered. The epoch is not used any more.
    HandingOver { fence: Fence, state: String },
}

#[derive(Debug)]
struct Owned {
    lease: TenantLease,
    acquired: Instant,
}

/// A lease that this replica may acquire, and since when it is unchanged.
#[derive(Debug)]
struct Watched {
    owner: Option<ReplicaName>,
    epoch: i64,
    beat: Option<i64>,
    history: History,
    /// Whether the last owner handed the tenant over in this history.
    is_handed_over: bool,
    /// The longer one of the leases of its owner and of this replica.
    lease: Duration,
    /// When the answer that first showed it arrived.
    since: Instant,
    /// When the last answer arrived.
    looked: Instant,
    /// Number of answers.
    looks: u32,
    /// Whether nothing was attempted since the last answer.
    is_fresh: bool,
}

impl Replica {
    /// A replica that has not beaten yet.
    pub fn new(settings: ReplicaSettings, now: Instant) -> Self {
        let tenants = settings.tenants.iter();
        let tenants = tenants.map(|name| (name.clone(), Tenant::new(settings.name.clone())));
        Self {
            tenants: tenants.collect(),
            settings,
            history: None,
            peers: Peers::default(),
            pending: None,
            beat_due: now,
            has_beaten: false,
            has_lost: false,
            may_own_more: false,
            is_stopping: false,
            may_acquire: true,
            #[cfg(test)]
            broken: std::collections::HashSet::new(),
        }
    }

    /// A replica that breaks some rules.
    #[cfg(test)]
    pub(super) fn breaking(settings: ReplicaSettings, broken: &[Rule], now: Instant) -> Self {
        let mut replica = Self::new(settings, now);
        replica.broken = broken.iter().copied().collect();
        replica
    }

    /// An action that is not confirmed within this time counts as lost.
    pub fn answer_limit(&self) -> Duration {
        self.settings.answer_limit()
    }

    /// The next action, to be executed at once. `None`: an action is pending, or there is nothing to do before
    /// [`Replica::wake_at`]. To be called right before the action is sent: the validity of a lease counts from `now`.
    pub fn next_action(&mut self, now: Instant) -> Option<Action> {
        if self.pending.is_some() {
            return None;
        }
        let is_due = self.beat_due <= now;
        let action = match self.has_lost || is_due && !self.has_beaten {
            true => None,
            false => self.next_write(now),
        };
        let action = action.or_else(|| is_due.then(|| self.next_beat()))?;
        self.has_beaten = false;
        let is_beat = matches!(action, Action::Beat { .. });
        if is_beat {
            self.beat_due = now + self.settings.beat_interval();
        }
        self.pending = Some(Pending {
            action: action.clone(),
            sent: now,
        });
        Some(action)
    }

    /// When to call [`Replica::next_action`] again if nothing changes before.
    pub fn wake_at(&self, now: Instant) -> Instant {
        let tenants = self.tenants.iter();
        let ready = tenants.filter_map(|(_, tenant)| self.acquirable_from(tenant, now));
        ready.filter(|at| *at > now).fold(self.beat_due, Instant::min)
    }

    /// A beat was confirmed.
    #[must_use]
    pub fn beat_confirmed(&mut self, now: Instant, beat: &Beat) -> Vec<Event> {
        let Some(sent) = self.answered(now, |action| matches!(action, Action::Beat { .. })) else {
            return self.lost(now);
        };
        self.has_beaten = true;
        (self.has_lost, self.may_own_more) = (false, false);
        self.see_history(beat, now);
        self.peers.update(beat, self.silence(), now);
        let mut events = Vec::new();
        let rows: HashMap<&str, &LeaseRow> = beat.leases.iter().map(|row| (row.tenant.as_str(), row)).collect();
        let names: Vec<String> = self.tenants.keys().cloned().collect();
        for name in &names {
            let preferred = self.peers.preferred(name, &self.settings.name, self.silence(), now);
            if let Some(tenant) = self.tenants.get_mut(name) {
                tenant.preferred = preferred;
            }
            self.see_lease(name, rows.get(name.as_str()).copied(), beat, sent, now, &mut events);
        }
        for name in &names {
            self.balance(name, now, &mut events);
        }
        events
    }

    /// An acquisition was confirmed, for these tenants.
    #[must_use]
    pub fn acquired(&mut self, now: Instant, leases: Vec<AcquiredLease>) -> Vec<Event> {
        let history = match &self.pending {
            Some(Pending {
                action: Action::Acquire(acquisition),
                ..
            }) => acquisition.history.clone(),
            _ => return self.lost(now),
        };
        let Some(sent) = self.answered(now, |_| true) else {
            return self.lost(now);
        };
        self.beat_due = now;
        let mut events = Vec::new();
        for AcquiredLease {
            tenant,
            epoch,
            handover,
            moved,
        } in leases
        {
            let fence = self.fence(epoch, history.clone());
            let valid_until = self.valid_from(sent, now) + self.settings.validity();
            let Some(state) = self.tenants.get_mut(&tenant) else {
                continue;
            };
            let lease = TenantLease::new(fence, self.settings.lateness, now, valid_until);
            state.role = Role::Owner(Owned {
                lease: lease.clone(),
                acquired: now,
            });
            state.watched = None;
            events.push(Event::Acquired {
                tenant: tenant.clone(),
                lease,
                handover,
                moved,
            });
            if self.is_stopping {
                self.start_handover(&tenant, MoveReason::Shutdown, &mut events);
            }
        }
        events
    }

    /// A reset, a handover or the row of a replica was confirmed, whether or not the statement has changed a row.
    #[must_use]
    pub fn written(&mut self, now: Instant) -> Vec<Event> {
        let Some(pending) = self.pending.take_if(|pending| self.settings.is_in_time(pending, now)) else {
            return self.lost(now);
        };
        match pending.action {
            Action::Handover { tenant, fence, .. } => {
                let events = self.handed_over(&tenant, fence.epoch, now);
                // The next handover goes first, so that many of them need no beat each.
                let is_handing_over = |tenant: &Tenant| matches!(tenant.role, Role::HandingOver { .. });
                if !self.tenants.values().any(is_handing_over) {
                    self.beat_due = now;
                }
                events
            }
            Action::Reset { tenant, .. } => {
                self.beat_due = now;
                if let Some(tenant) = self.tenants.get_mut(&tenant) {
                    tenant.reset = None;
                }
                Vec::new()
            }
            _ => {
                self.beat_due = now;
                Vec::new()
            }
        }
    }

    /// The pending action failed, or it was not confirmed within the limit: it may have been executed, or may be executed later.
    pub fn lost(&mut self, now: Instant) -> Vec<Event> {
        let Some(pending) = self.pending.take() else {
            return Vec::new();
        };
        self.beat_due = now.max(pending.sent + PAUSE);
        self.has_lost = true;
        self.may_own_more |= matches!(pending.action, Action::Acquire(_));
        if !self.obeys(Rule::ReleasedForEver)
            && let Action::Handover { tenant, fence, .. } = pending.action
        {
            return self.resume(&tenant, fence, now + self.settings.validity(), now);
        }
        Vec::new()
    }

    /// Starts the handover of a tenant, if this replica is the owner.
    #[must_use]
    pub fn request_handover(&mut self, tenant: &str) -> Vec<Event> {
        let mut events = Vec::new();
        self.start_handover(tenant, MoveReason::Requested, &mut events);
        events
    }

    /// The quota of a tenant grants nothing more, and its calls have ended or are counted in this state. From now on no call of
    /// the epoch is sent.
    pub fn drained(&mut self, tenant: &str, epoch: i64, state: String) {
        let Some(tenant) = self.tenants.get_mut(tenant) else {
            return;
        };
        if let Role::Draining(owned) = &tenant.role
            && owned.lease.epoch() == epoch
            && let Some(fence) = owned.lease.fence()
        {
            owned.lease.end();
            tenant.role = Role::HandingOver {
                fence: (*fence).clone(),
                state,
            };
        }
    }

    /// Another replica has named an epoch of a tenant.
    #[must_use]
    pub fn epoch_seen(&mut self, tenant: &str, epoch: i64) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(state) = self.tenants.get_mut(tenant)
            && state.owned().is_some_and(|owned| owned.lease.epoch() < epoch)
        {
            state.lose(tenant, MoveReason::HigherEpoch, &mut events);
        }
        events
    }

    /// A tenant may be free: the next beat is due at once.
    pub fn look_at_once(&mut self, now: Instant) {
        self.beat_due = self.beat_due.min(now);
    }

    /// Whether this replica acquires tenants from now on. While it does not, it names no tenants, so that no replica leaves one to it.
    pub fn set_may_acquire(&mut self, may_acquire: bool, now: Instant) {
        self.may_acquire = may_acquire;
        self.look_at_once(now);
    }

    /// Whether this replica can serve a tenant. While it cannot, it hands the tenant over, does not acquire it, and does not name it, so
    /// that no replica hands it back.
    #[must_use]
    pub fn set_can_serve(&mut self, tenant: &str, can_serve: bool, now: Instant) -> Vec<Event> {
        if let Some(state) = self.tenants.get_mut(tenant) {
            state.can_serve = can_serve;
        }
        self.look_at_once(now);
        match can_serve {
            true => Vec::new(),
            false => self.request_handover(tenant),
        }
    }

    /// Hands over all tenants, and acquires no more.
    #[must_use]
    pub fn stop(&mut self, now: Instant) -> Vec<Event> {
        self.is_stopping = true;
        self.look_at_once(now);
        let mut events = Vec::new();
        let names: Vec<String> = self.tenants.keys().cloned().collect();
        for name in names {
            self.start_handover(&name, MoveReason::Shutdown, &mut events);
        }
        events
    }

    /// Whether no lease is in the name of this replica, as far as it knows. After [`Replica::stop`] the process may end then.
    pub fn owns_nothing(&self) -> bool {
        let is_acquiring = self
            .pending
            .as_ref()
            .is_some_and(|pending| matches!(pending.action, Action::Acquire(_)));
        let has_any = |tenant: &Tenant| tenant.reset.is_some() || !matches!(tenant.role, Role::NotOwner);
        !is_acquiring && !self.may_own_more && !self.tenants.values().any(has_any)
    }

    /// The lease of a tenant that this replica owns.
    pub fn lease(&self, tenant: &str) -> Option<&TenantLease> {
        Some(&self.tenants.get(tenant)?.owned()?.lease)
    }

    fn next_beat(&self) -> Action {
        let tenants = match self.is_stopping || !self.may_acquire {
            true => Vec::new(),
            false => {
                let tenants = self.settings.tenants.iter();
                let can_serve = |name: &&String| self.tenants.get(*name).is_some_and(|tenant| tenant.can_serve);
                tenants.filter(can_serve).cloned().collect()
            }
        };
        Action::Beat { tenants }
    }

    /// The next action that is not a beat: first what makes tenants free, then what takes them.
    fn next_write(&mut self, now: Instant) -> Option<Action> {
        let handover = self.tenants.iter().find_map(|(name, tenant)| match &tenant.role {
            Role::HandingOver { fence, state } => Some(Action::Handover {
                tenant: name.clone(),
                fence: fence.clone(),
                state: state.clone(),
            }),
            _ => None,
        });
        handover
            .or_else(|| self.next_reset())
            .or_else(|| self.next_acquisition(now))
    }

    fn next_reset(&self) -> Option<Action> {
        let history = &self.history.as_ref()?.id;
        self.tenants.iter().find_map(|(name, tenant)| {
            Some(Action::Reset {
                tenant: name.clone(),
                fence: self.fence(tenant.reset?, history.clone()),
            })
        })
    }

    /// The acquisition of all tenants that can be acquired and have the same owner as the first of them.
    fn next_acquisition(&mut self, now: Instant) -> Option<Action> {
        let ready = self.tenants.iter();
        let ready = ready.filter(|(_, tenant)| self.acquirable_from(tenant, now).is_some_and(|from| from <= now));
        let mut ready = ready.filter_map(|(name, tenant)| Some((name, tenant.watched.as_ref()?)));
        let (first, watched) = ready.next()?;
        let owner = match (watched.owner.clone(), watched.beat) {
            (None, _) => None,
            (Some(name), Some(beat)) => Some((name, beat)),
            (Some(name), None) => {
                let first = first.clone();
                self.attempted(&[first]);
                return Some(Action::AddReplica { name });
            }
        };
        let history = watched.history.clone();
        let same = ready.filter(|(_, other)| other.owner == watched.owner && other.beat == watched.beat);
        let tenants: Vec<(String, i64)> = [(first, watched)]
            .into_iter()
            .chain(same)
            .map(|(name, watched)| (name.clone(), watched.epoch))
            .collect();
        let names: Vec<String> = tenants.iter().map(|(name, _)| name.clone()).collect();
        self.attempted(&names);
        Some(Action::Acquire(Acquisition {
            tenants,
            owner,
            history,
        }))
    }

    /// Nothing more is attempted for these tenants before the next beat shows them.
    fn attempted(&mut self, names: &[String]) {
        for name in names {
            if let Some(watched) = self.tenants.get_mut(name).and_then(|tenant| tenant.watched.as_mut()) {
                watched.is_fresh = false;
            }
        }
    }

    /// From when on a tenant can be acquired if nothing changes. `None`: not as far as is known.
    fn acquirable_from(&self, tenant: &Tenant, now: Instant) -> Option<Instant> {
        let (watched, history) = (tenant.watched.as_ref()?, self.history.as_ref()?);
        let is_free = matches!(tenant.role, Role::NotOwner) && tenant.reset.is_none();
        let may = is_free && tenant.can_serve && self.may_acquire && !self.is_stopping;
        if !may || !watched.is_fresh || watched.history != history.id {
            return None;
        }
        let is_preferred = tenant.preferred == self.settings.name;
        let unchanged = match &watched.owner {
            None if watched.looks > DEFERRED_BEATS || is_preferred => watched.since,
            None => return None,
            Some(_) => {
                let lease = match self.obeys(Rule::Watch) {
                    true => watched.lease,
                    false => self.settings.lease / 5,
                };
                let deferred = self.settings.beat_interval() * DEFERRED_BEATS;
                let deferred = if is_preferred { Duration::ZERO } else { deferred };
                // A watch is interrupted if the last look is too long ago.
                if now.saturating_duration_since(watched.looked) > self.settings.lease / 2 {
                    return None;
                }
                watched.since + lease + deferred
            }
        };
        let grace = match self.obeys(Rule::Grace) {
            // A handover in this history shows that the owner was valid in it until then, so nothing is missing.
            true if watched.is_handed_over => history.old_enough_from,
            true => history.grace_until.max(history.old_enough_from),
            false => now,
        };
        Some(unchanged.max(grace).max(tenant.abstains_until.unwrap_or(unchanged)))
    }

    /// Takes the pending action if it is of this kind and was answered in time. Returns when it was sent.
    fn answered(&mut self, now: Instant, is_kind: impl Fn(&Action) -> bool) -> Option<Instant> {
        let settings = &self.settings;
        let is_answer = |pending: &mut Pending| is_kind(&pending.action) && settings.is_in_time(pending, now);
        Some(self.pending.take_if(is_answer)?.sent)
    }

    fn see_history(&mut self, beat: &Beat, now: Instant) {
        // A beat that the former server confirmed to another replica is valid for at most the lease of that replica.
        let leases = beat.replicas.iter().map(|replica| replica.lease);
        let lease = leases.fold(self.settings.lease, Duration::max);
        let old_enough_from = now + lease.saturating_sub(beat.history_age);
        if let Some(history) = self.history.as_mut().filter(|history| history.id == beat.history) {
            history.old_enough_from = old_enough_from;
            return;
        }
        // In an empty database nothing can be missing, unless this replica has seen another one.
        let is_first = self.history.is_none() && beat.leases.iter().all(|row| row.epoch == 0);
        let grace = if is_first { Duration::ZERO } else { lease };
        self.history = Some(SeenHistory {
            id: beat.history.clone(),
            grace_until: now + grace,
            old_enough_from,
        });
    }

    fn see_lease(
        &mut self,
        name: &str,
        row: Option<&LeaseRow>,
        beat: &Beat,
        sent: Instant,
        now: Instant,
        events: &mut Vec<Event>,
    ) {
        let valid_until = self.valid_from(sent, now) + self.settings.validity();
        let may_resume = !self.obeys(Rule::NotResumedInOtherHistory);
        let (me, resets) = (self.settings.name.clone(), self.obeys(Rule::Reset));
        let longest_gap = self.settings.lease / 2;
        let owner = row.and_then(|row| row.owner.as_ref());
        let lease = owner.map_or(Duration::ZERO, |owner| self.peers.lease_of(owner));
        let lease = lease.max(self.settings.lease);
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        let own_epoch = row.filter(|row| row.owner.as_ref() == Some(&me)).map(|row| row.epoch);
        if let Some(Owned { lease, .. }) = tenant.owned() {
            let is_other_history = lease.fence().is_none_or(|fence| fence.history != beat.history);
            if own_epoch != Some(lease.epoch()) {
                tenant.lose(name, MoveReason::Taken, events);
            } else if is_other_history && !lease.is_valid(now) && !may_resume {
                tenant.lose(name, MoveReason::OtherHistory, events);
            } else {
                let fence = Fence {
                    owner: me,
                    epoch: lease.epoch(),
                    history: beat.history.clone(),
                };
                lease.extend(valid_until, fence, now);
                return;
            }
        }
        if let Role::HandingOver { fence, .. } = &tenant.role {
            // In another history the handover can have no effect.
            if own_epoch == Some(fence.epoch) && fence.history == beat.history {
                return;
            }
            if own_epoch == Some(fence.epoch) {
                events.push(Event::Lost {
                    tenant: name.to_owned(),
                    epoch: fence.epoch,
                    reason: MoveReason::OtherHistory,
                });
                tenant.role = Role::NotOwner;
            } else {
                let epoch = fence.epoch;
                events.extend(self.handed_over(name, epoch, now));
            }
        }
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        tenant.reset = own_epoch;
        let Some(row) = row.filter(|_| own_epoch.is_none()) else {
            tenant.watched = None;
            if let Some(epoch) = own_epoch.filter(|_| !resets) {
                tenant.reset = None;
                let fence = self.fence(epoch, beat.history.clone());
                events.extend(self.resume(name, fence, valid_until, now));
            }
            return;
        };
        let unchanged = tenant.watched.take_if(|watched| {
            watched.owner == row.owner
                && watched.epoch == row.epoch
                && watched.beat == row.beat
                && watched.history == beat.history
                && now.saturating_duration_since(watched.looked) <= longest_gap
        });
        let (since, looks) = unchanged.map_or((now, 0), |watched| (watched.since, watched.looks));
        tenant.watched = Some(Watched {
            owner: row.owner.clone(),
            epoch: row.epoch,
            beat: row.beat,
            history: beat.history.clone(),
            is_handed_over: row.is_handed_over,
            lease,
            since,
            looked: now,
            looks: looks.saturating_add(1),
            is_fresh: true,
        });
    }

    /// Hands a tenant to a better owner that has been up for a while.
    fn balance(&mut self, name: &str, now: Instant, events: &mut Vec<Event>) {
        let Some(tenant) = self.tenants.get(name) else {
            return;
        };
        let owned_for = tenant
            .owned()
            .map(|owned| now.saturating_duration_since(owned.acquired));
        let is_up = || self.peers.is_up_for(&tenant.preferred, self.settings.lease * 2, now);
        if owned_for.is_some_and(|time| time >= MIN_OWNED) && tenant.preferred != self.settings.name && is_up() {
            self.start_handover(name, MoveReason::Balance, events);
        }
    }

    fn start_handover(&mut self, name: &str, reason: MoveReason, events: &mut Vec<Event>) {
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        match std::mem::replace(&mut tenant.role, Role::NotOwner) {
            Role::Owner(owned) => {
                events.push(Event::StartHandover {
                    tenant: name.to_owned(),
                    epoch: owned.lease.epoch(),
                    reason,
                });
                tenant.role = Role::Draining(owned);
            }
            role => tenant.role = role,
        }
    }

    fn handed_over(&mut self, name: &str, epoch: i64, now: Instant) -> Vec<Event> {
        let Some(tenant) = self.tenants.get_mut(name) else {
            return Vec::new();
        };
        tenant.role = Role::NotOwner;
        tenant.abstains_until = Some(now + ABSTENTION);
        vec![Event::HandedOver {
            tenant: name.to_owned(),
            epoch,
        }]
    }

    /// Uses an epoch that no rule allows to use. Only if a rule is switched off.
    fn resume(&mut self, name: &str, fence: Fence, valid_until: Instant, now: Instant) -> Vec<Event> {
        let Some(tenant) = self.tenants.get_mut(name) else {
            return Vec::new();
        };
        let lease = TenantLease::new(fence, self.settings.lateness, now, valid_until);
        tenant.role = Role::Owner(Owned {
            lease: lease.clone(),
            acquired: now,
        });
        vec![Event::Acquired {
            tenant: name.to_owned(),
            lease,
            handover: None,
            moved: Move {
                at: Timestamp::UNIX_EPOCH,
                reason: MoveReason::Free,
            },
        }]
    }

    fn fence(&self, epoch: i64, history: History) -> Fence {
        Fence {
            owner: self.settings.name.clone(),
            epoch,
            history,
        }
    }

    /// From when on a confirmed request makes a lease valid.
    fn valid_from(&self, sent: Instant, now: Instant) -> Instant {
        if self.obeys(Rule::ValidFromRequest) { sent } else { now }
    }

    /// The number of replicas whose beat has changed within the duration of a lease, this one included.
    pub fn alive(&self, now: Instant) -> usize {
        self.peers.alive(&self.settings.name, self.settings.lease, now)
    }

    /// Whether the beat of a replica has not changed for longer than a lease: it has ended, or it is cut off from the database.
    pub fn is_silent(&self, name: &ReplicaName, now: Instant) -> bool {
        self.peers.is_silent(name, self.settings.lease, now)
    }

    /// A replica whose beat does not change for longer does not count as beating.
    fn silence(&self) -> Duration {
        self.settings.lease / 2
    }

    #[cfg(not(test))]
    // Only tests switch rules off.
    fn obeys(&self, _: Rule) -> bool {
        true
    }

    #[cfg(test)]
    fn obeys(&self, rule: Rule) -> bool {
        !self.broken.contains(&rule)
    }
}

impl ReplicaSettings {
    fn is_in_time(&self, pending: &Pending, now: Instant) -> bool {
        now.saturating_duration_since(pending.sent) <= self.answer_limit()
    }
}

impl Tenant {
    fn new(preferred: ReplicaName) -> Self {
        Self {
            role: Role::NotOwner,
            watched: None,
            reset: None,
            preferred,
            abstains_until: None,
            can_serve: true,
        }
    }

    fn owned(&self) -> Option<&Owned> {
        match &self.role {
            Role::Owner(owned) | Role::Draining(owned) => Some(owned),
            Role::NotOwner | Role::HandingOver { .. } => None,
        }
    }

    fn lose(&mut self, name: &str, reason: MoveReason, events: &mut Vec<Event>) {
        if let Some(owned) = self.owned() {
            owned.lease.end();
            events.push(Event::Lost {
                tenant: name.to_owned(),
                epoch: owned.lease.epoch(),
                reason,
            });
            self.role = Role::NotOwner;
        }
    }
}
