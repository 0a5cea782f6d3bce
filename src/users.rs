//! The account's users, kept at hand: who is asked about is known without a call.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::cached::Cached;
use crate::context::RequestContext;
use crate::crm::Client;
use crate::crm::user::{GetUsers, RetrieveUser};
use crate::domain::user::{Roster, User, UserKey};
use crate::error::Result;

/// The users of one account. Clones share what is at hand.
#[derive(Clone)]
pub struct Users {
    crm: Client,
    roster: Cached<GetUsers, Roster>,
}

impl Users {
    /// The users of the account of that client, fresh for that lifetime.
    pub fn new(crm: Client, lifetime: Duration, tasks: TaskTracker) -> Self {
        Self {
            roster: Cached::new(crm.clone(), GetUsers, |users, _| Roster::new(users), lifetime, tasks),
            crm,
        }
    }

    /// All users.
    pub async fn all(&self, context: &RequestContext) -> Result<Arc<Roster>> {
        self.roster.get(context).await
    }

    /// One user, if that can be told without asking for it.
    pub async fn get_if_available(&self, context: &RequestContext, key: &UserKey) -> Option<User> {
        let roster = self.roster.get_if_available(context).await?;
        roster.get(key).cloned()
    }

    /// One user: from the roster, and where that cannot be had or has none such, by asking for that one.
    pub async fn get(&self, context: &RequestContext, key: &UserKey) -> Result<User> {
        match self.get_if_available(context, key).await {
            Some(user) => Ok(user),
            None => self.crm.call(context, &RetrieveUser(key.clone())).await,
        }
    }
}
