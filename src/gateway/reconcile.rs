//! Writes of leads whose answers were lost: what a look at the lead proves. What it does not prove stays unknown.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Gateway;
use super::lead::{id_of, is_missing, is_refused};
use crate::clock;
use crate::context::RequestContext;
use crate::domain::lead::{LeadKey, RawFields, WriteAction, WriteRequest, WriteResult};
use crate::domain::mask::ReadMask;
use crate::domain::time;
use crate::error::{Cause, Error, ErrorKind, Repeat, Resource, Result};

/// What a look at the lead says about a write whose answer was lost.
pub(super) enum Reconciled {
    /// It was executed, and did this.
    Done(WriteResult),
    /// It was not executed, or may be executed again.
    NotDone,
    /// The lead does not have its values, but may have been changed since.
    Unseen,
    /// Nothing is proved, and a later look at the lead would prove no more.
    Unknown,
    /// The look-up failed, or there was no time for one that counts: a later one may tell.
    NotLookedUp,
}

/// The pause after the first look-up; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long the look-up may take that counts, and what follows from it.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// A response that was lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    /// When the write was first sent.
    since: Timestamp,
    /// From then on it counts that the write is not seen: before, the request may still be running, or a replica be behind.
    counts_from: Instant,
}

/// The look-ups after a lost response.
pub(super) struct Looks {
    counts_from: Instant,
    pause: Duration,
}

/// What comes after a look-up that has not seen the write.
pub(super) enum Look {
    /// Another look-up.
    Again,
    /// The look-up counts: the write was not executed, as far as it tells.
    Counts,
    /// The time of the call is over, and nothing is known.
    Over,
}

impl Looks {
    /// Pauses before the next look-up.
    pub(super) async fn next(&mut self, context: &RequestContext) -> Look {
        let now = Instant::now();
        if now >= self.counts_from {
            return Look::Counts;
        }
        let until = self.counts_from.min(now + self.pause);
        self.pause *= 2;
        match context.wait("the next look-up", tokio::time::sleep_until(until)).await {
            Ok(()) => Look::Again,
            Err(_) => Look::Over,
        }
    }
}

impl Loss {
    /// When the write was first sent.
    pub(super) fn since(self) -> Timestamp {
        self.since
    }

    /// What the caller can do if a later look-up may tell more.
    pub(super) fn repeat(self) -> Repeat {
        Repeat::not_before(self.counts_from)
    }

    /// The look-ups that are to be made.
    pub(super) fn looks(self) -> Looks {
        Looks {
            counts_from: self.counts_from,
            pause: FIRST_PAUSE,
        }
    }

    /// The same write was lost again.
    pub(super) fn again(self, since: Option<Self>) -> Self {
        Self {
            since: since.map_or(self.since, |first| first.since),
            ..self
        }
    }
}

impl Gateway {
    /// The call of a write whose response is lost: it goes on without its caller.
    pub(super) fn doubted(&self, context: &RequestContext, loss: Loss) -> RequestContext {
        context.reconciling(self.crm.settle_timeout() + LAST_LOOK, loss.counts_from)
    }

    /// What is known of a write that was begun before, by this process or another one.
    pub(super) fn loss_before(&self, since: Timestamp) -> Loss {
        let age = Duration::try_from(clock::now().duration_since(since)).unwrap_or_default();
        Loss {
            since,
            counts_from: Instant::now() + self.crm.visible_after().saturating_sub(age),
        }
    }

    /// The response to a write that was sent then is lost, for that reason.
    pub(super) fn loss(&self, since: Timestamp, error: &Error) -> Loss {
        let patience = match error.facts.cause {
            // The request may still be running.
            Some(Cause::ResponseTimeout) => self.crm.settle_timeout(),
            _ if is_refused(error) => Duration::ZERO,
            _ => self.crm.visible_after(),
        };
        Loss {
            since,
            counts_from: Instant::now() + patience,
        }
    }

