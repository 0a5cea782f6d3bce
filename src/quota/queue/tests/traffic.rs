//! Checks shares over time: slots become free a window after their grant, and the demand of classes and callers
//! exceeds the supply.

use super::*;
use proptest::prelude::*;

/// N slots, each held for exactly one window.
struct SlotWindow {
    queue: Queue<usize>,
    now: Instant,
    limit: usize,
    held: Vec<Instant>,
    /// The classes of the grants, in order.
    granted: Vec<Criticality>,
    /// The waits of the granted tickets of the upper classes.
    waits: Vec<Duration>,
}

impl SlotWindow {
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
        let request = TicketRequest {
            criticality,
            ..request(caller, self.now)
        };
        self.queue.push(request, 0, self.now).unwrap();
    }

    /// Keeps tickets of a class waiting.
    fn fill(&mut self, criticality: Criticality) {
        while self.queue.snapshot().waiting[criticality as usize] < 2 * self.limit {
            self.push("filler", criticality);
        }
    }

    fn grant(&mut self) {
        self.held.retain(|until| *until > self.now);
        loop {
            let calls = SlotSupply {
                limit: self.limit,
                free: self.limit - self.held.len(),
            };
            match self.queue.next(&Supply { calls, ..FREE }, self.now) {
                NextTicket::Granted(receipt, _) => {
                    self.held.push(self.now + W);
                    self.granted.push(receipt.criticality());
                    if receipt.criticality() >= Criticality::Critical {
                        self.waits.push(self.now - receipt.since);
                    }
                    self.queue.done(receipt);
                }
                NextTicket::Expired(..) => {}
                NextTicket::None => return,
            }
        }
    }

    fn count(&self, criticality: Criticality) -> usize {
        self.granted.iter().filter(|class| **class == criticality).count()
    }
}

#[test]
fn sheddable_calls_alone_use_every_slot() {
    let mut slots = SlotWindow::new(25);
    for _ in 0..10 {
        slots.fill(Criticality::Sheddable);
        slots.grant();
        assert_eq!(slots.held.len(), 25);
        slots.now += W;
    }
}

#[test]
fn kept_slots_without_demand_are_used_again_after_some_windows() {
    let mut slots = SlotWindow::new(25);
    for _ in 0..5 {
        slots.push("a", Criticality::Critical);
    }
    for window in 0..10 {
        slots.fill(Criticality::Sheddable);
        slots.grant();
        let expected = if (1..=4).contains(&window) { 20 } else { 25 };
        assert_eq!(slots.held.len(), expected, "window {window}");
        slots.now += W;
    }
}

#[test]
fn a_flood_of_critical_calls_over_single_slots_leaves_the_lowest_class_its_twentieth() {
    let mut slots = SlotWindow::new(25);
    for slot in 1..=25 {
        slots.held.push(slots.now + W / 25 * slot);
    }
    for _ in 0..1_000 {
        slots.fill(Criticality::Critical);
        slots.fill(Criticality::Sheddable);
        slots.grant();
        slots.now += W / 25;
    }
    assert_eq!(slots.count(Criticality::Sheddable), 999 / 20);
}

#[test]
fn critical_calls_at_irregular_times_do_not_wait_once_they_were_seen() {
    let mut slots = SlotWindow::new(25);
    for tick in 0..2_000_u64 {
        slots.fill(Criticality::SheddablePlus);
        // Four in a window, never at the same place in it.
        if tick % 13 == 0 {
            slots.push("a", Criticality::Critical);
        }
        slots.grant();
        if tick == 100 {
            slots.waits.clear();
        }
        slots.now += ms(100);
    }
    assert!(slots.waits.iter().all(Duration::is_zero), "{:?}", slots.waits);
}

#[test]
fn one_critical_call_keeps_one_slot_and_no_more() {
    let mut slots = SlotWindow::new(25);
    slots.push("a", Criticality::Critical);
    slots.grant();
    slots.now += W;
    slots.fill(Criticality::Sheddable);
    slots.grant();
    assert_eq!(slots.held.len(), 24);
}

