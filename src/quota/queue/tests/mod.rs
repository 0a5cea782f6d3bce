//! The behavior of the queue, one rule per test. `model` checks what holds for any history, `traffic` what holds over
//! time.

mod admission;
mod model;
mod traffic;

use std::time::Duration;

use proptest::prelude::*;

use super::callers::{MAX_OWN_ENTRIES, SHARED_ENTRY};
use super::*;
use crate::context::INTERNAL_CALLER;
use crate::quota::lane::BatchSizes;
use crate::quota::latency::LatencyEstimate;

const W: Duration = Duration::from_secs(5);
const FREE: Supply = Supply {
    calls: SlotSupply { limit: 25, free: 25 },
    bulk: SlotSupply { limit: 10, free: 10 },
    window: W,
    pacing_delay: Duration::ZERO,
};
const NO_BULK: Supply = Supply {
    bulk: SlotSupply { limit: 10, free: 0 },
    ..FREE
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings() -> QueueSettings {
    let share = |weight, calls_per_window, max_criticality| CallerQuota {
        weight,
        calls_per_window,
        max_criticality,
    };
    let callers = [
        ("double", share(2, None, Criticality::CriticalPlus)),
        ("capped", share(1, Some(3), Criticality::CriticalPlus)),
        ("humble", share(1, None, Criticality::SheddablePlus)),
    ];
    QueueSettings {
        max_waiting: 100_000,
        max_per_caller: 100_000,
        callers: CallerQuotas {
            named: callers.map(|(name, share)| (name.into(), share)).into(),
            others: CallerQuota::default(),
        },
        sizes: BatchSizes::default(),
    }
}

fn request(caller: &str, now: Instant) -> TicketRequest {
    TicketRequest {
        caller: caller.into(),
        criticality: Criticality::SheddablePlus,
        cost: Cost::Call,
        keys: Vec::new(),
        position: None,
        deadline: now + Duration::from_secs(3600),
        lane: None,
    }
}

fn write(caller: &str, key: u32, now: Instant) -> TicketRequest {
    TicketRequest {
        keys: vec![WriteKey::of(&key.to_string())],
        ..request(caller, now)
    }
}

/// A write that can be a member of a batch.
fn batchable_write(caller: &str, key: u32, now: Instant) -> TicketRequest {
    TicketRequest {
        lane: Some(Lane::Updates),
        ..write(caller, key, now)
    }
}

/// A queue whose payloads are the names of the tickets.
struct TestQueue {
    queue: Queue<&'static str>,
    now: Instant,
}

impl TestQueue {
    fn new() -> Self {
        Self {
            queue: Queue::new(settings()),
            now: Instant::now(),
        }
    }

    fn push(&mut self, request: TicketRequest, name: &'static str) -> TicketId {
        let pushed = self.queue.push(request, name, self.now).unwrap();
        assert!(pushed.dropped.is_none());
        pushed.id
    }

    fn next(&mut self, supply: &Supply) -> Option<(Receipt, &'static str)> {
        match self.queue.next(supply, self.now) {
            NextTicket::Granted(receipt, name) => Some((receipt, name)),
            NextTicket::Expired(_, name, _) => panic!("{name} has expired"),
            NextTicket::None => None,
        }
    }

    fn name(&mut self, supply: &Supply) -> &'static str {
        self.next(supply).map_or("none", |(receipt, name)| {
            self.queue.done(receipt);
            name
        })
    }

    fn names(&mut self, count: usize) -> Vec<&'static str> {
        (0..count).map(|_| self.name(&FREE)).collect()
    }
}

fn quota(weight: u32, calls_per_window: Option<u32>) -> CallerQuota {
    CallerQuota {
        weight,
        calls_per_window,
        ..CallerQuota::default()
    }
}

/// The quotas of two callers, and no settings for all others.
fn quotas(quotas: [(&str, CallerQuota); 2]) -> CallerQuotas {
    CallerQuotas {
        named: quotas.map(|(name, quota)| (name.into(), quota)).into(),
        others: CallerQuota::default(),
    }
}

