//! How quickly shares are listed out of a ledger of 100,000, as a caller sees it: over gRPC, from a store on disk.
//!
//! `cargo bench --bench ledger` prints the table; with `-- --write docs/benchmarks` it writes `docs/benchmarks/ledger.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, missing_docs)]

mod machine;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use leadgate::app::App;
use leadgate::config::Config;
use leadgate::domain::share::{Access, Share, ShareContext, ShareFilter, ShareStage, ShareState, SharedEntity};
use leadgate::grpc::pb;
use leadgate::store::{AddShareResult, Store};
use pb::share_service_client::ShareServiceClient;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;

const SHARES: u128 = 100_000;
const USERS: u128 = 100;
const LEADS: u128 = 20_000;
/// How often each list is asked for.
const ROUNDS: u128 = 2_000;
const TENANT: &str = "acme";

fn user(number: u128) -> String {
    Uuid::from_u128((0xa << 120) | (number % USERS)).to_string()
}

fn lead(number: u128) -> String {
    Uuid::from_u128((0xb << 120) | (number % LEADS)).to_string()
}

/// A share in the middle of its life, or after it: one of five is live.
fn share(number: u128, now: Timestamp) -> Share {
    let over = [
        ShareStage::Expired,
        ShareStage::Revoked,
        ShareStage::Expired,
        ShareStage::Failed,
    ];
    let stage = *over.get((number / USERS % 5) as usize).unwrap_or(&ShareStage::Active);
    let created = now - Duration::from_secs(3600 * 24 * 30);
    let id = Uuid::from_u128((0x0199 << 112) | number);
    let entity = SharedEntity::Lead {
        id: lead(number),
        number: (number % LEADS).to_string(),
        context: ShareContext::New {
            id: Some(Uuid::from_u128((0xc << 120) | number).to_string()),
            code: 201,
            note: String::new(),
            fields: Default::default(),
        },
    };
    Share {
        stage,
        upstream_request_id: Some(Uuid::from_u128(number).simple().to_string()),
        request_id: Some(Uuid::from_u128(number)),
        additional: true,
        last_requested: Some(created),
        granted: Some(created),
        expires: Some(now + Duration::from_secs(3600 + (number % 1_000_000) as u64)),
        ..Share::new(id, entity, user(number), Access::Write, 60 * 24 * 90, created)
    }
}

/// Fills a store where writing costs least, and puts it onto the disk.
async fn fill(target: &Path) {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .unwrap();
    let path = folder.path().join("ledger.db");
    let store = Store::open(&format!("sqlite://{}", path.display())).await.unwrap();
    let now = leadgate::clock::now();
    for number in 0..SHARES {
        let added = store.add_share(TENANT, &share(number, now), None).await.unwrap();
        assert!(matches!(added, AddShareResult::Added { .. }));
        if number % 10_000 == 0 {
            eprintln!("{number} of {SHARES} shares written");
        }
    }
    store.close().await;
    std::fs::copy(&path, target).unwrap();
}

/// What is measured: a name, the request of a round, and the filter that the store sees.
type List = (&'static str, fn(u128) -> pb::ListSharesRequest, fn() -> ShareFilter);

fn lists() -> Vec<List> {
    vec![
        (
            "of a user",
            |round| pb::ListSharesRequest {
                user_id: user(round),
                ..Default::default()
            },
            || ShareFilter {
                user_id: Some(user(1)),
                limit: 101,
                ..ShareFilter::default()
            },
        ),
        (
            "of a user, live",
            |round| pb::ListSharesRequest {
                user_id: user(round),
                states: vec![pb::ShareState::Active.into()],
                ..Default::default()
            },
            || ShareFilter {
                user_id: Some(user(1)),
                states: vec![ShareState::Active],
                limit: 101,
                ..ShareFilter::default()
            },
        ),
        (
            "of a lead",
            |round| pb::ListSharesRequest {
                lead_id: lead(round * 7),
                ..Default::default()
            },
            || ShareFilter {
                entity_id: Some(lead(1)),
                limit: 101,
                ..ShareFilter::default()
            },
        ),
        (
            "of a user to a lead",
            |round| pb::ListSharesRequest {
                user_id: user(round),
                lead_id: lead(round),
                ..Default::default()
            },
            || ShareFilter {
                user_id: Some(user(1)),
                entity_id: Some(lead(1)),
                limit: 101,
                ..ShareFilter::default()
            },
        ),
        (
            "the newest",
            |_| pb::ListSharesRequest::default(),
            || ShareFilter {
                limit: 101,
                ..ShareFilter::default()
            },
        ),
        (
            "a page in the middle",
            |round| pb::ListSharesRequest {
                page_token: Uuid::from_u128((0x0199 << 112) | (round * 50 % SHARES)).to_string(),
                ..Default::default()
            },
            || ShareFilter {
                older_than: Some(Uuid::from_u128((0x0199 << 112) | 5)),
                limit: 101,
                ..ShareFilter::default()
            },
        ),
    ]
}

async fn measure(
    client: &mut ShareServiceClient<Channel>,
    request: fn(u128) -> pb::ListSharesRequest,
) -> Vec<Duration> {
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let started = Instant::now();
        let answer = client.list_shares(request(round)).await.unwrap().into_inner();
        took.push(started.elapsed());
        assert!(!answer.shares.is_empty() || round % 5 != 4);
    }
    took.sort_unstable();
    took
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write");
    let target = arguments.nth(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    fill(&path).await;

    let url = format!("sqlite://{}", path.display());
    let mut plans = Vec::new();
    let store = Store::open(&url).await.unwrap();
    for (_, _, filter) in lists() {
        plans.push(store.share_plan(TENANT, &filter()).await.unwrap().join("; "));
    }
    store.close().await;

    let settings = format!(
        "[store]\nurl = \"{url}\"\n[tenants.{TENANT}]\nbase_url = \"http://127.0.0.1:9\"\naccess_key = \"a\"\nsecret_key = \"s\"\n"
    );
    let config = Config::read("bench", &settings, std::iter::empty()).unwrap();
    let (listener, admin) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let app = App::new(config).await.unwrap();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(app.serve(listener, admin, stop.clone().cancelled_owned()));
    let mut client = ShareServiceClient::connect(format!("http://{address}")).await.unwrap();

    let mut table = String::from("| shares | p50 | p99 | maximum | plan |\n|---|---|---|---|---|\n");
    for ((name, request, _), plan) in lists().into_iter().zip(plans) {
        let took = measure(&mut client, request).await;
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        let (median, most, last) = (at(0.5), at(0.99), at(1.0));
        let _ = writeln!(
            table,
            "| {name} | {median:.2} ms | {most:.2} ms | {last:.2} ms | `{plan}` |"
        );
    }
    println!("{table}");
    if let Some(target) = target {
        let text = include_str!("ledger.md")
            .replace("{table}", &table)
            .replace("{machine}", &format!("{}, shared with others", machine::processor()));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("ledger.md"), text).unwrap();
    }
    stop.cancel();
    while serving.join_next().await.is_some() {}
}
