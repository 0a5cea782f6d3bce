//! The stored form of an error: in the result of a mutation, and in a failed share.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::names;
use crate::error as domain;

/// An error.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct ErrorRecord {
    kind: ErrorKindRecord,
    facts: FailureDetailsRecord,
}

/// The kind of an error.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum ErrorKindRecord {
    Invalid(Vec<ViolationRecord>),
    Duplicate {
        attribute: Option<String>,
        lead_id: Option<String>,
    },
    NotFound(ResourceRecord),
    DeadlineInfeasible {
        retry_after: Duration,
    },
    CallerLimit {
        retry_after: Duration,
    },
    QueueFull {
        retry_after: Duration,
    },
    CallerRpcLimit {
        retry_after: Duration,
    },
    DailyBudgetExhausted {
        retry_after: Duration,
    },
    CredentialsRejected {
        suggested_host: Option<String>,
    },
    Denied {
        suggested_host: Option<String>,
    },
    FeatureDisabled,
    NotASalesUser,
    ShareLimitReached,
    ShareExists {
        by: Option<Uuid>,
    },
    ShareNotActive,
    ShareNotRetryable,
    Exception,
    #[serde(rename = "Refused")]
    RateLimited(RefusalRecord),
    Unavailable {
        sent: bool,
    },
    BreakerOpen {
        retry_after: Duration,
    },
    OutcomeUnknown,
    ResponseTooLarge {
        bytes: usize,
        limit: usize,
        lead_id: Option<String>,
    },
    DeadlineExceeded {
        place: String,
    },
    Unreadable {
        path: String,
    },
    StoreUnavailable,
    StoreUnreadable,
    StreamNotRead,
    ShuttingDown,
    StreamInterrupted,
    #[serde(rename = "CallerLeft")]
    CallerCancelled,
    CallerUnknown,
    CallerNotAllowed(DenialRecord),
    AuditUnavailable,
}

/// The rule that does not allow a request.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum DenialRecord {
    Method,
    Tenant,
    Fields(Vec<ViolationRecord>),
}

/// A rejection by the rate limit of LeadSquared.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum RefusalRecord {
    Window(Option<LimitRecord>),
    Daily,
}

/// A rate limit.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct LimitRecord {
    calls: u32,
    per: Duration,
}

/// An error in a field of a message.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct ViolationRecord {
    field: String,
    description: String,
}

names! {
    /// The resource that was not found.
    ResourceRecord of domain::Resource {
        "Lead" = Lead,
        "User" = User,
        "Activity" = Activity,
        "Opportunity" = Opportunity,
        "Share" = Share,
    }
}

/// The details of an error. Fields with a default are missing in the oldest documents.
#[derive(Debug, Serialize, Deserialize)]
struct FailureDetailsRecord {
    upstream_status: Option<u16>,
    exception_type: Option<String>,
    #[serde(default)]
    is_page: bool,
    attempts: u32,
    queued: Duration,
    #[serde(default)]
    share_id: Option<Uuid>,
    #[serde(default)]
    cause: Option<CauseRecord>,
    #[serde(default)]
    repeat: Option<RecoveryRecord>,
}

/// How the caller of a mutation can determine its outcome.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum RecoveryRecord {
    SameRequestId { after: Duration },
    Share,
    Lead,
    Activity,
}

/// The reason why there was no response.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum CauseRecord {
    Dns,
    Refused,
    Unreachable,
    Certificate(CertificateRecord),
    NoTls,
    HandshakeEnded,
    Tls,
    NoHttp,
    HttpsOnly,
    ConnectTimeout,
    ResponseTimeout,
    Closed,
    Proxy,
    Other,
    PrivateAddress,
}

names! {
    /// The problem of a certificate.
    CertificateRecord of domain::Certificate {
        "UnknownIssuer" = UnknownIssuer,
        "Expired" = Expired,
        "NotYetValid" = NotYetValid,
        "OtherName" = OtherName,
        "Revoked" = Revoked,
        "SelfSigned" = SelfSigned,
        "Invalid" = Invalid,
    }
}

impl From<domain::Error> for ErrorRecord {
    fn from(error: domain::Error) -> Self {
        let domain::Error { kind, details } = error;
        Self {
            kind: kind.into(),
            facts: (*details).into(),
        }
    }
}

