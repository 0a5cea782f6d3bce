//! The one table from our errors to gRPC codes and details.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::domain::lead::{path, schema_name};
use crate::error::{Error, ErrorKind, FailureDetails, Recovery, Resource, shortened};

const DOMAIN: &str = "leadgate";
/// Whether the same request with the same request id is to be sent again.
const RETRY_SAME: &str = "retry_same_request_id";
/// What gRPC clients read to know when to retry.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// What to tell a caller to wait where nobody knows better.
const SOON: Duration = Duration::from_secs(1);
const LEAD: &str = "leadgate.v1.Lead";
const SHARE: &str = "leadgate.v1.Share";

/// What all headers of an error may have together, as HTTP/2 counts them: each its name, its value and 32 bytes. Clients in
/// Java take 8 KB, and proxies on the way add some.
const MAX_BYTES: usize = 6_000;
/// What the HTTP library adds: `:status` and `date`.
const ADDED: usize = 120;
/// What comes to a status later: content-type, x-request-id, the counts of an import, grpc-accept-encoding.
const LATER: usize = 600;
/// The most bytes of a value in the metadata of ErrorInfo.
const MAX_VALUE: usize = 256;
/// The most violations that are tried to be kept: more do not fit in any case.
const MAX_VIOLATIONS: usize = 200;

