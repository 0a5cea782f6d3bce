//! A quota that callers of the REST listener and of gRPC saturate together.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Latency, Limits, Options, Recorded, Simulator, Stats};
use pb::lead_service_client::LeadServiceClient;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

use crate::gateway::{ACCESS_KEY, Gateway, Plan, SECRET_KEY, free_address};
use crate::{SECRET, access_key, rest_caller};

const CALLS: u32 = 25;
/// Bulk calls in a window, in the run with bulk calls.
const BULK: u32 = 5;
const PER: Duration = Duration::from_secs(1);
/// The windows that do not count, and those that do.
const WARM_UP: u32 = 2;
const WINDOWS: u32 = 30;
/// Requests of a caller in progress. Even while those of a whole window are with the simulator, at least 50 wait.
const IN_PROGRESS: usize = 75;
/// Of these, bulk calls, for a REST caller in the run with bulk calls.
const BULK_IN_PROGRESS: usize = 15;
/// Longer than any request waits.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The callers: whether it uses REST, its name and its weight.
const CALLERS: [(bool, &str, u32); 4] = [
    (true, "rest-1", 1),
    (true, "rest-2", 2),
    (false, "grpc-1", 1),
    (false, "grpc-2", 2),
];

/// What was seen in the windows that count.
struct Seen {
    stats: Stats,
    /// The accepted calls, and those that are bulk calls.
    all: f64,
    bulk: f64,
    /// The accepted calls of each caller.
    calls: [f64; 4],
    windows: u32,
    /// The errors of the callers, by status.
    errors: BTreeMap<String, u64>,
    /// Finished requests of all callers.
    finished: u64,
    /// The least number of waiting requests of a caller.
    waiting: u64,
}

/// What the callers count.
#[derive(Default)]
struct Counted {
    finished: AtomicU64,
    errors: std::sync::Mutex<BTreeMap<String, u64>>,
}

impl Counted {
    fn add(&self, result: Result<(), String>) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = result {
            *self.errors.lock().unwrap().entry(error).or_default() += 1;
        }
    }
}

pub(crate) fn saturated(is_quick: bool) -> String {
    table(is_quick, false)
}

pub(crate) fn bulk(is_quick: bool) -> String {
    table(is_quick, true)
}

fn table(is_quick: bool, has_bulk: bool) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seen = runtime.block_on(measure(if is_quick { 8 } else { WINDOWS }, has_bulk));
    let used = |calls: f64, limit: u32| format!("{:.2} %", calls / f64::from(limit * seen.windows) * 100.0);
    let errors = |is_refusal: bool| -> u64 {
        let errors = seen.errors.iter();
        errors
            .filter(|(status, _)| status.starts_with("429") == is_refusal)
            .map(|(_, count)| count)
            .sum()
    };
    let mut text = String::from("| figure | result | goal |\n|---|---|---|\n");
    let mut row = |name: &str, result: String, goal: &str| {
        let _ = writeln!(text, "| {name} | {result} | {goal} |");
    };
    row(
        "most calls in any second",
        seen.stats.worst_window.to_string(),
        "at most 25",
    );
    if has_bulk {
        row(
            "most bulk calls in any second",
            seen.stats.worst_bulk_window.to_string(),
            "at most 5",
        );
    }
    let goal = if has_bulk { "at least 98.5 %" } else { "at least 99 %" };
    row("used calls", used(seen.all, CALLS), goal);
    if has_bulk {
        row("used bulk calls", used(seen.bulk, BULK), "");
    }
    row("calls that the simulator refused", seen.stats.refused.to_string(), "0");
    row(
        "requests of callers that failed with 429 or `RESOURCE_EXHAUSTED`",
        errors(true).to_string(),
        "0",
    );
    row("requests that failed otherwise", errors(false).to_string(), "0");
    row("finished requests", seen.finished.to_string(), "");
    row(
        "least number of waiting requests of a caller",
        seen.waiting.to_string(),
        "at least 50",
    );
    text +=
        "\n| caller | weight | calls | share | share by weight | difference | goal |\n|---|---|---|---|---|---|---|\n";
    let all: f64 = seen.calls.iter().sum();
    let weights: u32 = CALLERS.iter().map(|(_, _, weight)| weight).sum();
    for ((_, name, weight), calls) in CALLERS.iter().zip(seen.calls) {
        let (share, by_weight) = (calls / all, f64::from(*weight) / f64::from(weights));
        let _ = writeln!(
            text,
            "| {name} | {weight} | {calls:.0} | {:.2} % | {:.2} % | {:+.1} % | at most 5 % |",
            share * 100.0,
            by_weight * 100.0,
            (share / by_weight - 1.0) * 100.0
        );
    }
    for (status, count) in &seen.errors {
        eprintln!("saturation: {count} requests failed: {status}");
    }
    text
}

