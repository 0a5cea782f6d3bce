//! The common part of every RPC: tenant, caller, deadline, permits, and the conversion of results into responses.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use super::authorization::{AccessControl, StreamAccess};
use super::limits::SharedLimits;
use super::metadata::{criticality, has_deadline, time_limit};
use super::permits::{InternalRequestId, RpcPermit, RpcStart};
use super::response_budget::ResponseBudget;
use super::response_stream::ResponseStream;
use super::rpc_log::{Moved, RpcLog};
use super::settings::{MAX_DURATION, ServerSettings};
use super::status;
use super::unary_limit::UnaryLimit;
use super::write_order::WritePosition;
use crate::audit::AuditLog;
use crate::context::{RequestContext, deadline_exceeded};
use crate::error::{Denial, Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::telemetry::trace::Tracing;
use crate::tenant::Tenant;

/// The result of a unary RPC.
pub(super) type RpcResult<A> = std::result::Result<Response<A>, Status>;
/// The result of an RPC with a stream of responses.
pub(super) type StreamResult<A> = RpcResult<ResponseStream<A>>;

/// What all handlers share.
#[derive(Clone)]
pub(super) struct ServerContext {
    pub(super) access: AccessControl,
    pub(super) settings: Arc<ServerSettings>,
    /// `None`: there is no audit.
    pub(super) audit: Option<AuditLog>,
    pub(super) limits: Arc<SharedLimits>,
    pub(super) unary_limit: Arc<UnaryLimit>,
    /// The permits of `server.max_streams`.
    pub(super) streams: Arc<Semaphore>,
    /// Cancelled when the process begins to shut down.
    pub(super) draining: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Whether there may be other replicas.
    pub(super) has_cluster: bool,
    pub(super) tracing: Tracing,
}

/// One RPC with a known tenant.
pub(super) struct Rpc<M> {
    pub(super) tenant: Arc<Tenant>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) context: RequestContext,
    pub(super) message: M,
    pub(super) write_turn: WriteTurn,
    pub(super) log: RpcLog,
    pub(super) internal_request_id: Option<InternalRequestId>,
    works_while_paused: bool,
}

/// The position of an RPC among the writes of its connection. `None` for RPCs that do not write.
pub(super) struct WriteTurn(Option<Arc<WritePosition>>);

impl WriteTurn {
    /// Runs `enter` after all earlier writes of the connection have entered the queue. `enter` must not wait.
    pub(super) async fn enter<T>(self, context: &RequestContext, enter: impl FnOnce() -> T) -> Result<T> {
        if let Some(position) = &self.0 {
            context
                .wait("the request messages of earlier writes", position.wait())
                .await?;
        }
        let entered = enter();
        drop(self);
        Ok(entered)
    }
}

/// What an RPC holds until it ends.
struct RpcHold {
    _permit: Option<Arc<RpcPermit>>,
    stream_access: Option<StreamAccess>,
}

/// Sends the responses of a stream.
pub(super) struct ResponseSender<A> {
    sender: mpsc::Sender<A>,
    /// `server.stream_read_timeout`.
    read_timeout: Duration,
    status_builder: StatusBuilder,
}

/// Builds the statuses of one RPC.
#[derive(Clone)]
pub(super) struct StatusBuilder {
    tenant: Option<String>,
    log: RpcLog,
    budget: ResponseBudget,
    /// The deadline of the caller, if there is one.
    deadline: Option<Instant>,
    /// Whether the tenant may have another owner soon.
    has_cluster: bool,
}

impl StatusBuilder {
    /// Returns the status that ends the RPC, and records its reason for the log. [`ErrorKind::Moved`] ends only the dispatch to
    /// this replica. So does a store that does not respond if there are several replicas.
    pub(super) fn last(&self, error: &Error) -> Status {
        match error.kind {
            ErrorKind::Moved { sent: true } => self.log.set_moved(Moved::Sent),
            ErrorKind::Moved { sent: false } => self.log.set_moved(Moved::Unsent),
            ErrorKind::StoreUnavailable if self.has_cluster => self.log.set_moved(Moved::StoreFailed),
            _ => self.log.set_reason(status::reason(error)),
        }
        self.status(error)
    }

    /// Returns the status of an RPC for which no owner was found.
    pub(super) fn not_served(&self, error: &Error) -> Status {
        self.log.set_reason(status::reason(error));
        self.status(error)
    }

