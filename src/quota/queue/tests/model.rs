//! Checks any history of the queue against a model: a list of tickets that is searched completely.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Push {
        caller: usize,
        class: usize,
        bulk: bool,
        rides: bool,
        keys: Vec<u8>,
        patience: u64,
    },
    NextTicket {
        free: usize,
        bulk: usize,
    },
    Done(usize),
    PutBack(usize),
    Remove(usize),
    TakeAlong,
    Pass(u64),
    SetCap(usize, u32),
    SetMaxima(usize, usize),
}

const CALLERS: [&str; 4] = ["capped", "double", "humble", "other"];
const CAP: usize = 3;
const MAX_CAP: usize = 6;
const MAX_WAITING: usize = 40;
const MAX_PER_CALLER: usize = 15;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(0_u8..4, 1..3)];
    let push = (
        0..CALLERS.len(),
        0_usize..4,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.4),
        keys,
        0_u64..20_000,
    )
        .prop_map(|(caller, class, bulk, rides, keys, patience)| Step::Push {
            caller,
            class,
            bulk,
            rides,
            keys,
            patience,
        });
    let step = prop_oneof![
        8 => push,
        6 => (0_usize..8, 0_usize..2).prop_map(|(free, bulk)| Step::NextTicket { free, bulk }),
        4 => any::<usize>().prop_map(Step::Done),
        1 => any::<usize>().prop_map(Step::PutBack),
        1 => any::<usize>().prop_map(Step::Remove),
        2 => Just(Step::TakeAlong),
        2 => (1_u64..1_500).prop_map(Step::Pass),
        1 => (1..MAX_CAP, 1_u32..5).prop_map(|(cap, weight)| Step::SetCap(cap, weight)),
        1 => (10..=MAX_WAITING, 3..=MAX_PER_CALLER).prop_map(|(all, one)| Step::SetMaxima(all, one)),
    ];
    prop::collection::vec(step, 1..150)
}

/// A ticket of the model. Only its class is read from the queue, since other tickets may raise it.
#[derive(Clone, Debug)]
struct Known {
    id: TicketId,
    caller: usize,
    cost: Cost,
    rides: bool,
    keys: Vec<u8>,
    deadline: Instant,
    requeued: bool,
}

struct Model {
    queue: Queue<TicketName>,
    now: Instant,
    waiting: Vec<Known>,
    in_progress: Vec<(Known, Receipt)>,
    /// Grants that count against the cap of the capped caller.
    capped: Vec<Instant>,
    cap: usize,
    max_waiting: usize,
    max_per_caller: usize,
    pushed: usize,
    ended: usize,
    grants: usize,
    out_of_order: [usize; 4],
}

type TicketName = usize;

impl Model {
    fn new() -> Self {
        let mut settings = settings();
        settings.max_waiting = MAX_WAITING;
        settings.max_per_caller = MAX_PER_CALLER;
        Self {
            queue: Queue::new(settings),
            now: Instant::now(),
            waiting: Vec::new(),
            in_progress: Vec::new(),
            capped: Vec::new(),
            cap: CAP,
            max_waiting: MAX_WAITING,
            max_per_caller: MAX_PER_CALLER,
            pushed: 0,
            ended: 0,
            grants: 0,
            out_of_order: [0; 4],
        }
    }

    fn class(&self, ticket: &Known) -> Criticality {
        self.queue.tickets[&ticket.id].class
    }

    fn forget(&mut self, id: TicketId) -> Known {
        let at = self.waiting.iter().position(|ticket| ticket.id == id);
        self.waiting.remove(at.expect("it was waiting"))
    }

    fn is_key_free(&self, ticket: &Known) -> bool {
        let shares = |other: &Known| other.keys.iter().any(|key| ticket.keys.contains(key));
        !self.in_progress.iter().any(|(other, _)| shares(other))
            && !self.waiting.iter().any(|other| other.id < ticket.id && shares(other))
    }

    fn is_at_cap(&self, ticket: &Known) -> bool {
        let used = self.capped.iter().filter(|at| **at + W > self.now).count();
        CALLERS[ticket.caller] == "capped" && !ticket.requeued && used >= self.cap
    }

