//! The store: all data that must survive the end of a call or of the process. It keeps the results of mutations by request
//! id, the shares, and the quota usage of each account. The backends are the variants of [`Store`]. `tests/conformance.rs` runs
//! the same tests on each backend.

mod damage;
mod file;
mod meter;
mod options;
mod postgres;
mod record;
mod requests;
mod sqlite;
mod status;
#[cfg(test)]
mod tests;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::clock;
use crate::cluster::TenantLease;
use crate::context::RequestId;
use crate::domain::lead::LeadKey;
use crate::domain::lease::{Fence, ReplicaName};
use crate::domain::pause::{Pause, Pauses};
use crate::domain::share::{Share, ShareChange, ShareFilter, ShareState};
use crate::domain::usage::QuotaUsage;
use crate::error::{Error, ErrorKind};
use crate::telemetry::metrics::{Metrics, StorePool};
use crate::telemetry::trace::Trace;
pub use damage::DamagedRow;
use meter::StoreMeter;
pub use options::StoreOptions;
pub use postgres::{LeaseConnection, Postgres};
pub use record::StoredResult;
pub use requests::{PriorAttempt, RequestEntry, Requests};
use sqlite::Sqlite;
pub use status::{ClusterStatus, CopiedRows, LeaseStatus, ReplicaStatus, ServerReport};

/// Executes an operation of the backend, and measures it.
macro_rules! measured {
    ($self:ident, $name:literal, $sqlite:ident => $of_sqlite:expr, $postgres:ident => $of_postgres:expr) => {
        match $self {
            Self::Sqlite($sqlite) => $self.meter().measure($name, $of_sqlite).await,
            Self::Postgres($postgres) => $self.meter().measure($name, $of_postgres).await,
        }
    };
    ($self:ident, $name:literal, $store:ident => $operation:expr) => {
        measured!($self, $name, $store => $operation, $store => $operation)
    };
    ($self:ident, $name:literal, $store:ident => $operation:expr, with_sqlite: $result:expr) => {
        match $self {
            Self::Sqlite(_) => $result,
            Self::Postgres($store) => $self.meter().measure($name, $operation).await,
        }
    };
}

/// The store. Clones refer to the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// A SQLite database in one file or in memory. One process can use it at a time.
    Sqlite(Sqlite),
    /// A PostgreSQL database. Several processes can use it at a time.
    Postgres(Postgres),
}

/// Where the fence of the writes comes from.
#[derive(Clone, Debug)]
pub enum FenceSource {
    /// The same fence for all writes.
    Fixed(Arc<Fence>),
    /// The fence of a lease. It changes if the lease continues in another history of the database.
    Lease(TenantLease),
}

impl FenceSource {
    fn fence(&self) -> Option<Arc<Fence>> {
        match self {
            Self::Fixed(fence) => Some(fence.clone()),
            Self::Lease(lease) => lease.fence(),
        }
    }
}

impl From<Fence> for FenceSource {
    fn from(fence: Fence) -> Self {
        Self::Fixed(Arc::new(fence))
    }
}

impl From<TenantLease> for FenceSource {
    fn from(lease: TenantLease) -> Self {
        Self::Lease(lease)
    }
}

/// An error of the store. Contains no stored data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The failed action, as the predicate of the sentence "the store ...".
    failure: &'static str,
    reason: String,
    is_read_error: bool,
    is_in_use: bool,
    is_not_owner: bool,
}

/// The stored record of a mutation with a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRequest {
    /// The digest of the request message.
    pub fingerprint: Vec<u8>,
    /// When the mutation was started, by the clock of this process.
    pub started: Timestamp,
    /// The result as JSON; `None` if the outcome is unknown.
    pub result: Option<String>,
    /// Whether the mutation was started by another replica, or under an earlier lease of this one. Without a result, it may still
    /// be in progress there. Always `false` with SQLite.
    pub is_of_other_epoch: bool,
}

