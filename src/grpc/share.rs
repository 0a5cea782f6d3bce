//! ShareService: reads the message, asks the gateway, puts the answer.

use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Request;
use uuid::Uuid;

use super::activity::fields;
use super::asked::{Answer, Answers, Asked, Reader, Stream, Teller};
use super::{Context, convert, page, pb};
use crate::domain::lead::{self, check_id, check_number};
use crate::domain::share::{Access, Change, Context as Activity, Filter, Share, State, Step, What};
use crate::domain::user;
use crate::domain::{check, email};
use crate::error::{Error, Kind, Result, Violation};
use crate::gateway::sharing::{Draft, Meant, WaitFor, Wanted};

/// How many shares are revoked at one time.
const AT_A_TIME: usize = 32;
/// How many shares are read at one time.
const PAGE: usize = 500;

/// ShareService.
pub(super) struct Service {
    context: Context,
}

impl Service {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl pb::share_service_server::ShareService for Service {
    type WatchShareStream = Stream<pb::WatchShareResponse>;
    type RevokeSharesStream = Stream<pb::RevokeSharesResponse>;

    async fn share_lead(&self, request: Request<pb::ShareLeadRequest>) -> Answer<pb::ShareLeadResponse> {
        let work = |mut asked: Asked<pb::ShareLeadRequest>, teller: Teller| async move {
            let mut faults = Vec::new();
            let request = asked.request_id(&mut faults);
            let Asked {
                gateway, call, message, ..
            } = asked;
            let wait = wait_for(message.wait_for, &mut faults);
            let user = share_lead_user(message.user, &mut faults);
            let access = access(message.access, &mut faults);
            let duration = duration(message.duration, &mut faults);
            let lead = lead_key(message.lead, &mut faults);
            let context = context(message.context, &mut faults);
            let (Some(lead), Some(user), Some(access), Some(wait), true) =
                (lead, user, access, wait, faults.is_empty())
            else {
                return Err(Kind::Invalid(faults).into());
            };
            let draft = Draft {
                what: Wanted::Lead(lead, context),
                user,
                access,
                duration,
                additional: message.allow_additional,
            };
            let share = gateway.sharing().share(&call, draft, request, wait).await?;
            Ok(pb::ShareLeadResponse {
                share: Some(shown(&share, &teller)),
            })
        };
        self.context.answer(request, work).await
    }

    async fn share_opportunity(
        &self,
        request: Request<pb::ShareOpportunityRequest>,
    ) -> Answer<pb::ShareOpportunityResponse> {
        let work = |mut asked: Asked<pb::ShareOpportunityRequest>, teller: Teller| async move {
            let mut faults = Vec::new();
            let request = asked.request_id(&mut faults);
            let Asked {
                gateway, call, message, ..
            } = asked;
            let wait = wait_for(message.wait_for, &mut faults);
            let user = share_opportunity_user(message.user, &mut faults);
            let access = access(message.access, &mut faults);
            let duration = duration(message.duration, &mut faults);
            let id = id("opportunity_id", message.opportunity_id, &mut faults);
            let (Some(id), Some(user), Some(access), Some(wait), true) = (id, user, access, wait, faults.is_empty())
            else {
                return Err(Kind::Invalid(faults).into());
            };
            let draft = Draft {
                what: Wanted::Opportunity(id),
                user,
                access,
                duration,
                additional: message.allow_additional,
            };
            let share = gateway.sharing().share(&call, draft, request, wait).await?;
            Ok(pb::ShareOpportunityResponse {
                share: Some(shown(&share, &teller)),
            })
        };
        self.context.answer(request, work).await
    }

    async fn get_share(&self, request: Request<pb::GetShareRequest>) -> Answer<pb::GetShareResponse> {
        let work = |asked: Asked<pb::GetShareRequest>, teller: Teller| async move {
            let id = share_id(&asked.message.share_id)?;
            let (share, changes) = asked.gateway.sharing().get(id).await?;
            Ok(pb::GetShareResponse {
                share: Some(shown(&share, &teller)),
                source: pb::ShareSource::Ledger.into(),
                changes: changes.iter().map(change).collect(),
            })
        };
        self.context.answer(request, work).await
    }

    async fn list_shares(&self, request: Request<pb::ListSharesRequest>) -> Answer<pb::ListSharesResponse> {
        let work = |asked: Asked<pb::ListSharesRequest>, teller: Teller| async move {
            let size = page::size(asked.message.page_size, 100)?;
            let filter = filter(asked.message, size + 1)?;
            let mut shares = asked.gateway.sharing().list(&filter).await?;
            let count = shares.len();
            shares.truncate(size);
            let mut shares: Vec<_> = shares.iter().map(|share| shown(share, &teller)).collect();
            shares.truncate(teller.room().fitting(&shares)?);
            let last = shares.last().filter(|_| shares.len() < count);
            Ok(pb::ListSharesResponse {
                next_page_token: last.map(|share| share.share_id.clone()).unwrap_or_default(),
                shares,
                source: pb::ShareSource::Ledger.into(),
            })
        };
        self.context.answer(request, work).await
    }

