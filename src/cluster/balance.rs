//! Which replica prefers which tenant: the one with the highest rendezvous weight among the replicas that beat and have the
//! tenant in their settings. A replica that starts or ends changes the preference only for its own tenants.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::domain::lease::{Beat, ReplicaName};

/// The replicas as the beats of this one show them.
#[derive(Debug, Default)]
pub struct Peers {
    replicas: HashMap<ReplicaName, Peer>,
}

#[derive(Debug)]
struct Peer {
    beat: i64,
    tenants: Vec<String>,
    /// The duration of its leases. Zero: unknown.
    lease: Duration,
    /// When the beat was first seen.
    changed: Instant,
    /// Since when the replica has beaten without a gap. `None` until its beat has changed.
    up_since: Option<Instant>,
}

impl Peers {
    /// Adds what a beat shows. A replica whose beat does not change for longer than `silence` does not count as beating.
    pub fn update(&mut self, beat: &Beat, silence: Duration, now: Instant) {
        let is_known = |name: &ReplicaName| beat.replicas.iter().any(|row| row.name == *name);
        self.replicas.retain(|name, _| is_known(name));
        for row in &beat.replicas {
            let before = self.replicas.get(&row.name);
            let (changed, up_since) = match before {
                None => (now, None),
                Some(before) if before.beat == row.beat => (before.changed, before.up_since),
                Some(before) if now.saturating_duration_since(before.changed) > silence => (now, Some(now)),
                Some(before) => (now, before.up_since.or(Some(now))),
            };
            let peer = Peer {
                beat: row.beat,
                tenants: row.tenants.clone(),
                lease: row.lease,
                changed,
                up_since,
            };
            self.replicas.insert(row.name.clone(), peer);
        }
    }

    /// The duration of the leases of a replica. Zero: unknown.
    pub fn lease_of(&self, name: &ReplicaName) -> Duration {
        self.replicas.get(name).map_or(Duration::ZERO, |peer| peer.lease)
    }

    /// The replica that prefers a tenant. `me` is always counted.
    pub fn preferred(&self, tenant: &str, me: &ReplicaName, silence: Duration, now: Instant) -> ReplicaName {
        let beating = self.replicas.iter().filter(|(name, peer)| {
            let is_silent = now.saturating_duration_since(peer.changed) > silence;
            *name != me && !is_silent && peer.tenants.iter().any(|known| known == tenant)
        });
        let names = beating.map(|(name, _)| name).chain([me]);
        let best = names.max_by_key(|name| (weight(tenant, name), (*name).clone()));
        best.unwrap_or(me).clone()
    }

    /// The number of replicas whose beat has changed within this time. `me` is always counted. The row of a replica that this one has
    /// never seen beat does not count.
    pub fn alive(&self, me: &ReplicaName, silence: Duration, now: Instant) -> usize {
        let others = self.replicas.iter().filter(|(name, peer)| {
            let is_silent = now.saturating_duration_since(peer.changed) >= silence;
            *name != me && peer.up_since.is_some() && !is_silent
        });
        others.count() + 1
    }

    /// Whether the beat of a replica has not changed for longer than this time, as far as this replica has seen.
    pub fn is_silent(&self, name: &ReplicaName, silence: Duration, now: Instant) -> bool {
        let changed = self.replicas.get(name).map(|peer| peer.changed);
        changed.is_some_and(|changed| now.saturating_duration_since(changed) > silence)
    }

    /// Whether a replica has beaten without a gap for at least this time.
    pub fn is_up_for(&self, name: &ReplicaName, least: Duration, now: Instant) -> bool {
        let up_since = self.replicas.get(name).and_then(|peer| peer.up_since);
        up_since.is_some_and(|since| now.saturating_duration_since(since) >= least)
    }
}

