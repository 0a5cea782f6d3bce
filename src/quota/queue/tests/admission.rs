//! Checks that the estimates are right: a ticket that is let in is served in time, and a refused ticket is let in
//! after its retry delay.

use super::*;
use crate::quota::latency::{Latency, LatencyEstimate};
use proptest::prelude::*;

/// Time per slot: a slot each 200 ms, a bulk slot each second.
const PACE: Duration = Duration::from_millis(200);
const BULK_PACE: Duration = Duration::from_secs(1);
const TYPICAL: Duration = Duration::from_millis(100);

const ESTIMATE: LatencyEstimate = LatencyEstimate {
    least: TYPICAL,
    usual: TYPICAL,
    long: TYPICAL,
};

/// A queue in front of slots that become free at an even pace.
struct PacedQueue {
    queue: Queue<&'static str>,
    now: Instant,
    /// The free slots, by cost.
    free: [usize; 2],
    ticks: u32,
    drift: Duration,
    /// A call of the caller "steady" arrives after each such number of slots. 0: never.
    steady_load: u32,
}

impl PacedQueue {
    fn new() -> Self {
        Self {
            queue: Queue::new(settings()),
            now: Instant::now(),
            free: [0; 2],
            ticks: 0,
            drift: Duration::ZERO,
            steady_load: 0,
        }
    }

    fn supply(&self) -> Supply {
        let [free, bulk] = self.free;
        Supply {
            calls: SlotSupply { limit: 25, free },
            bulk: SlotSupply { limit: 5, free: bulk },
            window: W,
            pacing_delay: Duration::ZERO,
        }
    }

    fn push(&mut self, request: TicketRequest, name: &'static str) {
        self.queue.push(request, name, self.now).unwrap();
    }

    fn admit(&mut self, request: &TicketRequest) -> Result<Duration, Infeasible> {
        let (estimate, supply) = (ESTIMATE, self.supply());
        let (now, wait) = (self.now, self.wait());
        self.queue.admit(request, &estimate, &supply, now, wait)
    }

    /// The retry delay of a ticket that is refused.
    fn retry_after(&mut self, request: &TicketRequest) -> Duration {
        let (estimate, supply) = (ESTIMATE, self.supply());
        let (now, wait) = (self.now, self.wait());
        self.queue
            .retry_after(request, &estimate, self.drift, &supply, now, wait)
    }

    fn wait(&self) -> impl FnMut(Cost, usize) -> Duration + use<> {
        let free = self.free;
        // The next slot becomes free after a whole pace, the next bulk slot after the rest of its second.
        let gone = PACE * (self.ticks % 5);
        move |cost, ahead: usize| {
            let short = (ahead + 1).saturating_sub(free[cost as usize]) as u32;
            match cost {
                Cost::Call => PACE * short,
                Cost::Bulk => (BULK_PACE * short).saturating_sub(gone),
            }
        }
    }

    /// Waits until a slot becomes free, and grants what can be granted.
    fn tick(&mut self) -> Vec<&'static str> {
        self.now += PACE;
        self.ticks += 1;
        self.free[0] = (self.free[0] + 1).min(25);
        if self.ticks.is_multiple_of(5) {
            self.free[1] = (self.free[1] + 1).min(5);
        }
        if self.steady_load > 0 && self.ticks.is_multiple_of(self.steady_load) {
            let call = within(3_600, request("steady", self.now), self.now);
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
                NextTicket::Granted(receipt, name) => {
                    self.free[0] -= 1;
                    if receipt.request.cost == Cost::Bulk {
                        self.free[1] -= 1;
                    }
                    self.queue.done(receipt);
                    names.push(name);
                }
                NextTicket::Expired(..) => {}
                NextTicket::None => return names,
            }
        }
    }
}

fn within(seconds: u64, request: TicketRequest, now: Instant) -> TicketRequest {
    TicketRequest {
        deadline: now + Duration::from_secs(seconds),
        ..request
    }
}

