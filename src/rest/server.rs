//! Accepts connections, and serves their requests with HTTP/1.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection_clock::{ConnectionClock, TimedStream, Timeouts};
use super::handler;
use super::shared::{RestParts, Shared};
use crate::grpc::accept;
use crate::telemetry::log::LineLimit;

/// Serves until `stop`. Then requests in progress finish.
pub async fn serve(listener: TcpListener, parts: RestParts, stop: CancellationToken) {
    let shared = Arc::new(Shared {
        parts,
        unknown_callers: LineLimit::default(),
        discards: TaskTracker::new(),
        draining: stop.clone(),
    });
    let connections = TaskTracker::new();
    accept(listener, &stop, &shared.parts.metrics, |stream, peer| {
        // Otherwise the connection is closed at once.
        if let Some(permit) = shared.parts.limits.connection(peer) {
            let shared = shared.clone();
            connections.spawn(async move {
                let _permit = permit;
                begin(stream, peer, shared).await;
            });
        }
    })
    .await;
    connections.close();
    connections.wait().await;
}

/// Makes the TLS handshake, if there is one, and serves the connection.
async fn begin(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>) {
    let Some(tls) = &shared.parts.tls else {
        return connection(stream, peer, shared).await;
    };
    let mut config = (*tls.config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let established_by = Instant::now() + shared.parts.settings.header_timeout;
    let handshakes = shared.parts.limits.handshakes.clone();
    let handshake = handshakes.accept(Arc::new(config), stream, peer, established_by);
    let stream = tokio::select! {
        stream = handshake => stream,
        // No request has begun.
        () = shared.draining.cancelled() => return,
    };
    if let Some(stream) = stream {
        connection(stream, peer, shared).await;
    }
}

/// Serves a connection until it ends.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: IpAddr, shared: Arc<Shared>) {
    let settings = &shared.parts.settings;
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
                let response = handler::respond(shared, peer, request).await;
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
            shared.parts.metrics.connection_closed("rest_timeout");
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
