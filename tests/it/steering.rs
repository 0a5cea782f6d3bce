//! Steering of a running gateway through the admin port, and backups of its store.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use leadgate::grpc::pb;
use leadgate::store::Store;
use leadgate_simulator::{Latency, Options};
use pb::quota_service_client::QuotaServiceClient;
use pb::share_service_client::ShareServiceClient;
use pb::{ShareState, WaitFor};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use uuid::Uuid;

use crate::account::Account;
use crate::harness::{World, by_id, channel, concurrently, lead, lone_read, seen, within};
use crate::process::{Said, run};
use crate::share::ShareFixture;
use crate::traces::Collector;

/// The token of the tests.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// The setting of the token.
pub const SETTING: &str = "[admin]\ntoken = \"0123456789abcdef0123456789abcdef\"\n";

const LIMIT: Duration = Duration::from_secs(30);

/// Sends a steering request. Returns its status and its JSON.
pub async fn steer_with(admin: SocketAddr, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = reqwest::Client::new()
        .request(method.parse().unwrap(), format!("http://{admin}/admin/{path}"))
        .header("authorization", format!("Bearer {token}"))
        .body(body.to_owned());
    let response = request.send().await.unwrap();
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
    (status, json)
}

pub async fn steer(admin: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    steer_with(admin, TOKEN, method, path, body).await
}

async fn pause(admin: SocketAddr) {
    let (status, json) = steer(admin, "POST", "tenants/acme/pause", "").await;
    assert_eq!((status, &json["paused"]), (200, &json!(true)), "{json}");
}

async fn resume(admin: SocketAddr) {
    let (status, json) = steer(admin, "POST", "tenants/acme/resume", "").await;
    assert_eq!((status, json), (200, json!({"tenant": "acme", "paused": false})));
}

fn code(json: &Value) -> &str {
    json["code"].as_str().unwrap_or_else(|| panic!("{json}"))
}

/// Waits until a condition is true.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn slow(options: &mut Options, millis: u64) {
    let latency = Duration::from_millis(millis);
    options.latency = Latency {
        min: latency,
        max: latency,
    };
}

// The token and the requests.

const REQUESTS: [(&str, &str); 9] = [
    ("GET", "log"),
    ("PUT", "log"),
    ("GET", "sampling"),
    ("PUT", "sampling"),
    ("GET", "tenants/acme/pause"),
    ("POST", "tenants/acme/pause"),
    ("POST", "tenants/acme/resume"),
    ("POST", "drain"),
    ("POST", "store/backup"),
];

#[tokio::test]
async fn without_the_setting_no_request_is_accepted() {
    let world = World::start().await;
    for (method, path) in REQUESTS {
        for token in [TOKEN, ""] {
            let (status, json) = steer_with(world.admin, token, method, path, "").await;
            assert_eq!((status, code(&json)), (403, "STEERING_DISABLED"), "{path}");
            assert!(json["message"].as_str().unwrap().contains("admin.token"), "{json}");
        }
    }
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    world.get(by_id(&id)).await.unwrap();
}

#[tokio::test]
async fn requests_without_the_token_change_nothing_and_are_counted() {
    let world = World::with(Options::default(), SETTING).await;
    let wrong = [
        "",
        "0123456789abcdef0123456789abcdee",
        "0123456789abcdef0123456789abcdef0",
    ];
    for (method, path) in REQUESTS {
        for token in wrong {
            let (status, json) = steer_with(world.admin, token, method, path, "").await;
            assert_eq!((status, code(&json)), (401, "TOKEN_INVALID"), "{path}");
        }
    }
    let without = reqwest::Client::new().post(format!("http://{}/admin/drain", world.admin));
    let response = without.send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    world.get(by_id(&id)).await.unwrap();
    world
        .until("leadgate_steering_requests_total{action=\"unknown\",result=\"TOKEN_INVALID\"} 28")
        .await;
    assert_eq!(world.page("/ready").await.0, 200);
}

