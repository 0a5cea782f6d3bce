//! The report of a probe for a terminal: a table whose long cells have several lines, or a block for each probe if it is narrow.

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
/// The minimum widths of the columns. No name of a setting is longer than its column.
const MINIMUM: [usize; 7] = [16, 12, 12, 12, 10, 28, 7];
/// The parts of the rest of the width, in hundredths.
const PARTS: [usize; 7] = [0, 24, 33, 33, 0, 10, 0];
/// The space between two columns.
const GAP: &str = "  ";
/// The range of the width of the table. A narrower terminal gets blocks.
const WIDTHS: std::ops::RangeInclusive<usize> = 120..=220;
/// The space before the text of a block, with the name of the column.
const BLOCK_INDENT: usize = 15;
/// Minimum width of a block.
const MIN_BLOCK: usize = 45;

/// Returns the table, with a line break after each line.
pub(super) fn table(report: &ProbeReport, config: &TenantConfig, width: usize) -> String {
    if width < *WIDTHS.start() {
        return blocks(report, config, width.max(MIN_BLOCK));
    }
    let widths = widths(width.min(*WIDTHS.end()));
    let mut text = lines(&COLUMNS.map(str::to_owned), &widths);
    for row in &report.rows {
        text += &lines(&cells(row, config), &widths);
    }
    text
}

/// Returns a block for each probe: a line with its name, and one for each further column, unless it is empty.
fn blocks(report: &ProbeReport, config: &TenantConfig, width: usize) -> String {
    let mut text = String::new();
    for row in &report.rows {
        let [id, cells @ ..] = cells(row, config);
        text += &format!("{id}\n");
        for (name, cell) in COLUMNS.iter().skip(1).zip(cells) {
            for (at, line) in wrap(&cell, width - BLOCK_INDENT).iter().enumerate() {
                let name = if at == 0 { *name } else { "" };
                text += &format!("  {name:<12} {line}\n");
            }
        }
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
    let minimum: usize = MINIMUM.iter().sum();
    let rest = width - minimum - GAP.len() * (COLUMNS.len() - 1);
    let mut widths = MINIMUM;
    for (width, part) in widths.iter_mut().zip(PARTS) {
        *width += rest * part / 100;
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
    use leadgate::config::Config;
    use leadgate::probe::{Finding, ProbedSetting};

    use super::*;

    /// The settings that probes decide.
    const PATHS: [&str; 4] = [
        "writes.own_values_may_clash",
        "writes.captured_lead_id",
        "batching.max_updates",
        "limits.bulk_pays_calls",
    ];

    #[test]
    fn no_width_splits_the_name_of_a_setting() {
        let text = "[tenants.acme]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"s\"\n";
        let config = Config::read("", text, std::iter::empty()).unwrap();
        let settings = PATHS.map(|path| ProbedSetting {
            path,
            value: true.into(),
        });
        let report = ProbeReport {
            rows: vec![ReportRow {
                id: "values",
                question: "What clears an attribute?",
                finding: Finding {
                    state: ProbeState::Decided,
                    observation: "word ".repeat(40),
                    answer: "an answer".to_owned(),
                    value: serde_json::json!({}),
                    confidence: 0.9,
                    settings: settings.to_vec(),
                    evidence: vec![],
                },
            }],
            ..ProbeReport::default()
        };
        for width in [20, 60, 80, 119, 120, 160, 300] {
            let text = table(&report, &config.tenants["acme"], width);
            for path in PATHS {
                assert!(text.contains(path), "{width}: {text}");
            }
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width.max(MIN_BLOCK)), "{width}: {text}");
        }
    }

    #[test]
    fn cells_are_wrapped_within_their_widths() {
        for width in [120, 160, 220] {
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
