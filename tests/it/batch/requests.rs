//! The batch RPCs of LeadService.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind};
use tonic::Code;
use uuid::Uuid;

use super::{update_of, world};
use crate::harness::{World, lead, seen, within};

#[tokio::test]
async fn a_batch_rpc_of_creates_uses_the_bulk_endpoint_and_returns_each_result_in_order() {
    let world = world("").await;
    world.insert_leads(1);
    let create = |name: &str| pb::CreateLeadRequest {
        lead: Some(lead(name)),
        ..Default::default()
    };
    let mut requests: Vec<_> = (0..120).map(|n| create(&format!("Asha{n}"))).collect();
    requests[17] = pb::CreateLeadRequest::default();
    requests[60] = create("lead-0");
    let message = pb::BatchCreateLeadsRequest {
        requests,
        request_id: Uuid::new_v4().to_string(),
    };
    let results = world
        .client
        .clone()
        .batch_create_leads(message.clone())
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(results.len(), 120);
    for (at, result) in results.iter().enumerate() {
        match (at, result.result.as_ref().unwrap()) {
            (17, pb::batch_create_leads_result::Result::Error(error)) => assert_eq!(error.code, 3),
            (60, pb::batch_create_leads_result::Result::Error(error)) => assert_eq!(error.code, 6),
            (_, pb::batch_create_leads_result::Result::Response(response)) => {
                let email = format!("asha{at}@example.com");
                assert_eq!(world.value_of(&response.lead_id, "EmailAddress"), Some(email));
            }
            (at, other) => panic!("{at}: {other:?}"),
        }
    }
    // 118 leads and a duplicate are sent in bulk calls. A single call might run automations.
    assert_eq!(world.calls("Lead.Create").len(), 0);
    assert!(world.calls("Lead/Bulk/Create").len() <= 5);
    assert_eq!(world.simulator.leads().len(), 119);

    // A repeated message is answered from the store. Another message with the same request id is an error.
    world.simulator.forget_calls();
    let again = world
        .client
        .clone()
        .batch_create_leads(message.clone())
        .await
        .unwrap()
        .into_inner()
        .results;
    let ids = |results: &[pb::BatchCreateLeadsResult]| -> Vec<_> {
        let lead_id = |result: &pb::BatchCreateLeadsResult| match result.result.as_ref() {
            Some(pb::batch_create_leads_result::Result::Response(response)) => response.lead_id.clone(),
            _ => String::new(),
        };
        results.iter().map(lead_id).collect()
    };
    assert_eq!(ids(&again), ids(&results));
    assert_eq!(world.simulator.calls().len(), 0);
    let mut other = message;
    other.requests.pop();
    let status = world.client.clone().batch_create_leads(other).await.unwrap_err();
    seen(status).is(Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn a_batch_rpc_has_a_minimum_and_a_maximum_size() {
    let world = world("[tenant_defaults.batching]\nmax_requests = 3\n").await;
    for count in [0, 4] {
        let message = pb::BatchUpdateLeadsRequest {
            requests: vec![update_of("x", "Pune"); count],
            request_id: "no uuid".to_owned(),
        };
        let status = world.client.clone().batch_update_leads(message).await.unwrap_err();
        assert_eq!(seen(status).fields(), ["request_id", "requests"]);
    }
    assert_eq!(world.simulator.calls().len(), 0);
}

#[tokio::test]
async fn a_batch_rpc_of_upserts_reports_which_leads_were_created() {
    let world = world("").await;
    world.insert_leads(2);
    let upsert = |name: &str| pb::UpsertLeadRequest {
        lead: Some(lead(name)),
        ..Default::default()
    };
    let message = pb::BatchUpsertLeadsRequest {
        requests: vec![upsert("lead-0"), upsert("Asha"), upsert("lead-1"), upsert("Asha")],
        ..Default::default()
    };
    let results = world
        .client
        .clone()
        .batch_upsert_leads(message)
        .await
        .unwrap()
        .into_inner()
        .results;
    let outcomes: Vec<_> = results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            pb::batch_upsert_leads_result::Result::Response(response) => response.outcome(),
            other => panic!("{other:?}"),
        })
        .collect();
    use pb::UpsertOutcome::{Created, Updated};
    // The last upsert has the same email address as the second, so it is executed after it.
    assert_eq!(outcomes, [Updated, Created, Updated, Updated]);
    assert_eq!(
        world.calls("Lead/Bulk/CreateOrUpdate").len(),
        2,
        "the other upserts are one call"
    );
    assert_eq!(world.calls("Lead.CreateOrUpdate").len(), 0);
}

/// A batch of creates with this request id.
fn creates(request_id: Uuid, names: &[&str]) -> pb::BatchCreateLeadsRequest {
    let create = |name: &&str| pb::CreateLeadRequest {
        lead: Some(lead(name)),
        ..Default::default()
    };
    pb::BatchCreateLeadsRequest {
        requests: names.iter().map(create).collect(),
        request_id: request_id.to_string(),
    }
}

#[tokio::test]
async fn the_request_id_of_a_batch_rpc_stands_for_one_message_from_its_first_call_on() {
    let world = World::start().await.warm().await;
    let mut client = world.client.clone();
    let id = Uuid::new_v4();
    let by = Duration::from_millis(700);
    world
        .simulator
        .add_fault(Fault::new("*", FaultKind::Delay { by }))
        .unwrap();
    let request = within(Duration::from_millis(250), creates(id, &["Asha", "Ben"]));
    let results = client.batch_create_leads(request).await;
    // Its rows were sent, and their outcome is unknown when the deadline passes.
    assert!(results.is_err() || results.is_ok_and(|response| !response.into_inner().results.is_empty()));
    let other = client.batch_create_leads(creates(id, &["Asha", "Ben", "Carl"])).await;
    seen(other.unwrap_err()).is(Code::InvalidArgument, "INVALID_FIELD");
    let again = client.batch_create_leads(creates(id, &["Asha", "Ben"])).await;
    let results = again.unwrap().into_inner().results;
    let is_done = |result: &pb::BatchCreateLeadsResult| {
        matches!(result.result, Some(pb::batch_create_leads_result::Result::Response(_)))
    };
    assert!(results.len() == 2 && results.iter().all(is_done), "{results:?}");
    assert_eq!(world.simulator.leads().len(), 2);
}
