//! Every setting and its check. Embedded defaults come first, then a file, then the environment. The errors of a configuration
//! are reported together, each with its origin, its path and the expected value.

mod auth;
mod cluster;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};
use url::Url;

use crate::audit::AuditSettings;
use crate::files::{self, Contents};
use crate::gateway::{ActivityOffset, Batching, CountryCode, WriteSettings};
use crate::identity::{AdminToken, AuthConfig, Registry};
use crate::rest::RestSettings;
use crate::store::{Store, StoreOptions};
use crate::telemetry::log;
use crate::telemetry::trace::{TelemetrySettings, TraceSettings};
use crate::tls::TlsSettings;
use crate::{crm, grpc, quota, sharing};
use auth::AuthSettings;
pub use auth::CallerConfig;
pub use cluster::ClusterConfig;
use cluster::ClusterContext;
pub use warnings::{UsableCredentials, log_warnings, unknown_attributes};

/// Every setting with its default and its description.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// The prefix of environment variables that are settings.
const PREFIX: &str = "LEADGATE__";
/// Maximum of `store.keep_request_ids`.
const MAX_KEEP_REQUEST_IDS: Duration = Duration::from_secs(365 * 24 * 3600);
/// Maximum of `store.max_connections`.
const MAX_CONNECTIONS: u32 = 1000;
/// The range of `store.connect_timeout`.
const CONNECT_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// The settings of a tenant that have no default.
const TENANT_WITHOUT_DEFAULT: [&str; 4] = ["access_key", "base_url", "next", "secret_key"];
/// The settings of `server.tls`, which has no defaults.
const TLS: [&str; 3] = ["cert_file", "client_ca_file", "key_file"];

/// All settings, checked.
#[derive(Debug)]
pub struct Config {
    /// The address of the gRPC server.
    pub listen: SocketAddr,
    /// The settings of the gRPC server.
    pub server: grpc::ServerSettings,
    /// The files for TLS. `None`: the gRPC server uses plaintext.
    pub tls: Option<TlsSettings>,
    /// The settings of the REST listener.
    pub rest: RestSettings,
    /// The files for TLS of the REST listener. `None`: it uses plaintext.
    pub rest_tls: Option<TlsSettings>,
    /// The address of the admin pages.
    pub admin_listen: SocketAddr,
    /// The token of steering requests to the admin port. `None`: they are not accepted.
    pub admin_token: Option<crm::KeySource>,
    /// The store.
    pub store: StoreOptions,
    /// The time for which request ids are kept.
    pub keep_request_ids: Duration,
    /// How this replica reaches others. `None`: it is the only process of its store.
    pub cluster: Option<ClusterConfig>,
    /// The settings of the log.
    pub log: log::LogSettings,
    /// The settings of traces. `None`: traces are off.
    pub traces: Option<TraceSettings>,
    /// The settings of the audit.
    pub audit: AuditSettings,
    /// How callers are identified.
    pub auth: AuthConfig,
    /// The settings of each named caller.
    pub callers: BTreeMap<String, CallerConfig>,
    /// The callers by their credentials.
    pub registry: Registry,
    /// The quota settings of all other callers.
    pub other_callers: quota::CallerQuota,
    /// The accounts by name.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// Where the settings are from, to read them again. `None`: not from a file.
    pub source: Option<ConfigSource>,
    /// The settings that hold until the process ends.
    pub fixed: FixedSettings,
}

/// The file and the environment that settings are from.
#[derive(Clone)]
pub struct ConfigSource {
    file: PathBuf,
    /// The contents of the file from before it was read.
    contents: Contents,
    environment: Vec<(String, String)>,
}

/// The settings that take effect without a restart.
#[derive(Debug)]
pub struct ReloadedSettings {
    /// The settings of each named caller.
    pub callers: BTreeMap<String, CallerConfig>,
    /// The quota settings of all other callers.
    pub other_callers: quota::CallerQuota,
    /// The callers by their credentials.
    pub registry: Registry,
    /// The limits of each tenant.
    pub limits: BTreeMap<String, quota::QuotaLimits>,
    /// The settings that need a restart.
    pub fixed: FixedSettings,
    /// The errors in the settings that need a restart.
    pub later_errors: Vec<ConfigError>,
}

/// The values of the settings that are not read again, by path.
#[derive(Clone)]
pub struct FixedSettings(BTreeMap<String, Value>);

impl ConfigSource {
    /// The contents of the file from before it was read.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Reads the settings again. Errors in settings that need a restart do not matter now, so that a credential can be removed
    /// while, for example, a certificate cannot be read.
    pub fn read(&self) -> Result<ReloadedSettings, ConfigErrors> {
        let name = self.file.display().to_string();
        let text = read_file(&self.file)?;
        let mut reader = Reader::new(&name, &text, self.environment.iter().cloned());
        reader.config();
        let is_now = |error: &ConfigError| error.path.is_empty() || is_reloaded(&error.path);
        let (errors, later_errors): (Vec<_>, Vec<_>) = reader.errors.into_iter().partition(is_now);
        match (reader.reloaded, errors.is_empty()) {
            (Some(reloaded), true) => Ok(ReloadedSettings {
                later_errors,
                ..reloaded
            }),
            _ => Err(ConfigErrors(errors)),
        }
    }
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may have keys.
        f.debug_struct("ConfigSource")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FixedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be keys.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FixedSettings {
    fn new(all: &Table) -> Self {
        let mut settings = BTreeMap::new();
        for (name, value) in all {
            collect(name, value, &mut settings);
        }
        settings.retain(|path, _| !is_reloaded(path));
        Self(settings)
    }

    /// Returns the paths of the settings that differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differing = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path));
        differing.cloned().collect()
    }
}

/// Collects the settings of a table by path.
fn collect(path: &str, value: &Value, settings: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                collect(&format!("{path}.{name}"), value, settings);
            }
        }
        _ => drop(settings.insert(path.to_owned(), value.clone())),
    }
}

/// Whether a changed setting takes effect without a restart.
fn is_reloaded(path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    matches!(
        parts.as_slice(),
        ["callers" | "caller_defaults", ..] | ["tenant_defaults", "limits", ..] | ["tenants", _, "limits", ..]
    )
}

