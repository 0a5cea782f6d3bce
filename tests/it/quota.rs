//! The rate limit, counted at the server: it is never exceeded, no call is refused, and it is used. Also the errors of
//! calls that cannot be served in time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Latency, Limits, Options, Refusal, Window};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::harness::{Client, World, by_id, lead, lone_read, seen, within};

const PER: Duration = Duration::from_millis(500);
const SETTINGS: &str = "[tenant_defaults.limits]\ncalls = 10\nwindow = \"500ms\"";

fn limited(window: Window, refusal: Refusal) -> Options {
    Options {
        limits: Limits {
            calls: 10,
            per: PER,
            window,
            refusal,
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(1),
            max: Duration::from_millis(30),
        },
        ..Options::default()
    }
}

/// Reads the lead this number of times at once. Returns the time until all responses are received.
async fn burst(world: &World, id: &str, count: usize) -> Duration {
    let started = Instant::now();
    let mut reads = JoinSet::new();
    for _ in 0..count {
        let mut client = world.client.clone();
        let request = lone_read(id);
        reads.spawn(async move { client.batch_get_leads(request).await.map(|_| ()) });
    }
    while let Some(read) = reads.join_next().await {
        read.unwrap().unwrap();
    }
    started.elapsed()
}

#[tokio::test]
async fn no_window_of_any_kind_is_exceeded_and_each_is_used() {
    for window in [
        Window::Fixed,
        Window::FirstRequest,
        Window::Sliding,
        Window::SlidingCountingRefusals,
        Window::TokenBucket,
    ] {
        let world = World::with(limited(window, Refusal::S429), SETTINGS).await.warm().await;
        let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
        // One call was sent before, so the burst needs four more windows than the first.
        let took = burst(&world, &id, 49).await;
        let stats = world.simulator.stats();
        assert_eq!((stats.accepted, stats.refused), (50, 0), "{window:?}");
        assert!(world.simulator.worst_window() <= 10, "{window:?}");
        assert!(took > PER * 4 - PER / 2, "{window:?}: {took:?}");
        // Each cycle is longer than the window by the margin and the latency. Twice as long would be an error.
        assert!(took < PER * 8, "{window:?}: {took:?}");
    }
}

