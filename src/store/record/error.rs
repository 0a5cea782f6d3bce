//! The stored form of an error: in the answer of a request id, and in a share that has failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::names;
use crate::error as domain;

/// An error.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Error {
    kind: Kind,
    facts: Facts,
}

/// The kind of an error.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum Kind {
    Invalid(Vec<Violation>),
    Duplicate {
        attribute: Option<String>,
        lead_id: Option<String>,
    },
    NotFound(Resource),
    DeadlineInfeasible {
        retry_after: Duration,
    },
    CallerLimit {
        retry_after: Duration,
    },
    QueueFull {
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
    RateLimited(Refusal),
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
}

/// A refusal by LeadSquared's rate limiter.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum Refusal {
    Window(Option<Limit>),
    Daily,
}

/// A rate limit.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Limit {
    calls: u32,
    per: Duration,
}

/// An error in a field of a message.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Violation {
    field: String,
    description: String,
}

names! {
    /// What was not found.
    Resource of domain::Resource {
        "Lead" = Lead,
        "User" = User,
        "Activity" = Activity,
        "Opportunity" = Opportunity,
        "Share" = Share,
    }
}

/// The facts about an error. The fields with a default are missing in the oldest documents.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    upstream_status: Option<u16>,
    exception_type: Option<String>,
    #[serde(default)]
    is_page: bool,
    attempts: u32,
    queued: Duration,
    #[serde(default)]
    share_id: Option<Uuid>,
    #[serde(default)]
    cause: Option<Cause>,
    #[serde(default)]
    repeat: Option<Repeat>,
}

/// What the caller of a mutation can do to learn its outcome.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum Repeat {
    SameRequestId { after: Duration },
    Share,
    Lead,
    Activity,
}

/// Why there was no response.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) enum Cause {
    Dns,
    Refused,
    Unreachable,
    Certificate(Certificate),
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
}

names! {
    /// What is wrong with a certificate.
    Certificate of domain::Certificate {
        "UnknownIssuer" = UnknownIssuer,
        "Expired" = Expired,
        "NotYetValid" = NotYetValid,
        "OtherName" = OtherName,
        "Revoked" = Revoked,
        "SelfSigned" = SelfSigned,
        "Invalid" = Invalid,
    }
}

impl From<domain::Error> for Error {
    fn from(error: domain::Error) -> Self {
        let domain::Error { kind, facts } = error;
        Self {
            kind: kind.into(),
            facts: (*facts).into(),
        }
    }
}

impl From<Error> for domain::Error {
    fn from(record: Error) -> Self {
        let Error { kind, facts } = record;
        Self {
            kind: kind.into(),
            facts: Box::new(facts.into()),
        }
    }
}

impl From<domain::Kind> for Kind {
    fn from(kind: domain::Kind) -> Self {
        match kind {
            domain::Kind::Invalid(violations) => Self::Invalid(violations.into_iter().map(Violation::from).collect()),
            domain::Kind::Duplicate { attribute, lead_id } => Self::Duplicate { attribute, lead_id },
            domain::Kind::NotFound(resource) => Self::NotFound(resource.into()),
            domain::Kind::DeadlineInfeasible { retry_after } => Self::DeadlineInfeasible { retry_after },
            domain::Kind::CallerLimit { retry_after } => Self::CallerLimit { retry_after },
            domain::Kind::QueueFull { retry_after } => Self::QueueFull { retry_after },
            domain::Kind::DailyBudgetExhausted { retry_after } => Self::DailyBudgetExhausted { retry_after },
            domain::Kind::CredentialsRejected { suggested_host } => Self::CredentialsRejected { suggested_host },
            domain::Kind::Denied { suggested_host } => Self::Denied { suggested_host },
            domain::Kind::FeatureDisabled => Self::FeatureDisabled,
            domain::Kind::NotASalesUser => Self::NotASalesUser,
            domain::Kind::ShareLimitReached => Self::ShareLimitReached,
            domain::Kind::ShareExists { by } => Self::ShareExists { by },
            domain::Kind::ShareNotActive => Self::ShareNotActive,
            domain::Kind::ShareNotRetryable => Self::ShareNotRetryable,
            domain::Kind::Exception => Self::Exception,
            domain::Kind::Refused(refusal) => Self::RateLimited(refusal.into()),
            domain::Kind::Unavailable { sent } => Self::Unavailable { sent },
            domain::Kind::BreakerOpen { retry_after } => Self::BreakerOpen { retry_after },
            domain::Kind::OutcomeUnknown => Self::OutcomeUnknown,
            domain::Kind::ResponseTooLarge { bytes, limit, lead_id } => {
                Self::ResponseTooLarge { bytes, limit, lead_id }
            }
            domain::Kind::DeadlineExceeded { place } => Self::DeadlineExceeded {
                place: place.into_owned(),
            },
            domain::Kind::Unreadable { path } => Self::Unreadable { path },
            domain::Kind::StoreUnavailable => Self::StoreUnavailable,
            domain::Kind::StoreUnreadable => Self::StoreUnreadable,
            domain::Kind::StreamNotRead => Self::StreamNotRead,
            domain::Kind::ShuttingDown => Self::ShuttingDown,
            domain::Kind::StreamInterrupted => Self::StreamInterrupted,
            domain::Kind::CallerLeft => Self::CallerCancelled,
        }
    }
}

