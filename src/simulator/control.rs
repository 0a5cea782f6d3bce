//! The simulator's own path, `/_simulator/...`, for clients in other languages: faults, counts,
//! recorded calls, leads and options. Needs no keys and is never limited.

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

use super::{Fault, Options, Simulator};

/// The routes of the control path.
pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_simulator/faults", post(order).delete(clear_faults))
        .route("/_simulator/stats", get(stats))
        .route("/_simulator/calls", get(calls).delete(forget_calls))
        .route("/_simulator/leads", get(leads))
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
        Err(error) => return wrong(&error.to_string()),
    };
    let faults: Result<Vec<Fault>, _> = faults.into_iter().map(serde_json::from_value).collect();
    match faults {
        Ok(faults) => {
            let ordered = faults.len();
            faults.into_iter().for_each(|fault| simulator.order(fault));
            answer(&json!({"ordered": ordered}))
        }
        Err(error) => wrong(&error.to_string()),
    }
}

async fn clear_faults(State(simulator): State<Simulator>) -> StatusCode {
    simulator.clear_faults();
    StatusCode::NO_CONTENT
}

async fn stats(State(simulator): State<Simulator>) -> Response {
    answer(&simulator.stats())
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
    answer(&calls)
}

async fn forget_calls(State(simulator): State<Simulator>) -> StatusCode {
    simulator.forget_calls();
    StatusCode::NO_CONTENT
}

async fn leads(State(simulator): State<Simulator>) -> Response {
    answer(&simulator.leads())
}

async fn options(State(simulator): State<Simulator>) -> Response {
    answer(&simulator.shared.lock().tenant.options)
}

async fn change_options(State(simulator): State<Simulator>, body: Bytes) -> Response {
    let Ok(change) = serde_json::from_slice::<Value>(&body) else {
        return wrong("the body is not JSON");
    };
    if !change.is_object() {
        return wrong("the body is not an object of options");
    }
    let mut state = simulator.shared.lock();
    let changed = serde_json::to_value(&state.tenant.options).and_then(|mut options| {
        merge(&mut options, change);
        serde_json::from_value::<Options>(options)
    });
    match changed {
        Ok(options) => {
            let response = answer(&options);
            state.set_options(options);
            response
        }
        Err(error) => wrong(&error.to_string()),
    }
}

async fn reset(State(simulator): State<Simulator>) -> StatusCode {
    simulator.shared.lock().reset();
    StatusCode::NO_CONTENT
}

/// Lays `change` over `options`: objects by their keys, everything else whole.
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

fn answer(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn wrong(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, answer(&json!({"error": why}))).into_response()
}
