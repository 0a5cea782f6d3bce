//! Concurrent creates, updates, upserts and reads by many callers, with lost responses, refusals, cancelled calls and
//! batches that fail as a whole. The results of the calls to one lead must fit one order of single calls, in which
//! each call is executed once, between its start and its end.
//!
//! Each case has a seed, which the test prints. See `the_results_of_concurrent_calls_fit_one_order_of_single_calls`
//! for replaying a case and for longer runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Latency, Limits, Options};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{Client, World, by_id, within};

const KEYS: usize = 5;
/// Number of leads that exist at the start.
const EXISTING: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Update,
    Upsert,
    Read,
}

#[derive(Clone, Debug)]
enum Step {
    Call {
        operation: Operation,
        key: usize,
        /// The caller cancels the call after this number of milliseconds.
        cancelled_after: Option<u64>,
    },
    /// Waits until all calls in progress have ended.
    Wait,
    Fail {
        on: &'static str,
        what: FaultKind,
    },
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Value(Option<u64>),
    Exists,
    Missing,
    /// The call was not executed.
    Nothing,
    /// The call may have been executed, or may be executed later.
    Unknown,
}

/// One call, as its caller saw it.
#[derive(Clone, Debug)]
struct Observed {
    operation: Operation,
    value: u64,
    started: u64,
    ended: u64,
    outcome: Outcome,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let operation = prop_oneof![
        2 => Just(Operation::Create),
        6 => Just(Operation::Update),
        4 => Just(Operation::Upsert),
        4 => Just(Operation::Read),
    ];
    let cancelled_after = prop_oneof![8 => Just(None), 1 => (0_u64..120).prop_map(Some)];
    let call = (operation, 0..KEYS, cancelled_after).prop_map(|(operation, key, cancelled_after)| Step::Call {
        operation,
        key,
        cancelled_after,
    });
    let refusal = FaultKind::Respond {
        status: 500,
        body: r#"{"Status":"Error","ExceptionType":"MXInvalidInputException","ExceptionMessage":"Nonsense"}"#.into(),
        content_type: None,
        commit: false,
    };
    let what = prop_oneof![
        3 => Just(FaultKind::CommitThenDrop),
        2 => Just(FaultKind::DropBefore),
        2 => Just(FaultKind::GarbageJson),
        2 => Just(FaultKind::Refuse),
        1 => Just(FaultKind::Html502),
        1 => Just(FaultKind::CommitThenHang { lasting: Duration::from_secs(60) }),
    ];
    let anywhere = prop::sample::select(vec![
        "*",
        "Lead.Create",
        "Lead.Update",
        "Lead.CreateOrUpdate",
        "Lead/Bulk/UpdateV2",
        "Lead/Bulk/CreateOrUpdate",
        "Lead/Bulk/Create",
        "Leads/Retrieve/ByIds",
    ]);
    let together = prop::sample::select(vec![
        "Lead/Bulk/UpdateV2",
        "Lead/Bulk/CreateOrUpdate",
        "Leads/Retrieve/ByIds",
    ]);
    let fail = prop_oneof![
        3 => (anywhere, what).prop_map(|(on, what)| Step::Fail { on, what }),
        1 => together.prop_map(move |on| Step::Fail { on, what: refusal.clone() }),
    ];
    let step = prop_oneof![20 => call, 1 => Just(Step::Wait), 2 => fail];
    prop::collection::vec(step, 10..60)
}

fn email(key: usize) -> String {
    format!("lead-{key}@example.com")
}

/// The callers, and the calls to each lead.
struct Callers {
    client: Client,
    clock: AtomicU64,
    ids: Mutex<HashMap<usize, String>>,
    observed: Mutex<Vec<Vec<Observed>>>,
}

impl Callers {
    async fn call(self: Arc<Self>, operation: Operation, key: usize, value: u64, cancelled_after: Option<u64>) {
        let id = self.ids.lock().await.get(&key).cloned();
        let started = self.clock.fetch_add(1, Ordering::SeqCst);
        // A lead whose id is not known is updated by its email address.
        let operation = if operation == Operation::Update && id.is_none() {
            Operation::Upsert
        } else {
            operation
        };
        let running = self.execute(operation, key, value, id);
        let outcome = match cancelled_after {
            None => running.await,
            Some(after) => tokio::time::timeout(Duration::from_millis(after), running)
                .await
                .unwrap_or(Outcome::Unknown),
        };
        let ended = match outcome {
            Outcome::Unknown => u64::MAX,
            _ => self.clock.fetch_add(1, Ordering::SeqCst),
        };
        self.observed.lock().await[key].push(Observed {
            operation,
            value,
            started,
            ended,
            outcome,
        });
    }

