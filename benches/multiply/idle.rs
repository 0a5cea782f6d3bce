//! What batching costs a lone call: the same calls through a gateway with batching and one without, in turns.

use std::time::Duration;

use leadgate::grpc::pb::lead_service_client::LeadServiceClient;
use leadgate_simulator::Latency;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::bed::{Account, Gateway, Plan};
use crate::work::{Caller, Kind};

pub(crate) const PAIRS: usize = 3_000;
/// How long the gateway is idle before each call.
const PAUSE: Duration = Duration::from_millis(2);
/// More calls than are ever sent in a window.
const ENOUGH: Plan = Plan {
    calls: 1_000,
    bulk: 1_000,
    per: Duration::from_secs(1),
};
const ON: &str = "[tenants.acme.batching]\ncreates = true\nupserts = true\nactivities = true\n";
const OFF: &str = "[tenants.acme.batching]\nreads = false\nupdates = false\n";

/// The medians of one kind of calls.
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) on: Duration,
    pub(crate) off: Duration,
}

/// A gateway with an account of its own, and its caller.
struct Side {
    account: Account,
    gateway: Gateway,
    client: LeadServiceClient<Channel>,
    caller: Caller,
    took: Vec<Duration>,
}

pub(crate) async fn measure() -> Vec<Seen> {
    let mut all = Vec::new();
    for kind in [Kind::Reads, Kind::Updates] {
        let (mut on, mut off) = (Side::open(ON, kind).await, Side::open(OFF, kind).await);
        for round in 0..PAIRS + PAIRS / 10 {
            let sides = match round % 2 {
                0 => [&mut on, &mut off],
                _ => [&mut off, &mut on],
            };
            for side in sides {
                side.ask().await;
            }
        }
        all.push(Seen {
            kind,
            on: on.median().await,
            off: off.median().await,
        });
    }
    all
}

impl Side {
    async fn open(settings: &str, kind: Kind) -> Self {
        let account = Account::open(None, Latency::default()).await;
        let gateway = Gateway::open(&account, ENOUGH, settings).await;
        let client = gateway.clients(1).await.remove(0);
        let caller = Caller::many(1, kind, &account.simulator).remove(0);
        Self {
            account,
            gateway,
            client,
            caller,
            took: Vec::new(),
        }
    }

    async fn ask(&mut self) {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        self.caller.ask(&mut self.client).await.unwrap();
        self.took.push(began.elapsed());
    }

    /// The first few calls are ignored: they open connections.
    async fn median(mut self) -> Duration {
        self.gateway.close().await;
        self.account.close().await;
        let counted = self.took.len() - PAIRS;
        let took = &mut self.took[counted..];
        took.sort_unstable();
        took[PAIRS / 2]
    }
}
