//! The retries of a stream that ended early. Does not depend on the messages.

use std::time::Duration;

use tonic::{Code, Status};

use super::progress::Progress;
use crate::cli::client::explain;

/// The pause after the first attempt. Each further pause is twice as long, up to the maximum.
const PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Maximum number of consecutive streams without progress.
const MAX_ATTEMPTS: u32 = 10;

/// Why a stream ended early.
pub(super) enum StreamError {
    /// A new stream may succeed.
    Retryable(Status),
    /// A new stream would fail in the same way.
    Fatal(String),
}

impl From<String> for StreamError {
    fn from(error: String) -> Self {
        Self::Fatal(error)
    }
}

impl From<Status> for StreamError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Fatal(explain(&status)),
            _ => Self::Retryable(status),
        }
    }
}

impl StreamError {
    /// Returns the error of a stream that the gateway had accepted. A token that expires ends such a stream; a new stream uses the
    /// present content of the token file.
    pub(super) fn of_accepted(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Retryable(status),
            _ => status.into(),
        }
    }
}

/// The number of consecutive streams that ended early.
#[derive(Default)]
pub(super) struct StreamRetries(u32);

impl StreamRetries {
    /// Returns the pause before the next stream. Fails if the error is fatal, or after too many attempts.
    pub(super) fn after(
        &mut self,
        error: StreamError,
        has_progressed: bool,
        progress: &Progress,
    ) -> Result<Duration, String> {
        let status = match error {
            StreamError::Fatal(error) => return Err(error),
            StreamError::Retryable(status) => status,
        };
        self.0 = if has_progressed { 1 } else { self.0 + 1 };
        if self.0 >= MAX_ATTEMPTS {
            return Err(explain(&status));
        }
        let pause = pause(self.0 - 1);
        let text = format!(
            "The stream was interrupted ({}). Retrying in {pause:.1?}.",
            status.message()
        );
        progress.note(&text);
        Ok(pause)
    }
}

/// Returns the pause after a number of attempts.
pub(super) fn pause(attempts: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(MAX_PAUSE)
}
