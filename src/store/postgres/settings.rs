//! Where the server is and how to connect to it: the URL, and the environment variables of libpq for parts that the URL does not
//! have.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::store::StoreOptions;
use crate::store::url::Parts;

const DEFAULT_PORT: u16 = 5432;

/// Where the server is and how to connect to it.
#[derive(Clone)]
pub(super) struct ConnectSettings {
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) database: String,
    password: Option<SecretString>,
    password_file: Option<PathBuf>,
    tls: TlsOptions,
    pub(super) connect_timeout: Duration,
    pub(super) max_connections: usize,
}

/// A host of the URL. The store uses the first host that accepts writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// A name, an address, or the directory of a Unix socket.
    pub(super) name: String,
    pub(super) port: u16,
}

#[derive(Clone)]
struct TlsOptions {
    mode: PgSslMode,
    root_certificate: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Host {
    /// Whether the host is the directory of a Unix socket.
    fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl fmt::Debug for ConnectSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectSettings")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl ConnectSettings {
    /// Reads the URL. `variable` returns an environment variable. No error has the password.
    pub(super) fn new(options: &StoreOptions) -> Result<Self, String> {
        let variable = |name: &str| options.environment.get(name).cloned();
        let parts = Parts::read(&options.url)?;
        let parameter = |name: &str, or: &str| {
            let given = parts.parameters.iter().find(|(key, _)| key == name);
            given.map(|(_, value)| value.clone()).or_else(|| variable(or))
        };
        let hosts = hosts(
            parts.hosts.or_else(|| parameter("host", "PGHOST")).as_deref(),
            parameter("port", "PGPORT").as_deref(),
        )?;
        let user = parts.user.or_else(|| variable("PGUSER"));
        let user = user.ok_or("the URL has no user, as in postgres://USER@HOST/DATABASE, and PGUSER is not set")?;
        let database = parts
            .database
            .or_else(|| variable("PGDATABASE"))
            .unwrap_or_else(|| user.clone());
        let mode = match parameter("sslmode", "PGSSLMODE").as_deref() {
            // As in libpq: TLS if the server has it, without a check of its certificate.
            None | Some("prefer") => PgSslMode::Prefer,
            Some("disable") => PgSslMode::Disable,
            Some("require") => PgSslMode::Require,
            Some("verify-full") => PgSslMode::VerifyFull,
            Some("verify-ca") => {
                return Err(
                    "sslmode=verify-ca is not supported, because it would accept the certificates of all \
                            public authorities; use verify-full"
                        .to_owned(),
                );
            }
            Some(_) => return Err("sslmode must be disable, prefer, require or verify-full".to_owned()),
        };
        let path = |name, or| parameter(name, or).map(PathBuf::from);
        let tls = TlsOptions {
            mode,
            root_certificate: path("sslrootcert", "PGSSLROOTCERT"),
            certificate: path("sslcert", "PGSSLCERT"),
            key: path("sslkey", "PGSSLKEY"),
        };
        tls.check()?;
        let password = options.password.clone().or(parts.password);
        Ok(Self {
            hosts,
            user,
            database,
            password: password.or_else(|| variable("PGPASSWORD").map(SecretString::from)),
            password_file: options.password_file.clone(),
            tls,
            connect_timeout: options.connect_timeout,
            max_connections: options.max_connections.max(1) as usize,
        })
    }

    /// Returns the options for a connection to one host, with the password that its file has now.
    pub(super) async fn current_options(&self, host: &Host) -> PgConnectOptions {
        let options = self.options(host);
        let Some(path) = &self.password_file else {
            return options;
        };
        let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
        match text.trim_end_matches(['\r', '\n']) {
            "" => options,
            password => options.password(password),
        }
    }

    /// Returns the options for a connection to one host.
    fn options(&self, host: &Host) -> PgConnectOptions {
        let mode = match host.is_socket() {
            // As in libpq: a server has no TLS on a Unix socket.
            true => PgSslMode::Disable,
            false => self.tls.mode,
        };
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&host.name)
            .port(host.port)
            .username(&self.user)
            .database(&self.database)
            .application_name("leadgate")
            .ssl_mode(mode)
            // PgBouncer knows neither.
            .statement_cache_capacity(0)
            .extra_float_digits(None)
            // The statements have stored data.
            .disable_statement_logging();
        if let Some(password) = &self.password {
            options = options.password(password.expose_secret());
        }
        if let Some(path) = &self.tls.root_certificate {
            options = options.ssl_root_cert(path);
        }
        if let Some(path) = &self.tls.certificate {
            options = options.ssl_client_cert(path);
        }
        if let Some(path) = &self.tls.key {
            options = options.ssl_client_key(path);
        }
        options
    }

