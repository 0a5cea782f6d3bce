//! The handlers of ActivityService.

use tonic::Request;

use super::mutation::Mutation;
use super::page::{self, PagePosition};
use super::rpc::{Rpc, RpcResult, ServerContext, StatusBuilder};
use super::violations::Violations;
use super::{convert, pb};
use crate::clock;
use crate::domain::activity::{Activity, ActivityPage, ActivityTarget, ActivityWriteRequest, NOTE, OWNER, STATUS};
use crate::domain::lead::check_id;
use crate::domain::value::Value;
use crate::error::{Error, Result};
use crate::gateway::{Gateway, RetrieveModifiedActivities};

/// The handlers of ActivityService.
pub(super) struct ActivityHandlers {
    pub(super) server: ServerContext,
}

#[tonic::async_trait]
impl pb::activity_service_server::ActivityService for ActivityHandlers {
    async fn post_activity(&self, request: Request<pb::PostActivityRequest>) -> RpcResult<pb::PostActivityResponse> {
        let handler = |rpc: Rpc<pb::PostActivityRequest>, _| async move {
            let activity_id = write(rpc).await?;
            Ok(pb::PostActivityResponse { activity_id })
        };
        self.server.respond(request, handler).await
    }

    async fn update_activity(
        &self,
        request: Request<pb::UpdateActivityRequest>,
    ) -> RpcResult<pb::UpdateActivityResponse> {
        let handler = |rpc: Rpc<pb::UpdateActivityRequest>, _| async move {
            let activity_id = write(rpc).await?;
            Ok(pb::UpdateActivityResponse { activity_id })
        };
        self.server.respond(request, handler).await
    }

