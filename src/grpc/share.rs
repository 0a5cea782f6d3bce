//! The handlers of ShareService.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tonic::Request;
use uuid::Uuid;

use super::response_stream::ResponseStream;
use super::rpc::{ResponseSender, Rpc, RpcResult, ServerContext, StatusBuilder, StreamResult};
use super::violations::Violations;
use super::{convert, page, pb};
use crate::context::RequestContext;
use crate::domain::activity::{NOTE, OWNER};
use crate::domain::lead::{LEAD_NUMBER, LeadKey, check_id, check_number};
use crate::domain::share::{
    Access, Share, ShareChange, ShareContext, ShareFilter, ShareState, ShareStep, SharedEntity,
};
use crate::domain::user::UserKey;
use crate::domain::{check, email};
use crate::error::{Error, Result, Violation};
use crate::gateway::sharing::{NewShare, ShareSelector, ShareTarget, WaitFor, audit_subject};
use crate::gateway::{FieldCheck, is_hidden, visible_error};

/// Maximum number of shares that RevokeShares revokes at a time.
const MAX_REVOKES: usize = 32;
/// The number of shares that RevokeShares reads at a time.
const REVOKE_PAGE_SIZE: usize = 500;

/// The handlers of ShareService.
pub(super) struct ShareHandlers {
    pub(super) server: ServerContext,
}

#[tonic::async_trait]
impl pb::share_service_server::ShareService for ShareHandlers {
    type WatchShareStream = ResponseStream<pb::WatchShareResponse>;
    type RevokeSharesStream = ResponseStream<pb::RevokeSharesResponse>;

