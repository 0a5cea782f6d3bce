//! Batches that fail as a whole or in part, and batches without a response.

use std::collections::BTreeSet;

use leadgate_simulator::{Fault, FaultKind};
use tonic::Code;
use uuid::Uuid;

use super::{ALL_LANES, BY_IDS, UPDATE_V2, ids_in, update_of, updates_of, world};
use crate::harness::{lead, seen};

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_is_halved_until_the_cause_is_alone() {
    let world = world("").await;
    let ids = world.insert_leads(20);
    let refusal = FaultKind::Respond {
        status: 500,
        body: r#"{"Status":"Error","ExceptionType":"MXInvalidInputException","ExceptionMessage":"Nonsense"}"#.into(),
        content_type: None,
        commit: false,
    };
    // The first three calls have all updates, the first half, and the first quarter.
    world
        .simulator
        .add_fault(Fault::new(UPDATE_V2, refusal).times(3))
        .unwrap();
    for result in world.update_all(updates_of(&ids, "Pune")).await {
        assert_eq!(result.unwrap(), 1);
    }
    let sizes: Vec<_> = ids_in(&world, UPDATE_V2).iter().map(Vec::len).collect();
    assert_eq!(sizes[1], sizes[0].div_ceil(2), "{sizes:?}");
    assert_eq!(sizes[2], sizes[1].div_ceil(2), "{sizes:?}");
    for id in &ids {
        assert_eq!(world.value_of(id, "mx_City").as_deref(), Some("Pune"));
    }
    let metrics = world.page("/metrics").await.1;
    assert!(
        metrics.contains("leadgate_batch_bisections_total{tenant=\"acme\",lane=\"updates\"} 3"),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_the_bulk_endpoint_updates_are_sent_one_by_one_and_it_is_not_tried_again() {
    let world = world("").await;
    let ids = world.insert_leads(12);
    let missing = FaultKind::Respond {
        status: 404,
        body: "Endpoint not found.".into(),
        content_type: None,
        commit: false,
    };
    world
        .simulator
        .add_fault(Fault::new(UPDATE_V2, missing).times(100))
        .unwrap();
    for _ in 0..2 {
        for result in world.update_all(updates_of(&ids[..6], "Pune")).await {
            assert_eq!(result.unwrap(), 1);
        }
    }
    // The whole batch and both halves, since one of the updates might have caused the failure.
    assert_eq!(
        (world.calls(UPDATE_V2).len(), world.calls("Lead.Update").len()),
        (3, 12)
    );
}

#[tokio::test]
async fn a_member_that_fails_gets_its_own_error_and_the_others_succeed() {
    let world = world("").await;
    let ids = world.insert_leads(12);
    let unknown = Uuid::new_v4().to_string();
    let mut updates = updates_of(&ids, "Pune");
    updates.insert(5, update_of(&unknown, "Pune"));
    // The email address of another lead.
    let mut clash = update_of(&ids[7], "Pune");
    clash.lead.as_mut().unwrap().email_address = Some("lead-0@example.com".into());
    updates[8] = clash;
    let results = world.update_all(updates).await;
    for (at, result) in results.into_iter().enumerate() {
        match (at, result) {
            (5, result) => seen(result.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND"),
            (8, result) => seen(result.unwrap_err()).is(Code::AlreadyExists, "LEAD_DUPLICATE"),
            (_, result) => assert_eq!(result.unwrap(), 1),
        }
    }
}

#[tokio::test]
async fn each_update_of_a_batch_without_a_response_is_reconciled_and_none_is_executed_twice() {
    for what in [
        FaultKind::CommitThenDrop,
        FaultKind::GarbageJson,
        FaultKind::Respond {
            status: 200,
            body: r#"{"Status":{"TotalCount":9},"Details":{"SuccessfulLeads":[{"Identifier":"ProspectId"}]}}"#.into(),
            content_type: None,
            commit: true,
        },
    ] {
        let world = world("").await;
        let ids = world.insert_leads(10);
        world.simulator.add_fault(Fault::new(UPDATE_V2, what.clone())).unwrap();
        for result in world.update_all(updates_of(&ids, "Pune")).await {
            assert_eq!(result.unwrap(), 1, "{what:?}");
        }
        let sent: Vec<_> = ids_in(&world, UPDATE_V2).concat();
        let alone = world.calls("Lead.Update").len();
        assert_eq!(sent.len() + alone, 10, "{what:?}: {sent:?}");
        // The leads are looked up, in a batch too.
        assert!(!world.calls(BY_IDS).is_empty(), "{what:?}");
    }
}

#[tokio::test]
async fn each_create_of_a_batch_without_a_response_is_found_and_executed_once() {
    for what in [FaultKind::CommitThenDrop, FaultKind::DropBefore] {
        let world = world(ALL_LANES).await;
        world
            .simulator
            .add_fault(Fault::new("Lead/Bulk/Create", what.clone()))
            .unwrap();
        let leads = (0..12).map(|n| lead(&format!("Asha{n}"))).collect();
        let created: BTreeSet<_> = world.create_all(leads).await.into_iter().map(Result::unwrap).collect();
        let existing: BTreeSet<_> = world
            .simulator
            .leads()
            .into_iter()
            .map(|lead| lead["ProspectID"].clone().unwrap())
            .collect();
        assert_eq!(created.len(), 12, "{what:?}");
        assert_eq!(created, existing, "{what:?}");
    }
}
