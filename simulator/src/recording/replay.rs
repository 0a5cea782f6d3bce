//! A recording from which calls are answered.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;

use super::{Header, Line, MAX_RECORDING, RecordedRequest, VERSION, is_key};
use crate::http::call::Call;
use crate::http::reply::Reply;
use crate::http::response::Response;

/// The status of the response to a request that the recording does not have. LeadSquared does not use it.
const UNMATCHED_STATUS: u16 = 501;
/// The exception of this response. leadgate does not send the request again, and passes the name of the exception on.
const UNMATCHED_EXCEPTION: &str = "MXNoRecordedResponseException";
/// Maximum number of characters of a query or a body in a report.
const MAX_SHOWN: usize = 300;

/// A recording from which calls are answered.
pub struct Replay {
    recorded: HashMap<RequestKey, Recorded>,
    unused: usize,
    unmatched: u64,
    report: Box<dyn Fn(&str) + Send + Sync>,
}

/// The responses to equal requests, in the order of the requests.
#[derive(Default)]
struct Recorded {
    replies: Vec<Option<Reply>>,
    /// Number of replies that were used.
    used: usize,
}

/// What equal requests have in common.
#[derive(PartialEq, Eq, Hash)]
struct RequestKey {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

impl RequestKey {
    fn new(request: RecordedRequest) -> Self {
        let mut query = request.query;
        query.retain(|(name, _)| !is_key(name));
        query.sort();
        // The order of the keys of an object and white space do not matter.
        let json = serde_json::from_slice::<Value>(&request.body).ok();
        let body = json.and_then(|mut json| {
            json.sort_all_objects();
            serde_json::to_vec(&json).ok()
        });
        Self {
            method: request.method,
            path: request.path,
            query,
            body: body.unwrap_or_else(|| request.body.into()),
        }
    }
}

impl Replay {
    /// Reads a recording. `report` gets a line for each request that the recording does not have.
    ///
    /// # Errors
    /// Returns an error that names the line if the recording is invalid. Also if it is larger than [`MAX_RECORDING`].
    pub fn read(recording: &[u8], report: impl Fn(&str) + Send + Sync + 'static) -> Result<Self, String> {
        if recording.len() > MAX_RECORDING {
            return Err(format!("larger than {} MiB", MAX_RECORDING >> 20));
        }
        let mut lines = (1..).zip(recording.split(|byte| *byte == b'\n'));
        let header = lines.next().and_then(|(_, line)| serde_json::from_slice(line).ok());
        match header {
            Some(Header {
                leadgate_recording: VERSION,
            }) => {}
            Some(_) => return Err(format!("line 1: the version of a recording must be {VERSION}")),
            None => {
                return Err(format!(
                    "line 1: no recording. It begins with {{\"leadgate_recording\":{VERSION}}}"
                ));
            }
        }
        let mut calls = Vec::new();
        for (number, line) in lines {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let invalid = |error: String| format!("line {number}: {error}");
            let line: Line = serde_json::from_slice(line).map_err(|error| invalid(error.to_string()))?;
            line.response.iter().try_for_each(Reply::validate).map_err(invalid)?;
            calls.push((line.call.unwrap_or(number), line));
        }
        // The sort is stable.
        calls.sort_by_key(|(position, _)| *position);
        let unused = calls.len();
        let mut recorded: HashMap<_, Recorded> = HashMap::new();
        for (_, Line { request, response, .. }) in calls {
            recorded
                .entry(RequestKey::new(request))
                .or_default()
                .replies
                .push(response);
        }
        Ok(Self {
            recorded,
            unused,
            unmatched: 0,
            report: Box::new(report),
        })
    }

