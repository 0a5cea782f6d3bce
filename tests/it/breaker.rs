//! The circuit breaker of the whole gateway: what an outage of LeadSquared costs, and how callers and operators see
//! it.

use std::time::{Duration, SystemTime};

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options};
use pb::BreakerState;
use pb::quota_service_client::QuotaServiceClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Status};

use crate::harness::{World, by_id, channel, lead, lone_read, seen, within};

const BY_IDS: &str = "Leads/Retrieve/ByIds";
/// More calls than any test needs, and short pauses.
const SETTINGS: &str = "[tenant_defaults.limits]\ncalls = 100\nwindow = \"1s\"\n[tenant_defaults.upstream]\n\
                        breaker_failures = 5\nbreaker_pause = \"200ms\"\nbreaker_max_pause = \"400ms\"";
const OPEN: &str = "leadgate_upstream_breaker_open{tenant=\"acme\"} 1";
const CLOSED: &str = "leadgate_upstream_breaker_open{tenant=\"acme\"} 0";

async fn world(settings: &str) -> World {
    let mut options = Options::default();
    (options.limits.calls, options.limits.per) = (100, Duration::from_secs(1));
    World::with(options, settings).await.warm().await
}

/// Makes every call fail from now on.
fn fail(world: &World) {
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::Empty503).times(u32::MAX))
        .unwrap();
}

/// A response that asks to send nothing for a while.
fn retry_after(status: u16, value: &str) -> FaultKind {
    let value = value.to_owned();
    FaultKind::RetryAfter { status, value }
}

/// Reads the lead once with this timeout.
async fn read(world: &World, id: &str, limit: Duration) -> Result<(), Status> {
    let request = within(limit, lone_read(id));
    world.client.clone().batch_get_leads(request).await.map(|_| ())
}

/// Sends this number of reads at once.
fn reads(world: &World, id: &str, count: usize, limit: Duration) -> JoinSet<Result<(), Status>> {
    let mut reads = JoinSet::new();
    for _ in 0..count {
        let (mut client, request) = (world.client.clone(), within(limit, lone_read(id)));
        reads.spawn(async move { client.batch_get_leads(request).await.map(|_| ()) });
    }
    reads
}

async fn breaker(world: &World) -> pb::QuotaBreaker {
    let mut client = QuotaServiceClient::new(channel(world.address).await);
    let response = client.get_quota(pb::GetQuotaRequest {}).await.unwrap();
    response.into_inner().quota.unwrap().breaker.unwrap()
}

#[tokio::test]
async fn an_outage_costs_few_calls_and_waiting_calls_are_served_after_it() {
    let world = world(SETTINGS).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    assert_eq!(breaker(&world).await.state(), BreakerState::Closed);
    fail(&world);
    let mut reads = reads(&world, &id, 40, Duration::from_secs(30));
    world.until(OPEN).await;
    let state = breaker(&world).await;
    assert!(state.since.is_some(), "{state:?}");
    let is_open = |snapshot: &serde_json::Value| {
        let breaker = &snapshot["tenant"]["quota"]["breaker"];
        breaker["state"] == "open" && breaker["since"].is_i64()
    };
    world.snapshot(is_open).await;
    // Each read has used at most one attempt and has three left. An outage as short as this does not use them up.
    let mut begun = world.simulator.stats().accepted;
    sleep(Duration::from_millis(900)).await;
    let probes = world.simulator.stats().accepted - begun;
    assert!(probes <= 4, "{probes} probes");
    assert_eq!(world.page("/ready").await.0, 200);

    world.simulator.clear_faults();
    begun = world.simulator.stats().accepted;
    world.until(CLOSED).await;
    let closed = Instant::now();
    while let Some(read) = reads.join_next().await {
        read.unwrap().unwrap();
    }
    assert!(closed.elapsed() < Duration::from_secs(2), "{:?}", closed.elapsed());
    assert_eq!(world.simulator.stats().accepted - begun, 40);
    let state = breaker(&world).await;
    assert_eq!(
        (state.state(), state.since, state.next_probe_in),
        (BreakerState::Closed, None, None)
    );
}

