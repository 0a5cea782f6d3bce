//! The RPCs that list leads: by a criterion, by a word, and by when they were modified. Reads the messages, asks the
//! gateway, puts the answers.

use jiff::Timestamp;
use prost::Message;

use super::lead::mask;
use super::page::{self, Place};
use super::rpc::{ResponseSender, Rpc, StatusBuilder};
use super::size::{Room, item_bytes};
use super::{convert, pb};
use crate::clock;
use crate::domain::characters::{self, Form};
use crate::domain::criterion::Operator;
use crate::domain::lead::Lead;
use crate::error::{Error, ErrorKind, Result, Violation};
use crate::gateway::{ExportFrom, LeadSearch, Listing, MAX_MODIFIED};

/// The most leads of one message of an export, and about the most bytes, where `server.max_response_bytes` allows them.
const MAX_LEADS: usize = 100;
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// The longest query of QuickSearchLeads in bytes: LeadSquared takes it in the URL.
const MAX_QUERY: usize = 1000;

/// SearchLeads.
pub(super) async fn search(
    rpc: Rpc<pb::SearchLeadsRequest>,
    status_builder: StatusBuilder,
) -> Result<pb::SearchLeadsResponse> {
    let Rpc {
        gateway,
        context,
        message,
        ..
    } = rpc;
    let mut faults = Vec::new();
    let size = noted(page::size(message.page_size, 100), &mut faults);
    let place = noted(Place::read(&message.page_token, size.unwrap_or(1)), &mut faults);
    let place = place.unwrap_or_else(|| Place::first(1));
    let operator = operator(message.operator);
    if operator.is_none() {
        let text = "is not one of the values that this version knows";
        faults.push(Violation::new("operator", text));
    }
    if message.field.is_empty() {
        faults.push(Violation::new("field", "is required"));
    }
    let given = message.value.filter(|given| given.value.is_some());
    let value = match given.map(convert::value) {
        None => Err("is required"),
        Some(value) => value,
    };
    let search = LeadSearch {
        field: message.field,
        operator: operator.unwrap_or(Operator::Equal),
        value: value.map_err(|text| faults.push(Violation::new("value", text))).ok(),
        order_by: message.order_by,
        page: place.number + 1,
        size: place.size,
        mask: mask(message.read_mask, &mut faults),
        violations: faults,
    };
    let (leads, has_more) = gateway.search_leads(&context, search).await?;
    let next = has_more.then(|| place.next());
    let mut leads = leads.map(convert::lead);
    let next = page::cut(place, &mut leads, |leads| fitting(status_builder.room(), leads))?.or(next);
    let next_page_token = next.map(|next| next.token(size.unwrap_or_default()));
    Ok(pb::SearchLeadsResponse {
        leads: leads.records,
        next_page_token: next_page_token.unwrap_or_default(),
        unreadable: convert::unreadable(&leads.unreadable),
    })
}

/// QuickSearchLeads.
pub(super) async fn quick_search(rpc: Rpc<pb::QuickSearchLeadsRequest>) -> Result<pb::QuickSearchLeadsResponse> {
    let Rpc {
        gateway,
        context,
        message,
        ..
    } = rpc;
    let mut faults = Vec::new();
    let mask = mask(message.read_mask, &mut faults);
    let query = message.query.trim();
    if query.is_empty() {
        faults.push(Violation::new("query", "is required"));
    }
    if query.len() > MAX_QUERY {
        let text = format!("has {} bytes; at most {MAX_QUERY} are allowed", query.len());
        faults.push(Violation::new("query", text));
    }
    if let Some(fault) = characters::violation(query, Form::Line) {
        faults.push(Violation::new("query", fault));
    }
    if !faults.is_empty() {
        return Err(ErrorKind::Invalid(faults).into());
    }
    let leads = gateway.quick_search_leads(&context, query, &mask).await?;
    Ok(pb::QuickSearchLeadsResponse {
        leads: shown(leads.records),
        unreadable: convert::unreadable(&leads.unreadable),
    })
}

