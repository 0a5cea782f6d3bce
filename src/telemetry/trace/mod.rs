//! Traces. A [`Trace`] is handed from function to function in the context of a request, and starts [`Span`]s. There is no current span
//! of a task or thread.
//!
//! * `settings`: the settings and the standard environment variables.
//! * `parent`: the trace context of an RPC (W3C Trace Context).
//! * `export`: the bounded queue of ended spans, and the task that sends them to the collector.

mod export;
mod parent;
mod settings;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData};
use tokio::time::Instant;

use crate::clock;
pub use export::SpanExport;
use export::SpanQueue;
use parent::Parent;
pub use settings::{OtlpProtocol, Sampler, TelemetrySettings, TraceSettings, VariableError};

/// The headers of the trace context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Maximum number of links of a span.
const MAX_LINKS: usize = 128;

/// Starts the traces of a process. Clones share the sampling ratio and the queue. The default is off: it starts no spans.
#[derive(Clone, Debug, Default)]
pub struct Tracing(Option<Arc<Recorder>>);

/// The part of the traces that are sampled, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The part that is sampled now.
    pub in_use: f64,
    /// The part of the settings.
    pub configured: f64,
}

/// What the sampled traces of a process share.
#[derive(Debug)]
struct Recorder {
    follows_parent: bool,
    /// The bits of the ratio.
    ratio: AtomicU64,
    configured: f64,
    queue: SpanQueue,
    scope: InstrumentationScope,
}

/// The position of a request in its trace: the id of the trace, and the span that is the parent of the next ones. The default belongs
/// to no trace. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Trace {
    id: TraceId,
    span_id: SpanId,
    /// Whether traces are on, so that the trace context is sent to other replicas.
    is_on: bool,
    /// `None`: the trace is not sampled, and its spans do nothing.
    sampled: Option<Arc<SampledTrace>>,
}

#[derive(Debug)]
struct SampledTrace {
    recorder: Arc<Recorder>,
    state: TraceState,
}

/// A span of a trace. It ends when it is dropped. The span of a trace that is not sampled does nothing.
#[derive(Debug, Default)]
pub struct Span(Option<Box<RecordedSpan>>);

#[derive(Debug)]
struct RecordedSpan {
    trace: Arc<SampledTrace>,
    started: Instant,
    data: SpanData,
}

impl Tracing {
    /// The traces with these settings, and the task that exports their spans. To be called in the runtime. Fails if the client of the
    /// collector cannot be set up.
    pub fn new(settings: &TraceSettings, metrics: &Arc<super::metrics::Metrics>) -> Result<(Self, SpanExport), String> {
        let (queue, export) = export::new(settings, metrics)?;
        let Sampler { follows_parent, ratio } = settings.sampler;
        let recorder = Recorder {
            follows_parent,
            ratio: AtomicU64::new(ratio.to_bits()),
            configured: ratio,
            queue,
            scope: InstrumentationScope::builder("leadgate")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        };
        Ok((Self(Some(Arc::new(recorder))), export))
    }

    /// The part of the traces that are sampled. `None`: traces are off.
    pub fn sampling(&self) -> Option<Sampling> {
        self.0.as_ref().map(|recorder| Sampling {
            in_use: recorder.ratio(),
            configured: recorder.configured,
        })
    }

