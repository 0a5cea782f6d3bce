//! What can go wrong, whose fault it is, and whether it may be tried again. Knows neither gRPC nor HTTP.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// The result of everything that can fail on the road of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, and what is known about the way there.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// What is known about the way there.
    pub facts: Box<Facts>,
}

/// What went wrong. Each variant says whose fault it is and what to do.
#[derive(Clone, Debug, PartialEq)]
pub enum ErrorKind {
    /// The caller's: the message is not valid, by our own check or by LeadSquared's. Mend the fields; all known faults
    /// are listed.
    Invalid(Vec<Violation>),
    /// The data's: another lead has the unique value. Update that lead, or upsert.
    Duplicate {
        /// The schema name of the unique attribute, where LeadSquared's text names one.
        attribute: Option<String>,
        /// The lead that has the value, where it happens to be known.
        lead_id: Option<String>,
    },
    /// The caller's: there is no such thing.
    NotFound(Resource),
    /// The load's: the quota cannot serve the call before its deadline. Nothing was sent.
    DeadlineInfeasible {
        /// When a call with the same timeout would be served.
        retry_after: Duration,
    },
    /// The caller's: its own share of the quota is spent until its deadline. Nothing was sent.
    CallerLimit {
        /// When a call with the same timeout would be served.
        retry_after: Duration,
    },
    /// The load's: too many calls wait already. Nothing was sent.
    QueueFull {
        /// When there will be room.
        retry_after: Duration,
    },
    /// The load's: the day's calls are spent. It was not executed.
    DailyBudgetExhausted {
        /// When there may be calls again.
        retry_after: Duration,
    },
    /// The operator's: LeadSquared rejects the account's keys.
    CredentialsRejected {
        /// The host that LeadSquared names, where the keys belong to another region.
        suggested_host: Option<String>,
    },
    /// HTTP 401 or 403 without LeadSquared's own word: the fault of the account or of this one request. Stays inside: another
    /// call decides.
    Denied {
        /// The host that the text names, where the keys belong to another region.
        suggested_host: Option<String>,
    },
    /// The account's: LeadSquared does not allow this to the account or to the owner of the keys.
    FeatureDisabled,
    /// The data's: leads can be shared with active sales users only.
    NotASalesUser,
    /// The account's: no more leads can be shared with the user until some shares have ended.
    ShareLimitReached,
    /// The data's: the user has, or is about to get, the access that is asked for.
    ShareExists {
        /// The share that gives it, where it is one of ours.
        by: Option<uuid::Uuid>,
    },
    /// The data's: the share is not such that it could be revoked or extended.
    ShareNotActive,
    /// The data's: no step of the share has failed or is uncertain.
    ShareNotRetryable,
    /// LeadSquared's answer is an exception of a type that means nothing in particular to us. It was not executed.
    Exception,
    /// LeadSquared refused the call because of a limit, so it was not executed. Stays inside: the call is queued again.
    Refused(Refusal),
    /// LeadSquared cannot be reached or does not answer like itself.
    Unavailable {
        /// Whether the request may have been executed.
        sent: bool,
    },
    /// The circuit breaker is open, and the next call to LeadSquared is sent too late for this one. The call was not executed:
    /// try again later.
    BreakerOpen {
        /// When the next call is sent to LeadSquared, at the earliest.
        retry_after: Duration,
    },
    /// A write was sent, no answer came back, and looking it up did not settle it. What to do is in [`Facts::repeat`].
    OutcomeUnknown,
    /// The data's: one response message would be longer than `server.max_response_bytes`. Ask for less of it.
    ResponseTooLarge {
        /// How long the message would be.
        bytes: usize,
        /// The limit.
        limit: usize,
        /// The lead that does not fit by itself.
        lead_id: Option<String>,
    },
    /// The call's deadline passed.
    DeadlineExceeded {
        /// Where the call was waiting.
        place: Cow<'static, str>,
    },
    /// LeadSquared's answer cannot be read: the vendor changed something, or it is a bug of ours.
    Unreadable {
        /// The JSON path of the first thing that does not fit.
        path: String,
    },
    /// The operator's: what has to be remembered cannot be written down, so nothing was sent. Try again later.
    StoreUnavailable,
    /// The operator's: what is remembered cannot be read from the store, so nothing was sent.
    StoreUnreadable,
    /// The client did not read the responses of a stream, so the stream was closed. Responses that were not read are lost.
    StreamNotRead,
    /// This process is about to end. Nothing was sent; ask another replica.
    ShuttingDown,
    /// This process is about to end in the middle of a stream.
    StreamInterrupted,
    /// The caller left before anything was sent. Nobody reads this.
    CallerLeft,
}

