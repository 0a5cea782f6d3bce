//! Which limit explains the observed calls. It is pure: the same waves and seed have the same result.
//!
//! A hypothesis is a kind of window and a number of calls. Its likelihood is that of a particle filter. Each particle has a
//! length of the window, a rate of foreign calls, and a state of the server. The filter sends all waves to each particle:
//!
//! * The server counts a call at an unknown time. Only differences between times matter, so the interval is as long as the
//!   round trip was longer than the shortest one.
//! * Foreign calls are a Poisson process. They are counted like own calls.
//! * A particle must accept as many calls of a wave as LeadSquared did. Which calls of a wave were accepted says nothing, since
//!   their order at the server is unknown.
//!
//! Particles that predict wrong numbers are replaced by slightly changed copies of the others.

use super::model::{Counter, Rule, WindowKind};
use super::random::Random;

/// The logarithm of the likelihood that one call of a wave has an outcome which the model cannot explain, that of each further call,
/// and the minimum for a wave. It is not less, since even the best particle may be wrong about the time of a foreign call.
const UNEXPLAINED: f64 = -4.0;
const UNEXPLAINED_NEXT: f64 = -0.7;
const UNEXPLAINED_WAVE: f64 = -10.0;
/// A hypothesis is dropped when its log likelihood is this much less than the best one after the same wave.
const HOPELESS: f64 = 16.0;
/// The prior probability of the number of calls in the text of a refusal.
const NAMED: f64 = 0.8;
/// The part of the particles that start with the length of the window in the text of a refusal.
const NAMED_PER: f64 = 0.4;
/// The part of the particles without foreign calls.
const UNDISTURBED: f64 = 0.5;
/// Minimum uncertainty of the time of a call, in seconds: the resolution of the timer.
const TICK: f64 = 0.001;
/// Two waves are a part of the same fill if the second one is sent less than this time, in seconds, after the end of the first.
const SUCCESSION: f64 = 0.01;
/// Maximum number of particles of a hypothesis.
const MAX_PARTICLES: usize = 3_000;
/// Minimum change of a copied particle: of the length of the window, and of the phase, as a part of the window. Without it, all
/// particles would become copies of one.
const MIN_CHANGE: f64 = 0.003;
/// The size of a cell of lengths of the window, as a part of the length.
const CELL: f64 = 0.02;
/// The lengths of a window that are expected, in seconds.
const PLAUSIBLE: [f64; 14] = [
    0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0,
];
/// How much more probable a cell with a plausible length is than another one, before the measurement.
const PLAUSIBLE_WEIGHT: f64 = 10.0;
/// The same for the length in the text of a refusal.
const NAMED_WEIGHT: f64 = 100.0;

/// Calls that were sent at the same time. Times are in seconds since the start of the measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct Wave {
    /// When each call with a known outcome was sent, and its round trip time.
    pub(super) calls: Vec<(f64, f64)>,
    /// The number of `calls` that were accepted.
    pub(super) accepted: usize,
    /// The calls without a response, which may have been counted.
    pub(super) failed: Vec<(f64, f64)>,
}

impl Wave {
    pub(super) fn sent(&self) -> f64 {
        self.calls
            .iter()
            .chain(&self.failed)
            .fold(f64::MAX, |first, call| first.min(call.0))
    }

    fn received(&self) -> f64 {
        let received = self.calls.iter().chain(&self.failed).map(|call| call.0 + call.1);
        received.fold(f64::MIN, f64::max)
    }

    pub(super) fn refused(&self) -> usize {
        self.calls.len() - self.accepted
    }
}

/// A number of calls, and a length of the window in seconds, in the text of a refusal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) calls: u32,
    pub(super) per: f64,
}

/// A limit, and how well it explains the waves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hypothesis {
    /// The limit. The length of its window is the mean.
    pub(super) rule: Rule,
    /// The standard deviation of the length of the window, as a part of it.
    pub(super) spread: f64,
    /// Mean number of foreign calls per second.
    pub(super) foreign: f64,
    /// The probability among all hypotheses.
    pub(super) probability: f64,
}

