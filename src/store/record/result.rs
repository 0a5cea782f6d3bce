//! The stored form of the result of a mutation. It is stored with the request id of the mutation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error;
use crate::domain::lead::WriteResult;
use crate::domain::rest::{RestResponse, RestResult};
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

impl StoredResult for RestResult {
    type Record = RestRecord;
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

/// Maximum length of a response that is kept.
const MAX_KEPT: usize = 256 * 1024;

/// The stored form of the result of a call that is passed on. Bytes are in base64.
#[derive(Debug, Serialize, Deserialize)]
pub struct RestRecord {
    /// `None`: the response is too long to be kept.
    response: Option<RestResponseRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RestResponseRecord {
    status: u16,
    content_type: Option<String>,
    content_disposition: Option<String>,
    allow: Option<String>,
    body: String,
}

impl From<RestResult> for RestRecord {
    fn from(result: RestResult) -> Self {
        let text = |value: Option<Vec<u8>>| value.map(|value| STANDARD.encode(value));
        let kept = result.0.filter(|response| response.body.len() <= MAX_KEPT);
        Self {
            response: kept.map(|response| RestResponseRecord {
                status: response.status,
                content_type: text(response.content_type),
                content_disposition: text(response.content_disposition),
                allow: text(response.allow),
                body: STANDARD.encode(response.body),
            }),
        }
    }
}

impl From<RestRecord> for RestResult {
    fn from(record: RestRecord) -> Self {
        let bytes = |text: String| STANDARD.decode(text).unwrap_or_default();
        Self(record.response.map(|response| RestResponse {
            status: response.status,
            content_type: response.content_type.map(bytes),
            content_disposition: response.content_disposition.map(bytes),
            allow: response.allow.map(bytes),
            body: bytes(response.body).into(),
        }))
    }
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