impl From<Kind> for domain::Kind {
    fn from(record: Kind) -> Self {
        match record {
            Kind::Invalid(violations) => Self::Invalid(violations.into_iter().map(domain::Violation::from).collect()),
            Kind::Duplicate { attribute, lead_id } => Self::Duplicate { attribute, lead_id },
            Kind::NotFound(resource) => Self::NotFound(resource.into()),
            Kind::DeadlineInfeasible { retry_after } => Self::DeadlineInfeasible { retry_after },
            Kind::CallerLimit { retry_after } => Self::CallerLimit { retry_after },
            Kind::QueueFull { retry_after } => Self::QueueFull { retry_after },
            Kind::DailyBudgetExhausted { retry_after } => Self::DailyBudgetExhausted { retry_after },
            Kind::CredentialsRejected { suggested_host } => Self::CredentialsRejected { suggested_host },
            Kind::Denied { suggested_host } => Self::Denied { suggested_host },
            Kind::FeatureDisabled => Self::FeatureDisabled,
            Kind::NotASalesUser => Self::NotASalesUser,
            Kind::ShareLimitReached => Self::ShareLimitReached,
            Kind::ShareExists { by } => Self::ShareExists { by },
            Kind::ShareNotActive => Self::ShareNotActive,
            Kind::ShareNotRetryable => Self::ShareNotRetryable,
            Kind::Exception => Self::Exception,
            Kind::RateLimited(refusal) => Self::Refused(refusal.into()),
            Kind::Unavailable { sent } => Self::Unavailable { sent },
            Kind::BreakerOpen { retry_after } => Self::BreakerOpen { retry_after },
            Kind::OutcomeUnknown => Self::OutcomeUnknown,
            Kind::ResponseTooLarge { bytes, limit, lead_id } => Self::ResponseTooLarge { bytes, limit, lead_id },
            Kind::DeadlineExceeded { place } => Self::DeadlineExceeded { place: place.into() },
            Kind::Unreadable { path } => Self::Unreadable { path },
            Kind::StoreUnavailable => Self::StoreUnavailable,
            Kind::StoreUnreadable => Self::StoreUnreadable,
            Kind::StreamNotRead => Self::StreamNotRead,
            Kind::ShuttingDown => Self::ShuttingDown,
            Kind::StreamInterrupted => Self::StreamInterrupted,
            Kind::CallerCancelled => Self::CallerLeft,
        }
    }
}

impl From<domain::Refusal> for Refusal {
    fn from(refusal: domain::Refusal) -> Self {
        match refusal {
            domain::Refusal::Window(limit) => Self::Window(limit.map(Limit::from)),
            domain::Refusal::Daily => Self::Daily,
        }
    }
}

impl From<Refusal> for domain::Refusal {
    fn from(record: Refusal) -> Self {
        match record {
            Refusal::Window(limit) => Self::Window(limit.map(domain::Limit::from)),
            Refusal::Daily => Self::Daily,
        }
    }
}

impl From<domain::Limit> for Limit {
    fn from(limit: domain::Limit) -> Self {
        let domain::Limit { calls, per } = limit;
        Self { calls, per }
    }
}

impl From<Limit> for domain::Limit {
    fn from(record: Limit) -> Self {
        let Limit { calls, per } = record;
        Self { calls, per }
    }
}

impl From<domain::Violation> for Violation {
    fn from(violation: domain::Violation) -> Self {
        let domain::Violation { field, description } = violation;
        Self { field, description }
    }
}

impl From<Violation> for domain::Violation {
    fn from(record: Violation) -> Self {
        let Violation { field, description } = record;
        Self { field, description }
    }
}

impl From<domain::Facts> for Facts {
    fn from(facts: domain::Facts) -> Self {
        let domain::Facts {
            upstream_status,
            exception_type,
            is_page,
            attempts,
            queued,
            share_id,
            cause,
            repeat,
        } = facts;
        Self {
            upstream_status,
            exception_type,
            is_page,
            attempts,
            queued,
            share_id,
            cause: cause.map(Cause::from),
            repeat: repeat.map(Repeat::from),
        }
    }
}

impl From<Facts> for domain::Facts {
    fn from(record: Facts) -> Self {
        let Facts {
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
            repeat: repeat.map(domain::Repeat::from),
        }
    }
}

impl From<domain::Repeat> for Repeat {
    fn from(repeat: domain::Repeat) -> Self {
        match repeat {
            domain::Repeat::SameRequestId { after } => Self::SameRequestId { after },
            domain::Repeat::Share => Self::Share,
            domain::Repeat::Lead => Self::Lead,
            domain::Repeat::Activity => Self::Activity,
        }
    }
}

impl From<Repeat> for domain::Repeat {
    fn from(record: Repeat) -> Self {
        match record {
            Repeat::SameRequestId { after } => Self::SameRequestId { after },
            Repeat::Share => Self::Share,
            Repeat::Lead => Self::Lead,
            Repeat::Activity => Self::Activity,
        }
    }
}

impl From<domain::Cause> for Cause {
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
        }
    }
}

impl From<Cause> for domain::Cause {
    fn from(record: Cause) -> Self {
        match record {
            Cause::Dns => Self::Dns,
            Cause::Refused => Self::Refused,
            Cause::Unreachable => Self::Unreachable,
            Cause::Certificate(certificate) => Self::Certificate(certificate.into()),
            Cause::NoTls => Self::NoTls,
            Cause::HandshakeEnded => Self::HandshakeEnded,
            Cause::Tls => Self::Tls,
            Cause::NoHttp => Self::NoHttp,
            Cause::HttpsOnly => Self::HttpsOnly,
            Cause::ConnectTimeout => Self::ConnectTimeout,
            Cause::ResponseTimeout => Self::ResponseTimeout,
            Cause::Closed => Self::Closed,
            Cause::Proxy => Self::Proxy,
            Cause::Other => Self::Other,
        }
    }
}