#[test]
fn a_changed_cap_applies_to_waiting_calls() {
    let mut test = TestQueue::new();
    for _ in 0..12 {
        test.push(request("capped", test.now), "capped");
    }
    assert_eq!(test.names(4), ["capped", "capped", "capped", "none"]);
    let cap = |calls| quotas([("capped", quota(1, calls)), ("double", quota(1, None))]);
    test.queue.set_callers(cap(Some(5)), test.now);
    assert_eq!(test.names(3), ["capped", "capped", "none"], "a higher cap");
    test.now += W / 2;
    test.queue.set_callers(cap(Some(2)), test.now);
    let wait = test.queue.admit(
        &request("capped", test.now),
        &LatencyEstimate::default(),
        &FREE,
        test.now,
        |_, _| Duration::ZERO,
    );
    assert_eq!(wait, Ok(W / 2 + W * 3), "behind seven calls, two in each window");
    assert_eq!(test.name(&FREE), "none", "a lower cap");
    test.now += W / 2;
    assert_eq!(test.names(3), ["capped", "capped", "none"], "in the next window");
    test.queue.set_callers(cap(None), test.now);
    assert_eq!(
        test.names(6),
        ["capped", "capped", "capped", "capped", "capped", "none"]
    );
    assert_eq!(test.queue.next_wake(), None, "no cap is left");
}

#[test]
fn a_lower_cap_in_a_shorter_window_counts_earlier_calls() {
    let mut test = TestQueue::new();
    for _ in 0..7 {
        test.push(request("capped", test.now), "capped");
    }
    let shorter = Supply { window: W / 5, ..FREE };
    assert_eq!(test.names(2), ["capped"; 2]);
    assert_eq!(test.name(&shorter), "capped");
    let lower = quotas([("capped", quota(1, Some(1))), ("double", quota(2, None))]);
    test.queue.set_callers(lower, test.now);
    test.now += W / 5;
    assert_eq!(
        test.name(&shorter),
        "none",
        "the calls of the longer window still count"
    );
    test.now += W * 4 / 5;
    test.queue.set_callers(settings().callers, test.now);
    let names: Vec<_> = (0..4).map(|_| test.name(&shorter)).collect();
    assert_eq!(names, ["capped", "capped", "capped", "none"]);
    test.now += W / 5;
    assert_eq!(test.name(&shorter), "capped");
}

#[test]
fn a_changed_weight_applies_to_waiting_calls() {
    let mut test = TestQueue::new();
    for _ in 0..40 {
        test.push(request("double", test.now), "double");
        test.push(request("other", test.now), "other");
    }
    let of_double = |test: &mut TestQueue| test.names(12).iter().filter(|name| **name == "double").count();
    assert_eq!(of_double(&mut test), 8);
    let equal = quotas([("double", quota(1, None)), ("other", quota(3, None))]);
    test.queue.set_callers(equal, test.now);
    assert_eq!(of_double(&mut test), 3);
}

#[test]
fn a_lower_maximum_removes_no_waiting_call() {
    let mut test = TestQueue::new();
    for _ in 0..5 {
        test.push(request("a", test.now), "a");
    }
    test.queue.set_maxima(3, 2);
    assert_eq!(test.queue.len(), 5);
    assert!(test.queue.push(request("a", test.now), "refused", test.now).is_err());
    assert!(test.queue.push(request("b", test.now), "refused", test.now).is_err());
    assert_eq!(test.names(3), ["a"; 3]);
    assert!(test.queue.push(request("a", test.now), "refused", test.now).is_err());
    test.push(request("b", test.now), "b");
    assert_eq!(test.names(3), ["b", "a", "a"]);
}

/// A queue in which so many callers without settings have a call that further callers share an entry.
fn crowded(max_per_caller: usize) -> TestQueue {
    let mut test = TestQueue::new();
    test.queue.set_maxima(1_000_000, max_per_caller);
    for n in 0..MAX_OWN_ENTRIES {
        test.push(request(&format!("own-{n}"), test.now), "own");
    }
    test
}

