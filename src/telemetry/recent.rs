//! What happened lately in this process, for the status page: the last requests to LeadSquared, the samples of the quota and the
//! batches of each tenant, and the RPCs that failed. Each list has a maximum length. Nothing is kept after the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Maximum number of requests that are kept for each tenant.
pub const MAX_REQUESTS: usize = 2048;
/// For how long requests are kept.
pub const REQUESTS_KEPT: Duration = Duration::from_secs(300);
/// Maximum number of samples that are kept for each tenant: those of one minute, and the one before.
const MAX_SAMPLES: usize = 61;
/// Maximum number of kinds of errors that are kept.
pub const MAX_ERRORS: usize = 100;
/// The span of [`ErrorKindRecord::in_last_minute`], in seconds.
const MINUTE: usize = 60;
/// The outcomes of requests that LeadSquared failed to serve. The other errors are LeadSquared's responses to an invalid request.
const FAILURES: [&str; 5] = [
    "credentials-rejected",
    "exception",
    "no-answer",
    "unreachable",
    "unreadable",
];

/// The recorder. Its methods wait for no I/O and take about a microsecond.
#[derive(Debug, Default)]
pub struct Recent {
    tenants: RwLock<HashMap<String, Arc<Mutex<TenantRecords>>>>,
    /// In any order.
    errors: Mutex<Vec<ErrorKindRecord>>,
}

#[derive(Debug, Default)]
struct TenantRecords {
    requests: VecDeque<RecentRequest>,
    samples: VecDeque<QuotaSample>,
    batches: Vec<LaneBatches>,
}

/// A finished request to LeadSquared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentRequest {
    /// When the response was complete, or given up.
    pub ended: Instant,
    /// The time from sending the request.
    pub took: Duration,
    /// Whether the time is a latency: there was a response or a timeout. A connection that fails takes no such time.
    pub is_timed: bool,
    /// LeadSquared's name of the endpoint.
    pub endpoint: &'static str,
    /// `ok`, or the name of the error.
    pub outcome: &'static str,
    /// The number of operations: more than one for a batch.
    pub operations: usize,
    /// Whether LeadSquared rejected it because of a rate limit.
    pub is_refused: bool,
}

/// The state of a quota at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSample {
    /// When it was taken.
    pub at: Instant,
    /// Maximum number of calls in a window that leadgate sends.
    pub effective: u32,
    /// Rate limit errors so far that leadgate's own calls explain.
    pub own_refusals: u64,
    /// Rate limit errors so far because of other clients.
    pub foreign_refusals: u64,
    /// Whether all calls of the effective limit were in use.
    pub is_calls_full: bool,
    /// Whether all bulk calls of the effective limit were in use.
    pub is_bulk_full: bool,
}

/// The batches of one lane since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneBatches {
    /// The lane.
    pub lane: &'static str,
    /// The number of batches.
    pub batches: u64,
    /// The number of operations in them.
    pub operations: u64,
}

/// A finished RPC that failed. It has names and ids only, never a text of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentError {
    /// When the RPC ended.
    pub at: Timestamp,
    /// The method, or `unknown`.
    pub method: Arc<str>,
    /// The tenant, if it is known.
    pub tenant: Option<Arc<str>>,
    /// The caller, if it is known: one with settings of its own, or `other`.
    pub caller: Option<Arc<str>>,
    /// The gRPC code.
    pub code: &'static str,
    /// The reason of the error.
    pub reason: Option<&'static str>,
    /// The id of the RPC.
    pub request_id: Arc<str>,
    /// The trace id of the caller.
    pub trace_id: Option<Arc<str>>,
}

/// The RPCs that failed in the same way: with the same method, tenant, caller, code and reason.
#[derive(Clone, Debug)]
pub struct ErrorKindRecord {
    /// The last one.
    pub last: RecentError,
    /// Their number since the first one. A kind that was dropped for others starts again.
    pub count: u64,
    /// The numbers of the last minute by second: that of `last` is at its second modulo the length.
    by_second: [u32; MINUTE],
}

/// The records of one tenant, oldest first.
#[derive(Clone, Debug, Default)]
pub struct TenantHistory {
    /// The last requests.
    pub requests: Vec<RecentRequest>,
    /// The samples of the last minute, and the one before.
    pub samples: Vec<QuotaSample>,
    /// The batches by lane, in the order of their first use.
    pub batches: Vec<LaneBatches>,
}

impl RecentRequest {
    /// Whether LeadSquared failed to serve the request.
    pub fn is_failure(&self) -> bool {
        FAILURES.contains(&self.outcome)
    }
}

