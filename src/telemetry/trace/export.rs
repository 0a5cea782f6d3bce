//! The export of ended spans over OTLP. A span enters a bounded queue without waiting, or is dropped and counted. One task sends
//! the spans in batches. The batch processor of the SDK is not used: its thread waits for the collector when the process ends, and does
//! not run the HTTP client of this runtime.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Compression, Protocol, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use uuid::Uuid;

use super::settings::{OtlpProtocol, TraceSettings};
use crate::telemetry::metrics::Metrics;

/// The label of the metric of dropped spans.
const SIGNAL: &str = "traces";
/// Maximum time of the export after the process has stopped. An address that is resolved then takes up to a second more.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time for a connection to the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes of a response of the collector.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Returns the queue, and the task that sends its spans.
pub(super) fn new(settings: &TraceSettings, metrics: &Arc<Metrics>) -> Result<(SpanQueue, SpanExport), String> {
    let (sender, spans) = mpsc::channel(settings.max_queue_size);
    // The metric exists before a span is dropped.
    metrics.telemetry_dropped(SIGNAL, 0);
    let queue = SpanQueue {
        sender,
        metrics: metrics.clone(),
    };
    let outcome = Arc::new(Mutex::default());
    let export = SpanExport {
        spans,
        exporter: exporter(settings, &outcome)?,
        outcome,
        collector: settings.collector(),
        max_batch: settings.max_batch_size,
        delay: settings.schedule_delay,
        timeout: settings.timeout,
        metrics: metrics.clone(),
        in_progress: 0,
        is_failing: false,
        is_rejecting: false,
    };
    Ok((queue, export))
}

/// The queue of ended spans.
pub(super) struct SpanQueue {
    sender: mpsc::Sender<SpanData>,
    metrics: Arc<Metrics>,
}

impl SpanQueue {
    /// Adds a span. If the queue is full, the span is dropped and counted.
    pub(super) fn push(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.metrics.telemetry_dropped(SIGNAL, 1);
        }
    }
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpanQueue")
    }
}

/// The task that sends the spans of the queue to the collector.
pub struct SpanExport {
    spans: mpsc::Receiver<SpanData>,
    exporter: opentelemetry_otlp::SpanExporter,
    /// Only with HTTP.
    outcome: Arc<Mutex<HttpOutcome>>,
    /// The host and port of the collector.
    collector: String,
    max_batch: usize,
    delay: Duration,
    timeout: Duration,
    metrics: Arc<Metrics>,
    /// Number of spans that are neither in the queue, nor exported, nor dropped.
    in_progress: usize,
    is_failing: bool,
    /// Whether the collector has rejected spans of the last export that it accepted.
    is_rejecting: bool,
}

/// What the exporter does not say about the last request with HTTP.
#[derive(Debug, Default)]
struct HttpOutcome {
    /// Why there was no response.
    error: Option<String>,
    /// Number of spans that the collector has rejected in a response with the status of success.
    rejected: usize,
}

/// The response of a collector, as far as it is read: `ExportTraceServiceResponse` of OpenTelemetry.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

impl SpanExport {
    /// Sends the spans until `stop`. Then sends those in the queue, for one second at most.
    pub async fn run(mut self, stop: CancellationToken) {
        let end = async {
            stop.cancelled().await;
            tokio::time::sleep(FLUSH_TIMEOUT).await;
        };
        tokio::select! {
            () = self.export_all(&stop) => {}
            () = end => {}
        }
        self.spans.close();
        while self.spans.try_recv().is_ok() {
            self.in_progress += 1;
        }
        if self.in_progress > 0 {
            self.dropped(self.in_progress);
            tracing::warn!(
                spans = self.in_progress,
                "spans dropped: the process ends before they are exported"
            );
        }
    }

    async fn export_all(&mut self, stop: &CancellationToken) {
        loop {
            let batch = self.next_batch(stop).await;
            if !batch.is_empty() {
                self.export(batch).await;
            } else if stop.is_cancelled() {
                return;
            }
        }
    }

    /// Waits until there are enough spans for a batch, or until the delay is over.
    async fn next_batch(&mut self, stop: &CancellationToken) -> Vec<SpanData> {
        let mut batch = Vec::new();
        let end = Instant::now() + self.delay;
        while batch.len() < self.max_batch {
            let missing = self.max_batch - batch.len();
            tokio::select! {
                biased;
                count = self.spans.recv_many(&mut batch, missing) => {
                    // Spans that are taken out of the queue must be counted if this future is dropped.
                    self.in_progress += count;
                    if count == 0 {
                        break;
                    }
                }
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(end) => break,
            }
        }
        batch
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let count = batch.len();
        let exported = tokio::time::timeout(self.timeout, self.exporter.export(batch)).await;
        self.in_progress = 0;
        let HttpOutcome { error, rejected } = std::mem::take(&mut *lock(&self.outcome));
        let error = match exported {
            Ok(Ok(())) => None,
            // The exporter only says that the network failed.
            Ok(Err(unknown)) => Some(error.unwrap_or_else(|| unknown.to_string())),
            // The export was repeated until then.
            Err(_) => {
                let timeout = format!("no response within {:?}", self.timeout);
                Some(error.map_or(timeout.clone(), |error| format!("{timeout}: {error}")))
            }
        };
        match error {
            Some(_) => self.dropped(count),
            None => self.report_rejected(rejected.min(count)),
        }
        let collector = &self.collector;
        match (error, self.is_failing) {
            (Some(error), false) => {
                self.is_failing = true;
                tracing::warn!(
                    %collector,
                    error,
                    "exporting spans failed; spans are dropped until the collector accepts them"
                );
            }
            (None, true) => {
                self.is_failing = false;
                tracing::info!(%collector, "exporting spans works again");
            }
            _ => {}
        }
    }