async fn measure(windows: u32, has_bulk: bool) -> Seen {
    let options = Options {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        limits: Limits {
            calls: CALLS,
            bulk: BULK,
            per: PER,
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(5),
            max: Duration::from_millis(8),
        },
        keep_calls: usize::MAX,
        ..Options::default()
    };
    let simulator = Simulator::new(options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap().to_string();
    let mut serving = JoinSet::new();
    serving.spawn(simulator.clone().serve(listener, std::future::pending()));
    let rest = free_address();
    let mut more = format!("[rest]\nlisten = \"{rest}\"\nmax_wait = \"{}s\"\n", MAX_WAIT.as_secs());
    for (is_rest, name, weight) in CALLERS {
        more += &match is_rest {
            true => rest_caller(name, weight),
            false => format!("[callers.{name}]\nweight = {weight}\n"),
        };
    }
    let gateway = Arc::new(Gateway::start(&Plan {
        calls: CALLS,
        bulk: Some(BULK),
        window: "1s",
        more,
        ..Plan::without_waiting(&upstream)
    }));
    let counted = Arc::new(Counted::default());
    let mut callers = JoinSet::new();
    let mut leads = Vec::new();
    for (is_rest, name, _) in CALLERS {
        let lead = simulator.insert_lead(&[("FirstName", name)]);
        leads.push(lead.clone());
        match is_rest {
            true => rest_callers(&mut callers, &rest, name, &lead, has_bulk, &counted),
            false => grpc_callers(&mut callers, &gateway.address, name, &lead, &counted).await,
        }
    }
    tokio::time::sleep(PER * WARM_UP).await;
    // Two half windows more: see `weight`.
    let (began, watched) = (Instant::now(), PER * (windows + 1));
    let mut waiting = u64::MAX;
    while began.elapsed() + PER < watched {
        tokio::time::sleep(PER).await;
        let gateway = gateway.clone();
        let metrics = tokio::task::spawn_blocking(move || gateway.metrics()).await.unwrap();
        waiting = CALLERS
            .iter()
            .map(|(_, name, _)| waiting_of(&metrics, name))
            .fold(waiting, u64::min);
    }
    tokio::time::sleep_until(began + watched).await;
    let (stats, calls) = (simulator.stats(), simulator.calls());
    callers.shutdown().await;
    let sum = |is_counted: &dyn Fn(&Recorded) -> bool| -> f64 {
        let accepted = calls.iter().filter(|call| !call.refused && is_counted(call));
        accepted.map(|call| weight(call.stamp, began, watched)).sum()
    };
    let is_of = |call: &Recorded, lead: &String| call.parameter("id") == Some(lead) || call.body.contains(lead);
    let errors = counted.errors.lock().unwrap().clone();
    Seen {
        all: sum(&|_| true),
        bulk: sum(&|call| call.path.contains("/Bulk/")),
        calls: std::array::from_fn(|caller| sum(&|call| is_of(call, &leads[caller]))),
        stats,
        windows,
        errors,
        finished: counted.finished.load(Ordering::Relaxed),
        waiting,
    }
}

/// The weight of a call. The first and the last window rise and fall, so that it does not matter whether a burst lies just within.
fn weight(stamp: Instant, began: Instant, watched: Duration) -> f64 {
    let since = stamp.saturating_duration_since(began);
    since.min(watched.saturating_sub(since)).div_duration_f64(PER).min(1.0)
}

/// The number of waiting calls of a caller.
fn waiting_of(metrics: &str, caller: &str) -> u64 {
    let label = format!("leadgate_caller_waiting{{caller=\"{caller}\"");
    let line = metrics.lines().find(|line| line.starts_with(&label));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

/// Starts clients of the REST listener that always have a request in progress.
fn rest_callers(
    callers: &mut JoinSet<()>,
    address: &str,
    name: &str,
    lead: &str,
    has_bulk: bool,
    counted: &Arc<Counted>,
) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let query = format!("accessKey={}&secretKey={SECRET}", access_key(name));
    let service = format!("http://{address}/v2/LeadManagement.svc");
    let bulk = if has_bulk { BULK_IN_PROGRESS } else { 0 };
    for number in 0..IN_PROGRESS {
        let request = match number < bulk {
            true => {
                // Each has a lead of its own: a write would wait for the earlier ones.
                let body = format!(
                    r#"[[{{"Attribute":"EmailAddress","Value":"{number}@{name}.example.com"}},{{"Attribute":"LastName","Value":"{lead}"}}]]"#
                );
                let request = client.post(format!("{service}/Lead/Bulk/CreateOrUpdate?{query}"));
                request.header("content-type", "application/json").body(body)
            }
            false => client.get(format!("{service}/Leads.GetById?{query}&id={lead}")),
        };
        let counted = counted.clone();
        callers.spawn(async move {
            loop {
                let response = request.try_clone().unwrap().send().await;
                let result = match response {
                    Ok(response) if response.status() == 200 => {
                        let body = response.text().await.unwrap_or_default();
                        // A refusal of LeadSquared may have this status, too.
                        match body.contains("ExceptionType") {
                            true => Err(format!("200: {body}")),
                            false => Ok(()),
                        }
                    }
                    Ok(response) => Err(format!(
                        "{}: {}",
                        response.status(),
                        response.text().await.unwrap_or_default()
                    )),
                    Err(error) => Err(error.to_string()),
                };
                counted.add(result);
            }
        });
    }
}

/// Starts clients of gRPC that always have an RPC in progress. Each RPC is one call to LeadSquared: it is not coalesced with others.
async fn grpc_callers(
    callers: &mut JoinSet<()>,
    address: &str,
    name: &'static str,
    lead: &str,
    counted: &Arc<Counted>,
) {
    let endpoint = Endpoint::new(format!("http://{address}")).unwrap().tcp_nodelay(true);
    let client = LeadServiceClient::new(endpoint.connect().await.unwrap());
    for _ in 0..IN_PROGRESS {
        let (mut client, lead, counted) = (client.clone(), lead.to_owned(), counted.clone());
        callers.spawn(async move {
            loop {
                let mut request = tonic::Request::new(pb::BatchGetLeadsRequest {
                    lead_ids: vec![lead.clone()],
                    ..Default::default()
                });
                request.set_timeout(MAX_WAIT);
                request
                    .metadata_mut()
                    .insert("x-leadgate-caller", MetadataValue::from_static(name));
                let result = client.batch_get_leads(request).await;
                counted.add(result.map(drop).map_err(|status| match status.code() {
                    Code::ResourceExhausted => format!("429: {status}"),
                    _ => status.to_string(),
                }));
            }
        });
    }
}
