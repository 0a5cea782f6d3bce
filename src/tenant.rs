//! The configured accounts (tenants), and where the RPCs of each one are executed. Each account has its own gateway, so no other
//! module can mix two accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Denial, Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::identity::permission::Permissions;

/// The accounts by name.
#[derive(Clone)]
pub struct Tenants {
    tenants: Arc<BTreeMap<String, Arc<Tenant>>>,
}

/// One account.
pub struct Tenant {
    name: String,
    route: watch::Sender<TenantRoute>,
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

    /// The route, and its changes.
    pub fn watch_route(&self) -> watch::Receiver<TenantRoute> {
        self.route.subscribe()
    }
}

impl Tenants {
    /// Makes a list of accounts by name.
    pub fn new(routes: BTreeMap<String, TenantRoute>) -> Self {
        let tenants = routes.into_iter().map(|(name, route)| {
            let tenant = Tenant {
                name: name.clone(),
                route: watch::Sender::new(route),
            };
            (name, Arc::new(tenant))
        });
        Self {
            tenants: Arc::new(tenants.collect()),
        }
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
