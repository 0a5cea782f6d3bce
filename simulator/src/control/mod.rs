//! The control path `/_simulator/...`: faults, counters, recorded calls, leads, activities, shares, options and the clock
//! over HTTP. It requires no keys and has no rate limit.

pub(crate) mod journal;

use std::fmt;
use std::time::Duration;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response as HttpResponse},
    routing::{get, post},
};
use bytes::Bytes;
use http::{StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Activity, Fault, Options, ShareRequest, SharedAccess, Simulator};

/// The routes of the control path.
pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_simulator/faults", post(add_faults).delete(clear_faults))
        .route("/_simulator/stats", get(stats))
        .route("/_simulator/calls", get(calls).delete(forget_calls))
        .route("/_simulator/leads", get(leads))
        .route("/_simulator/activities", get(activities))
        .route("/_simulator/shares", get(shares))
        .route("/_simulator/share-requests", get(share_requests))
        .route("/_simulator/options", get(options).patch(change_options))
        .route("/_simulator/clock", get(clock).post(change_clock))
        .route("/_simulator/reset", post(reset))
}

/// The body of a request that adds faults: one fault or an array of faults.
#[derive(Deserialize)]
#[serde(untagged)]
enum FaultsBody {
    Many(Vec<Value>),
    One(Value),
}

/// Adds all faults of the body, or none if one of them is invalid.
async fn add_faults(State(simulator): State<Simulator>, body: Bytes) -> HttpResponse {
    let faults = match serde_json::from_slice(&body) {
        Ok(FaultsBody::Many(faults)) => faults,
        Ok(FaultsBody::One(fault)) => vec![fault],
        Err(error) => return bad_request(&error),
    };
    let faults: Vec<Fault> = match faults.into_iter().map(serde_json::from_value).collect() {
        Ok(faults) => faults,
        Err(error) => return bad_request(&error),
    };
    if simulator.shared.lock().traffic.replay().is_some() {
        return bad_request(&"faults do not apply to a replay");
    }
    let added = faults.len();
    if let Err(error) = faults.iter().try_for_each(Fault::validate) {
        return bad_request(&error);
    }
    match faults.into_iter().try_for_each(|fault| simulator.add_fault(fault)) {
        Ok(()) => json_response(&json!({"ordered": added})),
        Err(error) => bad_request(&error),
    }
}

async fn clear_faults(State(simulator): State<Simulator>) -> StatusCode {
    simulator.clear_faults();
    StatusCode::NO_CONTENT
}

async fn stats(State(simulator): State<Simulator>) -> HttpResponse {
    json_response(&simulator.stats())
}

async fn calls(State(simulator): State<Simulator>) -> HttpResponse {
    let state = simulator.shared.lock();
    let calls: Vec<_> = state
        .journal
        .calls()
        .into_iter()
        .map(|call| {
            json!({
                "endpoint": call.endpoint,
                "method": call.method,
                "path": call.path,
                "query": call.query,
                "headers": call.headers,
                "body": call.body,
                "stamp_ms": state.journal.millis(call.stamp),
                "status": call.status,
                "refused": call.refused,
            })
        })
        .collect();
    json_response(&calls)
}

async fn forget_calls(State(simulator): State<Simulator>) -> StatusCode {
    simulator.forget_calls();
    StatusCode::NO_CONTENT
}

async fn leads(State(simulator): State<Simulator>) -> HttpResponse {
    json_response(&simulator.leads())
}

async fn activities(State(simulator): State<Simulator>) -> HttpResponse {
    let row = |activity: Activity| {
        json!({
            "id": activity.id,
            "number": activity.number,
            "lead_id": activity.lead_id,
            "code": activity.code,
            "owner": activity.owner,
            "note": activity.note,
            "fields": activity.fields,
            "created": activity.created.to_string(),
            "modified": activity.modified.to_string(),
        })
    };
    json_response(&simulator.activities().into_iter().map(row).collect::<Vec<_>>())
}

async fn shares(State(simulator): State<Simulator>) -> HttpResponse {
    let row = |share: SharedAccess| {
        json!({
            "user_id": share.user_id,
            "entity": share.entity,
            "entity_id": share.entity_id,
            "activity_id": share.activity_id,
            "access": share.access,
            "granted": share.granted.to_string(),
            "expires": share.expires.to_string(),
        })
    };
    json_response(&simulator.shares().into_iter().map(row).collect::<Vec<_>>())
}

