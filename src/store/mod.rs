//! What outlives a call, and the process: the answers of mutations by their request ids, and what each account has spent.
//! A closed set of backends, so that both arms stay in sight; the same tests run over each.

mod damage;
mod place;
mod record;
mod requests;
mod sqlite;

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
pub use record::Answer;
pub use requests::{Before, Entry, Requests};
use sqlite::Sqlite;

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub enum Store {
    /// In one file, or in memory, for one process.
    Sqlite(Sqlite),
}

/// What the store cannot do, and why. Holds nothing of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    what: &'static str,
    why: String,
    /// Whether reading failed, and not writing.
    is_of_reading: bool,
    /// Whether another process has the store.
    in_use: bool,
}

/// What is known of a mutation by its request id: it was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The digest of the message.
    pub fingerprint: Vec<u8>,
    /// When it was begun.
    pub begun: Timestamp,
    /// The answer as JSON; `None` where its outcome is not known.
    pub answer: Option<String>,
}

/// What became of the record of a mutation that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is written.
    New,
    /// There is one of that id.
    Known,
}

/// What became of a new share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is written down.
    Written {
        /// The leads that its user may have access to by shares, this one included.
        used: u32,
    },
    /// That share is in its way.
    Other(Uuid),
    /// Its user has access to too many leads already.
    Full,
}

impl StoreError {
    fn new(what: &'static str, why: &dyn fmt::Display) -> Self {
        Self {
            what,
            why: why.to_string(),
            is_of_reading: false,
            in_use: false,
        }
    }

    fn reading(what: &'static str, why: &dyn fmt::Display) -> Self {
        Self {
            is_of_reading: true,
            ..Self::new(what, why)
        }
    }

    /// The error for callers: whether reading or writing failed.
    pub fn kind(&self) -> ErrorKind {
        if self.is_of_reading {
            ErrorKind::StoreUnreadable
        } else {
            ErrorKind::StoreUnavailable
        }
    }

    /// Whether it is nothing but another process that has the store.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store {}: {}", self.what, self.why)
    }
}

impl std::error::Error for StoreError {}

