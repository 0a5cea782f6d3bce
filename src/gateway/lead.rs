//! Leads: checked, written once, read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::reconcile::{Loss, Reconciled};
use super::{Entry, Gateway, or_invalid};
use crate::clock;
use crate::context::{RequestContext, RequestId};
use crate::crm::batch::{Rejoin, Way};
use crate::crm::lead as endpoint;
use crate::domain::field::Catalog;
use crate::domain::lead::{EMAIL, LEAD_ID, Lead, LeadKey, RawFields, WriteAction, WriteRequest, WriteResult};
use crate::domain::listed::Unreadable;
use crate::domain::mask::ReadMask;
use crate::domain::value::Value;
use crate::domain::{check, phone};
use crate::error::{Error, ErrorKind, Repeat, Resource, Result, Violation};
use crate::store::Before;

/// How often one write is sent at most when answers get lost.
const MAX_SENDS: u32 = 2;
/// The most ids of one read, by the vendor's page on it.
const MAX_IDS: usize = 10_000;

/// How writes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One by one: together with others only where that has the same effects, or the settings say that it may have others.
    Single,
    /// Many, in as few calls as may be.
    Bulk,
}

/// What became of the ids of a read of many.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The leads that were read.
    pub leads: Vec<Lead>,
    /// The ids of which there is no lead.
    pub missing: Vec<String>,
    /// The ids that were not asked for any more, since enough was read before.
    pub unread: Vec<String>,
    /// The leads that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

impl Gateway {
    /// Whether the write could be made, as far as that can be told without asking LeadSquared.
    /// Names of attributes are put into the account's spelling.
    pub async fn validate(&self, context: &RequestContext, write: &mut WriteRequest) -> Result<()> {
        let catalog = self.metadata.get_if_available(context).await;
        let rules = check::WriteRules::new(catalog.as_deref(), self.settings.check_options);
        let mut violations = write.check();
        violations.extend(rules.set(&write.attributes));
        violations.extend(rules.cleared(&write.cleared));
        or_invalid(violations)?;
        if let Some(catalog) = catalog {
            write.spell(&catalog);
        }
        Ok(())
    }

    /// Makes a write at its place, once per request id.
    pub async fn write(
        self: &Arc<Self>,
        context: &RequestContext,
        mut write: WriteRequest,
        manner: Manner,
        entry: Entry,
    ) -> Result<WriteResult> {
        self.validate(context, &mut write).await?;
        let (this, asked) = (self.clone(), entry.placed(context));
        let caller = context.clone();
        let Entry { reservation, request } = entry;
        let has_id = request.is_some();
        let work = move |before| async move {
            let way = this.way(&write, manner);
            let write = Arc::new(write);
            let result = this.perform(asked, &write, way, before).await;
            if let Ok(written) = &result {
                this.known_leads.learn(&written.lead_id, write.order_keys().into_iter());
            }
            this.invalidate(&result);
            drop(reservation);
            match result {
                Err(error) => Err(this.with_duplicate(&caller, &write, manner, error).await),
                result => result,
            }
        };
        let written = self.requests.once(context, request, work).await;
        written.map_err(|error| self.ended(context, error, has_id, Repeat::Lead))
    }

    /// Checks that the request id of a batch was not used for another message. The writes of a batch have ids of their own.
    pub async fn check_request(&self, context: &RequestContext, request: &RequestId) -> Result<()> {
        self.requests.check(context, request).await
    }

    /// The call of a batch, which claims its request id before anything of it is sent.
    pub fn claimed(&self, context: &RequestContext, request: &RequestId) -> RequestContext {
        self.requests.claimed(context, request)
    }

    /// How a write may go. A bulk call was seen not to start automations, as an update by its own endpoint does not.
    fn way(&self, write: &WriteRequest, manner: Manner) -> Way {
        let has_set = || {
            write
                .attributes
                .iter()
                .any(|(_, value)| matches!(value, Value::FieldSet(_)))
        };
        let is_on = match &write.action {
            WriteAction::Update {
                run_automations: true, ..
            }
            | WriteAction::Upsert {
                run_automations: true, ..
            } => return Way::Alone,
            WriteAction::Capture { .. } => return Way::Alone,
            // How that endpoint wants field sets is not documented.
            WriteAction::Update { .. } if has_set() => return Way::Alone,
            WriteAction::Update { .. } if manner == Manner::Bulk => return Way::Either,
            WriteAction::Update { .. } => self.batching.updates,
            WriteAction::Upsert { .. } => self.batching.upserts,
            WriteAction::Create => self.batching.creates,
        };
        match (is_on, manner) {
            (true, _) => Way::Either,
            (false, Manner::Bulk) => Way::Together,
            (false, Manner::Single) => Way::Alone,
        }
    }

