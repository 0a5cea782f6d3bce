//! The recent latencies of one endpoint, with which admission compares a timeout. Pure, with `now` as an argument, and
//! in constant memory.
//!
//! An outdated estimate must not persist. A call that is refused because the endpoint is slow gives no new sample. So
//! samples expire, a single sample proves nothing, and one call per window is sent as a probe.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::handover::LatencySample;

/// Maximum number of samples.
const MAX_SAMPLES: usize = 32;
/// Minimum number of samples for an estimate.
const MIN_SAMPLES: usize = 3;
/// Part of the samples that is at most as long as the usual latency.
const LOW: f64 = 0.2;
/// Part of the samples that is at most as long as the long latency.
const HIGH: f64 = 0.9;
/// Maximum age of a sample, for windows of any length.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The recent latencies of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// When each response was received, and how long the call took.
    samples: VecDeque<(Instant, Duration)>,
    probed: Option<Instant>,
}

/// The expected latency of a call to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyEstimate {
    /// The shortest recent latency. Zero while too few are known.
    pub least: Duration,
    /// A low percentile of the recent latencies. While too few are known: the shortest, but no more than a 25th of the
    /// window.
    pub usual: Duration,
    /// A high percentile of the recent latencies, however few are known.
    pub long: Duration,
}

impl Latency {
    /// Adds a sample.
    pub fn learn(&mut self, received: Instant, took: Duration) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((received, took));
    }

    /// The samples that have not expired, for the next owner of the tenant.
    pub fn handover(&self, now: Instant, window: Duration) -> Vec<LatencySample> {
        let sample = |(received, took): &(Instant, Duration)| LatencySample {
            age: now.saturating_duration_since(*received),
            took: *took,
        };
        let recent = self
            .samples
            .iter()
            .filter(|(received, _)| *received + lifetime(window) > now);
        recent.map(sample).collect()
    }

    /// The latencies that the former owner of the tenant has measured.
    pub fn resume(before: &[LatencySample], now: Instant) -> Self {
        let mut latency = Self::default();
        for sample in before {
            latency.learn(now.checked_sub(sample.age).unwrap_or(now), sample.took);
        }
        latency
    }

    /// The estimate from the samples of the last two windows.
    pub fn estimate(&self, now: Instant, window: Duration) -> LatencyEstimate {
        let lifetime = lifetime(window);
        let recent = self.samples.iter().filter(|(received, _)| *received + lifetime > now);
        let mut took: Vec<_> = recent.map(|(_, took)| *took).collect();
        took.sort_unstable();
        let at = |part: f64| {
            let last = took.len().saturating_sub(1);
            took.get((last as f64 * part) as usize).copied().unwrap_or_default()
        };
        let is_known = took.len() >= MIN_SAMPLES;
        LatencyEstimate {
            least: if is_known { at(0.0) } else { Duration::ZERO },
            usual: if is_known { at(LOW) } else { at(0.0).min(window / 25) },
            long: at(HIGH),
        }
    }

    /// Whether a call may be sent although the endpoint seems to be too slow for its timeout. At most one per window.
    pub fn probe(&mut self, now: Instant, window: Duration) -> bool {
        let may = self.probed.is_none_or(|probed| probed + window <= now);
        if may {
            self.probed = Some(now);
        }
        may
    }

    /// The time after which a call with this timeout is sent if there are no new samples before: as a probe, or
    /// because the samples against it have expired.
    pub fn retry_after(&self, timeout: Duration, now: Instant, window: Duration) -> Duration {
        let lifetime = lifetime(window);
        let expiries = self.samples.iter().map(|(received, _)| (*received + lifetime).max(now));
        let admits = |at: &Instant| self.estimate(*at, window).least < timeout;
        let probe = self.probed.map_or(now, |probed| probed + window);
        let at = expiries.filter(admits).fold(probe, Instant::min);
        at.saturating_duration_since(now)
    }
}

