//! The leases of tenants. With several replicas, one replica at a time owns a tenant. The database has one lease per tenant; a
//! beat reads all of them.

use std::sync::Arc;
use std::time::Duration;

/// The name of one run of a replica. Each start of a process has a new name.
pub type ReplicaName = Arc<str>;

/// The history of the database: the server and its timeline. A promoted standby has another history, a restarted server has the
/// same.
pub type History = Arc<str>;

/// A lease as a beat reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// The tenant.
    pub tenant: String,
    /// The owner. `None`: the tenant is free.
    pub owner: Option<ReplicaName>,
    /// The number of acquisitions so far.
    pub epoch: i64,
    /// The beat of the owner. `None` if the owner has no row, or if there is no owner.
    pub beat: Option<i64>,
    /// Whether the tenant is free because its last owner handed it over in the current history of the database.
    pub is_handed_over: bool,
}

/// The result of a confirmed beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The history of the database.
    pub history: History,
    /// The time since any replica first saw this history, by the clock of the database.
    pub history_age: Duration,
    /// The leases of all tenants.
    pub leases: Vec<LeaseRow>,
    /// The replicas that the database knows, this one included.
    pub replicas: Vec<ReplicaRow>,
}

/// A replica as a beat reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    /// The name.
    pub name: ReplicaName,
    /// The address for other replicas, as `host:port`.
    pub address: String,
    /// The number of its beats.
    pub beat: i64,
    /// The tenants in its settings.
    pub tenants: Vec<String>,
}

/// A request to acquire the leases of tenants that have the same owner, or none. It fails for a tenant whose lease has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquisition {
    /// The tenants with their epochs.
    pub tenants: Vec<(String, i64)>,
    /// The owner and its beat, which have not changed for the duration of a lease. `None`: the tenants are free.
    pub owner: Option<(ReplicaName, i64)>,
    /// The history in which the leases were read.
    pub history: History,
}

/// A lease that was acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcquiredLease {
    /// The tenant.
    pub tenant: String,
    /// The new epoch.
    pub epoch: i64,
    /// The state that the former owner handed over in this history, as JSON. `None`: it did not hand over.
    pub handover: Option<String>,
}

/// What each fenced write to the store compares: it is executed only while the lease has this owner and epoch, in this history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// This replica.
    pub owner: ReplicaName,
    /// The epoch of the lease.
    pub epoch: i64,
    /// The history in which the lease was acquired.
    pub history: History,
}
