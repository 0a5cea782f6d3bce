//! Writes whose answers get lost: nothing is done twice, and nothing is guessed.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{World, by_id, lead, lone_read, seen, within};

const HANG: FaultKind = FaultKind::CommitThenHang {
    lasting: Duration::from_secs(60),
};

async fn world() -> World {
    World::with(Options::default(), "[tenant_defaults.upstream]\ntimeout = \"1s\"")
        .await
        .warm()
        .await
}

async fn upsert(world: &World, lead: pb::LeadFields) -> Result<String, Status> {
    let request = pb::UpsertLeadRequest {
        lead: Some(lead),
        ..Default::default()
    };
    Ok(world.client.clone().upsert_lead(request).await?.into_inner().lead_id)
}

/// A lead that nobody has touched for long.
fn old_lead(world: &World) -> String {
    world.simulator.insert_lead(&[
        ("EmailAddress", "asha@example.com"),
        ("FirstName", "Asha"),
        ("CreatedOn", "2020-01-01 00:00:00"),
        ("ModifiedOn", "2020-01-01 00:00:00"),
    ])
}

/// The same person, now in Pune.
fn moved() -> pb::LeadFields {
    pb::LeadFields {
        city: Some("Pune".into()),
        ..lead("Asha")
    }
}

async fn update(world: &World, lead_id: String, run_automations: bool) -> Result<i32, Status> {
    let request = pb::UpdateLeadRequest {
        lead_id,
        lead: Some(moved()),
        run_automations,
        ..Default::default()
    };
    Ok(world
        .client
        .clone()
        .update_lead(request)
        .await?
        .into_inner()
        .affected_rows)
}

