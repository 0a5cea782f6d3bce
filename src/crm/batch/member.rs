//! The members of a batch, the replies to them, and the registries in which they meet their leader.
//!
//! Members of different operations have different types, and the quota has none of these types. So the quota returns tickets
//! only. A member that joins a batch enters the registry of its operation and passes its ticket to the leader. The leader
//! removes the member from the registry by the ticket.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::super::{activity, lead};
use super::{BatchMode, Batchable};
use crate::context::RequestContext;
use crate::error::{Error, Result};
use crate::quota::breaker::OperationId;
use crate::quota::queue::TicketId;
use crate::quota::{BatchMember, JoinedMembers, Requeue};
use crate::telemetry::trace::{Span, Trace};

/// How long a leader waits for its members to join. Before they join, members only write their records.
const JOIN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// A member of a batch.
pub(super) struct Member<O: Batchable> {
    /// The identity of the batch. All its calls have it.
    pub(super) batch: OperationId,
    pub(super) ticket: Option<TicketId>,
    pub(super) context: RequestContext,
    pub(super) mode: BatchMode,
    pub(super) operation: O,
    pub(super) reply: oneshot::Sender<Reply<O::Output>>,
    pub(super) requeue: Option<Requeue>,
    /// From joining the batch to the reply.
    pub(super) span: Span,
    /// The trace with this span as the parent.
    pub(super) trace: Trace,
}

/// The reply of the leader to a member.
pub(super) enum Reply<T> {
    /// The result of the member, and the claim by which a refused member is requeued.
    Final(Result<T>, Option<Requeue>),
    /// The member is to be sent by its own endpoint, as a part of its batch.
    SendAlone(Option<Requeue>, OperationId),
    /// Whether the batch was executed is unknown. A write that was not executed can rejoin its batch.
    Unknown(Error, LostMember),
}

impl<O: Batchable> Member<O> {
    /// Replies with the result. Ignored if the member was cancelled.
    pub(super) fn reply(mut self, result: Result<O::Output>) {
        let is_refused = result.as_ref().err().is_some_and(Error::is_refused);
        if let Err(error) = &result {
            self.span.fail(error.name());
        }
        drop(self.span);
        // Dropped before the reply is sent, so that the next call of the member finds its keys free.
        let requeue = self.requeue.take().filter(|_| is_refused);
        let _ = self.reply.send(Reply::Final(result, requeue));
    }

    /// Replies that the member failed. A member that has a single endpoint is sent to it instead, which returns the most exact error.
    pub(super) fn fail(self, error: Error) {
        match self.mode {
            BatchMode::Always => self.reply(Err(error)),
            BatchMode::Never | BatchMode::Opportunistic => self.send_alone(),
        }
    }

    /// Replies that the member is to be sent by its own endpoint.
    pub(super) fn send_alone(self) {
        let _ = self.reply.send(Reply::SendAlone(self.requeue, self.batch));
    }
}

/// A write whose outcome is unknown because the outcome of its batch is unknown. The rest of the batch waits until the write
/// is reconciled. If this value is dropped, the batch continues without the write.
#[derive(Debug)]
pub struct LostMember {
    batch: mpsc::UnboundedSender<LostMemberOutcome>,
    is_sure: bool,
}

/// What a look-up of a lost member of a batch has proved.
enum LostMemberOutcome {
    /// It was not executed, and can be sent again.
    NotExecuted(MemberId),
    /// It does not seem to have been executed.
    Unseen(MemberId),
    /// It was executed.
    Executed,
}

impl LostMember {
    /// Reports that the write was executed. So other members may have been executed too.
    pub fn executed(self) {
        // The batch waits for all its lost members, so the send does not fail.
        let _ = self.batch.send(LostMemberOutcome::Executed);
    }

    /// Marks that the write only seems not to have been executed. It is sent again only if no member was executed.
    pub fn doubt(&mut self) {
        self.is_sure = false;
    }
}

/// The identity of a member in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MemberId {
    /// A member that joins a batch, by its ticket.
    Joining(TicketId),
    /// A member that rejoins its batch, by a unique number.
    Rejoining(u64),
}

/// The members of one operation that have joined a batch, until their leader takes them.
pub struct Registry<O: Batchable>(Mutex<HashMap<MemberId, Member<O>>>);

/// The registries of all operations.
#[derive(Default)]
pub struct Registries {
    pub(in crate::crm) reads: Registry<lead::GetLeadById>,
    pub(in crate::crm) updates: Registry<lead::UpdateLead>,
    pub(in crate::crm) upserts: Registry<lead::CreateOrUpdateLead>,
    pub(in crate::crm) creates: Registry<lead::CreateLead>,
    pub(in crate::crm) activities: Registry<activity::CreateActivity>,
}

impl<O: Batchable> Default for Registry<O> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<O: Batchable> Registry<O> {
    /// Joins a batch. Returns `false` if its leader no longer waits for members.
    pub(super) fn join(&self, place: BatchMember, member: Member<O>) -> bool {
        let id = MemberId::Joining(place.ticket());
        // In the registry first: the leader looks for the member when it gets the ticket.
        self.lock().insert(id, member);
        let has_joined = place.join();
        if !has_joined {
            drop(self.take(id));
        }
        has_joined
    }

    /// Returns the members that join a batch, the leader first. Waits until each has joined or declined, but no longer than
    /// [`JOIN_TIMEOUT`].
    pub(super) async fn collect(&self, joined: JoinedMembers, leader: Member<O>) -> Vec<Member<O>> {
        let tickets = joined.collect(JOIN_TIMEOUT).await;
        let members = tickets
            .into_iter()
            .filter_map(|ticket| self.take(MemberId::Joining(ticket)));
        std::iter::once(leader).chain(members).collect()
    }

    /// Passes a reconciled write back to its batch.
    pub(super) fn rejoin(&self, lost: LostMember, member: Member<O>) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = MemberId::Rejoining(NEXT.fetch_add(1, Ordering::Relaxed));
        self.lock().insert(id, member);
        let reconciled = match lost.is_sure {
            true => LostMemberOutcome::NotExecuted(id),
            false => LostMemberOutcome::Unseen(id),
        };
        // The batch waits for all its lost members, so the send fails only if its task has ended.
        if lost.batch.send(reconciled).is_err() {
            drop(self.take(id));
        }
    }

    /// Lets the members of a batch find out whether they were executed. Returns the members that can be sent again.
    pub(super) async fn reconcile(&self, members: Vec<Member<O>>, error: &Error) -> Vec<Member<O>> {
        let (batch, mut reconciled) = mpsc::unbounded_channel();
        for member in members {
            let lost = LostMember {
                batch: batch.clone(),
                is_sure: true,
            };
            let _ = member.reply.send(Reply::Unknown(error.clone(), lost));
        }
        drop(batch);
        let (mut again, mut unseen, mut is_executed) = (Vec::new(), Vec::new(), false);
        while let Some(outcome) = reconciled.recv().await {
            match outcome {
                LostMemberOutcome::NotExecuted(id) => again.extend(self.take(id)),
                LostMemberOutcome::Unseen(id) => unseen.extend(self.take(id)),
                LostMemberOutcome::Executed => is_executed = true,
            }
        }
        match is_executed {
            false => again.extend(unseen),
            true => reply_all(unseen, error),
        }
        again
    }

    fn take(&self, id: MemberId) -> Option<Member<O>> {
        self.lock().remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MemberId, Member<O>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replies to all with the same error.
pub(super) fn reply_all<O: Batchable>(members: Vec<Member<O>>, error: &Error) {
    members.into_iter().for_each(|member| member.reply(Err(error.clone())));
}
