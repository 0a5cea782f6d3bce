//! How many bytes of request messages wait for the rest of their messages, in all requests together. Above the limit the
//! largest of them fails, so that requests which are never completed do not keep small ones out. Knows no HTTP.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// The unfinished messages of all requests.
#[derive(Debug)]
pub(super) struct Unfinished {
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

/// The unfinished message of one request. Dropped, it counts no more.
#[derive(Debug)]
pub(super) struct Message {
    all: Arc<Unfinished>,
    /// Its number, while it has bytes.
    number: Option<u64>,
}

impl Unfinished {
    /// At most so many bytes.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
        })
    }

    /// The message of one more request.
    pub(super) fn message(self: &Arc<Self>) -> Message {
        Message {
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

impl Message {
    /// It has so many more bytes. Over the limit the largest message is dropped, which may be this one.
    pub(super) fn grow(&mut self, bytes: usize) {
        let mut state = self.all.lock();
        let number = match self.number {
            None => {
                state.next += 1;
                state.next
            }
            // Dropped already.
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

    /// Whether it was dropped. If not, the task is woken when that happens.
    pub(super) fn is_dropped(&self, context: &Context<'_>) -> bool {
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

    /// It is complete, or will never be.
    pub(super) fn end(&mut self) {
        if let Some(number) = self.number.take() {
            self.all.lock().remove(number);
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_dropped(message: &Message) -> bool {
        message.is_dropped(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn over_the_limit_the_largest_message_is_dropped() {
        let all = Unfinished::new(100);
        let (mut small, mut large, mut late) = (all.message(), all.message(), all.message());
        small.grow(30);
        large.grow(60);
        late.grow(10);
        assert!(![&small, &large, &late].into_iter().any(is_dropped));
        late.grow(1);
        assert!(is_dropped(&large) && !is_dropped(&small) && !is_dropped(&late));
        // What it gets later counts for nothing.
        large.grow(1_000);
        assert_eq!(all.lock().total, 41);
    }

    #[test]
    fn a_message_that_is_larger_than_the_limit_is_dropped_itself() {
        let all = Unfinished::new(100);
        let (mut small, mut large) = (all.message(), all.message());
        small.grow(1);
        large.grow(101);
        assert!(is_dropped(&large) && !is_dropped(&small));
    }

    #[test]
    fn what_is_complete_or_gone_counts_no_more() {
        let all = Unfinished::new(100);
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
