//! Logs, metrics, traces, and what happened lately.

pub mod log;
pub mod metrics;
pub mod recent;
pub mod trace;
