//! Logs: one line per RPC, and one per attempt of a call. No line contains keys or personal data.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

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
        match EnvFilter::try_new(&self.filter) {
            Ok(_) => vec![],
            Err(_) => vec![(
                "filter",
                "must be a level (\"info\") or directives (\"info,leadgate::attempt=warn\")".to_owned(),
            )],
        }
    }
}

/// Starts logging to standard error. A second start in the same process has no effect.
pub fn start(settings: &LogSettings) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Only tests start it twice.
    let _ = match settings.format {
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Pretty => log.compact().try_init(),
    };
}
