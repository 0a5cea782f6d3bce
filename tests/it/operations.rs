//! What operators see: pages, readiness, metrics, health, reflection, the shutdown.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options};
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::{v1, v1alpha};

use crate::account::Account;
use crate::harness::{World, by_id, channel, lead, seen};

async fn health(world: &World, service: &str) -> Result<ServingStatus, tonic::Status> {
    let mut client = HealthClient::new(channel(world.address).await);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    Ok(client.check(request).await?.into_inner().status())
}

const READY: &str = "{\"status\":\"ready\",\"reasons\":[]}\n";

/// Whether `/ready` reports that status with exactly these codes, and HTTP 503 only for `not_ready`.
async fn ready_is(world: &World, status: &str, codes: &[&str]) -> bool {
    let (http_status, text) = world.page("/ready").await;
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    let reasons = page["reasons"].as_array().unwrap();
    let found: Vec<_> = reasons.iter().map(|reason| reason["code"].as_str().unwrap()).collect();
    assert_eq!(http_status == 503, page["status"] == "not_ready", "{text}");
    page["status"] == status && found == codes
}

async fn until_ready_is(world: &World, status: &str, codes: &[&str]) {
    let seen = async { while !ready_is(world, status, codes).await {} };
    let limit = Duration::from_secs(10);
    if tokio::time::timeout(limit, seen).await.is_err() {
        panic!("{}", world.page("/ready").await.1);
    }
}

#[tokio::test]
async fn missing_metadata_degrades_until_it_is_fetched() {
    let account = Account::open(Options::default(), "").await;
    let fault = Fault::new("LeadsMetaData.Get", FaultKind::Empty500);
    account.simulator.add_fault(fault.times(u32::MAX)).unwrap();
    let world = account.gateway().await;
    until_ready_is(&world, "degraded", &["METADATA_MISSING"]).await;
    account.simulator.clear_faults();
    let world = world.warm().await;
    assert_eq!(world.page("/ready").await, (200, READY.into()));
    world.stop().await;
}

#[tokio::test]
async fn rejected_credentials_degrade_until_a_call_succeeds() {
    let world = World::start().await.warm().await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::Unauthorized))
        .unwrap();
    world.create(lead("Asha")).await.unwrap_err();
    until_ready_is(&world, "degraded", &["UPSTREAM_CREDENTIALS_REJECTED"]).await;
    world.create(lead("Asha")).await.unwrap();
    assert!(ready_is(&world, "ready", &[]).await);
}

#[tokio::test]
async fn an_open_circuit_breaker_degrades() {
    let settings = "[tenant_defaults.upstream]\nbreaker_failures = 1\nmax_attempts = 1\nbreaker_pause = \"1h\"\n\
                    breaker_max_pause = \"1h\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::Empty503).times(u32::MAX))
        .unwrap();
    world.get(by_id(&id)).await.unwrap_err();
    until_ready_is(&world, "degraded", &["UPSTREAM_UNAVAILABLE"]).await;
}

