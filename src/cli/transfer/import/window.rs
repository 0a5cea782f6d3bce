//! Which rows are under way, and which of them may be recorded: rows are recorded in order, so that an import knows how far it
//! is. Knows neither files nor messages.

use std::collections::VecDeque;

/// The rows that have been taken in and are not recorded, in order.
#[derive(Debug)]
pub(super) struct Window<R, O> {
    rows: VecDeque<(u64, R, Option<O>)>,
}

impl<R, O> Default for Window<R, O> {
    fn default() -> Self {
        Self { rows: VecDeque::new() }
    }
}

impl<R, O> Window<R, O> {
    /// Takes a row in. Its number must be above those of all rows before it.
    pub(super) fn push(&mut self, number: u64, row: R) {
        debug_assert!(self.rows.back().is_none_or(|(last, ..)| *last < number));
        self.rows.push_back((number, row, None));
    }

    /// The row, if it is under way.
    pub(super) fn open(&mut self, number: u64) -> Option<&mut R> {
        let at = self.at(number)?;
        let (_, row, outcome) = self.rows.get_mut(at)?;
        outcome.is_none().then_some(row)
    }

    /// Says what became of a row that is under way.
    pub(super) fn settle(&mut self, number: u64, outcome: O) {
        if self.open(number).is_some()
            && let Some(at) = self.at(number)
        {
            self.rows[at].2 = Some(outcome);
        }
    }

    /// The next row in order, if it is settled.
    pub(super) fn pop(&mut self) -> Option<(u64, R, O)> {
        let (number, row, outcome) = self.rows.pop_front_if(|(.., outcome)| outcome.is_some())?;
        Some((number, row, outcome?))
    }

    /// Those under way, with their numbers.
    pub(super) fn under_way(&mut self) -> impl Iterator<Item = (u64, &mut R)> {
        let rows = self.rows.iter_mut();
        rows.filter_map(|(number, row, outcome)| outcome.is_none().then_some((*number, row)))
    }

    /// How many rows have been taken in that are not recorded.
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
    fn rows_are_settled_in_order_whenever_they_are_answered() {
        let mut window = Window::default();
        // Rows between them may be settled already.
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
        let mut window = Window::default();
        window.push(1, "a");
        window.push(2, "b");
        window.settle(2, 'x');
        window.settle(2, 'y');
        assert!(window.open(2).is_none() && window.open(1).is_some());
        window.settle(1, 'z');
        assert_eq!(window.pop().map(|(_, _, outcome)| outcome), Some('z'));
        assert_eq!(window.pop().map(|(_, _, outcome)| outcome), Some('x'));
        // What is over, or was never taken in, is nobody's.
        window.settle(1, 'a');
        window.settle(3, 'a');
        assert_eq!((window.pop(), window.len()), (None, 0));
    }

    proptest! {
        #[test]
        fn the_mark_is_never_above_a_row_under_way(order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut window = Window::default();
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
                prop_assert!(window.under_way().all(|(open, _)| open > mark && !answered.contains(&open)));
            }
            prop_assert_eq!(mark, 60);
        }
    }
}
