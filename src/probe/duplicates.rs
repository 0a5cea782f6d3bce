//! `duplicates`: the responses to a second lead with the same email address or phone number.

use serde_json::{Value as Json, json};

use super::created::CreatedLead;
use super::finding::Finding;
use super::lead::{MAX_LEAD_CALLS, create, email, probe_lead};
use super::observed::Observed;
use super::request::{attributes, post};
use super::session::{ProbeResult, Session};
use super::{Probe, ProbeNeeds, ProbeRun};
use crate::error::ErrorKind;

pub(super) const PROBE: Probe = Probe {
    id: "duplicates",
    question: "How is a duplicate rejected, and which attributes are unique?",
    // With the look-up of a free phone number, and the create and the read of the lead.
    calls: 7,
    max_calls: 4 + MAX_LEAD_CALLS,
    needs: ProbeNeeds::WRITE,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

/// The responses to writes with values of the probe lead.
#[derive(Clone, Debug, PartialEq)]
struct DuplicateResponses {
    /// A create with its email address.
    same_email: Observed,
    /// A capture with its phone number, matched by another email address. `None`: it has no phone number.
    captured_phone: Option<Observed>,
    /// A create with its phone number.
    same_phone: Option<Observed>,
    /// An update of the lead with its own values.
    own_values: Observed,
}

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    const CREATE: &str = "LeadManagement.svc/Lead.Create";
    let lead = probe_lead(session).await?;
    let same_email = second_lead(session, lead.email.clone(), None, |email| {
        create(CREATE, &[], &[("EmailAddress", email)])
    })
    .await?;
    let (mut captured_phone, mut same_phone) = (None, None);
    if let Some(phone) = &lead.phone {
        let captured = second_lead(session, email(), Some(&lead.id), |email| {
            let pairs = [("EmailAddress", email), ("Phone", phone), ("SearchBy", "EmailAddress")];
            let query = [("LeadUpdateBehavior", "DoNotUpdate")];
            create("LeadManagement.svc/Lead.Capture", &query, &pairs)
        });
        captured_phone = Some(captured.await?);
        let created = second_lead(session, email(), None, |email| {
            create(CREATE, &[], &[("EmailAddress", email), ("Phone", phone)])
        });
        same_phone = Some(created.await?);
    }
    let mut own: Vec<(&str, Json)> = vec![("EmailAddress", lead.email.as_str().into())];
    own.extend(lead.phone.as_deref().map(|phone| ("Phone", phone.into())));
    let update = post(
        "LeadManagement.svc/Lead.Update",
        &[("leadId", &lead.id)],
        &attributes(&own),
    );
    let own_values = session.write(update).await?;
    let responses = DuplicateResponses {
        same_email,
        captured_phone,
        same_phone,
        own_values,
    };
    Ok(decide(&responses, &session.settings.writes.unique))
}

/// Sends a write that may create a lead with this email address, and registers the lead if it may exist. `known`: the id of a lead that
/// the write may match.
async fn second_lead(
    session: &Session<'_>,
    email: String,
    known: Option<&str>,
    request: impl FnOnce(&str) -> crate::crm::raw::RawRequest,
) -> ProbeResult<Observed> {
    let position = session.register(CreatedLead {
        email: Some(email.clone()),
        ..CreatedLead::default()
    });
    let observed = session.write(request(&email)).await?;
    if observed.is_success() {
        let id = written_id(&observed.body).filter(|id| Some(id.as_str()) != known);
        if id.is_some() || known.is_some() {
            session.settle(position, id);
        }
    } else if observed.is_rejected() {
        session.settle(position, None);
    }
    Ok(observed)
}

/// The id of the lead that a write returned.
fn written_id(body: &Json) -> Option<String> {
    let message = &body["Message"];
    let ids = [message.as_str(), message["RelatedId"].as_str(), message["Id"].as_str()];
    ids.into_iter().flatten().next().map(str::to_owned)
}

/// The attribute of a duplicate. `None`: the response is not that of a duplicate.
fn duplicate(observed: &Observed) -> Option<Option<&str>> {
    match observed.kind() {
        Some(ErrorKind::Duplicate { attribute, .. }) => Some(attribute.as_deref()),
        _ => None,
    }
}

/// Whether an attribute is unique, by the response to a second lead with the same value. `None`: the response does not say.
fn is_unique(observed: &Observed) -> Option<bool> {
    match (duplicate(observed).is_some(), observed.is_success()) {
        (true, _) => Some(true),
        (false, true) if written_id(&observed.body).is_some() => Some(false),
        _ => None,
    }
}

