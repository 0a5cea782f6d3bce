//! The limit of leads per user, and the usage of a user.

use leadgate::grpc::pb;
use pb::share_lead_request::Lead;
use tonic::Code;

use super::{SAM, SITA, ShareFixture, reason};

#[tokio::test]
async fn a_share_above_the_limit_is_rejected_without_a_call_and_usage_shows_the_limit() {
    let fixture = ShareFixture::with(|options| options.shares_per_user = 3, "leads_per_user = 3\n").await;
    for name in ["Ben", "Cid", "Dan", "Eve"] {
        let lead = fixture.insert_lead(name);
        let result = fixture.try_share(fixture.request_of_lead(lead)).await;
        if name == "Eve" {
            assert_eq!(reason(result), (Code::FailedPrecondition, "SHARE_LIMIT_REACHED".into()));
        } else {
            result.unwrap();
        }
    }
    let usage = |user: pb::get_user_share_usage_request::User| {
        let mut client = fixture.client.clone();
        let request = pb::GetUserShareUsageRequest { user: Some(user) };
        async move { client.get_user_share_usage(request).await.unwrap().into_inner() }
    };
    let sam = usage(pb::get_user_share_usage_request::User::UserId(SAM.into())).await;
    assert_eq!((sam.used, sam.limit, sam.source()), (3, 3, pb::ShareSource::Ledger));
    let sita = usage(pb::get_user_share_usage_request::User::UserId(SITA.into())).await;
    assert_eq!(sita.used, 0);
    assert_eq!(fixture.world.calls("EntityAccess.Share").len(), 3);
}

#[tokio::test]
async fn with_at_limit_warn_a_share_above_the_limit_is_requested() {
    let fixture = ShareFixture::with(
        |options| options.shares_per_user = 1,
        "leads_per_user = 0\nat_limit = \"warn\"\n",
    )
    .await;
    fixture.share().await;
    let request = fixture.request_of_lead(fixture.insert_lead("Ben"));
    // LeadSquared rejects it.
    assert_eq!(reason(fixture.try_share(request).await).1, "SHARE_LIMIT_REACHED");
    assert_eq!(fixture.world.calls("EntityAccess.Share").len(), 2);
}

#[tokio::test]
async fn concurrent_shares_do_not_exceed_the_limit_which_counts_leads() {
    let fixture = ShareFixture::with(|_| {}, "leads_per_user = 3\n").await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..10 {
        let lead = fixture.insert_lead(&format!("Ben {number}"));
        let request = fixture.request_of_lead(lead);
        let mut client = fixture.client.clone();
        calls.spawn(async move {
            let response = client.share_lead(request).await;
            response.map(|response| response.into_inner().share.unwrap())
        });
    }
    let results = calls.join_all().await;
    let shares: Vec<_> = results.iter().flatten().collect();
    assert_eq!(shares.len(), 3);
    // A further share of a counted lead does not count.
    let additional = pb::ShareLeadRequest {
        lead: Some(Lead::LeadId(shares[0].lead_id.clone())),
        ..fixture.additional_request()
    };
    fixture.try_share(additional).await.unwrap();
}
