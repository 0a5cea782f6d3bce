//! Standard output of the commands. It may fail at any time: its reader ends, or a disk is full. Then the command continues without
//! output, so that its work and its exit code do not depend on the reader. The first error is reported at the end.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

/// The first error of standard output.
static ERROR: OnceLock<io::Error> = OnceLock::new();

/// Prints a line to standard output.
macro_rules! print_line {
    () => {
        $crate::cli::output::write(format_args!("\n"))
    };
    ($($arguments:tt)+) => {
        $crate::cli::output::write(format_args!("{}\n", format_args!($($arguments)+)))
    };
}

/// Prints a text to standard output.
macro_rules! print_text {
    ($($arguments:tt)+) => {
        $crate::cli::output::write(format_args!($($arguments)+))
    };
}

pub(crate) use {print_line, print_text};

/// Writes a text to standard output, unless that has failed before.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    if ERROR.get().is_some() {
        return;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        failed(error);
    }
}

/// Records an error of standard output.
pub(crate) fn failed(error: io::Error) {
    ERROR.get_or_init(|| error);
}

/// The error of standard output, if it is not that its reader has ended.
pub(crate) fn error() -> Option<String> {
    let error = ERROR.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)?;
    Some(format!("writing to standard output failed: {error}"))
}
