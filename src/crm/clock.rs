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

    /// Whether something that LeadSquared dated so may have happened since that time of ours: `false` only where it is
    /// sure that it is older.
    pub fn may_be_since(&self, dated: Timestamp, since: Timestamp) -> bool {
        let ahead = *self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let (ahead, apart) = match ahead {
            Some(ahead) => (ahead, KNOWN),
            None => (SignedDuration::ZERO, UNKNOWN),
        };
        dated >= since + ahead - apart
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
        assert!(clock.may_be_since(seconds(100), now));
        assert!(!clock.may_be_since(seconds(130), now));

        // Ten minutes behind ours.
        let date = rfc2822::to_string(&seconds(600).to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        clock.seen(&HeaderValue::from_str(&date).unwrap());
        assert!(clock.may_be_since(seconds(601), now));
        assert!(!clock.may_be_since(seconds(605), now));

        clock.seen(&HeaderValue::from_static("yesterday"));
        assert!(!clock.may_be_since(seconds(605), now));
    }
}
