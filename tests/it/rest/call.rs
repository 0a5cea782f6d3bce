//! RestService/Call.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate::identity::api_key::{KeyHash, generate};
use leadgate_simulator::{Fault, FaultKind, Options};
use pb::rest_service_client::RestServiceClient;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::harness::{World, by_id, channel, seen, within};

const GET: &str = "LeadManagement.svc/Leads.GetById";
const CREATE: &str = "LeadManagement.svc/Lead.Create";
const UPDATE: &str = "LeadManagement.svc/Lead.Update";

fn message(method: &str, path: &str, query: &[(&str, &str)], body: &str) -> pb::CallRequest {
    let query = query
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    pb::CallRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.collect(),
        body: body.as_bytes().to_vec(),
        ..Default::default()
    }
}

async fn call(world: &World, message: impl tonic::IntoRequest<pb::CallRequest>) -> Result<pb::CallResponse, Status> {
    let mut client = RestServiceClient::new(channel(world.address).await);
    client.call(message).await.map(tonic::Response::into_inner)
}

fn text(response: &pb::CallResponse) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

#[tokio::test]
async fn a_read_returns_the_bytes_of_leadsquared() {
    let world = World::start().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    for path in [
        GET,
        "/v2/LeadManagement.svc/Leads.GetById",
        "v2//LeadManagement.svc//Leads.GetById",
    ] {
        let response = call(&world, message("GET", path, &[("id", &id)], "dropped"))
            .await
            .unwrap();
        assert_eq!(
            (response.status, response.content_type.as_str()),
            (200, "application/json; charset=utf-8")
        );
        assert!(
            text(&response).contains(&format!("\"ProspectID\":\"{id}\"")),
            "{}",
            text(&response)
        );
    }
    assert_eq!(world.calls("Leads.GetById").len(), 3);
}

#[tokio::test]
async fn errors_of_leadsquared_are_responses() {
    let world = World::start().await;
    let response = call(&world, message("GET", "/v2/LeadManagement.svc/No.Such", &[], ""))
        .await
        .unwrap();
    assert_eq!(response.status, 404);
    let body = r#"[{"Attribute":"mx_Unknown","Value":"x"},{"Attribute":"FirstName","Value":"x"}]"#;
    let response = call(&world, message("POST", CREATE, &[], body)).await.unwrap();
    assert_eq!(response.status, 500);
    assert!(
        text(&response).contains("MXUnknownAttributeException"),
        "{}",
        text(&response)
    );
}

