//! Requests of the REST listener of a replica that does not own the account.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leadgate::grpc::pb;
use leadgate::tenant::TenantRoute;
use leadgate_simulator::{Fault, FaultKind, Latency, Options};
use pb::rest_service_client::RestServiceClient;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::listener::{ACCESS, GET, OTHER, SECRET, error, keyed, settings};
use crate::forwarding::{Cluster, Plan, Proxy, Replica};
use crate::harness::{listen, seen, within};

const LIMIT: Duration = Duration::from_secs(30);
const UPDATE: &str = "/v2/LeadManagement.svc/Lead.Update";

async fn cluster(count: usize, rest: &str, more: &str) -> Cluster {
    let settings = format!("{more}\n{}", settings(rest, ""));
    let plan = Plan {
        settings: [(); 3].map(|()| settings.clone()),
        ..Plan::default()
    };
    Cluster::with(count, plan).await
}

fn url(replica: &Replica, path_and_query: &str) -> String {
    format!("http://{}{path_and_query}", replica.rest.unwrap())
}

async fn get(replica: &Replica, query: &str) -> reqwest::Response {
    let url = url(replica, &format!("{GET}?{}", keyed(query)));
    reqwest::get(url).await.unwrap()
}

async fn update(replica: &Replica, id: &str, city: &str) -> reqwest::Response {
    let url = url(replica, &format!("{UPDATE}?{}", keyed(&format!("leadId={id}"))));
    let body = format!(r#"[{{"Attribute":"mx_City","Value":"{city}"}}]"#);
    reqwest::Client::new().post(url).body(body).send().await.unwrap()
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut response = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut response)).await;
    read.unwrap().unwrap();
    response
}

/// The response to raw bytes, without what differs between two equal requests.
async fn raw(address: SocketAddr, request: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let response = read_to_end(&mut stream).await;
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    // One character for each byte.
    let head: String = response[..end].iter().copied().map(char::from).collect();
    let lines = head.split("\r\n").map(str::to_owned);
    let mut lines: Vec<String> = lines
        .filter(|line| !line.starts_with("date:") && !line.starts_with("x-request-id:"))
        .collect();
    lines[1..].sort();
    (lines, response[end + 4..].to_vec())
}

/// A server that keeps the bytes of each request, and responds with those of its script, one after the other.
struct Script {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Script {
    async fn start(response: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener: TcpListener = listen().await;
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (seen, response) = (requests.clone(), Arc::new(response));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, response) = (seen.clone(), response.clone());
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    let _ = stream.write_all(&response(&request)).await;
                    // leadgate itself reads the metadata.
                    if !request.starts_with(b"GET /v2/LeadManagement.svc/") {
                        seen.lock().unwrap().push(request);
                    }
                });
            }
        });
        Self { address, requests }
    }
}

