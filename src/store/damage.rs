//! Damaged rows: rows of the store that cannot be read. Each is logged once and counted, and fails nothing but a request for
//! that row itself.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::shortened;

/// Maximum number of damaged rows that are logged one by one.
const MAX_LOGGED: usize = 100;

/// The key of a row as it is stored, which may be damaged itself.
type RawKey = Option<Vec<u8>>;
/// The table, the tenant and the id.
type Key = (&'static str, RawKey, RawKey);

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    pub(super) table: &'static str,
    pub(super) tenant: RawKey,
    pub(super) id: RawKey,
    /// Why it cannot be read. Holds nothing of the row's content but names of fields.
    pub(super) reason: String,
}

/// The damaged rows that are known. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct DamagedRows(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    known: BTreeSet<Key>,
    logged: BTreeSet<Key>,
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

    fn key(&self) -> Key {
        (self.table, self.tenant.clone(), self.id.clone())
    }
}

/// The table, the tenant, the id and the reason.
impl fmt::Display for DamagedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenant, id) = (shown(&self.tenant), shown(&self.id));
        write!(f, "table {}, tenant {tenant}, id {id}: {}", self.table, self.reason)
    }
}

impl DamagedRows {
    /// Counts a damaged row, and logs it the first time.
    pub(super) fn note(&self, row: &DamagedRow) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.known.insert(row.key());
        rows.log(row);
    }

    /// Takes the result of a scan of the whole store.
    pub(super) fn replace(&self, found: &[DamagedRow]) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.known = found.iter().map(DamagedRow::key).collect();
        found.iter().for_each(|row| rows.log(row));
    }

    /// How many damaged rows are known.
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
            "a damaged row of the store is ignored; leadgate store repair moves it away while the gateway is stopped"
        );
        if self.logged.len() == MAX_LOGGED {
            tracing::error!("further damaged rows are counted (leadgate_store_damaged_rows) and not logged");
        }
    }
}

/// A key as it may be shown: a damaged one may hold anything.
fn shown(key: &RawKey) -> String {
    let is_plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'/');
    match key {
        Some(bytes) if !bytes.is_empty() && bytes.len() <= 80 && bytes.iter().all(is_plain) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => "(unreadable)".to_owned(),
    }
}

/// Reads JSON. The error names the place and not the content.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let what = match error.inner().classify() {
            serde_json::error::Category::Data => "has an unexpected value",
            _ => "is not JSON",
        };
        format!("the content {what} at {}", shortened(&path, 160))
    })?;
    json.end()
        .map_err(|_| "the content has more than one JSON value".to_owned())?;
    Ok(read)
}

/// Writes JSON that is known to be read back as the same `T`.
pub(super) fn to_json<T: Serialize + DeserializeOwned>(value: &T) -> Result<String, String> {
    let text = serde_json::to_string(value).map_err(|_| "a value has no form in JSON".to_owned())?;
    let read: T = from_json(&text)?;
    // Compared as text, since not every value is equal to itself.
    match serde_json::to_string(&read) {
        Ok(again) if again == text => Ok(text),
        _ => Err("a value would be read back as another one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_row_is_counted_once_and_shows_no_content() {
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
    fn an_unreadable_content_is_described_by_its_place_alone() {
        let fault = from_json::<std::collections::BTreeMap<String, f64>>(r#"{"Score":"+91 98450"}"#).unwrap_err();
        assert_eq!(fault, "the content has an unexpected value at Score");
        let fault = from_json::<f64>("1 2").unwrap_err();
        assert_eq!(fault, "the content has more than one JSON value");
        assert!(from_json::<f64>("nonsense").unwrap_err().contains("is not JSON"));
    }

    #[test]
    fn what_would_not_be_read_back_is_not_written() {
        assert!(to_json(&f64::NAN).is_err());
        assert!(to_json(&vec![1.0, f64::INFINITY]).is_err());
        assert_eq!(to_json(&0.1).as_deref(), Ok("0.1"));
    }
}
