//! The way of a share: pure, every stage with every event. Knows no store, no LeadSquared and no clock.

use jiff::Timestamp;

use crate::domain::share::{Share, ShareContext, ShareStage, ShareStep, SharedEntity};
use crate::error::Error;

/// What happens to a share.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// That step is about to be taken. Written down before it is.
    Begun(ShareStep),
    /// The activity is posted, or was found.
    Posted(String),
    /// The activity is not there.
    NotPosted,
    /// LeadSquared has taken the request, under that id.
    Taken(String),
    /// LeadSquared has done what was asked.
    Done,
    /// LeadSquared will not do it, and why.
    Refused(Error),
    /// LeadSquared knows of no such share, or not of what is shared.
    Gone,
    /// The step was surely not taken.
    NotTaken,
    /// Whether the step was taken is not known.
    Lost,
    /// What was to be found out could not be, for too long.
    GivenUp(Error),
    /// The share that this one takes over from has been dealt with.
    Succeeded,
    /// Another share has taken over.
    TakenOver,
    /// Its time is over.
    TimeOver,
    /// Somebody wants it revoked.
    Revoke,
    /// Somebody wants the step tried again that failed, or whose outcome is not known.
    Retry,
}

/// What is to be done for a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing.
    Rest,
    /// Begin, then take that step.
    Take(ShareStep),
    /// It was begun by somebody who is not here any more: the outcome is lost.
    Recover,
    /// Look whether the activity was posted.
    Look,
    /// Ask how the request stands.
    Poll,
    /// End the share that this one takes over from.
    Succeed,
}

/// The event cannot happen to a share that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impossible;

/// How the machine may behave: what LeadSquared does not document.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Asking again for what may be shared already does no harm.
    pub may_ask_again: bool,
}

/// What is to be done for a share, by its stage alone.
pub fn task(stage: ShareStage) -> Task {
    match stage {
        ShareStage::Created => Task::Take(ShareStep::PostActivity),
        ShareStage::ShareQueued => Task::Take(ShareStep::Share),
        ShareStage::RevokeQueued => Task::Take(ShareStep::Revoke),
        ShareStage::PostingActivity | ShareStage::RequestingShare | ShareStage::RequestingRevoke => Task::Recover,
        ShareStage::VerifyingActivity => Task::Look,
        ShareStage::ShareInProgress | ShareStage::RevokeInProgress => Task::Poll,
        ShareStage::EndingPredecessor => Task::Succeed,
        ShareStage::Active | ShareStage::Uncertain | ShareStage::Expired | ShareStage::Failed | ShareStage::Revoked => {
            Task::Rest
        }
    }
}

