//! Shares of opportunities.

use leadgate::grpc::pb;
use leadgate_simulator::{FaultKind, OpportunitySpec};
use pb::{Access, ShareState, WaitFor};
use tonic::{Code, Status};

use super::{SAM, SITA, ShareFixture, minutes, reason, share_id};
use crate::harness::seen;

const OPPORTUNITY: &str = "d0000000-0000-4000-8000-000000000001";

async fn with_opportunity() -> ShareFixture {
    let opportunity = OpportunitySpec {
        id: OPPORTUNITY.into(),
        owner: SITA.into(),
    };
    ShareFixture::with(|options| options.opportunities = vec![opportunity], "").await
}

/// Shares an opportunity with Sam for 30 minutes, and waits until the share is active.
async fn share(fixture: &ShareFixture, opportunity_id: &str) -> Result<pb::Share, Status> {
    let request = pb::ShareOpportunityRequest {
        opportunity_id: opportunity_id.into(),
        user: Some(pb::share_opportunity_request::User::UserId(SAM.into())),
        access: Access::Write.into(),
        duration: Some(minutes(30)),
        wait_for: WaitFor::Active.into(),
        ..Default::default()
    };
    let response = fixture.client.clone().share_opportunity(request).await?;
    Ok(response.into_inner().share.unwrap())
}

#[tokio::test]
async fn an_opportunity_is_shared_without_an_activity() {
    let fixture = with_opportunity().await;
    let shared = share(&fixture, OPPORTUNITY).await.unwrap();
    assert_eq!(
        (shared.kind(), shared.opportunity_id.as_str()),
        (pb::ShareKind::Opportunity, OPPORTUNITY)
    );
    assert_eq!((shared.lead_id.as_str(), shared.activity_id.as_str()), ("", ""));
    assert_eq!(fixture.calls(), ["Users.Get", "EntityAccess.Share"]);
}

#[tokio::test]
async fn a_second_share_of_an_opportunity_with_a_user_is_rejected() {
    let fixture = with_opportunity().await;
    share(&fixture, OPPORTUNITY).await.unwrap();
    assert_eq!(reason(share(&fixture, OPPORTUNITY).await).1, "SHARE_EXISTS");
}

#[tokio::test]
async fn an_unknown_opportunity_is_not_found() {
    let fixture = with_opportunity().await;
    let unknown = share(&fixture, "d0000000-0000-4000-8000-00000000000f").await;
    assert_eq!(reason(unknown), (Code::NotFound, "OPPORTUNITY_NOT_FOUND".into()));
}

#[tokio::test]
async fn an_extended_opportunity_has_one_grant_which_a_revoke_ends() {
    let fixture = with_opportunity().await;
    let old = share(&fixture, OPPORTUNITY).await.unwrap();
    let new = fixture.extend(&old.share_id, WaitFor::Active).await.unwrap();
    fixture.wait_until(&old.share_id, ShareState::Expired).await;
    assert_eq!(fixture.granted().len(), 1);
    fixture.revoke(&new.share_id).await.unwrap();
    assert!(fixture.granted().is_empty());
}

#[tokio::test]
async fn a_revoke_ends_all_shares_of_an_opportunity_with_a_user() {
    let fixture = with_opportunity().await;
    let old = share(&fixture, OPPORTUNITY).await.unwrap();
    fixture.world.fail_next("EntityAccess.Share", FaultKind::CommitThenDrop);
    let error = seen(fixture.extend(&old.share_id, WaitFor::Active).await.unwrap_err());
    fixture.revoke(&share_id(&error)).await.unwrap();
    fixture.wait_until(&old.share_id, ShareState::Revoked).await;
    assert!(fixture.granted().is_empty());
}

#[tokio::test]
async fn a_list_by_lead_does_not_return_shares_of_opportunities() {
    let fixture = with_opportunity().await;
    share(&fixture, OPPORTUNITY).await.unwrap();
    let of_lead = pb::ListSharesRequest {
        lead_id: OPPORTUNITY.into(),
        ..Default::default()
    };
    assert!(fixture.list(of_lead).await.unwrap().shares.is_empty());
}

/// LeadSquared does not distinguish the old share and the extension, so a revoke would end both.
#[tokio::test]
async fn a_retry_of_an_extension_of_an_opportunity_does_not_revoke() {
    let fixture = with_opportunity().await;
    let old = share(&fixture, OPPORTUNITY).await.unwrap();
    fixture.world.fail_next("EntityAccess.Share", FaultKind::DropBefore);
    let error = seen(fixture.extend(&old.share_id, WaitFor::Active).await.unwrap_err());
    let new = fixture.retry(&share_id(&error)).await.unwrap();
    assert_eq!(new.state(), ShareState::Active);
    assert!(fixture.world.calls("EntityAccess.Revoke").is_empty());
    fixture.wait_until(&old.share_id, ShareState::Expired).await;
}
