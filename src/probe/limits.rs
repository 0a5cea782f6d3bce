//! `limit`, `refusals-count`, `bulk-bucket`, `failures-charged`: one measurement answers all four. So they have no numbers of calls of
//! their own: the budget of the command is their maximum.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::call::ProbeCaller;
use super::finding::{Finding, ProbeState};
use super::limit::{self, BulkBucket, FailuresCharged, FindingState, LimitFindings, LimitPlan, WindowLimit, measure};
use super::session::{BurstCaller, ProbeStop, Session};
use super::settings;
use super::{Probe, ProbeNeeds, ProbeRun};

pub(super) const LIMIT: Probe = Probe {
    id: "limit",
    question: "How many calls in which window are allowed?",
    calls: 0,
    max_calls: 0,
    needs: ProbeNeeds::BURST,
    run: ProbeRun::Limit,
};

pub(super) const REFUSALS_COUNT: Probe = Probe {
    id: "refusals-count",
    question: "Do refused calls count?",
    calls: 0,
    max_calls: 0,
    needs: ProbeNeeds::BURST,
    run: ProbeRun::Limit,
};

pub(super) const BULK_BUCKET: Probe = Probe {
    id: "bulk-bucket",
    question: "Have bulk calls a limit of their own?",
    calls: 0,
    max_calls: 0,
    needs: ProbeNeeds::BURST,
    run: ProbeRun::Limit,
};

pub(super) const FAILURES_CHARGED: Probe = Probe {
    id: "failures-charged",
    question: "Do failed calls count?",
    calls: 0,
    max_calls: 0,
    needs: ProbeNeeds::BURST,
    run: ProbeRun::Limit,
};

/// Measures the wanted ones of the four questions. Returns their ids and findings.
pub(super) async fn run(session: &Session<'_>, wanted: &[&'static str]) -> Vec<(&'static str, Finding)> {
    let caller = BurstCaller { session };
    let plan = LimitPlan {
        burst: session.options.burst,
        limit: wanted.contains(&LIMIT.id) || wanted.contains(&REFUSALS_COUNT.id),
        bulk_bucket: wanted.contains(&BULK_BUCKET.id),
        failures_charged: wanted.contains(&FAILURES_CHARGED.id),
        seed: session.options.seed,
        max_calls: caller.calls_left(),
        max_duration: session.time_left(),
        // The command has waited for an empty window before.
        quiet: Duration::ZERO,
        ..LimitPlan::default()
    };
    let findings = tokio::select! {
        findings = measure(&caller, &plan) => findings,
        () = session.interrupted() => {
            let reason = ProbeStop::Interrupted.reason();
            return wanted.iter().map(|id| (*id, Finding::failed(reason))).collect();
        }
    };
    if findings.is_out_of_calls && session.is_bound_by_day() {
        session.end(ProbeStop::DailyBudget);
    }
    let allowed = Allowed {
        sent: findings.calls,
        max: plan.max_calls,
    };
    let all = wanted.iter().map(|id| {
        let finding = match *id {
            "limit" => limit_finding(&findings, &allowed),
            "refusals-count" => finding(&findings.refusals_count, &allowed, refusals_answer),
            "bulk-bucket" => finding(&findings.bulk_bucket, &allowed, bulk_answer),
            _ => finding(&findings.failures_charged, &allowed, failures_answer),
        };
        (*id, finding)
    });
    all.collect()
}

/// The calls of the measurement.
struct Allowed {
    sent: u32,
    max: u32,
}

impl Allowed {
    /// What a decision needs, for users.
    fn needs(&self, more: u32) -> String {
        match self.sent.saturating_add(more) <= self.max {
            true => format!("a decision needs about {} more calls", more.div_ceil(10) * 10),
            false => format!(
                "a decision needs more than the {} calls that were allowed: --max-calls allows more",
                self.max
            ),
        }
    }
}

/// The finding of `limit`. Number of calls and length of the window may be known although the kind of the window is not.
fn limit_finding(findings: &LimitFindings, allowed: &Allowed) -> Finding {
    let limit = &findings.limit;
    let mut finding = finding(limit, allowed, window_answer);
    if let Some(value) = limit.value.filter(|_| findings.is_settled)
        && finding.state == ProbeState::Undecided
    {
        let WindowLimit {
            calls, window_seconds, ..
        } = value;
        let answer = finding.answer;
        finding.answer = format!("{calls} calls in {window_seconds} s; the kind of the window is open: {answer}");
        for (path, value) in window_answer(&value).2 {
            finding = finding.with_setting(path, value);
        }
    }
    finding
}

