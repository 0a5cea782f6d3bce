//! Clients that misbehave. Each attack is bounded in time and in the number of connections.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::raw::{self, RawConnection};
use crate::harness::{Raw, by_id, channel, framed, grpc};

const GET_QUOTA: &str = "/leadgate.v1.QuotaService/GetQuota";
const WATCH_QUOTA: &str = "/leadgate.v1.QuotaService/WatchQuota";
const DESCRIBE: &str = "/leadgate.v1.LeadService/DescribeLeadFields";
const EXPORT: &str = "/leadgate.v1.LeadService/ExportLeads";

/// What a client does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Connections that send nothing, or nothing after the preface.
    IdleConnections,
    /// Headers that arrive byte by byte.
    SlowHeaders,
    /// Requests with 100 kB of metadata.
    LargeMetadata,
    /// HEADERS and RST_STREAM as fast as possible.
    ResetFlood,
    /// Calls that are cancelled at once.
    CancelledCalls,
    /// Compressed requests that are much longer after decompression.
    GzipBomb,
    /// Responses that are never read.
    UnreadResponses,
}

/// The extent of an attack.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub duration: Duration,
    /// Number of connections of attacks that need many.
    pub connections: usize,
    /// Number of cancelled calls.
    pub calls: usize,
}

pub const ATTACKS: [Attack; 7] = [
    Attack::UnreadResponses,
    Attack::IdleConnections,
    Attack::SlowHeaders,
    Attack::LargeMetadata,
    Attack::ResetFlood,
    Attack::CancelledCalls,
    Attack::GzipBomb,
];

impl Attack {
    /// Attacks a gateway with one tenant, and then closes all connections.
    pub async fn run(self, gateway: SocketAddr, extent: Extent) {
        let end = Instant::now() + extent.duration;
        let running = async {
            match self {
                Self::IdleConnections => idle_connections(gateway, extent.connections, end).await,
                Self::SlowHeaders => slow_headers(gateway, extent.connections / 5, end).await,
                Self::LargeMetadata => large_metadata(gateway).await,
                Self::ResetFlood => reset_flood(gateway).await,
                Self::CancelledCalls => cancelled_calls(gateway, extent.calls, end).await,
                Self::GzipBomb => gzip_bomb(gateway).await,
                Self::UnreadResponses => unread_responses(gateway, extent.connections / 20, end).await,
            }
        };
        // Some go on until they are stopped.
        let _ = tokio::time::timeout_at(end, running).await;
    }
}

async fn idle_connections(gateway: SocketAddr, count: usize, end: Instant) {
    let (mut silent, mut idle) = (Vec::new(), Vec::new());
    for number in 0..count {
        match number % 2 {
            0 => silent.extend(tokio::net::TcpStream::connect(gateway).await),
            _ => idle.extend(RawConnection::open(gateway).await),
        }
    }
    tokio::time::sleep_until(end).await;
}

async fn slow_headers(gateway: SocketAddr, count: usize, end: Instant) {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(async move {
            while Instant::now() < end {
                let Ok(mut connection) = RawConnection::open(gateway).await else {
                    continue;
                };
                let headers = raw::frame(raw::HEADERS, raw::END_HEADERS, 1, &raw::headers(GET_QUOTA));
                for byte in headers {
                    if connection.write(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        });
    }
    clients.join_all().await;
}

async fn large_metadata(gateway: SocketAddr) {
    let connection = Raw::connect(gateway).await;
    let value = "v".repeat(100_000);
    loop {
        let request = grpc(GET_QUOTA).header("x-large", &value);
        connection.ask(request, framed(&pb::GetQuotaRequest::default())).await;
    }
}

async fn reset_flood(gateway: SocketAddr) {
    const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
    let headers = raw::headers(GET_QUOTA);
    loop {
        let Ok(mut connection) = RawConnection::open(gateway).await else {
            tokio::task::yield_now().await;
            continue;
        };
        for batch in 0.. {
            let streams = (0..100).map(|number| 1 + 2 * (batch * 100 + number));
            let frames = streams.flat_map(|stream| {
                let open = raw::frame(raw::HEADERS, raw::END_HEADERS, stream, &headers);
                [open, raw::frame(raw::RST_STREAM, 0, stream, &CANCEL)].concat()
            });
            let frames: Vec<u8> = frames.collect();
            if connection.write(&frames).await.is_err() {
                break;
            }
        }
    }
}

async fn cancelled_calls(gateway: SocketAddr, count: usize, end: Instant) {
    const AT_ONE_TIME: usize = 50;
    let client = LeadServiceClient::new(channel(gateway).await);
    let mut clients = JoinSet::new();
    for client_number in 0..AT_ONE_TIME {
        let mut client = client.clone();
        clients.spawn(async move {
            for number in 0..count / AT_ONE_TIME {
                if Instant::now() >= end {
                    return;
                }
                let id = format!("{client_number}-{number}");
                let request = pb::GetLeadRequest {
                    key: Some(by_id(&id)),
                    ..Default::default()
                };
                let after = Duration::from_micros(number as u64 * 37 % 3_000);
                let _ = tokio::time::timeout(after, client.get_lead(request)).await;
            }
        });
    }
    clients.join_all().await;
}

/// A request that has 64 MiB after decompression.
pub fn gzip_bomb_message() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..64 {
        encoder.write_all(&zeros).unwrap();
    }
    let body = encoder.finish().unwrap();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], length.as_slice(), &body].concat()
}

async fn gzip_bomb(gateway: SocketAddr) {
    let message = gzip_bomb_message();
    let connection = Raw::connect(gateway).await;
    loop {
        let request = grpc(GET_QUOTA).header("grpc-encoding", "gzip");
        connection.ask(request, message.clone()).await;
    }
}

async fn unread_responses(gateway: SocketAddr, count: usize, end: Instant) {
    let mut connections = Vec::new();
    let export = pb::ExportLeadsRequest::default();
    for number in 0..count {
        // With a large window, the client reads no bytes. With a small one, it allows none.
        let window = if number % 2 == 0 { 1 << 30 } else { 0 };
        let Ok(mut connection) = RawConnection::with_window(gateway, window).await else {
            continue;
        };
        let mut requests = Vec::new();
        // Together, the connections have fewer RPCs than the gateway allows: others must not be rejected.
        for stream in 0..18 {
            let (path, message) = match stream {
                0 => (WATCH_QUOTA, framed(&pb::WatchQuotaRequest::default())),
                1 => (EXPORT, framed(&export)),
                2..6 => (GET_QUOTA, framed(&pb::GetQuotaRequest::default())),
                _ => (DESCRIBE, framed(&pb::DescribeLeadFieldsRequest::default())),
            };
            requests.extend(raw::rpc(1 + 2 * stream, path, &message));
        }
        let _ = tokio::time::timeout_at(end, connection.stream.write_all(&requests)).await;
        connections.push(connection);
    }
    tokio::time::sleep_until(end).await;
}
