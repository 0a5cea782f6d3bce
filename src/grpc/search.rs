//! The RPCs that list leads: SearchLeads, QuickSearchLeads, ListModifiedLeads and ExportLeads.

use jiff::Timestamp;
use prost::Message;

use super::page::{self, PagePosition};
use super::response_budget::{ResponseBudget, encoded_item_bytes};
use super::rpc::{ResponseSender, Rpc, StatusBuilder};
use super::violations::Violations;
use super::{convert, pb};
use crate::clock;
use crate::context::RequestContext;
use crate::domain::characters::{self, TextForm};
use crate::domain::criterion::Operator;
use crate::domain::lead::{Lead, resolve};
use crate::domain::mask::ReadMask;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::{ExportFrom, FieldCheck, LeadSearch, Listing, MAX_MODIFIED, MODIFIED, hides_any};

/// Maximum number of leads, and approximate maximum size, of one message of an export. `server.max_response_bytes` may be
/// lower.
const MAX_MESSAGE_LEADS: usize = 100;
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// Maximum size of the query of QuickSearchLeads, in bytes. It is sent to LeadSquared in the URL.
const MAX_QUERY_BYTES: usize = 1000;
/// The text of the violation of a QuickSearchLeads by a caller with `hide_fields`.
const QUICK_SEARCH: &str = "the caller may not use this search (hide_fields): LeadSquared may find leads by attributes that the \
    caller does not see";

/// SearchLeads.
pub(super) async fn search(
    rpc: Rpc<pb::SearchLeadsRequest>,
    status_builder: StatusBuilder,
) -> Result<pb::SearchLeadsResponse> {
    let pb::SearchLeadsRequest {
        field,
        operator,
        value,
        order_by,
        page_size,
        page_token,
        read_mask,
    } = rpc.message;
    let mut violations = Violations::default();
    let mut check = FieldCheck::new(&rpc.context);
    check.read(resolve(&field), || "field".to_owned());
    let ordered_by = order_by.split_whitespace().next().unwrap_or_default();
    check.read(resolve(ordered_by), || "order_by".to_owned());
    let mask = convert::read_mask(read_mask, &mut check, &mut violations);
    check.finish()?;
    let size = violations.collect(page::size(page_size, 100));
    let start = violations.collect(PagePosition::parse(&page_token, size.unwrap_or(1)));
    let start = start.unwrap_or_else(|| PagePosition::first(1));
    let operator = search_operator(operator);
    let text = "unknown value: this version of leadgate does not know it";
    violations.require(operator.is_some(), "operator", text);
    violations.require(!field.is_empty(), "field", "is required");
    let value = match value.filter(|given| given.value.is_some()).map(convert::value) {
        None => Err("is required"),
        Some(value) => value,
    };
    let search = LeadSearch {
        field,
        operator: operator.unwrap_or(Operator::Equal),
        value: violations.check("value", value),
        order_by,
        page: start.number + 1,
        size: start.size,
        mask,
        violations: violations.into(),
    };
    let (leads, has_more) = rpc.gateway.search_leads(&rpc.context, search).await?;
    let next = has_more.then(|| start.next());
    let mut leads = leads.map(convert::lead);
    let next = page::cut(start, &mut leads, |leads| count_fitting(status_builder.budget(), leads))?.or(next);
    let next_page_token = next.map(|next| next.token(size.unwrap_or_default()));
    Ok(pb::SearchLeadsResponse {
        leads: leads.records,
        next_page_token: next_page_token.unwrap_or_default(),
        unreadable: convert::unreadable(&leads.unreadable),
    })
}

/// QuickSearchLeads.
pub(super) async fn quick_search(rpc: Rpc<pb::QuickSearchLeadsRequest>) -> Result<pb::QuickSearchLeadsResponse> {
    let pb::QuickSearchLeadsRequest { query, read_mask } = rpc.message;
    let mut violations = Violations::default();
    let mut check = FieldCheck::new(&rpc.context);
    check.require(!hides_any(&rpc.context), "query", QUICK_SEARCH);
    let mask = convert::read_mask(read_mask, &mut check, &mut violations);
    check.finish()?;
    let query = query.trim();
    violations.require(!query.is_empty(), "query", "is required");
    let text = format!("has {} bytes; at most {MAX_QUERY_BYTES} are allowed", query.len());
    violations.require(query.len() <= MAX_QUERY_BYTES, "query", text);
    if let Some(text) = characters::violation(query, TextForm::Line) {
        violations.add("query", text);
    }
    violations.none()?;
    let leads = rpc.gateway.quick_search_leads(&rpc.context, query, &mask).await?;
    Ok(pb::QuickSearchLeadsResponse {
        leads: convert_leads(leads.records),
        unreadable: convert::unreadable(&leads.unreadable),
    })
}

