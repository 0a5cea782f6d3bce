//! What outlives a call, and the process: the answers of mutations by their request ids, and what each account has spent.
//! A closed set of backends, so that both arms stay in sight; the same tests run over each.

mod place;
mod requests;
mod sqlite;

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use uuid::Uuid;

use crate::caller::RequestId;
use crate::domain::lead::Key;
use crate::domain::share::{Change, Filter, Share};
use crate::domain::spent::Spent;
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
pub struct Fault {
    what: &'static str,
    why: String,
    /// Whether another process has the store.
    in_use: bool,
}

/// What is known of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing until now; from now on that it was begun.
    New,
    /// It was used for a message of that digest.
    Used {
        /// The digest.
        fingerprint: Vec<u8>,
        /// When it was begun.
        begun: Timestamp,
        /// The answer as JSON; `None` where its outcome is not known.
        answer: Option<String>,
    },
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

impl Fault {
    fn new(what: &'static str, why: &dyn fmt::Display) -> Self {
        Self {
            what,
            why: why.to_string(),
            in_use: false,
        }
    }

    /// Whether it is nothing but another process that has the store.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store {}: {}", self.what, self.why)
    }
}

impl std::error::Error for Fault {}

impl Store {
    /// Opens the store at that address, made and brought up to date if need be.
    pub async fn open(url: &str) -> Result<Self, Fault> {
        if url.starts_with("sqlite:") {
            return Sqlite::open(url).await.map(Self::Sqlite);
        }
        Err(Fault::new(
            "cannot be opened",
            &"its address must begin with \"sqlite:\"",
        ))
    }

    /// Checks that a store at that address could be written, as far as the file and its folder tell. Returns the path of a
    /// file that is still to be made.
    pub fn check_place(url: &str) -> Result<Option<PathBuf>, Fault> {
        let Some(path) = sqlite::file_of(url)? else {
            return Ok(None);
        };
        place::check(&path).map_err(|why| Fault::new("cannot be opened", &why))?;
        Ok(Some(path).filter(|path| !path.exists()))
    }

    /// Writes down that a mutation is begun, unless its id is known already. What was begun before `oldest` is forgotten.
    pub async fn begin(
        &self,
        tenant: &str,
        request: &RequestId,
        now: Timestamp,
        oldest: Timestamp,
    ) -> Result<Known, Fault> {
        match self {
            Self::Sqlite(store) => store.begin(tenant, request, now, oldest).await,
        }
    }

    /// Writes down the answer of a mutation that was begun.
    pub async fn finish(&self, tenant: &str, id: &Uuid, answer: &str) -> Result<(), Fault> {
        match self {
            Self::Sqlite(store) => store.finish(tenant, id, answer).await,
        }
    }

    /// Forgets a mutation that was begun and came to nothing.
    pub async fn forget(&self, tenant: &str, id: &Uuid) -> Result<(), Fault> {
        match self {
            Self::Sqlite(store) => store.forget(tenant, id).await,
        }
    }

    /// Forgets all mutations begun before that time; how many they were.
    pub async fn sweep(&self, oldest: Timestamp) -> Result<u64, Fault> {
        match self {
            Self::Sqlite(store) => store.sweep(oldest).await,
        }
    }

    /// What the account had spent when it was last written down.
    pub async fn spent(&self, tenant: &str) -> Result<Option<Spent>, Fault> {
        match self {
            Self::Sqlite(store) => store.spent(tenant).await,
        }
    }

    /// Writes down what the account has spent.
    pub async fn spend(&self, tenant: &str, spent: &Spent) -> Result<(), Fault> {
        match self {
            Self::Sqlite(store) => store.spend(tenant, spent).await,
        }
    }

    /// Writes a new share down, unless another one is in its way, or its user has access to so many other leads already.
    pub async fn add_share(&self, tenant: &str, share: &Share, most: Option<u32>) -> Result<Added, Fault> {
        match self {
            Self::Sqlite(store) => store.add_share(tenant, share, most).await,
        }
    }

    /// Writes down what has become of a share, and in its history too where callers are told of it.
    pub async fn save_share(&self, tenant: &str, share: &Share, told: bool) -> Result<(), Fault> {
        match self {
            Self::Sqlite(store) => store.save_share(tenant, share, told).await,
        }
    }

