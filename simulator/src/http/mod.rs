//! The way in and out: takes the request apart, spends the latency, makes ordered faults happen,
//! and answers or cuts the connection. What becomes of a call is decided in `admission.rs`.

pub(crate) mod admission;
pub(crate) mod call;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod latency;
pub(crate) mod response;

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::http::admission::Course;
use crate::http::call::Call;
use crate::http::connection::Line;
use crate::http::endpoint::Endpoint;
use crate::http::response::Answer;
use crate::state::Shared;
use crate::{Simulator, What};

/// What the client gets.
enum Outcome {
    Answer(Answer),
    /// The connection closes without a byte.
    Silence,
}

/// Every request that is not for the control path.
pub(crate) async fn receive(State(simulator): State<Simulator>, request: Request) -> Response {
    let line = request.extensions().get::<ConnectInfo<Line>>().cloned();
    let closing = request.extensions().get().cloned().unwrap_or_default();
    let shared = simulator.shared;
    let most = shared.lock().tenant.options.max_body;
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, most).await else {
        return respond(Answer::empty(413));
    };
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let call = Call {
        method: parts.method,
        path: parts.uri.path().into(),
        query: url::form_urlencoded::parse(query).into_owned().collect(),
        headers: parts.headers,
        body,
    };
    // As at the vendor, a call goes on when its client has left.
    let tasks = shared.tasks.clone();
    let handled = tasks.spawn(async move { handle(&shared, &closing, call).await }).await;
    match (handled, line) {
        (Ok(Outcome::Answer(answer)), _) => respond(answer),
        (Ok(Outcome::Silence), Some(ConnectInfo(line))) => {
            line.cut();
            // Never arrives: writing it is what makes the server notice the cut.
            respond(Answer::empty(502))
        }
        // Without a connection to cut, the nearest thing: what a proxy says about one.
        (Ok(Outcome::Silence), None) => respond(Answer::empty(502)),
        (Err(_), _) => respond(Answer::empty(500)),
    }
}

async fn handle(shared: &Shared, closing: &CancellationToken, call: Call) -> Outcome {
    let (before, after) = halves(shared.draw_latency());
    pause(before).await;
    let (ticket, course) = shared.lock().meet(&call);
    let refused = matches!(course, Course::Refused(_));
    let outcome = match course {
        Course::Answered(answer) | Course::Refused(answer) => Outcome::Answer(answer),
        Course::Faulty(endpoint, what) => go_wrong(shared, closing, endpoint, what, &call).await,
    };
    pause(after).await;
    let mut state = shared.lock();
    match &outcome {
        Outcome::Answer(answer) => state.conclude(ticket, answer.status, refused),
        Outcome::Silence => state.journal.counts.dropped += 1,
    }
    outcome
}

async fn go_wrong(
    shared: &Shared,
    closing: &CancellationToken,
    endpoint: Endpoint,
    what: What,
    call: &Call,
) -> Outcome {
    let work = || shared.lock().work(endpoint, call);
    Outcome::Answer(match what {
        What::DropBefore => return Outcome::Silence,
        What::CommitThenDrop => {
            work();
            return Outcome::Silence;
        }
        What::CommitThenHang { lasting } => {
            work();
            hang(lasting, closing).await;
            return Outcome::Silence;
        }
        What::HangBefore { lasting } => {
            hang(lasting, closing).await;
            return Outcome::Silence;
        }
        What::Html502 => Answer::page(502, "502 Bad Gateway"),
        What::Empty500 => Answer::empty(500),
        What::Empty503 => Answer::empty(503),
        What::RetryAfter { status, value } => Answer {
            retry_after: Some(value),
            ..Answer::empty(status)
        },
        What::GarbageJson => work().garbled(),
        What::BreakRecord { at, how } => work().with_broken_record(at, how),
        What::Delay { by } => {
            hang(by, closing).await;
            work()
        }
        What::Answer {
            status,
            body,
            content_type,
            commit,
        } => {
            if commit {
                work();
            }
            let content_type = content_type.as_deref().unwrap_or("application/json");
            Answer::text(status, content_type, body)
        }
        // Taken before the call was counted.
        What::Unauthorized | What::Refuse | What::RefuseDaily => work(),
    })
}

impl Shared {
    fn draw_latency(&self) -> Duration {
        let mut state = self.lock();
        let latency = state.tenant.options.latency;
        latency.draw(&mut state.dice)
    }
}

/// Waits, but not longer than the simulator serves.
async fn hang(lasting: Duration, closing: &CancellationToken) {
    tokio::select! {
        () = sleep(lasting) => {}
        () = closing.cancelled() => {}
    }
}

