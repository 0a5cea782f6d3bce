//! The result of a read of many records: the readable records, and the positions of the unreadable ones.

/// A record that cannot be read. It has the id of the record, and no other content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The id of the record, if it can be read.
    pub id: Option<String>,
    /// The position of the record in the list, from 0.
    pub position: usize,
    /// The JSON path of the first part that cannot be read.
    pub path: String,
}

/// The records of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    /// The readable records, in the order of the list.
    pub records: Vec<T>,
    /// The unreadable records, in the order of the list.
    pub unreadable: Vec<Unreadable>,
    /// Whether the number of unreadable records is an estimate, because the list is damaged.
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
    /// The number of records in the list, including unreadable ones.
    pub fn count(&self) -> usize {
        self.records.len() + self.unreadable.len()
    }

    /// The position in the list of the readable record with this index.
    pub fn position(&self, index: usize) -> usize {
        let mut position = index;
        for unreadable in &self.unreadable {
            if unreadable.position <= position {
                position += 1;
            }
        }
        position
    }

    /// Converts each readable record.
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
