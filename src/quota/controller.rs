//! The controller of one window: learns from LeadSquared's refusals how many slots to use, how large the margin for
//! jitter must be, and when to send nothing. Pure. Does not depend on slots or a queue.

use std::time::Duration;

use tokio::time::Instant;

use super::slots::cheap;
use crate::domain::handover::ControllerHandover;
use crate::error::Limit;

/// Part of the calls that are refused in the long run because of the margin.
const REFUSED: f64 = 1e-4;
/// Part of the effective limit above its floor that a foreign refusal removes.
const CUT: f64 = 0.3;
/// Number of clean windows in which the effective limit rises from its floor to its ceiling. A window is clean if it
/// was used and none of its calls was refused.
const RECOVERY: f64 = 9.5;
/// Exponent of the clean windows by which the effective limit rises: slowly at first, and most of the way in the last
/// windows.
const STEEPNESS: i32 = 5;
/// After a time without a foreign refusal, the whole limit is used again, whatever the number of calls: this many times the clean
/// windows of a recovery. An account with few calls has few clean windows.
const QUIET: f64 = 4.0;
/// With fewer accepted calls between two foreign refusals, others use the account steadily.
const SELDOM: u32 = 50;
/// While others use the account steadily, a clean window counts by its calls. It counts as a whole window from this
/// limit on. Otherwise a small limit would lose one call in ten by trying.
const WHOLE: f64 = 25.0;
/// How long a foreign refusal holds all calls, in windows. The foreign calls that filled the window leave it in the
/// course of one window. During the hold, leadgate sends no calls, so LeadSquared accepts foreign calls instead.
const PAUSE: f64 = 0.35;
/// The pacing interval, as a part of an even share of the window.
const PACING: f64 = 0.95;
/// After this number of refusals in a row, only a probe may be sent.
const SHUT_OUT: u32 = 4;

/// The controller of one window.
#[derive(Debug)]
pub struct Controller {
    limit: Limit,
    reserve: u32,
    /// Its whole part is the effective limit.
    effective: f64,
    /// The effective limit at the last foreign refusal.
    refused_at: f64,
    /// When that was. After a change of the owner with a lower effective limit: when this owner began.
    last_refused: Option<Instant>,
    /// Clean windows since then.
    clean: f64,
    /// Accepted calls since then.
    accepted: u32,
    /// Whether others use the account steadily.
    is_steady: bool,
    margin: Duration,
    /// Calls sent before this time bring no new information.
    news_from: Option<Instant>,
    /// Number of refusals without an accepted call between them.
    row: u32,
    held_until: Option<Instant>,
    refused: RefusalCounts,
    holds: u64,
}

/// Number of refused calls, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts {
    /// Our own calls may have exceeded the limit.
    pub own: u64,
    /// Our own calls cannot have exceeded the limit: others use the account.
    pub foreign: u64,
}

impl Controller {
    /// The controller of a window with this limit, of which `reserve` calls are kept for other users of the account.
    pub fn new(limit: Limit, reserve: u32) -> Self {
        let mut new = Self {
            limit,
            reserve,
            effective: 0.0,
            refused_at: 0.0,
            last_refused: None,
            clean: 0.0,
            accepted: SELDOM,
            is_steady: false,
            margin: cheap(limit.per),
            news_from: None,
            row: 0,
            held_until: None,
            refused: RefusalCounts::default(),
            holds: 0,
        };
        new.effective = new.ceiling();
        new
    }

    /// What refusals have taught, for the next owner of the tenant.
    pub fn handover(&self, now: Instant) -> ControllerHandover {
        let held_for = self.held_until.map(|until| until.saturating_duration_since(now));
        ControllerHandover {
            effective: (self.effective < self.ceiling()).then_some(self.effective),
            refused_at: self.refused_at,
            clean: self.clean,
            accepted: self.accepted,
            is_steady: self.is_steady,
            refusals_in_row: self.row,
            margin: self.margin,
            held_for: held_for.unwrap_or_default(),
        }
    }

