//! The batch writes of leads. Each request of a batch is a separate write. The queue combines them into bulk calls.

use prost::Message;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::mutation::{Mutation, part};
use super::pb;
use super::response_budget::{ResponseBudget, encoded_item_bytes};
use super::rpc::{Rpc, StatusBuilder};
use super::status;
use super::violations::Violations;
use super::write::{DecodedWrite, WriteMessage, item_context};
use crate::domain::lead::WriteResult;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::{Gateway, WriteMode};

/// The size of the shortest error in a result: code, reason and RetryInfo.
const MIN_RESULT_BYTES: usize = 280;
/// The maximum size of the tag and length of a nested message.
const MAX_PREFIX_BYTES: usize = 5;

/// The results of a batch, in the order of its requests.
type ItemResults<T> = Vec<std::result::Result<T, tonic_types::Status>>;

/// The request message of a batch.
pub(super) trait Batch: Mutation {
    /// One request of the batch.
    type Item: WriteMessage + Default + Send + 'static;
    /// The response to one request.
    type ItemResponse: Message + From<WriteResult> + Send + 'static;
    /// The response to the batch.
    type Response: From<ItemResults<Self::ItemResponse>>;
    /// Removes and returns all requests.
    fn take_items(&mut self) -> Vec<Self::Item>;
}

macro_rules! batches {
    ($($batch:ident of $item:ident: $item_response:ident in $response:ident of $result:ident, $module:ident);* $(;)?) => {$(
        impl Batch for pb::$batch {
            type Item = pb::$item;
            type ItemResponse = pb::$item_response;
            type Response = pb::$response;

            fn take_items(&mut self) -> Vec<Self::Item> {
                std::mem::take(&mut self.requests)
            }
        }

        impl From<ItemResults<pb::$item_response>> for pb::$response {
            fn from(results: ItemResults<pb::$item_response>) -> Self {
                use pb::$module::Result;
                let results = results.into_iter().map(|result| pb::$result {
                    result: Some(result.map_or_else(Result::Error, Result::Response)),
                });
                Self { results: results.collect() }
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

/// Executes all writes of a batch and returns their results.
pub(super) async fn write_batch<B: Batch>(mut rpc: Rpc<B>, status_builder: StatusBuilder) -> Result<B::Response> {
    let mut violations = Violations::default();
    let request = rpc.request_id(&mut violations);
    let is_internal = !rpc.log.has_request_id();
    let items = rpc.message.take_items();
    // A batch whose results would not fit into the response must not be executed.
    let max = rpc
        .gateway
        .batching()
        .max_requests
        .min(status_builder.budget().item_bytes() / MIN_RESULT_BYTES);
    let text = format!("must be 1 to {max} requests; there are {}", items.len());
    violations.require((1..=max).contains(&items.len()), "requests", text);
    violations.none()?;
    let Rpc {
        gateway,
        context,
        write_turn,
        internal_request_id,
        ..
    } = rpc;
    let decoded = items.into_iter().enumerate().map(|(index, message)| {
        let (message, has_own_id) = with_request_id(message, request.map(|request| part(request.id, index)));
        let write = DecodedWrite::new(message).part_of(request, has_own_id);
        // The log shows only ids that the caller knows.
        let own_id = write.request_id().filter(|_| has_own_id);
        (write, own_id)
    });
    // All writes enter in the order of the requests, before the first one waits.
    let decoded: Vec<_> = decoded.collect();
    let enter = || -> Vec<_> {
        decoded
            .into_iter()
            .map(|(write, own_id)| (write.enter(&gateway), own_id))
            .collect()
    };
    let queued = write_turn.enter(&context, enter).await?;
    let context = match &request {
        Some(request) => {
            gateway.check_request(&context, request).await?;
            gateway.claimed(&context, request)
        }
        None => context,
    };
    let mut results: Vec<_> = queued.iter().map(|_| None).collect();
    let mut tasks = JoinSet::new();
    for (index, (write, own_id)) in queued.into_iter().enumerate() {
        let (gateway, context) = (gateway.clone(), item_context(&context, own_id));
        tasks.spawn(async move {
            let result = write.execute(&gateway, &context, WriteMode::Bulk).await;
            (index, (own_id.is_some(), result))
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let (index, (has_own_id, result)) = ended.map_err(|_| Error::from(ErrorKind::ShuttingDown))?;
        let result = match result {
            Ok(result) => Ok(B::ItemResponse::from(result)),
            // The next owner executes the rest of the batch, which has a request id.
            Err(error) if internal_request_id.is_some() && is_moved(&error, &gateway) => {
                return Err(ErrorKind::Moved { sent: true }.into());
            }
            Err(error) => {
                let internal = internal_request_id.filter(|_| is_internal && !has_own_id);
                let error = match internal {
                    Some(internal) => error.of_mutation(false, internal.recovery),
                    None => error,
                };
                Err(status_builder.part(&error))
            }
        };
        results[index] = Some(result);
    }
    let mut results: ItemResults<_> = results.into_iter().flatten().collect();
    shorten_errors(&mut results, status_builder.budget());
    Ok(results.into())
}

/// Whether the write was not sent because another replica takes over the tenant.
fn is_moved(error: &Error, gateway: &Gateway) -> bool {
    match error.kind {
        ErrorKind::Moved { .. } => true,
        ErrorKind::ShuttingDown => gateway.stopped().is_cancelled(),
        _ => false,
    }
}

/// Shortens the errors until all results fit into a response.
fn shorten_errors<T: Message>(results: &mut ItemResults<T>, budget: ResponseBudget) {
    let size = |result: &std::result::Result<T, tonic_types::Status>| match result {
        Ok(response) => response.encoded_len(),
        Err(error) => error.encoded_len(),
    };
    // A result is nested twice: in the oneof, and in the list of results.
    let item = |result: &_| encoded_item_bytes(encoded_item_bytes(size(result)));
    if results.iter().map(item).sum::<usize>() <= budget.item_bytes() {
        return;
    }
    let succeeded: usize = results.iter().filter(|result| result.is_ok()).map(item).sum();
    let errors = results.iter().filter(|result| result.is_err()).count();
    let max_error_bytes =
        (budget.item_bytes().saturating_sub(succeeded) / errors.max(1)).saturating_sub(2 * MAX_PREFIX_BYTES);
    for result in results {
        if let Err(error) = result {
            *error = status::part_within(std::mem::take(error), max_error_bytes);
        }
    }
}

/// Sets a request id if the message has none. Returns whether the message had a request id.
fn with_request_id<M: WriteMessage>(mut message: M, id: Option<Uuid>) -> (M, bool) {
    let own = message.take_request_id();
    let has_own = !own.is_empty();
    let id = match (has_own, id) {
        (false, Some(id)) => id.to_string(),
        _ => own,
    };
    message.set_request_id(id);
    (message, has_own)
}
