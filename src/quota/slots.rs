//! The slots of one window. Pure, with `now` as an argument. Does not depend on a queue or a clock.
//!
//! LeadSquared allows N calls in a window of length W, and does not document how it counts. So the strictest way of
//! counting is assumed: no half-open interval of length W contains more than N possible server timestamps of our
//! calls. A call holds one of N slots until its timestamp can no longer be in one window with that of the next holder.
//!
//! With f and b as the minimum times of the request and of the response on the network, a timestamp lies between
//! `sent + f` and `received - b`. The timestamps of the old and the new holder are W apart if
//! `received - b + W <= sent' + f`. So the slot becomes free at `received - (f + b) + W`. Only the *sum* of both times,
//! the minimum round trip, must be known. A call is charged its delay beyond the minimum.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Delays up to this are charged in full, for any margin. This uses a hundredth of the window at most, and the guarantee
/// stays exact.
pub fn cheap(per: Duration) -> Duration {
    (per / 100).max(Duration::from_millis(30))
}

/// The N slots of a window of length W.
#[derive(Debug)]
pub struct WindowSlots {
    limit: usize,
    per: Duration,
    margin: Duration,
    /// Maximum difference between the clocks of LeadSquared's machines.
    disagreement: Duration,
    in_flight: usize,
    /// When the slots of ended calls become free. Past times are removed on the next access.
    freeing: Times,
    /// Until when ended calls may be in one window with a new one.
    lingering: Times,
}

/// How a call that held a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// Nothing was sent, so there is no timestamp.
    Unsent,
    /// A response was received.
    Responded {
        /// When the request was sent.
        sent: Instant,
        /// When the response was received.
        received: Instant,
        /// The minimum round trip of its endpoint.
        least: Duration,
        /// The 95th percentile of its endpoint's round trips. A longer round trip is suspicious.
        p95: Duration,
    },
    /// The request was sent, and there is no response.
    Lost {
        /// When the wait for the response ended. The timestamp is assumed to be no later.
        given_up: Instant,
    },
}

impl WindowSlots {
    /// This number of slots in a window.
    pub fn new(limit: u32, per: Duration) -> Self {
        Self {
            limit: (limit as usize).max(1),
            per,
            margin: cheap(per),
            disagreement: Duration::ZERO,
            in_flight: 0,
            freeing: Times::default(),
            lingering: Times::default(),
        }
    }

    /// Number of slots.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Length of the window.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// Number of slots held now. After a [`WindowSlots::resize`] more may be held than there are.
    pub fn used(&mut self, now: Instant) -> usize {
        self.freeing.forget(now);
        self.in_flight + self.freeing.0.len()
    }

    /// Number of calls that hold a slot and have not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a slot is free.
    pub fn is_free(&mut self, now: Instant) -> bool {
        self.used(now) < self.limit
    }

    /// Number of our calls that may be in one window with a call that is sent now, if the clocks of LeadSquared's
    /// machines differ by the maximum.
    pub fn neighbours(&mut self, now: Instant) -> usize {
        self.lingering.forget(now);
        self.in_flight + self.lingering.0.len()
    }

    /// Takes a slot that [`WindowSlots::is_free`] has promised.
    pub fn take(&mut self) {
        self.in_flight += 1;
    }

    /// Ends a call that was sent in a window of length `per`. From now on it is known how long its slot is held: for the
    /// longer one of that window and the current one.
    pub fn end(&mut self, end: CallEnd, per: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let per = per.max(self.per);
        let (exact, forgiven, slack) = match end {
            CallEnd::Unsent => return,
            CallEnd::Lost { given_up } => (given_up, Duration::ZERO, self.margin.saturating_sub(cheap(self.per))),
            CallEnd::Responded {
                sent,
                received,
                least,
                p95,
            } => {
                let trip = received.saturating_duration_since(sent);
                let delay = trip.saturating_sub(least);
                let usual = p95.saturating_sub(least);
                // Most of the delay of a usual call occurs after its timestamp, so the charge is limited to the
                // margin. If the margin is longer than all usual delays, it is not needed for jitter: all calls are
                // charged the rest of it.
                let forgiven = if trip <= p95 {
                    delay.saturating_sub(self.margin)
                } else {
                    Duration::ZERO
                };
                (
                    sent + delay,
                    forgiven,
                    self.margin.saturating_sub(usual.max(cheap(self.per))),
                )
            }
        };
        let slack = slack.min(self.disagreement);
        self.freeing.add(exact - forgiven + slack + per);
        self.lingering.add(exact + self.disagreement + per);
    }