/// Returns all hypotheses that are not excluded, the most probable first. `effort` is the number of particles of a hypothesis
/// with a known length of the window.
///
/// It is a search: the particles have all lengths of the window at first, and few are near the right one. [`check`] compares the
/// hypotheses that it has found.
pub(super) fn search(waves: &[Wave], named: Option<Named>, effort: usize, seed: u64) -> Vec<Hypothesis> {
    let mut candidates = candidates(waves, named);
    let guess = named.map_or(largest_fills(waves).0, |named| named.calls);
    candidates.sort_by_key(|candidate| candidate.1.abs_diff(guess));
    let numbers = candidates.len() / WindowKind::ALL.len();
    let mut race = Race::new(waves);
    for (index, (kind, calls)) in candidates.iter().copied().enumerate() {
        let mut random = Random::new(seed.wrapping_mul(1_009).wrapping_add(index as u64));
        let (low, high) = lengths(kind, calls, waves);
        let count = match kind {
            // The phase is unknown, too.
            WindowKind::Fixed => MAX_PARTICLES,
            _ => MAX_PARTICLES / 3,
        };
        let count = if calls.abs_diff(guess) < 2 { count } else { count / 4 };
        let per = |position: f64, random: &mut Random| match named {
            Some(named) if random.uniform() < NAMED_PER => named.per * (0.03 * random.normal()).exp(),
            _ => low * (high / low).powf(position),
        };
        let filter = Filter::new(kind, calls, waves, effort, count, per, &mut random);
        race.run(filter, prior(calls, named, numbers), &mut random);
    }
    normalize(race.found)
}

/// Compares hypotheses, each with all lengths of the window near the one that [`search`] has found. The lengths are divided into
/// cells of two percent, and each cell has its own particles, so that no length is lost by chance.
pub(super) fn check(
    waves: &[Wave],
    named: Option<Named>,
    hypotheses: &[Hypothesis],
    effort: usize,
    seed: u64,
) -> Vec<Hypothesis> {
    let mut race = Race::new(waves);
    let numbers = candidates(waves, named).len() / WindowKind::ALL.len();
    for (index, hypothesis) in hypotheses.iter().enumerate() {
        let Rule { kind, calls, per } = hypothesis.rule;
        let reach = (4.0 * hypothesis.spread).clamp(0.2, 0.4);
        let half = (reach / CELL) as i32;
        let mut cells: Vec<i32> = (-half..=half).collect();
        cells.sort_by_key(|cell| cell.abs());
        for cell in cells {
            let middle = per * (f64::from(cell) * CELL).exp();
            let (low, high) = (middle * (-CELL / 2.0).exp(), middle * (CELL / 2.0).exp());
            let has = |length: f64| (low..high).contains(&length);
            let weight = match named {
                Some(named) if has(named.per) => NAMED_WEIGHT,
                _ if PLAUSIBLE.into_iter().any(has) => PLAUSIBLE_WEIGHT,
                _ => 1.0,
            };
            let stream = index as u64 * 1_000 + u64::from(cell.unsigned_abs()) * 2 + u64::from(cell < 0);
            let mut random = Random::new(seed.wrapping_mul(1_013).wrapping_add(stream));
            let per = |position: f64, _: &mut Random| low * (high / low).powf(position);
            let count = if kind == WindowKind::Fixed { 4 * effort } else { effort };
            let mut filter = Filter::new(kind, calls, waves, effort, count, per, &mut random);
            filter.lengths = Some((low, high));
            race.run(filter, prior(calls, named, numbers) + f64::ln(weight), &mut random);
        }
    }
    normalize(race.found)
}

/// The log likelihoods of the hypotheses after each wave.
struct Race<'a> {
    waves: &'a [Wave],
    /// The shortest round trip time.
    fastest: f64,
    /// The best log likelihood after each wave.
    best: Vec<f64>,
    found: Vec<(Hypothesis, f64)>,
}

impl<'a> Race<'a> {
    fn new(waves: &'a [Wave]) -> Self {
        let calls = waves.iter().flat_map(|wave| &wave.calls);
        Self {
            waves,
            fastest: calls.fold(f64::MAX, |fastest, call| fastest.min(call.1)),
            best: vec![f64::MIN; waves.len()],
            found: Vec::new(),
        }
    }

    /// Adds the hypothesis of a filter, unless it becomes hopeless.
    fn run(&mut self, mut filter: Filter, prior: f64, random: &mut Random) {
        let mut evidence = prior;
        let mut reached = Vec::with_capacity(self.waves.len());
        for (wave, best) in self.waves.iter().zip(&self.best) {
            evidence += filter.observe(wave, self.fastest, random);
            if evidence < best - HOPELESS {
                return;
            }
            reached.push(evidence);
        }
        for (best, reached) in self.best.iter_mut().zip(reached) {
            *best = best.max(reached);
        }
        self.found.push((filter.hypothesis(), evidence));
    }
}

/// The logarithm of the prior probability of a number of calls among `numbers` possible ones.
fn prior(calls: u32, named: Option<Named>, numbers: usize) -> f64 {
    match named {
        Some(named) if named.calls == calls => NAMED.ln(),
        Some(_) => ((1.0 - NAMED) / numbers.max(1) as f64).ln(),
        None => 0.0,
    }
}

