//! `[auth]`, and the credentials and permissions in `[callers.NAME]`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use toml::Table;
use url::Url;

use super::{Reader, SectionErrors, is_loopback, split};
use crate::context::Criticality;
use crate::identity::api_key::KeyHash;
use crate::identity::jwt::Expected;
use crate::identity::permission::Permissions;
use crate::identity::rest_key::{RestKey, RestRules, check_access_key};
use crate::identity::{AuthConfig, AuthMode, CallerIdentity, JwksSource, JwtConfig, check_name};
use crate::quota;
use crate::rest::{MAX_DURATION, REFUSAL_STATUSES};

/// Maximum of `auth.jwt.leeway`.
const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// The settings of `[callers.NAME]` that are not its part of the quota.
const IDENTITY: [&str; 11] = [
    "api_keys",
    "certificates",
    "subjects",
    "tenants",
    "allow",
    "deny_fields",
    "hide_fields",
    "rest_keys",
    "rest_criticality",
    "rest_max_wait",
    "rest_refusal_status",
];

/// The settings of one caller, checked.
#[derive(Clone, Debug)]
pub struct CallerConfig {
    /// Its part of the quota.
    pub quota: quota::CallerQuota,
    /// Its credentials and permissions.
    pub identity: CallerIdentity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthSettings {
    mode: AuthMode,
    jwt: JwtSettings,
}

/// `[auth.jwt]`. An empty issuer means that tokens are not accepted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtSettings {
    issuer: String,
    audience: String,
    jwks: JwksSettings,
    caller_claim: String,
    #[serde(with = "humantime_serde")]
    leeway: Duration,
}

/// Exactly one of both is not empty.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwksSettings {
    url: String,
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentitySettings {
    api_keys: Vec<String>,
    certificates: Vec<String>,
    subjects: Vec<String>,
    tenants: Vec<String>,
    allow: Vec<String>,
    deny_fields: Vec<String>,
    hide_fields: Vec<String>,
    #[serde(default)]
    rest_keys: Vec<RestKeySettings>,
    rest_criticality: Option<Criticality>,
    #[serde(default, with = "humantime_serde")]
    rest_max_wait: Option<Duration>,
    rest_refusal_status: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestKeySettings {
    access_key: String,
    secret_key: String,
    tenant: Option<String>,
}

impl AuthSettings {
    pub(super) fn validate(&self) -> SectionErrors {
        let jwt = &self.jwt;
        if jwt.issuer.is_empty() {
            return vec![];
        }
        let mut errors = vec![];
        if jwt.audience.is_empty() || jwt.caller_claim.is_empty() {
            errors.push(("jwt", "audience and caller_claim must not be empty".to_owned()));
        }
        if jwt.leeway > MAX_LEEWAY {
            errors.push(("jwt", "leeway must be at most 5m".to_owned()));
        }
        if let Err(error) = jwt.jwks.source() {
            errors.push(("jwt", error.to_owned()));
        }
        errors
    }

    /// Whether callers are identified.
    pub(super) fn identifies_callers(&self) -> bool {
        self.mode == AuthMode::Callers
    }

    pub(super) fn config(self) -> AuthConfig {
        let jwt = Some(self.jwt).filter(|jwt| !jwt.issuer.is_empty()).and_then(|jwt| {
            let jwks = jwt.jwks.source().ok()?;
            let expected = Expected {
                issuer: jwt.issuer,
                audience: jwt.audience,
                caller_claim: jwt.caller_claim,
                leeway: jwt.leeway,
            };
            Some(JwtConfig { expected, jwks })
        });
        AuthConfig { mode: self.mode, jwt }
    }
}

impl JwksSettings {
    fn source(&self) -> Result<JwksSource, &'static str> {
        match (self.url.as_str(), self.file.as_os_str().is_empty()) {
            ("", false) => Ok(JwksSource::File(self.file.clone())),
            (url, true) if !url.is_empty() => match Url::parse(url) {
                Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => {
                    Ok(JwksSource::Url(url))
                }
                _ => Err("jwks.url must be an https URL, since the keys in it decide which tokens are accepted"),
            },
            _ => Err("jwks must be { url = \"https://...\" } or { file = \"PATH\" }"),
        }
    }
}

/// Whether a name is that of a lead's id, by schema name or as in messages.
fn is_lead_id(name: &str) -> bool {
    ["ProspectID", "lead_id"].iter().any(|id| name.eq_ignore_ascii_case(id))
}