fn waiting_of(test: &TestQueue, caller: &str) -> usize {
    let callers = test.queue.snapshot().callers;
    callers
        .iter()
        .find(|found| *found.name == *caller)
        .map_or(0, |found| found.waiting)
}

#[test]
fn the_number_of_entries_does_not_grow_with_the_number_of_names() {
    let mut test = crowded(100_000);
    for n in 0..20_000 {
        test.push(request(&format!("more-{n}"), test.now), "more");
    }
    assert_eq!(waiting_of(&test, SHARED_ENTRY), 20_000);
    // Admission looks at each entry once for each cost.
    assert_eq!(test.queue.callers.iter().count(), MAX_OWN_ENTRIES + 1);
    assert_eq!(test.queue.callers.others(None).count(), MAX_OWN_ENTRIES + 1);
    // Callers with settings, callers with calls in an entry of their own, and leadgate itself do not share it.
    for caller in ["double", "own-7", INTERNAL_CALLER] {
        let before = waiting_of(&test, caller);
        test.push(request(caller, test.now), "own");
        assert_eq!(waiting_of(&test, caller), before + 1, "{caller}");
    }
    assert_eq!(waiting_of(&test, SHARED_ENTRY), 20_000);
}

#[test]
fn the_shared_entry_is_like_one_caller() {
    let mut test = crowded(3);
    for n in 0..3 {
        test.push(request(&format!("more-{n}"), test.now), "more");
    }
    let next = request("more-4", test.now);
    assert!(
        test.queue.push(next.clone(), "refused", test.now).is_err(),
        "its maximum"
    );
    let capped = CallerQuotas {
        others: quota(1, Some(1)),
        ..CallerQuotas::default()
    };
    test.queue.set_callers(capped, test.now);
    let round = test.names(MAX_OWN_ENTRIES + 2);
    assert_eq!(
        round.iter().filter(|name| **name == "more").count(),
        1,
        "its cap and its turn"
    );
    assert_eq!(round.last(), Some(&"none"));
    // The other entries are gone, so a caller gets an entry of its own again.
    test.push(next, "own entry");
    assert_eq!((waiting_of(&test, SHARED_ENTRY), waiting_of(&test, "more-4")), (2, 1));
    assert_eq!(test.name(&FREE), "own entry");
    test.now += W;
    assert_eq!(test.name(&FREE), "more");
}

#[test]
fn a_call_of_the_shared_entry_can_be_queued_again() {
    let mut test = crowded(3);
    let mut critical = request("more", test.now);
    critical.criticality = Criticality::Critical;
    test.push(critical, "more");
    let (receipt, name) = test.next(&FREE).unwrap();
    assert_eq!((name, waiting_of(&test, SHARED_ENTRY)), ("more", 0));
    test.queue.requeue(receipt, "again", test.now);
    assert_eq!(waiting_of(&test, SHARED_ENTRY), 1);
    assert_eq!(test.name(&FREE), "again");
}

#[test]
fn a_caller_that_gets_settings_leaves_the_shared_entry() {
    let mut test = crowded(100);
    test.push(request("more", test.now), "shared");
    let named = quotas([("more", quota(1, None)), ("own-1", quota(1, None))]);
    test.queue.set_callers(named, test.now);
    test.push(request("more", test.now), "own entry");
    assert_eq!((waiting_of(&test, SHARED_ENTRY), waiting_of(&test, "more")), (1, 1));
    // One of the callers with an entry of its own has settings now, so one more caller gets one.
    test.push(request("b", test.now), "b");
    test.push(request("c", test.now), "c");
    assert_eq!((waiting_of(&test, SHARED_ENTRY), waiting_of(&test, "b")), (2, 1));
    test.queue.set_callers(CallerQuotas::default(), test.now);
    assert_eq!(test.queue.drain().len(), MAX_OWN_ENTRIES + 4);
    test.push(request("d", test.now), "d");
    assert_eq!(waiting_of(&test, "d"), 1);
}