    async fn execute(&self, operation: Operation, key: usize, value: u64, id: Option<String>) -> Outcome {
        let mut client = self.client.clone();
        let limit = Duration::from_secs(20);
        let fields = pb::LeadFields {
            email_address: (operation != Operation::Update).then(|| email(key)),
            city: Some(value.to_string()),
            ..Default::default()
        };
        let lead = Some(fields);
        let result = match operation {
            Operation::Create => {
                let request = pb::CreateLeadRequest {
                    lead,
                    ..Default::default()
                };
                let made = client.create_lead(within(limit, request)).await;
                made.map(|made| (Outcome::Done, Some(made.into_inner().lead_id)))
            }
            Operation::Upsert => {
                let request = pb::UpsertLeadRequest {
                    lead,
                    ..Default::default()
                };
                let made = client.upsert_lead(within(limit, request)).await;
                made.map(|made| (Outcome::Done, Some(made.into_inner().lead_id)))
            }
            Operation::Update => {
                let lead_id = id.unwrap_or_default();
                let request = pb::UpdateLeadRequest {
                    lead_id,
                    lead,
                    ..Default::default()
                };
                client
                    .update_lead(within(limit, request))
                    .await
                    .map(|_| (Outcome::Done, None))
            }
            Operation::Read => {
                let by = match id {
                    Some(id) if value.is_multiple_of(2) => by_id(&id),
                    _ => pb::get_lead_request::Key::EmailAddress(email(key)),
                };
                let request = pb::GetLeadRequest {
                    key: Some(by),
                    ..Default::default()
                };
                client.get_lead(within(limit, request)).await.map(|found| {
                    let city = found.into_inner().lead.unwrap().fields.unwrap().city;
                    (Outcome::Value(city.and_then(|city| city.parse().ok())), None)
                })
            }
        };
        match result {
            Ok((outcome, made)) => {
                if let Some(id) = made {
                    self.ids.lock().await.insert(key, id);
                }
                outcome
            }
            Err(status) => outcome_of(operation, &status),
        }
    }
}

fn outcome_of(operation: Operation, status: &Status) -> Outcome {
    match (operation, status.code()) {
        (Operation::Create, Code::AlreadyExists) => Outcome::Exists,
        (Operation::Read, Code::NotFound) => Outcome::Value(None),
        (Operation::Update, Code::NotFound) => Outcome::Missing,
        // A read without a response says nothing.
        (Operation::Read, _) => Outcome::Nothing,
        // An unreadable response may report success.
        (_, Code::Aborted | Code::DeadlineExceeded | Code::Cancelled | Code::Internal) => Outcome::Unknown,
        (_, Code::Unavailable | Code::ResourceExhausted) => Outcome::Nothing,
        (operation, _) => panic!("{operation:?}: {status:?}"),
    }
}

/// The value of the lead after the call, if it was `before` before. `None`: the call cannot have had this outcome
/// then.
fn after(observed: &Observed, before: Option<u64>) -> Option<Option<u64>> {
    let now = Some(observed.value);
    match (observed.operation, observed.outcome) {
        (_, Outcome::Nothing) => Some(before),
        (Operation::Read, Outcome::Value(value)) => (value == before).then_some(before),
        (Operation::Read, _) => Some(before),
        (Operation::Create, Outcome::Done) => before.is_none().then_some(now),
        (Operation::Create, Outcome::Exists) => before.is_some().then_some(before),
        (Operation::Create, _) => before.is_none().then_some(now),
        (Operation::Update, Outcome::Missing) => before.is_none().then_some(before),
        (Operation::Update, _) => before.is_some().then_some(now),
        (Operation::Upsert, _) => Some(now),
    }
}

