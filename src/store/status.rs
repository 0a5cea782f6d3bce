//! What commands show of a store that several replicas use.

use std::time::Duration;

use jiff::Timestamp;

use super::sqlite::CopiedTable;
use crate::domain::lease::{ReplicaName, ReplicaRow};

/// The leases and replicas of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The leases, sorted by tenant.
    pub leases: Vec<LeaseStatus>,
    /// The replicas, sorted by name. Replicas that have ended are included for a day.
    pub replicas: Vec<ReplicaStatus>,
}

/// The lease of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// The tenant.
    pub tenant: String,
    /// The owner. `None`: the tenant is free.
    pub owner: Option<ReplicaName>,
    /// The number of acquisitions so far.
    pub epoch: i64,
    /// The time of the last acquisition, by the clock of the database.
    pub owned_since: Option<Timestamp>,
    /// The reason of the last move, a name of [`MoveReason`](crate::domain::lease::MoveReason): of the acquisition, or of the handover
    /// since.
    pub last_move_reason: Option<String>,
    /// When an operator paused the tenant. `None`: it is not paused.
    pub paused_since: Option<Timestamp>,
}

/// A replica in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The replica.
    pub replica: ReplicaRow,
    /// The time since its last beat. A replica is alive if this is less than the duration of a lease.
    pub last_beat: Duration,
}

/// What is known of a PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// The version of the server.
    pub version: String,
    /// The version of the schema; 0 if the database has no tables of leadgate.
    pub schema_version: i64,
    /// The version of the schema of this release.
    pub current_schema_version: i64,
    /// The time of a transaction.
    pub latency: Duration,
    /// Settings of the server and missing rights that should be changed.
    pub warnings: Vec<String>,
}

/// The number of rows that a copy has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedRows {
    /// Records of request ids.
    pub requests: u64,
    /// Shares.
    pub shares: u64,
    /// All other rows.
    pub others: u64,
}

impl CopiedRows {
    pub(super) fn add(&mut self, table: CopiedTable, rows: u64) {
        match table {
            CopiedTable::Request => self.requests += rows,
            CopiedTable::Share => self.shares += rows,
            CopiedTable::QuotaUsage | CopiedTable::ShareChange | CopiedTable::Damaged | CopiedTable::Pause => {
                self.others += rows;
            }
        }
    }
}
