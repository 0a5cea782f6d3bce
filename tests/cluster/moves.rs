//! Calls while their tenant moves to another replica.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::load::{create, request};
use crate::replicas::{CALLS, Cluster};
use crate::{place, three};

/// Clients with one connection each.
pub struct Clients {
    channels: Vec<Channel>,
    calls: usize,
    failures: Vec<Status>,
}

pub async fn clients_of(address: SocketAddr, count: usize) -> Clients {
    let mut channels = Vec::new();
    for _ in 0..count {
        let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
        channels.push(endpoint.connect().await.unwrap());
    }
    Clients {
        channels,
        calls: 0,
        failures: Vec::new(),
    }
}

impl Clients {
    /// All clients call one after the other for this time. The calls are answered from the cache.
    pub async fn call_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut tasks = JoinSet::new();
        for channel in self.channels.clone() {
            tasks.spawn(async move {
                let (mut calls, mut failures) = (0, Vec::new());
                while Instant::now() < end {
                    let message = request(pb::DescribeLeadFieldsRequest::default());
                    let called = LeadServiceClient::new(channel.clone())
                        .describe_lead_fields(message)
                        .await;
                    calls += 1;
                    failures.extend(called.err().filter(|status| !was_not_processed(status)));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (calls, failures)
            });
        }
        for (calls, failures) in tasks.join_all().await {
            self.calls += calls;
            self.failures.extend(failures);
        }
    }

    pub fn calls(&self) -> usize {
        self.calls
    }

    pub fn failures(&self) -> &[Status] {
        &self.failures
    }
}

/// Whether the server has closed the connection before it received the call. Clients other than tonic's repeat such a call themselves.
fn was_not_processed(status: &Status) -> bool {
    let text = format!("{status:?}");
    // hyper has not sent a call that is canceled because its connection is closed.
    text.contains("GoAway(b\"\", NO_ERROR, Remote)") || text.contains("Canceled, \"connection closed\"")
}

/// How the tenant moves.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// The owner hands the tenant over.
    Handover,
    /// The owner is killed.
    Crash,
}

/// Moves the tenant away from its owner. Returns after the old process has ended.
async fn move_tenant(cluster: &Cluster, owner: usize, how: Move) {
    match how {
        Move::Handover => cluster.replicas[owner].terminate().await,
        Move::Crash => cluster.replicas[owner].kill().await,
    }
}

async fn survives(how: Move) {
    let (cluster, server) = three().await;
    let owner = cluster.owner(server).await;
    let other = &cluster.replicas[(owner + 1) % 3];
    let ids: Vec<String> = (0..120)
        .map(|number| {
            cluster
                .simulator
                .insert_lead(&[("FirstName", &format!("Read {number}"))])
        })
        .collect();
    let mut calls = JoinSet::new();
    for (number, id) in ids.into_iter().enumerate() {
        let channel = other.channel(number);
        calls.spawn(async move {
            let message = pb::GetLeadRequest {
                key: Some(pb::get_lead_request::Key::LeadId(id)),
                ..Default::default()
            };
            LeadServiceClient::new(channel)
                .get_lead(request(message))
                .await
                .map(drop)
        });
    }
    let tags: Vec<String> = (0..120).map(|number| format!("Created {number}")).collect();
    for (number, tag) in tags.iter().enumerate() {
        let channel = other.channel(number);
        let mut message = create(&tag.replace(' ', "-"), String::new(), false);
        message.lead.as_mut().unwrap().first_name = Some(tag.clone());
        calls.spawn(async move {
            LeadServiceClient::new(channel)
                .create_lead(request(message))
                .await
                .map(drop)
        });
    }
    // Some calls have ended, some are sent, and some wait.
    while cluster.simulator.stats().accepted < 40 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (results, ()) = tokio::join!(calls.join_all(), move_tenant(&cluster, owner, how));
    cluster.keep_logs(&format!("calls {how:?}"));
    let failures: Vec<Status> = results.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    let mut executions: BTreeMap<String, usize> = BTreeMap::new();
    for mut lead in cluster.simulator.leads() {
        *executions
            .entry(lead.remove("FirstName").flatten().unwrap_or_default())
            .or_default() += 1;
    }
    for tag in tags {
        assert_eq!(executions.get(&tag), Some(&1), "{tag}");
    }
    assert!(cluster.worst_window() <= CALLS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_request_ids_survive_a_handover() {
    let _place = place().await;
    survives(Move::Handover).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_request_ids_survive_a_crash_of_the_owner() {
    let _place = place().await;
    survives(Move::Crash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_writes_to_a_lead_keep_their_order_over_moves() {
    let _place = place().await;
    let (cluster, server) = three().await;
    let via = (cluster.owner(server).await + 1) % 3;
    let channel = cluster.replicas[via].channel(0);
    let id = cluster.simulator.insert_lead(&[("FirstName", "0")]);
    let (written, mut writes) = watch::channel(0);
    let writing = {
        let id = id.clone();
        tokio::spawn(async move {
            for number in 1_usize.. {
                let message = pb::UpdateLeadRequest {
                    lead_id: id.clone(),
                    lead: Some(pb::LeadFields {
                        first_name: Some(number.to_string()),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                let mut client = LeadServiceClient::new(channel.clone());
                client.update_lead(request(message)).await.unwrap();
                if written.send(number).is_err() {
                    return;
                }
            }
        })
    };
    for how in [Move::Handover, Move::Crash, Move::Handover, Move::Crash] {
        let before = *writes.borrow();
        writes.wait_for(|number| *number > before + 20).await.unwrap();
        let owner = cluster.owner(server).await;
        let replica = &cluster.replicas[owner];
        if owner == via {
            // The process must stay, because the connection is to it.
            replica.database.cut();
            while cluster.owner(server).await == owner {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            replica.database.restore();
        } else {
            move_tenant(&cluster, owner, how).await;
            replica.start();
            replica.healthy().await;
        }
    }
    let before = *writes.borrow();
    writes.wait_for(|number| *number > before + 20).await.unwrap();
    drop(writes);
    writing.await.unwrap();
    cluster.keep_logs("order");
    let calls = cluster
        .simulator
        .calls()
        .into_iter()
        .filter(|call| call.endpoint == "Lead.Update");
    let values: Vec<usize> = calls.map(|call| first_name(&call.body)).collect();
    let last = values.last().copied().unwrap_or_default();
    println!(
        "order: {last} writes, {} calls, epoch {}",
        values.len(),
        cluster.epoch(server)
    );
    assert!(values.is_sorted(), "{values:?}");
    assert!(last > 100 && cluster.epoch(server) >= 5 && cluster.worst_window() <= CALLS);
}

/// The value of the first name in the request of an update.
fn first_name(body: &str) -> usize {
    let fields: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
    let field = fields.iter().find(|field| field["Attribute"] == "FirstName");
    field.unwrap()["Value"].as_str().unwrap().parse().unwrap()
}
