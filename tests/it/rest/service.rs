//! How the listener serves requests beside others: priorities, limits, pauses, the shutdown, and what is not sent again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadgate_simulator::{Fault, FaultKind, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listener::{ACCESS, GET, LIMIT, SECRET, address, error, get, keyed, settings, url, world};
use crate::harness::{World, listen, tenant};
use crate::steering::{SETTING, steer};
use crate::traces::{Collector, attribute, only};

const REFUSED: &str = "MXAPIRateLimitExceededException";
const UPDATE: &str = r#"[{"Attribute":"FirstName","Value":"Bea"}]"#;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";

/// A LeadSquared with given responses to the calls of one path: the last one is repeated. Other paths get `OK`.
struct Upstream {
    address: SocketAddr,
    /// The number of calls of the path.
    calls: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Upstream {
    async fn start(path: &str, responses: Vec<String>) -> Self {
        let listener = listen().await;
        let (address, calls) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (counted, path) = (calls.clone(), path.to_owned());
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 65_536];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let is_meant = String::from_utf8_lossy(&head[..length]).contains(&path);
                let response = match is_meant {
                    false => OK,
                    true => {
                        let call = counted.fetch_add(1, Ordering::Relaxed);
                        &responses[call.min(responses.len() - 1)]
                    }
                };
                // Each response ends its connection.
                let _ = stream.write_all(response.as_bytes()).await;
            }
        });
        Self {
            address,
            calls,
            _task: task,
        }
    }

    /// A gateway of which it is the only account of the caller.
    async fn world(&self, rest: &str) -> World {
        let account = tenant("raw", self.address, &Options::default());
        let settings = settings(rest, "").replace("tenants = [\"acme\"]", "tenants = [\"raw\"]");
        World::with(Options::default(), &format!("{account}{settings}")).await
    }
}

async fn with(settings: &str) -> World {
    World::with(Options::default(), settings).await.warm().await
}

async fn post(world: &World, path: &str, query: &str, body: &str) -> reqwest::Response {
    let request = reqwest::Client::new().post(url(world, &format!("{path}?{}", keyed(query))));
    request.body(body.to_owned()).send().await.unwrap()
}

async fn read(world: &World) -> reqwest::Response {
    get(world, &format!("{GET}?{}", keyed("id=x"))).await
}

fn waiting(class: &str, count: u32) -> String {
    format!("leadgate_quota_waiting{{tenant=\"acme\",class=\"{class}\"}} {count}")
}

#[tokio::test]
async fn a_refused_call_is_sent_again_unless_it_is_an_email_or_a_phone_call() {
    let refusal = format!(
        "{{\"Status\":\"Error\",\"ExceptionType\":\"{REFUSED}\",\"ExceptionMessage\":\"API calls exceeded the limit of 25 in 5 second(s)\"}}"
    );
    let refusal = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-length: {}\r\n\r\n{refusal}",
        refusal.len()
    );
    for (service, expected, calls) in [("EmailMarketing", 429, 1), ("Telephony", 429, 1), ("Webhook", 200, 2)] {
        let path = format!("/v2/{service}.svc/Any");
        let upstream = Upstream::start(&path, vec![refusal.clone(), OK.to_owned()]).await;
        let world = upstream.world("max_wait = \"30s\"").await;
        let response = post(&world, &path, "", "{}").await;
        assert!(!response.headers().contains_key("x-leadgate-reason"));
        assert_eq!(
            (response.status().as_u16(), upstream.calls.load(Ordering::Relaxed)),
            (expected, calls),
            "{service}"
        );
        assert_eq!(response.text().await.unwrap().contains(REFUSED), expected == 429);
    }
}

#[tokio::test]
async fn a_refusal_names_the_limit_that_refused() {
    let bulk = "/v2/LeadManagement.svc/Lead/Bulk/CreateOrUpdate";
    let create = "/v2/LeadManagement.svc/Lead.Create";
    for (limits, caller, path, reason, text) in [
        (
            "bulk = 1\nwindow = \"20s\"",
            "",
            bulk,
            "DEADLINE_INFEASIBLE",
            "API calls exceeded the limit of 1 in 20 second(s)",
        ),
        (
            "calls = 10\nwindow = \"15s\"",
            "calls_per_window = 2",
            create,
            "CALLER_LIMIT",
            "API calls exceeded the limit of 2 in 15 second(s)",
        ),
        (
            "daily = 3",
            "",
            create,
            "DAILY_BUDGET_EXHAUSTED",
            "API calls exceeded the limit of 3 in 86400 second(s)",
        ),
    ] {
        let settings = settings("max_wait = \"0s\"", caller);
        let world = World::with(
            Options::default(),
            &format!("[tenants.acme.limits]\n{limits}\n{settings}"),
        )
        .await;
        let mut refused = None;
        for _ in 0..4 {
            let response = post(&world, path, "", "[]").await;
            if response.headers().contains_key("x-leadgate-reason") {
                refused = Some(response);
                break;
            }
        }
        let refused = refused.unwrap_or_else(|| panic!("{limits}: no refusal"));
        assert_eq!(error(refused, 429, REFUSED, reason).await, text);
    }
}

