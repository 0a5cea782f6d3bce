//! Whether other replicas can reach this one. A replica that they cannot reach must own no tenant, since each RPC of the tenant
//! would fail.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::domain::lease::ReplicaName;
use crate::grpc::{HelloResponse, Peers};

/// Another replica that the last beat showed. It may have crashed since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OtherReplica {
    pub(super) address: Arc<str>,
    pub(super) name: ReplicaName,
}

/// Checks `cluster.advertise` and `cluster.secret`. Returns the reason if other replicas cannot reach this one. A replica that does not
/// respond proves nothing: it may be cut off.
pub(super) async fn check(
    peers: Arc<Peers>,
    me: &ReplicaName,
    address: &Arc<str>,
    others: Vec<OtherReplica>,
) -> Result<(), String> {
    match peers.hello(address).await {
        HelloResponse::ThisReplica => {}
        HelloResponse::OtherReplica | HelloResponse::Refused => {
            return Err(format!(
                "cluster.advertise is {address}, the address of another replica"
            ));
        }
        HelloResponse::None(reason) => {
            return Err(format!(
                "cluster.advertise is {address}, where this replica cannot reach itself: {reason}"
            ));
        }
    }
    let mut accepted = 1;
    let mut refusing = Vec::new();
    let hello = |other: OtherReplica| {
        let peers = peers.clone();
        async move { (peers.hello(&other.address).await, other) }
    };
    for (response, other) in JoinSet::from_iter(others.into_iter().map(hello)).join_all().await {
        match response {
            HelloResponse::OtherReplica => accepted += 1,
            HelloResponse::Refused => refusing.push(other),
            HelloResponse::ThisReplica | HelloResponse::None(_) => {}
        }
    }
    refusing.sort_unstable();
    match is_outvoted(me, accepted, &refusing) {
        false => Ok(()),
        true => {
            let addresses: Vec<&str> = refusing.iter().map(|other| &*other.address).collect();
            Err(format!(
                "cluster.secret is not that of other replicas: {}",
                addresses.join(", ")
            ))
        }
    }
}

/// Whether most replicas have another secret. If there are as many on both sides, those that started later are wrong.
fn is_outvoted(me: &ReplicaName, accepted: usize, refusing: &[OtherReplica]) -> bool {
    let started_before = |other: &OtherReplica| run(&other.name) < run(me);
    refusing.len() > accepted || refusing.len() == accepted && refusing.iter().any(started_before)
}

/// The part of a name that says when the run began.
fn run(name: &ReplicaName) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_has_the_secret_and_otherwise_the_first_replica() {
        let others = ["10.0.0.1:1/01", "10.0.0.2:1/02"].map(|name| OtherReplica {
            address: "10.0.0.1:1".into(),
            name: name.into(),
        });
        let (first, last) = ("10.0.0.3:1/00".into(), "10.0.0.0:1/09".into());
        let both = others.to_vec();
        assert!(is_outvoted(&first, 1, &both) && is_outvoted(&last, 1, &both));
        assert!(!is_outvoted(&first, 2, &both) && is_outvoted(&last, 2, &both));
        assert!(!is_outvoted(&last, 3, &both));
        assert!(!is_outvoted(&last, 1, &[]));
    }
}