    fn status(&self, error: &Error) -> Status {
        let remaining = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        status::from(error, self.tenant.as_deref(), self.log.id(), remaining)
    }

    /// Returns the error because of which a request message was not read. `None` if the status has another cause.
    pub(super) fn request_error(&self, status: &Status) -> Option<Error> {
        self.log.request_error(status)
    }

    /// Adds a count to the trailers.
    pub(super) fn add_trailer(&self, name: &'static str, count: u64) {
        self.log.add_trailer(name, count);
    }

    /// Returns the maximum size of one response message.
    pub(super) fn budget(&self) -> ResponseBudget {
        self.budget
    }

    /// Returns an error as a part of a response message.
    pub(super) fn part(&self, error: &Error) -> tonic_types::Status {
        // The details of a status are this message, encoded.
        let status = self.status(error);
        tonic_types::Status::decode(status.details()).unwrap_or_default()
    }
}

impl<A> ResponseSender<A> {
    /// Sends one response. Fails if the client has cancelled, does not read in time, or if the response is too large.
    pub(super) async fn send(&self, response: A) -> Result<()>
    where
        A: Message,
    {
        self.status_builder.budget.check(&response)?;
        match tokio::time::timeout(self.read_timeout, self.sender.send(response)).await {
            Ok(sent) => sent.map_err(|_| ErrorKind::CallerCancelled.into()),
            Err(_) => Err(ErrorKind::StreamNotRead.into()),
        }
    }

    /// Returns the builder for errors that are parts of responses.
    pub(super) fn status_builder(&self) -> &StatusBuilder {
        &self.status_builder
    }
}

impl ServerContext {
    /// Runs the handler of a unary RPC and returns its response.
    pub(super) async fn respond<M, A, F>(
        &self,
        request: Request<M>,
        handler: impl FnOnce(Rpc<M>, StatusBuilder) -> F,
    ) -> RpcResult<A>
    where
        A: Message,
        F: Future<Output = Result<A>>,
    {
        let (status_builder, started) = self.start(request, self.settings.max_deadline);
        let result = match started {
            Ok((rpc, _hold)) => {
                let (gateway, internal) = (rpc.gateway.clone(), rpc.internal_request_id);
                let result = handler(rpc, status_builder.clone()).await;
                result.map_err(|error| self.of_replica(error, &gateway, internal, &status_builder.log))
            }
            Err(error) => Err(error),
        };
        let result = result.and_then(|response| status_builder.budget.check(&response).map(|()| response));
        result.map(Response::new).map_err(|error| status_builder.last(&error))
    }

    /// Returns the error for the caller, or for the replica that forwarded the RPC. With one replica, errors do not change.
    fn of_replica(&self, error: Error, gateway: &Gateway, internal: Option<InternalRequestId>, log: &RpcLog) -> Error {
        if !self.has_cluster {
            return error;
        }
        match internal {
            // The next owner continues what this gateway has not sent.
            _ if error.kind == ErrorKind::ShuttingDown && gateway.stopped().is_cancelled() => {
                ErrorKind::Moved { sent: false }.into()
            }
            // The caller cannot repeat an id that it does not know.
            Some(internal) if !log.has_request_id() => error.of_mutation(false, internal.recovery),
            _ => error,
        }
    }