impl Store {
    /// Opens the store at that address, made and brought up to date if need be.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("sqlite:") {
            return Sqlite::open(url).await.map(Self::Sqlite);
        }
        Err(StoreError::new(
            "cannot be opened",
            &"its address must begin with \"sqlite:\"",
        ))
    }

    /// Checks that a store at that address could be written, as far as the file and its folder tell. Returns the path of a
    /// file that is still to be made.
    pub fn check_place(url: &str) -> Result<Option<PathBuf>, StoreError> {
        let Some(path) = sqlite::file_of(url)? else {
            return Ok(None);
        };
        place::check(&path).map_err(|why| StoreError::new("cannot be opened", &why))?;
        Ok(Some(path).filter(|path| !path.exists()))
    }

    /// Checks that the store can be written: the file is still the one that was opened and its folder has room; if
    /// `by_writing`, also with a transaction. Mutations fail from the moment when this finds that the file was deleted or
    /// replaced.
    pub async fn probe(&self, by_writing: bool) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.probe(by_writing).await,
        }
    }

    /// What is known of the mutation of that id, begun at `oldest` or later. `caller`: whose turn it costs, here and below.
    pub async fn known(
        &self,
        tenant: &str,
        caller: &str,
        id: &Uuid,
        oldest: Timestamp,
    ) -> Result<Option<Known>, StoreError> {
        match self {
            Self::Sqlite(store) => store.known(tenant, caller, id, oldest).await,
        }
    }

    /// Writes down that a mutation is begun, unless its id is known already. What was begun before `oldest` is forgotten.
    pub async fn begin(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<Begun, StoreError> {
        match self {
            Self::Sqlite(store) => store.begin(tenant, caller, request, now, oldest).await,
        }
    }

    /// Writes down the answer of a mutation that was begun.
    pub async fn finish(
        &self,
        tenant: &str,
        caller: &str,
        request: &RequestId,
        answer: &str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.finish(tenant, caller, request, answer).await,
        }
    }

    /// Forgets a mutation that was begun and came to nothing.
    pub async fn forget(&self, tenant: &str, caller: &str, request: &RequestId) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.forget(tenant, caller, request).await,
        }
    }

    /// Forgets all mutations begun before that time; how many they were.
    pub async fn sweep(&self, oldest: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.sweep(oldest).await,
        }
    }

    /// What the account had spent when it was last written down.
    pub async fn quota_usage(&self, tenant: &str) -> Result<Option<QuotaUsage>, StoreError> {
        match self {
            Self::Sqlite(store) => store.quota_usage(tenant).await,
        }
    }

    /// Writes down what the account has spent.
    pub async fn save_quota_usage(&self, tenant: &str, usage: &QuotaUsage) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.save_quota_usage(tenant, usage).await,
        }
    }

    /// Writes a new share down, unless another one is in its way, or its user has access to so many other leads already.
    pub async fn add_share(&self, tenant: &str, share: &Share, most: Option<u32>) -> Result<Added, StoreError> {
        match self {
            Self::Sqlite(store) => store.add_share(tenant, share, most).await,
        }
    }

    /// Writes down what has become of a share, and in its history too where callers are told of it.
    pub async fn save_share(&self, tenant: &str, share: &Share, told: bool) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.save_share(tenant, share, told).await,
        }
    }

    /// The share of that id.
    pub async fn share(&self, tenant: &str, id: Uuid) -> Result<Option<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share(tenant, id).await,
        }
    }

    /// The share that was asked for with that request id.
    pub async fn share_of_request(&self, tenant: &str, id: Uuid) -> Result<Option<Uuid>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_of_request(tenant, id).await,
        }
    }

    /// Some share of the lead of that key.
    pub async fn share_of_lead(&self, tenant: &str, key: &LeadKey) -> Result<Option<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_of_lead(tenant, key).await,
        }
    }

    /// Shares, the newest first.
    pub async fn shares(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.shares(tenant, filter).await,
        }
    }

    /// How the backend goes about finding such shares, in its own words.
    pub async fn share_plan(&self, tenant: &str, filter: &ShareFilter) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_plan(tenant, filter).await,
        }
    }

    /// The shares for which there is something to be done, the oldest first.
    pub async fn unsettled_shares(&self, tenant: &str) -> Result<Vec<Share>, StoreError> {
        match self {
            Self::Sqlite(store) => store.unsettled_shares(tenant).await,
        }
    }

    /// The shares whose time is over and that are not known to have ended.
    pub async fn ended_shares(&self, tenant: &str, now: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        match self {
            Self::Sqlite(store) => store.ended_shares(tenant, now).await,
        }
    }

    /// How many leads a user may have access to by shares.
    pub async fn share_usage(&self, tenant: &str, user_id: &str) -> Result<u32, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_usage(tenant, user_id).await,
        }
    }

    /// What became of a share, in order.
    pub async fn share_history(&self, tenant: &str, id: Uuid) -> Result<Vec<ShareChange>, StoreError> {
        match self {
            Self::Sqlite(store) => store.share_history(tenant, id).await,
        }
    }

    /// Forgets the account's shares that were over before that time; how many they were.
    pub async fn sweep_shares(&self, tenant: &str, oldest: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.sweep_shares(tenant, oldest).await,
        }
    }

    /// Reads the whole store for damaged rows.
    pub async fn find_damaged(&self) -> Result<Vec<DamagedRow>, StoreError> {
        match self {
            Self::Sqlite(store) => store.find_damaged().await,
        }
    }

    /// How many damaged rows are known, from the last [`Store::find_damaged`] and from reads since.
    pub fn damaged_rows(&self) -> usize {
        match self {
            Self::Sqlite(store) => store.damaged_rows(),
        }
    }

    /// Moves these damaged rows to the table `damaged`. Returns how many rows were moved, changes of damaged shares included.
    pub async fn move_damaged(&self, rows: &[DamagedRow], now: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.move_damaged(rows, now).await,
        }
    }

    /// Counts a row as damaged that a caller of the store cannot read.
    fn note_damaged(&self, row: &DamagedRow) {
        match self {
            Self::Sqlite(store) => store.note_damaged(row),
        }
    }

    /// Ends all connections, so that nothing is left to be written.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::context::RequestContext;
    use crate::domain::lead::WriteResult;
    use crate::domain::share::{Access, ShareContext, ShareStage, ShareState, ShareStep, SharedEntity};
    use crate::domain::usage::{HeldSlots, HeldSlotsOfLimit};
    use crate::domain::value::{FieldSet, Value};
    use crate::error::{Cause, Certificate, Error, Facts, Repeat, Resource, Violation};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn request(id: u128) -> RequestId {
        RequestId {
            id: Uuid::from_u128(id),
            fingerprint: [7; 32],
        }
    }

    /// The tests that every backend has to pass; `open` opens the same store again.
    async fn every_backend<F: Future<Output = Store>>(open: impl Fn() -> F) {
        let store = open().await;
        let begin = |store: Store, id, now, oldest| async move {
            store
                .begin("acme", "crm", &request(id), at(now), at(oldest))
                .await
                .unwrap()
        };
        let known = |store: Store, id, oldest| async move {
            let known = store
                .known("acme", "crm", &Uuid::from_u128(id), at(oldest))
                .await
                .unwrap();
            known.map(|known| {
                assert_eq!(known.fingerprint, [7; 32]);
                (known.begun, known.answer)
            })
        };
        let used = |begun, answer: Option<&str>| Some((at(begun), answer.map(str::to_owned)));

        // Begun once, known ever after, and over a restart.
        assert_eq!(known(store.clone(), 1, 0).await, None);
        assert_eq!(begin(store.clone(), 1, 100, 0).await, Begun::New);
        assert_eq!(begin(store.clone(), 1, 101, 0).await, Begun::Known);
        assert_eq!(known(store.clone(), 1, 0).await, used(100, None));
        store.finish("acme", "crm", &request(1), "{}").await.unwrap();
        store.close().await;
        let store = open().await;
        assert_eq!(known(store.clone(), 1, 0).await, used(100, Some("{}")));

        // Another tenant's id is another id.
        let other = store.begin("south", "crm", &request(1), at(102), at(0)).await;
        assert_eq!(other, Ok(Begun::New));

        // What came to nothing, or is too old, may be begun anew.
        store.forget("acme", "crm", &request(1)).await.unwrap();
        assert_eq!(known(store.clone(), 1, 0).await, None);
        assert_eq!(begin(store.clone(), 1, 103, 0).await, Begun::New);
        assert_eq!(known(store.clone(), 1, 150).await, None);
        assert_eq!(begin(store.clone(), 1, 200, 150).await, Begun::New);
        assert_eq!(begin(store.clone(), 1, 201, 150).await, Begun::Known);
        assert_eq!(store.sweep(at(150)).await, Ok(1));
        assert_eq!(known(store.clone(), 1, 150).await, used(200, None));

        assert_eq!(store.quota_usage("acme").await, Ok(None));
        for calls in [1, 2] {
            let usage = QuotaUsage {
                day: "2026-07-31".to_owned(),
                calls,
                last_grant: at(300),
                slots: (calls == 2).then(slots),
            };
            store.save_quota_usage("acme", &usage).await.unwrap();
            assert_eq!(store.quota_usage("acme").await, Ok(Some(usage)));
        }
    }

    fn slots() -> HeldSlots {
        let held = |free_at: &[Timestamp]| HeldSlotsOfLimit {
            window: Duration::from_secs(5),
            free_at: free_at.to_vec(),
        };
        HeldSlots {
            calls: held(&[at(301), Timestamp::MAX]),
            bulk: held(&[]),
        }
    }

    #[tokio::test]
    async fn what_an_older_version_has_spent_is_known_without_its_slots() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let Store::Sqlite(sqlite) = &store;
        sqlite
            .execute("INSERT INTO spent (tenant, day, calls, last_grant) VALUES ('acme', '2026-07-31', 7, 300)")
            .await;
        let usage = store.quota_usage("acme").await.unwrap().unwrap();
        let last_grant = Timestamp::from_millisecond(300).unwrap();
        assert_eq!((usage.calls, usage.last_grant, usage.slots), (7, last_grant, None));
    }

    #[tokio::test]
    async fn unreadable_slots_are_a_window_that_may_be_spent() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let usage = QuotaUsage {
            day: "2026-07-31".to_owned(),
            calls: 3,
            last_grant: at(300),
            slots: Some(slots()),
        };
        store.save_quota_usage("acme", &usage).await.unwrap();
        let Store::Sqlite(sqlite) = &store;
        for damage in ["'nonsense'", "'{}'", "x'00'", "7"] {
            sqlite.execute(&format!("UPDATE spent SET slots = {damage}")).await;
            let usage = store.quota_usage("acme").await.unwrap().unwrap();
            assert_eq!((usage.last_grant, usage.slots), (Timestamp::MAX, None), "{damage}");
        }
    }

    fn share(id: u128, user: &str, lead: &str) -> Share {
        let what = SharedEntity::Lead {
            id: lead.to_owned(),
            number: format!("{id}"),
            context: ShareContext::Given {
                id: format!("activity-{id}"),
            },
        };
        Share::new(Uuid::from_u128(id), what, user.to_owned(), Access::Write, 30, at(1))
    }

    async fn ids(store: &Store, filter: ShareFilter) -> Vec<u128> {
        let filter = ShareFilter { most: 10, ..filter };
        let found = store.shares("acme", &filter).await.unwrap();
        found.iter().map(|share| share.id.as_u128()).collect()
    }

    /// The same for the ledger of shares.
    async fn every_ledger<F: Future<Output = Store>>(open: impl Fn() -> F) {
        let store = open().await;
        let add = |share: Share| {
            let store = store.clone();
            async move { store.add_share("acme", &share, Some(3)).await.unwrap() }
        };
        let first = Share {
            request_id: Some(Uuid::from_u128(77)),
            ..share(1, "Sam", "L1")
        };
        let written = |used| Added::Written { used };
        assert_eq!(add(first.clone()).await, written(1));
        // The same user and lead, whatever the case, unless somebody asks for more.
        assert_eq!(add(share(2, "sam", "l1")).await, Added::Other(first.id));
        let more = Share {
            additional: true,
            ..share(3, "sam", "l1")
        };
        assert_eq!(add(more).await, written(1));
        assert_eq!(add(share(4, "sita", "l1")).await, written(1));
        assert_eq!(add(share(5, "sam", "l2")).await, written(2));
        // Another lead is one too many; one more share of the same lead is not.
        let full = store.add_share("acme", &share(6, "sam", "l3"), Some(2)).await;
        assert_eq!(full, Ok(Added::Full));
        // Another account knows nothing of them.
        let south = store.add_share("south", &share(1, "sam", "l1"), None).await;
        assert_eq!(south, Ok(written(1)));

        // A share is found by all that it is asked for by, the newest first.
        let of = |user: &str, lead: &str| ShareFilter {
            user_id: Some(user.to_owned()).filter(|user| !user.is_empty()),
            entity_id: Some(lead.to_owned()).filter(|lead| !lead.is_empty()),
            ..ShareFilter::default()
        };
        assert_eq!(ids(&store, ShareFilter::default()).await, [5, 4, 3, 1]);
        assert_eq!(ids(&store, of("SAM", "")).await, [5, 3, 1]);
        assert_eq!(ids(&store, of("", "L1")).await, [4, 3, 1]);
        assert_eq!(ids(&store, of("sam", "l1")).await, [3, 1]);
        let behind = ShareFilter {
            before: Some(Uuid::from_u128(4)),
            ..ShareFilter::default()
        };
        assert_eq!(ids(&store, behind).await, [3, 1]);
        assert_eq!(store.share("acme", Uuid::from_u128(1)).await, Ok(Some(first.clone())));
        assert_eq!(store.share("acme", Uuid::from_u128(9)).await, Ok(None));
        let asked_with = store.share_of_request("acme", Uuid::from_u128(77)).await;
        assert_eq!(asked_with, Ok(Some(first.id)));
        assert_eq!(store.share_of_request("south", Uuid::from_u128(77)).await, Ok(None));
        for key in [
            LeadKey::Id("l2".into()),
            LeadKey::Id("L2".into()),
            LeadKey::Number("5".into()),
        ] {
            let found = store.share_of_lead("acme", &key).await.unwrap();
            assert_eq!(found.map(|share| share.id.as_u128()), Some(5), "{key:?}");
        }
        assert_eq!(store.share_of_lead("acme", &LeadKey::Id("5".into())).await, Ok(None));
        assert_eq!(store.share_usage("acme", "Sam").await, Ok(2));

        // What becomes of it is kept, over a restart too, with its history.
        let active = Share {
            stage: ShareStage::Active,
            expires: Some(at(500)),
            changed: at(20),
            ..first.clone()
        };
        store.save_share("acme", &active, true).await.unwrap();
        store.save_share("acme", &active, false).await.unwrap();
        store.close().await;
        let store = open().await;
        assert_eq!(store.share("acme", first.id).await, Ok(Some(active.clone())));
        let states: Vec<_> = store.share_history("acme", first.id).await.unwrap();
        let states: Vec<_> = states.into_iter().map(|change| (change.state, change.at)).collect();
        assert_eq!(states, [(ShareState::Submitted, at(1)), (ShareState::Active, at(20))]);
        let unsettled = store.unsettled_shares("acme").await.unwrap();
        let unsettled: Vec<_> = unsettled.iter().map(|share| share.id.as_u128()).collect();
        assert_eq!(unsettled, [3, 4, 5]);
        let by_state = |states: &[ShareState]| ShareFilter {
            states: states.to_vec(),
            ..ShareFilter::default()
        };
        assert_eq!(ids(&store, by_state(&[ShareState::Active])).await, [1]);
        assert_eq!(
            ids(&store, by_state(&[ShareState::Submitted, ShareState::Failed])).await,
            [5, 4, 3]
        );
        let ending = ShareFilter {
            expire_before: Some(at(501)),
            ..ShareFilter::default()
        };
        assert_eq!(ids(&store, ending).await, [1]);

        // Its end is found when its time is over, and it is forgotten long after.
        assert_eq!(store.ended_shares("acme", at(499)).await, Ok(vec![]));
        assert_eq!(store.ended_shares("acme", at(500)).await, Ok(vec![first.id]));
        let expired = Share {
            stage: ShareStage::Expired,
            changed: at(500),
            ..active
        };
        store.save_share("acme", &expired, true).await.unwrap();
        assert_eq!(store.ended_shares("acme", at(600)).await, Ok(vec![]));
        assert_eq!(store.share_usage("acme", "sam").await, Ok(2));
        assert_eq!(store.sweep_shares("acme", at(500)).await, Ok(0));
        assert_eq!(store.sweep_shares("south", at(501)).await, Ok(0));
        // Its request id is free again, should somebody use it much later.
        let again = Share {
            request_id: Some(Uuid::from_u128(77)),
            ..share(7, "ravi", "l1")
        };
        assert_eq!(store.add_share("acme", &again, None).await, Ok(written(1)));
        assert_eq!(
            store.share_of_request("acme", Uuid::from_u128(77)).await,
            Ok(Some(again.id))
        );
        assert_eq!(store.sweep_shares("acme", at(501)).await, Ok(1));
        assert_eq!(store.share("acme", first.id).await, Ok(None));
        assert_eq!(store.share_history("acme", first.id).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn sqlite_finds_shares_by_what_they_are_asked_for_by() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        for (user, lead, index) in [
            (Some("sam"), None, "share_of_user (tenant=? AND user_id=? AND id<?)"),
            (None, Some("l1"), "share_of_entity (tenant=? AND entity_id=? AND id<?)"),
            (
                Some("sam"),
                Some("l1"),
                "share_of_entity (tenant=? AND entity_id=? AND id<?)",
            ),
            (None, None, "PRIMARY KEY (tenant=? AND id<?)"),
        ] {
            let filter = ShareFilter {
                user_id: user.map(str::to_owned),
                entity_id: lead.map(str::to_owned),
                before: Some(Uuid::from_u128(9)),
                states: vec![ShareState::Active],
                most: 10,
                ..ShareFilter::default()
            };
            let plan = store.share_plan("acme", &filter).await.unwrap();
            assert!(plan.iter().any(|step| step.ends_with(index)), "{plan:?}");
            // No share is looked at that is not returned.
            let is_covered = user.is_none() || plan.iter().any(|step| step.contains("COVERING INDEX"));
            assert!(is_covered || lead.is_some(), "{plan:?}");
        }
    }

    #[tokio::test]
    async fn sqlite_keeps_the_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", folder.path().display());
        every_ledger(|| async { Store::open(&url).await.unwrap() }).await;
    }

    #[tokio::test]
    async fn sqlite_keeps_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", folder.path().display());
        every_backend(|| async { Store::open(&url).await.unwrap() }).await;
    }

    #[tokio::test]
    async fn a_store_in_memory_needs_no_file() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let request = request(1);
        let begin = || store.begin("acme", "crm", &request, at(1), at(0));
        assert_eq!(begin().await, Ok(Begun::New));
        assert_ne!(begin().await, Ok(Begun::New));
    }

    #[tokio::test]
    async fn one_file_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", folder.path().display());
        let first = Store::open(&url).await.unwrap();
        let fault = Store::open(&url).await.unwrap_err();
        assert!(fault.is_in_use(), "{fault}");
        first.close().await;
        Store::open(&url).await.unwrap();
    }

    #[tokio::test]
    async fn a_deleted_store_refuses_mutations_and_is_not_opened_a_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let url = format!("sqlite://{}", file.display());
        let store = Store::open(&url).await.unwrap();
        store.add_share("acme", &share(1, "sam", "l1"), None).await.unwrap();
        assert_eq!(store.probe(true).await, Ok(()));
        let aside = folder.path().join("aside");
        std::fs::rename(&file, &aside).unwrap();
        let fault = store.probe(true).await.unwrap_err();
        assert!(fault.to_string().contains("was deleted or renamed"), "{fault}");
        for fault in [
            store.begin("acme", "crm", &request(1), at(1), at(0)).await.unwrap_err(),
            store.add_share("acme", &share(2, "sam", "l2"), None).await.unwrap_err(),
            store
                .save_share("acme", &share(1, "sam", "l1"), true)
                .await
                .unwrap_err(),
        ] {
            assert_eq!(fault.kind(), ErrorKind::StoreUnavailable, "{fault}");
            assert!(fault.to_string().contains("was deleted or renamed"), "{fault}");
        }
        assert_eq!(ids(&store, ShareFilter::default()).await, [1]);
        assert!(Store::open(&url).await.unwrap_err().is_in_use());
        std::fs::rename(&aside, &file).unwrap();
        assert_eq!(store.probe(true).await, Ok(()));
        assert_eq!(
            store.begin("acme", "crm", &request(1), at(1), at(0)).await,
            Ok(Begun::New)
        );
    }

    #[tokio::test]
    async fn files_that_are_no_store_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not.db");
        std::fs::write(
            &file,
            "this is no database, but long enough to be taken for one".repeat(100),
        )
        .unwrap();
        for url in [
            format!("sqlite://{}", file.display()),
            format!("sqlite://{}", folder.path().display()),
            format!("sqlite://{}/nowhere/x.db", folder.path().display()),
            "mysql://x".to_owned(),
        ] {
            let fault = Store::open(&url).await.unwrap_err();
            assert!(fault.to_string().starts_with("the store "), "{fault}");
            let path = url.strip_prefix("sqlite://").unwrap_or_default();
            let is_named = fault.to_string().contains(path.trim_end_matches("/x.db"));
            assert!(is_named, "{url}: {fault}");
        }
        // What was there is there still.
        assert!(
            std::fs::read_to_string(&file)
                .unwrap()
                .starts_with("this is no database")
        );
    }

    #[tokio::test]
    async fn a_damaged_file_is_told_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let url = format!("sqlite://{}", file.display());
        let store = Store::open(&url).await.unwrap();
        for id in 0..500 {
            store.begin("acme", "crm", &request(id), at(1), at(0)).await.unwrap();
        }
        store.close().await;
        let mut bytes = std::fs::read(&file).unwrap();
        let end = bytes.len();
        bytes[8192..end].fill(0xa5);
        std::fs::write(&file, &bytes).unwrap();
        let fault = Store::open(&url).await.unwrap_err();
        let (text, path) = (fault.to_string(), file.display().to_string());
        assert!(text.starts_with("the store ") && text.contains(&path), "{text}");
        assert_eq!(std::fs::read(&file).unwrap().len(), bytes.len());
    }

    /// Every kind of error with any content, except those that the store cannot be asked to keep.
    fn any_error() -> impl Strategy<Value = Error> {
        let text = || any::<String>();
        let retry = || (0..u64::MAX, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n));
        let violations = proptest::collection::vec((text(), text()).prop_map(|(a, b)| Violation::new(a, b)), 0..3);
        let resource = prop_oneof![
            Just(Resource::Lead),
            Just(Resource::User),
            Just(Resource::Activity),
            Just(Resource::Opportunity),
            Just(Resource::Share)
        ];
        let plain = proptest::sample::select(vec![
            ErrorKind::FeatureDisabled,
            ErrorKind::NotASalesUser,
            ErrorKind::ShareLimitReached,
            ErrorKind::ShareNotActive,
            ErrorKind::ShareNotRetryable,
            ErrorKind::Exception,
            ErrorKind::OutcomeUnknown,
            ErrorKind::StoreUnavailable,
            ErrorKind::StoreUnreadable,
            ErrorKind::ShuttingDown,
            ErrorKind::CallerLeft,
        ]);
        let kind = prop_oneof![
            violations.prop_map(ErrorKind::Invalid),
            (proptest::option::of(text()), proptest::option::of(text()))
                .prop_map(|(attribute, lead_id)| ErrorKind::Duplicate { attribute, lead_id }),
            resource.prop_map(ErrorKind::NotFound),
            retry().prop_map(|retry_after| ErrorKind::DeadlineInfeasible { retry_after }),
            retry().prop_map(|retry_after| ErrorKind::CallerLimit { retry_after }),
            retry().prop_map(|retry_after| ErrorKind::QueueFull { retry_after }),
            retry().prop_map(|retry_after| ErrorKind::BreakerOpen { retry_after }),
            proptest::option::of(text()).prop_map(|suggested_host| ErrorKind::CredentialsRejected { suggested_host }),
            any::<Option<u128>>().prop_map(|by| ErrorKind::ShareExists {
                by: by.map(Uuid::from_u128)
            }),
            any::<bool>().prop_map(|sent| ErrorKind::Unavailable { sent }),
            (any::<usize>(), any::<usize>(), proptest::option::of(text()))
                .prop_map(|(bytes, limit, lead_id)| { ErrorKind::ResponseTooLarge { bytes, limit, lead_id } }),
            text().prop_map(|place| ErrorKind::DeadlineExceeded { place: place.into() }),
            text().prop_map(|path| ErrorKind::Unreadable { path }),
            plain,
        ];
        let facts = (
            any::<Option<u16>>(),
            proptest::option::of(text()),
            any::<bool>(),
            any::<u32>(),
            proptest::option::of(retry()),
        );
        (kind, facts, any::<Option<u128>>()).prop_map(
            |(kind, (status, exception, is_page, attempts, queued), share)| {
                let mut error = Error::from(kind);
                *error.facts = Facts {
                    upstream_status: status,
                    exception_type: exception,
                    is_page,
                    attempts,
                    queued: queued.unwrap_or_default(),
                    share_id: share.map(Uuid::from_u128),
                    cause: Some(Cause::Certificate(Certificate::Expired)).filter(|_| is_page),
                    repeat: queued.map(|after| Repeat::SameRequestId { after }),
                };
                error
            },
        )
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        let seconds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
        let time = (seconds, 0..1_000_000_000).prop_map(|(s, n)| Timestamp::new(s, n).unwrap_or(Timestamp::MIN));
        prop_oneof![time, Just(Timestamp::MIN), Just(Timestamp::MAX)]
    }

    /// Every value that a field of an activity may hold.
    fn any_value() -> impl Strategy<Value = Value> {
        let finite = any::<f64>().prop_filter("messages with others are refused", |number| number.is_finite());
        let set = (any::<String>(), any::<BTreeMap<String, String>>());
        prop_oneof![
            any::<String>().prop_map(Value::Text),
            finite.prop_map(Value::Number),
            proptest::sample::select(vec![-0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e21, 0.1])
                .prop_map(Value::Number),
            any::<i64>().prop_map(Value::Integer),
            any::<bool>().prop_map(Value::Flag),
            any_time().prop_map(Value::Time),
            set.prop_map(|(value, fields)| Value::FieldSet(FieldSet { value, fields })),
        ]
    }

    fn any_share() -> impl Strategy<Value = Share> {
        let fields = proptest::collection::btree_map(any::<String>(), any_value(), 0..4);
        let new = (any::<Option<String>>(), any::<i32>(), any::<String>(), fields)
            .prop_map(|(id, code, note, fields)| ShareContext::New { id, code, note, fields });
        let given = any::<String>().prop_map(|id| ShareContext::Given { id });
        let lead = (any::<String>(), any::<String>(), prop_oneof![new, given])
            .prop_map(|(id, number, context)| SharedEntity::Lead { id, number, context });
        let what = prop_oneof![3 => lead, 1 => any::<String>().prop_map(|id| SharedEntity::Opportunity { id })];
        let texts = (
            any::<String>(),
            any::<String>(),
            any::<String>(),
            any::<Option<String>>(),
        );
        let times = (any_time(), any_time(), proptest::option::of(any_time()));
        let flags = any::<[bool; 5]>();
        let state = (
            proptest::sample::select(ShareStage::ALL.to_vec()),
            proptest::option::of(any_error()),
        );
        (what, texts, times, flags, state, any::<(u128, u128, u32)>()).prop_map(
            |(what, (user, caller, class, upstream), (created, changed, other), flags, (stage, failure), ids)| Share {
                caller,
                criticality: class,
                stage,
                failure,
                created,
                changed,
                asked: other,
                granted: other,
                expires: other,
                revoke_wanted: flags[0],
                doubted: flags[1],
                posted_again: flags[2],
                additional: flags[3],
                step: Some(ShareStep::Share).filter(|_| flags[4]),
                upstream_request_id: upstream,
                request_id: Some(Uuid::from_u128(ids.1)),
                extends: Some(Uuid::from_u128(ids.1)).filter(|_| flags[4]),
                ..Share::new(Uuid::from_u128(ids.0), what, user, Access::Read, ids.2, created)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn every_share_that_is_written_is_read_back(share in any_share(), later in any_share()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = Store::open("sqlite::memory:").await.unwrap();
                let added = store.add_share("acme", &share, None).await;
                prop_assert!(matches!(added, Ok(Added::Written { .. })), "{added:?}");
                prop_assert_eq!(store.share("acme", share.id).await, Ok(Some(share.clone())));
                // What becomes of it.
                let later = Share {
                    id: share.id,
                    user_id: share.user_id.clone(),
                    request_id: share.request_id,
                    what: match (&share.what, later.what) {
                        (SharedEntity::Lead { id, number, .. }, SharedEntity::Lead { context, .. }) => SharedEntity::Lead {
                            id: id.clone(),
                            number: number.clone(),
                            context,
                        },
                        _ => share.what.clone(),
                    },
                    ..later
                };
                store.save_share("acme", &later, true).await.unwrap();
                let all = ShareFilter { most: 10, ..ShareFilter::default() };
                prop_assert_eq!(store.shares("acme", &all).await, Ok(vec![later.clone()]));
                prop_assert_eq!(store.share_history("acme", share.id).await.unwrap().len(), 2);
                prop_assert_eq!(store.find_damaged().await, Ok(vec![]));
                Ok(())
            })?;
        }

        #[test]
        fn every_answer_and_error_of_a_request_id_is_read_back(
            error in any_error(),
            lead_id: String,
            affected_rows: i32,
            created: Option<bool>,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = Store::open("sqlite::memory:").await.unwrap();
                let day = Duration::from_secs(86_400);
                let over = || Arc::new(Requests::new(store.clone(), "acme", day, TaskTracker::new()));
                let context = || RequestContext::internal("test", Duration::from_secs(10));
                let done = WriteResult { lead_id, affected_rows, created };
                for (id, result) in [(1, Ok(done)), (2, Err(error))] {
                    let is_kept = result.as_ref().err().is_none_or(Error::is_final);
                    let first = result.clone();
                    let (requests, entry) = (over(), request(id));
                    let entry = requests.enter(entry);
                    let asked = entry.recorded(&context());
                    let work = |_| async move {
                        asked.begin().await?;
                        first
                    };
                    let was = requests.once(&context(), Some(entry), work).await;
                    prop_assert_eq!(&was, &result);
                    if is_kept {
                        let requests = over();
                        let entry = requests.enter(request(id));
                        let again = requests.once(&context(), Some(entry), |_| async { Err(ErrorKind::CallerLeft.into()) }).await;
                        prop_assert_eq!(again, result);
                    }
                }
                prop_assert_eq!(store.find_damaged().await, Ok(vec![]));
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn a_share_that_could_not_be_read_back_is_not_written() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let good = share(1, "sam", "l1");
        store.add_share("acme", &good, None).await.unwrap();
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let bad = |id| Share {
                what: SharedEntity::Lead {
                    id: "l1".to_owned(),
                    number: "1".to_owned(),
                    context: ShareContext::New {
                        id: None,
                        code: 201,
                        note: String::new(),
                        fields: BTreeMap::from([("mx_Score".to_owned(), Value::Number(number))]),
                    },
                },
                ..share(id, "sam", "l1")
            };
            let fault = store.add_share("acme", &bad(2), None).await;
            assert!(matches!(fault, Ok(Added::Other(_))), "{fault:?}");
            let other = Share {
                user_id: "sita".to_owned(),
                ..bad(2)
            };
            let fault = store.add_share("acme", &other, None).await.unwrap_err();
            assert!(
                fault.to_string().starts_with("the store cannot be written: a share: "),
                "{fault}"
            );
            assert_eq!(fault.kind(), ErrorKind::StoreUnavailable);
            assert!(store.save_share("acme", &bad(1), true).await.is_err());
        }
        assert_eq!(store.share("acme", good.id).await, Ok(Some(good)));
        assert_eq!(store.share("acme", Uuid::from_u128(2)).await, Ok(None));
    }

    /// What may be wrong with a row: the statement that damages it.
    const DAMAGES: [&str; 10] = [
        "UPDATE share SET document = 'nonsense'",
        "UPDATE share SET document = json_set(document, '$.what.Lead.context', json('{\"Number\":null}'))",
        "UPDATE share SET document = x'ff00'",
        "UPDATE share SET document = CAST(x'7bff' AS TEXT)",
        "UPDATE share SET document = ''",
        "UPDATE share SET document = json_set(document, '$.id', 'x')",
        "UPDATE share SET document = document || document",
        "UPDATE share SET kind = 2",
        "UPDATE share SET unsettled = 'no'",
        "UPDATE share SET changed = x'00'",
    ];

    #[tokio::test]
    async fn a_damaged_share_is_counted_and_costs_no_other_share() {
        for damage in DAMAGES {
            let store = Store::open("sqlite::memory:").await.unwrap();
            let request_id = |id| Some(Uuid::from_u128(id));
            for id in 1..=5 {
                let share = Share {
                    stage: if id == 5 {
                        ShareStage::ShareInProgress
                    } else {
                        ShareStage::Active
                    },
                    expires: Some(at(100)),
                    additional: true,
                    request_id: request_id(70 + id),
                    ..share(id, "sam", "l1")
                };
                store.add_share("acme", &share, None).await.unwrap();
            }
            let Store::Sqlite(sqlite) = &store;
            let hit = "WHERE id IN ('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000002')";
            sqlite.execute(&format!("{damage} {hit}")).await;

            let all = |most| ShareFilter {
                most,
                ..ShareFilter::default()
            };
            assert_eq!(ids(&store, all(10)).await, [5, 3, 1], "{damage}");
            // A page has as many shares as there are.
            let two = store.shares("acme", &all(2)).await.unwrap();
            assert_eq!(two.len(), 2, "{damage}");
            let three = store.shares("acme", &all(3)).await.unwrap();
            assert_eq!(three.len(), 3, "{damage}");
            let unsettled = store.unsettled_shares("acme").await.unwrap();
            assert_eq!(unsettled.len(), 1, "{damage}");
            let mut ended = store.ended_shares("acme", at(200)).await.unwrap();
            ended.sort_unstable();
            assert_eq!(ended, [1, 3].map(Uuid::from_u128), "{damage}");
            let of_lead = store.share_of_lead("acme", &LeadKey::Id("l1".into())).await.unwrap();
            assert!(of_lead.is_some(), "{damage}");
            let new = Share {
                additional: true,
                ..share(9, "sam", "l1")
            };
            assert!(store.add_share("acme", &new, None).await.is_ok(), "{damage}");
            store.sweep_shares("acme", at(1)).await.unwrap();
            let fault = store.share("acme", Uuid::from_u128(2)).await.unwrap_err();
            assert_eq!(fault.kind(), ErrorKind::StoreUnreadable, "{damage}");
            assert_eq!(store.damaged_rows(), 2, "{damage}");

            let found = store.find_damaged().await.unwrap();
            assert_eq!((found.len(), store.damaged_rows()), (2, 2), "{damage}: {found:?}");
            // With what became of the two.
            assert_eq!(store.move_damaged(&found, at(300)).await, Ok(4), "{damage}");
            assert_eq!(store.find_damaged().await, Ok(vec![]), "{damage}");
            assert_eq!(store.damaged_rows(), 0);
            assert_eq!(store.share("acme", Uuid::from_u128(2)).await, Ok(None));
            assert_eq!(ids(&store, all(10)).await, [9, 5, 3, 1], "{damage}");
            assert_eq!(
                sqlite
                    .count("SELECT COUNT(*) FROM damaged WHERE source = 'share'")
                    .await,
                2
            );
        }
    }

    #[tokio::test]
    async fn damaged_rows_of_every_table_are_found_and_moved() {
        for (damage, remains) in [
            ("UPDATE request SET answer = 'nonsense'", "request"),
            ("UPDATE request SET answer = '{}'", "request"),
            ("UPDATE request SET answer = x'00'", "request"),
            ("UPDATE request SET fingerprint = 'short'", "request"),
            ("UPDATE request SET begun = 'then'", "request"),
            ("UPDATE request SET id = x'07'", "request"),
            ("UPDATE spent SET calls = 'many'", "spent"),
            ("UPDATE spent SET last_grant = 'then'", "spent"),
            ("UPDATE spent SET slots = 'nonsense'", "spent"),
            ("UPDATE spent SET slots = x'00'", "spent"),
            ("UPDATE share_change SET state = 77", "share_change"),
            ("UPDATE share_change SET at = 'then'", "share_change"),
            ("UPDATE share SET id = CAST(x'ff' AS TEXT)", "share"),
            ("UPDATE share SET id = x'ff'", "share"),
            ("UPDATE share SET tenant = x'ff'", "share"),
        ] {
            let store = Store::open("sqlite::memory:").await.unwrap();
            store.begin("acme", "crm", &request(1), at(1), at(0)).await.unwrap();
            store.add_share("acme", &share(1, "sam", "l1"), None).await.unwrap();
            let usage = QuotaUsage {
                day: "2026-07-31".to_owned(),
                calls: 3,
                last_grant: at(300),
                slots: Some(slots()),
            };
            store.save_quota_usage("acme", &usage).await.unwrap();
            assert_eq!(store.find_damaged().await, Ok(vec![]));
            let Store::Sqlite(sqlite) = &store;
            sqlite.execute(damage).await;
            // Nothing else fails.
            assert!(store.quota_usage("acme").await.is_ok(), "{damage}");
            assert!(store.sweep(at(0)).await.is_ok(), "{damage}");
            assert!(
                store.share_history("acme", Uuid::from_u128(1)).await.is_ok(),
                "{damage}"
            );
            assert!(
                store
                    .shares(
                        "acme",
                        &ShareFilter {
                            most: 9,
                            ..ShareFilter::default()
                        }
                    )
                    .await
                    .is_ok()
            );

            let found = store.find_damaged().await.unwrap();
            assert_eq!(found.len(), 1, "{damage}: {found:?}");
            assert!(found[0].to_string().contains(remains), "{damage}: {found:?}");
            assert!(store.move_damaged(&found, at(300)).await.unwrap() >= 1, "{damage}");
            assert_eq!(store.find_damaged().await, Ok(vec![]), "{damage}");
            assert_eq!(
                sqlite.count(&format!("SELECT COUNT(*) FROM {remains}")).await,
                0,
                "{damage}"
            );
        }
    }

    #[tokio::test]
    async fn a_mutation_with_a_damaged_answer_is_uncertain_and_one_with_a_damaged_message_is_refused() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let Store::Sqlite(sqlite) = &store;
        store.begin("acme", "crm", &request(1), at(1), at(0)).await.unwrap();
        store.finish("acme", "crm", &request(1), "{}").await.unwrap();
        sqlite.execute("UPDATE request SET answer = x'ff'").await;
        let known = |id| {
            let id = Uuid::from_u128(id);
            let store = store.clone();
            async move { store.known("acme", "crm", &id, at(0)).await }
        };
        let found = known(1).await.unwrap().unwrap();
        assert_eq!(found.answer, None);
        sqlite.execute("UPDATE request SET fingerprint = 7").await;
        let fault = known(1).await.unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::StoreUnreadable);
        assert_eq!(store.damaged_rows(), 1);
        assert_eq!(known(2).await, Ok(None));
        assert_eq!(
            store.begin("acme", "crm", &request(2), at(2), at(0)).await,
            Ok(Begun::New)
        );
    }

    #[tokio::test]
    async fn a_store_with_damaged_rows_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", folder.path().display());
        let store = Store::open(&url).await.unwrap();
        store.add_share("acme", &share(1, "sam", "l1"), None).await.unwrap();
        let Store::Sqlite(sqlite) = &store;
        // A value that the file's own check complains of.
        sqlite.execute("PRAGMA writable_schema = ON").await;
        sqlite
            .execute("UPDATE sqlite_schema SET sql = replace(sql, 'document   TEXT', 'document') WHERE name = 'share'")
            .await;
        store.close().await;
        let store = Store::open(&url).await.unwrap();
        let Store::Sqlite(sqlite) = &store;
        sqlite.execute("UPDATE share SET document = 5").await;
        sqlite.execute("PRAGMA writable_schema = ON").await;
        sqlite
            .execute("UPDATE sqlite_schema SET sql = replace(sql, 'document', 'document TEXT') WHERE name = 'share'")
            .await;
        store.close().await;
        let store = Store::open(&url).await.unwrap();
        assert_eq!(store.find_damaged().await.unwrap().len(), 1);
    }
}
