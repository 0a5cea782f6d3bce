//! Measures the limit of bulk calls, and which failed calls count. Both need the limit of all calls.
//!
//! Each trial begins after a silence of more than one window and adds evidence for one of two answers: the logarithm of the
//! ratio of their likelihoods. Trials are repeated until the evidence suffices.

use super::inference::Hypothesis;
use super::model::{Rule, WindowKind};
use super::session::{Session, Stop};
use super::{BulkBucket, FailuresCharged, Finding, FindingState};
use crate::probe::call::{CallKind, ProbeCaller};

/// The evidence that decides a question: likelihoods of more than 30 to 1.
const ENOUGH: f64 = 3.5;
/// The evidence of an observation that the other answer explains only by a coincidence, such as a window that ends just then.
const DIRECT: f64 = 3.6;
/// The minimum likelihood of an observation.
const MIN_LIKELIHOOD: f64 = 0.02;
/// With more tokens that have come back meanwhile, the number of accepted reads says nothing about bulk calls.
const MAX_REFILLED: f64 = 0.5;
/// The probability that failing calls count although the limit never refuses them.
const UNREFUSED: f64 = 0.2;
/// Maximum number of trials for a question.
const MAX_TRIALS: u32 = 6;

/// What is known about the bulk limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Bulk {
    /// The number of bulk calls that each trial accepted, and whether another limit than that of all calls ended it.
    counts: Vec<(u32, bool)>,
    /// Evidence that a bulk call also counts as one of all calls, minus evidence that it does not.
    pays_calls: f64,
    trials: u32,
}

/// Evidence that failed calls count, minus evidence that they do not: calls of an unknown path, and calls with an invalid body.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    unknown_path: f64,
    bad_json: f64,
    trials: u32,
}

/// Measures the bulk limit. The result is in `bulk`, also after an error.
pub(super) async fn measure_bulk<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    limit: &Hypothesis,
    bulk: &mut Bulk,
) -> Result<(), Stop> {
    while bulk.trials < MAX_TRIALS && !bulk.is_decided() {
        session.progress("measuring the limit of bulk calls");
        window_passes(session, limit).await?;
        bulk.trials += 1;
        if bulk.trials % 2 == 1 {
            reads_first(session, limit, bulk).await?;
        } else {
            bulk_first(session, limit, bulk).await?;
        }
    }
    Ok(())
}

/// Fills the window with reads, and sends bulk calls at once. If they are accepted, they do not count as calls.
async fn reads_first<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    limit: &Hypothesis,
    bulk: &mut Bulk,
) -> Result<(), Stop> {
    let calls = limit.rule.calls;
    let start = session.now();
    let reads = session.fill(CallKind::Read, calls + 1, calls * 2).await?;
    if reads.refused == 0 {
        return Ok(());
    }
    let first = session.wave(CallKind::Bulk, 1).await?;
    if first.accepted == 0 {
        bulk.pays_calls += DIRECT;
        return Ok(());
    }
    let (more, refused) = if bulk.counts.is_empty() {
        let more = session.fill(CallKind::Bulk, 1, calls * 2).await?;
        (more.accepted, more.refused > 0)
    } else {
        (0, false)
    };
    let refilled = refilled(limit, session.now() - start);
    let last = session.wave(CallKind::Read, 1).await?;
    if last.accepted > 0 {
        // The window has ended meanwhile.
        return Ok(());
    }
    // Tokens that came back meanwhile also explain accepted bulk calls.
    let explained = if f64::from(1 + more) > 2.0 + 2.0 * refilled {
        0.0
    } else {
        refilled
    };
    bulk.pays_calls -= DIRECT * (1.0 - 3.0 * explained).max(0.0);
    if refused && explained == 0.0 {
        bulk.counts.push((1 + more, true));
    }
    Ok(())
}

/// Sends bulk calls until one is refused, and reads at once. If the reads are accepted, the bulk calls have a limit of their own.
async fn bulk_first<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    limit: &Hypothesis,
    bulk: &mut Bulk,
) -> Result<(), Stop> {
    let Rule { kind, calls, .. } = limit.rule;
    let expected = bulk.counts.last().map_or(2, |count| count.0 + 1);
    let start = session.now();
    let sent = session.fill(CallKind::Bulk, expected, calls * 2).await?;
    if sent.refused == 0 {
        return Ok(());
    }
    let has_room = sent.accepted < calls && foreign_calls(limit) < 0.1;
    if bulk.pays_calls.abs() >= ENOUGH {
        let read = session.wave(CallKind::Read, 1).await?;
        bulk.counts.push((sent.accepted, has_room || read.accepted > 0));
        return Ok(());
    }
    let reads = session.wave(CallKind::Read, calls + 1).await?;
    bulk.counts.push((sent.accepted, has_room || reads.accepted > 0));
    if refilled(limit, session.now() - start) > MAX_REFILLED {
        return Ok(());
    }
    // The calls of the window that neither the reads nor, if they count, the bulk calls used.
    let counted = match kind {
        WindowKind::SlidingCountingRefusals => sent.accepted + sent.refused,
        _ => sent.accepted,
    };
    let missing = f64::from(calls) - f64::from(reads.accepted);
    let foreign = foreign_calls(limit);
    let likelihood = |unseen: f64| poisson(unseen, foreign).max(MIN_LIKELIHOOD);
    let ratio = likelihood(missing - f64::from(counted)) / likelihood(missing);
    bulk.pays_calls += ratio.ln();
    Ok(())
}