    /// Whether it can be granted, other tickets aside.
    fn can_go(&self, ticket: &Known, bulk: usize) -> bool {
        self.is_key_free(ticket) && !self.is_at_cap(ticket) && (ticket.cost == Cost::Call || bulk > 0)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push {
                caller,
                class,
                bulk,
                rides,
                keys,
                patience,
            } => self.push(caller, class, bulk, rides.then_some(Lane::Updates), keys, patience),
            Step::NextTicket { free, bulk } => self.next(free, bulk),
            Step::Done(which) => {
                if let Some((_, receipt)) = self.some_in_progress(which) {
                    self.queue.done(receipt);
                    self.ended += 1;
                }
            }
            Step::PutBack(which) => {
                if let Some((mut ticket, receipt)) = self.some_in_progress(which) {
                    self.queue.requeue(receipt, 0, self.now);
                    ticket.requeued = true;
                    self.waiting.push(ticket);
                }
            }
            Step::Remove(which) => {
                if let Some(id) = self.some_waiting(which) {
                    assert!(self.queue.remove(id).is_some());
                    self.forget(id);
                    self.ended += 1;
                }
            }
            Step::TakeAlong => self.take_member(),
            Step::Pass(time) => self.now += ms(time),
            Step::SetCap(cap, weight) => {
                self.cap = cap;
                let mut quotas = settings().callers;
                let capped = quotas.named.get_mut("capped").expect("it has settings");
                capped.calls_per_window = u32::try_from(cap).ok();
                quotas.others.weight = weight;
                self.queue.set_callers(quotas, self.now);
            }
            Step::SetMaxima(all, one) => {
                (self.max_waiting, self.max_per_caller) = (all, one);
                self.queue.set_maxima(all, one);
            }
        }
        self.check();
    }

    fn some_in_progress(&mut self, which: usize) -> Option<(Known, Receipt)> {
        let count = self.in_progress.len();
        (count > 0).then(|| self.in_progress.swap_remove(which % count))
    }

    fn some_waiting(&self, which: usize) -> Option<TicketId> {
        let count = self.waiting.len();
        (count > 0).then(|| self.waiting[which % count].id)
    }

    /// Takes a member of a batch after a grant, when the expired tickets are removed.
    fn take_member(&mut self) {
        for _ in 0..self.waiting.len() {
            self.next(0, 0);
        }
        let mut fellows: Vec<_> = self.waiting.iter().filter(|ticket| ticket.rides).cloned().collect();
        fellows.retain(|ticket| self.is_key_free(ticket));
        let highest = fellows.iter().map(|ticket| self.class(ticket)).max();
        let taken = self.queue.take_member(Lane::Updates);
        assert_eq!(taken.is_some(), highest.is_some());
        if let Some((receipt, _)) = taken {
            let ticket = fellows.into_iter().find(|ticket| ticket.id == receipt.id);
            assert_eq!(Some(receipt.criticality()), highest);
            self.forget(receipt.id);
            self.in_progress.push((ticket.expect("it can be a member"), receipt));
        }
    }

    fn push(&mut self, caller: usize, class: usize, bulk: bool, lane: Option<Lane>, keys: Vec<u8>, patience: u64) {
        let request = TicketRequest {
            caller: CALLERS[caller].into(),
            criticality: Criticality::ALL[class],
            cost: if bulk { Cost::Bulk } else { Cost::Call },
            keys: keys.iter().map(|key| WriteKey::of(&key.to_string())).collect(),
            position: None,
            deadline: self.now + ms(patience),
            lane,
        };
        let (cost, deadline) = (request.cost, request.deadline);
        let class = self.queue.class_of(&request);
        let of_caller = |ticket: &&Known| ticket.caller == caller;
        let candidates: Vec<_> = if self.waiting.iter().filter(of_caller).count() >= self.max_per_caller {
            self.waiting.iter().filter(of_caller).collect()
        } else if self.waiting.len() >= self.max_waiting {
            self.waiting.iter().collect()
        } else {
            Vec::new()
        };
        let victim = candidates
            .into_iter()
            .min_by_key(|ticket| (self.class(ticket), std::cmp::Reverse(ticket.id)));
        let victim = victim.map(|ticket| (ticket.id, self.class(ticket)));
        self.pushed += 1;
        match (self.queue.push(request, self.pushed, self.now), victim) {
            (Err(name), Some((_, lowest))) => {
                assert_eq!(name, self.pushed);
                assert!(lowest >= class);
                self.ended += 1;
            }
            (Ok(pushed), victim) => {
                assert_eq!(pushed.dropped.map(|(id, _)| id), victim.map(|(id, _)| id));
                if let Some((id, lowest)) = victim {
                    assert!(lowest < class);
                    self.forget(id);
                    self.ended += 1;
                }
                self.waiting.push(Known {
                    id: pushed.id,
                    caller,
                    cost,
                    rides: lane.is_some(),
                    keys,
                    deadline,
                    requeued: false,
                });
            }
            (Err(_), None) => panic!("refused while there was room"),
        }
    }

    fn next(&mut self, free: usize, bulk: usize) {
        let supply = Supply {
            calls: SlotSupply { limit: 25, free },
            bulk: SlotSupply { limit: 5, free: bulk },
            window: W,
            pacing_delay: Duration::ZERO,
        };
        let before: Vec<_> = self
            .waiting
            .iter()
            .map(|ticket| (ticket.clone(), self.class(ticket)))
            .collect();
        match self.queue.next(&supply, self.now) {
            NextTicket::Expired(id, ..) => {
                assert!(self.forget(id).deadline <= self.now);
                self.ended += 1;
            }
            NextTicket::Granted(receipt, _) => {
                let ticket = self
                    .waiting
                    .iter()
                    .find(|ticket| ticket.id == receipt.id)
                    .unwrap()
                    .clone();
                let class = receipt.criticality();
                assert!(ticket.deadline > self.now, "granted past its deadline");
                assert!(free > 0, "granted without a slot");
                assert!(self.can_go(&ticket, bulk), "{ticket:?} could not go");
                self.check_order(&ticket, class, &before, bulk);
                self.grants += 1;
                if CALLERS[ticket.caller] == "capped" && !ticket.requeued {
                    self.capped.push(self.now);
                }
                self.forget(ticket.id);
                self.in_progress.push((ticket, receipt));
            }
            NextTicket::None => {
                let kept = self.queue.reserve.kept(25);
                assert!(kept <= 5);
                for (ticket, class) in &before {
                    assert!(ticket.deadline > self.now, "a dead one was left");
                    let has_slot = if *class >= Criticality::Critical {
                        free > 0
                    } else {
                        free > kept
                    };
                    assert!(!has_slot || !self.can_go(ticket, bulk), "{ticket:?} was left");
                }
            }
        }
    }

    /// Checks that no other ticket should have been granted, by the rules for single grants.
    fn check_order(&mut self, ticket: &Known, class: Criticality, before: &[(Known, Criticality)], bulk: usize) {
        let rivals = || {
            before
                .iter()
                .filter(|(other, _)| other.id != ticket.id && self.can_go(other, bulk))
        };
        let is_overtaking = rivals().any(|(_, other)| *other > class);
        for (other, _) in rivals().filter(|(_, other)| *other == class) {
            assert!(
                ticket.requeued || !other.requeued,
                "{other:?} had its turn before {ticket:?}"
            );
            let same_flow = other.caller == ticket.caller && other.cost == ticket.cost && !ticket.requeued;
            let kind = |ticket: &Known| (ticket.rides, !ticket.rides && ticket.keys.is_empty());
            if same_flow && kind(other) == kind(ticket) {
                let is_by_deadline = ticket.rides || ticket.keys.is_empty();
                let by_deadline = is_by_deadline && ticket.deadline <= other.deadline;
                assert!(
                    by_deadline || (!is_by_deadline && ticket.id < other.id),
                    "{other:?} before {ticket:?}"
                );
            }
        }
        if is_overtaking {
            assert!(class < Criticality::Critical);
            self.out_of_order[class as usize] += 1;
            // Its grants in order may have been before it waited again.
            assert!(
                self.out_of_order[class as usize] * 19 <= self.grants,
                "overtook too often"
            );
        }
    }

    fn check(&self) {
        assert_eq!(self.queue.len(), self.waiting.len());
        assert_eq!(
            self.pushed,
            self.ended + self.waiting.len() + self.in_progress.len(),
            "lost or doubled"
        );
        let snapshot = self.queue.snapshot();
        assert_eq!(snapshot.waiting.iter().sum::<usize>(), self.waiting.len());
        assert_eq!(
            snapshot.callers.iter().map(|caller| caller.waiting).sum::<usize>(),
            self.waiting.len()
        );
        for ahead in &self.waiting {
            for behind in self.waiting.iter().filter(|behind| behind.id > ahead.id) {
                let shares = ahead.keys.iter().any(|key| behind.keys.contains(key));
                assert!(
                    !shares || self.class(ahead) >= self.class(behind),
                    "{ahead:?} holds up {behind:?}"
                );
            }
        }
    }

    /// Grants all tickets, since none may be stuck.
    fn drain(mut self) {
        for _ in 0..4 * (MAX_WAITING + self.in_progress.len() + 10) {
            self.step(Step::NextTicket { free: 25, bulk: 5 });
            while !self.in_progress.is_empty() {
                self.step(Step::Done(0));
            }
            self.step(Step::Pass(400));
        }
        assert!(self.waiting.is_empty(), "{:?}", self.waiting);
        assert!(self.queue.key_queues.is_empty());
        assert!(self.queue.deadlines.is_empty());
        assert_eq!(self.queue.next_wake(), None);
        for class in &self.queue.classes {
            assert!(class.is_empty());
            assert_eq!(class.waiting(Cost::Call) + class.waiting(Cost::Bulk), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_rules_hold_for_any_history(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.drain();
    }
}