    /// Returns the next response to this request: `Ok(None)` if the connection is to be closed. Returns an error response,
    /// and reports the request, if the recording does not have a further one.
    pub(crate) fn respond(&mut self, call: &Call) -> Result<Option<Reply>, Response> {
        let request = RecordedRequest::new(call);
        let recorded = self.recorded.get_mut(&RequestKey::new(request.clone()));
        let known = recorded.as_ref().map_or(0, |recorded| recorded.replies.len());
        if let Some(recorded) = recorded
            && let Some(reply) = recorded.replies.get(recorded.used)
        {
            recorded.used += 1;
            self.unused -= 1;
            return Ok(reply.clone());
        }
        self.unmatched += 1;
        let why = match known {
            0 => "the recording does not have this request".to_owned(),
            1 => "the recording has this request once, and it was received before".to_owned(),
            _ => format!("the recording has this request {known} times, and it was received as often before"),
        };
        let name = format!("{} {}", request.method, request.path);
        (self.report)(&format!("no recorded response to {name}{}: {why}", details(&request)));
        // Only the path: words of the query or of the body could make another error of this one.
        let message = format!("No recorded response to {name}. Standard error of the simulator has the details.");
        Err(Response::error(UNMATCHED_STATUS, UNMATCHED_EXCEPTION, &message))
    }

    /// Returns the number of requests that the recording did not have.
    pub(crate) fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// Returns the number of responses that were not used.
    pub(crate) fn unused(&self) -> usize {
        self.unused
    }
}

/// Returns the query without keys and the body, on one line.
fn details(request: &RecordedRequest) -> String {
    let mut text = String::new();
    let query = request.query.iter().filter(|(name, _)| !is_key(name));
    for (index, (name, value)) in query.enumerate() {
        let separator = if index == 0 { " with the query" } else { "," };
        let _ = write!(text, "{separator} {name:?}={:?}", shortened(value));
    }
    if !request.body.is_empty() {
        let body = String::from_utf8_lossy(&request.body);
        let _ = write!(text, " with the body {:?}", shortened(&body));
    }
    text
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, header};
    use serde_json::json;

    use super::*;
    use crate::test_support::{TestServer, attributes};
    use crate::{Fault, FaultKind, Options, Recording};

    const BY_EMAIL: &str = "Leads.GetByEmailaddress?emailaddress=ann@x.co";

    /// A server that answers from these lines, and what it reports.
    fn replay(recording: &str) -> (TestServer, Arc<Mutex<Vec<String>>>) {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = reports.clone();
        let report = move |line: &str| sink.lock().unwrap().push(line.to_owned());
        let server = TestServer::new(|options| options.limits.calls = 1);
        let replay = Replay::read(recording.as_bytes(), report).unwrap();
        server.simulator.replay(replay);
        (server, reports)
    }

    fn line(request: Value, response: Value) -> String {
        json!({"request": request, "response": response}).to_string()
    }

    fn recording(lines: &[String]) -> String {
        format!("{{\"leadgate_recording\":1}}\n{}\n", lines.join("\n"))
    }