fn create_with(id: Uuid, name: &str) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(lead(name)),
        request_id: id.to_string(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_create_that_was_executed_is_found_and_not_sent_again() {
    for what in [FaultKind::CommitThenDrop, HANG] {
        let world = world().await;
        world.simulator.add_fault(Fault::new("Lead.Create", what)).unwrap();
        let id = world.create(lead("Asha")).await.unwrap();
        assert_eq!(world.simulator.leads()[0]["ProspectID"].as_deref(), Some(id.as_str()));
        assert_eq!(world.calls("Lead.Create").len(), 1);
        assert_eq!(world.calls("Leads.GetByEmailaddress").len(), 1);
    }
}

#[tokio::test]
async fn a_create_that_was_not_executed_is_sent_again() {
    for what in [FaultKind::DropBefore, FaultKind::Html502, FaultKind::Empty500] {
        let world = world().await;
        world.simulator.add_fault(Fault::new("Lead.Create", what)).unwrap();
        let id = world.create(lead("Asha")).await.unwrap();
        assert_eq!(world.get(by_id(&id)).await.unwrap().lead_id, id);
        assert_eq!(world.simulator.leads().len(), 1);
        let endpoints: Vec<_> = world.simulator.calls().into_iter().map(|call| call.endpoint).collect();
        assert_eq!(
            endpoints[..3],
            ["Lead.Create", "Leads.GetByEmailaddress", "Lead.Create"]
        );
    }
}

#[tokio::test]
async fn a_lead_that_was_there_before_is_not_taken_for_ours() {
    let world = world().await;
    let other = world.simulator.insert_lead(&[
        ("EmailAddress", "asha@example.com"),
        ("FirstName", "Asha"),
        ("CreatedOn", "2020-01-01 00:00:00"),
    ]);
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::DropBefore))
        .unwrap();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    assert_eq!(error.details.resource_info().unwrap().resource_name, other);
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn a_fresh_lead_with_other_values_may_be_anybodys() {
    let world = world().await;
    world
        .simulator
        .insert_lead(&[("EmailAddress", "asha@example.com"), ("FirstName", "Somebody")]);
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::DropBefore))
        .unwrap();
    seen(world.create(lead("Asha")).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn a_lead_without_a_date_is_judged_by_its_values() {
    for (name, found) in [("Asha", true), ("Somebody", false)] {
        let world = world().await;
        world
            .simulator
            .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
            .unwrap();
        let row = serde_json::json!([{"ProspectID": "the-id", "EmailAddress": "asha@example.com", "FirstName": name}]);
        let looked_up = FaultKind::Respond {
            status: 200,
            body: row.to_string(),
            content_type: None,
            commit: false,
        };
        world
            .simulator
            .add_fault(Fault::new("Leads.GetByEmailaddress", looked_up))
            .unwrap();
        match world.create(lead("Asha")).await {
            Ok(id) => assert!(found && id == "the-id", "{id}"),
            Err(error) => {
                assert!(!found);
                seen(error).is(Code::Aborted, "OUTCOME_UNKNOWN");
            }
        }
    }
}

#[tokio::test]
async fn a_create_by_phone_is_found_by_phone() {
    let world = world().await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
        .unwrap();
    let by_phone = pb::LeadFields {
        first_name: Some("Asha".into()),
        phone: Some("9845098450".into()),
        ..Default::default()
    };
    world.create(by_phone).await.unwrap();
    assert_eq!(world.simulator.leads().len(), 1);
    assert_eq!(world.calls("RetrieveLeadByPhoneNumber").len(), 1);
}

#[tokio::test]
async fn an_upsert_is_settled_by_what_the_lead_holds() {
    for what in [FaultKind::CommitThenDrop, FaultKind::DropBefore, HANG] {
        let world = world().await;
        let id = old_lead(&world);
        world
            .simulator
            .add_fault(Fault::new("Lead.CreateOrUpdate", what.clone()))
            .unwrap();
        assert_eq!(upsert(&world, moved()).await.unwrap(), id);
        assert_eq!(world.simulator.leads()[0]["mx_City"].as_deref(), Some("Pune"));
        let sends = if what == FaultKind::DropBefore { 2 } else { 1 };
        assert_eq!(world.calls("Lead.CreateOrUpdate").len(), sends, "{what:?}");
    }
}

#[tokio::test]
async fn an_update_is_settled_by_what_the_lead_holds() {
    for what in [FaultKind::CommitThenDrop, FaultKind::DropBefore] {
        let world = world().await;
        let lead_id = old_lead(&world);
        world
            .simulator
            .add_fault(Fault::new("Lead.Update", what.clone()))
            .unwrap();
        assert_eq!(update(&world, lead_id, false).await.unwrap(), 1);
        assert_eq!(world.simulator.leads()[0]["mx_City"].as_deref(), Some("Pune"));
        let sends = if what == FaultKind::DropBefore { 2 } else { 1 };
        assert_eq!(world.calls("Lead.Update").len(), sends, "{what:?}");
    }
}

#[tokio::test]
async fn a_later_write_waits_until_it_is_known_what_became_of_an_earlier_one() {
    let world = world().await;
    let lead_id = old_lead(&world);
    world
        .simulator
        .add_fault(Fault::new("Lead.Update", FaultKind::CommitThenDrop))
        .unwrap();
    let by = Duration::from_millis(300);
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::Delay { by }))
        .unwrap();
    let first = tokio::spawn({
        let (mut client, lead_id) = (world.client.clone(), lead_id.clone());
        async move {
            let request = pb::UpdateLeadRequest {
                lead_id,
                lead: Some(moved()),
                ..Default::default()
            };
            client.update_lead(request).await
        }
    });
    let sent = async {
        while world.calls("Lead.Update").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), sent).await.unwrap();
    let newer = pb::UpdateLeadRequest {
        lead_id,
        lead: Some(pb::LeadFields {
            city: Some("Delhi".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    world.client.clone().update_lead(newer).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().into_inner().affected_rows, 1);
    assert_eq!(world.simulator.leads()[0]["mx_City"].as_deref(), Some("Delhi"));
    let order: Vec<_> = world.simulator.calls().into_iter().map(|call| call.endpoint).collect();
    assert_eq!(order, ["Lead.Update", "Leads.GetById", "Lead.Update"]);
}

#[tokio::test]
async fn what_somebody_has_changed_meanwhile_is_not_overwritten() {
    let world = world().await;
    let lead_id = old_lead(&world);
    world
        .simulator
        .add_fault(Fault::new("Lead.Update", FaultKind::CommitThenDrop))
        .unwrap();
    // The look at the lead comes late, and somebody else was there before it.
    let by = Duration::from_millis(500);
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::Delay { by }))
        .unwrap();
    let mut client = world.client.clone();
    let id = lead_id.clone();
    let writing = tokio::spawn(async move {
        let request = pb::UpdateLeadRequest {
            lead_id: id,
            lead: Some(moved()),
            ..Default::default()
        };
        client.update_lead(request).await
    });
    let looked = async {
        while world.calls("Lead.Update").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), looked).await.unwrap();
    // Past the gateway, which would keep the order.
    let changed = [
        ("ProspectID", lead_id.as_str()),
        ("EmailAddress", "asha@example.com"),
        ("mx_City", "Delhi"),
    ];
    world.simulator.insert_lead(&changed);
    seen(writing.await.unwrap().unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert_eq!(world.simulator.leads()[0]["mx_City"].as_deref(), Some("Delhi"));
}

