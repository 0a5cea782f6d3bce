//! The error of a row or of a file, with its line number.

use std::fmt;

/// Maximum size of a row, in bytes, so that its message does not exceed the maximum of the gateway.
pub(super) const MAX_ROW_BYTES: usize = 1024 * 1024;

/// The error of a row or of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowError {
    /// The row cannot be read. The next row can. The text follows the line number.
    Row { line: u64, text: String },
    /// The rest of the file cannot be read.
    File(String),
}

impl RowError {
    /// Returns the error of a cell.
    pub(super) fn cell(line: u64, column: usize, text: &str) -> Self {
        let text = format!(", column {column}: {text}");
        Self::Row { line, text }
    }

    pub(super) fn row(line: u64, text: &str) -> Self {
        let text = format!(": {text}");
        Self::Row { line, text }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row { line, text } => write!(f, "line {line}{text}"),
            Self::File(text) => f.write_str(text),
        }
    }
}
