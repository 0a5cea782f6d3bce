//! gRPC-Web: the requests of browsers, and which pages may send them. Such a request becomes one of gRPC before anything is known
//! of its RPC, and its response becomes one of gRPC-Web at the very end.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;
use url::Url;

use super::web_body::{ClientBody, WebResponseBody};
use crate::error::shortened;
use crate::telemetry::log::LineLimit;

/// The content types of gRPC-Web, and whether the bytes are base64.
const CONTENT_TYPES: [(&str, bool); 4] = [
    ("application/grpc-web", false),
    ("application/grpc-web+proto", false),
    ("application/grpc-web-text", true),
    ("application/grpc-web-text+proto", true),
];
/// The metadata that a page may send. Browsers send some more in any case, such as `accept`.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, baggage, content-type, grpc-accept-encoding, grpc-encoding, grpc-previous-rpc-attempts, grpc-timeout, traceparent, \
     tracestate, x-grpc-web, x-leadgate-caller, x-leadgate-criticality, x-leadgate-tenant, x-request-id, x-user-agent",
);
/// What a page may read of the headers of a response. A response without messages has its trailers there.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "grpc-encoding, grpc-message, grpc-retry-pushback-ms, grpc-status, grpc-status-details-bin, x-leadgate-import-failed, \
     x-leadgate-import-received, x-leadgate-import-succeeded, x-request-id",
);
/// For this many seconds, a browser need not ask again whether a page may send a request. Browsers have lower limits.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// The headers of a request that concern its connection, or the bytes of gRPC-Web.
const CONNECTION_HEADERS: [HeaderName; 9] = [
    header::ACCEPT,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    header::ORIGIN,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Maximum number of bytes of an origin in the log.
const MAX_ORIGIN_BYTES: usize = 200;

/// Serves gRPC-Web.
pub(super) struct Web {
    origins: Vec<HeaderValue>,
    refused: LineLimit,
}

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// gRPC, or none that this port serves.
    Grpc,
    /// gRPC-Web. The request is one of gRPC now.
    Web,
    /// gRPC-Web, from a page of an origin that is not listed.
    WebOfOtherOrigin,
}

/// A request of a client.
pub(super) enum Received {
    /// A request that is not from a page, and not gRPC-Web.
    Other(Request<Incoming>),
    /// Any other request.
    Web(Request<ClientBody>, Protocol, Reply),
    /// A browser asks whether a page may send a request. This is the response.
    Preflight(Response<Body>),
}

/// The form of a response.
pub(super) struct Reply {
    /// Whether the bytes are sent as base64. `None`: the response is not one of gRPC-Web.
    is_text: Option<bool>,
    /// The origin of the page, if it is listed.
    origin: Option<HeaderValue>,
}

impl Web {
    /// Serves the pages of these origins (`server.cors_origins`). Returns `None` if there are none: gRPC-Web is off.
    pub(super) fn new(origins: &[String]) -> Option<Self> {
        let origins: Vec<_> = origins
            .iter()
            .filter_map(|origin| HeaderValue::from_str(origin).ok())
            .collect();
        (!origins.is_empty()).then(|| Self {
            origins,
            refused: LineLimit::default(),
        })
    }

    /// Makes a request of gRPC from a request of gRPC-Web, and responds to preflight requests.
    pub(super) fn receive(&self, mut request: Request<Incoming>) -> Received {
        let headers = request.headers();
        let origin = headers.get(header::ORIGIN).cloned();
        let is_text = content_type(headers).filter(|_| request.method() == Method::POST);
        if origin.is_none() && is_text.is_none() {
            return Received::Other(request);
        }
        let listed = origin.clone().filter(|origin| self.origins.contains(origin));
        let is_other = origin.is_some() && listed.is_none();
        let is_preflight =
            request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if let Some(origin) = origin.filter(|_| is_other && (is_preflight || is_text.is_some())) {
            self.log_refused(&origin);
        }
        let mut reply = Reply {
            is_text: None,
            origin: listed,
        };
        if is_preflight {
            return Received::Preflight(reply.preflight());
        }
        let Some(is_text) = is_text else {
            return Received::Web(request.map(ClientBody::Binary), Protocol::Grpc, reply);
        };
        if is_other {
            return Received::Web(request.map(ClientBody::Binary), Protocol::WebOfOtherOrigin, reply);
        }
        reply.is_text = Some(accepted(headers).unwrap_or(is_text));
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        for name in CONNECTION_HEADERS {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let request = request.map(|body| ClientBody::of_web(body, is_text));
        Received::Web(request, Protocol::Web, reply)
    }

    fn log_refused(&self, origin: &HeaderValue) {
        if let Some(suppressed) = self.refused.admit(Instant::now()) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            let origin = shortened(&origin, MAX_ORIGIN_BYTES);
            tracing::info!(%origin, suppressed, "request of a page refused: its origin is not in server.cors_origins");
        }
    }
}

