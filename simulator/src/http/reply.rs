//! What the client of a call gets. It is also the form in which a response is recorded.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response as HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::http::response::Response;

/// Headers that the HTTP server sets by itself.
const OWN_HEADERS: [&str; 3] = ["content-length", "transfer-encoding", "connection"];

/// A response with all of its headers, except those that the HTTP server adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default, with = "body")]
    pub(crate) body: Bytes,
}

impl Reply {
    /// Adds the further headers, and the date unless it is one of them. Invalid headers are left out.
    pub(crate) fn new(response: Response, further: &BTreeMap<String, String>, date: String) -> Self {
        let mut headers = vec![(header::CONTENT_TYPE.to_string(), response.content_type)];
        headers.extend(
            response
                .retry_after
                .map(|value| (header::RETRY_AFTER.to_string(), value)),
        );
        headers.extend(
            further
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone())),
        );
        if !headers.iter().any(|(name, _)| *name == header::DATE.as_str()) {
            headers.push((header::DATE.to_string(), date));
        }
        headers.retain(|(name, value)| parse(name, value).is_ok());
        Self {
            status: response.status,
            headers,
            body: response.body,
        }
    }

    /// Returns an error if the response cannot be sent as it is.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !(200..=599).contains(&self.status) {
            return Err(format!("invalid status {}. It is from 200 to 599", self.status));
        }
        self.headers.iter().try_for_each(|(name, value)| {
            let (name, _) = parse(name, value)?;
            match OWN_HEADERS.contains(&name.as_str()) {
                true => Err(format!("the header {name} cannot be set")),
                false => Ok(()),
            }
        })
    }

    pub(crate) fn into_http(self) -> HttpResponse {
        let mut response = HttpResponse::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok((name, value)) = parse(&name, &value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

fn parse(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value));
    let (Ok(name), Ok(value)) = parsed else {
        return Err(format!("invalid header {name:?}"));
    };
    Ok((name, value))
}

/// Bytes as a JSON string, or as `{"base64": "..."}` if they are not UTF-8.
pub(crate) mod body {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes { base64: String },
    }

    pub(crate) fn serialize<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match std::str::from_utf8(body) {
            Ok(text) => Form::Text(text.into()),
            Err(_) => Form::Bytes {
                base64: STANDARD.encode(body),
            },
        };
        form.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let invalid = || serde::de::Error::custom("a body is a text, or {\"base64\": \"...\"}");
        match Form::deserialize(deserializer) {
            Ok(Form::Text(text)) => Ok(text.into()),
            Ok(Form::Bytes { base64 }) => Ok(STANDARD.decode(base64).map_err(|_| invalid())?.into()),
            Err(_) => Err(invalid()),
        }
    }
}