impl RecentError {
    fn is_like(&self, other: &Self) -> bool {
        let kind = |error: &Self| (error.reason, error.code);
        kind(self) == kind(other)
            && (&self.method, &self.tenant, &self.caller) == (&other.method, &other.tenant, &other.caller)
    }
}

impl ErrorKindRecord {
    fn new(error: RecentError) -> Self {
        let mut new = Self {
            last: error,
            count: 1,
            by_second: [0; MINUTE],
        };
        new.by_second[second(new.last.at)] = 1;
        new
    }

    fn add(&mut self, error: RecentError) {
        // The clock may be set back.
        let passed = (error.at.as_second() - self.last.at.as_second()).max(0);
        for at in 1..=passed.min(MINUTE as i64) {
            self.by_second[(second(self.last.at) + at as usize) % MINUTE] = 0;
        }
        if error.at >= self.last.at {
            self.last = error;
        }
        let count = &mut self.by_second[second(self.last.at)];
        *count = count.saturating_add(1);
        self.count += 1;
    }

    /// The number of RPCs in the last 60 s.
    pub fn in_last_minute(&self, now: Timestamp) -> u64 {
        let passed = usize::try_from(now.as_second() - self.last.at.as_second()).unwrap_or(0);
        let counted = MINUTE.saturating_sub(passed);
        let counts = (0..counted).map(|ago| self.by_second[(second(self.last.at) + MINUTE - ago) % MINUTE]);
        counts.map(u64::from).sum()
    }
}

/// The second of a time, modulo a minute.
fn second(at: Timestamp) -> usize {
    at.as_second().rem_euclid(MINUTE as i64) as usize
}

