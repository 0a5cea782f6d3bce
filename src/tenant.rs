//! The configured accounts (tenants), and where the RPCs of each one are executed. Each account has its own gateway, so no other
//! module can mix two accounts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::lease::Move;
use crate::domain::pause::{Pause, Pauses};
use crate::error::{Denial, Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::identity::permission::Permissions;

/// The accounts by name.
#[derive(Clone)]
pub struct Tenants {
    tenants: Arc<BTreeMap<String, Arc<Tenant>>>,
    membership: Option<Membership>,
    pauses: PauseBoard,
}

/// The paused accounts, as far as this process knows. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PauseBoard(Arc<watch::Sender<Pauses>>);

/// One account.
pub struct Tenant {
    name: String,
    route: watch::Sender<TenantRoute>,
    /// `None`: without a cluster, or no move yet.
    last_move: Mutex<Option<LastMove>>,
    membership: Option<Membership>,
}

/// This process as one of several replicas. Clones share it.
#[derive(Clone, Debug)]
pub struct Membership {
    address: Arc<str>,
    replicas: Arc<AtomicUsize>,
    problem: Arc<Mutex<Option<String>>>,
}

/// The last move of an account to this replica, or from it.
#[derive(Clone, Copy, Debug)]
pub struct LastMove {
    /// Whether this replica acquired the account. Otherwise, it handed the account over or lost it.
    pub is_acquisition: bool,
    /// The epoch of the lease that was acquired or that ended.
    pub epoch: i64,
    /// When and why.
    pub moved: Move,
}

/// Where the RPCs of an account are executed.
#[derive(Clone)]
pub enum TenantRoute {
    /// In this process.
    Here(Arc<Gateway>),
    /// In another replica, which owns the account.
    Replica(Owner),
    /// The account has no owner, or its owner is not known.
    Unknown,
}

/// The replica that owns an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The address for other replicas, as `host:port`.
    pub address: Arc<str>,
    /// The epoch of the lease.
    pub epoch: i64,
}

impl TenantRoute {
    /// The gateway, if the RPCs are executed in this process and the gateway has not stopped.
    pub fn running(&self) -> Option<&Arc<Gateway>> {
        match self {
            Self::Here(gateway) => Some(gateway).filter(|gateway| !gateway.stopped().is_cancelled()),
            Self::Replica(_) | Self::Unknown => None,
        }
    }
}

impl Membership {
    /// A replica with this address for others. It knows no other one yet.
    pub fn new(address: &str) -> Self {
        Self {
            address: address.into(),
            replicas: Arc::new(AtomicUsize::new(1)),
            problem: Arc::default(),
        }
    }

    /// The address of this replica for others.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The number of replicas alive, this one included.
    pub fn replicas(&self) -> usize {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Why this replica acquires no tenants: other replicas cannot reach it.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the problem, and returns the former one.
    pub fn set_problem(&self, problem: Option<String>) -> Option<String> {
        let mut current = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, problem)
    }

    /// Sets the number of replicas alive.
    pub fn set_replicas(&self, count: usize) {
        self.replicas.store(count, Ordering::Relaxed);
    }
}

impl PauseBoard {
    /// The pause of an account. `None`: it is not paused.
    pub fn of(&self, tenant: &str) -> Option<Pause> {
        self.0.borrow().get(tenant).cloned()
    }

    /// Replaces the pauses of all accounts.
    pub fn replace(&self, pauses: Pauses) {
        self.change(|current| *current = pauses);
    }

    /// Pauses an account, or resumes it (`None`).
    pub fn set(&self, tenant: &str, pause: Option<Pause>) {
        self.change(|current| match pause {
            Some(pause) => drop(current.insert(tenant.to_owned(), pause)),
            None => drop(current.remove(tenant)),
        });
    }

    /// The pauses, and their changes.
    pub fn watch(&self) -> watch::Receiver<Pauses> {
        self.0.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Pauses)) {
        self.0.send_if_modified(|current| {
            let before = current.clone();
            change(current);
            *current != before
        });
    }
}