#[tokio::test]
async fn refused_calls_are_requeued_for_every_form_of_refusal() {
    for refusal in [Refusal::S429, Refusal::S403, Refusal::S200] {
        let world = World::with(limited(Window::Sliding, refusal), SETTINGS)
            .await
            .warm()
            .await;
        world
            .simulator
            .add_fault(Fault::new("Lead.Create", FaultKind::Refuse).times(3))
            .unwrap();
        let id = world.create(lead("Asha")).await.unwrap();
        assert_eq!(world.simulator.leads().len(), 1);
        world
            .simulator
            .add_fault(Fault::new("Leads.GetById", FaultKind::Refuse))
            .unwrap();
        assert_eq!(world.get(by_id(&id)).await.unwrap().lead_id, id);
        assert_eq!(world.simulator.stats().refused, 4, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_lower_limit_than_configured_is_respected_once_it_is_reported() {
    let mut options = limited(Window::Sliding, Refusal::S429);
    options.limits.per = Duration::from_secs(1);
    options.limits.calls = 4;
    let settings = "[tenant_defaults.limits]\ncalls = 10\nwindow = \"1s\"";
    let world = World::with(options, settings).await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    burst(&world, &id, 10).await;
    let refused = world.simulator.stats().refused;
    assert!((1..=8).contains(&refused), "{refused} refused");
    burst(&world, &id, 10).await;
    assert_eq!(world.simulator.stats().refused, refused);
    world
        .until("leadgate_quota_limit{tenant=\"acme\",window=\"calls\"} 4")
        .await;
}

#[tokio::test]
async fn calls_at_startup_count_like_all_others() {
    let world = World::with(limited(Window::Sliding, Refusal::S429), SETTINGS).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    burst(&world, &id, 30).await;
    let stats = world.simulator.stats();
    assert_eq!((stats.accepted, stats.refused), (31, 0));
}

#[tokio::test]
async fn a_call_that_is_cancelled_in_the_queue_costs_nothing() {
    let settings = "[tenant_defaults.limits]\ncalls = 1\nwindow = \"1s\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    let mut leaving = JoinSet::new();
    for i in 0..20 {
        let world = world.client.clone();
        leaving.spawn(async move {
            let request = pb::CreateLeadRequest {
                lead: Some(lead(&format!("Leaving{i}"))),
                ..Default::default()
            };
            world.clone().create_lead(request).await
        });
    }
    world
        .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable-plus\"} 20")
        .await;
    leaving.abort_all();
    world
        .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable-plus\"} 0")
        .await;
    let id = world.create(lead("Staying")).await.unwrap();
    assert_eq!(world.simulator.leads().len(), 1);
    assert_eq!(world.calls("Lead.Create").len(), 1);
    assert!(!id.is_empty());
}

#[tokio::test]
async fn first_come_is_first_served() {
    let settings = "[tenant_defaults.limits]\ncalls = 1\nwindow = \"100ms\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    // While this read is in progress, the queue only grows.
    let by = Duration::from_secs(8);
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::Delay { by }))
        .unwrap();
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let (client, request) = (world.client.clone(), lone_read(&id));
    let reading = tokio::spawn(async move { client.clone().batch_get_leads(request).await });
    while world.simulator.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let mut waiting = JoinSet::new();
    for i in 0..5 {
        let mut client = world.client.clone();
        waiting.spawn(async move {
            let request = pb::CreateLeadRequest {
                lead: Some(lead(&format!("Lead{i}"))),
                ..Default::default()
            };
            client.create_lead(request).await.unwrap();
        });
        world
            .until(&format!(
                "leadgate_quota_waiting{{tenant=\"acme\",class=\"sheddable-plus\"}} {}",
                i + 1
            ))
            .await;
    }
    reading.await.unwrap().unwrap();
    while let Some(created) = waiting.join_next().await {
        created.unwrap();
    }
    let leads = world.simulator.leads();
    let created = leads.iter().filter(|lead| lead["ProspectID"].as_ref() != Some(&id));
    let names: Vec<_> = created.map(|lead| lead["FirstName"].clone().unwrap()).collect();
    assert_eq!(names, ["Lead0", "Lead1", "Lead2", "Lead3", "Lead4"]);
}

