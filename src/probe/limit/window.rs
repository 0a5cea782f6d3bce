//! Measures the limit of all calls.
//!
//! A first series fills the window and waits for its recovery, twice, without any assumption about its length. Then come
//! rounds, each after a silence of more than one window, in which the kinds of windows accept different numbers of calls:
//!
//! | time in windows | calls | accepted if nothing else is counted |
//! |---|---|---|
//! | 0 | half of the limit | all |
//! | about 0.5 | the other half, and some more | half of the limit; a token bucket: more; a fixed window that has ended: all |
//! | about 0.8 | one | a token bucket, or a fixed window that has ended |
//! | shortly before 1 | one | the same |
//! | shortly after 1 | a few more than half | sliding: half; first-request: all; refusals count: fewer, or none |
//!
//! The silence has a random length, so that the boundaries of fixed windows are elsewhere in each round. The rounds end when one
//! hypothesis remains, also after a thorough comparison with the ones that are close to it.
//!
//! Foreign calls at regular intervals look like a lower limit. So the number must be that in the text of the refusals. Without such a
//! text, the window is filled a few times more, and must accept the same number each time.

use super::inference::{Hypothesis, Named, check, plausible_length, search};
use super::model::{Rule, WindowKind};
use super::random::Random;
use super::session::{Session, Stop};
use super::{Finding, FindingState, LimitPlan, WindowLimit};
use crate::probe::call::{CallKind, ProbeCaller};

/// Maximum number of calls of the first fill. A higher limit is not measured.
const MAX_FILL: u32 = 200;
/// The time between the single calls of the first series, as a part of the time since the fill.
const GROWTH: f64 = 1.2;
/// The first time between two single calls, in seconds.
const FIRST_PAUSE: f64 = 0.05;
/// Number of particles of a hypothesis in the search, and of each length of its window in the check.
const EFFORT: usize = 200;
const CHECK_EFFORT: usize = 200;
/// Maximum number of hypotheses that are checked.
const MAX_CHECKED: usize = 8;
/// The check needs most of the processor time. It is left out while the search is far from a decision.
const MIN_BEST: f64 = 0.5;
const MAX_BEST_SPREAD: f64 = 0.15;
/// Minimum probability, by the search, of a hypothesis that is checked.
const MIN_CHECKED: f64 = 1e-4;
/// Minimum probability of a decided answer.
const DECIDED: f64 = 0.985;
/// Maximum standard deviation of a decided length of the window, as a part of it.
const MAX_SPREAD: f64 = 0.025;
/// The same if the length cannot be distinguished from a plausible one.
const MAX_PLAUSIBLE_SPREAD: f64 = 0.04;
/// The probability above which a round measures only the length of the window, if that is uncertain.
const LENGTH_ONLY: f64 = 0.9;
/// Minimum number of rounds. With foreign calls, there is one more.
const MIN_ROUNDS: u32 = 2;
/// The number of foreign calls in a window above which a round more is necessary.
const FEW_FOREIGN: f64 = 0.1;
/// Values with a smaller probability are excluded.
const EXCLUDED: f64 = 0.005;

/// How often the window is filled to confirm a number that no text names.
const CONFIRMATIONS: u32 = 3;
/// Number of single calls while the window is full, for the same purpose.
const SINGLE_CALLS: u32 = 8;
/// Maximum confidence in a number that no text names.
const MAX_UNNAMED: f64 = 0.9;
/// Number of rounds after which a number that differs from the text is not measured further.
const MAX_DOUBTED_ROUNDS: u32 = 4;
/// Difference of the length of the window from that in a text: in seconds, since the text has whole seconds, and as a part of it.
const MAX_NAMED_DIFFERENCE: (f64, f64) = (1.0, 0.05);
/// With more foreign calls in a window, at least this many and this part of the limit, the kind of the window is not sure.
const MANY_FOREIGN: (f64, f64) = (3.0, 0.25);
/// Maximum difference of a length from the named one, as a part of it, in addition to its own uncertainty.
const SAME_LENGTH: f64 = 0.02;

/// What is known about the limit.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) hypotheses: Vec<Hypothesis>,
    pub(super) decided: bool,
    /// The numbers of calls that the confirmation of the best hypothesis accepted.
    confirmed: Vec<u32>,
    rounds: u32,
    calls_of_rounds: u32,
}

