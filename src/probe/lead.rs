//! The lead of the command: created once, deleted at the end. Every lead that may exist because of the command is registered before
//! the request that may create it is sent.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::created::{CreatedLead, ProbeLead};
use super::observed::Observed;
use super::request::{attributes, get, post};
use super::session::{Halt, ProbeResult, ProbeStop, Session, is_unauthorized};
use crate::crm::raw::RawRequest;
use crate::error::Refusal;

/// The first name of the lead.
pub(super) const NAME: &str = "leadgate-probe";
/// The first name of a lead that could not be deleted.
const RENAMED: &str = "leadgate-probe-delete-me";
/// Area codes of the fictional numbers 555-0100 to 555-0199.
const AREA_CODES: [u32; 8] = [201, 202, 206, 212, 213, 303, 312, 415];
/// How many leads with one email address are deleted.
const MAX_SAME_EMAIL: u32 = 3;
/// How many phone numbers are looked up.
const MAX_NUMBERS: u32 = 3;
/// Maximum number of calls that create the lead.
pub(super) const MAX_LEAD_CALLS: u32 = MAX_NUMBERS + 2;

/// A random email address that cannot exist.
pub(super) fn email() -> String {
    format!("{NAME}-{}@example.invalid", Uuid::new_v4().simple())
}

/// A random fictional phone number.
fn phone() -> String {
    let random = Uuid::new_v4().as_u128();
    let area = AREA_CODES[(random % AREA_CODES.len() as u128) as usize];
    let last = (random >> 64) % 100;
    format!("+1-{area}55501{last:02}")
}

/// The write of a new lead, with these attributes.
pub(super) fn create(path: &'static str, query: &[(&'static str, &str)], pairs: &[(&str, &str)]) -> RawRequest {
    let first = [("FirstName", NAME), ("DoNotEmail", "1"), ("DoNotCall", "1")];
    let pairs: Vec<_> = first
        .iter()
        .chain(pairs)
        .map(|(name, value)| (*name, Json::from(*value)))
        .collect();
    post(path, query, &attributes(&pairs))
}

/// The read of a lead by its id.
pub(super) fn by_id(id: &str) -> RawRequest {
    get("LeadManagement.svc/Leads.GetById", &[("id", id)])
}

/// The id in the first row of a read.
pub(super) fn id_in(body: &Json) -> Option<String> {
    Some(body[0]["ProspectID"].as_str()?.to_owned())
}

/// The lead of the command. The first call creates it.
pub(super) async fn probe_lead(session: &Session<'_>) -> ProbeResult<ProbeLead> {
    if let Some(known) = session.known_lead() {
        return known.map_err(Halt::Probe);
    }
    let created = create_lead(session).await;
    match &created {
        Ok(lead) => session.set_lead(Ok(lead.clone())),
        Err(Halt::Probe(reason)) => session.set_lead(Err(reason.clone())),
        Err(Halt::Stop(_) | Halt::Budget(_)) => {}
    }
    created
}

async fn create_lead(session: &Session<'_>) -> ProbeResult<ProbeLead> {
    let mut free = None;
    for _ in 0..MAX_NUMBERS {
        let phone = phone();
        let request = get("LeadManagement.svc/RetrieveLeadByPhoneNumber", &[("phone", &phone)]);
        let found = session.read(request).await?;
        if !found.is_success() && !found.is_rejected() && found.status != 404 {
            return Err(Halt::Probe(format!(
                "a read failed, so no lead was created: {}",
                found.summary()
            )));
        }
        // Some accounts respond with HTTP 404.
        if found.status == 404 || found.body == json!([]) {
            free = Some(phone);
            break;
        }
    }
    let email = email();
    let position = session.register(CreatedLead {
        email: Some(email.clone()),
        ..CreatedLead::default()
    });
    let mut pairs = vec![("EmailAddress", email.as_str())];
    pairs.extend(free.as_deref().map(|phone| ("Phone", phone)));
    let created = session
        .write(create("LeadManagement.svc/Lead.Create", &[], &pairs))
        .await?;
    let id = created.body["Message"]["Id"].as_str().filter(|_| created.is_success());
    let Some(id) = id else {
        if created.is_rejected() {
            session.settle(position, None);
        }
        return Err(Halt::Probe(format!(
            "the probe lead cannot be created: {}",
            created.summary()
        )));
    };
    // Nothing is written to a lead that is not this one.
    let row = session.read(by_id(id)).await?;
    let stored = row.body[0]["EmailAddress"].as_str();
    if !stored.is_some_and(|stored| stored.eq_ignore_ascii_case(&email)) {
        let reason = "the lead with the returned id does not have the email address of the probe lead";
        return Err(Halt::Probe(reason.to_owned()));
    }
    session.settle(position, Some(id.to_owned()));
    Ok(ProbeLead {
        id: id.to_owned(),
        email,
        phone: free,
    })
}

