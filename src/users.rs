//! The cached users of the account.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::cached::Cached;
use crate::context::RequestContext;
use crate::crm::Client;
use crate::crm::user::{GetUsers, RetrieveUser};
use crate::domain::user::{Roster, User, UserKey};
use crate::error::Result;

/// The users of one account. Clones share the cache.
#[derive(Clone)]
pub struct Users {
    crm: Client,
    roster: Cached<GetUsers, Roster>,
}

impl Users {
    /// The users of the client's account. The cache is fresh for `lifetime`.
    pub fn new(crm: Client, lifetime: Duration, tasks: TaskTracker) -> Self {
        Self {
            roster: Cached::new(crm.clone(), GetUsers, |users, _| Roster::new(users), lifetime, tasks),
            crm,
        }
    }

    /// Forgets the users, because they have changed.
    pub fn invalidate(&self) {
        self.roster.invalidate();
    }

    /// Returns all users.
    pub async fn all(&self, context: &RequestContext) -> Result<Arc<Roster>> {
        self.roster.get(context).await
    }

    /// Returns one user if the cache has it or can be filled soon.
    pub async fn get_if_available(&self, context: &RequestContext, key: &UserKey) -> Option<User> {
        let roster = self.roster.get_if_available(context).await?;
        roster.get(key).cloned()
    }

    /// Returns one user from the cache, or else from LeadSquared.
    pub async fn get(&self, context: &RequestContext, key: &UserKey) -> Result<User> {
        match self.get_if_available(context, key).await {
            Some(user) => Ok(user),
            None => self.crm.call(context, &RetrieveUser(key.clone())).await,
        }
    }
}
