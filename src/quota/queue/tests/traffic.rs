//! Shares over time: slots that fall free a window after their grant, and classes and callers that want more than there
//! is.

use super::*;
use proptest::prelude::*;

/// N slots, each held for exactly a window.
struct Road {
    queue: Queue<usize>,
    now: Instant,
    limit: usize,
    held: Vec<Instant>,
    /// The classes of the grants, in their order.
    granted: Vec<Criticality>,
    /// How long each granted upper ticket waited.
    waits: Vec<Duration>,
}

impl Road {
    fn new(limit: usize) -> Self {
        Self {
            queue: Queue::new(settings()),
            now: Instant::now(),
            limit,
            held: Vec::new(),
            granted: Vec::new(),
            waits: Vec::new(),
        }
    }

    fn push(&mut self, caller: &str, criticality: Criticality) {
        let ask = Ask {
            criticality,
            ..ask(caller, self.now)
        };
        self.queue.push(ask, 0, self.now).unwrap();
    }

    /// Keeps a class waiting.
    fn fill(&mut self, criticality: Criticality) {
        while self.queue.snapshot().waiting[criticality as usize] < 2 * self.limit {
            self.push("filler", criticality);
        }
    }

    fn go(&mut self) {
        self.held.retain(|until| *until > self.now);
        loop {
            let calls = Slots {
                limit: self.limit,
                free: self.limit - self.held.len(),
            };
            match self.queue.next(&Supply { calls, ..FREE }, self.now) {
                Next::Granted(receipt, _) => {
                    self.held.push(self.now + W);
                    self.granted.push(receipt.criticality());
                    if receipt.criticality() >= Criticality::Critical {
                        self.waits.push(self.now - receipt.since);
                    }
                    self.queue.done(receipt);
                }
                Next::Dead(..) => {}
                Next::Nobody => return,
            }
        }
    }

    fn count(&self, criticality: Criticality) -> usize {
        self.granted.iter().filter(|class| **class == criticality).count()
    }
}

#[test]
fn sheddable_work_alone_uses_every_slot() {
    let mut road = Road::new(25);
    for _ in 0..10 {
        road.fill(Criticality::Sheddable);
        road.go();
        assert_eq!(road.held.len(), 25);
        road.now += W;
    }
}

#[test]
fn what_critical_work_does_not_ask_for_is_lent_again_after_some_windows() {
    let mut road = Road::new(25);
    for _ in 0..5 {
        road.push("a", Criticality::Critical);
    }
    for window in 0..10 {
        road.fill(Criticality::Sheddable);
        road.go();
        let expected = if (1..=4).contains(&window) { 20 } else { 25 };
        assert_eq!(road.held.len(), expected, "window {window}");
        road.now += W;
    }
}

#[test]
fn a_flood_of_critical_work_over_slots_that_come_one_by_one_leaves_the_lowest_its_twentieth() {
    let mut road = Road::new(25);
    for slot in 1..=25 {
        road.held.push(road.now + W / 25 * slot);
    }
    for _ in 0..1_000 {
        road.fill(Criticality::Critical);
        road.fill(Criticality::Sheddable);
        road.go();
        road.now += W / 25;
    }
    assert_eq!(road.count(Criticality::Sheddable), 999 / 20);
}

#[test]
fn critical_work_at_odd_times_waits_for_nothing_once_it_is_known() {
    let mut road = Road::new(25);
    for tick in 0..2_000_u64 {
        road.fill(Criticality::SheddablePlus);
        // Four in a window, never in the same place of it.
        if tick % 13 == 0 {
            road.push("a", Criticality::Critical);
        }
        road.go();
        if tick == 100 {
            road.waits.clear();
        }
        road.now += ms(100);
    }
    assert!(road.waits.iter().all(Duration::is_zero), "{:?}", road.waits);
}

#[test]
fn one_critical_call_keeps_one_slot_and_no_more() {
    let mut road = Road::new(25);
    road.push("a", Criticality::Critical);
    road.go();
    road.now += W;
    road.fill(Criticality::Sheddable);
    road.go();
    assert_eq!(road.held.len(), 24);
}

