//! The order of the writes to one lead is that of their arrival, for every RPC and however the runtime schedules them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leadgate::grpc::pb;
use leadgate_simulator::{FaultKind, Latency, Limits, Options};
use pb::import_leads_request::Operation;
use prost::Message;
use serde_json::Value as Json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{World, within};

const LEADS: usize = 12;
const WRITES: usize = 200;
const LIMIT: Duration = Duration::from_secs(50);

/// Responses are slow, so that a write that is sent too early overtakes another one.
async fn world(settings: &str) -> World {
    let options = Options {
        limits: Limits {
            calls: 50,
            bulk: 10,
            per: Duration::from_millis(200),
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(1),
            max: Duration::from_millis(8),
        },
        ..Options::default()
    };
    let limits = "[tenant_defaults.limits]\ncalls = 50\nbulk = 10\nwindow = \"200ms\"\n";
    World::with(options, &format!("{limits}{settings}")).await.warm().await
}

fn email(lead: usize) -> String {
    format!("lead-{lead}@example.com")
}

/// Leads that the gateway has created, so that it knows their email addresses.
async fn leads(world: &World) -> Vec<String> {
    let mut ids = vec![];
    for lead in 0..LEADS {
        let fields = pb::LeadFields {
            email_address: Some(email(lead)),
            phone: Some(format!("+91-98450{:05}", lead)),
            ..Default::default()
        };
        ids.push(world.create(fields).await.unwrap());
    }
    world.simulator.forget_calls();
    ids
}

/// The writes to each lead, in the order in which LeadSquared received them.
fn seen(world: &World, ids: &[String]) -> HashMap<usize, Vec<usize>> {
    let mut seen: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut row = |pairs: &Json, id: Option<&str>| {
        let value = |name: &str| {
            let pairs = pairs.as_array().unwrap();
            let pair = pairs.iter().find(|pair| pair["Attribute"] == name)?;
            pair["Value"].as_str().map(str::to_owned)
        };
        let id = id.map(str::to_owned).or_else(|| value("ProspectId"));
        let lead = match id {
            Some(id) => ids.iter().position(|known| *known == id),
            None => (0..LEADS).find(|lead| {
                Some(email(*lead)) == value("EmailAddress") || Some(format!("+91-98450{lead:05}")) == value("Phone")
            }),
        };
        let number = value("mx_City").unwrap().parse().unwrap();
        seen.entry(lead.unwrap()).or_default().push(number);
    };
    for call in world.simulator.calls() {
        let body = || serde_json::from_str::<Json>(&call.body).unwrap();
        match call.endpoint.as_str() {
            "Lead.Update" => {
                let id = call.query.iter().find(|(name, _)| name == "leadId").unwrap();
                row(&body(), Some(&id.1));
            }
            "Lead.CreateOrUpdate" => row(&body(), None),
            "Lead/Bulk/CreateOrUpdate" => body().as_array().unwrap().iter().for_each(|pairs| row(pairs, None)),
            "Lead/Bulk/UpdateV2" => {
                let rows = body()["LeadPropertiesList"].as_array().unwrap().clone();
                rows.iter().for_each(|fields| row(&fields["Fields"], None));
            }
            _ => {}
        }
    }
    seen
}

/// Asserts that every write reached its lead once, and in order.
fn assert_ordered(world: &World, ids: &[String]) {
    let seen = seen(world, ids);
    for lead in 0..LEADS {
        let expected: Vec<_> = (0..WRITES).filter(|number| number % LEADS == lead).collect();
        assert_eq!(seen.get(&lead), Some(&expected), "lead {lead}");
    }
}