/// What becomes of a share.
pub fn apply(share: &Share, event: Event, rules: Rules, now: Timestamp) -> Result<Share, Impossible> {
    let mut next = share.clone();
    next.changed = now;
    if matches!(event, Event::Begun(_)) {
        next.sends = next.sends.saturating_add(1);
    }
    next.stage = match (share.stage, event) {
        (ShareStage::Created, Event::Begun(ShareStep::PostActivity)) => ShareStage::PostingActivity,
        (ShareStage::ShareQueued, Event::Begun(ShareStep::Share)) => {
            next.asked = Some(now);
            // Unless it is known better, access lasts as long as if it were granted at the last moment.
            next.expires = Some(now + next.duration());
            ShareStage::RequestingShare
        }
        (ShareStage::RevokeQueued, Event::Begun(ShareStep::Revoke)) => {
            next.asked = Some(now);
            ShareStage::RequestingRevoke
        }

        (ShareStage::PostingActivity | ShareStage::VerifyingActivity, Event::Posted(id)) => next.posted(id),
        (ShareStage::VerifyingActivity, Event::NotPosted) if share.revoke_wanted => next.revoked(),
        // It is posted once more and no oftener: those that were lost may come still.
        (ShareStage::VerifyingActivity, Event::NotPosted) if share.posted_again => {
            next.uncertain(ShareStep::PostActivity)
        }
        (ShareStage::VerifyingActivity, Event::NotPosted) => {
            next.posted_again = true;
            ShareStage::Created
        }
        (ShareStage::RequestingShare, Event::Taken(id)) => next.taken(id, ShareStage::ShareInProgress),
        (ShareStage::RequestingRevoke, Event::Taken(id)) => next.taken(id, ShareStage::RevokeInProgress),
        (ShareStage::ShareInProgress, Event::Done) => next.granted(now),
        (ShareStage::RevokeInProgress, Event::Done | Event::Gone) if share.share_again => next.shared_again(),
        (ShareStage::RevokeInProgress, Event::Done) => next.revoked(),

        (ShareStage::PostingActivity, Event::Refused(error)) => next.failed(ShareStep::PostActivity, error),
        // What is not there needs no revoking.
        (ShareStage::RequestingRevoke, Event::Gone) if share.share_again => next.shared_again(),
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, Event::Gone) => next.revoked(),
        // One that was asked for before may have been done, which may be why this one is refused.
        (ShareStage::RequestingShare | ShareStage::ShareInProgress, Event::Refused(_)) if share.doubted => {
            next.upstream_request_id = None;
            next.uncertain(ShareStep::Share)
        }
        (ShareStage::RequestingShare | ShareStage::ShareInProgress, Event::Refused(error)) => {
            next.failed(ShareStep::Share, error)
        }
        // Whether there is access is as uncertain as before, and RetryShare revokes again.
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, Event::Refused(_))
        | (ShareStage::RequestingRevoke, Event::Lost)
        | (ShareStage::RevokeQueued | ShareStage::RevokeInProgress, Event::GivenUp(_))
            if share.share_again =>
        {
            next.upstream_request_id = None;
            next.uncertain(ShareStep::Share)
        }
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, Event::Refused(_)) if share.doubted => {
            next.uncertain(ShareStep::Revoke)
        }
        (ShareStage::RequestingRevoke | ShareStage::RevokeInProgress, Event::Refused(error)) => next.kept(error),

        (ShareStage::PostingActivity, Event::NotTaken) => next.unless_unwanted(ShareStage::Created),
        (ShareStage::RequestingShare, Event::NotTaken) => next.unless_unwanted(ShareStage::ShareQueued),
        (ShareStage::RequestingRevoke, Event::NotTaken) => ShareStage::RevokeQueued,

        (ShareStage::PostingActivity, Event::Lost) => next.unless_unwanted(ShareStage::VerifyingActivity),
        // What may be there is revoked too.
        (ShareStage::RequestingShare, Event::Lost) | (ShareStage::ShareInProgress, Event::GivenUp(_))
            if share.revoke_wanted =>
        {
            next.doubted = true;
            next.leaving()
        }
        (ShareStage::RequestingShare, Event::Lost) if rules.may_ask_again && !share.doubted => {
            next.doubted = true;
            ShareStage::ShareQueued
        }
        (ShareStage::RequestingShare, Event::Lost) => next.uncertain(ShareStep::Share),
        (ShareStage::RequestingRevoke, Event::Lost) if share.doubted => next.uncertain(ShareStep::Revoke),
        // To take back twice what can be taken back once does no harm.
        (ShareStage::RequestingRevoke, Event::Lost) => {
            next.doubted = true;
            ShareStage::RevokeQueued
        }

        // Nothing was sent, so nothing is uncertain, unless something was before.
        (ShareStage::Created, Event::GivenUp(error)) => next.failed(ShareStep::PostActivity, error),
        (ShareStage::ShareQueued, Event::GivenUp(_)) if share.doubted => next.uncertain(ShareStep::Share),
        (ShareStage::ShareQueued, Event::GivenUp(error)) => next.failed(ShareStep::Share, error),
        (ShareStage::RevokeQueued, Event::GivenUp(_)) if share.doubted => next.uncertain(ShareStep::Revoke),
        (ShareStage::RevokeQueued, Event::GivenUp(error)) => next.kept(error),
        (ShareStage::VerifyingActivity, Event::GivenUp(_)) if share.revoke_wanted => next.revoked(),
        (ShareStage::VerifyingActivity, Event::GivenUp(_)) => next.uncertain(ShareStep::PostActivity),
        (ShareStage::ShareInProgress, Event::GivenUp(_)) => next.uncertain(ShareStep::Share),
        (ShareStage::RevokeInProgress, Event::GivenUp(_)) => next.uncertain(ShareStep::Revoke),

        (ShareStage::EndingPredecessor, Event::Succeeded) if share.revoke_wanted => next.leaving(),
        (ShareStage::EndingPredecessor, Event::Succeeded) => ShareStage::Active,
        (ShareStage::Active, Event::TakenOver) => ShareStage::Expired,
        (stage, Event::TimeOver) if may_end(share, stage) => ShareStage::Expired,

        (stage, Event::Revoke) => next.revoke(stage).ok_or(Impossible)?,
        (stage @ (ShareStage::Failed | ShareStage::Uncertain), Event::Retry) => {
            next.retry(stage, rules, now).ok_or(Impossible)?
        }

        (
            _,
            Event::Begun(_)
            | Event::Posted(_)
            | Event::NotPosted
            | Event::Taken(_)
            | Event::Done
            | Event::Refused(_)
            | Event::Gone
            | Event::NotTaken
            | Event::Lost
            | Event::GivenUp(_)
            | Event::Succeeded
            | Event::TakenOver
            | Event::TimeOver
            | Event::Retry,
        ) => return Err(Impossible),
    };
    if next.stage != ShareStage::Uncertain && next.stage != ShareStage::Failed && next.stage != ShareStage::Expired {
        next.step = None;
    }
    if next.stage.is_over() {
        next.revoke_wanted = false;
    }
    Ok(next)
}

