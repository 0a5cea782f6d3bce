//! gRPC-Web: browsers and other clients of HTTP/1.1 on the port of gRPC, and which pages may use it.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use leadgate::grpc::pb;
use leadgate_simulator::Options;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::harness::{self, Seen, World, by_id, framed, lead, seen};

pub const ORIGIN: &str = "https://intranet.example.com";
pub const CREATE: &str = "/leadgate.v1.LeadService/CreateLead";
pub const GET: &str = "/leadgate.v1.LeadService/GetLead";
pub const EXPORT: &str = "/leadgate.v1.LeadService/ExportLeads";
const WATCH_QUOTA: &str = "/leadgate.v1.QuotaService/WatchQuota";
const GET_QUOTA: &str = "/leadgate.v1.QuotaService/GetQuota";
pub const BINARY: &str = "application/grpc-web+proto";
pub const TEXT: &str = "application/grpc-web-text+proto";
const LIMIT: Duration = Duration::from_secs(20);

async fn world(server: &str) -> World {
    let settings = format!("[server]\ncors_origins = [\"{ORIGIN}\"]\n{server}");
    World::with(Options::default(), &settings).await
}

pub fn create(name: &str) -> Vec<u8> {
    framed(&pb::CreateLeadRequest {
        lead: Some(lead(name)),
        ..Default::default()
    })
}

pub fn get(id: &str) -> Vec<u8> {
    framed(&pb::GetLeadRequest {
        key: Some(by_id(id)),
        ..Default::default()
    })
}

/// The bytes of a request in the form of that content type.
pub fn body(kind: &str, bytes: Vec<u8>) -> Vec<u8> {
    match kind.contains("text") {
        true => STANDARD.encode(bytes).into_bytes(),
        false => bytes,
    }
}

/// An export of all leads.
pub fn export() -> Vec<u8> {
    framed(&pb::ExportLeadsRequest {
        start_time: Some(prost_types::Timestamp {
            seconds: 1_000_000_000,
            nanos: 0,
        }),
        ..Default::default()
    })
}

/// A request of gRPC-Web.
pub fn web(path: &str, kind: &str) -> http::request::Builder {
    http::Request::post(path)
        .header("host", "gateway")
        .header("content-type", kind)
        .header("x-grpc-web", "1")
}

pub type Sender = hyper::client::conn::http1::SendRequest<Full<bytes::Bytes>>;

/// A connection over HTTP/1.1.
pub async fn connect(address: SocketAddr) -> Sender {
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    send
}

/// A response over HTTP/1.1.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The messages and the trailers.
    pub fn parts(&self) -> (Vec<Vec<u8>>, HeaderMap) {
        assert_eq!(self.status, 200, "{self:?}");
        let bytes = match self.header("content-type") {
            TEXT => decoded(&self.body),
            kind => {
                assert_eq!(kind, BINARY);
                self.body.clone()
            }
        };
        parts(&bytes)
    }

    pub fn message<M: Message + Default>(&self) -> M {
        let (messages, trailers) = self.parts();
        assert_eq!(trailers["grpc-status"], "0");
        let [message] = &messages[..] else {
            panic!("{messages:?}");
        };
        M::decode(&message[..]).unwrap()
    }

    /// The error of a response without messages.
    pub fn error(&self) -> Seen {
        seen(Status::from_header_map(&self.headers).unwrap_or_else(|| panic!("no status in {self:?}")))
    }
}

/// Decodes base64 in padded pieces.
fn decoded(text: &[u8]) -> Vec<u8> {
    let groups = text.chunks(4);
    groups.flat_map(|group| STANDARD.decode(group).unwrap()).collect()
}

