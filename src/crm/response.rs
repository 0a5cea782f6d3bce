//! Turns the status and body of a response into a value or an error, for all forms that LeadSquared has. The body is checked before
//! the status: LeadSquared rejects requests with HTTP 500 and an exception, and also with HTTP 200.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use regex_lite::Regex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::json::{self, ListShape, Records};
use crate::domain::lead::{STANDARD, path};
use crate::error::{Error, ErrorKind, Limit, Refusal, Resource, Result, Violation};
use crate::quota::Verdict;

/// A response of LeadSquared, or of a proxy or firewall in front of it.
#[derive(Clone, Debug)]
pub struct UpstreamResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body, decompressed, without a byte order mark.
    pub body: Bytes,
    /// What else is passed on.
    pub head: ResponseHead,
}

/// The parts of a response that only a client of its own needs: some headers, as bytes, and the body with its byte order mark.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// `Content-Type`.
    pub content_type: Option<Vec<u8>>,
    /// `Content-Disposition`.
    pub content_disposition: Option<Vec<u8>>,
    /// `Allow`.
    pub allow: Option<Vec<u8>>,
    /// The body with its byte order mark. `None`: it has none.
    pub marked_body: Option<Bytes>,
}

impl ResponseHead {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let value = |name| headers.get(name).map(|value| value.as_bytes().to_vec());
        Self {
            content_type: value(CONTENT_TYPE),
            content_disposition: value(CONTENT_DISPOSITION),
            allow: value(ALLOW),
            marked_body: None,
        }
    }
}

/// The members of an exception. Other members are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Envelope {
    status: Json,
    exception_type: Json,
    exception_message: Json,
    message: Json,
    #[serde(rename = "IsMXException")]
    is_mx_exception: Json,
}

impl UpstreamResponse {
    /// Whether the request succeeded.
    fn check(&self) -> Result<()> {
        if let Some(exception) = self.exception() {
            return Err(exception.error(self.status));
        }
        let Some(kind) = self.bare_error() else {
            return Ok(());
        };
        let mut error = Error::from(kind);
        error.details.is_page = self.is_page();
        Err(error)
    }

    /// The error of the response. `None`: the request succeeded.
    pub fn error(&self) -> Option<Error> {
        self.check().err()
    }

    /// Whether the rate limiter accepted the call.
    pub fn verdict(&self) -> Verdict {
        match self.check() {
            Err(Error {
                kind: ErrorKind::Refused(refusal),
                ..
            }) => Verdict::Refused(refusal),
            Ok(()) | Err(_) => Verdict::Accepted,
        }
    }

