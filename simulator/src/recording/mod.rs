//! Recordings of calls: a file with the received requests and their responses as JSON lines. `writer.rs` writes it, and
//! `replay.rs` answers from it.

mod replay;
mod writer;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::control::journal::CallId;
use crate::http::call::Call;
use crate::http::reply::{self, Reply};

pub use replay::Replay;
pub use writer::Recording;

/// Maximum size of a recording in bytes.
pub const MAX_RECORDING: usize = 256 << 20;

/// The version of the format.
const VERSION: u32 = 1;

/// The value of a key in a recording.
const REDACTED: &str = "redacted";

/// What happens to calls in addition to their execution, or in place of it.
#[derive(Default)]
pub(crate) enum Traffic {
    /// Calls are executed.
    #[default]
    Simulated,
    /// Calls are executed and recorded.
    Recorded(Recording),
    /// Calls are answered from a recording.
    Replayed(Replay),
}

impl Traffic {
    /// Records the call, if calls are recorded. Returns whether the recording has failed.
    pub(crate) fn record(&mut self, id: CallId, call: &Call, reply: Option<&Reply>) -> bool {
        match self {
            Self::Recorded(recording) => {
                recording.write(id, call, reply);
                recording.error().is_some()
            }
            Self::Simulated | Self::Replayed(_) => false,
        }
    }

    /// Returns the error of the recording.
    pub(crate) fn error(&self) -> Option<String> {
        match self {
            Self::Recorded(recording) => recording.error(),
            Self::Simulated | Self::Replayed(_) => None,
        }
    }

    pub(crate) fn replay(&self) -> Option<&Replay> {
        match self {
            Self::Replayed(replay) => Some(replay),
            Self::Simulated | Self::Recorded(_) => None,
        }
    }
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    leadgate_recording: u32,
}

/// Each further line: a call.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The position of the call in the order of arrival. Lines are in the order of the responses. If unset, the position of
    /// the line.
    #[serde(default)]
    call: Option<u64>,
    request: RecordedRequest,
    /// `None`: the connection was closed without a response. The key must be there.
    #[serde(deserialize_with = "Option::deserialize")]
    response: Option<Reply>,
}

/// A request, without headers and without keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedRequest {
    method: String,
    path: String,
    #[serde(default)]
    query: Vec<(String, String)>,
    #[serde(default, with = "reply::body")]
    body: Bytes,
}

impl RecordedRequest {
    fn new(call: &Call) -> Self {
        let mut query = call.query.clone();
        for (name, value) in &mut query {
            if is_key(name) {
                *value = REDACTED.into();
            }
        }
        Self {
            method: call.method.to_string(),
            path: call.path.clone(),
            query,
            body: call.body.clone(),
        }
    }
}

/// Whether a parameter of the query is a key.
fn is_key(name: &str) -> bool {
    ["accessKey", "secretKey"]
        .iter()
        .any(|key| name.eq_ignore_ascii_case(key))
}
