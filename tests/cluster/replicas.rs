//! Replicas as processes: they share a PostgreSQL database and a simulated account.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadgate_simulator::{Latency, Options, Simulator};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::proxy::Proxy;
use crate::server::{Server, free_port};

/// The number of calls in a window.
pub const CALLS: usize = 25;
pub const WINDOW: Duration = Duration::from_secs(1);
/// How much later than usual a call may arrive on a busy machine.
const JITTER: Duration = Duration::from_millis(50);
pub const LEASE: Duration = Duration::from_secs(3);
/// The interval of the beats with this lease.
const BEAT: Duration = Duration::from_millis(600);
/// How long a takeover may take: the lease, a window, the lateness, two beats, and a second for a busy machine.
pub const TAKEOVER: Duration = Duration::from_millis(3_000 + 1_000 + 1_000 + 2 * BEAT.as_millis() as u64 + 1_000);
/// The time within which a replica serves, and the tenant has an owner.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The interval of the health checks of the load balancer.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);
/// The connections of the clients to each replica.
const CONNECTIONS: usize = 4;

/// The database of the replicas.
#[derive(Clone, Copy)]
pub struct Database<'a> {
    pub server: &'a Server,
    pub name: &'a str,
}

/// What a test changes.
#[derive(Clone, Default)]
pub struct Plan {
    /// Additional settings of each replica.
    pub server_settings: String,
    /// Hosts that are added to the URL of the database, each as `host:port`.
    pub further_hosts: String,
    /// Whether the connections to LeadSquared are through a proxy with a small buffer.
    pub has_small_uplink: bool,
    /// The end of the settings of the REST listener, and further tables. Empty: there is none.
    pub rest: String,
}

/// One replica, with a proxy before each of its connections.
pub struct Replica {
    pub address: SocketAddr,
    /// The REST listener, if there is one.
    pub rest: SocketAddr,
    pub peers: Proxy,
    pub uplink: Proxy,
    pub database: Proxy,
    settings: PathBuf,
    log: PathBuf,
    process: Mutex<Option<Child>>,
    channels: Vec<Channel>,
    is_healthy: AtomicBool,
}

pub struct Cluster {
    pub simulator: Simulator,
    pub replicas: Vec<Replica>,
    database: (u16, String),
    folder: tempfile::TempDir,
    _stop: DropGuard,
}

/// Chooses a healthy replica for each call, as a load balancer with health checks does.
pub struct Balancer {
    cluster: Arc<Cluster>,
    next: std::sync::atomic::AtomicUsize,
    _checks: JoinSet<()>,
}

fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// The binary that the tests start: the one that cargo has built for them, or `LEADGATE_BIN`.
fn binary() -> std::ffi::OsString {
    std::env::var_os("LEADGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_leadgate").into())
}

fn options() -> Options {
    let mut options = Options {
        latency: Latency {
            min: Duration::from_millis(5),
            max: Duration::from_millis(10),
        },
        ..Options::default()
    };
    // The simulator refuses nothing, and counts: only so calls above the limit are visible.
    (options.limits.calls, options.limits.bulk, options.limits.per) = (0, 0, WINDOW);
    // A second execution of the same mutation makes a second lead.
    options.unique = Vec::new();
    options
}

