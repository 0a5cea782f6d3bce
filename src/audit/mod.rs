//! The audit: one line for each mutation, in a file of its own. A line has names and ids, never a value of an attribute.
//!
//! `mutation` decides when the line of a mutation is written, and with which outcome. `writer` writes lines in a thread of its
//! own, so that a disk that hangs blocks no other work. `file` is the file.

mod file;
mod line;
mod mutation;
mod steering;
mod writer;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use mutation::{AuditContext, AuditSubject, RpcAudit, TaskAudit};
pub use steering::SteeringAudit;
pub use writer::AuditLog;

/// The value of `audit.file` for standard output.
const STDOUT: &str = "stdout";

/// The settings of the audit (`[audit]`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSettings {
    /// The path of the file, `stdout`, or empty: no audit.
    file: String,
    /// Whether a mutation fails if its line cannot be written before it is sent.
    required: bool,
}

/// Where lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Stdout,
    File(PathBuf),
}

impl AuditSettings {
    /// Returns the invalid settings: the key, and what is valid.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        match self.required && self.file.is_empty() {
            true => vec![("required", "must be false if audit.file is empty".to_owned())],
            false => vec![],
        }
    }

    /// Checks that lines can be written, without changing anything. Fails with a text for operators.
    pub fn check(&self) -> Result<(), String> {
        match self.target() {
            Some(Target::File(path)) => file::check(&path).map_err(|error| cannot_write(&path, &error)),
            Some(Target::Stdout) | None => Ok(()),
        }
    }

    fn target(&self) -> Option<Target> {
        match self.file.as_str() {
            "" => None,
            STDOUT => Some(Target::Stdout),
            path => Some(Target::File(path.into())),
        }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> String {
    format!("audit.file: {} cannot be written: {error}", path.display())
}
