//! The life of a request: one short function per operation. Knows neither protobuf nor HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use crate::cached::Cached;
use crate::caller::{Call, RequestId};
use crate::clock;
pub use crate::crm::activity::RetrieveModified as Modified;
use crate::crm::activity::{self, GetTypes};
use crate::crm::authentication::{KeyOwner, UserByAccessKey};
use crate::crm::metadata::LeadsMetaData;
use crate::crm::user::{GetUsers, RetrieveUser};
use crate::crm::{self, lead as endpoint};
use crate::domain::activity::{Activity, ActivityType, Page, Post, Target};
use crate::domain::field::{self, Catalog};
use crate::domain::lead::{Action, Key, LEAD_ID, Lead, Row, Write, Written};
use crate::domain::mask::Mask;
use crate::domain::spent::Spent;
use crate::domain::user::{self, Roster, User};
use crate::domain::{phone, time};
use crate::error::{Error, Kind, Resource, Result, Violation};
use crate::quota::{Quota, Snapshot};
use crate::store::{self, Before, Requests, Store};

/// How often one write is sent at most when answers get lost.
const MOST_SENDS: u32 = 2;
/// The most ids of one read, by the vendor's page on it.
const MOST_IDS: usize = 10_000;

/// What differs between accounts and is not documented, or is a matter of taste (`[tenants.NAME]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long the metadata counts as fresh.
    pub metadata_lifetime: Duration,
    /// How long request ids are remembered.
    pub keep_request_ids: Duration,
    /// How writes behave.
    pub writes: WriteSettings,
    /// What the pages of a lead's activities are counted by.
    pub activity_offset: Offset,
}

/// What `Offset` counts where a lead's activities are read: the vendor's page says pages, clients were seen to count rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offset {
    /// Rows.
    Rows,
    /// Pages.
    Pages,
}

/// How writes behave (`[tenants.NAME.writes]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteSettings {
    /// How an attribute is cleared.
    pub clear_with: endpoint::ClearWith,
    /// Whether an update may be refused as a duplicate of the very lead that it updates. It was seen once; then the
    /// attribute is looked up and, if it is the lead's own, left out.
    pub own_values_may_clash: bool,
    /// The attributes of which no two leads have the same value. A create that may have been executed is sent again only if
    /// it has one of them, so that LeadSquared itself refuses to do it twice.
    pub unique: Vec<String>,
}

/// How many activities of a lead are looked at for one whose answer was lost.
const MOST_LOOKED_AT: usize = 100;

/// The gateway to one account.
pub struct Gateway {
    crm: crm::Client,
    quota: Quota,
    metadata: Cached<LeadsMetaData, Catalog>,
    users: Cached<GetUsers, Roster>,
    activity_types: Cached<GetTypes, Vec<ActivityType>>,
    requests: Requests<Written>,
    posts: Requests<String>,
    settings: WriteSettings,
    activity_offset: Offset,
}

/// The leads that were read, and the ids that are not there.
pub type Found = (Vec<Lead>, Vec<String>);

/// What a look at the lead says about a write whose answer was lost.
enum Settled {
    Done(Written),
    NotDone,
    Unknown,
}

impl Gateway {
    /// A gateway to the account of that client.
    pub fn new(
        name: &str,
        crm: crm::Client,
        quota: Quota,
        store: &Store,
        settings: Settings,
        tasks: &TaskTracker,
    ) -> Self {
        let lifetime = settings.metadata_lifetime;
        Self {
            metadata: Cached::new(crm.clone(), LeadsMetaData, Catalog::new, lifetime, tasks.clone()),
            users: Cached::new(
                crm.clone(),
                GetUsers,
                |users, _| Roster::new(users),
                lifetime,
                tasks.clone(),
            ),
            activity_types: Cached::new(crm.clone(), GetTypes, |types, _| types, lifetime, tasks.clone()),
            posts: Requests::new(store.clone(), name, settings.keep_request_ids, tasks.clone()),
            activity_offset: settings.activity_offset,
            requests: Requests::new(store.clone(), name, settings.keep_request_ids, tasks.clone()),
            settings: settings.writes,
            crm,
            quota,
        }
    }

    /// Fetches in the background what the first calls would have to wait for.
    pub fn warm_up(&self) {
        self.metadata.refresh();
    }

    /// The state of the account's quota.
    pub fn quota(&self) -> Snapshot {
        self.quota.snapshot()
    }

