//! Single rules of the machine, step by step.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::cluster::balance::weight;
use crate::cluster::machine::{Action, Event, Replica, ReplicaSettings};
use crate::domain::lease::{AcquiredLease, Beat, LeaseRow, Move, MoveReason, ReplicaRow};

const LEASE: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(1);
const TRIP: Duration = Duration::from_millis(10);
const MOVED: Move = Move {
    at: Timestamp::UNIX_EPOCH,
    reason: MoveReason::Free,
};

/// A replica, and the database as its next beat shows it.
struct Steps {
    replica: Replica,
    now: Instant,
    tenant: String,
    lease: (Option<&'static str>, i64, Option<i64>),
    history: &'static str,
    is_handed_over: bool,
    /// The beat of the other replica. `None`: it has no row.
    other: Option<i64>,
    other_lease: Duration,
}

impl Steps {
    /// A replica that prefers its tenant, or one that does not.
    fn new(is_preferred: bool) -> Self {
        let prefers = |tenant: &String| (weight(tenant, "me") > weight(tenant, "other")) == is_preferred;
        let tenant = (0..).map(|at| format!("tenant-{at}")).find(prefers).unwrap();
        let now = Instant::now();
        let settings = ReplicaSettings {
            name: "me".into(),
            tenants: vec![tenant.clone()],
            lease: LEASE,
            lateness: Duration::from_secs(1),
        };
        Self {
            replica: Replica::new(settings, now),
            now,
            tenant,
            lease: (None, 0, None),
            history: "1",
            is_handed_over: false,
            other: None,
            other_lease: LEASE,
        }
    }

    /// A replica that is the owner in epoch 1.
    fn owner() -> Self {
        let mut steps = Self::new(true);
        steps.beat();
        assert_eq!(steps.acquire().len(), 1);
        steps
    }

    /// The next action, which is no beat.
    fn action(&mut self) -> Option<Action> {
        let action = self.replica.next_action(self.now)?;
        assert!(!matches!(action, Action::Beat { .. }), "{action:?}");
        Some(action)
    }

    /// Waits for the next beat, and confirms it.
    fn beat(&mut self) -> Vec<Event> {
        self.now = self.now.max(self.replica.wake_at(self.now));
        let action = self.replica.next_action(self.now);
        assert!(matches!(action, Some(Action::Beat { .. })), "{action:?}");
        self.now += TRIP;
        let (owner, epoch, beat) = self.lease;
        let row = |name: &str, beat| ReplicaRow {
            name: name.into(),
            address: String::new(),
            beat,
            tenants: vec![self.tenant.clone()],
            lease: self.other_lease,
        };
        let beat = Beat {
            history: self.history.into(),
            history_age: Duration::from_secs(3_600),
            leases: vec![LeaseRow {
                tenant: self.tenant.clone(),
                owner: owner.map(Into::into),
                epoch,
                beat,
                is_handed_over: self.is_handed_over,
            }],
            replicas: self.other.iter().map(|beat| row("other", *beat)).collect(),
            pauses: Default::default(),
        };
        self.replica.beat_confirmed(self.now, &beat)
    }

    /// Acquires the tenant.
    fn acquire(&mut self) -> Vec<Event> {
        let action = self.action();
        assert!(matches!(action, Some(Action::Acquire(_))), "{action:?}");
        self.now += TRIP;
        self.lease = (Some("me"), self.lease.1 + 1, Some(1));
        let acquired = AcquiredLease {
            tenant: self.tenant.clone(),
            epoch: self.lease.1,
            handover: None,
            moved: MOVED,
        };
        self.replica.acquired(self.now, vec![acquired])
    }