/// A refusal by LeadSquared's limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many calls in the window, with the limit that the text names, where it names one.
    Window(Option<Limit>),
    /// A refusal whose text speaks of no window, which is taken for the daily limit.
    Daily,
}

/// So many calls in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many calls.
    pub calls: u32,
    /// In how long.
    pub per: Duration,
}

/// One fault of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request: `lead.first_name`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub description: String,
}

/// The kinds of things that may be missing.
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
    /// A share, in our ledger.
    Share,
}

/// What is known about the way to an error. Holds no keys and no personal data, so it may be shown and logged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The HTTP status of the last answer.
    pub upstream_status: Option<u16>,
    /// The `ExceptionType` of the last answer.
    pub exception_type: Option<String>,
    /// Whether the last answer was a page instead of JSON, so that not even its status is LeadSquared's own word.
    pub is_page: bool,
    /// How many requests were sent to LeadSquared for the call, look-ups included.
    pub attempts: u32,
    /// How long the call waited for slots, in all.
    pub queued: Duration,
    /// The share that it is about.
    pub share_id: Option<uuid::Uuid>,
    /// Why there was no response.
    pub cause: Option<Cause>,
    /// What the caller of a mutation can do to learn its outcome.
    pub repeat: Option<Repeat>,
}

/// What the caller of a mutation can do to learn its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Repeat it with the same request id. Where the outcome is unknown, that makes sense after this time.
    SameRequestId {
        /// How long to wait.
        after: Duration,
    },
    /// Get, revoke or retry the share. The same request id cannot settle it.
    Share,
    /// Look for the lead in LeadSquared. The same request id cannot settle it.
    Lead,
    /// Look for the activity in LeadSquared. The same request id cannot settle it.
    Activity,
}

/// The shortest time after which a look-up that has told nothing is worth repeating.
const SOON: Duration = Duration::from_secs(1);

impl Repeat {
    /// With the same request id, once it counts that a look-up does not find the write.
    pub fn not_before(counts_from: Instant) -> Self {
        let after = counts_from.saturating_duration_since(Instant::now()).max(SOON);
        Self::SameRequestId { after }
    }
}

/// Why there was no response from LeadSquared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host name cannot be resolved.
    Dns,
    /// The connection was refused.
    Refused,
    /// There is no route to the host.
    Unreachable,
    /// The server's certificate is not accepted.
    Certificate(Certificate),
    /// The server did not answer with TLS.
    NoTls,
    /// The server ended the connection in the TLS handshake.
    HandshakeEnded,
    /// Server and client do not agree on TLS.
    Tls,
    /// The server did not answer with HTTP.
    NoHttp,
    /// The server wants HTTPS.
    HttpsOnly,
    /// No connection within `upstream.connect_timeout`.
    ConnectTimeout,
    /// No response within `upstream.timeout`.
    ResponseTimeout,
    /// The connection was closed before the response was complete.
    Closed,
    /// The proxy refused to connect.
    Proxy,
    /// Anything else.
    Other,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Nobody whom this machine trusts has issued it.
    UnknownIssuer,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It is for another host name.
    OtherName,
    /// It was revoked.
    Revoked,
    /// It is that of a CA itself, as most that servers sign themselves.
    SelfSigned,
    /// Anything else.
    Invalid,
}

