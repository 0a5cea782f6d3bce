//! Measures what bad requests to the REST listener cost good clients of REST and gRPC. Each input is sent at least 1,000 times.

mod clients;
mod gateway;
mod inputs;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{MAX_GROWTH, MAX_P99, NORMAL, REST, p99, resident};
use clients::GoodClients;
use gateway::RestGateway;
use inputs::BadInput;

/// How often each input is sent at least, and for how long.
const COUNT: u64 = 1_000;
const DURATION: Duration = Duration::from_secs(10);

/// The latencies of the good clients, and their errors.
#[derive(Clone, Debug, Default)]
struct Seen {
    rest: Vec<Duration>,
    grpc: Vec<Duration>,
    failed: Vec<String>,
}

/// The measurements of one input.
struct Row {
    input: BadInput,
    outcomes: BTreeMap<String, u64>,
    seen: Seen,
    memory: [u64; 2],
    free: Result<(), String>,
    calls: Result<(), String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_cost_good_clients_little() {
    let gateway = RestGateway::start().await;
    let only = std::env::var("LEADGATE_HOSTILE_ATTACK").ok();
    let is_chosen = |input: &BadInput| only.as_ref().is_none_or(|only| *only == input.name);
    // The first requests are slower, and the allocator has no memory yet.
    gateway.all_free().await.unwrap();
    let (mut normal, mut rows) = (Seen::default(), Vec::new());
    println!(
        "| input | responses | p99 of REST: normal | beside it | p99 of gRPC: normal | beside it | memory before | 30 s later | lost slots and permits |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for input in inputs::all(&gateway).into_iter().filter(is_chosen) {
        // The normal latency is measured in turn with the inputs, since the machine does other work as well.
        let clients = GoodClients::start(&gateway);
        tokio::time::sleep(NORMAL).await;
        normal.add(clients.stop());
        gateway.simulator().forget_calls();
        let (before, began) = (resident(&gateway.child), Instant::now());
        let clients = GoodClients::start(&gateway);
        let outcomes = input.run(&gateway, COUNT, DURATION).await;
        let seen = clients.stop();
        let calls = gateway.expected_calls(began.elapsed());
        tokio::time::sleep(REST).await;
        let memory = [before, resident(&gateway.child)];
        let row = Row {
            input,
            outcomes,
            seen,
            memory,
            free: gateway.all_free().await,
            calls,
        };
        println!("{}", row.text(&normal));
        rows.push(row);
    }
    for line in gateway.metrics().await.lines() {
        if line.starts_with("leadgate_connections_") {
            println!("{line}");
        }
    }
    let errors: Vec<String> = rows.iter().flat_map(|row| row.errors(&normal)).collect();
    assert!(!rows.is_empty() && errors.is_empty(), "{errors:#?}");
}

impl Seen {
    fn add(&mut self, more: Self) {
        self.rest.extend(more.rest);
        self.grpc.extend(more.grpc);
        self.failed.extend(more.failed);
    }
}

impl Row {
    /// The row of the table.
    fn text(&self, normal: &Seen) -> String {
        let outcomes: Vec<String> = self
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("{outcome}: {count}"))
            .collect();
        let ms = |calls: &[Duration]| format!("{:.1} ms", p99(calls).as_secs_f64() * 1e3);
        format!(
            "| {} | {} | {} | {} | {} | {} | {} MiB | {} MiB | {} |",
            self.input.name,
            outcomes.join(", "),
            ms(&normal.rest),
            ms(&self.seen.rest),
            ms(&normal.grpc),
            ms(&self.seen.grpc),
            self.memory[0] / 1024,
            self.memory[1] / 1024,
            self.free.as_ref().map_or_else(String::as_str, |()| "0")
        )
    }

    /// The goals that are not reached.
    fn errors(&self, normal: &Seen) -> Vec<String> {
        let mut errors = Vec::new();
        for (client, calls, normal) in [
            ("REST", &self.seen.rest, &normal.rest),
            ("gRPC", &self.seen.grpc, &normal.grpc),
        ] {
            let p99_beside = p99(calls);
            if p99_beside > MAX_P99.max(2 * p99(normal)) {
                errors.push(format!("the p99 of the good {client} client is {p99_beside:?}"));
            }
        }
        let [before, after] = self.memory;
        if after > before + MAX_GROWTH {
            errors.push(format!("the memory grew from {before} to {after} KiB"));
        }
        if let Some(error) = self.seen.failed.first() {
            let count = self.seen.failed.len();
            errors.push(format!("{count} requests of the good clients failed: {error}"));
        }
        let unexpected = |outcome: &&String| !self.input.expected.contains(&outcome.as_str());
        for outcome in self.outcomes.keys().filter(unexpected) {
            errors.push(format!("unexpected: {outcome}"));
        }
        let sent: u64 = self.outcomes.values().sum();
        if sent < COUNT {
            errors.push(format!("sent only {sent} times"));
        }
        errors.extend(
            [&self.free, &self.calls]
                .into_iter()
                .filter_map(|result| result.clone().err()),
        );
        let name = self.input.name;
        errors.into_iter().map(|error| format!("{name}: {error}")).collect()
    }
}