#[test]
fn a_reserved_position_is_kept_until_it_is_released() {
    let mut test = TestQueue::new();
    let key = WriteKey::of("1");
    let position = test.queue.reserve(vec![key, key]);
    test.push(write("b", 1, test.now), "later");
    assert_eq!(test.name(&FREE), "none");
    for call in ["first call", "second call"] {
        let request = TicketRequest {
            position: Some(position),
            ..write("a", 1, test.now)
        };
        test.push(request, call);
        assert_eq!(test.names(2), [call, "none"]);
    }
    test.queue.release(position);
    assert_eq!(test.names(2), ["later", "none"]);
    assert!(test.queue.key_queues.is_empty());
}

#[test]
fn a_write_waits_for_writes_that_are_linked_by_a_common_write() {
    let mut test = TestQueue::new();
    let (email, phone) = (WriteKey::of("1"), WriteKey::of("2"));
    let [both, by_phone, by_email] =
        [vec![email, phone], vec![phone], vec![email]].map(|keys| test.queue.reserve(keys));
    let at = |test: &TestQueue, position| TicketRequest {
        position: Some(position),
        ..write("a", 0, test.now)
    };
    for (position, name) in [(by_email, "by email"), (by_phone, "by phone"), (both, "both")] {
        let request = at(&test, position);
        test.push(request, name);
    }
    assert_eq!(test.names(2), ["both", "none"]);
    test.queue.release(both);
    assert_eq!(test.names(2), ["by phone", "none"]);
    test.queue.release(by_phone);
    assert_eq!(test.names(2), ["by email", "none"]);
}

#[test]
fn a_call_at_a_reserved_position_has_the_class_of_calls_behind_it() {
    let mut test = TestQueue::new();
    let key = WriteKey::of("1");
    let positions = [(); 3].map(|()| test.queue.reserve(vec![key]));
    let at = |test: &TestQueue, position: usize, criticality| TicketRequest {
        position: Some(positions[position]),
        criticality,
        ..write("a", 1, test.now)
    };
    // There is no ticket at the position between them yet.
    let urgent = at(&test, 2, Criticality::CriticalPlus);
    test.push(urgent, "urgent");
    let other = TicketRequest {
        criticality: Criticality::Critical,
        ..request("b", test.now)
    };
    test.push(other, "other");
    let first = at(&test, 0, Criticality::Sheddable);
    test.push(first, "first");
    assert_eq!(test.names(2), ["first", "other"]);
    test.queue.release(positions[0]);
    assert_eq!(test.name(&FREE), "none");
    test.queue.release(positions[1]);
    assert_eq!(test.names(2), ["urgent", "none"]);
}

proptest! {
    #[test]
    fn writes_of_one_key_are_granted_in_the_order_of_their_reservations(
        keys in proptest::collection::vec((0_u32..4, 0_u32..4, 0_usize..4), 1..60),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        const NAMES: [&str; 60] = ["w"; 60];
        let mut test = TestQueue::new();
        let reserve = |(at, (a, b, class)): (usize, &(u32, u32, usize))| {
            let position = test.queue.reserve(vec![WriteKey::of(&a.to_string()), WriteKey::of(&b.to_string())]);
            (at, position, [*a, *b], Criticality::ALL[*class])
        };
        let mut writes: Vec<_> = keys.iter().enumerate().map(reserve).collect();
        let (mut tickets, mut granted) = (HashMap::new(), vec![]);
        let mut turn = order.iter();
        while granted.len() < keys.len() {
            if !writes.is_empty() {
                let which = turn.next().map_or(0, |index| index.index(writes.len()));
                let (at, position, [a, b], criticality) = writes.swap_remove(which);
                let request = TicketRequest {
                    keys: vec![WriteKey::of(&a.to_string()), WriteKey::of(&b.to_string())],
                    position: Some(position),
                    criticality,
                    ..request("a", test.now)
                };
                tickets.insert(test.push(request, NAMES[at]), (at, position));
            }
            while let Some((receipt, _)) = test.next(&FREE) {
                let (at, position) = tickets[&receipt.id()];
                granted.push(at);
                test.queue.done(receipt);
                test.queue.release(position);
            }
        }
        for (later, at) in granted.iter().enumerate() {
            for earlier in &granted[later..] {
                let common = [keys[*at].0, keys[*at].1].iter().any(|key| [keys[*earlier].0, keys[*earlier].1].contains(key));
                prop_assert!(earlier >= at || !common, "{granted:?}");
            }
        }
    }
}

