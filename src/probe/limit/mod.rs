//! Measures the rate limit of an account from the calls that LeadSquared accepts and refuses.
//!
//! * `session` sends waves of calls and records their outcomes. It ends the measurement when it must end.
//! * `window` measures the limit of all calls: it sends waves until one explanation remains.
//! * `inference` says which limits explain the waves; `model` has the five kinds of windows.
//! * `others` measures the bulk limit, and which failures count, once the limit is known.

mod inference;
mod model;
mod others;
mod random;
mod session;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::call::{CallKind, ProbeCaller};

pub use model::WindowKind;
pub use session::Stop;

use inference::Hypothesis;
use others::{Bulk, Failures, measure_bulk, measure_failures};
use session::Session;
use window::Measured;

/// The questions of a measurement, and its limits.
#[derive(Clone, Debug)]
pub struct LimitPlan {
    /// Whether bursts are allowed. Without bursts no question can be decided.
    pub burst: bool,
    /// Whether the limit of all calls, and whether refusals count, are wanted. The other two questions need the limit, so they
    /// measure it, too.
    pub limit: bool,
    /// Whether the limit of bulk calls is wanted.
    pub bulk_bucket: bool,
    /// Whether it is wanted which failed calls count.
    pub failures_charged: bool,
    /// The seed of the random times.
    pub seed: u64,
    /// Maximum number of calls.
    pub max_calls: u32,
    /// The number of calls of [`ProbeCaller::calls_left`] that must remain.
    pub reserve: u32,
    /// Maximum duration.
    pub max_duration: Duration,
    /// Time without calls before the first one. Earlier calls of the command must not count any more.
    pub quiet: Duration,
}

impl Default for LimitPlan {
    /// All questions within 600 calls and 6 minutes, without bursts.
    fn default() -> Self {
        Self {
            burst: false,
            limit: true,
            bulk_bucket: true,
            failures_charged: true,
            seed: 1,
            max_calls: 600,
            reserve: 0,
            max_duration: Duration::from_secs(355),
            quiet: Duration::from_secs(5),
        }
    }
}

/// The bulk limit, and which failures count, are measured only if the most probable limit has this probability.
const KNOWN: f64 = 0.5;

/// Measures the limits of an account. Ends early at the first [`Stop`], and returns what it has found until then.
pub async fn measure(caller: &impl ProbeCaller, plan: &LimitPlan) -> LimitFindings {
    if !plan.burst {
        return LimitFindings::skipped("needs --burst");
    }
    let mut session = Session::new(caller, plan);
    let mut measured = None;
    let (mut bulk, mut failures) = (Bulk::default(), Failures::default());
    let mut starts = Vec::new();
    let stopped = run(&mut session, &mut measured, &mut bulk, &mut failures, &mut starts)
        .await
        .err();

    let start = |question: usize| starts.get(question).copied();
    let lines = |question: usize| {
        let end = start(question + 1).unwrap_or(usize::MAX);
        session.evidence(start(question).unwrap_or_default(), end)
    };
    let of_limit = lines(0);
    let mut findings = LimitFindings::skipped("not wanted");
    (findings.calls, findings.stopped) = (session.sent, stopped);
    findings.is_out_of_calls = session.is_out_of_calls;
    findings.is_settled = measured
        .as_ref()
        .is_some_and(|measured| window::is_settled(&session, measured));
    (findings.limit, findings.refusals_count) = window::findings(measured.as_ref(), &session, of_limit, stopped);
    if !plan.limit {
        let skipped = LimitFindings::skipped("not wanted");
        (findings.limit, findings.refusals_count) = (skipped.limit, skipped.refusals_count);
    }
    let limit = known(&session, measured.as_ref());
    let of_reads = session.summary(CallKind::Read);
    findings.limit.observation.clone_from(&of_reads);
    findings.refusals_count.observation = of_reads;
    if plan.bulk_bucket {
        findings.bulk_bucket = match limit {
            Some(limit) if start(1).is_some() => {
                let named = session.named(CallKind::Bulk).map(|named| named.calls);
                bulk.finding(limit, lines(1), stopped, named)
            }
            _ => unmeasured(stopped),
        };
        findings.bulk_bucket.observation = session.summary(CallKind::Bulk);
    }
    if plan.failures_charged {
        findings.failures_charged = match limit {
            Some(limit) if start(2).is_some() => failures.finding(limit, lines(2), stopped),
            _ => unmeasured(stopped),
        };
        let summaries = [CallKind::UnknownPath, CallKind::BadJson].map(|kind| session.summary(kind));
        findings.failures_charged.observation = summaries.join("; ");
    }
    findings
}

