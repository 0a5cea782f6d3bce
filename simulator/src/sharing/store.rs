//! The stored shares, the share and revoke requests, and the rules of sharing. The current time is an argument.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::activities::store::Activities;
use crate::http::response::{Exception, Failure, Result};
use crate::leads::store::Leads;
use crate::random::Random;
use crate::state::Tenant;
use crate::{Reshare, RevokeUnshared, RevokeWrongAccess};

/// The `Entity` of a lead.
pub(crate) const LEAD: u8 = 1;
/// The `Entity` of an opportunity.
pub(crate) const OPPORTUNITY: u8 = 5;
/// The `ShareStatus` of a processed request. It is the only documented number.
pub(crate) const PROCESSED: i64 = 6;

/// A share: the access of a user to an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedAccess {
    /// The id of the user that has access.
    pub user_id: String,
    /// The kind of the entity: 1 is a lead, 5 is an opportunity.
    pub entity: u8,
    /// The number of the lead (`ProspectAutoId`), or the GUID of the opportunity.
    pub entity_id: String,
    /// The id of the activity through which the lead is shared. `None` for an opportunity.
    pub activity_id: Option<String>,
    /// The access type: 1 is read, 2 is write.
    pub access: u8,
    /// Time at which the request was processed.
    pub granted: Timestamp,
    /// Time at which the share expires.
    pub expires: Timestamp,
}

/// An accepted share or revoke request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRequest {
    /// The id that the response contains.
    pub id: String,
    /// Whether the request is a revoke request.
    pub revoke: bool,
    /// Number of entities.
    pub items: usize,
    /// Time of acceptance.
    pub accepted: Timestamp,
    /// Number of polls of the status.
    pub polls: u32,
    /// Whether the request was processed, with or without an error.
    pub done: bool,
    /// The error of a failed request.
    pub error: Option<String>,
}

/// An entity to share or to revoke.
#[derive(Clone, Debug)]
pub(crate) struct ShareItem {
    pub(crate) user_id: String,
    pub(crate) entity: u8,
    pub(crate) entity_id: String,
    pub(crate) activity_id: Option<String>,
    pub(crate) access: u8,
    /// The duration in minutes. A revoke ignores it.
    pub(crate) minutes: i64,
}

/// The data that the rules of sharing need in addition to the shares.
pub(crate) struct SharingContext<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) leads: &'a Leads,
    pub(crate) activities: &'a Activities,
}

#[derive(Debug)]
struct StoredRequest {
    record: ShareRequest,
    items: Vec<ShareItem>,
    /// Time of processing. Unset until enough polls have arrived.
    due: Option<Timestamp>,
}

/// The user, the kind and id of the entity, and the activity. Shares of one user are adjacent in this order.
type ShareKey = (String, u8, String, Option<String>);

/// All shares and requests of the account.
#[derive(Debug)]
pub(crate) struct Shares {
    shares: BTreeMap<ShareKey, Vec<SharedAccess>>,
    requests: HashMap<String, StoredRequest>,
    /// The ids of all requests in the order of acceptance.
    order: Vec<String>,
    waiting: Vec<String>,
    random: Random,
}