impl From<ErrorRecord> for domain::Error {
    fn from(record: ErrorRecord) -> Self {
        let ErrorRecord { kind, facts } = record;
        Self {
            kind: kind.into(),
            details: Box::new(facts.into()),
        }
    }
}

impl From<domain::ErrorKind> for ErrorKindRecord {
    fn from(kind: domain::ErrorKind) -> Self {
        match kind {
            domain::ErrorKind::Invalid(violations) => {
                Self::Invalid(violations.into_iter().map(ViolationRecord::from).collect())
            }
            domain::ErrorKind::Duplicate { attribute, lead_id } => Self::Duplicate { attribute, lead_id },
            domain::ErrorKind::NotFound(resource) => Self::NotFound(resource.into()),
            domain::ErrorKind::DeadlineInfeasible { retry_after } => Self::DeadlineInfeasible { retry_after },
            domain::ErrorKind::CallerLimit { retry_after } => Self::CallerLimit { retry_after },
            domain::ErrorKind::QueueFull { retry_after } => Self::QueueFull { retry_after },
            domain::ErrorKind::CallerRpcLimit { retry_after } => Self::CallerRpcLimit { retry_after },
            domain::ErrorKind::DailyBudgetExhausted { retry_after } => Self::DailyBudgetExhausted { retry_after },
            domain::ErrorKind::CredentialsRejected { suggested_host } => Self::CredentialsRejected { suggested_host },
            domain::ErrorKind::Denied { suggested_host } => Self::Denied { suggested_host },
            domain::ErrorKind::FeatureDisabled => Self::FeatureDisabled,
            domain::ErrorKind::NotASalesUser => Self::NotASalesUser,
            domain::ErrorKind::ShareLimitReached => Self::ShareLimitReached,
            domain::ErrorKind::ShareExists { by } => Self::ShareExists { by },
            domain::ErrorKind::ShareNotActive => Self::ShareNotActive,
            domain::ErrorKind::ShareNotRetryable => Self::ShareNotRetryable,
            domain::ErrorKind::Exception => Self::Exception,
            domain::ErrorKind::Refused(refusal) => Self::RateLimited(refusal.into()),
            domain::ErrorKind::Unavailable { sent } => Self::Unavailable { sent },
            domain::ErrorKind::BreakerOpen { retry_after } => Self::BreakerOpen { retry_after },
            domain::ErrorKind::OutcomeUnknown => Self::OutcomeUnknown,
            domain::ErrorKind::ResponseTooLarge { bytes, limit, lead_id } => {
                Self::ResponseTooLarge { bytes, limit, lead_id }
            }
            domain::ErrorKind::DeadlineExceeded { place } => Self::DeadlineExceeded {
                place: place.into_owned(),
            },
            domain::ErrorKind::Unreadable { path } => Self::Unreadable { path },
            domain::ErrorKind::StoreUnavailable => Self::StoreUnavailable,
            domain::ErrorKind::StoreUnreadable => Self::StoreUnreadable,
            domain::ErrorKind::StreamNotRead => Self::StreamNotRead,
            // No result of a mutation: it is repeated by the next owner, or when the account is resumed.
            domain::ErrorKind::ShuttingDown | domain::ErrorKind::Moved { .. } | domain::ErrorKind::TenantPaused => {
                Self::ShuttingDown
            }
            domain::ErrorKind::StreamInterrupted => Self::StreamInterrupted,
            domain::ErrorKind::CallerCancelled => Self::CallerCancelled,
            domain::ErrorKind::CallerUnknown => Self::CallerUnknown,
            domain::ErrorKind::CallerNotAllowed(denial) => Self::CallerNotAllowed(denial.into()),
            domain::ErrorKind::AuditUnavailable => Self::AuditUnavailable,
        }
    }
}