/// Whether a share of that stage ends when its time is over: one that was granted, or may have been.
fn may_end(share: &Share, stage: ShareStage) -> bool {
    match stage {
        ShareStage::Active => true,
        // One that is shared again has not ended: its time begins anew.
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
        } = &mut self.what
        {
            *id = Some(activity_id);
        }
        self.unless_unwanted(ShareStage::ShareQueued)
    }

    /// As long as LeadSquared was never asked, there is nothing to revoke.
    fn unless_unwanted(&mut self, stage: ShareStage) -> ShareStage {
        match (self.revoke_wanted, self.doubted) {
            (false, _) => stage,
            (true, false) => self.revoked(),
            (true, true) => self.leaving(),
        }
    }

    fn taken(&mut self, request_id: String, stage: ShareStage) -> ShareStage {
        self.upstream_request_id = Some(request_id);
        stage
    }

    fn granted(&mut self, now: Timestamp) -> ShareStage {
        self.granted = Some(now);
        self.expires = Some(now + self.duration());
        self.failure = None;
        self.doubted = false;
        match self.extends {
            _ if self.revoke_wanted => self.leaving(),
            Some(_) => ShareStage::EndingPredecessor,
            None => ShareStage::Active,
        }
    }

    fn leaving(&mut self) -> ShareStage {
        self.revoke_wanted = false;
        self.failure = None;
        ShareStage::RevokeQueued
    }

    fn revoked(&mut self) -> ShareStage {
        self.failure = None;
        ShareStage::Revoked
    }

    /// What may have been granted is revoked, so LeadSquared can be asked to share as if for the first time.
    fn shared_again(&mut self) -> ShareStage {
        self.share_again = false;
        self.doubted = false;
        self.upstream_request_id = None;
        self.expires = None;
        ShareStage::ShareQueued
    }

    fn failed(&mut self, step: ShareStep, error: Error) -> ShareStage {
        self.failure = Some(error);
        self.step = Some(step);
        ShareStage::Failed
    }

    /// It could not be revoked, so the user has access still.
    fn kept(&mut self, error: Error) -> ShareStage {
        self.failure = Some(error);
        ShareStage::Active
    }

    fn uncertain(&mut self, step: ShareStep) -> ShareStage {
        self.step = Some(step);
        self.revoke_wanted = false;
        self.share_again = false;
        ShareStage::Uncertain
    }

    fn revoke(&mut self, stage: ShareStage) -> Option<ShareStage> {
        Some(match stage {
            ShareStage::Created => self.revoked(),
            ShareStage::ShareQueued if !self.doubted => self.revoked(),
            ShareStage::ShareQueued => self.leaving(),
            // First it has to be known what there is to revoke.
            ShareStage::PostingActivity
            | ShareStage::VerifyingActivity
            | ShareStage::RequestingShare
            | ShareStage::ShareInProgress
            | ShareStage::EndingPredecessor => {
                self.revoke_wanted = true;
                stage
            }
            ShareStage::Active => {
                self.doubted = false;
                self.leaving()
            }
            ShareStage::Uncertain if self.step == Some(ShareStep::PostActivity) => self.revoked(),
            ShareStage::Uncertain => {
                self.doubted = true;
                self.leaving()
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

    fn retry(&mut self, stage: ShareStage, rules: Rules, now: Timestamp) -> Option<ShareStage> {
        let step = self.step?;
        self.failure = None;
        // What may have been granted would be granted twice, so it is revoked first. The time to wait before a revoke is
        // counted from the request that may have granted it.
        let is_taken = self.upstream_request_id.is_some();
        if (step, stage) == (ShareStep::Share, ShareStage::Uncertain)
            && !is_taken
            && !rules.may_ask_again
            && !self.shares_grant()
        {
            self.doubted = true;
            self.share_again = true;
            return Some(self.leaving());
        }
        self.asked = Some(now);
        Some(match (step, stage) {
            // It is looked for first, also where it was refused: one of before may be there.
            (ShareStep::PostActivity, _) => {
                self.posted_again = false;
                ShareStage::VerifyingActivity
            }
            // LeadSquared has taken it: it need only be asked what became of it.
            (ShareStep::Share, ShareStage::Uncertain) if self.upstream_request_id.is_some() => {
                ShareStage::ShareInProgress
            }
            (ShareStep::Share, _) => {
                self.doubted = stage == ShareStage::Uncertain;
                self.upstream_request_id = None;
                ShareStage::ShareQueued
            }
            (ShareStep::Revoke, _) => {
                self.doubted = true;
                self.leaving()
            }
        })
    }

    /// Whether LeadSquared cannot tell its grant from that of the share that it takes over from: a revoke would end both.
    fn shares_grant(&self) -> bool {
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
        let what = SharedEntity::Lead {
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
            ..Share::new(Uuid::from_u128(1), what, "sam".into(), Access::Write, 30, at(0))
        }
    }

    /// Every stage, with what else makes a difference there.
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
            variant("revoke wanted", stage, |share| share.revoke_wanted = true);
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
            variant("doubted", stage, |share| share.doubted = true);
        }
        for stage in [
            ShareStage::RevokeQueued,
            ShareStage::RequestingRevoke,
            ShareStage::RevokeInProgress,
        ] {
            variant("shared again", stage, |share| {
                share.doubted = true;
                share.share_again = true;
            });
        }
        variant("extends another", ShareStage::ShareInProgress, |share| {
            share.extends = Some(Uuid::from_u128(2))
        });
        variant("extends another, revoke wanted", ShareStage::ShareInProgress, |share| {
            share.extends = Some(Uuid::from_u128(2));
            share.revoke_wanted = true;
        });
        for stage in [ShareStage::Uncertain, ShareStage::Failed] {
            variant("activity", stage, |share| share.step = Some(ShareStep::PostActivity));
            variant("share", stage, |share| share.step = Some(ShareStep::Share));
        }
        variant("share, taken", ShareStage::Uncertain, |share| {
            share.step = Some(ShareStep::Share);
            share.upstream_request_id = Some("98fe".into());
        });
        variant("share, extension of an opportunity", ShareStage::Uncertain, |share| {
            share.step = Some(ShareStep::Share);
            share.what = SharedEntity::Opportunity { id: "deal".into() };
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

    fn events() -> Vec<Event> {
        vec![
            Event::Begun(ShareStep::PostActivity),
            Event::Begun(ShareStep::Share),
            Event::Begun(ShareStep::Revoke),
            Event::Posted("activity".into()),
            Event::NotPosted,
            Event::Taken("98fe".into()),
            Event::Done,
            Event::Refused(error()),
            Event::Gone,
            Event::NotTaken,
            Event::Lost,
            Event::GivenUp(error()),
            Event::Succeeded,
            Event::TakenOver,
            Event::TimeOver,
            Event::Revoke,
            Event::Retry,
        ]
    }

    fn name(event: &Event) -> String {
        let text = format!("{event:?}");
        match event {
            Event::Begun(_) => text,
            _ => text.split('(').next().unwrap_or_default().to_owned(),
        }
    }

    /// What a share has become, beside its stage.
    fn marks(before: &Share, after: &Share) -> String {
        let mut marks = String::new();
        let mut mark = |is_there: bool, text: &str| {
            if is_there {
                let _ = write!(marks, ", {text}");
            }
        };
        mark(after.revoke_wanted, "revoke wanted");
        mark(after.doubted, "doubted");
        mark(after.share_again, "to be shared again");
        mark(after.failure.is_some(), "with a failure");
        mark(after.step == Some(ShareStep::PostActivity), "activity");
        mark(after.step == Some(ShareStep::Share), "share");
        mark(after.step == Some(ShareStep::Revoke), "revoke");
        mark(after.granted != before.granted, "granted now");
        mark(after.expires != before.expires, "end known");
        marks
    }

    #[test]
    fn what_becomes_of_every_share_with_every_event() {
        let mut table = String::new();
        for (title, before) in shares() {
            let _ = writeln!(table, "{title} ({:?}, to do: {:?})", before.state(), task(before.stage));
            for event in events() {
                let [strict, lenient] = [false, true].map(|may_ask_again| {
                    let rules = Rules { may_ask_again };
                    match apply(&before, event.clone(), rules, at(60)) {
                        Ok(after) => format!("{:?}{}", after.stage, marks(&before, &after)),
                        Err(Impossible) => "-".to_owned(),
                    }
                });
                let name = name(&event);
                if strict != lenient {
                    let _ = writeln!(
                        table,
                        "  {name:<19} {strict}; where asking twice does no harm: {lenient}"
                    );
                } else if strict != "-" {
                    let _ = writeln!(table, "  {name:<19} {strict}");
                }
            }
        }
        insta::assert_snapshot!("table", table);
    }

    #[test]
    fn a_share_that_was_granted_ends_when_its_time_is_over() {
        let granted = apply(
            &share(ShareStage::ShareInProgress),
            Event::Done,
            Rules::default(),
            at(100),
        )
        .unwrap();
        assert_eq!(granted.granted, Some(at(100)));
        assert_eq!(granted.expires, Some(at(100 + 30 * 60)));
        assert_eq!(granted.state(), ShareState::Active);
    }

    #[test]
    fn a_posted_activity_becomes_the_context() {
        let posted = apply(
            &share(ShareStage::PostingActivity),
            Event::Posted("a1".into()),
            Rules::default(),
            at(1),
        )
        .unwrap();
        assert_eq!(posted.activity_id(), Some("a1"));
    }

    fn event() -> impl Strategy<Value = Event> {
        proptest::sample::select(events())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A share is asked for again only if it surely came to nothing or is surely revoked, also by RetryShare; and what may
        /// have been granted is never told as nothing.
        #[test]
        fn nothing_is_asked_for_twice(events in proptest::collection::vec(event(), 1..80)) {
            let mut share = share(ShareStage::Created);
            // How many of our questions LeadSquared may have granted, as far as a bystander can tell.
            let mut may_be_granted = 0;
            for event in events {
                let before = share.clone();
                let Ok(after) = apply(&before, event.clone(), Rules::default(), at(1)) else {
                    continue;
                };
                share = after;
                match (before.stage, &event) {
                    (ShareStage::ShareQueued, Event::Begun(ShareStep::Share)) => {
                        may_be_granted += 1;
                        prop_assert!(may_be_granted <= 1, "asked twice");
                    }
                    // LeadSquared said no to this one, or was not asked.
                    (ShareStage::RequestingShare | ShareStage::ShareInProgress, Event::Refused(_)) | (ShareStage::RequestingShare, Event::NotTaken) => {
                        may_be_granted -= 1;
                    }
                    (_, Event::Gone) | (ShareStage::RevokeInProgress, Event::Done) | (_, Event::TimeOver | Event::TakenOver) => may_be_granted = 0,
                    _ => {}
                }
                if may_be_granted > 0 {
                    let told_as_nothing = matches!(share.stage, ShareStage::Failed | ShareStage::Revoked);
                    prop_assert!(!told_as_nothing, "{:?} by {:?} from {:?}", share.stage, event, before);
                }
                prop_assert!(share.stage != ShareStage::Uncertain || share.step.is_some());
            }
        }

        /// Whatever stage a share is in: if all goes well from there, it comes to rest.
        #[test]
        fn every_share_comes_to_rest(events in proptest::collection::vec(event(), 0..60)) {
            let mut share = share(ShareStage::Created);
            for event in events {
                share = apply(&share, event, Rules::default(), at(1)).unwrap_or(share);
            }
            for _ in 0..12 {
                let event = match task(share.stage) {
                    Task::Rest => break,
                    Task::Take(step) => Event::Begun(step),
                    Task::Recover => Event::Lost,
                    Task::Look => Event::NotPosted,
                    Task::Poll => Event::Done,
                    Task::Succeed => Event::Succeeded,
                };
                let begun = matches!(event, Event::Begun(_));
                share = apply(&share, event, Rules::default(), at(2)).unwrap();
                if begun {
                    let answer = match share.stage {
                        ShareStage::PostingActivity => Event::Posted("a".into()),
                        _ => Event::Taken("r".into()),
                    };
                    share = apply(&share, answer, Rules::default(), at(3)).unwrap();
                }
            }
            prop_assert_eq!(task(share.stage), Task::Rest);
        }
    }
}
