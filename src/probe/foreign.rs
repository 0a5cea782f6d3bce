//! `foreign`: whether people who use the web UI of LeadSquared use the window of the API.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::call::{CallKind, CallOutcome, ProbeCaller};
use super::finding::Finding;
use super::session::{BurstCaller, Halt, ProbeResult, ProbeStop, Session};
use super::{Probe, ProbeNeeds, ProbeRun};

/// Number of bursts without and with use of the web UI.
const ROUNDS: usize = 2;
/// Maximum number of calls in one burst.
const MAX_BURST: u32 = 120;
/// The pace of a burst is the pace of the command divided by this: a call every 50 ms. It is faster if the limit in force is.
const BURST_PACE: u32 = 20;
/// How much faster than the limit in force a burst is.
const ABOVE_LIMIT: u32 = 2;
/// Maximum number of calls of a burst in progress, since responses may take longer than its pace.
const LANES: usize = 24;

pub(super) const PROBE: Probe = Probe {
    id: "foreign",
    question: "Do calls of the web UI count in the window of the API?",
    calls: MAX_BURST * ROUNDS as u32 * 2,
    max_calls: MAX_BURST * ROUNDS as u32 * 2,
    needs: ProbeNeeds {
        burst: true,
        write: false,
        operator: true,
    },
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let mut quiet = vec![];
    for _ in 0..ROUNDS {
        quiet.push(burst(session, "burst without the web UI").await?);
    }
    session.hooks.operator().await;
    let mut busy = vec![];
    for _ in 0..ROUNDS {
        busy.push(burst(session, "burst while the web UI is used").await?);
    }
    Ok(decide(&quiet, &busy))
}

/// Waits until the window is empty, and then sends calls until one is refused. Returns the number of accepted calls. `None`: no call was
/// refused.
async fn burst(session: &Session<'_>, name: &str) -> ProbeResult<Option<u32>> {
    session.show(&format!("{name}: waiting for an empty window"), 0.0);
    session.sleep(session.settings.limits.window * 2).await?;
    session.show(name, 0.5);
    let caller = BurstCaller { session };
    let limits = &session.settings.limits;
    let pace = burst_pace(session.options.pace, limits.calls, limits.window);
    let start = Instant::now();
    let turns = Mutex::new(Turns::default());
    let send = async || {
        loop {
            let turn = {
                let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
                if turns.is_refused || turns.sent >= MAX_BURST || caller.calls_left() == 0 {
                    return;
                }
                turns.sent += 1;
                turns.sent - 1
            };
            let due = start + pace * turn;
            tokio::time::sleep_until(due).await;
            let observed = caller.call(CallKind::Read).await;
            let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
            match observed.outcome {
                CallOutcome::Accepted(_) => turns.accepted += 1,
                CallOutcome::Refused { .. } => turns.is_refused = true,
                CallOutcome::DailyRefused { .. } | CallOutcome::Failed(_) | CallOutcome::Unauthorized => {
                    turns.failed += 1;
                }
            }
        }
    };
    join_all((0..LANES).map(|_| send())).await;
    let turns = turns.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(stop) = session.stop() {
        return Err(Halt::Stop(stop));
    }
    if !turns.is_refused && caller.calls_left() == 0 && session.is_bound_by_day() {
        session.end(ProbeStop::DailyBudget);
        return Err(Halt::Stop(ProbeStop::DailyBudget));
    }
    session.note_evidence(&format!(
        "{name}: {} calls sent, {} accepted, {} failed, {}",
        turns.sent,
        turns.accepted,
        turns.failed,
        if turns.is_refused {
            "then refused"
        } else {
            "never refused"
        }
    ));
    if turns.failed > 0 {
        return Err(Halt::Probe(format!(
            "{} calls of the burst had no usable response",
            turns.failed
        )));
    }
    Ok(turns.is_refused.then_some(turns.accepted))
}

