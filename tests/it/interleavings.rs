//! Any interleaving of creates, updates, upserts and reads by many callers, with lost answers, refusals, callers who leave and
//! shared calls that fail as a whole: what the callers of one lead are told fits one order in which each call was made
//! once, on its own, between its beginning and its end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Latency, Limits, Options};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::harness::{Client, World, by_id, within};

const KEYS: usize = 5;
/// Of these leads that many are there before.
const THERE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Create,
    Update,
    Upsert,
    Read,
}

#[derive(Clone, Debug)]
enum Step {
    Call {
        ask: Ask,
        key: usize,
        /// The caller leaves after so many milliseconds.
        leaves: Option<u64>,
    },
    /// All calls that are under way end first.
    Wait,
    Fail {
        on: &'static str,
        what: FaultKind,
    },
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Value(Option<u64>),
    Exists,
    Missing,
    /// Surely nothing was done.
    Nothing,
    /// It may have been done, or be done later.
    Unknown,
}

/// One call, as its caller saw it.
#[derive(Clone, Debug)]
struct Seen {
    ask: Ask,
    value: u64,
    began: u64,
    ended: u64,
    told: Told,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = prop_oneof![
        2 => Just(Ask::Create),
        6 => Just(Ask::Update),
        4 => Just(Ask::Upsert),
        4 => Just(Ask::Read),
    ];
    let leaves = prop_oneof![8 => Just(None), 1 => (0_u64..120).prop_map(Some)];
    let call = (ask, 0..KEYS, leaves).prop_map(|(ask, key, leaves)| Step::Call { ask, key, leaves });
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

/// The callers, and what they saw of each lead.
struct Stage {
    client: Client,
    clock: AtomicU64,
    ids: Mutex<HashMap<usize, String>>,
    seen: Mutex<Vec<Vec<Seen>>>,
}

impl Stage {
    async fn call(self: Arc<Self>, ask: Ask, key: usize, value: u64, leaves: Option<u64>) {
        let id = self.ids.lock().await.get(&key).cloned();
        let began = self.clock.fetch_add(1, Ordering::SeqCst);
        // What has no id yet is updated by its address.
        let ask = if ask == Ask::Update && id.is_none() {
            Ask::Upsert
        } else {
            ask
        };
        let asking = self.ask(ask, key, value, id);
        let told = match leaves {
            None => asking.await,
            Some(after) => tokio::time::timeout(Duration::from_millis(after), asking)
                .await
                .unwrap_or(Told::Unknown),
        };
        let ended = match told {
            Told::Unknown => u64::MAX,
            _ => self.clock.fetch_add(1, Ordering::SeqCst),
        };
        self.seen.lock().await[key].push(Seen {
            ask,
            value,
            began,
            ended,
            told,
        });
    }

    async fn ask(&self, ask: Ask, key: usize, value: u64, id: Option<String>) -> Told {
        let mut client = self.client.clone();
        let limit = Duration::from_secs(20);
        let fields = pb::LeadFields {
            email_address: (ask != Ask::Update).then(|| email(key)),
            city: Some(value.to_string()),
            ..Default::default()
        };
        let lead = Some(fields);
        let result = match ask {
            Ask::Create => {
                let request = pb::CreateLeadRequest {
                    lead,
                    ..Default::default()
                };
                let made = client.create_lead(within(limit, request)).await;
                made.map(|made| (Told::Done, Some(made.into_inner().lead_id)))
            }
            Ask::Upsert => {
                let request = pb::UpsertLeadRequest {
                    lead,
                    ..Default::default()
                };
                let made = client.upsert_lead(within(limit, request)).await;
                made.map(|made| (Told::Done, Some(made.into_inner().lead_id)))
            }
            Ask::Update => {
                let lead_id = id.unwrap_or_default();
                let request = pb::UpdateLeadRequest {
                    lead_id,
                    lead,
                    ..Default::default()
                };
                client
                    .update_lead(within(limit, request))
                    .await
                    .map(|_| (Told::Done, None))
            }
            Ask::Read => {
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
                    (Told::Value(city.and_then(|city| city.parse().ok())), None)
                })
            }
        };
        match result {
            Ok((told, made)) => {
                if let Some(id) = made {
                    self.ids.lock().await.insert(key, id);
                }
                told
            }
            Err(status) => refused(ask, &status),
        }
    }
}

fn refused(ask: Ask, status: &Status) -> Told {
    match (ask, status.code()) {
        (Ask::Create, Code::AlreadyExists) => Told::Exists,
        (Ask::Read, Code::NotFound) => Told::Value(None),
        (Ask::Update, Code::NotFound) => Told::Missing,
        // A read without an answer says nothing.
        (Ask::Read, _) => Told::Nothing,
        // An answer that cannot be read may have said yes.
        (_, Code::Aborted | Code::DeadlineExceeded | Code::Cancelled | Code::Internal) => Told::Unknown,
        (_, Code::Unavailable | Code::ResourceExhausted) => Told::Nothing,
        (ask, _) => panic!("{ask:?}: {status:?}"),
    }
}