impl Measured {
    /// The most probable limit.
    pub(super) fn best(&self) -> Option<&Hypothesis> {
        self.hypotheses.first()
    }

    /// Estimated number of calls that would decide the question, if each round adds as much evidence as the last ones.
    fn more_calls(&self, named: Option<Named>) -> u32 {
        let Some(best) = self.best() else {
            return MAX_FILL;
        };
        let odds = |probability: f64| (probability / (1.0 - probability).max(1e-9)).ln();
        let rounds = f64::from(self.rounds.max(1));
        let gain = (odds(best.probability) / rounds).max(0.3);
        let missing = (odds(DECIDED) - odds(best.probability)).max(0.0) / gain;
        let missing = missing.max(if has_length(best, named) { 1.0 } else { 2.0 });
        let cost = match self.rounds {
            0 => f64::from(2 * best.rule.calls + 10),
            _ => f64::from(self.calls_of_rounds) / rounds,
        };
        (missing * cost).ceil() as u32
    }
}

/// Measures the limit, and keeps calls for the other questions. The result is in `measured`, also after an error.
pub(super) async fn measure<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    measured: &mut Option<Measured>,
) -> Result<(), Stop> {
    let mut random = Random::new(session.plan.seed);
    session.silence(session.plan.quiet.as_secs_f64()).await?;
    let first = first_series(session).await;
    let mut result = Measured {
        hypotheses: explain(session, false).await,
        decided: false,
        confirmed: vec![],
        rounds: 0,
        calls_of_rounds: 0,
    };
    *measured = Some(result.clone());
    first?;
    while !result.decided {
        let Some(target) = target(&result, &mut random) else {
            return Ok(());
        };
        let kept = calls_of_others(session.plan, target.rule.calls);
        if session.calls_left() < kept + 2 * target.rule.calls {
            return Err(session.out_of_calls());
        }
        let before = session.sent;
        let round = round(session, &target, &mut random).await;
        result.rounds += 1;
        result.calls_of_rounds += session.sent - before;
        result.hypotheses = explain(session, result.rounds >= MIN_ROUNDS).await;
        let named = session.named(CallKind::Read);
        let is_disturbed = result
            .best()
            .is_some_and(|best| best.foreign * best.rule.per > FEW_FOREIGN);
        let rounds = MIN_ROUNDS + u32::from(is_disturbed);
        *measured = Some(result.clone());
        round?;
        if result.rounds < rounds || !is_decided(&result.hypotheses, named) {
            continue;
        }
        if let Some(best) = result.best().copied().filter(|_| named.is_none()) {
            let confirmed = confirm(session, &best, &mut random, &mut result.confirmed).await;
            *measured = Some(result.clone());
            confirmed?;
        }
        let doubt = doubt(session, &result);
        if doubt.is_some() && named.is_some() && result.rounds < MAX_DOUBTED_ROUNDS {
            continue;
        }
        result.decided = doubt.is_none() && kind_doubt(&result).is_none();
        *measured = Some(result);
        return Ok(());
    }
    Ok(())
}

/// Fills the window a few times, after silences of different lengths. Without foreign calls, each fill accepts the same number, and no
/// call is accepted while the window is full.
async fn confirm<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    limit: &Hypothesis,
    random: &mut Random,
    confirmed: &mut Vec<u32>,
) -> Result<(), Stop> {
    session.progress("confirming the limit");
    let Rule { kind, calls, per } = limit.rule;
    let mut start = session.now();
    for _ in 0..CONFIRMATIONS {
        session
            .silence(per * random.between(1.05, 2.0) * (1.0 + limit.spread))
            .await?;
        start = session.now();
        confirmed.push(session.wave(CallKind::Read, calls + 2).await?.accepted);
    }
    // The calls of the other kinds come back before the end of a window, or refused calls count.
    if matches!(kind, WindowKind::Sliding | WindowKind::FirstRequest) {
        let last = per * (0.9 - 2.0 * limit.spread);
        for call in 0..SINGLE_CALLS {
            let part = (f64::from(call) + random.uniform()) / f64::from(SINGLE_CALLS);
            session.wait_until(start + last * part).await?;
            if session.wave(CallKind::Read, 1).await?.accepted > 0 {
                confirmed.push(calls + 1);
                break;
            }
        }
    }
    Ok(())
}

