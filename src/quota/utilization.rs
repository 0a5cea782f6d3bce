//! The used part of the quota, window by window, and what the use of a window says. Pure.

use tokio::time::Instant;

use crate::error::Limit;

/// The part of the effective limit that the calls of a window use if the window is full. Slots become free one after the other, so
/// a full window may have a free slot at any moment.
const FULL: f64 = 0.9;

/// The use of one limit. The status page and `leadgate top` judge it by the same rules.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WindowUse {
    /// The limit.
    pub limit: i64,
    /// Calls of the limit that are kept for other users of the account.
    pub reserve: i64,
    /// Calls of the limit that leadgate uses.
    pub effective: i64,
    /// Slots in use.
    pub used: i64,
    /// Refusals because of other users of the account, so far.
    pub foreign_refusals: i64,
    /// The used part of the limit in the last whole window. 0: unknown.
    pub utilization: f64,
}

impl WindowUse {
    /// Whether leadgate keeps a large part of the limit free for other users of the account. Only they cause foreign refusals.
    pub fn is_shared(&self) -> bool {
        let available = self.limit.saturating_sub(self.reserve.max(0));
        self.foreign_refusals > 0 && self.effective.saturating_mul(5) <= available.saturating_mul(4)
    }

    /// Whether the effective limit is used up.
    pub fn is_full(&self) -> bool {
        let was_full = self.utilization * self.limit as f64 >= self.effective as f64 * FULL;
        self.effective > 0 && (self.used >= self.effective || was_full)
    }
}

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
    fn a_window_is_shared_if_foreign_refusals_have_lowered_its_effective_limit() {
        let window = |reserve, effective, foreign_refusals| WindowUse {
            limit: 25,
            reserve,
            effective,
            foreign_refusals,
            ..WindowUse::default()
        };
        assert!(window(0, 20, 1).is_shared());
        assert!(!window(0, 20, 0).is_shared(), "no refusal");
        assert!(!window(0, 21, 1).is_shared(), "a small difference");
        assert!(!window(5, 20, 1).is_shared(), "the reserve alone");
        assert!(window(5, 16, 1).is_shared());
    }

    #[test]
    fn a_window_is_full_now_or_by_its_utilization() {
        let window = |effective, used, utilization| WindowUse {
            limit: 25,
            effective,
            used,
            utilization,
            ..WindowUse::default()
        };
        assert!(window(25, 25, 0.0).is_full());
        assert!(window(25, 20, 0.92).is_full());
        assert!(!window(25, 24, 0.88).is_full());
        assert!(window(10, 8, 0.4).is_full(), "all of the effective limit");
        assert!(!window(0, 0, 0.0).is_full(), "nothing is known");
    }

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
