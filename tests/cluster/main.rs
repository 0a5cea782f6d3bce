//! Several replicas as processes, with a real database and a simulated account that counts the calls of each window. In each test,
//! clients call through all replicas, and something fails.
//!
//! In every test: no window has more calls than the limit, no mutation is executed twice, no acknowledged mutation is missing, and
//! all calls end. `LEADGATE_CLUSTER_LOGS` names a folder for the logs of the replicas.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod load;
mod moves;
mod proxy;
mod replicas;
mod rest;
#[path = "../postgres/mod.rs"]
#[allow(dead_code, reason = "the tests of the store use all of it")]
mod server;

use std::sync::Arc;
use std::time::Duration;

use leadgate::grpc::pb::lead_service_client::LeadServiceClient;
use leadgate_simulator::Latency;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use load::{Load, LoadPlan};
use proxy::Proxy;
use replicas::{CALLS, Cluster, Database, LEASE, Plan, TAKEOVER, WINDOW};
use rest::RestLoad;
use server::Server;

/// The maximum number of tests at one time: each of them starts several processes.
static PLACES: Semaphore = Semaphore::const_new(2);

async fn place() -> SemaphorePermit<'static> {
    PLACES.acquire().await.unwrap()
}

/// Three replicas with a database of their own on the shared server.
async fn three() -> (Arc<Cluster>, &'static Server) {
    let server = Server::shared();
    let name = server.create_database();
    let database = Database { server, name: &name };
    (Cluster::start(3, database, &Plan::default()).await, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saturated_replicas_use_each_window_and_exceed_none() {
    let _place = place().await;
    let (cluster, _) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    load.runs_for(WINDOW * 60).await;
    let figures = load.end("saturated", None).await;
    figures.no_failures().utilization_is_at_least(0.97);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_call() {
    let _place = place().await;
    let (cluster, _) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    let begun = Instant::now();
    for replica in &cluster.replicas {
        replica.terminate().await;
        replica.start();
        replica.healthy().await;
        load.runs_for(WINDOW * 3).await;
    }
    let figures = load.end("rolling restart", Some(begun)).await;
    figures.no_failures().utilization_is_at_least(0.9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_owner_is_replaced() {
    let _place = place().await;
    let (cluster, server) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    let owner = cluster.owner(server).await;
    cluster.replicas[owner].kill().await;
    let killed = Instant::now();
    load.runs_for(TAKEOVER + WINDOW * 3).await;
    let figures = load.end("owner killed", Some(killed)).await;
    // Only the calls of clients that were connected to it.
    figures
        .gap_is_at_most(TAKEOVER)
        .failures_are_at_most(LoadPlan::default().clients);
    assert_ne!(cluster.owner(server).await, owner);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_the_rest_listener_go_on_after_the_owner_is_killed() {
    let _place = place().await;
    let server = Server::shared();
    let name = server.create_database();
    let plan = Plan {
        rest: rest::settings(),
        ..Plan::default()
    };
    let cluster = Cluster::start(3, Database { server, name: &name }, &plan).await;
    // Calls are in progress at any time.
    let latency = Duration::from_millis(300);
    cluster.simulator.set_options(|options| {
        options.latency = Latency {
            min: latency,
            max: latency,
        };
    });
    let owner = cluster.owner(server).await;
    let others: Vec<usize> = (0..3).filter(|number| *number != owner).collect();
    let load = RestLoad::start(&cluster, &others, 12);
    tokio::time::sleep(WINDOW * 2).await;
    cluster.replicas[owner].kill().await;
    tokio::time::sleep(TAKEOVER + WINDOW).await;
    let (reads, writes) = load.end().await;
    cluster.keep_logs("rest owner killed");
    let count = |status: u16| writes.iter().filter(|write| write.status == status).count();
    let (executed, uncertain) = (count(200), count(409));
    println!(
        "rest owner killed: {} reads, {executed} writes, {uncertain} uncertain",
        reads.len()
    );
    assert!(reads.iter().all(|read| read.status == 200));
    assert_eq!(executed + uncertain, writes.len());
    // At most one of each client.
    assert!((1..=6).contains(&uncertain), "{uncertain}");
    assert!(reads.len() > 20 && executed > 20, "{} {executed}", reads.len());
    assert!(cluster.worst_window() <= CALLS);
    assert_ne!(cluster.owner(server).await, owner);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_owner_is_replaced_and_sends_nothing_when_it_continues() {
    let _place = place().await;
    let (cluster, server) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    let owner = cluster.owner(server).await;
    cluster.replicas[owner].freeze();
    let frozen = Instant::now();
    load.runs_for(LEASE * 3).await;
    cluster.replicas[owner].unfreeze();
    load.runs_for(WINDOW * 6).await;
    let figures = load.end("owner frozen", Some(frozen)).await;
    figures
        .gap_is_at_most(TAKEOVER)
        .failures_are_at_most(LoadPlan::default().clients);
    assert_ne!(cluster.owner(server).await, owner);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_after_an_outage_of_the_database() {
    let _place = place().await;
    let server = Server::start("");
    let name = server.create_database();
    let database = Database {
        server: &server,
        name: &name,
    };
    let cluster = Cluster::start(3, database, &Plan::default()).await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    server.stop();
    load.runs_for(LEASE * 2).await;
    server.restart();
    let restarted = Instant::now();
    load.runs_for(TAKEOVER + WINDOW * 3).await;
    let figures = load.end("database stopped", Some(restarted)).await;
    figures.no_failures().gap_is_at_most(TAKEOVER);
}

/// What happens to the owner while the database loses commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// The owner stays, and the failover is shorter than the lease.
    Commits,
    /// The owner dies together with the database.
    Owner,
    /// The owner hands the tenant over, and the database forgets it.
    Handover,
}

async fn promotion(lost: Lost) {
    let _place = place().await;
    let primary = Server::start("");
    let name = primary.create_database();
    let standby = primary.standby();
    let plan = Plan {
        further_hosts: format!(",127.0.0.1:{}", standby.port),
        ..Plan::default()
    };
    let database = Database {
        server: &primary,
        name: &name,
    };
    let cluster = Cluster::start(3, database, &plan).await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    let owner = cluster.owner(&primary).await;
    let epoch = cluster.epoch(&primary);
    // From here on, the standby receives nothing.
    standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    standby.sql("postgres", "SELECT pg_reload_conf()");
    if lost == Lost::Handover {
        cluster.replicas[owner].terminate().await;
        assert_ne!(cluster.owner(&primary).await, owner);
    }
    load.runs_for(WINDOW * 3).await;
    if lost == Lost::Owner {
        cluster.replicas[owner].kill().await;
    }
    primary.stop();
    assert_eq!(cluster.epoch(&standby), epoch);
    standby.promote();
    let promoted = Instant::now();
    load.runs_for(TAKEOVER + LEASE + WINDOW * 3).await;
    let mut figures = load
        .end(&format!("standby promoted, lost {lost:?}"), Some(promoted))
        .await;
    figures.gap_is_at_most(TAKEOVER + LEASE);
    // A call whose record may be lost is uncertain, until its repetition looks it up.
    figures.failures.retain(|failure| !failure.contains("Aborted"));
    // Only the calls of clients that were connected to the owner.
    let clients = if lost == Lost::Owner {
        LoadPlan::default().clients
    } else {
        0
    };
    figures.failures_are_at_most(clients);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_after_a_promotion_that_loses_commits() {
    promotion(Lost::Commits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_after_a_promotion_if_the_owner_dies_with_the_database() {
    promotion(Lost::Owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_after_a_promotion_that_loses_a_handover() {
    promotion(Lost::Handover).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_without_the_database_is_replaced_and_forwards() {
    let _place = place().await;
    let (cluster, server) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    let owner = cluster.owner(server).await;
    cluster.replicas[owner].database.cut();
    let cut = Instant::now();
    load.runs_for(TAKEOVER + WINDOW * 3).await;
    assert_ne!(cluster.owner(server).await, owner);
    // It forwards, although it does not reach the database.
    let created = load::create("Forwarded", String::new(), false);
    let mut client = LeadServiceClient::new(cluster.replicas[owner].channel(0));
    client.create_lead(load::request(created)).await.unwrap();
    cluster.replicas[owner].database.restore();
    load.runs_for(WINDOW * 3).await;
    load.end("database cut off", Some(cut))
        .await
        .no_failures()
        .gap_is_at_most(TAKEOVER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_a_stalled_uplink_do_not_arrive_after_the_takeover() {
    let _place = place().await;
    let server = Server::shared();
    let name = server.create_database();
    let plan = Plan {
        has_small_uplink: true,
        ..Plan::default()
    };
    let cluster = Cluster::start(3, Database { server, name: &name }, &plan).await;
    // The requests must not fit into the buffer.
    let large = LoadPlan {
        is_large: true,
        has_readers: false,
        ..LoadPlan::default()
    };
    let load = Load::start(&cluster, large).await;
    let owner = cluster.owner(server).await;
    cluster.replicas[owner].uplink.stall();
    load.runs_for(WINDOW * 9 / 10).await;
    cluster.replicas[owner].kill().await;
    let killed = Instant::now();
    // The next owner sends as much as it may when the old bytes arrive.
    load.runs_for(TAKEOVER + WINDOW * 2).await;
    cluster.replicas[owner].uplink.restore();
    load.runs_for(WINDOW * 3).await;
    load.end("uplink stalled", Some(killed)).await.gap_is_at_most(TAKEOVER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handover_counts_the_calls_in_progress() {
    let _place = place().await;
    let (cluster, server) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    let owner = &cluster.replicas[cluster.owner(server).await];
    let begun = Instant::now();
    owner.uplink.stall();
    load.runs_for(WINDOW * 3 / 10).await;
    // The calls end after the handover, which waits for them for a second, and before their timeout.
    let restored = async {
        load.runs_for(WINDOW * 3 / 2).await;
        owner.uplink.restore();
    };
    tokio::join!(owner.terminate(), restored);
    load.runs_for(WINDOW * 3).await;
    let figures = load.end("handover with calls in progress", Some(begun)).await;
    figures.no_failures().gap_is_at_most(TAKEOVER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_while_replicas_do_not_reach_each_other() {
    let _place = place().await;
    let (cluster, _) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    for replica in &cluster.replicas {
        replica.peers.cut();
    }
    load.runs_for(LEASE * 2).await;
    for replica in &cluster.replicas {
        replica.peers.restore();
    }
    let restored = Instant::now();
    load.runs_for(WINDOW * 4).await;
    load.end("peers cut off", Some(restored))
        .await
        .no_failures()
        .gap_is_at_most(WINDOW * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_all_killed_go_on_after_their_start() {
    let _place = place().await;
    let (cluster, _) = three().await;
    let load = Load::start(&cluster, LoadPlan::default()).await;
    for replica in &cluster.replicas {
        replica.kill().await;
    }
    for replica in &cluster.replicas {
        replica.start();
    }
    let started = Instant::now();
    load.runs_for(TAKEOVER + WINDOW * 4).await;
    // The processes need a moment to start.
    load.end("all killed", Some(started))
        .await
        .gap_is_at_most(TAKEOVER + Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_spread_over_replicas_that_are_added() {
    let _place = place().await;
    let server = Server::shared();
    let name = server.create_database();
    let plan = Plan {
        server_settings: "max_connection_age = \"2s\"".to_owned(),
        ..Plan::default()
    };
    let cluster = Cluster::prepare(3, Database { server, name: &name }, &plan).await;
    let addresses: Vec<_> = cluster.replicas.iter().map(|replica| replica.address).collect();
    cluster.replicas[0].start();
    cluster.replicas[0].healthy().await;
    let proxy = Proxy::balancing(&addresses, 1).await;
    let mut clients = moves::clients_of(proxy.address, 30).await;
    let accepted = async {
        while proxy.connections() != [30, 0, 0] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), accepted).await.unwrap();
    for replica in &cluster.replicas[1..] {
        replica.start();
        replica.healthy().await;
    }
    proxy.use_targets(&addresses);
    // Each connection is replaced within 2.2 s, when its client calls.
    clients.call_for(Duration::from_secs(8)).await;
    let connections = proxy.connections();
    println!(
        "scaled from 1 to 3: connections {connections:?}, {} calls",
        clients.calls()
    );
    assert!(
        connections.iter().all(|count| (6..=15).contains(count)),
        "{connections:?}"
    );
    assert!(clients.failures().is_empty(), "{:?}", clients.failures());
}