/// Measures which failed calls count. The result is in `failures`, also after an error.
pub(super) async fn measure_failures<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    limit: &Hypothesis,
    failures: &mut Failures,
) -> Result<(), Stop> {
    while failures.trials < MAX_TRIALS && !failures.is_decided() {
        session.progress("measuring which failed calls count");
        failures.trials += 1;
        if failures.unknown_path.abs() < ENOUGH {
            failures.unknown_path += charge(session, limit, CallKind::UnknownPath).await?;
        }
        if failures.bad_json.abs() < ENOUGH {
            failures.bad_json += charge(session, limit, CallKind::BadJson).await?;
        }
    }
    Ok(())
}

/// Sends more failing calls than the limit, and reads at once. Returns the evidence that the failing calls count.
async fn charge<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    limit: &Hypothesis,
    failing: CallKind,
) -> Result<f64, Stop> {
    let calls = limit.rule.calls;
    window_passes(session, limit).await?;
    let start = session.now();
    let failed = session.wave(failing, calls + 2).await?;
    let reads = session.wave(CallKind::Read, calls.min(3)).await?;
    let refilled = refilled(limit, session.now() - start);
    Ok(match (failed.refused, reads.accepted) {
        // The limit refused failing calls, and has no room for reads.
        (1.., 0) => DIRECT,
        (1.., _) => DIRECT / 2.0,
        // If they counted, there would be no room.
        (0, accepted @ 1..) if f64::from(accepted) > 2.0 * refilled => -DIRECT,
        (0, 1..) => 0.0,
        // Foreign calls, or the failing calls, although they were not refused.
        (0, 0) => {
            let foreign = foreign_calls(limit) * 1.5;
            let below: f64 = (0..calls).map(|unseen| poisson(f64::from(unseen), foreign)).sum();
            (UNREFUSED / (1.0 - below).max(MIN_LIKELIHOOD)).ln()
        }
    })
}

/// Waits until the calls of the session do not count any more.
async fn window_passes<C: ProbeCaller>(session: &mut Session<'_, C>, limit: &Hypothesis) -> Result<(), Stop> {
    session.silence(limit.rule.per * (1.15 + 2.0 * limit.spread)).await
}

/// The mean number of foreign calls that count when a measurement begins after a silence.
fn foreign_calls(limit: &Hypothesis) -> f64 {
    let Rule { kind, calls, per } = limit.rule;
    let window = limit.foreign * per;
    match kind {
        // The tokens of earlier foreign calls have come back.
        WindowKind::TokenBucket => window * 1.5 / f64::from(calls),
        _ => window,
    }
    .max(0.02)
}

/// The number of tokens that come back within `seconds`.
fn refilled(limit: &Hypothesis, seconds: f64) -> f64 {
    let Rule { kind, calls, per } = limit.rule;
    match kind {
        WindowKind::TokenBucket => (seconds + 0.001) * f64::from(calls) / per,
        _ => 0.0,
    }
}

/// The probability of `count` events if `mean` events are expected.
fn poisson(count: f64, mean: f64) -> f64 {
    if count < 0.0 {
        return 0.0;
    }
    let factorial: f64 = (1..=count as u32).map(|factor| f64::from(factor).ln()).sum();
    (count * mean.ln() - mean - factorial).exp()
}

/// The probability of an answer with this evidence.
fn probability(evidence: f64) -> f64 {
    1.0 / (1.0 + (-evidence).exp())
}

impl Bulk {
    /// The number that most trials have found, with the number of these trials, and whether the bulk calls have a limit of their own.
    fn count(&self) -> Option<(u32, usize, bool)> {
        let same = |count: u32| self.counts.iter().filter(move |entry| entry.0 == count);
        let counts = self.counts.iter().map(|(count, _)| (*count, same(*count).count()));
        let (count, trials) = counts.max_by_key(|(count, trials)| (*trials, *count))?;
        Some((count, trials, same(count).any(|entry| entry.1)))
    }