/// Whether there is an order of the calls that explains their outcomes and the final value of the lead.
fn has_order(observed: &[Observed], before: Option<u64>, end: Option<u64>) -> bool {
    let mut tried = HashSet::new();
    let mut open = vec![(0_u64, before)];
    let all_sure = observed
        .iter()
        .enumerate()
        .filter(|(_, observed)| observed.outcome != Outcome::Unknown);
    let sure: u64 = all_sure.map(|(at, _)| 1 << at).sum();
    while let Some((done, lead)) = open.pop() {
        if !tried.insert((done, lead)) {
            continue;
        }
        if done & sure == sure && lead == end {
            return true;
        }
        let remaining = || observed.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        let first_end = remaining()
            .map(|(_, observed)| observed.ended)
            .min()
            .unwrap_or(u64::MAX);
        // A call that ended before another one started goes first.
        let may_be_next = remaining().filter(|(_, observed)| observed.started <= first_end);
        open.extend(may_be_next.filter_map(|(at, observed)| Some((done | 1 << at, after(observed, lead)?))));
    }
    false
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let options = Options {
        limits: Limits {
            calls: 3,
            bulk: 1,
            per: Duration::from_millis(40),
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(1),
            max: Duration::from_millis(3),
        },
        ..Options::default()
    };
    let settings = "[tenant_defaults.limits]\ncalls = 3\nbulk = 1\nwindow = \"40ms\"\n\
                    [tenant_defaults.upstream]\ntimeout = \"150ms\"\nsettle_timeout = \"5s\"\n\
                    [tenant_defaults.batching]\ncreates = true\nupserts = true\n";
    let world = World::with(options, settings).await.warm().await;
    let existing = |key| {
        (
            key,
            world
                .simulator
                .insert_lead(&[("EmailAddress", &email(key)), ("mx_City", "0")]),
        )
    };
    let callers = Arc::new(Callers {
        client: world.client.clone(),
        clock: AtomicU64::new(0),
        ids: Mutex::new((0..EXISTING).map(existing).collect()),
        observed: Mutex::new(vec![Vec::new(); KEYS]),
    });
    let mut in_progress = JoinSet::new();
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Call {
                operation,
                key,
                cancelled_after,
            } => {
                in_progress.spawn(callers.clone().call(operation, key, at as u64 + 1, cancelled_after));
            }
            Step::Wait => while in_progress.join_next().await.transpose().unwrap().is_some() {},
            Step::Fail { on, what } => world.simulator.add_fault(Fault::new(on, what)).unwrap(),
        }
    }
    while in_progress.join_next().await.transpose().unwrap().is_some() {}
    world.simulator.clear_faults();
    let leads = world.simulator.leads();
    for (key, observed) in callers.observed.lock().await.iter().enumerate() {
        let address = email(key);
        let ours = leads
            .iter()
            .filter(|lead| lead["EmailAddress"].as_ref() == Some(&address));
        let ends: Vec<Option<u64>> = ours.map(|lead| lead["mx_City"].as_ref()?.parse().ok()).collect();
        prop_assert!(
            ends.len() <= 1,
            "{} leads have the address of {key}: {observed:#?}",
            ends.len()
        );
        let before = (key < EXISTING).then_some(0);
        let end = ends.first().copied().flatten();
        prop_assert!(
            has_order(observed, before, end),
            "lead {key} is {end:?} in the end, after {observed:#?}"
        );
    }
    prop_assert!(world.simulator.stats().worst_window <= 3);
    // Calls in progress, of callers that have cancelled them, must not fail either.
    world.stop().await;
    Ok(())
}

#[test]
fn an_order_is_found_only_if_one_exists() {
    let observed = |operation, value, started, ended, outcome| Observed {
        operation,
        value,
        started,
        ended,
        outcome,
    };
    let one = observed(Operation::Update, 1, 0, 1, Outcome::Done);
    let two = observed(Operation::Update, 2, 2, 3, Outcome::Done);
    let both = [one.clone(), two];
    assert!(has_order(&both, Some(0), Some(2)));
    assert!(
        !has_order(&both, Some(0), Some(1)),
        "the second call started after the first had ended"
    );
    let overlapping = [one.clone(), observed(Operation::Update, 2, 0, 3, Outcome::Done)];
    assert!(has_order(&overlapping, Some(0), Some(1)));
    let lost = [
        one.clone(),
        observed(Operation::Update, 2, 2, u64::MAX, Outcome::Unknown),
    ];
    assert!(has_order(&lost, Some(0), Some(1)) && has_order(&lost, Some(0), Some(2)));
    let stale = [one, observed(Operation::Read, 9, 2, 3, Outcome::Value(Some(0)))];
    assert!(
        !has_order(&stale, Some(0), Some(1)),
        "the read does not see the write before it"
    );
    let twice = [
        observed(Operation::Create, 1, 0, 9, Outcome::Done),
        observed(Operation::Create, 2, 0, 9, Outcome::Done),
    ];
    assert!(!has_order(&twice, None, Some(1)));
}

/// The number of cases of a run without settings.
const CASES: u64 = 6;

/// Runs `LEADGATE_CASES` cases (default 6) from the seed `LEADGATE_SEED` (default random), and prints the seed of each case.
/// `LEADGATE_SEED` alone replays one case. It repeats the calls and the faults of the case, not their timing.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "cargo shows the seeds if the test fails, or with --nocapture"
)]
fn the_results_of_concurrent_calls_fit_one_order_of_single_calls() {
    let setting = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let first = setting("LEADGATE_SEED");
    let cases = setting("LEADGATE_CASES").unwrap_or(if first.is_some() { 1 } else { CASES });
    let first = first.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    for case in 0..cases {
        let seed = first.wrapping_add(case);
        println!("case {} of {cases}: LEADGATE_SEED={seed}", case + 1);
        if let Err(error) = run_case(seed) {
            panic!("failed with LEADGATE_SEED={seed}: {error}");
        }
    }
}

/// Runs several worlds at the same time, since most of the time is waiting. If one fails, the case is reduced to a smaller one.
fn run_case(seed: u64) -> Result<(), TestError<Vec<Vec<Step>>>> {
    let config = ProptestConfig {
        cases: 1,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);
    runner.run(&prop::collection::vec(steps(), 5), |scripts| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let results = runtime.block_on(async {
            let mut running = JoinSet::new();
            for steps in scripts {
                running.spawn(run(steps));
            }
            running.join_all().await
        });
        results.into_iter().collect()
    })
}
