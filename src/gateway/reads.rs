//! Request coalescing and caching of reads of leads. Callers share a read in progress. Callers that accept an older response get a
//! cached one. A read that begins after a write of this process always shows the write. While this process may not be the owner of
//! the tenant, or an earlier owner may still write, each read is a call of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture, WeakShared};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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

/// The reads in progress, by what they read.
type InFlightReads = HashMap<(LeadKey, ReadMask), InFlightRead>;

/// The reads of one account. Clones share them.
#[derive(Clone)]
pub(super) struct Reads {
    shared: Arc<Shared>,
}

struct Shared {
    tenant: String,
    metrics: Arc<Metrics>,
    lease: TenantLease,
    /// Whether an earlier owner may still write.
    is_suspended: AtomicBool,
    in_flight_reads: Mutex<InFlightReads>,
    /// The responses to reads by id, and to reads by any other key.
    cached: [moka::sync::Cache<LeadKey, CachedRead>; 2],
}

/// A read in progress. Its waiters drive it, until the last of their deadlines. It is cancelled when no waiter remains.
struct InFlightRead {
    criticality: Criticality,
    /// The last deadline of the waiters.
    deadline: Arc<Mutex<Instant>>,
    result: WeakShared<ReadFuture>,
}

type ReadFuture = BoxFuture<'static, Result<Arc<RawFields>>>;

/// A cached response.
#[derive(Clone)]
struct CachedRead {
    mask: ReadMask,
    row: Arc<RawFields>,
    requested: Instant,
}

/// The entry of an in-flight read. Its drop removes it, so that no other read joins one that has ended or was cancelled.
struct InFlightEntry {
    shared: Arc<Shared>,
    name: (LeadKey, ReadMask),
    deadline: Arc<Mutex<Instant>>,
}

impl Reads {
    pub(super) fn new(tenant: &str, metrics: Arc<Metrics>, lease: TenantLease) -> Self {
        Self {
            shared: Arc::new(Shared {
                tenant: tenant.to_owned(),
                metrics,
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
        F: Future<Output = Result<RawFields>> + Send + 'static,
    {
        if !self.shared.lease.is_valid(Instant::now()) || self.shared.is_suspended.load(Ordering::Relaxed) {
            return read(context.clone()).boxed().await;
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
            let (read, is_first) = self.shared.join(context, &name, age.is_some(), read.clone());
            let result = waiter_context.wait(UPSTREAM_RESPONSE, read).await?;
            match result {
                Ok(row) => {
                    if !is_first {
                        self.shared.metrics.coalesced(&self.shared.tenant, "flight");
                    }
                    return Ok(Arc::unwrap_or_clone(row));
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
    fn in_flight_reads(&self) -> MutexGuard<'_, InFlightReads> {
        lock(&self.in_flight_reads)
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
    ) -> (future::Shared<ReadFuture>, bool)
    where
        R: Fn(RequestContext) -> F + Send + Sync + 'static,
        F: Future<Output = Result<RawFields>> + Send + 'static,
    {
        // If all its waiters end meanwhile, the read is cancelled here. Its drop needs the lock.
        let in_progress;
        let mut in_flight_reads = self.in_flight_reads();
        if let Some(known) = in_flight_reads.get(name) {
            in_progress = known.result.upgrade();
            if let Some(read) = in_progress
                .as_ref()
                .filter(|_| known.criticality >= context.criticality)
            {
                let mut deadline = lock(&known.deadline);
                *deadline = context.deadline.max(*deadline);
                return (read.clone(), false);
            }
        }
        let deadline = Arc::new(Mutex::new(context.deadline));
        let entry = InFlightEntry {
            shared: self.clone(),
            name: name.clone(),
            deadline: deadline.clone(),
        };
        let context = RequestContext {
            // The caller may cancel before the other waiters.
            cancelled: CancellationToken::new(),
            ..context.clone()
        };
        let criticality = context.criticality;
        let read = entry.run(context, keep, read).boxed().shared();
        // A read that was not polled has not ended.
        let result = read.downgrade().unwrap_or_else(|| unreachable!());
        let in_flight = InFlightRead {
            criticality,
            deadline,
            result,
        };
        in_flight_reads.insert(name.clone(), in_flight);
        (read, true)
    }
}

impl InFlightEntry {
    async fn run<R, F>(self, mut context: RequestContext, keep: bool, read: R) -> Result<Arc<RawFields>>
    where
        R: Fn(RequestContext) -> F,
        F: Future<Output = Result<RawFields>>,
    {
        let requested = Instant::now();
        let result = loop {
            match read(context.clone()).await {
                // A later waiter may have more time.
                Err(error) if is_timeout(&error) && *lock(&self.deadline) > context.deadline => {
                    context.deadline = *lock(&self.deadline);
                }
                result => break result.map(Arc::new),
            }
        };
        let mut in_flight_reads = self.shared.in_flight_reads();
        if let (true, true, Ok(row)) = (self.remove(&mut in_flight_reads), keep, &result) {
            let (key, mask) = self.name.clone();
            let row = row.clone();
            let cache = self.shared.cache_of(&key);
            cache.insert(key, CachedRead { mask, row, requested });
        }
        drop(in_flight_reads);
        result
    }

    /// Removes the entry. Returns whether it was there: a write may have removed it, and another read may have its name.
    fn remove(&self, in_flight_reads: &mut InFlightReads) -> bool {
        let is_there = in_flight_reads
            .get(&self.name)
            .is_some_and(|known| Arc::ptr_eq(&known.deadline, &self.deadline));
        if is_there {
            in_flight_reads.remove(&self.name);
        }
        is_there
    }
}

impl Drop for InFlightEntry {
    fn drop(&mut self) {
        self.remove(&mut self.shared.in_flight_reads());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
