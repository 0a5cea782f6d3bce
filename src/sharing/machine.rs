//! The way of a share: pure, every stage with every event. Knows no store, no LeadSquared and no clock.

use jiff::Timestamp;

use crate::domain::share::{Context, Share, Stage, Step, What};
use crate::error::Error;

/// What happens to a share.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The next step is about to be taken. Written down before it is.
    Begun,
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
    next.stage = match (share.stage, event) {
        (Stage::Written, Event::Begun) => Stage::Posting,
        (Stage::Ready, Event::Begun) => {
            next.asked = Some(now);
            // Unless it is known better, access lasts as long as if it were granted at the last moment.
            next.expires = Some(now + next.duration());
            Stage::Asking
        }
        (Stage::Leaving, Event::Begun) => {
            next.asked = Some(now);
            Stage::Revoking
        }

        (Stage::Posting | Stage::Looking, Event::Posted(id)) => next.posted(id),
        (Stage::Looking, Event::NotPosted) => next.unless_unwanted(Stage::Written),
        (Stage::Asking, Event::Taken(id)) => next.taken(id, Stage::Granting),
        (Stage::Revoking, Event::Taken(id)) => next.taken(id, Stage::Withdrawing),
        (Stage::Granting, Event::Done) => next.granted(now),
        (Stage::Withdrawing, Event::Done) => next.revoked(),

        (Stage::Posting, Event::Refused(error)) => next.failed(Step::PostActivity, error),
        (Stage::Asking | Stage::Granting, Event::Refused(error)) => next.failed(Step::Share, error),
        // One that was asked for before may have been done, which may be why this one is refused.
        (Stage::Revoking | Stage::Withdrawing, Event::Refused(_)) if share.doubted => next.uncertain(Step::Revoke),
        (Stage::Revoking | Stage::Withdrawing, Event::Refused(error)) => next.kept(error),

        (Stage::Posting, Event::NotTaken) => next.unless_unwanted(Stage::Written),
        (Stage::Asking, Event::NotTaken) => next.unless_unwanted(Stage::Ready),
        (Stage::Revoking, Event::NotTaken) => Stage::Leaving,

        (Stage::Posting, Event::Lost) => Stage::Looking,
        (Stage::Asking, Event::Lost) if share.revoke_wanted => {
            next.doubted = true;
            next.leaving()
        }
        (Stage::Asking, Event::Lost) if rules.may_ask_again => Stage::Ready,
        (Stage::Asking, Event::Lost) => next.uncertain(Step::Share),
        // To take back twice what can be taken back once does no harm.
        (Stage::Revoking, Event::Lost) => {
            next.doubted = true;
            Stage::Leaving
        }

        // Nothing was sent, so nothing is uncertain.
        (Stage::Written, Event::GivenUp(error)) => next.failed(Step::PostActivity, error),
        (Stage::Ready, Event::GivenUp(error)) => next.failed(Step::Share, error),
        (Stage::Leaving, Event::GivenUp(_)) if share.doubted => next.uncertain(Step::Revoke),
        (Stage::Leaving, Event::GivenUp(error)) => next.kept(error),
        (Stage::Looking, Event::GivenUp(_)) => next.uncertain(Step::PostActivity),
        (Stage::Granting, Event::GivenUp(_)) => next.uncertain(Step::Share),
        (Stage::Withdrawing, Event::GivenUp(_)) => next.uncertain(Step::Revoke),

        (Stage::Succeeding, Event::Succeeded) => next.active(),
        (Stage::Active | Stage::Uncertain, Event::TakenOver) => Stage::Expired,
        (stage, Event::TimeOver) if may_end(share, stage) => Stage::Expired,

        (stage, Event::Revoke) => next.revoke(stage).ok_or(Impossible)?,
        (stage @ (Stage::Failed | Stage::Uncertain), Event::Retry) => next.retry(stage, now).ok_or(Impossible)?,

        (
            _,
            Event::Begun
            | Event::Posted(_)
            | Event::NotPosted
            | Event::Taken(_)
            | Event::Done
            | Event::Refused(_)
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
        Stage::Active | Stage::Leaving | Stage::Withdrawing => true,
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

    /// As long as LeadSquared was not asked, there is nothing to revoke.
    fn unless_unwanted(&mut self, stage: Stage) -> Stage {
        if self.revoke_wanted { self.revoked() } else { stage }
    }

    fn taken(&mut self, request_id: String, stage: Stage) -> Stage {
        self.upstream_request_id = Some(request_id);
        stage
    }

    fn granted(&mut self, now: Timestamp) -> Stage {
        self.granted = Some(now);
        self.expires = Some(now + self.duration());
        self.failure = None;
        match self.extends {
            Some(_) => Stage::Succeeding,
            None => self.active(),
        }
    }

    fn active(&mut self) -> Stage {
        if self.revoke_wanted {
            self.leaving()
        } else {
            Stage::Active
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
        Stage::Uncertain
    }

    fn revoke(&mut self, stage: Stage) -> Option<Stage> {
        Some(match stage {
            Stage::Written | Stage::Ready => self.revoked(),
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
            Stage::Leaving | Stage::Revoking | Stage::Withdrawing | Stage::Revoked => stage,
            Stage::Expired | Stage::Failed => return None,
        })
    }

    fn retry(&mut self, stage: Stage, now: Timestamp) -> Option<Stage> {
        self.failure = None;
        self.asked = Some(now);
        Some(match (self.step?, stage) {
            (Step::PostActivity, Stage::Uncertain) => Stage::Looking,
            (Step::PostActivity, _) => Stage::Written,
            // LeadSquared has taken it: it need only be asked what became of it.
            (Step::Share, Stage::Uncertain) if self.upstream_request_id.is_some() => Stage::Granting,
            (Step::Share, _) => {
                self.upstream_request_id = None;
                Stage::Ready
            }
            (Step::Revoke, _) => {
                self.doubted = true;
                self.leaving()
            }
        })
    }
}