impl Reader {
    /// Reads the settings of one caller. `tenants`: the names of all tenants.
    pub(super) fn caller(&mut self, name: &str, mut table: Table, tenants: &[String]) -> Option<CallerConfig> {
        let at = ["callers", name];
        if let Err(error) = check_name(name) {
            self.error(&at, error);
        }
        let identity = split(&mut table, &IDENTITY);
        let quota = self.checked(&at, table, quota::CallerQuota::validate);
        let identity = self.typed::<IdentitySettings>(&at, identity)?;
        let known = |name: &str| match name == "*" || tenants.iter().any(|tenant| tenant == name) {
            true => Ok(name.to_owned()),
            false => Err("must be the name of a tenant, or \"*\" for all"),
        };
        let attribute = |name: &str| match name.is_empty() || name.contains(char::is_whitespace) {
            true => Err("must be the schema name of a lead attribute, such as \"mx_Salary\""),
            false => Ok(name.to_owned()),
        };
        let hidden = |name: &str| match is_lead_id(name) {
            true => Err("the id of a lead cannot be hidden"),
            false => attribute(name),
        };
        let subject = |subject: &str| match subject.is_empty() {
            true => Err("must be a value of the claim auth.jwt.caller_claim"),
            false => Ok(subject.to_owned()),
        };
        let rest_keys = self.rest_keys(&at, &identity, known);
        let rest = self.rest_rules(&at, &identity);
        let identity = CallerIdentity {
            rest_keys,
            rest,
            api_keys: self.entries(&at, "api_keys", &identity.api_keys, FromStr::from_str),
            certificates: self.entries(&at, "certificates", &identity.certificates, FromStr::from_str),
            subjects: self.entries(&at, "subjects", &identity.subjects, subject),
            permissions: Permissions {
                tenants: self
                    .entries(&at, "tenants", &identity.tenants, known)
                    .into_iter()
                    .collect(),
                allow: self.entries(&at, "allow", &identity.allow, FromStr::from_str),
                deny_fields: self
                    .entries(&at, "deny_fields", &identity.deny_fields, attribute)
                    .into_iter()
                    .collect(),
                hide_fields: self
                    .entries(&at, "hide_fields", &identity.hide_fields, hidden)
                    .into_iter()
                    .collect(),
            },
        };
        Some(CallerConfig {
            quota: quota?,
            identity,
        })
    }

    /// Reads the pairs of keys of a caller on the REST listener.
    fn rest_keys(
        &mut self,
        at: &[&str; 2],
        identity: &IdentitySettings,
        tenant: impl Fn(&str) -> Result<String, &'static str>,
    ) -> Vec<RestKey> {
        let setting = [at[0], at[1], "rest_keys"];
        let has_field_rules = !identity.deny_fields.is_empty() || !identity.hide_fields.is_empty();
        if has_field_rules && !identity.rest_keys.is_empty() {
            let text = "must be empty for a caller with deny_fields or hide_fields: the fields of calls of the REST API are not checked";
            self.error(&setting, text);
        }
        let mut keys = vec![];
        for (i, settings) in identity.rest_keys.iter().enumerate() {
            let key = check_access_key(&settings.access_key).and_then(|()| {
                Ok(RestKey {
                    access: KeyHash::of(&settings.access_key),
                    secret: settings
                        .secret_key
                        .parse()
                        .map_err(|_| "secret_key must be sha256: and 64 hexadecimal digits, as `leadgate caller new NAME --rest` prints it")?,
                    tenant: match &settings.tenant {
                        None => None,
                        Some(name) => Some(tenant(name).map_err(|_| "tenant must be the name of a tenant")?.into()),
                    },
                })
            });
            match key {
                Ok(key) => keys.push(key),
                Err(expected) => self.error(&setting, &format!("entry {}: {expected}", i + 1)),
            }
        }
        keys
    }

    /// Reads what a caller has of its own on the REST listener.
    fn rest_rules(&mut self, at: &[&str; 2], identity: &IdentitySettings) -> RestRules {
        let status = identity.rest_refusal_status;
        if status.is_some_and(|status| !REFUSAL_STATUSES.contains(&status)) {
            self.error(&[at[0], at[1], "rest_refusal_status"], "must be 429, 403 or 200");
        }
        if identity.rest_max_wait.is_some_and(|wait| wait > MAX_DURATION) {
            self.error(
                &[at[0], at[1], "rest_max_wait"],
                "must be at most a day; 0s: only a free slot",
            );
        }
        RestRules {
            criticality: identity.rest_criticality.map(Criticality::name),
            max_wait: identity.rest_max_wait,
            refusal_status: status,
        }
    }

    /// Reads the quota of callers without a table of their own. Credentials belong to one caller, so they have no default.
    pub(super) fn other_callers(&mut self, mut table: Table) -> Option<quota::CallerQuota> {
        let at = ["caller_defaults"];
        let identity = split(&mut table, &IDENTITY);
        if let Some(identity) = self.typed::<IdentitySettings>(&at, identity) {
            for (key, entries) in [
                ("api_keys", identity.api_keys),
                ("certificates", identity.certificates),
                ("subjects", identity.subjects),
                ("allow", identity.allow),
                (
                    "rest_keys",
                    identity.rest_keys.into_iter().map(|key| key.access_key).collect(),
                ),
            ] {
                if !entries.is_empty() {
                    self.error(
                        &[at[0], key],
                        &format!("must be set for each caller, in callers.NAME.{key}"),
                    );
                }
            }
        }
        self.checked(&at, table, quota::CallerQuota::validate)
    }

    /// Parses the entries of a list. The error of an entry has its number and not its text, which may be a key.
    fn entries<T>(
        &mut self,
        at: &[&str; 2],
        key: &str,
        texts: &[String],
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Vec<T> {
        let mut entries = vec![];
        for (i, text) in texts.iter().enumerate() {
            match parse(text) {
                Ok(entry) => entries.push(entry),
                Err(expected) => self.error(&[at[0], at[1], key], &format!("entry {}: {expected}", i + 1)),
            }
        }
        entries
    }
}
