//! The owner of each tenant, as far as this replica knows it: from its beats and from the messages of other replicas.

use std::collections::HashMap;

use crate::domain::lease::{Beat, History, ReplicaName};

/// The owner of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name of the replica.
    pub name: ReplicaName,
    /// Its address for other replicas, as `host:port`.
    pub address: String,
    /// The epoch of its lease.
    pub epoch: i64,
}

/// The owners of all tenants. A message of a replica is newer than the last beat if its epoch is higher. In another history of the
/// database the epochs start again, so the next beat replaces everything.
#[derive(Debug, Default)]
pub struct Directory {
    history: Option<History>,
    tenants: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// The highest epoch that is known.
    epoch: i64,
    /// The owner in this epoch. `None`: the tenant is free, or the owner has no known address.
    owner: Option<Owner>,
}

impl Directory {
    /// Adds what a beat shows. The beat may have been read before a message arrived.
    pub fn beat(&mut self, beat: &Beat) {
        if self.history.as_ref() != Some(&beat.history) {
            self.history = Some(beat.history.clone());
            self.tenants.clear();
        }
        let addresses: HashMap<_, _> = beat.replicas.iter().map(|row| (&row.name, &row.address)).collect();
        for lease in &beat.leases {
            let is_older = self
                .tenants
                .get(&lease.tenant)
                .is_some_and(|entry| lease.epoch < entry.epoch);
            if is_older {
                continue;
            }
            let owner = lease.owner.as_ref().and_then(|name| {
                let address = (*addresses.get(name)?).clone();
                let (name, epoch) = (name.clone(), lease.epoch);
                Some(Owner { name, address, epoch })
            });
            let epoch = lease.epoch;
            self.tenants.insert(lease.tenant.clone(), Entry { epoch, owner });
        }
    }

    /// A replica says that it owns a tenant. Returns whether this is news.
    pub fn owned_by(&mut self, tenant: &str, owner: Owner) -> bool {
        let known = self.tenants.get(tenant);
        let is_news = known.is_none_or(|entry| owner.epoch > entry.epoch);
        if is_news {
            let (epoch, owner) = (owner.epoch, Some(owner));
            self.tenants.insert(tenant.to_owned(), Entry { epoch, owner });
        }
        is_news
    }

    /// The owner of this epoch does not own the tenant any more: it said so, or it cannot be reached.
    pub fn released(&mut self, tenant: &str, epoch: i64) {
        if let Some(entry) = self.tenants.get_mut(tenant)
            && entry.epoch <= epoch
        {
            *entry = Entry { epoch, owner: None };
        }
    }

    /// The owner of a tenant. `None`: not known, or the tenant is free.
    pub fn owner(&self, tenant: &str) -> Option<&Owner> {
        self.tenants.get(tenant)?.owner.as_ref()
    }

    /// The highest epoch of a tenant that is known.
    pub fn epoch(&self, tenant: &str) -> Option<i64> {
        Some(self.tenants.get(tenant)?.epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::lease::{LeaseRow, ReplicaRow};

    fn owner(name: &str, epoch: i64) -> Owner {
        Owner {
            name: name.into(),
            address: format!("{name}:1"),
            epoch,
        }
    }

    fn beat(history: &str, name: Option<&str>, epoch: i64) -> Beat {
        let row = |name: &str| ReplicaRow {
            name: name.into(),
            address: format!("{name}:1"),
            beat: 1,
            tenants: vec![],
            lease: Duration::ZERO,
        };
        Beat {
            history: history.into(),
            history_age: Duration::ZERO,
            leases: vec![LeaseRow {
                tenant: "t".to_owned(),
                owner: name.map(Into::into),
                epoch,
                beat: Some(1),
                is_handed_over: false,
            }],
            replicas: ["a", "b"].map(row).to_vec(),
            pauses: Default::default(),
        }
    }

    #[test]
    fn the_highest_epoch_wins_and_a_late_beat_changes_nothing() {
        let mut directory = Directory::default();
        assert_eq!(directory.owner("t"), None);
        directory.beat(&beat("1", Some("a"), 3));
        assert_eq!(directory.owner("t"), Some(&owner("a", 3)));
        assert!(directory.owned_by("t", owner("b", 4)));
        assert!(!directory.owned_by("t", owner("a", 3)));
        directory.beat(&beat("1", Some("a"), 3));
        assert_eq!(
            (directory.owner("t"), directory.epoch("t")),
            (Some(&owner("b", 4)), Some(4))
        );
        directory.beat(&beat("1", None, 4));
        assert_eq!(directory.owner("t"), None);
    }

    #[test]
    fn a_released_tenant_has_no_owner_until_the_next_epoch() {
        let mut directory = Directory::default();
        directory.beat(&beat("1", Some("a"), 3));
        directory.released("t", 2);
        assert_eq!(directory.owner("t"), Some(&owner("a", 3)));
        directory.released("t", 3);
        assert_eq!(directory.owner("t"), None);
        assert!(!directory.owned_by("t", owner("a", 3)));
        assert!(directory.owned_by("t", owner("b", 4)));
    }

    #[test]
    fn another_history_replaces_everything() {
        let mut directory = Directory::default();
        directory.owned_by("t", owner("b", 9));
        directory.beat(&beat("1", Some("a"), 3));
        assert_eq!(directory.owner("t"), Some(&owner("a", 3)));
        directory.owned_by("t", owner("b", 9));
        directory.beat(&beat("2", Some("a"), 3));
        assert_eq!(directory.owner("t"), Some(&owner("a", 3)));
    }
}
