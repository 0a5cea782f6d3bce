//! The rows that are read and not recorded. Rows are recorded in order, so that one number is the progress of an import.

use std::collections::VecDeque;

/// The rows that are not recorded, in order.
#[derive(Debug)]
pub(super) struct RowWindow<R, O> {
    rows: VecDeque<(u64, R, Option<O>)>,
}

impl<R, O> Default for RowWindow<R, O> {
    fn default() -> Self {
        Self { rows: VecDeque::new() }
    }
}

impl<R, O> RowWindow<R, O> {
    /// Adds a row. Its number must be higher than those of all earlier rows.
    pub(super) fn push(&mut self, number: u64, row: R) {
        debug_assert!(self.rows.back().is_none_or(|(last, ..)| *last < number));
        self.rows.push_back((number, row, None));
    }

    /// Returns a row, if it has no outcome.
    pub(super) fn get_unsettled(&mut self, number: u64) -> Option<&mut R> {
        let at = self.at(number)?;
        let (_, row, outcome) = self.rows.get_mut(at)?;
        outcome.is_none().then_some(row)
    }

    /// Sets the outcome of a row that has none.
    pub(super) fn settle(&mut self, number: u64, outcome: O) {
        if self.get_unsettled(number).is_some()
            && let Some(at) = self.at(number)
        {
            self.rows[at].2 = Some(outcome);
        }
    }

    /// Removes the next row in order, if it has an outcome.
    pub(super) fn pop(&mut self) -> Option<(u64, R, O)> {
        let (number, row, outcome) = self.rows.pop_front_if(|(.., outcome)| outcome.is_some())?;
        Some((number, row, outcome?))
    }

    /// Returns the rows without an outcome, with their numbers.
    pub(super) fn unsettled(&mut self) -> impl Iterator<Item = (u64, &mut R)> {
        let rows = self.rows.iter_mut();
        rows.filter_map(|(number, row, outcome)| outcome.is_none().then_some((*number, row)))
    }

    /// Returns the number of rows that are not recorded.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn at(&self, number: u64) -> Option<usize> {
        self.rows.binary_search_by_key(&number, |(number, ..)| *number).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_recorded_in_order_whenever_they_are_settled() {
        let mut window = RowWindow::default();
        // The numbers may have gaps.
        for (number, row) in [(3, "a"), (12, "b"), (13, "c")] {
            window.push(number, row);
        }
        window.settle(12, true);
        window.settle(11, true);
        assert_eq!(window.pop(), None);
        window.settle(3, false);
        assert_eq!(window.pop(), Some((3, "a", false)));
        assert_eq!(window.pop(), Some((12, "b", true)));
        assert_eq!((window.pop(), window.len()), (None, 1));
    }

    #[test]
    fn a_row_is_settled_once() {
        let mut window = RowWindow::default();
        window.push(1, "a");
        window.push(2, "b");
        window.settle(2, 'x');
        window.settle(2, 'y');
        assert!(window.get_unsettled(2).is_none() && window.get_unsettled(1).is_some());
        window.settle(1, 'z');
        assert_eq!(window.pop().map(|(_, _, outcome)| outcome), Some('z'));
        assert_eq!(window.pop().map(|(_, _, outcome)| outcome), Some('x'));
        // Rows that are recorded, or were never added, are ignored.
        window.settle(1, 'a');
        window.settle(3, 'a');
        assert_eq!((window.pop(), window.len()), (None, 0));
    }

    proptest! {
        #[test]
        fn no_row_is_recorded_before_an_earlier_one(order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut window = RowWindow::default();
            for number in 1..=60 {
                window.push(number, ());
            }
            let (mut answered, mut mark) = (vec![], 0);
            for number in order {
                window.settle(number, ());
                answered.push(number);
                while let Some((popped, ..)) = window.pop() {
                    prop_assert_eq!(popped, mark + 1);
                    mark = popped;
                    prop_assert!(answered.contains(&popped));
                }
                prop_assert!(window.unsettled().all(|(open, _)| open > mark && !answered.contains(&open)));
            }
            prop_assert_eq!(mark, 60);
        }
    }
}
