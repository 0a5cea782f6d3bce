//! LeadSquared's clock, as far as the dates of its answers tell: what it writes down has to be compared with its own time.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::HeaderValue;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

use crate::clock;

/// How far a time may be off where the clock is known: dates are told in whole seconds, and answers take time.
const KNOWN: Duration = Duration::from_secs(2);
/// How far where it is not.
const UNKNOWN: Duration = Duration::from_secs(120);

/// LeadSquared's clock.
#[derive(Debug, Default)]
pub struct Clock {
    /// How much it is ahead of ours.
    ahead: Mutex<Option<SignedDuration>>,
}

impl Clock {
    /// An answer had that date.
    pub fn seen(&self, date: &HeaderValue) {
        let parser = rfc2822::DateTimeParser::new();
        let Some(date) = date.to_str().ok().and_then(|date| parser.parse_timestamp(date).ok()) else {
            return;
        };
        let ahead = date.duration_since(clock::now());
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
    }

    /// Whether something that LeadSquared dated so has happened since that time of ours, as closely as dates tell; `None`
    /// where its clock is not known and the time is too close.
    pub fn is_since(&self, dated: Timestamp, since: Timestamp) -> Option<bool> {
        match *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(ahead) => Some(dated >= since + ahead - KNOWN),
            None => (dated < since - UNKNOWN).then_some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_by_the_clock_that_wrote_them() {
        let clock = Clock::default();
        let now = clock::now();
        let seconds = |count| now - Duration::from_secs(count);
        assert_eq!(clock.is_since(seconds(100), now), None);
        assert_eq!(clock.is_since(seconds(130), now), Some(false));

        // Ten minutes behind ours.
        let date = rfc2822::to_string(&seconds(600).to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        clock.seen(&HeaderValue::from_str(&date).unwrap());
        assert_eq!(clock.is_since(seconds(601), now), Some(true));
        assert_eq!(clock.is_since(seconds(605), now), Some(false));

        clock.seen(&HeaderValue::from_static("yesterday"));
        assert_eq!(clock.is_since(seconds(605), now), Some(false));
    }
}
