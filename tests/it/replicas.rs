//! What callers and operators see of several replicas that share a PostgreSQL database.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use leadgate::app::App;
use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate_simulator::{Latency, Options, Simulator};
use pb::quota_service_client::QuotaServiceClient;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{channel, lead, listen, seen, snapshot, tenant};
use crate::process::{Said, leadgate, run};
use crate::server::Server;
use crate::steering::{SETTING, steer};

const LIMIT: Duration = Duration::from_secs(60);

/// An account, and the database of its replicas.
struct Cluster {
    simulator: Simulator,
    settings: String,
    folder: tempfile::TempDir,
    _stop: DropGuard,
}

/// A running replica.
struct Replica {
    address: SocketAddr,
    admin: SocketAddr,
    /// The address for other replicas.
    peer_address: String,
    quota: QuotaServiceClient<Channel>,
    stop: CancellationToken,
    running: JoinSet<Result<(), String>>,
}

impl Cluster {
    async fn open(server: &Server) -> Self {
        Self::with(server, Options::default(), "").await
    }

    async fn with(server: &Server, options: Options, settings: &str) -> Self {
        let upstream = listen().await;
        let settings = format!(
            "[store]\nurl = \"{}\"\nconnect_timeout = \"1s\"\n{}{settings}",
            server.url(&server.create_database()),
            tenant("acme", upstream.local_addr().unwrap(), &options)
        );
        let simulator = Simulator::new(options);
        let stop = CancellationToken::new();
        tokio::spawn(simulator.clone().serve(upstream, stop.clone().cancelled_owned()));
        Self {
            simulator,
            settings,
            folder: tempfile::tempdir().unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    /// The settings of a replica with this address for others.
    fn settings(&self, peer_address: &str) -> String {
        format!(
            "{}\n[cluster]\nlisten = \"{peer_address}\"\nsecret = \"0123456789abcdef\"\nlease = \"3s\"\n",
            self.settings
        )
    }

    /// Starts a replica.
    async fn replica(&self) -> Replica {
        self.replica_with(&[]).await
    }

    /// Starts a replica with other values of `[cluster]`.
    async fn replica_with(&self, cluster: &[(&str, &str)]) -> Replica {
        let peer_address = listen().await.local_addr().unwrap().to_string();
        let variable = |(name, value): &(&str, &str)| (format!("LEADGATE__CLUSTER__{name}"), (*value).to_owned());
        let variables = cluster.iter().map(variable);
        let config = Config::read("test", &self.settings(&peer_address), variables).unwrap();
        let (listener, admin) = (listen().await, listen().await);
        let (address, admin_address) = (listener.local_addr().unwrap(), admin.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let app = App::new(config).await.unwrap();
        running.spawn(app.serve(listener, admin, stop.clone().cancelled_owned()));
        Replica {
            address,
            admin: admin_address,
            peer_address,
            quota: QuotaServiceClient::new(channel(address).await),
            stop,
            running,
        }
    }

    /// Runs a command with the settings of a replica that does not run.
    async fn command(&self, arguments: &[&str]) -> Said {
        let path = self.folder.path().join("leadgate.toml");
        std::fs::write(&path, self.settings("127.0.0.1:1")).unwrap();
        let arguments = [arguments, &["--config", path.to_str().unwrap()]].concat();
        run(&arguments).await.into()
    }

    /// The output of `leadgate cluster status --json`.
    async fn status(&self) -> serde_json::Value {
        let said = self.command(&["cluster", "status", "--json"]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }
}

impl Replica {
    async fn quota(&self) -> pb::Quota {
        let request = pb::GetQuotaRequest::default();
        self.quota
            .clone()
            .get_quota(request)
            .await
            .unwrap()
            .into_inner()
            .quota
            .unwrap()
    }

    async fn snapshot(&self, is_expected: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        snapshot(self.admin, is_expected).await
    }

    async fn page(&self, path: &str) -> (u16, String) {
        let page = reqwest::get(format!("http://{}{path}", self.admin)).await.unwrap();
        (page.status().as_u16(), page.text().await.unwrap())
    }

    async fn has_metric(&self, line: &str) -> bool {
        self.page("/metrics").await.1.lines().any(|seen| seen == line)
    }

    /// Waits until the quota of the tenant is as expected.
    async fn until(&self, is_so: impl Fn(&pb::Quota) -> bool) -> pb::Quota {
        let started = Instant::now();
        loop {
            let quota = self.quota().await;
            if is_so(&quota) {
                return quota;
            }
            assert!(started.elapsed() < LIMIT, "{quota:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// The tenant in the output of `leadgate cluster status --json`.
fn acme(status: &serde_json::Value) -> &serde_json::Value {
    let tenants = status["tenants"].as_array().unwrap();
    assert_eq!(tenants.len(), 1, "{status}");
    &tenants[0]
}

#[tokio::test]
async fn callers_and_operators_see_the_owner_and_its_moves() {
    let cluster = Cluster::open(Server::shared()).await;
    let before = cluster.status().await;
    assert_eq!(
        (&acme(&before)["state"], &before["replicas"]),
        (&"never_owned".into(), &serde_json::json!([])),
        "the database has no tables"
    );

    let first = cluster.replica().await;
    let second = cluster.replica().await;
    let quota = first.until(|quota| quota.replicas == 2).await;
    let (owner, other) = match quota.owner == first.peer_address {
        true => (first, second),
        false => (second, first),
    };
    // The owner responds, whichever replica gets the request.
    let forwarded = other.until(|quota| quota.replicas == 2).await;
    for quota in [&quota, &forwarded] {
        assert_eq!(
            (quota.owner.as_str(), quota.epoch, quota.last_move_reason.as_str()),
            (owner.peer_address.as_str(), 1, "free")
        );
        assert!(quota.owned_since.is_some());
    }
    assert!(owner.has_metric("leadgate_cluster_owner{tenant=\"acme\"} 1").await);
    assert!(
        owner
            .has_metric("leadgate_cluster_moves_total{tenant=\"acme\",reason=\"free\"} 1")
            .await
    );
    assert!(other.has_metric("leadgate_cluster_owner{tenant=\"acme\"} 0").await);
    assert!(other.has_metric("leadgate_cluster_replicas 2").await);
    let (_, metrics) = other.page("/metrics").await;
    assert!(
        metrics.contains("leadgate_forwarded_rpcs_total{tenant=\"acme\",code=\"OK\"}"),
        "{metrics}"
    );
    assert!(
        metrics.contains("leadgate_forwarding_duration_seconds_count{tenant=\"acme\"}"),
        "{metrics}"
    );
    for name in [
        "leadgate_store_connections{state=\"idle\"}",
        "leadgate_store_max_connections 10",
        "leadgate_store_waiting_operations",
        "leadgate_store_operation_duration_seconds_count{operation=\"beat\",result=\"ok\"}",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name} in {metrics}");
    }

    let page = owner.snapshot(|page| page["cluster"]["replicas"] == 2).await;
    let shown = &page["tenant"]["owner"];
    assert_eq!(page["cluster"]["address"], owner.peer_address.as_str());
    assert_eq!(
        (&shown["text"], &shown["cluster"]["epoch"]),
        (&"this replica".into(), &1.into())
    );
    let last_move = &shown["cluster"]["last_move"];
    assert_eq!(
        (&last_move["direction"], &last_move["reason"]),
        (&"to this replica".into(), &"free".into())
    );
    let page = other.snapshot(|_| true).await;
    let shown = &page["tenant"]["owner"];
    assert_eq!(shown["text"], owner.peer_address.as_str());
    assert!(shown["cluster"]["forwarded"].as_u64() > Some(0), "{page}");
    assert_eq!(
        (&shown["cluster"]["failed"], &page["tenant"]["quota"]),
        (&0.into(), &().into())
    );

    let said = cluster.command(&["cluster", "status"]).await;
    assert!(said.out.starts_with("2 replicas are alive:"), "{said:?}");
    assert!(
        said.out.contains(&owner.peer_address) && said.out.contains(&other.peer_address),
        "{said:?}"
    );
    let status = cluster.status().await;
    let row = acme(&status);
    assert_eq!(
        (&row["state"], &row["owner"], &row["epoch"]),
        (&"owned".into(), &owner.peer_address.clone().into(), &1.into())
    );

    // An orderly shutdown moves the tenant, for this reason.
    let former = owner.peer_address.clone();
    owner.stop().await;
    let moved = other.until(|quota| quota.epoch == 2).await;
    assert_eq!(
        (moved.owner.as_str(), moved.last_move_reason.as_str()),
        (other.peer_address.as_str(), "shutdown")
    );
    assert!(
        other
            .has_metric("leadgate_cluster_moves_total{tenant=\"acme\",reason=\"shutdown\"} 1")
            .await
    );
    let page = other
        .snapshot(|page| page["tenant"]["owner"]["cluster"]["last_move"]["reason"] == "shutdown")
        .await;
    assert_eq!(page["tenant"]["owner"]["text"], "this replica");
    assert!(!page.to_string().contains(&former), "{page}");
    other.until(|quota| quota.replicas == 1).await;

    other.stop().await;
    let after = cluster.status().await;
    let row = acme(&after);
    assert_eq!(
        (&row["state"], &row["owner"], &row["last_move_reason"]),
        (&"free".into(), &serde_json::Value::Null, &"shutdown".into())
    );
}

#[tokio::test]
async fn a_replica_without_its_database_is_degraded() {
    let server = Server::start("fsync = off");
    let cluster = Cluster::open(&server).await;
    let replica = cluster.replica().await;
    let status_is = async |expected: &str| {
        let started = Instant::now();
        loop {
            let (http_status, page) = replica.page("/ready").await;
            assert_eq!(http_status, 200, "{page}");
            if page.contains(expected) {
                return;
            }
            assert!(started.elapsed() < LIMIT, "{page}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    replica.until(|quota| quota.epoch == 1).await;
    status_is("\"reasons\":[]").await;
    server.stop();
    status_is("{\"status\":\"degraded\",\"reasons\":[{\"code\":\"STORE_UNAVAILABLE\"").await;
    server.restart();
    status_is("\"reasons\":[]").await;
    replica.stop().await;
}

#[tokio::test]
async fn check_connect_makes_calls_only_for_tenants_without_replicas() {
    let cluster = Cluster::open(Server::shared()).await;
    let check = ["check", "--connect"];
    let key_checks = || {
        let calls = cluster.simulator.calls().into_iter();
        calls.filter(|call| call.endpoint.contains("UserByAccessKey")).count()
    };
    let said = cluster.command(&check).await;
    assert!(
        said.code == Some(0) && said.out.contains("acme: the keys are valid"),
        "{said:?}"
    );
    assert_eq!(key_checks(), 1);

    let replica = cluster.replica().await;
    replica.until(|quota| quota.epoch == 1).await;
    let before = key_checks();
    let said = cluster.command(&check).await;
    let owner = format!(
        "acme: not checked, because the replica {} owns it",
        replica.peer_address
    );
    assert!(said.code == Some(1) && said.out.contains(&owner), "{said:?}");
    assert!(said.err.contains("1 tenant(s) were not checked"), "{said:?}");
    assert_eq!(key_checks(), before);
    // Without calls, the same settings are valid.
    let said = cluster.command(&["check"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    replica.stop().await;

    // The check owns the free tenant, and hands it over like a replica that stops.
    let said = cluster.command(&check).await;
    assert!(
        said.code == Some(0) && said.out.contains("acme: the keys are valid"),
        "{said:?}"
    );
    assert_eq!(key_checks(), before + 1);
    let status = cluster.status().await;
    let row = acme(&status);
    assert_eq!(
        (
            &row["state"],
            &row["epoch"],
            &row["last_move_reason"],
            &status["replicas"]
        ),
        (&"free".into(), &2.into(), &"shutdown".into(), &serde_json::json!([]))
    );
}

#[tokio::test]
async fn a_replica_that_others_cannot_reach_owns_nothing_and_is_not_ready() {
    let cluster = Cluster::open(Server::shared()).await;
    let first = cluster.replica().await;
    first.until(|quota| quota.epoch == 1).await;
    let nobody = crate::harness::closed_address().to_string();
    let wrong = [
        (
            ("SECRET", "fedcba9876543210"),
            "cluster.secret is not that of other replicas",
        ),
        (("ADVERTISE", nobody.as_str()), "where this replica cannot reach itself"),
        (
            ("ADVERTISE", first.peer_address.as_str()),
            "the address of another replica",
        ),
    ];
    let mut strangers = Vec::new();
    for (setting, expected) in wrong {
        let stranger = cluster.replica_with(&[setting]).await;
        let started = Instant::now();
        loop {
            let (code, page) = stranger.page("/ready").await;
            if code == 503 && page.contains("NOT_IN_CLUSTER") && page.contains(expected) {
                break;
            }
            assert!(started.elapsed() < LIMIT, "{expected}: {page}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        strangers.push(stranger);
    }
    // None of them takes over the account of a replica that stops. A good replica does, and they do not stop it from joining.
    first.stop().await;
    let second = cluster.replica().await;
    let quota = second.until(|quota| quota.epoch == 2).await;
    assert_eq!((quota.owner, quota.replicas > 0), (second.peer_address.clone(), true));
    assert_eq!(second.page("/ready").await.0, 200);
    for stranger in strangers {
        stranger.stop().await;
    }
    second.stop().await;
}

#[tokio::test]
async fn an_import_continues_when_the_owner_of_the_account_stops() {
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    options.latency = Latency {
        min: Duration::from_millis(200),
        max: Duration::from_millis(300),
    };
    let settings = "[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n[tenants.acme.batching]\nimport_window = 100\n";
    let cluster = Cluster::with(Server::shared(), options, settings).await;
    let (first, second) = (cluster.replica().await, cluster.replica().await);
    let quota = first.until(|quota| quota.replicas == 2).await;
    let (owner, other) = match quota.owner == first.peer_address {
        true => (first, second),
        false => (second, first),
    };
    let rows: String = (1..=1_500).map(|n| format!("Ann,{n}\n")).collect();
    let file = cluster.folder.path().join("leads.csv");
    std::fs::write(&file, format!("first_name,LastName\n{rows}")).unwrap();
    let mut import = leadgate();
    let import = import.args(["import", file.to_str().unwrap(), "--mode", "create"]);
    let import = import.args(["--addr", &other.address.to_string()]).spawn().unwrap();
    let started = Instant::now();
    while cluster.simulator.leads().len() < 200 {
        assert!(started.elapsed() < LIMIT, "no leads are created");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    owner.stop().await;
    let ended = tokio::time::timeout(LIMIT, import.wait_with_output()).await;
    let said = Said::from(ended.unwrap().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let names = cluster.simulator.leads().into_iter();
    let mut numbers: Vec<u32> = names
        .map(|lead| lead["LastName"].as_deref().unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=1_500).collect::<Vec<_>>());
    assert_eq!(other.quota().await.last_move_reason, "shutdown");
    other.stop().await;
}

#[tokio::test]
async fn a_pause_reaches_the_owner_through_another_replica_and_survives_a_move() {
    let cluster = Cluster::with(Server::shared(), Options::default(), SETTING).await;
    let (first, second) = (cluster.replica().await, cluster.replica().await);
    let quota = first.until(|quota| quota.replicas == 2).await;
    let (owner, other) = match quota.owner == first.peer_address {
        true => (first, second),
        false => (second, first),
    };
    let create = async |address: SocketAddr| {
        let mut client = pb::lead_service_client::LeadServiceClient::new(channel(address).await);
        let request = pb::CreateLeadRequest {
            lead: Some(lead("Asha")),
            ..Default::default()
        };
        client.create_lead(request).await
    };
    let (status, json) = steer(
        other.admin,
        "POST",
        "tenants/acme/pause",
        "{\"reason\": \"maintenance\"}",
    )
    .await;
    assert_eq!((status, &json["paused"]), (200, &serde_json::json!(true)));
    let paused_at = Instant::now();
    let paused = "leadgate_tenant_paused{tenant=\"acme\"} 1";
    while !owner.has_metric(paused).await {
        assert!(paused_at.elapsed() < Duration::from_secs(3), "a beat is one second");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let calls = cluster.simulator.calls().len();
    for replica in [&owner, &other] {
        seen(create(replica.address).await.unwrap_err()).is(Code::Unavailable, "TENANT_PAUSED");
    }
    assert_eq!(other.quota().await.owner, owner.peer_address, "GetQuota works");
    let status = cluster.status().await;
    assert!(acme(&status)["paused_since"].is_string(), "{status}");
    let backup = steer(owner.admin, "POST", "store/backup", "").await;
    assert_eq!((backup.0, &backup.1["code"]), (409, &"STORE_HAS_NO_FILE".into()));
    assert!(backup.1["message"].as_str().unwrap().contains("pg_dump"), "{backup:?}");

    owner.stop().await;
    other.until(|quota| quota.epoch == 2).await;
    seen(create(other.address).await.unwrap_err()).is(Code::Unavailable, "TENANT_PAUSED");
    let (status, page) = other.page("/ready").await;
    assert!(
        status == 200 && page.contains("TENANT_PAUSED") && page.contains(": maintenance"),
        "{page}"
    );
    assert_eq!(cluster.simulator.calls().len(), calls, "the new owner sends nothing");

    let third = cluster.replica().await;
    third.until(|quota| quota.replicas == 2).await;
    let (status, _) = steer(third.admin, "POST", "tenants/acme/resume", "").await;
    assert_eq!(status, 200);
    let started = Instant::now();
    while let Err(status) = create(third.address).await {
        seen(status).is(Code::Unavailable, "TENANT_PAUSED");
        assert!(started.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.stop().await;
    third.stop().await;
}
