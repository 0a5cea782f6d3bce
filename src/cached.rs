//! Caches of values that change rarely and are used often. A value is fetched once and refreshed in the background. A stale value
//! is returned while it cannot be refreshed.

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
use crate::error::{Cause, ErrorKind, Result};

/// Maximum time that a caller of `get_if_available` waits for the first value.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// The pause after a failure before the value is fetched again for a caller that does not need it.
const FAILURE_PAUSE: Duration = Duration::from_secs(30);
/// Maximum duration of a refresh in the background.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(60);

/// The cached result of one operation. Clones share it.
pub struct Cached<O: Operation, T> {
    shared: Arc<Shared<O, T>>,
}

struct Shared<O: Operation, T> {
    crm: Client,
    operation: O,
    /// Makes the cached value of the result and of the time at which it was requested.
    make: fn(O::Output, Timestamp) -> T,
    lifetime: Duration,
    tasks: TaskTracker,
    current: ArcSwapOption<CachedValue<T>>,
    /// The number of invalidations. A value that was requested before the last one is not kept.
    invalidations: AtomicUsize,
    /// Held while the value is fetched.
    fetching: Mutex<()>,
    /// Until this time, `get_if_available` does not fetch, because the last attempt failed or took too long.
    paused_until: ArcSwapOption<Instant>,
    /// The number of unreadable records in the last response, so that each change is logged once.
    unreadable: AtomicUsize,
}

struct CachedValue<T> {
    fetched: Instant,
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
    /// An empty cache. A value is fresh for `lifetime`.
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
            invalidations: AtomicUsize::new(0),
            fetching: Mutex::default(),
            paused_until: ArcSwapOption::empty(),
            unreadable: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns the value, and fetches it if necessary.
    pub async fn get(&self, context: &RequestContext) -> Result<Arc<T>> {
        if let Some(cached) = self.shared.current.load_full() {
            if cached.fetched.elapsed() >= self.shared.lifetime {
                self.shared.crm.looked_up(O::NAME, "stale");
                self.refresh();
            } else {
                self.shared.crm.looked_up(O::NAME, "fresh");
            }
            return Ok(cached.value.clone());
        }
        self.shared.crm.looked_up(O::NAME, "missing");
        let _fetching = context.wait(O::NAME, self.shared.fetching.lock()).await?;
        // Another caller may have fetched it meanwhile.
        match self.shared.current.load_full() {
            Some(cached) => Ok(cached.value.clone()),
            // Boxed, because almost all callers find a value.
            None => Box::pin(self.fetch(context)).await,
        }
    }

    /// Returns the value if it is cached or can be fetched soon, for callers that do not need it.
    pub async fn get_if_available(&self, context: &RequestContext) -> Option<Arc<T>> {
        if self.shared.current.load().is_none() && self.is_pausing() {
            return None;
        }
        // If the quota cannot serve this fetch in time, it cannot serve the caller either. The caller gets the error at once.
        if self.shared.current.load().is_none() && !self.shared.crm.would_admit(context, &self.shared.operation) {
            return None;
        }
        // The caller needs the other half of the time.
        let half = context.deadline.saturating_duration_since(Instant::now()) / 2;
        let fetch_context = RequestContext {
            deadline: Instant::now() + half.min(MAX_WAIT),
            ..context.clone()
        };
        match self.get(&fetch_context).await {
            Ok(value) => Some(value),
            Err(error) => {
                // A short deadline of one caller proves nothing for other callers.
                let had_little_time = matches!(
                    error.kind,
                    ErrorKind::DeadlineExceeded { .. }
                        | ErrorKind::DeadlineInfeasible { .. }
                        | ErrorKind::QueueFull { .. }
                        | ErrorKind::CallerCancelled
                );
                // The attempt used neither time nor a call.
                let is_free = matches!(error.kind, ErrorKind::BreakerOpen { .. } | ErrorKind::TenantPaused);
                if !is_free && (half >= MAX_WAIT || !had_little_time) {
                    self.pause();
                }
                None
            }
        }
    }

    /// Forgets the value, because it has changed.
    pub fn invalidate(&self) {
        self.shared.invalidations.fetch_add(1, Ordering::SeqCst);
        self.shared.current.store(None);
    }

    /// Whether a value is cached, fresh or stale. Sends no request.
    pub fn is_available(&self) -> bool {
        self.shared.current.load().is_some()
    }

    /// Fetches the value in the background, unless it is being fetched.
    pub fn refresh(&self) {
        let cached = self.clone();
        self.shared.tasks.spawn(async move {
            let Ok(_fetching) = cached.shared.fetching.try_lock() else {
                return;
            };
            if cached.is_pausing() || cached.shared.crm.is_paused() {
                return;
            }
            let context = RequestContext::internal(O::NAME, REFRESH_TIMEOUT);
            if let Err(error) = cached.fetch(&context).await {
                tracing::warn!(
                    tenant = cached.shared.crm.tenant(),
                    endpoint = O::NAME,
                    error = error.name(),
                    cause = error.details.cause.map(Cause::name),
                    "refreshing a cached value failed"
                );
                cached.pause();
            }
        });
    }

    async fn fetch(&self, context: &RequestContext) -> Result<Arc<T>> {
        let requested = clock::now();
        let invalidations = self.shared.invalidations.load(Ordering::SeqCst);
        let output = self.shared.crm.call(context, &self.shared.operation).await?;
        let unreadable = O::unreadable(&output);
        if self.shared.unreadable.swap(unreadable, Ordering::Relaxed) != unreadable && unreadable > 0 {
            tracing::warn!(
                tenant = self.shared.crm.tenant(),
                endpoint = O::NAME,
                unreadable,
                "response has unreadable records; the other records are used"
            );
        }
        let value = Arc::new((self.shared.make)(output, requested));
        self.shared.current.store(Some(Arc::new(CachedValue {
            fetched: Instant::now(),
            value: value.clone(),
        })));
        // The value may be older than the change.
        if self.shared.invalidations.load(Ordering::SeqCst) != invalidations {
            self.shared.current.store(None);
        }
        Ok(value)
    }

    fn is_pausing(&self) -> bool {
        let until = self.shared.paused_until.load();
        until.as_ref().is_some_and(|until| Instant::now() < **until)
    }

    fn pause(&self) {
        self.shared
            .paused_until
            .store(Some(Arc::new(Instant::now() + FAILURE_PAUSE)));
    }
}
