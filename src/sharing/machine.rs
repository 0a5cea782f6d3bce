//! The state machine of a share: the effect of an event on a share in each stage, and the next task. The functions are
//! pure. They use no store, no upstream and no clock.

use jiff::Timestamp;

use crate::domain::share::{Share, ShareContext, ShareStage, ShareStep, SharedEntity};
use crate::error::Error;

/// An event that changes a share.
#[derive(Clone, Debug, PartialEq)]
pub enum ShareEvent {
    /// The step starts. The event is stored before the request is sent.
    StepStarted(ShareStep),
    /// The activity with this id was posted, or was found by a look-up.
    ActivityPosted(String),
    /// The activity was not found by a look-up.
    ActivityNotFound,
    /// LeadSquared accepted the request and gave it this id.
    RequestAccepted(String),
    /// LeadSquared processed the request.
    RequestProcessed,
    /// LeadSquared rejected the step with this error.
    Rejected(Error),
    /// LeadSquared has no such access to revoke, or the lead or opportunity does not exist.
    AccessNotFound,
    /// The step was certainly not executed.
    NotExecuted,
    /// Whether the step was executed is unknown.
    OutcomeUnknown,
    /// The task did not succeed within `give_up_after`. The error is the last one.
    GaveUp(Error),
    /// The share that this share extends was ended, or its revoke was started.
    PredecessorEnded,
    /// The share that extends this share replaced it.
    ReplacedBySuccessor,
    /// The duration of the share is over.
    DurationOver,
    /// A caller requested a revoke.
    RevokeRequested,
    /// A caller requested a retry of the step that failed or whose outcome is unknown.
    RetryRequested,
}

/// The next task for a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareTask {
    /// There is nothing to do.
    Idle,
    /// Record that this step starts, then execute it.
    Execute(ShareStep),
    /// An earlier process started the step. Record that its outcome is unknown.
    RecoverStep,
    /// Look up whether the activity was posted.
    VerifyActivity,
    /// Poll the status of the upstream request.
    PollStatus,
    /// End the share that this share extends.
    EndPredecessor,
}

/// The event is invalid in the current stage of the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTransition;

/// Settings of the state machine, for behavior that LeadSquared does not document.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransitionRules {
    /// Whether a share request can be sent again without a second grant, even if the first one may have been executed.
    pub may_ask_again: bool,
}

/// Returns the next task for a share in this stage.
pub fn task(stage: ShareStage) -> ShareTask {
    match stage {
        ShareStage::Created => ShareTask::Execute(ShareStep::PostActivity),
        ShareStage::ShareQueued => ShareTask::Execute(ShareStep::Share),
        ShareStage::RevokeQueued => ShareTask::Execute(ShareStep::Revoke),
        ShareStage::PostingActivity | ShareStage::RequestingShare | ShareStage::RequestingRevoke => {
            ShareTask::RecoverStep
        }
        ShareStage::VerifyingActivity => ShareTask::VerifyActivity,
        ShareStage::ShareInProgress | ShareStage::RevokeInProgress => ShareTask::PollStatus,
        ShareStage::EndingPredecessor => ShareTask::EndPredecessor,
        ShareStage::Active | ShareStage::Uncertain | ShareStage::Expired | ShareStage::Failed | ShareStage::Revoked => {
            ShareTask::Idle
        }
    }
}

