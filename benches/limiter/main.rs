//! leadgate's limiter compared with others against the same simulated server.
//!
//! `cargo bench --bench limiter` prints the page; with `-- --write docs/benchmarks` it writes `docs/benchmarks/limiter.md` and its
//! picture.
#![expect(clippy::print_stdout, reason = "the bench prints tables")]

mod lab;
#[path = "../machine/mod.rs"]
mod machine;
mod peers;
mod picture;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use lab::{Client, Network, Report, Scenario, run};
use leadgate::error::Limit;
use leadgate::quota::Window;
use leadgate_simulator::limits::{Limits, Window as Kind};
use peers::{Governor, Log, Paced, Tower};

const LIMIT: Limit = Limit {
    calls: 25,
    per: Duration::from_secs(5),
};
const HOUR: Duration = Duration::from_secs(3600);
const SEEDS: [u64; 3] = [1, 2, 3];
const KINDS: [(Kind, &str); 5] = [
    (Kind::Fixed, "fixed window"),
    (Kind::FirstRequest, "first-request window"),
    (Kind::Sliding, "sliding log"),
    (Kind::SlidingCountingRefusals, "sliding log, refusals count"),
    (Kind::TokenBucket, "token bucket"),
];
/// The load at which waits are measured, in calls per second: nine tenths of the quota.
const LOAD: f64 = 4.5;
const FOREIGN: [f64; 2] = [0.5, 1.5];

/// A network: its name, its jitter in milliseconds and its part of spikes.
struct Weather {
    name: &'static str,
    jitter: u64,
    spikes: f64,
}

const CALM: Weather = Weather {
    name: "2 ms of jitter",
    jitter: 2,
    spikes: 0.0,
};
const ROUGH: Weather = Weather {
    name: "8 ms of jitter, and 0.5 % of the calls delayed by 100 to 900 ms more",
    jitter: 8,
    spikes: 0.005,
};

type Runner = fn(&Scenario) -> Report;

const LIMITERS: [(&str, Runner); 7] = [
    ("tower `RateLimit` 25/5 s", |scenario| fresh(scenario, Tower::new)),
    ("governor, burst 25", |scenario| fresh(scenario, Governor::new)),
    ("one call per 200 ms", |scenario| fresh(scenario, Paced::new)),
    ("sliding log at send", |scenario| {
        fresh(scenario, |limit| Log::new(limit, Duration::ZERO))
    }),
    ("sliding log at send + 50 ms", |scenario| {
        fresh(scenario, |limit| Log::new(limit, Duration::from_millis(50)))
    }),
    ("sliding log at send + 989 ms", |scenario| {
        fresh(scenario, |limit| Log::new(limit, Duration::from_millis(989)))
    }),
    ("**leadgate**", |scenario| {
        fresh(scenario, |limit| Window::new(limit, 0))
    }),
];

fn fresh<C: Client>(scenario: &Scenario, new: impl Fn(Limit) -> C) -> Report {
    run(scenario, &mut new(LIMIT))
}

/// The runs of all seeds, as one report.
fn measure(limiter: Runner, kind: Kind, weather: &Weather, arrivals: Option<f64>, foreign: f64) -> Report {
    measure_limit(LIMIT.calls, limiter, kind, weather, arrivals, foreign)
}

/// The same with another limit of the server.
fn measure_limit(
    calls: u32,
    limiter: impl Fn(&Scenario) -> Report,
    kind: Kind,
    weather: &Weather,
    arrivals: Option<f64>,
    foreign: f64,
) -> Report {
    let reports = SEEDS.map(|seed| {
        limiter(&Scenario {
            server: Limits {
                calls,
                window: kind,
                // The windows of the server do not begin with the client.
                phase: Duration::from_millis(1700 * seed % 5000),
                ..Limits::default()
            },
            network: Network {
                one_way: Duration::from_millis(40),
                jitter: Duration::from_millis(weather.jitter),
                work: Duration::ZERO,
                spikes: weather.spikes,
                lost: 0.0,
                timeout: Duration::from_secs(30),
            },
            arrivals,
            names_limit: true,
            foreign,
            length: HOUR,
            seed,
        })
    });
    let [mut all, second, third] = reports;
    all.add(&second);
    all.add(&third);
    all
}

/// The measurements of one limiter in one network: a saturated run and one below the limit for each kind of window.
struct Row {
    name: &'static str,
    saturated: Vec<Report>,
    loaded: Vec<Report>,
}

fn rows(weather: &Weather) -> Vec<Row> {
    let run_all = |limiter, arrivals| {
        KINDS
            .map(|(kind, _)| measure(limiter, kind, weather, arrivals, 0.0))
            .into()
    };
    LIMITERS
        .map(|(name, limiter)| Row {
            name,
            saturated: run_all(limiter, None),
            loaded: run_all(limiter, Some(LOAD)),
        })
        .into()
}

