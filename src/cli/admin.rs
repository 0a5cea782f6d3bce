//! The admin port of a running gateway, for commands that steer it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use leadgate::config;
use leadgate::crm::KeySource;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::net::TcpStream;
use url::Url;

/// Maximum time for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for the body of an error.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum length of an error of the gateway, in bytes.
const MAX_ERROR: usize = 64 * 1024;

/// The admin port of a gateway, with its token.
pub(crate) struct AdminPort {
    url: Url,
    token: SecretString,
}

/// The body of an error of the gateway.
#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
}

/// Why a request to a gateway failed.
pub(crate) enum PortError {
    /// The gateway did not execute it. `code`: that of its response.
    NotExecuted { code: Option<String>, text: String },
    /// The gateway may have executed it.
    Unknown(String),
}

impl From<PortError> for String {
    fn from(error: PortError) -> Self {
        match error {
            PortError::NotExecuted { text, .. } | PortError::Unknown(text) => text,
        }
    }
}

impl AdminPort {
    /// Fails if the token would be sent in plaintext to another machine, unless that is allowed.
    pub(crate) fn new(url: Url, token: SecretString, insecure_plaintext: bool) -> Result<Self, String> {
        if !insecure_plaintext && !config::is_loopback(&url) {
            return Err(format!(
                "the token would be sent in plaintext to {url}: use --insecure-plaintext if the network encrypts by itself"
            ));
        }
        Ok(Self { url, token })
    }

    /// Sends a POST. Returns its response if it succeeds.
    pub(crate) async fn post(&self, path: &str, body: &str, timeout: Duration) -> Result<Response<Incoming>, String> {
        Ok(self.send(Method::POST, path, body, timeout).await?)
    }

    /// Sends a steering request. Returns its response if it succeeds.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &str,
        timeout: Duration,
    ) -> Result<Response<Incoming>, PortError> {
        let url = &self.url;
        let text_of = |error: &dyn std::fmt::Display| format!("the gateway at {url}: {error}");
        let failed = |error: &dyn std::fmt::Display| PortError::NotExecuted {
            code: None,
            text: text_of(error),
        };
        let unknown = |error: &dyn std::fmt::Display| PortError::Unknown(text_of(error));
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
        let stream = connecting
            .map_err(|_| failed(&format!("no connection within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| failed(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        #[expect(clippy::disallowed_methods, reason = "it ends with the connection")]
        tokio::spawn(connection);
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", self.token.expose_secret()))
            .map_err(|_| failed(&"the token has characters that are invalid in a header"))?;
        authorization.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, url.authority())
            .header(AUTHORIZATION, authorization)
            .body(Full::new(Bytes::from(body.to_owned())));
        let request = request.map_err(|error| failed(&error))?;
        let response = tokio::time::timeout(timeout, sender.send_request(request)).await;
        let response = response
            .map_err(|_| unknown(&format!("no response within {timeout:?}")))?
            .map_err(|error| unknown(&error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = text(response).await.ok();
        let body = body.and_then(|body| serde_json::from_slice::<ErrorBody>(&body).ok());
        Err(match body {
            // The store may finish the write later.
            Some(ErrorBody { code, message }) if code == "STORE_UNAVAILABLE" => unknown(&format!("{message} ({code})")),
            Some(ErrorBody { code, message }) => PortError::NotExecuted {
                text: text_of(&format!("{message} ({code})")),
                code: Some(code),
            },
            None if status.is_client_error() => failed(&format!("HTTP {status}")),
            None => unknown(&format!("HTTP {status}")),
        })
    }
}

/// Reads the body of a response that is short.
pub(crate) async fn text(response: Response<Incoming>) -> Result<Bytes, String> {
    let body = http_body_util::Limited::new(response.into_body(), MAX_ERROR).collect();
    let body = tokio::time::timeout(READ_TIMEOUT, body).await;
    let body = body.map_err(|_| format!("no data within {READ_TIMEOUT:?}"))?;
    Ok(body.map_err(|error| error.to_string())?.to_bytes())
}

/// Parses the address of an admin port.
pub(crate) fn parse(option: &str, text: &str) -> Result<Url, String> {
    let is_bare = |url: &Url| {
        let has_user = !url.username().is_empty() || url.password().is_some();
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        url.scheme() == "http" && url.has_host() && !has_user && !has_more
    };
    let url = Url::parse(text).ok().filter(is_bare);
    url.ok_or_else(|| {
        format!("{option} must be http://HOST:PORT, the address of the admin port, without a user, a path or a query")
    })
}

/// The URL by which this machine reaches a listening address.
pub(crate) fn listening_at(listen: SocketAddr) -> Result<Url, String> {
    parse("admin.listen", &format!("http://{}", reachable(listen)))
}

/// The token in a file, or that of the configuration.
pub(crate) fn token(file: Option<&Path>, configured: Option<&KeySource>) -> Result<SecretString, String> {
    match (file, configured) {
        (Some(path), _) => {
            let text = fs::read_to_string(path);
            let text = text.map_err(|error| format!("--token-file: reading {} failed: {error}", path.display()))?;
            Ok(text.trim().to_owned().into())
        }
        (None, Some(source)) => source.read().map_err(|error| format!("admin.token: {error}")),
        (None, None) => Err("admin.token is not set, and there is no --token-file".to_owned()),
    }
}

/// The address by which this machine reaches a listening address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_address_is_reached_on_this_machine() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(of("[::]:9464"), "[::1]:9464");
        assert_eq!(of("10.0.0.5:1"), "10.0.0.5:1");
    }

    #[test]
    fn the_address_is_a_url_without_tls() {
        assert!(parse("--admin", "http://127.0.0.1:9464").is_ok());
        for text in [
            "127.0.0.1:9464",
            "https://gate:9464",
            "http://",
            "http://user@gate:9464",
            "http://:secret@gate:9464",
            "http://gate:9464/admin",
            "http://gate:9464/?x=1",
            "http://gate:9464#x",
        ] {
            let error = parse("--admin", text).unwrap_err();
            assert!(
                error.contains("--admin") && error.contains("http://HOST:PORT"),
                "{text}"
            );
        }
    }
}
