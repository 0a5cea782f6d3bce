//! The REST listener: its keys, its responses, its errors and its limits.

use std::net::SocketAddr;
use std::time::Duration;

use leadgate::identity::api_key::KeyHash;
use leadgate_simulator::{Fault, FaultKind, Options};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::certificates::{Authority, TlsFiles};
use crate::harness::World;

pub const ACCESS: &str = "lgr_legacy_0123456789abcdef";
pub const SECRET: &str = "a-secret-of-43-characters-012345678901234567";
pub const OTHER: &str = "lgr_other_0123456789abcdef";
pub const GET: &str = "/v2/LeadManagement.svc/Leads.GetById";
pub const LIMIT: Duration = Duration::from_secs(10);

/// The settings of a listener with two callers.
pub fn settings(rest: &str, caller: &str) -> String {
    let hash = KeyHash::of(SECRET);
    let keys = |access: &str| format!("rest_keys = [{{ access_key = \"{access}\", secret_key = \"{hash}\" }}]");
    format!(
        "[rest]\nlisten = \"127.0.0.1:0\"\n{rest}\n[callers.legacy]\ntenants = [\"acme\"]\nallow = [\"REST:*\"]\n{}\n{caller}\n\
         [callers.other]\ntenants = [\"acme\"]\nallow = [\"REST:LeadManagement.svc/Leads.*\"]\n{}\n",
        keys(ACCESS),
        keys(OTHER)
    )
}

pub(super) async fn world(rest: &str) -> World {
    World::with(Options::default(), &settings(rest, "")).await.warm().await
}

pub(super) fn address(world: &World) -> SocketAddr {
    world.rest.unwrap()
}

pub(super) fn url(world: &World, path_and_query: &str) -> String {
    format!("http://{}{path_and_query}", address(world))
}

/// The query with the keys of the caller `legacy`.
pub fn keyed(query: &str) -> String {
    format!("accessKey={ACCESS}&secretKey={SECRET}&{query}")
}

pub(super) async fn get(world: &World, path_and_query: &str) -> reqwest::Response {
    reqwest::get(url(world, path_and_query)).await.unwrap()
}

/// The response to raw bytes, until the connection is closed.
async fn raw(world: &World, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(world)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut response)).await;
    let _ = read.unwrap_or_else(|_| panic!("the connection stays open after {:?}", String::from_utf8_lossy(request)));
    String::from_utf8_lossy(&response).into_owned()
}

