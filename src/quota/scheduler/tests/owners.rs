//! The lease of the tenant, and the state that one owner hands over to the next.

use super::*;
use crate::cluster::handover::{from_json, to_json};
use crate::quota::QuotaSnapshot;

const LEASE: Duration = Duration::from_secs(10);
const LATENESS: Duration = Duration::from_secs(1);
/// The timeout of the calls.
const TIMEOUT: Duration = Duration::from_secs(30);

fn owner(limits: &QuotaLimits, before: Before<'_>, lease: &TenantLease) -> Quota {
    Quota::new(
        "acme",
        limits,
        &CallerQuotas::default(),
        BatchSizes::default(),
        BREAKER,
        before,
        lease.clone(),
        &TaskTracker::new(),
        CancellationToken::new(),
    )
}

/// The state of a quota as the next owner reads it.
fn handed_over(quota: &Quota) -> Handover {
    quota.stop_granting();
    from_json(&to_json(&quota.handover(TIMEOUT))).unwrap()
}

/// A lease that is valid for ever.
fn lease() -> TenantLease {
    TenantLease::test(1, Instant::now() + Duration::from_secs(86_400))
}

fn free_slots(snapshot: &QuotaSnapshot) -> (usize, usize) {
    (
        snapshot.calls.effective as usize - snapshot.calls.used,
        snapshot.bulk.effective as usize - snapshot.bulk.used,
    )
}

