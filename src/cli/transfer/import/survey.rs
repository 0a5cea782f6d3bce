//! A first look at a whole file, before a row of it is sent: whether it can be read, what names it has, how many rows, and by
//! what it is known again. Keeps none of the rows.

use std::collections::HashSet;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Format, rejected};
use crate::cli::transfer::characters::visible;
use crate::cli::transfer::rows::{Fault, Object, Row, Rows};

/// More names than leads have attributes.
const MAX_NAMES: usize = 5_000;
/// How many broken lines are told at most.
const MAX_FAULTS: usize = 20;

/// What there is in a file.
#[derive(Debug)]
pub(super) struct Survey {
    /// The names, in the order in which they come first.
    pub(super) names: Vec<Name>,
    /// How many rows.
    pub(super) rows: u64,
    pub(super) identity: Identity,
    /// What is to be said of how the file is read.
    pub(super) notes: Vec<String>,
}

/// A name of an attribute, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    /// The line in which it comes first; `None`: the names stand in the first line.
    pub(super) line: Option<u64>,
}

/// By what a file is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            line: None,
        }
    }
}

impl Name {
    /// The name as a message shows it.
    pub(super) fn shown(&self) -> String {
        let name = visible(self.text.trim());
        self.line.map_or(name.clone(), |line| format!("line {line}: {name}"))
    }
}

