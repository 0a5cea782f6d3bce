//! Traces: the spans that a collector of OpenTelemetry gets, and a gateway whose collector does not respond.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate_simulator::{FaultKind, Options};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use pb::get_lead_request::Key;
use pb::lead_service_client::LeadServiceClient;
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::harness::{World, by_id, lead, listen, within};
use crate::process::{Served, serve_in};
use crate::share::ShareFixture;

const LIMIT: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0b1902b7";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
pub struct Collector {
    endpoint: String,
    protocol: &'static str,
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    exports: Arc<AtomicUsize>,
    /// Whether exports fail with HTTP status 403.
    is_refusing: Arc<AtomicBool>,
    /// Whether one span of each export is rejected, with HTTP status 200.
    is_rejecting: Arc<AtomicBool>,
}

impl Collector {
    pub async fn http() -> Self {
        let listener = listen().await;
        let collector = Self::at(&listener, "http/protobuf");
        let state = collector.clone();
        let export = move |body: bytes::Bytes| async move {
            state.exports.fetch_add(1, Ordering::Relaxed);
            if state.is_refusing.load(Ordering::Relaxed) {
                return (StatusCode::FORBIDDEN, vec![]);
            }
            state.keep(ExportTraceServiceRequest::decode(body).unwrap());
            let mut response = ExportTraceServiceResponse::default();
            if state.is_rejecting.load(Ordering::Relaxed) {
                response.partial_success = Some(ExportTracePartialSuccess {
                    rejected_spans: 1,
                    error_message: "canary".to_owned(),
                });
            }
            (StatusCode::OK, response.encode_to_vec())
        };
        let router = Router::new().route("/v1/traces", post(export));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        collector
    }

    async fn grpc() -> Self {
        let listener = listen().await;
        let collector = Self::at(&listener, "grpc");
        let service =
            TraceServiceServer::new(collector.clone()).accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        collector
    }