#[tokio::test]
async fn while_it_is_open_a_call_that_cannot_be_served_in_time_fails_at_once() {
    // Half of the first reads wait in the queue.
    let settings = SETTINGS.replace("200ms", "3s").replace("400ms", "3s");
    let settings = settings.replace("calls = 100", "calls = 10");
    let world = world(&settings).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    fail(&world);
    // Calls in the queue fail as soon as the circuit breaker opens.
    let began = Instant::now();
    let mut reads = reads(&world, &id, 20, Duration::from_millis(2_500));
    while let Some(read) = reads.join_next().await {
        seen(read.unwrap().unwrap_err()).is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let state = breaker(&world).await;
    assert_eq!(state.state(), BreakerState::Open);
    let next_probe: Duration = state.next_probe_in.unwrap().try_into().unwrap();
    assert!(
        next_probe > Duration::from_secs(1) && next_probe <= Duration::from_secs(3),
        "{next_probe:?}"
    );

    let accepted = world.simulator.stats().accepted;
    let began = Instant::now();
    let error = seen(read(&world, &id, Duration::from_secs(1)).await.unwrap_err());
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    error.is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    let after = error.retry_after().unwrap();
    assert!(after <= next_probe && after > Duration::from_secs(1), "{after:?}");
    assert!(error.is_not_for_this_call(), "{error:?}");
    // A write that was not sent is not a write of unknown outcome.
    let request = pb::CreateLeadRequest {
        lead: Some(lead("Meera")),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let request = within(Duration::from_secs(1), request);
    let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
    error.is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(error.metadata["retry_same_request_id"], "true");
    assert_eq!(
        world.simulator.stats().accepted,
        accepted,
        "what is not sent costs nothing"
    );

    // A call with enough time waits and is the probe.
    world.simulator.clear_faults();
    read(&world, &id, Duration::from_secs(20)).await.unwrap();
    assert_eq!(breaker(&world).await.state(), BreakerState::Closed);
}

#[tokio::test]
async fn refused_connections_open_it() {
    let settings = format!(
        "{}\n{SETTINGS}",
        crate::outage::settings("http://127.0.0.1:9", "breaker_failures = 5")
    );
    let settings = settings.replace("insecure_plaintext = true\n", "");
    let world = World::gateway(leadgate_simulator::Simulator::new(Options::default()), &settings).await;
    let mut reads = reads(
        &world,
        "00000000-0000-4000-8000-000000000001",
        20,
        Duration::from_secs(1),
    );
    world.until(OPEN).await;
    while let Some(read) = reads.join_next().await {
        seen(read.unwrap().unwrap_err()).is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
}

#[tokio::test]
async fn zero_failures_disable_it() {
    let settings = SETTINGS.replace("breaker_failures = 5", "breaker_failures = 0\nmax_attempts = 1");
    let world = world(&settings).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    fail(&world);
    let mut all = reads(&world, &id, 40, Duration::from_secs(30));
    while let Some(read) = all.join_next().await {
        seen(read.unwrap().unwrap_err()).is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    assert_eq!(world.calls(BY_IDS).len(), 40);
    world.until(CLOSED).await;
}

#[tokio::test]
async fn a_row_that_makes_every_call_with_it_fail_does_not_open_it() {
    // Two failures would be enough.
    let settings = SETTINGS.replace("breaker_failures = 5", "breaker_failures = 2\nmax_attempts = 2");
    let settings =
        format!("{settings}\n[tenant_defaults.batching]\nreads = true\nupdates = true\nupserts = true\ncreates = true");
    for what in [FaultKind::Empty500, FaultKind::Empty503, FaultKind::Html502] {
        let mut options = Options::default();
        (options.limits.calls, options.limits.bulk, options.limits.per) = (4, 4, Duration::from_millis(300));
        let settings = settings.replace(
            "calls = 100\nwindow = \"1s\"",
            "calls = 4\nbulk = 4\nwindow = \"300ms\"",
        );
        let world = World::with(options, &settings).await.warm().await;
        let poisoned = world.simulator.insert_lead(&[("FirstName", "Asha")]);
        let good: Vec<_> = (0..30)
            .map(|n| world.simulator.insert_lead(&[("FirstName", &format!("Meera{n}"))]))
            .collect();
        world
            .simulator
            .add_fault(Fault::new("*", what.clone()).containing(poisoned.clone()))
            .unwrap();
        let mut all = JoinSet::new();
        for id in good.iter().take(15).chain([&poisoned]).chain(good.iter().skip(15)) {
            let (mut client, id) = (world.client.clone(), id.clone());
            all.spawn(async move {
                let request = pb::GetLeadRequest {
                    key: Some(by_id(&id)),
                    ..Default::default()
                };
                (id, client.get_lead(request).await)
            });
        }
        while let Some(read) = all.join_next().await {
            let (id, result) = read.unwrap();
            assert_eq!(result.is_err(), id == poisoned, "{what:?}: {result:?}");
            assert_eq!(breaker(&world).await.state(), BreakerState::Closed, "{what:?}");
        }
        assert!(world.calls(BY_IDS).len() > 2, "{what:?}: they have travelled together");
        let failed = world.simulator.calls().iter().filter(|call| call.status >= 500).count();
        assert!(failed > 2, "{what:?}: {failed}");
    }
}

#[tokio::test]
async fn operations_that_are_sent_alone_after_their_batch_failed_count_once_with_it() {
    let settings = "[tenant_defaults.limits]\ncalls = 1\nbulk = 1\nwindow = \"400ms\"\n[tenant_defaults.upstream]\n\
                    breaker_failures = 2\nmax_attempts = 1\n[tenant_defaults.batching]\nreads = true";
    let world = world(settings).await;
    let ids = ["Asha", "Meera", "Ravi"].map(|name| world.simulator.insert_lead(&[("FirstName", name)]));
    // The first call takes the slot.
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::Empty500).times(3).after(1))
        .unwrap();
    let mut all = JoinSet::new();
    for (n, id) in ids.into_iter().enumerate() {
        let mut client = world.client.clone();
        all.spawn(async move {
            let request = pb::GetLeadRequest {
                key: Some(by_id(&id)),
                ..Default::default()
            };
            client.get_lead(request).await
        });
        let waiting = format!("leadgate_quota_waiting{{tenant=\"acme\",class=\"sheddable-plus\"}} {n}");
        world.until(&waiting).await;
    }
    let results = all.join_all().await;
    assert_eq!(
        results.iter().filter(|result| result.is_err()).count(),
        2,
        "{results:?}"
    );
    assert_eq!(breaker(&world).await.state(), BreakerState::Closed);
    // Both in one batch, then each in a call of its own.
    let failed: Vec<_> = world
        .simulator
        .calls()
        .into_iter()
        .filter(|call| call.status >= 500)
        .collect();
    let endpoints: Vec<_> = failed.iter().map(|call| call.endpoint.as_str()).collect();
    assert_eq!(endpoints, [BY_IDS, "Leads.GetById", "Leads.GetById"]);
}

#[tokio::test]
async fn no_call_is_sent_before_the_retry_after_of_a_503_and_a_single_503_opens_it() {
    let world = world(SETTINGS).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    world
        .simulator
        .add_fault(Fault::new("*", retry_after(503, "2")))
        .unwrap();
    let began = Instant::now();
    let mut first = reads(&world, &id, 1, Duration::from_secs(30));
    world.until(OPEN).await;
    let started = Instant::now();
    let error = seen(read(&world, &id, Duration::from_secs(1)).await.unwrap_err());
    error.is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    read(&world, &id, Duration::from_secs(30)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    first.join_next().await.unwrap().unwrap().unwrap();
    let stamps: Vec<_> = world.calls(BY_IDS).iter().map(|call| call.stamp).collect();
    assert_eq!(stamps.len(), 3);
    assert!(stamps[1] - stamps[0] >= Duration::from_secs(2), "{stamps:?}");
}

#[tokio::test]
async fn no_call_is_sent_before_the_retry_after_of_a_429_and_it_stays_closed() {
    let date = jiff::Timestamp::try_from(SystemTime::now()).unwrap() + Duration::from_secs(3);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (value, at_least) in [("1", 1_000), (date.as_str(), 1_000)] {
        let world = world(SETTINGS).await;
        let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
        world
            .simulator
            .add_fault(Fault::new("*", retry_after(429, value)))
            .unwrap();
        let first = reads(&world, &id, 1, Duration::from_secs(30));
        world
            .until("leadgate_upstream_refusals_total{tenant=\"acme\",status=\"429\"} 1")
            .await;
        // The refused call is requeued, and other calls follow.
        let mut all = reads(&world, &id, 10, Duration::from_secs(30));
        assert_eq!(breaker(&world).await.state(), BreakerState::Closed);
        let error = seen(read(&world, &id, Duration::from_millis(300)).await.unwrap_err());
        error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
        while let Some(read) = all.join_next().await {
            read.unwrap().unwrap();
        }
        first.join_all().await.into_iter().for_each(|read| read.unwrap());
        let stamps: Vec<_> = world.calls(BY_IDS).iter().map(|call| call.stamp).collect();
        assert_eq!(stamps.len(), 12);
        let pause = stamps[1] - stamps[0];
        assert!(pause >= Duration::from_millis(at_least), "{value}: {pause:?}");
        assert!(pause < Duration::from_secs(5), "{value}: {pause:?}");
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_served_in_time_because_of_a_429_fails_at_once() {
    let world = world(SETTINGS).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    world
        .simulator
        .add_fault(Fault::new("*", retry_after(429, "10")))
        .unwrap();
    let (began, limit) = (Instant::now(), Duration::from_secs(5));
    let error = seen(read(&world, &id, limit).await.unwrap_err());
    error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
    assert!(began.elapsed() < limit / 2, "{:?}", began.elapsed());
    assert!(error.retry_after().unwrap() > limit, "{error:?}");
}

#[tokio::test]
async fn a_retry_after_is_cut_to_the_maximum_and_ignored_if_that_is_zero() {
    let world_with = async |most: &str| {
        let world = world(&format!("{SETTINGS}\nmax_retry_after = \"{most}\"")).await;
        let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
        world
            .simulator
            .add_fault(Fault::new("*", retry_after(503, "86400")))
            .unwrap();
        let began = Instant::now();
        read(&world, &id, Duration::from_secs(30)).await.unwrap();
        began.elapsed()
    };
    let cut = world_with("1s").await;
    assert!(cut >= Duration::from_secs(1) && cut < Duration::from_secs(3), "{cut:?}");
    let ignored = world_with("0s").await;
    assert!(ignored < Duration::from_millis(900), "{ignored:?}");
}

#[tokio::test]
async fn a_failure_counts_also_after_its_caller_has_cancelled() {
    let settings = SETTINGS.replace("200ms", "5s").replace("400ms", "5s");
    let world = world(&settings).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let lasting = Duration::from_millis(600);
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::HangBefore { lasting }).times(u32::MAX))
        .unwrap();
    let began = Instant::now();
    let mut all = reads(&world, &id, 6, Duration::from_millis(300));
    while let Some(read) = all.join_next().await {
        assert_eq!(read.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    }
    assert_eq!(breaker(&world).await.state(), BreakerState::Closed);
    sleep_until(began + lasting).await;
    world.until(OPEN).await;
}

#[tokio::test]
async fn a_write_whose_response_was_lost_is_looked_up_after_the_outage() {
    let world = world(SETTINGS).await;
    let commit = FaultKind::Respond {
        status: 503,
        body: String::new(),
        content_type: None,
        commit: true,
    };
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", commit).times(6))
        .unwrap();
    fail(&world);
    let mut creates = JoinSet::new();
    for n in 0..6 {
        let (mut client, lead) = (world.client.clone(), lead(&format!("Asha{n}")));
        let request = pb::CreateLeadRequest {
            lead: Some(lead),
            ..Default::default()
        };
        creates.spawn(async move { client.create_lead(within(Duration::from_secs(30), request)).await });
    }
    world.until(OPEN).await;
    sleep(Duration::from_millis(500)).await;
    world.simulator.clear_faults();
    while let Some(created) = creates.join_next().await {
        created.unwrap().unwrap();
    }
    assert_eq!(
        (world.simulator.leads().len(), world.calls("Lead.Create").len()),
        (6, 6)
    );
}
