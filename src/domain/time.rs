//! The vendor's forms of a point in time, all of them UTC.

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// How LeadSquared wants to be told a time.
const WRITTEN: &str = "%Y-%m-%d %H:%M:%S";

/// The forms in which it was seen to tell one; "/Date(..)/" comes on top.
const READ: [&str; 4] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%m/%d/%Y %I:%M:%S %p",
    "%Y-%m-%d",
];

/// The form in which LeadSquared wants to be told a time: `2026-07-31 05:33:50`, UTC, without fractions.
pub fn write(time: Timestamp) -> String {
    time.strftime(WRITTEN).to_string()
}

/// The end of a range in that form: LeadSquared includes the second that it names, so a fraction is rounded up.
pub fn write_end(time: Timestamp) -> String {
    let whole = if time.subsec_nanosecond() == 0 {
        time
    } else {
        time.checked_add(SignedDuration::from_secs(1)).unwrap_or(time)
    };
    write(whole)
}

/// Reads any of the vendor's forms; `None` for what is none of them, and for `0001-01-01 00:00:00`, its "no value".
pub fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.starts_with("0001-01-01") {
        return None;
    }
    if let Some(inner) = text.strip_prefix("/Date(") {
        return read_milliseconds(inner.strip_suffix(")/")?);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    READ.iter()
        .find_map(|form| read_form(form, text))
        .and_then(|time| time.to_zoned(TimeZone::UTC).ok())
        .map(|zoned| zoned.timestamp())
}

fn read_form(form: &str, text: &str) -> Option<DateTime> {
    let parts = strtime::parse(form, text).ok()?;
    parts
        .to_datetime()
        .or_else(|_| parts.to_date().map(|date| date.at(0, 0, 0, 0)))
        .ok()
}

/// `1751910591000+0000`: milliseconds, and an offset for display that does not move the instant.
fn read_milliseconds(inner: &str) -> Option<Timestamp> {
    let end = inner
        .char_indices()
        .skip(1)
        .find(|(_, c)| matches!(c, '+' | '-'))
        .map_or(inner.len(), |(at, _)| at);
    Timestamp::from_millisecond(inner[..end].parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn every_seen_form_is_read() {
        assert_eq!(read("2017-11-30 07:38:00.000"), at("2017-11-30T07:38:00Z"));
        assert_eq!(read("2026-07-31 05:33:50"), at("2026-07-31T05:33:50Z"));
        assert_eq!(read("7/31/2026 5:33:50 AM"), at("2026-07-31T05:33:50Z"));
        assert_eq!(read("12/1/2026 12:00:00 PM"), at("2026-12-01T12:00:00Z"));
        assert_eq!(read("2026-07-31T05:33:50Z"), at("2026-07-31T05:33:50Z"));
        assert_eq!(read("1990-02-28"), at("1990-02-28T00:00:00Z"));
        assert_eq!(read("/Date(1751910591000+0000)/"), at("2025-07-07T17:49:51Z"));
        assert_eq!(read("/Date(-1000-0800)/"), at("1969-12-31T23:59:59Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "0001-01-01 00:00:00",
            "tomorrow",
            "2026-13-01",
            "/Date(x)/",
            "/Date(1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_range_is_never_before_what_was_asked_for() {
        assert_eq!(
            write_end("2026-07-31T05:33:50Z".parse().unwrap()),
            "2026-07-31 05:33:50"
        );
        assert_eq!(
            write_end("2026-07-31T05:33:50.001Z".parse().unwrap()),
            "2026-07-31 05:33:51"
        );
    }

    #[test]
    fn written_times_are_utc_without_fractions() {
        assert_eq!(
            write("2026-07-31T07:33:50.75+02:00".parse().unwrap()),
            "2026-07-31 05:33:50"
        );
    }
}
