//! A parsed HTTP request. Values are validated elsewhere.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::Instant;

use crate::Recorded;
use crate::handlers::invalid_body;
use crate::http::endpoint::Endpoint;
use crate::http::response::Failure;

/// One API call: a parsed HTTP request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// Returns the record of the call for the journal, without an outcome.
    pub(crate) fn record(&self, endpoint: Option<Endpoint>, stamp: Instant) -> Recorded {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = self.headers.iter();
        Recorded {
            endpoint: endpoint.map_or_else(|| self.path.clone(), |endpoint| endpoint.name().into()),
            method: self.method.to_string(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: String::from_utf8_lossy(&self.body).into_owned(),
            stamp,
            status: 0,
            refused: false,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the body or a value of the query contains `text`.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let in_query = self.query.iter().any(|(_, value)| value.contains(text));
        in_query || String::from_utf8_lossy(&self.body).contains(text)
    }

    /// Returns a key from the header, or from the query if there is no such header.
    pub(crate) fn key(&self, header: &str, parameter: &str) -> Option<&str> {
        let parameter = || self.query.iter().find(|(name, _)| name == parameter);
        self.header(header).or_else(|| Some(parameter()?.1.as_str()))
    }

    /// Returns an error if the content type or the body is not JSON.
    pub(crate) fn body_error(&self) -> Option<Failure> {
        let kind = self.header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let json = kind.split(';').next().unwrap_or_default().trim();
        if !json.eq_ignore_ascii_case("application/json") {
            let message = "The content type of the request is not application/json";
            return Some(Failure::InvalidBody(message.into()));
        }
        let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(&self.body);
        Some(invalid_body(&parsed.err()?))
    }
}
