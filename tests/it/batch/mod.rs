//! Batches: each operation gets the result that its own single call would have returned, and none is executed twice, lost or
//! reordered.

mod coalescing;
mod failures;
mod imports;
mod order;
mod requests;
mod sending;

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Latency, Limits, Options};
use serde_json::Value as Json;

use crate::harness::World;

const UPDATE_V2: &str = "Lead/Bulk/UpdateV2";
const BY_IDS: &str = "Leads/Retrieve/ByIds";
const SETTINGS: &str = "[tenant_defaults.limits]\ncalls = 2\nbulk = 1\nwindow = \"300ms\"\n\
                        [tenant_defaults.upstream]\ntimeout = \"1s\"\n";
const ALL_LANES: &str = "[tenant_defaults.batching]\ncreates = true\nupserts = true\nactivities = true\n";

/// Two calls in 300 ms, one of them a bulk call: from the third call on, calls wait, and waiting calls form batches.
fn options() -> Options {
    Options {
        limits: Limits {
            calls: 2,
            bulk: 1,
            per: Duration::from_millis(300),
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(2),
            max: Duration::from_millis(5),
        },
        ..Options::default()
    }
}

async fn world(settings: &str) -> World {
    World::with(options(), &format!("{SETTINGS}{settings}"))
        .await
        .warm()
        .await
}

fn update_of(id: &str, city: &str) -> pb::UpdateLeadRequest {
    pb::UpdateLeadRequest {
        lead_id: id.to_owned(),
        lead: Some(pb::LeadFields {
            city: Some(city.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// An update of each of these leads.
fn updates_of(ids: &[String], city: &str) -> Vec<pb::UpdateLeadRequest> {
    ids.iter().map(|id| update_of(id, city)).collect()
}

/// The ids in each call to that endpoint, in order.
fn ids_in(world: &World, endpoint: &str) -> Vec<Vec<String>> {
    let calls = world.calls(endpoint).into_iter().map(|call| {
        let body: Json = serde_json::from_str(&call.body).unwrap();
        let rows = body["LeadPropertiesList"].as_array().unwrap().clone();
        let id = |row: Json| row["Fields"][0]["Value"].as_str().unwrap().to_owned();
        rows.into_iter().map(id).collect()
    });
    calls.collect()
}

/// The number of calls that wait for the quota.
async fn waiting(world: &World) -> usize {
    let metrics = world.page("/metrics").await.1;
    let counts = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("leadgate_quota_waiting{"));
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}
