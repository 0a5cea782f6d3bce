//! Every row of the table of errors, produced with the simulator.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options};
use serde_json::json;
use tonic::Code;

use crate::harness::{Seen, World, by_id, lead, seen, within};

const NOBODY: &str = "00000000-0000-0000-0000-000000000001";

fn exception(status: u16, name: &str, text: &str) -> FaultKind {
    FaultKind::Respond {
        status,
        body: json!({"Status": "Error", "ExceptionType": name, "ExceptionMessage": text}).to_string(),
        content_type: None,
        commit: false,
    }
}

/// The error of a create to which LeadSquared responds like this.
async fn create_against(world: &World, what: FaultKind) -> Seen {
    world.simulator.add_fault(Fault::new("Lead.Create", what)).unwrap();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    world.simulator.clear_faults();
    error
}

#[tokio::test]
async fn a_write_that_leadsquared_rejects_as_invalid_has_the_paths() {
    let world = World::start().await.warm().await;
    for (name, text, field) in [
        (
            "MXMandatoryFieldMissingException",
            "LastName is mandatory",
            "lead.last_name",
        ),
        ("MXMandatoryAttributeMissingException", "missing", "lead"),
        (
            "MXUnknownAttributeException",
            "Attribute(s) does not exist - mx_A",
            "lead.custom[\"mx_A\"]",
        ),
        ("MXInvalidInputException", "Invalid SearchBy value provided", "match_by"),
        (
            "MXInvalidDataTypeException",
            "mx_Amount is wrong",
            "lead.custom[\"mx_Amount\"]",
        ),
        ("MXInvalidActivityFieldsException", "no", "lead"),
    ] {
        for status in [500, 200] {
            let error = create_against(&world, exception(status, name, text)).await;
            error.is(Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(error.fields(), [field]);
            assert_eq!(error.metadata["exception_type"], name);
            assert_eq!(error.metadata["upstream_status"], status.to_string());
            assert_eq!(error.metadata["attempts"], "1");
            assert_eq!(error.metadata["tenant"], "acme");
        }
    }
    let bad_request = FaultKind::Respond {
        status: 400,
        body: "Unexpected character encountered".into(),
        content_type: Some("text/plain".into()),
        commit: false,
    };
    create_against(&world, bad_request)
        .await
        .is(Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn a_duplicate_names_its_field() {
    let world = World::start().await;
    world.create(lead("Asha")).await.unwrap();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    let resource = error.details.resource_info().unwrap();
    assert_eq!(resource.resource_type, "leadgate.v1.Lead");
    assert_eq!(resource.description, "lead.email_address");
    assert!(!error.status.message().contains("asha@"));
}

#[tokio::test]
async fn an_unknown_lead_is_not_found() {
    let world = World::start().await;
    let request = pb::UpdateLeadRequest {
        lead_id: NOBODY.into(),
        lead: Some(lead("Asha")),
        ..Default::default()
    };
    let error = seen(world.client.clone().update_lead(request).await.unwrap_err());
    error.is(Code::NotFound, "LEAD_NOT_FOUND");
    assert_eq!(error.details.resource_info().unwrap().resource_type, "leadgate.v1.Lead");
    seen(world.get(by_id(NOBODY)).await.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND");
}

#[tokio::test]
async fn an_infeasible_deadline_has_a_retry_time() {
    let options = Options::default();
    let world = World::with(options, "[tenant_defaults.limits]\ncalls = 1\nwindow = \"1s\"")
        .await
        .warm()
        .await;
    let request = pb::GetLeadRequest {
        key: Some(by_id(NOBODY)),
        ..Default::default()
    };
    let impatient = within(Duration::from_millis(300), request.clone());
    let error = seen(world.client.clone().get_lead(impatient).await.unwrap_err());
    error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
    let violation = &error.details.quota_failure().unwrap().violations[0];
    assert_eq!(violation.subject, "tenant:acme");
    assert!(error.is_not_for_this_call());
    let delay = error.retry_after().unwrap();
    assert!(world.simulator.calls().is_empty());

    // A client that waits for that time is served.
    tokio::time::sleep(delay).await;
    let obedient = within(Duration::from_millis(300), request);
    let error = seen(world.client.clone().get_lead(obedient).await.unwrap_err());
    error.is(Code::NotFound, "LEAD_NOT_FOUND");
}

#[tokio::test]
async fn a_full_queue_rejects_calls() {
    let settings = "[tenant_defaults.limits]\ncalls = 1\nwindow = \"3s\"\nqueue = 1";
    let world = World::with(Options::default(), settings).await.warm().await;
    let waiting = {
        let key = by_id(NOBODY);
        let mut client = world.client.clone();
        tokio::spawn(async move {
            let request = pb::GetLeadRequest {
                key: Some(key),
                ..Default::default()
            };
            client.get_lead(request).await
        })
    };
    world
        .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable-plus\"} 1")
        .await;
    let error = seen(world.get(by_id("somebody-else")).await.unwrap_err());
    error.is(Code::ResourceExhausted, "QUEUE_FULL");
    assert!(error.pushback().is_some() && error.details.quota_failure().is_some());
    seen(waiting.await.unwrap().unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND");
}

#[tokio::test]
async fn a_used_up_daily_quota_rejects_calls_until_the_next_day() {
    // By leadgate's own count.
    let world = World::with(Options::default(), "[tenant_defaults.limits]\ndaily = 2")
        .await
        .warm()
        .await;
    world.create(lead("Asha")).await.unwrap();
    let error = seen(world.create(lead("Ben")).await.unwrap_err());
    error.is(Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED");
    assert!(error.pushback().unwrap() <= Duration::from_secs(24 * 3600));
    assert_eq!(world.simulator.calls().len(), 1);

    // By a refusal of LeadSquared that fits no window.
    let world = World::start().await.warm().await;
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::RefuseDaily))
        .unwrap();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    error.is(Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED");
    assert!(error.details.retry_info().is_some());
}

#[tokio::test]
async fn rejected_keys_are_a_failed_precondition() {
    let world = World::start().await.warm().await;
    let error = create_against(&world, FaultKind::Unauthorized).await;
    error.is(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED");
    assert!(error.details.precondition_failure().is_some());

    world
        .simulator
        .set_options(|options| options.right_host = Some("api-in21.leadsquared.com".into()));
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    error.is(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(error.metadata["suggested_host"], "api-in21.leadsquared.com");
}

#[tokio::test]
async fn a_disabled_feature_is_a_failed_precondition() {
    let world = World::start().await.warm().await;
    for what in [
        exception(500, "MXUnAuthorizedAccessException", "no permission"),
        exception(500, "MXOtherException", "Delete is not enabled for you"),
    ] {
        let error = create_against(&world, what).await;
        error.is(Code::FailedPrecondition, "UPSTREAM_FEATURE_DISABLED");
        assert!(error.details.precondition_failure().is_some());
    }
}

#[tokio::test]
async fn other_exceptions_are_unknown_with_their_type() {
    let world = World::start().await.warm().await;
    let text = "Mail to asha@example.com failed with u$rSecret";
    let error = create_against(&world, exception(500, "MXMailDeliveryException", text)).await;
    error.is(Code::Unknown, "UPSTREAM_EXCEPTION");
    assert_eq!(error.metadata["exception_type"], "MXMailDeliveryException");
    assert!(!format!("{:?}", error.status).contains("asha@"));
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn a_read_without_a_response_is_retried_and_then_unavailable() {
    let world = World::with(Options::default(), "[tenant_defaults.upstream]\nmax_attempts = 3")
        .await
        .warm()
        .await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    for what in [
        FaultKind::DropBefore,
        FaultKind::CommitThenDrop,
        FaultKind::Html502,
        FaultKind::Empty500,
        FaultKind::Empty503,
    ] {
        world.simulator.forget_calls();
        world
            .simulator
            .add_fault(Fault::new("Leads.GetById", what.clone()).times(2))
            .unwrap();
        assert_eq!(world.get(by_id(&id)).await.unwrap().lead_id, id, "{what:?}");
        assert_eq!(world.calls("Leads.GetById").len(), 3);
    }
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::Html502).times(9))
        .unwrap();
    let error = seen(world.get(by_id(&id)).await.unwrap_err());
    error.is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(error.metadata["attempts"], "3");
    assert!(error.details.retry_info().is_some() && error.pushback().is_some());
}

#[tokio::test]
async fn an_unreachable_upstream_is_unavailable_and_uses_no_slot() {
    let options = Options::default();
    let nobody = crate::harness::listen().await;
    let tenant = crate::harness::tenant("acme", nobody.local_addr().unwrap(), &options);
    drop(nobody);
    let settings = format!("{tenant}[tenants.acme.limits]\ncalls = 1\nwindow = \"1h\"");
    let world = World::gateway(leadgate_simulator::Simulator::new(options), &settings).await;
    for _ in 0..2 {
        let error = seen(world.create(lead("Asha")).await.unwrap_err());
        error.is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
}

#[tokio::test]
async fn a_write_with_an_unknown_outcome_is_aborted() {
    let world = World::start().await.warm().await;
    // A write that cannot be looked up.
    world
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::CommitThenDrop))
        .unwrap();
    let nameless = pb::LeadFields {
        last_name: Some("Rao".into()),
        ..Default::default()
    };
    let error = seen(world.create(nameless).await.unwrap_err());
    error.is(Code::Aborted, "OUTCOME_UNKNOWN");
    assert_eq!(world.calls("Lead.Create").len(), 1);
}

#[tokio::test]
async fn an_exceeded_deadline_names_the_wait() {
    // Half the time, because a busy machine may be late.
    let settings = "[server]\ndeadline_margin = \"250ms\"\n";
    let world = World::with(Options::default(), settings).await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let hang = FaultKind::HangBefore {
        lasting: Duration::from_secs(60),
    };
    world.simulator.add_fault(Fault::new("*", hang).times(2)).unwrap();
    let read = pb::GetLeadRequest {
        key: Some(by_id(&id)),
        ..Default::default()
    };
    let write = pb::CreateLeadRequest {
        lead: Some(lead("Ben")),
        ..Default::default()
    };
    let limit = Duration::from_millis(1000);
    for error in [
        world.client.clone().get_lead(within(limit, read)).await.unwrap_err(),
        world
            .client
            .clone()
            .create_lead(within(limit, write))
            .await
            .unwrap_err(),
    ] {
        let error = seen(error);
        error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(error.metadata["place"], "LeadSquared's answer");
    }
}

#[tokio::test]
async fn an_unreadable_response_has_the_json_path() {
    let world = World::start().await.warm().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    world
        .simulator
        .add_fault(Fault::new("Leads.GetById", FaultKind::GarbageJson))
        .unwrap();
    let error = seen(world.get(by_id(&id)).await.unwrap_err());
    error.is(Code::Internal, "UPSTREAM_UNREADABLE");
    assert!(error.metadata.contains_key("json_path"));

    let no_id = FaultKind::Respond {
        status: 200,
        body: json!({"Status": "Success", "Message": {"Id": null}}).to_string(),
        content_type: None,
        commit: false,
    };
    // For a write, the response is lost: the lead is looked up, is not found, and is sent again.
    world.simulator.add_fault(Fault::new("Lead.Create", no_id)).unwrap();
    let lead_id = world.create(lead("Asha")).await.unwrap();
    assert_eq!(world.get(by_id(&lead_id)).await.unwrap().lead_id, lead_id);
    assert_eq!(world.calls("Lead.Create").len(), 2);
}

#[tokio::test]
async fn a_draining_gateway_is_unavailable() {
    let settings = "[tenant_defaults.limits]\ncalls = 1\nwindow = \"30s\"";
    let world = World::with(Options::default(), settings).await.warm().await;
    let mut client = world.client.clone();
    let waiting = tokio::spawn(async move {
        let request = pb::GetLeadRequest {
            key: Some(by_id(NOBODY)),
            ..Default::default()
        };
        client.get_lead(request).await
    });
    world
        .until("leadgate_quota_waiting{tenant=\"acme\",class=\"sheddable-plus\"} 1")
        .await;
    world.tell_to_stop();
    let error = seen(waiting.await.unwrap().unwrap_err());
    error.is(Code::Unavailable, "SHUTTING_DOWN");
    assert_eq!(error.pushback(), Some(Duration::ZERO));
    world.stop().await;
}
