//! Unknown outcomes: lost responses, uncertain shares and RetryShare.

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options, Reshare};
use pb::{ShareState, WaitFor};
use tonic::Code;
use uuid::Uuid;

use super::{NEVER, ShareFixture, reason, share_id};
use crate::harness::seen;

#[tokio::test]
async fn an_activity_is_looked_up_after_a_lost_response() {
    for fault in [FaultKind::CommitThenDrop, FaultKind::GarbageJson] {
        let fixture = ShareFixture::new().await;
        fixture.world.fail_next("ProspectActivity.Create", fault);
        let share = fixture.share().await;
        assert_eq!(share.state(), ShareState::Active);
        assert_eq!(fixture.world.calls("ProspectActivity.Create").len(), 1);
        assert_eq!(fixture.world.simulator.activities().len(), 1);
        assert_eq!(fixture.granted().len(), 1);
    }
}

#[tokio::test]
async fn an_activity_that_was_not_created_is_posted_again() {
    let fixture = ShareFixture::new().await;
    fixture
        .world
        .fail_next("ProspectActivity.Create", FaultKind::DropBefore);
    let share = fixture.share().await;
    assert_eq!(share.state(), ShareState::Active);
    assert_eq!(fixture.world.calls("ProspectActivity.Create").len(), 2);
    assert!(fixture.world.calls("ProspectActivity.Retrieve").len() >= 2);
    assert_eq!(fixture.world.simulator.activities().len(), 1);
}

#[tokio::test]
async fn a_share_is_uncertain_after_a_lost_response_until_it_is_retried() {
    let fixture = ShareFixture::new().await;
    fixture.world.fail_next("EntityAccess.Share", FaultKind::CommitThenDrop);
    let request = pb::ShareLeadRequest {
        request_id: Uuid::from_u128(9).to_string(),
        ..fixture.request()
    };
    let lost = seen(fixture.try_share(request.clone()).await.unwrap_err());
    lost.is_settled_by_hand("RetryShare or RevokeShare resolves it");
    // The post of the activity and the share request.
    assert_eq!(lost.metadata["attempts"], "2");
    let id = share_id(&lost);
    let repeated = seen(fixture.try_share(request).await.unwrap_err());
    repeated.is_settled_by_hand("GetShare returns it");
    assert_eq!(share_id(&repeated), id);
    let share = fixture.get(&id).await.share.unwrap();
    assert_eq!(
        (share.state(), share.uncertain_step.as_str()),
        (ShareState::Uncertain, "share")
    );
    assert_eq!(fixture.world.calls("EntityAccess.Share").len(), 1);
    // An uncertain share conflicts with a new one.
    assert_eq!(reason(fixture.try_share(fixture.request()).await).1, "SHARE_EXISTS");

    let share = fixture.retry(&id).await.unwrap();
    assert_eq!(share.state(), ShareState::Active);
    assert_eq!(fixture.granted().len(), 1);
}

#[tokio::test]
async fn a_retry_of_an_uncertain_share_revokes_before_it_requests_again() {
    for fault in [FaultKind::CommitThenDrop, FaultKind::DropBefore] {
        for text in ["Not shared with the user", "No such share"] {
            let change = |options: &mut Options| {
                options.share_polls = 2;
                // Makes a second grant visible.
                options.reshare = Reshare::Duplicate;
                options.revoke_unshared_text = text.to_owned();
            };
            let fixture = ShareFixture::with(change, "").await;
            let id = fixture.share_with_unknown_outcome(fault.clone()).await;
            // A request that was accepted without a response is granted now.
            fixture.process_after_polls(0);

            let share = fixture.retry(&id).await.unwrap();
            assert_eq!(share.state(), ShareState::Active, "{fault:?}");
            let order = ["EntityAccess.Share", "EntityAccess.Revoke", "EntityAccess.Share"];
            assert_eq!(fixture.share_and_revoke_calls(), order, "{fault:?}");
            assert_eq!(fixture.granted().len(), 1, "{fault:?}");
            let changes = fixture.get(&id).await.changes;
            let states: Vec<_> = changes.iter().map(pb::ShareChange::state).collect();
            assert!(!states.contains(&ShareState::Revoking), "{states:?}");
        }
    }
}

