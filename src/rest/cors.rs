//! Requests of pages in browsers (CORS).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// The setting that allows every origin.
const EVERY: &str = "*";
const METHODS: &str = "GET, POST";
const HEADERS: &str = "content-type, accept, cache-control, x-lsq-accesskey, x-lsq-secretkey, x-leadgate-max-wait";
const EXPOSED: &str = "retry-after, x-request-id, x-leadgate-reason";
const MAX_AGE: u32 = 600;

/// The origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The request is not from a page, or from one of the same origin.
    None,
    /// The settings list the origin.
    Listed(HeaderValue),
    /// The settings do not list the origin.
    Other,
}

impl Origin {
    pub(super) fn of(headers: &HeaderMap, listed: &[String]) -> Self {
        let Some(origin) = headers.get(ORIGIN) else {
            return Self::None;
        };
        let is_it = |listed: &String| listed == EVERY || listed.as_bytes() == origin.as_bytes();
        match listed.iter().any(is_it) {
            true => Self::Listed(origin.clone()),
            false => Self::Other,
        }
    }

    /// Lets the page read the response.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Self::Listed(origin) = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

/// Whether a browser asks what a page may send.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Adds the response to [`is_preflight`].
pub(super) fn add_preflight(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE.into());
}

/// Whether a text is an origin, such as `https://www.example.com`, or `*`.
pub(super) fn is_origin(text: &str) -> bool {
    let origin = url::Url::parse(text).map(|url| url.origin().ascii_serialization());
    text == EVERY || text != "null" && origin.is_ok_and(|origin| origin == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        let of = |origin: &str, listed: &[&str]| {
            let headers = HeaderMap::from_iter([(ORIGIN, origin.parse().unwrap())]);
            let listed: Vec<String> = listed.iter().map(|text| (*text).to_owned()).collect();
            matches!(Origin::of(&headers, &listed), Origin::Listed(_))
        };
        assert!(of("https://a.example", &["https://b.example", "https://a.example"]));
        assert!(of("null", &["*"]));
        for other in [
            "https://a.example:8443",
            "http://a.example",
            "https://a.example.evil",
            "null",
        ] {
            assert!(!of(other, &["https://a.example"]), "{other}");
        }
        assert_eq!(Origin::of(&HeaderMap::new(), &[]), Origin::None);
    }

    #[test]
    fn other_texts_are_no_origins() {
        for text in ["*", "https://a.example", "http://localhost:3000"] {
            assert!(is_origin(text), "{text}");
        }
        for text in [
            "",
            "null",
            "a.example",
            "https://a.example/",
            "https://A.example",
            "https://a.example/x",
            "data:x",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }
}
