//! Measures what hostile clients cost a good one. Each attack runs twice. The latency of the good client stays low, the memory
//! after the second attack is that after the first one, and no slot and no permit is lost.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "../it/account.rs"]
mod account;
#[path = "../it/hostile/attacks.rs"]
mod attacks;
#[path = "../it/certificates.rs"]
mod certificates;
#[path = "../it/hostile/gateway.rs"]
mod gateway;
#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/hostile/raw.rs"]
mod raw;
mod rest;

use std::time::Duration;

use tokio::process::Child;

use attacks::{ATTACKS, Attack, Extent};
use gateway::{Gateway, GoodClient};

const NORMAL: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(30);
/// The p99 under attack may be twice the normal one, or this.
const MAX_P99: Duration = Duration::from_millis(20);
/// The memory may grow by a tenth, or by this, in KiB.
const MAX_GROWTH: u64 = 20 * 1024;

/// The measurements of one attack.
struct Row {
    attack: Attack,
    p99: Duration,
    failed: Vec<String>,
    memory: [u64; 2],
    slots: Result<(), String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_cost_a_good_one_little() {
    let gateway = Gateway::start("").await;
    let only = std::env::var("LEADGATE_HOSTILE_ATTACK").ok();
    let is_chosen = |attack: &Attack| only.as_ref().is_none_or(|only| *only == format!("{attack:?}"));
    let (mut normal, mut rows) = (Vec::new(), Vec::new());
    println!(
        "{:<18} {:>12} {:>12} {:>12} {:>12}  slots",
        "attack", "p99 normal", "p99 attacked", "MiB first", "MiB second"
    );
    for attack in ATTACKS.into_iter().filter(is_chosen) {
        let extent = Extent {
            duration: Duration::from_secs(match attack {
                // Until all calls are made, in most cases.
                Attack::CancelledCalls => 60,
                // Longer than the time for which a client may read no byte.
                Attack::UnreadResponses => 30,
                _ => 10,
            }),
            connections: 1_000,
            calls: 100_000,
        };
        let mut row = Row {
            attack,
            p99: Duration::ZERO,
            failed: Vec::new(),
            memory: [0; 2],
            slots: Ok(()),
        };
        let mut attacked = Vec::new();
        for memory in &mut row.memory {
            // The normal latency is measured in turn with the attacks, since the machine does other work as well.
            let client = GoodClient::start(gateway.address());
            tokio::time::sleep(NORMAL).await;
            normal.extend(client.stop().into_iter().map(Result::unwrap));
            let client = GoodClient::start(gateway.address());
            attack.run(gateway.address(), extent).await;
            for call in client.stop() {
                match call {
                    Ok(duration) => attacked.push(duration),
                    Err(error) => row.failed.push(error),
                }
            }
            tokio::time::sleep(REST).await;
            *memory = resident(&gateway.child);
        }
        row.p99 = p99(&attacked);
        row.slots = gateway.all_free().await;
        print(&row, p99(&normal));
        rows.push(row);
    }
    let normal = p99(&normal);
    let mut errors = Vec::new();
    for row in &rows {
        let [first, second] = row.memory;
        if row.p99 > MAX_P99.max(2 * normal) {
            errors.push(format!("{:?}: the p99 of the good client is {:?}", row.attack, row.p99));
        }
        if second > (first + MAX_GROWTH).max(first / 10 * 11) {
            errors.push(format!(
                "{:?}: the memory grew from {first} to {second} KiB",
                row.attack
            ));
        }
        if let Some(error) = row.failed.first() {
            let count = row.failed.len();
            errors.push(format!(
                "{:?}: {count} calls of the good client failed: {error}",
                row.attack
            ));
        }
        if let Err(error) = &row.slots {
            errors.push(format!("{:?}: {error}", row.attack));
        }
    }
    for line in gateway.metrics().await.lines() {
        if line.starts_with("leadgate_connections_") {
            println!("{line}");
        }
    }
    assert!(errors.is_empty(), "{errors:#?}");
}

fn print(row: &Row, normal: Duration) {
    println!(
        "{:<18} {:>12} {:>12} {:>12} {:>12}  {}",
        format!("{:?}", row.attack),
        format!("{normal:.1?}"),
        format!("{:.1?}", row.p99),
        row.memory[0] / 1024,
        row.memory[1] / 1024,
        row.slots.as_ref().map_or_else(String::as_str, |()| "free")
    );
}

/// The resident memory of a process, in KiB.
fn resident(process: &Child) -> u64 {
    let id = process.id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The 99th percentile; 0 without calls.
fn p99(calls: &[Duration]) -> Duration {
    let mut calls = calls.to_vec();
    calls.sort_unstable();
    let at = (calls.len() * 99).div_ceil(100).saturating_sub(1);
    calls.get(at).copied().unwrap_or_default()
}
