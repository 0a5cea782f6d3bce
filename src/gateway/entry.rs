//! The place of a write among all writes: in the order of the writes to its lead, and among the calls with its request id. It
//! is taken when the write arrives, before anything is waited for. Knows nothing of what the write does.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Gateway, Removal};
use crate::context::{RequestContext, RequestId};
use crate::domain::activity::{ActivityTarget, ActivityWriteRequest};
use crate::domain::lead::{LEAD_ID, RawFields, WriteRequest, contacts_of, order_key};
use crate::quota::Reservation;
use crate::store::{RequestEntry, Requests, StoredResult};

/// Maximum number of email addresses and phone numbers whose lead ids are remembered.
const MAX_KNOWN: u64 = 50_000;
/// Maximum number of contacts that are remembered of one lead.
const MAX_CONTACTS: usize = 8;

/// The place of a write. Dropped, it is given to the next one.
#[must_use = "the place is lost"]
pub struct Entry {
    pub(super) reservation: Reservation,
    pub(super) request: Option<RequestEntry>,
}

impl Entry {
    /// The same call at this place in the order, with the record of its request id.
    pub(super) fn placed(&self, context: &RequestContext) -> RequestContext {
        let context = self
            .request
            .as_ref()
            .map_or_else(|| context.clone(), |entry| entry.recorded(context));
        RequestContext {
            position: Some(self.reservation.position()),
            ..context
        }
    }
}

/// Which lead has which email address and phone number, as far as leadgate's own reads and writes have shown it. So a write
/// by email address keeps its order with a write by id. A wrong entry only makes a write wait for one of another lead.
pub(super) struct KnownLeads {
    /// By the order key of a contact: that of its lead.
    leads: moka::sync::Cache<String, String>,
    /// By the order key of a lead: those of its contacts, the latest first.
    contacts: moka::sync::Cache<String, Arc<[String]>>,
    entering: Mutex<()>,
}

impl KnownLeads {
    pub(super) fn new() -> Self {
        Self {
            leads: moka::sync::Cache::new(MAX_KNOWN),
            contacts: moka::sync::Cache::new(MAX_KNOWN),
            entering: Mutex::default(),
        }
    }

    /// The lead has these contacts.
    pub(super) fn learn(&self, lead_id: &str, contacts: impl Iterator<Item = String>) {
        let lead = order_key("lead", lead_id);
        let mut all: Vec<String> = contacts.filter(|key| !key.starts_with("lead:")).collect();
        if lead_id.is_empty() || all.is_empty() {
            return;
        }
        for key in &all {
            self.leads.insert(key.clone(), lead.clone());
        }
        let known = self.contacts.get(&lead).unwrap_or_default();
        if all.iter().all(|key| known.contains(key)) {
            return;
        }
        let old: Vec<_> = known.iter().filter(|key| !all.contains(key)).cloned().collect();
        all.extend(old);
        all.truncate(MAX_CONTACTS);
        self.contacts.insert(lead, all.into());
    }

    /// What a row shows.
    pub(super) fn learn_row(&self, row: &RawFields) {
        if let Some(id) = row.get(LEAD_ID).and_then(Option::as_deref) {
            self.learn(id, contacts_of(row));
        }
    }

    /// These keys, those of the leads that have them, and those of all contacts of these leads.
    fn with_known(&self, mut keys: Vec<String>) -> Vec<String> {
        let leads: Vec<String> = keys.iter().filter_map(|key| self.leads.get(key)).collect();
        keys.extend(leads);
        let contacts: Vec<_> = keys.iter().filter_map(|key| self.contacts.get(key)).collect();
        keys.extend(contacts.iter().flat_map(|contacts| contacts.iter().cloned()));
        keys
    }
}

impl Gateway {
    /// Takes the place of a write of a lead.
    pub fn enter_write(&self, write: &WriteRequest, request: Option<RequestId>) -> Entry {
        self.enter(&self.requests, write.order_keys(), request)
    }

    /// Takes the place of a removal.
    pub fn enter_removal(&self, removal: &Removal, request: Option<RequestId>) -> Entry {
        self.enter(&self.requests, removal.order_keys(), request)
    }

    /// Takes the place of an activity that is posted or updated.
    pub fn enter_post(&self, post: &ActivityWriteRequest, request: Option<RequestId>) -> Entry {
        let key = match &post.target {
            ActivityTarget::Lead(lead_id) => order_key("lead", lead_id),
            ActivityTarget::Activity(activity_id) => order_key("activity", activity_id),
        };
        self.enter(&self.posts, vec![key], request)
    }

    fn enter<T: StoredResult>(&self, requests: &Requests<T>, keys: Vec<String>, request: Option<RequestId>) -> Entry {
        let keys = self.known_leads.with_known(keys);
        // Both places in one step: two writes, each with one place and behind the other in the second, would wait for each
        // other.
        let _one_step = self.known_leads.entering.lock().unwrap_or_else(PoisonError::into_inner);
        Entry {
            request: request.map(|request| requests.enter(request)),
            reservation: self.quota.reserve(&keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_by_id_and_one_by_email_address_of_a_known_lead_have_a_key_in_common() {
        let known = KnownLeads::new();
        let keys = |keys: &[&str]| known.with_known(keys.iter().map(|key| (*key).to_owned()).collect());
        assert_eq!(keys(&["lead:7"]), ["lead:7"]);
        known.learn("7", ["email:a@b.co".to_owned(), "lead:7".to_owned()].into_iter());
        known.learn("7", ["phone:98450".to_owned()].into_iter());
        assert_eq!(keys(&["lead:7"]), ["lead:7", "phone:98450", "email:a@b.co"]);
        assert!(keys(&["phone:98450"]).contains(&"email:a@b.co".to_owned()));
        assert_eq!(keys(&["email:other@b.co"]), ["email:other@b.co"]);
    }
}
