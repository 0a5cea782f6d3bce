//! Accepts connections, and makes their TLS handshakes within the limits.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::keyed_limit::KeyedLimit;
use super::refusals::Refusals;
use crate::error::shortened;
use crate::telemetry::log::LineLimit;
use crate::telemetry::metrics::Metrics;

/// The pause after a failed accept. Without it, an accept without free file descriptors would fail in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// One address may have this part of `server.max_handshakes`, but at least one.
const HANDSHAKE_SHARES: u32 = 8;
/// Maximum number of bytes of the error of a handshake in the log.
const MAX_ERROR_BYTES: usize = 200;

/// Calls `serve` with each connection and the address of its client until `stop`. From then on, new connections are refused.
pub async fn accept(
    listener: TcpListener,
    stop: &CancellationToken,
    metrics: &Metrics,
    mut serve: impl FnMut(TcpStream, IpAddr),
) {
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                // Without nodelay, small messages would wait for acknowledgements. An error is harmless: the connection is only
                // slower.
                let _ = stream.set_nodelay(true);
                serve(stream, peer.ip().to_canonical());
            }
            Err(error) => {
                metrics.accept_failed();
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::error!(%error, "accepting a connection failed; retrying");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The TLS handshakes in progress.
pub struct Handshakes {
    all: Semaphore,
    addresses: Arc<KeyedLimit<IpAddr>>,
    refusals: Arc<Refusals>,
    failed: LineLimit,
    metrics: Arc<Metrics>,
}

impl Handshakes {
    pub(super) fn new(max: u32, refusals: Arc<Refusals>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            all: Semaphore::new(max as usize),
            addresses: KeyedLimit::new((max / HANDSHAKE_SHARES).max(1)),
            refusals,
            failed: LineLimit::default(),
            metrics,
        })
    }

    /// Makes the handshake of a connection. `None`: there is none until `by`, or it failed, or a limit is reached.
    pub async fn accept(
        &self,
        config: Arc<ServerConfig>,
        stream: TcpStream,
        address: IpAddr,
        by: Instant,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = async {
            // A client that sends nothing needs no permit. Probes of load balancers close the connection without a byte.
            if stream.peek(&mut [0]).await? == 0 {
                return Ok(None);
            }
            let Some(_of_address) = self.addresses.acquire(address) else {
                self.refusals.report("server.max_handshakes");
                return Ok(None);
            };
            let _of_all = self.all.acquire().await.map_err(io::Error::other)?;
            TlsAcceptor::from(config).accept(stream).await.map(Some)
        };
        match tokio::time::timeout_at(by, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.failed("error", address, &error.to_string());
                None
            }
            Err(_) => {
                self.failed("timeout", address, "the time for the handshake has passed");
                None
            }
        }
    }

    fn failed(&self, reason: &'static str, peer: IpAddr, error: &str) {
        self.metrics.handshake_failed(reason);
        if let Some(suppressed) = self.failed.admit(Instant::now()) {
            let error = shortened(error, MAX_ERROR_BYTES);
            tracing::info!(%peer, reason, %error, suppressed, "tls handshake failed");
        }
    }
}