/// Joins the entries of the same kind and number of calls, and computes their probabilities.
fn normalize(found: Vec<(Hypothesis, f64)>) -> Vec<Hypothesis> {
    let highest = found.iter().fold(f64::MIN, |highest, entry| highest.max(entry.1));
    let total: f64 = found.iter().map(|entry| (entry.1 - highest).exp()).sum();
    let mut joined: Vec<(Hypothesis, Lengths)> = Vec::new();
    for (hypothesis, evidence) in found {
        let weight = (evidence - highest).exp() / total;
        let Rule { kind, calls, per } = hypothesis.rule;
        let known = joined
            .iter()
            .position(|(known, _)| (known.rule.kind, known.rule.calls) == (kind, calls));
        let index = known.unwrap_or_else(|| {
            let empty = Hypothesis {
                foreign: 0.0,
                ..hypothesis
            };
            joined.push((empty, Lengths::default()));
            joined.len() - 1
        });
        let (known, lengths) = &mut joined[index];
        known.probability += weight;
        known.foreign += weight * hypothesis.foreign;
        // Likelihoods of neighboring lengths differ by chance. The root keeps one of them from excluding the others.
        lengths.add(weight.cbrt(), per.ln(), hypothesis.spread);
    }
    let mut hypotheses: Vec<_> = joined
        .into_iter()
        .filter(|(hypothesis, _)| hypothesis.probability > 0.0)
        .map(|(mut hypothesis, lengths)| {
            hypothesis.foreign /= hypothesis.probability;
            (hypothesis.rule.per, hypothesis.spread) = lengths.geometric_mean();
            hypothesis
        })
        .collect();
    hypotheses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    hypotheses
}

/// Weighted sums of the logarithms of lengths, and of their squares.
#[derive(Default)]
struct Lengths {
    weight: f64,
    sum: f64,
    squares: f64,
}

impl Lengths {
    fn add(&mut self, weight: f64, logarithm: f64, spread: f64) {
        self.weight += weight;
        self.sum += weight * logarithm;
        self.squares += weight * (logarithm * logarithm + spread * spread);
    }

    /// The geometric mean, and the standard deviation of the logarithm.
    fn geometric_mean(&self) -> (f64, f64) {
        let mean = self.sum / self.weight;
        let variance = self.squares / self.weight - mean * mean;
        (mean.exp(), variance.max(0.0).sqrt())
    }
}

/// The lengths of a window that are expected.
fn plausible_lengths(named: Option<Named>) -> impl Iterator<Item = f64> {
    PLAUSIBLE.into_iter().chain(named.map(|named| named.per))
}

/// The plausible length that cannot be distinguished from the measured one, if there is one.
pub(super) fn plausible_length(per: f64, spread: f64, named: Option<Named>) -> Option<f64> {
    let distance = |length: f64| (length / per).ln().abs();
    let nearest = plausible_lengths(named).min_by(|a, b| distance(*a).total_cmp(&distance(*b)))?;
    (distance(nearest) <= 2.0 * spread + CELL).then_some(nearest)
}

/// The lengths of a window that are possible, in seconds.
fn lengths(kind: WindowKind, calls: u32, waves: &[Wave]) -> (f64, f64) {
    let first = waves.first().map_or(0.0, Wave::sent);
    let span = waves.last().map_or(1.0, |last| last.sent() - first).max(0.1);
    let recovery = shortest_recovery(waves).clamp(0.01, span);
    match kind {
        // A token comes back after a part of the window.
        WindowKind::TokenBucket => (recovery * f64::from(calls) * 0.2, recovery * f64::from(calls) * 3.0),
        _ => (recovery * 0.4, span * 1.2),
    }
}

/// The kinds and numbers of calls that are compared. A fill accepts a part of the limit if there are foreign calls. It accepts
/// more than the limit, up to twice as many, if a window ended meanwhile, which is rare.
fn candidates(waves: &[Wave], named: Option<Named>) -> Vec<(WindowKind, u32)> {
    let (largest, second) = largest_fills(waves);
    let lowest = (second - second / 10).max(largest / 2).max(1);
    let mut numbers: Vec<u32> = (lowest..=largest + (largest / 10).max(4)).collect();
    numbers.extend(named.map(|named| named.calls));
    numbers.sort_unstable();
    numbers.dedup();
    let with_kinds = |calls| WindowKind::ALL.map(|kind| (kind, calls));
    numbers.into_iter().flat_map(with_kinds).collect()
}

