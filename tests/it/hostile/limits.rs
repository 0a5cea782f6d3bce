//! Each limit of a connection: it applies, it is counted, and it does not concern others.

use std::net::Ipv4Addr;
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::Options;
use pb::lead_service_client::LeadServiceClient;
use pb::quota_service_client::QuotaServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::attacks::gzip_bomb_message;
use super::raw::{self, RawConnection};
use crate::certificates::TlsFiles;
use crate::harness::{World, channel, framed, grpc, seen};

const GET_QUOTA: &str = "/leadgate.v1.QuotaService/GetQuota";
const LIMIT: Duration = Duration::from_secs(10);

async fn world(server: &str) -> World {
    World::with(Options::default(), &format!("[server]\n{server}")).await
}

/// Waits until this number of connections have been closed for that reason.
async fn closed(world: &World, reason: &str, count: u32) {
    let line = format!("leadgate_connections_closed_total{{reason=\"{reason}\"}} {count}");
    world.until(&line).await;
}

fn quota_client(channel: tonic::transport::Channel) -> QuotaServiceClient<tonic::transport::Channel> {
    QuotaServiceClient::new(channel)
}

#[tokio::test]
async fn a_connection_must_begin_with_the_first_frames_in_time() {
    let world = world("handshake_timeout = \"300ms\"").await;
    let begin = Instant::now();
    let settings = raw::frame(raw::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]);
    let partial = [raw::PREFACE, &settings[..10]].concat();
    for sent in [&[], &raw::PREFACE[..5], raw::PREFACE, &partial] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{sent:?}");
    }
    assert!(begin.elapsed() >= Duration::from_millis(1_200));
    closed(&world, "handshake_timeout", 4).await;
    // HTTP/1 has the same timeout for its headers.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
    // The client of the world has begun in time, and stays connected.
    world
        .client
        .clone()
        .describe_lead_fields(pb::DescribeLeadFieldsRequest::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn headers_must_arrive_in_time() {
    let world = world("handshake_timeout = \"300ms\"").await;
    let headers = raw::headers(GET_QUOTA);
    let incomplete = [
        // A part of a frame.
        raw::frame(raw::HEADERS, raw::END_HEADERS, 1, &headers)[..20].to_vec(),
        // A frame that is not the last one.
        raw::frame(raw::HEADERS, 0, 1, &headers[..20]),
        [
            raw::frame(raw::HEADERS, 0, 1, &headers[..20]),
            raw::frame(raw::CONTINUATION, 0, 1, &headers[20..40]),
        ]
        .concat(),
    ];
    for sent in &incomplete {
        let mut connection = RawConnection::open(world.address).await.unwrap();
        connection.write(sent).await.unwrap();
        assert_eq!(connection.until_closed(LIMIT).await.as_deref(), Some("header_timeout"));
    }
    closed(&world, "header_timeout", 3).await;
}

#[tokio::test]
async fn pings_below_the_minimum_interval_end_the_connection() {
    let world = world("keepalive_min_interval = \"1h\"").await;
    let ping = raw::frame(raw::PING, 0, 0, &[7; 8]);
    let mut connection = RawConnection::open(world.address).await.unwrap();
    // Three are allowed, and three again after a response.
    for _ in 0..3 {
        connection.write(&ping).await.unwrap();
    }
    let request = raw::rpc(1, GET_QUOTA, &framed(&pb::GetQuotaRequest::default()));
    connection.write(&request).await.unwrap();
    while connection.read().await.unwrap().kind != raw::DATA {}
    for _ in 0..5 {
        let _ = connection.write(&ping).await;
    }
    assert_eq!(connection.until_closed(LIMIT).await.as_deref(), Some("too_many_pings"));
    closed(&world, "too_many_pings", 1).await;
}

#[tokio::test]
async fn floods_end_the_connection() {
    let world = world("").await;
    let headers = raw::headers(GET_QUOTA);
    let resets = (0..1_000).flat_map(|number| {
        let stream = 1 + 2 * number;
        let open = raw::frame(raw::HEADERS, raw::END_HEADERS, stream, &headers);
        [open, raw::frame(raw::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    let many = (0..200).flat_map(|_| raw::frame(raw::CONTINUATION, 0, 1, &[]));
    let continuations = [raw::frame(raw::HEADERS, 0, 1, &headers), many.collect()].concat();
    let long = raw::frame(raw::HEADERS, 0, 1, &raw::headers(GET_QUOTA));
    let value = [&[0, 1, b'x', 0x7f, 0x80, 0x7e][..], &[b'v'; 16_255]].concat();
    let large = (0..100).flat_map(|_| raw::frame(raw::CONTINUATION, 0, 1, &value));
    let large = [long, large.collect()].concat();
    let overhead = [
        // The response to a PING that the server did not send.
        raw::frame(raw::PING, 1, 0, &[7; 8]),
        raw::frame(raw::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        raw::frame(raw::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        raw::frame(raw::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        raw::frame(250, 0, 0, &[7; 8]),
    ];
    let overhead = overhead.map(|frame| frame.repeat(20_000));
    let floods = [resets.collect(), continuations, large].into_iter().chain(overhead);
    for (number, flood) in (1..).zip(floods) {
        let mut connection = RawConnection::open(world.address).await.unwrap();
        // The server may close the connection before all is written.
        let _ = connection.write(&flood).await;
        connection.until_closed(LIMIT).await;
        closed(&world, "flood", number).await;
    }
}

#[tokio::test]
async fn a_client_with_a_small_window_reads_a_large_export() {
    const LEADS: usize = 2_000;
    let world = world("").await;
    world.insert_leads(LEADS);
    // The client sends a WINDOW_UPDATE for every 512 bytes.
    let endpoint = Endpoint::new(format!("http://{}", world.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(1_024).connect().await.unwrap();
    let request = pb::ExportLeadsRequest {
        start_time: Some(prost_types::Timestamp::default()),
        ..Default::default()
    };
    let mut client = LeadServiceClient::new(channel);
    let mut responses = client.export_leads(request).await.unwrap().into_inner();
    let (mut leads, mut bytes) = (0, 0);
    while let Some(response) = responses.message().await.unwrap() {
        leads += response.leads.len();
        bytes += prost::Message::encoded_len(&response);
    }
    assert_eq!(leads, LEADS);
    // More updates than the server allows in a second without responses.
    assert!(bytes / 512 > 1_000, "{bytes}");
}

#[tokio::test]
async fn an_old_connection_ends_after_its_rpcs() {
    let world = world("max_connection_age = \"400ms\"\nmax_connection_age_grace = \"600ms\"").await;
    let mut watch = quota_client(channel(world.address).await);
    let begin = Instant::now();
    let request = pb::WatchQuotaRequest::default();
    let mut responses = watch.watch_quota(request).await.unwrap().into_inner();
    let end = async {
        loop {
            match responses.message().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        }
    };
    let end = tokio::time::timeout(LIMIT, end).await.unwrap();
    // The stream had the time of grace, and ended with the connection.
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    assert!(end.is_err(), "{end:?}");
    // Further RPCs use new connections, without an error.
    for _ in 0..3 {
        watch.get_quota(pb::GetQuotaRequest::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (_, metrics) = world.page("/metrics").await;
    let prefix = "leadgate_connections_closed_total{reason=\"max_age\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(prefix)).unwrap();
    assert!(count.parse::<u32>().unwrap() >= 3, "{count}");
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_stream_keeps_it() {
    let world = world("max_connection_idle = \"300ms\"").await;
    let mut watch = quota_client(channel(world.address).await);
    let request = pb::WatchQuotaRequest::default();
    let mut responses = watch.watch_quota(request).await.unwrap().into_inner();
    let mut idle = RawConnection::open(world.address).await.unwrap();
    let mut is_going_away = false;
    while let Ok(frame) = tokio::time::timeout(LIMIT, idle.read()).await.unwrap() {
        is_going_away |= frame.kind == raw::GOAWAY;
        // The server waits for the response to its PING.
        if frame.kind == raw::PING {
            let _ = idle.write(&raw::frame(raw::PING, 1, 0, &frame.payload)).await;
        }
    }
    assert!(is_going_away);
    // The raw connection and that of the world.
    closed(&world, "idle", 2).await;
    responses.message().await.unwrap().unwrap();
    watch.get_quota(pb::GetQuotaRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_watch_of_the_health_does_not_keep_an_idle_connection() {
    let world = world("max_connection_idle = \"300ms\"\nmax_connection_age_grace = \"300ms\"").await;
    let mut client = HealthClient::new(channel(world.address).await);
    let watch = client.watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    let ended = async { while let Ok(Some(_)) = watch.message().await {} };
    tokio::time::timeout(LIMIT, ended).await.unwrap();
    // The connection of the watch and that of the world.
    closed(&world, "idle", 2).await;
}

#[tokio::test]
async fn streams_of_the_health_are_limited_per_connection_and_in_total() {
    // The connection of the world is one of them.
    let world = world("max_connections = 10").await;
    let (channel, other) = (channel(world.address).await, channel(world.address).await);
    let watch = |channel: &tonic::transport::Channel| {
        let mut client = HealthClient::new(channel.clone());
        async move { client.watch(HealthCheckRequest::default()).await }
    };
    let mut watches = Vec::new();
    for _ in 0..8 {
        watches.push(watch(&channel).await.unwrap());
    }
    let refused = |result: Result<_, Status>| {
        let error = seen(result.map(drop::<tonic::Response<_>>).unwrap_err());
        error.is(Code::ResourceExhausted, "QUEUE_FULL");
    };
    refused(watch(&channel).await);
    // Two more in total.
    watches.push(watch(&other).await.unwrap());
    watches.push(watch(&other).await.unwrap());
    refused(watch(&other).await);
    HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    // The first is of the full connection, the last of the other one.
    drop(watches.remove(0));
    let freed = async { while watch(&channel).await.is_err() {} };
    tokio::time::timeout(LIMIT, freed).await.unwrap();
}

#[tokio::test]
async fn a_response_that_is_not_read_ends_the_connection() {
    let world = world("stream_read_timeout = \"300ms\"").await;
    let describe = "/leadgate.v1.LeadService/DescribeLeadFields";
    let mut connection = RawConnection::with_window(world.address, 0).await.unwrap();
    let request = raw::rpc(1, describe, &framed(&pb::DescribeLeadFieldsRequest::default()));
    let begin = Instant::now();
    connection.write(&request).await.unwrap();
    connection.until_closed(LIMIT).await;
    assert!(begin.elapsed() >= Duration::from_millis(1_500));
    closed(&world, "unread_response", 1).await;
    // A client that reads everything, and then nothing because there is nothing, stays.
    let mut other = quota_client(channel(world.address).await);
    other.get_quota(pb::GetQuotaRequest::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    closed(&world, "unread_response", 1).await;
}

#[tokio::test]
async fn a_gzip_bomb_is_rejected() {
    let world = world("").await;
    let request = grpc(GET_QUOTA).header("grpc-encoding", "gzip");
    let response = crate::harness::ask(world.address, request, gzip_bomb_message()).await;
    let error = seen(Status::from_header_map(&response.headers).unwrap());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let text = error.status.message();
    assert!(
        text.contains("after decompression") && text.contains("server.max_request_bytes"),
        "{text}"
    );
}

#[tokio::test]
async fn tls_handshakes_are_limited_in_number_and_time() {
    let files = TlsFiles::new();
    let settings = "[server]\nmax_handshakes = 1\nhandshake_timeout = \"1s\"";
    let world = World::with_tls(Options::default(), settings, &files, None).await;
    // Without a byte, this is no handshake yet.
    let silent = TcpStream::connect(world.address).await.unwrap();
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    // The head of a TLS record.
    slow.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    // Another handshake is closed as soon as the slow one is noticed.
    let refused = async { while files.endpoint(world.address, None).connect().await.is_ok() {} };
    tokio::time::timeout(Duration::from_millis(900), refused).await.unwrap();
    let (_, metrics) = world.page("/metrics").await;
    let is_counted = !metrics.contains("leadgate_connections_refused_total{limit=\"server.max_handshakes\"} 0\n");
    assert!(is_counted, "{metrics}");
    let none_timed_out = "leadgate_tls_handshakes_failed_total{reason=\"timeout\"} 0\n";
    while world.page("/metrics").await.1.contains(none_timed_out) {
        tokio::task::yield_now().await;
    }
    drop(silent);
    files.endpoint(world.address, None).connect().await.unwrap();
}

/// A connection from that address of loopback, which sends the head of a TLS record and nothing else.
async fn begin_handshake(world: &World, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
    let mut stream = socket.connect(world.address).await.unwrap();
    stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    stream
}

/// Waits until this number of connections have been refused.
async fn refused(world: &World, count: u32) {
    world
        .until(&format!(
            "leadgate_connections_refused_total{{limit=\"server.max_handshakes\"}} {count}"
        ))
        .await;
}

#[tokio::test]
async fn one_address_cannot_have_all_tls_handshakes() {
    let files = TlsFiles::new();
    let settings = "[server]\nmax_handshakes = 16\nhandshake_timeout = \"1h\"";
    let world = World::with_tls(Options::default(), settings, &files, None).await;
    let mut hostile = Vec::new();
    for _ in 0..40 {
        hostile.push(begin_handshake(&world, 2).await);
    }
    // An eighth of max_handshakes is in progress.
    refused(&world, 38).await;
    files.endpoint(world.address, None).connect().await.unwrap();
    refused(&world, 38).await;
}

#[tokio::test]
async fn a_tls_handshake_above_the_limit_waits() {
    let files = TlsFiles::new();
    let settings = "[server]\nmax_handshakes = 1\nhandshake_timeout = \"1h\"";
    let world = World::with_tls(Options::default(), settings, &files, None).await;
    let hostile = (begin_handshake(&world, 2).await, begin_handshake(&world, 2).await);
    // The other one is in progress.
    refused(&world, 1).await;
    let endpoint = files.endpoint(world.address, None);
    let mut good = tokio::spawn(async move { endpoint.connect().await });
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut good).await;
    assert!(waited.is_err(), "{waited:?}");
    drop(hostile);
    tokio::time::timeout(LIMIT, good).await.unwrap().unwrap().unwrap();
    refused(&world, 1).await;
}
