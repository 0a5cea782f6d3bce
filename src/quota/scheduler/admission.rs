//! Admission: adds a call to the queue, or refuses it at once with the time after which to retry.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::capacity::drift;
use super::{Granted, SLOT, Scheduler, WaitingCall};
use crate::clock;
use crate::context::{RequestContext, deadline_exceeded};
use crate::error::{Error, ErrorKind, Result};
use crate::quota::latency::LatencyEstimate;
use crate::quota::queue::{Infeasible, Receipt, Supply, TicketId, TicketRequest, WriteKey};
use crate::quota::window::NextSlot;
use crate::quota::{Cost, SlotRequest};

/// Maximum number of counted retries of calls that found the queue full.
const MAX_FULL_RETRIES: usize = 4_096;

/// A call in the queue: its ticket, and where its grant arrives.
type WaitingTicket = (TicketId, oneshot::Receiver<Result<Granted>>);

impl Scheduler {
    /// Adds a call to the queue. Fails at once if the call would not be served in time.
    pub(super) fn enter(
        &mut self,
        context: &RequestContext,
        request: &SlotRequest,
        receipt: Option<Receipt>,
        now: Instant,
    ) -> Result<WaitingTicket> {
        if let Err(error) = self.check(context, now) {
            self.queue.done_all(receipt);
            return Err(error);
        }
        let (grant, granted) = oneshot::channel();
        let mut call = WaitingCall {
            grant,
            cost: request.cost,
            endpoint: request.endpoint,
            batch: request.batch,
        };
        // A call that was granted a slot before is always admitted.
        if let Some(mut receipt) = receipt {
            let id = receipt.id();
            receipt.set_lane(call.batch.map(|batch| batch.lane));
            self.queue.requeue(receipt, call, now);
            return Ok((id, granted));
        }
        let mut ticket = ticket_request(context, request);
        if self.prefers_bulk(&ticket, request.endpoint, now) {
            (ticket.cost, call.cost) = (Cost::Bulk, Cost::Bulk);
        } else {
            self.admit(&ticket, request.endpoint, now)?;
        }
        let gathers = ticket
            .lane
            .is_some_and(|lane| self.needs_gathering_delay(lane, &ticket, request.endpoint, now));
        match self.queue.push(ticket, call, now) {
            Ok(pushed) => {
                if gathers {
                    self.queue.start_gathering(pushed.id);
                }
                if let Some((_, dropped)) = pushed.dropped {
                    let _ = dropped.grant.send(Err(self.queue_full(request.cost, now)));
                }
                Ok((pushed.id, granted))
            }
            Err(_) => Err(self.queue_full(request.cost, now)),
        }
    }

    /// Adds a call to the queue if it is not expected to wait there.
    pub(super) fn try_enter(
        &mut self,
        context: &RequestContext,
        request: &SlotRequest,
        if_idle: bool,
        now: Instant,
    ) -> Option<WaitingTicket> {
        self.check(context, now).ok()?;
        if self.capacity.breaker.next(now) != NextSlot::Now {
            return None;
        }
        let calls = &mut self.capacity.calls;
        let min_free = if if_idle { calls.effective().div_ceil(2) } else { 1 };
        let is_free = calls.free(now) >= min_free;
        let usual = self.capacity.estimate(request.endpoint, now).usual;
        self.full_retries
            .iter_mut()
            .for_each(|retries| retries.retain(|due| *due > now));
        if self.full_retries.iter().any(|retries| !retries.is_empty()) {
            return None;
        }
        if !is_free || now + usual >= context.deadline || !self.queue.has_room(&context.caller, now) {
            return None;
        }
        let (grant, granted) = oneshot::channel();
        let call = WaitingCall {
            grant,
            cost: request.cost,
            endpoint: request.endpoint,
            batch: None,
        };
        let ticket = TicketRequest {
            caller: context.caller.clone(),
            criticality: context.criticality,
            cost: request.cost,
            keys: Vec::new(),
            position: None,
            deadline: context.deadline,
            lane: None,
        };
        Some((self.queue.push(ticket, call, now).ok()?.id, granted))
    }

    /// Whether a call would be admitted to the queue now.
    pub(super) fn would_admit(&mut self, context: &RequestContext, request: &SlotRequest, now: Instant) -> bool {
        let ticket = ticket_request(context, request);
        self.check(context, now).is_ok() && self.judge_now(&ticket, request.endpoint, now).is_ok()
    }

    /// Fails if no call can be admitted: the process is shutting down, the tenant moves or is paused, the day is used up, or the deadline
    /// has passed.
    fn check(&mut self, context: &RequestContext, now: Instant) -> Result<()> {
        if let Some(reason) = self.closed {
            return Err(reason.error());
        }
        if self.is_paused {
            return Err(ErrorKind::TenantPaused.into());
        }
        if let Some(retry_after) = self.capacity.daily.refusal(clock::now(), context.criticality) {
            return Err(ErrorKind::DailyBudgetExhausted { retry_after }.into());
        }
        if now >= context.deadline {
            return Err(deadline_exceeded(SLOT));
        }
        Ok(())
    }