    async fn get_activity(&self, request: Request<pb::GetActivityRequest>) -> RpcResult<pb::GetActivityResponse> {
        let handler = |rpc: Rpc<pb::GetActivityRequest>, _| async move {
            let pb::GetActivityRequest { activity_id: id } = rpc.message;
            let mut violations = Violations::default();
            violations.extend(check_id("activity_id", &id));
            violations.none()?;
            let found = rpc.gateway.get_activity(&rpc.context, &id).await?;
            Ok(pb::GetActivityResponse {
                activity: Some(activity(found)),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn list_lead_activities(
        &self,
        request: Request<pb::ListLeadActivitiesRequest>,
    ) -> RpcResult<pb::ListLeadActivitiesResponse> {
        let handler = |rpc: Rpc<pb::ListLeadActivitiesRequest>, status_builder: StatusBuilder| async move {
            let pb::ListLeadActivitiesRequest {
                lead_id,
                activity_type,
                page_size,
                page_token,
            } = rpc.message;
            let mut violations = Violations::default();
            violations.extend(check_id("lead_id", &lead_id));
            violations.none()?;
            let size = page::size(page_size, 25)?;
            let start = PagePosition::parse(&page_token, size)?;
            let code = code(activity_type)?;
            let found = rpc
                .gateway
                .lead_activities(&rpc.context, &lead_id, code, start.number, start.size)
                .await?;
            let next = next_page(&found, start);
            let of_lead = |found| pb::Activity {
                lead_id: lead_id.clone(),
                ..activity(found)
            };
            let mut activities = found.activities.map(of_lead);
            let budget = status_builder.budget();
            let next = page::cut(start, &mut activities, |activities| budget.count_fitting(activities))?.or(next);
            Ok(pb::ListLeadActivitiesResponse {
                activities: activities.records,
                next_page_token: next.map(|next| next.token(size)).unwrap_or_default(),
                unreadable: convert::unreadable(&activities.unreadable),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn list_activities(
        &self,
        request: Request<pb::ListActivitiesRequest>,
    ) -> RpcResult<pb::ListActivitiesResponse> {
        let handler = |rpc: Rpc<pb::ListActivitiesRequest>, status_builder: StatusBuilder| async move {
            let pb::ListActivitiesRequest {
                start_time,
                end_time,
                activity_type,
                page_size,
                page_token,
            } = rpc.message;
            let mut violations = Violations::default();
            violations.require(start_time.is_some(), "start_time", "is required");
            let from = convert::time(start_time, "start_time", &mut violations);
            let to = convert::time(end_time, "end_time", &mut violations).unwrap_or_else(clock::now);
            let is_ordered = from.is_none_or(|from| from <= to);
            violations.require(is_ordered, "end_time", "must not be before start_time");
            let from = violations.finish(|| from)?;
            let size = page::size(page_size, 100)?;
            let start = PagePosition::parse(&page_token, size)?;
            let modified = RetrieveModifiedActivities {
                from,
                to,
                code: code(activity_type)?,
                page: start.number + 1,
                count: start.size,
            };
            let found = rpc.gateway.modified_activities(&rpc.context, &modified).await?;
            let next = next_page(&found, start);
            let mut activities = found.activities.map(activity);
            let budget = status_builder.budget();
            let next = page::cut(start, &mut activities, |activities| budget.count_fitting(activities))?.or(next);
            Ok(pb::ListActivitiesResponse {
                activities: activities.records,
                next_page_token: next.map(|next| next.token(size)).unwrap_or_default(),
                unreadable: convert::unreadable(&activities.unreadable),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn list_activity_types(
        &self,
        request: Request<pb::ListActivityTypesRequest>,
    ) -> RpcResult<pb::ListActivityTypesResponse> {
        let handler = |rpc: Rpc<pb::ListActivityTypesRequest>, _| async move {
            let types = rpc.gateway.activity_types(&rpc.context).await?;
            let activity_types = types.records.iter().map(|known| pb::ActivityType {
                activity_type: known.code,
                name: known.name.clone(),
            });
            Ok(pb::ListActivityTypesResponse {
                activity_types: activity_types.collect(),
                unreadable: convert::unreadable(&types.unreadable),
            })
        };
        self.server.respond(request, handler).await
    }
}

/// A request message that writes one activity.
trait ActivityMessage: Mutation {
    fn validate_only(&self) -> bool;
    fn into_write(self, violations: Violations) -> ActivityWriteRequest;
}

impl ActivityMessage for pb::PostActivityRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self, mut violations: Violations) -> ActivityWriteRequest {
        let Self {
            lead_id,
            activity_type,
            note,
            activity_time,
            owner_id,
            fields,
            request_id: _,
            validate_only: _,
        } = self;
        ActivityWriteRequest {
            target: ActivityTarget::Lead(lead_id),
            code: activity_type,
            note: Some(note).filter(|note| !note.is_empty()),
            at: convert::time(activity_time, "activity_time", &mut violations),
            owner_id,
            fields: convert::activity_fields(fields, &mut violations),
            violations: violations.into(),
        }
    }
}

impl ActivityMessage for pb::UpdateActivityRequest {
    fn validate_only(&self) -> bool {
        self.validate_only
    }

    fn into_write(self, mut violations: Violations) -> ActivityWriteRequest {
        let Self {
            activity_id,
            activity_type,
            note,
            owner_id,
            fields,
            request_id: _,
            validate_only: _,
        } = self;
        ActivityWriteRequest {
            target: ActivityTarget::Activity(activity_id),
            code: activity_type,
            note,
            at: None,
            owner_id,
            fields: convert::activity_fields(fields, &mut violations),
            violations: violations.into(),
        }
    }
}

/// Executes the write of an activity, or only checks it. Returns the id of the activity, empty if it was only checked.
async fn write<M: ActivityMessage>(mut rpc: Rpc<M>) -> Result<String> {
    let mut violations = Violations::default();
    let request = rpc.request_id(&mut violations);
    let Rpc {
        gateway,
        context,
        message,
        write_turn,
        ..
    } = rpc;
    let validate_only = message.validate_only();
    let write = message.into_write(violations);
    if validate_only {
        context.audit.set_validate_only();
        Gateway::validate_post(&context, &write)?;
        return Ok(String::new());
    }
    let entry = write_turn
        .enter(&context, || gateway.enter_post(&write, request))
        .await?;
    gateway.post(&context, write, entry).await
}

fn code(code: i32) -> Result<Option<i32>> {
    match code {
        0 => Ok(None),
        1.. => Ok(Some(code)),
        _ => Err(Error::invalid(
            "activity_type",
            "must be 0 or the code of an activity type",
        )),
    }
}

/// Returns the start of the next page, if there is one. If LeadSquared returns no total, a full page may have a next page.
fn next_page(page: &ActivityPage, start: PagePosition) -> Option<PagePosition> {
    let listed = &page.activities;
    // A page with an unknown number of activities counts as full.
    let count = match listed.is_count_uncertain {
        true => start.size,
        false => listed.count(),
    };
    let end = start.number * start.size + count;
    let has_more = page.total.map_or(count >= start.size, |total| end < total);
    (has_more && count > 0).then(|| start.next())
}

fn activity(found: Activity) -> pb::Activity {
    let Activity {
        id,
        lead_id,
        code,
        type_name,
        created,
        modified,
        mut fields,
    } = found;
    let mut take = |name: &str| fields.remove(name).flatten().unwrap_or_default();
    pb::Activity {
        note: take(NOTE),
        owner_id: take(OWNER),
        status: take(STATUS),
        activity_id: id,
        lead_id,
        activity_type: code,
        type_name,
        create_time: created.map(convert::timestamp),
        update_time: modified.map(convert::timestamp),
        fields: fields
            .into_iter()
            .filter_map(|(name, text)| Some((name, convert::field_value(Value::Text(text?)))))
            .collect(),
    }
}