    /// The share of that id.
    pub async fn share(&self, tenant: &str, id: Uuid) -> Result<Option<Share>, Fault> {
        match self {
            Self::Sqlite(store) => store.share(tenant, id).await,
        }
    }

    /// The share that was asked for with that request id.
    pub async fn share_of_request(&self, tenant: &str, id: Uuid) -> Result<Option<Uuid>, Fault> {
        match self {
            Self::Sqlite(store) => store.share_of_request(tenant, id).await,
        }
    }

    /// Some share of the lead of that key.
    pub async fn share_of_lead(&self, tenant: &str, key: &Key) -> Result<Option<Share>, Fault> {
        match self {
            Self::Sqlite(store) => store.share_of_lead(tenant, key).await,
        }
    }

    /// Shares, the newest first.
    pub async fn shares(&self, tenant: &str, filter: &Filter) -> Result<Vec<Share>, Fault> {
        match self {
            Self::Sqlite(store) => store.shares(tenant, filter).await,
        }
    }

    /// How the backend goes about finding such shares, in its own words.
    pub async fn share_plan(&self, tenant: &str, filter: &Filter) -> Result<Vec<String>, Fault> {
        match self {
            Self::Sqlite(store) => store.share_plan(tenant, filter).await,
        }
    }

    /// The shares for which there is something to be done, the oldest first.
    pub async fn unsettled_shares(&self, tenant: &str) -> Result<Vec<Share>, Fault> {
        match self {
            Self::Sqlite(store) => store.unsettled_shares(tenant).await,
        }
    }

    /// The shares whose time is over and that are not known to have ended.
    pub async fn ended_shares(&self, tenant: &str, now: Timestamp) -> Result<Vec<Uuid>, Fault> {
        match self {
            Self::Sqlite(store) => store.ended_shares(tenant, now).await,
        }
    }

    /// How many leads a user may have access to by shares.
    pub async fn share_usage(&self, tenant: &str, user_id: &str) -> Result<u32, Fault> {
        match self {
            Self::Sqlite(store) => store.share_usage(tenant, user_id).await,
        }
    }

    /// What became of a share, in order.
    pub async fn share_history(&self, tenant: &str, id: Uuid) -> Result<Vec<Change>, Fault> {
        match self {
            Self::Sqlite(store) => store.share_history(tenant, id).await,
        }
    }

    /// Forgets the account's shares that were over before that time; how many they were.
    pub async fn sweep_shares(&self, tenant: &str, oldest: Timestamp) -> Result<u64, Fault> {
        match self {
            Self::Sqlite(store) => store.sweep_shares(tenant, oldest).await,
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
    use super::*;
    use crate::domain::share::{Access, Context, Stage, State, What};

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
            store.begin("acme", &request(id), at(now), at(oldest)).await.unwrap()
        };
        let used = |begun, answer: Option<&str>| Known::Used {
            fingerprint: vec![7; 32],
            begun: at(begun),
            answer: answer.map(str::to_owned),
        };

        // Begun once, known ever after, and over a restart.
        assert_eq!(begin(store.clone(), 1, 100, 0).await, Known::New);
        assert_eq!(begin(store.clone(), 1, 101, 0).await, used(100, None));
        store.finish("acme", &Uuid::from_u128(1), "{}").await.unwrap();
        store.close().await;
        let store = open().await;
        assert_eq!(begin(store.clone(), 1, 102, 0).await, used(100, Some("{}")));

        // Another tenant's id is another id.
        let other = store.begin("south", &request(1), at(102), at(0)).await.unwrap();
        assert_eq!(other, Known::New);

        // What came to nothing, or is too old, may be begun anew.
        store.forget("acme", &Uuid::from_u128(1)).await.unwrap();
        assert_eq!(begin(store.clone(), 1, 103, 0).await, Known::New);
        assert_eq!(begin(store.clone(), 1, 200, 150).await, Known::New);
        assert_eq!(begin(store.clone(), 1, 201, 150).await, used(200, None));
        assert_eq!(store.sweep(at(150)).await, Ok(1));
        assert_eq!(begin(store.clone(), 1, 202, 150).await, used(200, None));

        assert_eq!(store.spent("acme").await, Ok(None));
        for calls in [1, 2] {
            let spent = Spent {
                day: "2026-07-31".to_owned(),
                calls,
                last_grant: at(300),
            };
            store.spend("acme", &spent).await.unwrap();
            assert_eq!(store.spent("acme").await, Ok(Some(spent)));
        }
    }

