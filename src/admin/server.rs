//! Serves the pages over HTTP/1. Each connection has one request, so that connections and their time can be limited.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::telemetry::metrics::Metrics;

/// Maximum number of open connections. Further connections wait until one ends.
const MAX_CONNECTIONS: usize = 64;
/// Maximum time from the start of a connection to the end of its response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failed accept. Most often, the process has no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limit of the time of a connection, as an extension of its request. A handler with a long response can lift it.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionLimit(Arc<OnceLock<CancellationToken>>);

impl ConnectionLimit {
    /// Lets the connection last longer than [`CONNECTION_TIMEOUT`]. It is closed when the returned token is cancelled.
    pub(super) fn lift(&self) -> CancellationToken {
        self.0.get_or_init(CancellationToken::new).clone()
    }

    /// Waits until the connection is to be closed.
    async fn passed(&self) {
        tokio::time::sleep(CONNECTION_TIMEOUT).await;
        if let Some(ended) = self.0.get() {
            ended.cancelled().await;
        }
    }
}

/// Serves until `stop`. Then waits until the open connections have ended.
pub(super) async fn serve(listener: TcpListener, routes: Router, metrics: Arc<Metrics>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    tokio::select! {
        () = accept(&listener, routes, &metrics, &connections) => {}
        () = stop.cancelled() => {}
    }
    // From here on, new connections are refused.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Accepts connections.
async fn accept(listener: &TcpListener, routes: Router, metrics: &Metrics, connections: &TaskTracker) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(connection(stream, routes.clone(), permit))),
            Err(_) => {
                metrics.accept_failed();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one request.
async fn connection(stream: TcpStream, routes: Router, permit: OwnedSemaphorePermit) {
    let limit = ConnectionLimit::default();
    let of_request = limit.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(of_request.clone());
        routes.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        // CONNECTION_TIMEOUT includes the headers.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error, such as a closed connection, concerns the client only.
        _ = connection => {}
        () = limit.passed() => {}
    }
    drop(permit);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::routing::get;
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;

    use super::*;

    /// Connects before the server accepts connections, and sends a request.
    fn connect(listener: &TcpListener, request: &str) -> TcpStream {
        let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_requests_end_and_further_connections_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let incomplete = "GET /live HTTP/1.1\r\nhost: x\r\n";
        let hostile: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect(&listener, incomplete)).collect();
        let mut good = connect(&listener, &format!("{incomplete}\r\n"));
        let start = Instant::now();
        let stop = CancellationToken::new();
        let routes = Router::new().route("/live", get(|| async { "alive" }));
        let serving = tokio_util::task::TaskTracker::new().spawn(serve(listener, routes, Arc::default(), stop.clone()));
        for mut stream in hostile {
            // The server may close the connection with a reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            assert_eq!(start.elapsed(), CONNECTION_TIMEOUT);
        }
        // This connection waited, and is closed after its response although it could have a second request.
        let mut response = String::new();
        good.read_to_string(&mut response).await.unwrap();
        assert!(
            response.starts_with("HTTP/1.1 200 ") && response.ends_with("alive"),
            "{response}"
        );
        assert_eq!(start.elapsed(), CONNECTION_TIMEOUT);
        stop.cancel();
        serving.await.unwrap();
    }
}
