//! The recorded calls, the times of the accepted ones, and counts. Decides nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

/// More stamps than this are not kept; the oldest go first.
const STAMPS_KEPT: usize = 1_000_000;

/// One request, as it was received.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The endpoint's name, as `Lead.Create`; the path where there is no such endpoint.
    pub endpoint: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The headers, keys included.
    pub headers: Vec<(String, String)>,
    /// The body; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// When it met the limits.
    pub stamp: Instant,
    /// The HTTP status of the response; 0 if there is none yet, or none was sent.
    pub status: u16,
    /// Whether a limit, or a fault that looks like one, refused it.
    pub refused: bool,
}

impl Recorded {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(known, _)| known == name)?;
    Some(&found.1)
}

/// Counts since the start, or since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Calls that the limits accepted.
    pub accepted: u64,
    /// Calls refused by a limit or a fault that looks like one.
    pub refused: u64,
    /// Of those, refused by the daily limit.
    pub refused_daily: u64,
    /// Calls with the response 401.
    pub unauthorized: u64,
    /// Accepted calls of each endpoint.
    pub endpoints: BTreeMap<String, u64>,
    /// Calls the daily limit has counted today.
    pub daily_used: u64,
    /// The most accepted calls that pay the ordinary limit in any half-open window.
    pub worst_window: usize,
    /// The most accepted bulk calls in any half-open window.
    pub worst_bulk_window: usize,
    /// The stamp of the first accepted call, in milliseconds since the start.
    pub first_stamp_ms: Option<u64>,
    /// The stamp of the last accepted call, in milliseconds since the start.
    pub last_stamp_ms: Option<u64>,
    /// Milliseconds since the start.
    pub now_ms: u64,
    /// Stored leads.
    pub leads: usize,
    /// Stored activities.
    pub activities: usize,
    /// Live shares.
    pub shares: usize,
    /// Uniqueness conflicts, bulk rows included.
    pub duplicates: u64,
    /// Updates with `postUpdatedLead=true` that reached a lead.
    pub automations_fired: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Connections closed without a response.
    pub dropped: u64,
}

/// The log behind [`Recorded`] and [`Stats`].
#[derive(Debug)]
pub(crate) struct Journal {
    start: Instant,
    calls: VecDeque<Recorded>,
    /// How many calls were removed from the front, so that an id still finds its call.
    forgotten: u64,
    ordinary: VecDeque<Instant>,
    bulk: VecDeque<Instant>,
    /// The counts that are updated with each call. The rest of [`Stats`] is computed on request.
    pub(crate) counts: Stats,
}

/// Identifies a recorded call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallId(u64);

impl Journal {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            calls: VecDeque::new(),
            forgotten: 0,
            ordinary: VecDeque::new(),
            bulk: VecDeque::new(),
            counts: Stats::default(),
        }
    }

    /// Records a call. Keeps at most `keep` calls.
    pub(crate) fn record(&mut self, call: Recorded, keep: usize) -> CallId {
        self.calls.push_back(call);
        while self.calls.len() > keep {
            self.calls.pop_front();
            self.forgotten += 1;
        }
        CallId(self.forgotten + self.calls.len() as u64)
    }

    /// Records the outcome of a call.
    pub(crate) fn record_outcome(&mut self, call_id: CallId, status: u16, refused: bool) {
        // Ids start at 1, so that the id of a call that was never kept matches no call.
        let place = call_id.0.checked_sub(self.forgotten + 1);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(call) = place.and_then(|place| self.calls.get_mut(place)) {
            (call.status, call.refused) = (status, refused);
        }
    }

    /// Counts a call that the limits accepted.
    pub(crate) fn accept(&mut self, endpoint: &str, stamp: Instant, bulk: bool, ordinary: bool) {
        self.counts.accepted += 1;
        *self.counts.endpoints.entry(endpoint.into()).or_default() += 1;
        for (stamps, counts) in [(&mut self.ordinary, ordinary), (&mut self.bulk, bulk)] {
            if counts {
                stamps.push_back(stamp);
            }
            if stamps.len() > STAMPS_KEPT {
                stamps.pop_front();
            }
        }
        let millis = self.millis(stamp);
        self.counts.first_stamp_ms.get_or_insert(millis);
        self.counts.last_stamp_ms = Some(millis);
    }

    pub(crate) fn calls(&self) -> Vec<Recorded> {
        self.calls.iter().cloned().collect()
    }

    pub(crate) fn forget_calls(&mut self) {
        self.forgotten += self.calls.len() as u64;
        self.calls.clear();
    }

    pub(crate) fn worst_window(&self, per: Duration) -> usize {
        max_within(&self.ordinary, per)
    }

    pub(crate) fn worst_bulk_window(&self, per: Duration) -> usize {
        max_within(&self.bulk, per)
    }

    /// Milliseconds from the start to `stamp`.
    pub(crate) fn millis(&self, stamp: Instant) -> u64 {
        u64::try_from((stamp - self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The most stamps in any half-open interval of length `per`; the stamps are in order.
fn max_within(stamps: &VecDeque<Instant>, per: Duration) -> usize {
    let mut first = 0;
    let mut largest = 0;
    for (place, &stamp) in stamps.iter().enumerate() {
        while first < place && stamp - stamps[first] >= per {
            first += 1;
        }
        largest = largest.max(place - first + 1);
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(endpoint: &str) -> Recorded {
        Recorded {
            endpoint: endpoint.into(),
            method: "GET".into(),
            path: String::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: String::new(),
            stamp: Instant::now(),
            status: 0,
            refused: false,
        }
    }

    #[test]
    fn the_worst_window_is_half_open() {
        let start = Instant::now();
        let at = |millis: &[u64]| -> VecDeque<_> { millis.iter().map(|&n| start + Duration::from_millis(n)).collect() };
        let per = Duration::from_secs(5);
        assert_eq!(max_within(&at(&[]), per), 0);
        assert_eq!(max_within(&at(&[0, 5_000, 10_000]), per), 1);
        assert_eq!(max_within(&at(&[0, 1, 4_999, 5_000, 5_001, 9_000]), per), 4);
    }

    #[test]
    fn an_outcome_finds_its_call_after_older_ones_are_gone() {
        let mut journal = Journal::new(Instant::now());
        let old = journal.record(call("a"), 2);
        let kept = journal.record(call("b"), 2);
        journal.record(call("c"), 2);
        journal.record_outcome(old, 500, false);
        journal.record_outcome(kept, 429, true);
        let outcomes: Vec<_> = journal
            .calls()
            .iter()
            .map(|call| (call.endpoint.clone(), call.status, call.refused))
            .collect();
        assert_eq!(outcomes, [("b".into(), 429, true), ("c".into(), 0, false)]);

        journal.forget_calls();
        journal.record_outcome(kept, 200, false);
        let next = journal.record(call("d"), 2);
        journal.record_outcome(next, 200, false);
        assert_eq!(journal.calls()[0].status, 200);
    }

    #[test]
    fn a_journal_can_keep_no_calls() {
        let mut journal = Journal::new(Instant::now());
        let call_id = journal.record(call("a"), 0);
        journal.record_outcome(call_id, 200, false);
        assert!(journal.calls().is_empty());
    }
}
