//! The queues of keys: writes with a common key are sent in the order of arrival, for all callers and classes.
//! Does not depend on callers or classes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use super::Position;

/// The key of a record that a write changes, such as a lead's id or an email address. Only a digest is kept. It is the same in all
/// replicas and releases, because it is stored with mutations in progress. A collision orders two writes that need no order, and
/// has no other effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteKey(u64);

impl WriteKey {
    /// Returns the key of this text. The text should include its kind, such as `email:a@b.co`, so that equal values of different
    /// kinds have different keys.
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(text);
        Self(digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte)))
    }

    /// The key in the store.
    pub fn stored(self) -> i64 {
        self.0.cast_signed()
    }

    /// The key with that number in the store.
    pub fn from_stored(number: i64) -> Self {
        Self(number.cast_unsigned())
    }
}

/// The queue of each key: the positions of its writes in the order of arrival. A write stays at the head of its queues until
/// its outcome is known, because one of two concurrent calls may overtake the other.
///
/// A write enters all its queues in one step. So the lower position is ahead in all of them, and there is no deadlock.
#[derive(Debug, Default)]
pub(super) struct KeyQueues {
    queues: HashMap<WriteKey, BTreeSet<Position>>,
}

impl KeyQueues {
    pub(super) fn enter(&mut self, position: Position, keys: &[WriteKey]) {
        for key in keys {
            self.queues.entry(*key).or_default().insert(position);
        }
    }

    /// Removes a position from its queues. Returns the positions that are at the head of one of them now, each once.
    pub(super) fn leave(&mut self, position: Position, keys: &[WriteKey]) -> Vec<Position> {
        let mut heads = Vec::new();
        for key in keys {
            if let Entry::Occupied(mut queue) = self.queues.entry(*key) {
                queue.get_mut().remove(&position);
                match queue.get().first() {
                    Some(head) => heads.push(*head),
                    None => drop(queue.remove()),
                }
            }
        }
        heads.sort_unstable();
        heads.dedup();
        heads
    }

    /// Whether the position is the first in all its queues.
    pub(super) fn is_first(&self, position: Position, keys: &[WriteKey]) -> bool {
        keys.iter()
            .filter_map(|key| self.queues.get(key)?.first())
            .all(|head| *head >= position)
    }

    /// The last position in the queue of a key.
    pub(super) fn last(&self, key: WriteKey) -> Option<Position> {
        self.queues.get(&key)?.last().copied()
    }

    /// The positions ahead in the queue of a key, the nearest first.
    pub(super) fn ahead(&self, position: Position, key: WriteKey) -> impl Iterator<Item = Position> {
        let queue = self.queues.get(&key);
        queue
            .into_iter()
            .flat_map(move |queue| queue.range(..position).rev().copied())
    }

    /// The positions behind in the queue of a key, the nearest first.
    pub(super) fn behind(&self, position: Position, key: WriteKey) -> impl Iterator<Item = Position> {
        let queue = self.queues.get(&key);
        let after = Position(position.0 + 1);
        queue.into_iter().flat_map(move |queue| queue.range(after..).copied())
    }

    /// Number of positions ahead in the longest of these queues, including that of a call in progress. `None`: of a new position.
    pub(super) fn writes_ahead(&self, keys: &[WriteKey], position: Option<Position>) -> usize {
        let queues = keys.iter().filter_map(|key| self.queues.get(key));
        let lengths = queues.map(|queue| position.map_or(queue.len(), |at| queue.range(..at).count()));
        lengths.max().unwrap_or(0)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_behind_in_many_queues_is_one_head() {
        let keys: Vec<WriteKey> = (0..100).map(|n| WriteKey::of(&n.to_string())).collect();
        let mut queues = KeyQueues::default();
        queues.enter(Position(1), &keys);
        queues.enter(Position(2), &keys);
        assert_eq!(queues.leave(Position(1), &keys), [Position(2)]);
        assert_eq!(queues.leave(Position(2), &keys), []);
        assert!(queues.is_empty());
    }
}
