//! Where a share is worked on while anybody has to do with it: its present state, and who listens. At most one each in a
//! process, so that all see the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{MutexGuard, Notify, watch};
use uuid::Uuid;

use crate::domain::share::Share;

/// The place of one share.
pub(super) struct ShareHandle {
    share: watch::Sender<Arc<Share>>,
    writing: tokio::sync::Mutex<()>,
    /// Whether somebody does what is to be done.
    driven: AtomicBool,
    listeners: AtomicUsize,
    joined: Notify,
}

/// All places that anybody holds.
#[derive(Default)]
pub(super) struct ShareHandles {
    creation: tokio::sync::Mutex<()>,
    handles: Mutex<HashMap<Uuid, Weak<ShareHandle>>>,
}

/// Somebody who follows a share.
pub struct Listener {
    handle: Arc<ShareHandle>,
    share: watch::Receiver<Arc<Share>>,
}

impl ShareHandles {
    /// Held by whoever reads a share to give it its place.
    pub(super) async fn creation(&self) -> MutexGuard<'_, ()> {
        self.creation.lock().await
    }

    /// The share's place, if anybody holds it.
    pub(super) fn get(&self, id: Uuid) -> Option<Arc<ShareHandle>> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.get(&id).and_then(Weak::upgrade)
    }

    /// The share's place. Whoever holds it already knows better what has become of the share.
    pub(super) fn of(&self, share: Share) -> Arc<ShareHandle> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get(&share.id).and_then(Weak::upgrade) {
            return handle;
        }
        // Those that nobody holds go now and then, so that there are about as many as are held.
        if handles.len() == handles.capacity() {
            handles.retain(|_, handle| handle.strong_count() > 0);
        }
        let id = share.id;
        let handle = Arc::new(ShareHandle {
            share: watch::Sender::new(Arc::new(share)),
            writing: tokio::sync::Mutex::default(),
            driven: AtomicBool::new(false),
            listeners: AtomicUsize::new(0),
            joined: Notify::new(),
        });
        handles.insert(id, Arc::downgrade(&handle));
        handle
    }
}

impl ShareHandle {
    /// The share as it is.
    pub(super) fn current(&self) -> Arc<Share> {
        self.share.borrow().clone()
    }

    /// Held by whoever changes the share.
    pub(super) async fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// What became of it, once that is written down.
    pub(super) fn tell(&self, share: Share) -> Arc<Share> {
        let share = Arc::new(share);
        self.share.send_replace(share.clone());
        share
    }

    /// Whether anybody waits for what becomes of it.
    pub(super) fn is_listened_to(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Resolves when somebody begins to listen.
    pub(super) async fn joined(&self) {
        self.joined.notified().await;
    }

    /// Whether nobody did what is to be done until now; the caller does from now on.
    pub(super) fn take_over(&self) -> bool {
        !self.driven.swap(true, Ordering::AcqRel)
    }

    /// Nobody does from now on.
    pub(super) fn leave(&self) {
        self.driven.store(false, Ordering::Release);
    }
}

impl Listener {
    pub(super) fn new(handle: Arc<ShareHandle>) -> Self {
        let share = handle.share.subscribe();
        handle.listeners.fetch_add(1, Ordering::Relaxed);
        handle.joined.notify_one();
        Self { handle, share }
    }

    /// The share as it is; what was there until now is no change any more.
    pub fn current(&mut self) -> Arc<Share> {
        self.share.borrow_and_update().clone()
    }

    /// Resolves when it has changed since.
    pub async fn changed(&mut self) {
        // The sender lives as long as the place, which is held.
        if self.share.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
