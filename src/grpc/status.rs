//! Converts errors into gRPC statuses. [`entry`] is the table: one row for each error, with its code, reason, details and
//! retry behavior. The other functions encode a row and keep the headers of a response small.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use uuid::Uuid;

use super::pb::ErrorReason;
use crate::domain::lead::{path, schema_name};
use crate::error::{Denial, Error, ErrorKind, Recovery, Resource, Violation, shortened};

/// The domain of ErrorInfo.
const DOMAIN: &str = "leadgate";
/// The key in the metadata of ErrorInfo: whether the caller should send the same request with the same request id again.
const RETRY_SAME: &str = "retry_same_request_id";
/// The metadata by which gRPC clients know when to retry. -1 means never.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The delay in RetryInfo for errors without a known time.
const SOON: Duration = Duration::from_secs(1);
/// The delay in RetryInfo while an account is paused.
const PAUSED: Duration = Duration::from_secs(10);
const LEAD: &str = "leadgate.v1.Lead";
const SHARE: &str = "leadgate.v1.Share";

/// Maximum size of all headers of an error. HTTP/2 counts the name, the value and 32 bytes for each. Java clients accept 8
/// KB, and proxies add headers.
pub(super) const MAX_HEADER_BYTES: usize = 6_000;
/// Reserved for the headers of the HTTP library: `:status` and `date`.
const HTTP_BYTES: usize = 120;
/// Reserved for the headers that are added to a status later: content-type, x-request-id, the counts of an import,
/// grpc-accept-encoding.
const LATER_BYTES: usize = 600;
/// Maximum number of bytes of a value in the metadata of ErrorInfo.
const MAX_VALUE_BYTES: usize = 256;
/// Maximum number of violations that are considered. More never fit.
const MAX_VIOLATIONS: usize = 200;

/// One row of the table.
struct StatusEntry<'a> {
    code: Code,
    /// The reason in ErrorInfo and in the log.
    reason: ErrorReason,
    detail: Detail<'a>,
    retry: RetryAdvice,
}

