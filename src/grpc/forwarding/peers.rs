//! The connections to other replicas: one HTTP/2 connection for each address, which is made when it is needed.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use uuid::Uuid;

use super::headers;
use super::message::{HELLO, OWNER_CHANGED, OwnerChanged, framed};
use crate::identity::api_key::KeyHash;
use crate::tls;

/// Maximum time for a new connection, TLS and the check of the secret included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed connection, further ones fail at once for this time.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// PINGs find a replica that is frozen or cut off before its lease ends.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// The flow-control window of one stream. A response that its client does not read keeps at most this much.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The flow-control window of a connection. As for the server: h2 ends a connection whose unread small frames exceed half of it.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// Maximum size of the headers of a response.
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// Maximum time of a message to another replica.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// How replicas reach each other.
pub struct PeerSettings {
    /// `cluster.secret`.
    pub secret: SecretString,
    /// `None`: connections use plaintext.
    pub tls: Option<PeerTls>,
}

/// How the certificates of other replicas are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    /// The CAs of their certificates, PEM. It is read for each new connection.
    pub ca_file: PathBuf,
    /// The name in their certificates. `None`: the host of the address.
    pub server_name: Option<String>,
}

/// What responds at the address of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloResponse {
    /// This process.
    ThisReplica,
    /// Another replica with the same secret.
    OtherReplica,
    /// A replica with another secret.
    Refused,
    /// Nothing, with the reason.
    None(String),
}

/// The connections to other replicas.
pub struct Peers {
    /// Identifies this process for [`Peers::hello`].
    process: HeaderValue,
    authorization: HeaderValue,
    secret: KeyHash,
    tls: Option<PeerTls>,
    peers: Mutex<HashMap<Arc<str>, Arc<Peer>>>,
    next_connection: AtomicU64,
}

#[derive(Default)]
struct Peer {
    state: tokio::sync::Mutex<PeerState>,
}

#[derive(Default)]
struct PeerState {
    connection: Option<PeerConnection>,
    /// When connecting failed last, and why.
    failed: Option<(Instant, ConnectError)>,
}

/// Why there is no connection to a replica. No RPC was sent.
#[derive(Clone, Debug)]
pub(super) enum ConnectError {
    /// The replica has another secret.
    SecretRefused,
    /// With the reason.
    Failed(String),
}

