//! Creating shares: requests, contexts, request ids and rejections.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Options, ShareFailures};
use pb::share_lead_request::{Context, Lead, User};
use pb::share_service_client::ShareServiceClient;
use pb::{Access, ShareState, WaitFor};
use tonic::Code;
use uuid::Uuid;

use super::{ASHA, LATA, NEVER, SAM, SITA, ShareFixture, minutes, reason, share_id};
use crate::harness::{World, channel, custom, seen, text, within};

#[tokio::test]
async fn a_lead_is_shared_with_one_rpc() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;

    assert_eq!(share.state(), ShareState::Active);
    assert_eq!(
        (share.lead_id.as_str(), share.lead_number.as_str()),
        (fixture.lead.as_str(), "1001")
    );
    assert_eq!((share.user_id.as_str(), share.access()), (SAM, Access::Write));
    assert_eq!(share.duration, Some(minutes(30)));
    let (granted, expires) = (share.grant_time.unwrap(), share.expire_time.unwrap());
    assert_eq!(expires.seconds - granted.seconds, 1800);

    let granted = fixture.granted();
    assert_eq!(granted.len(), 1);
    assert_eq!(
        (
            granted[0].user_id.as_str(),
            granted[0].entity_id.as_str(),
            granted[0].access
        ),
        (SAM, "1001", 2)
    );
    assert_eq!(granted[0].activity_id.as_deref(), Some(share.activity_id.as_str()));
    let activity = &fixture.world.simulator.activities()[0];
    assert_eq!(activity.owner.as_deref(), Some(SAM));

    let response = fixture.get(&share.share_id).await;
    assert_eq!(response.source(), pb::ShareSource::Ledger);
    let states: Vec<_> = response.changes.iter().map(pb::ShareChange::state).collect();
    let expected = [
        ShareState::Pending,
        ShareState::Submitted,
        ShareState::Processing,
        ShareState::Active,
    ];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn a_share_needs_four_upstream_calls_and_two_for_a_known_lead_and_user() {
    let fixture = ShareFixture::new().await;
    fixture.share().await;
    let mut calls = fixture.calls();
    calls[..2].sort();
    assert_eq!(
        calls,
        [
            "Leads.GetById",
            "Users.Get",
            "ProspectActivity.Create",
            "EntityAccess.Share"
        ]
    );
    fixture.world.simulator.forget_calls();
    let again = fixture.additional_request();
    fixture.try_share(again.clone()).await.unwrap();
    assert_eq!(fixture.calls(), ["ProspectActivity.Create", "EntityAccess.Share"]);

    // The same for a request with the number of the lead.
    fixture.world.simulator.forget_calls();
    let again = pb::ShareLeadRequest {
        lead: Some(Lead::LeadNumber("1001".into())),
        ..again
    };
    fixture.try_share(again).await.unwrap();
    assert_eq!(fixture.calls(), ["ProspectActivity.Create", "EntityAccess.Share"]);
}

#[tokio::test]
async fn every_kind_of_lead_user_and_context_is_accepted() {
    let fixture = ShareFixture::new().await;
    let existing = fixture.insert_activity(202, SAM);
    let users = Options::default().users;
    let sam = users.iter().find(|user| user.id == SAM).unwrap();
    let by_number = pb::ShareLeadRequest {
        lead: Some(Lead::LeadNumber("1001".into())),
        user: Some(User::UserEmailAddress(sam.email_address.to_uppercase())),
        context: Some(Context::ActivityId(existing.clone())),
        access: Access::Read.into(),
        duration: None,
        ..fixture.request()
    };
    let share = fixture.try_share(by_number).await.unwrap();
    assert_eq!(
        (share.lead_id.as_str(), share.user_id.as_str()),
        (fixture.lead.as_str(), SAM)
    );
    assert_eq!(
        (share.activity_id.as_str(), share.access()),
        (existing.as_str(), Access::Read)
    );
    assert_eq!(share.duration, Some(minutes(90 * 24 * 60)));
    assert_eq!(fixture.world.simulator.activities().len(), 1);
    assert_eq!(fixture.granted()[0].access, 1);

    let with_new = pb::ShareLeadRequest {
        context: Some(Context::NewActivity(pb::NewActivity {
            activity_type: 201,
            note: "Please call".into(),
            fields: custom(&[("mx_Custom_1", text("7"))]),
        })),
        ..fixture.additional_request()
    };
    let share = fixture.try_share(with_new).await.unwrap();
    let posted = fixture.world.simulator.activities();
    let posted = posted.iter().find(|activity| activity.id == share.activity_id).unwrap();
    let note = format!("leadgate share {}\nPlease call", share.share_id);
    assert_eq!(
        (posted.note.as_deref(), posted.fields["mx_Custom_1"].as_str()),
        (Some(note.as_str()), "7")
    );
}

