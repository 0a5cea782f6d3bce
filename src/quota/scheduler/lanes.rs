//! Gathering delays: when a call waits for others of its lane although it could be sent alone, so that they are sent as a
//! batch.

use std::time::Duration;

use tokio::time::Instant;

use super::Scheduler;
use crate::clock;
use crate::quota::Cost;
use crate::quota::lane::Lane;
use crate::quota::queue::TicketRequest;
use crate::quota::window::NextSlot;

/// How long the first call that can only be sent in a batch waits for others while a bulk slot is free.
const GATHERING_DELAY: Duration = Duration::from_millis(5);

impl Scheduler {
    /// Whether a new call waits for others of its lane although a slot is free.
    pub(super) fn needs_gathering_delay(
        &mut self,
        lane: Lane,
        ticket: &TicketRequest,
        endpoint: &'static str,
        now: Instant,
    ) -> bool {
        // Calls that can only be sent in a batch arrive together, and a bulk slot is too scarce for the first of them alone.
        if ticket.cost == Cost::Bulk {
            if self.capacity.bulk.next(now) != NextSlot::Now || now + GATHERING_DELAY >= ticket.deadline {
                return false;
            }
            if !self.queue.is_gathering(lane) {
                self.lanes_due[lane as usize] = Some(now + GATHERING_DELAY);
            }
            return true;
        }
        let Some(due) = self.lanes_due[lane as usize].filter(|due| *due > now) else {
            return false;
        };
        let (limit, free) = (self.capacity.calls.effective(), self.capacity.calls.free(now));
        let usual = self.capacity.estimate(endpoint, now).usual;
        (1..=limit / 2).contains(&free) && due + usual < ticket.deadline
    }

    /// Ends the gathering delay of each lane whose next call is due.
    pub(super) fn end_due_gathering(&mut self, now: Instant) {
        for lane in Lane::ALL {
            if self.queue.is_gathering(lane) && self.lanes_due[lane as usize].is_none_or(|due| due <= now) {
                self.queue.end_gathering(lane);
            }
        }
    }

    /// When the next gathering delay ends.
    pub(super) fn next_gathering_end(&self) -> Option<Instant> {
        let gathering = Lane::ALL.into_iter().filter(|lane| self.queue.is_gathering(*lane));
        gathering.filter_map(|lane| self.lanes_due[lane as usize]).min()
    }

    /// When the next call of a lane is due after one that is sent now. While more than half of the slots are used, the free
    /// slots must last until the next one is free. Otherwise the first calls would use them one by one, and all others
    /// would wait for a window. While half of the slots are free, this is at most the time of two slots.
    pub(super) fn next_of_lane(&mut self, now: Instant) -> Instant {
        let calls = &mut self.capacity.calls;
        let free = calls.free(now);
        let until = calls.predicted_wait(now, free);
        now + until / u32::try_from(free + 1).unwrap_or(u32::MAX)
    }

    /// Whether a call waits for a bulk slot although a slot of its own may be free sooner: the calls of the day have to be
    /// saved, and its deadline allows it.
    pub(super) fn prefers_bulk(&mut self, ticket: &TicketRequest, endpoint: &'static str, now: Instant) -> bool {
        let is_batchable = ticket.cost == Cost::Call && ticket.lane.is_some_and(|lane| lane.cost() == Cost::Bulk);
        if !is_batchable || !self.capacity.daily.is_short(clock::now()) {
            return false;
        }
        let as_bulk = TicketRequest {
            cost: Cost::Bulk,
            ..ticket.clone()
        };
        self.judge_now(&as_bulk, endpoint, now).is_ok()
    }

    /// Whether a batch of this lane can be sent now on a slot of this cost.
    pub(super) fn may_send_batch(&mut self, lane: Lane, cost: Cost, now: Instant) -> bool {
        match lane.cost() {
            Cost::Call => true,
            // A call of bulk cost was granted a bulk slot.
            Cost::Bulk => cost == Cost::Bulk || self.capacity.bulk.next(now) == NextSlot::Now,
        }
    }
}
