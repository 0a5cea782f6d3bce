//! Calls of LeadSquared's REST API that are passed on as they are: their paths and queries.

use bytes::Bytes;

/// Maximum length of a path.
const MAX_PATH: usize = 2048;

/// The method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestMethod {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

/// A path below the address of the account: `v2/Service.svc/Operation`, as it was spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestPath {
    sent: String,
    folded: String,
}

/// Why a path cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A segment has other characters, or is `.` or `..`.
    #[error("a segment of the path may have letters, digits, '.', '_' and '-' only, and may not be '.' or '..'")]
    Characters,
    /// The path is too long.
    #[error("the path must have at most {MAX_PATH} characters")]
    TooLong,
    /// The path is not `/v2/NAME/OPERATION`.
    #[error("there is nothing at this path: a path is /v2/SERVICE.svc/OPERATION")]
    Unknown,
    /// The path is one of the host for files.
    #[error(
        "files are uploaded to LeadSquared's host for files (files-...), which this address does not serve: set the files URL of the client"
    )]
    Files,
}

/// A call without keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestCall {
    /// The method.
    pub method: RestMethod,
    /// The path.
    pub path: RestPath,
    /// The query, encoded, without its question mark. Empty: there is none.
    pub query: String,
    /// The content type, as bytes of a header.
    pub content_type: Option<Vec<u8>>,
    /// The content types that the client accepts, as bytes of a header.
    pub accept: Option<Vec<u8>>,
    /// The body. A GET has none.
    pub body: Bytes,
}

/// The response to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestResponse {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, as bytes of a header.
    pub content_type: Option<Vec<u8>>,
    /// `Content-Disposition`, as bytes of a header.
    pub content_disposition: Option<Vec<u8>>,
    /// `Allow`, as bytes of a header.
    pub allow: Option<Vec<u8>>,
    /// The body, decompressed, with its byte order mark if it has one.
    pub body: Bytes,
}

/// The result of a call that is kept with its request id. `None`: the call was executed, and its response is too long to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestResult(pub Option<RestResponse>);

impl RestMethod {
    /// The method with that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "GET" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl RestPath {
    /// Reads a path, with or without `/v2`. Several slashes count as one.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let is_segment = |segment: &&str| !matches!(*segment, "." | "..") && segment.bytes().all(is_allowed);
        if !segments.iter().all(is_segment) {
            return Err(PathError::Characters);
        }
        let (version, rest) = match segments.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case("v2") => (*first, rest),
            Some((first, _)) if has_suffix(first, ".svc") => ("v2", segments.as_slice()),
            Some((first, _)) if first.eq_ignore_ascii_case("file") => return Err(PathError::Files),
            _ => return Err(PathError::Unknown),
        };
        if rest.len() < 2 {
            return Err(PathError::Unknown);
        }
        let operation = rest.join("/");
        let end = if path.ends_with('/') { "/" } else { "" };
        Ok(Self {
            sent: format!("{version}/{operation}{end}"),
            folded: operation.to_ascii_lowercase(),
        })
    }

    /// The path as it is sent, without a slash at the beginning.
    pub fn sent(&self) -> &str {
        &self.sent
    }

    /// `service.svc/operation` in lower case, without a slash at the end.
    pub fn folded(&self) -> &str {
        &self.folded
    }
}

/// Whether the text ends with that suffix, in any case.
fn has_suffix(text: &str, suffix: &str) -> bool {
    let start = text.len().checked_sub(suffix.len());
    start.is_some_and(|start| text.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes()))
}

/// The parameters of a query, as they are spelled. Empty ones are left out.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

/// Decodes a name or a value of a query once. A plus sign stays one. Sequences that are no code stay as they are.
pub fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high << 4 | low).unwrap_or(b'%'));
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Whether that parameter, decoded, is one of a pair of keys.
pub fn is_key_name(name: &[u8]) -> bool {
    [b"accesskey", b"secretkey"]
        .iter()
        .any(|key| name.eq_ignore_ascii_case(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(path: &str) -> Result<String, PathError> {
        RestPath::parse(path).map(|path| path.sent)
    }

    #[test]
    fn the_version_is_added_and_slashes_are_one() {
        for (path, expected) in [
            (
                "/v2/LeadManagement.svc/Leads.GetById",
                "v2/LeadManagement.svc/Leads.GetById",
            ),
            (
                "LeadManagement.svc/Leads.GetById",
                "v2/LeadManagement.svc/Leads.GetById",
            ),
            (
                "//v2//LEADMANAGEMENT.SVC//Lead/Bulk/Create",
                "v2/LEADMANAGEMENT.SVC/Lead/Bulk/Create",
            ),
            ("/leadmanagement.SVC/x/", "v2/leadmanagement.SVC/x/"),
            ("/V2/Leads/NotContacted/7", "V2/Leads/NotContacted/7"),
        ] {
            assert_eq!(sent(path).as_deref(), Ok(expected), "{path}");
        }
        let path = RestPath::parse("/LeadManagement.svc/Leads.Get/").unwrap();
        assert_eq!(path.folded(), "leadmanagement.svc/leads.get");
    }

    #[test]
    fn other_paths_are_refused() {
        for (path, expected) in [
            ("/v2/LeadManagement.svc/../Admin", PathError::Characters),
            ("/v2/./x/y", PathError::Characters),
            ("/v2/a.svc/%2e%2e", PathError::Characters),
            ("/v2/a.svc/x;y", PathError::Characters),
            ("/v2/a.svc/x\\y", PathError::Characters),
            ("/v2/a.svc/é", PathError::Characters),
            ("/", PathError::Unknown),
            ("", PathError::Unknown),
            ("/v2", PathError::Unknown),
            ("/v2/LeadManagement.svc/", PathError::Unknown),
            ("/v1/LeadManagement.svc/x", PathError::Unknown),
            ("/File/Upload", PathError::Files),
            (&format!("/v2/a.svc/{}", "x".repeat(2048)), PathError::TooLong),
        ] {
            assert_eq!(sent(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn names_and_values_are_decoded_once() {
        for (text, expected) in [
            ("u%24r", "u$r"),
            ("u$r", "u$r"),
            ("a+b", "a+b"),
            ("%2524", "%24"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(decoded(text), expected.as_bytes(), "{text}");
        }
        assert!(is_key_name(&decoded("%61ccessKEY")) && is_key_name(b"SecretKey") && !is_key_name(b"key"));
        let all: Vec<_> = parameters("a=1&&b&c=d=e").collect();
        assert_eq!(all, [("a", "1"), ("b", ""), ("c", "d=e")]);
    }
}