impl Shares {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            shares: BTreeMap::new(),
            requests: HashMap::new(),
            order: Vec::new(),
            waiting: Vec::new(),
            // Requests have a generator of their own, so that a request does not change the ids of leads and
            // activities.
            random: Random::new(seed ^ 0x5a4e_0000_0000_0000),
        }
    }

    /// Accepts a request and returns its id.
    pub(crate) fn accept(&mut self, revoke: bool, items: Vec<ShareItem>, tenant: &Tenant, now: Timestamp) -> String {
        let id = format!("{:016x}{:016x}", self.random.next(), self.random.next());
        let record = ShareRequest {
            id: id.clone(),
            revoke,
            items: items.len(),
            accepted: now,
            polls: 0,
            done: false,
            error: None,
        };
        let mut request = StoredRequest {
            record,
            items,
            due: None,
        };
        request.set_due(tenant, now);
        self.requests.insert(id.clone(), request);
        self.order.push(id.clone());
        self.waiting.push(id.clone());
        id
    }

    /// Counts a poll and returns the request in the state before it is processed. The poll may make the request due.
    /// Returns `None` if the id is unknown or expired.
    pub(crate) fn poll(&mut self, id: &str, tenant: &Tenant, now: Timestamp) -> Option<ShareRequest> {
        let request = self.requests.get_mut(&id.to_ascii_lowercase())?;
        let lifetime = SignedDuration::try_from(tenant.options.share_request_lifetime).unwrap_or_default();
        if !lifetime.is_zero() && now.duration_since(request.record.accepted) >= lifetime {
            return None;
        }
        request.record.polls += 1;
        request.set_due(tenant, now);
        Some(request.record.clone())
    }

    /// Processes the requests that are due. The time of processing is the time at which the request was due.
    pub(crate) fn process_due(&mut self, context: &SharingContext, now: Timestamp) {
        let due_at = |id: &String| self.requests.get(id)?.due.filter(|at| *at <= now);
        let mut due: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|id| Some((due_at(id)?, id.clone())))
            .collect();
        if due.is_empty() {
            return;
        }
        // The sort is stable: requests that are due at the same time are processed in the order of acceptance.
        due.sort_by_key(|(at, _)| *at);
        let requests = &self.requests;
        let waits = |request: &StoredRequest| request.due.is_none_or(|at| at > now);
        self.waiting.retain(|id| requests.get(id).is_some_and(waits));
        for (at, id) in due {
            let Some(request) = self.requests.get_mut(&id) else {
                continue;
            };
            let (revoke, items) = (request.record.revoke, std::mem::take(&mut request.items));
            let error = self.process(revoke, &items, context, at).err().map(message);
            if let Some(request) = self.requests.get_mut(&id) {
                request.record.done = true;
                request.record.error = error;
            }
        }
    }

    fn process(&mut self, revoke: bool, items: &[ShareItem], context: &SharingContext, now: Timestamp) -> Result<()> {
        check_permission(context.tenant)?;
        let options = &context.tenant.options;
        let before = (options.share_all_or_nothing && items.len() > 1).then(|| self.shares.clone());
        let mut first = Ok(());
        for item in items {
            let done = match revoke {
                true => self.revoke(item, context.tenant, now),
                false => self.share(item, context, now),
            };
            first = first.and(done);
        }
        if let (Err(_), Some(before)) = (&first, before) {
            self.shares = before;
        }
        first
    }

    fn share(&mut self, item: &ShareItem, context: &SharingContext, now: Timestamp) -> Result<()> {
        self.check_share(item, context, now)?;
        let ends = |from: Timestamp| {
            let length = SignedDuration::from_secs(item.minutes.saturating_mul(60));
            from.checked_add(length).unwrap_or(Timestamp::MAX)
        };
        let mut access = SharedAccess {
            user_id: item.user_id.clone(),
            entity: item.entity,
            entity_id: item.entity_id.clone(),
            activity_id: item.activity_id.clone(),
            access: item.access,
            granted: now,
            expires: ends(now),
        };
        let held = self.shares.entry(item.key()).or_default();
        held.retain(|access| access.expires > now);
        match context.tenant.options.reshare {
            Reshare::Duplicate => {}
            Reshare::Extend => {
                if let Some(old) = held.pop() {
                    access.granted = old.granted;
                    access.expires = ends(old.expires);
                }
            }
            Reshare::Replace | Reshare::Reject => held.clear(),
        }
        held.push(access);
        Ok(())
    }

    /// Returns an error if the item cannot be shared.
    pub(crate) fn check_share(&self, item: &ShareItem, context: &SharingContext, now: Timestamp) -> Result<()> {
        let options = &context.tenant.options;
        let mut users = options.users.iter();
        let user = users.find(|user| user.id.eq_ignore_ascii_case(&item.user_id));
        let user = user.ok_or_else(|| Exception::not_found("User"))?;
        if !user.active {
            return Err(Exception::invalid("User is not active"));
        }
        let can_receive_shares =
            user.role == "Sales_User" || options.share_with_sales_managers && user.role == "Sales_Manager";
        if !can_receive_shares {
            return Err(Exception::invalid("User is not a sales user"));
        }
        match item.entity {
            OPPORTUNITY => context.check_opportunity(item)?,
            _ => context.check_lead(item)?,
        }
        let max = i64::from(options.share_max_minutes);
        if item.minutes <= 0 || max > 0 && item.minutes > max {
            return Err(Exception::invalid("Invalid Input! Parameter Name: DurationInMinutes"));
        }
        let held = self.live_shares(item, now).next().is_some();
        if held && options.reshare == Reshare::Reject {
            return Err(Exception::duplicate("Already shared with the user"));
        }
        let more = !held || options.reshare == Reshare::Duplicate;
        let max = options.shares_per_user as usize;
        if item.entity == LEAD && more && max > 0 && self.count_for_limit(item, context.tenant, now) >= max {
            let message = format!("Number of leads shared with a user can not be more than {max}");
            return Err(Exception::over_limit(message));
        }
        Ok(())
    }

    fn revoke(&mut self, item: &ShareItem, tenant: &Tenant, now: Timestamp) -> Result<()> {
        if self.live_shares(item, now).next().is_none() {
            return match tenant.options.revoke_unshared {
                RevokeUnshared::Succeeds => Ok(()),
                RevokeUnshared::AtOnce | RevokeUnshared::Later => Err(not_shared(tenant)),
            };
        }
        let matching = self.live_shares(item, now).any(|held| held.access == item.access);
        let any = match (matching, tenant.options.revoke_wrong_access) {
            (true, _) => false,
            (false, RevokeWrongAccess::Works) => true,
            (false, RevokeWrongAccess::Ignored) => return Ok(()),
            (false, RevokeWrongAccess::Fails) => {
                return Err(Exception::invalid("Not shared with the access type given"));
            }
        };
        if let Some(held) = self.shares.get_mut(&item.key()) {
            held.retain(|held| !any && held.access != item.access);
        }
        Ok(())
    }

    /// Returns an error if there is no share to revoke.
    pub(crate) fn check_revoke(&self, item: &ShareItem, tenant: &Tenant, now: Timestamp) -> Result<()> {
        let held = self.live_shares(item, now).next();
        held.map(drop).ok_or_else(|| not_shared(tenant))
    }

    /// Ends the matching shares.
    pub(crate) fn end(&mut self, matches: impl Fn(&SharedAccess) -> bool) {
        for held in self.shares.values_mut() {
            held.retain(|access| !matches(access));
        }
    }

    /// Ends the shares of a lead.
    pub(crate) fn end_lead(&mut self, number: u64) {
        let number = number.to_string();
        self.end(|access| access.entity == LEAD && access.entity_id == number);
    }

    /// Returns the shares that have not expired, sorted by user.
    pub(crate) fn live(&self, now: Timestamp) -> impl Iterator<Item = &SharedAccess> {
        self.shares
            .values()
            .flatten()
            .filter(move |access| access.expires > now)
    }

    /// Returns all accepted requests in the order of acceptance.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &ShareRequest> {
        let requests = self.order.iter().filter_map(|id| self.requests.get(id));
        requests.map(|request| &request.record)
    }

    fn live_shares(&self, item: &ShareItem, now: Timestamp) -> impl Iterator<Item = &SharedAccess> {
        let held = self.shares.get(&item.key()).into_iter().flatten();
        held.filter(move |access| access.expires > now)
    }

    /// Returns the number of shares of leads that the user has, or the number of shared leads with
    /// `share_limit_counts_leads`.
    fn count_for_limit(&self, item: &ShareItem, tenant: &Tenant, now: Timestamp) -> usize {
        let user = item.user_id.to_ascii_lowercase();
        let first = (user.clone(), LEAD, String::new(), None);
        let shares = self
            .shares
            .range(first..)
            .take_while(|(key, _)| key.0 == user && key.1 == LEAD);
        let live = shares.filter_map(|(key, held)| {
            let live = held.iter().filter(|access| access.expires > now).count();
            (live > 0).then_some((&key.2, live))
        });
        if !tenant.options.share_limit_counts_leads {
            return live.map(|(_, count)| count).sum();
        }
        let mut leads: Vec<_> = live.map(|(lead, _)| lead).collect();
        leads.dedup();
        leads.len()
    }
}

