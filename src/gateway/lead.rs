//! Writes of leads, executed once, and reads of leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::fields::{
    FieldCheck, hide_in_paths, hides_any, named_hidden_paths, visible_error, visible_lead, visible_violations,
};
use super::lookup::{columns, fold, id_of, is_missing, own_key, with_lead};
use super::reconcile::LookupResult;
use super::{Gateway, WriteEntry, or_invalid};
use crate::audit::AuditSubject;
use crate::context::{RequestContext, RequestId};
use crate::crm::batch::{BatchMode, LostMember};
use crate::crm::lead as endpoint;
use crate::crm::lost::LostWrite;
use crate::crm::retry::{ReconcilableWrite, Reconciled};
use crate::domain::check;
use crate::domain::lead::{EMAIL, Lead, LeadKey, RawFields, WriteAction, WriteRequest, WriteResult};
use crate::domain::listed::Unreadable;
use crate::domain::mask::ReadMask;
use crate::domain::value::Value;
use crate::error::{Error, ErrorKind, Outcome, Recovery, Result, Violation};
use crate::store::PriorAttempt;

/// Maximum number of ids in one read, from LeadSquared's documentation.
const MAX_IDS: usize = 10_000;

/// Whether a write was requested alone or among many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Alone. A batch is used only if it has the same effects, or if the settings allow other effects.
    Single,
    /// Among many, which use as few calls as possible.
    Bulk,
}

/// The result of a read of many leads. Each id is in one of the lists.
#[derive(Clone, Debug, Default)]
pub struct BatchGetResult {
    /// The leads that were read.
    pub leads: Vec<Lead>,
    /// The ids without a lead.
    pub missing: Vec<String>,
    /// The ids that were not read because the leads before them are long enough.
    pub unread: Vec<String>,
    /// The leads that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

impl Gateway {
    /// Checks a write against the permissions of the caller and the account's metadata. Sends no write to LeadSquared. Spells
    /// the names of attributes as the account does.
    pub async fn validate(&self, context: &RequestContext, write: &mut WriteRequest) -> Result<()> {
        let mut check = FieldCheck::new(context);
        check.write_lead(write);
        check.finish()?;
        let catalog = self.metadata.get_if_available(context).await;
        let rules = check::WriteRules::new(catalog.as_deref(), self.settings.check_options);
        let rules = if hides_any(context) {
            rules.without_suggestions()
        } else {
            rules
        };
        let mut violations = write.check();
        violations.extend(visible_violations(context, rules.set(&write.attributes)));
        violations.extend(rules.cleared(&write.cleared));
        or_invalid(violations)?;
        if let Some(catalog) = catalog {
            write.spell(&catalog);
        }
        Ok(())
    }

    /// Executes a write, once per request id, at the position of `entry`.
    pub async fn write(
        self: &Arc<Self>,
        context: &RequestContext,
        write: WriteRequest,
        mode: WriteMode,
        entry: WriteEntry,
    ) -> Result<WriteResult> {
        let subject = AuditSubject {
            lead_id: match &write.action {
                WriteAction::Update { lead_id, .. } => Some(lead_id.clone()),
                WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. } => None,
            },
            share_id: None,
            fields: write.field_names(),
        };
        let write = |context| async move { self.write_once(&context, write, mode, entry).await };
        context.audited(subject, write).await
    }

    async fn write_once(
        self: &Arc<Self>,
        context: &RequestContext,
        mut write: WriteRequest,
        mode: WriteMode,
        entry: WriteEntry,
    ) -> Result<WriteResult> {
        self.validate(context, &mut write).await?;
        context.audit.set_fields(write.field_names());
        let (gateway, write_context) = (self.clone(), entry.placed(context));
        let caller_context = context.clone();
        let named = named_hidden_paths(context, &write);
        let WriteEntry { reservation, request } = entry;
        let has_id = request.is_some();
        let work = move |before| async move {
            let batch_mode = gateway.batch_mode(&write, mode);
            let write = Arc::new(write);
            let result = gateway.perform(write_context, &write, batch_mode, before).await;
            if let Ok(written) = &result {
                gateway
                    .known_leads
                    .learn(&written.lead_id, write.order_keys().into_iter());
            }
            gateway.invalidate(&result);
            drop(reservation);
            match result {
                Err(error) => Err(gateway.with_duplicate(&caller_context, &write, mode, error).await),
                result => result,
            }
        };
        let written = self.requests.once(context, request, work).await;
        written.map_err(|error| {
            // The stored error may be returned to another caller, too.
            let error = visible_error(context, &named, error);
            self.final_error(context, error, has_id, Recovery::Lead)
        })
    }

    /// Checks that the request id of a batch was not used for another message. Each write of a batch has its own id.
    pub async fn check_request(&self, context: &RequestContext, request: &RequestId) -> Result<()> {
        self.requests.check_batch_id(context, request).await
    }

