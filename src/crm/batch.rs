//! Operations that travel together: many of one kind in one call, on one slot of the quota. While they wait for it they
//! gather; nobody waits longer for the sake of others. Knows no endpoint.
//!
//! Each member goes through the same steps as a call that goes alone (`Client::ride`): it waits for its turn, learns what
//! became of it, and decides by itself whether it comes again. What differs is who sends: the member whose turn came first
//! starts a task, to which the others hand what is theirs.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::retry::{Decision, Retries, Safety, decide};
use super::{CallPermit, Client, Operation, timed};
use crate::context::{Criticality, RequestContext, UPSTREAM_RESPONSE, deadline_exceeded};
use crate::error::Outcome::Rejected;
use crate::error::{Error, ErrorKind, Result};
use crate::quota::breaker::OperationId;
use crate::quota::queue::TicketId;
use crate::quota::{Again, Boarding, Lane, Party, Ride, Turn, Want};
use crate::telemetry::metrics::BatchRequest;

/// How long those who were called may take to come aboard. They have nothing to do but to write down that they go.
const BOARDING: Duration = Duration::from_secs(1);
/// How long a lane is not tried again that LeadSquared does not serve.
const CLOSED: Duration = Duration::from_secs(600);
/// How many members a line in the log names.
const MAX_NAMED: usize = 100;

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
    Alone(CallPermit),
    Leads(CallPermit),
    Follows(Boarding),
    Rejoins(Rejoin),
}

/// The right of a write to go with its batch again, whose outcome is not known. Dropped, the batch goes on without it.
#[derive(Debug)]
pub struct Rejoin {
    batch: mpsc::UnboundedSender<Returned>,
    is_sure: bool,
}

/// What the members of a batch have found out about themselves.
enum Returned {
    /// It was not executed and can be sent again: its [`Seat`].
    NotExecuted(Box<dyn Any + Send>),
    /// It seems not to have been executed.
    Unseen(Box<dyn Any + Send>),
    /// It was executed.
    Executed,
}

impl Rejoin {
    /// It was executed, so others of the batch may have been, too.
    pub fn executed(self) {
        // The batch waits as long as there is somebody to return.
        let _ = self.batch.send(Returned::Executed);
    }

    /// It seems not to have been executed, which counts only where none of the batch was.
    pub fn doubt(&mut self) {
        self.is_sure = false;
    }
}

/// A member of a shared call.
struct Seat<O: Together> {
    /// The operation of the batch.
    batch: OperationId,
    ticket: Option<TicketId>,
    context: RequestContext,
    way: Way,
    operation: O,
    reply: oneshot::Sender<Reply<O::Output>>,
    again: Option<Again>,
}

/// What a member is told.
enum Reply<T> {
    /// What became of it, and the right of a refused one to come again.
    Told(Result<T>, Option<Again>),
    /// It is to go by its own endpoint, as a part of its batch.
    GoAlone(Option<Again>, OperationId),
    /// Nobody knows whether the batch was executed. A write that was not can go with it again.
    Lost(Error, Rejoin),
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
    pub async fn ride<O: Together>(&self, way: Way, context: &RequestContext, operation: &O) -> Result<O::Output> {
        self.ride_from(None, way, context, operation, &mut None).await
    }

    /// The same for a write that is looked up when its outcome is unknown: then `rejoin` is the batch that waits for it, and
    /// given again, the write goes with what is left of that batch.
    pub async fn ride_again<O: Together>(
        &self,
        way: Way,
        context: &RequestContext,
        operation: &O,
        rejoin: &mut Option<Rejoin>,
    ) -> Result<O::Output> {
        let berth = rejoin.take().map(|rejoin| Berth(Coming::Rejoins(rejoin)));
        self.ride_from(berth, way, context, operation, rejoin).await
    }

    /// Waits until such a call can go, for those who have to write it down right before it does.
    pub async fn berth<O: Together>(&self, way: Way, context: &RequestContext, operation: &O) -> Result<Berth> {
        self.board(way, context, operation, &mut Retries::new(O::SAFETY, 1))
            .await
    }

