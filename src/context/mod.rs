//! The context of a request: its caller, its deadline and its progress. Every step of a request gets it. Does not depend
//! on a transport.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit::{AuditContext, AuditSubject};
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::identity::permission::Permissions;
use crate::telemetry::trace::Trace;

/// The criticality of a request, as in Google's SRE book, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criticality {
    /// Frequent and long unavailability is acceptable.
    Sheddable,
    /// Partial unavailability is acceptable. The default.
    #[default]
    SheddablePlus,
    /// Failures are visible to users.
    Critical,
    /// The most critical requests. All other requests fail first.
    CriticalPlus,
}

/// The context of one request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The id of the RPC in logs and trailers (`x-request-id`).
    pub id: Arc<str>,
    /// The `request_id` of the mutation, for logs (`mutation_id`).
    pub mutation: Option<Uuid>,
    /// The name of the caller. Callers share the quota.
    pub caller: Arc<str>,
    /// What the caller may do. The RPC and the tenant are checked before the context exists; fields are checked with it.
    pub permissions: Arc<Permissions>,
    /// When the request was first received, by this replica or by the replica that forwarded it.
    pub first_received: Instant,
    /// Whether the request may have been executed before: by another replica, or for an earlier RPC of the same client call.
    pub is_repeated: bool,
    /// The criticality.
    pub criticality: Criticality,
    /// Every wait ends at this time.
    pub deadline: Instant,
    /// Cancelled when the caller no longer waits for the response.
    pub cancelled: CancellationToken,
    /// The position of the write among the writes to its lead.
    pub position: Option<Position>,
    /// What was done for the request so far. Clones share it.
    pub progress: Arc<CallProgress>,
    /// The record of the mutation, if it has a request id.
    pub record: Option<Arc<dyn Record>>,
    /// Writes the line of a mutation to the audit.
    pub audit: AuditContext,
    /// The trace, and the span that is the parent of the next ones.
    pub trace: Trace,
}

/// What was done for a request so far. The caller gets it also if its deadline passes before the request ends.
#[derive(Debug, Default)]
pub struct CallProgress(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The number of requests that were sent to LeadSquared.
    attempts: u32,
    /// The total time that the request waited for slots.
    queued: Duration,
    /// Set once the response to a write is lost. From this time, a look-up that does not find the write is conclusive.
    conclusive_from: Option<Instant>,
}

impl CallProgress {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record of a mutation with a request id. It is written after a slot is granted and before the first request is sent, so a
/// mutation that was never sent has no record.
pub trait Record: fmt::Debug + Send + Sync {
    /// Writes the record if it is not written.
    fn begin<'a>(&'a self, context: &'a RequestContext) -> Recorded<'a>;
    /// Deletes the record, unless an earlier request of the mutation may have been executed.
    fn undo<'a>(&'a self, context: &'a RequestContext) -> Recorded<'a>;
}

/// The result of writing a record.
pub type Recorded<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A position in the order of the writes to one lead. It is reserved when the write arrives, before the write waits for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// The request id of a mutation and the message that it identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// The id.
    pub id: Uuid,
    /// A digest of the message, which detects that the id was used for another message.
    pub fingerprint: [u8; 32],
    /// Whether a replica has chosen the id, because the message has none. Only replicas repeat such a mutation.
    pub is_internal: bool,
}

/// The place of a request that waits for the store.
pub const STORE: &str = "the gateway's store";

/// The place of a request that waits for LeadSquared.
pub const UPSTREAM_RESPONSE: &str = "LeadSquared's response";

/// The caller of internal requests.
pub const INTERNAL_CALLER: &str = "leadgate";

impl Criticality {
    /// All values, in ascending order.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// Whether slots are reserved for it.
    pub fn is_upper(self) -> bool {
        self >= Self::Critical
    }

    /// The name, as in requests and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable-plus",
            Self::Critical => "critical",
            Self::CriticalPlus => "critical-plus",
        }
    }

    /// The criticality with that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|criticality| criticality.name() == name)
    }
}

impl RequestContext {
    /// The context of an internal request, such as a refresh of the metadata.
    pub fn internal(id: &str, limit: Duration) -> Self {
        Self {
            id: id.into(),
            mutation: None,
            caller: INTERNAL_CALLER.into(),
            permissions: Permissions::all(),
            first_received: Instant::now(),
            is_repeated: false,
            criticality: Criticality::default(),
            deadline: Instant::now() + limit,
            cancelled: CancellationToken::new(),
            position: None,
            progress: Arc::default(),
            record: None,
            audit: AuditContext::default(),
            trace: Trace::default(),
        }
    }

    /// The same context for that caller and criticality.
    #[must_use]
    pub fn of(self, caller: &str, criticality: Criticality) -> Self {
        Self {
            caller: caller.into(),
            criticality,
            ..self
        }
    }

