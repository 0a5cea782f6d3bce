//! Logs, metrics, and what happened lately.

pub mod log;
pub mod metrics;
pub mod recent;