#[test]
fn the_lower_two_classes_have_a_twentieth_each_whatever_waits_above() {
    let mut road = Road::new(25);
    for _ in 0..40 {
        road.fill(Criticality::CriticalPlus);
        road.fill(Criticality::SheddablePlus);
        road.fill(Criticality::Sheddable);
        road.go();
        road.now += W;
    }
    assert_eq!(road.granted.len(), 1000);
    assert!((49..=50).contains(&road.count(Criticality::Sheddable)));
    assert!((49..=50).contains(&road.count(Criticality::SheddablePlus)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// While critical work asks for no more than it did, and for no more than its fifth, the slots kept for it are
    /// free, however much else waits, so it never waits longer than at first; nothing else is left unused; and the
    /// lowest class has its twentieth.
    #[test]
    fn what_is_kept_for_critical_work_is_free_for_it(
        limit in 5_usize..40,
        phases in prop::collection::vec(0_u64..50, 1..8),
        spread in 0_u64..50,
    ) {
        let mut road = Road::new(limit);
        let phases = &phases[..phases.len().min(limit / 5)];
        // It may wait until it has been seen for a window, and its slots have fallen free.
        let mut longest_at_first = Duration::ZERO;
        for tick in 0..50 * 20 {
            road.fill(Criticality::SheddablePlus);
            road.fill(Criticality::Sheddable);
            // The slots' phases are spread at first.
            if tick == 0 && spread > 0 {
                for i in 0..limit as u64 {
                    road.held.push(road.now + ms(1 + 100 * (i * spread % 50)));
                }
            }
            for _ in phases.iter().filter(|phase| **phase == tick % 50) {
                road.push("a", Criticality::Critical);
            }
            road.go();
            if tick == 100 {
                longest_at_first = road.waits.drain(..).max().unwrap_or_default();
                road.granted.clear();
            }
            if tick >= 100 {
                let free = limit - road.held.len();
                prop_assert!(free >= road.queue.reserve.kept(limit));
            }
            road.now += ms(100);
        }
        prop_assert!(road.waits.iter().all(|wait| *wait <= longest_at_first), "{:?}", road.waits);
        prop_assert!(road.waits.len() >= phases.len() * 17);
        let all = road.granted.len();
        prop_assert!(all >= limit * 17, "{all} of {}", limit * 18);
        let lowest = road.count(Criticality::Sheddable);
        prop_assert!(lowest >= (all - limit / 5) / 20 , "{lowest} of {all}");
    }

    /// The lowest class has its share after any number of grants.
    #[test]
    fn the_lowest_class_never_falls_behind_its_twentieth(
        limit in 1_usize..60,
        demands in prop::collection::vec((0_usize..80, 0_usize..80), 20..40),
    ) {
        let mut road = Road::new(limit);
        for (critical, plus) in demands {
            for _ in 0..critical {
                road.push("a", Criticality::Critical);
            }
            for _ in 0..plus {
                road.push("b", Criticality::SheddablePlus);
            }
            road.fill(Criticality::Sheddable);
            road.go();
            road.now += W / 3;
        }
        let mut lowest = 0;
        for (grants, class) in road.granted.iter().enumerate() {
            lowest += usize::from(*class == Criticality::Sheddable);
            prop_assert!(grants < 20 * (lowest + 1) + limit / 5, "{lowest} of {}", grants + 1);
        }
    }

    /// What any two callers with work have got differs by no more than one turn of each: Goyal's bound.
    #[test]
    fn shares_follow_the_weights(
        weights in prop::collection::vec(1_u32..20, 2..8),
        starts in prop::collection::vec(0_usize..60, 8),
        grants in 50_usize..300,
    ) {
        let mut settings = settings();
        let names: Vec<Arc<str>> = (0..weights.len()).map(|i| i.to_string().into()).collect();
        for (name, weight) in names.iter().zip(&weights) {
            settings.callers.insert(name.clone(), Share { weight: *weight, ..Share::default() });
        }
        let now = Instant::now();
        let mut queue = Queue::new(settings);
        let mut got = vec![vec![0.0_f64; weights.len()]];
        for grant in 0..grants {
            for i in (0..weights.len()).filter(|i| starts[*i] == grant) {
                for _ in 0..300 {
                    queue.push(ask(&names[i], now), i, now).unwrap();
                }
            }
            let mut now_got = got[grant].clone();
            if let Next::Granted(receipt, i) = queue.next(&FREE, now) {
                now_got[i] += 1.0;
                queue.done(receipt);
            }
            got.push(now_got);
        }
        for a in 0..weights.len() {
            for b in 0..a {
                let both_since = starts[a].max(starts[b]).min(grants);
                let normal = |at: usize, i: usize| (got[at][i] - got[both_since][i]) / f64::from(weights[i]);
                let bound = 1.0 / f64::from(weights[a]) + 1.0 / f64::from(weights[b]) + 1e-3;
                for at in both_since..=grants {
                    let difference = (normal(at, a) - normal(at, b)).abs();
                    prop_assert!(difference <= bound, "{difference} over {bound}");
                }
            }
        }
    }

    /// A caller who floods the queue delays another one's next ticket by at most two slots.
    #[test]
    fn a_flooder_delays_another_by_at_most_two_slots(
        gaps in prop::collection::vec(0_usize..7, 1..30),
        flooder_is_double in any::<bool>(),
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(settings());
        let flooder = if flooder_is_double { "double" } else { "flooder" };
        for _ in 0..1_000 {
            queue.push(ask(flooder, now), false, now).unwrap();
        }
        for gap in gaps {
            for _ in 0..gap {
                let Next::Granted(receipt, _) = queue.next(&FREE, now) else { panic!() };
                queue.done(receipt);
            }
            queue.push(ask("other", now), true, now).unwrap();
            let mut delay = 0;
            loop {
                let Next::Granted(receipt, is_other) = queue.next(&FREE, now) else { panic!() };
                queue.done(receipt);
                if is_other {
                    break;
                }
                delay += 1;
            }
            prop_assert!(delay <= 2, "{delay}");
        }
    }
}

#[test]
fn ten_thousand_tickets_of_a_flooder_delay_nobody_by_more_than_two_slots() {
    let now = Instant::now();
    let mut queue = Queue::new(settings());
    for _ in 0..10_000 {
        queue.push(ask("flooder", now), "flooder", now).unwrap();
    }
    queue.push(ask("other", now), "other", now).unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        if let Next::Granted(receipt, name) = queue.next(&FREE, now) {
            names.push(name);
            queue.done(receipt);
        }
    }
    assert!(names.contains(&"other"), "{names:?}");
}

/// A free slot too early for an even spread.
const EARLY: Supply = Supply {
    too_early: Duration::from_millis(70),
    ..FREE
};

/// So many tickets of a flooder, and one of somebody else.
fn flood(tickets: usize) -> Desk {
    let mut desk = Desk::new();
    for _ in 0..tickets {
        desk.push(ask("flooder", desk.now), "flooder");
    }
    desk.push(ask("other", desk.now), "other");
    desk
}

#[test]
fn a_flood_beside_which_others_come_is_held_until_it_is_due() {
    let mut desk = flood(FREE.calls.limit + 2);
    assert_eq!(desk.name(&EARLY), "nobody");
    assert_eq!(desk.queue.next_wake(), Some(desk.now + EARLY.too_early));
    assert_eq!(desk.name(&FREE), "flooder");
    assert_eq!(desk.name(&EARLY), "other", "who floods not is not held");
    assert_eq!(desk.name(&EARLY), "nobody");
    assert_eq!(desk.name(&FREE), "flooder");
    assert_eq!(desk.name(&EARLY), "flooder", "a window serves what is left");
}

#[test]
fn whoever_floods_alone_is_not_held() {
    let mut desk = Desk::new();
    for _ in 0..100 {
        desk.push(ask("flooder", desk.now), "flooder");
        assert_eq!(desk.name(&EARLY), "flooder");
        desk.push(ask("flooder", desk.now), "flooder");
    }
    let mut desk = flood(100);
    desk.now += W * 4;
    assert_ne!(desk.name(&EARLY), "nobody", "the other one has not come again");
}

#[test]
fn a_held_slot_is_free_for_critical_work() {
    let mut desk = flood(100);
    let urgent = Ask {
        criticality: Criticality::Critical,
        ..ask("shop", desk.now)
    };
    desk.push(urgent, "urgent");
    assert_eq!(desk.name(&EARLY), "urgent");
    assert_eq!(desk.name(&EARLY), "nobody");
}

#[test]
fn weights_of_one_one_and_two_are_kept_within_one_slot() {
    let mut desk = Desk::new();
    for _ in 0..1_000 {
        for name in ["a", "b", "double"] {
            desk.push(ask(name, desk.now), name);
        }
    }
    let mut got = HashMap::new();
    for grants in 1..=1_000 {
        *got.entry(desk.name(&FREE)).or_insert(0.0) += 1.0;
        for (name, share) in [("a", 0.25), ("b", 0.25), ("double", 0.5)] {
            let exact = share * f64::from(grants);
            let has = got.get(name).copied().unwrap_or(0.0);
            assert!((exact - has).abs() <= 1.0, "{name} has {has} of {exact}");
        }
    }
}
