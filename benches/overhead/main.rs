//! What the gateway costs: CPU time, latency and memory, in comparison with a gRPC server that only responds and an HTTP client
//! without a gateway. All of them are processes of their own on this machine.
//!
//! `cargo bench --profile dist --bench overhead` prints the tables; with `-- --write docs/benchmarks` it writes
//! `docs/benchmarks/overhead.md`. With `-- --quick` the rounds are short. `-- --only calls` measures one table: `calls`, `memory`,
//! `batches`, `growth`, `telemetry` or `start`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs
)]

mod gateway;
#[path = "../machine/mod.rs"]
mod machine;
mod process;
mod roles;

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway::{Gateway, Plan};
use process::{Process, memory};
use roles::{Arguments, Load};

/// The allocator of the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The order of the measurements in a round comes from this generator (xorshift).
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// The number of pairs of measurements of the telemetry.
const PAIRS: usize = 20;
const IN_FLIGHT: [usize; 3] = [1, 64, 512];

/// Measures one table.
type Table = fn(&mut Bench) -> String;

struct Bench {
    upstream: Process,
    upstream_address: String,
    /// Seconds of one measurement.
    seconds: f64,
    rounds: usize,
    random: u64,
}

impl Bench {
    fn new(arguments: &Arguments) -> Self {
        let (upstream, upstream_address) = listening("upstream", &[]);
        let is_quick = arguments.has("--quick");
        Self {
            upstream,
            upstream_address,
            seconds: if is_quick { 1.0 } else { 3.0 },
            rounds: if is_quick { 5 } else { 9 },
            random: SEED,
        }
    }

