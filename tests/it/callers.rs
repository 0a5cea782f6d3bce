//! Callers and criticality, and the state of the quota in QuotaService.

use std::time::Duration;

use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Limits, Options};
use pb::quota_service_client::QuotaServiceClient;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::harness::{World, by_id, channel, lone_read, seen};
use crate::quota::saturate;

const SCARCE: &str = "[tenant_defaults.limits]\ncalls = 10\nwindow = \"30s\"";

fn reading(id: &str) -> Request<pb::GetLeadRequest> {
    Request::new(pb::GetLeadRequest {
        key: Some(by_id(id)),
        ..Default::default()
    })
}

fn labeled(id: &str, caller: &str, criticality: &str) -> Request<pb::BatchGetLeadsRequest> {
    let mut request = Request::new(lone_read(id));
    for (key, value) in [("x-leadgate-caller", caller), ("x-leadgate-criticality", criticality)] {
        let value = MetadataValue::try_from(value).unwrap();
        request.metadata_mut().insert(key, value);
    }
    request
}

/// A world that allows this many calls in 250 ms.
async fn world_with_limit(calls: u32, settings: &str) -> World {
    let options = Options {
        limits: Limits {
            calls,
            per: Duration::from_millis(250),
            ..Limits::default()
        },
        ..Options::default()
    };
    let settings = format!("[tenant_defaults.limits]\ncalls = {calls}\nwindow = \"250ms\"\n{settings}");
    World::with(options, &settings).await.warm().await
}

async fn watcher(world: &World) -> QuotaServiceClient<Channel> {
    QuotaServiceClient::new(channel(world.address).await)
}

async fn quota(world: &World) -> pb::Quota {
    let answer = watcher(world).await.get_quota(pb::GetQuotaRequest {}).await;
    answer.unwrap().into_inner().quota.unwrap()
}

