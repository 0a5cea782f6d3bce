//! Fuzz target: the files of an import. The package in `fuzz` includes this file and the modules that it uses, because the
//! command line has no library. The test below runs the target with the inputs in `fuzz/corpus`.

use std::borrow::Cow;

use leadgate::domain::value::{Value, ValueKind};

use super::values::{RawCell, ValueReader};
use crate::cli::transfer::FileFormat;
use crate::cli::transfer::attributes::TextKind;
use crate::cli::transfer::row_error::RowError;
use crate::cli::transfer::rows::{FileRow, JsonObject, RowReader};

const KINDS: [Option<ValueKind>; 6] = [
    None,
    Some(ValueKind::Text),
    Some(ValueKind::Number),
    Some(ValueKind::Flag),
    Some(ValueKind::Time),
    Some(ValueKind::FieldSet),
];
const TEXTS: [TextKind; 4] = [TextKind::Line, TextKind::Lines, TextKind::Email, TextKind::Phone];
/// Maximum length of the error of a value, besides the value itself.
const MAX_ERROR: usize = 1024;

/// Reads the rows of a file and their values. After `j` as the first byte the file is JSONL, and after any other byte CSV.
pub(crate) fn import_file(data: &[u8]) {
    match data.split_first() {
        Some((b'j', file)) => drop(rows(FileFormat::Jsonl, file)),
        Some((_, file)) => check_csv(file),
        None => {}
    }
}

/// The cells of a row.
type Cells = Vec<String>;

/// Returns the names in the first line, and the cells of the rows of CSV.
fn rows(format: FileFormat, file: &[u8]) -> Option<(Cells, Vec<Cells>)> {
    let mut reader = RowReader::open(format, file).ok()?;
    let names = reader.names().to_vec();
    let (mut rows, mut last_line) = (vec![], 0);
    loop {
        match reader.next() {
            Ok(None) => return Some((names, rows)),
            Ok(Some(row)) => {
                assert!(row.line() > last_line, "line {} after line {last_line}", row.line());
                last_line = row.line();
                match row {
                    FileRow::Csv(record) => {
                        let cells: Cells = record.iter().map(str::to_owned).collect();
                        assert_eq!(cells.len(), names.len());
                        cells.iter().for_each(|cell| check_value(cell));
                        rows.push(cells);
                    }
                    FileRow::Jsonl { object, .. } => check_object(&object),
                }
            }
            Err(RowError::Row { line, .. }) => {
                assert!(line >= last_line);
                last_line = line;
            }
            Err(RowError::File(_)) => return None,
        }
    }
}

/// Rows that are written as CSV again are the same rows.
fn check_csv(file: &[u8]) {
    let Some((names, cells)) = rows(FileFormat::Csv, file) else {
        return;
    };
    let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
    let line = |cells: &Cells| cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
    let text: String = std::iter::once(&names).chain(&cells).map(line).collect();
    // A text with this many NULs is taken for UTF-16. The file had fewer, but its invalid rows are gone.
    let is_text = text.matches('\0').count() * 4 < text.len();
    // A single empty name is an empty line, and several rows without commas may have other separators.
    if names.len() > 1 && is_text {
        assert_eq!(rows(FileFormat::Csv, text.as_bytes()), Some((names, cells)));
    }
}

fn check_object(JsonObject(members): &JsonObject) {
    for (_, raw) in members {
        for kind in KINDS {
            if let Ok(cell) = RawCell::json(raw) {
                let reader = reader(kind, TextKind::Line);
                let _ = reader.value(cell);
            }
        }
    }
}

fn check_value(text: &str) {
    for kind in KINDS {
        for form in TEXTS {
            let reader = reader(kind, form);
            match reader.value(RawCell::Text(Cow::Borrowed(text))) {
                Ok(None) => assert!(text.trim().is_empty()),
                Ok(Some(value)) => {
                    let _ = reader.warning(&value);
                    check_digits(&value, text);
                }
                Err(error) => assert!(error.len() <= MAX_ERROR + text.len(), "{error}"),
            }
        }
    }
}

/// A number has the digits of its text.
fn check_digits(value: &Value, text: &str) {
    match value {
        Value::Text(own) => assert!(text.contains(own.as_str())),
        Value::Number(_) | Value::Integer(_) => assert_eq!(value.to_text(), text.trim()),
        Value::Flag(_) | Value::Time(_) | Value::FieldSet(_) => {}
    }
}

fn reader(kind: Option<ValueKind>, text: TextKind) -> ValueReader {
    ValueReader {
        kind,
        text,
        is_key: text == TextKind::Email,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_properties_hold_for_every_file_of_the_corpus() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/import_file");
        let mut count = 0;
        for input in std::fs::read_dir(folder).unwrap() {
            let path = input.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            let result = std::panic::catch_unwind(|| import_file(&data));
            assert!(result.is_ok(), "{} fails, see the panic above", path.display());
            count += 1;
        }
        assert!(count > 0);
    }
}