/// The settings of one account, checked.
#[derive(Clone, Debug)]
pub struct TenantConfig {
    /// The address of the account's API.
    pub base_url: Url,
    /// The account's keys.
    pub keys: crm::Keys,
    /// The account's rate limits.
    pub limits: quota::QuotaLimits,
    /// The settings of the connection to the API.
    pub upstream: crm::CrmSettings,
    /// The settings of writes.
    pub writes: WriteSettings,
    /// The time after which metadata is refreshed.
    pub metadata_lifetime: Duration,
    /// The unit of the offset in lists of a lead's activities.
    pub activity_offset: ActivityOffset,
    /// The country code of phone numbers without one.
    pub default_country_code: CountryCode,
    /// The settings of shares.
    pub sharing: sharing::SharingSettings,
    /// The settings of batching.
    pub batching: Batching,
}

impl TenantConfig {
    /// Whether the limits of the account's plan have their default values.
    pub fn has_default_limits(&self) -> bool {
        let defaults: Table = DEFAULTS.parse().expect("a test reads the defaults");
        let defaults = defaults["tenant_defaults"]["limits"].clone();
        let defaults: Result<quota::QuotaLimits, _> = defaults.try_into();
        let limits = &self.limits;
        defaults.is_ok_and(|defaults| {
            (limits.calls, limits.bulk, limits.window) == (defaults.calls, defaults.bulk, defaults.window)
        })
    }
}