    /// The context of a batch, which claims the request id of the batch before its first write is sent.
    pub fn claimed(&self, context: &RequestContext, request: &RequestId) -> RequestContext {
        self.requests.with_batch_record(context, request)
    }

    /// Whether the write may be sent in a batch. A bulk call does not start automations, as observed. A single update
    /// does not, either.
    fn batch_mode(&self, write: &WriteRequest, mode: WriteMode) -> BatchMode {
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
            } => return BatchMode::Never,
            WriteAction::Capture { .. } => return BatchMode::Never,
            // The form of field sets in the bulk endpoint is not documented.
            WriteAction::Update { .. } if has_set() => return BatchMode::Never,
            WriteAction::Update { .. } if mode == WriteMode::Bulk => return BatchMode::Opportunistic,
            WriteAction::Update { .. } => self.batching.updates,
            WriteAction::Upsert { .. } => self.batching.upserts,
            WriteAction::Create => self.batching.creates,
        };
        match (is_on, mode) {
            (true, _) => BatchMode::Opportunistic,
            (false, WriteMode::Bulk) => BatchMode::Always,
            (false, WriteMode::Single) => BatchMode::Never,
        }
    }

    /// Invalidates the reads that the write may have changed.
    fn invalidate(&self, result: &Result<WriteResult>) {
        match (result, Outcome::of_mutation(result)) {
            (Ok(written), _) => self.reads.invalidate(Some(&written.lead_id)),
            (Err(_), Outcome::Unknown) => self.reads.invalidate(None),
            (Err(_), Outcome::Executed | Outcome::Rejected | Outcome::NotExecuted { .. }) => {}
        }
    }

    /// Returns one lead. A response that was read before is returned if it is not older than `max_staleness`.
    pub async fn get_lead(
        self: &Arc<Self>,
        context: &RequestContext,
        key: &LeadKey,
        mask: &ReadMask,
        max_staleness: Option<Duration>,
    ) -> Result<Lead> {
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let read = {
            let (gateway, key, mask, catalog) = (self.clone(), key.clone(), mask.clone(), catalog.clone());
            move |context: RequestContext| {
                let (gateway, key, mask, catalog) = (gateway.clone(), key.clone(), mask.clone(), catalog.clone());
                async move { gateway.find(&context, &key, &mask, catalog.as_deref()).await }
            }
        };
        let row = self.reads.get(context, key, mask, max_staleness, read).await;
        let row = row.map_err(|error| visible_error(context, &[], error))?;
        self.known_leads.learn_row(&row);
        let mut lead = visible_lead(context, mask, row, catalog.as_deref());
        if let (LeadKey::Id(id), true) = (key, lead.id.is_empty()) {
            lead.id.clone_from(id);
        }
        Ok(lead)
    }

    /// Returns many leads, in the order of the ids. If LeadSquared needs several pages for them, no further page is read once
    /// the leads have `enough_bytes`.
    pub async fn batch_get_leads(
        &self,
        context: &RequestContext,
        ids: &[String],
        mask: &ReadMask,
        enough_bytes: usize,
    ) -> Result<BatchGetResult> {
        or_invalid(check_ids(ids))?;
        let catalog = self.metadata.get_if_available(context).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let mut distinct = BTreeSet::new();
        let ids: Vec<String> = ids.iter().filter(|id| distinct.insert(fold(id))).cloned().collect();
        let columns = columns(mask, catalog.as_deref());

        let (mut rows, mut bytes) = (BTreeMap::new(), 0);
        let mut is_enough = false;
        let mut unreadable: BTreeMap<String, Unreadable> = BTreeMap::new();
        // Unreadable records without a readable id.
        let mut without_id = Vec::new();
        let mut listed = 0;
        for page in 1.. {
            let operation = endpoint::GetLeadsByIds {
                ids: ids.clone(),
                columns: columns.clone(),
                page,
            };
            let response = self.crm.call(context, &operation).await;
            let response = response.map_err(|error| visible_error(context, &[], error))?;
            let before = rows.len() + unreadable.len();
            let count = response.count();
            bytes += response.records.iter().map(value_bytes).sum::<usize>();
            let records = response.records.into_iter();
            rows.extend(records.filter_map(|row| Some((fold(id_of(&row)?), row))));
            let mut new = Vec::new();
            for mut record in response.unreadable {
                record.position += listed;
                match &record.id {
                    Some(id) => drop(unreadable.insert(fold(id), record)),
                    None => new.push(record),
                }
            }
            listed += count;
            // LeadSquared may return fewer leads than requested, and its count may be the count of the page. So the last page is
            // one without new leads.
            let has_new = rows.len() + unreadable.len() > before;
            if has_new || page == 1 {
                without_id.extend(new);
            }
            if !has_new || rows.len() + unreadable.len() + without_id.len() >= ids.len() {
                break;
            }
            is_enough = bytes >= enough_bytes;
            if is_enough {
                break;
            }
        }
        rows.values().for_each(|row| self.known_leads.learn_row(row));
        let mut result = BatchGetResult::default();
        for id in ids {
            let folded = fold(&id);
            if let Some(row) = rows.remove(&folded) {
                result.leads.push(visible_lead(context, mask, row, catalog.as_deref()));
            } else if let Some(record) = unreadable.remove(&folded) {
                result.unreadable.push(record);
            } else if is_enough {
                result.unread.push(id);
            } else if let Some(record) = without_id.first() {
                // The record may be that of this lead, so the lead is not reported as missing.
                let id = Some(id);
                result.unreadable.push(Unreadable { id, ..record.clone() });
            } else {
                result.missing.push(id);
            }
        }
        hide_in_paths(context, &mut result.unreadable);
        Ok(result)
    }

    async fn perform(
        &self,
        context: RequestContext,
        write: &Arc<WriteRequest>,
        batch_mode: BatchMode,
        before: PriorAttempt,
    ) -> Result<WriteResult> {
        let mut write = LeadWrite {
            gateway: self,
            write,
            batch_mode,
            batch: None,
        };
        let lost = self.begun_before(before);
        self.crm.send_until_known(context, lost, &mut write).await
    }

    async fn send(
        &self,
        context: &RequestContext,
        write: &Arc<WriteRequest>,
        batch_mode: BatchMode,
        batch: &mut Option<LostMember>,
    ) -> Result<WriteResult> {
        let (clear_with, write) = (self.settings.clear_with, write.clone());
        let result = match &write.action {
            WriteAction::Create => {
                let write = write.clone();
                let operation = endpoint::CreateLead { write, clear_with };
                self.crm
                    .call_batched_or_rejoin(batch_mode, context, &operation, batch)
                    .await
            }
            WriteAction::Update { lead_id, .. } => self.update(context, &write, batch_mode, lead_id, batch).await,
            WriteAction::Upsert { .. } | WriteAction::Capture { .. } => {
                self.match_and_write(context, &write, batch_mode, batch).await
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
        batch_mode: BatchMode,
        lead_id: &str,
        batch: &mut Option<LostMember>,
    ) -> Result<WriteResult> {
        let clear_with = self.settings.clear_with;
        let mut write = write.clone();
        loop {
            let operation = endpoint::UpdateLead {
                write: write.clone(),
                clear_with,
            };
            let result = self
                .crm
                .call_batched_or_rejoin(batch_mode, context, &operation, batch)
                .await;
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
            // A phone look-up may find a lead that has the number in another attribute. Then the duplicate is a third lead.
            if !write.attributes.is_held_by(attribute, &row) {
                return result;
            }
            if id_of(&row).is_none_or(|id| fold(id) != fold(lead_id)) {
                return result.map_err(|error| with_lead(error, attribute, &row));
            }
            // Each round removes one attribute, so the loop ends.
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

    /// Upserts or captures. Without a given attribute to match by, the match is by email address, if the write has one.
    /// LeadSquared alone may match by phone, too, and change the email address of another person's lead. If LeadSquared then
    /// rejects the write because another lead has the phone, that lead is updated, unless the two email addresses differ.
    async fn match_and_write(
        &self,
        context: &RequestContext,
        write: &Arc<WriteRequest>,
        batch_mode: BatchMode,
        batch: &mut Option<LostMember>,
    ) -> Result<WriteResult> {
        let email = write.attributes.text(EMAIL);
        let by_email = email.as_ref().and_then(|_| write.matched_by(EMAIL));
        let first = by_email.map_or_else(|| write.clone(), Arc::new);
        let result = self.upsert_or_capture(context, first, batch_mode, batch).await;
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
        let stored_email = found.get(EMAIL).and_then(Option::as_deref).map(str::trim);
        let is_same = match (&email, stored_email.filter(|stored| !matches!(*stored, "" | "-"))) {
            (Some(email), Some(stored)) => email.trim().eq_ignore_ascii_case(stored),
            (None, _) | (_, None) => true,
        };
        // A phone look-up may find a lead that has the number in another attribute. Then the duplicate is a third lead.
        if !write.attributes.is_held_by(by, &found) {
            return result;
        }
        if !is_same {
            return result.map_err(|error| with_lead(error, by, &found));
        }
        // The number as the caller spells it may be that of a third lead.
        let stored = found.get(by).cloned().flatten().unwrap_or_default();
        match id_of(&found).and_then(|id| write.matched_to(by, id, &stored)) {
            Some(matched) => {
                self.upsert_or_capture(context, Arc::new(matched), batch_mode, batch)
                    .await
            }
            None => result,
        }
    }

    async fn upsert_or_capture(
        &self,
        context: &RequestContext,
        write: Arc<WriteRequest>,
        batch_mode: BatchMode,
        batch: &mut Option<LostMember>,
    ) -> Result<WriteResult> {
        let clear_with = self.settings.clear_with;
        if matches!(write.action, WriteAction::Capture { .. }) {
            let operation = endpoint::CaptureLead {
                write,
                clear_with,
                captured_lead_id: self.settings.captured_lead_id,
            };
            return self.crm.call(context, &operation).await;
        }
        let operation = endpoint::CreateOrUpdateLead { write, clear_with };
        self.crm
            .call_batched_or_rejoin(batch_mode, context, &operation, batch)
            .await
    }
}

/// A write in progress.
struct LeadWrite<'a> {
    gateway: &'a Gateway,
    write: &'a Arc<WriteRequest>,
    batch_mode: BatchMode,
    /// The batch that the write was lost with, until the write is sent with it again.
    batch: Option<LostMember>,
}

impl ReconcilableWrite for LeadWrite<'_> {
    type Output = WriteResult;

    async fn send(&mut self, context: &RequestContext) -> Result<WriteResult> {
        self.gateway
            .send(context, self.write, self.batch_mode, &mut self.batch)
            .await
    }

    async fn reconcile(
        &mut self,
        context: &RequestContext,
        lost: LostWrite,
        unknown: &Error,
    ) -> Result<Reconciled<WriteResult>> {
        let found = self.gateway.look_up_write(context, self.write, lost).await?;
        let recovery = found.may_change().then(|| lost.recovery());
        let is_rejected = unknown.details.is_client_error_page();
        Ok(match (found, &mut self.batch) {
            (LookupResult::Executed(written), batch) => {
                batch.take().into_iter().for_each(LostMember::executed);
                Reconciled::Executed(written)
            }
            // The failure of a whole batch says nothing about this write: the write continues with half of the batch.
            (LookupResult::NotExecuted, Some(_)) => Reconciled::ResendWithBatch,
            (LookupResult::Mismatch, Some(batch)) => {
                batch.doubt();
                Reconciled::ResendWithBatch
            }
            (LookupResult::Inconclusive | LookupResult::Failed, Some(batch)) if is_rejected => {
                batch.doubt();
                Reconciled::ResendWithBatch
            }
            (LookupResult::NotExecuted, None) if !is_rejected => Reconciled::NotExecuted,
            (
                LookupResult::NotExecuted | LookupResult::Mismatch | LookupResult::Inconclusive | LookupResult::Failed,
                _,
            ) => Reconciled::Unknown { recovery },
        })
    }

    /// The lost request may have created the other lead.
    fn may_be_own_effect(&self, error: &Error) -> bool {
        matches!(error.kind, ErrorKind::Duplicate { .. })
    }

    async fn reconcile_own_effect(
        &mut self,
        context: &RequestContext,
        _lost: LostWrite,
        resent: LostWrite,
    ) -> Result<Reconciled<WriteResult>> {
        let found = self.gateway.look_up_write(context, self.write, resent).await?;
        let recovery = found.may_change().then(|| resent.recovery());
        Ok(match found {
            LookupResult::Executed(written) => Reconciled::Executed(written),
            // A duplicate that cannot be found proves nothing.
            LookupResult::NotExecuted | LookupResult::Mismatch | LookupResult::Inconclusive | LookupResult::Failed => {
                Reconciled::Unknown { recovery }
            }
        })
    }

    /// If the request itself was rejected and no look-up found the write, the write was not executed.
    fn unknown_outcome(&self, mut unknown: Error) -> Error {
        if unknown.details.is_client_error_page() {
            unknown.kind = ErrorKind::Exception;
        }
        unknown
    }
}

fn duplicate_attribute(error: &Error) -> Option<&'static str> {
    match &error.kind {
        ErrorKind::Duplicate { attribute, .. } => ["EmailAddress", "Phone", "Mobile"]
            .into_iter()
            .find(|name| attribute.as_deref() == Some(name)),
        _ => None,
    }
}

fn check_ids(ids: &[String]) -> Vec<Violation> {
    if ids.is_empty() || ids.len() > MAX_IDS {
        let text = format!("must have 1 to {MAX_IDS} ids; it has {}", ids.len());
        return vec![Violation::new("lead_ids", text)];
    }
    ids.iter()
        .enumerate()
        .filter_map(|(i, id)| crate::domain::lead::check_id(&format!("lead_ids[{i}]"), id))
        .collect()
}

/// The total length of a lead's values.
fn value_bytes(row: &RawFields) -> usize {
    row.values().flatten().map(String::len).sum()
}