#[tokio::test]
async fn an_rpc_returns_at_the_requested_point_or_at_the_deadline() {
    let fixture = ShareFixture::with(|options| options.share_polls = NEVER, "").await;
    let none = pb::ShareLeadRequest {
        wait_for: WaitFor::None.into(),
        ..fixture.request()
    };
    let share = fixture.try_share(none).await.unwrap();
    assert!(matches!(share.state(), ShareState::Pending | ShareState::Submitted));

    let submitted = pb::ShareLeadRequest {
        wait_for: WaitFor::Unspecified.into(),
        user: Some(User::UserId(SITA.into())),
        ..fixture.request()
    };
    let share = fixture.try_share(submitted).await.unwrap();
    assert_eq!(share.state(), ShareState::Processing);
    assert_eq!(share.upstream_request_id.len(), 32);

    let active = fixture.additional_request();
    let response = fixture
        .client
        .clone()
        .share_lead(within(Duration::from_secs(2), active))
        .await;
    let share = response.unwrap().into_inner().share.unwrap();
    assert_eq!(share.state(), ShareState::Processing);
    fixture.process_after_polls(0);
    fixture.wait_until(&share.share_id, ShareState::Active).await;
}

#[tokio::test]
async fn all_invalid_fields_of_a_request_are_reported_together() {
    let fixture = ShareFixture::new().await;
    let invalid = pb::ShareLeadRequest {
        lead: Some(Lead::LeadNumber("x1".into())),
        user: Some(User::UserEmailAddress("nobody".into())),
        access: 0,
        duration: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
        context: Some(Context::NewActivity(pb::NewActivity {
            activity_type: -1,
            fields: custom(&[("mx_Custom_1", pb::FieldValue::default()), ("Owner", text(SITA))]),
            ..Default::default()
        })),
        wait_for: 9,
        request_id: "7".into(),
        ..Default::default()
    };
    let error = seen(fixture.try_share(invalid).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = error.fields();
    fields.sort_unstable();
    let expected = [
        "access",
        "duration",
        "lead_number",
        "new_activity.activity_type",
        "new_activity.fields[\"Owner\"]",
        "new_activity.fields[\"mx_Custom_1\"]",
        "request_id",
        "user_email_address",
        "wait_for",
    ];
    assert_eq!(fields, expected);
    assert!(fixture.world.simulator.calls().is_empty());
    let listed = fixture.list(pb::ListSharesRequest::default()).await.unwrap();
    assert!(listed.shares.is_empty());
}

#[tokio::test]
async fn invalid_durations_are_rejected() {
    let fixture = ShareFixture::new().await;
    for (seconds, nanos) in [
        (0, 0),
        (59, 0),
        (90, 0),
        (3600 * 24 * 366 * 11, 0),
        (i64::MIN, 0),
        (i64::MIN, i32::MIN),
        (60, -1),
        (60, i32::MAX),
        (i64::MAX, 0),
    ] {
        let request = pb::ShareLeadRequest {
            duration: Some(prost_types::Duration { seconds, nanos }),
            ..fixture.request()
        };
        let error = seen(fixture.try_share(request).await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["duration"]);
    }
    assert!(fixture.world.simulator.calls().is_empty());
}

#[tokio::test]
async fn an_unknown_lead_or_user_is_reported_before_a_share_is_stored() {
    let fixture = ShareFixture::new().await;
    for (user, code, name) in [
        (ASHA, Code::FailedPrecondition, "NOT_A_SALES_USER"),
        (LATA, Code::FailedPrecondition, "NOT_A_SALES_USER"),
        ("a0000000-0000-4000-8000-00000000000f", Code::NotFound, "USER_NOT_FOUND"),
    ] {
        let request = pb::ShareLeadRequest {
            user: Some(User::UserId(user.into())),
            ..fixture.request()
        };
        assert_eq!(reason(fixture.try_share(request).await), (code, name.into()), "{user}");
    }
    for lead in [
        Lead::LeadId("b0000000-0000-4000-8000-00000000000f".into()),
        Lead::LeadNumber("999999".into()),
    ] {
        let request = pb::ShareLeadRequest {
            lead: Some(lead),
            ..fixture.request()
        };
        assert_eq!(
            reason(fixture.try_share(request).await),
            (Code::NotFound, "LEAD_NOT_FOUND".into())
        );
    }
    assert!(fixture.world.simulator.activities().is_empty());
    let listed = fixture.list(pb::ListSharesRequest::default()).await.unwrap();
    assert!(listed.shares.is_empty());
}

#[tokio::test]
async fn without_a_default_type_a_share_requires_an_activity() {
    let world = World::start().await;
    let lead = world.simulator.insert_lead(&[("FirstName", "Ann")]);
    let mut client = ShareServiceClient::new(channel(world.address).await);
    let request = pb::ShareLeadRequest {
        lead: Some(Lead::LeadId(lead)),
        user: Some(User::UserId(SAM.into())),
        access: Access::Read.into(),
        ..Default::default()
    };
    let error = seen(client.share_lead(request).await.unwrap_err());
    assert_eq!(error.fields(), ["new_activity.activity_type"]);
}

#[tokio::test]
async fn a_second_share_of_a_lead_with_a_user_must_be_additional() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let error = seen(fixture.try_share(fixture.request()).await.unwrap_err());
    error.is(Code::AlreadyExists, "SHARE_EXISTS");
    assert_eq!(error.details.resource_info().unwrap().resource_name, share.share_id);
    // An additional share needs another activity.
    let same_activity = pb::ShareLeadRequest {
        context: Some(Context::ActivityId(share.activity_id.clone())),
        ..fixture.additional_request()
    };
    assert_eq!(reason(fixture.try_share(same_activity).await).1, "SHARE_EXISTS");
    fixture.try_share(fixture.additional_request()).await.unwrap();
    assert_eq!(fixture.granted().len(), 2);
    let other_user = pb::ShareLeadRequest {
        user: Some(User::UserId(SITA.into())),
        ..fixture.request()
    };
    fixture.try_share(other_user).await.unwrap();
}