    /// Looks a write up whose response was lost until it is seen, or until it counts that it is not.
    pub(super) async fn reconcile(
        &self,
        context: &RequestContext,
        write: &WriteRequest,
        loss: Loss,
    ) -> Result<Reconciled> {
        let can_be_seen = !write.lookup_keys().is_empty();
        let mut looks = loss.looks();
        loop {
            let reconciled = self.look_up(context, write, loss.since).await;
            let is_unseen = match &reconciled {
                Ok(Reconciled::Done(_)) => false,
                Ok(Reconciled::NotDone | Reconciled::Unseen | Reconciled::Unknown | Reconciled::NotLookedUp) => {
                    can_be_seen
                }
                Err(error) => is_missing(error),
            };
            match is_unseen {
                false => return reconciled,
                true => match looks.next(context).await {
                    Look::Again => {}
                    Look::Counts => return reconciled,
                    Look::Over => return Ok(Reconciled::NotLookedUp),
                },
            }
        }
    }

    /// Looks whether a write whose answer was lost was executed.
    async fn look_up(&self, context: &RequestContext, write: &WriteRequest, since: Timestamp) -> Result<Reconciled> {
        let keys = write.lookup_keys();
        // With it, those whose answers were lost together are looked up together.
        let catalog = self.metadata.get_if_available(context).await;
        for key in &keys {
            match self.find(context, key, &ReadMask::default(), catalog.as_deref()).await {
                Ok(row) => return self.judge(write, key, &row, since),
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    tracing::warn!(
                        request_id = %context.id,
                        mutation_id = context.mutation.map(tracing::field::display),
                        error = error.name(),
                        "looking up a write of unknown outcome failed"
                    );
                    return Ok(Reconciled::NotLookedUp);
                }
            }
        }
        // It may be executed still: then LeadSquared has to refuse the second, or the second has to change nothing.
        let is_unique = self
            .settings
            .unique
            .iter()
            .any(|name| write.attributes.text(name).is_some());
        match write.action {
            WriteAction::Update { .. } => Err(ErrorKind::NotFound(Resource::Lead).into()),
            WriteAction::Create if is_unique && !keys.is_empty() => Ok(Reconciled::NotDone),
            // A second one updates what the first has made.
            WriteAction::Upsert { run_automations, .. } if is_unique && !run_automations && !keys.is_empty() => {
                Ok(Reconciled::NotDone)
            }
            // A capture leaves an activity behind each time.
            WriteAction::Create | WriteAction::Upsert { .. } | WriteAction::Capture { .. } => Ok(Reconciled::Unknown),
        }
    }

    /// What the lead that a write is about, found by that key, says of it.
    fn judge(&self, write: &WriteRequest, key: &LeadKey, row: &RawFields, since: Timestamp) -> Result<Reconciled> {
        let lead_id = id_of(row).unwrap_or_default().to_owned();
        let seen = write.is_seen_in(row);
        // Whether what the column dates may be the doing of this write.
        let may_be_ours = |column: &str| {
            let at = row.get(column).and_then(Option::as_deref).and_then(time::read);
            at.and_then(|at| self.crm.clock().is_since(at, since))
        };
        let done = |created| {
            Reconciled::Done(WriteResult {
                lead_id: lead_id.clone(),
                affected_rows: 1,
                created,
            })
        };
        Ok(match write.action {
            WriteAction::Create => match (may_be_ours("CreatedOn"), seen) {
                // Without a date that can be compared, a lead that has all that was asked for is as good as ours.
                (Some(true) | None, Some(true)) => done(Some(true)),
                // It was there before: the create was refused, and would be again.
                (Some(false), _) => {
                    return Err(ErrorKind::Duplicate {
                        attribute: key.attribute().map(str::to_owned),
                        lead_id: Some(lead_id),
                    }
                    .into());
                }
                _ => Reconciled::Unknown,
            },
            WriteAction::Capture { .. } => match (may_be_ours("CreatedOn"), seen) {
                (Some(true), Some(true)) => done(Some(true)),
                _ => Reconciled::Unknown,
            },
            WriteAction::Update { .. } | WriteAction::Upsert { .. } => {
                let created = matches!(write.action, WriteAction::Update { .. }).then_some(false);
                match (seen, may_be_ours("ModifiedOn"), write.runs_automations()) {
                    (Some(true), _, false) | (Some(true), Some(true), true) => done(created),
                    // Nobody has changed it since, so it is ours to change; what runs automations may still be on its way.
                    (Some(false), Some(false), false) => Reconciled::NotDone,
                    (Some(false), Some(true) | None, false) => Reconciled::Unseen,
                    _ => Reconciled::Unknown,
                }
            }
        })
    }
}