#[tokio::test]
async fn what_runs_automations_is_never_sent_twice() {
    let world = world().await;
    let lead_id = old_lead(&world);
    world
        .simulator
        .add_fault(Fault::new("Lead.Update", FaultKind::DropBefore))
        .unwrap();
    let error = seen(update(&world, lead_id, true).await.unwrap_err());
    error.is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert_eq!(world.calls("Lead.Update").len(), 1);
}

#[tokio::test]
async fn a_create_that_nothing_keeps_from_being_done_twice_is_not_sent_again() {
    let settings = "[tenant_defaults.writes]\nunique = [\"EmailAddress\"]";
    let world = World::with(Options::default(), settings).await.warm().await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::DropBefore))
        .unwrap();
    let by_phone = pb::LeadFields {
        phone: Some("9845098450".into()),
        ..Default::default()
    };
    seen(world.create(by_phone).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn a_capture_of_a_known_lead_is_never_sent_twice() {
    let world = world().await;
    world.simulator.insert_lead(&[
        ("EmailAddress", "asha@example.com"),
        ("CreatedOn", "2020-01-01 00:00:00"),
    ]);
    world
        .simulator
        .add_fault(Fault::new("Lead.Capture", FaultKind::DropBefore))
        .unwrap();
    let request = pb::CaptureLeadRequest {
        lead: Some(lead("Asha")),
        ..Default::default()
    };
    let error = seen(world.client.clone().capture_lead(request).await.unwrap_err());
    error.is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert_eq!(world.calls("Lead.Capture").len(), 1);
}

#[tokio::test]
async fn a_capture_that_made_a_lead_is_found() {
    let world = world().await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Capture", FaultKind::CommitThenDrop))
        .unwrap();
    let request = pb::CaptureLeadRequest {
        lead: Some(lead("Asha")),
        ..Default::default()
    };
    let answer = world.client.clone().capture_lead(request).await.unwrap().into_inner();
    assert!(answer.created);
    assert_eq!(world.calls("Lead.Capture").len(), 1);
}

#[tokio::test]
async fn a_write_that_stays_lost_is_aborted_and_settled_when_it_is_repeated() {
    let world = world().await;
    let id = Uuid::new_v4();
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
        .unwrap();
    world
        .simulator
        .add_fault(Fault::new("Leads.GetByEmailaddress", FaultKind::Empty500).times(10))
        .unwrap();
    let error = seen(
        world
            .client
            .clone()
            .create_lead(create_with(id, "Asha"))
            .await
            .unwrap_err(),
    );
    error.is(Code::Aborted, "OUTCOME_UNKNOWN");

    world.simulator.clear_faults();
    let lead_id = world
        .client
        .clone()
        .create_lead(create_with(id, "Asha"))
        .await
        .unwrap()
        .into_inner()
        .lead_id;
    assert_eq!(
        world.simulator.leads()[0]["ProspectID"].as_deref(),
        Some(lead_id.as_str())
    );
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn the_same_request_id_has_one_effect() {
    let world = world().await;
    let id = Uuid::new_v4();
    let (mut a, mut b) = (world.client.clone(), world.client.clone());
    let (first, second) = tokio::join!(
        a.create_lead(create_with(id, "Asha")),
        b.create_lead(create_with(id, "Asha"))
    );
    assert_eq!(first.unwrap().into_inner(), second.unwrap().into_inner());
    assert_eq!(world.calls("Lead.Create").len(), 1);

    let error = seen(
        world
            .client
            .clone()
            .create_lead(create_with(id, "Ben"))
            .await
            .unwrap_err(),
    );
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["request_id"]);
}

#[tokio::test]
async fn a_duplicate_is_the_same_answer_to_the_same_request_id() {
    let world = world().await;
    let other = world.create(lead("Asha")).await.unwrap();
    let id = Uuid::new_v4();
    for _ in 0..2 {
        let error = seen(
            world
                .client
                .clone()
                .create_lead(create_with(id, "Asha"))
                .await
                .unwrap_err(),
        );
        error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
        world.simulator.delete_lead(&other);
    }
}

#[tokio::test]
async fn a_write_goes_on_without_its_caller_and_its_answer_is_kept() {
    let world = world().await;
    let id = Uuid::new_v4();
    world
        .simulator
        .add_fault(Fault::new(
            "Lead.Create",
            FaultKind::Delay {
                by: Duration::from_millis(700),
            },
        ))
        .unwrap();
    let request = within(Duration::from_millis(300), create_with(id, "Asha"));
    let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
    error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");

    let lead_id = world
        .client
        .clone()
        .create_lead(create_with(id, "Asha"))
        .await
        .unwrap()
        .into_inner()
        .lead_id;
    assert_eq!(
        world.simulator.leads()[0]["ProspectID"].as_deref(),
        Some(lead_id.as_str())
    );
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn a_write_under_way_is_finished_when_the_gateway_is_told_to_stop() {
    let world = world().await;
    world
        .simulator
        .add_fault(Fault::new(
            "Lead.Create",
            FaultKind::Delay {
                by: Duration::from_millis(400),
            },
        ))
        .unwrap();
    let mut client = world.client.clone();
    let writing = tokio::spawn(async move {
        let request = pb::CreateLeadRequest {
            lead: Some(lead("Asha")),
            ..Default::default()
        };
        client.create_lead(request).await
    });
    let asked = async {
        while world.calls("Lead.Create").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap();
    world.tell_to_stop();
    assert!(!writing.await.unwrap().unwrap().into_inner().lead_id.is_empty());
    let simulator = world.simulator.clone();
    world.stop().await;
    assert_eq!(simulator.leads().len(), 1);
}

#[tokio::test]
async fn a_page_in_place_of_an_answer_proves_nothing_whatever_its_status() {
    for status in [302, 400, 403, 404, 500] {
        let world = world().await;
        world
            .simulator
            .add_fault(Fault::new(
                "Lead.Capture",
                FaultKind::Respond {
                    status,
                    body: "<html>Object moved</html>".into(),
                    content_type: Some("text/html".into()),
                    commit: true,
                },
            ))
            .unwrap();
        let request = pb::CaptureLeadRequest {
            lead: Some(lead("Asha")),
            ..Default::default()
        };
        let answer = world.client.clone().capture_lead(request).await.unwrap().into_inner();
        assert_eq!(
            world.simulator.leads()[0]["ProspectID"].as_deref(),
            Some(answer.lead_id.as_str())
        );
        assert_eq!(world.calls("Lead.Capture").len(), 1, "{status}");
    }
}

#[tokio::test]
async fn what_keeps_a_write_from_being_sent_again_does_not_make_it_undone() {
    let world = world().await;
    let id = Uuid::new_v4();
    // Lost, not found in time, and then the keys are rejected.
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
        .unwrap();
    let nothing = FaultKind::Respond {
        status: 200,
        body: "[]".into(),
        content_type: None,
        commit: false,
    };
    world
        .simulator
        .add_fault(Fault::new("Leads.GetByEmailaddress", nothing))
        .unwrap();
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::Unauthorized))
        .unwrap();
    let error = seen(
        world
            .client
            .clone()
            .create_lead(create_with(id, "Asha"))
            .await
            .unwrap_err(),
    );
    error.is(Code::Aborted, "OUTCOME_UNKNOWN");

    let lead_id = world
        .client
        .clone()
        .create_lead(create_with(id, "Asha"))
        .await
        .unwrap()
        .into_inner()
        .lead_id;
    assert_eq!(
        world.simulator.leads()[0]["ProspectID"].as_deref(),
        Some(lead_id.as_str())
    );
    assert_eq!(world.simulator.leads().len(), 1);
}

/// A look-up that does not see what was just written.
fn blind(times: u32) -> Fault {
    let nothing = FaultKind::Respond {
        status: 200,
        body: "[]".into(),
        content_type: None,
        commit: false,
    };
    Fault::new("Leads.GetByEmailaddress", nothing).times(times)
}

async fn patient_world(settings: &str) -> World {
    let settings = format!("[tenant_defaults.upstream]\n{settings}");
    World::with(Options::default(), &settings).await.warm().await
}

#[tokio::test]
async fn a_create_is_found_also_where_a_replica_is_behind_for_a_while() {
    for what in [
        FaultKind::CommitThenDrop,
        FaultKind::GarbageJson,
        FaultKind::Respond {
            status: 204,
            body: String::new(),
            content_type: None,
            commit: true,
        },
    ] {
        let world = patient_world("visible_after = \"2s\"").await;
        world
            .simulator
            .add_fault(Fault::new("Lead.Create", what.clone()))
            .unwrap();
        world.simulator.add_fault(blind(3)).unwrap();
        let id = world.create(lead("Asha")).await.unwrap();
        assert_eq!(
            world.simulator.leads()[0]["ProspectID"].as_deref(),
            Some(id.as_str()),
            "{what:?}"
        );
        assert_eq!(world.calls("Lead.Create").len(), 1, "{what:?}");
    }
}

#[tokio::test]
async fn after_a_lost_answer_a_duplicate_that_cannot_be_seen_proves_nothing() {
    let world = patient_world("visible_after = \"30ms\"").await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
        .unwrap();
    world.simulator.add_fault(blind(100)).unwrap();
    seen(world.create(lead("Asha")).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert_eq!(world.simulator.leads().len(), 1);
}

#[tokio::test]
async fn a_deadline_during_the_look_up_leaves_the_outcome_unknown() {
    let world = patient_world("visible_after = \"5s\"").await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
        .unwrap();
    world.simulator.add_fault(blind(3)).unwrap();
    let id = Uuid::new_v4();
    let request = within(Duration::from_millis(250), create_with(id, "Asha"));
    let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
    error.is(Code::Aborted, "OUTCOME_UNKNOWN");
    // The look-up goes on without its caller, and the same request id gets to know.
    let again = world.client.clone().create_lead(create_with(id, "Asha")).await.unwrap();
    assert_eq!(
        world.simulator.leads()[0]["ProspectID"].as_deref(),
        Some(again.into_inner().lead_id.as_str())
    );
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_again_once_a_caller_was_told_that_the_outcome_is_unknown() {
    let world = patient_world("visible_after = \"600ms\"").await;
    let (id, no_id) = (Uuid::new_v4(), Uuid::nil());
    for (name, id) in [("Asha", id), ("Ben", no_id)] {
        world
            .simulator
            .add_fault(Fault::new("Lead.Create", FaultKind::DropBefore))
            .unwrap();
        let message = pb::CreateLeadRequest {
            request_id: if id.is_nil() { String::new() } else { id.to_string() },
            ..create_with(id, name)
        };
        let request = within(Duration::from_millis(250), message);
        let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
        error.is(Code::Aborted, "OUTCOME_UNKNOWN");
    }
    // The look-ups have come to their ends: both writes have given back the order of the writes to their leads.
    for name in ["Asha", "Ben"] {
        let upsert = pb::UpsertLeadRequest {
            lead: Some(lead(name)),
            ..Default::default()
        };
        world.client.clone().upsert_lead(upsert).await.unwrap();
    }
    assert_eq!(world.calls("Lead.Create").len(), 2, "nothing was sent again");
}

#[tokio::test]
async fn a_deadline_after_a_write_without_a_request_id_was_sent_warns_of_a_repetition() {
    let world = patient_world("visible_after = \"0s\"").await;
    let by = Duration::from_secs(1);
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::Delay { by }))
        .unwrap();
    let request = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        ..Default::default()
    };
    let request = within(Duration::from_millis(250), request);
    let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
    error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert_eq!(error.metadata["retry_same_request_id"], "false");
    assert!(error.status.message().contains("may have been executed"), "{error:?}");
}

