//! Which leads were there before. Knows their ids alone.

use std::collections::HashSet;

use uuid::Uuid;

/// Which leads have come. Millions of them fit into memory, since ids that are UUIDs take sixteen bytes.
#[derive(Debug, Default)]
pub struct Seen {
    uuids: HashSet<Uuid>,
    others: HashSet<String>,
}

impl Seen {
    /// Whether it is new.
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
    fn an_id_is_the_same_in_either_case() {
        let mut seen = Seen::default();
        assert!(seen.insert("0203f172-8642-11e7-9bed-069b743e848f"));
        assert!(!seen.insert("0203F172-8642-11E7-9BED-069B743E848F"));
        assert!(seen.insert("Lead-7") && !seen.insert("lead-7"));
    }
}
