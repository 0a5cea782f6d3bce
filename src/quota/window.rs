//! One limit of an account, `calls` or `bulk`: whether a call may go now, or when. Pure; joins the slots and the steering
//! and knows no queue.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Verdict;
use super::controller::{Controller, Refused};
use super::round_trips::RoundTrips;
use super::slots::{End, Slots};
use crate::error::{Limit, Refusal};

/// One limit of an account.
#[derive(Debug)]
pub struct Window {
    slots: Slots,
    controller: Controller,
    trips: HashMap<&'static str, RoundTrips>,
    last_grant: Option<Instant>,
}

/// The right to make one call, to be told what became of it.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Grant {
    /// So many calls of ours might share a window with this one that it could be too many.
    crowded: bool,
}

/// When a call may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Now.
    Now,
    /// Then, if nothing happens before.
    At(Instant),
    /// When a call in flight has ended.
    AfterAnEnd,
}

/// The state of a window at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The limit as it is known now.
    pub limit: Limit,
    /// How many of its calls we allow ourselves.
    pub effective: u32,
    /// How much of a usual call's delay is charged at most.
    pub margin: Duration,
    /// Slots held.
    pub used: usize,
    /// In how long a call may go; `None` where only the end of a call in flight can tell.
    pub free_in: Option<Duration>,
    /// Refused calls so far.
    pub refused: Refused,
    /// How often we held back so far.
    pub holds: u64,
}

impl Window {
    /// A window by that limit, of which so many calls are left to others.
    pub fn new(limit: Limit, reserve: u32) -> Self {
        let controller = Controller::new(limit, reserve);
        let mut window = Self {
            slots: Slots::new(controller.effective(), limit.per),
            controller,
            trips: HashMap::new(),
            last_grant: None,
        };
        window.steer();
        window
    }

    /// Takes the window to be full until then, as a process before may have spent it.
    pub fn full_until(&mut self, until: Instant) {
        self.slots.fill(until);
    }

    /// Takes a slot to be held until then, by a call of a process before.
    pub fn hold(&mut self, until: Instant) {
        self.slots.hold(until);
    }

    /// When each held slot falls free; `None` for a call that has not ended.
    pub fn held(&mut self, now: Instant) -> Vec<Option<Instant>> {
        let free_at = self.slots.free_at(now).into_iter().map(Some);
        free_at
            .chain(std::iter::repeat_n(None, self.slots.in_flight()))
            .collect()
    }

    /// When a call may go.
    pub fn next(&mut self, now: Instant) -> Next {
        let free = if self.slots.is_free(now) {
            Some(now)
        } else {
            self.slots.next_free(now)
        };
        let probed = self.controller.is_probing() && self.slots.in_flight() > 0;
        match free.filter(|_| !probed) {
            None => Next::AfterAnEnd,
            Some(free) => match free.max(self.pause(now)) {
                at if at <= now => Next::Now,
                at => Next::At(at),
            },
        }
    }

    /// The limit as it is known now.
    pub fn limit(&self) -> Limit {
        self.controller.limit()
    }

    /// How many of its calls we allow ourselves.
    pub fn effective(&self) -> usize {
        self.controller.effective() as usize
    }

    /// How many calls may go now. After a [`Next::Now`] it is one at least.
    pub fn free(&mut self, now: Instant) -> usize {
        match self.next(now) {
            Next::Now => self.effective().saturating_sub(self.slots.used(now)).max(1),
            Next::At(_) | Next::AfterAnEnd => 0,
        }
    }