    pub(super) fn has_password(&self) -> bool {
        self.password.is_some()
    }
}

impl TlsOptions {
    fn check(&self) -> Result<(), String> {
        let has_pair = self.certificate.is_some() == self.key.is_some();
        if !has_pair {
            return Err("sslcert and sslkey must be given together".to_owned());
        }
        let files = [
            ("sslrootcert", &self.root_certificate),
            ("sslcert", &self.certificate),
            ("sslkey", &self.key),
        ];
        for (name, path) in files {
            if let Some(path) = path {
                readable(path).map_err(|error| format!("{name}: {} cannot be read: {error}", path.display()))?;
            }
        }
        let Some(path) = &self.root_certificate else {
            return Ok(());
        };
        let mut certificates = CertificateDer::pem_file_iter(path).into_iter().flatten();
        if certificates.next().is_none_or(|first| first.is_err()) {
            return Err(format!(
                "sslrootcert: {} has no certificate in PEM form",
                path.display()
            ));
        }
        match self.mode {
            PgSslMode::VerifyFull | PgSslMode::Disable => Ok(()),
            // libpq checks the certificate in this case. Without an error, the connection would be less secure than intended.
            _ => Err(
                "sslrootcert has no effect without sslmode=verify-full, which checks the certificate of the server"
                    .to_owned(),
            ),
        }
    }
}

fn readable(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path).map(drop)
}

