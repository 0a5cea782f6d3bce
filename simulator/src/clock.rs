//! The simulator's clock and its dice: wall time that follows tokio's time, and a small
//! seeded generator. Neither knows what it is used for.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

/// A wall clock that stands still when tokio's time is paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "read once; all later readings follow tokio's time"
    )]
    pub(crate) fn start() -> Self {
        Self {
            // The only look at the real wall clock: everything later is this plus tokio's time.
            wall: Timestamp::now(),
            start: Instant::now(),
        }
    }

    /// The wall time now.
    pub(crate) fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap_or_default();
        self.wall.checked_add(passed).unwrap_or(self.wall)
    }

    pub(crate) fn started(&self) -> Instant {
        self.start
    }

    /// The vendor's day `now` falls in, for a day that begins at `reset_hour` o'clock UTC.
    pub(crate) fn day(&self, reset_hour: u8) -> i64 {
        (self.now().as_second() - i64::from(reset_hour) * 3_600).div_euclid(86_400)
    }
}

/// splitmix64: the same seed gives the same ids and the same latencies.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A lower-case GUID of the usual form.
    pub(crate) fn guid(&mut self) -> String {
        Uuid::from_u64_pair(self.next(), self.next()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_follows_paused_time() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now().as_second() - before.as_second(), 86_400);
        assert_eq!(clock.day(0), before.as_second().div_euclid(86_400) + 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let mut one = Dice::new(7);
        let mut two = Dice::new(7);
        assert_eq!(one.guid(), two.guid());
        assert_ne!(one.guid(), Dice::new(8).guid());
    }
}
