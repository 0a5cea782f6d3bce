//! Group commit: operations that wait at the same time are committed in one transaction, with one wait for the disk. A group
//! takes operations from all callers in rotation, so no caller waits for the backlog of another caller.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, slice};

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{OperationFuture, StoreError, write_error};

/// Maximum number of operations in one transaction.
const MAX_GROUP: usize = 128;

/// The queue of operations that wait for the connection. Clones refer to the same queue.
#[derive(Clone)]
pub(super) struct CommitQueue {
    pool: SqlitePool,
    backlog: Arc<Mutex<CommitBacklog>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct CommitBacklog {
    /// The operations of each caller, oldest first.
    callers: HashMap<Arc<str>, VecDeque<Box<dyn WriteOperation>>>,
    /// The callers with operations, in the order in which they are served.
    rotation: VecDeque<Arc<str>>,
    /// Whether a task commits groups.
    is_running: bool,
}

/// An operation in a transaction. After a rollback it can be executed again.
trait WriteOperation: Send {
    fn execute<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> OperationFuture<'a, Result<(), StoreError>>;
    /// Sends the result of the last execution to the waiter, or the error of the commit.
    fn respond(self: Box<Self>, committed: Result<(), StoreError>);
}

struct TypedOperation<T, F> {
    execute: F,
    result: Option<T>,
    waiter: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> WriteOperation for TypedOperation<T, F>
where
    T: Send,
    F: for<'c> Fn(&'c mut SqliteConnection) -> OperationFuture<'c, Result<T, StoreError>> + Send,
{
    fn execute<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> OperationFuture<'a, Result<(), StoreError>> {
        let execution = (self.execute)(connection);
        let result = &mut self.result;
        Box::pin(async move {
            *result = Some(execution.await?);
            Ok(())
        })
    }

    fn respond(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, waiter, .. } = *self;
        let result = committed.and_then(|()| result.ok_or_else(interrupted));
        // The waiter may have been dropped.
        let _ = waiter.send(result);
    }
}

impl CommitQueue {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self {
            pool,
            backlog: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Executes an operation of a caller as part of a group commit, and waits until it is on the disk. Operations of one caller are
    /// executed in their order, also if the returned future is dropped.
    pub(super) async fn execute<T, F>(&self, caller: &str, execute: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut SqliteConnection) -> OperationFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (waiter, response) = oneshot::channel();
        let operation = TypedOperation {
            execute,
            result: None,
            waiter,
        };
        if self.lock().push(caller, Box::new(operation)) {
            self.tasks.spawn(self.clone().run());
        }
        response.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Waits until all queued operations are committed.
    pub(super) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Commits groups until the queue is empty.
    async fn run(self) {
        loop {
            let group = self.lock().take_group();
            if group.is_empty() {
                return;
            }
            self.commit(group).await;
        }
    }

    async fn commit(&self, mut group: Vec<Box<dyn WriteOperation>>) {
        let committed = self.transaction(&mut group).await;
        if committed.is_ok() || group.len() == 1 {
            group
                .into_iter()
                .for_each(|operation| operation.respond(committed.clone()));
            return;
        }
        // One operation may be the reason. Each operation is retried in its own transaction.
        for mut operation in group {
            let committed = self.transaction(slice::from_mut(&mut operation)).await;
            operation.respond(committed);
        }
    }

    /// Executes operations in one transaction. Does not use the transactions of sqlx: their depth counter is wrong after SQLite
    /// itself rolled back a commit, for example on a full disk. Later commits would have no effect.
    async fn transaction(&self, group: &mut [Box<dyn WriteOperation>]) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.map_err(write_error)?;
        let connection = &mut *connection;
        sqlx::query("BEGIN")
            .execute(&mut *connection)
            .await
            .map_err(write_error)?;
        let committed = async {
            for operation in group {
                operation.execute(connection).await?;
            }
            sqlx::query("COMMIT")
                .execute(&mut *connection)
                .await
                .map_err(write_error)
        };
        let committed = committed.await.map(drop);
        if committed.is_err() {
            // Fails if SQLite has already rolled back.
            let _ = sqlx::query("ROLLBACK").execute(connection).await;
        }
        committed
    }