#[tokio::test]
async fn invalid_requests_are_errors_in_json() {
    let world = World::with(Options::default(), SETTING).await;
    let long = format!("{{\"reason\": \"{}\"}}", "x".repeat(201));
    let huge = "x".repeat(5000);
    for (method, path, body, expected) in [
        ("POST", "nothing", "", (404, "NOT_FOUND")),
        ("POST", "tenants/acme", "", (404, "NOT_FOUND")),
        ("GET", "drain", "", (405, "METHOD_NOT_ALLOWED")),
        ("POST", "log", "{}", (405, "METHOD_NOT_ALLOWED")),
        ("PUT", "log", "", (400, "INVALID_BODY")),
        ("PUT", "log", "debug", (400, "INVALID_BODY")),
        ("PUT", "log", "{\"level\": \"debug\"}", (400, "INVALID_BODY")),
        (
            "PUT",
            "log",
            "{\"filter\": \"info,leadgate=loud\"}",
            (400, "INVALID_FILTER"),
        ),
        ("POST", "sampling", "", (405, "METHOD_NOT_ALLOWED")),
        ("PUT", "sampling", "{}", (400, "INVALID_BODY")),
        ("PUT", "sampling", "{\"ratio\": 1.5}", (400, "INVALID_BODY")),
        ("PUT", "sampling", "{\"ratio\": -0.5}", (400, "INVALID_BODY")),
        ("PUT", "sampling", "{\"ratio\": 0.5}", (409, "TRACES_OFF")),
        ("PUT", "sampling", "{\"ratio\": null}", (409, "TRACES_OFF")),
        ("GET", "sampling", "", (409, "TRACES_OFF")),
        ("PUT", "log", "{\"filter\": \"warning\"}", (400, "INVALID_FILTER")),
        ("GET", "", "", (404, "NOT_FOUND")),
        ("POST", "tenants/nobody/pause", "", (404, "TENANT_NOT_FOUND")),
        ("POST", "tenants/nobody/resume", "", (404, "TENANT_NOT_FOUND")),
        ("POST", "tenants/acme/pause", "x", (400, "INVALID_BODY")),
        ("POST", "tenants/acme/pause", "{\"why\": \"\"}", (400, "INVALID_BODY")),
        ("POST", "tenants/acme/pause", &long, (400, "INVALID_BODY")),
        (
            "POST",
            "tenants/acme/pause",
            "{\"reason\": \"a\\nb\"}",
            (400, "INVALID_BODY"),
        ),
        (
            "POST",
            "tenants/acme/pause",
            "{\"reason\": \"a\\u202eb\"}",
            (400, "INVALID_BODY"),
        ),
        ("POST", "tenants/acme/pause", &huge, (413, "BODY_TOO_LARGE")),
        ("POST", "store/backup", "", (409, "STORE_HAS_NO_FILE")),
    ] {
        let (status, json) = steer(world.admin, method, path, body).await;
        assert_eq!((status, code(&json)), expected, "{path} {body}: {json}");
        assert!(!json["message"].as_str().unwrap().is_empty());
    }
    world
        .until("leadgate_steering_requests_total{action=\"pause\",result=\"INVALID_BODY\"} 5")
        .await;
    world.until("leadgate_tenant_paused{tenant=\"acme\"} 0").await;
}

#[tokio::test]
async fn each_request_is_in_the_audit_without_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let audit = format!("[audit]\nfile = \"{}\"\nrequired = true\n", file.display());
    let world = World::with(Options::default(), &format!("{SETTING}{audit}")).await;
    let reason = "{\"reason\": \"maintenance window\"}";
    let (_, json) = steer(world.admin, "POST", "tenants/acme/pause", reason).await;
    assert_eq!(json["reason"], "maintenance window");
    steer(world.admin, "POST", "tenants/nobody/pause", reason).await;
    steer_with(world.admin, "wrong", "POST", "drain", "").await;
    resume(world.admin).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["caller"], &line["lead_id"]), (&json!("(admin)"), &Value::Null));
        assert!(Uuid::try_parse(line["request_id"].as_str().unwrap()).is_ok());
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        [text("method"), text("tenant"), text("phase"), text("outcome")]
    };
    let lines: Vec<_> = text.lines().map(line).collect();
    let (paused, resumed) = ("POST /admin/tenants/NAME/pause", "POST /admin/tenants/NAME/resume");
    let expected = [
        [paused, "acme", "begin", "-"],
        [paused, "acme", "end", "OK"],
        [paused, "-", "begin", "-"],
        [paused, "-", "end", "TENANT_NOT_FOUND"],
        [resumed, "acme", "begin", "-"],
        [resumed, "acme", "end", "OK"],
    ];
    assert_eq!(lines, expected);
    assert!(!text.contains("maintenance") && !text.contains(TOKEN), "{text}");

    // Without the audit, nothing is changed.
    drop(folder);
    let (status, json) = steer(world.admin, "POST", "tenants/acme/pause", "").await;
    assert_eq!((status, code(&json)), (503, "AUDIT_UNAVAILABLE"));
    world.until("leadgate_tenant_paused{tenant=\"acme\"} 0").await;
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again() {
    let account = Account::open(Options::default(), "").await;
    let file = account.folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let settings = format!(
        "{}\n[admin]\ntoken = {{ file = \"{}\" }}\n",
        account.settings,
        file.display()
    );
    let world = World::gateway(account.simulator.clone(), &settings).await;
    resume(world.admin).await;
    let new = "f".repeat(32);
    std::fs::write(&file, &new).unwrap();
    until("the new token", async || {
        steer_with(world.admin, &new, "POST", "tenants/acme/resume", "").await.0 == 200
    })
    .await;
    let (status, _) = steer(world.admin, "POST", "tenants/acme/resume", "").await;
    assert_eq!(status, 401);
    // A token that is too short is not used.
    std::fs::write(&file, "short").unwrap();
    world.until("leadgate_reload_failing{what=\"admin.token\"} 1").await;
    assert_eq!(steer_with(world.admin, "short", "POST", "drain", "").await.0, 401);
    assert_eq!(
        steer_with(world.admin, &new, "POST", "tenants/acme/resume", "").await.0,
        200
    );
}

