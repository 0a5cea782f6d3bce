//! The export of ended spans over OTLP. A span enters a bounded queue without waiting, or is dropped and counted. One task sends
//! the spans in batches. The batch processor of the SDK is not used: its thread waits for the collector when the process ends, and does
//! not run the HTTP client of this runtime.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Compression, Protocol, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
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
    let export = SpanExport {
        spans,
        exporter: exporter(settings)?,
        collector: settings.collector(),
        max_batch: settings.max_batch_size,
        delay: settings.schedule_delay,
        timeout: settings.timeout,
        metrics: metrics.clone(),
        in_progress: 0,
        is_failing: false,
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
    /// The host and port of the collector.
    collector: String,
    max_batch: usize,
    delay: Duration,
    timeout: Duration,
    metrics: Arc<Metrics>,
    /// Number of spans that are neither in the queue, nor exported, nor dropped.
    in_progress: usize,
    is_failing: bool,
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
        let error = match exported {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no response within {:?}", self.timeout)),
        };
        if error.is_some() {
            self.dropped(count);
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

    fn dropped(&self, spans: usize) {
        self.metrics.telemetry_dropped(SIGNAL, spans as u64);
    }
}

/// Returns the exporter of the SDK. It reads some of the environment variables that `settings` has checked, and these settings replace
/// them.
fn exporter(settings: &TraceSettings) -> Result<opentelemetry_otlp::SpanExporter, String> {
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let failed = |error: &dyn fmt::Display| format!("setting up the export of traces failed: {error}");
    let exporter = match settings.protocol {
        OtlpProtocol::HttpProtobuf => {
            let client = CollectorClient::new(settings).map_err(|error| failed(&error.without_url()))?;
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
}

impl CollectorClient {
    fn new(settings: &TraceSettings) -> reqwest::Result<Self> {
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
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request;
        replace(request.headers_mut(), &self.headers);
        let failed = reqwest::Error::without_url;
        let sent = self.client.execute(request.try_into().map_err(failed)?).await;
        let mut response = sent.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(format!("the response has more than {MAX_RESPONSE_BYTES} bytes").into());
            }
            body.extend_from_slice(&chunk);
        }
        let mut received = Response::new(Bytes::from(body));
        *received.status_mut() = response.status();
        *received.headers_mut() = std::mem::take(response.headers_mut());
        Ok(received)
    }
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