#[test]
fn an_empty_queue_admits_a_call_with_enough_time() {
    let mut paced = PacedQueue::new();
    let now = paced.now;
    assert_eq!(paced.admit(&request("a", now)), Ok(PACE));
    let hasty = TicketRequest {
        deadline: now + ms(50),
        ..request("a", now)
    };
    let refused = paced.admit(&hasty).unwrap_err();
    assert!(refused.is_too_slow);
}

#[test]
fn a_flood_delays_only_its_own_caller() {
    let mut paced = PacedQueue::new();
    let now = paced.now;
    for _ in 0..1_000 {
        paced.push(request("flooder", now), "flood");
    }
    assert!(paced.admit(&within(2, request("other", now), now)).is_ok());
    let late = TicketRequest {
        deadline: now + Duration::from_secs(3700),
        ..request("flooder", now)
    };
    assert_eq!(paced.admit(&late), Ok(PACE * 1_001));
    let refused = paced.admit(&within(10, write("flooder", 1, now), now));
    assert!(refused.is_ok(), "writes take turns with reads");
}

#[test]
fn a_higher_class_is_not_delayed_by_a_lower_one() {
    let mut paced = PacedQueue::new();
    let now = paced.now;
    for _ in 0..1_000 {
        paced.push(request("a", now), "flood");
    }
    let urgent = TicketRequest {
        criticality: Criticality::Critical,
        ..within(1, request("a", now), now)
    };
    assert_eq!(paced.admit(&urgent), Ok(PACE));
    let low = TicketRequest {
        criticality: Criticality::Sheddable,
        ..within(30, request("b", now), now)
    };
    assert_eq!(paced.admit(&low), Ok(PACE * 20), "it has its twentieth");
}

#[test]
fn a_flood_of_bulk_calls_takes_only_the_bulk_slots() {
    let mut paced = PacedQueue::new();
    let now = paced.now;
    for _ in 0..1_000 {
        let bulk = TicketRequest {
            criticality: Criticality::Critical,
            cost: Cost::Bulk,
            ..request("a", now)
        };
        paced.push(bulk, "bulk");
    }
    assert!(paced.admit(&within(2, request("b", now), now)).is_ok());
    let bulk = TicketRequest {
        cost: Cost::Bulk,
        ..within(60, request("b", now), now)
    };
    assert!(paced.admit(&bulk).is_err());
}

#[test]
fn the_error_of_a_caller_at_its_cap_names_the_cap() {
    let mut paced = PacedQueue::new();
    let now = paced.now;
    for _ in 0..3 {
        paced.push(request("capped", now), "capped");
    }
    (0..3).for_each(|_| drop(paced.tick()));
    let now = paced.now;
    let hasty = within(4, request("capped", now), now);
    let refused = paced.admit(&hasty).unwrap_err();
    assert!(refused.by_own_cap && !refused.is_too_slow);
    let first = W - 2 * PACE + TYPICAL - Duration::from_secs(4);
    assert_eq!(paced.retry_after(&hasty), first);
    // The cap allows one grant for each slot that leaves it, and the fourth one a window after the first.
    assert_eq!(paced.retry_after(&hasty), first + PACE);
    assert_eq!(paced.retry_after(&hasty), first + PACE * 2);
    assert_eq!(paced.retry_after(&hasty), first + W);
    assert!(paced.admit(&within(5, request("capped", now), now)).is_ok());
}

