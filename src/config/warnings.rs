//! Settings that are valid and probably not meant: credentials that cannot be used, and callers that may do nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use toml::Value;
use url::{Host, Url};

use super::{CallerConfig, Config, PREFIX};
use crate::domain::activity;
use crate::domain::field::Catalog;
use crate::domain::lead::schema_name;
use crate::grpc;
use crate::identity::permission::Permissions;
use crate::identity::{AuthMode, CallerIdentity, JwksSource};

const NO_LISTENER: &str = ".rest_keys: cannot be used without rest.listen";

/// Which credentials of callers can be used.
#[derive(Clone, Copy, Debug)]
pub struct UsableCredentials {
    mode: AuthMode,
    has_client_ca: bool,
    has_issuer: bool,
    has_rest: bool,
}

impl Config {
    /// Returns a text for each setting that is valid and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.usable_credentials().warnings(&self.callers);
        let has_keys = self.callers.values().any(|caller| {
            let identity = &caller.identity;
            !identity.api_keys.is_empty() || !identity.subjects.is_empty()
        });
        if self.auth.mode == AuthMode::Callers && self.tls.is_none() && has_keys && !self.listen.ip().is_loopback() {
            warnings.push(format!(
                "server.listen: API keys and tokens are sent to {} without TLS; server.tls encrypts them",
                self.listen
            ));
        }
        warnings.extend(self.shared_accounts());
        let origins = self.server.cors_origins.iter();
        warnings.extend(origins.filter(|origin| is_unencrypted(origin)).map(|origin| {
            format!(
                "server.cors_origins: the pages of {origin} are sent without TLS; an attacker on the network can change them, and call \
                 RPCs as their users"
            )
        }));
        if self.admin_token.is_some() && !self.admin_listen.ip().is_loopback() {
            warnings.push(format!(
                "admin.listen: admin.token is sent to {} without TLS; only operators may reach the address, over an encrypted network",
                self.admin_listen
            ));
        }
        warnings
    }

    /// Returns a text for each LeadSquared account that several tenants use. The texts do not have the key.
    fn shared_accounts(&self) -> Vec<String> {
        let mut accounts = BTreeMap::<String, Vec<&str>>::new();
        for (name, tenant) in &self.tenants {
            // A key that cannot be read is another error.
            if let Ok(key) = tenant.keys.first.access.read() {
                accounts.entry(key.expose_secret().to_owned()).or_default().push(name);
            }
        }
        let shared = |names: Vec<&str>| {
            let (first, others) = names.split_first().filter(|(_, others)| !others.is_empty())?;
            Some(format!(
                "tenants.{first}.access_key: is also the key of {}; these tenants share the quota of one LeadSquared account, but each \
                 uses all of it, so calls are refused",
                others.join(", ")
            ))
        };
        let mut texts: Vec<String> = accounts.into_values().filter_map(shared).collect();
        texts.sort_unstable();
        texts
    }

    /// Which credentials of callers can be used.
    pub fn usable_credentials(&self) -> UsableCredentials {
        UsableCredentials {
            mode: self.auth.mode,
            has_client_ca: self.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some()),
            has_issuer: self.auth.jwt.is_some(),
            has_rest: self.rest.listen.is_some(),
        }
    }

    /// Returns the files that decide who may do what, each with the setting that names it: the settings file, and the files with the
    /// CAs of clients and the keys of a token issuer.
    pub fn trusted_files(&self) -> Vec<(String, PathBuf)> {
        let source = self
            .source
            .as_ref()
            .map(|source| ("the settings file".to_owned(), source.file.clone()));
        let ca = self.tls.as_ref().and_then(|tls| tls.client_ca_file.clone());
        let ca = ca.map(|file| ("server.tls.client_ca_file".to_owned(), file));
        let jwks = self.auth.jwt.as_ref().and_then(|jwt| match &jwt.jwks {
            JwksSource::File(file) => Some(("auth.jwt.jwks.file".to_owned(), file.clone())),
            JwksSource::Url(_) => None,
        });
        source.into_iter().chain(ca).chain(jwks).collect()
    }

    /// Returns the files with secrets, each with the setting that names it: keys, and the settings file if it has a secret itself.
    pub fn secret_files(&self) -> Vec<(String, PathBuf)> {
        const KEYS: [&str; 2] = ["access_key", "secret_key"];
        let source = self.source.as_ref();
        let is_variable = |path: &str| {
            let name = format!("{PREFIX}{}", path.replace('.', "__").to_uppercase());
            source.is_some_and(|source| source.environment.iter().any(|(variable, _)| *variable == name))
        };
        let mut files = vec![];
        let mut literal = None;
        for (path, value) in &self.fixed.0 {
            let Value::String(text) = value else {
                continue;
            };
            let names: Vec<&str> = path.rsplit('.').take(2).collect();
            match names.as_slice() {
                ["key_file", "tls"] => files.push((path.clone(), text.into())),
                ["file", name] if KEYS.contains(name) || matches!(*name, "proxy" | "password" | "token") => {
                    files.push((path.clone(), text.into()));
                }
                [name, ..]
                    if (KEYS.contains(name)
                        || (*name == "proxy" && text.contains('@'))
                        || (path == "store.password" && !text.is_empty())
                        || path == "admin.token"
                        || (path == "store.url" && self.store.has_password_in_url()))
                        && !is_variable(path) =>
                {
                    literal.get_or_insert(path);
                }
                _ => {}
            }
        }
        let settings = source.zip(literal);
        files.extend(settings.map(|(source, path)| (format!("{path} in the settings file"), source.file.clone())));
        files
    }
}