/// ListModifiedLeads.
pub(super) async fn list_modified(
    rpc: Rpc<pb::ListModifiedLeadsRequest>,
    status_builder: StatusBuilder,
) -> Result<pb::ListModifiedLeadsResponse> {
    let pb::ListModifiedLeadsRequest {
        start_time,
        end_time,
        page_size,
        page_token,
        read_mask,
    } = rpc.message;
    let mut violations = Violations::default();
    let mask = modified_mask(&rpc.context, read_mask, &mut violations)?;
    let size = violations.collect(page::size_with_max(MAX_MODIFIED, page_size, 1_000));
    let range = TimeRange::read(start_time, end_time, &mut violations);
    let from = range.listing_start("page_token", &page_token, &mut violations);
    let (from, size) = violations.finish(|| Some((from?, size?)))?;
    let mut listing = match from {
        ExportFrom::Range(start, end) => Listing::new(start, end, size),
        ExportFrom::Listing(listing) if listing.size() != size => {
            return Err(Error::invalid("page_token", FOREIGN_TOKEN));
        }
        ExportFrom::Listing(listing) => listing,
    };
    let mut leads = vec![];
    let mut unreadable = vec![];
    if let Some(mut page) = rpc.gateway.modified_leads(&rpc.context, &mut listing, &mask).await? {
        leads = convert_leads(std::mem::take(&mut page.leads));
        let count_fitting = |leads: &[pb::Lead]| count_fitting(status_builder.budget(), leads);
        if !matches!(count_fitting(&leads), Ok(count) if count == leads.len()) {
            page.cut(&mut listing, &mut leads, count_fitting)?;
        }
        unreadable = convert::unreadable(&page.unreadable);
    }
    let next_page_token = (!listing.is_over()).then(|| listing.token());
    Ok(pb::ListModifiedLeadsResponse {
        leads,
        next_page_token: next_page_token.unwrap_or_default(),
        total_size: total_size(&listing),
        unreadable,
    })
}

/// ExportLeads. Every page has at least one message, and so has an export without leads, so that the caller always gets a
/// resume token.
pub(super) async fn export(
    rpc: Rpc<pb::ExportLeadsRequest>,
    responder: ResponseSender<pb::ExportLeadsResponse>,
) -> Result<()> {
    let pb::ExportLeadsRequest {
        start_time,
        end_time,
        read_mask,
        resume_token,
    } = rpc.message;
    let mut violations = Violations::default();
    let mask = modified_mask(&rpc.context, read_mask, &mut violations)?;
    let range = TimeRange::read(start_time, end_time, &mut violations);
    let from = range.listing_start("resume_token", &resume_token, &mut violations);
    let from = violations.finish(|| from)?;
    let mut export = rpc.gateway.export_leads(&rpc.context, from, mask).await?;
    let mut is_empty = true;
    loop {
        // Until the last lead of a page is sent, a resumed export must read the page again.
        let before = export.listing().token();
        let Some(leads) = export.next().await? else {
            break;
        };
        let after = export.listing().token();
        let total_size = total_size(export.listing());
        let mut unreadable = convert::unreadable(&leads.unreadable);
        let budget = responder.status_builder().budget();
        let max_bytes = budget.item_bytes().min(MAX_MESSAGE_BYTES);
        let mut messages = split_into_messages(convert_leads(leads.records), max_bytes)
            .into_iter()
            .peekable();
        while let Some(leads) = messages.next() {
            count_fitting(budget, &leads)?;
            let is_last = messages.peek().is_none();
            let resume_token = if is_last { &after } else { &before }.clone();
            let response = pb::ExportLeadsResponse {
                leads,
                resume_token,
                total_size,
                // Only in the last message of the page, so that a page that is read again does not repeat them.
                unreadable: if is_last {
                    std::mem::take(&mut unreadable)
                } else {
                    vec![]
                },
            };
            responder.send(response).await?;
        }
        is_empty = false;
    }
    if is_empty {
        let response = pb::ExportLeadsResponse {
            leads: vec![],
            resume_token: export.listing().token(),
            total_size: total_size(export.listing()),
            unreadable: vec![],
        };
        responder.send(response).await?;
    }
    Ok(())
}

