//! Who asks, and until when: what every step of a request's road needs to know about it. Knows no transport.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Recovery, Result};

/// How much it matters that something is done, in the words of Google's SRE book; the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criticality {
    /// May fail often and for long.
    Sheddable,
    /// May fail now and then: what is not labelled.
    #[default]
    SheddablePlus,
    /// Users notice when it fails.
    Critical,
    /// The last to fail.
    CriticalPlus,
}

/// One call of a caller, on its way through the gateway.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The name of this call in logs and answers (`x-request-id`).
    pub id: Arc<str>,
    /// The `request_id` of the message that the call is made for, for logs (`mutation_id`).
    pub mutation: Option<Uuid>,
    /// Who asks: what the quota is shared between.
    pub caller: Arc<str>,
    /// How much it matters.
    pub criticality: Criticality,
    /// Every wait ends here.
    pub deadline: Instant,
    /// Cancelled when nobody waits for the answer any more.
    pub cancelled: CancellationToken,
    /// The position of the write that this call belongs to.
    pub position: Option<Position>,
    /// What was done for it so far. Clones of a call share it.
    pub progress: Arc<Progress>,
    /// The record of the mutation that this call belongs to, if it has a request id.
    pub record: Option<Arc<dyn Record>>,
}

/// What was done for a call so far, for its caller, who may not wait for its end.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Done>);

#[derive(Debug, Default)]
struct Done {
    /// How many requests were sent to LeadSquared.
    attempts: u32,
    /// How long it waited for slots, in all.
    queued: Duration,
    /// Set once the response to a write is lost: from when on it counts that a look-up does not find it.
    counts_from: Option<Instant>,
}

impl Progress {
    fn done(&self) -> MutexGuard<'_, Done> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record of a mutation with a request id. It is written between the grant of a slot and the first request, so a mutation
/// that was never sent has none.
pub trait Record: fmt::Debug + Send + Sync {
    /// Writes the record, unless it is written.
    fn begin<'a>(&'a self, caller: &'a str) -> Recorded<'a>;
    /// Deletes the record, unless an earlier request of the mutation may have been executed.
    fn undo<'a>(&'a self, caller: &'a str) -> Recorded<'a>;
}

/// The result of writing a record.
pub type Recorded<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A position in the order of the writes to one lead. It is reserved when the write arrives, before anything is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A mutation's name, given by its caller, and what it named: one effect per id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// The id.
    pub id: Uuid,
    /// A digest of the message, so that an id used for another message is found out.
    pub fingerprint: [u8; 32],
}

/// The place of a call that waits for the store.
pub const STORE: &str = "the gateway's store";

/// Who asks where nobody outside does.
const OURSELVES: &str = "leadgate";

impl Criticality {
    /// All of them, the lowest first.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// Whether slots are kept for it.
    pub fn is_upper(self) -> bool {
        self >= Self::Critical
    }

    /// Its name, as callers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable-plus",
            Self::Critical => "critical",
            Self::CriticalPlus => "critical-plus",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|criticality| criticality.name() == name)
    }
}

impl RequestContext {
    /// A call that nobody outside has asked for: start-up, refreshing, checking.
    pub fn internal(id: &str, limit: Duration) -> Self {
        Self {
            id: id.into(),
            mutation: None,
            caller: OURSELVES.into(),
            criticality: Criticality::default(),
            deadline: Instant::now() + limit,
            cancelled: CancellationToken::new(),
            position: None,
            progress: Arc::default(),
            record: None,
        }
    }

    /// The same call in the name of that caller.
    #[must_use]
    pub fn of(self, caller: &str, criticality: Criticality) -> Self {
        Self {
            caller: caller.into(),
            criticality,
            ..self
        }
    }

    /// The same call after the response to a write was lost: it has to be settled, whether the caller still waits or not.
    pub fn reconciling(&self, limit: Duration, counts_from: Instant) -> Self {
        self.progress.done().counts_from = Some(counts_from);
        Self {
            id: self.id.clone(),
            mutation: self.mutation,
            caller: self.caller.clone(),
            criticality: Criticality::CriticalPlus,
            deadline: self.deadline.max(Instant::now() + limit),
            cancelled: CancellationToken::new(),
            position: self.position,
            progress: self.progress.clone(),
            record: self.record.clone(),
        }
    }

