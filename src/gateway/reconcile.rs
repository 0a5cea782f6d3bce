//! What a look-up of the lead proves of a write whose response was lost. Without a proof the outcome stays unknown.

use jiff::Timestamp;

use super::Gateway;
use super::lookup::{id_of, is_missing};
use crate::context::RequestContext;
use crate::crm::lost::{LostWrite, NextLookup};
use crate::domain::lead::{LeadKey, RawFields, WriteAction, WriteRequest, WriteResult};
use crate::domain::mask::ReadMask;
use crate::domain::time;
use crate::error::{ErrorKind, Resource, Result};

/// What a look-up of the lead proves of a lost write.
pub(super) enum LookupResult {
    /// The write was executed, with this result.
    Executed(WriteResult),
    /// The write was not executed, or may be executed twice.
    NotExecuted,
    /// The lead does not have the values of the write, but may have been changed since.
    Mismatch,
    /// Nothing, and a later look-up would prove no more.
    Inconclusive,
    /// Nothing, because the look-up failed or the deadline passed before it was conclusive. A later look-up may prove more.
    Failed,
}

impl LookupResult {
    /// Whether the outcome can still be learned by a later look-up.
    pub(super) fn may_change(&self) -> bool {
        match self {
            Self::NotExecuted | Self::Failed => true,
            Self::Executed(_) | Self::Mismatch | Self::Inconclusive => false,
        }
    }
}

impl Gateway {
    /// Looks a lost write up until it is found, or until a look-up that does not find it is conclusive.
    pub(super) async fn look_up_write(
        &self,
        context: &RequestContext,
        write: &WriteRequest,
        lost: LostWrite,
    ) -> Result<LookupResult> {
        let has_keys = !write.lookup_keys().is_empty();
        let mut lookups = lost.lookups();
        loop {
            let result = self.look_up_once(context, write, lost.since()).await;
            let is_found = match &result {
                Ok(LookupResult::Executed(_)) => true,
                Ok(
                    LookupResult::NotExecuted
                    | LookupResult::Mismatch
                    | LookupResult::Inconclusive
                    | LookupResult::Failed,
                ) => !has_keys,
                Err(error) => !is_missing(error),
            };
            if is_found {
                return result;
            }
            match lookups.next(context).await {
                NextLookup::Due => {}
                NextLookup::Concluded => return result,
                NextLookup::DeadlineExceeded => return Ok(LookupResult::Failed),
            }
        }
    }

    async fn look_up_once(
        &self,
        context: &RequestContext,
        write: &WriteRequest,
        since: Timestamp,
    ) -> Result<LookupResult> {
        let keys = write.lookup_keys();
        // With the catalog, look-ups by id can share one call.
        let catalog = self.metadata.get_if_available(context).await;
        for key in &keys {
            match self.find(context, key, &ReadMask::default(), catalog.as_deref()).await {
                Ok(row) => return self.compare(write, key, &row, since),
                Err(error) if is_missing(&error) => {}
                // The next owner looks it up.
                Err(_) if self.lease.ended().is_cancelled() => return Err(ErrorKind::Moved { sent: true }.into()),
                Err(error) => {
                    tracing::warn!(
                        request_id = %context.id,
                        mutation_id = context.mutation.map(tracing::field::display),
                        trace_id = context.trace.id().map(tracing::field::display),
                        error = error.name(),
                        "looking up a write of unknown outcome failed"
                    );
                    return Ok(LookupResult::Failed);
                }
            }
        }
        // The first request may still be executed. A second one is safe only if LeadSquared rejects it, or if it changes
        // nothing.
        let is_unique = self
            .settings
            .unique
            .iter()
            .any(|name| write.attributes.text(name).is_some());
        match write.action {
            WriteAction::Update { .. } => Err(ErrorKind::NotFound(Resource::Lead).into()),
            WriteAction::Create if is_unique && !keys.is_empty() => Ok(LookupResult::NotExecuted),
            // A second upsert updates the lead of the first one.
            WriteAction::Upsert { run_automations, .. } if is_unique && !run_automations && !keys.is_empty() => {
                Ok(LookupResult::NotExecuted)
            }
            // Each capture adds an activity.
            WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
                Ok(LookupResult::Inconclusive)
            }
        }
    }

    /// Compares a write with the lead that was found by that key.
    fn compare(&self, write: &WriteRequest, key: &LeadKey, row: &RawFields, since: Timestamp) -> Result<LookupResult> {
        let lead_id = id_of(row).unwrap_or_default().to_owned();
        let has_values = write.is_seen_in(row);
        // Whether the time in the column is after the write was sent. `None`: the times cannot be compared.
        let is_after = |column: &str| {
            let at = row.get(column).and_then(Option::as_deref).and_then(time::read);
            at.and_then(|at| self.crm.clock().is_since(at, since))
        };
        let executed = |created| {
            LookupResult::Executed(WriteResult {
                lead_id: lead_id.clone(),
                affected_rows: 1,
                created,
            })
        };
        Ok(match write.action {
            WriteAction::Create => match (is_after("CreatedOn"), has_values) {
                (Some(true) | None, Some(true)) => executed(Some(true)),
                // The lead existed before: the create was rejected, and would be rejected again.
                (Some(false), _) => {
                    return Err(ErrorKind::Duplicate {
                        attribute: key.attribute().map(str::to_owned),
                        lead_id: Some(lead_id),
                    }
                    .into());
                }
                _ => LookupResult::Inconclusive,
            },
            WriteAction::Capture { .. } => match (is_after("CreatedOn"), has_values) {
                (Some(true), Some(true)) => executed(Some(true)),
                _ => LookupResult::Inconclusive,
            },
            WriteAction::Update { .. } | WriteAction::Upsert { .. } => {
                let created = matches!(write.action, WriteAction::Update { .. }).then_some(false);
                match (has_values, is_after("ModifiedOn"), write.runs_automations()) {
                    (Some(true), _, false) | (Some(true), Some(true), true) => executed(created),
                    // The lead was not changed since, so the write can be sent again. With automations it cannot, because
                    // the first request may still be executed.
                    (Some(false), Some(false), false) => LookupResult::NotExecuted,
                    (Some(false), Some(true) | None, false) => LookupResult::Mismatch,
                    _ => LookupResult::Inconclusive,
                }
            }
        })
    }
}
