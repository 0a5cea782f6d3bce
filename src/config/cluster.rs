//! `[cluster]`: how the replicas that share a PostgreSQL store reach each other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use toml::{Table, Value};

use super::{Reader, SectionErrors};
use crate::grpc::PeerTls;
use crate::tls::{self, TlsSettings};

/// The range of `cluster.lease`.
const LEASE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(300)];
/// The range of `cluster.lateness`.
const LATENESS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Minimum length of `cluster.secret`.
const MIN_SECRET: usize = 16;

/// The settings of a replica, checked.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The address of the port for other replicas.
    pub listen: SocketAddr,
    /// The address by which other replicas reach this one, as `host:port`.
    pub advertise: String,
    /// The secret of all replicas.
    pub secret: SecretString,
    /// How the certificates of other replicas are checked. `None`: replicas use plaintext.
    pub tls: Option<PeerTls>,
    /// The time after which another replica takes over the tenants of one that does not respond.
    pub lease: Duration,
    /// Maximum time for which a request to LeadSquared may be delayed in the network.
    pub lateness: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterSettings {
    listen: String,
    advertise: String,
    ca_file: PathBuf,
    server_name: String,
    #[serde(with = "humantime_serde")]
    lease: Duration,
    #[serde(with = "humantime_serde")]
    lateness: Duration,
}

impl ClusterSettings {
    fn validate(&self) -> SectionErrors {
        let ranges = [("lease", self.lease, LEASE), ("lateness", self.lateness, LATENESS)];
        let invalid = ranges
            .into_iter()
            .filter(|(_, value, [min, max])| value < min || value > max);
        invalid
            .map(|(key, _, [min, max])| (key, format!("must be {}s to {}s", min.as_secs(), max.as_secs())))
            .collect()
    }
}

/// What other sections say about the cluster.
pub(super) struct ClusterContext<'a> {
    /// `store.url`.
    pub(super) store_url: &'a str,
    pub(super) tls: Option<&'a TlsSettings>,
    /// `server.insecure_plaintext`.
    pub(super) allows_plaintext: bool,
}

impl Reader {
    /// Reads `[cluster]`, which is needed with PostgreSQL, and is not allowed with SQLite. The outer `None`: it has errors.
    pub(super) fn cluster(&mut self, mut table: Table, context: &ClusterContext<'_>) -> Option<Option<ClusterConfig>> {
        let secret = table.remove("secret");
        let settings = self.checked(&["cluster"], table, ClusterSettings::validate)?;
        if !is_postgres(context.store_url) {
            let given = [
                ("listen", !settings.listen.is_empty()),
                ("advertise", !settings.advertise.is_empty()),
                ("secret", secret.is_some()),
            ];
            for (key, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
                let text = "is not allowed with a SQLite store, which one process uses; several replicas need a PostgreSQL store";
                self.error(&["cluster", key], text);
            }
            return Some(None);
        }
        let listen = self.cluster_listen(&settings, context);
        let advertise = self.advertise(&settings.advertise, listen);
        let secret = self.secret(secret);
        let tls = self.cluster_tls(&settings, context.tls);
        Some(Some(ClusterConfig {
            listen: listen?,
            advertise: advertise?,
            secret: secret?,
            tls: tls?,
            lease: settings.lease,
            lateness: settings.lateness,
        }))
    }

    fn cluster_listen(&mut self, settings: &ClusterSettings, context: &ClusterContext<'_>) -> Option<SocketAddr> {
        let at = ["cluster", "listen"];
        let Ok(listen) = settings.listen.parse::<SocketAddr>() else {
            let text = "is required with a PostgreSQL store: the address of the port for other replicas, such as \"0.0.0.0:50052\"";
            self.error(&at, text);
            return None;
        };
        if context.tls.is_none() && !context.allows_plaintext && !listen.ip().is_loopback() {
            let text = "must be a loopback address, because cluster.secret is readable over plaintext; server.tls allows any, and \
                        so does server.insecure_plaintext = true";
            self.error(&at, text);
        }
        Some(listen)
    }

