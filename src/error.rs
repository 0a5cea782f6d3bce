//! Errors: what failed, whether the request had an effect, and what to do. Does not depend on gRPC or HTTP.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// The result of a request or of one of its steps.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed request.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What failed.
    pub kind: ErrorKind,
    /// What is known about the request.
    pub details: Box<FailureDetails>,
}

/// What failed. The texts are for callers. They hold no upstream text and no personal data.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ErrorKind {
    /// The request is invalid, by a check of the gateway or of LeadSquared. All violations that are known are listed.
    #[error("invalid request{}", listed(.0))]
    Invalid(Vec<Violation>),
    /// Another lead has a unique value of this one. Update that lead, or upsert.
    #[error("another lead has {}", same_value(.attribute.as_deref()))]
    Duplicate {
        /// The schema name of the unique attribute, if LeadSquared names one.
        attribute: Option<String>,
        /// The lead that has the value, if known.
        lead_id: Option<String>,
    },
    /// The resource does not exist.
    #[error("{0} not found")]
    NotFound(Resource),
    /// The quota cannot serve the call before its deadline. Nothing was sent.
    #[error(
        "the call cannot be served before its deadline; nothing was sent; try again in {} ms or with a longer timeout",
        millis(.retry_after)
    )]
    DeadlineInfeasible {
        /// The time until a call with the same timeout would be served.
        retry_after: Duration,
    },
    /// The caller's quota cannot serve the call before its deadline. Nothing was sent.
    #[error(
        "the caller's quota (callers.NAME.calls_per_window) cannot serve the call before its deadline; nothing was sent"
    )]
    CallerLimit {
        /// The time until a call with the same timeout would be served.
        retry_after: Duration,
    },
    /// Too many calls are in progress or in the queue. Nothing was sent.
    #[error("too many calls are in progress or wait for the quota; nothing was sent")]
    QueueFull {
        /// The time until there is room.
        retry_after: Duration,
    },
    /// The caller has too many RPCs in progress. Nothing was sent.
    #[error(
        "this caller has too many RPCs in progress (server.max_in_flight_per_caller, server.max_streams_per_caller); nothing was sent"
    )]
    CallerRpcLimit {
        /// The time after which the caller should retry.
        retry_after: Duration,
    },
    /// The account's calls of the day are used up. The call was not executed.
    #[error("the account's daily quota is used up; the call was not executed")]
    DailyBudgetExhausted {
        /// The time until calls may be possible again.
        retry_after: Duration,
    },
    /// LeadSquared rejects the account's keys. An operator must check the keys.
    #[error("LeadSquared rejects the account's keys; an operator must check the keys{}", key_host(.suggested_host.as_deref()))]
    CredentialsRejected {
        /// The host that LeadSquared names, if the keys belong to another region.
        suggested_host: Option<String>,
    },
    /// HTTP 401 or 403 without an exception of LeadSquared: either the keys are rejected or only this request. Callers never
    /// get this error: another call finds out which of the two it is.
    #[error("the request was rejected by LeadSquared, or by a proxy or firewall in front of it")]
    Denied {
        /// The host that the text names, if the keys belong to another region.
        suggested_host: Option<String>,
    },
    /// LeadSquared does not allow the operation for the account, or for the owner of its keys.
    #[error("LeadSquared does not allow the operation for the account, or for the owner of its keys")]
    FeatureDisabled,
    /// Leads can be shared with active sales users only.
    #[error("the user is not an active sales user; only active sales users can get shared access")]
    NotASalesUser,
    /// No more leads can be shared with the user until some shares have ended.
    #[error(
        "the user has the maximum number of shared leads; no more leads can be shared until some shares have ended"
    )]
    ShareLimitReached,
    /// The user has the requested access, or another share is about to grant it.
    #[error(
        "the user already has this access, or another share is about to grant it; allow_additional requests a further share"
    )]
    ShareExists {
        /// The share that grants it, if it is one of the ledger.
        by: Option<uuid::Uuid>,
    },
    /// The share can be neither revoked nor extended.
    #[error("the share is not ACTIVE: it has ended, has failed, or is not granted yet")]
    ShareNotActive,
    /// No step of the share has failed or is uncertain.
    #[error("the share is neither FAILED nor UNCERTAIN, so there is nothing to retry")]
    ShareNotRetryable,
    /// The response is an exception without a more exact meaning, or a client error without an exception.
    #[error("LeadSquared rejected the request without a reason")]
    Exception,
    /// LeadSquared refused the call because of a rate limit, so the call was not executed. Callers never get this error: the
    /// call is queued again.
    #[error("LeadSquared refused the call because of its rate limit; the call was not executed")]
    Refused(Refusal),
    /// LeadSquared cannot be reached, or the response is not a valid one, such as HTTP 5xx without an exception.
    #[error("{}", if *.sent { "LeadSquared sent no valid response" } else { "LeadSquared cannot be reached; nothing was executed" })]
    Unavailable {
        /// Whether the request may have been executed.
        sent: bool,
    },
    /// The circuit breaker is open, and the next call is sent to LeadSquared after this call's deadline. The call was not
    /// executed.
    #[error(
        "LeadSquared is failing or has requested a pause (Retry-After), and the call cannot be served before its deadline; the \
         call was not executed; try again in {} ms",
        millis(.retry_after)
    )]
    BreakerOpen {
        /// The minimum time until the next call is sent to LeadSquared.
        retry_after: Duration,
    },
    /// A write was sent, its response was lost, and look-ups did not prove its outcome. [`FailureDetails::recovery`] says what
    /// the caller can do.
    #[error("the write was sent to LeadSquared, but it is unknown whether LeadSquared executed it")]
    OutcomeUnknown,
    /// One response message would exceed `server.max_response_bytes`. Request fewer fields.
    #[error(
        "the response would have a message of {bytes} bytes, more than server.max_response_bytes ({limit}); request fewer \
         fields with read_mask or schema_names"
    )]
    ResponseTooLarge {
        /// The length of the message.
        bytes: usize,
        /// The limit.
        limit: usize,
        /// The lead that does not fit by itself.
        lead_id: Option<String>,
    },
    /// The call's deadline passed.
    #[error("the deadline passed while waiting for {place}")]
    DeadlineExceeded {
        /// What the call was waiting for.
        place: Cow<'static, str>,
    },
    /// LeadSquared's response cannot be read: the API has changed, or leadgate has a bug.
    #[error("LeadSquared's response cannot be read at {}", shortened(.path, 240))]
    Unreadable {
        /// The JSON path of the first value that is not as expected.
        path: String,
    },
    /// The store cannot be written. Nothing was sent.
    #[error("the gateway's store cannot be written; nothing was sent; an operator must check the gateway's log")]
    StoreUnavailable,
    /// A record cannot be read from the store. Nothing was sent.
    #[error(
        "the record cannot be read from the gateway's store; nothing was sent; an operator must check the gateway's log"
    )]
    StoreUnreadable,
    /// The client did not read the responses of a stream, so the stream was closed. Unread responses are lost.
    #[error(
        "the client did not read the responses for server.stream_read_timeout, so the stream was closed; responses that were not \
         read are lost"
    )]
    StreamNotRead,
    /// This replica is shutting down. Nothing was sent.
    #[error("this replica is shutting down; nothing was sent")]
    ShuttingDown,
    /// This replica ended a stream, because it is shutting down, because the account moves to another replica, or because the rules of
    /// the caller have changed.
    #[error(
        "the stream was ended, because the account moves to another replica, this replica is shutting down, or the rules of the \
         caller have changed; responses that were sent are valid; the other requests were not sent to LeadSquared or are in progress"
    )]
    StreamInterrupted,
    /// The account is being moved to another replica, and this call did not reach the new owner in time.
    #[error("{}", if *.sent {
        "another replica takes over the account; the request may have been executed"
    } else {
        "no replica serves the account now, because it is being moved to another one; nothing was sent"
    })]
    Moved {
        /// Whether the request may have been executed.
        sent: bool,
    },
    /// An operator has paused the account. The call was not executed.
    #[error(
        "an operator has paused the account; nothing is sent to LeadSquared until it is resumed, and the call was not executed"
    )]
    TenantPaused,
    /// The caller cancelled the call before anything was sent.
    #[error("the caller cancelled the call; nothing was sent")]
    CallerCancelled,
    /// The request has no valid credential of a known caller. Strangers do not learn more, the name of a tenant included.
    #[error("the request has no valid credential of a known caller; nothing was sent")]
    CallerUnknown,
    /// The settings of the caller do not allow the request.
    #[error("{0}; nothing was sent")]
    CallerNotAllowed(Denial),
    /// `audit.required` is set, and the audit file cannot be written.
    #[error("the gateway's audit file cannot be written; nothing was sent; an operator must check the gateway's log")]
    AuditUnavailable,
}

