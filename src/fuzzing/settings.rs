//! Fuzz target: settings from a file and the environment.

use secrecy::ExposeSecret;
use toml::{Table, Value};

use crate::config::Config;

/// A text that has the form of a key. No error shows it, unless it is a name, or the end of a path.
const KEY: &str = "u$rCanary0123456789";

/// Reads settings. The input is the text of a file, a line `---`, and one variable of the environment in each line.
pub(super) fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Settings may name a file to read. Devices have no end.
    if ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match Config::read("test.toml", file, variables.iter().cloned()) {
        Ok(config) => check(&config, text),
        Err(errors) => {
            assert!(!errors.0.is_empty());
            let shown = errors.to_string();
            assert!(is_name(file, &variables) || !shown.contains(KEY), "{shown}");
        }
    }
}

fn check(config: &Config, text: &str) {
    let _ = config.warnings();
    let shown = format!("{config:?}");
    for tenant in config.tenants.values() {
        let url = &tenant.base_url;
        assert!(
            url.username().is_empty() && url.password().is_none(),
            "credentials in the URL"
        );
        assert!(url.query().is_none() && url.fragment().is_none());
        for key in [&tenant.keys.first.access, &tenant.keys.first.secret] {
            let key = key.read().expect("the key was read before");
            // If the text has it once, no other setting has it.
            let is_once = text.matches(KEY).count() == 1 && key.expose_secret().contains(KEY);
            assert!(!is_once || !shown.contains(KEY), "{shown}");
        }
    }
}

/// Whether the text of the key is in a name or in a path, which errors show.
fn is_name(file: &str, variables: &[(String, String)]) -> bool {
    let in_variables = variables.iter().any(|(name, value)| {
        let value = format!("value = {value}").parse().ok();
        name.contains(KEY) || value.as_ref().is_some_and(is_in_table)
    });
    in_variables || file.parse().ok().as_ref().is_some_and(is_in_table)
}

fn is_in_table(table: &Table) -> bool {
    table
        .iter()
        .any(|(name, value)| name.contains(KEY) || is_in_value(value))
}

fn is_in_value(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(KEY) && text.starts_with(['/', '.']),
        Value::Table(table) => is_in_table(table),
        Value::Array(values) => values.iter().any(is_in_value),
        _ => false,
    }
}