    /// What has been spent of the quota, to be remembered over a restart.
    pub fn spent(&self) -> Option<Spent> {
        self.quota.spent()
    }

    /// Forgets request ids that are old enough.
    pub async fn sweep(&self) -> std::result::Result<u64, store::Fault> {
        self.requests.sweep().await
    }

    /// Whose keys these are.
    pub async fn key_owner(&self, call: &Call) -> Result<KeyOwner> {
        self.crm.call(call, &UserByAccessKey).await
    }

    /// What attributes leads have.
    pub async fn describe_fields(&self, call: &Call) -> Result<Arc<Catalog>> {
        self.metadata.get(call).await
    }

    /// One user: from the roster, and where that cannot be had or has none such, by asking for that one.
    pub async fn get_user(&self, call: &Call, key: &user::Key) -> Result<User> {
        if let Some(user) = self.users.at_hand(call).await.and_then(|users| users.get(key).cloned()) {
            return Ok(user);
        }
        self.crm.call(call, &RetrieveUser(key.clone())).await
    }

    /// All users.
    pub async fn users(&self, call: &Call) -> Result<Arc<Roster>> {
        self.users.get(call).await
    }

    /// All types of activities.
    pub async fn activity_types(&self, call: &Call) -> Result<Arc<Vec<ActivityType>>> {
        self.activity_types.get(call).await
    }

    /// One activity.
    pub async fn get_activity(&self, call: &Call, id: &str) -> Result<Activity> {
        self.crm.call(call, &activity::GetDetails(id.to_owned())).await
    }

    /// A page of the activities of a lead.
    pub async fn lead_activities(
        &self,
        call: &Call,
        lead_id: &str,
        code: Option<i32>,
        page: usize,
        count: usize,
    ) -> Result<Page> {
        let offset = match self.activity_offset {
            Offset::Rows => page * count,
            Offset::Pages => page,
        };
        let operation = activity::Retrieve {
            lead_id: lead_id.to_owned(),
            code,
            offset,
            count,
        };
        self.crm.call(call, &operation).await
    }

    /// A page of the activities of all leads.
    pub async fn modified_activities(&self, call: &Call, asked: &Modified) -> Result<Page> {
        self.crm.call(call, asked).await
    }

    /// Whether the post could be made, as far as that can be told without asking LeadSquared.
    pub fn validate_post(post: &Post) -> Result<()> {
        or_invalid(post.check())
    }

    /// Posts or updates an activity, once per request id; its id.
    pub async fn post(self: &Arc<Self>, call: &Call, post: Post, request: Option<RequestId>) -> Result<String> {
        Self::validate_post(&post)?;
        let work = |before| {
            let (this, call) = (self.clone(), call.clone());
            async move { this.perform_post(call, &post, before).await }
        };
        self.posts.once(call, request, work).await
    }

    async fn perform_post(&self, call: Call, post: &Post, before: Before) -> Result<String> {
        if let Before::Uncertain { since } = before {
            return self.settle_post(&call, post, since).await;
        }
        let started = clock::now();
        let sent = match &post.target {
            Target::Lead(lead_id) => self.crm.call(&call, &activity::Create { post, lead_id }).await,
            Target::Activity(activity_id) => self.crm.call(&call, &activity::Update { post, activity_id }).await,
        };
        match sent {
            Err(error) if error.kind == Kind::OutcomeUnknown => {
                let call = call.settling(self.crm.settle_timeout());
                self.settle_post(&call, post, started).await
            }
            result => result,
        }
    }

    /// Looks whether a post whose answer was lost was made. LeadSquared refuses no second one, so what is not found is not
    /// posted again: it may come still.
    async fn settle_post(&self, call: &Call, post: &Post, since: Timestamp) -> Result<String> {
        let may_be_ours = |at: Option<Timestamp>| at.is_some_and(|at| self.crm.clock().may_be_since(at, since));
        let unknown = || Error::from(Kind::OutcomeUnknown);
        match &post.target {
            Target::Lead(lead_id) => {
                let found = self
                    .lead_activities(call, lead_id, Some(post.code), 0, MOST_LOOKED_AT)
                    .await;
                let page = found.map_err(|_| unknown())?;
                let mut ours = page
                    .activities
                    .into_iter()
                    .filter(|activity| may_be_ours(activity.created) && post.is_seen_in(activity));
                match (ours.next(), ours.next()) {
                    (Some(activity), None) => Ok(activity.id),
                    _ => Err(unknown()),
                }
            }
            Target::Activity(id) => match self.get_activity(call, id).await {
                Ok(activity) if post.is_seen_in(&activity) => Ok(activity.id),
                Err(error) if error.kind == Kind::NotFound(Resource::Activity) => Err(error),
                _ => Err(unknown()),
            },
        }
    }

