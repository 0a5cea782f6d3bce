//! The queries of the dashboards and alerts against the metrics of a busy gateway: every metric, every label and every plain value of a
//! label exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use leadgate::grpc::pb;
use leadgate::identity::api_key;
use leadgate::telemetry::metrics::{LabelDescription, Metrics};
use leadgate_simulator::{FaultKind, Options};
use serde_json::Value as Json;
use tonic::Code;

use crate::auth::{bearer, call, callers};
use crate::certificates::TlsFiles;
use crate::harness::{World, by_id, concurrently, lead, seen};
use crate::share::ShareFixture;

/// Metrics that the gateways of this test do not have. Their descriptions decide.
const ABSENT: [&str; 15] = [
    // With several replicas only.
    "leadgate_cluster_moves_total",
    "leadgate_cluster_owner",
    "leadgate_forwarded_rpcs_total",
    "leadgate_forwarding_duration_seconds",
    // With the REST listener only.
    "leadgate_rest_duration_seconds",
    "leadgate_rest_queue_seconds",
    "leadgate_rest_real_keys_total",
    "leadgate_rest_requests_total",
    "leadgate_rest_writes_without_key_total",
    // With PostgreSQL only.
    "leadgate_store_connections",
    // Rare.
    "leadgate_batch_bisections_total",
    "leadgate_caller_waiting",
    "leadgate_connections_closed_total",
    "leadgate_key_checks_total",
    "leadgate_key_switches_total",
];
/// The metrics of Prometheus itself, with labels of the scrape.
const OF_PROMETHEUS: [&str; 1] = ["up"];
/// The labels that Prometheus adds.
const TARGET: [&str; 2] = ["job", "instance"];

/// The labels of a series, and the values that were seen or are described.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Adds the series of a page of metrics.
fn add_page(known: &mut BTreeMap<String, Labels>, page: &str) {
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.split_once(" # ").unwrap_or((line, ""));
        let (series, _) = sample.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let found = known.entry(name.to_owned()).or_default();
        for label in labels
            .trim_end_matches('}')
            .split("\",")
            .filter(|label| !label.is_empty())
        {
            let (name, value) = label.split_once("=\"").unwrap();
            let values = found.entry(name.to_owned()).or_default();
            values.insert(value.trim_end_matches('"').to_owned());
        }
    }
}