    /// Makes a call whose first attempt has its turn already.
    pub async fn ride_from<O: Together>(
        &self,
        mut berth: Option<Berth>,
        mut way: Way,
        context: &RequestContext,
        operation: &O,
        rejoin: &mut Option<Rejoin>,
    ) -> Result<O::Output> {
        let mut retries = Retries::new(O::SAFETY, self.shared.settings.max_attempts);
        loop {
            let berth = match berth.take() {
                Some(berth) => Ok(berth),
                None => self.board(way, context, operation, &mut retries).await,
            };
            let berth = match berth {
                // A record that cannot be written gives the turn back.
                Ok(berth) if O::SAFETY == Safety::Once => context.begin().await.map(|()| berth),
                berth => berth,
            };
            let reply = match berth {
                Ok(Berth(Coming::Alone(place))) => {
                    let result = self.attempt(context, operation, Some(place), &mut retries).await;
                    Reply::Told(result, retries.again())
                }
                Ok(Berth(coming)) => {
                    context.sent();
                    self.travel(coming, way, context, operation, retries.operation()).await
                }
                Err(error) => Reply::Told(Err(error), None),
            };
            match reply {
                Reply::Told(Ok(output), _) => return Ok(output),
                Reply::Told(Err(error), again) => {
                    retries.refused(again);
                    self.pause(context, error, &mut retries).await?;
                }
                Reply::GoAlone(again, batch) => {
                    retries.refused(again);
                    retries.part_of(batch);
                    way = Way::Alone;
                }
                Reply::Lost(error, batch) => {
                    *rejoin = Some(batch);
                    self.pause(context, error, &mut retries).await?;
                }
            }
        }
    }

