//! The settings `[server]`, except for the address.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::{response_budget, web};
use crate::identity::AuthMode;

/// The upper limit of all settings that count connections, streams or RPCs.
const MAX_COUNT: u32 = 1_000_000;
/// The upper limit of all settings that are durations, and the deadline of a stream without a deadline of its own.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);
/// The range of `server.max_metadata_bytes`.
const METADATA_BYTES: RangeInclusive<usize> = 1_024..=1_048_576;

/// The settings of the gRPC server (`[server]`, except for the address).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Whether clients can read the descriptors of the services.
    pub reflection: Reflection,
    /// The origins whose pages may call RPCs from a browser. Empty: gRPC-Web is off.
    pub cors_origins: Vec<String>,
    /// Maximum size of a request message, in bytes, before and after decompression.
    pub max_request_bytes: usize,
    /// Maximum number of repeated elements and map entries of a request message.
    pub max_message_elements: usize,
    /// Maximum total size of all incomplete request messages, in bytes.
    pub max_unfinished_bytes: usize,
    /// Maximum size of a response message, in bytes.
    pub max_response_bytes: usize,
    /// Maximum size of the metadata of a request, in bytes as HTTP/2 counts them.
    pub max_metadata_bytes: usize,
    /// Maximum number of open connections.
    pub max_connections: u32,
    /// Maximum number of open connections from one IP address.
    pub max_connections_per_address: u32,
    /// Maximum time for the TLS handshake and the first frames of a connection, and for each header block.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Maximum number of TLS handshakes in progress.
    pub max_handshakes: u32,
    /// Maximum age of a connection, with a random change of up to 10 %. Zero: none.
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Duration,
    /// Maximum time for RPCs in progress to finish on a connection that is too old or idle.
    #[serde(with = "humantime_serde")]
    pub max_connection_age_grace: Duration,
    /// Maximum time without RPCs in progress on a connection. Zero: none.
    #[serde(with = "humantime_serde")]
    pub max_connection_idle: Duration,
    /// Minimum interval between two PINGs of a client. Zero: none.
    #[serde(with = "humantime_serde")]
    pub keepalive_min_interval: Duration,
    /// Maximum number of RPCs in progress on one connection.
    pub max_streams_per_connection: u32,
    /// Maximum number of streams (as for `max_streams`) of one caller.
    pub max_streams_per_caller: u32,
    /// Maximum time for which a client may not read the responses of a stream.
    #[serde(with = "humantime_serde")]
    pub stream_read_timeout: Duration,
    /// Maximum number of unary RPCs in progress.
    pub max_in_flight: u32,
    /// Maximum number of unary RPCs in progress of one caller. At most `max_in_flight`.
    pub max_in_flight_per_caller: u32,
    /// Maximum number of streams (WatchShare, WatchQuota, RevokeShares, ExportLeads, ImportLeads) in progress.
    pub max_streams: u32,
    /// Maximum duration of a unary RPC. Longer deadlines are lowered to it. An RPC without a deadline gets it.
    #[serde(with = "humantime_serde")]
    pub max_deadline: Duration,
    /// How long before the caller's deadline an RPC ends, so that the response arrives before the deadline.
    #[serde(with = "humantime_serde")]
    pub deadline_margin: Duration,
    /// How long RPCs are still accepted after the shutdown has begun.
    #[serde(with = "humantime_serde")]
    pub shutdown_delay: Duration,
    /// Maximum time for RPCs in progress to finish after that.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// Whether the reflection service is on: `true`, `false`, or `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflection {
    /// On if callers are not identified.
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl Reflection {
    /// Whether it is on in this mode.
    pub(super) fn is_on(self, mode: AuthMode) -> bool {
        match self {
            Self::Auto => mode == AuthMode::None,
            Self::On => true,
            Self::Off => false,
        }
    }
}

impl<'de> Deserialize<'de> for Reflection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = Reflection;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true, false or \"auto\"")
            }

            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<Reflection, E> {
                Ok(if is_on { Reflection::On } else { Reflection::Off })
            }

            /// The value of an environment variable is a text.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Reflection, E> {
                match text {
                    "auto" => Ok(Reflection::Auto),
                    "true" => Ok(Reflection::On),
                    "false" => Ok(Reflection::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Other("another text"), &self)),
                }
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl ServerSettings {
    /// Returns the errors of the settings: each with the key and the allowed range.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        for (key, value) in [
            ("max_in_flight", self.max_in_flight),
            ("max_in_flight_per_caller", self.max_in_flight_per_caller),
            ("max_streams", self.max_streams),
            ("max_connections", self.max_connections),
            ("max_handshakes", self.max_handshakes),
            ("max_connections_per_address", self.max_connections_per_address),
            ("max_streams_per_connection", self.max_streams_per_connection),
            ("max_streams_per_caller", self.max_streams_per_caller),
        ] {
            if !(1..=MAX_COUNT).contains(&value) {
                errors.push((key, format!("must be 1 to {MAX_COUNT}")));
            }
        }
        for (key, value) in [
            ("stream_read_timeout", self.stream_read_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("max_deadline", self.max_deadline),
        ] {
            if value.is_zero() || value > MAX_DURATION {
                errors.push((key, "must be more than zero and at most a day".to_owned()));
            }
        }
        for (key, value) in [
            ("max_connection_age", self.max_connection_age),
            ("max_connection_age_grace", self.max_connection_age_grace),
            ("max_connection_idle", self.max_connection_idle),
            ("keepalive_min_interval", self.keepalive_min_interval),
            ("shutdown_delay", self.shutdown_delay),
            ("drain", self.drain),
        ] {
            if value > MAX_DURATION {
                errors.push((key, "must be at most a day".to_owned()));
            }
        }
        if let Some(text) = web::origins_error(&self.cors_origins) {
            errors.push(("cors_origins", text));
        }
        if self.max_request_bytes == 0 {
            errors.push(("max_request_bytes", "must be at least 1".to_owned()));
        }
        if self.max_message_elements == 0 {
            errors.push(("max_message_elements", "must be at least 1".to_owned()));
        }
        if self.max_unfinished_bytes < self.max_request_bytes {
            let text = format!("must be at least server.max_request_bytes ({})", self.max_request_bytes);
            errors.push(("max_unfinished_bytes", text));
        }
        let response_bytes = response_budget::MIN_RESPONSE_BYTES..=response_budget::MAX_RESPONSE_BYTES;
        if !response_bytes.contains(&self.max_response_bytes) {
            let text = format!("must be {} to {}", response_bytes.start(), response_bytes.end());
            errors.push(("max_response_bytes", text));
        }
        if !METADATA_BYTES.contains(&self.max_metadata_bytes) {
            let text = format!("must be {} to {}", METADATA_BYTES.start(), METADATA_BYTES.end());
            errors.push(("max_metadata_bytes", text));
        }
        errors
    }
}