/// Returns the share after an event.
///
/// # Errors
///
/// [`InvalidTransition`] if the event is invalid in the current stage.
pub fn apply(
    share: &Share,
    event: ShareEvent,
    rules: TransitionRules,
    now: Timestamp,
) -> Result<Share, InvalidTransition> {
    let mut next = share.clone();
    next.changed = now;
    if matches!(event, ShareEvent::StepStarted(_)) {
        next.attempts = next.attempts.saturating_add(1);
    }
    next.stage = match (share.stage, event) {
        (ShareStage::Created, ShareEvent::StepStarted(ShareStep::PostActivity)) => ShareStage::PostingActivity,
        (ShareStage::ShareQueued, ShareEvent::StepStarted(ShareStep::Share)) => {
            next.last_requested = Some(now);
            // The latest possible end of the access. It is replaced when the grant is known.
            next.expires = Some(now + next.duration());
            ShareStage::RequestingShare
        }
        (ShareStage::RevokeQueued, ShareEvent::StepStarted(ShareStep::Revoke)) => {
            next.last_requested = Some(now);
            ShareStage::RequestingRevoke
        }

        (ShareStage::PostingActivity | ShareStage::VerifyingActivity, ShareEvent::ActivityPosted(id)) => {
            next.posted(id)
        }
        (ShareStage::VerifyingActivity, ShareEvent::ActivityNotFound) if share.revoke_requested => next.revoked(),
        // The activity is posted a second time at most, because a lost post may still be executed later.
        (ShareStage::VerifyingActivity, ShareEvent::ActivityNotFound) if share.posted_again => {
            next.uncertain(ShareStep::PostActivity)
        }
        (ShareStage::VerifyingActivity, ShareEvent::ActivityNotFound) => {
            next.posted_again = true;
            ShareStage::Created
        }
        (ShareStage::RequestingShare, ShareEvent::RequestAccepted(id)) => {
            next.accepted(id, ShareStage::ShareInProgress)
        }
        (ShareStage::RequestingRevoke, ShareEvent::RequestAccepted(id)) => {
            next.accepted(id, ShareStage::RevokeInProgress)
        }
        (ShareStage::ShareInProgress, ShareEvent::RequestProcessed) => next.granted(now),
        (ShareStage::RevokeInProgress, ShareEvent::RequestProcessed | ShareEvent::AccessNotFound)
            if share.share_again =>
        {
            next.shared_again()
        }
        (ShareStage::RevokeInProgress, ShareEvent::RequestProcessed) => next.revoked(),

        (ShareStage::PostingActivity, ShareEvent::Rejected(error)) => next.failed(ShareStep::PostActivity, error),
        // There is no access to revoke.
        (ShareStage::RequestingRevoke, ShareEvent::AccessNotFound) if share.share_again => next.shared_again(),
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, ShareEvent::AccessNotFound) => next.revoked(),
        // An earlier request may have been executed. That may be the reason for this rejection.
        (ShareStage::RequestingShare | ShareStage::ShareInProgress, ShareEvent::Rejected(_))
            if share.possibly_granted_before =>
        {
            next.upstream_request_id = None;
            next.uncertain(ShareStep::Share)
        }
        (ShareStage::RequestingShare | ShareStage::ShareInProgress, ShareEvent::Rejected(error)) => {
            next.failed(ShareStep::Share, error)
        }
        // Whether the user has access is still unknown. RetryShare revokes again.
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, ShareEvent::Rejected(_))
        | (ShareStage::RequestingRevoke, ShareEvent::OutcomeUnknown)
        | (ShareStage::RevokeQueued | ShareStage::RevokeInProgress, ShareEvent::GaveUp(_))
            if share.share_again =>
        {
            next.upstream_request_id = None;
            next.uncertain(ShareStep::Share)
        }
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, ShareEvent::Rejected(_))
            if share.possibly_granted_before =>
        {
            next.uncertain(ShareStep::Revoke)
        }
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, ShareEvent::Rejected(error)) => {
            next.still_active(error)
        }

        (ShareStage::PostingActivity, ShareEvent::NotExecuted) => next.unless_revoke_requested(ShareStage::Created),
        (ShareStage::RequestingShare, ShareEvent::NotExecuted) => next.unless_revoke_requested(ShareStage::ShareQueued),
        (ShareStage::RequestingRevoke, ShareEvent::NotExecuted) => ShareStage::RevokeQueued,

        (ShareStage::PostingActivity, ShareEvent::OutcomeUnknown) => {
            next.unless_revoke_requested(ShareStage::VerifyingActivity)
        }
        // Access that may exist is also revoked.
        (ShareStage::RequestingShare, ShareEvent::OutcomeUnknown)
        | (ShareStage::ShareInProgress, ShareEvent::GaveUp(_))
            if share.revoke_requested =>
        {
            next.possibly_granted_before = true;
            next.start_revoke()
        }
        (ShareStage::RequestingShare, ShareEvent::OutcomeUnknown)
            if rules.may_ask_again && !share.possibly_granted_before =>
        {
            next.possibly_granted_before = true;
            ShareStage::ShareQueued
        }
        (ShareStage::RequestingShare, ShareEvent::OutcomeUnknown) => next.uncertain(ShareStep::Share),
        (ShareStage::RequestingRevoke, ShareEvent::OutcomeUnknown) if share.possibly_granted_before => {
            next.uncertain(ShareStep::Revoke)
        }
        // A second revoke of the same access is harmless.
        (ShareStage::RequestingRevoke, ShareEvent::OutcomeUnknown) => {
            next.possibly_granted_before = true;
            ShareStage::RevokeQueued
        }

        // Nothing was sent, so the outcome is known, unless an earlier request may have been executed.
        (ShareStage::Created, ShareEvent::GaveUp(error)) => next.failed(ShareStep::PostActivity, error),
        (ShareStage::ShareQueued, ShareEvent::GaveUp(_)) if share.possibly_granted_before => {
            next.uncertain(ShareStep::Share)
        }
        (ShareStage::ShareQueued, ShareEvent::GaveUp(error)) => next.failed(ShareStep::Share, error),
        (ShareStage::RevokeQueued, ShareEvent::GaveUp(_)) if share.possibly_granted_before => {
            next.uncertain(ShareStep::Revoke)
        }
        (ShareStage::RevokeQueued, ShareEvent::GaveUp(error)) => next.still_active(error),
        (ShareStage::VerifyingActivity, ShareEvent::GaveUp(_)) if share.revoke_requested => next.revoked(),
        (ShareStage::VerifyingActivity, ShareEvent::GaveUp(_)) => next.uncertain(ShareStep::PostActivity),
        (ShareStage::ShareInProgress, ShareEvent::GaveUp(_)) => next.uncertain(ShareStep::Share),
        (ShareStage::RevokeInProgress, ShareEvent::GaveUp(_)) => next.uncertain(ShareStep::Revoke),

        (ShareStage::EndingPredecessor, ShareEvent::PredecessorEnded) if share.revoke_requested => next.start_revoke(),
        (ShareStage::EndingPredecessor, ShareEvent::PredecessorEnded) => ShareStage::Active,
        (ShareStage::Active, ShareEvent::ReplacedBySuccessor) => ShareStage::Expired,
        (stage, ShareEvent::DurationOver) if may_expire(share, stage) => ShareStage::Expired,

        (stage, ShareEvent::RevokeRequested) => next.revoke(stage).ok_or(InvalidTransition)?,
        (stage @ (ShareStage::Failed | ShareStage::Uncertain), ShareEvent::RetryRequested) => {
            next.retry(stage, rules, now).ok_or(InvalidTransition)?
        }

        (
            _,
            ShareEvent::StepStarted(_)
            | ShareEvent::ActivityPosted(_)
            | ShareEvent::ActivityNotFound
            | ShareEvent::RequestAccepted(_)
            | ShareEvent::RequestProcessed
            | ShareEvent::Rejected(_)
            | ShareEvent::AccessNotFound
            | ShareEvent::NotExecuted
            | ShareEvent::OutcomeUnknown
            | ShareEvent::GaveUp(_)
            | ShareEvent::PredecessorEnded
            | ShareEvent::ReplacedBySuccessor
            | ShareEvent::DurationOver
            | ShareEvent::RetryRequested,
        ) => return Err(InvalidTransition),
    };
    if next.stage != ShareStage::Uncertain && next.stage != ShareStage::Failed && next.stage != ShareStage::Expired {
        next.step = None;
    }
    if next.stage.has_ended() {
        next.revoke_requested = false;
    }
    Ok(next)
}