#[tokio::test]
async fn a_request_has_the_priority_and_the_wait_of_its_caller_and_its_headers_can_lower_them() {
    let limits = "[tenants.acme.limits]\ncalls = 1\nwindow = \"6s\"\n";
    let caller = "rest_criticality = \"critical\"\nrest_max_wait = \"10s\"\nmax_criticality = \"critical\"";
    let world = with(&format!("{limits}{}", settings("max_wait = \"0s\"", caller))).await;
    let client = reqwest::Client::new();
    let wait = |headers: &[(&str, &str)]| {
        let mut request = client.get(url(&world, &format!("{GET}?{}", keyed("id=x"))));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        tokio::spawn(request.send())
    };
    read(&world).await;
    for (headers, class) in [
        (vec![], "critical"),
        (vec![("x-leadgate-criticality", "sheddable")], "sheddable"),
        (vec![("x-leadgate-criticality", "critical-plus")], "critical"),
    ] {
        let request = wait(&headers);
        world.until(&waiting(class, 1)).await;
        request.abort();
        world.until(&waiting(class, 0)).await;
    }
    // A header cannot raise the wait above that of the caller: the second one would have to wait for more than a window.
    let long = wait(&[("x-leadgate-max-wait", "1h")]);
    world.until(&waiting("critical", 1)).await;
    let longer = wait(&[("x-leadgate-max-wait", "1h")]).await.unwrap().unwrap();
    error(longer, 429, REFUSED, "DEADLINE_INFEASIBLE").await;
    long.abort();
}

