//! The handles of the scheduler: slots, the roles in a batch, and the claims on keys. A handle that is dropped releases its
//! slot or keys.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::capacity::HeldCapacity;
use super::{SharedScheduler, WaitingCall};
use crate::context::Position;
use crate::quota::Verdict;
use crate::quota::breaker::{BreakerChange, BreakerSignal};
use crate::quota::queue::{Receipt, TicketId};

/// A granted request for a slot: how the call is to be sent.
pub enum Granted {
    /// By its own endpoint.
    Alone(Slot),
    /// By the batch endpoint of its lane, together with the members that [`Slot::notify_members`] yields.
    BatchLeader(Slot),
    /// As a member of a batch, whose leader waits for it.
    BatchMember(BatchMember),
}

/// The right to send one call. Its holder reports the outcome. A slot that is dropped after the request was sent counts as
/// one whose response was lost.
pub struct Slot {
    pub(super) shared: Arc<SharedScheduler>,
    pub(super) held: Option<HeldSlot>,
    pub(super) endpoint: &'static str,
    pub(super) sent: Option<Instant>,
    pub(super) is_batch: bool,
    /// The members of the batch. They still wait until [`Slot::notify_members`].
    pub(super) members: Vec<(Receipt, WaitingCall)>,
}

/// What a slot holds: capacity, and the keys of its calls.
pub(super) struct HeldSlot {
    pub(super) capacity: HeldCapacity,
    pub(super) receipts: Vec<Receipt>,
}

/// The place of a call in a batch. Dropping it declines the place.
pub struct BatchMember {
    ticket: TicketId,
    leader: mpsc::UnboundedSender<TicketId>,
}

/// The members of a batch that join it, by ticket.
pub struct JoinedMembers(mpsc::UnboundedReceiver<TicketId>);

/// The claim of a call that was granted a slot: it holds the call's keys until it is dropped. If LeadSquared refused the
/// call, the claim moves the call to the head of the queue.
pub struct Requeue {
    pub(super) shared: Arc<SharedScheduler>,
    pub(super) receipt: Option<Receipt>,
}

/// A position in the order of the writes to some keys. The calls of one write name it (`RequestContext::position`). Later
/// writes to these keys are sent after it is dropped.
pub struct Reservation {
    pub(super) shared: Arc<SharedScheduler>,
    pub(super) position: Position,
}

/// A call that waits in the queue. Dropping it removes the call from the queue.
pub(super) struct QueuedCall<'a> {
    pub(super) shared: &'a SharedScheduler,
    pub(super) id: TicketId,
}

impl Slot {
    /// Records that the request is about to be sent.
    pub fn sent(&mut self) {
        self.sent = Some(Instant::now());
    }

    /// Reports to the circuit breaker what the response, or its absence, says about LeadSquared. Returns what this changed.
    /// To be called before the outcome is reported.
    pub fn judged(&mut self, signal: &BreakerSignal) -> Option<BreakerChange> {
        let held = self.held.as_mut()?;
        let now = Instant::now();
        let sent = self.sent.unwrap_or(now);
        let mut scheduler = self.shared.lock();
        let probe = held.capacity.probe.take();
        scheduler.capacity.breaker.signal(probe, sent, signal, now)
    }

    /// Notifies the members of the batch that they may join it.
    pub fn notify_members(&mut self) -> JoinedMembers {
        let (leader, joined) = mpsc::unbounded_channel();
        let mut cancelled = Vec::new();
        for (receipt, call) in self.members.drain(..) {
            let member = BatchMember {
                ticket: receipt.id(),
                leader: leader.clone(),
            };
            match (call.grant.send(Ok(Granted::BatchMember(member))), &mut self.held) {
                (Ok(()), Some(held)) => held.receipts.push(receipt),
                _ => cancelled.push(receipt),
            }
        }
        if !cancelled.is_empty() {
            self.shared.update(|scheduler| scheduler.queue.done_all(cancelled));
        }
        JoinedMembers(joined)
    }

    /// The ticket of the call that was granted the slot.
    pub fn ticket(&self) -> Option<TicketId> {
        Some(self.held.as_ref()?.receipts.first()?.id())
    }

    /// Reports that a response was received. Returns the claims of the calls: of a refused call, and of each call of a batch. A call
    /// of a batch keeps its keys because the results of the other members are not known yet.
    pub fn responded(mut self, verdict: Verdict) -> Vec<Requeue> {
        let Some(HeldSlot { mut capacity, receipts }) = self.held.take() else {
            return Vec::new();
        };
        let received = Instant::now();
        let sent = self.sent.unwrap_or(received);
        let receipts = self.shared.update(|scheduler| {
            // A probe whose response was not judged.
            let probe = capacity.probe.take();
            probe
                .into_iter()
                .for_each(|probe| scheduler.capacity.breaker.lost(probe, received));
            scheduler
                .capacity
                .responded(capacity, self.endpoint, sent, received, verdict);
            if verdict == Verdict::Accepted && !self.is_batch {
                scheduler.queue.done_all(receipts);
                return Vec::new();
            }
            receipts
        });
        let requeue = |receipt| Requeue {
            shared: self.shared.clone(),
            receipt: Some(receipt),
        };
        receipts.into_iter().map(requeue).collect()
    }

    /// Reports that nothing reached LeadSquared. The slot is free again.
    pub fn unsent(mut self) {
        if let Some(held) = self.held.take() {
            self.shared.update(|scheduler| scheduler.unsent(held));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        let (is_sent, members) = (self.sent.is_some(), std::mem::take(&mut self.members));
        self.shared.update(|scheduler| {
            let now = Instant::now();
            // The members of a batch whose leader was cancelled continue to wait.
            for (receipt, call) in members {
                scheduler.queue.requeue(receipt, call, now);
            }
            match is_sent {
                true => scheduler.lost(held, now),
                false => scheduler.unsent(held),
            }
        });
    }
}

impl BatchMember {
    /// The ticket of the call.
    pub fn ticket(&self) -> TicketId {
        self.ticket
    }

    /// Joins the batch. Returns `false` if its leader no longer waits for members.
    pub fn join(self) -> bool {
        self.leader.send(self.ticket).is_ok()
    }
}

impl JoinedMembers {
    /// Returns the tickets of the members that joined, in the order in which they joined. Waits until each member has joined or
    /// declined, but no longer than the limit. After that, no member can join.
    pub async fn collect(mut self, limit: Duration) -> Vec<TicketId> {
        let mut joined = Vec::new();
        let joining = async {
            while let Some(ticket) = self.0.recv().await {
                joined.push(ticket);
            }
        };
        let _timed_out = tokio::time::timeout(limit, joining).await;
        self.0.close();
        while let Ok(ticket) = self.0.try_recv() {
            joined.push(ticket);
        }
        joined
    }
}

impl Requeue {
    /// The ticket of the call.
    pub fn ticket(&self) -> Option<TicketId> {
        Some(self.receipt.as_ref()?.id())
    }
}

impl Drop for Requeue {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            self.shared.update(|scheduler| scheduler.queue.done(receipt));
        }
    }
}

impl Reservation {
    /// The position that the calls of the write name.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.update(|scheduler| scheduler.queue.release(self.position));
    }
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        // The removed call is dropped after the lock is released: it may hold a slot, whose drop locks too.
        let _removed = self.shared.lock().queue.remove(self.id);
    }
}
