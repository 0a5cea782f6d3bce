//! Activities: posted once, read.

use std::sync::Arc;

use jiff::Timestamp;

use super::reconcile::{Look, Loss};
use super::{Entry, Gateway, Modified, or_invalid};
use crate::clock;
use crate::context::RequestContext;
use crate::crm::activity as endpoint;
use crate::domain::activity::{
    Activity, ActivityForm, ActivityPage, ActivityTarget, ActivityType, ActivityWriteRequest,
};
use crate::domain::listed::Listed;
use crate::error::{Error, ErrorKind, Repeat, Resource, Result};
use crate::store::Before;

/// How many activities of a lead are looked at for one whose answer was lost.
const MAX_LOOKED_AT: usize = 100;

impl Gateway {
    /// All types of activities.
    pub async fn activity_types(&self, context: &RequestContext) -> Result<Arc<Listed<ActivityType>>> {
        self.activity_types.get(context).await
    }

    /// The form of the type of activities with that code, as LeadSquared has it now.
    pub async fn activity_form(&self, context: &RequestContext, code: i32) -> Result<ActivityForm> {
        self.crm.call(context, &endpoint::GetSetting(code)).await
    }

    /// One activity.
    pub async fn get_activity(&self, context: &RequestContext, id: &str) -> Result<Activity> {
        self.crm.call(context, &endpoint::GetDetails(id.to_owned())).await
    }

    /// A page of the activities of a lead.
    pub async fn lead_activities(
        &self,
        context: &RequestContext,
        lead_id: &str,
        code: Option<i32>,
        page: usize,
        count: usize,
    ) -> Result<ActivityPage> {
        let operation = endpoint::Retrieve {
            lead_id: lead_id.to_owned(),
            code,
            offset: self.activity_offset.of(page, count),
            count,
        };
        self.crm.call(context, &operation).await
    }

    /// A page of the activities of all leads.
    pub async fn modified_activities(&self, context: &RequestContext, asked: &Modified) -> Result<ActivityPage> {
        self.crm.call(context, asked).await
    }

    /// Whether the post could be made, as far as that can be told without asking LeadSquared.
    pub fn validate_post(post: &ActivityWriteRequest) -> Result<()> {
        or_invalid(post.check())
    }

    /// Posts or updates an activity at its place, once per request id; its id.
    pub async fn post(
        self: &Arc<Self>,
        context: &RequestContext,
        post: ActivityWriteRequest,
        entry: Entry,
    ) -> Result<String> {
        Self::validate_post(&post)?;
        let (this, asked) = (self.clone(), entry.placed(context));
        let Entry { reservation, request } = entry;
        let has_id = request.is_some();
        let work = move |before| async move {
            let result = this.perform_post(asked, &post, before).await;
            // It shows in the lead: when it was last changed, its score.
            match &post.target {
                ActivityTarget::Lead(lead_id) => this.reads.invalidate(Some(lead_id)),
                ActivityTarget::Activity(_) => this.reads.invalidate(None),
            }
            drop(reservation);
            result
        };
        let posted = self.posts.once(context, request, work).await;
        posted.map_err(|error| self.ended(context, error, has_id, Repeat::Activity))
    }

    async fn perform_post(
        &self,
        context: RequestContext,
        post: &ActivityWriteRequest,
        before: Before,
    ) -> Result<String> {
        if let Before::Uncertain { since } = before {
            return self.reconcile_post(&context, post, self.loss_before(since)).await;
        }
        let started = clock::now();
        let sent = match &post.target {
            ActivityTarget::Lead(lead_id) => {
                let create = endpoint::Create {
                    post: Arc::new(post.clone()),
                    lead_id: lead_id.clone(),
                    owner_email_address: None,
                };
                self.crm.call(&context, &create).await
            }
            ActivityTarget::Activity(activity_id) => {
                self.crm.call(&context, &endpoint::Update { post, activity_id }).await
            }
        };
        match sent.map_err(located) {
            Err(error) if error.kind == ErrorKind::OutcomeUnknown => {
                let loss = self.loss(started, &error);
                let reconciled = self.reconcile_post(&self.doubted(&context, loss), post, loss).await;
                reconciled.map_err(|unknown| with_facts(unknown, error))
            }
            result => result,
        }
    }

    /// Looks whether a post whose answer was lost was made. LeadSquared refuses no second one, so what is not found is not
    /// posted again: it may come still.
    async fn reconcile_post(
        &self,
        context: &RequestContext,
        post: &ActivityWriteRequest,
        loss: Loss,
    ) -> Result<String> {
        let mut looks = loss.looks();
        loop {
            let reconciled = self.look_for_post(context, post, loss).await;
            let is_unseen = matches!(&reconciled, Err(error) if error.kind == ErrorKind::OutcomeUnknown);
            if !is_unseen {
                return reconciled;
            }
            match looks.next(context).await {
                Look::Again => {}
                Look::Counts => return reconciled,
                Look::Over => return reconciled.map_err(|unknown| unknown.settled_by(loss.repeat())),
            }
        }
    }

    /// The error says with [`crate::error::Facts::repeat`] if a later look may tell more.
    async fn look_for_post(&self, context: &RequestContext, post: &ActivityWriteRequest, loss: Loss) -> Result<String> {
        let since = loss.since();
        let may_be_ours = |at: Option<Timestamp>| at.and_then(|at| self.crm.clock().is_since(at, since)) == Some(true);
        let unknown = || Error::from(ErrorKind::OutcomeUnknown);
        let not_looked_up = || unknown().settled_by(loss.repeat());
        match &post.target {
            ActivityTarget::Lead(lead_id) => {
                let found = self
                    .lead_activities(context, lead_id, Some(post.code), 0, MAX_LOOKED_AT)
                    .await;
                let page = found.map_err(|_| not_looked_up())?;
                let mut ours = page
                    .activities
                    .records
                    .into_iter()
                    .filter(|activity| may_be_ours(activity.created) && post.is_seen_in(activity));
                match (ours.next(), ours.next()) {
                    (Some(activity), None) => Ok(activity.id),
                    _ => Err(unknown()),
                }
            }
            ActivityTarget::Activity(id) => match self.get_activity(context, id).await {
                Ok(activity) if post.is_seen_in(&activity) => Ok(activity.id),
                Ok(_) => Err(unknown()),
                Err(error) if error.kind == ErrorKind::NotFound(Resource::Activity) => Err(error),
                Err(_) => Err(not_looked_up()),
            },
        }
    }
}

/// An unknown outcome with what is known of the write that was lost.
fn with_facts(mut unknown: Error, lost: Error) -> Error {
    if unknown.kind == ErrorKind::OutcomeUnknown {
        let repeat = unknown.facts.repeat;
        unknown.facts = lost.facts;
        unknown.facts.repeat = repeat;
    }
    unknown
}

/// The same error with the fields of an activity where LeadSquared names attributes.
fn located(mut error: Error) -> Error {
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
    fn what_leadsquared_refuses_in_an_activity_is_located_in_its_fields() {
        for (theirs, ours) in [
            ("lead.custom[\"mx_Custom_1\"]", "fields[\"mx_Custom_1\"]"),
            ("lead.owner_id", "owner_id"),
            ("lead", "fields"),
            ("activity_type", "activity_type"),
        ] {
            let ErrorKind::Invalid(violations) = located(Error::invalid(theirs, "x")).kind else {
                panic!("{theirs}");
            };
            assert_eq!(violations[0].field, ours);
        }
    }
}
