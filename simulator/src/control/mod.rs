//! The control path, `/_simulator/...`, for clients in other languages: faults, counts,
//! recorded calls, leads, activities, shares and options. Needs no keys and is never limited.

pub(crate) mod journal;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Activity, Fault, Options, ShareRequest, SharedAccess, Simulator};

/// The routes of the control path.
pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_simulator/faults", post(order).delete(clear_faults))
        .route("/_simulator/stats", get(stats))
        .route("/_simulator/calls", get(calls).delete(forget_calls))
        .route("/_simulator/leads", get(leads))
        .route("/_simulator/activities", get(activities))
        .route("/_simulator/shares", get(shares))
        .route("/_simulator/share-requests", get(share_requests))
        .route("/_simulator/options", get(options).patch(change_options))
        .route("/_simulator/reset", post(reset))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Order {
    Many(Vec<Value>),
    One(Value),
}

async fn order(State(simulator): State<Simulator>, body: Bytes) -> Response {
    let faults = match serde_json::from_slice(&body) {
        Ok(Order::Many(faults)) => faults,
        Ok(Order::One(fault)) => vec![fault],
        Err(error) => return bad_request(&error.to_string()),
    };
    let faults: Result<Vec<Fault>, _> = faults.into_iter().map(serde_json::from_value).collect();
    match faults {
        Ok(faults) => {
            let ordered = faults.len();
            faults.into_iter().for_each(|fault| simulator.order(fault));
            json_response(&json!({"ordered": ordered}))
        }
        Err(error) => bad_request(&error.to_string()),
    }
}

async fn clear_faults(State(simulator): State<Simulator>) -> StatusCode {
    simulator.clear_faults();
    StatusCode::NO_CONTENT
}

async fn stats(State(simulator): State<Simulator>) -> Response {
    json_response(&simulator.stats())
}

async fn calls(State(simulator): State<Simulator>) -> Response {
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

async fn leads(State(simulator): State<Simulator>) -> Response {
    json_response(&simulator.leads())
}

async fn activities(State(simulator): State<Simulator>) -> Response {
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

async fn shares(State(simulator): State<Simulator>) -> Response {
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

async fn share_requests(State(simulator): State<Simulator>) -> Response {
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

async fn options(State(simulator): State<Simulator>) -> Response {
    json_response(&simulator.shared.lock().tenant.options)
}

async fn change_options(State(simulator): State<Simulator>, body: Bytes) -> Response {
    let Ok(change) = serde_json::from_slice::<Value>(&body) else {
        return bad_request("the body is not JSON");
    };
    if !change.is_object() {
        return bad_request("the body is not an object of options");
    }
    let mut state = simulator.shared.lock();
    let changed = serde_json::to_value(&state.tenant.options).and_then(|mut options| {
        merge(&mut options, change);
        serde_json::from_value::<Options>(options)
    });
    match changed {
        Ok(options) => {
            let response = json_response(&options);
            state.set_options(options);
            response
        }
        Err(error) => bad_request(&error.to_string()),
    }
}

async fn reset(State(simulator): State<Simulator>) -> StatusCode {
    simulator.shared.lock().reset();
    StatusCode::NO_CONTENT
}

/// Merges `change` into `options`: objects by their keys, all other values whole.
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

fn json_response(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn bad_request(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, json_response(&json!({"error": message}))).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::{TestServer, attributes};
    use http::Method;

    const SEARCH: &str = "Leads.GetByEmailaddress?emailaddress=a@x.co";

    #[tokio::test]
    async fn faults_are_added_one_by_one_or_many_at_once() {
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
    async fn options_are_changed_in_part_or_not_at_all() {
        let server = TestServer::new(|_| {});
        let patch = async |body: &str| server.call(Method::PATCH, "/_simulator/options", body.into()).await;
        let (status, options) = patch(r#"{"limits": {"calls": 7, "per": "2s"}, "latency": "1ms..2ms"}"#).await;
        assert_eq!(status, 200);
        assert_eq!(
            (&options["limits"]["calls"], &options["limits"]["per"]),
            (&json!(7), &json!("2s"))
        );
        // What the patch does not name keeps its value, which is not its default here.
        assert_eq!(options["limits"]["bulk"], 0);
        for wrong in [r#"{"limits": {"callz": 7}}"#, r#"{"limits": 7}"#, "[]", "{"] {
            let (status, response) = patch(wrong).await;
            assert_eq!(status, 400, "{wrong}");
            assert!(response["error"].is_string());
        }
        assert_eq!(server.get("/_simulator/options").await.1, options);
    }

    #[tokio::test(start_paused = true)]
    async fn the_control_path_is_neither_limited_nor_recorded() {
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
    async fn a_reset_forgets_all_but_the_options() {
        let server = TestServer::new(|options| options.delete_enabled = true);
        let first = server.create(&[("FirstName", "x")]).await;
        assert_eq!(server.post("/_simulator/reset", Value::Null).await.0, 204);
        let stats = server.simulator.stats();
        assert_eq!((stats.leads, stats.accepted), (0, 0));
        assert!(server.simulator.shared.lock().tenant.options.delete_enabled);
        assert_eq!(server.create(&[("FirstName", "x")]).await, first);
    }
}