    /// Shuffles by a fixed generator.
    fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            values.swap(i, (self.random % (i as u64 + 1)) as usize);
        }
    }

    /// Measures callers of a gRPC server: the CPU time is that of the server.
    fn callers(&self, address: &str, process: u32, in_flight: usize, tenants: usize) -> Load {
        self.load(
            "callers",
            &[
                ("--address", &address),
                ("--process", &process),
                ("--in-flight", &in_flight),
                ("--tenants", &tenants),
                ("--seconds", &self.seconds),
            ],
        )
    }

    fn gateway(&self, gateway: &Gateway, in_flight: usize, tenants: usize) -> Load {
        self.callers(&gateway.address, gateway.id(), in_flight, tenants)
    }

    /// Measures an HTTP client of the upstream: the CPU time is that of the client.
    fn direct(&self, in_flight: usize) -> Load {
        self.load(
            "direct",
            &[
                ("--address", &self.upstream_address),
                ("--in-flight", &in_flight),
                ("--seconds", &self.seconds),
            ],
        )
    }

    fn load(&self, role: &str, arguments: &[(&str, &dyn std::fmt::Display)]) -> Load {
        serde_json::from_str(&Process::role(role, arguments).line()).unwrap()
    }

    fn plan(&self) -> Plan {
        Plan::without_waiting(&self.upstream_address)
    }

    /// The table of calls, one at a time and many at once.
    fn calls(&mut self) -> String {
        let gateway = Gateway::start(&self.plan());
        let (echo, echo_address) = listening("echo", &[("--gateway", &gateway.address)]);
        // By number of calls in progress, and then of the echo, of the client and of the gateway.
        let mut loads = vec![[vec![], vec![], vec![]]; IN_FLIGHT.len()];
        for round in 0..self.rounds {
            let mut order: Vec<(usize, usize)> = (0..IN_FLIGHT.len())
                .flat_map(|row| (0..3).map(move |of| (row, of)))
                .collect();
            self.shuffle(&mut order);
            eprintln!("calls: round {} of {}", round + 1, self.rounds);
            for (row, of) in order {
                let in_flight = IN_FLIGHT[row];
                let load = match of {
                    0 => self.callers(&echo_address, echo.id(), in_flight, 1),
                    1 => self.direct(in_flight),
                    _ => self.gateway(&gateway, in_flight, 1),
                };
                loads[row][of].push(load);
            }
        }
        let mut text = String::from(
            "| calls in progress | | calls a second | CPU of a call | p50 | p99 | p99.9 |\n|---|---|---|---|---|---|---|\n",
        );
        let names = [
            "gRPC server that only responds (a)",
            "HTTP client without a gateway (b)",
            "gateway (c)",
        ];
        for (in_flight, loads) in IN_FLIGHT.into_iter().zip(&loads) {
            for (name, loads) in names.into_iter().zip(loads) {
                let figure = |of: fn(&Load) -> f64| median(loads.iter().map(of).collect());
                let (rate, cpu) = (figure(|load| load.rate), figure(|load| load.cpu));
                let [p50, p99, p999] = [
                    figure(|load| load.p50),
                    figure(|load| load.p99),
                    figure(|load| load.p999),
                ];
                let _ = writeln!(
                    text,
                    "| {in_flight} | {name} | {rate:.0} | {cpu:.1} us | {:.2} ms | {:.2} ms | {:.2} ms |",
                    p50 / 1e3,
                    p99 / 1e3,
                    p999 / 1e3
                );
            }
        }
        text += "\n| figure | result | goal |\n|---|---|---|\n";
        // Ratios are of one round, so that a slow phase of the machine concerns both sides.
        let ratio = |row: usize, of: fn(&Load) -> f64| {
            let [echo, direct, gateway]: &[Vec<Load>; 3] = &loads[row];
            let rounds = echo.iter().zip(direct).zip(gateway);
            median(
                rounds
                    .map(|((echo, direct), gateway)| of(gateway) / (of(echo) + of(direct)))
                    .collect(),
            )
        };
        let tail = median(loads[2][2].iter().map(|load| load.p99 / load.p50).collect());
        let _ = writeln!(
            text,
            "| CPU of a call, 64 in progress: c / (a + b) | {:.2} | at most 1.25 |\n\
             | p50, 1 in progress: c / (a + b) | {:.2} | at most 1.6 |\n\
             | p99 / p50 of the gateway, 512 in progress | {tail:.1} | at most 3 |",
            ratio(1, |load| load.cpu),
            ratio(0, |load| load.p50),
        );
        text
    }

    /// The table of memory.
    fn memory(&mut self) -> String {
        let mut text = String::from("| waiting calls | resident memory | goal |\n|---|---|---|\n");
        for (count, goal) in [(0, "at most 20 MiB"), (1_000, ""), (10_000, "at most 120 MiB")] {
            let mut found = Vec::new();
            for _ in 0..5 {
                // All calls are served within their deadline of ten minutes. Otherwise they would not be admitted.
                let plan = Plan {
                    calls: 1,
                    window: "20ms",
                    ..self.plan()
                };
                let gateway = Gateway::start(&plan);
                let _waiting = self.wait_in_queue(&gateway, count);
                std::thread::sleep(Duration::from_secs(1));
                found.push(memory(gateway.id()));
            }
            let _ = writeln!(text, "| {count} | {:.0} MiB | {goal} |", median(found));
        }
        text
    }

    /// Makes calls that wait.
    fn wait_in_queue(&self, gateway: &Gateway, count: usize) -> Option<Process> {
        if count == 0 {
            return None;
        }
        let mut callers = Process::role("waiting", &[("--address", &gateway.address), ("--count", &count)]);
        assert_eq!(callers.line(), "calls are in progress");
        let began = Instant::now();
        // The first calls get slots.
        while gateway.waiting() < count as u64 * 95 / 100 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{} calls wait",
                gateway.waiting()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(callers)
    }

    /// The table of reads in bulk calls.
    fn batches(&mut self) -> String {
        let plan = Plan {
            calls: 5,
            window: "20ms",
            batching: true,
            ..self.plan()
        };
        let gateway = Gateway::start(&plan);
        let (echo, echo_address) = listening("echo", &[("--gateway", &gateway.address)]);
        let mut text = String::from(
            "| callers | calls a second | CPU of a call | p50 | p99 | calls of the gRPC server that only responds | ratio | goal |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for callers in [1_000, 10_000] {
            let (mut batched, mut ratios, mut echoes) = (vec![], vec![], vec![]);
            for _ in 0..self.rounds {
                let load = self.gateway(&gateway, callers, 1);
                let bare = self.callers(&echo_address, echo.id(), callers, 1);
                ratios.push(load.rate / bare.rate);
                echoes.push(bare.rate);
                batched.push(load);
            }
            let figure = |of: fn(&Load) -> f64| median(batched.iter().map(of).collect());
            let _ = writeln!(
                text,
                "| {callers} | {:.0} | {:.1} us | {:.0} ms | {:.0} ms | {:.0} | {:.2} | at least 0.6 |",
                figure(|load| load.rate),
                figure(|load| load.cpu),
                figure(|load| load.p50 / 1e3),
                figure(|load| load.p99 / 1e3),
                median(echoes),
                median(ratios)
            );
        }
        text
    }

    /// The tables of growth.
    fn growth(&mut self) -> String {
        let mut text = String::from("| tenants | CPU of a call, 64 in progress | memory |\n|---|---|---|\n");
        let tenants = [1, 10, 100];
        let gateways = tenants.map(|tenants| Gateway::start(&Plan { tenants, ..self.plan() }));
        let mut found = [vec![], vec![], vec![]];
        for _ in 0..self.rounds {
            let mut order = [0, 1, 2];
            self.shuffle(&mut order);
            for row in order {
                found[row].push(self.gateway(&gateways[row], 64, tenants[row]).cpu);
            }
        }
        for ((tenants, gateway), found) in tenants.into_iter().zip(&gateways).zip(found) {
            let _ = writeln!(
                text,
                "| {tenants} | {:.1} us | {:.0} MiB |",
                median(found),
                memory(gateway.id())
            );
        }
        drop(gateways);
        text += "\n| waiting calls | calls a second | CPU of a call | memory |\n|---|---|---|---|\n";
        for waiting in [10, 100, 1_000, 10_000, 100_000] {
            // Two slots for each millisecond: the other calls wait.
            let plan = Plan {
                calls: 20,
                ..self.plan()
            };
            let gateway = Gateway::start(&plan);
            let mut found = Vec::new();
            let rounds = if waiting == 100_000 { 1 } else { 3 };
            for _ in 0..rounds {
                found.push(self.gateway(&gateway, waiting, 1));
            }
            let figure = |of: fn(&Load) -> f64| median(found.iter().map(of).collect());
            let (rate, cpu) = (figure(|load| load.rate), figure(|load| load.cpu));
            let _ = writeln!(
                text,
                "| {waiting} | {rate:.0} | {cpu:.1} us | {:.0} MiB |",
                memory(gateway.id())
            );
        }
        text
    }

    /// The table of the telemetry.
    fn telemetry(&mut self) -> String {
        let (_collector, collector) = listening("collector", &[]);
        let traces =
            |sampling: &str| format!("[telemetry]\notlp_endpoint = \"http://{collector}\"\nsampling = {sampling}\n");
        let quiet = "[log]\nfilter = \"warn\"\n".to_owned();
        let rows = [
            ("1 % of the traces", String::new(), traces("0.01"), "at most 1.03"),
            ("all traces", String::new(), traces("1.0"), "at most 1.10"),
            ("the lines of RPCs and requests in the log", quiet, String::new(), ""),
        ];
        let mut text = String::from("| telemetry | CPU of a call with it / without it | goal |\n|---|---|---|\n");
        for (name, without, with, goal) in rows {
            let gateways = [without, with].map(|more| Gateway::start(&Plan { more, ..self.plan() }));
            let mut ratios = Vec::new();
            for pair in 0..PAIRS {
                eprintln!("telemetry: {name}, pair {} of {PAIRS}", pair + 1);
                let mut order = [0, 1];
                self.shuffle(&mut order);
                let mut cpu = [0.0; 2];
                for of in order {
                    cpu[of] = self.gateway(&gateways[of], 64, 1).cpu;
                }
                ratios.push(cpu[1] / cpu[0]);
            }
            let _ = writeln!(text, "| {name} | {:.3} | {goal} |", median(ratios));
        }
        text
    }

    /// The time from the start of the process until it is ready.
    fn start(&mut self) -> String {
        let times = (0..11).map(|_| Gateway::start(&self.plan()).start.as_secs_f64() * 1e3);
        let time = median(times.collect());
        format!("| figure | result | goal |\n|---|---|---|\n| start to ready, SQLite | {time:.0} ms | under 100 ms |\n")
    }
}

