//! Crash test: clients send mutations of every kind, and repeat each one with its request id until its outcome is known. At
//! random times the gateway and the import command are killed, and the connections to LeadSquared are cut. At the end, each
//! acknowledged mutation was executed exactly once, and each mutation with an unknown outcome at most once.
//!
//! `LEADGATE_CRASH_SECONDS` sets the duration in seconds (default 90).

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "../it/account.rs"]
mod account;
#[path = "../it/certificates.rs"]
mod certificates;
#[path = "../it/harness.rs"]
mod harness;
mod kinds;
mod link;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadgate_simulator::{Latency, Options, Reshare};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use account::{Account, Process};
use harness::listen;
use kinds::{KINDS, Kind};
use link::Link;
use tally::{Mutation, Tally, UpstreamState};

/// The settings of the gateway. The rate limits are higher than the number of calls.
const SETTINGS: &str = "[log]\nfilter = \"warn\"\n[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\nwindow = \"50ms\"\n\
    [tenants.acme.upstream]\ntimeout = \"2s\"\nsettle_timeout = \"300ms\"\nvisible_after = \"100ms\"\n\
    [tenants.acme.batching]\ncreates = true\nupserts = true\nactivities = true\n\
    [tenants.acme.sharing]\ndefault_activity_type = 201\npoll_every = \"20ms\"\npoll_at_most = \"40ms\"\nsettle_after = \"50ms\"\n";

/// Pauses between two crashes, in milliseconds.
const PAUSES: std::ops::Range<u64> = 30..600;
/// Number of workers per kind of mutation.
const WORKERS: usize = 2;
/// The time within which all mutations must end after the last crash.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A random number in a range.
fn random(range: &std::ops::Range<u64>) -> u64 {
    let bits = Uuid::new_v4().as_u64_pair().0;
    range.start + bits % (range.end - range.start)
}

fn options() -> Options {
    let mut options = Options {
        share_polls: 0,
        share_delay: Duration::from_millis(30),
        // Makes a second grant visible.
        reshare: Reshare::Duplicate,
        delete_enabled: true,
        latency: Latency {
            min: Duration::from_millis(2),
            max: Duration::from_millis(30),
        },
        ..Options::default()
    };
    options.limits.calls = 0;
    options.limits.bulk = 0;
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_mutations_are_executed_exactly_once_despite_crashes() {
    LocalSet::new().run_until(crash()).await;
}

async fn crash() {
    let seconds = std::env::var("LEADGATE_CRASH_SECONDS").map_or(90, |text| text.parse().unwrap());
    let (listener, options) = (listen().await, options());
    let link = Link::to(listener.local_addr().unwrap()).await;
    let account = Arc::new(Account::behind(link.address, listener, options, SETTINGS).await);
    let process = Arc::new(account.process().await);
    let mut gateway = process.start();

    let stop = CancellationToken::new();
    let (mut workers, import_kills) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for kind in KINDS {
        for _ in 0..WORKERS {
            workers.spawn_local(work(kind, account.clone(), process.clone(), stop.clone()));
        }
    }
    workers.spawn_local(kinds::import(
        account.clone(),
        process.clone(),
        stop.clone(),
        import_kills.clone(),
    ));

    let (end, mut kills, mut cuts) = (Instant::now() + Duration::from_secs(seconds), 0, 0);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random(&PAUSES))).await;
        if random(&(0..2)) == 0 {
            gateway.kill().await.unwrap();
            gateway = process.start();
            process.channel().await;
            kills += 1;
        } else {
            link.cut();
            tokio::time::sleep(Duration::from_millis(random(&(0..200)))).await;
            link.restore();
            cuts += 1;
        }
    }
    stop.cancel();
    let ended = tokio::time::timeout(END_TIMEOUT, workers.join_all()).await;
    let ended = ended.expect("mutations do not end after the last crash");
    gateway.kill().await.unwrap();

    let upstream = UpstreamState::read(&account.simulator);
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for mutation in ended.into_iter().flatten() {
        tallies.entry(mutation.kind).or_default().count(&mutation, &upstream);
    }
    let killed = import_kills.load(Ordering::Relaxed);
    println!(
        "{seconds} s: {kills} kills of the gateway, {killed} kills of the import command, {cuts} cuts of the connections"
    );
    println!(
        "{:<20} {:>12} {:>8} {:>5} {:>6}",
        "kind", "acknowledged", "unknown", "lost", "twice"
    );
    for (kind, tally) in &tallies {
        let Tally {
            acknowledged,
            unknown,
            lost,
            twice,
        } = tally;
        println!(
            "{kind:<20} {acknowledged:>12} {unknown:>8} {:>5} {:>6}",
            lost.len(),
            twice.len()
        );
    }
    let sum = |of: fn(&Tally) -> usize| tallies.values().map(of).sum::<usize>();
    let (acknowledged, unknown) = (sum(|tally| tally.acknowledged), sum(|tally| tally.unknown));
    println!(
        "{:.2} % of {} outcomes are unknown",
        100.0 * unknown as f64 / (acknowledged + unknown) as f64,
        acknowledged + unknown
    );
    for (kind, tally) in &tallies {
        assert!(tally.lost.is_empty(), "{kind}: lost: {:?}", tally.lost);
        assert!(tally.twice.is_empty(), "{kind}: executed twice: {:?}", tally.twice);
        assert!(tally.acknowledged > 0, "{kind}: nothing was acknowledged");
    }
    assert!(
        kills > 0 && cuts > 0 && killed > 0,
        "{kills} kills of the gateway, {killed} kills of the import command, {cuts} cuts"
    );
}

/// Sends mutations of one kind until `stop` is cancelled.
async fn work(kind: Kind, account: Arc<Account>, process: Arc<Process>, stop: CancellationToken) -> Vec<Mutation> {
    let mut mutations = Vec::new();
    while !stop.is_cancelled() {
        mutations.extend(kinds::execute(kind, &account.simulator, &process).await);
    }
    mutations
}
