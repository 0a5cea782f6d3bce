//! ImportLeads: a stream of writes. A limited number is in progress at a time.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::pb;
use super::pb::import_leads_request::Operation;
use super::pb::import_leads_response::Result as RowResult;
use super::rpc::{ResponseSender, Rpc, StatusBuilder};
use super::write::{DecodedWrite, QueuedWrite, item_context, upsert_outcome};
use crate::context::RequestContext;
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::gateway::{Gateway, WriteMode};

/// Executes the rows of the stream and sends the result of each row when it is known.
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
    let mut tasks = JoinSet::new();
    let mut counts = ImportCounts::new(responder.status_builder().clone());
    let ended = loop {
        tokio::select! {
            // While the client does not read responses, no rows are read: then flow control stops the client.
            (row, permit) = next(&mut rows, &window) => match (row, permit) {
                (Ok(Some(row)), Ok(permit)) => {
                    counts.received += 1;
                    // Rows enter the order of writes in the order in which they are read.
                    let queued = enter(&gateway, row.operation);
                    let own_id = queued.as_ref().ok().and_then(|row| row.request_id);
                    let (gateway, context) = (gateway.clone(), item_context(&context, own_id));
                    tasks.spawn(async move {
                        let result = match queued {
                            Ok(queued) => execute(&gateway, &context, queued).await,
                            Err(error) => Err(error),
                        };
                        drop(permit);
                        (row.sequence, result)
                    });
                }
                (Ok(_), _) => break Ok(()),
                (Err(status), _) => break Err(responder.status_builder().request_error(&status).unwrap_or_else(|| {
                    Error::invalid("request", format!("cannot be read: {}", status.message()))
                })),
            },
            Some(ended) = tasks.join_next() => respond(ended, &responder, &mut counts).await?,
        }
    };
    while let Some(ended) = tasks.join_next().await {
        respond(ended, &responder, &mut counts).await?;
    }
    ended
}

/// Counts rows. The counts are set as trailers on drop, however the import ends.
struct ImportCounts {
    status_builder: StatusBuilder,
    received: u64,
    succeeded: u64,
    failed: u64,
}

impl ImportCounts {
    fn new(status_builder: StatusBuilder) -> Self {
        Self {
            status_builder,
            received: 0,
            succeeded: 0,
            failed: 0,
        }
    }
}

impl Drop for ImportCounts {
    fn drop(&mut self) {
        for (name, count) in [
            ("x-leadgate-import-received", self.received),
            ("x-leadgate-import-succeeded", self.succeeded),
            ("x-leadgate-import-failed", self.failed),
        ] {
            self.status_builder.add_trailer(name, count);
        }
    }
}

/// Waits for a permit and returns it with the next row.
async fn next(
    rows: &mut Streaming<pb::ImportLeadsRequest>,
    window: &Arc<Semaphore>,
) -> (
    std::result::Result<Option<pb::ImportLeadsRequest>, Status>,
    std::result::Result<OwnedSemaphorePermit, AcquireError>,
) {
    // The permit first: if this future is dropped, no row that was read may be lost.
    let permit = window.clone().acquire_owned().await;
    (rows.message().await, permit)
}

async fn respond(
    ended: std::result::Result<(i64, Result<pb::ImportedLead>), JoinError>,
    responder: &ResponseSender<pb::ImportLeadsResponse>,
    counts: &mut ImportCounts,
) -> Result<()> {
    let (sequence, result) = ended.map_err(|_| Error::from(ErrorKind::StreamInterrupted))?;
    let result = match result {
        Ok(lead) => {
            counts.succeeded += 1;
            RowResult::Response(lead)
        }
        Err(error) => {
            counts.failed += 1;
            RowResult::Error(responder.status_builder().part(&error))
        }
    };
    let result = Some(result);
    responder.send(pb::ImportLeadsResponse { sequence, result }).await
}

/// A row that has entered the order of writes.
struct ImportRow {
    write: QueuedWrite,
    request_id: Option<Uuid>,
    /// The outcome, if the operation determines it. `None` for an upsert.
    outcome: Option<pb::UpsertOutcome>,
}

fn enter(gateway: &Gateway, operation: Option<Operation>) -> Result<ImportRow> {
    let (write, outcome) = match operation {
        Some(Operation::Create(message)) => (DecodedWrite::new(message), Some(pb::UpsertOutcome::Created)),
        Some(Operation::Update(message)) => (DecodedWrite::new(message), Some(pb::UpsertOutcome::Updated)),
        Some(Operation::Upsert(message)) => (DecodedWrite::new(message), None),
        None => {
            return Err(Error::invalid(
                "operation",
                "one of create, update and upsert is required",
            ));
        }
    };
    Ok(ImportRow {
        request_id: write.request_id(),
        write: write.known_to_next_owner(gateway).enter(gateway),
        outcome,
    })
}

async fn execute(gateway: &Arc<Gateway>, context: &RequestContext, row: ImportRow) -> Result<pb::ImportedLead> {
    let result = row.write.execute(gateway, context, WriteMode::Bulk).await;
    let result = result.map_err(|error| match row.request_id {
        // The client cannot repeat an id that it does not know.
        None => error.of_mutation(false, Recovery::Lead),
        Some(_) => error,
    })?;
    let outcome = row.outcome.unwrap_or_else(|| upsert_outcome(&result));
    Ok(pb::ImportedLead {
        lead_id: result.lead_id,
        outcome: outcome.into(),
    })
}