    /// Records these calls to the server and returns the text of the file.
    async fn record(server: &TestServer, calls: impl AsyncFnOnce()) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        server.simulator.record(Recording::create(&path).unwrap());
        calls().await;
        std::fs::read_to_string(&path).unwrap()
    }

    #[tokio::test]
    async fn a_replay_sends_the_recorded_responses_in_their_order() {
        let server = TestServer::new(|options| {
            options.response_headers.insert("X-Region".into(), "in21".into());
        });
        let create = attributes(&[("FirstName", "Ann"), ("EmailAddress", "ann@x.co")]);
        let update = attributes(&[("FirstName", "Anna")]);
        let damaged = FaultKind::BreakRecord {
            at: 0,
            how: crate::Damage::InvalidUtf8,
        };
        let mut first = Vec::new();
        let text = record(&server, async || {
            first.push(raw(&server, BY_EMAIL, None).await);
            first.push(raw(&server, "Lead.Create", Some(&create)).await);
            first.push(raw(&server, BY_EMAIL, None).await);
            server
                .simulator
                .add_fault(Fault::new("*", FaultKind::DropBefore))
                .unwrap();
            assert_eq!(raw(&server, "Lead.Create", Some(&update)).await.0, 502);
            server.simulator.add_fault(Fault::new("*", damaged)).unwrap();
            first.push(raw(&server, BY_EMAIL, None).await);
        })
        .await;
        assert!(
            std::str::from_utf8(&first[3].1).is_err() && text.contains("{\"base64\":"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 6, "{text}");
        let options = Options::default();
        assert!(
            !text.contains(&options.access_key) && !text.contains(&options.secret_key),
            "{text}"
        );

        let (replayed, reports) = replay(&text);
        assert_eq!(replayed.simulator.stats().replay_unused, 5);
        let mut again = Vec::new();
        again.push(raw(&replayed, BY_EMAIL, None).await);
        // A reset was not recorded, and does not change the order.
        replayed.post("/_simulator/reset", Value::Null).await;
        // The limit of the server is one call.
        again.push(raw(&replayed, "Lead.Create", Some(&create)).await);
        again.push(raw(&replayed, BY_EMAIL, None).await);
        assert_eq!(raw(&replayed, "Lead.Create", Some(&update)).await.0, 502);
        again.push(raw(&replayed, BY_EMAIL, None).await);
        assert_eq!(again, first);
        let stats = replayed.simulator.stats();
        assert_eq!((stats.leads, stats.dropped, stats.replay_unused), (0, 1, 0));
        assert_eq!((stats.accepted, stats.endpoints["Lead.Create"]), (4, 2));
        assert!(reports.lock().unwrap().is_empty());
    }

    /// Sends a call, and returns status, body and headers.
    async fn raw(server: &TestServer, name: &str, body: Option<&Value>) -> (u16, Vec<u8>, String) {
        let options = Options::default();
        let request = Request::builder()
            .method(if body.is_some() { Method::POST } else { Method::GET })
            .uri(format!("/v2/LeadManagement.svc/{name}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-LSQ-AccessKey", options.access_key)
            .header("x-LSQ-SecretKey", options.secret_key)
            .body(body.map(Value::to_string).unwrap_or_default().into())
            .unwrap();
        let response = server.respond(request).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts.status.as_u16(), body.into(), format!("{:?}", parts.headers))
    }

    #[tokio::test]
    async fn keys_are_redacted_and_do_not_matter() {
        let server = TestServer::new(|_| {});
        let call = |keys: &str| format!("{BY_EMAIL}&accessKey={keys}1&SecretKey={keys}2");
        let text = record(&server, async || {
            server.get(&call("real")).await;
        })
        .await;
        assert!(
            text.contains("accessKey") && text.contains(r#"["SecretKey","redacted"]"#),
            "{text}"
        );
        assert!(!text.contains("real"), "{text}");
        let (replayed, reports) = replay(&text);
        assert_eq!(replayed.get(BY_EMAIL).await.0, 200);
        assert_eq!(replayed.get(&call("secret")).await.0, 501);
        assert!(!reports.lock().unwrap()[0].contains("secret"));
    }

    #[tokio::test]
    async fn equal_requests_are_in_the_order_of_arrival_and_not_of_the_responses() {
        let request = json!({"method": "GET", "path": "/a"});
        let line = |call: u64, status: u16| {
            json!({"call": call, "request": request, "response": {"status": status}}).to_string()
        };
        let (server, _) = replay(&recording(&[line(3, 203), line(1, 201), line(2, 202)]));
        for status in [201, 202, 203, 501] {
            assert_eq!(server.get("/a").await.0, status);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_has_the_order_of_arrival() {
        let server = TestServer::new(|_| {});
        let text = record(&server, async || {
            let slow = FaultKind::Delay {
                by: std::time::Duration::from_secs(9),
            };
            server.simulator.add_fault(Fault::new("Lead.Create", slow)).unwrap();
            let create = async |name: &str| server.create(&[("FirstName", name)]).await;
            tokio::join!(create("Ann"), create("Ben"));
        })
        .await;
        let lines: Vec<Value> = text
            .lines()
            .skip(1)
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((&lines[0]["call"], &lines[1]["call"]), (&json!(2), &json!(1)));
        assert!(lines[1]["request"]["body"].as_str().unwrap().contains("Ann"));
    }

    #[tokio::test]
    async fn a_request_is_matched_by_method_path_query_and_json() {
        let request = json!({
            "method": "POST", "path": "/a", "query": [["b", "1"], ["a", "2"]], "body": r#"{"x": 1, "y": [1, 2]}"#,
        });
        let text = recording(&[line(request, json!({"status": 200, "body": "{}"}))]);
        let (server, reports) = replay(&text);
        let body = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (path, json) in [
            ("/a?a=2&b=1&c=3", r#"{"x":1,"y":[1,2]}"#),
            ("/a?a=2&b=2", r#"{"x":1,"y":[1,2]}"#),
            ("/b?a=2&b=1", r#"{"x":1,"y":[1,2]}"#),
            ("/a?a=2&b=1", r#"{"x":1,"y":[2,1]}"#),
        ] {
            assert_eq!(server.post(path, body(json)).await.0, 501, "{path} {json}");
        }
        assert_eq!(server.get("/a?a=2&b=1").await.0, 501);
        assert_eq!(server.simulator.stats().replay_unmatched, 5);
        assert_eq!(reports.lock().unwrap().len(), 5);
        assert_eq!(server.post("/a?a=2&b=1", body(r#"{"y":[1,2],"x":1}"#)).await.0, 200);
    }

    #[tokio::test]
    async fn an_unknown_request_gets_an_exception_and_is_reported_with_its_data() {
        let request = json!({"method": "GET", "path": "/v2/LeadManagement.svc/Leads.GetById", "query": [["id", "7"]]});
        let (server, reports) = replay(&recording(&[line(request, json!({"status": 200}))]));
        assert_eq!(server.get("Leads.GetById?id=7").await.0, 200);
        let (status, response) = server.get("Leads.GetById?id=7").await;
        assert_eq!((status, &response["ExceptionType"]), (501, &json!(UNMATCHED_EXCEPTION)));
        assert_eq!(
            response["ExceptionMessage"],
            "No recorded response to GET /v2/LeadManagement.svc/Leads.GetById. Standard error of the simulator has the details."
        );
        server.post("Lead.Create", json!([{"Value": "a\nb"}])).await;
        server.post("Lead.Create", json!("x".repeat(1_000))).await;
        let reports = reports.lock().unwrap();
        assert_eq!(
            reports[0],
            "no recorded response to GET /v2/LeadManagement.svc/Leads.GetById with the query \"id\"=\"7\": the recording has \
             this request once, and it was received before"
        );
        assert_eq!(
            reports[1],
            r#"no recorded response to POST /v2/LeadManagement.svc/Lead.Create with the body "[{\"Value\":\"a\\nb\"}]": the recording does not have this request"#
        );
        assert!(reports[2].len() < 500, "{}", reports[2]);
    }

    #[tokio::test]
    async fn faults_and_the_clock_are_rejected_in_a_replay() {
        let (server, _) = replay(&recording(&[]));
        for (path, body) in [
            ("/_simulator/faults", json!({"what": "empty503"})),
            ("/_simulator/clock", json!({"advance": "1m"})),
        ] {
            let (status, response) = server.post(path, body).await;
            assert_eq!(status, 400, "{path}");
            let error = response["error"].as_str().unwrap();
            assert!(error.contains("apply to a replay"), "{error}");
        }
    }

    #[test]
    fn an_invalid_recording_is_an_error_with_the_line() {
        let good = line(json!({"method": "GET", "path": "/"}), json!({"status": 200}));
        let response = |response: Value| line(json!({"method": "GET", "path": "/"}), response);
        for (text, expected) in [
            (String::new(), "line 1: no recording"),
            ("[]".into(), "line 1: no recording"),
            ("{\"leadgate_recording\":2}".into(), "line 1: the version"),
            (recording(&[good.clone(), "{".into()]), "line 3: EOF"),
            (
                recording(&[good.clone(), good[..40].into()]),
                "line 3: EOF while parsing",
            ),
            (
                recording(&[r#"{"request":{"method":"GET","path":"/"}}"#.into()]),
                "line 2: missing field `response`",
            ),
            (
                recording(&[response(json!({"status": 99}))]),
                "line 2: invalid status 99",
            ),
            (
                recording(&[response(json!({"status": 200, "headers": [["a b", ""]]}))]),
                "line 2: invalid header \"a b\"",
            ),
            (
                recording(&[response(json!({"status": 200, "headers": [["Content-Length", "7"]]}))]),
                "line 2: the header content-length cannot be set",
            ),
            (
                recording(&[response(json!({"status": 200, "body": {"base64": "%"}}))]),
                "line 2: a body is a text",
            ),
            (
                recording(&[response(json!({"status": 200, "Body": ""}))]),
                "line 2: unknown field `Body`",
            ),
        ] {
            let error = Replay::read(text.as_bytes(), |_| {}).err().unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