    fn advertise(&mut self, given: &str, listen: Option<SocketAddr>) -> Option<String> {
        let is_address = |text: &str| {
            let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        let text = match (given, listen) {
            ("", None) => return None,
            ("", Some(listen)) if !listen.ip().is_unspecified() && listen.port() > 0 => {
                return Some(listen.to_string());
            }
            ("", Some(_)) => {
                "is required, because cluster.listen does not name one address: the address by which other replicas reach this \
                 one, such as \"10.0.0.5:50052\""
            }
            (given, _)
                if given
                    .parse::<SocketAddr>()
                    .is_ok_and(|address| address.ip().is_unspecified()) =>
            {
                "must name one address by which other replicas reach this one, such as \"10.0.0.5:50052\""
            }
            (given, _) if is_address(given) => return Some(given.to_owned()),
            _ => "must be host:port, such as \"10.0.0.5:50052\"",
        };
        self.error(&["cluster", "advertise"], text);
        None
    }

    fn secret(&mut self, value: Option<Value>) -> Option<SecretString> {
        let at = ["cluster", "secret"];
        if value.is_none() {
            let text = "is required with a PostgreSQL store: the same for all replicas, at least 16 characters, as { env = \"NAME\" } or \
                        { file = \"PATH\" }";
            self.error(&at, text);
            return None;
        }
        let secret = self.key(&at, value)?.read().ok()?;
        if secret.expose_secret().len() < MIN_SECRET {
            let text = format!("must have at least {MIN_SECRET} characters");
            self.error(&at, &text);
        }
        Some(secret)
    }

    /// Replicas use TLS if the gRPC port does.
    fn cluster_tls(&mut self, settings: &ClusterSettings, tls: Option<&TlsSettings>) -> Option<Option<PeerTls>> {
        let at = ["cluster", "ca_file"];
        let Some(tls) = tls else {
            return Some(None);
        };
        let given = Some(&settings.ca_file).filter(|file| !file.as_os_str().is_empty());
        let Some(ca_file) = given.or(tls.client_ca_file.as_ref()) else {
            let text = "is required, because server.tls is set without client_ca_file: the CAs of the certificates of all replicas";
            self.error(&at, text);
            return None;
        };
        if let Err(error) = tls::client_config(ca_file) {
            self.error(&at, &error);
        }
        Some(Some(PeerTls {
            ca_file: ca_file.clone(),
            server_name: Some(settings.server_name.clone()).filter(|name| !name.is_empty()),
        }))
    }
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "secret = \"0123456789abcdef\"";

    /// Reads `[cluster]` of a gateway with a PostgreSQL store. Returns the setting and the beginning of the message of each error.
    fn read(cluster: &str, store_url: &str, allows_plaintext: bool) -> Result<Option<ClusterConfig>, Vec<String>> {
        let mut reader = Reader::new("test", &format!("[cluster]\n{cluster}"), std::iter::empty());
        let mut all = reader.defaults.clone();
        super::super::merge(&mut all, reader.file.clone());
        let table = reader.take_table(&[], &mut all, "cluster");
        let context = ClusterContext {
            store_url,
            tls: None,
            allows_plaintext,
        };
        let config = reader.cluster(table, &context);
        match (config, reader.errors.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err(reader
                .errors
                .into_iter()
                .map(|error| format!("{}: {}", error.path, error.message))
                .collect()),
        }
    }

    fn postgres(cluster: &str) -> Result<ClusterConfig, Vec<String>> {
        read(cluster, "postgres://db/leadgate", true).map(Option::unwrap)
    }

    #[test]
    fn a_listen_address_and_a_secret_are_enough() {
        let config = postgres(&format!("listen = \"10.0.0.5:50052\"\n{SECRET}")).unwrap();
        assert_eq!(config.advertise, "10.0.0.5:50052");
        assert_eq!((config.lease.as_secs(), config.lateness.as_secs()), (10, 1));
        let config = postgres(&format!(
            "listen = \"0.0.0.0:50052\"\nadvertise = \"gate-1.internal:50052\"\n{SECRET}"
        ));
        assert_eq!(config.unwrap().advertise, "gate-1.internal:50052");
    }

    #[test]
    fn invalid_settings_are_errors() {
        let listen = "listen = \"10.0.0.5:50052\"";
        for (cluster, expected) in [
            (SECRET.to_owned(), "cluster.listen: is required"),
            (
                format!("listen = \"0.0.0.0:50052\"\n{SECRET}"),
                "cluster.advertise: is required",
            ),
            (
                format!("listen = \"10.0.0.5:0\"\n{SECRET}"),
                "cluster.advertise: is required",
            ),
            (
                format!("{listen}\nadvertise = \"here\"\n{SECRET}"),
                "cluster.advertise: must be host:port",
            ),
            (
                format!("{listen}\nadvertise = \"0.0.0.0:50052\"\n{SECRET}"),
                "cluster.advertise: must name one address",
            ),
            (listen.to_owned(), "cluster.secret: is required"),
            (
                format!("{listen}\nsecret = \"short\""),
                "cluster.secret: must have at least 16 characters",
            ),
            (
                format!("{listen}\n{SECRET}\nlease = \"2s\""),
                "cluster.lease: must be 3s to 300s",
            ),
            (
                format!("{listen}\n{SECRET}\nlateness = \"500ms\""),
                "cluster.lateness: must be 1s to 60s",
            ),
            (
                format!("{listen}\n{SECRET}\nleese = \"5s\""),
                "cluster.leese: unknown setting; did you mean lease?",
            ),
        ] {
            let errors = postgres(&cluster).unwrap_err();
            assert!(
                errors.len() == 1 && errors[0].starts_with(expected),
                "{cluster}: {errors:?}"
            );
        }
    }

    #[test]
    fn plaintext_needs_a_loopback_address_or_the_setting_that_allows_it() {
        let cluster = |listen: &str| format!("listen = \"{listen}\"\n{SECRET}");
        assert!(read(&cluster("127.0.0.1:50052"), "postgres://db/x", false).is_ok());
        let errors = read(&cluster("10.0.0.5:50052"), "postgres://db/x", false).unwrap_err();
        assert!(
            errors[0].starts_with("cluster.listen: must be a loopback address"),
            "{errors:?}"
        );
    }

    #[test]
    fn a_sqlite_store_allows_no_cluster() {
        assert!(read("", "sqlite://leadgate.db", false).unwrap().is_none());
        let errors = read(&format!("listen = \"127.0.0.1:1\"\n{SECRET}"), "sqlite://x.db", false).unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(
            errors
                .iter()
                .all(|error| error.contains("is not allowed with a SQLite store")),
            "{errors:?}"
        );
    }
}
