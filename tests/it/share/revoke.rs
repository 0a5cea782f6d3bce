//! Revoking shares.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options, RevokeUnshared};
use pb::share_lead_request::{Lead, User};
use pb::{ShareState, WaitFor};
use tonic::Code;
use uuid::Uuid;

use super::{NEVER, SAM, SITA, ShareFixture, reason};
use crate::harness::{seen, within};

#[tokio::test]
async fn a_revoked_share_has_no_access_in_leadsquared() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let revoked = fixture.revoke(&share.share_id).await.unwrap();
    assert_eq!((revoked.state(), revoked.failure), (ShareState::Revoked, None));
    assert!(fixture.granted().is_empty());
    // A second revoke has no effect.
    let again = fixture.revoke(&share.share_id).await.unwrap();
    assert_eq!(again.state(), ShareState::Revoked);
    assert_eq!(fixture.world.calls("EntityAccess.Revoke").len(), 1);
    // The lead can be shared with the user again.
    fixture.share().await;
}

#[tokio::test]
async fn a_share_is_revoked_by_lead_user_and_activity() {
    let fixture = ShareFixture::new().await;
    let first = fixture.share().await;
    let additional = pb::ShareLeadRequest {
        allow_additional: true,
        ..fixture.request()
    };
    let second = fixture.try_share(additional).await.unwrap();
    let revoke = async |activity_id: &str| {
        let triple = pb::ShareTriple {
            lead_id: fixture.lead.to_uppercase(),
            user_id: SAM.into(),
            activity_id: activity_id.into(),
        };
        let request = pb::RevokeShareRequest {
            share: Some(pb::revoke_share_request::Share::Triple(triple)),
            wait_for: WaitFor::Active.into(),
            request_id: Uuid::new_v4().to_string(),
        };
        let response = fixture.client.clone().revoke_share(request).await;
        response.map(|response| response.into_inner().share.unwrap())
    };
    assert_eq!(seen(revoke("").await.unwrap_err()).fields(), ["triple.activity_id"]);
    let revoked = revoke(&first.activity_id).await.unwrap();
    assert_eq!(
        (revoked.share_id.as_str(), revoked.state()),
        (first.share_id.as_str(), ShareState::Revoked)
    );
    assert_eq!(revoke("").await.unwrap().share_id, second.share_id);
    assert_eq!(reason(revoke("").await), (Code::NotFound, "SHARE_NOT_FOUND".into()));
}

#[tokio::test]
async fn a_share_in_progress_is_revoked_after_it_is_granted() {
    let fixture = ShareFixture::with(|options| options.share_polls = 3, "").await;
    let request = pb::ShareLeadRequest {
        wait_for: WaitFor::Submitted.into(),
        ..fixture.request()
    };
    let share = fixture.try_share(request).await.unwrap();
    assert_eq!(share.state(), ShareState::Processing);
    let revoking = fixture.start_revoke(&share.share_id, WaitFor::None).await.unwrap();
    assert_eq!(revoking.state(), ShareState::Revoking);
    fixture.wait_until(&share.share_id, ShareState::Revoked).await;
    assert!(fixture.granted().is_empty());
}

#[tokio::test]
async fn a_revoke_does_not_wait_for_an_unprocessed_share_request() {
    let fixture = ShareFixture::with(|options| options.share_polls = NEVER, "").await;
    let request = pb::ShareLeadRequest {
        wait_for: WaitFor::Submitted.into(),
        ..fixture.request()
    };
    let share = fixture.try_share(request).await.unwrap();
    let revoking = fixture.start_revoke(&share.share_id, WaitFor::Submitted).await.unwrap();
    assert_eq!(revoking.state(), ShareState::Revoking);
    assert_eq!(fixture.world.calls("EntityAccess.Revoke").len(), 1);
}

#[tokio::test]
async fn a_rejected_revoke_leaves_the_share_active() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let set_role = |role: &str| fixture.world.set_options(|options| options.role = role.to_owned());
    set_role("Sales_User");
    assert_eq!(
        reason(fixture.revoke(&share.share_id).await),
        (Code::FailedPrecondition, "UPSTREAM_FEATURE_DISABLED".into())
    );
    let kept = fixture.get(&share.share_id).await.share.unwrap();
    assert_eq!((kept.state(), kept.failure.is_some()), (ShareState::Active, true));
    set_role("Administrator");
    let revoked = fixture.revoke(&share.share_id).await.unwrap();
    assert_eq!(revoked.state(), ShareState::Revoked);
}