#[tokio::test]
async fn a_slow_write_does_not_overwrite_a_later_one() {
    let world = patient_world("timeout = \"300ms\"\nsettle_timeout = \"2s\"").await;
    let lead_id = old_lead(&world);
    let by = Duration::from_millis(900);
    world
        .simulator
        .add_fault(Fault::new("Lead.Update", FaultKind::Delay { by }))
        .unwrap();
    let write = |city: &str| {
        let mut client = world.client.clone();
        let request = pb::UpdateLeadRequest {
            lead_id: lead_id.clone(),
            lead: Some(pb::LeadFields {
                city: Some(city.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        async move { client.update_lead(request).await }
    };
    let first = tokio::spawn(write("First"));
    let sent = async {
        while world.calls("Lead.Update").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), sent).await.unwrap();
    write("Second").await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().into_inner().affected_rows, 1);
    // Whatever of the first one is still on its way arrives in this time.
    tokio::time::sleep(by).await;
    assert_eq!(world.simulator.leads()[0]["mx_City"].as_deref(), Some("Second"));
}

const LOOK_AT_LEAD: &str = "look for the lead in LeadSquared";

/// Nothing to look it up by.
fn nameless() -> pb::LeadFields {
    pb::LeadFields {
        last_name: Some("Rao".into()),
        ..Default::default()
    }
}

/// Look-ups by email address that fail.
fn failing_look_ups(world: &World) {
    let failing = Fault::new("Leads.GetByEmailaddress", FaultKind::Empty500).times(100);
    world.simulator.add_fault(failing).unwrap();
}

#[tokio::test]
async fn a_lost_create_is_settled_by_its_request_id_only_where_there_is_something_to_look_it_up_by() {
    let world = world().await;
    let create = |lead: pb::LeadFields, request_id: Option<Uuid>| {
        let mut client = world.client.clone();
        let request = pb::CreateLeadRequest {
            lead: Some(lead),
            request_id: request_id.map(|id| id.to_string()).unwrap_or_default(),
            ..Default::default()
        };
        async move {
            client
                .create_lead(request)
                .await
                .map(|answer| answer.into_inner().lead_id)
        }
    };
    let (by_email, by_name) = (Uuid::from_u128(1), Uuid::from_u128(2));
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop).times(3))
        .unwrap();
    failing_look_ups(&world);
    let lost = seen(create(lead("Asha"), Some(by_email)).await.unwrap_err());
    lost.is_settled_by_repeating();
    assert_eq!(lost.pushback(), lost.retry_after());
    seen(create(nameless(), Some(by_name)).await.unwrap_err()).is_settled_by_hand(LOOK_AT_LEAD);
    // Without a request id nobody could repeat it.
    seen(create(lead("Ben"), None).await.unwrap_err()).is_settled_by_hand(LOOK_AT_LEAD);
    world.simulator.clear_faults();
    world.simulator.forget_calls();

    // What the errors promise.
    create(lead("Asha"), Some(by_email)).await.unwrap();
    seen(create(nameless(), Some(by_name)).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert!(world.calls("Lead.Create").is_empty());
}

#[tokio::test]
async fn what_a_look_up_has_seen_and_cannot_prove_is_not_settled_by_another_one() {
    let world = world().await;
    world
        .simulator
        .insert_lead(&[("EmailAddress", "asha@example.com"), ("FirstName", "Somebody")]);
    let id = Uuid::from_u128(1);
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::DropBefore))
        .unwrap();
    for _ in 0..2 {
        let error = world
            .client
            .clone()
            .create_lead(create_with(id, "Asha"))
            .await
            .unwrap_err();
        let error = seen(error);
        error.is(Code::Aborted, "OUTCOME_UNKNOWN");
        assert_eq!(error.retry_same_request_id(), Some("false"));
    }

    let lead_id = world.simulator.insert_lead(&[
        ("EmailAddress", "ben@example.com"),
        ("CreatedOn", "2020-01-01 00:00:00"),
        ("ModifiedOn", "2020-01-01 00:00:00"),
    ]);
    let update = pb::UpdateLeadRequest {
        lead_id,
        lead: Some(pb::LeadFields {
            city: Some("Pune".into()),
            ..Default::default()
        }),
        run_automations: true,
        request_id: Uuid::from_u128(2).to_string(),
        ..Default::default()
    };
    world
        .simulator
        .add_fault(Fault::new("Lead.Update", FaultKind::DropBefore))
        .unwrap();
    let error = world.client.clone().update_lead(update).await.unwrap_err();
    seen(error).is_settled_by_hand(LOOK_AT_LEAD);
}