    /// Whether the write could be made, as far as that can be told without asking LeadSquared.
    pub async fn validate(&self, call: &Call, write: &Write) -> Result<()> {
        let catalog = self.metadata.at_hand(call).await;
        let mut violations = write.check();
        violations.extend(field::check(&write.attributes, catalog.as_deref()));
        violations.extend(field::check_cleared(&write.cleared, catalog.as_deref()));
        or_invalid(violations)
    }

    /// Makes a write, once per request id.
    pub async fn write(self: &Arc<Self>, call: &Call, write: Write, request: Option<RequestId>) -> Result<Written> {
        self.validate(call, &write).await?;
        let work = |before| {
            let (this, call) = (self.clone(), call.clone());
            async move { this.perform(call, &write, before).await }
        };
        self.requests.once(call, request, work).await
    }

    /// Reads one lead.
    pub async fn get_lead(&self, call: &Call, key: &Key, mask: &Mask) -> Result<Lead> {
        let catalog = self.metadata.at_hand(call).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let mut row = self.find(call, key, mask, catalog.as_deref()).await?;
        mask.apply(&mut row);
        let mut lead = Lead::from_row(row, catalog.as_deref());
        if let (Key::Id(id), true) = (key, lead.id.is_empty()) {
            lead.id.clone_from(id);
        }
        Ok(lead)
    }

    /// Reads many leads at once, in the order of the ids.
    pub async fn batch_get_leads(&self, call: &Call, ids: &[String], mask: &Mask) -> Result<Found> {
        or_invalid(check_ids(ids))?;
        let catalog = self.metadata.at_hand(call).await;
        or_invalid(mask.check(catalog.as_deref()))?;
        let mut seen = BTreeSet::new();
        let ids: Vec<String> = ids.iter().filter(|id| seen.insert(fold(id))).cloned().collect();
        let columns = columns(mask, catalog.as_deref());

        let mut rows = BTreeMap::new();
        for page in 1.. {
            let operation = endpoint::GetByIds {
                ids: ids.clone(),
                columns: columns.clone(),
                page,
            };
            let found = self.crm.call(call, &operation).await?;
            let before = rows.len();
            rows.extend(found.into_iter().filter_map(|row| Some((fold(id_of(&row)?), row))));
            // LeadSquared may return less than was asked for, and its count may be that of the page: only a page without
            // news is the last.
            if rows.len() == before || rows.len() >= ids.len() {
                break;
            }
        }
        let (mut leads, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            match rows.remove(&fold(&id)) {
                Some(mut row) => {
                    mask.apply(&mut row);
                    leads.push(Lead::from_row(row, catalog.as_deref()));
                }
                None => missing.push(id),
            }
        }
        Ok((leads, missing))
    }

    /// Looks a lead up. A phone is tried in the forms that accounts were seen to know.
    async fn find(&self, call: &Call, key: &Key, mask: &Mask, catalog: Option<&Catalog>) -> Result<Row> {
        match key {
            Key::Id(id) => self.crm.call(call, &endpoint::GetById(id.clone())).await,
            Key::Email(email) => self.crm.call(call, &endpoint::GetByEmail(email.clone())).await,
            Key::Number(number) => {
                let operation = endpoint::GetByNumber {
                    number: number.clone(),
                    columns: columns(mask, catalog),
                };
                self.crm.call(call, &operation).await
            }
            Key::Phone(number) => {
                let mut forms = phone::lookup_forms(number).into_iter().peekable();
                loop {
                    let form = forms.next().unwrap_or_default();
                    match self.crm.call(call, &endpoint::GetByPhone(form)).await {
                        Err(error) if is_missing(&error) && forms.peek().is_some() => {}
                        result => return result,
                    }
                }
            }
        }
    }

