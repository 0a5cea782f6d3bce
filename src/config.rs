//! Every setting and its check: embedded defaults, then a file, then the environment. A wrong setting is told with all
//! others that are wrong, each with where it stands and what was expected.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};
use url::Url;

use crate::gateway::{ActivityOffset, Batching, CountryCode, WriteSettings};
use crate::telemetry::log;
use crate::{crm, grpc, quota, sharing};

/// Every setting with its default: also the manual.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

const PREFIX: &str = "LEADGATE__";
/// Longer than anybody repeats a request.
const LONGEST_KEPT: Duration = Duration::from_secs(365 * 24 * 3600);

/// All settings, checked.
#[derive(Debug)]
pub struct Config {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// How the gRPC server behaves.
    pub server: grpc::ServerSettings,
    /// Where the admin pages are served.
    pub admin_listen: SocketAddr,
    /// Where the store is.
    pub store_url: String,
    /// How long request ids are remembered.
    pub keep_request_ids: Duration,
    /// How to log.
    pub log: log::LogSettings,
    /// What callers may have of the quota, by name.
    pub callers: BTreeMap<String, quota::CallerShare>,
    /// The same for all others.
    pub other_callers: quota::CallerShare,
    /// The accounts by name.
    pub tenants: BTreeMap<String, Tenant>,
}

/// One account, checked.
#[derive(Debug)]
pub struct Tenant {
    /// Where its API is.
    pub base_url: Url,
    /// Its keys.
    pub keys: crm::Keys,
    /// Its limits.
    pub limits: quota::Limits,
    /// How its API is talked to.
    pub upstream: crm::CrmSettings,
    /// How writes behave.
    pub writes: WriteSettings,
    /// How long its metadata counts as fresh.
    pub metadata_lifetime: Duration,
    /// What the pages of a lead's activities are counted by.
    pub activity_offset: ActivityOffset,
    /// The country code of phone numbers that are given without one.
    pub default_country_code: CountryCode,
    /// How sharing behaves.
    pub sharing: sharing::SharingSettings,
    /// What may travel together.
    pub batching: Batching,
}