impl Cluster {
    /// Prepares replicas. None of them runs.
    pub async fn prepare(count: usize, database: Database<'_>, plan: &Plan) -> Arc<Self> {
        let options = options();
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream_address = upstream.local_addr().unwrap();
        let simulator = Simulator::new(options.clone());
        let stop = CancellationToken::new();
        tokio::spawn(simulator.clone().serve(upstream, stop.clone().cancelled_owned()));
        let folder = tempfile::tempdir().unwrap();
        let mut replicas = Vec::new();
        for number in 0..count {
            let (address, admin, listen, rest) = (free_address(), free_address(), free_address(), free_address());
            let (peers, database_proxy) = (
                Proxy::to(listen).await,
                Proxy::to(([127, 0, 0, 1], database.server.port).into()).await,
            );
            let uplink = match plan.has_small_uplink {
                true => Proxy::with_small_buffer(upstream_address).await,
                false => Proxy::to(upstream_address).await,
            };
            let rest_settings = match plan.rest.as_str() {
                "" => String::new(),
                settings => format!("[rest]\nlisten = \"{rest}\"\n{settings}"),
            };
            let text = format!(
                "{rest_settings}[server]\nlisten = \"{address}\"\nshutdown_delay = \"1s\"\nkeepalive_min_interval = \"0s\"\n{server}\n\
                 [admin]\nlisten = \"{admin}\"\n\
                 [log]\nfilter = \"info,leadgate=debug\"\n\
                 [store]\nurl = \"postgres://leadgate@{database}{further}/{name}?sslmode=disable\"\nconnect_timeout = \"1s\"\n\
                 [cluster]\nlisten = \"{listen}\"\nadvertise = \"{advertise}\"\nsecret = \"0123456789abcdef\"\n\
                 lease = \"3s\"\nlateness = \"1s\"\n\
                 [tenants.acme]\nbase_url = \"http://{uplink}\"\naccess_key = \"{access_key}\"\nsecret_key = \"{secret_key}\"\n\
                 [tenants.acme.limits]\ncalls = {CALLS}\nbulk = {CALLS}\nwindow = \"1s\"\n\
                 [tenants.acme.upstream]\nconnect_timeout = \"1s\"\ntimeout = \"2s\"\nsettle_timeout = \"3s\"\n\
                 visible_after = \"100ms\"\nbreaker_failures = 0\n",
                server = plan.server_settings,
                database = database_proxy.address,
                further = plan.further_hosts,
                name = database.name,
                advertise = peers.address,
                uplink = uplink.address,
                access_key = options.access_key,
                secret_key = options.secret_key,
            );
            let settings = folder.path().join(format!("{number}.toml"));
            std::fs::write(&settings, text).unwrap();
            let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
            // A client that finds a frozen process.
            let endpoint = endpoint
                .connect_timeout(Duration::from_secs(1))
                .http2_keep_alive_interval(Duration::from_secs(1))
                .keep_alive_timeout(Duration::from_secs(2))
                .keep_alive_while_idle(true);
            replicas.push(Replica {
                address,
                rest,
                peers,
                uplink,
                database: database_proxy,
                settings,
                log: folder.path().join(format!("{number}.log")),
                process: Mutex::new(None),
                channels: (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect(),
                is_healthy: AtomicBool::new(false),
            });
        }
        Arc::new(Self {
            simulator,
            replicas,
            database: (database.server.port, database.name.to_owned()),
            folder,
            _stop: stop.drop_guard(),
        })
    }

    /// Starts replicas, and waits until the tenant has an owner whose first calls succeed.
    pub async fn start(count: usize, database: Database<'_>, plan: &Plan) -> Arc<Self> {
        let cluster = Self::prepare(count, database, plan).await;
        for replica in &cluster.replicas {
            replica.start();
        }
        for replica in &cluster.replicas {
            replica.healthy().await;
        }
        cluster
    }

    /// The number of the replica that owns the tenant. Waits until there is one.
    pub async fn owner(&self, server: &Server) -> usize {
        let (_, name) = &self.database;
        let query = "SELECT coalesce(r.address, '') FROM tenant_lease l LEFT JOIN replica r ON r.name = l.owner";
        let limit = Instant::now() + START_LIMIT;
        loop {
            let address = server.sql(name, query);
            let number = self
                .replicas
                .iter()
                .position(|replica| replica.peers.address.to_string() == address.trim());
            if let Some(number) = number {
                return number;
            }
            assert!(Instant::now() < limit, "no replica owns the tenant: {address}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The epoch of the lease.
    pub fn epoch(&self, server: &Server) -> i64 {
        let epoch = server.sql(&self.database.1, "SELECT epoch FROM tenant_lease");
        epoch.trim().parse().unwrap()
    }

    /// The maximum number of calls in any window. The simulator refuses nothing, so the gateway does not learn of delays of more than 30 ms
    /// on a busy machine, which its margin allows for after refusals. So the windows are shorter by [`JITTER`].
    pub fn worst_window(&self) -> usize {
        let calls = self.simulator.calls();
        let mut first = 0;
        let lengths = calls.iter().enumerate().map(|(last, call)| {
            while call.stamp - calls[first].stamp >= WINDOW - JITTER {
                first += 1;
            }
            last + 1 - first
        });
        lengths.max().unwrap_or_default()
    }

    /// Keeps the logs in the folder of the environment variable `LEADGATE_CLUSTER_LOGS`.
    pub fn keep_logs(&self, test: &str) {
        if let Some(folder) = std::env::var_os("LEADGATE_CLUSTER_LOGS") {
            let to = PathBuf::from(folder).join(test);
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
}

impl Replica {
    pub fn start(&self) {
        let log = std::fs::File::options().create(true).append(true).open(&self.log);
        let child = Command::new(binary())
            .args(["serve", "--config", self.settings.to_str().unwrap()])
            .stderr(log.unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(child);
    }

    /// Waits until it serves.
    pub async fn healthy(&self) {
        let serving = async {
            while !self.check().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(START_LIMIT, serving).await;
        let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
        assert!(ended.is_ok(), "a replica does not become healthy: {}", log());
    }

    async fn check(&self) -> bool {
        let mut client = HealthClient::new(self.channels[0].clone());
        let checked = client.check(HealthCheckRequest::default());
        let checked = tokio::time::timeout(Duration::from_millis(500), checked).await;
        checked.is_ok_and(|status| status.is_ok_and(|status| status.into_inner().status() == ServingStatus::Serving))
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.lock().unwrap();
        let id = process.as_ref().unwrap().id().unwrap();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn unfreeze(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process with SIGKILL.
    pub async fn kill(&self) {
        let child = self.process.lock().unwrap().take();
        child.unwrap().kill().await.unwrap();
    }

    /// Ends the process with SIGTERM.
    pub async fn terminate(&self) {
        self.signal(Signal::TERM);
        let mut child = self.process.lock().unwrap().take().unwrap();
        let status = tokio::time::timeout(Duration::from_secs(40), child.wait()).await;
        let status = status.expect("a replica does not end").unwrap();
        assert!(status.success(), "{status:?} {:?}", status.signal());
    }

    pub fn channel(&self, number: usize) -> Channel {
        self.channels[number % CONNECTIONS].clone()
    }
}

impl Balancer {
    pub fn new(cluster: &Arc<Cluster>) -> Arc<Self> {
        let mut checks = JoinSet::new();
        for number in 0..cluster.replicas.len() {
            let cluster = cluster.clone();
            checks.spawn(async move {
                let replica = &cluster.replicas[number];
                loop {
                    let is_healthy = replica.check().await;
                    replica.is_healthy.store(is_healthy, Ordering::Relaxed);
                    tokio::time::sleep(HEALTH_INTERVAL).await;
                }
            });
        }
        Arc::new(Self {
            cluster: cluster.clone(),
            next: std::sync::atomic::AtomicUsize::new(0),
            _checks: checks,
        })
    }

    /// A connection to the next healthy replica. Without one, to the next replica.
    pub fn channel(&self) -> Channel {
        let replicas = &self.cluster.replicas;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let at = |offset: usize| &replicas[(number + offset) % replicas.len()];
        let healthy = (0..replicas.len())
            .map(at)
            .find(|replica| replica.is_healthy.load(Ordering::Relaxed));
        healthy.unwrap_or_else(|| at(0)).channel(number / replicas.len())
    }
}
