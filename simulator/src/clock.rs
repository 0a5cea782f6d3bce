//! The wall clock of the simulator: the only one, which everything with a date asks. It follows tokio's time, which tests
//! can pause, and it can be advanced and stopped.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Maximum time by which the clock can be advanced: ten years.
const MAX_OFFSET: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A wall clock that stops while tokio's time is paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    start: Instant,
    offset: Duration,
    is_stopped: bool,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the system clock is read once; later times are this one plus tokio's time"
    )]
    pub(crate) fn start() -> Self {
        Self {
            wall: Timestamp::now(),
            start: Instant::now(),
            offset: Duration::ZERO,
            is_stopped: false,
        }
    }

    /// Returns the current wall time.
    pub(crate) fn now(&self) -> Timestamp {
        let running = match self.is_stopped {
            true => Duration::ZERO,
            false => self.start.elapsed(),
        };
        let passed = SignedDuration::try_from(running + self.offset).unwrap_or_default();
        self.wall.checked_add(passed).unwrap_or(self.wall)
    }

    /// Advances the clock. Returns an error, and leaves the clock unchanged, if it would be advanced by more than
    /// [`MAX_OFFSET`] in total.
    pub(crate) fn advance(&mut self, by: Duration) -> Result<(), String> {
        let offset = self.offset.checked_add(by).filter(|offset| *offset <= MAX_OFFSET);
        let days = MAX_OFFSET.as_secs() / 86_400;
        self.offset = offset.ok_or_else(|| format!("the clock can be advanced by at most {days} days in total"))?;
        Ok(())
    }

    /// Stops the clock at a time. From then on, only [`Self::advance`] changes it.
    pub(crate) fn stop_at(&mut self, time: Timestamp) {
        (self.wall, self.offset, self.is_stopped) = (time, Duration::ZERO, true);
    }

    /// Returns the time by which the clock was advanced.
    pub(crate) fn offset(&self) -> Duration {
        self.offset
    }

    /// Returns the time of [`Self::start`].
    pub(crate) fn started(&self) -> Instant {
        self.start
    }

    /// Returns the number of the current day of the daily limit. A day begins at `reset_hour`:00 UTC.
    pub(crate) fn day(&self, reset_hour: u8) -> i64 {
        (self.now().as_second() - i64::from(reset_hour) * 3_600).div_euclid(86_400)
    }

    /// Returns the current wall time in the form of the header `Date`.
    pub(crate) fn http_date(&self) -> String {
        self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_follows_tokio_time() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now().as_second() - before.as_second(), 86_400);
        assert_eq!(clock.day(0), before.as_second().div_euclid(86_400) + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_advanced_clock_continues_from_its_new_time() {
        let mut clock = Clock::start();
        let before = clock.now();
        let day = Duration::from_secs(86_400);
        clock.advance(day).unwrap();
        clock.advance(day).unwrap();
        tokio::time::advance(day).await;
        assert_eq!(clock.now().duration_since(before), SignedDuration::from_hours(72));
        assert_eq!(
            (clock.offset(), clock.day(0)),
            (day * 2, before.as_second().div_euclid(86_400) + 3)
        );

        assert!(clock.advance(MAX_OFFSET).is_err() && clock.advance(Duration::MAX).is_err());
        assert_eq!(clock.offset(), day * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_clock_changes_only_when_it_is_advanced() {
        let mut clock = Clock::start();
        let time: Timestamp = "2026-01-31T09:30:00Z".parse().unwrap();
        clock.advance(Duration::from_secs(60)).unwrap();
        clock.stop_at(time);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((clock.now(), clock.offset()), (time, Duration::ZERO));
        clock.advance(Duration::from_secs(90)).unwrap();
        assert_eq!(clock.now().to_string(), "2026-01-31T09:31:30Z");
    }

    #[test]
    fn an_http_date_has_the_form_of_rfc_9110() {
        let mut clock = Clock::start();
        clock.wall = "1994-11-06T08:49:37.5Z".parse().unwrap();
        clock.start = Instant::now();
        assert_eq!(clock.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