fn lifetime(window: Duration) -> Duration {
    (window * 2).min(MAX_AGE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const W: Duration = Duration::from_secs(5);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn after(took: &[u64], now: Instant) -> Latency {
        let mut latency = Latency::default();
        took.iter().for_each(|took| latency.learn(now, ms(*took)));
        latency
    }

    #[test]
    fn one_slow_call_proves_nothing() {
        let now = Instant::now();
        let estimate = after(&[3_000], now).estimate(now, W);
        assert_eq!((estimate.least, estimate.usual), (Duration::ZERO, W / 25));
        assert_eq!(after(&[3_000, 60, 50, 70, 80], now).estimate(now, W).usual, ms(50));
    }

    #[test]
    fn an_endpoint_that_is_slow_repeatedly_is_slow() {
        let now = Instant::now();
        let estimate = after(&[3_000; 10], now).estimate(now, W);
        assert_eq!((estimate.least, estimate.usual), (ms(3_000), ms(3_000)));
    }

    #[test]
    fn samples_expire_after_two_windows() {
        let now = Instant::now();
        let latency = after(&[3_000; 10], now);
        assert_eq!(latency.estimate(now + W * 2 - ms(1), W).usual, ms(3_000));
        assert_eq!(latency.estimate(now + W * 2, W), LatencyEstimate::default());
        assert_eq!(latency.estimate(now + MAX_AGE, W * 100), LatencyEstimate::default());
    }

    #[test]
    fn one_call_per_window_is_a_probe() {
        let now = Instant::now();
        let mut latency = after(&[3_000; 10], now);
        assert!(latency.probe(now, W));
        assert!(!latency.probe(now + ms(1), W));
        assert_eq!(latency.retry_after(ms(2_000), now + ms(1), W), W - ms(1));
        assert!(latency.probe(now + W, W));
        // The samples expire before the next probe.
        let later = now + W + ms(4_000);
        assert_eq!(latency.retry_after(ms(2_000), later, W), ms(1_000));
    }

    proptest! {
        /// After any history, two windows of fast responses are enough.
        #[test]
        fn a_timeout_of_twice_the_median_is_enough_after_two_windows_of_good_responses(
            history in prop::collection::vec((0_u64..3_000, 1_u64..60_000), 0..80),
            good in prop::collection::vec(5_u64..400, 1..80),
            window in 100_u64..60_000,
            more in 1_u64..1_000,
        ) {
            let (mut latency, window) = (Latency::default(), ms(window));
            let mut now = Instant::now();
            for (pause, took) in history {
                now += ms(pause);
                latency.learn(now, ms(took));
            }
            let pace = window * 2 / u32::try_from(good.len()).unwrap() + ms(1);
            for took in &good {
                now += pace;
                latency.learn(now, ms(*took));
            }
            let mut sorted = good.clone();
            sorted.sort_unstable();
            let timeout = ms(2 * sorted[sorted.len() / 2] + more);
            // The last 32 calls may have been slower than the median of all.
            let recent = &good[good.len().saturating_sub(MAX_SAMPLES)..];
            let slow = recent.iter().filter(|took| ms(**took) >= timeout).count();
            prop_assume!(slow * 5 < recent.len() * 4);
            let estimate = latency.estimate(now, window);
            prop_assert!(estimate.least < timeout && estimate.usual < timeout, "{:?} {:?}", estimate, timeout);
        }

        /// A caller waits for at most one window, for any samples.
        #[test]
        fn a_call_that_waits_for_its_retry_delay_is_let_through(
            history in prop::collection::vec((0_u64..3_000, 1_u64..60_000), 1..80),
            timeout in 1_u64..60_000,
        ) {
            let (mut latency, timeout) = (Latency::default(), ms(timeout));
            let mut now = Instant::now();
            for (pause, took) in history {
                now += ms(pause);
                latency.learn(now, ms(took));
            }
            latency.probe(now, W);
            let after = latency.retry_after(timeout, now, W);
            prop_assert!(after <= W);
            now += after;
            prop_assert!(latency.estimate(now, W).least < timeout || latency.probe(now, W));
        }
    }
}
