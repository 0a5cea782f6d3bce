//! Share handles: the current state of each share in use, and its watchers. A process has at most one handle per share, so all
//! users of a share see the same state.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{MutexGuard, Notify, watch};
use uuid::Uuid;

use crate::domain::share::Share;
use crate::telemetry::trace::Trace;

/// The handle of one share.
pub(super) struct ShareHandle {
    share: watch::Sender<Arc<Share>>,
    change_lock: tokio::sync::Mutex<()>,
    /// Whether a task drives the share.
    is_driven: AtomicBool,
    watchers: AtomicUsize,
    watcher_added: Notify,
    /// The trace of the last RPC that changed the share. The default after a restart.
    trace: Mutex<Trace>,
}

/// All handles that are in use.
#[derive(Default)]
pub(super) struct ShareHandles {
    creation: tokio::sync::Mutex<()>,
    handles: Mutex<HashMap<Uuid, Weak<ShareHandle>>>,
}

/// Follows the changes of a share.
pub struct ShareWatcher {
    handle: Arc<ShareHandle>,
    share: watch::Receiver<Arc<Share>>,
}

impl ShareHandles {
    /// Locks the creation of handles for shares that are read from the store. The caller holds the lock from before the read
    /// until the handle exists.
    pub(super) async fn creation(&self) -> MutexGuard<'_, ()> {
        self.creation.lock().await
    }

    /// Returns the handle of a share if it is in use.
    pub(super) fn get(&self, id: Uuid) -> Option<Arc<ShareHandle>> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.get(&id).and_then(Weak::upgrade)
    }

    /// Returns the handle of a share, and creates it if it is not in use. The state in an existing handle is newer than `share`.
    pub(super) fn of(&self, share: Share) -> Arc<ShareHandle> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get(&share.id).and_then(Weak::upgrade) {
            return handle;
        }
        // Unused handles are removed when the map is full, so the map has about as many entries as handles in use.
        if handles.len() == handles.capacity() {
            handles.retain(|_, handle| handle.strong_count() > 0);
        }
        let id = share.id;
        let handle = Arc::new(ShareHandle {
            share: watch::Sender::new(Arc::new(share)),
            change_lock: tokio::sync::Mutex::default(),
            is_driven: AtomicBool::new(false),
            watchers: AtomicUsize::new(0),
            watcher_added: Notify::new(),
            trace: Mutex::default(),
        });
        handles.insert(id, Arc::downgrade(&handle));
        handle
    }
}

impl ShareHandle {
    /// Returns the current state of the share.
    pub(super) fn current(&self) -> Arc<Share> {
        self.share.borrow().clone()
    }

    /// Locks the share for a change.
    pub(super) async fn lock_for_change(&self) -> MutexGuard<'_, ()> {
        self.change_lock.lock().await
    }

    /// Publishes a new state to all watchers. The new state is already stored.
    pub(super) fn publish(&self, share: Share) -> Arc<Share> {
        let share = Arc::new(share);
        self.share.send_replace(share.clone());
        share
    }

    /// The trace of the last RPC that changed the share.
    pub(super) fn trace(&self) -> Trace {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the next steps of the share belong to the trace of an RPC.
    pub(super) fn set_trace(&self, trace: &Trace) {
        *self.trace.lock().unwrap_or_else(PoisonError::into_inner) = trace.clone();
    }

    /// Whether the share has a watcher.
    pub(super) fn has_watchers(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Waits until a watcher is added.
    pub(super) async fn watcher_added(&self) {
        self.watcher_added.notified().await;
    }

    /// Starts driving the share. Returns `false` if another task already drives it.
    pub(super) fn start_driving(&self) -> bool {
        !self.is_driven.swap(true, Ordering::AcqRel)
    }

    /// Stops driving the share.
    pub(super) fn stop_driving(&self) {
        self.is_driven.store(false, Ordering::Release);
    }
}

impl ShareWatcher {
    pub(super) fn new(handle: Arc<ShareHandle>) -> Self {
        let share = handle.share.subscribe();
        handle.watchers.fetch_add(1, Ordering::Relaxed);
        handle.watcher_added.notify_one();
        Self { handle, share }
    }

    /// Returns the current state of the share, and marks it as seen.
    pub fn current(&mut self) -> Arc<Share> {
        self.share.borrow_and_update().clone()
    }

    /// Waits until the share changes after the last call of [`ShareWatcher::current`].
    pub async fn changed(&mut self) {
        // The sender exists as long as the handle, which this watcher holds.
        if self.share.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for ShareWatcher {
    fn drop(&mut self) {
        self.handle.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
