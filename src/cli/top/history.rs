//! The recent past of a quota: its utilization over the last minutes, and how counters have changed in the last minute. Pure, with
//! `now` as an argument.

use std::collections::VecDeque;
use std::time::Duration;

use leadgate::grpc::pb::{Quota, QuotaWindow};
use tokio::time::Instant;

/// The length of a column, if the interval of messages is not longer: the usual window.
const MIN_COLUMN: Duration = Duration::from_secs(5);
/// Maximum number of columns.
const MAX_COLUMNS: usize = 500;
/// The time over which changes of counters are shown.
const RECENT: Duration = Duration::from_secs(60);

/// The recent past of a quota.
#[derive(Clone, Debug)]
pub(super) struct History {
    column: Duration,
    /// When the first column begins.
    start: Option<Instant>,
    /// The number and the utilization in percent of each column with messages, the oldest first.
    columns: VecDeque<(u64, u64)>,
    /// The counters of the last minute, the oldest first. The first ones may be older.
    counters: VecDeque<(Instant, Counters)>,
    /// The owner of these counters.
    owner: (String, i64),
}

/// The counters of a quota, of both windows together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) own_refusals: i64,
    pub(super) foreign_refusals: i64,
    pub(super) holds: i64,
    pub(super) grants: i64,
}

/// How counters have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecentChange {
    pub(super) counters: Counters,
    pub(super) over: Duration,
}

impl Counters {
    pub(super) fn of(quota: &Quota) -> Self {
        let windows = [&quota.calls, &quota.bulk];
        let sum = |value: fn(&QuotaWindow) -> i64| {
            let values = windows.iter().filter_map(|window| window.as_ref().map(value));
            values.fold(0, i64::saturating_add)
        };
        Self {
            own_refusals: sum(|window| window.own_refusals),
            foreign_refusals: sum(|window| window.foreign_refusals),
            holds: sum(|window| window.holds),
            grants: quota.grants,
        }
    }

    /// `None`: a counter decreased, so another process counts.
    fn since(self, before: Self) -> Option<Self> {
        let change = |now: i64, before: i64| now.checked_sub(before).filter(|change| *change >= 0);
        Some(Self {
            own_refusals: change(self.own_refusals, before.own_refusals)?,
            foreign_refusals: change(self.foreign_refusals, before.foreign_refusals)?,
            holds: change(self.holds, before.holds)?,
            grants: change(self.grants, before.grants)?,
        })
    }
}

impl History {
    /// The history of messages with this interval.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            column: interval.max(MIN_COLUMN),
            start: None,
            columns: VecDeque::new(),
            counters: VecDeque::new(),
            owner: Default::default(),
        }
    }

    pub(super) fn add(&mut self, quota: &Quota, now: Instant) {
        let number = self.number(now);
        let percent = percent(quota.utilisation);
        match self.columns.back_mut() {
            Some((last, highest)) if *last >= number => *highest = percent.max(*highest),
            _ => self.columns.push_back((number, percent)),
        }
        while self.columns.len() > MAX_COLUMNS {
            self.columns.pop_front();
        }
        let counters = Counters::of(quota);
        let owner = (quota.owner.clone(), quota.epoch);
        let is_same = self.owner == owner
            && self
                .counters
                .back()
                .is_none_or(|(_, last)| counters.since(*last).is_some());
        if !is_same {
            self.counters.clear();
            self.owner = owner;
        }
        self.counters.push_back((now, counters));
        while self
            .counters
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= RECENT)
        {
            self.counters.pop_front();
        }
    }

    /// Returns the number of the column at a time. The first call begins the first column.
    fn number(&mut self, now: Instant) -> u64 {
        let start = *self.start.get_or_insert(now);
        number(now.saturating_duration_since(start), self.column)
    }

    /// The length of a column.
    pub(super) fn column(&self) -> Duration {
        self.column
    }

    /// Returns the utilization in percent of the last columns, the oldest first: the highest one of each column. `None`: there was
    /// no message.
    pub(super) fn utilization(&self, columns: usize, now: Instant) -> Vec<Option<u64>> {
        let mut all = vec![None; columns];
        let (Some(start), Some((newest, _))) = (self.start, self.columns.back()) else {
            return all;
        };
        // A column that has just begun has no message yet.
        let current = number(now.saturating_duration_since(start), self.column).saturating_sub(1);
        let last = current.max(*newest);
        for (number, percent) in &self.columns {
            let age = usize::try_from(last - number).unwrap_or(usize::MAX);
            if let Some(position) = columns.checked_sub(1).and_then(|end| end.checked_sub(age)) {
                all[position] = Some(*percent);
            }
        }
        all
    }

    /// Returns how the counters have changed in the last minute, or over the time that is known. `None` until the second message.
    pub(super) fn recent(&self) -> Option<RecentChange> {
        let ((first, before), (last, now)) = (self.counters.front()?, self.counters.back()?);
        let over = last.saturating_duration_since(*first);
        let counters = now.since(*before).filter(|_| self.counters.len() > 1)?;
        Some(RecentChange { counters, over })
    }
}

