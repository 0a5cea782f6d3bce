//! The lines in front of keys: writes to one key reach the wire in the order in which they came, whoever sends them.
//! Knows neither callers nor classes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::TicketId;

/// What a write changes: a lead's id, an e-mail address. Only a digest is kept. Two that collide order writes which
/// need no order, and nothing worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of this value. Name its kind too, `("email", address)`, so that unlike things do not meet.
    pub fn of(value: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Who waits for which key, in the order of ids, which is that of arrival. A granted ticket stays at the head of its
/// lines until it is done, because two calls on the way at once may overtake each other.
///
/// A ticket joins all its lines in one step, so in all of them the lower id is ahead, and no circle of waiting can
/// arise.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: HashMap<Key, BTreeSet<TicketId>>,
}

impl Lines {
    pub(super) fn join(&mut self, id: TicketId, keys: &[Key]) {
        for key in keys {
            self.lines.entry(*key).or_default().insert(id);
        }
    }

    /// Leaves its lines. Whoever is at the head of one of them then may be free to go.
    pub(super) fn leave(&mut self, id: TicketId, keys: &[Key]) -> Vec<TicketId> {
        let mut heads = Vec::new();
        for key in keys {
            if let Entry::Occupied(mut line) = self.lines.entry(*key) {
                line.get_mut().remove(&id);
                match line.get().first() {
                    Some(head) => heads.push(*head),
                    None => drop(line.remove()),
                }
            }
        }
        heads
    }

    /// Whether nobody is ahead of it.
    pub(super) fn is_first(&self, id: TicketId, keys: &[Key]) -> bool {
        keys.iter()
            .filter_map(|key| self.lines.get(key)?.first())
            .all(|head| *head >= id)
    }

    /// Those ahead of it in one line, the nearest first.
    pub(super) fn ahead(&self, id: TicketId, key: Key) -> impl Iterator<Item = TicketId> {
        let line = self.lines.get(&key);
        line.into_iter().flat_map(move |line| line.range(..id).rev().copied())
    }

    /// Who comes right after it in one line.
    pub(super) fn behind(&self, id: TicketId, key: Key) -> Option<TicketId> {
        let after = TicketId(id.0 + 1);
        self.lines.get(&key)?.range(after..).next().copied()
    }

    /// How many wait in the longest of these lines, the one on its way included.
    pub(super) fn longest(&self, keys: &[Key]) -> usize {
        let lengths = keys.iter().filter_map(|key| self.lines.get(key)).map(BTreeSet::len);
        lengths.max().unwrap_or(0)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}