/// The detail of a status besides ErrorInfo, RequestInfo and RetryInfo.
enum Detail<'a> {
    None,
    /// BadRequest with all violations.
    BadRequest(&'a [Violation]),
    /// ResourceInfo with this type, and the error message as description.
    Resource(&'static str),
    /// ResourceInfo with the id of the other lead, and the path of the unique field as description.
    OtherLead {
        lead_id: Option<&'a str>,
        attribute: Option<&'a str>,
    },
    /// ResourceInfo with the id of the lead, if it is known.
    Lead(Option<&'a str>),
    /// ResourceInfo with the id of the other share.
    OtherShare(Option<Uuid>),
    /// QuotaFailure with this suffix of the subject `tenant:NAME`.
    Quota(&'static str),
    /// PreconditionFailure with the reason as type, and this subject.
    Precondition(&'static str),
}

/// The retry behavior of a status.
enum RetryAdvice {
    /// No advice: gRPC clients decide by the code.
    Unspecified,
    /// RetryInfo with this delay. gRPC clients may retry after it, if the deadline is later.
    After(Duration),
    /// RetryInfo with this delay, for callers. gRPC clients must not retry: the deadline would be too early again.
    NewCall(Duration),
    /// gRPC clients must not retry.
    Never,
}

/// The table from errors to statuses.
fn entry(error: &Error) -> StatusEntry<'_> {
    use RetryAdvice::{After, Never, NewCall, Unspecified};
    let row = |code, reason, detail, retry| StatusEntry {
        code,
        reason,
        detail,
        retry,
    };
    match &error.kind {
        // The request.
        ErrorKind::Invalid(violations) => row(
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            Detail::BadRequest(violations),
            Unspecified,
        ),
        ErrorKind::NotFound(resource) => {
            let (reason, kind) = match resource {
                Resource::Lead => (ErrorReason::LeadNotFound, LEAD),
                Resource::User => (ErrorReason::UserNotFound, "leadgate.v1.User"),
                Resource::Activity => (ErrorReason::ActivityNotFound, "leadgate.v1.Activity"),
                Resource::Opportunity => (ErrorReason::OpportunityNotFound, "leadgate.v1.Opportunity"),
                Resource::Share => (ErrorReason::ShareNotFound, SHARE),
            };
            row(Code::NotFound, reason, Detail::Resource(kind), Unspecified)
        }
        ErrorKind::Duplicate { attribute, lead_id } => {
            let detail = Detail::OtherLead {
                lead_id: lead_id.as_deref(),
                attribute: attribute.as_deref(),
            };
            row(Code::AlreadyExists, ErrorReason::LeadDuplicate, detail, Unspecified)
        }
        ErrorKind::ResponseTooLarge { lead_id, .. } => row(
            Code::ResourceExhausted,
            ErrorReason::ResponseTooLarge,
            Detail::Lead(lead_id.as_deref()),
            Never,
        ),

        // The quota and the load.
        ErrorKind::DeadlineInfeasible { retry_after } => row(
            Code::ResourceExhausted,
            ErrorReason::DeadlineInfeasible,
            Detail::Quota(""),
            NewCall(*retry_after),
        ),
        ErrorKind::CallerLimit { retry_after } => row(
            Code::ResourceExhausted,
            ErrorReason::CallerLimit,
            Detail::Quota("/caller"),
            NewCall(*retry_after),
        ),
        ErrorKind::QueueFull { retry_after } => row(
            Code::ResourceExhausted,
            ErrorReason::QueueFull,
            Detail::Quota(""),
            After(*retry_after),
        ),
        ErrorKind::CallerRpcLimit { retry_after } => row(
            Code::ResourceExhausted,
            ErrorReason::QueueFull,
            Detail::Quota("/caller"),
            After(*retry_after),
        ),
        ErrorKind::DailyBudgetExhausted { retry_after } => row(
            Code::ResourceExhausted,
            ErrorReason::DailyBudgetExhausted,
            Detail::Quota(""),
            After(*retry_after),
        ),
        ErrorKind::StreamNotRead => row(
            Code::ResourceExhausted,
            ErrorReason::QueueFull,
            Detail::None,
            After(SOON),
        ),

        // The account and its users.
        ErrorKind::CredentialsRejected { .. } | ErrorKind::Denied { .. } => row(
            Code::FailedPrecondition,
            ErrorReason::UpstreamCredentialsRejected,
            Detail::Precondition("credentials"),
            Unspecified,
        ),
        ErrorKind::FeatureDisabled => row(
            Code::FailedPrecondition,
            ErrorReason::UpstreamFeatureDisabled,
            Detail::Precondition("account"),
            Unspecified,
        ),
        ErrorKind::NotASalesUser => row(
            Code::FailedPrecondition,
            ErrorReason::NotASalesUser,
            Detail::Precondition("user"),
            Unspecified,
        ),
        ErrorKind::ShareLimitReached => row(
            Code::FailedPrecondition,
            ErrorReason::ShareLimitReached,
            Detail::Precondition("user"),
            Unspecified,
        ),

        // Shares.
        ErrorKind::ShareExists { by } => row(
            Code::AlreadyExists,
            ErrorReason::ShareExists,
            Detail::OtherShare(*by),
            Unspecified,
        ),
        ErrorKind::ShareNotActive => row(
            Code::FailedPrecondition,
            ErrorReason::ShareNotActive,
            Detail::Precondition("share"),
            Unspecified,
        ),
        ErrorKind::ShareNotRetryable => row(
            Code::FailedPrecondition,
            ErrorReason::ShareNotRetryable,
            Detail::Precondition("share"),
            Unspecified,
        ),

        // LeadSquared.
        ErrorKind::Exception => row(Code::Unknown, ErrorReason::UpstreamException, Detail::None, Unspecified),
        ErrorKind::Unreadable { .. } => row(
            Code::Internal,
            ErrorReason::UpstreamUnreadable,
            Detail::None,
            Unspecified,
        ),
        ErrorKind::Refused(_) | ErrorKind::Unavailable { .. } => row(
            Code::Unavailable,
            ErrorReason::UpstreamUnavailable,
            Detail::None,
            After(SOON),
        ),
        ErrorKind::BreakerOpen { retry_after } => row(
            Code::Unavailable,
            ErrorReason::UpstreamUnavailable,
            Detail::None,
            After(*retry_after),
        ),
        ErrorKind::OutcomeUnknown => {
            let retry = match error.details.recovery {
                Some(Recovery::SameRequestId { after }) => After(after),
                // The same request again, as gRPC would send it, has no result or is executed twice.
                _ => Never,
            };
            row(Code::Aborted, ErrorReason::OutcomeUnknown, Detail::None, retry)
        }

        // The gateway and the call.
        ErrorKind::StoreUnavailable | ErrorKind::StoreUnreadable => row(
            Code::Unavailable,
            ErrorReason::StoreUnavailable,
            Detail::None,
            After(SOON),
        ),
        ErrorKind::AuditUnavailable => row(
            Code::Unavailable,
            ErrorReason::AuditUnavailable,
            Detail::None,
            After(SOON),
        ),
        ErrorKind::ShuttingDown | ErrorKind::StreamInterrupted => row(
            Code::Unavailable,
            ErrorReason::ShuttingDown,
            Detail::None,
            After(Duration::ZERO),
        ),
        ErrorKind::Moved { .. } => row(Code::Unavailable, ErrorReason::OwnerMoved, Detail::None, After(SOON)),
        ErrorKind::TenantPaused => row(
            Code::Unavailable,
            ErrorReason::TenantPaused,
            Detail::None,
            After(PAUSED),
        ),
        ErrorKind::DeadlineExceeded { .. } => row(
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
            Detail::None,
            Unspecified,
        ),
        ErrorKind::CallerCancelled => row(Code::Cancelled, ErrorReason::CallerLeft, Detail::None, Unspecified),

        // The caller.
        ErrorKind::CallerUnknown => row(
            Code::Unauthenticated,
            ErrorReason::CallerUnknown,
            Detail::None,
            Unspecified,
        ),
        ErrorKind::CallerNotAllowed(denial) => {
            let detail = match denial {
                Denial::Method | Denial::Tenant => Detail::Precondition(denial.rule()),
                Denial::Fields(violations) => Detail::BadRequest(violations),
            };
            row(
                Code::PermissionDenied,
                ErrorReason::CallerNotAllowed,
                detail,
                Unspecified,
            )
        }
    }
}

/// Returns the reason of an error, for ErrorInfo and the log.
pub fn reason(error: &Error) -> &'static str {
    entry(error).reason.as_str_name()
}

/// Returns the status of an error. `remaining` is the time until the caller's deadline, if there is one: a retry by gRPC
/// keeps that deadline, so a retry after it is useless.
pub(super) fn from(error: &Error, tenant: Option<&str>, request_id: &str, remaining: Option<Duration>) -> Status {
    let entry = entry(error);
    let reason = entry.reason.as_str_name();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, metadata(error, tenant));
    details.set_request_info(request_id, "");
    entry.detail.add_to(&mut details, error, reason, tenant);
    let (retry_after, allows_retry) = match entry.retry {
        RetryAdvice::Unspecified => (None, true),
        RetryAdvice::After(after) => {
            let is_in_time = after.is_zero() || remaining.is_none_or(|remaining| after < remaining);
            (Some(after), is_in_time)
        }
        RetryAdvice::NewCall(after) => (Some(after), false),
        RetryAdvice::Never => (None, false),
    };
    if let Some(after) = retry_after {
        details.set_retry_info(Some(after));
    }
    let mut headers = MetadataMap::new();
    if !allows_retry {
        headers.insert(PUSHBACK, MetadataValue::from_static("-1"));
    } else if let Some(after) = retry_after {
        // Rounded up: a client that retries slightly too early would be refused again.
        let milliseconds = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        headers.insert(PUSHBACK, MetadataValue::from(milliseconds));
    }
    limited(entry.code, &error.to_string(), details, headers)
}

impl Detail<'_> {
    fn add_to(&self, details: &mut ErrorDetails, error: &Error, reason: &str, tenant: Option<&str>) {
        match self {
            Self::None | Self::Lead(None) => {}
            Self::BadRequest(violations) => {
                for violation in *violations {
                    details.add_bad_request_violation(&violation.field, &violation.description);
                }
            }
            Self::Resource(kind) => {
                details.set_resource_info(*kind, "", "", error.to_string());
            }
            Self::OtherLead { lead_id, attribute } => {
                details.set_resource_info(LEAD, lead_id.unwrap_or_default(), "", unique_field(*attribute));
            }
            Self::Lead(Some(id)) => {
                details.set_resource_info(LEAD, *id, "", error.to_string());
            }
            Self::OtherShare(id) => {
                let id = id.map(|id| id.to_string()).unwrap_or_default();
                details.set_resource_info(SHARE, id, "", error.to_string());
            }
            Self::Quota(suffix) => {
                let subject = format!("tenant:{}{suffix}", tenant.unwrap_or_default());
                details.add_quota_failure_violation(subject, error.to_string());
            }
            Self::Precondition(subject) => {
                details.add_precondition_failure_violation(reason, *subject, error.to_string());
            }
        }
    }
}