async fn share_requests(State(simulator): State<Simulator>) -> HttpResponse {
    let row = |request: ShareRequest| {
        json!({
            "id": request.id,
            "revoke": request.revoke,
            "items": request.items,
            "accepted": request.accepted.to_string(),
            "polls": request.polls,
            "done": request.done,
            "error": request.error,
        })
    };
    json_response(&simulator.share_requests().into_iter().map(row).collect::<Vec<_>>())
}

async fn options(State(simulator): State<Simulator>) -> HttpResponse {
    json_response(&simulator.shared.lock().tenant.options)
}

async fn change_options(State(simulator): State<Simulator>, body: Bytes) -> HttpResponse {
    let Ok(change) = serde_json::from_slice::<Value>(&body) else {
        return bad_request(&"invalid body: not JSON");
    };
    if !change.is_object() {
        return bad_request(&"invalid body: not an object of options");
    }
    let mut state = simulator.shared.lock();
    let changed = serde_json::to_value(&state.tenant.options).and_then(|mut options| {
        merge(&mut options, change);
        serde_json::from_value::<Options>(options)
    });
    match changed {
        Ok(options) if options.seed != state.tenant.options.seed => {
            bad_request(&"the option seed cannot be changed while the simulator runs")
        }
        Ok(options) => {
            let response = json_response(&options);
            state.set_options(options);
            response
        }
        Err(error) => bad_request(&error),
    }
}

/// The body of a request that changes the clock.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClockChange {
    Advance(#[serde(with = "humantime_serde")] Duration),
    StopAt(Timestamp),
}

async fn clock(State(simulator): State<Simulator>) -> HttpResponse {
    let clock = simulator.shared.lock().clock;
    json_response(&json!({
        "offset": humantime_serde::re::humantime::format_duration(clock.offset()).to_string(),
        "now": clock.now().to_string(),
    }))
}

async fn change_clock(simulator: State<Simulator>, body: Bytes) -> HttpResponse {
    let changed = match serde_json::from_slice(&body) {
        Ok(ClockChange::Advance(by)) => simulator.advance_clock(by),
        Ok(ClockChange::StopAt(time)) => simulator.shared.lock().stop_clock(time),
        Err(error) => return bad_request(&error),
    };
    match changed {
        Ok(()) => clock(simulator).await,
        Err(error) => bad_request(&error),
    }
}

async fn reset(State(simulator): State<Simulator>) -> StatusCode {
    simulator.shared.lock().reset();
    StatusCode::NO_CONTENT
}

/// Merges `change` into `options`. Objects are merged by key. Any other value replaces the old value.
fn merge(options: &mut Value, change: Value) {
    match (options, change) {
        (Value::Object(options), Value::Object(change)) => {
            for (name, value) in change {
                merge(options.entry(name).or_insert(Value::Null), value);
            }
        }
        (options, change) => *options = change,
    }
}

