//! Whether the estimates are honest: what is let in is served in time, and who is told to come again later may come in
//! then.

use super::*;
use crate::quota::latency::{Estimate, Latency};
use proptest::prelude::*;

/// A slot each 200 ms, a bulk slot each second.
const PACE: Duration = Duration::from_millis(200);
const BULK_PACE: Duration = Duration::from_secs(1);
const TYPICAL: Duration = Duration::from_millis(100);

const ESTIMATE: Estimate = Estimate {
    least: TYPICAL,
    usual: TYPICAL,
    long: TYPICAL,
};

/// A queue behind slots that come at an even pace.
struct Gate {
    queue: Queue<&'static str>,
    now: Instant,
    /// The slots of both kinds that came and were not used.
    free: [usize; 2],
    ticks: u32,
    drift: Duration,
    /// At each so many slots a call of the caller "steady" comes; 0: never.
    steady: u32,
}

impl Gate {
    fn new() -> Self {
        Self {
            queue: Queue::new(settings()),
            now: Instant::now(),
            free: [0; 2],
            ticks: 0,
            drift: Duration::ZERO,
            steady: 0,
        }
    }

    fn supply(&self) -> Supply {
        let [free, bulk] = self.free;
        Supply {
            calls: Slots { limit: 25, free },
            bulk: Slots { limit: 5, free: bulk },
            window: W,
            too_early: Duration::ZERO,
        }
    }

    fn push(&mut self, ask: Ask, name: &'static str) {
        self.queue.push(ask, name, self.now).unwrap();
    }

    fn admit(&mut self, ask: &Ask) -> Result<Duration, Infeasible> {
        let (estimate, supply) = (ESTIMATE, self.supply());
        let (now, wait) = (self.now, self.wait());
        self.queue.admit(ask, &estimate, &supply, now, wait)
    }

    /// What a ticket that is not let in is told.
    fn promise(&mut self, ask: &Ask) -> Duration {
        let (estimate, supply) = (ESTIMATE, self.supply());
        let (now, wait) = (self.now, self.wait());
        self.queue.promise(ask, &estimate, self.drift, &supply, now, wait)
    }

    fn wait(&self) -> impl FnMut(Cost, usize) -> Duration + use<> {
        let free = self.free;
        // The next slot comes after a whole pace, or the next bulk slot after what is left of it.
        let gone = PACE * (self.ticks % 5);
        move |cost, ahead: usize| {
            let short = (ahead + 1).saturating_sub(free[cost as usize]) as u32;
            match cost {
                Cost::Call => PACE * short,
                Cost::Bulk => (BULK_PACE * short).saturating_sub(gone),
            }
        }
    }

    /// Lets the time pass until a slot comes, and grants what can be granted.
    fn tick(&mut self) -> Vec<&'static str> {
        self.now += PACE;
        self.ticks += 1;
        self.free[0] = (self.free[0] + 1).min(25);
        if self.ticks.is_multiple_of(5) {
            self.free[1] = (self.free[1] + 1).min(5);
        }
        if self.steady > 0 && self.ticks.is_multiple_of(self.steady) {
            let call = within(3_600, ask("steady", self.now), self.now);
            self.admit(&call).unwrap();
            self.push(call, "steady");
        }
        self.grant()
    }

    /// Grants what can be granted.
    fn grant(&mut self) -> Vec<&'static str> {
        let mut names = Vec::new();
        loop {
            match self.queue.next(&self.supply(), self.now) {
                Next::Granted(receipt, name) => {
                    self.free[0] -= 1;
                    if receipt.ask.cost == Cost::Bulk {
                        self.free[1] -= 1;
                    }
                    self.queue.done(receipt);
                    names.push(name);
                }
                Next::Dead(..) => {}
                Next::Nobody => return names,
            }
        }
    }
}

fn within(seconds: u64, ask: Ask, now: Instant) -> Ask {
    Ask {
        deadline: now + Duration::from_secs(seconds),
        ..ask
    }
}