/// The errors of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One error of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The origin of the value: the name of a file, or an environment variable.
    pub origin: String,
    /// The path of the setting, such as `tenants.acme.limits.calls`. Empty if the file as a whole is invalid.
    pub path: String,
    /// What is wrong: the expected value, in most cases.
    pub message: String,
    /// Whether a required setting is absent. The file may be incomplete.
    pub is_absent: bool,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "invalid configuration: {count} error{plural}")?;
        for ConfigError {
            origin, path, message, ..
        } in &self.0
        {
            let separator = if path.is_empty() { "" } else { ": " };
            write!(f, "\n  {origin}: {path}{separator}{message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The errors of a section: the name of each invalid setting, and the expected value.
type SectionErrors = Vec<(&'static str, String)>;

/// The settings of `[server]` that [`grpc::ServerSettings`] does not have.
#[derive(Deserialize)]
struct ServerAddress {
    listen: SocketAddr,
    insecure_plaintext: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdminSettings {
    listen: SocketAddr,
    insecure_plaintext: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreSettings {
    url: String,
    password: String,
    max_connections: u32,
    #[serde(with = "humantime_serde")]
    connect_timeout: Duration,
    #[serde(with = "humantime_serde")]
    keep_request_ids: Duration,
}

/// The settings of `[tenants.NAME]` that have a default and are not in a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantSettings {
    activity_offset: ActivityOffset,
    default_country_code: CountryCode,
    #[serde(with = "humantime_serde")]
    metadata_lifetime: Duration,
    insecure_plaintext: bool,
}

impl ServerAddress {
    /// `is_protected`: connections use TLS, and callers are identified.
    fn validate(&self, is_protected: bool) -> SectionErrors {
        match is_protected || self.insecure_plaintext || self.listen.ip().is_loopback() {
            true => vec![],
            false => vec![(
                "listen",
                "must be a loopback address, because every client could use the gateway; server.tls together with \
                 auth.mode = \"callers\" allows any, and so does server.insecure_plaintext = true"
                    .to_owned(),
            )],
        }
    }
}

impl AdminSettings {
    fn validate(&self) -> SectionErrors {
        match self.insecure_plaintext || self.listen.ip().is_loopback() {
            true => vec![],
            false => vec![(
                "listen",
                "must be a loopback address, because the pages are served without TLS and authentication; \
                 admin.insecure_plaintext = true allows any"
                    .to_owned(),
            )],
        }
    }
}

impl StoreSettings {
    fn validate(&self, environment: &BTreeMap<String, String>) -> SectionErrors {
        let mut errors = vec![];
        if self.keep_request_ids > MAX_KEEP_REQUEST_IDS {
            errors.push(("keep_request_ids", "must be at most 365 days".to_owned()));
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.max_connections) {
            errors.push(("max_connections", format!("must be from 1 to {MAX_CONNECTIONS}")));
        }
        if !CONNECT_TIMEOUTS.contains(&self.connect_timeout) {
            errors.push(("connect_timeout", "must be from 100ms to 60s".to_owned()));
        }
        let options = self.options(environment);
        if options.is_postgres() {
            let checked = Store::check_options(&options);
            errors.extend(checked.err().map(|error| ("url", error.to_string())));
            if options.has_password_in_url() && !self.password.is_empty() {
                errors.push(("password", "is also in store.url: remove one of them".to_owned()));
            }
            return errors;
        }
        let path = self.url.strip_prefix("sqlite://");
        let is_file = path.is_some_and(|path| !path.is_empty() && !path.contains('?'));
        if self.url != "sqlite::memory:" && !is_file {
            let text = "must be \"sqlite://PATH\", \"postgres://USER@HOST/DATABASE\", or \"sqlite::memory:\" to keep nothing after \
                        the end of the process";
            errors.push(("url", text.to_owned()));
        }
        if !self.password.is_empty() {
            errors.push(("password", "is only for a PostgreSQL store".to_owned()));
        }
        errors
    }

    fn options(&self, environment: &BTreeMap<String, String>) -> StoreOptions {
        let options = StoreOptions::new(&self.url).with_environment(environment.clone());
        StoreOptions {
            password: (!self.password.is_empty()).then(|| self.password.as_str().into()),
            max_connections: self.max_connections,
            connect_timeout: self.connect_timeout,
            ..options
        }
    }
}

impl Config {
    /// Reads the settings of a file, if one is given, and of the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let contents = files::contents(file);
        let (name, text) = match file {
            None => (String::new(), String::new()),
            Some(path) => {
                let name = path.display().to_string();
                (name, read_file(path)?)
            }
        };
        let environment: Vec<(String, String)> = environment.collect();
        let mut config = Self::read(&name, &text, environment.iter().cloned())?;
        config.source = file.map(|file| ConfigSource {
            file: file.to_owned(),
            contents,
            environment,
        });
        Ok(config)
    }

    /// Reads the settings of the text of a file and of the environment.
    pub fn read(
        name: &str,
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(name, text, environment);
        match (reader.config(), reader.errors.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err(ConfigErrors(reader.errors)),
        }
    }
}

fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    std::fs::read_to_string(path).map_err(|error| {
        ConfigErrors(vec![ConfigError {
            origin: path.display().to_string(),
            path: String::new(),
            message: format!("reading the file failed: {error}"),
            is_absent: false,
        }])
    })
}

/// Reads all sections, and collects the errors of each.
struct Reader {
    defaults: Table,
    file_name: String,
    file: Table,
    environment: BTreeMap<String, String>,
    /// The settings in the environment, as a table.
    variables: Table,
    errors: Vec<ConfigError>,
    /// The limits of the tenants that have been read.
    limits: BTreeMap<String, quota::QuotaLimits>,
    /// Set when these settings have been read, also if others have errors.
    reloaded: Option<ReloadedSettings>,
}

impl Reader {
    fn new(name: &str, text: &str, environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut reader = Self {
            defaults: DEFAULTS.parse().expect("a test reads the defaults"),
            file_name: name.to_owned(),
            file: Table::new(),
            environment: environment.collect(),
            variables: Table::new(),
            errors: vec![],
            limits: BTreeMap::new(),
            reloaded: None,
        };
        match text.parse() {
            Ok(table) => reader.file = table,
            Err(error) => reader.errors.push(ConfigError {
                origin: name.to_owned(),
                path: String::new(),
                // Without the line itself, which may hold a key.
                message: format!(
                    "invalid TOML{}: {}",
                    in_line(text, error.span()),
                    one_line(error.message())
                ),
                is_absent: false,
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
            // The value of a setting whose default is a string stays a string, also if it looks like a number.
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
        let fixed = FixedSettings::new(&all);

        let mut server = self.take_table(&[], &mut all, "server");
        let address = split(&mut server, &["listen", "insecure_plaintext"]);
        let tls = server.remove("tls");
        let has_tls = tls.is_some();
        let auth = self.section(&[], &mut all, "auth", AuthSettings::validate);
        let is_protected = has_tls && auth.as_ref().is_some_and(AuthSettings::identifies_callers);
        let address = self.checked(&["server"], address, |address: &ServerAddress| {
            address.validate(is_protected)
        });
        let tls = tls.map(|tls| self.tls(&["server", "tls"], tls));
        let server = self.checked(&["server"], server, grpc::ServerSettings::validate);
        let mut rest = self.take_table(&[], &mut all, "rest");
        let rest_tls = rest.remove("tls").map(|tls| self.tls(&["rest", "tls"], tls));
        if let Some(Some(TlsSettings {
            client_ca_file: Some(_),
            ..
        })) = &rest_tls
        {
            let text = "must not be set: the REST listener does not ask for client certificates";
            self.error(&["rest", "tls", "client_ca_file"], text);
        }
        let has_rest_tls = has_tls || rest_tls.is_some();
        let rest = self.checked(&["rest"], rest, |rest: &RestSettings| rest.validate(has_rest_tls));
        let admin_token = self.admin_token(&mut all);
        let admin = self.section(&[], &mut all, "admin", AdminSettings::validate);
        let password_file = self.resolve_store_password(&mut all);
        let environment = self.environment.clone();
        let store = self.section(&[], &mut all, "store", |store: &StoreSettings| {
            store.validate(&environment)
        });
        let cluster = self.take_table(&[], &mut all, "cluster");
        let cluster_context = ClusterContext {
            store_url: store.as_ref().map_or("", |store| &store.url),
            tls: tls.as_ref().and_then(Option::as_ref),
            allows_plaintext: address.as_ref().is_some_and(|address| address.insecure_plaintext),
        };
        let cluster = self.cluster(cluster, &cluster_context);
        let log = self.section(&[], &mut all, "log", log::LogSettings::validate);
        let telemetry = self.section(&[], &mut all, "telemetry", TelemetrySettings::validate);
        let traces = telemetry.map(|telemetry| self.traces(&telemetry));
        let audit = self.section(&[], &mut all, "audit", AuditSettings::validate);
        let caller_defaults = self.take_table(&[], &mut all, "caller_defaults");
        let callers = self.named_tables(&mut all, "callers");
        let tenant_defaults = self.take_table(&[], &mut all, "tenant_defaults");
        let tenants = self.named_tables(&mut all, "tenants");
        for (key, _) in all {
            let message = self.unknown_setting(&[], &key);
            self.error(&[&key], &message);
        }

        let tenant_names: Vec<String> = tenants.keys().cloned().collect();
        let callers = self.each(callers, &caller_defaults, "callers", |reader, name, table| {
            reader.caller(name, table, &tenant_names)
        });
        let other_callers = self.other_callers(caller_defaults);
        let registry = self.registry(callers.as_ref());
        if tenants.is_empty() {
            let text = "at least one [tenants.NAME] is required, with base_url, access_key and secret_key";
            self.absent(&["tenants"], text);
        }
        let tenants = self.each(tenants, &tenant_defaults, "tenants", Self::tenant);
        if let (Some(callers), Some(other_callers), Some(registry)) = (&callers, &other_callers, &registry) {
            self.reloaded = Some(ReloadedSettings {
                callers: callers.clone(),
                other_callers: other_callers.clone(),
                registry: registry.clone(),
                limits: std::mem::take(&mut self.limits),
                fixed: fixed.clone(),
                later_errors: vec![],
            });
        }

        let (address, store) = (address?, store?);
        let keep_request_ids = store.keep_request_ids;
        let store = StoreOptions {
            password_file,
            ..store.options(&self.environment)
        };
        Some(Config {
            listen: address.listen,
            server: server?,
            rest_tls: match rest_tls {
                None => tls.clone().flatten().map(|tls| TlsSettings {
                    client_ca_file: None,
                    ..tls
                }),
                Some(tls) => Some(tls?),
            },
            tls: match tls {
                None => None,
                Some(tls) => Some(tls?),
            },
            rest: rest?,
            admin_listen: admin?.listen,
            admin_token,
            store,
            keep_request_ids,
            cluster: cluster?,
            log: log?,
            traces: traces?,
            audit: audit?,
            auth: auth?.config(),
            callers: callers?,
            registry: registry?,
            other_callers: other_callers?,
            tenants: tenants?,
            source: None,
            fixed,
        })
    }

    /// Returns the settings of traces, with the standard environment variables over them.
    fn traces(&mut self, telemetry: &TelemetrySettings) -> Option<TraceSettings> {
        let errors = match telemetry.traces(&self.environment) {
            Ok(traces) => return traces,
            Err(errors) => errors,
        };
        for error in errors {
            self.errors.push(ConfigError {
                origin: "the environment".to_owned(),
                path: error.variable.to_owned(),
                message: error.message,
                is_absent: false,
            });
        }
        None
    }

    /// Builds the registry. A credential of two callers is an error.
    fn registry(&mut self, callers: Option<&BTreeMap<String, CallerConfig>>) -> Option<Registry> {
        let callers = callers?.iter().map(|(name, caller)| (name.as_str(), &caller.identity));
        match Registry::new(callers) {
            Ok(registry) => Some(registry),
            Err(conflicts) => {
                for conflict in conflicts {
                    let at = ["callers", &conflict.caller, conflict.setting];
                    self.error(&at, &conflict.to_string());
                }
                None
            }
        }
    }

    fn tls(&mut self, at: &[&str], tls: Value) -> Option<TlsSettings> {
        match tls {
            Value::Table(table) => self.checked(at, table, TlsSettings::validate),
            _ => {
                self.error(at, "must be a table { cert_file, key_file, client_ca_file }");
                None
            }
        }
    }

    fn tenant(&mut self, name: &str, mut table: Table) -> Option<TenantConfig> {
        let at = ["tenants", name];
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(is_name) {
            self.error(
                &at,
                "the name of a tenant may have lower-case letters, digits, - and _ only",
            );
        }
        let base_url = table.remove("base_url");
        let first = self.key_pair(&at, &mut table);
        let next = self.next_pair(&[at[0], name, "next"], &mut table);
        let limits = self.section(&at, &mut table, "limits", quota::QuotaLimits::validate);
        if let Some(limits) = &limits {
            self.limits.insert(name.to_owned(), limits.clone());
        }
        self.resolve_proxy(&at, &mut table);
        let upstream = self.section(&at, &mut table, "upstream", crm::CrmSettings::validate);
        let writes = self.section(&at, &mut table, "writes", |_: &WriteSettings| vec![]);
        let sharing = self.section(&at, &mut table, "sharing", sharing::SharingSettings::validate);
        let batching = self.section(&at, &mut table, "batching", Batching::validate);
        let settings: Option<TenantSettings> = self.checked(&at, table, |_| vec![]);
        let is_insecure = settings.as_ref().is_some_and(|settings| settings.insecure_plaintext);
        let base_url = self.base_url(&[at[0], name, "base_url"], base_url, is_insecure);
        let (settings, base_url, upstream) = (settings?, base_url?, upstream?);
        if upstream.refuses(&base_url) {
            self.error(
                &[at[0], name, "base_url"],
                "must not be a private address; upstream.allow_private_addresses = true allows it",
            );
        }
        Some(TenantConfig {
            base_url,
            keys: crm::Keys {
                first: first?,
                next: next?,
            },
            limits: limits?,
            upstream,
            writes: writes?,
            sharing: sharing?,
            batching: batching?,
            metadata_lifetime: settings.metadata_lifetime,
            activity_offset: settings.activity_offset,
            default_country_code: settings.default_country_code,
        })
    }

    /// Reads `access_key` and `secret_key` of a table.
    fn key_pair(&mut self, at: &[&str], table: &mut Table) -> Option<crm::KeyPairSource> {
        let mut key = |name: &str| {
            let value = table.remove(name);
            self.key(&[at, &[name]].concat(), value)
        };
        let (access, secret) = (key("access_key"), key("secret_key"));
        Some(crm::KeyPairSource {
            access: access?,
            secret: secret?,
        })
    }

    /// Reads the next pair of keys, if there is one.
    fn next_pair(&mut self, at: &[&str; 3], table: &mut Table) -> Option<Option<crm::KeyPairSource>> {
        let mut next = match table.remove(at[2]) {
            None => return Some(None),
            Some(Value::Table(next)) => next,
            Some(_) => {
                self.error(at, "must be a table with access_key and secret_key");
                return None;
            }
        };
        let pair = self.key_pair(at, &mut next);
        for (key, _) in next {
            let text = "unknown setting; known settings: access_key, secret_key";
            self.error(&[at.as_slice(), &[key.as_str()]].concat(), text);
        }
        pair.map(Some)
    }

    /// Reads `upstream.proxy`, which may be given like a key, since it may hold a password.
    fn resolve_proxy(&mut self, at: &[&str; 2], table: &mut Table) {
        let Some(Value::Table(upstream)) = table.get_mut("upstream") else {
            return;
        };
        if let Some(source @ Value::Table(_)) = upstream.get("proxy").cloned() {
            let source = self.key(&[at[0], at[1], "upstream", "proxy"], Some(source));
            let proxy = source.and_then(|source| source.read().ok());
            let proxy = proxy.as_ref().map_or("", ExposeSecret::expose_secret);
            upstream.insert("proxy".to_owned(), Value::String(proxy.to_owned()));
        }
    }

    /// Reads `admin.token`, which may be given like a key.
    fn admin_token(&mut self, all: &mut Table) -> Option<crm::KeySource> {
        let at = ["admin", "token"];
        let Some(Value::Table(admin)) = all.get_mut(at[0]) else {
            return None;
        };
        let given = admin.remove(at[1])?;
        let source = self.key(&at, Some(given))?;
        let token = source.read().ok()?;
        if let Err(error) = AdminToken::new(token.expose_secret()) {
            self.error(&at, &error);
        }
        Some(source)
    }

    /// Reads `store.password`, which may be given like a key. Returns its file.
    fn resolve_store_password(&mut self, all: &mut Table) -> Option<PathBuf> {
        let at = ["store", "password"];
        let Some(Value::Table(store)) = all.get_mut("store") else {
            return None;
        };
        let Some(Value::Table(source)) = store.get("password") else {
            return None;
        };
        let file = source.get("file").and_then(Value::as_str).map(PathBuf::from);
        let password = match (source.len(), source.get("env"), source.get("file")) {
            (1, Some(Value::String(name)), _) => {
                self.environment
                    .get(name)
                    .cloned()
                    .ok_or_else(|| match is_variable_name(name) {
                        true => format!("the environment variable {name} is not set"),
                        false => format!("the environment variable is not set {HIDDEN}; env is the name of a variable"),
                    })
            }
            (1, _, Some(Value::String(path))) => std::fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("reading {path} failed: {error}")),
            _ => Err(KEY_FORMS.to_owned()),
        };
        let password = password.and_then(|text| match text.is_empty() {
            true => Err("must not be empty".to_owned()),
            false => Ok(text),
        });
        let password = password.map_err(|error| self.error(&at, &error)).unwrap_or_default();
        store.insert("password".to_owned(), Value::String(password));
        file
    }

    /// Reads the table of that name as a section, and checks it.
    fn section<T: DeserializeOwned>(
        &mut self,
        at: &[&str],
        table: &mut Table,
        name: &str,
        validate: impl FnOnce(&T) -> SectionErrors,
    ) -> Option<T> {
        let section = self.take_table(at, table, name);
        self.checked(&[at, &[name]].concat(), section, validate)
    }

    /// Reads a table as a section, and checks it.
    fn checked<T: DeserializeOwned>(
        &mut self,
        at: &[&str],
        table: Table,
        validate: impl FnOnce(&T) -> SectionErrors,
    ) -> Option<T> {
        let section: T = self.typed(at, table)?;
        for (key, message) in validate(&section) {
            self.error(&[at, &[key]].concat(), &message);
        }
        Some(section)
    }

    /// Reads each of the named tables, over the defaults. Returns `None` if one of them cannot be read.
    fn each<T>(
        &mut self,
        tables: Table,
        defaults: &Table,
        section: &str,
        read: impl Fn(&mut Self, &str, Table) -> Option<T>,
    ) -> Option<BTreeMap<String, T>> {
        let mut all = Some(BTreeMap::new());
        for (name, value) in tables {
            let settings = match value {
                Value::Table(given) => {
                    let mut table = defaults.clone();
                    merge(&mut table, given);
                    read(self, &name, table)
                }
                _ => {
                    self.error(&[section, &name], "must be a table");
                    None
                }
            };
            match (&mut all, settings) {
                (Some(all), Some(settings)) => drop(all.insert(name, settings)),
                _ => all = None,
            }
        }
        all
    }

    /// Removes the tables `[name.NAME]` from a table and returns them.
    fn named_tables(&mut self, all: &mut Table, name: &'static str) -> Table {
        match all.remove(name) {
            None => Table::new(),
            Some(Value::Table(tables)) => tables,
            Some(_) => {
                self.error(&[name], &format!("must be tables [{name}.NAME]"));
                Table::new()
            }
        }
    }

    /// Removes a table from a table and returns it. A value that is not a table is an error, and the defaults are used.
    fn take_table(&mut self, at: &[&str], table: &mut Table, name: &str) -> Table {
        if let Some(Value::Table(section)) = table.remove(name) {
            return section;
        }
        let path = [at, &[name]].concat();
        self.error(&path, "must be a table");
        let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
        match self.default_of(&path) {
            Some(Value::Table(section)) => section.clone(),
            _ => Table::new(),
        }
    }

    /// Deserializes a table. After each error, the default replaces the invalid setting, so that the next error is found.
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
            let missing = message
                .strip_prefix("missing field `")
                .and_then(|rest| rest.strip_suffix('`'));
            let place = error.path().to_string();
            let (key, message) = match (unknown, missing) {
                (Some(name), _) => {
                    let message = self.unknown_setting(at, &name);
                    (name, message)
                }
                (None, Some(name)) => (name.to_owned(), "is required".to_owned()),
                (None, None) => (
                    place.split('.').next().unwrap_or_default().to_owned(),
                    expectation(&message),
                ),
            };
            let path = [at, &[key.as_str()]].concat();
            match missing {
                Some(_) => self.absent(&path, &message),
                None => self.error(&path, &message),
            }
            let owned: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            match self.default_of(&owned).cloned() {
                Some(default) if table.get(&key) != Some(&default) => {
                    table.insert(key, default);
                }
                // Without an invalid setting to replace, the same error would occur again.
                _ => {
                    table.remove(&key)?;
                }
            }
        }
    }

    /// Returns the message for an unknown setting, with the nearest known one.
    fn unknown_setting(&self, at: &[&str], name: &str) -> String {
        let path: Vec<String> = at.iter().map(|part| (*part).to_owned()).collect();
        let mut known: Vec<&str> = match self.default_of(&path) {
            Some(Value::Table(table)) => table.keys().map(String::as_str).collect(),
            _ if at.is_empty() => self
                .defaults
                .keys()
                .map(String::as_str)
                .chain(["callers", "tenants"])
                .collect(),
            _ => vec![],
        };
        match at {
            ["tenants", _] => known.extend(TENANT_WITHOUT_DEFAULT),
            ["server"] => known.push("tls"),
            ["rest"] => known.extend(["listen", "tls"]),
            ["server" | "rest", "tls"] => known.extend(TLS),
            ["cluster"] => known.push("secret"),
            ["admin"] => known.push("token"),
            _ => {}
        }
        known.sort_unstable();
        let nearest = known.iter().map(|known| (distance(name, known), *known)).min();
        match nearest {
            Some((distance, nearest)) if distance <= name.len().max(3) / 3 => {
                format!("unknown setting; did you mean {nearest}?")
            }
            _ => format!("unknown setting; known settings: {}", known.join(", ")),
        }
    }

    /// Returns the default of a setting. The default of `callers.NAME.X` is `caller_defaults.X`, and that of `tenants.NAME.X` is
    /// `tenant_defaults.X`.
    fn default_of(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = match path {
            [callers, _, rest @ ..] if callers == "callers" => ("caller_defaults", rest),
            [tenants, _, rest @ ..] if tenants == "tenants" => ("tenant_defaults", rest),
            [first, rest @ ..] => (first.as_str(), rest),
            [] => return None,
        };
        rest.iter()
            .try_fold(self.defaults.get(first)?, |value, name| value.get(name))
    }

    fn base_url(&mut self, at: &[&str], value: Option<Value>, is_insecure: bool) -> Option<Url> {
        const EXPECTED: &str = "must be the URL of the account's API, such as \"https://api-in21.leadsquared.com\"";
        let Some(value) = value else {
            self.absent(at, EXPECTED);
            return None;
        };
        let url = match value.as_str().map(Url::parse) {
            Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => {
                self.error(at, EXPECTED);
                return None;
            }
        };
        if url.scheme() == "http" && !is_loopback(&url) && !is_insecure {
            self.error(at, "must be https, because the keys are readable over plain HTTP");
        }
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        let has_path = !url.path().trim_end_matches('/').is_empty();
        let has_suffix = has_path || url.query().is_some() || url.fragment().is_some();
        if has_credentials || has_suffix {
            self.error(at, "must have a scheme and a host only; leadgate adds /v2 and the keys");
        }
        Some(url)
    }

    /// Reads a key: the value itself, an environment variable or a file. No error shows the value.
    fn key(&mut self, at: &[&str], value: Option<Value>) -> Option<crm::KeySource> {
        if value.is_none() {
            self.absent(at, KEY_FORMS);
            return None;
        }
        let source = match &value {
            Some(Value::String(text)) => Ok(crm::KeySource::Value(text.as_str().into())),
            Some(Value::Table(table)) if table.len() == 1 => match (table.get("env"), table.get("file")) {
                (Some(Value::String(name)), _) => self.key_of_variable(name),
                (_, Some(Value::String(path))) => key_of_file(path),
                _ => Err(KEY_FORMS.to_owned()),
            },
            _ => Err(KEY_FORMS.to_owned()),
        };
        let source = source.and_then(|source| source.read().map(|_| source));
        source.map_err(|error| self.error(at, &error)).ok()
    }

    fn key_of_variable(&self, name: &str) -> Result<crm::KeySource, String> {
        let value = self.environment.get(name);
        let value = value.map(|value| crm::KeySource::Value(value.as_str().into()));
        value.ok_or_else(|| match is_variable_name(name) {
            true => format!("the environment variable {name} is not set"),
            false => format!(
                "the environment variable is not set {HIDDEN}; env is the name of a variable, such as LSQ_ACCESS_KEY"
            ),
        })
    }

    /// Records an error of the setting at that path.
    fn error(&mut self, at: &[&str], message: &str) {
        self.record(at, message, false);
    }

    /// Records that the required setting at that path is absent.
    fn absent(&mut self, at: &[&str], message: &str) {
        self.record(at, message, true);
    }

    fn record(&mut self, at: &[&str], message: &str, is_absent: bool) {
        let path = at.join(".");
        let variable = format!("{PREFIX}{}", at.join("__").to_uppercase());
        let origin = if self.environment.keys().any(|name| name.starts_with(&variable)) {
            variable
        } else if self.file_name.is_empty() {
            "the environment".to_owned()
        } else {
            self.file_name.clone()
        };
        let error = ConfigError {
            origin,
            path,
            message: message.to_owned(),
            is_absent,
        };
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// Whether the host of a URL is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn key_of_file(path: &str) -> Result<crm::KeySource, String> {
    match std::fs::File::open(path) {
        Err(error) if !is_path(path) => Err(format!(
            "reading the file failed: {error} {HIDDEN}; file is the path of a file with the key"
        )),
        _ => Ok(crm::KeySource::File(path.into())),
    }
}

/// Moves some keys of a table into a table of their own.
fn split(table: &mut Table, keys: &[&str]) -> Table {
    keys.iter()
        .filter_map(|key| Some(((*key).to_owned(), table.remove(*key)?)))
        .collect()
}

/// Puts the values of one table over those of another.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            // A key has one source. A later source replaces an earlier one.
            (Some(Value::Table(under)), Value::Table(over)) if !key.ends_with("_key") && key != "secret" => {
                merge(under, over);
            }
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

/// Returns the line at which a span begins, as ` in line 3`.
fn in_line(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return String::new();
    };
    let line = before.matches('\n').count() + 1;
    format!(" in line {line}")
}

/// The forms in which a key is given.
const KEY_FORMS: &str = "must be a string, { env = \"NAME\" } or { file = \"PATH\" }";

/// Replaces a value in an error that may be a key.
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

/// Returns the expected value, without the given one, which may be a key in a wrong place.
fn expectation(message: &str) -> String {
    match message
        .split_once(", expected ")
        .or_else(|| message.split_once(" expected "))
    {
        Some((_, expected)) => format!("must be {expected}"),
        None => message.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the edit distance of two names: the number of inserted, deleted and replaced bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
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

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let variables = variables.iter().chain(&[("LSQ_SECRET_KEY", "0123")]);
        Config::read(
            "test.toml",
            text,
            variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let errors = read(text, variables).unwrap_err().0;
        errors
            .into_iter()
            .map(|error| format!("{}: {}: {}", error.origin, error.path, error.message))
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

    /// What a PostgreSQL store needs.
    const A_CLUSTER: &str = "[cluster]\nlisten = \"127.0.0.1:50052\"\nsecret = \"0123456789abcdef\"\n";

    #[test]
    fn the_password_of_the_store_is_a_value_a_variable_or_a_file() {
        use secrecy::ExposeSecret;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "of a file\n").unwrap();
        let file = format!("{{ file = \"{}\" }}", file.display());
        for (password, expected) in [
            ("\"\"", None),
            ("\"of a value\"", Some("of a value")),
            ("{ env = \"DATABASE_PASSWORD\" }", Some("of a variable")),
            (&file, Some("of a file")),
        ] {
            let text = format!(
                "{TENANT}[store]\nurl = \"postgres://leadgate@db/leadgate\"\npassword = {password}\n{A_CLUSTER}"
            );
            let config = read(&text, &[("DATABASE_PASSWORD", "of a variable")]).unwrap();
            let found = config.store.password.as_ref().map(|password| password.expose_secret());
            assert_eq!(found, expected);
            assert_eq!(config.store.password_file.is_some(), password.contains("file"));
            assert!(!format!("{config:?}").contains("of a value"), "{config:?}");
        }
    }

    #[test]
    fn the_settings_of_the_deployment_files_are_valid() {
        let directory = tempfile::tempdir().unwrap();
        let authority = rcgen::generate_simple_self_signed(vec!["leadgate".to_owned()]).unwrap();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        for name in [
            "compose/leadgate.toml",
            "kubernetes/base/leadgate.toml",
            "kubernetes/example/leadgate.toml",
        ] {
            let text = std::fs::read_to_string(deploy.join(name)).unwrap();
            let secrets = directory.path().join("secrets").display().to_string();
            // Each file that the settings name has a value of its kind.
            for path in text
                .split(['"', '=', '&'])
                .filter(|part| part.starts_with("/run/secrets/"))
            {
                let file = PathBuf::from(path.replacen("/run/secrets", &secrets, 1));
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                let content = match file.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => authority.cert.pem(),
                    Some("key") => authority.signing_key.serialize_pem(),
                    _ => "a-secret-of-20-bytes".to_owned(),
                };
                std::fs::write(file, content).unwrap();
            }
            let environment = [
                ("LEADGATE__CLUSTER__ADVERTISE", "10.0.0.5:50052"),
                ("LEADGATE_CLUSTER_SECRET", "a-secret-of-20-bytes"),
            ];
            if let Err(errors) = read(&text.replace("/run/secrets", &secrets), &environment) {
                panic!("{name}: {errors}");
            }
        }
    }

    #[test]
    fn an_invalid_store_is_an_error_without_its_password() {
        for (store, expected) in [
            (
                "url = \"postgres://u:pass@h/d?sslmode=no\"",
                "store.url: the store cannot be opened: sslmode must be",
            ),
            (
                "url = \"postgres://u:pass@h/d\"\npassword = \"pass\"",
                "store.password: is also in store.url",
            ),
            ("password = \"pass\"", "store.password: is only for a PostgreSQL store"),
            (
                "password = { env = \"NOT_SET\" }",
                "store.password: the environment variable NOT_SET is not set",
            ),
            ("max_connections = 0", "store.max_connections: must be from 1 to 1000"),
            (
                "connect_timeout = \"99ms\"",
                "store.connect_timeout: must be from 100ms to 60s",
            ),
            (
                "url = \"mysql://h\"",
                "store.url: must be \"sqlite://PATH\", \"postgres:",
            ),
        ] {
            let cluster = if store.contains("postgres:") { A_CLUSTER } else { "" };
            let found = errors(&format!("{TENANT}[store]\n{store}\n{cluster}"), &[]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected) && !found[0].contains("pass@"), "{found:?}");
        }
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
        assert_eq!(acme.keys.first.access.read().unwrap().expose_secret(), "0123");
        assert_eq!(acme.keys.first.secret.read().unwrap().expose_secret(), "0123");
        assert!(acme.keys.next.is_none());
    }

    #[test]
    fn every_error_is_reported_with_its_origin_and_path() {
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
        let found = errors(text, &[("LEADGATE__LOG__FORMAT", "xml")]);
        let expected = [
            "LEADGATE__LOG__FORMAT: log.format: ",
            "test.toml: nonsense: unknown setting; known settings: admin",
            "test.toml: server.listen: must be a loopback address",
            "test.toml: server.lissen: unknown setting; did you mean listen?",
            "test.toml: server.max_deadline: ",
            "test.toml: auth.mode: ",
            "test.toml: tenants.acme.base_url: must be https",
            "test.toml: tenants.acme.base_url: must have a scheme and a host only",
            "test.toml: tenants.acme.access_key: the environment variable NOT_THERE is not set",
            "test.toml: tenants.acme.secret_key: must be a string",
            "test.toml: tenants.acme.limits.calls: must be 1 to 10000",
            "test.toml: tenants.acme.limits.window: ",
            "test.toml: tenants.acme.limits.reserve: ",
            "test.toml: tenants.acme.upstream.http3: unknown setting; did you mean http2?",
        ];
        for start in expected {
            assert!(
                found.iter().any(|error| error.starts_with(start)),
                "{start}\nin {found:#?}"
            );
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn the_text_of_errors_has_one_line_for_each() {
        let text = |calls: &str| {
            let errors = read(&format!("{TENANT}\n[tenants.acme.limits]\n{calls}"), &[]);
            errors.unwrap_err().to_string()
        };
        assert_eq!(
            text("calls = 0"),
            "invalid configuration: 1 error\n  test.toml: tenants.acme.limits.calls: must be 1 to 10000"
        );
        assert_eq!(
            text("calls = 0\nbulk = 0"),
            "invalid configuration: 2 errors\n  test.toml: tenants.acme.limits.calls: must be 1 to 10000\n  \
             test.toml: tenants.acme.limits.bulk: must be 1 to 10000"
        );
    }

    #[test]
    fn an_unknown_setting_is_reported_with_the_nearest_name() {
        let message = |text: &str| errors(&format!("{text}\n{TENANT}"), &[]).remove(0);
        for (text, expected) in [
            ("sever.drain = \"1s\"", "sever: unknown setting; did you mean server?"),
            (
                "tenant_default.x = 1",
                "tenant_default: unknown setting; did you mean tenant_defaults?",
            ),
            (
                "server.max_inflight = 1",
                "server.max_inflight: unknown setting; did you mean max_in_flight?",
            ),
            (
                "callers.a.weights = 1",
                "callers.a.weights: unknown setting; did you mean weight?",
            ),
            (
                "callers.a.x = 1",
                "callers.a.x: unknown setting; known settings: allow, api_keys, calls_per_window, certificates, \
                 deny_fields, hide_fields, max_criticality, subjects, tenants, weight",
            ),
        ] {
            assert_eq!(message(text), format!("test.toml: {expected}"));
        }
        let tenant = TENANT.replace("base_url", "baseurl");
        assert!(errors(&tenant, &[])[0].ends_with("tenants.acme.baseurl: unknown setting; did you mean base_url?"));
    }

    #[test]
    fn a_setting_of_a_caller_may_come_from_the_environment() {
        let config = read(TENANT, &[("LEADGATE__CALLERS__BILLING__WEIGHT", "3")]).unwrap();
        assert_eq!(config.callers["billing"].quota.weight, 3);
    }

    #[test]
    fn a_missing_tenant_and_invalid_toml_are_errors() {
        assert!(errors("", &[])[0].contains("at least one [tenants.NAME]"));
        assert!(errors("server = [", &[])[0].contains("invalid TOML in line 1"));
        assert!(
            errors("server = 3\ntenants = 4", &[])
                .iter()
                .any(|error| error.contains("server: must be a table"))
        );
    }

    #[test]
    fn the_url_of_an_account_has_a_scheme_and_a_host_only() {
        let with = |url: &str| TENANT.replace("https://api-in21.leadsquared.com", url);
        for good in [
            "https://api.example",
            "https://api.example/",
            "https://api.example:8443",
        ] {
            assert!(read(&with(good), &[]).is_ok(), "{good}");
        }
        for end in [
            "api.example/v2",
            "api.example?a",
            "api.example#a",
            "SECRET@api.example",
            ":SECRET@api.example",
        ] {
            let found = errors(&with(&format!("https://{end}")), &[]);
            let expected =
                "test.toml: tenants.acme.base_url: must have a scheme and a host only; leadgate adds /v2 and the keys";
            assert_eq!(found, [expected], "{end}");
        }
    }

    #[test]
    fn an_invalid_country_code_is_an_error() {
        let with = |code: &str| format!("{TENANT}\n[tenant_defaults]\ndefault_country_code = \"{code}\"\n");
        let config = read(&with("+91"), &[]).unwrap();
        assert_eq!(config.tenants["acme"].default_country_code.as_str(), "91");
        assert!(read(&with("India"), &[]).is_err());
    }

    #[test]
    fn a_batch_size_above_the_maximum_of_the_vendor_is_an_error() {
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
    fn the_next_pair_of_keys_is_optional_and_complete() {
        use secrecy::ExposeSecret;
        let variables = [
            ("LEADGATE__TENANTS__ACME__NEXT__ACCESS_KEY", "u$rNext"),
            ("LEADGATE__TENANTS__ACME__NEXT__SECRET_KEY", "4567"),
        ];
        let config = read(TENANT, &variables).unwrap();
        let next = config.tenants["acme"].keys.next.as_ref().unwrap();
        assert_eq!(next.access.read().unwrap().expose_secret(), "u$rNext");
        assert_eq!(next.secret.read().unwrap().expose_secret(), "4567");
        assert!(next.files().is_empty());
        for (setting, expected) in [
            ("next = 3", "next: must be a table with access_key and secret_key"),
            (
                "next = { access_key = \"SECRET\" }",
                "next.secret_key: must be a string, { env",
            ),
            (
                "next = { access_key = \"SECRET\", secret_key = \"\" }",
                "next.secret_key: must not be empty",
            ),
            (
                "next = { access_key = \"SECRET\", secret_key = \"SEC RET\" }",
                "next.secret_key: must be printable",
            ),
            (
                "next = { access_key = \"SECRET\", secret_key = { file = \"/nonexistent\" } }",
                "next.secret_key: reading /nonexistent failed",
            ),
            (
                "next = { access_key = \"SECRET\", secret_key = \"SECRET\", key = \"SECRET\" }",
                "next.key: unknown setting; known settings: access_key, secret_key",
            ),
        ] {
            let found = errors(&format!("{TENANT}\n{setting}"), &[]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].starts_with(&format!("test.toml: tenants.acme.{expected}")),
                "{found:?}"
            );
            assert!(!found[0].contains("SEC"), "{found:?}");
        }
    }

    #[test]
    fn a_private_address_of_leadsquared_must_be_allowed() {
        for (host, is_private) in [
            ("10.0.0.1", true),
            ("169.254.169.254", true),
            ("0x7f.1", false),
            ("0xa.1", true),
            ("[::ffff:192.168.0.1]", true),
            ("[fd00::1]", true),
            ("[::1]", false),
            ("127.0.0.2", false),
            ("localhost", false),
            ("8.8.8.8", false),
        ] {
            let text = TENANT.replace("api-in21.leadsquared.com", host);
            let expected = match is_private {
                true => vec![
                    "test.toml: tenants.acme.base_url: must not be a private address; upstream.allow_private_addresses = true \
                     allows it"
                        .to_owned(),
                ],
                false => vec![],
            };
            let found = match read(&text, &[]) {
                Ok(_) => vec![],
                Err(_) => errors(&text, &[]),
            };
            assert_eq!(found, expected, "{host}");
            let allowed = [("LEADGATE__TENANT_DEFAULTS__UPSTREAM__ALLOW_PRIVATE_ADDRESSES", "true")];
            assert!(read(&text, &allowed).is_ok(), "{host}");
        }
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
    fn a_key_in_place_of_a_name_is_not_shown() {
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
        // A text that cannot be a key is shown.
        for (source, shown) in [
            ("{ env = \"LSQ_ACCESS_KEY_2\" }", "LSQ_ACCESS_KEY_2"),
            ("{ file = \"/run/secrets/none\" }", "reading /run/secrets/none failed"),
            ("{ file = \"./none\" }", "reading ./none failed"),
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
                        Err(errors) => errors.to_string(),
                    };
                    assert!(!said.contains("0123456789abcdef"), "{path} = {value}: {said}");
                }
            }
        }
    }

    #[test]
    fn plaintext_on_an_address_that_is_not_loopback_must_be_allowed() {
        let variables = [
            ("LEADGATE__SERVER__LISTEN", "0.0.0.0:1"),
            ("LEADGATE__SERVER__INSECURE_PLAINTEXT", "true"),
        ];
        assert!(read(TENANT, &variables).is_ok());
        assert!(errors(TENANT, &variables[..1])[0].starts_with("LEADGATE__SERVER__LISTEN: server.listen: must be"));
    }

    #[test]
    fn admin_pages_on_an_address_that_is_not_loopback_must_be_allowed() {
        let allowed = ("LEADGATE__ADMIN__INSECURE_PLAINTEXT", "true");
        for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"] {
            let listen = ("LEADGATE__ADMIN__LISTEN", address);
            assert!(read(TENANT, &[listen, allowed]).is_ok());
            let start = "LEADGATE__ADMIN__LISTEN: admin.listen: must be a loopback address";
            assert!(errors(TENANT, &[listen])[0].starts_with(start));
            // The setting of the server does not allow it.
            let server = ("LEADGATE__SERVER__INSECURE_PLAINTEXT", "true");
            assert!(errors(TENANT, &[listen, server])[0].starts_with(start));
        }
        for address in ["127.0.0.1:9464", "[::1]:9464"] {
            assert!(read(TENANT, &[("LEADGATE__ADMIN__LISTEN", address)]).is_ok());
        }
    }

    #[test]
    fn origins_of_pages_are_listed_one_by_one() {
        let key = ("LSQ_SECRET_KEY", "s");
        let origins = |value| ("LEADGATE__SERVER__CORS_ORIGINS", value);
        let config = read(
            TENANT,
            &[key, origins("[\"https://a.example\", \"http://localhost:8080\"]")],
        )
        .unwrap();
        assert_eq!(
            config.server.cors_origins,
            ["https://a.example", "http://localhost:8080"]
        );
        assert!(read(TENANT, &[key]).unwrap().server.cors_origins.is_empty());
        for (value, text) in [
            ("[\"https://a.example/\"]", "value 1 must be the origin of a page"),
            ("[\"https://a.example\", \"*\"]", "value 2 must not be \"*\""),
        ] {
            let errors = errors(TENANT, &[key, origins(value)]);
            let start = format!("LEADGATE__SERVER__CORS_ORIGINS: server.cors_origins: {text}");
            assert!(errors[0].starts_with(&start), "{errors:?}");
        }
    }

    #[test]
    fn sizes_of_messages_and_metadata_must_be_in_range() {
        for (setting, min, max) in [
            ("max_response_bytes", 16_384_u64, 2_147_483_647),
            ("max_metadata_bytes", 1_024, 1_048_576),
        ] {
            let with = |value: u64| format!("{TENANT}\n[server]\n{setting} = {value}");
            let key = [("LSQ_SECRET_KEY", "s")];
            assert!(read(&with(min), &key).is_ok() && read(&with(max), &key).is_ok());
            for wrong in [min - 1, max + 1] {
                let expected = format!("test.toml: server.{setting}: must be {min} to {max}");
                assert_eq!(errors(&with(wrong), &key), [expected]);
            }
        }
    }
}
