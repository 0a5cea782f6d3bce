//! The rows of a file, one after the other: CSV after a line of names, or an object of JSON per line. Does not know what the
//! names mean.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Format;
use super::csv::{Reader, Record};
use super::input::{Input, not_utf8};

/// The longest row, in bytes: a message with it must not be longer than the gateway takes.
pub(super) const LONGEST: usize = 1024 * 1024;

/// One row as it stands.
#[derive(Debug)]
pub(super) enum Row {
    Csv(Record),
    Jsonl { line: u64, object: Object },
}

/// The members of an object of JSON as they stand, in their order.
#[derive(Debug)]
pub(super) struct Object(pub(super) Vec<(String, Box<RawValue>)>);

/// Why a row cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// This row; the next one can be read. The text follows on the number of the line.
    Row { line: u64, text: String },
    /// Nothing after it can be read.
    File(String),
}

/// The rows of a file.
pub(super) struct Rows<R> {
    source: Source<R>,
    /// The names in the first line of CSV; an empty one is that of a column without a name.
    names: Vec<String>,
    /// What the separator is called, if it is not the comma.
    pub(super) separated_by: Option<&'static str>,
    /// The rows without any content, which are passed over: how many, and the line of the first.
    pub(super) blank: Option<(u64, u64)>,
}

enum Source<R> {
    Csv(Box<Reader<R>>),
    Jsonl(Box<Input<R>>),
}

impl Fault {
    /// Of one cell.
    pub(super) fn cell(line: u64, column: usize, text: &str) -> Self {
        let text = format!(", column {column}: {text}");
        Self::Row { line, text }
    }

    fn row(line: u64, text: &str) -> Self {
        let text = format!(": {text}");
        Self::Row { line, text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row { line, text } => write!(f, "line {line}{text}"),
            Self::File(text) => f.write_str(text),
        }
    }
}

impl Row {
    /// The line in which it begins.
    pub(super) fn line(&self) -> u64 {
        match self {
            Self::Csv(record) => record.line,
            Self::Jsonl { line, .. } => *line,
        }
    }

    /// About how much memory it takes.
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

impl<R: Read> Rows<R> {
    /// Opens a file, and reads the names in its first line, if it is CSV.
    pub(super) fn open(format: Format, file: R) -> Result<Self, Fault> {
        let (input, head) = Input::open(file).map_err(Fault::File)?;
        let mut rows = Self {
            source: Source::Jsonl(Box::new(input)),
            names: vec![],
            separated_by: None,
            blank: None,
        };
        if format == Format::Csv
            && let Source::Jsonl(input) = rows.source
        {
            let (mut reader, separated_by) = Reader::new(*input, &head);
            if let Some(first) = reader.next()? {
                rows.names = first.iter().map(str::to_owned).collect();
            }
            rows.source = Source::Csv(Box::new(reader));
            rows.separated_by = separated_by;
        }
        Ok(rows)
    }

    /// The names in the first line; of JSON, none.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Fault> {
        match &mut self.source {
            Source::Csv(reader) => loop {
                let Some(mut record) = reader.next()? else {
                    return Ok(None);
                };
                if record.is_blank() {
                    self.blank.get_or_insert((0, record.line)).0 += 1;
                    continue;
                }
                fit(&mut record, &self.names)?;
                return Ok(Some(Row::Csv(record)));
            },
            Source::Jsonl(input) => next_object(input),
        }
    }
}

/// Gives a row as many cells as there are names. What is beyond them, or under no name, has no content.
fn fit(record: &mut Record, names: &[String]) -> Result<(), Fault> {
    let (line, len) = (record.line, record.len());
    let has_no_name = |at: usize| names.get(at).is_none_or(|name| name.trim().is_empty());
    let missing = names.iter().skip(len).any(|name| !name.trim().is_empty());
    let beyond = record.iter().skip(names.len()).any(|cell| !cell.trim().is_empty());
    if missing || beyond {
        let text = format!("has {len} cells where the first line has {}", names.len());
        return Err(Fault::row(line, &text));
    }
    let unnamed = record
        .iter()
        .zip(0..)
        .find_map(|(cell, at)| (has_no_name(at) && !cell.trim().is_empty()).then_some(at));
    if let Some(at) = unnamed {
        let text = "has content, but the first line has no name for the column";
        return Err(Fault::cell(line, at + 1, text));
    }
    record.truncate(names.len());
    while record.len() < names.len() {
        record.push("");
    }
    Ok(())
}

fn next_object<R: Read>(input: &mut Input<R>) -> Result<Option<Row>, Fault> {
    loop {
        let (line, mut text) = (input.line, Vec::new());
        let is_last = loop {
            match input.next().map_err(|error| Fault::File(error.to_string()))? {
                None => break true,
                Some(b'\n' | b'\r') => break false,
                Some(byte) => text.push(byte),
            }
            if text.len() > LONGEST {
                return Err(Fault::File(format!("line {line}: is longer than {LONGEST} bytes")));
            }
        };
        let text = std::str::from_utf8(&text).map_err(|error| Fault::row(line, &not_utf8(&error, &text)))?;
        if text.trim().is_empty() {
            match is_last {
                true => return Ok(None),
                false => continue,
            }
        }
        let object = serde_json::from_str(text).map_err(|error| Fault::row(line, &no_object(text, &error)))?;
        return Ok(Some(Row::Jsonl { line, object }));
    }
}

