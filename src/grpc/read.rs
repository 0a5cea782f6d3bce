//! The RPCs that read leads by their ids or keys, and the description of their attributes.

use std::time::Duration;

use prost::Message;

use super::response_budget::{ResponseBudget, encoded_item_bytes};
use super::rpc::{Rpc, StatusBuilder};
use super::violations::Violations;
use super::{convert, pb};
use crate::domain::lead::{EMAIL, LEAD_NUMBER, LeadKey, check_id, check_number, resolve, schema_name};
use crate::domain::{email, phone};
use crate::error::{Result, Violation};
use crate::gateway::{BatchGetResult, FieldCheck, is_hidden};

/// GetLead.
pub(super) async fn get(rpc: Rpc<pb::GetLeadRequest>) -> Result<pb::GetLeadResponse> {
    let pb::GetLeadRequest {
        key,
        read_mask,
        max_staleness,
    } = rpc.message;
    let mut violations = Violations::default();
    let mut check = FieldCheck::new(&rpc.context);
    let key = lead_key(key, &mut check, &mut violations);
    let mask = convert::read_mask(read_mask, &mut check, &mut violations);
    check.finish()?;
    let max_staleness = max_staleness.map(|given| Duration::try_from(given).map_err(|_| "must not be negative"));
    let max_staleness = max_staleness.and_then(|given| violations.check("max_staleness", given));
    let key = violations.finish(|| key)?;
    let lead = rpc.gateway.get_lead(&rpc.context, &key, &mask, max_staleness).await?;
    Ok(pb::GetLeadResponse {
        lead: Some(convert::lead(lead)),
    })
}

fn lead_key(
    key: Option<pb::get_lead_request::Key>,
    check: &mut FieldCheck<'_>,
    violations: &mut Violations,
) -> Option<LeadKey> {
    use pb::get_lead_request::Key;
    let violation = |field, text: Option<String>| text.map(|text| Violation::new(field, text));
    let (key, violation) = match key {
        None => {
            violations.add(
                "key",
                "one of lead_id, lead_number, email_address and phone is required",
            );
            return None;
        }
        Some(Key::LeadId(id)) => {
            let violation = check_id("lead_id", &id);
            (LeadKey::Id(id), violation)
        }
        Some(Key::LeadNumber(number)) => {
            check.read(LEAD_NUMBER, || "lead_number".to_owned());
            let violation = check_number("lead_number", &number);
            (LeadKey::Number(number), violation)
        }
        Some(Key::EmailAddress(address)) => {
            check.read(EMAIL, || "email_address".to_owned());
            let violation = violation("email_address", email::violation(&address));
            (LeadKey::Email(address), violation)
        }
        Some(Key::Phone(number)) => {
            // LeadSquared looks for the number in both attributes.
            for name in ["Phone", "Mobile"] {
                check.read(name, || "phone".to_owned());
            }
            let violation = violation("phone", phone::violation(&number));
            (LeadKey::Phone(number), violation)
        }
    };
    violations.check_value(key, violation)
}

/// BatchGetLeads.
pub(super) async fn batch_get(
    rpc: Rpc<pb::BatchGetLeadsRequest>,
    status_builder: StatusBuilder,
) -> Result<pb::BatchGetLeadsResponse> {
    let pb::BatchGetLeadsRequest { lead_ids, read_mask } = rpc.message;
    let mut violations = Violations::default();
    let mut check = FieldCheck::new(&rpc.context);
    let mask = convert::read_mask(read_mask, &mut check, &mut violations);
    check.finish()?;
    violations.none()?;
    let budget = status_builder.budget();
    let found = rpc
        .gateway
        .batch_get_leads(&rpc.context, &lead_ids, &mask, budget.item_bytes())
        .await?;
    batch_response(found, budget)
}

/// Returns the leads that fit into the response, and the ids of the other leads as remaining.
fn batch_response(found: BatchGetResult, budget: ResponseBudget) -> Result<pb::BatchGetLeadsResponse> {
    let leads: Vec<_> = found.leads.into_iter().map(convert::lead).collect();
    let id_bytes = |id: &String| encoded_item_bytes(id.len());
    // The response has every lead: complete or as an id.
    let ids = found.missing.iter().chain(&found.unread);
    let ids = ids.chain(leads.iter().map(|lead| &lead.lead_id));
    let mut used: usize = ids.map(id_bytes).sum();
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for lead in leads {
        let (lead_bytes, id) = (encoded_item_bytes(lead.encoded_len()), id_bytes(&lead.lead_id));
        if used - id + lead_bytes <= budget.item_bytes() {
            used += lead_bytes;
            used -= id;
            fitting.push(lead);
        } else {
            others.push((lead_bytes, lead.lead_id));
        }
    }
    // Without this error, a caller that requests the remaining leads again would never finish.
    if let (true, Some((bytes, id))) = (fitting.is_empty(), others.iter().min()) {
        return Err(budget.too_large(used + bytes, Some(id)));
    }
    Ok(pb::BatchGetLeadsResponse {
        leads: fitting,
        missing_lead_ids: found.missing,
        remaining_lead_ids: others.into_iter().map(|(_, id)| id).chain(found.unread).collect(),
        unreadable: convert::unreadable(&found.unreadable),
    })
}

/// DescribeLeadFields.
pub(super) async fn describe_fields(rpc: Rpc<pb::DescribeLeadFieldsRequest>) -> Result<pb::DescribeLeadFieldsResponse> {
    let pb::DescribeLeadFieldsRequest { schema_names: names } = &rpc.message;
    let mut check = FieldCheck::new(&rpc.context);
    for (i, name) in names.iter().enumerate() {
        check.read(resolve(name), || format!("schema_names[{i}]"));
    }
    check.finish()?;
    let catalog = rpc.gateway.describe_fields(&rpc.context).await?;
    let mut violations = Violations::default();
    for (i, name) in names.iter().enumerate() {
        let is_known = !catalog.lacks(schema_name(name));
        violations.require(
            is_known,
            &format!("schema_names[{i}]"),
            "the account has no such attribute",
        );
    }
    violations.none()?;
    let is_requested = |name: &str| {
        let is_it = |requested: &String| schema_name(requested).eq_ignore_ascii_case(name);
        !is_hidden(&rpc.context, name) && (names.is_empty() || names.iter().any(is_it))
    };
    let fields = catalog.fields.iter().filter(|field| is_requested(&field.schema_name));
    let unreadable = catalog
        .unreadable
        .iter()
        .filter(|record| record.id.as_deref().is_none_or(is_requested));
    Ok(pb::DescribeLeadFieldsResponse {
        fields: fields
            .map(|field| convert::field(field, rpc.gateway.unique_attributes()))
            .collect(),
        fetch_time: Some(convert::timestamp(catalog.fetched)),
        unreadable: convert::unreadable(unreadable),
    })
}
