//! The RPCs of LeadService that write many leads: each request goes its own way, and they meet in the lanes.

use std::sync::Arc;

use prost::Message;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Streaming;
use uuid::Uuid;

use super::lead::{Entered, Read, Writes};
use super::mutation::{Mutation, part};
use super::pb;
use super::pb::import_leads_request::Operation;
use super::pb::import_leads_response::Result as Outcome;
use super::rpc::{ResponseSender, Rpc, StatusBuilder};
use super::size::{Room, item_bytes};
use super::status;
use crate::context::RequestContext;
use crate::domain::lead::Written;
use crate::error::{Error, ErrorKind, Result, Violation};
use crate::gateway::{Gateway, WriteMode};

/// What the shortest result of an error takes: code, reason and RetryInfo.
const LEAST_RESULT: usize = 280;
/// What stands before a message inside of another one, at most: its number and its length.
const MAX_PREFIX: usize = 5;

/// What became of each of many, in their order.
type Results<T> = Vec<std::result::Result<T, tonic_types::Status>>;

/// A request with many in it.
pub(super) trait Batch: Mutation {
    /// One of them.
    type Part: Writes + Default + Send + 'static;
    /// What it is answered with.
    type Told: Message + From<Written> + Send + 'static;
    /// What all of them are answered with.
    type Response: From<Results<Self::Told>>;
    /// All of them, taken out.
    fn take_parts(&mut self) -> Vec<Self::Part>;
}

macro_rules! batches {
    ($($batch:ident of $part:ident: $told:ident in $response:ident of $row:ident, $kinds:ident);* $(;)?) => {$(
        impl Batch for pb::$batch {
            type Part = pb::$part;
            type Told = pb::$told;
            type Response = pb::$response;

            fn take_parts(&mut self) -> Vec<Self::Part> {
                std::mem::take(&mut self.requests)
            }
        }

        impl From<Results<pb::$told>> for pb::$response {
            fn from(results: Results<pb::$told>) -> Self {
                use pb::$kinds::Result;
                let result = |result: std::result::Result<_, _>| Some(result.map_or_else(Result::Error, Result::Response));
                let rows = results.into_iter().map(|told| pb::$row { result: result(told) });
                Self { results: rows.collect() }
            }
        }
    )*};
}

batches! {
    BatchCreateLeadsRequest of CreateLeadRequest: CreateLeadResponse
        in BatchCreateLeadsResponse of BatchCreateLeadsResult, batch_create_leads_result;
    BatchUpdateLeadsRequest of UpdateLeadRequest: UpdateLeadResponse
        in BatchUpdateLeadsResponse of BatchUpdateLeadsResult, batch_update_leads_result;
    BatchUpsertLeadsRequest of UpsertLeadRequest: UpsertLeadResponse
        in BatchUpsertLeadsResponse of BatchUpsertLeadsResult, batch_upsert_leads_result;
}

/// Writes all that the request has in it; what became of each, in their order.
pub(super) async fn write_all<B: Batch>(mut rpc: Rpc<B>, status_builder: StatusBuilder) -> Result<B::Response> {
    let mut faults = Vec::new();
    let request = rpc.request_id(&mut faults);
    let parts = rpc.message.take_parts();
    // Nothing is written that could not be told.
    let most = rpc
        .gateway
        .batching()
        .max_requests
        .min(status_builder.room().bytes() / LEAST_RESULT);
    if !(1..=most).contains(&parts.len()) {
        let text = format!("must be 1 to {most} requests; there are {}", parts.len());
        faults.push(Violation::new("requests", text));
    }
    if !faults.is_empty() {
        return Err(ErrorKind::Invalid(faults).into());
    }
    let Rpc {
        gateway,
        context,
        arrival,
        ..
    } = rpc;
    let named = parts.into_iter().enumerate().map(|(at, message)| {
        let (message, has_own) = named(message, request.map(|request| part(request.id, at)));
        let read = Read::of(message);
        // An id that was made here is known to nobody.
        let own = read.request_id().filter(|_| has_own);
        (read, own)
    });
    // All places in the order of the requests, before any of them waits for anything.
    let named: Vec<_> = named.collect();
    let enter = || -> Vec<_> {
        named
            .into_iter()
            .map(|(read, own)| (read.enter(&gateway), own))
            .collect()
    };
    let entered = arrival.take(&context, enter).await?;
    let context = match &request {
        Some(request) => {
            gateway.check_request(&context, request).await?;
            gateway.claimed(&context, request)
        }
        None => context,
    };
    let mut results: Vec<_> = entered.iter().map(|_| None).collect();
    let mut under_way = JoinSet::new();
    for (at, (entered, own)) in entered.into_iter().enumerate() {
        let (gateway, context) = (gateway.clone(), part_of(&context, own));
        under_way.spawn(async move { (at, entered.make(&gateway, &context, WriteMode::Bulk).await) });
    }
    while let Some(ended) = under_way.join_next().await {
        let (at, result) = ended.map_err(|_| Error::from(ErrorKind::ShuttingDown))?;
        let result = result.map(Option::unwrap_or_default);
        results[at] = Some(result.map(B::Told::from).map_err(|error| status_builder.part(&error)));
    }
    let mut results: Results<_> = results.into_iter().flatten().collect();
    shorten(&mut results, status_builder.room());
    Ok(results.into())
}