    async fn board<O: Together>(
        &self,
        way: Way,
        context: &RequestContext,
        operation: &O,
        retries: &mut Retries,
    ) -> Result<Berth> {
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
        let (turn, queued) = timed(context, self.shared.quota.board(context, &want, again)).await?;
        let place = async |slot| {
            Ok::<_, Error>(CallPermit {
                slot,
                connection: self.connection(context).await?,
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
    async fn travel<O: Together>(
        &self,
        coming: Coming,
        way: Way,
        context: &RequestContext,
        operation: &O,
        id: OperationId,
    ) -> Reply<O::Output> {
        let (reply, told) = oneshot::channel();
        let mut seat = Seat {
            batch: id,
            ticket: None,
            context: context.clone(),
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
                    return Reply::Told(Err(ErrorKind::Unavailable { sent: false }.into()), None);
                }
            }
            Coming::Rejoins(Rejoin { batch, is_sure }) => {
                let returned = match is_sure {
                    true => Returned::NotExecuted(Box::new(seat)),
                    false => Returned::Unseen(Box::new(seat)),
                };
                // The batch waits as long as there is somebody to return.
                let _ = batch.send(returned);
            }
        }
        let told = match O::SAFETY {
            Safety::Repeatable => context.wait(UPSTREAM_RESPONSE, told).await,
            Safety::Once => Ok(told.await),
        };
        match told {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Reply::Told(Err(ErrorKind::Unavailable { sent: true }.into()), None),
            Err(error) => Reply::Told(Err(error), None),
        }
    }

    /// Sends the batch in one call. Where that fails as a whole, each half is sent by itself, and so on, until the operation to
    /// blame is alone. Writes whose outcome is not known are looked up first, each by its own caller's task.
    async fn depart<O: Together>(self, mut place: CallPermit, leader: Seat<O>) {
        let batch = leader.batch;
        let seats = aboard(place.slot.depart(), leader).await;
        let mut first = Some(place);
        let mut splitting = Splitting::new(seats.len());
        let mut groups = VecDeque::from([seats]);
        while let Some(mut seats) = groups.pop_front() {
            // Who has left before anything was sent leaves for free.
            seats.retain(|seat| !seat.reply.is_closed());
            seats.iter_mut().for_each(|seat| seat.batch = batch);
            if seats.is_empty() {
                continue;
            }
            if splitting.has_begun && seats.len() == 1 && seats[0].way == Way::Either {
                // What it returns is the operation's own, and no bulk call is spent.
                seats.into_iter().for_each(Seat::go_alone);
                continue;
            }
            let result = self.send_shared(batch, first.take(), &mut seats).await;
            if seats.is_empty() {
                continue;
            }
            let error = match result {
                Ok(fates) => {
                    let Some(missing) = arrived(seats, fates) else {
                        splitting.succeeded();
                        continue;
                    };
                    if O::SAFETY == Safety::Repeatable {
                        groups.push_back(missing);
                        continue;
                    }
                    // One of them may be why the others were passed over.
                    seats = missing;
                    O::missing()
                }
                Err(error) => error,
            };
            let is_whole = !splitting.has_begun;
            match splitting.failed::<O>(&error, seats.len()) {
                Failure::NotExecuted if is_whole && is_unserved(&error) && self.shared.absent.is_closed(O::LANE) => {
                    seats.into_iter().for_each(|seat| seat.fail(error.clone()));
                }
                Failure::OfAll => tell_all(seats, &error),
                Failure::OfTheOnlyOne => seats.into_iter().for_each(|seat| seat.fail(error.clone())),
                Failure::NoSuchEndpoint => {
                    tracing::warn!(tenant = %self.shared.tenant, lane = O::LANE.name(), error = error.name(), "the account has no such bulk calls; operations are sent one by one for a while");
                    self.shared.closed.close(O::LANE);
                    let all = seats
                        .into_iter()
                        .chain(std::mem::take(&mut groups).into_iter().flatten());
                    // Those that have an endpoint of their own find out there; of the others, two may be to blame.
                    let (either, together): (Vec<_>, Vec<_>) = all.partition(|seat| seat.way != Way::Together);
                    either.into_iter().for_each(Seat::go_alone);
                    groups.extend(halves(together));
                }
                Failure::NotExecuted => {
                    self.shared.metrics.bisected(&self.shared.tenant, O::LANE.name());
                    let halves = halves(seats);
                    match is_unserved(&error) {
                        // The other half shows first whether anything is served there.
                        true => groups.extend(halves),
                        false => halves.into_iter().rev().for_each(|half| groups.push_front(half)),
                    }
                }
                Failure::Unknown => {
                    self.shared.metrics.bisected(&self.shared.tenant, O::LANE.name());
                    let seats = not_executed(seats, &error).await;
                    halves(seats).into_iter().rev().for_each(|half| groups.push_front(half));
                }
            }
        }
        if splitting.is_absent() {
            self.shared.absent.close(O::LANE);
        }
    }

    /// One shared call for these members. They get their turns back. Those who are out of time before it can be sent are told
    /// so and taken out.
    async fn send_shared<O: Together>(
        &self,
        batch: OperationId,
        place: Option<CallPermit>,
        seats: &mut Vec<Seat<O>>,
    ) -> Result<Vec<Fate<O::Output>>> {
        let shared = &*self.shared;
        let place = match place {
            Some(place) => place,
            None => {
                let want = Want {
                    cost: O::Shared::COST,
                    endpoint: O::Shared::NAME,
                    keys: Vec::new(),
                    ride: None,
                };
                let mut retries = Retries::new(O::SAFETY, 1);
                let place = self.acquire_for(&shared_call(seats), &want, &mut retries).await?;
                let now = Instant::now();
                let late = |seat: &mut Seat<O>| seat.context.deadline <= now || seat.reply.is_closed();
                for seat in seats.extract_if(.., late) {
                    seat.tell(Err(deadline_exceeded("a slot of the quota")));
                }
                if seats.is_empty() {
                    // Dropped unsent, the slot is free again.
                    return Ok(Vec::new());
                }
                place
            }
        };
        let context = shared_call(seats);
        let members: Vec<O> = seats.iter().map(|seat| seat.operation.clone()).collect();
        let operation = O::together(&members);
        let queued = place.queued;
        let request = self.build(operation.request())?;
        let sent = Instant::now();
        let whole = sent + shared.settings.timeout;
        let (response, turns) = self.clone().exchange(batch, request, place, whole).await;
        let mut turns: HashMap<_, _> = turns.into_iter().map(|turn| (turn.ticket(), turn)).collect();
        for seat in seats.iter_mut().filter(|seat| seat.again.is_none()) {
            seat.again = turns.remove(&seat.ticket);
        }
        let result = self.read(&context, &operation, response, queued, sent.elapsed());
        let result = self.resolve_denied(&context, result).await;
        let named: Vec<&str> = seats.iter().take(MAX_NAMED).map(|seat| &*seat.context.id).collect();
        let mutations: Vec<String> = (seats.iter().take(MAX_NAMED))
            .filter_map(|seat| Some(seat.context.mutation?.to_string()))
            .collect();
        tracing::info!(
            target: "leadgate::batch",
            request_id = %context.id,
            mutation_id = Some(mutations.join(" ")).filter(|ids| !ids.is_empty()),
            tenant = %shared.tenant,
            lane = O::LANE.name(),
            members = seats.len(),
            of = %named.join(" "),
            "made one call for many"
        );
        shared.metrics.shared(&BatchRequest {
            tenant: &shared.tenant,
            lane: O::LANE.name(),
            members: seats.len(),
        });
        result
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
            Way::Alone | Way::Either => self.go_alone(),
        }
    }

    fn go_alone(self) {
        let _ = self.reply.send(Reply::GoAlone(self.again, self.batch));
    }
}

/// What the failure of a shared call is taken for.
enum Failure {
    /// Of all its members, which are told so.
    OfAll,
    /// Of its one member.
    OfTheOnlyOne,
    /// Of the endpoint, which the account does not have.
    NoSuchEndpoint,
    /// One member may be to blame, and nothing was executed.
    NotExecuted,
    /// One member may be to blame, and nobody knows what was executed.
    Unknown,
}

/// What has become of the calls of one batch so far.
struct Splitting {
    members: usize,
    has_begun: bool,
    /// How many calls in a row may fail before that is no one member's doing.
    patience: u32,
    failed_in_a_row: u32,
    /// Whether the endpoint has answered to anything in the batch.
    is_served: bool,
    /// Calls that were not served, and members alone in such a call.
    unserved: u32,
    unserved_alone: usize,
}

/// With fewer members a batch is no proof that the account does not have an endpoint.
const MIN_PROOF: usize = 4;

impl Splitting {
    fn new(members: usize) -> Self {
        // So many calls lead from the whole batch to one member.
        let levels = members.next_power_of_two().trailing_zeros() + 1;
        Self {
            members,
            has_begun: false,
            patience: levels + 1,
            failed_in_a_row: 0,
            is_served: false,
            unserved: 0,
            unserved_alone: 0,
        }
    }