/// The status for a caller. `left` is the time until the deadline that the caller has set, if any: gRPC's own retry keeps
/// that deadline, so what can be served only after it must not be retried inside of the call.
pub(super) fn from(error: &Error, tenant: Option<&str>, request_id: &str, left: Option<Duration>) -> Status {
    let row = row(&error.kind);
    let mut details = ErrorDetails::new();
    let mut metadata = metadata(&error.details, tenant);
    let (mut retry_after, mut in_call) = (None, true);
    match &error.kind {
        ErrorKind::Invalid(violations) => {
            for violation in violations {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
        }
        ErrorKind::Duplicate { attribute, lead_id } => {
            let field = attribute
                .as_deref()
                .map(|name| path(schema_name(name)))
                .unwrap_or_default();
            if !field.is_empty() {
                metadata.insert("field".to_owned(), field.clone());
            }
            details.set_resource_info(LEAD, lead_id.as_deref().unwrap_or_default(), "", field);
        }
        ErrorKind::NotFound(resource) => {
            let kind = match resource {
                Resource::Lead => LEAD,
                Resource::User => "leadgate.v1.User",
                Resource::Activity => "leadgate.v1.Activity",
                Resource::Opportunity => "leadgate.v1.Opportunity",
                Resource::Share => SHARE,
            };
            details.set_resource_info(kind, "", "", error.to_string());
        }
        ErrorKind::DeadlineInfeasible { retry_after: after } | ErrorKind::CallerLimit { retry_after: after } => {
            details.add_quota_failure_violation(subject(&error.kind, tenant), error.to_string());
            (retry_after, in_call) = (Some(*after), false);
        }
        ErrorKind::QueueFull { retry_after: after } | ErrorKind::DailyBudgetExhausted { retry_after: after } => {
            details.add_quota_failure_violation(subject(&error.kind, tenant), error.to_string());
            retry_after = Some(*after);
        }
        ErrorKind::CredentialsRejected { suggested_host } | ErrorKind::Denied { suggested_host } => {
            if let Some(host) = suggested_host {
                metadata.insert("suggested_host".to_owned(), host.clone());
            }
            details.add_precondition_failure_violation(row.reason, "credentials", error.to_string());
        }
        ErrorKind::FeatureDisabled => {
            details.add_precondition_failure_violation(row.reason, "account", error.to_string());
        }
        ErrorKind::NotASalesUser | ErrorKind::ShareLimitReached => {
            details.add_precondition_failure_violation(row.reason, "user", error.to_string());
        }
        ErrorKind::ShareNotActive | ErrorKind::ShareNotRetryable => {
            details.add_precondition_failure_violation(row.reason, "share", error.to_string());
        }
        ErrorKind::ShareExists { by } => {
            let id = by.map(|id| id.to_string());
            details.set_resource_info(SHARE, id.unwrap_or_default(), "", error.to_string());
        }
        ErrorKind::BreakerOpen { retry_after: after } => retry_after = Some(*after),
        ErrorKind::Unavailable { .. }
        | ErrorKind::Refused(_)
        | ErrorKind::StoreUnavailable
        | ErrorKind::StoreUnreadable
        | ErrorKind::StreamNotRead => {
            retry_after = Some(SOON);
        }
        ErrorKind::ResponseTooLarge { lead_id, .. } => {
            if let Some(id) = lead_id {
                details.set_resource_info(LEAD, id, "", error.to_string());
            }
            in_call = false;
        }
        ErrorKind::DeadlineExceeded { place } => {
            metadata.insert("place".to_owned(), place.clone().into_owned());
        }
        ErrorKind::Unreadable { path } => {
            metadata.insert("json_path".to_owned(), path.clone());
        }
        ErrorKind::ShuttingDown | ErrorKind::StreamInterrupted => retry_after = Some(Duration::ZERO),
        ErrorKind::OutcomeUnknown => match error.details.recovery {
            Some(Recovery::SameRequestId { after }) => retry_after = Some(after),
            // The same again, as gRPC would send it, settles nothing or does it twice.
            _ => in_call = false,
        },
        ErrorKind::Exception | ErrorKind::CallerCancelled => {}
    }
    let same = match error.details.recovery {
        Some(Recovery::SameRequestId { .. }) => Some("true"),
        Some(Recovery::Share | Recovery::Lead | Recovery::Activity) => Some("false"),
        None => (error.kind == ErrorKind::OutcomeUnknown).then_some("false"),
    };
    if let Some(same) = same {
        metadata.insert(RETRY_SAME.to_owned(), same.to_owned());
    }
    for value in metadata.values_mut() {
        *value = shortened(value, MAX_VALUE).into_owned();
    }
    details.set_error_info(row.reason, DOMAIN, metadata);
    details.set_request_info(request_id, "");
    if let Some(after) = retry_after {
        details.set_retry_info(Some(after));
        in_call &= after.is_zero() || left.is_none_or(|left| after < left);
    }
    let mut headers = MetadataMap::new();
    if !in_call {
        headers.insert(PUSHBACK, MetadataValue::from_static("-1"));
    } else if let Some(after) = retry_after {
        // Rounded up: a client that comes a little too early would be refused again.
        let milliseconds = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        headers.insert(PUSHBACK, MetadataValue::from(milliseconds));
    }
    finished(row.code, &error.to_string(), details, headers)
}

/// The status for a request that did not get as far as our own errors.
pub(super) fn plain(code: Code, reason: &str, text: &str, request_id: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    details.set_request_info(request_id, "");
    finished(code, text, details, MetadataMap::new())
}

/// What is wrong with a message that tonic could not read; `None` where that is not what its status says.
pub(super) fn unread(status: &Status) -> Option<Error> {
    // It names fields of ours, and no values.
    let text = shortened(status.message(), 160);
    (status.code() == Code::Internal)
        .then(|| Error::invalid("request", format!("is not a message of this rpc: {text}")))
}

/// A status whose headers are short enough.
fn finished(code: Code, text: &str, details: ErrorDetails, headers: MetadataMap) -> Status {
    let status = Status::with_error_details_and_metadata(code, text, details, headers);
    within(status, MAX_BYTES - ADDED - LATER)
}

/// Shortens the error in the headers, or trailers, of a response until all of them are short enough.
pub(super) fn fit(headers: &mut HeaderMap) {
    let size = list_size(headers);
    if size + ADDED <= MAX_BYTES {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let own = Status::with_details(status.code(), status.message(), status.details().to_vec().into());
    let others = size.saturating_sub(headers_size(&own));
    let mut short = HeaderMap::new();
    if within(own, (MAX_BYTES - ADDED).saturating_sub(others))
        .add_header(&mut short)
        .is_ok()
    {
        headers.extend(short);
    }
}

/// The error inside of a response in at most so many bytes, or in the fewest. Code, reason and RetryInfo stay.
pub(super) fn part_within(part: tonic_types::Status, most: usize) -> tonic_types::Status {
    if part.encoded_len() <= most {
        return part;
    }
    let status = Status::with_details(Code::from(part.code), part.message.clone(), part.encode_to_vec().into());
    let short = shorter(&status, |status| status.details().len() <= most);
    tonic_types::Status::decode(short.details()).unwrap_or(part)
}

fn within(status: Status, most: usize) -> Status {
    if headers_size(&status) <= most {
        return status;
    }
    shorter(&status, |status| headers_size(status) <= most)
}

/// How much of the texts of an error stays, in bytes.
struct Bounds {
    /// Of the name of a field.
    name: usize,
    /// Of a description.
    text: usize,
    /// Of the message, as it travels.
    message: usize,
    /// Of a value in the metadata of ErrorInfo.
    value: usize,
    /// So many violations have to fit, or the next bounds are tried.
    least: usize,
    /// Whether there is more than ErrorInfo and RetryInfo, and metadata in it.
    is_whole: bool,
}

/// In this order: long texts are shortened, then the list of violations; and where few of them fit, more is taken away.
const BOUNDS: [Bounds; 4] = [
    Bounds {
        name: 160,
        text: 240,
        message: 1_200,
        value: 256,
        least: 8,
        is_whole: true,
    },
    Bounds {
        name: 80,
        text: 120,
        message: 480,
        value: 128,
        least: 4,
        is_whole: true,
    },
    Bounds {
        name: 40,
        text: 60,
        message: 160,
        value: 64,
        least: 0,
        is_whole: true,
    },
    Bounds {
        name: 0,
        text: 0,
        message: 60,
        value: 0,
        least: 0,
        is_whole: false,
    },
];

/// The status with as much of it as fits; the shortest one, if nothing does.
fn shorter(status: &Status, fits: impl Fn(&Status) -> bool) -> Status {
    let details = status.get_error_details();
    let (violations, hidden) = violations(&details);
    let mut shortest = status.clone();
    for bounds in &BOUNDS {
        let message = travelling(status.message(), bounds.message);
        let of = |count: usize| {
            let details = bounded(&details, &violations, hidden, count, bounds);
            let headers = status.metadata().clone();
            Status::with_error_details_and_metadata(status.code(), message.clone(), details, headers)
        };
        let all = violations.len().min(MAX_VIOLATIONS);
        // The most violations that fit.
        let (mut least, mut most) = (0, all + 1);
        while most - least > 1 {
            let middle = usize::midpoint(least, most);
            if fits(&of(middle)) {
                least = middle;
            } else {
                most = middle;
            }
        }
        shortest = of(least);
        if fits(&shortest) && least >= bounds.least.min(all) {
            break;
        }
    }
    shortest
}

/// The violations of fields, and how many more there were before they were shortened.
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
    bounds: &Bounds,
) -> ErrorDetails {
    let text = |text: &str| shortened(text, bounds.text).into_owned();
    let name = |text: &str| shortened(text, bounds.name).into_owned();
    let mut short = ErrorDetails::new();
    if let Some(info) = details.error_info() {
        let metadata = if bounds.is_whole {
            info.metadata.clone()
        } else {
            HashMap::new()
        };
        let metadata = metadata
            .into_iter()
            .map(|(key, value)| (key, shortened(&value, bounds.value).into_owned()));
        short.set_error_info(&info.reason, &info.domain, metadata.collect::<HashMap<_, _>>());
    }
    if let Some(info) = details.retry_info() {
        short.set_retry_info(info.retry_delay);
    }
    if !bounds.is_whole {
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
        // The id of the call in logs has at most 128.
        let id = shortened(&info.request_id, 128).into_owned();
        short.set_request_info(id, "");
    }
    short
}

/// The beginning of a message that has at most so many bytes as it travels: percent-encoded.
fn travelling(text: &str, most: usize) -> String {
    let length = |c: char| match c {
        ' ' | '"' | '#' | '%' | '<' | '>' | '`' | '?' | '{' | '}' => 3,
        c if c.is_ascii_graphic() => 1,
        c => 3 * c.len_utf8(),
    };
    if text.chars().map(length).sum::<usize>() <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(3);
    let kept = text.chars().take_while(|c| {
        let fits = length(*c) <= left;
        left = left.saturating_sub(length(*c));
        fits
    });
    kept.chain("...".chars()).collect()
}

/// What the status takes in a list of headers.
fn headers_size(status: &Status) -> usize {
    let mut headers = HeaderMap::new();
    match status.add_header(&mut headers) {
        Ok(()) => list_size(&headers),
        // It cannot be sent as it is.
        Err(_) => usize::MAX,
    }
}

/// The size of a list of headers as HTTP/2 counts it.
pub(super) fn list_size(headers: &HeaderMap) -> usize {
    let size = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 32;
    headers.iter().map(size).sum()
}

/// The reason that callers and the log are told.
pub(super) fn reason(kind: &ErrorKind) -> &'static str {
    row(kind).reason
}