    /// Sends a write; if its answer gets lost, looks whether it was executed before it is sent again.
    async fn perform(&self, mut call: Call, write: &Write, before: Before) -> Result<Written> {
        let mut since = match before {
            Before::Nothing => None,
            Before::Uncertain { since } => Some(since),
        };
        let mut unknown = Error::from(Kind::OutcomeUnknown);
        for sends in 0.. {
            if let Some(since) = since {
                match self.settle(&call, write, since).await? {
                    Settled::Done(written) => return Ok(written),
                    Settled::NotDone if sends < MOST_SENDS => {}
                    Settled::NotDone | Settled::Unknown => break,
                }
            }
            let started = clock::now();
            match self.send(&call, write).await {
                Err(error) if error.kind == Kind::OutcomeUnknown => {
                    call = call.settling(self.crm.settle_timeout());
                    since = since.or(Some(started));
                    unknown = error;
                }
                // After a lost answer, the lead in the way may be the one that was made.
                Err(error) if matches!(error.kind, Kind::Duplicate { .. }) && since.is_some() => {
                    let settled = self.settle(&call, write, since.unwrap_or(started)).await?;
                    return match settled {
                        Settled::Done(written) => Ok(written),
                        Settled::NotDone | Settled::Unknown => Err(error),
                    };
                }
                result => return result,
            }
        }
        Err(unknown)
    }

    async fn send(&self, call: &Call, write: &Write) -> Result<Written> {
        let clear_with = self.settings.clear_with;
        match &write.action {
            Action::Create => self.crm.call(call, &endpoint::Create { write, clear_with }).await,
            Action::Update { lead_id, .. } => self.update(call, write, lead_id).await,
            Action::Upsert { .. } => self.upsert(call, write).await,
            Action::Capture { .. } => self.crm.call(call, &endpoint::Capture { write, clear_with }).await,
        }
    }

    async fn update(&self, call: &Call, write: &Write, lead_id: &str) -> Result<Written> {
        let clear_with = self.settings.clear_with;
        let mut write = write.clone();
        loop {
            let operation = endpoint::Update {
                write: &write,
                clear_with,
            };
            let result = self.crm.call(call, &operation).await;
            let Some(attribute) = result.as_ref().err().and_then(duplicate_attribute) else {
                return result;
            };
            let Some(key) = own_key(&write, attribute).filter(|_| self.settings.own_values_may_clash) else {
                return result;
            };
            let row = match self.find(call, &key, &Mask::default(), None).await {
                Err(error) if is_missing(&error) => return result,
                row => row?,
            };
            if id_of(&row).is_none_or(|id| fold(id) != fold(lead_id)) {
                return result.map_err(|error| with_lead(error, &row));
            }
            // Found by its mobile, say, it has the value elsewhere, and the clash is with another lead.
            if !write.attributes.is_held_by(attribute, &row) {
                return result;
            }
            // Each round leaves out one attribute, so this ends.
            write.attributes = write.attributes.without(attribute);
            if write.attributes.is_empty() && write.cleared.is_empty() {
                return Ok(Written {
                    lead_id: lead_id.to_owned(),
                    affected_rows: 0,
                    created: Some(false),
                });
            }
        }
    }

    /// Without a given attribute to match by, LeadSquared lets the email decide, and fails where the phone is another
    /// lead's: then that lead is the one that is meant.
    async fn upsert(&self, call: &Call, write: &Write) -> Result<Written> {
        let clear_with = self.settings.clear_with;
        let operation = endpoint::CreateOrUpdate { write, clear_with };
        let result = self.crm.call(call, &operation).await;
        let Action::Upsert {
            match_by: None,
            run_automations,
        } = write.action
        else {
            return result;
        };
        let by = match &result {
            Err(Error {
                kind: Kind::Duplicate { attribute, .. },
                ..
            }) => attribute.as_deref().unwrap_or("Phone"),
            _ => return result,
        };
        if !matches!(by, "Phone" | "Mobile") || write.attributes.text(by).is_none() {
            return result;
        }
        let by_phone = Write {
            action: Action::Upsert {
                match_by: Some(by.to_owned()),
                run_automations,
            },
            ..write.clone()
        };
        let operation = endpoint::CreateOrUpdate {
            write: &by_phone,
            clear_with,
        };
        self.crm.call(call, &operation).await
    }