fn update(ids: &[String], number: usize) -> pb::UpdateLeadRequest {
    pb::UpdateLeadRequest {
        lead_id: ids[number % LEADS].clone(),
        lead: Some(pb::LeadFields {
            city: Some(number.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn upsert(number: usize) -> pb::UpsertLeadRequest {
    pb::UpsertLeadRequest {
        lead: Some(pb::LeadFields {
            email_address: Some(email(number % LEADS)),
            city: Some(number.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn upsert_by_phone(number: usize) -> pb::UpsertLeadRequest {
    pb::UpsertLeadRequest {
        lead: Some(pb::LeadFields {
            phone: Some(format!("+91-98450{:05}", number % LEADS)),
            city: Some(number.to_string()),
            ..Default::default()
        }),
        match_by: "Phone".to_owned(),
        ..Default::default()
    }
}

type Sending<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// Polls all futures in order from one task, so that their requests are sent in that order.
async fn in_order<T>(futures: Vec<Sending<T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if let Some(running) = future
                && let std::task::Poll::Ready(done) = running.as_mut().poll(cx)
            {
                (*output, *future) = (Some(done), None);
            }
        }
        match futures.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn single_writes_of_one_connection_keep_their_order() {
    for settings in ["", "[tenant_defaults.batching]\nupdates = false\n"] {
        let world = world(settings).await;
        let ids = leads(&world).await;
        let calls = (0..WRITES).map(|number| {
            let (mut client, request) = (world.client.clone(), within(LIMIT, update(&ids, number)));
            Box::pin(async move { drop(client.update_lead(request).await.unwrap()) }) as Sending<()>
        });
        in_order(calls.collect()).await;
        assert_ordered(&world, &ids);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_requests_of_a_batch_keep_their_order() {
    let world = world("").await;
    let ids = leads(&world).await;
    let requests = (0..WRITES).map(|number| update(&ids, number)).collect();
    let batch = pb::BatchUpdateLeadsRequest {
        requests,
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let results = world.client.clone().batch_update_leads(within(LIMIT, batch)).await;
    for row in results.unwrap().into_inner().results {
        assert!(
            matches!(row.result, Some(pb::batch_update_leads_result::Result::Response(_))),
            "{row:?}"
        );
    }
    assert_ordered(&world, &ids);
    world.simulator.forget_calls();
    let requests = (0..WRITES).map(upsert).collect();
    let batch = pb::BatchUpsertLeadsRequest {
        requests,
        ..Default::default()
    };
    world
        .client
        .clone()
        .batch_upsert_leads(within(LIMIT, batch))
        .await
        .unwrap();
    assert_ordered(&world, &ids);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_rows_of_an_import_keep_their_order_for_every_key_of_a_lead() {
    let world = world("").await;
    let ids = leads(&world).await;
    let rows = (0..WRITES).map(|number| pb::ImportLeadsRequest {
        sequence: number as i64,
        operation: Some(match number / LEADS % 3 {
            0 => Operation::Update(update(&ids, number)),
            1 => Operation::Upsert(upsert(number)),
            _ => Operation::Upsert(upsert_by_phone(number)),
        }),
    });
    let rows: Vec<_> = rows.collect();
    let mut client = world.client.clone();
    let responses = client.import_leads(within(LIMIT, tokio_stream::iter(rows))).await;
    let mut responses = responses.unwrap().into_inner();
    while let Some(response) = responses.message().await.unwrap() {
        assert!(
            matches!(response.result, Some(pb::import_leads_response::Result::Response(_))),
            "{response:?}"
        );
    }
    assert_ordered(&world, &ids);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn single_writes_and_batches_of_one_connection_keep_their_order() {
    let world = world("[tenant_defaults.batching]\nupserts = true\n").await;
    let ids = leads(&world).await;
    let (mut calls, mut number) = (vec![], 0);
    while number < WRITES {
        let mut client = world.client.clone();
        let call: Sending<()> = match calls.len() % 4 {
            0 => {
                let request = within(LIMIT, update(&ids, number));
                number += 1;
                Box::pin(async move { drop(client.update_lead(request).await.unwrap()) })
            }
            1 => {
                let request = within(LIMIT, upsert(number));
                number += 1;
                Box::pin(async move { drop(client.upsert_lead(request).await.unwrap()) })
            }
            2 => {
                let last = WRITES.min(number + 30);
                let requests = (number..last).map(|number| update(&ids, number)).collect();
                let batch = pb::BatchUpdateLeadsRequest {
                    requests,
                    ..Default::default()
                };
                number = last;
                Box::pin(async move { drop(client.batch_update_leads(within(LIMIT, batch)).await.unwrap()) })
            }
            _ => {
                let last = WRITES.min(number + 7);
                let requests = (number..last).map(upsert_by_phone).collect();
                let batch = pb::BatchUpsertLeadsRequest {
                    requests,
                    ..Default::default()
                };
                number = last;
                Box::pin(async move { drop(client.batch_upsert_leads(within(LIMIT, batch)).await.unwrap()) })
            }
        };
        calls.push(call);
    }
    in_order(calls).await;
    assert_ordered(&world, &ids);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn neither_a_wait_for_metadata_nor_a_lost_response_changes_the_order() {
    use leadgate_simulator::Fault;
    let world = world("[tenant_defaults]\nmetadata_lifetime = \"1ms\"\n").await;
    let ids = leads(&world).await;
    let by = Duration::from_millis(300);
    world
        .simulator
        .add_fault(Fault::new("LeadsMetaData.Get", FaultKind::Delay { by }).times(5))
        .unwrap();
    for lost in [3, 20, 55] {
        world
            .simulator
            .add_fault(Fault::new("Lead/Bulk/UpdateV2", FaultKind::CommitThenDrop).after(lost / 10))
            .unwrap();
    }
    let calls = (0..WRITES).map(|number| {
        let (mut client, request) = (world.client.clone(), within(LIMIT, update(&ids, number)));
        Box::pin(async move { drop(client.update_lead(request).await.unwrap()) }) as Sending<()>
    });
    in_order(calls.collect()).await;
    assert_ordered(&world, &ids);
    world.stop().await;
}

/// A connection on which the test controls when headers and messages are sent.
struct Raw(
    hyper::client::conn::http2::SendRequest<http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>>,
);

/// An RPC whose headers were sent.
struct Open {
    body: mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>,
    response: tokio::task::JoinHandle<(String, Bytes)>,
}

impl Raw {
    async fn connect(world: &World) -> Self {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn open(&mut self, rpc: &str) -> Open {
        let (body, frames) = mpsc::channel(8);
        let request = http::Request::post(format!("http://leadgate/leadgate.v1.LeadService/{rpc}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(ReceiverStream::new(frames)).boxed())
            .unwrap();
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request);
        let response = tokio::spawn(async move {
            let response = response.await.unwrap();
            let in_headers = response.headers().get("grpc-status").cloned();
            let whole = response.into_body().collect().await.unwrap();
            let in_trailers = whole
                .trailers()
                .and_then(|trailers| trailers.get("grpc-status"))
                .cloned();
            let status = in_headers.or(in_trailers).unwrap();
            (status.to_str().unwrap().to_owned(), whole.to_bytes())
        });
        Open { body, response }
    }
}

impl Open {
    async fn send(&self, message: &impl Message) {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.encoded_len() as u32);
        message.encode(&mut frame).unwrap();
        self.body.send(Ok(Frame::data(frame.freeze()))).await.unwrap();
    }

    async fn end(self) -> (String, Bytes) {
        drop(self.body);
        let (status, mut body) = self.response.await.unwrap();
        if body.len() >= 5 {
            body.advance(5);
        }
        (status, body)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_order_is_that_of_the_headers_also_if_a_message_is_late() {
    let world = world("").await;
    let ids = leads(&world).await;
    let mut raw = Raw::connect(&world).await;
    let first = raw.open("UpdateLead").await;
    let second = raw.open("UpdateLead").await;
    second.send(&update(&ids, LEADS)).await;
    let second = tokio::spawn(second.end());
    // In this time, the second write would do everything that does not need the first one.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.calls("Lead.Update").is_empty());
    first.send(&update(&ids, 0)).await;
    assert_eq!(first.end().await.0, "0");
    assert_eq!(second.await.unwrap().0, "0");
    assert_eq!(seen(&world, &ids)[&0], [0, LEADS]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_without_a_message_delays_others_for_a_second_and_ends_at_its_deadline() {
    let world = world("[server]\nmax_deadline = \"3s\"\n").await;
    let ids = leads(&world).await;
    let mut raw = Raw::connect(&world).await;
    let begun = tokio::time::Instant::now();
    let endless = raw.open("UpdateLead").await;
    let second = raw.open("UpdateLead").await;
    second.send(&update(&ids, LEADS)).await;
    assert_eq!(second.end().await.0, "0");
    let took = begun.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(2)).contains(&took),
        "{took:?}"
    );
    let Open { body, response } = endless;
    // DEADLINE_EXCEEDED
    assert_eq!(response.await.unwrap().0, "4");
    drop(body);
}

#[tokio::test]
async fn rpcs_in_progress_are_counted_from_their_headers_on() {
    let world = world("[server]\nmax_in_flight = 2\nmax_in_flight_per_caller = 2\n").await;
    let mut raw = Raw::connect(&world).await;
    let open = [raw.open("GetLead").await, raw.open("GetLead").await];
    // RESOURCE_EXHAUSTED
    let refused = raw.open("GetLead").await;
    assert_eq!(refused.response.await.unwrap().0, "8");
    for rpc in open {
        // INVALID_ARGUMENT: an empty message names no lead.
        rpc.send(&pb::GetLeadRequest::default()).await;
        assert_eq!(rpc.end().await.0, "3");
    }
}
