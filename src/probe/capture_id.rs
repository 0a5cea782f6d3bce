//! `capture-id`: which id in the response of a capture is that of the lead.

use serde_json::json;

use super::created::CreatedLead;
use super::finding::Finding;
use super::lead::{MAX_LEAD_CALLS, NAME, by_id, id_in, probe_lead};
use super::observed::Observed;
use super::request::{attributes, post};
use super::session::{ProbeResult, Session};
use super::{Probe, ProbeNeeds, ProbeRun};

/// The setting that the answer decides, if both ids are different.
const SETTING: &str = "writes.captured_lead_id";

pub(super) const PROBE: Probe = Probe {
    id: "capture-id",
    question: "Which id in the response of a capture is that of the lead?",
    // The first probe of --write also creates the lead.
    calls: 3,
    max_calls: 4 + MAX_LEAD_CALLS,
    needs: ProbeNeeds::WRITE,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

/// Whether an id of the response is that of the lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CapturedId {
    /// The response does not have it.
    Absent,
    /// It is the id of the captured lead.
    Lead,
    /// A look-up finds another lead, or none.
    Other,
    /// The look-up failed.
    Unknown,
}

/// What was observed.
#[derive(Clone, Debug, PartialEq)]
struct CaptureFacts {
    response: Observed,
    /// `Message` itself, if it is a text.
    message: CapturedId,
    id: CapturedId,
    related_id: CapturedId,
}

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let lead = probe_lead(session).await?;
    let pairs = [
        ("FirstName", NAME.into()),
        ("EmailAddress", lead.email.as_str().into()),
        ("SearchBy", "EmailAddress".into()),
    ];
    let response = session
        .write(post("LeadManagement.svc/Lead.Capture", &[], &attributes(&pairs)))
        .await?;
    let message = response.body["Message"].clone();
    let mut facts = CaptureFacts {
        response,
        message: CapturedId::Absent,
        id: CapturedId::Absent,
        related_id: CapturedId::Absent,
    };
    let is_new = message["IsCreated"].as_bool() == Some(true);
    let ids = [
        (&mut facts.message, message.as_str()),
        (&mut facts.id, message["Id"].as_str()),
        (&mut facts.related_id, message["RelatedId"].as_str()),
    ];
    for (fact, id) in ids {
        let Some(id) = id else {
            continue;
        };
        if id.eq_ignore_ascii_case(&lead.id) {
            *fact = CapturedId::Lead;
            continue;
        }
        let found = session.read(by_id(id)).await?;
        *fact = match (found.is_success(), id_in(&found.body)) {
            (true, Some(_)) => {
                if is_new {
                    // The capture did not find the lead by its email address.
                    session.register(CreatedLead {
                        id: Some(id.to_owned()),
                        ..CreatedLead::default()
                    });
                }
                CapturedId::Other
            }
            (true, None) if found.body.is_array() => CapturedId::Other,
            _ if found.is_rejected() => CapturedId::Other,
            _ => CapturedId::Unknown,
        };
    }
    Ok(decide(&facts))
}

fn decide(facts: &CaptureFacts) -> Finding {
    use CapturedId::{Absent, Lead, Other, Unknown};
    let text = |id| match id {
        Absent => "absent",
        Lead => "lead",
        Other => "other",
        Unknown => "unknown",
    };
    let value = json!({
        "message": text(facts.message),
        "id": text(facts.id),
        "related_id": text(facts.related_id),
        "is_created": facts.response.body["Message"]["IsCreated"].as_bool(),
        "status": facts.response.status,
    });
    let observation = facts.response.summary();
    let decided = |answer: &str| Finding::decided(observation.clone(), answer, value.clone(), 0.95);
    match (facts.message, facts.id, facts.related_id) {
        _ if !facts.response.is_success() => Finding::undecided(observation, "the capture failed", value),
        (Lead, ..) => decided("the message itself is the id of the lead"),
        (_, Lead, Lead) => decided("Id and RelatedId are the id of the lead"),
        (_, Lead, Absent) => decided("Id is the id of the lead; there is no RelatedId"),
        (_, Lead, _) => decided("Id is the id of the lead; RelatedId is not").with_setting(SETTING, "id"),
        (_, Absent, Lead) => decided("RelatedId is the id of the lead; there is no Id"),
        (_, Other, Lead) => decided("RelatedId is the id of the lead; Id is not").with_setting(SETTING, "related-id"),
        _ => Finding::undecided(observation, "no id of the response is that of the lead", value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;
    use CapturedId::{Absent, Lead, Other, Unknown};

    fn facts(message: CapturedId, id: CapturedId, related_id: CapturedId) -> CaptureFacts {
        CaptureFacts {
            response: Observed::of(200, json!({"Status": "Success", "Message": {"IsCreated": false}})),
            message,
            id,
            related_id,
        }
    }

    #[test]
    fn each_place_of_the_id_has_its_answer() {
        for (message, id, related_id, answer, settings) in [
            (Lead, Absent, Absent, "the message itself", 0),
            (Absent, Lead, Lead, "Id and RelatedId", 0),
            (Absent, Lead, Absent, "there is no RelatedId", 0),
            (Absent, Lead, Other, "RelatedId is not", 1),
            (Absent, Absent, Lead, "there is no Id", 0),
            (Absent, Other, Lead, "RelatedId is the id of the lead; Id is not", 1),
        ] {
            let finding = decide(&facts(message, id, related_id));
            assert_eq!(finding.state, ProbeState::Decided);
            assert!(finding.answer.contains(answer), "{}", finding.answer);
            assert_eq!(finding.settings.len(), settings, "{answer}");
        }
    }

    #[test]
    fn without_the_id_of_the_lead_there_is_no_answer() {
        for (message, id, related_id) in [
            (Absent, Absent, Absent),
            (Absent, Other, Other),
            (Other, Absent, Absent),
            (Absent, Unknown, Lead),
            (Absent, Unknown, Unknown),
        ] {
            assert_eq!(decide(&facts(message, id, related_id)).state, ProbeState::Undecided);
        }
        for response in Observed::nonsense().into_iter().skip(1).take(2) {
            let facts = CaptureFacts {
                response,
                ..facts(Absent, Lead, Lead)
            };
            assert_eq!(decide(&facts).state, ProbeState::Undecided);
        }
    }
}