/// Whether a share in this stage expires when its duration is over: a share that was granted or may have been granted.
fn may_expire(share: &Share, stage: ShareStage) -> bool {
    match stage {
        ShareStage::Active => true,
        // A share that is requested again does not expire: its duration starts again.
        ShareStage::RevokeQueued | ShareStage::RevokeInProgress => !share.share_again,
        ShareStage::Uncertain => share.step != Some(ShareStep::PostActivity),
        ShareStage::Created
        | ShareStage::PostingActivity
        | ShareStage::VerifyingActivity
        | ShareStage::ShareQueued
        | ShareStage::RequestingShare
        | ShareStage::ShareInProgress
        | ShareStage::EndingPredecessor
        | ShareStage::RequestingRevoke
        | ShareStage::Expired
        | ShareStage::Failed
        | ShareStage::Revoked => false,
    }
}

impl Share {
    fn posted(&mut self, activity_id: String) -> ShareStage {
        if let SharedEntity::Lead {
            context: ShareContext::New { id, .. },
            ..
        } = &mut self.entity
        {
            *id = Some(activity_id);
        }
        self.unless_revoke_requested(ShareStage::ShareQueued)
    }

    /// Returns `stage`, or the stage of the revoke if a revoke was requested. Without an earlier share request there is nothing to
    /// revoke.
    fn unless_revoke_requested(&mut self, stage: ShareStage) -> ShareStage {
        match (self.revoke_requested, self.possibly_granted_before) {
            (false, _) => stage,
            (true, false) => self.revoked(),
            (true, true) => self.start_revoke(),
        }
    }