    async fn watch_share(&self, request: Request<pb::WatchShareRequest>) -> Answers<pb::WatchShareResponse> {
        let work = |asked: Asked<pb::WatchShareRequest>, reader: Reader<pb::WatchShareResponse>| async move {
            let id = share_id(&asked.message.share_id)?;
            let mut listener = asked.gateway.sharing().listen(id).await?;
            let mut before = None;
            loop {
                let share = listener.current();
                let now = shown(&share, reader.teller());
                if before.as_ref() != Some(&now) {
                    before = Some(now.clone());
                    reader.send(pb::WatchShareResponse { share: Some(now) }).await?;
                }
                if share.stage.is_over() {
                    return Ok(());
                }
                listener.changed().await;
            }
        };
        self.context.stream(request, work).await
    }

    async fn revoke_share(&self, request: Request<pb::RevokeShareRequest>) -> Answer<pb::RevokeShareResponse> {
        let work = |mut asked: Asked<pb::RevokeShareRequest>, teller: Teller| async move {
            let mut faults = Vec::new();
            let request = asked.request_id(&mut faults);
            let Asked {
                gateway, call, message, ..
            } = asked;
            let wait = wait_for(message.wait_for, &mut faults);
            let meant = meant(message.share, &mut faults);
            let (Some(meant), Some(wait), true) = (meant, wait, faults.is_empty()) else {
                return Err(Kind::Invalid(faults).into());
            };
            let share = gateway.sharing().revoke(&call, meant, request, wait).await?;
            Ok(pb::RevokeShareResponse {
                share: Some(shown(&share, &teller)),
            })
        };
        self.context.answer(request, work).await
    }

    async fn revoke_shares(&self, request: Request<pb::RevokeSharesRequest>) -> Answers<pb::RevokeSharesResponse> {
        let work = |asked: Asked<pb::RevokeSharesRequest>, reader: Reader<pb::RevokeSharesResponse>| async move {
            let message = asked.message.clone();
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
            filter.states = State::LIVE.to_vec();
            revoke_all(&asked, filter, &reader).await
        };
        self.context.stream(request, work).await
    }

    async fn extend_share(&self, request: Request<pb::ExtendShareRequest>) -> Answer<pb::ExtendShareResponse> {
        let work = |mut asked: Asked<pb::ExtendShareRequest>, teller: Teller| async move {
            let mut faults = Vec::new();
            let request = asked.request_id(&mut faults);
            let Asked {
                gateway, call, message, ..
            } = asked;
            let wait = wait_for(message.wait_for, &mut faults);
            let duration = duration(message.duration, &mut faults);
            let id = share_id(&message.share_id).map_err(|_| faults.push(not_a_share("share_id")));
            let (Ok(id), Some(wait), true) = (id, wait, faults.is_empty()) else {
                return Err(Kind::Invalid(faults).into());
            };
            let share = gateway.sharing().extend(&call, id, duration, request, wait).await?;
            Ok(pb::ExtendShareResponse {
                share: Some(shown(&share, &teller)),
            })
        };
        self.context.answer(request, work).await
    }

    async fn retry_share(&self, request: Request<pb::RetryShareRequest>) -> Answer<pb::RetryShareResponse> {
        let work = |asked: Asked<pb::RetryShareRequest>, teller: Teller| async move {
            let mut faults = Vec::new();
            let wait = wait_for(asked.message.wait_for, &mut faults);
            let id = share_id(&asked.message.share_id).map_err(|_| faults.push(not_a_share("share_id")));
            let (Ok(id), Some(wait), true) = (id, wait, faults.is_empty()) else {
                return Err(Kind::Invalid(faults).into());
            };
            let share = asked.gateway.sharing().retry(&asked.call, id, wait).await?;
            Ok(pb::RetryShareResponse {
                share: Some(shown(&share, &teller)),
            })
        };
        self.context.answer(request, work).await
    }

    async fn get_user_share_usage(
        &self,
        request: Request<pb::GetUserShareUsageRequest>,
    ) -> Answer<pb::GetUserShareUsageResponse> {
        let work = |asked: Asked<pb::GetUserShareUsageRequest>, _| async move {
            let mut faults = Vec::new();
            let key = usage_user(asked.message.user, &mut faults).ok_or(Kind::Invalid(faults))?;
            let sharing = asked.gateway.sharing();
            let (user_id, used) = sharing.usage(&asked.call, &key).await?;
            Ok(pb::GetUserShareUsageResponse {
                user_id,
                used: i32::try_from(used).unwrap_or(i32::MAX),
                limit: i32::try_from(sharing.leads_per_user()).unwrap_or(i32::MAX),
                source: pb::ShareSource::Ledger.into(),
            })
        };
        self.context.answer(request, work).await
    }

