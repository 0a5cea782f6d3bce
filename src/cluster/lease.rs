//! The lease of one tenant, as each call to LeadSquared sees it. The check takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::lease::Fence;

/// The lease never ends by time.
const PERMANENT: u64 = u64::MAX;
/// The lease has ended, and is never valid again.
const ENDED: u64 = 0;

/// The lease of one tenant in one epoch. Clones share it. Each grant of a slot checks it, and each request again immediately
/// before its first byte is sent. A lease that has lapsed may become valid again; a lease that has ended never does.
#[derive(Clone, Debug)]
pub struct TenantLease {
    shared: Arc<SharedLease>,
}

#[derive(Debug)]
struct SharedLease {
    /// The times are counted from here.
    origin: Instant,
    /// Until when the lease is valid, in nanoseconds after `origin`.
    valid_until: AtomicU64,
    epoch: i64,
    /// `cluster.lateness`. `None` for a permanent lease.
    lateness: Option<Duration>,
    /// When the acquisition was known to be committed.
    acquired: Instant,
    /// What writes to the store compare. `None`: the lease is permanent.
    fence: ArcSwapOption<Fence>,
    /// Notified when the lease is valid again.
    renewed: Notify,
    ended: CancellationToken,
}

impl TenantLease {
    /// The lease of a single process, which owns all tenants. Writes to the store have no fence.
    pub fn permanent() -> Self {
        Self {
            shared: Arc::new(SharedLease {
                origin: Instant::now(),
                valid_until: AtomicU64::new(PERMANENT),
                epoch: 0,
                lateness: None,
                acquired: Instant::now(),
                fence: ArcSwapOption::empty(),
                renewed: Notify::new(),
                ended: CancellationToken::new(),
            }),
        }
    }

    /// A lease that is valid until `valid_until`. Its acquisition was confirmed at `acquired`.
    pub(super) fn new(fence: Fence, lateness: Duration, acquired: Instant, valid_until: Instant) -> Self {
        // A lease may have lapsed before its acquisition was confirmed.
        let origin = acquired.min(valid_until);
        Self {
            shared: Arc::new(SharedLease {
                origin,
                valid_until: AtomicU64::new(nanos(origin, valid_until)),
                epoch: fence.epoch,
                lateness: Some(lateness),
                acquired,
                fence: ArcSwapOption::from_pointee(fence),
                renewed: Notify::new(),
                ended: CancellationToken::new(),
            }),
        }
    }

    /// Whether a call may be sent now.
    pub fn is_valid(&self, now: Instant) -> bool {
        match self.shared.valid_until.load(Ordering::Acquire) {
            ENDED => false,
            PERMANENT => true,
            until => nanos(self.shared.origin, now) < until,
        }
    }

    /// The number of the acquisition. 0 for a permanent lease.
    pub fn epoch(&self) -> i64 {
        self.shared.epoch
    }

    /// How long bytes that were written may stay on their way to LeadSquared (`cluster.lateness`). `None` for a permanent lease.
    pub fn lateness(&self) -> Option<Duration> {
        self.shared.lateness
    }

    /// When the calls of all earlier owners have ended, if a call to LeadSquared takes `timeout` at most. Until then, a call that one
    /// of them began may still be executed or finished. `None` for a permanent lease.
    pub fn earlier_calls_end(&self, timeout: Duration) -> Option<Instant> {
        let lateness = self.shared.lateness?;
        Some(self.shared.acquired + timeout.saturating_add(lateness))
    }

    /// What each write to the store compares. `None` for a permanent lease.
    pub fn fence(&self) -> Option<Arc<Fence>> {
        self.shared.fence.load_full()
    }

    /// Cancelled when the lease has ended: handed over, lost or given up. Not cancelled when it lapses.
    pub fn ended(&self) -> &CancellationToken {
        &self.shared.ended
    }