    fn share(id: u128, user: &str, lead: &str) -> Share {
        let what = What::Lead {
            id: lead.to_owned(),
            number: format!("{id}"),
            context: Context::Given {
                id: format!("activity-{id}"),
            },
        };
        Share::new(Uuid::from_u128(id), what, user.to_owned(), Access::Write, 30, at(1))
    }

    async fn ids(store: &Store, filter: Filter) -> Vec<u128> {
        let filter = Filter { most: 10, ..filter };
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
        let of = |user: &str, lead: &str| Filter {
            user_id: Some(user.to_owned()).filter(|user| !user.is_empty()),
            entity_id: Some(lead.to_owned()).filter(|lead| !lead.is_empty()),
            ..Filter::default()
        };
        assert_eq!(ids(&store, Filter::default()).await, [5, 4, 3, 1]);
        assert_eq!(ids(&store, of("SAM", "")).await, [5, 3, 1]);
        assert_eq!(ids(&store, of("", "L1")).await, [4, 3, 1]);
        assert_eq!(ids(&store, of("sam", "l1")).await, [3, 1]);
        let behind = Filter {
            before: Some(Uuid::from_u128(4)),
            ..Filter::default()
        };
        assert_eq!(ids(&store, behind).await, [3, 1]);
        assert_eq!(store.share("acme", Uuid::from_u128(1)).await, Ok(Some(first.clone())));
        assert_eq!(store.share("acme", Uuid::from_u128(9)).await, Ok(None));
        let asked_with = store.share_of_request("acme", Uuid::from_u128(77)).await;
        assert_eq!(asked_with, Ok(Some(first.id)));
        assert_eq!(store.share_of_request("south", Uuid::from_u128(77)).await, Ok(None));
        for key in [Key::Id("l2".into()), Key::Id("L2".into()), Key::Number("5".into())] {
            let found = store.share_of_lead("acme", &key).await.unwrap();
            assert_eq!(found.map(|share| share.id.as_u128()), Some(5), "{key:?}");
        }
        assert_eq!(store.share_of_lead("acme", &Key::Id("5".into())).await, Ok(None));
        assert_eq!(store.share_usage("acme", "Sam").await, Ok(2));

        // What becomes of it is kept, over a restart too, with its history.
        let active = Share {
            stage: Stage::Active,
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
        assert_eq!(states, [(State::Submitted, at(1)), (State::Active, at(20))]);
        let unsettled = store.unsettled_shares("acme").await.unwrap();
        let unsettled: Vec<_> = unsettled.iter().map(|share| share.id.as_u128()).collect();
        assert_eq!(unsettled, [3, 4, 5]);
        let by_state = |states: &[State]| Filter {
            states: states.to_vec(),
            ..Filter::default()
        };
        assert_eq!(ids(&store, by_state(&[State::Active])).await, [1]);
        assert_eq!(
            ids(&store, by_state(&[State::Submitted, State::Failed])).await,
            [5, 4, 3]
        );
        let ending = Filter {
            expire_before: Some(at(501)),
            ..Filter::default()
        };
        assert_eq!(ids(&store, ending).await, [1]);

        // Its end is found when its time is over, and it is forgotten long after.
        assert_eq!(store.ended_shares("acme", at(499)).await, Ok(vec![]));
        assert_eq!(store.ended_shares("acme", at(500)).await, Ok(vec![first.id]));
        let expired = Share {
            stage: Stage::Expired,
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
            let filter = Filter {
                user_id: user.map(str::to_owned),
                entity_id: lead.map(str::to_owned),
                before: Some(Uuid::from_u128(9)),
                states: vec![State::Active],
                most: 10,
                ..Filter::default()
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
        let begin = || store.begin("acme", &request, at(1), at(0));
        assert_eq!(begin().await, Ok(Known::New));
        assert_ne!(begin().await, Ok(Known::New));
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
            store.begin("acme", &request(id), at(1), at(0)).await.unwrap();
        }
        store.close().await;
        let mut bytes = std::fs::read(&file).unwrap();
        let end = bytes.len();
        bytes[8192..end].fill(0xa5);
        std::fs::write(&file, &bytes).unwrap();
        let fault = Store::open(&url).await.unwrap_err();
        assert!(fault.to_string().starts_with("the store "), "{fault}");
        assert_eq!(std::fs::read(&file).unwrap().len(), bytes.len());
    }
}
