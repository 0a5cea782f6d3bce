//! A picture as plain text: one fact per line, its name first. Pure.

use std::fmt::Write;

use jiff::Timestamp;

use super::history::percent;
use super::verdict::Verdict;
use super::{Picture, lines, text};

/// Maximum number of callers.
const MAX_CALLERS: usize = 20;

/// Returns the lines of a picture, and an empty line at the end.
pub(super) fn text(picture: &Picture, now: Timestamp) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<12} {value}");
    };
    line("time", &now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    line("gateway", &text::printable(&picture.source, usize::MAX));
    let Some((quota, _)) = &picture.latest else {
        return out + "\n";
    };
    let verdict = Verdict::of(quota);
    let parts = |parts: Vec<String>| text::joined(&parts, usize::MAX);
    let known = |known: Option<Vec<String>>| known.map_or("unknown".to_owned(), parts);
    line("verdict", &format!("{}: {}", verdict.severity.name(), verdict.text));
    line("account", &parts(lines::owner(quota)));
    line("calls", &known(quota.calls.as_ref().map(lines::window)));
    line("bulk", &known(quota.bulk.as_ref().map(lines::window)));
    line("utilization", &format!("{} %", percent(quota.utilisation)));
    line("breaker", &known(quota.breaker.as_ref().map(lines::breaker)));
    line("day", &known(quota.day.as_ref().map(lines::day)));
    line("refusals", &parts(lines::refusals(quota, picture.history.recent())));
    for queue in lines::queues(quota) {
        let oldest = match queue.oldest.as_str() {
            "" => String::new(),
            oldest => format!(", oldest {oldest}"),
        };
        line("queue", &format!("{}: {} waiting{oldest}", queue.class, queue.waiting));
    }
    for (name, waiting) in lines::callers(quota, MAX_CALLERS) {
        line("caller", &format!("{name}: {waiting} waiting"));
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::view::samples;

    #[test]
    fn plain_text_has_one_fact_per_line() {
        let picture = samples::busy();
        insta::assert_snapshot!(text(&picture, Timestamp::from_second(1_800_000_000).unwrap()));
    }

    #[test]
    fn plain_text_of_absurd_values_is_printable() {
        let text = text(&samples::absurd(), Timestamp::UNIX_EPOCH);
        assert!(
            text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()),
            "{text}"
        );
    }
}
