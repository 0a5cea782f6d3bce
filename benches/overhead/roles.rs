//! The processes around the gateway: an upstream, an echo, and the clients.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use leadgate::grpc::pb;
use leadgate_simulator::{Limits, Options, Simulator};
use pb::lead_service_client::LeadServiceClient;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Status, metadata::MetadataValue};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use crate::process::cpu_time;

/// Maximum number of calls in progress on one connection.
const STREAMS: usize = 500;
/// The calls before this time are not counted.
const WARM_UP: Duration = Duration::from_millis(700);
/// The paths of the upstream.
const LEAD: &str = "/v2/LeadManagement.svc/Leads.GetById";
const LEADS: &str = "/v2/LeadManagement.svc/Leads/Retrieve/ByIds";
const METADATA: &str = "/v2/LeadManagement.svc/LeadsMetaData.Get";

/// The attributes of a lead in a bulk response.
const COLUMNS: &str = "ProspectID,ProspectAutoId,FirstName,LastName,EmailAddress,Phone,Company,mx_City";

/// What a client has measured.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Load {
    /// Successful calls in a second.
    pub(crate) rate: f64,
    /// Latencies in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// CPU time of the measured process for one call, in microseconds.
    pub(crate) cpu: f64,
}

/// The arguments of a role.
pub(crate) struct Arguments(HashMap<String, String>);