#[test]
fn a_higher_class_goes_first() {
    let mut test = TestQueue::new();
    for (criticality, name) in Criticality::ALL.into_iter().zip(["s", "s+", "c", "c+"]) {
        let request = TicketRequest {
            criticality,
            ..request("a", test.now)
        };
        test.push(request, name);
    }
    assert_eq!(test.names(5), ["c+", "c", "s+", "s", "none"]);
}

#[test]
fn the_twentieth_grant_is_that_of_the_lowest_class() {
    let mut test = TestQueue::new();
    for (criticality, name) in [(Criticality::Sheddable, "low"), (Criticality::CriticalPlus, "high")] {
        for _ in 0..40 {
            let request = TicketRequest {
                criticality,
                ..request("a", test.now)
            };
            test.push(request, name);
        }
    }
    let names = test.names(40);
    let low: Vec<_> = (1..=40).filter(|grant| names[grant - 1] == "low").collect();
    assert_eq!(low, [20, 40]);
}

#[test]
fn the_class_of_a_call_is_limited_by_its_caller() {
    let mut test = TestQueue::new();
    let high = |caller| TicketRequest {
        criticality: Criticality::CriticalPlus,
        ..request(caller, Instant::now())
    };
    test.push(high("humble"), "humble");
    test.push(high("other"), "other");
    assert_eq!(test.queue.snapshot().waiting, [0, 1, 0, 1]);
    assert_eq!(test.names(2), ["other", "humble"]);
}

#[test]
fn callers_take_turns_by_weight() {
    let mut test = TestQueue::new();
    for _ in 0..4 {
        test.push(request("single", test.now), "single");
        test.push(request("double", test.now), "double");
        test.push(request("double", test.now), "double");
    }
    let names = test.names(12);
    for turns in names.chunks(3) {
        assert_eq!(turns.iter().filter(|name| **name == "double").count(), 2, "{names:?}");
    }
}

#[test]
fn idle_time_earns_nothing() {
    let mut test = TestQueue::new();
    test.push(request("idler", test.now), "idler");
    assert_eq!(test.names(1), ["idler"]);
    for _ in 0..100 {
        test.push(request("worker", test.now), "worker");
    }
    test.names(50);
    for _ in 0..10 {
        test.push(request("idler", test.now), "idler");
    }
    let names = test.names(10);
    let idler = names.iter().filter(|name| **name == "idler").count();
    assert!((5..=6).contains(&idler), "{names:?}");
}

#[test]
fn one_ticket_at_a_time_earns_no_more_than_many_at_once() {
    let mut test = TestQueue::new();
    for _ in 0..100 {
        test.push(request("many", test.now), "many");
    }
    let mut one = 0;
    test.push(request("one", test.now), "one");
    for _ in 0..40 {
        if test.name(&FREE) == "one" {
            one += 1;
            test.push(request("one", test.now), "one");
        }
    }
    assert!((19..=21).contains(&one), "{one}");
}

#[test]
fn reads_go_by_deadline_and_take_turns_with_writes() {
    let mut test = TestQueue::new();
    let read = |seconds| TicketRequest {
        deadline: Instant::now() + Duration::from_secs(seconds),
        ..request("a", Instant::now())
    };
    test.push(read(30), "late");
    test.push(read(10), "early");
    test.push(read(20), "middle");
    test.push(write("a", 1, test.now), "first");
    test.push(write("a", 2, test.now), "second");
    assert_eq!(test.names(5), ["first", "early", "second", "middle", "late"]);
}

#[test]
fn a_write_waits_until_the_write_before_it_is_done_for_any_callers() {
    let mut test = TestQueue::new();
    test.push(write("a", 1, test.now), "first");
    let urgent = TicketRequest {
        criticality: Criticality::CriticalPlus,
        ..write("b", 1, test.now)
    };
    test.push(urgent, "second");
    let (receipt, name) = test.next(&FREE).unwrap();
    assert_eq!(name, "first");
    assert_eq!(test.name(&FREE), "none");
    test.queue.done(receipt);
    assert_eq!(test.name(&FREE), "second");
    assert!(test.queue.key_queues.is_empty());
}

