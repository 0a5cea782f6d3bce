//! A laboratory for limiters: a server, a network and arrivals in virtual time. Knows limiters only as [`Client`]s.
//!
//! Everything that happens is an event with a time, so an hour takes milliseconds and the same seed gives the same hour.

mod random;
mod report;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use leadgate::error::{Limit, Refusal};
use leadgate::quota::{NextSlot, Verdict, Window, WindowGrant};
use leadgate_simulator::limits::{Limiter, Limits, Verdict as Admission};
use random::Random;
pub(crate) use report::Report;

/// What is measured under which circumstances.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// How the server counts, and how much it allows.
    pub server: Limits,
    /// The way there and back.
    pub network: Network,
    /// How many calls a second want to be made; `None`: there is always one that waits.
    pub arrivals: Option<f64>,
    /// Whether refusals name the limit.
    pub names_limit: bool,
    /// How many calls a second somebody else makes on the account. Refused ones are not repeated.
    pub foreign: f64,
    /// For how long.
    pub length: Duration,
    /// The seed of all chance.
    pub seed: u64,
}

/// The way to the server and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    /// The least time of one way.
    pub one_way: Duration,
    /// The mean of what is added to each way, exponentially distributed.
    pub jitter: Duration,
    /// The mean of what the server works on a call after it was let in, exponentially distributed.
    pub work: Duration,
    /// The share of calls that are delayed by another 100 to 900 ms, half of them on the way there.
    pub spikes: f64,
    /// The share of calls whose answer never comes.
    pub lost: f64,
    /// When an answer is given up.
    pub timeout: Duration,
}

/// Who decides when to call.
pub(crate) trait Client {
    /// What it wants to be given back with the answer.
    type Pass: Copy;
    /// A call waits: may it go now?
    fn take(&mut self, now: Instant) -> Take<Self::Pass>;
    /// What became of a call.
    fn ended(&mut self, pass: Self::Pass, sent: Instant, now: Instant, verdict: Option<Verdict>);
}

/// The answer to a call that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Take<P> {
    /// It goes now.
    Granted(P),
    /// Ask again then, or after an answer.
    At(Instant),
    /// Ask again after an answer.
    AfterAnEnd,
}

impl Client for Window {
    type Pass = WindowGrant;

    fn take(&mut self, now: Instant) -> Take<WindowGrant> {
        match self.next(now) {
            NextSlot::Now => Take::Granted(self.granted(now)),
            NextSlot::At(at) => Take::At(at),
            NextSlot::AfterCallEnds => Take::AfterAnEnd,
        }
    }

    fn ended(&mut self, grant: WindowGrant, sent: Instant, now: Instant, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => {
                self.responded(grant, "one", sent, now, verdict);
            }
            None => self.lost(grant, now),
        }
    }
}

/// Lets a client make calls, and reports what came of it.
pub(crate) fn run<C: Client>(scenario: &Scenario, client: &mut C) -> Report {
    Lab::new(scenario).run(client)
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Foreign,
    /// The call with that number reaches the server.
    Stamp(usize),
    /// Its answer reaches the client, or is given up.
    End(usize),
    /// The client wanted to be asked again.
    Wake,
}

#[derive(Clone, Copy)]
struct Flight<P> {
    pass: P,
    arrived: Instant,
    sent: Instant,
    verdict: Option<Verdict>,
    way_back: Duration,
}

struct Lab<'a, P> {
    scenario: &'a Scenario,
    /// Chance of its own for each, so that all limiters meet the same arrivals and the same foreign calls.
    arrivals: Random,
    foreign: Random,
    network: Random,
    server: Limiter,
    start: Instant,
    now: Instant,
    /// The events to come; the number keeps those of one moment in order.
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    scheduled: u64,
    /// When the client wants to be asked again, and when that will be.
    waking: Option<(Instant, Instant)>,
    flights: Vec<Flight<P>>,
    /// When those that wait have arrived.
    waiting: VecDeque<Instant>,
    report: Report,
}

impl<'a, P: Copy> Lab<'a, P> {
    fn new(scenario: &'a Scenario) -> Self {
        let start = Instant::now();
        let limit = Limit {
            calls: scenario.server.calls,
            per: scenario.server.per,
        };
        Self {
            scenario,
            arrivals: Random::new(scenario.seed * 3),
            foreign: Random::new(scenario.seed * 3 + 1),
            network: Random::new(scenario.seed * 3 + 2),
            server: Limiter::new(start),
            start,
            now: start,
            events: BinaryHeap::new(),
            scheduled: 0,
            waking: None,
            flights: Vec::new(),
            waiting: VecDeque::new(),
            report: Report::new(limit, start, scenario.length),
        }
    }