    /// What was read before is no answer any more.
    fn invalidate(&self, result: &Result<WriteResult>) {
        match result {
            Ok(written) => self.reads.invalidate(Some(&written.lead_id)),
            Err(error) if error.is_final() => {}
            // It may have been executed.
            Err(Error {
                kind: ErrorKind::OutcomeUnknown | ErrorKind::Unreadable { .. } | ErrorKind::Exception,
                ..
            }) => self.reads.invalidate(None),
            Err(_) => {}
        }
    }

    /// Reads one lead, or tells what was read of it no longer ago than that.
    pub async fn get_lead(
        self: &Arc<Self>,
        context: &RequestContext,
        key: &LeadKey,
        mask: &ReadMask,
        max_staleness: Option<Duration>,
    ) -> Result<Lead> {
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let (this, known) = (self.clone(), catalog.clone());
        let read = {
            let (key, mask) = (key.clone(), mask.clone());
            move |context: RequestContext| {
                let (this, key, mask, known) = (this.clone(), key.clone(), mask.clone(), known.clone());
                async move { this.find(&context, &key, &mask, known.as_deref()).await }
            }
        };
        let mut row = self.reads.get(context, key, mask, max_staleness, read).await?;
        self.known_leads.learn_row(&row);
        mask.apply(&mut row);
        let mut lead = Lead::from_row(row, catalog.as_deref());
        if let (LeadKey::Id(id), true) = (key, lead.id.is_empty()) {
            lead.id.clone_from(id);
        }
        Ok(lead)
    }

    /// Reads many leads at once, in the order of the ids. Where LeadSquared takes more than one page for them, no more pages
    /// are read once there are that many bytes.
    pub async fn batch_get_leads(
        &self,
        context: &RequestContext,
        ids: &[String],
        mask: &ReadMask,
        enough: usize,
    ) -> Result<Found> {
        or_invalid(check_ids(ids))?;
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let mut seen = BTreeSet::new();
        let ids: Vec<String> = ids.iter().filter(|id| seen.insert(fold(id))).cloned().collect();
        let columns = columns(mask, catalog.as_deref());

        let (mut rows, mut bytes) = (BTreeMap::new(), 0);
        let mut is_enough = false;
        let mut damaged: BTreeMap<String, Unreadable> = BTreeMap::new();
        // The records of which nobody can say whose they are.
        let mut nameless = Vec::new();
        let mut listed = 0;
        for page in 1.. {
            let operation = endpoint::GetByIds {
                ids: ids.clone(),
                columns: columns.clone(),
                page,
            };
            let found = self.crm.call(context, &operation).await?;
            let before = rows.len() + damaged.len();
            let count = found.count();
            bytes += found.records.iter().map(value_bytes).sum::<usize>();
            let records = found.records.into_iter();
            rows.extend(records.filter_map(|row| Some((fold(id_of(&row)?), row))));
            let mut new = Vec::new();
            for mut one in found.unreadable {
                one.position += listed;
                match &one.id {
                    Some(id) => drop(damaged.insert(fold(id), one)),
                    None => new.push(one),
                }
            }
            listed += count;
            // LeadSquared may return less than was asked for, and its count may be that of the page: only a page without
            // news is the last.
            let has_news = rows.len() + damaged.len() > before;
            if has_news || page == 1 {
                nameless.extend(new);
            }
            if !has_news || rows.len() + damaged.len() + nameless.len() >= ids.len() {
                break;
            }
            is_enough = bytes >= enough;
            if is_enough {
                break;
            }
        }
        rows.values().for_each(|row| self.known_leads.learn_row(row));
        let mut found = Found::default();
        for id in ids {
            let folded = fold(&id);
            if let Some(mut row) = rows.remove(&folded) {
                mask.apply(&mut row);
                found.leads.push(Lead::from_row(row, catalog.as_deref()));
            } else if let Some(one) = damaged.remove(&folded) {
                found.unreadable.push(one);
            } else if is_enough {
                found.unread.push(id);
            } else if let Some(one) = nameless.first() {
                // It may be that one; to call it missing might be wrong.
                let id = Some(id);
                found.unreadable.push(Unreadable { id, ..one.clone() });
            } else {
                found.missing.push(id);
            }
        }
        Ok(found)
    }

