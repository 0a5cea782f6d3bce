//! Reports the connections that are closed because of a limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::Metrics;

/// A burst of closed connections is logged once. A burst ends when no connection was closed for this time.
const BURST_PAUSE: Duration = Duration::from_secs(60);

/// Reports the connections that are closed because of a limit.
pub(super) struct Refusals {
    last: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
}

impl Refusals {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            last: Mutex::default(),
            metrics,
        })
    }

    pub(super) fn report(&self, setting: &'static str) {
        self.metrics.connection_refused(setting);
        let now = Instant::now();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if last.is_none_or(|last| now - last > BURST_PAUSE) {
            tracing::warn!(setting, "closing new connections: a limit is reached");
        }
    }
}
