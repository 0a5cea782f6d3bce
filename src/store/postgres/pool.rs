//! The connections of a store. Operations that wait for a connection are served in rotation of their callers, so that no caller
//! waits for the backlog of another caller.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::connection::{Connection, Failure};
use super::settings::ConnectSettings;
use crate::telemetry::metrics::StorePool;

/// A connection that was not used for this time is checked before it is used, since the server may have closed it.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// Maximum time for this check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections of a store. Clones refer to the same connections.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: ConnectSettings,
    /// The index of the last host that accepted writes.
    host: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    /// The number of connections that may be opened or taken from `idle` now.
    free: usize,
    /// The operations of each caller that wait, oldest first.
    waiting: HashMap<Arc<str>, VecDeque<oneshot::Sender<Permit>>>,
    /// The callers with waiting operations, in the order in which they are served.
    rotation: VecDeque<Arc<str>>,
    /// Increased when the server is gone. Connections of an earlier generation are closed.
    generation: u64,
    is_closed: bool,
}

/// The right to use one connection. Its end lets the next operation in.
#[derive(Debug)]
struct Permit {
    pool: Pool,
    is_used: bool,
}

/// A connection in use. Without [`PooledConnection::put_back`], it is closed.
#[derive(Debug)]
pub(super) struct PooledConnection {
    pub(super) connection: Connection,
    generation: u64,
    permit: Permit,
}

impl Pool {
    pub(super) fn new(settings: ConnectSettings) -> Self {
        let state = State {
            free: settings.max_connections,
            ..State::default()
        };
        Self(Arc::new(Inner {
            settings,
            host: AtomicUsize::new(0),
            state: Mutex::new(state),
        }))
    }

    /// The connections at this moment.
    pub(super) fn state(&self) -> StorePool {
        let max = self.0.settings.max_connections;
        let state = self.lock();
        let waiting = state.waiting.values().flatten();
        StorePool {
            max,
            used: max.saturating_sub(state.free),
            idle: state.idle.len(),
            waiting: waiting.filter(|operation| !operation.is_closed()).count(),
        }
    }

    /// Opens a connection that does not count.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        Connection::connect(&self.0.settings, &self.0.host).await
    }

    /// Waits for a connection. `timeout` limits the wait for its turn.
    pub(super) async fn get(&self, caller: &str, timeout: Duration) -> Result<PooledConnection, Failure> {
        let turn = self.permit(caller)?;
        let Ok(Ok(permit)) = tokio::time::timeout(timeout, turn).await else {
            return Err(Failure::Rejected(format!(
                "no connection became free within {timeout:?}; increase store.max_connections, or check the load of the database"
            )));
        };
        loop {
            let (idle, generation) = {
                let mut state = self.lock();
                (state.idle.pop(), state.generation)
            };
            let connection = match idle {
                None => self.connect().await?,
                Some(mut connection) => {
                    if connection.last_used.elapsed() > CHECK_AFTER && connection.ping(CHECK_TIMEOUT).await.is_err() {
                        self.server_is_gone(generation);
                        continue;
                    }
                    connection
                }
            };
            return Ok(PooledConnection {
                connection,
                generation,
                permit,
            });
        }
    }

    /// Closes all connections, except those that were opened after the server was gone.
    fn server_is_gone(&self, generation: u64) {
        let mut state = self.lock();
        if state.generation == generation {
            state.generation += 1;
            state.idle.clear();
        }
    }

    pub(super) async fn close(&self) {
        let idle = {
            let mut state = self.lock();
            state.is_closed = true;
            state.waiting.clear();
            state.rotation.clear();
            std::mem::take(&mut state.idle)
        };
        for connection in idle {
            connection.close().await;
        }
    }

    fn permit(&self, caller: &str) -> Result<oneshot::Receiver<Permit>, Failure> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.is_closed {
            return Err(Failure::Rejected("the store is closed".to_owned()));
        }
        if state.free > 0 {
            state.free -= 1;
            drop(state);
            // The receiver exists.
            let _ = sender.send(Permit {
                pool: self.clone(),
                is_used: true,
            });
            return Ok(receiver);
        }
        match state.waiting.get_mut(caller) {
            Some(waiting) => waiting.push_back(sender),
            None => {
                let caller: Arc<str> = caller.into();
                state.waiting.insert(caller.clone(), VecDeque::from([sender]));
                state.rotation.push_back(caller);
            }
        }
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the next waiting operation, of all callers in rotation.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        while let Some(caller) = self.rotation.pop_front() {
            let Some(waiting) = self.waiting.get_mut(&caller) else {
                continue;
            };
            let next = waiting.pop_front();
            match waiting.is_empty() {
                true => drop(self.waiting.remove(&caller)),
                false => self.rotation.push_back(caller),
            }
            if next.as_ref().is_some_and(|next| !next.is_closed()) {
                return next;
            }
        }
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_used {
            return;
        }
        loop {
            let next = {
                let mut state = self.pool.lock();
                let next = state.next();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else {
                return;
            };
            let permit = Self {
                pool: self.pool.clone(),
                is_used: true,
            };
            match next.send(permit) {
                Ok(()) => return,
                // The operation was dropped meanwhile.
                Err(mut permit) => permit.is_used = false,
            }
        }
    }
}

impl PooledConnection {
    /// Returns the connection to the pool after its use. A connection to a server that is gone is closed, with all others.
    pub(super) fn put_back<T>(self, result: &Result<T, Failure>) {
        let pool = self.permit.pool.clone();
        if matches!(result, Err(Failure::Gone(_))) {
            pool.server_is_gone(self.generation);
            return;
        }
        let mut state = pool.lock();
        if state.generation == self.generation && !state.is_closed {
            state.idle.push(self.connection);
        }
        // The permit ends after this lock.
        drop(state);
    }
}