    /// Looks a lead up. A phone is tried in the forms that accounts were seen to know.
    pub(super) async fn find(
        &self,
        context: &RequestContext,
        key: &LeadKey,
        mask: &ReadMask,
        catalog: Option<&Catalog>,
    ) -> Result<RawFields> {
        match key {
            LeadKey::Id(id) => {
                let known = catalog.filter(|catalog| self.batching.reads && mask.is_of_columns(catalog));
                let operation = endpoint::GetById {
                    id: id.clone(),
                    columns: known.map(|catalog| mask.shared_columns(catalog)),
                };
                let way = if known.is_some() { Way::Either } else { Way::Alone };
                self.crm.ride(way, context, &operation).await
            }
            LeadKey::Email(email) => self.crm.call(context, &endpoint::GetByEmail(email.clone())).await,
            LeadKey::Number(number) => {
                let operation = endpoint::GetByNumber {
                    number: number.clone(),
                    columns: columns(mask, catalog),
                };
                self.crm.call(context, &operation).await
            }
            LeadKey::Phone(number) => {
                let mut missing = Error::from(ErrorKind::NotFound(Resource::Lead));
                for form in phone::lookup_forms(number, self.country_code.as_str()) {
                    match self.crm.call(context, &endpoint::GetByPhone(form)).await {
                        Err(error) if is_missing(&error) => missing = error,
                        result => return result,
                    }
                }
                Err(missing)
            }
        }
    }

    /// Sends a write; if its answer gets lost, looks whether it was executed before it is sent again.
    async fn perform(
        &self,
        mut context: RequestContext,
        write: &Arc<WriteRequest>,
        way: Way,
        before: Before,
    ) -> Result<WriteResult> {
        let deadline = context.deadline;
        let mut lost = match before {
            Before::Nothing => None,
            Before::Uncertain { since } => Some(self.loss_before(since)),
        };
        let mut unknown = Error::from(ErrorKind::OutcomeUnknown);
        let (mut sends, mut rejoin): (u32, Option<Rejoin>) = (0, None);
        loop {
            if let Some(loss) = lost {
                let reconciled = self.reconcile(&context, write, loss).await?;
                let may_reconcile = matches!(reconciled, Reconciled::NotDone | Reconciled::NotLookedUp);
                match (reconciled, &mut rejoin) {
                    (Reconciled::Done(written), batch) => {
                        batch.take().into_iter().for_each(Rejoin::executed);
                        return Ok(written);
                    }
                    // A batch that fails as a whole says nothing about this write: it goes with half of the others.
                    (Reconciled::NotDone, Some(_)) => {}
                    (Reconciled::Unseen, Some(batch)) => batch.doubt(),
                    (Reconciled::Unknown | Reconciled::NotLookedUp, Some(batch)) if is_refused(&unknown) => {
                        batch.doubt()
                    }
                    (Reconciled::NotDone, None) if sends < MAX_SENDS && !is_refused(&unknown) => {}
                    (Reconciled::NotDone | Reconciled::Unseen | Reconciled::Unknown | Reconciled::NotLookedUp, _) => {
                        unknown.facts.repeat = may_reconcile.then(|| loss.repeat());
                        break;
                    }
                }
            }
            let started = clock::now();
            // Look-ups go on after the deadline; nothing is sent again after the caller was told that the outcome is unknown.
            let sending = RequestContext {
                deadline,
                ..context.clone()
            };
            let sent = self.send(&sending, write, way, &mut rejoin).await;
            sends = if rejoin.is_some() { 1 } else { sends + 1 };
            match sent {
                Err(error) if error.kind == ErrorKind::OutcomeUnknown => {
                    let loss = self.loss(started, &error).again(lost);
                    context = self.doubted(&context, loss);
                    lost = Some(loss);
                    unknown = error;
                }
                // After a lost answer, the lead in the way may be the one that was made. It proves nothing if it cannot be seen.
                Err(error) if matches!(error.kind, ErrorKind::Duplicate { .. }) && lost.is_some() => {
                    let loss = self.loss(started, &error).again(lost);
                    return match self.reconcile(&context, write, loss).await? {
                        Reconciled::Done(written) => Ok(written),
                        Reconciled::NotDone | Reconciled::NotLookedUp => Err(unknown.settled_by(loss.repeat())),
                        Reconciled::Unseen | Reconciled::Unknown => Err(unknown),
                    };
                }
                // Whatever keeps it from being sent again says nothing about the first time.
                Err(error) if lost.is_some() && !error.is_final() => {
                    unknown.facts = error.facts;
                    unknown.facts.repeat = lost.map(Loss::repeat);
                    break;
                }
                result => return result,
            }
        }
        if is_refused(&unknown) {
            unknown.kind = ErrorKind::Exception;
        }
        Err(unknown)
    }

