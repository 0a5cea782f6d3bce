//! HTTP responses in LeadSquared's envelopes.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

/// A complete HTTP response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    /// The value of the header `Retry-After`.
    pub(crate) retry_after: Option<String>,
}

/// The error of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// A logical error in LeadSquared's error envelope.
    Exception(Exception),
    /// The body cannot be parsed. HTTP 400 with the error of the parser.
    InvalidBody(String),
    /// HTTP 404 without a body.
    NotFound,
    /// HTTP 200 with `"Status":"Failed"`.
    FailedStatus(String),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A LeadSquared exception: its type and its message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exception {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorEnvelope<'a> {
    status: &'a str,
    exception_type: &'a str,
    exception_message: &'a str,
    #[serde(rename = "IsMXException", skip_serializing_if = "Option::is_none")]
    is_mx_exception: Option<bool>,
}

/// The exception type for an invalid activity code.
const ACTIVITY_CODE: &str = "MXInvalidActivityException";

impl Response {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        Self {
            status,
            content_type: "application/json; charset=utf-8".into(),
            body: serde_json::to_vec(body).unwrap_or_default().into(),
            retry_after: None,
        }
    }

    /// Returns `{"Status":"Success"}`, with the message if there is one.
    pub(crate) fn success(message: Option<Value>) -> Self {
        match message {
            Some(message) => Self::json(200, &json!({"Status": "Success", "Message": message})),
            None => Self::json(200, &json!({"Status": "Success"})),
        }
    }

    /// Returns a page of a search. Without rows the key of the rows is absent.
    pub(crate) fn listed(total: usize, key: &str, rows: Vec<Value>) -> Self {
        let mut response = json!({"RecordCount": total});
        if !rows.is_empty() {
            response[key] = rows.into();
        }
        Self::json(200, &response)
    }

    pub(crate) fn error(status: u16, kind: &str, message: &str) -> Self {
        let envelope = ErrorEnvelope {
            status: "Error",
            exception_type: kind,
            exception_message: message,
            // Only this exception was observed with the additional key.
            is_mx_exception: (kind == ACTIVITY_CODE).then_some(true),
        };
        Self::json(status, &envelope)
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self::text(status, "text/plain", String::new())
    }

    /// Returns an HTML page such as a proxy or web server sends.
    pub(crate) fn page(status: u16, title: &str) -> Self {
        let page =
            format!("<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n");
        Self::text(status, "text/html", page)
    }

    pub(crate) fn text(status: u16, content_type: &str, body: String) -> Self {
        Self {
            status,
            content_type: content_type.into(),
            body: body.into(),
            retry_after: None,
        }
    }

    /// Returns the response to wrong keys.
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::error(401, "MXInvalidAccessDetailsException", message)
    }

    /// Returns a rate limit error.
    pub(crate) fn refused(status: u16, message: &str) -> Self {
        Self::error(status, "MXAPIRateLimitExceededException", message)
    }

    /// Removes the second half of the body and sets the status 200.
    pub(crate) fn cut_in_half(mut self) -> Self {
        self.status = 200;
        self.body.truncate(self.body.len() / 2);
        self
    }
}

impl Failure {
    /// Converts the error to a response. `status` is the status of a logical error. `enveloped` is whether a parse
    /// error has the error envelope; otherwise it is plain text.
    pub(crate) fn into_response(self, status: u16, enveloped: bool) -> Response {
        match self {
            Self::Exception(Exception { kind, message }) => Response::error(status, kind, &message),
            Self::InvalidBody(message) if enveloped => Response::error(400, "MXInvalidInputException", &message),
            Self::InvalidBody(message) => Response::text(400, "text/plain", message),
            Self::NotFound => Response::empty(404),
            Self::FailedStatus(message) => {
                Response::json(200, &json!({"Status": "Failed", "Message": {"Message": message}}))
            }
        }
    }
}

impl Exception {
    pub(crate) fn duplicate(message: impl Into<String>) -> Failure {
        Self::of("MXDuplicateEntryException", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Self::of("MXInvalidInputException", message)
    }

    pub(crate) fn wrong_type(message: impl Into<String>) -> Failure {
        Self::of("MXInvalidDataTypeException", message)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Failure {
        Self::of("MXMandatoryFieldMissingException", message)
    }

    pub(crate) fn missing_parameter(message: impl Into<String>) -> Failure {
        Self::of("MXMandatoryAttributeMissingException", message)
    }

    pub(crate) fn unknown_attributes(names: &[String]) -> Failure {
        Self::of(
            "MXUnknownAttributeException",
            format!("Attribute(s) does not exist - {}", names.join(",")),
        )
    }

    pub(crate) fn lead_not_found() -> Failure {
        Self::not_found("Lead")
    }

    pub(crate) fn not_allowed(message: impl Into<String>) -> Failure {
        Self::of("MXUnAuthorizedAccessException", message)
    }

    pub(crate) fn activity_code() -> Failure {
        Self::of(ACTIVITY_CODE, "Event Code is invalid or empty")
    }

    pub(crate) fn activity_fields(message: impl Into<String>) -> Failure {
        Self::of("MXInvalidActivityFieldsException", message)
    }

    pub(crate) fn unknown_activity() -> Failure {
        Self::of("MXUnknownProspectActivityException", "Activity does not exist.")
    }

    /// Returns the exception for a missing entity. Its type is documented for leads only.
    pub(crate) fn not_found(entity: &str) -> Failure {
        Self::of("MXInvalidEntityReferenceException", format!("{entity} not found"))
    }

    pub(crate) fn over_limit(message: impl Into<String>) -> Failure {
        Self::of("MXLimitExceededException", message)
    }

    fn of(kind: &'static str, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure::Exception(Self { kind, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_error_has_the_documented_text() {
        let response = Response::refused(429, "API calls exceeded the limit of 20 in 5 second(s)");
        assert_eq!(
            response.body,
            r#"{"Status":"Error","ExceptionType":"MXAPIRateLimitExceededException","ExceptionMessage":"API calls exceeded the limit of 20 in 5 second(s)"}"#
        );
    }

    #[test]
    fn half_of_a_response_is_invalid_json() {
        let response = Response::success(Some(json!({"Id": "x"}))).cut_in_half();
        assert_eq!(response.status, 200);
        assert!(serde_json::from_slice::<Value>(&response.body).is_err());
        assert_eq!(Response::empty(500).cut_in_half().body.len(), 0);
    }
}
