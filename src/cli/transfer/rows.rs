//! The rows of a file in order: CSV after a line of column names, or one JSON object per line.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::FileFormat;
use super::csv::{CsvReader, CsvRecord};
use super::input::{TextInput, not_utf8};
use super::row_error::{MAX_ROW_BYTES, RowError};

/// A row, unchanged.
#[derive(Debug)]
pub(super) enum FileRow {
    Csv(CsvRecord),
    Jsonl { line: u64, object: JsonObject },
}

/// The members of a JSON object, unchanged and in order.
#[derive(Debug)]
pub(super) struct JsonObject(pub(super) Vec<(String, Box<RawValue>)>);

/// Reads the rows of a file.
pub(super) struct RowReader<R> {
    source: RowSource<R>,
    /// The names in the first line of CSV. A column without a name has an empty one.
    names: Vec<String>,
    /// The name of the separator, if it is not the comma.
    pub(super) separated_by: Option<&'static str>,
    /// The empty rows, which are skipped: their number, and the line of the first one.
    pub(super) blank: Option<(u64, u64)>,
}

enum RowSource<R> {
    Csv(Box<CsvReader<R>>),
    Jsonl(Box<TextInput<R>>),
}

impl FileRow {
    /// Returns the line number of its start.
    pub(super) fn line(&self) -> u64 {
        match self {
            Self::Csv(record) => record.line,
            Self::Jsonl { line, .. } => *line,
        }
    }

    /// Returns the approximate size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Csv(record) => record.size(),
            Self::Jsonl { object, .. } => {
                let sizes = object.0.iter();
                let sizes = sizes.map(|(name, value)| name.len() + value.get().len() + 64);
                sizes.sum::<usize>() + 64
            }
        }
    }
}

impl<R: Read> RowReader<R> {
    /// Opens a file. Reads the names in its first line if it is CSV.
    pub(super) fn open(format: FileFormat, file: R) -> Result<Self, RowError> {
        let (input, head) = TextInput::open(file).map_err(RowError::File)?;
        let mut rows = Self {
            source: RowSource::Jsonl(Box::new(input)),
            names: vec![],
            separated_by: None,
            blank: None,
        };
        if format == FileFormat::Csv
            && let RowSource::Jsonl(input) = rows.source
        {
            let (mut reader, separated_by) = CsvReader::new(*input, &head);
            if let Some(first) = reader.next()? {
                rows.names = first.iter().map(str::to_owned).collect();
            }
            rows.source = RowSource::Csv(Box::new(reader));
            rows.separated_by = separated_by;
        }
        Ok(rows)
    }

    /// Returns the names in the first line of CSV.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<FileRow>, RowError> {
        match &mut self.source {
            RowSource::Csv(reader) => loop {
                let Some(mut record) = reader.next()? else {
                    return Ok(None);
                };
                if record.is_blank() {
                    self.blank.get_or_insert((0, record.line)).0 += 1;
                    continue;
                }
                fit(&mut record, &self.names)?;
                return Ok(Some(FileRow::Csv(record)));
            },
            RowSource::Jsonl(input) => next_object(input),
        }
    }
}

/// Fits a row to the names. Fails if a cell is missing, or if a cell without a name has content.
fn fit(record: &mut CsvRecord, names: &[String]) -> Result<(), RowError> {
    let (line, len) = (record.line, record.len());
    let has_no_name = |at: usize| names.get(at).is_none_or(|name| name.trim().is_empty());
    let missing = names.iter().skip(len).any(|name| !name.trim().is_empty());
    let beyond = record.iter().skip(names.len()).any(|cell| !cell.trim().is_empty());
    if missing || beyond {
        let text = format!("has {len} cells, but the first line has {}", names.len());
        return Err(RowError::row(line, &text));
    }
    let unnamed = record
        .iter()
        .zip(0..)
        .find_map(|(cell, at)| (has_no_name(at) && !cell.trim().is_empty()).then_some(at));
    if let Some(at) = unnamed {
        let text = "has content, but its column has no name in the first line";
        return Err(RowError::cell(line, at + 1, text));
    }
    record.truncate(names.len());
    while record.len() < names.len() {
        record.push("");
    }
    Ok(())
}

fn next_object<R: Read>(input: &mut TextInput<R>) -> Result<Option<FileRow>, RowError> {
    loop {
        let (line, mut text) = (input.line, Vec::new());
        let is_last = loop {
            match input.next().map_err(|error| RowError::File(error.to_string()))? {
                None => break true,
                Some(b'\n' | b'\r') => break false,
                Some(byte) => text.push(byte),
            }
            if text.len() > MAX_ROW_BYTES {
                return Err(RowError::File(format!(
                    "line {line}: is longer than {MAX_ROW_BYTES} bytes"
                )));
            }
        };
        let text = std::str::from_utf8(&text).map_err(|error| RowError::row(line, &not_utf8(&error, &text)))?;
        if text.trim().is_empty() {
            match is_last {
                true => return Ok(None),
                false => continue,
            }
        }
        let object = serde_json::from_str(text).map_err(|error| RowError::row(line, &invalid_object(text, &error)))?;
        return Ok(Some(FileRow::Jsonl { line, object }));
    }
}

