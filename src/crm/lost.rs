//! Writes without a response: since when a look-up that does not find the write is conclusive, and when to look it up.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Client;
use crate::clock;
use crate::context::RequestContext;
use crate::error::{Cause, Error, Recovery};

/// The pause after the first look-up. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Maximum time for the conclusive look-up, and for what follows from it.
const FINAL_LOOKUP: Duration = Duration::from_secs(5);

/// A write whose response was lost.
#[derive(Clone, Copy, Debug)]
pub struct LostWrite {
    /// When the write was first sent.
    since: Timestamp,
    /// Before this time, the request may be in progress, or a replica of LeadSquared may be behind.
    conclusive_from: Instant,
}

/// The look-ups of a lost write.
pub struct Lookups {
    conclusive_from: Instant,
    pause: Duration,
}

/// What follows a look-up that did not find the write.
pub enum NextLookup {
    /// Another look-up, now.
    Due,
    /// None: the look-up is conclusive.
    Concluded,
    /// None: the deadline passed before a look-up was conclusive.
    DeadlineExceeded,
}

impl Lookups {
    /// Waits until the next look-up is due.
    pub async fn next(&mut self, context: &RequestContext) -> NextLookup {
        let now = Instant::now();
        if now >= self.conclusive_from {
            return NextLookup::Concluded;
        }
        let until = self.conclusive_from.min(now + self.pause);
        self.pause *= 2;
        match context.wait("the next look-up", tokio::time::sleep_until(until)).await {
            Ok(()) => NextLookup::Due,
            Err(_) => NextLookup::DeadlineExceeded,
        }
    }
}

impl LostWrite {
    /// When the write was first sent.
    pub fn since(self) -> Timestamp {
        self.since
    }

    /// What the caller can do if a later look-up may prove more.
    pub fn recovery(self) -> Recovery {
        Recovery::not_before(self.conclusive_from)
    }

    /// The look-ups to make.
    pub fn lookups(self) -> Lookups {
        Lookups {
            conclusive_from: self.conclusive_from,
            pause: FIRST_PAUSE,
        }
    }

    /// The same write, with the time at which it was first sent.
    #[must_use]
    pub fn after(self, first: Option<Self>) -> Self {
        Self {
            since: first.map_or(self.since, |first| first.since),
            ..self
        }
    }
}

impl Client {
    /// A write that was begun before, by this process or another one.
    pub fn begun_before(&self, since: Timestamp) -> LostWrite {
        let age = Duration::try_from(clock::now().duration_since(since)).unwrap_or_default();
        LostWrite {
            since,
            conclusive_from: Instant::now() + self.visible_after().saturating_sub(age),
        }
    }

    /// A write that was sent at `since` and whose response was lost with that error.
    pub fn lost_write(&self, since: Timestamp, error: &Error) -> LostWrite {
        let delay = match error.details.cause {
            // The request may be in progress.
            Some(Cause::ResponseTimeout) => self.settle_timeout(),
            _ if error.details.is_client_error_page() => Duration::ZERO,
            _ => self.visible_after(),
        };
        LostWrite {
            since,
            conclusive_from: Instant::now() + delay,
        }
    }

    /// The context of a lost write. The write continues without its caller.
    pub(super) fn reconciling(&self, context: &RequestContext, lost: LostWrite) -> RequestContext {
        context.reconciling(self.settle_timeout() + FINAL_LOOKUP, lost.conclusive_from)
    }
}
