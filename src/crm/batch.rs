//! Operations that travel together: many of one kind in one call, on one slot of the quota. While they wait for it they
//! gather; nobody waits longer for the sake of others. Knows no endpoint.
//!
//! Each member goes through the same steps as a call that goes alone (`Client::ride`): it waits for its turn, learns what
//! became of it, and decides by itself whether it comes again. What differs is who sends: the member whose turn came first
//! starts a task, to which the others hand what is theirs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::retry::{Retries, Safety};
use super::{Client, Operation, Place, timed};
use crate::caller::{Call, Criticality};
use crate::error::{Error, Kind, Result};
use crate::quota::queue::TicketId;
use crate::quota::{Again, Boarding, Lane, Party, Ride, Turn, Want};
use crate::telemetry::metrics::Shared as SharedCall;

/// How long those who were called may take to come aboard. They have nothing to do but to write down that they go.
const BOARDING: Duration = Duration::from_secs(1);
/// How long a lane is not tried again that LeadSquared does not serve.
const CLOSED: Duration = Duration::from_secs(600);
/// How many members a line in the log names.
const MOST_NAMED: usize = 100;

/// An operation of which many can be made by one call.
pub trait Together: Operation + Clone + Send + Sync + 'static {
    /// That call: what it says of each, in the order in which they were given.
    type Shared: Operation<Output = Vec<Fate<Self::Output>>> + Send + Sync;
    /// Those with which it can go.
    const LANE: Lane;
    /// The call for all of them. No two have a key in common.
    fn together(members: &[Self]) -> Self::Shared;
    /// What it means that the answer does not speak of one.
    fn missing() -> Error;
}

/// What a shared call says of one of its members.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate<T> {
    /// What a call of its own would have said.
    Told(Result<T>),
    /// It failed and was not executed; a call of its own would say better why.
    Failed(Error),
    /// Nothing.
    Missing,
}

/// How an operation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By its own endpoint only.
    Alone,
    /// As it comes: with others where others wait, else alone.
    Either,
    /// By the shared endpoint only, since it has other effects than its own.
    Together,
}

/// An operation whose turn has come.
#[must_use = "a slot is held for nothing"]
pub struct Berth(Coming);

enum Coming {
    Alone(Place),
    Leads(Place),
    Follows(Boarding),
}

/// A member of a shared call.
struct Seat<O: Together> {
    ticket: Option<TicketId>,
    call: Call,
    way: Way,
    operation: O,
    reply: oneshot::Sender<Reply<O::Output>>,
    again: Option<Again>,
}

/// What a member is told.
enum Reply<T> {
    /// What became of it, and the right of a refused one to come again.
    Told(Result<T>, Option<Again>),
    /// It is to go by its own endpoint.
    GoAlone(Option<Again>),
}

/// The lanes whose shared calls LeadSquared did not serve, and until when they are not tried again.
#[derive(Debug, Default)]
pub(super) struct Closed([Mutex<Option<Instant>>; Lane::ALL.len()]);

impl Closed {
    fn close(&self, lane: Lane) {
        *self.until(lane) = Some(Instant::now() + CLOSED);
    }

    fn is_closed(&self, lane: Lane) -> bool {
        self.until(lane).is_some_and(|until| Instant::now() < until)
    }

