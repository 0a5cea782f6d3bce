//! A file of rows that were not written, unchanged and with the reason: the file of rejected rows, which can be corrected and
//! imported, and the file of rows of unknown outcome. It holds personal data, so only its owner may read it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tonic::Code;
use tonic_types::ErrorDetails;

use super::FileFormat;
use crate::cli::transfer::csv::CsvRecord;
use crate::cli::transfer::rows::{FileRow, JsonObject};
use crate::cli::transfer::state;

/// The names that this file adds to those of its rows. An import ignores them.
pub(super) const OURS: [&str; 5] = [NUMBER, "error_code", REASON, "error_message", ERROR];
pub(super) const REASON: &str = "error_reason";
const ERROR: &str = "_error";
const NUMBER: &str = "row_number";
/// The reason of a row that may have been executed.
pub(super) const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// Why a row was not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RejectionReason {
    pub(super) code: String,
    pub(super) reason: String,
    pub(super) message: String,
    /// The errors of its values; empty if no single value is the cause.
    #[serde(skip)]
    pub(super) values: Vec<ValueError>,
}

/// The error of a value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValueError {
    /// The name in the file, or the field in an error of the gateway.
    pub(super) column: String,
    /// The number of the column, from 1 on, if the file has columns.
    pub(super) place: Option<usize>,
    pub(super) text: String,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{} (column {place}) {}", self.column, self.text),
            None => write!(f, "{} {}", self.column, self.text),
        }
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.reason.is_empty() {
            &self.code
        } else {
            &self.reason
        };
        write!(f, "{name}: {}", self.message)
    }
}

impl RejectionReason {
    /// Returns the errors that were found before the row was sent.
    pub(super) fn local(values: Vec<ValueError>) -> Self {
        let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
        Self {
            code: "INVALID_ARGUMENT".to_owned(),
            reason: "INVALID_FIELD".to_owned(),
            message: texts.join("; "),
            values,
        }
    }

    /// Returns the errors that were found before the row was sent without the invalid values, with those of the gateway.
    pub(super) fn both(mut values: Vec<ValueError>, gateway: Option<Self>) -> Self {
        // Missing values are reported as invalid ones already.
        let is_new = |error: &ValueError| !["lead", "lead_id", "match_by"].contains(&error.column.as_str());
        values.extend(gateway.into_iter().flat_map(|reason| reason.values).filter(is_new));
        Self::local(values)
    }

    /// Returns the reason of a row that was sent, and whose response has no result.
    pub(super) fn no_result() -> Self {
        Self {
            code: name(Code::Unknown),
            reason: OUTCOME_UNKNOWN.to_owned(),
            message: "the gateway returned no result".to_owned(),
            values: vec![],
        }
    }

    /// Returns an error of the gateway.
    pub(super) fn of(status: &tonic_types::Status, details: &ErrorDetails) -> Self {
        let mut message = status.message.clone();
        let violations = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
        let mut values = vec![];
        for violation in violations {
            let error = format!("{}: {}", violation.field, violation.description);
            // The message has the first of them already.
            if !message.contains(&error) {
                message += &format!("; {error}");
            }
            values.push(ValueError {
                column: violation.field.clone(),
                place: None,
                text: violation.description.clone(),
            });
        }
        let info = details.error_info();
        Self {
            code: name(Code::from(status.code)),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message,
            values,
        }
    }
}

/// Returns the name of a code as gRPC writes it.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Writes the file. The file is created with its first row.
pub(super) struct RowReport {
    path: PathBuf,
    /// The names of the columns of CSV.
    names: Vec<String>,
    out: Option<BufWriter<File>>,
}

impl RowReport {
    /// Opens the file at a size. The rows after it are written again.
    pub(super) fn at(path: PathBuf, names: Vec<String>, bytes: u64) -> Result<Self, String> {
        let mut rejected = Self { path, names, out: None };
        if bytes > 0 {
            let file = state::reopen(&rejected.path, bytes).map_err(|error| write_failed(&rejected.path, &error))?;
            rejected.out = Some(BufWriter::new(file));
        } else {
            // Checks now that the file can be written, and not after rows were written.
            let created = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&rejected.path);
            let removed = created.and_then(|_| std::fs::remove_file(&rejected.path));
            removed.map_err(|error| write_failed(&rejected.path, &error))?;
        }
        Ok(rejected)
    }

    pub(super) fn add(&mut self, number: u64, row: &FileRow, reason: &RejectionReason) -> Result<(), String> {
        let reason = RejectionReason {
            message: format!("line {}: {}", row.line(), reason.message),
            ..reason.clone()
        };
        let written = match row {
            FileRow::Csv(record) => self.add_csv(number, record, &reason),
            FileRow::Jsonl { object, .. } => self.add_jsonl(number, object, &reason),
        };
        written.map_err(|error| write_failed(&self.path, &error))
    }

    /// Syncs the file to the disk. Returns its size.
    pub(super) fn flush(&mut self) -> Result<u64, String> {
        let Some(out) = &mut self.out else {
            return Ok(0);
        };
        let flushed = out
            .flush()
            .and_then(|()| out.get_ref().sync_data())
            .and_then(|()| out.stream_position());
        flushed.map_err(|error| write_failed(&self.path, &error))
    }

    fn add_csv(&mut self, number: u64, record: &CsvRecord, reason: &RejectionReason) -> io::Result<()> {
        let names = self.names.clone();
        let is_own = |name: &String| !OURS.contains(&name.trim()) && !name.trim().is_empty();
        let is_first = self.out.is_none();
        let mut sheet = csv::Writer::from_writer(self.out()?);
        if is_first {
            let own = names.iter().filter(|name| is_own(name)).map(String::as_str);
            let reasons = ["error_code", REASON, "error_message"];
            sheet.write_record(std::iter::once(NUMBER).chain(own).chain(reasons))?;
        }
        let number = number.to_string();
        let own = names
            .iter()
            .zip(record.iter())
            .filter(|(name, _)| is_own(name))
            .map(|(_, cell)| cell);
        let why = [&reason.code, &reason.reason, &reason.message].map(String::as_str);
        sheet.write_record(std::iter::once(number.as_str()).chain(own).chain(why))?;
        sheet.flush()
    }

    fn add_jsonl(&mut self, number: u64, JsonObject(members): &JsonObject, reason: &RejectionReason) -> io::Result<()> {
        #[derive(Serialize)]
        struct Error<'a> {
            row_number: u64,
            #[serde(flatten)]
            reason: &'a RejectionReason,
        }

        let error = Error {
            row_number: number,
            reason,
        };
        let error: Box<RawValue> = serde_json::value::to_raw_value(&error)?;
        let own = members.iter().filter(|(name, _)| !OURS.contains(&name.trim()));
        let own = own.map(|(name, value)| (name.as_str(), value));
        let mut line = Vec::new();
        serde::Serializer::collect_map(
            &mut serde_json::Serializer::new(&mut line),
            own.chain(std::iter::once((ERROR, &error))),
        )?;
        line.push(b'\n');
        self.out()?.write_all(&line)
    }

    fn out(&mut self) -> io::Result<&mut BufWriter<File>> {
        let out = match self.out.take() {
            Some(out) => out,
            None => BufWriter::new(state::create_new(&self.path)?),
        };
        Ok(self.out.insert(out))
    }
}

