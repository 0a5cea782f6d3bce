//! The account's metadata, kept at hand: fetched once, refreshed behind, served stale where it cannot be refreshed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::caller::Call;
use crate::clock;
use crate::crm::metadata::LeadsMetaData;
use crate::crm::{Client, retry};
use crate::domain::field::Catalog;
use crate::error::Result;

/// How long the first callers wait for the metadata before they go without.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a failure it is not asked for again on behalf of those who can go without.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a refresh in the background may take.
const REFRESH_LIMIT: Duration = Duration::from_secs(60);

/// The metadata of one account. Clones share it.
#[derive(Clone)]
pub struct Metadata {
    shared: Arc<Shared>,
}

struct Shared {
    crm: Client,
    lifetime: Duration,
    tasks: TaskTracker,
    current: ArcSwapOption<Kept>,
    /// Held by whoever fetches; holds when the last try failed.
    failed: Mutex<Option<Instant>>,
}

struct Kept {
    at: Instant,
    catalog: Arc<Catalog>,
}

impl Metadata {
    /// Nothing fetched yet; what is fetched counts as fresh for that lifetime.
    pub fn new(crm: Client, lifetime: Duration, tasks: TaskTracker) -> Self {
        let shared = Shared {
            crm,
            lifetime,
            tasks,
            current: ArcSwapOption::empty(),
            failed: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The metadata, fetched if it has to be.
    pub async fn get(&self, call: &Call) -> Result<Arc<Catalog>> {
        if let Some(kept) = self.shared.current.load_full() {
            if kept.at.elapsed() >= self.shared.lifetime {
                self.refresh();
            }
            return Ok(kept.catalog.clone());
        }
        let mut failed = call.wait("the account's metadata", self.shared.failed.lock()).await?;
        // Somebody may have fetched it while we waited.
        if let Some(kept) = self.shared.current.load_full() {
            return Ok(kept.catalog.clone());
        }
        let fetched = self.fetch(call).await;
        *failed = fetched.as_ref().err().map(|_| Instant::now());
        fetched
    }

    /// The metadata if it is at hand or soon will be, for those who can go without.
    pub async fn at_hand(&self, call: &Call) -> Option<Arc<Catalog>> {
        if self.shared.current.load().is_none() {
            let failed = self.shared.failed.try_lock().ok().and_then(|failed| *failed);
            if failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
                return None;
            }
        }
        // Half of the time is left for what the caller came for.
        let half = call.deadline.saturating_duration_since(Instant::now()) / 2;
        let patient = Call {
            deadline: Instant::now() + half.min(PATIENCE),
            ..call.clone()
        };
        self.get(&patient).await.ok()
    }

    /// Fetches it in the background, unless somebody does already.
    pub fn refresh(&self) {
        let this = self.clone();
        self.shared.tasks.spawn(async move {
            let Ok(mut failed) = this.shared.failed.try_lock() else {
                return;
            };
            if failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
                return;
            }
            let call = Call::internal("metadata", REFRESH_LIMIT);
            let fetched = this.fetch(&call).await;
            *failed = fetched.as_ref().err().map(|_| Instant::now());
            if let Err(error) = fetched {
                tracing::warn!(error = retry::name(&error), "the account's metadata could not be fetched");
            }
        });
    }

    async fn fetch(&self, call: &Call) -> Result<Arc<Catalog>> {
        let fields = self.shared.crm.call(call, &LeadsMetaData).await?;
        let catalog = Arc::new(Catalog::new(fields, clock::now()));
        self.shared.current.store(Some(Arc::new(Kept {
            at: Instant::now(),
            catalog: catalog.clone(),
        })));
        Ok(catalog)
    }
}
