//! Request coalescing and caching of reads of leads. Callers share a read in progress. Callers that accept an older response get a
//! cached one. A read that begins after a write of this process always shows the write. While this process may not be the owner of
//! the tenant, or an earlier owner may still write, each read is a call of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::TenantLease;
use crate::context::{Criticality, RequestContext, UPSTREAM_RESPONSE};
use crate::domain::lead::{LeadKey, RawFields};
use crate::domain::mask::ReadMask;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics::Metrics;

/// The waiters of an in-flight read check their deadline this much later than the read itself, so that the error says what
/// the read was waiting for.
const GRACE: Duration = Duration::from_millis(5);
/// Maximum number of cached responses. A lead has about 10 KB.
const MAX_CACHED: u64 = 10_000;

/// The reads of one account. Clones share them.
#[derive(Clone)]
pub(super) struct Reads {
    shared: Arc<Shared>,
}

struct Shared {
    tenant: String,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    lease: TenantLease,
    /// Whether an earlier owner may still write.
    is_suspended: AtomicBool,
    in_flight_reads: Mutex<HashMap<(LeadKey, ReadMask), Arc<InFlightRead>>>,
    /// The responses to reads by id, and to reads by any other key.
    cached: [moka::sync::Cache<LeadKey, CachedRead>; 2],
}

/// A read in progress. It runs in its own task until the last deadline of its waiters, and is cancelled when no waiter remains.
struct InFlightRead {
    criticality: Criticality,
    waiters: Mutex<Waiters>,
    cancelled: CancellationToken,
    result: watch::Sender<Option<Result<Arc<RawFields>>>>,
}

/// The waiters of an in-flight read.
struct Waiters {
    count: usize,
    /// The last of their deadlines.
    deadline: Instant,
}

/// A cached response.
#[derive(Clone)]
struct CachedRead {
    mask: ReadMask,
    row: Arc<RawFields>,
    requested: Instant,
}

/// A waiter of an in-flight read.
struct Waiter {
    shared: Arc<Shared>,
    name: (LeadKey, ReadMask),
    in_flight: Arc<InFlightRead>,
}

impl Reads {
    pub(super) fn new(tenant: &str, metrics: Arc<Metrics>, tasks: TaskTracker, lease: TenantLease) -> Self {
        Self {
            shared: Arc::new(Shared {
                tenant: tenant.to_owned(),
                metrics,
                tasks,
                lease,
                is_suspended: AtomicBool::new(false),
                in_flight_reads: Mutex::default(),
                cached: [(); 2].map(|()| moka::sync::Cache::new(MAX_CACHED)),
            }),
        }
    }

