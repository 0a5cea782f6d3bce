//! The life of a request: one short function per operation. Knows neither protobuf nor HTTP.

mod activity;
mod lead;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cached::Cached;
use crate::caller::Call;
pub use crate::caller::Criticality;
use crate::crm;
use crate::crm::activity::GetTypes;
pub use crate::crm::activity::{Offset, RetrieveModified as Modified};
use crate::crm::authentication::{KeyOwner, UserByAccessKey};
use crate::crm::lead::ClearWith;
use crate::crm::metadata::LeadsMetaData;
use crate::domain::activity::ActivityType;
use crate::domain::field::Catalog;
use crate::domain::lead::Written;
use crate::domain::spent::Spent;
use crate::domain::user::{self, Roster, User};
use crate::error::{Kind, Result, Violation};
use crate::quota::Quota;
pub use crate::quota::{Snapshot, WindowSnapshot};
pub use crate::sharing;
use crate::sharing::Sharing;
use crate::store::{self, Requests, Store};
use crate::users::Users;
pub use lead::Found;

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
    /// How sharing behaves.
    pub sharing: sharing::Settings,
}

/// How writes behave (`[tenants.NAME.writes]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteSettings {
    /// How an attribute is cleared.
    pub clear_with: ClearWith,
    /// Whether an update may be refused as a duplicate of the very lead that it updates. It was seen once; then the
    /// attribute is looked up and, if it is the lead's own, left out.
    pub own_values_may_clash: bool,
    /// The attributes of which no two leads have the same value. A create that may have been executed is sent again only if
    /// it has one of them, so that LeadSquared itself refuses to do it twice.
    pub unique: Vec<String>,
}

/// The gateway to one account.
pub struct Gateway {
    crm: crm::Client,
    quota: Quota,
    metadata: Cached<LeadsMetaData, Catalog>,
    users: Users,
    activity_types: Cached<GetTypes, Vec<ActivityType>>,
    requests: Arc<Requests<Written>>,
    posts: Arc<Requests<String>>,
    settings: WriteSettings,
    activity_offset: Offset,
    sharing: Sharing,
}

impl Gateway {
    /// A gateway to the account of that client. After `stop` it begins nothing that nobody waits for.
    pub fn new(
        name: &str,
        crm: crm::Client,
        quota: Quota,
        store: &Store,
        settings: Settings,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let lifetime = settings.metadata_lifetime;
        let users = Users::new(crm.clone(), lifetime, tasks.clone());
        let parts = sharing::Parts {
            tenant: name.to_owned(),
            crm: crm.clone(),
            users: users.clone(),
            store: store.clone(),
            keep_request_ids: settings.keep_request_ids,
            activity_offset: settings.activity_offset,
            tasks: tasks.clone(),
            stop,
        };
        Self {
            metadata: Cached::new(crm.clone(), LeadsMetaData, Catalog::new, lifetime, tasks.clone()),
            users,
            sharing: Sharing::new(parts, settings.sharing),
            activity_types: Cached::new(crm.clone(), GetTypes, |types, _| types, lifetime, tasks.clone()),
            posts: Arc::new(Requests::new(
                store.clone(),
                name,
                settings.keep_request_ids,
                tasks.clone(),
            )),
            activity_offset: settings.activity_offset,
            requests: Arc::new(Requests::new(
                store.clone(),
                name,
                settings.keep_request_ids,
                tasks.clone(),
            )),
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
    pub fn spent(&self) -> Spent {
        self.quota.spent()
    }

    /// Forgets request ids and shares that are old enough.
    pub async fn sweep(&self) -> std::result::Result<u64, store::Fault> {
        Ok(self.requests.sweep().await? + self.sharing.sweep().await?)
    }

    /// Whose keys these are.
    pub async fn key_owner(&self, call: &Call) -> Result<KeyOwner> {
        self.crm.call(call, &UserByAccessKey).await
    }

    /// What attributes leads have.
    pub async fn describe_fields(&self, call: &Call) -> Result<Arc<Catalog>> {
        self.metadata.get(call).await
    }

    /// One user.
    pub async fn get_user(&self, call: &Call, key: &user::Key) -> Result<User> {
        self.users.get(call, key).await
    }

    /// All users.
    pub async fn users(&self, call: &Call) -> Result<Arc<Roster>> {
        self.users.all(call).await
    }

    /// The shares of the account.
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }
}

fn or_invalid(violations: Vec<Violation>) -> Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    Err(Kind::Invalid(violations).into())
}
