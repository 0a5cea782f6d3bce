//! Deletes and merges of leads, executed once. Neither can be undone, and a second execution changes nothing.

use std::sync::Arc;

use super::fields::{FieldCheck, visible_error};
use super::lookup::is_missing;
use super::{Gateway, WriteEntry, or_invalid};
use crate::audit::AuditSubject;
use crate::context::{RequestContext, RequestId};
use crate::crm::lead::GetLeadById;
use crate::crm::lost::{LostWrite, NextLookup};
use crate::crm::removal::{DeleteLead, MergeLeads};
use crate::crm::retry::{ReconcilableWrite, Reconciled};
use crate::domain::lead::{WriteResult, check_id, order_key};
use crate::error::{Error, ErrorKind, Recovery, Resource, Result, Violation};
use crate::store::PriorAttempt;

/// A request that removes a lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The lead is deleted.
    Delete {
        /// The lead.
        lead_id: String,
    },
    /// One lead is merged into another.
    Merge {
        /// The lead that remains.
        lead_id: String,
        /// The lead that is removed.
        merged_lead_id: String,
    },
}

/// The text of the violation of a merge by a caller with `deny_fields`.
const MERGE_WRITES: &str = "the caller may not merge leads: LeadSquared may copy any attribute of the merged lead, also those that \
    the caller may not write (deny_fields)";

/// What a look-up proves of a removal whose response was lost.
enum RemovalState {
    Executed,
    NotExecuted,
    Unknown,
}

/// A removal in progress.
struct RemovalWrite<'a> {
    gateway: &'a Gateway,
    removal: &'a Removal,
}

impl Removal {
    /// The violations that are found before anything is sent.
    fn check(&self) -> Vec<Violation> {
        match self {
            Self::Delete { lead_id } => check_id("lead_id", lead_id).into_iter().collect(),
            Self::Merge {
                lead_id,
                merged_lead_id,
            } => {
                let ids = [("lead_id", lead_id), ("merged_lead_id", merged_lead_id)];
                let mut violations: Vec<_> = ids.iter().filter_map(|(field, id)| check_id(field, id)).collect();
                if violations.is_empty() && lead_id.eq_ignore_ascii_case(merged_lead_id) {
                    let text = "must not be the same lead as lead_id";
                    violations.push(Violation::new("merged_lead_id", text));
                }
                violations
            }
        }
    }

    /// The keys of the leads that it changes, in the form of [`crate::domain::lead::WriteRequest::order_keys`].
    fn order_keys(&self) -> Vec<String> {
        match self {
            Self::Delete { lead_id } => vec![order_key("lead", lead_id)],
            Self::Merge {
                lead_id,
                merged_lead_id,
            } => vec![order_key("lead", lead_id), order_key("lead", merged_lead_id)],
        }
    }

    /// The lead that is removed.
    fn removed_lead(&self) -> &str {
        match self {
            Self::Delete { lead_id } => lead_id,
            Self::Merge { merged_lead_id, .. } => merged_lead_id,
        }
    }
}

impl Gateway {
    /// Reserves the position of a removal.
    pub fn enter_removal(&self, removal: &Removal, request: Option<RequestId>) -> WriteEntry {
        self.enter(&self.requests, removal.order_keys(), request)
    }

    /// Deletes or merges leads, once per request id, at the position of `entry`. `violations` are those that were found when
    /// the message was read.
    pub async fn remove_lead(
        self: &Arc<Self>,
        context: &RequestContext,
        removal: Removal,
        entry: WriteEntry,
        violations: Vec<Violation>,
    ) -> Result<()> {
        let subject = AuditSubject {
            lead_id: Some(removal.removed_lead().to_owned()),
            ..AuditSubject::default()
        };
        let remove = |context| async move { self.remove_once(&context, removal, entry, violations).await };
        context.audited(subject, remove).await
    }

    async fn remove_once(
        self: &Arc<Self>,
        context: &RequestContext,
        removal: Removal,
        entry: WriteEntry,
        mut violations: Vec<Violation>,
    ) -> Result<()> {
        let mut check = FieldCheck::new(context);
        let writes_no_attribute = matches!(removal, Removal::Delete { .. });
        let is_allowed = writes_no_attribute || context.permissions.deny_fields.is_empty();
        check.require(is_allowed, "merged_lead_id", MERGE_WRITES);
        check.finish()?;
        violations.extend(removal.check());
        or_invalid(violations)?;
        let (gateway, write_context) = (self.clone(), entry.placed(context));
        let WriteEntry { reservation, request } = entry;
        let has_id = request.is_some();
        let work = move |before| async move {
            let result = gateway.perform_removal(write_context, &removal, before).await;
            // Other leads may have changed, too.
            gateway.reads.invalidate(None);
            drop(reservation);
            result
        };
        let removed = self.requests.once(context, request, work).await;
        removed
            .map(drop)
            .map_err(|error| visible_error(context, &[], error))
            .map_err(|error| self.final_error(context, error, has_id, Recovery::Lead))
    }