/// Returns the path of the field whose value another lead has. Empty if the attribute is not known.
fn unique_field(attribute: Option<&str>) -> String {
    attribute.map(|name| path(schema_name(name))).unwrap_or_default()
}

/// Returns the metadata of ErrorInfo.
fn metadata(error: &Error, tenant: Option<&str>) -> HashMap<String, String> {
    let details = &error.details;
    let own = match &error.kind {
        ErrorKind::Duplicate { attribute, .. } => {
            let field = unique_field(attribute.as_deref());
            Some(("field", field)).filter(|(_, field)| !field.is_empty())
        }
        ErrorKind::CredentialsRejected { suggested_host } | ErrorKind::Denied { suggested_host } => {
            suggested_host.clone().map(|host| ("suggested_host", host))
        }
        ErrorKind::DeadlineExceeded { place } => Some(("place", place.clone().into_owned())),
        ErrorKind::Unreadable { path } => Some(("json_path", path.clone())),
        ErrorKind::CallerNotAllowed(denial) => Some(("rule", denial.rule().to_owned())),
        _ => None,
    };
    let retry_same = match details.recovery {
        Some(Recovery::SameRequestId { .. }) => Some("true"),
        Some(Recovery::Share | Recovery::Lead | Recovery::Activity) => Some("false"),
        None => (error.kind == ErrorKind::OutcomeUnknown).then_some("false"),
    };
    let entries = [
        Some(("attempts", details.attempts.to_string())),
        Some(("queued_ms", details.queued.as_millis().to_string())),
        details
            .upstream_status
            .map(|status| ("upstream_status", status.to_string())),
        details.exception_type.clone().map(|name| ("exception_type", name)),
        details.cause.map(|cause| ("cause", cause.name().to_owned())),
        details.share_id.map(|id| ("share_id", id.to_string())),
        tenant.map(|tenant| ("tenant", tenant.to_owned())),
        own,
        retry_same.map(|same| (RETRY_SAME, same.to_owned())),
    ];
    entries
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.to_owned(), shortened(&value, MAX_VALUE_BYTES).into_owned()))
        .collect()
}

