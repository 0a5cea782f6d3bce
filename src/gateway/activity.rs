//! Activities: posts that are executed once, and reads.

use std::sync::Arc;

use jiff::Timestamp;

use super::fields::{
    FieldCheck, hides_any, named_hidden_activity_paths, visible_activities, visible_activity, visible_error,
};
use super::{Gateway, RetrieveModifiedActivities, WriteEntry, or_invalid};
use crate::audit::AuditSubject;
use crate::context::RequestContext;
use crate::crm::activity as endpoint;
use crate::crm::lost::{LostWrite, NextLookup};
use crate::crm::retry::{ReconcilableWrite, Reconciled};
use crate::domain::activity::{
    Activity, ActivityForm, ActivityPage, ActivityTarget, ActivityType, ActivityWriteRequest,
};
use crate::domain::listed::Listed;
use crate::error::{Error, ErrorKind, Recovery, Resource, Result};
use crate::store::PriorAttempt;

/// Maximum number of activities of a lead that are compared with a post whose response was lost.
const MAX_COMPARED: usize = 100;

impl Gateway {
    /// All types of activities.
    pub async fn activity_types(&self, context: &RequestContext) -> Result<Arc<Listed<ActivityType>>> {
        self.activity_types.get(context).await
    }

    /// The form of the activity type with that code. Always queries LeadSquared.
    pub async fn activity_form(&self, context: &RequestContext, code: i32) -> Result<ActivityForm> {
        self.crm.call(context, &endpoint::GetActivitySetting(code)).await
    }

    /// One activity, with the fields that the caller sees.
    pub async fn get_activity(&self, context: &RequestContext, id: &str) -> Result<Activity> {
        let read = self.read_activity(context, id).await;
        let activity = read.map_err(|error| visible_error(context, &[], error))?;
        let code = match hides_any(context) {
            true => self.code_of(context, &activity).await,
            false => None,
        };
        Ok(visible_activity(context, activity, code))
    }

    /// The code of an activity's type. LeadSquared returns only its name for a single activity. `None`: no type, or several types,
    /// have that name.
    async fn code_of(&self, context: &RequestContext, activity: &Activity) -> Option<i32> {
        if activity.code != 0 {
            return Some(activity.code);
        }
        let types = self.activity_types.get_if_available(context).await?;
        let mut types = types.records.iter().filter(|one| one.name == activity.type_name);
        match (types.next(), types.next()) {
            (Some(only), None) => Some(only.code),
            _ => None,
        }
    }

    async fn read_activity(&self, context: &RequestContext, id: &str) -> Result<Activity> {
        self.crm
            .call(context, &endpoint::GetActivityDetails(id.to_owned()))
            .await
    }

    /// A page of the activities of a lead, with the fields that the caller sees.
    pub async fn lead_activities(
        &self,
        context: &RequestContext,
        lead_id: &str,
        code: Option<i32>,
        page: usize,
        count: usize,
    ) -> Result<ActivityPage> {
        let read = self.read_lead_activities(context, lead_id, code, page, count).await;
        read.map(|page| visible_activities(context, page))
            .map_err(|error| visible_error(context, &[], error))
    }

    async fn read_lead_activities(
        &self,
        context: &RequestContext,
        lead_id: &str,
        code: Option<i32>,
        page: usize,
        count: usize,
    ) -> Result<ActivityPage> {
        let operation = endpoint::RetrieveActivities {
            lead_id: lead_id.to_owned(),
            code,
            offset: self.activity_offset.of(page, count),
            count,
        };
        self.crm.call(context, &operation).await
    }

    /// A page of the activities of all leads, with the fields that the caller sees.
    pub async fn modified_activities(
        &self,
        context: &RequestContext,
        query: &RetrieveModifiedActivities,
    ) -> Result<ActivityPage> {
        let read = self.crm.call(context, query).await;
        read.map(|page| visible_activities(context, page))
            .map_err(|error| visible_error(context, &[], error))
    }

    /// Checks a post, also against the permissions of the caller. Sends nothing to LeadSquared.
    pub fn validate_post(context: &RequestContext, post: &ActivityWriteRequest) -> Result<()> {
        let mut check = FieldCheck::new(context);
        check.write_activity(post);
        check.finish()?;
        or_invalid(post.check())
    }

    /// Posts or updates an activity, once per request id, at the position of `entry`. Returns the id of the activity.
    pub async fn post(
        self: &Arc<Self>,
        context: &RequestContext,
        post: ActivityWriteRequest,
        entry: WriteEntry,
    ) -> Result<String> {
        let subject = AuditSubject {
            lead_id: match &post.target {
                ActivityTarget::Lead(lead_id) => Some(lead_id.clone()),
                ActivityTarget::Activity(_) => None,
            },
            share_id: None,
            fields: post.field_names(),
        };
        let post = |context| async move { self.post_once(&context, post, entry).await };
        context.audited(subject, post).await
    }