impl Cause {
    /// The name in logs and in ErrorInfo: one of a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
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
}

/// The text for operators.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "the host name does not exist or cannot be resolved (DNS)",
            Self::Refused => "the connection was refused: no server listens on the port, or a firewall rejects it",
            Self::Unreachable => "there is no route to the host",
            Self::Certificate(Certificate::UnknownIssuer) => {
                "the certificate is not trusted: this machine does not know its issuer"
            }
            Self::Certificate(Certificate::SelfSigned) => {
                "the certificate is not trusted: the server has signed it itself, or it is that of a CA"
            }
            Self::Certificate(Certificate::Expired) => {
                "the certificate has expired, or the clock of this machine is wrong"
            }
            Self::Certificate(Certificate::NotYetValid) => {
                "the certificate is not valid yet, or the clock of this machine is wrong"
            }
            Self::Certificate(Certificate::OtherName) => "the certificate is for another host name",
            Self::Certificate(Certificate::Revoked) => "the certificate was revoked",
            Self::Certificate(Certificate::Invalid) => "the certificate is not valid",
            Self::NoTls => "the server does not answer with TLS: the port may serve plain HTTP (protocol)",
            Self::HandshakeEnded => {
                "the server closed the connection during the TLS handshake: the port may not serve HTTPS (protocol)"
            }
            Self::Tls => "the TLS handshake failed (protocol)",
            Self::NoHttp => "the server does not answer with HTTP: the port may serve HTTPS only (protocol)",
            Self::HttpsOnly => "the server wants HTTPS, and base_url begins with http (protocol)",
            Self::ConnectTimeout => "timeout: no connection within upstream.connect_timeout",
            Self::ResponseTimeout => "timeout: no response within upstream.timeout",
            Self::Closed => "the connection was closed before the response was complete",
            Self::Proxy => "the proxy refused the request (upstream.proxy)",
            Self::Other => "the connection failed",
        })
    }
}

impl Error {
    /// The same error, with the cause why there was no response.
    #[must_use]
    pub fn caused_by(mut self, cause: Cause) -> Self {
        self.facts.cause = Some(cause);
        self
    }