/// Starts a role that prints its address.
fn listening(role: &str, arguments: &[(&str, &dyn std::fmt::Display)]) -> (Process, String) {
    let mut process = Process::role(role, arguments);
    let address = process.line();
    (process, address)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments = Arguments::new();
    if let Some(role) = arguments.text("--role") {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(roles::run(role, &arguments));
        return;
    }
    let mut bench = Bench::new(&arguments);
    let only = arguments.text("--only").map(str::to_owned);
    let mut text =
        include_str!("overhead.md").replace("{machine}", &format!("{}, shared with others", machine::processor()));
    let tables: [(&str, Table); 6] = [
        ("calls", Bench::calls),
        ("memory", Bench::memory),
        ("batches", Bench::batches),
        ("growth", Bench::growth),
        ("telemetry", Bench::telemetry),
        ("start", Bench::start),
    ];
    for (name, table) in tables {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let table = table(&mut bench);
        println!("{name}\n\n{table}");
        text = text.replace(&format!("{{{name}}}"), table.trim_end());
    }
    let id = bench.upstream.id();
    assert!(!bench.upstream.has_ended(), "the upstream, process {id}, has ended");
    if let Some(target) = arguments.text("--write") {
        std::fs::create_dir_all(target).unwrap();
        std::fs::write(Path::new(target).join("overhead.md"), text).unwrap();
    }
}