/// Checks that a response is an error of leadgate. Returns its text.
pub async fn error(response: reqwest::Response, status: u16, kind: &str, reason: &str) -> String {
    let headers = response.headers().clone();
    assert_eq!(
        (response.status().as_u16(), &headers["x-leadgate-reason"]),
        (status, &reason.parse().unwrap())
    );
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(headers.contains_key("x-request-id"));
    let body = response.text().await.unwrap();
    let text = serde_json::from_str::<Json>(&body).unwrap()["ExceptionMessage"].clone();
    // The keys have this order, as in LeadSquared's own errors.
    let expected = format!(r#"{{"Status":"Error","ExceptionType":"{kind}","ExceptionMessage":{text}}}"#);
    assert_eq!(body, expected);
    text.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_gets_the_bytes_of_leadsquared_for_keys_in_any_place() {
    let world = world("").await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let client = reqwest::Client::new();
    let in_headers = |request: reqwest::RequestBuilder| {
        request
            .header("x-LSQ-AccessKey", ACCESS)
            .header("X-LSQ-SecretKey", SECRET)
    };
    for (query, has_headers) in [
        (keyed(&format!("id={id}")), false),
        (format!("id={id}&ACCESSKEY={ACCESS}&secretkey={SECRET}"), false),
        (
            format!("accessKey=wrong&secretKey=wrong&{}", keyed(&format!("id={id}"))),
            false,
        ),
        (format!("id={id}"), true),
        (format!("accessKey=wrong&secretKey=wrong&id={id}"), true),
    ] {
        for path in [
            GET,
            "/LeadManagement.svc/Leads.GetById",
            "/v2//LeadManagement.svc/Leads.GetById",
        ] {
            let request = client.get(url(&world, &format!("{path}?{query}")));
            let request = if has_headers { in_headers(request) } else { request };
            let response = request.send().await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (200, &"application/json; charset=utf-8".parse().unwrap()),
                "{query}"
            );
            let names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
            for name in &names {
                let known = [
                    "content-type",
                    "content-length",
                    "date",
                    "x-request-id",
                    "cache-control",
                ];
                assert!(known.contains(&name.as_str()), "{name}");
            }
            assert!(response.text().await.unwrap().contains(&id));
        }
    }
}

#[tokio::test]
async fn wrong_keys_are_one_error_and_cost_nothing() {
    let world = world("").await;
    let options = Options::default();
    let real = format!("accessKey={}&secretKey={}", options.access_key, options.secret_key);
    let body = format!("accessKey={ACCESS}&secretKey={SECRET}");
    for query in [
        "",
        "accessKey=&secretKey=",
        &format!("accessKey={ACCESS}"),
        &format!("accessKey={ACCESS}&secretKey=wrong"),
        &format!("accessKey=unknown_key&secretKey={SECRET}"),
        &real,
        &format!("{}&accessKey={OTHER}&secretKey={SECRET}", keyed("")),
    ] {
        let response = get(&world, &format!("{GET}?id=1&{query}")).await;
        let text = error(response, 401, "MXInvalidAccessDetailsException", "CALLER_UNKNOWN").await;
        assert_eq!(text, "Invalid Access Details provided.");
    }
    let client = reqwest::Client::new();
    let in_body = client
        .post(url(&world, "/v2/LeadManagement.svc/Lead.Create"))
        .body(body);
    error(
        in_body.send().await.unwrap(),
        401,
        "MXInvalidAccessDetailsException",
        "CALLER_UNKNOWN",
    )
    .await;
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_caller_may_call_only_what_its_rules_allow() {
    let world = world("").await;
    let other = |path: &str| format!("{path}?accessKey={OTHER}&secretKey={SECRET}&id=x");
    assert_eq!(get(&world, &other(&GET.to_lowercase())).await.status(), 404);
    let response = get(&world, &other("/v2/LeadManagement.svc/LeadsMetaData.Get")).await;
    let text = error(response, 403, "MXUnAuthorizedAccessException", "CALLER_NOT_ALLOWED").await;
    assert_eq!(text, "You are not allowed to use this API.");
}

#[tokio::test]
async fn a_write_is_sent_as_it_is() {
    let world = world("").await;
    let client = reqwest::Client::new();
    let body = "[ {\"Attribute\":\"FirstName\",\"Value\":\"Jos\u{e9}\"},  {\"Attribute\":\"Phone\",\"Value\":\"+91-9845012345\"} ]";
    let create = client
        .post(url(&world, &format!("/LeadManagement.svc/Lead.Create?{}", keyed(""))))
        .header("authorization", "Bearer x")
        .header("cookie", "a=b")
        .body(body);
    let response = create.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(world.simulator.leads().len(), 1);
    let calls = world.calls("Lead.Create");
    assert_eq!(calls.len(), 1);
    // A POST without a body has a length.
    let merge = url(
        &world,
        &format!("/LeadManagement.svc/Lead.Merge?{}", keyed("masterId=x")),
    );
    assert_eq!(client.post(merge).send().await.unwrap().status(), 500);
    let merge = &world.calls("Lead.Merge")[0];
    assert_eq!(merge.header("content-length"), Some("0"));
    assert_eq!(merge.header("content-type"), None);
    // An error of LeadSquared is a response.
    let again = client
        .post(url(&world, &format!("/LeadManagement.svc/Lead.Create?{}", keyed(""))))
        .body(body);
    let response = again.send().await.unwrap();
    assert_eq!(response.status(), 500);
    assert!(!response.headers().contains_key("x-leadgate-reason"));
    assert!(response.text().await.unwrap().contains("MXDuplicateEntryException"));
}

#[tokio::test]
async fn invalid_requests_have_their_status() {
    let world = world("max_body_bytes = 100\nbody_timeout = \"300ms\"").await;
    let client = reqwest::Client::new();
    let kind = "MXInvalidInputException";
    for (path, status) in [
        ("/v2/LeadManagement.svc/a;b", 400),
        ("/v2/LeadManagement.svc/%41/x", 400),
        ("/v1/LeadManagement.svc/x", 404),
        ("/", 404),
    ] {
        error(get(&world, path).await, status, kind, "INVALID_FIELD").await;
    }
    let text = error(get(&world, "/File/Upload").await, 404, kind, "INVALID_FIELD").await;
    assert!(text.contains("files"), "{text}");
    let path = format!("/v2/LeadManagement.svc/Lead.Create?{}", keyed(""));
    let put = client
        .request(reqwest::Method::PATCH, url(&world, &path))
        .send()
        .await
        .unwrap();
    assert_eq!(put.headers()["allow"], "GET, POST, PUT, DELETE");
    error(put, 405, kind, "INVALID_FIELD").await;
    let long = client
        .post(url(&world, &path))
        .body("x".repeat(101))
        .send()
        .await
        .unwrap();
    assert_eq!(long.headers()["connection"], "close");
    error(long, 413, kind, "INVALID_FIELD").await;
    let coded = client
        .post(url(&world, &path))
        .header("content-encoding", "gzip")
        .body("x")
        .send();
    error(coded.await.unwrap(), 415, kind, "INVALID_FIELD").await;
    for (name, value) in [("x-leadgate-max-wait", "soon"), ("x-leadgate-criticality", "high")] {
        let request = client
            .get(url(&world, &format!("{GET}?{}", keyed("id=x"))))
            .header(name, value);
        error(request.send().await.unwrap(), 400, kind, "INVALID_FIELD").await;
    }
    let slow = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    let response = raw(&world, slow.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn malformed_requests_end_their_connection() {
    let world = world("header_timeout = \"300ms\"").await;
    let path = format!("/v2/LeadManagement.svc/Lead.Create?{}", keyed(""));
    let second = format!("GET {GET}?{} HTTP/1.1\r\nHost: a\r\n\r\n", keyed("id=x"));
    for (head, status) in [
        (
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
            "400",
        ),
        (
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 2\r\n\r\n[]"),
            "400",
        ),
        (
            format!("POST {path} HTTP/1.1\r\nHost : a\r\nContent-Length: 2\r\n\r\n[]"),
            "400",
        ),
        (
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "400",
        ),
        (
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"),
            "400",
        ),
        (format!("GET {path}&a=\u{1} HTTP/1.1\r\nHost: a\r\n\r\n"), "400"),
        (format!("GET {path} HTTP/1.1\r\nHost: a\r\nx-a: \u{1}\r\n\r\n"), "400"),
        (
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nx-a: {}\r\n\r\n", "x".repeat(20_000)),
            "431",
        ),
    ] {
        let response = raw(&world, format!("{head}{second}").as_bytes()).await;
        let is_expected = response.starts_with(&format!("HTTP/1.1 {status}"));
        assert!(is_expected, "{head:?}: {response}");
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{head:?}: {response}");
    }
    // Slow headers have no response.
    let slow = raw(&world, format!("GET {path} HTTP/1.1\r\nHost: a\r\nx-slow: ").as_bytes()).await;
    assert_eq!(slow, "");
    assert!(world.simulator.calls().is_empty(), "{:?}", world.simulator.calls());
}

#[tokio::test]
async fn the_connection_is_closed_after_a_chunked_request() {
    let world = world("").await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let query = keyed(&format!("leadId={id}"));
    let body = r#"[{"Attribute":"FirstName","Value":"Bea"}]"#;
    for lengths in ["", "Content-Length: 3\r\n"] {
        let request = format!(
            "POST http://elsewhere/v2/LeadManagement.svc/Lead.Update?{query} HTTP/1.1\r\nHost: a\r\n{lengths}Transfer-Encoding: \
             chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            body.len()
        );
        let response = raw(&world, request.as_bytes()).await;
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
        assert!(
            response.starts_with("HTTP/1.1 200") || response.starts_with("HTTP/1.1 400"),
            "{response}"
        );
    }
    assert_eq!(world.value_of(&id, "FirstName").as_deref(), Some("Bea"));
}

#[tokio::test]
async fn a_request_without_a_slot_gets_the_refusal_of_leadsquared() {
    let limits = "[tenants.acme.limits]\ncalls = 2\nwindow = \"30s\"\n";
    for (caller, status) in [("", 429), ("rest_refusal_status = 200", 200)] {
        let settings = format!("{limits}{}", settings("max_wait = \"0s\"", caller));
        let options = Options::default();
        let world = World::with(options, &settings).await;
        let path = format!("{GET}?{}", keyed("id=x"));
        let mut refused = None;
        for _ in 0..3 {
            let response = get(&world, &path).await;
            if response.headers().contains_key("x-leadgate-reason") {
                refused = Some(response);
                break;
            }
        }
        let refused = refused.unwrap();
        let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&after));
        let text = error(
            refused,
            status,
            "MXAPIRateLimitExceededException",
            "DEADLINE_INFEASIBLE",
        )
        .await;
        assert_eq!(text, "API calls exceeded the limit of 2 in 30 second(s)");
    }
}

#[tokio::test]
async fn a_call_that_leadsquared_refuses_until_its_time_ends_gets_a_refusal() {
    for (endpoint, path) in [
        ("Leads.GetById", GET),
        ("Lead.Create", "/v2/LeadManagement.svc/Lead.Create"),
    ] {
        let world = world("max_wait = \"0s\"").await;
        let refusals = Fault::new(endpoint, FaultKind::Refuse).times(1_000);
        world.simulator.add_fault(refusals).unwrap();
        let url = url(&world, &format!("{path}?{}", keyed("id=x")));
        let client = reqwest::Client::new();
        let request = match endpoint {
            "Lead.Create" => client.post(url).body("[]"),
            _ => client.get(url),
        };
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key("retry-after"));
        let text = error(response, 429, "MXAPIRateLimitExceededException", "DEADLINE_INFEASIBLE").await;
        assert_eq!(text, "API calls exceeded the limit of 25 in 5 second(s)");
        assert!(!world.calls(endpoint).is_empty());
    }
}

#[tokio::test]
async fn lost_responses_are_503_for_a_read_and_409_for_a_write() {
    let world = World::with(
        Options::default(),
        &format!("[tenant_defaults.upstream]\nmax_attempts = 2\n{}", settings("", "")),
    )
    .await
    .warm()
    .await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    world.fail_next("Leads.GetById", FaultKind::DropBefore);
    let path = format!("{GET}?{}", keyed(&format!("id={id}")));
    assert_eq!(get(&world, &path).await.status(), 200);
    assert_eq!(world.calls("Leads.GetById").len(), 2);
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::DropBefore).times(2))
        .unwrap();
    let text = error(
        get(&world, &path).await,
        503,
        "LeadgateUnavailableException",
        "UPSTREAM_UNAVAILABLE",
    )
    .await;
    assert_eq!(text, "Not executed; try again.");
    world.fail_next("Lead.Update", FaultKind::CommitThenDrop);
    let update = url(
        &world,
        &format!("/v2/LeadManagement.svc/Lead.Update?{}", keyed(&format!("leadId={id}"))),
    );
    let update = reqwest::Client::new()
        .post(update)
        .body(r#"[{"Attribute":"FirstName","Value":"Bea"}]"#);
    let response = update.send().await.unwrap();
    let text = error(response, 409, "LeadgateOutcomeUnknownException", "OUTCOME_UNKNOWN").await;
    assert_eq!(text, "No response from LeadSquared. The call may have been executed.");
    assert_eq!(world.calls("Lead.Update").len(), 1);
}

