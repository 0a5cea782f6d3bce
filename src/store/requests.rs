//! One effect per request id: who has begun a mutation, who waits for it, and what it came to.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OnceCell, OwnedMutexGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::record::{Answer, answer};
use super::{Begun, DamagedRow, Known, Store, StoreError};
use crate::clock;
use crate::context::{Record as Recording, Recorded, RequestContext, RequestId, STORE, UPSTREAM_RESPONSE};
use crate::error::{Error, ErrorKind, Outcome, Result};

/// How much later than the work itself its waiter looks at the deadline, so that the work can say where it waited.
const GRACE: Duration = Duration::from_millis(5);

/// How often, and after which pause, an answer is tried to be kept again.
const KEEP_TRIES: u32 = 20;
const KEEP_PAUSE: Duration = Duration::from_secs(3);

/// The mutations of one tenant.
pub struct Requests<T> {
    store: Store,
    tenant: String,
    keep: Duration,
    tasks: TaskTracker,
    /// The ids under way in this process: their locks are held by the work.
    running: Mutex<HashMap<Uuid, Weak<Lock>>>,
    answers: PhantomData<fn() -> T>,
}

type Lock = tokio::sync::Mutex<()>;

/// A mutation that is to be done once, at its place among those with the same request id.
pub struct Entry {
    record: Arc<Record>,
    lock: Turn,
}

/// The record of a mutation in the store.
#[derive(Debug)]
struct Record {
    row: Row,
    state: AtomicU8,
}

/// The row of a request id in the store.
#[derive(Debug)]
struct Row {
    store: Store,
    tenant: String,
    keep: Duration,
    request: RequestId,
}

impl Row {
    /// Writes the row, unless there is one of that id.
    async fn begin(&self, caller: &str) -> Result<Begun> {
        let now = clock::now();
        let (request, oldest) = (&self.request, now - self.keep);
        let begun = self.store.begin(&self.tenant, caller, request, now, oldest).await;
        begun.map_err(|fault| unavailable(&fault))
    }
}

/// The mutation has no record.
const NONE: u8 = 0;
/// Its record is being written, or deleted.
const WRITING: u8 = 1;
/// Its record is written.
const WRITTEN: u8 = 2;
/// Its record was written before, and a request may have been executed.
const UNCERTAIN: u8 = 3;

