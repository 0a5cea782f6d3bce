//! The store: all data that must survive the end of a call or of the process. It keeps the results of mutations by request
//! id, the shares, and the quota usage of each account. The backends are the variants of
//! [`Store`]; SQLite is the only one. `tests/conformance.rs` runs the same tests on each backend.

mod damage;
mod file;
mod record;
mod requests;
mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use uuid::Uuid;

use crate::context::RequestId;
use crate::domain::lead::LeadKey;
use crate::domain::share::{Share, ShareChange, ShareFilter};
use crate::domain::usage::QuotaUsage;
use crate::error::ErrorKind;
pub use damage::DamagedRow;
pub use record::StoredResult;
pub use requests::{PriorAttempt, RequestEntry, Requests};
use sqlite::Sqlite;

/// The store. Clones refer to the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// A SQLite database in one file or in memory. One process can use it at a time.
    Sqlite(Sqlite),
}

/// An error of the store. Contains no stored data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The failed action, as the predicate of the sentence "the store ...".
    failure: &'static str,
    reason: String,
    is_read_error: bool,
    is_in_use: bool,
}

/// The stored record of a mutation with a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRequest {
    /// The digest of the request message.
    pub fingerprint: Vec<u8>,
    /// When the mutation was started.
    pub started: Timestamp,
    /// The result as JSON; `None` if the outcome is unknown.
    pub result: Option<String>,
}

/// The result of [`Store::begin_request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginResult {
    /// A new record was written.
    Started,
    /// The request id already has a record.
    Exists,
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
        }
    }

    fn reading(failure: &'static str, reason: &dyn fmt::Display) -> Self {
        Self {
            is_read_error: true,
            ..Self::new(failure, reason)
        }
    }

    /// Returns the error for callers: `StoreUnreadable` if a read failed, otherwise `StoreUnavailable`.
    pub fn kind(&self) -> ErrorKind {
        if self.is_read_error {
            ErrorKind::StoreUnreadable
        } else {
            ErrorKind::StoreUnavailable
        }
    }

    /// Whether the only reason is that another process uses the store.
    pub fn is_in_use(&self) -> bool {
        self.is_in_use
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store {}: {}", self.failure, self.reason)
    }
}

impl std::error::Error for StoreError {}

