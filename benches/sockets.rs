//! How much of a quota the whole gateway uses over real sockets: callers that always have a read waiting, the gateway, and
//! the simulator, which counts, in one process.
//!
//! `cargo bench --bench sockets` prints the table; with `-- --write docs/benchmarks` it writes `docs/benchmarks/sockets.md`.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod machine;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use leadgate::app::App;
use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate_simulator::{Latency, Limits, Options, Simulator, Window};
use pb::lead_service_client::LeadServiceClient;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long each kind of window is watched.
const WATCHED: Duration = Duration::from_secs(60);
const CALLS: u32 = 25;
const PER: Duration = Duration::from_millis(500);
const CALLERS: usize = 60;

const KINDS: [(Window, &str); 2] = [
    (Window::Sliding, "sliding log"),
    (Window::SlidingCountingRefusals, "sliding log, refusals count"),
];

/// What was seen of one kind of window.
struct Seen {
    used: f64,
    refused: u64,
    sent: u64,
    worst_window: usize,
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn measure(window: Window) -> Seen {
    let options = Options {
        limits: Limits {
            calls: CALLS,
            per: PER,
            window,
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(5),
            max: Duration::from_millis(8),
        },
        keep_calls: usize::MAX,
        ..Options::default()
    };
    let (upstream, listener, admin) = (listen().await, listen().await, listen().await);
    let (base, address) = (upstream.local_addr().unwrap(), listener.local_addr().unwrap());
    let settings = format!(
        "[store]\nurl = \"sqlite::memory:\"\n[log]\nfilter = \"warn\"\n[tenants.acme]\nbase_url = \"http://{base}\"\naccess_key = \"{}\"\n\
         secret_key = \"{}\"\n[tenants.acme.limits]\ncalls = {CALLS}\nwindow = \"{}ms\"\n",
        options.access_key,
        options.secret_key,
        PER.as_millis()
    );
    let simulator = Simulator::new(options);
    let id = simulator.insert_lead(&[("FirstName", "Asha")]);
    let config = Config::read("bench", &settings, std::iter::empty()).unwrap();
    let (stop, stop_simulator) = (CancellationToken::new(), CancellationToken::new());
    let mut serving = JoinSet::new();
    let app = App::new(config).await.unwrap();
    let gateway = app.serve(listener, admin, stop.clone().cancelled_owned());
    let upstream = simulator
        .clone()
        .serve(upstream, stop_simulator.clone().cancelled_owned());
    serving.spawn(async move { gateway.await.map_err(|error| error.to_string()) });
    serving.spawn(async move { upstream.await.map_err(|error| error.to_string()) });

    let client = LeadServiceClient::connect(format!("http://{address}")).await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut client, id) = (client.clone(), id.clone());
        callers.spawn(async move {
            loop {
                // One call each; a GetLead would share those that others have under way.
                let request = pb::BatchGetLeadsRequest {
                    lead_ids: vec![id.clone()],
                    ..Default::default()
                };
                client.batch_get_leads(request).await.unwrap();
            }
        });
    }
    let began = Instant::now();
    tokio::time::sleep(WATCHED).await;
    callers.shutdown().await;
    let stats = simulator.stats();
    let seen = Seen {
        used: used(&simulator, began),
        refused: stats.refused,
        sent: stats.accepted + stats.refused,
        worst_window: stats.worst_window,
    };
    stop.cancel();
    serving.join_next().await.unwrap().unwrap().unwrap();
    stop_simulator.cancel();
    while serving.join_next().await.is_some() {}
    seen
}

/// The share of the quota that was used. It must not matter whether a burst lies just within, so the first and the last
/// window rise and fall.
fn used(simulator: &Simulator, began: Instant) -> f64 {
    let weight = |stamp: Instant| {
        let since = stamp.saturating_duration_since(began);
        let edge = since.min(WATCHED.saturating_sub(since));
        edge.div_duration_f64(PER).min(1.0)
    };
    let calls = simulator.calls();
    let accepted = calls.iter().filter(|call| !call.refused);
    let weighed: f64 = accepted.map(|call| weight(call.stamp)).sum();
    weighed / (f64::from(CALLS) * (WATCHED - PER).div_duration_f64(PER))
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write");
    let target = arguments.nth(1);
    let mut table =
        String::from("| window | used | refused | calls sent | maximum in a window |\n|---|---|---|---|---|\n");
    for (window, name) in KINDS {
        let seen = measure(window).await;
        let _ = writeln!(
            table,
            "| {name} | {:.2} % | {} | {} | {} of {CALLS} |",
            seen.used * 100.0,
            seen.refused,
            seen.sent,
            seen.worst_window
        );
    }
    println!("{table}");
    if let Some(target) = target {
        let text = include_str!("sockets.md")
            .replace("{table}", &table)
            .replace("{machine}", &format!("{}, shared with others", machine::processor()));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("sockets.md"), text).unwrap();
    }
}
