//! The maximum number of unary RPCs in progress, and the retry times of RPCs above it. The times are spread over the rate at
//! which permits are released, so that refused RPCs do not all retry at the same time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Maximum number of stored ends of RPCs.
const MAX_ENDS: usize = 64;
/// Maximum number of stored retries that were announced. Further RPCs get a retry time that is not stored.
const MAX_RETRIES: usize = 4_096;
/// The time in which all permits are assumed to be released, as long as no RPC has ended.
const ASSUMED_TURNOVER: Duration = Duration::from_secs(1);
/// The range of the retry times.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(10);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The limit of `server.max_in_flight`.
pub(super) struct UnaryLimit {
    max: u32,
    permits: Arc<Semaphore>,
    /// Notified when the last permit is released.
    freed: Notify,
    times: Mutex<RetryTimes>,
}

/// The permit of one unary RPC. Dropping it releases it.
pub(super) struct UnaryPermit {
    limit: Arc<UnaryLimit>,
    /// Present until the permit is dropped.
    permit: Option<OwnedSemaphorePermit>,
}

/// When permits were released, and when refused RPCs will retry.
#[derive(Debug, Default)]
struct RetryTimes {
    ends: VecDeque<Instant>,
    retries: BinaryHeap<Reverse<Instant>>,
}

impl UnaryLimit {
    /// A limit of `max` RPCs.
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            max,
            permits: Arc::new(Semaphore::new(max as usize)),
            freed: Notify::new(),
            times: Mutex::default(),
        })
    }

    /// Returns a permit, or the time after which the caller should retry.
    pub(super) fn acquire(self: &Arc<Self>) -> Result<UnaryPermit, Duration> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(UnaryPermit {
                limit: self.clone(),
                permit: Some(permit),
            }),
            Err(_) => Err(self.times().retry_after(self.max, Instant::now())),
        }
    }

    /// Resolves when no permit is held. Meanwhile permits can be acquired: RPCs that arrive during a shutdown must not fail as if
    /// the limit were reached.
    pub(super) async fn all_free(&self) {
        let mut freed = pin!(self.freed.notified());
        loop {
            freed.as_mut().enable();
            if self.is_free() {
                return;
            }
            freed.as_mut().await;
            freed.set(self.freed.notified());
        }
    }

    fn is_free(&self) -> bool {
        self.permits.available_permits() == self.max as usize
    }

    fn times(&self) -> MutexGuard<'_, RetryTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnaryPermit {
    fn drop(&mut self) {
        self.limit.times().record_end(Instant::now());
        drop(self.permit.take());
        if self.limit.is_free() {
            self.limit.freed.notify_waiters();
        }
    }
}

impl RetryTimes {
    fn record_end(&mut self, now: Instant) {
        if self.ends.len() == MAX_ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
    }

