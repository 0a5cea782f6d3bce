//! Mutations with request ids: each request id is executed at most once, and repeated calls get the stored result.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OnceCell, OwnedMutexGuard};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::record::{StoredResult, result};
use super::{BeginResult, DamagedRow, RequestMark, Store, StoreError, StoredRequest};
use crate::clock;
use crate::cluster::replay::received_before;
use crate::context::{Record, Recorded, RequestContext, RequestId, STORE, UPSTREAM_RESPONSE};
use crate::error::{Error, ErrorKind, Outcome, Recovery, Result};

/// The additional time after the deadline for the result of the work. Only the error of the work says what the call waited for.
const GRACE: Duration = Duration::from_millis(5);

/// Maximum number of retries of writing a result.
const MAX_FINISH_RETRIES: u32 = 20;
/// The pause before each of these retries.
const FINISH_RETRY_PAUSE: Duration = Duration::from_secs(3);
/// Maximum number of marks of [`UnsentMarks`].
const MAX_UNSENT_MARKS: usize = 10_000;
/// The interval in which the result of a mutation is read that an earlier owner may still finish.
const EARLIER_CALL_INTERVAL: Duration = Duration::from_millis(500);
/// What a mutation waits for that an earlier owner may still finish.
const EARLIER_CALL: &str = "an earlier call with the same request_id";

/// The mutations of one tenant whose results have the type `T`.
pub struct Requests<T> {
    store: Store,
    tenant: String,
    keep: Duration,
    tasks: TaskTracker,
    /// When the calls of all earlier owners of the tenant have ended. `None`: there is no earlier owner.
    earlier_calls_end: Option<Instant>,
    /// The locks of the request ids in progress. The work of a mutation holds the lock of its id.
    locks: Mutex<HashMap<Uuid, Weak<IdLock>>>,
    unsent: UnsentMarks,
    results: PhantomData<fn() -> T>,
}

type IdLock = tokio::sync::Mutex<()>;

/// The marks of mutations that were certainly not sent, which could not be deleted, with their attempts. A later call with the id
/// replaces the mark.
#[derive(Clone, Debug, Default)]
struct UnsentMarks(Arc<Mutex<HashMap<Uuid, i64>>>);

impl UnsentMarks {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: Uuid, attempt: i64) {
        let mut marks = self.lock();
        // A mark that is forgotten is looked up like one of a crashed process.
        if marks.len() < MAX_UNSENT_MARKS {
            marks.insert(id, attempt);
        }
    }

    fn take(&self, id: Uuid) -> Option<i64> {
        self.lock().remove(&id)
    }
}

/// A mutation with a request id, at its position among the mutations with the same id.
pub struct RequestEntry {
    record: Arc<MutationRecord>,
    lock: RequestLock,
}

/// The state of the record of a mutation.
#[derive(Debug)]
struct MutationRecord {
    row: RequestRow,
    state: AtomicU8,
    /// The number of times that the record was begun.
    attempts: AtomicI64,
    /// Hashes of the keys that the mutation writes.
    keys: Vec<i64>,
    /// When a replica may have received the mutation before. `None`: it was not received before, or a look-up will show whether it
    /// was executed.
    received_before: Mutex<Option<Instant>>,
    unsent: UnsentMarks,
}

/// A row of the store for a request id.
#[derive(Debug)]
struct RequestRow {
    store: Store,
    tenant: String,
    keep: Duration,
    request: RequestId,
}

impl RequestRow {
    /// Writes the row, unless the id already has one.
    async fn begin(&self, context: &RequestContext, mark: &RequestMark) -> Result<BeginResult> {
        let begun = self.store.begin_request(&self.tenant, &context.caller, mark, self.keep);
        let result = self.store.traced(&context.trace, "begin_request", begun).await;
        result.map_err(|error| begin_error(&error))
    }
}

