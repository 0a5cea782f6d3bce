//! Sampling, and the trace context between replicas.

use std::collections::BTreeMap;

use super::*;
use crate::telemetry::metrics::Metrics;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn tracing(sampler: Sampler) -> (Tracing, SpanExport) {
    let settings = TelemetrySettings {
        otlp_endpoint: "http://127.0.0.1:1".to_owned(),
        otlp_protocol: OtlpProtocol::HttpProtobuf,
        sampling: 1.0,
        service_name: "leadgate".to_owned(),
    };
    let mut settings = settings.traces(&BTreeMap::new()).unwrap().unwrap();
    settings.sampler = sampler;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Tracing::new(&settings, &Arc::new(Metrics::default())).unwrap()
}

fn follows_parent(ratio: f64) -> Sampler {
    Sampler {
        follows_parent: true,
        ratio,
    }
}

fn headers(traceparent: &str) -> HeaderMap {
    HeaderMap::from_iter([
        (TRACEPARENT, traceparent.parse().unwrap()),
        (TRACESTATE, "vendor=value".parse().unwrap()),
    ])
}

fn id(trace: &Trace) -> Option<String> {
    trace.id().map(|id| id.to_string())
}

/// The trace context that another replica gets.
fn sent(trace: &Trace, headers: &HeaderMap) -> (String, bool) {
    let mut headers = headers.clone();
    trace.set_headers(&mut headers);
    let parent = headers.get(TRACEPARENT).map_or("", |value| value.to_str().unwrap());
    (parent.to_owned(), headers.contains_key(TRACESTATE))
}

#[tokio::test]
async fn the_flag_of_the_parent_decides_and_otherwise_the_ratio() {
    let sampled = headers(&format!("00-{TRACE}-00f067aa0b1902b7-01"));
    let unsampled = headers(&format!("00-{TRACE}-00f067aa0b1902b7-00"));
    let is_sampled = |tracing: &Tracing, headers: &HeaderMap| tracing.rpc(headers, Some("a/b"), true).0.is_sampled();
    let (never, _export) = tracing(follows_parent(0.0));
    assert!(is_sampled(&never, &sampled) && !is_sampled(&never, &unsampled) && !is_sampled(&never, &HeaderMap::new()));
    let (always, _export) = tracing(follows_parent(1.0));
    assert!(is_sampled(&always, &sampled) && !is_sampled(&always, &unsampled));
    assert!(is_sampled(&always, &HeaderMap::new()));
    assert!(!always.rpc(&sampled, None, false).0.is_sampled());
    let (by_ratio, _export) = tracing(Sampler {
        follows_parent: false,
        ratio: 0.0,
    });
    assert!(!is_sampled(&by_ratio, &sampled));
    by_ratio.set_sampling(7.0);
    let (in_use, configured) = (1.0, 0.0);
    assert_eq!(by_ratio.sampling(), Some(Sampling { in_use, configured }));
    assert!(is_sampled(&by_ratio, &unsampled));
}

#[tokio::test]
async fn a_client_without_a_credential_does_not_decide_what_is_recorded() {
    let sampled = headers(&format!("00-{TRACE}-00f067aa0b1902b7-01"));
    let is_recorded = |tracing: &Tracing, headers: &HeaderMap| {
        let (_, mut span) = tracing.rpc(headers, Some("a/b"), true);
        assert!(span.is_recorded());
        span.ignore_parent();
        span.is_recorded()
    };
    let (never, _export) = tracing(follows_parent(0.0));
    assert!(!is_recorded(&never, &sampled));
    let (always, _export) = tracing(follows_parent(1.0));
    assert!(is_recorded(&always, &sampled));
    // The ratio has decided already.
    assert!(is_recorded(&always, &HeaderMap::new()));
    let (by_ratio, _export) = tracing(Sampler {
        follows_parent: false,
        ratio: 1.0,
    });
    assert!(is_recorded(&by_ratio, &sampled));
}

#[tokio::test]
async fn several_states_of_a_trace_are_one_list() {
    let (always, _export) = tracing(follows_parent(1.0));
    let mut given = headers(&format!("00-{TRACE}-00f067aa0b1902b7-01"));
    given.append(TRACESTATE, "other=1,third=2".parse().unwrap());
    let (_, span) = always.rpc(&given, Some("a/b"), true);
    let state = span.0.as_ref().unwrap().data.span_context.trace_state().header();
    assert_eq!(state, "vendor=value,other=1,third=2");
}