/// Which rule of `[callers.NAME]` does not allow a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No pattern of `allow` matches the RPC.
    #[error("the caller may not use this RPC (callers.NAME.allow)")]
    Method,
    /// `tenants` does not have the tenant. A tenant that does not exist has the same error.
    #[error("the caller may not use this tenant (callers.NAME.tenants), or the tenant does not exist")]
    Tenant,
    /// `deny_fields` or `hide_fields` has a field of the request.
    #[error("the caller may not use some fields (callers.NAME.deny_fields or hide_fields){}", listed(.0))]
    Fields(Vec<Violation>),
}

impl Denial {
    /// The name of the rule in ErrorInfo.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Tenant => "tenant",
            Self::Fields(_) => "field",
        }
    }
}

/// The effect of a request on LeadSquared's data, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request was executed.
    Executed,
    /// The request had no effect, and the same request would be rejected again.
    Rejected,
    /// The request had no effect.
    NotExecuted {
        /// Whether the same request may succeed later without any change of the request, the data or the account.
        is_transient: bool,
    },
    /// The request may have been executed.
    Unknown,
}

/// Why the rate limiter of LeadSquared refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many calls in a window, with the limit if the text names it.
    Window(Option<Limit>),
    /// The text names no window, so the daily limit is assumed.
    Daily,
}

