//! How often the measurement of the rate limit is right, over sockets, against simulated accounts with every kind of window.
//!
//! `cargo bench --profile dist --bench probe` prints the tables; with `-- --write docs/benchmarks` it writes `docs/benchmarks/probe.md`. `--quick`
//! measures a few accounts only.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod caller;
#[path = "../machine/mod.rs"]
mod machine;

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caller::Account;
use leadgate::probe::limit::{BulkBucket, FailuresCharged, Finding, FindingState, LimitPlan, WindowKind, measure};
use leadgate_simulator::{Latency, Limits, Options, Refusal, Window};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

const KINDS: [(Window, WindowKind); 5] = [
    (Window::Fixed, WindowKind::Fixed),
    (Window::FirstRequest, WindowKind::FirstRequest),
    (Window::Sliding, WindowKind::Sliding),
    (Window::SlidingCountingRefusals, WindowKind::SlidingCountingRefusals),
    (Window::TokenBucket, WindowKind::TokenBucket),
];
const REFUSALS: [Refusal; 3] = [Refusal::S429, Refusal::S403, Refusal::S200];
/// The limit of all calls, and that of bulk calls.
const LIMITS: [(u32, u32); 5] = [(2, 1), (5, 1), (10, 2), (25, 5), (72, 10)];
const PER: Duration = Duration::from_secs(5);
/// The largest error of the length of the window that is right.
const TOLERANCE: f64 = 0.03;
/// Number of accounts that are measured at the same time.
const PARALLEL: usize = 30;
/// Maximum number of calls, up to 25 calls in a window and above.
const MAX_CALLS: [u32; 2] = [600, 1_200];

/// A network, and foreign calls per second.
struct Setting {
    name: &'static str,
    latency: Duration,
    foreign: f64,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        name: "undisturbed",
        latency: Duration::ZERO,
        foreign: 0.0,
    },
    Setting {
        name: "50 ms of jitter, 0.3 foreign calls per second",
        latency: Duration::from_millis(50),
        foreign: 0.3,
    },
];

/// A simulated account.
#[derive(Clone, Copy)]
struct Case {
    kind: usize,
    refusal: Refusal,
    limit: (u32, u32),
    pays_calls: bool,
    seed: u64,
}

/// The number of accounts for which an answer is right, undecided or wrong.
#[derive(Clone, Copy, Default)]
struct Score {
    right: u32,
    undecided: u32,
    wrong: u32,
}

impl Score {
    fn add<T>(&mut self, finding: &Finding<T>, is_right: impl FnOnce(&T) -> bool) {
        match (&finding.state, &finding.value) {
            (FindingState::Decided, Some(value)) if is_right(value) => self.right += 1,
            (FindingState::Decided, _) => self.wrong += 1,
            _ => self.undecided += 1,
        }
    }

    fn join(&mut self, other: Self) {
        self.right += other.right;
        self.undecided += other.undecided;
        self.wrong += other.wrong;
    }

    fn all(self) -> u32 {
        self.right + self.undecided + self.wrong
    }

    fn percent(self) -> String {
        let percent = |part: u32| format!("{:.1} %", 100.0 * f64::from(part) / f64::from(self.all().max(1)));
        format!(
            "{} | {} | {}",
            percent(self.right),
            percent(self.undecided),
            percent(self.wrong)
        )
    }
}

/// The result of one account.
struct Outcome {
    case: Case,
    /// The four questions, in the order of [`QUESTIONS`].
    scores: [Score; 4],
    calls: u32,
    time: Duration,
    /// The answers that are wrong.
    errors: Vec<String>,
}

const QUESTIONS: [&str; 4] = ["limit", "refusals-count", "bulk-bucket", "failures-charged"];

async fn run(case: Case, setting: &Setting) -> Outcome {
    let (calls, bulk) = case.limit;
    let mut options = Options::default();
    options.limits = Limits {
        calls,
        bulk,
        per: PER,
        window: KINDS[case.kind].0,
        phase: Duration::from_millis(case.seed * 1_733 % 5_000),
        refusal: case.refusal,
        bulk_pays_calls: case.pays_calls,
        count_unknown_paths: case.seed.is_multiple_of(3),
        count_bad_bodies: case.seed.is_multiple_of(2),
        ..options.limits
    };
    options.latency = Latency {
        min: Duration::ZERO,
        max: setting.latency,
    };
    options.seed = case.seed;
    let mut account = Account::start(options.clone()).await;
    if setting.foreign > 0.0 {
        account.add_foreign_calls(setting.foreign, case.seed);
    }
    let plan = LimitPlan {
        burst: true,
        seed: case.seed,
        max_calls: MAX_CALLS[usize::from(calls > 25)],
        ..LimitPlan::default()
    };
    let began = Instant::now();
    let findings = measure(&account, &plan).await;
    let time = began.elapsed();
    let kind = KINDS[case.kind].1;
    let mut scores = [Score::default(); 4];
    scores[0].add(&findings.limit, |limit| {
        let per = limit.window_seconds / PER.as_secs_f64();
        let is_rule = limit.kind == kind && limit.calls == calls && (per - 1.0).abs() <= TOLERANCE;
        is_rule && limit.refusal_status == case.refusal.status()
    });
    scores[1].add(&findings.refusals_count, |count| {
        *count == (kind == WindowKind::SlidingCountingRefusals)
    });
    let expected = BulkBucket {
        bulk,
        pays_calls: case.pays_calls,
    };
    scores[2].add(&findings.bulk_bucket, |bucket| *bucket == expected);
    let charged = FailuresCharged {
        unknown_path: options.limits.count_unknown_paths,
        bad_json: options.limits.count_bad_bodies,
    };
    scores[3].add(&findings.failures_charged, |failures| *failures == charged);
    let answers = [
        format!("{:#?}", findings.limit),
        format!("{:#?}", findings.refusals_count),
        format!("{:#?}", findings.bulk_bucket),
        format!("{:#?}", findings.failures_charged),
    ];
    let wrong = answers.into_iter().zip(&scores).filter(|(_, score)| score.wrong > 0);
    let errors = wrong.map(|(answer, _)| format!("wrong for {calls} calls, {bulk} bulk calls, {kind}: {answer}"));
    Outcome {
        case,
        scores,
        calls: findings.calls,
        time,
        errors: errors.collect(),
    }
}

