//! The configured accounts (tenants). Each has its own gateway, so no other module can mix two accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gateway::Gateway;

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

    /// Returns the account with that name. Without a name, returns the only account. Fails if there are several.
    pub fn get(&self, name: Option<&str>) -> Result<(&str, &Arc<Gateway>)> {
        let mut all = self.gateways.iter();
        let found = match (name, all.next(), all.next()) {
            (Some(name), _, _) => self.gateways.get_key_value(name),
            (None, only, None) => only,
            (None, _, Some(_)) => {
                let text = "must name one of the configured accounts, because there are several";
                return Err(Error::invalid("x-leadgate-tenant", text));
            }
        };
        let (name, gateway) =
            found.ok_or_else(|| Error::invalid("x-leadgate-tenant", "names no configured account"))?;
        Ok((name, gateway))
    }

    /// All accounts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Gateway>)> {
        self.gateways.iter().map(|(name, gateway)| (name.as_str(), gateway))
    }
}
