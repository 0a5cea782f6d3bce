//! The mutations that an earlier owner of the tenant has started and may still execute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Gateway;
use crate::quota::{Reservation, WriteKey};
use crate::store::{Store, StoreError, UnfinishedRequest};

/// The interval in which the mutations are read that have no result yet.
const INTERVAL: Duration = Duration::from_millis(500);

impl Gateway {
    /// Holds the keys of the mutations that an earlier owner may still execute: no write with one of these keys is sent before their
    /// results are known, or their calls have ended. Until then, no response to a read is shared or cached. To be called before the
    /// first write. Returns the number of these mutations.
    pub async fn hold_earlier_mutations(&self, tenant: &str, store: &Store) -> Result<usize, StoreError> {
        let Some(end) = self.lease.earlier_calls_end(self.crm.timeout()) else {
            return Ok(0);
        };
        let unfinished = store.unfinished_requests(tenant).await?;
        // The calls of a mutation without keys have ended, or are not known.
        let is_held = |request: &UnfinishedRequest| request.is_of_other_epoch && !request.keys.is_empty();
        let earlier = unfinished.into_iter().filter(is_held);
        let held: BTreeMap<Uuid, Reservation> = earlier
            .map(|request| {
                let keys = request.keys.into_iter().map(WriteKey::from_stored).collect();
                (request.id, self.quota.reserve(keys))
            })
            .collect();
        let count = held.len();
        if count > 0 {
            self.reads.suspend(true);
            let reads = self.reads.clone();
            let (tenant, store, stop) = (tenant.to_owned(), store.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = release(&tenant, &store, held, end) => reads.suspend(false),
                    () = stop.cancelled() => {}
                }
            });
        }
        Ok(count)
    }
}

/// Releases the keys of each mutation when its result is known, and all keys at `end`.
async fn release(tenant: &str, store: &Store, mut held: BTreeMap<Uuid, Reservation>, end: Instant) {
    while !held.is_empty() && Instant::now() < end {
        tokio::time::sleep_until(end.min(Instant::now() + INTERVAL)).await;
        // Without the database, all of them are held until the end.
        if let Ok(unfinished) = store.unfinished_requests(tenant).await {
            let unfinished: BTreeSet<Uuid> = unfinished.into_iter().map(|request| request.id).collect();
            held.retain(|id, _| unfinished.contains(id));
        }
    }
    if !held.is_empty()
        && let Err(error) = store.release_keys(tenant, None).await
    {
        // The next owner holds them again.
        tracing::debug!(%error, "releasing the keys of earlier mutations failed");
    }
}
