//! The connections to `cluster.listen`. A connection without `cluster.secret` ends soon, and before any other when there are too many,
//! so that other replicas can always connect.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Maximum number of connections that have not shown the secret. Another replica shows it at once.
const MAX_UNPROVEN: usize = 256;
/// Maximum number of these connections from one address.
const MAX_UNPROVEN_OF_ADDRESS: usize = 32;

/// All connections to the port.
#[derive(Debug)]
pub(super) struct PeerConnections {
    max: usize,
    proof_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: usize,
    /// The connections that have not shown the secret, oldest first.
    unproven: BTreeMap<u64, Unproven>,
}

#[derive(Debug)]
struct Unproven {
    address: IpAddr,
    displaced: CancellationToken,
}

/// One open connection. Dropping it releases its place.
#[derive(Debug)]
pub(super) struct AdmittedPeer {
    all: Arc<PeerConnections>,
    number: u64,
    /// Cancelled when a newer connection takes the place of this one.
    displaced: CancellationToken,
}

impl PeerConnections {
    /// At most `max` connections. Each has to show the secret within `proof_timeout`.
    pub(super) fn new(max: u32, proof_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            max: max as usize,
            proof_timeout,
            state: Mutex::default(),
        })
    }

    /// Admits a new connection. If a limit is reached, the oldest connection without the secret is displaced. `None`: all connections
    /// have shown the secret.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Arc<AdmittedPeer>> {
        let mut state = self.lock();
        let (of_address, busiest) = state.count(address);
        if of_address >= MAX_UNPROVEN_OF_ADDRESS {
            state.displace_oldest_of(address);
        } else if state.open >= self.max || state.unproven.len() >= MAX_UNPROVEN {
            state.displace_oldest_of(busiest?);
        }
        state.next += 1;
        state.open += 1;
        let (number, displaced) = (state.next, CancellationToken::new());
        let unproven = Unproven {
            address,
            displaced: displaced.clone(),
        };
        state.unproven.insert(number, unproven);
        drop(state);
        Some(Arc::new(AdmittedPeer {
            all: self.clone(),
            number,
            displaced,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the number of unproven connections of an address, and the address with most of them.
    fn count(&self, address: IpAddr) -> (usize, Option<IpAddr>) {
        let mut counts = HashMap::<IpAddr, usize>::new();
        for unproven in self.unproven.values() {
            *counts.entry(unproven.address).or_default() += 1;
        }
        let of_address = counts.get(&address).copied().unwrap_or_default();
        let busiest = counts.into_iter().max_by_key(|(address, count)| (*count, *address));
        (of_address, busiest.map(|(address, _)| address))
    }

    fn displace_oldest_of(&mut self, address: IpAddr) {
        let oldest = self.unproven.iter().find(|(_, unproven)| unproven.address == address);
        if let Some(unproven) = oldest.map(|(number, _)| *number).and_then(|n| self.unproven.remove(&n)) {
            unproven.displaced.cancel();
            self.open -= 1;
        }
    }
}

impl AdmittedPeer {
    /// Records that the connection has shown the secret.
    pub(super) fn has_secret(&self) {
        self.all.lock().unproven.remove(&self.number);
    }

    /// Resolves when the connection is to be closed: it is displaced, or has not shown the secret in time.
    pub(super) async fn rejected(&self) {
        tokio::select! {
            () = self.displaced.cancelled() => return,
            () = tokio::time::sleep(self.all.proof_timeout) => {}
        }
        if !self.all.lock().unproven.contains_key(&self.number) {
            self.displaced.cancelled().await;
        }
    }
}

impl Drop for AdmittedPeer {
    fn drop(&mut self) {
        let mut state = self.all.lock();
        state.unproven.remove(&self.number);
        // The place of a displaced connection is taken.
        if !self.displaced.is_cancelled() {
            state.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn is_rejected(peer: &AdmittedPeer) -> bool {
        let rejected = std::pin::pin!(peer.rejected());
        rejected.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_displaces_the_oldest_one_without_the_secret() {
        let all = PeerConnections::new(3, TIMEOUT);
        let replica = all.admit(address(1)).unwrap();
        replica.has_secret();
        let strangers = [2, 3, 3].map(|last| all.admit(address(last)).unwrap());
        // The one of the address with most connections, not the oldest of all.
        assert_eq!(strangers.each_ref().map(|peer| is_rejected(peer)), [false, true, false]);
        assert!(!is_rejected(&replica));
        for _ in 0..2 {
            all.admit(address(4)).unwrap().has_secret();
        }
        drop(strangers);
        assert_eq!(all.lock().open, 1);
        let replicas = [5, 6].map(|last| all.admit(address(last)).unwrap());
        replicas.iter().for_each(|peer| peer.has_secret());
        // All of them are replicas.
        assert!(all.admit(address(7)).is_none());
        drop(replicas);
        assert!(all.admit(address(7)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_without_the_secret_are_bounded_in_total_and_for_each_address() {
        let all = PeerConnections::new(10_000, TIMEOUT);
        let flood: Vec<_> = (0..100).map(|_| all.admit(address(1)).unwrap()).collect();
        assert_eq!(all.lock().unproven.len(), MAX_UNPROVEN_OF_ADDRESS);
        let other = all.admit(address(2)).unwrap();
        let more: Vec<_> = (3..=255)
            .flat_map(|last| [all.admit(address(last)).unwrap(), all.admit(address(last)).unwrap()])
            .collect();
        assert_eq!(all.lock().unproven.len(), MAX_UNPROVEN);
        assert_eq!(all.lock().open, MAX_UNPROVEN);
        drop((flood, other, more));
        assert_eq!(all.lock().open, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_without_the_secret_after_the_timeout() {
        let all = PeerConnections::new(10, TIMEOUT);
        let (stranger, replica) = (all.admit(address(1)).unwrap(), all.admit(address(2)).unwrap());
        replica.has_secret();
        let start = tokio::time::Instant::now();
        stranger.rejected().await;
        assert_eq!(start.elapsed(), TIMEOUT);
        let waited = tokio::time::timeout(10 * TIMEOUT, replica.rejected()).await;
        assert!(waited.is_err());
    }
}
