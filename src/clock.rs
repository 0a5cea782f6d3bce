//! The wall clock, in one place: everything that waits or measures uses tokio's time instead, which tests can pause.

use jiff::Timestamp;

/// What time it is.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
