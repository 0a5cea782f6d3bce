//! The first pass over a file, before a row is sent: its errors, its names, the number of its rows, and its identity. Keeps no rows.

use std::collections::HashSet;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FileFormat, rejected};
use crate::cli::transfer::characters::visible;
use crate::cli::transfer::row_error::RowError;
use crate::cli::transfer::rows::{FileRow, JsonObject, RowReader};

/// Maximum number of names. Leads have fewer attributes.
const MAX_NAMES: usize = 5_000;
/// Maximum number of errors that are listed.
const MAX_ERRORS: usize = 20;

/// The content of a file.
#[derive(Debug)]
pub(super) struct FileSurvey {
    /// The names, in the order of their first occurrence.
    pub(super) names: Vec<ColumnName>,
    /// The number of rows.
    pub(super) rows: u64,
    pub(super) identity: FileIdentity,
    /// Notes about how the file is read.
    pub(super) notes: Vec<String>,
}

/// A name in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnName {
    pub(super) text: String,
    /// The line of its first occurrence; `None` if the names are in the first line.
    pub(super) line: Option<u64>,
}

/// The identity of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileIdentity {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl From<&str> for ColumnName {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            line: None,
        }
    }
}

impl ColumnName {
    /// Returns the name for messages.
    pub(super) fn shown(&self) -> String {
        let name = visible(self.text.trim());
        self.line.map_or(name.clone(), |line| format!("line {line}: {name}"))
    }
}

impl FileSurvey {
    /// Reads the whole file. Fails with all of its errors.
    pub(super) fn of(format: FileFormat, file: impl Read) -> Result<Self, String> {
        let mut digest = DigestReader {
            inner: file,
            bytes: 0,
            sha256: Sha256::new(),
        };
        let mut progress = SurveyProgress::default();
        let rows = RowReader::open(format, &mut digest);
        let ended = rows.and_then(|rows| progress.read(rows));
        if let Err(error) = ended {
            progress.add_error(error);
        }
        progress.result()?;
        let sha256 = digest.sha256.finalize();
        Ok(Self {
            names: progress.names,
            rows: progress.rows,
            identity: FileIdentity {
                bytes: digest.bytes,
                sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
            notes: progress.notes,
        })
    }
}

/// The state of the first pass.
#[derive(Default)]
struct SurveyProgress {
    names: Vec<ColumnName>,
    rows: u64,
    notes: Vec<String>,
    /// The first errors, and the number of all.
    errors: Vec<String>,
    error_count: u64,
    /// The rows of unknown outcome of another import: their number, and the line of the first one.
    unknown: Option<(u64, u64)>,
}

impl SurveyProgress {
    fn read<R: Read>(&mut self, mut rows: RowReader<R>) -> Result<(), RowError> {
        if let Some(separator) = rows.separated_by {
            self.notes
                .push(format!("The file is read as separated by {separator}."));
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
                Err(error @ RowError::Row { .. }) => self.add_error(error),
                Err(error) => return Err(error),
            }
        }
        if let Some((count, line)) = rows.blank {
            self.notes.push(format!(
                "Empty rows, which are skipped: {count}, the first one in line {line}."
            ));
        }
        Ok(())
    }

    fn add_names(&mut self, row: FileRow, known: &mut HashSet<String>) -> Result<(), RowError> {
        let FileRow::Jsonl { line, object } = row else {
            return Ok(());
        };
        let JsonObject(members) = object;
        for (text, _) in members {
            if known.insert(text.clone()) {
                let line = Some(line);
                self.names.push(ColumnName { text, line });
            }
        }
        match self.names.len() > MAX_NAMES {
            true => Err(RowError::File(format!("has more than {MAX_NAMES} different names"))),
            false => Ok(()),
        }
    }

    fn add_error(&mut self, error: RowError) {
        self.error_count += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error.to_string());
        }
    }

    /// Fails with all errors, if there are any.
    fn result(&self) -> Result<(), String> {
        let more = self.error_count - self.errors.len() as u64;
        match &self.errors[..] {
            [] => self.unknown.map_or(Ok(()), |(count, line)| {
                Err(format!(
                    "nothing was sent: the outcome of {count} rows is unknown (error_reason OUTCOME_UNKNOWN), the first one in line \
                     {line}. Importing these rows could write leads twice: repeat the import that listed them instead. If you have \
                     checked that rows are not in LeadSquared, import these rows without the columns {}",
                    rejected::OURS.join(", ")
                ))
            }),
            [only] => Err(only.clone()),
            errors => {
                let more = match more {
                    0 => String::new(),
                    more => format!("\n  and {more} more"),
                };
                let (count, errors) = (self.error_count, errors.join("\n  "));
                Err(format!(
                    "nothing was sent: {count} lines cannot be read\n  {errors}{more}"
                ))
            }
        }
    }
}

