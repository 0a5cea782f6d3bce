//! Does what is to be done for a share: each step is written down before it is taken and after, so that whoever comes next
//! knows what may have happened. Decides nothing that `machine` could decide.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Shared;
use super::machine::{self, Event, Task};
use super::seat::Seat;
use crate::caller::Call;
use crate::clock;
use crate::crm;
use crate::crm::activity::{Create, Retrieve};
use crate::crm::share::{GetStatus, Grant, Revoke};
use crate::domain::activity::{NOTE, Post, Target};
use crate::domain::share::{Context, Share, Step, What};
use crate::error::{Error, Kind, Result};

/// How many activities of a lead are looked through at a time, and how often, for one whose answer was lost.
const LOOK_AT: usize = 100;
const MOST_LOOKS: usize = 5;
/// The pauses before something is tried again that could not be done.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The process is told to stop; the next one goes on.
struct Stopped;

/// What a driver remembers of one share while it drives it.
struct Journey {
    /// Since when the present step cannot be taken, and the pause before it is tried again.
    stuck: Option<Instant>,
    pause: Duration,
    /// How often, and when last, it was asked how the request stands.
    polls: u32,
    polled: Option<Instant>,
}

impl Shared {
    /// Does what is to be done for a share, in a task of its own, unless somebody does already.
    pub(super) fn drive(self: &Arc<Self>, seat: Arc<Seat>) {
        if machine::task(seat.current().stage) != Task::Rest && seat.take_over() {
            let this = self.clone();
            self.tasks.spawn(async move {
                let _ = this.travel(&seat).await;
            });
        }
    }

    /// Until there is nothing to be done any more, or the process is told to stop.
    async fn travel(self: &Arc<Self>, seat: &Arc<Seat>) -> std::result::Result<(), Stopped> {
        let mut journey = Journey::new();
        loop {
            if self.stop.is_cancelled() {
                return Err(Stopped);
            }
            let share = seat.current();
            let event = match machine::task(share.stage) {
                Task::Rest => {
                    seat.leave();
                    // Somebody may have asked for more just before.
                    if machine::task(seat.current().stage) == Task::Rest || !seat.take_over() {
                        return Ok(());
                    }
                    continue;
                }
                // Whoever began is not here any more: this task would know.
                Task::Recover => Event::Lost,
                Task::Take(step) => match self.take(seat, &share, step, &mut journey).await? {
                    Some(event) => event,
                    None => continue,
                },
                Task::Look => self.look(&share, &mut journey).await?,
                Task::Poll => self.poll(seat, &share, &mut journey).await?,
                Task::Succeed => self.succeed(&share).await,
            };
            let is_stuck = event == Event::NotTaken;
            self.insist(seat, event).await?;
            if is_stuck {
                self.rest(&mut journey).await?;
            } else {
                journey = Journey::new();
            }
        }
    }

    /// Takes a step: waits for its turn, writes down that it is about to be taken, takes it. `None` where it was not begun.
    async fn take(
        &self,
        seat: &Seat,
        share: &Share,
        step: Step,
        journey: &mut Journey,
    ) -> std::result::Result<Option<Event>, Stopped> {
        let call = self.call(share);
        let place = match step {
            Step::PostActivity => self.crm.place::<Create<'_>>(&call).await,
            Step::Share => self.crm.place::<Grant<'_>>(&call).await,
            Step::Revoke => self.crm.place::<Revoke<'_>>(&call).await,
        };
        let begun = match place {
            Ok(place) => match self.happen(seat, Event::Begun).await {
                Ok(Some(share)) => Ok((place, share)),
                // Meanwhile it was revoked, say.
                Ok(None) => return Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let (place, share) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                if self.is_too_late(journey) {
                    return Ok(Some(Event::GivenUp(error)));
                }
                self.rest(journey).await?;
                return Ok(None);
            }
        };
        let taken = match step {
            Step::PostActivity => self.post(place, &call, &share).await.map(Event::Posted),
            Step::Share => self
                .crm
                .call_from(Some(place), &call, &Grant(&share))
                .await
                .map(Event::Taken),
            Step::Revoke => self
                .crm
                .call_from(Some(place), &call, &Revoke(&share))
                .await
                .map(Event::Taken),
        };
        Ok(Some(taken.unwrap_or_else(judge)))
    }