    async fn post_once(
        self: &Arc<Self>,
        context: &RequestContext,
        post: ActivityWriteRequest,
        entry: WriteEntry,
    ) -> Result<String> {
        Self::validate_post(context, &post)?;
        let (gateway, write_context) = (self.clone(), entry.placed(context));
        let WriteEntry { reservation, request } = entry;
        let has_id = request.is_some();
        let named = named_hidden_activity_paths(context, &post);
        let work = move |before| async move {
            let result = gateway.perform_post(write_context, &post, before).await;
            // An activity changes its lead: the time of the last change and the score.
            match &post.target {
                ActivityTarget::Lead(lead_id) => gateway.reads.invalidate(Some(lead_id)),
                ActivityTarget::Activity(_) => gateway.reads.invalidate(None),
            }
            drop(reservation);
            result
        };
        let posted = self.posts.once(context, request, work).await;
        posted.map_err(|error| {
            let error = visible_error(context, &named, error);
            self.final_error(context, error, has_id, Recovery::Activity)
        })
    }

    async fn perform_post(
        &self,
        context: RequestContext,
        post: &ActivityWriteRequest,
        before: PriorAttempt,
    ) -> Result<String> {
        let mut write = PostWrite { gateway: self, post };
        let lost = self.begun_before(before);
        self.crm.send_until_known(context, lost, &mut write).await
    }
}

/// A post in progress. It is never sent again after a lost response: LeadSquared rejects no second activity, and the first
/// request may still be executed.
struct PostWrite<'a> {
    gateway: &'a Gateway,
    post: &'a ActivityWriteRequest,
}

/// What a look-up proves of a post whose response was lost.
enum PostState {
    /// The activity exists.
    Executed(String),
    /// No activity, or more than one, can be that of the post.
    Unproved,
    /// The look-up failed.
    Failed,
}

impl ReconcilableWrite for PostWrite<'_> {
    type Output = String;

    async fn send(&mut self, context: &RequestContext) -> Result<String> {
        let (crm, post) = (&self.gateway.crm, self.post);
        let sent = match &post.target {
            ActivityTarget::Lead(lead_id) => {
                let create = endpoint::CreateActivity {
                    post: Arc::new(post.clone()),
                    lead_id: lead_id.clone(),
                    owner_email_address: None,
                };
                crm.call(context, &create).await
            }
            ActivityTarget::Activity(activity_id) => {
                crm.call(context, &endpoint::UpdateActivity { post, activity_id }).await
            }
        };
        sent.map_err(with_activity_fields)
    }

    async fn reconcile(
        &mut self,
        context: &RequestContext,
        lost: LostWrite,
        _unknown: &Error,
    ) -> Result<Reconciled<String>> {
        let mut lookups = lost.lookups();
        let may_change = loop {
            let may_change = match self.look_up(context, lost).await? {
                PostState::Executed(id) => return Ok(Reconciled::Executed(id)),
                PostState::Unproved => false,
                PostState::Failed => true,
            };
            match lookups.next(context).await {
                NextLookup::Due => {}
                NextLookup::Concluded => break may_change,
                NextLookup::DeadlineExceeded => break true,
            }
        };
        let recovery = may_change.then(|| lost.recovery());
        Ok(Reconciled::Unknown { recovery })
    }
}

impl PostWrite<'_> {
    async fn look_up(&self, context: &RequestContext, lost: LostWrite) -> Result<PostState> {
        let (gateway, post) = (self.gateway, self.post);
        let clock = gateway.crm.clock();
        let is_after = |at: Option<Timestamp>| at.and_then(|at| clock.is_since(at, lost.since())) == Some(true);
        Ok(match &post.target {
            ActivityTarget::Lead(lead_id) => {
                let page = gateway
                    .read_lead_activities(context, lead_id, Some(post.code), 0, MAX_COMPARED)
                    .await;
                let Ok(page) = page else {
                    return Ok(PostState::Failed);
                };
                let mut matches = page
                    .activities
                    .records
                    .into_iter()
                    .filter(|activity| is_after(activity.created) && post.is_seen_in(activity));
                match (matches.next(), matches.next()) {
                    (Some(activity), None) => PostState::Executed(activity.id),
                    _ => PostState::Unproved,
                }
            }
            ActivityTarget::Activity(id) => match gateway.read_activity(context, id).await {
                Ok(activity) if post.is_seen_in(&activity) => PostState::Executed(activity.id),
                Ok(_) => PostState::Unproved,
                Err(error) if error.kind == ErrorKind::NotFound(Resource::Activity) => return Err(error),
                Err(_) => PostState::Failed,
            },
        })
    }
}

/// The same error, with the paths of activity fields instead of lead attributes.
fn with_activity_fields(mut error: Error) -> Error {
    if let ErrorKind::Invalid(violations) = &mut error.kind {
        for violation in violations {
            violation.field = match violation.field.strip_prefix("lead") {
                Some("") => "fields".to_owned(),
                Some(".owner_id") => "owner_id".to_owned(),
                Some(field) => match field.strip_prefix(".custom") {
                    Some(name) => format!("fields{name}"),
                    None => format!("fields{field}"),
                },
                None => continue,
            };
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_of_an_activity_name_its_fields() {
        for (reported, expected) in [
            ("lead.custom[\"mx_Custom_1\"]", "fields[\"mx_Custom_1\"]"),
            ("lead.owner_id", "owner_id"),
            ("lead", "fields"),
            ("activity_type", "activity_type"),
        ] {
            let ErrorKind::Invalid(violations) = with_activity_fields(Error::invalid(reported, "x")).kind else {
                panic!("{reported}");
            };
            assert_eq!(violations[0].field, expected);
        }
    }
}