/// ListModifiedLeads.
pub(super) async fn list_modified(
    rpc: Rpc<pb::ListModifiedLeadsRequest>,
    status_builder: StatusBuilder,
) -> Result<pb::ListModifiedLeadsResponse> {
    let Rpc {
        gateway,
        context,
        message,
        ..
    } = rpc;
    let mut faults = Vec::new();
    let mask = mask(message.read_mask, &mut faults);
    let size = noted(page::size_up_to(MAX_MODIFIED, message.page_size, 1_000), &mut faults);
    let range = Range::read(message.start_time, message.end_time, &mut faults);
    let from = range.from("page_token", &message.page_token, &mut faults);
    let (Some(from), Some(size), true) = (from, size, faults.is_empty()) else {
        return Err(ErrorKind::Invalid(faults).into());
    };
    let mut listing = match from {
        ExportFrom::Range(start, end) => Listing::new(start, end, size),
        ExportFrom::Listing(listing) if listing.size() != size => return Err(not_ours("page_token")),
        ExportFrom::Listing(listing) => listing,
    };
    let mut leads = vec![];
    let mut unreadable = vec![];
    if let Some(mut page) = gateway.modified_leads(&context, &mut listing, &mask).await? {
        leads = shown(std::mem::take(&mut page.leads));
        let fitting = |leads: &[pb::Lead]| fitting(status_builder.room(), leads);
        if !matches!(fitting(&leads), Ok(count) if count == leads.len()) {
            page.cut(&mut listing, &mut leads, fitting)?;
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

/// ExportLeads. Each page gives at least one message, and so does an export that has nothing more to give: whoever reads
/// learns how far it is.
pub(super) async fn export(
    rpc: Rpc<pb::ExportLeadsRequest>,
    responder: ResponseSender<pb::ExportLeadsResponse>,
) -> Result<()> {
    let Rpc {
        gateway,
        context,
        message,
        ..
    } = rpc;
    let mut faults = Vec::new();
    let mask = mask(message.read_mask, &mut faults);
    let range = Range::read(message.start_time, message.end_time, &mut faults);
    let from = range.from("resume_token", &message.resume_token, &mut faults);
    let (Some(from), true) = (from, faults.is_empty()) else {
        return Err(ErrorKind::Invalid(faults).into());
    };
    let mut export = gateway.export_leads(&context, from, mask).await?;
    let mut is_silent = true;
    loop {
        // Until the last lead of a page was sent, the page has to be read again.
        let before = export.listing().token();
        let Some(leads) = export.next().await? else {
            break;
        };
        let after = export.listing().token();
        let total_size = total_size(export.listing());
        let mut unreadable = convert::unreadable(&leads.unreadable);
        let room = responder.status_builder().room();
        let mut messages = messages(shown(leads.records), room.bytes().min(MAX_BYTES))
            .into_iter()
            .peekable();
        while let Some(leads) = messages.next() {
            fitting(room, &leads)?;
            let is_last = messages.peek().is_none();
            let resume_token = if is_last { &after } else { &before }.clone();
            let answer = pb::ExportLeadsResponse {
                leads,
                resume_token,
                total_size,
                // Once, also where the page has to be read again.
                unreadable: if is_last {
                    std::mem::take(&mut unreadable)
                } else {
                    vec![]
                },
            };
            responder.send(answer).await?;
        }
        is_silent = false;
    }
    if is_silent {
        let nothing_more = pb::ExportLeadsResponse {
            leads: vec![],
            resume_token: export.listing().token(),
            total_size: total_size(export.listing()),
            unreadable: vec![],
        };
        responder.send(nothing_more).await?;
    }
    Ok(())
}

/// A range of time as it was asked for.
struct Range {
    start: Option<Timestamp>,
    /// `None`: now, or as a token says.
    end: Option<Timestamp>,
}

impl Range {
    fn read(
        start: Option<prost_types::Timestamp>,
        end: Option<prost_types::Timestamp>,
        faults: &mut Vec<Violation>,
    ) -> Self {
        if start.is_none() {
            faults.push(Violation::new("start_time", "is required"));
        }
        let mut moment = |at: Option<_>, field| at.and_then(|at| convert::moment(at, field, faults));
        Self {
            start: moment(start, "start_time"),
            end: moment(end, "end_time"),
        }
    }

    /// Where the leads of the range are to be listed from: a token of the same range, or none for the beginning.
    fn from(&self, field: &str, token: &str, faults: &mut Vec<Violation>) -> Option<ExportFrom> {
        let start = self.start?;
        if token.is_empty() {
            let end = self.end.unwrap_or_else(clock::now);
            if start < end {
                return Some(ExportFrom::Range(start, end));
            }
            faults.push(match self.end {
                Some(_) => Violation::new("end_time", "must be after start_time"),
                None => Violation::new("start_time", "must be in the past where there is no end_time"),
            });
            return None;
        }
        let listing = Listing::from_token(token)
            .filter(|listing| listing.start == start && self.end.is_none_or(|end| listing.end == end));
        if listing.is_none() {
            faults.push(Violation::new(field, NOT_OURS));
        }
        listing.map(ExportFrom::Listing)
    }
}

const NOT_OURS: &str = "is not one that was given out for this request";

fn not_ours(field: &str) -> Error {
    Error::invalid(field, NOT_OURS)
}

/// Leaves the faults of what was read among the others.
fn noted<T>(read: Result<T>, faults: &mut Vec<Violation>) -> Option<T> {
    let error = match read {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    if let ErrorKind::Invalid(found) = error.kind {
        faults.extend(found);
    }
    None
}

fn operator(number: i32) -> Option<Operator> {
    use pb::SearchOperator as Rpc;
    Some(match Rpc::try_from(number).ok()? {
        Rpc::Unspecified | Rpc::Equal => Operator::Equal,
        Rpc::NotEqual => Operator::NotEqual,
        Rpc::Less => Operator::Less,
        Rpc::LessOrEqual => Operator::LessOrEqual,
        Rpc::Greater => Operator::Greater,
        Rpc::GreaterOrEqual => Operator::GreaterOrEqual,
        Rpc::Like => Operator::Like,
    })
}

fn shown(leads: Vec<Lead>) -> Vec<pb::Lead> {
    leads.into_iter().map(convert::lead).collect()
}

/// How many of the first leads fit into a response. The error names the lead that is too large by itself.
pub(super) fn fitting(room: Room, leads: &[pb::Lead]) -> Result<usize> {
    room.fitting(leads).map_err(|mut error| {
        if let (ErrorKind::ResponseTooLarge { lead_id, .. }, Some(lead)) = (&mut error.kind, leads.first()) {
            *lead_id = Some(lead.lead_id.clone());
        }
        error
    })
}

fn total_size(listing: &Listing) -> i32 {
    i32::try_from(listing.total()).unwrap_or(i32::MAX)
}

/// The leads in parts that fit into messages; no leads are one part without any.
fn messages(leads: Vec<pb::Lead>, max_bytes: usize) -> Vec<Vec<pb::Lead>> {
    let mut parts = vec![];
    let (mut part, mut bytes) = (vec![], 0);
    for lead in leads {
        let length = item_bytes(lead.encoded_len());
        if part.len() >= MAX_LEADS || (!part.is_empty() && bytes + length > max_bytes) {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += length;
        part.push(lead);
    }
    if !part.is_empty() || parts.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(count: usize, note: usize) -> Vec<usize> {
        let lead = pb::Lead {
            owner_name: "x".repeat(note),
            ..Default::default()
        };
        messages(vec![lead; count], MAX_BYTES).iter().map(Vec::len).collect()
    }

    #[test]
    fn leads_are_parted_by_their_number_and_by_their_size() {
        assert_eq!(sizes(0, 0), [0]);
        assert_eq!(sizes(100, 0), [100]);
        assert_eq!(sizes(201, 0), [100, 100, 1]);
        assert_eq!(sizes(5, 1024 * 1024 - 100), [2, 2, 1]);
        assert_eq!(sizes(2, 3 * 1024 * 1024), [1, 1]);
    }
}