#[tokio::test]
async fn an_exhausted_daily_budget_degrades() {
    let world = World::with(Options::default(), "[tenant_defaults.limits]\ndaily = 2").await;
    let world = world.warm().await;
    world.create(lead("Asha")).await.unwrap();
    until_ready_is(&world, "degraded", &["DAILY_BUDGET_EXHAUSTED"]).await;
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready() {
    let world = World::start().await.warm().await;
    let hang = FaultKind::HangBefore {
        lasting: Duration::from_secs(2),
    };
    world.simulator.add_fault(Fault::new("Lead.Create", hang)).unwrap();
    let create = world.create(lead("Asha"));
    let drain = async {
        while world.calls("Lead.Create").is_empty() {
            tokio::task::yield_now().await;
        }
        world.tell_to_stop();
        until_ready_is(&world, "not_ready", &["SHUTTING_DOWN"]).await;
    };
    let _ = tokio::join!(create, drain);
    world.stop().await;
}

#[tokio::test]
async fn pages_respond() {
    let world = World::start().await.warm().await;
    assert_eq!(world.page("/live").await, (200, "alive\n".into()));
    assert_eq!(world.page("/ready").await, (200, READY.into()));
    assert_eq!(world.page("/nothing").await.0, 404);
    for (path, content_type) in [
        ("/", "text/html"),
        ("/status.css", "text/css"),
        ("/status.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let response = reqwest::get(format!("http://{}{path}", world.admin)).await.unwrap();
        let headers = response.headers();
        assert!(
            headers["content-type"].to_str().unwrap().starts_with(content_type),
            "{path}"
        );
        let policy = headers["content-security-policy"].to_str().unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|found| found == part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(
            (&headers["x-content-type-options"], &headers["referrer-policy"]),
            (
                &http::HeaderValue::from_static("nosniff"),
                &http::HeaderValue::from_static("no-referrer")
            )
        );
    }
}

#[tokio::test]
async fn the_status_page_gets_the_last_requests_and_errors() {
    let settings = "[tenant_defaults.limits]\ndaily = 1000\n[callers.checkout]\nweight = 3";
    let world = World::with(Options::default(), settings).await.warm().await;
    world.create(lead("Asha")).await.unwrap();
    for _ in 0..2 {
        seen(world.create(lead("Asha")).await.unwrap_err()).is(Code::AlreadyExists, "LEAD_DUPLICATE");
    }
    let snapshot = world.snapshot(|snapshot| snapshot["errors"][0]["count"] == 2).await;
    let tenant = &snapshot["tenant"];
    assert_eq!(snapshot["verdict"]["kind"], "all_well", "{snapshot}");
    assert_eq!(
        (&tenant["name"], &snapshot["tenants"][0]["name"]),
        (&"acme".into(), &"acme".into())
    );
    let error = &snapshot["errors"][0];
    assert_eq!(snapshot["errors"].as_array().unwrap().len(), 1, "{snapshot}");
    assert_eq!(
        (&error["method"], &error["code"]),
        (&"LeadService/CreateLead".into(), &"ALREADY_EXISTS".into())
    );
    assert_eq!(
        (&error["reason"], &error["caller"]),
        (&"LEAD_DUPLICATE".into(), &"other".into())
    );
    assert_eq!(
        (&tenant["quota"]["calls"]["limit"], &tenant["quota"]["day"]["used"]),
        (&25.into(), &6.into())
    );
    let calls = tenant["slots"]["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 6, "{tenant}");
    assert!(calls.iter().all(|call| call[2] == 1 && call[3] == 0), "{tenant}");
    let create = tenant["endpoints"]["rows"].as_array().unwrap();
    let create = create.iter().find(|row| row["name"] == "Lead.Create").unwrap();
    assert_eq!(
        (&create["requests"], &create["errors"]),
        (&3.into(), &serde_json::json!([["duplicate", 2]]))
    );
    assert_eq!(
        tenant["callers"],
        serde_json::json!([{
            "name": "checkout", "weight": 3, "calls_per_window": null, "max_criticality": "critical-plus"
        }])
    );
    let settings = tenant["settings"].as_array().unwrap();
    assert!(
        settings.contains(&serde_json::json!(["limits.daily", "1000"])),
        "{settings:?}"
    );
}

#[tokio::test]
async fn the_verdict_names_leadsquared_while_the_circuit_breaker_is_open() {
    let settings = "[tenant_defaults.upstream]\nbreaker_failures = 1\nmax_attempts = 1\nbreaker_pause = \"1h\"\n\
                    breaker_max_pause = \"1h\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    world.fail_next("*", FaultKind::Empty503);
    world.get(by_id(&id)).await.unwrap_err();
    let snapshot = world
        .snapshot(|snapshot| snapshot["verdict"]["kind"] == "breaker_open")
        .await;
    let causes = snapshot["causes"].as_array().unwrap();
    let severity = |name: &str| &causes.iter().find(|cause| cause["cause"] == name).unwrap()["severity"];
    assert_eq!(
        (severity("LeadSquared"), severity("leadgate")),
        (&"error".into(), &"ok".into())
    );
    assert_eq!(snapshot["tenants"][0]["failed"], 1);
}

#[tokio::test]
async fn the_verdict_names_another_integration_that_uses_the_account() {
    let world = World::start().await.warm().await;
    world.fail_next("Lead.Create", FaultKind::Refuse);
    world.create(lead("Asha")).await.unwrap();
    let snapshot = world
        .snapshot(|snapshot| snapshot["verdict"]["kind"] == "other_integration")
        .await;
    assert_eq!(
        snapshot["tenant"]["quota"]["calls"]["foreign_refusals"], 1,
        "{snapshot}"
    );
    let text = "Other integrations use the account: leadgate keeps 6 of 25 calls free";
    assert_eq!(snapshot["verdict"]["text"], text, "{snapshot}");
    let calls = snapshot["tenant"]["slots"]["calls"].as_array().unwrap();
    assert_eq!(calls.iter().filter(|call| call[3] == 2).count(), 1, "{calls:?}");
}

#[tokio::test]
async fn too_many_streams_are_refused_while_other_pages_respond() {
    let world = World::start().await;
    let url = format!("http://{}/events", world.admin);
    let mut streams = vec![];
    for _ in 0..16 {
        let stream = reqwest::get(&url).await.unwrap();
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 503);
    assert_eq!(world.page("/live").await.0, 200);
    assert_eq!(world.page("/metrics").await.0, 200);
    drop(streams);
    let seen = async { while reqwest::get(&url).await.unwrap().status() != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    let client = reqwest::Client::new();
    let cross_site = client
        .get(&url)
        .header("sec-fetch-site", "cross-site")
        .send()
        .await
        .unwrap();
    assert_eq!(cross_site.status(), 403);
    // A stream does not delay the end.
    let _stream = reqwest::get(&url).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), world.stop())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_names_of_all_metrics_are_known() {
    let world = World::with(Options::default(), "[tenant_defaults.limits]\ndaily = 1000")
        .await
        .warm()
        .await;
    world.create(lead("Asha")).await.unwrap();
    seen(world.create(lead("Asha")).await.unwrap_err()).is(Code::AlreadyExists, "LEAD_DUPLICATE");
    let (_, text) = world.page("/metrics").await;
    let mut names: Vec<&str> = text.lines().filter(|line| line.starts_with("# ")).collect();
    names.sort_unstable();
    insta::with_settings!({snapshot_path => "../golden"}, { insta::assert_snapshot!("metrics", names.join("\n")) });
    for line in [
        "leadgate_rpcs_total{method=\"/leadgate.v1.LeadService/CreateLead\",code=\"OK\"} 1",
        "leadgate_rpcs_total{method=\"/leadgate.v1.LeadService/CreateLead\",code=\"ALREADY_EXISTS\"} 1",
        "leadgate_upstream_attempts_total{tenant=\"acme\",endpoint=\"Lead.Create\",outcome=\"duplicate\"} 1",
        "leadgate_quota_limit{tenant=\"acme\",window=\"calls\"} 25",
        "leadgate_quota_slots_used{tenant=\"acme\",window=\"calls\"} 4",
        "leadgate_quota_daily_remaining{tenant=\"acme\"} 996",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line}\nin {text}");
    }
}

#[tokio::test]
async fn health_is_reported_per_service() {
    let world = World::start().await;
    assert_eq!(health(&world, "").await.unwrap(), ServingStatus::Serving);
    for service in ["LeadService", "ActivityService", "UserService"] {
        let status = health(&world, &format!("leadgate.v1.{service}")).await.unwrap();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    assert_eq!(
        health(&world, "leadgate.v1.Nothing").await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_services() {
    let world = World::start().await;
    let expected = [
        "grpc.health.v1.Health",
        "leadgate.v1.LeadService",
        "leadgate.v1.ActivityService",
        "leadgate.v1.UserService",
    ];

    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(world.address).await);
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest {
        message_request: Some(list),
        ..Default::default()
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    for name in expected {
        assert!(list.service.iter().any(|service| service.name == name), "{name}");
    }

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(world.address).await);
    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(list),
        ..Default::default()
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    for name in expected {
        assert!(list.service.iter().any(|service| service.name == name), "{name}");
    }
}

#[tokio::test]
async fn shutdown_does_not_wait_for_silent_connections_and_endless_streams() {
    let world = World::with(Options::default(), "[server]\ndrain = \"1h\"").await;
    let silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let mut client = HealthClient::new(channel(world.address).await);
    let mut watching = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(
        watching.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    world.create(lead("Asha")).await.unwrap();
    world.tell_to_stop();
    assert_eq!(
        watching.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    tokio::time::timeout(Duration::from_secs(10), world.stop())
        .await
        .unwrap();
    drop(silent);
}

#[tokio::test]
async fn rpcs_are_accepted_for_the_shutdown_delay_although_the_process_does_not_serve() {
    let delay = Duration::from_secs(2);
    let world = World::with(Options::default(), "[server]\nshutdown_delay = \"2s\"").await;
    let mut client = HealthClient::new(channel(world.address).await);
    let mut watching = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watching.message().await.unwrap().unwrap();
    let begun = std::time::Instant::now();
    world.tell_to_stop();
    assert_eq!(
        watching.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    let (status, page) = world.page("/ready").await;
    assert!(status == 503 && page.contains("SHUTTING_DOWN"), "{page}");
    world.create(lead("Asha")).await.unwrap();
    // New connections, too.
    let mut new = pb::lead_service_client::LeadServiceClient::new(channel(world.address).await);
    new.describe_lead_fields(pb::DescribeLeadFieldsRequest::default())
        .await
        .unwrap();
    assert!(begun.elapsed() < delay, "the machine is too slow for this test");
    world.stop().await;
    assert!(begun.elapsed() >= delay);
}

#[tokio::test]
async fn the_status_page_shows_no_request_id_that_a_caller_has_chosen() {
    let world = World::start().await;
    let request = crate::harness::grpc("/leadgate.v1.LeadService/GetLead").header("x-request-id", "call-9845098450");
    let response = crate::harness::ask(world.address, request, vec![0; 5]).await;
    assert_eq!(response.headers["x-request-id"], "call-9845098450");
    let snapshot = world
        .snapshot(|snapshot| snapshot["errors"][0]["code"] == "INVALID_ARGUMENT")
        .await;
    assert_eq!(snapshot["errors"][0]["request_id"], "");
}

#[tokio::test]
async fn reflection_describes_the_details_of_errors() {
    let world = World::start().await;
    let symbols = [
        "google.rpc.BadRequest",
        "google.rpc.BadRequest.FieldViolation",
        "google.rpc.ErrorInfo",
        "google.rpc.PreconditionFailure",
        "google.rpc.QuotaFailure",
        "google.rpc.RequestInfo",
        "google.rpc.ResourceInfo",
        "google.rpc.RetryInfo",
        "google.rpc.Status",
    ];
    let files = ["google/rpc/error_details.proto", "google/rpc/status.proto"];

    use v1::server_reflection_request::MessageRequest;
    let messages = symbols.map(|symbol| MessageRequest::FileContainingSymbol(symbol.to_owned()));
    let by_name = files.map(|file| MessageRequest::FileByFilename(file.to_owned()));
    let requests = messages
        .into_iter()
        .chain(by_name)
        .map(|request| v1::ServerReflectionRequest {
            message_request: Some(request),
            ..Default::default()
        });
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(world.address).await);
    let requests: Vec<_> = requests.collect();
    let mut answers = client
        .server_reflection_info(tokio_stream::iter(requests.clone()))
        .await
        .unwrap()
        .into_inner();
    for request in requests {
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let v1::server_reflection_response::MessageResponse::FileDescriptorResponse(found) = answer else {
            panic!("{request:?}: {answer:?}");
        };
        assert!(!found.file_descriptor_proto.is_empty(), "{request:?}");
    }

    use v1alpha::server_reflection_request::MessageRequest as Alpha;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(world.address).await);
    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(Alpha::FileContainingSymbol("google.rpc.BadRequest".into())),
        ..Default::default()
    };
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let answer = answer.message_response.unwrap();
    use v1alpha::server_reflection_response::MessageResponse as Found;
    assert!(matches!(answer, Found::FileDescriptorResponse(_)), "{answer:?}");
}