#[tokio::test]
async fn an_infeasible_deadline_is_refused_at_once_and_costs_no_slot() {
    let settings = "[tenant_defaults.limits]\ncalls = 1\nwindow = \"30s\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    let mut took = Vec::new();
    for _ in 0..101 {
        let started = Instant::now();
        let request = pb::CreateLeadRequest {
            lead: Some(lead("Asha")),
            ..Default::default()
        };
        let request = within(Duration::from_secs(2), request);
        let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
        took.push(started.elapsed());
        error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
    }
    took.sort_unstable();
    assert!(took[50] < Duration::from_secs(1), "{:?}", took[50]);
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_read_after_its_deadline_holds_its_slot_until_the_response() {
    let mut options = limited(Window::Sliding, Refusal::S429);
    options.limits.per = Duration::from_secs(1);
    // The call is counted long after it was sent, and after its caller's deadline.
    options.latency = Latency {
        min: Duration::from_millis(900),
        max: Duration::from_millis(900),
    };
    let settings = "[tenant_defaults.limits]\ncalls = 10\nwindow = \"1s\"";
    let world = World::with(options, settings).await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let mut impatient = JoinSet::new();
    for _ in 0..9 {
        let mut client = world.client.clone();
        let request = within(Duration::from_millis(100), lone_read(&id));
        impatient.spawn(async move { client.batch_get_leads(request).await });
    }
    while let Some(read) = impatient.join_next().await {
        seen(read.unwrap().unwrap_err());
    }
    burst(&world, &id, 20).await;
    assert_eq!(world.simulator.stats().refused, 0);
    assert!(world.simulator.worst_window() <= 10);
}

/// How long the saturated gateway is measured. `benches/sockets.rs` measures for a minute.
const WATCHED: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_gateway_uses_each_window_and_exceeds_none() {
    for window in [Window::Sliding, Window::SlidingCountingRefusals] {
        let mut options = limited(window, Refusal::S429);
        options.limits.calls = 25;
        options.latency = Latency {
            min: Duration::from_millis(5),
            max: Duration::from_millis(8),
        };
        let settings = "[tenant_defaults.limits]\ncalls = 25\nwindow = \"500ms\"";
        let world = World::with(options, settings).await.warm().await;
        let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
        let saturating = saturate(&world, &id, 60, "busy");
        let started = Instant::now();
        tokio::time::sleep(WATCHED).await;
        drop(saturating);
        let used = used(&world, started, WATCHED) / 25.0;
        let stats = world.simulator.stats();
        let refused = stats.refused as f64 / (stats.accepted + stats.refused) as f64;
        assert!(used >= 0.93, "{window:?}: {used} used");
        assert!(refused <= 0.002, "{window:?}: {} of {}", stats.refused, stats.accepted);
        assert!(stats.worst_window <= 25, "{window:?}: {}", stats.worst_window);
    }
}

/// Starts this number of clients with the same caller name that read the lead repeatedly until they are dropped.
pub fn saturate(world: &World, id: &str, clients: usize, caller: &'static str) -> JoinSet<()> {
    let mut reading = JoinSet::new();
    for _ in 0..clients {
        let (client, id) = (world.client.clone(), id.to_owned());
        reading.spawn(async move {
            loop {
                read(&client, &id, caller, Duration::from_secs(30)).await.unwrap();
            }
        });
    }
    reading
}

/// Reads the lead with this caller name.
pub async fn read(client: &Client, id: &str, caller: &'static str, limit: Duration) -> Result<(), Status> {
    let mut request = within(limit, lone_read(id));
    request
        .metadata_mut()
        .insert("x-leadgate-caller", MetadataValue::from_static(caller));
    client.clone().batch_get_leads(request).await.map(|_| ())
}

/// The accepted calls per window since `from`. The first and the last window are weighted, so that a burst at the edge
/// does not change the result.
fn used(world: &World, from: Instant, lasting: Duration) -> f64 {
    let calls = world.simulator.calls();
    let weight = |stamp: Instant| {
        let since = stamp.saturating_duration_since(from);
        since.min(lasting.saturating_sub(since)).div_duration_f64(PER).min(1.0)
    };
    let accepted = calls.iter().filter(|call| !call.refused);
    let weighed: f64 = accepted.map(|call| weight(call.stamp)).sum();
    weighed / (lasting - PER).div_duration_f64(PER)
}

/// Sends a call, and retries once after the retry delay if it is refused. Returns the reason of the first refusal.
async fn retry_once(world: &World, id: &str, caller: &'static str, limit: Duration) -> Option<String> {
    let error = seen(read(&world.client, id, caller, limit).await.err()?);
    // The call was let in, and then another call with an earlier turn arrived. That cannot be predicted.
    if error.code == Code::DeadlineExceeded {
        return None;
    }
    assert_eq!(error.code, Code::ResourceExhausted, "{:?}", error.status);
    let violations = &error.details.quota_failure().unwrap().violations;
    assert!(violations[0].subject.starts_with("tenant:acme"));
    let delay = error.retry_after().unwrap();
    match error.reason.as_str() {
        "QUEUE_FULL" => {
            let pushback = error.pushback().unwrap();
            assert!(pushback >= delay && pushback < delay + Duration::from_millis(2));
        }
        _ => assert!(error.is_not_for_this_call()),
    }
    tokio::time::sleep(delay).await;
    let again = read(&world.client, id, caller, limit).await;
    assert!(again.is_ok(), "{} after {delay:?}: {again:?}", error.reason);
    Some(error.reason)
}

/// Sends a burst of calls, and then calls one after the other that each retry after their retry delays, until this
/// number of them was refused for this reason. Meanwhile there is a steady load of a fifth of the quota.
async fn retry_often(world: &World, burst: usize, limit: Duration, reason: &str, min_refusals: usize) {
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let mut others = JoinSet::new();
    let (client, steady_id) = (world.client.clone(), id.clone());
    others.spawn(async move {
        let mut ticks = tokio::time::interval(PER);
        loop {
            ticks.tick().await;
            // If the queue is full, this call is refused too, and does not retry.
            let _ = read(&client, &steady_id, "steady", Duration::from_secs(30)).await;
        }
    });
    // Until the minimum round trip is known, each call is charged its whole round trip.
    for _ in 0..20 {
        read(&world.client, &id, "burst", Duration::from_secs(30))
            .await
            .unwrap();
    }
    let (mut refused, mut rounds) = (0, 0);
    while refused < min_refusals {
        rounds += 1;
        assert!(rounds <= 20, "{refused} of 20 refused");
        for _ in 0..burst {
            let (client, id) = (world.client.clone(), id.clone());
            others.spawn(async move {
                let _ = read(&client, &id, "burst", Duration::from_secs(30)).await;
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(refusal) = retry_once(world, &id, "retrying", limit).await {
            assert_eq!(refusal, reason);
            refused += 1;
        }
    }
    assert_eq!(world.simulator.stats().refused, 0);
}

/// A world in which five calls are allowed in half a second, with these additional settings.
async fn narrow(settings: &str) -> World {
    let mut options = limited(Window::Sliding, Refusal::S429);
    options.limits.calls = 5;
    options.latency = Latency {
        min: Duration::from_millis(40),
        max: Duration::from_millis(40),
    };
    let settings = format!("[tenant_defaults.limits]\ncalls = 5\nwindow = \"500ms\"\n{settings}");
    World::with(options, &settings).await.warm().await
}

#[tokio::test]
async fn a_retry_after_an_infeasible_deadline_is_served() {
    let world = narrow("").await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    // Until the minimum round trip is known, each call is charged its whole round trip.
    for _ in 0..20 {
        read(&world.client, &id, "burst", Duration::from_secs(30))
            .await
            .unwrap();
    }
    let mut refused = 0;
    for _ in 0..6 {
        world
            .until("leadgate_quota_slots_used{tenant=\"acme\",window=\"calls\"} 0")
            .await;
        // All slots are taken at the same time, and ten more calls wait for them.
        let calls = (0..15).map(|_| {
            let (client, id) = (world.client.clone(), id.clone());
            async move { read(&client, &id, "burst", Duration::from_secs(30)).await.unwrap() }
        });
        let burst: JoinSet<_> = calls.collect();
        world
            .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable-plus\"} 10")
            .await;
        let reason = retry_once(&world, &id, "retrying", PER * 6 / 10).await;
        // The call is let in only if the machine stops for a fifth of a second.
        refused += usize::from(reason.as_deref() == Some("DEADLINE_INFEASIBLE"));
        burst.join_all().await;
    }
    assert!(refused >= 3, "{refused} refused");
    assert_eq!(world.simulator.stats().refused, 0);
}

#[tokio::test]
async fn a_retry_after_a_full_queue_is_served() {
    let world = narrow("queue = 5").await;
    retry_often(&world, 15, Duration::from_secs(30), "QUEUE_FULL", 2).await;
}

#[tokio::test]
async fn a_retry_after_the_callers_own_limit_is_served() {
    let world = narrow("[callers.retrying]\ncalls_per_window = 1").await;
    retry_often(&world, 0, Duration::from_millis(300), "CALLER_LIMIT", 2).await;
}

/// Creates a lead with this timeout. Returns the time that it took, or the error.
async fn create_within(mut client: Client, limit: Duration) -> Result<Duration, Status> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let started = Instant::now();
    let request = pb::CreateLeadRequest {
        lead: Some(lead(&format!("Asha{}", COUNT.fetch_add(1, Ordering::Relaxed)))),
        ..Default::default()
    };
    client.create_lead(within(limit, request)).await?;
    Ok(started.elapsed())
}

/// Makes the endpoint for creates slow for eight concurrent calls.
async fn slow_creates(world: &World) {
    let creates = (0..8).map(|_| create_within(world.client.clone(), Duration::from_secs(10)));
    let creates: JoinSet<_> = creates.collect();
    for created in creates.join_all().await {
        assert!(created.unwrap() > Duration::from_secs(3));
    }
}

fn slow(times: u32) -> Fault {
    let by = Duration::from_secs(3);
    Fault::new("Lead.Create", FaultKind::Delay { by }).times(times)
}

#[tokio::test]
async fn one_slow_response_closes_no_endpoint() {
    let world = World::start().await.warm().await;
    world.simulator.add_fault(slow(1)).unwrap();
    create_within(world.client.clone(), Duration::from_secs(10))
        .await
        .unwrap();
    for _ in 0..10 {
        create_within(world.client.clone(), Duration::from_secs(2))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_that_was_slow_for_many_calls_is_tried_again_with_a_short_timeout() {
    let world = World::start().await.warm().await;
    world.simulator.add_fault(slow(8)).unwrap();
    slow_creates(&world).await;
    // The first call is a probe, after which the endpoint is known to be fast.
    for _ in 0..6 {
        create_within(world.client.clone(), Duration::from_secs(2))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_that_is_too_slow_for_the_timeout_says_when_to_retry() {
    let world = World::start().await.warm().await;
    world.simulator.add_fault(slow(9)).unwrap();
    slow_creates(&world).await;
    // One probe is let through, and it is as slow as the calls before.
    let probe = create_within(world.client.clone(), Duration::from_secs(2));
    let refused = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        create_within(world.client.clone(), Duration::from_secs(2)).await
    };
    let (probe, refused) = tokio::join!(probe, refused);
    seen(probe.unwrap_err()).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let error = seen(refused.unwrap_err());
    error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
    assert!(error.is_not_for_this_call());
    let delay = error.retry_after().unwrap();
    assert!(delay <= Duration::from_secs(5), "{delay:?}");
    tokio::time::sleep(delay).await;
    create_within(world.client.clone(), Duration::from_secs(2))
        .await
        .unwrap();
}

/// Creates leads with this number of clients at once and this timeout. Each client retries once, exactly after its
/// retry delay. Returns how many were refused, and how many of these were served at the second try.
async fn create_together(world: &World, count: usize, limit: Duration) -> (usize, usize) {
    let mut first = JoinSet::new();
    for _ in 0..count {
        let client = world.client.clone();
        first.spawn(async move {
            let Err(refused) = create_within(client.clone(), limit).await else {
                return None;
            };
            let refused = seen(refused);
            assert_eq!(refused.code, Code::ResourceExhausted, "{:?}", refused.status);
            assert!(refused.is_not_for_this_call());
            tokio::time::sleep(refused.retry_after().unwrap()).await;
            Some(create_within(client, limit).await.is_ok())
        });
    }
    let outcomes = first.join_all().await;
    let refused: Vec<_> = outcomes.into_iter().flatten().collect();
    (refused.len(), refused.iter().filter(|served| **served).count())
}

#[tokio::test]
async fn creates_that_are_refused_together_are_served_at_the_second_try() {
    for used_before in [0, 2] {
        let mut options = limited(Window::Sliding, Refusal::S429);
        options.limits.calls = 5;
        let settings = "[tenant_defaults.limits]\ncalls = 5\nwindow = \"500ms\"";
        let world = World::with(options, settings).await.warm().await;
        // The window in which the metadata was read is over.
        tokio::time::sleep(PER * 2).await;
        for _ in 0..used_before {
            create_within(world.client.clone(), PER).await.unwrap();
        }
        if used_before > 0 {
            tokio::time::sleep(PER * 7 / 10).await;
        }
        let (refused, served) = create_together(&world, 50, PER * 6 / 10).await;
        assert!(refused >= 40, "{refused} refused");
        assert!(served * 20 >= refused * 19, "{served} of {refused} served");
        assert_eq!(world.simulator.stats().refused, 0);
    }
}
