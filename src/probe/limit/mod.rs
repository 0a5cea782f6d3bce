//! The measurement of the rate limit. It is not part of this build yet: all questions are skipped.

use std::time::Duration;

use super::call::ProbeCaller;

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
            evidence: Vec::new(),
            reason: Some(reason.into()),
            more_calls: None,
        }
    }
}

/// Why a measurement ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// LeadSquared rejected the credentials.
    Unauthorized,
    /// The daily limit refused a call.
    DailyRefused,
    /// Too many calls had no usable response.
    Failed,
    /// The allowed number of calls is used.
    Calls,
    /// The allowed time is over.
    Time,
}

/// How LeadSquared counts the calls of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Consecutive windows whose boundaries do not depend on the calls.
    Fixed,
    /// A window begins with the first accepted call after the end of the previous window.
    FirstRequest,
    /// The accepted calls in the interval before each call count.
    Sliding,
    /// Like `Sliding`, but refused calls count too.
    SlidingCountingRefusals,
    /// A bucket with as many tokens as the limit, which is refilled continuously within the length of a window.
    TokenBucket,
}

impl WindowKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Fixed,
        Self::FirstRequest,
        Self::Sliding,
        Self::SlidingCountingRefusals,
        Self::TokenBucket,
    ];

    /// The name in the JSON report, which is the name in the options of the simulator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::FirstRequest => "first-request",
            Self::Sliding => "sliding",
            Self::SlidingCountingRefusals => "sliding-counting-refusals",
            Self::TokenBucket => "token-bucket",
        }
    }
}

/// Measures the limits.
pub async fn measure(caller: &impl ProbeCaller, plan: &LimitPlan) -> LimitFindings {
    let reason = match (plan.burst, caller.calls_left()) {
        (false, _) => "needs --burst",
        (true, 0) => "no calls are left",
        (true, _) => "the measurement is not part of this build",
    };
    LimitFindings {
        limit: Finding::without_value(FindingState::Skipped, reason),
        refusals_count: Finding::without_value(FindingState::Skipped, reason),
        bulk_bucket: Finding::without_value(FindingState::Skipped, reason),
        failures_charged: Finding::without_value(FindingState::Skipped, reason),
        calls: 0,
        stopped: None,
    }
}