fn halves(whole: Duration) -> (Duration, Duration) {
    let half = whole / 2;
    (half, whole - half)
}

/// Even an elapsed sleep lets others run first, which an undelayed call must not.
async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(kind) = HeaderValue::from_str(&answer.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    if let Some(value) = answer.retry_after.and_then(|value| HeaderValue::from_str(&value).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{Bench, attributes};
    use crate::{Fault, Options};
    use http::Method;
    use tokio::time::Instant;

    const SEARCH: &str = "Leads.GetByEmailaddress?emailaddress=a@x.co";

    #[tokio::test]
    async fn a_wrong_path_verb_or_body_has_its_own_status() {
        let bench = Bench::new(|_| {});
        assert_eq!(bench.get("Lead.Destroy").await.0, 404);
        assert_eq!(bench.get("Lead.Create").await.0, 405);
        for body in ["", "{", "nonsense", "{}", "[[]]", r#"[{"Value":"x"}]"#, "[1]", "null"] {
            let (status, answer) = bench.ask(Method::POST, "Lead.Create", body.into()).await;
            assert_eq!(status, 400, "{body}: {answer}");
            let message = answer["ExceptionMessage"].as_str().unwrap();
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
        assert_eq!(bench.send(plain).await.0, 400);
        assert_eq!(bench.simulator.stats().leads, 0);
    }

    #[tokio::test]
    async fn no_body_upsets_any_endpoint() {
        let bench = Bench::new(|_| {});
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
                let (status, _) = bench.ask(Method::POST, name, body.into()).await;
                assert!([200, 400, 500].contains(&status), "{name}: {status}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_spent_before_the_stamp_and_after_the_work() {
        let bench = Bench::new(|options| options.latency = "100ms".parse().unwrap());
        let before = Instant::now();
        bench.get(SEARCH).await;
        assert_eq!(before.elapsed(), Duration::from_millis(100));
        assert_eq!(bench.simulator.calls()[0].stamp - before, Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_when_its_client_has_left() {
        let bench = Bench::new(|options| options.latency = "2s".parse().unwrap());
        let body = attributes(&[("FirstName", "Ann")]);
        let asked = bench.post("Lead.Create", body);
        let left = tokio::time::timeout(Duration::from_millis(500), asked).await;
        assert!(left.is_err());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(bench.simulator.stats().leads, 1);
        assert_eq!(bench.simulator.calls()[0].status, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn faults_answer_as_ordered_and_do_or_do_not_do_the_work() {
        let cases = [
            (What::Html502, 502, 0),
            (What::Empty500, 500, 0),
            (What::Empty503, 503, 0),
            (What::GarbageJson, 200, 1),
            (What::answer(418, "{}", false), 418, 0),
            (What::answer(200, "{", true), 200, 1),
            (
                What::Delay {
                    by: Duration::from_secs(9),
                },
                200,
                1,
            ),
            (What::DropBefore, 502, 0),
            (What::CommitThenDrop, 502, 1),
            (
                What::HangBefore {
                    lasting: Duration::from_secs(9),
                },
                502,
                0,
            ),
            (
                What::CommitThenHang {
                    lasting: Duration::from_secs(9),
                },
                502,
                1,
            ),
        ];
        for (what, status, leads) in cases {
            let bench = Bench::new(|options| options.limits.calls = 1);
            bench.simulator.order(Fault::new("Lead.Create", what.clone()));
            let (given, body) = bench.post("Lead.Create", attributes(&[("FirstName", "x")])).await;
            assert_eq!(given, status, "{what:?}");
            let readable = matches!(what, What::Answer { status: 418, .. } | What::Delay { .. });
            assert_eq!(!body.is_null(), readable, "{what:?}");
            let stats = bench.simulator.stats();
            assert_eq!((stats.leads, stats.accepted, stats.faults), (leads, 1, 1), "{what:?}");
            // It has used up the limit like any other call.
            let (next, _) = bench.post("Lead.Create", attributes(&[("FirstName", "x")])).await;
            let hung = matches!(
                what,
                What::Delay { .. } | What::HangBefore { .. } | What::CommitThenHang { .. }
            );
            assert_eq!(next, if hung { 200 } else { 429 }, "{what:?}");
        }
    }

    impl What {
        fn answer(status: u16, body: &str, commit: bool) -> Self {
            Self::Answer {
                status,
                body: body.into(),
                content_type: None,
                commit,
            }
        }
    }
}