/// The lines of a log with that message.
fn messages(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn each_steering_request_is_in_the_log_also_if_it_switches_the_log_off() {
    let audit = "[audit]\nfile = \"AUDIT\"\n";
    let account = Account::open(Options::default(), &format!("[log]\nfilter = \"warn\"\n{audit}")).await;
    let process = with_token(&account).await;
    let file = account.folder.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&process.path).unwrap();
    std::fs::write(&process.path, text.replace("AUDIT", file.to_str().unwrap())).unwrap();
    let _child = process.start();
    process.channel().await;
    let log = || std::fs::read_to_string(account.folder.path().join("log")).unwrap();

    let off = steer(process.admin, "PUT", "log", "{\"filter\": \"off\"}").await;
    assert_eq!(off, (200, json!({"filter": "off"})));
    let read = steer(process.admin, "GET", "log", "").await;
    assert_eq!(read, (200, json!({"filter": "off", "configured": "warn"})));
    let restored = steer(process.admin, "PUT", "log", "{\"filter\": null}").await;
    assert_eq!(restored, (200, json!({"filter": "warn"})));
    let (_, read) = steer(process.admin, "GET", "log", "").await;
    assert_eq!(read, json!({"filter": "warn", "configured": "warn"}));
    let (_, json) = steer(process.admin, "PUT", "log", "{\"filter\": \"blabla\"}").await;
    assert!(
        json["message"].as_str().unwrap().contains("error, warn, info"),
        "{json}"
    );
    // The log is written by a thread of its own, in order.
    let count = |message: &str| messages(&log(), message).len();
    until("the line of the failed request", async || {
        count("steering request failed") == 1
    })
    .await;
    let all = log();
    let values: Vec<_> = messages(&all, "value changes until the process ends")
        .iter()
        .map(|line| (line["former_value"].clone(), line["value"].clone()))
        .collect();
    assert_eq!(values, [(json!("warn"), json!("off")), (json!("off"), json!("warn"))]);
    let ids = |message: &str| -> Vec<Value> {
        messages(&all, message)
            .iter()
            .map(|line| line["request_id"].clone())
            .collect()
    };
    let finished = ids("steering request finished");
    assert_eq!(finished.len(), 4, "{all}");
    assert!(
        ids("value changes until the process ends")
            .iter()
            .all(|id| finished.contains(id))
    );

    // Requests with the token have no limit of lines, and each one is in the audit.
    const COUNT: usize = 30;
    for _ in 0..COUNT {
        assert_eq!(steer(process.admin, "POST", "nothing", "").await.0, 404);
    }
    until("the lines", async || count("steering request failed") == COUNT + 1).await;
    let failed = messages(&log(), "steering request failed");
    let unknown = failed
        .iter()
        .filter(|line| line["code"] == "NOT_FOUND" && line["action"] == "unknown");
    assert_eq!(unknown.count(), COUNT);
    let audited = std::fs::read_to_string(&file).unwrap();
    assert_eq!(audited.matches("\"method\":\"unknown\"").count(), COUNT);
    assert_eq!(count("steering request refused"), 0);

    // The token beside another value.
    let twice = reqwest::Client::new()
        .post(format!("http://{}/admin/drain", process.admin))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("authorization", "Bearer other");
    assert_eq!(twice.send().await.unwrap().status(), 401);
    until("the line of the refused request", async || {
        count("steering request refused") == 1
    })
    .await;
    let refused = messages(&log(), "steering request refused");
    assert_eq!(
        (&refused[0]["peer"], &refused[0]["code"]),
        (&json!("127.0.0.1"), &json!("TOKEN_INVALID"))
    );
}

// Pauses.

#[tokio::test]
async fn a_second_pause_without_a_reason_keeps_the_first_one() {
    let world = World::with(Options::default(), SETTING).await;
    let reason = "{\"reason\": \"maintenance window\"}";
    let (_, first) = steer(world.admin, "POST", "tenants/acme/pause", reason).await;
    for body in ["", "{}", "{\"reason\": null}"] {
        let (_, second) = steer(world.admin, "POST", "tenants/acme/pause", body).await;
        assert_eq!(second, first, "{body}");
    }
    let (_, page) = world.page("/ready").await;
    assert!(page.contains("maintenance window"), "{page}");
}

