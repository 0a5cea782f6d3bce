//! Texts that are too long for a request to LeadSquared.

use std::sync::Arc;
use std::time::Duration;

use leadgate::context::RequestContext;
use leadgate::crm;
use leadgate::crm::lead::GetLeadByEmail;
use leadgate::grpc::pb;
use leadgate::telemetry::metrics::Metrics;
use pb::get_lead_request::Key;
use pb::share_lead_request::{Lead, User};
use tonic::{Code, Status};

use crate::harness::{Raw, World, framed, grpc, lead, quota, seen};

const ID: &str = "3f1b8a52-7c1d-4c55-9d0e-0a4c6c1b2d3e";
/// Longer than any URL can be.
const LENGTH: usize = 70_000;

/// A valid message for each text that is sent in a URL, except that the text is too long. With the RPC and the field.
fn requests() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let id = "a".repeat(LENGTH);
    let digits = "9".repeat(LENGTH);
    let email = format!("{}@example.com", "a".repeat(LENGTH));
    let some = |text: &str| Some(text.to_owned());
    let key = |key: Key| {
        framed(&pb::GetLeadRequest {
            key: Some(key),
            ..Default::default()
        })
    };
    let fields = |email: Option<String>, phone: Option<String>| {
        Some(pb::LeadFields {
            email_address: email,
            phone,
            ..Default::default()
        })
    };
    let create = |lead| {
        framed(&pb::CreateLeadRequest {
            lead,
            ..Default::default()
        })
    };
    let update = |lead_id: &str, lead| {
        framed(&pb::UpdateLeadRequest {
            lead_id: lead_id.to_owned(),
            lead,
            ..Default::default()
        })
    };
    let upsert = |lead, match_by: &str| {
        framed(&pb::UpsertLeadRequest {
            lead,
            match_by: match_by.to_owned(),
            ..Default::default()
        })
    };
    let share = |lead: Lead, user: User, context| {
        framed(&pb::ShareLeadRequest {
            lead: Some(lead),
            user: Some(user),
            access: pb::Access::Read.into(),
            context,
            ..Default::default()
        })
    };
    let (right_lead, right_user) = (|| Lead::LeadId(ID.to_owned()), || User::UserId(ID.to_owned()));
    let post = |lead_id: &str| {
        framed(&pb::PostActivityRequest {
            lead_id: lead_id.to_owned(),
            activity_type: 201,
            ..Default::default()
        })
    };
    let leads = "/leadgate.v1.LeadService/";
    let all = [
        (leads, "GetLead", "lead_id", key(Key::LeadId(id.clone()))),
        (leads, "GetLead", "lead_number", key(Key::LeadNumber(digits.clone()))),
        (leads, "GetLead", "email_address", key(Key::EmailAddress(email.clone()))),
        (leads, "GetLead", "phone", key(Key::Phone(digits.clone()))),
        (
            leads,
            "QuickSearchLeads",
            "query",
            framed(&pb::QuickSearchLeadsRequest {
                query: id.clone(),
                ..Default::default()
            }),
        ),
        (
            leads,
            "CreateLead",
            "lead.email_address",
            create(fields(some(&email), None)),
        ),
        (leads, "CreateLead", "lead.phone", create(fields(None, some(&digits)))),
        (
            leads,
            "UpdateLead",
            "lead_id",
            update(&id, fields(some("a@example.com"), None)),
        ),
        (
            leads,
            "UpdateLead",
            "lead.email_address",
            update(ID, fields(some(&email), None)),
        ),
        (
            leads,
            "UpsertLead",
            "lead.phone",
            upsert(fields(None, some(&digits)), ""),
        ),
        (
            leads,
            "UpsertLead",
            "match_by",
            upsert(fields(some("a@example.com"), None), &id),
        ),
        (
            leads,
            "DeleteLead",
            "lead_id",
            framed(&pb::DeleteLeadRequest {
                lead_id: id.clone(),
                ..Default::default()
            }),
        ),
        (
            leads,
            "MergeLeads",
            "lead_id",
            framed(&pb::MergeLeadsRequest {
                lead_id: id.clone(),
                merged_lead_id: ID.to_owned(),
                ..Default::default()
            }),
        ),
        (
            leads,
            "MergeLeads",
            "merged_lead_id",
            framed(&pb::MergeLeadsRequest {
                lead_id: ID.to_owned(),
                merged_lead_id: id.clone(),
                ..Default::default()
            }),
        ),
        (
            "/leadgate.v1.ActivityService/",
            "GetActivity",
            "activity_id",
            framed(&pb::GetActivityRequest {
                activity_id: id.clone(),
            }),
        ),
        (
            "/leadgate.v1.ActivityService/",
            "ListLeadActivities",
            "lead_id",
            framed(&pb::ListLeadActivitiesRequest {
                lead_id: id.clone(),
                ..Default::default()
            }),
        ),
        ("/leadgate.v1.ActivityService/", "PostActivity", "lead_id", post(&id)),
        (
            "/leadgate.v1.UserService/",
            "GetUser",
            "user_id",
            framed(&pb::GetUserRequest {
                key: Some(pb::get_user_request::Key::UserId(id.clone())),
            }),
        ),
        (
            "/leadgate.v1.UserService/",
            "GetUser",
            "email_address",
            framed(&pb::GetUserRequest {
                key: Some(pb::get_user_request::Key::EmailAddress(email.clone())),
            }),
        ),
        (
            "/leadgate.v1.ShareService/",
            "ShareLead",
            "lead_id",
            share(Lead::LeadId(id.clone()), right_user(), None),
        ),
        (
            "/leadgate.v1.ShareService/",
            "ShareLead",
            "lead_number",
            share(Lead::LeadNumber(digits), right_user(), None),
        ),
        (
            "/leadgate.v1.ShareService/",
            "ShareLead",
            "user_id",
            share(right_lead(), User::UserId(id.clone()), None),
        ),
        (
            "/leadgate.v1.ShareService/",
            "ShareLead",
            "user_email_address",
            share(right_lead(), User::UserEmailAddress(email.clone()), None),
        ),
        (
            "/leadgate.v1.ShareService/",
            "ShareLead",
            "activity_id",
            share(
                right_lead(),
                right_user(),
                Some(pb::share_lead_request::Context::ActivityId(id.clone())),
            ),
        ),
        (
            "/leadgate.v1.ShareService/",
            "ShareOpportunity",
            "opportunity_id",
            framed(&pb::ShareOpportunityRequest {
                opportunity_id: id.clone(),
                user: Some(pb::share_opportunity_request::User::UserId(ID.to_owned())),
                access: pb::Access::Read.into(),
                ..Default::default()
            }),
        ),
        (
            "/leadgate.v1.ShareService/",
            "GetUserShareUsage",
            "user_email_address",
            framed(&pb::GetUserShareUsageRequest {
                user: Some(pb::get_user_share_usage_request::User::UserEmailAddress(email)),
            }),
        ),
        (
            "/leadgate.v1.ShareService/",
            "GetShareRequestStatus",
            "upstream_request_id",
            framed(&pb::GetShareRequestStatusRequest {
                upstream_request_id: id,
            }),
        ),
    ];
    let all = all.into_iter();
    all.map(|(service, method, field, message)| (&*format!("{service}{method}").leak(), field, message))
        .collect()
}