    fn succeeded(&mut self) {
        self.failed_in_a_row = 0;
        self.is_served = true;
    }

    /// Whether no member was served, even alone.
    fn is_absent(&self) -> bool {
        !self.is_served && self.members >= MIN_PROOF && self.unserved_alone == self.members
    }

    /// A call of so many members has failed.
    fn failed<O: Together>(&mut self, error: &Error, members: usize) -> Failure {
        let outcome = outcome(error);
        self.failed_in_a_row += 1;
        self.is_served |= matches!(outcome, Outcome::NotExecuted | Outcome::Unknown);
        let failure = match outcome {
            Outcome::NotTried => return Failure::OfAll,
            Outcome::Unserved if members > 1 => {
                self.unserved += 1;
                // The third call after the whole batch and one half is the other half.
                let is_proved = self.unserved == 3 && !self.is_served && self.members >= MIN_PROOF;
                match is_proved {
                    true => Failure::NoSuchEndpoint,
                    false => Failure::NotExecuted,
                }
            }
            Outcome::Unserved if O::SAFETY == Safety::Once => {
                self.unserved_alone += 1;
                Failure::OfTheOnlyOne
            }
            _ if members == 1 && O::SAFETY == Safety::Repeatable => Failure::OfTheOnlyOne,
            Outcome::Unknown if members == 1 => Failure::OfAll,
            Outcome::NotExecuted | Outcome::Unserved if members == 1 => Failure::OfTheOnlyOne,
            Outcome::NotExecuted | Outcome::Unserved => Failure::NotExecuted,
            // A read does no harm twice, but an outage is no member's doing.
            Outcome::Unknown if O::SAFETY == Safety::Repeatable && self.failed_in_a_row > self.patience => {
                Failure::OfAll
            }
            Outcome::Unknown if O::SAFETY == Safety::Repeatable => Failure::NotExecuted,
            Outcome::Unknown => Failure::Unknown,
        };
        self.has_begun = true;
        failure
    }
}

/// What the error of a shared call says about its members.
enum Outcome {
    /// It was not sent or not let in: what comes next is up to each of them.
    NotTried,
    /// It was refused for what is in it.
    NotExecuted,
    /// It was refused because there is no such endpoint, or for what is in it.
    Unserved,
    /// It may have been executed, or fail for what is in it.
    Unknown,
}

fn outcome(error: &Error) -> Outcome {
    match &error.kind {
        ErrorKind::FeatureDisabled => return Outcome::Unserved,
        ErrorKind::Exception if matches!(error.details.upstream_status, Some(404 | 405)) => return Outcome::Unserved,
        _ => {}
    }
    match decide(Safety::Once, error) {
        Decision::Reconcile => Outcome::Unknown,
        _ if error.kind == ErrorKind::Exception || error.outcome() == Rejected => Outcome::NotExecuted,
        _ => Outcome::NotTried,
    }
}

fn is_unserved(error: &Error) -> bool {
    matches!(outcome(error), Outcome::Unserved)
}

/// Lets the members of a batch find out whether they were executed. Returns those that can be sent again.
async fn not_executed<O: Together>(seats: Vec<Seat<O>>, error: &Error) -> Vec<Seat<O>> {
    let (batch, mut members) = mpsc::unbounded_channel();
    for seat in seats {
        let rejoin = Rejoin {
            batch: batch.clone(),
            is_sure: true,
        };
        let _ = seat.reply.send(Reply::Lost(error.clone(), rejoin));
    }
    drop(batch);
    let seat = |member: Box<dyn Any + Send>| member.downcast::<Seat<O>>().ok().map(|seat| *seat);
    let (mut again, mut unseen, mut is_executed) = (Vec::new(), Vec::new(), false);
    while let Some(returned) = members.recv().await {
        match returned {
            Returned::NotExecuted(member) => again.extend(seat(member)),
            Returned::Unseen(member) => unseen.extend(seat(member)),
            Returned::Executed => is_executed = true,
        }
    }
    match is_executed {
        false => again.extend(unseen),
        true => tell_all(unseen, error),
    }
    again
}

/// Both halves of a group, as far as there is something in them.
fn halves<O: Together>(mut seats: Vec<Seat<O>>) -> Vec<Vec<Seat<O>>> {
    let second = seats.split_off(seats.len().div_ceil(2));
    [seats, second].into_iter().filter(|half| !half.is_empty()).collect()
}

/// Tells all what became of them, and returns those of which the answer does not speak and nothing follows from that.
fn arrived<O: Together>(seats: Vec<Seat<O>>, fates: Vec<Fate<O::Output>>) -> Option<Vec<Seat<O>>> {
    // An answer to a read may be incomplete; only one without any news is sure to have no more.
    let has_news = fates.iter().any(|fate| !matches!(fate, Fate::Missing));
    let mut missing = Vec::new();
    let fates = fates.into_iter().chain(std::iter::repeat_with(|| Fate::Missing));
    for (seat, fate) in seats.into_iter().zip(fates) {
        match fate {
            Fate::Told(result) => seat.tell(result),
            Fate::Failed(error) => seat.fail(error),
            Fate::Missing if has_news || O::SAFETY == Safety::Once => missing.push(seat),
            Fate::Missing => seat.tell(Err(O::missing())),
        }
    }
    (!missing.is_empty()).then_some(missing)
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

/// The call in the name of all: the first one's, as urgent as the most urgent, until the last deadline.
fn shared_call<O: Together>(seats: &[Seat<O>]) -> RequestContext {
    let calls = || seats.iter().map(|seat| &seat.context);
    let (id, caller) = match seats.first() {
        Some(seat) => (seat.context.id.clone(), seat.context.caller.clone()),
        None => (Arc::from(""), Arc::from("")),
    };
    let mutation = calls().next().and_then(|context| context.mutation);
    RequestContext {
        id,
        // Those of all members are in the line of the batch.
        mutation: mutation.filter(|id| calls().all(|context| context.mutation == Some(*id))),
        caller,
        criticality: calls()
            .map(|context| context.criticality)
            .max()
            .unwrap_or(Criticality::Sheddable),
        deadline: calls()
            .map(|context| context.deadline)
            .max()
            .unwrap_or_else(Instant::now),
        cancelled: CancellationToken::new(),
        position: None,
        progress: Arc::default(),
        record: None,
    }
}