#[tokio::test]
async fn a_program_neither_replaces_nor_ends_the_pause_of_an_operator() {
    let world = World::with(Options::default(), SETTING).await;
    let (own, other) = (
        "{\"reason\": \"own\", \"only_new\": true}",
        "{\"reason\": \"maintenance\"}",
    );
    let get = async || steer(world.admin, "GET", "tenants/acme/pause", "").await;
    assert_eq!(get().await, (200, json!({"tenant": "acme", "paused": false})));
    let (status, first) = steer(world.admin, "POST", "tenants/acme/pause", other).await;
    assert_eq!(status, 200, "{first}");
    let (status, json) = steer(world.admin, "POST", "tenants/acme/pause", own).await;
    assert_eq!((status, code(&json)), (409, "TENANT_PAUSED"), "{json}");
    assert_eq!(get().await, (200, first));
    let only_own = "{\"only_reason\": \"own\"}";
    let (status, json) = steer(world.admin, "POST", "tenants/acme/resume", only_own).await;
    assert_eq!((status, code(&json)), (409, "TENANT_PAUSED"), "{json}");
    assert_eq!(get().await.1["paused"], true);
    resume(world.admin).await;
    // A resumed account needs no reason, so that a request may be repeated.
    for body in [own, only_own] {
        let path = if body == own {
            "tenants/acme/pause"
        } else {
            "tenants/acme/resume"
        };
        let (status, json) = steer(world.admin, "POST", path, body).await;
        assert_eq!(status, 200, "{json}");
    }
    let (status, json) = steer(world.admin, "POST", "tenants/acme/resume", only_own).await;
    assert_eq!(status, 200, "{json}");
    let (status, json) = steer(world.admin, "GET", "tenants/nobody/pause", "").await;
    assert_eq!((status, code(&json)), (404, "TENANT_NOT_FOUND"));
}

