//! A gateway in a process of its own, and a good client beside the attacks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leadgate::grpc::pb;
use leadgate_simulator::{Latency, Options};
use pb::lead_service_client::LeadServiceClient;
use pb::quota_service_client::QuotaServiceClient;
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::account::{Account, Process};
use crate::harness::{by_id, channel, custom, text};

/// Maximum number of unary RPCs and of streams in progress.
const MAX_IN_FLIGHT: usize = 1_000;
const MAX_STREAMS: usize = 50;

/// A gateway in a process of its own.
pub struct Gateway {
    account: Account,
    process: Process,
    pub child: Child,
    lead: String,
}

impl Gateway {
    /// Starts a gateway with these additional settings of `[server]`.
    pub async fn start(server: &str) -> Self {
        let mut options = Options {
            latency: Latency {
                min: Duration::from_millis(20),
                max: Duration::from_millis(40),
            },
            ..Options::default()
        };
        (options.limits.calls, options.limits.bulk) = (0, 0);
        let settings =
            "[log]\nfilter = \"warn\"\n[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\nwindow = \"50ms\"\n";
        let account = Account::open(options, settings).await;
        let process = account.process().await;
        let limits = format!(
            "[server]\nmax_in_flight = {MAX_IN_FLIGHT}\nmax_in_flight_per_caller = {MAX_IN_FLIGHT}\n\
             max_streams = {MAX_STREAMS}\n{server}\n"
        );
        let file = std::fs::read_to_string(&process.path).unwrap();
        std::fs::write(&process.path, file.replacen("[server]\n", &limits, 1)).unwrap();
        let lead = account.simulator.insert_lead(&[("FirstName", "Asha")]);
        let child = process.start();
        let gateway = Self {
            account,
            process,
            child,
            lead,
        };
        let mut client = LeadServiceClient::new(gateway.process.channel().await);
        client
            .describe_lead_fields(pb::DescribeLeadFieldsRequest::default())
            .await
            .unwrap();
        gateway
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address
    }

    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.process.admin);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// The value of a counter or gauge; 0 if it is absent.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Waits until all slots of the quota are free, and checks that all permits are: as many RPCs and streams as allowed succeed
    /// at one time. Returns an error with what is not free.
    pub async fn all_free(&self) -> Result<(), String> {
        let is_free = |text: &str| {
            let used = text.lines().filter(|line| {
                line.starts_with("leadgate_quota_slots_used{") || line.starts_with("leadgate_quota_waiting{")
            });
            used.clone().count() > 0 && used.clone().all(|line| line.ends_with(" 0"))
        };
        let free = async {
            while !is_free(&self.metrics().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let limit = Duration::from_secs(20);
        if tokio::time::timeout(limit, free).await.is_err() {
            let text = self.metrics().await;
            let used = text
                .lines()
                .filter(|line| line.starts_with("leadgate_quota_slots_used"));
            return Err(format!("slots are in use: {:?}", used.collect::<Vec<_>>()));
        }
        // Permits are released when the gateway notices the end of a connection.
        let deadline = Instant::now() + limit;
        loop {
            match (self.burst().await, Instant::now() < deadline) {
                (Ok(()), _) => return Ok(()),
                (Err(error), false) => return Err(error),
                (Err(_), true) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Makes as many RPCs and streams as the gateway allows at one time.
    async fn burst(&self) -> Result<(), String> {
        let channel = channel(self.address()).await;
        let mut streams = Vec::new();
        for _ in 0..MAX_STREAMS {
            let mut client = QuotaServiceClient::new(channel.clone());
            let stream = client.watch_quota(pb::WatchQuotaRequest::default()).await;
            streams.push(stream.map_err(|error| format!("a stream failed: {error}"))?);
        }
        let mut rpcs = JoinSet::new();
        for number in 0..MAX_IN_FLIGHT {
            let mut client = LeadServiceClient::new(channel.clone());
            // Writes are not coalesced.
            let request = pb::UpdateLeadRequest {
                lead_id: self.lead.clone(),
                lead: Some(pb::LeadFields {
                    custom: custom(&[("mx_City", text(&number.to_string()))]),
                    ..Default::default()
                }),
                ..Default::default()
            };
            rpcs.spawn(async move { client.update_lead(request).await });
        }
        for rpc in rpcs.join_all().await {
            rpc.map_err(|error| format!("an RPC failed: {error}"))?;
        }
        Ok(())
    }

    pub async fn get_lead(&self) -> Result<(), tonic::Status> {
        let request = pb::GetLeadRequest {
            key: Some(by_id(&self.lead)),
            ..Default::default()
        };
        let mut client = LeadServiceClient::new(self.process.channel().await);
        client.get_lead(request).await.map(drop)
    }

    pub async fn stop(mut self) {
        self.child.kill().await.unwrap();
        drop(self.account);
    }
}

/// A client that calls a cheap RPC every 100 ms, in a thread of its own.
pub struct GoodClient {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Result<Duration, String>>>,
}

impl GoodClient {
    pub fn start(gateway: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(call(gateway, &stopped))
        });
        Self { stop, thread }
    }

    /// The duration of each call, or its error.
    pub fn stop(self) -> Vec<Result<Duration, String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn call(gateway: SocketAddr, stop: &AtomicBool) -> Vec<Result<Duration, String>> {
    let mut client = QuotaServiceClient::new(channel(gateway).await);
    // Not the time for the first call on a connection.
    let first = client.get_quota(pb::GetQuotaRequest::default()).await;
    if let Err(error) = first {
        return vec![Err(error.to_string())];
    }
    let mut calls = Vec::new();
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    while !stop.load(Ordering::Relaxed) {
        interval.tick().await;
        let begin = Instant::now();
        let result = client.get_quota(pb::GetQuotaRequest::default()).await;
        calls.push(result.map(|_| begin.elapsed()).map_err(|error| error.to_string()));
    }
    calls
}