/// Counts and hashes the bytes that are read.
struct DigestReader<R> {
    inner: R,
    bytes: u64,
    sha256: Sha256,
}

impl<R: Read> Read for DigestReader<R> {
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
    use crate::cli::transfer::row_error::MAX_ROW_BYTES;

    fn csv(text: &str) -> Result<FileSurvey, String> {
        FileSurvey::of(FileFormat::Csv, text.as_bytes())
    }

    fn names(survey: &FileSurvey) -> Vec<&str> {
        survey.names.iter().map(|name| name.text.as_str()).collect()
    }

    #[test]
    fn a_file_has_names_rows_and_an_identity() {
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
        let survey = FileSurvey::of(FileFormat::Jsonl, &jsonl[..]).unwrap();
        assert_eq!((names(&survey), survey.rows), (vec!["a", "c"], 2));
        assert_eq!((survey.identity.bytes, survey.names[1].line), (22, Some(2)));
    }

    #[test]
    fn invalid_quotes_are_reported_with_their_line() {
        let error = |text: &str| csv(text).unwrap_err();
        assert!(error("a,b\n1,2\n\"x\"y,2\n").starts_with("line 3, column 1: text follows a closing quote"));
        assert!(error("a,b\n1,2\n1,\"x\n1,2\n").starts_with("line 3: the row that starts here has a quote"));
        let endless = format!("a,b\n1,2\n1,\"{}", "x\n".repeat(MAX_ROW_BYTES));
        assert!(error(&endless).starts_with("line 3: the row that starts here is longer"));
        // A quote inside plain text is text. A quote after a byte order mark opens a cell.
        assert!(csv("a,b\n5\" pipe,\"\"\n").is_ok());
        assert_eq!(names(&csv("\u{feff}\"a,b\",c\n1,2\n").unwrap()), ["a,b", "c"]);
    }

    #[test]
    fn all_errors_are_reported_up_to_a_limit() {
        let error = csv("a,b\n1\n1,2\n\"x\"y,2\n1,2,3\n").unwrap_err();
        assert!(
            error.starts_with("nothing was sent: 3 lines cannot be read\n"),
            "{error}"
        );
        for line in [
            "\n  line 2: has 1 cells",
            "\n  line 4, column 1: text",
            "\n  line 5: has 3 cells",
        ] {
            assert!(error.contains(line), "{error}");
        }
        let error = csv(&format!("a,b\n{}", "1\n".repeat(30))).unwrap_err();
        assert!(
            error.contains("30 lines") && error.ends_with("\n  and 10 more"),
            "{error}"
        );
        let jsonl = FileSurvey::of(FileFormat::Jsonl, &b"{}\n{\"a\":\n[]\n"[..]).unwrap_err();
        assert!(
            jsonl.contains("line 2: is not a JSON object") && jsonl.contains("line 3: is not a JSON object"),
            "{jsonl}"
        );
    }

    #[test]
    fn rows_of_unknown_outcome_are_not_imported() {
        let error = csv("a,error_code,error_reason\n1,X,INVALID_FIELD\n2,ABORTED,OUTCOME_UNKNOWN\n").unwrap_err();
        assert!(
            error.contains("of 1 rows is unknown") && error.contains("line 3"),
            "{error}"
        );
        let line = "{\"a\":1,\"_error\":{\"reason\":\"OUTCOME_UNKNOWN\"}}\n";
        assert!(
            FileSurvey::of(FileFormat::Jsonl, line.as_bytes())
                .unwrap_err()
                .contains("line 1")
        );
        assert!(csv("a,error_reason\n1,INVALID_FIELD\nOUTCOME_UNKNOWN,\n").is_ok());
        assert!(FileSurvey::of(FileFormat::Jsonl, line.replace("OUTCOME_UNKNOWN", "X").as_bytes()).is_ok());
    }

    #[test]
    fn notes_say_how_a_file_is_read() {
        assert_eq!(
            csv("a;b\n1;2\n").unwrap().notes,
            ["The file is read as separated by semicolons."]
        );
        let notes = csv("a,b\n1,2\n,\n,\n").unwrap().notes;
        assert_eq!(notes, ["Empty rows, which are skipped: 2, the first one in line 3."]);
        assert!(csv("a,b\n1,2\n").unwrap().notes.is_empty());
    }
}