#[tokio::test]
async fn activity_ids_are_compared_in_any_case() {
    let fixture = ShareFixture::new().await;
    let id = fixture.insert_activity(201, SAM);
    let through = |id: String| pb::ShareLeadRequest {
        context: Some(Context::ActivityId(id)),
        ..fixture.additional_request()
    };
    fixture.try_share(through(id.clone())).await.unwrap();
    assert_eq!(
        reason(fixture.try_share(through(id.to_uppercase())).await).1,
        "SHARE_EXISTS"
    );
}

#[tokio::test]
async fn of_concurrent_requests_for_the_same_share_one_succeeds() {
    let fixture = ShareFixture::new().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (mut client, request) = (fixture.client.clone(), fixture.request());
        calls.spawn(async move { client.share_lead(request).await });
    }
    let results = calls.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(fixture.granted().len(), 1);
    assert_eq!(fixture.world.simulator.activities().len(), 1);
}

#[tokio::test]
async fn the_same_request_id_returns_the_same_share() {
    let fixture = ShareFixture::new().await;
    let request = pb::ShareLeadRequest {
        request_id: Uuid::new_v4().to_string(),
        ..fixture.request()
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (mut client, request) = (fixture.client.clone(), request.clone());
        calls.spawn(async move { client.share_lead(request).await.unwrap().into_inner().share.unwrap() });
    }
    let shares = calls.join_all().await;
    let first = fixture.try_share(request.clone()).await.unwrap();
    assert!(shares.iter().all(|share| share.share_id == first.share_id));
    assert_eq!(fixture.granted().len(), 1);
    let other = pb::ShareLeadRequest {
        access: Access::Read.into(),
        ..request
    };
    assert_eq!(
        seen(fixture.try_share(other).await.unwrap_err()).fields(),
        ["request_id"]
    );
}

