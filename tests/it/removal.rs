//! Leads that are deleted and merged, as their callers see it.

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{World, by_id, seen};

const DELETE: &str = "Lead/Delete/ById";
const MERGE: &str = "Lead.Merge";

/// An account that may delete leads.
async fn world() -> World {
    let options = Options {
        delete_enabled: true,
        ..Options::default()
    };
    World::with(options, "[tenant_defaults.upstream]\ntimeout = \"1s\"")
        .await
        .warm()
        .await
}

fn insert(world: &World, name: &str) -> String {
    world.simulator.insert_lead(&[("FirstName", name)])
}

async fn delete(world: &World, lead_id: &str, request_id: &str) -> Result<(), Status> {
    let request = pb::DeleteLeadRequest {
        lead_id: lead_id.into(),
        request_id: request_id.into(),
    };
    world.client.clone().delete_lead(request).await.map(drop)
}

async fn merge(world: &World, lead_id: &str, merged_lead_id: &str, request_id: &str) -> Result<(), Status> {
    let request = pb::MergeLeadsRequest {
        lead_id: lead_id.into(),
        merged_lead_id: merged_lead_id.into(),
        request_id: request_id.into(),
    };
    world.client.clone().merge_leads(request).await.map(drop)
}

#[tokio::test]
async fn a_deleted_lead_is_gone() {
    let world = world().await;
    let (id, other) = (insert(&world, "Ann"), insert(&world, "Bob"));
    delete(&world, &id, "").await.unwrap();
    seen(world.get(by_id(&id)).await.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND");
    assert_eq!(world.get(by_id(&other)).await.unwrap().lead_id, other);
    seen(delete(&world, &id, "").await.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND");
}

#[tokio::test]
async fn an_account_for_which_it_was_not_enabled_may_not_delete() {
    let world = World::start().await.warm().await;
    let id = insert(&world, "Ann");
    let error = seen(delete(&world, &id, "").await.unwrap_err());
    error.is(Code::FailedPrecondition, "UPSTREAM_FEATURE_DISABLED");
    assert_eq!(world.simulator.leads().len(), 1);
    assert_eq!(world.calls(DELETE).len(), 1);
}

#[tokio::test]
async fn the_same_request_id_deletes_once_and_gets_the_same_answer() {
    let world = world().await;
    let id = insert(&world, "Ann");
    let request_id = Uuid::new_v4().to_string();
    for _ in 0..2 {
        delete(&world, &id, &request_id).await.unwrap();
    }
    assert_eq!(world.calls(DELETE).len(), 1);
    let error = seen(delete(&world, "another", &request_id).await.unwrap_err());
    assert_eq!(error.fields(), ["request_id"]);
    let error = seen(merge(&world, &id, "another", &request_id).await.unwrap_err());
    assert_eq!(error.fields(), ["request_id"]);
}

#[tokio::test]
async fn a_delete_whose_answer_is_lost_is_settled_by_a_look() {
    for (what, sends) in [
        (FaultKind::CommitThenDrop, 1),
        (FaultKind::GarbageJson, 1),
        (FaultKind::DropBefore, 2),
        (FaultKind::Html502, 2),
    ] {
        let world = world().await;
        let id = insert(&world, "Ann");
        world.simulator.add_fault(Fault::new(DELETE, what.clone())).unwrap();
        delete(&world, &id, "").await.unwrap();
        assert!(world.simulator.leads().is_empty());
        assert_eq!(world.calls(DELETE).len(), sends, "{what:?}");
        assert_eq!(world.calls("Leads.GetById").len(), 1, "{what:?}");
    }
}

#[tokio::test]
async fn a_delete_that_keeps_getting_lost_is_sent_twice_and_settled_when_it_is_repeated() {
    let world = world().await;
    let id = insert(&world, "Ann");
    let request_id = Uuid::new_v4().to_string();
    world
        .simulator
        .add_fault(Fault::new(DELETE, FaultKind::DropBefore).times(10))
        .unwrap();
    let error = seen(delete(&world, &id, &request_id).await.unwrap_err());
    error.is_settled_by_repeating();
    assert_eq!(world.calls(DELETE).len(), 2);
    world.simulator.clear_faults();
    world.simulator.delete_lead(&id);
    delete(&world, &id, &request_id).await.unwrap();
    assert_eq!(world.calls(DELETE).len(), 2);
}

#[tokio::test]
async fn a_look_that_fails_proves_nothing() {
    let world = world().await;
    let id = insert(&world, "Ann");
    world
        .simulator
        .add_fault(Fault::new(DELETE, FaultKind::CommitThenDrop))
        .unwrap();
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::Empty500).times(10))
        .unwrap();
    let error = seen(delete(&world, &id, "").await.unwrap_err());
    error.is_settled_by_hand("look for the lead in LeadSquared");
    assert_eq!(world.calls(DELETE).len(), 1);
}

