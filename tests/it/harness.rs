//! A simulator, a gateway and a client for tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use leadgate::app::App;
use leadgate::cluster::TenantLease;
use leadgate::config::Config;
use leadgate::domain::usage::QuotaUsage;
use leadgate::grpc::pb;
use leadgate::quota::{CallerQuotas, Quota};
use leadgate::tls::Tls;
use leadgate_simulator::{Fault, FaultKind, Options, Recorded, Simulator};
use pb::field_value::Value;
use pb::lead_service_client::LeadServiceClient;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::certificates::{Issued, TlsFiles};

/// The number of lines of [`tenant`].
const TENANT_LINES: usize = 4;

pub type Client = LeadServiceClient<Channel>;

/// A gateway with a simulated account behind it.
pub struct World {
    pub simulator: Simulator,
    pub client: Client,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// The REST listener.
    pub rest: Option<SocketAddr>,
    /// TLS of the gateway. `None`: it uses plaintext.
    pub tls: Option<Arc<Tls>>,
    /// The folder of the settings file, and the settings at the start.
    settings: (tempfile::TempDir, String),
    look_now: Arc<Notify>,
    stop: CancellationToken,
    running: JoinSet<Result<(), String>>,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Options::default(), "").await
    }

    /// A world with these options of the simulator, and additional settings of the gateway.
    pub async fn with(options: Options, settings: &str) -> Self {
        Self::start_with(options, settings, None).await
    }

    /// A world whose gateway uses TLS with these files. `client` is the certificate of `World::client`.
    pub async fn with_tls(options: Options, settings: &str, files: &TlsFiles, client: Option<&Issued>) -> Self {
        Self::start_with(options, settings, Some((files, client))).await
    }

    async fn start_with(options: Options, settings: &str, tls: Option<(&TlsFiles, Option<&Issued>)>) -> Self {
        let upstream = listen().await;
        let tenant = tenant("acme", upstream.local_addr().unwrap(), &options);
        let simulator = Simulator::new(options);
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let simulating = simulator.clone().serve(upstream, stop.clone().cancelled_owned());
        running.spawn(async move { simulating.await.map_err(|error| error.to_string()) });
        let mut world = Self::gateway_with(simulator, &format!("{tenant}\n{settings}"), tls).await;
        world.running.spawn(async move {
            while let Some(ended) = running.join_next().await {
                ended.unwrap()?;
            }
            Ok(())
        });
        // The simulator ends with the world, after the gateway.
        let gateway_stop = world.stop.clone();
        world.running.spawn(async move {
            gateway_stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            stop.cancel();
            Ok(())
        });
        world
    }

    /// A gateway with these settings. The caller serves the simulator.
    pub async fn gateway(simulator: Simulator, settings: &str) -> Self {
        Self::gateway_with(simulator, settings, None).await
    }

    async fn gateway_with(simulator: Simulator, settings: &str, tls: Option<(&TlsFiles, Option<&Issued>)>) -> Self {
        let (listener, admin) = (listen().await, listen().await);
        let (address, admin_address) = (listener.local_addr().unwrap(), admin.local_addr().unwrap());
        // In memory, unless the test has a store.
        let in_memory = ("LEADGATE__STORE__URL".to_owned(), "sqlite::memory:".to_owned());
        // Replicas of the simulator are never behind, and tests do not wait long for a request that hangs.
        let patience = [("VISIBLE_AFTER", "0s"), ("SETTLE_TIMEOUT", "1500ms")].map(|(name, value)| {
            let name = format!("LEADGATE__TENANT_DEFAULTS__UPSTREAM__{name}");
            (name, value.to_owned())
        });
        let patience = patience.into_iter().filter(|(name, _)| {
            let setting = name.rsplit("__").next().unwrap_or_default().to_lowercase();
            !settings.contains(&setting)
        });
        let variables = Some(in_memory).filter(|_| !settings.contains("[store]"));
        let tls_files = tls.into_iter().flat_map(|(files, _)| files.variables());
        let variables = variables.into_iter().chain(patience).chain(tls_files);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leadgate.toml");
        std::fs::write(&file, settings).unwrap();
        let config = Config::load(Some(&file), variables).unwrap();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let mut app = App::new(config).await.unwrap();
        let rest = app.open_rest().await.unwrap();
        let (app_tls, look_now) = (app.tls().cloned(), app.look_now());
        running.spawn(app.serve(listener, admin, stop.clone().cancelled_owned()));
        let endpoint = match tls {
            None => Endpoint::new(format!("http://{address}")).unwrap(),
            Some((files, client)) => files.endpoint(address, client),
        };
        let channel = endpoint.connect().await.unwrap();
        let client = LeadServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        Self {
            simulator,
            client,
            address,
            admin: admin_address,
            rest,
            tls: app_tls,
            settings: (folder, settings.to_owned()),
            look_now,
            stop,
            running,
        }
    }

    /// Replaces the settings that were added to those of the tenant.
    pub fn write_settings(&self, settings: &str) {
        let (folder, before) = &self.settings;
        let tenant = before.split_inclusive('\n').take(TENANT_LINES).collect::<String>();
        std::fs::write(folder.path().join("leadgate.toml"), format!("{tenant}{settings}")).unwrap();
        self.look_now.notify_one();
    }

    /// Starts the shutdown of the gateway.
    pub fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    /// Stops the gateway and waits for its end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    /// The requests to that endpoint that reached LeadSquared.
    pub fn calls(&self, endpoint: &str) -> Vec<Recorded> {
        let calls = self.simulator.calls().into_iter();
        calls.filter(|call| call.endpoint == endpoint).collect()
    }

    /// Changes the options of the simulator.
    pub fn set_options(&self, change: impl FnOnce(&mut Options)) {
        self.simulator.set_options(change);
    }

    /// Gives the next upstream call to an endpoint a fault.
    pub fn fail_next(&self, endpoint: &str, fault: FaultKind) {
        self.simulator.add_fault(Fault::new(endpoint, fault)).unwrap();
    }

    pub async fn create(&self, lead: pb::LeadFields) -> Result<String, Status> {
        let request = pb::CreateLeadRequest {
            lead: Some(lead),
            ..Default::default()
        };
        Ok(self.client.clone().create_lead(request).await?.into_inner().lead_id)
    }

    pub async fn get(&self, key: pb::get_lead_request::Key) -> Result<pb::Lead, Status> {
        let request = pb::GetLeadRequest {
            key: Some(key),
            ..Default::default()
        };
        Ok(self.client.clone().get_lead(request).await?.into_inner().lead.unwrap())
    }

    /// Updates a lead. Returns the number of affected rows.
    pub async fn update(&self, message: pb::UpdateLeadRequest) -> Result<i32, Status> {
        let response = self.client.clone().update_lead(message).await?;
        Ok(response.into_inner().affected_rows)
    }

    /// Sends all updates at the same time. Returns their results in order.
    pub async fn update_all(&self, messages: Vec<pb::UpdateLeadRequest>) -> Vec<Result<i32, Status>> {
        let calls = messages.into_iter().map(|message| {
            let mut client = self.client.clone();
            async move { Ok(client.update_lead(message).await?.into_inner().affected_rows) }
        });
        concurrently(calls).await
    }

    /// Creates all leads at the same time. Returns their ids in order.
    pub async fn create_all(&self, leads: Vec<pb::LeadFields>) -> Vec<Result<String, Status>> {
        let calls = leads.into_iter().map(|lead| {
            let (mut client, lead) = (self.client.clone(), Some(lead));
            let request = pb::CreateLeadRequest {
                lead,
                ..Default::default()
            };
            async move { Ok(client.create_lead(request).await?.into_inner().lead_id) }
        });
        concurrently(calls).await
    }

    /// Reads all leads at the same time. Returns them in order.
    pub async fn get_all(&self, ids: &[String]) -> Vec<Result<pb::Lead, Status>> {
        let calls = ids.iter().map(|id| {
            let (mut client, key) = (self.client.clone(), Some(by_id(id)));
            let request = pb::GetLeadRequest {
                key,
                ..Default::default()
            };
            async move { Ok(client.get_lead(request).await?.into_inner().lead.unwrap()) }
        });
        concurrently(calls).await
    }

    /// Inserts this number of leads at LeadSquared, with the email addresses `lead-0@example.com` and so on. Returns their ids.
    pub fn insert_leads(&self, count: usize) -> Vec<String> {
        let lead = |n| {
            let email = format!("lead-{n}@example.com");
            self.simulator
                .insert_lead(&[("EmailAddress", &email), ("FirstName", "Old")])
        };
        (0..count).map(lead).collect()
    }

    /// The value of an attribute of a lead at LeadSquared.
    pub fn value_of(&self, id: &str, name: &str) -> Option<String> {
        let leads = self.simulator.leads();
        let lead = leads.iter().find(|lead| lead["ProspectID"].as_deref() == Some(id));
        lead.and_then(|lead| lead.get(name).cloned().flatten())
    }

    /// A page of the admin port: its status and text.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.admin)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until a snapshot of the status page fulfils the condition. Returns it.
    pub async fn snapshot(&self, is_expected: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        snapshot(self.admin, is_expected).await
    }

    /// Waits until the metrics have that line.
    pub async fn until(&self, line: &str) {
        let seen = async {
            while !self.page("/metrics").await.1.lines().any(|seen| seen == line) {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, seen)
            .await
            .unwrap_or_else(|_| panic!("no {line} in the metrics"));
    }

    /// Fetches the metadata, so that its call is not among the counted ones.
    pub async fn warm(self) -> Self {
        let request = pb::DescribeLeadFieldsRequest::default();
        self.client.clone().describe_lead_fields(request).await.unwrap();
        self.simulator.forget_calls();
        self
    }
}

