//! Clients that misbehave, by accident or on purpose, over real sockets: each limit applies, and good clients are served. The
//! full measurement of latency and memory is `make hostile`.

mod attacks;
mod gateway;
mod limits;
mod log;
mod raw;

use std::time::Duration;

use attacks::{ATTACKS, Extent};
use gateway::{Gateway, GoodClient};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_client_is_served_beside_each_attack() {
    let gateway = Gateway::start("handshake_timeout = \"500ms\"").await;
    let extent = Extent {
        duration: Duration::from_millis(1_500),
        connections: 100,
        calls: 10_000,
    };
    for attack in ATTACKS {
        let client = GoodClient::start(gateway.address());
        attack.run(gateway.address(), extent).await;
        let calls = client.stop();
        let failed: Vec<_> = calls.iter().filter_map(|call| call.as_ref().err()).collect();
        assert!(
            failed.is_empty() && !calls.is_empty(),
            "{attack:?}: {} calls, {failed:?}",
            calls.len()
        );
        // New connections are accepted, too.
        gateway.get_lead().await.unwrap();
    }
    gateway.all_free().await.unwrap();
    for reason in ["handshake_timeout", "header_timeout", "flood"] {
        let name = format!("leadgate_connections_closed_total{{reason=\"{reason}\"}}");
        assert!(gateway.metric(&name).await > 0, "{reason}");
    }
    gateway.stop().await;
}