    /// Continues with what the former owner of the tenant has learned.
    pub fn resume(&mut self, before: &ControllerHandover, now: Instant) {
        let (floor, ceiling) = (self.floor(), self.ceiling());
        let clamped = |calls: f64| {
            if calls.is_finite() {
                calls.clamp(floor, ceiling)
            } else {
                floor
            }
        };
        self.effective = before.effective.map_or(ceiling, clamped);
        self.refused_at = clamped(before.refused_at);
        self.last_refused = before.effective.map(|_| now);
        self.clean = if before.clean.is_finite() {
            before.clean.max(0.0)
        } else {
            0.0
        };
        (self.accepted, self.is_steady, self.row) = (before.accepted, before.is_steady, before.refusals_in_row);
        self.margin = before.margin.clamp(cheap(self.limit.per), cheap(self.limit.per) * 5);
        self.held_until = (!before.held_for.is_zero()).then(|| now + before.held_for);
    }

    /// The limit as far as it is known.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// Number of calls in a window that leadgate uses.
    pub fn effective(&self) -> u32 {
        self.effective as u32
    }

    /// Number of calls in a window that are kept for other users of the account.
    pub fn reserve(&self) -> u32 {
        self.reserve
    }

    /// When the last foreign refusal was.
    pub fn last_foreign_refusal(&self) -> Option<Instant> {
        self.last_refused.filter(|_| self.refused.foreign > 0)
    }

    /// Maximum charge for the delay of a usual call.
    pub fn margin(&self) -> Duration {
        self.margin
    }

    /// Maximum difference between the clocks of LeadSquared's machines that is allowed for.
    pub fn disagreement(&self) -> Duration {
        self.step() * 3
    }

    /// Minimum time between two calls. Zero unless others use the account: calls of one burst are refused together,
    /// and leave no room for others until all of them have left the window.
    pub fn gap(&self) -> Duration {
        if self.effective < self.ceiling() {
            self.pacing_interval()
        } else {
            Duration::ZERO
        }
    }

    /// Time between two paced calls. A little less than an even share of the window, so that one late call does not
    /// make all later calls late.
    pub fn pacing_interval(&self) -> Duration {
        self.limit.per.mul_f64(PACING) / self.effective()
    }

    /// Until when no call may be sent.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Whether only one call at a time may be sent, to find out whether LeadSquared accepts calls again.
    pub fn is_probing(&self) -> bool {
        self.row >= SHUT_OUT
    }

    /// The refused calls so far.
    pub fn refused_so_far(&self) -> RefusalCounts {
        self.refused
    }

    /// Number of holds so far.
    pub fn holds(&self) -> u64 {
        self.holds
    }

    /// A call was accepted.
    pub fn accepted(&mut self, sent: Instant) {
        if self.is_news(sent) {
            self.row = 0;
        }
        let margin = self.margin.saturating_sub(self.step().mul_f64(REFUSED));
        self.margin = margin.max(cheap(self.limit.per));
        self.accepted = self.accepted.saturating_add(1);
        self.clean += 1.0 / f64::from(self.effective());
        self.effective = self.effective.max(self.recovered()).min(self.ceiling());
    }

    /// Uses the whole limit again after a long time without a foreign refusal. Returns whether the effective limit has changed.
    pub fn recover(&mut self, now: Instant) -> bool {
        let quiet = self.limit.per.mul_f64(QUIET * self.recovery());
        let is_quiet = self.last_refused.is_some_and(|at| now >= at + quiet);
        let changes = is_quiet && self.effective < self.ceiling();
        if changes {
            self.effective = self.ceiling();
        }
        changes
    }

    /// A call was refused. `ours`: whether our own calls explain it.
    pub fn refused(&mut self, sent: Instant, now: Instant, ours: bool) {
        if ours {
            self.refused.own += 1;
        } else {
            self.refused.foreign += 1;
        }
        // The refusals of one burst bring new information once.
        if !self.is_news(sent) {
            return;
        }
        self.news_from = Some(now);
        self.row += 1;
        if ours {
            self.margin = (self.margin + self.step()).min(cheap(self.limit.per) * 5);
        } else {
            // Refusals in a row are one event.
            if self.row == 1 {
                self.is_steady = self.accepted < SELDOM;
            }
            (self.accepted, self.clean) = (0, 0.0);
            self.last_refused = Some(now);
            self.refused_at = self.effective;
            self.effective -= (self.effective - self.floor()) * CUT;
            if f64::from(self.effective()) <= self.floor() {
                // At the floor, fractions of a call are not kept.
                (self.refused_at, self.effective) = (self.floor(), self.floor());
            }
        }
        let hold = match self.row {
            // The larger margin is enough.
            1 if ours => return,
            SHUT_OUT.. => self.limit.per,
            _ => self.limit.per.mul_f64(PAUSE),
        };
        self.held_until = Some(now + hold);
        self.holds += 1;
    }