fn cases(is_quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for limit in LIMITS {
        for kind in 0..KINDS.len() {
            for refusal in REFUSALS {
                for pays_calls in [true, false] {
                    let seed = cases.len() as u64 + 1;
                    cases.push(Case {
                        kind,
                        refusal,
                        limit,
                        pays_calls,
                        seed,
                    });
                }
            }
        }
    }
    if is_quick {
        cases.retain(|case| case.limit.0 < 72 && (case.seed + u64::from(case.limit.0)).is_multiple_of(6));
    }
    cases
}

async fn run_all(setting: &'static Setting, is_quick: bool) -> Vec<Outcome> {
    let parallel = Arc::new(Semaphore::new(PARALLEL));
    let mut running = JoinSet::new();
    for case in cases(is_quick) {
        let parallel = parallel.clone();
        running.spawn(async move {
            let _permit = parallel.acquire().await.unwrap();
            // Not all accounts begin at the same time.
            tokio::time::sleep(Duration::from_millis(case.seed * 97 % 5_000)).await;
            run(case, setting).await
        });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = running.join_next().await {
        let outcome = outcome.unwrap();
        for error in &outcome.errors {
            println!("{error}");
        }
        outcomes.push(outcome);
        println!("{}: {} accounts measured", setting.name, outcomes.len());
    }
    outcomes
}

fn total<'a>(outcomes: impl Iterator<Item = &'a Outcome>, question: usize) -> Score {
    let mut total = Score::default();
    for outcome in outcomes {
        total.join(outcome.scores[question]);
    }
    total
}

fn summary(measured: &[Vec<Outcome>]) -> String {
    let mut table = String::from("| accounts | question | right | undecided | wrong |\n|---|---|---|---|---|\n");
    for (setting, outcomes) in SETTINGS.iter().zip(measured) {
        for (question, name) in QUESTIONS.iter().enumerate() {
            let score = total(outcomes.iter(), question);
            let _ = writeln!(
                table,
                "| {}: {} | `{name}` | {} |",
                setting.name,
                score.all(),
                score.percent()
            );
        }
    }
    table
}

/// The answers to `limit` by kind of window and number of calls.
fn by_kind(measured: &[Vec<Outcome>]) -> String {
    let mut table = String::from("| accounts | window |");
    for (calls, _) in LIMITS {
        let _ = write!(table, " {calls} calls |");
    }
    table += "\n|---|---|---|---|---|---|---|\n";
    for (setting, outcomes) in SETTINGS.iter().zip(measured) {
        for (kind, (_, name)) in KINDS.iter().enumerate() {
            let _ = write!(table, "| {} | {name} |", setting.name);
            for limit in LIMITS {
                let of_limit = |outcome: &&Outcome| outcome.case.kind == kind && outcome.case.limit == limit;
                let score = total(outcomes.iter().filter(of_limit), 0);
                let _ = write!(table, " {} / {} / {} |", score.right, score.undecided, score.wrong);
            }
            table.push('\n');
        }
    }
    table
}

/// Calls and time by number of calls in a window.
fn costs(measured: &[Vec<Outcome>]) -> String {
    let mut table = String::from(
        "| accounts | limit | calls, mean | calls, maximum | time, mean | time, maximum |\n|---|---|---|---|---|---|\n",
    );
    for (setting, outcomes) in SETTINGS.iter().zip(measured) {
        for limit in LIMITS {
            let of_limit: Vec<_> = outcomes.iter().filter(|outcome| outcome.case.limit == limit).collect();
            if of_limit.is_empty() {
                continue;
            }
            let count = of_limit.len() as f64;
            let calls: u32 = of_limit.iter().map(|outcome| outcome.calls).sum();
            let time: Duration = of_limit.iter().map(|outcome| outcome.time).sum();
            let max_calls = of_limit.iter().map(|outcome| outcome.calls).max().unwrap_or_default();
            let max_time = of_limit.iter().map(|outcome| outcome.time).max().unwrap_or_default();
            let _ = writeln!(
                table,
                "| {} | {} in 5 s | {:.0} | {max_calls} | {:.0} s | {:.0} s |",
                setting.name,
                limit.0,
                f64::from(calls) / count,
                time.as_secs_f64() / count,
                max_time.as_secs_f64()
            );
        }
    }
    table
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let target = arguments.iter().skip_while(|argument| *argument != "--write").nth(1);
    // One inference at a time: on few cores, more would delay the calls of the other accounts.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let measured: Vec<Vec<Outcome>> = SETTINGS
        .iter()
        .map(|setting| runtime.block_on(run_all(setting, is_quick)))
        .collect();
    let text = include_str!("probe.md")
        .replace("{summary}", &summary(&measured))
        .replace("{kinds}", &by_kind(&measured))
        .replace("{costs}", &costs(&measured))
        .replace("{machine}", &format!("{}, shared with others", machine::processor()));
    println!("{text}");
    if let Some(target) = target {
        std::fs::create_dir_all(target).unwrap();
        std::fs::write(Path::new(target).join("probe.md"), text).unwrap();
    }
}
