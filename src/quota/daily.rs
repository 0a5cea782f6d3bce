//! The calls of a day: pure bookkeeping with the wall clock's `now` as an argument.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::context::Criticality;

/// How long a closed day is left alone before one call may try whether it is open again.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// How long those who can wait are sent away from a closed day, unless it ends before.
const AWAY: Duration = Duration::from_secs(600);

/// The state of a day at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The most calls of a day; `None` where none is known.
    pub limit: Option<u64>,
    /// The calls so far.
    pub used: u64,
    /// The calls that are left; `None` where no limit is known.
    pub remaining: Option<u64>,
    /// When the next day begins.
    pub reset: Timestamp,
    /// When the calls will be spent if they go on as they did today; `None`: not today.
    pub spent_at: Option<Timestamp>,
    /// Whether LeadSquared itself has said that the day is over.
    pub closed: bool,
}

/// The budget of a day.
#[derive(Debug)]
pub struct Daily {
    /// The most calls of a day; 0 where none is known.
    limit: u64,
    zone: TimeZone,
    today: Option<Date>,
    used: u64,
    /// LeadSquared itself said that the day is over: when to try again.
    closed: Option<Timestamp>,
}

impl Daily {
    /// A budget of so many calls a day (0: none known), counted from midnight in that zone.
    pub fn new(limit: u64, zone: TimeZone) -> Self {
        Self {
            limit,
            zone,
            today: None,
            used: 0,
            closed: None,
        }
    }

    /// Goes on where the process before has ended.
    pub fn resume(&mut self, day: &str, used: u64) {
        self.today = day.parse().ok();
        self.used = used;
    }

    /// The day, as `2026-07-31`, and its calls so far.
    pub fn usage(&mut self, now: Timestamp) -> (String, u64) {
        self.turn(now);
        let day = self.today.map(|day| day.to_string());
        (day.unwrap_or_default(), self.used)
    }

    /// How many calls are left today; `None` where no limit is known.
    pub fn remaining(&mut self, now: Timestamp) -> Option<u64> {
        self.turn(now);
        (self.limit > 0).then(|| self.limit.saturating_sub(self.used))
    }

    /// Why there can be no call now: how long until there may be one. On a day that LeadSquared has closed one call may try
    /// now and then whether it is open again; those that can wait are sent away for longer, so that it is a critical one.
    pub fn refusal(&mut self, now: Timestamp, criticality: Criticality) -> Option<Duration> {
        if self.remaining(now) == Some(0) {
            return Some(self.until_reset(now));
        }
        let probe = self.closed.filter(|probe| now < *probe)?;
        Some(match criticality.is_upper() {
            true => now.duration_until(probe).unsigned_abs(),
            false => self.until_reset(now).min(AWAY),
        })
    }

    /// The state at that moment.
    pub fn snapshot(&mut self, now: Timestamp) -> Snapshot {
        let remaining = self.remaining(now);
        let reset = now + self.until_reset(now);
        let midnight = now
            .to_zoned(self.zone.clone())
            .start_of_day()
            .map_or(now, |midnight| midnight.timestamp());
        let passed = now.duration_since(midnight).unsigned_abs();
        let spent_at = remaining.filter(|_| self.used > 0).map(|remaining| {
            let per_call = passed.as_secs_f64() / self.used as f64;
            let left = Duration::try_from_secs_f64(per_call * remaining as f64).unwrap_or(Duration::MAX);
            now.checked_add(left).unwrap_or(Timestamp::MAX)
        });
        Snapshot {
            limit: (self.limit > 0).then_some(self.limit),
            used: self.used,
            remaining,
            reset,
            spent_at: spent_at.filter(|at| *at < reset),
            closed: self.closed.is_some(),
        }
    }

    /// Whether calls should be saved: half of them are spent, and as they go on the rest will not last.
    pub fn is_short(&mut self, now: Timestamp) -> bool {
        let remaining = self.remaining(now);
        remaining.is_some_and(|remaining| remaining < self.used) && self.snapshot(now).spent_at.is_some()
    }

    /// A call is about to be made. In a closed day it is the probe.
    pub fn save_usage(&mut self, now: Timestamp) {
        self.turn(now);
        self.used += 1;
        if self.closed.is_some() {
            self.closed = Some(now + PROBE_EVERY);
        }
    }

    /// A call was not made after all.
    pub fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// LeadSquared refused in words that fit no window.
    pub fn close(&mut self, now: Timestamp) {
        self.closed = Some(now + PROBE_EVERY);
    }

    /// LeadSquared accepted a call.
    pub fn open(&mut self) {
        self.closed = None;
    }

    fn turn(&mut self, now: Timestamp) {
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
    fn a_spent_day_refuses_until_midnight_of_its_zone() {
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
    fn a_day_goes_on_over_a_restart_and_ends_with_the_day() {
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
    fn what_was_not_made_is_not_counted() {
        let mut daily = Daily::new(1, TimeZone::UTC);
        let now = at("2026-03-01T10:00:00Z");
        daily.save_usage(now);
        daily.give_back();
        assert_eq!(daily.remaining(now), Some(1));
    }

    #[test]
    fn calls_are_to_be_saved_once_half_are_spent_and_the_rest_will_not_last() {
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