/// The time between two calls of a burst: it must reach the limit in force within a window.
fn burst_pace(pace: Duration, calls: u32, window: Duration) -> Duration {
    (pace / BURST_PACE).min(window / calls.max(1) / ABOVE_LIMIT)
}

/// The calls of one burst.
#[derive(Debug, Default)]
struct Turns {
    sent: u32,
    accepted: u32,
    failed: u32,
    is_refused: bool,
}

/// `quiet`, `busy`: the accepted calls of each burst before the first refused one.
fn decide(quiet: &[Option<u32>], busy: &[Option<u32>]) -> Finding {
    let value = json!({"accepted_without_ui": quiet, "accepted_with_ui": busy});
    let texts = |bursts: &[Option<u32>]| {
        let texts = bursts
            .iter()
            .map(|accepted| accepted.map_or_else(|| "no refusal".to_owned(), |accepted| accepted.to_string()));
        texts.collect::<Vec<_>>().join(", ")
    };
    let observation = format!(
        "accepted calls without the web UI: {}; with it: {}",
        texts(quiet),
        texts(busy)
    );
    let all = |bursts: &[Option<u32>]| {
        bursts
            .iter()
            .copied()
            .collect::<Option<Vec<u32>>>()
            .filter(|all| !all.is_empty())
    };
    let (Some(quiet), Some(busy)) = (all(quiet), all(busy)) else {
        return Finding::undecided(
            observation,
            "no call was refused, so the number of the window is unknown",
            value,
        );
    };
    let range = |all: &[u32]| {
        (
            all.iter().copied().min().unwrap_or(0),
            all.iter().copied().max().unwrap_or(0),
        )
    };
    let ((least_quiet, most_quiet), (least_busy, _)) = (range(&quiet), range(&busy));
    let missing = least_quiet.saturating_sub(least_busy);
    let noise = (most_quiet - least_quiet).max(1);
    if missing > noise {
        let answer = format!("calls of the web UI count: {missing} calls of a window were missing");
        return Finding::decided(observation, answer, value, 0.8).with_setting("limits.reserve", missing);
    }
    match missing {
        0 | 1 if noise <= 1 => Finding::decided(observation, "calls of the web UI do not count", value, 0.7),
        _ => Finding::undecided(
            observation,
            "the difference is within the noise: repeat it in a quieter hour",
            value,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    #[test]
    fn missing_calls_decide_the_reserve() {
        for (quiet, busy, state, reserve) in [
            ([25, 25], [20, 21], ProbeState::Decided, Some(5)),
            ([25, 26], [22, 25], ProbeState::Decided, Some(3)),
            ([25, 25], [25, 24], ProbeState::Decided, None),
            ([25, 25], [25, 25], ProbeState::Decided, None),
            ([25, 31], [22, 25], ProbeState::Undecided, None),
        ] {
            let finding = decide(&quiet.map(Some), &busy.map(Some));
            assert_eq!(finding.state, state, "{quiet:?} {busy:?}");
            let found = finding.settings.first().and_then(|setting| setting.value.as_integer());
            assert_eq!(found, reserve, "{quiet:?} {busy:?}");
        }
    }

    #[test]
    fn a_burst_reaches_the_limit_in_force() {
        for (calls, window, milliseconds) in [(25, 5, 50), (25, 1, 20), (1, 10, 50)] {
            let window = Duration::from_secs(window);
            let pace = burst_pace(Duration::from_secs(1), calls, window);
            assert_eq!(pace, Duration::from_millis(milliseconds));
            assert!(pace * calls < window, "{calls} in {window:?}");
        }
    }

    #[test]
    fn without_a_refusal_there_is_no_answer() {
        for (quiet, busy) in [
            (vec![None, Some(25)], vec![Some(25)]),
            (vec![Some(25)], vec![None]),
            (vec![], vec![]),
        ] {
            let finding = decide(&quiet, &busy);
            assert_eq!((finding.state, finding.settings), (ProbeState::Undecided, vec![]));
        }
    }
}
