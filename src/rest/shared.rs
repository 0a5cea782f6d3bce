//! What all connections share.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::settings::RestSettings;
use crate::audit::AuditLog;
use crate::grpc::{RestForwarding, SharedLimits};
use crate::identity::Authenticator;
use crate::telemetry::log::LineLimit;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Tracing;
use crate::tenant::Tenants;
use crate::tls::Tls;

/// What the listener needs.
pub struct RestParts {
    /// The accounts.
    pub tenants: Tenants,
    /// Identifies callers.
    pub authenticator: Arc<Authenticator>,
    /// The settings.
    pub settings: RestSettings,
    /// `None`: connections use plaintext.
    pub tls: Option<Arc<Tls>>,
    /// `None`: there is no audit.
    pub audit: Option<AuditLog>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The limits that all listeners share.
    pub limits: Arc<SharedLimits>,
    /// The traces of requests.
    pub tracing: Tracing,
    /// `None`: this process serves every account.
    pub forwarding: Option<RestForwarding>,
    /// The longest `upstream.timeout` of all accounts.
    pub upstream_timeout: Duration,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) parts: RestParts,
    /// The log lines of clients without a valid pair of keys.
    pub(super) unknown_callers: LineLimit,
    /// The tasks that read what clients still send after a response.
    pub(super) discards: TaskTracker,
    /// Cancelled when the process begins to shut down.
    pub(super) draining: CancellationToken,
}
