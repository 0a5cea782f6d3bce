//! The places of the RPCs in progress, and when an RPC that finds all of them taken is to be made again: so that refused RPCs
//! come one by one, as places come free, and not all at the same time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How many ends of RPCs are remembered.
const MAX_ENDS: usize = 64;
/// How many retries are counted. Further RPCs are given a time and not counted.
const MAX_RETRIES: usize = 4_096;
/// Until ends are known, all places are taken to come free in so long.
const FIRST: Duration = Duration::from_secs(1);
/// The range of the times that are told.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(60);

/// The places of all RPCs.
pub(super) struct InFlight {
    max: u32,
    places: Arc<Semaphore>,
    times: Mutex<Times>,
}

/// The place of one RPC, until it is dropped.
pub(super) struct Place {
    all: Arc<InFlight>,
    _permit: OwnedSemaphorePermit,
}

/// When places came free, and when refused RPCs are to come again.
#[derive(Debug, Default)]
struct Times {
    ends: VecDeque<Instant>,
    retries: BinaryHeap<Reverse<Instant>>,
}

impl InFlight {
    /// So many places.
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            max,
            places: Arc::new(Semaphore::new(max as usize)),
            times: Mutex::default(),
        })
    }

    /// A place, or after which time one is to be asked for again.
    pub(super) fn take(self: &Arc<Self>) -> Result<Place, Duration> {
        match self.places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place {
                all: self.clone(),
                _permit: permit,
            }),
            Err(_) => Err(self.times().retry_after(self.max, Instant::now())),
        }
    }

    /// Resolves when all places are free.
    pub(super) async fn all_free(&self) {
        // It is never closed.
        let _all = self.places.acquire_many(self.max).await;
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.times().end(Instant::now());
    }
}

impl Times {
    fn end(&mut self, now: Instant) {
        if self.ends.len() == MAX_ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
    }

    /// The time after which a place is free for an RPC that is refused now: behind all that are to come again before.
    fn retry_after(&mut self, max: u32, now: Instant) -> Duration {
        while self.retries.peek().is_some_and(|Reverse(due)| *due <= now) {
            self.retries.pop();
        }
        let pace = match (self.ends.front(), u32::try_from(self.ends.len())) {
            (Some(first), Ok(count)) if count > 1 => now.saturating_duration_since(*first) / count,
            _ => FIRST / max.max(1),
        };
        // A fourth more, since RPCs take different times and others come too.
        let pace = pace * 5 / 4;
        let ahead = u32::try_from(self.retries.len()).unwrap_or(u32::MAX);
        let after = pace.saturating_mul(ahead + 1).clamp(SHORTEST, LONGEST);
        if self.retries.len() < MAX_RETRIES {
            self.retries.push(Reverse(now + after));
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn refused_rpcs_come_again_as_places_come_free() {
        let (mut times, start) = (Times::default(), Instant::now());
        (0..100).for_each(|n| times.end(start + ms(20) * n));
        let now = start + ms(2_000);
        let told: Vec<_> = (0..50).map(|_| times.retry_after(10, now)).collect();
        for (n, after) in told.iter().enumerate() {
            let exact = ms(25) * u32::try_from(n + 1).unwrap();
            assert!(after.abs_diff(exact) <= exact / 20, "{n}: {after:?}");
        }
        // What has come again is ahead of nobody.
        assert!(times.retry_after(10, now + ms(1_300)) < ms(60));
        // The longer none comes free, the later.
        assert!(times.retry_after(10, now + ms(20_000)) > ms(200));
    }

    #[test]
    fn before_any_end_all_places_are_taken_to_come_free_in_about_a_second() {
        let (mut times, now) = (Times::default(), Instant::now());
        let told: Vec<_> = (0..20).map(|_| times.retry_after(10, now)).collect();
        assert_eq!((told[0], told[9], told[19]), (ms(125), ms(1_250), ms(2_500)));
    }

    #[test]
    fn times_and_memory_are_bounded() {
        let (mut times, now) = (Times::default(), Instant::now());
        let told: Vec<_> = (0..2 * MAX_RETRIES).map(|_| times.retry_after(1, now)).collect();
        assert_eq!(told.last(), Some(&LONGEST));
        assert_eq!(Times::default().retry_after(10_000, now), SHORTEST);
        assert_eq!(times.retries.len(), MAX_RETRIES);
        (0..1_000).for_each(|_| times.end(now));
        assert_eq!(times.ends.len(), MAX_ENDS);
    }

    #[tokio::test(start_paused = true)]
    async fn almost_all_refused_rpcs_find_a_place_when_they_come_again() {
        let all = InFlight::new(10);
        let work = async |place: Place, n: u64| {
            tokio::time::sleep(ms(50 + n * 37 % 100)).await;
            drop(place);
        };
        // Ten at a time have been in progress for a while.
        let warm = (0..10).map(|n| {
            let all = all.clone();
            async move {
                for round in 0..20 {
                    work(all.take().ok().unwrap(), n * 20 + round).await;
                }
            }
        });
        let mut tasks: tokio::task::JoinSet<_> = warm.collect();
        tokio::time::sleep(ms(1_500)).await;
        let burst = (0..200).map(|n| {
            let all = all.clone();
            async move {
                let Err(again) = all.take().map(|place| (place, n)) else {
                    return None;
                };
                tokio::time::sleep(again).await;
                match all.take() {
                    Ok(place) => {
                        work(place, n).await;
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