    /// Counts the spans that the collector has rejected, and logs a change.
    fn report_rejected(&mut self, spans: usize) {
        self.dropped(spans);
        let collector = &self.collector;
        match (spans > 0, std::mem::replace(&mut self.is_rejecting, spans > 0)) {
            (true, false) => tracing::warn!(%collector, spans, "collector rejects some of the spans: they are dropped"),
            (false, true) => tracing::info!(%collector, "collector accepts all spans again"),
            (true, true) | (false, false) => {}
        }
    }

    fn dropped(&self, spans: usize) {
        self.metrics.telemetry_dropped(SIGNAL, spans as u64);
    }
}

/// Returns the exporter of the SDK. It reads some of the environment variables that `settings` has checked, and these settings replace
/// them.
fn exporter(
    settings: &TraceSettings,
    outcome: &Arc<Mutex<HttpOutcome>>,
) -> Result<opentelemetry_otlp::SpanExporter, String> {
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let failed = |error: &dyn fmt::Display| format!("setting up the export of traces failed: {error}");
    let exporter = match settings.protocol {
        OtlpProtocol::HttpProtobuf => {
            let client =
                CollectorClient::new(settings, outcome.clone()).map_err(|error| failed(&error.without_url()))?;
            let mut builder = builder
                .with_http()
                .with_http_client(client)
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(settings.endpoint.as_str())
                .with_timeout(settings.timeout);
            if settings.gzip {
                builder = builder.with_compression(Compression::Gzip);
            }
            builder.build()
        }
        OtlpProtocol::Grpc => {
            let headers = settings.headers.clone();
            let add_headers = move |mut request: tonic::Request<()>| {
                let mut all = std::mem::take(request.metadata_mut()).into_headers();
                replace(&mut all, &headers);
                *request.metadata_mut() = MetadataMap::from_headers(all);
                Ok(request)
            };
            let mut builder = builder
                .with_tonic()
                .with_channel(channel(settings).map_err(|error| failed(&error))?)
                .with_interceptor(add_headers)
                .with_protocol(Protocol::Grpc)
                .with_timeout(settings.timeout);
            if settings.gzip {
                builder = builder.with_compression(Compression::Gzip);
            }
            builder.build()
        }
    };
    let mut exporter = exporter.map_err(|error| failed(&error))?;
    let attributes = settings.resource.iter();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
        .with_attributes(attributes)
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// Sets headers. Those of the same name are replaced.
fn replace(headers: &mut HeaderMap, with: &HeaderMap) {
    for (name, value) in with {
        headers.insert(name.clone(), value.clone());
    }
}

/// Returns the connection to a collector with gRPC. It is made with the first export.
fn channel(settings: &TraceSettings) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(settings.endpoint.to_string())?.connect_timeout(CONNECT_TIMEOUT);
    if settings.endpoint.scheme() == "https" {
        let tls = ClientTlsConfig::new();
        endpoint = endpoint.tls_config(match &settings.certificate {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        })?;
    }
    Ok(endpoint.connect_lazy())
}

/// The HTTP client for the collector. It runs in the runtime of the process.
#[derive(Debug)]
struct CollectorClient {
    client: reqwest::Client,
    headers: HeaderMap,
    outcome: Arc<Mutex<HttpOutcome>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its sources, such as those of DNS and TLS. It has neither the URL nor headers.
fn with_sources(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

impl CollectorClient {
    fn new(settings: &TraceSettings, outcome: Arc<Mutex<HttpOutcome>>) -> reqwest::Result<Self> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("leadgate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy();
        let builder = match &settings.certificate {
            Some(pem) => builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?),
            None => builder,
        };
        Ok(Self {
            client: builder.build()?,
            headers: settings.headers.clone(),
            outcome,
        })
    }

    /// Sends a request, and keeps what the exporter does not say about it.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        *lock(&self.outcome) = HttpOutcome::default();
        let sent = self.receive(request).await;
        let mut outcome = lock(&self.outcome);
        match &sent {
            Ok(response) => outcome.rejected = rejected_spans(response),
            Err(error) => outcome.error = Some(error.clone()),
        }
        sent.map_err(HttpError::from)
    }

    async fn receive(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let mut request = request;
        replace(request.headers_mut(), &self.headers);
        let failed = |error: reqwest::Error| with_sources(&error.without_url());
        let sent = self.client.execute(request.try_into().map_err(failed)?).await;
        let mut response = sent.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(format!("the response has more than {MAX_RESPONSE_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let mut received = Response::new(Bytes::from(body));
        *received.status_mut() = response.status();
        *received.headers_mut() = std::mem::take(response.headers_mut());
        Ok(received)
    }
}

/// The number of spans that the collector has rejected, although it has accepted others.
fn rejected_spans(response: &Response<Bytes>) -> usize {
    if !response.status().is_success() {
        return 0;
    }
    let decoded = ExportResponse::decode(response.body().clone()).unwrap_or_default();
    let rejected = decoded.partial_success.unwrap_or_default().rejected_spans;
    usize::try_from(rejected).unwrap_or(0)
}

// Written out, since the trait is made with a macro of another crate.
impl HttpClient for CollectorClient {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}