async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap_or_default();
        request.extend_from_slice(&part[..count]);
        let head = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, _)) = head.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1);
            let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
            if request.len() >= end + 4 + length {
                return request;
            }
        }
        if count == 0 {
            return request;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_response_keep_their_bytes() {
    let refusal = r#"{"Status":"Error","ExceptionType":"MXThrottleException","ExceptionMessage":"API calls exceeded the limit of 100 in 1 second(s)"}"#;
    let script = Script::start(move |request| {
        let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let is = |name: &str| path.windows(name.len()).any(|part| part == name.as_bytes());
        let (status, headers, body): (_, &[u8], Vec<u8>) = if is("/Mark") {
            let headers = b"Content-Type: text/csv; x=\xe9\r\nContent-Disposition: attachment; filename=\"\xff.csv\"\r\nSet-Cookie: a=b\r\n";
            ("200 OK", headers, b"\xef\xbb\xbfa;\xff\r\n".to_vec())
        } else if is("/Allow") {
            ("405 No", b"Allow: GET,  POST\r\nLocation: /x\r\n", vec![])
        } else if is("/Keys") {
            let body = br#"{"Status":"Error","ExceptionType":"MXInvalidAccessDetailsException"}"#;
            ("401 No", b"Content-Type: application/json\r\n", body.to_vec())
        } else if is("/Refused") {
            ("429 No", b"Content-Type: application/json\r\n", refusal.as_bytes().to_vec())
        } else {
            ("404 No", b"Content-Type: \r\n", b"\0".to_vec())
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
        [head.as_bytes(), headers, b"\r\n", &body].concat()
    })
    .await;
    let plan = Plan {
        upstream: Some(script.address),
        settings: [(); 3].map(|()| {
            let limits = "[tenant_defaults.limits]\ncalls = 100\nwindow = \"200ms\"\n";
            format!("{limits}{}", settings("", ""))
        }),
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let query = keyed("b=%20+&a=1&a=2&&c='|{}`^\u{e9}&d=%zz&%61ccessKey=x&=&&");
    for request in [
        format!("GET /v2/Custom.svc/Mark/?{query} HTTP/1.1\r\nAccept: text/*;q=0.5, */*\r\nX-Other: 1\r\n")
            .into_bytes(),
        [
            format!("POST //CUSTOM.svc//Allow?{query} HTTP/1.1\r\nContent-Length: 5\r\nContent-Type: text/").as_bytes(),
            b"\xff;  a=b\r\n\r\na\xff\0\r\n",
        ]
        .concat(),
        format!("DELETE /v2/Custom.svc/x?{query} HTTP/1.1\r\n").into_bytes(),
        format!("POST /v2/EmailMarketing.svc/Refused?{query} HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]").into_bytes(),
        format!("GET /v2/Custom.svc/Mark?accessKey={ACCESS}&secretKey={SECRET} HTTP/1.1\r\n").into_bytes(),
        format!("PUT /v2/Custom.svc/Keys?{query} HTTP/1.1\r\nContent-Length: 0\r\n").into_bytes(),
    ] {
        script.requests.lock().unwrap().clear();
        let line = request.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let has_body = request.windows(4).any(|bytes| bytes == b"\r\n\r\n");
        let end: &[u8] = if has_body { b"" } else { b"\r\n" };
        let request = [
            &request[..line],
            b"Host: a\r\nConnection: close\r\n",
            &request[line..],
            end,
        ]
        .concat();
        let (first, owner) = (&cluster.replicas[0], &cluster.replicas[1]);
        let direct = raw(owner.rest.unwrap(), &request).await;
        let forwarded = raw(first.rest.unwrap(), &request).await;
        assert_eq!(forwarded, direct, "{}", String::from_utf8_lossy(&request));
        assert!(
            !direct.0.iter().any(|line| line.starts_with("x-leadgate")),
            "{direct:?}"
        );
        let seen = script.requests.lock().unwrap().clone();
        assert_eq!(
            seen.len(),
            2,
            "{:?}",
            seen.iter()
                .map(|seen| String::from_utf8_lossy(seen))
                .collect::<Vec<_>>()
        );
        assert_eq!(seen[0], seen[1], "{}", String::from_utf8_lossy(&seen[1]));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_those_of_the_owner() {
    let limits =
        "[tenant_defaults.limits]\ncalls = 7\nwindow = \"20s\"\n[tenant_defaults.upstream]\nmax_attempts = 1\n";
    let cluster = cluster(2, "max_wait = \"0s\"", limits).await;
    let (first, owner) = (cluster.first(), &cluster.replicas[1]);
    let fault = |endpoint: &str, kind| cluster.simulator.add_fault(Fault::new(endpoint, kind)).unwrap();
    for replica in [owner, first] {
        let redirect = FaultKind::Respond {
            status: 302,
            body: String::new(),
            content_type: None,
            commit: false,
        };
        fault("Leads.GetById", redirect);
        let response = get(replica, "id=x").await;
        error(response, 502, "LeadgateUpstreamException", "UPSTREAM_UNREADABLE").await;
        fault("Leads.GetById", FaultKind::DropBefore);
        let response = get(replica, "id=x").await;
        assert_eq!(response.headers()["retry-after"], "1");
        error(response, 503, "LeadgateUnavailableException", "UPSTREAM_UNAVAILABLE").await;
        fault("Lead.Update", FaultKind::CommitThenDrop);
        let response = update(replica, "x", "Pune").await;
        error(response, 409, "LeadgateOutcomeUnknownException", "OUTCOME_UNKNOWN").await;
    }
    // The owner has one free slot. The other replica knows no limit.
    get(first, "id=x").await;
    for replica in [owner, first] {
        let response = get(replica, "id=x").await;
        let after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((2..=60).contains(&after), "{after}");
        let text = error(response, 429, "MXAPIRateLimitExceededException", "DEADLINE_INFEASIBLE").await;
        assert_eq!(text, "API calls exceeded the limit of 7 in 20 second(s)");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_and_responses_are_forwarded() {
    let limits = "[server]\nmax_response_bytes = 20000000\n";
    let cluster = cluster(2, "", limits).await;
    let first = cluster.first();
    let fault = || {
        let body = format!("\"{}\"", "r".repeat(10 << 20));
        let respond = FaultKind::Respond {
            status: 200,
            body: body.clone(),
            content_type: None,
            commit: false,
        };
        cluster.simulator.add_fault(Fault::new("Lead.Create", respond)).unwrap();
        body
    };
    let path = format!("/v2/LeadManagement.svc/Lead.Create?{}", keyed(""));
    let body = "b".repeat(2 << 20);
    let create = |body: String| reqwest::Client::new().post(url(first, &path)).body(body).send();
    let expected = fault();
    let response = create(body.clone()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.text().await.unwrap() == expected);
    let long = create(format!("{body}b")).await.unwrap();
    error(long, 413, "MXInvalidInputException", "INVALID_FIELD").await;

    let expected = fault();
    let mut client = RestServiceClient::new(first.channel.clone()).max_decoding_message_size(usize::MAX);
    let message = pb::CallRequest {
        method: "POST".to_owned(),
        path: "LeadManagement.svc/Lead.Create".to_owned(),
        body: body.clone().into_bytes(),
        ..Default::default()
    };
    let response = client.call(within(LIMIT, message)).await.unwrap().into_inner();
    assert!(response.body == expected.as_bytes());
    let calls = cluster.simulator.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.body == body));
    // Its errors are those of the owner.
    let message = pb::CallRequest {
        method: "PATCH".to_owned(),
        ..Default::default()
    };
    let refused = seen(client.call(within(LIMIT, message)).await.unwrap_err());
    assert_eq!(refused.fields(), ["method", "path"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_goes_on_after_the_owner_is_lost_and_a_write_is_uncertain() {
    let cluster = cluster(3, "", "").await;
    let (first, next) = (cluster.first(), &cluster.replicas[2]);
    let id = cluster.simulator.insert_lead(&[("FirstName", "Ann")]);
    let by = Duration::from_millis(400);
    for (endpoint, status, calls) in [("Leads.GetById", 200, 2), ("Lead.Update", 409, 1)] {
        cluster.own(1, 1);
        let proxy = Proxy::start(&cluster.replicas[1].peer_address).await;
        first.set_owner(&proxy.address, 1);
        let delay = Fault::new(endpoint, FaultKind::Delay { by });
        cluster.simulator.add_fault(delay).unwrap();
        let request = async {
            match endpoint {
                "Lead.Update" => update(first, &id, "Pune").await,
                _ => get(first, &format!("id={id}")).await,
            }
        };
        let lose = async {
            cluster
                .until("the call is sent", |cluster| cluster.calls(endpoint) == 1)
                .await;
            next.tenant.set_route(TenantRoute::Here(next.gateway.clone()));
            proxy.cut();
            first.set_owner(&next.peer_address, 2);
        };
        let (response, ()) = tokio::join!(request, lose);
        assert_eq!(response.status().as_u16(), status);
        if status == 409 {
            error(response, 409, "LeadgateOutcomeUnknownException", "OUTCOME_UNKNOWN").await;
        }
        assert_eq!(cluster.calls(endpoint), calls, "{endpoint}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_not_sent_go_on_at_the_next_owner() {
    let cluster = cluster(3, "max_wait = \"20s\"", "").await;
    let (first, former, next) = (&cluster.replicas[0], &cluster.replicas[1], &cluster.replicas[2]);
    let id = cluster.simulator.insert_lead(&[("FirstName", "Ann")]);
    // The former owner names the next one.
    cluster.own(1, 1);
    former.set_owner(&next.peer_address, 2);
    next.tenant.set_route(TenantRoute::Here(next.gateway.clone()));
    assert_eq!(update(first, &id, "Pune").await.status(), 200);
    assert_eq!(cluster.calls("Lead.Update"), 1);

    // The tenant moves while writes wait for the quota of the former owner, also those of its own listener.
    cluster.own(1, 3);
    cluster.simulator.set_options(|options| {
        options.latency = Latency {
            min: Duration::from_millis(300),
            max: Duration::from_millis(300),
        };
    });
    let writes = async {
        let writes = (0..40).map(|number: usize| {
            let replica = if number.is_multiple_of(4) { former } else { first };
            let (id, city) = (&id, format!("c{number}"));
            async move { update(replica, id, &city).await.status().as_u16() }
        });
        futures_of(writes.collect()).await
    };
    let moves = async {
        cluster
            .until("writes are sent", |cluster| cluster.calls("Lead.Update") > 1)
            .await;
        former.gateway.stopped().cancel();
        former.tenant.set_route(TenantRoute::Unknown);
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.own(2, 4);
    };
    let (statuses, ()) = tokio::join!(writes, moves);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let mut cities: Vec<String> = cluster.simulator.calls().into_iter().map(|call| call.body).collect();
    assert_eq!(cities.len(), 41);
    cities.sort();
    cities.dedup();
    assert_eq!(cities.len(), 41);
    cluster.stop().await;
}

/// Runs all futures at once.
async fn futures_of<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *output = Some(value);
            }
        }
        match running.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_owner_fails_within_its_time() {
    let cluster = cluster(2, "max_wait = \"400ms\"", "").await;
    let first = cluster.first();
    let id = cluster.simulator.insert_lead(&[("FirstName", "Ann")]);
    let query = format!("id={id}");
    let other = &cluster.replicas[1];
    // A client that does not wait for a slot reaches the owner.
    let now = reqwest::Client::new()
        .get(url(first, &format!("{GET}?{}", keyed(&query))))
        .header("x-leadgate-max-wait", "0s");
    assert_eq!(now.send().await.unwrap().status(), 200);

    let fails = async |reason: &str| {
        let began = Instant::now();
        let response = get(first, &query).await;
        assert_eq!(response.headers()["retry-after"], "1");
        error(response, 503, "LeadgateUnavailableException", reason).await;
        began.elapsed()
    };
    first.tenant.set_route(TenantRoute::Unknown);
    let waited = fails("UPSTREAM_UNAVAILABLE").await;
    assert!((400..2_000).contains(&waited.as_millis()), "{waited:?}");
    first.events.is_store_unavailable.store(true, Ordering::Relaxed);
    fails("STORE_UNAVAILABLE").await;
    first.events.is_store_unavailable.store(false, Ordering::Relaxed);
    // Nothing listens there.
    let nobody = crate::harness::closed_address().to_string();
    first.set_owner(&nobody.into(), 5);
    fails("UPSTREAM_UNAVAILABLE").await;
    // The replicas name each other.
    first.set_owner(&other.peer_address, 7);
    other.set_owner(&first.peer_address, 7);
    assert!(fails("UPSTREAM_UNAVAILABLE").await < Duration::from_secs(2));
    assert_eq!(cluster.calls("Leads.GetById"), 1);
    cluster.own(1, 8);
    assert_eq!(get(first, &query).await.status(), 200);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_waits_costs_nothing_at_the_owner() {
    let limits = "[tenant_defaults.limits]\ncalls = 2\nwindow = \"3s\"\n";
    let cluster = cluster(2, "max_wait = \"20s\"", limits).await;
    let (first, owner) = (cluster.first(), &cluster.replicas[1]);
    while owner.gateway.quota().calls.free_in == Some(Duration::ZERO) {
        get(first, "id=x").await;
    }
    let before = cluster.simulator.calls().len();
    let waiting = |count: u32| format!("leadgate_quota_waiting{{tenant=\"acme\",class=\"sheddable-plus\"}} {count}");
    let until = async |line: String| {
        let waits = async {
            while !owner.metrics().await.lines().any(|seen| seen == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, waits)
            .await
            .unwrap_or_else(|_| panic!("{line}"));
    };
    for (target, length) in [
        (format!("GET {GET}"), ""),
        (format!("POST {UPDATE}"), "Content-Length: 0\r\n"),
    ] {
        let mut gone = TcpStream::connect(first.rest.unwrap()).await.unwrap();
        let request = format!("{target}?{} HTTP/1.1\r\nHost: a\r\n{length}\r\n", keyed("leadId=x"));
        gone.write_all(request.as_bytes()).await.unwrap();
        until(waiting(1)).await;
        drop(gone);
        until(waiting(0)).await;
    }
    get(first, "id=x").await;
    assert_eq!(cluster.simulator.calls().len(), before + 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_is_counted_once_and_has_one_line_in_the_audit() {
    let files = [(); 3].map(|()| tempfile::NamedTempFile::new().unwrap());
    let plan = Plan {
        settings: files.each_ref().map(|file| {
            let audit = format!("[audit]\nfile = \"{}\"\n", file.path().display());
            format!("{audit}{}", settings("", ""))
        }),
        options: Options::default(),
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let (first, owner) = (cluster.first(), &cluster.replicas[1]);
    let id = cluster.simulator.insert_lead(&[("FirstName", "Ann")]);
    let updated = update(first, &id, "Pune").await;
    let request_id = updated.headers()["x-request-id"].to_str().unwrap().to_owned();
    cluster
        .simulator
        .add_fault(Fault::new("Lead.Update", FaultKind::CommitThenDrop))
        .unwrap();
    assert_eq!(update(first, &id, "Delhi").await.status(), 409);
    assert_eq!(get(first, &format!("id={id}")).await.status(), 200);
    let denied = format!("{UPDATE}?accessKey={OTHER}&secretKey={SECRET}");
    let denied = reqwest::Client::new().post(url(first, &denied)).send();
    assert_eq!(denied.await.unwrap().status(), 403);

    let lines = |number: usize| -> Vec<[String; 3]> {
        let text = std::fs::read_to_string(files[number].path()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let facts =
            |line: Json| ["caller", "lead_id", "outcome"].map(|key| line[key].as_str().unwrap_or("").to_owned());
        lines.map(facts).collect()
    };
    let expected =
        |lines: &[[&str; 3]]| -> Vec<[String; 3]> { lines.iter().map(|line| line.map(str::to_owned)).collect() };
    assert_eq!(lines(0), expected(&[["other", "", "CALLER_NOT_ALLOWED"]]));
    assert_eq!(
        lines(1),
        expected(&[["legacy", &id, "OK"], ["legacy", &id, "OUTCOME_UNKNOWN"]])
    );
    let text = std::fs::read_to_string(files[1].path()).unwrap();
    assert!(text.lines().next().unwrap().contains(&request_id), "{text}");

    let metrics = first.metrics().await;
    let endpoint = "endpoint=\"LeadManagement.svc/Lead.Update\"";
    for line in [
        &format!("leadgate_rest_requests_total{{tenant=\"acme\",caller=\"legacy\",{endpoint},status=\"200\"}} 1"),
        &format!("leadgate_rest_requests_total{{tenant=\"acme\",caller=\"legacy\",{endpoint},status=\"409\"}} 1"),
        "leadgate_rest_queue_seconds_count{tenant=\"acme\"} 3",
        "leadgate_forwarded_rpcs_total{tenant=\"acme\",code=\"OK\"} 2",
        "leadgate_forwarded_rpcs_total{tenant=\"acme\",code=\"ABORTED\"} 1",
        "leadgate_forwarding_duration_seconds_count{tenant=\"acme\"} 3",
    ] {
        assert!(metrics.lines().any(|seen| seen == line), "{line}\n{metrics}");
    }
    let metrics = owner.metrics().await;
    assert!(!metrics.contains("leadgate_rest_requests_total{"), "{metrics}");
    assert!(!metrics.contains("leadgate_rest_queue_seconds_count{"), "{metrics}");
    cluster.stop().await;
}
