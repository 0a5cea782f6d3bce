//! How long an idle gateway takes for many concurrent reads, and in how many calls.

use std::time::Duration;

use leadgate::grpc::pb;
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bed::{Account, Gateway, LATENCY, Plan};
use crate::quota::members;

pub(crate) const READS: usize = 10_000;
pub(crate) const PLAN: Plan = Plan {
    calls: 25,
    bulk: 1,
    per: Duration::from_secs(5),
};

/// The fields that each read requests: a name, and the mask.
const MASKS: [(&str, &[&str]); 2] = [
    (
        "three fields",
        &["lead_id", "fields.first_name", "fields.email_address"],
    ),
    ("all fields", &[]),
];
const ROUNDS: usize = 3;

/// The results of one burst.
pub(crate) struct Seen {
    pub(crate) fields: &'static str,
    /// Time until half of the callers, and all, had their responses.
    pub(crate) half: Duration,
    pub(crate) all: Duration,
    /// Time until the last call was counted upstream.
    pub(crate) last_call: Duration,
    /// Number of operations in each call, in order.
    pub(crate) members: Vec<usize>,
    pub(crate) refused: u64,
}

pub(crate) async fn measure() -> Vec<Seen> {
    let account = Account::open(Some(PLAN), LATENCY).await;
    let gateway = Gateway::open(&account, PLAN, "").await;
    let lead = |number| {
        let email = format!("lead-{number}@example.com");
        account
            .simulator
            .insert_lead(&[("FirstName", "Asha"), ("EmailAddress", &email)])
    };
    let ids: Vec<String> = (0..READS).map(lead).collect();
    let mut all = Vec::new();
    for (fields, mask) in MASKS {
        for _ in 0..ROUNDS {
            all.push(burst(&account, &gateway, &ids, fields, mask).await);
        }
    }
    gateway.close().await;
    account.close().await;
    all
}

async fn burst(account: &Account, gateway: &Gateway, ids: &[String], fields: &'static str, mask: &[&str]) -> Seen {
    let mut clients = gateway.clients(ids.len()).await;
    // Each connection is used once before, and the quota is idle.
    for (client, id) in clients.iter_mut().zip(ids) {
        client.get_lead(request(id, mask)).await.unwrap();
    }
    tokio::time::sleep(PLAN.per * 2).await;
    account.simulator.forget_calls();
    let refused = account.simulator.stats().refused;
    let requests: Vec<_> = ids.iter().map(|id| request(id, mask)).collect();
    let (mut callers, began) = (JoinSet::new(), Instant::now());
    for (number, request) in requests.into_iter().enumerate() {
        let mut client = clients[number % clients.len()].clone();
        callers.spawn(async move {
            client.get_lead(request).await.unwrap();
            began.elapsed()
        });
    }
    let mut took = callers.join_all().await;
    took.sort_unstable();
    let calls = account.simulator.calls();
    let last = calls.iter().map(|call| call.stamp).max().unwrap_or(began);
    Seen {
        fields,
        half: took[took.len() / 2],
        all: took[took.len() - 1],
        last_call: last - began,
        members: calls.iter().map(members).collect(),
        refused: account.simulator.stats().refused - refused,
    }
}

fn request(id: &str, mask: &[&str]) -> pb::GetLeadRequest {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    pb::GetLeadRequest {
        key: Some(pb::get_lead_request::Key::LeadId(id.to_owned())),
        read_mask: (!mask.is_empty()).then_some(FieldMask { paths }),
        ..Default::default()
    }
}
