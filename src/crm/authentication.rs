//! The endpoint that returns the owner of the access keys.

use serde::Deserialize;

use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::error::{Error, ErrorKind, Result};

/// `Authentication.svc/UserByAccessKey.Get`: returns the owner of the keys. The host of any region serves it.
#[derive(Clone, Copy, Debug)]
pub struct UserByAccessKey;

/// The owner of the access keys.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeyOwner {
    /// The role. Sharing requires `Administrator`.
    pub role: Option<String>,
    /// The account's short name.
    pub org_short_code: Option<String>,
    /// The account's time zone.
    pub time_zone: Option<String>,
    /// The addresses of the account's services.
    #[serde(rename = "LSQCommonServiceURLs")]
    pub services: ServiceUrls,
}

/// The addresses of an account's services.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct ServiceUrls {
    /// The host of this API.
    pub api: Option<String>,
}

impl KeyOwner {
    /// The host of the account's API, with its port if it has one.
    pub fn api_host(&self) -> Option<&str> {
        let api = self.services.api.as_deref()?;
        let host = api.trim_start_matches("https://").split('/').next()?;
        Some(host).filter(|host| !host.is_empty())
    }
}

impl Operation for UserByAccessKey {
    type Output = KeyOwner;
    type Request = UpstreamRequest;
    const NAME: &'static str = "UserByAccessKey.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
            path: "Authentication.svc/UserByAccessKey.Get",
            query: vec![],
            body: None,
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<KeyOwner> {
        response.json().map_err(|error| match error.kind {
            // This endpoint needs nothing but valid keys.
            ErrorKind::Denied { suggested_host } => Error {
                kind: ErrorKind::CredentialsRejected { suggested_host },
                details: error.details,
            },
            _ => error,
        })
    }
}