    /// Runs the handler of an RPC with a stream of responses, until it ends, the caller cancels, the deadline passes, the account is
    /// paused or the process shuts down.
    pub(super) async fn stream<M, A, F>(
        &self,
        request: Request<M>,
        handler: impl FnOnce(Rpc<M>, ResponseSender<A>) -> F,
    ) -> StreamResult<A>
    where
        F: Future<Output = Result<()>> + Send + 'static,
        A: Send + 'static,
    {
        // server.max_deadline does not apply to streams.
        let (status_builder, started) = self.start(request, MAX_DURATION);
        let (rpc, mut hold) = started.map_err(|error| status_builder.last(&error))?;
        let (sender, responses) = ResponseStream::new();
        let (deadline, cancelled) = (rpc.context.deadline, rpc.context.cancelled.clone().drop_guard());
        let responder = ResponseSender {
            sender: sender.clone(),
            read_timeout: self.settings.stream_read_timeout,
            status_builder: status_builder.clone(),
        };
        let stopped = rpc.gateway.stopped().clone();
        let paused = {
            let gateway = (!rpc.works_while_paused).then(|| rpc.gateway.clone());
            async move {
                match gateway {
                    Some(gateway) => gateway.until_paused().await,
                    None => std::future::pending().await,
                }
            }
        };
        let handler = handler(rpc, responder);
        let end = responses.end_handle();
        let revoked = self.access.clone().revoked(hold.stream_access.take());
        self.tasks.spawn(async move {
            let _held = (hold, cancelled);
            // The handler is dropped before the end of the stream is set: its drop may add trailers.
            let result = tokio::select! {
                result = handler => result,
                () = sender.closed() => Ok(()),
                () = stopped.cancelled() => Err(ErrorKind::StreamInterrupted.into()),
                () = paused => Err(ErrorKind::TenantPaused.into()),
                error = revoked => Err(error),
                () = tokio::time::sleep_until(deadline) => Err(deadline_exceeded("the next response")),
            };
            if let Err(error) = result {
                let status = status_builder.last(&error);
                status_builder.log.audit_refusal().await;
                end.fail(status, error.kind == ErrorKind::StreamNotRead);
            }
        });
        Ok(Response::new(responses))
    }

    /// Returns the RPC of a request, with its permit, and the builder for its statuses.
    fn start<M>(&self, mut request: Request<M>, max_duration: Duration) -> (StatusBuilder, Result<(Rpc<M>, RpcHold)>) {
        let Some(start) = request.extensions_mut().remove::<RpcStart>() else {
            // Does not happen: every request has passed `connection.rs`.
            let status_builder = self.status_builder(
                request.metadata().as_ref(),
                RpcLog::new(&HeaderMap::new(), Default::default()),
            );
            return (status_builder, Err(ErrorKind::ShuttingDown.into()));
        };
        start.log.message_complete();
        let status_builder = self.status_builder(request.metadata().as_ref(), start.log.clone());
        let hold = RpcHold {
            _permit: start.permit.clone(),
            stream_access: start.stream_access.clone(),
        };
        let rpc = self.rpc(request, start, max_duration);
        (status_builder, rpc.map(|rpc| (rpc, hold)))
    }

    /// Returns the builder for the statuses of an RPC.
    pub(super) fn status_builder(&self, headers: &HeaderMap, log: RpcLog) -> StatusBuilder {
        let tenant = log.tenant_name().map(str::to_owned);
        let limit = has_deadline(headers).then(|| time_limit(headers, &self.settings, MAX_DURATION));
        let deadline = limit.and_then(Result::ok).map(|limit| log.start() + limit);
        StatusBuilder {
            tenant,
            deadline,
            log,
            budget: ResponseBudget::new(self.settings.max_response_bytes),
            has_cluster: self.has_cluster,
        }
    }

    fn rpc<M>(&self, request: Request<M>, start: RpcStart, max_duration: Duration) -> Result<Rpc<M>> {
        // With other replicas, the gateway decides: a tenant that was handed over is served by its new owner.
        if self.draining.is_cancelled() && !self.has_cluster {
            return Err(ErrorKind::ShuttingDown.into());
        }
        // Does not happen: every RPC with a handler has a tenant.
        let access = start.access.ok_or(ErrorKind::CallerNotAllowed(Denial::Tenant))?;
        let gateway = access.tenant.gateway().ok_or(ErrorKind::Moved { sent: false })?;
        if gateway.is_paused() && !start.works_while_paused {
            return Err(ErrorKind::TenantPaused.into());
        }
        let headers = request.metadata().as_ref();
        let limit = time_limit(headers, &self.settings, max_duration)?;
        let context = RequestContext {
            id: start.log.id().into(),
            mutation: None,
            caller: access.caller.name.clone(),
            permissions: access.caller.permissions.clone(),
            first_received: start.log.start(),
            is_repeated: start.is_repeated,
            criticality: criticality(headers)?,
            deadline: start.log.start() + limit,
            cancelled: CancellationToken::new(),
            position: None,
            progress: Arc::default(),
            record: None,
            audit: start.log.audit(),
            trace: start.log.trace().clone(),
        };
        Ok(Rpc {
            tenant: access.tenant,
            gateway,
            context,
            message: request.into_inner(),
            write_turn: WriteTurn(start.write_position),
            log: start.log,
            internal_request_id: start.internal_request_id,
            works_while_paused: start.works_while_paused,
        })
    }
}