impl Reply {
    /// Makes the response of gRPC-Web from the response of gRPC.
    pub(super) fn finish(self, mut response: Response<Body>) -> Response<Body> {
        let is_grpc = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if let Some(is_text) = self.is_text.filter(|_| is_grpc) {
            let kind = match is_text {
                true => "application/grpc-web-text+proto",
                false => "application/grpc-web+proto",
            };
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response = response.map(|body| Body::new(WebResponseBody::new(body, is_text)));
        }
        let headers = response.headers_mut();
        if self.origin.is_some() {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        }
        self.add_origin(headers);
        response
    }

    /// The response to a preflight request. Without the headers of CORS, the browser does not send the request.
    fn preflight(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = match self.origin {
            Some(_) => StatusCode::NO_CONTENT,
            None => StatusCode::FORBIDDEN,
        };
        let headers = response.headers_mut();
        if self.origin.is_some() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        self.add_origin(headers);
        response
    }

    fn add_origin(self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
}

/// Whether a content type is one of gRPC-Web.
pub(super) fn is_grpc_web(content_type: &str) -> bool {
    is_text(content_type).is_some()
}

/// Whether the bytes of a content type of gRPC-Web are base64. `None`: it is another content type.
fn is_text(content_type: &str) -> Option<bool> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let known = CONTENT_TYPES
        .into_iter()
        .find(|(known, _)| kind.eq_ignore_ascii_case(known));
    known.map(|(_, is_text)| is_text)
}

fn content_type(headers: &HeaderMap) -> Option<bool> {
    is_text(headers.get(header::CONTENT_TYPE)?.to_str().ok()?)
}

/// The first content type of gRPC-Web that the client accepts by name.
fn accepted(headers: &HeaderMap) -> Option<bool> {
    headers.get(header::ACCEPT)?.to_str().ok()?.split(',').find_map(is_text)
}

/// Returns what is wrong with the values of `server.cors_origins`. The text does not have the value.
pub(super) fn origins_error(origins: &[String]) -> Option<String> {
    let (number, origin) = (1..).zip(origins).find(|(_, origin)| !is_origin(origin))?;
    let text = match origin.as_str() {
        "*" => {
            "must not be \"*\": every page in the web could call the gateway from a browser that can reach it; list the origins"
        }
        _ => {
            "must be the origin of a page as browsers send it: https or http, ://, the host in lower case, and the port if it is \
             not the default one; without a path and without / at the end; such as https://intranet.example.com"
        }
    };
    Some(format!("value {number} {text}"))
}

/// Whether a text is the origin of a page, exactly as browsers send it.
fn is_origin(text: &str) -> bool {
    let url = Url::parse(text).ok();
    let is_exact =
        url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text);
    is_exact && !text.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_valid_only_as_browsers_send_it() {
        for good in [
            "https://intranet.example.com",
            "https://intranet.example.com:8443",
            "http://127.0.0.1:8080",
            "http://localhost",
            "http://[::1]:8080",
            "https://xn--bcher-kva.example",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for wrong in [
            "",
            "*",
            "null",
            "intranet.example.com",
            "https://intranet.example.com/",
            "https://intranet.example.com/app",
            "https://intranet.example.com:443",
            "http://intranet.example.com:80",
            "https://Intranet.example.com",
            "HTTPS://intranet.example.com",
            "https://user:secret@intranet.example.com",
            "https://*.example.com",
            "https://bücher.example",
            "https://intranet.example.com ",
            "ftp://intranet.example.com",
            "file:///app",
        ] {
            assert!(!is_origin(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_error_names_the_position_and_not_the_value() {
        let origins = ["https://a.example", "https://user:secret@b.example"].map(str::to_owned);
        let error = origins_error(&origins).unwrap();
        assert!(
            error.starts_with("value 2 must be the origin") && !error.contains("secret"),
            "{error}"
        );
        assert!(origins_error(&["*".to_owned()]).unwrap().contains("must not be \"*\""));
        assert_eq!(origins_error(&origins[..1]), None);
    }

    #[test]
    fn the_response_has_the_form_that_the_client_accepts() {
        let accepts = |value: &'static str| {
            accepted(&HeaderMap::from_iter([(
                header::ACCEPT,
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(accepts("application/grpc-web-text"), Some(true));
        assert_eq!(accepts("text/html, application/grpc-web+proto"), Some(false));
        assert_eq!(accepts("*/*"), None);
    }

    #[test]
    fn content_types_of_grpc_web_are_known_in_any_case() {
        for (kind, expected) in [
            ("application/grpc-web", Some(false)),
            ("Application/gRPC-Web+proto; charset=utf-8", Some(false)),
            ("application/grpc-web-text+proto", Some(true)),
            ("application/grpc-web+json", None),
            ("application/grpc-webx", None),
            ("application/grpc", None),
            ("text/plain", None),
        ] {
            assert_eq!(is_text(kind), expected, "{kind}");
        }
    }
}