fn number(elapsed: Duration, column: Duration) -> u64 {
    u64::try_from(elapsed.as_millis() / column.as_millis().max(1)).unwrap_or(u64::MAX)
}

/// Returns a fraction in percent. A value out of range becomes the nearest one, and one that is not a number 0.
pub(super) fn percent(fraction: f64) -> u64 {
    (fraction * 100.0).round().clamp(0.0, 100.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(utilization: f64, refusals: i64) -> Quota {
        Quota {
            utilisation: utilization,
            bulk: Some(QuotaWindow {
                foreign_refusals: refusals,
                ..Default::default()
            }),
            calls: Some(QuotaWindow {
                foreign_refusals: 1,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_column_has_its_highest_utilization_and_a_gap_has_none() {
        let (mut history, start) = (History::new(Duration::from_secs(1)), Instant::now());
        for (at, utilization) in [(0, 0.2), (1, 0.5), (4, 0.1), (5, 0.3), (20, 1.0)] {
            history.add(&quota(utilization, 0), after(start, at));
        }
        let shown = history.utilization(6, after(start, 20));
        assert_eq!(shown, [None, Some(50), Some(30), None, None, Some(100)]);
        assert_eq!(history.utilization(2, after(start, 20)), [None, Some(100)]);
        // Without messages, the columns move on.
        let shown = history.utilization(3, after(start, 30));
        assert_eq!(shown, [None, Some(100), None]);
        assert_eq!(history.utilization(0, start), []);
    }

    #[test]
    fn absurd_utilizations_are_in_the_range() {
        for (fraction, shown) in [
            (f64::NAN, 0),
            (f64::NEG_INFINITY, 0),
            (-1.0, 0),
            (f64::INFINITY, 100),
            (1e300, 100),
            (0.724, 72),
        ] {
            assert_eq!(percent(fraction), shown, "{fraction}");
        }
    }

    #[test]
    fn changes_are_those_of_the_last_minute() {
        let (mut history, start) = (History::new(Duration::from_secs(1)), Instant::now());
        assert_eq!(history.recent(), None);
        history.add(&quota(0.0, 5), start);
        assert_eq!(history.recent(), None);
        for at in 1..=100 {
            history.add(&quota(0.0, 5 + i64::try_from(at).unwrap()), after(start, at));
        }
        let recent = history.recent().unwrap();
        assert_eq!((recent.counters.foreign_refusals, recent.over), (60, RECENT));
        assert!(history.counters.len() <= 62);
    }

    #[test]
    fn counters_of_another_process_begin_again() {
        let (mut history, start) = (History::new(Duration::from_secs(1)), Instant::now());
        history.add(&quota(0.0, 5), start);
        history.add(&quota(0.0, 3), after(start, 1));
        assert_eq!(history.recent(), None);
        history.add(&quota(0.0, 4), after(start, 2));
        assert_eq!(history.recent().unwrap().counters.foreign_refusals, 1);
        let moved = Quota {
            epoch: 2,
            ..quota(0.0, 9)
        };
        history.add(&moved, after(start, 3));
        assert_eq!(history.recent(), None);
    }

    #[test]
    fn absurd_counters_are_no_change() {
        let (mut history, start) = (History::new(Duration::from_secs(1)), Instant::now());
        for (at, refusals) in [i64::MIN, i64::MAX, i64::MIN, 0].into_iter().enumerate() {
            history.add(&quota(0.0, refusals), after(start, at as u64));
        }
    }
}
