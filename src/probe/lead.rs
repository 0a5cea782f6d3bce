//! The lead of the command: created once, deleted at the end. Every lead that may exist because of the command is registered before
//! the request that may create it is sent.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::created::{CreatedLead, ProbeLead};
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
/// How many phone numbers are looked up.
const MAX_NUMBERS: u32 = 3;

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
        Some(stop @ (ProbeStop::Unauthorized | ProbeStop::DailyBudget)) => Some(stop.reason()),
        Some(ProbeStop::Interrupted) | None => None,
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
    let clean = async |request| {
        let observed = session.clean(request).await;
        match observed.refusal() {
            Some(Refusal::Daily) => Err(Removal::Refused(ProbeStop::DailyBudget)),
            _ if is_unauthorized(&observed) => Err(Removal::Refused(ProbeStop::Unauthorized)),
            _ => Ok(observed),
        }
    };
    let id = match (&created.id, &created.email) {
        (Some(id), _) => id.clone(),
        (None, Some(email)) => {
            let request = get("LeadManagement.svc/Leads.GetByEmailaddress", &[("emailaddress", email)]);
            let found = clean(request).await?;
            match (id_in(&found.body), found.body == json!([])) {
                (Some(id), _) => id,
                (None, true) => return Ok(()),
                (None, false) => {
                    let text = format!("{}: the look-up failed: {}", created.name(), found.summary());
                    return Err(Removal::Remains(text));
                }
            }
        }
        (None, None) => return Ok(()),
    };
    let deleted = clean(get("LeadManagement.svc/Lead/Delete/ById", &[("leadId", &id)])).await?;
    if deleted.is_success() {
        return Ok(());
    }
    let rename = attributes(&[("FirstName", RENAMED.into())]);
    let renamed = clean(post("LeadManagement.svc/Lead.Update", &[("leadId", &id)], &rename)).await?;
    let name = match renamed.is_success() {
        true => format!("; its first name is now {RENAMED}"),
        false => String::new(),
    };
    Err(Removal::Remains(format!(
        "lead {id}: deleting it failed: {}{name}",
        deleted.summary()
    )))
}