    async fn get_share_request_status(
        &self,
        request: Request<pb::GetShareRequestStatusRequest>,
    ) -> Answer<pb::GetShareRequestStatusResponse> {
        let work = |asked: Asked<pb::GetShareRequestStatusRequest>, _| async move {
            let mut faults = Vec::new();
            let id = id("upstream_request_id", asked.message.upstream_request_id, &mut faults);
            let id = id.ok_or(Kind::Invalid(faults))?;
            let standing = asked.gateway.sharing().request_status(&asked.call, &id).await?;
            Ok(pb::GetShareRequestStatusResponse {
                share_status: i32::try_from(standing.number).unwrap_or_default(),
                processed: standing.processed,
                failed: standing.failed.is_some(),
            })
        };
        self.context.answer(request, work).await
    }
}

/// Revokes all that the filter finds, some at a time, and tells of each as soon as it is settled.
async fn revoke_all(
    asked: &Asked<pb::RevokeSharesRequest>,
    mut filter: Filter,
    reader: &Reader<pb::RevokeSharesResponse>,
) -> Result<()> {
    let mut running = JoinSet::new();
    loop {
        let found = asked.gateway.sharing().list(&filter).await?;
        let is_last = found.len() < filter.most;
        filter.before = found.last().map(|share| share.id);
        for share in found {
            if running.len() >= AT_A_TIME {
                told(running.join_next().await, asked, reader).await?;
            }
            let (sharing, call) = (asked.gateway.sharing().clone(), asked.call.clone());
            running.spawn(async move {
                let revoked = sharing
                    .revoke(&call, Meant::Id(share.id), None, WaitFor::Submitted)
                    .await;
                (share.id, revoked)
            });
        }
        if is_last {
            break;
        }
    }
    while let Some(ended) = running.join_next().await {
        told(Some(ended), asked, reader).await?;
    }
    Ok(())
}

type Ended = std::result::Result<(Uuid, Result<std::sync::Arc<Share>>), tokio::task::JoinError>;

async fn told(
    ended: Option<Ended>,
    asked: &Asked<pb::RevokeSharesRequest>,
    reader: &Reader<pb::RevokeSharesResponse>,
) -> Result<()> {
    let Some(Ok((id, revoked))) = ended else {
        return Ok(());
    };
    let teller = reader.teller();
    let answer = match revoked {
        Ok(share) => pb::RevokeSharesResponse {
            share: Some(shown(&share, teller)),
            error: None,
        },
        Err(error) => {
            let (share, _) = asked.gateway.sharing().get(id).await?;
            pb::RevokeSharesResponse {
                share: Some(shown(&share, teller)),
                error: Some(teller.part(&error)),
            }
        }
    };
    reader.send(answer).await
}

fn filter(message: pb::ListSharesRequest, most: usize) -> Result<Filter> {
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
        match State::from_number((*number).into()) {
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
        return Err(Kind::Invalid(faults).into());
    }
    let (lead_id, opportunity_id) = (some(message.lead_id), some(message.opportunity_id));
    Ok(Filter {
        of_leads: match (&lead_id, &opportunity_id) {
            (Some(_), _) => Some(true),
            (None, Some(_)) => Some(false),
            (None, None) => None,
        },
        entity_id: lead_id.or(opportunity_id),
        user_id: some(message.user_id),
        states,
        expire_before,
        before,
        most,
    })
}

fn share_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| Kind::Invalid(vec![not_a_share("share_id")]).into())
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

fn context(context: Option<pb::share_lead_request::Context>, faults: &mut Vec<Violation>) -> Option<Activity> {
    use pb::share_lead_request::Context;
    match context? {
        Context::ActivityId(text) => id("activity_id", text, faults).map(|id| Activity::Given { id }),
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

fn meant(share: Option<pb::revoke_share_request::Share>, faults: &mut Vec<Violation>) -> Option<Meant> {
    use pb::revoke_share_request::Share;
    match share {
        None => {
            faults.push(Violation::new("share", "one of share_id and triple is required"));
            None
        }
        Some(Share::ShareId(text)) => match share_id(&text) {
            Ok(id) => Some(Meant::Id(id)),
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
            Some(Meant::Triple {
                lead_id: lead_id?,
                user_id: user_id?,
                activity_id,
            })
        }
    }
}

fn shown(share: &Share, teller: &Teller) -> pb::Share {
    let lead = matches!(share.what, What::Lead { .. });
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
        kind: match share.what {
            What::Lead { .. } => pb::ShareKind::Lead,
            What::Opportunity { .. } => pb::ShareKind::Opportunity,
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
        failure: share.failure.as_ref().map(|error| teller.part(error)),
        uncertain_step: match share.step {
            None => "",
            Some(Step::PostActivity) => "post_activity",
            Some(Step::Share) => "share",
            Some(Step::Revoke) => "revoke",
        }
        .to_owned(),
        extends_share_id: share.extends.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn change(change: &Change) -> pb::ShareChange {
    pb::ShareChange {
        state: change.state as i32,
        change_time: Some(convert::timestamp(change.at)),
        failure: change.failure.clone(),
    }
}
