//! The queue from outside: one behaviour each. What holds for any history is in `model`, what holds over time in
//! `traffic`.

mod admission;
mod model;
mod traffic;

use proptest::prelude::*;

use super::*;

const W: Duration = Duration::from_secs(5);
const FREE: Supply = Supply {
    calls: Slots { limit: 25, free: 25 },
    bulk: Slots { limit: 10, free: 10 },
    window: W,
    too_early: Duration::ZERO,
};
const NO_BULK: Supply = Supply {
    bulk: Slots { limit: 10, free: 0 },
    ..FREE
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings() -> QueueSettings {
    let share = |weight, calls_per_window, max_criticality| Share {
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
        callers: callers.map(|(name, share)| (name.into(), share)).into(),
        others: Share::default(),
        sizes: Sizes::default(),
    }
}

fn ask(caller: &str, now: Instant) -> Ask {
    Ask {
        caller: caller.into(),
        criticality: Criticality::SheddablePlus,
        cost: Cost::Call,
        keys: Vec::new(),
        position: None,
        deadline: now + Duration::from_secs(3600),
        lane: None,
    }
}

fn write(caller: &str, key: u32, now: Instant) -> Ask {
    Ask {
        keys: vec![Key::of(&key)],
        ..ask(caller, now)
    }
}

/// A write that can travel together with others.
fn rider(caller: &str, key: u32, now: Instant) -> Ask {
    Ask {
        lane: Some(Lane::Updates),
        ..write(caller, key, now)
    }
}

/// A queue whose payloads name the tickets.
struct Desk {
    queue: Queue<&'static str>,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        Self {
            queue: Queue::new(settings()),
            now: Instant::now(),
        }
    }

    fn push(&mut self, ask: Ask, name: &'static str) -> TicketId {
        let pushed = self.queue.push(ask, name, self.now).unwrap();
        assert!(pushed.dropped.is_none());
        pushed.id
    }

    fn next(&mut self, supply: &Supply) -> Option<(Receipt, &'static str)> {
        match self.queue.next(supply, self.now) {
            Next::Granted(receipt, name) => Some((receipt, name)),
            Next::Dead(_, name, _) => panic!("{name} is dead"),
            Next::Nobody => None,
        }
    }

    fn name(&mut self, supply: &Supply) -> &'static str {
        self.next(supply).map_or("nobody", |(receipt, name)| {
            self.queue.done(receipt);
            name
        })
    }

    fn names(&mut self, count: usize) -> Vec<&'static str> {
        (0..count).map(|_| self.name(&FREE)).collect()
    }
}

#[test]
fn a_reserved_position_is_kept_until_it_is_released() {
    let mut desk = Desk::new();
    let key = Key::of(&1_u32);
    let position = desk.queue.reserve(vec![key, key]);
    desk.push(write("b", 1, desk.now), "later");
    assert_eq!(desk.name(&FREE), "nobody");
    for call in ["first call", "second call"] {
        let ask = Ask {
            position: Some(position),
            ..write("a", 1, desk.now)
        };
        desk.push(ask, call);
        assert_eq!(desk.names(2), [call, "nobody"]);
    }
    desk.queue.release(position);
    assert_eq!(desk.names(2), ["later", "nobody"]);
    assert!(desk.queue.lines.is_empty());
}

#[test]
fn a_write_waits_for_writes_that_share_a_key_with_one_that_shares_a_key() {
    let mut desk = Desk::new();
    let (email, phone) = (Key::of(&1_u32), Key::of(&2_u32));
    let [both, by_phone, by_email] =
        [vec![email, phone], vec![phone], vec![email]].map(|keys| desk.queue.reserve(keys));
    let at = |desk: &Desk, position| Ask {
        position: Some(position),
        ..write("a", 0, desk.now)
    };
    for (position, name) in [(by_email, "by email"), (by_phone, "by phone"), (both, "both")] {
        let ask = at(&desk, position);
        desk.push(ask, name);
    }
    assert_eq!(desk.names(2), ["both", "nobody"]);
    desk.queue.release(both);
    assert_eq!(desk.names(2), ["by phone", "nobody"]);
    desk.queue.release(by_phone);
    assert_eq!(desk.names(2), ["by email", "nobody"]);
}