/// Waits until a snapshot of the status page, with the details of the tenant acme, fulfils the condition. Returns it.
pub async fn snapshot(admin: SocketAddr, is_expected: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let url = format!("http://{admin}/events?tenant=acme");
    let mut stream = reqwest::get(url).await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let (mut text, mut last) = (String::new(), String::new());
    let seen = async {
        loop {
            text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
            let Some((event, rest)) = text.split_once("\n\n") else {
                continue;
            };
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            let snapshot = serde_json::from_str(data).unwrap();
            if is_expected(&snapshot) {
                return snapshot;
            }
            last = data.to_owned();
            text = rest.to_owned();
        }
    };
    let limit = Duration::from_secs(10);
    match tokio::time::timeout(limit, seen).await {
        Ok(snapshot) => snapshot,
        Err(_) => panic!("the last snapshot was {last}"),
    }
}

/// Runs all futures at the same time. Returns their outputs in order.
pub async fn concurrently<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut running = JoinSet::new();
    for (at, future) in futures.into_iter().enumerate() {
        running.spawn(async move { (at, future.await) });
    }
    let mut outputs = running.join_all().await;
    outputs.sort_by_key(|(at, _)| *at);
    outputs.into_iter().map(|(_, output)| output).collect()
}

/// The quota of a tenant with these settings, without a gateway.
pub fn quota(
    tenant: &leadgate::config::TenantConfig,
    before: Option<&QuotaUsage>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Quota {
    let (sizes, breaker) = (tenant.batching.sizes(), tenant.upstream.breaker());
    Quota::new(
        "acme",
        &tenant.limits,
        &CallerQuotas::default(),
        sizes,
        breaker,
        before.into(),
        TenantLease::permanent(),
        tasks,
        stop,
    )
}

/// A connection to a gateway, for services other than LeadService.
pub async fn channel(address: SocketAddr) -> Channel {
    let endpoint = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// An address at which nothing listens until the process ends.
pub fn closed_address() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    // A port that is free again could be that of another test.
    std::mem::forget(socket);
    address
}

pub async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Returns the raw response to a request over HTTP/2. Unlike a gRPC client, it sets no deadline.
pub async fn ask(address: SocketAddr, request: http::request::Builder, body: Vec<u8>) -> Response {
    Raw::connect(address).await.ask(request, body).await
}

/// A response with all its parts.
#[derive(Debug)]
pub struct Response {
    pub status: http::StatusCode,
    pub headers: http::HeaderMap,
    pub body: String,
    /// The trailers after the body, or the headers if there is no body.
    pub trailers: http::HeaderMap,
}

/// A connection over HTTP/2.
#[derive(Clone)]
pub struct Raw {
    address: SocketAddr,
    send: hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (send, connection) = hyper::client::conn::http2::Builder::new(executor)
            .max_header_list_size(1 << 20)
            .handshake(io)
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { address, send }
    }

    pub async fn ask(&self, request: http::request::Builder, body: Vec<u8>) -> Response {
        let mut request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
        let path = request.uri().clone();
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().unwrap();
        let response = self.send.clone().send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_else(|| parts.headers.clone());
        Response {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            trailers,
        }
    }
}

