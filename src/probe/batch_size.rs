//! `batch-size`: what happens to a bulk call with more rows than the documented maximum, and which number of rows is accepted.

use serde_json::{Value as Json, json};

use super::created::CreatedLead;
use super::finding::Finding;
use super::observed::Observed;
use super::request::{update_unknown, upsert_empty};
use super::session::{ProbeResult, Session};
use super::text::named_maximum;
use super::{Probe, ProbeNeeds, ProbeRun};
use crate::crm::raw::RawRequest;

/// The documented maximum of both endpoints.
const DOCUMENTED: usize = 25;
/// Maximum number of calls for one endpoint.
const MAX_TRIALS: usize = 6;

pub(super) const PROBE: Probe = Probe {
    id: "batch-size",
    question: "How many rows may a bulk update and a bulk upsert have?",
    calls: 4,
    max_calls: 2 * MAX_TRIALS as u32,
    needs: ProbeNeeds::WRITE,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

/// A bulk endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bulk {
    Updates,
    Upserts,
}

/// The responses of one endpoint, each with its number of rows. The first one has one row more than documented.
type Sizes = Vec<(usize, Observed)>;

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let batching = &session.settings.batching;
    let updates = sizes(session, Bulk::Updates, batching.max_updates).await?;
    let upserts = sizes(session, Bulk::Upserts, batching.max_upserts).await?;
    Ok(decide(&updates, &upserts))
}

/// Sends one row more than documented. If that is refused, sends as many rows as the settings or the error say, and then fewer.
async fn sizes(session: &Session<'_>, bulk: Bulk, in_force: usize) -> ProbeResult<Sizes> {
    let mut count = DOCUMENTED + 1;
    let mut sizes: Sizes = vec![];
    loop {
        let observed = session.write(bulk.request(count)).await?;
        register_created(session, &observed.body);
        let rows = rows(bulk, &observed);
        let is_refused = rows.is_none() && observed.is_rejected();
        let named = named_maximum(&observed.words()).filter(|named| *named < count);
        sizes.push((count, observed));
        if !is_refused || count == 1 || sizes.len() == MAX_TRIALS {
            return Ok(sizes);
        }
        count = match (named, sizes.len()) {
            (Some(named), _) => named,
            (None, 1) => in_force.min(DOCUMENTED),
            (None, _) => count / 2,
        };
    }
}

/// A row without attributes creates no lead by the documentation. If it does, the lead is deleted.
fn register_created(session: &Session<'_>, body: &Json) {
    let rows = body.as_array().into_iter().flatten();
    for row in rows.filter(|row| row["LeadCreated"] == true) {
        if let Some(id) = row["LeadId"].as_str() {
            session.register(CreatedLead {
                id: Some(id.to_owned()),
                ..CreatedLead::default()
            });
        }
    }
}

impl Bulk {
    fn request(self, count: usize) -> RawRequest {
        match self {
            Self::Updates => update_unknown(count),
            Self::Upserts => upsert_empty(count),
        }
    }
}

/// The number of rows with a result of their own. `None`: the response has no rows.
fn rows(bulk: Bulk, observed: &Observed) -> Option<usize> {
    if !observed.is_success() {
        return None;
    }
    match bulk {
        Bulk::Upserts => Some(observed.body.as_array()?.len()),
        Bulk::Updates => {
            let lists = ["SuccessfulLeads", "FailedLeads", "UnProcessedLeads"];
            let details = observed.body["Details"].as_object()?;
            let lists = lists.iter().filter_map(|name| details.get(*name)?.as_array());
            Some(lists.map(Vec::len).sum())
        }
    }
}

/// What one endpoint does with a batch above its maximum, and the largest accepted batch up to the documented maximum.
#[derive(Clone, Debug, PartialEq)]
struct BulkAnswer {
    over_maximum: &'static str,
    accepted: Option<usize>,
}

fn answer(bulk: Bulk, sizes: &[(usize, Observed)]) -> BulkAnswer {
    let Some((count, first)) = sizes.first() else {
        return BulkAnswer {
            over_maximum: "unknown",
            accepted: None,
        };
    };
    match rows(bulk, first) {
        Some(found) if found == *count => BulkAnswer {
            over_maximum: "per-row",
            accepted: Some(DOCUMENTED),
        },
        // The rows above the maximum are missing.
        Some(found) if found > 0 && found < *count => BulkAnswer {
            over_maximum: "truncated",
            accepted: Some(found),
        },
        None if first.is_rejected() => {
            let accepted = sizes
                .iter()
                .skip(1)
                .find(|(count, observed)| rows(bulk, observed) == Some(*count));
            BulkAnswer {
                over_maximum: "rejected",
                accepted: accepted.map(|(count, _)| *count),
            }
        }
        _ => BulkAnswer {
            over_maximum: "unknown",
            accepted: None,
        },
    }
}