/// Measures one question after the other. `starts` gets the number of lines of evidence before each of them.
async fn run<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    measured: &mut Option<Measured>,
    bulk: &mut Bulk,
    failures: &mut Failures,
    starts: &mut Vec<usize>,
) -> Result<(), Stop> {
    starts.push(0);
    match window::measure(session, measured).await {
        // Calls are kept for the other questions.
        Ok(()) | Err(Stop::Calls) => {}
        Err(stop) => return Err(stop),
    }
    let Some(limit) = known(session, measured.as_ref()).copied() else {
        return Ok(());
    };
    let plan = session.plan;
    starts.push(session.lines.len());
    if plan.bulk_bucket {
        measure_bulk(session, &limit, bulk).await?;
    }
    starts.push(session.lines.len());
    if plan.failures_charged {
        measure_failures(session, &limit, failures).await?;
    }
    Ok(())
}

/// The limit, if it is known well enough for the other questions.
fn known<'m, C: ProbeCaller>(session: &Session<'_, C>, measured: Option<&'m Measured>) -> Option<&'m Hypothesis> {
    let measured = measured.filter(|measured| window::doubt(session, measured).is_none())?;
    measured.best().filter(|best| best.probability >= KNOWN)
}

fn unmeasured<T>(stopped: Option<Stop>) -> Finding<T> {
    let reason = stopped.map_or("the limit of all calls is not known".to_owned(), |stop| {
        stop.to_string()
    });
    Finding::without_value(FindingState::Skipped, reason)
}

/// The answers of a measurement.
#[derive(Clone, Debug)]
pub struct LimitFindings {
    /// The limit of all calls.
    pub limit: Finding<WindowLimit>,
    /// Whether refused calls count.
    pub refusals_count: Finding<bool>,
    /// The limit of bulk calls.
    pub bulk_bucket: Finding<BulkBucket>,
    /// Which failed calls count.
    pub failures_charged: Finding<FailuresCharged>,
    /// Number of calls that were sent.
    pub calls: u32,
    /// Why the measurement ended early.
    pub stopped: Option<Stop>,
    /// Whether the allowed calls did not suffice for all questions.
    pub is_out_of_calls: bool,
    /// Whether number of calls and length of the window are known, although `limit` may be undecided because of the kind of the window.
    pub is_settled: bool,
}

impl LimitFindings {
    pub(super) fn skipped(reason: &str) -> Self {
        Self {
            limit: Finding::without_value(FindingState::Skipped, reason),
            refusals_count: Finding::without_value(FindingState::Skipped, reason),
            bulk_bucket: Finding::without_value(FindingState::Skipped, reason),
            failures_charged: Finding::without_value(FindingState::Skipped, reason),
            calls: 0,
            stopped: None,
            is_out_of_calls: false,
            is_settled: false,
        }
    }
}

/// The limit of all calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowLimit {
    /// Maximum number of calls in a window.
    pub calls: u32,
    /// Length of a window in seconds.
    pub window_seconds: f64,
    /// How calls are counted.
    pub kind: WindowKind,
    /// The HTTP status of a refused call.
    pub refusal_status: u16,
}

/// The limit of bulk calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkBucket {
    /// Maximum number of bulk calls in a window.
    pub bulk: u32,
    /// Whether a bulk call also counts as one of all calls.
    pub pays_calls: bool,
}

/// Which failed calls count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailuresCharged {
    /// Calls of a path that does not exist.
    pub unknown_path: bool,
    /// Calls with a body that is not JSON.
    pub bad_json: bool,
}

/// Whether a question is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingState {
    /// One value explains the observations.
    Decided,
    /// Several values explain them, or too few calls were allowed.
    Undecided,
    /// Not measured.
    Skipped,
    /// The measurement failed before the first observation.
    Failed,
}

/// The answer to one question.
#[derive(Clone, Debug)]
pub struct Finding<T> {
    /// Whether the question is decided.
    pub state: FindingState,
    /// The value, or the most probable one if the question is undecided.
    pub value: Option<T>,
    /// The probability of `value`, from 0 to 1.
    pub confidence: f64,
    /// The other values that cannot be excluded, with their probabilities, the most probable first.
    pub alternatives: Vec<(T, f64)>,
    /// What was observed, in a sentence.
    pub observation: String,
    /// What was observed, with times relative to the start of the measurement.
    pub evidence: Vec<String>,
    /// Why the question is not decided.
    pub reason: Option<String>,
    /// Estimated number of further calls that would decide the question.
    pub more_calls: Option<u32>,
}

impl<T> Finding<T> {
    fn without_value(state: FindingState, reason: impl Into<String>) -> Self {
        Self {
            state,
            value: None,
            confidence: 0.0,
            alternatives: Vec::new(),
            observation: String::new(),
            evidence: Vec::new(),
            reason: Some(reason.into()),
            more_calls: None,
        }
    }
}
