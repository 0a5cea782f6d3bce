//! Extending shares.

use leadgate::grpc::pb;
use pb::{ShareState, WaitFor};
use tonic::Code;
use uuid::Uuid;

use super::{NEVER, ShareFixture, minutes};
use crate::harness::seen;

#[tokio::test]
async fn an_extension_starts_before_the_old_share_ends() {
    let fixture = ShareFixture::new().await;
    let old = fixture.share().await;
    let request = pb::ExtendShareRequest {
        share_id: old.share_id.clone(),
        duration: Some(minutes(120)),
        wait_for: WaitFor::Active.into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let new = fixture.try_extend(request.clone()).await.unwrap();
    assert_eq!(
        (new.state(), new.extends_share_id.as_str()),
        (ShareState::Active, old.share_id.as_str())
    );
    assert_ne!(new.activity_id, old.activity_id);
    assert_eq!(new.duration, Some(minutes(120)));
    fixture.wait_until(&old.share_id, ShareState::Revoked).await;
    let granted = fixture.granted();
    assert_eq!(
        (granted.len(), granted[0].activity_id.as_deref()),
        (1, Some(new.activity_id.as_str()))
    );
    // The new share was requested before the old one was revoked.
    let calls = fixture.calls();
    let last = |name: &str| calls.iter().rposition(|call| call == name).unwrap();
    assert!(last("EntityAccess.Share") < last("EntityAccess.Revoke"));

    let repeated = fixture.try_extend(request).await.unwrap();
    assert_eq!(repeated.share_id, new.share_id);
}

#[tokio::test]
async fn a_share_that_is_not_active_cannot_be_extended() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    fixture.revoke(&share.share_id).await.unwrap();
    let extended = fixture.extend(&share.share_id, WaitFor::Unspecified).await;
    seen(extended.unwrap_err()).is(Code::FailedPrecondition, "SHARE_NOT_ACTIVE");
}

#[tokio::test]
async fn a_share_has_at_most_one_extension() {
    let fixture = ShareFixture::new().await;
    let old = fixture.share().await;
    fixture.process_after_polls(NEVER);
    let new = fixture.extend(&old.share_id, WaitFor::Submitted).await.unwrap();
    let error = seen(fixture.extend(&old.share_id, WaitFor::Submitted).await.unwrap_err());
    error.is(Code::AlreadyExists, "SHARE_EXISTS");
    assert_eq!(error.details.resource_info().unwrap().resource_name, new.share_id);
}

#[tokio::test]
async fn a_revoke_of_a_share_revokes_its_extension() {
    let fixture = ShareFixture::new().await;
    let old = fixture.share().await;
    fixture.process_after_polls(NEVER);
    let new = fixture.extend(&old.share_id, WaitFor::Submitted).await.unwrap();
    fixture.process_after_polls(0);
    let revoked = fixture.revoke(&old.share_id).await.unwrap();
    assert_eq!(revoked.state(), ShareState::Revoked);
    fixture.wait_until(&new.share_id, ShareState::Revoked).await;
    assert!(fixture.granted().is_empty());
}

#[tokio::test]
async fn a_revoke_of_an_extension_in_progress_keeps_the_old_share() {
    let fixture = ShareFixture::new().await;
    let old = fixture.share().await;
    fixture.process_after_polls(NEVER);
    let new = fixture.extend(&old.share_id, WaitFor::Submitted).await.unwrap();
    fixture.start_revoke(&new.share_id, WaitFor::None).await.unwrap();
    fixture.process_after_polls(0);
    fixture.wait_until(&new.share_id, ShareState::Revoked).await;
    let granted = fixture.granted();
    assert_eq!(
        (granted.len(), granted[0].activity_id.as_deref()),
        (1, Some(old.activity_id.as_str()))
    );
    assert_eq!(fixture.state(&old.share_id).await, ShareState::Active);
}