/// The words in backticks of a description.
fn described(label: &LabelDescription) -> impl Iterator<Item = String> {
    label.values.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// A busy gateway: all kinds of RPCs, several callers, errors of LeadSquared, a reload, an audit.
async fn busy_page() -> String {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "[tenant_defaults.limits]\ndaily = 10000\n[callers.batch]\nweight = 1\n[audit]\nfile = \"{}\"\n",
        folder.path().join("audit.jsonl").display()
    );
    let fixture = ShareFixture::with(|_| {}, &settings).await;
    let world = &fixture.world;
    let id = world.create(lead("Asha")).await.unwrap();
    seen(world.create(lead("Asha")).await.unwrap_err()).is(Code::AlreadyExists, "LEAD_DUPLICATE");
    let ids = vec![id.clone(); 20];
    assert!(world.get_all(&ids).await.iter().all(Result::is_ok));
    let updates = ids.iter().map(|id| pb::UpdateLeadRequest {
        lead_id: id.clone(),
        lead: Some(lead("Asha")),
        ..Default::default()
    });
    world.update_all(updates.collect()).await;
    let requests = (0..30).map(|n| pb::CreateLeadRequest {
        lead: Some(lead(&format!("Lead{n}"))),
        ..Default::default()
    });
    let batch = pb::BatchCreateLeadsRequest {
        requests: requests.collect(),
        ..Default::default()
    };
    world.client.clone().batch_create_leads(batch).await.unwrap();
    world.fail_next("Leads.GetById", FaultKind::Refuse);
    world.get(by_id(&id)).await.unwrap();
    world.fail_next("Leads.GetById", FaultKind::DropBefore);
    let _ = world.get(by_id(&id)).await;
    let named = ["batch", "someone"].map(|caller| {
        let mut request = tonic::Request::new(pb::GetLeadRequest {
            key: Some(by_id(&id)),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert("x-leadgate-caller", caller.parse().unwrap());
        request
            .metadata_mut()
            .insert("x-leadgate-nothing", "1".parse().unwrap());
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        request.metadata_mut().insert("traceparent", trace.parse().unwrap());
        let mut client = world.client.clone();
        async move { client.get_lead(request).await }
    });
    for response in concurrently(named).await {
        response.unwrap();
    }
    fixture.share().await;
    assert_eq!(world.page("/admin/log").await.0, 403);
    let page = loop {
        let (_, page) = world.page("/metrics").await;
        if page.contains("leadgate_shares{") {
            break page;
        }
        tokio::task::yield_now().await;
    };
    assert!(!page.contains("caller=\"someone\""), "{page}");
    for part in [
        "leadgate_caller_rpcs_total{caller=\"batch\",tenant=\"acme\",code=\"OK\",reason=\"OK\"} 1",
        " # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"}",
    ] {
        assert!(page.contains(part), "{part}\nin {page}");
    }
    world.write_settings("");
    let reloaded = "leadgate_reloads_total{what=\"settings\",result=\"ok\"} 1";
    world.until(reloaded).await;
    page + &world.page("/metrics").await.1
}

/// A gateway with TLS that identifies its callers.
async fn protected_page() -> String {
    let files = TlsFiles::new();
    let key = api_key::generate("billing");
    let settings = callers(&[("billing", &key, "tenants = [\"*\"]\nallow = []")]);
    let world = World::with_tls(Options::default(), &settings, &files, None).await;
    let channel = files.endpoint(world.address, None).connect().await.unwrap();
    let path = "/leadgate.v1.LeadService/GetLead";
    assert_eq!(call(&channel, path, None, None).await.code(), Code::Unauthenticated);
    let denied = call(&channel, path, Some(&bearer(&key)), None).await;
    assert_eq!(denied.code(), Code::PermissionDenied);
    world.page("/metrics").await.1
}

/// A query, and where it is.
struct Query {
    place: String,
    text: String,
    /// Texts with placeholders for labels: the legend, or the annotations of an alert.
    legends: Vec<String>,
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// All queries of the dashboards.
fn dashboard_queries() -> Vec<Query> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards");
    let mut queries = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let dashboard: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().display();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push(Query {
                    place: format!("{name}: {}", panel["title"]),
                    text: target["expr"].as_str().unwrap().to_owned(),
                    legends: vec![target["legendFormat"].as_str().unwrap().replace("{{", "{{ $labels.")],
                });
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] != "query" {
                continue;
            }
            // Such as label_values(metric{...}, label).
            let text = variable["query"]["query"].as_str().unwrap();
            let arguments = text
                .strip_prefix("label_values(")
                .and_then(|text| text.strip_suffix(')'));
            let (selector, label) = arguments.unwrap().rsplit_once(", ").unwrap();
            queries.push(Query {
                place: format!("{name}: variable {}", variable["name"]),
                text: selector.to_owned(),
                legends: vec![format!("{{{{ $labels.{label} }}}}")],
            });
        }
    }
    queries
}

/// All queries of the alerts.
fn alert_queries() -> Vec<Query> {
    let text = file("deploy/prometheus/alerts.yaml");
    let mut queries: Vec<Query> = vec![];
    let mut in_query = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(name) = trimmed.strip_prefix("- alert: ") {
            queries.push(Query {
                place: name.to_owned(),
                text: String::new(),
                legends: vec![],
            });
        }
        let Some(query) = queries.last_mut() else {
            continue;
        };
        // The query is a text of one line, or a folded one with a deeper indentation.
        in_query = match trimmed.strip_prefix("expr: ") {
            Some(">-") => true,
            Some(text) => {
                query.text = text.to_owned();
                false
            }
            None => in_query && indent > 8,
        };
        if in_query && !trimmed.starts_with("expr: ") {
            query.text += trimmed;
            query.text.push(' ');
        }
        if let Some(summary) = trimmed.strip_prefix("summary: ") {
            query.legends.push(summary.to_owned());
        }
    }
    queries
}

