//! The used part of the quota, window by window. Pure.

use tokio::time::Instant;

use crate::error::Limit;

/// Counts grants in consecutive windows.
#[derive(Debug, Default)]
pub struct UtilizationMeter {
    window: Option<Counted>,
    before: u32,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    from: Instant,
    grants: u32,
}

impl UtilizationMeter {
    /// Counts a granted slot.
    pub fn granted(&mut self, per: std::time::Duration, now: Instant) {
        self.advance(per, now);
        if let Some(window) = &mut self.window {
            window.grants += 1;
        }
    }

    /// The used part of the last whole window, from 0 to 1.
    pub fn last(&mut self, limit: Limit, now: Instant) -> f64 {
        self.advance(limit.per, now);
        f64::from(self.before) / f64::from(limit.calls.max(1))
    }

    fn advance(&mut self, per: std::time::Duration, now: Instant) {
        let Some(window) = self.window else {
            self.window = Some(Counted { from: now, grants: 0 });
            return;
        };
        let passed = now.saturating_duration_since(window.from);
        if passed >= per {
            // If several windows have passed, all but the first were empty.
            let is_next = passed < per * 2;
            self.before = if is_next { window.grants } else { 0 };
            let from = if is_next { window.from + per } else { now };
            self.window = Some(Counted { from, grants: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_utilization_is_that_of_the_last_whole_window() {
        let per = Duration::from_secs(5);
        let limit = Limit { calls: 10, per };
        let start = Instant::now();
        let mut meter = UtilizationMeter::default();
        for n in 0..5 {
            meter.granted(per, start + Duration::from_secs(n));
        }
        assert_eq!(meter.last(limit, start + Duration::from_secs(4)), 0.0);
        assert_eq!(meter.last(limit, start + Duration::from_secs(6)), 0.5);
        assert_eq!(meter.last(limit, start + Duration::from_secs(30)), 0.0);
    }
}