impl ConnectError {
    fn new(reason: &dyn fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretRefused => f.write_str("the replica has another cluster.secret"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// One connection to a replica. Clones share it.
#[derive(Clone)]
pub(super) struct PeerConnection {
    /// The number of the connection, counted from the start of the process.
    pub(super) number: u64,
    sender: SendRequest<Body>,
}

/// An RPC that got no response from another replica.
pub(super) struct NoResponse {
    /// Whether the request may have been executed.
    pub(super) sent: bool,
    pub(super) error: hyper::Error,
}

impl PeerConnection {
    /// Sends a request. Requests are sent in the order of the calls of this function, whenever the futures are polled. Dropping the
    /// future resets the stream.
    pub(super) fn send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, NoResponse>> + use<> {
        let sending = self.sender.try_send_request(request);
        async move {
            sending.await.map_err(|mut error| NoResponse {
                sent: error.take_message().is_none(),
                error: error.into_error(),
            })
        }
    }
}

impl Peers {
    /// No connection is made yet. Fails if the secret cannot be sent.
    pub fn new(settings: PeerSettings) -> Result<Arc<Self>, String> {
        let text = format!("Bearer {}", settings.secret.expose_secret());
        let secret = KeyHash::of(&text);
        let mut authorization = HeaderValue::try_from(text)
            .map_err(|_| "cluster.secret: must have printable characters only".to_owned())?;
        authorization.set_sensitive(true);
        let process = HeaderValue::try_from(Uuid::new_v4().to_string()).map_err(|error| error.to_string())?;
        Ok(Arc::new(Self {
            process,
            authorization,
            secret,
            tls: settings.tls,
            peers: Mutex::default(),
            next_connection: AtomicU64::new(1),
        }))
    }

    /// Whether a request of another replica has the secret.
    pub(super) fn knows(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let text = values.next().and_then(|value| value.to_str().ok());
        values.next().is_none() && text.is_some_and(|text| KeyHash::of(text).is(&self.secret))
    }

    /// The value of `authorization` of requests to other replicas.
    pub(super) fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }

    /// Returns the open connection to a replica, or makes one.
    pub(super) async fn connection(&self, address: &Arc<str>) -> Result<PeerConnection, ConnectError> {
        let peer = self.peer(address);
        // Only one call connects. The others wait for it.
        let mut state = peer.state.lock().await;
        if let Some(connection) = &state.connection
            && !connection.sender.is_closed()
        {
            return Ok(connection.clone());
        }
        if let Some((failed_at, error)) = &state.failed
            && failed_at.elapsed() < CONNECT_PAUSE
        {
            return Err(error.clone());
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(ConnectError::new(&"timeout")));
        state.failed = connected.as_ref().err().map(|error| (Instant::now(), error.clone()));
        state.connection = connected.as_ref().ok().cloned();
        connected
    }

    fn peer(&self, address: &Arc<str>) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(address) {
            return peer.clone();
        }
        // The addresses of replicas that have ended do not come back.
        peers.retain(|_, peer| {
            let is_used = Arc::strong_count(peer) > 1;
            is_used || peer.state.try_lock().is_ok_and(|state| state.is_open())
        });
        peers.entry(address.clone()).or_default().clone()
    }

    /// Connects, and shows the secret. RPCs are sent only to a replica that has accepted it: the other side may close a connection
    /// before that, and an RPC that was sent on it would count as one that may have been executed.
    async fn connect(&self, address: &str) -> Result<PeerConnection, ConnectError> {
        let connected = self.open(address).await;
        let mut connection = connected.map_err(|error| ConnectError::new(&error))?;
        let response = self.send_message(&mut connection, address, HELLO, Bytes::new()).await;
        let response = response.map_err(ConnectError::Failed)?;
        match headers::is_refused(response.headers()) {
            true => Err(ConnectError::SecretRefused),
            false => Ok(connection),
        }
    }

    async fn open(&self, address: &str) -> io::Result<PeerConnection> {
        let stream = TcpStream::connect(address).await?;
        // Without nodelay, small messages would wait for acknowledgements.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.handshake(stream).await;
        };
        let config = tls::client_config(&tls.ca_file).map_err(|error| {
            tracing::error!(
                error,
                "connecting to another replica failed: cluster.ca_file cannot be used"
            );
            io::Error::other(error)
        })?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let name = name.try_into().map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        self.handshake(stream).await
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<PeerConnection> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // It ends when all senders are dropped, or when the connection breaks. A shutdown does not wait for it.
        TaskTracker::new().spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another replica ended with an error");
            }
        });
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
        Ok(PeerConnection { number, sender })
    }

    /// Tells the replicas at these addresses which replica owns a tenant now. `None`: none does. A replica that does not respond
    /// reads it from the store instead.
    pub async fn announce(
        self: &Arc<Self>,
        addresses: impl IntoIterator<Item = Arc<str>>,
        tenant: &str,
        epoch: i64,
        owner: Option<&str>,
    ) {
        let message = OwnerChanged {
            tenant: tenant.to_owned(),
            epoch,
            address: owner.unwrap_or_default().to_owned(),
        };
        let body = framed(&message);
        let mut tasks = JoinSet::new();
        for address in addresses {
            let (peers, body) = (self.clone(), body.clone());
            tasks.spawn(async move {
                let announced = tokio::time::timeout(ANNOUNCE_TIMEOUT, peers.send_control(&address, body)).await;
                let announced = announced.unwrap_or_else(|_| Err("timeout".to_owned()));
                if let Err(reason) = announced {
                    tracing::debug!(%address, reason, "announcing an owner failed");
                }
            });
        }
        tasks.join_all().await;
    }

    /// Asks which replica responds at an address.
    pub async fn hello(&self, address: &Arc<str>) -> HelloResponse {
        let response = async {
            let mut connection = self.connection(address).await?;
            let response = self.send_message(&mut connection, address, HELLO, Bytes::new()).await;
            response.map_err(ConnectError::Failed)
        };
        match tokio::time::timeout(ANNOUNCE_TIMEOUT, response).await {
            Ok(Ok(response)) => match response.headers().get(headers::PROCESS) == Some(&self.process) {
                true => HelloResponse::ThisReplica,
                false => HelloResponse::OtherReplica,
            },
            Ok(Err(ConnectError::SecretRefused)) => HelloResponse::Refused,
            Ok(Err(ConnectError::Failed(reason))) => HelloResponse::None(reason),
            Err(_) => HelloResponse::None(format!("no response within {ANNOUNCE_TIMEOUT:?}")),
        }
    }

    /// The value that identifies this process.
    pub(super) fn process(&self) -> HeaderValue {
        self.process.clone()
    }

    /// Sends a message to a replica.
    async fn send_message(
        &self,
        connection: &mut PeerConnection,
        address: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let request = Request::post(format!("http://{address}{path}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::AUTHORIZATION, self.authorization())
            .body(Body::new(Full::from(body)))
            .map_err(|error| error.to_string())?;
        connection.send(request).await.map_err(|none| none.error.to_string())
    }

    async fn send_control(&self, address: &Arc<str>, body: Bytes) -> Result<(), String> {
        let mut connection = self.connection(address).await.map_err(|error| error.to_string())?;
        let response = self.send_message(&mut connection, address, OWNER_CHANGED, body).await?;
        match tonic::Status::from_header_map(response.headers()) {
            Some(status) if status.code() != tonic::Code::Ok => Err(status.message().to_owned()),
            _ => Ok(()),
        }
    }
}

impl PeerState {
    fn is_open(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| !connection.sender.is_closed())
    }
}