impl Recent {
    /// Records a request.
    pub fn request(&self, tenant: &str, request: RecentRequest) {
        let records = self.records(tenant);
        let requests = &mut lock(&records).requests;
        while requests.len() >= MAX_REQUESTS || requests.front().is_some_and(|first| is_old(first, request.ended)) {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    /// Counts a batch.
    pub fn batch(&self, tenant: &str, lane: &'static str, operations: usize) {
        let records = self.records(tenant);
        let batches = &mut lock(&records).batches;
        let at = batches.iter().position(|known| known.lane == lane);
        let at = at.unwrap_or_else(|| {
            batches.push(LaneBatches {
                lane,
                batches: 0,
                operations: 0,
            });
            batches.len() - 1
        });
        batches[at].batches += 1;
        batches[at].operations += operations as u64;
    }

    /// Records a sample, once per second.
    pub fn sample(&self, tenant: &str, sample: QuotaSample) {
        let records = self.records(tenant);
        let samples = &mut lock(&records).samples;
        if samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Records an RPC that failed. A new kind replaces the one that has not occurred for the longest time.
    pub fn error(&self, error: RecentError) {
        let mut errors = lock(&self.errors);
        if let Some(known) = errors.iter_mut().find(|known| known.last.is_like(&error)) {
            known.add(error);
            return;
        }
        if errors.len() >= MAX_ERRORS {
            let oldest = (0..errors.len()).min_by_key(|at| errors[*at].last.at);
            errors.swap_remove(oldest.unwrap_or_default());
        }
        errors.push(ErrorKindRecord::new(error));
    }

    /// The kinds of errors, that of the newest error first.
    pub fn errors(&self) -> Vec<ErrorKindRecord> {
        let mut errors = lock(&self.errors).clone();
        errors.sort_by_key(|error| std::cmp::Reverse(error.last.at));
        errors
    }

    /// The records of a tenant.
    pub fn history(&self, tenant: &str, now: Instant) -> TenantHistory {
        let records = self.records(tenant);
        let records = lock(&records);
        let requests = records.requests.iter().filter(|request| !is_old(request, now));
        TenantHistory {
            requests: requests.copied().collect(),
            samples: records.samples.iter().copied().collect(),
            batches: records.batches.clone(),
        }
    }

    fn records(&self, tenant: &str) -> Arc<Mutex<TenantRecords>> {
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(records) = known.get(tenant) {
            return records.clone();
        }
        drop(known);
        let mut known = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(tenant.to_owned()).or_default().clone()
    }
}

fn is_old(request: &RecentRequest, now: Instant) -> bool {
    now.saturating_duration_since(request.ended) > REQUESTS_KEPT
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(ended: Instant) -> RecentRequest {
        RecentRequest {
            ended,
            took: Duration::from_millis(100),
            is_timed: true,
            endpoint: "Lead.Create",
            outcome: "ok",
            operations: 1,
            is_refused: false,
        }
    }

    #[test]
    fn requests_are_bounded_by_number_and_age() {
        let (recent, start) = (Recent::default(), Instant::now());
        for at in 0..MAX_REQUESTS as u64 + 10 {
            recent.request("acme", request(start + Duration::from_millis(at)));
        }
        let history = recent.history("acme", start + Duration::from_secs(3));
        assert_eq!(history.requests.len(), MAX_REQUESTS);
        assert_eq!(history.requests[0].ended, start + Duration::from_millis(10));
        let later = start + REQUESTS_KEPT + Duration::from_secs(60);
        assert_eq!(recent.history("acme", later).requests, []);
        recent.request("acme", request(later));
        assert_eq!(lock(&recent.records("acme")).requests.len(), 1);
    }

    fn error(millis: i64, method: &str, id: &str) -> RecentError {
        RecentError {
            at: Timestamp::from_millisecond(millis).unwrap(),
            method: method.into(),
            tenant: None,
            caller: None,
            code: "INTERNAL",
            reason: None,
            request_id: id.into(),
            trace_id: None,
        }
    }

    #[test]
    fn samples_are_bounded() {
        let (recent, now) = (Recent::default(), Instant::now());
        for effective in 0..200 {
            let sample = QuotaSample {
                at: now,
                effective,
                own_refusals: 0,
                foreign_refusals: 0,
                is_calls_full: false,
                is_bulk_full: false,
            };
            recent.sample("acme", sample);
        }
        let samples = recent.history("acme", now).samples;
        assert_eq!((samples.len(), samples[0].effective), (MAX_SAMPLES, 200 - 61));
    }

    #[test]
    fn many_equal_errors_leave_a_rare_one() {
        let recent = Recent::default();
        recent.error(error(0, "rare", "a"));
        for at in 1..=1000 {
            recent.error(error(at, "frequent", &at.to_string()));
        }
        let errors = recent.errors();
        let shown: Vec<_> = errors
            .iter()
            .map(|error| (&*error.last.method, error.count, &*error.last.request_id))
            .collect();
        assert_eq!(shown, [("frequent", 1000, "1000"), ("rare", 1, "a")]);
    }

    #[test]
    fn errors_differ_by_each_part_of_their_kind() {
        let recent = Recent::default();
        let first = error(0, "m", "id");
        let changes: [fn(&mut RecentError); 6] = [
            |_| {},
            |error| error.method = "n".into(),
            |error| error.tenant = Some("acme".into()),
            |error| error.caller = Some("checkout".into()),
            |error| error.code = "ABORTED",
            |error| error.reason = Some("OUTCOME_UNKNOWN"),
        ];
        for change in changes {
            let mut changed = first.clone();
            change(&mut changed);
            recent.error(changed);
        }
        assert!(recent.errors().iter().all(|error| error.count == 1));
        assert_eq!(recent.errors().len(), 6);
    }

    #[test]
    fn the_kind_of_error_that_has_not_occurred_for_the_longest_time_is_dropped() {
        let recent = Recent::default();
        for kind in 0..MAX_ERRORS {
            recent.error(error(kind as i64, &kind.to_string(), "id"));
        }
        recent.error(error(1_000, "0", "id"));
        recent.error(error(1_001, "new", "id"));
        let errors = recent.errors();
        assert_eq!(errors.len(), MAX_ERRORS);
        assert_eq!((&*errors[0].last.method, &*errors[1].last.method), ("new", "0"));
        assert!(errors.iter().all(|error| &*error.last.method != "1"));
    }

    #[test]
    fn errors_are_counted_for_a_minute() {
        let recent = Recent::default();
        // Two per second for 100 s.
        for at in 0..200 {
            recent.error(error(at * 500, "m", "id"));
        }
        let count = |second| recent.errors()[0].in_last_minute(Timestamp::from_second(second).unwrap());
        assert_eq!([99, 100, 158, 159, 1000].map(count), [120, 118, 2, 0, 0]);
        // After a pause, and with a clock that was set back.
        recent.error(error(300_000, "m", "id"));
        recent.error(error(299_000, "m", "id"));
        assert_eq!([300, 359, 360].map(count), [2, 2, 0]);
        assert_eq!(recent.errors()[0].count, 202);
    }

    #[test]
    fn batches_are_counted_by_lane() {
        let recent = Recent::default();
        for (lane, operations) in [("reads", 10), ("updates", 2), ("reads", 5)] {
            recent.batch("acme", lane, operations);
        }
        let expected = [("reads", 2, 15), ("updates", 1, 2)].map(|(lane, batches, operations)| LaneBatches {
            lane,
            batches,
            operations,
        });
        assert_eq!(recent.history("acme", Instant::now()).batches, expected);
    }
}