#[test]
fn an_empty_queue_lets_in_who_has_time() {
    let mut gate = Gate::new();
    let now = gate.now;
    assert_eq!(gate.admit(&ask("a", now)), Ok(PACE));
    let hasty = Ask {
        deadline: now + ms(50),
        ..ask("a", now)
    };
    let refused = gate.admit(&hasty).unwrap_err();
    assert!(refused.is_too_slow);
}

#[test]
fn a_flooder_makes_only_itself_wait() {
    let mut gate = Gate::new();
    let now = gate.now;
    for _ in 0..1_000 {
        gate.push(ask("flooder", now), "flood");
    }
    assert!(gate.admit(&within(2, ask("other", now), now)).is_ok());
    let late = Ask {
        deadline: now + Duration::from_secs(3700),
        ..ask("flooder", now)
    };
    assert_eq!(gate.admit(&late), Ok(PACE * 1_001));
    let refused = gate.admit(&within(10, write("flooder", 1, now), now));
    assert!(refused.is_ok(), "writes take turns with reads");
}

#[test]
fn a_higher_class_is_not_held_up_by_a_lower_one() {
    let mut gate = Gate::new();
    let now = gate.now;
    for _ in 0..1_000 {
        gate.push(ask("a", now), "flood");
    }
    let urgent = Ask {
        criticality: Criticality::Critical,
        ..within(1, ask("a", now), now)
    };
    assert_eq!(gate.admit(&urgent), Ok(PACE));
    let low = Ask {
        criticality: Criticality::Sheddable,
        ..within(30, ask("b", now), now)
    };
    assert_eq!(gate.admit(&low), Ok(PACE * 20), "it has its twentieth");
}

#[test]
fn a_flood_of_bulk_calls_takes_only_the_bulk_slots() {
    let mut gate = Gate::new();
    let now = gate.now;
    for _ in 0..1_000 {
        let bulk = Ask {
            criticality: Criticality::Critical,
            cost: Cost::Bulk,
            ..ask("a", now)
        };
        gate.push(bulk, "bulk");
    }
    assert!(gate.admit(&within(2, ask("b", now), now)).is_ok());
    let bulk = Ask {
        cost: Cost::Bulk,
        ..within(60, ask("b", now), now)
    };
    assert!(gate.admit(&bulk).is_err());
}

#[test]
fn a_caller_at_its_cap_is_told_so() {
    let mut gate = Gate::new();
    let now = gate.now;
    for _ in 0..3 {
        gate.push(ask("capped", now), "capped");
    }
    (0..3).for_each(|_| drop(gate.tick()));
    let now = gate.now;
    let hasty = within(4, ask("capped", now), now);
    let refused = gate.admit(&hasty).unwrap_err();
    assert!(refused.by_own_cap && !refused.is_too_slow);
    let first = W - 2 * PACE + TYPICAL - Duration::from_secs(4);
    assert_eq!(gate.promise(&hasty), first);
    // The cap lets through one with each slot that leaves it, and the fourth a window after the first.
    assert_eq!(gate.promise(&hasty), first + PACE);
    assert_eq!(gate.promise(&hasty), first + PACE * 2);
    assert_eq!(gate.promise(&hasty), first + W);
    assert!(gate.admit(&within(5, ask("capped", now), now)).is_ok());
}

#[test]
fn a_long_line_for_a_key_takes_a_call_each() {
    let mut gate = Gate::new();
    let now = gate.now;
    for _ in 0..10 {
        gate.push(write("a", 1, now), "write");
    }
    assert_eq!(gate.admit(&write("b", 1, now)), Ok(PACE * 11));
    assert!(gate.admit(&write("b", 2, now)).unwrap() < PACE * 4);
}

fn newcomers() -> impl Strategy<Value = Vec<(usize, usize, bool, Option<u32>)>> {
    let one = (
        0_usize..4,
        0_usize..4,
        prop::bool::weighted(0.2),
        prop::option::of(0_u32..200),
    );
    prop::collection::vec(one, 0..120)
}

