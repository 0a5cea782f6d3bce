//! The RPCs after which a lead is gone.

use super::asked::Asked;
use super::pb;
use crate::error::Result;
use crate::gateway::Removal;

/// DeleteLead.
pub(super) async fn delete(mut asked: Asked<pb::DeleteLeadRequest>) -> Result<pb::DeleteLeadResponse> {
    let mut faults = Vec::new();
    let request = asked.request_id(&mut faults);
    let Asked {
        gateway,
        call,
        message,
        arrival,
        ..
    } = asked;
    let removal = Removal::Delete {
        lead_id: message.lead_id,
    };
    let entry = arrival.take(&call, || gateway.enter_removal(&removal, request)).await?;
    gateway.remove_lead(&call, removal, entry, faults).await?;
    Ok(pb::DeleteLeadResponse {})
}

/// MergeLeads.
pub(super) async fn merge(mut asked: Asked<pb::MergeLeadsRequest>) -> Result<pb::MergeLeadsResponse> {
    let mut faults = Vec::new();
    let request = asked.request_id(&mut faults);
    let Asked {
        gateway,
        call,
        message,
        arrival,
        ..
    } = asked;
    let removal = Removal::Merge {
        lead_id: message.lead_id,
        merged_lead_id: message.merged_lead_id,
    };
    let entry = arrival.take(&call, || gateway.enter_removal(&removal, request)).await?;
    gateway.remove_lead(&call, removal, entry, faults).await?;
    Ok(pb::MergeLeadsResponse {})
}
