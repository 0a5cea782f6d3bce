//! The retries of a stream that ended early. Does not depend on the messages.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use clap::Args;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cli::client::explain;
use crate::cli::process::parse_duration;

/// The pauses before a new stream, without their jitter, which at most doubles them.
const MIN_RECONNECT_PAUSE: Duration = Duration::from_millis(200);
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(3);

/// How a command reacts to a lost connection.
#[derive(Args)]
pub(crate) struct ReconnectOptions {
    /// How long to try to reconnect after a lost connection, or while the gateway is unavailable. 0s: the command ends at once.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10m")]
    pub(crate) reconnect_for: Duration,
}

/// Why a stream ended early.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The connection was lost, or the gateway is unavailable. A new stream may succeed.
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
        // Without a reason, the status is of the connection or of a proxy, unless the gateway is of another version.
        let has_reason = status.get_error_details().error_info().is_some();
        match status.code() {
            Code::Unavailable | Code::ResourceExhausted => Self::Retryable(status),
            Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded
                if !has_reason =>
            {
                Self::Retryable(status)
            }
            _ => Self::Fatal(explain(&status)),
        }
    }
}

impl StreamError {
    /// Returns the error of a stream that the gateway had accepted. A token that expires ends such a stream; a new stream uses the
    /// present content of the token file.
    pub(crate) fn of_accepted(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Retryable(status),
            _ => status.into(),
        }
    }
}

/// The attempts to continue with a new stream, since the last progress.
pub(crate) struct Reconnects {
    /// `--reconnect-for`.
    limit: Duration,
    pauses: ExponentialBackoff,
    /// When the first stream without progress ended.
    since: Option<Instant>,
    /// When the connection was lost. `None` while there is a stream.
    lost_at: Option<Instant>,
}

impl Reconnects {
    pub(crate) fn new(options: &ReconnectOptions) -> Self {
        Self {
            limit: options.reconnect_for,
            pauses: pauses(),
            since: None,
            lost_at: None,
        }
    }

    /// Waits before the next stream. Fails if the error is fatal, or if there was no progress for `--reconnect-for`. Passes a text
    /// for users to `note` when the connection is lost.
    pub(crate) async fn wait(
        &mut self,
        error: StreamError,
        has_progressed: bool,
        note: impl FnOnce(&str),
    ) -> Result<(), String> {
        let pause = self.pause_after(error, has_progressed, note, Instant::now())?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn pause_after(
        &mut self,
        error: StreamError,
        has_progressed: bool,
        note: impl FnOnce(&str),
        now: Instant,
    ) -> Result<Duration, String> {
        let status = match error {
            StreamError::Fatal(error) => return Err(error),
            StreamError::Retryable(status) => status,
        };
        if has_progressed {
            self.since = None;
            self.pauses = pauses();
        }
        let limit = humantime::format_duration(self.limit);
        let remaining = (*self.since.get_or_insert(now) + self.limit).saturating_duration_since(now);
        let retry_time = status
            .get_error_details()
            .retry_info()
            .and_then(|info| info.retry_delay);
        let retry_time = retry_time.unwrap_or_default();
        if remaining.is_zero() || retry_time > remaining {
            let error = explain(&status);
            return Err(format!(
                "{error}\nno new stream made progress within {limit} (--reconnect-for)"
            ));
        }
        if self.lost_at.is_none() {
            self.lost_at = Some(now);
            let reason = status.message();
            note(&format!(
                "The stream was interrupted ({reason}). Reconnecting for up to {limit}."
            ));
        }
        let pause = self.pauses.next().unwrap_or(MAX_RECONNECT_PAUSE);
        Ok(pause.max(retry_time).min(remaining))
    }

    /// The gateway has accepted a stream.
    pub(crate) fn connected(&mut self, note: impl FnOnce(&str)) {
        if let Some(lost_at) = self.lost_at.take() {
            let seconds = lost_at.elapsed().as_secs_f64();
            note(&format!("Connected again after {seconds:.1} s. The stream continues."));
        }
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(MIN_RECONNECT_PAUSE)
        .with_max_delay(MAX_RECONNECT_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn reconnects(limit: Duration) -> Reconnects {
        Reconnects::new(&ReconnectOptions { reconnect_for: limit })
    }

    fn lost() -> StreamError {
        Status::unavailable("connection reset").into()
    }

    /// An error of the gateway.
    fn of_gateway(code: Code, retry_time: Option<Duration>) -> StreamError {
        let mut details = ErrorDetails::new();
        details.set_error_info("REASON", "leadgate", std::collections::HashMap::<String, String>::new());
        if let Some(retry_time) = retry_time {
            details.set_retry_info(Some(retry_time));
        }
        Status::with_error_details(code, "text", details).into()
    }

    #[test]
    fn a_transfer_reconnects_until_the_limit_since_its_last_progress() {
        let mut reconnects = reconnects(MINUTE);
        let start = Instant::now();
        let mut at = |seconds, has_progressed| {
            let now = start + Duration::from_secs(seconds);
            reconnects.pause_after(lost(), has_progressed, |_| {}, now)
        };
        assert!(at(0, false).unwrap() >= MIN_RECONNECT_PAUSE);
        for _ in 0..20 {
            assert!(at(1, false).unwrap() <= MAX_RECONNECT_PAUSE * 2);
        }
        assert!(at(59, false).unwrap() <= Duration::from_secs(1));
        // Progress begins a new time.
        assert!(at(59, true).unwrap() <= MIN_RECONNECT_PAUSE * 2);
        assert!(at(118, false).is_ok());
        let error = at(119, false).unwrap_err();
        assert!(error.contains("within 1m (--reconnect-for)"), "{error}");
    }

    #[test]
    fn with_a_limit_of_zero_a_transfer_never_reconnects() {
        let mut reconnects = reconnects(Duration::ZERO);
        assert!(reconnects.pause_after(lost(), true, |_| {}, Instant::now()).is_err());
    }

    #[test]
    fn only_lost_connections_and_an_unavailable_gateway_are_retried() {
        let is_retried = |error: &StreamError| matches!(error, StreamError::Retryable(_));
        for status in [
            Status::unknown("error reading a body from connection"),
            Status::internal("h2 protocol error"),
            Status::cancelled("stream reset"),
        ] {
            assert!(is_retried(&status.into()));
        }
        for code in [Code::Unavailable, Code::ResourceExhausted] {
            assert!(is_retried(&of_gateway(code, None)), "{code:?}");
        }
        for code in [
            Code::InvalidArgument,
            Code::PermissionDenied,
            Code::FailedPrecondition,
            Code::Internal,
            Code::Aborted,
        ] {
            assert!(!is_retried(&of_gateway(code, None)), "{code:?}");
        }
        let denied = Status::unauthenticated("expired");
        assert!(!is_retried(&denied.clone().into()) && is_retried(&StreamError::of_accepted(denied)));
    }

    #[test]
    fn the_retry_time_of_the_gateway_is_respected_and_fails_beyond_the_limit() {
        let mut reconnects = reconnects(MINUTE);
        let now = Instant::now();
        let mut after = |seconds| {
            let error = of_gateway(Code::ResourceExhausted, Some(Duration::from_secs(seconds)));
            reconnects.pause_after(error, false, |_| {}, now)
        };
        assert_eq!(after(20), Ok(Duration::from_secs(20)));
        assert!(after(3600).is_err());
    }
}