    async fn share_lead(&self, request: Request<pb::ShareLeadRequest>) -> RpcResult<pb::ShareLeadResponse> {
        let handler = |mut rpc: Rpc<pb::ShareLeadRequest>, status_builder: StatusBuilder| async move {
            let mut violations = Violations::default();
            let request = rpc.request_id(&mut violations);
            let pb::ShareLeadRequest {
                lead,
                user,
                access,
                duration,
                context,
                wait_for,
                allow_additional,
                request_id: _,
            } = rpc.message;
            let wait = violations.wait_for(wait_for);
            let user = violations.user(user.map(Into::into));
            let access = violations.access(access);
            let duration = violations.duration(duration);
            let mut check = FieldCheck::new(&rpc.context);
            let lead = violations.lead(lead, &mut check);
            let context = violations.share_context(context, &mut check);
            if let Err(denied) = check.finish() {
                let subject = audit_subject(lead.as_ref(), context.as_ref());
                return rpc.context.audited(subject, |_| async { Err(denied) }).await;
            }
            let (new_share, wait) = violations.finish(|| {
                let new_share = NewShare {
                    target: ShareTarget::Lead(lead?, context),
                    user: user?,
                    access: access?,
                    duration,
                    additional: allow_additional,
                };
                Some((new_share, wait?))
            })?;
            let sharing = rpc.gateway.sharing();
            let share = sharing.share(&rpc.context, new_share, request, wait).await;
            let share = share.map_err(|error| visible(&rpc.context, error))?;
            Ok(pb::ShareLeadResponse {
                share: Some(convert_share(&share, &rpc.context, &status_builder)),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn share_opportunity(
        &self,
        request: Request<pb::ShareOpportunityRequest>,
    ) -> RpcResult<pb::ShareOpportunityResponse> {
        let handler = |mut rpc: Rpc<pb::ShareOpportunityRequest>, status_builder: StatusBuilder| async move {
            let mut violations = Violations::default();
            let request = rpc.request_id(&mut violations);
            let pb::ShareOpportunityRequest {
                opportunity_id,
                user,
                access,
                duration,
                wait_for,
                allow_additional,
                request_id: _,
            } = rpc.message;
            let wait = violations.wait_for(wait_for);
            let user = violations.user(user.map(Into::into));
            let access = violations.access(access);
            let duration = violations.duration(duration);
            let id = violations.id("opportunity_id", opportunity_id);
            let (new_share, wait) = violations.finish(|| {
                let new_share = NewShare {
                    target: ShareTarget::Opportunity(id?),
                    user: user?,
                    access: access?,
                    duration,
                    additional: allow_additional,
                };
                Some((new_share, wait?))
            })?;
            let sharing = rpc.gateway.sharing();
            let share = sharing.share(&rpc.context, new_share, request, wait).await;
            let share = share.map_err(|error| visible(&rpc.context, error))?;
            Ok(pb::ShareOpportunityResponse {
                share: Some(convert_share(&share, &rpc.context, &status_builder)),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn get_share(&self, request: Request<pb::GetShareRequest>) -> RpcResult<pb::GetShareResponse> {
        let handler = |rpc: Rpc<pb::GetShareRequest>, status_builder: StatusBuilder| async move {
            let id = share_id(&rpc.message.share_id)?;
            let (share, changes) = rpc.gateway.sharing().get(id).await?;
            Ok(pb::GetShareResponse {
                share: Some(convert_share(&share, &rpc.context, &status_builder)),
                source: pb::ShareSource::Ledger.into(),
                changes: changes.iter().map(convert_change).collect(),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn list_shares(&self, request: Request<pb::ListSharesRequest>) -> RpcResult<pb::ListSharesResponse> {
        let handler = |rpc: Rpc<pb::ListSharesRequest>, status_builder: StatusBuilder| async move {
            let size = page::size(rpc.message.page_size, 100)?;
            // One more share shows whether there is a next page.
            let filter = filter(rpc.message, size + 1)?;
            let mut shares = rpc.gateway.sharing().list(&filter).await?;
            let count = shares.len();
            shares.truncate(size);
            let convert = |share| convert_share(share, &rpc.context, &status_builder);
            let mut shares: Vec<_> = shares.iter().map(convert).collect();
            shares.truncate(status_builder.budget().count_fitting(&shares)?);
            let last = shares.last().filter(|_| shares.len() < count);
            Ok(pb::ListSharesResponse {
                next_page_token: last.map(|share| share.share_id.clone()).unwrap_or_default(),
                shares,
                source: pb::ShareSource::Ledger.into(),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn watch_share(&self, request: Request<pb::WatchShareRequest>) -> StreamResult<pb::WatchShareResponse> {
        let handler = |rpc: Rpc<pb::WatchShareRequest>, responder: ResponseSender<pb::WatchShareResponse>| async move {
            let id = share_id(&rpc.message.share_id)?;
            let mut watcher = rpc.gateway.sharing().watch(id).await?;
            let mut last_sent = None;
            loop {
                let share = watcher.current();
                let current = convert_share(&share, &rpc.context, responder.status_builder());
                if last_sent.as_ref() != Some(&current) {
                    last_sent = Some(current.clone());
                    responder.send(pb::WatchShareResponse { share: Some(current) }).await?;
                }
                if share.stage.has_ended() {
                    return Ok(());
                }
                watcher.changed().await;
            }
        };
        self.server.stream(request, handler).await
    }

    async fn revoke_share(&self, request: Request<pb::RevokeShareRequest>) -> RpcResult<pb::RevokeShareResponse> {
        let handler = |mut rpc: Rpc<pb::RevokeShareRequest>, status_builder: StatusBuilder| async move {
            let mut violations = Violations::default();
            let request = rpc.request_id(&mut violations);
            let pb::RevokeShareRequest {
                share,
                wait_for,
                request_id: _,
            } = rpc.message;
            let wait = violations.wait_for(wait_for);
            let share = violations.share(share);
            let (share, wait) = violations.finish(|| Some((share?, wait?)))?;
            let sharing = rpc.gateway.sharing();
            let share = sharing.revoke(&rpc.context, share, request, wait).await;
            let share = share.map_err(|error| visible(&rpc.context, error))?;
            Ok(pb::RevokeShareResponse {
                share: Some(convert_share(&share, &rpc.context, &status_builder)),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn revoke_shares(&self, request: Request<pb::RevokeSharesRequest>) -> StreamResult<pb::RevokeSharesResponse> {
        let handler = |rpc: Rpc<pb::RevokeSharesRequest>, responder: ResponseSender<pb::RevokeSharesResponse>| async move {
            let pb::RevokeSharesRequest {
                lead_id,
                user_id,
                expire_before,
            } = rpc.message.clone();
            if lead_id.is_empty() && user_id.is_empty() {
                return Err(Error::invalid(
                    "lead_id",
                    "at least one of lead_id and user_id is required",
                ));
            }
            let listing = pb::ListSharesRequest {
                lead_id,
                user_id,
                expire_before,
                ..Default::default()
            };
            let mut filter = filter(listing, REVOKE_PAGE_SIZE)?;
            filter.states = ShareState::LIVE.to_vec();
            revoke_all(&rpc, filter, &responder).await
        };
        self.server.stream(request, handler).await
    }

    async fn extend_share(&self, request: Request<pb::ExtendShareRequest>) -> RpcResult<pb::ExtendShareResponse> {
        let handler = |mut rpc: Rpc<pb::ExtendShareRequest>, status_builder: StatusBuilder| async move {
            let mut violations = Violations::default();
            let request = rpc.request_id(&mut violations);
            let pb::ExtendShareRequest {
                share_id: id,
                duration,
                wait_for,
                request_id: _,
            } = rpc.message;
            let wait = violations.wait_for(wait_for);
            let duration = violations.duration(duration);
            let id = violations.collect(share_id(&id));
            let (id, wait) = violations.finish(|| Some((id?, wait?)))?;
            let sharing = rpc.gateway.sharing();
            let share = sharing.extend(&rpc.context, id, duration, request, wait).await;
            let share = share.map_err(|error| visible(&rpc.context, error))?;
            Ok(pb::ExtendShareResponse {
                share: Some(convert_share(&share, &rpc.context, &status_builder)),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn retry_share(&self, request: Request<pb::RetryShareRequest>) -> RpcResult<pb::RetryShareResponse> {
        let handler = |rpc: Rpc<pb::RetryShareRequest>, status_builder: StatusBuilder| async move {
            let pb::RetryShareRequest { share_id: id, wait_for } = rpc.message;
            let mut violations = Violations::default();
            let wait = violations.wait_for(wait_for);
            let id = violations.collect(share_id(&id));
            let (id, wait) = violations.finish(|| Some((id?, wait?)))?;
            let share = rpc.gateway.sharing().retry(&rpc.context, id, wait).await;
            let share = share.map_err(|error| visible(&rpc.context, error))?;
            Ok(pb::RetryShareResponse {
                share: Some(convert_share(&share, &rpc.context, &status_builder)),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn get_user_share_usage(
        &self,
        request: Request<pb::GetUserShareUsageRequest>,
    ) -> RpcResult<pb::GetUserShareUsageResponse> {
        let handler = |rpc: Rpc<pb::GetUserShareUsageRequest>, _| async move {
            let mut violations = Violations::default();
            let user = violations.user(rpc.message.user.map(Into::into));
            let user = violations.finish(|| user)?;
            let sharing = rpc.gateway.sharing();
            let usage = sharing.usage(&rpc.context, &user).await;
            let (user_id, used) = usage.map_err(|error| visible(&rpc.context, error))?;
            Ok(pb::GetUserShareUsageResponse {
                user_id,
                used: i32::try_from(used).unwrap_or(i32::MAX),
                limit: i32::try_from(sharing.leads_per_user()).unwrap_or(i32::MAX),
                source: pb::ShareSource::Ledger.into(),
            })
        };
        self.server.respond(request, handler).await
    }

    async fn get_share_request_status(
        &self,
        request: Request<pb::GetShareRequestStatusRequest>,
    ) -> RpcResult<pb::GetShareRequestStatusResponse> {
        let handler = |rpc: Rpc<pb::GetShareRequestStatusRequest>, _| async move {
            let mut violations = Violations::default();
            let id = violations.id("upstream_request_id", rpc.message.upstream_request_id);
            let id = violations.finish(|| id)?;
            let status = rpc.gateway.sharing().request_status(&rpc.context, &id).await;
            let status = status.map_err(|error| visible(&rpc.context, error))?;
            Ok(pb::GetShareRequestStatusResponse {
                share_status: i32::try_from(status.number).unwrap_or_default(),
                processed: status.processed,
                failed: status.failed.is_some(),
            })
        };
        self.server.respond(request, handler).await
    }
}

/// Revokes all shares of a filter, a limited number at a time, and sends each result when it is known.
async fn revoke_all(
    rpc: &Rpc<pb::RevokeSharesRequest>,
    mut filter: ShareFilter,
    responder: &ResponseSender<pb::RevokeSharesResponse>,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    loop {
        let found = rpc.gateway.sharing().list(&filter).await?;
        let is_last = found.len() < filter.limit;
        filter.older_than = found.last().map(|share| share.id);
        for share in found {
            if tasks.len() >= MAX_REVOKES {
                send_revoked(tasks.join_next().await, rpc, responder).await?;
            }
            let (sharing, context) = (rpc.gateway.sharing().clone(), rpc.context.clone());
            tasks.spawn(async move {
                let revoked = sharing
                    .revoke(&context, ShareSelector::Id(share.id), None, WaitFor::Submitted)
                    .await;
                (share.id, revoked)
            });
        }
        if is_last {
            break;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        send_revoked(Some(ended), rpc, responder).await?;
    }
    Ok(())
}

type RevokeResult = std::result::Result<(Uuid, Result<Arc<Share>>), JoinError>;

async fn send_revoked(
    ended: Option<RevokeResult>,
    rpc: &Rpc<pb::RevokeSharesRequest>,
    responder: &ResponseSender<pb::RevokeSharesResponse>,
) -> Result<()> {
    let Some(Ok((id, revoked))) = ended else {
        return Ok(());
    };
    let status_builder = responder.status_builder();
    let response = match revoked {
        Ok(share) => pb::RevokeSharesResponse {
            share: Some(convert_share(&share, &rpc.context, status_builder)),
            error: None,
        },
        Err(error) => {
            let (share, _) = rpc.gateway.sharing().get(id).await?;
            pb::RevokeSharesResponse {
                share: Some(convert_share(&share, &rpc.context, status_builder)),
                error: Some(status_builder.part(&visible(&rpc.context, error))),
            }
        }
    };
    responder.send(response).await
}

fn filter(message: pb::ListSharesRequest, limit: usize) -> Result<ShareFilter> {
    let pb::ListSharesRequest {
        lead_id,
        user_id,
        states,
        expire_before,
        page_size: _,
        page_token,
        opportunity_id,
    } = message;
    let mut violations = Violations::default();
    for (field, id) in [
        ("lead_id", &lead_id),
        ("opportunity_id", &opportunity_id),
        ("user_id", &user_id),
    ] {
        if !id.is_empty() {
            violations.extend(check_id(field, id));
        }
    }
    violations.require(
        lead_id.is_empty() || opportunity_id.is_empty(),
        "opportunity_id",
        "must be empty if lead_id is set: a share is of a lead or of an opportunity",
    );
    let states = states.iter().enumerate().filter_map(|(i, number)| {
        let state = ShareState::from_number((*number).into());
        violations.require(state.is_some(), &format!("states[{i}]"), "unknown state");
        state
    });
    let states = states.collect();
    let expire_before = convert::time(expire_before, "expire_before", &mut violations);
    let older_than = match page_token.as_str() {
        "" => None,
        token => {
            let id = Uuid::try_parse(token).map_err(|_| "is not a page token of this rpc");
            violations.check("page_token", id)
        }
    };
    violations.none()?;
    let some = |id: String| Some(id).filter(|id| !id.is_empty());
    let (lead_id, opportunity_id) = (some(lead_id), some(opportunity_id));
    Ok(ShareFilter {
        of_leads: match (&lead_id, &opportunity_id) {
            (Some(_), _) => Some(true),
            (None, Some(_)) => Some(false),
            (None, None) => None,
        },
        entity_id: lead_id.or(opportunity_id),
        user_id: some(user_id),
        states,
        expire_before,
        older_than,
        limit,
    })
}

fn share_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| Error::invalid("share_id", "must be the id of a share, a UUID"))
}

/// The user of a request. Three messages have the same oneof, with a generated type each.
enum GivenUser {
    Id(String),
    EmailAddress(String),
}

macro_rules! given_user {
    ($($module:ident),*) => {$(
        impl From<pb::$module::User> for GivenUser {
            fn from(user: pb::$module::User) -> Self {
                match user {
                    pb::$module::User::UserId(id) => Self::Id(id),
                    pb::$module::User::UserEmailAddress(address) => Self::EmailAddress(address),
                }
            }
        }
    )*};
}
given_user!(
    share_lead_request,
    share_opportunity_request,
    get_user_share_usage_request
);

/// Conversions of the fields of share requests. Each returns `None` and adds a violation if the field is invalid.
impl Violations {
    fn id(&mut self, field: &str, id: String) -> Option<String> {
        let violation = check_id(field, &id);
        self.check_value(id, violation)
    }

    fn user(&mut self, user: Option<GivenUser>) -> Option<UserKey> {
        match user {
            None => {
                self.add("user", "one of user_id and user_email_address is required");
                None
            }
            Some(GivenUser::Id(id)) => self.id("user_id", id).map(UserKey::Id),
            Some(GivenUser::EmailAddress(address)) => {
                let violation = email::violation(&address).map(|text| Violation::new("user_email_address", text));
                self.check_value(UserKey::Email(address), violation)
            }
        }
    }

    fn lead(&mut self, lead: Option<pb::share_lead_request::Lead>, check: &mut FieldCheck<'_>) -> Option<LeadKey> {
        use pb::share_lead_request::Lead;
        match lead {
            None => {
                self.add("lead", "one of lead_id and lead_number is required");
                None
            }
            Some(Lead::LeadId(id)) => self.id("lead_id", id).map(LeadKey::Id),
            Some(Lead::LeadNumber(number)) => {
                check.read(LEAD_NUMBER, || "lead_number".to_owned());
                let violation = check_number("lead_number", &number);
                self.check_value(LeadKey::Number(number), violation)
            }
        }
    }

    /// `None` without a violation: the default activity is posted.
    fn share_context(
        &mut self,
        context: Option<pb::share_lead_request::Context>,
        check: &mut FieldCheck<'_>,
    ) -> Option<ShareContext> {
        use pb::share_lead_request::Context;
        match context? {
            Context::ActivityId(id) => self.id("activity_id", id).map(|id| ShareContext::Existing { id }),
            Context::NewActivity(new) => Some(self.new_activity(new, check)),
        }
    }

    fn new_activity(&mut self, new: pb::NewActivity, check: &mut FieldCheck<'_>) -> ShareContext {
        let pb::NewActivity {
            activity_type,
            note,
            fields,
        } = new;
        if !note.is_empty() {
            check.write(NOTE, || "new_activity.note".to_owned());
        }
        check.write_activity_fields(fields.keys(), "new_activity.");
        let text = "must be the code of an activity type, or 0 for sharing.default_activity_type";
        self.require(activity_type >= 0, "new_activity.activity_type", text);
        let mut found = Violations::default();
        let fields = convert::activity_fields(fields, &mut found);
        found.extend(check::activity(Some(&note), &fields));
        for violation in Vec::from(found) {
            self.add(format!("new_activity.{}", violation.field), violation.description);
        }
        let text = "must not be set: the owner of the activity is the user with whom the lead is shared";
        self.require(!fields.contains_key(OWNER), "new_activity.fields[\"Owner\"]", text);
        ShareContext::New {
            id: None,
            code: activity_type,
            note,
            fields,
        }
    }

    fn access(&mut self, access: i32) -> Option<Access> {
        match pb::Access::try_from(access) {
            Ok(pb::Access::Read) => Some(Access::Read),
            Ok(pb::Access::Write) => Some(Access::Write),
            Ok(pb::Access::Unspecified) | Err(_) => {
                self.add("access", "must be ACCESS_READ or ACCESS_WRITE");
                None
            }
        }
    }

    /// `None` without a violation: the default duration.
    fn duration(&mut self, duration: Option<prost_types::Duration>) -> Option<Duration> {
        self.check("duration", convert::duration(duration?).ok_or("must not be negative"))
    }

    fn wait_for(&mut self, wait: i32) -> Option<WaitFor> {
        match pb::WaitFor::try_from(wait) {
            Ok(pb::WaitFor::None) => Some(WaitFor::Nothing),
            Ok(pb::WaitFor::Unspecified | pb::WaitFor::Submitted) => Some(WaitFor::Submitted),
            Ok(pb::WaitFor::Active) => Some(WaitFor::Processed),
            Err(_) => {
                self.add("wait_for", "unknown value: this version of leadgate does not know it");
                None
            }
        }
    }

    fn share(&mut self, share: Option<pb::revoke_share_request::Share>) -> Option<ShareSelector> {
        use pb::revoke_share_request::Share;
        match share {
            None => {
                self.add("share", "one of share_id and triple is required");
                None
            }
            Some(Share::ShareId(text)) => self.collect(share_id(&text)).map(ShareSelector::Id),
            Some(Share::Triple(triple)) => {
                let pb::ShareTriple {
                    lead_id,
                    user_id,
                    activity_id,
                } = triple;
                let lead_id = self.id("triple.lead_id", lead_id);
                let user_id = self.id("triple.user_id", user_id);
                let activity_id = match activity_id.is_empty() {
                    true => None,
                    false => Some(self.id("triple.activity_id", activity_id)?),
                };
                Some(ShareSelector::Triple {
                    lead_id: lead_id?,
                    user_id: user_id?,
                    activity_id,
                })
            }
        }
    }
}

/// An error of a share as the caller may see it. Another caller may have created the share, so the request names no attribute.
fn visible(context: &RequestContext, error: Error) -> Error {
    visible_error(context, &[], error)
}

fn convert_share(share: &Share, context: &RequestContext, status_builder: &StatusBuilder) -> pb::Share {
    let is_lead = share.is_of_lead();
    let entity_id = |is_it: bool| {
        if is_it {
            share.entity_id().to_owned()
        } else {
            String::new()
        }
    };
    pb::Share {
        share_id: share.id.to_string(),
        state: share.state() as i32,
        kind: match share.entity {
            SharedEntity::Lead { .. } => pb::ShareKind::Lead,
            SharedEntity::Opportunity { .. } => pb::ShareKind::Opportunity,
        }
        .into(),
        lead_id: entity_id(is_lead),
        lead_number: share
            .lead_number()
            .filter(|_| !is_hidden(context, LEAD_NUMBER))
            .unwrap_or_default()
            .to_owned(),
        opportunity_id: entity_id(!is_lead),
        user_id: share.user_id.clone(),
        activity_id: share.activity_id().unwrap_or_default().to_owned(),
        access: match share.access {
            Access::Read => pb::Access::Read,
            Access::Write => pb::Access::Write,
        }
        .into(),
        duration: prost_types::Duration::try_from(share.duration()).ok(),
        create_time: Some(convert::timestamp(share.created)),
        grant_time: share.granted.map(convert::timestamp),
        expire_time: share.expires.map(convert::timestamp),
        update_time: Some(convert::timestamp(share.changed)),
        upstream_request_id: share.upstream_request_id.clone().unwrap_or_default(),
        failure: share
            .failure
            .as_ref()
            .map(|error| status_builder.part(&visible(context, error.clone()))),
        uncertain_step: match share.step {
            None => "",
            Some(ShareStep::PostActivity) => "post_activity",
            Some(ShareStep::Share) => "share",
            Some(ShareStep::Revoke) => "revoke",
        }
        .to_owned(),
        extends_share_id: share.extends.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn convert_change(change: &ShareChange) -> pb::ShareChange {
    pb::ShareChange {
        state: change.state as i32,
        change_time: Some(convert::timestamp(change.at)),
        failure: change.failure.clone(),
    }
}
