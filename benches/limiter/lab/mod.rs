//! A test bench for limiters: a server, a network and arrivals in virtual time. Knows limiters only as [`Client`]s.
//!
//! Everything that happens is an event with a time. So an hour takes milliseconds, and the same seed gives the same
//! hour.

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

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// How the server counts, and its limits.
    pub server: Limits,
    /// The network to the server.
    pub network: Network,
    /// Number of arriving calls per second. `None`: a call is always waiting.
    pub arrivals: Option<f64>,
    /// Whether refusals name the limit.
    pub names_limit: bool,
    /// Number of calls per second of other users of the account. Refused ones are not repeated.
    pub foreign: f64,
    /// The length of the run.
    pub length: Duration,
    /// The seed of all random numbers.
    pub seed: u64,
}

/// The network to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    /// Minimum time of one way.
    pub one_way: Duration,
    /// Mean of the jitter of each way, exponentially distributed.
    pub jitter: Duration,
    /// Mean of the time that the server takes for an accepted call, exponentially distributed.
    pub work: Duration,
    /// Part of the calls that are delayed by another 100 to 900 ms, half of them on the way to the server.
    pub spikes: f64,
    /// Part of the calls whose response gets lost.
    pub lost: f64,
    /// When the wait for a response ends.
    pub timeout: Duration,
}

/// A limiter, which decides when calls are sent.
pub(crate) trait Client {
    /// What the limiter gets back with the response.
    type Pass: Copy;
    /// A call waits: whether it can be sent now.
    fn take(&mut self, now: Instant) -> Take<Self::Pass>;
    /// The outcome of a call.
    fn ended(&mut self, pass: Self::Pass, sent: Instant, now: Instant, verdict: Option<Verdict>);
}

/// The decision about a waiting call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Take<P> {
    /// It is sent now.
    Granted(P),
    /// To be decided again at this time, or after a response.
    At(Instant),
    /// To be decided again after a response.
    AfterCallEnds,
}

impl Client for Window {
    type Pass = WindowGrant;

    fn take(&mut self, now: Instant) -> Take<WindowGrant> {
        match self.next(now) {
            NextSlot::Now => Take::Granted(self.granted(now)),
            NextSlot::At(at) => Take::At(at),
            NextSlot::AfterCallEnds => Take::AfterCallEnds,
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

/// Runs a limiter. Returns the report.
pub(crate) fn run<C: Client>(scenario: &Scenario, client: &mut C) -> Report {
    Lab::new(scenario).run(client)
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Foreign,
    /// The call with this number reaches the server.
    Stamp(usize),
    /// Its response reaches the client, or gets lost.
    End(usize),
    /// The limiter decides again.
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
    /// Separate random numbers for each, so that all limiters get the same arrivals and the same foreign calls.
    arrivals: Random,
    foreign: Random,
    network: Random,
    server: Limiter,
    start: Instant,
    now: Instant,
    /// The future events. The number keeps events of the same time in order.
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    scheduled: u64,
    /// When the limiter wants to decide again, and when that happens.
    waking: Option<(Instant, Instant)>,
    flights: Vec<Flight<P>>,
    /// The arrival times of the waiting calls.
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
                // An event that was replaced by an earlier one is ignored.
                Event::Wake if self.waking.is_none_or(|(_, waking)| waking != at) => continue,
                Event::Wake => self.waking = None,
            }
            self.send_all(client);
        }
        self.report
    }

    /// Sends all calls that the limiter allows.
    fn send_all<C: Client<Pass = P>>(&mut self, client: &mut C) {
        let saturated = self.scenario.arrivals.is_none();
        while saturated || !self.waiting.is_empty() {
            match client.take(self.now) {
                Take::Granted(pass) => {
                    let arrived = self.waiting.pop_front().unwrap_or(self.now);
                    self.send(pass, arrived);
                }
                Take::At(at) => return self.wake(at),
                Take::AfterCallEnds => return,
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
            // The call returns to the head of the queue.
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
