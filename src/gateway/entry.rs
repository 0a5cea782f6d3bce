//! The position of a write: in the order of the writes to its lead, and among the calls with its request id. It is reserved when the
//! write arrives, before the write waits for anything. Does not depend on the kind of write.

use std::sync::{Arc, Mutex, PoisonError};

use super::Gateway;
use crate::context::{RequestContext, RequestId};
use crate::domain::activity::{ActivityTarget, ActivityWriteRequest};
use crate::domain::lead::{LEAD_ID, RawFields, WriteRequest, contacts_of, order_key};
use crate::quota::{Reservation, WriteKey};
use crate::store::{RequestEntry, Requests, StoredResult};

/// Maximum number of email addresses and phone numbers whose lead ids are stored.
const MAX_KNOWN: u64 = 50_000;
/// Maximum number of contacts that are stored for one lead.
const MAX_CONTACTS: usize = 8;

/// The position of a write. When it is dropped, the next write continues.
#[must_use = "dropping it gives up the position"]
pub struct WriteEntry {
    pub(super) reservation: Reservation,
    pub(super) request: Option<RequestEntry>,
}

impl WriteEntry {
    /// The same context with this position and with the record of the request id.
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

/// The email addresses and phone numbers of leads, as known from reads and writes of this process. With them, a write by email
/// address is ordered with a write by id. A wrong entry only makes a write wait for a write to another lead.
pub(super) struct KnownLeads {
    /// The order key of the lead, by the order key of a contact.
    leads: moka::sync::Cache<String, String>,
    /// The order keys of the contacts, by the order key of the lead. The latest comes first.
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

    /// Stores that the lead has these contacts.
    pub(super) fn learn(&self, lead_id: &str, contacts: impl Iterator<Item = String>) {
        let lead = order_key("lead", lead_id);
        let mut all: Vec<String> = contacts.filter(|key| !key.starts_with("lead:")).collect();
        if lead_id.is_empty() || all.is_empty() {
            return;
        }
        // Most reads show nothing new, and an insertion is slower than a look-up.
        for key in all.iter().filter(|key| self.leads.get(*key).as_ref() != Some(&lead)) {
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

    /// Stores the contacts in a row.
    pub(super) fn learn_row(&self, row: &RawFields) {
        if let Some(id) = row.get(LEAD_ID).and_then(Option::as_deref) {
            self.learn(id, contacts_of(row));
        }
    }

    /// Adds the keys of the leads that have one of these keys, and the keys of all contacts of these leads.
    fn with_known(&self, mut keys: Vec<String>) -> Vec<String> {
        let leads: Vec<String> = keys.iter().filter_map(|key| self.leads.get(key)).collect();
        keys.extend(leads);
        let contacts: Vec<_> = keys.iter().filter_map(|key| self.contacts.get(key)).collect();
        keys.extend(contacts.iter().flat_map(|contacts| contacts.iter().cloned()));
        keys
    }
}

impl Gateway {
    /// Reserves the position of a write of a lead.
    pub fn enter_write(&self, write: &WriteRequest, request: Option<RequestId>) -> WriteEntry {
        self.enter(&self.requests, write.order_keys(), request)
    }

    /// Reserves the position of a post or update of an activity.
    pub fn enter_post(&self, post: &ActivityWriteRequest, request: Option<RequestId>) -> WriteEntry {
        let key = match &post.target {
            ActivityTarget::Lead(lead_id) => order_key("lead", lead_id),
            ActivityTarget::Activity(activity_id) => order_key("activity", activity_id),
        };
        self.enter(&self.posts, vec![key], request)
    }

    pub(super) fn enter<T: StoredResult>(
        &self,
        requests: &Requests<T>,
        keys: Vec<String>,
        request: Option<RequestId>,
    ) -> WriteEntry {
        let keys: Vec<WriteKey> = self
            .known_leads
            .with_known(keys)
            .iter()
            .map(|key| WriteKey::of(key))
            .collect();
        let stored_keys = keys.iter().map(|key| key.stored()).collect();
        // Both positions are reserved in one step. Otherwise two writes could each be first in one order and wait for the other
        // write in the other order.
        let _one_step = self.known_leads.entering.lock().unwrap_or_else(PoisonError::into_inner);
        WriteEntry {
            request: request.map(|request| requests.enter(request, stored_keys)),
            reservation: self.quota.reserve(keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_by_id_and_by_email_address_of_a_known_lead_share_a_key() {
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