/// A rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The number of calls.
    pub calls: u32,
    /// The length of the window.
    pub per: Duration,
}

/// An error in a field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request: `lead.first_name`.
    pub field: String,
    /// What is wrong, and what is valid.
    pub description: String,
}

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A lead.
    Lead,
    /// A user.
    User,
    /// An activity.
    Activity,
    /// An opportunity.
    Opportunity,
    /// A share in the ledger of shares.
    Share,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lead => "lead",
            Self::User => "user",
            Self::Activity => "activity",
            Self::Opportunity => "opportunity",
            Self::Share => "share",
        })
    }
}

/// What is known about a failed request. Holds no keys and no personal data, so it may be shown and logged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FailureDetails {
    /// The HTTP status of the last response.
    pub upstream_status: Option<u16>,
    /// The `ExceptionType` of the last response.
    pub exception_type: Option<String>,
    /// Whether the last response was a page instead of JSON. Even the status of a page may be from a proxy or firewall.
    pub is_page: bool,
    /// The number of requests that were sent to LeadSquared for the call, look-ups included.
    pub attempts: u32,
    /// The total time that the call waited for slots.
    pub queued: Duration,
    /// The share that the request is about.
    pub share_id: Option<uuid::Uuid>,
    /// Why there was no response.
    pub cause: Option<Cause>,
    /// What the caller of a mutation can do to learn its outcome.
    pub recovery: Option<Recovery>,
}

