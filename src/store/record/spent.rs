//! The stored form of the slots that are held at an orderly end. What an account has spent besides them is stored in columns.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Version1;
use crate::domain::spent as domain;

/// The held slots of both limits.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct HeldSlots {
    #[serde(default, skip_serializing)]
    version: Version1,
    calls: Held,
    bulk: Held,
}

/// The held slots of one limit.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    window: Duration,
    free_at: Vec<Timestamp>,
}

impl From<domain::HeldSlots> for HeldSlots {
    fn from(slots: domain::HeldSlots) -> Self {
        let domain::HeldSlots { calls, bulk } = slots;
        Self {
            version: Version1,
            calls: calls.into(),
            bulk: bulk.into(),
        }
    }
}

impl From<HeldSlots> for domain::HeldSlots {
    fn from(record: HeldSlots) -> Self {
        let HeldSlots {
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

impl From<domain::Held> for Held {
    fn from(held: domain::Held) -> Self {
        let domain::Held { window, free_at } = held;
        Self { window, free_at }
    }
}

impl From<Held> for domain::Held {
    fn from(record: Held) -> Self {
        let Held { window, free_at } = record;
        Self { window, free_at }
    }
}
