//! How long an endpoint takes to answer: the least round trip and the 95th percentile. Pure, and in constant memory.

use std::time::Duration;

use tokio::time::Instant;

/// So many round trips have to be known before their least is believed.
const WARM: u32 = 16;

/// The round trips of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips {
    known: u32,
    /// The least of all time. One that is out of date is too small, which costs a little and breaks no promise.
    least: Duration,
    p95: Duration,
    first_answer: Option<Instant>,
}

impl RoundTrips {
    /// The least round trip; nothing while too few are known, since what is assumed may not be too long. The least of few
    /// is not yet the least of all: something is taken off, and ever less.
    pub fn least(&self) -> Duration {
        if self.known < WARM {
            return Duration::ZERO;
        }
        let unsure = (self.p95 - self.least) * WARM / self.known;
        self.least.saturating_sub(unsure)
    }

    /// An estimate of the 95th percentile; nothing while too few are known.
    pub fn p95(&self) -> Duration {
        if self.known < WARM { Duration::ZERO } else { self.p95 }
    }

    /// A call was answered by the endpoint itself: a refusal may come from something in front of it, and sooner.
    pub fn learn(&mut self, sent: Instant, answered: Instant) {
        let took = answered.saturating_duration_since(sent);
        // What was sent before the first answer has opened a connection, which takes longer than a round trip.
        if sent < *self.first_answer.get_or_insert(answered) {
            return;
        }
        if self.known == 0 {
            (self.least, self.p95) = (took, took);
        }
        self.known = self.known.saturating_add(1);
        self.least = self.least.min(took);
        // Nineteen steps down for one step up: they balance where one round trip in twenty is longer.
        let step = self.p95 / 50;
        self.p95 = if self.known <= WARM {
            // Quickly at first, but one outlier among few shall not make long delays usual.
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
        let answered = *now + Duration::from_millis(millis);
        trips.learn(*now, answered);
        *now = answered;
    }

    #[test]
    fn nothing_is_believed_of_the_first_round_trips() {
        let (mut trips, mut now) = (RoundTrips::default(), Instant::now());
        for _ in 0..WARM {
            learn(&mut trips, &mut now, 80);
            assert_eq!((trips.least(), trips.p95()), (Duration::ZERO, Duration::ZERO));
        }
        learn(&mut trips, &mut now, 80);
        assert_eq!(trips.least(), Duration::from_millis(80));
    }

    #[test]
    fn the_least_of_few_is_not_yet_believed_in_full() {
        let (mut trips, mut now) = (RoundTrips::default(), Instant::now());
        for n in 0..=u64::from(WARM) {
            learn(&mut trips, &mut now, 80 + n);
        }
        assert!(trips.least() < Duration::from_millis(70));
    }

    #[test]
    fn a_burst_over_new_connections_teaches_nothing() {
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
    fn the_percentile_settles_where_one_in_twenty_is_longer() {
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
