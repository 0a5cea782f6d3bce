//! The setup of the measurement: simulated accounts and gateways in front of them, over sockets of 127.0.0.1, in this
//! process. Knows nothing of the callers.

use std::net::SocketAddr;
use std::time::Duration;

use leadgate::app::App;
use leadgate::config::Config;
use leadgate::grpc::pb::lead_service_client::LeadServiceClient;
use leadgate_simulator::{Latency, Limits, Options, Simulator};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The window of all limits, a fifth of the usual one.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
/// The latency of upstream calls, if they have any.
pub(crate) const LATENCY: Latency = Latency {
    min: Duration::from_millis(5),
    max: Duration::from_millis(8),
};
/// Maximum number of requests on one connection, of the 1,024 that the gateway allows.
const STREAMS: usize = 500;

/// The limits of an account in a window.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) calls: u32,
    /// Number of calls to the bulk endpoints among them.
    pub(crate) bulk: u32,
    pub(crate) per: Duration,
}

/// A simulated account.
pub(crate) struct Account {
    pub(crate) simulator: Simulator,
    pub(crate) address: SocketAddr,
    serving: Serving,
}

/// A gateway to one account.
pub(crate) struct Gateway {
    address: SocketAddr,
    serving: Serving,
}

/// A server that runs until it is stopped.
struct Serving {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Account {
    /// Opens an account with this plan, or without limits.
    pub(crate) async fn open(plan: Option<Plan>, latency: Latency) -> Self {
        let options = Options {
            limits: Limits {
                calls: plan.map_or(0, |plan| plan.calls),
                bulk: plan.map_or(0, |plan| plan.bulk),
                per: plan.map_or(WINDOW, |plan| plan.per),
                ..Limits::default()
            },
            latency,
            keep_calls: usize::MAX,
            ..Options::default()
        };
        let (simulator, listener) = (Simulator::new(options), listen().await);
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = simulator.clone().serve(listener, stop.clone().cancelled_owned());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { served.await.unwrap() });
        Self {
            simulator,
            address,
            serving: Serving { stop, tasks },
        }
    }

    pub(crate) async fn close(self) {
        self.serving.end().await;
    }
}

impl Gateway {
    /// Opens a gateway with this plan, and with additional settings of its account.
    pub(crate) async fn open(account: &Account, plan: Plan, settings: &str) -> Self {
        let keys = Options::default();
        let settings = format!(
            "[store]\nurl = \"sqlite::memory:\"\n[log]\nfilter = \"warn\"\n[tenants.acme]\nbase_url = \"http://{}\"\n\
             access_key = \"{}\"\nsecret_key = \"{}\"\n[tenants.acme.limits]\ncalls = {}\nbulk = {}\nwindow = \"{}ms\"\n\
             {settings}",
            account.address,
            keys.access_key,
            keys.secret_key,
            plan.calls,
            plan.bulk,
            plan.per.as_millis(),
        );
        let config = Config::read("bench", &settings, std::iter::empty()).unwrap();
        let (listener, admin) = (listen().await, listen().await);
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = App::new(config).await.unwrap();
        let served = app.serve(listener, admin, stop.clone().cancelled_owned());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { served.await.unwrap() });
        Self {
            address,
            serving: Serving { stop, tasks },
        }
    }

    /// Enough connections for this number of concurrent requests.
    pub(crate) async fn clients(&self, requests: usize) -> Vec<LeadServiceClient<Channel>> {
        let mut clients = Vec::new();
        for _ in 0..requests.div_ceil(STREAMS) {
            clients.push(
                LeadServiceClient::connect(format!("http://{}", self.address))
                    .await
                    .unwrap(),
            );
        }
        clients
    }

    pub(crate) async fn close(self) {
        self.serving.end().await;
    }
}

impl Serving {
    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}
