//! Reads of leads that others have asked for: those under way are shared, and those that ended are kept for callers who
//! can do with an older answer. What leadgate itself writes is never missing in what comes afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Criticality, RequestContext};
use crate::domain::lead::{LeadKey, RawFields};
use crate::domain::mask::ReadMask;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics::Metrics;

/// How much later than a flight those who wait for it look at the deadline.
const GRACE: Duration = Duration::from_millis(5);
/// The most answers that are kept; a lead has about 10 KB.
const MAX_KEPT: u64 = 10_000;

/// The reads of one account.
pub(super) struct Reads {
    shared: Arc<Shared>,
}

struct Shared {
    tenant: String,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    in_flight_reads: Mutex<HashMap<(LeadKey, ReadMask), Arc<InFlightRead>>>,
    /// What was read by id, and what was looked up by anything else.
    kept: [moka::sync::Cache<LeadKey, Kept>; 2],
}

/// A read under way. It runs in a task of its own, until the last deadline of those who wait for it, and ends when all of
/// them have left.
struct InFlightRead {
    criticality: Criticality,
    waiting: Mutex<Waiting>,
    cancelled: CancellationToken,
    landed: watch::Sender<Option<Result<Arc<RawFields>>>>,
}

/// Who waits for a flight.
struct Waiting {
    count: usize,
    until: Instant,
}

/// An answer of some time ago.
#[derive(Clone)]
struct Kept {
    mask: ReadMask,
    row: Arc<RawFields>,
    asked: Instant,
}

/// A waiter of a flight.
struct Reader {
    shared: Arc<Shared>,
    name: (LeadKey, ReadMask),
    in_flight: Arc<InFlightRead>,
}

impl Reads {
    pub(super) fn new(tenant: &str, metrics: Arc<Metrics>, tasks: TaskTracker) -> Self {
        Self {
            shared: Arc::new(Shared {
                tenant: tenant.to_owned(),
                metrics,
                tasks,
                in_flight_reads: Mutex::default(),
                kept: [(); 2].map(|()| moka::sync::Cache::new(MAX_KEPT)),
            }),
        }
    }

    /// The lead, as `read` finds it, or as others have just asked for it, or as it was found no longer ago than that.
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
        let name = (key.folded(), mask.clone());
        let age = max_staleness.filter(|age| !age.is_zero());
        if let Some(row) = age.and_then(|age| self.shared.kept(&name, age)) {
            self.shared.metrics.coalesced(&self.shared.tenant, "cache");
            return Ok(row);
        }
        // The flight looks at the deadline first, so that it can say where it waited.
        let patient = RequestContext {
            deadline: context.deadline + GRACE,
            ..context.clone()
        };
        loop {
            let (reader, is_first) = self.shared.reader(context, &name, age.is_some(), read.clone());
            let mut landed = reader.in_flight.landed.subscribe();
            let result = patient
                .wait("LeadSquared's answer", landed.wait_for(Option::is_some))
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
                // What was the first one's own trouble is not the others'.
                Err(error) if !is_first && is_personal(&error) && Instant::now() < context.deadline => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A lead was written, or, where it is not known which, any: what was asked before is no answer to what comes now.
    pub(super) fn invalidate(&self, lead_id: Option<&str>) {
        let written = lead_id.map(|id| LeadKey::Id(id.to_owned()).folded());
        // What is looked up by anything else may be that lead.
        let may_be = |key: &LeadKey| match (&written, key) {
            (Some(written), LeadKey::Id(_)) => key == written,
            _ => true,
        };
        let mut in_flight_reads = self.shared.in_flight_reads();
        in_flight_reads.retain(|(key, _), _| !may_be(key));
        // Under the lock, so that no flight that is to be forgotten keeps its answer after this.
        let [by_id, looked_up] = &self.shared.kept;
        looked_up.invalidate_all();
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

    fn place(&self, key: &LeadKey) -> &moka::sync::Cache<LeadKey, Kept> {
        match key {
            LeadKey::Id(_) => &self.kept[0],
            LeadKey::Number(_) | LeadKey::Email(_) | LeadKey::Phone(_) => &self.kept[1],
        }
    }

    fn kept(&self, (key, mask): &(LeadKey, ReadMask), age: Duration) -> Option<RawFields> {
        let kept = self.place(key).get(key)?;
        let is_young = kept.asked.elapsed() <= age;
        (is_young && kept.mask.covers(mask)).then(|| RawFields::clone(&kept.row))
    }

    /// A seat in the flight of that name, and whether it is a new one. One of a lower class would come too late.
    fn reader<R, F>(
        self: &Arc<Self>,
        context: &RequestContext,
        name: &(LeadKey, ReadMask),
        keep: bool,
        read: R,
    ) -> (Reader, bool)
    where
        R: Fn(RequestContext) -> F + Send + Sync + 'static,
        F: Future<Output = Result<RawFields>> + Send,
    {
        let mut in_flight_reads = self.in_flight_reads();
        let reader = |in_flight| Reader {
            shared: self.clone(),
            name: name.clone(),
            in_flight,
        };
        if let Some(in_flight) = in_flight_reads.get(name)
            && in_flight.criticality >= context.criticality
            && in_flight.board(context.deadline)
        {
            return (reader(in_flight.clone()), false);
        }
        let in_flight = Arc::new(InFlightRead {
            criticality: context.criticality,
            waiting: Mutex::new(Waiting {
                count: 1,
                until: context.deadline,
            }),
            cancelled: CancellationToken::new(),
            landed: watch::Sender::new(None),
        });
        in_flight_reads.insert(name.clone(), in_flight.clone());
        drop(in_flight_reads);
        let context = RequestContext {
            cancelled: in_flight.cancelled.clone(),
            ..context.clone()
        };
        let (shared, flown, name) = (self.clone(), in_flight.clone(), name.clone());
        self.tasks
            .spawn(async move { shared.fly(&flown, context, name, keep, read).await });
        (reader(in_flight), true)
    }

    async fn fly<R, F>(
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
        let asked = Instant::now();
        let result = loop {
            match read(context.clone()).await {
                // Somebody who came later may have more time.
                Err(error) if is_late(&error) && in_flight.until() > context.deadline => {
                    context.deadline = in_flight.until()
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
            self.place(&key).insert(key, Kept { mask, row, asked });
        }
        drop(in_flight_reads);
        in_flight.landed.send_replace(Some(result));
    }
}

impl InFlightRead {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self) -> Instant {
        self.waiting().until
    }

    /// One more waiter; none where all had left before.
    fn board(&self, deadline: Instant) -> bool {
        let mut waiting = self.waiting();
        let is_alive = waiting.count > 0;
        if is_alive {
            waiting.count += 1;
            waiting.until = waiting.until.max(deadline);
        }
        is_alive
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut waiting = self.in_flight.waiting();
        waiting.count -= 1;
        let is_last = waiting.count == 0;
        drop(waiting);
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

/// Whether it was a matter of time.
fn is_late(error: &Error) -> bool {
    matches!(
        error.kind,
        ErrorKind::DeadlineExceeded { .. } | ErrorKind::DeadlineInfeasible { .. } | ErrorKind::BreakerOpen { .. }
    )
}

/// Whether the error is about the one who asked, and not about what was asked.
fn is_personal(error: &Error) -> bool {
    let is_load = matches!(
        error.kind,
        ErrorKind::CallerCancelled
            | ErrorKind::CallerLimit { .. }
            | ErrorKind::QueueFull { .. }
            | ErrorKind::DailyBudgetExhausted { .. }
    );
    is_late(error) || is_load
}