#[tokio::test]
async fn a_merged_lead_goes_into_the_other() {
    let world = world().await;
    let (stays, goes) = (insert(&world, "Ann"), insert(&world, "Anna"));
    let request_id = Uuid::new_v4().to_string();
    for _ in 0..2 {
        merge(&world, &stays, &goes, &request_id).await.unwrap();
    }
    assert_eq!(world.calls(MERGE).len(), 1);
    assert_eq!(world.get(by_id(&stays)).await.unwrap().lead_id, stays);
    seen(world.get(by_id(&goes)).await.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND");
}

#[tokio::test]
async fn a_merge_needs_both_leads() {
    let world = world().await;
    let (id, nobody) = (insert(&world, "Ann"), Uuid::new_v4().to_string());
    for (stays, goes) in [(&id, &nobody), (&nobody, &id)] {
        let error = seen(merge(&world, stays, goes, "").await.unwrap_err());
        error.is(Code::NotFound, "LEAD_NOT_FOUND");
    }
    assert_eq!(world.simulator.leads().len(), 1);
}

#[tokio::test]
async fn a_merge_whose_answer_is_lost_is_settled_by_a_look_at_both() {
    for (what, sends, looks) in [(FaultKind::CommitThenDrop, 1, 2), (FaultKind::DropBefore, 2, 1)] {
        let world = world().await;
        let (stays, goes) = (insert(&world, "Ann"), insert(&world, "Anna"));
        world.simulator.add_fault(Fault::new(MERGE, what.clone())).unwrap();
        merge(&world, &stays, &goes, "").await.unwrap();
        assert_eq!(world.simulator.leads().len(), 1);
        assert_eq!(world.calls(MERGE).len(), sends, "{what:?}");
        assert_eq!(world.calls("Leads.GetById").len(), looks, "{what:?}");
    }
}

#[tokio::test]
async fn a_lost_merge_into_nobody_is_not_found() {
    let world = world().await;
    let (id, nobody) = (insert(&world, "Ann"), Uuid::new_v4().to_string());
    world
        .simulator
        .add_fault(Fault::new(MERGE, FaultKind::DropBefore))
        .unwrap();
    let error = seen(merge(&world, &nobody, &id, "").await.unwrap_err());
    error.is(Code::NotFound, "LEAD_NOT_FOUND");
    assert_eq!(world.simulator.leads().len(), 1);

    // Neither is there: whatever became of the child, it did not go into this one.
    world.simulator.delete_lead(&id);
    world
        .simulator
        .add_fault(Fault::new(MERGE, FaultKind::DropBefore))
        .unwrap();
    let error = seen(merge(&world, &nobody, &id, "").await.unwrap_err());
    error.is(Code::NotFound, "LEAD_NOT_FOUND");
}

#[tokio::test]
async fn faults_of_removals_are_told_at_once_and_cost_nothing() {
    let world = world().await;
    let error = seen(merge(&world, "", "not an id", "x").await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["request_id", "lead_id", "merged_lead_id"]);
    let error = seen(merge(&world, "a-1", "A-1", "").await.unwrap_err());
    assert_eq!(error.fields(), ["merged_lead_id"]);
    let error = seen(delete(&world, "not an id", "x").await.unwrap_err());
    assert_eq!(error.fields(), ["request_id", "lead_id"]);
    assert!(world.simulator.calls().is_empty());
}
