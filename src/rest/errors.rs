//! The errors of leadgate in the form of LeadSquared's.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::domain::rest::RestCall;
use crate::error::{Error, ErrorKind};
use crate::gateway::{Gateway, rest_costs_bulk};

/// The reason of an error.
const REASON: HeaderName = HeaderName::from_static(crate::grpc::REASON);
/// The methods that are passed on.
pub(super) const METHODS: &str = "GET, POST, PUT, DELETE";
/// The delay before another attempt while a tenant is paused.
const PAUSED: Duration = Duration::from_secs(10);
/// The range of `Retry-After`, in seconds.
const RETRY_SECONDS: (u64, u64) = (1, 60);
/// The length of a day, in seconds.
const DAY: u64 = 86_400;

/// A limit as a refusal names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NamedLimit {
    calls: u64,
    seconds: u64,
}

/// An error of a request.
#[derive(Debug)]
pub(super) struct RestError {
    pub(super) status: StatusCode,
    kind: &'static str,
    text: String,
    pub(super) reason: &'static str,
    retry_after: Option<Duration>,
}

/// The body of an error. Its keys have the order of LeadSquared's errors.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody<'a> {
    status: &'static str,
    exception_type: &'static str,
    exception_message: &'a str,
}

impl RestError {
    fn new(status: StatusCode, kind: &'static str, text: impl Into<String>, reason: &'static str) -> Self {
        Self {
            status,
            kind,
            text: text.into(),
            reason,
            retry_after: None,
        }
    }

    /// A request that is not valid. The text has no values.
    pub(super) fn invalid(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, "MXInvalidInputException", text, "INVALID_FIELD")
    }

    /// There is no valid pair of keys.
    pub(super) fn unknown_caller() -> Self {
        let text = "Invalid Access Details provided.";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "MXInvalidAccessDetailsException",
            text,
            "CALLER_UNKNOWN",
        )
    }

    /// The caller may not make the call.
    pub(super) fn not_allowed() -> Self {
        let text = "You are not allowed to use this API.";
        Self::new(
            StatusCode::FORBIDDEN,
            "MXUnAuthorizedAccessException",
            text,
            "CALLER_NOT_ALLOWED",
        )
    }

    /// LeadSquared's response is not passed on.
    pub(super) fn unreadable(reason: &'static str) -> Self {
        let text = "The response cannot be passed on.";
        Self::new(StatusCode::BAD_GATEWAY, "LeadgateUpstreamException", text, reason)
    }

    fn unavailable(reason: &'static str, retry_after: Duration) -> Self {
        let text = "Not executed; try again.";
        let error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "LeadgateUnavailableException",
            text,
            reason,
        );
        error.after(retry_after)
    }

    fn unknown_outcome() -> Self {
        let text = "No response from LeadSquared. The call may have been executed.";
        Self::new(
            StatusCode::CONFLICT,
            "LeadgateOutcomeUnknownException",
            text,
            "OUTCOME_UNKNOWN",
        )
    }

    fn refused(limit: NamedLimit, reason: &'static str, retry_after: Duration, status: StatusCode) -> Self {
        let NamedLimit { calls, seconds } = limit;
        let text = format!("API calls exceeded the limit of {calls} in {seconds} second(s)");
        Self::new(status, "MXAPIRateLimitExceededException", text, reason).after(retry_after)
    }

    fn after(self, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..self
        }
    }

    /// The response.
    pub(super) fn into_response(self) -> Response<Bytes> {
        let body = ErrorBody {
            status: "Error",
            exception_type: self.kind,
            exception_message: &self.text,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        headers.insert(REASON, HeaderValue::from_static(self.reason));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static(METHODS));
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.clamp(RETRY_SECONDS.0, RETRY_SECONDS.1).into());
        }
        response
    }
}

/// The call that an error is about.
pub(super) struct FailedCall<'a> {
    pub(super) call: Option<&'a RestCall>,
    pub(super) gateway: Option<&'a Gateway>,
    pub(super) caller: &'a str,
    pub(super) is_read: bool,
    pub(super) refusal_status: StatusCode,
}