/// Deletes the leads that the command created, the last one first. Returns those that remain, each with its id or email address and the
/// reason.
pub(super) async fn clean_up(session: &Session<'_>) -> Vec<String> {
    let created = session.take_created();
    let mut remaining = vec![];
    let mut refused: Option<&str> = match session.stop() {
        Some(stop @ (ProbeStop::Unauthorized | ProbeStop::DailyRefused)) => Some(stop.reason()),
        // The few calls that delete the leads are not worth a remaining lead.
        Some(ProbeStop::Interrupted | ProbeStop::DailyBudget) | None => None,
    };
    for lead in created {
        if let Some(reason) = refused {
            remaining.push(format!("{}: {reason}", lead.name()));
            continue;
        }
        session.show("deleting the probe lead", 1.0);
        match remove(session, &lead).await {
            Ok(()) => {}
            Err(Removal::Remains(text)) => remaining.push(text),
            Err(Removal::Refused(stop)) => {
                refused = Some(stop.reason());
                remaining.push(format!("{}: {}", lead.name(), stop.reason()));
            }
        }
    }
    remaining
}

/// Why a lead was not deleted.
enum Removal {
    Remains(String),
    /// No further call can succeed.
    Refused(ProbeStop),
}

async fn remove(session: &Session<'_>, created: &CreatedLead) -> Result<(), Removal> {
    match (&created.id, &created.email) {
        (Some(id), _) => remove_id(session, id).await,
        (None, Some(email)) => {
            // Two leads may have the same email address.
            for _ in 0..MAX_SAME_EMAIL {
                let request = get("LeadManagement.svc/Leads.GetByEmailaddress", &[("emailaddress", email)]);
                let found = clean(session, request).await?;
                match (id_in(&found.body), found.body == json!([])) {
                    (Some(id), _) => remove_id(session, &id).await?,
                    (None, true) => return Ok(()),
                    (None, false) => {
                        let text = format!("{}: the look-up failed: {}", created.name(), found.summary());
                        return Err(Removal::Remains(text));
                    }
                }
            }
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// Deletes a lead, or renames it. A lead without the name of the command is not touched.
async fn remove_id(session: &Session<'_>, id: &str) -> Result<(), Removal> {
    let found = clean(session, by_id(id)).await?;
    let row = &found.body[0];
    if found.body == json!([]) {
        return Ok(());
    }
    if !is_own(row) {
        let text = format!(
            "lead {id}: it is not a lead of this command, or its look-up failed: {}",
            found.summary()
        );
        return Err(Removal::Remains(text));
    }
    let deleted = clean(session, get("LeadManagement.svc/Lead/Delete/ById", &[("leadId", id)])).await?;
    // Only a look-up proves the deletion.
    let found = clean(session, by_id(id)).await?;
    if found.body == json!([]) {
        return Ok(());
    }
    let deletion = match (deleted.is_success(), found.is_success()) {
        (true, true) => "LeadSquared reported its deletion, but it still exists".to_owned(),
        (true, false) => format!("its look-up after the deletion failed: {}", found.summary()),
        (false, _) => format!("deleting it failed: {}", deleted.summary()),
    };
    let rename = attributes(&[("FirstName", RENAMED.into())]);
    let renamed = post("LeadManagement.svc/Lead.Update", &[("leadId", id)], &rename);
    let name = match clean(session, renamed).await?.is_success() {
        true => format!("; its first name is now {RENAMED}"),
        false => String::new(),
    };
    let text = format!("lead {id}: {deletion}{name}");
    Err(Removal::Remains(text))
}

/// Whether a row is a lead of the command: it has its name, or none of the attributes that a lead of a person has.
fn is_own(row: &Json) -> bool {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let is_empty = ["FirstName", "LastName", "EmailAddress", "Phone"]
        .iter()
        .all(|name| matches!(text(name), "" | "-"));
    row.is_object() && (text("FirstName").starts_with(NAME) || is_empty)
}

/// Sends a request that cleans up. Fails if no further request can succeed.
async fn clean(session: &Session<'_>, request: RawRequest) -> Result<Observed, Removal> {
    let observed = session.clean(request).await;
    match observed.refusal() {
        Some(Refusal::Daily) => Err(Removal::Refused(ProbeStop::DailyRefused)),
        _ if is_unauthorized(&observed) => Err(Removal::Refused(ProbeStop::Unauthorized)),
        _ => Ok(observed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leads_of_the_command_are_deleted() {
        for (row, expected) in [
            (
                json!({"FirstName": "leadgate-probe", "EmailAddress": "x@example.invalid"}),
                true,
            ),
            (json!({"FirstName": null, "EmailAddress": null, "Phone": "-"}), true),
            (json!({"FirstName": "Ann"}), false),
            (json!({"FirstName": null, "EmailAddress": "ann@example.com"}), false),
            (json!({"LastName": "Rao"}), false),
            (Json::Null, false),
            (json!("text"), false),
        ] {
            assert_eq!(is_own(&row), expected, "{row}");
        }
    }

    #[test]
    fn a_phone_number_is_fictional() {
        for _ in 0..200 {
            let phone = phone();
            assert!(phone.starts_with("+1-") && phone.len() == 13, "{phone}");
            assert_eq!(&phone[6..11], "55501", "{phone}");
        }
    }
}