/// Everything that is wrong with the settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<ConfigError>);

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands: a file's name, or an environment variable.
    pub origin: String,
    /// Which setting: `tenants.acme.limits.calls`. Empty for a file as a whole.
    pub key: String,
    /// What was expected.
    pub expected: String,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wrong in the settings:", self.0.len())?;
        for ConfigError { origin, key, expected } in &self.0 {
            let separator = if key.is_empty() { "" } else { ": " };
            write!(f, "\n  {origin}: {key}{separator}{expected}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// `[server]` without what belongs to the gRPC server itself.
#[derive(Deserialize)]
struct Server {
    listen: SocketAddr,
    insecure_plaintext: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Admin {
    listen: SocketAddr,
    insecure_plaintext: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    #[expect(dead_code, reason = "the only mode so far; to name another is a fault")]
    mode: Mode,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Store {
    url: String,
    #[serde(with = "humantime_serde")]
    keep_request_ids: Duration,
}

/// `[tenants.NAME]` without its tables and what it has to name itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantItself {
    activity_offset: ActivityOffset,
    default_country_code: CountryCode,
    #[serde(with = "humantime_serde")]
    metadata_lifetime: Duration,
    insecure_plaintext: bool,
}

impl Config {
    /// Reads the settings: of a file, if one is named, and of the environment.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Faults> {
        let (name, text) = match file {
            None => (String::new(), String::new()),
            Some(path) => {
                let name = path.display().to_string();
                match std::fs::read_to_string(path) {
                    Ok(text) => (name, text),
                    Err(error) => {
                        return Err(Faults(vec![ConfigError {
                            origin: name,
                            key: String::new(),
                            expected: format!("cannot be read: {error}"),
                        }]));
                    }
                }
            }
        };
        Self::read(&name, &text, environment)
    }

    /// Reads the settings of a file's text and of the environment.
    pub fn read(name: &str, text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Faults> {
        let mut reader = Reader::new(name, text, environment);
        match (reader.config(), reader.faults.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err(Faults(reader.faults)),
        }
    }
}

struct Reader {
    defaults: Table,
    file_name: String,
    file: Table,
    environment: BTreeMap<String, String>,
    /// The settings among the environment, as a table.
    variables: Table,
    faults: Vec<ConfigError>,
}

impl Reader {
    fn new(name: &str, text: &str, environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut reader = Self {
            defaults: DEFAULTS.parse().expect("a test reads the defaults"),
            file_name: name.to_owned(),
            file: Table::new(),
            environment: environment.collect(),
            variables: Table::new(),
            faults: vec![],
        };
        match text.parse() {
            Ok(table) => reader.file = table,
            Err(error) => reader.faults.push(ConfigError {
                origin: name.to_owned(),
                key: String::new(),
                // Never with the line itself, which may hold a key.
                expected: format!(
                    "is not TOML{}: {}",
                    place(text, error.span()),
                    one_line(error.message())
                ),
            }),
        }
        reader.read_variables();
        reader
    }

    /// Turns `LEADGATE__TENANTS__ACME__LIMITS__CALLS=10` into `tenants.acme.limits.calls = 10`.
    fn read_variables(&mut self) {
        let mut variables = Table::new();
        for (name, text) in &self.environment {
            let Some(path) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            // A text stays a text, whatever it looks like: only where the default is none it is read as a value.
            let is_text = matches!(self.default_of(&path), None | Some(Value::String(_)));
            let value = match format!("value = {text}").parse::<Table>() {
                Ok(mut table) if !is_text => table.remove("value").unwrap_or_else(|| Value::String(text.clone())),
                _ => Value::String(text.clone()),
            };
            insert(&mut variables, &path, value);
        }
        self.variables = variables;
    }

    fn config(&mut self) -> Option<Config> {
        let mut all = self.defaults.clone();
        merge(&mut all, self.file.clone());
        merge(&mut all, self.variables.clone());

        let mut server = self.section(&[], &mut all, "server");
        let itself: Option<Server> = self.typed(&["server"], split(&mut server, &["listen", "insecure_plaintext"]));
        let server: Option<grpc::ServerSettings> = self.typed(&["server"], server);
        let admin = self.section(&[], &mut all, "admin");
        let admin: Option<Admin> = self.typed(&["admin"], admin);
        let auth = self.section(&[], &mut all, "auth");
        let auth: Option<Auth> = self.typed(&["auth"], auth);
        let store = self.section(&[], &mut all, "store");
        let store: Option<Store> = self.typed(&["store"], store);
        let log = self.section(&[], &mut all, "log");
        let log: Option<log::LogSettings> = self.typed(&["log"], log);
        let caller_defaults = self.section(&[], &mut all, "caller_defaults");
        let callers = self.tables(&mut all, "callers");
        let defaults = self.section(&[], &mut all, "tenant_defaults");
        let tenants = self.tables(&mut all, "tenants");
        for (key, _) in all {
            self.fault(&[&key], "is no setting");
        }

        if let Some(itself) = &itself
            && !itself.insecure_plaintext
            && !itself.listen.ip().is_loopback()
        {
            let text = "must be a loopback address, since calls are served without TLS; server.insecure_plaintext = true \
                        allows any";
            self.fault(&["server", "listen"], text);
        }
        if let Some(admin) = &admin
            && !admin.insecure_plaintext
            && !admin.listen.ip().is_loopback()
        {
            let text = "must be a loopback address, since the pages are served without TLS to everybody; \
                        admin.insecure_plaintext = true allows any";
            self.fault(&["admin", "listen"], text);
        }
        for (key, text) in server.iter().flat_map(grpc::ServerSettings::validate) {
            self.fault(&["server", key], &text);
        }
        if store
            .as_ref()
            .is_some_and(|store| store.keep_request_ids > LONGEST_KEPT)
        {
            self.fault(&["store", "keep_request_ids"], "must be at most 365 days");
        }
        for (key, text) in log.iter().flat_map(log::LogSettings::validate) {
            self.fault(&["log", key], &text);
        }
        let other_callers = self.caller(&["caller_defaults"], caller_defaults.clone());
        let caller_count = callers.len();
        let callers: BTreeMap<String, quota::CallerShare> = callers
            .into_iter()
            .filter_map(|(name, table)| {
                let at = ["callers", &name];
                let Value::Table(given) = table else {
                    self.fault(&at, "must be a table");
                    return None;
                };
                let mut table = caller_defaults.clone();
                merge(&mut table, given);
                Some((name.clone(), self.caller(&at, table)?))
            })
            .collect();
        if tenants.is_empty() {
            self.fault(
                &["tenants"],
                "at least one [tenants.NAME] is needed, with base_url, access_key and secret_key",
            );
        }
        let count = tenants.len();
        let tenants: BTreeMap<String, Tenant> = tenants
            .into_iter()
            .filter_map(|(name, table)| Some((name.clone(), self.tenant(&name, table, &defaults)?)))
            .collect();

        if let Some(store) = &store
            && store.url != "sqlite::memory:"
            && !store
                .url
                .strip_prefix("sqlite://")
                .is_some_and(|path| !path.is_empty() && !path.contains('?'))
        {
            let text = "must be \"sqlite://PATH\", or \"sqlite::memory:\" for nothing kept";
            self.fault(&["store", "url"], text);
        }

        let (itself, store) = (itself?, store?);
        auth?;
        Some(Config {
            listen: itself.listen,
            server: server?,
            admin_listen: admin?.listen,
            store_url: store.url,
            keep_request_ids: store.keep_request_ids,
            log: log?,
            callers: Some(callers).filter(|callers| callers.len() == caller_count)?,
            other_callers: other_callers?,
            tenants: Some(tenants).filter(|tenants| tenants.len() == count)?,
        })
    }

    /// The tables of that name, by their own.
    fn tables(&mut self, all: &mut Table, name: &'static str) -> Table {
        match all.remove(name) {
            None => Table::new(),
            Some(Value::Table(tables)) => tables,
            Some(_) => {
                self.fault(&[name], &format!("must be tables [{name}.NAME]"));
                Table::new()
            }
        }
    }

    fn caller(&mut self, at: &[&str], table: Table) -> Option<quota::CallerShare> {
        let share: Option<quota::CallerShare> = self.typed(at, table);
        for (key, text) in share.iter().flat_map(quota::CallerShare::validate) {
            self.fault(&[at, &[key]].concat(), &text);
        }
        share
    }

    fn tenant(&mut self, name: &str, table: Value, defaults: &Table) -> Option<Tenant> {
        let at = ["tenants", name];
        let Value::Table(given) = table else {
            self.fault(&at, "must be a table");
            return None;
        };
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(is_name) {
            self.fault(&at, "a tenant's name has lower-case letters, digits, - and _ only");
        }
        let mut table = defaults.clone();
        merge(&mut table, given);

        let base_url = table.remove("base_url");
        let access = self.secret(&[at[0], name, "access_key"], table.remove("access_key"));
        let secret = self.secret(&[at[0], name, "secret_key"], table.remove("secret_key"));
        let limits = self.section(&at, &mut table, "limits");
        let limits: Option<quota::Limits> = self.typed(&[at[0], name, "limits"], limits);
        let mut upstream = self.section(&at, &mut table, "upstream");
        if let Some(source @ Value::Table(_)) = upstream.get("proxy").cloned() {
            let proxy = self.secret(&[at[0], name, "upstream", "proxy"], Some(source));
            let proxy = proxy.as_ref().map_or("", ExposeSecret::expose_secret);
            upstream.insert("proxy".to_owned(), Value::String(proxy.to_owned()));
        }
        let upstream: Option<crm::CrmSettings> = self.typed(&[at[0], name, "upstream"], upstream);
        let writes = self.section(&at, &mut table, "writes");
        let writes = self.typed(&[at[0], name, "writes"], writes);
        let sharing = self.section(&at, &mut table, "sharing");
        let sharing: Option<sharing::SharingSettings> = self.typed(&[at[0], name, "sharing"], sharing);
        let batching = self.section(&at, &mut table, "batching");
        let batching: Option<Batching> = self.typed(&[at[0], name, "batching"], batching);
        let itself: Option<TenantItself> = self.typed(&at, table);

        for (key, text) in limits.iter().flat_map(quota::Limits::validate) {
            self.fault(&[at[0], name, "limits", key], &text);
        }
        for (key, text) in upstream.iter().flat_map(crm::CrmSettings::validate) {
            self.fault(&[at[0], name, "upstream", key], &text);
        }
        for (key, text) in sharing.iter().flat_map(sharing::SharingSettings::validate) {
            self.fault(&[at[0], name, "sharing", key], &text);
        }
        for (key, text) in batching.iter().flat_map(Batching::validate) {
            self.fault(&[at[0], name, "batching", key], &text);
        }
        let insecure = itself.as_ref().is_some_and(|itself| itself.insecure_plaintext);
        let base_url = self.base_url(&[at[0], name, "base_url"], base_url, insecure);
        let itself = itself?;
        Some(Tenant {
            base_url: base_url?,
            keys: crm::Keys {
                access: access?,
                secret: secret?,
            },
            limits: limits?,
            upstream: upstream?,
            writes: writes?,
            sharing: sharing?,
            batching: batching?,
            metadata_lifetime: itself.metadata_lifetime,
            activity_offset: itself.activity_offset,
            default_country_code: itself.default_country_code,
        })
    }

    fn base_url(&mut self, at: &[&str], value: Option<Value>, insecure: bool) -> Option<Url> {
        let url = match value.as_ref().and_then(Value::as_str).map(Url::parse) {
            Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => {
                self.fault(
                    at,
                    "must be the address of the account's API, such as \"https://api-in21.leadsquared.com\"",
                );
                return None;
            }
        };
        let is_loopback = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if url.scheme() == "http" && !is_loopback && !insecure {
            self.fault(at, "must be https: over plain HTTP the keys could be read by anybody");
        }
        if !matches!(url.path().trim_end_matches('/'), "") || url.query().is_some() || !url.username().is_empty() {
            self.fault(
                at,
                "must be scheme and host alone; /v2 and the keys are added by leadgate",
            );
        }
        Some(url)
    }

    /// A key: as it stands, from a variable or from a file. Its value never gets into an error.
    fn secret(&mut self, at: &[&str], value: Option<Value>) -> Option<SecretString> {
        let source = match &value {
            Some(Value::String(text)) => Some(Ok(text.clone())),
            Some(Value::Table(table)) if table.len() == 1 => match (table.get("env"), table.get("file")) {
                (Some(Value::String(name)), _) => {
                    let value = self.environment.get(name).cloned();
                    Some(value.ok_or_else(|| match is_variable_name(name) {
                        true => format!("the environment has no variable {name}"),
                        false => {
                            format!("the environment has no such variable {HIDDEN}; env is the name of one, such as LSQ_ACCESS_KEY")
                        }
                    }))
                }
                (_, Some(Value::String(path))) => {
                    Some(std::fs::read_to_string(path).map_err(|error| match is_path(path) {
                        true => format!("{path} cannot be read: {error}"),
                        false => format!(
                            "the file cannot be read: {error} {HIDDEN}; file is the path of one that has the key"
                        ),
                    }))
                }
                _ => None,
            },
            _ => None,
        };
        let text = match source {
            None => Err("must be a text, { env = \"NAME\" } or { file = \"PATH\" }".to_owned()),
            Some(text) => text.map(|text| text.trim().to_owned()),
        };
        match text {
            Ok(text) if text.is_empty() => self.fault(at, "must not be empty"),
            Ok(text) if !text.bytes().all(|b| b.is_ascii_graphic()) => {
                self.fault(
                    at,
                    "must be printable ASCII without spaces, since it is sent as a header",
                );
            }
            Ok(text) => return Some(text.into()),
            Err(fault) => self.fault(at, &fault),
        }
        None
    }

    /// Takes a table out of the one at that place.
    fn section(&mut self, at: &[&str], table: &mut Table, name: &str) -> Table {
        if let Some(Value::Table(section)) = table.remove(name) {
            return section;
        }
        let path: Vec<&str> = at.iter().copied().chain([name]).collect();
        self.fault(&path, "must be a table");
        let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
        match self.default_of(&path) {
            Some(Value::Table(section)) => section.clone(),
            _ => Table::new(),
        }
    }

    /// Types a table. Each fault is noted and its setting put back to the default, so that the next one is found.
    fn typed<T: DeserializeOwned>(&mut self, at: &[&str], mut table: Table) -> Option<T> {
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(Value::Table(table.clone())) {
                Ok(typed) => return Some(typed),
                Err(error) => error,
            };
            let message = one_line(error.inner().message());
            let unknown = message
                .strip_prefix("unknown field `")
                .and_then(|rest| rest.split_once('`'))
                .map(|(name, _)| name.to_owned());
            let place = error.path().to_string();
            let (key, expected) = match unknown {
                Some(name) => (name, format!("is no setting; {}", after_comma(&message))),
                None => (
                    place.split('.').next().unwrap_or_default().to_owned(),
                    expectation(&message),
                ),
            };
            let path: Vec<&str> = at.iter().copied().chain([key.as_str()]).collect();
            self.fault(&path, &expected);
            let owned: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            match self.default_of(&owned).cloned() {
                Some(default) if table.get(&key) != Some(&default) => {
                    table.insert(key, default);
                }
                // Where there is nothing to mend, the fault cannot be looked past.
                _ => {
                    table.remove(&key)?;
                }
            }
        }
    }

    /// The default of a setting; a tenant's is that of all tenants.
    fn default_of(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = match path {
            [tenants, _, rest @ ..] if tenants == "tenants" => ("tenant_defaults", rest),
            [first, rest @ ..] => (first.as_str(), rest),
            [] => return None,
        };
        rest.iter()
            .try_fold(self.defaults.get(first)?, |value, name| value.get(name))
    }

    fn fault(&mut self, at: &[&str], expected: &str) {
        let key = at.join(".");
        let variable = format!("{PREFIX}{}", at.join("__").to_uppercase());
        let origin = if self.environment.keys().any(|name| name.starts_with(&variable)) {
            variable
        } else if self.file_name.is_empty() {
            "the environment".to_owned()
        } else {
            self.file_name.clone()
        };
        let fault = ConfigError {
            origin,
            key,
            expected: expected.to_owned(),
        };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// Takes some keys out into a table of their own.
fn split(table: &mut Table, keys: &[&str]) -> Table {
    keys.iter()
        .filter_map(|key| Some(((*key).to_owned(), table.remove(*key)?)))
        .collect()
}

/// Puts one table over another.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            // A key has one source: naming another replaces it.
            (Some(Value::Table(under)), Value::Table(over)) if !key.ends_with("_key") => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Where in the text that is, as people count.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return String::new();
    };
    let line = before.matches('\n').count() + 1;
    format!(" in line {line}")
}

/// What stands for a value that is not shown.
const HIDDEN: &str = "(not shown: it may be a key)";

/// Whether a text has the form of the name of an environment variable, and not that of a key.
fn is_variable_name(text: &str) -> bool {
    let is_first = |b: u8| b.is_ascii_uppercase() || b == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(is_first) && bytes.all(|b| is_first(b) || b.is_ascii_digit())
}

/// Whether a text has the form of a path, and not that of a key.
fn is_path(text: &str) -> bool {
    Path::new(text).is_absolute() || text.starts_with("./") || text.starts_with("../") || Path::new(text).exists()
}

/// What was expected, without what was given, which may be a key in the wrong place.
fn expectation(message: &str) -> String {
    match message
        .split_once(", expected ")
        .or_else(|| message.split_once(" expected "))
    {
        Some((_, expected)) => format!("must be {expected}"),
        None => message.to_owned(),
    }
}

fn after_comma(message: &str) -> &str {
    message.split_once(", ").map_or(message, |(_, after)| after)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = r#"
        [tenants.acme]
        base_url = "https://api-in21.leadsquared.com"
        access_key = "u$rAccess"
        secret_key = { env = "LSQ_SECRET_KEY" }
    "#;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
        let variables = variables.iter().chain(&[("LSQ_SECRET_KEY", "0123")]);
        Config::read(
            "test.toml",
            text,
            variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let faults = read(text, variables).unwrap_err().0;
        faults
            .into_iter()
            .map(|fault| format!("{}: {}: {}", fault.origin, fault.key, fault.expected))
            .collect()
    }

    #[test]
    fn the_defaults_and_a_tenant_are_enough() {
        let config = read(TENANT, &[]).unwrap();
        assert_eq!(config.listen.port(), 50051);
        let acme = &config.tenants["acme"];
        assert_eq!((acme.limits.calls, acme.limits.bulk), (25, 1));
        assert_eq!(acme.limits.window, Duration::from_secs(5));
    }

    #[test]
    fn the_environment_overrides_the_file_and_texts_stay_texts() {
        use secrecy::ExposeSecret;
        let variables = [
            ("LEADGATE__TENANTS__ACME__LIMITS__CALLS", "10"),
            ("LEADGATE__TENANTS__ACME__LIMITS__WINDOW", "500ms"),
            ("LEADGATE__TENANTS__ACME__ACCESS_KEY", "0123"),
            ("LEADGATE__TENANT_DEFAULTS__LIMITS__BULK", "5"),
        ];
        let config = read(TENANT, &variables).unwrap();
        let acme = &config.tenants["acme"];
        assert_eq!((acme.limits.calls, acme.limits.bulk), (10, 5));
        assert_eq!(acme.limits.window, Duration::from_millis(500));
        assert_eq!(acme.keys.access.expose_secret(), "0123");
        assert_eq!(acme.keys.secret.expose_secret(), "0123");
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let text = r#"
            nonsense = 1
            [server]
            listen = "0.0.0.0:50051"
            lissen = "x"
            max_deadline = "soon"
            [auth]
            mode = "mtls"
            [tenants.acme]
            base_url = "http://api.leadsquared.com/v2"
            access_key = { env = "NOT_THERE" }
            limits = { calls = 0, window = 5, reserve = "some" }
            upstream = { http3 = true }
        "#;
        let faults = errors(text, &[("LEADGATE__LOG__FORMAT", "xml")]);
        let expected = [
            "LEADGATE__LOG__FORMAT: log.format: ",
            "test.toml: nonsense: is no setting",
            "test.toml: server.listen: must be a loopback address",
            "test.toml: server.lissen: is no setting; expected one of",
            "test.toml: server.max_deadline: ",
            "test.toml: auth.mode: ",
            "test.toml: tenants.acme.base_url: must be https",
            "test.toml: tenants.acme.base_url: must be scheme and host alone",
            "test.toml: tenants.acme.access_key: the environment has no variable NOT_THERE",
            "test.toml: tenants.acme.secret_key: must be a text",
            "test.toml: tenants.acme.limits.calls: must be 1 to 10000",
            "test.toml: tenants.acme.limits.window: ",
            "test.toml: tenants.acme.limits.reserve: ",
            "test.toml: tenants.acme.upstream.http3: is no setting",
        ];
        for start in expected {
            assert!(
                faults.iter().any(|fault| fault.starts_with(start)),
                "{start}\nin {faults:#?}"
            );
        }
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    }

    #[test]
    fn no_tenant_and_no_toml_are_faults() {
        assert!(errors("", &[])[0].contains("at least one [tenants.NAME]"));
        assert!(errors("server = [", &[])[0].contains("is not TOML"));
        assert!(
            errors("server = 3\ntenants = 4", &[])
                .iter()
                .any(|fault| fault.contains("server: must be a table"))
        );
    }

    #[test]
    fn a_country_code_has_to_be_one() {
        let with = |code: &str| format!("{TENANT}\n[tenant_defaults]\ndefault_country_code = \"{code}\"\n");
        let config = read(&with("+91"), &[]).unwrap();
        assert_eq!(config.tenants["acme"].default_country_code.as_str(), "91");
        assert!(read(&with("India"), &[]).is_err());
    }

    #[test]
    fn a_batch_is_at_most_what_the_vendor_allows() {
        let text = format!("{TENANT}\n[tenants.acme.batching]\nmax_updates = 26\nmax_creates = 0\nmax_reads = 10");
        assert_eq!(
            errors(&text, &[]),
            [
                "test.toml: tenants.acme.batching.max_updates: must be 1 to 25",
                "test.toml: tenants.acme.batching.max_creates: must be 1 to 50",
            ]
        );
    }

    #[test]
    fn settings_of_the_circuit_breaker_are_checked() {
        let with = |upstream: &str| errors(&format!("{TENANT}\nupstream = {{ {upstream} }}"), &[]);
        let all =
            "breaker_failures = 1001, breaker_pause = \"0s\", breaker_max_pause = \"25h\", max_retry_after = \"25h\"";
        assert_eq!(
            with(all),
            [
                "test.toml: tenants.acme.upstream.breaker_failures: must be 0 to 1000; 0: the circuit breaker never opens",
                "test.toml: tenants.acme.upstream.breaker_pause: must be 10ms to 24h",
                "test.toml: tenants.acme.upstream.breaker_max_pause: must be breaker_pause to 24h",
                "test.toml: tenants.acme.upstream.max_retry_after: must be 0s to 24h",
            ]
        );
        // The default of the maximum is 30 s.
        let longer = with("breaker_pause = \"31s\"");
        assert_eq!(longer.len(), 1, "{longer:?}");
        let off = format!("{TENANT}\nupstream = {{ breaker_failures = 0, max_retry_after = \"0s\" }}");
        assert!(read(&off, &[]).is_ok());
    }

    #[test]
    fn keys_are_in_no_error_and_no_debug_text() {
        for wrong in [
            "limits = { calls = \"x\" }",
            "secret_key = \"SECRET",
            "upstream = { timeout = \"SECRET\" }",
            "x = SECRET",
        ] {
            let said = format!("{:?}", read(&format!("{TENANT}\n{wrong}"), &[]).unwrap_err());
            assert!(!said.contains("u$rAccess") && !said.contains("SECRET"), "{said}");
        }
        assert!(!format!("{:?}", read(TENANT, &[])).contains("u$rAccess"));
    }

    #[test]
    fn a_key_in_the_place_of_a_name_is_not_shown() {
        const KEY: &str = "u$r0123456789abcdef";
        const SECRET: &str = "0123456789abcdef0123456789abcdef01234567";
        let with = |source: &str| {
            let text = TENANT.replace("\"u$rAccess\"", source);
            errors(&text, &[])
        };
        for key in [KEY, SECRET, "Zm9v/YmFy+QUJD=", "ab cd", ""] {
            for source in ["env", "file"] {
                let found = with(&format!("{{ {source} = \"{key}\" }}"));
                assert_eq!(found.len(), 1);
                assert!(
                    found[0].starts_with("test.toml: tenants.acme.access_key: "),
                    "{found:?}"
                );
                assert!(found[0].contains("not shown") && found[0].contains(source), "{found:?}");
                assert!(key.is_empty() || !found[0].contains(key), "{found:?}");
            }
        }
        // What cannot be a key is shown.
        for (source, shown) in [
            ("{ env = \"LSQ_ACCESS_KEY_2\" }", "LSQ_ACCESS_KEY_2"),
            ("{ file = \"/run/secrets/none\" }", "/run/secrets/none cannot be read"),
            ("{ file = \"./none\" }", "./none cannot be read"),
        ] {
            let found = with(source);
            assert!(found[0].contains(shown), "{found:?}");
        }
    }

    #[test]
    fn no_setting_shows_a_value_that_may_be_a_key() {
        fn paths(table: &Table, at: &str, found: &mut Vec<String>) {
            for (key, value) in table {
                let path = format!("{at}{key}");
                match value {
                    Value::Table(table) => paths(table, &format!("{path}."), found),
                    _ => found.push(path),
                }
            }
        }
        let mut all = Vec::new();
        paths(&DEFAULTS.parse().unwrap(), "", &mut all);
        assert!(all.len() > 50, "{}", all.len());
        all.extend(
            [
                "tenants.b.base_url",
                "tenants.b.access_key.key",
                "tenants.b.limits",
                "callers.x",
                "auth",
            ]
            .map(str::to_owned),
        );
        for key in [
            "u$r0123456789abcdef",
            "0123456789abcdef01",
            "0123456789abcdef01s",
            "sqlite:0123456789abcdef",
        ] {
            for path in &all {
                for value in [
                    format!("\"{key}\""),
                    format!("[\"{key}\"]"),
                    format!("{{ x = \"{key}\" }}"),
                ] {
                    // As a line of its own, before all tables.
                    let said = match read(&format!("{path} = {value}\n{TENANT}"), &[]) {
                        Ok(_) => continue,
                        Err(faults) => faults.to_string(),
                    };
                    assert!(!said.contains("0123456789abcdef"), "{path} = {value}: {said}");
                }
            }
        }
    }

    #[test]
    fn plaintext_on_any_address_has_to_be_allowed() {
        let variables = [
            ("LEADGATE__SERVER__LISTEN", "0.0.0.0:1"),
            ("LEADGATE__SERVER__INSECURE_PLAINTEXT", "true"),
        ];
        assert!(read(TENANT, &variables).is_ok());
        assert!(errors(TENANT, &variables[..1])[0].starts_with("LEADGATE__SERVER__LISTEN: server.listen: must be"));
    }

    #[test]
    fn admin_pages_on_any_address_have_to_be_allowed() {
        let allowed = ("LEADGATE__ADMIN__INSECURE_PLAINTEXT", "true");
        for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"] {
            let listen = ("LEADGATE__ADMIN__LISTEN", address);
            assert!(read(TENANT, &[listen, allowed]).is_ok());
            let start = "LEADGATE__ADMIN__LISTEN: admin.listen: must be a loopback address";
            assert!(errors(TENANT, &[listen])[0].starts_with(start));
            // One is not the other.
            let server = ("LEADGATE__SERVER__INSECURE_PLAINTEXT", "true");
            assert!(errors(TENANT, &[listen, server])[0].starts_with(start));
        }
        for address in ["127.0.0.1:9464", "[::1]:9464"] {
            assert!(read(TENANT, &[("LEADGATE__ADMIN__LISTEN", address)]).is_ok());
        }
    }

    #[test]
    fn sizes_of_messages_and_metadata_have_their_ranges() {
        for (setting, least, most) in [
            ("max_response_bytes", 16_384_u64, 2_147_483_647),
            ("max_metadata_bytes", 1_024, 1_048_576),
        ] {
            let with = |value: u64| format!("{TENANT}\n[server]\n{setting} = {value}");
            let key = [("LSQ_SECRET_KEY", "s")];
            assert!(read(&with(least), &key).is_ok() && read(&with(most), &key).is_ok());
            for wrong in [least - 1, most + 1] {
                let expected = format!("test.toml: server.{setting}: must be {least} to {most}");
                assert_eq!(errors(&with(wrong), &key), [expected]);
            }
        }
    }
}
