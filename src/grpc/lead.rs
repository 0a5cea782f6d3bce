//! LeadService: reads the message, asks the gateway, puts the answer. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tonic::{Request, Streaming};
use uuid::Uuid;

use super::bulk;
use super::convert;
use super::mutation::{self, Mutation};
use super::rpc::{Rpc, RpcResult, StatusBuilder, StreamResult};
use super::size::{Room, item_bytes};
use super::{ServerContext, pb, removal, search};
use crate::context::{RequestContext, RequestId};
use crate::domain::lead::{Action, Behavior, Key, Write, Written, check_id, check_number, schema_name};
use crate::domain::mask::Mask;
use crate::domain::{email, phone};
use crate::error::{ErrorKind, Result, Violation};
use crate::gateway::{BatchGetResult, Gateway, WriteEntry, WriteMode};

/// LeadService.
pub(super) struct Service {
    server: ServerContext,
}

impl Service {
    pub(super) fn new(server: ServerContext) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl pb::lead_service_server::LeadService for Service {
    async fn create_lead(&self, request: Request<pb::CreateLeadRequest>) -> RpcResult<pb::CreateLeadResponse> {
        let work = |rpc, _| async { write(rpc).await.map(Into::into) };
        self.server.respond(request, work).await
    }

    async fn update_lead(&self, request: Request<pb::UpdateLeadRequest>) -> RpcResult<pb::UpdateLeadResponse> {
        let work = |rpc, _| async { write(rpc).await.map(Into::into) };
        self.server.respond(request, work).await
    }

    async fn upsert_lead(&self, request: Request<pb::UpsertLeadRequest>) -> RpcResult<pb::UpsertLeadResponse> {
        let work = |rpc, _| async { write(rpc).await.map(Into::into) };
        self.server.respond(request, work).await
    }

    async fn capture_lead(&self, request: Request<pb::CaptureLeadRequest>) -> RpcResult<pb::CaptureLeadResponse> {
        let work = |rpc, _| async {
            let written = write(rpc).await?;
            Ok(pb::CaptureLeadResponse {
                lead_id: written.lead_id,
                created: written.created.unwrap_or_default(),
            })
        };
        self.server.respond(request, work).await
    }

    async fn get_lead(&self, request: Request<pb::GetLeadRequest>) -> RpcResult<pb::GetLeadResponse> {
        let work = |rpc: Rpc<pb::GetLeadRequest>, _| async move {
            let message = rpc.message;
            let mut violations = Vec::new();
            let key = key(message.key).map_err(|fault| violations.push(fault));
            let mask = mask(message.read_mask, &mut violations);
            let max_staleness = message.max_staleness.map(Duration::try_from).transpose();
            let max_staleness = max_staleness.unwrap_or_else(|_| {
                violations.push(Violation::new("max_staleness", "must not be negative"));
                None
            });
            let Ok(key) = key else {
                return Err(ErrorKind::Invalid(violations).into());
            };
            if !violations.is_empty() {
                return Err(ErrorKind::Invalid(violations).into());
            }
            let lead = rpc.gateway.get_lead(&rpc.context, &key, &mask, max_staleness).await?;
            Ok(pb::GetLeadResponse {
                lead: Some(convert::lead(lead)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn batch_get_leads(
        &self,
        request: Request<pb::BatchGetLeadsRequest>,
    ) -> RpcResult<pb::BatchGetLeadsResponse> {
        let work = |rpc: Rpc<pb::BatchGetLeadsRequest>, status_builder: StatusBuilder| async move {
            let mut violations = Vec::new();
            let mask = mask(rpc.message.read_mask, &mut violations);
            if !violations.is_empty() {
                return Err(ErrorKind::Invalid(violations).into());
            }
            let ids = &rpc.message.lead_ids;
            let enough = status_builder.room().bytes();
            let read = rpc.gateway.batch_get_leads(&rpc.context, ids, &mask, enough).await?;
            found(read, status_builder.room())
        };
        self.server.respond(request, work).await
    }

    async fn batch_create_leads(
        &self,
        request: Request<pb::BatchCreateLeadsRequest>,
    ) -> RpcResult<pb::BatchCreateLeadsResponse> {
        self.server.respond(request, bulk::write_all).await
    }

    async fn batch_update_leads(
        &self,
        request: Request<pb::BatchUpdateLeadsRequest>,
    ) -> RpcResult<pb::BatchUpdateLeadsResponse> {
        self.server.respond(request, bulk::write_all).await
    }

    async fn batch_upsert_leads(
        &self,
        request: Request<pb::BatchUpsertLeadsRequest>,
    ) -> RpcResult<pb::BatchUpsertLeadsResponse> {
        self.server.respond(request, bulk::write_all).await
    }

    async fn search_leads(&self, request: Request<pb::SearchLeadsRequest>) -> RpcResult<pb::SearchLeadsResponse> {
        self.server.respond(request, search::search).await
    }

    async fn quick_search_leads(
        &self,
        request: Request<pb::QuickSearchLeadsRequest>,
    ) -> RpcResult<pb::QuickSearchLeadsResponse> {
        self.server.respond(request, |rpc, _| search::quick_search(rpc)).await
    }

    async fn list_modified_leads(
        &self,
        request: Request<pb::ListModifiedLeadsRequest>,
    ) -> RpcResult<pb::ListModifiedLeadsResponse> {
        self.server.respond(request, search::list_modified).await
    }

    async fn delete_lead(&self, request: Request<pb::DeleteLeadRequest>) -> RpcResult<pb::DeleteLeadResponse> {
        self.server.respond(request, |rpc, _| removal::delete(rpc)).await
    }

    async fn merge_leads(&self, request: Request<pb::MergeLeadsRequest>) -> RpcResult<pb::MergeLeadsResponse> {
        self.server.respond(request, |rpc, _| removal::merge(rpc)).await
    }

    type ImportLeadsStream = super::rpc::ResponseStream<pb::ImportLeadsResponse>;

    async fn import_leads(
        &self,
        request: Request<Streaming<pb::ImportLeadsRequest>>,
    ) -> StreamResult<pb::ImportLeadsResponse> {
        self.server.stream(request, bulk::import).await
    }

    type ExportLeadsStream = super::rpc::ResponseStream<pb::ExportLeadsResponse>;

    async fn export_leads(&self, request: Request<pb::ExportLeadsRequest>) -> StreamResult<pb::ExportLeadsResponse> {
        self.server.stream(request, search::export).await
    }

    async fn describe_lead_fields(
        &self,
        request: Request<pb::DescribeLeadFieldsRequest>,
    ) -> RpcResult<pb::DescribeLeadFieldsResponse> {
        let work = |rpc: Rpc<pb::DescribeLeadFieldsRequest>, _| async move {
            let catalog = rpc.gateway.describe_fields(&rpc.context).await?;
            let names = &rpc.message.schema_names;
            let unknown: Vec<_> = names
                .iter()
                .enumerate()
                .filter(|(_, name)| catalog.lacks(schema_name(name)))
                .map(|(i, _)| Violation::new(format!("schema_names[{i}]"), "the account has no such attribute"))
                .collect();
            if !unknown.is_empty() {
                return Err(ErrorKind::Invalid(unknown).into());
            }
            let is_asked = |name: &str| names.iter().any(|rpc| schema_name(rpc).eq_ignore_ascii_case(name));
            let fields = catalog
                .fields
                .iter()
                .filter(|field| names.is_empty() || is_asked(&field.schema_name));
            let unreadable = catalog
                .unreadable
                .iter()
                .filter(|one| names.is_empty() || one.id.as_deref().is_none_or(is_asked));
            Ok(pb::DescribeLeadFieldsResponse {
                fields: fields
                    .map(|field| convert::field(field, rpc.gateway.unique_attributes()))
                    .collect(),
                fetch_time: Some(convert::timestamp(catalog.fetched)),
                unreadable: convert::unreadable(unreadable),
            })
        };
        self.server.respond(request, work).await
    }
}

/// A request that writes a lead.
pub(super) trait Writes: Mutation {
    /// Whether the message is only to be checked.
    fn validate_only(&self) -> bool;
    /// The write that is asked for.
    fn into_write(self) -> Write;
}

impl Writes for pb::CreateLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> Write {
        convert::write(Action::Create, self.lead)
    }
}

impl Writes for pb::UpdateLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> Write {
        let action = Action::Update {
            lead_id: self.lead_id,
            run_automations: self.run_automations,
        };
        let mut write = convert::write(action, self.lead);
        write.cleared = self
            .clear_fields
            .iter()
            .map(|name| schema_name(name).to_owned())
            .collect();
        write
    }
}

impl Writes for pb::UpsertLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> Write {
        let action = Action::Upsert {
            match_by: convert::match_by(&self.match_by),
            run_automations: self.run_automations,
        };
        convert::write(action, self.lead)
    }
}

impl Writes for pb::CaptureLeadRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self) -> Write {
        let behavior = match pb::UpdateBehavior::try_from(self.update_behavior) {
            Ok(pb::UpdateBehavior::Unspecified) => Some(Behavior::Update),
            Ok(pb::UpdateBehavior::DoNotUpdate) => Some(Behavior::DoNotUpdate),
            Ok(pb::UpdateBehavior::UpdateOnlyEmptyFields) => Some(Behavior::UpdateOnlyEmptyFields),
            Ok(pb::UpdateBehavior::DoNotUpdateUniqueFields) => Some(Behavior::DoNotUpdateUniqueFields),
            Err(_) => None,
        };
        let action = Action::Capture {
            match_by: convert::match_by(&self.match_by),
            behavior: behavior.unwrap_or(Behavior::DoNotUpdate),
        };
        let mut write = convert::write(action, self.lead);
        if behavior.is_none() {
            let text = "is not one of the values that this version knows";
            write.faults.push(Violation::new("update_behavior", text));
        }
        write
    }
}

/// A write as its message asks for it.
pub(super) struct Read {
    write: Write,
    request: Option<RequestId>,
    validate_only: bool,
}

impl Read {
    pub(super) fn of<M: Writes>(mut message: M) -> Self {
        let mut faults = Vec::new();
        let request = mutation::request_id(&mut message, &mut faults);
        Self::with(message, request, faults)
    }