#[tokio::test]
async fn invalid_messages_name_their_fields_and_cost_nothing() {
    let world = World::start().await.warm().await;
    for (message, field) in [
        (message("PATCH", GET, &[], ""), "method"),
        (message("GET", "/v2/LeadManagement.svc/../x", &[], ""), "path"),
        (message("GET", "/File/Upload", &[], ""), "path"),
        (message("GET", GET, &[("AccessKey", "x")], ""), "query[\"accesskey\"]"),
        (message("GET", GET, &[("secretkey", "x")], ""), "query[\"secretkey\"]"),
        (
            pb::CallRequest {
                content_type: "a\r\nb: c".to_owned(),
                ..message("POST", CREATE, &[], "[]")
            },
            "content_type",
        ),
        (
            pb::CallRequest {
                request_id: "x".to_owned(),
                ..message("POST", CREATE, &[], "[]")
            },
            "request_id",
        ),
    ] {
        let error = seen(call(&world, message).await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), [field]);
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn refused_calls_are_sent_again() {
    let world = World::start().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let text = r#"{"Status":"Error","ExceptionType":"MXThrottleException","ExceptionMessage":"API calls exceeded the limit of 25 in 5 second(s)"}"#;
    let refusal = FaultKind::Respond {
        status: 200,
        body: text.to_owned(),
        content_type: None,
        commit: false,
    };
    for refusal in [FaultKind::Refuse, refusal] {
        world.simulator.forget_calls();
        world.fail_next("Leads.GetById", refusal);
        let response = call(&world, message("GET", GET, &[("id", &id)], "")).await.unwrap();
        assert_eq!((response.status, world.calls("Leads.GetById").len()), (200, 2));
    }
}

#[tokio::test]
async fn a_lost_read_is_sent_again_and_a_lost_write_is_unknown() {
    let world = World::start().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    world.fail_next("Leads.GetById", FaultKind::DropBefore);
    let response = call(&world, message("GET", GET, &[("id", &id)], "")).await.unwrap();
    assert_eq!((response.status, world.calls("Leads.GetById").len()), (200, 2));
    let body = r#"[{"Attribute":"FirstName","Value":"Bea"}]"#;
    let request_id = Uuid::new_v4().to_string();
    world.fail_next("Lead.Update", FaultKind::CommitThenDrop);
    let write = || pb::CallRequest {
        request_id: request_id.clone(),
        ..message("POST", UPDATE, &[("leadId", &id)], body)
    };
    for _ in 0..2 {
        let error = seen(call(&world, write()).await.unwrap_err());
        error.is(Code::Aborted, "OUTCOME_UNKNOWN");
        assert_eq!(error.retry_same_request_id(), Some("false"));
    }
    assert_eq!(world.calls("Lead.Update").len(), 1);
}

#[tokio::test]
async fn a_request_id_returns_the_same_response_and_reads_ignore_it() {
    let world = World::start().await;
    let write = |request_id: &str, name: &str| pb::CallRequest {
        request_id: request_id.to_owned(),
        ..message(
            "POST",
            CREATE,
            &[],
            &format!(r#"[{{"Attribute":"FirstName","Value":"{name}"}}]"#),
        )
    };
    let id = Uuid::new_v4().to_string();
    let first = call(&world, write(&id, "Ann")).await.unwrap();
    let second = call(&world, write(&id, "Ann")).await.unwrap();
    assert_eq!((first, world.calls("Lead.Create").len()), (second, 1));
    let error = seen(call(&world, write(&id, "Bob")).await.unwrap_err());
    assert_eq!(error.fields(), ["request_id"]);
    let lead = world.simulator.insert_lead(&[("FirstName", "Cid")]);
    for _ in 0..2 {
        let read = pb::CallRequest {
            request_id: "any text".to_owned(),
            ..message("GET", GET, &[("id", &lead)], "")
        };
        call(&world, read).await.unwrap();
    }
    assert_eq!(world.calls("Leads.GetById").len(), 2);
}

#[tokio::test]
async fn a_long_response_is_not_kept_but_its_call_is_not_made_again() {
    let world = World::start().await;
    for (length, is_kept) in [(256 * 1024, true), (256 * 1024 + 1, false)] {
        let fault = FaultKind::Respond {
            status: 200,
            body: "x".repeat(length),
            content_type: None,
            commit: false,
        };
        world.fail_next("Lead.Create", fault);
        let request_id = Uuid::new_v4().to_string();
        let write = || pb::CallRequest {
            request_id: request_id.clone(),
            ..message("POST", CREATE, &[], "[]")
        };
        world.simulator.forget_calls();
        let first = call(&world, write()).await.unwrap();
        assert_eq!(first.body.len(), length);
        match (is_kept, call(&world, write()).await) {
            (true, again) => assert_eq!(again.unwrap(), first),
            (false, again) => {
                let error = seen(again.unwrap_err());
                error.is(Code::Aborted, "OUTCOME_UNKNOWN");
                assert_eq!(error.retry_same_request_id(), Some("false"));
            }
        }
        assert_eq!(world.calls("Lead.Create").len(), 1);
    }
}

#[tokio::test]
async fn a_path_that_is_too_long_is_an_error_of_the_request() {
    let world = World::start().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    for length in [2_048, 70_000] {
        let path = format!("LeadManagement.svc/{}", "a".repeat(length));
        for _ in 0..10 {
            let error = seen(call(&world, message("POST", &path, &[], "")).await.unwrap_err());
            assert_eq!(error.fields(), ["path"]);
        }
    }
    world.get(by_id(&id)).await.unwrap();
}

#[tokio::test]
async fn rejected_keys_are_an_error() {
    let world = World::start().await.warm().await;
    world.set_options(|options| options.secret_key = "another".to_owned());
    let error = seen(call(&world, message("GET", GET, &[("id", "x")], "")).await.unwrap_err());
    error.is(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED");
}

#[tokio::test]
async fn a_write_is_seen_by_the_next_cached_read() {
    let world = World::start().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let stale = || pb::GetLeadRequest {
        key: Some(by_id(&id)),
        max_staleness: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let name = async || {
        let lead = world.client.clone().get_lead(stale()).await.unwrap().into_inner().lead;
        lead.unwrap().fields.unwrap().first_name
    };
    assert_eq!(
        (name().await, name().await),
        (Some("Ann".to_owned()), Some("Ann".to_owned()))
    );
    assert_eq!(
        world.calls("Leads.GetById").len() + world.calls("Leads/Retrieve/ByIds").len(),
        1
    );
    let body = r#"[{"Attribute":"FirstName","Value":"Bea"}]"#;
    call(&world, message("POST", UPDATE, &[("leadId", &id)], body))
        .await
        .unwrap();
    assert_eq!(name().await, Some("Bea".to_owned()));
    // The email address may be that of another lead.
    let body = r#"[{"Attribute":"EmailAddress","Value":"other@example.com"}]"#;
    let other = uuid::Uuid::new_v4().to_string();
    world.simulator.forget_calls();
    call(
        &world,
        message(
            "POST",
            "LeadManagement.svc/Lead.CreateOrUpdate",
            &[("leadId", &other)],
            body,
        ),
    )
    .await
    .unwrap();
    name().await;
    assert_eq!(
        world.calls("Leads.GetById").len() + world.calls("Leads/Retrieve/ByIds").len(),
        1
    );
    // A write that names no lead may have changed any.
    call(&world, message("POST", "Custom.svc/Anything", &[], body))
        .await
        .unwrap();
    world.simulator.forget_calls();
    name().await;
    assert_eq!(
        world.calls("Leads.GetById").len() + world.calls("Leads/Retrieve/ByIds").len(),
        1
    );
}

#[tokio::test]
async fn writes_to_one_lead_keep_their_order() {
    let world = World::start().await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    world
        .simulator
        .add_fault(Fault::new(
            "Lead.Update",
            FaultKind::Delay {
                by: Duration::from_millis(300),
            },
        ))
        .unwrap();
    let update = |name: &str| {
        let body = format!(r#"[{{"Attribute":"FirstName","Value":"{name}"}}]"#);
        message("POST", UPDATE, &[("leadId", &id)], &body)
    };
    let first = call(&world, within(Duration::from_secs(10), update("First")));
    let second = async {
        while world.calls("Lead.Update").is_empty() {
            tokio::task::yield_now().await;
        }
        call(&world, update("Second")).await
    };
    let (first, second) = tokio::join!(first, second);
    first.unwrap();
    second.unwrap();
    assert_eq!(world.value_of(&id, "FirstName").as_deref(), Some("Second"));
}

#[tokio::test]
async fn a_caller_needs_both_rules_and_no_rules_for_fields() {
    let keys: Vec<String> = ["rest", "rpc", "both", "denied"].map(generate).into();
    let rules = [
        "allow = [\"REST:*\"]",
        "allow = [\"RestService/Call\"]",
        "allow = [\"RestService/Call\", \"REST:LeadManagement.svc/Leads.*\"]",
        "allow = [\"*\"]\ndeny_fields = [\"mx_Secret\"]",
    ];
    let mut settings = "[auth]\nmode = \"callers\"\n".to_owned();
    for ((name, key), rules) in ["rest", "rpc", "both", "denied"].iter().zip(&keys).zip(rules) {
        let hash = KeyHash::of(key);
        settings += &format!("[callers.{name}]\napi_keys = [\"{hash}\"]\ntenants = [\"acme\"]\n{rules}\n");
    }
    let world = World::with(Options::default(), &settings).await;
    let id = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let as_caller = async |key: &str, message: pb::CallRequest| {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        call(&world, request).await
    };
    let read = || message("GET", GET, &[("id", &id)], "");
    for (key, rule) in [(&keys[0], "method"), (&keys[1], "method"), (&keys[3], "field")] {
        let error = seen(as_caller(key, read()).await.unwrap_err());
        error.is(Code::PermissionDenied, "CALLER_NOT_ALLOWED");
        assert_eq!(error.metadata["rule"], rule);
    }
    assert_eq!(as_caller(&keys[2], read()).await.unwrap().status, 200);
    let write = as_caller(&keys[2], message("POST", CREATE, &[], "[]")).await;
    seen(write.unwrap_err()).is(Code::PermissionDenied, "CALLER_NOT_ALLOWED");
}