    fn until(&self, lane: Lane) -> MutexGuard<'_, Option<Instant>> {
        self.0[lane as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Makes a call that may travel together with others of its lane.
    pub async fn ride<O: Together>(&self, way: Way, call: &Call, operation: &O) -> Result<O::Output> {
        self.ride_from(None, way, call, operation).await
    }

    /// Waits until such a call can go, for those who have to write it down right before it does.
    pub async fn berth<O: Together>(&self, way: Way, call: &Call, operation: &O) -> Result<Berth> {
        self.board(way, call, operation, &mut Retries::new(O::SAFETY, 1)).await
    }

    /// Makes a call whose first attempt has its turn already.
    pub async fn ride_from<O: Together>(
        &self,
        mut berth: Option<Berth>,
        mut way: Way,
        call: &Call,
        operation: &O,
    ) -> Result<O::Output> {
        let mut retries = Retries::new(O::SAFETY, self.shared.settings.max_attempts);
        loop {
            let berth = match berth.take() {
                Some(berth) => Ok(berth),
                None => self.board(way, call, operation, &mut retries).await,
            };
            let reply = match berth {
                Ok(Berth(Coming::Alone(place))) => {
                    let result = self.attempt(call, operation, Some(place), &mut retries).await;
                    Reply::Told(result, retries.again())
                }
                Ok(Berth(coming)) => {
                    retries.sent();
                    self.travel(coming, way, call, operation).await
                }
                Err(error) => Reply::Told(Err(error), None),
            };
            match reply {
                Reply::Told(Ok(output), _) => return Ok(output),
                Reply::Told(Err(error), again) => {
                    retries.refused(again);
                    retries.pause(call, error).await?;
                }
                Reply::GoAlone(again) => {
                    retries.refused(again);
                    way = Way::Alone;
                }
            }
        }
    }

    async fn board<O: Together>(&self, way: Way, call: &Call, operation: &O, retries: &mut Retries) -> Result<Berth> {
        let way = match way {
            Way::Either if self.shared.closed.is_closed(O::LANE) => Way::Alone,
            way => way,
        };
        let ride = Ride {
            lane: O::LANE,
            endpoint: O::Shared::NAME,
        };
        let want = Want {
            cost: if way == Way::Together { O::LANE.cost() } else { O::COST },
            endpoint: if way == Way::Together { ride.endpoint } else { O::NAME },
            keys: operation.keys(),
            ride: (way != Way::Alone).then_some(ride),
        };
        let again = retries.again();
        let (turn, queued) = timed(retries, self.shared.quota.board(call, &want, again)).await?;
        let place = async |slot| {
            Ok::<_, Error>(Place {
                slot,
                permit: self.connection(call).await?,
                queued,
            })
        };
        Ok(Berth(match turn {
            Turn::Alone(slot) => Coming::Alone(place(slot).await?),
            Turn::Leads(slot) => Coming::Leads(place(slot).await?),
            Turn::Follows(boarding) => Coming::Follows(boarding),
        }))
    }

    /// Goes aboard, and waits for what becomes of it: of a read until the caller's deadline, of a write as long as it takes.
    async fn travel<O: Together>(&self, coming: Coming, way: Way, call: &Call, operation: &O) -> Reply<O::Output> {
        let (reply, told) = oneshot::channel();
        let mut seat = Seat {
            ticket: None,
            call: call.clone(),
            way,
            operation: operation.clone(),
            reply,
            again: None,
        };
        match coming {
            Coming::Alone(place) | Coming::Leads(place) => {
                seat.ticket = place.slot.ticket();
                self.shared.exchanges.spawn(self.clone().depart(place, seat));
            }
            Coming::Follows(boarding) => {
                seat.ticket = Some(boarding.ticket);
                if boarding.board(seat).is_err() {
                    // It came too late and waits for another turn.
                    return Reply::Told(Err(Kind::Unavailable { sent: false }.into()), None);
                }
            }
        }
        let told = match O::SAFETY {
            Safety::Repeatable => call.wait("LeadSquared's answer", told).await,
            Safety::Once => Ok(told.await),
        };
        match told {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Reply::Told(Err(Kind::Unavailable { sent: true }.into()), None),
            Err(error) => Reply::Told(Err(error), None),
        }
    }

    /// Sends what has come aboard, in one call, or in more where LeadSquared refuses it as a whole: then half by half, until
    /// who is to blame is alone.
    async fn depart<O: Together>(self, mut place: Place, leader: Seat<O>) {
        let seats = aboard(place.slot.depart(), leader).await;
        let mut first = Some(place);
        let mut groups = VecDeque::from([seats]);
        while let Some(mut seats) = groups.pop_front() {
            // Who has left before anything was sent leaves for free.
            seats.retain(|seat| !seat.reply.is_closed());
            if seats.is_empty() {
                continue;
            }
            let call = shared_call(&seats);
            let members: Vec<O> = seats.iter().map(|seat| seat.operation.clone()).collect();
            let operation = O::together(&members);
            let result = self.send_shared(&call, &operation, first.take(), &mut seats).await;
            match result {
                Ok(fates) => groups.extend(self.arrived(seats, fates)),
                Err(error) if O::SAFETY == Safety::Once && matches!(error.kind, Kind::Unreadable { .. }) => {
                    // It may have been executed, and does not say for whom.
                    tell_all(seats, &Kind::Unavailable { sent: true }.into());
                }
                Err(error) if seats.len() > 1 && blames_a_member(&error) => {
                    self.shared.metrics.bisected(&self.shared.tenant, O::LANE.name());
                    let rest = seats.split_off(seats.len() / 2);
                    groups.push_front(rest);
                    groups.push_front(seats);
                }
                Err(error) if blames_a_member(&error) => seats.into_iter().for_each(|seat| seat.fail(error.clone())),
                Err(error) if is_no_road(&error) => {
                    tracing::warn!(tenant = %self.shared.tenant, lane = O::LANE.name(), error = error.name(), "the account has no such bulk calls; all go alone for a while");
                    self.shared.closed.close(O::LANE);
                    seats.into_iter().for_each(|seat| seat.fail(error.clone()));
                }
                Err(error) => tell_all(seats, &error),
            }
        }
    }

    /// One shared call. Its members get their turns back.
    async fn send_shared<O: Together>(
        &self,
        call: &Call,
        operation: &O::Shared,
        place: Option<Place>,
        seats: &mut [Seat<O>],
    ) -> Result<Vec<Fate<O::Output>>> {
        let shared = &*self.shared;
        let place = match place {
            Some(place) => place,
            None => self.wait(call, operation, &mut Retries::new(O::SAFETY, 1)).await?,
        };
        let queued = place.queued;
        let request = self.build(operation.request())?;
        let sent = Instant::now();
        let whole = sent + shared.settings.timeout;
        let (answer, turns) = self.clone().exchange(request, place, whole).await;
        let mut turns: HashMap<_, _> = turns.into_iter().map(|turn| (turn.ticket(), turn)).collect();
        for seat in seats.iter_mut().filter(|seat| seat.again.is_none()) {
            seat.again = turns.remove(&seat.ticket);
        }
        let result = self.read(call, operation, answer, queued, sent.elapsed());
        let named: Vec<&str> = seats.iter().take(MOST_NAMED).map(|seat| &*seat.call.id).collect();
        tracing::info!(
            target: "leadgate::batch",
            request_id = %call.id,
            tenant = %shared.tenant,
            lane = O::LANE.name(),
            members = seats.len(),
            of = %named.join(" "),
            "made one call for many"
        );
        shared.metrics.shared(&SharedCall {
            tenant: &shared.tenant,
            lane: O::LANE.name(),
            members: seats.len(),
        });
        result
    }

    /// Tells all what became of them, and returns those for whom it has to be asked again.
    fn arrived<O: Together>(&self, seats: Vec<Seat<O>>, fates: Vec<Fate<O::Output>>) -> Option<Vec<Seat<O>>> {
        // An answer may be incomplete; only one without any news is sure to have no more.
        let has_news = fates.iter().any(|fate| !matches!(fate, Fate::Missing));
        let mut missing = Vec::new();
        let fates = fates.into_iter().chain(std::iter::repeat_with(|| Fate::Missing));
        for (seat, fate) in seats.into_iter().zip(fates) {
            match fate {
                Fate::Told(result) => seat.tell(result),
                Fate::Failed(error) => seat.fail(error),
                Fate::Missing if has_news && O::SAFETY == Safety::Repeatable => missing.push(seat),
                Fate::Missing => seat.tell(Err(O::missing())),
            }
        }
        (!missing.is_empty()).then_some(missing)
    }
}

impl<O: Together> Seat<O> {
    /// Tells what became of it. Who has left does not hear it.
    fn tell(mut self, result: Result<O::Output>) {
        let is_refused = result.as_ref().err().is_some_and(Error::is_refused);
        // Dropped before it is told, so that what it does next finds its keys free.
        let again = self.again.take().filter(|_| is_refused);
        let _ = self.reply.send(Reply::Told(result, again));
    }