impl FailureDetails {
    /// Whether the response is a page with a client error, such as the page of a firewall: the request was rejected. If no
    /// look-up finds the write, it was not executed.
    pub fn is_client_error_page(&self) -> bool {
        // After HTTP 408 the request may be in progress.
        self.is_page && matches!(self.upstream_status, Some(400..=407 | 409..=499))
    }
}

/// What the caller of a mutation can do to learn its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Repeat the request with the same request id.
    SameRequestId {
        /// The time to wait. Earlier repetitions cannot prove an unknown outcome.
        after: Duration,
    },
    /// Get, revoke or retry the share. A repetition with the same request id proves nothing.
    Share,
    /// Look for the lead in LeadSquared. A repetition with the same request id proves nothing.
    Lead,
    /// Look for the activity in LeadSquared. A repetition with the same request id proves nothing.
    Activity,
}

/// The minimum time between two look-ups by the caller.
const MIN_RECOVERY_PAUSE: Duration = Duration::from_secs(1);

impl Recovery {
    /// A repetition with the same request id, at the earliest when a look-up that does not find the write is conclusive.
    pub fn not_before(conclusive_from: Instant) -> Self {
        let after = conclusive_from.saturating_duration_since(Instant::now());
        Self::SameRequestId {
            after: after.max(MIN_RECOVERY_PAUSE),
        }
    }
}

/// The names of causes that are problems of the own network or settings, and not of LeadSquared.
pub const OWN_CAUSES: [&str; 4] = ["certificate", "dns", "private-address", "proxy"];

/// Why there was no response from LeadSquared. The texts are for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The host name cannot be resolved.
    #[error("the host name does not exist or cannot be resolved (DNS)")]
    Dns,
    /// The host name is resolved to private addresses only, and `upstream.allow_private_addresses` is false.
    #[error(
        "the host name is resolved to a private address, to which leadgate does not connect \
         (upstream.allow_private_addresses)"
    )]
    PrivateAddress,
    /// The connection was refused.
    #[error("the connection was refused: no server listens on the port, or a firewall rejects it")]
    Refused,
    /// There is no route to the host.
    #[error("there is no route to the host")]
    Unreachable,
    /// The server's certificate is not accepted.
    #[error("{0}")]
    Certificate(Certificate),
    /// The server did not respond with TLS.
    #[error("the server does not respond with TLS: the port may serve plain HTTP (protocol)")]
    NoTls,
    /// The server closed the connection during the TLS handshake.
    #[error("the server closed the connection during the TLS handshake: the port may not serve HTTPS (protocol)")]
    HandshakeEnded,
    /// The TLS handshake failed for another reason.
    #[error("the TLS handshake failed (protocol)")]
    Tls,
    /// The server did not respond with HTTP.
    #[error("the server does not respond with HTTP: the port may serve HTTPS only (protocol)")]
    NoHttp,
    /// The server requires HTTPS.
    #[error("the server requires HTTPS, and base_url begins with http (protocol)")]
    HttpsOnly,
    /// No connection within `upstream.connect_timeout`.
    #[error("timeout: no connection within upstream.connect_timeout")]
    ConnectTimeout,
    /// No response within `upstream.timeout`.
    #[error("timeout: no response within upstream.timeout")]
    ResponseTimeout,
    /// The connection was closed before the response was complete.
    #[error("the connection was closed before the response was complete")]
    Closed,
    /// The proxy refused the request.
    #[error("the proxy refused the request (upstream.proxy)")]
    Proxy,
    /// Any other failure of the connection.
    #[error("the connection failed")]
    Other,
}

/// Why a certificate is not accepted. The texts are for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Certificate {
    /// This machine does not trust the issuer.
    #[error("the certificate is not trusted: this machine does not know its issuer")]
    UnknownIssuer,
    /// The certificate has expired.
    #[error("the certificate has expired, or the clock of this machine is wrong")]
    Expired,
    /// The certificate is not valid yet.
    #[error("the certificate is not valid yet, or the clock of this machine is wrong")]
    NotYetValid,
    /// The certificate is for another host name.
    #[error("the certificate is for another host name")]
    OtherName,
    /// The certificate was revoked.
    #[error("the certificate was revoked")]
    Revoked,
    /// The certificate is the certificate of a CA, as most self-signed certificates are.
    #[error("the certificate is not trusted: it is self-signed, or it is the certificate of a CA")]
    SelfSigned,
    /// Any other reason.
    #[error("the certificate is not valid")]
    Invalid,
}

