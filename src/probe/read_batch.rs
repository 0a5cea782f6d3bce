//! `read-batch`: how many ids a read of many leads may have.

use serde_json::{Value as Json, json};

use super::finding::Finding;
use super::observed::Observed;
use super::request::read_unknown;
use super::session::{ProbeResult, Session};
use super::text::named_maximum;
use super::{Probe, ProbeNeeds, ProbeRun};

/// The numbers of ids, up to the documented maximum.
const COUNTS: [usize; 4] = [100, 1_000, 5_000, 10_000];

pub(super) const PROBE: Probe = Probe {
    id: "read-batch",
    question: "How many ids may a read of leads by id have?",
    calls: 4,
    // Also the number in an error.
    max_calls: 5,
    needs: ProbeNeeds::READ,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let mut reads: Vec<(usize, Observed)> = vec![];
    for count in COUNTS {
        let observed = session.read(read_unknown(count)).await?;
        if is_accepted(&observed) {
            reads.push((count, observed));
            continue;
        }
        let accepted = reads.last().map_or(0, |(count, _)| *count);
        let named = named_maximum(&observed.words()).filter(|named| (accepted + 1..count).contains(named));
        reads.push((count, observed));
        if let Some(named) = named {
            reads.push((named, session.read(read_unknown(named)).await?));
        }
        break;
    }
    Ok(decide(&reads))
}

/// Whether the response is that of a read without results.
fn is_accepted(observed: &Observed) -> bool {
    observed.is_success() && observed.body["RecordCount"].is_number()
}

/// Whether LeadSquared or a proxy refused the size of the request.
fn is_refused(observed: &Observed) -> bool {
    observed.is_rejected() || matches!(observed.status, 413 | 414)
}

fn decide(reads: &[(usize, Observed)]) -> Finding {
    let accepted = reads.iter().filter(|(_, observed)| is_accepted(observed));
    let accepted = accepted.map(|(count, _)| *count).max();
    let refused = reads.iter().filter(|(_, observed)| !is_accepted(observed));
    let refused = refused.min_by_key(|(count, _)| *count);
    let times: Json = reads
        .iter()
        .map(|(count, observed)| json!({"ids": count, "status": observed.status, "ms": observed.took.as_millis() as u64}))
        .collect();
    let value = json!({"max_ids": accepted, "refused_ids": refused.map(|(count, _)| count), "reads": times});
    let observations = reads
        .iter()
        .map(|(count, observed)| format!("{count}: {} in {:.0?}", observed.summary(), observed.took));
    let observation = observations.collect::<Vec<_>>().join("; ");
    let Some(max) = accepted else {
        return Finding::undecided(observation, "no number of ids was accepted", value);
    };
    let (answer, confidence) = match refused {
        None => (format!("{max} ids are accepted"), 0.95),
        Some((count, observed)) if is_refused(observed) => {
            (format!("{max} ids are accepted, and {count} are refused"), 0.9)
        }
        Some((count, _)) => {
            let reason = format!("{max} ids are accepted; with {count} there is no usable response");
            return Finding::undecided(observation, reason, value);
        }
    };
    Finding::decided(observation, answer, value, confidence)
        .with_setting("batching.max_reads", i64::try_from(max).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    fn accepted() -> Observed {
        Observed::of(200, json!({"RecordCount": 0, "Leads": []}))
    }

    #[test]
    fn the_largest_accepted_number_decides_the_setting() {
        let too_many = Observed::exception_of(500, "MXInvalidInputException", "LeadIds can not be more than 1000");
        for (last, max) in [
            (accepted(), 5_000),
            (too_many, 1_000),
            (Observed::of(413, "<html>"), 1_000),
        ] {
            let reads = [(100, accepted()), (1_000, accepted()), (5_000, last)];
            let finding = decide(&reads);
            assert_eq!(finding.state, ProbeState::Decided);
            assert_eq!(finding.value["max_ids"], max);
            assert_eq!(finding.settings[0].value.as_integer(), Some(max));
        }
    }

    #[test]
    fn the_number_in_an_error_is_the_maximum_only_if_it_is_accepted() {
        let too_many = Observed::exception_of(500, "MXInvalidInputException", "LeadIds can not be more than 200");
        let before = [(100, accepted()), (1_000, too_many.clone())];
        for (named, max, refused) in [(accepted(), 200, 1_000), (too_many, 100, 200)] {
            let reads = [&before[..], &[(200, named)]].concat();
            let finding = decide(&reads);
            assert_eq!(finding.settings[0].value.as_integer(), Some(max));
            assert_eq!(finding.value["refused_ids"], refused);
        }
    }

    #[test]
    fn nonsense_has_no_answer() {
        for observed in Observed::nonsense().into_iter().chain([Observed::of(200, "{}")]) {
            for reads in [
                vec![(100, observed.clone())],
                vec![(100, accepted()), (1_000, observed)],
            ] {
                let finding = decide(&reads);
                assert_eq!(
                    (finding.state, finding.settings),
                    (ProbeState::Undecided, vec![]),
                    "{reads:?}"
                );
            }
        }
        assert_eq!(decide(&[]).state, ProbeState::Undecided);
    }
}