/// Why the number of calls, or the length of the window, may be another one than that of the best hypothesis.
pub(super) fn doubt<C: ProbeCaller>(session: &Session<'_, C>, measured: &Measured) -> Option<String> {
    let best = measured.best()?;
    let Rule { kind, calls, per } = best.rule;
    let (seconds, part) = MAX_NAMED_DIFFERENCE;
    let differs = |named: &Named| named.calls != calls || (named.per - per).abs() >= seconds.max(part * named.per);
    if let Some(named) = session.all_named().find(differs) {
        let why = match session.largest_fill() > named.calls {
            true => "more calls than that were accepted",
            false => "this is compatible with other calls of the account, so repeat it in a quieter hour",
        };
        return Some(format!(
            "the refusals name {} calls in {} s, and the accepted calls look like {calls} in {} s: {why}",
            named.calls,
            named.per,
            significant(per)
        ));
    }
    // A token comes back, or a fixed window ends, during a fill.
    let more = match kind {
        WindowKind::TokenBucket => 1 + calls / 10,
        WindowKind::Fixed => 2,
        _ => 0,
    };
    let is_same = |count: &u32| (calls..=calls + more).contains(count);
    match measured.confirmed.iter().all(is_same) {
        true => None,
        false => {
            let counts: Vec<_> = measured.confirmed.iter().map(u32::to_string).collect();
            Some(format!(
                "full windows accepted {} calls instead of {calls}: other calls use the account",
                counts.join(", ")
            ))
        }
    }
}

/// Why the kind of the window may be another one than that of the best hypothesis.
fn kind_doubt(measured: &Measured) -> Option<String> {
    let best = measured.best()?;
    let foreign = best.foreign * best.rule.per;
    let (many, part) = MANY_FOREIGN;
    (foreign > many.max(part * f64::from(best.rule.calls))).then(|| {
        format!("other calls use about {foreign:.0} calls of each window, so the kind of the window is not sure")
    })
}

/// Whether the number of calls and the length of the window are known, although the kind of the window may be open: the likely
/// hypotheses have the number that the refusals name, and a length that cannot be distinguished from the named one.
pub(super) fn is_settled<C: ProbeCaller>(session: &Session<'_, C>, measured: &Measured) -> bool {
    let named = session.named(CallKind::Read);
    let (Some(named), None) = (named, doubt(session, measured)) else {
        return false;
    };
    let fits = |other: &&Hypothesis| {
        let is_near = (named.per / other.rule.per).ln().abs() <= 2.0 * other.spread + SAME_LENGTH;
        other.rule.calls == named.calls && is_near
    };
    let probability: f64 = measured
        .hypotheses
        .iter()
        .filter(fits)
        .map(|other| other.probability)
        .sum();
    let has_length = |best: &Hypothesis| {
        let plausible = plausible_length(best.rule.per, best.spread, Some(named));
        best.spread <= MAX_BEST_SPREAD && plausible == Some(named.per)
    };
    measured.best().is_some_and(has_length) && probability >= DECIDED
}

/// A length in seconds with three digits.
fn significant(seconds: f64) -> f64 {
    let digits = 10_f64.powf(2.0 - seconds.abs().max(1e-3).log10().floor());
    (seconds * digits).round() / digits
}

/// Fills the window and waits for its recovery, twice.
async fn first_series<C: ProbeCaller>(session: &mut Session<'_, C>) -> Result<(), Stop> {
    session.progress("filling the window");
    let filled = session.fill(CallKind::Read, 4, MAX_FILL).await?;
    if filled.refused == 0 {
        return Ok(());
    }
    for recovery in 0..2 {
        session.progress("waiting for the recovery of the window");
        let refused = session.now();
        let mut pause = FIRST_PAUSE;
        loop {
            session.wait_until(refused + pause).await?;
            if session.wave(CallKind::Read, 1).await?.accepted > 0 {
                break;
            }
            pause *= GROWTH;
        }
        if recovery == 0 {
            session.fill(CallKind::Read, filled.accepted.max(1), MAX_FILL).await?;
        }
    }
    Ok(())
}