impl Cause {
    /// The name in logs and in ErrorInfo: one of a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::PrivateAddress => "private-address",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Certificate(_) => "certificate",
            Self::NoTls | Self::HandshakeEnded | Self::Tls | Self::NoHttp | Self::HttpsOnly => "protocol",
            Self::ConnectTimeout | Self::ResponseTimeout => "timeout",
            Self::Closed => "closed",
            Self::Proxy => "proxy",
            Self::Other => "other",
        }
    }

    /// Whether the cause is a problem of the own network or settings.
    pub fn is_own(self) -> bool {
        OWN_CAUSES.contains(&self.name())
    }
}

impl Error {
    /// An error with a single violation.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        ErrorKind::Invalid(vec![Violation::new(field, description)]).into()
    }

    /// The name in logs and metrics.
    pub fn name(&self) -> &'static str {
        self.classify().0
    }

    /// What the error says about the request that failed with it.
    pub fn outcome(&self) -> Outcome {
        self.classify().1
    }

    /// What the error says about the mutation that failed with it. A write without a response ends as `OutcomeUnknown`, so
    /// `Unavailable` is the error of a read that the mutation made, and the mutation was not executed.
    pub fn mutation_outcome(&self) -> Outcome {
        match &self.kind {
            ErrorKind::Unavailable { .. } => Outcome::NotExecuted { is_transient: true },
            _ => self.outcome(),
        }
    }

    /// The name and the outcome of each kind. The name is for logs and metrics.
    fn classify(&self) -> (&'static str, Outcome) {
        const REJECTED: Outcome = Outcome::Rejected;
        const TRANSIENT: Outcome = Outcome::NotExecuted { is_transient: true };
        const BLOCKED: Outcome = Outcome::NotExecuted { is_transient: false };
        const UNKNOWN: Outcome = Outcome::Unknown;
        match &self.kind {
            ErrorKind::Invalid(_) => ("invalid", REJECTED),
            ErrorKind::Duplicate { .. } => ("duplicate", REJECTED),
            ErrorKind::NotFound(_) => ("not-found", REJECTED),
            ErrorKind::DeadlineInfeasible { .. } => ("deadline-infeasible", TRANSIENT),
            ErrorKind::CallerLimit { .. } => ("caller-limit", TRANSIENT),
            ErrorKind::QueueFull { .. } => ("queue-full", TRANSIENT),
            ErrorKind::CallerRpcLimit { .. } => ("caller-rpc-limit", TRANSIENT),
            ErrorKind::DailyBudgetExhausted { .. } => ("daily-budget-exhausted", TRANSIENT),
            ErrorKind::CredentialsRejected { .. } => ("credentials-rejected", BLOCKED),
            ErrorKind::Denied { .. } => ("denied", BLOCKED),
            ErrorKind::FeatureDisabled => ("feature-disabled", BLOCKED),
            ErrorKind::NotASalesUser => ("not-a-sales-user", BLOCKED),
            ErrorKind::ShareLimitReached => ("share-limit-reached", BLOCKED),
            ErrorKind::ShareExists { .. } => ("share-exists", BLOCKED),
            ErrorKind::ShareNotActive => ("share-not-active", BLOCKED),
            ErrorKind::ShareNotRetryable => ("share-not-retryable", BLOCKED),
            // Only LeadSquared has exceptions whose names begin with MX. Another rejection may be from a proxy, or may follow the
            // execution.
            ErrorKind::Exception if self.is_named_by_leadsquared() => ("exception", REJECTED),
            ErrorKind::Exception => ("exception", UNKNOWN),
            ErrorKind::Refused(_) => ("refused", TRANSIENT),
            ErrorKind::Unavailable { sent: true } => ("no-answer", UNKNOWN),
            ErrorKind::Unavailable { sent: false } => ("unreachable", TRANSIENT),
            ErrorKind::BreakerOpen { .. } => ("breaker-open", TRANSIENT),
            ErrorKind::OutcomeUnknown => ("outcome-unknown", UNKNOWN),
            ErrorKind::ResponseTooLarge { .. } => ("response-too-large", BLOCKED),
            // A write has no deadline once it is sent.
            ErrorKind::DeadlineExceeded { .. } => ("deadline-exceeded", TRANSIENT),
            ErrorKind::Unreadable { .. } => ("unreadable", UNKNOWN),
            ErrorKind::StoreUnavailable => ("store-unavailable", TRANSIENT),
            ErrorKind::StoreUnreadable => ("store-unreadable", TRANSIENT),
            ErrorKind::StreamNotRead => ("stream-not-read", BLOCKED),
            ErrorKind::ShuttingDown => ("shutting-down", TRANSIENT),
            ErrorKind::StreamInterrupted => ("shutting-down", BLOCKED),
            ErrorKind::Moved { sent: false } => ("owner-moved", TRANSIENT),
            ErrorKind::Moved { sent: true } => ("owner-moved", UNKNOWN),
            ErrorKind::TenantPaused => ("tenant-paused", TRANSIENT),
            ErrorKind::CallerCancelled => ("caller-left", TRANSIENT),
            ErrorKind::CallerUnknown => ("caller-unknown", BLOCKED),
            ErrorKind::CallerNotAllowed(_) => ("caller-not-allowed", BLOCKED),
            ErrorKind::AuditUnavailable => ("audit-unavailable", TRANSIENT),
        }
    }

    fn is_named_by_leadsquared(&self) -> bool {
        let name = self.details.exception_type.as_deref();
        name.is_some_and(|name| name.starts_with("MX"))
    }

    /// Whether LeadSquared refused the call because of a rate limit.
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, ErrorKind::Refused(_))
    }

    /// The same error with the cause.
    #[must_use]
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.details.cause = Some(cause);
        self
    }

    /// The same error with the HTTP status of the response.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.details.upstream_status = Some(status);
        self
    }

    /// The same error with the share that the request is about.
    #[must_use]
    pub fn with_share(mut self, id: uuid::Uuid) -> Self {
        self.details.share_id = Some(id);
        self
    }

    /// The same error with what the caller can do.
    #[must_use]
    pub fn with_recovery(mut self, recovery: Recovery) -> Self {
        self.details.recovery = Some(recovery);
        self
    }

    /// The same error, as the error of a mutation, with what the caller can do. `otherwise` is what the caller can do about an
    /// unknown outcome if there is no request id or if its repetition proves nothing.
    #[must_use]
    pub fn of_mutation(mut self, has_request_id: bool, otherwise: Recovery) -> Self {
        self.details.recovery = match (&self.kind, self.mutation_outcome()) {
            (ErrorKind::OutcomeUnknown, _) => self.details.recovery.filter(|_| has_request_id).or(Some(otherwise)),
            // The mutation continues without its caller, and no request id identifies it.
            (ErrorKind::DeadlineExceeded { .. }, _) if !has_request_id && self.details.attempts > 0 => Some(otherwise),
            // A repetition returns the outcome of the request in progress, or executes what was not executed.
            (_, Outcome::NotExecuted { is_transient: true }) => {
                let after = Duration::ZERO;
                has_request_id.then_some(Recovery::SameRequestId { after })
            }
            _ => None,
        };
        self
    }
}

