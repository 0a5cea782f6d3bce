//! Rejects requests before their messages are read: by the HTTP version and method, the content type, the size of the
//! metadata and the names in the metadata.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use tokio::time::Instant;
use tonic::body::Body;

use super::rpc_log::RpcLog;
use super::web::{self, Protocol};
use super::{metadata, status};
use crate::error::{Error, ErrorKind, Result, Violation, shortened};
use crate::telemetry::log::LineLimit;
use crate::telemetry::metrics::Metrics;

/// The prefix of the metadata of leadgate.
const PREFIX: &str = "x-leadgate-";
/// The known metadata of leadgate.
const KNOWN: [&str; 3] = [metadata::TENANT, metadata::CALLER, metadata::CRITICALITY];
/// Maximum number of wrong letters in a misspelled name.
const MAX_WRONG_LETTERS: usize = 2;
/// Maximum number of pairs of caller and unknown name that are remembered. Each pair is logged once.
const MAX_LOGGED: usize = 1_000;

/// Rejects requests before their messages are read.
pub(super) struct RequestFilter {
    max_metadata_bytes: usize,
    logged: Mutex<HashSet<(String, String)>>,
    /// The lines of metadata that is too large.
    large_metadata: LineLimit,
    metrics: Arc<Metrics>,
}

impl RequestFilter {
    pub(super) fn new(max_metadata_bytes: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            max_metadata_bytes,
            logged: Mutex::default(),
            large_metadata: LineLimit::default(),
            metrics,
        }
    }

    /// Checks the size and the names of the metadata.
    pub(super) fn check(&self, headers: &HeaderMap, log: &RpcLog) -> Result<()> {
        let violations = self.violations(headers, log);
        match violations.is_empty() {
            true => Ok(()),
            false => Err(ErrorKind::Invalid(violations).into()),
        }
    }

    fn violations(&self, headers: &HeaderMap, log: &RpcLog) -> Vec<Violation> {
        let mut violations = Vec::new();
        let (bytes, limit) = (status::list_size(headers), self.max_metadata_bytes);
        if bytes > limit {
            let largest = headers
                .iter()
                .max_by_key(|(name, value)| name.as_str().len() + value.len());
            let largest = largest.map_or("", |(name, _)| name.as_str());
            let largest = shortened(largest, 64);
            if let Some(suppressed) = self.large_metadata.admit(Instant::now()) {
                let (request_id, trace_id) = (log.id(), log.trace().id().map(tracing::field::display));
                tracing::warn!(request_id, trace_id, bytes, limit, %largest, suppressed, "request metadata exceeds server.max_metadata_bytes");
            }
            let text = format!(
                "the metadata has {bytes} bytes, more than server.max_metadata_bytes ({limit}); the largest entry is {largest}"
            );
            violations.push(Violation::new("metadata", text));
        }
        for name in headers.keys().map(http::HeaderName::as_str) {
            if KNOWN.contains(&name) {
                if headers.get_all(name).iter().nth(1).is_some() {
                    violations.push(Violation::new(name, "must have one value, and has several"));
                }
                continue;
            }
            if let Some(known) = KNOWN.into_iter().find(|known| is_misspelled(name, known)) {
                violations.push(Violation::new(name, format!("is unknown; did you mean {known}?")));
            } else if name.starts_with(PREFIX) {
                self.report_unknown(name, log);
            }
        }
        violations
    }

    /// Logs and counts an unknown name. It is no error, because newer clients may send it.
    fn report_unknown(&self, name: &str, log: &RpcLog) {
        self.metrics.unknown_header();
        let caller = log.caller().unwrap_or("?");
        let name = shortened(name, 64).into_owned();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MAX_LOGGED && logged.insert((caller.to_string(), name.clone())) {
            let (request_id, trace_id) = (log.id(), log.trace().id().map(tracing::field::display));
            tracing::warn!(request_id, trace_id, caller, name, "unknown request metadata ignored");
        }
    }
}

