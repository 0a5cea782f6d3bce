//! The stored form of the slots that are held at a graceful shutdown. The rest of the quota usage is stored in columns.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Version1;
use crate::domain::usage as domain;

/// The held slots of both limits.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct HeldSlotsRecord {
    #[serde(default, skip_serializing)]
    version: Version1,
    calls: HeldSlotsOfLimitRecord,
    bulk: HeldSlotsOfLimitRecord,
}

/// The held slots of one limit.
#[derive(Debug, Serialize, Deserialize)]
struct HeldSlotsOfLimitRecord {
    window: Duration,
    free_at: Vec<Timestamp>,
}

impl From<domain::HeldSlots> for HeldSlotsRecord {
    fn from(slots: domain::HeldSlots) -> Self {
        let domain::HeldSlots { calls, bulk } = slots;
        Self {
            version: Version1,
            calls: calls.into(),
            bulk: bulk.into(),
        }
    }
}

impl From<HeldSlotsRecord> for domain::HeldSlots {
    fn from(record: HeldSlotsRecord) -> Self {
        let HeldSlotsRecord {
            version: Version1,
            calls,
            bulk,
        } = record;
        Self {
            calls: calls.into(),
            bulk: bulk.into(),
        }
    }
}

impl From<domain::HeldSlotsOfLimit> for HeldSlotsOfLimitRecord {
    fn from(held: domain::HeldSlotsOfLimit) -> Self {
        let domain::HeldSlotsOfLimit { window, free_at } = held;
        Self { window, free_at }
    }
}

impl From<HeldSlotsOfLimitRecord> for domain::HeldSlotsOfLimit {
    fn from(record: HeldSlotsOfLimitRecord) -> Self {
        let HeldSlotsOfLimitRecord { window, free_at } = record;
        Self { window, free_at }
    }
}