impl UsableCredentials {
    /// Returns a text for each setting of a caller that is valid and probably not meant.
    pub fn warnings(self, callers: &BTreeMap<String, CallerConfig>) -> Vec<String> {
        match self.mode {
            AuthMode::None => {
                let mut warnings = self.ignored_identities(callers);
                warnings.extend(self.unusable_rest_keys(callers));
                warnings
            }
            AuthMode::Callers => self.unusable_identities(callers),
        }
    }

    /// The callers of the REST listener, which it identifies in each mode.
    fn unusable_rest_keys(self, callers: &BTreeMap<String, CallerConfig>) -> Vec<String> {
        let mut warnings = vec![];
        for (name, caller) in callers
            .iter()
            .filter(|(_, caller)| !caller.identity.rest_keys.is_empty())
        {
            if !self.has_rest {
                warnings.push(format!("callers.{name}{NO_LISTENER}"));
            }
            warnings.extend(unusable_rules(name, &caller.identity.permissions));
        }
        warnings
    }

    fn ignored_identities(self, callers: &BTreeMap<String, CallerConfig>) -> Vec<String> {
        let is_ignored = |identity: &CallerIdentity| {
            // The REST listener always identifies its callers.
            let of_rest = match !identity.rest_keys.is_empty() {
                true => CallerIdentity {
                    api_keys: vec![],
                    certificates: vec![],
                    subjects: vec![],
                    ..identity.clone()
                },
                false => CallerIdentity::default(),
            };
            *identity != of_rest
        };
        let mut ignored = callers.iter().filter(|(_, caller)| is_ignored(&caller.identity));
        let text = |(name, _)| {
            format!(
                "callers.{name}: with auth.mode = \"none\" every client of an RPC may do everything; credentials and permissions are \
                 ignored"
            )
        };
        ignored.next().map(text).into_iter().collect()
    }

    fn unusable_identities(self, callers: &BTreeMap<String, CallerConfig>) -> Vec<String> {
        let Self {
            has_client_ca,
            has_issuer,
            has_rest,
            ..
        } = self;
        let mut warnings = vec![];
        if callers.is_empty() {
            warnings.push("callers: there is no [callers.NAME], so every RPC fails with CALLER_UNKNOWN".to_owned());
        }
        for (name, caller) in callers {
            let identity = &caller.identity;
            let has_usable = !identity.api_keys.is_empty()
                || (!identity.certificates.is_empty() && has_client_ca)
                || (!identity.subjects.is_empty() && has_issuer)
                || (!identity.rest_keys.is_empty() && has_rest);
            let mut warn = |text: &str| warnings.push(format!("callers.{name}{text}"));
            if !identity.certificates.is_empty() && !has_client_ca {
                warn(".certificates: cannot be used without server.tls.client_ca_file");
            }
            if !identity.subjects.is_empty() && !has_issuer {
                warn(".subjects: cannot be used without [auth.jwt]");
            }
            if !identity.rest_keys.is_empty() && !has_rest {
                warn(NO_LISTENER);
            }
            if !has_usable {
                warn(": has no credential that can be used, so no call can belong to this caller");
            }
            warnings.extend(unusable_rules(name, &identity.permissions));
        }
        warnings
    }
}

