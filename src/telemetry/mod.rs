//! Logs, metrics, traces, and what happened lately.

mod json_line;
pub mod log;
mod log_writer;
pub mod metrics;
pub mod recent;
pub mod trace;
