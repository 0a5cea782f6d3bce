//! The report of a probe as a table for a terminal. Long cells have several lines.

use leadgate::config::TenantConfig;
use leadgate::probe::{ProbeReport, ProbeState, ReportRow};

/// The columns.
const COLUMNS: [&str; 7] = [
    "PROBE",
    "QUESTION",
    "OBSERVATION",
    "ANSWER",
    "CONFIDENCE",
    "SETTING",
    "DIFFERS",
];
/// The widths of the columns with short texts. 0: the column has a part of the rest.
const FIXED: [usize; 7] = [16, 0, 0, 0, 10, 0, 7];
/// The parts of the rest of the width, in hundredths.
const PARTS: [usize; 7] = [0, 20, 28, 27, 0, 25, 0];
/// The space between two columns.
const GAP: &str = "  ";
/// The range of the width of the table.
const WIDTHS: std::ops::RangeInclusive<usize> = 100..=220;

/// Returns the table, with a line break after each line.
pub(super) fn table(report: &ProbeReport, config: &TenantConfig, width: usize) -> String {
    let widths = widths(width.clamp(*WIDTHS.start(), *WIDTHS.end()));
    let mut text = lines(&COLUMNS.map(str::to_owned), &widths);
    for row in &report.rows {
        text += &lines(&cells(row, config), &widths);
    }
    text
}

fn cells(row: &ReportRow, config: &TenantConfig) -> [String; 7] {
    let finding = &row.finding;
    let confidence = match finding.state {
        ProbeState::Decided => format!("{:.2}", finding.confidence),
        state => state.name().to_owned(),
    };
    let differs = match row.differs(config) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    [
        row.id.to_owned(),
        row.question.to_owned(),
        finding.observation.clone(),
        finding.answer.clone(),
        confidence,
        row.setting_texts().join(", "),
        differs.to_owned(),
    ]
}

fn widths(width: usize) -> [usize; 7] {
    let fixed: usize = FIXED.iter().sum();
    let rest = width - fixed - GAP.len() * (COLUMNS.len() - 1);
    let mut widths = FIXED;
    for (width, part) in widths.iter_mut().zip(PARTS) {
        if part > 0 {
            *width = rest * part / 100;
        }
    }
    widths
}

/// Returns the lines of one row.
fn lines(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let wrapped: Vec<_> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| wrap(cell, *width))
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or_default();
    let mut text = String::new();
    for at in 0..height {
        let parts = wrapped.iter().zip(widths).map(|(lines, width)| {
            let part = lines.get(at).map_or("", String::as_str);
            format!("{part:<width$}")
        });
        text += parts.collect::<Vec<_>>().join(GAP).trim_end();
        text.push('\n');
    }
    text
}

/// Breaks a text at its spaces. Words that are too long are cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_wrapped_within_their_widths() {
        for width in [100, 160, 220] {
            let widths = widths(width);
            let long = "word ".repeat(30) + &"x".repeat(90);
            let cells = COLUMNS.map(|_| long.clone());
            let text = lines(&cells, &widths);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            let words = text.split_whitespace().filter(|word| *word == "word").count();
            assert_eq!(words, 30 * COLUMNS.len(), "{text}");
        }
        assert_eq!(wrap("", 10), Vec::<String>::new());
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    }
}