#[tokio::test]
async fn a_retry_with_a_rejected_revoke_does_not_request_again() {
    let fixture = ShareFixture::with(|options| options.reshare = Reshare::Duplicate, "").await;
    let id = fixture.share_with_unknown_outcome(FaultKind::CommitThenDrop).await;
    let set_role = |role: &str| fixture.world.set_options(|options| options.role = role.to_owned());
    set_role("Sales_User");
    seen(fixture.retry(&id).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    let share = fixture.get(&id).await.share.unwrap();
    assert_eq!(
        (share.state(), share.uncertain_step.as_str()),
        (ShareState::Uncertain, "share")
    );
    assert_eq!(
        fixture.share_and_revoke_calls(),
        ["EntityAccess.Share", "EntityAccess.Revoke"]
    );
    set_role("Administrator");
    assert_eq!(fixture.retry(&id).await.unwrap().state(), ShareState::Active);
    assert_eq!(fixture.granted().len(), 1);
}

#[tokio::test]
async fn a_share_that_is_revoked_during_a_retry_is_not_requested_again() {
    let fixture = ShareFixture::new().await;
    let id = fixture.share_with_unknown_outcome(FaultKind::CommitThenDrop).await;
    fixture.process_after_polls(NEVER);
    let retried = fixture.start_retry(&id, WaitFor::None).await.unwrap();
    assert_eq!(retried.state(), ShareState::Pending);
    while fixture.world.calls("EntityAccess.Revoke").is_empty() {
        tokio::task::yield_now().await;
    }
    fixture.start_revoke(&id, WaitFor::None).await.unwrap();
    fixture.process_after_polls(0);
    fixture.wait_until(&id, ShareState::Revoked).await;
    assert_eq!(
        fixture.share_and_revoke_calls(),
        ["EntityAccess.Share", "EntityAccess.Revoke"]
    );
    assert!(fixture.granted().is_empty());
}

#[tokio::test]
async fn with_may_ask_again_a_share_is_requested_again_after_a_lost_response() {
    let fixture = ShareFixture::with(|_| {}, "may_ask_again = true\n").await;
    fixture.world.fail_next("EntityAccess.Share", FaultKind::CommitThenDrop);
    assert_eq!(fixture.share().await.state(), ShareState::Active);
    assert_eq!(fixture.world.calls("EntityAccess.Share").len(), 2);
    assert_eq!(fixture.granted().len(), 1);
}

#[tokio::test]
async fn a_retry_of_an_unprocessed_request_polls_its_status_again() {
    let settings = "give_up_after = \"300ms\"\n";
    let fixture = ShareFixture::with(|options| options.share_polls = NEVER, settings).await;
    let error = seen(fixture.try_share(fixture.request()).await.unwrap_err());
    error.is(Code::Aborted, "OUTCOME_UNKNOWN");
    fixture.process_after_polls(0);
    let share = fixture.retry(&share_id(&error)).await.unwrap();
    assert_eq!(share.state(), ShareState::Active);
    // The share was requested only once.
    assert_eq!(fixture.world.calls("EntityAccess.Share").len(), 1);
}

#[tokio::test]
async fn an_error_without_an_exception_type_is_an_unknown_outcome() {
    for text in [
        "An unknown error occurred while sharing the lead",
        "Something went wrong, contact your administrator",
        "Could not write activity log",
        "User is not a sales user",
    ] {
        let fixture = ShareFixture::new().await;
        let body = format!(r#"{{"Status":"Error","ExceptionType":"","ExceptionMessage":"{text}"}}"#);
        let response = FaultKind::Respond {
            status: 500,
            body,
            content_type: None,
            commit: true,
        };
        fixture.share_with_unknown_outcome(response).await;
    }
}

#[tokio::test]
async fn a_revoke_without_success_is_given_up() {
    let fixture = ShareFixture::with(|_| {}, "give_up_after = \"1s\"\n").await;
    let share = fixture.share().await;
    let simulator = &fixture.world.simulator;
    simulator
        .add_fault(Fault::new("*", FaultKind::Unauthorized).times(1000))
        .unwrap();
    assert_eq!(
        reason(fixture.revoke(&share.share_id).await),
        (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED".into())
    );
    simulator.clear_faults();
    simulator
        .add_fault(Fault::new("EntityAccess.Revoke", FaultKind::Refuse).times(1000))
        .unwrap();
    assert!(fixture.revoke(&share.share_id).await.is_err());
    assert_eq!(fixture.state(&share.share_id).await, ShareState::Active);
}
