//! Tests of the store. `conformance` runs on every backend. `postgres`, `lease`, `outage` and `tls` test PostgreSQL, the other
//! modules SQLite.

#[allow(
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub,
    reason = "the tests of the gateway use all of it"
)]
#[path = "../../../tests/it/certificates.rs"]
mod certificates;

mod backup;
mod conformance;
mod damaged;
mod file;
mod lease;
mod outage;
mod owners;
mod postgres;
mod query;
mod round_trip;
#[path = "../../../tests/postgres/mod.rs"]
mod server;
mod tls;

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::sqlite::Sqlite;
use super::{RequestMark, Store};
use crate::context::RequestId;
use crate::domain::share::{Access, Share, ShareContext, ShareFilter, SharedEntity};
use crate::domain::usage::{HeldSlots, HeldSlotsOfLimit, QuotaUsage};

/// Longer than any record of these tests is old.
const KEEP: Duration = Duration::from_secs(24 * 3600);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn request(id: u128) -> RequestId {
    RequestId {
        id: Uuid::from_u128(id),
        fingerprint: [7; 32],
        is_internal: false,
    }
}

fn mark(id: u128) -> RequestMark {
    RequestMark::new(request(id))
}

async fn in_memory() -> Store {
    Store::open("sqlite::memory:").await.unwrap()
}

/// The backend of a SQLite store.
fn sqlite_of(store: &Store) -> &Sqlite {
    match store {
        Store::Sqlite(sqlite) => sqlite,
        Store::Postgres(_) => panic!("not a SQLite store"),
    }
}

/// A share of a lead through its own activity.
fn share(id: u128, user: &str, lead: &str) -> Share {
    let entity = SharedEntity::Lead {
        id: lead.to_owned(),
        number: format!("{id}"),
        context: ShareContext::Existing {
            id: format!("activity-{id}"),
        },
    };
    Share::new(Uuid::from_u128(id), entity, user.to_owned(), Access::Write, 30, at(1))
}

/// The ids of the shares that a filter selects, in their order.
async fn ids(store: &Store, filter: ShareFilter) -> Vec<u128> {
    let filter = ShareFilter { limit: 10, ..filter };
    let found = store.shares("acme", &filter).await.unwrap();
    found.iter().map(|share| share.id.as_u128()).collect()
}

fn usage(slots: Option<HeldSlots>) -> QuotaUsage {
    QuotaUsage {
        day: "2026-07-31".to_owned(),
        calls: 3,
        last_grant: at(300),
        slots,
    }
}

fn slots() -> HeldSlots {
    let held = |free_at: &[Timestamp]| HeldSlotsOfLimit {
        window: Duration::from_secs(5),
        free_at: free_at.to_vec(),
    };
    HeldSlots {
        calls: held(&[at(301), Timestamp::MAX]),
        bulk: held(&[]),
    }
}