/// Returns the message for a line that is not a JSON object.
fn invalid_object(text: &str, error: &serde_json::Error) -> String {
    let text_of_error = error.to_string();
    // Without its line number, which counts within the line.
    let reason = text_of_error.split(" at line ").next().unwrap_or_default();
    let hint = match text.trim() {
        text if text.starts_with('[') => "; the file must have one object per line, and not be an array",
        "{" => "; an object must be on one line",
        _ => "",
    };
    format!("is not a JSON object: {reason} (character {}){hint}", error.column())
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = JsonObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<JsonObject, M::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = vec![];
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom(format!("{name} occurs twice")));
                    }
                    members.push((name, value));
                }
                Ok(JsonObject(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: FileFormat, text: &[u8]) -> Result<Vec<FileRow>, String> {
        let mut rows = RowReader::open(format, text).map_err(|error| error.to_string())?;
        let rows = std::iter::from_fn(|| rows.next().transpose());
        rows.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    fn cells(row: &FileRow) -> Vec<&str> {
        match row {
            FileRow::Csv(record) => record.iter().collect(),
            FileRow::Jsonl { .. } => panic!("{row:?}"),
        }
    }

    #[test]
    fn rows_of_both_formats_are_read_without_empty_lines() {
        let csv = read(FileFormat::Csv, "\u{feff}a,b\n\n1,\"x\ny\"\r\n2,\n".as_bytes()).unwrap();
        assert_eq!((cells(&csv[0]), cells(&csv[1])), (vec!["1", "x\ny"], vec!["2", ""]));
        assert_eq!((csv[0].line(), csv[1].line()), (3, 5));
        let rows = RowReader::open(FileFormat::Csv, "\u{feff}\u{feff}\"a\",b\n".as_bytes()).unwrap();
        assert_eq!(rows.names(), ["a", "b"]);

        for end in ["\n", "\r\n", "\r"] {
            let text = format!("\u{feff}{{\"b\": 1.50, \"a\": null}}{end}{end}{{}}");
            let jsonl = read(FileFormat::Jsonl, text.as_bytes()).unwrap();
            let [
                FileRow::Jsonl {
                    object: JsonObject(first),
                    ..
                },
                FileRow::Jsonl {
                    object: JsonObject(second),
                    line,
                },
            ] = &jsonl[..]
            else {
                panic!("{jsonl:?}");
            };
            // Unchanged, and in order.
            assert_eq!((first[0].0.as_str(), first[0].1.get()), ("b", "1.50"));
            assert_eq!((first.len(), second.len(), *line), (2, 0, 3));
        }
    }

    #[test]
    fn a_column_without_name_and_content_is_ignored() {
        let csv = read(FileFormat::Csv, b"a,b,,\n1,2,,\n3,4\n5,6,, ,,\n").unwrap();
        let rows: Vec<_> = csv.iter().map(|row| cells(row)[..2].to_vec()).collect();
        assert_eq!(rows, [["1", "2"], ["3", "4"], ["5", "6"]]);
        let error = read(FileFormat::Csv, b"a,b,,\n1,2,,\n3,4,,x\n").unwrap_err();
        assert!(error.starts_with("line 3, column 4: has content"), "{error}");
        // Empty cells after the last name are ignored as well.
        assert_eq!(read(FileFormat::Csv, b"a,b\n1,2,,\n").unwrap().len(), 1);
    }

    #[test]
    fn empty_rows_are_counted_and_skipped() {
        let mut rows = RowReader::open(FileFormat::Csv, &b"a,b\n1,2\n,\n \n , \n3,4\n,\n"[..]).unwrap();
        let mut count = 0;
        while rows.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!((count, rows.blank), (2, Some((3, 3))));
    }

    #[test]
    fn an_error_is_reported_with_its_line() {
        let error = |format, text: &[u8]| read(format, text).unwrap_err();
        assert!(error(FileFormat::Csv, b"a,b\n1,2\n1\n").contains("line 3: has 1 cells, but the first line has 2"));
        assert!(error(FileFormat::Csv, b"a,b\n1,2,3\n").contains("line 2: has 3 cells, but the first line has 2"));
        assert!(error(FileFormat::Csv, b"a,b\n1,2\n\xff,1\n").contains("line 3, column 1: is not UTF-8"));
        for (text, what) in [
            (&b"{}\n[1]\n"[..], "line 2: is not a JSON object"),
            (b"[\n{}\n]\n", "and not be an array"),
            (b"{\n\"a\":1}\n", "must be on one line"),
            (b"{}\n\n{\"a\":1", "line 3: is not a JSON object"),
            (b"{\"a\": NaN}", "line 1: is not a JSON object"),
            (b"{\"a\": \"\xff\"}", "line 1: is not UTF-8"),
            (b"{\"a\": 1, \"a\": 2}", "a occurs twice"),
            (b"{\"\\ud83d\": 1}", "line 1: is not a JSON object"),
        ] {
            let said = error(FileFormat::Jsonl, text);
            assert!(said.contains(what), "{said}");
        }
        let endless = "x".repeat(MAX_ROW_BYTES + 10);
        assert!(error(FileFormat::Jsonl, endless.as_bytes()).contains("line 1: is longer"));
    }
}
