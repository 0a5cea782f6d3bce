//! Deadlines: even a very short one ends with a response of leadgate.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Latency, Options};
use pb::get_lead_request::Key;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::harness::{Raw, Response, World, by_id, framed, grpc, lead, seen};

const ID: &str = "3f1b8a52-7c1d-4c55-9d0e-0a4c6c1b2d3e";

/// A message for each kind of RPC: reads, writes, writes with a request id, shares, lists, streams.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let get = |key: Key| {
        framed(&pb::GetLeadRequest {
            key: Some(key),
            ..Default::default()
        })
    };
    let create = |name: &str, request_id: String| pb::CreateLeadRequest {
        lead: Some(lead(name)),
        request_id,
        ..Default::default()
    };
    let new_id = || uuid::Uuid::now_v7().to_string();
    let share = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadId(ID.to_owned())),
        user: Some(pb::share_lead_request::User::UserEmailAddress(
            "a@example.com".to_owned(),
        )),
        access: pb::Access::Read.into(),
        context: Some(pb::share_lead_request::Context::NewActivity(pb::NewActivity {
            activity_type: 201,
            ..Default::default()
        })),
        request_id: new_id(),
        ..Default::default()
    };
    vec![
        ("/leadgate.v1.LeadService/GetLead", get(by_id(ID))),
        (
            "/leadgate.v1.LeadService/GetLead",
            get(Key::EmailAddress("a@example.com".to_owned())),
        ),
        (
            "/leadgate.v1.LeadService/CreateLead",
            framed(&create("Asha", String::new())),
        ),
        ("/leadgate.v1.LeadService/CreateLead", framed(&create("Bela", new_id()))),
        (
            "/leadgate.v1.LeadService/BatchCreateLeads",
            framed(&pb::BatchCreateLeadsRequest {
                requests: vec![create("Cora", new_id()), create("Dora", String::new())],
                request_id: new_id(),
            }),
        ),
        (
            "/leadgate.v1.LeadService/ImportLeads",
            framed(&pb::ImportLeadsRequest {
                sequence: 1,
                operation: Some(pb::import_leads_request::Operation::Create(create("Eva", new_id()))),
            }),
        ),
        (
            "/leadgate.v1.LeadService/DescribeLeadFields",
            framed(&pb::DescribeLeadFieldsRequest::default()),
        ),
        (
            "/leadgate.v1.UserService/ListUsers",
            framed(&pb::ListUsersRequest::default()),
        ),
        ("/leadgate.v1.ShareService/ShareLead", framed(&share)),
        (
            "/leadgate.v1.ShareService/ListShares",
            framed(&pb::ListSharesRequest::default()),
        ),
        (
            "/leadgate.v1.QuotaService/WatchQuota",
            framed(&pb::WatchQuotaRequest::default()),
        ),
        (
            "/leadgate.v1.QuotaService/GetQuota",
            framed(&pb::GetQuotaRequest::default()),
        ),
    ]
}

/// The code of a response. Checks that an error has its id and reason.
fn code(path: &str, timeout: &str, response: &Response) -> Code {
    let status =
        Status::from_header_map(&response.trailers).unwrap_or_else(|| panic!("{path} {timeout}: {response:?}"));
    assert!(
        response.trailers.contains_key("x-request-id"),
        "{path} {timeout}: {response:?}"
    );
    let code = status.code();
    if code != Code::Ok {
        let error = seen(status);
        assert!(error.details.request_info().is_some(), "{path} {timeout}");
        if code == Code::DeadlineExceeded {
            assert_eq!(error.reason, "DEADLINE_EXCEEDED");
            assert!(!error.metadata["place"].is_empty(), "{path} {timeout}");
        }
    }
    code
}

#[tokio::test]
async fn an_elapsed_deadline_is_deadline_exceeded() {
    let world = World::start().await.warm().await;
    let connection = Raw::connect(world.address).await;
    for (path, message) in requests() {
        for timeout in ["0n", "0u", "0m", "0S", "0H", "1n", "1u"] {
            let response = connection
                .ask(grpc(path).header("grpc-timeout", timeout), message.clone())
                .await;
            let code = code(path, timeout, &response);
            // A cached response may be returned all the same.
            assert!(
                matches!(code, Code::DeadlineExceeded | Code::Ok),
                "{path} {timeout}: {response:?}"
            );
        }
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_process_responds_to_short_deadlines() {
    let options = Options {
        latency: Latency {
            min: Duration::from_millis(5),
            max: Duration::from_millis(5),
        },
        ..Options::default()
    };
    let world = World::with(options, "").await.warm().await;
    let mut running = JoinSet::new();
    for _ in 0..4 {
        let connection = Raw::connect(world.address).await;
        for _ in 0..10 {
            for (path, message) in requests() {
                for timeout in ["1m", "2m", "5m", "20m"] {
                    let connection = connection.clone();
                    let message = message.clone();
                    running.spawn(async move {
                        let response = connection
                            .ask(grpc(path).header("grpc-timeout", timeout), message)
                            .await;
                        (code(path, timeout, &response), path, timeout)
                    });
                }
            }
        }
    }
    let mut exceeded = 0;
    while let Some(ended) = running.join_next().await {
        let (code, path, timeout) = ended.unwrap();
        assert_ne!(code, Code::Cancelled, "{path} {timeout}");
        exceeded += usize::from(code == Code::DeadlineExceeded);
    }
    assert!(exceeded > 100, "{exceeded}");
}