/// There is no record.
const NONE: u8 = 0;
/// The record is being written or deleted.
const WRITING: u8 = 1;
/// The record is written.
const WRITTEN: u8 = 2;
/// The record was written by an earlier call, and a request may have been executed.
const UNCERTAIN: u8 = 3;

impl RequestEntry {
    /// Returns a context that writes the record of the mutation before the first request is sent. To be called when the mutation has
    /// arrived: an old time in its id shows that a replica received it before.
    pub fn recorded(&self, context: &RequestContext) -> RequestContext {
        // The call may have waited since a replica received it.
        let arrived = clock::now() - context.first_received.elapsed();
        let age_of_id = || received_before(self.record.row.request.id, arrived);
        let received_before = match context.is_repeated {
            true => Some(context.first_received),
            false => age_of_id().and_then(|age| context.first_received.checked_sub(age)),
        };
        *self.record.received_before() = received_before;
        let record: Arc<dyn Record> = match &context.record {
            Some(batch) => Arc::new(BatchMemberRecord {
                batch: batch.clone(),
                own: self.record.clone(),
            }),
            None => self.record.clone(),
        };
        RequestContext {
            record: Some(record),
            ..context.clone()
        }
    }
}

impl MutationRecord {
    fn received_before(&self) -> MutexGuard<'_, Option<Instant>> {
        self.received_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, attempt: i64) -> RequestMark {
        let received_ago = self.received_before().map(|at| at.elapsed());
        RequestMark {
            request: self.row.request,
            attempt,
            keys: self.keys.clone(),
            received_ago: received_ago.unwrap_or_default(),
        }
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

// The calls of one mutation are sequential, so the state has no concurrent changes.
impl Record for MutationRecord {
    fn begin<'a>(&'a self, context: &'a RequestContext) -> Recorded<'a> {
        Box::pin(async move {
            if self.state() >= WRITTEN {
                return Ok(());
            }
            // If the waiter is dropped, the record is written anyway.
            self.set(WRITING);
            let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
            match self.row.begin(context, &self.mark(attempt)).await? {
                BeginResult::Started => self.set(WRITTEN),
                BeginResult::HistoryIsYounger => {
                    self.set(NONE);
                    return Err(ErrorKind::OutcomeUnknown.into());
                }
                // Another mutation with the same id has started since the look-up.
                BeginResult::Exists => {
                    self.set(NONE);
                    return Err(reused());
                }
            }
            Ok(())
        })
    }

    fn undo<'a>(&'a self, context: &'a RequestContext) -> Recorded<'a> {
        Box::pin(async move {
            if !matches!(self.state(), WRITING | WRITTEN) {
                return Ok(());
            }
            let RequestRow { store, tenant, .. } = &self.row;
            let mark = self.mark(self.attempts.load(Ordering::Relaxed));
            let deleted = store.delete_request(tenant, &context.caller, &mark);
            let deleted = store.traced(&context.trace, "delete_request", deleted).await;
            if let Err(error) = deleted {
                if store.keeps_attempts() {
                    self.unsent.add(mark.request.id, mark.attempt);
                }
                tracing::error!(%error, "deleting the record of a mutation that was not executed failed");
                return Err(error.kind().into());
            }
            self.set(NONE);
            Ok(())
        })
    }
}

/// The record of the request id of a batch RPC. It is not deleted, so the id cannot be used for another message.
#[derive(Debug)]
struct BatchRecord {
    row: RequestRow,
    written: OnceCell<()>,
}

/// The record of one operation of a batch RPC, and that of the batch.
#[derive(Debug)]
struct BatchMemberRecord {
    batch: Arc<dyn Record>,
    own: Arc<MutationRecord>,
}

impl Record for BatchRecord {
    fn begin<'a>(&'a self, context: &'a RequestContext) -> Recorded<'a> {
        let write = async move || {
            let mark = RequestMark::new(self.row.request);
            if self.row.begin(context, &mark).await? == BeginResult::Started {
                return Ok(());
            }
            let RequestRow {
                store,
                tenant,
                keep,
                request,
            } = &self.row;
            let known = store.request(tenant, &context.caller, &request.id, *keep);
            let known = store.traced(&context.trace, "read_request", known).await;
            match known.map_err(|error| begin_error(&error))? {
                Some(known) if known.fingerprint != request.fingerprint => Err(reused()),
                _ => Ok(()),
            }
        };
        Box::pin(async move { self.written.get_or_try_init(write).await.copied() })
    }

    fn undo<'a>(&'a self, _: &'a RequestContext) -> Recorded<'a> {
        Box::pin(async { Ok(()) })
    }
}

impl Record for BatchMemberRecord {
    fn begin<'a>(&'a self, context: &'a RequestContext) -> Recorded<'a> {
        Box::pin(async move {
            self.batch.begin(context).await?;
            self.own.begin(context).await
        })
    }

    fn undo<'a>(&'a self, context: &'a RequestContext) -> Recorded<'a> {
        self.own.undo(context)
    }
}

fn begin_error(error: &StoreError) -> Error {
    match error.is_not_owner() {
        true => tracing::debug!("a mutation is not started, because another replica owns the tenant"),
        false => tracing::error!(%error, "starting a mutation failed"),
    }
    error.kind().into()
}

fn reused() -> Error {
    Error::invalid("request_id", "was used for another message")
}

enum RequestLock {
    Held(OwnedMutexGuard<()>),
    Waiting(Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>),
}

/// What is known about earlier calls with the request id when a mutation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorAttempt {
    /// The mutation is new, or was certainly not executed.
    None,
    /// The mutation was started before. Whether it was executed is unknown.
    OutcomeUnknown {
        /// When the mutation was first started.
        since: Timestamp,
    },
}

