//! The handlers of LeadService.

use tonic::{Request, Streaming};

use super::response_stream::ResponseStream;
use super::rpc::{Rpc, RpcResult, ServerContext, StreamResult};
use super::write::WriteMessage;
use super::{bulk, import, pb, read, remove, search, write};
use crate::domain::lead::WriteResult;

/// The handlers of LeadService.
pub(super) struct LeadHandlers {
    pub(super) server: ServerContext,
}

impl LeadHandlers {
    /// Handles an RPC that writes one lead.
    async fn write<M: WriteMessage, A>(&self, request: Request<M>) -> RpcResult<A>
    where
        A: prost::Message + From<WriteResult>,
    {
        let handler = |rpc: Rpc<M>, _| async { write::write(rpc).await.map(A::from) };
        self.server.respond(request, handler).await
    }
}

#[tonic::async_trait]
impl pb::lead_service_server::LeadService for LeadHandlers {
    type ImportLeadsStream = ResponseStream<pb::ImportLeadsResponse>;
    type ExportLeadsStream = ResponseStream<pb::ExportLeadsResponse>;

    async fn create_lead(&self, request: Request<pb::CreateLeadRequest>) -> RpcResult<pb::CreateLeadResponse> {
        self.write(request).await
    }

    async fn update_lead(&self, request: Request<pb::UpdateLeadRequest>) -> RpcResult<pb::UpdateLeadResponse> {
        self.write(request).await
    }

    async fn upsert_lead(&self, request: Request<pb::UpsertLeadRequest>) -> RpcResult<pb::UpsertLeadResponse> {
        self.write(request).await
    }

    async fn capture_lead(&self, request: Request<pb::CaptureLeadRequest>) -> RpcResult<pb::CaptureLeadResponse> {
        self.write(request).await
    }

    async fn get_lead(&self, request: Request<pb::GetLeadRequest>) -> RpcResult<pb::GetLeadResponse> {
        self.server.respond(request, |rpc, _| read::get(rpc)).await
    }

    async fn batch_get_leads(
        &self,
        request: Request<pb::BatchGetLeadsRequest>,
    ) -> RpcResult<pb::BatchGetLeadsResponse> {
        self.server.respond(request, read::batch_get).await
    }

    async fn batch_create_leads(
        &self,
        request: Request<pb::BatchCreateLeadsRequest>,
    ) -> RpcResult<pb::BatchCreateLeadsResponse> {
        self.server.respond(request, bulk::write_batch).await
    }

    async fn batch_update_leads(
        &self,
        request: Request<pb::BatchUpdateLeadsRequest>,
    ) -> RpcResult<pb::BatchUpdateLeadsResponse> {
        self.server.respond(request, bulk::write_batch).await
    }

    async fn batch_upsert_leads(
        &self,
        request: Request<pb::BatchUpsertLeadsRequest>,
    ) -> RpcResult<pb::BatchUpsertLeadsResponse> {
        self.server.respond(request, bulk::write_batch).await
    }

    async fn search_leads(&self, request: Request<pb::SearchLeadsRequest>) -> RpcResult<pb::SearchLeadsResponse> {
        self.server.respond(request, search::search).await
    }

    async fn quick_search_leads(
        &self,
        request: Request<pb::QuickSearchLeadsRequest>,
    ) -> RpcResult<pb::QuickSearchLeadsResponse> {
        self.server.respond(request, |rpc, _| search::quick_search(rpc)).await
    }

    async fn list_modified_leads(
        &self,
        request: Request<pb::ListModifiedLeadsRequest>,
    ) -> RpcResult<pb::ListModifiedLeadsResponse> {
        self.server.respond(request, search::list_modified).await
    }

    async fn delete_lead(&self, request: Request<pb::DeleteLeadRequest>) -> RpcResult<pb::DeleteLeadResponse> {
        self.server.respond(request, |rpc, _| remove::delete(rpc)).await
    }

    async fn merge_leads(&self, request: Request<pb::MergeLeadsRequest>) -> RpcResult<pb::MergeLeadsResponse> {
        self.server.respond(request, |rpc, _| remove::merge(rpc)).await
    }

    async fn import_leads(
        &self,
        request: Request<Streaming<pb::ImportLeadsRequest>>,
    ) -> StreamResult<pb::ImportLeadsResponse> {
        self.server.stream(request, import::import).await
    }

    async fn export_leads(&self, request: Request<pb::ExportLeadsRequest>) -> StreamResult<pb::ExportLeadsResponse> {
        self.server.stream(request, search::export).await
    }

    async fn describe_lead_fields(
        &self,
        request: Request<pb::DescribeLeadFieldsRequest>,
    ) -> RpcResult<pb::DescribeLeadFieldsResponse> {
        self.server.respond(request, |rpc, _| read::describe_fields(rpc)).await
    }
}
