//! DeleteLead and MergeLeads: the RPCs that remove a lead.

use super::mutation::Mutation;
use super::pb;
use super::rpc::Rpc;
use super::violations::Violations;
use crate::error::Result;
use crate::gateway::Removal;

/// DeleteLead.
pub(super) async fn delete(rpc: Rpc<pb::DeleteLeadRequest>) -> Result<pb::DeleteLeadResponse> {
    let removal = |message: pb::DeleteLeadRequest| Removal::Delete {
        lead_id: message.lead_id,
    };
    remove(rpc, removal).await?;
    Ok(pb::DeleteLeadResponse {})
}

/// MergeLeads.
pub(super) async fn merge(rpc: Rpc<pb::MergeLeadsRequest>) -> Result<pb::MergeLeadsResponse> {
    let removal = |message: pb::MergeLeadsRequest| Removal::Merge {
        lead_id: message.lead_id,
        merged_lead_id: message.merged_lead_id,
    };
    remove(rpc, removal).await?;
    Ok(pb::MergeLeadsResponse {})
}

async fn remove<M: Mutation>(mut rpc: Rpc<M>, removal: impl FnOnce(M) -> Removal) -> Result<()> {
    let mut violations = Violations::default();
    let request = rpc.request_id(&mut violations);
    let Rpc {
        gateway,
        context,
        message,
        write_turn,
        ..
    } = rpc;
    let removal = removal(message);
    let entry = write_turn
        .enter(&context, || gateway.enter_removal(&removal, request))
        .await?;
    gateway.remove_lead(&context, removal, entry, violations.into()).await
}
