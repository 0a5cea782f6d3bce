//! Logs: one line per RPC, and one per attempt of a call. No line contains keys or personal data.

use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload;

use super::json_line::JsonLine;
use super::log_writer::LogWriter;

/// Maximum time for the last lines of a process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The directives of libraries whose warnings clients can cause. Directives of `log.filter` for the same targets replace them.
/// The lines of steering requests are always written, because they show each change of the filter.
const LIBRARIES: &str = "h2=error,hyper=error,rustls=error,tower=error,leadgate::admin::steering=info";

/// The levels of a filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

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
            Err(error) => vec![(
                "filter",
                format!("must be directives, such as \"info\" or \"info,leadgate::attempt=warn\": {error}"),
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

/// The filter of the log that was set last. `None`: that of the settings.
static CHANGED: Mutex<Option<String>> = Mutex::new(None);

fn changed() -> MutexGuard<'static, Option<String>> {
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The filters of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// The filter in use.
    pub in_use: String,
    /// That of the settings (`log.filter`).
    pub configured: String,
}

/// Returns the filters of the log.
pub fn filters() -> Result<Filters, FilterError> {
    let log = LOG.get().ok_or(FilterError::NoLog)?;
    let configured = log.setting.clone();
    Ok(Filters {
        in_use: changed().clone().unwrap_or_else(|| configured.clone()),
        configured,
    })
}

/// A valid filter that is not in use yet.
pub struct NewFilter {
    filter: EnvFilter,
    text: Option<String>,
}

impl NewFilter {
    /// Parses a filter. `None`: that of the settings.
    pub fn new(text: Option<&str>) -> Result<Self, FilterError> {
        let parsed = |text| env_filter(text).map_err(FilterError::Invalid);
        let filter = match text {
            Some(text) => parsed(text)?,
            None => parsed(&LOG.get().ok_or(FilterError::NoLog)?.setting)?,
        };
        let text = text.map(str::to_owned);
        Ok(Self { filter, text })
    }

    /// Changes the filter of the log until the end of the process.
    pub fn apply(self) -> Result<(), FilterError> {
        let log = LOG.get().ok_or(FilterError::NoLog)?;
        let mut changed = changed();
        (log.replace)(self.filter).map_err(|_| FilterError::NoLog)?;
        *changed = self.text;
        Ok(())
    }
}

/// Returns the filter of these directives, after those of [`LIBRARIES`]. Fails with the reason.
fn env_filter(directives: &str) -> Result<EnvFilter, String> {
    let given: Vec<&str> = directives
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .collect();
    for (position, directive) in given.iter().enumerate() {
        // Any other word would be a target, and all lines of other targets would be dropped.
        let level = directive.rsplit_once('=').map_or(*directive, |(_, level)| level);
        if !LEVELS.iter().any(|name| name.eq_ignore_ascii_case(level)) {
            // Without its text: it may be a key in the wrong place.
            let (number, levels) = (position + 1, LEVELS.join(", "));
            return Err(format!("directive {number} must be a level ({levels}) or TARGET=LEVEL"));
        }
    }
    // Without any directive, only errors are logged.
    let directives = if given.is_empty() {
        "error".to_owned()
    } else {
        given.join(",")
    };
    EnvFilter::try_new(format!("{LIBRARIES},{directives}")).map_err(|error| error.to_string())
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
            tracing::info!(target: "leadgate::admin::steering", "steering info");
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
        let usual = ["h2 error", "leadgate info", "leadgate error", "steering info"];
        for filter in ["info", "trace", "info,leadgate::attempt=warn"] {
            assert_eq!(logged(filter), usual, "{filter}");
        }
        assert_eq!(logged("h2=warn,info"), [&["h2 warn"], &usual[..]].concat());
        assert_eq!(
            logged("info,hyper=warn,h2=off"),
            ["hyper warn", "leadgate info", "leadgate error", "steering info"]
        );
        assert_eq!(logged(""), ["h2 error", "leadgate error", "steering info"]);
        // The request that switches the log off is in the log.
        for filter in ["off", "leadgate=off", "h2=off,leadgate::rpc=off"] {
            assert_eq!(logged(filter).last().unwrap(), "steering info", "{filter}");
        }
        assert!(!logged("info,leadgate::admin::steering=off").contains(&"steering info".to_owned()));
    }

    #[test]
    fn a_word_that_is_no_level_is_an_error_that_names_the_levels() {
        for filter in [
            "warning",
            "blabla",
            "info,leadgate",
            "leadgate=",
            "leadgate=verbose",
            "[span]",
            "3",
        ] {
            let settings = LogSettings {
                format: LogFormat::Json,
                filter: filter.to_owned(),
            };
            let [(key, error)] = &settings.validate()[..] else {
                panic!("{filter} is accepted");
            };
            assert!(
                *key == "filter" && error.contains("(off, error, warn, info, debug, trace)"),
                "{error}"
            );
        }
        for filter in [
            "",
            "WARN",
            "off",
            "info,leadgate::attempt=Debug",
            "info,",
            "info, h2=warn",
        ] {
            assert!(env_filter(filter).is_ok(), "{filter}");
        }
        let error = env_filter(&format!("{}\u{1b}", "x".repeat(500))).unwrap_err();
        assert!(error.len() < 200 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn an_invalid_filter_is_named() {
        for filter in ["a=b=c", "info,leadgate=loud", "["] {
            let error = NewFilter::new(Some(filter)).err().unwrap();
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