fn decide(updates: &[(usize, Observed)], upserts: &[(usize, Observed)]) -> Finding {
    let found = [
        (
            "updates",
            "batching.max_updates",
            answer(Bulk::Updates, updates),
            updates,
        ),
        (
            "upserts",
            "batching.max_upserts",
            answer(Bulk::Upserts, upserts),
            upserts,
        ),
    ];
    let (mut value, mut observations, mut answers) = (json!({}), vec![], vec![]);
    for (name, _, answer, sizes) in &found {
        let tried: Vec<_> = sizes
            .iter()
            .map(|(count, observed)| format!("{count}: {}", observed.summary()))
            .collect();
        observations.push(format!("{name}: {}", tried.join(", ")));
        value[name] = json!({"over_maximum": answer.over_maximum, "accepted_rows": answer.accepted});
        answers.push(match answer.accepted {
            Some(accepted) => format!(
                "{name}: {accepted} rows are accepted, {} are {}",
                DOCUMENTED + 1,
                answer.over_maximum
            ),
            None => format!("{name}: unknown"),
        });
    }
    let (observation, text) = (observations.join("; "), answers.join("; "));
    if found.iter().any(|(_, _, answer, _)| answer.accepted.is_none()) {
        return Finding::undecided(observation, text, value);
    }
    // A batch that is smaller than both the settings and the error say was found by trial only.
    let is_by_trial = |sizes: &[(usize, Observed)]| sizes.len() > 2;
    let confidence = if is_by_trial(updates) || is_by_trial(upserts) {
        0.7
    } else {
        0.95
    };
    let mut finding = Finding::decided(observation, text, value, confidence);
    for (_, path, answer, _) in found {
        let accepted = answer.accepted.unwrap_or(DOCUMENTED).min(DOCUMENTED);
        finding = finding.with_setting(path, i64::try_from(accepted).unwrap_or(1));
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    fn updated(count: usize) -> Observed {
        let rows = vec![json!({"Identifier": "ProspectId"}); count];
        Observed::of(
            200,
            json!({"Status": {"TotalCount": count}, "Details": {"UnProcessedLeads": rows, "FailedLeads": []}}),
        )
    }

    fn upserted(count: usize) -> Observed {
        Observed::of(200, json!(vec![json!({"RowNumber": 1, "LeadCreated": false}); count]))
    }

    fn refused(max: usize) -> Observed {
        let text = format!("Invalid Input! Number of leads can not be more than {max}");
        Observed::exception_of(500, "MXInvalidInputException", &text)
    }

    #[test]
    fn a_batch_above_the_maximum_is_rejected_truncated_or_executed() {
        for (updates, upserts, over_maximum, sizes) in [
            (vec![(26, updated(26))], vec![(26, upserted(26))], "per-row", [25, 25]),
            (vec![(26, updated(25))], vec![(26, upserted(20))], "truncated", [25, 20]),
            (
                vec![(26, refused(25)), (25, updated(25))],
                vec![(26, refused(10)), (10, upserted(10))],
                "rejected",
                [25, 10],
            ),
        ] {
            let finding = decide(&updates, &upserts);
            assert_eq!(finding.state, ProbeState::Decided, "{finding:?}");
            assert_eq!(finding.value["updates"]["over_maximum"], over_maximum);
            let found: Vec<_> = finding
                .settings
                .iter()
                .filter_map(|setting| setting.value.as_integer())
                .collect();
            assert_eq!(found, sizes, "{over_maximum}");
        }
    }

    #[test]
    fn nonsense_has_no_answer() {
        for observed in Observed::nonsense()
            .into_iter()
            .chain([Observed::of(200, "{}"), Observed::of(200, "7")])
        {
            let finding = decide(&[(26, observed.clone())], &[(26, upserted(26))]);
            assert_eq!(
                (finding.state, finding.settings),
                (ProbeState::Undecided, vec![]),
                "{observed:?}"
            );
        }
        let never = vec![(26, refused(25)), (25, refused(25)), (1, refused(0))];
        assert_eq!(decide(&never, &[(26, upserted(26))]).state, ProbeState::Undecided);
    }
}
