//! The way of a share: pure, every stage with every event. Knows no store, no LeadSquared and no clock.

use jiff::Timestamp;

use crate::domain::share::{Context, Share, Stage, Step, What};
use crate::error::Error;

/// What happens to a share.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// That step is about to be taken. Written down before it is.
    Begun(Step),
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
    Take(Step),
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
pub fn task(stage: Stage) -> Task {
    match stage {
        Stage::Written => Task::Take(Step::PostActivity),
        Stage::Ready => Task::Take(Step::Share),
        Stage::Leaving => Task::Take(Step::Revoke),
        Stage::Posting | Stage::Asking | Stage::Revoking => Task::Recover,
        Stage::Looking => Task::Look,
        Stage::Granting | Stage::Withdrawing => Task::Poll,
        Stage::Succeeding => Task::Succeed,
        Stage::Active | Stage::Uncertain | Stage::Expired | Stage::Failed | Stage::Revoked => Task::Rest,
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
        (Stage::Written, Event::Begun(Step::PostActivity)) => Stage::Posting,
        (Stage::Ready, Event::Begun(Step::Share)) => {
            next.asked = Some(now);
            // Unless it is known better, access lasts as long as if it were granted at the last moment.
            next.expires = Some(now + next.duration());
            Stage::Asking
        }
        (Stage::Leaving, Event::Begun(Step::Revoke)) => {
            next.asked = Some(now);
            Stage::Revoking
        }

        (Stage::Posting | Stage::Looking, Event::Posted(id)) => next.posted(id),
        (Stage::Looking, Event::NotPosted) if share.revoke_wanted => next.revoked(),
        // It is posted once more and no oftener: those that were lost may come still.
        (Stage::Looking, Event::NotPosted) if share.posted_again => next.uncertain(Step::PostActivity),
        (Stage::Looking, Event::NotPosted) => {
            next.posted_again = true;
            Stage::Written
        }
        (Stage::Asking, Event::Taken(id)) => next.taken(id, Stage::Granting),
        (Stage::Revoking, Event::Taken(id)) => next.taken(id, Stage::Withdrawing),
        (Stage::Granting, Event::Done) => next.granted(now),
        (Stage::Withdrawing, Event::Done | Event::Gone) if share.share_again => next.shared_again(),
        (Stage::Withdrawing, Event::Done) => next.revoked(),

        (Stage::Posting, Event::Refused(error)) => next.failed(Step::PostActivity, error),
        // What is not there needs no revoking.
        (Stage::Revoking, Event::Gone) if share.share_again => next.shared_again(),
        (Stage::Revoking | Stage::Withdrawing, Event::Gone) => next.revoked(),
        // One that was asked for before may have been done, which may be why this one is refused.
        (Stage::Asking | Stage::Granting, Event::Refused(_)) if share.doubted => {
            next.upstream_request_id = None;
            next.uncertain(Step::Share)
        }
        (Stage::Asking | Stage::Granting, Event::Refused(error)) => next.failed(Step::Share, error),
        // Whether there is access is as uncertain as before, and RetryShare revokes again.
        (Stage::Revoking | Stage::Withdrawing, Event::Refused(_))
        | (Stage::Revoking, Event::Lost)
        | (Stage::Leaving | Stage::Withdrawing, Event::GivenUp(_))
            if share.share_again =>
        {
            next.upstream_request_id = None;
            next.uncertain(Step::Share)
        }
        (Stage::Revoking | Stage::Withdrawing, Event::Refused(_)) if share.doubted => next.uncertain(Step::Revoke),
        (Stage::Revoking | Stage::Withdrawing, Event::Refused(error)) => next.kept(error),

        (Stage::Posting, Event::NotTaken) => next.unless_unwanted(Stage::Written),
        (Stage::Asking, Event::NotTaken) => next.unless_unwanted(Stage::Ready),
        (Stage::Revoking, Event::NotTaken) => Stage::Leaving,

        (Stage::Posting, Event::Lost) => next.unless_unwanted(Stage::Looking),
        // What may be there is revoked too.
        (Stage::Asking, Event::Lost) | (Stage::Granting, Event::GivenUp(_)) if share.revoke_wanted => {
            next.doubted = true;
            next.leaving()
        }
        (Stage::Asking, Event::Lost) if rules.may_ask_again && !share.doubted => {
            next.doubted = true;
            Stage::Ready
        }
        (Stage::Asking, Event::Lost) => next.uncertain(Step::Share),
        (Stage::Revoking, Event::Lost) if share.doubted => next.uncertain(Step::Revoke),
        // To take back twice what can be taken back once does no harm.
        (Stage::Revoking, Event::Lost) => {
            next.doubted = true;
            Stage::Leaving
        }

        // Nothing was sent, so nothing is uncertain, unless something was before.
        (Stage::Written, Event::GivenUp(error)) => next.failed(Step::PostActivity, error),
        (Stage::Ready, Event::GivenUp(_)) if share.doubted => next.uncertain(Step::Share),
        (Stage::Ready, Event::GivenUp(error)) => next.failed(Step::Share, error),
        (Stage::Leaving, Event::GivenUp(_)) if share.doubted => next.uncertain(Step::Revoke),
        (Stage::Leaving, Event::GivenUp(error)) => next.kept(error),
        (Stage::Looking, Event::GivenUp(_)) if share.revoke_wanted => next.revoked(),
        (Stage::Looking, Event::GivenUp(_)) => next.uncertain(Step::PostActivity),
        (Stage::Granting, Event::GivenUp(_)) => next.uncertain(Step::Share),
        (Stage::Withdrawing, Event::GivenUp(_)) => next.uncertain(Step::Revoke),

        (Stage::Succeeding, Event::Succeeded) if share.revoke_wanted => next.leaving(),
        (Stage::Succeeding, Event::Succeeded) => Stage::Active,
        (Stage::Active, Event::TakenOver) => Stage::Expired,
        (stage, Event::TimeOver) if may_end(share, stage) => Stage::Expired,

        (stage, Event::Revoke) => next.revoke(stage).ok_or(Impossible)?,
        (stage @ (Stage::Failed | Stage::Uncertain), Event::Retry) => {
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
    if next.stage != Stage::Uncertain && next.stage != Stage::Failed && next.stage != Stage::Expired {
        next.step = None;
    }
    if next.stage.is_over() {
        next.revoke_wanted = false;
    }
    Ok(next)
}

/// Whether a share of that stage ends when its time is over: one that was granted, or may have been.
fn may_end(share: &Share, stage: Stage) -> bool {
    match stage {
        Stage::Active => true,
        // One that is shared again has not ended: its time begins anew.
        Stage::Leaving | Stage::Withdrawing => !share.share_again,
        Stage::Uncertain => share.step != Some(Step::PostActivity),
        Stage::Written
        | Stage::Posting
        | Stage::Looking
        | Stage::Ready
        | Stage::Asking
        | Stage::Granting
        | Stage::Succeeding
        | Stage::Revoking
        | Stage::Expired
        | Stage::Failed
        | Stage::Revoked => false,
    }
}

impl Share {
    fn posted(&mut self, activity_id: String) -> Stage {
        if let What::Lead {
            context: Context::New { id, .. },
            ..
        } = &mut self.what
        {
            *id = Some(activity_id);
        }
        self.unless_unwanted(Stage::Ready)
    }

    /// As long as LeadSquared was never asked, there is nothing to revoke.
    fn unless_unwanted(&mut self, stage: Stage) -> Stage {
        match (self.revoke_wanted, self.doubted) {
            (false, _) => stage,
            (true, false) => self.revoked(),
            (true, true) => self.leaving(),
        }
    }

    fn taken(&mut self, request_id: String, stage: Stage) -> Stage {
        self.upstream_request_id = Some(request_id);
        stage
    }

    fn granted(&mut self, now: Timestamp) -> Stage {
        self.granted = Some(now);
        self.expires = Some(now + self.duration());
        self.failure = None;
        self.doubted = false;
        match self.extends {
            _ if self.revoke_wanted => self.leaving(),
            Some(_) => Stage::Succeeding,
            None => Stage::Active,
        }
    }

    fn leaving(&mut self) -> Stage {
        self.revoke_wanted = false;
        self.failure = None;
        Stage::Leaving
    }

    fn revoked(&mut self) -> Stage {
        self.failure = None;
        Stage::Revoked
    }

    /// What may have been granted is revoked, so LeadSquared can be asked to share as if for the first time.
    fn shared_again(&mut self) -> Stage {
        self.share_again = false;
        self.doubted = false;
        self.upstream_request_id = None;
        self.expires = None;
        Stage::Ready
    }

    fn failed(&mut self, step: Step, error: Error) -> Stage {
        self.failure = Some(error);
        self.step = Some(step);
        Stage::Failed
    }

    /// It could not be revoked, so the user has access still.
    fn kept(&mut self, error: Error) -> Stage {
        self.failure = Some(error);
        Stage::Active
    }

    fn uncertain(&mut self, step: Step) -> Stage {
        self.step = Some(step);
        self.revoke_wanted = false;
        self.share_again = false;
        Stage::Uncertain
    }

    fn revoke(&mut self, stage: Stage) -> Option<Stage> {
        Some(match stage {
            Stage::Written => self.revoked(),
            Stage::Ready if !self.doubted => self.revoked(),
            Stage::Ready => self.leaving(),
            // First it has to be known what there is to revoke.
            Stage::Posting | Stage::Looking | Stage::Asking | Stage::Granting | Stage::Succeeding => {
                self.revoke_wanted = true;
                stage
            }
            Stage::Active => {
                self.doubted = false;
                self.leaving()
            }
            Stage::Uncertain if self.step == Some(Step::PostActivity) => self.revoked(),
            Stage::Uncertain => {
                self.doubted = true;
                self.leaving()
            }
            Stage::Leaving | Stage::Revoking | Stage::Withdrawing | Stage::Revoked => {
                self.share_again = false;
                stage
            }
            Stage::Expired | Stage::Failed => return None,
        })
    }

    fn retry(&mut self, stage: Stage, rules: Rules, now: Timestamp) -> Option<Stage> {
        let step = self.step?;
        self.failure = None;
        // What may have been granted would be granted twice, so it is revoked first. The time to wait before a revoke is
        // counted from the request that may have granted it.
        let is_taken = self.upstream_request_id.is_some();
        if (step, stage) == (Step::Share, Stage::Uncertain) && !is_taken && !rules.may_ask_again && !self.shares_grant()
        {
            self.doubted = true;
            self.share_again = true;
            return Some(self.leaving());
        }
        self.asked = Some(now);
        Some(match (step, stage) {
            // It is looked for first, also where it was refused: one of before may be there.
            (Step::PostActivity, _) => {
                self.posted_again = false;
                Stage::Looking
            }
            // LeadSquared has taken it: it need only be asked what became of it.
            (Step::Share, Stage::Uncertain) if self.upstream_request_id.is_some() => Stage::Granting,
            (Step::Share, _) => {
                self.doubted = stage == Stage::Uncertain;
                self.upstream_request_id = None;
                Stage::Ready
            }
            (Step::Revoke, _) => {
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
    use crate::domain::share::{Access, State};
    use crate::error::Kind;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn share(stage: Stage) -> Share {
        let what = What::Lead {
            id: "lead".into(),
            number: "1001".into(),
            context: Context::New {
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
        let mut all: Vec<_> = Stage::ALL.map(|stage| (format!("{stage:?}"), share(stage))).into();
        let mut variant = |name: &str, stage, change: fn(&mut Share)| {
            let mut share = share(stage);
            change(&mut share);
            all.push((format!("{stage:?}, {name}"), share));
        };
        for stage in [
            Stage::Posting,
            Stage::Looking,
            Stage::Asking,
            Stage::Granting,
            Stage::Succeeding,
        ] {
            variant("revoke wanted", stage, |share| share.revoke_wanted = true);
        }
        variant("posted again", Stage::Looking, |share| share.posted_again = true);
        for stage in [
            Stage::Ready,
            Stage::Asking,
            Stage::Granting,
            Stage::Leaving,
            Stage::Revoking,
            Stage::Withdrawing,
        ] {
            variant("doubted", stage, |share| share.doubted = true);
        }
        for stage in [Stage::Leaving, Stage::Revoking, Stage::Withdrawing] {
            variant("shared again", stage, |share| {
                share.doubted = true;
                share.share_again = true;
            });
        }
        variant("extends another", Stage::Granting, |share| {
            share.extends = Some(Uuid::from_u128(2))
        });
        variant("extends another, revoke wanted", Stage::Granting, |share| {
            share.extends = Some(Uuid::from_u128(2));
            share.revoke_wanted = true;
        });
        for stage in [Stage::Uncertain, Stage::Failed] {
            variant("activity", stage, |share| share.step = Some(Step::PostActivity));
            variant("share", stage, |share| share.step = Some(Step::Share));
        }
        variant("share, taken", Stage::Uncertain, |share| {
            share.step = Some(Step::Share);
            share.upstream_request_id = Some("98fe".into());
        });
        variant("share, extension of an opportunity", Stage::Uncertain, |share| {
            share.step = Some(Step::Share);
            share.what = What::Opportunity { id: "deal".into() };
            share.extends = Some(Uuid::from_u128(2));
        });
        variant("revoke", Stage::Uncertain, |share| share.step = Some(Step::Revoke));
        all
    }

    fn error() -> Error {
        Kind::FeatureDisabled.into()
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Begun(Step::PostActivity),
            Event::Begun(Step::Share),
            Event::Begun(Step::Revoke),
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
        mark(after.step == Some(Step::PostActivity), "activity");
        mark(after.step == Some(Step::Share), "share");
        mark(after.step == Some(Step::Revoke), "revoke");
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
        let granted = apply(&share(Stage::Granting), Event::Done, Rules::default(), at(100)).unwrap();
        assert_eq!(granted.granted, Some(at(100)));
        assert_eq!(granted.expires, Some(at(100 + 30 * 60)));
        assert_eq!(granted.state(), State::Active);
    }

    #[test]
    fn a_posted_activity_becomes_the_context() {
        let posted = apply(
            &share(Stage::Posting),
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
            let mut share = share(Stage::Written);
            // How many of our questions LeadSquared may have granted, as far as a bystander can tell.
            let mut may_be_granted = 0;
            for event in events {
                let before = share.clone();
                let Ok(after) = apply(&before, event.clone(), Rules::default(), at(1)) else {
                    continue;
                };
                share = after;
                match (before.stage, &event) {
                    (Stage::Ready, Event::Begun(Step::Share)) => {
                        may_be_granted += 1;
                        prop_assert!(may_be_granted <= 1, "asked twice");
                    }
                    // LeadSquared said no to this one, or was not asked.
                    (Stage::Asking | Stage::Granting, Event::Refused(_)) | (Stage::Asking, Event::NotTaken) => {
                        may_be_granted -= 1;
                    }
                    (_, Event::Gone) | (Stage::Withdrawing, Event::Done) | (_, Event::TimeOver | Event::TakenOver) => may_be_granted = 0,
                    _ => {}
                }
                if may_be_granted > 0 {
                    let told_as_nothing = matches!(share.stage, Stage::Failed | Stage::Revoked);
                    prop_assert!(!told_as_nothing, "{:?} by {:?} from {:?}", share.stage, event, before);
                }
                prop_assert!(share.stage != Stage::Uncertain || share.step.is_some());
            }
        }

        /// Whatever stage a share is in: if all goes well from there, it comes to rest.
        #[test]
        fn every_share_comes_to_rest(events in proptest::collection::vec(event(), 0..60)) {
            let mut share = share(Stage::Written);
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
                        Stage::Posting => Event::Posted("a".into()),
                        _ => Event::Taken("r".into()),
                    };
                    share = apply(&share, answer, Rules::default(), at(3)).unwrap();
                }
            }
            prop_assert_eq!(task(share.stage), Task::Rest);
        }
    }
}