#[test]
fn a_call_at_a_reserved_position_has_the_class_of_those_behind_it() {
    let mut desk = Desk::new();
    let key = Key::of(&1_u32);
    let positions = [(); 3].map(|()| desk.queue.reserve(vec![key]));
    let at = |desk: &Desk, position: usize, criticality| Ask {
        position: Some(positions[position]),
        criticality,
        ..write("a", 1, desk.now)
    };
    // The one between them has not come yet.
    let urgent = at(&desk, 2, Criticality::CriticalPlus);
    desk.push(urgent, "urgent");
    let other = Ask {
        criticality: Criticality::Critical,
        ..ask("b", desk.now)
    };
    desk.push(other, "other");
    let first = at(&desk, 0, Criticality::Sheddable);
    desk.push(first, "first");
    assert_eq!(desk.names(2), ["first", "other"]);
    desk.queue.release(positions[0]);
    assert_eq!(desk.name(&FREE), "nobody");
    desk.queue.release(positions[1]);
    assert_eq!(desk.names(2), ["urgent", "nobody"]);
}

proptest! {
    #[test]
    fn writes_of_one_key_are_granted_in_the_order_of_their_reservations(
        keys in proptest::collection::vec((0_u32..4, 0_u32..4, 0_usize..4), 1..60),
        board in proptest::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        const NAMES: [&str; 60] = ["w"; 60];
        let mut desk = Desk::new();
        let reserve = |(at, (a, b, class)): (usize, &(u32, u32, usize))| {
            let position = desk.queue.reserve(vec![Key::of(a), Key::of(b)]);
            (at, position, [*a, *b], Criticality::ALL[*class])
        };
        let mut writes: Vec<_> = keys.iter().enumerate().map(reserve).collect();
        let (mut boarded, mut granted) = (HashMap::new(), vec![]);
        let mut turn = board.iter();
        while granted.len() < keys.len() {
            if !writes.is_empty() {
                let which = turn.next().map_or(0, |index| index.index(writes.len()));
                let (at, position, [a, b], criticality) = writes.swap_remove(which);
                let ask = Ask {
                    keys: vec![Key::of(&a), Key::of(&b)],
                    position: Some(position),
                    criticality,
                    ..ask("a", desk.now)
                };
                boarded.insert(desk.push(ask, NAMES[at]), (at, position));
            }
            while let Some((receipt, _)) = desk.next(&FREE) {
                let (at, position) = boarded[&receipt.id()];
                granted.push(at);
                desk.queue.done(receipt);
                desk.queue.release(position);
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
    let mut desk = Desk::new();
    for (criticality, name) in Criticality::ALL.into_iter().zip(["s", "s+", "c", "c+"]) {
        let ask = Ask {
            criticality,
            ..ask("a", desk.now)
        };
        desk.push(ask, name);
    }
    assert_eq!(desk.names(5), ["c+", "c", "s+", "s", "nobody"]);
}

#[test]
fn the_twentieth_grant_is_that_of_the_lowest_class() {
    let mut desk = Desk::new();
    for (criticality, name) in [(Criticality::Sheddable, "low"), (Criticality::CriticalPlus, "high")] {
        for _ in 0..40 {
            let ask = Ask {
                criticality,
                ..ask("a", desk.now)
            };
            desk.push(ask, name);
        }
    }
    let names = desk.names(40);
    let low: Vec<_> = (1..=40).filter(|grant| names[grant - 1] == "low").collect();
    assert_eq!(low, [20, 40]);
}

#[test]
fn a_caller_asks_no_higher_than_it_may() {
    let mut desk = Desk::new();
    let high = |caller| Ask {
        criticality: Criticality::CriticalPlus,
        ..ask(caller, Instant::now())
    };
    desk.push(high("humble"), "humble");
    desk.push(high("other"), "other");
    assert_eq!(desk.queue.snapshot().waiting, [0, 1, 0, 1]);
    assert_eq!(desk.names(2), ["other", "humble"]);
}

#[test]
fn callers_take_turns_by_weight() {
    let mut desk = Desk::new();
    for _ in 0..4 {
        desk.push(ask("single", desk.now), "single");
        desk.push(ask("double", desk.now), "double");
        desk.push(ask("double", desk.now), "double");
    }
    let names = desk.names(12);
    for turns in names.chunks(3) {
        assert_eq!(turns.iter().filter(|name| **name == "double").count(), 2, "{names:?}");
    }
}

#[test]
fn idle_time_earns_nothing() {
    let mut desk = Desk::new();
    desk.push(ask("idler", desk.now), "idler");
    assert_eq!(desk.names(1), ["idler"]);
    for _ in 0..100 {
        desk.push(ask("worker", desk.now), "worker");
    }
    desk.names(50);
    for _ in 0..10 {
        desk.push(ask("idler", desk.now), "idler");
    }
    let names = desk.names(10);
    let idler = names.iter().filter(|name| **name == "idler").count();
    assert!((5..=6).contains(&idler), "{names:?}");
}

#[test]
fn one_ticket_at_a_time_earns_no_more_than_many_at_once() {
    let mut desk = Desk::new();
    for _ in 0..100 {
        desk.push(ask("many", desk.now), "many");
    }
    let mut one = 0;
    desk.push(ask("one", desk.now), "one");
    for _ in 0..40 {
        if desk.name(&FREE) == "one" {
            one += 1;
            desk.push(ask("one", desk.now), "one");
        }
    }
    assert!((19..=21).contains(&one), "{one}");
}

#[test]
fn reads_go_by_deadline_and_take_turns_with_writes() {
    let mut desk = Desk::new();
    let read = |seconds| Ask {
        deadline: Instant::now() + Duration::from_secs(seconds),
        ..ask("a", Instant::now())
    };
    desk.push(read(30), "late");
    desk.push(read(10), "early");
    desk.push(read(20), "middle");
    desk.push(write("a", 1, desk.now), "first");
    desk.push(write("a", 2, desk.now), "second");
    assert_eq!(desk.names(5), ["first", "early", "second", "middle", "late"]);
}

#[test]
fn a_write_waits_until_the_one_before_it_is_done_whoever_sent_it() {
    let mut desk = Desk::new();
    desk.push(write("a", 1, desk.now), "first");
    let urgent = Ask {
        criticality: Criticality::CriticalPlus,
        ..write("b", 1, desk.now)
    };
    desk.push(urgent, "second");
    let (receipt, name) = desk.next(&FREE).unwrap();
    assert_eq!(name, "first");
    assert_eq!(desk.name(&FREE), "nobody");
    desk.queue.done(receipt);
    assert_eq!(desk.name(&FREE), "second");
    assert!(desk.queue.lines.is_empty());
}

#[test]
fn a_write_with_two_keys_waits_in_both_lines() {
    let mut desk = Desk::new();
    desk.push(write("a", 1, desk.now), "one");
    desk.push(write("a", 2, desk.now), "two");
    let both = Ask {
        keys: vec![Key::of(&2_u32), Key::of(&1_u32), Key::of(&2_u32)],
        ..ask("b", desk.now)
    };
    desk.push(both, "both");
    desk.push(write("b", 2, desk.now), "last");
    let (one, _) = desk.next(&FREE).unwrap();
    let (two, _) = desk.next(&FREE).unwrap();
    desk.queue.done(two);
    assert_eq!(desk.name(&FREE), "nobody");
    desk.queue.done(one);
    assert_eq!(desk.names(3), ["both", "last", "nobody"]);
}

#[test]
fn whoever_an_urgent_write_waits_for_becomes_urgent_too() {
    let mut desk = Desk::new();
    desk.push(ask("a", desk.now), "other");
    let low = |keys: &[u32]| Ask {
        criticality: Criticality::Sheddable,
        keys: keys.iter().map(Key::of).collect(),
        ..ask("a", Instant::now())
    };
    desk.push(low(&[1]), "first");
    desk.push(low(&[1, 2]), "second");
    let urgent = Ask {
        criticality: Criticality::Critical,
        ..write("b", 2, desk.now)
    };
    desk.push(urgent, "urgent");
    assert_eq!(desk.names(4), ["first", "second", "urgent", "other"]);
}

#[test]
fn a_leaver_frees_its_line() {
    let mut desk = Desk::new();
    let first = desk.push(write("a", 1, desk.now), "first");
    desk.push(write("b", 1, desk.now), "second");
    assert_eq!(desk.queue.remove(first), Some("first"));
    assert_eq!(desk.queue.remove(first), None);
    assert_eq!(desk.names(2), ["second", "nobody"]);
}

#[test]
fn a_bulk_ticket_without_a_bulk_slot_holds_up_nobody() {
    let mut desk = Desk::new();
    let bulk = |caller| Ask {
        cost: Cost::Bulk,
        ..ask(caller, Instant::now())
    };
    desk.push(bulk("a"), "bulk a");
    desk.push(ask("a", desk.now), "call a");
    desk.push(bulk("b"), "bulk b");
    assert_eq!(desk.name(&NO_BULK), "call a");
    assert_eq!(desk.name(&NO_BULK), "nobody");
    assert_eq!(desk.names(2).concat().len(), "bulk abulk b".len());
}

#[test]
fn waiting_for_bulk_slots_earns_no_more_of_them() {
    let mut desk = Desk::new();
    let bulk = |caller| Ask {
        cost: Cost::Bulk,
        ..ask(caller, Instant::now())
    };
    for _ in 0..1000 {
        desk.push(bulk("patient"), "patient");
        desk.push(bulk("busy"), "busy");
        desk.push(ask("busy", desk.now), "call");
    }
    let mut patient = 0;
    for grant in 0..400 {
        let supply = if grant % 4 == 0 { FREE } else { NO_BULK };
        if desk.name(&supply) == "patient" {
            patient += 1;
        }
    }
    assert!((45..=55).contains(&patient), "{patient} of 100 bulk slots");
}

#[test]
fn a_caller_at_its_cap_waits_for_its_own_window() {
    let mut desk = Desk::new();
    for _ in 0..5 {
        desk.push(ask("capped", desk.now), "capped");
    }
    desk.push(ask("other", desk.now), "other");
    let mut names = desk.names(5);
    names.sort_unstable();
    assert_eq!(names, ["capped", "capped", "capped", "nobody", "other"]);
    assert_eq!(desk.queue.next_wake(), Some(desk.now + W));
    desk.now += W;
    assert_eq!(desk.names(3), ["capped", "capped", "nobody"]);
}

#[test]
fn a_refused_ticket_goes_first_in_its_class_and_pays_once() {
    let mut desk = Desk::new();
    for _ in 0..3 {
        desk.push(ask("capped", desk.now), "capped");
    }
    desk.names(2);
    let (receipt, _) = desk.next(&FREE).unwrap();
    desk.push(ask("other", desk.now), "other");
    desk.queue.put_back(receipt, "again", desk.now);
    let urgent = Ask {
        criticality: Criticality::Critical,
        ..ask("other", desk.now)
    };
    desk.push(urgent, "urgent");
    assert_eq!(desk.names(3), ["urgent", "again", "other"]);
}

#[test]
fn a_refused_write_keeps_its_line_and_takes_the_class_of_those_behind() {
    let mut desk = Desk::new();
    desk.push(write("a", 1, desk.now), "first");
    let (receipt, _) = desk.next(&FREE).unwrap();
    let urgent = Ask {
        criticality: Criticality::Critical,
        ..write("b", 1, desk.now)
    };
    desk.push(urgent, "second");
    desk.queue.put_back(receipt, "first again", desk.now);
    assert_eq!(desk.queue.snapshot().waiting, [0, 0, 2, 0]);
    assert_eq!(desk.names(3), ["first again", "second", "nobody"]);
}

#[test]
fn a_dead_ticket_is_handed_back_and_costs_no_slot() {
    let mut desk = Desk::new();
    let short = Ask {
        deadline: desk.now + ms(10),
        ..write("a", 1, desk.now)
    };
    let id = desk.push(short, "short");
    desk.push(write("a", 1, desk.now), "long");
    assert_eq!(desk.queue.next_wake(), Some(desk.now + ms(10)));
    desk.now += ms(10);
    assert!(matches!(desk.queue.next(&FREE, desk.now), Next::Dead(dead, "short", _) if dead == id));
    assert_eq!(desk.names(2), ["long", "nobody"]);
}

#[test]
fn overflow_drops_the_newest_of_the_lowest_class() {
    let mut desk = Desk::new();
    desk.queue.settings.max_waiting = 3;
    let low = |caller| Ask {
        criticality: Criticality::Sheddable,
        ..ask(caller, Instant::now())
    };
    desk.push(low("a"), "old");
    let new = desk.push(low("b"), "new");
    desk.push(ask("a", desk.now), "middle");
    assert_eq!(desk.queue.push(low("c"), "newcomer", desk.now).unwrap_err(), "newcomer");
    let pushed = desk.queue.push(ask("c", desk.now), "better", desk.now).unwrap();
    assert_eq!(pushed.dropped, Some((new, "new")));
    assert_eq!(desk.queue.len(), 3);
}

#[test]
fn a_caller_with_too_many_pays_with_its_own() {
    let mut desk = Desk::new();
    desk.queue.settings.max_per_caller = 2;
    let low = |caller| Ask {
        criticality: Criticality::Sheddable,
        ..ask(caller, Instant::now())
    };
    desk.push(low("other"), "other");
    desk.push(low("a"), "old");
    let new = desk.push(low("a"), "new");
    let pushed = desk.queue.push(ask("a", desk.now), "better", desk.now).unwrap();
    assert_eq!(pushed.dropped, Some((new, "new")));
    assert_eq!(desk.queue.push(low("a"), "newcomer", desk.now).unwrap_err(), "newcomer");
}

#[test]
fn a_ticket_rides_along_if_its_keys_let_it() {
    let mut desk = Desk::new();
    desk.push(rider("a", 1, desk.now), "driver");
    desk.push(rider("b", 2, desk.now), "rider");
    desk.push(rider("b", 1, desk.now), "twin");
    desk.push(write("b", 3, desk.now), "goes alone");
    let (driver, _) = desk.next(&FREE).unwrap();
    assert!(desk.queue.take_along(Lane::Creates).is_none());
    let (riding, name) = desk.queue.take_along(Lane::Updates).unwrap();
    assert_eq!(name, "rider");
    assert!(desk.queue.take_along(Lane::Updates).is_none());
    assert_eq!(desk.names(1), ["goes alone"]);
    desk.queue.done(riding);
    desk.queue.done(driver);
    assert_eq!(desk.names(2), ["twin", "nobody"]);
}

#[test]
fn riders_are_taken_by_class_and_then_from_callers_in_turns_by_weight() {
    let mut desk = Desk::new();
    for (key, name) in ["a1", "a2", "a3"].into_iter().enumerate() {
        desk.push(rider("a", key as u32, desk.now), name);
    }
    for (key, name) in ["d1", "d2", "d3"].into_iter().enumerate() {
        desk.push(rider("double", 10 + key as u32, desk.now), name);
    }
    let urgent = Ask {
        criticality: Criticality::Critical,
        ..rider("late", 20, desk.now)
    };
    desk.push(urgent, "urgent");
    let mut names = Vec::new();
    while let Some((receipt, name)) = desk.queue.take_along(Lane::Updates) {
        desk.queue.done(receipt);
        names.push(name);
    }
    assert_eq!(names, ["urgent", "d1", "d2", "a1", "d3", "a2", "a3"]);
}

#[test]
fn who_is_parked_goes_only_once_it_is_let_and_may_leave_meanwhile() {
    let mut desk = Desk::new();
    let ids: Vec<_> = (0..3)
        .map(|key| desk.push(rider("a", key, desk.now), "parked"))
        .collect();
    ids.iter().for_each(|id| desk.queue.park(*id));
    assert_eq!(desk.names(1), ["nobody"]);
    assert!(desk.queue.take_along(Lane::Updates).is_none());
    assert_eq!(desk.queue.remove(ids[1]), Some("parked"));
    desk.push(rider("a", 9, desk.now), "late");
    desk.queue.unpark(Lane::Updates);
    assert!(!desk.queue.has_parked(Lane::Updates));
    assert_eq!(desk.names(4), ["parked", "parked", "late", "nobody"]);
}

#[test]
fn a_parked_write_still_keeps_those_behind_it_waiting() {
    let mut desk = Desk::new();
    let first = desk.push(rider("a", 1, desk.now), "first");
    desk.queue.park(first);
    desk.push(write("b", 1, desk.now), "second");
    assert_eq!(desk.names(1), ["nobody"]);
    desk.queue.unpark(Lane::Updates);
    assert_eq!(desk.names(2), ["first", "second"]);
}

#[test]
fn who_is_to_go_alone_from_now_on_is_not_taken_along_again() {
    let mut desk = Desk::new();
    desk.push(rider("a", 1, desk.now), "refused");
    let (mut receipt, name) = desk.next(&FREE).unwrap();
    receipt.ride(None);
    desk.queue.put_back(receipt, name, desk.now);
    assert!(desk.queue.take_along(Lane::Updates).is_none());
    assert_eq!(desk.names(1), ["refused"]);
}

#[test]
fn a_caller_at_its_cap_still_rides_along() {
    let mut desk = Desk::new();
    for key in 0..5 {
        desk.push(rider("capped", key, desk.now), "capped");
    }
    assert_eq!(desk.names(4), ["capped", "capped", "capped", "nobody"]);
    assert!(desk.queue.take_along(Lane::Updates).is_some());
}

#[test]
fn the_snapshot_tells_what_waits_and_since_when() {
    let mut desk = Desk::new();
    let begin = desk.now;
    desk.push(ask("b", desk.now), "");
    desk.now += ms(5);
    desk.push(ask("a", desk.now), "");
    desk.push(ask("b", desk.now), "");
    let snapshot = desk.queue.snapshot();
    assert_eq!(snapshot.waiting, [0, 3, 0, 0]);
    assert_eq!(snapshot.oldest, [None, Some(begin), None, None]);
    assert_eq!(snapshot.callers, [("a".into(), 1), ("b".into(), 2)]);
}

#[test]
fn callers_without_anything_here_are_forgotten() {
    let mut desk = Desk::new();
    for caller in 0..10_000 {
        desk.push(ask(&format!("caller {caller}"), desk.now), "");
        desk.names(1);
    }
    assert!(desk.queue.callers.iter().count() <= 64);
}
