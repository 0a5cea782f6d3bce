//! Writes of leads: from the request message to the result. Used by the single writes, the batches and the import.

use std::sync::Arc;

use uuid::Uuid;

use super::mutation::{self, Mutation};
use super::rpc::Rpc;
use super::violations::Violations;
use super::{convert, pb};
use crate::context::{RequestContext, RequestId};
use crate::domain::lead::{CaptureBehavior, WriteAction, WriteRequest, WriteResult, schema_name};
use crate::error::{Result, Violation};
use crate::gateway::{Gateway, WriteEntry, WriteMode};

/// A request message that writes one lead.
pub(super) trait WriteMessage: Mutation {
    /// Whether the message is only checked.
    fn validate_only(&self) -> bool;
    /// Converts the message.
    fn into_write(self) -> WriteRequest;
}

impl WriteMessage for pb::CreateLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> WriteRequest {
        let Self {
            lead,
            request_id: _,
            validate_only: _,
        } = self;
        convert::write(WriteAction::Create, lead)
    }
}

impl WriteMessage for pb::UpdateLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> WriteRequest {
        let Self {
            lead_id,
            lead,
            clear_fields,
            run_automations,
            request_id: _,
            validate_only: _,
        } = self;
        let action = WriteAction::Update {
            lead_id,
            run_automations,
        };
        let mut write = convert::write(action, lead);
        write.cleared = clear_fields.iter().map(|name| schema_name(name).to_owned()).collect();
        write
    }
}

impl WriteMessage for pb::UpsertLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> WriteRequest {
        let Self {
            lead,
            match_by,
            run_automations,
            request_id: _,
            validate_only: _,
        } = self;
        let action = WriteAction::Upsert {
            match_by: convert::match_by(&match_by),
            run_automations,
        };
        convert::write(action, lead)
    }
}

impl WriteMessage for pb::CaptureLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> WriteRequest {
        let Self {
            lead,
            match_by,
            update_behavior,
            request_id: _,
            validate_only: _,
        } = self;
        let behavior = match pb::UpdateBehavior::try_from(update_behavior) {
            Ok(pb::UpdateBehavior::Unspecified) => Some(CaptureBehavior::Update),
            Ok(pb::UpdateBehavior::DoNotUpdate) => Some(CaptureBehavior::DoNotUpdate),
            Ok(pb::UpdateBehavior::UpdateOnlyEmptyFields) => Some(CaptureBehavior::UpdateOnlyEmptyFields),
            Ok(pb::UpdateBehavior::DoNotUpdateUniqueFields) => Some(CaptureBehavior::DoNotUpdateUniqueFields),
            Err(_) => None,
        };
        let action = WriteAction::Capture {
            match_by: convert::match_by(&match_by),
            behavior: behavior.unwrap_or(CaptureBehavior::DoNotUpdate),
        };
        let mut write = convert::write(action, lead);
        if behavior.is_none() {
            let text = "unknown value: this version of leadgate does not know it";
            write.violations.push(Violation::new("update_behavior", text));
        }
        write
    }
}

/// A converted write that has not entered the queue.
pub(super) struct DecodedWrite {
    write: WriteRequest,
    request: Option<RequestId>,
    validate_only: bool,
}

impl DecodedWrite {
    /// Converts a message with its request id.
    pub(super) fn new<M: WriteMessage>(mut message: M) -> Self {
        let mut violations = Violations::default();
        let request = mutation::request_id(&mut message, &mut violations);
        Self::with(message, request, violations)
    }

    fn with<M: WriteMessage>(message: M, request: Option<RequestId>, violations: Violations) -> Self {
        let validate_only = message.validate_only();
        let mut write = message.into_write();
        write.violations.extend(Vec::from(violations));
        Self {
            write,
            request,
            validate_only,
        }
    }

    /// The same write, which is part of a batch. Without an id of its own, it is kept as long as the batch.
    pub(super) fn part_of(mut self, batch: Option<RequestId>, has_own_id: bool) -> Self {
        if let (Some(request), Some(batch), false) = (&mut self.request, batch, has_own_id) {
            request.is_internal = batch.is_internal;
        }
        self
    }