    async fn post(&self, place: crm::Place, call: &Call, share: &Share) -> Result<String> {
        let What::Lead {
            id: lead_id,
            context: Context::New { code, note, fields, .. },
            ..
        } = &share.what
        else {
            return Err(Kind::Exception.into());
        };
        let separator = if note.is_empty() { "" } else { "\n" };
        let post = Post {
            target: Target::Lead(lead_id.clone()),
            code: *code,
            note: Some(format!("{note}{separator}{}", mark(share))),
            at: None,
            owner_id: share.user_id.clone(),
            fields: fields.clone(),
            faults: vec![],
        };
        let operation = Create { post: &post, lead_id };
        self.crm.call_from(Some(place), call, &operation).await
    }

    /// Looks for the activity whose answer was lost: by its note, which has the share's id.
    async fn look(&self, share: &Share, journey: &mut Journey) -> std::result::Result<Event, Stopped> {
        let What::Lead {
            id: lead_id,
            context: Context::New { code, .. },
            ..
        } = &share.what
        else {
            return Ok(Event::NotPosted);
        };
        let mark = mark(share);
        loop {
            let error = match self.look_through(&self.call(share), lead_id, *code, &mark).await {
                Ok(Some(id)) => return Ok(Event::Posted(id)),
                // It may be on its way still.
                Ok(None) => match left(share.changed, self.settings.settle_after) {
                    None => return Ok(Event::NotPosted),
                    Some(left) => {
                        self.sleep(left).await?;
                        continue;
                    }
                },
                Err(error) => error,
            };
            if self.is_too_late(journey) {
                return Ok(Event::GivenUp(error));
            }
            self.rest(journey).await?;
        }
    }

    async fn look_through(&self, call: &Call, lead_id: &str, code: i32, mark: &str) -> Result<Option<String>> {
        for page in 0..MOST_LOOKS {
            let operation = Retrieve {
                lead_id: lead_id.to_owned(),
                code: Some(code),
                offset: self.activity_offset.of(page, LOOK_AT),
                count: LOOK_AT,
            };
            let found = self.crm.call(call, &operation).await?.activities;
            let is_last = found.len() < LOOK_AT;
            let note = |fields: &crate::domain::lead::Row| fields.get(NOTE).cloned().flatten().unwrap_or_default();
            if let Some(ours) = found.into_iter().find(|activity| note(&activity.fields).contains(mark)) {
                return Ok(Some(ours.id));
            }
            if is_last {
                return Ok(None);
            }
        }
        // Nobody has so many; it proves nothing that it is not among them.
        Err(Kind::OutcomeUnknown.into())
    }

    /// Asks how the request stands until it is known, each time after a longer pause.
    async fn poll(&self, seat: &Seat, share: &Share, journey: &mut Journey) -> std::result::Result<Event, Stopped> {
        let Some(id) = share.upstream_request_id.as_deref() else {
            return Ok(Event::GivenUp(Kind::OutcomeUnknown.into()));
        };
        let asked = share.asked.unwrap_or(share.changed);
        loop {
            self.await_poll(seat, journey).await?;
            let operation = GetStatus {
                id,
                processed: &self.settings.processed,
            };
            let standing = self.crm.call(&self.call(share), &operation).await;
            journey.polled = Some(Instant::now());
            journey.polls += 1;
            match standing {
                Ok(standing) if standing.processed => return Ok(Event::Done),
                Ok(standing) => {
                    if let Some(error) = standing.failed {
                        return Ok(Event::Refused(error));
                    }
                }
                Err(error) => {
                    tracing::debug!(share_id = %share.id, error = error.name(), "how a share stands could not be asked");
                }
            }
            if left(asked, self.settings.give_up_after).is_none() {
                return Ok(Event::GivenUp(Kind::OutcomeUnknown.into()));
            }
        }
    }