impl StoredRequest {
    /// Sets the time of processing if enough polls have arrived.
    fn set_due(&mut self, tenant: &Tenant, now: Timestamp) {
        let options = &tenant.options;
        if self.due.is_some() || self.record.polls < options.share_polls {
            return;
        }
        let delay = SignedDuration::try_from(options.share_delay).unwrap_or_default();
        let earliest = self.record.accepted.checked_add(delay).unwrap_or(Timestamp::MAX);
        self.due = Some(earliest.max(now));
    }
}

impl ShareItem {
    fn key(&self) -> ShareKey {
        let lower = |id: &String| id.to_ascii_lowercase();
        let activity = self.activity_id.as_ref().map(lower);
        (lower(&self.user_id), self.entity, lower(&self.entity_id), activity)
    }
}

impl SharingContext<'_> {
    fn check_lead(&self, item: &ShareItem) -> Result<()> {
        let options = &self.tenant.options;
        let number = item.entity_id.parse().ok();
        let lead = number.and_then(|number| self.leads.get(number));
        // Another form of the same number would create a second share of the same lead.
        let lead = lead.filter(|lead| lead.number.to_string() == item.entity_id);
        let lead = lead.ok_or_else(Exception::lead_not_found)?;
        let activity = item.activity_id.as_deref().and_then(|id| self.activities.by_id(id));
        let activity = activity.ok_or_else(Exception::unknown_activity)?;
        if !activity.lead_id.eq_ignore_ascii_case(&lead.id) {
            return Err(Exception::invalid("Activity is not of the lead"));
        }
        let kind = self.tenant.activity_type(activity.code);
        if options.share_custom_activities_only && !kind.is_some_and(|kind| kind.is_custom()) {
            return Err(Exception::invalid("Activity is not a custom activity"));
        }
        let owner = activity.owner.as_deref().unwrap_or_default();
        if options.share_owner_checked && !owner.eq_ignore_ascii_case(&item.user_id) {
            return Err(Exception::invalid("User is not the owner of the activity"));
        }
        Ok(())
    }

    fn check_opportunity(&self, item: &ShareItem) -> Result<()> {
        let options = &self.tenant.options;
        if !options.opportunity_sharing_enabled {
            return Err(Exception::not_allowed(
                "Opportunity Sharing is not enabled for your account",
            ));
        }
        let mut opportunities = options.opportunities.iter();
        let found = opportunities.find(|known| known.id.eq_ignore_ascii_case(&item.entity_id));
        let opportunity = found.ok_or_else(|| Exception::not_found("Opportunity"))?;
        if opportunity.owner.eq_ignore_ascii_case(&item.user_id) {
            return Err(Exception::invalid("User is the owner of the opportunity"));
        }
        Ok(())
    }
}

/// Returns an error if sharing is disabled or if the owner of the keys is not an administrator.
pub(crate) fn check_permission(tenant: &Tenant) -> Result<()> {
    if !tenant.options.sharing_enabled {
        return Err(Exception::not_allowed("Entity Sharing is not enabled for your account"));
    }
    if tenant.options.role != "Administrator" {
        return Err(Exception::not_allowed("Only an administrator can share or revoke"));
    }
    Ok(())
}

fn not_shared(tenant: &Tenant) -> Failure {
    Exception::invalid(tenant.options.revoke_unshared_text.clone())
}

fn message(failure: Failure) -> String {
    match failure {
        Failure::Exception(Exception { message, .. })
        | Failure::InvalidBody(message)
        | Failure::FailedStatus(message) => message,
        Failure::NotFound => "Not found".into(),
    }
}
