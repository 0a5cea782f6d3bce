//! Where a share is worked on while anybody has to do with it: its present state, and who listens. At most one each in a
//! process, so that all see the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{MutexGuard, Notify, watch};
use uuid::Uuid;

use crate::domain::share::Share;

/// The place of one share.
pub(super) struct Seat {
    share: watch::Sender<Arc<Share>>,
    writing: tokio::sync::Mutex<()>,
    /// Whether somebody does what is to be done.
    driven: AtomicBool,
    listeners: AtomicUsize,
    joined: Notify,
}

/// All places that anybody holds.
#[derive(Default)]
pub(super) struct Seats {
    seating: tokio::sync::Mutex<()>,
    taken: Mutex<HashMap<Uuid, Weak<Seat>>>,
}

/// Somebody who follows a share.
pub struct Listener {
    seat: Arc<Seat>,
    share: watch::Receiver<Arc<Share>>,
}

impl Seats {
    /// Held by whoever reads a share to give it its place.
    pub(super) async fn seating(&self) -> MutexGuard<'_, ()> {
        self.seating.lock().await
    }

    /// The share's place, if anybody holds it.
    pub(super) fn get(&self, id: Uuid) -> Option<Arc<Seat>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&id).and_then(Weak::upgrade)
    }

    /// The share's place. Whoever holds it already knows better what has become of the share.
    pub(super) fn of(&self, share: Share) -> Arc<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = taken.get(&share.id).and_then(Weak::upgrade) {
            return seat;
        }
        // Those that nobody holds go now and then, so that there are about as many as are held.
        if taken.len() == taken.capacity() {
            taken.retain(|_, seat| seat.strong_count() > 0);
        }
        let id = share.id;
        let seat = Arc::new(Seat {
            share: watch::Sender::new(Arc::new(share)),
            writing: tokio::sync::Mutex::default(),
            driven: AtomicBool::new(false),
            listeners: AtomicUsize::new(0),
            joined: Notify::new(),
        });
        taken.insert(id, Arc::downgrade(&seat));
        seat
    }
}

impl Seat {
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
    pub(super) fn new(seat: Arc<Seat>) -> Self {
        let share = seat.share.subscribe();
        seat.listeners.fetch_add(1, Ordering::Relaxed);
        seat.joined.notify_one();
        Self { seat, share }
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
        self.seat.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
