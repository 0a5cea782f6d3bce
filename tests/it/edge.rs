//! Requests that are rejected before they reach a service, and their errors.

use leadgate::grpc::pb;
use leadgate_simulator::Options;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};

use crate::harness::{self, Response, Seen, World, by_id, framed, lead, seen};

const GET_LEAD: &str = "/leadgate.v1.LeadService/GetLead";

fn message() -> Vec<u8> {
    framed(&pb::GetLeadRequest {
        key: Some(by_id("x")),
        ..Default::default()
    })
}

fn post(path: &str) -> http::request::Builder {
    http::Request::post(path).header("te", "trailers")
}

fn grpc() -> http::request::Builder {
    harness::grpc(GET_LEAD)
}

async fn ask(world: &World, request: http::request::Builder, body: Vec<u8>) -> Response {
    harness::ask(world.address, request, body).await
}

fn error(response: &Response) -> Seen {
    seen(Status::from_header_map(&response.headers).unwrap_or_else(|| panic!("no status in {response:?}")))
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused_with_its_size() {
    let world = World::start().await;
    let bytes = |length: usize| "v".repeat(length);
    for length in [16_400, 60_000, 200_000] {
        let response = ask(&world, grpc().header("x-token", bytes(length)), message()).await;
        assert_eq!(response.status, 200, "{length}");
        let error = error(&response);
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["metadata"]);
        let text = error.status.message();
        assert!(
            text.contains("server.max_metadata_bytes (16384)") && text.contains("x-token"),
            "{text}"
        );
        let size = text.split("has ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(size.parse::<usize>().unwrap() > length, "{text}");
    }
    // Many small ones count with their overhead.
    let many = (0..450).fold(grpc(), |request, i| request.header(format!("x-{i}"), "v"));
    error(&ask(&world, many, message()).await).is(Code::InvalidArgument, "INVALID_FIELD");
    let fits = ask(&world, grpc().header("x-token", bytes(15_000)), message()).await;
    error(&fits).is(Code::NotFound, "LEAD_NOT_FOUND");
}

#[tokio::test]
async fn several_values_of_metadata_with_one_meaning_are_an_error() {
    let world = World::start().await;
    for (name, values) in [
        ("x-leadgate-tenant", ["acme", "acme"]),
        ("x-leadgate-caller", ["one", "two"]),
        ("x-leadgate-criticality", ["critical", "sheddable"]),
    ] {
        let request = grpc().header(name, values[0]).header(name, values[1]);
        let error = error(&ask(&world, request, message()).await);
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), [name]);
    }
}

#[tokio::test]
async fn a_path_of_any_form_is_an_unknown_rpc() {
    let world = World::start().await;
    for path in [
        "/x",
        "/leadgate.v1.LeadService",
        "/a/b",
        "/a/b/c",
        "/leadgate.v1.LeadService/x",
    ] {
        let response = ask(&world, harness::grpc(path), message()).await;
        error(&response).is(Code::Unimplemented, "UNIMPLEMENTED");
    }
}

