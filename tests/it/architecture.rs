//! Who may know whom: the rings of the house, checked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules each module may name. A module that is missing here is a fault, and so is a needless right.
const MAY: [(&str, &[&str]); 17] = [
    (
        "app",
        &[
            "admin",
            "config",
            "crm",
            "domain",
            "gateway",
            "grpc",
            "quota",
            "store",
            "telemetry",
            "tenant",
        ],
    ),
    ("config", &["crm", "gateway", "grpc", "quota", "sharing", "telemetry"]),
    ("admin", &["gateway", "telemetry", "tenant"]),
    (
        "grpc",
        &["context", "clock", "domain", "error", "gateway", "telemetry", "tenant"],
    ),
    ("tenant", &["error", "gateway"]),
    (
        "gateway",
        &[
            "cached",
            "context",
            "clock",
            "crm",
            "domain",
            "error",
            "quota",
            "sharing",
            "store",
            "telemetry",
            "users",
        ],
    ),
    (
        "sharing",
        &["context", "clock", "crm", "domain", "error", "store", "users"],
    ),
    ("users", &["cached", "context", "crm", "domain", "error"]),
    ("cached", &["context", "clock", "crm", "error"]),
    ("store", &["context", "clock", "domain", "error"]),
    ("crm", &["context", "clock", "domain", "error", "quota", "telemetry"]),
    ("quota", &["context", "clock", "domain", "error"]),
    ("context", &["error"]),
    ("domain", &["error"]),
    ("telemetry", &[]),
    ("error", &[]),
    ("clock", &[]),
];

/// Crates that only these modules may use.
const ALONE: [(&str, &[&str]); 8] = [
    ("tonic", &["grpc"]),
    ("tonic_types", &["grpc"]),
    ("prost", &["grpc"]),
    ("prost_types", &["grpc"]),
    ("reqwest", &["crm"]),
    ("sqlx", &["store"]),
    ("prometheus_client", &["telemetry"]),
    ("leadgate_simulator", &[]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The text of each module of the library, without comments and tests.
fn modules() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    for file in sources(&root) {
        let place = file.strip_prefix(&root).unwrap();
        let first = place.iter().next().unwrap().to_str().unwrap();
        let name = first.trim_end_matches(".rs");
        if ["main", "cli", "lib"].contains(&name) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let module = modules.entry(name.to_owned()).or_default();
        lines.for_each(|line| {
            module.push_str(line);
            module.push('\n');
        });
    }
    modules
}

/// The modules that a text names after `crate::`, alone or in braces.
fn named(text: &str) -> Vec<String> {
    let mut names = vec![];
    for after in text.split("crate::").skip(1) {
        let group = match after.strip_prefix('{') {
            Some(inner) => inner.split('}').next().unwrap_or_default(),
            None => after
                .split([':', ';', ',', ' ', '(', ')', '<'])
                .next()
                .unwrap_or_default(),
        };
        let parts = group
            .split(',')
            .map(|part| part.trim().split([':', ' ']).next().unwrap_or_default());
        names.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
    }
    names
}

#[test]
fn each_module_knows_only_whom_it_may() {
    let modules = modules();
    let known: Vec<&str> = MAY.iter().map(|(name, _)| *name).collect();
    let mut faults = vec![];
    for (name, text) in &modules {
        let Some((_, may)) = MAY.iter().find(|(module, _)| module == name) else {
            faults.push(format!("{name} is not in the table"));
            continue;
        };
        let named = named(text);
        for other in &named {
            if other != name && known.contains(&other.as_str()) && !may.contains(&other.as_str()) {
                faults.push(format!("{name} names {other}"));
            }
        }
        for right in *may {
            if !named.iter().any(|other| other == right) {
                faults.push(format!("{name} may name {right} and does not"));
            }
        }
    }
    assert_eq!(modules.len(), MAY.len());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn some_crates_are_known_in_one_place_only() {
    let mut faults = vec![];
    for (name, text) in modules() {
        for (library, may) in ALONE {
            let is_named = [
                format!("use {library}::"),
                format!(" {library}::"),
                format!("({library}::"),
                format!("<{library}::"),
            ]
            .iter()
            .any(|pattern| text.contains(pattern.as_str()));
            if is_named && !may.contains(&name.as_str()) {
                faults.push(format!("{name} names {library}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn only_records_have_a_stored_form() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // What may write any record as text.
    let is_record = |path: &Path| path.starts_with(root.join("store/record")) || path.ends_with("store/damage.rs");
    let folders = ["domain", "gateway", "sharing", "store"].map(|name| sources(&root.join(name)));
    let files = folders.concat().into_iter().chain([root.join("error.rs")]);
    for file in files.filter(|file| !is_record(file)) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("Serialize"), "{} has a stored form", file.display());
    }
    for file in sources(&root.join("store/record")) {
        let text = fs::read_to_string(&file).unwrap();
        let is_test = file.ends_with("tests.rs") || file.ends_with("samples.rs");
        for other in named(&text).into_iter().filter(|_| !is_test) {
            assert!(
                ["domain", "error", "store"].contains(&other.as_str()),
                "{} names {other}",
                file.display()
            );
        }
    }
}
