//! LeadSquared's clock, as far as the `Date` headers of its responses show it. The times in LeadSquared's records are compared
//! with this clock.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::HeaderValue;
use http::header::{DATE, HeaderMap, RETRY_AFTER};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

use crate::clock;

/// The tolerance while the clock is known. Dates have whole seconds, and responses take time.
const KNOWN_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);
/// The tolerance while the clock is not known.
const UNKNOWN_TOLERANCE: SignedDuration = SignedDuration::from_secs(120);

/// LeadSquared's clock.
#[derive(Debug, Default)]
pub struct UpstreamClock {
    /// How much LeadSquared's clock is ahead of the local clock.
    ahead: Mutex<Option<SignedDuration>>,
}

impl UpstreamClock {
    /// Records the `Date` of a response.
    pub fn observe(&self, date: &HeaderValue) {
        let Some(date) = read(date) else {
            return;
        };
        let ahead = date.duration_since(clock::now());
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
    }

    /// Whether an event that LeadSquared dated happened at or after that local time, within the tolerance. `None` if the clock
    /// is not known and the times are too close.
    pub fn is_since(&self, dated: Timestamp, since: Timestamp) -> Option<bool> {
        // The clock may show any year. Sums of times could overflow.
        let later = dated.duration_since(since);
        match *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(ahead) => Some(later >= ahead - KNOWN_TOLERANCE),
            None => (later < -UNKNOWN_TOLERANCE).then_some(false),
        }
    }
}

/// The time of `Retry-After`, which is a number of seconds or a date by the clock of the response.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // A number that is too large becomes the maximum.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let now = headers.get(DATE).and_then(read).unwrap_or_else(clock::now);
    Duration::try_from(read(value)?.duration_since(now)).ok()
}

/// Reads an HTTP date.
fn read(date: &HeaderValue) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(date.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let headers = |retry_after: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap());
            date.map(|date| headers.insert(DATE, HeaderValue::from_str(date).unwrap()));
            super::retry_after(&headers)
        };
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        for (value, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("+3", None),
            ("Wed, 21 Oct 2015 07:29:30 GMT", Some(90)),
            // In the past.
            ("Wed, 21 Oct 2015 07:27:00 GMT", None),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(headers(value, Some(date)), expected, "{value}");
        }
        let soon = rfc2822::to_string(&(clock::now() + Duration::from_secs(60)).to_zoned(jiff::tz::TimeZone::UTC));
        let wait = headers(&soon.unwrap(), None).unwrap();
        assert!((58..=60).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(super::retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn times_are_compared_by_the_clock_that_wrote_them() {
        let clock = UpstreamClock::default();
        let now = clock::now();
        let seconds = |count| now - Duration::from_secs(count);
        assert_eq!(clock.is_since(seconds(100), now), None);
        assert_eq!(clock.is_since(seconds(130), now), Some(false));

        // Ten minutes behind the local clock.
        let date = rfc2822::to_string(&seconds(600).to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        clock.observe(&HeaderValue::from_str(&date).unwrap());
        assert_eq!(clock.is_since(seconds(601), now), Some(true));
        assert_eq!(clock.is_since(seconds(605), now), Some(false));

        clock.observe(&HeaderValue::from_static("yesterday"));
        assert_eq!(clock.is_since(seconds(605), now), Some(false));

        // The last date that can be represented.
        clock.observe(&HeaderValue::from_static("Thu, 30 Dec 9999 22:00:00 GMT"));
        let later = now + Duration::from_secs(60);
        assert_eq!(clock.is_since(later, later), Some(false));
    }
}
