//! The findings of a dry run by kind: the column, the error, the number of rows, and the first lines. Keeps a few lines of each
//! kind, and a hash of each value that identifies a lead.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::plan::RowKey;
use super::rejected::ValueError;

/// Maximum number of lines that are listed for a kind.
const MAX_LINES: usize = 5;
/// Maximum number of kinds.
const MAX_KINDS: usize = 200;

/// The findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    rejected: FindingKinds,
    warnings: FindingKinds,
    /// The hash of each value and its line, by column.
    values: BTreeMap<usize, Vec<(u64, u32)>>,
    /// The number of rows of the file.
    rows: usize,
}

/// The kinds of findings, by column and by text without its numbers.
#[derive(Debug, Default)]
struct FindingKinds(BTreeMap<(String, String), FindingKind>);

#[derive(Debug)]
struct FindingKind {
    text: String,
    rows: u64,
    lines: Vec<String>,
}

impl Findings {
    /// Returns the findings of a file with a number of rows.
    pub(super) fn of(rows: u64) -> Self {
        Self {
            rows: usize::try_from(rows).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Adds an error of a rejected row.
    pub(super) fn reject(&mut self, line: u64, error: &ValueError) {
        self.rejected.add(&error.column, &error.text, || line.to_string());
    }

    /// Adds a warning for a row that is not rejected.
    pub(super) fn warn(&mut self, line: u64, error: &ValueError) {
        self.warnings.add(&error.column, &error.text, || line.to_string());
    }

    /// Adds the values that identify the lead of a row.
    pub(super) fn add_keys(&mut self, line: u64, keys: &[RowKey]) {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        for key in keys {
            if let Some(column) = key.unique_in {
                let values = self.values.entry(column);
                // Allocated at once, because growing needs twice the memory.
                let values = values.or_insert_with(|| Vec::with_capacity(self.rows));
                values.push((key.hash, line));
            }
        }
    }

    /// Returns the findings as a table; empty if there are none. `name` returns the name of a column.
    pub(super) fn table(&mut self, name: impl Fn(usize) -> String) -> String {
        for (column, values) in std::mem::take(&mut self.values) {
            let column = name(column);
            for (line, first) in duplicates(values) {
                let lines = || format!("{line} (as {first})");
                self.warnings
                    .add(&column, "has the same value as an earlier row", lines);
            }
        }
        let rejected = self.rejected.table("Rejected rows by kind:");
        rejected + &self.warnings.table("Warnings (these rows are not rejected):")
    }
}

impl FindingKinds {
    fn add(&mut self, column: &str, text: &str, line: impl FnOnce() -> String) {
        let mut kind = (column.to_owned(), without_numbers(text));
        if self.0.len() >= MAX_KINDS && !self.0.contains_key(&kind) {
            kind = ("(other)".to_owned(), String::new());
        }
        let found = self.0.entry(kind).or_insert_with(|| FindingKind {
            text: text.to_owned(),
            rows: 0,
            lines: vec![],
        });
        found.rows += 1;
        if found.lines.len() < MAX_LINES {
            found.lines.push(line());
        }
    }

    fn table(&self, title: &str) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut kinds: Vec<_> = self.0.iter().collect();
        // The sort is stable: kinds with the same number of rows stay in the order of their columns.
        kinds.sort_by_key(|(_, found)| std::cmp::Reverse(found.rows));
        let rows = kinds.iter().map(|((column, _), found)| {
            let more = if found.rows > found.lines.len() as u64 {
                ", ..."
            } else {
                ""
            };
            let lines = found.lines.join(", ") + more;
            [found.rows.to_string(), column.clone(), found.text.clone(), lines]
        });
        let head = ["ROWS", "COLUMN", "WHAT", "LINES"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
        let (a, b, c) = (width(0), width(1), width(2));
        let mut table = format!("{title}\n");
        for [rows, column, what, lines] in &rows {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "  {rows:>a$}  {column:<b$}  {what:<c$}  {lines}");
        }
        table
    }
}

/// Returns the lines whose value occurs in an earlier line, each with the first such line, in order.
fn duplicates(mut values: Vec<(u64, u32)>) -> Vec<(u32, u32)> {
    values.sort_unstable();
    let groups = values.chunk_by(|a, b| a.0 == b.0);
    let mut found: Vec<_> = groups
        .flat_map(|group| group[1..].iter().map(|(_, line)| (*line, group[0].1)))
        .collect();
    found.sort_unstable();
    found
}

/// Returns a text with each number replaced by 0, except in codes such as U+200B.
fn without_numbers(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(|character: char| !character.is_ascii_alphanumeric() && character != '+') {
        match word.starts_with(|character: char| character.is_ascii_digit()) {
            true => masked.push('0'),
            false => masked.push_str(word),
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(column: &str, text: &str) -> ValueError {
        ValueError {
            column: column.to_owned(),
            place: None,
            text: text.to_owned(),
        }
    }

    fn key(column: usize, hash: u64) -> RowKey {
        RowKey {
            hash,
            unique_in: Some(column),
        }
    }

    #[test]
    fn findings_are_listed_by_kind_with_the_first_lines_of_each() {
        let mut findings = Findings::default();
        for line in 2..10 {
            let text = format!("has {line} characters; at most 5 are allowed");
            findings.reject(line, &error("FirstName", &text));
        }
        findings.reject(3, &error("Email", "must be an email address"));
        findings.reject(4, &error("Email", "contains U+200B"));
        findings.reject(5, &error("Email", "contains U+200C"));
        findings.warn(7, &error("Notes", "is odd"));
        let table = findings.table(|_| String::new());
        let lines: Vec<_> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "Rejected rows by kind:",
                "ROWS COLUMN WHAT LINES",
                "8 FirstName has 2 characters; at most 5 are allowed 2, 3, 4, 5, 6, ...",
                "1 Email contains U+200B 4",
                "1 Email contains U+200C 5",
                "1 Email must be an email address 3",
                "Warnings (these rows are not rejected):",
                "ROWS COLUMN WHAT LINES",
                "1 Notes is odd 7",
            ]
        );
        assert_eq!(Findings::default().table(|_| String::new()), "");
    }

    #[test]
    fn a_value_of_an_earlier_row_is_listed_with_that_row() {
        let mut findings = Findings::default();
        for (line, hash) in [(2, 7), (3, 8), (4, 7), (5, 9), (6, 7), (7, 8)] {
            findings.add_keys(
                line,
                &[
                    key(1, hash),
                    key(2, line),
                    RowKey {
                        hash: 1,
                        unique_in: None,
                    },
                ],
            );
        }
        let table = findings.table(|column| format!("column {column}"));
        assert!(
            table.contains("3  column 1  has the same value as an earlier row  4 (as 2), 6 (as 2), 7 (as 3)\n"),
            "{table}"
        );
        assert!(!table.contains("column 2"), "{table}");
    }

    #[test]
    fn the_number_of_kinds_is_limited() {
        let mut findings = Findings::default();
        for line in 0..1_000 {
            findings.reject(line, &error(&format!("column{line}"), "is wrong"));
        }
        assert_eq!(findings.rejected.0.len(), MAX_KINDS + 1);
    }
}
