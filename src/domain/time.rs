//! The forms in which LeadSquared reads and writes times. All are UTC.

use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// The form in which LeadSquared accepts times.
const WRITTEN: &str = "%Y-%m-%d %H:%M:%S";

/// The first year that can be written. LeadSquared documents no range. Its error messages are those of MySQL, where
/// date-times start in the year 1000. An earlier year is an error of the caller, such as `0031-12-25` for `31-12-25`.
pub const FIRST_YEAR: i16 = 1000;

/// The accepted forms of a date, and of a date with a time.
pub const FORMS: &str = "yyyy-MM-dd or yyyy-MM-dd HH:mm:ss, in UTC";
/// The accepted forms of a time of day.
pub const FORMS_OF_DAY: &str = "HH:mm or HH:mm:ss, or hh:mm AM or PM";

/// Formats a time for LeadSquared: `2026-07-31 05:33:50`, UTC, without fractions.
pub fn write(time: Timestamp) -> String {
    time.strftime(WRITTEN).to_string()
}

/// Formats the end of a range. LeadSquared includes the second of the end, so a fraction is rounded up.
pub fn write_end(time: Timestamp) -> String {
    let whole = if time.subsec_nanosecond() == 0 {
        time
    } else {
        time.checked_add(SignedDuration::from_secs(1)).unwrap_or(time)
    };
    write(whole)
}

/// Parses a time in any form that LeadSquared returns. `None` for other texts, and for the year 1, LeadSquared's "no
/// value". All digits are required: a year has four.
pub fn read(text: &str) -> Option<Timestamp> {
    instant(text).filter(|at| !is_zero(*at))
}

/// Whether the text is LeadSquared's "no value", `0001-01-01 00:00:00` in any form.
pub fn is_no_value(text: &str) -> bool {
    instant(text).is_some_and(is_zero)
}

/// Whether the time is in the year 1 or earlier: the value of an unset time in .NET, in Go and in LeadSquared.
pub fn is_zero(at: Timestamp) -> bool {
    at.to_zoned(TimeZone::UTC).year() <= 1
}

/// Returns the violation of a date, or of a date with a time, that is written.
pub fn violation(text: &str) -> Option<String> {
    match civil(text) {
        Some(at) if at.year() >= FIRST_YEAR => None,
        Some(_) => Some(format!("must be a date from the year {FIRST_YEAR} on: {FORMS}")),
        None => Some(format!("must be a date: {FORMS}")),
    }
}

/// Returns the violation of a time of day that is written: `14:30`, `14:30:00`, `02:30 PM`.
pub fn violation_of_day(text: &str) -> Option<String> {
    let is_time = match text.rsplit_once(' ') {
        Some((clock, half)) => is_half(half) && clock_of_day(clock, 1..=12).is_some(),
        None => clock_of_day(text, 0..=23).is_some(),
    };
    (!is_time).then(|| format!("must be a time of day: {FORMS_OF_DAY}"))
}

fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix("/Date(") {
        return read_milliseconds(inner.strip_suffix(")/")?);
    }
    let at = match text.strip_suffix('Z') {
        Some(text) => civil(text).filter(|_| text.len() > DATE)?,
        None => civil(text).or_else(|| us(text))?,
    };
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The length of `yyyy-MM-dd`.
const DATE: usize = 10;