/// A part of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// Splits a query into tokens. Ranges in square brackets are left out.
fn tokens(query: &str) -> Vec<Token> {
    let mut found = vec![];
    let mut chars = query.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '[' => drop(chars.by_ref().find(|c| *c == ']')),
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next_if(|c| *c != '"') {
                    text.push(c);
                }
                chars.next();
                found.push(Token::Text(text));
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')) {
                    word.push(c);
                }
                found.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => found.push(Token::Sign(c)),
        }
    }
    found
}

/// The labels that a text names, such as `{{ $labels.job }}`.
fn labels_of_text(text: &str) -> impl Iterator<Item = &str> {
    text.split("$labels.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The errors of a query.
fn errors(query: &Query, known: &BTreeMap<String, Labels>) -> Vec<String> {
    const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    const OPERATORS: [&str; 5] = ["and", "or", "unless", "offset", "bool"];
    let tokens = tokens(&query.text);
    let sign = |at: usize, sign: char| tokens.get(at) == Some(&Token::Sign(sign));
    let mut errors = vec![];
    let mut metrics: Vec<&str> = vec![];
    let mut groups: Vec<&str> = vec![];
    let mut at = 0;
    while at < tokens.len() {
        let Token::Word(word) = &tokens[at] else {
            at += 1;
            continue;
        };
        at += 1;
        if GROUPINGS.contains(&word.as_str()) {
            while !sign(at, ')') {
                if let Token::Word(label) = &tokens[at] {
                    groups.push(label);
                }
                at += 1;
            }
        } else if word.starts_with(|c: char| c.is_ascii_digit())
            || OPERATORS.contains(&word.as_str())
            || sign(at, '(')
            || matches!(tokens.get(at), Some(Token::Word(next)) if GROUPINGS.contains(&next.as_str()))
        {
            // A number, an operator, a function or an aggregation.
        } else {
            metrics.push(word);
            let none = Labels::new();
            let labels = match known.get(word.as_str()) {
                Some(labels) => labels,
                None if OF_PROMETHEUS.contains(&word.as_str()) => &none,
                None => {
                    errors.push(format!("there is no {word}"));
                    continue;
                }
            };
            while sign(at, '{') || sign(at, ',') {
                let (Some(Token::Word(label)), Some(end)) = (
                    tokens.get(at + 1),
                    tokens[at..].iter().position(|token| matches!(token, Token::Text(_))),
                ) else {
                    break;
                };
                at += end + 1;
                let Token::Text(value) = &tokens[at - 1] else {
                    break;
                };
                let values = labels.get(label.as_str());
                if values.is_none() && !TARGET.contains(&label.as_str()) {
                    errors.push(format!("{word} has no label {label}"));
                }
                // Variables and patterns other than alternatives are not checked.
                let is_plain = !value.contains(['$', '*', '/']) && !value.is_empty();
                for value in value.split('|').filter(|_| is_plain) {
                    if values.is_some_and(|values| !values.contains(value)) {
                        errors.push(format!("the label {label} of {word} never is {value}"));
                    }
                }
            }
        }
    }
    let has_label = |metric: &&&str, label: &str| {
        let labels = known.get(**metric);
        TARGET.contains(&label) || labels.is_some_and(|labels| labels.contains_key(label))
    };
    for label in &groups {
        if let Some(metric) = metrics.iter().find(|metric| !has_label(metric, label)) {
            errors.push(format!("{metric} has no label {label}, by which it is grouped"));
        }
    }
    for label in query.legends.iter().flat_map(|legend| labels_of_text(legend)) {
        let is_known = match groups.is_empty() {
            true => metrics.iter().any(|metric| has_label(&metric, label)),
            false => groups.contains(&label),
        };
        if !is_known {
            errors.push(format!(
                "the text names the label {label}, which the result does not have"
            ));
        }
    }
    if metrics.is_empty() {
        errors.push("names no metric".to_owned());
    }
    errors
        .iter()
        .map(|error| format!("{}: {error}\n  {}", query.place, query.text))
        .collect()
}

#[test]
fn errors_in_queries_are_found() {
    let mut known = BTreeMap::new();
    add_page(
        &mut known,
        "# TYPE leadgate_x counter\nleadgate_x_total{a=\"1\",b=\"2\"} 3 # {trace_id=\"4\"} 1.0\nleadgate_y_bucket{le=\"1.0\",a=\"1\"} 1\n",
    );
    let errors_of = |text: &str, legend: &str| {
        let query = Query {
            place: String::new(),
            text: text.to_owned(),
            legends: vec![legend.to_owned()],
        };
        errors(&query, &known).len()
    };
    for (text, legend, count) in [
        (
            "sum by (a) (rate(leadgate_x_total{a=\"1\",job=~\"$job\"}[5m])) > 0.5",
            "{{ $labels.a }}",
            0,
        ),
        (
            "histogram_quantile(0.9, sum by (le, a) (rate(leadgate_y_bucket[$__rate_interval])))",
            "{{ $labels.a }}",
            0,
        ),
        (
            "max by (job) (up) == 0 unless on (job) sum by (job) (leadgate_x_total offset 5m)",
            "",
            0,
        ),
        (
            "leadgate_x_total{a=~\"1|1\"} and leadgate_x_total",
            "{{ $labels.b }}",
            0,
        ),
        ("leadgate_x", "", 1),
        ("rate(leadgate_y[5m])", "", 1),
        ("leadgate_y_count", "", 1),
        ("leadgate_x_total{c=\"1\"}", "", 1),
        ("leadgate_x_total{a=\"1\",c=\"1\"}", "", 1),
        ("leadgate_x_total{a=\"2\"}", "", 1),
        ("leadgate_x_total{a=~\"1|3\"}", "", 1),
        ("sum by (c) (leadgate_x_total)", "", 1),
        ("sum by (a) (leadgate_x_total)", "{{ $labels.b }}", 1),
        ("leadgate_x_total", "{{ $labels.c }}", 1),
        ("vector(1)", "", 1),
    ] {
        assert_eq!(errors_of(text, legend), count, "{text} {legend}");
    }
}

#[tokio::test]
async fn every_query_names_metrics_and_labels_that_exist() {
    let (busy, protected) = tokio::join!(busy_page(), protected_page());
    let mut known = BTreeMap::new();
    add_page(&mut known, &busy);
    add_page(&mut known, &protected);
    let mut failed: Vec<String> = vec![];
    for metric in Metrics::descriptions() {
        let names: BTreeSet<&str> = metric.labels.iter().map(|label| label.name).collect();
        for series in metric.series() {
            let is_absent = ABSENT.contains(&metric.name.as_str());
            let labels = known.entry(series.clone()).or_default();
            let seen: BTreeSet<&str> = labels.keys().map(String::as_str).filter(|name| *name != "le").collect();
            if seen != names && !is_absent {
                failed.push(format!(
                    "{series} has the labels {seen:?}, and {names:?} in its description"
                ));
            }
            if series.ends_with("_bucket") {
                labels.entry("le".to_owned()).or_default();
            }
            for label in metric.labels {
                labels
                    .entry(label.name.to_owned())
                    .or_default()
                    .extend(described(label));
            }
        }
    }
    let (dashboards, alerts) = (dashboard_queries(), alert_queries());
    assert!(
        dashboards.len() > 100 && alerts.len() > 30,
        "{} {}",
        dashboards.len(),
        alerts.len()
    );
    failed.extend(dashboards.iter().chain(&alerts).flat_map(|query| errors(query, &known)));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