impl Arguments {
    pub(crate) fn new() -> Self {
        let mut arguments = std::env::args().skip(1);
        let mut all = HashMap::new();
        while let Some(name) = arguments.next() {
            if name.starts_with("--") && name != "--bench" && name != "--quick" {
                all.insert(name, arguments.next().unwrap_or_default());
            } else {
                all.insert(name, String::new());
            }
        }
        Self(all)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn value<T: FromStr>(&self, name: &str) -> T
    where
        T::Err: Display,
    {
        let text = self.text(name).unwrap_or_else(|| panic!("{name} is missing"));
        text.parse().unwrap_or_else(|error| panic!("{name} {text}: {error}"))
    }
}

pub(crate) async fn run(role: &str, arguments: &Arguments) {
    match role {
        "upstream" => upstream().await,
        "collector" => collector().await,
        "echo" => echo(arguments).await,
        "callers" => callers(arguments).await,
        "waiting" => waiting(arguments).await,
        "direct" => direct(arguments).await,
        _ => panic!("unknown role {role}"),
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Responses of the simulator, with the id of the lead as a placeholder.
struct Samples {
    metadata: Bytes,
    /// The text before, between and after the ids.
    lead: Vec<String>,
    leads: Vec<String>,
}

impl Samples {
    async fn new() -> Self {
        let options = Options {
            limits: Limits {
                calls: 0,
                ..Limits::default()
            },
            ..Options::default()
        };
        let keys = [
            ("x-LSQ-AccessKey", options.access_key.clone()),
            ("x-LSQ-SecretKey", options.secret_key.clone()),
        ];
        let simulator = Simulator::new(options);
        let id = simulator.insert_lead(&[
            ("FirstName", "Asha"),
            ("LastName", "Rao"),
            ("EmailAddress", "asha.rao@example.com"),
            ("Phone", "+91-9845000000"),
            ("Company", "Example"),
            ("mx_City", "Pune"),
        ]);
        let (listener, stop) = (listen().await, CancellationToken::new());
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        let served = simulator.serve(listener, stop.clone().cancelled_owned());
        serving.spawn(async move { served.await.unwrap() });
        let client = client();
        let text = |mut request: reqwest::RequestBuilder| {
            for (name, value) in &keys {
                request = request.header(*name, value);
            }
            async move {
                request
                    .send()
                    .await
                    .unwrap()
                    .error_for_status()
                    .unwrap()
                    .text()
                    .await
                    .unwrap()
            }
        };
        let metadata = text(client.get(format!("{base}{METADATA}"))).await;
        let lead = text(client.get(format!("{base}{LEAD}?id={id}"))).await;
        let body = format!(
            r#"{{"SearchParameters":{{"LeadIds":["{id}"]}},"Columns":{{"Include_CSV":"{COLUMNS}"}},"Paging":{{"PageIndex":1,"PageSize":1}}}}"#
        );
        let request = client
            .post(format!("{base}{LEADS}"))
            .header("content-type", "application/json");
        let leads = text(request.body(body)).await;
        stop.cancel();
        serving.shutdown().await;
        let parts = |text: &str| text.split(&id).map(str::to_owned).collect();
        // The list has one lead. The text of a lead is between the first [ of the list and its end.
        let (start, rest) = leads.split_once('[').unwrap();
        let (one, end) = rest.rsplit_once(']').unwrap();
        let mut list = vec![start.to_owned(), end.to_owned()];
        list.extend(one.split(&id).map(str::to_owned));
        Self {
            metadata: metadata.into(),
            lead: parts(&lead),
            leads: list,
        }
    }

    fn leads(&self, ids: &[String]) -> String {
        let [start, end, one @ ..] = &self.leads[..] else {
            unreachable!("the list has a start and an end")
        };
        let all: Vec<String> = ids.iter().map(|id| one.join(id)).collect();
        format!("{start}[{}]{end}", all.join(","))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByIds {
    search_parameters: SearchParameters,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SearchParameters {
    lead_ids: Vec<String>,
}

/// A minimal LeadSquared without limits.
async fn upstream() {
    let samples = Arc::new(Samples::new().await);
    serve_http(move |request| {
        let samples = samples.clone();
        async move { respond(&samples, request).await }
    })
    .await;
}

async fn respond(samples: &Samples, request: Request<Incoming>) -> Bytes {
    match request.uri().path() {
        LEAD => {
            let query = request.uri().query().unwrap();
            let id = query.split('&').find_map(|pair| pair.strip_prefix("id=")).unwrap();
            samples.lead.join(id).into()
        }
        LEADS => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: ByIds = serde_json::from_slice(&body).unwrap();
            samples.leads(&body.search_parameters.lead_ids).into()
        }
        METADATA => samples.metadata.clone(),
        _ => Bytes::from_static(b"[]"),
    }
}

/// A collector of traces that accepts everything.
async fn collector() {
    serve_http(|request| async move {
        let _ = request.into_body().collect().await;
        Bytes::new()
    })
    .await;
}

async fn serve_http<F, R>(respond: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Bytes> + Send,
{
    let listener = listen().await;
    println!("{}", listener.local_addr().unwrap());
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let respond = respond.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let response = respond(request);
                async move {
                    let response = Response::builder()
                        .header("content-type", "application/json")
                        .body(Full::new(response.await));
                    Ok::<_, Infallible>(response.unwrap())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // An error is a closed connection.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A server of GetLead without any work: it responds with the message of the gateway.
#[derive(Clone)]
struct Echo(Arc<pb::GetLeadResponse>);

impl NamedService for Echo {
    const NAME: &'static str = "leadgate.v1.LeadService";
}

impl UnaryService<pb::GetLeadRequest> for Echo {
    type Response = pb::GetLeadResponse;
    type Future = std::future::Ready<Result<tonic::Response<pb::GetLeadResponse>, Status>>;

    fn call(&mut self, _: tonic::Request<pb::GetLeadRequest>) -> Self::Future {
        std::future::ready(Ok(tonic::Response::new((*self.0).clone())))
    }
}

impl tower::Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<pb::GetLeadResponse, pb::GetLeadRequest>::default();
            Ok(Grpc::new(codec).unary(echo, request).await)
        })
    }
}

/// The echo gets its response from a gateway.
async fn echo(arguments: &Arguments) {
    let mut client = connect(&arguments.value::<String>("--gateway")).await;
    let response = client.get_lead(request(0)).await.unwrap().into_inner();
    let listener = listen().await;
    println!("{}", listener.local_addr().unwrap());
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(Echo(Arc::new(response)));
    server.serve_with_incoming(incoming).await.unwrap();
}

async fn connect(address: &str) -> LeadServiceClient<Channel> {
    let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
    let channel = endpoint
        .tcp_nodelay(true)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await;
    LeadServiceClient::new(channel.unwrap())
}

/// A request for a lead that no other call requests at the same time.
fn request(number: u64) -> pb::GetLeadRequest {
    pb::GetLeadRequest {
        key: Some(pb::get_lead_request::Key::LeadId(id(number))),
        ..Default::default()
    }
}

fn id(number: u64) -> String {
    Uuid::from_u64_pair(0x5c1e_4a00_0000_4000, 0x8000_0000_0000_0000 | number).to_string()
}

/// The latencies and the calls of one measurement.
struct Meter {
    process: u32,
    numbers: AtomicU64,
    start: Instant,
    end: Instant,
}

impl Meter {
    fn new(arguments: &Arguments, process: u32) -> Self {
        let start = Instant::now() + WARM_UP;
        let seconds: f64 = arguments.value("--seconds");
        Self {
            process,
            numbers: AtomicU64::new(0),
            start,
            end: start + Duration::from_secs_f64(seconds),
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes calls one after the other, and returns the latencies of those that ended within the time.
    async fn calls<F: Future>(&self, mut call: impl FnMut(u64) -> F) -> Vec<f64> {
        let mut latencies = Vec::new();
        loop {
            let began = Instant::now();
            call(self.number()).await;
            let now = Instant::now();
            if now >= self.end {
                return latencies;
            }
            if now >= self.start {
                latencies.push((now - began).as_secs_f64() * 1e6);
            }
        }
    }

    /// Prints the figures.
    async fn report(&self, mut callers: JoinSet<Vec<f64>>) {
        tokio::time::sleep_until(self.start.into()).await;
        let (began, before) = (Instant::now(), cpu_time(self.process));
        tokio::time::sleep_until(self.end.into()).await;
        let (elapsed, cpu) = (began.elapsed(), cpu_time(self.process) - before);
        let mut latencies = Vec::new();
        while let Some(more) = callers.join_next().await {
            latencies.extend(more.unwrap());
        }
        latencies.sort_by(f64::total_cmp);
        let count = latencies.len();
        assert!(count > 0, "no call has ended");
        let load = Load {
            rate: count as f64 / elapsed.as_secs_f64(),
            p50: latencies[count / 2],
            p99: latencies[count * 99 / 100],
            p999: latencies[count * 999 / 1000],
            cpu: cpu.as_secs_f64() * 1e6 / count as f64,
        };
        println!("{}", serde_json::to_string(&load).unwrap());
    }
}

/// Callers of GetLead that always have one call in progress.
async fn callers(arguments: &Arguments) {
    let (address, in_flight): (String, usize) = (arguments.value("--address"), arguments.value("--in-flight"));
    let tenants: usize = arguments.value("--tenants");
    let mut clients = Vec::new();
    for _ in 0..in_flight.div_ceil(STREAMS).max(in_flight.min(4)) {
        clients.push(connect(&address).await);
    }
    let meter = Arc::new(Meter::new(arguments, arguments.value("--process")));
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        let (client, meter) = (clients[caller % clients.len()].clone(), meter.clone());
        callers.spawn(async move {
            meter
                .calls(|number| {
                    let mut client = client.clone();
                    let mut request = tonic::Request::new(request(number));
                    if tenants > 1 {
                        let tenant = format!("t{}", number % tenants as u64);
                        let tenant = MetadataValue::try_from(tenant).unwrap();
                        request.metadata_mut().insert("x-leadgate-tenant", tenant);
                    }
                    async move { client.get_lead(request).await.unwrap() }
                })
                .await
        });
    }
    meter.report(callers).await;
}

/// Calls that wait until this process ends.
async fn waiting(arguments: &Arguments) {
    let (address, count): (String, usize) = (arguments.value("--address"), arguments.value("--count"));
    let mut calls = JoinSet::new();
    for first in (0..count).step_by(STREAMS) {
        let client = connect(&address).await;
        for number in first..count.min(first + STREAMS) {
            let mut client = client.clone();
            calls.spawn(async move {
                let mut request = tonic::Request::new(request(number as u64));
                request.set_timeout(Duration::from_secs(600));
                // The call ends with the process.
                let _ = client.get_lead(request).await;
            });
        }
    }
    println!("calls are in progress");
    calls.join_all().await;
}

/// Callers of the upstream without a gateway.
async fn direct(arguments: &Arguments) {
    let (address, in_flight): (String, usize) = (arguments.value("--address"), arguments.value("--in-flight"));
    let client = client();
    let meter = Arc::new(Meter::new(arguments, std::process::id()));
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let (client, meter, address) = (client.clone(), meter.clone(), address.clone());
        callers.spawn(async move {
            meter
                .calls(|number| {
                    let request = client
                        .get(format!("http://{address}{LEAD}?id={}", id(number)))
                        .header("x-LSQ-AccessKey", "bench")
                        .header("x-LSQ-SecretKey", "bench");
                    async move { request.send().await.unwrap().bytes().await.unwrap() }
                })
                .await
        });
    }
    meter.report(callers).await;
}
