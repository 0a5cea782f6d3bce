//! The leases of tenants. With several replicas, one replica at a time owns a tenant. The database has one lease per tenant; a
//! beat reads all of them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::pause::Pauses;

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
    /// The paused tenants.
    pub pauses: Pauses,
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
    /// The duration of its leases. Zero: unknown.
    pub lease: Duration,
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
    /// The time of the acquisition by the clock of the database, and the reason of the move.
    pub moved: Move,
}

/// The move of a tenant to a replica, or from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: MoveReason,
}

/// Why a tenant moved to a replica, or from it. This is the only list of the reasons: of the field `last_move_reason` of a quota, of
/// the column of that name, of the label `reason` of `leadgate_cluster_moves_total`, and of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveReason {
    /// The tenant had no owner, and no quota state of a former owner. It has never been owned, or its lease was reset.
    Free,
    /// The owner did not respond for the duration of a lease.
    Takeover,
    /// The owner was shutting down, and handed the tenant over.
    Shutdown,
    /// The owner handed the tenant over to the replica that is preferred for it.
    Balance,
    /// The owner handed the tenant over because it was requested.
    Requested,
    /// This replica lost the tenant: the database has another owner or epoch.
    Taken,
    /// This replica lost the tenant: another replica has named a higher epoch.
    HigherEpoch,
    /// This replica lost the tenant: the lease lapsed, and the database has another history since.
    OtherHistory,
}

impl MoveReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Free,
        Self::Takeover,
        Self::Shutdown,
        Self::Balance,
        Self::Requested,
        Self::Taken,
        Self::HigherEpoch,
        Self::OtherHistory,
    ];

    /// The name. It is stored, so it never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Takeover => "takeover",
            Self::Shutdown => "shutdown",
            Self::Balance => "balance",
            Self::Requested => "requested",
            Self::Taken => "taken",
            Self::HigherEpoch => "higher_epoch",
            Self::OtherHistory => "other_history",
        }
    }

    /// The reason with that name. `None`: another version of leadgate has written it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
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