/// The tickets of these come with an hour's time.
fn crowd(gate: &mut Gate, tickets: &[(usize, usize, bool, Option<u32>)]) {
    for (index, (caller, class, bulk, key)) in tickets.iter().enumerate() {
        let mut ask = within(
            3600 + index as u64,
            ask(["w", "x", "double", "z"][*caller], gate.now),
            gate.now,
        );
        ask.criticality = Criticality::ALL[*class];
        ask.cost = if *bulk { Cost::Bulk } else { Cost::Call };
        // Each key once: lines have a test of their own.
        ask.keys = key.map(|key| Key::of(&(index, key))).into_iter().collect();
        gate.push(ask, "crowd");
    }
}

/// Behind so many that wait, so many calls of so many callers come at once, and each that is refused is made again when it
/// was told to. How many were refused, and how many of these were served at the second try.
fn second_try(waiting: usize, refused: usize, callers: usize, timeout: u64) -> (usize, usize) {
    second_try_beside(0, waiting, refused, callers, timeout)
}

/// The same, with a steady load of a call of somebody else at each so many slots.
fn second_try_beside(steady: u32, waiting: usize, refused: usize, callers: usize, timeout: u64) -> (usize, usize) {
    let mut gate = Gate::new();
    gate.drift = W / 25;
    gate.steady = steady;
    if steady > 0 {
        (0..60).for_each(|_| drop(gate.tick()));
        gate.free[0] = 0;
    }
    (0..waiting).for_each(|_| gate.push(within(3_600, ask("w", gate.now), gate.now), "waiting"));
    let names = ["w", "x", "z", "new"];
    let mut retries = Vec::new();
    for n in 0..refused {
        let newcomer = Ask {
            deadline: gate.now + ms(timeout),
            ..ask(names[n % callers], gate.now)
        };
        match gate.admit(&newcomer) {
            Ok(_) => gate.push(newcomer, "first"),
            Err(_) => retries.push((gate.now + gate.promise(&newcomer), names[n % callers])),
        }
    }
    retries.sort_unstable();
    let (all, mut served) = (retries.len(), 0);
    let second = |names: Vec<&str>| names.iter().filter(|name| **name == "second").count();
    for (at, name) in retries {
        while gate.now < at {
            served += second(gate.tick());
        }
        let newcomer = Ask {
            deadline: gate.now + ms(timeout),
            ..ask(name, gate.now)
        };
        if gate.admit(&newcomer).is_ok() {
            gate.push(newcomer, "second");
        }
    }
    gate.steady = 0;
    while !gate.queue.is_empty() {
        served += second(gate.tick());
    }
    (all, served)
}