#[tokio::test(start_paused = true)]
async fn no_slot_is_granted_while_the_lease_has_lapsed() {
    let start = Instant::now();
    let lease = TenantLease::test(1, start + ms(1_000));
    let quota = owner(&limits(5, 1), Before::Nothing, &lease);
    assert_eq!(burst(&quota, 2, Cost::Call).await, [start; 2]);
    sleep(ms(1_000)).await;
    let (mut waiting, clone) = (JoinSet::new(), quota.clone());
    waiting.spawn(async move { burst(&clone, 2, Cost::Call).await });
    sleep(ms(700)).await;
    assert_eq!(quota.snapshot().queue.waiting.iter().sum::<usize>(), 2);
    lease.extend_in_test(start + ms(9_000));
    assert_eq!(waiting.join_all().await.concat(), [start + ms(1_700); 2]);
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_fail_as_unsent_when_the_lease_ends() {
    let lease = lease();
    let quota = owner(&limits(1, 1), Before::Nothing, &lease);
    burst(&quota, 1, Cost::Call).await;
    let (mut waiting, clone) = (JoinSet::new(), quota.clone());
    waiting.spawn(async move { acquire(&clone, "a", "Leads.GetById", Cost::Call).await.err().unwrap() });
    sleep(ms(100)).await;
    lease.end_in_test();
    assert_eq!(waiting.join_all().await[0].kind, ErrorKind::Moved { sent: false });
    let later = acquire(&quota, "a", "Leads.GetById", Cost::Call).await.err().unwrap();
    assert_eq!(later.kind, ErrorKind::Moved { sent: false });
}

#[tokio::test(start_paused = true)]
async fn after_stop_granting_waiting_calls_fail_and_calls_in_progress_end() {
    let quota = owner(&limits(2, 1), Before::Nothing, &lease());
    let mut first = acquire(&quota, "a", "Leads.GetById", Cost::Call).await.unwrap();
    first.sent();
    quota.stop_granting();
    let refused = acquire(&quota, "a", "Leads.GetById", Cost::Call).await.err().unwrap();
    assert_eq!(
        (refused.kind, quota.in_progress()),
        (ErrorKind::Moved { sent: false }, 1)
    );
    drop(first.responded(Verdict::Accepted));
    assert_eq!(quota.in_progress(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_owner_holds_the_slots_of_the_former_one() {
    let former = owner(&limits(5, 2), Before::Nothing, &lease());
    burst(&former, 2, Cost::Call).await;
    sleep(ms(1_000)).await;
    burst(&former, 1, Cost::Bulk).await;
    let mut in_progress = acquire(&former, "a", "Leads.GetById", Cost::Call).await.unwrap();
    in_progress.sent();
    let next = owner(&limits(5, 2), Before::Handover(&handed_over(&former)), &lease());
    assert_eq!(free_slots(&next.snapshot()), (1, 1));
    sleep(ms(4_000)).await;
    assert_eq!(free_slots(&next.snapshot()), (3, 1));
    sleep(ms(1_000)).await;
    assert_eq!(free_slots(&next.snapshot()), (4, 2));
    sleep(TIMEOUT).await;
    assert_eq!(free_slots(&next.snapshot()), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_handover_all_windows_are_full_for_the_window_the_margin_and_the_lateness() {
    let start = Instant::now();
    let before = Before::NoHandover {
        saved: None,
        lease: LEASE,
        lateness: LATENESS,
    };
    let quota = owner(&limits(5, 2), before, &lease());
    assert_eq!(free_slots(&quota.snapshot()), (0, 0));
    let margin = quota.snapshot().calls.margin;
    assert_eq!(burst(&quota, 5, Cost::Call).await, [start + W + margin + LATENESS; 5]);
}

#[tokio::test(start_paused = true)]
async fn what_the_former_owner_learned_goes_on() {
    use crate::error::{Limit, Refusal};
    let former = owner(&limits(20, 2), Before::Nothing, &lease());
    let named = Limit { calls: 10, per: W * 2 };
    let mut slot = acquire(&former, "a", "Leads.GetById", Cost::Call).await.unwrap();
    slot.sent();
    drop(slot.responded(Verdict::Refused(Refusal::Window(Some(named)))));
    sleep(W * 4).await;
    for _ in 0..2 {
        let mut slot = acquire(&former, "a", "Leads.GetById", Cost::Call).await.unwrap();
        slot.sent();
        drop(slot.responded(Verdict::Refused(Refusal::Window(None))));
        sleep(ms(10)).await;
    }
    let before = former.snapshot();
    let state = handed_over(&former);
    let next = owner(&limits(20, 2), Before::Handover(&state), &lease()).snapshot();
    assert_eq!((next.calls.limit, before.calls.limit), (named, named));
    assert!(before.calls.effective < 10);
    assert_eq!(next.calls.effective, before.calls.effective);
    assert_eq!(next.calls.margin, before.calls.margin);
    assert_eq!(next.calls.free_in, before.calls.free_in);
    assert_eq!(next.daily.used, before.daily.used);
    // Other settings are stronger than what was learned with the former ones.
    let changed = owner(&limits(8, 2), Before::Handover(&state), &lease()).snapshot();
    assert_eq!(changed.calls.limit, Limit { calls: 8, per: W });
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_day_counts_what_may_not_have_been_saved() {
    let former = owner(&limits(5, 2), Before::Nothing, &lease());
    burst(&former, 3, Cost::Call).await;
    let saved = former.handover(TIMEOUT);
    let before = Before::NoHandover {
        saved: Some(&saved),
        lease: LEASE,
        lateness: LATENESS,
    };
    // 5 calls in each of the 2 windows of a lease, and in 2 more.
    assert_eq!(owner(&limits(5, 2), before, &lease()).snapshot().daily.used, 3 + 5 * 4);
}

#[tokio::test(start_paused = true)]
async fn a_longer_window_of_the_next_owner_holds_slots_longer() {
    let former = owner(&limits(3, 2), Before::Nothing, &lease());
    burst(&former, 2, Cost::Call).await;
    let (state, start) = (handed_over(&former), Instant::now());
    let longer = QuotaLimits {
        window: W * 2,
        ..limits(3, 2)
    };
    let next = owner(&longer, Before::Handover(&state), &lease());
    assert_eq!(burst(&next, 2, Cost::Call).await, [start + W, start + W * 2]);
}

#[tokio::test(start_paused = true)]
async fn the_latencies_of_the_former_owner_are_known() {
    let former = owner(&limits(10, 2), Before::Nothing, &lease());
    for _ in 0..4 {
        let mut slot = acquire(&former, "a", "Leads.GetById", Cost::Call).await.unwrap();
        slot.sent();
        sleep(ms(900)).await;
        drop(slot.responded(Verdict::Accepted));
    }
    let state = handed_over(&former);
    let next = owner(&limits(10, 2), Before::Handover(&state), &lease());
    let estimate = |quota: &Quota| quota.shared.lock().capacity.estimate("Leads.GetById", Instant::now());
    assert_eq!(estimate(&next), estimate(&former));
    assert_eq!(estimate(&next).usual, ms(900));
    // Also if the next owner hands over before it has used the endpoint.
    let third = owner(&limits(10, 2), Before::Handover(&handed_over(&next)), &lease());
    assert_eq!(estimate(&third), estimate(&former));
}

/// A period of one owner: for how long it has the tenant, and for how long no replica has it afterwards, in milliseconds.
type Tenure = (u64, u64);

/// A call: the pause before it, the delays of its request and of its response in milliseconds, and whether it has a response.
type MovedCall = (u64, u64, u64, bool);

/// Makes calls while the tenant moves. Returns the limits of each call's timestamp.
async fn moved(tenures: &[Tenure], calls: &[MovedCall]) -> Vec<(Instant, Instant)> {
    let stamps = Arc::new(Mutex::new(Vec::new()));
    let mut script = calls.iter().copied().cycle();
    let mut state: Option<Handover> = None;
    let mut running = JoinSet::new();
    for (length, gap) in tenures {
        let (lease, end) = (lease(), Instant::now() + ms(*length));
        let before = state.as_ref().map_or(Before::Nothing, Before::Handover);
        let quota = owner(&limits(4, 2), before, &lease);
        while Instant::now() < end {
            let (pause, forward, back, has_response) = script.next().unwrap();
            let _ = tokio::time::timeout_at(end, sleep(ms(pause))).await;
            let granted = tokio::time::timeout_at(end, acquire(&quota, "a", "Leads.GetById", Cost::Call)).await;
            let (Ok(Ok(mut slot)), stamps) = (granted, stamps.clone()) else {
                continue;
            };
            slot.sent();
            let sent = Instant::now();
            running.spawn(async move {
                let took = if has_response { ms(forward + back) } else { ms(8_000) };
                stamps.lock().unwrap().push((sent, sent + took));
                sleep(took).await;
                match has_response {
                    true => drop(slot.responded(Verdict::Accepted)),
                    false => drop(slot),
                }
            });
        }
        quota.stop_granting();
        let _ = tokio::time::timeout(ms(1_000), async {
            while quota.in_progress() > 0 {
                sleep(ms(20)).await;
            }
        })
        .await;
        lease.end_in_test();
        state = Some(from_json(&to_json(&quota.handover(ms(8_000)))).unwrap());
        sleep(ms(*gap)).await;
    }
    Arc::try_unwrap(stamps).map_or_else(|shared| shared.lock().unwrap().clone(), |own| own.into_inner().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whenever each call was counted, no window has more calls than the limit, over all owners. So few calls have a response that
    /// no minimum round trip is estimated.
    #[test]
    fn no_window_has_more_calls_than_the_limit_while_the_tenant_moves(
        tenures in prop::collection::vec((10_u64..9_000, 0_u64..3_000), 2..5),
        calls in prop::collection::vec((0_u64..300, 0_u64..400, 0_u64..400, prop::bool::weighted(0.7)), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let stamps = runtime.block_on(moved(&tenures, &calls));
        for (_, begin) in &stamps {
            let in_window = stamps.iter().filter(|(first, last)| *last >= *begin && *first < *begin + W);
            prop_assert!(in_window.count() <= 4, "{:?}", stamps);
        }
    }
}