/// The largest and the second largest number of calls that were accepted by waves in immediate succession, without a refusal
/// between them.
pub(super) fn largest_fills(waves: &[Wave]) -> (u32, u32) {
    let mut fills: Vec<u32> = Vec::new();
    let mut end = f64::MIN;
    for wave in waves {
        let accepted = u32::try_from(wave.accepted).unwrap_or(u32::MAX);
        match fills.last_mut() {
            Some(fill) if wave.sent() < end + SUCCESSION => *fill += accepted,
            _ => fills.push(accepted),
        }
        end = if wave.refused() > 0 { f64::MIN } else { wave.received() };
    }
    fills.sort_unstable_by(|a, b| b.cmp(a));
    let fill = |index: usize| fills.get(index).copied().unwrap_or_default();
    (fill(0), fill(1))
}

/// The shortest time from a refusal to the next accepted call, in seconds.
fn shortest_recovery(waves: &[Wave]) -> f64 {
    let mut shortest = f64::MAX;
    let mut refused = None;
    for wave in waves {
        if let Some(refused) = refused.filter(|_| wave.accepted > 0) {
            shortest = shortest.min(wave.sent() - refused);
        }
        refused = match wave.refused() {
            0 => None,
            // The time of the first refusal since the last accepted call.
            _ if wave.accepted > 0 => Some(wave.sent()),
            _ => refused.or(Some(wave.sent())),
        };
    }
    shortest
}

/// One possible server.
#[derive(Clone)]
struct Particle {
    per: f64,
    counter: Counter,
    /// Foreign calls per second.
    foreign: f64,
    next_foreign: f64,
    log_weight: f64,
}

struct Filter {
    kind: WindowKind,
    calls: u32,
    effort: usize,
    /// The lengths of the window that the particles may have. `None`: any.
    lengths: Option<(f64, f64)>,
    particles: Vec<Particle>,
}

impl Filter {
    /// `per` returns the length of the window of a particle for its position among all particles, from 0 to 1.
    fn new(
        kind: WindowKind,
        calls: u32,
        waves: &[Wave],
        effort: usize,
        count: usize,
        per: impl Fn(f64, &mut Random) -> f64,
        random: &mut Random,
    ) -> Self {
        let first = waves.first().map_or(0.0, Wave::sent);
        let particles = (0..count)
            .map(|index| {
                let position = (index as f64 + random.uniform()) / count as f64;
                let per = per(position, random);
                let foreign = match random.uniform() < UNDISTURBED {
                    true => 0.0,
                    // Foreign calls in a window.
                    false => random.log_uniform(0.05, 4.0) / per,
                };
                // The foreign calls of the last two windows may still count.
                let start = first - 2.0 * per;
                let mut particle = Particle {
                    per,
                    counter: Counter::new(start - per * random.uniform()),
                    foreign,
                    next_foreign: 0.0,
                    log_weight: 0.0,
                };
                particle.schedule_foreign(start, random);
                particle
            })
            .collect();
        Self {
            kind,
            calls,
            effort,
            lengths: None,
            particles,
        }
    }

    /// Sends the calls of a wave to each particle. Returns the logarithm of the likelihood of the observed outcome.
    fn observe(&mut self, wave: &Wave, fastest: f64, random: &mut Random) -> f64 {
        let before = self.log_total();
        let mut arrivals: Vec<(f64, bool)> = Vec::new();
        for particle in &mut self.particles {
            let rule = Rule {
                kind: self.kind,
                calls: self.calls,
                per: particle.per,
            };
            arrivals.clear();
            for (sent, round_trip) in &wave.calls {
                let width = (round_trip - fastest).max(TICK);
                arrivals.push((sent + width * random.uniform(), true));
            }
            for (sent, elapsed) in &wave.failed {
                if random.uniform() < 0.5 {
                    arrivals.push((sent + elapsed * random.uniform(), false));
                }
            }
            arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut accepted = 0;
            for (arrival, has_outcome) in &arrivals {
                particle.add_foreign(*arrival, &rule, random);
                let admitted = particle.counter.admit(*arrival, &rule);
                accepted += usize::from(admitted && *has_outcome);
            }
            let unexplained = accepted.abs_diff(wave.accepted);
            if unexplained > 0 {
                let now = arrivals.last().map_or(0.0, |arrival| arrival.0);
                for _ in accepted..wave.accepted {
                    particle.counter.accept_anyway(now, &rule);
                }
                if accepted > wave.accepted {
                    particle.counter.exhaust(now, &rule, || random.uniform());
                }
                let likelihood = UNEXPLAINED + UNEXPLAINED_NEXT * (unexplained - 1) as f64;
                particle.log_weight += likelihood.max(UNEXPLAINED_WAVE);
            }
        }
        let likelihood = self.log_total() - before;
        self.resample(random);
        likelihood
    }

