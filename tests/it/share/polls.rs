//! Status polls of upstream requests.

use std::time::Duration;

use leadgate::grpc::pb;
use pb::ShareState;

use super::ShareFixture;
use crate::harness::seen;

#[tokio::test]
async fn polls_keep_their_minimum_pause_and_end_with_the_result() {
    let fixture = ShareFixture::with(|options| options.share_polls = 6, "").await;
    let share = fixture.share().await;
    let polls = fixture.world.calls("EntityAccess.Status");
    assert_eq!(polls.len(), 7);
    // The minimum also applies while a caller waits.
    let pauses = polls.windows(2).map(|pair| pair[1].stamp - pair[0].stamp);
    let shortest = pauses.min().unwrap();
    assert!(shortest >= Duration::from_millis(20), "{shortest:?}");
    fixture.watch(&share.share_id).await.message().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(fixture.world.calls("EntityAccess.Status").len(), 7);
}

#[tokio::test]
async fn unknown_status_numbers_are_polled_again() {
    let fixture = ShareFixture::with(
        |options| {
            options.share_polls = 4;
            options.share_status_unknown_numbers = vec![0, 5, -1, 99];
            options.revoke_status_done = 8;
        },
        "",
    )
    .await;
    let share = fixture.share().await;
    assert_eq!(share.state(), ShareState::Active);
    let revoked = fixture.revoke(&share.share_id).await.unwrap();
    assert_eq!(revoked.state(), ShareState::Revoked);
}

#[tokio::test]
async fn the_status_of_an_upstream_request_is_returned_by_its_id() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let status = fixture.request_status(&share.upstream_request_id).await.unwrap();
    assert_eq!((status.share_status, status.processed, status.failed), (6, true, false));
    let error = seen(fixture.request_status("").await.unwrap_err());
    assert_eq!(error.fields(), ["upstream_request_id"]);
}