/// Whose quota it is.
fn subject(kind: &ErrorKind, tenant: Option<&str>) -> String {
    let tenant = tenant.unwrap_or_default();
    match kind {
        ErrorKind::CallerLimit { .. } => format!("tenant:{tenant}/caller"),
        _ => format!("tenant:{tenant}"),
    }
}

struct Row {
    code: Code,
    reason: &'static str,
}

fn row(kind: &ErrorKind) -> Row {
    let (code, reason) = match kind {
        ErrorKind::Invalid(_) => (Code::InvalidArgument, "INVALID_FIELD"),
        ErrorKind::Duplicate { .. } => (Code::AlreadyExists, "LEAD_DUPLICATE"),
        ErrorKind::NotFound(Resource::Lead) => (Code::NotFound, "LEAD_NOT_FOUND"),
        ErrorKind::NotFound(Resource::User) => (Code::NotFound, "USER_NOT_FOUND"),
        ErrorKind::NotFound(Resource::Activity) => (Code::NotFound, "ACTIVITY_NOT_FOUND"),
        ErrorKind::NotFound(Resource::Opportunity) => (Code::NotFound, "OPPORTUNITY_NOT_FOUND"),
        ErrorKind::NotFound(Resource::Share) => (Code::NotFound, "SHARE_NOT_FOUND"),
        ErrorKind::DeadlineInfeasible { .. } => (Code::ResourceExhausted, "DEADLINE_INFEASIBLE"),
        ErrorKind::CallerLimit { .. } => (Code::ResourceExhausted, "CALLER_LIMIT"),
        ErrorKind::QueueFull { .. } => (Code::ResourceExhausted, "QUEUE_FULL"),
        ErrorKind::DailyBudgetExhausted { .. } => (Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED"),
        ErrorKind::CredentialsRejected { .. } | ErrorKind::Denied { .. } => {
            (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED")
        }
        ErrorKind::FeatureDisabled => (Code::FailedPrecondition, "UPSTREAM_FEATURE_DISABLED"),
        ErrorKind::NotASalesUser => (Code::FailedPrecondition, "NOT_A_SALES_USER"),
        ErrorKind::ShareLimitReached => (Code::FailedPrecondition, "SHARE_LIMIT_REACHED"),
        ErrorKind::ShareExists { .. } => (Code::AlreadyExists, "SHARE_EXISTS"),
        ErrorKind::ShareNotActive => (Code::FailedPrecondition, "SHARE_NOT_ACTIVE"),
        ErrorKind::ShareNotRetryable => (Code::FailedPrecondition, "SHARE_NOT_RETRYABLE"),
        ErrorKind::Exception => (Code::Unknown, "UPSTREAM_EXCEPTION"),
        ErrorKind::Refused(_) | ErrorKind::Unavailable { .. } | ErrorKind::BreakerOpen { .. } => {
            (Code::Unavailable, "UPSTREAM_UNAVAILABLE")
        }
        ErrorKind::OutcomeUnknown => (Code::Aborted, "OUTCOME_UNKNOWN"),
        ErrorKind::ResponseTooLarge { .. } => (Code::ResourceExhausted, "RESPONSE_TOO_LARGE"),
        ErrorKind::DeadlineExceeded { .. } => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        ErrorKind::Unreadable { .. } => (Code::Internal, "UPSTREAM_UNREADABLE"),
        ErrorKind::StoreUnavailable | ErrorKind::StoreUnreadable => (Code::Unavailable, "STORE_UNAVAILABLE"),
        ErrorKind::StreamNotRead => (Code::ResourceExhausted, "QUEUE_FULL"),
        ErrorKind::ShuttingDown | ErrorKind::StreamInterrupted => (Code::Unavailable, "SHUTTING_DOWN"),
        ErrorKind::CallerCancelled => (Code::Cancelled, "CALLER_LEFT"),
    };
    Row { code, reason }
}

fn metadata(details: &FailureDetails, tenant: Option<&str>) -> HashMap<String, String> {
    let mut metadata = HashMap::from([
        ("attempts".to_owned(), details.attempts.to_string()),
        ("queued_ms".to_owned(), details.queued.as_millis().to_string()),
    ]);
    if let Some(status) = details.upstream_status {
        metadata.insert("upstream_status".to_owned(), status.to_string());
    }
    if let Some(name) = &details.exception_type {
        metadata.insert("exception_type".to_owned(), name.clone());
    }
    if let Some(cause) = details.cause {
        metadata.insert("cause".to_owned(), cause.name().to_owned());
    }
    if let Some(id) = details.share_id {
        metadata.insert("share_id".to_owned(), id.to_string());
    }
    if let Some(tenant) = tenant {
        metadata.insert("tenant".to_owned(), tenant.to_owned());
    }
    metadata
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Violation;

    /// The headers of an error as they travel with everything that comes to them.
    fn travelled(status: Status, id: &str) -> HeaderMap {
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
    fn a_list_of_violations_ends_with_how_many_more_there_are() {
        let violation = |i| {
            Violation::new(
                format!("lead.custom[\"mx_{i}\"]"),
                format!("the account has no attribute mx_{i}"),
            )
        };
        let headers = travelled(invalid((0..100).map(violation).collect()), "id");
        let (status, details) = decoded(&headers);
        let violations = &details.bad_request().unwrap().field_violations;
        let (last, shown) = violations.split_last().unwrap();
        assert!(shown.len() > 20, "{}", shown.len());
        assert_eq!(last.description, format!("and {} more", 100 - shown.len()));
        assert_eq!(shown[0].field, "lead.custom[\"mx_0\"]");
        assert!(status.message().ends_with("; and 97 more"), "{}", status.message());

        // Shortened again, it still counts all.
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
    fn an_error_that_is_short_enough_stays_as_it_is() {
        let name = "x".repeat(1_000);
        let headers = travelled(invalid(vec![Violation::new(name.clone(), "is wrong")]), "id");
        assert_eq!(
            decoded(&headers).1.bad_request().unwrap().field_violations[0].field,
            name
        );
    }

    #[test]
    fn one_long_name_does_not_hide_the_other_violations() {
        let mut violations = vec![Violation::new("ü".repeat(5_000), "has no such attribute"); 1];
        violations.extend((0..5).map(|i| Violation::new(format!("lead.f{i}"), "is wrong")));
        let headers = travelled(invalid(violations), "id");
        let (_, details) = decoded(&headers);
        let shown = &details.bad_request().unwrap().field_violations;
        assert_eq!(shown.len(), 6);
        assert!(shown[0].field.ends_with("ü..."), "{}", shown[0].field);
    }

    #[test]
    fn what_is_served_only_after_the_deadline_is_not_to_be_retried_inside_of_the_call() {
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
        let told = |kind: &ErrorKind, left: Option<u64>| {
            let left = left.map(Duration::from_millis);
            let status = from(&kind.clone().into(), None, "id", left);
            let delay = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
            let pushback = status.metadata().get(PUSHBACK).unwrap().to_str().unwrap().to_owned();
            (pushback, delay)
        };
        for kind in &late {
            let (pushback, delay) = told(kind, Some(2_000));
            assert_eq!(pushback, delay.as_millis().to_string(), "{kind:?}");
            assert_eq!(told(kind, None), (pushback, delay), "{kind:?}");
            for left in [0, 900, 1_000] {
                assert_eq!(told(kind, Some(left)), ("-1".to_owned(), delay), "{kind:?} {left}");
            }
        }
        for kind in &never {
            for left in [None, Some(0), Some(900), Some(3_600_000)] {
                assert_eq!(told(kind, left), ("-1".to_owned(), retry_after), "{kind:?}");
            }
        }
        for left in [None, Some(0), Some(5_000)] {
            let told = told(&ErrorKind::ShuttingDown, left);
            assert_eq!(told, ("0".to_owned(), Duration::ZERO));
        }
    }

    #[test]
    fn the_shortest_part_has_code_reason_and_when_to_retry() {
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
        fn every_error_is_short_as_it_travels_and_keeps_what_programs_read(
            kind in errors(),
            exception_type in texts(),
            tenant in texts(),
            id in "[a-z]{1,128}",
        ) {
            let mut error = Error::from(kind);
            error.details.exception_type = Some(exception_type);
            let status = from(&error, Some(&tenant), &id, None);
            let code = status.code();
            let headers = travelled(status, &id);
            prop_assert!(list_size(&headers) + ADDED <= MAX_BYTES, "{}", list_size(&headers));
            let (status, details) = decoded(&headers);
            prop_assert_eq!(status.code(), code);
            let info = details.error_info().unwrap();
            prop_assert_eq!(&info.reason, reason(&error.kind));
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
