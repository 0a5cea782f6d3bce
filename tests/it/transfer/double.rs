//! A test double of the gateway for imports, over plaintext or TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leadgate::grpc::pb;
use pb::import_leads_request::Operation;
use pb::import_leads_response::Result as Told;
use pb::lead_service_server::{LeadService, LeadServiceServer};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use crate::harness::listen;

/// The fate of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Executed.
    Taken,
    /// Not executed, with a transient error.
    NotNow,
    /// Executed, and the stream ends before the response.
    Lost,
    /// The stream ends, and the row was not executed.
    Break,
    /// Executed, and the gateway cannot find the outcome.
    Unknown,
    /// Executed, without a response on this stream.
    Silence,
    /// Not executed, with a permanent error.
    Refused,
}

type Script = dyn Fn(&str, usize) -> Reply + Send + Sync;

/// The rows that the gateway received.
#[derive(Default)]
struct Seen {
    /// The first names of the rows, in the order of arrival.
    came: Vec<String>,
    /// The first names of executed rows, in the order of execution.
    done: Vec<String>,
    /// The executed rows by request id.
    known: HashMap<String, ()>,
    /// The request ids of the rows by first name.
    ids: HashMap<String, String>,
    /// `x-leadgate-caller` of each stream.
    callers: Vec<Option<String>>,
}

#[derive(Clone)]
struct Service {
    script: Arc<Script>,
    seen: Arc<Mutex<Seen>>,
}

/// The gateway. It stops with the value.
pub struct Double {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Double {
    /// A gateway that gets the fate of a row from a script, by the unique first name and by the number of earlier arrivals.
    pub async fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(script, None).await
    }

    /// A gateway over TLS that executes every row.
    pub async fn with_tls(certificate: &str, key: &str) -> Self {
        Self::serve(|_, _| Reply::Taken, Some(Identity::from_pem(certificate, key))).await
    }

