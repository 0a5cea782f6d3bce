//! `bodies`: which forms of a request body are accepted.

use serde_json::json;
use uuid::Uuid;

use super::finding::Finding;
use super::observed::Observed;
use super::request::{READ_BY_IDS, ids_body, metadata, read_unknown};
use super::session::{ProbeResult, Session};
use super::{Probe, ProbeNeeds, ProbeRun};
use crate::crm::raw::{RawBody, RawRequest};

pub(super) const PROBE: Probe = Probe {
    id: "bodies",
    question: "Are a GET with a length, an empty POST and a chunked POST accepted?",
    calls: 4,
    max_calls: 4,
    needs: ProbeNeeds::READ,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

/// The responses to the forms of a body.
#[derive(Clone, Debug, PartialEq)]
struct BodyResponses {
    /// A POST with a length, which the gateway sends.
    sized: Observed,
    get_with_length: Observed,
    empty_post: Observed,
    chunked_post: Observed,
}

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let sized = session.read(read_unknown(1)).await?;
    let get_with_length = RawRequest {
        body: RawBody::LengthZero,
        ..metadata()
    };
    let get_with_length = session.read(get_with_length).await?;
    let empty_post = RawRequest {
        path: "ProspectActivity.svc/Retrieve",
        query: vec![("leadId", Uuid::new_v4().to_string())],
        body: RawBody::Empty,
    };
    let empty_post = session.read(empty_post).await?;
    let chunked_post = RawRequest {
        path: READ_BY_IDS,
        query: vec![],
        body: RawBody::Chunked(ids_body(1).to_string()),
    };
    let chunked_post = session.read(chunked_post).await?;
    Ok(decide(&BodyResponses {
        sized,
        get_with_length,
        empty_post,
        chunked_post,
    }))
}

/// Whether a form is accepted. `None`: the response does not say.
fn is_accepted(observed: &Observed) -> Option<bool> {
    match observed.status {
        200..=299 if observed.is_success() && !observed.body.is_null() => Some(true),
        // Only the form of the body was different.
        400 | 405 | 411 | 413 | 415 | 501 => Some(false),
        // The lead does not exist, so the body was read.
        _ if observed.is_rejected() && observed.exception().is_some() => Some(true),
        _ => None,
    }
}

fn decide(responses: &BodyResponses) -> Finding {
    let BodyResponses {
        sized,
        get_with_length,
        empty_post,
        chunked_post,
    } = responses;
    let forms = [
        ("GET with Content-Length: 0", "get_with_length", get_with_length),
        ("empty POST", "empty_post", empty_post),
        ("chunked POST", "chunked_post", chunked_post),
    ];
    let mut value = json!({});
    let mut observations = vec![];
    let mut answers = vec![];
    let mut is_known = is_accepted(sized) == Some(true);
    for (name, key, observed) in forms {
        let accepted = is_accepted(observed);
        is_known &= accepted.is_some();
        let answer = match accepted {
            Some(true) => "accepted",
            Some(false) => "refused",
            None => "unknown",
        };
        value[key] = json!({"accepted": accepted, "status": observed.status});
        observations.push(format!("{name}: {}", observed.status));
        answers.push(format!("{name} {answer}"));
    }
    let (observation, answer) = (observations.join(", "), answers.join(", "));
    match is_known {
        true => Finding::decided(observation, answer, value, 0.9),
        false if is_accepted(sized) != Some(true) => {
            Finding::undecided(observation, "the POST of the gateway itself was not accepted", value)
        }
        false => Finding::undecided(observation, answer, value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    fn accepted() -> Observed {
        Observed::of(200, json!({"RecordCount": 0}))
    }

    fn responses(chunked_post: Observed) -> BodyResponses {
        BodyResponses {
            sized: accepted(),
            get_with_length: Observed::of(200, "[]"),
            empty_post: accepted(),
            chunked_post,
        }
    }

    #[test]
    fn each_form_is_accepted_or_refused() {
        for (chunked, is_accepted) in [
            (accepted(), true),
            (Observed::of(411, ""), false),
            (Observed::of(400, "Unexpected character"), false),
            (Observed::of(501, "<html>"), false),
            (
                Observed::exception_of(500, "MXInvalidLeadException", "Lead not found"),
                true,
            ),
        ] {
            let finding = decide(&responses(chunked));
            assert_eq!(finding.state, ProbeState::Decided, "{finding:?}");
            assert_eq!(finding.value["chunked_post"]["accepted"], is_accepted);
            assert_eq!(finding.value["empty_post"]["accepted"], true);
            assert_eq!(finding.settings, []);
        }
    }

    #[test]
    fn nonsense_and_a_refused_form_of_the_gateway_have_no_answer() {
        for observed in Observed::nonsense() {
            let finding = decide(&responses(observed.clone()));
            assert_eq!(finding.state, ProbeState::Undecided, "{observed:?}");
            let finding = decide(&BodyResponses {
                sized: observed,
                ..responses(accepted())
            });
            assert!(finding.answer.contains("itself was not accepted"), "{}", finding.answer);
        }
    }
}
