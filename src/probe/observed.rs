//! The response to one call of a probe, as far as decisions depend on it.

use std::time::Duration;

use serde_json::Value as Json;

use super::text::without_data;
use crate::crm::response::UpstreamResponse;
use crate::error::{Error, ErrorKind, Refusal};

/// The response to one call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Observed {
    /// The HTTP status. 0: there is no response.
    pub(super) status: u16,
    pub(super) reply: Reply,
    /// The body. `Null` if it is not JSON. It may contain personal data.
    pub(super) body: Json,
    /// The length of the body in bytes.
    pub(super) bytes: usize,
    pub(super) took: Duration,
}

/// What a response means, by the rules of the gateway.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Success,
    Rejected {
        kind: ErrorKind,
        /// The name of the exception.
        exception: Option<String>,
        /// The text of the exception, without data.
        text: String,
    },
    /// No complete response, with the cause.
    Lost(String),
}

/// Whether a connection could still be used after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdleResult {
    pub(super) idle_for: Duration,
    /// `None`: the second request failed, or the connection has no address.
    pub(super) is_open: Option<bool>,
}

impl Observed {
    /// `without_keys` removes the keys from a text.
    pub(super) fn new(response: &UpstreamResponse, took: Duration, without_keys: impl Fn(&str) -> String) -> Self {
        let reply = match response.error() {
            None => Reply::Success,
            Some(error) => {
                let text = response.text().unwrap_or_else(|| response.beginning());
                Reply::Rejected {
                    kind: error.kind,
                    exception: error.details.exception_type,
                    text: without_data(&without_keys(&text)),
                }
            }
        };
        Self {
            status: response.status.as_u16(),
            reply,
            body: serde_json::from_slice(&response.body).unwrap_or_default(),
            bytes: response.body.len(),
            took,
        }
    }

    pub(super) fn lost(error: &Error, took: Duration) -> Self {
        let cause = error
            .details
            .cause
            .map_or_else(|| error.to_string(), |cause| cause.to_string());
        Self {
            status: 0,
            reply: Reply::Lost(cause),
            body: Json::Null,
            bytes: 0,
            took,
        }
    }

    pub(super) fn is_success(&self) -> bool {
        self.reply == Reply::Success
    }

    /// Whether LeadSquared read the request and rejected it. A lost response, a page and HTTP 5xx without an exception prove nothing.
    pub(super) fn is_rejected(&self) -> bool {
        matches!(&self.reply, Reply::Rejected { kind, .. } if !matches!(kind, ErrorKind::Unavailable { .. } | ErrorKind::Refused(_)))
    }

    pub(super) fn kind(&self) -> Option<&ErrorKind> {
        match &self.reply {
            Reply::Rejected { kind, .. } => Some(kind),
            Reply::Success | Reply::Lost(_) => None,
        }
    }

    pub(super) fn exception(&self) -> Option<&str> {
        match &self.reply {
            Reply::Rejected { exception, .. } => exception.as_deref(),
            Reply::Success | Reply::Lost(_) => None,
        }
    }

    /// The text of the exception in lower case, for rules about words.
    pub(super) fn words(&self) -> String {
        match &self.reply {
            Reply::Rejected { text, .. } => text.to_lowercase(),
            Reply::Success | Reply::Lost(_) => String::new(),
        }
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.kind() {
            Some(ErrorKind::Refused(refusal)) => Some(*refusal),
            _ => None,
        }
    }

    /// The response in a few words, without data.
    pub(super) fn summary(&self) -> String {
        match &self.reply {
            Reply::Success => format!("HTTP {}", self.status),
            Reply::Lost(cause) => format!("no response: {cause}"),
            Reply::Rejected { exception, text, .. } => {
                let parts = [exception.as_deref().unwrap_or_default(), text];
                let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                format!("HTTP {} {}", self.status, parts.join(": "))
                    .trim_end()
                    .to_owned()
            }
        }
    }

    /// The response in the JSON report.
    pub(super) fn json(&self) -> Json {
        match &self.reply {
            Reply::Success => serde_json::json!({"status": self.status}),
            Reply::Lost(cause) => serde_json::json!({"no_response": cause}),
            Reply::Rejected { exception, text, .. } => {
                serde_json::json!({"status": self.status, "exception": exception, "text": text})
            }
        }
    }
}

#[cfg(test)]
impl Observed {
    /// A response with this body.
    pub(super) fn of(status: u16, body: impl ToString) -> Self {
        let response = UpstreamResponse {
            status: http::StatusCode::from_u16(status).unwrap(),
            body: body.to_string().into(),
            head: Default::default(),
        };
        Self::new(&response, Duration::from_millis(120), str::to_owned)
    }

    /// A response with an exception.
    pub(super) fn exception_of(status: u16, name: &str, text: &str) -> Self {
        let body = serde_json::json!({"Status": "Error", "ExceptionType": name, "ExceptionMessage": text});
        Self::of(status, body)
    }

    /// A call without a response.
    pub(super) fn nothing() -> Self {
        let error = Error::from(ErrorKind::Unavailable { sent: true }).with_cause(crate::error::Cause::ResponseTimeout);
        Self::lost(&error, Duration::from_secs(15))
    }

    /// Responses from which nothing follows.
    pub(super) fn nonsense() -> Vec<Self> {
        vec![
            Self::nothing(),
            Self::of(502, "<html>Bad Gateway</html>"),
            Self::of(500, ""),
            Self::of(200, "<html>We will be back soon</html>"),
            Self::of(503, "{\"message\":\"Service Unavailable\"}"),
        ]
    }
}
