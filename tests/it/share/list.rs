//! Listing shares.

use leadgate::grpc::pb;
use pb::ShareState;
use pb::share_lead_request::User;

use super::{SAM, SITA, ShareFixture, minutes};
use crate::harness::seen;

impl ShareFixture {
    /// Creates 5 shares with Sam for 10 minutes and 3 shares with Sita for 1000 minutes, each of another lead. Revokes the first.
    async fn create_eight(&self) -> Vec<pb::Share> {
        let mut shares = Vec::new();
        for (user, count, duration) in [(SAM, 5, 10), (SITA, 3, 1000)] {
            for _ in 0..count {
                let request = pb::ShareLeadRequest {
                    user: Some(User::UserId(user.into())),
                    duration: Some(minutes(duration)),
                    ..self.request_of_lead(self.insert_lead("Ben"))
                };
                shares.push(self.try_share(request).await.unwrap());
            }
        }
        self.revoke(&shares[0].share_id).await.unwrap();
        shares
    }
}

#[tokio::test]
async fn shares_are_listed_in_pages_newest_first() {
    let fixture = ShareFixture::new().await;
    let shares = fixture.create_eight().await;
    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListSharesRequest {
            page_size: 3,
            page_token: token,
            ..Default::default()
        };
        let page = fixture.list(request).await.unwrap();
        assert!(page.shares.len() <= 3);
        listed.extend(page.shares.into_iter().map(|share| share.share_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let newest_first: Vec<_> = shares.iter().rev().map(|share| share.share_id.clone()).collect();
    assert_eq!(listed, newest_first);
}

#[tokio::test]
async fn shares_are_filtered_by_user_state_lead_and_expiry() {
    let fixture = ShareFixture::new().await;
    let shares = fixture.create_eight().await;
    let count = async |request: pb::ListSharesRequest| fixture.list(request).await.unwrap().shares.len();
    let of_sam = pb::ListSharesRequest {
        user_id: SAM.to_uppercase(),
        ..Default::default()
    };
    assert_eq!(count(of_sam.clone()).await, 5);
    let active_of_sam = pb::ListSharesRequest {
        states: vec![ShareState::Active.into()],
        ..of_sam
    };
    assert_eq!(count(active_of_sam).await, 4);
    let of_lead = pb::ListSharesRequest {
        lead_id: shares[7].lead_id.clone(),
        ..Default::default()
    };
    assert_eq!(count(of_lead).await, 1);
    let in_an_hour = prost_types::Timestamp {
        seconds: shares[1].grant_time.unwrap().seconds + 3600,
        nanos: 0,
    };
    let expiring = pb::ListSharesRequest {
        expire_before: Some(in_an_hour),
        states: vec![ShareState::Active.into()],
        ..Default::default()
    };
    assert_eq!(count(expiring).await, 4);
}

#[tokio::test]
async fn invalid_filters_are_rejected() {
    let fixture = ShareFixture::new().await;
    let invalid = pb::ListSharesRequest {
        lead_id: "?".into(),
        states: vec![77],
        page_token: "p1".into(),
        ..Default::default()
    };
    let error = seen(fixture.list(invalid).await.unwrap_err());
    assert_eq!(error.fields(), ["lead_id", "states[0]", "page_token"]);
}
