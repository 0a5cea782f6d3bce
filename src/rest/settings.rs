//! The settings `[rest]`.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::cors;
use crate::identity::Caller;

/// Maximum of each duration.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);
/// The range of `max_header_bytes`. The HTTP library needs a buffer of the minimum.
const HEADER_BYTES: std::ops::RangeInclusive<usize> = 8_192..=1_048_576;
/// Maximum of `max_body_bytes`.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// The statuses of refusals.
pub const REFUSAL_STATUSES: [u16; 3] = [429, 403, 200];

/// The settings of the listener, without those of TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestSettings {
    /// The address. `None`: there is no listener.
    pub listen: Option<SocketAddr>,
    /// Whether plaintext is served on an address that is not on loopback.
    pub insecure_plaintext: bool,
    /// Maximum time for which a request waits for its slot.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// The HTTP status of a request that cannot be served in time.
    pub refusal_status: u16,
    /// Maximum length of a request body.
    pub max_body_bytes: usize,
    /// Maximum length of the request line and the headers.
    pub max_header_bytes: usize,
    /// Maximum time until the headers of a request are complete.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Maximum time until the body of a request is complete, and maximum time for which a client may not read its response.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Maximum time between two requests on a connection.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// The origins of pages that may read responses.
    pub cors_origins: Vec<String>,
    /// The host that clients use. Empty: the response with the account's own host does not change.
    pub public_host: String,
}

impl RestSettings {
    /// The HTTP status of a request of this caller that cannot be served in time.
    pub(super) fn refusal_status_of(&self, caller: &Caller) -> StatusCode {
        let status = caller.rest.refusal_status.unwrap_or(self.refusal_status);
        StatusCode::from_u16(status).unwrap_or(StatusCode::TOO_MANY_REQUESTS)
    }

    /// Returns the invalid settings: the key, and what is valid.
    pub fn validate(&self, has_tls: bool) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        let is_open = self.listen.is_some_and(|listen| !listen.ip().is_loopback());
        if is_open && !has_tls && !self.insecure_plaintext {
            let text = "must be a loopback address, because keys would be sent without encryption; rest.tls or server.tls allows \
                        any, and so does rest.insecure_plaintext = true";
            errors.push(("listen", text.to_owned()));
        }
        if !REFUSAL_STATUSES.contains(&self.refusal_status) {
            errors.push(("refusal_status", "must be 429, 403 or 200".to_owned()));
        }
        if !HEADER_BYTES.contains(&self.max_header_bytes) {
            let text = format!("must be {} to {}", HEADER_BYTES.start(), HEADER_BYTES.end());
            errors.push(("max_header_bytes", text));
        }
        if !(1..=MAX_BODY_BYTES).contains(&self.max_body_bytes) {
            errors.push(("max_body_bytes", format!("must be 1 to {MAX_BODY_BYTES}")));
        }
        for (key, value) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("keep_alive", self.keep_alive),
        ] {
            if value.is_zero() || value > MAX_DURATION {
                errors.push((key, "must be more than zero and at most a day".to_owned()));
            }
        }
        if !self.cors_origins.iter().all(|origin| cors::is_origin(origin)) {
            let text = "must be origins, such as \"https://www.example.com\", or \"*\"";
            errors.push(("cors_origins", text.to_owned()));
        }
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
        if !self.public_host.bytes().all(is_host) {
            errors.push((
                "public_host",
                "must be a host name, such as \"leadgate.example.com\", or empty".to_owned(),
            ));
        }
        if self.max_wait > MAX_DURATION {
            errors.push(("max_wait", "must be at most a day; 0s: only a free slot".to_owned()));
        }
        errors
    }
}
