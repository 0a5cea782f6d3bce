//! The lines in front of keys: writes to one key reach the wire in the order in which they came, whoever sends them.
//! Knows neither callers nor classes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Position;

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

/// Which writes wait for which key, in the order of arrival. A write stays at the head of its lines until its outcome is
/// known, because two calls on the way at once may overtake each other.
///
/// A write joins all its lines in one step, so in all of them the lower position is ahead, and no circle of waiting can
/// arise.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: HashMap<Key, BTreeSet<Position>>,
}

impl Lines {
    pub(super) fn join(&mut self, position: Position, keys: &[Key]) {
        for key in keys {
            self.lines.entry(*key).or_default().insert(position);
        }
    }

    /// Leaves its lines. Whoever is at the head of one of them then may be free to go.
    pub(super) fn leave(&mut self, position: Position, keys: &[Key]) -> Vec<Position> {
        let mut heads = Vec::new();
        for key in keys {
            if let Entry::Occupied(mut line) = self.lines.entry(*key) {
                line.get_mut().remove(&position);
                match line.get().first() {
                    Some(head) => heads.push(*head),
                    None => drop(line.remove()),
                }
            }
        }
        heads
    }

    /// Whether nobody is ahead of it.
    pub(super) fn is_first(&self, position: Position, keys: &[Key]) -> bool {
        keys.iter()
            .filter_map(|key| self.lines.get(key)?.first())
            .all(|head| *head >= position)
    }

    /// The last one in a line.
    pub(super) fn last(&self, key: Key) -> Option<Position> {
        self.lines.get(&key)?.last().copied()
    }

    /// Those ahead of it in one line, the nearest first.
    pub(super) fn ahead(&self, position: Position, key: Key) -> impl Iterator<Item = Position> {
        let line = self.lines.get(&key);
        line.into_iter()
            .flat_map(move |line| line.range(..position).rev().copied())
    }

    /// Those behind it in one line, the nearest first.
    pub(super) fn behind(&self, position: Position, key: Key) -> impl Iterator<Item = Position> {
        let line = self.lines.get(&key);
        let after = Position(position.0 + 1);
        line.into_iter().flat_map(move |line| line.range(after..).copied())
    }

    /// How many are ahead in the longest of these lines, the one on its way included: of this position, or of a new one.
    pub(super) fn longest(&self, keys: &[Key], position: Option<Position>) -> usize {
        let lines = keys.iter().filter_map(|key| self.lines.get(key));
        let lengths = lines.map(|line| position.map_or(line.len(), |at| line.range(..at).count()));
        lengths.max().unwrap_or(0)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}