    /// Adopts the limit that LeadSquared names. Returns whether it differs from the known one.
    pub fn adopt(&mut self, limit: Limit) -> bool {
        if limit == self.limit {
            return false;
        }
        self.set_limit(limit, self.reserve);
        true
    }

    /// Changes the limit, and the number of calls of it that are kept for other users of the account.
    pub fn set_limit(&mut self, limit: Limit, reserve: u32) {
        let was_whole = self.effective >= self.ceiling();
        (self.limit, self.reserve) = (limit, reserve);
        self.effective = if was_whole {
            self.ceiling()
        } else {
            self.effective.clamp(self.floor(), self.ceiling())
        };
        self.refused_at = self.refused_at.clamp(self.floor(), self.ceiling());
        self.margin = self.margin.clamp(cheap(limit.per), cheap(limit.per) * 5);
    }

    /// The effective limit after the clean windows since the last foreign refusal. It rises to where that refusal
    /// occurred, stays near it for a while, and then rises faster and faster.
    fn recovered(&self) -> f64 {
        let range = self.ceiling() - self.floor();
        if range <= 0.0 {
            return self.ceiling();
        }
        let taken = (self.refused_at - self.floor()) * CUT / range;
        let back_at = taken.powf(1.0 / f64::from(STEEPNESS));
        self.refused_at + range * (self.clean / self.recovery() - back_at).powi(STEEPNESS)
    }

    /// The number of clean windows in which the effective limit rises from its floor to its ceiling.
    fn recovery(&self) -> f64 {
        match self.is_steady {
            true => RECOVERY * (WHOLE / f64::from(self.limit.calls)).max(1.0),
            false => RECOVERY,
        }
    }

    fn is_news(&self, sent: Instant) -> bool {
        self.news_from.is_none_or(|from| sent >= from)
    }

    fn ceiling(&self) -> f64 {
        f64::from(self.limit.calls.saturating_sub(self.reserve).max(1))
    }

    fn floor(&self) -> f64 {
        f64::from(self.limit.calls / 5).clamp(1.0, self.ceiling())
    }

