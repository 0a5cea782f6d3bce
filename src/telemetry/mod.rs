//! Logs and metrics.

mod json_line;
pub mod log;
pub mod metrics;
