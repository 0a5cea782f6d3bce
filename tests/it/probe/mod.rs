//! `leadgate probe` as a process, against the simulator: each answer, the safety of the command, and its report.

mod answers;
mod safety;
mod through;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use leadgate_simulator::{Latency, Options, Simulator};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{listen, tenant};
use crate::process::{Said, leadgate};

/// The time between two calls.
const PACE: &str = "5ms";
/// Limits that do not slow the command down.
pub const FAST: &str = "[tenants.acme.limits]\nwindow = \"10ms\"\n";
/// Maximum time of a command.
const LIMIT: Duration = Duration::from_secs(60);

/// A simulated account, and a configuration file for it.
pub struct Account {
    pub simulator: Simulator,
    pub upstream: SocketAddr,
    pub folder: tempfile::TempDir,
    _stop: DropGuard,
}

/// The result of a command.
pub struct Probed {
    pub said: Said,
    /// The JSON report.
    pub report: Value,
    /// The fragment of a configuration file.
    pub settings: String,
}

/// Options of the simulator without rate limits, in which leads can be deleted.
pub fn unlimited() -> Options {
    let mut options = Options {
        delete_enabled: true,
        ..Options::default()
    };
    options.limits.per = Duration::ZERO;
    options
}

impl Account {
    pub async fn start(options: Options) -> Self {
        Self::with(options, FAST).await
    }

    /// An account with these settings in addition to those of the tenant.
    pub async fn with(options: Options, settings: &str) -> Self {
        let listener = listen().await;
        let upstream = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = format!("[store]\nurl = \"sqlite://{}/leadgate.db\"\n", folder.path().display());
        let text = format!("{store}{}{settings}", tenant("acme", upstream, &options));
        std::fs::write(folder.path().join("leadgate.toml"), text).unwrap();
        let simulator = Simulator::new(options);
        let stop = CancellationToken::new();
        tokio::spawn(simulator.clone().serve(listener, stop.clone().cancelled_owned()));
        Self {
            simulator,
            upstream,
            folder,
            _stop: stop.drop_guard(),
        }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = leadgate();
        command.args(["probe", "--config", &self.path("leadgate.toml")]);
        command.args(arguments);
        command
    }

    /// Runs the command with these arguments only.
    pub async fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output();
        tokio::time::timeout(LIMIT, output).await.unwrap().unwrap().into()
    }

    /// Starts a probe that does not ask.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let files = [
            "--json",
            &self.path("report.json"),
            "--settings",
            &self.path("settings.toml"),
        ]
        .map(str::to_owned);
        let mut command = self.command(&["--yes"]);
        command.args(arguments).args(files);
        if !arguments.contains(&"--pace") {
            command.args(["--pace", PACE]);
        }
        command.spawn().unwrap()
    }

    /// Runs a probe, and removes its files.
    pub async fn probe(&self, arguments: &[&str]) -> Probed {
        let child = self.spawn(arguments);
        self.finish(child).await
    }

    /// Waits for the end of a probe.
    pub async fn finish(&self, child: Child) -> Probed {
        let said: Said = tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .unwrap()
            .unwrap()
            .into();
        let take = |name: &str| {
            let path = PathBuf::from(self.path(name));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {said:?}"));
            std::fs::remove_file(path).unwrap();
            text
        };
        let report = serde_json::from_str(&take("report.json")).unwrap();
        Probed {
            settings: take("settings.toml"),
            report,
            said,
        }
    }

    /// The names of the endpoints that were called, in order.
    pub fn endpoints(&self) -> Vec<String> {
        self.simulator.calls().into_iter().map(|call| call.endpoint).collect()
    }

    /// Adds a latency to each response.
    pub fn slow(&self, millis: u64) {
        let latency = Duration::from_millis(millis);
        self.simulator.set_options(|options| {
            options.latency = Latency {
                min: latency,
                max: latency,
            };
        });
    }
}

impl Probed {
    /// The result of one probe.
    pub fn finding(&self, id: &str) -> &Value {
        let probes = self.report["probes"].as_array().unwrap();
        probes
            .iter()
            .find(|probe| probe["id"] == id)
            .unwrap_or_else(|| panic!("{id} is not in the report"))
    }

    /// The value of a probe that is decided.
    pub fn decided(&self, id: &str) -> &Value {
        let finding = self.finding(id);
        assert_eq!(finding["state"], "decided", "{finding:#}\n{:?}", self.said);
        &finding["value"]
    }

    pub fn state(&self, id: &str) -> &str {
        self.finding(id)["state"].as_str().unwrap()
    }
}

/// Sends a signal to a process.
pub async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

/// Waits until a condition is true.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "{what}");
}
