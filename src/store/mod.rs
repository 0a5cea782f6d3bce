//! What is remembered between calls: the answers of mutations by their request ids, for as long as the process lives.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::caller::{Call, RequestId, exceeded};
use crate::clock;
use crate::error::{Error, Kind, Result};

/// The most request ids that are remembered; beyond it the longest unused is forgotten.
const MOST: u64 = 500_000;
/// How much later than the work itself its waiter looks at the deadline, so that the work can say where it waited.
const GRACE: Duration = Duration::from_millis(5);

/// The answers of one tenant's mutations by request id: one effect per id.
pub struct Requests<T> {
    entries: Cache<Uuid, Arc<Entry<T>>>,
    tasks: TaskTracker,
}

struct Entry<T> {
    fingerprint: [u8; 32],
    /// Locked while the mutation is under way.
    kept: Arc<Mutex<Option<Kept<T>>>>,
}

/// What is kept of a mutation.
#[derive(Clone)]
enum Kept<T> {
    /// Its answer.
    Done(Result<T>),
    /// Whether it was executed is not known.
    Uncertain {
        /// When it was first begun.
        since: Timestamp,
    },
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

impl<T: Clone + Send + Sync + 'static> Requests<T> {
    /// Remembers each id for so long. Mutations run on `tasks`.
    pub fn new(keep: Duration, tasks: TaskTracker) -> Self {
        let entries = Cache::builder()
            .time_to_live(keep)
            .max_capacity(MOST)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { entries, tasks }
    }

    /// Does the work once per request id, in a task of its own: what was sent is seen to its end even if the caller
    /// leaves, and whoever comes with the same id and message gets the same answer, waiting for it if need be.
    pub async fn once<W, F>(&self, call: &Call, request: Option<RequestId>, work: W) -> Result<T>
    where
        W: FnOnce(Before) -> F,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let Some(request) = request else {
            return self.run(call, work(Before::Nothing)).await;
        };
        let entry = self
            .entries
            .get_with(request.id, async {
                Arc::new(Entry {
                    fingerprint: request.fingerprint,
                    kept: Arc::default(),
                })
            })
            .await;
        if entry.fingerprint != request.fingerprint {
            return Err(Error::invalid("request_id", "was used for another message"));
        }
        let place = "an earlier call with the same request_id";
        let mut kept = call.wait(place, entry.kept.clone().lock_owned()).await?;
        let (before, since) = match &*kept {
            None => (Before::Nothing, clock::now()),
            Some(Kept::Done(answer)) => return answer.clone(),
            Some(Kept::Uncertain { since }) => (Before::Uncertain { since: *since }, *since),
        };
        // Should the work never come to an end, this is what is true.
        *kept = Some(Kept::Uncertain { since });
        let work = work(before);
        self.run(call, async move {
            let result = work.await;
            *kept = keep(&result, before, since);
            result
        })
        .await
    }

    async fn run(&self, call: &Call, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        // Tells the work when nobody waits any more; what is not sent yet then leaves the queue.
        let _left = call.left.clone().drop_guard();
        let task = self.tasks.spawn(work);
        match tokio::time::timeout_at(call.deadline + GRACE, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(failure)) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Kind::ShuttingDown.into()),
            },
            Err(_) => Err(exceeded("LeadSquared's answer")),
        }
    }
}

/// What to keep of a result. What was surely not executed is not kept, so that it can be tried again.
fn keep<T: Clone>(result: &Result<T>, before: Before, since: Timestamp) -> Option<Kept<T>> {
    match result {
        Ok(_) => Some(Kept::Done(result.clone())),
        Err(error) if error.is_final() => Some(Kept::Done(result.clone())),
        Err(Error {
            kind: Kind::OutcomeUnknown | Kind::Unreadable { .. },
            ..
        }) => Some(Kept::Uncertain { since }),
        Err(_) => match before {
            Before::Nothing => None,
            Before::Uncertain { since } => Some(Kept::Uncertain { since }),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;

    fn requests() -> Requests<u32> {
        Requests::new(Duration::from_secs(3600), TaskTracker::new())
    }

    fn call() -> Call {
        Call::internal("test", Duration::from_secs(10))
    }

    fn id(message: u8) -> Option<RequestId> {
        Some(RequestId {
            id: Uuid::from_u128(7),
            fingerprint: [message; 32],
        })
    }

    fn unknown() -> Result<u32> {
        Err(Kind::OutcomeUnknown.into())
    }

    #[tokio::test]
    async fn the_same_id_has_one_effect_and_one_answer() {
        let requests = requests();
        let effects = Arc::new(AtomicU32::new(0));
        let work = |_| {
            let effects = effects.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(effects.fetch_add(1, Ordering::Relaxed) + 41)
            }
        };
        let (call_a, call_b) = (call(), call());
        let (a, b) = tokio::join!(requests.once(&call_a, id(1), work), requests.once(&call_b, id(1), work));
        assert_eq!((a, b), (Ok(41), Ok(41)));
        assert_eq!(requests.once(&call(), None, work).await, Ok(42));
    }

    #[tokio::test]
    async fn an_id_used_for_another_message_is_invalid() {
        let requests = requests();
        requests.once(&call(), id(1), |_| async { Ok(1) }).await.unwrap();
        let error = requests.once(&call(), id(2), |_| async { Ok(2) }).await.unwrap_err();
        assert!(matches!(error.kind, Kind::Invalid(_)));
    }

    #[tokio::test]
    async fn what_was_not_executed_may_be_tried_again() {
        let requests = requests();
        let queue_full = || Kind::QueueFull {
            retry_after: Duration::ZERO,
        };
        let error = requests
            .once(&call(), id(1), |_| async move { Err(queue_full().into()) })
            .await;
        assert_eq!(error, Err(queue_full().into()));
        let again = |before| async move {
            assert_eq!(before, Before::Nothing);
            Ok(1)
        };
        assert_eq!(requests.once(&call(), id(1), again).await, Ok(1));
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_handed_to_the_next_try_until_it_is_settled() {
        let requests = requests();
        assert_eq!(requests.once(&call(), id(1), |_| async { unknown() }).await, unknown());
        let unreachable = |before| async move {
            assert!(matches!(before, Before::Uncertain { .. }));
            Err(Kind::Unavailable { sent: false }.into())
        };
        assert!(requests.once(&call(), id(1), unreachable).await.is_err());
        let settles = |before| async move {
            assert!(matches!(before, Before::Uncertain { .. }));
            Ok(5)
        };
        assert_eq!(requests.once(&call(), id(1), settles).await, Ok(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_leaves_still_gets_the_answer_by_its_id() {
        let requests = requests();
        let slow = |_| async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(9)
        };
        let impatient = Call {
            left: CancellationToken::new(),
            ..Call::internal("test", Duration::from_secs(1))
        };
        let error = requests.once(&impatient, id(1), slow).await.unwrap_err();
        assert!(matches!(error.kind, Kind::DeadlineExceeded { .. }));
        assert!(impatient.left.is_cancelled());
        assert_eq!(requests.once(&call(), id(1), |_| async { Ok(0) }).await, Ok(9));
    }
}