/// Reads a list of hosts, each with an optional port. `ports` has one port for all hosts, or one for each.
fn hosts(names: Option<&str>, ports: Option<&str>) -> Result<Vec<Host>, String> {
    let names = names.ok_or("the URL has no host, and PGHOST is not set")?;
    let port = |text: &str| {
        let port = text.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| "a port must be a number from 1 to 65535".to_owned())
    };
    let ports: Vec<u16> = match ports {
        None | Some("") => vec![],
        Some(ports) => ports.split(',').map(port).collect::<Result<_, _>>()?,
    };
    let mut hosts = vec![];
    for (index, text) in names.split(',').enumerate() {
        // An IPv6 address is in brackets.
        let (name, own_port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, after) = rest.split_once(']').ok_or("an IPv6 address must be in brackets")?;
                (name, after.strip_prefix(':'))
            }
            None => text
                .rsplit_once(':')
                .map_or((text, None), |(name, port)| (name, Some(port))),
        };
        if name.is_empty() || name.contains('[') {
            return Err("a host is invalid; example: postgres://USER@HOST1:5432,HOST2:5432/DATABASE".to_owned());
        }
        let port = match own_port {
            Some(text) => port(text)?,
            None => *ports.get(index).or_else(|| ports.first()).unwrap_or(&DEFAULT_PORT),
        };
        hosts.push(Host {
            name: name.to_owned(),
            port,
        });
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, variables: &[(&str, &str)]) -> Result<ConnectSettings, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ConnectSettings::new(&StoreOptions::new(url).with_environment(variables))
    }

    fn shown_hosts(settings: &ConnectSettings) -> String {
        let hosts: Vec<String> = settings.hosts.iter().map(Host::to_string).collect();
        hosts.join(" ")
    }

    fn password(settings: &ConnectSettings) -> Option<&str> {
        settings.password.as_ref().map(|password| password.expose_secret())
    }

    #[test]
    fn every_part_of_a_url_is_read() {
        let settings = read(
            "postgres://lead%40gate:p%2Fw@db1:5433,db2,[::1]:7/crm?sslmode=require",
            &[],
        )
        .unwrap();
        assert_eq!(shown_hosts(&settings), "db1:5433 db2:5432 [::1]:7");
        assert_eq!(
            (settings.user.as_str(), settings.database.as_str()),
            ("lead@gate", "crm")
        );
        assert_eq!(password(&settings), Some("p/w"));
        assert!(matches!(settings.tls.mode, PgSslMode::Require));
        let settings = read("postgresql://leadgate@db.internal", &[]).unwrap();
        assert_eq!((settings.database.as_str(), password(&settings)), ("leadgate", None));
        let settings = read("postgres://leadgate@/crm?host=/var/run/postgresql&port=5433", &[]).unwrap();
        assert_eq!(shown_hosts(&settings), "/var/run/postgresql:5433");
    }

    #[test]
    fn variables_of_libpq_replace_missing_parts_only() {
        let variables = [
            ("PGUSER", "env"),
            ("PGPASSWORD", "secret"),
            ("PGHOST", "a,b"),
            ("PGPORT", "1,2"),
            ("PGDATABASE", "base"),
            ("PGSSLMODE", "disable"),
        ];
        let settings = read("postgres://", &variables).unwrap();
        assert_eq!(shown_hosts(&settings), "a:1 b:2");
        assert_eq!((settings.user.as_str(), settings.database.as_str()), ("env", "base"));
        assert_eq!(password(&settings), Some("secret"));
        let settings = read("postgres://u:p@h:9/d?sslmode=require", &variables).unwrap();
        assert_eq!(shown_hosts(&settings), "h:9");
        assert_eq!((settings.user.as_str(), settings.database.as_str()), ("u", "d"));
        assert_eq!(password(&settings), Some("p"));
    }

    #[test]
    fn the_setting_of_the_password_has_priority() {
        let options = StoreOptions {
            password: Some("setting".into()),
            ..StoreOptions::new("postgres://u:url@h/d")
        };
        let settings = ConnectSettings::new(&options).unwrap();
        assert_eq!(password(&settings), Some("setting"));
    }

    #[test]
    fn a_unix_socket_has_no_tls() {
        let settings = read("postgres://u@/d?host=/run/postgresql,db&sslmode=require", &[]).unwrap();
        let modes = settings.hosts.iter().map(|host| settings.options(host).get_ssl_mode());
        let modes: Vec<PgSslMode> = modes.collect();
        assert!(
            matches!(modes[..], [PgSslMode::Disable, PgSslMode::Require]),
            "{modes:?}"
        );
    }

    #[test]
    fn a_root_certificate_that_would_not_be_used_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("ca.pem"), folder.path().join("bad.pem"));
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        std::fs::write(&good, certificate.pem()).unwrap();
        std::fs::write(&bad, "no certificate").unwrap();
        let read = |parameters: &str, file: &Path| {
            let url = format!("postgres://u@h/d?{parameters}&sslrootcert={}", file.display());
            super::ConnectSettings::new(&StoreOptions::new(&url)).map(drop)
        };
        for mode in ["sslmode=verify-full", "sslmode=disable"] {
            assert_eq!(read(mode, &good), Ok(()), "{mode}");
        }
        for mode in ["sslmode=require", "sslmode=prefer", ""] {
            let error = read(mode, &good).unwrap_err();
            assert!(error.contains("sslmode=verify-full"), "{error}");
        }
        let error = read("sslmode=verify-full", &bad).unwrap_err();
        assert!(error.contains("bad.pem has no certificate"), "{error}");
    }

    #[test]
    fn an_invalid_url_is_an_error_without_the_password() {
        for (url, text) in [
            ("postgres://h/d", "no user"),
            ("postgres://u@/d", "no host"),
            ("postgres://u:pass%zz@h/d", "invalid escape"),
            ("postgres://u:pass@h:0/d", "a port must be"),
            ("postgres://u:pass@h:99999/d", "a port must be"),
            ("postgres://u:pass@h,,i/d", "a host is invalid"),
            ("postgres://u:pass@h/d?sslmode=verify-ca", "verify-full"),
            ("postgres://u:pass@h/d?sslmode=pass", "sslmode must be"),
            ("postgres://u:pass@h/d?options=-c%20pass", "unknown parameter"),
            ("postgres://u:pass@h/d?sslcert=/x", "together"),
            ("postgres://u:pass@h/d?sslrootcert=/no/file", "/no/file cannot be read"),
            ("postgres://u:pa#ss@h/d", "%23"),
        ] {
            let error = read(url, &[]).unwrap_err();
            assert!(
                error.contains(text) && !error.contains("pass%") && !error.contains("=pass"),
                "{error}"
            );
        }
    }
}