    async fn send(
        &self,
        context: &RequestContext,
        write: &Arc<WriteRequest>,
        way: Way,
        rejoin: &mut Option<Rejoin>,
    ) -> Result<WriteResult> {
        let (clear_with, write) = (self.settings.clear_with, write.clone());
        let result = match &write.action {
            WriteAction::Create => {
                let write = write.clone();
                let operation = endpoint::Create { write, clear_with };
                self.crm.ride_again(way, context, &operation, rejoin).await
            }
            WriteAction::Update { lead_id, .. } => self.update(context, &write, way, lead_id, rejoin).await,
            WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
                self.match_and_write(context, &write, way, rejoin).await
            }
        };
        result.map_err(|mut error| {
            if let ErrorKind::Invalid(violations) = &mut error.kind {
                write.locate(violations);
            }
            error
        })
    }

    async fn update(
        &self,
        context: &RequestContext,
        write: &Arc<WriteRequest>,
        way: Way,
        lead_id: &str,
        rejoin: &mut Option<Rejoin>,
    ) -> Result<WriteResult> {
        let clear_with = self.settings.clear_with;
        let mut write = write.clone();
        loop {
            let operation = endpoint::Update {
                write: write.clone(),
                clear_with,
            };
            let result = self.crm.ride_again(way, context, &operation, rejoin).await;
            let Some(attribute) = result.as_ref().err().and_then(duplicate_attribute) else {
                return result;
            };
            let Some(key) = own_key(&write, attribute).filter(|_| self.settings.own_values_may_clash) else {
                return result;
            };
            let row = match self.find(context, &key, &ReadMask::default(), None).await {
                Err(error) if is_missing(&error) => return result,
                row => row?,
            };
            // Found by its mobile, say, it has the value elsewhere, and the clash is with another lead.
            if !write.attributes.is_held_by(attribute, &row) {
                return result;
            }
            if id_of(&row).is_none_or(|id| fold(id) != fold(lead_id)) {
                return result.map_err(|error| with_lead(error, attribute, &row));
            }
            // Each round leaves out one attribute, so this ends.
            let write = Arc::make_mut(&mut write);
            write.attributes = write.attributes.without(attribute);
            if write.attributes.is_empty() && write.cleared.is_empty() {
                return Ok(WriteResult {
                    lead_id: lead_id.to_owned(),
                    affected_rows: 0,
                    created: Some(false),
                });
            }
        }
    }

    /// Upserts or captures. Without a given attribute to match by, the email address decides, where there is one: LeadSquared
    /// may take the phone for a match, too, and change the email address of somebody else's lead. It refuses a lead whose
    /// phone another lead has; that lead is the one that is meant only where no email address tells the two apart.
    async fn match_and_write(
        &self,
        context: &RequestContext,
        write: &Arc<WriteRequest>,
        way: Way,
        rejoin: &mut Option<Rejoin>,
    ) -> Result<WriteResult> {
        let email = write.attributes.text(EMAIL);
        let by_email = email.as_ref().and_then(|_| write.matched_by(EMAIL));
        let first = by_email.map_or_else(|| write.clone(), Arc::new);
        let result = self.upsert_or_capture(context, first, way, rejoin).await;
        let by = match &result {
            Err(Error {
                kind: ErrorKind::Duplicate { attribute, .. },
                ..
            }) => match attribute.as_deref() {
                Some("Phone") | None => "Phone",
                Some("Mobile") => "Mobile",
                Some(_) => return result,
            },
            _ => return result,
        };
        let Some(phone) = write.attributes.text(by).filter(|_| write.matched_by(by).is_some()) else {
            return result;
        };
        let found = match self
            .find(context, &LeadKey::Phone(phone), &ReadMask::default(), None)
            .await
        {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return result,
            Err(error) => return Err(error),
        };
        let theirs = found.get(EMAIL).and_then(Option::as_deref).map(str::trim);
        let is_same = match (&email, theirs.filter(|theirs| !matches!(*theirs, "" | "-"))) {
            (Some(ours), Some(theirs)) => ours.trim().eq_ignore_ascii_case(theirs),
            (None, _) | (_, None) => true,
        };
        // Found by its mobile, say, it has the value elsewhere, and the clash is with another lead.
        if !write.attributes.is_held_by(by, &found) {
            return result;
        }
        if !is_same {
            return result.map_err(|error| with_lead(error, by, &found));
        }
        // The caller's spelling of the number may be that of a third lead.
        let stored = found.get(by).cloned().flatten().unwrap_or_default();
        match id_of(&found).and_then(|id| write.matched_to(by, id, &stored)) {
            Some(matched) => self.upsert_or_capture(context, Arc::new(matched), way, rejoin).await,
            None => result,
        }
    }

    async fn upsert_or_capture(
        &self,
        context: &RequestContext,
        write: Arc<WriteRequest>,
        way: Way,
        rejoin: &mut Option<Rejoin>,
    ) -> Result<WriteResult> {
        let clear_with = self.settings.clear_with;
        if matches!(write.action, WriteAction::Capture { .. }) {
            return self.crm.call(context, &endpoint::Capture { write, clear_with }).await;
        }
        let operation = endpoint::CreateOrUpdate { write, clear_with };
        self.crm.ride_again(way, context, &operation, rejoin).await
    }
}

