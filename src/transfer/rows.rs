//! The rows of a file, one after the other: CSV after a line of names, or an object of JSON per line. Knows not what the names
//! mean.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use csv::StringRecord;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Format;

/// The longest row, in bytes: a message with it must not be longer than the gateway takes.
pub(super) const LONGEST: usize = 1024 * 1024;
const BOM: &[u8] = "\u{feff}".as_bytes();

/// One row as it stands.
#[derive(Debug)]
pub(super) enum Row {
    Csv(StringRecord),
    Jsonl(Object),
}

/// The members of an object of JSON as they stand, in their order.
#[derive(Debug)]
pub(super) struct Object(pub(super) Vec<(String, Box<RawValue>)>);

/// The rows of a file.
pub(super) enum Rows<R> {
    Csv(Box<csv::Reader<R>>),
    Jsonl { lines: BufReader<R>, line: u64 },
}

impl Row {
    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Csv(record) => record.as_slice().len() + 16 * record.len() + 64,
            Self::Jsonl(Object(members)) => {
                let sizes = members.iter().map(|(name, value)| name.len() + value.get().len() + 64);
                sizes.sum::<usize>() + 64
            }
        }
    }
}

impl<R: Read> Rows<R> {
    pub(super) fn new(format: Format, file: R) -> Self {
        match format {
            Format::Csv => Self::Csv(Box::new(csv::Reader::from_reader(file))),
            Format::Jsonl => Self::Jsonl {
                lines: BufReader::new(file),
                line: 0,
            },
        }
    }

    /// The names in the first line; of JSON, none.
    pub(super) fn header(&mut self) -> Result<Vec<String>, String> {
        match self {
            Self::Csv(reader) => {
                let header = reader.headers().map_err(|error| told(&error))?;
                Ok(header.iter().map(str::to_owned).collect())
            }
            Self::Jsonl { .. } => Ok(vec![]),
        }
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row>, String> {
        match self {
            Self::Csv(reader) => {
                let mut record = StringRecord::new();
                let is_there = reader.read_record(&mut record).map_err(|error| told(&error))?;
                Ok(is_there.then_some(Row::Csv(record)))
            }
            Self::Jsonl { lines, line } => next_object(lines, line),
        }
    }
}

fn next_object<R: Read>(lines: &mut BufReader<R>, line: &mut u64) -> Result<Option<Row>, String> {
    loop {
        *line += 1;
        let mut text = Vec::new();
        let most = LONGEST as u64 + 1;
        let read = lines.by_ref().take(most).read_until(b'\n', &mut text);
        read.map_err(|error| error.to_string())?;
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > LONGEST {
            return Err(format!("line {line}: is longer than {LONGEST} bytes"));
        }
        let text = text.strip_prefix(BOM).filter(|_| *line == 1).unwrap_or(&text);
        let text = std::str::from_utf8(text).map_err(|_| format!("line {line}: is not UTF-8"))?;
        if text.trim().is_empty() {
            continue;
        }
        let object = serde_json::from_str(text);
        return match object {
            Ok(object) => Ok(Some(Row::Jsonl(object))),
            Err(error) => Err(format!("line {line}: is no object of JSON: {error}")),
        };
    }
}

/// What is wrong with a file of CSV, and where.
fn told(error: &csv::Error) -> String {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Io(error) => error.to_string(),
        csv::ErrorKind::Utf8 { .. } => format!("line {line}: is not UTF-8"),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line}: has {len} cells where the first line has {expected_len}")
        }
        _ => format!("line {line}: {error}"),
    }
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
        let mut rows = Rows::new(format, text);
        rows.header()?;
        std::iter::from_fn(|| rows.next().transpose()).collect()
    }

    #[test]
    fn rows_of_both_forms_are_read_without_what_is_blank() {
        let csv = read(Format::Csv, "\u{feff}a,b\n\n1,\"x\ny\"\r\n2,\n".as_bytes()).unwrap();
        let [Row::Csv(first), Row::Csv(second)] = &csv[..] else {
            panic!("{csv:?}");
        };
        assert_eq!(
            (first, second),
            (
                &StringRecord::from(vec!["1", "x\ny"]),
                &StringRecord::from(vec!["2", ""])
            )
        );
        let mut rows = Rows::new(Format::Csv, "\u{feff}\"a\",b\n".as_bytes());
        assert_eq!(rows.header().unwrap(), ["a", "b"]);

        let jsonl = read(Format::Jsonl, "\u{feff}{\"b\": 1.50, \"a\": null}\n\n{}".as_bytes()).unwrap();
        let [Row::Jsonl(Object(first)), Row::Jsonl(Object(second))] = &jsonl[..] else {
            panic!("{jsonl:?}");
        };
        // As it stands, and in its order.
        assert_eq!((first[0].0.as_str(), first[0].1.get()), ("b", "1.50"));
        assert_eq!((first.len(), second.len()), (2, 0));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        let fault = |format, text: &[u8]| read(format, text).unwrap_err();
        assert!(fault(Format::Csv, b"a,b\n1,2\n1\n").contains("line 3: has 1 cells where the first line has 2"));
        assert!(fault(Format::Csv, b"a,b\n1,2\n\xff,1\n").contains("line 3: is not UTF-8"));
        for (text, what) in [
            (&b"{}\n[1]\n"[..], "line 2: is no object of JSON"),
            (b"{}\n\n{\"a\":1", "line 3: is no object of JSON"),
            (b"{\"a\": \"\xff\"}", "line 1: is not UTF-8"),
            (b"{\"a\": 1, \"a\": 2}", "a is given twice"),
        ] {
            let said = fault(Format::Jsonl, text);
            assert!(said.contains(what), "{said}");
        }
        let endless = "x".repeat(LONGEST + 10);
        assert!(fault(Format::Jsonl, endless.as_bytes()).contains("line 1: is longer"));
    }
}