/// The answer, its JSON, and the settings that follow.
type LimitAnswer = (String, Json, Vec<(&'static str, toml::Value)>);

fn window_answer(limit: &WindowLimit) -> LimitAnswer {
    let WindowLimit {
        calls,
        window_seconds,
        kind,
        refusal_status,
    } = *limit;
    let window = Duration::try_from_secs_f64(window_seconds).unwrap_or_default();
    let value = json!({
        "calls": calls,
        "window_seconds": window_seconds,
        "kind": kind.name(),
        "refusal_status": refusal_status,
    });
    let settings = vec![
        ("limits.calls", calls.into()),
        ("limits.window", settings::time(window)),
    ];
    (
        format!(
            "{calls} calls in {window_seconds} s ({}), refused with HTTP {refusal_status}",
            kind.name()
        ),
        value,
        settings,
    )
}

fn refusals_answer(count: &bool) -> LimitAnswer {
    let text = if *count {
        "refused calls count"
    } else {
        "refused calls do not count"
    };
    (text.to_owned(), json!({"refusals_count": count}), vec![])
}

fn bulk_answer(bucket: &BulkBucket) -> LimitAnswer {
    let BulkBucket { bulk, pays_calls } = *bucket;
    let pays = if pays_calls {
        "which count as calls, too"
    } else {
        "which do not count as calls"
    };
    (
        format!("{bulk} bulk calls, {pays}"),
        json!({"bulk": bulk, "pays_calls": pays_calls}),
        vec![
            ("limits.bulk", bulk.into()),
            ("limits.bulk_pays_calls", pays_calls.into()),
        ],
    )
}

fn failures_answer(charged: &FailuresCharged) -> LimitAnswer {
    let FailuresCharged { unknown_path, bad_json } = *charged;
    let text = |counts| if counts { "count" } else { "do not count" };
    (
        format!(
            "unknown paths {}, bodies that are not JSON {}",
            text(unknown_path),
            text(bad_json)
        ),
        json!({"unknown_path": unknown_path, "bad_json": bad_json}),
        vec![],
    )
}

/// The finding of the measurement in the form of the report.
fn finding<T>(found: &limit::Finding<T>, allowed: &Allowed, answer: impl Fn(&T) -> LimitAnswer) -> Finding {
    let reason = found.reason.clone().unwrap_or_default();
    let others = found
        .alternatives
        .iter()
        .map(|(value, probability)| format!("{} ({probability:.2})", answer(value).0));
    let others: Vec<_> = others.collect();
    let observation = match others.is_empty() {
        true => found.observation.clone(),
        false => format!("{}. Not excluded: {}", found.observation, others.join("; ")),
    };
    let (text, value, settings) = match &found.value {
        Some(value) => answer(value),
        None => (String::new(), json!({}), vec![]),
    };
    let mut finding = match found.state {
        FindingState::Skipped => return Finding::skipped(reason),
        FindingState::Failed => Finding::failed(reason),
        FindingState::Decided => Finding::decided(observation, text, value, found.confidence),
        FindingState::Undecided => {
            let more = found.more_calls.map(|more| allowed.needs(more));
            let perhaps = (!text.is_empty()).then(|| format!("perhaps {text}"));
            let parts = [perhaps, Some(reason).filter(|reason| !reason.is_empty()), more];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            Finding::undecided(observation, parts.join("; "), value)
        }
    };
    finding.evidence.clone_from(&found.evidence);
    if finding.state == ProbeState::Decided {
        for (path, value) in settings {
            finding = finding.with_setting(path, value);
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::limit::WindowKind;
    use super::*;

    #[test]
    fn settings_follow_only_from_a_decided_answer() {
        let limit = |calls| WindowLimit {
            calls,
            window_seconds: 5.0,
            kind: WindowKind::Sliding,
            refusal_status: 429,
        };
        for (state, expected, settings) in [
            (FindingState::Decided, ProbeState::Decided, 2),
            (FindingState::Undecided, ProbeState::Undecided, 0),
            (FindingState::Skipped, ProbeState::Skipped, 0),
            (FindingState::Failed, ProbeState::Failed, 0),
        ] {
            let found = limit::Finding {
                state,
                value: Some(limit(25)),
                confidence: 0.9,
                alternatives: vec![(limit(26), 0.1)],
                observation: "25 of 27 reads were accepted".to_owned(),
                evidence: vec!["+0.1 s: 25 accepted".to_owned()],
                reason: Some("the reason".to_owned()),
                more_calls: Some(40),
            };
            let allowed = Allowed { sent: 500, max: 600 };
            let finding = finding(&found, &allowed, window_answer);
            assert_eq!((finding.state, finding.settings.len()), (expected, settings));
            let is_undecided = state == FindingState::Undecided;
            assert_eq!(
                finding.answer.contains("40 more calls"),
                is_undecided,
                "{}",
                finding.answer
            );
            if state == FindingState::Decided {
                assert!(
                    finding.observation.contains("25 of 27 reads") && finding.observation.contains("26 calls in 5 s"),
                    "{}",
                    finding.observation
                );
                assert_eq!(
                    finding.value,
                    json!({"calls": 25, "window_seconds": 5.0, "kind": "sliding", "refusal_status": 429})
                );
            }
        }
    }

    #[test]
    fn more_calls_than_are_allowed_have_no_number() {
        let allowed = Allowed { sent: 500, max: 600 };
        assert_eq!(allowed.needs(93), "a decision needs about 100 more calls");
        assert!(
            allowed.needs(101).contains("more than the 600 calls"),
            "{}",
            allowed.needs(101)
        );
    }

    #[test]
    fn calls_and_window_follow_although_the_kind_of_the_window_is_open() {
        let limit = |kind| WindowLimit {
            calls: 72,
            window_seconds: 5.0,
            kind,
            refusal_status: 429,
        };
        let mut findings = LimitFindings::skipped("not wanted");
        findings.limit = limit::Finding {
            state: FindingState::Undecided,
            value: Some(limit(WindowKind::Sliding)),
            confidence: 0.6,
            alternatives: vec![(limit(WindowKind::Fixed), 0.4)],
            observation: String::new(),
            evidence: vec![],
            reason: None,
            more_calls: Some(400),
        };
        let allowed = Allowed { sent: 500, max: 600 };
        for (is_settled, settings) in [(true, vec!["limits.calls", "limits.window"]), (false, vec![])] {
            findings.is_settled = is_settled;
            let finding = limit_finding(&findings, &allowed);
            let paths: Vec<_> = finding.settings.iter().map(|setting| setting.path).collect();
            assert_eq!((finding.state, paths), (ProbeState::Undecided, settings));
        }
    }
}