impl From<ErrorKindRecord> for domain::ErrorKind {
    fn from(record: ErrorKindRecord) -> Self {
        match record {
            ErrorKindRecord::Invalid(violations) => {
                Self::Invalid(violations.into_iter().map(domain::Violation::from).collect())
            }
            ErrorKindRecord::Duplicate { attribute, lead_id } => Self::Duplicate { attribute, lead_id },
            ErrorKindRecord::NotFound(resource) => Self::NotFound(resource.into()),
            ErrorKindRecord::DeadlineInfeasible { retry_after } => Self::DeadlineInfeasible { retry_after },
            ErrorKindRecord::CallerLimit { retry_after } => Self::CallerLimit { retry_after },
            ErrorKindRecord::QueueFull { retry_after } => Self::QueueFull { retry_after },
            ErrorKindRecord::CallerRpcLimit { retry_after } => Self::CallerRpcLimit { retry_after },
            ErrorKindRecord::DailyBudgetExhausted { retry_after } => Self::DailyBudgetExhausted { retry_after },
            ErrorKindRecord::CredentialsRejected { suggested_host } => Self::CredentialsRejected { suggested_host },
            ErrorKindRecord::Denied { suggested_host } => Self::Denied { suggested_host },
            ErrorKindRecord::FeatureDisabled => Self::FeatureDisabled,
            ErrorKindRecord::NotASalesUser => Self::NotASalesUser,
            ErrorKindRecord::ShareLimitReached => Self::ShareLimitReached,
            ErrorKindRecord::ShareExists { by } => Self::ShareExists { by },
            ErrorKindRecord::ShareNotActive => Self::ShareNotActive,
            ErrorKindRecord::ShareNotRetryable => Self::ShareNotRetryable,
            ErrorKindRecord::Exception => Self::Exception,
            ErrorKindRecord::RateLimited(refusal) => Self::Refused(refusal.into()),
            ErrorKindRecord::Unavailable { sent } => Self::Unavailable { sent },
            ErrorKindRecord::BreakerOpen { retry_after } => Self::BreakerOpen { retry_after },
            ErrorKindRecord::OutcomeUnknown => Self::OutcomeUnknown,
            ErrorKindRecord::ResponseTooLarge { bytes, limit, lead_id } => {
                Self::ResponseTooLarge { bytes, limit, lead_id }
            }
            ErrorKindRecord::DeadlineExceeded { place } => Self::DeadlineExceeded { place: place.into() },
            ErrorKindRecord::Unreadable { path } => Self::Unreadable { path },
            ErrorKindRecord::StoreUnavailable => Self::StoreUnavailable,
            ErrorKindRecord::StoreUnreadable => Self::StoreUnreadable,
            ErrorKindRecord::StreamNotRead => Self::StreamNotRead,
            ErrorKindRecord::ShuttingDown => Self::ShuttingDown,
            ErrorKindRecord::StreamInterrupted => Self::StreamInterrupted,
            ErrorKindRecord::CallerCancelled => Self::CallerCancelled,
            ErrorKindRecord::CallerUnknown => Self::CallerUnknown,
            ErrorKindRecord::CallerNotAllowed(denial) => Self::CallerNotAllowed(denial.into()),
            ErrorKindRecord::AuditUnavailable => Self::AuditUnavailable,
        }
    }
}

impl From<domain::Denial> for DenialRecord {
    fn from(denial: domain::Denial) -> Self {
        match denial {
            domain::Denial::Method => Self::Method,
            domain::Denial::Tenant => Self::Tenant,
            domain::Denial::Fields(violations) => {
                Self::Fields(violations.into_iter().map(ViolationRecord::from).collect())
            }
        }
    }
}

impl From<DenialRecord> for domain::Denial {
    fn from(record: DenialRecord) -> Self {
        match record {
            DenialRecord::Method => Self::Method,
            DenialRecord::Tenant => Self::Tenant,
            DenialRecord::Fields(violations) => {
                Self::Fields(violations.into_iter().map(domain::Violation::from).collect())
            }
        }
    }
}

impl From<domain::Refusal> for RefusalRecord {
    fn from(refusal: domain::Refusal) -> Self {
        match refusal {
            domain::Refusal::Window(limit) => Self::Window(limit.map(LimitRecord::from)),
            domain::Refusal::Daily => Self::Daily,
        }
    }
}

impl From<RefusalRecord> for domain::Refusal {
    fn from(record: RefusalRecord) -> Self {
        match record {
            RefusalRecord::Window(limit) => Self::Window(limit.map(domain::Limit::from)),
            RefusalRecord::Daily => Self::Daily,
        }
    }
}

impl From<domain::Limit> for LimitRecord {
    fn from(limit: domain::Limit) -> Self {
        let domain::Limit { calls, per } = limit;
        Self { calls, per }
    }
}

impl From<LimitRecord> for domain::Limit {
    fn from(record: LimitRecord) -> Self {
        let LimitRecord { calls, per } = record;
        Self { calls, per }
    }
}