#[tokio::test]
async fn calls_in_the_queue_fail_when_the_account_is_paused() {
    let limits = "[tenants.acme.limits]\ncalls = 1\nwindow = \"20s\"\n[tenants.acme.batching]\nreads = false\n";
    let world = World::with(Options::default(), &format!("{SETTING}{limits}")).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    // The metadata uses the only slot of the window.
    until("the metadata", async || world.simulator.calls().len() == 1).await;
    let reads = [15, 40].map(|seconds| {
        let (mut client, request) = (
            world.client.clone(),
            within(Duration::from_secs(seconds), lone_read(&id)),
        );
        async move { client.batch_get_leads(request).await }
    });
    let paused = async {
        world
            .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable-plus\"} 1")
            .await;
        pause(world.admin).await;
    };
    let started = Instant::now();
    let (results, ()) = tokio::join!(concurrently(reads), paused);
    assert!(started.elapsed() < Duration::from_secs(10));
    // The first deadline is before the next window.
    let [infeasible, waiting] = <[_; 2]>::try_from(results).unwrap();
    seen(infeasible.unwrap_err()).is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
    let error = seen(waiting.unwrap_err());
    error.is(Code::Unavailable, "TENANT_PAUSED");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    assert_eq!(error.pushback(), Some(Duration::from_secs(10)));
    let mut client = world.client.clone();
    let late = client
        .batch_get_leads(within(Duration::from_secs(5), lone_read(&id)))
        .await;
    let error = seen(late.unwrap_err());
    error.is(Code::Unavailable, "TENANT_PAUSED");
    assert!(error.is_not_for_this_call());

    assert_eq!(world.simulator.calls().len(), 1, "nothing was sent");
    let (status, page) = world.page("/ready").await;
    assert!(
        status == 200 && page.contains("\"code\":\"TENANT_PAUSED\",\"tenant\":\"acme\""),
        "{page}"
    );
    world.until("leadgate_tenant_paused{tenant=\"acme\"} 1").await;
    let mut quota = QuotaServiceClient::new(channel(world.address).await);
    quota.get_quota(pb::GetQuotaRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_write_that_was_sent_is_finished_and_recorded() {
    let mut options = Options::default();
    slow(&mut options, 500);
    let world = World::with(options, SETTING).await.warm().await;
    let request = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let create = async || world.client.clone().create_lead(request.clone()).await;
    let paused = async {
        until("the write", async || world.calls("Lead.Create").len() == 1).await;
        pause(world.admin).await;
        // The same message as that of the write in progress.
        let other = pb::CreateLeadRequest {
            request_id: Uuid::new_v4().to_string(),
            ..request.clone()
        };
        let error = seen(world.client.clone().create_lead(other).await.unwrap_err());
        error.is(Code::Unavailable, "TENANT_PAUSED");
        assert_eq!(error.retry_same_request_id(), None, "the message was not read");
    };
    let (created, ()) = tokio::join!(create(), paused);
    let id = created.unwrap().into_inner().lead_id;
    seen(create().await.unwrap_err()).is(Code::Unavailable, "TENANT_PAUSED");
    resume(world.admin).await;
    assert_eq!(create().await.unwrap().into_inner().lead_id, id);
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn a_refused_call_is_not_sent_again_while_the_account_is_paused() {
    // The refused call waits in the queue for the next window. A refusal names the limit of the account.
    let mut options = Options::default();
    (options.limits.calls, options.limits.per) = (2, Duration::from_secs(20));
    let limits = "[tenants.acme.limits]\ncalls = 2\nwindow = \"20s\"\n";
    let world = World::with(options, &format!("{SETTING}{limits}")).await.warm().await;
    world.fail_next("Lead.Create", leadgate_simulator::FaultKind::Refuse);
    let request = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let paused = async {
        world
            .until("leadgate_upstream_refusals_total{tenant=\"acme\",status=\"429\"} 1")
            .await;
        world
            .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable-plus\"} 1")
            .await;
        pause(world.admin).await;
    };
    let mut client = world.client.clone();
    let created = client.create_lead(within(Duration::from_secs(55), request.clone()));
    let (created, ()) = tokio::join!(created, paused);
    let error = seen(created.unwrap_err());
    error.is(Code::Unavailable, "TENANT_PAUSED");
    assert_eq!(error.retry_same_request_id(), Some("true"));
    assert_eq!(world.simulator.stats().refused, 1);
    assert_eq!(world.simulator.leads().len(), 0);
}

#[tokio::test]
async fn streams_end_except_those_of_the_quota() {
    let fixture = ShareFixture::with(|_| {}, SETTING).await;
    let share = fixture.share().await;
    let world = &fixture.world;
    let request = pb::WatchShareRequest {
        share_id: share.share_id.clone(),
    };
    let mut watch = fixture
        .client
        .clone()
        .watch_share(request.clone())
        .await
        .unwrap()
        .into_inner();
    watch.message().await.unwrap().unwrap();
    let mut quota = QuotaServiceClient::new(channel(world.address).await);
    let request_of_quota = pb::WatchQuotaRequest::default();
    let mut quota = quota.watch_quota(request_of_quota).await.unwrap().into_inner();
    quota.message().await.unwrap().unwrap();

    pause(world.admin).await;
    let status = loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ended without an error"),
            Err(status) => break status,
        }
    };
    let error = seen(status);
    error.is(Code::Unavailable, "TENANT_PAUSED");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    let mut refused = fixture.client.clone();
    let status = match refused.watch_share(request).await {
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    seen(status).is(Code::Unavailable, "TENANT_PAUSED");
    for _ in 0..2 {
        let next = tokio::time::timeout(LIMIT, quota.message()).await;
        next.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn no_step_of_a_share_begins_while_the_account_is_paused() {
    // The pause is much longer than `give_up_after`.
    let settings = format!("give_up_after = \"1s\"\n{SETTING}");
    let fixture = ShareFixture::with(|_| {}, &settings).await;
    let world = &fixture.world;
    for (endpoint, next) in [
        ("ProspectActivity.Create", "EntityAccess.Share"),
        ("EntityAccess.Share", "EntityAccess.Status"),
    ] {
        let lead_id = fixture.insert_lead("Ann");
        world.simulator.forget_calls();
        world.set_options(|options| slow(options, 300));
        let request = pb::ShareLeadRequest {
            lead: Some(pb::share_lead_request::Lead::LeadId(lead_id)),
            wait_for: WaitFor::None.into(),
            ..fixture.request()
        };
        let share = fixture.try_share(request).await.unwrap();
        until(endpoint, async || world.calls(endpoint).len() == 1).await;
        pause(world.admin).await;
        // Longer than the step that was sent, and than many intervals of the polls.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(world.calls(next).len(), 0, "{endpoint}");
        let calls = world.simulator.calls().len();
        resume(world.admin).await;
        world.set_options(|options| slow(options, 0));
        until("the share", async || {
            fixture.get(&share.share_id).await.share.unwrap().state() == ShareState::Active
        })
        .await;
        assert!(world.simulator.calls().len() > calls);
        for endpoint in ["ProspectActivity.Create", "EntityAccess.Share"] {
            assert_eq!(world.calls(endpoint).len(), 1, "each step was sent once");
        }
    }
}

#[tokio::test]
async fn an_rpc_that_waits_for_a_share_returns_it_when_the_account_is_paused() {
    let fixture = ShareFixture::with(|options| options.share_polls = 1_000_000, SETTING).await;
    let world = &fixture.world;
    let paused = async {
        until("a poll", async || !world.calls("EntityAccess.Status").is_empty()).await;
        pause(world.admin).await;
    };
    let (share, ()) = tokio::join!(fixture.share(), paused);
    assert_eq!(share.state(), ShareState::Processing);
}

#[tokio::test]
async fn a_pause_survives_a_restart_and_sends_nothing() {
    let account = Account::open(Options::default(), SETTING).await;
    let world = account.gateway().await.warm().await;
    let (_, first) = steer(world.admin, "POST", "tenants/acme/pause", "{\"reason\": \"one\"}").await;
    let (_, second) = steer(world.admin, "POST", "tenants/acme/pause", "{\"reason\": \"two\"}").await;
    assert_eq!((&second["since"], &second["reason"]), (&first["since"], &json!("two")));
    world.stop().await;

    let world = account.gateway().await;
    seen(world.create(lead("Asha")).await.unwrap_err()).is(Code::Unavailable, "TENANT_PAUSED");
    let (_, page) = world.page("/ready").await;
    assert!(page.contains("TENANT_PAUSED") && page.contains(": two\""), "{page}");
    assert_eq!(account.simulator.calls().len(), 0, "not even the metadata");
    resume(world.admin).await;
    world.create(lead("Asha")).await.unwrap();
    world.stop().await;
    let world = account.gateway().await.warm().await;
    assert_eq!(world.page("/ready").await.1, "{\"status\":\"ready\",\"reasons\":[]}\n");
    world.stop().await;
}

// A process: the log filter, the shutdown, and backups.

#[tokio::test]
async fn the_log_filter_changes_while_the_process_runs() {
    let account = Account::open(Options::default(), "[log]\nfilter = \"warn\"\n").await;
    let process = with_token(&account).await;
    let mut child = process.start();
    let mut client = pb::lead_service_client::LeadServiceClient::new(process.channel().await);
    let id = account.simulator.insert_lead(&[("FirstName", "Ann")]);
    let log = || std::fs::read_to_string(account.folder.path().join("log")).unwrap();
    let lines = || log().matches("\"rpc finished\"").count();
    client.batch_get_leads(lone_read(&id)).await.unwrap();
    let (status, json) = steer(
        process.admin,
        "PUT",
        "log",
        "{\"filter\": \"error,leadgate::rpc=info\"}",
    )
    .await;
    assert_eq!((status, json), (200, json!({"filter": "error,leadgate::rpc=info"})));
    client.batch_get_leads(lone_read(&id)).await.unwrap();
    until("the line of the RPC", async || lines() == 1).await;
    let (status, json) = steer(process.admin, "PUT", "log", "{\"filter\": \"=nonsense=\"}").await;
    assert_eq!((status, code(&json)), (400, "INVALID_FILTER"));
    client.batch_get_leads(lone_read(&id)).await.unwrap();
    until("the invalid filter changes nothing", async || lines() == 2).await;
    for body in ["{\"filter\": null}", "{\"filter\": \"\"}"] {
        let (status, json) = steer(process.admin, "PUT", "log", body).await;
        assert_eq!((status, json), (200, json!({"filter": "warn"})));
        client.batch_get_leads(lone_read(&id)).await.unwrap();
    }

    // The shutdown is that of SIGTERM.
    let (status, json) = steer(process.admin, "POST", "drain", "").await;
    assert_eq!((status, json), (202, json!({"status": "shutting_down"})));
    let ended = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{}", log());
    assert_eq!(lines(), 2, "{}", log());
    assert!(!log().contains(TOKEN));
}

/// A process of an account with the token.
#[tokio::test]
async fn the_sampling_of_traces_changes_while_the_process_runs() {
    let collector = Collector::http().await;
    let settings = format!("{}sampling = 0.0\n{SETTING}", collector.settings());
    let world = World::with(Options::default(), &settings).await.warm().await;
    world.create(lead("Asha")).await.unwrap();
    let changed = steer(world.admin, "PUT", "sampling", "{\"ratio\": 1}").await;
    assert_eq!(changed, (200, json!({"ratio": 1.0})));
    world.create(lead("Ravi")).await.unwrap();
    let read = steer(world.admin, "GET", "sampling", "").await;
    assert_eq!(read, (200, json!({"ratio": 1.0, "configured": 0.0})));
    let restored = steer(world.admin, "PUT", "sampling", "{\"ratio\": null}").await;
    assert_eq!(restored, (200, json!({"ratio": 0.0})));
    world.create(lead("Mira")).await.unwrap();
    world.stop().await;
    let spans = collector.spans();
    let created = spans
        .iter()
        .filter(|span| span.name == "leadgate.v1.LeadService/CreateLead");
    assert_eq!(created.count(), 1);
}

async fn with_token(account: &Account) -> crate::account::Process {
    let process = account.process().await;
    let text = std::fs::read_to_string(&process.path).unwrap();
    let admin = format!("listen = \"{}\"\n", process.admin);
    let text = text.replace(&format!("[admin]\n{admin}"), &format!("{SETTING}{admin}"));
    std::fs::write(&process.path, text).unwrap();
    process
}

#[tokio::test]
async fn a_request_to_drain_begins_the_shutdown() {
    let mut options = Options::default();
    slow(&mut options, 1000);
    let settings = format!("[server]\nshutdown_delay = \"500ms\"\n{SETTING}");
    let world = World::with(options, &settings).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let mut client = world.client.clone();
    let request = lone_read(&id);
    let read = client.batch_get_leads(request);
    let drained = async {
        until("the read", async || {
            !world.calls("Leads.RetrieveByIds").is_empty() || world.simulator.calls().len() > 1
        })
        .await;
        for _ in 0..2 {
            let (status, _) = steer(world.admin, "POST", "drain", "").await;
            assert_eq!(status, 202);
        }
        let (status, page) = world.page("/ready").await;
        assert!(status == 503 && page.contains("SHUTTING_DOWN"), "{page}");
    };
    let (read, ()) = tokio::join!(read, drained);
    read.unwrap();
    world.stop().await;
}

/// The options of `leadgate store backup` for a process.
async fn backup(admin: SocketAddr, token_file: &Path, file: &Path) -> Said {
    let admin = format!("http://{admin}");
    let options = ["--admin", &admin, "--token-file", token_file.to_str().unwrap()];
    run(&[&["store", "backup", file.to_str().unwrap()], &options[..]].concat())
        .await
        .into()
}

#[tokio::test]
async fn a_gateway_continues_with_a_backup() {
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    // No share is processed before the backup.
    options.share_polls = 1_000_000;
    let sharing = "[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n[tenants.acme.sharing]\ndefault_activity_type = 201\n\
                   poll_every = \"20ms\"\npoll_at_most = \"40ms\"\n";
    let account = Account::open(options, sharing).await;
    let process = with_token(&account).await;
    let mut child = process.start();
    let channel = process.channel().await;
    let mut client = pb::lead_service_client::LeadServiceClient::new(channel.clone());
    let create = |name: &str, id: Uuid| pb::CreateLeadRequest {
        lead: Some(lead(name)),
        request_id: id.to_string(),
        ..Default::default()
    };
    // A finished request, one in progress, and a share in progress.
    let ids = [Uuid::new_v4(), Uuid::new_v4()];
    let finished = client
        .create_lead(create("Asha", ids[0]))
        .await
        .unwrap()
        .into_inner()
        .lead_id;
    let lead_id = account.simulator.insert_lead(&[("FirstName", "Ann")]);
    let share = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadId(lead_id)),
        user: Some(pb::share_lead_request::User::UserId(crate::share::SAM.into())),
        access: pb::Access::Write.into(),
        duration: Some(prost_types::Duration {
            seconds: 1800,
            nanos: 0,
        }),
        wait_for: WaitFor::Submitted.into(),
        ..Default::default()
    };
    let mut shares = ShareServiceClient::new(channel);
    let share = shares.share_lead(share).await.unwrap().into_inner().share.unwrap();
    account.simulator.set_options(|options| slow(options, 3000));
    let unfinished = tokio::spawn({
        let (mut client, request) = (client.clone(), create("Ben", ids[1]));
        async move { client.create_lead(request).await }
    });
    let creates = || {
        let calls = account.simulator.calls().into_iter();
        calls.filter(|call| call.endpoint == "Lead.Create").count()
    };
    until("the second create", async || creates() == 2).await;

    let copies = tempfile::tempdir().unwrap();
    let (token, copy) = (copies.path().join("token"), copies.path().join("copy.db"));
    std::fs::write(&token, TOKEN).unwrap();
    let said = backup(process.admin, &token, &copy).await;
    assert!(said.code == Some(0) && said.out.starts_with("Wrote "), "{said:?}");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    // A second backup does not replace the first one. The address and the token can be those of the settings.
    let bytes = std::fs::read(&copy).unwrap();
    let arguments = [
        "store",
        "backup",
        copy.to_str().unwrap(),
        "--config",
        process.path.to_str().unwrap(),
    ];
    let again = Said::from(run(&arguments).await);
    assert!(
        again.code == Some(1) && again.err.contains("exists already"),
        "{again:?}"
    );
    assert_eq!(std::fs::read(&copy).unwrap(), bytes);
    let second = copies.path().join("second.db");
    let arguments = [
        "store",
        "backup",
        second.to_str().unwrap(),
        "--config",
        process.path.to_str().unwrap(),
    ];
    let said = Said::from(run(&arguments).await);
    assert_eq!(said.code, Some(0), "{said:?}");
    std::fs::write(&token, "0".repeat(32)).unwrap();
    let refused = backup(process.admin, &token, &copies.path().join("third.db")).await;
    assert!(
        refused.code == Some(1) && refused.err.contains("TOKEN_INVALID"),
        "{refused:?}"
    );
    let mut names: Vec<_> = std::fs::read_dir(copies.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["copy.db", "second.db", "token"], "nothing incomplete remains");

    // The first gateway ends like in a crash. A new one continues with the copy.
    child.kill().await.unwrap();
    assert!(unfinished.await.unwrap().is_err());
    account.simulator.set_options(|options| {
        slow(options, 0);
        options.share_polls = 0;
    });
    let store = account.folder.path().join("leadgate.db").display().to_string();
    let settings = account.settings.replace(&store, copy.to_str().unwrap());
    let config = copies.path().join("leadgate.toml");
    std::fs::write(&config, &settings).unwrap();
    let said = Said::from(run(&["check", "--config", config.to_str().unwrap()]).await);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.out.contains("damaged row"), "{said:?}");
    let world = World::gateway(account.simulator.clone(), &settings).await;
    let mut client = world.client.clone();
    let repeated = client
        .create_lead(create("Asha", ids[0]))
        .await
        .unwrap()
        .into_inner()
        .lead_id;
    assert_eq!(repeated, finished);
    // LeadSquared has executed the write: it is looked up, and not sent again.
    until("the write", async || account.simulator.leads().len() == 3).await;
    client.create_lead(create("Ben", ids[1])).await.unwrap();
    assert_eq!(account.simulator.leads().len(), 3);
    let mut shares = ShareServiceClient::new(crate::harness::channel(world.address).await);
    until("the share", async || {
        let request = pb::GetShareRequest {
            share_id: share.share_id.clone(),
        };
        let found = shares.clone().get_share(request).await.unwrap().into_inner();
        found.share.unwrap().state() == ShareState::Active
    })
    .await;
    let calls = account.simulator.calls();
    assert_eq!(
        calls
            .iter()
            .filter(|call| call.endpoint == "EntityAccess.Share")
            .count(),
        1
    );
    let list = shares
        .list_shares(pb::ListSharesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.shares.len(), 1);
    world.stop().await;
}