    /// The logarithm of the mean weight.
    fn log_total(&self) -> f64 {
        let highest = self.highest();
        let total: f64 = self.weights(highest).sum();
        highest + (total / self.particles.len() as f64).ln()
    }

    fn highest(&self) -> f64 {
        self.particles
            .iter()
            .fold(f64::MIN, |highest, particle| highest.max(particle.log_weight))
    }

    fn weights(&self, highest: f64) -> impl Iterator<Item = f64> {
        self.particles
            .iter()
            .map(move |particle| (particle.log_weight - highest).exp())
    }

    /// Replaces the particles by copies of them in proportion to their weights, if the weights differ much.
    fn resample(&mut self, random: &mut Random) {
        let highest = self.highest();
        let (mut total, mut squares) = (0.0, 0.0);
        for weight in self.weights(highest) {
            total += weight;
            squares += weight * weight;
        }
        if total * total / squares > 0.5 * self.particles.len() as f64 {
            return;
        }
        let (_, spread) = self.per();
        let phase = self.phase_spread();
        // Many particles are necessary only until the length of the window is known.
        let wanted = self.effort as f64 * (1.0 + 20.0 * spread + 4.0 * phase);
        let count = (wanted as usize).min(self.particles.len());
        let mean = highest + (total / self.particles.len() as f64).ln();
        let mut chosen = Vec::with_capacity(count);
        let (mut sum, mut next) = (0.0, total / count as f64 * random.uniform());
        for particle in &self.particles {
            sum += (particle.log_weight - highest).exp();
            while next < sum && chosen.len() < count {
                let mut copy = particle.clone();
                copy.log_weight = mean;
                let now = copy.per;
                match self.lengths {
                    None => copy.per *= ((0.1 * spread).max(MIN_CHANGE) * random.normal()).exp(),
                    Some((low, high)) => {
                        let changed = copy.per * (0.1 * CELL * random.normal()).exp();
                        copy.per = changed.clamp(low, high);
                    }
                }
                if self.kind == WindowKind::Fixed {
                    copy.counter.since += (0.1 * phase).max(MIN_CHANGE) * now * random.normal();
                }
                chosen.push(copy);
                next += total / count as f64;
            }
        }
        self.particles = chosen;
    }

    /// The geometric mean of the length of the window, and the standard deviation of its logarithm.
    fn per(&self) -> (f64, f64) {
        let mut lengths = Lengths::default();
        for (weight, particle) in self.weights(self.highest()).zip(&self.particles) {
            lengths.add(weight, particle.per.ln(), 0.0);
        }
        lengths.geometric_mean()
    }

    /// The standard deviation of the phase of a fixed window, as a part of the window: the circular one.
    fn phase_spread(&self) -> f64 {
        if self.kind != WindowKind::Fixed {
            return 0.0;
        }
        let (mut total, mut cosine, mut sine) = (0.0, 0.0, 0.0);
        for (weight, particle) in self.weights(self.highest()).zip(&self.particles) {
            let angle = std::f64::consts::TAU * particle.counter.since / particle.per;
            total += weight;
            cosine += weight * angle.cos();
            sine += weight * angle.sin();
        }
        let length = (cosine.hypot(sine) / total).clamp(1e-6, 1.0);
        ((-2.0 * length.ln()).max(0.0).sqrt() / std::f64::consts::TAU).min(0.3)
    }

    fn hypothesis(&self) -> Hypothesis {
        let (per, spread) = self.per();
        let (mut total, mut foreign) = (0.0, 0.0);
        for (weight, particle) in self.weights(self.highest()).zip(&self.particles) {
            total += weight;
            foreign += weight * particle.foreign;
        }
        Hypothesis {
            rule: Rule {
                kind: self.kind,
                calls: self.calls,
                per,
            },
            spread,
            foreign: foreign / total,
            probability: 0.0,
        }
    }
}

impl Particle {
    /// Counts the foreign calls until `now`.
    fn add_foreign(&mut self, now: f64, rule: &Rule, random: &mut Random) {
        while self.next_foreign <= now {
            self.counter.admit(self.next_foreign, rule);
            self.schedule_foreign(self.next_foreign, random);
        }
    }

    fn schedule_foreign(&mut self, after: f64, random: &mut Random) {
        self.next_foreign = match self.foreign > 0.0 {
            true => after + random.exponential() / self.foreign,
            false => f64::INFINITY,
        };
    }
}
