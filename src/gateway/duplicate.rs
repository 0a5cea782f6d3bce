//! The lead that a refused write clashes with, where LeadSquared does not name it: one look-up, if it slows down nobody.

use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::lead::WriteMode;
use super::lookup::{fold, id_of, own_key, with_lead};
use crate::context::RequestContext;
use crate::crm::lead::{GetByEmail, GetByPhone};
use crate::domain::lead::{EMAIL, LeadKey, RawFields, WriteAction, WriteRequest};
use crate::domain::phone;
use crate::error::{Error, ErrorKind};

/// Maximum duration of the look-up, so that a slow LeadSquared does not hold back the error.
const MAX_LOOKUP: Duration = Duration::from_secs(2);

impl Gateway {
    /// The same error; that of a duplicate with the id of the other lead, if one look-up by the clashing value tells it. It is
    /// made only if a slot of the quota is free at this moment, for one of many only while at least half of them are.
    pub(super) async fn with_duplicate(
        &self,
        context: &RequestContext,
        write: &WriteRequest,
        mode: WriteMode,
        error: Error,
    ) -> Error {
        let ErrorKind::Duplicate {
            attribute,
            lead_id: None,
        } = &error.kind
        else {
            return error;
        };
        let attribute = attribute.as_deref();
        if !self.settings.find_duplicates || context.cancelled.is_cancelled() || self.was_looked_up(write, attribute) {
            return error;
        }
        let Some(by) = clashing(write, attribute) else {
            return error;
        };
        let now = Instant::now();
        // The error has to be told before the deadline.
        let most = (context.deadline.saturating_duration_since(now) / 2).min(MAX_LOOKUP);
        let context = RequestContext {
            deadline: now + most,
            ..context.clone()
        };
        match self.find_if_free(&context, write, by, mode).await {
            Some(row) if is_other(write, &row) && write.attributes.is_held_by(by, &row) => {
                self.known_leads.learn_row(&row);
                with_lead(error, by, &row)
            }
            _ => error,
        }
    }

    async fn find_if_free(
        &self,
        context: &RequestContext,
        write: &WriteRequest,
        by: &str,
        mode: WriteMode,
    ) -> Option<RawFields> {
        let if_idle = mode == WriteMode::Bulk;
        let found = match own_key(write, by)? {
            LeadKey::Email(address) => self.crm.call_if_free(context, &GetByEmail(address), if_idle).await?,
            LeadKey::Phone(number) => {
                let forms = phone::lookup_forms(&number, self.country_code.as_str());
                let operation = GetByPhone(forms.into_iter().next()?);
                self.crm.call_if_free(context, &operation, if_idle).await?
            }
            LeadKey::Id(_) | LeadKey::Number(_) => return None,
        };
        found.ok()
    }

    /// Whether the lead was looked up by that attribute already, as part of the write.
    fn was_looked_up(&self, write: &WriteRequest, attribute: Option<&str>) -> bool {
        match &write.action {
            WriteAction::Create => false,
            WriteAction::Update { .. } => self.settings.own_values_may_clash && attribute.is_some(),
            WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
                let by = attribute.unwrap_or("Phone");
                by != EMAIL && write.attributes.text(by).is_some() && write.matched_by(by).is_some()
            }
        }
    }
}

/// The attribute that the lead can be looked up by: the one that LeadSquared names, or where it names none, the first unique
/// one that the write has.
fn clashing(write: &WriteRequest, attribute: Option<&str>) -> Option<&'static str> {
    let has = |name: &&str| write.attributes.text(name).is_some();
    let mut keys = [EMAIL, "Phone", "Mobile"].into_iter();
    match attribute {
        Some(named) => keys.find(|name| *name == named).filter(has),
        None => keys.find(has),
    }
}

/// Whether the lead is another one than that which the write is about.
fn is_other(write: &WriteRequest, row: &RawFields) -> bool {
    match (&write.action, id_of(row)) {
        (_, None) => false,
        (WriteAction::Update { lead_id, .. }, Some(id)) => fold(id) != fold(lead_id),
        (WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. }, Some(_)) => true,
    }
}