    fn accepted(&mut self, request_id: String, stage: ShareStage) -> ShareStage {
        self.upstream_request_id = Some(request_id);
        stage
    }

    fn granted(&mut self, now: Timestamp) -> ShareStage {
        self.granted = Some(now);
        self.expires = Some(now + self.duration());
        self.failure = None;
        self.possibly_granted_before = false;
        match self.extends {
            _ if self.revoke_requested => self.start_revoke(),
            Some(_) => ShareStage::EndingPredecessor,
            None => ShareStage::Active,
        }
    }

    fn start_revoke(&mut self) -> ShareStage {
        self.revoke_requested = false;
        self.failure = None;
        ShareStage::RevokeQueued
    }

    fn revoked(&mut self) -> ShareStage {
        self.failure = None;
        ShareStage::Revoked
    }

    /// The access that may have been granted is revoked. The share can be requested again like a new share.
    fn shared_again(&mut self) -> ShareStage {
        self.share_again = false;
        self.possibly_granted_before = false;
        self.upstream_request_id = None;
        self.expires = None;
        ShareStage::ShareQueued
    }

    fn failed(&mut self, step: ShareStep, error: Error) -> ShareStage {
        self.failure = Some(error);
        self.step = Some(step);
        ShareStage::Failed
    }

    /// The revoke failed, so the user still has access.
    fn still_active(&mut self, error: Error) -> ShareStage {
        self.failure = Some(error);
        ShareStage::Active
    }

    fn uncertain(&mut self, step: ShareStep) -> ShareStage {
        self.step = Some(step);
        self.revoke_requested = false;
        self.share_again = false;
        ShareStage::Uncertain
    }

    fn revoke(&mut self, stage: ShareStage) -> Option<ShareStage> {
        Some(match stage {
            ShareStage::Created => self.revoked(),
            ShareStage::ShareQueued if !self.possibly_granted_before => self.revoked(),
            ShareStage::ShareQueued => self.start_revoke(),
            // The revoke starts when the outcome of the current step is known.
            ShareStage::PostingActivity
            | ShareStage::VerifyingActivity
            | ShareStage::RequestingShare
            | ShareStage::ShareInProgress
            | ShareStage::EndingPredecessor => {
                self.revoke_requested = true;
                stage
            }
            ShareStage::Active => {
                self.possibly_granted_before = false;
                self.start_revoke()
            }
            ShareStage::Uncertain if self.step == Some(ShareStep::PostActivity) => self.revoked(),
            ShareStage::Uncertain => {
                self.possibly_granted_before = true;
                self.start_revoke()
            }
            ShareStage::RevokeQueued
            | ShareStage::RequestingRevoke
            | ShareStage::RevokeInProgress
            | ShareStage::Revoked => {
                self.share_again = false;
                stage
            }
            ShareStage::Expired | ShareStage::Failed => return None,
        })
    }

