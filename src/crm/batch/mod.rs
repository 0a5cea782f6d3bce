//! Batches: operations of one kind that wait for a slot at the same time are sent in one call, on one slot of the quota.
//! Does not depend on any endpoint.
//!
//! Each operation goes through the same steps as a single call: it waits for a slot, gets its result, and decides by itself
//! whether to retry. Only the sending differs. The operation that gets the slot is the batch leader: it starts a task that
//! sends the batch. The other operations join this task as members, and wait for its replies.
//!
//! * `member`: a member of a batch, the replies to it, and the registry in which members meet their leader.
//! * `leader`: sends a batch, splits it if it fails as a whole, and replies to its members.
//! * `splitting`: what the failure of a batch call says about its members.

mod leader;
mod member;
mod splitting;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) use member::Registries;
pub use member::{LostMember, Registry};
use member::{Member, Reply};

use super::retry::{Retries, Safety};
use super::{CallPermit, Client, Operation, timed};
use crate::context::{RequestContext, UPSTREAM_RESPONSE};
use crate::error::{Error, ErrorKind, Result};
use crate::quota::breaker::OperationId;
use crate::quota::{BatchMember, BatchOption, Granted, Lane, SlotRequest};

/// How long no batches are sent in a lane whose batch endpoint is not available.
const DISABLED: Duration = Duration::from_secs(600);

/// An operation that can be sent in a batch with others of its kind.
pub trait Batchable: Operation + Clone + Send + Sync + 'static {
    /// The call for a batch. Its output has the result of each member, in the order of the members.
    type BatchCall: Operation<Output = Vec<MemberResult<Self::Output>>> + Send + Sync;
    /// The lane. All members of a batch are of one lane.
    const LANE: Lane;
    /// Returns the call for these members. No two of them have a key in common.
    fn batch_call(members: &[Self]) -> Self::BatchCall;
    /// Returns the error of a member that the response does not mention.
    fn missing_error() -> Error;
    /// The registry of the members of this kind.
    fn registry(registries: &Registries) -> &Registry<Self>;
}

/// The result of one member in the response to a batch call.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberResult<T> {
    /// The result that the member's own single call would have returned.
    Final(Result<T>),
    /// The member failed and was not executed. Its own single call would return a more exact error.
    NotExecuted(Error),
    /// The response does not mention the member.
    Missing,
}

/// Whether an operation is sent in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchMode {
    /// Only by its own endpoint.
    Never,
    /// In a batch if others wait at the same time, otherwise by its own endpoint.
    Opportunistic,
    /// Only by the batch endpoint, because its effects differ from those of the single endpoint.
    Always,
}

/// An operation that can be sent now: it has a slot, or a place in a batch. Dropping it gives both back.
#[must_use = "it holds a slot"]
pub struct Ready(ReadyAs);

enum ReadyAs {
    /// Sent by its own endpoint.
    Alone(CallPermit),
    /// Sends a batch.
    Leader(CallPermit),
    /// Joins a batch.
    Member(BatchMember),
    /// Joins the rest of its batch again, after its outcome was unknown.
    Lost(LostMember),
}

/// The lanes in which no batches are sent for a while, and until when.
#[derive(Debug, Default)]
pub(super) struct DisabledLanes([Mutex<Option<Instant>>; Lane::ALL.len()]);

impl DisabledLanes {
    fn disable(&self, lane: Lane) {
        *self.until(lane) = Some(Instant::now() + DISABLED);
    }

    fn is_disabled(&self, lane: Lane) -> bool {
        self.until(lane).is_some_and(|until| Instant::now() < until)
    }