#[tokio::test]
async fn the_header_with_a_tenant_wins_over_the_tenant_of_the_keys() {
    // Nothing serves it.
    let closed = crate::harness::closed_address();
    let other = tenant("other", closed, &Options::default());
    let other = format!("{other}[tenant_defaults.upstream]\nmax_attempts = 1\n");
    let listener = settings("", "").replacen(
        "tenants = [\"acme\"]\nallow = [\"REST:*\"]",
        "tenants = [\"acme\", \"other\"]\nallow = [\"REST:*\"]",
        1,
    );
    let of_acme = listener.replacen("secret_key = ", "tenant = \"acme\", secret_key = ", 1);
    for (settings, header, expected) in [
        (&listener, None, "unknown"),
        (&of_acme, None, "acme"),
        (&of_acme, Some("other"), "other"),
    ] {
        let world = World::with(Options::default(), &format!("{other}{settings}")).await;
        let request = reqwest::Client::new().get(url(&world, &format!("{GET}?{}", keyed("id=x"))));
        let request = match header {
            Some(tenant) => request.header("x-leadgate-tenant", tenant),
            None => request,
        };
        request.send().await.unwrap();
        let line = format!("leadgate_rest_requests_total{{tenant=\"{expected}\",caller=\"legacy\"");
        let metrics = world.page("/metrics").await.1;
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn all_requests_together_have_limits() {
    let world = with(&format!("[server]\nmax_in_flight = 1\n{}", settings("", ""))).await;
    let by = Duration::from_millis(700);
    world.fail_next("Leads.GetById", FaultKind::Delay { by });
    let second = async {
        world
            .until("leadgate_upstream_requests_in_progress{tenant=\"acme\"} 1")
            .await;
        read(&world).await
    };
    let (first, second) = tokio::join!(read(&world), second);
    assert!(!first.headers().contains_key("x-leadgate-reason"));
    error(second, 429, REFUSED, "QUEUE_FULL").await;

    let limits = "[server]\nmax_connections_per_address = 2\n";
    let world = with(&format!("{limits}{}", settings("", ""))).await;
    // The client of RPCs has one.
    let first = TcpStream::connect(address(&world)).await.unwrap();
    let mut second = TcpStream::connect(address(&world)).await.unwrap();
    let closed = tokio::time::timeout(LIMIT, second.read(&mut [0])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    drop(first);
    world
        .until("leadgate_connections_refused_total{limit=\"server.max_connections_per_address\"} 1")
        .await;
}

#[tokio::test]
async fn incomplete_bodies_above_their_common_limit_are_dropped() {
    let limits = "[server]\nmax_request_bytes = 65536\nmax_unfinished_bytes = 65536\n";
    let world = with(&format!("{limits}{}", settings("", ""))).await;
    let mut stream = TcpStream::connect(address(&world)).await.unwrap();
    let head = format!(
        "POST /v2/LeadManagement.svc/Lead.Create?{} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
        keyed("")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b' '; 100_000]).await.unwrap();
    let mut response = vec![];
    let reading = tokio::time::timeout(LIMIT, stream.read_to_end(&mut response)).await;
    let _ = reading.expect("the connection is closed");
    let response = String::from_utf8_lossy(&response);
    assert!(
        response.starts_with("HTTP/1.1 429") && response.contains("x-leadgate-reason: QUEUE_FULL"),
        "{response}"
    );
}

#[tokio::test]
async fn a_paused_tenant_is_503_until_it_is_resumed() {
    let world = with(&format!("{SETTING}{}", settings("", ""))).await;
    steer(world.admin, "POST", "tenants/acme/pause", "").await;
    world.simulator.forget_calls();
    let response = read(&world).await;
    assert_eq!(response.headers()["retry-after"], "10");
    error(response, 503, "LeadgateUnavailableException", "TENANT_PAUSED").await;
    assert!(world.simulator.calls().is_empty());
    steer(world.admin, "POST", "tenants/acme/resume", "").await;
    assert!(!read(&world).await.headers().contains_key("x-leadgate-reason"));
}

#[tokio::test]
async fn a_write_whose_audit_line_cannot_be_written_is_503() {
    let audit = "[audit]\nfile = \"/dev/full\"\nrequired = true\n";
    let world = with(&format!("{audit}{}", settings("", ""))).await;
    world.simulator.forget_calls();
    let response = post(&world, "/v2/LeadManagement.svc/Lead.Create", "", UPDATE).await;
    error(response, 503, "LeadgateUnavailableException", "AUDIT_UNAVAILABLE").await;
    assert!(world.simulator.calls().is_empty());
    assert!(!read(&world).await.headers().contains_key("x-leadgate-reason"));
}

#[tokio::test]
async fn a_request_that_was_sent_is_finished_by_the_shutdown() {
    let world = world("").await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let by = Duration::from_millis(700);
    world.fail_next("Lead.Update", FaultKind::Delay { by });
    let query = format!("leadId={id}");
    let write = post(&world, "/v2/LeadManagement.svc/Lead.Update", &query, UPDATE);
    let stop = async {
        world
            .until("leadgate_upstream_requests_in_progress{tenant=\"acme\"} 1")
            .await;
        world.tell_to_stop();
    };
    let (written, ()) = tokio::join!(write, stop);
    assert_eq!(written.status(), 200);
    assert!(TcpStream::connect(address(&world)).await.is_err());
    let id = world.value_of(&id, "FirstName");
    world.stop().await;
    assert_eq!(id.as_deref(), Some("Bea"));
}

#[tokio::test]
async fn a_request_is_finished_by_the_shutdown_also_without_rpcs() {
    // No client of RPCs has a connection.
    let world = World::with(Options::default(), &settings("", "")).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let by = Duration::from_millis(700);
    world.fail_next("Leads.GetById", FaultKind::Delay { by });
    let path = format!("{GET}?{}", keyed(&format!("id={id}")));
    let stop = async {
        while world.calls("Leads.GetById").is_empty() {
            tokio::task::yield_now().await;
        }
        world.tell_to_stop();
    };
    let (response, ()) = tokio::join!(get(&world, &path), stop);
    assert_eq!(response.status(), 200);
    assert!(response.text().await.unwrap().contains(&id));
    world.stop().await;
}

#[tokio::test]
async fn a_request_is_in_progress_until_its_response_is_read() {
    let world = with(&format!("[server]\nmax_streams_per_caller = 1\n{}", settings("", ""))).await;
    let fault = FaultKind::Respond {
        status: 200,
        body: "x".repeat(32 * 1024 * 1024),
        content_type: None,
        commit: false,
    };
    world.fail_next("Leads.GetById", fault);
    let mut slow = TcpStream::connect(address(&world)).await.unwrap();
    let request = format!(
        "GET {GET}?{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        keyed("id=x")
    );
    slow.write_all(request.as_bytes()).await.unwrap();
    // The response has begun.
    slow.read_exact(&mut [0]).await.unwrap();
    error(read(&world).await, 429, REFUSED, "QUEUE_FULL").await;
    let mut response = vec![];
    slow.read_to_end(&mut response).await.unwrap();
    assert!(response.len() > 32 * 1024 * 1024);
    let free = async {
        while read(&world).await.status() == 429 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, free).await.unwrap();
}

#[tokio::test]
async fn only_get_and_post_can_be_reads() {
    let path = "/v2/LeadManagement.svc/Leads.Get";
    for (method, status, calls) in [("DELETE", 409, 1), ("GET", 200, 2)] {
        let upstream = Upstream::start(path, vec![String::new(), OK.to_owned()]).await;
        let world = upstream.world("").await;
        let request =
            reqwest::Client::new().request(method.parse().unwrap(), url(&world, &format!("{path}?{}", keyed(""))));
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), upstream.calls.load(Ordering::Relaxed)),
            (status, calls),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_response_in_an_unknown_encoding_is_502() {
    for encoding in ["deflate", "br", "gzip, gzip"] {
        let response = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: 2\r\n\r\n[]");
        let upstream = Upstream::start(GET, vec![response]).await;
        let world = upstream.world("").await;
        error(
            read(&world).await,
            502,
            "LeadgateUpstreamException",
            "UPSTREAM_UNREADABLE",
        )
        .await;
    }
}

#[tokio::test]
async fn a_request_has_a_span_without_its_query() {
    let collector = Collector::http().await;
    let world = with(&format!("{}{}", collector.settings(), settings("", ""))).await;
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::Empty500).times(1))
        .unwrap();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0b1902b7-01";
    for keys in [keyed("id=personal"), "accessKey=unknown&secretKey=unknown".to_owned()] {
        let request = reqwest::Client::new().get(url(&world, &format!("{GET}?{keys}")));
        request.header("traceparent", parent).send().await.unwrap();
    }
    get(&world, "/personal/path").await;
    world.stop().await;
    let spans = collector.spans();
    let name = "GET /v2/LeadManagement.svc/Leads.GetById";
    let of_rest: Vec<_> = spans
        .iter()
        .filter(|span| span.name == name && !attribute(span, "http.route").is_empty())
        .collect();
    assert_eq!(of_rest.len(), 2, "{spans:?}");
    for (span, status, caller, reason) in [
        (of_rest[0], "500", "legacy", ""),
        (of_rest[1], "401", "", "CALLER_UNKNOWN"),
    ] {
        for (name, value) in [
            ("http.request.method", "GET"),
            ("http.response.status_code", status),
            ("leadgate.caller", caller),
            ("leadgate.reason", reason),
        ] {
            assert_eq!(attribute(span, name), value, "{name}");
        }
    }
    let attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.parent_span_id == of_rest[0].span_id)
        .collect();
    let attempt = "GET LeadManagement.svc/Leads.GetById";
    assert!(attempts.iter().any(|span| span.name == attempt), "{attempts:?}");
    assert_eq!(attribute(&only(&spans, "GET"), "http.response.status_code"), "404");
    let exported = format!("{spans:?}");
    for secret in ["personal", ACCESS, SECRET] {
        assert!(!exported.contains(secret), "{secret} in {exported}");
    }
}

