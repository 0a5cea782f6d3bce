//! What happened lately in this process, for the status page: the last requests to LeadSquared, the samples of the quota and the
//! batches of each tenant, and the last RPCs that failed. Each list has a maximum length. Nothing is kept after the process.

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
/// Maximum number of errors that are kept.
pub const MAX_ERRORS: usize = 100;
/// The outcomes of requests that LeadSquared failed to serve. The other errors are LeadSquared's responses to an invalid request.
const FAILURES: [&str; 5] = [
    "credentials-rejected",
    "exception",
    "no-answer",
    "unreachable",
    "unreadable",
];

/// The recorder. Its methods wait for no I/O and take less than a microsecond.
#[derive(Debug, Default)]
pub struct Recent {
    tenants: RwLock<HashMap<String, Arc<Mutex<TenantRecords>>>>,
    errors: Mutex<VecDeque<RecentError>>,
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
    /// The caller, if it is known.
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

    /// Records an RPC that failed.
    pub fn error(&self, error: RecentError) {
        let mut errors = lock(&self.errors);
        if errors.len() >= MAX_ERRORS {
            errors.pop_front();
        }
        errors.push_back(error);
    }

    /// The last errors, newest first.
    pub fn errors(&self) -> Vec<RecentError> {
        lock(&self.errors).iter().rev().cloned().collect()
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

    #[test]
    fn samples_and_errors_are_bounded() {
        let (recent, now) = (Recent::default(), Instant::now());
        for effective in 0..200 {
            let (own_refusals, foreign_refusals) = (0, u64::from(effective));
            recent.sample(
                "acme",
                QuotaSample {
                    at: now,
                    effective,
                    own_refusals,
                    foreign_refusals,
                },
            );
            recent.error(RecentError {
                at: Timestamp::UNIX_EPOCH,
                method: "m".into(),
                tenant: None,
                caller: None,
                code: "INTERNAL",
                reason: None,
                request_id: effective.to_string().into(),
                trace_id: None,
            });
        }
        let samples = recent.history("acme", now).samples;
        assert_eq!((samples.len(), samples[0].effective), (MAX_SAMPLES, 200 - 61));
        let errors = recent.errors();
        assert_eq!((errors.len(), &*errors[0].request_id), (MAX_ERRORS, "199"));
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
