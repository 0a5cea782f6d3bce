//! Logs: one line per RPC and one per attempt, for people or for machines. Lines hold neither keys nor personal data.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// How to log (`[log]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// For whom.
    pub format: Format,
    /// What: a level, or directives such as `info,leadgate::attempt=warn`.
    pub filter: String,
}

/// For whom logs are written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Coloured text.
    Pretty,
}

impl LogSettings {
    /// What is wrong with them.
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

/// Starts logging to standard error, once per process; a second start has no effect.
pub fn start(settings: &LogSettings) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start is one of a test, which is content with the first.
    let _ = match settings.format {
        Format::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        Format::Pretty => log.compact().try_init(),
    };
}
