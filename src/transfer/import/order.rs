//! Which rows are about the same lead: such a row is sent when all before it are settled, so that a row that is sent again is
//! never overtaken. Knows neither rows nor streams.

use std::collections::{HashMap, VecDeque};

/// The rows that are not settled, by the values by which their leads are known.
#[derive(Debug, Default)]
pub(super) struct Order {
    queues: HashMap<u64, VecDeque<u64>>,
}

impl Order {
    /// Takes in the next row, which has these keys; whether it may be sent now.
    pub(super) fn enter(&mut self, row: u64, keys: &[u64]) -> bool {
        for key in keys {
            let queue = self.queues.entry(*key).or_default();
            // A row may have one value in two columns.
            if queue.back() != Some(&row) {
                queue.push_back(row);
            }
        }
        self.is_first(row, keys)
    }

    /// Whether no row before it is about the same lead.
    pub(super) fn is_first(&self, row: u64, keys: &[u64]) -> bool {
        let mut queues = keys.iter().filter_map(|key| self.queues.get(key));
        queues.all(|queue| queue.front() == Some(&row))
    }

    /// Lets a row go that is settled; the rows that may be first now.
    pub(super) fn leave(&mut self, row: u64, keys: &[u64]) -> Vec<u64> {
        let mut next = vec![];
        for key in keys {
            let Some(queue) = self.queues.get_mut(key) else {
                continue;
            };
            queue.retain(|waiting| *waiting != row);
            match queue.front() {
                Some(first) if !next.contains(first) => next.push(*first),
                Some(_) => {}
                None => {
                    self.queues.remove(key);
                }
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_waits_for_all_before_it_that_have_one_of_its_keys() {
        let mut order = Order::default();
        assert!(order.enter(1, &[10, 20]));
        assert!(!order.enter(2, &[20, 30]) && !order.enter(3, &[30]));
        assert!(order.enter(4, &[40]) && order.enter(5, &[]));
        assert_eq!(order.leave(4, &[40]), [0_u64; 0]);
        assert_eq!(order.leave(1, &[10, 20]), [2]);
        assert!(order.is_first(2, &[20, 30]) && !order.is_first(3, &[30]));
        assert_eq!(order.leave(2, &[20, 30]), [3]);
        assert!(order.is_first(3, &[30]));
        order.leave(3, &[30]);
        assert!(order.queues.is_empty());
        // A row that has a key twice does not wait for itself.
        assert!(order.enter(6, &[60, 60]));
    }

    proptest! {
        #[test]
        fn rows_of_one_key_are_settled_in_order_and_all_are(
            rows in prop::collection::vec(prop::collection::vec(0_u64..6, 0..3), 1..40),
            mut choices in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let mut order = Order::default();
            let mut free: Vec<usize> = vec![];
            for (row, keys) in rows.iter().enumerate() {
                if order.enter(row as u64, keys) {
                    free.push(row);
                }
            }
            let mut settled: Vec<usize> = vec![];
            while let (false, Some(choice)) = (free.is_empty(), choices.pop()) {
                let row = free.remove(choice.index(free.len()));
                for earlier in 0..row {
                    let shares = rows[earlier].iter().any(|key| rows[row].contains(key));
                    prop_assert!(!shares || settled.contains(&earlier));
                }
                settled.push(row);
                for next in order.leave(row as u64, &rows[row]) {
                    if order.is_first(next, &rows[next as usize]) {
                        free.push(next as usize);
                    }
                }
            }
            prop_assert_eq!(settled.len(), rows.len());
        }
    }
}