    /// How much too early a call would go now to be spread over the window.
    pub fn too_early(&self, now: Instant) -> Duration {
        let due = self.last_grant.map(|last| last + self.controller.spread());
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// A call takes the slot that [`Window::next`] has promised.
    pub fn granted(&mut self, now: Instant) -> Grant {
        let crowded = self.slots.neighbours(now) >= self.controller.limit().calls as usize;
        self.slots.take();
        self.last_grant = Some(now);
        Grant { crowded }
    }

    /// Nothing was sent.
    pub fn unsent(&mut self, _grant: Grant) {
        self.slots.end(End::Unsent);
    }

    /// The request was sent and given up.
    pub fn unanswered(&mut self, _grant: Grant, given_up: Instant) {
        self.slots.end(End::Unanswered { given_up });
    }

    /// An answer came from that endpoint. The new limit, where the answer names one that was not known. A refused call
    /// may be counted by the server, so it holds its slot like any other.
    pub fn answered(
        &mut self,
        grant: Grant,
        endpoint: &'static str,
        sent: Instant,
        answered: Instant,
        verdict: Verdict,
    ) -> Option<Limit> {
        let trips = self.trips.entry(endpoint).or_default();
        if verdict == Verdict::Accepted {
            trips.learn(sent, answered);
        }
        self.slots.end(End::Answered {
            sent,
            answered,
            least: trips.least(),
            p95: trips.p95(),
        });
        let mut changed = None;
        match verdict {
            Verdict::Accepted => self.controller.accepted(sent),
            Verdict::Refused(Refusal::Daily) => {}
            Verdict::Refused(Refusal::Window(named)) => {
                changed = named.filter(|limit| is_sane(limit) && self.controller.adopt(*limit));
                self.controller
                    .refused(sent, answered, grant.crowded || changed.is_some());
            }
        }
        self.steer();
        changed
    }

    /// How long somebody with so many others ahead of him will wait at most, if each call is quick and none is refused.
    pub fn predicted_wait(&mut self, now: Instant, ahead: usize) -> Duration {
        let slots = self.slots.predicted_wait(now, ahead);
        let pause = self.pause(now).saturating_duration_since(now);
        let gaps = self
            .controller
            .gap()
            .saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
        slots.max(pause.saturating_add(gaps))
    }

    /// The same where all of them are spread over the window: each goes when its slot is free, and a while after the one
    /// before it.
    pub fn spread_wait(&mut self, now: Instant, ahead: usize) -> Duration {
        let gap = self.controller.spread();
        // Behind so many, slots fall free as they are taken.
        let counted = ahead.min(2 * self.effective());
        let mut wait = self.too_early(now);
        for at in 0..=counted {
            let due = if at == 0 { wait } else { wait.saturating_add(gap) };
            wait = due.max(self.predicted_wait(now, at));
        }
        let rest = u32::try_from(ahead - counted).unwrap_or(u32::MAX);
        let wait = wait.saturating_add(gap.saturating_mul(rest));
        wait.max(self.predicted_wait(now, ahead))
    }

    /// The state at this moment.
    pub fn snapshot(&mut self, now: Instant) -> Snapshot {
        Snapshot {
            limit: self.controller.limit(),
            effective: self.controller.effective(),
            margin: self.controller.margin(),
            used: self.slots.used(now),
            free_in: match self.next(now) {
                Next::Now => Some(Duration::ZERO),
                Next::At(at) => Some(at - now),
                Next::AfterAnEnd => None,
            },
            refused: self.controller.refused_so_far(),
            holds: self.controller.holds(),
        }
    }

    /// Until when nothing goes even where a slot is free.
    fn pause(&mut self, now: Instant) -> Instant {
        let held = self.controller.held_until().unwrap_or(now);
        // After a calm half of the slots may go in one burst.
        let spaced = self.slots.used(now) * 2 > self.slots.limit();
        let gap = self
            .last_grant
            .filter(|_| spaced)
            .map_or(now, |last| last + self.controller.gap());
        held.max(gap)
    }

    fn steer(&mut self) {
        let controller = &self.controller;
        if self.slots.per() != controller.limit().per {
            self.slots.stretch(controller.limit().per);
        }
        self.slots.resize(controller.effective());
        self.slots.set_margin(controller.margin(), controller.disagreement());
    }
}

/// More or less than any plan has is a text that was misread.
fn is_sane(limit: &Limit) -> bool {
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
    (1..=10_000).contains(&limit.calls) && (least..=most).contains(&limit.per)
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Duration = Duration::from_secs(5);
    const TRIP: Duration = Duration::from_millis(80);
    const REFUSED: Verdict = Verdict::Refused(Refusal::Window(None));

    fn limit(calls: u32) -> Limit {
        Limit { calls, per: W }
    }

    /// Takes what can be taken now.
    fn burst(window: &mut Window, now: Instant) -> Vec<Grant> {
        std::iter::from_fn(|| (window.next(now) == Next::Now).then(|| window.granted(now))).collect()
    }

    fn call(window: &mut Window, now: Instant, verdict: Verdict) -> Option<Limit> {
        let grant = window.granted(now);
        window.answered(grant, "Leads.GetById", now, now + TRIP, verdict)
    }

    #[test]
    fn a_burst_of_n_goes_when_idle() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        assert_eq!(burst(&mut window, now).len(), 25);
        assert_eq!(window.next(now), Next::AfterAnEnd);
        assert_eq!(window.snapshot(now).free_in, None);
    }

