//! Load: many messages, connections and streams at once, some of them hostile. The gateway keeps serving, and its memory stays bounded.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options, Simulator};
use pb::import_leads_request::Operation;
use pb::import_leads_response::Result as Row;
use pb::lead_service_client::LeadServiceClient;
use pb::quota_service_client::QuotaServiceClient;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio_stream::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::harness::{Seen, World, channel, lead, listen, seen, tenant};
use crate::process::leadgate;

/// A gateway in its own process, so that its memory can be measured.
struct Process {
    child: Child,
    address: SocketAddr,
    /// The folder of its settings, store and log.
    folder: tempfile::TempDir,
    _simulating: DropGuard,
}

impl Process {
    /// Starts a gateway with these settings of the server, and other settings.
    async fn start(server: &str, others: &str) -> Self {
        let upstream = listen().await;
        // An address of its own, so that no listener of another test uses the port first.
        let address = TcpListener::bind("127.0.0.2:0").await.unwrap().local_addr().unwrap();
        let options = Options::default();
        let text = format!(
            "[server]\nlisten = \"{address}\"\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"\n\
             [store]\nurl = \"sqlite::memory:\"\n{}\n{others}",
            tenant("acme", upstream.local_addr().unwrap(), &options)
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadgate.toml");
        std::fs::write(&path, text).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(Simulator::new(options).serve(upstream, stop.clone().cancelled_owned()));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let arguments = ["serve", "--config", path.to_str().unwrap()];
        let child = leadgate().args(arguments).stderr(log).spawn().unwrap();
        let process = Self {
            child,
            address,
            folder,
            _simulating: stop.drop_guard(),
        };
        for _ in 0..500 {
            let endpoint = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap();
            if let Ok(channel) = endpoint.connect().await {
                // The account's metadata is read now, so that later figures do not include it.
                let request = pb::DescribeLeadFieldsRequest::default();
                LeadServiceClient::new(channel)
                    .describe_lead_fields(request)
                    .await
                    .unwrap();
                return process;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the gateway does not start: {}", process.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// A value of /proc/PID/status in MiB: VmRSS is the memory in use, VmHWM its maximum.
    fn memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(Path::new(&path)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let kilobytes: u64 = line
            .trim_start_matches(':')
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kilobytes / 1024
    }

    /// Fails if the maximum memory is more than 200 MiB above `idle`.
    fn assert_bounded(&self, idle: u64) {
        let peak = self.memory("VmHWM");
        assert!(peak <= idle + 200, "idle {idle} MiB, peak {peak} MiB");
    }
}

type FrameBody = BoxBody<Bytes, Infallible>;

/// A connection on which each item of a body is one DATA frame.
#[derive(Clone)]
struct Raw(SendRequest<FrameBody>);

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        Self::with_window(address, 4 << 20).await
    }

    /// Connects with this window for each stream.
    async fn with_window(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(64 << 20)
            .max_concurrent_reset_streams(10_000)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(
        &mut self,
        rpc: &str,
        encoding: Option<&str>,
        frames: impl tokio_stream::Stream<Item = Bytes> + Send + Sync + 'static,
    ) -> hyper::Result<http::Response<Incoming>> {
        let frames = frames.map(|bytes| Ok(Frame::data(bytes)));
        let mut request = http::Request::post(format!("http://leadgate/leadgate.v1.{rpc}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let request = request.body(StreamBody::new(frames).boxed()).unwrap();
        self.0.ready().await?;
        self.0.send_request(request).await
    }
}

/// A message with the gRPC prefix.
fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

/// A row of about 40 bytes that is rejected without a call to LeadSquared.
fn invalid_row(sequence: i64) -> pb::ImportLeadsRequest {
    let update = pb::UpdateLeadRequest {
        lead_id: "no id at all, of 30 letters....".to_owned(),
        ..Default::default()
    };
    pb::ImportLeadsRequest {
        sequence,
        operation: Some(Operation::Update(update)),
    }
}

/// A row of about 40 bytes that waits for the quota.
fn row(sequence: i64) -> pb::ImportLeadsRequest {
    let create = pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            email_address: Some(format!("asha-{sequence:07}@example.com")),
            ..Default::default()
        }),
        ..Default::default()
    };
    pb::ImportLeadsRequest {
        sequence,
        operation: Some(Operation::Create(create)),
    }
}

/// Reads the quota on the channel until the token is cancelled. Returns the number of responses.
fn read_quota_meanwhile(channel: Channel, until: CancellationToken) -> tokio::task::JoinHandle<Result<usize, Status>> {
    tokio::spawn(async move {
        let mut client = QuotaServiceClient::new(channel);
        let mut count = 0;
        while !until.is_cancelled() {
            client.get_quota(pb::GetQuotaRequest::default()).await?;
            count += 1;
        }
        Ok(count)
    })
}

const ROWS: i64 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_small_rows_do_not_block_other_calls_of_the_connection() {
    let process = Process::start("", "").await;
    let idle = process.memory("VmRSS");
    let channel = channel(process.address).await;
    let done = CancellationToken::new();
    let others = read_quota_meanwhile(channel.clone(), done.clone());
    let rows = tokio_stream::iter((0..ROWS).map(invalid_row));
    let mut client = LeadServiceClient::new(channel);
    let mut answers = client.import_leads(Request::new(rows)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(matches!(answer.result, Some(Row::Error(_))), "{answer:?}");
        count += 1;
    }
    done.cancel();
    assert_eq!(count, ROWS);
    assert!(others.await.unwrap().unwrap() > 0);
    process.assert_bounded(idle);
}

/// The end of an import with two rows in progress and three failed rows.
async fn interrupted(world: &World, timeout: Option<Duration>, end: impl FnOnce()) -> Seen {
    let lasting = Duration::from_secs(60);
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::HangBefore { lasting }).times(100))
        .unwrap();
    let rows = [row(1), row(2), invalid_row(3), invalid_row(4), invalid_row(5)];
    let mut request = Request::new(tokio_stream::iter(rows).chain(tokio_stream::pending()));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let mut answers = world.client.clone().import_leads(request).await.unwrap().into_inner();
    for _ in 0..3 {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(matches!(answer.result, Some(Row::Error(_))), "{answer:?}");
    }
    end();
    let error = seen(answers.message().await.unwrap_err());
    assert_eq!(counts(&error), [Some(5), Some(0), Some(3)]);
    error
}