#[test]
fn the_lower_two_classes_have_a_twentieth_each_for_any_load_above() {
    let mut slots = SlotWindow::new(25);
    for _ in 0..40 {
        slots.fill(Criticality::CriticalPlus);
        slots.fill(Criticality::SheddablePlus);
        slots.fill(Criticality::Sheddable);
        slots.grant();
        slots.now += W;
    }
    assert_eq!(slots.granted.len(), 1000);
    assert!((49..=50).contains(&slots.count(Criticality::Sheddable)));
    assert!((49..=50).contains(&slots.count(Criticality::SheddablePlus)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// While critical calls do not increase and stay below their fifth, their kept slots are free, however much else
    /// waits. So they never wait longer than at first, no other slot is unused, and the lowest class gets its
    /// twentieth.
    #[test]
    fn the_slots_kept_for_critical_calls_are_free_for_them(
        limit in 5_usize..40,
        phases in prop::collection::vec(0_u64..50, 1..8),
        pacing in 0_u64..50,
    ) {
        let mut slots = SlotWindow::new(limit);
        let phases = &phases[..phases.len().min(limit / 5)];
        // A critical call may wait until such calls were seen for a window and their slots have become free.
        let mut longest_at_first = Duration::ZERO;
        for tick in 0..50 * 20 {
            slots.fill(Criticality::SheddablePlus);
            slots.fill(Criticality::Sheddable);
            // At first, the slots become free at different times.
            if tick == 0 && pacing > 0 {
                for i in 0..limit as u64 {
                    slots.held.push(slots.now + ms(1 + 100 * (i * pacing % 50)));
                }
            }
            for _ in phases.iter().filter(|phase| **phase == tick % 50) {
                slots.push("a", Criticality::Critical);
            }
            slots.grant();
            if tick == 100 {
                longest_at_first = slots.waits.drain(..).max().unwrap_or_default();
                slots.granted.clear();
            }
            if tick >= 100 {
                let free = limit - slots.held.len();
                prop_assert!(free >= slots.queue.reserve.kept(limit));
            }
            slots.now += ms(100);
        }
        prop_assert!(slots.waits.iter().all(|wait| *wait <= longest_at_first), "{:?}", slots.waits);
        prop_assert!(slots.waits.len() >= phases.len() * 17);
        let all = slots.granted.len();
        prop_assert!(all >= limit * 17, "{all} of {}", limit * 18);
        let lowest = slots.count(Criticality::Sheddable);
        prop_assert!(lowest >= (all - limit / 5) / 20 , "{lowest} of {all}");
    }

    /// The lowest class has its share after any number of grants.
    #[test]
    fn the_lowest_class_never_falls_behind_its_twentieth(
        limit in 1_usize..60,
        demands in prop::collection::vec((0_usize..80, 0_usize..80), 20..40),
    ) {
        let mut slots = SlotWindow::new(limit);
        for (critical, plus) in demands {
            for _ in 0..critical {
                slots.push("a", Criticality::Critical);
            }
            for _ in 0..plus {
                slots.push("b", Criticality::SheddablePlus);
            }
            slots.fill(Criticality::Sheddable);
            slots.grant();
            slots.now += W / 3;
        }
        let mut lowest = 0;
        for (grants, class) in slots.granted.iter().enumerate() {
            lowest += usize::from(*class == Criticality::Sheddable);
            prop_assert!(grants < 20 * (lowest + 1) + limit / 5, "{lowest} of {}", grants + 1);
        }
    }

    /// The grants of any two callers with waiting tickets differ by no more than one turn of each (Goyal's bound).
    #[test]
    fn shares_follow_the_weights(
        weights in prop::collection::vec(1_u32..20, 2..8),
        starts in prop::collection::vec(0_usize..60, 8),
        grants in 50_usize..300,
    ) {
        let mut settings = settings();
        let names: Vec<Arc<str>> = (0..weights.len()).map(|i| i.to_string().into()).collect();
        for (name, weight) in names.iter().zip(&weights) {
            settings.callers.named.insert(name.clone(), CallerQuota { weight: *weight, ..CallerQuota::default() });
        }
        let now = Instant::now();
        let mut queue = Queue::new(settings);
        let mut got = vec![vec![0.0_f64; weights.len()]];
        for grant in 0..grants {
            for i in (0..weights.len()).filter(|i| starts[*i] == grant) {
                for _ in 0..300 {
                    queue.push(request(&names[i], now), i, now).unwrap();
                }
            }
            let mut now_got = got[grant].clone();
            if let NextTicket::Granted(receipt, i) = queue.next(&FREE, now) {
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

    /// A caller that floods the queue delays the next ticket of another caller by at most two slots.
    #[test]
    fn a_flooder_delays_another_by_at_most_two_slots(
        gaps in prop::collection::vec(0_usize..7, 1..30),
        flooder_is_double in any::<bool>(),
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(settings());
        let flooder = if flooder_is_double { "double" } else { "flooder" };
        for _ in 0..1_000 {
            queue.push(request(flooder, now), false, now).unwrap();
        }
        for gap in gaps {
            for _ in 0..gap {
                let NextTicket::Granted(receipt, _) = queue.next(&FREE, now) else { panic!() };
                queue.done(receipt);
            }
            queue.push(request("other", now), true, now).unwrap();
            let mut delay = 0;
            loop {
                let NextTicket::Granted(receipt, is_other) = queue.next(&FREE, now) else { panic!() };
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
fn ten_thousand_tickets_of_one_caller_delay_another_by_at_most_two_slots() {
    let now = Instant::now();
    let mut queue = Queue::new(settings());
    for _ in 0..10_000 {
        queue.push(request("flooder", now), "flooder", now).unwrap();
    }
    queue.push(request("other", now), "other", now).unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        if let NextTicket::Granted(receipt, name) = queue.next(&FREE, now) {
            names.push(name);
            queue.done(receipt);
        }
    }
    assert!(names.contains(&"other"), "{names:?}");
}

/// A free slot before the next call is due.
const EARLY: Supply = Supply {
    pacing_delay: Duration::from_millis(70),
    ..FREE
};

/// This number of tickets of a flooding caller, and one of another caller.
fn flood(tickets: usize) -> TestQueue {
    let mut test = TestQueue::new();
    for _ in 0..tickets {
        test.push(request("flooder", test.now), "flooder");
    }
    test.push(request("other", test.now), "other");
    test
}

#[test]
fn a_flood_beside_arriving_callers_is_paced() {
    let mut test = flood(FREE.calls.limit + 2);
    assert_eq!(test.name(&EARLY), "none");
    assert_eq!(test.queue.next_wake(), Some(test.now + EARLY.pacing_delay));
    assert_eq!(test.name(&FREE), "flooder");
    assert_eq!(test.name(&EARLY), "other", "a caller without a flood is not held");
    assert_eq!(test.name(&EARLY), "none");
    assert_eq!(test.name(&FREE), "flooder");
    assert_eq!(test.name(&EARLY), "flooder", "a window serves what is left");
}

#[test]
fn a_flood_without_other_callers_is_not_paced() {
    let mut test = TestQueue::new();
    for _ in 0..100 {
        test.push(request("flooder", test.now), "flooder");
        assert_eq!(test.name(&EARLY), "flooder");
        test.push(request("flooder", test.now), "flooder");
    }
    let mut test = flood(100);
    test.now += W * 4;
    assert_ne!(test.name(&EARLY), "none", "the other caller has no new ticket");
}

#[test]
fn a_slot_held_by_pacing_is_free_for_critical_calls() {
    let mut test = flood(100);
    let urgent = TicketRequest {
        criticality: Criticality::Critical,
        ..request("shop", test.now)
    };
    test.push(urgent, "urgent");
    assert_eq!(test.name(&EARLY), "urgent");
    assert_eq!(test.name(&EARLY), "none");
}

#[test]
fn weights_of_one_one_and_two_are_kept_within_one_slot() {
    let mut test = TestQueue::new();
    for _ in 0..1_000 {
        for name in ["a", "b", "double"] {
            test.push(request(name, test.now), name);
        }
    }
    let mut got = HashMap::new();
    for grants in 1..=1_000 {
        *got.entry(test.name(&FREE)).or_insert(0.0) += 1.0;
        for (name, share) in [("a", 0.25), ("b", 0.25), ("double", 0.5)] {
            let exact = share * f64::from(grants);
            let has = got.get(name).copied().unwrap_or(0.0);
            assert!((exact - has).abs() <= 1.0, "{name} has {has} of {exact}");
        }
    }
}