    /// The refusal of a call that is passed on. Only an exception or HTTP 429 is one: any other text is data.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let exception = self.exception();
        let text = exception.as_ref().map_or("", |exception| &exception.text);
        let is_named = exception.as_ref().is_some_and(|exception| {
            ["MXAPIRateLimitExceededException", "MXThrottleException"].contains(&exception.name.as_str())
                || exception.is_error_with_message && named_limit(&exception.text).is_some()
        });
        let is_refused = is_named || self.status == StatusCode::TOO_MANY_REQUESTS;
        is_refused.then(|| refusal(text))
    }

    /// Whether LeadSquared is failing: the response is from a proxy whose server is down.
    pub fn is_failure(&self) -> bool {
        // A server that rejects a request works.
        !self.status.is_client_error()
            && matches!(self.bare_error(), Some(ErrorKind::Unavailable { .. }))
            && self.exception().is_none()
    }

    /// The body of a successful response as JSON of that type. Fails with the error of the response, or with the path of the
    /// first value that does not have the type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        self.check()?;
        json::parse(&self.body).map_err(|path| {
            let path = if path.is_empty() { "the top".to_owned() } else { path };
            ErrorKind::Unreadable { path }.into()
        })
    }

    /// The body of a successful response as a list of records, of which some may be damaged.
    pub(super) fn records(&self, shape: &ListShape) -> Result<Records<'_>> {
        self.check()?;
        Records::split(&self.body, shape).map_err(|path| ErrorKind::Unreadable { path }.into())
    }

    /// The exception in the body, if there is one.
    fn exception(&self) -> Option<Exception> {
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let strict = serde_json::from_slice(&self.body).ok();
        let envelope: Envelope = strict.or_else(|| json::parse(&self.body).ok())?;
        let name = envelope.exception_type.as_str().unwrap_or_default();
        // A status that is an object or a number is not that of an exception.
        let status = envelope.status.as_str().unwrap_or_default().trim();
        let is_bad = ["Error", "Failed", "Failure"]
            .iter()
            .any(|bad| status.eq_ignore_ascii_case(bad));
        let message = envelope.message.as_str().unwrap_or_default();
        let failed = is_bad || envelope.is_mx_exception == Json::Bool(true) || named_limit(message).is_some();
        if name.is_empty() && !failed {
            return None;
        }
        let text = [
            &envelope.exception_message,
            &envelope.message,
            &envelope.message["Message"],
            &envelope.message["ExceptionMessage"],
        ]
        .into_iter()
        .find_map(Json::as_str);
        let is_error_with_message = status.eq_ignore_ascii_case("Error") && envelope.exception_message.is_string();
        Some(Exception {
            name: name.to_owned(),
            text: text.unwrap_or_default().to_owned(),
            is_error_with_message,
        })
    }

    /// The error of a response without an exception, by its HTTP status. The kind also decides whether the request is sent again
    /// (`retry`) and whether the circuit breaker counts a failure ([`UpstreamResponse::is_failure`]).
    fn bare_error(&self) -> Option<ErrorKind> {
        let is_json = matches!(self.body.trim_ascii_start().first(), Some(b'{' | b'['));
        let is_page = self.is_page();
        let text = if is_json { String::new() } else { self.beginning() };
        match self.status.as_u16() {
            429 => Some(ErrorKind::Refused(Refusal::Window(named_limit(&text)))),
            _ if named_limit(&text).is_some() => Some(ErrorKind::Refused(refusal(&text))),
            408 | 500..=599 => Some(ErrorKind::Unavailable { sent: true }),
            401 | 403 => Some(ErrorKind::Denied {
                suggested_host: named_host(&text),
            }),
            100..=399 if is_page => Some(ErrorKind::Unavailable { sent: true }),
            200..=299 => None,
            400 if !is_page => Some(ErrorKind::Invalid(vec![Violation::new(
                "lead",
                "LeadSquared cannot read the request with this lead",
            )])),
            _ => Some(ErrorKind::Exception),
        }
    }

    /// The text of the exception, for endpoints that classify rejections by it. Never shown or logged as it is: it may contain
    /// personal data.
    pub fn text(&self) -> Option<String> {
        self.exception().map(|exception| exception.text)
    }

    /// Whether the body is a page instead of JSON. Then a proxy or firewall sent it, with any status.
    pub fn is_page(&self) -> bool {
        self.body.trim_ascii_start().first() == Some(&b'<')
    }

    /// Whether the server reports that it serves HTTPS only, as nginx and others do.
    pub(super) fn wants_https(&self) -> bool {
        let is_json = matches!(self.body.trim_ascii_start().first(), Some(b'{' | b'['));
        self.status == StatusCode::BAD_REQUEST && !is_json && self.beginning().to_ascii_lowercase().contains("https")
    }

    /// The first kilobyte of the body as text, for bodies of unknown form.
    pub fn beginning(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]).into_owned()
    }
}

/// An exception in a response.
struct Exception {
    name: String,
    text: String,
    /// Whether the status is `Error` and the text is the `ExceptionMessage`.
    is_error_with_message: bool,
}

impl Exception {
    fn error(&self, status: StatusCode) -> Error {
        let mut error = Error::from(self.kind(status));
        // A value that does not look like a name may contain personal data.
        let is_name =
            !self.name.is_empty() && self.name.len() <= 80 && self.name.bytes().all(|b| b.is_ascii_alphanumeric());
        error.details.exception_type = is_name.then(|| self.name.clone());
        error
    }