    async fn serve(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static, identity: Option<Identity>) -> Self {
        let listener = listen().await;
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let service = Service {
            script: Arc::new(script),
            seen: seen.clone(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let mut server = Server::builder();
        if let Some(identity) = identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let (health, health_service) = tonic_health::server::health_reporter();
        health
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        let served = server
            .add_service(health_service)
            .add_service(LeadServiceServer::new(service))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stopped);
        tokio::spawn(served);
        Self { address, seen, stop }
    }

    /// The rows in the order of arrival.
    pub fn came(&self) -> Vec<String> {
        self.seen.lock().unwrap().came.clone()
    }

    /// `x-leadgate-caller` of each stream.
    pub fn callers(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().callers.clone()
    }

    /// The rows in the order of execution.
    pub fn done(&self) -> Vec<String> {
        self.seen.lock().unwrap().done.clone()
    }
}

impl Service {
    /// Executes a row, once per request id.
    fn answer(&self, message: &pb::ImportLeadsRequest) -> Reply {
        let Some(Operation::Upsert(upsert)) = &message.operation else {
            panic!("{message:?}");
        };
        let name = upsert.lead.as_ref().unwrap().first_name.clone().unwrap();
        let mut seen = self.seen.lock().unwrap();
        let before = seen.came.iter().filter(|came| **came == name).count();
        seen.came.push(name.clone());
        let id = seen
            .ids
            .entry(name.clone())
            .or_insert_with(|| upsert.request_id.clone());
        assert_eq!(*id, upsert.request_id, "{name} comes under two request ids");
        let reply = (self.script)(&name, before);
        if matches!(reply, Reply::Unknown | Reply::Silence) {
            seen.done.retain(|done| *done != name);
            seen.done.push(name);
            return reply;
        }
        if seen.known.contains_key(&upsert.request_id) {
            return Reply::Taken;
        }
        if matches!(reply, Reply::Taken | Reply::Lost) {
            seen.known.insert(upsert.request_id.clone(), ());
            seen.done.retain(|done| *done != name);
            seen.done.push(name);
        }
        reply
    }
}

fn error(code: Code, reason: &str, facts: &[(&str, &str)]) -> tonic_types::Status {
    let mut details = ErrorDetails::new();
    let facts = facts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    details.set_error_info(reason, "leadgate", facts.collect::<HashMap<_, _>>());
    details.set_retry_info(Some(Duration::from_millis(50)));
    let status = Status::with_error_details(code, "a text", details);
    prost::Message::decode(status.details()).unwrap()
}

type Rows = Pin<Box<dyn Stream<Item = Result<pb::ImportLeadsResponse, Status>> + Send>>;
type Leads = Pin<Box<dyn Stream<Item = Result<pb::ExportLeadsResponse, Status>> + Send>>;

macro_rules! service {
    ($($unused:ident: $request:ident -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl LeadService for Service {
            $(async fn $unused(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("not in this double"))
            })*

            async fn describe_lead_fields(
                &self,
                _: Request<pb::DescribeLeadFieldsRequest>,
            ) -> Result<Response<pb::DescribeLeadFieldsResponse>, Status> {
                Ok(Response::new(pb::DescribeLeadFieldsResponse::default()))
            }

            type ExportLeadsStream = Leads;

            async fn export_leads(&self, _: Request<pb::ExportLeadsRequest>) -> Result<Response<Leads>, Status> {
                Err(Status::unimplemented("not in this double"))
            }

            type ImportLeadsStream = Rows;

            async fn import_leads(
                &self,
                request: Request<Streaming<pb::ImportLeadsRequest>>,
            ) -> Result<Response<Rows>, Status> {
                let caller = request.metadata().get("x-leadgate-caller");
                let caller = caller.map(|name| name.to_str().unwrap().to_owned());
                self.seen.lock().unwrap().callers.push(caller);
                let (service, mut rows) = (self.clone(), request.into_inner());
                let (sender, receiver) = tokio::sync::mpsc::channel(16);
                tokio::spawn(async move {
                    while let Some(Ok(row)) = rows.next().await {
                        let result = match service.answer(&row) {
                            Reply::Taken => Told::Response(pb::ImportedLead::default()),
                            Reply::NotNow => Told::Error(error(Code::Unavailable, "UPSTREAM_UNAVAILABLE", &[])),
                            Reply::Unknown => {
                                let never = [("retry_same_request_id", "false")];
                                Told::Error(error(Code::Aborted, "OUTCOME_UNKNOWN", &never))
                            }
                            Reply::Refused => Told::Error(error(Code::AlreadyExists, "LEAD_DUPLICATE", &[])),
                            Reply::Silence => continue,
                            Reply::Lost | Reply::Break => {
                                let _ = sender.send(Err(Status::unavailable("broken"))).await;
                                return;
                            }
                        };
                        let answer = pb::ImportLeadsResponse {
                            sequence: row.sequence,
                            result: Some(result),
                        };
                        if sender.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                });
                Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
            }
        }
    };
}

service! {
    create_lead: CreateLeadRequest -> CreateLeadResponse;
    update_lead: UpdateLeadRequest -> UpdateLeadResponse;
    upsert_lead: UpsertLeadRequest -> UpsertLeadResponse;
    capture_lead: CaptureLeadRequest -> CaptureLeadResponse;
    get_lead: GetLeadRequest -> GetLeadResponse;
    batch_get_leads: BatchGetLeadsRequest -> BatchGetLeadsResponse;
    batch_create_leads: BatchCreateLeadsRequest -> BatchCreateLeadsResponse;
    batch_update_leads: BatchUpdateLeadsRequest -> BatchUpdateLeadsResponse;
    batch_upsert_leads: BatchUpsertLeadsRequest -> BatchUpsertLeadsResponse;
    search_leads: SearchLeadsRequest -> SearchLeadsResponse;
    quick_search_leads: QuickSearchLeadsRequest -> QuickSearchLeadsResponse;
    list_modified_leads: ListModifiedLeadsRequest -> ListModifiedLeadsResponse;
    delete_lead: DeleteLeadRequest -> DeleteLeadResponse;
    merge_leads: MergeLeadsRequest -> MergeLeadsResponse;
}