/// Returns a text for each rule of a caller that allows nothing.
fn unusable_rules(name: &str, permissions: &Permissions) -> Vec<String> {
    let Permissions { tenants, allow, .. } = permissions;
    let (mut warnings, paths) = (vec![], grpc::rpc_paths());
    let mut warn = |text: &str| warnings.push(format!("callers.{name}{text}"));
    if allow.is_empty() {
        warn(".allow: is empty, so the caller may do nothing");
    }
    if tenants.is_empty() {
        warn(".tenants: is empty, so the caller may use no tenant");
    }
    for pattern in allow.iter().filter(|pattern| !pattern.is_rest()) {
        if !paths.iter().any(|path| pattern.matches(path)) {
            let text = pattern.to_string();
            let meant = match text.to_ascii_lowercase().contains(".svc/") {
                true => format!("; did you mean \"REST:{text}\"?"),
                false => String::new(),
            };
            warn(&format!(".allow: \"{text}\" matches no RPC{meant}"));
        }
    }
    warnings
}

/// Logs the settings that are valid and probably not meant.
pub fn log_warnings(warnings: Vec<String>) {
    for reason in warnings {
        tracing::warn!(reason, "setting probably not meant");
    }
}

/// The fields of activities that an account defines have names that begin with this, in lower case.
const ACTIVITY_FIELDS: &str = "mx_custom_";

/// Returns a text for each name in the rules for fields that no attribute of the tenant has. Rules for such a name have no effect.
pub fn unknown_attributes(callers: &BTreeMap<String, CallerConfig>, tenant: &str, attributes: &Catalog) -> Vec<String> {
    let is_of_activities = |name: &str| {
        let own = [activity::OWNER, activity::NOTE];
        own.iter().any(|own| own.eq_ignore_ascii_case(name)) || name.starts_with(ACTIVITY_FIELDS)
    };
    let mut warnings = vec![];
    for (caller, config) in callers {
        let permissions = &config.identity.permissions;
        if !permissions.allows_tenant(tenant) {
            continue;
        }
        for (setting, names) in [
            ("hide_fields", &permissions.hide_fields),
            ("deny_fields", &permissions.deny_fields),
        ] {
            let unknown = names.names().filter(|name| {
                let may_be_of_activities = setting == "deny_fields" && is_of_activities(name);
                attributes.lacks(schema_name(name)) && !may_be_of_activities
            });
            for name in unknown {
                let meant = attributes.suggest(name);
                let meant = meant.map_or(String::new(), |meant| format!("; did you mean \"{meant}\"?"));
                warnings.push(format!(
                    "callers.{caller}.{setting}: tenant {tenant} has no lead attribute \"{name}\"{meant}"
                ));
            }
        }
    }
    warnings
}

