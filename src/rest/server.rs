//! Accepts connections, and serves their requests with HTTP/1.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection_clock::{ConnectionClock, TimedStream, Timeouts};
use super::handler;
use super::settings::RestSettings;
use super::shared::Shared;
use crate::audit::AuditLog;
use crate::grpc::{RestForwarding, SharedLimits};
use crate::identity::Authenticator;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Tenants;
use crate::tls::Tls;

/// The pause after a failed accept. Without it, an accept without free file descriptors would fail in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// `None`: this process serves every account.
    pub forwarding: Option<RestForwarding>,
    /// The longest `upstream.timeout` of all accounts.
    pub upstream_timeout: Duration,
}

/// Serves until `stop`. Then requests in progress finish.
pub async fn serve(listener: TcpListener, parts: RestParts, stop: CancellationToken) {
    let RestParts {
        tenants,
        authenticator,
        settings,
        tls,
        audit,
        metrics,
        limits,
        forwarding,
        upstream_timeout,
    } = parts;
    let shared = Arc::new(Shared {
        tenants,
        authenticator,
        settings,
        tls,
        audit,
        metrics,
        limits,
        forwarding,
        upstream_timeout,
        draining: stop.clone(),
    });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Otherwise the connection is closed at once.
                if let Some(permit) = shared.limits.connection(peer.ip().to_canonical()) {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        let _permit = permit;
                        begin(stream, shared).await;
                    });
                }
            }
            Err(error) => {
                shared.metrics.accept_failed();
                tracing::error!(%error, "accepting a connection failed; retrying");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // From here on, new connections are refused.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Makes the TLS handshake, if there is one, and serves the connection.
async fn begin(stream: TcpStream, shared: Arc<Shared>) {
    // An error is harmless: the connection is only slower.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &shared.tls else {
        return connection(stream, shared).await;
    };
    let mut config = (*tls.config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream);
    match tokio::time::timeout(shared.settings.header_timeout, handshake).await {
        Ok(Ok(stream)) => connection(stream, shared).await,
        Ok(Err(error)) => {
            shared.metrics.handshake_failed("error");
            tracing::debug!(%error, "tls handshake failed");
        }
        Err(_) => shared.metrics.handshake_failed("timeout"),
    }
}

/// Serves a connection until it ends.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let settings = &shared.settings;
    let clock = ConnectionClock::new(Timeouts {
        headers: settings.header_timeout,
        keep_alive: settings.keep_alive,
        unread: settings.body_timeout,
    });
    let stream = TimedStream::new(stream, clock.clone());
    let mut builder = hyper::server::conn::http1::Builder::new();
    // The clock of the connection has the time of the headers, which this one would also apply to an idle connection.
    builder
        .header_read_timeout(None)
        .max_buf_size(settings.max_header_bytes);
    let stop = shared.draining.clone();
    let service = {
        let (clock, shared) = (clock.clone(), shared.clone());
        service_fn(move |request: hyper::Request<Incoming>| {
            let (progress, shared) = (clock.request(), shared.clone());
            async move {
                let response = handler::respond(shared, request).await;
                drop(progress);
                Ok::<_, Infallible>(response)
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = clock.expired() => {
            shared.metrics.connection_closed("rest_timeout");
            return;
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = clock.expired() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