/// A connection that has requested a backup.
async fn begin_backup(admin: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("POST /admin/store/backup HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

/// The length of a store that the buffers of a connection cannot hold.
const LARGE: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn one_backup_at_a_time_and_the_gateway_continues() {
    let account = Account::open(Options::default(), SETTING).await;
    let path = account.folder.path().join("leadgate.db");
    let url = format!("sqlite://{}", path.display());
    let store = Store::open(&url).await.unwrap();
    fill(&store, LARGE).await;
    store.close().await;
    let world = account.gateway().await.warm().await;
    // This client does not read.
    let first = begin_backup(world.admin).await;
    let (status, json) = steer(world.admin, "POST", "store/backup", "").await;
    assert_eq!((status, code(&json)), (409, "BACKUP_IN_PROGRESS"));
    let create = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    world.client.clone().create_lead(create).await.unwrap();
    drop(first);
    until("the end of the first backup", async || {
        let stream = TcpStream::connect(world.admin).await.unwrap();
        drop(stream);
        let request = reqwest::Client::new()
            .post(format!("http://{}/admin/store/backup", world.admin))
            .header("authorization", format!("Bearer {TOKEN}"));
        let response = request.send().await.unwrap();
        match response.status().as_u16() {
            200 => response.bytes().await.unwrap().len() >= LARGE,
            status => {
                assert_eq!(status, 409);
                false
            }
        }
    })
    .await;
    world.stop().await;
    let names = std::fs::read_dir(account.folder.path()).unwrap();
    let names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["leadgate.db"], "no copy remains");
}

#[tokio::test]
async fn an_interrupted_transfer_leaves_nothing() {
    let listener = crate::harness::listen().await;
    let admin = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (token, file) = (folder.path().join("token"), folder.path().join("copy.db"));
    std::fs::write(&token, TOKEN).unwrap();
    for (body, expected) in [
        ("SQLite format 3\0abc", "interrupted"),
        ("SQLite format 3\0", "interrupted"),
        ("<html>a proxy.....", "not a SQLite database"),
    ] {
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            assert!(String::from_utf8_lossy(&request[..read]).starts_with("POST /admin/store/backup HTTP/1.1\r\n"));
            let length = if expected == "interrupted" { 1000 } else { body.len() };
            let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(response.as_bytes()).await.unwrap();
        };
        let (said, ()) = tokio::join!(backup(admin, &token, &file), served);
        assert!(said.code == Some(1) && said.err.contains(expected), "{said:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{expected}");
    }
}

