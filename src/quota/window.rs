//! One limit of an account, `calls` or `bulk`: whether a call can be sent now, or when. Pure, with `now` as an
//! argument. Combines `slots` (which slots are held), `round_trips` and `controller` (how many slots are used). Does not
//! depend on a queue.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Verdict;
use super::controller::{Controller, RefusalCounts};
use super::round_trips::RoundTrips;
use super::slots::{CallEnd, WindowSlots};
use super::utilization::WindowUse;
use crate::domain::handover::LimitHandover;
use crate::error::{Limit, Refusal};

/// One limit of an account.
#[derive(Debug)]
pub struct Window {
    /// The limit in the settings. LeadSquared may have named another one since.
    configured: Limit,
    slots: WindowSlots,
    controller: Controller,
    trips: HashMap<&'static str, RoundTrips>,
    last_grant: Option<Instant>,
    /// Until when no call is sent, because the window was made longer.
    blocked_until: Option<Instant>,
}

/// The right to send one call. Its holder reports the outcome.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct WindowGrant {
    /// Whether so many of our calls may be in one window with this one that they exceed the limit.
    crowded: bool,
    /// The length of the window when the call was granted its slot.
    per: Duration,
}

/// When a call can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextSlot {
    /// Now.
    Now,
    /// At this time, if nothing changes before.
    At(Instant),
    /// After a call in progress has ended.
    AfterCallEnds,
}

/// The state of a window at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSnapshot {
    /// The limit in the settings.
    pub configured: Limit,
    /// The limit as far as it is known.
    pub limit: Limit,
    /// Number of calls of the limit that are kept for other users of the account (`limits.reserve`).
    pub reserve: u32,
    /// Number of calls of the limit that leadgate uses.
    pub effective: u32,
    /// Maximum charge for the delay of a usual call.
    pub margin: Duration,
    /// Number of slots held.
    pub used: usize,
    /// Time until a call can be sent. `None`: it depends on the end of a call in progress.
    pub free_in: Option<Duration>,
    /// Number of refused calls so far.
    pub refused: RefusalCounts,
    /// When the last foreign refusal was.
    pub last_foreign_refusal: Option<Instant>,
    /// Number of holds so far.
    pub holds: u64,
}

impl WindowSnapshot {
    /// The use of the window, without its utilization.
    pub(super) fn usage(&self) -> WindowUse {
        WindowUse {
            limit: self.limit.calls.into(),
            reserve: self.reserve.into(),
            effective: self.effective.into(),
            used: i64::try_from(self.used).unwrap_or(i64::MAX),
            foreign_refusals: i64::try_from(self.refused.foreign).unwrap_or(i64::MAX),
            utilization: 0.0,
        }
    }
}

impl Window {
    /// A window with this limit, of which `reserve` calls are kept for other users of the account.
    pub fn new(limit: Limit, reserve: u32) -> Self {
        let controller = Controller::new(limit, reserve);
        let mut window = Self {
            configured: limit,
            slots: WindowSlots::new(controller.effective(), limit.per),
            controller,
            trips: HashMap::new(),
            last_grant: None,
            blocked_until: None,
        };
        window.steer();
        window
    }

    /// The state for the next owner of the tenant. A call in progress may be counted until its timeout.
    pub fn handover(&mut self, timeout: Duration, now: Instant) -> LimitHandover {
        let limit = self.controller.limit();
        let free_in = |free_at: Option<Instant>| match free_at {
            Some(free_at) => free_at.saturating_duration_since(now),
            None => timeout + limit.per,
        };
        let mut controller = self.controller.handover(now);
        let blocked_for = self.blocked_until.map(|until| until.saturating_duration_since(now));
        controller.held_for = controller.held_for.max(blocked_for.unwrap_or_default());
        LimitHandover {
            configured: self.configured,
            limit,
            free_in: self.held(now).into_iter().map(free_in).collect(),
            controller,
        }
    }

    /// Continues with what the former owner of the tenant has learned, without the slots. A limit that LeadSquared has named is
    /// known unless the settings have changed.
    pub fn resume(&mut self, before: &LimitHandover, now: Instant) {
        if before.configured == self.configured && is_sane(&before.limit) {
            self.controller.adopt(before.limit);
        }
        self.controller.resume(&before.controller, now);
        self.steer();
    }

    /// Holds the slots of the former owner of the tenant. A longer window holds them longer.
    pub fn hold_slots(&mut self, before: &LimitHandover, now: Instant) {
        let longer = self.limit().per.saturating_sub(before.limit.per);
        for free_in in &before.free_in {
            self.hold(now + *free_in + longer);
        }
        // The slots of some earlier calls are free already, but these calls may be in one longer window with the next call.
        if !longer.is_zero() {
            self.blocked_until = Some(now + longer);
        }
    }

