//! A first look at a whole file, before a row of it is sent: whether it can be read, what names it has, how many rows, and by
//! what it is known again. Keeps none of the rows.

use std::collections::HashSet;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Format;
use crate::transfer::rows::{LONGEST, Object, Row, Rows};

/// More names than leads have attributes.
const MOST_NAMES: usize = 5_000;

/// What there is in a file.
#[derive(Debug)]
pub(super) struct Survey {
    /// The names, in the order in which they come first.
    pub(super) names: Vec<String>,
    /// How many rows.
    pub(super) rows: u64,
    pub(super) identity: Identity,
}

/// By what a file is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Survey {
    pub(super) fn of(format: Format, file: impl Read) -> Result<Self, String> {
        let mut digest = Digested {
            inner: file,
            bytes: 0,
            sha256: Sha256::new(),
        };
        let (names, rows) = match format {
            Format::Csv => survey(Rows::new(format, Quotes::new(&mut digest)))?,
            Format::Jsonl => survey(Rows::new(format, &mut digest))?,
        };
        let sha256 = digest.sha256.finalize();
        Ok(Self {
            names,
            rows,
            identity: Identity {
                bytes: digest.bytes,
                sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
        })
    }
}

fn survey<R: Read>(mut rows: Rows<R>) -> Result<(Vec<String>, u64), String> {
    let mut names = rows.header()?;
    let mut known: HashSet<String> = names.iter().cloned().collect();
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        let Row::Jsonl(Object(members)) = row else {
            continue;
        };
        for (name, _) in members {
            if known.insert(name.clone()) {
                names.push(name);
            }
        }
        if names.len() > MOST_NAMES {
            return Err(format!("has more than {MOST_NAMES} different names"));
        }
    }
    Ok((names, count))
}

/// Counts and digests what is read.
struct Digested<R> {
    inner: R,
    bytes: u64,
    sha256: Sha256,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.sha256.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Watches the quotes of CSV, which the reader of CSV takes as they come: one that is never closed would make one cell of all
/// that follows.
struct Quotes<R> {
    inner: R,
    place: Place,
    line: u64,
    /// How long the row is so far, and where it began.
    length: usize,
    began: u64,
}

/// Where in a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Plain,
    Quoted,
    /// After a quote inside of quotes: it closes them, unless another one follows.
    Closing,
}

impl<R> Quotes<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            place: Place::Start,
            line: 1,
            length: 0,
            began: 1,
        }
    }

    fn pass(&mut self, byte: u8) -> Result<(), String> {
        self.length += 1;
        self.place = match (self.place, byte) {
            (Place::Start | Place::Closing, b'"') => Place::Quoted,
            (Place::Quoted, b'"') => Place::Closing,
            (Place::Quoted, _) => Place::Quoted,
            (_, b',' | b'\n' | b'\r') => Place::Start,
            (Place::Closing, _) => {
                let line = self.line;
                return Err(format!(
                    "line {line}: text follows a closing quote; quotes inside of quotes are doubled"
                ));
            }
            // A mark of the byte order is no part of the first cell.
            (Place::Start, 0x80..) if self.line == 1 && self.length <= 3 => Place::Start,
            (Place::Start | Place::Plain, _) => Place::Plain,
        };
        if byte == b'\n' {
            self.line += 1;
            if self.place != Place::Quoted {
                (self.length, self.began) = (0, self.line);
            }
        }
        if self.length > LONGEST {
            let began = self.began;
            return Err(format!(
                "line {began}: the row that begins here is longer than {LONGEST} bytes; is a quote not closed?"
            ));
        }
        Ok(())
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for byte in &buffer[..read] {
            self.pass(*byte).map_err(io::Error::other)?;
        }
        if read == 0 && self.place == Place::Quoted && !buffer.is_empty() {
            let text = format!("line {}: a quote of the row that begins here is not closed", self.began);
            return Err(io::Error::other(text));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Result<Survey, String> {
        Survey::of(Format::Csv, text.as_bytes())
    }

    #[test]
    fn a_file_is_known_by_its_names_its_rows_and_its_bytes() {
        let survey = csv("a,b\n1,2\n\"3\",\"x \"\"y\"\"\nz\"\n").unwrap();
        assert_eq!((survey.names, survey.rows), (vec!["a".to_owned(), "b".to_owned()], 2));
        assert_eq!(
            survey.identity,
            csv("a,b\n1,2\n\"3\",\"x \"\"y\"\"\nz\"\n").unwrap().identity
        );
        assert_ne!(
            survey.identity.sha256,
            csv("a,b\n1,2\n\"3\",\"x \"\"y\"\"\nw\"\n").unwrap().identity.sha256
        );
        let jsonl = b"{\"a\":1}\n{\"c\":1,\"a\":2}\n";
        let survey = Survey::of(Format::Jsonl, &jsonl[..]).unwrap();
        assert_eq!((survey.names, survey.rows), (vec!["a".to_owned(), "c".to_owned()], 2));
        assert_eq!(survey.identity.bytes, 22);
    }

    #[test]
    fn wrong_quotes_are_told_with_their_line() {
        let fault = |text: &str| csv(text).unwrap_err();
        assert!(fault("a,b\n1,2\n\"x\"y,2\n").starts_with("line 3: text follows a closing quote"));
        assert!(fault("a,b\n1,2\n1,\"x\n1,2\n").starts_with("line 3: a quote of the row"));
        let endless = format!("a,b\n1,2\n1,\"{}", "x\n".repeat(LONGEST));
        assert!(fault(&endless).starts_with("line 3: the row that begins here is longer"));
        // A quote in the middle of plain text is text, and one after a mark of the byte order is a quote.
        assert!(csv("a,b\n5\" pipe,\"\"\n").is_ok());
        assert_eq!(csv("\u{feff}\"a,b\",c\n1,2\n").unwrap().names, ["a,b", "c"]);
    }
}