/// A request to that method of gRPC.
pub fn grpc(path: &str) -> http::request::Builder {
    http::Request::post(path)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
}

/// A message in its gRPC frame.
pub fn framed(message: &impl prost::Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), &body].concat()
}

/// The settings of a tenant at that address.
pub fn tenant(name: &str, upstream: SocketAddr, options: &Options) -> String {
    format!(
        "[tenants.{name}]\nbase_url = \"http://{upstream}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n",
        options.access_key, options.secret_key
    )
}

/// A lead with an email of that name.
pub fn lead(name: &str) -> pb::LeadFields {
    pb::LeadFields {
        first_name: Some(name.to_owned()),
        email_address: Some(format!("{}@example.com", name.to_lowercase())),
        ..Default::default()
    }
}

pub fn by_id(id: &str) -> pb::get_lead_request::Key {
    pb::get_lead_request::Key::LeadId(id.to_owned())
}

/// A read that is one call, without regard to other reads.
pub fn lone_read(id: &str) -> pb::BatchGetLeadsRequest {
    pb::BatchGetLeadsRequest {
        lead_ids: vec![id.to_owned()],
        ..Default::default()
    }
}

pub fn text(text: &str) -> pb::FieldValue {
    value(Value::Text(text.to_owned()))
}

pub fn value(value: Value) -> pb::FieldValue {
    pb::FieldValue { value: Some(value) }
}

