//! The round trips of one endpoint: their minimum and their 95th percentile. Pure, and in constant memory.

use std::time::Duration;

use tokio::time::Instant;

/// Number of round trips that must be known before the estimates are used.
const WARM: u32 = 16;

/// The round trips of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips {
    known: u32,
    /// The minimum of all time. An outdated minimum is too small: slots are held slightly longer, which is safe.
    least: Duration,
    p95: Duration,
    first_response: Option<Instant>,
}

impl RoundTrips {
    /// The minimum round trip. Zero while too few round trips are known, since an overestimate would be wrong. The
    /// minimum of few samples is too high, so a margin is subtracted. The margin shrinks as more are known.
    pub fn least(&self) -> Duration {
        if self.known < WARM {
            return Duration::ZERO;
        }
        let unsure = (self.p95 - self.least) * WARM / self.known;
        self.least.saturating_sub(unsure)
    }

    /// An estimate of the 95th percentile. Zero while too few round trips are known.
    pub fn p95(&self) -> Duration {
        if self.known < WARM { Duration::ZERO } else { self.p95 }
    }

    /// Adds a response of the endpoint itself. Refusals are not added: a server in front of the endpoint may send them
    /// earlier.
    pub fn learn(&mut self, sent: Instant, received: Instant) {
        let took = received.saturating_duration_since(sent);
        // A call sent before the first response had to open a connection, which takes longer than a round trip.
        if sent < *self.first_response.get_or_insert(received) {
            return;
        }
        if self.known == 0 {
            (self.least, self.p95) = (took, took);
        }
        self.known = self.known.saturating_add(1);
        self.least = self.least.min(took);
        // Nineteen steps down balance one step up if one round trip in twenty is longer.
        let step = self.p95 / 50;
        self.p95 = if self.known <= WARM {
            // Fast at first, but one outlier among few samples must not make long delays usual.
            self.p95.max(took).min(self.least * 2)
        } else if took > self.p95 {
            self.p95 + step
        } else {
            self.p95.saturating_sub(step / 19).max(self.least)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(trips: &mut RoundTrips, now: &mut Instant, millis: u64) {
        let received = *now + Duration::from_millis(millis);
        trips.learn(*now, received);
        *now = received;
    }

    #[test]
    fn the_first_round_trips_give_no_estimate() {
        let (mut trips, mut now) = (RoundTrips::default(), Instant::now());
        for _ in 0..WARM {
            learn(&mut trips, &mut now, 80);
            assert_eq!((trips.least(), trips.p95()), (Duration::ZERO, Duration::ZERO));
        }
        learn(&mut trips, &mut now, 80);
        assert_eq!(trips.least(), Duration::from_millis(80));
    }

    #[test]
    fn the_minimum_of_few_round_trips_is_reduced_by_a_margin() {
        let (mut trips, mut now) = (RoundTrips::default(), Instant::now());
        for n in 0..=u64::from(WARM) {
            learn(&mut trips, &mut now, 80 + n);
        }
        assert!(trips.least() < Duration::from_millis(70));
    }

    #[test]
    fn a_burst_over_new_connections_is_ignored() {
        let (mut trips, now) = (RoundTrips::default(), Instant::now());
        for _ in 0..100 {
            trips.learn(now, now + Duration::from_millis(400));
        }
        assert_eq!(trips.least(), Duration::ZERO);
    }

    #[test]
    fn an_early_outlier_does_not_make_long_delays_usual() {
        let (mut trips, mut now) = (RoundTrips::default(), Instant::now());
        for n in 0..=u64::from(WARM) {
            learn(&mut trips, &mut now, if n == 5 { 900 } else { 80 });
        }
        assert!(trips.p95() <= Duration::from_millis(160));
    }

    #[test]
    fn the_percentile_converges_to_where_one_in_twenty_is_longer() {
        let (mut trips, mut now) = (RoundTrips::default(), Instant::now());
        let mut longer = 0;
        for n in 0_u64..20_000 {
            let millis = 80 + n * 7919 % 101;
            longer += usize::from(n >= 10_000 && Duration::from_millis(millis) > trips.p95());
            learn(&mut trips, &mut now, millis);
        }
        assert!((400..=600).contains(&longer), "{longer} of 10,000");
        let off = Duration::from_millis(80) - trips.least();
        assert!(off < Duration::from_micros(100), "{off:?}");
    }
}
