//! Number of operations per window of leadgate and of a paced client.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadgate_simulator::{Recorded, Simulator};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bed::{Account, Gateway, LATENCY, Plan, WINDOW};
use crate::work::{Caller, Kind, READS};

/// How long a cell is measured, in windows, after those that do not count.
const WATCHED: u32 = 15;
const WARM_UP: u32 = 2;
/// Factor of this time if the bulk calls are of several kinds in turns.
const MIX: u32 = 3;

/// Maximum time that the paced client waits for a response.
const PATIENCE: Duration = Duration::from_secs(10);

/// The results of one cell.
pub(crate) struct Seen {
    /// Operations that succeeded, per window.
    pub(crate) operations: f64,
    pub(crate) refused: u64,
    /// Calls per window with one operation.
    pub(crate) single: f64,
    /// Calls per window with several operations, and their mean number of operations.
    pub(crate) shared: f64,
    pub(crate) members: f64,
    /// The calls and the operations of each endpoint, per window.
    pub(crate) endpoints: BTreeMap<String, (f64, f64)>,
}

/// When operations were completed.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<Vec<Instant>>>);

impl Tally {
    fn done(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }
}

/// Number of callers for each operation of the optimum. With this number, operations always wait, and fill the
/// batches, also if they are of three kinds.
fn callers(kind: Kind) -> f64 {
    match kind {
        Kind::Mix => 8.0,
        _ => 4.0,
    }
}

/// leadgate, with more callers than the quota can serve.
pub(crate) async fn leadgate(plan: Plan, kind: Kind) -> Seen {
    let account = Account::open(Some(plan), LATENCY).await;
    let settings = format!("[tenants.acme.batching]\ncreates = true\nupserts = true\nmax_reads = {READS}\n");
    let gateway = Gateway::open(&account, plan, &settings).await;
    let count = (kind.optimum(plan) * callers(kind)).ceil() as usize;
    let clients = gateway.clients(count).await;
    let (tally, mut callers) = (Tally::default(), JoinSet::new());
    let all = Caller::many(count, kind, &account.simulator);
    for (number, mut caller) in all.into_iter().enumerate() {
        let (mut client, tally) = (clients[number % clients.len()].clone(), tally.clone());
        callers.spawn(async move {
            loop {
                caller.ask(&mut client).await.unwrap();
                tally.done();
            }
        });
    }
    let seen = watch(kind, &account.simulator, &tally, &mut callers).await;
    gateway.close().await;
    account.close().await;
    seen
}

/// A client that paces its calls by governor, with a burst of N and one more each N-th of the window, and sends a call
/// for each operation. A refused call waits as long, and then for its turn again.
pub(crate) async fn paced(plan: Plan, kind: Kind) -> Seen {
    let account = Account::open(Some(plan), LATENCY).await;
    let burst = NonZeroU32::new(plan.calls).unwrap();
    let every = WINDOW / plan.calls;
    let quota = governor::Quota::with_period(every).unwrap().allow_burst(burst);
    let limiter = Arc::new(governor::RateLimiter::direct(quota));
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let base = format!("http://{}", account.address);
    let (tally, mut callers) = (Tally::default(), JoinSet::new());
    for mut caller in Caller::many(plan.calls as usize, kind, &account.simulator) {
        let (client, limiter, base, tally) = (client.clone(), limiter.clone(), base.clone(), tally.clone());
        callers.spawn(async move {
            loop {
                let request = caller.request(&client, &base);
                while !is_done(&limiter, request.try_clone().unwrap()).await {
                    tokio::time::sleep(every).await;
                }
                tally.done();
            }
        });
    }
    let seen = watch(kind, &account.simulator, &tally, &mut callers).await;
    account.close().await;
    seen
}

async fn is_done(limiter: &governor::DefaultDirectRateLimiter, request: reqwest::RequestBuilder) -> bool {
    limiter.until_ready().await;
    let response = request.send().await.unwrap();
    let status = response.status();
    assert!(
        status == 200 || status == 429,
        "{status}: {}",
        response.text().await.unwrap()
    );
    // The body is read to its end, so that the connection can be used again.
    response.bytes().await.unwrap();
    status == 200
}

/// Runs the callers for the time of one measurement, and counts.
async fn watch(kind: Kind, simulator: &Simulator, tally: &Tally, callers: &mut JoinSet<()>) -> Seen {
    let windows = match kind {
        Kind::Mix => WATCHED * MIX,
        _ => WATCHED,
    };
    tokio::time::sleep(WINDOW * WARM_UP).await;
    let began = Instant::now();
    let until = tokio::time::sleep(WINDOW * windows);
    tokio::select! {
        () = until => {}
        // Callers never end by themselves.
        Some(ended) = callers.join_next() => ended.unwrap(),
    }
    callers.shutdown().await;
    let weigh = |stamp: Instant| weight(stamp.saturating_duration_since(began), windows);
    let operations = tally.0.lock().unwrap().iter().map(|stamp| weigh(*stamp)).sum();
    let mut seen = Seen {
        operations,
        refused: simulator.stats().refused,
        single: 0.0,
        shared: 0.0,
        members: 0.0,
        endpoints: BTreeMap::new(),
    };
    for call in simulator.calls().iter().filter(|call| !call.refused) {
        let (weight, members) = (weigh(call.stamp), members(call) as f64);
        if members > 1.0 {
            seen.shared += weight;
            seen.members += weight * members;
        } else {
            seen.single += weight;
        }
        let (calls, carried) = seen.endpoints.entry(call.endpoint.clone()).or_default();
        *calls += weight;
        *carried += weight * members;
    }
    seen.members /= seen.shared.max(f64::MIN_POSITIVE);
    seen
}

/// The weight of a moment, so that the sum is that of one window. The first and the last window are weighted, so that
/// a burst at the edge does not change the result.
fn weight(since: Duration, windows: u32) -> f64 {
    let edge = since.min((WINDOW * windows).saturating_sub(since));
    edge.div_duration_f64(WINDOW).min(1.0) / f64::from(windows - 1)
}

/// Number of operations in a call.
pub(crate) fn members(call: &Recorded) -> usize {
    let body: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let rows = match call.endpoint.as_str() {
        "Lead/Bulk/Create" | "Lead/Bulk/CreateOrUpdate" => &body,
        "Lead/Bulk/UpdateV2" => &body["LeadPropertiesList"],
        "Leads/Retrieve/ByIds" => &body["SearchParameters"]["LeadIds"],
        _ => return 1,
    };
    rows.as_array().map_or(1, Vec::len)
}
