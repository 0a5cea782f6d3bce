//! Logs: one line per RPC, and one per attempt of a call. No line contains keys or personal data.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload;

use super::json_line::JsonLine;
use super::log_writer::LogWriter;

/// Maximum time for the last lines of a process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The directives of libraries whose warnings clients can cause. Directives of `log.filter` for the same targets replace them.
const LIBRARIES: &str = "h2=error,hyper=error,rustls=error,tower=error";

/// The settings of the log (`[log]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The format of lines.
    pub format: LogFormat,
    /// The level, or directives such as `info,leadgate::attempt=warn`.
    pub filter: String,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Colored text.
    Pretty,
}

impl LogSettings {
    /// Returns the errors: the setting, and the expected value.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        match env_filter(&self.filter) {
            Ok(_) => vec![],
            Err(_) => vec![(
                "filter",
                "must be a level (\"info\") or directives (\"info,leadgate::attempt=warn\")".to_owned(),
            )],
        }
    }
}

/// The log of this process, whose filter may change. It is set when the log has started.
static LOG: OnceLock<RunningLog> = OnceLock::new();

struct RunningLog {
    writer: LogWriter,
    /// `log.filter`.
    setting: String,
    replace: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

/// Why the filter of the log cannot be changed.
#[derive(Debug, PartialEq, Eq)]
pub enum FilterError {
    /// The filter is invalid, for this reason.
    Invalid(String),
    /// This process writes no log.
    NoLog,
}

/// Starts logging to standard error. A second start in the same process has no effect. Fails if the system has no thread for it.
pub fn start(settings: &LogSettings) -> io::Result<()> {
    let filter = env_filter(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let writer = LogWriter::start(io::stderr())?;
    let log = tracing_subscriber::fmt()
        .with_writer(writer.clone())
        .log_internal_errors(false);
    // Only tests start it twice.
    let (replace, started) = match settings.format {
        LogFormat::Json => {
            let log = log
                .event_format(JsonLine)
                .with_env_filter(filter)
                .with_filter_reloading();
            (replacing(log.reload_handle()), log.try_init())
        }
        LogFormat::Pretty => {
            let log = log.compact().with_env_filter(filter).with_filter_reloading();
            (replacing(log.reload_handle()), log.try_init())
        }
    };
    if started.is_ok() {
        let setting = settings.filter.clone();
        let _ = LOG.set(RunningLog {
            writer,
            setting,
            replace,
        });
    }
    Ok(())
}

/// Waits until all lines are written, at the end of the process.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.writer.flush(FLUSH_TIMEOUT);
    }
}

/// Number of lines that were not written, because standard error failed or was not read in time.
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |log| log.writer.dropped())
}

fn replacing<S: 'static>(
    handle: reload::Handle<EnvFilter, S>,
) -> Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync> {
    Box::new(move |filter| handle.reload(filter))
}

/// Changes the filter of the log until the end of the process. `None`: the filter of the settings. Returns the filter in use.
pub fn set_filter(filter: Option<&str>) -> Result<String, FilterError> {
    let parsed = |filter| env_filter(filter).map_err(|error| FilterError::Invalid(error.to_string()));
    let given = filter.map(parsed).transpose()?;
    let log = LOG.get().ok_or(FilterError::NoLog)?;
    let in_use = filter.unwrap_or(&log.setting);
    let filter = match given {
        Some(filter) => filter,
        None => parsed(in_use)?,
    };
    (log.replace)(filter).map_err(|_| FilterError::NoLog)?;
    Ok(in_use.to_owned())
}

/// Returns the filter of these directives, after those of [`LIBRARIES`].
fn env_filter(directives: &str) -> Result<EnvFilter, ParseError> {
    // Without any directive, only errors are logged.
    let directives = if directives.is_empty() { "error" } else { directives };
    EnvFilter::try_new(format!("{LIBRARIES},{directives}"))
}

/// Limits the log lines that unknown clients can cause.
#[derive(Debug, Default)]
pub struct LineLimit {
    state: Mutex<LineState>,
}

#[derive(Debug, Default)]
struct LineState {
    /// When the current second began.
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LineLimit {
    /// Maximum number of lines per second.
    pub const LINES_PER_SECOND: u32 = 10;

    /// Returns the number of lines that were suppressed since the last line, or `None` if this line is suppressed.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now - since >= Duration::from_secs(1)) {
            (state.since, state.lines) = (Some(now), 0);
        }
        if state.lines == Self::LINES_PER_SECOND {
            state.suppressed += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The messages that a log with this filter has.
    fn logged(filter: &str) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(env_filter(filter).unwrap())
            .with_writer(move || writer.clone())
            .json()
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::warn!(target: "h2::proto::ping_pong", "h2 warn");
            tracing::error!(target: "h2::proto::ping_pong", "h2 error");
            tracing::warn!(target: "hyper_util::server", "hyper warn");
            tracing::warn!(target: "rustls::conn", "rustls warn");
            tracing::warn!(target: "tower_http", "tower warn");
            tracing::info!(target: "leadgate::rpc", "leadgate info");
            tracing::error!(target: "leadgate::rpc", "leadgate error");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let messages = text.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["fields"]["message"].as_str().unwrap().to_owned()
        });
        messages.collect()
    }

    #[test]
    fn libraries_log_errors_unless_the_filter_names_them() {
        let usual = ["h2 error", "leadgate info", "leadgate error"];
        for filter in ["info", "trace", "info,leadgate::attempt=warn"] {
            assert_eq!(logged(filter), usual, "{filter}");
        }
        assert_eq!(logged("h2=warn,info"), [&["h2 warn"], &usual[..]].concat());
        assert_eq!(
            logged("info,hyper=warn,h2=off"),
            ["hyper warn", "leadgate info", "leadgate error"]
        );
        assert_eq!(logged(""), ["h2 error", "leadgate error"]);
    }

    #[test]
    fn an_invalid_filter_is_named() {
        for filter in ["a=b=c", "info,leadgate=loud", "["] {
            let error = set_filter(Some(filter)).unwrap_err();
            assert!(
                matches!(error, FilterError::Invalid(ref reason) if !reason.is_empty()),
                "{filter}: {error:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_above_the_limit_are_counted_in_the_next_line() {
        let (limit, now) = (LineLimit::default(), Instant::now());
        for _ in 0..LineLimit::LINES_PER_SECOND {
            assert_eq!(limit.admit(now), Some(0));
        }
        let late = now + Duration::from_millis(999);
        for _ in 0..7 {
            assert_eq!(limit.admit(late), None);
        }
        let next = now + Duration::from_secs(1);
        assert_eq!(limit.admit(next), Some(7));
        assert_eq!(limit.admit(next), Some(0));
    }
}
