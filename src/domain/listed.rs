//! What a read of many records returns: the records that could be read, and the positions of those that could not.

/// A record of a list that cannot be read. Holds nothing of its content but the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The record's id, if it can be read.
    pub id: Option<String>,
    /// The record's position in the list, from 0.
    pub position: usize,
    /// The JSON path of the first part that cannot be read.
    pub path: String,
}

/// The records of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    /// The records that can be read, in the order of the list.
    pub records: Vec<T>,
    /// The records that cannot be read, in the order of the list.
    pub unreadable: Vec<Unreadable>,
    /// Whether the damage is such that the number of unreadable records is a guess.
    pub is_count_uncertain: bool,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<T> From<Vec<T>> for Listed<T> {
    fn from(records: Vec<T>) -> Self {
        Self {
            records,
            unreadable: Vec::new(),
            is_count_uncertain: false,
        }
    }
}

impl<T> Listed<T> {
    /// The number of records in the list. An unreadable record counts: it has a position on the page.
    pub fn count(&self) -> usize {
        self.records.len() + self.unreadable.len()
    }

    /// The position in the list of the readable record with that index.
    pub fn position(&self, index: usize) -> usize {
        let mut position = index;
        for unreadable in &self.unreadable {
            if unreadable.position <= position {
                position += 1;
            }
        }
        position
    }

    /// The same list with each readable record converted.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Listed<U> {
        Listed {
            records: self.records.into_iter().map(convert).collect(),
            unreadable: self.unreadable,
            is_count_uncertain: self.is_count_uncertain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readable_record_keeps_its_position_between_unreadable_ones() {
        let unreadable = |position| Unreadable {
            id: None,
            position,
            path: String::new(),
        };
        let listed = Listed {
            records: vec!["b", "d", "e"],
            unreadable: vec![unreadable(0), unreadable(2)],
            is_count_uncertain: false,
        };
        assert_eq!([0, 1, 2].map(|index| listed.position(index)), [1, 3, 4]);
        assert_eq!(listed.count(), 5);
    }
}
