//! A call that is passed on as it is, and its response.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::endpoints::{Endpoint, OTHER, is_read};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, OutgoingRequest};
use crate::domain::rest::{RestCall, RestResponse};
use crate::error::{Error, ErrorKind, Result};
use crate::quota::{Cost, Verdict};

/// Maximum number of unknown paths of a tenant whose latencies are measured for themselves.
const MAX_UNKNOWN: usize = 256;
/// The names under which they are measured.
static UNKNOWN: LazyLock<Vec<String>> = LazyLock::new(|| (0..MAX_UNKNOWN).map(|n| format!("{OTHER}/{n}")).collect());

/// The unknown paths that a tenant has called.
#[derive(Debug, Default)]
pub struct UnknownPaths(Mutex<HashMap<String, usize>>);

impl UnknownPaths {
    /// The name under which the latencies of that path are measured.
    fn name(&self, folded: &str) -> &'static str {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.len();
        let number = match known.get(folded) {
            Some(number) => *number,
            None if next < MAX_UNKNOWN => {
                known.insert(folded.to_owned(), next);
                next
            }
            None => return OTHER,
        };
        &UNKNOWN[number]
    }
}

/// A call that is passed on. Any complete response is its result, except for a refusal and HTTP 401.
#[derive(Debug)]
pub struct Passthrough<'a> {
    call: &'a RestCall,
    endpoint: Option<&'static Endpoint>,
    measured_as: &'static str,
    keys: &'a [String],
    /// The last refusal or HTTP 401.
    rejection: Mutex<Option<RestResponse>>,
}

impl<'a> Passthrough<'a> {
    /// The operation of a call. `keys` are those of what it writes.
    pub fn new(call: &'a RestCall, keys: &'a [String], unknown: &UnknownPaths) -> Self {
        let endpoint = Endpoint::of(call);
        Self {
            call,
            endpoint,
            measured_as: endpoint.map_or_else(|| unknown.name(call.path.folded()), |endpoint| endpoint.name),
            keys,
            rejection: Mutex::default(),
        }
    }

    /// The refusal or HTTP 401 of the last attempt, for a client that gets it as it is.
    pub fn into_rejection(self) -> Option<RestResponse> {
        self.rejection.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation for Passthrough<'_> {
    type Output = RestResponse;
    type Request = OutgoingRequest;
    // Of an unknown endpoint.
    const NAME: &'static str = OTHER;
    const SAFETY: Safety = Safety::Once;

    fn name(&self) -> &'static str {
        self.endpoint.map_or(Self::NAME, |endpoint| endpoint.name)
    }

    fn measured_as(&self) -> &'static str {
        self.measured_as
    }

    fn has_foreign_path(&self) -> bool {
        true
    }

    fn safety(&self) -> Safety {
        match is_read(self.call) {
            true => Safety::Repeatable,
            false => Self::SAFETY,
        }
    }

    fn cost(&self) -> Cost {
        self.endpoint.map_or(Self::COST, Endpoint::cost)
    }

    fn keys(&self) -> Vec<String> {
        self.keys.to_vec()
    }

    fn request(&self) -> OutgoingRequest {
        self.call.into()
    }

    fn verdict(response: &UpstreamResponse) -> Verdict {
        response.refusal().map_or(Verdict::Accepted, Verdict::Refused)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<RestResponse> {
        let passed = passed(response);
        let error = match response.refusal() {
            Some(refusal) => ErrorKind::Refused(refusal).into(),
            None if response.status == http::StatusCode::UNAUTHORIZED => unauthorized(response),
            None => return Ok(passed),
        };
        *self.rejection.lock().unwrap_or_else(PoisonError::into_inner) = Some(passed);
        Err(error)
    }
}

/// The error of HTTP 401.
fn unauthorized(response: &UpstreamResponse) -> Error {
    let is_about_keys = |error: &Error| {
        matches!(
            error.kind,
            ErrorKind::CredentialsRejected { .. } | ErrorKind::Denied { .. }
        )
    };
    let error = response.error().filter(is_about_keys);
    error.unwrap_or_else(|| ErrorKind::CredentialsRejected { suggested_host: None }.into())
}