    /// Looks whether a write whose answer was lost was executed.
    async fn settle(&self, call: &Call, write: &Write, since: Timestamp) -> Result<Settled> {
        let keys = write.lookup_keys();
        for key in &keys {
            match self.find(call, key, &Mask::default(), None).await {
                Ok(row) => return self.judge(write, key, &row, since),
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    tracing::warn!(request_id = %call.id, error = error.name(), "a write could not be settled");
                    return Ok(Settled::Unknown);
                }
            }
        }
        // It may be executed still: then LeadSquared has to refuse the second, or the second has to change nothing.
        let is_unique = self
            .settings
            .unique
            .iter()
            .any(|name| write.attributes.text(name).is_some());
        match write.action {
            Action::Update { .. } => Err(Kind::NotFound(Resource::Lead).into()),
            Action::Create if is_unique && !keys.is_empty() => Ok(Settled::NotDone),
            Action::Upsert { run_automations, .. } if is_unique && !run_automations && !keys.is_empty() => {
                Ok(Settled::NotDone)
            }
            // A capture leaves an activity behind each time.
            Action::Create | Action::Upsert { .. } | Action::Capture { .. } => Ok(Settled::Unknown),
        }
    }

    /// What the lead that a write is about, found by that key, says of it.
    fn judge(&self, write: &Write, key: &Key, row: &Row, since: Timestamp) -> Result<Settled> {
        let lead_id = id_of(row).unwrap_or_default().to_owned();
        let seen = write.is_seen_in(row);
        // Whether what the column dates may be the doing of this write.
        let may_be_ours = |column: &str| {
            let at = row.get(column).and_then(Option::as_deref).and_then(time::read);
            at.map(|at| self.crm.clock().may_be_since(at, since))
        };
        let done = |created| {
            Settled::Done(Written {
                lead_id: lead_id.clone(),
                affected_rows: 1,
                created,
            })
        };
        Ok(match write.action {
            Action::Create => match (may_be_ours("CreatedOn"), seen) {
                (Some(true), Some(true)) => done(Some(true)),
                // It was there before: the create was refused, and would be again.
                (Some(false), _) => {
                    return Err(Kind::Duplicate {
                        attribute: key.attribute().map(str::to_owned),
                        lead_id: Some(lead_id),
                    }
                    .into());
                }
                _ => Settled::Unknown,
            },
            Action::Capture { .. } => match (may_be_ours("CreatedOn"), seen) {
                (Some(true), Some(true)) => done(Some(true)),
                _ => Settled::Unknown,
            },
            Action::Update { .. } | Action::Upsert { .. } => {
                let created = matches!(write.action, Action::Update { .. }).then_some(false);
                match (seen, may_be_ours("ModifiedOn"), write.runs_automations()) {
                    (Some(true), _, false) | (Some(true), Some(true), true) => done(created),
                    // Nobody has changed it since, so it is ours to change; what runs automations may still be on its way.
                    (Some(false), Some(false), false) => Settled::NotDone,
                    _ => Settled::Unknown,
                }
            }
        })
    }
}

fn id_of(row: &Row) -> Option<&str> {
    row.get(LEAD_ID)?.as_deref()
}

fn duplicate_attribute(error: &Error) -> Option<&'static str> {
    match &error.kind {
        Kind::Duplicate { attribute, .. } => ["EmailAddress", "Phone", "Mobile"]
            .into_iter()
            .find(|name| attribute.as_deref() == Some(name)),
        _ => None,
    }
}

/// The key by which the lead that has the write's own value of the attribute can be looked up.
fn own_key(write: &Write, attribute: &str) -> Option<Key> {
    let value = write.attributes.text(attribute)?;
    Some(match attribute {
        "EmailAddress" => Key::Email(value),
        _ => Key::Phone(value),
    })
}

fn with_lead(mut error: Error, row: &Row) -> Error {
    if let Kind::Duplicate { lead_id, .. } = &mut error.kind {
        *lead_id = id_of(row).map(str::to_owned);
    }
    error
}

fn is_missing(error: &Error) -> bool {
    error.kind == Kind::NotFound(Resource::Lead)
}

fn columns(mask: &Mask, catalog: Option<&Catalog>) -> Vec<String> {
    match catalog {
        Some(catalog) => mask.columns(catalog.names()),
        None => mask.columns(endpoint::standard_columns()),
    }
}

fn check_ids(ids: &[String]) -> Vec<Violation> {
    if ids.is_empty() || ids.len() > MOST_IDS {
        let text = format!("must be 1 to {MOST_IDS} ids; there are {}", ids.len());
        return vec![Violation::new("lead_ids", text)];
    }
    ids.iter()
        .enumerate()
        .filter_map(|(i, id)| crate::domain::lead::check_id(&format!("lead_ids[{i}]"), id))
        .collect()
}

fn or_invalid(violations: Vec<Violation>) -> Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    Err(Kind::Invalid(violations).into())
}

fn fold(id: &str) -> String {
    id.to_ascii_lowercase()
}