    async fn perform_removal(
        &self,
        context: RequestContext,
        removal: &Removal,
        before: PriorAttempt,
    ) -> Result<WriteResult> {
        let mut write = RemovalWrite { gateway: self, removal };
        let lost = self.begun_before(before);
        self.crm.send_until_known(context, lost, &mut write).await
    }
}

impl ReconcilableWrite for RemovalWrite<'_> {
    type Output = WriteResult;

    async fn send(&mut self, context: &RequestContext) -> Result<WriteResult> {
        let crm = &self.gateway.crm;
        match self.removal {
            Removal::Delete { lead_id } => crm.call(context, &DeleteLead(lead_id)).await?,
            Removal::Merge {
                lead_id,
                merged_lead_id,
            } => {
                let operation = MergeLeads {
                    master: lead_id,
                    child: merged_lead_id,
                };
                crm.call(context, &operation).await?;
            }
        }
        Ok(self.executed())
    }

    async fn reconcile(
        &mut self,
        context: &RequestContext,
        lost: LostWrite,
        _unknown: &Error,
    ) -> Result<Reconciled<WriteResult>> {
        let mut lookups = lost.lookups();
        loop {
            let state = self.look_up(context).await?;
            if matches!(state, RemovalState::Executed) {
                return Ok(self.reconciled(state, lost));
            }
            match lookups.next(context).await {
                NextLookup::Due => {}
                NextLookup::Concluded => return Ok(self.reconciled(state, lost)),
                NextLookup::DeadlineExceeded => return Ok(self.reconciled(RemovalState::Unknown, lost)),
            }
        }
    }

    /// A lead that does not exist may have been removed by the lost request.
    fn may_be_own_effect(&self, error: &Error) -> bool {
        is_missing(error)
    }

    async fn reconcile_own_effect(
        &mut self,
        context: &RequestContext,
        lost: LostWrite,
        _resent: LostWrite,
    ) -> Result<Reconciled<WriteResult>> {
        let state = self.look_up(context).await?;
        Ok(self.reconciled(state, lost))
    }
}

impl RemovalWrite<'_> {
    fn executed(&self) -> WriteResult {
        WriteResult {
            lead_id: self.removal.removed_lead().to_owned(),
            ..WriteResult::default()
        }
    }

    fn reconciled(&self, state: RemovalState, lost: LostWrite) -> Reconciled<WriteResult> {
        match state {
            RemovalState::Executed => Reconciled::Executed(self.executed()),
            RemovalState::NotExecuted => Reconciled::NotExecuted,
            RemovalState::Unknown => Reconciled::Unknown {
                recovery: Some(lost.recovery()),
            },
        }
    }

    /// Looks up whether the lead was removed. After a merge the other lead must exist. If the other lead does
    /// not exist, the merge was not executed.
    async fn look_up(&self, context: &RequestContext) -> Result<RemovalState> {
        let removed = self.exists(context, self.removal.removed_lead()).await;
        Ok(match (removed, self.removal) {
            (None, _) => RemovalState::Unknown,
            (Some(true), _) => RemovalState::NotExecuted,
            (Some(false), Removal::Delete { .. }) => RemovalState::Executed,
            (Some(false), Removal::Merge { lead_id, .. }) => match self.exists(context, lead_id).await {
                None => RemovalState::Unknown,
                Some(true) => RemovalState::Executed,
                Some(false) => return Err(ErrorKind::NotFound(Resource::Lead).into()),
            },
        })
    }

    /// Whether the lead exists. `None`: the look-up failed.
    async fn exists(&self, context: &RequestContext, lead_id: &str) -> Option<bool> {
        match self.gateway.crm.call(context, &GetLeadById::new(lead_id)).await {
            Ok(_) => Some(true),
            Err(error) if is_missing(&error) => Some(false),
            Err(error) => {
                tracing::warn!(
                    request_id = %context.id,
                    mutation_id = context.mutation.map(tracing::field::display),
                    trace_id = context.trace.id().map(tracing::field::display),
                    error = error.name(),
                    "looking up a deletion or merge of unknown outcome failed"
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(removal: &Removal) -> Vec<String> {
        removal.check().into_iter().map(|violation| violation.field).collect()
    }

    fn merge(lead_id: &str, merged_lead_id: &str) -> Removal {
        Removal::Merge {
            lead_id: lead_id.to_owned(),
            merged_lead_id: merged_lead_id.to_owned(),
        }
    }

    #[test]
    fn all_violations_are_returned_at_once() {
        let lead_id = String::new();
        assert_eq!(violations(&Removal::Delete { lead_id }), ["lead_id"]);
        assert_eq!(violations(&merge("", "not an id")), ["lead_id", "merged_lead_id"]);
        assert_eq!(violations(&merge("a-1", "A-1")), ["merged_lead_id"]);
        assert!(violations(&merge("a-1", "a-2")).is_empty());
    }
}