#[tokio::test]
async fn a_lost_upsert_or_capture_is_settled_by_its_request_id_unless_a_look_up_has_told_all_it_can() {
    let world = world().await;
    let upsert = pb::UpsertLeadRequest {
        lead: Some(lead("Asha")),
        request_id: Uuid::from_u128(1).to_string(),
        ..Default::default()
    };
    let capture = |number: u128, name: &str| pb::CaptureLeadRequest {
        lead: Some(lead(name)),
        request_id: Uuid::from_u128(number).to_string(),
        ..Default::default()
    };
    world
        .simulator
        .add_fault(Fault::new("Lead.CreateOrUpdate", FaultKind::CommitThenDrop))
        .unwrap();
    world
        .simulator
        .add_fault(Fault::new("Lead.Capture", FaultKind::CommitThenDrop))
        .unwrap();
    failing_look_ups(&world);
    let mut client = world.client.clone();
    seen(client.upsert_lead(upsert.clone()).await.unwrap_err()).is_settled_by_repeating();
    seen(client.capture_lead(capture(2, "Ben")).await.unwrap_err()).is_settled_by_repeating();
    world.simulator.clear_faults();
    world.simulator.forget_calls();
    client.upsert_lead(upsert).await.unwrap();
    assert!(
        client
            .capture_lead(capture(2, "Ben"))
            .await
            .unwrap()
            .into_inner()
            .created
    );
    assert!(world.calls("Lead.CreateOrUpdate").is_empty() && world.calls("Lead.Capture").is_empty());

    // A capture may only have left an activity behind: no look-up tells.
    world
        .simulator
        .add_fault(Fault::new("Lead.Capture", FaultKind::DropBefore))
        .unwrap();
    for _ in 0..2 {
        let error = client.capture_lead(capture(3, "Cid")).await.unwrap_err();
        seen(error).is_settled_by_hand(LOOK_AT_LEAD);
    }
    assert_eq!(world.calls("Lead.Capture").len(), 1);
}

