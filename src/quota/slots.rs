//! The slots of one window: pure bookkeeping with `now` as an argument, which knows no queue and no clock.
//!
//! LeadSquared allows N calls in W and does not say how it counts, so the stricter promise is kept: no half-open interval
//! of length W holds more than N possible server stamps of ours. A call holds one of N slots until its stamp can no
//! longer share a window with the next user's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::Instant;

/// N slots of a window of length W.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    per: Duration,
    margin: Duration,
    in_flight: usize,
    /// When the slots of finished calls fall free. Past ones are dropped when somebody looks.
    freeing: BinaryHeap<Reverse<Instant>>,
}

/// How a call that held a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was sent, so there is no stamp.
    Unsent,
    /// An answer came.
    Answered {
        /// When the request was sent.
        sent: Instant,
        /// When the answer came.
        answered: Instant,
    },
    /// The request was sent and given up.
    Unanswered {
        /// When it was given up: its stamp is taken to be no later.
        given_up: Instant,
    },
}

impl Slots {
    /// So many slots in a window, each held a margin longer than the window.
    pub fn new(limit: u32, per: Duration, margin: Duration) -> Self {
        Self {
            limit: (limit as usize).max(1),
            per,
            margin,
            in_flight: 0,
            freeing: BinaryHeap::new(),
        }
    }

    /// How many slots there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The window's length.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// How many slots are held now.
    pub fn used(&mut self, now: Instant) -> usize {
        while self.freeing.peek().is_some_and(|Reverse(at)| *at <= now) {
            self.freeing.pop();
        }
        self.in_flight + self.freeing.len()
    }

    /// Whether a slot is free.
    pub fn is_free(&mut self, now: Instant) -> bool {
        self.used(now) < self.limit
    }

    /// Takes a slot that [`Slots::is_free`] has promised.
    pub fn take(&mut self) {
        self.in_flight += 1;
    }

    /// A call has ended: from now on it is known how long its slot is held.
    pub fn end(&mut self, end: End) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let free_at = match end {
            End::Unsent => return,
            End::Unanswered { given_up } => given_up + self.per + self.margin,
            End::Answered { sent, answered } => {
                // The stamp is no later than the answer and the next user's no earlier than its sending, so this is safe
                // whatever the network does. The margin is for clocks that differ in pace.
                (sent + self.margin).max(answered) + self.per
            }
        };
        self.freeing.push(Reverse(free_at));
    }

    /// From now on there are this many slots; those held stay held.
    pub fn resize(&mut self, limit: u32) {
        self.limit = (limit as usize).max(1);
    }

    /// When the next slot falls free by itself; `None` where one is free, or where only calls in flight hold them.
    pub fn next_free(&mut self, now: Instant) -> Option<Instant> {
        if self.is_free(now) {
            return None;
        }
        self.freeing.peek().map(|Reverse(at)| *at)
    }

    /// How long somebody with so many others ahead of him will wait at most, if each call is quick.
    pub fn predicted_wait(&mut self, now: Instant, ahead: usize) -> Duration {
        let used = self.used(now);
        let cycle = self.per + self.margin;
        let mut waits = vec![Duration::ZERO; self.limit.saturating_sub(used)];
        waits.extend(self.freeing.iter().map(|Reverse(at)| at.saturating_duration_since(now)));
        waits.extend(std::iter::repeat_n(cycle, self.in_flight));
        waits.sort_unstable();
        // After a resize more slots may be held than there are; the first of them fall free unused.
        let surplus = waits.len().saturating_sub(self.limit);
        let turn = surplus + ahead % self.limit;
        let rounds = u32::try_from(ahead / self.limit).unwrap_or(u32::MAX);
        let wait = waits.get(turn).copied().unwrap_or(cycle);
        wait.saturating_add(cycle.saturating_mul(rounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W: Duration = Duration::from_secs(5);
    const M: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn answered(sent: Instant, round_trip: Duration) -> End {
        End::Answered {
            sent,
            answered: sent + round_trip,
        }
    }

    #[test]
    fn a_burst_of_n_goes_at_once_and_no_more() {
        let now = Instant::now();
        let mut slots = Slots::new(3, W, M);
        for _ in 0..3 {
            assert!(slots.is_free(now));
            slots.take();
        }
        assert!(!slots.is_free(now));
        assert_eq!(slots.next_free(now), None);
        slots.end(answered(now, ms(10)));
        assert!(!slots.is_free(now + W));
        assert_eq!(slots.next_free(now), Some(now + W + M));
        assert!(slots.is_free(now + W + M));
    }

    #[test]
    fn a_slow_answer_holds_its_slot_for_a_window_more() {
        let now = Instant::now();
        let mut slots = Slots::new(1, W, M);
        slots.take();
        slots.end(answered(now, ms(320)));
        assert_eq!(slots.next_free(now), Some(now + W + ms(320)));
    }

    #[test]
    fn an_unsent_call_gives_its_slot_back() {
        let now = Instant::now();
        let mut slots = Slots::new(1, W, M);
        slots.take();
        slots.end(End::Unsent);
        assert!(slots.is_free(now));
    }

    #[test]
    fn waits_are_predicted_by_turns() {
        let now = Instant::now();
        let mut slots = Slots::new(2, W, M);
        assert_eq!(slots.predicted_wait(now, 1), Duration::ZERO);
        assert_eq!(slots.predicted_wait(now, 2), W + M);
        slots.take();
        slots.end(answered(now, ms(1)));
        assert_eq!(slots.predicted_wait(now + ms(50), 0), Duration::ZERO);
        assert_eq!(slots.predicted_wait(now + ms(50), 1), W);
        assert_eq!(slots.predicted_wait(now + ms(50), 3), W * 2 + M);
        slots.resize(1);
        slots.take();
        assert_eq!(slots.predicted_wait(now + ms(50), 0), W + M);
    }

    proptest! {
        /// Whatever the calls do, no interval of length W holds more than N stamps, wherever in its call each stamp falls.
        #[test]
        fn no_window_holds_more_than_n_possible_stamps(
            limit in 1_u32..6,
            calls in prop::collection::vec((0_u64..400, 1_u64..900, 1_u64..100, 0_u8..4), 1..80),
        ) {
            // The server stamps after at least `FORWARD`, and its answer takes at least `BACK`.
            const FORWARD: u64 = 3;
            const BACK: u64 = 4;
            let per = ms(1000);
            let mut slots = Slots::new(limit, per, M);
            let mut now = Instant::now();
            let mut stamps = Vec::new();
            for (idle, spread, share, kind) in calls {
                now += ms(idle);
                while !slots.is_free(now) {
                    now += ms(1);
                }
                slots.take();
                let last = now + ms(FORWARD + spread * share / 100);
                let end = match kind {
                    0 => End::Unanswered { given_up: last },
                    _ => answered(now, ms(FORWARD + spread + BACK)),
                };
                stamps.push(last);
                slots.end(end);
            }
            stamps.sort();
            for (i, first) in stamps.iter().enumerate() {
                let within = stamps[i..].iter().filter(|at| **at < *first + per).count();
                prop_assert!(within <= limit as usize, "{within} stamps in one window of {limit}");
            }
        }
    }
}
