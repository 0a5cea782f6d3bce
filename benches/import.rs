//! Speed and memory of `leadgate import` with a long file. Command, gateway and simulator are a process each.
//!
//! `cargo bench --bench import` prints the table; with `-- --write docs/benchmarks` it writes `docs/benchmarks/import.md`.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod machine;

use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use leadgate_simulator::{Latency, Limits, Options};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const ROWS: usize = 100_000;
/// More than either process may take, in MiB.
const TARGET: u64 = 150;
const SETTINGS: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"\n[tenants.acme.limits]\ncalls = 10000\n\
                        bulk = 10000\nwindow = \"1s\"\n";

/// Where the gateway keeps request ids, and how that is called.
const STORES: [(&str, &str); 2] = [("leadgate.db", "a file"), ("", "memory")];

/// What was seen of one import.
struct Seen {
    rows_per_second: f64,
    gateway: u64,
    import: u64,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadgate"));
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn file(folder: &Path) -> u64 {
    let mut text = String::from("email_address,first_name,last_name,mx_City,mx_Loan_Amount,mx_Consent,mx_Next_Call\n");
    for n in 0..ROWS {
        let _ = writeln!(
            text,
            "lead-{n}@example.com,Ann,Lead {n},Pune,{n},yes,2026-07-31 05:33:50"
        );
    }
    std::fs::write(folder.join("leads.csv"), &text).unwrap();
    text.len() as u64
}

fn simulate(folder: &Path, address: &str) -> Child {
    let options = Options {
        limits: Limits {
            calls: 0,
            bulk: 0,
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(20),
            max: Duration::from_millis(40),
        },
        keep_calls: 0,
        ..Options::default()
    };
    let options = serde_json::to_string(&options).unwrap();
    let path = folder.join("options.json");
    std::fs::write(&path, options).unwrap();
    let mut command = program();
    command.args(["simulate", "--listen", address, "--options"]).arg(path);
    command.spawn().unwrap()
}

async fn serve(folder: &Path, upstream: &str, store: &str) -> (Child, String) {
    let (address, options) = (free_address(), Options::default());
    let store = match store {
        "" => "sqlite::memory:".to_owned(),
        name => format!("sqlite://{}", folder.join(name).display()),
    };
    let settings = format!(
        "{SETTINGS}[server]\nlisten = \"{address}\"\n[store]\nurl = \"{store}\"\n[tenants.acme]\nbase_url = \"http://{upstream}\"\n\
         access_key = \"{}\"\nsecret_key = \"{}\"\n",
        options.access_key, options.secret_key
    );
    let path = folder.join("leadgate.toml");
    std::fs::write(&path, settings).unwrap();
    let child = program().arg("serve").arg("--config").arg(path).spawn().unwrap();
    let health = || {
        program()
            .args(["health", "--addr", &address])
            .stderr(Stdio::null())
            .status()
    };
    while !health().await.unwrap().success() {
        sleep(Duration::from_millis(50)).await;
    }
    (child, address)
}

/// The most memory that a process has had, in MiB; `None` when it has ended.
fn peak(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib.div_ceil(1024))
}

async fn measure(store: &str) -> (Seen, u64) {
    let folder = TempDir::new().unwrap();
    let bytes = file(folder.path());
    let upstream = free_address();
    let _simulator = simulate(folder.path(), &upstream);
    let (gateway, address) = serve(folder.path(), &upstream, store).await;
    let began = Instant::now();
    let mut import = program()
        .args(["import", "--addr", &address])
        .arg(folder.path().join("leads.csv"))
        .spawn()
        .unwrap();
    let mut most = 0;
    let status = loop {
        most = most.max(peak(&import).unwrap_or_default());
        if let Some(status) = import.try_wait().unwrap() {
            break status;
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{status}");
    let seen = Seen {
        rows_per_second: ROWS as f64 / began.elapsed().as_secs_f64(),
        gateway: peak(&gateway).unwrap(),
        import: most,
    };
    (seen, bytes)
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write");
    let target = arguments.nth(1);
    let mut table = String::from(
        "| request ids in | rows per second | peak memory of the gateway | peak memory of the import |\n|---|---|---|---|\n",
    );
    let mut size = 0;
    for (store, name) in STORES {
        let (seen, bytes) = measure(store).await;
        assert!(
            seen.gateway.max(seen.import) < TARGET,
            "{} and {} MiB",
            seen.gateway,
            seen.import
        );
        let _ = writeln!(
            table,
            "| {name} | {:.0} | {} MiB | {} MiB |",
            seen.rows_per_second, seen.gateway, seen.import
        );
        size = bytes;
    }
    println!("{table}");
    if let Some(target) = target {
        let text = include_str!("import.md")
            .replace("{table}", &table)
            .replace("{bytes}", &format!("{:.1}", size as f64 / 1e6))
            .replace("{machine}", &format!("{}, shared with others", machine::processor()));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("import.md"), text).unwrap();
    }
}
