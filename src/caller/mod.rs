//! Who asks, and until when: what every step of a request's road needs to know about it. Knows no transport.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::{Error, Kind, Result};

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
pub struct Call {
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
    pub left: CancellationToken,
    /// The position of the write that this call belongs to.
    pub position: Option<Position>,
    /// Set once the response to a write of this call is lost.
    pub lost: Arc<AtomicBool>,
    /// The record of the mutation that this call belongs to, if it has a request id.
    pub record: Option<Arc<dyn Record>>,
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
pub const STORE: &str = "the store";

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

impl Call {
    /// A call that nobody outside has asked for: start-up, refreshing, checking.
    pub fn internal(id: &str, limit: Duration) -> Self {
        Self {
            id: id.into(),
            mutation: None,
            caller: OURSELVES.into(),
            criticality: Criticality::default(),
            deadline: Instant::now() + limit,
            left: CancellationToken::new(),
            position: None,
            lost: Arc::default(),
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

    /// The same call after a write was sent: it has to be settled, whether the caller still waits or not.
    pub fn settling(&self, limit: Duration) -> Self {
        self.lost.store(true, Ordering::Relaxed);
        Self {
            id: self.id.clone(),
            mutation: self.mutation,
            caller: self.caller.clone(),
            criticality: Criticality::CriticalPlus,
            deadline: self.deadline.max(Instant::now() + limit),
            left: CancellationToken::new(),
            position: self.position,
            lost: self.lost.clone(),
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
            && !self.lost.load(Ordering::Relaxed)
        {
            // The record stays if it cannot be deleted; then the mutation is looked up after a crash.
            let _ = record.undo(&self.caller).await;
        }
    }

    /// What its caller gets to know at the deadline, while it waits there for LeadSquared.
    pub fn timed_out(&self, place: &'static str) -> Error {
        match self.lost.load(Ordering::Relaxed) {
            true => Kind::OutcomeUnknown.into(),
            false => exceeded(place),
        }
    }

    /// Waits for something until the deadline, or until the caller leaves.
    pub async fn wait<T>(&self, place: &'static str, future: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            () = self.left.cancelled() => Err(Kind::CallerLeft.into()),
            () = tokio::time::sleep_until(self.deadline) => Err(exceeded(place)),
        }
    }
}

/// The deadline passed while the call waited there.
pub fn exceeded(place: &'static str) -> Error {
    Kind::DeadlineExceeded { place: place.into() }.into()
}
