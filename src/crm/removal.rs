//! The endpoints after which a lead is gone: deleting and merging.

use super::lead::{get, message};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, Request};
use crate::domain::lead::order_key;
use crate::error::Result;

/// `Lead/Delete/ById`: a lead is deleted.
#[derive(Clone, Copy, Debug)]
pub struct Delete<'a>(pub &'a str);

/// `Lead.Merge`: a lead goes into another one.
#[derive(Clone, Copy, Debug)]
pub struct Merge<'a> {
    /// The lead that stays.
    pub master: &'a str,
    /// The lead that goes.
    pub child: &'a str,
}

impl Operation for Delete<'_> {
    type Output = ();
    const NAME: &'static str = "Lead/Delete/ById";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("lead", self.0)]
    }

    // A GET, though it writes: so the vendor wants it.
    fn request(&self) -> Request {
        get("LeadManagement.svc/Lead/Delete/ById", "leadId", self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<()> {
        message(response).map(drop)
    }
}

impl Operation for Merge<'_> {
    type Output = ();
    const NAME: &'static str = "Lead.Merge";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("lead", self.master), order_key("lead", self.child)]
    }

    fn request(&self) -> Request {
        Request {
            path: "LeadManagement.svc/Lead.Merge",
            query: vec![("masterId", self.master.to_owned()), ("childId", self.child.to_owned())],
            // All is in the query; a body that is JSON is one in any case.
            body: Some("{}".to_owned()),
        }
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<()> {
        message(response).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::error::{ErrorKind, Resource};

    fn deleted(status: u16, body: Json) -> Result<()> {
        Delete("x").decode(&UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_string().into(),
        })
    }

    fn refused(name: &str, text: &str) -> ErrorKind {
        let body = json!({"Status": "Error", "ExceptionType": name, "ExceptionMessage": text});
        deleted(500, body).unwrap_err().kind
    }

    #[test]
    fn only_success_is_success() {
        assert_eq!(deleted(200, json!({"Status": "Success"})), Ok(()));
        assert!(deleted(200, json!({"Status": "Queued"})).is_err());
        assert!(deleted(200, json!([])).is_err());
    }

    #[test]
    fn refusals_are_told_apart_by_name_or_text() {
        let disabled = "Delete is not enabled for you";
        for name in ["MXUnAuthorizedAccessException", "MXSomeException", ""] {
            assert_eq!(refused(name, disabled), ErrorKind::FeatureDisabled, "{name}");
        }
        let missing = refused("MXInvalidEntityReferenceException", "Lead not found");
        assert_eq!(missing, ErrorKind::NotFound(Resource::Lead));
    }

    #[test]
    fn a_merge_is_kept_in_order_with_writes_to_either_lead() {
        let merge = Merge {
            master: "A",
            child: "b",
        };
        assert_eq!(merge.keys(), ["lead:a", "lead:b"]);
    }
}