    fn with<M: Writes>(message: M, request: Option<RequestId>, faults: Vec<Violation>) -> Self {
        let validate_only = message.validate_only();
        let mut write = message.into_write();
        write.faults.extend(faults);
        Self {
            write,
            request,
            validate_only,
        }
    }

    /// The request id of the message.
    pub(super) fn request_id(&self) -> Option<Uuid> {
        self.request.map(|request| request.id)
    }

    /// Takes its place among the writes, at once; a message that is only to be checked needs none.
    pub(super) fn enter(self, gateway: &Gateway) -> Entered {
        let entry = (!self.validate_only).then(|| gateway.enter_write(&self.write, self.request));
        Entered {
            write: self.write,
            entry,
        }
    }
}

/// A write that has its place, or is only to be checked.
pub(super) struct Entered {
    write: Write,
    entry: Option<WriteEntry>,
}

impl Entered {
    /// Checks a write, and makes it unless it was only to be checked.
    pub(super) async fn make(
        mut self,
        gateway: &Arc<Gateway>,
        context: &RequestContext,
        mode: WriteMode,
    ) -> Result<Option<Written>> {
        match self.entry {
            Some(entry) => gateway.write(context, self.write, mode, entry).await.map(Some),
            None => gateway.validate(context, &mut self.write).await.map(|()| None),
        }
    }
}

/// Makes one write.
async fn write<M: Writes>(mut rpc: Rpc<M>) -> Result<Written> {
    let mut faults = Vec::new();
    let request = rpc.request_id(&mut faults);
    let Rpc {
        gateway,
        context,
        message,
        arrival,
        ..
    } = rpc;
    let read = Read::with(message, request, faults);
    let entered = arrival.take(&context, || read.enter(&gateway)).await?;
    let written = entered.make(&gateway, &context, WriteMode::Single).await?;
    Ok(written.unwrap_or_default())
}

/// As many of the leads as fit; the ids of the others are left to be asked for again.
fn found(read: BatchGetResult, room: Room) -> Result<pb::BatchGetLeadsResponse> {
    let leads: Vec<_> = read.leads.into_iter().map(convert::lead).collect();
    let id_bytes = |id: &String| item_bytes(id.len());
    // Each lead is there with itself or with its id.
    let ids = read.missing.iter().chain(&read.unread);
    let ids = ids.chain(leads.iter().map(|lead| &lead.lead_id));
    let mut used: usize = ids.map(id_bytes).sum();
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for lead in leads {
        let (whole, id) = (item_bytes(lead.encoded_len()), id_bytes(&lead.lead_id));
        if used - id + whole <= room.bytes() {
            used += whole;
            used -= id;
            fitting.push(lead);
        } else {
            others.push((whole, lead.lead_id));
        }
    }
    // Asking again must come to an end.
    if let (true, Some((bytes, id))) = (fitting.is_empty(), others.iter().min()) {
        return Err(room.too_large(used + bytes, Some(id)));
    }
    Ok(pb::BatchGetLeadsResponse {
        leads: fitting,
        missing_lead_ids: read.missing,
        remaining_lead_ids: others.into_iter().map(|(_, id)| id).chain(read.unread).collect(),
        unreadable: convert::unreadable(&read.unreadable),
    })
}

fn key(key: Option<pb::get_lead_request::Key>) -> std::result::Result<Key, Violation> {
    use pb::get_lead_request::Key as Rpc;
    let checked = |field: &str, text: String, violation: fn(&str) -> Option<String>| match violation(&text) {
        Some(fault) => Err(Violation::new(field, fault)),
        None => Ok(text),
    };
    match key {
        None => Err(Violation::new(
            "key",
            "one of lead_id, lead_number, email_address and phone is required",
        )),
        Some(Rpc::LeadId(id)) => match check_id("lead_id", &id) {
            Some(fault) => Err(fault),
            None => Ok(Key::Id(id)),
        },
        Some(Rpc::LeadNumber(number)) => match check_number("lead_number", &number) {
            Some(fault) => Err(fault),
            None => Ok(Key::Number(number)),
        },
        Some(Rpc::EmailAddress(address)) => checked("email_address", address, email::violation).map(Key::Email),
        Some(Rpc::Phone(number)) => checked("phone", number, phone::violation).map(Key::Phone),
    }
}

pub(super) fn mask(mask: Option<prost_types::FieldMask>, violations: &mut Vec<Violation>) -> Mask {
    let paths = mask.unwrap_or_default().paths;
    Mask::parse(&paths).unwrap_or_else(|faults| {
        violations.extend(faults);
        Mask::default()
    })
}