    /// Returns the lead: from `read`, from a read in progress, or from a cached response that is not older than `max_staleness`.
    pub(super) async fn get<R, F>(
        &self,
        context: &RequestContext,
        key: &LeadKey,
        mask: &ReadMask,
        max_staleness: Option<Duration>,
        read: R,
    ) -> Result<RawFields>
    where
        R: Fn(RequestContext) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<RawFields>> + Send,
    {
        if !self.shared.lease.is_valid(Instant::now()) || self.shared.is_suspended.load(Ordering::Relaxed) {
            return read(context.clone()).await;
        }
        let name = (key.folded(), mask.clone());
        let age = max_staleness.filter(|age| !age.is_zero());
        if let Some(row) = age.and_then(|age| self.shared.cached(&name, age)) {
            self.shared.metrics.coalesced(&self.shared.tenant, "cache");
            return Ok(row);
        }
        // The in-flight read checks the deadline first, so that its error says what it was waiting for.
        let waiter_context = RequestContext {
            deadline: context.deadline + GRACE,
            ..context.clone()
        };
        loop {
            let (waiter, is_first) = self.shared.join(context, &name, age.is_some(), read.clone());
            let mut receiver = waiter.in_flight.result.subscribe();
            let result = waiter_context
                .wait(UPSTREAM_RESPONSE, receiver.wait_for(Option::is_some))
                .await?;
            let result = match result.as_deref() {
                Ok(Some(result)) => result.clone(),
                Ok(None) | Err(_) => Err(ErrorKind::ShuttingDown.into()),
            };
            match result {
                Ok(row) => {
                    if !is_first {
                        self.shared.metrics.coalesced(&self.shared.tenant, "flight");
                    }
                    return Ok(RawFields::clone(&row));
                }
                // An error of the first waiter, such as its deadline, is not an error of this waiter.
                Err(error) if !is_first && is_of_caller(&error) && Instant::now() < context.deadline => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether each read is a call of its own from now on, because an earlier owner of the tenant may still write.
    pub(super) fn suspend(&self, is_suspended: bool) {
        self.shared.is_suspended.store(is_suspended, Ordering::Relaxed);
    }

    /// Invalidates the reads of a lead that was written. `None`: any lead may have been written.
    pub(super) fn invalidate(&self, lead_id: Option<&str>) {
        let written = lead_id.map(|id| LeadKey::Id(id.to_owned()).folded());
        // A read by any other key may return that lead.
        let may_be = |key: &LeadKey| match (&written, key) {
            (Some(written), LeadKey::Id(_)) => key == written,
            _ => true,
        };
        let mut in_flight_reads = self.shared.in_flight_reads();
        in_flight_reads.retain(|(key, _), _| !may_be(key));
        // Under the lock, so that no invalidated read in progress caches its response afterwards.
        let [by_id, by_other_keys] = &self.shared.cached;
        by_other_keys.invalidate_all();
        match &written {
            Some(written) => by_id.invalidate(written),
            None => by_id.invalidate_all(),
        }
    }
}

impl Shared {
    fn in_flight_reads(&self) -> MutexGuard<'_, HashMap<(LeadKey, ReadMask), Arc<InFlightRead>>> {
        self.in_flight_reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache_of(&self, key: &LeadKey) -> &moka::sync::Cache<LeadKey, CachedRead> {
        match key {
            LeadKey::Id(_) => &self.cached[0],
            LeadKey::Number(_) | LeadKey::Email(_) | LeadKey::Phone(_) => &self.cached[1],
        }
    }

    fn cached(&self, (key, mask): &(LeadKey, ReadMask), age: Duration) -> Option<RawFields> {
        let cached = self.cache_of(key).get(key)?;
        let is_young = cached.requested.elapsed() <= age;
        (is_young && cached.mask.covers(mask)).then(|| RawFields::clone(&cached.row))
    }

    /// Joins the read in progress with that name, or begins one. Returns whether it is new. A read of a lower criticality is not
    /// joined, because it may end later.
    fn join<R, F>(
        self: &Arc<Self>,
        context: &RequestContext,
        name: &(LeadKey, ReadMask),
        keep: bool,
        read: R,
    ) -> (Waiter, bool)
    where
        R: Fn(RequestContext) -> F + Send + Sync + 'static,
        F: Future<Output = Result<RawFields>> + Send,
    {
        let mut in_flight_reads = self.in_flight_reads();
        let waiter = |in_flight| Waiter {
            shared: self.clone(),
            name: name.clone(),
            in_flight,
        };
        if let Some(in_flight) = in_flight_reads.get(name)
            && in_flight.criticality >= context.criticality
            && in_flight.add_waiter(context.deadline)
        {
            return (waiter(in_flight.clone()), false);
        }
        let in_flight = Arc::new(InFlightRead {
            criticality: context.criticality,
            waiters: Mutex::new(Waiters {
                count: 1,
                deadline: context.deadline,
            }),
            cancelled: CancellationToken::new(),
            result: watch::Sender::new(None),
        });
        in_flight_reads.insert(name.clone(), in_flight.clone());
        drop(in_flight_reads);
        let context = RequestContext {
            cancelled: in_flight.cancelled.clone(),
            ..context.clone()
        };
        let (shared, task_read, name) = (self.clone(), in_flight.clone(), name.clone());
        self.tasks
            .spawn(async move { shared.run(&task_read, context, name, keep, read).await });
        (waiter(in_flight), true)
    }

    async fn run<R, F>(
        &self,
        in_flight: &Arc<InFlightRead>,
        mut context: RequestContext,
        name: (LeadKey, ReadMask),
        keep: bool,
        read: R,
    ) where
        R: Fn(RequestContext) -> F,
        F: Future<Output = Result<RawFields>>,
    {
        let requested = Instant::now();
        let result = loop {
            match read(context.clone()).await {
                // A later waiter may have more time.
                Err(error) if is_timeout(&error) && in_flight.deadline() > context.deadline => {
                    context.deadline = in_flight.deadline()
                }
                result => break result.map(Arc::new),
            }
        };
        let mut in_flight_reads = self.in_flight_reads();
        let is_current = in_flight_reads
            .get(&name)
            .is_some_and(|current| Arc::ptr_eq(current, in_flight));
        if is_current {
            in_flight_reads.remove(&name);
        }
        if let (true, true, Ok(row)) = (is_current, keep, &result) {
            let (key, mask) = name;
            let row = row.clone();
            self.cache_of(&key).insert(key, CachedRead { mask, row, requested });
        }
        drop(in_flight_reads);
        in_flight.result.send_replace(Some(result));
    }
}

impl InFlightRead {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Instant {
        self.waiters().deadline
    }

    /// Adds a waiter. Returns `false` if the read was cancelled because no waiter remained.
    fn add_waiter(&self, deadline: Instant) -> bool {
        let mut waiters = self.waiters();
        let is_alive = waiters.count > 0;
        if is_alive {
            waiters.count += 1;
            waiters.deadline = waiters.deadline.max(deadline);
        }
        is_alive
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.in_flight.waiters();
        waiters.count -= 1;
        let is_last = waiters.count == 0;
        drop(waiters);
        if is_last {
            self.in_flight.cancelled.cancel();
            let mut in_flight_reads = self.shared.in_flight_reads();
            if in_flight_reads
                .get(&self.name)
                .is_some_and(|current| Arc::ptr_eq(current, &self.in_flight))
            {
                in_flight_reads.remove(&self.name);
            }
        }
    }
}

/// Whether the call might have succeeded with a later deadline.
fn is_timeout(error: &Error) -> bool {
    matches!(
        error.kind,
        ErrorKind::DeadlineExceeded { .. } | ErrorKind::DeadlineInfeasible { .. } | ErrorKind::BreakerOpen { .. }
    )
}

/// Whether the error is about the caller and its deadline, and not about the lead.
fn is_of_caller(error: &Error) -> bool {
    let is_load = matches!(
        error.kind,
        ErrorKind::CallerCancelled
            | ErrorKind::CallerLimit { .. }
            | ErrorKind::QueueFull { .. }
            | ErrorKind::DailyBudgetExhausted { .. }
    );
    is_timeout(error) || is_load
}