/// The number of calls that the other questions need.
fn calls_of_others(plan: &LimitPlan, calls: u32) -> u32 {
    let bulk = if plan.bulk_bucket { 2 * calls + 20 } else { 0 };
    let failures = if plan.failures_charged { 2 * calls + 10 } else { 0 };
    bulk + failures
}

/// The hypothesis that the next round is designed for: mostly the best one.
fn target(measured: &Measured, random: &mut Random) -> Option<Hypothesis> {
    let second = measured.hypotheses.get(1);
    let second = second.filter(|second| random.uniform() < second.probability);
    second.or(measured.best()).copied()
}

async fn round<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    target: &Hypothesis,
    random: &mut Random,
) -> Result<(), Stop> {
    session.progress("comparing the kinds of windows");
    let Rule { calls, per, .. } = target.rule;
    session
        .silence(per * random.between(1.1, 1.6) * (1.0 + target.spread))
        .await?;
    if target.probability > LENGTH_ONLY && !has_length(target, session.named(CallKind::Read)) {
        return length_round(session, target, random).await;
    }
    let half = (calls / 2).max(1);
    let more = half.clamp(2, 8);
    let margin = (1.5 * target.spread).clamp(0.01, 0.1);
    let start = session.now();
    session.wave(CallKind::Read, half).await?;
    // All calls of the first wave have arrived.
    let arrived = session.now();
    session.wait_until(start + per * random.between(0.35, 0.6)).await?;
    session.fill(CallKind::Read, calls - half + more, calls * 2).await?;
    session.wait_until(start + per * 0.8).await?;
    session.wave(CallKind::Read, 1).await?;
    session.wait_until(start + per * (1.0 - margin)).await?;
    session.wave(CallKind::Read, 1).await?;
    session.wait_until(arrived + per * (1.0 + margin)).await?;
    session.wave(CallKind::Read, half + 2).await?;
    Ok(())
}

/// A round that only measures the length of the window: it fills the window, and finds when it recovers.
async fn length_round<C: ProbeCaller>(
    session: &mut Session<'_, C>,
    target: &Hypothesis,
    random: &mut Random,
) -> Result<(), Stop> {
    let Rule { kind, calls, per } = target.rule;
    let start = session.now();
    session.wave(CallKind::Read, calls + 1).await?;
    let mut around = |count: u32| {
        let around = |_| (target.spread * random.between(-1.5, 1.5)).exp();
        (0..count).map(around).collect::<Vec<f64>>()
    };
    let mut times = match kind {
        // The number of tokens after a part of the window.
        WindowKind::TokenBucket => {
            session.wait_until(start + per * random.between(0.4, 0.9)).await?;
            session.wave(CallKind::Read, calls).await?;
            return Ok(());
        }
        // The boundary is anywhere.
        WindowKind::Fixed => (1..=13)
            .map(|part| (f64::from(part) - random.uniform()) / 12.0)
            .collect(),
        WindowKind::FirstRequest | WindowKind::Sliding => around(4),
        // More refused calls would fill the window again.
        WindowKind::SlidingCountingRefusals => around((calls / 2).clamp(1, 4)),
    };
    times.sort_by(f64::total_cmp);
    for time in times {
        session.wait_until(start + per * time).await?;
        let single = session.wave(CallKind::Read, 1).await?;
        if single.accepted > 0 && kind == WindowKind::Fixed {
            break;
        }
    }
    Ok(())
}

