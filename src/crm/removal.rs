//! The endpoints that remove a lead: deleting and merging.

use super::lead::{get, message};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::lead::order_key;
use crate::error::Result;

/// `Lead/Delete/ById`: deletes a lead.
#[derive(Clone, Copy, Debug)]
pub struct DeleteLead<'a>(pub &'a str);

/// `Lead.Merge`: merges a lead into another one.
#[derive(Clone, Copy, Debug)]
pub struct MergeLeads<'a> {
    /// The lead that remains.
    pub master: &'a str,
    /// The lead that is removed.
    pub child: &'a str,
}

impl Operation for DeleteLead<'_> {
    type Output = ();
    type Request = UpstreamRequest;
    const NAME: &'static str = "Lead/Delete/ById";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("lead", self.0)]
    }

    // LeadSquared defines this write as a GET.
    fn request(&self) -> UpstreamRequest {
        get("LeadManagement.svc/Lead/Delete/ById", "leadId", self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<()> {
        message(response).map(drop)
    }
}

impl Operation for MergeLeads<'_> {
    type Output = ();
    type Request = UpstreamRequest;
    const NAME: &'static str = "Lead.Merge";
    const SAFETY: Safety = Safety::Once;

    fn keys(&self) -> Vec<String> {
        vec![order_key("lead", self.master), order_key("lead", self.child)]
    }

    fn request(&self) -> UpstreamRequest {
        UpstreamRequest {
            path: "LeadManagement.svc/Lead.Merge",
            query: vec![("masterId", self.master.to_owned()), ("childId", self.child.to_owned())],
            // All parameters are in the query. An empty JSON object is valid in any case.
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
        DeleteLead("x").decode(&UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_string().into(),
            head: Default::default(),
        })
    }

    fn rejected(name: &str, text: &str) -> ErrorKind {
        let body = json!({"Status": "Error", "ExceptionType": name, "ExceptionMessage": text});
        deleted(500, body).unwrap_err().kind
    }

    #[test]
    fn any_other_status_than_success_is_an_error() {
        assert_eq!(deleted(200, json!({"Status": "Success"})), Ok(()));
        assert!(deleted(200, json!({"Status": "Queued"})).is_err());
        assert!(deleted(200, json!([])).is_err());
    }

    #[test]
    fn rejections_are_classified_by_name_or_text() {
        let disabled = "Delete is not enabled for you";
        for name in ["MXUnAuthorizedAccessException", "MXSomeException", ""] {
            assert_eq!(rejected(name, disabled), ErrorKind::FeatureDisabled, "{name}");
        }
        let missing = rejected("MXInvalidEntityReferenceException", "Lead not found");
        assert_eq!(missing, ErrorKind::NotFound(Resource::Lead));
    }

    #[test]
    fn a_merge_is_ordered_with_writes_to_both_leads() {
        let merge = MergeLeads {
            master: "A",
            child: "b",
        };
        assert_eq!(merge.keys(), ["lead:a", "lead:b"]);
    }
}
