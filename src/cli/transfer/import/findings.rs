//! What a dry run has found, by kind: which column, what is wrong, in how many rows, and in which first. Keeps few lines of each
//! kind, and of the values by which leads are known a hash each.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::plan::Key;
use super::rejected::Flaw;

/// How many lines are told of each kind, and how many kinds.
const MAX_LINES: usize = 5;
const MAX_KINDS: usize = 200;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    rejected: Kinds,
    doubtful: Kinds,
    /// By column: the hash of each value, and its line.
    values: BTreeMap<usize, Vec<(u64, u32)>>,
    /// How many rows there are.
    rows: usize,
}

/// Kinds of findings, by column and by what is wrong without the numbers in it.
#[derive(Debug, Default)]
struct Kinds(BTreeMap<(String, String), Found>);

#[derive(Debug)]
struct Found {
    text: String,
    rows: u64,
    lines: Vec<String>,
}

impl Findings {
    /// Of a file with so many rows.
    pub(super) fn of(rows: u64) -> Self {
        Self {
            rows: usize::try_from(rows).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// A row is rejected for this.
    pub(super) fn reject(&mut self, line: u64, flaw: &Flaw) {
        self.rejected.add(&flaw.column, &flaw.text, || line.to_string());
    }

    /// A row is taken, though this may be wrong.
    pub(super) fn doubt(&mut self, line: u64, flaw: &Flaw) {
        self.doubtful.add(&flaw.column, &flaw.text, || line.to_string());
    }

    /// A row is known by these values.
    pub(super) fn known_by(&mut self, line: u64, keys: &[Key]) {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        for key in keys {
            if let Some(column) = key.unique_in {
                let values = self.values.entry(column);
                // At once: growing would need twice the memory.
                let values = values.or_insert_with(|| Vec::with_capacity(self.rows));
                values.push((key.hash, line));
            }
        }
    }

    /// All of it as a table; empty where nothing was found. The columns are called by their names.
    pub(super) fn table(&mut self, name: impl Fn(usize) -> String) -> String {
        for (column, values) in std::mem::take(&mut self.values) {
            let column = name(column);
            for (line, first) in duplicates(values) {
                let lines = || format!("{line} (as {first})");
                self.doubtful.add(&column, "has the value of an earlier row", lines);
            }
        }
        let rejected = self.rejected.table("Rows that are rejected, by kind:");
        rejected + &self.doubtful.table("Warnings, for which no row is rejected:")
    }
}

impl Kinds {
    fn add(&mut self, column: &str, text: &str, line: impl FnOnce() -> String) {
        let mut kind = (column.to_owned(), without_numbers(text));
        if self.0.len() >= MAX_KINDS && !self.0.contains_key(&kind) {
            kind = ("(other)".to_owned(), String::new());
        }
        let found = self.0.entry(kind).or_insert_with(|| Found {
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
        // Stable: kinds with as many rows stay in the order of their columns.
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
            // Writing into a text cannot fail.
            let _ = writeln!(table, "  {rows:>a$}  {column:<b$}  {what:<c$}  {lines}");
        }
        table
    }
}

/// The lines whose value an earlier line has, each with the first one that has it, in the order of the lines.
fn duplicates(mut values: Vec<(u64, u32)>) -> Vec<(u32, u32)> {
    values.sort_unstable();
    let groups = values.chunk_by(|a, b| a.0 == b.0);
    let mut found: Vec<_> = groups
        .flat_map(|group| group[1..].iter().map(|(_, line)| (*line, group[0].1)))
        .collect();
    found.sort_unstable();
    found
}

/// A text in which all numbers are alike, but for codes such as U+200B.
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

    fn flaw(column: &str, text: &str) -> Flaw {
        Flaw {
            column: column.to_owned(),
            place: None,
            text: text.to_owned(),
        }
    }

    fn key(column: usize, hash: u64) -> Key {
        Key {
            hash,
            unique_in: Some(column),
        }
    }

    #[test]
    fn findings_are_told_by_kind_with_the_first_lines_of_each() {
        let mut findings = Findings::default();
        for line in 2..10 {
            let text = format!("has {line} characters; at most 5 are allowed");
            findings.reject(line, &flaw("FirstName", &text));
        }
        findings.reject(3, &flaw("Email", "must be an email address"));
        findings.reject(4, &flaw("Email", "contains U+200B"));
        findings.reject(5, &flaw("Email", "contains U+200C"));
        findings.doubt(7, &flaw("Notes", "is odd"));
        let table = findings.table(|_| String::new());
        let lines: Vec<_> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "Rows that are rejected, by kind:",
                "ROWS COLUMN WHAT LINES",
                "8 FirstName has 2 characters; at most 5 are allowed 2, 3, 4, 5, 6, ...",
                "1 Email contains U+200B 4",
                "1 Email contains U+200C 5",
                "1 Email must be an email address 3",
                "Warnings, for which no row is rejected:",
                "ROWS COLUMN WHAT LINES",
                "1 Notes is odd 7",
            ]
        );
        assert_eq!(Findings::default().table(|_| String::new()), "");
    }

    #[test]
    fn a_value_of_an_earlier_row_is_told_with_that_row() {
        let mut findings = Findings::default();
        for (line, hash) in [(2, 7), (3, 8), (4, 7), (5, 9), (6, 7), (7, 8)] {
            findings.known_by(
                line,
                &[
                    key(1, hash),
                    key(2, line),
                    Key {
                        hash: 1,
                        unique_in: None,
                    },
                ],
            );
        }
        let table = findings.table(|column| format!("column {column}"));
        assert!(
            table.contains("3  column 1  has the value of an earlier row  4 (as 2), 6 (as 2), 7 (as 3)\n"),
            "{table}"
        );
        assert!(!table.contains("column 2"), "{table}");
    }

    #[test]
    fn kinds_are_not_without_end() {
        let mut findings = Findings::default();
        for line in 0..1_000 {
            findings.reject(line, &flaw(&format!("column{line}"), "is wrong"));
        }
        assert_eq!(findings.rejected.0.len(), MAX_KINDS + 1);
    }
}