fn json_response(body: &impl Serialize) -> HttpResponse {
    let body = serde_json::to_vec(body).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn bad_request(error: &dyn fmt::Display) -> HttpResponse {
    let body = json!({"error": error.to_string()});
    (StatusCode::BAD_REQUEST, json_response(&body)).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{TestServer, attributes};
    use http::Method;

    const SEARCH: &str = "Leads.GetByEmailaddress?emailaddress=a@x.co";

    #[tokio::test]
    async fn one_fault_or_an_array_of_faults_can_be_added() {
        let server = TestServer::new(|_| {});
        let faults = "/_simulator/faults";
        assert_eq!(server.post(faults, json!({"what": "empty503"})).await.1["ordered"], 1);
        let many =
            json!([{"on": "Lead.Create", "what": "html502"}, {"what": {"answer": {"status": 418, "body": "{}"}}}]);
        assert_eq!(server.post(faults, many).await.1["ordered"], 2);
        assert_eq!(server.get(SEARCH).await.0, 503);
        assert_eq!(server.get(SEARCH).await.0, 418);
        assert_eq!(server.call(Method::DELETE, faults, String::new()).await.0, 204);
        assert_eq!(
            server.post("Lead.Create", attributes(&[("FirstName", "x")])).await.0,
            200
        );
        let (status, response) = server.post(faults, json!({"what": "explode"})).await;
        assert_eq!(status, 400);
        assert!(response["error"].as_str().unwrap().contains("explode"), "{response}");
    }

    #[tokio::test]
    async fn a_valid_patch_changes_options_and_an_invalid_one_changes_none() {
        let server = TestServer::new(|_| {});
        let patch = async |body: &str| server.call(Method::PATCH, "/_simulator/options", body.into()).await;
        let (status, options) = patch(r#"{"limits": {"calls": 7, "per": "2s"}, "latency": "1ms..2ms"}"#).await;
        assert_eq!(status, 200);
        assert_eq!(
            (&options["limits"]["calls"], &options["limits"]["per"]),
            (&json!(7), &json!("2s"))
        );
        // An option that the patch does not contain keeps its value, which is not the default here.
        assert_eq!(options["limits"]["bulk"], 0);
        for wrong in [r#"{"limits": {"callz": 7}}"#, r#"{"limits": 7}"#, "[]", "{"] {
            let (status, response) = patch(wrong).await;
            assert_eq!(status, 400, "{wrong}");
            assert!(response["error"].is_string());
        }
        assert_eq!(server.get("/_simulator/options").await.1, options);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_to_the_control_path_are_neither_limited_nor_recorded() {
        let server = TestServer::new(|options| options.limits.calls = 1);
        server.post("Lead.Create", attributes(&[("FirstName", "Ann")])).await;
        for _ in 0..3 {
            assert_eq!(server.get("/_simulator/stats").await.1["accepted"], 1);
        }
        let (_, calls) = server.get("/_simulator/calls").await;
        assert_eq!(calls.as_array().unwrap().len(), 1);
        assert_eq!(
            (&calls[0]["endpoint"], &calls[0]["status"]),
            (&json!("Lead.Create"), &json!(200))
        );
        assert_eq!(server.get("/_simulator/leads").await.1[0]["FirstName"], "Ann");
        server.call(Method::DELETE, "/_simulator/calls", String::new()).await;
        assert_eq!(server.get("/_simulator/calls").await.1, json!([]));
    }

    #[tokio::test]
    async fn faults_for_an_unknown_endpoint_are_rejected_and_none_is_added() {
        let server = TestServer::new(|_| {});
        let faults = json!([{"what": "empty503"}, {"on": "Leads.GetByEmail", "what": "empty500"}]);
        let (status, response) = server.post("/_simulator/faults", faults).await;
        assert_eq!(status, 400);
        let error = response["error"].as_str().unwrap();
        let start = "unknown endpoint \"Leads.GetByEmail\" in \"on\". The nearest known name is \"Leads.GetByEmailaddress\". Known names: *, Lead.Create, ";
        assert!(error.starts_with(start), "{error}");
        assert_eq!(server.get(SEARCH).await.0, 200);
        for on in ["*", "Leads.GetByEmailaddress"] {
            let fault = json!({"on": on, "what": "empty503"});
            assert_eq!(server.post("/_simulator/faults", fault).await.0, 200);
            assert_eq!(server.get(SEARCH).await.0, 503);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_restores_the_start() {
        let mut options = Options::default();
        options.limits.calls = 3;
        options.limits.daily = 4;
        let seed = br#"[{"FirstName": "Ann", "EmailAddress": "a@x.co", "CreatedOn": "2020-01-02"}]"#;
        let simulator = Simulator::with_leads(options, seed).unwrap();
        let server = TestServer { simulator };
        let all = async || {
            let mut all = Vec::new();
            for name in [
                "leads",
                "activities",
                "shares",
                "share-requests",
                "calls",
                "options",
                "stats",
                "clock",
            ] {
                let (status, body) = server.get(&format!("/_simulator/{name}")).await;
                assert_eq!(status, 200, "{name}");
                all.push(body);
            }
            all
        };
        let start = all().await;
        assert_eq!(start[0][0]["FirstName"], "Ann");

        server.post("/_simulator/clock", json!({"advance": "3h"})).await;
        let id = server.simulator.leads()[0]["ProspectID"].clone().unwrap();
        let update = attributes(&[("FirstName", "Anna")]);
        server.post(&format!("Lead.Update?leadId={id}"), update).await;
        let first = server.create(&[("FirstName", "Ben")]).await;
        server.simulator.insert_activity(&id, 201, &[]);
        let change = r#"{"delete_enabled": true, "limits": {"calls": 0}}"#;
        server.call(Method::PATCH, "/_simulator/options", change.into()).await;
        for status in [200, 200, 429] {
            assert_eq!(server.get(SEARCH).await.0, status);
        }
        server
            .post("/_simulator/faults", json!({"what": "empty503", "times": 9}))
            .await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let changed = all().await;
        for (index, before) in start.iter().enumerate().filter(|(index, _)| ![2, 3].contains(index)) {
            assert_ne!(changed[index], *before);
        }

        assert_eq!(server.post("/_simulator/reset", Value::Null).await.0, 204);
        let mut after = all().await;
        // The clock shows the system time, which is not paused.
        after[7]["now"] = start[7]["now"].clone();
        assert_eq!(after, start);
        // No fault, no used window, no used day, the same random ids.
        assert_eq!(server.create(&[("FirstName", "Ben")]).await, first);
        assert_eq!(server.get(SEARCH).await.0, 200);
    }

    #[tokio::test]
    async fn the_seed_of_random_ids_cannot_be_changed() {
        let server = TestServer::new(|_| {});
        let patch = async |body: &str| server.call(Method::PATCH, "/_simulator/options", body.into()).await;
        let (status, response) = patch(r#"{"seed": 2, "delete_enabled": true}"#).await;
        assert_eq!(status, 400);
        assert!(response["error"].as_str().unwrap().contains("seed"), "{response}");
        assert_eq!(patch(r#"{"seed": 1}"#).await.1["delete_enabled"], false);
    }

    #[tokio::test(start_paused = true)]
    async fn an_advanced_clock_changes_dates_and_the_day_but_no_window() {
        let server = TestServer::new(|options| {
            options.limits.calls = 3;
            options.limits.daily = 4;
        });
        let modified = |id: &str| {
            let modified = server.stored(id, "ModifiedOn").unwrap();
            crate::leads::value::parse_timestamp(&modified).unwrap()
        };
        let first = server.create(&[("FirstName", "Ann")]).await;
        let (status, clock) = server.post("/_simulator/clock", json!({"advance": "1day"})).await;
        assert_eq!((status, &clock["offset"]), (200, &json!("1day")));
        let second = server.create(&[("FirstName", "Ben")]).await;
        let difference = modified(&second).duration_since(modified(&first));
        assert_eq!(difference, jiff::SignedDuration::from_hours(24));
        let request = http::Request::get("/v2/LeadManagement.svc/").body(axum::body::Body::empty());
        let response = server.respond(request.unwrap()).await;
        let date = server.simulator.shared.lock().clock.http_date();
        assert_eq!(response.headers()["date"], date.as_str());

        // The first call was on another day.
        assert_eq!(server.simulator.stats().daily_used, 1);
        assert_eq!(server.get(SEARCH).await.0, 200);
        // The window of five seconds has three calls, and a day is longer.
        server.post("/_simulator/clock", json!({"advance": "1day"})).await;
        assert_eq!(server.get(SEARCH).await.0, 429);
        assert_eq!(server.simulator.stats().worst_window, 3);
        assert_eq!(server.get("/_simulator/clock").await.1["offset"], "2days");
    }

    #[tokio::test(start_paused = true)]
    async fn two_simulators_with_stopped_clocks_have_the_same_dates() {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let server = TestServer::new(|_| {});
            tokio::time::advance(Duration::from_secs(7)).await;
            let stop = json!({"stop_at": "2026-01-31T09:30:00Z"});
            let (status, clock) = server.post("/_simulator/clock", stop).await;
            assert_eq!((status, &clock["now"]), (200, &json!("2026-01-31T09:30:00Z")));
            let id = server.create(&[("FirstName", "Ann")]).await;
            tokio::time::advance(Duration::from_secs(7)).await;
            server.create(&[("FirstName", "Ben")]).await;
            assert_eq!(
                server.stored(&id, "CreatedOn").as_deref(),
                Some("2026-01-31 09:30:00.000")
            );
            seen.push(server.simulator.leads());
        }
        assert_eq!(seen[0], seen[1]);
    }

    #[tokio::test]
    async fn an_invalid_change_of_the_clock_is_rejected() {
        let server = TestServer::new(|_| {});
        for body in [
            json!({}),
            json!({"advance": "soon"}),
            json!({"advance": "-1m"}),
            json!({"advance": 7}),
            json!({"advance": "11years"}),
            json!({"advance": "1m", "now": "x"}),
            json!({"stop_at": "soon"}),
            json!({"advance": "1m", "stop_at": "2026-01-31T09:30:00Z"}),
        ] {
            let (status, response) = server.post("/_simulator/clock", body.clone()).await;
            assert!(status == 400 && response["error"].is_string(), "{body}: {response}");
        }
        assert_eq!(server.get("/_simulator/clock").await.1["offset"], "0s");
    }
}
