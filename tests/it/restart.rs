//! Restarts and crashes: results by request id, writes in progress, and the usage of the quota.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use leadgate::clock;
use leadgate::config::Config;
use leadgate::domain::usage::{HeldSlots, HeldSlotsOfLimit, QuotaUsage};
use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Latency, Limits, Options, Reshare, Simulator};
use pb::lead_service_client::LeadServiceClient;
use pb::quota_service_client::QuotaServiceClient;
use pb::share_service_client::ShareServiceClient;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::account::{Account, Process};
use crate::harness::{World, by_id, lead, lone_read, quota, seen, within};
use crate::process::run;

/// Stops a process and waits until it has ended.
async fn terminate(child: &mut Child) {
    let id = child.id().unwrap().to_string();
    let killed = Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(killed.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

fn create(id: Uuid) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: id.to_string(),
        ..Default::default()
    }
}

async fn created(world: &World, id: Uuid) -> String {
    world
        .client
        .clone()
        .create_lead(create(id))
        .await
        .unwrap()
        .into_inner()
        .lead_id
}

#[tokio::test]
async fn the_same_request_id_has_one_effect_over_a_restart() {
    let account = Account::open(Options::default(), "").await;
    let id = Uuid::new_v4();
    let world = account.gateway().await;
    let lead_id = created(&world, id).await;
    world.stop().await;

    let world = account.gateway().await;
    assert_eq!(created(&world, id).await, lead_id);
    let mut other = create(id);
    other.lead = Some(lead("Ben"));
    let error = seen(world.client.clone().create_lead(other).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(world.calls("Lead.Create").len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_used_window_is_not_used_again_after_a_restart() {
    let options = Options {
        limits: Limits {
            calls: 5,
            per: Duration::from_secs(1),
            ..Limits::default()
        },
        ..Options::default()
    };
    let limits = "[tenants.acme.limits]\ncalls = 5\nwindow = \"1s\"";
    let account = Account::open(options, limits).await;
    let id = account.simulator.insert_lead(&[("FirstName", "Asha")]);
    for orderly in [true, false, true] {
        let world = account.gateway().await.warm().await;
        for _ in 0..4 {
            world.get(by_id(&id)).await.unwrap();
        }
        if orderly {
            world.stop().await;
        } else {
            // Like a process that dies, it writes nothing more.
            account.forget_the_end(world).await;
        }
    }
    assert_eq!(account.simulator.stats().refused, 0);
    assert!(account.simulator.worst_window() <= 5);
}

/// The account and the settings allow `calls` calls in `window` milliseconds.
fn limited(calls: u32, window: u64) -> (Options, String) {
    let options = Options {
        limits: Limits {
            calls,
            per: Duration::from_millis(window),
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(1),
            max: Duration::from_millis(5),
        },
        ..Options::default()
    };
    let limits = format!("[tenants.acme.limits]\ncalls = {calls}\nwindow = \"{window}ms\"");
    (options, limits)
}

/// Reads the lead `count` times at once. Returns the time until all responses have arrived.
async fn burst(client: &LeadServiceClient<Channel>, id: &str, count: usize) -> Duration {
    let started = Instant::now();
    let reads = (0..count).map(|_| {
        let (mut client, request) = (client.clone(), lone_read(id));
        async move { client.batch_get_leads(request).await.map(drop) }
    });
    let reads: JoinSet<_> = reads.collect();
    reads.join_all().await.into_iter().for_each(Result::unwrap);
    started.elapsed()
}

async fn slots_used(channel: &Channel) -> i32 {
    let mut client = QuotaServiceClient::new(channel.clone());
    let quota = client.get_quota(pb::GetQuotaRequest::default()).await.unwrap();
    quota.into_inner().quota.unwrap().calls.unwrap().used
}

#[tokio::test]
async fn an_orderly_restart_loses_no_free_slot() {
    let window = Duration::from_secs(4);
    let (options, limits) = limited(25, 4000);
    let account = Account::open(options, &limits).await;
    let id = account.simulator.insert_lead(&[("FirstName", "Asha")]);
    let process = account.process().await;
    let mut child = process.start();
    // With the metadata, three of 25 calls are used.
    let channel = process.channel().await;
    LeadServiceClient::new(channel.clone())
        .describe_lead_fields(pb::DescribeLeadFieldsRequest::default())
        .await
        .unwrap();
    burst(&LeadServiceClient::new(channel.clone()), &id, 2).await;
    let spent = Instant::now();
    assert_eq!(slots_used(&channel).await, 3);
    terminate(&mut child).await;

    let _child = process.start();
    let channel = process.channel().await;
    let client = LeadServiceClient::new(channel.clone());
    client
        .clone()
        .describe_lead_fields(pb::DescribeLeadFieldsRequest::default())
        .await
        .unwrap();
    assert_eq!(slots_used(&channel).await, 4);
    assert!(spent.elapsed() < window / 2, "the machine is too slow for this test");
    // The free slots are granted at once. Those of the first process are granted when they are free.
    let took = burst(&client, &id, 21).await;
    assert!(took < window / 4, "{took:?}");
    // A deadline before the next free slot is infeasible, and the call fails at once.
    let started = Instant::now();
    let error = seen(
        client
            .clone()
            .get_lead(within(
                window / 8,
                pb::GetLeadRequest {
                    key: Some(by_id(&id)),
                    ..Default::default()
                },
            ))
            .await
            .unwrap_err(),
    );
    error.is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
    assert!(started.elapsed() < window / 16, "{:?}", started.elapsed());
    burst(&client, &id, 3).await;
    assert!(spent.elapsed() < window + window / 4, "{:?}", spent.elapsed());
    let stats = account.simulator.stats();
    assert_eq!((stats.refused, stats.accepted), (0, 28));
    assert!(account.simulator.worst_window() <= 25);
}

/// The number of held slots of five in a process that starts with this record, and the time until the last is free.
async fn held_with(slots: Option<HeldSlots>, last_grant: Timestamp) -> (usize, Duration) {
    let (_, settings) = limited(5, 4000);
    let config =
        format!("[tenants.acme]\nbase_url = \"http://localhost\"\naccess_key = \"a\"\nsecret_key = \"b\"\n{settings}");
    let config = Config::read("test", &config, std::iter::empty()).unwrap();
    let before = QuotaUsage {
        day: "2026-07-31".to_owned(),
        calls: 0,
        last_grant,
        slots,
    };
    let tenant = &config.tenants["acme"];
    let quota = quota(tenant, Some(&before), &TaskTracker::new(), CancellationToken::new());
    let held = quota.usage().slots.unwrap().calls.free_at;
    let rest = held
        .iter()
        .filter_map(|at| Duration::try_from(at.duration_since(clock::now())).ok());
    (quota.snapshot().calls.used, rest.max().unwrap_or_default())
}

#[tokio::test]
async fn the_record_of_held_slots_is_valid_for_one_window_at_most() {
    let (now, second) = (clock::now(), Duration::from_secs(1));
    let slots = |window, free_at: &[Timestamp]| {
        let held = HeldSlotsOfLimit {
            window,
            free_at: free_at.to_vec(),
        };
        Some(HeldSlots {
            calls: held.clone(),
            bulk: held,
        })
    };
    let window = second * 4;
    let (used, rest) = held_with(slots(window, &[now + second * 2, now - second]), now).await;
    assert_eq!(used, 1, "one of the two is free");
    assert!(rest > second && rest <= second * 2, "{rest:?}");
    // A call that had not ended, and a clock that was set back.
    for at in [Timestamp::MAX, now + second * 3600] {
        let (used, rest) = held_with(slots(window, &[at]), now).await;
        assert!(used == 1 && rest > second * 3 && rest < second * 5, "{used} {rest:?}");
    }
    assert_eq!(held_with(slots(window, &[]), now).await.0, 0);
    // With another window, or without the times, only the time of the last call is known.
    for unknown in [slots(second, &[]), None] {
        assert_eq!(held_with(unknown.clone(), now).await.0, 5);
        assert_eq!(held_with(unknown.clone(), Timestamp::MAX).await.0, 5);
        assert_eq!(held_with(unknown, now - second * 5).await.0, 0);
    }
}

#[tokio::test]
async fn after_a_restart_with_a_used_window_reads_fail_at_once() {
    let (options, limits) = limited(3, 4000);
    let account = Account::open(options, &limits).await;
    let id = account.simulator.insert_lead(&[("FirstName", "Asha")]);
    let world = account.gateway().await.warm().await;
    burst(&world.client, &id, 2).await;
    world.stop().await;

    // The metadata waits for a slot. The reads do not wait for the metadata.
    let world = account.gateway().await;
    let request = pb::GetLeadRequest {
        key: Some(by_id(&id)),
        ..Default::default()
    };
    let started = Instant::now();
    let refused = world
        .client
        .clone()
        .get_lead(within(Duration::from_secs(1), request))
        .await;
    let took = started.elapsed();
    seen(refused.unwrap_err()).is(Code::ResourceExhausted, "DEADLINE_INFEASIBLE");
    assert!(took < Duration::from_millis(250), "{took:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_check_accounts_for_its_calls() {
    let (options, limits) = limited(5, 1500);
    let account = Account::open(options, &limits).await;
    let id = account.simulator.insert_lead(&[("FirstName", "Asha")]);
    let process = account.process().await;
    let check = ["check", "--connect", "--config", process.path.to_str().unwrap()];
    for has_store in [false, true] {
        // Without a store, the check waits until its call is out of the window. With a store, it records the call.
        let started = Instant::now();
        let said = String::from_utf8(run(&check).await.stdout).unwrap();
        assert!(said.contains("the keys are valid"), "{said}");
        assert_eq!(said.contains("no store to record"), !has_store, "{said}");
        assert_eq!(started.elapsed() > Duration::from_millis(1500), !has_store, "{said}");
        let mut child = process.start();
        let client = LeadServiceClient::new(process.channel().await);
        burst(&client, &id, 10).await;
        assert_eq!(account.simulator.stats().refused, 0, "{said}");
        assert!(account.simulator.worst_window() <= 5);
        if has_store {
            let said = String::from_utf8(run(&check).await.stdout).unwrap();
            assert!(said.contains("does not count the calls"), "{said}");
        }
        terminate(&mut child).await;
        if !has_store {
            // The next round has a store.
            assert!(account.folder.path().join("leadgate.db").exists());
        }
    }
}

#[tokio::test]
async fn a_day_is_counted_over_a_restart() {
    let limits = "[tenants.acme.limits]\ndaily = 3\nwindow = \"10ms\"";
    let account = Account::open(Options::default(), limits).await;
    let world = account.gateway().await.warm().await;
    let id = world.create(lead("Asha")).await.unwrap();
    world.stop().await;

    let world = account.gateway().await;
    // The metadata is fetched at the start and uses the rest of the day.
    let metadata = async {
        while account.simulator.stats().accepted < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), metadata).await.unwrap();
    let error = seen(world.get(by_id(&id)).await.unwrap_err());
    error.is(Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED");
    world.stop().await;
}

#[tokio::test]
async fn a_write_in_progress_when_the_process_died_is_reconciled_when_repeated() {
    for (what, sends) in [
        (
            FaultKind::CommitThenHang {
                lasting: Duration::from_secs(60),
            },
            1,
        ),
        (
            FaultKind::HangBefore {
                lasting: Duration::from_secs(60),
            },
            2,
        ),
    ] {
        let account = Account::open(Options::default(), "").await;
        let process = account.process().await;
        let creates = || {
            account
                .simulator
                .calls()
                .iter()
                .filter(|call| call.endpoint == "Lead.Create")
                .count()
        };

        let id = Uuid::new_v4();
        account.simulator.add_fault(Fault::new("Lead.Create", what)).unwrap();
        let mut gateway = process.start();
        let mut client = LeadServiceClient::new(process.channel().await);
        let lost = tokio::spawn(async move { client.create_lead(create(id)).await });
        let sent = async {
            while creates() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap();
        gateway.kill().await.unwrap();
        assert!(lost.await.unwrap().is_err());

        let mut gateway = process.start();
        let lead_id = LeadServiceClient::new(process.channel().await)
            .create_lead(create(id))
            .await
            .unwrap()
            .into_inner()
            .lead_id;
        let leads = account.simulator.leads();
        assert_eq!(leads.len(), 1);
        assert_eq!(leads[0]["ProspectID"].as_deref(), Some(lead_id.as_str()));
        assert_eq!(creates(), sends);
        gateway.kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_store_does_not_start() {
    let account = Account::open(Options::default(), "").await;
    let world = account.gateway().await;
    let config = leadgate::config::Config::read("test", &account.settings, std::iter::empty()).unwrap();
    let fault = leadgate::app::App::new(config).await.err().unwrap();
    assert!(fault.contains("in use by another process"), "{fault}");
    world.stop().await;
}

/// The number of shares that are requested while the gateway is killed `KILLS` times.
const SHARES: usize = 200;
const KILLS: usize = 8;
pub const SAM: &str = "a0000000-0000-4000-8000-000000000002";

/// Requests a share with the same request id until the gateway has it, as a client would. Returns the id of the share.
async fn share_until_known(process: &Process, request: pb::ShareLeadRequest) -> String {
    loop {
        let mut client = ShareServiceClient::new(process.channel().await);
        match client.share_lead(request.clone()).await {
            Ok(response) => return response.into_inner().share.unwrap().share_id,
            Err(status) => match status.code() {
                Code::Aborted => return seen(status).metadata["share_id"].clone(),
                // The gateway was killed, or is starting.
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {}
                _ => panic!("{status:?}"),
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_repeatedly_loses_no_share_and_grants_none_twice() {
    let mut options = Options {
        share_polls: 0,
        share_delay: Duration::from_millis(30),
        // A second grant would be visible.
        reshare: Reshare::Duplicate,
        latency: Latency {
            min: Duration::from_millis(5),
            max: Duration::from_millis(20),
        },
        ..Options::default()
    };
    options.limits.calls = 0;
    let settings = "[tenants.acme.limits]\ncalls = 10000\nwindow = \"50ms\"\n[tenants.acme.sharing]\n\
         default_activity_type = 201\npoll_every = \"20ms\"\npoll_at_most = \"40ms\"\nsettle_after = \"50ms\"\n";
    let account = Account::open(options, settings).await;
    let process = Arc::new(account.process().await);
    let mut gateway = process.start();

    let mut clients = JoinSet::new();
    let turns = Arc::new(tokio::sync::Semaphore::new(16));
    for number in 0..SHARES {
        let lead = account
            .simulator
            .insert_lead(&[("FirstName", &format!("Ann {number}"))]);
        let request = pb::ShareLeadRequest {
            lead: Some(pb::share_lead_request::Lead::LeadId(lead)),
            user: Some(pb::share_lead_request::User::UserId(SAM.into())),
            access: pb::Access::Write.into(),
            wait_for: pb::WaitFor::Active.into(),
            request_id: Uuid::new_v4().to_string(),
            ..Default::default()
        };
        let (process, turns) = (process.clone(), turns.clone());
        clients.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let id = share_until_known(&process, request.clone()).await;
            (request, id)
        });
    }
    for _ in 0..KILLS {
        process.channel().await;
        // A random moment.
        let pause = 20 + Uuid::new_v4().as_u128() % 180;
        tokio::time::sleep(Duration::from_millis(pause.try_into().unwrap())).await;
        gateway.kill().await.unwrap();
        gateway = process.start();
    }
    let requested = tokio::time::timeout(Duration::from_secs(60), clients.join_all());
    let requested = requested.await.unwrap();

    // The same request ids return the same shares.
    for (request, id) in &requested {
        assert_eq!(share_until_known(&process, request.clone()).await, *id);
    }
    // All shares reach a final or stable state.
    let mut client = ShareServiceClient::new(process.channel().await);
    let at_rest = async {
        loop {
            let request = pb::ListSharesRequest {
                page_size: 1000,
                ..Default::default()
            };
            let shares = client.list_shares(request).await.unwrap().into_inner().shares;
            let rests = |share: &pb::Share| matches!(share.state(), pb::ShareState::Active | pb::ShareState::Uncertain);
            if shares.iter().all(rests) {
                return shares;
            }
        }
    };
    let shares = tokio::time::timeout(Duration::from_secs(30), at_rest).await.unwrap();
    let ids: BTreeSet<_> = requested.iter().map(|(_, id)| id.clone()).collect();
    let known: BTreeMap<_, _> = shares.iter().map(|share| (share.share_id.clone(), share)).collect();
    assert_eq!((ids.len(), known.len()), (SHARES, SHARES));
    assert!(ids.iter().all(|id| known.contains_key(id)));

    // The ledger agrees with LeadSquared: active shares exist there, uncertain ones may exist.
    let there = account.simulator.shares();
    let granted: BTreeSet<_> = there
        .iter()
        .map(|share| (share.entity_id.clone(), share.activity_id.clone()))
        .collect();
    assert_eq!(granted.len(), there.len(), "something was granted twice");
    let of = |share: &&pb::Share| (share.lead_number.clone(), Some(share.activity_id.clone()));
    let is = |state: pb::ShareState| move |share: &&pb::Share| share.state() == state;
    let active: BTreeSet<_> = shares
        .iter()
        .filter(is(pb::ShareState::Active))
        .map(|share| of(&share))
        .collect();
    let uncertain: BTreeSet<_> = shares
        .iter()
        .filter(is(pb::ShareState::Uncertain))
        .map(|share| of(&share))
        .collect();
    assert!(active.is_subset(&granted));
    assert!(
        granted
            .iter()
            .all(|grant| active.contains(grant) || uncertain.contains(grant))
    );
    // At most the requests in flight at each kill are uncertain.
    assert!(uncertain.len() <= 16 * KILLS, "{} are uncertain", uncertain.len());
    gateway.kill().await.unwrap();
}

/// The number of leads that are created by name alone while the gateway is killed, and the calls that LeadSquared allows in a
/// window.
const CREATES: usize = 60;
const CALLS: u32 = 10;

/// Creates a lead with nothing but a name, with the same request id until the gateway knows the outcome.
async fn create_until_known(process: &Process, name: String) -> Result<String, tonic::Status> {
    let request = pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            first_name: Some(name),
            ..Default::default()
        }),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    };
    loop {
        let mut client = LeadServiceClient::new(process.channel().await);
        match client.create_lead(request.clone()).await {
            Ok(response) => return Ok(response.into_inner().lead_id),
            Err(status) => match status.code() {
                // The gateway was killed, or is starting.
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {}
                _ => return Err(status),
            },
        }
    }
}

/// Creates leads while the gateway is killed three times, each time after `moment`, which returns the number of calls that
/// LeadSquared had accepted. Returns the outcomes, and the number of calls that were accepted between the moments and the kills.
async fn creates_and_kills<F>(moment: impl Fn(Simulator, usize) -> F) -> (Account, Vec<Code>, u64)
where
    F: Future<Output = u64>,
{
    let mut options = Options {
        latency: Latency {
            min: Duration::from_millis(1),
            max: Duration::from_millis(10),
        },
        ..Options::default()
    };
    options.limits = Limits {
        calls: CALLS,
        per: Duration::from_secs(1),
        ..options.limits
    };
    let settings = format!("[tenants.acme.limits]\ncalls = {CALLS}\nwindow = \"1s\"\n");
    let account = Account::open(options, &settings).await;
    let process = Arc::new(account.process().await);
    let mut gateway = process.start();
    let mut creates = JoinSet::new();
    for number in 0..CREATES {
        let process = process.clone();
        creates.spawn(async move { create_until_known(&process, format!("Lead {number}")).await });
    }
    let mut late = 0;
    for kill in 1..=3 {
        let accepted = moment(account.simulator.clone(), kill).await;
        gateway.kill().await.unwrap();
        late += account.simulator.stats().accepted - accepted;
        gateway = process.start();
    }
    let outcomes = tokio::time::timeout(Duration::from_secs(60), creates.join_all())
        .await
        .unwrap();
    gateway.kill().await.unwrap();
    let codes = outcomes.into_iter().map(|outcome| match outcome {
        Ok(_) => Code::Ok,
        Err(status) => {
            seen(status.clone()).is(Code::Aborted, "OUTCOME_UNKNOWN");
            status.code()
        }
    });
    (account, codes.collect(), late)
}

/// The number of leads by name.
fn leads_by_name(simulator: &Simulator) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for lead in simulator.leads() {
        *count.entry(lead["FirstName"].clone().unwrap()).or_default() += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout)]
async fn creates_that_were_queued_when_the_process_died_are_new() {
    // All calls of a window have ended, and nothing can be sent before the next window.
    let between_windows = |simulator: Simulator, _| async move {
        let settled = async {
            let before = simulator.stats().accepted;
            let mut accepted = before;
            loop {
                tokio::time::sleep(Duration::from_millis(150)).await;
                match simulator.stats().accepted {
                    now if now == accepted && now > before => return now,
                    now => accepted = now,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap()
    };
    let (account, outcomes, late) = creates_and_kills(between_windows).await;
    let unknown = outcomes.iter().filter(|code| **code == Code::Aborted).count() as u64;
    println!("{unknown} of {CREATES} outcomes are unknown after 3 kills, {late} calls were in flight");
    // A busy machine may kill the process too late.
    assert!(unknown <= late, "{unknown} are unknown, {late} were in flight");
    let leads = leads_by_name(&account.simulator);
    assert!(leads.values().all(|count| *count == 1), "{leads:?}");
    assert!(leads.len() as u64 >= CREATES as u64 - unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout)]
async fn creates_are_unknown_only_if_they_were_in_flight_when_the_process_died() {
    // After this process has created some leads, while others are in flight.
    let at_any_moment = |simulator: Simulator, kill: usize| async move {
        let before = simulator.leads().len();
        let some = async {
            while simulator.leads().len() < before + 2 * kill + 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), some).await.unwrap();
        simulator.stats().accepted
    };
    let (account, outcomes, _) = creates_and_kills(at_any_moment).await;
    let unknown = outcomes.iter().filter(|code| **code == Code::Aborted).count();
    println!("{unknown} of {CREATES} outcomes are unknown after 3 kills");
    assert!(unknown <= 3 * CALLS as usize, "{unknown} are unknown");
    let leads = leads_by_name(&account.simulator);
    assert!(leads.values().all(|count| *count == 1), "{leads:?}");
    assert!(leads.len() >= CREATES - unknown);
}
