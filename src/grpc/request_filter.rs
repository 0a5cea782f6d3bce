//! What is looked at before a message is read: the HTTP version and method, the content type, the size of the metadata and
//! the names in it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use tonic::body::Body;

use super::observe::Observed;
use super::{rpc, status};
use crate::error::{Error, ErrorKind, Violation, shortened};
use crate::telemetry::metrics::Metrics;

/// What begins the names of our metadata.
const OURS: &str = "x-leadgate-";
/// The metadata that a request may have.
const KNOWN: [&str; 3] = [rpc::TENANT, rpc::CALLER, rpc::CRITICALITY];
/// How many letters of a name may be wrong for it to be taken for a misspelling.
const MAX_WRONG: usize = 2;
/// How many pairs of caller and unknown name are remembered, so that each is logged once.
const MAX_SEEN: usize = 1_000;

/// Looks at requests before their messages are read.
pub(super) struct Edge {
    max_metadata_bytes: usize,
    seen: Mutex<HashSet<(String, String)>>,
    metrics: Arc<Metrics>,
}

impl Edge {
    pub(super) fn new(max_metadata_bytes: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            max_metadata_bytes,
            seen: Mutex::default(),
            metrics,
        }
    }

    /// The response to a request that goes no further.
    pub(super) fn refuse<B>(&self, request: &Request<B>, observed: &Observed) -> Option<Response<Body>> {
        if let Some((code, text)) = foreign(request) {
            return Some(refused_as_http(code, &text, observed));
        }
        let violations = self.violations(request.headers(), observed);
        if violations.is_empty() {
            return None;
        }
        let error = Error::from(ErrorKind::Invalid(violations));
        observed.reason(status::reason(&error.kind));
        Some(status::from(&error, observed.tenant_name(), observed.id(), None).into_http())
    }

    fn violations(&self, headers: &HeaderMap, observed: &Observed) -> Vec<Violation> {
        let mut violations = Vec::new();
        let (bytes, limit) = (status::list_size(headers), self.max_metadata_bytes);
        if bytes > limit {
            let largest = headers
                .iter()
                .max_by_key(|(name, value)| name.as_str().len() + value.len());
            let largest = largest.map_or("", |(name, _)| name.as_str());
            let largest = shortened(largest, 64);
            let request_id = observed.id();
            tracing::warn!(request_id, bytes, limit, %largest, "request metadata exceeds server.max_metadata_bytes");
            let text = format!(
                "the request has {bytes} bytes of metadata, more than server.max_metadata_bytes ({limit}); the largest is {largest}"
            );
            violations.push(Violation::new("metadata", text));
        }
        for name in headers.keys().map(http::HeaderName::as_str) {
            if KNOWN.contains(&name) {
                continue;
            }
            if let Some(meant) = KNOWN.into_iter().find(|known| is_misspelling(name, known)) {
                violations.push(Violation::new(name, format!("is unknown; did you mean {meant}?")));
            } else if name.starts_with(OURS) {
                self.unknown(name, headers, observed);
            }
        }
        violations
    }

    /// Newer clients may send it; whoever has mistaken a name finds it in the log.
    fn unknown(&self, name: &str, headers: &HeaderMap, observed: &Observed) {
        self.metrics.unknown_header();
        let caller = rpc::caller(headers).unwrap_or_else(|_| "?".into());
        let name = shortened(name, 64).into_owned();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MAX_SEEN && seen.insert((caller.to_string(), name.clone())) {
            let request_id = observed.id();
            tracing::warn!(request_id, caller = &*caller, name, "ignored unknown request metadata");
        }
    }
}

/// What is wrong with a request that is none of gRPC.
fn foreign<B>(request: &Request<B>) -> Option<(StatusCode, String)> {
    const HERE: &str = "this port serves gRPC";
    if request.version() < Version::HTTP_2 {
        let text = format!("{HERE} over HTTP/2; /live, /ready and /metrics are served by the admin port");
        return Some((StatusCode::HTTP_VERSION_NOT_SUPPORTED, text));
    }
    if request.method() != Method::POST {
        let method = shortened(request.method().as_str(), 32);
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{HERE}: the method must be POST, not {method}"),
        ));
    }
    let given = request.headers().get(header::CONTENT_TYPE);
    let given = given.map(|value| String::from_utf8_lossy(value.as_bytes()));
    if given.as_deref().is_some_and(is_grpc) {
        return None;
    }
    let given = given.as_deref().map_or("missing".into(), |given| shortened(given, 64));
    let text = format!("{HERE}: the content-type must be application/grpc or application/grpc+proto; it is {given}");
    Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

fn is_grpc(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

/// An answer for people and for clients of HTTP, which clients of gRPC can read too.
fn refused_as_http(code: StatusCode, text: &str, observed: &Observed) -> Response<Body> {
    let error = Error::invalid(
        if code == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            "content-type"
        } else {
            ":method"
        },
        text,
    );
    observed.reason(status::reason(&error.kind));
    let status = status::from(&error, observed.tenant_name(), observed.id(), None);
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

/// Whether the name is nearly that one, and not that one.
fn is_misspelling(name: &str, known: &str) -> bool {
    name.len().abs_diff(known.len()) <= MAX_WRONG && (1..=MAX_WRONG).contains(&distance(name, known))
}

/// How many letters have to be put in, taken out or changed to make one name of the other.
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
    fn the_distance_counts_letters() {
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
    fn names_that_nearly_match_are_misspellings() {
        let meant = |name: &str| KNOWN.into_iter().find(|known| is_misspelling(name, known));
        for (name, known) in [
            ("x-leadgate-tennant", Some(rpc::TENANT)),
            ("x-leadgate-tenants", Some(rpc::TENANT)),
            ("x-leadgat-tenant", Some(rpc::TENANT)),
            ("xleadgate-tenant", Some(rpc::TENANT)),
            ("x-leadgate-called", Some(rpc::CALLER)),
            ("x-leadgate-critcality", Some(rpc::CRITICALITY)),
            ("x-leadgate-tenant", None),
            ("x-leadgate-locale", None),
            ("x-leadgate-", None),
            ("user-agent", None),
        ] {
            assert_eq!(meant(name), known, "{name}");
        }
    }

    #[test]
    fn content_types_of_grpc_are_known() {
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
