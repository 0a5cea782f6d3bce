//! Settings that change while calls wait, are in progress, or hold their slots.

mod owners;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::context::Criticality;
use crate::quota::{CallerQuota, Verdict};

const W: Duration = Duration::from_secs(5);
pub(super) const BREAKER: BreakerSettings = BreakerSettings {
    failures: 0,
    pause: Duration::from_secs(1),
    max_pause: Duration::from_secs(30),
    max_retry_after: Duration::from_secs(300),
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn limits(calls: u32, bulk: u32) -> QuotaLimits {
    QuotaLimits {
        calls,
        bulk,
        window: W,
        daily: 0,
        daily_reset_zone: "UTC".to_owned(),
        reserve: 0,
        queue: 1_000,
        queue_per_caller: 1_000,
        bulk_pays_calls: true,
    }
}

fn quota(limits: &QuotaLimits) -> Quota {
    quota_with(limits, BREAKER)
}

pub(super) fn quota_with(limits: &QuotaLimits, breaker: BreakerSettings) -> Quota {
    Quota::new(
        "acme",
        limits,
        &CallerQuotas::default(),
        BatchSizes::default(),
        breaker,
        Before::Nothing,
        TenantLease::permanent(),
        &TaskTracker::new(),
        CancellationToken::new(),
    )
}

async fn acquire(quota: &Quota, caller: &str, endpoint: &'static str, cost: Cost) -> Result<Slot> {
    let context = RequestContext::internal("test", Duration::from_secs(36_000)).of(caller, Criticality::default());
    let request = SlotRequest {
        cost,
        endpoint,
        keys: Vec::new(),
        batch: None,
    };
    quota.acquire(&context, &request, None).await
}

/// Makes this number of calls at once, each without latency. Returns when each was sent.
async fn burst(quota: &Quota, count: usize, cost: Cost) -> Vec<Instant> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let quota = quota.clone();
        calls.spawn(async move {
            let mut slot = acquire(&quota, "a", "Leads.GetById", cost).await.unwrap();
            slot.sent();
            drop(slot.responded(Verdict::Accepted));
            Instant::now()
        });
    }
    let mut sent = calls.join_all().await;
    sent.sort();
    sent
}