#[tokio::test]
async fn redirects_and_long_responses_are_not_passed_on() {
    let world = World::with(
        Options::default(),
        &format!(
            "[tenant_defaults.upstream]\nmax_answer_bytes = 100000\n{}",
            settings("", "")
        ),
    )
    .await
    .warm()
    .await;
    let path = format!("{GET}?{}", keyed("id=x"));
    for (status, body, reason) in [
        (302, String::new(), "UPSTREAM_UNREADABLE"),
        (200, "x".repeat(100_001), "RESPONSE_TOO_LARGE"),
    ] {
        let fault = FaultKind::Respond {
            status,
            body,
            content_type: None,
            commit: false,
        };
        world.fail_next("Leads.GetById", fault);
        let response = get(&world, &path).await;
        let text = error(response, 502, "LeadgateUpstreamException", reason).await;
        assert_eq!(text, "The response cannot be passed on.");
    }
}

#[tokio::test]
async fn what_leadsquared_says_about_the_keys_of_the_account_is_passed_on() {
    let world = world("").await;
    world.set_options(|options| options.secret_key = "another".to_owned());
    let response = get(&world, &format!("{GET}?{}", keyed("id=x"))).await;
    assert_eq!(response.status(), 401);
    assert!(!response.headers().contains_key("x-leadgate-reason"));
}

