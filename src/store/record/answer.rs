//! The stored form of the answers of request ids: the result of a mutation that has ended.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error;
use crate::domain::lead::WriteResult;
use crate::error::Error;
use crate::store::damage;

/// The answer of a mutation, which is stored under its request id.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Its stored form.
    type Record: From<Self> + Into<Self> + Serialize + DeserializeOwned;
}

impl Answer for WriteResult {
    type Record = LeadWrite;
}

/// The id of an activity.
impl Answer for String {
    type Record = Self;
}

/// The id of a share.
impl Answer for Uuid {
    type Record = Self;
}

#[cfg(test)]
impl Answer for u32 {
    type Record = Self;
}

/// The result of a mutation.
#[derive(Serialize, Deserialize)]
enum Outcome<A> {
    #[serde(rename = "Done")]
    Executed(A),
    #[serde(rename = "Refused")]
    Rejected(error::ErrorRecord),
}

/// The answer of a write to a lead.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeadWrite {
    lead_id: String,
    affected_rows: i32,
    created: Option<bool>,
}

/// Writes the result of a mutation.
pub(in crate::store) fn write<T: Answer>(result: Result<T, Error>) -> Result<String, String> {
    damage::to_json(&match result {
        Ok(answer) => Outcome::Executed(T::Record::from(answer)),
        Err(error) => Outcome::Rejected(error.into()),
    })
}

/// Reads the result of a mutation. The outer error names the place that cannot be read and not the content.
pub(in crate::store) fn read<T: Answer>(text: &str) -> Result<Result<T, Error>, String> {
    Ok(match damage::from_json::<Outcome<T::Record>>(text)? {
        Outcome::Executed(answer) => Ok(answer.into()),
        Outcome::Rejected(error) => Err(error.into()),
    })
}

impl From<WriteResult> for LeadWrite {
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

impl From<LeadWrite> for WriteResult {
    fn from(record: LeadWrite) -> Self {
        let LeadWrite {
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