#[test]
fn a_ticket_behind_writes_with_its_key_waits_for_a_call_of_each() {
    let mut paced = PacedQueue::new();
    let now = paced.now;
    for _ in 0..10 {
        paced.push(write("a", 1, now), "write");
    }
    assert_eq!(paced.admit(&write("b", 1, now)), Ok(PACE * 11));
    assert!(paced.admit(&write("b", 2, now)).unwrap() < PACE * 4);
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

/// Adds tickets with a timeout of one hour.
fn crowd(paced: &mut PacedQueue, tickets: &[(usize, usize, bool, Option<u32>)]) {
    for (index, (caller, class, bulk, key)) in tickets.iter().enumerate() {
        let mut request = within(
            3600 + index as u64,
            request(["w", "x", "double", "z"][*caller], paced.now),
            paced.now,
        );
        request.criticality = Criticality::ALL[*class];
        request.cost = if *bulk { Cost::Bulk } else { Cost::Call };
        // Each key once: the order of keys has a test of its own.
        request.keys = key
            .map(|key| WriteKey::of(&format!("{index} {key}")))
            .into_iter()
            .collect();
        paced.push(request, "crowd");
    }
}

/// Behind `waiting` tickets, many calls of many callers arrive at once, and each refused call is retried after its
/// retry delay. Returns how many were refused, and how many of these were served at the second try.
fn second_try(waiting: usize, refused: usize, callers: usize, timeout: u64) -> (usize, usize) {
    second_try_beside(0, waiting, refused, callers, timeout)
}

/// The same, beside a steady load of one call of another caller for each such number of slots.
fn second_try_beside(steady_load: u32, waiting: usize, refused: usize, callers: usize, timeout: u64) -> (usize, usize) {
    let mut paced = PacedQueue::new();
    paced.drift = W / 25;
    paced.steady_load = steady_load;
    if steady_load > 0 {
        (0..60).for_each(|_| drop(paced.tick()));
        paced.free[0] = 0;
    }
    (0..waiting).for_each(|_| paced.push(within(3_600, request("w", paced.now), paced.now), "waiting"));
    let names = ["w", "x", "z", "new"];
    let mut retries = Vec::new();
    for n in 0..refused {
        let new_ticket = TicketRequest {
            deadline: paced.now + ms(timeout),
            ..request(names[n % callers], paced.now)
        };
        match paced.admit(&new_ticket) {
            Ok(_) => paced.push(new_ticket, "first"),
            Err(_) => retries.push((paced.now + paced.retry_after(&new_ticket), names[n % callers])),
        }
    }
    retries.sort_unstable();
    let (all, mut served) = (retries.len(), 0);
    let second = |names: Vec<&str>| names.iter().filter(|name| **name == "second").count();
    for (at, name) in retries {
        while paced.now < at {
            served += second(paced.tick());
        }
        let new_ticket = TicketRequest {
            deadline: paced.now + ms(timeout),
            ..request(name, paced.now)
        };
        if paced.admit(&new_ticket).is_ok() {
            paced.push(new_ticket, "second");
        }
    }
    paced.steady_load = 0;
    while !paced.queue.is_empty() {
        served += second(paced.tick());
    }
    (all, served)
}

proptest! {
    // PROPTEST_CASES may set more.
    #![proptest_config(ProptestConfig::with_cases(2_000.max(ProptestConfig::default().cases)))]

    /// A ticket that is let in is served in time, plus or minus one turn of each caller, unless more tickets arrive.
    #[test]
    fn predicted_waits_are_kept(
        tickets in newcomers(),
        (caller, class, is_write) in (0_usize..5, 0_usize..4, any::<bool>()),
    ) {
        let mut paced = PacedQueue::new();
        crowd(&mut paced, &tickets);
        let mut new_ticket = request(["w", "x", "double", "z", "new"][caller], paced.now);
        new_ticket.criticality = Criticality::ALL[class];
        new_ticket.deadline += Duration::from_secs(3600);
        new_ticket.keys = is_write.then(|| WriteKey::of("mine")).into_iter().collect();
        let predicted = paced.admit(&new_ticket).unwrap();
        paced.push(new_ticket, "newcomer");
        let begin = paced.now;
        while !paced.tick().contains(&"newcomer") {
            prop_assert!(paced.now < begin + Duration::from_secs(3600));
        }
        let actual = paced.now - begin;
        prop_assert!(actual <= predicted + PACE * 6, "{actual:?} instead of {predicted:?}");
    }

    /// A caller that waits for its retry delay and retries with the same timeout is let in, unless more tickets have
    /// arrived.
    #[test]
    fn a_ticket_is_admitted_after_its_retry_delay(
        tickets in newcomers(),
        (caller, class, bulk, is_write) in (0_usize..5, 0_usize..4, any::<bool>(), any::<bool>()),
        timeout in 300_u64..20_000,
    ) {
        let mut paced = PacedQueue::new();
        crowd(&mut paced, &tickets);
        let mut new_ticket = request(["w", "x", "double", "capped", "new"][caller], paced.now);
        new_ticket.criticality = Criticality::ALL[class];
        new_ticket.cost = if bulk { Cost::Bulk } else { Cost::Call };
        new_ticket.keys = is_write.then(|| WriteKey::of("mine")).into_iter().collect();
        // A bulk call also needs the second that its slot takes.
        new_ticket.deadline = paced.now + ms(timeout + if bulk { 1_000 } else { 0 });
        let timeout = new_ticket.deadline - paced.now;
        if let Err(refused) = paced.admit(&new_ticket) {
            let until = paced.now + paced.retry_after(&new_ticket);
            prop_assert!(!refused.is_too_slow);
            while paced.now < until {
                paced.tick();
            }
            new_ticket.deadline = paced.now + timeout;
            prop_assert!(paced.admit(&new_ticket).is_ok(), "{:?} and then {:?}", refused, paced.admit(&new_ticket));
        }
    }

    /// No ticket is refused while a slot is free for it and its timeout exceeds the shortest recent latency, whatever
    /// waits and whatever the latencies were. Its cap and the slots that are kept for other classes are not free for
    /// it.
    #[test]
    fn no_ticket_is_refused_while_a_slot_is_free_for_it(
        tickets in newcomers(),
        (caller, class, bulk, is_write) in (0_usize..6, 0_usize..4, any::<bool>(), any::<bool>()),
        free in (0_usize..26, 0_usize..6),
        history in prop::collection::vec((0_u64..3_000, 1_u64..60_000), 0..80),
        timeout in 1_u64..60_000,
    ) {
        let mut paced = PacedQueue::new();
        let mut latency = Latency::default();
        for (pause, took) in history {
            paced.now += ms(pause);
            latency.learn(paced.now, ms(took));
        }
        crowd(&mut paced, &tickets);
        paced.free = free.into();
        paced.grant();
        let new_ticket = TicketRequest {
            criticality: Criticality::ALL[class],
            cost: if bulk { Cost::Bulk } else { Cost::Call },
            keys: is_write.then(|| WriteKey::of("mine")).into_iter().collect(),
            deadline: paced.now + ms(timeout),
            ..request(["w", "x", "double", "z", "capped", "new"][caller], paced.now)
        };
        let estimate = latency.estimate(paced.now, W);
        let (supply, wait) = (paced.supply(), paced.wait());
        let judged = paced.queue.admit(&new_ticket, &estimate, &supply, paced.now, wait);
        paced.push(new_ticket, "newcomer");
        let is_free = paced.grant().contains(&"newcomer");
        prop_assert!(!is_free || ms(timeout) <= estimate.least || judged.is_ok(), "{:?} {:?}", judged, estimate);
    }

    /// Of many calls that are refused together and retried after their retry delays, at least 95 % are served. Of
    /// fewer than 20, all but two: calls that were let in after them may have their turns before.
    #[test]
    fn calls_that_are_refused_together_are_admitted_at_the_second_try(
        waiting in 0_usize..60,
        refused in 1_usize..200,
        callers in 1_usize..5,
        timeout in 500_u64..8_000,
    ) {
        let (all, served) = second_try(waiting, refused, callers, timeout);
        let bound = if all < 20 { 2 } else { all.div_ceil(20) };
        prop_assert!(all - served <= bound, "{served} of {all} served");
    }

    /// The same beside a steady load of up to a fourth of the slots that existed for two windows: at least 90 %.
    #[test]
    fn calls_that_are_refused_beside_a_steady_load_are_admitted_at_the_second_try(
        steady_load in 4_u32..20,
        waiting in 0_usize..60,
        refused in 1_usize..200,
        callers in 1_usize..5,
        timeout in 500_u64..8_000,
    ) {
        let (all, served) = second_try_beside(steady_load, waiting, refused, callers, timeout);
        let bound = if all < 20 { 2 } else { all.div_ceil(10) };
        prop_assert!(all - served <= bound, "{served} of {all} served");
    }
}
