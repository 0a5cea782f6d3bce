//! Owns tenants for a command that makes a few calls and serves nobody.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::{ClusterHandle, ClusterParts, ClusterTask};
use super::{App, HANDOVER_TIMEOUT, peers, replica_name};
use crate::tenant::TenantRoute;

/// How long the tenants of this process are waited for, in addition to the time of a takeover.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The address of a process that serves nobody. Replicas forward nothing to it.
const NO_ADDRESS: &str = "";

/// The leases of a command. While it holds them, no replica makes calls for the tenants.
pub struct Ownership {
    handle: ClusterHandle,
    leave: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// Acquires the tenants that no replica owns. Each one has a gateway from then on, and its calls are counted by the rules of the
    /// lease: the next owner continues with the state of the quota. Returns when all are acquired, or when a takeover should have
    /// succeeded. Fails without `[cluster]`.
    pub async fn own_tenants(&self) -> Result<Ownership, String> {
        let settings = self.config.cluster.as_ref().ok_or("there is no [cluster]")?;
        let parts = ClusterParts {
            name: replica_name("command"),
            address: NO_ADDRESS.into(),
            lease: settings.lease,
            lateness: settings.lateness,
            accounts: self.accounts.clone(),
            tenants: self.tenants.clone(),
            store: self.store.clone(),
            peers: peers(settings)?,
            metrics: self.metrics.clone(),
            is_serving: false,
        };
        let connection = self.store.lease_connection(parts.name.clone(), parts.lease);
        let connection = connection.ok_or("the store has no leases")?;
        let (task, handle) = ClusterTask::new(parts, connection);
        let (leave, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(task.run(leave.clone()));
        let acquired = async {
            for tenant in self.tenants.iter() {
                let is_here = |route: &TenantRoute| matches!(route, TenantRoute::Here(_));
                // The sender lives as long as the tenant.
                let _ = tenant.watch_route().wait_for(is_here).await;
            }
        };
        // An owner that does not respond is watched for a lease, and a new history of the database is waited for.
        let limit = settings.lease * 2 + ACQUIRE_TIMEOUT;
        let _ = tokio::time::timeout(limit, acquired).await;
        Ok(Ownership { handle, leave, tasks })
    }
}

impl Ownership {
    /// Hands all tenants over, with the state of their quotas.
    pub async fn end(self) {
        self.handle.stop(HANDOVER_TIMEOUT).await;
        self.leave.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
