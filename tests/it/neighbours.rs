//! One operation that an upstream, a proxy or a firewall refuses, among others in one call: the others end as their own calls
//! would have, and it costs few calls.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Limits, Options};
use pb::import_leads_request::Operation;
use pb::share_service_client::ShareServiceClient;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::harness::{World, by_id, channel, seen, within};
use crate::share::SITA;

/// What the firewall takes for an attack.
const POISON: &str = "drop table";

/// Few calls in a short window, all of which may be bulk calls: operations wait and share one, and nothing waits long.
async fn world(settings: &str) -> World {
    let options = Options {
        limits: Limits {
            calls: 2,
            bulk: 2,
            per: Duration::from_millis(30),
            ..Limits::default()
        },
        ..Options::default()
    };
    let limits = "[tenant_defaults.limits]\ncalls = 2\nbulk = 2\nwindow = \"30ms\"\n\
                  [tenant_defaults.upstream]\ntimeout = \"1s\"\n";
    World::with(options, &format!("{limits}{settings}")).await.warm().await
}

fn answer(status: u16, body: &str) -> FaultKind {
    let content_type = body.starts_with('<').then(|| "text/html".to_owned());
    FaultKind::Respond {
        status,
        body: body.to_owned(),
        content_type,
        commit: false,
    }
}

