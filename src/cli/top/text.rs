//! Values as texts of printable ASCII: numbers, durations, times, and names from outside. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Numbers from this one on are shortened.
const MANY: u64 = 10_000_000;

/// Returns a number with separators, such as `12,345`. Large numbers are shortened, such as `12.3M`.
pub(super) fn count(number: impl Into<i64>) -> String {
    let number = number.into();
    let sign = if number < 0 { "-" } else { "" };
    let size = number.unsigned_abs();
    if size < MANY {
        return format!("{sign}{}", grouped(size));
    }
    let units = [("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)];
    let (unit, factor) = units
        .into_iter()
        .find(|(_, factor)| size as f64 >= *factor)
        .unwrap_or(("", 1.0));
    format!("{sign}{:.1}{unit}", size as f64 / factor)
}

fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        number => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

/// Returns a duration, such as `0.4 s` or `12 min`. A negative one is 0.
pub(super) fn duration(duration: &prost_types::Duration) -> String {
    // The conversion of prost overflows for some values.
    let nanos = u32::try_from(duration.nanos).unwrap_or_default().min(999_999_999);
    let valid = u64::try_from(duration.seconds).map(|seconds| Duration::new(seconds, nanos));
    seconds(valid.unwrap_or_default())
}

/// Returns a duration, such as `0.4 s` or `12 min`.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..10 if duration.subsec_nanos() == 0 => format!("{seconds} s"),
        0 if duration < Duration::from_millis(50) => "<0.1 s".to_owned(),
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Returns the time of day, such as `18:30 UTC`.
pub(super) fn time_of_day(time: &prost_types::Timestamp) -> String {
    formatted(time, "%H:%M UTC")
}

/// Returns day and time, such as `2026-11-27 18:30 UTC`.
pub(super) fn day_and_time(time: &prost_types::Timestamp) -> String {
    formatted(time, "%Y-%m-%d %H:%M UTC")
}

fn formatted(time: &prost_types::Timestamp, form: &str) -> String {
    match Timestamp::from_second(time.seconds) {
        Ok(time) => time.strftime(form).to_string(),
        Err(_) => "an unknown time".to_owned(),
    }
}

/// Returns a text from outside with `max` characters at most. All characters but printable ASCII are shown as `?`, so the text
/// cannot control the terminal, and each character has one column. The names of callers have only such characters.
pub(super) fn printable(text: &str, max: usize) -> String {
    let show = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    shortened(&text.chars().map(show).collect::<String>(), max)
}

/// Returns a text of ASCII with `max` characters at most.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.chars().count() > max {
        true if max > 2 => text.chars().take(max - 2).chain("..".chars()).collect(),
        true => text.chars().take(max).collect(),
        false => text.to_owned(),
    }
}

/// Returns the first parts that fit into a width, with commas. The first part is always there.
pub(super) fn joined(parts: &[String], width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        if line.is_empty() {
            line.clone_from(part);
        } else if line.len() + part.len() + 2 <= width {
            line = format!("{line}, {part}");
        }
    }
    shortened(&line, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_large_ones_are_short() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (9_999_999, "9,999,999"),
            (10_000_000, "10.0M"),
            (2_147_483_647, "2.1G"),
            (i64::MAX, "9223.4P"),
            (-12_345, "-12,345"),
            (i64::MIN, "-9223.4P"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_have_one_unit() {
        let texts = [0, 1, 400, 9_999, 10_000, 119_999, 120_000, 7_200_000, 172_800_000];
        let texts = texts.map(|millis| seconds(Duration::from_millis(millis)));
        assert_eq!(
            texts,
            [
                "0 s", "<0.1 s", "0.4 s", "10.0 s", "10 s", "119 s", "2 min", "2 h", "2 days"
            ]
        );
        for (seconds, nanos, text) in [
            (-5, 0, "0 s"),
            (5, 0, "5 s"),
            (5, -1, "5 s"),
            (i64::MIN, i32::MIN, "0 s"),
            (0, i32::MAX, "1.0 s"),
            (i64::MAX, i32::MAX, "106751991167300 days"),
        ] {
            assert_eq!(duration(&prost_types::Duration { seconds, nanos }), text);
        }
    }

    #[test]
    fn times_out_of_range_are_named_so() {
        let at = |seconds| time_of_day(&prost_types::Timestamp { seconds, nanos: 0 });
        assert_eq!(at(1_800_000_000), "08:00 UTC");
        assert_eq!(
            (at(i64::MAX).as_str(), at(i64::MIN).as_str()),
            ("an unknown time", "an unknown time")
        );
    }

    #[test]
    fn texts_from_outside_are_printable_and_short() {
        assert_eq!(printable("night-export_2.b (others)", 64), "night-export_2.b (others)");
        assert_eq!(printable("\u{1b}[2Ja\nb\tc\u{7f}\u{9b}\u{202e}", 64), "?[2Ja?b?c???");
        assert_eq!(printable("漢字👩\u{200d}👧é", 64), "??????");
        assert_eq!(printable(&"x".repeat(100), 8), "xxxxxx..");
        assert_eq!((printable("abc", 2).as_str(), printable("abc", 0).as_str()), ("ab", ""));
    }

    #[test]
    fn parts_that_do_not_fit_are_omitted() {
        let parts = ["one", "two and more", "three"].map(str::to_owned);
        assert_eq!(joined(&parts, 100), "one, two and more, three");
        assert_eq!(joined(&parts, 10), "one, three");
        assert_eq!(joined(&parts, 3), "one");
        assert_eq!(joined(&[], 3), "");
    }
}
