//! Limits the total size of all incomplete request messages. Above the limit, the largest incomplete message is dropped, so
//! that requests that are never completed do not block small ones.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// The incomplete messages of all requests.
#[derive(Debug)]
pub(super) struct UnfinishedMessages {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    next: u64,
    messages: HashMap<u64, Entry>,
    by_size: BTreeSet<(usize, u64)>,
}

#[derive(Debug, Default)]
struct Entry {
    bytes: usize,
    waker: Option<Waker>,
}

/// The incomplete message of one request. Dropping it releases its bytes.
#[derive(Debug)]
pub struct UnfinishedMessage {
    all: Arc<UnfinishedMessages>,
    /// The number of the message. `None` while it has no bytes.
    number: Option<u64>,
}

impl UnfinishedMessages {
    /// A limit of `limit` bytes.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
        })
    }

    /// Returns an empty message for a new request.
    pub(super) fn message(self: &Arc<Self>) -> UnfinishedMessage {
        UnfinishedMessage {
            all: self.clone(),
            number: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.messages.remove(&number)?;
        self.by_size.remove(&(entry.bytes, number));
        self.total -= entry.bytes;
        Some(entry)
    }
}

impl UnfinishedMessage {
    /// Adds bytes to the message. Above the limit, the largest message is dropped, which may be this one.
    pub fn grow(&mut self, bytes: usize) {
        let mut state = self.all.lock();
        let number = match self.number {
            None => {
                state.next += 1;
                state.next
            }
            // This message was dropped.
            Some(number) if !state.messages.contains_key(&number) => return,
            Some(number) => number,
        };
        self.number = Some(number);
        let mut entry = state.remove(number).unwrap_or_default();
        entry.bytes += bytes;
        state.total += entry.bytes;
        state.by_size.insert((entry.bytes, number));
        state.messages.insert(number, entry);
        while state.total > self.all.limit
            && let Some((_, largest)) = state.by_size.last().copied()
        {
            let dropped = state.remove(largest);
            if let Some(waker) = dropped.and_then(|entry| entry.waker) {
                waker.wake();
            }
        }
    }

    /// Whether the message was dropped. If not, the task is woken when that happens.
    pub fn is_dropped(&self, context: &Context<'_>) -> bool {
        let Some(number) = self.number else {
            return false;
        };
        match self.all.lock().messages.get_mut(&number) {
            None => true,
            Some(entry) => {
                entry.waker = Some(context.waker().clone());
                false
            }
        }
    }

    /// Releases the bytes: the message is complete, or is not read any more.
    pub(super) fn end(&mut self) {
        if let Some(number) = self.number.take() {
            self.all.lock().remove(number);
        }
    }
}

impl Drop for UnfinishedMessage {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_dropped(message: &UnfinishedMessage) -> bool {
        message.is_dropped(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn over_the_limit_the_largest_message_is_dropped() {
        let all = UnfinishedMessages::new(100);
        let (mut small, mut large, mut late) = (all.message(), all.message(), all.message());
        small.grow(30);
        large.grow(60);
        late.grow(10);
        assert!(![&small, &large, &late].into_iter().any(is_dropped));
        late.grow(1);
        assert!(is_dropped(&large) && !is_dropped(&small) && !is_dropped(&late));
        // Later bytes of a dropped message are not counted.
        large.grow(1_000);
        assert_eq!(all.lock().total, 41);
    }

    #[test]
    fn a_message_that_is_larger_than_the_limit_is_dropped() {
        let all = UnfinishedMessages::new(100);
        let (mut small, mut large) = (all.message(), all.message());
        small.grow(1);
        large.grow(101);
        assert!(is_dropped(&large) && !is_dropped(&small));
    }

    #[test]
    fn a_message_that_is_complete_or_dropped_is_not_counted() {
        let all = UnfinishedMessages::new(100);
        let (mut one, mut other) = (all.message(), all.message());
        one.grow(60);
        one.end();
        other.grow(60);
        drop(other);
        one.grow(60);
        assert!(!is_dropped(&one));
        let state = all.lock();
        assert_eq!((state.total, state.messages.len()), (60, 1));
    }
}