/// Returns the response to a request that uses neither gRPC nor gRPC-Web, or whose page may not use gRPC-Web. `serves_web`: whether
/// any page may.
pub(super) fn reject<B>(
    request: &Request<B>,
    protocol: Protocol,
    serves_web: bool,
    log: &RpcLog,
) -> Option<Response<Body>> {
    let (code, text) = match protocol {
        Protocol::Web => return None,
        Protocol::Grpc => not_grpc(request, serves_web)?,
        Protocol::WebOfOtherOrigin => (
            StatusCode::FORBIDDEN,
            "the origin of the page is not in server.cors_origins; nothing was executed".to_owned(),
        ),
    };
    let mut response = http_rejection(code, &text, log);
    if request.version() < Version::HTTP_2 {
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Some(response)
}

/// Returns the HTTP status and the text for a request that does not use gRPC.
fn not_grpc<B>(request: &Request<B>, serves_web: bool) -> Option<(StatusCode, String)> {
    const PORT: &str = "this port serves gRPC";
    if request.version() < Version::HTTP_2 {
        let web = if serves_web { " and gRPC-Web" } else { "" };
        let text = format!("{PORT} over HTTP/2{web}; /live, /ready and /metrics are served by the admin port");
        return Some((StatusCode::HTTP_VERSION_NOT_SUPPORTED, text));
    }
    if request.method() != Method::POST {
        let method = shortened(request.method().as_str(), 32);
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{PORT}: the method must be POST, not {method}"),
        ));
    }
    let given = request.headers().get(header::CONTENT_TYPE);
    let given = given.map(|value| String::from_utf8_lossy(value.as_bytes()));
    if given.as_deref().is_some_and(is_grpc) {
        return None;
    }
    let hint = match given.as_deref().is_some_and(web::is_grpc_web) && !serves_web {
        true => "; gRPC-Web is off, because server.cors_origins is empty",
        false => "",
    };
    let given = given.as_deref().map_or("missing".into(), |given| shortened(given, 64));
    let text =
        format!("{PORT}: the content-type must be application/grpc or application/grpc+proto; it is {given}{hint}");
    Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

fn is_grpc(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

/// Returns a response for people and HTTP clients. gRPC clients can read it too.
fn http_rejection(code: StatusCode, text: &str, log: &RpcLog) -> Response<Body> {
    let field = match code {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "content-type",
        StatusCode::FORBIDDEN => "origin",
        _ => ":method",
    };
    let error = Error::invalid(field, text);
    log.set_reason(status::reason(&error));
    let status = status::from(&error, None, log.id(), None);
    let (mut parts, ()) = status.into_http::<()>().into_parts();
    parts.status = code;
    parts.headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if code == StatusCode::METHOD_NOT_ALLOWED {
        parts
            .headers
            .insert(header::ALLOW, header::HeaderValue::from_static("POST"));
    }
    let body = http_body_util::Full::from(format!("{text}\n"));
    Response::from_parts(parts, Body::new(body))
}

/// Whether the name is similar to a known name, but not equal.
fn is_misspelled(name: &str, known: &str) -> bool {
    name.len().abs_diff(known.len()) <= MAX_WRONG_LETTERS && (1..=MAX_WRONG_LETTERS).contains(&distance(name, known))
}

/// Returns the Levenshtein distance: the number of letters to insert, remove or change.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_changed_letters() {
        for (one, other, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("tenant", "tennant", 1),
            ("tenant", "teannt", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_similar_name_is_a_misspelling() {
        let known_name = |name: &str| KNOWN.into_iter().find(|known| is_misspelled(name, known));
        for (name, known) in [
            ("x-leadgate-tennant", Some(metadata::TENANT)),
            ("x-leadgate-tenants", Some(metadata::TENANT)),
            ("x-leadgat-tenant", Some(metadata::TENANT)),
            ("xleadgate-tenant", Some(metadata::TENANT)),
            ("x-leadgate-called", Some(metadata::CALLER)),
            ("x-leadgate-critcality", Some(metadata::CRITICALITY)),
            ("x-leadgate-tenant", None),
            ("x-leadgate-locale", None),
            ("x-leadgate-", None),
            ("user-agent", None),
        ] {
            assert_eq!(known_name(name), known, "{name}");
        }
    }

    #[test]
    fn only_content_types_of_grpc_are_accepted() {
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC",
            "application/grpc; charset=utf-8",
        ] {
            assert!(is_grpc(good), "{good}");
        }
        for wrong in [
            "",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpcx",
        ] {
            assert!(!is_grpc(wrong), "{wrong}");
        }
    }
}
