//! Finds a lead by any of its keys, for callers and for the gateway's own look-ups.

use super::Gateway;
use crate::context::RequestContext;
use crate::crm::batch::BatchMode;
use crate::crm::lead as endpoint;
use crate::domain::field::Catalog;
use crate::domain::lead::{LEAD_ID, LeadKey, RawFields, WriteRequest};
use crate::domain::mask::ReadMask;
use crate::domain::phone;
use crate::error::{Error, ErrorKind, Resource, Result};

impl Gateway {
    /// Returns the lead with that key. A phone number is tried in each form in which accounts were seen to store it.
    pub(super) async fn find(
        &self,
        context: &RequestContext,
        key: &LeadKey,
        mask: &ReadMask,
        catalog: Option<&Catalog>,
    ) -> Result<RawFields> {
        match key {
            LeadKey::Id(id) => {
                let known = catalog.filter(|catalog| self.batching.reads && mask.is_of_columns(catalog));
                let operation = endpoint::GetLeadById {
                    id: id.clone(),
                    columns: known.map(|catalog| mask.shared_columns(catalog)),
                };
                let batch_mode = if known.is_some() {
                    BatchMode::Opportunistic
                } else {
                    BatchMode::Never
                };
                self.crm.call_batched(batch_mode, context, &operation).await
            }
            LeadKey::Email(email) => self.crm.call(context, &endpoint::GetLeadByEmail(email.clone())).await,
            LeadKey::Number(number) => {
                let operation = endpoint::GetLeadByNumber {
                    number: number.clone(),
                    columns: columns(mask, catalog),
                };
                self.crm.call(context, &operation).await
            }
            LeadKey::Phone(number) => {
                let mut missing = Error::from(ErrorKind::NotFound(Resource::Lead));
                for form in phone::lookup_forms(number, self.country_code.as_str()) {
                    match self.crm.call(context, &endpoint::GetLeadByPhone(form)).await {
                        Err(error) if is_missing(&error) => missing = error,
                        result => return result,
                    }
                }
                Err(missing)
            }
        }
    }
}

/// The lead's id.
pub(super) fn id_of(row: &RawFields) -> Option<&str> {
    row.get(LEAD_ID)?.as_deref()
}

/// Whether the error means that the lead does not exist.
pub(super) fn is_missing(error: &Error) -> bool {
    error.kind == ErrorKind::NotFound(Resource::Lead)
}

/// The form of a lead id in which two ids can be compared.
pub(super) fn fold(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// The key of the lead that has the write's own value of the attribute.
pub(super) fn own_key(write: &WriteRequest, attribute: &str) -> Option<LeadKey> {
    let value = write.attributes.text(attribute)?;
    Some(match attribute {
        "EmailAddress" => LeadKey::Email(value),
        _ => LeadKey::Phone(value),
    })
}

/// The same error. A duplicate names the attribute and the lead that has its value.
pub(super) fn with_lead(mut error: Error, by: &str, row: &RawFields) -> Error {
    if let ErrorKind::Duplicate { attribute, lead_id } = &mut error.kind {
        *attribute = Some(by.to_owned());
        *lead_id = id_of(row).map(str::to_owned);
    }
    error
}

/// The columns to request for a mask.
pub(super) fn columns(mask: &ReadMask, catalog: Option<&Catalog>) -> Vec<String> {
    match catalog {
        Some(catalog) => mask.columns(catalog.names()),
        None => mask.columns(endpoint::standard_columns()),
    }
}