    fn at(listener: &TcpListener, protocol: &'static str) -> Self {
        Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            protocol,
            ..Self::default()
        }
    }

    fn keep(&self, request: ExportTraceServiceRequest) {
        self.received.lock().unwrap().push(request);
    }

    /// The settings of a gateway that exports to the collector.
    pub fn settings(&self) -> String {
        let Self { endpoint, protocol, .. } = self;
        format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\notlp_protocol = \"{protocol}\"\n")
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The attributes of the process.
    fn resource(&self) -> BTreeMap<String, String> {
        let received = self.received.lock().unwrap();
        texts(&received[0].resource_spans[0].resource.as_ref().unwrap().attributes)
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.keep(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Attributes as texts.
fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = match attribute.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            Value::BoolValue(flag) => flag.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(text).collect()
}

/// The attribute of a span. Empty: it has none of that name.
pub fn attribute(span: &Span, name: &str) -> String {
    texts(&span.attributes).remove(name).unwrap_or_default()
}

/// The spans of that name, in the order of their starts.
pub fn named(spans: &[Span], name: &str) -> Vec<Span> {
    let mut found: Vec<Span> = spans.iter().filter(|span| span.name == name).cloned().collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

/// The only span of that name.
pub fn only(spans: &[Span], name: &str) -> Span {
    let mut found = named(spans, name);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(found.len(), 1, "{name} in {names:?}");
    found.remove(0)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_error(span: &Span, description: &str) -> bool {
    let status = span.status.clone().unwrap_or_default();
    status.code() == SpanStatus::Error && status.message == description
}

/// A request with a sampled parent.
fn traced<M>(message: M) -> Request<M> {
    let mut request = within(Duration::from_secs(10), message);
    let parent = format!("00-{TRACE}-{PARENT}-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    request
        .metadata_mut()
        .insert("tracestate", "vendor=value".parse().unwrap());
    request
}

fn get(key: Key) -> pb::GetLeadRequest {
    pb::GetLeadRequest {
        key: Some(key),
        ..Default::default()
    }
}

const GET: &str = "leadgate.v1.LeadService/GetLead";
const BY_EMAIL: &str = "GET /v2/LeadManagement.svc/Leads.GetByEmailaddress";

#[tokio::test]
async fn a_read_has_spans_of_its_rpc_its_wait_and_its_attempt() {
    for collector in [Collector::http().await, Collector::grpc().await] {
        let world = World::with(Options::default(), &collector.settings())
            .await
            .warm()
            .await;
        let id = world.create(lead("Personal")).await.unwrap();
        world.simulator.forget_calls();
        let key = Key::EmailAddress("personal@example.com".to_owned());
        world.client.clone().get_lead(traced(get(key))).await.unwrap();
        let calls = world.simulator.calls();
        world.stop().await;

        let all = collector.spans();
        let spans: Vec<Span> = all
            .iter()
            .filter(|span| hex(&span.trace_id) == TRACE)
            .cloned()
            .collect();
        let (rpc, wait, attempt) = (only(&spans, GET), only(&spans, "quota wait"), only(&spans, BY_EMAIL));
        assert_eq!(spans.len(), 3, "{spans:?}");
        assert_eq!(
            (rpc.kind(), hex(&rpc.parent_span_id)),
            (SpanKind::Server, PARENT.to_owned())
        );
        assert_eq!(rpc.trace_state, "vendor=value");
        for (name, value) in [
            ("rpc.system.name", "grpc"),
            ("rpc.method", GET),
            ("rpc.response.status_code", "OK"),
            ("leadgate.tenant", "acme"),
            ("leadgate.caller", "anonymous"),
            ("leadgate.reason", ""),
        ] {
            assert_eq!(attribute(&rpc, name), value, "{name}");
        }
        assert_eq!(rpc.status.clone().unwrap_or_default().code(), SpanStatus::Unset);
        assert_eq!((wait.kind(), attempt.kind()), (SpanKind::Internal, SpanKind::Client));
        assert_eq!(
            (&wait.parent_span_id, &attempt.parent_span_id),
            (&rpc.span_id, &rpc.span_id)
        );
        assert_eq!(attribute(&wait, "leadgate.quota.class"), "sheddable-plus");
        assert_eq!(attribute(&wait, "leadgate.quota.role"), "alone");
        assert_eq!(attribute(&wait, "leadgate.quota.limit"), "25");
        assert_eq!(attribute(&wait, "leadgate.quota.effective_limit"), "25");
        for (name, value) in [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("leadgate.endpoint", "Leads.GetByEmailaddress"),
        ] {
            assert_eq!(attribute(&attempt, name), value, "{name}");
        }
        assert!(attribute(&attempt, "url.full").ends_with("/v2/LeadManagement.svc/Leads.GetByEmailaddress"));
        assert!(rpc.start_time_unix_nano <= attempt.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= rpc.end_time_unix_nano);
        let resource = collector.resource();
        assert_eq!(resource["service.name"], "leadgate");
        assert!(!resource["service.instance.id"].is_empty() && !resource["service.version"].is_empty());

        // LeadSquared gets no trace context, and the collector neither keys nor personal data.
        assert!(!calls.is_empty());
        let headers = calls.iter().flat_map(|call| &call.headers);
        assert!(
            headers.clone().all(|(name, _)| !name.starts_with("trace")),
            "{headers:?}"
        );
        let exported = format!("{all:?}");
        for secret in ["personal", "Personal", &id, "simulator-secret", "u$rSimulator"] {
            assert!(!exported.contains(secret), "{secret} in {exported}");
        }
    }
}

#[tokio::test]
async fn an_error_is_the_status_of_its_spans() {
    let collector = Collector::http().await;
    let settings = format!("{}[tenant_defaults.upstream]\nmax_attempts = 1\n", collector.settings());
    let world = World::with(Options::default(), &settings).await.warm().await;
    let key = Key::EmailAddress("personal@example.com".to_owned());
    world.fail_next("Leads.GetByEmailaddress", FaultKind::Empty500);
    world.client.clone().get_lead(traced(get(key))).await.unwrap_err();
    world.stop().await;
    let spans = collector.spans();
    let (rpc, attempt) = (only(&spans, GET), only(&spans, BY_EMAIL));
    let reason = attribute(&rpc, "leadgate.reason");
    assert_eq!(reason, "UPSTREAM_UNAVAILABLE");
    assert!(is_error(&rpc, &reason), "{rpc:?}");
    assert_eq!(attribute(&rpc, "rpc.response.status_code"), "UNAVAILABLE");
    assert_eq!(attribute(&rpc, "error.type"), "UNAVAILABLE");
    assert_eq!(attribute(&attempt, "http.response.status_code"), "500");
    assert!(is_error(&attempt, &attribute(&attempt, "error.type")), "{attempt:?}");
}

#[tokio::test]
async fn an_error_of_the_request_is_no_error_of_the_server() {
    let collector = Collector::http().await;
    let world = World::with(Options::default(), &collector.settings())
        .await
        .warm()
        .await;
    let missing = get(Key::EmailAddress("nobody@example.com".to_owned()));
    world.client.clone().get_lead(traced(missing)).await.unwrap_err();
    world.stop().await;
    let rpc = only(&collector.spans(), GET);
    assert_eq!(attribute(&rpc, "rpc.response.status_code"), "NOT_FOUND");
    assert_eq!(attribute(&rpc, "leadgate.reason"), "LEAD_NOT_FOUND");
    assert_eq!(attribute(&rpc, "error.type"), "");
    assert_eq!(rpc.status.clone().unwrap_or_default().code(), SpanStatus::Unset);
}

#[tokio::test]
async fn a_client_without_a_credential_does_not_decide_what_is_recorded() {
    let collector = Collector::http().await;
    let key = leadgate::identity::api_key::generate("checkout");
    let rules = "tenants = [\"*\"]\nallow = [\"*\"]";
    let callers = crate::auth::callers(&[("checkout", &key, rules)]);
    let settings = format!("{}sampling = 0.0\n{callers}", collector.settings());
    let world = World::with(Options::default(), &settings).await;
    let mut client = world.client.clone();
    let request = traced(get(by_id("x")));
    client.get_lead(request).await.unwrap_err();
    let mut known = traced(get(by_id("x")));
    let credential = crate::auth::bearer(&key).parse().unwrap();
    known.metadata_mut().insert("authorization", credential);
    client.get_lead(known).await.unwrap_err();
    world.stop().await;
    let rpc = only(&collector.spans(), GET);
    assert_eq!(attribute(&rpc, "leadgate.caller"), "checkout");
}

#[tokio::test]
async fn unknown_methods_and_health_checks_do_not_name_spans() {
    let collector = Collector::http().await;
    let world = World::with(Options::default(), &collector.settings()).await;
    for path in ["/leadgate.v1.LeadService/personal", "/grpc.health.v1.Health/Check"] {
        let request = crate::harness::grpc(path);
        crate::harness::ask(world.address, request, vec![0; 5]).await;
    }
    world.stop().await;
    let spans = collector.spans();
    let unknown = only(&spans, "unknown");
    assert_eq!(attribute(&unknown, "rpc.method"), "_OTHER");
    assert!(is_error(&unknown, "UNIMPLEMENTED"), "{unknown:?}");
    assert_eq!(spans.len(), 1, "{spans:?}");
}

#[tokio::test]
async fn a_batch_and_its_members_are_linked() {
    let collector = Collector::http().await;
    let settings = format!(
        "{}[tenant_defaults.limits]\ncalls = 2\nbulk = 1\nwindow = \"300ms\"\n",
        collector.settings()
    );
    let world = World::with(Options::default(), &settings).await.warm().await;
    let ids = world.insert_leads(12);
    assert!(world.get_all(&ids).await.iter().all(Result::is_ok));
    world.stop().await;

    let spans = collector.spans();
    let span = |id: &[u8]| spans.iter().find(|span| span.span_id == id).unwrap();
    let batches = named(&spans, "batch");
    let mut traces = BTreeSet::new();
    let mut linked = 0;
    for batch in &batches {
        assert!(batch.parent_span_id.is_empty(), "{batch:?}");
        assert_eq!(
            attribute(batch, "leadgate.batch.members"),
            batch.links.len().to_string()
        );
        assert_eq!(attribute(batch, "leadgate.batch.lane"), "reads");
        for link in &batch.links {
            let member = span(&link.span_id);
            assert_eq!((&member.name[..], &member.trace_id), ("batch member", &link.trace_id));
            let [back] = &member.links[..] else {
                panic!("{member:?}")
            };
            assert_eq!((&back.trace_id, &back.span_id), (&batch.trace_id, &batch.span_id));
            assert_eq!(span(&member.parent_span_id).name, GET);
            traces.insert(link.trace_id.clone());
            linked += 1;
        }
        let attempt = spans.iter().find(|span| span.parent_span_id == batch.span_id).unwrap();
        assert_eq!(attribute(attempt, "leadgate.endpoint"), "Leads/Retrieve/ByIds");
    }
    assert!(linked >= 9 && traces.len() == linked, "{batches:?}");
    let waits = named(&spans, "quota wait");
    let of = |name: &str| -> BTreeSet<String> { waits.iter().map(|wait| attribute(wait, name)).collect() };
    assert!(of("leadgate.quota.wait_reason").contains("window_full"), "{waits:?}");
    let roles = of("leadgate.quota.role");
    assert!(
        roles.contains("batch_leader") && roles.contains("batch_member"),
        "{roles:?}"
    );
    let positions: BTreeSet<usize> = of("leadgate.quota.position")
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    assert!(positions.contains(&1) && positions.contains(&9), "{positions:?}");
    assert!(ids.iter().all(|id| !format!("{spans:?}").contains(id.as_str())));
}

#[tokio::test]
async fn the_steps_of_a_share_are_in_the_trace_of_its_rpc() {
    let collector = Collector::http().await;
    let shares = ShareFixture::with(|_| {}, &collector.settings()).await;
    let request = pb::ShareLeadRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..shares.request()
    };
    shares.client.clone().share_lead(traced(request)).await.unwrap();
    let lead_id = shares.lead.clone();
    shares.world.stop().await;
    let spans = collector.spans();
    let rpc = only(&spans, "leadgate.v1.ShareService/ShareLead");
    let inside: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == rpc.span_id).collect();
    let endpoints: BTreeSet<String> = inside
        .iter()
        .filter(|span| span.kind() == SpanKind::Client)
        .map(|span| attribute(span, "leadgate.endpoint"))
        .collect();
    assert!(endpoints.contains("EntityAccess.Share"), "{endpoints:?}");
    let operations: BTreeSet<String> = inside.iter().map(|span| attribute(span, "db.operation.name")).collect();
    for operation in [
        "read_request",
        "begin_request",
        "add_share",
        "save_share",
        "finish_request",
    ] {
        assert!(operations.contains(operation), "{operation} in {operations:?}");
    }
    let added = only(&spans, "add_share");
    assert_eq!(
        (added.kind(), attribute(&added, "db.system.name")),
        (SpanKind::Client, "sqlite".to_owned())
    );
    assert!(!format!("{spans:?}").contains(&lead_id));
}

#[test]
fn an_invalid_variable_is_reported_with_all_other_errors() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("OTEL_TRACES_SAMPLER", "often"),
        ("LEADGATE__TELEMETRY__SAMPLING", "2"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let errors = Config::read("test", "[telemetry]\nservice_name = \"\"\n", variables.into_iter())
        .unwrap_err()
        .to_string();
    for text in [
        "the environment: OTEL_TRACES_SAMPLER: must be always_on",
        "LEADGATE__TELEMETRY__SAMPLING: telemetry.sampling: must be 0 to 1",
        "test: telemetry.service_name: must not be empty",
        "test: tenants: at least one",
    ] {
        assert!(errors.contains(text), "{text} in {errors}");
    }
}

/// A listener that accepts connections and never responds.
async fn silent() -> SocketAddr {
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    address
}

/// The sum of the dropped spans in the metrics of a process.
async fn dropped(served: &Served) -> Option<u64> {
    let page = reqwest::get(format!("http://{}/metrics", served.admin()))
        .await
        .unwrap();
    let page = page.text().await.unwrap();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("leadgate_telemetry_dropped_total{signal=\"traces\"} "));
    line.map(|count| count.parse().unwrap())
}

async fn read_missing(served: &Served, count: usize) {
    let mut client = LeadServiceClient::connect(format!("http://{}", served.address))
        .await
        .unwrap();
    for _ in 0..count {
        let request = pb::BatchGetLeadsRequest {
            lead_ids: vec![uuid::Uuid::new_v4().to_string()],
            ..Default::default()
        };
        client.batch_get_leads(request).await.unwrap();
    }
}

fn unlimited() -> Options {
    let mut options = Options::default();
    options.limits.calls = 0;
    options
}

const QUICK: &str = "[tenants.acme.limits]\ncalls = 10000\n";

/// The lines of a log that contain a text.
fn lines<'a>(log: &'a str, text: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_does_not_respond_costs_neither_rpcs_nor_the_shutdown() {
    let absent = crate::harness::closed_address();
    let silent = silent().await;
    let without = serve_in(unlimited(), "", QUICK, &[]).await;
    read_missing(&without, 1).await;
    assert_eq!(dropped(&without).await, None);
    let began = Instant::now();
    let (success, log) = without.terminate().await;
    let usual = began.elapsed();
    assert!(success, "{log}");

    for (address, protocol, workers) in [
        (absent, "http/protobuf", "1"),
        (absent, "grpc", "2"),
        (silent, "http/protobuf", "1"),
        (silent, "grpc", "1"),
    ] {
        let what = format!("{address} {protocol}, silent: {silent}");
        let endpoint = format!("http://{address}");
        let environment = [
            ("TOKIO_WORKER_THREADS", workers),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "60000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "20"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ];
        let served = serve_in(unlimited(), "", QUICK, &environment).await;
        // Far more spans than the queue and a batch have room for.
        read_missing(&served, 40).await;
        let counted = async {
            while dropped(&served).await == Some(0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, counted).await.expect(&what);
        let began = Instant::now();
        let (success, log) = served.terminate().await;
        let took = began.elapsed();
        assert!(success, "{what}: {log}");
        assert!(
            took <= usual + Duration::from_secs(2),
            "{what}: {took:?}, usually {usual:?}"
        );
        assert!(lines(&log, "exporting spans failed").len() <= 1, "{what}: {log}");
        assert_eq!(lines(&log, "spans dropped: the process ends").len(), 1, "{what}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_says_that_exports_fail_and_one_that_they_work_again() {
    let collector = Collector::http().await;
    collector.is_refusing.store(true, Ordering::Relaxed);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_SERVICE_NAME", "crm"),
    ];
    let served = serve_in(unlimited(), "", QUICK, &environment).await;
    let until = async |is_so: &dyn Fn() -> bool| {
        let waiting = async {
            while !is_so() {
                read_missing(&served, 1).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.unwrap();
    };
    until(&|| collector.exports.load(Ordering::Relaxed) >= 3).await;
    assert!(dropped(&served).await > Some(0));
    collector.is_refusing.store(false, Ordering::Relaxed);
    until(&|| !collector.spans().is_empty()).await;
    let (success, log) = served.terminate().await;
    assert!(success, "{log}");
    assert_eq!(lines(&log, "exporting spans failed").len(), 1, "{log}");
    assert_eq!(lines(&log, "exporting spans works again").len(), 1, "{log}");
    assert!(!log.contains("canary"));
    assert_eq!(collector.resource()["service.name"], "crm");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_the_collector_rejects_are_counted_and_logged_once() {
    let collector = Collector::http().await;
    collector.is_rejecting.store(true, Ordering::Relaxed);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let served = serve_in(unlimited(), "", QUICK, &environment).await;
    let exports = async |count: usize| {
        let first = collector.exports.load(Ordering::Relaxed);
        let exported = async {
            while collector.exports.load(Ordering::Relaxed) < first + count {
                read_missing(&served, 1).await;
            }
        };
        tokio::time::timeout(LIMIT, exported).await.unwrap();
    };
    exports(3).await;
    assert!(dropped(&served).await >= Some(2));
    collector.is_rejecting.store(false, Ordering::Relaxed);
    exports(3).await;
    let (success, log) = served.terminate().await;
    assert!(success, "{log}");
    assert_eq!(lines(&log, "collector rejects some of the spans").len(), 1, "{log}");
    assert_eq!(lines(&log, "collector accepts all spans again").len(), 1, "{log}");
    assert_eq!(lines(&log, "exporting spans failed").len(), 0, "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_a_failed_export_has_its_cause() {
    let absent = crate::harness::closed_address();
    for (endpoint, cause) in [
        (format!("http://{absent}"), "Connection refused"),
        ("http://collector.invalid:4318".to_owned(), "dns error"),
    ] {
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ];
        let served = serve_in(unlimited(), "", QUICK, &environment).await;
        read_missing(&served, 1).await;
        let counted = async {
            while dropped(&served).await == Some(0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, counted).await.unwrap();
        let (_, log) = served.terminate().await;
        let failed = lines(&log, "exporting spans failed");
        assert!(failed.len() == 1 && failed[0].contains(cause), "{cause}: {log}");
        assert!(!log.contains("canary"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_an_rpc_has_its_trace_id_also_without_spans() {
    let collector = Collector::http().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ];
    for (environment, is_on) in [(&environment[..], true), (&[], false)] {
        let served = serve_in(unlimited(), "", QUICK, environment).await;
        let mut client = LeadServiceClient::connect(format!("http://{}", served.address))
            .await
            .unwrap();
        let missing = get(by_id("3f1b8a52-7c1d-4c55-9d0e-0a4c6c1b2d3e"));
        client.get_lead(missing.clone()).await.unwrap_err();
        client.get_lead(traced(missing)).await.unwrap_err();
        let (success, log) = served.terminate().await;
        assert!(success, "{log}");
        let ids = |target: &str| -> Vec<Option<String>> {
            let lines = lines(&log, target).into_iter();
            let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let of_read = lines.filter(|line| {
                line["method"] == "/leadgate.v1.LeadService/GetLead" || line["endpoint"] == "Leads.GetById"
            });
            of_read
                .map(|line| line["trace_id"].as_str().map(str::to_owned))
                .collect()
        };
        let (rpcs, attempts) = (ids("leadgate::rpc"), ids("leadgate::attempt"));
        assert_eq!(rpcs, attempts, "{log}");
        assert_eq!(rpcs[1].as_deref(), Some(TRACE), "{log}");
        assert_eq!(rpcs[0].as_ref().map(String::len), is_on.then_some(32), "{log}");
    }
    assert_eq!(collector.exports.load(Ordering::Relaxed), 0);
}