    /// Marks the window as full, because the former owner of the tenant did not hand over: its last call may be counted until the
    /// end of `lateness`.
    pub fn full_after_loss(&mut self, lateness: Duration, now: Instant) {
        self.full_until(now + self.limit().per + self.controller.margin() + lateness);
    }

    /// Changes the settings. A limit that LeadSquared has named stays known unless the configured limit changes. Calls that
    /// hold a slot keep it.
    pub fn set_limit(&mut self, limit: Limit, reserve: u32, now: Instant) {
        let before = self.limit().per;
        let known = if limit == self.configured { self.limit() } else { limit };
        self.configured = limit;
        self.controller.set_limit(known, reserve);
        self.steer();
        // The slots of some earlier calls are free already, but these calls may be in one longer window with the next call.
        let longer = known.per.saturating_sub(before);
        if !longer.is_zero() {
            self.blocked_until = Some(self.blocked_until.map_or(now, |until| until.max(now)) + longer);
        }
    }

    /// Marks the window as full until then, because a previous process may have used it.
    pub fn full_until(&mut self, until: Instant) {
        self.slots.fill(until);
    }

    /// Marks a slot as held until then, by a call of a previous process.
    pub fn hold(&mut self, until: Instant) {
        self.slots.hold(until);
    }

    /// When each held slot becomes free. `None` for a call that has not ended.
    pub fn held(&mut self, now: Instant) -> Vec<Option<Instant>> {
        let free_at = self.slots.free_at(now).into_iter().map(Some);
        free_at
            .chain(std::iter::repeat_n(None, self.slots.in_flight()))
            .collect()
    }

    /// Number of calls that hold a slot and have not ended.
    pub fn in_progress(&self) -> usize {
        self.slots.in_flight()
    }

    /// When a call can be sent.
    pub fn next(&mut self, now: Instant) -> NextSlot {
        self.recover(now);
        let free = if self.slots.is_free(now) {
            Some(now)
        } else {
            self.slots.next_free(now)
        };
        let probed = self.controller.is_probing() && self.slots.in_flight() > 0;
        match free.filter(|_| !probed) {
            None => NextSlot::AfterCallEnds,
            Some(free) => match free.max(self.pause(now)) {
                at if at <= now => NextSlot::Now,
                at => NextSlot::At(at),
            },
        }
    }

    /// Whether no call is sent although slots may be free: after a rate limit error, or because the window was made longer.
    pub fn is_held(&self, now: Instant) -> bool {
        let until = self.controller.held_until().max(self.blocked_until);
        until.is_some_and(|until| until > now)
    }

    /// The limit as far as it is known.
    pub fn limit(&self) -> Limit {
        self.controller.limit()
    }

    /// Number of calls of the limit that leadgate uses.
    pub fn effective(&self) -> usize {
        self.controller.effective() as usize
    }

    /// Number of calls that can be sent now. At least one after [`NextSlot::Now`].
    pub fn free(&mut self, now: Instant) -> usize {
        match self.next(now) {
            NextSlot::Now => self.effective().saturating_sub(self.slots.used(now)).max(1),
            NextSlot::At(_) | NextSlot::AfterCallEnds => 0,
        }
    }

