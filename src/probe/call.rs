//! One call of a probe, and its observation.

/// The kind of a call that the measurement of the limits sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// A read that costs one call: the metadata of one field.
    Read,
    /// A bulk update of one random lead id. It writes nothing.
    Bulk,
    /// A read of a path that does not exist (HTTP 404).
    UnknownPath,
    /// A request whose body is not JSON.
    BadJson,
}

/// What LeadSquared responded to one call.
#[derive(Clone, Debug)]
pub struct CallObservation {
    /// The kind of the call.
    pub kind: CallKind,
    /// When the request was sent.
    pub sent: tokio::time::Instant,
    /// When the response was complete.
    pub received: tokio::time::Instant,
    /// The outcome.
    pub outcome: CallOutcome,
}

/// Whether a call was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Accepted, also if it failed for another reason than the limit. Contains the HTTP status.
    Accepted(u16),
    /// Refused by the limit of calls per window. Contains the HTTP status and the text of LeadSquared without personal data.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The text.
        text: String,
    },
    /// Refused by the daily limit.
    DailyRefused {
        /// The HTTP status.
        status: u16,
        /// The text.
        text: String,
    },
    /// No usable response: broken connection, timeout, HTTP 5xx.
    Failed(String),
    /// HTTP 401: the credentials were rejected. The probe ends.
    Unauthorized,
}

/// Sends calls for a measurement.
pub trait ProbeCaller {
    /// Sends one call now, without waiting for a slot. Calls may run at the same time.
    fn call(&self, kind: CallKind) -> impl Future<Output = CallObservation> + Send;
    /// Number of calls that may still be sent (budget of the command and of the day). The measurement stops before it is zero.
    fn calls_left(&self) -> u32;
    /// Reports progress to the user: a short text and a fraction between 0 and 1.
    fn progress(&self, text: &str, fraction: f32);
}