/// The messages and the trailers in the bytes of a response.
fn parts(mut bytes: &[u8]) -> (Vec<Vec<u8>>, HeaderMap) {
    let (mut messages, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let (payload, rest) = rest.split_at(length.try_into().unwrap());
        bytes = rest;
        match head[0] {
            0 => messages.push(payload.to_vec()),
            flags => {
                assert_eq!((flags, rest), (0x80, &[][..]), "the trailers are the end");
                for line in std::str::from_utf8(payload).unwrap().split_terminator("\r\n") {
                    let (name, value) = line.split_once(": ").unwrap();
                    let name = HeaderName::try_from(name).unwrap();
                    trailers.append(name, HeaderValue::from_str(value).unwrap());
                }
            }
        }
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    (messages, trailers)
}

pub async fn ask(send: &mut Sender, request: http::request::Builder, body: Vec<u8>) -> Reply {
    let request = request.body(Full::from(body)).unwrap();
    send.ready().await.unwrap();
    let (parts, body) = send.send_request(request).await.unwrap().into_parts();
    Reply {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

fn preflight(path: &str, origin: &str) -> http::request::Builder {
    http::Request::options(path)
        .header("host", "gateway")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web")
}

#[tokio::test]
async fn rpcs_work_in_both_forms_on_one_connection_of_http_1() {
    let world = world("").await;
    let mut send = connect(world.address).await;
    for (number, kind) in ["application/grpc-web", BINARY, "application/grpc-web-text", TEXT]
        .into_iter()
        .enumerate()
    {
        let request = web(CREATE, kind).header("origin", ORIGIN);
        let created = ask(&mut send, request, body(kind, create(&format!("lead-{number}")))).await;
        assert_eq!(created.header("access-control-allow-origin"), ORIGIN);
        assert_eq!(created.header("vary"), "origin");
        let expected = if kind.contains("text") { TEXT } else { BINARY };
        assert_eq!(created.header("content-type"), expected);
        let id = created.message::<pb::CreateLeadResponse>().lead_id;
        assert!(created.parts().1.contains_key("x-request-id"));
        // A client that is no browser sends no origin.
        let found = ask(&mut send, web(GET, kind), body(kind, get(&id))).await;
        assert!(!found.headers.contains_key("access-control-allow-origin"));
        let found = found.message::<pb::GetLeadResponse>().lead.unwrap();
        assert_eq!(found.lead_id, id);
    }
    // The client decides about the form of the response.
    let accepting = web(GET_QUOTA, BINARY).header("accept", TEXT);
    let quota = ask(&mut send, accepting, framed(&pb::GetQuotaRequest::default())).await;
    assert_eq!(quota.header("content-type"), TEXT);
    quota.message::<pb::GetQuotaResponse>();
    // They are counted like those of gRPC.
    for (method, count) in [(CREATE, 4), (GET, 4), (GET_QUOTA, 1)] {
        world
            .until(&format!(
                "leadgate_rpcs_total{{method=\"{method}\",code=\"OK\"}} {count}"
            ))
            .await;
    }
}

#[tokio::test]
async fn an_error_and_its_details_are_readable_for_a_page() {
    let world = world("").await;
    let mut send = connect(world.address).await;
    let request = web(GET, BINARY).header("origin", ORIGIN);
    let missing = ask(&mut send, request, get("3f1b8a52-7c1d-4c55-9d0e-0a4c6c1b2d3e")).await;
    assert_eq!(missing.status, 200);
    missing.error().is(Code::NotFound, "LEAD_NOT_FOUND");
    let exposed: Vec<_> = missing.header("access-control-expose-headers").split(", ").collect();
    for name in missing.headers.keys().map(HeaderName::as_str) {
        let is_of_grpc = name.starts_with("grpc-") || name.starts_with("x-");
        assert!(!is_of_grpc || exposed.contains(&name), "{name} in {exposed:?}");
    }
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"] {
        assert!(missing.headers.contains_key(name), "{name}");
    }
    assert!(exposed.contains(&"grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn streams_of_responses_arrive_message_by_message() {
    let world = world("").await;
    world.insert_leads(3);
    for kind in [BINARY, TEXT] {
        let mut send = connect(world.address).await;
        let request = body(kind, export());
        let (messages, trailers) = ask(&mut send, web(EXPORT, kind), request).await.parts();
        assert_eq!(trailers["grpc-status"], "0");
        let leads = messages
            .iter()
            .flat_map(|message| pb::ExportLeadsResponse::decode(&message[..]).unwrap().leads);
        assert_eq!(leads.count(), 3);
        // The first message of a stream without an end arrives, and the stream ends with the connection.
        let request = web(WATCH_QUOTA, BINARY).body(Full::from(framed(&pb::WatchQuotaRequest::default())));
        send.ready().await.unwrap();
        let mut response = send.send_request(request.unwrap()).await.unwrap();
        let first = response.frame().await.unwrap().unwrap().into_data().unwrap();
        pb::WatchQuotaResponse::decode(&first[5..]).unwrap();
    }
    let line = format!("leadgate_rpcs_total{{method=\"{WATCH_QUOTA}\",code=\"CANCELLED\"}} 2");
    world.until(&line).await;
}

#[tokio::test]
async fn grpc_web_works_over_http_2_beside_grpc() {
    let world = world("").await;
    let quota = framed(&pb::GetQuotaRequest::default());
    let request = web(GET_QUOTA, TEXT).header("origin", ORIGIN);
    let response = harness::ask(world.address, request, body(TEXT, quota.clone())).await;
    assert_eq!(response.headers["access-control-allow-origin"], ORIGIN);
    let (messages, trailers) = parts(&decoded(response.body.as_bytes()));
    assert_eq!((messages.len(), &trailers["grpc-status"]), (1, &"0".parse().unwrap()));
    let request = harness::grpc(GET_QUOTA);
    let response = harness::ask(world.address, request, quota.clone()).await;
    assert_eq!(response.trailers["grpc-status"], "0");
    assert!(!response.headers.contains_key("vary"));
    // A program that is not a browser may have an origin for gRPC.
    let request = harness::grpc(GET_QUOTA).header("origin", "https://other.example.com");
    let response = harness::ask(world.address, request, quota).await;
    assert_eq!(response.trailers["grpc-status"], "0");
    assert!(!response.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_browser_may_send_the_requests_of_listed_origins_only() {
    let world = world("").await;
    let mut send = connect(world.address).await;
    let allowed = ask(&mut send, preflight(CREATE, ORIGIN), vec![]).await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), ORIGIN);
    assert_eq!(allowed.header("access-control-allow-methods"), "POST");
    assert_eq!(allowed.header("vary"), "origin");
    assert!(!allowed.headers.contains_key("access-control-allow-credentials"));
    let headers: Vec<_> = allowed.header("access-control-allow-headers").split(", ").collect();
    for name in [
        "authorization",
        "content-type",
        "grpc-timeout",
        "traceparent",
        "x-grpc-web",
        "x-leadgate-caller",
        "x-leadgate-criticality",
        "x-leadgate-tenant",
        "x-request-id",
        "x-user-agent",
    ] {
        assert!(headers.contains(&name), "{name} in {headers:?}");
    }
    for origin in [
        "https://other.example.com",
        "http://intranet.example.com",
        "https://intranet.example.com:8443",
        "https://intranet.example.com.example.org",
        "null",
    ] {
        let mut send = connect(world.address).await;
        let refused = ask(&mut send, preflight(CREATE, origin), vec![]).await;
        assert_eq!(refused.status, 403, "{origin}");
        let posted = ask(&mut send, web(CREATE, BINARY).header("origin", origin), create("Asha")).await;
        assert_eq!(posted.status, 403, "{origin}");
        posted.error().is(Code::InvalidArgument, "INVALID_FIELD");
        for response in [refused, posted] {
            let mut names = response.headers.keys().map(HeaderName::as_str);
            assert!(
                !names.any(|name| name.starts_with("access-control-")),
                "{origin}: {response:?}"
            );
        }
    }
    // Several origins, the first of which is listed.
    let two = web(CREATE, BINARY).header("origin", format!("{ORIGIN} https://other.example.com"));
    assert_eq!(
        ask(&mut connect(world.address).await, two, create("Asha")).await.status,
        403
    );
    assert!(world.calls("Lead.Create").is_empty());
    let line = format!("leadgate_rpcs_total{{method=\"{CREATE}\",code=\"INVALID_ARGUMENT\"}} 6");
    world.until(&line).await;
}

#[tokio::test]
async fn what_a_browser_sends_without_a_preflight_is_not_executed() {
    let world = world("").await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        for origin in [ORIGIN, "https://other.example.com"] {
            let mut send = connect(world.address).await;
            let request = web(CREATE, kind).header("origin", origin);
            assert_eq!(ask(&mut send, request, create("Asha")).await.status, 505, "{kind}");
            let request = http::Request::post(CREATE)
                .header("content-type", kind)
                .header("origin", origin);
            let response = harness::ask(world.address, request, create("Asha")).await;
            assert_eq!(response.status, 415, "{kind}");
        }
    }
    assert!(world.calls("Lead.Create").is_empty());
}

#[tokio::test]
async fn without_an_origin_in_the_settings_grpc_web_is_off() {
    let world = World::start().await;
    let quota = framed(&pb::GetQuotaRequest::default());
    let mut send = connect(world.address).await;
    let response = ask(&mut send, web(GET_QUOTA, BINARY), quota.clone()).await;
    assert_eq!(
        (response.status, response.header("connection")),
        (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "close")
    );
    let mut send = connect(world.address).await;
    let response = ask(&mut send, preflight(GET_QUOTA, ORIGIN), vec![]).await;
    assert_eq!(response.status, 505);
    let request = http::Request::post(GET_QUOTA).header("content-type", BINARY);
    let response = harness::ask(world.address, request, quota).await;
    assert_eq!(response.status, 415);
    assert!(
        response
            .body
            .contains("gRPC-Web is off, because server.cors_origins is empty"),
        "{response:?}"
    );
    let request = http::Request::options(GET_QUOTA)
        .header("origin", ORIGIN)
        .header("access-control-request-method", "POST");
    assert_eq!(harness::ask(world.address, request, vec![]).await.status, 405);
}

#[tokio::test]
async fn messages_and_metadata_have_the_limits_of_grpc() {
    let world = world("max_request_bytes = 20000\nmax_message_elements = 10").await;
    let large = framed(&pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            notes: Some("x".repeat(30_000)),
            ..lead("Asha")
        }),
        ..Default::default()
    });
    let many = framed(&pb::BatchCreateLeadsRequest {
        requests: vec![pb::CreateLeadRequest::default(); 11],
        ..Default::default()
    });
    let batch = "/leadgate.v1.LeadService/BatchCreateLeads";
    for (path, message, text) in [
        (CREATE, &large, "server.max_request_bytes (20000)"),
        (batch, &many, "server.max_message_elements (10)"),
    ] {
        for kind in [BINARY, TEXT] {
            let mut send = connect(world.address).await;
            let error = ask(&mut send, web(path, kind), body(kind, message.clone()))
                .await
                .error();
            error.is(Code::InvalidArgument, "INVALID_FIELD");
            assert!(error.status.message().contains(text), "{:?}", error.status);
        }
    }
    let mut send = connect(world.address).await;
    let error = ask(&mut send, web(CREATE, TEXT), b"no base64".to_vec()).await.error();
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert!(
        error.status.message().contains("is not valid base64"),
        "{:?}",
        error.status
    );
    let mut send = connect(world.address).await;
    let metadata = |length: usize| web(GET, BINARY).header("x-token", "v".repeat(length));
    let error = ask(&mut send, metadata(17_000), get("x")).await.error();
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["metadata"]);
    // The HTTP library reads twice the limit.
    let head = format!(
        "POST {GET} HTTP/1.1\r\nhost: x\r\nx-token: {}\r\n\r\n",
        "v".repeat(40_000)
    );
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let response = rest(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
}

