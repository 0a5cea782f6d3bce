//! Watching shares.

use std::time::Duration;

use leadgate::grpc::pb;
use pb::{ShareState, WaitFor};
use tonic::Code;
use uuid::Uuid;

use super::ShareFixture;
use crate::harness::seen;

#[tokio::test]
async fn a_watch_returns_the_states_until_the_share_ends() {
    let fixture = ShareFixture::with(|options| options.share_polls = 2, "").await;
    let request = pb::ShareLeadRequest {
        wait_for: WaitFor::Submitted.into(),
        ..fixture.request()
    };
    let share = fixture.try_share(request).await.unwrap();
    let mut watch = fixture.watch(&share.share_id).await;
    let mut states = Vec::new();
    while let Some(response) = watch.message().await.unwrap() {
        let share = response.share.unwrap();
        states.push(share.state());
        if share.state() == ShareState::Active {
            fixture.revoke(&share.share_id).await.unwrap();
        }
    }
    assert_eq!(states.first(), Some(&ShareState::Processing));
    assert_eq!(states.last(), Some(&ShareState::Revoked));
    assert!(states.contains(&ShareState::Active));
}

#[tokio::test]
async fn a_watch_of_an_unknown_share_is_not_found() {
    let fixture = ShareFixture::new().await;
    let mut watch = fixture.watch(&Uuid::new_v4().to_string()).await;
    let status = watch.message().await.unwrap_err();
    seen(status).is(Code::NotFound, "SHARE_NOT_FOUND");
}

#[tokio::test]
async fn a_watch_ends_with_shutting_down() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let mut watch = fixture.watch(&share.share_id).await;
    watch.message().await.unwrap();
    fixture.world.tell_to_stop();
    let status = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without an error"),
            Err(status) => break status,
        }
    };
    seen(status).is(Code::Unavailable, "SHUTTING_DOWN");
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, fixture.world.stop()).await.unwrap();
}

#[tokio::test]
async fn watches_do_not_count_as_rpcs_in_progress() {
    let fixture = ShareFixture::with(
        |_| {},
        "[server]\nmax_in_flight = 2\nmax_in_flight_per_caller = 2\nmax_streams = 3\n",
    )
    .await;
    let share = fixture.share().await;
    let mut watches = Vec::new();
    for _ in 0..3 {
        let mut watch = fixture.watch(&share.share_id).await;
        watch.message().await.unwrap();
        watches.push(watch);
    }
    fixture.get(&share.share_id).await;
    let request = pb::WatchShareRequest {
        share_id: share.share_id.clone(),
    };
    let rejected = fixture.client.clone().watch_share(request).await;
    seen(rejected.unwrap_err()).is(Code::ResourceExhausted, "QUEUE_FULL");
}