proptest! {
    // PROPTEST_CASES may ask for more.
    #![proptest_config(ProptestConfig::with_cases(2_000.max(ProptestConfig::default().cases)))]

    /// Who is let in is served by then, give or take a turn of each caller, unless more comes.
    #[test]
    fn predicted_waits_are_kept(
        tickets in newcomers(),
        (caller, class, is_write) in (0_usize..5, 0_usize..4, any::<bool>()),
    ) {
        let mut gate = Gate::new();
        crowd(&mut gate, &tickets);
        let mut newcomer = ask(["w", "x", "double", "z", "new"][caller], gate.now);
        newcomer.criticality = Criticality::ALL[class];
        newcomer.deadline += Duration::from_secs(3600);
        newcomer.keys = is_write.then(|| Key::of(&"mine")).into_iter().collect();
        let predicted = gate.admit(&newcomer).unwrap();
        gate.push(newcomer, "newcomer");
        let begin = gate.now;
        while !gate.tick().contains(&"newcomer") {
            prop_assert!(gate.now < begin + Duration::from_secs(3600));
        }
        let actual = gate.now - begin;
        prop_assert!(actual <= predicted + PACE * 6, "{actual:?} instead of {predicted:?}");
    }

    /// Who waits as long as told and asks again with as much time is let in, unless more has come.
    #[test]
    fn retry_after_is_true(
        tickets in newcomers(),
        (caller, class, bulk, is_write) in (0_usize..5, 0_usize..4, any::<bool>(), any::<bool>()),
        timeout in 300_u64..20_000,
    ) {
        let mut gate = Gate::new();
        crowd(&mut gate, &tickets);
        let mut newcomer = ask(["w", "x", "double", "capped", "new"][caller], gate.now);
        newcomer.criticality = Criticality::ALL[class];
        newcomer.cost = if bulk { Cost::Bulk } else { Cost::Call };
        newcomer.keys = is_write.then(|| Key::of(&"mine")).into_iter().collect();
        // A bulk call needs the second that its slot takes.
        newcomer.deadline = gate.now + ms(timeout + if bulk { 1_000 } else { 0 });
        let timeout = newcomer.deadline - gate.now;
        if let Err(refused) = gate.admit(&newcomer) {
            let until = gate.now + gate.promise(&newcomer);
            prop_assert!(!refused.is_too_slow);
            while gate.now < until {
                gate.tick();
            }
            newcomer.deadline = gate.now + timeout;
            prop_assert!(gate.admit(&newcomer).is_ok(), "{:?} and then {:?}", refused, gate.admit(&newcomer));
        }
    }

    /// Nobody is refused while a slot is free for it and its timeout exceeds the least recent time, whatever waits and
    /// whatever the endpoint has shown. Its cap and the slots that are kept for others are not free for it.
    #[test]
    fn nobody_is_refused_while_a_slot_is_free_for_it(
        tickets in newcomers(),
        (caller, class, bulk, is_write) in (0_usize..6, 0_usize..4, any::<bool>(), any::<bool>()),
        free in (0_usize..26, 0_usize..6),
        history in prop::collection::vec((0_u64..3_000, 1_u64..60_000), 0..80),
        timeout in 1_u64..60_000,
    ) {
        let mut gate = Gate::new();
        let mut latency = Latency::default();
        for (pause, took) in history {
            gate.now += ms(pause);
            latency.learn(gate.now, ms(took));
        }
        crowd(&mut gate, &tickets);
        gate.free = free.into();
        gate.grant();
        let newcomer = Ask {
            criticality: Criticality::ALL[class],
            cost: if bulk { Cost::Bulk } else { Cost::Call },
            keys: is_write.then(|| Key::of(&"mine")).into_iter().collect(),
            deadline: gate.now + ms(timeout),
            ..ask(["w", "x", "double", "z", "capped", "new"][caller], gate.now)
        };
        let estimate = latency.estimate(gate.now, W);
        let (supply, wait) = (gate.supply(), gate.wait());
        let judged = gate.queue.admit(&newcomer, &estimate, &supply, gate.now, wait);
        gate.push(newcomer, "newcomer");
        let is_free = gate.grant().contains(&"newcomer");
        prop_assert!(!is_free || ms(timeout) <= estimate.least || judged.is_ok(), "{:?} {:?}", judged, estimate);
    }

    /// Of many calls that are refused together and made again when they were told to, 95 % and more are served;
    /// of fewer than 20, all but two, since calls that were let in after them may have their turns before.
    #[test]
    fn refused_together_and_let_in_at_the_second_try(
        waiting in 0_usize..60,
        refused in 1_usize..200,
        callers in 1_usize..5,
        timeout in 500_u64..8_000,
    ) {
        let (all, served) = second_try(waiting, refused, callers, timeout);
        let bound = if all < 20 { 2 } else { all.div_ceil(20) };
        prop_assert!(all - served <= bound, "{served} of {all} served");
    }

    /// The same beside a steady load of up to a fourth of the slots, which was there for two windows: 90 % and more.
    #[test]
    fn refused_beside_a_steady_load_and_let_in_at_the_second_try(
        steady in 4_u32..20,
        waiting in 0_usize..60,
        refused in 1_usize..200,
        callers in 1_usize..5,
        timeout in 500_u64..8_000,
    ) {
        let (all, served) = second_try_beside(steady, waiting, refused, callers, timeout);
        let bound = if all < 20 { 2 } else { all.div_ceil(10) };
        prop_assert!(all - served <= bound, "{served} of {all} served");
    }
}