    /// Changes the part of the traces that are sampled: at least 0, at most 1. Traces that have begun stay as they are. Does nothing if
    /// traces are off.
    pub fn set_sampling(&self, ratio: f64) {
        if let Some(recorder) = &self.0 {
            recorder.ratio.store(ratio.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
        }
    }

    /// Continues the trace of the caller, or begins one. Returns the span of the RPC, and the trace with this span as the parent.
    /// `method` is the name of the method, without a leading slash; `None`: no service has the method. Without
    /// `may_sample`, the RPC is never sampled.
    pub fn rpc(&self, headers: &HeaderMap, method: Option<&str>, may_sample: bool) -> (Trace, Span) {
        let (trace, mut span) = self.server(headers, may_sample, || method.unwrap_or("unknown").to_owned());
        span.set("rpc.system.name", "grpc");
        span.set_with("rpc.method", || method.unwrap_or("_OTHER").to_owned());
        (trace, span)
    }

    /// Continues the trace of the client of a REST request, or begins one. Returns the span of the request, and the trace with this
    /// span as the parent. `endpoint`: its name, such as `LeadManagement.svc/Leads.GetById`, if it is a known one.
    pub fn rest(
        &self,
        headers: &HeaderMap,
        method: Option<&'static str>,
        endpoint: Option<&'static str>,
    ) -> (Trace, Span) {
        let (trace, mut span) = self.server(headers, true, || match (method, endpoint) {
            (Some(method), Some(endpoint)) => format!("{method} /v2/{endpoint}"),
            (method, _) => method.unwrap_or("HTTP").to_owned(),
        });
        span.set("http.request.method", method.unwrap_or("_OTHER"));
        if let Some(endpoint) = endpoint {
            span.set_with("http.route", || format!("/v2/{endpoint}"));
        }
        (trace, span)
    }

    /// Continues the trace of a client, or begins one. `name` is called if the trace is sampled.
    fn server(&self, headers: &HeaderMap, may_sample: bool, name: impl FnOnce() -> String) -> (Trace, Span) {
        let parent = Parent::read(headers);
        let Some(recorder) = &self.0 else {
            let id = parent.map_or(TraceId::INVALID, |parent| parent.trace_id);
            let trace = Trace { id, ..Trace::default() };
            return (trace, Span::default());
        };
        let ids = RandomIdGenerator::default();
        let id = parent.map_or_else(|| ids.new_trace_id(), |parent| parent.trace_id);
        let unsampled = |span_id| Trace {
            id,
            span_id,
            is_on: true,
            sampled: None,
        };
        if !may_sample || !recorder.samples(id, parent) {
            let span_id = parent.map_or_else(|| ids.new_span_id(), |parent| parent.span_id);
            return (unsampled(span_id), Span::default());
        }
        let state = parent.and_then(|_| trace_state(headers));
        let before = Trace {
            sampled: Some(Arc::new(SampledTrace {
                recorder: recorder.clone(),
                state: state.unwrap_or_default(),
            })),
            ..unsampled(parent.map_or(SpanId::INVALID, |parent| parent.span_id))
        };
        let mut span = before.start(SpanKind::Server, Cow::Owned(name()));
        if let Some(recorded) = &mut span.0 {
            recorded.data.parent_span_is_remote = parent.is_some();
        }
        (span.trace(&before), span)
    }
}

impl Recorder {
    fn ratio(&self) -> f64 {
        f64::from_bits(self.ratio.load(Ordering::Relaxed))
    }

    fn samples(&self, id: TraceId, parent: Option<Parent>) -> bool {
        match parent {
            Some(parent) if self.follows_parent => parent.is_sampled,
            _ => is_in_ratio(id, self.ratio()),
        }
    }
}

/// Returns the state of the trace. Several headers are one list.
fn trace_state(headers: &HeaderMap) -> Option<TraceState> {
    let values = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str);
    let values: Vec<&str> = values.collect::<Result<_, _>>().ok()?;
    values.join(",").parse().ok()
}

/// Whether a trace is among that part of all traces. All processes with the same ratio decide alike.
fn is_in_ratio(id: TraceId, ratio: f64) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    let [.., a, b, c, d, e, f, g, h] = id.to_bytes();
    let random = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
    random < (ratio.max(0.0) * (1_u64 << 63) as f64) as u64
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            is_on: false,
            sampled: None,
        }
    }
}

impl Trace {
    /// The id of the trace, for logs. `None`: there is no trace.
    pub fn id(&self) -> Option<impl fmt::Display + use<>> {
        (self.id != TraceId::INVALID).then_some(self.id)
    }

    /// The id of the trace, for exemplars of metrics. `None`: there is no trace, or this process has decided not to record it.
    pub fn exemplar(&self) -> Option<u128> {
        let may_be_recorded = self.is_sampled() || !self.is_on;
        (may_be_recorded && self.id != TraceId::INVALID).then(|| u128::from_be_bytes(self.id.to_bytes()))
    }