    /// The same context after the response to a write was lost. The write is reconciled also if the caller no longer waits.
    pub fn reconciling(&self, limit: Duration, conclusive_from: Instant) -> Self {
        self.progress.counts().conclusive_from = Some(conclusive_from);
        Self {
            id: self.id.clone(),
            mutation: self.mutation,
            caller: self.caller.clone(),
            permissions: self.permissions.clone(),
            first_received: self.first_received,
            is_repeated: self.is_repeated,
            criticality: Criticality::CriticalPlus,
            deadline: self.deadline.max(Instant::now() + limit),
            cancelled: CancellationToken::new(),
            position: self.position,
            progress: self.progress.clone(),
            record: self.record.clone(),
            audit: self.audit.clone(),
            trace: self.trace.clone(),
        }
    }

    /// Runs a mutation with a context of its own, and writes its line to the audit before it returns.
    pub async fn audited<T, F>(&self, subject: AuditSubject, mutate: impl FnOnce(Self) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mutate = |audit| mutate(Self { audit, ..self.clone() });
        self.audit.mutation(self.mutation, subject, mutate).await
    }

    /// Writes the record of the mutation before its next request is sent.
    pub async fn begin(&self) -> Result<()> {
        match &self.record {
            Some(record) => self.wait(STORE, record.begin(self)).await?,
            None => Ok(()),
        }
    }

    /// Deletes the record of the mutation, because its last request was certainly not executed. Then the outcome is certain also
    /// after a crash.
    pub async fn not_executed(&self) {
        if let Some(record) = &self.record
            && self.progress.counts().conclusive_from.is_none()
        {
            // A record that cannot be deleted stays. Then the mutation is looked up after a crash.
            let _ = record.undo(self).await;
        }
    }

    /// Counts a request that is sent.
    pub fn sent(&self) {
        self.progress.counts().attempts += 1;
    }

    /// Adds the time that the request waited for a slot.
    pub fn queued(&self, waited: Duration) {
        self.progress.counts().queued += waited;
    }

    /// The total time that the request waited for slots so far.
    pub fn queue_time(&self) -> Duration {
        self.progress.counts().queued
    }

    /// The same error with the attempts and the queue time so far.
    #[must_use]
    pub fn with_progress(&self, mut error: Error) -> Error {
        let counts = self.progress.counts();
        error.details.attempts = error.details.attempts.max(counts.attempts);
        error.details.queued = error.details.queued.max(counts.queued);
        error
    }

    /// The error for a caller whose deadline passed while its mutation was waiting for LeadSquared.
    pub fn deadline_error(&self, place: &'static str) -> Error {
        let (conclusive_from, is_sent) = {
            let counts = self.progress.counts();
            (counts.conclusive_from, counts.attempts > 0)
        };
        let error = match conclusive_from {
            Some(at) => Error::from(ErrorKind::OutcomeUnknown).with_recovery(Recovery::not_before(at)),
            None if is_sent => deadline_exceeded(place),
            None => deadline_exceeded(STORE),
        };
        self.with_progress(error)
    }

    /// Waits for a future until the deadline, or until the caller cancels the request. `place` says what it waits for.
    pub async fn wait<T>(&self, place: &'static str, future: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            () = self.cancelled.cancelled() => Err(ErrorKind::CallerCancelled.into()),
            () = tokio::time::sleep_until(self.deadline) => Err(deadline_exceeded(place)),
        }
    }
}

/// The error of a deadline that passed while the request was waiting for `place`.
pub fn deadline_exceeded(place: &'static str) -> Error {
    ErrorKind::DeadlineExceeded { place: place.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_error_has_the_progress_of_the_request() {
        let minute = Duration::from_secs(60);
        let context = RequestContext::internal("test", minute);
        let place = |error: &Error| match &error.kind {
            ErrorKind::DeadlineExceeded { place } => place.clone().into_owned(),
            other => panic!("{other:?}"),
        };
        // Before the queue, which has its own deadline errors, a request waits only for the store.
        let unsent = context.deadline_error(UPSTREAM_RESPONSE);
        assert_eq!(
            (place(&unsent).as_str(), unsent.details.attempts),
            ("the gateway's store", 0)
        );

        context.queued(Duration::from_secs(2));
        context.clone().sent();
        let sent = context.deadline_error(UPSTREAM_RESPONSE);
        assert_eq!((place(&sent).as_str(), sent.details.attempts), (UPSTREAM_RESPONSE, 1));
        assert_eq!(sent.details.queued, Duration::from_secs(2));

        let reconciling = context.reconciling(minute, Instant::now() + Duration::from_secs(15));
        reconciling.sent();
        tokio::time::advance(Duration::from_secs(5)).await;
        let lost = context.deadline_error(UPSTREAM_RESPONSE);
        assert_eq!((&lost.kind, lost.details.attempts), (&ErrorKind::OutcomeUnknown, 2));
        let after = Duration::from_secs(10);
        assert_eq!(lost.details.recovery, Some(Recovery::SameRequestId { after }));
        // The minimum is one second.
        tokio::time::advance(Duration::from_secs(20)).await;
        let after = Duration::from_secs(1);
        assert_eq!(
            context.deadline_error(UPSTREAM_RESPONSE).details.recovery,
            Some(Recovery::SameRequestId { after })
        );
    }
}