#[tokio::test]
async fn an_unknown_outcome_says_when_it_counts_that_a_look_up_does_not_find_the_write() {
    let world = patient_world("visible_after = \"30s\"").await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
        .unwrap();
    world.simulator.add_fault(blind(100)).unwrap();
    let request = within(Duration::from_millis(400), create_with(Uuid::from_u128(1), "Asha"));
    let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
    error.is_settled_by_repeating();
    let after = error.retry_after().unwrap();
    let rest = Duration::from_secs(25)..=Duration::from_millis(29_900);
    assert!(rest.contains(&after), "{after:?}");
    // It is behind the deadline.
    assert!(error.is_not_for_this_call());
}

#[tokio::test]
async fn a_deadline_after_a_write_was_sent_says_so_and_that_the_same_request_id_gets_the_outcome() {
    let world = world().await;
    let by = Duration::from_millis(700);
    for (request_id, retry) in [(Uuid::from_u128(1).to_string(), "true"), (String::new(), "false")] {
        world
            .simulator
            .add_fault(Fault::new("Lead.Create", FaultKind::Delay { by }))
            .unwrap();
        let request = pb::CreateLeadRequest {
            lead: Some(nameless()),
            request_id,
            ..Default::default()
        };
        let request = within(Duration::from_millis(300), request);
        let error = seen(world.client.clone().create_lead(request).await.unwrap_err());
        error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(error.metadata["attempts"], "1");
        assert_eq!(error.metadata["place"], "LeadSquared's answer");
        assert_eq!(error.retry_same_request_id(), Some(retry));
    }
}

