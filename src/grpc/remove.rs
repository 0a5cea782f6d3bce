//! The RPCs after which a lead is gone.

use super::pb;
use super::rpc::Rpc;
use crate::error::Result;
use crate::gateway::Removal;

/// DeleteLead.
pub(super) async fn delete(mut rpc: Rpc<pb::DeleteLeadRequest>) -> Result<pb::DeleteLeadResponse> {
    let mut faults = Vec::new();
    let request = rpc.request_id(&mut faults);
    let Rpc {
        gateway,
        context,
        message,
        arrival,
        ..
    } = rpc;
    let removal = Removal::Delete {
        lead_id: message.lead_id,
    };
    let entry = arrival
        .take(&context, || gateway.enter_removal(&removal, request))
        .await?;
    gateway.remove_lead(&context, removal, entry, faults).await?;
    Ok(pb::DeleteLeadResponse {})
}

/// MergeLeads.
pub(super) async fn merge(mut rpc: Rpc<pb::MergeLeadsRequest>) -> Result<pb::MergeLeadsResponse> {
    let mut faults = Vec::new();
    let request = rpc.request_id(&mut faults);
    let Rpc {
        gateway,
        context,
        message,
        arrival,
        ..
    } = rpc;
    let removal = Removal::Merge {
        lead_id: message.lead_id,
        merged_lead_id: message.merged_lead_id,
    };
    let entry = arrival
        .take(&context, || gateway.enter_removal(&removal, request))
        .await?;
    gateway.remove_lead(&context, removal, entry, faults).await?;
    Ok(pb::MergeLeadsResponse {})
}
