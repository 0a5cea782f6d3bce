//! Which account a call is for. Below here nothing can mix two of them: each has a gateway of its own.

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
    /// These accounts.
    pub fn new(gateways: BTreeMap<String, Arc<Gateway>>) -> Self {
        Self {
            gateways: Arc::new(gateways),
        }
    }

    /// The account of that name; without a name the only one there is.
    pub fn get(&self, name: Option<&str>) -> Result<(&str, &Arc<Gateway>)> {
        let mut all = self.gateways.iter();
        let found = match (name, all.next(), all.next()) {
            (Some(name), _, _) => self.gateways.get_key_value(name),
            (None, only, None) => only,
            (None, _, Some(_)) => {
                let text = "must name one of the configured accounts, since there are several";
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