    /// The kind of the error. LeadSquared publishes no complete list of names.
    fn kind(&self, status: StatusCode) -> ErrorKind {
        let text = self.text.to_ascii_lowercase();
        match self.name.as_str() {
            "MXAPIRateLimitExceededException" | "MXThrottleException" => ErrorKind::Refused(refusal(&self.text)),
            "MXDuplicateEntryException" => ErrorKind::Duplicate {
                attribute: duplicate_attribute(&text).map(str::to_owned),
                lead_id: None,
            },
            "MXInvalidEntityReferenceException" | "MXInvalidLeadException" if is_missing_lead(&text) => {
                ErrorKind::NotFound(Resource::Lead)
            }
            "MXInvalidAccessDetailsException"
            | "MXAuthenticationFailedException"
            | "MXUnauthorizedRequestException" => self.credentials(),
            "MXUnAuthorizedAccessException" if status == StatusCode::UNAUTHORIZED => self.credentials(),
            "MXUnAuthorizedAccessException" => ErrorKind::FeatureDisabled,
            "MXUnknownProspectActivityException" => ErrorKind::NotFound(Resource::Activity),
            "MXUnknownAttributeException" => ErrorKind::Invalid(unknown_attributes(&self.text)),
            "MXInvalidInputException"
            | "MXInvalidDataTypeException"
            | "MXInvalidFieldException"
            | "MXInvalidEntityReferenceException"
            | "MXInvalidLeadException"
            | "MXXSSException" => ErrorKind::Invalid(self.violations()),
            name if name.starts_with("MXMandatory") || name.starts_with("MXInvalidActivity") => {
                ErrorKind::Invalid(self.violations())
            }
            // A timeout inside of LeadSquared. The request may have been executed.
            name if name.contains("Timeout") => ErrorKind::Unavailable { sent: true },
            // Without a known name, the text and the status decide.
            _ if text.contains("already exists") || text.starts_with("duplicate entry") => ErrorKind::Duplicate {
                attribute: duplicate_attribute(&text).map(str::to_owned),
                lead_id: None,
            },
            _ if named_limit(&self.text).is_some() => ErrorKind::Refused(refusal(&self.text)),
            _ if is_missing_lead(&text) => ErrorKind::NotFound(Resource::Lead),
            _ if text.contains("not enabled") => ErrorKind::FeatureDisabled,
            _ if status == StatusCode::TOO_MANY_REQUESTS => ErrorKind::Refused(refusal(&self.text)),
            _ if status == StatusCode::UNAUTHORIZED => self.credentials(),
            _ if status == StatusCode::BAD_REQUEST => ErrorKind::Invalid(self.violations()),
            _ => ErrorKind::Exception,
        }
    }

    fn credentials(&self) -> ErrorKind {
        ErrorKind::CredentialsRejected {
            suggested_host: named_host(&self.text),
        }
    }

    /// One violation for each attribute that the text names, or one for the lead. The text itself is not shown, because it may
    /// contain personal data.
    fn violations(&self) -> Vec<Violation> {
        let description = match self
            .name
            .strip_prefix("MX")
            .and_then(|name| name.strip_suffix("Exception"))
        {
            Some(name) => format!("LeadSquared rejects the value: {}", in_words(name)),
            None => "LeadSquared rejects the value".to_owned(),
        };
        if self.text.contains("SearchBy") {
            return vec![Violation::new("match_by", description)];
        }
        let named = attributes_in(&self.text);
        if named.is_empty() {
            return vec![Violation::new("lead", description)];
        }
        named
            .into_iter()
            .map(|name| Violation::new(path(&name), description.clone()))
            .collect()
    }
}

/// The error of one row of a response.
pub(super) fn row_error(name: &str, text: &str) -> Error {
    let exception = Exception {
        name: name.to_owned(),
        text: text.to_owned(),
        is_error_with_message: false,
    };
    exception.error(StatusCode::OK)
}

/// The limit that a refusal is about. A text without a limit and without a short time is about the daily limit.
fn refusal(text: &str) -> Refusal {
    let lower = text.to_ascii_lowercase();
    let is_short = ["sec", "minute", "hour", " ms", "slow", "throttl", "too many"]
        .iter()
        .any(|word| lower.contains(word));
    match named_limit(text) {
        None if !is_short && !lower.trim().is_empty() => Refusal::Daily,
        limit => Refusal::Window(limit),
    }
}