impl Store {
    /// Opens the store at a URL. Creates it if it does not exist, and migrates it to the current schema.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("sqlite:") {
            return Sqlite::open(url).await.map(Self::Sqlite);
        }
        Err(StoreError::new(
            "cannot be opened",
            &"its URL must begin with \"sqlite:\"",
        ))
    }

    /// Checks that a store at a URL could be opened and written, without opening it. Returns the path if the file does not exist
    /// yet.
    pub fn check_path(url: &str) -> Result<Option<PathBuf>, StoreError> {
        let Some(path) = sqlite::path_of(url)? else {
            return Ok(None);
        };
        file::check(&path).map_err(|reason| StoreError::new("cannot be opened", &reason))?;
        Ok(Some(path).filter(|path| !path.exists()))
    }

    /// Checks that the store can be written: the file is the one that was opened, and its directory has free space. With
    /// `by_writing`, also writes a transaction. After a failed check of the file, mutations fail until a check succeeds.
    pub async fn probe(&self, by_writing: bool) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.probe(by_writing).await,
        }
    }

    /// Returns the record of a request id if the mutation was started at `oldest` or later. The operation is scheduled as one of
    /// `caller`, as in the functions below.
    pub async fn request(
        &self,
        tenant: &str,
        caller: &str,
        id: &Uuid,
        oldest: Timestamp,
    ) -> Result<Option<StoredRequest>, StoreError> {
        match self {
            Self::Sqlite(store) => store.request(tenant, caller, id, oldest).await,
        }
    }

    /// Writes the record of a mutation that starts, unless its request id already has a record. A record from before `oldest` is
    /// replaced.
    pub async fn begin_request(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<BeginResult, StoreError> {
        match self {
            Self::Sqlite(store) => store.begin_request(tenant, caller, request, now, oldest).await,
        }
    }

    /// Writes the result of a mutation into its record.
    pub async fn finish_request(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        result: &str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.finish_request(tenant, caller, request, result).await,
        }
    }

    /// Deletes the record of a mutation that was not executed.
    pub async fn delete_request(&self, tenant: &str, caller: &str, request: &RequestId) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.delete_request(tenant, caller, request).await,
        }
    }

    /// Deletes all records of mutations that were started before `oldest`. Returns the number of deleted records.
    pub async fn delete_old_requests(&self, oldest: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.delete_old_requests(oldest).await,
        }
    }

    /// Returns the last stored quota usage of an account.
    pub async fn quota_usage(&self, tenant: &str) -> Result<Option<QuotaUsage>, StoreError> {
        match self {
            Self::Sqlite(store) => store.quota_usage(tenant).await,
        }
    }

    /// Writes the quota usage of an account.
    pub async fn save_quota_usage(&self, tenant: &str, usage: &QuotaUsage) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.save_quota_usage(tenant, usage).await,
        }
    }

    /// Writes a new share, unless it conflicts with another share or its user would have access to more than `limit` leads.
    /// `None`: no limit.
    pub async fn add_share(
        &self,
        tenant: &str,
        share: &Share,
        limit: Option<u32>,
    ) -> Result<AddShareResult, StoreError> {
        match self {
            Self::Sqlite(store) => store.add_share(tenant, share, limit).await,
        }
    }

    /// Writes the new state of a share. With `in_history`, also adds it to the history of the share.
    pub async fn save_share(&self, tenant: &str, share: &Share, in_history: bool) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.save_share(tenant, share, in_history).await,
        }
    }

    /// Returns a share.
    pub async fn share(&self, tenant: &str, id: Uuid) -> Result<Option<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share(tenant, id).await,
        }
    }

    /// Returns the id of the share that was created with a request id.
    pub async fn share_of_request(&self, tenant: &str, id: Uuid) -> Result<Option<Uuid>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_of_request(tenant, id).await,
        }
    }

    /// Returns one of the shares of a lead. The key is an id or a number; for other keys, returns `None`.
    pub async fn share_of_lead(&self, tenant: &str, key: &LeadKey) -> Result<Option<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_of_lead(tenant, key).await,
        }
    }

    /// Returns the shares that a filter selects, newest first.
    pub async fn shares(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.shares(tenant, filter).await,
        }
    }

    /// Returns the query plan of [`Store::shares`] in the words of the backend.
    pub async fn share_plan(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_plan(tenant, filter).await,
        }
    }

    /// Returns the shares that the gateway has to work on, oldest first.
    pub async fn shares_in_progress(&self, tenant: &str) -> Result<Vec<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.shares_in_progress(tenant).await,
        }
    }

    /// Returns the shares whose duration is over and that are not marked as ended.
    pub async fn shares_due_to_expire(&self, tenant: &str, now: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        match self {
            Self::Sqlite(store) => store.shares_due_to_expire(tenant, now).await,
        }
    }

    /// Returns the number of leads that a user may have access to through shares.
    pub async fn share_usage(&self, tenant: &str, user_id: &str) -> Result<u32, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_usage(tenant, user_id).await,
        }
    }

    /// Returns the history of a share, oldest change first.
    pub async fn share_history(&self, tenant: &str, id: Uuid) -> Result<Vec<ShareChange>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_history(tenant, id).await,
        }
    }

    /// Deletes the shares of an account that ended before `oldest`. Returns the number of deleted shares.
    pub async fn delete_ended_shares(&self, tenant: &str, oldest: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.delete_ended_shares(tenant, oldest).await,
        }
    }

    /// Scans the whole store for damaged rows.
    pub async fn find_damaged(&self) -> Result<Vec<DamagedRow>, StoreError> {
        match self {
            Self::Sqlite(store) => store.find_damaged().await,
        }
    }

    /// Returns the number of known damaged rows, from the last [`Store::find_damaged`] and from reads since.
    pub fn damaged_rows(&self) -> usize {
        match self {
            Self::Sqlite(store) => store.damaged_rows(),
        }
    }

    /// Moves damaged rows to the table `damaged`. Returns the number of moved rows, including the changes of damaged shares.
    pub async fn move_damaged(&self, rows: &[DamagedRow], now: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.move_damaged(rows, now).await,
        }
    }

    /// Counts a row as damaged that a user of the store cannot read.
    fn note_damaged(&self, row: &DamagedRow) {
        match self {
            Self::Sqlite(store) => store.note_damaged(row),
        }
    }

    /// Waits for all pending writes, and closes the store.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
        }
    }
}
