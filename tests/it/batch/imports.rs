//! The ImportLeads RPC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadgate::grpc::pb;
use pb::import_leads_request::Operation;

use super::{options, update_of, world};
use crate::harness::{World, lead};

#[tokio::test]
async fn an_import_returns_a_result_for_each_row_and_counts_in_its_trailers() {
    let world = world("[tenant_defaults.batching]\nimport_window = 40\n").await;
    let ids = world.insert_leads(1);
    let rows = (0..130).map(move |sequence| {
        let operation = match sequence {
            5 => None,
            6 => Some(Operation::Update(update_of(&ids[0], "Pune"))),
            7 => Some(Operation::Upsert(pb::UpsertLeadRequest {
                lead: Some(lead("lead-0")),
                ..Default::default()
            })),
            8 => Some(Operation::Create(pb::CreateLeadRequest {
                lead: Some(lead("lead-0")),
                ..Default::default()
            })),
            _ => Some(Operation::Create(pb::CreateLeadRequest {
                lead: Some(lead(&format!("Asha{sequence}"))),
                ..Default::default()
            })),
        };
        pb::ImportLeadsRequest { sequence, operation }
    });
    let mut responses = world
        .client
        .clone()
        .import_leads(tokio_stream::iter(rows))
        .await
        .unwrap()
        .into_inner();
    let mut received = BTreeMap::new();
    while let Some(response) = responses.message().await.unwrap() {
        assert!(received.insert(response.sequence, response.result.unwrap()).is_none());
    }
    assert_eq!(received.len(), 130);
    for (sequence, result) in &received {
        match (sequence, result) {
            (5, pb::import_leads_response::Result::Error(error)) => assert_eq!(error.code, 3),
            (8, pb::import_leads_response::Result::Error(error)) => assert_eq!(error.code, 6),
            (6 | 7, pb::import_leads_response::Result::Response(lead)) => {
                assert_eq!(lead.outcome(), pb::UpsertOutcome::Updated);
            }
            (_, pb::import_leads_response::Result::Response(lead)) => {
                assert_eq!(lead.outcome(), pb::UpsertOutcome::Created);
            }
            other => panic!("{other:?}"),
        }
    }
    let trailers = responses.trailers().await.unwrap().unwrap();
    let count = |name: &str| trailers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(count("x-leadgate-import-received"), "130");
    assert_eq!(count("x-leadgate-import-succeeded"), "128");
    assert_eq!(count("x-leadgate-import-failed"), "2");
    assert!(
        world
            .calls("Lead/Bulk/Create")
            .iter()
            .all(|call| call.body.matches("EmailAddress").count() <= 50)
    );
}

#[tokio::test]
async fn an_import_reads_no_further_than_its_responses_are_received() {
    let mut options = options();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    let settings =
        "[tenant_defaults.limits]\ncalls = 10000\nbulk = 10000\n[tenant_defaults.batching]\nimport_window = 20\n";
    let world = World::with(options, settings).await.warm().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = sent.clone();
    // None of the rows is valid, so the responses are long and cost nothing.
    let rows = (0..30_000).map(move |sequence| {
        counting.fetch_add(1, Ordering::Relaxed);
        let lead = pb::LeadFields {
            notes: Some("x".repeat(2_000)),
            ..Default::default()
        };
        let create = pb::CreateLeadRequest {
            lead: Some(lead),
            ..Default::default()
        };
        pb::ImportLeadsRequest {
            sequence,
            operation: Some(Operation::Create(create)),
        }
    });
    let mut responses = world
        .client
        .clone()
        .import_leads(tokio_stream::iter(rows))
        .await
        .unwrap()
        .into_inner();
    // No response is received: the import stops once the buffers of both sides are full.
    let (mut unchanged, mut before) = (0, 0);
    while unchanged < 10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = sent.load(Ordering::Relaxed);
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
    assert!((20..20_000).contains(&before), "{before} rows were sent");
    let mut received = 0;
    while responses.message().await.unwrap().is_some() {
        received += 1;
    }
    assert_eq!((received, sent.load(Ordering::Relaxed)), (30_000, 30_000));
}
