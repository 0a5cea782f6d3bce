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

/// What all connections share.
pub(super) struct Shared {
    pub(super) tenants: Tenants,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) settings: RestSettings,
    /// `None`: connections use plaintext.
    pub(super) tls: Option<Arc<Tls>>,
    /// `None`: there is no audit.
    pub(super) audit: Option<AuditLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Arc<SharedLimits>,
    pub(super) tracing: Tracing,
    /// The log lines of clients without a valid pair of keys.
    pub(super) unknown_callers: LineLimit,
    /// The tasks that read what clients still send after a response.
    pub(super) discards: TaskTracker,
    /// `None`: this process serves every account.
    pub(super) forwarding: Option<RestForwarding>,
    /// The longest `upstream.timeout` of all accounts.
    pub(super) upstream_timeout: Duration,
    /// Cancelled when the process begins to shut down.
    pub(super) draining: CancellationToken,
}