    /// An error with a single fault of the message.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        ErrorKind::Invalid(vec![Violation::new(field, description)]).into()
    }

    /// The error's name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            ErrorKind::Invalid(_) => "invalid",
            ErrorKind::Duplicate { .. } => "duplicate",
            ErrorKind::NotFound(_) => "not-found",
            ErrorKind::DeadlineInfeasible { .. } => "deadline-infeasible",
            ErrorKind::CallerLimit { .. } => "caller-limit",
            ErrorKind::QueueFull { .. } => "queue-full",
            ErrorKind::DailyBudgetExhausted { .. } => "daily-budget-exhausted",
            ErrorKind::CredentialsRejected { .. } => "credentials-rejected",
            ErrorKind::Denied { .. } => "denied",
            ErrorKind::FeatureDisabled => "feature-disabled",
            ErrorKind::NotASalesUser => "not-a-sales-user",
            ErrorKind::ShareLimitReached => "share-limit-reached",
            ErrorKind::ShareExists { .. } => "share-exists",
            ErrorKind::ShareNotActive => "share-not-active",
            ErrorKind::ShareNotRetryable => "share-not-retryable",
            ErrorKind::Exception => "exception",
            ErrorKind::Refused(_) => "refused",
            ErrorKind::Unavailable { sent: true } => "no-answer",
            ErrorKind::Unavailable { sent: false } => "unreachable",
            ErrorKind::BreakerOpen { .. } => "breaker-open",
            ErrorKind::OutcomeUnknown => "outcome-unknown",
            ErrorKind::ResponseTooLarge { .. } => "response-too-large",
            ErrorKind::DeadlineExceeded { .. } => "deadline-exceeded",
            ErrorKind::Unreadable { .. } => "unreadable",
            ErrorKind::StoreUnavailable => "store-unavailable",
            ErrorKind::StoreUnreadable => "store-unreadable",
            ErrorKind::StreamNotRead => "stream-not-read",
            ErrorKind::ShuttingDown | ErrorKind::StreamInterrupted => "shutting-down",
            ErrorKind::CallerLeft => "caller-left",
        }
    }

    /// Whether LeadSquared refused it because of a limit, so that it may come again.
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, ErrorKind::Refused(_))
    }

    /// Whether the answer would be the same if the same were asked again: LeadSquared itself has decided.
    pub fn is_final(&self) -> bool {
        match &self.kind {
            ErrorKind::Invalid(_) | ErrorKind::Duplicate { .. } | ErrorKind::NotFound(_) => true,
            // Without a name of LeadSquared's own it may have come from anything before it, or have gone wrong after the
            // work was done.
            ErrorKind::Exception => {
                let name = self.facts.exception_type.as_deref();
                name.is_some_and(|name| name.starts_with("MX"))
            }
            ErrorKind::DeadlineInfeasible { .. }
            | ErrorKind::CallerLimit { .. }
            | ErrorKind::QueueFull { .. }
            | ErrorKind::DailyBudgetExhausted { .. }
            | ErrorKind::CredentialsRejected { .. }
            | ErrorKind::Denied { .. }
            | ErrorKind::FeatureDisabled
            // Tomorrow it may be otherwise.
            | ErrorKind::NotASalesUser
            | ErrorKind::ShareLimitReached
            | ErrorKind::ShareExists { .. }
            | ErrorKind::ShareNotActive
            | ErrorKind::ShareNotRetryable
            | ErrorKind::Refused(_)
            | ErrorKind::Unavailable { .. }
            | ErrorKind::BreakerOpen { .. }
            | ErrorKind::OutcomeUnknown
            | ErrorKind::ResponseTooLarge { .. }
            | ErrorKind::DeadlineExceeded { .. }
            | ErrorKind::Unreadable { .. }
            | ErrorKind::StoreUnavailable
            | ErrorKind::StoreUnreadable
            | ErrorKind::StreamNotRead
            | ErrorKind::ShuttingDown
            | ErrorKind::StreamInterrupted
            | ErrorKind::CallerLeft => false,
        }
    }
}

impl Error {
    /// The same, and what its caller can do.
    #[must_use]
    pub fn settled_by(mut self, repeat: Repeat) -> Self {
        self.facts.repeat = Some(repeat);
        self
    }

    /// The same as the end of a mutation: says what its caller can do. `otherwise` is what can be done about an unknown outcome
    /// where the same request id cannot settle it, or where there is none.
    #[must_use]
    pub fn of_mutation(mut self, has_request_id: bool, otherwise: Repeat) -> Self {
        self.facts.repeat = match &self.kind {
            ErrorKind::OutcomeUnknown => self.facts.repeat.filter(|_| has_request_id).or(Some(otherwise)),
            // It may have been executed, and there is no id by which its outcome could be told.
            ErrorKind::DeadlineExceeded { .. } if !has_request_id && self.facts.attempts > 0 => Some(otherwise),
            // The same request id gets the outcome of what is under way, or does what was not done.
            ErrorKind::DeadlineInfeasible { .. }
            | ErrorKind::CallerLimit { .. }
            | ErrorKind::QueueFull { .. }
            | ErrorKind::DailyBudgetExhausted { .. }
            | ErrorKind::Refused(_)
            | ErrorKind::Unavailable { .. }
            | ErrorKind::BreakerOpen { .. }
            | ErrorKind::DeadlineExceeded { .. }
            | ErrorKind::StoreUnavailable
            | ErrorKind::StoreUnreadable
            | ErrorKind::ShuttingDown => {
                let after = Duration::ZERO;
                has_request_id.then_some(Repeat::SameRequestId { after })
            }
            _ => None,
        };
        self
    }