    /// Writes the record of the mutation, for a request that is sent next.
    pub async fn begin(&self) -> Result<()> {
        match &self.record {
            Some(record) => self.wait(STORE, record.begin(&self.caller)).await?,
            None => Ok(()),
        }
    }

    /// The request that was begun was certainly not executed: a crash from now on leaves no doubt.
    pub async fn not_executed(&self) {
        if let Some(record) = &self.record
            && self.progress.done().counts_from.is_none()
        {
            // The record stays if it cannot be deleted; then the mutation is looked up after a crash.
            let _ = record.undo(&self.caller).await;
        }
    }

    /// A request of it is being sent.
    pub fn sent(&self) {
        self.progress.done().attempts += 1;
    }

    /// It waited that long for a slot.
    pub fn queued(&self, waited: Duration) {
        self.progress.done().queued += waited;
    }

    /// The same error with what was done for the call so far.
    #[must_use]
    pub fn with_progress(&self, mut error: Error) -> Error {
        let done = self.progress.done();
        error.details.attempts = error.details.attempts.max(done.attempts);
        error.details.queued = error.details.queued.max(done.queued);
        error
    }

    /// What its caller gets to know at the deadline, while it waits there for LeadSquared.
    pub fn deadline_error(&self, place: &'static str) -> Error {
        let (counts_from, is_sent) = {
            let done = self.progress.done();
            (done.counts_from, done.attempts > 0)
        };
        let error = match counts_from {
            Some(at) => Error::from(ErrorKind::OutcomeUnknown).with_recovery(Recovery::not_before(at)),
            None if is_sent => deadline_exceeded(place),
            None => deadline_exceeded(STORE),
        };
        self.with_progress(error)
    }

    /// Waits for something until the deadline, or until the caller leaves.
    pub async fn wait<T>(&self, place: &'static str, future: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            () = self.cancelled.cancelled() => Err(ErrorKind::CallerCancelled.into()),
            () = tokio::time::sleep_until(self.deadline) => Err(deadline_exceeded(place)),
        }
    }
}

/// The deadline passed while the call waited there.
pub fn deadline_exceeded(place: &'static str) -> Error {
    ErrorKind::DeadlineExceeded { place: place.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_says_how_far_the_call_has_come() {
        let minute = Duration::from_secs(60);
        let context = RequestContext::internal("test", minute);
        let place = |error: &Error| match &error.kind {
            ErrorKind::DeadlineExceeded { place } => place.clone().into_owned(),
            other => panic!("{other:?}"),
        };
        // Nothing but the store comes before the queue, which tells of its own deadlines.
        let unsent = context.deadline_error("LeadSquared's answer");
        assert_eq!(
            (place(&unsent).as_str(), unsent.details.attempts),
            ("the gateway's store", 0)
        );

        context.queued(Duration::from_secs(2));
        context.clone().sent();
        let sent = context.deadline_error("LeadSquared's answer");
        assert_eq!(
            (place(&sent).as_str(), sent.details.attempts),
            ("LeadSquared's answer", 1)
        );
        assert_eq!(sent.details.queued, Duration::from_secs(2));

        let reconciling = context.reconciling(minute, Instant::now() + Duration::from_secs(15));
        reconciling.sent();
        tokio::time::advance(Duration::from_secs(5)).await;
        let lost = context.deadline_error("LeadSquared's answer");
        assert_eq!((&lost.kind, lost.details.attempts), (&ErrorKind::OutcomeUnknown, 2));
        let after = Duration::from_secs(10);
        assert_eq!(lost.details.recovery, Some(Recovery::SameRequestId { after }));
        // A look-up is worth repeating after a second at the earliest.
        tokio::time::advance(Duration::from_secs(20)).await;
        let after = Duration::from_secs(1);
        assert_eq!(
            context.deadline_error("LeadSquared's answer").details.recovery,
            Some(Recovery::SameRequestId { after })
        );
    }
}
