//! The journal: recorded calls, the times of accepted calls, and counters.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

/// Maximum number of recorded times of accepted calls. Older ones are deleted.
const MAX_STAMPS: usize = 1_000_000;

/// A recorded call: the request as it was received, and the status of the response.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The name of the endpoint, such as `Lead.Create`. For an unknown endpoint the path.
    pub endpoint: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The decoded query parameters, in order.
    pub query: Vec<(String, String)>,
    /// The headers, including the keys.
    pub headers: Vec<(String, String)>,
    /// The body. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub body: String,
    /// The time at which the limits checked the call.
    pub stamp: Instant,
    /// The HTTP status of the response. 0 if no response was sent.
    pub status: u16,
    /// Whether the call was refused by a limit, or by the fault `refuse` or `refuse-daily`.
    pub refused: bool,
}

impl Recorded {
    /// Returns the value of a header. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Returns the value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(known, _)| known == name)?;
    Some(&found.1)
}

/// Counters since the start or since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Number of accepted calls.
    pub accepted: u64,
    /// Number of calls refused by a limit, or by the fault `refuse` or `refuse-daily`.
    pub refused: u64,
    /// Number of calls refused by the daily limit or by the fault `refuse-daily`. Included in `refused`.
    pub refused_daily: u64,
    /// Number of calls with the status 401.
    pub unauthorized: u64,
    /// Number of accepted calls of each endpoint.
    pub endpoints: BTreeMap<String, u64>,
    /// Number of calls that the daily limit has counted today.
    pub daily_used: u64,
    /// Maximum number of accepted calls in any half-open window, among the calls that count against the ordinary limit.
    pub worst_window: usize,
    /// Maximum number of accepted bulk calls in any half-open window.
    pub worst_bulk_window: usize,
    /// Time of the first accepted call, in milliseconds since the start.
    pub first_stamp_ms: Option<u64>,
    /// Time of the last accepted call, in milliseconds since the start.
    pub last_stamp_ms: Option<u64>,
    /// Current time, in milliseconds since the start.
    pub now_ms: u64,
    /// Number of stored leads.
    pub leads: usize,
    /// Number of stored activities.
    pub activities: usize,
    /// Number of shares that have not expired.
    pub shares: usize,
    /// Number of conflicts over unique attributes, including those of bulk rows.
    pub duplicates: u64,
    /// Number of updates of existing leads that fired automations.
    pub automations_fired: u64,
    /// Number of calls to which a fault was applied.
    pub faults: u64,
    /// Number of connections that a fault closed without a response.
    pub dropped: u64,
    /// In a replay: number of calls that the recording does not have, since the start.
    pub replay_unmatched: u64,
    /// In a replay: number of recorded responses that no call has got, since the start.
    pub replay_unused: usize,
}

/// The recorded calls and the counters.
#[derive(Debug)]
pub(crate) struct Journal {
    start: Instant,
    calls: VecDeque<Recorded>,
    /// Number of calls that were removed from the front. It maps an id to a position.
    removed: u64,
    ordinary: VecDeque<Instant>,
    bulk: VecDeque<Instant>,
    /// The counters that each call updates. The other fields of [`Stats`] are computed on request.
    pub(crate) counts: Stats,
}

/// Identifies a recorded call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallId(pub(crate) u64);

impl Journal {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            calls: VecDeque::new(),
            removed: 0,
            ordinary: VecDeque::new(),
            bulk: VecDeque::new(),
            counts: Stats::default(),
        }
    }

    /// Returns an empty journal. It continues the ids of this one, so that a call that is in progress is not taken for
    /// another one.
    pub(crate) fn emptied(&self, start: Instant) -> Self {
        Self {
            removed: self.removed + self.calls.len() as u64,
            ..Self::new(start)
        }
    }

    /// Records a call. Keeps at most `keep` calls.
    pub(crate) fn record(&mut self, call: Recorded, keep: usize) -> CallId {
        self.calls.push_back(call);
        while self.calls.len() > keep {
            self.calls.pop_front();
            self.removed += 1;
        }
        CallId(self.removed + self.calls.len() as u64)
    }

    /// Records the outcome of a call.
    pub(crate) fn record_outcome(&mut self, call_id: CallId, status: u16, refused: bool) {
        // Ids start at 1, so that the id of a call that was not recorded matches no call.
        let index = call_id.0.checked_sub(self.removed + 1);
        let index = index.and_then(|index| usize::try_from(index).ok());
        if let Some(call) = index.and_then(|index| self.calls.get_mut(index)) {
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
            if stamps.len() > MAX_STAMPS {
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
        self.removed += self.calls.len() as u64;
        self.calls.clear();
    }

    pub(crate) fn worst_window(&self, per: Duration) -> usize {
        max_within(&self.ordinary, per)
    }

    pub(crate) fn worst_bulk_window(&self, per: Duration) -> usize {
        max_within(&self.bulk, per)
    }

    /// Returns the milliseconds from the start to `stamp`.
    pub(crate) fn millis(&self, stamp: Instant) -> u64 {
        u64::try_from((stamp - self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Returns the maximum number of times in any half-open interval of the length `per`. `stamps` is sorted.
fn max_within(stamps: &VecDeque<Instant>, per: Duration) -> usize {
    let mut first = 0;
    let mut largest = 0;
    for (index, &stamp) in stamps.iter().enumerate() {
        while first < index && stamp - stamps[first] >= per {
            first += 1;
        }
        largest = largest.max(index - first + 1);
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
    fn the_maximum_is_of_half_open_windows() {
        let start = Instant::now();
        let at = |millis: &[u64]| -> VecDeque<_> { millis.iter().map(|&n| start + Duration::from_millis(n)).collect() };
        let per = Duration::from_secs(5);
        assert_eq!(max_within(&at(&[]), per), 0);
        assert_eq!(max_within(&at(&[0, 5_000, 10_000]), per), 1);
        assert_eq!(max_within(&at(&[0, 1, 4_999, 5_000, 5_001, 9_000]), per), 4);
    }

    #[test]
    fn an_outcome_is_recorded_after_older_calls_are_removed() {
        let mut journal = Journal::new(Instant::now());
        let old = journal.record(call("a"), 2);
        let recent = journal.record(call("b"), 2);
        journal.record(call("c"), 2);
        journal.record_outcome(old, 500, false);
        journal.record_outcome(recent, 429, true);
        let outcomes: Vec<_> = journal
            .calls()
            .iter()
            .map(|call| (call.endpoint.clone(), call.status, call.refused))
            .collect();
        assert_eq!(outcomes, [("b".into(), 429, true), ("c".into(), 0, false)]);

        journal.forget_calls();
        journal.record_outcome(recent, 200, false);
        let next = journal.record(call("d"), 2);
        journal.record_outcome(next, 200, false);
        assert_eq!(journal.calls()[0].status, 200);
    }

    #[test]
    fn an_emptied_journal_does_not_take_an_older_call_for_a_new_one() {
        let mut journal = Journal::new(Instant::now());
        let old = journal.record(call("a"), 2);
        let mut journal = journal.emptied(Instant::now());
        assert!(journal.calls().is_empty());
        journal.record(call("b"), 2);
        journal.record_outcome(old, 500, false);
        assert_eq!(journal.calls()[0].status, 0);
    }

    #[test]
    fn a_journal_can_record_zero_calls() {
        let mut journal = Journal::new(Instant::now());
        let call_id = journal.record(call("a"), 0);
        journal.record_outcome(call_id, 200, false);
        assert!(journal.calls().is_empty());
    }
}
