//! `leadgate import` and `leadgate export`: leads from a file to a running gateway, and back. They are clients of the gateway and
//! never open the store.

mod attributes;
mod characters;
mod csv;
pub(crate) mod export;
pub(crate) mod import;
mod input;
mod row_error;
mod rows;
mod state;

use std::path::Path;

use clap::ValueEnum;

/// The columns of the lead's id and of its number, in both commands.
const LEAD_ID: &str = "lead_id";
const LEAD_NUMBER: &str = "lead_number";

/// The format of a file of leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    Csv,
    Jsonl,
}

impl FileFormat {
    /// Returns the format for the extension of a file name.
    fn of(path: &Path) -> Result<Self, String> {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(format!("{}: the name must end in .csv or .jsonl", path.display())),
        }
    }

    /// Returns the format of a file to read, which may also be .tsv: the separator is detected.
    fn to_read(path: &Path) -> Result<Self, String> {
        let is_tsv = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
        if is_tsv { Ok(Self::Csv) } else { Self::of(path) }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}