    /// Returns the time after which an RPC that is refused now should retry: after all retries that are already announced.
    fn retry_after(&mut self, max: u32, now: Instant) -> Duration {
        while self.retries.peek().is_some_and(|Reverse(due)| *due <= now) {
            self.retries.pop();
        }
        let interval = match (self.ends.front(), u32::try_from(self.ends.len())) {
            (Some(first), Ok(count)) if count > 1 => now.saturating_duration_since(*first) / count,
            _ => ASSUMED_TURNOVER / max.max(1),
        };
        // A quarter more: the durations of RPCs vary, and new RPCs also need permits.
        let interval = interval * 5 / 4;
        let ahead = u32::try_from(self.retries.len()).unwrap_or(u32::MAX);
        let after = interval
            .saturating_mul(ahead + 1)
            .clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER);
        if self.retries.len() < MAX_RETRIES {
            self.retries.push(Reverse(now + after));
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn refused_rpcs_retry_at_the_rate_at_which_permits_are_released() {
        let (mut times, start) = (RetryTimes::default(), Instant::now());
        (0..100).for_each(|n| times.record_end(start + ms(20) * n));
        let now = start + ms(2_000);
        let delays: Vec<_> = (0..50).map(|_| times.retry_after(10, now)).collect();
        for (n, after) in delays.iter().enumerate() {
            let exact = ms(25) * u32::try_from(n + 1).unwrap();
            assert!(after.abs_diff(exact) <= exact / 20, "{n}: {after:?}");
        }
        // An RPC that has retried is not counted any more.
        assert!(times.retry_after(10, now + ms(1_300)) < ms(60));
        // The longer no permit is released, the later the retry.
        assert!(times.retry_after(10, now + ms(20_000)) > ms(200));
    }

    #[test]
    fn before_any_release_all_permits_are_assumed_to_be_released_within_a_second() {
        let (mut times, now) = (RetryTimes::default(), Instant::now());
        let delays: Vec<_> = (0..20).map(|_| times.retry_after(10, now)).collect();
        assert_eq!((delays[0], delays[9], delays[19]), (ms(125), ms(1_250), ms(2_500)));
    }

    #[tokio::test]
    async fn rpcs_that_arrive_during_a_shutdown_get_permits() {
        let limit = UnaryLimit::new(2);
        let first = limit.acquire().ok().unwrap();
        let mut all_free = pin!(limit.all_free());
        let mut is_free = || {
            all_free
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        };
        assert!(!is_free());
        let second = limit.acquire().ok().unwrap();
        drop(first);
        assert!(!is_free());
        drop(second);
        let third = limit.acquire().ok().unwrap();
        assert!(!is_free());
        drop(third);
        assert!(is_free());
    }

    #[tokio::test]
    async fn a_shutdown_ends_with_the_last_rpc() {
        let limit = UnaryLimit::new(2);
        let permit = limit.acquire().ok().unwrap();
        tokio::join!(limit.all_free(), async move { drop(permit) });
    }

    #[test]
    fn times_and_memory_are_bounded() {
        let (mut times, now) = (RetryTimes::default(), Instant::now());
        let delays: Vec<_> = (0..2 * MAX_RETRIES).map(|_| times.retry_after(1, now)).collect();
        assert_eq!(delays.last(), Some(&MAX_RETRY_AFTER));
        assert_eq!(RetryTimes::default().retry_after(10_000, now), MIN_RETRY_AFTER);
        assert_eq!(times.retries.len(), MAX_RETRIES);
        (0..1_000).for_each(|_| times.record_end(now));
        assert_eq!(times.ends.len(), MAX_ENDS);
    }

    #[tokio::test(start_paused = true)]
    async fn almost_all_refused_rpcs_get_a_permit_when_they_retry() {
        let limit = UnaryLimit::new(10);
        let work = async |permit: UnaryPermit, n: u64| {
            tokio::time::sleep(ms(50 + n * 37 % 100)).await;
            drop(permit);
        };
        // Before the burst, ten RPCs are always in progress.
        let warm = (0..10).map(|n| {
            let limit = limit.clone();
            async move {
                for round in 0..20 {
                    work(limit.acquire().ok().unwrap(), n * 20 + round).await;
                }
            }
        });
        let mut tasks: tokio::task::JoinSet<_> = warm.collect();
        tokio::time::sleep(ms(1_500)).await;
        let burst = (0..200).map(|n| {
            let limit = limit.clone();
            async move {
                let Err(retry_after) = limit.acquire().map(|permit| (permit, n)) else {
                    return None;
                };
                tokio::time::sleep(retry_after).await;
                match limit.acquire() {
                    Ok(permit) => {
                        work(permit, n).await;
                        Some(true)
                    }
                    Err(_) => Some(false),
                }
            }
        });
        let burst: tokio::task::JoinSet<Option<bool>> = burst.collect();
        tasks.abort_all();
        let ends: Vec<_> = burst.join_all().await.into_iter().flatten().collect();
        let served = ends.iter().filter(|served| **served).count();
        assert!(
            ends.len() >= 180 && served * 20 >= ends.len() * 19,
            "{served} of {}",
            ends.len()
        );
    }
}
