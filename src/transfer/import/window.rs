//! Which rows are under way, and up to which all are settled: that is how far an import may say that it is. Knows neither
//! files nor messages.

use std::collections::VecDeque;

/// The rows after the last one up to which all are settled, in order.
#[derive(Debug)]
pub(super) struct Window<R, O> {
    settled: u64,
    rows: VecDeque<(R, Option<O>)>,
}

impl<R, O> Window<R, O> {
    /// One in which all up to that number are settled.
    pub(super) fn after(settled: u64) -> Self {
        Self {
            settled,
            rows: VecDeque::new(),
        }
    }

    /// The number of the next row that is taken in.
    pub(super) fn next(&self) -> u64 {
        self.settled + self.rows.len() as u64 + 1
    }

    /// Takes the next row in; its number.
    pub(super) fn push(&mut self, row: R) -> u64 {
        let number = self.next();
        self.rows.push_back((row, None));
        number
    }

    /// The row, if it is under way.
    pub(super) fn open(&mut self, number: u64) -> Option<&mut R> {
        let at = self.at(number)?;
        let (row, outcome) = self.rows.get_mut(at)?;
        outcome.is_none().then_some(row)
    }

    /// Says what became of a row that is under way.
    pub(super) fn settle(&mut self, number: u64, outcome: O) {
        if self.open(number).is_some()
            && let Some(at) = self.at(number)
        {
            self.rows[at].1 = Some(outcome);
        }
    }

    /// The next row in order, if it is settled: now all up to it are.
    pub(super) fn pop(&mut self) -> Option<(u64, R, O)> {
        let (row, outcome) = self.rows.pop_front_if(|(_, outcome)| outcome.is_some())?;
        self.settled += 1;
        Some((self.settled, row, outcome?))
    }

    /// The numbers of those under way.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (u64, &R)> {
        let numbered = (self.settled + 1..).zip(&self.rows);
        numbered.filter_map(|(number, (row, outcome))| outcome.is_none().then_some((number, row)))
    }

    /// How many rows have been taken in that are not settled in order.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn at(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.settled + 1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_settled_in_order_whenever_they_are_answered() {
        let mut window = Window::after(10);
        assert_eq!(["a", "b", "c"].map(|row| window.push(row)), [11, 12, 13]);
        window.settle(12, true);
        assert_eq!(window.pop(), None);
        window.settle(11, false);
        assert_eq!(window.pop(), Some((11, "a", false)));
        assert_eq!(window.pop(), Some((12, "b", true)));
        assert_eq!((window.pop(), window.len()), (None, 1));
        assert_eq!(window.push("d"), 14);
    }

    #[test]
    fn a_row_is_settled_once() {
        let mut window = Window::after(0);
        window.push("a");
        window.push("b");
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
            let mut window = Window::after(0);
            for _ in &order {
                window.push(());
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
                prop_assert!(window.under_way().all(|(open, ())| open > mark && !answered.contains(&open)));
            }
            prop_assert_eq!(mark, 60);
        }
    }
}