/// The number of finished calls of each of two callers that always have calls waiting.
async fn compete(world: &World, callers: [&'static str; 2], duration: Duration) -> [usize; 2] {
    let ids = callers.map(|caller| world.simulator.insert_lead(&[("FirstName", caller)]));
    let _busy: Vec<JoinSet<()>> = (0..2).map(|n| saturate(world, &ids[n], 30, callers[n])).collect();
    // The first calls were served before the other caller started.
    tokio::time::sleep(Duration::from_millis(250)).await;
    world.simulator.forget_calls();
    tokio::time::sleep(duration).await;
    let calls = world.simulator.calls();
    ids.map(|id| calls.iter().filter(|call| call.body.contains(&id)).count())
}

#[tokio::test]
async fn an_invalid_caller_name_is_rejected() {
    let world = World::start().await.warm().await;
    let long = "a".repeat(65);
    for name in ["", "two words", "slash/ed", "käufer", &long] {
        let error = seen(
            world
                .client
                .clone()
                .batch_get_leads(labeled("x", name, "critical"))
                .await
                .unwrap_err(),
        );
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["x-leadgate-caller"], "{name}");
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn an_unknown_criticality_is_rejected() {
    let world = World::start().await.warm().await;
    for (name, meant) in [
        ("", ""),
        ("CRITICAL", "critical"),
        ("critical_plus", "critical-plus"),
        ("CRITICALITY_SHEDDABLE", "sheddable"),
        ("9", ""),
    ] {
        let error = seen(
            world
                .client
                .clone()
                .batch_get_leads(labeled("x", "shop", name))
                .await
                .unwrap_err(),
        );
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["x-leadgate-criticality"], "{name}");
        let text = error.status.message();
        assert!(
            text.contains("must be one of sheddable, sheddable-plus, critical, critical-plus"),
            "{text}"
        );
        let hint = format!("did you mean {meant}?");
        assert_eq!(text.ends_with(&hint), !meant.is_empty(), "{text}");
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn callers_share_the_quota_by_weight() {
    let world = world_with_limit(6, "[callers.double]\nweight = 2").await;
    let [single, double] = compete(&world, ["single", "double"], Duration::from_secs(3)).await;
    let share = double as f64 / (single + double) as f64;
    assert!((0.62..0.72).contains(&share), "{single} and {double}");
}

#[tokio::test]
async fn caller_defaults_apply_to_all_callers() {
    let world = world_with_limit(6, "[caller_defaults]\nweight = 2\n[callers.single]\nweight = 1").await;
    let [single, other] = compete(&world, ["single", "other"], Duration::from_secs(3)).await;
    let share = other as f64 / (single + other) as f64;
    assert!((0.62..0.72).contains(&share), "{single} and {other}");
}

#[tokio::test]
async fn a_caller_with_a_limit_leaves_the_rest_to_other_callers() {
    let world = world_with_limit(10, "[callers.capped]\ncalls_per_window = 2").await;
    let [capped, other] = compete(&world, ["capped", "other"], Duration::from_secs(3)).await;
    // Twelve complete windows, and the current one.
    assert!((16..=26).contains(&capped), "{capped}");
    assert!(other >= 60, "{other}");
}

#[tokio::test]
async fn a_criticality_above_the_maximum_is_lowered() {
    let settings = format!("{SCARCE}\n[callers.crawler]\nmax_criticality = \"sheddable\"");
    let world = World::with(Options::default(), &settings).await.warm().await;
    let mut waiting = JoinSet::new();
    for caller in ["crawler", "shop"] {
        for _ in 0..10 {
            let mut client = world.client.clone();
            waiting.spawn(async move { client.batch_get_leads(labeled("x", caller, "critical-plus")).await });
        }
        let class = if caller == "shop" { "critical-plus" } else { "sheddable" };
        let count = if caller == "shop" { 10 } else { 1 };
        world
            .until(&format!(
                "leadgate_quota_waiting{{tenant=\"acme\",class=\"{class}\"}} {count}"
            ))
            .await;
    }
}

#[test]
fn invalid_settings_of_callers_have_their_keys() {
    let settings = "
        [tenants.acme]
        base_url = \"http://127.0.0.1:9\"
        access_key = \"a\"
        secret_key = \"s\"
        [caller_defaults]
        weight = 0
        [callers.shop]
        weight = 10001
        calls_per_window = 10001
        [callers.crawler]
        max_criticality = \"low\"
        [callers.other]
        colour = \"red\"";
    let error = Config::read("test", settings, std::iter::empty())
        .unwrap_err()
        .to_string();
    for key in [
        "caller_defaults.weight",
        "callers.shop.weight",
        "callers.shop.calls_per_window",
        "callers.crawler.max_criticality",
        "callers.other.colour",
    ] {
        assert!(error.contains(key), "no {key} in {error}");
    }
}

#[tokio::test]
async fn the_state_of_the_quota_is_correct() {
    let settings = format!("{SCARCE}\nbulk = 2\nreserve = 1\ndaily = 1000\ndaily_reset_zone = \"Asia/Kolkata\"");
    let world = World::with(Options::default(), &settings).await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    for _ in 0..3 {
        world.client.clone().get_lead(reading(&id)).await.unwrap();
    }
    let accepted = i64::try_from(world.simulator.stats().accepted).unwrap();
    let state = quota(&world).await;
    let calls = state.calls.unwrap();
    assert_eq!((calls.limit, calls.effective), (10, 9));
    assert_eq!(calls.window.unwrap().seconds, 30);
    assert_eq!((i64::from(calls.used), state.grants), (accepted, accepted));
    assert_eq!(calls.free_in, Some(prost_types::Duration::default()));
    assert_eq!((calls.own_refusals, calls.foreign_refusals, calls.holds), (0, 0, 0));
    let bulk = state.bulk.unwrap();
    assert_eq!((bulk.limit, bulk.effective, bulk.used), (2, 2, 0));
    let day = state.day.unwrap();
    assert_eq!((day.limit, day.used), (Some(1000), accepted));
    assert_eq!((day.remaining, day.closed), (Some(1000 - accepted), false));
    // Midnight in Kolkata.
    assert_eq!(day.reset_time.unwrap().seconds % 86_400, 18 * 3600 + 1800);
    let classes: Vec<_> = state.queues.iter().map(|queue| queue.criticality()).collect();
    let all = [
        pb::Criticality::CriticalPlus,
        pb::Criticality::Critical,
        pb::Criticality::SheddablePlus,
        pb::Criticality::Sheddable,
    ];
    assert_eq!(classes, all);
    assert!(
        state
            .queues
            .iter()
            .all(|queue| queue.waiting == 0 && queue.oldest.is_none())
    );
    assert!(state.callers.is_empty());
    assert_eq!(state.replicas, 1);
}

#[tokio::test]
async fn waiting_calls_are_counted_by_criticality_and_caller() {
    let world = World::with(Options::default(), SCARCE).await.warm().await;
    let mut waiting = JoinSet::new();
    for _ in 0..12 {
        let mut client = world.client.clone();
        waiting.spawn(async move { client.batch_get_leads(labeled("x", "crawler", "sheddable")).await });
    }
    world
        .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable\"} 3")
        .await;
    let state = quota(&world).await;
    let queue = &state.queues[3];
    assert_eq!((queue.criticality(), queue.waiting), (pb::Criticality::Sheddable, 3));
    assert!(queue.oldest.is_some_and(|oldest| oldest.seconds < 10));
    let callers: Vec<_> = state.callers.iter().map(|c| (c.caller.as_str(), c.waiting)).collect();
    assert_eq!(callers, [("crawler", 3)]);
    assert_eq!(state.calls.unwrap().used, 10);
}

#[tokio::test]
async fn refusals_are_counted_by_cause() {
    let world = World::start().await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::Refuse))
        .unwrap();
    world.client.clone().get_lead(reading(&id)).await.unwrap();
    let calls = quota(&world).await.calls.unwrap();
    assert_eq!(world.simulator.stats().refused, 1);
    // A few own calls cannot have filled a window of 25.
    assert_eq!((calls.own_refusals, calls.foreign_refusals, calls.holds), (0, 1, 1));
    assert!(calls.effective < calls.limit);
}

