//! Operations that travel together: what each caller is told is what a call of its own would have told, and nothing is
//! done twice, lost or out of order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Latency, Limits, Options, Order, Simulator};
use pb::import_leads_request::Operation;
use pb::share_service_client::ShareServiceClient;
use serde_json::Value as Json;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{World, by_id, channel, custom, lead, seen, text, within};
use crate::share::{SAM, SITA};

const UPDATE_V2: &str = "Lead/Bulk/UpdateV2";
const BY_IDS: &str = "Leads/Retrieve/ByIds";
const SETTINGS: &str = "[tenant_defaults.limits]\ncalls = 2\nbulk = 1\nwindow = \"300ms\"\n\
                        [tenant_defaults.upstream]\ntimeout = \"1s\"\n";
const ALL_LANES: &str = "[tenant_defaults.batching]\ncreates = true\nupserts = true\nactivities = true\n";

/// Two calls in 300 ms, one of them a bulk call: whoever comes third waits, and those who wait gather.
fn options() -> Options {
    Options {
        limits: Limits {
            calls: 2,
            bulk: 1,
            per: Duration::from_millis(300),
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(2),
            max: Duration::from_millis(5),
        },
        ..Options::default()
    }
}

async fn world(settings: &str) -> World {
    World::with(options(), &format!("{SETTINGS}{settings}"))
        .await
        .warm()
        .await
}

fn leads(world: &World, count: usize) -> Vec<String> {
    let lead = |n| {
        let email = format!("lead-{n}@example.com");
        world
            .simulator
            .insert_lead(&[("EmailAddress", &email), ("FirstName", "Old")])
    };
    (0..count).map(lead).collect()
}

fn value_of(simulator: &Simulator, id: &str, name: &str) -> Option<String> {
    let leads = simulator.leads();
    let lead = leads.iter().find(|lead| lead["ProspectID"].as_deref() == Some(id));
    lead.and_then(|lead| lead.get(name).cloned().flatten())
}

