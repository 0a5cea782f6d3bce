//! The order of rows of the same lead: a row is sent when all earlier rows of its lead have an outcome, so that a later row
//! never overtakes a row that is sent again. After a row with two keys, both keys belong to one lead: a row with an email
//! address waits for rows with a phone if an earlier row has both.

use std::collections::{BTreeSet, HashMap};

/// Maximum number of keys whose leads are kept. With more, links between keys of distant rows are lost.
const MAX_KEYS: usize = 1_000_000;

/// The rows without an outcome, by the keys of their leads.
#[derive(Debug, Default)]
pub(super) struct RowOrder {
    /// For each key, another key of the same lead, or the key itself if it represents the lead.
    leads: HashMap<u64, u64>,
    /// The rows of each lead without an outcome.
    rows: HashMap<u64, BTreeSet<u64>>,
}

impl RowOrder {
    /// Adds the next row with its keys. Returns whether it may be sent now.
    pub(super) fn enter(&mut self, row: u64, keys: &[u64]) -> bool {
        if self.leads.len() > MAX_KEYS && self.rows.is_empty() {
            self.leads.clear();
        }
        let Some(lead) = self.join(keys) else {
            return true;
        };
        self.rows.entry(lead).or_default().insert(row);
        self.is_first(row, keys)
    }

    /// Whether no earlier row has the same lead.
    pub(super) fn is_first(&self, row: u64, keys: &[u64]) -> bool {
        let rows = keys.first().and_then(|key| self.rows.get(&self.lead(*key)));
        rows.and_then(BTreeSet::first).is_none_or(|first| *first == row)
    }

    /// Removes a row that has an outcome. Returns the next row of its lead, which may be the first now.
    pub(super) fn leave(&mut self, row: u64, keys: &[u64]) -> Option<u64> {
        let lead = self.lead(*keys.first()?);
        let rows = self.rows.get_mut(&lead)?;
        rows.remove(&row);
        let next = rows.first().copied();
        if next.is_none() {
            self.rows.remove(&lead);
        }
        next
    }

    /// Joins the leads of these keys to one lead.
    fn join(&mut self, keys: &[u64]) -> Option<u64> {
        let lead = self.lead(*keys.first()?);
        for key in keys {
            let other = self.lead(*key);
            self.leads.insert(*key, lead);
            if other != lead {
                self.leads.insert(other, lead);
                let rows = self.rows.remove(&other).unwrap_or_default();
                self.rows.entry(lead).or_default().extend(rows);
            }
        }
        Some(lead)
    }

    fn lead(&self, key: u64) -> u64 {
        let mut at = key;
        while let Some(next) = self.leads.get(&at).filter(|next| **next != at) {
            at = *next;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_waits_for_all_earlier_rows_with_one_of_its_keys() {
        let mut order = RowOrder::default();
        assert!(order.enter(1, &[10, 20]));
        assert!(!order.enter(2, &[20, 30]) && !order.enter(3, &[30]));
        assert!(order.enter(4, &[40]) && order.enter(5, &[]));
        assert_eq!(order.leave(4, &[40]), None);
        assert_eq!(order.leave(1, &[10, 20]), Some(2));
        assert!(order.is_first(2, &[20, 30]) && !order.is_first(3, &[30]));
        assert_eq!(order.leave(2, &[20, 30]), Some(3));
        assert!(order.is_first(3, &[30]));
        order.leave(3, &[30]);
        assert!(order.rows.is_empty());
        // A row with the same key twice does not wait for itself.
        assert!(order.enter(6, &[60, 60]));
    }

    #[test]
    fn a_row_by_email_address_waits_for_rows_by_the_phone_of_the_same_lead() {
        let (email, phone) = (1, 2);
        let mut order = RowOrder::default();
        assert!(order.enter(1, &[email, phone]));
        assert_eq!(order.leave(1, &[email, phone]), None);
        assert!(order.enter(2, &[phone]) && !order.enter(3, &[phone]) && !order.enter(4, &[email]));
        assert_eq!(order.leave(2, &[phone]), Some(3));
        assert_eq!(order.leave(3, &[phone]), Some(4));
        // Rows of two leads, until a row joins them.
        let mut order = RowOrder::default();
        assert!(order.enter(1, &[email]) && order.enter(2, &[phone]) && !order.enter(3, &[phone, email]));
        assert_eq!(order.leave(2, &[phone]), Some(1));
        assert_eq!(order.leave(1, &[email]), Some(3));
    }

    proptest! {
        #[test]
        fn all_rows_of_one_key_are_settled_in_order(
            rows in prop::collection::vec(prop::collection::vec(0_u64..6, 0..3), 1..40),
            mut choices in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let mut order = RowOrder::default();
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
                if let Some(next) = order.leave(row as u64, &rows[row])
                    && order.is_first(next, &rows[next as usize])
                    && !free.contains(&(next as usize))
                {
                    free.push(next as usize);
                }
            }
            prop_assert_eq!(settled.len(), rows.len());
        }
    }
}