    /// It failed: its own endpoint says best why, where it may go by that.
    fn fail(self, error: Error) {
        match self.way {
            Way::Together => self.tell(Err(error)),
            Way::Alone | Way::Either => {
                let _ = self.reply.send(Reply::GoAlone(self.again));
            }
        }
    }
}

/// All who come, the leader first.
async fn aboard<O: Together>(mut party: Party, leader: Seat<O>) -> Vec<Seat<O>> {
    let mut seats = vec![leader];
    let coming = async {
        while let Some(passenger) = party.recv().await {
            // Those of one lane are of one type.
            seats.extend(passenger.downcast::<Seat<O>>().map(|seat| *seat));
        }
    };
    // Who is late finds the door closed, since the party is dropped.
    let _late = tokio::time::timeout(BOARDING, coming).await;
    seats
}

fn tell_all<O: Together>(seats: Vec<Seat<O>>, error: &Error) {
    seats.into_iter().for_each(|seat| seat.tell(Err(error.clone())));
}

/// Whether one member may be why the whole call was refused. It must be LeadSquared's own word that nothing was executed.
fn blames_a_member(error: &Error) -> bool {
    match error.kind {
        Kind::Invalid(_) | Kind::Duplicate { .. } | Kind::NotFound(_) | Kind::Unreadable { .. } => true,
        Kind::Exception => error.facts.exception_type.is_some(),
        _ => false,
    }
}

/// Whether LeadSquared does not serve the shared endpoint at all to this account. Nothing was executed.
fn is_no_road(error: &Error) -> bool {
    let is_no_path = matches!(error.facts.upstream_status, Some(404 | 405));
    error.kind == Kind::FeatureDisabled || error.kind == Kind::Exception && is_no_path
}

/// The call in the name of all: the first one's, as urgent as the most urgent, until the last deadline.
fn shared_call<O: Together>(seats: &[Seat<O>]) -> Call {
    let calls = || seats.iter().map(|seat| &seat.call);
    let (id, caller) = match seats.first() {
        Some(seat) => (seat.call.id.clone(), seat.call.caller.clone()),
        None => (Arc::from(""), Arc::from("")),
    };
    Call {
        id,
        caller,
        criticality: calls()
            .map(|call| call.criticality)
            .max()
            .unwrap_or(Criticality::Sheddable),
        deadline: calls().map(|call| call.deadline).max().unwrap_or_else(Instant::now),
        left: CancellationToken::new(),
    }
}