    /// Time until the next call is due if calls are spread evenly over the window.
    pub fn pacing_delay(&self, now: Instant) -> Duration {
        let due = self.last_grant.map(|last| last + self.controller.pacing_interval());
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// Takes the slot that [`Window::next`] has promised.
    pub fn granted(&mut self, now: Instant) -> WindowGrant {
        let crowded = self.slots.neighbours(now) >= self.controller.limit().calls as usize;
        self.slots.take();
        self.last_grant = Some(now);
        let per = self.slots.per();
        WindowGrant { crowded, per }
    }

    /// The call was not sent.
    pub fn unsent(&mut self, grant: WindowGrant) {
        self.slots.end(CallEnd::Unsent, grant.per);
    }

    /// The call was sent, and there is no response.
    pub fn lost(&mut self, grant: WindowGrant, given_up: Instant) {
        self.slots.end(CallEnd::Lost { given_up }, grant.per);
    }

    /// A response was received from this endpoint. Returns the new limit if the response names one that was not known.
    /// LeadSquared may count a refused call, so it holds its slot like any other.
    pub fn responded(
        &mut self,
        grant: WindowGrant,
        endpoint: &'static str,
        sent: Instant,
        received: Instant,
        verdict: Verdict,
    ) -> Option<Limit> {
        let trips = self.trips.entry(endpoint).or_default();
        if verdict == Verdict::Accepted {
            trips.learn(sent, received);
        }
        let end = CallEnd::Responded {
            sent,
            received,
            least: trips.least(),
            p95: trips.p95(),
        };
        self.slots.end(end, grant.per);
        let mut changed = None;
        match verdict {
            Verdict::Accepted => self.controller.accepted(sent),
            Verdict::Refused(Refusal::Daily) => {}
            Verdict::Refused(Refusal::Window(named)) => {
                changed = named.filter(|limit| is_sane(limit) && self.controller.adopt(*limit));
                self.controller
                    .refused(sent, received, grant.crowded || changed.is_some());
            }
        }
        self.steer();
        changed
    }

    /// Maximum time until a call with this number of calls ahead is sent, if each call is fast and none is refused.
    pub fn predicted_wait(&mut self, now: Instant, ahead: usize) -> Duration {
        let slots = self.slots.predicted_wait(now, ahead);
        let pause = self.pause(now).saturating_duration_since(now);
        let gaps = self
            .controller
            .gap()
            .saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
        slots.max(pause.saturating_add(gaps))
    }

    /// The same if the calls are paced: each is sent when a slot is free, and at least one pacing interval after the
    /// one before it.
    pub fn paced_wait(&mut self, now: Instant, ahead: usize) -> Duration {
        let gap = self.controller.pacing_interval();
        // Behind this many calls, slots become free as fast as they are taken.
        let counted = ahead.min(2 * self.effective());
        let mut wait = self.pacing_delay(now);
        for at in 0..=counted {
            let due = if at == 0 { wait } else { wait.saturating_add(gap) };
            wait = due.max(self.predicted_wait(now, at));
        }
        let rest = u32::try_from(ahead - counted).unwrap_or(u32::MAX);
        let wait = wait.saturating_add(gap.saturating_mul(rest));
        wait.max(self.predicted_wait(now, ahead))
    }

    /// The state at this moment.
    pub fn snapshot(&mut self, now: Instant) -> WindowSnapshot {
        self.recover(now);
        WindowSnapshot {
            configured: self.configured,
            limit: self.controller.limit(),
            reserve: self.controller.reserve(),
            effective: self.controller.effective(),
            margin: self.controller.margin(),
            used: self.slots.used(now),
            free_in: match self.next(now) {
                NextSlot::Now => Some(Duration::ZERO),
                NextSlot::At(at) => Some(at - now),
                NextSlot::AfterCallEnds => None,
            },
            refused: self.controller.refused_so_far(),
            last_foreign_refusal: self.controller.last_foreign_refusal(),
            holds: self.controller.holds(),
        }
    }

    /// Until when no call is sent, even if a slot is free.
    fn pause(&mut self, now: Instant) -> Instant {
        let held = self.controller.held_until().max(self.blocked_until).unwrap_or(now);
        // While at most half of the slots are used, calls may be sent in one burst.
        let spaced = self.slots.used(now) * 2 > self.slots.limit();
        let gap = self
            .last_grant
            .filter(|_| spaced)
            .map_or(now, |last| last + self.controller.gap());
        held.max(gap)
    }

    /// Uses the whole limit again after a long time without a foreign refusal.
    fn recover(&mut self, now: Instant) {
        if self.controller.recover(now) {
            self.steer();
        }
    }

    fn steer(&mut self) {
        let controller = &self.controller;
        if self.slots.per() != controller.limit().per {
            self.slots.set_per(controller.limit().per);
        }
        self.slots.resize(controller.effective());
        self.slots.set_margin(controller.margin(), controller.disagreement());
    }
}

/// Whether a limit is plausible. A limit above that of any plan means that a text was misread.
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

    /// Takes all slots that can be taken now.
    fn burst(window: &mut Window, now: Instant) -> Vec<WindowGrant> {
        std::iter::from_fn(|| (window.next(now) == NextSlot::Now).then(|| window.granted(now))).collect()
    }

    fn call(window: &mut Window, now: Instant, verdict: Verdict) -> Option<Limit> {
        let grant = window.granted(now);
        window.responded(grant, "Leads.GetById", now, now + TRIP, verdict)
    }

