//! A set of lead ids.

use std::collections::HashSet;

use uuid::Uuid;

/// A set of lead ids. An id that is a UUID takes sixteen bytes, so that millions of ids fit into memory.
#[derive(Debug, Default)]
pub struct LeadIdSet {
    uuids: HashSet<Uuid>,
    others: HashSet<String>,
}

impl LeadIdSet {
    /// Adds an id. Returns whether it is new. Case is ignored.
    pub fn insert(&mut self, id: &str) -> bool {
        match Uuid::try_parse(id) {
            Ok(uuid) => self.uuids.insert(uuid),
            Err(_) => self.others.insert(id.to_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_of_an_id_is_ignored() {
        let mut ids = LeadIdSet::default();
        assert!(ids.insert("0203f172-8642-11e7-9bed-069b743e848f"));
        assert!(!ids.insert("0203F172-8642-11E7-9BED-069B743E848F"));
        assert!(ids.insert("Lead-7") && !ids.insert("lead-7"));
    }
}
