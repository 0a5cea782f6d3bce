//! A part of `cli::transfer::import`.

#[path = "../../../../src/cli/transfer/import/fuzzing.rs"]
pub(crate) mod fuzzing;
#[path = "../../../../src/cli/transfer/import/values.rs"]
mod values;