/// The mark of a mutation that starts: its record before it has a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMark {
    /// The request id and the digest of the message.
    pub request: RequestId,
    /// The number of the attempt. With PostgreSQL, a mark of the same lease is replaced only by a higher attempt, and deleted only
    /// by the same attempt.
    pub attempt: i64,
    /// Hashes of the keys that the mutation writes. SQLite does not store them.
    pub keys: Vec<i64>,
    /// The time since a replica first received the mutation. Zero: it cannot have been received before.
    pub received_ago: Duration,
}

/// A mutation without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedRequest {
    /// The request id.
    pub id: Uuid,
    /// Whether the mutation was started by another replica, or under an earlier lease of this one.
    pub is_of_other_epoch: bool,
    /// Hashes of the keys that the mutation writes.
    pub keys: Vec<i64>,
}

impl RequestMark {
    /// The first attempt of a mutation with unknown keys.
    pub fn new(request: RequestId) -> Self {
        Self {
            request,
            attempt: 1,
            keys: vec![],
            received_ago: Duration::ZERO,
        }
    }
}

/// A copy of a SQLite store.
#[derive(Debug)]
pub struct StoreCopy {
    /// The file, at its beginning. It has no name, so it ends with this handle.
    pub file: std::fs::File,
    /// Its length.
    pub bytes: u64,
}

/// Why [`Store::backup`] failed. The texts are for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// The store has no file that could be copied.
    #[error("{0}")]
    NoFile(String),
    /// The disk has too little space for the copy.
    #[error("{0}")]
    DiskFull(String),
    /// The store cannot be copied.
    #[error("{0}")]
    Failed(#[from] StoreError),
}

/// The result of [`Store::begin_request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginResult {
    /// A new record was written.
    Started,
    /// The request id already has a record.
    Exists,
    /// The request id has no record, and the mutation was received before the current history of the database was first seen. Its
    /// record may be lost, so whether it was executed is unknown. Never with SQLite.
    HistoryIsYounger,
}

/// The result of [`Store::add_share`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddShareResult {
    /// The share was written.
    Added {
        /// Number of leads that the user may have access to through shares, including this share.
        used: u32,
    },
    /// The share with this id conflicts with the new share.
    Conflict(Uuid),
    /// The user already has access to the maximum number of leads.
    LimitReached,
}

impl StoreError {
    fn new(failure: &'static str, reason: &dyn fmt::Display) -> Self {
        Self {
            failure,
            reason: reason.to_string(),
            is_read_error: false,
            is_in_use: false,
            is_not_owner: false,
        }
    }

    fn not_owner() -> Self {
        Self {
            is_not_owner: true,
            ..Self::new("cannot be written", &"this process does not own the tenant")
        }
    }

    fn reading(failure: &'static str, reason: &dyn fmt::Display) -> Self {
        Self {
            is_read_error: true,
            ..Self::new(failure, reason)
        }
    }

    /// Returns the error for callers: `Moved` without the lease of the tenant, `StoreUnreadable` if a row cannot be read, otherwise
    /// `StoreUnavailable`.
    pub fn kind(&self) -> ErrorKind {
        if self.is_not_owner {
            ErrorKind::Moved { sent: false }
        } else if self.is_read_error {
            ErrorKind::StoreUnreadable
        } else {
            ErrorKind::StoreUnavailable
        }
    }

    /// Whether the only reason is that another process uses the store.
    pub fn is_in_use(&self) -> bool {
        self.is_in_use
    }

    /// Whether the only reason is that the lease of the tenant belongs to another replica, or to an earlier epoch or history. Nothing
    /// was written.
    pub fn is_not_owner(&self) -> bool {
        self.is_not_owner
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store {}: {}", self.failure, self.reason)
    }
}

impl std::error::Error for StoreError {}