#[tokio::test]
async fn a_text_that_is_too_long_for_a_url_is_invalid_before_any_call() {
    let world = World::start().await.warm().await;
    let connection = Raw::connect(world.address).await;
    for (path, field, message) in requests() {
        let response = connection.ask(grpc(path), message).await;
        let error = seen(Status::from_header_map(&response.trailers).unwrap());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), [field], "{path}");
        assert_eq!(error.metadata["attempts"], "0", "{path}");
    }
    assert!(world.simulator.calls().is_empty(), "{:?}", world.simulator.calls());
    world.create(lead("Asha")).await.unwrap();
}

#[tokio::test]
async fn an_unchecked_query_that_is_too_long_is_not_sent() {
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = tokio_util::sync::CancellationToken::new();
    let config = leadgate::config::Config::read(
        "test",
        "[tenants.a]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"",
        std::iter::empty(),
    )
    .unwrap();
    let tenant = &config.tenants["a"];
    let quota = quota(tenant, None, &tasks, stop.clone());
    let (settings, base) = (tenant.upstream.clone(), tenant.base_url.clone());
    let client = crm::Client::new(
        "a",
        base,
        &tenant.keys,
        settings,
        quota.clone(),
        Arc::new(Metrics::default()),
    )
    .unwrap();
    let context = RequestContext::internal("test", Duration::from_secs(5));
    // Encoded, each of these characters has three bytes.
    let error = client
        .call(&context, &GetLeadByEmail("@".repeat(6_000)))
        .await
        .unwrap_err();
    assert_eq!(error.name(), "invalid");
    assert!(error.to_string().contains("at most 16384"), "{error}");
    // The slot is free again.
    assert_eq!(quota.snapshot().calls.used, 0);
    stop.cancel();
}