#[tokio::test]
async fn a_watch_responds_at_once_and_then_per_interval() {
    let world = World::with(Options::default(), SCARCE).await.warm().await;
    let interval = prost_types::Duration {
        seconds: 0,
        nanos: 200_000_000,
    };
    let request = pb::WatchQuotaRequest {
        interval: Some(interval),
    };
    let mut responses = watcher(&world).await.watch_quota(request).await.unwrap().into_inner();
    let started = Instant::now();
    let before = responses.message().await.unwrap().unwrap().quota.unwrap().grants;
    assert!(started.elapsed() < Duration::from_millis(150));
    seen(world.client.clone().get_lead(reading("x")).await.unwrap_err());
    for _ in 0..5 {
        let grants = responses.message().await.unwrap().unwrap().quota.unwrap().grants;
        assert_eq!(grants, before + 1);
    }
    let took = started.elapsed();
    assert!(took > Duration::from_millis(900), "{took:?}");
    assert!(took < Duration::from_millis(1800), "{took:?}");
}

#[tokio::test]
async fn an_invalid_interval_is_rejected() {
    let world = World::start().await;
    for (seconds, nanos) in [(0, 0), (0, 99_999_999), (3600, 1), (-1, 0)] {
        let request = pb::WatchQuotaRequest {
            interval: Some(prost_types::Duration { seconds, nanos }),
        };
        let mut responses = watcher(&world).await.watch_quota(request).await.unwrap().into_inner();
        let error = seen(responses.message().await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["interval"]);
    }
}

#[tokio::test]
async fn a_watch_ends_at_shutdown() {
    let world = World::start().await.warm().await;
    let request = pb::WatchQuotaRequest::default();
    let mut responses = watcher(&world).await.watch_quota(request).await.unwrap().into_inner();
    responses.message().await.unwrap().unwrap();
    world.tell_to_stop();
    let error = seen(loop {
        match responses.message().await {
            Ok(response) => assert!(response.is_some(), "it has ended without a reason"),
            Err(error) => break error,
        }
    });
    error.is(Code::Unavailable, "SHUTTING_DOWN");
    assert_eq!(error.pushback(), Some(Duration::ZERO));
}
