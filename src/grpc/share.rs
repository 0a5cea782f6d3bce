//! ShareService: reads the message, asks the gateway, puts the answer.

use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Request;
use uuid::Uuid;

use super::activity::fields;
use super::rpc::{ResponseSender, ResponseStream, Rpc, RpcResult, StatusBuilder, StreamResult};
use super::{ServerContext, convert, page, pb};
use crate::domain::lead::{self, check_id, check_number};
use crate::domain::share::{
    Access, Share, ShareChange, ShareContext as Activity, ShareFilter, ShareState, ShareStep, SharedEntity,
};
use crate::domain::user;
use crate::domain::{check, email};
use crate::error::{Error, ErrorKind, Result, Violation};
use crate::gateway::sharing::{NewShare, ShareSelector, ShareTarget, WaitFor};

/// How many shares are revoked at one time.
const AT_A_TIME: usize = 32;
/// How many shares are read at one time.
const PAGE: usize = 500;

/// ShareService.
pub(super) struct Service {
    server: ServerContext,
}

impl Service {
    pub(super) fn new(server: ServerContext) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl pb::share_service_server::ShareService for Service {
    type WatchShareStream = ResponseStream<pb::WatchShareResponse>;
    type RevokeSharesStream = ResponseStream<pb::RevokeSharesResponse>;

    async fn share_lead(&self, request: Request<pb::ShareLeadRequest>) -> RpcResult<pb::ShareLeadResponse> {
        let work = |mut rpc: Rpc<pb::ShareLeadRequest>, status_builder: StatusBuilder| async move {
            let mut faults = Vec::new();
            let request = rpc.request_id(&mut faults);
            let Rpc {
                gateway,
                context,
                message,
                ..
            } = rpc;
            let wait = wait_for(message.wait_for, &mut faults);
            let user = share_lead_user(message.user, &mut faults);
            let access = access(message.access, &mut faults);
            let duration = duration(message.duration, &mut faults);
            let lead = lead_key(message.lead, &mut faults);
            let share_context = share_context(message.context, &mut faults);
            let (Some(lead), Some(user), Some(access), Some(wait), true) =
                (lead, user, access, wait, faults.is_empty())
            else {
                return Err(ErrorKind::Invalid(faults).into());
            };
            let new_share = NewShare {
                target: ShareTarget::Lead(lead, share_context),
                user,
                access,
                duration,
                additional: message.allow_additional,
            };
            let share = gateway.sharing().share(&context, new_share, request, wait).await?;
            Ok(pb::ShareLeadResponse {
                share: Some(shown(&share, &status_builder)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn share_opportunity(
        &self,
        request: Request<pb::ShareOpportunityRequest>,
    ) -> RpcResult<pb::ShareOpportunityResponse> {
        let work = |mut rpc: Rpc<pb::ShareOpportunityRequest>, status_builder: StatusBuilder| async move {
            let mut faults = Vec::new();
            let request = rpc.request_id(&mut faults);
            let Rpc {
                gateway,
                context,
                message,
                ..
            } = rpc;
            let wait = wait_for(message.wait_for, &mut faults);
            let user = share_opportunity_user(message.user, &mut faults);
            let access = access(message.access, &mut faults);
            let duration = duration(message.duration, &mut faults);
            let id = id("opportunity_id", message.opportunity_id, &mut faults);
            let (Some(id), Some(user), Some(access), Some(wait), true) = (id, user, access, wait, faults.is_empty())
            else {
                return Err(ErrorKind::Invalid(faults).into());
            };
            let new_share = NewShare {
                target: ShareTarget::Opportunity(id),
                user,
                access,
                duration,
                additional: message.allow_additional,
            };
            let share = gateway.sharing().share(&context, new_share, request, wait).await?;
            Ok(pb::ShareOpportunityResponse {
                share: Some(shown(&share, &status_builder)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn get_share(&self, request: Request<pb::GetShareRequest>) -> RpcResult<pb::GetShareResponse> {
        let work = |rpc: Rpc<pb::GetShareRequest>, status_builder: StatusBuilder| async move {
            let id = share_id(&rpc.message.share_id)?;
            let (share, changes) = rpc.gateway.sharing().get(id).await?;
            Ok(pb::GetShareResponse {
                share: Some(shown(&share, &status_builder)),
                source: pb::ShareSource::Ledger.into(),
                changes: changes.iter().map(change).collect(),
            })
        };
        self.server.respond(request, work).await
    }

    async fn list_shares(&self, request: Request<pb::ListSharesRequest>) -> RpcResult<pb::ListSharesResponse> {
        let work = |rpc: Rpc<pb::ListSharesRequest>, status_builder: StatusBuilder| async move {
            let size = page::size(rpc.message.page_size, 100)?;
            let filter = filter(rpc.message, size + 1)?;
            let mut shares = rpc.gateway.sharing().list(&filter).await?;
            let count = shares.len();
            shares.truncate(size);
            let mut shares: Vec<_> = shares.iter().map(|share| shown(share, &status_builder)).collect();
            shares.truncate(status_builder.room().fitting(&shares)?);
            let last = shares.last().filter(|_| shares.len() < count);
            Ok(pb::ListSharesResponse {
                next_page_token: last.map(|share| share.share_id.clone()).unwrap_or_default(),
                shares,
                source: pb::ShareSource::Ledger.into(),
            })
        };
        self.server.respond(request, work).await
    }

    async fn watch_share(&self, request: Request<pb::WatchShareRequest>) -> StreamResult<pb::WatchShareResponse> {
        let work = |rpc: Rpc<pb::WatchShareRequest>, responder: ResponseSender<pb::WatchShareResponse>| async move {
            let id = share_id(&rpc.message.share_id)?;
            let mut watcher = rpc.gateway.sharing().watch(id).await?;
            let mut before = None;
            loop {
                let share = watcher.current();
                let now = shown(&share, responder.status_builder());
                if before.as_ref() != Some(&now) {
                    before = Some(now.clone());
                    responder.send(pb::WatchShareResponse { share: Some(now) }).await?;
                }
                if share.stage.has_ended() {
                    return Ok(());
                }
                watcher.changed().await;
            }
        };
        self.server.stream(request, work).await
    }

    async fn revoke_share(&self, request: Request<pb::RevokeShareRequest>) -> RpcResult<pb::RevokeShareResponse> {
        let work = |mut rpc: Rpc<pb::RevokeShareRequest>, status_builder: StatusBuilder| async move {
            let mut faults = Vec::new();
            let request = rpc.request_id(&mut faults);
            let Rpc {
                gateway,
                context,
                message,
                ..
            } = rpc;
            let wait = wait_for(message.wait_for, &mut faults);
            let meant = meant(message.share, &mut faults);
            let (Some(meant), Some(wait), true) = (meant, wait, faults.is_empty()) else {
                return Err(ErrorKind::Invalid(faults).into());
            };
            let share = gateway.sharing().revoke(&context, meant, request, wait).await?;
            Ok(pb::RevokeShareResponse {
                share: Some(shown(&share, &status_builder)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn revoke_shares(&self, request: Request<pb::RevokeSharesRequest>) -> StreamResult<pb::RevokeSharesResponse> {
        let work = |rpc: Rpc<pb::RevokeSharesRequest>, responder: ResponseSender<pb::RevokeSharesResponse>| async move {
            let message = rpc.message.clone();
            if message.lead_id.is_empty() && message.user_id.is_empty() {
                return Err(Error::invalid(
                    "lead_id",
                    "at least one of lead_id and user_id is required",
                ));
            }
            let listing = pb::ListSharesRequest {
                lead_id: message.lead_id,
                user_id: message.user_id,
                expire_before: message.expire_before,
                ..Default::default()
            };
            let mut filter = filter(listing, PAGE)?;
            filter.states = ShareState::LIVE.to_vec();
            revoke_all(&rpc, filter, &responder).await
        };
        self.server.stream(request, work).await
    }

    async fn extend_share(&self, request: Request<pb::ExtendShareRequest>) -> RpcResult<pb::ExtendShareResponse> {
        let work = |mut rpc: Rpc<pb::ExtendShareRequest>, status_builder: StatusBuilder| async move {
            let mut faults = Vec::new();
            let request = rpc.request_id(&mut faults);
            let Rpc {
                gateway,
                context,
                message,
                ..
            } = rpc;
            let wait = wait_for(message.wait_for, &mut faults);
            let duration = duration(message.duration, &mut faults);
            let id = share_id(&message.share_id).map_err(|_| faults.push(not_a_share("share_id")));
            let (Ok(id), Some(wait), true) = (id, wait, faults.is_empty()) else {
                return Err(ErrorKind::Invalid(faults).into());
            };
            let share = gateway.sharing().extend(&context, id, duration, request, wait).await?;
            Ok(pb::ExtendShareResponse {
                share: Some(shown(&share, &status_builder)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn retry_share(&self, request: Request<pb::RetryShareRequest>) -> RpcResult<pb::RetryShareResponse> {
        let work = |rpc: Rpc<pb::RetryShareRequest>, status_builder: StatusBuilder| async move {
            let mut faults = Vec::new();
            let wait = wait_for(rpc.message.wait_for, &mut faults);
            let id = share_id(&rpc.message.share_id).map_err(|_| faults.push(not_a_share("share_id")));
            let (Ok(id), Some(wait), true) = (id, wait, faults.is_empty()) else {
                return Err(ErrorKind::Invalid(faults).into());
            };
            let share = rpc.gateway.sharing().retry(&rpc.context, id, wait).await?;
            Ok(pb::RetryShareResponse {
                share: Some(shown(&share, &status_builder)),
            })
        };
        self.server.respond(request, work).await
    }

    async fn get_user_share_usage(
        &self,
        request: Request<pb::GetUserShareUsageRequest>,
    ) -> RpcResult<pb::GetUserShareUsageResponse> {
        let work = |rpc: Rpc<pb::GetUserShareUsageRequest>, _| async move {
            let mut faults = Vec::new();
            let key = usage_user(rpc.message.user, &mut faults).ok_or(ErrorKind::Invalid(faults))?;
            let sharing = rpc.gateway.sharing();
            let (user_id, used) = sharing.usage(&rpc.context, &key).await?;
            Ok(pb::GetUserShareUsageResponse {
                user_id,
                used: i32::try_from(used).unwrap_or(i32::MAX),
                limit: i32::try_from(sharing.leads_per_user()).unwrap_or(i32::MAX),
                source: pb::ShareSource::Ledger.into(),
            })
        };
        self.server.respond(request, work).await
    }

    async fn get_share_request_status(
        &self,
        request: Request<pb::GetShareRequestStatusRequest>,
    ) -> RpcResult<pb::GetShareRequestStatusResponse> {
        let work = |rpc: Rpc<pb::GetShareRequestStatusRequest>, _| async move {
            let mut faults = Vec::new();
            let id = id("upstream_request_id", rpc.message.upstream_request_id, &mut faults);
            let id = id.ok_or(ErrorKind::Invalid(faults))?;
            let standing = rpc.gateway.sharing().request_status(&rpc.context, &id).await?;
            Ok(pb::GetShareRequestStatusResponse {
                share_status: i32::try_from(standing.number).unwrap_or_default(),
                processed: standing.processed,
                failed: standing.failed.is_some(),
            })
        };
        self.server.respond(request, work).await
    }
}

/// Revokes all that the filter finds, some at a time, and tells of each as soon as it is settled.
async fn revoke_all(
    rpc: &Rpc<pb::RevokeSharesRequest>,
    mut filter: ShareFilter,
    responder: &ResponseSender<pb::RevokeSharesResponse>,
) -> Result<()> {
    let mut running = JoinSet::new();
    loop {
        let found = rpc.gateway.sharing().list(&filter).await?;
        let is_last = found.len() < filter.limit;
        filter.older_than = found.last().map(|share| share.id);
        for share in found {
            if running.len() >= AT_A_TIME {
                told(running.join_next().await, rpc, responder).await?;
            }
            let (sharing, context) = (rpc.gateway.sharing().clone(), rpc.context.clone());
            running.spawn(async move {
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
    while let Some(ended) = running.join_next().await {
        told(Some(ended), rpc, responder).await?;
    }
    Ok(())
}

type Ended = std::result::Result<(Uuid, Result<std::sync::Arc<Share>>), tokio::task::JoinError>;

async fn told(
    ended: Option<Ended>,
    rpc: &Rpc<pb::RevokeSharesRequest>,
    responder: &ResponseSender<pb::RevokeSharesResponse>,
) -> Result<()> {
    let Some(Ok((id, revoked))) = ended else {
        return Ok(());
    };
    let status_builder = responder.status_builder();
    let answer = match revoked {
        Ok(share) => pb::RevokeSharesResponse {
            share: Some(shown(&share, status_builder)),
            error: None,
        },
        Err(error) => {
            let (share, _) = rpc.gateway.sharing().get(id).await?;
            pb::RevokeSharesResponse {
                share: Some(shown(&share, status_builder)),
                error: Some(status_builder.part(&error)),
            }
        }
    };
    responder.send(answer).await
}

fn filter(message: pb::ListSharesRequest, most: usize) -> Result<ShareFilter> {
    let mut faults = Vec::new();
    let some = |id: String| Some(id).filter(|id| !id.is_empty());
    for (field, id) in [
        ("lead_id", &message.lead_id),
        ("opportunity_id", &message.opportunity_id),
        ("user_id", &message.user_id),
    ] {
        if !id.is_empty() && check_id(field, id).is_some() {
            faults.push(Violation::new(field, "must be an id"));
        }
    }
    if !message.lead_id.is_empty() && !message.opportunity_id.is_empty() {
        faults.push(Violation::new(
            "opportunity_id",
            "must be empty if lead_id is given: a share is of a lead or of an opportunity",
        ));
    }
    let mut states = Vec::new();
    for (i, number) in message.states.iter().enumerate() {
        match ShareState::from_number((*number).into()) {
            Some(state) => states.push(state),
            None => faults.push(Violation::new(format!("states[{i}]"), "is not a known state")),
        }
    }
    let expire_before = message
        .expire_before
        .and_then(|at| convert::moment(at, "expire_before", &mut faults));
    let before = match message.page_token.as_str() {
        "" => None,
        token => match Uuid::try_parse(token) {
            Ok(id) => Some(id),
            Err(_) => {
                faults.push(Violation::new("page_token", "is not a page token of ListShares"));
                None
            }
        },
    };
    if !faults.is_empty() {
        return Err(ErrorKind::Invalid(faults).into());
    }
    let (lead_id, opportunity_id) = (some(message.lead_id), some(message.opportunity_id));
    Ok(ShareFilter {
        of_leads: match (&lead_id, &opportunity_id) {
            (Some(_), _) => Some(true),
            (None, Some(_)) => Some(false),
            (None, None) => None,
        },
        entity_id: lead_id.or(opportunity_id),
        user_id: some(message.user_id),
        states,
        expire_before,
        older_than: before,
        limit: most,
    })
}

fn share_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| ErrorKind::Invalid(vec![not_a_share("share_id")]).into())
}

fn not_a_share(field: &str) -> Violation {
    Violation::new(field, "must be the id of a share, a UUID")
}

fn id(field: &str, text: String, faults: &mut Vec<Violation>) -> Option<String> {
    if check_id(field, &text).is_some() {
        faults.push(Violation::new(field, "must be an id"));
        return None;
    }
    Some(text)
}

/// The users of three messages are given alike, each by a oneof of its own.
macro_rules! user_key {
    ($name:ident, $module:ident) => {
        fn $name(user: Option<pb::$module::User>, faults: &mut Vec<Violation>) -> Option<user::Key> {
            match user {
                None => {
                    faults.push(Violation::new(
                        "user",
                        "one of user_id and user_email_address is required",
                    ));
                    None
                }
                Some(pb::$module::User::UserId(text)) => id("user_id", text, faults).map(user::Key::Id),
                Some(pb::$module::User::UserEmailAddress(text)) => match email::violation(&text) {
                    Some(fault) => {
                        faults.push(Violation::new("user_email_address", fault));
                        None
                    }
                    None => Some(user::Key::Email(text)),
                },
            }
        }
    };
}

user_key!(share_lead_user, share_lead_request);
user_key!(share_opportunity_user, share_opportunity_request);
user_key!(usage_user, get_user_share_usage_request);

fn lead_key(lead: Option<pb::share_lead_request::Lead>, faults: &mut Vec<Violation>) -> Option<lead::Key> {
    use pb::share_lead_request::Lead;
    match lead {
        None => {
            faults.push(Violation::new("lead", "one of lead_id and lead_number is required"));
            None
        }
        Some(Lead::LeadId(text)) => id("lead_id", text, faults).map(lead::Key::Id),
        Some(Lead::LeadNumber(number)) => match check_number("lead_number", &number) {
            Some(fault) => {
                faults.push(fault);
                None
            }
            None => Some(lead::Key::Number(number)),
        },
    }
}

fn share_context(context: Option<pb::share_lead_request::Context>, faults: &mut Vec<Violation>) -> Option<Activity> {
    use pb::share_lead_request::Context;
    match context? {
        Context::ActivityId(text) => id("activity_id", text, faults).map(|id| Activity::Existing { id }),
        Context::NewActivity(new) => {
            if new.activity_type < 0 {
                let text = "must be the code of an activity type, or 0 for sharing.default_activity_type";
                faults.push(Violation::new("new_activity.activity_type", text));
            }
            let mut found = Vec::new();
            let fields = fields(new.fields, &mut found);
            found.extend(check::activity(Some(&new.note), &fields));
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| Violation::new(format!("new_activity.{}", fault.field), fault.description)),
            );
            if fields.contains_key(crate::domain::activity::OWNER) {
                let text = "must not be set: the owner is the user with whom the lead is shared";
                faults.push(Violation::new("new_activity.fields[\"Owner\"]", text));
            }
            Some(Activity::New {
                id: None,
                code: new.activity_type,
                note: new.note,
                fields,
            })
        }
    }
}

fn access(access: i32, faults: &mut Vec<Violation>) -> Option<Access> {
    match pb::Access::try_from(access) {
        Ok(pb::Access::Read) => Some(Access::Read),
        Ok(pb::Access::Write) => Some(Access::Write),
        Ok(pb::Access::Unspecified) | Err(_) => {
            faults.push(Violation::new("access", "must be ACCESS_READ or ACCESS_WRITE"));
            None
        }
    }
}

fn duration(duration: Option<prost_types::Duration>, faults: &mut Vec<Violation>) -> Option<Duration> {
    let duration = convert::duration(duration?);
    if duration.is_none() {
        faults.push(Violation::new("duration", "must not be negative"));
    }
    duration
}

fn wait_for(wait: i32, faults: &mut Vec<Violation>) -> Option<WaitFor> {
    match pb::WaitFor::try_from(wait) {
        Ok(pb::WaitFor::None) => Some(WaitFor::Nothing),
        Ok(pb::WaitFor::Unspecified | pb::WaitFor::Submitted) => Some(WaitFor::Submitted),
        Ok(pb::WaitFor::Active) => Some(WaitFor::Processed),
        Err(_) => {
            faults.push(Violation::new("wait_for", "is not a known value"));
            None
        }
    }
}

fn meant(share: Option<pb::revoke_share_request::Share>, faults: &mut Vec<Violation>) -> Option<ShareSelector> {
    use pb::revoke_share_request::Share;
    match share {
        None => {
            faults.push(Violation::new("share", "one of share_id and triple is required"));
            None
        }
        Some(Share::ShareId(text)) => match share_id(&text) {
            Ok(id) => Some(ShareSelector::Id(id)),
            Err(_) => {
                faults.push(not_a_share("share_id"));
                None
            }
        },
        Some(Share::Triple(triple)) => {
            let lead_id = id("triple.lead_id", triple.lead_id, faults);
            let user_id = id("triple.user_id", triple.user_id, faults);
            let activity_id = match triple.activity_id.is_empty() {
                true => None,
                false => Some(id("triple.activity_id", triple.activity_id, faults)?),
            };
            Some(ShareSelector::Triple {
                lead_id: lead_id?,
                user_id: user_id?,
                activity_id,
            })
        }
    }
}

fn shown(share: &Share, status_builder: &StatusBuilder) -> pb::Share {
    let lead = matches!(share.entity, SharedEntity::Lead { .. });
    let of = |is_it: bool| {
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
        lead_id: of(lead),
        lead_number: share.lead_number().unwrap_or_default().to_owned(),
        opportunity_id: of(!lead),
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
        failure: share.failure.as_ref().map(|error| status_builder.part(error)),
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

fn change(change: &ShareChange) -> pb::ShareChange {
    pb::ShareChange {
        state: change.state as i32,
        change_time: Some(convert::timestamp(change.at)),
        failure: change.failure.clone(),
    }
}
