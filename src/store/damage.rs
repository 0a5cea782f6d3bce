//! Damaged rows: rows of the store that cannot be read. Each damaged row is logged once and counted. Only a request for the row
//! itself fails.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::shortened;

/// Maximum number of damaged rows that are logged.
const MAX_LOGGED: usize = 100;

/// A part of the key of a row, as bytes. The key can be damaged, too.
type RawKey = Option<Vec<u8>>;
/// The table, the tenant and the id of a row.
type RowKey = (&'static str, RawKey, RawKey);

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    pub(super) table: &'static str,
    pub(super) tenant: RawKey,
    pub(super) id: RawKey,
    /// Why the row cannot be read. Contains only names of fields, and no stored values.
    pub(super) reason: String,
}

/// The known damaged rows. Clones refer to the same rows.
#[derive(Clone, Debug, Default)]
pub(super) struct DamagedRows(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    known: BTreeSet<RowKey>,
    logged: BTreeSet<RowKey>,
}

impl DamagedRow {
    pub(super) fn new(table: &'static str, tenant: &str, id: &str, reason: impl Into<String>) -> Self {
        Self {
            table,
            tenant: Some(tenant.into()),
            id: Some(id.into()),
            reason: reason.into(),
        }
    }

    fn key(&self) -> RowKey {
        (self.table, self.tenant.clone(), self.id.clone())
    }
}

/// Shows the table, the tenant, the id and the reason.
impl fmt::Display for DamagedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenant, id) = (shown(&self.tenant), shown(&self.id));
        write!(f, "table {}, tenant {tenant}, id {id}: {}", self.table, self.reason)
    }
}

impl DamagedRows {
    /// Counts a damaged row. Logs it the first time.
    pub(super) fn note(&self, row: &DamagedRow) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.known.insert(row.key());
        rows.log(row);
    }

    /// Replaces the known rows with the result of a scan of the whole store.
    pub(super) fn replace(&self, found: &[DamagedRow]) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.known = found.iter().map(DamagedRow::key).collect();
        found.iter().for_each(|row| rows.log(row));
    }

    /// Returns the number of known damaged rows.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.len()
    }
}

impl Rows {
    fn log(&mut self, row: &DamagedRow) {
        if self.logged.len() >= MAX_LOGGED || !self.logged.insert(row.key()) {
            return;
        }
        tracing::error!(
            table = row.table,
            tenant = %shown(&row.tenant),
            id = %shown(&row.id),
            reason = row.reason,
            "damaged row in the store ignored; stop the gateway and run leadgate store repair to move the row away"
        );
        if self.logged.len() == MAX_LOGGED {
            tracing::error!("further damaged rows are not logged; the metric leadgate_store_damaged_rows counts them");
        }
    }
}

/// Returns a key for logs. Replaces keys with unexpected characters, since a damaged key can contain any data.
fn shown(key: &RawKey) -> String {
    let is_plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'/');
    match key {
        Some(bytes) if !bytes.is_empty() && bytes.len() <= 80 && bytes.iter().all(is_plain) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => "(unreadable)".to_owned(),
    }
}

/// Reads JSON. The error contains the path of the invalid value, and not the value.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let problem = match error.inner().classify() {
            serde_json::error::Category::Data => "has an unexpected value",
            _ => "is not JSON",
        };
        format!("the content {problem} at {}", shortened(&path, 160))
    })?;
    json.end()
        .map_err(|_| "the content has more than one JSON value".to_owned())?;
    Ok(read)
}

/// Writes JSON. Fails if the JSON would be read as a different value.
pub(super) fn to_json<T: Serialize + DeserializeOwned>(value: &T) -> Result<String, String> {
    let text = serde_json::to_string(value).map_err(|_| "a value cannot be written as JSON".to_owned())?;
    let read: T = from_json(&text)?;
    // The texts are compared, since some values are not equal to themselves.
    match serde_json::to_string(&read) {
        Ok(again) if again == text => Ok(text),
        _ => Err("a value would change when it is read again".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_row_is_counted_once_and_its_text_has_no_stored_values() {
        let rows = DamagedRows::default();
        for id in ["7", "7", "8", "a@x.co +91 98450"] {
            rows.note(&DamagedRow::new("share", "acme", id, "the content is not JSON at ."));
        }
        assert_eq!(rows.count(), 3);
        let row = DamagedRow::new("share", "acme", "a@x.co", "r");
        assert_eq!(row.to_string(), "table share, tenant acme, id (unreadable): r");
        rows.replace(&[row]);
        assert_eq!(rows.count(), 1);
        rows.replace(&[]);
        assert_eq!(rows.count(), 0);
    }

    #[test]
    fn an_error_of_invalid_json_has_the_path_and_not_the_value() {
        let error = from_json::<std::collections::BTreeMap<String, f64>>(r#"{"Score":"+91 98450"}"#).unwrap_err();
        assert_eq!(error, "the content has an unexpected value at Score");
        let error = from_json::<f64>("1 2").unwrap_err();
        assert_eq!(error, "the content has more than one JSON value");
        assert!(from_json::<f64>("nonsense").unwrap_err().contains("is not JSON"));
    }

    #[test]
    fn a_value_that_would_change_when_read_again_is_not_written() {
        assert!(to_json(&f64::NAN).is_err());
        assert!(to_json(&vec![1.0, f64::INFINITY]).is_err());
        assert_eq!(to_json(&0.1).as_deref(), Ok("0.1"));
    }
}