#[tokio::test]
async fn a_mutation_that_was_refused_is_to_be_repeated_with_its_request_id() {
    let settings = "[tenants.acme.limits]\ncalls = 1\nwindow = \"60s\"\n";
    let world = World::with(Options::default(), settings).await;
    // The metadata, which are fetched at the start, take the only call of the window.
    while world.simulator.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let limit = Duration::from_secs(2);
    let refused = |status: Status| {
        let error = seen(status);
        error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
        assert_eq!(error.metadata["attempts"], "0");
        error.retry_same_request_id().map(str::to_owned)
    };
    let mut client = world.client.clone();
    let create = within(limit, create_with(Uuid::from_u128(1), "Asha"));
    assert_eq!(
        refused(client.create_lead(create).await.unwrap_err()).as_deref(),
        Some("true")
    );
    let create = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        ..Default::default()
    };
    assert_eq!(
        refused(client.create_lead(within(limit, create)).await.unwrap_err()),
        None
    );
    let read = within(limit, lone_read("y"));
    assert_eq!(refused(client.batch_get_leads(read).await.unwrap_err()), None);
}

#[tokio::test]
async fn a_deadline_behind_an_earlier_write_names_that_write_and_not_the_quota() {
    let world = world().await;
    let lead_id = old_lead(&world);
    let by = Duration::from_millis(900);
    world
        .simulator
        .add_fault(Fault::new("Lead.Update", FaultKind::Delay { by }))
        .unwrap();
    let request = pb::UpdateLeadRequest {
        lead_id,
        lead: Some(moved()),
        ..Default::default()
    };
    let first = tokio::spawn({
        let (mut client, request) = (world.client.clone(), request.clone());
        async move { client.update_lead(request).await }
    });
    while world.calls("Lead.Update").is_empty() {
        tokio::task::yield_now().await;
    }
    let second = within(Duration::from_millis(300), request);
    let error = seen(world.client.clone().update_lead(second).await.unwrap_err());
    error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert_eq!(error.metadata["place"], "an earlier write to the same lead");
    assert_eq!(error.metadata["attempts"], "0");
    first.await.unwrap().unwrap();
    assert_eq!(world.calls("Lead.Update").len(), 1);
}