/// What a lead may be after the call, if it was as it is before.
fn after(seen: &Seen, before: Option<u64>) -> Option<Option<u64>> {
    let now = Some(seen.value);
    match (seen.ask, seen.told) {
        (_, Told::Nothing) => Some(before),
        (Ask::Read, Told::Value(value)) => (value == before).then_some(before),
        (Ask::Read, _) => Some(before),
        (Ask::Create, Told::Done) => before.is_none().then_some(now),
        (Ask::Create, Told::Exists) => before.is_some().then_some(before),
        (Ask::Create, _) => before.is_none().then_some(now),
        (Ask::Update, Told::Missing) => before.is_none().then_some(before),
        (Ask::Update, _) => before.is_some().then_some(now),
        (Ask::Upsert, _) => Some(now),
    }
}

/// Whether there is an order that explains what was seen, and what the lead is in the end.
fn is_explained(seen: &[Seen], before: Option<u64>, end: Option<u64>) -> bool {
    let mut tried = HashSet::new();
    let mut open = vec![(0_u64, before)];
    let all_sure = seen.iter().enumerate().filter(|(_, seen)| seen.told != Told::Unknown);
    let sure: u64 = all_sure.map(|(at, _)| 1 << at).sum();
    while let Some((done, lead)) = open.pop() {
        if !tried.insert((done, lead)) {
            continue;
        }
        if done & sure == sure && lead == end {
            return true;
        }
        let left = || seen.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        let first_end = left().map(|(_, seen)| seen.ended).min().unwrap_or(u64::MAX);
        // What had ended before another began goes first.
        let may_be_next = left().filter(|(_, seen)| seen.began <= first_end);
        open.extend(may_be_next.filter_map(|(at, seen)| Some((done | 1 << at, after(seen, lead)?))));
    }
    false
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
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
    let there = |key| {
        (
            key,
            world
                .simulator
                .insert_lead(&[("EmailAddress", &email(key)), ("mx_City", "0")]),
        )
    };
    let stage = Arc::new(Stage {
        client: world.client.clone(),
        clock: AtomicU64::new(0),
        ids: Mutex::new((0..THERE).map(there).collect()),
        seen: Mutex::new(vec![Vec::new(); KEYS]),
    });
    let mut under_way = JoinSet::new();
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Call { ask, key, leaves } => {
                under_way.spawn(stage.clone().call(ask, key, at as u64 + 1, leaves));
            }
            Step::Wait => while under_way.join_next().await.transpose().unwrap().is_some() {},
            Step::Fail { on, what } => world.simulator.add_fault(Fault::new(on, what)).unwrap(),
        }
    }
    while under_way.join_next().await.transpose().unwrap().is_some() {}
    world.simulator.clear_faults();
    let leads = world.simulator.leads();
    for (key, seen) in stage.seen.lock().await.iter().enumerate() {
        let address = email(key);
        let ours = leads
            .iter()
            .filter(|lead| lead["EmailAddress"].as_ref() == Some(&address));
        let ends: Vec<Option<u64>> = ours.map(|lead| lead["mx_City"].as_ref()?.parse().ok()).collect();
        prop_assert!(
            ends.len() <= 1,
            "{} leads have the address of {key}: {seen:#?}",
            ends.len()
        );
        let before = (key < THERE).then_some(0);
        let end = ends.first().copied().flatten();
        prop_assert!(
            is_explained(seen, before, end),
            "lead {key} is {end:?} in the end, after {seen:#?}"
        );
    }
    prop_assert!(world.simulator.stats().worst_window <= 3);
    // What is under way still, for callers who have left, must not fail either.
    world.stop().await;
    Ok(())
}

#[test]
fn an_order_is_found_only_where_there_is_one() {
    let seen = |ask, value, began, ended, told| Seen {
        ask,
        value,
        began,
        ended,
        told,
    };
    let one = seen(Ask::Update, 1, 0, 1, Told::Done);
    let two = seen(Ask::Update, 2, 2, 3, Told::Done);
    let both = [one.clone(), two];
    assert!(is_explained(&both, Some(0), Some(2)));
    assert!(
        !is_explained(&both, Some(0), Some(1)),
        "the second came after the first"
    );
    let overlapping = [one.clone(), seen(Ask::Update, 2, 0, 3, Told::Done)];
    assert!(is_explained(&overlapping, Some(0), Some(1)));
    let lost = [one.clone(), seen(Ask::Update, 2, 2, u64::MAX, Told::Unknown)];
    assert!(is_explained(&lost, Some(0), Some(1)) && is_explained(&lost, Some(0), Some(2)));
    let stale = [one, seen(Ask::Read, 9, 2, 3, Told::Value(Some(0)))];
    assert!(
        !is_explained(&stale, Some(0), Some(1)),
        "the read does not see the write before it"
    );
    let twice = [
        seen(Ask::Create, 1, 0, 9, Told::Done),
        seen(Ask::Create, 2, 0, 9, Told::Done),
    ];
    assert!(!is_explained(&twice, None, Some(1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several worlds at a time, since most of the time is waiting.
    #[test]
    fn every_caller_sees_what_a_call_of_its_own_would_have_shown(scripts in prop::collection::vec(steps(), 5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let played = runtime.block_on(async {
            let mut playing = JoinSet::new();
            for steps in scripts {
                playing.spawn(play(steps));
            }
            playing.join_all().await
        });
        for result in played {
            result?;
        }
    }
}