pub fn custom(pairs: &[(&str, pb::FieldValue)]) -> BTreeMap<String, pb::FieldValue> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

/// A request with a deadline.
pub fn within<M>(limit: Duration, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// An error with its details.
#[derive(Debug)]
pub struct Seen {
    pub code: Code,
    pub reason: String,
    pub metadata: std::collections::HashMap<String, String>,
    pub details: ErrorDetails,
    pub status: Arc<Status>,
}

pub fn seen(status: Status) -> Seen {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "leadgate");
    Seen {
        code: status.code(),
        reason: info.reason.clone(),
        metadata: info.metadata.clone(),
        details: details.clone(),
        status: Arc::new(status),
    }
}

impl Seen {
    pub fn is(&self, code: Code, reason: &str) {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{:?}", self.status);
    }

    /// The invalid fields.
    pub fn fields(&self) -> Vec<&str> {
        let bad = self.details.bad_request().map(|bad| &bad.field_violations);
        bad.into_iter()
            .flatten()
            .map(|violation| violation.field.as_str())
            .collect()
    }

    /// The pushback, after which gRPC may retry within the call; `None` also if gRPC must not retry.
    pub fn pushback(&self) -> Option<Duration> {
        let text = self.status.metadata().get("grpc-retry-pushback-ms")?.to_str().unwrap();
        Some(Duration::from_millis(text.parse().ok()?))
    }

    /// Whether the pushback says that gRPC must not retry within the call.
    pub fn is_not_for_this_call(&self) -> bool {
        let pushback = self.status.metadata().get("grpc-retry-pushback-ms");
        pushback.is_some_and(|pushback| pushback == "-1")
    }

    /// Whether the same request with the same request id is to be sent again.
    pub fn retry_same_request_id(&self) -> Option<&str> {
        self.metadata.get("retry_same_request_id").map(String::as_str)
    }

    /// The outcome is unknown, and the same request id settles it.
    pub fn is_settled_by_repeating(&self) {
        self.is(Code::Aborted, "OUTCOME_UNKNOWN");
        assert_eq!(self.retry_same_request_id(), Some("true"), "{:?}", self.status);
        assert!(self.retry_after().is_some(), "{:?}", self.status);
        assert!(
            self.status
                .message()
                .contains("repeat the request with the same request_id")
        );
        self.was_sent();
    }

    /// The outcome is unknown, and the same request id cannot settle it; the text says what does.
    pub fn is_settled_by_hand(&self, text: &str) {
        self.is(Code::Aborted, "OUTCOME_UNKNOWN");
        assert_eq!(self.retry_same_request_id(), Some("false"), "{:?}", self.status);
        assert_eq!(self.retry_after(), None, "{:?}", self.status);
        assert!(self.is_not_for_this_call(), "{:?}", self.status);
        assert!(self.status.message().contains(text), "{}", self.status.message());
        assert!(
            !self.status.message().contains("RetryInfo"),
            "{}",
            self.status.message()
        );
        self.was_sent();
    }

    fn was_sent(&self) {
        let attempts: u32 = self.metadata["attempts"].parse().unwrap();
        assert!(attempts >= 1, "{:?}", self.status);
    }

    /// When the caller may try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_info()?.retry_delay
    }
}