/// The response as it is passed on.
fn passed(response: &UpstreamResponse) -> RestResponse {
    let head = &response.head;
    RestResponse {
        status: response.status.as_u16(),
        content_type: head.content_type.clone(),
        content_disposition: head.content_disposition.clone(),
        allow: head.allow.clone(),
        body: head.marked_body.clone().unwrap_or_else(|| response.body.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rest::{RestMethod, RestPath};

    fn call(path: &str) -> RestCall {
        RestCall {
            method: RestMethod::Get,
            path: RestPath::parse(path).unwrap(),
            query: String::new(),
            content_type: None,
            accept: None,
            body: bytes::Bytes::new(),
        }
    }

    fn response(status: u16, body: &str) -> UpstreamResponse {
        UpstreamResponse {
            status: http::StatusCode::from_u16(status).unwrap(),
            body: body.to_owned().into(),
            head: Default::default(),
        }
    }

    fn decoded(status: u16, body: &str) -> Result<u16> {
        let call = call("/LeadManagement.svc/Leads.Get");
        let operation = Passthrough::new(&call, &[], &UnknownPaths::default());
        operation
            .decode(&response(status, body))
            .map(|response| response.status)
    }

    #[test]
    fn only_refusals_and_http_401_are_errors() {
        let exception = |name: &str, text: &str| {
            format!(r#"{{"Status":"Error","ExceptionType":"{name}","ExceptionMessage":"{text}"}}"#)
        };
        let sentence = "API calls exceeded the limit of 25 in 5 second(s)";
        for (status, body) in [
            (429, String::new()),
            (429, "<html>".to_owned()),
            (200, exception("MXAPIRateLimitExceededException", "")),
            (500, exception("MXThrottleException", "")),
            (403, exception("MXUnknownException", sentence)),
        ] {
            let error = decoded(status, &body).unwrap_err();
            assert!(error.is_refused(), "{status} {body}");
        }
        for (status, body) in [
            (200, "[]".to_owned()),
            (200, format!("\"{sentence}\"")),
            (200, sentence.to_owned()),
            (403, sentence.to_owned()),
            (200, format!(r#"{{"Message":"{sentence}"}}"#)),
            (
                200,
                format!(r#"[{{"Status":"Error","ExceptionMessage":"{sentence}"}}]"#),
            ),
            (
                500,
                exception("MXDuplicateEntryException", "A Lead with same Email already exists."),
            ),
            (500, String::new()),
            (302, "<html>".to_owned()),
            (403, exception("MXUnAuthorizedAccessException", "")),
        ] {
            assert_eq!(decoded(status, &body), Ok(status), "{body}");
        }
        for body in [
            "",
            "<html>",
            &exception("MXInvalidAccessDetailsException", ""),
            &exception("MXInvalidInputException", ""),
        ] {
            let error = decoded(401, body).unwrap_err();
            let is_about_keys = matches!(
                error.kind,
                ErrorKind::CredentialsRejected { .. } | ErrorKind::Denied { .. }
            );
            assert!(is_about_keys, "{body}");
        }
    }

    #[test]
    fn some_unknown_paths_are_measured_by_themselves() {
        let unknown = UnknownPaths::default();
        let name = |path: &str| Passthrough::new(&call(path), &[], &unknown).measured_as();
        assert_eq!(name("/LeadManagement.svc/Leads.Get"), "LeadManagement.svc/Leads.Get");
        let first = name("/Unknown.svc/A");
        assert_eq!(name("/UNKNOWN.svc/a"), first);
        assert_ne!(name("/Unknown.svc/B"), first);
        for n in 0..MAX_UNKNOWN {
            name(&format!("/Unknown.svc/{n}"));
        }
        assert_eq!(name("/Unknown.svc/last"), OTHER);
        assert_eq!(name("/Unknown.svc/A"), first);
    }
}