    /// Completes when the lease is valid again after it had lapsed. Counts from the call of this method.
    pub fn renewed(&self) -> Notified<'_> {
        self.shared.renewed.notified()
    }

    /// Extends the lease, in this history of the database. Does not revive a lease that has ended.
    pub(super) fn extend(&self, valid_until: Instant, fence: Fence, now: Instant) {
        let had_lapsed = !self.is_valid(now);
        self.shared.fence.store(Some(Arc::new(fence)));
        let until = nanos(self.shared.origin, valid_until);
        let extended = |current| (current != ENDED).then(|| until.max(current));
        let _ = self
            .shared
            .valid_until
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, extended);
        if had_lapsed && self.is_valid(now) {
            self.shared.renewed.notify_waiters();
        }
    }

    /// Ends the lease for ever, as when another replica has named a higher epoch.
    pub fn end(&self) {
        self.shared.valid_until.store(ENDED, Ordering::Release);
        self.shared.ended.cancel();
    }

    /// A lease for tests, valid for ever in this epoch. [`TenantLease::end_in_test`] ends it.
    #[cfg(test)]
    pub fn test(epoch: i64, valid_until: Instant) -> Self {
        let fence = Fence {
            owner: "test".into(),
            epoch,
            history: "test".into(),
        };
        Self::new(fence, Duration::from_secs(1), Instant::now(), valid_until)
    }

    /// Extends a lease in a test outside of this module.
    #[cfg(test)]
    pub fn extend_in_test(&self, valid_until: Instant) {
        let fence = self.fence().unwrap();
        self.extend(valid_until, (*fence).clone(), Instant::now());
    }

    /// Ends a lease in a test outside of this module.
    #[cfg(test)]
    pub fn end_in_test(&self) {
        self.end();
    }
}

/// The time since `origin`. Never one of the two special values.
fn nanos(origin: Instant, at: Instant) -> u64 {
    let nanos = at.saturating_duration_since(origin).as_nanos();
    u64::try_from(nanos)
        .unwrap_or(PERMANENT)
        .clamp(ENDED + 1, PERMANENT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_permanent_lease_is_always_valid_and_has_no_fence() {
        let lease = TenantLease::permanent();
        assert!(lease.is_valid(Instant::now() + SECOND * 1_000_000_000));
        assert_eq!((lease.epoch(), lease.fence()), (0, None));
        assert!(!lease.ended().is_cancelled());
    }

    #[test]
    fn earlier_calls_end_after_their_timeout_and_the_lateness() {
        let lease = TenantLease::test(3, Instant::now() + SECOND);
        let end = lease.earlier_calls_end(SECOND * 30).unwrap();
        assert_eq!(end - lease.shared.acquired, SECOND * 31);
        assert_eq!(TenantLease::permanent().earlier_calls_end(SECOND), None);
    }

    #[test]
    fn a_lease_lapses_and_is_valid_again_when_it_is_extended() {
        let start = Instant::now();
        let lease = TenantLease::test(3, start + SECOND);
        assert!(lease.is_valid(start + SECOND / 2) && !lease.is_valid(start + SECOND));
        assert!(!lease.ended().is_cancelled());
        lease.extend_in_test(start + SECOND * 3);
        assert!(lease.is_valid(start + SECOND * 2));
        lease.extend_in_test(start + SECOND * 2);
        assert!(lease.is_valid(start + SECOND * 5 / 2), "an extension shortens nothing");
    }

    #[test]
    fn a_lease_that_has_ended_is_never_valid_again() {
        let start = Instant::now();
        let lease = TenantLease::test(3, start + SECOND);
        let other = lease.clone();
        lease.end();
        other.extend_in_test(start + SECOND * 9);
        assert!(!other.is_valid(start) && other.ended().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_the_renewal_ends_when_the_lease_is_valid_again() {
        let start = Instant::now();
        let lease = TenantLease::test(3, start + SECOND);
        let renewed = lease.renewed();
        tokio::time::sleep(SECOND * 2).await;
        lease.extend_in_test(start + SECOND * 3);
        renewed.await;
    }
}