    /// Waits until it is time to ask. Somebody who begins to listen makes it earlier, never more often than is allowed.
    async fn await_poll(&self, seat: &Seat, journey: &Journey) -> std::result::Result<(), Stopped> {
        let begun = journey.polled.unwrap_or_else(Instant::now);
        loop {
            let at = begun + journey.until_poll(self, seat.is_listened_to());
            tokio::select! {
                () = tokio::time::sleep_until(at) => return Ok(()),
                () = seat.joined() => {}
                () = self.stop.cancelled() => return Err(Stopped),
            }
        }
    }

    /// Ends the share that this one takes over from, now that there is no gap.
    async fn succeed(self: &Arc<Self>, share: &Share) -> Event {
        let Some(old) = share.extends else {
            return Event::Succeeded;
        };
        // An opportunity's two shares are one to LeadSquared.
        let event = if share.is_of_lead() {
            Event::Revoke
        } else {
            Event::TakenOver
        };
        let ended = async {
            let seat = self.seat(old).await?;
            self.happen(&seat, event).await?;
            self.drive(seat);
            Ok::<_, Error>(())
        };
        match ended.await {
            // It may have been swept.
            Err(error) if error.kind == Kind::StoreUnavailable => Event::NotTaken,
            _ => Event::Succeeded,
        }
    }

    /// Writes down what has happened, however long it takes: it cannot be undone.
    async fn insist(&self, seat: &Seat, event: Event) -> std::result::Result<(), Stopped> {
        while self.happen(seat, event.clone()).await.is_err() {
            self.sleep(PAUSE).await?;
        }
        Ok(())
    }

    async fn rest(&self, journey: &mut Journey) -> std::result::Result<(), Stopped> {
        journey.stuck.get_or_insert_with(Instant::now);
        let pause = journey.pause;
        journey.pause = (pause * 2).min(LONGEST_PAUSE);
        self.sleep(pause).await
    }

    fn is_too_late(&self, journey: &Journey) -> bool {
        let since = journey.stuck.map(|since| since.elapsed());
        since.is_some_and(|since| since >= self.settings.give_up_after)
    }

    async fn sleep(&self, pause: Duration) -> std::result::Result<(), Stopped> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(Stopped),
        }
    }

    /// Nobody's deadline but that of giving up.
    fn call(&self, share: &Share) -> Call {
        Call::internal(&share.id.to_string(), self.settings.give_up_after)
    }
}

impl Journey {
    fn new() -> Self {
        Self {
            stuck: None,
            pause: PAUSE,
            polls: 0,
            polled: None,
        }
    }

    /// How long after the last question the next one comes: 1, 2, 4 ... 30 s with the usual settings; while somebody waits
    /// as soon as it is allowed.
    fn until_poll(&self, shared: &Shared, is_listened_to: bool) -> Duration {
        let least = shared.settings.poll_every;
        match self.polls {
            0 => least / 2,
            _ if is_listened_to => least,
            polls => (least * 2_u32.saturating_pow((polls - 1).min(16))).min(shared.settings.poll_at_most.max(least)),
        }
    }
}

/// What the note of a share's activity ends with, so that it can be found again.
fn mark(share: &Share) -> String {
    format!("leadgate share {}", share.id)
}

/// What is left of a time that began then.
fn left(since: Timestamp, limit: Duration) -> Option<Duration> {
    let elapsed = Duration::try_from(clock::now().duration_since(since)).unwrap_or_default();
    limit.checked_sub(elapsed).filter(|left| !left.is_zero())
}

/// What an error says about the step that it ended.
fn judge(error: Error) -> Event {
    match &error.kind {
        // Without a name it may have come from anything before LeadSquared, and what cannot be read may say yes.
        Kind::OutcomeUnknown | Kind::Unreadable { .. } | Kind::Unavailable { sent: true } => Event::Lost,
        Kind::Exception if error.facts.exception_type.is_none() => Event::Lost,
        Kind::Unavailable { sent: false }
        | Kind::DeadlineInfeasible { .. }
        | Kind::DeadlineExceeded { .. }
        | Kind::QueueFull { .. }
        | Kind::DailyBudgetExhausted { .. }
        | Kind::Refused(_)
        | Kind::StoreUnavailable
        | Kind::ShuttingDown
        | Kind::CallerLeft => Event::NotTaken,
        _ => Event::Refused(error),
    }
}