/// Converts the `read_mask` of a list by the time of the last modification, which is a criterion too.
fn modified_mask(
    context: &RequestContext,
    read_mask: Option<prost_types::FieldMask>,
    violations: &mut Violations,
) -> Result<ReadMask> {
    let mut check = FieldCheck::new(context);
    check.read(MODIFIED, || "start_time".to_owned());
    let mask = convert::read_mask(read_mask, &mut check, violations);
    check.finish().map(|()| mask)
}

/// The time range of a request.
struct TimeRange {
    start: Option<Timestamp>,
    /// `None`: the current time, or the end in the token.
    end: Option<Timestamp>,
}

impl TimeRange {
    fn read(
        start: Option<prost_types::Timestamp>,
        end: Option<prost_types::Timestamp>,
        violations: &mut Violations,
    ) -> Self {
        violations.require(start.is_some(), "start_time", "is required");
        Self {
            start: convert::time(start, "start_time", violations),
            end: convert::time(end, "end_time", violations),
        }
    }

    /// Returns where the listing starts: at the token, which must be of the same range, or without a token at the start of
    /// the range.
    fn listing_start(&self, field: &str, token: &str, violations: &mut Violations) -> Option<ExportFrom> {
        let start = self.start?;
        if token.is_empty() {
            let end = self.end.unwrap_or_else(clock::now);
            if start < end {
                return Some(ExportFrom::Range(start, end));
            }
            match self.end {
                Some(_) => violations.add("end_time", "must be after start_time"),
                None => violations.add("start_time", "must be in the past if there is no end_time"),
            }
            return None;
        }
        let listing = Listing::from_token(token)
            .filter(|listing| listing.start == start && self.end.is_none_or(|end| listing.end == end));
        violations.require(listing.is_some(), field, FOREIGN_TOKEN);
        listing.map(ExportFrom::Listing)
    }
}

const FOREIGN_TOKEN: &str =
    "is not a token of this request: all other fields must be the same as in the request that returned it";

fn search_operator(number: i32) -> Option<Operator> {
    use pb::SearchOperator as Given;
    Some(match Given::try_from(number).ok()? {
        Given::Unspecified | Given::Equal => Operator::Equal,
        Given::NotEqual => Operator::NotEqual,
        Given::Less => Operator::Less,
        Given::LessOrEqual => Operator::LessOrEqual,
        Given::Greater => Operator::Greater,
        Given::GreaterOrEqual => Operator::GreaterOrEqual,
        Given::Like => Operator::Like,
    })
}

fn convert_leads(leads: Vec<Lead>) -> Vec<pb::Lead> {
    leads.into_iter().map(convert::lead).collect()
}

/// Returns how many leads, from the first one on, fit into a response. The error names the lead that is too large.
fn count_fitting(budget: ResponseBudget, leads: &[pb::Lead]) -> Result<usize> {
    budget.count_fitting(leads).map_err(|mut error| {
        if let (ErrorKind::ResponseTooLarge { lead_id, .. }, Some(lead)) = (&mut error.kind, leads.first()) {
            *lead_id = Some(lead.lead_id.clone());
        }
        error
    })
}

fn total_size(listing: &Listing) -> i32 {
    i32::try_from(listing.total()).unwrap_or(i32::MAX)
}

/// Splits leads into messages. Without leads, it is one message without leads.
fn split_into_messages(leads: Vec<pb::Lead>, max_bytes: usize) -> Vec<Vec<pb::Lead>> {
    let mut messages = vec![];
    let (mut message, mut bytes) = (vec![], 0);
    for lead in leads {
        let length = encoded_item_bytes(lead.encoded_len());
        if message.len() >= MAX_MESSAGE_LEADS || (!message.is_empty() && bytes + length > max_bytes) {
            messages.push(std::mem::take(&mut message));
            bytes = 0;
        }
        bytes += length;
        message.push(lead);
    }
    if !message.is_empty() || messages.is_empty() {
        messages.push(message);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(count: usize, note: usize) -> Vec<usize> {
        let lead = pb::Lead {
            owner_name: "x".repeat(note),
            ..Default::default()
        };
        split_into_messages(vec![lead; count], MAX_MESSAGE_BYTES)
            .iter()
            .map(Vec::len)
            .collect()
    }

    #[test]
    fn leads_are_split_by_number_and_by_size() {
        assert_eq!(sizes(0, 0), [0]);
        assert_eq!(sizes(100, 0), [100]);
        assert_eq!(sizes(201, 0), [100, 100, 1]);
        assert_eq!(sizes(5, 1024 * 1024 - 100), [2, 2, 1]);
        assert_eq!(sizes(2, 3 * 1024 * 1024), [1, 1]);
    }
}
