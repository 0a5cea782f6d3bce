//! An account that continues while its gateways restart, and gateways in processes that can be killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use leadgate_simulator::{Options, Simulator};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{World, listen, tenant};

/// An account that continues while its gateways restart, and their settings.
pub struct Account {
    pub simulator: Simulator,
    pub settings: String,
    pub folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Account {
    pub async fn open(options: Options, settings: &str) -> Self {
        let listener = listen().await;
        let upstream = listener.local_addr().unwrap();
        Self::behind(upstream, listener, options, settings).await
    }

    /// An account that gateways reach at an address other than its own.
    pub async fn behind(upstream: SocketAddr, listener: TcpListener, options: Options, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "[store]\nurl = \"sqlite://{}/leadgate.db\"\n{}{settings}",
            folder.path().display(),
            tenant("acme", upstream, &options)
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

    /// Stops a gateway, and restores the store to its state before the shutdown.
    pub async fn forget_the_end(&self, world: World) {
        let store = self.folder.path().join("leadgate.db");
        let files = ["", "-wal"].map(|end| format!("{}{end}", store.display()));
        let before = files.clone().map(|file| std::fs::read(file).unwrap_or_default());
        world.stop().await;
        for (file, bytes) in files.iter().zip(before) {
            std::fs::write(file, bytes).unwrap();
        }
    }

    pub async fn gateway(&self) -> World {
        World::gateway(self.simulator.clone(), &self.settings).await
    }

    /// A gateway in a process of its own.
    pub async fn process(&self) -> Process {
        let address = listen().await.local_addr().unwrap();
        let path = self.folder.path().join("leadgate.toml");
        let admin = listen().await.local_addr().unwrap();
        let ports = format!("[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"{admin}\"\n");
        std::fs::write(&path, format!("{ports}{}", self.settings)).unwrap();
        let log = self.folder.path().join("log");
        Process {
            address,
            admin,
            path,
            log,
        }
    }
}

/// A gateway that can be started, killed and started again.
pub struct Process {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub path: PathBuf,
    log: PathBuf,
}

impl Process {
    pub fn start(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(&self.log);
        Command::new(binary())
            .args(["serve", "--config", self.path.to_str().unwrap()])
            .stderr(log.unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::new(format!("http://{}", self.address)).unwrap();
        let connected = async {
            loop {
                if let Ok(channel) = endpoint.connect().await {
                    return channel;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), connected).await.unwrap()
    }
}

/// The binary that the tests start: the one that cargo has built for them, or `LEADGATE_BIN`.
fn binary() -> std::ffi::OsString {
    std::env::var_os("LEADGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_leadgate").into())
}