#[tokio::test(start_paused = true)]
async fn after_a_lower_limit_a_window_has_no_more_calls_than_the_new_limit() {
    let quota = quota(&limits(10, 1));
    let start = Instant::now();
    assert_eq!(burst(&quota, 10, Cost::Call).await, [start; 10]);
    quota.set_limits(&limits(3, 1));
    assert_eq!(quota.snapshot().calls.used, 10);
    let sent = burst(&quota, 6, Cost::Call).await;
    assert_eq!(
        sent,
        [
            start + W,
            start + W,
            start + W,
            start + W * 2,
            start + W * 2,
            start + W * 2
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_grants_waiting_calls_at_once() {
    let quota = quota(&limits(1, 1));
    let start = Instant::now();
    let mut waiting = JoinSet::new();
    let clone = quota.clone();
    waiting.spawn(async move { burst(&clone, 5, Cost::Call).await });
    sleep(W / 5).await;
    assert_eq!(quota.snapshot().queue.waiting.iter().sum::<usize>(), 4);
    quota.set_limits(&limits(4, 1));
    let change = start + W / 5;
    assert_eq!(
        waiting.join_all().await.concat(),
        [start, change, change, change, start + W]
    );
}

#[tokio::test(start_paused = true)]
async fn a_paused_tenant_grants_no_slots_and_keeps_those_in_use() {
    let quota = quota(&limits(2, 1));
    let kind = |result: Result<Slot>| result.map(drop).map_err(|error| error.kind);
    let (mut sent, other) = (
        acquire(&quota, "a", "Leads.GetById", Cost::Call).await.unwrap(),
        acquire(&quota, "a", "Leads.GetById", Cost::Call).await.unwrap(),
    );
    sent.sent();
    let mut waiting = JoinSet::new();
    for caller in ["a", "b"] {
        let quota = quota.clone();
        waiting.spawn(async move { acquire(&quota, caller, "Leads.GetById", Cost::Call).await });
    }
    sleep(W / 5).await;
    let start = Instant::now();
    quota.set_paused(true);
    for result in waiting.join_all().await {
        assert_eq!(kind(result), Err(ErrorKind::TenantPaused));
    }
    assert_eq!((start, quota.is_paused()), (Instant::now(), true));
    let refused = acquire(&quota, "a", "Leads.GetById", Cost::Call).await;
    assert_eq!(kind(refused), Err(ErrorKind::TenantPaused));
    // The call that was sent is finished. If it was refused, it is not sent again.
    let requeue = sent
        .responded(Verdict::Refused(crate::error::Refusal::Window(None)))
        .pop();
    let context = RequestContext::internal("test", W * 100);
    let request = SlotRequest {
        cost: Cost::Call,
        endpoint: "Leads.GetById",
        keys: Vec::new(),
        batch: None,
    };
    assert_eq!(
        kind(quota.acquire(&context, &request, requeue).await),
        Err(ErrorKind::TenantPaused)
    );
    assert!(quota.try_acquire(&context, &request, false).is_none());
    assert!(!quota.would_admit(&context, &request));
    assert_eq!(quota.snapshot().queue.waiting.iter().sum::<usize>(), 0);

    drop(other);
    let resumed = {
        let quota = quota.clone();
        async move { quota.until_paused(false).await }
    };
    let ((), ()) = tokio::join!(resumed, async { quota.set_paused(false) });
    acquire(&quota, "a", "Leads.GetById", Cost::Call).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bulk_calls_that_count_as_calls_from_now_on_hold_slots_of_both() {
    let separate = QuotaLimits {
        bulk_pays_calls: false,
        ..limits(5, 3)
    };
    let quota = quota(&separate);
    burst(&quota, 2, Cost::Bulk).await;
    let in_progress = acquire(&quota, "a", "Leads.GetById", Cost::Bulk).await.unwrap();
    assert_eq!(quota.snapshot().calls.used, 0);
    quota.set_limits(&limits(5, 3));
    assert_eq!(quota.snapshot().calls.used, 3);
    drop(in_progress);
    sleep(W).await;
    assert_eq!(quota.snapshot().calls.used, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lower_daily_limit_counts_the_calls_of_the_day() {
    let quota = quota(&limits(10, 1));
    burst(&quota, 4, Cost::Call).await;
    quota.set_limits(&QuotaLimits {
        daily: 4,
        ..limits(10, 1)
    });
    let refused = acquire(&quota, "a", "Leads.GetById", Cost::Call).await.err().unwrap();
    assert!(
        matches!(refused.kind, ErrorKind::DailyBudgetExhausted { .. }),
        "{refused:?}"
    );
}

/// The minimum times of a request and of a response on the network.
const FORWARD: Duration = Duration::from_millis(3);
const BACK: Duration = Duration::from_millis(4);

/// Each endpoint gets so few calls that its minimum round trip is not estimated. An estimate may be wrong.
const ENDPOINTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The settings from one change to the next, and the pause before the next one in milliseconds.
#[derive(Clone, Debug)]
struct Period {
    limits: QuotaLimits,
    cap: Option<u32>,
    weight: u32,
    pause: u64,
}

/// A call: the pause before it, the delays of its request and of its response in milliseconds, whether it is a bulk call, and
/// its end.
type ScriptedCall = (u64, u64, u64, bool, u8);

fn periods() -> impl Strategy<Value = Vec<Period>> {
    let windows = prop_oneof![2 => Just(1_000_u64), 1 => 100_u64..3_000];
    let period = (
        1_u32..9,
        1_u32..4,
        windows,
        0_u32..3,
        prop::option::of(1_u32..4),
        1_u32..4,
        0_u64..4_000,
    );
    let period = period.prop_map(|(calls, bulk, window, reserve, cap, weight, pause)| Period {
        limits: QuotaLimits {
            window: ms(window),
            reserve: reserve.min(calls - 1),
            ..limits(calls, bulk)
        },
        cap,
        weight,
        pause,
    });
    prop::collection::vec(period, 1..8)
}

fn calls() -> impl Strategy<Value = Vec<ScriptedCall>> {
    // Mostly more calls than slots, sometimes a pause. The delay of a request is within the margin for usual calls.
    let pause = prop_oneof![8 => 0_u64..60, 1 => 0_u64..4_000];
    let back = prop_oneof![8 => 0_u64..20, 1 => 0_u64..900];
    prop::collection::vec((pause, 0_u64..20, back, prop::bool::weighted(0.2), 0_u8..12), 1..80)
}

/// A call that LeadSquared counts.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    /// The settings under which it was granted its slot.
    period: usize,
    at: Instant,
    is_bulk: bool,
}

/// Makes the calls while the settings change. Returns the calls in the order of their slots.
async fn stamps(periods: &[Period], calls: &[ScriptedCall]) -> Vec<Stamp> {
    let quota = quota(&periods[0].limits);
    let (current, stamps) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(HashMap::new())));
    let mut running = JoinSet::new();
    let mut begin = Duration::ZERO;
    for (index, (pause, there, back, is_bulk, end)) in calls.iter().copied().enumerate() {
        begin += ms(pause);
        let (quota, current, stamps) = (quota.clone(), current.clone(), stamps.clone());
        running.spawn(async move {
            sleep(begin).await;
            let cost = if is_bulk { Cost::Bulk } else { Cost::Call };
            let caller = ["a", "b", "c"][index % 3];
            let mut slot = acquire(&quota, caller, ENDPOINTS[index % 6], cost).await.unwrap();
            let period = current.load(Ordering::Relaxed);
            if end == 0 {
                sleep(ms(there)).await;
                return slot.unsent();
            }
            let place = stamps.lock().unwrap().len();
            stamps.lock().unwrap().insert(place, None);
            slot.sent();
            sleep(FORWARD + ms(there)).await;
            let at = Instant::now();
            stamps
                .lock()
                .unwrap()
                .insert(place, Some(Stamp { period, at, is_bulk }));
            sleep(ms(back) + BACK).await;
            match end {
                1 => drop(slot),
                _ => drop(slot.responded(Verdict::Accepted)),
            }
        });
    }
    for (index, period) in periods.iter().enumerate() {
        // The calls that were granted a slot at this moment note the settings first.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        current.store(index, Ordering::Relaxed);
        quota.set_limits(&period.limits);
        let share = CallerQuota {
            weight: period.weight,
            calls_per_window: period.cap,
            ..CallerQuota::default()
        };
        quota.set_callers(CallerQuotas {
            named: HashMap::from([("a".into(), share)]),
            others: CallerQuota::default(),
        });
        sleep(ms(period.pause)).await;
    }
    // A call that was lost would never end.
    running.join_all().await;
    let stamps = std::mem::take(&mut *stamps.lock().unwrap());
    let mut places: Vec<_> = stamps.into_iter().collect();
    places.sort_by_key(|(place, _)| *place);
    places.into_iter().filter_map(|(_, stamp)| stamp).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each call is in one window with no more earlier calls than the settings allow at the moment of its slot, also if the
    /// earlier calls were made with other settings. And each waiting call is made in the end.
    #[test]
    fn no_changing_limit_is_exceeded(periods in periods(), calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let stamps = runtime.block_on(stamps(&periods, &calls));
        prop_assert_eq!(stamps.len(), calls.iter().filter(|call| call.4 != 0).count());
        for (place, call) in stamps.iter().enumerate() {
            let limits = &periods[call.period].limits;
            let earlier = || {
                let apart = |other: &Stamp| call.at.saturating_duration_since(other.at).max(other.at.saturating_duration_since(call.at));
                stamps[..=place].iter().filter(move |other| apart(other) < limits.window)
            };
            prop_assert!(earlier().count() <= (limits.calls - limits.reserve) as usize, "{place} of {stamps:?}");
            prop_assert!(!call.is_bulk || earlier().filter(|other| other.is_bulk).count() <= limits.bulk as usize);
        }
    }
}
