//! LeadService: reads the message, asks the gateway, puts the answer. Decides nothing.

use tonic::Request;

use super::asked::{Answer, Asked};
use super::convert;
use super::mutation::Mutation;
use super::{Context, pb};
use crate::domain::lead::{Action, Behavior, Key, Write, Written, check_id, schema_name};
use crate::domain::mask::Mask;
use crate::error::{Kind, Result, Violation};

/// LeadService.
pub(super) struct Service {
    context: Context,
}

impl Service {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl pb::lead_service_server::LeadService for Service {
    async fn create_lead(&self, request: Request<pb::CreateLeadRequest>) -> Answer<pb::CreateLeadResponse> {
        let work = |asked, _| async {
            let written = write(asked).await?.unwrap_or_default();
            Ok(pb::CreateLeadResponse {
                lead_id: written.lead_id,
            })
        };
        self.context.answer(request, work).await
    }

    async fn update_lead(&self, request: Request<pb::UpdateLeadRequest>) -> Answer<pb::UpdateLeadResponse> {
        let work = |asked, _| async {
            let written = write(asked).await?.unwrap_or_default();
            Ok(pb::UpdateLeadResponse {
                affected_rows: written.affected_rows,
            })
        };
        self.context.answer(request, work).await
    }

    async fn upsert_lead(&self, request: Request<pb::UpsertLeadRequest>) -> Answer<pb::UpsertLeadResponse> {
        let work = |asked, _| async {
            let written = write(asked).await?.unwrap_or_default();
            let outcome = match written.created {
                None => pb::UpsertOutcome::Unspecified,
                Some(true) => pb::UpsertOutcome::Created,
                Some(false) => pb::UpsertOutcome::Updated,
            };
            Ok(pb::UpsertLeadResponse {
                lead_id: written.lead_id,
                outcome: outcome.into(),
            })
        };
        self.context.answer(request, work).await
    }

    async fn capture_lead(&self, request: Request<pb::CaptureLeadRequest>) -> Answer<pb::CaptureLeadResponse> {
        let work = |asked, _| async {
            let written = write(asked).await?.unwrap_or_default();
            Ok(pb::CaptureLeadResponse {
                lead_id: written.lead_id,
                created: written.created.unwrap_or_default(),
            })
        };
        self.context.answer(request, work).await
    }

    async fn get_lead(&self, request: Request<pb::GetLeadRequest>) -> Answer<pb::GetLeadResponse> {
        let work = |asked: Asked<pb::GetLeadRequest>, _| async move {
            let message = asked.message;
            let mut violations = Vec::new();
            let key = key(message.key).map_err(|fault| violations.push(fault));
            let mask = mask(message.read_mask, &mut violations);
            if message
                .max_staleness
                .is_some_and(|age| age.seconds < 0 || age.nanos < 0)
            {
                violations.push(Violation::new("max_staleness", "must not be negative"));
            }
            let Ok(key) = key else {
                return Err(Kind::Invalid(violations).into());
            };
            if !violations.is_empty() {
                return Err(Kind::Invalid(violations).into());
            }
            let lead = asked.gateway.get_lead(&asked.call, &key, &mask).await?;
            Ok(pb::GetLeadResponse {
                lead: Some(convert::lead(lead)),
            })
        };
        self.context.answer(request, work).await
    }

    async fn batch_get_leads(&self, request: Request<pb::BatchGetLeadsRequest>) -> Answer<pb::BatchGetLeadsResponse> {
        let work = |asked: Asked<pb::BatchGetLeadsRequest>, _| async move {
            let mut violations = Vec::new();
            let mask = mask(asked.message.read_mask, &mut violations);
            if !violations.is_empty() {
                return Err(Kind::Invalid(violations).into());
            }
            let ids = &asked.message.lead_ids;
            let (leads, missing_lead_ids) = asked.gateway.batch_get_leads(&asked.call, ids, &mask).await?;
            Ok(pb::BatchGetLeadsResponse {
                leads: leads.into_iter().map(convert::lead).collect(),
                missing_lead_ids,
            })
        };
        self.context.answer(request, work).await
    }

    async fn describe_lead_fields(
        &self,
        request: Request<pb::DescribeLeadFieldsRequest>,
    ) -> Answer<pb::DescribeLeadFieldsResponse> {
        let work = |asked: Asked<pb::DescribeLeadFieldsRequest>, _| async move {
            let catalog = asked.gateway.describe_fields(&asked.call).await?;
            let names = &asked.message.schema_names;
            let unknown: Vec<_> = names
                .iter()
                .enumerate()
                .filter(|(_, name)| catalog.get(schema_name(name)).is_none())
                .map(|(i, _)| Violation::new(format!("schema_names[{i}]"), "the account has no such attribute"))
                .collect();
            if !unknown.is_empty() {
                return Err(Kind::Invalid(unknown).into());
            }
            let is_asked = |name: &str| names.iter().any(|asked| schema_name(asked).eq_ignore_ascii_case(name));
            let fields = catalog
                .fields
                .iter()
                .filter(|field| names.is_empty() || is_asked(&field.schema_name));
            Ok(pb::DescribeLeadFieldsResponse {
                fields: fields.map(convert::field).collect(),
                fetch_time: Some(convert::timestamp(catalog.fetched)),
            })
        };
        self.context.answer(request, work).await
    }
}

/// A request that writes a lead.
trait Writes: Mutation {
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

/// Checks a write, and makes it unless it was only to be checked.
async fn write<M: Writes>(mut asked: Asked<M>) -> Result<Option<Written>> {
    let mut faults = Vec::new();
    let request = asked.request_id(&mut faults);
    let Asked { gateway, call, message } = asked;
    let validate_only = message.validate_only();
    let mut write = message.into_write();
    write.faults.extend(faults);
    if validate_only {
        gateway.validate(&call, &write).await?;
        return Ok(None);
    }
    gateway.write(&call, write, request).await.map(Some)
}

fn key(key: Option<pb::get_lead_request::Key>) -> std::result::Result<Key, Violation> {
    use pb::get_lead_request::Key as Asked;
    let some = |field: &str, text: String| {
        if text.trim().is_empty() {
            return Err(Violation::new(field, "must not be empty"));
        }
        Ok(text.trim().to_owned())
    };
    match key {
        None => Err(Violation::new(
            "key",
            "one of lead_id, lead_number, email_address and phone is required",
        )),
        Some(Asked::LeadId(id)) => match check_id("lead_id", &id) {
            Some(fault) => Err(fault),
            None => Ok(Key::Id(id)),
        },
        Some(Asked::LeadNumber(number)) if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) => {
            Err(Violation::new("lead_number", "must be digits"))
        }
        Some(Asked::LeadNumber(number)) => Ok(Key::Number(number)),
        Some(Asked::EmailAddress(email)) => some("email_address", email).map(Key::Email),
        Some(Asked::Phone(phone)) if !phone.bytes().any(|b| b.is_ascii_digit()) => {
            Err(Violation::new("phone", "must have digits"))
        }
        Some(Asked::Phone(phone)) => some("phone", phone).map(Key::Phone),
    }
}

fn mask(mask: Option<prost_types::FieldMask>, violations: &mut Vec<Violation>) -> Mask {
    let paths = mask.unwrap_or_default().paths;
    Mask::parse(&paths).unwrap_or_else(|faults| {
        violations.extend(faults);
        Mask::default()
    })
}