impl<T: StoredResult> Requests<T> {
    /// The mutations of a tenant. Their records are kept for `keep`. They run on `tasks`.
    pub fn new(store: Store, tenant: &str, keep: Duration, tasks: TaskTracker) -> Self {
        Self {
            store,
            tenant: tenant.to_owned(),
            keep,
            tasks,
            earlier_calls_end: None,
            locks: Mutex::default(),
            unsent: UnsentMarks::default(),
            results: PhantomData,
        }
    }

    /// The same mutations of an owner of the tenant. The calls of all earlier owners have ended at `end`: until then, the outcome of
    /// a mutation that one of them has started is not looked up.
    #[must_use]
    pub fn after_earlier_calls(self, end: Option<Instant>) -> Self {
        Self {
            earlier_calls_end: end,
            ..self
        }
    }

    /// Takes the next position among the mutations with a request id. `keys` are hashes of the keys that it writes. Does not wait.
    pub fn enter(&self, request: RequestId, keys: Vec<i64>) -> RequestEntry {
        // The first poll puts the mutation into the queue of the lock. The cooperative budget of tokio could prevent the poll.
        let mut lock = Box::pin(tokio::task::unconstrained(self.lock(request.id).lock_owned()));
        let lock = match lock.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(guard) => RequestLock::Held(guard),
            Poll::Pending => RequestLock::Waiting(lock),
        };
        let record = Arc::new(MutationRecord {
            row: self.row(request),
            state: AtomicU8::new(NONE),
            attempts: AtomicI64::new(0),
            keys,
            received_before: Mutex::default(),
            unsent: self.unsent.clone(),
        });
        RequestEntry { record, lock }
    }

    /// Executes the work once per request id. The work runs in its own task and continues if the caller cancels. A later call
    /// with the same id and message waits for the work and gets its result. The work uses the context from
    /// [`RequestEntry::recorded`] for its calls. If an earlier call may have been executed and has no result, for example after a
    /// crash, the work gets [`PriorAttempt::OutcomeUnknown`].
    pub async fn once<W, F>(
        self: &Arc<Self>,
        context: &RequestContext,
        entry: Option<RequestEntry>,
        work: W,
    ) -> Result<T>
    where
        W: FnOnce(PriorAttempt) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let audit = context.audit.clone();
        let Some(RequestEntry { record, lock }) = entry else {
            let audited = async move {
                audit.begin().await?;
                work(PriorAttempt::None).await
            };
            return self.run(context, audited).await;
        };
        let lock = match lock {
            RequestLock::Held(lock) => lock,
            RequestLock::Waiting(lock) => context.wait(EARLIER_CALL, lock).await?,
        };
        let (this, waiting) = (self.clone(), context.clone());
        // All of this is in the task, so that the result is stored even if the caller cancels.
        self.run(context, async move {
            let id = &record.row.request.id;
            let prior = match this.stored_at_last(&waiting, &record.row.request).await? {
                None => this.prior_of_unknown(&waiting, &record).await?,
                Some(StoredRequest {
                    started,
                    result,
                    is_of_other_epoch,
                    ..
                }) => {
                    let has_result = result.is_some();
                    // The outcome of a mutation with an unreadable result is looked up.
                    if let Some(result) = result.and_then(|result| this.read(id, &result)) {
                        return result;
                    }
                    match this.unsent.take(*id).filter(|_| !has_result && !is_of_other_epoch) {
                        Some(attempt) => {
                            record.attempts.store(attempt, Ordering::Relaxed);
                            PriorAttempt::None
                        }
                        None => {
                            record.set(UNCERTAIN);
                            PriorAttempt::OutcomeUnknown { since: started }
                        }
                    }
                }
            };
            audit.begin().await?;
            let result = work(prior).await;
            this.store_result(&record, &waiting, &result, lock).await;
            result
        })
        .await
    }

    fn row(&self, request: RequestId) -> RequestRow {
        RequestRow {
            store: self.store.clone(),
            tenant: self.tenant.clone(),
            keep: self.keep,
            request,
        }
    }

    /// Checks that the request id of a batch RPC was not used for another message. The operations of the batch have their own ids.
    pub async fn check_batch_id(&self, context: &RequestContext, request: &RequestId) -> Result<()> {
        self.stored(context, request).await.map(drop)
    }

    /// Returns a context for the operations of a batch RPC. It writes the record of the batch before the first request of any
    /// operation is sent.
    pub fn with_batch_record(&self, context: &RequestContext, request: &RequestId) -> RequestContext {
        let batch = BatchRecord {
            row: self.row(*request),
            written: OnceCell::new(),
        };
        RequestContext {
            record: Some(Arc::new(batch)),
            ..context.clone()
        }
    }

    /// Stores the result of a mutation if its outcome is known. Deletes the record of a mutation that was not executed. Otherwise the
    /// record stays without a result.
    async fn store_result(
        self: &Arc<Self>,
        record: &MutationRecord,
        context: &RequestContext,
        result: &Result<T>,
        lock: OwnedMutexGuard<()>,
    ) {
        if record.state() == NONE {
            return;
        }
        match Outcome::of_mutation(result) {
            Outcome::Executed | Outcome::Rejected => {}
            Outcome::Unknown => {
                // Its calls have ended, so the next owner does not have to wait for them. If this fails, the next owner waits once.
                let released = self.store.release_keys(&self.tenant, Some(record.row.request.id)).await;
                if let Err(error) = released {
                    tracing::debug!(%error, "releasing the keys of a mutation of unknown outcome failed");
                }
                return;
            }
            Outcome::NotExecuted { .. } => {
                // Errors are already logged.
                let _ = record.undo(context).await;
                return;
            }
        }
        let request = record.row.request;
        // A result that cannot be stored leaves the record without a result. A repeated call looks the outcome up.
        let stored = match result::write(result.clone()) {
            Ok(stored) => stored,
            Err(reason) => return tracing::error!(reason, "the result of a mutation cannot be stored"),
        };
        let caller = context.caller.clone();
        let finished = self.store.finish_request(&self.tenant, &caller, &request, &stored);
        let Err(error) = self.store.traced(&context.trace, "finish_request", finished).await else {
            return;
        };
        // Later calls with the id wait for the retries: for example, a full disk may get free space.
        tracing::error!(%error, "storing the result of a mutation failed; retrying");
        let this = self.clone();
        self.tasks.spawn(async move {
            for _ in 0..MAX_FINISH_RETRIES {
                tokio::time::sleep(FINISH_RETRY_PAUSE).await;
                if this
                    .store
                    .finish_request(&this.tenant, &caller, &request, &stored)
                    .await
                    .is_ok()
                {
                    break;
                }
            }
            drop(lock);
        });
    }

    /// Deletes records that are older than the time for which they are kept. Returns the number of deleted records.
    pub async fn delete_expired(&self) -> std::result::Result<u64, StoreError> {
        self.store.delete_old_requests(self.keep).await
    }

    /// Returns the stored record of a mutation. Fails if its id was used for another message.
    async fn stored(&self, context: &RequestContext, request: &RequestId) -> Result<Option<StoredRequest>> {
        let known = self
            .store
            .request(&self.tenant, &context.caller, &request.id, self.keep);
        let known = self.store.traced(&context.trace, "read_request", known);
        let known = context.wait(STORE, known).await?;
        match known.map_err(|error| begin_error(&error))? {
            Some(known) if known.fingerprint != request.fingerprint => Err(reused()),
            known => Ok(known),
        }
    }

    /// Returns the stored record of a mutation, after an earlier owner of the tenant can no longer finish it.
    async fn stored_at_last(&self, context: &RequestContext, request: &RequestId) -> Result<Option<StoredRequest>> {
        let mut stored = self.stored(context, request).await?;
        loop {
            let is_open = |stored: &StoredRequest| stored.is_of_other_epoch && stored.result.is_none();
            let end = self.earlier_calls_end.filter(|end| Instant::now() < *end);
            let Some(end) = end.filter(|_| stored.as_ref().is_some_and(is_open)) else {
                return Ok(stored);
            };
            let again = async {
                let pause = tokio::time::sleep_until(end.min(Instant::now() + EARLIER_CALL_INTERVAL));
                context.wait(EARLIER_CALL, pause).await?;
                self.stored(context, request).await
            };
            stored = again.await.map_err(|error| match error.kind {
                ErrorKind::DeadlineExceeded { .. } => {
                    Error::from(ErrorKind::OutcomeUnknown).with_recovery(Recovery::not_before(end))
                }
                _ => error,
            })?;
        }
    }

    /// What is known about a mutation without a record. If the current history of the database began after a replica received the
    /// mutation, its record may be lost.
    async fn prior_of_unknown(&self, context: &RequestContext, record: &MutationRecord) -> Result<PriorAttempt> {
        let Some(received) = *record.received_before() else {
            return Ok(PriorAttempt::None);
        };
        let is_younger = self.store.is_history_younger(received.elapsed());
        let is_younger = context.wait(STORE, is_younger).await?;
        if !is_younger.map_err(|error| begin_error(&error))? {
            return Ok(PriorAttempt::None);
        }
        // The look-up shows whether it was executed.
        *record.received_before() = None;
        let since = clock::now() - received.elapsed();
        Ok(PriorAttempt::OutcomeUnknown { since })
    }

    /// Reads a stored result. Counts a damaged row.
    fn read(&self, id: &Uuid, result: &str) -> Option<Result<T>> {
        let read = result::read(result);
        read.map_err(|reason| {
            let row = DamagedRow::new("request", &self.tenant, &id.to_string(), reason);
            self.store.note_damaged(&row);
        })
        .ok()
    }

    fn lock(&self, id: Uuid) -> Arc<IdLock> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&id).and_then(Weak::upgrade) {
            return lock;
        }
        // Unused locks are removed, so the map has about as many entries as mutations in progress.
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(IdLock::new(()));
        locks.insert(id, Arc::downgrade(&lock));
        lock
    }

    async fn run(&self, context: &RequestContext, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        // Cancels the context when the waiter is dropped. Calls that are not sent yet are removed from the queue.
        let _cancel = context.cancelled.clone().drop_guard();
        let audit = context.audit.task();
        let task = self.tasks.spawn(async move {
            let result = work.await;
            if let Ok(value) = &result {
                audit.learn(value.lead_id(), value.share_id());
            }
            audit.end(result.as_ref().err()).await;
            result
        });
        match tokio::time::timeout_at(context.deadline + GRACE, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(failure)) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(ErrorKind::ShuttingDown.into()),
            },
            Err(_) => Err(context.deadline_error(UPSTREAM_RESPONSE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn store() -> Store {
        Store::open("sqlite::memory:").await.unwrap()
    }

    async fn requests() -> Arc<Requests<u32>> {
        requests_of(store().await)
    }

    fn requests_of(store: Store) -> Arc<Requests<u32>> {
        Arc::new(Requests::new(
            store,
            "acme",
            Duration::from_secs(3600),
            TaskTracker::new(),
        ))
    }

    impl Requests<u32> {
        async fn execute<W, F>(
            self: &Arc<Self>,
            context: &RequestContext,
            request: Option<RequestId>,
            work: W,
        ) -> Result<u32>
        where
            W: FnOnce(PriorAttempt) -> F + Send + 'static,
            F: Future<Output = Result<u32>> + Send + 'static,
        {
            let entry = request.map(|request| self.enter(request, vec![]));
            let recorded = entry
                .as_ref()
                .map_or_else(|| context.clone(), |entry| entry.recorded(context));
            let work = |prior| async move {
                recorded.begin().await?;
                work(prior).await
            };
            self.once(context, entry, work).await
        }
    }

    fn context() -> RequestContext {
        RequestContext::internal("test", Duration::from_secs(10))
    }

    fn id(message: u8) -> Option<RequestId> {
        Some(RequestId {
            id: Uuid::from_u128(7),
            fingerprint: [message; 32],
            is_internal: false,
        })
    }

    fn unknown() -> Result<u32> {
        Err(ErrorKind::OutcomeUnknown.into())
    }

    #[tokio::test]
    async fn the_same_id_has_one_effect_and_one_result() {
        let requests = requests().await;
        let effects = Arc::new(AtomicU32::new(0));
        let work = move |_| {
            let effects = effects.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(effects.fetch_add(1, Ordering::Relaxed) + 41)
            }
        };
        let (call_a, call_b) = (context(), context());
        let (a, b) = tokio::join!(
            requests.execute(&call_a, id(1), work.clone()),
            requests.execute(&call_b, id(1), work.clone())
        );
        assert_eq!((a, b), (Ok(41), Ok(41)));
        assert_eq!(requests.once(&context(), None, work).await, Ok(42));
    }

    #[tokio::test]
    async fn an_id_that_was_used_for_another_message_is_invalid() {
        let requests = requests().await;
        requests.execute(&context(), id(1), |_| async { Ok(1) }).await.unwrap();
        let error = requests
            .execute(&context(), id(2), |_| async { Ok(2) })
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Invalid(_)));
    }

    #[tokio::test]
    async fn a_rejection_is_returned_again_for_the_same_id() {
        let requests = requests().await;
        fn rejection() -> Error {
            ErrorKind::Duplicate {
                attribute: Some("Phone".into()),
                lead_id: None,
            }
            .into()
        }
        let first = requests
            .execute(&context(), id(1), |_| async move { Err(rejection()) })
            .await;
        assert_eq!(first, Err(rejection()));
        assert_eq!(
            requests.execute(&context(), id(1), |_| async { Ok(1) }).await,
            Err(rejection())
        );
    }

    #[tokio::test]
    async fn a_mutation_that_was_not_executed_can_be_repeated() {
        let requests = requests().await;
        fn queue_full() -> ErrorKind {
            ErrorKind::QueueFull {
                retry_after: Duration::ZERO,
            }
        }
        let error = requests
            .execute(&context(), id(1), |_| async move { Err(queue_full().into()) })
            .await;
        assert_eq!(error, Err(queue_full().into()));
        let again = |prior| async move {
            assert_eq!(prior, PriorAttempt::None);
            Ok(1)
        };
        assert_eq!(requests.execute(&context(), id(1), again).await, Ok(1));
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_passed_to_later_calls_until_it_is_known() {
        let requests = requests().await;
        assert_eq!(
            requests.execute(&context(), id(1), |_| async { unknown() }).await,
            unknown()
        );
        let unreachable = |prior| async move {
            assert!(matches!(prior, PriorAttempt::OutcomeUnknown { .. }));
            Err(ErrorKind::Unavailable { sent: false }.into())
        };
        assert!(requests.execute(&context(), id(1), unreachable).await.is_err());
        let resolves = |prior| async move {
            assert!(matches!(prior, PriorAttempt::OutcomeUnknown { .. }));
            Ok(5)
        };
        assert_eq!(requests.execute(&context(), id(1), resolves).await, Ok(5));
    }

    #[tokio::test]
    async fn after_a_restart_results_are_kept_and_the_outcome_of_started_mutations_is_unknown() {
        let store = store().await;
        requests_of(store.clone())
            .execute(&context(), id(1), |_| async { Ok(9) })
            .await
            .unwrap();
        assert_eq!(
            requests_of(store.clone())
                .execute(&context(), id(1), |_| async { Ok(0) })
                .await,
            Ok(9)
        );

        // A process that crashed during the work leaves a record without a result.
        let other = RequestId {
            id: Uuid::from_u128(8),
            fingerprint: [1; 32],
            is_internal: false,
        };
        store
            .begin_request("acme", "crm", &RequestMark::new(other), Duration::from_secs(60))
            .await
            .unwrap();
        let resolves = |prior| async move {
            assert!(matches!(prior, PriorAttempt::OutcomeUnknown { .. }));
            Ok(3)
        };
        assert_eq!(
            requests_of(store).execute(&context(), Some(other), resolves).await,
            Ok(3)
        );
    }

    #[tokio::test]
    async fn a_mutation_is_not_sent_if_the_store_cannot_be_written() {
        let requests = requests().await;
        requests.store.close().await;
        let sent = Arc::new(AtomicU32::new(0));
        let counting = sent.clone();
        let work = |_| async move {
            counting.fetch_add(1, Ordering::Relaxed);
            Ok(1)
        };
        let error = requests.execute(&context(), id(1), work).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::StoreUnavailable);
        assert_eq!(sent.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_result_after_the_deadline_is_returned_to_a_later_call() {
        let requests = requests().await;
        let (send, sent) = tokio::sync::oneshot::channel::<()>();
        let slow = |_| async {
            sent.await.unwrap();
            Ok(9)
        };
        let short = RequestContext {
            cancelled: CancellationToken::new(),
            ..RequestContext::internal("test", Duration::from_millis(50))
        };
        let error = requests.execute(&short, id(1), slow).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::DeadlineExceeded { .. }));
        assert!(short.cancelled.is_cancelled());
        send.send(()).unwrap();
        assert_eq!(requests.execute(&context(), id(1), |_| async { Ok(0) }).await, Ok(9));
    }

    #[tokio::test]
    async fn a_mutation_that_was_not_sent_has_no_record() {
        let requests = requests().await;
        let known = || async { requests.stored(&context(), &id(1).unwrap()).await.unwrap() };
        // The mutation ends before its first request is sent.
        for result in [
            Err(ErrorKind::CallerCancelled.into()),
            Err(Error::invalid("lead", "x")),
            Ok(1),
        ] {
            let entry = requests.enter(id(1).unwrap(), vec![]);
            let expected = result.clone();
            let work = |prior| async move {
                assert_eq!(prior, PriorAttempt::None);
                result
            };
            assert_eq!(requests.once(&context(), Some(entry), work).await, expected);
            assert_eq!(known().await, None);
        }
    }

    #[tokio::test]
    async fn a_request_that_was_not_executed_has_no_record_while_it_waits_for_a_retry() {
        let requests = requests().await;
        let known = || async { requests.stored(&context(), &id(1).unwrap()).await.unwrap().is_some() };
        let entry = requests.enter(id(1).unwrap(), vec![]);
        let recorded = entry.recorded(&context());
        assert!(!known().await);
        recorded.begin().await.unwrap();
        assert!(known().await);
        recorded.not_executed().await;
        assert!(!known().await);
        // After a lost response the record stays.
        recorded.begin().await.unwrap();
        recorded
            .reconciling(Duration::from_secs(1), tokio::time::Instant::now())
            .not_executed()
            .await;
        assert!(known().await);
        recorded.not_executed().await;
        assert!(known().await);
    }

    #[tokio::test]
    async fn a_record_of_another_message_with_the_same_id_is_not_changed() {
        let store = store().await;
        let (leads, posts) = (requests_of(store.clone()), requests_of(store));
        let entry = leads.enter(id(1).unwrap(), vec![]);
        let post = posts.enter(id(2).unwrap(), vec![]).recorded(&context());
        post.begin().await.unwrap();
        // The caller cancels while its own record is being written.
        entry.record.set(WRITING);
        entry.record.undo(&context()).await.unwrap();
        let request = id(1).unwrap();
        leads
            .store
            .finish_request("acme", "test", &request, "{}")
            .await
            .unwrap();
        let known = posts.stored(&context(), &id(2).unwrap()).await.unwrap().unwrap();
        assert_eq!(known.result, None);
    }

    #[tokio::test]
    async fn the_record_of_a_batch_is_written_before_its_first_operation_is_sent() {
        let requests = requests().await;
        let batch = RequestId {
            id: Uuid::from_u128(70),
            fingerprint: [1; 32],
            is_internal: false,
        };
        let other = RequestId {
            fingerprint: [2; 32],
            ..batch
        };
        let known = |batch: RequestId| {
            let requests = requests.clone();
            async move { requests.check_batch_id(&context(), &batch).await }
        };
        let member = |batch: &RequestId, at: u128| {
            let request = RequestId {
                id: Uuid::from_u128(at),
                fingerprint: [9; 32],
                is_internal: false,
            };
            let entry = requests.enter(request, vec![]);
            entry.recorded(&requests.with_batch_record(&context(), batch))
        };
        assert_eq!((known(batch).await, known(other).await), (Ok(()), Ok(())));
        member(&batch, 71).begin().await.unwrap();
        assert_eq!((known(batch).await, known(other).await), (Ok(()), Err(reused())));
        // The same message again, and another message that was checked before.
        member(&batch, 72).begin().await.unwrap();
        assert_eq!(member(&other, 73).begin().await, Err(reused()));
    }

    #[tokio::test]
    async fn an_id_that_is_used_concurrently_by_another_kind_of_mutation_is_sent_once() {
        let store = store().await;
        let (leads, posts) = (requests_of(store.clone()), requests_of(store));
        let entry = leads.enter(id(1).unwrap(), vec![]);
        let recorded = entry.recorded(&context());
        let work = |_| async move {
            assert_eq!(posts.execute(&context(), id(2), |_| async { Ok(2) }).await, Ok(2));
            recorded.begin().await?;
            Ok(1)
        };
        let error = leads.once(&context(), Some(entry), work).await.unwrap_err();
        assert_eq!(error, reused());
        assert_eq!(leads.execute(&context(), id(2), |_| async { Ok(3) }).await, Ok(2));
    }
}
