//! What a metric is, for the documentation and for checks of queries.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// The description of a metric.
#[derive(Clone, Debug)]
pub struct MetricDescription {
    /// The name in queries. A histogram has series with this name and `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// The type.
    pub kind: MetricKind,
    /// The labels.
    pub labels: &'static [LabelDescription],
    /// The unit. `None`: a count, or a number without a unit.
    pub unit: Option<String>,
    /// The meaning.
    pub help: &'static str,
    /// When the metric is absent. `None`: until the first event, if it has labels.
    pub absent: Option<&'static str>,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number of events, which only increases.
    Counter,
    /// A value that may increase and decrease.
    Gauge,
    /// The distribution of values.
    Histogram,
}

/// The description of a label.
#[derive(Clone, Copy, Debug)]
pub struct LabelDescription {
    /// The name.
    pub name: &'static str,
    /// The values, as Markdown.
    pub values: &'static str,
}

/// A set of labels.
pub(super) trait LabelSet {
    const LABELS: &'static [LabelDescription];
}

/// A metric with or without labels.
pub(super) trait Described {
    const KIND: MetricKind;
    const LABELS: &'static [LabelDescription] = &[];
}

impl Described for Counter {
    const KIND: MetricKind = MetricKind::Counter;
}

impl<N, A> Described for Gauge<N, A> {
    const KIND: MetricKind = MetricKind::Gauge;
}

impl Described for Histogram {
    const KIND: MetricKind = MetricKind::Histogram;
}

impl<S> Described for HistogramWithExemplars<S> {
    const KIND: MetricKind = MetricKind::Histogram;
}

impl<L: LabelSet, M: Described, C> Described for Family<L, M, C> {
    const KIND: MetricKind = M::KIND;
    const LABELS: &'static [LabelDescription] = L::LABELS;
}

impl MetricKind {
    /// The name in the OpenMetrics text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl MetricDescription {
    pub(super) fn of<M: Described>(
        prefix: &str,
        name: &str,
        unit: Option<String>,
        help: &'static str,
        absent: Option<&'static str>,
    ) -> Self {
        let unit_suffix = unit.as_ref().map_or(String::new(), |unit| format!("_{unit}"));
        let suffix = match M::KIND {
            MetricKind::Counter => "_total",
            MetricKind::Gauge | MetricKind::Histogram => "",
        };
        Self {
            name: format!("{prefix}_{name}{unit_suffix}{suffix}"),
            kind: M::KIND,
            labels: M::LABELS,
            unit,
            help,
            absent,
        }
    }

    /// The names of the series in queries.
    pub fn series(&self) -> Vec<String> {
        match self.kind {
            MetricKind::Counter | MetricKind::Gauge => vec![self.name.clone()],
            MetricKind::Histogram => ["bucket", "sum", "count"]
                .map(|suffix| format!("{}_{suffix}", self.name))
                .into(),
        }
    }
}