/// Shortens the details of errors until all results fit into a response.
fn shorten<T: Message>(results: &mut Results<T>, room: Room) {
    let size = |result: &std::result::Result<T, tonic_types::Status>| match result {
        Ok(response) => response.encoded_len(),
        Err(error) => error.encoded_len(),
    };
    // A result has its length twice: its own, and that of the part of its oneof.
    let item = |result: &_| item_bytes(item_bytes(size(result)));
    if results.iter().map(item).sum::<usize>() <= room.bytes() {
        return;
    }
    let good: usize = results.iter().filter(|result| result.is_ok()).map(item).sum();
    let count = results.iter().filter(|result| result.is_err()).count();
    let each = (room.bytes().saturating_sub(good) / count.max(1)).saturating_sub(2 * MAX_PREFIX);
    for result in results {
        if let Err(error) = result {
            *error = status::part_within(std::mem::take(error), each);
        }
    }
}

/// Writes what comes, so many at one time, and tells of each when it is done.
pub(super) async fn import(
    rpc: Rpc<Streaming<pb::ImportLeadsRequest>>,
    responder: ResponseSender<pb::ImportLeadsResponse>,
) -> Result<()> {
    let Rpc {
        gateway,
        context,
        message: mut rows,
        ..
    } = rpc;
    let window = Arc::new(Semaphore::new(gateway.batching().import_window));
    let mut under_way = JoinSet::new();
    let mut counts = Counts::new(responder.status_builder().clone());
    let ended = loop {
        tokio::select! {
            // While nobody takes answers, no rows are read either: the caller's flow control stops it.
            (row, place) = next(&mut rows, &window) => match (row, place) {
                (Ok(Some(row)), Ok(place)) => {
                    counts.received += 1;
                    // Its place among the writes is that in which it was read.
                    let entered = enter(&gateway, row.operation);
                    let own = entered.as_ref().ok().and_then(|row| row.request_id);
                    let (gateway, context) = (gateway.clone(), part_of(&context, own));
                    under_way.spawn(async move {
                        let told = match entered {
                            Ok(entered) => import_one(&gateway, &context, entered).await,
                            Err(error) => Err(error),
                        };
                        drop(place);
                        (row.sequence, told)
                    });
                }
                (Ok(_), _) => break Ok(()),
                (Err(status), _) => break Err(responder.status_builder().why_unread(&status).unwrap_or_else(|| {
                    Error::invalid("request", format!("cannot be read: {}", status.message()))
                })),
            },
            Some(ended) = under_way.join_next() => respond(ended, &responder, &mut counts).await?,
        }
    };
    while let Some(ended) = under_way.join_next().await {
        respond(ended, &responder, &mut counts).await?;
    }
    ended
}

/// How many rows there were. They are told in the trailers when the import ends, whatever ends it.
struct Counts {
    status_builder: StatusBuilder,
    received: u64,
    succeeded: u64,
    failed: u64,
}

impl Counts {
    fn new(status_builder: StatusBuilder) -> Self {
        Self {
            status_builder,
            received: 0,
            succeeded: 0,
            failed: 0,
        }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.status_builder.trailer("x-leadgate-import-received", self.received);
        self.status_builder
            .trailer("x-leadgate-import-succeeded", self.succeeded);
        self.status_builder.trailer("x-leadgate-import-failed", self.failed);
    }
}