    /// Changes the number of slots. Held slots stay held.
    pub fn resize(&mut self, limit: u32) {
        self.limit = (limit as usize).max(1);
    }

    /// Changes the length of the window. A longer window holds the slots of earlier calls longer. A shorter one does not
    /// free them earlier.
    pub fn set_per(&mut self, per: Duration) {
        let longer = per.saturating_sub(self.per);
        for times in [&mut self.freeing, &mut self.lingering] {
            times.0.iter_mut().for_each(|at| *at += longer);
        }
        self.per = per;
    }

    /// Sets the maximum charge for the delay of a usual call.
    pub fn set_margin(&mut self, margin: Duration, disagreement: Duration) {
        (self.margin, self.disagreement) = (margin, disagreement);
    }

    /// Holds all slots until then, because an unknown process may have used them.
    pub fn fill(&mut self, until: Instant) {
        let free = self.limit.saturating_sub(self.in_flight + self.freeing.0.len());
        for _ in 0..free {
            self.hold(until);
        }
    }

    /// When the slot of each ended call becomes free.
    pub fn free_at(&mut self, now: Instant) -> Vec<Instant> {
        self.freeing.forget(now);
        self.freeing.0.iter().copied().collect()
    }

    /// Holds a slot until then for a call of a previous process.
    pub fn hold(&mut self, until: Instant) {
        self.freeing.add(until);
        self.lingering.add(until);
    }

    /// When the next slot becomes free by time alone. `None` if one is free, or if calls in progress hold all slots.
    pub fn next_free(&mut self, now: Instant) -> Option<Instant> {
        let surplus = self.used(now).checked_sub(self.limit)?;
        self.freeing.0.get(surplus).copied()
    }

    /// Maximum time until a call with this number of calls ahead is sent, if each call is fast.
    pub fn predicted_wait(&mut self, now: Instant, ahead: usize) -> Duration {
        let used = self.used(now);
        let cycle = self.per + self.margin;
        let rounds = u32::try_from(ahead / self.limit).unwrap_or(u32::MAX);
        // After a resize more slots may be held than there are. The first of them become free unused.
        let turn = used.saturating_sub(self.limit) + ahead % self.limit;
        // In the order of their waits: the free slots, and those of ended calls and of calls in progress, which wait for a cycle.
        let wait = match turn.checked_sub(self.limit.saturating_sub(used)) {
            None => Duration::ZERO,
            Some(held) => {
                let before = self.freeing.0.partition_point(|at| *at < now + cycle);
                let ended = match held {
                    held if held < before => Some(held),
                    held => held.checked_sub(self.in_flight).filter(|held| *held >= before),
                };
                ended.map_or(cycle, |ended| self.freeing.0[ended].saturating_duration_since(now))
            }
        };
        wait.saturating_add(cycle.saturating_mul(rounds))
    }
}

/// Times in ascending order.
#[derive(Debug, Default)]
struct Times(VecDeque<Instant>);

impl Times {
    /// Adds a time. Most times are later than almost all others.
    fn add(&mut self, at: Instant) {
        let later = self.0.iter().rev().take_while(|other| **other > at).count();
        self.0.insert(self.0.len() - later, at);
    }