/// The limit that a refusal names: "API calls exceeded the limit of 25 in 5 second(s)".
pub fn named_limit(text: &str) -> Option<Limit> {
    static LIMIT: LazyLock<Regex> =
        LazyLock::new(|| regex(r"(?i)^\W*(\w+\W+){0,3}calls exceeded the limit of (\d+) in (\d+) second"));
    let found = LIMIT.captures(text)?;
    // Later in the text, the phrase may be part of the data of a record.
    let (calls, seconds) = (found[2].parse().ok()?, found[3].parse().ok()?);
    (calls > 0 && seconds > 0).then_some(Limit {
        calls,
        per: Duration::from_secs(seconds),
    })
}

/// The host that an HTTP 401 names if the keys belong to another region. The last host counts, as in "not A but B".
fn named_host(text: &str) -> Option<String> {
    static HOST: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)\bapi(-[a-z0-9]+)?\.leadsquared\.com\b"));
    Some(HOST.find_iter(text).last()?.as_str().to_ascii_lowercase())
}

fn duplicate_attribute(text: &str) -> Option<&'static str> {
    // "Duplicate entry '…' for key 'UQ_Prospect_Base_EmailAddress'": the entry may contain any word, the name of the key does not.
    let text = text.rsplit_once("for key").map_or(text, |(_, key)| key);
    [("email", "EmailAddress"), ("mobile", "Mobile"), ("phone", "Phone")]
        .into_iter()
        .find(|(word, _)| text.contains(word))
        .map(|(_, attribute)| attribute)
}

fn is_missing_lead(text: &str) -> bool {
    text.contains("lead") && (text.contains("not found") || text.contains("not exist"))
}

/// "Attribute(s) does not exist - mx_A, mx_B".
fn unknown_attributes(text: &str) -> Vec<Violation> {
    let (_, names) = text.split_once(" - ").unwrap_or_default();
    let is_name = |name: &&str| {
        !name.is_empty() && name.len() <= 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_~".contains(&b))
    };
    let violations: Vec<_> = names
        .split(',')
        .map(str::trim)
        .filter(is_name)
        .map(|name| Violation::new(path(name), format!("the account has no attribute {name}")))
        .collect();
    if violations.is_empty() {
        return vec![Violation::new(
            "lead",
            "has an attribute that the account does not have",
        )];
    }
    violations
}

