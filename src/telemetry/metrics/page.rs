//! `docs/metrics.md`, generated from the declarations of the metrics.

use std::fmt::Write;

use super::{MetricDescription, Metrics};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

const INTRODUCTION: &str = "# Metrics

<!-- Generated from src/telemetry/metrics.rs: INSTA_UPDATE=always cargo test --lib the_page_of_the_metrics -->

`/metrics` on the [admin port](operations.md#admin-port) has these metrics in the OpenMetrics text format. [Dashboards and
alerts](deploy.md#dashboards) use them. A metric with labels has no series before the first event with these labels, except where its
row says otherwise. Counters start at 0 with the process.

* A histogram has the series `NAME_bucket`, `NAME_sum` and `NAME_count`. `_bucket` has the label `le` in addition.
* The buckets of `leadgate_rpc_duration_seconds` and `leadgate_upstream_attempt_duration_seconds` have the id of a trace as an exemplar
  (`trace_id`), as far as leadgate knows one. Prometheus stores exemplars with `--enable-feature=exemplar-storage`.
* No label has a value that a caller may choose. The number of series is limited by the settings and by the lists below.
* With several replicas, each replica counts its own events. The state of a tenant is at its owner only.

";

/// The row of a metric.
fn row(metric: &MetricDescription) -> String {
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{}`", label.name)).collect();
    let absent = metric
        .absent
        .map_or(String::new(), |absent| format!(" Absent {absent}."));
    format!(
        "| `{}` | {} | {} | {} | {}.{absent} |\n",
        metric.name,
        metric.kind.name(),
        metric.unit.as_deref().unwrap_or_default(),
        labels.join(", "),
        metric.help,
    )
}

fn page() -> String {
    let metrics = Metrics::descriptions();
    let mut page = INTRODUCTION.to_owned();
    page += "| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n";
    for metric in &metrics {
        page += &row(metric);
    }
    page += "\n## Labels\n\n| label | metrics | values |\n|---|---|---|\n";
    let mut labels: Vec<(&str, &str, Vec<&str>)> = vec![];
    for metric in &metrics {
        for label in metric.labels {
            let known = labels
                .iter_mut()
                .find(|(name, values, _)| (*name, *values) == (label.name, label.values));
            match known {
                Some((.., metrics)) => metrics.push(&metric.name),
                None => labels.push((label.name, label.values, vec![&metric.name])),
            }
        }
    }
    labels.sort_by_key(|(name, ..)| *name);
    for (name, values, metrics) in labels {
        let users = match metrics.len() {
            1..=4 => metrics
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", "),
            count => format!("{count} metrics"),
        };
        let _ = writeln!(page, "| `{name}` | {users} | {values} |");
    }
    page
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the variable is that of insta, whose snapshots cannot be Markdown files"
)]
fn the_page_of_the_metrics_is_up_to_date() {
    let page = page();
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(PAGE, &page).unwrap();
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    let different = page
        .lines()
        .zip(found.lines())
        .find(|(expected, found)| expected != found);
    assert!(
        found == page,
        "docs/metrics.md is not up to date; INSTA_UPDATE=always writes it. The first different line, expected and found: {different:#?}"
    );
}

#[test]
fn names_follow_the_conventions_and_are_unique() {
    let metrics = Metrics::descriptions();
    for metric in &metrics {
        let name = &metric.name;
        assert!(!metric.help.ends_with('.'), "{name}: the full stop is added");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert_eq!(metrics.iter().filter(|other| other.name == *name).count(), 1, "{name}");
        let is_time = name.contains("_duration") || name.contains("_wait_") || name.contains("timestamp");
        assert!(!is_time || name.contains("_seconds"), "{name}: the unit is missing");
    }
}