/// The bytes of a request of gRPC-Web over HTTP/1.1.
fn raw(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {BINARY}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut bytes)).await;
    // The connection may also be reset.
    let _ = read.expect("the connection ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn slow_and_idle_connections_of_http_1_end() {
    let world = world("handshake_timeout = \"300ms\"").await;
    let quota = raw(GET_QUOTA, &framed(&pb::GetQuotaRequest::default()));
    // A part of the headers of the first and of the second request, and no second request.
    for sent in [quota[..60].to_vec(), [&quota[..], &quota[..60]].concat(), quota.clone()] {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let responses = rest(&mut stream).await;
        let expected = usize::from(sent.len() >= quota.len());
        assert_eq!(responses.matches("HTTP/1.1 200").count(), expected, "{responses}");
        assert!(begin.elapsed() >= Duration::from_millis(300));
    }
}

#[tokio::test]
async fn a_slow_message_ends_at_the_deadline() {
    let world = world("max_deadline = \"300ms\"").await;
    let request = raw(GET_QUOTA, &framed(&pb::GetQuotaRequest::default()));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&request[..request.len() - 1]).await.unwrap();
    let response = rest(&mut stream).await;
    assert!(response.contains("grpc-status: 4\r\n"), "{response}");
}

#[tokio::test]
async fn pipelined_requests_have_their_responses_in_order_one_at_a_time() {
    let world = world("max_in_flight = 1").await;
    let id = world.create(lead("Asha")).await.unwrap();
    let count = 20;
    let requests = raw(GET, &get(&id)).repeat(count);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&requests).await.unwrap();
    // It is rejected, and ends the connection.
    let last = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(last).await.unwrap();
    let responses = rest(&mut stream).await;
    assert_eq!(
        responses.matches("grpc-status: 0\r\n").count(),
        count,
        "no two were in progress at a time: {responses}"
    );
    let (_, end) = responses.rsplit_once("HTTP/1.1 ").unwrap();
    assert!(end.starts_with("505 ") && end.contains("connection: close"), "{end}");
}

#[tokio::test]
async fn a_client_of_http_1_that_does_not_read_is_closed() {
    let world = world("").await;
    let describe = "/leadgate.v1.LeadService/DescribeLeadFields";
    let request = raw(describe, &framed(&pb::DescribeLeadFieldsRequest::default()));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1_024).unwrap();
    let mut stream = socket.connect(world.address).await.unwrap();
    // The responses fill the buffers of both sockets. Then the gateway reads no more requests, and ends the connection after 20 s.
    let closed = async { while stream.write_all(&request).await.is_ok() {} };
    tokio::time::timeout(3 * LIMIT, closed)
        .await
        .expect("the connection ends");
    world
        .until("leadgate_connections_closed_total{reason=\"write_timeout\"} 1")
        .await;
}
