//! The latency that forwarding adds to an RPC: the same RPC at the owner of the tenant, and through another replica.
//!
//! `cargo bench --bench forwarding` prints the table; with `-- --write docs/benchmarks` it writes `docs/benchmarks/forwarding.md`. With
//! `-- --quick` the rounds are short.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs
)]

mod replicas;
#[path = "../tests/postgres/mod.rs"]
mod server;

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use pb::quota_service_client::QuotaServiceClient;
use replicas::{Database, Replicas, median};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::{Channel, Endpoint};

/// Calls a second, and the duration of one measurement.
const RATE: u32 = 200;
const MEASURED: Duration = Duration::from_secs(5);
const ROUNDS: usize = 15;
/// The order of the measurements in a round comes from this generator (xorshift).
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy)]
enum Rpc {
    Quota,
    Fields,
}

/// The clients of one replica.
#[derive(Clone)]
struct Clients {
    quota: QuotaServiceClient<Channel>,
    leads: LeadServiceClient<Channel>,
}

impl Clients {
    async fn new(address: SocketAddr) -> Self {
        let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
        let channel = endpoint.tcp_nodelay(true).connect().await.unwrap();
        Self {
            quota: QuotaServiceClient::new(channel.clone()),
            leads: LeadServiceClient::new(channel),
        }
    }

    async fn call(&mut self, rpc: Rpc) {
        match rpc {
            Rpc::Quota => drop(self.quota.get_quota(pb::GetQuotaRequest {}).await.unwrap()),
            Rpc::Fields => drop(
                self.leads
                    .describe_lead_fields(pb::DescribeLeadFieldsRequest::default())
                    .await
                    .unwrap(),
            ),
        }
    }

    /// The p50 and the p99 of the latency in microseconds.
    async fn measure(&self, rpc: Rpc, duration: Duration) -> [f64; 2] {
        let mut ticks = interval(Duration::from_secs(1) / RATE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        let count = (duration.as_secs_f64() * f64::from(RATE)) as usize;
        for _ in 0..count {
            ticks.tick().await;
            let mut clients = self.clone();
            calls.spawn(async move {
                let began = Instant::now();
                clients.call(rpc).await;
                began.elapsed().as_secs_f64() * 1e6
            });
        }
        let mut times = calls.join_all().await;
        times.sort_by(f64::total_cmp);
        [times[count / 2], times[count * 99 / 100]]
    }
}

/// Shuffles by a fixed generator.
fn shuffle<T>(values: &mut [T], state: &mut u64) {
    for i in (1..values.len()).rev() {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        values.swap(i, (*state % (i as u64 + 1)) as usize);
    }
}

async fn table() -> String {
    let (measured, rounds) = match replicas::is_quick() {
        true => (Duration::from_secs(1), 5),
        false => (MEASURED, ROUNDS),
    };
    let database = Database::start().await;
    let replicas = Replicas::start(&database, 2, 1, Duration::from_secs(10)).await;
    let clients = [
        Clients::new(replicas.addresses[0].0).await,
        Clients::new(replicas.addresses[1].0).await,
    ];
    let owner = || usize::from(!replicas.owns(&database, 0, "t0"));
    let rpcs = [("GetQuota", Rpc::Quota), ("DescribeLeadFields", Rpc::Fields)];
    // By RPC, and then directly and forwarded: the figures of each round.
    let mut times = vec![[Vec::new(), Vec::new()]; rpcs.len()];
    let mut state = SEED;
    // The first round only warms up.
    let mut round = 0;
    while round <= rounds {
        let mut order: Vec<(usize, usize)> = (0..rpcs.len()).flat_map(|rpc| [(rpc, 0), (rpc, 1)]).collect();
        shuffle(&mut order, &mut state);
        let (before, mut found) = (owner(), Vec::new());
        for (rpc, hops) in order {
            let client = &clients[before ^ hops];
            found.push((rpc, hops, client.measure(rpcs[rpc].1, measured).await));
        }
        // A round in which the tenant has moved to its preferred replica is repeated.
        if owner() != before {
            continue;
        }
        if round > 0 {
            for (rpc, hops, found) in found {
                times[rpc][hops].push(found);
            }
        }
        round += 1;
    }
    replicas.stop().await;
    let mut table =
        String::from("| RPC | p50 at the owner | added | p99 at the owner | added |\n|---|---|---|---|---|\n");
    for ((name, _), [direct, forwarded]) in rpcs.iter().zip(&times) {
        let _ = write!(table, "| `{name}` |");
        for at in 0..2 {
            let own = median(direct.iter().map(|found| found[at]).collect());
            let pairs = direct.iter().zip(forwarded);
            let added = median(pairs.map(|(direct, forwarded)| forwarded[at] - direct[at]).collect());
            let _ = write!(table, " {:.2} ms | {:+.2} ms |", own / 1e3, added / 1e3);
        }
        table.push('\n');
    }
    table
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let table = table().await;
    println!("{table}");
    if let Some(target) = replicas::target() {
        let text = include_str!("forwarding.md")
            .replace("{table}", &table)
            .replace("{machine}", &replicas::machine());
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("forwarding.md"), text).unwrap();
    }
}