    fn until(&self, lane: Lane) -> MutexGuard<'_, Option<Instant>> {
        self.0[lane as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Calls an operation that may be sent in a batch.
    pub async fn call_batched<O: Batchable>(
        &self,
        mode: BatchMode,
        context: &RequestContext,
        operation: &O,
    ) -> Result<O::Output> {
        self.call_batched_from(None, mode, context, operation, &mut None).await
    }

    /// Calls a write that is reconciled when its outcome is unknown. In this case `lost` is set: the rest of its batch waits for the
    /// write. When `lost` is passed back, the write is sent with the rest of that batch.
    pub async fn call_batched_or_rejoin<O: Batchable>(
        &self,
        mode: BatchMode,
        context: &RequestContext,
        operation: &O,
        lost: &mut Option<LostMember>,
    ) -> Result<O::Output> {
        let ready = lost.take().map(|lost| Ready(ReadyAs::Lost(lost)));
        self.call_batched_from(ready, mode, context, operation, lost).await
    }

    /// Waits until the operation can be sent, for callers that write a record directly before the operation is sent.
    pub async fn ready<O: Batchable>(&self, mode: BatchMode, context: &RequestContext, operation: &O) -> Result<Ready> {
        let mut retries = Retries::new(O::SAFETY, 1);
        self.acquire_batched(mode, context, operation, &mut retries).await
    }

    /// Calls an operation. If `ready` is set, the first attempt is sent at once.
    pub async fn call_batched_from<O: Batchable>(
        &self,
        mut ready: Option<Ready>,
        mut mode: BatchMode,
        context: &RequestContext,
        operation: &O,
        lost: &mut Option<LostMember>,
    ) -> Result<O::Output> {
        let mut retries = Retries::new(O::SAFETY, self.shared.settings.max_attempts);
        loop {
            let ready = match ready.take() {
                Some(ready) => Ok(ready),
                None => self.acquire_batched(mode, context, operation, &mut retries).await,
            };
            let ready = match ready {
                // If the record cannot be written, the slot or the place is given back.
                Ok(ready) if O::SAFETY == Safety::Once => context.begin().await.map(|()| ready),
                ready => ready,
            };
            let reply = match ready {
                Ok(Ready(ReadyAs::Alone(place))) => {
                    let result = self.attempt(context, operation, Some(place), &mut retries).await;
                    Reply::Final(result, retries.requeue())
                }
                Ok(Ready(ready)) => {
                    context.sent();
                    self.send_as_member(ready, mode, context, operation, retries.operation())
                        .await
                }
                Err(error) => Reply::Final(Err(error), None),
            };
            match reply {
                Reply::Final(Ok(output), _) => return Ok(output),
                Reply::Final(Err(error), requeue) => {
                    retries.set_requeue(requeue);
                    self.pause(context, error, &mut retries).await?;
                }
                Reply::SendAlone(requeue, batch) => {
                    retries.set_requeue(requeue);
                    retries.part_of(batch);
                    mode = BatchMode::Never;
                }
                Reply::Unknown(error, member) => {
                    *lost = Some(member);
                    self.pause(context, error, &mut retries).await?;
                }
            }
        }
    }

    /// Waits for a slot, or for a place in the batch of another operation.
    async fn acquire_batched<O: Batchable>(
        &self,
        mode: BatchMode,
        context: &RequestContext,
        operation: &O,
        retries: &mut Retries,
    ) -> Result<Ready> {
        let mode = match mode {
            BatchMode::Opportunistic if self.shared.disabled_lanes.is_disabled(O::LANE) => BatchMode::Never,
            mode => mode,
        };
        let batch = BatchOption {
            lane: O::LANE,
            endpoint: O::BatchCall::NAME,
        };
        let (cost, endpoint) = match mode {
            BatchMode::Always => (O::LANE.cost(), batch.endpoint),
            BatchMode::Never | BatchMode::Opportunistic => (O::COST, O::NAME),
        };
        let request = SlotRequest {
            cost,
            endpoint,
            keys: operation.keys(),
            batch: (mode != BatchMode::Never).then_some(batch),
        };
        let requeue = retries.requeue();
        let (granted, queued) = timed(context, self.shared.quota.acquire_batched(context, &request, requeue)).await?;
        let place = async |slot| {
            Ok::<_, Error>(CallPermit {
                slot,
                connection: self.connection(context).await?,
                queued,
            })
        };
        Ok(Ready(match granted {
            Granted::Alone(slot) => ReadyAs::Alone(place(slot).await?),
            Granted::BatchLeader(slot) => ReadyAs::Leader(place(slot).await?),
            Granted::BatchMember(member) => ReadyAs::Member(member),
        }))
    }

    /// Sends a batch, or joins one. Waits for the reply: for a read until the deadline of its caller, for a write as long as it
    /// takes.
    async fn send_as_member<O: Batchable>(
        &self,
        ready: ReadyAs,
        mode: BatchMode,
        context: &RequestContext,
        operation: &O,
        id: OperationId,
    ) -> Reply<O::Output> {
        let (reply, replied) = oneshot::channel();
        let mut span = context.trace.span("batch member");
        span.set("leadgate.batch.lane", O::LANE.name());
        let mut member = Member {
            trace: span.trace(&context.trace),
            span,
            batch: id,
            ticket: None,
            context: context.clone(),
            mode,
            operation: operation.clone(),
            reply,
            requeue: None,
        };
        let registry = O::registry(&self.shared.registries);
        match ready {
            ReadyAs::Alone(place) | ReadyAs::Leader(place) => {
                member.ticket = place.slot.ticket();
                self.shared.exchanges.spawn(self.clone().lead_batch(place, member));
            }
            ReadyAs::Member(place) => {
                member.ticket = Some(place.ticket());
                if !registry.join(place, member) {
                    // The batch was sent without it. It waits for another slot.
                    return Reply::Final(Err(ErrorKind::Unavailable { sent: false }.into()), None);
                }
            }
            ReadyAs::Lost(lost) => registry.rejoin(lost, member),
        }
        let replied = match O::SAFETY {
            Safety::Repeatable => context.wait(UPSTREAM_RESPONSE, replied).await,
            Safety::Once => Ok(replied.await),
        };
        match replied {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Reply::Final(Err(ErrorKind::Unavailable { sent: true }.into()), None),
            Err(error) => Reply::Final(Err(error), None),
        }
    }
}
