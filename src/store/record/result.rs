//! The stored form of the result of a mutation. It is stored with the request id of the mutation.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error;
use crate::domain::lead::WriteResult;
use crate::error::Error;
use crate::store::damage;

/// The value that a successful mutation returns. It is stored with the request id.
pub trait StoredResult: Clone + Send + Sync + 'static {
    /// The stored form of the value.
    type Record: From<Self> + Into<Self> + Serialize + DeserializeOwned;

    /// The lead that was written, if the value names it.
    fn lead_id(&self) -> Option<&str> {
        None
    }

    /// The share that was written, if the value names it.
    fn share_id(&self) -> Option<Uuid> {
        None
    }
}

impl StoredResult for WriteResult {
    type Record = LeadWriteRecord;

    fn lead_id(&self) -> Option<&str> {
        Some(&self.lead_id)
    }
}

/// The result of a post of an activity: its id.
impl StoredResult for String {
    type Record = Self;
}

/// The result of a share: its id.
impl StoredResult for Uuid {
    type Record = Self;

    fn share_id(&self) -> Option<Uuid> {
        Some(*self)
    }
}

#[cfg(test)]
impl StoredResult for u32 {
    type Record = Self;
}

/// The stored form of the result of a mutation.
#[derive(Serialize, Deserialize)]
enum ResultRecord<T> {
    #[serde(rename = "Done")]
    Executed(T),
    #[serde(rename = "Refused")]
    Rejected(error::ErrorRecord),
}

/// The stored form of the result of a write to a lead.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeadWriteRecord {
    lead_id: String,
    affected_rows: i32,
    created: Option<bool>,
}

/// Writes the result of a mutation as JSON.
pub(in crate::store) fn write<T: StoredResult>(result: Result<T, Error>) -> Result<String, String> {
    damage::to_json(&match result {
        Ok(value) => ResultRecord::Executed(T::Record::from(value)),
        Err(error) => ResultRecord::Rejected(error.into()),
    })
}

/// Reads the result of a mutation. The outer error contains the path of an unreadable value, and not the value.
pub(in crate::store) fn read<T: StoredResult>(text: &str) -> Result<Result<T, Error>, String> {
    Ok(match damage::from_json::<ResultRecord<T::Record>>(text)? {
        ResultRecord::Executed(value) => Ok(value.into()),
        ResultRecord::Rejected(error) => Err(error.into()),
    })
}

impl From<WriteResult> for LeadWriteRecord {
    fn from(written: WriteResult) -> Self {
        let WriteResult {
            lead_id,
            affected_rows,
            created,
        } = written;
        Self {
            lead_id,
            affected_rows,
            created,
        }
    }
}

impl From<LeadWriteRecord> for WriteResult {
    fn from(record: LeadWriteRecord) -> Self {
        let LeadWriteRecord {
            lead_id,
            affected_rows,
            created,
        } = record;
        Self {
            lead_id,
            affected_rows,
            created,
        }
    }
}
