//! Group commit: operations that wait at the same time share one transaction, so that they wait for the disk once. The callers
//! take turns within a group, so that no caller waits for the backlog of another one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, slice};

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{Pending, StoreError, unwritten};

/// Maximum number of operations in one transaction.
const MAX_GROUP: usize = 128;

/// The operations that wait for the connection. Clones share them.
#[derive(Clone)]
pub(super) struct Commits {
    pool: SqlitePool,
    backlog: Arc<Mutex<Backlog>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Backlog {
    /// The operations of each caller, the oldest first.
    callers: HashMap<Arc<str>, VecDeque<Box<dyn Operation>>>,
    /// The callers with operations, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    /// Whether a task commits groups.
    is_running: bool,
}

/// An operation in a transaction. It may be executed again after a rollback.
trait Operation: Send {
    fn execute<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> Pending<'a, Result<(), StoreError>>;
    /// Responds to the waiter: with the result of the last execution if it is committed.
    fn respond(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Typed<T, F> {
    execute: F,
    result: Option<T>,
    waiter: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Operation for Typed<T, F>
where
    T: Send,
    F: for<'c> Fn(&'c mut SqliteConnection) -> Pending<'c, Result<T, StoreError>> + Send,
{
    fn execute<'a>(&'a mut self, connection: &'a mut SqliteConnection) -> Pending<'a, Result<(), StoreError>> {
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
        // The waiter may be gone.
        let _ = waiter.send(result);
    }
}

impl Commits {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self {
            pool,
            backlog: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Executes an operation of that caller in a transaction with others, and waits until it is on the disk. The operations of
    /// one caller are executed in their order, also if nobody waits for them any more.
    pub(super) async fn execute<T, F>(&self, caller: &str, execute: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut SqliteConnection) -> Pending<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (waiter, response) = oneshot::channel();
        let operation = Typed {
            execute,
            result: None,
            waiter,
        };
        if self.lock().push(caller, Box::new(operation)) {
            self.tasks.spawn(self.clone().run());
        }
        response.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Waits until what waits now is committed.
    pub(super) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Commits groups until nothing waits.
    async fn run(self) {
        loop {
            let group = self.lock().take_group();
            if group.is_empty() {
                return;
            }
            self.commit(group).await;
        }
    }

    async fn commit(&self, mut group: Vec<Box<dyn Operation>>) {
        let committed = self.transaction(&mut group).await;
        if committed.is_ok() || group.len() == 1 {
            group
                .into_iter()
                .for_each(|operation| operation.respond(committed.clone()));
            return;
        }
        // One operation may be why all failed: each gets a transaction of its own.
        for mut operation in group {
            let committed = self.transaction(slice::from_mut(&mut operation)).await;
            operation.respond(committed);
        }
    }

    /// Executes operations in one transaction. sqlx's own transactions count their depth, and the count is wrong after a commit
    /// that SQLite has rolled back by itself, as on a full disk: from then on nothing would be committed any more.
    async fn transaction(&self, group: &mut [Box<dyn Operation>]) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.map_err(unwritten)?;
        let connection = &mut *connection;
        sqlx::query("BEGIN")
            .execute(&mut *connection)
            .await
            .map_err(unwritten)?;
        let committed = async {
            for operation in group {
                operation.execute(connection).await?;
            }
            sqlx::query("COMMIT").execute(&mut *connection).await.map_err(unwritten)
        };
        let committed = committed.await.map(drop);
        if committed.is_err() {
            // Fails where SQLite has rolled back already.
            let _ = sqlx::query("ROLLBACK").execute(connection).await;
        }
        committed
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backlog {
    /// Adds an operation. Whether a task has to be started for it.
    fn push(&mut self, caller: &str, operation: Box<dyn Operation>) -> bool {
        match self.callers.get_mut(caller) {
            Some(operations) => operations.push_back(operation),
            None => {
                let caller: Arc<str> = caller.into();
                self.callers.insert(caller.clone(), VecDeque::from([operation]));
                self.turns.push_back(caller);
            }
        }
        !std::mem::replace(&mut self.is_running, true)
    }

    /// The next operations, one of each caller in turn. With none the task ends.
    fn take_group(&mut self) -> Vec<Box<dyn Operation>> {
        let mut group = Vec::new();
        while group.len() < MAX_GROUP
            && let Some(caller) = self.turns.pop_front()
        {
            let Some(operations) = self.callers.get_mut(&caller) else {
                continue;
            };
            group.extend(operations.pop_front());
            match operations.is_empty() {
                true => drop(self.callers.remove(&caller)),
                false => self.turns.push_back(caller),
            }
        }
        self.is_running = !group.is_empty();
        group
    }
}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commits").finish_non_exhaustive()
    }
}

fn interrupted() -> StoreError {
    StoreError::new("cannot be written", &"the operation was interrupted")
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    async fn commits() -> Commits {
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect("sqlite::memory:").await.unwrap();
        sqlx::query("CREATE TABLE done (number INTEGER NOT NULL)")
            .execute(&pool)
            .await
            .unwrap();
        Commits::new(pool)
    }

    /// Writes a number; `None` fails.
    async fn write(commits: &Commits, caller: &str, number: Option<i64>) -> Result<i64, StoreError> {
        let write = commits.execute(caller, move |connection| {
            Box::pin(async move {
                let query = sqlx::query("INSERT INTO done VALUES (?1)").bind(number);
                query.execute(connection).await.map_err(unwritten)?;
                Ok(number.unwrap_or_default())
            })
        });
        write.await
    }

    async fn written(commits: &Commits) -> Vec<i64> {
        let query = sqlx::query_scalar("SELECT number FROM done ORDER BY rowid");
        query.fetch_all(&commits.pool).await.unwrap()
    }

    #[tokio::test]
    async fn callers_take_turns_and_keep_their_own_order() {
        let commits = commits().await;
        // Nothing is committed until all of them wait.
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
        let place = written.iter().position(|number| *number == -1).unwrap();
        // The group that was taken before, and one operation of the flood.
        assert!(place <= MAX_GROUP + 1, "{place}");
        let flood = written.into_iter().filter(|number| *number >= 0);
        assert!(flood.eq(0..3 * MAX_GROUP as i64));
    }

    #[tokio::test]
    async fn an_operation_that_fails_does_not_fail_its_group() {
        let commits = commits().await;
        let connection = commits.pool.acquire().await.unwrap();
        let write = |number| {
            let (tasks, commits) = (commits.tasks.clone(), commits.clone());
            tasks.spawn(async move { write(&commits, "crm", number).await })
        };
        // The first one is a group by itself.
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
    async fn an_operation_whose_waiter_is_gone_is_executed() {
        let commits = commits().await;
        let connection = commits.pool.acquire().await.unwrap();
        let gone = commits.tasks.spawn({
            let commits = commits.clone();
            async move { write(&commits, "crm", Some(1)).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(connection);
        assert_eq!(write(&commits, "crm", Some(2)).await, Ok(2));
        assert_eq!(written(&commits).await, [1, 2]);
    }
}
