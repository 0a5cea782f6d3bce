//! Number of operations per window with leadgate, compared with a client that paces single calls: over real sockets, against
//! the simulator, in one process.
//!
//! `cargo bench --bench multiply` prints the tables; with `-- --write docs/benchmarks` it writes `docs/benchmarks/multiply.md` and
//! its picture. `-- --only quota`, `burst` or `idle` measures only that part.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod bed;
mod burst;
mod idle;
#[path = "../machine/mod.rs"]
mod machine;
mod picture;
mod quota;
mod work;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bed::{Plan, WINDOW};
use tokio::task::JoinSet;
use work::Kind;

const PLANS: [Plan; 3] = [
    Plan {
        calls: 25,
        bulk: 1,
        per: WINDOW,
    },
    Plan {
        calls: 10,
        bulk: 5,
        per: WINDOW,
    },
    Plan {
        calls: 20,
        bulk: 10,
        per: WINDOW,
    },
];

/// One kind of operations under one plan.
struct Cell {
    plan: Plan,
    kind: Kind,
    ours: quota::Seen,
    paced: quota::Seen,
}

/// The paced clients run together, since they need little CPU. leadgate is measured cell by cell.
async fn cells() -> Vec<Cell> {
    let all = || PLANS.into_iter().flat_map(|plan| Kind::ALL.map(|kind| (plan, kind)));
    let mut clients = JoinSet::new();
    for (number, (plan, kind)) in all().enumerate() {
        clients.spawn(async move { (number, quota::paced(plan, kind).await) });
    }
    let mut paced = clients.join_all().await;
    paced.sort_by_key(|(number, _)| *number);
    let mut cells = Vec::new();
    for ((plan, kind), (_, paced)) in all().zip(paced) {
        let ours = quota::leadgate(plan, kind).await;
        cells.push(Cell {
            plan,
            kind,
            ours,
            paced,
        });
    }
    cells
}

fn quota_table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| calls / bulk | operations | maximum | leadgate | of the maximum | refused | paced client | refused | leadgate : client |\n",
    );
    text += "|---|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for cell in cells {
        let (optimum, ours, paced) = (cell.kind.optimum(cell.plan), &cell.ours, &cell.paced);
        let _ = writeln!(
            text,
            "| {} / {} | {} | {optimum:.1} | {:.1} | {:.1} % | {} | {:.1} | {} | {:.1} |",
            cell.plan.calls,
            cell.plan.bulk,
            cell.kind.name(),
            ours.operations,
            ours.operations / optimum * 100.0,
            ours.refused,
            paced.operations,
            paced.refused,
            ours.operations / paced.operations,
        );
    }
    text
}

/// The calls of leadgate per window.
fn calls_table(cells: &[Cell]) -> String {
    let mut text = String::from("| calls / bulk | operations | batches | operations per batch | single calls |\n");
    text += "|---|---|--:|--:|--:|\n";
    for cell in cells {
        let ours = &cell.ours;
        let _ = writeln!(
            text,
            "| {} / {} | {} | {:.2} | {:.1} | {:.2} |",
            cell.plan.calls,
            cell.plan.bulk,
            cell.kind.name(),
            ours.shared,
            ours.members,
            ours.single,
        );
    }
    text
}

/// The same for each endpoint, to explain the figures.
fn endpoints(cells: &[Cell]) -> String {
    let mut text = String::new();
    for Cell { plan, kind, ours, .. } in cells {
        let _ = writeln!(text, "{} / {} {}:", plan.calls, plan.bulk, kind.name());
        for (endpoint, (calls, operations)) in &ours.endpoints {
            let _ = writeln!(text, "    {endpoint}: {calls:.2} calls, {operations:.1} operations");
        }
    }
    text
}

fn burst_table(bursts: &[burst::Seen]) -> String {
    let mut text = String::from(
        "| requested | upstream calls | operations per call | last call counted after | half of the responses after | all responses after |\n",
    );
    text += "|---|--:|---|--:|--:|--:|\n";
    for seen in bursts {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            seen.fields,
            seen.members.len(),
            runs(&seen.members),
            millis(seen.last_call),
            millis(seen.half),
            millis(seen.all),
        );
    }
    let refused: u64 = bursts.iter().map(|seen| seen.refused).sum();
    let _ = writeln!(text, "\nRefused calls: {refused}.");
    text
}

fn idle_table(idle: &[idle::Seen]) -> String {
    let mut text = String::from("| call | median with lanes | median without | with : without |\n|---|--:|--:|--:|\n");
    for seen in idle {
        let call = match seen.kind {
            Kind::Reads => "GetLead",
            _ => "UpdateLead",
        };
        let _ = writeln!(
            text,
            "| {call} | {:.1} µs | {:.1} µs | {:.3} |",
            seen.on.as_secs_f64() * 1e6,
            seen.off.as_secs_f64() * 1e6,
            seen.on.div_duration_f64(seen.off),
        );
    }
    text
}

/// A list of numbers with counted repetitions: "1 × 13, 412".
fn runs(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|one, next| one == next);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        many => format!("{} × {}", many[0], many.len()),
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

#[tokio::main]
async fn main() {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let (target, only) = (argument("--write"), argument("--only"));
    let is_asked = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let mut text =
        include_str!("multiply.md").replace("{machine}", &format!("{}, shared with others", machine::processor()));
    let mut tell = |name: &str, table: String| {
        println!("{table}");
        text = text.replace(&format!("{{{name}}}"), &table);
    };
    let mut picture = None;
    if is_asked("quota") {
        let cells = cells().await;
        tell("quota", quota_table(&cells));
        tell("calls", calls_table(&cells));
        println!("{}", endpoints(&cells));
        picture = Some(picture::draw(&cells));
    }
    if is_asked("burst") {
        tell("burst", burst_table(&burst::measure().await));
    }
    if is_asked("idle") {
        tell("idle", idle_table(&idle::measure().await));
    }
    // A page is written completely or not at all.
    if let (Some(target), None, Some(picture)) = (target, only, picture) {
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("multiply.md"), text).unwrap();
        std::fs::write(Path::new(&target).join("multiply.svg"), picture).unwrap();
    }
}
