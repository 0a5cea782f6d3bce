//! A part of `cli::transfer`.

#[path = "../../../src/cli/transfer/characters.rs"]
mod characters;
#[path = "../../../src/cli/transfer/csv.rs"]
mod csv;
pub(crate) mod import;
#[path = "../../../src/cli/transfer/input.rs"]
mod input;
#[path = "../../../src/cli/transfer/row_error.rs"]
mod row_error;
#[path = "../../../src/cli/transfer/rows.rs"]
mod rows;

/// As in `src/cli/transfer.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    Csv,
    Jsonl,
}

mod attributes {
    /// As in `src/cli/transfer/attributes.rs`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum TextKind {
        Line,
        Lines,
        Email,
        Phone,
    }
}