impl FailedCall<'_> {
    /// The error for the client.
    pub(super) fn error(&self, error: &Error) -> RestError {
        let soon = Duration::from_secs(1);
        match &error.kind {
            ErrorKind::DeadlineInfeasible { retry_after } => self.refusal("DEADLINE_INFEASIBLE", *retry_after),
            ErrorKind::CallerLimit { retry_after } => self.refusal("CALLER_LIMIT", *retry_after),
            ErrorKind::QueueFull { retry_after } | ErrorKind::CallerRpcLimit { retry_after } => {
                self.refusal("QUEUE_FULL", *retry_after)
            }
            ErrorKind::DailyBudgetExhausted { retry_after } => self.refusal("DAILY_BUDGET_EXHAUSTED", *retry_after),
            ErrorKind::Refused(_) => self.refusal("DEADLINE_INFEASIBLE", soon),
            ErrorKind::DeadlineExceeded { .. } if error.details.upstream_status.is_none() => {
                match (error.details.attempts, self.is_read) {
                    (0, _) => self.refusal("DEADLINE_INFEASIBLE", soon),
                    (_, true) => RestError::unavailable("UPSTREAM_UNAVAILABLE", soon),
                    (_, false) => RestError::unknown_outcome(),
                }
            }
            // The response had begun.
            ErrorKind::OutcomeUnknown | ErrorKind::Unavailable { .. } | ErrorKind::Unreadable { .. }
                if error.details.upstream_status.is_some() =>
            {
                RestError::unreadable(match error.details.cause {
                    None => "RESPONSE_TOO_LARGE",
                    Some(_) => "UPSTREAM_UNREADABLE",
                })
            }
            ErrorKind::OutcomeUnknown => RestError::unknown_outcome(),
            // The replica that had the call does not respond.
            ErrorKind::Moved { sent: true } if !self.is_read => RestError::unknown_outcome(),
            ErrorKind::ResponseTooLarge { .. } => RestError::unreadable("RESPONSE_TOO_LARGE"),
            ErrorKind::Unreadable { .. } => RestError::unreadable("UPSTREAM_UNREADABLE"),
            ErrorKind::BreakerOpen { retry_after } => RestError::unavailable("UPSTREAM_UNAVAILABLE", *retry_after),
            ErrorKind::TenantPaused => RestError::unavailable("TENANT_PAUSED", PAUSED),
            ErrorKind::StoreUnavailable | ErrorKind::StoreUnreadable => {
                RestError::unavailable("STORE_UNAVAILABLE", soon)
            }
            ErrorKind::AuditUnavailable => RestError::unavailable("AUDIT_UNAVAILABLE", soon),
            ErrorKind::ShuttingDown | ErrorKind::StreamInterrupted => RestError::unavailable("SHUTTING_DOWN", soon),
            ErrorKind::CallerUnknown => RestError::unknown_caller(),
            ErrorKind::CallerNotAllowed(_) => RestError::not_allowed(),
            ErrorKind::Invalid(violations) => {
                let text = violations
                    .iter()
                    .map(|violation| format!("{}: {}", violation.field, violation.description));
                RestError::invalid(StatusCode::BAD_REQUEST, text.collect::<Vec<_>>().join("; "))
            }
            _ => RestError::unavailable("UPSTREAM_UNAVAILABLE", soon),
        }
    }

    /// LeadSquared's own refusal, with the limit that refused the call.
    fn refusal(&self, reason: &'static str, retry_after: Duration) -> RestError {
        let limit = self.gateway.map(|gateway| self.limit(gateway, reason));
        let limit = limit.unwrap_or(NamedLimit { calls: 1, seconds: 1 });
        RestError::refused(limit, reason, retry_after, self.refusal_status)
    }

    fn limit(&self, gateway: &Gateway, reason: &str) -> NamedLimit {
        let quota = gateway.quota();
        let window = match self.call.is_some_and(rest_costs_bulk) {
            true => quota.bulk.limit,
            false => quota.calls.limit,
        };
        let seconds = window.per.as_secs() + u64::from(window.per.subsec_nanos() > 0);
        let seconds = seconds.max(1);
        match reason {
            "DAILY_BUDGET_EXHAUSTED" => NamedLimit {
                calls: quota.daily.limit.unwrap_or(quota.daily.used),
                seconds: DAY,
            },
            "CALLER_LIMIT" => NamedLimit {
                calls: gateway.calls_per_window(self.caller).unwrap_or(window.calls).into(),
                seconds,
            },
            _ => NamedLimit {
                calls: window.calls.into(),
                seconds,
            },
        }
    }
}