/// Returns the status of an error of tonic or of the HTTP library.
pub(super) fn plain(code: Code, reason: ErrorReason, text: &str, request_id: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_str_name(), DOMAIN, HashMap::new());
    details.set_request_info(request_id, "");
    limited(code, text, details, MetadataMap::new())
}

/// Returns the error of a request message that tonic cannot decode. `None` if the status has another cause.
pub(super) fn message_error(status: &Status) -> Option<Error> {
    // The text names fields of the contract, and no values.
    let text = shortened(status.message(), 160);
    (status.code() == Code::Internal).then(|| Error::invalid("request", format!("cannot be decoded: {text}")))
}

/// Returns a status whose headers are small enough.
fn limited(code: Code, text: &str, details: ErrorDetails, headers: MetadataMap) -> Status {
    let status = Status::with_error_details_and_metadata(code, text, details, headers);
    within(status, MAX_HEADER_BYTES - HTTP_BYTES - LATER_BYTES)
}

/// Shortens the error in the headers or trailers of a response until all headers are small enough.
pub(super) fn fit(headers: &mut HeaderMap) {
    let size = list_size(headers);
    if size + HTTP_BYTES <= MAX_HEADER_BYTES {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let error = Status::with_details(status.code(), status.message(), status.details().to_vec().into());
    let others = size.saturating_sub(headers_size(&error));
    let mut short = HeaderMap::new();
    if within(error, (MAX_HEADER_BYTES - HTTP_BYTES).saturating_sub(others))
        .add_header(&mut short)
        .is_ok()
    {
        headers.extend(short);
    }
}

/// Shortens an error inside of a response to at most `max` bytes, or as far as possible. Code, reason and RetryInfo stay.
pub(super) fn part_within(part: tonic_types::Status, max: usize) -> tonic_types::Status {
    if part.encoded_len() <= max {
        return part;
    }
    let status = Status::with_details(Code::from(part.code), part.message.clone(), part.encode_to_vec().into());
    let short = shorter(&status, |status| status.details().len() <= max);
    tonic_types::Status::decode(short.details()).unwrap_or(part)
}

fn within(status: Status, max: usize) -> Status {
    if headers_size(&status) <= max {
        return status;
    }
    shorter(&status, |status| headers_size(status) <= max)
}

/// The maximum lengths of the texts of an error, in bytes.
struct TextLimits {
    /// Of the name of a field.
    name: usize,
    /// Of a description.
    text: usize,
    /// Of the message, percent-encoded.
    message: usize,
    /// Of a value in the metadata of ErrorInfo.
    value: usize,
    /// If fewer violations fit, the next limits are tried.
    min_violations: usize,
    /// Whether to keep the details besides ErrorInfo and RetryInfo, and the metadata of ErrorInfo.
    has_details: bool,
}

/// The limits in the order in which they are tried. Long texts are shortened first, then the list of violations.
const TEXT_LIMITS: [TextLimits; 4] = [
    TextLimits {
        name: 160,
        text: 240,
        message: 1_200,
        value: 256,
        min_violations: 8,
        has_details: true,
    },
    TextLimits {
        name: 80,
        text: 120,
        message: 480,
        value: 128,
        min_violations: 4,
        has_details: true,
    },
    TextLimits {
        name: 40,
        text: 60,
        message: 160,
        value: 64,
        min_violations: 0,
        has_details: true,
    },
    TextLimits {
        name: 0,
        text: 0,
        message: 60,
        value: 0,
        min_violations: 0,
        has_details: false,
    },
];

/// Shortens a status until it fits. Returns the shortest status if none fits.
fn shorter(status: &Status, fits: impl Fn(&Status) -> bool) -> Status {
    let details = status.get_error_details();
    let (violations, hidden) = violations(&details);
    let mut shortest = status.clone();
    for limits in &TEXT_LIMITS {
        let message = shortened_message(status.message(), limits.message);
        let with_violations = |count: usize| {
            let details = bounded(&details, &violations, hidden, count, limits);
            let headers = status.metadata().clone();
            Status::with_error_details_and_metadata(status.code(), message.clone(), details, headers)
        };
        let all = violations.len().min(MAX_VIOLATIONS);
        // Binary search for the maximum number of violations that fit.
        let (mut min, mut max) = (0, all + 1);
        while max - min > 1 {
            let middle = usize::midpoint(min, max);
            if fits(&with_violations(middle)) {
                min = middle;
            } else {
                max = middle;
            }
        }
        shortest = with_violations(min);
        if fits(&shortest) && min >= limits.min_violations.min(all) {
            break;
        }
    }
    shortest
}

/// Returns the violations of fields, and the number of violations that were removed by an earlier shortening.
fn violations(details: &ErrorDetails) -> (Vec<FieldViolation>, usize) {
    let mut violations = details
        .bad_request()
        .map(|bad| bad.field_violations.clone())
        .unwrap_or_default();
    let hidden = violations.last().filter(|last| last.field.is_empty()).and_then(|last| {
        let count = last.description.strip_prefix("and ")?.strip_suffix(" more")?;
        count.parse().ok()
    });
    if hidden.is_some() {
        violations.pop();
    }
    (violations, hidden.unwrap_or_default())
}

fn bounded(
    details: &ErrorDetails,
    violations: &[FieldViolation],
    hidden: usize,
    count: usize,
    limits: &TextLimits,
) -> ErrorDetails {
    let text = |text: &str| shortened(text, limits.text).into_owned();
    let name = |text: &str| shortened(text, limits.name).into_owned();
    let mut short = ErrorDetails::new();
    if let Some(info) = details.error_info() {
        let metadata = if limits.has_details {
            info.metadata.clone()
        } else {
            HashMap::new()
        };
        let metadata = metadata
            .into_iter()
            .map(|(key, value)| (key, shortened(&value, limits.value).into_owned()));
        short.set_error_info(&info.reason, &info.domain, metadata.collect::<HashMap<_, _>>());
    }
    if let Some(info) = details.retry_info() {
        short.set_retry_info(info.retry_delay);
    }
    if !limits.has_details {
        return short;
    }
    if !violations.is_empty() || hidden > 0 {
        for violation in &violations[..count] {
            short.add_bad_request_violation(name(&violation.field), text(&violation.description));
        }
        let hidden = hidden + violations.len() - count;
        if hidden > 0 {
            short.add_bad_request_violation("", format!("and {hidden} more"));
        }
    }
    if let Some(failure) = details.quota_failure() {
        for violation in failure.violations.iter().take(4) {
            short.add_quota_failure_violation(name(&violation.subject), text(&violation.description));
        }
    }
    if let Some(failure) = details.precondition_failure() {
        for violation in failure.violations.iter().take(4) {
            let kind = name(&violation.r#type);
            short.add_precondition_failure_violation(kind, name(&violation.subject), text(&violation.description));
        }
    }
    if let Some(info) = details.resource_info() {
        let (kind, id) = (name(&info.resource_type), name(&info.resource_name));
        short.set_resource_info(kind, id, name(&info.owner), text(&info.description));
    }
    if let Some(info) = details.request_info() {
        // Ids of RPCs have at most 128 bytes.
        let id = shortened(&info.request_id, 128).into_owned();
        short.set_request_info(id, "");
    }
    short
}

/// Returns the start of a message, at most `max` bytes percent-encoded.
fn shortened_message(text: &str, max: usize) -> String {
    let length = |c: char| match c {
        ' ' | '"' | '#' | '%' | '<' | '>' | '`' | '?' | '{' | '}' => 3,
        c if c.is_ascii_graphic() => 1,
        c => 3 * c.len_utf8(),
    };
    if text.chars().map(length).sum::<usize>() <= max {
        return text.to_owned();
    }
    let mut remaining = max.saturating_sub(3);
    let kept = text.chars().take_while(|c| {
        let fits = length(*c) <= remaining;
        remaining = remaining.saturating_sub(length(*c));
        fits
    });
    kept.chain("...".chars()).collect()
}

/// Returns the size of a status in a list of headers.
fn headers_size(status: &Status) -> usize {
    let mut headers = HeaderMap::new();
    match status.add_header(&mut headers) {
        Ok(()) => list_size(&headers),
        // The status cannot be sent as it is.
        Err(_) => usize::MAX,
    }
}

/// Returns the size of a list of headers as HTTP/2 counts it.
pub(super) fn list_size(headers: &HeaderMap) -> usize {
    let size = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 32;
    headers.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Violation;

    /// The headers of an error with all headers that are added later.
    fn sent_headers(status: Status, id: &str) -> HeaderMap {
        let mut headers = status.into_http::<()>().into_parts().0.headers;
        headers.insert("x-request-id", id.parse().unwrap());
        for name in ["received", "succeeded", "failed"] {
            headers.insert(
                http::HeaderName::try_from(format!("x-leadgate-import-{name}")).unwrap(),
                u64::MAX.into(),
            );
        }
        fit(&mut headers);
        headers
    }

    fn decoded(headers: &HeaderMap) -> (Status, ErrorDetails) {
        let status = Status::from_header_map(headers).unwrap();
        let details = status.check_error_details().unwrap();
        (status, details)
    }

    fn invalid(violations: Vec<Violation>) -> Status {
        from(&ErrorKind::Invalid(violations).into(), Some("acme"), "id", None)
    }

    #[test]
    fn a_shortened_list_of_violations_ends_with_the_number_of_the_others() {
        let violation = |i| {
            Violation::new(
                format!("lead.custom[\"mx_{i}\"]"),
                format!("the account has no attribute mx_{i}"),
            )
        };
        let headers = sent_headers(invalid((0..100).map(violation).collect()), "id");
        let (status, details) = decoded(&headers);
        let violations = &details.bad_request().unwrap().field_violations;
        let (last, shown) = violations.split_last().unwrap();
        assert!(shown.len() > 20, "{}", shown.len());
        assert_eq!(last.description, format!("and {} more", 100 - shown.len()));
        assert_eq!(shown[0].field, "lead.custom[\"mx_0\"]");
        assert!(status.message().ends_with("; and 97 more"), "{}", status.message());

        // Shortened again, the number still counts all.
        let part = tonic_types::Status::decode(status.details()).unwrap();
        let part = part_within(part, 1_200);
        assert!(part.encoded_len() <= 1_200);
        let status = Status::with_details(Code::InvalidArgument, "", part.encode_to_vec().into());
        let violations = status
            .get_error_details()
            .bad_request()
            .unwrap()
            .field_violations
            .clone();
        let shown = violations.len() - 1;
        assert_eq!(violations[shown].description, format!("and {} more", 100 - shown));
    }

    #[test]
    fn a_short_error_is_not_changed() {
        let name = "x".repeat(1_000);
        let headers = sent_headers(invalid(vec![Violation::new(name.clone(), "is wrong")]), "id");
        assert_eq!(
            decoded(&headers).1.bad_request().unwrap().field_violations[0].field,
            name
        );
    }

    #[test]
    fn one_long_name_does_not_hide_the_other_violations() {
        let mut violations = vec![Violation::new("ü".repeat(5_000), "has no such attribute"); 1];
        violations.extend((0..5).map(|i| Violation::new(format!("lead.f{i}"), "is wrong")));
        let headers = sent_headers(invalid(violations), "id");
        let (_, details) = decoded(&headers);
        let shown = &details.bad_request().unwrap().field_violations;
        assert_eq!(shown.len(), 6);
        assert!(shown[0].field.ends_with("ü..."), "{}", shown[0].field);
    }

    #[test]
    fn grpc_clients_must_not_retry_after_the_deadline() {
        let retry_after = Duration::from_millis(1_500);
        let late = [
            ErrorKind::QueueFull { retry_after },
            ErrorKind::DailyBudgetExhausted { retry_after },
            ErrorKind::Unavailable { sent: false },
            ErrorKind::BreakerOpen { retry_after },
            ErrorKind::StoreUnavailable,
        ];
        let never = [
            ErrorKind::DeadlineInfeasible { retry_after },
            ErrorKind::CallerLimit { retry_after },
        ];
        let retry = |kind: &ErrorKind, remaining: Option<u64>| {
            let remaining = remaining.map(Duration::from_millis);
            let status = from(&kind.clone().into(), None, "id", remaining);
            let delay = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
            let pushback = status.metadata().get(PUSHBACK).unwrap().to_str().unwrap().to_owned();
            (pushback, delay)
        };
        for kind in &late {
            let (pushback, delay) = retry(kind, Some(2_000));
            assert_eq!(pushback, delay.as_millis().to_string(), "{kind:?}");
            assert_eq!(retry(kind, None), (pushback, delay), "{kind:?}");
            for remaining in [0, 900, 1_000] {
                assert_eq!(
                    retry(kind, Some(remaining)),
                    ("-1".to_owned(), delay),
                    "{kind:?} {remaining}"
                );
            }
        }
        for kind in &never {
            for remaining in [None, Some(0), Some(900), Some(3_600_000)] {
                assert_eq!(retry(kind, remaining), ("-1".to_owned(), retry_after), "{kind:?}");
            }
        }
        for remaining in [None, Some(0), Some(5_000)] {
            let retry = retry(&ErrorKind::ShuttingDown, remaining);
            assert_eq!(retry, ("0".to_owned(), Duration::ZERO));
        }
    }

    #[test]
    fn each_reason_is_in_the_docs() {
        let docs = include_str!("../../docs/errors.md");
        let table = docs.split("## Reasons").nth(1).unwrap().split("\n## ").next().unwrap();
        // The cells with reasons: after the code.
        let documented: BTreeSet<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix('|')?.split('|').nth(1))
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        let reasons = (1..).map_while(|number| ErrorReason::try_from(number).ok());
        let reasons: BTreeSet<&str> = reasons.map(|reason| reason.as_str_name()).collect();
        assert_eq!(documented, reasons);
    }

    #[test]
    fn the_shortest_part_has_code_reason_and_retry_info() {
        let error = Error::from(ErrorKind::QueueFull {
            retry_after: Duration::from_secs(7),
        });
        let status = from(&error, Some(&"t".repeat(5_000)), &"i".repeat(128), None);
        let part = tonic_types::Status::decode(status.details()).unwrap();
        let part = part_within(part, 256);
        assert!(part.encoded_len() <= 256, "{}", part.encoded_len());
        assert_eq!(Code::from(part.code), Code::ResourceExhausted);
        let status = Status::with_details(Code::ResourceExhausted, "", part.encode_to_vec().into());
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "QUEUE_FULL");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(7)));
    }

    /// Texts of any length, in any script.
    fn texts() -> impl Strategy<Value = String> {
        let length = prop_oneof![Just(1_usize), Just(10), Just(100), Just(1_000), Just(6_000)];
        (".{1,3}", length).prop_map(|(text, times)| text.repeat(times))
    }

    fn errors() -> impl Strategy<Value = ErrorKind> {
        let violations = prop::collection::vec((texts(), texts()), 1..150);
        prop_oneof![
            violations.prop_map(|all| ErrorKind::Invalid(
                all.into_iter().map(|(name, text)| Violation::new(name, text)).collect()
            )),
            texts().prop_map(|name| ErrorKind::Duplicate {
                attribute: Some(name.clone()),
                lead_id: Some(name)
            }),
            texts().prop_map(|path| ErrorKind::Unreadable { path }),
            texts().prop_map(|place| ErrorKind::DeadlineExceeded { place: place.into() }),
            texts().prop_map(|host| ErrorKind::CredentialsRejected {
                suggested_host: Some(host)
            }),
            texts().prop_map(|id| ErrorKind::ResponseTooLarge {
                bytes: 1,
                limit: 1,
                lead_id: Some(id)
            }),
            Just(ErrorKind::Exception),
            Just(ErrorKind::DeadlineInfeasible {
                retry_after: Duration::from_millis(1_234)
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn every_error_has_small_headers_and_keeps_what_programs_read(
            kind in errors(),
            exception_type in texts(),
            tenant in texts(),
            id in "[a-z]{1,128}",
        ) {
            let mut error = Error::from(kind);
            error.details.exception_type = Some(exception_type);
            let status = from(&error, Some(&tenant), &id, None);
            let code = status.code();
            let headers = sent_headers(status, &id);
            prop_assert!(list_size(&headers) + HTTP_BYTES <= MAX_HEADER_BYTES, "{}", list_size(&headers));
            let (status, details) = decoded(&headers);
            prop_assert_eq!(status.code(), code);
            let info = details.error_info().unwrap();
            prop_assert_eq!(&info.reason, reason(&error));
            for key in ["attempts", "queued_ms", "exception_type", "tenant"] {
                prop_assert!(info.metadata.contains_key(key), "{}", key);
            }
            if let ErrorKind::DeadlineInfeasible { retry_after } = error.kind {
                prop_assert_eq!(details.retry_info().unwrap().retry_delay, Some(retry_after));
            }
            if let ErrorKind::Invalid(violations) = &error.kind {
                let shown = &details.bad_request().unwrap().field_violations;
                prop_assert!(!shown.is_empty() && shown.len() <= violations.len() + 1);
            }
        }
    }
}