#[test]
fn a_write_with_two_keys_waits_in_both_queues() {
    let mut test = TestQueue::new();
    test.push(write("a", 1, test.now), "one");
    test.push(write("a", 2, test.now), "two");
    let both = TicketRequest {
        keys: vec![WriteKey::of("2"), WriteKey::of("1"), WriteKey::of("2")],
        ..request("b", test.now)
    };
    test.push(both, "both");
    test.push(write("b", 2, test.now), "last");
    let (one, _) = test.next(&FREE).unwrap();
    let (two, _) = test.next(&FREE).unwrap();
    test.queue.done(two);
    assert_eq!(test.name(&FREE), "none");
    test.queue.done(one);
    assert_eq!(test.names(3), ["both", "last", "none"]);
}

#[test]
fn writes_ahead_of_an_urgent_write_get_its_class() {
    let mut test = TestQueue::new();
    test.push(request("a", test.now), "other");
    let low = |keys: &[u32]| TicketRequest {
        criticality: Criticality::Sheddable,
        keys: keys.iter().map(|key| WriteKey::of(&key.to_string())).collect(),
        ..request("a", Instant::now())
    };
    test.push(low(&[1]), "first");
    test.push(low(&[1, 2]), "second");
    let urgent = TicketRequest {
        criticality: Criticality::Critical,
        ..write("b", 2, test.now)
    };
    test.push(urgent, "urgent");
    assert_eq!(test.names(4), ["first", "second", "urgent", "other"]);
}

#[test]
fn a_removed_ticket_frees_its_keys() {
    let mut test = TestQueue::new();
    let first = test.push(write("a", 1, test.now), "first");
    test.push(write("b", 1, test.now), "second");
    assert_eq!(test.queue.remove(first), Some("first"));
    assert_eq!(test.queue.remove(first), None);
    assert_eq!(test.names(2), ["second", "none"]);
}

#[test]
fn a_bulk_ticket_without_a_bulk_slot_delays_no_other_ticket() {
    let mut test = TestQueue::new();
    let bulk = |caller| TicketRequest {
        cost: Cost::Bulk,
        ..request(caller, Instant::now())
    };
    test.push(bulk("a"), "bulk a");
    test.push(request("a", test.now), "call a");
    test.push(bulk("b"), "bulk b");
    assert_eq!(test.name(&NO_BULK), "call a");
    assert_eq!(test.name(&NO_BULK), "none");
    assert_eq!(test.names(2).concat().len(), "bulk abulk b".len());
}

#[test]
fn waiting_for_bulk_slots_earns_no_additional_ones() {
    let mut test = TestQueue::new();
    let bulk = |caller| TicketRequest {
        cost: Cost::Bulk,
        ..request(caller, Instant::now())
    };
    for _ in 0..1000 {
        test.push(bulk("patient"), "patient");
        test.push(bulk("busy"), "busy");
        test.push(request("busy", test.now), "call");
    }
    let mut patient = 0;
    for grant in 0..400 {
        let supply = if grant % 4 == 0 { FREE } else { NO_BULK };
        if test.name(&supply) == "patient" {
            patient += 1;
        }
    }
    assert!((45..=55).contains(&patient), "{patient} of 100 bulk slots");
}

#[test]
fn a_caller_at_its_cap_waits_for_its_own_window() {
    let mut test = TestQueue::new();
    for _ in 0..5 {
        test.push(request("capped", test.now), "capped");
    }
    test.push(request("other", test.now), "other");
    let mut names = test.names(5);
    names.sort_unstable();
    assert_eq!(names, ["capped", "capped", "capped", "none", "other"]);
    assert_eq!(test.queue.next_wake(), Some(test.now + W));
    test.now += W;
    assert_eq!(test.names(3), ["capped", "capped", "none"]);
}

