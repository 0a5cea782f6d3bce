//! Imports and exports while the gateway stops and starts again.

use std::path::PathBuf;
use std::time::Duration;

use leadgate_simulator::{Latency, Options};
use serde_json::Value as Json;
use tokio::process::{Child, Command};

use super::{SETTINGS, alike, ended, interrupt, rows};
use crate::account::{Account, Process};
use crate::process::leadgate;

const LIMIT: Duration = Duration::from_secs(60);
const CREATE: [&str; 3] = ["import", "--mode", "create"];

/// An account and its gateway, which is a process of its own.
struct Restarted {
    account: Account,
    process: Process,
    gateway: Child,
}

impl Restarted {
    /// A gateway whose LeadSquared is so slow that a transfer can be interrupted.
    async fn start(milliseconds: u64) -> Self {
        let mut options = Options::default();
        (options.limits.calls, options.limits.bulk) = (0, 0);
        options.latency = Latency {
            min: Duration::from_millis(milliseconds),
            max: Duration::from_millis(milliseconds + 100),
        };
        let account = Account::open(options, SETTINGS).await;
        let process = account.process().await;
        let gateway = process.start();
        process.channel().await;
        Self {
            account,
            process,
            gateway,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.account.folder.path().join(name)
    }

    /// Stops the gateway with SIGTERM, and waits for its end.
    async fn stop_gateway(&mut self) {
        let id = self.gateway.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.unwrap().success());
        let ended = tokio::time::timeout(LIMIT, self.gateway.wait()).await;
        assert!(ended.unwrap().unwrap().success());
    }

    fn spawn(&self, arguments: &[&str], file: &str) -> Child {
        let mut command = leadgate();
        command.args(arguments).arg(self.path(file));
        command
            .args(["--addr", &self.process.address.to_string()])
            .spawn()
            .unwrap()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting)
            .await
            .unwrap_or_else(|_| panic!("{what}"));
    }

    async fn until_created(&self, count: usize) {
        self.until("leads are created", |it| it.account.simulator.leads().len() > count)
            .await;
    }
}

/// The last names of leads, sorted.
fn sorted(names: impl Iterator<Item = String>) -> Vec<usize> {
    let mut numbers: Vec<usize> = names.map(|name| name.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn an_import_continues_after_the_gateway_was_restarted() {
    let mut restarted = Restarted::start(200).await;
    std::fs::write(restarted.path("leads.csv"), alike(1_500)).unwrap();
    let import = restarted.spawn(&CREATE, "leads.csv");
    restarted.until_created(100).await;
    restarted.stop_gateway().await;
    assert!(restarted.account.simulator.leads().len() < 1_500);
    restarted.gateway = restarted.process.start();
    let said = ended(import).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.err.matches("The stream was interrupted").count(), 1, "{said:?}");
    assert_eq!(said.err.matches("Connected again after").count(), 1, "{said:?}");
    let leads = restarted.account.simulator.leads().into_iter();
    let names = leads.map(|lead| lead["LastName"].clone().unwrap());
    assert_eq!(sorted(names), (1..=1_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_export_continues_after_the_gateway_was_restarted() {
    let mut restarted = Restarted::start(800).await;
    let leads = 7_000;
    for n in 1..=leads {
        restarted.account.simulator.insert_lead(&[("LastName", &n.to_string())]);
    }
    let export = restarted.spawn(&["export", "--from", "24h", "--out"], "all.csv");
    let written = |it: &Restarted| -> u64 {
        let state = std::fs::read_to_string(it.path("all.csv.export-state")).unwrap_or_default();
        let state: Json = serde_json::from_str(&state).unwrap_or_default();
        state["leads"].as_u64().unwrap_or_default()
    };
    restarted.until("leads are written", |it| written(it) > 0).await;
    restarted.stop_gateway().await;
    assert!(!restarted.path("all.csv").exists());
    restarted.gateway = restarted.process.start();
    let said = ended(export).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.err.matches("Connected again after").count(), 1, "{said:?}");
    let text = std::fs::read_to_string(restarted.path("all.csv")).unwrap();
    let names = rows(&text).into_iter().map(|row| row["LastName"].clone());
    assert_eq!(sorted(names), (1..=leads).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_import_ends_at_once_without_reconnects_and_by_a_signal() {
    let mut restarted = Restarted::start(200).await;
    std::fs::write(restarted.path("leads.csv"), alike(1_500)).unwrap();
    std::fs::write(restarted.path("more.csv"), alike(1_500)).unwrap();
    let never = restarted.spawn(&[&CREATE[..], &["--reconnect-for", "0s"]].concat(), "leads.csv");
    let import = restarted.spawn(&CREATE, "more.csv");
    restarted.until_created(100).await;
    restarted.stop_gateway().await;
    let said = ended(never).await;
    assert!(said.code == Some(3) && !said.err.contains("Reconnecting"), "{said:?}");
    assert!(said.err.contains("run the same command again to continue"), "{said:?}");
    interrupt(&import).await;
    let said = ended(import).await;
    assert!(
        said.code == Some(3) && said.err.contains("interrupted by a signal"),
        "{said:?}"
    );
}