/// The next row, once there is a place for it.
async fn next(
    rows: &mut Streaming<pb::ImportLeadsRequest>,
    window: &Arc<Semaphore>,
) -> (
    std::result::Result<Option<pb::ImportLeadsRequest>, tonic::Status>,
    std::result::Result<tokio::sync::OwnedSemaphorePermit, tokio::sync::AcquireError>,
) {
    // The place first: a row that was read is not lost if something else ends earlier.
    let place = window.clone().acquire_owned().await;
    (rows.message().await, place)
}

async fn respond(
    ended: std::result::Result<(i64, Result<pb::ImportedLead>), tokio::task::JoinError>,
    responder: &ResponseSender<pb::ImportLeadsResponse>,
    counts: &mut Counts,
) -> Result<()> {
    let (sequence, told) = ended.map_err(|_| Error::from(ErrorKind::StreamInterrupted))?;
    let result = match told {
        Ok(lead) => {
            counts.succeeded += 1;
            Outcome::Response(lead)
        }
        Err(error) => {
            counts.failed += 1;
            Outcome::Error(responder.status_builder().part(&error))
        }
    };
    let result = Some(result);
    responder.send(pb::ImportLeadsResponse { sequence, result }).await
}

/// A row of an import that has its place.
struct Row {
    entered: Entered,
    request_id: Option<Uuid>,
    /// The outcome of its operation, where LeadSquared need not tell it.
    outcome: Option<pb::UpsertOutcome>,
}

/// Takes the place of a row.
fn enter(gateway: &Gateway, operation: Option<Operation>) -> Result<Row> {
    let (read, outcome) = match operation {
        Some(Operation::Create(message)) => (Read::of(message), Some(pb::UpsertOutcome::Created)),
        Some(Operation::Update(message)) => (Read::of(message), Some(pb::UpsertOutcome::Updated)),
        Some(Operation::Upsert(message)) => (Read::of(message), None),
        None => {
            return Err(Error::invalid(
                "operation",
                "one of create, update and upsert is required",
            ));
        }
    };
    Ok(Row {
        request_id: read.request_id(),
        entered: read.enter(gateway),
        outcome,
    })
}

async fn import_one(gateway: &Arc<Gateway>, context: &RequestContext, row: Row) -> Result<pb::ImportedLead> {
    let written = row
        .entered
        .make(gateway, context, WriteMode::Bulk)
        .await?
        .unwrap_or_default();
    let outcome = row.outcome.unwrap_or_else(|| outcome(&written));
    Ok(pb::ImportedLead {
        lead_id: written.lead_id,
        outcome: outcome.into(),
    })
}

/// The same with a request id, where it has none of its own, and whether it has.
fn named<M: Writes>(mut message: M, id: Option<Uuid>) -> (M, bool) {
    let own = message.take_request_id();
    let has_own = !own.is_empty();
    let id = match (has_own, id) {
        (false, Some(id)) => id.to_string(),
        _ => own,
    };
    message.put_request_id(id);
    (message, has_own)
}

/// A call for one of many: who leaves them all leaves it too, and when it has ended the others go on.
fn part_of(context: &RequestContext, request_id: Option<Uuid>) -> RequestContext {
    RequestContext {
        mutation: request_id.or(context.mutation),
        cancelled: context.cancelled.child_token(),
        progress: Arc::default(),
        ..context.clone()
    }
}

/// What LeadSquared tells of an upsert.
pub(super) fn outcome(written: &Written) -> pb::UpsertOutcome {
    match written.created {
        None => pb::UpsertOutcome::Unspecified,
        Some(true) => pb::UpsertOutcome::Created,
        Some(false) => pb::UpsertOutcome::Updated,
    }
}

impl From<Written> for pb::CreateLeadResponse {
    fn from(written: Written) -> Self {
        Self {
            lead_id: written.lead_id,
        }
    }
}

impl From<Written> for pb::UpdateLeadResponse {
    fn from(written: Written) -> Self {
        Self {
            affected_rows: written.affected_rows,
        }
    }
}

impl From<Written> for pb::UpsertLeadResponse {
    fn from(written: Written) -> Self {
        let outcome = outcome(&written).into();
        Self {
            lead_id: written.lead_id,
            outcome,
        }
    }
}
