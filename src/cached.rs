//! What changes seldom and is asked for often, kept at hand: fetched once, refreshed behind, served stale where it cannot
//! be refreshed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::context::RequestContext;
use crate::crm::{Client, Operation};
use crate::error::{ErrorKind, Result};

/// How long the first callers wait before they go without.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a failure it is not asked for again on behalf of those who can go without.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a refresh in the background may take.
const REFRESH_LIMIT: Duration = Duration::from_secs(60);

/// The answer of one operation, made into what it is kept as. Clones share it.
pub struct Cached<O: Operation, T> {
    shared: Arc<Shared<O, T>>,
}

struct Shared<O: Operation, T> {
    crm: Client,
    operation: O,
    /// Makes of the answer, and of the time when it was asked for, what is kept.
    make: fn(O::Output, Timestamp) -> T,
    lifetime: Duration,
    tasks: TaskTracker,
    current: ArcSwapOption<Kept<T>>,
    /// Held by whoever fetches.
    fetching: Mutex<()>,
    /// Until then, those who can go without do so: the last try failed, or took too long.
    without_until: ArcSwapOption<Instant>,
    /// How many records of the last answer could not be read, so that it is logged once.
    unreadable: AtomicUsize,
}

struct Kept<T> {
    at: Instant,
    value: Arc<T>,
}

impl<O: Operation, T> Clone for Cached<O, T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<O, T> Cached<O, T>
where
    O: Operation + Send + 'static,
    T: Send + Sync + 'static,
{
    /// Nothing fetched yet; what is fetched counts as fresh for that lifetime.
    pub fn new(
        crm: Client,
        operation: O,
        make: fn(O::Output, Timestamp) -> T,
        lifetime: Duration,
        tasks: TaskTracker,
    ) -> Self {
        let shared = Shared {
            crm,
            operation,
            make,
            lifetime,
            tasks,
            current: ArcSwapOption::empty(),
            fetching: Mutex::default(),
            without_until: ArcSwapOption::empty(),
            unreadable: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The value, fetched if it has to be.
    pub async fn get(&self, context: &RequestContext) -> Result<Arc<T>> {
        if let Some(kept) = self.shared.current.load_full() {
            if kept.at.elapsed() >= self.shared.lifetime {
                self.refresh();
            }
            return Ok(kept.value.clone());
        }
        let _fetching = context.wait(O::NAME, self.shared.fetching.lock()).await?;
        // Somebody may have fetched it while we waited.
        match self.shared.current.load_full() {
            Some(kept) => Ok(kept.value.clone()),
            None => self.fetch(context).await,
        }
    }

    /// The value if it is at hand or soon will be, for those who can go without.
    pub async fn get_if_available(&self, context: &RequestContext) -> Option<Arc<T>> {
        if self.shared.current.load().is_none() && self.is_pausing() {
            return None;
        }
        // If there is no slot for it in time, there is none for the caller either, who is then told so at once.
        if self.shared.current.load().is_none() && !self.shared.crm.would_admit(context, &self.shared.operation) {
            return None;
        }
        // Half of the time is left for what the caller came for.
        let half = context.deadline.saturating_duration_since(Instant::now()) / 2;
        let patient = RequestContext {
            deadline: Instant::now() + half.min(PATIENCE),
            ..context.clone()
        };
        match self.get(&patient).await {
            Ok(value) => Some(value),
            Err(error) => {
                // One caller in a hurry says nothing about the others.
                let in_a_hurry = matches!(
                    error.kind,
                    ErrorKind::DeadlineExceeded { .. }
                        | ErrorKind::DeadlineInfeasible { .. }
                        | ErrorKind::QueueFull { .. }
                        | ErrorKind::CallerCancelled
                );
                // It has cost neither time nor a call.
                let is_free = matches!(error.kind, ErrorKind::BreakerOpen { .. });
                if !is_free && (half >= PATIENCE || !in_a_hurry) {
                    self.pause();
                }
                None
            }
        }
    }

    /// Whether a value is cached, fresh or stale. Sends nothing.
    pub fn is_available(&self) -> bool {
        self.shared.current.load().is_some()
    }

    /// Fetches it in the background, unless somebody does already.
    pub fn refresh(&self) {
        let this = self.clone();
        self.shared.tasks.spawn(async move {
            let Ok(_fetching) = this.shared.fetching.try_lock() else {
                return;
            };
            if this.is_pausing() {
                return;
            }
            let context = RequestContext::internal(O::NAME, REFRESH_LIMIT);
            if let Err(error) = this.fetch(&context).await {
                tracing::warn!(
                    endpoint = O::NAME,
                    error = error.name(),
                    "what is kept at hand could not be fetched"
                );
                this.pause();
            }
        });
    }

    async fn fetch(&self, context: &RequestContext) -> Result<Arc<T>> {
        let asked = clock::now();
        let answer = self.shared.crm.call(context, &self.shared.operation).await?;
        let unreadable = O::unreadable(&answer);
        if self.shared.unreadable.swap(unreadable, Ordering::Relaxed) != unreadable && unreadable > 0 {
            tracing::warn!(
                endpoint = O::NAME,
                unreadable,
                "some records of LeadSquared's response cannot be read; the others are used"
            );
        }
        let value = Arc::new((self.shared.make)(answer, asked));
        self.shared.current.store(Some(Arc::new(Kept {
            at: Instant::now(),
            value: value.clone(),
        })));
        Ok(value)
    }

    fn is_pausing(&self) -> bool {
        let until = self.shared.without_until.load();
        until.as_ref().is_some_and(|until| Instant::now() < **until)
    }

    fn pause(&self) {
        self.shared.without_until.store(Some(Arc::new(Instant::now() + PAUSE)));
    }
}
