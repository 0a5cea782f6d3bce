//! Good clients of the REST listener and of gRPC, each with one request every 100 ms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use tokio::net::TcpStream;

use super::Seen;
use super::gateway::{GOOD, RestGateway, keys};
use super::inputs::{exchange, get};
use crate::harness::{by_id, channel};

const INTERVAL: Duration = Duration::from_millis(100);

type Calls = Vec<Result<Duration, String>>;

/// The clients, each in a thread of its own.
pub struct GoodClients {
    stop: Arc<AtomicBool>,
    rest: JoinHandle<Calls>,
    grpc: JoinHandle<Calls>,
}

impl GoodClients {
    pub fn start(gateway: &RestGateway) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let request = get(&format!("id={}&{}", gateway.lead, keys(GOOD)), "");
        let (address, stopped) = (gateway.rest, stop.clone());
        let rest = std::thread::spawn(move || block_on(rest(address, request, &stopped)));
        let (address, lead, stopped) = (gateway.grpc(), gateway.lead.clone(), stop.clone());
        let grpc = std::thread::spawn(move || block_on(grpc(address, lead, &stopped)));
        Self { stop, rest, grpc }
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = Seen::default();
        for (thread, client, latencies) in [(self.rest, "REST", &mut seen.rest), (self.grpc, "gRPC", &mut seen.grpc)] {
            // The first call of a connection is slower.
            for call in thread.join().unwrap().into_iter().skip(1) {
                match call {
                    Ok(latency) => latencies.push(latency),
                    Err(error) => seen.failed.push(format!("{client}: {error}")),
                }
            }
        }
        seen
    }
}

fn block_on(calls: impl Future<Output = Calls>) -> Calls {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(calls)
}

async fn rest(address: SocketAddr, request: Vec<u8>, stop: &AtomicBool) -> Calls {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut calls = Vec::new();
    let mut interval = tokio::time::interval(INTERVAL);
    while !stop.load(Ordering::Relaxed) {
        interval.tick().await;
        let began = Instant::now();
        let outcome = exchange(&mut stream, &request).await;
        calls.push(match outcome.as_str() {
            "200" => Ok(began.elapsed()),
            _ => Err(outcome),
        });
    }
    calls
}

async fn grpc(address: SocketAddr, lead: String, stop: &AtomicBool) -> Calls {
    let mut client = LeadServiceClient::new(channel(address).await);
    let mut calls = Vec::new();
    let mut interval = tokio::time::interval(INTERVAL);
    while !stop.load(Ordering::Relaxed) {
        interval.tick().await;
        let request = pb::GetLeadRequest {
            key: Some(by_id(&lead)),
            ..Default::default()
        };
        let began = Instant::now();
        let result = client.get_lead(request).await;
        calls.push(result.map(|_| began.elapsed()).map_err(|error| error.to_string()));
    }
    calls
}
