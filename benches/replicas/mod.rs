//! Replicas in one process, for benches: a simulated LeadSquared without limits, a PostgreSQL server, and between them a proxy that
//! counts the messages of the replicas.

#[path = "../machine/mod.rs"]
mod machine;

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leadgate::app::App;
use leadgate::config::Config;
use leadgate_simulator::{Latency, Options, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::server::Server;

/// Maximum time until all tenants have an owner.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The database of all replicas of a bench.
pub(crate) struct Database {
    server: Server,
    proxy: u16,
    messages: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Database {
    /// Starts a server that writes its log to the disk, as in production.
    pub(crate) async fn start() -> Self {
        let server = Server::start("fsync = on");
        let listener = listen().await;
        let (proxy, target) = (listener.local_addr().unwrap().port(), server.port);
        let messages = Arc::new(AtomicU64::new(0));
        let counted = messages.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, target, counted.clone()));
            }
        });
        Self {
            server,
            proxy,
            messages,
            _tasks: tasks,
        }
    }

    /// Number of queries that the replicas have sent. Each one is a whole transaction, and a round trip.
    pub(crate) fn round_trips(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    fn url(&self, database: &str) -> String {
        let (from, to) = (format!(":{}/", self.server.port), format!(":{}/", self.proxy));
        self.server.url(database).replace(&from, &to)
    }
}

/// Passes on the messages of a connection, and counts the queries.
async fn pass(client: TcpStream, target: u16, counted: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    // As of a direct connection.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = async {
        let mut counter = QueryCounter::default();
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            counted.fetch_add(counter.read(&buffer[..length]), Ordering::Relaxed);
            if to_server.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// Counts the messages of type `Q` in the bytes of a client. A message is its type, its length, and its contents. The first message
/// has no type.
#[derive(Default)]
struct QueryCounter {
    has_started: bool,
    header: Vec<u8>,
    /// The bytes until the next message.
    skip: usize,
}

impl QueryCounter {
    fn read(&mut self, mut bytes: &[u8]) -> u64 {
        let mut queries = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
            let Some((first, rest)) = bytes.split_first() else {
                break;
            };
            self.header.push(*first);
            bytes = rest;
            let type_length = usize::from(self.has_started);
            if self.header.len() < type_length + 4 {
                continue;
            }
            queries += u64::from(self.has_started && self.header[0] == b'Q');
            let length: [u8; 4] = self.header[type_length..].try_into().unwrap();
            self.skip = u32::from_be_bytes(length) as usize - 4;
            self.header.clear();
            self.has_started = true;
        }
        queries
    }
}

/// Replicas, and the simulator behind them.
pub(crate) struct Replicas {
    /// The address of each replica for callers, and its address for other replicas.
    pub(crate) addresses: Vec<(SocketAddr, String)>,
    pub(crate) simulator: Simulator,
    database: String,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Replicas {
    /// Starts replicas with a database of their own, and waits until each tenant has an owner. The tenants are `t0`, `t1` and so on.
    pub(crate) async fn start(database: &Database, replicas: usize, tenants: usize, lease: Duration) -> Self {
        let mut options = Options {
            latency: Latency {
                min: Duration::ZERO,
                max: Duration::ZERO,
            },
            ..Options::default()
        };
        options.limits.calls = 0;
        options.limits.bulk = 0;
        let upstream = listen().await;
        let base = upstream.local_addr().unwrap();
        let mut accounts = String::new();
        for number in 0..tenants {
            let _ = write!(
                accounts,
                "[tenants.t{number}]\nbase_url = \"http://{base}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\
                 [tenants.t{number}.limits]\ncalls = 10000\nbulk = 10000\n",
                options.access_key, options.secret_key
            );
        }
        let simulator = Simulator::new(options);
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let simulating = simulator.clone().serve(upstream, stop.clone().cancelled_owned());
        running.spawn(async move { simulating.await.unwrap() });
        let name = database.server.create_database();
        let (mut addresses, mut apps) = (Vec::new(), Vec::new());
        for _ in 0..replicas {
            let peers = listen().await.local_addr().unwrap().to_string();
            let settings = format!(
                "[store]\nurl = \"{}\"\n[log]\nfilter = \"warn\"\n[cluster]\nlisten = \"{peers}\"\n\
                 secret = \"0123456789abcdef\"\nlease = \"{}s\"\n{accounts}",
                database.url(&name),
                lease.as_secs()
            );
            let config = Config::read("bench", &settings, std::iter::empty()).unwrap();
            let (listener, admin) = (listen().await, listen().await);
            addresses.push((listener.local_addr().unwrap(), peers));
            apps.push((App::new(config).await.unwrap(), listener, admin));
        }
        // At the same time, so that each tenant is acquired by its preferred replica.
        for (app, listener, admin) in apps {
            let stopped = stop.clone().cancelled_owned();
            running.spawn(async move { app.serve(listener, admin, stopped).await.unwrap() });
        }
        let replicas = Self {
            addresses,
            simulator,
            database: name,
            stop,
            running,
        };
        let all_owned = async {
            while replicas.sql(database, "SELECT count(*) FROM tenant_lease WHERE owner IS NOT NULL")
                != tenants.to_string()
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(START_TIMEOUT, all_owned).await.unwrap();
        replicas
    }

    /// Executes a statement without counting it.
    pub(crate) fn sql(&self, database: &Database, statement: &str) -> String {
        database.server.sql(&self.database, statement).trim().to_owned()
    }

    /// Whether a replica owns a tenant.
    pub(crate) fn owns(&self, database: &Database, replica: usize, tenant: &str) -> bool {
        let owner = format!(
            "SELECT r.address FROM tenant_lease l JOIN replica r ON r.name = l.owner WHERE l.tenant = '{tenant}'"
        );
        self.sql(database, &owner) == self.addresses[replica].1
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The median of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Whether the bench is only to show that it works.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// The folder of `--write`.
pub(crate) fn target() -> Option<String> {
    std::env::args().skip_while(|argument| argument != "--write").nth(1)
}

/// What the figures were measured on.
pub(crate) fn machine() -> String {
    let build = if cfg!(debug_assertions) {
        ", unoptimized build"
    } else {
        ""
    };
    format!("{}, shared with others{build}", machine::processor())
}