    #[test]
    fn a_restarted_window_is_full_until_then() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        window.full_until(now + W / 2);
        assert_eq!(window.next(now), Next::At(now + W / 2));
        assert_eq!(window.predicted_wait(now, 30), W / 2 + W + Duration::from_millis(50));
        assert_eq!(burst(&mut window, now + W / 2).len(), 25);
    }

    #[test]
    fn a_refusal_in_a_window_that_is_not_crowded_is_foreign() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        call(&mut window, now, REFUSED);
        let after = window.snapshot(now + TRIP);
        assert_eq!(after.refused, Refused { own: 0, foreign: 1 });
        assert_eq!((after.effective, after.holds), (19, 1));
        assert!(after.free_in > Some(W / 5), "{after:?}");
    }

    #[test]
    fn a_refusal_of_a_call_right_behind_a_whole_window_is_our_own() {
        let mut window = Window::new(limit(2), 0);
        let now = Instant::now();
        for _ in 0..2 {
            call(&mut window, now, Verdict::Accepted);
        }
        let Next::At(free) = window.next(now + TRIP) else {
            panic!("the window is full")
        };
        call(&mut window, free, REFUSED);
        let after = window.snapshot(free + TRIP);
        assert_eq!(after.refused, Refused { own: 1, foreign: 0 });
        assert_eq!(after.effective, 2);
        // A second later the two calls before cannot explain it any more.
        call(&mut window, free + Duration::from_secs(1), REFUSED);
        assert_eq!(window.snapshot(free).refused, Refused { own: 1, foreign: 1 });
    }

    #[test]
    fn a_named_limit_is_adopted_and_reported_once_and_shrinks_nothing() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        let named = Limit { calls: 10, per: W * 2 };
        let refusal = Verdict::Refused(Refusal::Window(Some(named)));
        assert_eq!(call(&mut window, now, refusal), Some(named));
        assert_eq!(call(&mut window, now, refusal), None);
        let after = window.snapshot(now);
        assert_eq!((after.limit, after.effective), (named, 10));
        assert_eq!(
            window.snapshot(now + W * 3 / 2).used,
            2,
            "the calls before are held for the named window"
        );
        let odd = Verdict::Refused(Refusal::Window(Some(limit(0))));
        assert_eq!(call(&mut window, now, odd), None);
    }

    #[test]
    fn after_four_refusals_in_a_row_one_probe_goes_at_a_time() {
        let mut window = Window::new(limit(25), 0);
        let mut now = Instant::now();
        for _ in 0..4 {
            call(&mut window, now, REFUSED);
            let Next::At(next) = window.next(now + TRIP) else {
                panic!("held")
            };
            now = next;
        }
        let probe = burst(&mut window, now);
        assert_eq!(probe.len(), 1);
        window.answered(probe[0], "Leads.GetById", now, now + TRIP, Verdict::Accepted);
        assert!(burst(&mut window, now + TRIP).len() > 1);
    }

    #[test]
    fn an_unanswered_probe_is_followed_by_another() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        for n in 0..4 {
            call(&mut window, now + W * n, REFUSED);
        }
        let later = now + W * 6;
        let probe = burst(&mut window, later);
        window.unanswered(probe[0], later + W);
        assert_eq!(burst(&mut window, later + W).len(), 1);
    }

    #[test]
    fn calls_are_spaced_in_a_rush_while_others_use_the_account() {
        let mut window = Window::new(limit(10), 0);
        let mut now = Instant::now();
        call(&mut window, now, REFUSED);
        now += W * 3;
        assert_eq!(
            burst(&mut window, now).len(),
            4,
            "half of seven, and the one that is more"
        );
        let gap = W.mul_f64(0.95) / 7;
        assert_eq!(window.next(now), Next::At(now + gap));
        assert!(window.predicted_wait(now, 3) >= gap * 4);
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "with --nocapture it says how many windows it takes")]
    fn a_saturated_window_is_whole_again_ten_clean_windows_after_a_flood_of_refusals() {
        for calls in [2, 5, 25, 72] {
            let mut window = Window::new(limit(calls), 0);
            let mut now = Instant::now();
            let floor = (calls / 5).max(1);
            while window.snapshot(now).effective > floor {
                call(&mut window, now, REFUSED);
                now += W;
            }
            now += W * 2;
            let (begin, mut ends) = (now, Vec::<(Instant, Grant)>::new());
            while window.snapshot(now).effective < calls {
                ends.extend(burst(&mut window, now).into_iter().map(|grant| (now, grant)));
                let next = match window.next(now) {
                    Next::At(at) => Some(at),
                    Next::Now | Next::AfterAnEnd => None,
                };
                let answer = ends.first().map(|(sent, _)| *sent + TRIP);
                now = [next, answer].into_iter().flatten().min().unwrap();
                if answer == Some(now) {
                    let (sent, grant) = ends.remove(0);
                    window.answered(grant, "Leads.GetById", sent, now, Verdict::Accepted);
                }
            }
            let windows = (now - begin).div_duration_f64(W);
            println!("{calls} calls: whole again after {windows:.2} clean windows");
            assert!((7.0..=10.0).contains(&windows), "{calls} calls: {windows}");
        }
    }

    #[test]
    fn who_is_spread_waits_a_gap_for_each_ahead_or_for_his_slot() {
        let mut window = Window::new(limit(10), 0);
        let now = Instant::now();
        let gap = W.mul_f64(0.95) / 10;
        let _grant = window.granted(now);
        assert_eq!(window.spread_wait(now + TRIP, 3), gap * 4 - TRIP);
        burst(&mut window, now);
        let slot = window.predicted_wait(now + TRIP, 0);
        assert_eq!(window.spread_wait(now + TRIP, 3), slot + gap * 3);
    }

    #[test]
    fn a_call_right_behind_another_is_too_early_to_be_spread() {
        let mut window = Window::new(limit(10), 0);
        let now = Instant::now();
        assert_eq!(window.too_early(now), Duration::ZERO);
        assert_eq!(burst(&mut window, now).len(), 10, "it may go nevertheless");
        let gap = W.mul_f64(0.95) / 10;
        assert_eq!(window.too_early(now + TRIP), gap - TRIP);
        assert_eq!(window.too_early(now + gap), Duration::ZERO);
    }

    #[test]
    fn the_end_of_the_day_tells_nothing_about_the_window() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        call(&mut window, now, Verdict::Refused(Refusal::Daily));
        let after = window.snapshot(now);
        assert_eq!(
            (after.refused, after.effective, after.used),
            (Refused::default(), 25, 1)
        );
    }

    #[test]
    fn what_was_not_sent_costs_nothing() {
        let mut window = Window::new(limit(1), 0);
        let now = Instant::now();
        let grant = window.granted(now);
        window.unsent(grant);
        assert_eq!(window.next(now), Next::Now);
    }
}