#[test]
fn a_requeued_ticket_goes_first_in_its_class_and_is_charged_once() {
    let mut test = TestQueue::new();
    for _ in 0..3 {
        test.push(request("capped", test.now), "capped");
    }
    test.names(2);
    let (receipt, _) = test.next(&FREE).unwrap();
    test.push(request("other", test.now), "other");
    test.queue.requeue(receipt, "again", test.now);
    let urgent = TicketRequest {
        criticality: Criticality::Critical,
        ..request("other", test.now)
    };
    test.push(urgent, "urgent");
    assert_eq!(test.names(3), ["urgent", "again", "other"]);
}

#[test]
fn a_requeued_write_keeps_its_position_and_gets_the_class_of_writes_behind_it() {
    let mut test = TestQueue::new();
    test.push(write("a", 1, test.now), "first");
    let (receipt, _) = test.next(&FREE).unwrap();
    let urgent = TicketRequest {
        criticality: Criticality::Critical,
        ..write("b", 1, test.now)
    };
    test.push(urgent, "second");
    test.queue.requeue(receipt, "first again", test.now);
    assert_eq!(test.queue.snapshot().waiting, [0, 0, 2, 0]);
    assert_eq!(test.names(3), ["first again", "second", "none"]);
}

#[test]
fn an_expired_ticket_is_returned_and_costs_no_slot() {
    let mut test = TestQueue::new();
    let short = TicketRequest {
        deadline: test.now + ms(10),
        ..write("a", 1, test.now)
    };
    let id = test.push(short, "short");
    test.push(write("a", 1, test.now), "long");
    assert_eq!(test.queue.next_wake(), Some(test.now + ms(10)));
    test.now += ms(10);
    assert!(matches!(test.queue.next(&FREE, test.now), NextTicket::Expired(dead, "short", _) if dead == id));
    assert_eq!(test.names(2), ["long", "none"]);
}

#[test]
fn a_full_queue_drops_the_newest_ticket_of_the_lowest_class() {
    let mut test = TestQueue::new();
    test.queue.settings.max_waiting = 3;
    let low = |caller| TicketRequest {
        criticality: Criticality::Sheddable,
        ..request(caller, Instant::now())
    };
    test.push(low("a"), "old");
    let new = test.push(low("b"), "new");
    test.push(request("a", test.now), "middle");
    assert_eq!(test.queue.push(low("c"), "newcomer", test.now).unwrap_err(), "newcomer");
    let pushed = test.queue.push(request("c", test.now), "better", test.now).unwrap();
    assert_eq!(pushed.dropped, Some((new, "new")));
    assert_eq!(test.queue.len(), 3);
}

#[test]
fn a_caller_at_its_maximum_loses_its_own_tickets() {
    let mut test = TestQueue::new();
    test.queue.settings.max_per_caller = 2;
    let low = |caller| TicketRequest {
        criticality: Criticality::Sheddable,
        ..request(caller, Instant::now())
    };
    test.push(low("other"), "other");
    test.push(low("a"), "old");
    let new = test.push(low("a"), "new");
    let pushed = test.queue.push(request("a", test.now), "better", test.now).unwrap();
    assert_eq!(pushed.dropped, Some((new, "new")));
    assert_eq!(test.queue.push(low("a"), "newcomer", test.now).unwrap_err(), "newcomer");
}

#[test]
fn a_ticket_becomes_a_batch_member_if_its_keys_are_free() {
    let mut test = TestQueue::new();
    test.push(batchable_write("a", 1, test.now), "driver");
    test.push(batchable_write("b", 2, test.now), "member");
    test.push(batchable_write("b", 1, test.now), "twin");
    test.push(write("b", 3, test.now), "alone");
    let (driver, _) = test.next(&FREE).unwrap();
    assert!(test.queue.take_member(Lane::Creates).is_none());
    let (riding, name) = test.queue.take_member(Lane::Updates).unwrap();
    assert_eq!(name, "member");
    assert!(test.queue.take_member(Lane::Updates).is_none());
    assert_eq!(test.names(1), ["alone"]);
    test.queue.done(riding);
    test.queue.done(driver);
    assert_eq!(test.names(2), ["twin", "none"]);
}