impl Tenant {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the RPCs of the account are executed now.
    pub fn route(&self) -> TenantRoute {
        self.route.borrow().clone()
    }

    /// The gateway of the account, if its RPCs are executed in this process.
    pub fn gateway(&self) -> Option<Arc<Gateway>> {
        match &*self.route.borrow() {
            TenantRoute::Here(gateway) => Some(gateway.clone()),
            TenantRoute::Replica(_) | TenantRoute::Unknown => None,
        }
    }

    /// Changes where the RPCs of the account are executed.
    pub fn set_route(&self, route: TenantRoute) {
        self.route.send_replace(route);
    }

    /// Changes where the RPCs of the account are executed, if that is not the same.
    pub fn change_route(&self, route: TenantRoute) {
        self.route.send_if_modified(|current| {
            let is_same = match (&*current, &route) {
                (TenantRoute::Here(current), TenantRoute::Here(route)) => Arc::ptr_eq(current, route),
                (TenantRoute::Replica(current), TenantRoute::Replica(route)) => current == route,
                (TenantRoute::Unknown, TenantRoute::Unknown) => true,
                _ => false,
            };
            if !is_same {
                *current = route;
            }
            !is_same
        });
    }

    /// The last move. `None`: without a cluster, or this replica has neither acquired nor lost the account yet.
    pub fn last_move(&self) -> Option<LastMove> {
        *self.last_move.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a move.
    pub fn set_last_move(&self, last_move: LastMove) {
        *self.last_move.lock().unwrap_or_else(PoisonError::into_inner) = Some(last_move);
    }

    /// This process as one of several replicas. `None`: without a cluster.
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// The route, and its changes.
    pub fn watch_route(&self) -> watch::Receiver<TenantRoute> {
        self.route.subscribe()
    }
}

impl Tenants {
    /// Makes a list of accounts by name. `membership`: with several replicas.
    pub fn new(routes: BTreeMap<String, TenantRoute>, membership: Option<Membership>) -> Self {
        let tenants = routes.into_iter().map(|(name, route)| {
            let tenant = Tenant {
                name: name.clone(),
                route: watch::Sender::new(route),
                last_move: Mutex::default(),
                membership: membership.clone(),
            };
            (name, Arc::new(tenant))
        });
        Self {
            tenants: Arc::new(tenants.collect()),
            membership,
            pauses: PauseBoard::default(),
        }
    }

    /// The same accounts, with these pauses.
    #[must_use]
    pub fn with_pauses(self, pauses: PauseBoard) -> Self {
        Self { pauses, ..self }
    }

    /// The paused accounts.
    pub fn pauses(&self) -> &PauseBoard {
        &self.pauses
    }

    /// This process as one of several replicas. `None`: without a cluster.
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Returns the account with that name, if the caller may use it. Without a name, returns the only account that the caller may
    /// use, and fails if there are several. An account that does not exist has the same error as one that is not allowed.
    pub fn get(&self, name: Option<&str>, permissions: &Permissions) -> Result<&Arc<Tenant>> {
        let found = match name {
            Some(name) => self.named(name).filter(|_| permissions.allows_tenant(name)),
            None => {
                let mut allowed = self
                    .tenants
                    .values()
                    .filter(|tenant| permissions.allows_tenant(&tenant.name));
                match (allowed.next(), allowed.next()) {
                    (Some(_), Some(_)) => {
                        let text = "must name one of the accounts that the caller may use, because there are several";
                        return Err(Error::invalid("x-leadgate-tenant", text));
                    }
                    (only, _) => only,
                }
            }
        };
        found.ok_or_else(|| ErrorKind::CallerNotAllowed(Denial::Tenant).into())
    }

    /// The account with that name.
    pub fn named(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(name)
    }

    /// All accounts.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The accounts whose RPCs are executed in this process, with their gateways.
    pub fn gateways(&self) -> impl Iterator<Item = (&str, Arc<Gateway>)> {
        self.iter()
            .filter_map(|tenant| Some((tenant.name(), tenant.gateway()?)))
    }
}