/// Whether a row is from a file of rows of unknown outcome. `reasons` is the column of the reasons, if there is one.
pub(super) fn is_of_unknown_outcome(row: &FileRow, reasons: Option<usize>) -> bool {
    #[derive(Deserialize)]
    struct Error {
        reason: String,
    }

    match row {
        FileRow::Csv(record) => reasons.and_then(|at| record.iter().nth(at)) == Some(OUTCOME_UNKNOWN),
        FileRow::Jsonl { object, .. } => {
            let JsonObject(members) = object;
            let error = members.iter().find(|(name, _)| name.trim() == ERROR);
            let error = error.and_then(|(_, value)| serde_json::from_str::<Error>(value.get()).ok());
            error.is_some_and(|error| error.reason == OUTCOME_UNKNOWN)
        }
    }
}

fn write_failed(path: &Path, error: &io::Error) -> String {
    format!("writing {} failed: {error}", path.display())
}

/// Returns the default path of a file of that kind.
pub(super) fn path_beside(path: &Path, kind: &str, format: FileFormat) -> PathBuf {
    state::beside(path, &format!(".{kind}.{}", format.extension()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn reason() -> RejectionReason {
        RejectionReason::local(vec![ValueError {
            column: "city".to_owned(),
            place: Some(1),
            text: "\"must\"".to_owned(),
        }])
    }

    fn record(cells: &[&str]) -> FileRow {
        FileRow::Csv(CsvRecord::new(9, cells.iter().copied()))
    }

    #[test]
    fn rows_after_the_last_state_are_written_again_and_not_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.csv");
        let names = || vec!["city".to_owned()];
        let mut rejected = RowReport::at(path.clone(), names(), 0).unwrap();
        assert!(!path.exists());
        rejected.add(1, &record(&["Pune"]), &reason()).unwrap();
        let bytes = rejected.flush().unwrap();
        rejected.add(2, &record(&["Agra"]), &reason()).unwrap();
        rejected.flush().unwrap();
        drop(rejected);
        let mut rejected = RowReport::at(path.clone(), names(), bytes).unwrap();
        rejected.add(2, &record(&["Agra"]), &reason()).unwrap();
        rejected.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "row_number,city,error_code,error_reason,error_message");
        assert_eq!(
            lines[1],
            "1,Pune,INVALID_ARGUMENT,INVALID_FIELD,\"line 9: city (column 1) \"\"must\"\"\""
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(lines[2].starts_with("2,Agra,") && lines.len() == 3, "{text}");
        assert!(RowReport::at(path, names(), 10_000).is_err());
    }

    #[test]
    fn a_rejected_row_loses_its_earlier_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected");
        let names = ["row_number", "city", "error_code", " "].map(str::to_owned).to_vec();
        let mut rejected = RowReport::at(path.clone(), names, 0).unwrap();
        rejected.add(3, &record(&["9", "Pune", "X", ""]), &reason()).unwrap();
        rejected.flush().unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("\n3,Pune,INVALID"));

        let mut rejected = RowReport::at(path.clone(), vec![], 0).unwrap();
        let object = serde_json::from_str(r#"{"b": 1.50, "_error": {"code": "X"}, "a": "ä"}"#).unwrap();
        rejected.add(3, &FileRow::Jsonl { line: 1, object }, &reason()).unwrap();
        rejected.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(r#"{"b":1.50,"a":"ä","_error":{"row_number":3,"code":"INVALID_ARGUMENT","#),
            "{text}"
        );
    }

    #[test]
    fn codes_are_written_as_in_grpc() {
        assert_eq!(name(Code::AlreadyExists), "ALREADY_EXISTS");
        assert_eq!(name(Code::Internal), "INTERNAL");
    }
}