#[tokio::test]
async fn idle_connections_are_closed_and_http_1_0_is_served() {
    let world = world("keep_alive = \"300ms\"").await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let query = keyed(&format!("id={id}"));
    let kept = raw(
        &world,
        format!("GET {GET}?{query} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
    )
    .await;
    let old = raw(&world, format!("GET {GET}?{query} HTTP/1.0\r\n\r\n").as_bytes()).await;
    for response in [kept, old] {
        assert!(response.contains(" 200 OK") && response.contains(&id), "{response}");
    }
}

#[tokio::test]
async fn requests_are_counted_and_no_log_or_metric_has_a_key() {
    let world = world("").await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    get(&world, &format!("{GET}?{}", keyed(&format!("id={id}")))).await;
    let post = reqwest::Client::new().post(url(&world, &format!("/v2/Custom.svc/Any?{}", keyed(""))));
    post.send().await.unwrap();
    let options = Options::default();
    let real = format!("accessKey={}&secretKey={}", options.access_key, options.secret_key);
    get(&world, &format!("{GET}?{real}")).await;
    let metrics = world.page("/metrics").await.1;
    for line in [
        "leadgate_rest_requests_total{tenant=\"acme\",caller=\"legacy\",endpoint=\"LeadManagement.svc/Leads.GetById\",status=\"200\"} 1",
        "leadgate_rest_requests_total{tenant=\"acme\",caller=\"legacy\",endpoint=\"other\",status=\"404\"} 1",
        "leadgate_rest_requests_total{tenant=\"unknown\",caller=\"other\",endpoint=\"LeadManagement.svc/Leads.GetById\",status=\"401\"} 1",
        "leadgate_auth_failures_total{reason=\"real_keys\"} 1",
        "leadgate_rest_duration_seconds_count{tenant=\"acme\",endpoint=\"LeadManagement.svc/Leads.GetById\"} 1",
        "leadgate_rest_queue_seconds_count{tenant=\"acme\"} 2",
        "leadgate_rest_writes_without_key_total{tenant=\"acme\"} 1",
        "leadgate_rest_real_keys_total{tenant=\"acme\"} 1",
    ] {
        assert!(metrics.lines().any(|seen| seen == line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains(ACCESS) && !metrics.contains(&options.access_key));
}

#[tokio::test]
async fn every_write_has_a_line_in_the_audit() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let audit = format!("[audit]\nfile = \"{}\"\n", file.path().display());
    let world = World::with(Options::default(), &format!("{audit}{}", settings("", ""))).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let client = reqwest::Client::new();
    let body = r#"[{"Attribute":"FirstName","Value":"Canary"}]"#;
    get(&world, &format!("{GET}?{}", keyed(&format!("id={id}")))).await;
    let update = format!("/v2/leadmanagement.svc/lead.update?{}", keyed(&format!("leadId={id}")));
    client.post(url(&world, &update)).body(body).send().await.unwrap();
    client
        .post(url(&world, &format!("/v2/Custom.svc/Any?{}", keyed(""))))
        .body(body)
        .send()
        .await
        .unwrap();
    let denied = format!("/v2/LeadManagement.svc/Lead.Update?accessKey={OTHER}&secretKey={SECRET}&leadId={id}");
    client.post(url(&world, &denied)).body(body).send().await.unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let facts = |line: &Json| {
        let text = |key: &str| line[key].as_str().unwrap_or("").to_owned();
        [
            text("caller"),
            text("method"),
            text("lead_id"),
            text("outcome"),
            line["fields"].to_string(),
        ]
    };
    let update = "REST:LeadManagement.svc/Lead.Update";
    let expected = [
        ["legacy", update, id.as_str(), "OK", "[]"],
        ["legacy", "REST:other", "", "OK", "[]"],
        ["other", update, "", "CALLER_NOT_ALLOWED", "[]"],
    ];
    assert_eq!(
        lines.iter().map(facts).collect::<Vec<_>>(),
        expected.map(|line| line.map(str::to_owned))
    );
    assert!(!text.contains("Canary") && !text.contains(SECRET));
}

#[tokio::test]
async fn only_pages_of_listed_origins_may_read_responses() {
    let world = world("cors_origins = [\"https://www.example.com\"]").await;
    let client = reqwest::Client::new();
    let path = format!("{GET}?{}", keyed("id=x"));
    let from = |origin: &str| client.get(url(&world, &path)).header("origin", origin);
    let listed = from("https://www.example.com").send().await.unwrap();
    let refused = client
        .get(url(&world, GET))
        .header("origin", "https://www.example.com")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            listed.headers().contains_key("x-leadgate-reason"),
            refused.status().as_u16()
        ),
        (false, 401)
    );
    for response in [listed, refused] {
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-origin"], "https://www.example.com");
        assert_eq!(headers["vary"], "Origin");
        assert_eq!(
            headers["access-control-expose-headers"],
            "retry-after, x-request-id, x-leadgate-reason"
        );
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }
    world.simulator.forget_calls();
    let other = from("https://other.example.com").send().await.unwrap();
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    error(other, 403, "MXUnAuthorizedAccessException", "CALLER_NOT_ALLOWED").await;
    let options = || {
        client
            .request(reqwest::Method::OPTIONS, url(&world, GET))
            .header("origin", "https://www.example.com")
    };
    let preflight = options()
        .header("access-control-request-method", "POST")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-methods"], "GET, POST");
    assert_eq!(preflight.headers()["access-control-max-age"], "600");
    assert_eq!(
        preflight.headers()["access-control-allow-headers"],
        "content-type, accept, cache-control, x-lsq-accesskey, x-lsq-secretkey, x-leadgate-max-wait"
    );
    assert_eq!(options().send().await.unwrap().status(), 405);
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn the_public_host_is_in_one_response_only() {
    let world = world("public_host = \"leadgate.example.com\"").await;
    let path = format!("/v2/Authentication.svc/UserByAccessKey.Get?{}", keyed(""));
    let text = get(&world, &path).await.text().await.unwrap();
    assert!(text.contains(r#""api":"https://leadgate.example.com""#), "{text}");
}

#[tokio::test]
async fn a_removed_pair_is_refused_after_a_reload() {
    let world = world("").await;
    let path = format!("{GET}?{}", keyed("id=x"));
    assert_ne!(get(&world, &path).await.status(), 401);
    world.write_settings(
        "[rest]\nlisten = \"127.0.0.1:0\"\n[callers.legacy]\ntenants = [\"acme\"]\nallow = [\"REST:*\"]\n",
    );
    let removed = async {
        while get(&world, &path).await.status() != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, removed).await.unwrap();
}

#[tokio::test]
async fn tls_is_that_of_the_server_without_client_certificates() {
    let files = TlsFiles::new();
    let world = World::with_tls(Options::default(), &settings("", ""), &files, None).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let root = reqwest::Certificate::from_pem(files.server_authority.pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .resolve("localhost", address(&world))
        .build()
        .unwrap();
    let url = format!(
        "https://localhost:{}{GET}?{}",
        address(&world).port(),
        keyed(&format!("id={id}"))
    );
    let response = client.get(url).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, http::Version::HTTP_11)
    );
    assert!(reqwest::get(self::url(&world, GET)).await.is_err());
}

#[tokio::test]
async fn a_certificate_of_the_listener_is_read_again() {
    let files = TlsFiles::new();
    let (cert, key) = (files.path("tls.crt"), files.path("tls.key"));
    let settings = settings(&format!("tls = {{ cert_file = {cert:?}, key_file = {key:?} }}"), "");
    let world = World::with(Options::default(), &settings).await;
    let is_trusted = async |authority: &Authority| {
        let root = reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .resolve("localhost", address(&world));
        let url = format!("https://localhost:{}{GET}", address(&world).port());
        client.build().unwrap().get(url).send().await.is_ok()
    };
    let new = Authority::new();
    assert!(is_trusted(&files.server_authority).await && !is_trusted(&new).await);
    files.write_server(&new.server());
    world.write_settings(&settings);
    let read_again = async {
        while !is_trusted(&new).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, read_again).await.unwrap();
    let metrics = world.page("/metrics").await.1;
    let expiry = "leadgate_certificate_expiry_timestamp_seconds{file=";
    assert!(
        metrics.contains(&format!("{expiry}\"rest\"}}")) && !metrics.contains(&format!("{expiry}\"server\"}}")),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_before_its_call_is_sent_costs_nothing() {
    let limits = "[tenants.acme.limits]\ncalls = 2\nwindow = \"3s\"\n";
    let settings = format!("{limits}{}", settings("max_wait = \"10s\"", ""));
    let world = World::with(Options::default(), &settings).await.warm().await;
    let path = format!("{GET}?{}", keyed("id=x"));
    get(&world, &path).await;
    let mut gone = TcpStream::connect(address(&world)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    gone.write_all(request.as_bytes()).await.unwrap();
    let waiting = |count: u32| format!("leadgate_quota_waiting{{tenant=\"acme\",class=\"sheddable-plus\"}} {count}");
    world.until(&waiting(1)).await;
    drop(gone);
    world.until(&waiting(0)).await;
    get(&world, &path).await;
    assert_eq!(world.calls("Leads.GetById").len(), 2);
    let endpoint = "endpoint=\"LeadManagement.svc/Leads.GetById\",status=\"499\"";
    world
        .until(&format!(
            "leadgate_rest_requests_total{{tenant=\"acme\",caller=\"legacy\",{endpoint}}} 1"
        ))
        .await;
}

#[tokio::test]
async fn a_client_that_sends_a_body_sees_an_early_error() {
    let max = 16 * 1024 * 1024;
    let world = world(&format!("max_body_bytes = {max}")).await;
    for (query, length, status) in [("", max, "401"), (&*keyed(""), 2 * max, "413")] {
        let mut stream = TcpStream::connect(address(&world)).await.unwrap();
        let head = format!(
            "POST /v2/LeadManagement.svc/Lead.Create?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Larger than the buffers of the sockets.
        stream.write_all(&vec![b' '; max]).await.unwrap();
        let mut response = vec![];
        let reading = tokio::time::timeout(LIMIT, stream.read_to_end(&mut response)).await;
        let response = String::from_utf8_lossy(&response);
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}")) && reading.is_ok(),
            "{response}"
        );
    }
    // A client that waits for the response before it sends its body gets it at once.
    let mut stream = TcpStream::connect(address(&world)).await.unwrap();
    let head = "POST /v2/LeadManagement.svc/Lead.Create HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 401"), "{response}");
}

#[tokio::test]
async fn a_caller_above_its_limit_of_requests_is_refused() {
    let limits = "[server]\nmax_streams_per_caller = 1\n";
    let world = World::with(Options::default(), &format!("{limits}{}", settings("", "")))
        .await
        .warm()
        .await;
    let delay = FaultKind::Delay {
        by: Duration::from_millis(700),
    };
    world.fail_next("Leads.GetById", delay);
    let path = format!("{GET}?{}", keyed("id=x"));
    let first = get(&world, &path);
    let second = async {
        world
            .until("leadgate_upstream_requests_in_progress{tenant=\"acme\"} 1")
            .await;
        get(&world, &path).await
    };
    let (first, second) = tokio::join!(first, second);
    assert!(!first.headers().contains_key("x-leadgate-reason"));
    error(second, 429, "MXAPIRateLimitExceededException", "QUEUE_FULL").await;
}