impl Entry {
    /// The same call, which writes the record of the mutation before its first request is sent.
    pub fn recorded(&self, context: &RequestContext) -> RequestContext {
        let record: Arc<dyn Recording> = match &context.record {
            Some(whole) => Arc::new(Part {
                whole: whole.clone(),
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

impl Record {
    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

// The calls of one mutation follow each other, so the state is never changed by two at a time.
impl Recording for Record {
    fn begin<'a>(&'a self, caller: &'a str) -> Recorded<'a> {
        Box::pin(async move {
            if self.state() >= WRITTEN {
                return Ok(());
            }
            // A record whose writing is given up is written all the same.
            self.set(WRITING);
            match self.row.begin(caller).await? {
                Begun::New => self.set(WRITTEN),
                // Another mutation of the same id has begun since this one was looked up.
                Begun::Known => {
                    self.set(NONE);
                    return Err(reused());
                }
            }
            Ok(())
        })
    }

    fn undo<'a>(&'a self, caller: &'a str) -> Recorded<'a> {
        Box::pin(async move {
            if !matches!(self.state(), WRITING | WRITTEN) {
                return Ok(());
            }
            let Row {
                store, tenant, request, ..
            } = &self.row;
            let forgotten = store.forget(tenant, caller, request).await;
            if let Err(fault) = forgotten {
                tracing::error!(%fault, "deleting the record of a mutation that was not executed failed");
                return Err(fault.kind().into());
            }
            self.set(NONE);
            Ok(())
        })
    }
}

/// The record of a message that is done in parts. It stays, so that its id does not stand for another message.
#[derive(Debug)]
struct Claim {
    row: Row,
    written: OnceCell<()>,
}

/// The records of a part and of the whole message.
#[derive(Debug)]
struct Part {
    whole: Arc<dyn Recording>,
    own: Arc<Record>,
}

impl Recording for Claim {
    fn begin<'a>(&'a self, caller: &'a str) -> Recorded<'a> {
        let write = async move || {
            if self.row.begin(caller).await? == Begun::New {
                return Ok(());
            }
            let Row {
                store,
                tenant,
                keep,
                request,
            } = &self.row;
            let known = store.known(tenant, caller, &request.id, clock::now() - *keep).await;
            match known.map_err(|fault| unavailable(&fault))? {
                Some(known) if known.fingerprint != request.fingerprint => Err(reused()),
                _ => Ok(()),
            }
        };
        Box::pin(async move { self.written.get_or_try_init(write).await.copied() })
    }

    fn undo<'a>(&'a self, _caller: &'a str) -> Recorded<'a> {
        Box::pin(async { Ok(()) })
    }
}

impl Recording for Part {
    fn begin<'a>(&'a self, caller: &'a str) -> Recorded<'a> {
        Box::pin(async move {
            self.whole.begin(caller).await?;
            self.own.begin(caller).await
        })
    }

    fn undo<'a>(&'a self, caller: &'a str) -> Recorded<'a> {
        self.own.undo(caller)
    }
}

fn unavailable(fault: &StoreError) -> Error {
    tracing::error!(%fault, "a mutation could not be begun");
    fault.kind().into()
}

fn reused() -> Error {
    Error::invalid("request_id", "was used for another message")
}

enum Turn {
    Come(OwnedMutexGuard<()>),
    Waiting(Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>),
}

/// What a mutation has to know before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is new.
    Nothing,
    /// It was begun before, and whether it was executed is not known.
    Uncertain {
        /// When it was first begun.
        since: Timestamp,
    },
}

impl<T: Answer> Requests<T> {
    /// The mutations of that tenant, each remembered for so long. They run on `tasks`.
    pub fn new(store: Store, tenant: &str, keep: Duration, tasks: TaskTracker) -> Self {
        Self {
            store,
            tenant: tenant.to_owned(),
            keep,
            tasks,
            running: Mutex::default(),
            answers: PhantomData,
        }
    }

    /// Takes the next place among the mutations with that request id, at once.
    pub fn enter(&self, request: RequestId) -> Entry {
        // Polled once, the lock knows who came first. Without tokio's budget, which may put a poll off.
        let mut lock = Box::pin(tokio::task::unconstrained(self.lock(request.id).lock_owned()));
        let lock = match lock.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(guard) => Turn::Come(guard),
            Poll::Pending => Turn::Waiting(lock),
        };
        let record = Arc::new(Record {
            row: self.row(request),
            state: AtomicU8::new(NONE),
        });
        Entry { record, lock }
    }

    /// Does the work once per request id, in a task of its own: what was sent is seen to its end even if the caller
    /// leaves, and whoever comes with the same id and message gets the same answer, waiting for it if need be. The work makes
    /// its calls as [`Entry::recorded`]. A mutation that was sent when a process died is handed to the work as uncertain when
    /// its id comes again; one that was not sent is new.
    pub async fn once<W, F>(self: &Arc<Self>, context: &RequestContext, entry: Option<Entry>, work: W) -> Result<T>
    where
        W: FnOnce(Before) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let Some(Entry { record, lock }) = entry else {
            return self.run(context, work(Before::Nothing)).await;
        };
        let lock = match lock {
            Turn::Come(lock) => lock,
            Turn::Waiting(lock) => context.wait("an earlier call with the same request_id", lock).await?,
        };
        let (this, waiting) = (self.clone(), context.clone());
        // All in the task: what is written down as begun is also written down as ended, whoever leaves meanwhile.
        self.run(context, async move {
            let id = &record.row.request.id;
            let before = match this.known(&waiting, &record.row.request).await? {
                None => Before::Nothing,
                Some(Known { begun, answer, .. }) => {
                    // The outcome of a mutation whose answer cannot be read has to be looked up.
                    match answer.and_then(|answer| this.read(id, &answer)) {
                        Some(result) => return result,
                        None => {
                            record.set(UNCERTAIN);
                            Before::Uncertain { since: begun }
                        }
                    }
                }
            };
            let result = work(before).await;
            this.keep(&record, &waiting.caller, &result, lock).await;
            result
        })
        .await
    }

    fn row(&self, request: RequestId) -> Row {
        Row {
            store: self.store.clone(),
            tenant: self.tenant.clone(),
            keep: self.keep,
            request,
        }
    }

    /// Whether an id is free for this message, which is done in parts, each of which has an id of its own.
    pub async fn check(&self, context: &RequestContext, request: &RequestId) -> Result<()> {
        self.known(context, request).await.map(drop)
    }

    /// The call of such a message. It writes the record of the message before the first request of any part is sent.
    pub fn claimed(&self, context: &RequestContext, request: &RequestId) -> RequestContext {
        let claim = Claim {
            row: self.row(*request),
            written: OnceCell::new(),
        };
        RequestContext {
            record: Some(Arc::new(claim)),
            ..context.clone()
        }
    }

    /// Keeps what is decided, forgets what was surely not executed, and leaves the rest begun.
    async fn keep(self: &Arc<Self>, record: &Record, caller: &str, result: &Result<T>, lock: OwnedMutexGuard<()>) {
        if record.state() == NONE {
            return;
        }
        match Outcome::of_mutation(result) {
            Outcome::Executed | Outcome::Rejected => {}
            Outcome::Unknown => return,
            Outcome::NotExecuted { .. } => {
                // What fails is logged.
                let _ = record.undo(caller).await;
                return;
            }
        }
        let request = record.row.request;
        // The mutation stays begun if its answer could not be read back: its outcome is looked up when it is repeated.
        let answer = match answer::write(result.clone()) {
            Ok(answer) => answer,
            Err(reason) => return tracing::error!(reason, "the answer of a mutation cannot be stored"),
        };
        let Err(fault) = self.store.finish(&self.tenant, caller, &request, &answer).await else {
            return;
        };
        // It stays begun, and whoever comes with the id waits: a full disk may have room again.
        tracing::error!(%fault, "the answer of a mutation could not be kept; trying again");
        let (this, caller) = (self.clone(), caller.to_owned());
        self.tasks.spawn(async move {
            for _ in 0..KEEP_TRIES {
                tokio::time::sleep(KEEP_PAUSE).await;
                if this
                    .store
                    .finish(&this.tenant, &caller, &request, &answer)
                    .await
                    .is_ok()
                {
                    break;
                }
            }
            drop(lock);
        });
    }

    /// Forgets what is older than it has to be.
    pub async fn sweep(&self) -> std::result::Result<u64, StoreError> {
        self.store.sweep(clock::now() - self.keep).await
    }

    /// What is known of a mutation. Fails if its id was used for another message.
    async fn known(&self, context: &RequestContext, request: &RequestId) -> Result<Option<Known>> {
        let oldest = clock::now() - self.keep;
        let known = self.store.known(&self.tenant, &context.caller, &request.id, oldest);
        let known = context.wait(STORE, known).await?;
        match known.map_err(|fault| unavailable(&fault))? {
            Some(known) if known.fingerprint != request.fingerprint => Err(reused()),
            known => Ok(known),
        }
    }

    /// Reads a kept answer; a damaged one is noted.
    fn read(&self, id: &Uuid, answer: &str) -> Option<Result<T>> {
        let read = answer::read(answer);
        read.map_err(|reason| {
            let row = DamagedRow::new("request", &self.tenant, &id.to_string(), reason);
            self.store.note_damaged(&row);
        })
        .ok()
    }

    fn lock(&self, id: Uuid) -> Arc<Lock> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = running.get(&id).and_then(Weak::upgrade) {
            return lock;
        }
        // Those of the past go when a new one comes, so that there are about as many as calls under way.
        running.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(Lock::new(()));
        running.insert(id, Arc::downgrade(&lock));
        lock
    }

    async fn run(&self, context: &RequestContext, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        // Tells the work when nobody waits any more; what is not sent yet then leaves the queue.
        let _left = context.cancelled.clone().drop_guard();
        let task = self.tasks.spawn(work);
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
        over(store().await)
    }

    fn over(store: Store) -> Arc<Requests<u32>> {
        Arc::new(Requests::new(
            store,
            "acme",
            Duration::from_secs(3600),
            TaskTracker::new(),
        ))
    }

    impl Requests<u32> {
        async fn do_once<W, F>(
            self: &Arc<Self>,
            context: &RequestContext,
            request: Option<RequestId>,
            work: W,
        ) -> Result<u32>
        where
            W: FnOnce(Before) -> F + Send + 'static,
            F: Future<Output = Result<u32>> + Send + 'static,
        {
            let entry = request.map(|request| self.enter(request));
            let asked = entry
                .as_ref()
                .map_or_else(|| context.clone(), |entry| entry.recorded(context));
            let work = |before| async move {
                asked.begin().await?;
                work(before).await
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
        })
    }

    fn unknown() -> Result<u32> {
        Err(ErrorKind::OutcomeUnknown.into())
    }

    #[tokio::test]
    async fn the_same_id_has_one_effect_and_one_answer() {
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
            requests.do_once(&call_a, id(1), work.clone()),
            requests.do_once(&call_b, id(1), work.clone())
        );
        assert_eq!((a, b), (Ok(41), Ok(41)));
        assert_eq!(requests.once(&context(), None, work).await, Ok(42));
    }

    #[tokio::test]
    async fn an_id_used_for_another_message_is_invalid() {
        let requests = requests().await;
        requests.do_once(&context(), id(1), |_| async { Ok(1) }).await.unwrap();
        let error = requests
            .do_once(&context(), id(2), |_| async { Ok(2) })
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Invalid(_)));
    }

    #[tokio::test]
    async fn a_refusal_is_the_same_answer_to_the_same_id() {
        let requests = requests().await;
        fn refusal() -> Error {
            ErrorKind::Duplicate {
                attribute: Some("Phone".into()),
                lead_id: None,
            }
            .into()
        }
        let first = requests
            .do_once(&context(), id(1), |_| async move { Err(refusal()) })
            .await;
        assert_eq!(first, Err(refusal()));
        assert_eq!(
            requests.do_once(&context(), id(1), |_| async { Ok(1) }).await,
            Err(refusal())
        );
    }

    #[tokio::test]
    async fn what_was_not_executed_may_be_tried_again() {
        let requests = requests().await;
        fn queue_full() -> ErrorKind {
            ErrorKind::QueueFull {
                retry_after: Duration::ZERO,
            }
        }
        let error = requests
            .do_once(&context(), id(1), |_| async move { Err(queue_full().into()) })
            .await;
        assert_eq!(error, Err(queue_full().into()));
        let again = |before| async move {
            assert_eq!(before, Before::Nothing);
            Ok(1)
        };
        assert_eq!(requests.do_once(&context(), id(1), again).await, Ok(1));
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_handed_to_the_next_try_until_it_is_settled() {
        let requests = requests().await;
        assert_eq!(
            requests.do_once(&context(), id(1), |_| async { unknown() }).await,
            unknown()
        );
        let unreachable = |before| async move {
            assert!(matches!(before, Before::Uncertain { .. }));
            Err(ErrorKind::Unavailable { sent: false }.into())
        };
        assert!(requests.do_once(&context(), id(1), unreachable).await.is_err());
        let settles = |before| async move {
            assert!(matches!(before, Before::Uncertain { .. }));
            Ok(5)
        };
        assert_eq!(requests.do_once(&context(), id(1), settles).await, Ok(5));
    }

    #[tokio::test]
    async fn answers_outlive_the_process_and_what_was_under_way_is_uncertain() {
        let store = store().await;
        over(store.clone())
            .do_once(&context(), id(1), |_| async { Ok(9) })
            .await
            .unwrap();
        assert_eq!(
            over(store.clone())
                .do_once(&context(), id(1), |_| async { Ok(0) })
                .await,
            Ok(9)
        );

        // A process that died in the middle of the work leaves what begin() wrote, and nothing more.
        let other = RequestId {
            id: Uuid::from_u128(8),
            fingerprint: [1; 32],
        };
        store
            .begin("acme", "crm", &other, clock::now(), Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        let settles = |before| async move {
            assert!(matches!(before, Before::Uncertain { .. }));
            Ok(3)
        };
        assert_eq!(over(store).do_once(&context(), Some(other), settles).await, Ok(3));
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_stops_a_mutation_before_it_is_sent() {
        let requests = requests().await;
        requests.store.close().await;
        let sent = Arc::new(AtomicU32::new(0));
        let counting = sent.clone();
        let work = |_| async move {
            counting.fetch_add(1, Ordering::Relaxed);
            Ok(1)
        };
        let error = requests.do_once(&context(), id(1), work).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::StoreUnavailable);
        assert_eq!(sent.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_caller_who_leaves_still_gets_the_answer_by_its_id() {
        let requests = requests().await;
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let slow = |_| async {
            gone.await.unwrap();
            Ok(9)
        };
        let impatient = RequestContext {
            cancelled: CancellationToken::new(),
            ..RequestContext::internal("test", Duration::from_millis(50))
        };
        let error = requests.do_once(&impatient, id(1), slow).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::DeadlineExceeded { .. }));
        assert!(impatient.cancelled.is_cancelled());
        go.send(()).unwrap();
        assert_eq!(requests.do_once(&context(), id(1), |_| async { Ok(0) }).await, Ok(9));
    }

    #[tokio::test]
    async fn a_mutation_that_was_never_sent_has_no_record() {
        let requests = requests().await;
        let known = || async { requests.known(&context(), &id(1).unwrap()).await.unwrap() };
        // It waits for its slot when the process dies, or fails there, even for good.
        for result in [
            Err(ErrorKind::CallerCancelled.into()),
            Err(Error::invalid("lead", "x")),
            Ok(1),
        ] {
            let entry = requests.enter(id(1).unwrap());
            let expected = result.clone();
            let work = |before| async move {
                assert_eq!(before, Before::Nothing);
                result
            };
            assert_eq!(requests.once(&context(), Some(entry), work).await, expected);
            assert_eq!(known().await, None);
        }
    }

    #[tokio::test]
    async fn a_request_that_was_not_executed_leaves_no_record_while_it_waits_again() {
        let requests = requests().await;
        let known = || async { requests.known(&context(), &id(1).unwrap()).await.unwrap().is_some() };
        let entry = requests.enter(id(1).unwrap());
        let asked = entry.recorded(&context());
        assert!(!known().await);
        asked.begin().await.unwrap();
        assert!(known().await);
        asked.not_executed().await;
        assert!(!known().await);
        // Once a response is lost, the record stays.
        asked.begin().await.unwrap();
        asked
            .reconciling(Duration::from_secs(1), tokio::time::Instant::now())
            .not_executed()
            .await;
        assert!(known().await);
        asked.not_executed().await;
        assert!(known().await);
    }

    #[tokio::test]
    async fn a_record_of_another_message_with_the_same_id_is_not_touched() {
        let store = store().await;
        let (leads, posts) = (over(store.clone()), over(store));
        let entry = leads.enter(id(1).unwrap());
        let post = posts.enter(id(2).unwrap()).recorded(&context());
        post.begin().await.unwrap();
        // Its own record is being written when its caller leaves.
        entry.record.set(WRITING);
        entry.record.undo("test").await.unwrap();
        let request = id(1).unwrap();
        leads.store.finish("acme", "test", &request, "{}").await.unwrap();
        let known = posts.known(&context(), &id(2).unwrap()).await.unwrap().unwrap();
        assert_eq!(known.answer, None);
    }

    #[tokio::test]
    async fn the_id_of_a_whole_is_claimed_before_its_first_part_is_sent() {
        let requests = requests().await;
        let whole = RequestId {
            id: Uuid::from_u128(70),
            fingerprint: [1; 32],
        };
        let other = RequestId {
            fingerprint: [2; 32],
            ..whole
        };
        let known = |whole: RequestId| {
            let requests = requests.clone();
            async move { requests.check(&context(), &whole).await }
        };
        let part = |whole: &RequestId, at: u128| {
            let entry = requests.enter(RequestId {
                id: Uuid::from_u128(at),
                fingerprint: [9; 32],
            });
            entry.recorded(&requests.claimed(&context(), whole))
        };
        assert_eq!((known(whole).await, known(other).await), (Ok(()), Ok(())));
        part(&whole, 71).begin().await.unwrap();
        assert_eq!((known(whole).await, known(other).await), (Ok(()), Err(reused())));
        // The same message again, and another one that was checked before.
        part(&whole, 72).begin().await.unwrap();
        assert_eq!(part(&other, 73).begin().await, Err(reused()));
    }

    #[tokio::test]
    async fn an_id_that_another_kind_of_mutation_takes_meanwhile_is_sent_once() {
        let store = store().await;
        let (leads, posts) = (over(store.clone()), over(store));
        let entry = leads.enter(id(1).unwrap());
        let asked = entry.recorded(&context());
        let work = |_| async move {
            assert_eq!(posts.do_once(&context(), id(2), |_| async { Ok(2) }).await, Ok(2));
            asked.begin().await?;
            Ok(1)
        };
        let error = leads.once(&context(), Some(entry), work).await.unwrap_err();
        assert_eq!(error, reused());
        assert_eq!(leads.do_once(&context(), id(2), |_| async { Ok(3) }).await, Ok(2));
    }
}
