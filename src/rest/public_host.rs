//! The host of the account in the response of `UserByAccessKey.Get`, which some clients use for all later requests. It is replaced by
//! the host of the listener. No other body ever changes.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The endpoint.
pub(super) const ENDPOINT: &str = "Authentication.svc/UserByAccessKey.Get";

#[derive(Deserialize)]
struct KeyOwner<'a> {
    #[serde(borrow, rename = "LSQCommonServiceURLs")]
    urls: Urls<'a>,
}

#[derive(Deserialize)]
struct Urls<'a> {
    #[serde(borrow)]
    api: &'a RawValue,
}

/// The body with this host as the host of `LSQCommonServiceURLs.api`. A body of another form does not change.
pub(super) fn with_host(body: &Bytes, host: &str) -> Bytes {
    replaced(body, host).unwrap_or_else(|| body.clone())
}

fn replaced(body: &[u8], host: &str) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    let json = text.trim_start_matches('\u{feff}');
    let owner: KeyOwner<'_> = serde_json::from_str(json).ok()?;
    let value = owner.urls.api.get();
    let url: String = serde_json::from_str(value).ok()?;
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url.as_str()),
    };
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    let new = serde_json::to_string(&format!("{scheme}{host}{path}")).ok()?;
    // The raw value is a part of the text.
    let start = (value.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let (before, after) = (text.get(..start)?, text.get(start + value.len()..)?);
    Some([before, &new, after].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_changes() {
        let change = |body: &str| {
            let body = with_host(&Bytes::copy_from_slice(body.as_bytes()), "leadgate.example.com");
            String::from_utf8(body.to_vec()).unwrap()
        };
        for (body, expected) in [
            (
                "{ \"Id\":\"1\", \"LSQCommonServiceURLs\" : {\"api\":\"https://api-in21.leadsquared.com\",\"x\":\"api\"} }",
                "{ \"Id\":\"1\", \"LSQCommonServiceURLs\" : {\"api\":\"https://leadgate.example.com\",\"x\":\"api\"} }",
            ),
            (
                "\u{feff}{\"LSQCommonServiceURLs\":{\"api\":\"https:\\/\\/a.b\\/v2\\/\"}}",
                "\u{feff}{\"LSQCommonServiceURLs\":{\"api\":\"https://leadgate.example.com/v2/\"}}",
            ),
            (
                "{\"LSQCommonServiceURLs\":{\"api\":\"api.leadsquared.com\"}}",
                "{\"LSQCommonServiceURLs\":{\"api\":\"leadgate.example.com\"}}",
            ),
            (
                "{\"LSQCommonServiceURLs\":{\"api\":7}}",
                "{\"LSQCommonServiceURLs\":{\"api\":7}}",
            ),
            ("[]", "[]"),
            ("<html>", "<html>"),
        ] {
            assert_eq!(change(body), expected);
        }
    }
}
