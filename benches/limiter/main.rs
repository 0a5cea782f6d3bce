//! This limiter beside others before the same simulated server: `cargo bench --bench limiter`. With `-- --write DIR` the
//! tables and the picture go to files too.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

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
/// The load at which waits are measured, in calls a second: nine tenths of the quota.
const LOAD: f64 = 4.5;
const FOREIGN: [f64; 2] = [0.5, 1.5];

/// A network by its name, its jitter in milliseconds and its share of spikes.
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

/// The runs of all seeds, as one.
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
                // Windows of the server begin when they begin, not when the client does.
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

/// What was measured of one limiter in one weather: a saturated run and one below the limit for each kind of window.
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
    let mut text =
        String::from("| limiter | foreign calls | used in all | used by us | ours refused | theirs refused |\n");
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

/// Small and large limits beside foreign calls, which are this share of the limit.
fn limits_table() -> String {
    let mut text =
        String::from("| limit | foreign calls | used in all | used by us | ours refused | theirs refused |\n");
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

/// Three digits that count, and never 0 for what is not nothing.
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

/// The machine, though virtual time does not depend on it.
fn measured_on() -> String {
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(
        |_| String::new(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    );
    format!("{}, {rustc}", machine::processor())
}

fn document(calm: &[Row], rough: &[Row]) -> String {
    format!(
        "# The limiter beside others

`cargo bench --bench limiter` measures this and prints it; with `-- --write docs` it writes this page and its picture.

![How much of the quota each limiter uses, and how many of its calls are refused](limiter.svg)

## What is measured

A client that always has a call waiting has an account of 25 calls in 5 seconds before it. It should use all of them and
have none refused: a refused call is a round trip for nothing, and where the server counts refused calls too it takes
the place of one that would have been let in. LeadSquared does not say how it counts, so five ways are simulated.

* **Time is virtual**: one hour per cell and seed, three seeds taken together. The same seeds give the same figures on
  every machine.
* **The network** takes 40 ms each way, plus exponentially distributed jitter with the mean that stands above the table.
  Half of the spikes delay the request, half the answer. Timers fire up to 1 ms late.
* **The server** is the simulator's own limiter. Its refusals come back to the head of the queue.
* **Used** is what was let in, of 25 in each 5 seconds; the first and the last window of a run weigh less, so that it does
  not matter whether a burst lies just within. **Refused** is the share of the calls that were sent.
* **tower** and **governor** are the published crates under a clock that the laboratory moves; governor with a burst of
  25 and one more each 200 ms, its usual use. The other four are told again in a few lines: a timer, a log of sendings
  that leaves no margin, one with 50 ms (as PyrateLimiter and discord.js leave), and one with 989 ms (as Riven leaves).
  All of these make a refused call again and learn nothing from it.

## One client, {calm_name}

Each cell: used / refused, in percent.

{calm_used}
## One client, {rough_name}

Each cell: used / refused, in percent.

{rough_used}
Why the others lose: how far apart the server sees two calls depends on when they were sent *and* on how much longer the
one was on its way than the other. A limiter that uses the whole quota by its own clock is over it by the server's half of
the time. A margin helps as far as it reaches and costs its length in each window. leadgate charges each call what it was
delayed, which it knows from the answer: `answered - least round trip + W` is the first moment at which another call can be
sent without ever sharing a window with this one.

## Waits at nine tenths of the quota

Calls arrive at random, 4.5 a second, in the network of the table above. Each cell: how long half of the calls / 99 of 100
waited at most, from their arrival to the sending that was let in. A wait of minutes means that the queue grew as long as
the run lasted.

{waits}
## Others on the account

Somebody else makes calls at random and does not repeat them. The server's log slides and counts refusals, the network is
the same. Ours always has a call waiting. In percent.

{foreign}
Here nobody can have all: what others do is seen in refusals only, so the room that they need is found by trying, and what
of it they do not take is lost.

After a refusal that others have caused, leadgate lowers its effective limit and raises it slowly at first, and faster the
longer no refusal comes: from its floor it is back at the limit within ten clean windows, whatever the limit (a window is
clean if it was used and none of its calls was refused). From levels between it takes up to fifteen, since it stays near the
level of the last refusal for a while. Before this rule it rose by a small amount per call, and a limit of 5 was back after
minutes only. The rows of leadgate were then:

| | foreign calls | used in all | used by us | ours refused | theirs refused |
|---|---|---|---|---|---|
| before | 0.5/s | 85.1 | 75.7 | 0.645 | 5.3 |
| before | 1.5/s | 77.2 | 48.8 | 1.4 | 4.7 |

The quick recovery costs refusals, of which ours stay below 2 %: lower values of one figure are higher values of another.

### Other limits

The same for leadgate alone with other limits, beside foreign calls of 2, 10 and 30 % of the limit.

{limits}
With a limit of 2 or 5, one refused call in ten windows is more than 2 % of the calls already. So ten clean windows are enough
there only while foreign refusals are rare, with 50 accepted calls and more between two of them. If they come more often, the
recovery takes as many calls as with a limit of 25: up to 48 windows with a limit of 5. What is refused then is refused at
nearly the least effective limit, at which nothing more can be yielded.

Measured on: {machine}.
",
        calm_name = CALM.name,
        rough_name = ROUGH.name,
        calm_used = table(calm, used_and_refused),
        rough_used = table(rough, used_and_refused),
        waits = table(rough, waits),
        foreign = foreign_table(),
        limits = limits_table(),
        machine = measured_on(),
    )
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