/// The numbers of received, succeeded and failed rows in the trailers.
fn counts(end: &Seen) -> [Option<u64>; 3] {
    ["received", "succeeded", "failed"].map(|name| {
        let value = end.status.metadata().get(format!("x-leadgate-import-{name}"))?;
        value.to_str().unwrap().parse().ok()
    })
}

/// The error that ends a stream.
async fn last(answer: http::Response<Incoming>) -> Seen {
    let body = answer.into_body().collect().await.unwrap();
    seen(Status::from_header_map(body.trailers().unwrap()).unwrap())
}

#[tokio::test]
async fn an_import_that_ends_by_shutdown_has_its_counts() {
    let world = World::start().await.warm().await;
    let error = interrupted(&world, None, || world.tell_to_stop()).await;
    error.is(Code::Unavailable, "SHUTTING_DOWN");
    let text = error.status.message();
    assert!(
        text.contains("responses that were sent are valid") && !text.contains("nothing was sent"),
        "{text}"
    );
    assert_eq!(error.pushback(), Some(Duration::ZERO));
}

#[tokio::test]
async fn an_import_that_ends_by_its_deadline_has_its_counts() {
    let world = World::start().await.warm().await;
    let error = interrupted(&world, Some(Duration::from_secs(3)), || {}).await;
    error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn an_import_that_ends_by_an_invalid_message_has_earlier_results_and_its_counts() {
    let world = World::with(Options::default(), "[server]\nmax_request_bytes = 100000").await;
    let too_long = pb::ImportLeadsRequest {
        sequence: 3,
        operation: Some(Operation::Create(pb::CreateLeadRequest {
            request_id: "x".repeat(200_000),
            ..Default::default()
        })),
    };
    // A field that is longer than its message.
    let broken = Bytes::from_static(&[0, 0, 0, 0, 2, 0x12, 0x7f]);
    for message in [framed(&too_long), broken] {
        let rows = [framed(&invalid_row(1)), framed(&invalid_row(2)), message];
        let rows = tokio_stream::iter(rows).chain(tokio_stream::pending());
        let mut raw = Raw::connect(world.address).await;
        let answer = raw.ask("LeadService/ImportLeads", None, rows).await.unwrap();
        let end = last(answer).await;
        end.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(counts(&end), [Some(2), Some(0), Some(2)]);
    }
}

#[tokio::test]
async fn an_import_whose_responses_are_not_read_has_its_counts() {
    let settings = "[server]\nmax_streams = 1\nstream_read_timeout = \"1s\"";
    let world = World::with(Options::default(), settings).await;
    let mut raw = Raw::with_window(world.address, 1_000).await;
    let rows = tokio_stream::iter((0..1_000).map(|sequence| framed(&invalid_row(sequence))));
    let answer = raw.ask("LeadService/ImportLeads", None, rows).await.unwrap();
    // Nothing is read until the gateway has closed the stream.
    until_a_stream_is_free(world.address).await;
    let end = last(answer).await;
    end.is(Code::ResourceExhausted, "QUEUE_FULL");
    let [received, succeeded, failed] = counts(&end).map(Option::unwrap);
    assert!(
        received >= failed && failed > 0 && succeeded == 0,
        "{received} {succeeded} {failed}"
    );
}

/// Counts the gRPC messages of a body.
async fn messages(mut body: Incoming) -> i64 {
    let (mut count, mut buffer) = (0, BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.unwrap().into_data() else { break };
        buffer.extend_from_slice(&data);
        while buffer.len() >= 5 {
            let length = 5 + u32::from_be_bytes(buffer[1..5].try_into().unwrap()) as usize;
            if buffer.len() < length {
                break;
            }
            buffer.advance(length);
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_rows_in_frames_of_their_own_do_not_block_other_calls_of_the_connection() {
    let process = Process::start("", "").await;
    let idle = process.memory("VmRSS");
    let mut raw = Raw::connect(process.address).await;
    let mut others = raw.clone();
    let done = CancellationToken::new();
    let until = done.clone();
    let others = tokio::spawn(async move {
        let mut count = 0;
        while !until.is_cancelled() {
            let message = tokio_stream::once(framed(&pb::GetQuotaRequest::default()));
            let answer = others.ask("QuotaService/GetQuota", None, message).await.unwrap();
            count += messages(answer.into_body()).await;
        }
        count
    });
    let rows = tokio_stream::iter((0..ROWS).map(|sequence| framed(&invalid_row(sequence))));
    let answer = raw.ask("LeadService/ImportLeads", None, rows).await.unwrap();
    assert_eq!(messages(answer.into_body()).await, ROWS);
    done.cancel();
    assert!(others.await.unwrap() > 0);
    process.assert_bounded(idle);
}

/// The imports read no more rows until the quota allows writes: flow control stops their clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_that_wait_for_the_quota_do_not_block_other_calls_of_the_connection() {
    let process = Process::start("", "[tenant_defaults.batching]\nimport_window = 50\n").await;
    let idle = process.memory("VmRSS");
    let raw = Raw::connect(process.address).await;
    for _ in 0..30 {
        let mut raw = raw.clone();
        tokio::spawn(async move {
            let rows = tokio_stream::iter((0..ROWS).map(|sequence| framed(&row(sequence))));
            let answer = raw.ask("LeadService/ImportLeads", None, rows).await.unwrap();
            messages(answer.into_body()).await
        });
    }
    let (begun, mut others, mut count) = (Instant::now(), raw.clone(), 0);
    while begun.elapsed() < Duration::from_secs(4) {
        let message = tokio_stream::once(framed(&pb::GetQuotaRequest::default()));
        let answer = others.ask("QuotaService/GetQuota", None, message).await.unwrap();
        count += messages(answer.into_body()).await;
    }
    assert!(count > 10, "{count}");
    process.assert_bounded(idle);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A compressed message with the gRPC prefix.
fn compressed(message: &[u8]) -> Bytes {
    let message = gzip(message);
    let mut frame = BytesMut::new();
    frame.put_u8(1);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(&message);
    frame.freeze()
}

fn rejection(answer: &http::Response<Incoming>) -> Seen {
    seen(Status::from_header_map(answer.headers()).unwrap_or_else(|| panic!("no status in {answer:?}")))
}

/// Reads the quota on its own connection. Returns the longest response time.
fn good_client(address: SocketAddr, until: CancellationToken) -> tokio::task::JoinHandle<Result<Duration, Status>> {
    tokio::spawn(async move {
        let mut client = QuotaServiceClient::new(channel(address).await);
        let mut longest = Duration::ZERO;
        while !until.is_cancelled() {
            let begun = Instant::now();
            client.get_quota(pb::GetQuotaRequest::default()).await?;
            longest = longest.max(begun.elapsed());
        }
        Ok(longest)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn millions_of_empty_elements_are_rejected_before_decoding() {
    let process = Process::start("", "").await;
    let idle = process.memory("VmRSS");
    let done = CancellationToken::new();
    let good = good_client(process.address, done.clone());
    // Field 1 of these messages is repeated.
    let empty = [0x0a, 0].repeat(2_000_000);
    let mut attacks = tokio::task::JoinSet::new();
    let raw = Raw::connect(process.address).await;
    for _ in 0..8 {
        for rpc in [
            "BatchCreateLeads",
            "BatchUpdateLeads",
            "BatchUpsertLeads",
            "BatchGetLeads",
        ] {
            let (mut raw, message) = (raw.clone(), compressed(&empty));
            assert!(message.len() < 10_000);
            attacks.spawn(async move {
                let rpc = format!("LeadService/{rpc}");
                let answer = raw.ask(&rpc, Some("gzip"), tokio_stream::once(message)).await.unwrap();
                let rejection = rejection(&answer);
                rejection.is(Code::InvalidArgument, "INVALID_FIELD");
                assert_eq!(rejection.fields(), ["request"], "{rpc}");
                let text = rejection.status.message();
                assert!(text.contains("server.max_message_elements (100000)"), "{text}");
            });
        }
    }
    attacks.join_all().await;
    done.cancel();
    assert!(good.await.unwrap().unwrap() < Duration::from_secs(5));
    process.assert_bounded(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_never_completed_have_a_common_limit() {
    let process = Process::start("", "").await;
    let idle = process.memory("VmRSS");
    let done = CancellationToken::new();
    let good = good_client(process.address, done.clone());
    let mut attacks = tokio::task::JoinSet::new();
    for connection in 0..4 {
        let raw = Raw::connect(process.address).await;
        for _ in 0..50 {
            let mut raw = raw.clone();
            attacks.spawn(async move {
                // 3.9 MB without the last byte, which is never sent.
                let mut head = BytesMut::new();
                head.put_u8(0);
                head.put_u32(3_900_001);
                let body = tokio_stream::once(head.freeze())
                    .chain(tokio_stream::iter(std::iter::repeat_n(
                        Bytes::from(vec![connection; 39_000]),
                        100,
                    )))
                    .chain(tokio_stream::pending());
                raw.ask("LeadService/CreateLead", None, body).await
            });
        }
    }
    // All requests except those that fit into 64 MiB are rejected.
    let mut refused = 0;
    while refused < 200 - (64 << 20) / 3_900_000 - 1 {
        let answer = attacks.join_next().await.unwrap().unwrap().unwrap();
        rejection(&answer).is(Code::ResourceExhausted, "QUEUE_FULL");
        refused += 1;
    }
    // Small requests and a large one are still served.
    let mut client = LeadServiceClient::new(channel(process.address).await);
    let large = pb::BatchGetLeadsRequest {
        lead_ids: vec!["x".repeat(1_000_000)],
        ..Default::default()
    };
    seen(client.batch_get_leads(large).await.unwrap_err()).is(Code::InvalidArgument, "INVALID_FIELD");
    done.cancel();
    assert!(good.await.unwrap().unwrap() < Duration::from_secs(5));
    process.assert_bounded(idle);
}

/// A message may be complete while its request is not. Then it is not decoded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_messages_of_incomplete_requests_are_not_decoded() {
    let process = Process::start("", "").await;
    let idle = process.memory("VmRSS");
    let raw = Raw::connect(process.address).await;
    let message = compressed(&[0x0a, 0].repeat(99_999));
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (mut raw, message) = (raw.clone(), message.clone());
        open.spawn(async move {
            let body = tokio_stream::once(message).chain(tokio_stream::pending());
            raw.ask("LeadService/BatchCreateLeads", Some("gzip"), body).await
        });
    }
    // Requests on the connection are read in their order.
    let mut last = raw.clone();
    let message = tokio_stream::once(framed(&pb::GetQuotaRequest::default()));
    last.ask("QuotaService/GetQuota", None, message).await.unwrap();
    assert!(open.try_join_next().is_none());
    process.assert_bounded(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_rows_of_an_import_are_bounded_like_any_message() {
    let process = Process::start("", "").await;
    let idle = process.memory("VmRSS");
    let bomb = compressed(&vec![0; 500_000_000]);
    let create = pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            custom: (0..100_001).map(|i| (i.to_string(), Default::default())).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let many = pb::ImportLeadsRequest {
        sequence: 1,
        operation: Some(Operation::Create(create)),
    };
    let many = compressed(&many.encode_to_vec());
    for (message, text) in [
        (bomb, "after decompression than server.max_request_bytes (4194304)"),
        (many, "server.max_message_elements (100000)"),
    ] {
        let mut raw = Raw::connect(process.address).await;
        let body = tokio_stream::once(message);
        let answer = raw.ask("LeadService/ImportLeads", Some("gzip"), body).await.unwrap();
        let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
        let error = seen(Status::from_header_map(&trailers).unwrap());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert!(error.status.message().contains(text), "{:?}", error.status);
    }
    process.assert_bounded(idle);
}

async fn watch(channel: Channel, caller: Option<&str>) -> Result<Streaming<pb::WatchQuotaResponse>, Status> {
    let mut request = Request::new(pb::WatchQuotaRequest::default());
    if let Some(caller) = caller {
        request
            .metadata_mut()
            .insert("x-leadgate-caller", caller.parse().unwrap());
    }
    let mut watch = QuotaServiceClient::new(channel)
        .watch_quota(request)
        .await?
        .into_inner();
    watch.message().await?;
    Ok(watch)
}

/// Opens 1,000 streams. Those above the limit are rejected.
async fn flood(channel: &Channel, caller: Option<&'static str>) -> Vec<Streaming<pb::WatchQuotaResponse>> {
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        opening.spawn(watch(channel.clone(), caller));
    }
    let (mut open, mut refused) = (vec![], 0);
    while let Some(opened) = opening.join_next().await {
        match opened.unwrap() {
            Ok(watch) => open.push(watch),
            Err(status) => {
                seen(status).is(Code::ResourceExhausted, "QUEUE_FULL");
                refused += 1;
            }
        }
    }
    assert_eq!((open.len(), refused), (200, 800));
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_of_one_client_do_not_block_other_clients() {
    let world = World::start().await;
    let attacked = channel(world.address).await;
    let _unnamed = flood(&attacked, None).await;
    // Another caller without a name, and one with a name.
    watch(channel(world.address).await, None).await.unwrap();
    watch(attacked.clone(), Some("crm-sync")).await.unwrap();
    // A caller with a name has one limit for all of its connections.
    let named = flood(&channel(world.address).await, Some("greedy")).await;
    let refused = watch(channel(world.address).await, Some("greedy")).await;
    seen(refused.unwrap_err()).is(Code::ResourceExhausted, "QUEUE_FULL");
    watch(channel(world.address).await, Some("crm-sync")).await.unwrap();
    // Streams that have ended are not counted.
    drop(named);
    while watch(attacked.clone(), Some("greedy")).await.is_err() {
        tokio::task::yield_now().await;
    }
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 64];
    // A served HTTP/2 connection starts with SETTINGS.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .is_err()
        || stream.read(&mut bytes).await.unwrap_or(0) == 0
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_at_once_and_counted() {
    for setting in ["max_connections", "max_connections_per_address"] {
        // One connection is that of the client of the test.
        let world = World::with(Options::default(), &format!("[server]\n{setting} = 3")).await;
        let connect = || async { TcpStream::connect(world.address).await.unwrap() };
        let (mut one, mut other) = (connect().await, connect().await);
        assert!(!is_closed(&mut one).await && !is_closed(&mut other).await, "{setting}");
        world.until("leadgate_connections{state=\"open\"} 3").await;
        for _ in 0..5 {
            assert!(is_closed(&mut connect().await).await, "{setting}");
        }
        world
            .until(&format!(
                "leadgate_connections_refused_total{{limit=\"server.{setting}\"}} 5"
            ))
            .await;
        drop(one);
        while is_closed(&mut connect().await).await {
            tokio::task::yield_now().await;
        }
        world.create(lead("Asha")).await.unwrap();
    }
}

/// Waits until an open stream is closed, with a limit of one stream.
async fn until_a_stream_is_free(address: SocketAddr) {
    let other = async {
        while watch(channel(address).await, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), other).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_its_client_does_not_read_is_closed() {
    let settings = "[server]\nmax_streams = 1\nstream_read_timeout = \"1s\"";
    let world = World::with(Options::default(), settings).await;
    let message = pb::WatchQuotaRequest {
        interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
    };
    // A small window, so that it is full soon.
    let mut raw = Raw::with_window(world.address, 1_000).await;
    let body = tokio_stream::once(framed(&message));
    let unread = raw.ask("QuotaService/WatchQuota", None, body).await.unwrap();
    seen(watch(channel(world.address).await, None).await.unwrap_err()).is(Code::ResourceExhausted, "QUEUE_FULL");
    until_a_stream_is_free(world.address).await;
    // A client that reads later gets the error.
    let trailers = unread.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    let error = seen(Status::from_header_map(&trailers).unwrap());
    error.is(Code::ResourceExhausted, "QUEUE_FULL");
    assert!(
        error.status.message().contains("server.stream_read_timeout"),
        "{:?}",
        error.status
    );
}