#[test]
fn the_ratio_is_the_part_of_the_traces() {
    let ids = RandomIdGenerator::default();
    let count = |ratio| (0..10_000).filter(|_| is_in_ratio(ids.new_trace_id(), ratio)).count();
    assert_eq!((count(0.0), count(1.0)), (0, 10_000));
    // Eight standard deviations.
    assert!((2_150..=2_850).contains(&count(0.25)), "{}", count(0.25));
    // As other SDKs decide.
    let low = TraceId::from(u128::MAX << 64);
    assert!(is_in_ratio(low, 0.000_001) && !is_in_ratio(TraceId::from(u128::MAX), 0.999));
}

#[tokio::test]
async fn each_rpc_has_a_trace_id_when_traces_are_on() {
    let given = headers(&format!("00-{TRACE}-00f067aa0b1902b7-00"));
    let off = Tracing::default();
    assert_eq!(id(&off.rpc(&given, None, true).0).as_deref(), Some(TRACE));
    assert_eq!(id(&off.rpc(&HeaderMap::new(), None, true).0), None);
    let (on, _export) = tracing(follows_parent(0.0));
    assert_eq!(id(&on.rpc(&given, None, true).0).as_deref(), Some(TRACE));
    let ids = [(); 2].map(|()| id(&on.rpc(&HeaderMap::new(), None, true).0).unwrap());
    assert!(ids[0] != ids[1] && ids[0].len() == 32, "{ids:?}");
}

#[tokio::test]
async fn other_replicas_get_the_trace_context_if_traces_are_on() {
    let given = headers(&format!("00-{TRACE}-00f067aa0b1902b7-00"));
    let off = Tracing::default();
    let (trace, _) = off.rpc(&given, None, true);
    assert_eq!(sent(&trace, &given).0, given[TRACEPARENT]);
    assert_eq!(sent(&Trace::default(), &HeaderMap::new()).0, "");
    let (on, _export) = tracing(follows_parent(1.0));
    // An RPC that is not sampled passes on what the caller has sent.
    let (trace, _) = on.rpc(&given, None, true);
    assert_eq!(sent(&trace, &given), (format!("00-{TRACE}-00f067aa0b1902b7-00"), true));
    let given = headers(&format!("00-{TRACE}-00f067aa0b1902b7-01"));
    let (trace, span) = on.rpc(&given, None, true);
    let own = span.0.as_ref().unwrap().data.span_context.span_id();
    assert_eq!(sent(&trace, &given), (format!("00-{TRACE}-{own}-01"), true));
    // The state belongs to no trace.
    let invalid = headers("00-0-0-00");
    let (trace, _span) = on.rpc(&invalid, None, true);
    let (parent, has_state) = sent(&trace, &invalid);
    assert_eq!((&parent[3..35], has_state), (&*id(&trace).unwrap(), false));
}

#[tokio::test]
async fn a_span_that_is_not_sampled_does_nothing() {
    let (on, _export) = tracing(follows_parent(0.0));
    let (trace, mut rpc) = on.rpc(&HeaderMap::new(), Some("a/b"), true);
    rpc.set_with("a", || -> i64 { panic!("it is not recorded") });
    rpc.fail("a");
    rpc.link(&trace);
    let client = trace.client_span(|| panic!("it is not recorded"));
    let (linked, batch) = Trace::linked_span("batch", [&trace].into_iter());
    assert!(!rpc.is_recorded() && !client.is_recorded() && !batch.is_recorded());
    assert_eq!(id(&linked), None);
}

#[tokio::test]
async fn a_span_has_at_most_128_links() {
    let (on, _export) = tracing(follows_parent(1.0));
    let (trace, _rpc) = on.rpc(&HeaderMap::new(), Some("a/b"), true);
    let traces = std::iter::repeat_n(&trace, 200);
    let (_, batch) = Trace::linked_span("batch", traces);
    let links = &batch.0.as_ref().unwrap().data.links;
    assert_eq!((links.links.len(), links.dropped_count), (128, 72));
}