    fn is_decided(&self) -> bool {
        let is_counted = self.count().is_some_and(|(_, trials, own)| trials >= 2 && own);
        is_counted && self.pays_calls.abs() >= ENOUGH
    }

    /// `named`: the number in the text of the refusals of bulk calls.
    pub(super) fn finding(
        &self,
        limit: &Hypothesis,
        evidence: Vec<String>,
        stop: Option<Stop>,
        named: Option<u32>,
    ) -> Finding<BulkBucket> {
        let pays_calls = self.pays_calls > 0.0;
        let Some((bulk, trials, own)) = self.count() else {
            let reason = "no trial has reached the limit of bulk calls".to_owned();
            let reason = stop.map_or(reason, |stop| stop.to_string());
            return Finding {
                evidence,
                ..Finding::without_value(FindingState::Undecided, reason)
            };
        };
        // The refusals name the limit of bulk calls or that of all calls.
        let differs = |named: &u32| ![bulk, limit.rule.calls].contains(named);
        let other = named.filter(differs).filter(|_| self.is_decided());
        let decided = self.is_decided() && other.is_none();
        let reason = match (own, trials) {
            _ if decided => None,
            _ if other.is_some() => other.map(|other| format!("the refusals name {other} bulk calls")),
            (false, _) => Some(format!(
                "bulk calls are refused together with reads, so their own limit may be higher than {bulk}"
            )),
            (true, 0 | 1) => Some("the trials differ".to_owned()),
            _ => Some("bulk calls may or may not count as calls".to_owned()),
        };
        let values = self.counts.iter().flat_map(|(count, _)| {
            let pays = [true, false].map(|pays_calls| BulkBucket {
                bulk: *count,
                pays_calls,
            });
            pays.into_iter()
        });
        let value = BulkBucket { bulk, pays_calls };
        let agree = trials as f64 / self.counts.len() as f64;
        let mut alternatives: Vec<(BulkBucket, f64)> = Vec::new();
        for other in values.filter(|other| *other != value) {
            let pays = probability(if other.pays_calls {
                self.pays_calls
            } else {
                -self.pays_calls
            });
            let part =
                self.counts.iter().filter(|entry| entry.0 == other.bulk).count() as f64 / self.counts.len() as f64;
            if !decided && pays * part > 0.03 && !alternatives.iter().any(|known| known.0 == other) {
                alternatives.push((other, pays * part));
            }
        }
        alternatives.sort_by(|a, b| b.1.total_cmp(&a.1));
        let state = if decided {
            FindingState::Decided
        } else {
            FindingState::Undecided
        };
        Finding {
            state,
            value: Some(value),
            confidence: probability(self.pays_calls.abs()) * if decided { 1.0 } else { agree },
            alternatives,
            observation: String::new(),
            evidence,
            reason,
            more_calls: (!decided).then_some(2 * (limit.rule.calls + bulk) + 8),
        }
    }
}

impl Failures {
    fn is_decided(&self) -> bool {
        self.unknown_path.abs() >= ENOUGH && self.bad_json.abs() >= ENOUGH
    }

    pub(super) fn finding(
        &self,
        limit: &Hypothesis,
        evidence: Vec<String>,
        stop: Option<Stop>,
    ) -> Finding<FailuresCharged> {
        let value = FailuresCharged {
            unknown_path: self.unknown_path > 0.0,
            bad_json: self.bad_json > 0.0,
        };
        let confidence = probability(self.unknown_path.abs()) * probability(self.bad_json.abs());
        if self.is_decided() {
            return Finding {
                state: FindingState::Decided,
                value: Some(value),
                confidence,
                alternatives: Vec::new(),
                observation: String::new(),
                evidence,
                reason: None,
                more_calls: None,
            };
        }
        let mut alternatives = Vec::new();
        let unknown_path = probability(self.unknown_path);
        let bad_json = probability(self.bad_json);
        for other in [(false, false), (false, true), (true, false), (true, true)] {
            let of_path = if other.0 { unknown_path } else { 1.0 - unknown_path };
            let of_json = if other.1 { bad_json } else { 1.0 - bad_json };
            let other = FailuresCharged {
                unknown_path: other.0,
                bad_json: other.1,
            };
            if other != value && of_path * of_json > 0.03 {
                alternatives.push((other, of_path * of_json));
            }
        }
        alternatives.sort_by(|a, b| b.1.total_cmp(&a.1));
        Finding {
            state: FindingState::Undecided,
            value: (self.trials > 0).then_some(value),
            confidence,
            alternatives,
            observation: String::new(),
            evidence,
            reason: Some(stop.map_or("foreign calls fill the window".to_owned(), |stop| stop.to_string())),
            more_calls: Some(2 * (limit.rule.calls + 5)),
        }
    }
}
