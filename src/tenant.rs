//! The configured accounts (tenants). Each has its own gateway, so no other module can mix two accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Denial, Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::identity::permission::Permissions;

/// The accounts by name.
#[derive(Clone)]
pub struct Tenants {
    gateways: Arc<BTreeMap<String, Arc<Gateway>>>,
}

impl Tenants {
    /// Makes a list of accounts by name.
    pub fn new(gateways: BTreeMap<String, Arc<Gateway>>) -> Self {
        Self {
            gateways: Arc::new(gateways),
        }
    }

    /// Returns the account with that name, if the caller may use it. Without a name, returns the only account that the caller may
    /// use, and fails if there are several. An account that does not exist has the same error as one that is not allowed.
    pub fn get(&self, name: Option<&str>, permissions: &Permissions) -> Result<(&str, &Arc<Gateway>)> {
        let is_allowed = |name: &str| permissions.allows_tenant(name);
        let found = match name {
            Some(name) => self.gateways.get_key_value(name).filter(|(name, _)| is_allowed(name)),
            None => {
                let mut allowed = self.gateways.iter().filter(|(name, _)| is_allowed(name));
                match (allowed.next(), allowed.next()) {
                    (Some(_), Some(_)) => {
                        let text = "must name one of the accounts that the caller may use, because there are several";
                        return Err(Error::invalid("x-leadgate-tenant", text));
                    }
                    (only, _) => only,
                }
            }
        };
        let found = found.map(|(name, gateway)| (name.as_str(), gateway));
        found.ok_or_else(|| ErrorKind::CallerNotAllowed(Denial::Tenant).into())
    }

    /// All accounts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Gateway>)> {
        self.gateways.iter().map(|(name, gateway)| (name.as_str(), gateway))
    }
}
