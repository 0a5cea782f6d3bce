//! Round trips to the database: for each mutation, and while replicas are idle.
//!
//! `cargo bench --bench cluster` prints the tables; with `-- --write docs/benchmarks` it writes `docs/benchmarks/cluster.md`. With
//! `-- --quick` there are fewer and shorter measurements.

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
use std::path::Path;
use std::time::{Duration, Instant};

use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use replicas::{Database, Replicas, median};
use tonic::transport::Channel;
use uuid::Uuid;

/// The default of `cluster.lease`.
const LEASE: Duration = Duration::from_secs(10);
/// The time after the acquisition until the replicas are idle: the windows are free, the metadata is cached, and the state of each
/// quota is saved.
const SETTLED_AFTER: Duration = Duration::from_secs(40);
const ROUNDS: usize = 5;
/// The duration of one measurement of idle replicas.
const IDLE: Duration = Duration::from_secs(10);
/// Mutations in one measurement: one after the other, and with a pause before each.
const BUSY: u32 = 200;
const PAUSED: u32 = 5;
const PAUSE: Duration = Duration::from_millis(1500);

/// Round trips per second of each idle replica.
async fn idle(database: &Database, replicas: usize, tenants: usize, rounds: usize) -> f64 {
    let running = Replicas::start(database, replicas, tenants, LEASE).await;
    tokio::time::sleep(SETTLED_AFTER).await;
    let epochs = || running.sql(database, "SELECT sum(epoch) FROM tenant_lease");
    // A measurement is repeated if tenants have moved to the replicas that are preferred for them.
    let rate = loop {
        let before = epochs();
        let mut rates = Vec::new();
        for _ in 0..rounds {
            rates.push(rate(database, IDLE).await / replicas as f64);
        }
        if epochs() == before {
            break median(rates);
        }
        tokio::time::sleep(SETTLED_AFTER).await;
    };
    running.stop().await;
    rate
}

/// Round trips per second of all replicas.
async fn rate(database: &Database, duration: Duration) -> f64 {
    let (began, before) = (Instant::now(), database.round_trips());
    tokio::time::sleep(duration).await;
    (database.round_trips() - before) as f64 / began.elapsed().as_secs_f64()
}

async fn idle_table(database: &Database) -> String {
    let (counts, rounds): (&[usize], usize) = match replicas::is_quick() {
        true => (&[1, 4], 1),
        false => (&[1, 2, 4, 8], ROUNDS),
    };
    let mut table = String::from("| tenants |");
    for replicas in counts {
        let _ = write!(table, " {replicas} replica{} |", if *replicas == 1 { "" } else { "s" });
    }
    let _ = writeln!(table, "\n|---|{}", "---|".repeat(counts.len()));
    for tenants in [1, 10, 100] {
        let _ = write!(table, "| {tenants} |");
        for replicas in counts {
            let _ = write!(table, " {:.2} |", idle(database, *replicas, tenants, rounds).await);
        }
        table.push('\n');
    }
    table
}

async fn mutate(client: &mut LeadServiceClient<Channel>, lead_id: &str) {
    let request = pb::UpdateLeadRequest {
        lead_id: lead_id.to_owned(),
        lead: Some(pb::LeadFields {
            first_name: Some(Uuid::new_v4().to_string()),
            ..Default::default()
        }),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    client.update_lead(request).await.unwrap();
}

/// Round trips for each mutation, without those of an idle replica.
async fn per_mutation(
    database: &Database,
    client: &mut LeadServiceClient<Channel>,
    lead_id: &str,
    count: u32,
    pause: Duration,
) -> f64 {
    let idle = rate(database, IDLE).await;
    let (began, before) = (Instant::now(), database.round_trips());
    for _ in 0..count {
        tokio::time::sleep(pause).await;
        mutate(client, lead_id).await;
    }
    // The state of the quota is saved after a mutation, too, at most once in a window.
    let found = (database.round_trips() - before) as f64 - idle * began.elapsed().as_secs_f64();
    found / f64::from(count)
}

async fn mutation_table(database: &Database) -> String {
    let rounds = if replicas::is_quick() { 1 } else { ROUNDS };
    let running = Replicas::start(database, 2, 1, LEASE).await;
    tokio::time::sleep(SETTLED_AFTER).await;
    let lead_id = running.simulator.insert_lead(&[("FirstName", "Asha")]);
    let owner = usize::from(!running.owns(database, 0, "t0"));
    let mut table = String::from("| mutations | at the owner | through another replica |\n|---|---|---|\n");
    for (name, count, pause) in [
        ("one after the other", BUSY, Duration::ZERO),
        ("with a pause of 1.5 s before each", PAUSED, PAUSE),
    ] {
        let _ = write!(table, "| {name} |");
        for replica in [owner, 1 - owner] {
            let address = running.addresses[replica].0;
            let mut client = LeadServiceClient::connect(format!("http://{address}")).await.unwrap();
            mutate(&mut client, &lead_id).await;
            let mut found = Vec::new();
            for _ in 0..rounds {
                found.push(per_mutation(database, &mut client, &lead_id, count, pause).await);
            }
            let _ = write!(table, " {:.2} |", median(found));
        }
        table.push('\n');
    }
    running.stop().await;
    table
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let database = Database::start().await;
    let mutations = mutation_table(&database).await;
    println!("{mutations}");
    let idle = idle_table(&database).await;
    println!("{idle}");
    if let Some(target) = replicas::target() {
        let text = include_str!("cluster.md")
            .replace("{mutations}", &mutations)
            .replace("{idle}", &idle)
            .replace("{machine}", &replicas::machine());
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("cluster.md"), text).unwrap();
    }
}
