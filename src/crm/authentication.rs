//! Whose keys these are.

use serde::Deserialize;

use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, Request};
use crate::error::{Error, ErrorKind, Result};

/// `Authentication.svc/UserByAccessKey.Get`: works on any region's host.
#[derive(Clone, Copy, Debug)]
pub struct UserByAccessKey;

/// The owner of the keys.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeyOwner {
    /// The role: sharing needs `Administrator`.
    pub role: Option<String>,
    /// The account's short name.
    pub org_short_code: Option<String>,
    /// The account's time zone.
    pub time_zone: Option<String>,
    /// The addresses of the account's services.
    #[serde(rename = "LSQCommonServiceURLs")]
    pub services: Services,
}

/// The addresses of an account's services.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Services {
    /// The host of this API.
    pub api: Option<String>,
}

impl Operation for UserByAccessKey {
    type Output = KeyOwner;
    const NAME: &'static str = "UserByAccessKey.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        Request {
            path: "Authentication.svc/UserByAccessKey.Get",
            query: vec![],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<KeyOwner> {
        response.json().map_err(|error| match error.kind {
            // Here it is the keys, whoever says so.
            ErrorKind::Denied { suggested_host } => Error {
                kind: ErrorKind::CredentialsRejected { suggested_host },
                details: error.details,
            },
            _ => error,
        })
    }
}
