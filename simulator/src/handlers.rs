//! The request handlers: the data that they access, and the handler of each endpoint. Limits, keys and faults are
//! checked elsewhere.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::activities::store::Activities;
use crate::http::endpoint::Endpoint;
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::store::Leads;
use crate::sharing::store::Shares;
use crate::state::Tenant;

/// The context of one accepted call. The handler of each endpoint is a method, defined in the module of its resource.
pub(crate) struct Handler<'a> {
    pub(crate) leads: &'a mut Leads,
    pub(crate) activities: &'a mut Activities,
    pub(crate) shares: &'a mut Shares,
    pub(crate) tenant: &'a Tenant,
    pub(crate) query: &'a [(String, String)],
    pub(crate) body: &'a [u8],
    pub(crate) host: &'a str,
    pub(crate) now: Timestamp,
}

impl<'a> Handler<'a> {
    /// Executes the call and returns the response.
    pub(crate) fn respond(self, endpoint: Endpoint) -> Response {
        let options = &self.tenant.options;
        let status = match endpoint {
            Endpoint::LeadCapture => options.capture_error_status,
            _ => options.logical_error_status,
        };
        self.dispatch(endpoint)
            .unwrap_or_else(|failure| failure.into_response(status, options.bad_body_in_envelope))
    }

    fn dispatch(self, endpoint: Endpoint) -> Result<Response> {
        match endpoint {
            Endpoint::LeadCreate => self.lead_create(),
            Endpoint::LeadUpdate => self.lead_update(),
            Endpoint::LeadCreateOrUpdate => self.lead_create_or_update(),
            Endpoint::LeadCapture => self.lead_capture(),
            Endpoint::LeadDelete => self.lead_delete(),
            Endpoint::LeadMerge => self.lead_merge(),
            Endpoint::BulkCreate => self.bulk_create(),
            Endpoint::BulkCreateOrUpdate => self.bulk_create_or_update(),
            Endpoint::BulkUpdate => self.bulk_update(),
            Endpoint::BulkUpdateV2 => self.bulk_update_v2(),
            Endpoint::GetById => self.get_by_id(),
            Endpoint::GetByEmail => self.get_by_email(),
            Endpoint::GetByPhone => self.get_by_phone(),
            Endpoint::QuickSearch => self.quick_search(),
            Endpoint::GetByIds => self.get_by_ids(),
            Endpoint::Search => self.search(),
            Endpoint::RecentlyModified => self.recently_modified(),
            Endpoint::Metadata => self.metadata(),
            Endpoint::Users => self.users(),
            Endpoint::UserById => self.user_by_id(),
            Endpoint::UserByEmail => self.user_by_email(),
            Endpoint::UserByAccessKey => self.user_by_access_key(),
            Endpoint::UserSearch => self.user_search(),
            Endpoint::Share => self.share(),
            Endpoint::Revoke => self.revoke(),
            Endpoint::ShareStatus => self.share_status(),
            Endpoint::ActivityCreate => self.activity_create(),
            Endpoint::ActivityBulkAdd => self.activity_bulk_add(),
            Endpoint::ActivityUpdate => self.activity_update(),
            Endpoint::ActivitiesOfLead => self.activities_of_lead(),
            Endpoint::ActivityDetails => self.activity_details(),
            Endpoint::ActivitiesByEvent => self.activities_by_event(),
            Endpoint::ActivitiesModified => self.activities_modified(),
            Endpoint::ActivityTypes => self.activity_types(),
            Endpoint::ActivitySetting => self.activity_setting(),
        }
    }

    /// Returns the value of an optional query parameter.
    pub(crate) fn optional(&self, name: &str) -> Option<&'a str> {
        let found = self.query.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// Returns the value of a mandatory query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Result<&'a str> {
        let missing = || Exception::missing_parameter(format!("'{name}' is mandatory"));
        self.optional(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(missing)
    }

    /// Whether the query contains `postUpdatedLead=true`.
    pub(crate) fn fires_automations(&self) -> bool {
        let value = self.optional("postUpdatedLead");
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.body).map_err(|error| invalid_body(&error))
    }
}

pub(crate) fn invalid_body(error: &dyn fmt::Display) -> Failure {
    Failure::InvalidBody(format!("Unexpected character encountered while parsing value: {error}"))
}

/// An unsigned integer as a JSON number or as a string. LeadSquared's samples contain both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LenientU64(pub(crate) u64);

impl<'de> Deserialize<'de> for LenientU64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let count = match &value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_u64(),
        };
        count
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("{value} is no whole number")))
    }
}
