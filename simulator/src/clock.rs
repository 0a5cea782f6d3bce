//! The wall clock of the simulator. It follows tokio's time, which tests can pause.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A wall clock that stops while tokio's time is paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    start: Instant,
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
        }
    }

    /// Returns the current wall time.
    pub(crate) fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap_or_default();
        self.wall.checked_add(passed).unwrap_or(self.wall)
    }

    /// Returns the time of [`Self::start`].
    pub(crate) fn started(&self) -> Instant {
        self.start
    }

    /// Returns the number of the current day of the daily limit. A day begins at `reset_hour`:00 UTC.
    pub(crate) fn day(&self, reset_hour: u8) -> i64 {
        (self.now().as_second() - i64::from(reset_hour) * 3_600).div_euclid(86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_follows_tokio_time() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now().as_second() - before.as_second(), 86_400);
        assert_eq!(clock.day(0), before.as_second().div_euclid(86_400) + 1);
    }
}