    /// The same write with an id of its own if it has none and the tenant may move: then the next owner knows of a write that this one
    /// has begun.
    pub(super) fn known_to_next_owner(mut self, gateway: &Gateway) -> Self {
        if self.request.is_none() && gateway.may_move() {
            self.request = Some(RequestId {
                id: Uuid::new_v4(),
                fingerprint: [0; 32],
                is_internal: true,
            });
        }
        self
    }

    /// The request id of the message.
    pub(super) fn request_id(&self) -> Option<Uuid> {
        self.request.map(|request| request.id)
    }

    /// Enters the order of the writes of its lead, without waiting. A message that is only checked does not enter.
    pub(super) fn enter(self, gateway: &Gateway) -> QueuedWrite {
        let entry = (!self.validate_only).then(|| gateway.enter_write(&self.write, self.request));
        QueuedWrite {
            write: self.write,
            entry,
        }
    }
}

/// A write with its position in the order of the writes of its lead. `None`: the message is only checked.
pub(super) struct QueuedWrite {
    write: WriteRequest,
    entry: Option<WriteEntry>,
}

impl QueuedWrite {
    /// Executes the write, or only checks it. A write that was only checked has an empty result.
    pub(super) async fn execute(
        mut self,
        gateway: &Arc<Gateway>,
        context: &RequestContext,
        mode: WriteMode,
    ) -> Result<WriteResult> {
        match self.entry {
            Some(entry) => gateway.write(context, self.write, mode, entry).await,
            None => {
                context.audit.set_validate_only();
                let checked = gateway.validate(context, &mut self.write).await;
                checked.map(|()| WriteResult::default())
            }
        }
    }
}

/// Executes the write of a unary RPC.
pub(super) async fn write<M: WriteMessage>(mut rpc: Rpc<M>) -> Result<WriteResult> {
    let mut violations = Violations::default();
    let request = rpc.request_id(&mut violations);
    let Rpc {
        gateway,
        context,
        message,
        write_turn,
        ..
    } = rpc;
    let write = DecodedWrite::with(message, request, violations);
    let queued = write_turn.enter(&context, || write.enter(&gateway)).await?;
    queued.execute(&gateway, &context, WriteMode::Single).await
}

/// Returns the context of one write of a batch or an import. It is cancelled together with the whole, but its end does not
/// cancel the other writes.
pub(super) fn item_context(context: &RequestContext, request_id: Option<Uuid>) -> RequestContext {
    RequestContext {
        mutation: request_id.or(context.mutation),
        cancelled: context.cancelled.child_token(),
        progress: Arc::default(),
        ..context.clone()
    }
}

/// Returns the outcome of an upsert.
pub(super) fn upsert_outcome(result: &WriteResult) -> pb::UpsertOutcome {
    match result.created {
        None => pb::UpsertOutcome::Unspecified,
        Some(true) => pb::UpsertOutcome::Created,
        Some(false) => pb::UpsertOutcome::Updated,
    }
}

impl From<WriteResult> for pb::CreateLeadResponse {
    fn from(result: WriteResult) -> Self {
        Self {
            lead_id: result.lead_id,
        }
    }
}

impl From<WriteResult> for pb::UpdateLeadResponse {
    fn from(result: WriteResult) -> Self {
        Self {
            affected_rows: result.affected_rows,
        }
    }
}

impl From<WriteResult> for pb::UpsertLeadResponse {
    fn from(result: WriteResult) -> Self {
        let outcome = upsert_outcome(&result).into();
        Self {
            lead_id: result.lead_id,
            outcome,
        }
    }
}

impl From<WriteResult> for pb::CaptureLeadResponse {
    fn from(result: WriteResult) -> Self {
        Self {
            lead_id: result.lead_id,
            created: result.created.unwrap_or_default(),
        }
    }
}
