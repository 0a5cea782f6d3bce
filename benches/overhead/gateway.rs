//! The gateway of the bench: the binary that is shipped, with its own allocator.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::Process;

/// Maximum time from the start of a process until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The keys of each account.
pub(crate) const ACCESS_KEY: &str = "bench-access-key";
pub(crate) const SECRET_KEY: &str = "bench-secret-key";

/// What differs between the gateways of the bench.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) upstream: String,
    /// Calls in a window.
    pub(crate) calls: u32,
    /// Bulk calls in a window. `None`: as many as calls.
    pub(crate) bulk: Option<u32>,
    pub(crate) window: &'static str,
    /// Whether reads use bulk calls.
    pub(crate) batching: bool,
    pub(crate) tenants: usize,
    /// Lines that follow the settings.
    pub(crate) more: String,
}

impl Plan {
    /// A limit that no call waits for.
    pub(crate) fn without_waiting(upstream: &str) -> Self {
        Self {
            upstream: upstream.to_owned(),
            calls: 200,
            bulk: None,
            window: "10ms",
            batching: false,
            tenants: 1,
            more: String::new(),
        }
    }

    fn settings(&self, listen: &str, admin: &str, folder: &TempDir) -> String {
        let store = folder.path().join("leadgate.db");
        let mut text = format!(
            "[server]\nlisten = \"{listen}\"\nmax_in_flight = 1000000\nmax_in_flight_per_caller = 1000000\nmax_deadline = \"1h\"\n\
             [admin]\nlisten = \"{admin}\"\n[store]\nurl = \"sqlite://{}\"\n{}",
            store.display(),
            self.more
        );
        let Self {
            upstream,
            calls,
            window,
            batching,
            ..
        } = self;
        let bulk = self.bulk.unwrap_or(*calls);
        for tenant in 0..self.tenants {
            let _ = write!(
                text,
                "[tenants.t{tenant}]\nbase_url = \"http://{upstream}\"\naccess_key = \"{ACCESS_KEY}\"\nsecret_key = \
                 \"{SECRET_KEY}\"\n[tenants.t{tenant}.limits]\ncalls = {calls}\nbulk = {bulk}\nwindow = \"{window}\"\n\
                 queue = 1000000\nqueue_per_caller = 1000000\n[tenants.t{tenant}.batching]\nreads = {batching}\n"
            );
        }
        text
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    process: Process,
    pub(crate) address: String,
    admin: String,
    /// The time from the start of the process until `/ready` returns 200.
    pub(crate) start: Duration,
    /// Has the settings, the store and the log.
    _folder: TempDir,
}

impl Gateway {
    pub(crate) fn start(plan: &Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        let config = folder.path().join("leadgate.toml");
        std::fs::write(&config, plan.settings(&address, &admin, &folder)).unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadgate"));
        command.arg("serve").arg("--config").arg(config);
        command.stderr(Stdio::from(File::create(&log).unwrap()));
        let began = Instant::now();
        let mut process = Process::start(command);
        while !get(&admin, "/ready").is_some_and(|response| response.starts_with("HTTP/1.1 200 ")) {
            assert!(
                began.elapsed() < START_TIMEOUT && !process.has_ended(),
                "the gateway is not ready:\n{}",
                std::fs::read_to_string(&log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Self {
            start: began.elapsed(),
            process,
            address,
            admin,
            _folder: folder,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The number of calls that wait for a slot.
    pub(crate) fn waiting(&self) -> u64 {
        let text = self.metrics();
        let lines = text.lines().filter(|line| line.starts_with("leadgate_quota_waiting{"));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }

    /// The response of the admin port with the metrics.
    pub(crate) fn metrics(&self) -> String {
        get(&self.admin, "/metrics").unwrap_or_default()
    }
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// The response of the admin port, or `None` if nothing listens.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    std::io::Write::write_all(
        &mut stream,
        format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes(),
    )
    .ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    Some(response)
}