#[test]
fn batch_members_are_taken_by_class_and_then_from_callers_in_turns_by_weight() {
    let mut test = TestQueue::new();
    for (key, name) in ["a1", "a2", "a3"].into_iter().enumerate() {
        test.push(batchable_write("a", key as u32, test.now), name);
    }
    for (key, name) in ["d1", "d2", "d3"].into_iter().enumerate() {
        test.push(batchable_write("double", 10 + key as u32, test.now), name);
    }
    let urgent = TicketRequest {
        criticality: Criticality::Critical,
        ..batchable_write("late", 20, test.now)
    };
    test.push(urgent, "urgent");
    let mut names = Vec::new();
    while let Some((receipt, name)) = test.queue.take_member(Lane::Updates) {
        test.queue.done(receipt);
        names.push(name);
    }
    assert_eq!(names, ["urgent", "d1", "d2", "a1", "d3", "a2", "a3"]);
}

#[test]
fn gathering_tickets_are_granted_after_the_delay_and_can_be_removed_before() {
    let mut test = TestQueue::new();
    let ids: Vec<_> = (0..3)
        .map(|key| test.push(batchable_write("a", key, test.now), "gathering"))
        .collect();
    ids.iter().for_each(|id| test.queue.start_gathering(*id));
    assert_eq!(test.names(1), ["none"]);
    assert!(test.queue.take_member(Lane::Updates).is_none());
    assert_eq!(test.queue.remove(ids[1]), Some("gathering"));
    test.push(batchable_write("a", 9, test.now), "late");
    test.queue.end_gathering(Lane::Updates);
    assert!(!test.queue.is_gathering(Lane::Updates));
    assert_eq!(test.names(4), ["gathering", "gathering", "late", "none"]);
}

#[test]
fn a_gathering_write_delays_later_writes_to_its_keys() {
    let mut test = TestQueue::new();
    let first = test.push(batchable_write("a", 1, test.now), "first");
    test.queue.start_gathering(first);
    test.push(write("b", 1, test.now), "second");
    assert_eq!(test.names(1), ["none"]);
    test.queue.end_gathering(Lane::Updates);
    assert_eq!(test.names(2), ["first", "second"]);
}

#[test]
fn a_requeued_ticket_without_a_lane_becomes_no_batch_member() {
    let mut test = TestQueue::new();
    test.push(batchable_write("a", 1, test.now), "refused");
    let (mut receipt, name) = test.next(&FREE).unwrap();
    receipt.set_lane(None);
    test.queue.requeue(receipt, name, test.now);
    assert!(test.queue.take_member(Lane::Updates).is_none());
    assert_eq!(test.names(1), ["refused"]);
}

#[test]
fn a_ticket_of_a_caller_at_its_cap_becomes_a_batch_member() {
    let mut test = TestQueue::new();
    for key in 0..5 {
        test.push(batchable_write("capped", key, test.now), "capped");
    }
    assert_eq!(test.names(4), ["capped", "capped", "capped", "none"]);
    assert!(test.queue.take_member(Lane::Updates).is_some());
}

#[test]
fn the_snapshot_has_the_waiting_tickets_and_their_ages() {
    let mut test = TestQueue::new();
    let begin = test.now;
    test.push(request("b", test.now), "");
    test.now += ms(5);
    test.push(request("a", test.now), "");
    test.push(request("b", test.now), "");
    let snapshot = test.queue.snapshot();
    assert_eq!(snapshot.waiting, [0, 3, 0, 0]);
    assert_eq!(snapshot.oldest, [None, Some(begin), None, None]);
    let expected = [("a", 1, begin + ms(5)), ("b", 2, begin)].map(|(name, waiting, oldest)| CallerSnapshot {
        name: name.into(),
        waiting,
        oldest: Some(oldest),
    });
    assert_eq!(snapshot.callers, expected);
}

#[test]
fn idle_callers_are_removed() {
    let mut test = TestQueue::new();
    for caller in 0..10_000 {
        test.push(request(&format!("caller {caller}"), test.now), "");
        test.names(1);
    }
    assert!(test.queue.callers.iter().count() <= 64);
}