    fn lock(&self) -> MutexGuard<'_, CommitBacklog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommitBacklog {
    /// Adds an operation. Returns whether a task must be started.
    fn push(&mut self, caller: &str, operation: Box<dyn WriteOperation>) -> bool {
        match self.callers.get_mut(caller) {
            Some(operations) => operations.push_back(operation),
            None => {
                let caller: Arc<str> = caller.into();
                self.callers.insert(caller.clone(), VecDeque::from([operation]));
                self.rotation.push_back(caller);
            }
        }
        !std::mem::replace(&mut self.is_running, true)
    }

    /// Takes the next operations from all callers in rotation. If there are none, the task ends.
    fn take_group(&mut self) -> Vec<Box<dyn WriteOperation>> {
        let mut group = Vec::new();
        while group.len() < MAX_GROUP
            && let Some(caller) = self.rotation.pop_front()
        {
            let Some(operations) = self.callers.get_mut(&caller) else {
                continue;
            };
            group.extend(operations.pop_front());
            match operations.is_empty() {
                true => drop(self.callers.remove(&caller)),
                false => self.rotation.push_back(caller),
            }
        }
        self.is_running = !group.is_empty();
        group
    }
}

impl fmt::Debug for CommitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitQueue").finish_non_exhaustive()
    }
}

fn interrupted() -> StoreError {
    StoreError::new("cannot be written", &"the operation was interrupted")
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    async fn commits() -> CommitQueue {
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect("sqlite::memory:").await.unwrap();
        sqlx::query("CREATE TABLE done (number INTEGER NOT NULL)")
            .execute(&pool)
            .await
            .unwrap();
        CommitQueue::new(pool)
    }

    /// Inserts a number; `None` fails.
    async fn write(commits: &CommitQueue, caller: &str, number: Option<i64>) -> Result<i64, StoreError> {
        let write = commits.execute(caller, move |connection| {
            Box::pin(async move {
                let query = sqlx::query("INSERT INTO done VALUES (?1)").bind(number);
                query.execute(connection).await.map_err(write_error)?;
                Ok(number.unwrap_or_default())
            })
        });
        write.await
    }

    async fn written(commits: &CommitQueue) -> Vec<i64> {
        let query = sqlx::query_scalar("SELECT number FROM done ORDER BY rowid");
        query.fetch_all(&commits.pool).await.unwrap()
    }

    #[tokio::test]
    async fn callers_are_served_in_rotation_and_in_their_own_order() {
        let commits = commits().await;
        // Blocks commits until all operations wait.
        let connection = commits.pool.acquire().await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..3 * MAX_GROUP as i64 {
            let commits = commits.clone();
            waiting.spawn(async move { write(&commits, "flood", Some(number)).await });
            tokio::task::yield_now().await;
        }
        let other = commits.tasks.spawn({
            let commits = commits.clone();
            async move { write(&commits, "other", Some(-1)).await }
        });
        tokio::task::yield_now().await;
        drop(connection);
        assert_eq!(other.await.unwrap(), Ok(-1));
        while let Some(written) = waiting.join_next().await {
            written.unwrap().unwrap();
        }
        let written = written(&commits).await;
        let position = written.iter().position(|number| *number == -1).unwrap();
        // At most the group that was taken before, and one operation of the other caller.
        assert!(position <= MAX_GROUP + 1, "{position}");
        let flood = written.into_iter().filter(|number| *number >= 0);
        assert!(flood.eq(0..3 * MAX_GROUP as i64));
    }

    #[tokio::test]
    async fn a_failed_operation_does_not_fail_its_group() {
        let commits = commits().await;
        let connection = commits.pool.acquire().await.unwrap();
        let write = |number| {
            let (tasks, commits) = (commits.tasks.clone(), commits.clone());
            tasks.spawn(async move { write(&commits, "crm", number).await })
        };
        // The first operation is its own group.
        let all = [Some(0), Some(1), None, Some(2)].map(write);
        tokio::task::yield_now().await;
        drop(connection);
        let mut results = Vec::new();
        for one in all {
            results.push(one.await.unwrap());
        }
        assert!(results[2].is_err());
        drop(results.remove(2));
        assert_eq!(results, [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(written(&commits).await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn an_operation_without_a_waiter_is_executed() {
        let commits = commits().await;
        let connection = commits.pool.acquire().await.unwrap();
        let dropped = commits.tasks.spawn({
            let commits = commits.clone();
            async move { write(&commits, "crm", Some(1)).await }
        });
        tokio::task::yield_now().await;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        drop(connection);
        assert_eq!(write(&commits, "crm", Some(2)).await, Ok(2));
        assert_eq!(written(&commits).await, [1, 2]);
    }
}
