//! ActivityService: reads the message, asks the gateway, puts the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::Request;

use super::page::{self, Place};
use super::rpc::{InOrder, Rpc, RpcResult, StatusBuilder};
use super::{ServerContext, convert, pb};
use crate::clock;
use crate::context::{RequestContext, RequestId};
use crate::domain::activity::{Activity, NOTE, OWNER, Post, STATUS, Target};
use crate::domain::lead::check_id;
use crate::domain::value::Value;
use crate::error::{Error, ErrorKind, Result, Violation};
use crate::gateway::{Gateway, RetrieveModifiedActivities};

/// ActivityService.
pub(super) struct Service {
    server: ServerContext,
}

impl Service {
    pub(super) fn new(server: ServerContext) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl pb::activity_service_server::ActivityService for Service {
    async fn post_activity(&self, request: Request<pb::PostActivityRequest>) -> RpcResult<pb::PostActivityResponse> {
        let work = |mut rpc: Rpc<pb::PostActivityRequest>, _| async move {
            let mut faults = Vec::new();
            let request = rpc.request_id(&mut faults);
            let Rpc {
                gateway,
                context,
                message,
                arrival,
                ..
            } = rpc;
            let validate_only = message.validate_only;
            let at = message
                .activity_time
                .map(|at| convert::moment(at, "activity_time", &mut faults));
            let post = Post {
                target: Target::Lead(message.lead_id),
                code: message.activity_type,
                note: Some(message.note).filter(|note| !note.is_empty()),
                at: at.flatten(),
                owner_id: message.owner_id,
                fields: fields(message.fields, &mut faults),
                faults,
            };
            let activity_id = write(&gateway, &context, arrival, post, request, validate_only).await?;
            Ok(pb::PostActivityResponse { activity_id })
        };
        self.server.respond(request, work).await
    }

    async fn update_activity(
        &self,
        request: Request<pb::UpdateActivityRequest>,
    ) -> RpcResult<pb::UpdateActivityResponse> {
        let work = |mut rpc: Rpc<pb::UpdateActivityRequest>, _| async move {
            let mut faults = Vec::new();
            let request = rpc.request_id(&mut faults);
            let Rpc {
                gateway,
                context,
                message,
                arrival,
                ..
            } = rpc;
            let validate_only = message.validate_only;
            let post = Post {
                target: Target::Activity(message.activity_id),
                code: message.activity_type,
                note: message.note,
                at: None,
                owner_id: message.owner_id,
                fields: fields(message.fields, &mut faults),
                faults,
            };
            let activity_id = write(&gateway, &context, arrival, post, request, validate_only).await?;
            Ok(pb::UpdateActivityResponse { activity_id })
        };
        self.server.respond(request, work).await
    }

    async fn get_activity(&self, request: Request<pb::GetActivityRequest>) -> RpcResult<pb::GetActivityResponse> {
        let work = |rpc: Rpc<pb::GetActivityRequest>, _| async move {
            let id = rpc.message.activity_id;
            if check_id("activity_id", &id).is_some() {
                return Err(Error::invalid("activity_id", "must be an activity's id"));
            }
            let found = rpc.gateway.get_activity(&rpc.context, &id).await?;
            Ok(pb::GetActivityResponse {
                activity: Some(activity(found)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn list_lead_activities(
        &self,
        request: Request<pb::ListLeadActivitiesRequest>,
    ) -> RpcResult<pb::ListLeadActivitiesResponse> {
        let work = |rpc: Rpc<pb::ListLeadActivitiesRequest>, status_builder: StatusBuilder| async move {
            let message = rpc.message;
            if let Some(fault) = check_id("lead_id", &message.lead_id) {
                return Err(ErrorKind::Invalid(vec![fault]).into());
            }
            let size = page::size(message.page_size, 25)?;
            let place = Place::read(&message.page_token, size)?;
            let found = rpc
                .gateway
                .lead_activities(
                    &rpc.context,
                    &message.lead_id,
                    code(message.activity_type)?,
                    place.number,
                    place.size,
                )
                .await?;
            let next = next(&found, place);
            let of_lead = |found| {
                let mut shown = activity(found);
                shown.lead_id.clone_from(&message.lead_id);
                shown
            };
            let mut activities = found.activities.map(of_lead);
            let next = page::cut(place, &mut activities, |activities| {
                status_builder.room().fitting(activities)
            })?
            .or(next);
            Ok(pb::ListLeadActivitiesResponse {
                activities: activities.records,
                next_page_token: next.map(|next| next.token(size)).unwrap_or_default(),
                unreadable: convert::unreadable(&activities.unreadable),
            })
        };
        self.server.respond(request, work).await
    }

    async fn list_activities(
        &self,
        request: Request<pb::ListActivitiesRequest>,
    ) -> RpcResult<pb::ListActivitiesResponse> {
        let work = |rpc: Rpc<pb::ListActivitiesRequest>, status_builder: StatusBuilder| async move {
            let message = rpc.message;
            let mut faults = Vec::new();
            let from = message
                .start_time
                .and_then(|at| convert::moment(at, "start_time", &mut faults));
            let to = message
                .end_time
                .and_then(|at| convert::moment(at, "end_time", &mut faults));
            let to = to.unwrap_or_else(clock::now);
            if message.start_time.is_none() {
                faults.push(Violation::new("start_time", "is required"));
            } else if from.is_some_and(|from| from > to) {
                faults.push(Violation::new("end_time", "must not be before start_time"));
            }
            let Some(from) = from.filter(|_| faults.is_empty()) else {
                return Err(ErrorKind::Invalid(faults).into());
            };
            let size = page::size(message.page_size, 100)?;
            let place = Place::read(&message.page_token, size)?;
            let asked_for = RetrieveModifiedActivities {
                from,
                to,
                code: code(message.activity_type)?,
                page: place.number + 1,
                count: place.size,
            };
            let found = rpc.gateway.modified_activities(&rpc.context, &asked_for).await?;
            let next = next(&found, place);
            let mut activities = found.activities.map(activity);
            let next = page::cut(place, &mut activities, |activities| {
                status_builder.room().fitting(activities)
            })?
            .or(next);
            Ok(pb::ListActivitiesResponse {
                activities: activities.records,
                next_page_token: next.map(|next| next.token(size)).unwrap_or_default(),
                unreadable: convert::unreadable(&activities.unreadable),
            })
        };
        self.server.respond(request, work).await
    }

    async fn list_activity_types(
        &self,
        request: Request<pb::ListActivityTypesRequest>,
    ) -> RpcResult<pb::ListActivityTypesResponse> {
        let work = |rpc: Rpc<pb::ListActivityTypesRequest>, _| async move {
            let types = rpc.gateway.activity_types(&rpc.context).await?;
            let shown = types.records.iter().map(|known| pb::ActivityType {
                activity_type: known.code,
                name: known.name.clone(),
            });
            Ok(pb::ListActivityTypesResponse {
                activity_types: shown.collect(),
                unreadable: convert::unreadable(&types.unreadable),
            })
        };
        self.server.respond(request, work).await
    }
}

async fn write(
    gateway: &Arc<Gateway>,
    context: &RequestContext,
    arrival: InOrder,
    post: Post,
    request: Option<RequestId>,
    validate_only: bool,
) -> Result<String> {
    if validate_only {
        Gateway::validate_post(&post)?;
        return Ok(String::new());
    }
    let entry = arrival.take(context, || gateway.enter_post(&post, request)).await?;
    gateway.post(context, post, entry).await
}

/// The fields of an activity, by schema name.
pub(super) fn fields(given: BTreeMap<String, pb::FieldValue>, faults: &mut Vec<Violation>) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for (name, value) in given {
        match convert::value(value) {
            Ok(value) => drop(fields.insert(name, value)),
            Err(text) => faults.push(Violation::new(format!("fields[\"{name}\"]"), text)),
        }
    }
    fields
}

fn code(code: i32) -> Result<Option<i32>> {
    match code {
        0 => Ok(None),
        1.. => Ok(Some(code)),
        _ => Err(Error::invalid("activity_type", "must be 0 or the code of a type")),
    }
}

/// The page behind, if there is one. Where LeadSquared tells no total, a full page may have one.
fn next(page: &crate::domain::activity::Page, place: Place) -> Option<Place> {
    let listed = &page.activities;
    // A page of which it is not known how many there are on it is taken for full.
    let count = match listed.is_count_uncertain {
        true => place.size,
        false => listed.count(),
    };
    let seen = place.number * place.size + count;
    let has_more = page.total.map_or(count >= place.size, |total| seen < total);
    (has_more && count > 0).then(|| place.next())
}

fn activity(mut found: Activity) -> pb::Activity {
    let mut take = |name: &str| found.fields.remove(name).flatten().unwrap_or_default();
    pb::Activity {
        note: take(NOTE),
        owner_id: take(OWNER),
        status: take(STATUS),
        activity_id: found.id,
        lead_id: found.lead_id,
        activity_type: found.code,
        type_name: found.type_name,
        create_time: found.created.map(convert::timestamp),
        update_time: found.modified.map(convert::timestamp),
        fields: found
            .fields
            .into_iter()
            .filter_map(|(name, text)| Some((name, convert::shown(Value::Text(text?)))))
            .collect(),
    }
}