#[tokio::test]
async fn a_response_that_is_cut_off_is_502() {
    let create = "/v2/LeadManagement.svc/Lead.Create";
    for path in [GET, create] {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[";
        let upstream = Upstream::start(path, vec![cut.to_owned()]).await;
        let world = upstream.world("").await;
        let response = match path {
            GET => read(&world).await,
            _ => post(&world, path, "", UPDATE).await,
        };
        error(response, 502, "LeadgateUpstreamException", "UPSTREAM_UNREADABLE").await;
    }
}

#[tokio::test]
async fn each_attempt_counts_for_the_day() {
    let limits = "[tenants.acme.limits]\ndaily = 10\n[tenant_defaults.upstream]\nmax_attempts = 2\n";
    let mut served = vec![];
    for lost in [0, 1] {
        let world = with(&format!("{limits}{}", settings("", ""))).await;
        let fault = Fault::new("Leads.GetById", FaultKind::DropBefore).times(lost);
        world.simulator.add_fault(fault).unwrap();
        let refused = loop {
            let response = read(&world).await;
            if response.headers().contains_key("x-leadgate-reason") {
                break response;
            }
        };
        error(refused, 429, REFUSED, "DAILY_BUDGET_EXHAUSTED").await;
        served.push(world.calls("Leads.GetById").len());
    }
    assert_eq!(served[0], served[1]);
}
