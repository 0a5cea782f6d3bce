//! The daily quota. Pure, with the wall clock's `now` as an argument.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::context::Criticality;
use crate::domain::handover::DayHandover;

/// How long no call is sent after LeadSquared has closed the day, before one call may probe whether it is open again.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// Maximum retry delay of calls of the lower two classes on a closed day.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(600);

/// The state of the day at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DailySnapshot {
    /// Number of calls that the plan allows in a day. `None`: unknown.
    pub limit: Option<u64>,
    /// Number of calls so far.
    pub used: u64,
    /// Number of remaining calls. `None`: no limit is known.
    pub remaining: Option<u64>,
    /// When the next day begins.
    pub reset: Timestamp,
    /// When the quota will be used up at today's rate. `None`: not today, or it is used up.
    pub spent_at: Option<Timestamp>,
    /// Whether LeadSquared itself has refused calls because of the daily limit.
    pub closed: bool,
}

/// A change of whether calls are sent today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayChange {
    /// No call remains today.
    Exhausted {
        /// Whether LeadSquared has refused calls. Otherwise the limit of the settings is reached.
        by_upstream: bool,
        /// Number of calls so far.
        used: u64,
        /// When the next day begins.
        reset: Timestamp,
    },
    /// Calls are sent again.
    Available,
}

/// The daily quota.
#[derive(Debug)]
pub struct Daily {
    /// Number of calls that the plan allows in a day. 0: unknown.
    limit: u64,
    zone: TimeZone,
    today: Option<Date>,
    used: u64,
    /// LeadSquared has closed the day: when to probe next.
    closed: Option<Timestamp>,
    /// Whether the last change that [`Daily::change`] has returned is the end of the day.
    is_reported: bool,
}

impl Daily {
    /// A quota of this number of calls a day (0: unknown), counted from midnight in this zone.
    pub fn new(limit: u64, zone: TimeZone) -> Self {
        Self {
            limit,
            zone,
            today: None,
            used: 0,
            closed: None,
            is_reported: false,
        }
    }

    /// Whether [`Daily::change`] would return a change, unless another day has begun.
    pub fn has_change(&self) -> bool {
        self.is_over() != self.is_reported
    }

    fn is_over(&self) -> bool {
        (self.limit > 0 && self.used >= self.limit) || self.closed.is_some()
    }

    /// Returns the change since the last call of this function, for logs.
    pub fn change(&mut self, now: Timestamp) -> Option<DayChange> {
        self.advance(now);
        let is_over = self.is_over();
        if std::mem::replace(&mut self.is_reported, is_over) == is_over {
            return None;
        }
        Some(match is_over {
            true => DayChange::Exhausted {
                by_upstream: self.closed.is_some(),
                used: self.used,
                reset: now + self.until_reset(now),
            },
            false => DayChange::Available,
        })
    }

    /// The time until the next day begins, if [`Daily::change`] has returned that no call remains today.
    pub fn ends_in(&self, now: Timestamp) -> Option<Duration> {
        self.is_reported.then(|| self.until_reset(now))
    }

    /// Changes the settings. The count continues: with another zone, until the day in that zone ends.
    pub fn set_limit(&mut self, limit: u64, zone: TimeZone, now: Timestamp) {
        self.advance(now);
        self.today = Some(now.to_zoned(zone.clone()).date());
        (self.limit, self.zone) = (limit, zone);
    }

    /// Continues the count of a previous process.
    pub fn resume(&mut self, day: &str, used: u64) {
        self.today = day.parse().ok();
        self.used = used;
    }

    /// The state for the next owner of the tenant.
    pub fn handover(&mut self, now: Timestamp) -> DayHandover {
        let (day, calls) = self.usage(now);
        DayHandover {
            day,
            calls,
            closed_for: self
                .closed
                .map(|probe| now.duration_until(probe).try_into().unwrap_or_default()),
        }
    }

    /// Continues the day of the former owner of the tenant, which may have made this number of further calls.
    pub fn continue_day(&mut self, before: &DayHandover, uncounted: u64, now: Timestamp) {
        self.resume(&before.day, before.calls.saturating_add(uncounted));
        self.closed = before.closed_for.map(|wait| now + wait.min(PROBE_EVERY));
        self.advance(now);
    }

    /// The day, such as `2026-07-31`, and the number of its calls so far.
    pub fn usage(&mut self, now: Timestamp) -> (String, u64) {
        self.advance(now);
        let day = self.today.map(|day| day.to_string());
        (day.unwrap_or_default(), self.used)
    }

    /// Number of remaining calls today. `None`: no limit is known.
    pub fn remaining(&mut self, now: Timestamp) -> Option<u64> {
        self.advance(now);
        (self.limit > 0).then(|| self.limit.saturating_sub(self.used))
    }

