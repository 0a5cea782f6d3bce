//! The request metadata of leadgate, and the deadline of a request.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::settings::ServerSettings;
use crate::context::Criticality;
use crate::error::{Error, Result};
use crate::identity::is_reserved;

pub(super) const TENANT: &str = "x-leadgate-tenant";
pub(super) const CALLER: &str = "x-leadgate-caller";
pub(crate) const CRITICALITY: &str = "x-leadgate-criticality";
/// The reason of an error of leadgate on the REST listener.
pub(crate) const REASON: &str = "x-leadgate-reason";

/// Returns the name of the tenant, if the request has one.
pub(crate) fn tenant(headers: &HeaderMap) -> Option<&str> {
    headers.get(TENANT).map(|name| name.to_str().unwrap_or("?"))
}

/// Returns the name of the caller, or `anonymous`.
pub(super) fn caller(headers: &HeaderMap) -> Result<Arc<str>> {
    let Some(name) = headers.get(CALLER) else {
        return Ok("anonymous".into());
    };
    let name = name.to_str().unwrap_or_default();
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_allowed) {
        return Err(Error::invalid(CALLER, "must be 1 to 64 letters, digits, - _ or ."));
    }
    if is_reserved(name) {
        return Err(Error::invalid(CALLER, "names that begin with leadgate are reserved"));
    }
    Ok(name.into())
}

/// Returns the criticality, or the default.
pub(super) fn criticality(headers: &HeaderMap) -> Result<Criticality> {
    let Some(name) = headers.get(CRITICALITY) else {
        return Ok(Criticality::default());
    };
    let name = name.to_str().unwrap_or_default();
    Criticality::named(name).ok_or_else(|| {
        let allowed = Criticality::ALL.map(Criticality::name).join(", ");
        // Suggest a name for the enum values of QuotaService (CRITICALITY_CRITICAL_PLUS) and for other spellings.
        let folded = name.to_ascii_lowercase().replace('_', "-");
        let similar = Criticality::named(folded.trim_start_matches("criticality-"));
        let hint = similar.map_or(String::new(), |similar| format!("; did you mean {}?", similar.name()));
        Error::invalid(CRITICALITY, format!("must be one of {allowed}{hint}"))
    })
}

/// Whether the client has sent the RPC before: gRPC clients count their retries.
pub(super) fn is_retry(headers: &HeaderMap) -> bool {
    headers.contains_key("grpc-previous-rpc-attempts")
}

/// Whether the caller has set a deadline.
pub(super) fn has_deadline(headers: &HeaderMap) -> bool {
    headers.contains_key("grpc-timeout")
}

/// Returns the maximum duration of an RPC, measured from its headers: the timeout of the caller, but at most `max`.
///
/// The timeout is reduced by the amount that the client may have added by rounding, and by `server.deadline_margin`, so that
/// the error of leadgate with its details arrives before the deadline of the client.
pub(super) fn time_limit(headers: &HeaderMap, settings: &ServerSettings, max: Duration) -> Result<Duration> {
    let timeout = match headers.get("grpc-timeout") {
        None => max,
        Some(value) => {
            let text = value.to_str().unwrap_or_default();
            let timeout = parse_timeout(text).ok_or_else(|| {
                Error::invalid(
                    "grpc-timeout",
                    "must be 1 to 8 digits and one of the units H, M, S, m, u and n",
                )
            })?;
            timeout - max_rounding(text, timeout).min(timeout / 4)
        }
    };
    let limit = timeout.min(max);
    // A short timeout is reduced by a quarter at most.
    let margin = settings.deadline_margin.min(limit / 4);
    Ok(limit - margin)
}

/// Returns how much longer than the deadline of the client a timeout can be.
///
/// Clients on C-core (Python, Ruby, PHP, C++) round the timeout up to at most three digits: 30 s are sent as `30100m` or
/// `30S`. Timeouts in microseconds or with more digits are not rounded.
fn max_rounding(text: &str, timeout: Duration) -> Duration {
    let step: u64 = match timeout.as_secs() {
        0 => 1,
        1..10 => 10,
        10..100 => 100,
        100..1_000 => 1_000,
        1_000..10_000 => 10_000,
        _ => 100_000,
    };
    match text.as_bytes().last() {
        Some(b'n' | b'u') => Duration::ZERO,
        // Some timeouts that would be rounded to 100 s are rounded to minutes.
        Some(b'M' | b'H') => Duration::from_millis(step.min(60_000)),
        _ if timeout.as_millis().is_multiple_of(step.into()) => Duration::from_millis(step),
        _ => Duration::from_millis(1),
    }
}

/// Parses a `grpc-timeout`: "100m", "5S".
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grpc::settings::MAX_DURATION;

    /// The header that C-core sends for a deadline of that many milliseconds (src/core/lib/transport/timeout_encoding.cc).
    fn c_core(millis: u64) -> String {
        let up = |value: u64, by: u64| value.div_ceil(by);
        if millis < 1_000 {
            return format!("{millis}m");
        }
        for (below, by) in [(10_000, 10), (100_000, 100)] {
            if millis < below {
                let value = up(millis, by);
                if !(value * by).is_multiple_of(1_000) {
                    return format!("{}m", value * by);
                }
                break;
            }
        }
        let seconds = up(millis, 1_000);
        for (below, by) in [(1_000, 1), (10_000, 10), (100_000, 100)] {
            if seconds < below {
                let value = up(seconds, by) * by;
                if !value.is_multiple_of(60) {
                    return format!("{value}S");
                }
                break;
            }
        }
        format!("{}M", up(seconds, 60))
    }

    fn limit_of(timeout: &str) -> Duration {
        static SETTINGS: std::sync::OnceLock<ServerSettings> = std::sync::OnceLock::new();
        let settings = SETTINGS.get_or_init(|| {
            let tenant = "[tenants.a]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"";
            crate::config::Config::read("test", tenant, std::iter::empty())
                .unwrap()
                .server
        });
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), timeout.parse().unwrap())]);
        time_limit(&headers, settings, MAX_DURATION).unwrap()
    }

    #[test]
    fn the_margin_grows_with_the_rounding_of_the_timeout() {
        for (timeout, millis) in [
            ("30100m", 29_980),
            ("30S", 29_880),
            ("10S", 9_880),
            ("60S", 59_880),
            ("1M", 59_880),
            ("5S", 4_970),
            ("5010m", 4_980),
            ("500m", 479),
            ("200S", 198_980),
            // Not rounded.
            ("30000000u", 29_980),
            ("29999m", 29_978),
        ] {
            assert_eq!(limit_of(timeout).as_millis(), millis, "{timeout}");
        }
        // A short timeout is reduced by a quarter at most.
        assert!(limit_of("4m") >= Duration::from_millis(2));
    }

    proptest! {
        #[test]
        fn the_deadline_is_earlier_than_that_of_a_client_that_rounds_up(millis in prop_oneof![100..100_000_u64, 100_000..86_000_000_u64]) {
            let deadline = Duration::from_millis(millis);
            let timeout = c_core(millis);
            prop_assert!(limit_of(&timeout) + Duration::from_millis(20) <= deadline, "{timeout} for {deadline:?}");
        }
    }

    #[test]
    fn timeouts_are_parsed_in_every_unit() {
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn an_invalid_timeout_is_rejected() {
        for text in ["", "S", "5", "5s", "-1S", "123456789S", "1.5S", "٣S"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }
}