/// Why a line is no object of JSON.
fn no_object(text: &str, error: &serde_json::Error) -> String {
    let told = error.to_string();
    // Its line is that within the line.
    let why = told.split(" at line ").next().unwrap_or_default();
    let hint = match text.trim() {
        text if text.starts_with('[') => "; the file must not be an array, but have one object per line",
        "{" => "; an object must stand in one line",
        _ => "",
    };
    format!("is no object of JSON: {why} (character {}){hint}", error.column())
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = vec![];
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom(format!("{name} is given twice")));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, text: &[u8]) -> Result<Vec<Row>, String> {
        let mut rows = Rows::open(format, text).map_err(|fault| fault.to_string())?;
        let rows = std::iter::from_fn(|| rows.next().transpose());
        rows.collect::<Result<_, _>>().map_err(|fault| fault.to_string())
    }

    fn cells(row: &Row) -> Vec<&str> {
        match row {
            Row::Csv(record) => record.iter().collect(),
            Row::Jsonl { .. } => panic!("{row:?}"),
        }
    }

    #[test]
    fn rows_of_both_forms_are_read_without_what_is_blank() {
        let csv = read(Format::Csv, "\u{feff}a,b\n\n1,\"x\ny\"\r\n2,\n".as_bytes()).unwrap();
        assert_eq!((cells(&csv[0]), cells(&csv[1])), (vec!["1", "x\ny"], vec!["2", ""]));
        assert_eq!((csv[0].line(), csv[1].line()), (3, 5));
        let rows = Rows::open(Format::Csv, "\u{feff}\u{feff}\"a\",b\n".as_bytes()).unwrap();
        assert_eq!(rows.names(), ["a", "b"]);

        for end in ["\n", "\r\n", "\r"] {
            let text = format!("\u{feff}{{\"b\": 1.50, \"a\": null}}{end}{end}{{}}");
            let jsonl = read(Format::Jsonl, text.as_bytes()).unwrap();
            let [
                Row::Jsonl {
                    object: Object(first), ..
                },
                Row::Jsonl {
                    object: Object(second),
                    line,
                },
            ] = &jsonl[..]
            else {
                panic!("{jsonl:?}");
            };
            // As it stands, and in its order.
            assert_eq!((first[0].0.as_str(), first[0].1.get()), ("b", "1.50"));
            assert_eq!((first.len(), second.len(), *line), (2, 0, 3));
        }
    }

    #[test]
    fn a_column_without_name_and_content_is_none() {
        let csv = read(Format::Csv, b"a,b,,\n1,2,,\n3,4\n5,6,, ,,\n").unwrap();
        let rows: Vec<_> = csv.iter().map(|row| cells(row)[..2].to_vec()).collect();
        assert_eq!(rows, [["1", "2"], ["3", "4"], ["5", "6"]]);
        let fault = read(Format::Csv, b"a,b,,\n1,2,,\n3,4,,x\n").unwrap_err();
        assert!(fault.starts_with("line 3, column 4: has content"), "{fault}");
        // Cells beyond the names are none either while they are empty.
        assert_eq!(read(Format::Csv, b"a,b\n1,2,,\n").unwrap().len(), 1);
    }

    #[test]
    fn rows_without_content_are_counted_and_passed_over() {
        let mut rows = Rows::open(Format::Csv, &b"a,b\n1,2\n,\n \n , \n3,4\n,\n"[..]).unwrap();
        let mut count = 0;
        while rows.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!((count, rows.blank), (2, Some((3, 3))));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        let fault = |format, text: &[u8]| read(format, text).unwrap_err();
        assert!(fault(Format::Csv, b"a,b\n1,2\n1\n").contains("line 3: has 1 cells where the first line has 2"));
        assert!(fault(Format::Csv, b"a,b\n1,2,3\n").contains("line 2: has 3 cells where the first line has 2"));
        assert!(fault(Format::Csv, b"a,b\n1,2\n\xff,1\n").contains("line 3, column 1: is not UTF-8"));
        for (text, what) in [
            (&b"{}\n[1]\n"[..], "line 2: is no object of JSON"),
            (b"[\n{}\n]\n", "not be an array"),
            (b"{\n\"a\":1}\n", "must stand in one line"),
            (b"{}\n\n{\"a\":1", "line 3: is no object of JSON"),
            (b"{\"a\": NaN}", "line 1: is no object of JSON"),
            (b"{\"a\": \"\xff\"}", "line 1: is not UTF-8"),
            (b"{\"a\": 1, \"a\": 2}", "a is given twice"),
            (b"{\"\\ud83d\": 1}", "line 1: is no object of JSON"),
        ] {
            let said = fault(Format::Jsonl, text);
            assert!(said.contains(what), "{said}");
        }
        let endless = "x".repeat(LONGEST + 10);
        assert!(fault(Format::Jsonl, endless.as_bytes()).contains("line 1: is longer"));
    }
}