fn decide(responses: &DuplicateResponses, unique: &[String]) -> Finding {
    let DuplicateResponses {
        same_email,
        captured_phone,
        same_phone,
        own_values,
    } = responses;
    let email_is_unique = is_unique(same_email);
    let phone_is_unique = same_phone.as_ref().and_then(is_unique);
    let own_values_clash = match (duplicate(own_values).is_some(), own_values.is_success()) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        _ => None,
    };
    let named = duplicate(same_email).map(|attribute| attribute.is_some());
    let value = json!({
        "create_same_email": same_email.json(),
        "capture_same_phone": captured_phone.as_ref().map(Observed::json),
        "create_same_phone": same_phone.as_ref().map(Observed::json),
        "update_own_values": own_values.json(),
        "email_is_unique": email_is_unique,
        "phone_is_unique": phone_is_unique,
        "names_attribute": named,
        "own_values_clash": own_values_clash,
    });
    let observation = same_email.summary();
    let Some(email_unique) = email_is_unique else {
        return Finding::undecided(observation, "neither a duplicate nor a second lead", value);
    };
    let is = |attribute: &str, is_unique: Option<bool>| match is_unique {
        Some(true) => format!("{attribute} is unique"),
        Some(false) => format!("{attribute} is not unique"),
        None => format!("{attribute}: unknown"),
    };
    let text = match named {
        Some(true) => "; the error names the attribute",
        Some(false) => "; the error does not name the attribute",
        None => "",
    };
    let own = match own_values_clash {
        Some(true) => "; a lead's own values are rejected",
        Some(false) | None => "",
    };
    let answer = format!(
        "{}, {}{text}{own}",
        is("EmailAddress", email_is_unique),
        is("Phone", phone_is_unique)
    );
    let confidence = if phone_is_unique.is_some() { 0.95 } else { 0.8 };
    let mut expected = unique.to_vec();
    for (attribute, is_unique) in [("EmailAddress", Some(email_unique)), ("Phone", phone_is_unique)] {
        let is_listed = expected.iter().any(|name| name == attribute);
        match is_unique {
            Some(true) if !is_listed => expected.push(attribute.to_owned()),
            Some(false) => expected.retain(|name| name != attribute),
            Some(true) | None => {}
        }
    }
    let mut finding = Finding::decided(observation, answer, value, confidence).with_setting("writes.unique", expected);
    if own_values_clash == Some(true) {
        finding = finding.with_setting("writes.own_values_may_clash", true);
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    const ID: &str = "910a2dec-8902-5cc1-beeb-8da1658eec67";

    fn duplicate_of(status: u16, text: &str) -> Observed {
        Observed::exception_of(status, "MXDuplicateEntryException", text)
    }

    fn created() -> Observed {
        Observed::of(200, json!({"Status": "Success", "Message": {"Id": ID}}))
    }

    fn responses(same_email: Observed, same_phone: Option<Observed>) -> DuplicateResponses {
        DuplicateResponses {
            same_email,
            captured_phone: same_phone.clone(),
            same_phone,
            own_values: Observed::of(200, json!({"Status": "Success", "Message": {"AffectedRows": 1}})),
        }
    }

    fn unique(finding: &Finding) -> Vec<&str> {
        let setting = finding
            .settings
            .iter()
            .find(|setting| setting.path == "writes.unique")
            .unwrap();
        let values = setting.value.as_array().unwrap();
        values.iter().filter_map(toml::Value::as_str).collect()
    }

    #[test]
    fn the_unique_attributes_follow_from_second_leads() {
        let current = ["EmailAddress".to_owned(), "Phone".to_owned()];
        let email = || duplicate_of(500, "A Lead with same Email already exists.");
        let phone = || duplicate_of(200, "Duplicate entry '+1-2025550143' for key 'UQ_Prospect_Base_Phone'");
        for (same_email, same_phone, expected) in [
            (email(), Some(phone()), vec!["EmailAddress", "Phone"]),
            (email(), Some(created()), vec!["EmailAddress"]),
            (created(), Some(phone()), vec!["Phone"]),
            (created(), Some(created()), vec![]),
            (email(), None, vec!["EmailAddress", "Phone"]),
        ] {
            let finding = decide(&responses(same_email, same_phone), &current);
            assert_eq!(finding.state, ProbeState::Decided);
            assert_eq!(unique(&finding), expected);
            let report = format!("{finding:?}");
            assert!(!report.contains("5550143") && !report.contains(ID), "{report}");
        }
        let finding = decide(&responses(email(), Some(phone())), &["mx_Zip".to_owned()]);
        assert_eq!(unique(&finding), ["mx_Zip", "EmailAddress", "Phone"]);
    }

    #[test]
    fn the_status_and_the_text_of_a_duplicate_are_reported() {
        let finding = decide(&responses(duplicate_of(200, "Value is used already"), None), &[]);
        assert_eq!(finding.value["create_same_email"]["status"], 200);
        assert_eq!(
            finding.value["create_same_email"]["exception"],
            "MXDuplicateEntryException"
        );
        assert_eq!(finding.value["names_attribute"], false);
        assert!(finding.answer.contains("does not name"), "{}", finding.answer);
    }

    #[test]
    fn a_clash_of_own_values_decides_its_setting() {
        let mut responses = responses(duplicate_of(500, "A Lead with same Email already exists."), None);
        assert_eq!(decide(&responses, &[]).settings.len(), 1);
        responses.own_values = duplicate_of(500, "A Lead with same Email already exists.");
        let finding = decide(&responses, &[]);
        assert_eq!(finding.settings[1].path, "writes.own_values_may_clash");
        responses.own_values = Observed::nothing();
        assert_eq!(decide(&responses, &[]).value["own_values_clash"], Json::Null);
    }

    #[test]
    fn nonsense_has_no_answer() {
        for observed in Observed::nonsense().into_iter().chain([
            Observed::of(200, "{}"),
            Observed::exception_of(500, "MXInvalidInputException", "no"),
        ]) {
            let finding = decide(&responses(observed.clone(), None), &[]);
            assert_eq!(
                (finding.state, finding.settings),
                (ProbeState::Undecided, vec![]),
                "{observed:?}"
            );
        }
    }
}
