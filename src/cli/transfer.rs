//! `leadgate import` and `leadgate export`: leads out of a file into a running gateway, and back. Clients like any other: they
//! never open the store, which is the gateway's alone.

mod attributes;
mod broken;
mod characters;
mod csv;
pub(crate) mod export;
pub(crate) mod import;
mod input;
mod progress;
mod rows;
mod state;

use std::path::Path;

use clap::ValueEnum;

/// The lead's own id and its number, as both commands name their columns.
const LEAD_ID: &str = "lead_id";
const LEAD_NUMBER: &str = "lead_number";

/// How leads stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Csv,
    Jsonl,
}

impl Format {
    /// By the end of the file's name.
    fn of(path: &Path) -> Result<Self, String> {
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        match end.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(format!("{}: the name must end in .csv or .jsonl", path.display())),
        }
    }

    /// The same of a file to be read, whose separator is found out.
    fn to_read(path: &Path) -> Result<Self, String> {
        let is_tsv = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
        if is_tsv { Ok(Self::Csv) } else { Self::of(path) }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}