    fn is_valid(&self) -> bool {
        let lease = self.replica.lease(&self.tenant);
        lease.is_some_and(|lease| lease.is_valid(self.now))
    }
}

#[test]
fn a_free_tenant_is_acquired_at_once_by_the_replica_that_prefers_it() {
    let mut steps = Steps::new(true);
    steps.other = Some(1);
    steps.beat();
    assert!(matches!(steps.acquire()[..], [Event::Acquired { .. }]));
    assert!(steps.is_valid());
}

#[test]
fn another_replica_leaves_a_free_tenant_to_the_preferred_one_for_two_beats() {
    let mut steps = Steps::new(false);
    for beat in 1..3 {
        steps.other = Some(beat);
        steps.beat();
        assert_eq!(steps.action(), None, "{beat}");
    }
    steps.beat();
    assert_eq!(steps.acquire().len(), 1);
}

#[test]
fn a_tenant_is_taken_after_its_owner_was_silent_for_a_lease() {
    let mut steps = Steps::new(true);
    steps.lease = (Some("other"), 4, Some(7));
    steps.beat();
    let first_seen = steps.now;
    // A beat of the owner begins the wait again.
    steps.lease.2 = Some(8);
    steps.beat();
    let silent_since = steps.now;
    assert!(silent_since > first_seen);
    while steps.now < silent_since + LEASE - BEAT {
        steps.beat();
        assert_eq!(steps.action(), None);
    }
    steps.now = silent_since + LEASE;
    let action = steps.action();
    let Some(Action::Acquire(acquisition)) = action else {
        panic!("{action:?}");
    };
    assert_eq!(acquisition.owner, Some(("other".into(), 8)));
    assert_eq!(acquisition.tenants, [(steps.tenant.clone(), 4)]);
}

#[test]
fn the_lease_of_a_silent_owner_may_be_longer() {
    let mut steps = Steps::new(true);
    (steps.lease, steps.other) = ((Some("other"), 3, Some(7)), Some(7));
    steps.other_lease = LEASE * 3;
    steps.beat();
    let since = steps.now;
    while steps.now < since + LEASE * 3 - BEAT {
        assert_eq!(steps.action(), None, "{:?}", steps.now - since);
        steps.beat();
    }
    steps.now = since + LEASE * 3;
    assert_eq!(steps.acquire().len(), 1);
}

#[test]
fn a_watch_with_a_gap_begins_again() {
    let mut steps = Steps::new(true);
    steps.lease = (Some("other"), 4, Some(7));
    steps.beat();
    steps.now += LEASE;
    steps.beat();
    assert_eq!(steps.action(), None);
}

#[test]
fn an_owner_without_a_row_gets_one_whose_beat_is_watched() {
    let mut steps = Steps::new(true);
    steps.lease = (Some("other"), 4, None);
    steps.beat();
    let since = steps.now;
    while steps.now < since + LEASE - BEAT {
        assert_eq!(steps.action(), None);
        steps.beat();
    }
    steps.now = since + LEASE;
    let add = steps.action();
    assert_eq!(add, Some(Action::AddReplica { name: "other".into() }));
}

#[test]
fn in_a_new_history_nothing_is_acquired_for_a_lease() {
    let mut steps = Steps::new(true);
    steps.lease = (None, 4, None);
    steps.beat();
    let since = steps.now;
    while steps.now < since + LEASE - BEAT {
        assert_eq!(steps.action(), None);
        steps.beat();
    }
    steps.now = since + LEASE;
    assert_eq!(steps.acquire().len(), 1);
}

#[test]
fn a_tenant_that_was_handed_over_in_this_history_is_acquired_at_once() {
    let mut steps = Steps::new(true);
    (steps.lease, steps.is_handed_over) = ((None, 4, None), true);
    steps.beat();
    assert_eq!(steps.acquire().len(), 1);
}

#[test]
fn a_replica_that_may_not_acquire_names_no_tenants_until_it_may() {
    let mut steps = Steps::new(true);
    steps.replica.set_may_acquire(false, steps.now);
    let beat = steps.replica.next_action(steps.now);
    assert_eq!(beat, Some(Action::Beat { tenants: vec![] }));
    let _ = steps.replica.lost(steps.now);
    steps.beat();
    assert_eq!(steps.action(), None);
    steps.replica.set_may_acquire(true, steps.now);
    assert_eq!(steps.acquire().len(), 1);
}

#[test]
fn a_tenant_that_cannot_be_served_is_not_named_or_acquired_until_it_can_be() {
    let mut steps = Steps::owner();
    let tenant = steps.tenant.clone();
    let events = steps.replica.set_can_serve(&tenant, false, steps.now);
    assert!(
        matches!(events[..], [Event::StartHandover { epoch: 1, .. }]),
        "{events:?}"
    );
    steps.replica.drained(&tenant, 1, String::new());
    steps.beat();
    assert!(matches!(steps.action(), Some(Action::Handover { .. })));
    let _ = steps.replica.written(steps.now);
    (steps.lease, steps.is_handed_over) = ((None, 1, None), true);
    let since = steps.now;
    // The balance would give it back after a minute.
    while steps.now < since + Duration::from_secs(90) {
        steps.now = steps.now.max(steps.replica.wake_at(steps.now));
        let beat = steps.replica.next_action(steps.now);
        assert_eq!(beat, Some(Action::Beat { tenants: vec![] }));
        let _ = steps.replica.lost(steps.now);
        steps.beat();
        assert_eq!(steps.action(), None);
    }
    let events = steps.replica.set_can_serve(&tenant, true, steps.now);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(steps.acquire().len(), 1);
    let beat = steps.replica.next_action(steps.now);
    assert_eq!(beat, Some(Action::Beat { tenants: vec![tenant] }));
}

#[test]
fn a_replica_whose_beat_does_not_change_for_a_lease_is_silent() {
    let mut steps = Steps::new(true);
    (steps.other, steps.lease) = (Some(7), (Some("other"), 1, Some(7)));
    steps.beat();
    let (other, since) = ("other".into(), steps.now);
    assert!(!steps.replica.is_silent(&other, since + LEASE));
    steps.beat();
    assert!(steps.replica.is_silent(&other, since + LEASE + TRIP));
    steps.other = Some(8);
    steps.beat();
    assert!(!steps.replica.is_silent(&other, since + LEASE + TRIP));
    assert!(!steps.replica.is_silent(&"unknown".into(), since + LEASE * 2));
}

#[test]
fn a_lease_lapses_without_beats_and_is_valid_again_in_the_same_history() {
    let mut steps = Steps::owner();
    steps.beat();
    assert!(steps.is_valid());
    steps.now += LEASE * 9 / 10;
    assert!(!steps.is_valid());
    steps.beat();
    assert!(steps.is_valid());
}

#[test]
fn a_lease_that_lapsed_in_another_history_is_lost_and_reset() {
    let mut steps = Steps::owner();
    steps.beat();
    steps.now += LEASE;
    steps.history = "2";
    let events = steps.beat();
    assert!(
        matches!(
            events[..],
            [Event::Lost {
                reason: MoveReason::OtherHistory,
                epoch: 1,
                ..
            }]
        ),
        "{events:?}"
    );
    let action = steps.action();
    assert!(
        matches!(&action, Some(Action::Reset { fence, .. }) if &*fence.history == "2"),
        "{action:?}"
    );
}

#[test]
fn a_valid_lease_goes_on_in_another_history() {
    let mut steps = Steps::owner();
    steps.beat();
    steps.history = "2";
    assert!(steps.beat().is_empty() && steps.is_valid());
    let fence = steps.replica.lease(&steps.tenant).unwrap().fence().unwrap();
    assert_eq!((&*fence.history, fence.epoch), ("2", 1));
}

#[test]
fn a_higher_epoch_of_another_replica_ends_the_lease() {
    let mut steps = Steps::owner();
    let tenant = steps.tenant.clone();
    let lease = steps.replica.lease(&tenant).unwrap().clone();
    assert!(steps.replica.epoch_seen(&tenant, 1).is_empty());
    let events = steps.replica.epoch_seen(&tenant, 2);
    assert!(
        matches!(
            events[..],
            [Event::Lost {
                reason: MoveReason::HigherEpoch,
                ..
            }]
        ),
        "{events:?}"
    );
    assert!(lease.ended().is_cancelled() && !steps.is_valid());
}

#[test]
fn an_acquisition_whose_answer_was_lost_is_reset() {
    let mut steps = Steps::new(true);
    steps.beat();
    assert!(matches!(steps.action(), Some(Action::Acquire(_))));
    // An answer after the limit is not used.
    steps.now += LEASE / 5 + TRIP;
    steps.lease = (Some("me"), 1, Some(1));
    let late = AcquiredLease {
        tenant: steps.tenant.clone(),
        epoch: 1,
        handover: None,
        moved: MOVED,
    };
    assert!(steps.replica.acquired(steps.now, vec![late]).is_empty());
    assert!(!steps.is_valid() && !steps.replica.owns_nothing());
    steps.beat();
    assert!(matches!(steps.action(), Some(Action::Reset { fence, .. }) if fence.epoch == 1));
}

#[test]
fn a_handover_that_another_history_overtakes_is_lost_and_reset() {
    let mut steps = Steps::owner();
    let tenant = steps.tenant.clone();
    let _ = steps.replica.request_handover(&tenant);
    steps.replica.drained(&tenant, 1, "state".to_owned());
    steps.beat();
    assert!(matches!(steps.action(), Some(Action::Handover { .. })));
    let _ = steps.replica.lost(steps.now);
    steps.history = "2";
    let events = steps.beat();
    let reason = MoveReason::OtherHistory;
    assert!(
        matches!(events[..], [Event::Lost { epoch: 1, reason: lost, .. }] if lost == reason),
        "{events:?}"
    );
    assert!(matches!(steps.action(), Some(Action::Reset { .. })));
}

#[test]
fn a_handover_is_repeated_until_it_is_answered_and_then_the_tenant_is_left_to_others() {
    let mut steps = Steps::owner();
    let tenant = steps.tenant.clone();
    let events = steps.replica.request_handover(&tenant);
    assert!(matches!(
        events[..],
        [Event::StartHandover {
            reason: MoveReason::Requested,
            epoch: 1,
            ..
        }]
    ));
    assert!(steps.is_valid(), "calls in progress may be sent");
    steps.replica.drained(&tenant, 1, "state".to_owned());
    assert!(!steps.is_valid());
    steps.beat();
    for _ in 0..2 {
        assert!(matches!(steps.action(), Some(Action::Handover { state, .. }) if state == "state"));
        let _ = steps.replica.lost(steps.now);
        assert!(steps.beat().is_empty() && !steps.is_valid());
    }
    assert!(matches!(steps.action(), Some(Action::Handover { .. })));
    let events = steps.replica.written(steps.now);
    assert!(matches!(events[..], [Event::HandedOver { epoch: 1, .. }]), "{events:?}");
    steps.lease = (None, 1, None);
    let since = steps.now;
    while steps.now < since + Duration::from_secs(3) {
        steps.beat();
        assert_eq!(steps.action(), None);
    }
    steps.now = since + Duration::from_secs(5);
    assert_eq!(steps.acquire().len(), 1);
}

#[test]
fn a_replica_that_stops_hands_over_everything_and_names_no_tenants() {
    let mut steps = Steps::owner();
    let tenant = steps.tenant.clone();
    let events = steps.replica.stop(steps.now);
    assert!(matches!(
        events[..],
        [Event::StartHandover {
            reason: MoveReason::Shutdown,
            ..
        }]
    ));
    steps.replica.drained(&tenant, 1, String::new());
    let beat = steps.replica.next_action(steps.now);
    assert_eq!(beat, Some(Action::Beat { tenants: vec![] }));
    let _ = steps.replica.lost(steps.now);
    assert!(!steps.replica.owns_nothing());
    steps.lease = (None, 1, None);
    let events = steps.beat();
    assert!(
        matches!(events[..], [Event::HandedOver { .. }]),
        "the first answer was lost: {events:?}"
    );
    assert!(steps.replica.owns_nothing());
    for _ in 0..20 {
        steps.beat();
        assert_eq!(steps.action(), None);
    }
}

#[test]
fn a_better_owner_that_is_up_for_a_while_gets_the_tenant_after_a_minute() {
    let mut steps = Steps::new(false);
    steps.beat();
    assert_eq!(steps.acquire().len(), 1);
    let since = steps.now;
    for beat in 1.. {
        steps.other = Some(beat);
        let events = steps.beat();
        if steps.now < since + Duration::from_secs(60) {
            assert!(events.is_empty(), "{events:?}");
        } else {
            let reason = MoveReason::Balance;
            return assert!(matches!(events[..], [Event::StartHandover { reason: found, .. }] if found == reason));
        }
    }
}

#[test]
fn a_database_that_fails_at_once_is_not_asked_without_a_pause() {
    let mut steps = Steps::owner();
    let _ = steps.replica.request_handover(&steps.tenant.clone());
    steps.replica.drained(&steps.tenant.clone(), 1, String::new());
    let (start, mut actions) = (steps.now, 0);
    while steps.now < start + BEAT {
        actions += usize::from(steps.replica.next_action(steps.now).is_some());
        let _ = steps.replica.lost(steps.now);
        steps.now += Duration::from_millis(1);
    }
    assert!((5..=11).contains(&actions), "{actions}");
}
