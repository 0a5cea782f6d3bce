//! What outlives the process: answers by request id, what was under way, and what was spent.

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate::simulator::{Fault, Limits, Options, Simulator, What};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use crate::harness::{World, by_id, lead, listen, seen, tenant};

/// An account that outlives the gateways in front of it, and the settings for them.
struct Account {
    simulator: Simulator,
    settings: String,
    folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Account {
    async fn open(options: Options, settings: &str) -> Self {
        let listener = listen().await;
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "[store]\nurl = \"sqlite://{}/leadgate.db\"\n{}{settings}",
            folder.path().display(),
            tenant("acme", listener.local_addr().unwrap(), &options)
        );
        let simulator = Simulator::new(options);
        let stop = CancellationToken::new();
        tokio::spawn(simulator.clone().serve(listener, stop.clone().cancelled_owned()));
        Self {
            simulator,
            settings,
            folder,
            _stop: stop.drop_guard(),
        }
    }

    /// Ends a gateway, and puts the store back to what it held before the end.
    async fn forget_the_end(&self, world: World) {
        let store = self.folder.path().join("leadgate.db");
        let files = ["", "-wal"].map(|end| format!("{}{end}", store.display()));
        let before = files.clone().map(|file| std::fs::read(file).unwrap_or_default());
        world.stop().await;
        for (file, bytes) in files.iter().zip(before) {
            std::fs::write(file, bytes).unwrap();
        }
    }

    async fn gateway(&self) -> World {
        World::gateway(self.simulator.clone(), &self.settings).await
    }
}

fn create(id: Uuid) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: id.to_string(),
        ..Default::default()
    }
}

async fn created(world: &World, id: Uuid) -> String {
    world
        .client
        .clone()
        .create_lead(create(id))
        .await
        .unwrap()
        .into_inner()
        .lead_id
}

#[tokio::test]
async fn the_same_request_id_has_one_effect_over_a_restart() {
    let account = Account::open(Options::default(), "").await;
    let id = Uuid::new_v4();
    let world = account.gateway().await;
    let lead_id = created(&world, id).await;
    world.stop().await;

    let world = account.gateway().await;
    assert_eq!(created(&world, id).await, lead_id);
    let mut other = create(id);
    other.lead = Some(lead("Ben"));
    let error = seen(world.client.clone().create_lead(other).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(world.calls("Lead.Create").len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_window_that_was_spent_is_not_spent_again_after_a_restart() {
    let options = Options {
        limits: Limits {
            calls: 5,
            per: Duration::from_secs(1),
            ..Limits::default()
        },
        ..Options::default()
    };
    let limits = "[tenants.acme.limits]\ncalls = 5\nwindow = \"1s\"";
    let account = Account::open(options, limits).await;
    let id = account.simulator.insert_lead(&[("FirstName", "Asha")]);
    for orderly in [true, false, true] {
        let world = account.gateway().await.warm().await;
        for _ in 0..4 {
            world.get(by_id(&id)).await.unwrap();
        }
        if orderly {
            world.stop().await;
        } else {
            // As a process that dies, it writes nothing more.
            account.forget_the_end(world).await;
        }
    }
    assert_eq!(account.simulator.stats().refused, 0);
    assert!(account.simulator.worst_window() <= 5);
}

#[tokio::test]
async fn a_day_is_counted_over_a_restart() {
    let limits = "[tenants.acme.limits]\ndaily = 3\nwindow = \"10ms\"";
    let account = Account::open(Options::default(), limits).await;
    let world = account.gateway().await.warm().await;
    let id = world.create(lead("Asha")).await.unwrap();
    world.stop().await;

    let world = account.gateway().await;
    // What is left of the day goes to the metadata that is fetched at the start.
    let metadata = async {
        while account.simulator.stats().accepted < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), metadata).await.unwrap();
    let error = seen(world.get(by_id(&id)).await.unwrap_err());
    error.is(Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED");
    world.stop().await;
}

#[tokio::test]
async fn what_was_under_way_when_the_process_died_is_settled_when_it_is_repeated() {
    for (what, sends) in [
        (
            What::CommitThenHang {
                lasting: Duration::from_secs(60),
            },
            1,
        ),
        (
            What::HangBefore {
                lasting: Duration::from_secs(60),
            },
            2,
        ),
    ] {
        let account = Account::open(Options::default(), "").await;
        let folder = account.folder.path();
        let address = listen().await.local_addr().unwrap();
        let path = folder.join("leadgate.toml");
        let ports = format!("[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n");
        std::fs::write(&path, format!("{ports}{}", account.settings)).unwrap();
        let serve = || {
            let log = std::fs::File::create(folder.join("log")).unwrap();
            tokio::process::Command::new(env!("CARGO_BIN_EXE_leadgate"))
                .args(["serve", "--config", path.to_str().unwrap()])
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        };
        let connect = || async {
            let connected = async {
                loop {
                    let address = format!("http://{address}");
                    if let Ok(client) = pb::lead_service_client::LeadServiceClient::connect(address).await {
                        return client;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), connected).await.unwrap()
        };
        let creates = || {
            account
                .simulator
                .calls()
                .iter()
                .filter(|call| call.endpoint == "Lead.Create")
                .count()
        };

        let id = Uuid::new_v4();
        account.simulator.order(Fault::new("Lead.Create", what));
        let mut gateway = serve();
        let mut client = connect().await;
        let lost = tokio::spawn(async move { client.create_lead(create(id)).await });
        let sent = async {
            while creates() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap();
        gateway.kill().await.unwrap();
        assert!(lost.await.unwrap().is_err());

        let mut gateway = serve();
        let lead_id = connect()
            .await
            .create_lead(create(id))
            .await
            .unwrap()
            .into_inner()
            .lead_id;
        let leads = account.simulator.leads();
        assert_eq!(leads.len(), 1);
        assert_eq!(leads[0]["ProspectID"].as_deref(), Some(lead_id.as_str()));
        assert_eq!(creates(), sends);
        gateway.kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_store_does_not_start() {
    let account = Account::open(Options::default(), "").await;
    let world = account.gateway().await;
    let config = leadgate::config::Config::read("test", &account.settings, std::iter::empty()).unwrap();
    let fault = leadgate::app::App::new(config).await.err().unwrap();
    assert!(fault.contains("in use by another process"), "{fault}");
    world.stop().await;
}