/// A table with a row for each limiter and a column for each kind of window.
fn table(rows: &[Row], cell: impl Fn(&Row, usize) -> String) -> String {
    let mut text = String::from("| limiter |");
    for (_, kind) in KINDS {
        let _ = write!(text, " {kind} |");
    }
    text += "\n|---|---|---|---|---|---|\n";
    for row in rows {
        let _ = write!(text, "| {} |", row.name);
        for kind in 0..KINDS.len() {
            let _ = write!(text, " {} |", cell(row, kind));
        }
        text.push('\n');
    }
    text
}

fn used_and_refused(row: &Row, kind: usize) -> String {
    let report = &row.saturated[kind];
    format!(
        "{} / {}",
        percent(report.utilisation()),
        percent(report.refused_share())
    )
}

fn waits(row: &Row, kind: usize) -> String {
    let report = &row.loaded[kind];
    format!("{} / {}", seconds(report.wait_at(0.5)), seconds(report.wait_at(0.99)))
}

fn foreign_table() -> String {
    let mut text = String::from(
        "| limiter | foreign calls | used in total | used by this client | own calls refused | foreign calls refused |\n",
    );
    text += "|---|---|---|---|---|---|\n";
    for foreign in FOREIGN {
        for (name, limiter) in LIMITERS {
            let report = measure(limiter, Kind::SlidingCountingRefusals, &ROUGH, None, foreign);
            let _ = writeln!(
                text,
                "| {name} | {foreign}/s | {} | {} | {} | {} |",
                percent(report.total_utilisation()),
                percent(report.utilisation()),
                percent(report.refused_share()),
                percent(report.foreign_refused_share()),
            );
        }
    }
    text
}

/// Small and large limits beside foreign calls, which are this part of the limit.
fn limits_table() -> String {
    let mut text = String::from(
        "| limit | foreign calls | used in total | used by this client | own calls refused | foreign calls refused |\n",
    );
    text += "|---|---|---|---|---|---|\n";
    for calls in [2, 5, 25, 72] {
        for part in [0.02, 0.1, 0.3] {
            let limit = Limit { calls, ..LIMIT };
            let foreign = f64::from(calls) * part / LIMIT.per.as_secs_f64();
            let limiter = |scenario: &Scenario| run(scenario, &mut Window::new(limit, 0));
            let kind = Kind::SlidingCountingRefusals;
            let report = measure_limit(calls, limiter, kind, &ROUGH, None, foreign);
            let _ = writeln!(
                text,
                "| {calls} in 5 s | {foreign:.2}/s | {} | {} | {} | {} |",
                percent(report.total_utilisation()),
                percent(report.utilisation()),
                percent(report.refused_share()),
                percent(report.foreign_refused_share()),
            );
        }
    }
    text
}

/// Three significant digits, and never 0 for a value above zero.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0".to_owned(),
        ..1.0 => format!("{percent:.3}"),
        1.0..90.0 => format!("{percent:.1}"),
        _ => format!("{percent:.2}"),
    }
}

fn seconds(wait: Duration) -> String {
    match wait.as_secs_f64() {
        0.0 => "0".to_owned(),
        ..0.01 => "0.01 s".to_owned(),
        short @ ..10.0 => format!("{short:.2} s"),
        long @ ..100.0 => format!("{long:.0} s"),
        endless => format!("{:.0} min", endless / 60.0),
    }
}

/// The machine, although virtual time does not depend on it.
fn measured_on() -> String {
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(
        |_| String::new(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    );
    format!("{}, {rustc}", machine::processor())
}

fn document(calm: &[Row], rough: &[Row]) -> String {
    include_str!("limiter.md")
        .replace("{calm_name}", CALM.name)
        .replace("{rough_name}", ROUGH.name)
        .replace("{calm_used}", &table(calm, used_and_refused))
        .replace("{rough_used}", &table(rough, used_and_refused))
        .replace("{waits}", &table(rough, waits))
        .replace("{foreign}", &foreign_table())
        .replace("{limits}", &limits_table())
        .replace("{machine}", &measured_on())
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write").skip(1);
    let directory = arguments.next().map(PathBuf::from);
    let (calm, rough) = (rows(&CALM), rows(&ROUGH));
    let document = document(&calm, &rough);
    println!("{document}");
    if let Some(directory) = directory {
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("limiter.md"), document)?;
        std::fs::write(directory.join("limiter.svg"), picture::draw(&rough))?;
    }
    Ok(())
}