impl Store {
    /// Opens the store at a URL with default options, see [`Store::open_with`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(&StoreOptions::new(url)).await
    }

    /// Opens a store. Creates a SQLite file that does not exist, and migrates the store to the current schema.
    pub async fn open_with(options: &StoreOptions) -> Result<Self, StoreError> {
        if options.is_postgres() {
            return Postgres::open(options).await.map(Self::Postgres);
        }
        if options.url.starts_with("sqlite:") {
            return Sqlite::open(&options.url).await.map(Self::Sqlite);
        }
        Err(StoreError::new(
            "cannot be opened",
            &"its URL must begin with \"sqlite:\" or \"postgres:\"",
        ))
    }

    /// Measures the operations of this store and its clones from now on.
    pub fn set_metrics(&self, metrics: Arc<Metrics>) {
        self.meter().set(metrics);
    }

    fn meter(&self) -> &StoreMeter {
        match self {
            Self::Sqlite(store) => store.meter(),
            Self::Postgres(store) => store.meter(),
        }
    }

    /// Returns the state of the connections; `None` with SQLite, which has one.
    pub fn pool(&self) -> Option<StorePool> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store.pool_state()),
        }
    }

    /// Checks the options without opening the store.
    pub fn check_options(options: &StoreOptions) -> Result<(), StoreError> {
        match options.is_postgres() {
            true => Postgres::check_options(options),
            false => sqlite::path_of(&options.url).map(drop),
        }
    }

    /// Checks that the file of a SQLite store could be opened and written, without opening it. Returns the path if the file does not
    /// exist yet.
    pub fn check_path(url: &str) -> Result<Option<PathBuf>, StoreError> {
        if url::is_postgres(url) {
            return Ok(None);
        }
        let Some(path) = sqlite::path_of(url)? else {
            return Ok(None);
        };
        file::check(&path).map_err(|reason| StoreError::new("cannot be opened", &reason))?;
        Ok(Some(path).filter(|path| !path.exists()))
    }

    /// Connects to a PostgreSQL server, and returns a report. Changes nothing.
    pub async fn report(options: &StoreOptions) -> Result<ServerReport, StoreError> {
        Postgres::report(options).await
    }

    /// Connects to a PostgreSQL server, and returns the leases and the replicas. Changes nothing. Without tables of leadgate there are
    /// none.
    pub async fn read_cluster_status(options: &StoreOptions) -> Result<ClusterStatus, StoreError> {
        Postgres::read_cluster_status(options).await
    }

    /// Copies a SQLite store into an empty PostgreSQL database, in one transaction. `progress` gets the rows so far.
    pub async fn copy_to(&self, target: &Self, progress: impl FnMut(&CopiedRows)) -> Result<CopiedRows, StoreError> {
        match (self, target) {
            (Self::Sqlite(source), Self::Postgres(target)) => target.copy_from(source, progress).await,
            _ => Err(StoreError::new(
                "cannot be copied",
                &"a copy is from a SQLite store to a PostgreSQL store",
            )),
        }
    }

    /// Returns the store for the owner of a lease: its writes fail with [`StoreError::is_not_owner`] unless the lease has this owner
    /// and epoch, in this history. Without a fence, a PostgreSQL store writes only for tenants without an owner. A SQLite store needs
    /// no fence, since one process uses it.
    ///
    /// The result and the withdrawal of a mutation need no lease, and neither does the result of a step of a share: they are
    /// conditional on the mark that this owner wrote in this epoch.
    pub fn fenced(&self, fence: impl Into<FenceSource>) -> Self {
        match self {
            Self::Sqlite(store) => Self::Sqlite(store.clone()),
            Self::Postgres(store) => Self::Postgres(store.fenced(fence.into())),
        }
    }

    /// Returns the connection for the leases of a replica; `None` with SQLite, which has no leases.
    pub fn lease_connection(&self, me: ReplicaName, lease: Duration) -> Option<LeaseConnection> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store.lease_connection(me, lease)),
        }
    }

    /// Returns the leases and the replicas; `None` with SQLite, which has none.
    pub async fn cluster_status(&self) -> Result<Option<ClusterStatus>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(store) => store.cluster_status().await.map(Some),
        }
    }

    /// Runs an operation of a request, in a span of its trace.
    pub async fn traced<T>(
        &self,
        trace: &Trace,
        operation: &'static str,
        run: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let system = match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        };
        let mut span = trace.client_span(|| operation.to_owned());
        span.set("db.system.name", system);
        span.set("db.operation.name", operation);
        let result = run.await;
        if let Err(error) = &result {
            span.fail(Error::from(error.kind()).name());
        }
        result
    }

    /// Checks that the store can be written: the file is the one that was opened, and its directory has free space. With
    /// `by_writing`, also writes a transaction. After a failed check of the file, mutations fail until a check succeeds.
    pub async fn probe(&self, by_writing: bool) -> Result<(), StoreError> {
        measured!(self, "probe", store => store.probe(by_writing))
    }

    /// Returns the record of a request id if the mutation was started at most `keep` ago. The clock is that of the database with
    /// PostgreSQL, so that all replicas agree, and that of this process with SQLite. The operation is scheduled as one of
    /// `caller`, as in the functions below.
    pub async fn request(
        &self,
        tenant: &str,
        caller: &str,
        id: &Uuid,
        keep: Duration,
    ) -> Result<Option<StoredRequest>, StoreError> {
        measured!(
            self,
            "read_request",
            sqlite => sqlite.request(tenant, caller, id, clock::now() - keep),
            postgres => postgres.request(tenant, caller, id, keep)
        )
    }

    /// Writes the record of a mutation that starts, unless its request id already has a record. A record that is older than `keep`
    /// is replaced.
    pub async fn begin_request(
        &self,
        tenant: &str,
        caller: &str,
        mark: &RequestMark,
        keep: Duration,
    ) -> Result<BeginResult, StoreError> {
        let now = clock::now();
        measured!(
            self,
            "begin_request",
            sqlite => sqlite.begin_request(tenant, caller, mark, now, now - keep),
            postgres => postgres.begin_request(tenant, caller, mark, keep)
        )
    }

    /// Writes the result of a mutation into its record.
    pub async fn finish_request(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        result: &str,
    ) -> Result<(), StoreError> {
        measured!(self, "finish_request", store => store.finish_request(tenant, caller, request, result))
    }

    /// Deletes the record of a mutation that was not executed.
    pub async fn delete_request(&self, tenant: &str, caller: &str, mark: &RequestMark) -> Result<(), StoreError> {
        measured!(self, "delete_request", store => store.delete_request(tenant, caller, mark))
    }

    /// Forgets the keys of mutations without a result whose calls have ended: of one mutation of this owner, or of all those of earlier
    /// owners. Does nothing with SQLite.
    pub async fn release_keys(&self, tenant: &str, id: Option<Uuid>) -> Result<(), StoreError> {
        measured!(self, "release_keys", store => store.release_keys(tenant, id), with_sqlite: Ok(()))
    }

    /// Whether the current history of the database was first seen less than this time ago, so that a record from before may be lost.
    /// `false` with SQLite, which has one history.
    pub async fn is_history_younger(&self, age: Duration) -> Result<bool, StoreError> {
        measured!(self, "is_history_younger", store => store.is_history_younger(age), with_sqlite: Ok(false))
    }

    /// Whether the record of a mutation is replaced by a later attempt under the same lease. SQLite does not store attempts.
    pub fn keeps_attempts(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Returns the mutations without a result; none with SQLite, where no other process can be executing them.
    pub async fn unfinished_requests(&self, tenant: &str) -> Result<Vec<UnfinishedRequest>, StoreError> {
        measured!(self, "unfinished_requests", store => store.unfinished_requests(tenant), with_sqlite: Ok(vec![]))
    }

    /// Deletes all records of mutations that were started more than `keep` ago, of all tenants that this store may write. Returns the
    /// number of deleted records.
    pub async fn delete_old_requests(&self, keep: Duration) -> Result<u64, StoreError> {
        measured!(
            self,
            "delete_old_requests",
            sqlite => sqlite.delete_old_requests(clock::now() - keep),
            postgres => postgres.delete_old_requests(keep)
        )
    }

    /// Returns the last stored quota usage of an account.
    pub async fn quota_usage(&self, tenant: &str) -> Result<Option<QuotaUsage>, StoreError> {
        measured!(self, "quota_usage", store => store.quota_usage(tenant))
    }

    /// Writes the quota usage of an account.
    pub async fn save_quota_usage(&self, tenant: &str, usage: &QuotaUsage) -> Result<(), StoreError> {
        measured!(self, "save_quota_usage", store => store.save_quota_usage(tenant, usage))
    }

    /// Returns the state of the quota that the last owner of the account saved, as JSON; `None` with SQLite.
    pub async fn quota_state(&self, tenant: &str) -> Result<Option<String>, StoreError> {
        measured!(self, "quota_state", store => store.quota_state(tenant), with_sqlite: Ok(None))
    }

    /// Writes the state of the quota of an account as JSON. The next owner needs it if this one crashes. Does nothing with SQLite.
    pub async fn save_quota_state(&self, tenant: &str, state: &str) -> Result<(), StoreError> {
        measured!(self, "save_quota_state", store => store.save_quota_state(tenant, state), with_sqlite: Ok(()))
    }

    /// Returns a consistent copy of a SQLite store, as a file without a name in the same directory. Other operations continue meanwhile.
    pub async fn backup(&self) -> Result<StoreCopy, BackupError> {
        match self {
            Self::Sqlite(store) => store.backup().await,
            Self::Postgres(_) => Err(BackupError::NoFile(
                "the store is a PostgreSQL database: use pg_dump, or the backups of the server".to_owned(),
            )),
        }
    }

    /// Returns the paused accounts.
    pub async fn pauses(&self) -> Result<Pauses, StoreError> {
        measured!(self, "pauses", store => store.pauses())
    }

    /// Writes that an account is paused, and returns its pause. A second pause of an account changes only its reason; without a reason, it
    /// changes nothing. Needs no lease.
    pub async fn pause(&self, tenant: &str, pause: &Pause) -> Result<Pause, StoreError> {
        measured!(self, "pause", store => store.pause(tenant, pause))
    }

    /// Deletes the pause of an account. Returns whether there was one. Needs no lease.
    pub async fn resume(&self, tenant: &str) -> Result<bool, StoreError> {
        measured!(self, "resume", store => store.resume(tenant))
    }

    /// Writes a new share, unless it conflicts with another share or its user would have access to more than `limit` leads.
    /// `None`: no limit.
    pub async fn add_share(
        &self,
        tenant: &str,
        share: &Share,
        limit: Option<u32>,
    ) -> Result<AddShareResult, StoreError> {
        measured!(self, "add_share", store => store.add_share(tenant, share, limit))
    }

    /// Writes the new state of a share. With `in_history`, also adds it to the history of the share.
    pub async fn save_share(&self, tenant: &str, share: &Share, in_history: bool) -> Result<(), StoreError> {
        measured!(self, "save_share", store => store.save_share(tenant, share, in_history))
    }

    /// Returns a share.
    pub async fn share(&self, tenant: &str, id: Uuid) -> Result<Option<Share>, StoreError> {
        measured!(self, "share", store => store.share(tenant, id))
    }

    /// Returns the id of the share that was created with a request id.
    pub async fn share_of_request(&self, tenant: &str, id: Uuid) -> Result<Option<Uuid>, StoreError> {
        measured!(self, "share_of_request", store => store.share_of_request(tenant, id))
    }

    /// Returns one of the shares of a lead. The key is an id or a number; for other keys, returns `None`.
    pub async fn share_of_lead(&self, tenant: &str, key: &LeadKey) -> Result<Option<Share>, StoreError> {
        measured!(self, "share_of_lead", store => store.share_of_lead(tenant, key))
    }

    /// Returns the shares that a filter selects, newest first.
    pub async fn shares(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<Share>, StoreError> {
        measured!(self, "shares", store => store.shares(tenant, filter))
    }

    /// Returns the query plan of [`Store::shares`] in the words of the backend.
    pub async fn share_plan(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<String>, StoreError> {
        measured!(self, "share_plan", store => store.share_plan(tenant, filter))
    }

    /// Returns the shares that the gateway has to work on, oldest first.
    pub async fn shares_in_progress(&self, tenant: &str) -> Result<Vec<Share>, StoreError> {
        measured!(self, "shares_in_progress", store => store.shares_in_progress(tenant))
    }

    /// Returns the shares whose duration is over and that are not marked as ended.
    pub async fn shares_due_to_expire(&self, tenant: &str, now: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        measured!(self, "shares_due_to_expire", store => store.shares_due_to_expire(tenant, now))
    }

    /// Returns when the next duration is over, of the shares that are not marked as ended. It may be over already.
    pub async fn next_expiry(&self, tenant: &str) -> Result<Option<Timestamp>, StoreError> {
        measured!(self, "next_expiry", store => store.next_expiry(tenant))
    }

    /// Returns the number of leads that a user may have access to through shares.
    pub async fn share_usage(&self, tenant: &str, user_id: &str) -> Result<u32, StoreError> {
        measured!(self, "share_usage", store => store.share_usage(tenant, user_id))
    }

    /// Returns the number of shares of an account by state. States without shares are left out.
    pub async fn count_shares(&self, tenant: &str) -> Result<BTreeMap<ShareState, u64>, StoreError> {
        let counts = measured!(self, "count_shares", store => store.count_shares(tenant))?.into_iter();
        // A state that this version does not know is a damaged row.
        let known = counts.filter_map(|(state, count)| {
            let state = ShareState::from_number(state)?;
            Some((state, u64::try_from(count).unwrap_or_default()))
        });
        Ok(known.collect())
    }

    /// Returns the history of a share, oldest change first.
    pub async fn share_history(&self, tenant: &str, id: Uuid) -> Result<Vec<ShareChange>, StoreError> {
        measured!(self, "share_history", store => store.share_history(tenant, id))
    }

    /// Deletes the shares of an account that ended before `oldest`. Returns the number of deleted shares.
    pub async fn delete_ended_shares(&self, tenant: &str, oldest: Timestamp) -> Result<u64, StoreError> {
        measured!(self, "delete_ended_shares", store => store.delete_ended_shares(tenant, oldest))
    }

    /// Scans the whole store for damaged rows.
    pub async fn find_damaged(&self) -> Result<Vec<DamagedRow>, StoreError> {
        measured!(self, "find_damaged", store => store.find_damaged())
    }

    /// Returns the number of known damaged rows, from the last [`Store::find_damaged`] and from reads since.
    pub fn damaged_rows(&self) -> usize {
        match self {
            Self::Sqlite(store) => store.damaged_rows(),
            Self::Postgres(store) => store.damaged_rows(),
        }
    }

    /// Moves damaged rows to the table `damaged`. Returns the number of moved rows, including the changes of damaged shares.
    pub async fn move_damaged(&self, rows: &[DamagedRow], now: Timestamp) -> Result<u64, StoreError> {
        measured!(self, "move_damaged", store => store.move_damaged(rows, now))
    }

    /// Counts a row as damaged that a user of the store cannot read.
    fn note_damaged(&self, row: &DamagedRow) {
        match self {
            Self::Sqlite(store) => store.note_damaged(row),
            Self::Postgres(store) => store.note_damaged(row),
        }
    }

    /// Waits for all pending writes, and closes the store.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