/// Returns the limits that explain the waves. With `checked`, hypotheses that are close to each other are compared thoroughly.
async fn explain<C: ProbeCaller>(session: &Session<'_, C>, checked: bool) -> Vec<Hypothesis> {
    if session.reads.iter().all(|wave| wave.refused() == 0) {
        return Vec::new();
    }
    let (waves, named) = (session.reads.clone(), session.named(CallKind::Read));
    let seed = session.plan.seed.wrapping_add(waves.len() as u64);
    // It needs up to seconds of the processor.
    let explained = tokio::task::spawn_blocking(move || {
        let mut found = search(&waves, named, EFFORT, seed);
        let is_close = |best: &Hypothesis| best.probability > MIN_BEST && best.spread < MAX_BEST_SPREAD;
        if checked && found.first().is_some_and(is_close) {
            found.truncate(MAX_CHECKED);
            found.retain(|hypothesis| hypothesis.probability > MIN_CHECKED);
            found = check(&waves, named, &found, CHECK_EFFORT, seed);
        }
        found
    });
    match explained.await {
        Ok(found) => found,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether one hypothesis remains, with a length of the window that is known or cannot be distinguished from a plausible one.
fn is_decided(hypotheses: &[Hypothesis], named: Option<Named>) -> bool {
    let best = hypotheses.first();
    best.is_some_and(|best| best.probability >= DECIDED && has_length(best, named))
}

/// The answers: the limit, and whether refused calls count.
pub(super) fn findings<C: ProbeCaller>(
    measured: Option<&Measured>,
    session: &Session<'_, C>,
    mut evidence: Vec<String>,
    stop: Option<Stop>,
) -> (Finding<WindowLimit>, Finding<bool>) {
    let Some((measured, best)) = measured.and_then(|measured| Some((measured, measured.best()?))) else {
        let reason = match stop {
            Some(stop) => stop.to_string(),
            None if session.reads.is_empty() => "no call was sent".to_owned(),
            None => format!(
                "no call was refused: the limit is higher than {} calls",
                session.largest_fill()
            ),
        };
        let state = if session.reads.is_empty() {
            FindingState::Skipped
        } else {
            FindingState::Undecided
        };
        let limit = Finding {
            evidence: evidence.clone(),
            more_calls: (stop.is_none() && !session.reads.is_empty()).then_some(2 * MAX_FILL),
            ..Finding::without_value(state, reason.clone())
        };
        let refusals_count = Finding {
            evidence,
            ..Finding::without_value(state, reason)
        };
        return (limit, refusals_count);
    };
    let named = session.named(CallKind::Read);
    let value = |hypothesis: &Hypothesis| {
        let Rule { kind, calls, per } = hypothesis.rule;
        WindowLimit {
            calls,
            window_seconds: plausible_length(per, hypothesis.spread, named).unwrap_or_else(|| significant(per)),
            kind,
            refusal_status: session.refusal_status().unwrap_or_default(),
        }
    };
    evidence.push(format!(
        "{} in a window of {:.3} s, standard deviation {:.1} %, with {:.2} foreign calls per second: probability {:.3}",
        best.rule.calls,
        best.rule.per,
        100.0 * best.spread,
        best.foreign,
        best.probability
    ));
    let others = measured.hypotheses.iter().skip(1);
    let others = others.filter(|other| other.probability >= EXCLUDED);
    let state = |decided: bool| {
        if decided {
            FindingState::Decided
        } else {
            FindingState::Undecided
        }
    };
    let number_doubt = doubt(session, measured);
    let reason = || {
        let doubt = number_doubt.clone().or_else(|| kind_doubt(measured));
        doubt.unwrap_or_else(|| {
            stop.map_or("several limits explain the observations".to_owned(), |stop| {
                stop.to_string()
            })
        })
    };
    let max_confidence = if named.is_some() { 1.0 } else { MAX_UNNAMED };
    let mut alternatives: Vec<_> = others.map(|other| (value(other), other.probability)).collect();
    // The limit in the text, if other calls explain the difference.
    if let Some(named) = named.filter(|named| number_doubt.is_some() && session.largest_fill() <= named.calls) {
        let known = measured
            .hypotheses
            .iter()
            .filter(|other| other.rule.calls == named.calls);
        let probability = known.map(|other| other.probability).sum();
        alternatives.retain(|(other, _)| other.calls != named.calls);
        let limit = WindowLimit {
            calls: named.calls,
            window_seconds: named.per,
            ..value(best)
        };
        alternatives.insert(0, (limit, probability));
    }
    let more_calls = measured.more_calls(named);
    let limit = Finding {
        state: state(measured.decided),
        value: Some(value(best)),
        confidence: best.probability.min(max_confidence),
        alternatives,
        observation: String::new(),
        evidence: evidence.clone(),
        reason: (!measured.decided).then(reason),
        // More calls do not explain a contradiction.
        more_calls: (!measured.decided && number_doubt.is_none()).then_some(more_calls),
    };
    let counting = measured.hypotheses.iter();
    let counting = counting.filter(|hypothesis| hypothesis.rule.kind == WindowKind::SlidingCountingRefusals);
    let counting: f64 = counting.map(|hypothesis| hypothesis.probability).sum();
    let confidence = counting.max(1.0 - counting);
    let is_sure = measured.rounds >= MIN_ROUNDS && confidence >= DECIDED;
    let is_doubted = number_doubt.is_some() || kind_doubt(measured).is_some();
    let decided = measured.decided || is_sure && !is_doubted;
    let refusals_count = Finding {
        state: state(decided),
        value: Some(counting > 0.5),
        confidence,
        alternatives: if decided {
            Vec::new()
        } else {
            vec![(counting <= 0.5, 1.0 - confidence)]
        },
        observation: String::new(),
        evidence,
        reason: (!decided).then(reason),
        more_calls: (!decided).then_some(more_calls),
    };
    (limit, refusals_count)
}

fn has_length(hypothesis: &Hypothesis, named: Option<Named>) -> bool {
    let plausible = plausible_length(hypothesis.rule.per, hypothesis.spread, named);
    let max = if plausible.is_some() {
        MAX_PLAUSIBLE_SPREAD
    } else {
        MAX_SPREAD
    };
    hypothesis.spread <= max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::call::CallObservation;

    /// An account that is not called.
    struct NoAccount;

    impl ProbeCaller for NoAccount {
        async fn call(&self, _: CallKind) -> CallObservation {
            unreachable!()
        }

        fn calls_left(&self) -> u32 {
            0
        }

        fn progress(&self, _: &str, _: f32) {}
    }

    fn measured(kind: WindowKind, calls: u32, foreign: f64, confirmed: &[u32]) -> Measured {
        let hypothesis = Hypothesis {
            rule: Rule { kind, calls, per: 5.0 },
            spread: 0.01,
            foreign,
            probability: 1.0,
        };
        Measured {
            hypotheses: vec![hypothesis],
            decided: false,
            confirmed: confirmed.to_vec(),
            rounds: 3,
            calls_of_rounds: 90,
        }
    }

    #[tokio::test]
    async fn windows_that_accept_different_numbers_confirm_no_limit() {
        let plan = LimitPlan::default();
        let session = Session::new(&NoAccount, &plan);
        for (kind, confirmed, is_confirmed) in [
            (WindowKind::Sliding, [22, 22, 22], true),
            (WindowKind::Sliding, [22, 21, 22], false),
            (WindowKind::Sliding, [22, 22, 23], false),
            (WindowKind::FirstRequest, [22, 20, 22], false),
            // A token comes back meanwhile.
            (WindowKind::TokenBucket, [23, 22, 23], true),
            (WindowKind::TokenBucket, [23, 19, 23], false),
            // A window ends meanwhile.
            (WindowKind::Fixed, [22, 24, 22], true),
            (WindowKind::Fixed, [22, 18, 22], false),
        ] {
            let doubt = doubt(&session, &measured(kind, 22, 0.0, &confirmed));
            assert_eq!(doubt.is_none(), is_confirmed, "{kind} {confirmed:?}: {doubt:?}");
        }
    }

    #[test]
    fn many_foreign_calls_leave_the_kind_of_the_window_open() {
        for (calls, foreign, is_sure) in [
            (2, 0.3, true),
            (25, 0.3, true),
            (25, 1.0, true),
            (25, 2.0, false),
            (10, 1.0, false),
        ] {
            let doubt = kind_doubt(&measured(WindowKind::Sliding, calls, foreign, &[]));
            assert_eq!(doubt.is_none(), is_sure, "{calls} {foreign}");
        }
    }

    #[test]
    fn a_length_has_three_digits() {
        for (seconds, rounded) in [(8178.658, 8180.0), (7.0432, 7.04), (0.43149, 0.431), (0.0, 0.0)] {
            assert!((significant(seconds) - rounded).abs() < 1e-9, "{seconds}");
        }
    }
}