impl Outcome {
    /// The outcome of a mutation.
    pub fn of_mutation<T>(result: &Result<T>) -> Self {
        result.as_ref().err().map_or(Self::Executed, Error::mutation_outcome)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self {
            kind,
            details: Box::default(),
        }
    }
}

impl Violation {
    /// A violation of that field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// The text for callers: that of the kind, more exact if the details allow it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.details;
        match (&self.kind, details.recovery) {
            (ErrorKind::Exception, _) => match (&details.exception_type, details.upstream_status) {
                (Some(name), _) => write!(f, "LeadSquared rejected the request with {}", shortened(name, 160)),
                (None, Some(status @ 400..)) => write!(
                    f,
                    "this request was rejected with HTTP {status} by LeadSquared, or by a proxy or firewall in front of it"
                ),
                (None, _) => self.kind.fmt(f),
            },
            (ErrorKind::OutcomeUnknown, recovery) => {
                write!(f, "{}; ", self.kind)?;
                f.write_str(match recovery {
                    Some(Recovery::SameRequestId { .. }) => {
                        "repeat the request with the same request_id after the time in RetryInfo: leadgate then looks the write up"
                    }
                    Some(Recovery::Share) => {
                        "the share (share_id in the metadata) is UNCERTAIN: GetShare returns it, RetryShare or RevokeShare \
                         resolves it; the same request_id only returns the same share"
                    }
                    Some(Recovery::Lead) | None => {
                        "look for the lead in LeadSquared, by its values and the time of the first request; a request with another \
                         request_id, or without one, sends the write a second time"
                    }
                    Some(Recovery::Activity) => {
                        "look at the activities of the lead in LeadSquared, by type, note and the time of the first request; a request \
                         with another request_id, or without one, sends the activity a second time"
                    }
                })
            }
            (ErrorKind::DeadlineExceeded { .. }, Some(Recovery::Lead | Recovery::Activity)) => write!(
                f,
                "{}; the write may have been executed: look for it in LeadSquared before you send it again",
                self.kind
            ),
            (kind, _) => kind.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Maximum number of violations that a text lists.
const MAX_LISTED: usize = 3;

/// The first violations, and the number of the others.
fn listed(violations: &[Violation]) -> String {
    let mut text = String::new();
    for (i, violation) in violations.iter().take(MAX_LISTED).enumerate() {
        let separator = if i == 0 { ": " } else { "; " };
        let (field, description) = (shortened(&violation.field, 160), shortened(&violation.description, 240));
        text.push_str(&format!("{separator}{field}: {description}"));
    }
    match violations.len() {
        0..=MAX_LISTED => {}
        count => text.push_str(&format!("; and {} more", count - MAX_LISTED)),
    }
    text
}

fn same_value(attribute: Option<&str>) -> String {
    match attribute {
        Some(attribute) => format!("the same {}", shortened(attribute, 160)),
        None => "one of the unique values".to_owned(),
    }
}

fn key_host(host: Option<&str>) -> String {
    host.map_or_else(String::new, |host| format!("; the keys seem to belong to {host}"))
}

/// Milliseconds, rounded up.
fn millis(time: &Duration) -> u128 {
    time.as_nanos().div_ceil(1_000_000)
}

/// The text, or its beginning and "...". The result has at most `max` bytes and is cut between characters.
pub fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    const CUT: &str = "...";
    if text.len() <= max {
        return text.into();
    }
    let end = text.floor_char_boundary(max.saturating_sub(CUT.len()));
    format!("{}{CUT}", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abc...");
        assert_eq!(shortened("ééééé", 8), "éé...");
        assert_eq!(shortened("ééééé", 7), "éé...");
        assert_eq!(shortened("abc", 2), "...");
    }

    #[test]
    fn long_names_are_short_in_texts() {
        let violation = Violation::new(format!("lead.custom[\"{}\"]", "x".repeat(5_000)), "ü".repeat(5_000));
        let text = Error::from(ErrorKind::Invalid(vec![violation; 70])).to_string();
        assert!(text.len() < 1_500, "{}", text.len());
        assert!(text.contains("xx...: üü") && text.ends_with("; and 67 more"), "{text}");
    }
}