/// Every way to fail, and what a call of its own returns then to the writer.
fn failures() -> Vec<(FaultKind, Code, &'static str)> {
    let unknown = (Code::Aborted, "OUTCOME_UNKNOWN");
    let refused = (Code::Unknown, "UPSTREAM_EXCEPTION");
    let json = r#"{"Message":"An error has occurred."}"#;
    [
        (answer(500, json), unknown),
        (FaultKind::Empty500, unknown),
        (FaultKind::Empty503, unknown),
        (FaultKind::Html502, unknown),
        (FaultKind::DropBefore, unknown),
        (
            FaultKind::HangBefore {
                lasting: Duration::from_secs(60),
            },
            unknown,
        ),
        (answer(200, ""), unknown),
        (answer(200, "[]"), unknown),
        (answer(200, r#"{"Status":{},"Details":{}}"#), unknown),
        (answer(204, ""), unknown),
        (answer(200, "<html>Blocked</html>"), unknown),
        (answer(200, r#"{"Status":"Succ"#), unknown),
        (answer(302, "<html>Moved</html>"), unknown),
        (answer(413, json), refused),
        (answer(422, json), refused),
        (answer(414, ""), refused),
        (answer(404, json), refused),
        (answer(405, ""), refused),
        (answer(403, r#"{"message":"Forbidden"}"#), refused),
        (answer(403, "<html>Forbidden</html>"), refused),
        (answer(401, ""), refused),
        (answer(406, "<html>Not Acceptable</html>"), refused),
        (answer(500, r#"{"Status":"Error","Message":"no"}"#), refused),
        (answer(400, json), (Code::InvalidArgument, "INVALID_FIELD")),
        (
            answer(
                500,
                r#"{"Status":"Error","ExceptionType":"MXXSSException","ExceptionMessage":"no"}"#,
            ),
            (Code::InvalidArgument, "INVALID_FIELD"),
        ),
    ]
    .map(|(what, (code, reason))| (what, code, reason))
    .into()
}

fn fields(at: usize, poisoned: usize) -> pb::LeadFields {
    pb::LeadFields {
        first_name: Some(if at == poisoned {
            POISON.to_owned()
        } else {
            format!("new-{at}")
        }),
        email_address: Some(format!("lead-{at}@example.com")),
        ..Default::default()
    }
}

/// What is asked for in bulk.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rpc {
    Create,
    Update,
    Upsert,
}

/// Makes a batch of so many writes, one of them poisoned; what became of each.
async fn write(world: &World, rpc: Rpc, count: usize, poisoned: usize) -> Vec<Result<(), Status>> {
    let mut client = world.client.clone();
    let all = 0..count;
    let outcome = |is_done: bool, error: Option<tonic_types::Status>| match (is_done, error) {
        (true, _) => Ok(()),
        (false, error) => {
            use prost::Message;
            let error = error.unwrap();
            Err(Status::with_details(
                error.code.into(),
                error.message.clone(),
                error.encode_to_vec().into(),
            ))
        }
    };
    let limit = Duration::from_secs(30);
    match rpc {
        Rpc::Create => {
            use pb::batch_create_leads_result::Result::{Error, Response};
            let requests = all.map(|at| pb::CreateLeadRequest {
                lead: Some(fields(at, poisoned)),
                ..Default::default()
            });
            let request = pb::BatchCreateLeadsRequest {
                requests: requests.collect(),
                ..Default::default()
            };
            let answer = client.batch_create_leads(within(limit, request)).await.unwrap();
            let results = answer.into_inner().results.into_iter();
            let told = |row: pb::BatchCreateLeadsResult| match row.result {
                Some(Response(_)) => outcome(true, None),
                Some(Error(error)) => outcome(false, Some(error)),
                None => panic!(),
            };
            results.map(told).collect()
        }
        Rpc::Update => {
            use pb::batch_update_leads_result::Result::{Error, Response};
            let ids: Vec<String> = all
                .clone()
                .map(|at| {
                    world
                        .simulator
                        .insert_lead(&[("EmailAddress", &format!("lead-{at}@example.com"))])
                })
                .collect();
            let requests = all.map(|at| pb::UpdateLeadRequest {
                lead_id: ids[at].clone(),
                lead: Some(fields(at, poisoned)),
                ..Default::default()
            });
            let request = pb::BatchUpdateLeadsRequest {
                requests: requests.collect(),
                ..Default::default()
            };
            let answer = client.batch_update_leads(within(limit, request)).await.unwrap();
            let results = answer.into_inner().results.into_iter();
            let told = |row: pb::BatchUpdateLeadsResult| match row.result {
                Some(Response(_)) => outcome(true, None),
                Some(Error(error)) => outcome(false, Some(error)),
                None => panic!(),
            };
            results.map(told).collect()
        }
        Rpc::Upsert => {
            use pb::batch_upsert_leads_result::Result::{Error, Response};
            let requests = all.map(|at| pb::UpsertLeadRequest {
                lead: Some(fields(at, poisoned)),
                ..Default::default()
            });
            let request = pb::BatchUpsertLeadsRequest {
                requests: requests.collect(),
                ..Default::default()
            };
            let answer = client.batch_upsert_leads(within(limit, request)).await.unwrap();
            let results = answer.into_inner().results.into_iter();
            let told = |row: pb::BatchUpsertLeadsResult| match row.result {
                Some(Response(_)) => outcome(true, None),
                Some(Error(error)) => outcome(false, Some(error)),
                None => panic!(),
            };
            results.map(told).collect()
        }
    }
}

/// The calls that write.
fn writes(world: &World) -> usize {
    let is_write = |endpoint: &str| endpoint.starts_with("Lead.") || endpoint.starts_with("Lead/Bulk/");
    let calls = world.simulator.calls();
    calls.iter().filter(|call| is_write(&call.endpoint)).count()
}

/// The most calls that one bad operation among so many may cost on top.
fn allowed(count: usize) -> usize {
    (2.0 * (count as f64).log2() + 2.0).floor() as usize
}

#[tokio::test]
#[allow(clippy::print_stdout)] // The figures are for whoever runs it with --nocapture.
async fn one_bad_write_of_a_batch_fails_alone_whatever_the_failure_and_costs_few_calls() {
    for rpc in [Rpc::Upsert, Rpc::Create, Rpc::Update] {
        let mut cases = JoinSet::new();
        for (what, code, reason) in failures() {
            cases.spawn(async move {
                let (count, poisoned) = (10, 3);
                let calm = world("").await;
                for result in write(&calm, rpc, count, usize::MAX).await {
                    result.unwrap();
                }
                let without = writes(&calm);

                let world = world("").await;
                world
                    .simulator
                    .add_fault(Fault::new("*", what.clone()).containing(POISON))
                    .unwrap();
                let results = write(&world, rpc, count, poisoned).await;
                for (at, result) in results.into_iter().enumerate() {
                    match result {
                        Ok(()) => assert_ne!(at, poisoned, "{rpc:?} {what:?}"),
                        Err(status) if at == poisoned => seen(status).is(code, reason),
                        Err(status) => panic!("{rpc:?} {what:?}: {at} failed with {status:?}"),
                    }
                }
                let written = world.simulator.leads();
                for at in (0..count).filter(|at| *at != poisoned) {
                    let name = format!("new-{at}");
                    let has = written
                        .iter()
                        .filter(|lead| lead["FirstName"].as_deref() == Some(&name));
                    assert_eq!(has.count(), 1, "{rpc:?} {what:?}: {name}");
                }
                let (with, allowed) = (writes(&world), without + allowed(count));
                println!("{rpc:?} {what:?}: {with} calls where {without} do without it; at most {allowed}");
                assert!(with <= allowed, "{rpc:?} {what:?}: {with} calls, at most {allowed}");
            });
            // Two at a time: they share one machine.
            if cases.len() >= 2 {
                cases.join_next().await.unwrap().unwrap();
            }
        }
        cases.join_all().await;
    }
}

#[tokio::test]
async fn single_calls_that_share_one_with_a_bad_one_return_what_their_own_would_have() {
    let lanes = "[tenant_defaults.batching]\ncreates = true\nupserts = true\n";
    for (what, code, reason) in [
        (FaultKind::Empty500, Code::Aborted, "OUTCOME_UNKNOWN"),
        (answer(413, "{}"), Code::Unknown, "UPSTREAM_EXCEPTION"),
        (answer(404, "{}"), Code::Unknown, "UPSTREAM_EXCEPTION"),
    ] {
        let world = world(lanes).await;
        world
            .simulator
            .add_fault(Fault::new("*", what.clone()).containing(POISON))
            .unwrap();
        let (count, poisoned) = (60, 41);
        let mut calls = JoinSet::new();
        for at in 0..count {
            let mut client = world.client.clone();
            let request = pb::UpsertLeadRequest {
                lead: Some(fields(at, poisoned)),
                ..Default::default()
            };
            calls.spawn(async move { (at, client.upsert_lead(within(Duration::from_secs(30), request)).await) });
        }
        for (at, result) in calls.join_all().await {
            match result {
                Ok(_) => assert_ne!(at, poisoned, "{what:?}"),
                Err(status) if at == poisoned => seen(status).is(code, reason),
                Err(status) => panic!("{what:?}: {at} failed with {status:?}"),
            }
        }
        assert_eq!(world.simulator.leads().len(), count - 1);
    }
}

#[tokio::test]
async fn one_bad_read_fails_alone() {
    for (what, code) in [
        (FaultKind::Empty500, Code::Unavailable),
        (FaultKind::DropBefore, Code::Unavailable),
        (answer(414, ""), Code::Unknown),
        (answer(403, "<html>Forbidden</html>"), Code::Unknown),
        (answer(200, "<html>Blocked</html>"), Code::Unavailable),
        (answer(200, "["), Code::Internal),
    ] {
        let world = world("").await;
        let ids: Vec<String> = (0..60)
            .map(|at| {
                world
                    .simulator
                    .insert_lead(&[("EmailAddress", &format!("lead-{at}@example.com"))])
            })
            .collect();
        let bad = &ids[17];
        world
            .simulator
            .add_fault(Fault::new("*", what.clone()).containing(bad))
            .unwrap();
        let mut reads = JoinSet::new();
        for id in ids.clone() {
            let mut client = world.client.clone();
            let request = pb::GetLeadRequest {
                key: Some(by_id(&id)),
                ..Default::default()
            };
            reads.spawn(async move { (id, client.get_lead(within(Duration::from_secs(30), request)).await) });
        }
        for (id, result) in reads.join_all().await {
            match result {
                Ok(_) => assert_ne!(id, *bad, "{what:?}"),
                Err(status) => assert_eq!((&id, status.code()), (bad, code), "{what:?}: {status:?}"),
            }
        }
    }
}

#[tokio::test]
async fn one_bad_activity_of_a_share_keeps_no_other_share_from_being_made() {
    for what in [FaultKind::Empty500, answer(413, "{}")] {
        let settings = "[tenants.acme.batching]\nactivities = true\n\
                        [tenants.acme.sharing]\ndefault_activity_type = 201\npoll_every = \"20ms\"\nsettle_after = \"50ms\"\n";
        let world = world(settings).await;
        world
            .simulator
            .add_fault(Fault::new("*", what.clone()).containing(POISON))
            .unwrap();
        let client = ShareServiceClient::new(channel(world.address).await);
        let mut shares = JoinSet::new();
        for at in 0..30 {
            let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
            let note = if at == 17 {
                POISON.to_owned()
            } else {
                format!("note {at}")
            };
            let request = pb::ShareLeadRequest {
                lead: Some(pb::share_lead_request::Lead::LeadId(id)),
                user: Some(pb::share_lead_request::User::UserId(SITA.to_owned())),
                access: pb::Access::Read.into(),
                wait_for: pb::WaitFor::Active.into(),
                context: Some(pb::share_lead_request::Context::NewActivity(pb::NewActivity {
                    activity_type: 201,
                    note,
                    ..Default::default()
                })),
                ..Default::default()
            };
            let mut client = client.clone();
            shares.spawn(async move { (at, client.share_lead(within(Duration::from_secs(20), request)).await) });
        }
        for (at, share) in shares.join_all().await {
            if at == 17 {
                share.unwrap_err();
                continue;
            }
            let share = share.unwrap().into_inner().share.unwrap();
            assert_eq!(share.state(), pb::ShareState::Active, "{what:?} {at}: {share:?}");
        }
        assert_eq!(world.simulator.activities().len(), 29);
    }
}

#[tokio::test]
async fn one_forbidden_row_of_an_import_is_its_own_fault_and_not_the_accounts() {
    let world = world("").await;
    world
        .simulator
        .add_fault(Fault::new("*", answer(403, r#"{"message":"Forbidden"}"#)).containing(POISON))
        .unwrap();
    let rows = (0..30).map(|at| pb::ImportLeadsRequest {
        sequence: at as i64,
        operation: Some(Operation::Upsert(pb::UpsertLeadRequest {
            lead: Some(fields(at, 11)),
            ..Default::default()
        })),
    });
    let rows: Vec<_> = rows.collect();
    let answers = world
        .client
        .clone()
        .import_leads(tokio_stream::iter(rows))
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    let mut failed = vec![];
    while let Some(answer) = answers.message().await.unwrap() {
        if let Some(pb::import_leads_response::Result::Error(error)) = answer.result {
            failed.push((answer.sequence, error));
        }
    }
    let [(11, error)] = &failed[..] else {
        panic!("{failed:?}");
    };
    assert_eq!(Code::from(error.code), Code::Unknown);
    assert!(
        error.message.contains("403") && error.message.contains("this request"),
        "{error:?}"
    );
    assert_eq!(world.simulator.leads().len(), 29);
}

#[tokio::test]
async fn a_refusal_without_a_name_is_blamed_on_the_account_only_where_its_keys_are_rejected() {
    let world = world("").await;
    // Nothing has succeeded lately: LeadSquared is asked once, and says that the keys are good.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    world
        .simulator
        .add_fault(Fault::new("*", answer(403, "{}")).containing(POISON))
        .unwrap();
    let poisoned = || async {
        let mut client = world.client.clone();
        let request = pb::CreateLeadRequest {
            lead: Some(fields(0, 0)),
            ..Default::default()
        };
        seen(client.create_lead(request).await.unwrap_err())
    };
    for _ in 0..3 {
        poisoned().await.is(Code::Unknown, "UPSTREAM_EXCEPTION");
    }
    assert_eq!(world.calls("UserByAccessKey.Get").len(), 1);
    assert_eq!(poisoned().await.metadata["upstream_status"], "403");
}

#[tokio::test]
async fn bad_writes_that_are_answered_like_a_missing_endpoint_fail_alone_wherever_they_stand() {
    let permission = r#"{"Status":"Error","ExceptionType":"MXUnAuthorizedAccessException","ExceptionMessage":"no"}"#;
    for (what, reason) in [
        (answer(404, "{}"), "UPSTREAM_EXCEPTION"),
        (answer(405, ""), "UPSTREAM_EXCEPTION"),
        (answer(403, permission), "UPSTREAM_FEATURE_DISABLED"),
        (answer(500, permission), "UPSTREAM_FEATURE_DISABLED"),
    ] {
        for (count, bad) in [
            (25, vec![21]),
            (25, vec![0, 24]),
            (4, vec![0, 3]),
            (12, vec![5, 6, 7]),
            (2, vec![1]),
        ] {
            let world = world("").await;
            let requests = (0..count).map(|at| {
                let poisoned = if bad.contains(&at) { at } else { usize::MAX };
                pb::UpsertLeadRequest {
                    lead: Some(fields(at, poisoned)),
                    ..Default::default()
                }
            });
            let batch = pb::BatchUpsertLeadsRequest {
                requests: requests.collect(),
                ..Default::default()
            };
            world
                .simulator
                .add_fault(Fault::new("*", what.clone()).containing(POISON))
                .unwrap();
            let batch = within(Duration::from_secs(30), batch);
            let results = world.client.clone().batch_upsert_leads(batch).await.unwrap();
            for (at, row) in results.into_inner().results.into_iter().enumerate() {
                use pb::batch_upsert_leads_result::Result::{Error, Response};
                match row.result.unwrap() {
                    Response(_) => assert!(!bad.contains(&at), "{what:?} {bad:?}"),
                    Error(error) => {
                        assert!(bad.contains(&at), "{what:?} {bad:?}: {at} {error:?}");
                        use tonic_types::RpcStatusExt;
                        assert_eq!(error.get_details_error_info().unwrap().reason, reason);
                    }
                }
            }
            assert_eq!(world.simulator.leads().len(), count - bad.len());
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_about_leads_makes_no_lead_missing() {
    for body in [
        "{}",
        r#"{"message":"blocked"}"#,
        r#"{"RecordCount":25}"#,
        r#"{"Leads":null}"#,
    ] {
        let world = world("").await;
        let ids: Vec<String> = (0..12)
            .map(|at| world.simulator.insert_lead(&[("FirstName", &format!("lead-{at}"))]))
            .collect();
        world
            .simulator
            .add_fault(Fault::new("Leads/Retrieve/ByIds", answer(200, body)).containing(&ids[7]))
            .unwrap();
        let mut reads = JoinSet::new();
        for id in ids.clone() {
            let mut client = world.client.clone();
            let request = pb::GetLeadRequest {
                key: Some(by_id(&id)),
                ..Default::default()
            };
            reads.spawn(async move { client.get_lead(within(Duration::from_secs(30), request)).await });
        }
        for result in reads.join_all().await {
            result.unwrap();
        }
        let request = pb::BatchGetLeadsRequest {
            lead_ids: ids,
            ..Default::default()
        };
        let error = world.client.clone().batch_get_leads(request).await.unwrap_err();
        seen(error).is(Code::Internal, "UPSTREAM_UNREADABLE");
    }
}