    /// Whether spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled.is_some()
    }

    /// Starts a span of work inside of this process.
    pub fn span(&self, name: &'static str) -> Span {
        self.start(SpanKind::Internal, Cow::Borrowed(name))
    }

    /// Starts the span of a request to another process. `name` is called if the trace is sampled.
    pub fn client_span(&self, name: impl FnOnce() -> String) -> Span {
        match self.is_sampled() {
            true => self.start(SpanKind::Client, Cow::Owned(name())),
            false => Span::default(),
        }
    }

    /// Starts a span in a trace of its own, with links to these traces. It does nothing if none of them is sampled.
    pub fn linked_span<'a>(name: &'static str, traces: impl Iterator<Item = &'a Self> + Clone) -> (Self, Span) {
        let Some(sampled) = traces.clone().find_map(|trace| trace.sampled.as_ref()) else {
            return (Self::default(), Span::default());
        };
        let root = Self {
            id: RandomIdGenerator::default().new_trace_id(),
            span_id: SpanId::INVALID,
            is_on: true,
            sampled: Some(Arc::new(SampledTrace {
                recorder: sampled.recorder.clone(),
                state: TraceState::default(),
            })),
        };
        let mut span = root.span(name);
        traces.for_each(|trace| span.link(trace));
        (span.trace(&root), span)
    }

    /// Sets the headers of the trace context of a request to another replica. Does nothing if traces are off.
    pub fn set_headers(&self, headers: &mut HeaderMap) {
        if !self.is_on || self.id == TraceId::INVALID {
            return;
        }
        // The state belongs to the trace of the caller.
        if Parent::read(headers).is_none_or(|parent| parent.trace_id != self.id) {
            headers.remove(TRACESTATE);
        }
        let flags = u8::from(self.is_sampled());
        let text = format!("00-{}-{}-{flags:02x}", self.id, self.span_id);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(TRACEPARENT, value);
        }
    }

    fn start(&self, kind: SpanKind, name: Cow<'static, str>) -> Span {
        let Some(trace) = &self.sampled else {
            return Span::default();
        };
        let span_id = RandomIdGenerator::default().new_span_id();
        let now = SystemTime::from(clock::now());
        let data = SpanData {
            span_context: trace.context(self.id, span_id),
            parent_span_id: self.span_id,
            parent_span_is_remote: false,
            span_kind: kind,
            name,
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: trace.recorder.scope.clone(),
        };
        Span(Some(Box::new(RecordedSpan {
            trace: trace.clone(),
            started: Instant::now(),
            data,
        })))
    }
}

impl SampledTrace {
    fn context(&self, id: TraceId, span_id: SpanId) -> SpanContext {
        SpanContext::new(id, span_id, TraceFlags::SAMPLED, false, self.state.clone())
    }
}

impl Span {
    /// Whether the span is recorded. Otherwise its attributes need not be computed.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// The trace with this span as the parent. `trace` is the trace in which the span was started.
    #[must_use]
    pub fn trace(&self, trace: &Trace) -> Trace {
        let mut inside = trace.clone();
        if let Some(recorded) = &self.0 {
            inside.span_id = recorded.data.span_context.span_id();
        }
        inside
    }

    /// Sets an attribute, which replaces one of the same name.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(recorded) = &mut self.0 {
            let attributes = &mut recorded.data.attributes;
            attributes.retain(|attribute| attribute.key.as_str() != name);
            attributes.push(KeyValue::new(name, value));
        }
    }

    /// Sets an attribute whose value takes time or memory, if the span is recorded.
    pub fn set_with<V: Into<Value>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if self.is_recorded() {
            self.set(name, value());
        }
    }

    /// Links the span to the current span of a trace. Does nothing if that trace is not sampled.
    pub fn link(&mut self, trace: &Trace) {
        let (Some(recorded), Some(sampled)) = (&mut self.0, &trace.sampled) else {
            return;
        };
        let links = &mut recorded.data.links;
        match links.links.len() < MAX_LINKS {
            true => links
                .links
                .push(Link::with_context(sampled.context(trace.id, trace.span_id))),
            false => links.dropped_count += 1,
        }
    }

    /// Records that the span failed: `kind` is a fixed name of the error, never a text of another process.
    pub fn fail(&mut self, kind: &'static str) {
        self.set("error.type", kind);
        self.set_error(kind);
    }

    /// Records a span whose remote parent has decided that it is recorded only if the ratio samples it, too. The id of the trace does not
    /// decide, because the parent has chosen it.
    pub fn ignore_parent(&mut self) {
        let is_sampled = |recorded: &RecordedSpan| {
            let recorder = &recorded.trace.recorder;
            !recorded.data.parent_span_is_remote
                || !recorder.follows_parent
                || is_in_ratio(RandomIdGenerator::default().new_trace_id(), recorder.ratio())
        };
        self.0 = self.0.take().filter(|recorded| is_sampled(recorded));
    }

    /// Sets the status of the span to an error with this description, which is a fixed name.
    pub fn set_error(&mut self, description: &'static str) {
        if let Some(recorded) = &mut self.0 {
            recorded.data.status = Status::error(description);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recorded) = self.0.take() {
            let RecordedSpan {
                trace,
                started,
                mut data,
            } = *recorded;
            data.end_time = data.start_time + started.elapsed();
            trace.recorder.queue.push(data);
        }
    }
}

#[cfg(test)]
mod tests;