    #[test]
    fn an_idle_window_allows_a_burst_of_its_limit() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        assert_eq!(burst(&mut window, now).len(), 25);
        assert_eq!(window.next(now), NextSlot::AfterCallEnds);
        assert_eq!(window.snapshot(now).free_in, None);
    }

    #[test]
    fn a_window_used_by_a_previous_process_is_full_until_it_ends() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        window.full_until(now + W / 2);
        assert_eq!(window.next(now), NextSlot::At(now + W / 2));
        assert_eq!(window.predicted_wait(now, 30), W / 2 + W + Duration::from_millis(50));
        assert_eq!(burst(&mut window, now + W / 2).len(), 25);
    }

    #[test]
    fn a_refusal_in_a_window_that_is_not_crowded_is_foreign() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        call(&mut window, now, REFUSED);
        let after = window.snapshot(now + TRIP);
        assert_eq!(after.refused, RefusalCounts { own: 0, foreign: 1 });
        assert_eq!((after.effective, after.holds), (19, 1));
        assert!(after.free_in > Some(W / 5), "{after:?}");
    }

    #[test]
    fn an_idle_account_has_its_whole_limit_again_after_a_quiet_time() {
        let (mut window, now) = (Window::new(limit(25), 0), Instant::now());
        for n in 0..20 {
            call(&mut window, now + W * n, REFUSED);
        }
        let refused = now + W * 19 + TRIP;
        let after = window.snapshot(refused);
        assert_eq!((after.effective, after.last_foreign_refusal), (5, Some(refused)));
        assert_eq!(window.snapshot(refused + W * 38 - TRIP).effective, 5);
        // The first call may be a probe.
        let later = refused + W * 38;
        call(&mut window, later, Verdict::Accepted);
        assert_eq!(burst(&mut window, later + TRIP).len(), 24);
    }

    #[test]
    fn a_refusal_of_a_call_right_after_a_full_window_is_our_own() {
        let mut window = Window::new(limit(2), 0);
        let now = Instant::now();
        for _ in 0..2 {
            call(&mut window, now, Verdict::Accepted);
        }
        let NextSlot::At(free) = window.next(now + TRIP) else {
            panic!("the window is full")
        };
        call(&mut window, free, REFUSED);
        let after = window.snapshot(free + TRIP);
        assert_eq!(after.refused, RefusalCounts { own: 1, foreign: 0 });
        assert_eq!(after.effective, 2);
        // A second later, the two calls before no longer explain the refusal.
        call(&mut window, free + Duration::from_secs(1), REFUSED);
        assert_eq!(window.snapshot(free).refused, RefusalCounts { own: 1, foreign: 1 });
    }

    #[test]
    fn a_named_limit_is_adopted_and_reported_once_and_does_not_reduce_the_effective_limit() {
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
            "earlier calls are held for the named window"
        );
        let odd = Verdict::Refused(Refusal::Window(Some(limit(0))));
        assert_eq!(call(&mut window, now, odd), None);
    }

    #[test]
    fn a_named_limit_is_forgotten_only_when_the_configured_limit_changes() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        let named = limit(10);
        call(&mut window, now, Verdict::Refused(Refusal::Window(Some(named))));
        window.set_limit(limit(25), 2, now);
        assert_eq!((window.limit(), window.effective()), (named, 8));
        window.set_limit(limit(30), 2, now);
        assert_eq!((window.limit(), window.effective()), (limit(30), 28));
    }

    #[test]
    fn a_lower_limit_counts_the_calls_in_use() {
        let mut window = Window::new(limit(5), 0);
        let now = Instant::now();
        for _ in 0..4 {
            call(&mut window, now, Verdict::Accepted);
        }
        window.set_limit(limit(3), 0, now + TRIP);
        let free = now + W + TRIP;
        assert_eq!(window.next(now + TRIP), NextSlot::At(free));
        assert_eq!(burst(&mut window, free).len(), 3);
    }

    #[test]
    fn a_longer_window_is_full_until_earlier_calls_are_out_of_it() {
        let mut window = Window::new(limit(2), 0);
        let now = Instant::now();
        for _ in 0..2 {
            call(&mut window, now, Verdict::Accepted);
        }
        let later = now + W * 3 / 2;
        let in_progress = window.granted(later);
        assert_eq!(window.next(later), NextSlot::Now);
        let longer = Limit { calls: 4, per: W * 2 };
        // In two steps, with a lower limit in between.
        let first = Limit {
            calls: 1,
            per: W * 3 / 2,
        };
        window.set_limit(first, 0, later);
        window.set_limit(longer, 0, later);
        window.unsent(in_progress);
        assert_eq!(window.next(later), NextSlot::At(later + W));
        window.set_limit(longer, 0, later + W / 2);
        assert_eq!(
            burst(&mut window, later + W).len(),
            4,
            "the same limit again changes nothing"
        );
    }

    #[test]
    fn after_four_refusals_in_a_row_one_probe_is_sent_at_a_time() {
        let mut window = Window::new(limit(25), 0);
        let mut now = Instant::now();
        for _ in 0..4 {
            call(&mut window, now, REFUSED);
            let NextSlot::At(next) = window.next(now + TRIP) else {
                panic!("held")
            };
            now = next;
        }
        let probe = burst(&mut window, now);
        assert_eq!(probe.len(), 1);
        window.responded(probe[0], "Leads.GetById", now, now + TRIP, Verdict::Accepted);
        assert!(burst(&mut window, now + TRIP).len() > 1);
    }

    #[test]
    fn a_probe_without_a_response_is_followed_by_another() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        for n in 0..4 {
            call(&mut window, now + W * n, REFUSED);
        }
        let later = now + W * 6;
        let probe = burst(&mut window, later);
        window.lost(probe[0], later + W);
        assert_eq!(burst(&mut window, later + W).len(), 1);
    }

    #[test]
    fn calls_are_paced_under_load_while_others_use_the_account() {
        let mut window = Window::new(limit(10), 0);
        let mut now = Instant::now();
        call(&mut window, now, REFUSED);
        now += W * 3;
        assert_eq!(burst(&mut window, now).len(), 4, "half of seven, and one more");
        let gap = W.mul_f64(0.95) / 7;
        assert_eq!(window.next(now), NextSlot::At(now + gap));
        assert!(window.predicted_wait(now, 3) >= gap * 4);
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "with --nocapture it prints the number of windows")]
    fn a_saturated_window_has_its_whole_limit_ten_clean_windows_after_many_refusals() {
        for calls in [2, 5, 25, 72] {
            let mut window = Window::new(limit(calls), 0);
            let mut now = Instant::now();
            let floor = (calls / 5).max(1);
            while window.snapshot(now).effective > floor {
                call(&mut window, now, REFUSED);
                now += W;
            }
            now += W * 2;
            let (begin, mut ends) = (now, Vec::<(Instant, WindowGrant)>::new());
            while window.snapshot(now).effective < calls {
                ends.extend(burst(&mut window, now).into_iter().map(|grant| (now, grant)));
                let next = match window.next(now) {
                    NextSlot::At(at) => Some(at),
                    NextSlot::Now | NextSlot::AfterCallEnds => None,
                };
                let answer = ends.first().map(|(sent, _)| *sent + TRIP);
                now = [next, answer].into_iter().flatten().min().unwrap();
                if answer == Some(now) {
                    let (sent, grant) = ends.remove(0);
                    window.responded(grant, "Leads.GetById", sent, now, Verdict::Accepted);
                }
            }
            let windows = (now - begin).div_duration_f64(W);
            println!("{calls} calls: the whole limit after {windows:.2} clean windows");
            assert!((7.0..=10.0).contains(&windows), "{calls} calls: {windows}");
        }
    }

    #[test]
    fn a_paced_call_waits_an_interval_for_each_call_ahead_or_for_its_slot() {
        let mut window = Window::new(limit(10), 0);
        let now = Instant::now();
        let gap = W.mul_f64(0.95) / 10;
        let _grant = window.granted(now);
        assert_eq!(window.paced_wait(now + TRIP, 3), gap * 4 - TRIP);
        burst(&mut window, now);
        let slot = window.predicted_wait(now + TRIP, 0);
        assert_eq!(window.paced_wait(now + TRIP, 3), slot + gap * 3);
    }

    #[test]
    fn a_call_right_after_another_has_a_pacing_delay() {
        let mut window = Window::new(limit(10), 0);
        let now = Instant::now();
        assert_eq!(window.pacing_delay(now), Duration::ZERO);
        assert_eq!(burst(&mut window, now).len(), 10, "it can be sent nevertheless");
        let gap = W.mul_f64(0.95) / 10;
        assert_eq!(window.pacing_delay(now + TRIP), gap - TRIP);
        assert_eq!(window.pacing_delay(now + gap), Duration::ZERO);
    }

    #[test]
    fn the_end_of_the_day_does_not_change_the_window() {
        let mut window = Window::new(limit(25), 0);
        let now = Instant::now();
        call(&mut window, now, Verdict::Refused(Refusal::Daily));
        let after = window.snapshot(now);
        assert_eq!(
            (after.refused, after.effective, after.used),
            (RefusalCounts::default(), 25, 1)
        );
    }

    #[test]
    fn a_call_that_was_not_sent_costs_nothing() {
        let mut window = Window::new(limit(1), 0);
        let now = Instant::now();
        let grant = window.granted(now);
        window.unsent(grant);
        assert_eq!(window.next(now), NextSlot::Now);
    }
}