/// The schema names in a text.
fn attributes_in(text: &str) -> Vec<String> {
    static CUSTOM: LazyLock<Regex> = LazyLock::new(|| regex(r"\bmx_\w{1,100}\b"));
    let standard = STANDARD
        .iter()
        .map(|field| field.schema_name)
        .filter(|name| !name.starts_with("mx_"));
    let mut names: Vec<String> = CUSTOM.find_iter(text).map(|found| found.as_str().to_owned()).collect();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    names.extend(standard.filter(|name| words.contains(name)).map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

/// `InvalidDataType` -> `invalid data type`.
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant, and a test uses it")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn response(status: u16, body: impl ToString) -> UpstreamResponse {
        UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_string().into(),
            head: Default::default(),
        }
    }

    fn exception(status: u16, name: &str, text: &str) -> ErrorKind {
        let body = json!({"Status": "Error", "ExceptionType": name, "ExceptionMessage": text, "IsMXException": true});
        response(status, body).check().unwrap_err().kind
    }

    fn fields(kind: ErrorKind) -> Vec<String> {
        match kind {
            ErrorKind::Invalid(violations) => violations.into_iter().map(|violation| violation.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_body_is_checked_before_the_status() {
        let text = "A Lead with same Phone Number already exists.";
        for status in [200, 500, 503] {
            let kind = exception(status, "MXDuplicateEntryException", text);
            let attribute = Some("Phone".to_owned());
            assert_eq!(
                kind,
                ErrorKind::Duplicate {
                    attribute,
                    lead_id: None
                }
            );
        }
    }

    #[test]
    fn every_form_of_a_refusal_is_detected() {
        let text = "API calls exceeded the limit of 20 in 5 second(s)";
        let limit = Limit {
            calls: 20,
            per: Duration::from_secs(5),
        };
        let expected = ErrorKind::Refused(Refusal::Window(Some(limit)));
        for status in [200, 403, 429, 500] {
            assert_eq!(exception(status, "MXAPIRateLimitExceededException", text), expected);
        }
        assert_eq!(response(429, text).check().unwrap_err().kind, expected);
        assert_eq!(response(403, text).check().unwrap_err().kind, expected);
        for other in [
            format!("\"{text}\""),
            format!("Error: {text}"),
            json!({"Message": format!("Your {text}")}).to_string(),
        ] {
            assert_eq!(response(200, &other).check().unwrap_err().kind, expected, "{other}");
            assert_eq!(response(403, &other).check().unwrap_err().kind, expected, "{other}");
        }
        let bare = ErrorKind::Refused(Refusal::Window(None));
        assert_eq!(response(429, "").check().unwrap_err().kind, bare);
        let daily = exception(429, "MXAPIRateLimitExceededException", "no more today");
        assert_eq!(daily, ErrorKind::Refused(Refusal::Daily));
        for text in [
            "",
            "Too many requests",
            "10 in 1 minute(s)",
            "API calls exceeded the limit of 0 in 5 second(s)",
            "Slow down",
        ] {
            assert_eq!(exception(429, "MXAPIRateLimitExceededException", text), bare, "{text}");
        }
        assert!(matches!(response(429, "").verdict(), Verdict::Refused(_)));
        assert_eq!(response(500, "").verdict(), Verdict::Accepted);
    }

    #[test]
    fn the_text_of_a_refusal_inside_of_data_is_ignored() {
        let phrase = "calls exceeded the limit of 1 in 5 second";
        let kind = exception(
            500,
            "MXUnknownAttributeException",
            &format!("Attribute(s) does not exist - {phrase}"),
        );
        assert!(matches!(kind, ErrorKind::Invalid(_)), "{kind:?}");
        let kind = exception(
            500,
            "MXDuplicateEntryException",
            &format!("Duplicate entry '{phrase}' for key 'x'"),
        );
        assert!(matches!(kind, ErrorKind::Duplicate { .. }), "{kind:?}");
        assert_eq!(
            response(200, format!("\n [{{\"Notes\":\"{phrase}\"}}]")).check(),
            Ok(())
        );
        assert_eq!(response(200, format!(" {{\"Notes\":\"{phrase}\"}}")).check(), Ok(()));
    }

    #[test]
    fn a_page_is_no_response_of_leadsquared_whatever_its_status() {
        let lost = ErrorKind::Unavailable { sent: true };
        let denied = ErrorKind::Denied { suggested_host: None };
        for (kind, statuses) in [
            (lost, &[200, 302, 500, 502][..]),
            (ErrorKind::Exception, &[400, 404, 405, 413]),
            (denied, &[401, 403]),
        ] {
            for status in statuses {
                let error = response(*status, "<html>").check().unwrap_err();
                assert_eq!((&error.kind, error.details.is_page), (&kind, true), "{status}");
            }
        }
    }

    #[test]
    fn only_a_foreign_response_is_a_failure_of_leadsquared() {
        let exception = json!({"Status": "Error", "ExceptionType": "MXNobodyKnowsException", "ExceptionMessage": ""});
        let exception = exception.to_string();
        let limit = "API calls exceeded the limit of 25 in 5 second(s)";
        for (status, body, is_failure) in [
            (503, "", true),
            (500, "", true),
            (504, "{\"message\":\"Endpoint request timed out\"}", true),
            (502, "<html>Bad Gateway</html>", true),
            (200, "<html>We will be back soon</html>", true),
            (500, exception.as_str(), false),
            (503, exception.as_str(), false),
            (500, limit, false),
            (429, "", false),
            (408, "", false),
            (403, "<html>Forbidden</html>", false),
            (404, "", false),
            (200, "[]", false),
            (200, "", false),
        ] {
            assert_eq!(response(status, body).is_failure(), is_failure, "{status} {body}");
        }
        let timeout = json!({"Status": "Error", "ExceptionType": "MXTimeoutException", "ExceptionMessage": ""});
        assert!(!response(500, timeout).is_failure());
    }

    #[test]
    fn every_text_of_a_duplicate_names_its_attribute() {
        let attribute = |text| match exception(500, "MXDuplicateEntryException", text) {
            ErrorKind::Duplicate { attribute, .. } => attribute,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            attribute("A Lead with same Email already exists.").as_deref(),
            Some("EmailAddress")
        );
        let old = "Duplicate entry 'phone@email.co' for key 'UQ_Prospect_Base_Mobile'";
        assert_eq!(attribute(old).as_deref(), Some("Mobile"));
        assert_eq!(attribute("something is twice"), None);
    }

    #[test]
    fn unknown_attributes_are_named_by_their_paths() {
        let kind = exception(
            500,
            "MXUnknownAttributeException",
            "Attribute(s) does not exist - mx_Foo, City,<b>",
        );
        assert_eq!(fields(kind), ["lead.custom[\"mx_Foo\"]", "lead.custom[\"City\"]"]);
        let kind = exception(500, "MXUnknownAttributeException", "what?");
        assert_eq!(fields(kind), ["lead"]);
    }

    #[test]
    fn attributes_in_a_text_are_named_and_the_text_is_not_shown() {
        let kind = exception(
            500,
            "MXInvalidDataTypeException",
            "secret@a.co: wrong value for mx_Amount and OwnerId",
        );
        assert!(!format!("{kind:?}").contains("secret"));
        assert_eq!(fields(kind), ["lead.owner_id", "lead.custom[\"mx_Amount\"]"]);
        let kind = exception(500, "MXInvalidInputException", "Invalid SearchBy value provided");
        assert_eq!(fields(kind), ["match_by"]);
    }

    #[test]
    fn keys_of_another_region_suggest_the_right_host() {
        let text = "Invalid host api.leadsquared.com: use https://api-in21.leadsquared.com/v2/, \
                    see apidocs.leadsquared.com";
        let kind = exception(401, "MXInvalidAccessDetailsException", text);
        let suggested_host = Some("api-in21.leadsquared.com".to_owned());
        assert_eq!(kind, ErrorKind::CredentialsRejected { suggested_host });
        assert_eq!(
            response(401, "").check().unwrap_err().kind,
            ErrorKind::Denied { suggested_host: None }
        );
    }

    #[test]
    fn other_forms_of_success_are_no_errors() {
        assert_eq!(
            response(200, json!({"Status": {"SuccessCount": 1}, "Details": {}})).check(),
            Ok(())
        );
        assert_eq!(response(200, json!({"Status": 0})).check(), Ok(()));
        assert_eq!(
            response(200, json!({"Status": "Success", "ExceptionType": null})).check(),
            Ok(())
        );
        assert_eq!(response(200, "[]").check(), Ok(()));
    }

    #[test]
    fn a_failure_may_lack_a_name() {
        let failed = response(
            200,
            json!({"Status": "Failed", "Message": {"Message": "Invalid event code"}}),
        );
        assert_eq!(failed.check().unwrap_err().kind, ErrorKind::Exception);
    }

    #[test]
    fn an_unexpected_value_is_named_by_its_path() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Outer {
            rows: Vec<u8>,
        }
        let path = |body: &str| match response(200, body).json::<Outer>().unwrap_err().kind {
            ErrorKind::Unreadable { path } => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path(r#"{"rows":[1,"x"]}"#), "rows[1]");
        assert_eq!(path(r#"{"rows":[1]} trailing"#), "the end");
        assert_eq!(path("nonsense"), "the top");
    }

    #[test]
    fn an_invalid_exception_name_is_not_shown() {
        let body = json!({"Status": "Error", "ExceptionType": "a b@c.d", "ExceptionMessage": ""});
        let error = response(500, body).check().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Exception);
        assert_eq!(error.details.exception_type, None);
    }
}
