//! The HTTP layer: parses a request, waits for the latency, applies faults, and sends the response or aborts the
//! connection. `admission.rs` decides how a call is handled.

pub(crate) mod admission;
pub(crate) mod call;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod latency;
pub(crate) mod reply;
pub(crate) mod response;

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::Response as HttpResponse,
};
use http::StatusCode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::http::admission::Decision;
use crate::http::call::Call;
use crate::http::connection::ConnectionHandle;
use crate::http::endpoint::Endpoint;
use crate::http::reply::Reply;
use crate::http::response::Response;
use crate::state::SharedState;
use crate::{FaultKind, Simulator};

/// The outcome of a call for the client.
enum Outcome {
    Respond(Response),
    /// Send this recorded response, or close the connection if there is none.
    Replay(Option<Reply>),
    /// Close the connection without a response.
    Close,
}

/// Handles all requests except those to the control path.
pub(crate) async fn receive(State(simulator): State<Simulator>, request: Request) -> HttpResponse {
    let connection = request.extensions().get::<ConnectInfo<ConnectionHandle>>().cloned();
    let shutdown = request.extensions().get().cloned().unwrap_or_default();
    let shared = simulator.shared;
    let max = shared.lock().tenant.options.max_body;
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, max).await else {
        return bare(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let call = Call {
        method: parts.method,
        path: parts.uri.path().into(),
        query: url::form_urlencoded::parse(query).into_owned().collect(),
        headers: parts.headers,
        body,
    };
    // Like LeadSquared, the simulator completes a call after its client disconnects.
    let tasks = shared.tasks.clone();
    let handled = tasks.spawn(async move { handle(&shared, &shutdown, call).await }).await;
    match (handled, connection) {
        (Ok(Some(reply)), _) => reply.into_http(),
        (Ok(None), Some(ConnectInfo(connection))) => {
            connection.abort();
            // This response is never sent. The server closes the aborted connection when it tries to write it.
            bare(StatusCode::BAD_GATEWAY)
        }
        // Unit tests have no connection. They get the response of a proxy whose upstream closed the connection.
        (Ok(None), None) => bare(StatusCode::BAD_GATEWAY),
        (Err(_), _) => bare(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Executes and records the call. Returns `None` if the connection is to be closed without a response.
async fn handle(shared: &SharedState, shutdown: &CancellationToken, call: Call) -> Option<Reply> {
    let (before, after) = halves(shared.draw_latency());
    pause(before).await;
    let (call_id, decision) = shared.lock().decide(&call);
    let refused = matches!(decision, Decision::Refuse(_));
    let outcome = match decision {
        Decision::Respond(response) | Decision::Refuse(response) => Outcome::Respond(response),
        Decision::Fault(endpoint, kind) => apply_fault(shared, shutdown, endpoint, kind, &call).await,
        Decision::Replay(reply) => Outcome::Replay(reply),
    };
    pause(after).await;
    let mut state = shared.lock();
    let reply = match outcome {
        Outcome::Respond(response) => {
            let date = state.clock.http_date();
            Some(Reply::new(response, &state.tenant.options.response_headers, date))
        }
        Outcome::Replay(reply) => reply,
        Outcome::Close => None,
    };
    match &reply {
        Some(reply) => state.record_outcome(call_id, reply.status, refused),
        None => state.journal.counts.dropped += 1,
    }
    if state.traffic.record(call_id, &call, reply.as_ref()) {
        shared.recording_failed.cancel();
    }
    reply
}

async fn apply_fault(
    shared: &SharedState,
    shutdown: &CancellationToken,
    endpoint: Endpoint,
    kind: FaultKind,
    call: &Call,
) -> Outcome {
    let execute = || shared.lock().execute(endpoint, call);
    Outcome::Respond(match kind {
        FaultKind::DropBefore => return Outcome::Close,
        FaultKind::CommitThenDrop => {
            execute();
            return Outcome::Close;
        }
        FaultKind::CommitThenHang { lasting } => {
            execute();
            hang(lasting, shutdown).await;
            return Outcome::Close;
        }
        FaultKind::HangBefore { lasting } => {
            hang(lasting, shutdown).await;
            return Outcome::Close;
        }
        FaultKind::Html502 => Response::page(502, "502 Bad Gateway"),
        FaultKind::Empty500 => Response::empty(500),
        FaultKind::Empty503 => Response::empty(503),
        FaultKind::RetryAfter { status, value } => Response {
            retry_after: Some(value),
            ..Response::empty(status)
        },
        FaultKind::GarbageJson => execute().cut_in_half(),
        FaultKind::BreakRecord { at, how } => execute().with_broken_record(at, how),
        FaultKind::Delay { by } => {
            hang(by, shutdown).await;
            execute()
        }
        FaultKind::Respond {
            status,
            body,
            content_type,
            commit,
        } => {
            if commit {
                execute();
            }
            let content_type = content_type.as_deref().unwrap_or("application/json");
            Response::text(status, content_type, body)
        }
        // `admission.rs` applies these faults before the call is counted.
        FaultKind::Unauthorized | FaultKind::Refuse | FaultKind::RefuseDaily => execute(),
    })
}

impl SharedState {
    fn draw_latency(&self) -> Duration {
        let mut state = self.lock();
        let latency = state.tenant.options.latency;
        latency.draw(&mut state.random)
    }
}

/// Waits for `lasting`, or until the simulator shuts down.
async fn hang(lasting: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = sleep(lasting) => {}
        () = shutdown.cancelled() => {}
    }
}

fn halves(whole: Duration) -> (Duration, Duration) {
    let half = whole / 2;
    (half, whole - half)
}

/// Sleeps for `time`. Returns at once if it is zero, since even a sleep of zero yields to other tasks.
async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// Returns a response without a body.
fn bare(status: StatusCode) -> HttpResponse {
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{TestServer, attributes};
    use crate::{Fault, Options};
    use http::Method;
    use tokio::time::Instant;

    const SEARCH: &str = "Leads.GetByEmailaddress?emailaddress=a@x.co";

    #[tokio::test]
    async fn an_unknown_path_a_wrong_method_and_an_invalid_body_have_different_statuses() {
        let server = TestServer::new(|_| {});
        assert_eq!(server.get("Lead.Destroy").await.0, 404);
        assert_eq!(server.get("Lead.Create").await.0, 405);
        for body in ["", "{", "nonsense", "{}", "[[]]", r#"[{"Value":"x"}]"#, "[1]", "null"] {
            let (status, response) = server.call(Method::POST, "Lead.Create", body.into()).await;
            assert_eq!(status, 400, "{body}: {response}");
            let message = response["ExceptionMessage"].as_str().unwrap();
            assert!(message.starts_with("Unexpected character"), "{message}");
        }
        let options = Options::default();
        let plain = Request::builder()
            .method(Method::POST)
            .uri("/v2/LeadManagement.svc/Lead.Create")
            .header("x-lsq-accesskey", options.access_key)
            .header("x-lsq-secretkey", options.secret_key)
            .body(Body::from(attributes(&[("FirstName", "x")]).to_string()))
            .unwrap();
        assert_eq!(server.send(plain).await.0, 400);
        assert_eq!(server.simulator.stats().leads, 0);
    }

    #[tokio::test]
    async fn every_endpoint_returns_a_response_to_invalid_bodies() {
        let server = TestServer::new(|_| {});
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let bodies = [
            deep.as_str(),
            "[]",
            "{}",
            "[[[]]]",
            r#"{"Parameter":{"LookupName":"Score","LookupValue":"1e999","SqlOperator":">="}}"#,
            r#"{"Paging":{"PageIndex":18446744073709551615,"PageSize":"18446744073709551615"}}"#,
            r#"{"LeadIds":[],"LeadFields":{"Attribute":"mx_City"}}"#,
            r#"{"LeadPropertiesList":[{"Fields":[]}],"Options":null}"#,
            r#"{"SearchParameters":null,"Columns":null,"Paging":null,"Sorting":null}"#,
            r#"{"Parameter":{"FromDate":"9999-12-31 23:59:59","ToDate":"-1"}}"#,
            r#"{"Parameter":{"ActivityEvent":-1},"Paging":{"Offset":"18446744073709551615","RowCount":2}}"#,
            r#"{"ActivityEvent":201,"EmailAddress":"","Fields":[{"SchemaName":"","Value":null}]}"#,
            r#"[{"UserId":"","Entity":1,"EntityType":3,"EntityId":"-1","DurationInMinutes":9223372036854775807}]"#,
            r#"[{"Entity":9223372036854775808}]"#,
            r#"{"GroupConditions":[{"Condition":[]}],"Sorting":[{}]}"#,
        ];
        let names = [
            "Lead.Create",
            "Lead.Update?leadId=x",
            "Lead.CreateOrUpdate",
            "Lead.Capture",
            "Lead/Bulk/Create",
            "Lead/Bulk/CreateOrUpdate",
            "Lead/Bulk/Update",
            "Lead/Bulk/UpdateV2",
            "Leads/Retrieve/ByIds",
            "Leads.Get",
            "Leads.RecentlyModified",
            "Lead.Merge",
            "/v2/UserManagement.svc/User/AdvancedSearch",
            "/v2/EntityAccess.svc/Share",
            "/v2/EntityAccess.svc/Revoke",
            "/v2/ProspectActivity.svc/Create",
            "/v2/ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadId",
            "/v2/ProspectActivity.svc/CustomActivity/Update",
            "/v2/ProspectActivity.svc/Retrieve?leadId=x",
            "/v2/ProspectActivity.svc/CustomActivity/RetrieveByActivityEvent",
            "/v2/ProspectActivity.svc/RetrieveRecentlyModified",
        ];
        for name in names {
            for body in bodies {
                let (status, _) = server.call(Method::POST, name, body.into()).await;
                assert!([200, 400, 500].contains(&status), "{name}: {status}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_latency_passes_before_admission_and_half_after_execution() {
        let server = TestServer::new(|options| options.latency = "100ms".parse().unwrap());
        let before = Instant::now();
        server.get(SEARCH).await;
        assert_eq!(before.elapsed(), Duration::from_millis(100));
        assert_eq!(server.simulator.calls()[0].stamp - before, Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_completed_after_its_client_disconnects() {
        let server = TestServer::new(|options| options.latency = "2s".parse().unwrap());
        let body = attributes(&[("FirstName", "Ann")]);
        let request = server.post("Lead.Create", body);
        let outcome = tokio::time::timeout(Duration::from_millis(500), request).await;
        assert!(outcome.is_err());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(server.simulator.stats().leads, 1);
        assert_eq!(server.simulator.calls()[0].status, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_has_its_response_and_executes_the_call_or_not() {
        let cases = [
            (FaultKind::Html502, 502, 0),
            (FaultKind::Empty500, 500, 0),
            (FaultKind::Empty503, 503, 0),
            (FaultKind::GarbageJson, 200, 1),
            (FaultKind::response(418, "{}", false), 418, 0),
            (FaultKind::response(200, "{", true), 200, 1),
            (
                FaultKind::Delay {
                    by: Duration::from_secs(9),
                },
                200,
                1,
            ),
            (FaultKind::DropBefore, 502, 0),
            (FaultKind::CommitThenDrop, 502, 1),
            (
                FaultKind::HangBefore {
                    lasting: Duration::from_secs(9),
                },
                502,
                0,
            ),
            (
                FaultKind::CommitThenHang {
                    lasting: Duration::from_secs(9),
                },
                502,
                1,
            ),
        ];
        for (kind, status, leads) in cases {
            let server = TestServer::new(|options| options.limits.calls = 1);
            server
                .simulator
                .add_fault(Fault::new("Lead.Create", kind.clone()))
                .unwrap();
            let (given, body) = server.post("Lead.Create", attributes(&[("FirstName", "x")])).await;
            assert_eq!(given, status, "{kind:?}");
            let readable = matches!(kind, FaultKind::Respond { status: 418, .. } | FaultKind::Delay { .. });
            assert_eq!(!body.is_null(), readable, "{kind:?}");
            let stats = server.simulator.stats();
            assert_eq!((stats.leads, stats.accepted, stats.faults), (leads, 1, 1), "{kind:?}");
            // A call with a fault counts against the limit.
            let (next, _) = server.post("Lead.Create", attributes(&[("FirstName", "x")])).await;
            let hung = matches!(
                kind,
                FaultKind::Delay { .. } | FaultKind::HangBefore { .. } | FaultKind::CommitThenHang { .. }
            );
            assert_eq!(next, if hung { 200 } else { 429 }, "{kind:?}");
        }
    }

    impl FaultKind {
        fn response(status: u16, body: &str, commit: bool) -> Self {
            Self::Respond {
                status,
                body: body.into(),
                content_type: None,
                commit,
            }
        }
    }
}
