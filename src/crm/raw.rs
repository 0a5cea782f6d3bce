//! Requests of `leadgate probe`: outside of the quota, each sent once, with forms that no [`super::Operation`] has. The response is
//! judged by the same rules as every other one.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Version};
use http_body::{Body, Frame};
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::time::Instant;
use url::Url;

use super::keys::{Keys, PairName};
use super::response::UpstreamResponse;
use super::{CrmSettings, endpoint_url, from_reqwest, http_client, read};
use crate::error::{Cause, Error, ErrorKind, Result};

/// Maximum length of a response in bytes. No probe needs more.
const MAX_RESPONSE: usize = 16 * 1024 * 1024;
/// How long a connection of [`RawClient::separate`] is kept: until the server closes it.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A client of one account without a quota. It uses the first pair of keys.
pub struct RawClient {
    tenant: String,
    http: reqwest::Client,
    base: Url,
    keys: HeaderMap,
    settings: CrmSettings,
}

/// A request without host and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRequest {
    /// The path after `/v2/`.
    pub path: &'static str,
    /// The query, not encoded.
    pub query: Vec<(&'static str, String)>,
    /// The body. It also decides the method.
    pub body: RawBody,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawBody {
    /// A GET without a body.
    None,
    /// A GET with `Content-Length: 0`.
    LengthZero,
    /// A POST without a body.
    Empty,
    /// A POST with a length. The text is JSON in most cases.
    Sized(String),
    /// A POST in chunks, without a length.
    Chunked(String),
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct RawResponse {
    /// Status and body.
    pub response: UpstreamResponse,
    /// The HTTP version.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The local address of the connection, which says whether two requests used the same one.
    pub connection: Option<SocketAddr>,
    /// When the response was complete.
    pub received: Instant,
}

/// A body without a known length, which HTTP/1.1 sends in chunks.
struct ChunkedBody(Option<Bytes>);

impl RawClient {
    /// A client of the account at that URL. Fails if the keys are no valid header values or if TLS cannot be set up.
    pub fn new(tenant: &str, base: Url, keys: &Keys, settings: CrmSettings) -> std::result::Result<Self, String> {
        let http = http_client(tenant, &settings, base.scheme(), None)?;
        Ok(Self {
            tenant: tenant.to_owned(),
            http,
            base,
            keys: keys.first.read(PairName::First)?.headers(),
            settings,
        })
    }

    /// The same client with connections of its own, which it keeps until the server closes them. `http2`: it offers HTTP/2.
    pub fn separate(&self, http2: bool) -> std::result::Result<Self, String> {
        let settings = CrmSettings {
            idle_timeout: NEVER,
            http2,
            ..self.settings.clone()
        };
        Ok(Self {
            tenant: self.tenant.clone(),
            http: http_client(&self.tenant, &settings, self.base.scheme(), None)?,
            base: self.base.clone(),
            keys: self.keys.clone(),
            settings,
        })
    }

    /// The same client for another host. The host gets the keys.
    pub fn at(&self, base: Url) -> std::result::Result<Self, String> {
        let mut client = self.separate(self.settings.http2)?;
        client.base = base;
        Ok(client)
    }

    /// The text without the keys.
    pub fn without_keys(&self, text: &str) -> String {
        let keys = self.keys.values().filter_map(|value| value.to_str().ok());
        keys.fold(text.to_owned(), |text, key| text.replace(key, "<key>"))
    }

    /// Sends a request once. Fails if there is no complete response.
    pub async fn send(&self, request: &RawRequest) -> Result<RawResponse> {
        let is_https = self.base.scheme() == "https";
        let request = self.build(request)?;
        let exchange = async {
            let response = self.http.execute(request).await;
            let response = response.map_err(|error| from_reqwest(error, is_https))?;
            let (version, headers) = (response.version(), response.headers().clone());
            let connection = response.extensions().get::<HttpInfo>().map(HttpInfo::local_addr);
            let max = self.settings.max_answer_bytes.min(MAX_RESPONSE);
            let response = read(response, max, is_https).await?;
            Ok(RawResponse {
                response,
                version,
                headers,
                connection,
                received: Instant::now(),
            })
        };
        let limit = self.settings.connect_timeout + self.settings.timeout;
        tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            Err(Error::from(ErrorKind::Unavailable { sent: true }).with_cause(Cause::ResponseTimeout))
        })
    }

    fn build(&self, request: &RawRequest) -> Result<reqwest::Request> {
        let url = endpoint_url(&self.base, request.path, &request.query);
        let method = match request.body {
            RawBody::None | RawBody::LengthZero => Method::GET,
            RawBody::Empty | RawBody::Sized(_) | RawBody::Chunked(_) => Method::POST,
        };
        let builder = self.http.request(method, url).headers(self.keys.clone());
        let json = HeaderValue::from_static("application/json");
        let builder = match &request.body {
            RawBody::None => builder,
            RawBody::LengthZero => builder.header(CONTENT_LENGTH, 0),
            RawBody::Empty => builder.header(CONTENT_TYPE, json).header(CONTENT_LENGTH, 0),
            RawBody::Sized(text) => builder.header(CONTENT_TYPE, json).body(text.clone()),
            RawBody::Chunked(text) => {
                let body = ChunkedBody(Some(text.clone().into()));
                builder.header(CONTENT_TYPE, json).body(reqwest::Body::wrap(body))
            }
        };
        builder
            .build()
            .map_err(|error| from_reqwest(error, self.base.scheme() == "https"))
    }
}

impl Body for ChunkedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }
}