    /// The time after which a call may be sent, if none may be sent now. On a day that LeadSquared has closed, one
    /// call may probe now and then whether it is open again. Calls of the lower two classes wait longer, so that the
    /// probe is a critical call.
    pub fn refusal(&mut self, now: Timestamp, criticality: Criticality) -> Option<Duration> {
        if self.remaining(now) == Some(0) {
            return Some(self.until_reset(now));
        }
        let probe = self.closed.filter(|probe| now < *probe)?;
        Some(match criticality.is_upper() {
            true => now.duration_until(probe).unsigned_abs(),
            false => self.until_reset(now).min(MAX_RETRY_DELAY),
        })
    }

    /// The state at this moment.
    pub fn snapshot(&mut self, now: Timestamp) -> DailySnapshot {
        let remaining = self.remaining(now);
        let closed = self.closed.is_some();
        DailySnapshot {
            limit: (self.limit > 0).then_some(self.limit),
            used: self.used,
            remaining,
            reset: now + self.until_reset(now),
            spent_at: self.spent_at(now).filter(|_| !closed && remaining != Some(0)),
            closed,
        }
    }

    /// When the quota will be used up at today's rate. If it is used up: now.
    fn spent_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let remaining = self.remaining(now);
        let midnight = now
            .to_zoned(self.zone.clone())
            .start_of_day()
            .map_or(now, |midnight| midnight.timestamp());
        let passed = now.duration_since(midnight).unsigned_abs();
        let at = remaining.filter(|_| self.used > 0).map(|remaining| {
            let per_call = passed.as_secs_f64() / self.used as f64;
            let left = Duration::try_from_secs_f64(per_call * remaining as f64).unwrap_or(Duration::MAX);
            now.checked_add(left).unwrap_or(Timestamp::MAX)
        });
        at.filter(|at| *at < now + self.until_reset(now))
    }

    /// Whether calls have to be saved: half of them are used, and at today's rate the rest will not last.
    pub fn is_short(&mut self, now: Timestamp) -> bool {
        let remaining = self.remaining(now);
        remaining.is_some_and(|remaining| remaining < self.used) && self.spent_at(now).is_some()
    }

    /// Counts a call that is about to be sent. On a closed day it is the probe.
    pub fn save_usage(&mut self, now: Timestamp) {
        self.advance(now);
        self.used += 1;
        if self.closed.is_some() {
            self.closed = Some(now + PROBE_EVERY);
        }
    }

    /// Takes back the count of a call that was not sent.
    pub fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// LeadSquared refused a call because of a limit that is not that of a window.
    pub fn close(&mut self, now: Timestamp) {
        self.closed = Some(now + PROBE_EVERY);
    }

    /// LeadSquared accepted a call.
    pub fn open(&mut self) {
        self.closed = None;
    }

    fn advance(&mut self, now: Timestamp) {
        let today = now.to_zoned(self.zone.clone()).date();
        if self.today != Some(today) {
            self.today = Some(today);
            self.used = 0;
            self.closed = None;
        }
    }

    fn until_reset(&self, now: Timestamp) -> Duration {
        let zoned = now.to_zoned(self.zone.clone());
        zoned
            .checked_add(Span::new().days(1))
            .and_then(|tomorrow| tomorrow.start_of_day())
            .map(|reset| now.duration_until(reset.timestamp()).unsigned_abs())
            .unwrap_or(PROBE_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_used_up_day_refuses_until_midnight_of_its_zone() {
        let mut daily = Daily::new(2, TimeZone::get("Asia/Kolkata").unwrap());
        let evening = at("2026-03-01T17:30:00Z");
        assert_eq!(daily.refusal(evening, Criticality::CriticalPlus), None);
        daily.save_usage(evening);
        daily.save_usage(evening);
        // 23:00 in Kolkata.
        assert_eq!(
            daily.refusal(evening, Criticality::CriticalPlus),
            Some(Duration::from_secs(3600))
        );
        assert_eq!(
            daily.refusal(at("2026-03-01T18:30:00Z"), Criticality::CriticalPlus),
            None
        );
        assert_eq!(daily.remaining(at("2026-03-01T18:30:00Z")), Some(2));
    }

    #[test]
    fn a_closed_day_lets_one_probe_through_a_minute() {
        let mut daily = Daily::new(0, TimeZone::UTC);
        daily.save_usage(at("2026-03-01T10:00:00Z"));
        daily.close(at("2026-03-01T10:00:00Z"));
        assert_eq!(
            daily.refusal(at("2026-03-01T10:00:59Z"), Criticality::CriticalPlus),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            daily.refusal(at("2026-03-01T10:01:00Z"), Criticality::CriticalPlus),
            None
        );
        daily.save_usage(at("2026-03-01T10:01:00Z"));
        assert!(
            daily
                .refusal(at("2026-03-01T10:01:01Z"), Criticality::CriticalPlus)
                .is_some()
        );
        daily.open();
        assert_eq!(
            daily.refusal(at("2026-03-01T10:01:02Z"), Criticality::CriticalPlus),
            None
        );
    }

    #[test]
    fn the_count_of_a_day_continues_after_a_restart_until_the_day_ends() {
        let now = at("2026-03-01T10:00:00Z");
        let mut before = Daily::new(2, TimeZone::UTC);
        before.save_usage(now);
        before.save_usage(now);
        let (day, used) = before.usage(now);
        assert_eq!((day.as_str(), used), ("2026-03-01", 2));

        let mut after = Daily::new(2, TimeZone::UTC);
        after.resume(&day, used);
        assert_eq!(after.remaining(now), Some(0));
        assert_eq!(after.remaining(at("2026-03-02T00:00:00Z")), Some(2));
        after.resume("nonsense", 7);
        assert_eq!(after.remaining(now), Some(2));
    }

    #[test]
    fn there_is_no_estimate_when_no_call_remains() {
        let (mut daily, noon) = (Daily::new(3, TimeZone::UTC), at("2026-03-01T12:00:00Z"));
        daily.save_usage(noon);
        daily.save_usage(noon);
        assert_eq!(daily.snapshot(noon).spent_at, Some(at("2026-03-01T18:00:00Z")));
        daily.close(noon);
        assert_eq!(daily.snapshot(noon).spent_at, None, "LeadSquared has closed the day");
        daily.open();
        daily.save_usage(noon);
        assert_eq!(
            (daily.snapshot(noon).spent_at, daily.snapshot(noon).remaining),
            (None, Some(0))
        );
        assert!(daily.is_short(noon));
    }

    #[test]
    fn a_changed_limit_or_zone_keeps_the_count_of_the_day() {
        let mut daily = Daily::new(5, TimeZone::UTC);
        let evening = at("2026-03-01T20:00:00Z");
        daily.save_usage(evening);
        daily.save_usage(evening);
        daily.set_limit(2, TimeZone::UTC, evening);
        assert_eq!(daily.remaining(evening), Some(0));
        // The next day has begun in Kolkata.
        daily.set_limit(3, TimeZone::get("Asia/Kolkata").unwrap(), evening);
        assert_eq!(daily.usage(evening), ("2026-03-02".to_owned(), 2));
        assert_eq!(daily.remaining(at("2026-03-02T18:29:59Z")), Some(1));
        assert_eq!(daily.remaining(at("2026-03-02T18:30:00Z")), Some(3));
    }

    #[test]
    fn the_end_of_the_day_and_its_reset_are_reported_once() {
        let mut daily = Daily::new(1, TimeZone::UTC);
        let (noon, reset) = (at("2026-03-01T12:00:00Z"), at("2026-03-02T00:00:00Z"));
        let exhausted = |by_upstream, used| {
            Some(DayChange::Exhausted {
                by_upstream,
                used,
                reset,
            })
        };
        assert_eq!((daily.change(noon), daily.ends_in(noon)), (None, None));
        daily.save_usage(noon);
        assert!(daily.has_change());
        assert_eq!(daily.change(noon), exhausted(false, 1));
        assert!(!daily.has_change());
        assert_eq!(
            (daily.change(noon), daily.ends_in(noon)),
            (None, Some(Duration::from_secs(43_200)))
        );
        // Without a call.
        assert_eq!(
            (daily.change(reset), daily.change(reset)),
            (Some(DayChange::Available), None)
        );

        let mut daily = Daily::new(0, TimeZone::UTC);
        daily.save_usage(noon);
        daily.close(noon);
        assert_eq!(daily.change(noon), exhausted(true, 1));
        // A probe that is refused again.
        daily.save_usage(noon);
        daily.close(noon);
        assert_eq!(daily.change(noon), None);
        daily.open();
        assert_eq!(daily.change(noon), Some(DayChange::Available));
    }

    #[test]
    fn a_call_that_was_not_sent_is_not_counted() {
        let mut daily = Daily::new(1, TimeZone::UTC);
        let now = at("2026-03-01T10:00:00Z");
        daily.save_usage(now);
        daily.give_back();
        assert_eq!(daily.remaining(now), Some(1));
    }

    #[test]
    fn calls_are_saved_once_half_are_used_and_the_rest_will_not_last() {
        let mut daily = Daily::new(100, TimeZone::UTC);
        let noon: Timestamp = "2026-07-31T12:00:00Z".parse().unwrap();
        for _ in 0..50 {
            daily.save_usage(noon);
        }
        assert!(!daily.is_short(noon), "half in half of the day");
        for _ in 0..20 {
            daily.save_usage(noon);
        }
        assert!(daily.is_short(noon));
        let evening: Timestamp = "2026-07-31T20:00:00Z".parse().unwrap();
        assert!(!daily.is_short(evening), "so it lasts");
        assert!(!Daily::new(0, TimeZone::UTC).is_short(noon));
    }
}