#[tokio::test]
async fn a_rejected_share_has_the_reason_and_can_be_retried() {
    for failures in [ShareFailures::AtOnce, ShareFailures::Later] {
        for (change, code, name) in [
            (
                (|options: &mut Options| options.sharing_enabled = false) as fn(&mut Options),
                Code::FailedPrecondition,
                "UPSTREAM_FEATURE_DISABLED",
            ),
            (
                |options| options.role = "Sales_User".into(),
                Code::FailedPrecondition,
                "UPSTREAM_FEATURE_DISABLED",
            ),
            (
                |options| options.share_max_minutes = 5,
                Code::InvalidArgument,
                "INVALID_FIELD",
            ),
        ] {
            let fixture = ShareFixture::with(
                |options| {
                    options.share_failures = failures;
                    change(options);
                },
                "",
            )
            .await;
            let error = seen(fixture.try_share(fixture.request()).await.unwrap_err());
            error.is(code, name);
            // The share has the same failure.
            let share = fixture.get(&share_id(&error)).await.share.unwrap();
            assert_eq!(
                (share.state(), share.uncertain_step.as_str()),
                (ShareState::Failed, "share")
            );
            assert_eq!(share.failure.unwrap().code, code as i32);
            assert!(fixture.granted().is_empty());

            // The share can be retried after the cause is removed.
            fixture.world.set_options(|options| {
                options.sharing_enabled = true;
                options.role = "Administrator".into();
                options.share_max_minutes = 0;
            });
            let retried = fixture.retry(&share.share_id).await.unwrap();
            assert_eq!((retried.state(), retried.failure), (ShareState::Active, None));
            assert_eq!(fixture.world.simulator.activities().len(), 1);
            assert_eq!(reason(fixture.retry(&share.share_id).await).1, "SHARE_NOT_RETRYABLE");
        }
    }
}

#[tokio::test]
async fn an_activity_of_another_owner_is_rejected_as_context() {
    for failures in [ShareFailures::AtOnce, ShareFailures::Later] {
        let fixture = ShareFixture::with(|options| options.share_failures = failures, "").await;
        let other = fixture.insert_activity(201, SITA);
        let request = pb::ShareLeadRequest {
            context: Some(Context::ActivityId(other)),
            ..fixture.request()
        };
        assert_eq!(
            seen(fixture.try_share(request).await.unwrap_err()).fields(),
            ["activity_id"]
        );
        let request = pb::ShareLeadRequest {
            context: Some(Context::ActivityId("c0000000-0000-4000-8000-00000000000f".into())),
            ..fixture.request()
        };
        assert_eq!(
            reason(fixture.try_share(request).await),
            (Code::NotFound, "ACTIVITY_NOT_FOUND".into())
        );
    }
}

#[tokio::test]
async fn a_full_quota_delays_a_share() {
    let fixture = ShareFixture::with(
        |options| {
            options.limits.calls = 2;
            options.limits.per = Duration::from_millis(300);
        },
        "",
    )
    .await;
    let share = fixture.share().await;
    assert_eq!(share.state(), ShareState::Active);
}