    fn retry(&mut self, stage: ShareStage, rules: TransitionRules, now: Timestamp) -> Option<ShareStage> {
        let step = self.step?;
        self.failure = None;
        // Access that may have been granted is revoked first. Otherwise it could be granted twice. The waiting time before the
        // revoke starts at the request that may have granted it.
        let is_accepted = self.upstream_request_id.is_some();
        if (step, stage) == (ShareStep::Share, ShareStage::Uncertain)
            && !is_accepted
            && !rules.may_ask_again
            && !self.has_same_upstream_grant()
        {
            self.possibly_granted_before = true;
            self.share_again = true;
            return Some(self.start_revoke());
        }
        self.last_requested = Some(now);
        Some(match (step, stage) {
            // The activity is looked up first, even after a rejection: an earlier post may have been executed.
            (ShareStep::PostActivity, _) => {
                self.posted_again = false;
                ShareStage::VerifyingActivity
            }
            // LeadSquared accepted the request. Polling its status is enough.
            (ShareStep::Share, ShareStage::Uncertain) if self.upstream_request_id.is_some() => {
                ShareStage::ShareInProgress
            }
            (ShareStep::Share, _) => {
                self.possibly_granted_before = stage == ShareStage::Uncertain;
                self.upstream_request_id = None;
                ShareStage::ShareQueued
            }
            (ShareStep::Revoke, _) => {
                self.possibly_granted_before = true;
                self.start_revoke()
            }
        })
    }