#[tokio::test]
async fn the_limit_of_metadata_is_a_setting() {
    let world = World::with(Options::default(), "[server]\nmax_metadata_bytes = 40000").await;
    let request = grpc().header("x-token", "v".repeat(30_000));
    error(&ask(&world, request, message()).await).is(Code::NotFound, "LEAD_NOT_FOUND");
    let request = grpc().header("x-token", "v".repeat(45_000));
    error(&ask(&world, request, message()).await).is(Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn an_unknown_encoding_is_answered_with_the_known_ones() {
    let world = World::start().await;
    let response = ask(&world, grpc().header("grpc-encoding", "snappy"), message()).await;
    assert_eq!(response.headers["grpc-accept-encoding"], "gzip,identity");
    let error = error(&response);
    error.is(Code::Unimplemented, "UNIMPLEMENTED");
    assert!(error.status.message().contains("snappy"), "{:?}", error.status);
    assert!(error.details.request_info().is_some());
}

#[tokio::test]
async fn requests_of_other_protocols_are_told_what_this_port_serves() {
    let world = World::start().await;
    for (request, status, text) in [
        (http::Request::get("/"), 405, "must be POST, not GET"),
        (http::Request::get(GET_LEAD), 405, "must be POST, not GET"),
        (http::Request::put("/x"), 405, "must be POST, not PUT"),
        (post(GET_LEAD), 415, "it is missing"),
        (
            post(GET_LEAD).header("content-type", "application/json"),
            415,
            "it is application/json",
        ),
        (
            post(GET_LEAD).header("content-type", "application/grpc-web+proto"),
            415,
            "it is application/grpc-web+proto",
        ),
        (post("/x").header("content-type", "text/plain"), 415, "application/grpc"),
    ] {
        let response = ask(&world, request, vec![]).await;
        assert_eq!(response.status, status, "{text}");
        assert!(response.body.contains(text), "{text} in {response:?}");
        assert!(response.headers.contains_key("x-request-id"));
        error(&response).is(Code::InvalidArgument, "INVALID_FIELD");
    }
    // The paths that nobody serves are one label.
    let (_, metrics) = world.page("/metrics").await;
    let line = "leadgate_rpcs_total{method=\"unknown\",code=\"INVALID_ARGUMENT\"} 3";
    assert!(metrics.lines().any(|seen| seen == line), "{metrics}");
}

#[tokio::test]
async fn http_1_is_answered_in_its_own_words() {
    let world = World::start().await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let request = "GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    assert!(answer.contains("this port serves gRPC over HTTP/2"), "{answer}");
}

#[tokio::test]
async fn misspelt_metadata_is_refused_with_the_name_that_is_meant() {
    let world = World::start().await;
    for (name, meant) in [
        ("x-leadgate-tennant", "x-leadgate-tenant"),
        ("x-leadgate-caler", "x-leadgate-caller"),
        ("x-leadgate-criticalty", "x-leadgate-criticality"),
        ("x-leadgat-tenant", "x-leadgate-tenant"),
    ] {
        let error = error(&ask(&world, grpc().header(name, "acme"), message()).await);
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), [name]);
        assert!(
            error.status.message().contains(&format!("did you mean {meant}?")),
            "{:?}",
            error.status
        );
    }
    assert!(world.calls("Leads.GetById").is_empty());
}

#[tokio::test]
async fn unknown_metadata_of_ours_is_ignored_and_counted() {
    let world = World::start().await;
    for _ in 0..3 {
        let request = grpc().header("x-leadgate-locale", "de").header("x-other", "y");
        error(&ask(&world, request, message()).await).is(Code::NotFound, "LEAD_NOT_FOUND");
    }
    world.until("leadgate_unknown_headers_total 3").await;
}

fn with_notes(length: usize) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            notes: Some("x".repeat(length)),
            ..lead("Asha")
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_request_over_the_size_is_refused_with_both_numbers() {
    let world = World::with(Options::default(), "[server]\nmax_request_bytes = 20000").await;
    let request = with_notes(30_000);
    let size = format!("has {} bytes", request.encoded_len());
    let batch = pb::BatchCreateLeadsRequest {
        requests: vec![request.clone()],
        ..Default::default()
    };
    let batch_size = format!("has {} bytes", batch.encoded_len());
    let mut client = world.client.clone();
    let mut gzip = world.client.clone().send_compressed(CompressionEncoding::Gzip);
    for (status, size) in [
        (client.create_lead(request.clone()).await.unwrap_err(), size.as_str()),
        (client.batch_create_leads(batch).await.unwrap_err(), batch_size.as_str()),
        (
            gzip.create_lead(request.clone()).await.unwrap_err(),
            "after decompression",
        ),
    ] {
        let error = seen(status);
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["request"]);
        assert_eq!(error.metadata["tenant"], "acme");
        let text = error.status.message();
        assert!(
            text.contains(size) && text.contains("server.max_request_bytes (20000)"),
            "{text}"
        );
    }

    // Of a stream as well.
    let row = |create| pb::ImportLeadsRequest {
        sequence: 1,
        operation: Some(pb::import_leads_request::Operation::Create(create)),
    };
    let rows = tokio_stream::iter([row(request)]);
    let mut answers = client.import_leads(Request::new(rows)).await.unwrap().into_inner();
    let error = seen(answers.message().await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert!(
        error.status.message().contains("server.max_request_bytes (20000)"),
        "{:?}",
        error.status
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_told_what_is_wrong_with_it() {
    let world = World::start().await;
    let garbage = [0, 0, 0, 0, 2, 0xff, 0xff].to_vec();
    for body in [garbage, vec![], vec![1, 0, 0, 0, 0], vec![0, 0, 0, 0, 9, 1]] {
        let error = error(&ask(&world, grpc(), body.clone()).await);
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["request"], "{body:?}");
    }
}
