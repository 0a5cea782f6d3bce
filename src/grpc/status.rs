//! The one table from our errors to gRPC codes and details.

use std::collections::HashMap;
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::lead::schema_name;
use crate::domain::lead::standard;
use crate::error::{Error, Facts, Kind, Resource};

const DOMAIN: &str = "leadgate";
/// What gRPC clients read to know when to retry.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// What to tell a caller to wait where nobody knows better.
const SOON: Duration = Duration::from_secs(1);
const LEAD: &str = "leadgate.v1.Lead";
const SHARE: &str = "leadgate.v1.Share";

/// The status for a caller.
pub(super) fn from(error: &Error, tenant: Option<&str>, request_id: &str) -> Status {
    let row = row(&error.kind);
    let mut details = ErrorDetails::new();
    let mut metadata = metadata(&error.facts, tenant);
    let mut pushback = None;
    match &error.kind {
        Kind::Invalid(violations) => {
            for violation in violations {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
        }
        Kind::Duplicate { attribute, lead_id } => {
            let field = attribute.as_deref().map_or("", field_name);
            if !field.is_empty() {
                metadata.insert("field".to_owned(), field.to_owned());
            }
            details.set_resource_info(LEAD, lead_id.as_deref().unwrap_or_default(), "", field);
        }
        Kind::NotFound(resource) => {
            let kind = match resource {
                Resource::Lead => LEAD,
                Resource::User => "leadgate.v1.User",
                Resource::Activity => "leadgate.v1.Activity",
                Resource::Opportunity => "leadgate.v1.Opportunity",
                Resource::Share => SHARE,
            };
            details.set_resource_info(kind, "", "", error.to_string());
        }
        Kind::DeadlineInfeasible { retry_after } | Kind::CallerLimit { retry_after } => {
            details.add_quota_failure_violation(subject(&error.kind, tenant), error.to_string());
            pushback = *retry_after;
        }
        Kind::QueueFull { retry_after } | Kind::DailyBudgetExhausted { retry_after } => {
            details.add_quota_failure_violation(subject(&error.kind, tenant), error.to_string());
            pushback = Some(*retry_after);
        }
        Kind::CredentialsRejected { suggested_host } | Kind::Denied { suggested_host } => {
            if let Some(host) = suggested_host {
                metadata.insert("suggested_host".to_owned(), host.clone());
            }
            details.add_precondition_failure_violation(row.reason, "credentials", error.to_string());
        }
        Kind::FeatureDisabled => {
            details.add_precondition_failure_violation(row.reason, "account", error.to_string());
        }
        Kind::NotASalesUser | Kind::ShareLimitReached => {
            details.add_precondition_failure_violation(row.reason, "user", error.to_string());
        }
        Kind::ShareNotActive | Kind::ShareNotRetryable => {
            details.add_precondition_failure_violation(row.reason, "share", error.to_string());
        }
        Kind::ShareExists { by } => {
            let id = by.map(|id| id.to_string());
            details.set_resource_info(SHARE, id.unwrap_or_default(), "", error.to_string());
        }
        Kind::Unavailable { .. } | Kind::Refused(_) | Kind::StoreUnavailable => pushback = Some(SOON),
        Kind::DeadlineExceeded { place } => {
            metadata.insert("place".to_owned(), place.clone().into_owned());
        }
        Kind::Unreadable { path } => {
            metadata.insert("json_path".to_owned(), path.clone());
        }
        Kind::ShuttingDown => pushback = Some(Duration::ZERO),
        Kind::Exception | Kind::OutcomeUnknown | Kind::CallerLeft => {}
    }
    details.set_error_info(row.reason, DOMAIN, metadata);
    details.set_request_info(request_id, "");
    if let Some(pushback) = pushback {
        details.set_retry_info(Some(pushback));
    }
    let mut status = Status::with_error_details(row.code, error.to_string(), details);
    if let Some(pushback) = pushback {
        // Rounded up: a client that comes a little too early would be refused again.
        let milliseconds = u64::try_from(pushback.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        status
            .metadata_mut()
            .insert(PUSHBACK, MetadataValue::from(milliseconds));
    }
    status
}

/// The status for a request that did not get as far as our own errors.
pub(super) fn plain(code: Code, reason: &str, text: &str, request_id: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    details.set_request_info(request_id, "");
    Status::with_error_details(code, text, details)
}

/// The reason that callers and the log are told.
pub(super) fn reason(kind: &Kind) -> &'static str {
    row(kind).reason
}

/// Whose quota it is.
fn subject(kind: &Kind, tenant: Option<&str>) -> String {
    let tenant = tenant.unwrap_or_default();
    match kind {
        Kind::CallerLimit { .. } => format!("tenant:{tenant}/caller"),
        _ => format!("tenant:{tenant}"),
    }
}

struct Row {
    code: Code,
    reason: &'static str,
}

fn row(kind: &Kind) -> Row {
    let (code, reason) = match kind {
        Kind::Invalid(_) => (Code::InvalidArgument, "INVALID_FIELD"),
        Kind::Duplicate { .. } => (Code::AlreadyExists, "LEAD_DUPLICATE"),
        Kind::NotFound(Resource::Lead) => (Code::NotFound, "LEAD_NOT_FOUND"),
        Kind::NotFound(Resource::User) => (Code::NotFound, "USER_NOT_FOUND"),
        Kind::NotFound(Resource::Activity) => (Code::NotFound, "ACTIVITY_NOT_FOUND"),
        Kind::NotFound(Resource::Opportunity) => (Code::NotFound, "OPPORTUNITY_NOT_FOUND"),
        Kind::NotFound(Resource::Share) => (Code::NotFound, "SHARE_NOT_FOUND"),
        Kind::DeadlineInfeasible { .. } => (Code::ResourceExhausted, "DEADLINE_INFEASIBLE"),
        Kind::CallerLimit { .. } => (Code::ResourceExhausted, "CALLER_LIMIT"),
        Kind::QueueFull { .. } => (Code::ResourceExhausted, "QUEUE_FULL"),
        Kind::DailyBudgetExhausted { .. } => (Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED"),
        Kind::CredentialsRejected { .. } | Kind::Denied { .. } => {
            (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED")
        }
        Kind::FeatureDisabled => (Code::FailedPrecondition, "UPSTREAM_FEATURE_DISABLED"),
        Kind::NotASalesUser => (Code::FailedPrecondition, "NOT_A_SALES_USER"),
        Kind::ShareLimitReached => (Code::FailedPrecondition, "SHARE_LIMIT_REACHED"),
        Kind::ShareExists { .. } => (Code::AlreadyExists, "SHARE_EXISTS"),
        Kind::ShareNotActive => (Code::FailedPrecondition, "SHARE_NOT_ACTIVE"),
        Kind::ShareNotRetryable => (Code::FailedPrecondition, "SHARE_NOT_RETRYABLE"),
        Kind::Exception => (Code::Unknown, "UPSTREAM_EXCEPTION"),
        Kind::Refused(_) | Kind::Unavailable { .. } => (Code::Unavailable, "UPSTREAM_UNAVAILABLE"),
        Kind::OutcomeUnknown => (Code::Aborted, "OUTCOME_UNKNOWN"),
        Kind::DeadlineExceeded { .. } => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        Kind::Unreadable { .. } => (Code::Internal, "UPSTREAM_UNREADABLE"),
        Kind::StoreUnavailable => (Code::Unavailable, "STORE_UNAVAILABLE"),
        Kind::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        Kind::CallerLeft => (Code::Cancelled, "CALLER_LEFT"),
    };
    Row { code, reason }
}

fn metadata(facts: &Facts, tenant: Option<&str>) -> HashMap<String, String> {
    let mut metadata = HashMap::from([
        ("attempts".to_owned(), facts.attempts.to_string()),
        ("queued_ms".to_owned(), facts.queued.as_millis().to_string()),
    ]);
    if let Some(status) = facts.upstream_status {
        metadata.insert("upstream_status".to_owned(), status.to_string());
    }
    if let Some(name) = &facts.exception_type {
        metadata.insert("exception_type".to_owned(), name.clone());
    }
    if let Some(cause) = facts.cause {
        metadata.insert("cause".to_owned(), cause.name().to_owned());
    }
    if let Some(id) = facts.share_id {
        metadata.insert("share_id".to_owned(), id.to_string());
    }
    if let Some(tenant) = tenant {
        metadata.insert("tenant".to_owned(), tenant.to_owned());
    }
    metadata
}

/// The name of the attribute in LeadFields, or the vendor's where it has none.
fn field_name(attribute: &str) -> &str {
    standard(schema_name(attribute)).map_or(attribute, |standard| standard.name)
}
