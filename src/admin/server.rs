//! Serves the pages over HTTP/1. Each connection has one request, so that connections and their time can be limited. A stream has limits
//! of its own: see [`Connection::outlast`].

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
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

/// Maximum number of bytes that wait in this process for a client that does not read. It also limits the headers of a request.
const MAX_BUFFERED: usize = 32 * 1024;
/// The send buffer of the kernel for a stream of small events, in bytes. Otherwise it grows to megabytes, so that a client that does not
/// read is noticed late.
const EVENT_SEND_BUFFER: u32 = 16 * 1024;

/// The limits of a connection, as an extension of its request. Clones share them.
#[derive(Clone)]
pub(super) struct Connection {
    limits: Arc<ConnectionLimits>,
}

struct ConnectionLimits {
    peer: IpAddr,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// Another handle of the socket, until the connection ends.
    socket: Mutex<Option<TcpSocket>>,
    /// Set for a stream.
    stream_end: OnceLock<CancellationToken>,
}

impl Connection {
    /// A connection of a client at this address, with this permit.
    pub(super) fn new(permit: OwnedSemaphorePermit, peer: IpAddr, socket: Option<TcpSocket>) -> Self {
        Self {
            limits: Arc::new(ConnectionLimits {
                peer,
                permit: Mutex::new(Some(permit)),
                socket: Mutex::new(socket),
                stream_end: OnceLock::new(),
            }),
        }
    }

    /// The address of the client.
    pub(super) fn peer(&self) -> IpAddr {
        self.limits.peer
    }

    /// Limits the bytes that the kernel keeps for a client that does not read.
    pub(super) fn limit_send_buffer(&self) {
        if let Some(socket) = &*lock(&self.limits.socket) {
            // Without it, a client that does not read is noticed later.
            let _ = socket.set_send_buffer_size(EVENT_SEND_BUFFER);
        }
    }

    /// Makes the connection a stream: it does not count as one of [`MAX_CONNECTIONS`], and may last longer than
    /// [`CONNECTION_TIMEOUT`], until `end`. The caller limits the number of streams.
    pub(super) fn outlast(&self, end: CancellationToken) {
        self.limits.stream_end.get_or_init(|| end);
        self.release();
    }

    fn release(&self) {
        drop(lock(&self.limits.permit).take());
    }

    /// The connection has ended. The kernel closes it with the last handle.
    fn ended(&self) {
        self.release();
        drop(lock(&self.limits.socket).take());
    }

    /// Waits until the connection has to end.
    async fn limit(&self) {
        tokio::time::sleep(CONNECTION_TIMEOUT).await;
        if let Some(end) = self.limits.stream_end.get() {
            end.cancelled().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            Ok((stream, peer)) => {
                // IPv4 clients of a socket for IPv6 have their IPv4 address.
                let limits = Connection::new(permit, peer.ip().to_canonical(), handle(&stream).ok());
                drop(connections.spawn(connection(stream, routes.clone(), limits)));
            }
            Err(_) => {
                metrics.accept_failed();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Another handle of a socket.
fn handle(stream: &TcpStream) -> std::io::Result<TcpSocket> {
    let socket = stream.as_fd().try_clone_to_owned()?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Serves one request.
async fn connection(stream: TcpStream, routes: Router, limits: Connection) {
    let extension = limits.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(extension.clone());
        routes.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        // CONNECTION_TIMEOUT includes the headers.
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFERED)
        .serve_connection(TokioIo::new(stream), service);
    // An error, such as a closed connection, concerns the client only.
    tokio::select! {
        _ = connection => {}
        () = limits.limit() => {}
    }
    limits.ended();
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;

    use axum::Extension;
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

    /// The number of bytes of small events that a client takes which does not read.
    async fn unread_bytes(is_limited: bool) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        client
            .write_all(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let stream_end = end.clone();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let receiver = Arc::new(Mutex::new(Some(receiver)));
        let stream = get(move |Extension(connection): Extension<Connection>| async move {
            connection.outlast(stream_end);
            if is_limited {
                connection.limit_send_buffer();
            }
            let receiver = lock(&receiver).take().unwrap();
            Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver))
        });
        let routes = Router::new().route("/stream", stream);
        let serving = TaskTracker::new().spawn(serve(listener, routes, Arc::default(), stop.clone()));
        let event = Bytes::from(vec![b'x'; 4096]);
        let mut sent = 0;
        let limit = Duration::from_secs(20);
        while tokio::time::timeout(limit, sender.send(Ok::<_, Infallible>(event.clone())))
            .await
            .is_ok()
        {
            sent += event.len();
        }
        end.cancel();
        stop.cancel();
        serving.await.unwrap();
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_noticed_after_few_events() {
        // One event per second.
        let (limited, usual) = (unread_bytes(true).await, unread_bytes(false).await);
        assert!(limited < 128 * 1024 && limited < usual / 4, "{limited} {usual}");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_last_until_their_end_and_take_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut streams: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| connect(&listener, &request("/stream")))
            .collect();
        let mut good = connect(&listener, &request("/live"));
        let start = Instant::now();
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let stream_end = end.clone();
        let stream = get(move |Extension(connection): Extension<Connection>| async move {
            connection.outlast(stream_end);
            Body::from_stream(tokio_stream::pending::<Result<Bytes, Infallible>>())
        });
        let routes = Router::new()
            .route("/live", get(|| async { "alive" }))
            .route("/stream", stream);
        let serving = TaskTracker::new().spawn(serve(listener, routes, Arc::default(), stop.clone()));
        let mut response = String::new();
        good.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("alive"), "{response}");
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::time::sleep(CONNECTION_TIMEOUT * 10).await;
        for stream in &mut streams {
            let mut headers = [0; 12];
            stream.read_exact(&mut headers).await.unwrap();
            assert_eq!(&headers, b"HTTP/1.1 200");
        }
        end.cancel();
        for mut stream in streams {
            let _ = stream.read_to_end(&mut Vec::new()).await;
            assert_eq!(start.elapsed(), CONNECTION_TIMEOUT * 10);
        }
        stop.cancel();
        serving.await.unwrap();
    }
}