    /// Fails if a call would not be served in time. The error says when to retry.
    fn admit(&mut self, ticket: &TicketRequest, endpoint: &'static str, now: Instant) -> Result<()> {
        let estimate = self.capacity.estimate(endpoint, now);
        let supply = self.capacity.supply(now);
        let Err(infeasible) = self.judge(ticket, &estimate, &supply, now) else {
            return Ok(());
        };
        let retry_after = if infeasible.is_too_slow {
            let (timeout, window) = (ticket.deadline.saturating_duration_since(now), supply.window);
            let latency = self.capacity.latency(endpoint);
            // Without a probe, an endpoint that is fast again would never be noticed. A probe that waits for a slot until
            // its deadline would not help.
            if infeasible.wait <= timeout / 2 && latency.probe(now, window) {
                return Ok(());
            }
            let retry_after = latency.retry_after(timeout, now, window).max(infeasible.wait);
            retry_after.max(Duration::from_millis(1))
        } else {
            self.retry_after(ticket, &estimate, &supply, now)
        };
        let breaker = &self.capacity.breaker;
        Err(match (infeasible.by_own_cap, breaker.is_open()) {
            (true, _) => ErrorKind::CallerLimit { retry_after },
            (false, true) => ErrorKind::BreakerOpen {
                retry_after: retry_after.max(breaker.wait(now)),
            },
            (false, false) => ErrorKind::DeadlineInfeasible { retry_after },
        }
        .into())
    }

    /// Whether a ticket would be served in time, with the latencies and the supply of this moment.
    pub(super) fn judge_now(
        &mut self,
        ticket: &TicketRequest,
        endpoint: &'static str,
        now: Instant,
    ) -> std::result::Result<(), Infeasible> {
        let (estimate, supply) = (self.capacity.estimate(endpoint, now), self.capacity.supply(now));
        self.judge(ticket, &estimate, &supply, now)
    }

    fn judge(
        &mut self,
        ticket: &TicketRequest,
        estimate: &LatencyEstimate,
        supply: &Supply,
        now: Instant,
    ) -> std::result::Result<(), Infeasible> {
        let Self { queue, capacity, .. } = self;
        // A flood of the lower two classes is paced, and so are the calls behind it.
        let is_paced = !ticket.criticality.is_upper() && queue.is_flooded(supply);
        let mut waits = capacity.waits(is_paced, now);
        let wait = |cost, ahead| waits.wait(now, cost, ahead);
        queue.admit(ticket, estimate, supply, now, wait).map(drop)
    }

    /// The time after which a call that is refused now will be admitted.
    fn retry_after(
        &mut self,
        ticket: &TicketRequest,
        estimate: &LatencyEstimate,
        supply: &Supply,
        now: Instant,
    ) -> Duration {
        let Self { queue, capacity, .. } = self;
        let timeout = ticket.deadline.saturating_duration_since(now);
        // Calls with more time than a window may become a flood until then.
        let is_paced = !ticket.criticality.is_upper() && (timeout > supply.window || queue.is_flooded(supply));
        let drift = drift(estimate, supply.window);
        let mut waits = capacity.waits(is_paced, now);
        let wait = |cost, ahead| waits.wait(now, cost, ahead);
        queue.retry_after(ticket, estimate, drift, supply, now, wait)
    }

    /// The error of a call that finds the queue full, with the time after which to retry.
    fn queue_full(&mut self, cost: Cost, now: Instant) -> Error {
        let window = match cost {
            Cost::Call => &mut self.capacity.calls,
            Cost::Bulk => &mut self.capacity.bulk,
        };
        // Each granted slot makes room for one more call. The calls that were refused before and are to retry take that room
        // first.
        let retries = &mut self.full_retries[cost as usize];
        retries.retain(|due| *due > now);
        let ahead = u32::try_from(retries.len()).unwrap_or(u32::MAX);
        let state = window.snapshot(now);
        let slot_time = state.limit.per / state.effective.max(1);
        let rounds = ahead / state.effective.max(1) + 1;
        let slot =
            window.predicted_wait(now, retries.len()) + drift(&LatencyEstimate::default(), state.limit.per) * rounds;
        let retry_after = slot
            .max(slot_time.saturating_mul(ahead + 1))
            .max(self.capacity.breaker.wait(now));
        if retries.len() < MAX_FULL_RETRIES {
            retries.push(now + retry_after);
        }
        ErrorKind::QueueFull { retry_after }.into()
    }
}

/// The ticket of a call.
fn ticket_request(context: &RequestContext, request: &SlotRequest) -> TicketRequest {
    TicketRequest {
        caller: context.caller.clone(),
        criticality: context.criticality,
        cost: request.cost,
        keys: request.keys.iter().map(|key| WriteKey::of(key)).collect(),
        position: context.position.filter(|_| !request.keys.is_empty()),
        deadline: context.deadline,
        lane: request.batch.map(|batch| batch.lane),
    }
}