impl Survey {
    /// Reads the file from its beginning to its end; or all that keeps it from being read.
    pub(super) fn of(format: Format, file: impl Read) -> Result<Self, String> {
        let mut digest = Digested {
            inner: file,
            bytes: 0,
            sha256: Sha256::new(),
        };
        let mut seen = Seen::default();
        let rows = Rows::open(format, &mut digest);
        let ended = rows.and_then(|rows| seen.read(rows));
        if let Err(fault) = ended {
            seen.broken(fault);
        }
        seen.told()?;
        let sha256 = digest.sha256.finalize();
        Ok(Self {
            names: seen.names,
            rows: seen.rows,
            identity: Identity {
                bytes: digest.bytes,
                sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
            notes: seen.notes,
        })
    }
}

/// What was seen of a file so far.
#[derive(Default)]
struct Seen {
    names: Vec<Name>,
    rows: u64,
    notes: Vec<String>,
    /// The first broken lines, and how many there are.
    faults: Vec<String>,
    broken: u64,
    /// The rows that another import has listed because their outcome is unknown: how many, and the line of the first.
    unknown: Option<(u64, u64)>,
}

impl Seen {
    fn read<R: Read>(&mut self, mut rows: Rows<R>) -> Result<(), Fault> {
        if let Some(called) = rows.separated_by {
            self.notes.push(format!("The file is read as separated by {called}."));
        }
        self.names = rows.names().iter().map(|name| name.as_str().into()).collect();
        let mut known: HashSet<String> = rows.names().iter().cloned().collect();
        let reasons = rows.names().iter().position(|name| name.trim() == rejected::REASON);
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    self.rows += 1;
                    if rejected::is_of_unknown_outcome(&row, reasons) {
                        self.unknown.get_or_insert((0, row.line())).0 += 1;
                    }
                    self.add_names(row, &mut known)?;
                }
                Ok(None) => break,
                Err(fault @ Fault::Row { .. }) => self.broken(fault),
                Err(fault) => return Err(fault),
            }
        }
        if let Some((count, line)) = rows.blank {
            self.notes.push(format!(
                "Rows without any content, which are passed over: {count}, the first in line {line}."
            ));
        }
        Ok(())
    }

    fn add_names(&mut self, row: Row, known: &mut HashSet<String>) -> Result<(), Fault> {
        let Row::Jsonl { line, object } = row else {
            return Ok(());
        };
        let Object(members) = object;
        for (text, _) in members {
            if known.insert(text.clone()) {
                let line = Some(line);
                self.names.push(Name { text, line });
            }
        }
        match self.names.len() > MAX_NAMES {
            true => Err(Fault::File(format!("has more than {MAX_NAMES} different names"))),
            false => Ok(()),
        }
    }

    fn broken(&mut self, fault: Fault) {
        self.broken += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault.to_string());
        }
    }

    /// All that is broken, if anything is.
    fn told(&self) -> Result<(), String> {
        let more = self.broken - self.faults.len() as u64;
        match &self.faults[..] {
            [] => self.unknown.map_or(Ok(()), |(count, line)| {
                Err(format!(
                    "nothing was sent: the outcome of {count} rows is unknown (error_reason OUTCOME_UNKNOWN), the first in line \
                     {line}. To import them could write leads twice: give the command again that has listed them. Rows that are \
                     not in LeadSquared, as you have seen there, can be imported without the columns {}",
                    rejected::OURS.join(", ")
                ))
            }),
            [only] => Err(only.clone()),
            faults => {
                let more = match more {
                    0 => String::new(),
                    more => format!("\n  and {more} more"),
                };
                let (broken, faults) = (self.broken, faults.join("\n  "));
                Err(format!(
                    "nothing was sent: {broken} lines cannot be read\n  {faults}{more}"
                ))
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::transfer::rows::LONGEST;

    fn csv(text: &str) -> Result<Survey, String> {
        Survey::of(Format::Csv, text.as_bytes())
    }

    fn names(survey: &Survey) -> Vec<&str> {
        survey.names.iter().map(|name| name.text.as_str()).collect()
    }

    #[test]
    fn a_file_is_known_by_its_names_its_rows_and_its_bytes() {
        let survey = csv("a,b\n1,2\n\"3\",\"x \"\"y\"\"\nz\"\n").unwrap();
        assert_eq!((names(&survey), survey.rows), (vec!["a", "b"], 2));
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
        assert_eq!((names(&survey), survey.rows), (vec!["a", "c"], 2));
        assert_eq!((survey.identity.bytes, survey.names[1].line), (22, Some(2)));
    }

    #[test]
    fn wrong_quotes_are_told_with_their_line() {
        let fault = |text: &str| csv(text).unwrap_err();
        assert!(fault("a,b\n1,2\n\"x\"y,2\n").starts_with("line 3, column 1: text follows a closing quote"));
        assert!(fault("a,b\n1,2\n1,\"x\n1,2\n").starts_with("line 3: a quote of the row"));
        let endless = format!("a,b\n1,2\n1,\"{}", "x\n".repeat(LONGEST));
        assert!(fault(&endless).starts_with("line 3: the row that begins here is longer"));
        // A quote in the middle of plain text is text, and one after a mark of the byte order is a quote.
        assert!(csv("a,b\n5\" pipe,\"\"\n").is_ok());
        assert_eq!(names(&csv("\u{feff}\"a,b\",c\n1,2\n").unwrap()), ["a,b", "c"]);
    }

    #[test]
    fn all_broken_lines_are_told_up_to_a_limit() {
        let fault = csv("a,b\n1\n1,2\n\"x\"y,2\n1,2,3\n").unwrap_err();
        assert!(
            fault.starts_with("nothing was sent: 3 lines cannot be read\n"),
            "{fault}"
        );
        for line in [
            "\n  line 2: has 1 cells",
            "\n  line 4, column 1: text",
            "\n  line 5: has 3 cells",
        ] {
            assert!(fault.contains(line), "{fault}");
        }
        let fault = csv(&format!("a,b\n{}", "1\n".repeat(30))).unwrap_err();
        assert!(
            fault.contains("30 lines") && fault.ends_with("\n  and 10 more"),
            "{fault}"
        );
        let jsonl = Survey::of(Format::Jsonl, &b"{}\n{\"a\":\n[]\n"[..]).unwrap_err();
        assert!(
            jsonl.contains("line 2: is no object") && jsonl.contains("line 3: is no object"),
            "{jsonl}"
        );
    }

    #[test]
    fn rows_of_unknown_outcome_are_not_offered_for_import() {
        let fault = csv("a,error_code,error_reason\n1,X,INVALID_FIELD\n2,ABORTED,OUTCOME_UNKNOWN\n").unwrap_err();
        assert!(
            fault.contains("of 1 rows is unknown") && fault.contains("line 3"),
            "{fault}"
        );
        let line = "{\"a\":1,\"_error\":{\"reason\":\"OUTCOME_UNKNOWN\"}}\n";
        assert!(
            Survey::of(Format::Jsonl, line.as_bytes())
                .unwrap_err()
                .contains("line 1")
        );
        assert!(csv("a,error_reason\n1,INVALID_FIELD\nOUTCOME_UNKNOWN,\n").is_ok());
        assert!(Survey::of(Format::Jsonl, line.replace("OUTCOME_UNKNOWN", "X").as_bytes()).is_ok());
    }

    #[test]
    fn how_a_file_is_read_is_said() {
        assert_eq!(
            csv("a;b\n1;2\n").unwrap().notes,
            ["The file is read as separated by semicolons."]
        );
        let notes = csv("a,b\n1,2\n,\n,\n").unwrap().notes;
        assert_eq!(
            notes,
            ["Rows without any content, which are passed over: 2, the first in line 3."]
        );
        assert!(csv("a,b\n1,2\n").unwrap().notes.is_empty());
    }
}