#[tokio::test]
async fn texts_of_another_program_do_not_control_the_terminal() {
    let listener = crate::harness::listen().await;
    let admin = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let body = r#"{"code":"X\u001b[31m","message":"\u001b]0;title\u0007 \u202ehi\u009b"}"#;
        let head = format!("HTTP/1.1 503 Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).await.unwrap();
    };
    let copy = folder.path().join("copy.db");
    let (said, ()) = tokio::join!(backup(admin, &token, &copy), served);
    assert!(said.code == Some(1) && said.err.contains("]0;title"), "{said:?}");
    let unsafe_characters = ['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}'];
    assert!(!said.err.contains(unsafe_characters), "{said:?}");
}

#[tokio::test]
async fn an_address_or_a_file_that_cannot_be_meant_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let (token, copy) = (token.to_str().unwrap(), folder.path().join("copy.db"));
    let copy = copy.to_str().unwrap();
    for (arguments, text) in [
        (&[copy, "--admin", "http://127.0.0.1:1"][..], "give --token-file"),
        (&[copy, "--token-file", token], "give --admin"),
        (
            &[copy, "--admin", "http://u:p@127.0.0.1:1", "--token-file", token],
            "without a user",
        ),
        (
            &[copy, "--admin", "http://127.0.0.1:1/x", "--token-file", token],
            "without a user",
        ),
        (
            &["-", "--admin", "http://127.0.0.1:1", "--token-file", token],
            "standard output",
        ),
    ] {
        let said = Said::from(run(&[&["store", "backup"], arguments].concat()).await);
        assert!(
            said.code == Some(1) && said.err.contains(text),
            "{arguments:?}: {said:?}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Adds request ids with long results until the store has about that length.
async fn fill(store: &Store, length: usize) {
    use leadgate::context::RequestId;
    use leadgate::store::RequestMark;
    let result = format!("{{\"Done\":\"{}\"}}", "x".repeat(1024 * 1024));
    for number in 0..length / result.len() + 1 {
        let request = RequestId {
            id: Uuid::from_u128(number as u128 + 1),
            fingerprint: [7; 32],
            is_internal: false,
        };
        store
            .begin_request("acme", "test", &RequestMark::new(request), LIMIT)
            .await
            .unwrap();
        store.finish_request("acme", "test", &request, &result).await.unwrap();
    }
}