    /// The same, about that share.
    #[must_use]
    pub fn of_share(mut self, id: uuid::Uuid) -> Self {
        self.facts.share_id = Some(id);
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self {
            kind,
            facts: Box::default(),
        }
    }
}

impl Violation {
    /// One fault of a message.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// The text for callers: whose fault, what next, never an upstream text.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Invalid(violations) => {
                f.write_str("invalid request")?;
                for (i, violation) in violations.iter().take(3).enumerate() {
                    let separator = if i == 0 { ": " } else { "; " };
                    let (field, description) = (shortened(&violation.field, 160), shortened(&violation.description, 240));
                    write!(f, "{separator}{field}: {description}")?;
                }
                match violations.len() {
                    0..=3 => Ok(()),
                    more => write!(f, "; and {} more", more - 3),
                }
            }
            ErrorKind::Duplicate { attribute, .. } => match attribute {
                Some(attribute) => write!(f, "another lead has the same {}", shortened(attribute, 160)),
                None => f.write_str("another lead has one of the unique values"),
            },
            ErrorKind::NotFound(Resource::Lead) => f.write_str("lead not found"),
            ErrorKind::NotFound(Resource::User) => f.write_str("user not found"),
            ErrorKind::NotFound(Resource::Activity) => f.write_str("activity not found"),
            ErrorKind::NotFound(Resource::Opportunity) => f.write_str("opportunity not found"),
            ErrorKind::NotFound(Resource::Share) => f.write_str("the ledger has no such share"),
            ErrorKind::DeadlineInfeasible { retry_after } => write!(
                f,
                "the call cannot be served before its deadline; nothing was sent; try again in {} ms or with a longer timeout",
                retry_after.as_nanos().div_ceil(1_000_000)
            ),
            ErrorKind::CallerLimit { .. } => f.write_str(
                "the caller's own share of the quota (callers.NAME.calls_per_window) does not serve the call before its deadline; nothing was sent",
            ),
            ErrorKind::QueueFull { .. } => f.write_str("too many calls are in progress or wait for the quota; nothing was sent"),
            ErrorKind::DailyBudgetExhausted { .. } => {
                f.write_str("the account's daily quota is used up; the call was not executed")
            }
            ErrorKind::CredentialsRejected { suggested_host } => {
                f.write_str("LeadSquared rejects the account's keys; an operator has to check them")?;
                match suggested_host {
                    Some(host) => write!(f, "; they seem to belong to {host}"),
                    None => Ok(()),
                }
            }
            ErrorKind::Denied { .. } => f.write_str("the request was rejected by LeadSquared, or by a proxy or firewall in front of it"),
            ErrorKind::FeatureDisabled => {
                f.write_str("LeadSquared does not allow this for the account, or for the owner of its keys")
            }
            ErrorKind::NotASalesUser => f.write_str("the user is not an active sales user; only active sales users can get shared access"),
            ErrorKind::ShareLimitReached => f.write_str("the user has the maximum number of shared leads; no more leads can be shared until some shares have ended"),
            ErrorKind::ShareExists { .. } => {
                f.write_str("the user has this access already, or another share is about to give it; allow_additional asks for a further share")
            }
            ErrorKind::ShareNotActive => f.write_str("the share is not ACTIVE: it has ended, has failed, or is not granted yet"),
            ErrorKind::ShareNotRetryable => f.write_str("the share is neither FAILED nor UNCERTAIN, so there is nothing to retry"),
            ErrorKind::Exception => match (&self.facts.exception_type, self.facts.upstream_status) {
                (Some(name), _) => write!(f, "LeadSquared rejected the request with {}", shortened(name, 160)),
                (None, Some(status @ 400..)) => write!(
                    f,
                    "this request was rejected with HTTP {status} by LeadSquared, or by a proxy or firewall in front of it"
                ),
                (None, _) => f.write_str("LeadSquared rejected the request without a reason"),
            },
            ErrorKind::Refused(_) => f.write_str("LeadSquared refused the call because of its rate limit; the call was not executed"),
            ErrorKind::Unavailable { sent: true } => f.write_str("LeadSquared sent no valid response"),
            ErrorKind::Unavailable { sent: false } => f.write_str("LeadSquared cannot be reached; nothing was executed"),
            ErrorKind::BreakerOpen { retry_after } => write!(
                f,
                "LeadSquared is failing or has asked for a pause (Retry-After), and the call cannot be served before its deadline; it \
                 was not executed; try again in {} ms",
                retry_after.as_nanos().div_ceil(1_000_000)
            ),
            ErrorKind::OutcomeUnknown => {
                f.write_str("the write was sent to LeadSquared, but whether it was executed is not known; ")?;
                f.write_str(match self.facts.repeat {
                    Some(Repeat::SameRequestId { .. }) => {
                        "repeat the request with the same request_id after the time in RetryInfo: leadgate then looks the write up"
                    }
                    Some(Repeat::Share) => {
                        "the share (share_id in the metadata) is UNCERTAIN: GetShare returns it, RetryShare or RevokeShare settles \
                         it; the same request_id only returns the same share"
                    }
                    Some(Repeat::Lead) | None => {
                        "look for the lead in LeadSquared, by its values and the time of the first request; a request with another \
                         request_id, or without one, sends the write a second time"
                    }
                    Some(Repeat::Activity) => {
                        "look at the activities of the lead in LeadSquared, by type, note and the time of the first request; a request \
                         with another request_id, or without one, sends the activity a second time"
                    }
                })
            }
            ErrorKind::ResponseTooLarge { bytes, limit, .. } => write!(
                f,
                "the response would have a message of {bytes} bytes, more than server.max_response_bytes ({limit}); ask for \
                 fewer fields with read_mask or schema_names"
            ),
            ErrorKind::DeadlineExceeded { place } => {
                write!(f, "the deadline passed while waiting for {place}")?;
                match self.facts.repeat {
                    Some(Repeat::Lead | Repeat::Activity) => {
                        f.write_str("; the write may have been executed: look in LeadSquared before you send it again")
                    }
                    Some(Repeat::Share | Repeat::SameRequestId { .. }) | None => Ok(()),
                }
            }
            ErrorKind::Unreadable { path } => write!(f, "LeadSquared's response cannot be read at {}", shortened(path, 240)),
            ErrorKind::StoreUnavailable => f.write_str(
                "the gateway's store cannot be written; nothing was sent; an operator has to check the gateway's log",
            ),
            ErrorKind::StoreUnreadable => f.write_str(
                "the record cannot be read from the gateway's store; nothing was sent; an operator has to check the \
                 gateway's log",
            ),
            ErrorKind::StreamNotRead => f.write_str(
                "the client did not read the responses for server.stream_read_timeout, so the stream was closed; responses that were \
                 not read are lost",
            ),
            ErrorKind::ShuttingDown => f.write_str("this replica is shutting down; nothing was sent"),
            ErrorKind::StreamInterrupted => f.write_str(
                "this replica is shutting down and ended the stream; responses that were sent are valid; the other requests were not \
                 sent to LeadSquared or are in progress",
            ),
            ErrorKind::CallerLeft => f.write_str("the caller left; nothing was sent"),
        }
    }
}

impl std::error::Error for Error {}

/// The text, or its beginning and "..." in at most so many bytes. It is cut between characters.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    const CUT: &str = "...";
    if text.len() <= most {
        return text.into();
    }
    let end = text.floor_char_boundary(most.saturating_sub(CUT.len()));
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
