//! Why a stream ended before all was done, and when it is begun again. Knows not what was in it.

use std::time::Duration;

use tonic::{Code, Status};

use super::progress::Progress;
use crate::cli::client::explain;

/// The pause after the first try; each is twice as long as the one before, up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often a stream is begun without getting any further.
const MAX_STREAMS: u32 = 10;

/// Why a stream ended before all was done.
pub(super) enum Broken {
    /// It may be tried again.
    Lost(Status),
    /// It would be the same again.
    Fault(String),
}

impl From<String> for Broken {
    fn from(fault: String) -> Self {
        Self::Fault(fault)
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Fault(explain(&status)),
            _ => Self::Lost(status),
        }
    }
}

/// How often a stream has broken off in a row.
#[derive(Default)]
pub(super) struct Breaks(u32);

impl Breaks {
    /// How long to wait before the stream is begun again, if that is worth it.
    pub(super) fn after(&mut self, broken: Broken, got_further: bool, progress: &Progress) -> Result<Duration, String> {
        let status = match broken {
            Broken::Fault(fault) => return Err(fault),
            Broken::Lost(status) => status,
        };
        self.0 = if got_further { 1 } else { self.0 + 1 };
        if self.0 >= MAX_STREAMS {
            return Err(explain(&status));
        }
        let pause = pause(self.0 - 1);
        let text = format!(
            "The stream broke off ({}); it is begun again in {pause:.1?}.",
            status.message()
        );
        progress.say(&text);
        Ok(pause)
    }
}

/// How long to wait after so many tries.
pub(super) fn pause(tries: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST_PAUSE)
}