impl From<domain::Violation> for ViolationRecord {
    fn from(violation: domain::Violation) -> Self {
        let domain::Violation { field, description } = violation;
        Self { field, description }
    }
}

impl From<ViolationRecord> for domain::Violation {
    fn from(record: ViolationRecord) -> Self {
        let ViolationRecord { field, description } = record;
        Self { field, description }
    }
}

impl From<domain::FailureDetails> for FailureDetailsRecord {
    fn from(details: domain::FailureDetails) -> Self {
        let domain::FailureDetails {
            upstream_status,
            exception_type,
            is_page,
            attempts,
            queued,
            share_id,
            cause,
            recovery,
        } = details;
        Self {
            upstream_status,
            exception_type,
            is_page,
            attempts,
            queued,
            share_id,
            cause: cause.map(CauseRecord::from),
            repeat: recovery.map(RecoveryRecord::from),
        }
    }
}

impl From<FailureDetailsRecord> for domain::FailureDetails {
    fn from(record: FailureDetailsRecord) -> Self {
        let FailureDetailsRecord {
            upstream_status,
            exception_type,
            is_page,
            attempts,
            queued,
            share_id,
            cause,
            repeat,
        } = record;
        Self {
            upstream_status,
            exception_type,
            is_page,
            attempts,
            queued,
            share_id,
            cause: cause.map(domain::Cause::from),
            recovery: repeat.map(domain::Recovery::from),
        }
    }
}

impl From<domain::Recovery> for RecoveryRecord {
    fn from(recovery: domain::Recovery) -> Self {
        match recovery {
            domain::Recovery::SameRequestId { after } => Self::SameRequestId { after },
            domain::Recovery::Share => Self::Share,
            domain::Recovery::Lead => Self::Lead,
            domain::Recovery::Activity => Self::Activity,
        }
    }
}

impl From<RecoveryRecord> for domain::Recovery {
    fn from(record: RecoveryRecord) -> Self {
        match record {
            RecoveryRecord::SameRequestId { after } => Self::SameRequestId { after },
            RecoveryRecord::Share => Self::Share,
            RecoveryRecord::Lead => Self::Lead,
            RecoveryRecord::Activity => Self::Activity,
        }
    }
}

impl From<domain::Cause> for CauseRecord {
    fn from(cause: domain::Cause) -> Self {
        match cause {
            domain::Cause::Dns => Self::Dns,
            domain::Cause::Refused => Self::Refused,
            domain::Cause::Unreachable => Self::Unreachable,
            domain::Cause::Certificate(certificate) => Self::Certificate(certificate.into()),
            domain::Cause::NoTls => Self::NoTls,
            domain::Cause::HandshakeEnded => Self::HandshakeEnded,
            domain::Cause::Tls => Self::Tls,
            domain::Cause::NoHttp => Self::NoHttp,
            domain::Cause::HttpsOnly => Self::HttpsOnly,
            domain::Cause::ConnectTimeout => Self::ConnectTimeout,
            domain::Cause::ResponseTimeout => Self::ResponseTimeout,
            domain::Cause::Closed => Self::Closed,
            domain::Cause::Proxy => Self::Proxy,
            domain::Cause::Other => Self::Other,
            domain::Cause::PrivateAddress => Self::PrivateAddress,
        }
    }
}

impl From<CauseRecord> for domain::Cause {
    fn from(record: CauseRecord) -> Self {
        match record {
            CauseRecord::Dns => Self::Dns,
            CauseRecord::Refused => Self::Refused,
            CauseRecord::Unreachable => Self::Unreachable,
            CauseRecord::Certificate(certificate) => Self::Certificate(certificate.into()),
            CauseRecord::NoTls => Self::NoTls,
            CauseRecord::HandshakeEnded => Self::HandshakeEnded,
            CauseRecord::Tls => Self::Tls,
            CauseRecord::NoHttp => Self::NoHttp,
            CauseRecord::HttpsOnly => Self::HttpsOnly,
            CauseRecord::ConnectTimeout => Self::ConnectTimeout,
            CauseRecord::ResponseTimeout => Self::ResponseTimeout,
            CauseRecord::Closed => Self::Closed,
            CauseRecord::Proxy => Self::Proxy,
            CauseRecord::Other => Self::Other,
            CauseRecord::PrivateAddress => Self::PrivateAddress,
        }
    }
}