    /// Removes the times that have passed.
    fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|at| *at <= now) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;
    use proptest::prelude::*;

    const W: Duration = Duration::from_secs(1);
    /// The minimum times of the request and of the response on the network.
    const FORWARD: Duration = Duration::from_millis(3);
    const BACK: Duration = Duration::from_millis(4);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A response after this delay, from an endpoint with this 95th percentile of delays.
    fn responded(sent: Instant, delay: Duration, usual: Duration) -> CallEnd {
        let least = FORWARD + BACK;
        CallEnd::Responded {
            sent,
            received: sent + least + delay,
            least,
            p95: least + usual,
        }
    }

    #[test]
    fn no_more_than_n_slots_can_be_taken_at_once() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(3, W);
        for _ in 0..3 {
            assert!(slots.is_free(now));
            slots.take();
        }
        assert!(!slots.is_free(now));
        assert_eq!(slots.next_free(now), None);
        slots.end(responded(now, ms(10), ms(20)), W);
        assert!(!slots.is_free(now + W));
        assert_eq!(slots.next_free(now), Some(now + W + ms(10)));
        assert!(slots.is_free(now + W + ms(10)));
    }

    #[test]
    fn a_usual_call_is_charged_the_margin_at_most_and_a_suspicious_one_all() {
        let now = Instant::now();
        for (delay, charged) in [(20, 20), (90, 30), (100, 30), (101, 101), (700, 700)] {
            let mut slots = WindowSlots::new(1, W);
            slots.take();
            slots.end(responded(now, ms(delay), ms(100)), W);
            assert_eq!(slots.next_free(now), Some(now + W + ms(charged)), "{delay} ms");
        }
    }

    #[test]
    fn a_margin_beyond_all_usual_delays_is_charged_to_every_call() {
        let now = Instant::now();
        for (margin, disagreement, charged) in [(30, 24, 0), (50, 24, 0), (60, 24, 10), (90, 24, 24)] {
            let mut slots = WindowSlots::new(1, W);
            slots.set_margin(ms(margin), ms(disagreement));
            slots.take();
            slots.end(responded(now, ms(0), ms(50)), W);
            assert_eq!(slots.next_free(now), Some(now + W + ms(charged)), "{margin} ms");
        }
    }

    #[test]
    fn an_unsent_call_gives_its_slot_back_and_a_lost_call_holds_it_for_a_window() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(1, W);
        slots.take();
        slots.end(CallEnd::Unsent, W);
        assert!(slots.is_free(now));
        slots.take();
        let given_up = now + ms(300);
        slots.end(CallEnd::Lost { given_up }, W);
        assert_eq!(slots.next_free(now), Some(now + ms(300) + W));
    }

    #[test]
    fn after_a_resize_the_surplus_slots_become_free_first() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(3, W);
        for delay in [0, 10, 20] {
            slots.take();
            slots.end(responded(now, ms(delay), ms(50)), W);
        }
        slots.resize(1);
        assert_eq!(slots.next_free(now), Some(now + W + ms(20)));
        assert_eq!(slots.predicted_wait(now, 0), W + ms(20));
    }

    #[test]
    fn a_longer_window_holds_its_calls_longer() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(1, W);
        slots.take();
        slots.end(responded(now, ms(0), ms(0)), W);
        slots.set_per(W * 3);
        assert_eq!(slots.next_free(now), Some(now + W * 3));
    }

    #[test]
    fn a_shorter_window_holds_earlier_calls_as_long_as_before() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(2, W);
        slots.take();
        slots.take();
        slots.end(responded(now, ms(0), ms(0)), W);
        slots.set_per(W / 2);
        slots.end(responded(now, ms(10), ms(10)), W);
        assert_eq!(slots.next_free(now), Some(now + W));
        assert_eq!(slots.next_free(now + W), None, "one slot is free");
        assert_eq!(slots.used(now + W + ms(9)), 1);
        slots.take();
        slots.end(responded(now + W, ms(0), ms(0)), W / 2);
        assert_eq!(slots.used(now + W + ms(10)), 1);
        assert_eq!(slots.used(now + W * 3 / 2), 0);
    }

    #[test]
    fn a_filled_window_is_free_at_that_time() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(2, W);
        slots.fill(now + ms(700));
        assert_eq!((slots.used(now), slots.next_free(now)), (2, Some(now + ms(700))));
        assert_eq!(slots.used(now + ms(700)), 0);
    }

    #[test]
    fn held_slots_are_free_one_by_one() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(3, W);
        slots.hold(now + ms(700));
        slots.hold(now + ms(200));
        assert_eq!((slots.used(now), slots.neighbours(now)), (2, 2));
        slots.take();
        assert_eq!(slots.next_free(now), Some(now + ms(200)));
        let mut free_at = slots.free_at(now + ms(200));
        free_at.sort();
        assert_eq!((free_at, slots.in_flight()), (vec![now + ms(700)], 1));
    }

    #[test]
    fn a_call_may_have_neighbours_that_no_longer_hold_a_slot() {
        let now = Instant::now();
        let mut slots = WindowSlots::new(1, W);
        slots.set_margin(ms(30), ms(24));
        slots.take();
        slots.end(responded(now, ms(80), ms(100)), W);
        let free = slots.next_free(now).unwrap();
        assert_eq!(free, now + W + ms(30));
        assert_eq!(slots.neighbours(free), 1);
        assert_eq!(slots.neighbours(now + W + ms(80 + 24)), 0);
    }

    /// One call of a schedule: the pause before it, the delays of its request and its response in microseconds, its
    /// timestamp between the bounds in percent, and its outcome.
    type ScriptedCall = (u64, u64, u64, u64, u8);

    fn calls() -> impl Strategy<Value = Vec<ScriptedCall>> {
        // Mostly high load, sometimes a pause.
        let pause = prop_oneof![8 => 0_u64..2_000, 1 => 0_u64..1_500_000];
        let delay = || prop_oneof![8 => 0_u64..20_000, 1 => 0_u64..900_000];
        prop::collection::vec((pause, delay(), delay(), 0_u64..=100, 0_u8..12), 1..120)
    }

    /// Sends the calls as soon as there are slots, many at a time. Returns the possible server timestamps.
    fn stamps(
        slots: &mut WindowSlots,
        calls: &[ScriptedCall],
        on_end: impl Fn(Instant, &ScriptedCall) -> (Instant, Option<Instant>, CallEnd),
    ) -> Vec<Instant> {
        let mut now = Instant::now();
        let (mut stamps, mut flying) = (Vec::new(), Vec::<(Instant, CallEnd)>::new());
        for call in calls {
            now += Duration::from_micros(call.0);
            loop {
                flying.sort_by_key(|(at, _)| Reverse(*at));
                while flying.last().is_some_and(|(at, _)| *at <= now) {
                    slots.end(flying.pop().unwrap().1, W);
                }
                if slots.is_free(now) {
                    break;
                }
                let landing = flying.last().map(|(at, _)| *at);
                now = [slots.next_free(now), landing].into_iter().flatten().min().unwrap();
            }
            slots.take();
            let (at, stamp, end) = on_end(now, call);
            stamps.extend(stamp);
            flying.push((at, end));
        }
        stamps.sort();
        stamps
    }

    fn fullest_window(stamps: &[Instant]) -> usize {
        let within = |first: &Instant| stamps.iter().filter(|at| *at >= first && **at < *first + W).count();
        stamps.iter().map(within).max().unwrap_or(0)
    }

    fn micros(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// For all outcomes: the timestamp lies anywhere from `sent + FORWARD` to `received - BACK`.
        #[test]
        fn no_window_holds_more_than_n_stamps_of_suspicious_calls(limit in 1_u32..6, calls in calls(), known in 0_u32..=100) {
            // The minimum round trip may be underestimated, never overestimated.
            let least = (FORWARD + BACK) * known / 100;
            let mut slots = WindowSlots::new(limit, W);
            let stamps = stamps(&mut slots, &calls, |sent, &(_, there, back, share, kind)| {
                let delay = micros(there + back);
                let stamp = sent + FORWARD + delay * u32::try_from(share).unwrap() / 100;
                let end = sent + FORWARD + delay + BACK;
                match kind {
                    0 => (end, None, CallEnd::Unsent),
                    1 => (end, Some(stamp), CallEnd::Lost { given_up: end - BACK }),
                    _ => (end, Some(stamp), CallEnd::Responded { sent, received: end, least, p95: least }),
                }
            });
            prop_assert!(fullest_window(&stamps) <= limit as usize);
        }

        /// The same for usual calls, as long as the jitter of the request is within the margin.
        #[test]
        fn no_window_holds_more_than_n_stamps_of_usual_calls_within_the_margin(
            limit in 1_u32..6,
            calls in calls(),
            margin in 0_u64..60,
        ) {
            let mut slots = WindowSlots::new(limit, W);
            slots.set_margin(ms(margin), ms(24));
            let stamps = stamps(&mut slots, &calls, |sent, &(_, there, back, ..)| {
                let there = micros(there).min(ms(margin));
                let end = responded(sent, there + micros(back), ms(900));
                (sent + FORWARD + there + micros(back) + BACK, Some(sent + FORWARD + there), end)
            });
            prop_assert!(fullest_window(&stamps) <= limit as usize);
        }

        /// The same for differing clocks of LeadSquared's machines, once the margin covers the difference.
        #[test]
        fn no_window_holds_more_than_n_stamps_of_disagreeing_clocks(limit in 1_u32..6, calls in calls()) {
            let mut slots = WindowSlots::new(limit, W);
            slots.set_margin(cheap(W) + ms(24), ms(24));
            let stamps = stamps(&mut slots, &calls, |sent, &(_, there, back, share, _)| {
                let end = sent + FORWARD + micros(there + back) + BACK;
                let clock = ms(24) * u32::try_from(share).unwrap() / 100;
                (end, Some(sent + FORWARD + micros(there) + clock), responded(sent, micros(there + back), ms(0)))
            });
            prop_assert!(fullest_window(&stamps) <= limit as usize);
        }

        /// The predicted wait is the one of the slot that is next in turn, in a list of all slots.
        #[test]
        fn the_predicted_wait_is_that_of_the_slot_in_turn(
            limits in (1_u32..6, 1_u32..6),
            ended in prop::collection::vec(0_u64..3_000, 0..8),
            in_flight in 0_usize..8,
            passed in 0_u64..1_500,
            ahead in 0_usize..20,
        ) {
            let mut slots = WindowSlots::new(limits.0, W);
            let start = Instant::now();
            ended.iter().for_each(|after| slots.hold(start + ms(*after)));
            (0..in_flight).for_each(|_| slots.take());
            slots.resize(limits.1);
            let (now, cycle, limit) = (start + ms(passed), W + cheap(W), limits.1 as usize);
            let held = ended.iter().map(|after| ms(*after).saturating_sub(ms(passed))).filter(|wait| !wait.is_zero());
            let mut waits: Vec<Duration> = held.chain(std::iter::repeat_n(cycle, in_flight)).collect();
            waits.resize(waits.len().max(limit), Duration::ZERO);
            waits.sort_unstable();
            let rounds = u32::try_from(ahead / limit).unwrap();
            let expected = waits[waits.len() - limit + ahead % limit] + cycle * rounds;
            prop_assert_eq!(slots.predicted_wait(now, ahead), expected);
        }

        /// Fast calls that arrive together wait no longer than predicted, and not much less.
        #[test]
        fn waits_are_predicted(limit in 1_u32..6, before in calls(), ahead in 0_usize..20) {
            let mut slots = WindowSlots::new(limit, W);
            let mut now = Instant::now();
            for (pause, there, ..) in before {
                now += micros(pause);
                if slots.is_free(now) {
                    slots.take();
                    slots.end(responded(now, micros(there).min(ms(20)), ms(20)), W);
                }
            }
            let predicted = slots.predicted_wait(now, ahead);
            let start = now;
            for _ in 0..=ahead {
                now = slots.next_free(now).unwrap_or(now);
                slots.take();
                slots.end(responded(now, ms(0), ms(20)), W);
            }
            let waited = now - start;
            prop_assert!(waited <= predicted);
            let rounds = u32::try_from(ahead / limit as usize).unwrap();
            prop_assert!(predicted - waited <= cheap(W) * rounds + ms(20));
        }
    }
}