fn update_of(id: &str, city: &str) -> pb::UpdateLeadRequest {
    pb::UpdateLeadRequest {
        lead_id: id.to_owned(),
        lead: Some(pb::LeadFields {
            city: Some(city.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn update(world: &World, message: pb::UpdateLeadRequest) -> Result<i32, Status> {
    let answer = world.client.clone().update_lead(message).await?;
    Ok(answer.into_inner().affected_rows)
}

/// All updates at once; what became of each.
async fn update_all(world: &World, messages: Vec<pb::UpdateLeadRequest>) -> Vec<Result<i32, Status>> {
    let count = messages.len();
    let mut updates = JoinSet::new();
    for (at, message) in messages.into_iter().enumerate() {
        let mut client = world.client.clone();
        updates.spawn(async move { (at, client.update_lead(message).await) });
    }
    let mut results: Vec<_> = (0..count).map(|_| Err(Status::unknown("none"))).collect();
    for (at, result) in updates.join_all().await {
        results[at] = result.map(|answer| answer.into_inner().affected_rows);
    }
    results
}

async fn get_all(world: &World, ids: &[String]) -> Vec<Result<pb::Lead, Status>> {
    let mut reads = JoinSet::new();
    for (at, id) in ids.iter().enumerate() {
        let (mut client, key) = (world.client.clone(), Some(by_id(id)));
        reads.spawn(async move {
            let request = pb::GetLeadRequest {
                key,
                ..Default::default()
            };
            (at, client.get_lead(request).await)
        });
    }
    let mut results = reads.join_all().await;
    results.sort_by_key(|(at, _)| *at);
    let lead = |answer: tonic::Response<pb::GetLeadResponse>| answer.into_inner().lead.unwrap();
    results.into_iter().map(|(_, result)| result.map(lead)).collect()
}

/// The ids in each call of that endpoint, in order.
fn ids_in(world: &World, endpoint: &str) -> Vec<Vec<String>> {
    let calls = world.calls(endpoint).into_iter().map(|call| {
        let body: Json = serde_json::from_str(&call.body).unwrap();
        let rows = body["LeadPropertiesList"].as_array().unwrap().clone();
        let id = |row: Json| row["Fields"][0]["Value"].as_str().unwrap().to_owned();
        rows.into_iter().map(id).collect()
    });
    calls.collect()
}

#[tokio::test]
async fn updates_that_wait_travel_together_and_one_that_need_not_wait_goes_alone() {
    let world = world("").await;
    let ids = leads(&world, 52);
    let updates = ids.iter().map(|id| update_of(id, id)).collect();
    for result in update_all(&world, updates).await {
        assert_eq!(result.unwrap(), 1);
    }
    for id in &ids {
        assert_eq!(value_of(&world.simulator, id, "mx_City").as_deref(), Some(id.as_str()));
    }
    let (single, together) = (world.calls("Lead.Update").len(), ids_in(&world, UPDATE_V2));
    let most = together.iter().map(Vec::len).max().unwrap();
    assert_eq!(most, 25, "{together:?}");
    assert_eq!(single + together.iter().map(Vec::len).sum::<usize>(), 52);
    assert!(
        single + together.len() <= 8,
        "{single} alone, {} together",
        together.len()
    );
    assert_eq!(world.simulator.stats().refused, 0);
    // Nobody else was there: no reason to share a call.
    world.simulator.forget_calls();
    tokio::time::sleep(Duration::from_millis(700)).await;
    update(&world, update_of(&ids[0], "Pune")).await.unwrap();
    assert_eq!((world.calls("Lead.Update").len(), world.calls(UPDATE_V2).len()), (1, 0));
}

#[tokio::test]
async fn reads_that_wait_travel_together_and_each_gets_its_own_lead() {
    let options = Options {
        by_ids_order: Order::Reversed,
        by_ids_page_max: 150,
        ..options()
    };
    let world = World::with(options, SETTINGS).await.warm().await;
    let mut ids = leads(&world, 200);
    let missing = Uuid::new_v4().to_string();
    ids.insert(77, missing.clone());
    ids.push(ids[3].to_uppercase());
    let singly = world.get(by_id(&ids[0])).await.unwrap();
    let results = get_all(&world, &ids).await;
    for (id, result) in ids.iter().zip(&results) {
        match result {
            Ok(lead) => assert_eq!(lead.lead_id, id.to_lowercase()),
            Err(status) => {
                assert_eq!(*id, missing);
                seen(status.clone()).is(Code::NotFound, "LEAD_NOT_FOUND");
            }
        }
    }
    // The same to the last attribute, whichever way it came.
    let again = results
        .into_iter()
        .find_map(|result| result.ok().filter(|lead| lead.lead_id == singly.lead_id));
    assert_eq!(again.unwrap(), singly);
    let calls = world.calls(BY_IDS).len() + world.calls("Leads.GetById").len();
    assert!(calls <= 8, "{calls} calls");
    assert!(world.calls(BY_IDS).len() >= 2, "the pages of 150 are too short for one");
}

#[tokio::test]
async fn a_whole_batch_that_is_refused_is_halved_until_who_is_to_blame_is_alone() {
    let world = world("").await;
    let ids = leads(&world, 20);
    let refusal = FaultKind::Respond {
        status: 500,
        body: r#"{"Status":"Error","ExceptionType":"MXInvalidInputException","ExceptionMessage":"Nonsense"}"#.into(),
        content_type: None,
        commit: false,
    };
    // The first three calls: all, the first half, and its first half.
    world
        .simulator
        .add_fault(Fault::new(UPDATE_V2, refusal).times(3))
        .unwrap();
    for result in update_all(&world, ids.iter().map(|id| update_of(id, "Pune")).collect()).await {
        assert_eq!(result.unwrap(), 1);
    }
    let sizes: Vec<_> = ids_in(&world, UPDATE_V2).iter().map(Vec::len).collect();
    assert_eq!(sizes[1], sizes[0].div_ceil(2), "{sizes:?}");
    assert_eq!(sizes[2], sizes[1].div_ceil(2), "{sizes:?}");
    for id in &ids {
        assert_eq!(value_of(&world.simulator, id, "mx_City").as_deref(), Some("Pune"));
    }
    let metrics = world.page("/metrics").await.1;
    assert!(
        metrics.contains("leadgate_batch_bisections_total{tenant=\"acme\",lane=\"updates\"} 3"),
        "{metrics}"
    );
}

#[tokio::test]
async fn where_the_account_has_no_bulk_calls_all_go_alone_and_it_is_not_tried_again() {
    let world = world("").await;
    let ids = leads(&world, 12);
    let missing = FaultKind::Respond {
        status: 404,
        body: "Endpoint not found.".into(),
        content_type: None,
        commit: false,
    };
    world
        .simulator
        .add_fault(Fault::new(UPDATE_V2, missing).times(100))
        .unwrap();
    for _ in 0..2 {
        for result in update_all(&world, ids[..6].iter().map(|id| update_of(id, "Pune")).collect()).await {
            assert_eq!(result.unwrap(), 1);
        }
    }
    // All, and both halves, since one of the updates might have been to blame.
    assert_eq!(
        (world.calls(UPDATE_V2).len(), world.calls("Lead.Update").len()),
        (3, 12)
    );
}

#[tokio::test]
async fn one_who_is_to_blame_is_told_so_and_the_others_are_not() {
    let world = world("").await;
    let ids = leads(&world, 12);
    let unknown = Uuid::new_v4().to_string();
    let mut updates: Vec<_> = ids.iter().map(|id| update_of(id, "Pune")).collect();
    updates.insert(5, update_of(&unknown, "Pune"));
    // The address of another lead.
    let mut clash = update_of(&ids[7], "Pune");
    clash.lead.as_mut().unwrap().email_address = Some("lead-0@example.com".into());
    updates[8] = clash;
    let results = update_all(&world, updates).await;
    for (at, result) in results.into_iter().enumerate() {
        match (at, result) {
            (5, result) => seen(result.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND"),
            (8, result) => seen(result.unwrap_err()).is(Code::AlreadyExists, "LEAD_DUPLICATE"),
            (_, result) => assert_eq!(result.unwrap(), 1),
        }
    }
}

#[tokio::test]
async fn twins_never_travel_together_and_keep_their_order() {
    let world = world("").await;
    let ids = leads(&world, 6);
    let mut updates = JoinSet::new();
    // One after the other, so that their order is known.
    for round in 0..4 {
        for id in &ids {
            let mut client = world.client.clone();
            let message = update_of(
                &if round % 2 == 0 { id.clone() } else { id.to_uppercase() },
                &format!("{round}"),
            );
            updates.spawn(async move { client.update_lead(message).await.map(|_| ()) });
        }
        let queued = 6 * (round + 1);
        let waiting = async {
            while world.simulator.calls().len() + waiting(&world).await < queued {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), waiting)
            .await
            .unwrap_or(());
    }
    for result in updates.join_all().await {
        result.unwrap();
    }
    for batch in ids_in(&world, UPDATE_V2) {
        let distinct: BTreeSet<_> = batch.iter().map(|id| id.to_lowercase()).collect();
        assert_eq!(distinct.len(), batch.len(), "{batch:?}");
    }
    for id in &ids {
        assert_eq!(value_of(&world.simulator, id, "mx_City").as_deref(), Some("3"));
    }
}

/// How many calls wait for the quota.
async fn waiting(world: &World) -> usize {
    let metrics = world.page("/metrics").await.1;
    let counts = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("leadgate_quota_waiting{"));
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

#[tokio::test]
async fn each_update_of_a_batch_whose_answer_was_lost_is_settled_and_none_is_done_twice() {
    for what in [
        FaultKind::CommitThenDrop,
        FaultKind::GarbageJson,
        FaultKind::Respond {
            status: 200,
            body: r#"{"Status":{"TotalCount":9},"Details":{"SuccessfulLeads":[{"Identifier":"ProspectId"}]}}"#.into(),
            content_type: None,
            commit: true,
        },
    ] {
        let world = world("").await;
        let ids = leads(&world, 10);
        world.simulator.add_fault(Fault::new(UPDATE_V2, what.clone())).unwrap();
        for result in update_all(&world, ids.iter().map(|id| update_of(id, "Pune")).collect()).await {
            assert_eq!(result.unwrap(), 1, "{what:?}");
        }
        let sent: Vec<_> = ids_in(&world, UPDATE_V2).concat();
        let alone = world.calls("Lead.Update").len();
        assert_eq!(sent.len() + alone, 10, "{what:?}: {sent:?}");
        // Looked up, and that together, too.
        assert!(!world.calls(BY_IDS).is_empty(), "{what:?}");
    }
}

#[tokio::test]
async fn each_create_of_a_batch_whose_answer_was_lost_is_found_and_made_once() {
    for what in [FaultKind::CommitThenDrop, FaultKind::DropBefore] {
        let world = world(ALL_LANES).await;
        world
            .simulator
            .add_fault(Fault::new("Lead/Bulk/Create", what.clone()))
            .unwrap();
        let mut creates = JoinSet::new();
        for n in 0..12 {
            let mut client = world.client.clone();
            let message = pb::CreateLeadRequest {
                lead: Some(lead(&format!("Asha{n}"))),
                ..Default::default()
            };
            creates.spawn(async move { client.create_lead(message).await });
        }
        let made: BTreeSet<_> = creates
            .join_all()
            .await
            .into_iter()
            .map(|made| made.unwrap().into_inner().lead_id)
            .collect();
        let there: BTreeSet<_> = world
            .simulator
            .leads()
            .into_iter()
            .map(|lead| lead["ProspectID"].clone().unwrap())
            .collect();
        assert_eq!(made.len(), 12, "{what:?}");
        assert_eq!(made, there, "{what:?}");
    }
}

#[tokio::test]
async fn of_two_creates_with_one_address_the_second_is_a_duplicate_wherever_they_travel() {
    let world = world(ALL_LANES).await;
    let mut creates = JoinSet::new();
    for n in 0..16 {
        let mut client = world.client.clone();
        let message = pb::CreateLeadRequest {
            lead: Some(lead(&format!("Asha{}", n / 2))),
            ..Default::default()
        };
        creates.spawn(async move { client.create_lead(message).await });
    }
    let results = creates.join_all().await;
    let made = results.iter().filter(|result| result.is_ok()).count();
    for status in results.into_iter().filter_map(Result::err) {
        seen(status).is(Code::AlreadyExists, "LEAD_DUPLICATE");
    }
    assert_eq!((made, world.simulator.leads().len()), (8, 8));
    for call in world.calls("Lead/Bulk/Create") {
        let addresses = call.body.matches("@example.com").count();
        let distinct: BTreeSet<_> = call
            .body
            .split('"')
            .filter(|text| text.ends_with("@example.com"))
            .collect();
        assert_eq!(distinct.len(), addresses, "{}", call.body);
    }
}

#[tokio::test]
async fn a_member_that_leaves_or_runs_out_of_time_before_the_call_is_not_sent() {
    let world = world("").await;
    let ids = leads(&world, 9);
    // With that for the metadata two windows are full, and the second has just begun.
    for id in [&ids[0], &ids[1], &ids[8]] {
        update(&world, update_of(id, "Pune")).await.unwrap();
    }
    let (mut hasty, message) = (world.client.clone(), update_of(&ids[2], "Late"));
    let short = hasty.update_lead(within(Duration::from_millis(60), message)).await;
    assert!(matches!(
        short.unwrap_err().code(),
        Code::ResourceExhausted | Code::DeadlineExceeded
    ));
    let (mut leaving, message) = (world.client.clone(), update_of(&ids[3], "Left"));
    let left = tokio::time::timeout(Duration::from_millis(50), leaving.update_lead(message)).await;
    assert!(left.is_err());
    let rest = update_all(&world, ids[4..8].iter().map(|id| update_of(id, "Pune")).collect()).await;
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    for id in &ids[2..4] {
        assert_eq!(value_of(&world.simulator, id, "mx_City"), None);
    }
    let sent: Vec<_> = ids_in(&world, UPDATE_V2).concat();
    assert!(!sent.contains(&ids[2]) && !sent.contains(&ids[3]), "{sent:?}");
}

#[tokio::test]
async fn an_update_that_follows_an_upsert_of_the_same_address_sees_it() {
    let world = world(ALL_LANES).await;
    let ids = leads(&world, 20);
    // Others of both lanes make all of them wait.
    let others = update_all(&world, ids.iter().map(|id| update_of(id, "Pune")).collect());
    let pair = async {
        let mut results = Vec::new();
        for (n, id) in ids.iter().enumerate().take(5) {
            let email = format!("lead-{n}@example.com");
            let fields = |city: &str| pb::LeadFields {
                email_address: Some(email.clone()),
                city: Some(city.to_owned()),
                ..Default::default()
            };
            let upsert = pb::UpsertLeadRequest {
                lead: Some(fields("Delhi")),
                ..Default::default()
            };
            let update = pb::UpdateLeadRequest {
                lead: Some(fields("Mumbai")),
                ..update_of(id, "")
            };
            let (mut first, mut second) = (world.client.clone(), world.client.clone());
            let upsert = tokio::spawn(async move { first.upsert_lead(upsert).await });
            tokio::time::sleep(Duration::from_millis(5)).await;
            let update = tokio::spawn(async move { second.update_lead(update).await });
            results.push((upsert, update));
        }
        for (upsert, update) in results {
            upsert.await.unwrap().unwrap();
            update.await.unwrap().unwrap();
        }
    };
    let (others, ()) = tokio::join!(others, pair);
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    for id in &ids[..5] {
        assert_eq!(value_of(&world.simulator, id, "mx_City").as_deref(), Some("Mumbai"));
    }
}

#[tokio::test]
async fn a_lane_serves_single_calls_only_where_it_is_switched_on() {
    let off = world("[tenant_defaults.batching]\nreads = false\nupdates = false\n").await;
    let ids = leads(&off, 4);
    update_all(&off, ids.iter().map(|id| update_of(id, "Pune")).collect()).await;
    get_all(&off, &ids).await;
    for n in 0..4 {
        off.create(lead(&format!("Asha{n}"))).await.unwrap();
    }
    let endpoints: BTreeSet<_> = off.simulator.calls().into_iter().map(|call| call.endpoint).collect();
    assert_eq!(
        endpoints,
        ["Lead.Create", "Lead.Update", "Leads.GetById"]
            .map(str::to_owned)
            .into()
    );
}

#[tokio::test]
async fn what_runs_automations_goes_alone() {
    let world = world("").await;
    let ids = leads(&world, 6);
    let runs = |id: &String| pb::UpdateLeadRequest {
        run_automations: true,
        ..update_of(id, "Pune")
    };
    let results = update_all(&world, ids.iter().map(runs).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((world.calls("Lead.Update").len(), world.calls(UPDATE_V2).len()), (6, 0));
}

#[tokio::test]
async fn a_batch_of_creates_travels_in_bulk_and_each_has_its_own_result_in_order() {
    let world = world("").await;
    leads(&world, 1);
    let create = |name: &str| pb::CreateLeadRequest {
        lead: Some(lead(name)),
        ..Default::default()
    };
    let mut requests: Vec<_> = (0..120).map(|n| create(&format!("Asha{n}"))).collect();
    requests[17] = pb::CreateLeadRequest::default();
    requests[60] = create("lead-0");
    let message = pb::BatchCreateLeadsRequest {
        requests,
        request_id: Uuid::new_v4().to_string(),
    };
    let results = world
        .client
        .clone()
        .batch_create_leads(message.clone())
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(results.len(), 120);
    for (at, result) in results.iter().enumerate() {
        match (at, result.result.as_ref().unwrap()) {
            (17, pb::batch_create_leads_result::Result::Error(error)) => assert_eq!(error.code, 3),
            (60, pb::batch_create_leads_result::Result::Error(error)) => assert_eq!(error.code, 6),
            (_, pb::batch_create_leads_result::Result::Response(response)) => {
                let email = format!("asha{at}@example.com");
                assert_eq!(
                    value_of(&world.simulator, &response.lead_id, "EmailAddress"),
                    Some(email)
                );
            }
            (at, other) => panic!("{at}: {other:?}"),
        }
    }
    // 118 leads and a duplicate, and no single call, which might run automations.
    assert_eq!(world.calls("Lead.Create").len(), 0);
    assert!(world.calls("Lead/Bulk/Create").len() <= 5);
    assert_eq!(world.simulator.leads().len(), 119);

    // The same again is answered without LeadSquared, another message is not.
    world.simulator.forget_calls();
    let again = world
        .client
        .clone()
        .batch_create_leads(message.clone())
        .await
        .unwrap()
        .into_inner()
        .results;
    let told = |results: &[pb::BatchCreateLeadsResult]| -> Vec<_> {
        let lead_id = |result: &pb::BatchCreateLeadsResult| match result.result.as_ref() {
            Some(pb::batch_create_leads_result::Result::Response(response)) => response.lead_id.clone(),
            _ => String::new(),
        };
        results.iter().map(lead_id).collect()
    };
    assert_eq!(told(&again), told(&results));
    assert_eq!(world.simulator.calls().len(), 0);
    let mut other = message;
    other.requests.pop();
    let status = world.client.clone().batch_create_leads(other).await.unwrap_err();
    seen(status).is(Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn a_batch_has_a_size() {
    let world = world("[tenant_defaults.batching]\nmax_requests = 3\n").await;
    for count in [0, 4] {
        let message = pb::BatchUpdateLeadsRequest {
            requests: vec![update_of("x", "Pune"); count],
            request_id: "no uuid".to_owned(),
        };
        let status = world.client.clone().batch_update_leads(message).await.unwrap_err();
        assert_eq!(seen(status).fields(), ["request_id", "requests"]);
    }
    assert_eq!(world.simulator.calls().len(), 0);
}

#[tokio::test]
async fn a_batch_of_upserts_tells_what_was_created() {
    let world = world("").await;
    leads(&world, 2);
    let upsert = |name: &str| pb::UpsertLeadRequest {
        lead: Some(lead(name)),
        ..Default::default()
    };
    let message = pb::BatchUpsertLeadsRequest {
        requests: vec![upsert("lead-0"), upsert("Asha"), upsert("lead-1"), upsert("Asha")],
        ..Default::default()
    };
    let results = world
        .client
        .clone()
        .batch_upsert_leads(message)
        .await
        .unwrap()
        .into_inner()
        .results;
    let outcomes: Vec<_> = results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            pb::batch_upsert_leads_result::Result::Response(response) => response.outcome(),
            other => panic!("{other:?}"),
        })
        .collect();
    use pb::UpsertOutcome::{Created, Updated};
    // The last one is a twin of the second and goes after it.
    assert_eq!(outcomes, [Updated, Created, Updated, Updated]);
    assert_eq!(
        world.calls("Lead/Bulk/CreateOrUpdate").len(),
        2,
        "all others are one call"
    );
    assert_eq!(world.calls("Lead.CreateOrUpdate").len(), 0);
}

#[tokio::test]
async fn an_import_answers_every_row_and_counts_in_its_trailers() {
    let world = world("[tenant_defaults.batching]\nimport_window = 40\n").await;
    let ids = leads(&world, 1);
    let rows = (0..130).map(move |sequence| {
        let operation = match sequence {
            5 => None,
            6 => Some(Operation::Update(update_of(&ids[0], "Pune"))),
            7 => Some(Operation::Upsert(pb::UpsertLeadRequest {
                lead: Some(lead("lead-0")),
                ..Default::default()
            })),
            8 => Some(Operation::Create(pb::CreateLeadRequest {
                lead: Some(lead("lead-0")),
                ..Default::default()
            })),
            _ => Some(Operation::Create(pb::CreateLeadRequest {
                lead: Some(lead(&format!("Asha{sequence}"))),
                ..Default::default()
            })),
        };
        pb::ImportLeadsRequest { sequence, operation }
    });
    let mut answers = world
        .client
        .clone()
        .import_leads(tokio_stream::iter(rows))
        .await
        .unwrap()
        .into_inner();
    let mut told = std::collections::BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(told.insert(answer.sequence, answer.result.unwrap()).is_none());
    }
    assert_eq!(told.len(), 130);
    for (sequence, result) in &told {
        match (sequence, result) {
            (5, pb::import_leads_response::Result::Error(error)) => assert_eq!(error.code, 3),
            (8, pb::import_leads_response::Result::Error(error)) => assert_eq!(error.code, 6),
            (6 | 7, pb::import_leads_response::Result::Response(lead)) => {
                assert_eq!(lead.outcome(), pb::UpsertOutcome::Updated);
            }
            (_, pb::import_leads_response::Result::Response(lead)) => {
                assert_eq!(lead.outcome(), pb::UpsertOutcome::Created);
            }
            other => panic!("{other:?}"),
        }
    }
    let trailers = answers.trailers().await.unwrap().unwrap();
    let count = |name: &str| trailers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(count("x-leadgate-import-received"), "130");
    assert_eq!(count("x-leadgate-import-succeeded"), "128");
    assert_eq!(count("x-leadgate-import-failed"), "2");
    assert!(
        world
            .calls("Lead/Bulk/Create")
            .iter()
            .all(|call| call.body.matches("EmailAddress").count() <= 50)
    );
}

#[tokio::test]
async fn identical_reads_under_way_are_one_call() {
    let world = world("").await;
    leads(&world, 3);
    world
        .simulator
        .add_fault(Fault::new(
            "Leads.GetByEmailaddress",
            FaultKind::Delay {
                by: Duration::from_millis(150),
            },
        ))
        .unwrap();
    let mut reads = JoinSet::new();
    for n in 0..30 {
        let (mut client, email) = (
            world.client.clone(),
            if n % 2 == 0 {
                "lead-1@example.com"
            } else {
                "LEAD-1@example.com"
            },
        );
        let request = pb::GetLeadRequest {
            key: Some(pb::get_lead_request::Key::EmailAddress(email.to_owned())),
            ..Default::default()
        };
        reads.spawn(async move { client.get_lead(request).await });
    }
    for read in reads.join_all().await {
        let lead = read.unwrap().into_inner().lead.unwrap();
        assert_eq!(
            lead.fields.unwrap().email_address.as_deref(),
            Some("lead-1@example.com")
        );
    }
    assert_eq!(world.calls("Leads.GetByEmailaddress").len(), 1);
    world
        .until("leadgate_reads_coalesced_total{tenant=\"acme\",by=\"flight\"} 29")
        .await;
}

#[tokio::test]
async fn a_read_after_a_write_does_not_join_one_that_began_before() {
    let world = World::start().await.warm().await;
    let ids = leads(&world, 2);
    let get = |n: usize| {
        let (world, email) = (world.client.clone(), format!("lead-{n}@example.com"));
        async move {
            let key = Some(pb::get_lead_request::Key::EmailAddress(email));
            let request = pb::GetLeadRequest {
                key,
                ..Default::default()
            };
            world.clone().get_lead(request).await.map(|_| ())
        }
    };
    let hang = FaultKind::Delay {
        by: Duration::from_millis(400),
    };
    world
        .simulator
        .add_fault(Fault::new("Leads.GetByEmailaddress", hang))
        .unwrap();
    let early = tokio::spawn(get(0));
    while world.calls("Leads.GetByEmailaddress").is_empty() {
        tokio::task::yield_now().await;
    }
    // Which lead it looks for is not known yet; the one that is written may be it.
    update(&world, update_of(&ids[1], "Pune")).await.unwrap();
    get(0).await.unwrap();
    assert!(!early.is_finished(), "the first is still under way");
    assert_eq!(world.calls("Leads.GetByEmailaddress").len(), 2);
    early.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_flight_outlives_its_first_caller_and_ends_with_its_last() {
    let world = world("").await;
    let delay = || {
        Fault::new(
            "Leads.GetByEmailaddress",
            FaultKind::Delay {
                by: Duration::from_millis(200),
            },
        )
    };
    leads(&world, 1);
    let get = |limit| {
        let mut client = world.client.clone();
        let request = pb::GetLeadRequest {
            key: Some(pb::get_lead_request::Key::EmailAddress("lead-0@example.com".to_owned())),
            ..Default::default()
        };
        async move { client.get_lead(within(limit, request)).await }
    };
    world.simulator.add_fault(delay()).unwrap();
    let (short, long) = tokio::join!(get(Duration::from_millis(120)), get(Duration::from_secs(5)));
    seen(short.unwrap_err()).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    // Another one's deadline is not one's own.
    assert_eq!(
        long.unwrap()
            .into_inner()
            .lead
            .unwrap()
            .fields
            .unwrap()
            .first_name
            .as_deref(),
        Some("Old")
    );
}

#[tokio::test]
async fn an_older_answer_is_told_to_those_who_can_do_with_it_until_the_lead_is_written() {
    let world = world("").await;
    let ids = leads(&world, 2);
    let get = |id: &str, seconds: Option<i64>, paths: &[&str]| {
        let mut client = world.client.clone();
        let request = pb::GetLeadRequest {
            key: Some(by_id(id)),
            max_staleness: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            read_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        };
        async move {
            client
                .get_lead(request)
                .await
                .unwrap()
                .into_inner()
                .lead
                .unwrap()
                .fields
                .unwrap()
        }
    };
    let reads = || world.calls("Leads.GetById").len() + world.calls(BY_IDS).len();
    get(&ids[0], Some(60), &[]).await;
    get(&ids[0], Some(60), &["fields.city"]).await;
    get(&ids[0].to_uppercase(), Some(60), &[]).await;
    assert_eq!(reads(), 1);
    // Who says nothing wants it as it is.
    get(&ids[0], None, &[]).await;
    assert_eq!(reads(), 2);
    update(&world, update_of(&ids[0], "Pune")).await.unwrap();
    let fields = get(&ids[0], Some(60), &["fields.city"]).await;
    assert_eq!((fields.city.as_deref(), fields.first_name), (Some("Pune"), None));
    assert_eq!(reads(), 3);
    // A narrow answer is none to a wide question.
    assert_eq!(get(&ids[0], Some(60), &[]).await.first_name.as_deref(), Some("Old"));
    assert_eq!(reads(), 4);
}

#[tokio::test]
async fn what_is_computed_is_read_singly() {
    let world = world("").await;
    let ids = leads(&world, 8);
    let mut reads = JoinSet::new();
    for id in &ids {
        let (mut client, key) = (world.client.clone(), Some(by_id(id)));
        let request = pb::GetLeadRequest {
            key,
            read_mask: Some(prost_types::FieldMask {
                paths: vec!["fields.custom.NotInTheMetadata".to_owned()],
            }),
            ..Default::default()
        };
        reads.spawn(async move { client.get_lead(request).await });
    }
    assert!(reads.join_all().await.iter().all(Result::is_ok));
    assert_eq!((world.calls("Leads.GetById").len(), world.calls(BY_IDS).len()), (8, 0));
}

#[tokio::test]
async fn a_field_set_is_not_sent_in_a_form_that_is_not_known() {
    let world = world("").await;
    let ids = leads(&world, 5);
    let set = pb::FieldValue {
        value: Some(pb::field_value::Value::FieldSet(pb::FieldSet {
            value: String::new(),
            fields: [("Status".to_owned(), "Pending".to_owned())].into(),
        })),
    };
    let with_set = |id: &String| pb::UpdateLeadRequest {
        lead: Some(pb::LeadFields {
            custom: custom(&[("mx_KYC", set.clone()), ("mx_Nickname", text("x"))]),
            ..Default::default()
        }),
        ..update_of(id, "")
    };
    update_all(&world, ids.iter().map(with_set).collect()).await;
    assert_eq!(world.calls(UPDATE_V2).len(), 0);
}

#[tokio::test]
async fn shares_of_known_leads_with_known_users_cost_hardly_more_than_one_call_each() {
    let per = Duration::from_millis(500);
    let options = Options {
        limits: Limits {
            calls: 25,
            bulk: 5,
            per,
            ..Limits::default()
        },
        ..options()
    };
    let settings = "[tenants.acme.limits]\ncalls = 25\nbulk = 5\nwindow = \"500ms\"\n\
                    [tenants.acme.batching]\nactivities = true\n\
                    [tenants.acme.sharing]\ndefault_activity_type = 201\npoll_every = \"20ms\"\n";
    let world = World::with(options, settings).await.warm().await;
    let client = ShareServiceClient::new(channel(world.address).await);
    let ids = leads(&world, 100);
    let share_all = |user: &'static str| {
        let mut shares = JoinSet::new();
        for id in &ids {
            let mut client = client.clone();
            let request = pb::ShareLeadRequest {
                lead: Some(pb::share_lead_request::Lead::LeadId(id.clone())),
                user: Some(pb::share_lead_request::User::UserId(user.to_owned())),
                access: pb::Access::Read.into(),
                wait_for: pb::WaitFor::Active.into(),
                ..Default::default()
            };
            shares.spawn(async move { client.share_lead(request).await });
        }
        async move {
            for share in shares.join_all().await {
                let share = share.unwrap().into_inner().share.unwrap();
                assert_eq!(share.state(), pb::ShareState::Active, "{share:?}");
            }
        }
    };
    // From then on the leads are in the ledger.
    share_all(SITA).await;
    world.simulator.forget_calls();
    share_all(SAM).await;
    let calls = world.simulator.calls();
    let is_poll = |endpoint: &str| endpoint.contains("Status");
    let paid = calls.iter().filter(|call| !is_poll(&call.endpoint)).count();
    assert!(calls.iter().any(|call| is_poll(&call.endpoint)), "{calls:?}");
    assert!((100..=130).contains(&paid), "{paid} calls for 100 shares");
    assert_eq!(world.simulator.stats().refused, 0);
    // Each with an activity of its own that belongs to the user.
    let activities = world.simulator.activities();
    let ours: BTreeSet<_> = activities
        .iter()
        .filter(|activity| activity.owner.as_deref() == Some(SAM))
        .map(|activity| activity.lead_id.clone())
        .collect();
    assert_eq!(ours.len(), 100);
}

/// A zone in which it is early in the day.
fn morning() -> String {
    let hour = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    // The signs of these zones are the other way round.
    match 2 - hour {
        ahead @ 0.. => format!("Etc/GMT-{ahead}"),
        behind @ -12..0 => format!("Etc/GMT+{}", -behind),
        far => format!("Etc/GMT-{}", far + 24),
    }
}

#[tokio::test]
async fn where_the_day_is_short_updates_wait_for_a_bulk_slot() {
    let mut options = options();
    options.limits.calls = 10;
    let settings = format!(
        "[tenant_defaults.limits]\ncalls = 10\nbulk = 1\nwindow = \"300ms\"\ndaily = 100\ndaily_reset_zone = \"{}\"\n",
        morning()
    );
    let world = World::with(options, &settings).await.warm().await;
    let ids = leads(&world, 60);
    let max_in_work = |world: &World| (world.calls("Lead.Update").len(), world.calls(UPDATE_V2).len());
    update_all(&world, ids[..8].iter().map(|id| update_of(id, "Pune")).collect()).await;
    let (alone, _) = max_in_work(&world);
    assert!(alone >= 4, "the day is long: who finds a slot goes");
    for id in &ids[..50] {
        let mut client = world.client.clone();
        client.batch_get_leads(crate::harness::lone_read(id)).await.unwrap();
    }
    world.simulator.forget_calls();
    let results = update_all(&world, ids[8..33].iter().map(|id| update_of(id, "Pune")).collect()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let (alone, together) = max_in_work(&world);
    assert_eq!(alone, 0);
    assert!(together <= 3, "{together} calls");
    // Who cannot wait so long goes.
    let (mut hasty, message) = (world.client.clone(), update_of(&ids[50], "Pune"));
    hasty
        .update_lead(within(Duration::from_millis(150), message))
        .await
        .unwrap();
    assert_eq!(max_in_work(&world).0, 1);
}

#[tokio::test]
async fn many_that_come_at_once_do_not_use_up_the_window_one_by_one() {
    let per = Duration::from_secs(4);
    let mut options = options();
    (options.limits.calls, options.limits.per) = (25, per);
    let settings = "[tenant_defaults.limits]\ncalls = 25\nwindow = \"4s\"\n";
    let world = World::with(options, settings).await.warm().await;
    let ids = leads(&world, 300);
    let started = tokio::time::Instant::now();
    assert!(get_all(&world, &ids).await.iter().all(Result::is_ok));
    // Without a pause the first 24 would go alone, and the rest a window later.
    let took = started.elapsed();
    assert!(took < per * 3 / 4, "{took:?}");
    let alone = world.calls("Leads.GetById").len();
    assert!((1..=20).contains(&alone), "{alone} alone");
    assert!(world.calls(BY_IDS).len() <= 6, "{} together", world.calls(BY_IDS).len());
}

#[tokio::test]
async fn an_import_reads_no_further_than_its_answers_are_taken() {
    let mut options = options();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    let settings =
        "[tenant_defaults.limits]\ncalls = 10000\nbulk = 10000\n[tenant_defaults.batching]\nimport_window = 20\n";
    let world = World::with(options, settings).await.warm().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counting = taken.clone();
    // Not one of them can be a lead, so the answers are long and cost nothing.
    let rows = (0..30_000).map(move |sequence| {
        counting.fetch_add(1, Ordering::Relaxed);
        let lead = pb::LeadFields {
            notes: Some("x".repeat(2_000)),
            ..Default::default()
        };
        let create = pb::CreateLeadRequest {
            lead: Some(lead),
            ..Default::default()
        };
        pb::ImportLeadsRequest {
            sequence,
            operation: Some(Operation::Create(create)),
        }
    });
    let mut answers = world
        .client
        .clone()
        .import_leads(tokio_stream::iter(rows))
        .await
        .unwrap()
        .into_inner();
    // Nobody takes answers: it stands still once the buffers of both sides are full.
    let (mut still, mut before) = (0, 0);
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = taken.load(Ordering::Relaxed);
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    assert!((20..20_000).contains(&before), "{before} rows were sent");
    let mut told = 0;
    while answers.message().await.unwrap().is_some() {
        told += 1;
    }
    assert_eq!((told, taken.load(Ordering::Relaxed)), (30_000, 30_000));
}

/// A batch of creates with that request id.
fn creates(request_id: Uuid, names: &[&str]) -> pb::BatchCreateLeadsRequest {
    let create = |name: &&str| pb::CreateLeadRequest {
        lead: Some(lead(name)),
        ..Default::default()
    };
    pb::BatchCreateLeadsRequest {
        requests: names.iter().map(create).collect(),
        request_id: request_id.to_string(),
    }
}

#[tokio::test]
async fn the_request_id_of_a_batch_stands_for_one_message_from_its_first_call_on() {
    let world = World::start().await.warm().await;
    let mut client = world.client.clone();
    let id = Uuid::new_v4();
    let by = Duration::from_millis(700);
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::Delay { by }))
        .unwrap();
    let request = within(Duration::from_millis(250), creates(id, &["Asha", "Ben"]));
    let results = client.batch_create_leads(request).await;
    // Its rows were sent, and their outcome is not known when the deadline passes.
    assert!(results.is_err() || results.is_ok_and(|response| !response.into_inner().results.is_empty()));
    let other = client.batch_create_leads(creates(id, &["Asha", "Ben", "Carl"])).await;
    seen(other.unwrap_err()).is(Code::InvalidArgument, "INVALID_FIELD");
    let again = client.batch_create_leads(creates(id, &["Asha", "Ben"])).await;
    let results = again.unwrap().into_inner().results;
    let is_done = |result: &pb::BatchCreateLeadsResult| {
        matches!(result.result, Some(pb::batch_create_leads_result::Result::Response(_)))
    };
    assert!(results.len() == 2 && results.iter().all(is_done), "{results:?}");
    assert_eq!(world.simulator.leads().len(), 2);
}
