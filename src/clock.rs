//! The wall clock. Waits and durations use tokio's time instead, which tests can pause.

use jiff::Timestamp;

/// Returns the current time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    #[cfg(test)]
    let now = now + OFFSET.get();
    now
}

#[cfg(test)]
thread_local! {
    static OFFSET: std::cell::Cell<jiff::SignedDuration> = const { std::cell::Cell::new(jiff::SignedDuration::ZERO) };
}

/// Sets how much the clock is ahead of the right time, for this thread.
#[cfg(test)]
pub fn set_ahead(offset: jiff::SignedDuration) {
    OFFSET.set(offset);
}