/// `2017-11-30`, or `2017-11-30 07:38:00.000` with a space or a `T`, with or without a fraction.
fn civil(text: &str) -> Option<DateTime> {
    let (date, rest) = text.split_at_checked(DATE)?;
    let [year, month, day] = parts(date, '-')?;
    let date = date_of(number(year, 4..=4)?, number(month, 2..=2)?, number(day, 2..=2)?)?;
    if rest.is_empty() {
        return Some(date.at(0, 0, 0, 0));
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    let (clock, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
    let nanoseconds = number::<i32>(fraction, 1..=9)? * 10_i32.pow(9 - u32::try_from(fraction.len()).ok()?);
    let time = clock_of_day(clock, 0..=23).filter(|_| clock.len() == 8)?;
    Some(date.to_datetime(time.with().subsec_nanosecond(nanoseconds).build().ok()?))
}

/// `7/31/2026 5:33:50 AM`, month first.
fn us(text: &str) -> Option<DateTime> {
    let [date, clock, half] = parts(text, ' ')?;
    let [month, day, year] = parts(date, '/')?;
    let date = date_of(number(year, 4..=4)?, number(month, 1..=2)?, number(day, 1..=2)?)?;
    let [hour, minute, second] = parts(clock, ':')?;
    let hour = number::<i8>(hour, 1..=2).filter(|hour| (1..=12).contains(hour) && is_half(half))?;
    let hour = hour % 12 + if half.eq_ignore_ascii_case("pm") { 12 } else { 0 };
    let time = Time::new(hour, number(minute, 2..=2)?, number(second, 2..=2)?, 0).ok()?;
    Some(date.to_datetime(time))
}

/// `HH:mm` or `HH:mm:ss`.
fn clock_of_day(text: &str, hours: RangeInclusive<i8>) -> Option<Time> {
    let (hour, rest) = text.split_once(':')?;
    let (minute, second) = rest.split_once(':').unwrap_or((rest, "00"));
    let hour = number(hour, 2..=2).filter(|hour| hours.contains(hour))?;
    Time::new(hour, number(minute, 2..=2)?, number(second, 2..=2)?, 0).ok()
}

fn is_half(text: &str) -> bool {
    text.eq_ignore_ascii_case("am") || text.eq_ignore_ascii_case("pm")
}

fn date_of(year: i16, month: i8, day: i8) -> Option<Date> {
    // The year 0 is always an error of the caller.
    Date::new(year, month, day).ok().filter(|date| date.year() > 0)
}

fn parts<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    text.split(separator).collect::<Vec<_>>().try_into().ok()
}

/// Parses a number with a number of digits in the range, and nothing else.
fn number<N: FromStr>(text: &str, length: RangeInclusive<usize>) -> Option<N> {
    let is_number = length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// `1751910591000+0000`: milliseconds, and an offset for display that does not change the time.
fn read_milliseconds(inner: &str) -> Option<Timestamp> {
    let sign = usize::from(inner.starts_with('-'));
    let digits = inner[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let (milliseconds, offset) = inner.split_at_checked(sign + digits)?;
    let is_offset = |offset: &str| offset.starts_with(['+', '-']) && number::<u16>(&offset[1..], 4..=4).is_some();
    if digits == 0 || !(offset.is_empty() || is_offset(offset)) {
        return None;
    }
    Timestamp::from_millisecond(milliseconds.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn every_known_form_is_parsed() {
        assert_eq!(read("2017-11-30 07:38:00.000"), at("2017-11-30T07:38:00Z"));
        assert_eq!(read("2026-07-31 05:33:50"), at("2026-07-31T05:33:50Z"));
        assert_eq!(read("7/31/2026 5:33:50 AM"), at("2026-07-31T05:33:50Z"));
        assert_eq!(read("12/1/2026 12:00:00 PM"), at("2026-12-01T12:00:00Z"));
        assert_eq!(read("2026-07-31T05:33:50Z"), at("2026-07-31T05:33:50Z"));
        assert_eq!(read("1990-02-28"), at("1990-02-28T00:00:00Z"));
        assert_eq!(read("/Date(1751910591000+0000)/"), at("2025-07-07T17:49:51Z"));
        assert_eq!(read("/Date(-1000-0800)/"), at("1969-12-31T23:59:59Z"));
    }

    /// Texts that look like dates, but have none of the forms.
    const INVALID_TIMES: [&str; 42] = [
        "",
        "tomorrow",
        "today",
        "now",
        "31-12-25",
        "31-12-2025",
        "12/31/25",
        "12/31/2025",
        "31/12/2025",
        "31.12.2025",
        "2025/12/31",
        "2025-1",
        "2025-12",
        "2025",
        "20251231",
        "2025-1-1",
        "25-12-31",
        "025-12-31",
        "12025-12-31",
        "+2025-12-31",
        "-2025-12-31",
        "0000-01-01",
        "2025-13-01",
        "2025-00-10",
        "2025-02-29",
        "2025-04-31",
        "2025-12-31x",
        "2025-12-31 24:00:00",
        "2025-12-31 10:60:00",
        "2025-12-31 10:00",
        "2025-12-31 10",
        "2025-12-31 1:00:00",
        "2025-12-31  10:00:00",
        "2025-12-31 10:00:00 PM",
        "2025-12-31_10:00:00",
        "2025-12-31 10:00:00.",
        "2025-12-31Z",
        "٢٠٢٥-١٢-٣١",
        "45658",
        "31 Dec 2025",
        "Dec 31, 2025",
        "2025-W01-1",
    ];

    #[test]
    fn a_text_that_is_not_a_time_is_rejected() {
        for text in INVALID_TIMES {
            assert_eq!(read(text), None, "{text}");
            assert!(!is_no_value(text), "{text}");
            let violation = violation(text).unwrap();
            assert!(violation.contains("yyyy-MM-dd HH:mm:ss"), "{text}: {violation}");
        }
        for text in [
            "/Date(x)/",
            "/Date(1",
            "/Date()/",
            "/Date(1+00)/",
            "/Date(1+0000)/x",
            "/Date(1.5)/",
            "7/31/26 5:33:50 AM",
            "7/31/2026 13:33:50 PM",
            "7/31/2026 0:33:50 AM",
            "7/31/2026 5:33:50",
            "31/7/2026 5:33:50 AM",
            "07/031/2026 5:33:50 AM",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_year_1_is_no_value_in_every_form() {
        for text in [
            "0001-01-01 00:00:00",
            "0001-01-01",
            "0001-01-01T00:00:00Z",
            "0001-01-01 05:30:00.000",
            "1/1/0001 12:00:00 AM",
            "/Date(-62135596800000)/",
            "/Date(-62135596800000+0000)/",
        ] {
            assert!(is_no_value(text), "{text}");
            assert_eq!(read(text), None, "{text}");
        }
        assert!(!is_no_value("1990-02-28"));
    }

    #[test]
    fn only_existing_days_of_plausible_years_are_valid() {
        for text in [
            "1990-02-28",
            "2024-02-29",
            "1000-01-01",
            "9999-12-31",
            "2026-07-31 05:33:50",
            "2026-07-31 05:33:50.000",
            "2026-07-31T05:33:50",
        ] {
            assert_eq!(violation(text), None, "{text}");
        }
        for text in ["0025-12-31", "0999-12-31", "0001-01-01 00:00:00"] {
            assert!(violation(text).unwrap().contains("from the year 1000 on"), "{text}");
        }
        for text in [
            "7/31/2026 5:33:50 AM",
            "/Date(1751910591000+0000)/",
            "2026-07-31T05:33:50Z",
            " 2026-07-31",
        ] {
            assert!(violation(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_time_of_day_is_not_a_date() {
        for text in ["00:00", "14:30", "23:59:59", "02:30 PM", "12:00:00 am"] {
            assert_eq!(violation_of_day(text), None, "{text}");
        }
        for text in [
            "",
            "2026-07-31",
            "2026-07-31 14:30:00",
            "24:00",
            "14:60",
            "2:30",
            "14:30 PM",
            "00:30 AM",
            "noon",
            "14h30",
            "14:30:00.5",
            "14:30 ",
        ] {
            assert!(violation_of_day(text).is_some(), "{text}");
        }
    }

    #[test]
    fn the_end_of_a_range_is_never_earlier_than_requested() {
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

    fn any_second() -> impl Strategy<Value = Timestamp> {
        // From the year 1000 to the year 9999.
        (-30_610_224_000_i64..253_370_764_800).prop_map(|second| Timestamp::from_second(second).unwrap())
    }

    proptest! {
        #[test]
        fn every_form_reads_back_as_the_same_instant(at in any_second()) {
            let zoned = at.to_zoned(TimeZone::UTC);
            for form in [
                WRITTEN, "%Y-%m-%d %H:%M:%S.000", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ",
                "%m/%d/%Y %I:%M:%S %p", "%-m/%-d/%Y %-I:%M:%S %p",
            ] {
                prop_assert_eq!(read(&zoned.strftime(form).to_string()), Some(at), "{}", form);
            }
            prop_assert_eq!(read(&format!("/Date({}+0530)/", at.as_millisecond())), Some(at));
            prop_assert_eq!(violation(&write(at)), None);
        }

        #[test]
        fn a_text_with_a_shorter_year_is_not_a_time(year in 0_u16..1000, month in 1_u8..=12, day in 1_u8..=28) {
            for date in [
                format!("{year}-{month:02}-{day:02}"), format!("{day:02}-{month:02}-{year}"), format!("{month}/{day}/{year}"),
                format!("{day:02}-{month:02}-{:02}", year % 100), format!("{month}/{day}/{:02}", year % 100),
            ] {
                for time in ["", " 10:00:00", " 10:00:00.000", "T10:00:00Z", " 10:00:00 AM"] {
                    let text = format!("{date}{time}");
                    prop_assert_eq!(read(&text), None, "{}", text);
                    prop_assert!(violation(&text).is_some(), "{}", text);
                }
            }
        }

        #[test]
        fn a_valid_text_is_parsed(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-2][0-9]:[0-5][0-9]:[0-5][0-9])?") {
            if violation(&text).is_none() {
                // The last two days of the year 9999 have no instant in every time zone.
                let read = read(&text);
                prop_assert!(read.is_some() || text.starts_with("9999-12-3"));
                if let Some(at) = read {
                    prop_assert!(write(at).starts_with(&text));
                }
            }
        }

        #[test]
        fn any_text_never_panics(text in any::<String>(), digits in "[-0-9 :./TZAPMDate()+]{0,30}") {
            for text in [text, digits] {
                let _ = (read(&text), violation(&text), violation_of_day(&text), is_no_value(&text));
            }
        }
    }
}