#[tokio::test]
async fn a_revoke_is_requested_again_after_a_lost_response() {
    // After `CommitThenDrop` the second request is rejected, because there is no access.
    for fault in [FaultKind::DropBefore, FaultKind::CommitThenDrop] {
        let fixture = ShareFixture::with(|options| options.share_polls = 0, "").await;
        let share = fixture.share().await;
        fixture.world.fail_next("EntityAccess.Revoke", fault.clone());
        let revoked = fixture.revoke(&share.share_id).await.unwrap();
        assert_eq!(revoked.state(), ShareState::Revoked, "{fault:?}");
        assert_eq!(fixture.world.calls("EntityAccess.Revoke").len(), 2, "{fault:?}");
        assert!(fixture.granted().is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_response_with_a_text_of_gone_texts_means_revoked() {
    for (unshared, text, settings) in [
        (RevokeUnshared::Later, "no such SHARE", ""),
        (RevokeUnshared::AtOnce, "Error: No such share.", ""),
        (
            RevokeUnshared::Later,
            "Kein Zugriff",
            "gone_texts = [\"kein zugriff\"]\n",
        ),
    ] {
        let change = |options: &mut Options| {
            options.share_polls = 0;
            options.revoke_unshared = unshared;
            options.revoke_unshared_text = text.to_owned();
        };
        let fixture = ShareFixture::with(change, settings).await;
        let share = fixture.share().await;
        // The first revoke is executed and its response is lost. The second finds no access.
        fixture
            .world
            .fail_next("EntityAccess.Revoke", FaultKind::CommitThenDrop);
        let revoked = fixture.revoke(&share.share_id).await.unwrap();
        assert_eq!(revoked.state(), ShareState::Revoked, "{text}");
        assert_eq!(fixture.world.calls("EntityAccess.Revoke").len(), 2, "{text}");
    }
}

#[tokio::test]
async fn without_gone_texts_a_repeated_revoke_is_uncertain() {
    let change = |options: &mut Options| {
        options.share_polls = 0;
        options.revoke_unshared_text = "No such share".into();
    };
    let fixture = ShareFixture::with(change, "gone_texts = []\n").await;
    let share = fixture.share().await;
    fixture
        .world
        .fail_next("EntityAccess.Revoke", FaultKind::CommitThenDrop);
    seen(fixture.revoke(&share.share_id).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
}

#[tokio::test]
async fn a_share_of_a_deleted_lead_is_revoked() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    fixture.world.simulator.delete_lead(&fixture.lead);
    let revoked = fixture.revoke(&share.share_id).await.unwrap();
    assert_eq!(revoked.state(), ShareState::Revoked);
}

#[tokio::test]
async fn an_uncertain_share_that_was_granted_is_revoked_in_leadsquared() {
    let fixture = ShareFixture::with(|options| options.share_polls = 0, "").await;
    let id = fixture.share_with_unknown_outcome(FaultKind::CommitThenDrop).await;
    assert_eq!(fixture.granted().len(), 1);

    let revoked = fixture.revoke(&id).await.unwrap();
    assert_eq!((revoked.state(), revoked.failure), (ShareState::Revoked, None));
    assert!(fixture.granted().is_empty());
    // LeadSquared executed the revoke.
    let status = fixture.request_status(&revoked.upstream_request_id).await.unwrap();
    assert_eq!((status.processed, status.failed), (true, false));
    assert_eq!(
        fixture.share_and_revoke_calls(),
        ["EntityAccess.Share", "EntityAccess.Revoke"]
    );
}

#[tokio::test]
async fn an_uncertain_share_that_was_not_granted_is_revoked_although_leadsquared_has_no_access() {
    let fixture = ShareFixture::with(|options| options.share_polls = 0, "").await;
    let id = fixture.share_with_unknown_outcome(FaultKind::DropBefore).await;
    assert!(fixture.granted().is_empty());

    let revoked = fixture.revoke(&id).await.unwrap();
    assert_eq!((revoked.state(), revoked.failure), (ShareState::Revoked, None));
    assert!(fixture.granted().is_empty());
    // LeadSquared rejected the revoke, because there was nothing to revoke.
    let status = fixture.request_status(&revoked.upstream_request_id).await.unwrap();
    assert_eq!((status.processed, status.failed), (false, true));
    assert_eq!(
        fixture.share_and_revoke_calls(),
        ["EntityAccess.Share", "EntityAccess.Revoke"]
    );
}

#[tokio::test]
async fn a_repeated_request_returns_a_share_that_is_being_revoked() {
    for wait in [WaitFor::Active, WaitFor::Submitted] {
        let fixture = ShareFixture::new().await;
        let request = pb::ShareLeadRequest {
            request_id: Uuid::from_u128(7).to_string(),
            wait_for: wait.into(),
            ..fixture.request()
        };
        let send = async || {
            let request = within(Duration::from_secs(5), request.clone());
            let limit = Duration::from_secs(2);
            let response = tokio::time::timeout(limit, fixture.client.clone().share_lead(request)).await;
            let response = response.expect("a response without a wait").unwrap();
            response.into_inner().share.unwrap()
        };
        let id = send().await.share_id;
        fixture.wait_until(&id, ShareState::Active).await;
        fixture.process_after_polls(NEVER);
        // LeadSquared accepts the revoke after a delay, and does not process it.
        let by = Duration::from_millis(300);
        fixture.world.fail_next("EntityAccess.Revoke", FaultKind::Delay { by });
        for revoke_wait in [WaitFor::None, WaitFor::Submitted] {
            fixture.start_revoke(&id, revoke_wait).await.unwrap();
            let again = send().await;
            assert_eq!(
                (&again.share_id, again.state()),
                (&id, ShareState::Revoking),
                "{wait:?}"
            );
        }
        fixture.process_after_polls(0);
        fixture.wait_until(&id, ShareState::Revoked).await;
        assert_eq!(send().await.state(), ShareState::Revoked, "{wait:?}");
    }
}

#[tokio::test]
async fn a_repeated_request_returns_a_share_with_an_uncertain_revoke() {
    let fixture = ShareFixture::new().await;
    let request = pb::ShareLeadRequest {
        request_id: Uuid::from_u128(8).to_string(),
        ..fixture.request()
    };
    let share = fixture.try_share(request.clone()).await.unwrap();
    let fault = Fault::new("EntityAccess.Revoke", FaultKind::DropBefore).times(2);
    fixture.world.simulator.add_fault(fault).unwrap();
    seen(fixture.revoke(&share.share_id).await.unwrap_err()).is(Code::Aborted, "OUTCOME_UNKNOWN");
    let again = fixture.try_share(request).await.unwrap();
    assert_eq!(
        (again.state(), again.uncertain_step.as_str()),
        (ShareState::Uncertain, "revoke")
    );
}

#[tokio::test]
async fn all_shares_of_a_user_are_revoked_with_one_rpc() {
    let fixture = ShareFixture::new().await;
    let mut ids = Vec::new();
    for user in [SAM, SITA] {
        for name in ["Ben", "Cid", "Dan"] {
            let request = pb::ShareLeadRequest {
                lead: Some(Lead::LeadId(fixture.insert_lead(name))),
                user: Some(User::UserId(user.into())),
                ..fixture.request()
            };
            ids.push(fixture.try_share(request).await.unwrap().share_id);
        }
    }
    let request = pb::RevokeSharesRequest {
        user_id: SAM.into(),
        ..Default::default()
    };
    let stream = fixture.client.clone().revoke_shares(request).await.unwrap();
    let mut stream = stream.into_inner();
    let mut revoked = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        assert!(response.error.is_none());
        revoked.push(response.share.unwrap().share_id);
    }
    revoked.sort();
    assert_eq!(revoked, ids[..3]);
    for id in &revoked {
        fixture.wait_until(id, ShareState::Revoked).await;
    }
    assert!(fixture.granted().iter().all(|share| share.user_id == SITA));
}

#[tokio::test]
async fn revoke_shares_requires_a_filter() {
    let fixture = ShareFixture::new().await;
    let request = pb::RevokeSharesRequest::default();
    let stream = fixture.client.clone().revoke_shares(request).await.unwrap();
    let status = stream.into_inner().message().await.unwrap_err();
    assert_eq!(seen(status).fields(), ["lead_id"]);
}
