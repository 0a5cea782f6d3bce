//! Measures the operations of a store.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use super::StoreError;
use crate::telemetry::metrics::Metrics;

/// The metrics of a store. They are set after the store was opened. Clones share them.
#[derive(Clone, Default)]
pub(super) struct StoreMeter(Arc<OnceLock<Arc<Metrics>>>);

impl std::fmt::Debug for StoreMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreMeter")
    }
}

impl StoreMeter {
    /// Sets the metrics, unless they are set.
    pub(super) fn set(&self, metrics: Arc<Metrics>) {
        self.0.get_or_init(|| metrics);
    }

    /// Executes and measures an operation. An operation that is dropped before its end is not counted.
    pub(super) async fn measure<T>(
        &self,
        name: &'static str,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = operation.await;
        if let Some(metrics) = self.0.get() {
            let label = match &result {
                Ok(_) => "ok",
                Err(error) if error.is_not_owner() => "not_owner",
                Err(error) if error.is_read_error => "unreadable",
                Err(_) => "failed",
            };
            metrics.stored(name, label, start.elapsed());
        }
        result
    }
}
