//! Whether a critical caller is served beside a flood of another caller, with a store that needs milliseconds for each sync.
//!
//! `cargo bench --bench store` prints the table; with `-- --write docs/benchmarks` it writes `docs/benchmarks/store.md`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod machine;

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Latency, Options, Simulator};
use pb::lead_service_client::LeadServiceClient;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use uuid::Uuid;

/// What each sync takes.
const SYNCS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(2), Duration::from_millis(5)];
/// Creates a second of the flood, and the deadline of each.
const FLOOD: u32 = 300;
const FLOOD_TIMEOUT: Duration = Duration::from_secs(2);
/// The calls of the critical caller, one a second, and the deadline of each.
const CALLS: u32 = 60;
const TIMEOUT: Duration = Duration::from_secs(5);
const LATENCY: Duration = Duration::from_millis(5);

/// A library that makes each sync take longer.
const SLOW_SYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int slow(const char *name, int fd) {
    const char *micros = getenv("SLOW_SYNC_MICROS");
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (micros) usleep((useconds_t)atoi(micros));
    return sync(fd);
}
int fsync(int fd) { return slow("fsync", fd); }
int fdatasync(int fd) { return slow("fdatasync", fd); }
"#;

/// What the critical caller saw.
struct Seen {
    served: usize,
    /// How long each call took, and how much of it was the wait for a slot of the quota.
    took: Vec<(Duration, Duration)>,
    flood_served: usize,
}

fn compile(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("slow_sync.c"), folder.join("slow_sync.so"));
    std::fs::write(&source, SLOW_SYNC).unwrap();
    let compiled = std::process::Command::new("gcc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(compiled.expect("gcc is needed").success());
    library
}

fn start(folder: &Path, settings: &str, library: &Path, sync: Duration) -> Child {
    let path = folder.join("leadgate.toml");
    std::fs::write(&path, settings).unwrap();
    Command::new(env!("CARGO_BIN_EXE_leadgate"))
        .args(["serve", "--config", path.to_str().unwrap()])
        .env("LD_PRELOAD", library)
        .env("SLOW_SYNC_MICROS", sync.as_micros().to_string())
        .stderr(std::fs::File::create(folder.join("log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn create(caller: &str, class: &str, timeout: Duration) -> Request<pb::CreateLeadRequest> {
    let id = Uuid::new_v4();
    let mut request = Request::new(pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            email_address: Some(format!("{}@example.com", id.simple())),
            ..Default::default()
        }),
        request_id: id.to_string(),
        ..Default::default()
    });
    request.set_timeout(timeout);
    let metadata = request.metadata_mut();
    metadata.insert("x-leadgate-caller", caller.parse().unwrap());
    metadata.insert("x-leadgate-criticality", class.parse().unwrap());
    request
}

/// How long each RPC has waited for slots, by its request id, as the log says.
fn waits(log: &Path) -> HashMap<String, Duration> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let attempts = lines.filter(|line| line["target"] == "leadgate::attempt");
    let wait = |line: serde_json::Value| {
        let id = line["request_id"].as_str()?.to_owned();
        Some((id, Duration::from_millis(line["queued_ms"].as_u64()?)))
    };
    attempts.filter_map(wait).collect()
}

async fn measure(client: &LeadServiceClient<Channel>, log: &Path) -> Seen {
    let (stop, flooded) = (CancellationToken::new(), client.clone());
    let flooding = stop.clone();
    let flood = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(1) / FLOOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        while !flooding.is_cancelled() {
            ticks.tick().await;
            let mut client = flooded.clone();
            calls.spawn(async move {
                client
                    .create_lead(create("flood", "sheddable", FLOOD_TIMEOUT))
                    .await
                    .is_ok()
            });
        }
        calls.join_all().await.into_iter().filter(|served| *served).count()
    });
    let mut ticks = interval(Duration::from_secs(1));
    // The first windows show that there are critical calls.
    for _ in 0..5 {
        ticks.tick().await;
        let _ = client
            .clone()
            .create_lead(create("critical", "critical-plus", TIMEOUT))
            .await;
    }
    let mut served = Vec::new();
    for _ in 0..CALLS {
        ticks.tick().await;
        let started = Instant::now();
        let response = client
            .clone()
            .create_lead(create("critical", "critical-plus", TIMEOUT))
            .await;
        match response.map_err(|status| status.code()) {
            Ok(response) => {
                let id = response.metadata().get("x-request-id").unwrap();
                served.push((started.elapsed(), id.to_str().unwrap().to_owned()));
            }
            Err(Code::ResourceExhausted | Code::DeadlineExceeded) => {}
            Err(code) => panic!("{code:?}"),
        }
    }
    stop.cancel();
    let flood_served = flood.await.unwrap();
    let waits = waits(log);
    let took = served.iter().map(|(took, id)| (*took, waits[id]));
    Seen {
        served: took.len(),
        took: took.collect(),
        flood_served,
    }
}

async fn run(library: &Path, sync: Duration) -> Seen {
    let options = Options {
        latency: Latency {
            min: LATENCY,
            max: LATENCY,
        },
        ..Options::default()
    };
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sqlite://{}/store.db\"\n\
         [tenants.acme]\nbase_url = \"http://{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n",
        folder.path().display(),
        upstream.local_addr().unwrap(),
        options.access_key,
        options.secret_key
    );
    let stop = CancellationToken::new();
    tokio::spawn(Simulator::new(options).serve(upstream, stop.clone().cancelled_owned()));
    let mut gateway = start(folder.path(), &settings, library, sync);
    let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let seen = measure(&LeadServiceClient::new(channel), &folder.path().join("log")).await;
    gateway.kill().await.unwrap();
    stop.cancel();
    seen
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write");
    let target = arguments.nth(1);
    let folder = tempfile::tempdir().unwrap();
    let library = compile(folder.path());
    let mut table = String::from(
        "| each sync takes | critical calls served | p50 | slowest | slowest without the wait for a slot | flood calls served |\n\
         |---|---|---|---|---|---|\n",
    );
    for sync in SYNCS {
        let Seen {
            served,
            took,
            flood_served,
        } = run(&library, sync).await;
        let millis = |of: fn(&(Duration, Duration)) -> Duration| {
            let mut all: Vec<_> = took.iter().map(of).collect();
            all.sort_unstable();
            let at = |at: usize| all[at].as_secs_f64() * 1000.0;
            (at(all.len() / 2), at(all.len() - 1))
        };
        let (median, slowest) = millis(|(took, _)| *took);
        let (_, own) = millis(|(took, wait)| took.saturating_sub(*wait));
        let _ = writeln!(
            table,
            "| {} ms more | {served} of {CALLS} | {median:.1} ms | {slowest:.1} ms | {own:.1} ms | {flood_served} |",
            sync.as_millis()
        );
    }
    println!("{table}");
    if let Some(target) = target {
        let text = include_str!("store.md")
            .replace("{flood}", &FLOOD.to_string())
            .replace("{flood_timeout}", &format!("{FLOOD_TIMEOUT:?}"))
            .replace("{timeout}", &format!("{TIMEOUT:?}"))
            .replace("{calls}", &CALLS.to_string())
            .replace("{latency}", &format!("{LATENCY:?}"))
            .replace("{table}", &table)
            .replace("{machine}", &format!("{}, shared with others", machine::processor()));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("store.md"), text).unwrap();
    }
}