/// The lead's id.
pub(super) fn id_of(row: &RawFields) -> Option<&str> {
    row.get(LEAD_ID)?.as_deref()
}

/// Whether an error page says that the request itself is refused. Unless the write is found to be executed, it was not.
pub(super) fn is_refused(error: &Error) -> bool {
    let is_client_error = matches!(error.facts.upstream_status, Some(400..=499));
    error.facts.is_page && is_client_error && error.facts.upstream_status != Some(408)
}

/// Whether it says that there is no such lead.
pub(super) fn is_missing(error: &Error) -> bool {
    error.kind == ErrorKind::NotFound(Resource::Lead)
}

pub(super) fn fold(id: &str) -> String {
    id.to_ascii_lowercase()
}

fn duplicate_attribute(error: &Error) -> Option<&'static str> {
    match &error.kind {
        ErrorKind::Duplicate { attribute, .. } => ["EmailAddress", "Phone", "Mobile"]
            .into_iter()
            .find(|name| attribute.as_deref() == Some(name)),
        _ => None,
    }
}

/// The key by which the lead that has the write's own value of the attribute can be looked up.
pub(super) fn own_key(write: &WriteRequest, attribute: &str) -> Option<LeadKey> {
    let value = write.attributes.text(attribute)?;
    Some(match attribute {
        "EmailAddress" => LeadKey::Email(value),
        _ => LeadKey::Phone(value),
    })
}

pub(super) fn with_lead(mut error: Error, by: &str, row: &RawFields) -> Error {
    if let ErrorKind::Duplicate { attribute, lead_id } = &mut error.kind {
        *attribute = Some(by.to_owned());
        *lead_id = id_of(row).map(str::to_owned);
    }
    error
}

pub(super) fn columns(mask: &ReadMask, catalog: Option<&Catalog>) -> Vec<String> {
    match catalog {
        Some(catalog) => mask.columns(catalog.names()),
        None => mask.columns(endpoint::standard_columns()),
    }
}

fn check_ids(ids: &[String]) -> Vec<Violation> {
    if ids.is_empty() || ids.len() > MAX_IDS {
        let text = format!("must be 1 to {MAX_IDS} ids; there are {}", ids.len());
        return vec![Violation::new("lead_ids", text)];
    }
    ids.iter()
        .enumerate()
        .filter_map(|(i, id)| crate::domain::lead::check_id(&format!("lead_ids[{i}]"), id))
        .collect()
}

/// How long the values of a lead are.
fn value_bytes(row: &RawFields) -> usize {
    row.values().flatten().map(String::len).sum()
}