    /// What a refusal adds to the margin: 8 ms for a window of 5 s, and less for a shorter one.
    fn step(&self) -> Duration {
        (self.limit.per / 625).min(Duration::from_millis(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W: Duration = Duration::from_secs(5);
    const TRIP: Duration = Duration::from_millis(80);

    fn limit(calls: u32) -> Limit {
        Limit { calls, per: W }
    }

    fn new() -> (Controller, Instant) {
        (Controller::new(limit(25), 0), Instant::now())
    }

    /// Refuses calls one after the other, each sent after the last response.
    fn refuse(controller: &mut Controller, now: &mut Instant, times: u32, ours: bool) {
        for _ in 0..times {
            controller.refused(*now, *now + TRIP, ours);
            *now += TRIP;
        }
    }

    #[test]
    fn a_foreign_refusal_shrinks_the_effective_limit_and_holds_for_a_while() {
        let (mut controller, mut now) = new();
        refuse(&mut controller, &mut now, 1, false);
        assert_eq!(controller.effective(), 19);
        assert_eq!(controller.held_until(), Some(now + W.mul_f64(PAUSE)));
        assert_eq!(controller.margin(), cheap(W));
        assert!(controller.gap() > W / 25);
    }

    #[test]
    fn an_own_refusal_widens_the_margin_and_changes_nothing_else() {
        let (mut controller, mut now) = new();
        refuse(&mut controller, &mut now, 1, true);
        assert_eq!(controller.margin(), cheap(W) + Duration::from_millis(8));
        assert_eq!((controller.effective(), controller.held_until()), (25, None));
        refuse(&mut controller, &mut now, 1, true);
        assert!(controller.held_until().is_some());
    }

    #[test]
    fn the_refusals_of_one_burst_count_once() {
        let (mut controller, now) = new();
        for n in 0..10 {
            controller.refused(now, now + TRIP + Duration::from_millis(n), false);
        }
        assert_eq!(controller.effective(), 19);
        assert_eq!(controller.refused_so_far().foreign, 10);
        assert_eq!(controller.holds(), 1);
    }

    #[test]
    fn four_refusals_in_a_row_allow_only_a_probe_until_a_call_is_accepted() {
        let (mut controller, mut now) = new();
        refuse(&mut controller, &mut now, 3, false);
        assert!(!controller.is_probing());
        refuse(&mut controller, &mut now, 1, false);
        assert!(controller.is_probing());
        assert_eq!(controller.held_until(), Some(now + W));
        controller.accepted(now - TRIP);
        assert!(controller.is_probing(), "a call from before the refusal proves nothing");
        controller.accepted(now);
        assert!(!controller.is_probing());
    }

    /// Accepts calls until the effective limit is at its ceiling again. Returns the number of clean windows that this
    /// takes.
    fn recover(controller: &mut Controller, now: Instant) -> f64 {
        let mut windows = 0.0;
        while f64::from(controller.effective()) < controller.ceiling() {
            windows += 1.0 / f64::from(controller.effective());
            assert!(windows < 1000.0);
            controller.accepted(now);
        }
        windows
    }

    #[test]
    fn ten_clean_windows_restore_the_whole_limit() {
        for calls in [2, 5, 10, 25, 72, 1000] {
            let (mut controller, mut now) = (Controller::new(limit(calls), 0), Instant::now());
            refuse(&mut controller, &mut now, 1000, false);
            assert_eq!(f64::from(controller.effective()), controller.floor());
            let windows = recover(&mut controller, now);
            assert!((9.0..=10.0).contains(&windows), "{calls} calls: {windows} windows");
            assert_eq!(controller.gap(), Duration::ZERO);
        }
    }

    #[test]
    fn one_refusal_is_recovered_in_at_most_ten_windows_and_mostly_in_the_last_of_them() {
        for calls in [2, 5, 10, 25, 72] {
            let (mut controller, mut now) = (Controller::new(limit(calls), 0), Instant::now());
            refuse(&mut controller, &mut now, 1, false);
            let windows = recover(&mut controller, now);
            assert!(windows <= 10.0, "{calls} calls: {windows} windows");
        }
        let (mut controller, mut now) = new();
        refuse(&mut controller, &mut now, 1000, false);
        (0..5 * 5).for_each(|_| controller.accepted(now));
        assert_eq!(controller.effective(), 5, "five windows");
    }

    #[test]
    fn a_small_limit_is_tried_less_often_while_others_use_the_account_steadily() {
        let (mut controller, mut now) = (Controller::new(limit(5), 0), Instant::now());
        refuse(&mut controller, &mut now, 1, false);
        assert!(recover(&mut controller, now) < 9.0);
        refuse(&mut controller, &mut now, 1, false);
        assert!(recover(&mut controller, now) > 30.0);
        // After a while without a refusal, it rises as fast as at first.
        (0..SELDOM).for_each(|_| controller.accepted(now));
        refuse(&mut controller, &mut now, 1, false);
        assert!(recover(&mut controller, now) < 9.0);
    }

    #[test]
    fn a_quiet_time_restores_the_whole_limit_without_calls() {
        let (mut controller, mut now) = new();
        refuse(&mut controller, &mut now, 1000, false);
        assert_eq!(
            (controller.effective(), controller.last_foreign_refusal()),
            (5, Some(now))
        );
        // 38 windows.
        let quiet = W.mul_f64(QUIET * RECOVERY);
        assert!(!controller.recover(now + quiet - TRIP));
        assert_eq!(controller.effective(), 5);
        assert!(controller.recover(now + quiet));
        assert_eq!((controller.effective(), controller.gap()), (25, Duration::ZERO));
        assert!(!controller.recover(now + quiet), "nothing changes");
        // Another refusal lowers it again, and the quiet time begins again.
        now += quiet;
        refuse(&mut controller, &mut now, 1, false);
        assert!(!controller.recover(now + W));
        assert_eq!(controller.effective(), 19);
    }

    #[test]
    fn a_busy_account_recovers_by_its_calls_before_the_quiet_time_ends() {
        for calls in [2, 5, 25] {
            let (mut controller, mut now) = (Controller::new(limit(calls), 0), Instant::now());
            // Twice, so that a small limit is tried less often.
            refuse(&mut controller, &mut now, 1, false);
            controller.accepted(now);
            refuse(&mut controller, &mut now, 1, false);
            let windows = recover(&mut controller, now);
            assert!(
                windows * 2.0 < QUIET * controller.recovery(),
                "{calls} calls: {windows}"
            );
        }
    }

    #[test]
    fn after_a_change_of_the_owner_the_quiet_time_begins_again() {
        let (mut before, mut now) = new();
        refuse(&mut before, &mut now, 1, false);
        let (mut controller, quiet) = (Controller::new(limit(25), 0), W.mul_f64(QUIET * RECOVERY));
        now += quiet;
        controller.resume(&before.handover(now), now);
        assert_eq!((controller.effective(), controller.last_foreign_refusal()), (19, None));
        assert!(!controller.recover(now + quiet - TRIP) && controller.recover(now + quiet));
    }

    #[test]
    fn a_named_limit_is_adopted_with_its_window() {
        let (mut controller, _) = new();
        assert!(!controller.adopt(limit(25)));
        let named = Limit {
            calls: 10,
            per: Duration::from_secs(1),
        };
        assert!(controller.adopt(named));
        assert_eq!((controller.limit(), controller.effective()), (named, 10));
        assert!(controller.adopt(limit(72)));
        assert_eq!(controller.effective(), 72);
    }

    #[test]
    fn the_reserve_is_left_to_others_but_at_least_one_call_remains() {
        assert_eq!(Controller::new(limit(25), 5).effective(), 20);
        assert_eq!(Controller::new(limit(5), 5).effective(), 1);
        assert_eq!(Controller::new(limit(5), 5).gap(), Duration::ZERO);
    }

    #[test]
    fn holds_shrink_with_the_window() {
        let per = Duration::from_millis(500);
        let mut controller = Controller::new(Limit { calls: 25, per }, 0);
        let mut now = Instant::now();
        refuse(&mut controller, &mut now, 1, false);
        assert_eq!(controller.held_until(), Some(now + per.mul_f64(PAUSE)));
        refuse(&mut controller, &mut now, 3, false);
        assert_eq!(controller.held_until(), Some(now + per));
    }

    #[test]
    fn the_margin_settles_where_one_call_in_ten_thousand_is_refused() {
        let (mut controller, now) = new();
        // A server that refuses calls more rarely the larger the margin, as exponential jitter does.
        let (mut refused, mut threshold) = (0_u32, 1.0_f64);
        for n in 0_u32..2_000_000 {
            // The golden ratio distributes the thresholds evenly.
            threshold = (threshold + 0.618_033_988_749_895).fract();
            let sent = now + TRIP * n;
            if threshold < (-controller.margin().as_secs_f64() / 0.015).exp() {
                refused += u32::from(n > 200_000);
                controller.refused(sent, sent, true);
            } else {
                controller.accepted(sent);
            }
        }
        assert!((100..=260).contains(&refused), "{refused} of 1,800,000");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_controller_stays_in_its_bounds_for_any_verdicts(
            calls in 1_u32..100,
            reserve in 0_u32..110,
            verdicts in prop::collection::vec((0_u8..4, 1_u32..100, 1_u64..60_000), 1..200),
        ) {
            let mut controller = Controller::new(limit(calls), reserve);
            let mut now = Instant::now();
            for (kind, calls, per) in verdicts {
                now += Duration::from_millis(u64::from(calls));
                match kind {
                    0 => controller.accepted(now),
                    3 => { controller.adopt(Limit { calls, per: Duration::from_millis(per) }); }
                    ours => controller.refused(now, now + TRIP, ours == 1),
                }
                let Limit { calls, per } = controller.limit();
                let ceiling = calls.saturating_sub(reserve).max(1);
                let floor = (calls / 5).clamp(1, ceiling);
                prop_assert!((floor..=ceiling).contains(&controller.effective()));
                prop_assert!(controller.margin() >= cheap(per) && controller.margin() <= cheap(per) * 5);
                prop_assert!(controller.gap() <= per);
            }
        }
    }
}