/// Whether the pages of an origin are sent over a network without TLS.
fn is_unencrypted(origin: &str) -> bool {
    let url = Url::parse(origin).ok().filter(|url| url.scheme() == "http");
    url.is_some_and(|url| match url.host() {
        Some(Host::Domain(name)) => name != "localhost",
        Some(Host::Ipv4(address)) => !address.is_loopback(),
        Some(Host::Ipv6(address)) => !address.is_loopback(),
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::field::Field;
    use crate::domain::value::ValueKind;

    fn warnings(settings: &str) -> Vec<String> {
        let tenant = "[tenants.acme]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"\n";
        let config = Config::read("test", &format!("{settings}\n{tenant}"), std::iter::empty());
        config.unwrap().warnings()
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let mode = "[auth]\nmode = \"callers\"";
        assert_eq!(
            warnings(mode),
            ["callers: there is no [callers.NAME], so every RPC fails with CALLER_UNKNOWN"]
        );
        assert_eq!(
            warnings(&format!(
                "{mode}\n[callers.a]\ncertificates = [\"dns:a\"]\nsubjects = [\"a\"]"
            )),
            [
                "callers.a.certificates: cannot be used without server.tls.client_ca_file",
                "callers.a.subjects: cannot be used without [auth.jwt]",
                "callers.a: has no credential that can be used, so no call can belong to this caller",
                "callers.a.allow: is empty, so the caller may do nothing",
                "callers.a.tenants: is empty, so the caller may use no tenant",
            ]
        );
        let hash = format!("sha256:{}", "0".repeat(64));
        let complete = |allow: &str| {
            warnings(&format!(
                "{mode}\n[callers.a]\napi_keys = [\"{hash}\"]\ntenants = [\"acme\"]\nallow = [{allow}]"
            ))
        };
        assert!(complete("\"*\", \"LeadService/Get*\"").is_empty());
        assert_eq!(
            complete("\"LeadServices/*\", \"LeadService/GetLead\""),
            ["callers.a.allow: \"leadgate.v1.LeadServices/*\" matches no RPC"]
        );
    }

    #[test]
    fn a_pair_of_keys_needs_the_rest_listener_and_no_mode() {
        let hash = format!("sha256:{}", "0".repeat(64));
        let caller = format!(
            "[callers.a]\nrest_keys = [{{ access_key = \"12345678\", secret_key = \"{hash}\" }}]\ntenants = [\"acme\"]\nallow = [\"REST:*\"]"
        );
        let callers = "[auth]\nmode = \"callers\"";
        let rest = "[rest]\nlisten = \"127.0.0.1:0\"";
        for mode in ["", callers] {
            assert!(warnings(&format!("{mode}\n{rest}\n{caller}")).is_empty(), "{mode}");
        }
        assert_eq!(
            warnings(&format!("{callers}\n{caller}")),
            [
                "callers.a.rest_keys: cannot be used without rest.listen",
                "callers.a: has no credential that can be used, so no call can belong to this caller",
            ]
        );
        for mode in ["", callers] {
            let mistaken = caller.replace("REST:*", "LeadManagement.svc/*").replace("\"acme\"", "");
            assert_eq!(
                warnings(&format!("{mode}\n{rest}\n{mistaken}")),
                [
                    "callers.a.tenants: is empty, so the caller may use no tenant",
                    "callers.a.allow: \"LeadManagement.svc/*\" matches no RPC; did you mean \"REST:LeadManagement.svc/*\"?",
                ],
                "{mode}"
            );
        }
        assert_eq!(
            warnings(&caller),
            ["callers.a.rest_keys: cannot be used without rest.listen"]
        );
        let ignored = warnings(&format!("{rest}\n{caller}\napi_keys = [\"{hash}\"]"));
        assert!(
            ignored.len() == 1 && ignored[0].contains("credentials and permissions are ignored"),
            "{ignored:?}"
        );
    }

    #[test]
    fn rules_for_attributes_that_do_not_exist_are_named() {
        let settings = "[callers.a]\ntenants = [\"acme\"]\nhide_fields = [\"mx_Salry\", \"Email\", \"mx_Custom_1\"]\n\
                        deny_fields = [\"mx_salary\", \"owner_id\", \"mx_Custom_1\", \"Owner\"]\n\
                        [callers.b]\ntenants = []\nhide_fields = [\"mx_Other\"]\n\
                        [tenants.acme]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"\n";
        let config = Config::read("test", settings, std::iter::empty()).unwrap();
        let fields = ["mx_Salary", "OwnerId", "EmailAddress"].map(|name| Field {
            schema_name: name.to_owned(),
            display_name: name.to_owned(),
            data_type: "Text".to_owned(),
            render_type: String::new(),
            kind: ValueKind::Text,
            mandatory: false,
            max_length: None,
            options: Vec::new(),
        });
        let attributes = Catalog::new(fields.to_vec(), jiff::Timestamp::UNIX_EPOCH);
        let names = unknown_attributes(&config.callers, "acme", &attributes);
        let expected = [
            "callers.a.hide_fields: tenant acme has no lead attribute \"email\"",
            "callers.a.hide_fields: tenant acme has no lead attribute \"mx_custom_1\"",
            "callers.a.hide_fields: tenant acme has no lead attribute \"mx_salry\"; did you mean \"mx_Salary\"?",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn tenants_with_one_access_key_are_named_without_the_key() {
        let tenant = |name: &str, key: &str| {
            format!("[tenants.{name}]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"{key}\"\nsecret_key = \"s\"\n")
        };
        let warnings = warnings(&[tenant("b", "same"), tenant("a", "same"), tenant("c", "other")].concat());
        let [warning] = &warnings[..] else {
            panic!("{warnings:?}");
        };
        assert!(
            warning.starts_with("tenants.a.access_key: is also the key of b;"),
            "{warning}"
        );
        assert!(!warning.contains("same"), "{warning}");
    }

    #[test]
    fn pages_without_tls_are_named_unless_they_are_local() {
        let found = warnings(
            "[server]\ncors_origins = [\"http://localhost:8080\", \"http://127.0.0.1\", \"http://[::1]\", \"https://a.example\", \
             \"http://b.example\"]",
        );
        let [warning] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(
            warning.starts_with("server.cors_origins: the pages of http://b.example are sent without TLS"),
            "{warning}"
        );
    }

    #[test]
    fn callers_without_identity_are_fine_without_authentication() {
        assert!(warnings("[callers.a]\nweight = 2").is_empty());
        assert_eq!(
            warnings("[callers.a]\nallow = [\"*\"]\n[callers.b]\ntenants = [\"*\"]").len(),
            1
        );
    }
}