    fn run<C: Client<Pass = P>>(mut self, client: &mut C) -> Report {
        self.schedule_arrival();
        self.schedule_foreign();
        self.send_all(client);
        let end = self.start + self.scenario.length;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at >= end {
                break;
            }
            self.now = at;
            match event {
                Event::Arrival => {
                    self.waiting.push_back(at);
                    self.schedule_arrival();
                }
                Event::Foreign => {
                    let accepted = self.admit() == Verdict::Accepted;
                    self.report.foreign(at, accepted);
                    self.schedule_foreign();
                }
                Event::Stamp(call) => self.stamp(call),
                Event::End(call) => self.end(call, client),
                // One that was overtaken by an earlier wish is none.
                Event::Wake if self.waking.is_none_or(|(_, waking)| waking != at) => continue,
                Event::Wake => self.waking = None,
            }
            self.send_all(client);
        }
        self.report
    }

    /// Sends whatever the client allows.
    fn send_all<C: Client<Pass = P>>(&mut self, client: &mut C) {
        let saturated = self.scenario.arrivals.is_none();
        while saturated || !self.waiting.is_empty() {
            match client.take(self.now) {
                Take::Granted(pass) => {
                    let arrived = self.waiting.pop_front().unwrap_or(self.now);
                    self.send(pass, arrived);
                }
                Take::At(at) => return self.wake(at),
                Take::AfterAnEnd => return,
            }
        }
    }

    /// A timer of tokio fires up to a millisecond late.
    fn wake(&mut self, at: Instant) {
        if self.waking.is_none_or(|(wish, _)| at < wish) {
            let late = at + Duration::from_millis(1).mul_f64(self.network.uniform());
            self.waking = Some((at, late));
            self.schedule(late, Event::Wake);
        }
    }

    fn send(&mut self, pass: P, arrived: Instant) {
        let network = self.scenario.network;
        let mut ways = [network.one_way; 2].map(|way| way + network.jitter.mul_f64(self.network.exponential()));
        ways[1] += network.work.mul_f64(self.network.exponential());
        if self.network.uniform() < network.spikes {
            let way = usize::from(self.network.uniform() < 0.5);
            ways[way] += Duration::from_millis(800).mul_f64(self.network.uniform()) + Duration::from_millis(100);
        }
        let call = self.flights.len();
        self.flights.push(Flight {
            pass,
            arrived,
            sent: self.now,
            verdict: None,
            way_back: ways[1],
        });
        self.schedule(self.now + ways[0], Event::Stamp(call));
    }

    fn stamp(&mut self, call: usize) {
        let verdict = self.admit();
        let Flight { sent, way_back, .. } = self.flights[call];
        self.report.stamp(self.now, verdict == Verdict::Accepted);
        if self.network.uniform() < self.scenario.network.lost {
            return self.schedule(sent + self.scenario.network.timeout, Event::End(call));
        }
        self.flights[call].verdict = Some(verdict);
        self.schedule(self.now + way_back, Event::End(call));
    }

    fn end<C: Client<Pass = P>>(&mut self, call: usize, client: &mut C) {
        let flight = self.flights[call];
        client.ended(flight.pass, flight.sent, self.now, flight.verdict);
        match flight.verdict {
            // It goes back to the head of the queue.
            Some(Verdict::Refused(_)) => self.waiting.push_front(flight.arrived),
            _ => self.report.wait(flight.sent - flight.arrived),
        }
    }

    fn admit(&mut self) -> Verdict {
        let admission = self.server.admit(self.now, 0, false, &self.scenario.server);
        if admission == Admission::Admitted {
            return Verdict::Accepted;
        }
        let limit = Limit {
            calls: self.scenario.server.calls,
            per: self.scenario.server.per,
        };
        Verdict::Refused(Refusal::Window(self.scenario.names_limit.then_some(limit)))
    }

    fn schedule_arrival(&mut self) {
        if let Some(per_second) = self.scenario.arrivals {
            let at = self.now + self.arrivals.pause(per_second);
            self.schedule(at, Event::Arrival);
        }
    }

    fn schedule_foreign(&mut self) {
        if self.scenario.foreign > 0.0 {
            let at = self.now + self.foreign.pause(self.scenario.foreign);
            self.schedule(at, Event::Foreign);
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }
}