    /// Whether LeadSquared cannot distinguish this share from the share that it extends. Then a revoke would end both.
    fn has_same_upstream_grant(&self) -> bool {
        self.extends.is_some() && !self.is_of_lead()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::share::{Access, ShareState};
    use crate::error::ErrorKind;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn share(stage: ShareStage) -> Share {
        let entity = SharedEntity::Lead {
            id: "lead".into(),
            number: "1001".into(),
            context: ShareContext::New {
                id: None,
                code: 201,
                note: String::new(),
                fields: Default::default(),
            },
        };
        Share {
            stage,
            ..Share::new(Uuid::from_u128(1), entity, "sam".into(), Access::Write, 30, at(0))
        }
    }

    /// A share in every stage, and shares with the fields that make a difference in a stage.
    fn shares() -> Vec<(String, Share)> {
        let mut all: Vec<_> = ShareStage::ALL.map(|stage| (format!("{stage:?}"), share(stage))).into();
        let mut variant = |name: &str, stage, change: fn(&mut Share)| {
            let mut share = share(stage);
            change(&mut share);
            all.push((format!("{stage:?}, {name}"), share));
        };
        for stage in [
            ShareStage::PostingActivity,
            ShareStage::VerifyingActivity,
            ShareStage::RequestingShare,
            ShareStage::ShareInProgress,
            ShareStage::EndingPredecessor,
        ] {
            variant("revoke requested", stage, |share| share.revoke_requested = true);
        }
        variant("posted again", ShareStage::VerifyingActivity, |share| {
            share.posted_again = true
        });
        for stage in [
            ShareStage::ShareQueued,
            ShareStage::RequestingShare,
            ShareStage::ShareInProgress,
            ShareStage::RevokeQueued,
            ShareStage::RequestingRevoke,
            ShareStage::RevokeInProgress,
        ] {
            variant("possibly granted before", stage, |share| {
                share.possibly_granted_before = true
            });
        }
        for stage in [
            ShareStage::RevokeQueued,
            ShareStage::RequestingRevoke,
            ShareStage::RevokeInProgress,
        ] {
            variant("to be requested again", stage, |share| {
                share.possibly_granted_before = true;
                share.share_again = true;
            });
        }
        variant("extends another", ShareStage::ShareInProgress, |share| {
            share.extends = Some(Uuid::from_u128(2))
        });
        variant(
            "extends another, revoke requested",
            ShareStage::ShareInProgress,
            |share| {
                share.extends = Some(Uuid::from_u128(2));
                share.revoke_requested = true;
            },
        );
        for stage in [ShareStage::Uncertain, ShareStage::Failed] {
            variant("activity", stage, |share| share.step = Some(ShareStep::PostActivity));
            variant("share", stage, |share| share.step = Some(ShareStep::Share));
        }
        variant("share, accepted", ShareStage::Uncertain, |share| {
            share.step = Some(ShareStep::Share);
            share.upstream_request_id = Some("98fe".into());
        });
        variant("share, extension of an opportunity", ShareStage::Uncertain, |share| {
            share.step = Some(ShareStep::Share);
            share.entity = SharedEntity::Opportunity { id: "deal".into() };
            share.extends = Some(Uuid::from_u128(2));
        });
        variant("revoke", ShareStage::Uncertain, |share| {
            share.step = Some(ShareStep::Revoke)
        });
        all
    }

    fn error() -> Error {
        ErrorKind::FeatureDisabled.into()
    }

    fn events() -> Vec<ShareEvent> {
        vec![
            ShareEvent::StepStarted(ShareStep::PostActivity),
            ShareEvent::StepStarted(ShareStep::Share),
            ShareEvent::StepStarted(ShareStep::Revoke),
            ShareEvent::ActivityPosted("activity".into()),
            ShareEvent::ActivityNotFound,
            ShareEvent::RequestAccepted("98fe".into()),
            ShareEvent::RequestProcessed,
            ShareEvent::Rejected(error()),
            ShareEvent::AccessNotFound,
            ShareEvent::NotExecuted,
            ShareEvent::OutcomeUnknown,
            ShareEvent::GaveUp(error()),
            ShareEvent::PredecessorEnded,
            ShareEvent::ReplacedBySuccessor,
            ShareEvent::DurationOver,
            ShareEvent::RevokeRequested,
            ShareEvent::RetryRequested,
        ]
    }

    fn name(event: &ShareEvent) -> String {
        let text = format!("{event:?}");
        match event {
            ShareEvent::StepStarted(_) => text,
            _ => text.split('(').next().unwrap_or_default().to_owned(),
        }
    }

    /// The changes of a share apart from its stage.
    fn marks(before: &Share, after: &Share) -> String {
        let mut marks = String::new();
        let mut mark = |is_there: bool, text: &str| {
            if is_there {
                let _ = write!(marks, ", {text}");
            }
        };
        mark(after.revoke_requested, "revoke requested");
        mark(after.possibly_granted_before, "possibly granted before");
        mark(after.share_again, "to be requested again");
        mark(after.failure.is_some(), "with failure");
        mark(after.step == Some(ShareStep::PostActivity), "activity");
        mark(after.step == Some(ShareStep::Share), "share");
        mark(after.step == Some(ShareStep::Revoke), "revoke");
        mark(after.granted != before.granted, "granted");
        mark(after.expires != before.expires, "end changed");
        marks
    }

    #[test]
    fn every_event_in_every_stage_has_the_expected_result() {
        let mut table = String::new();
        for (title, before) in shares() {
            let _ = writeln!(table, "{title} ({:?}, task: {:?})", before.state(), task(before.stage));
            for event in events() {
                let [strict, lenient] = [false, true].map(|may_ask_again| {
                    let rules = TransitionRules { may_ask_again };
                    match apply(&before, event.clone(), rules, at(60)) {
                        Ok(after) => format!("{:?}{}", after.stage, marks(&before, &after)),
                        Err(InvalidTransition) => "-".to_owned(),
                    }
                });
                let name = name(&event);
                if strict != lenient {
                    let _ = writeln!(table, "  {name:<28} {strict}; with may_ask_again: {lenient}");
                } else if strict != "-" {
                    let _ = writeln!(table, "  {name:<28} {strict}");
                }
            }
        }
        insta::assert_snapshot!("table", table);
    }

    #[test]
    fn a_granted_share_expires_after_its_duration() {
        let granted = apply(
            &share(ShareStage::ShareInProgress),
            ShareEvent::RequestProcessed,
            TransitionRules::default(),
            at(100),
        )
        .unwrap();
        assert_eq!(granted.granted, Some(at(100)));
        assert_eq!(granted.expires, Some(at(100 + 30 * 60)));
        assert_eq!(granted.state(), ShareState::Active);
    }

    #[test]
    fn a_posted_activity_becomes_the_context_of_the_share() {
        let posted = apply(
            &share(ShareStage::PostingActivity),
            ShareEvent::ActivityPosted("a1".into()),
            TransitionRules::default(),
            at(1),
        )
        .unwrap();
        assert_eq!(posted.activity_id(), Some("a1"));
    }

    fn event() -> impl Strategy<Value = ShareEvent> {
        proptest::sample::select(events())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A share is requested again only if it was certainly not granted or is certainly revoked, also by RetryShare. A share
        /// that may have been granted is never failed or revoked.
        #[test]
        fn no_access_is_requested_twice(events in proptest::collection::vec(event(), 1..80)) {
            let mut share = share(ShareStage::Created);
            // Number of share requests that LeadSquared may have granted, as an observer of the events counts them.
            let mut may_be_granted = 0;
            for event in events {
                let before = share.clone();
                let Ok(after) = apply(&before, event.clone(), TransitionRules::default(), at(1)) else {
                    continue;
                };
                share = after;
                match (before.stage, &event) {
                    (ShareStage::ShareQueued, ShareEvent::StepStarted(ShareStep::Share)) => {
                        may_be_granted += 1;
                        prop_assert!(may_be_granted <= 1, "requested twice");
                    }
                    // LeadSquared rejected the request, or the request was not sent.
                    (ShareStage::RequestingShare | ShareStage::ShareInProgress, ShareEvent::Rejected(_)) | (ShareStage::RequestingShare, ShareEvent::NotExecuted) => {
                        may_be_granted -= 1;
                    }
                    (_, ShareEvent::AccessNotFound) | (ShareStage::RevokeInProgress, ShareEvent::RequestProcessed) | (_, ShareEvent::DurationOver | ShareEvent::ReplacedBySuccessor) => may_be_granted = 0,
                    _ => {}
                }
                if may_be_granted > 0 {
                    let is_reported_as_not_granted = matches!(share.stage, ShareStage::Failed | ShareStage::Revoked);
                    prop_assert!(!is_reported_as_not_granted, "{:?} by {:?} from {:?}", share.stage, event, before);
                }
                prop_assert!(share.stage != ShareStage::Uncertain || share.step.is_some());
            }
        }

        /// From every stage a share reaches a stage without tasks if all further steps succeed.
        #[test]
        fn every_share_reaches_a_stage_without_tasks(events in proptest::collection::vec(event(), 0..60)) {
            let mut share = share(ShareStage::Created);
            for event in events {
                share = apply(&share, event, TransitionRules::default(), at(1)).unwrap_or(share);
            }
            for _ in 0..12 {
                let event = match task(share.stage) {
                    ShareTask::Idle => break,
                    ShareTask::Execute(step) => ShareEvent::StepStarted(step),
                    ShareTask::RecoverStep => ShareEvent::OutcomeUnknown,
                    ShareTask::VerifyActivity => ShareEvent::ActivityNotFound,
                    ShareTask::PollStatus => ShareEvent::RequestProcessed,
                    ShareTask::EndPredecessor => ShareEvent::PredecessorEnded,
                };
                let is_started = matches!(event, ShareEvent::StepStarted(_));
                share = apply(&share, event, TransitionRules::default(), at(2)).unwrap();
                if is_started {
                    let response = match share.stage {
                        ShareStage::PostingActivity => ShareEvent::ActivityPosted("a".into()),
                        _ => ShareEvent::RequestAccepted("r".into()),
                    };
                    share = apply(&share, response, TransitionRules::default(), at(3)).unwrap();
                }
            }
            prop_assert_eq!(task(share.stage), ShareTask::Idle);
        }
    }
}
