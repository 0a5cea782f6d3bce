//! Logs, metrics, traces, and what happened lately.

mod json_line;
pub mod log;
pub mod metrics;
pub mod recent;
pub mod trace;