/// The rendezvous weight of a replica for a tenant. The same on all replicas and in all versions.
pub fn weight(tenant: &str, replica: &str) -> u64 {
    let mut hash = Sha256::new();
    // The length keeps apart pairs of texts that are the same when joined.
    hash.update((tenant.len() as u64).to_be_bytes());
    hash.update(tenant);
    hash.update(replica);
    let digest: [u8; 32] = hash.finalize().into();
    digest[..8]
        .iter()
        .fold(0, |weight, byte| weight << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lease::ReplicaRow;

    const SILENCE: Duration = Duration::from_secs(5);

    fn beat(rows: &[(&str, i64, &[&str])]) -> Beat {
        let row = |(name, beat, tenants): &(&str, i64, &[&str])| ReplicaRow {
            name: (*name).into(),
            address: String::new(),
            beat: *beat,
            tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
            lease: Duration::ZERO,
        };
        Beat {
            history: "1/00000001".into(),
            history_age: Duration::ZERO,
            leases: vec![],
            replicas: rows.iter().map(row).collect(),
            pauses: Default::default(),
        }
    }

    fn tenants(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("tenant-{at}")).collect()
    }

    #[test]
    fn tenants_are_spread_evenly_and_stay_when_another_replica_ends() {
        let names = ["a", "b", "c", "d"];
        let best = |tenant: &str, names: &[&'static str]| {
            let best = names.iter().max_by_key(|name| weight(tenant, name));
            *best.unwrap()
        };
        let mut counts = HashMap::new();
        for tenant in tenants(1_000) {
            let owner = best(&tenant, &names);
            *counts.entry(owner).or_insert(0) += 1;
            if owner != "d" {
                assert_eq!(best(&tenant, &names[..3]), owner);
            }
        }
        assert!(counts.values().all(|count| (200..300).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_replicas_that_beat_and_have_the_tenant_are_preferred() {
        let (start, me) = (Instant::now(), ReplicaName::from("me"));
        let mut peers = Peers::default();
        peers.update(&beat(&[("me", 1, &["t"]), ("other", 1, &["u"])]), SILENCE, start);
        for tenant in tenants(50) {
            assert_eq!(peers.preferred(&tenant, &me, SILENCE, start), me);
        }
        let all = tenants(50);
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        peers.update(&beat(&[("me", 2, &[]), ("other", 2, &all)]), SILENCE, start);
        let preferred = |now| {
            all.iter()
                .filter(|tenant| peers.preferred(tenant, &me, SILENCE, now) != me)
                .count()
        };
        assert!((10..40).contains(&preferred(start + SILENCE)));
        assert_eq!(preferred(start + SILENCE + Duration::from_millis(1)), 0);
    }

    #[test]
    fn replicas_that_beat_are_alive() {
        let (start, me) = (Instant::now(), ReplicaName::from("me"));
        let mut peers = Peers::default();
        let rows = |count: i64| [("me", count, &[][..]), ("other", count, &[]), ("ended", 7, &[])];
        peers.update(&beat(&rows(1)), SILENCE, start);
        assert_eq!(peers.alive(&me, SILENCE, start), 1, "a row proves nothing");
        peers.update(&beat(&rows(2)), SILENCE, start);
        assert_eq!(peers.alive(&me, SILENCE, start), 2);
        assert_eq!(peers.alive(&me, SILENCE, start + SILENCE), 1);
    }

    #[test]
    fn a_replica_is_up_since_its_beat_changed_without_a_gap() {
        let (start, name) = (Instant::now(), ReplicaName::from("other"));
        let mut peers = Peers::default();
        let second = Duration::from_secs(1);
        peers.update(&beat(&[("other", 7, &[])]), SILENCE, start);
        peers.update(&beat(&[("other", 7, &[])]), SILENCE, start + second);
        assert!(
            !peers.is_up_for(&name, Duration::ZERO, start + second),
            "a row proves nothing"
        );
        peers.update(&beat(&[("other", 8, &[])]), SILENCE, start + second * 2);
        peers.update(&beat(&[("other", 9, &[])]), SILENCE, start + second * 5);
        assert!(peers.is_up_for(&name, second * 3, start + second * 5));
        peers.update(&beat(&[("other", 10, &[])]), SILENCE, start + second * 11);
        assert!(!peers.is_up_for(&name, second, start + second * 11), "after a gap");
    }
}
