//! TLS of the gRPC port: the certificate, its key and the CA of client certificates, which may change while the process runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::Deserialize;

use crate::files::{self, Contents};
use crate::telemetry::metrics::Metrics;

/// A certificate that expires within this time is reported.
const WARNING: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 3600;

/// The files of `server.tls`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate chain, PEM, the server's own certificate first.
    pub cert_file: PathBuf,
    /// The private key of the certificate, PEM.
    pub key_file: PathBuf,
    /// The CAs of client certificates, PEM. Without it, client certificates are not requested.
    pub client_ca_file: Option<PathBuf>,
}

/// The configuration of TLS connections. Open connections keep the configuration with which they began.
pub struct Tls {
    /// The table of the settings: `server` or `rest`.
    table: &'static str,
    settings: TlsSettings,
    /// The contents of the files from before they were read first.
    read_contents: Contents,
    contents: ArcSwap<TlsContents>,
    /// Held during a reload, so that two reloads do not lose an increment of the generation.
    reloading: Mutex<()>,
    metrics: Arc<Metrics>,
}

/// What the files contain.
struct TlsContents {
    config: Arc<ServerConfig>,
    /// `None` without `client_ca_file`.
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The client CAs, DER.
    client_ca: BTreeSet<Vec<u8>>,
    generation: u64,
    server_expiry: SystemTime,
    /// `None` without `client_ca_file`.
    client_ca_expiry: Option<SystemTime>,
    /// What the certificates are probably not meant for: the setting, and a text.
    misuses: Vec<(&'static str, String)>,
}

/// A file of `server.tls` that cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct TlsError {
    /// The setting that names the file.
    setting: &'static str,
    /// The name of the file, and what is wrong.
    message: String,
}

impl TlsSettings {
    /// Returns all files.
    pub fn files(&self) -> Vec<PathBuf> {
        let ca = self.client_ca_file.clone();
        [self.cert_file.clone(), self.key_file.clone()]
            .into_iter()
            .chain(ca)
            .collect()
    }

    /// Reads the files. Returns the errors: each with the setting, and with the file and what is wrong.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let error = read(self).err();
        error.map(|error| (error.setting, error.message)).into_iter().collect()
    }
}

impl Tls {
    /// Reads the files. Fails with a text that names the file.
    /// `table`: the table of the settings, `server` or `rest`.
    pub fn load(table: &'static str, settings: TlsSettings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let read_contents = files::contents(settings.files());
        let contents = read(&settings).map_err(|error| error.message)?;
        let tls = Self {
            table,
            settings,
            read_contents,
            contents: ArcSwap::from_pointee(contents),
            reloading: Mutex::default(),
            metrics,
        };
        tls.set_metrics();
        Ok(tls)
    }

    /// The contents of the files from before they were read first.
    pub fn read_contents(&self) -> Contents {
        self.read_contents.clone()
    }

    /// Reads the files again. New connections use the new contents. After an error, they use the old ones.
    pub fn reload(&self) -> Result<(), String> {
        let _reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut contents = read(&self.settings).map_err(|error| error.message)?;
        let old = self.contents.load();
        contents.generation = old.generation + u64::from(contents.client_ca != old.client_ca);
        self.contents.store(Arc::new(contents));
        self.set_metrics();
        Ok(())
    }

    /// Returns the configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.contents.load().config.clone()
    }

    /// Returns a number that increases when the client CAs change. A chain that was valid before may be invalid then, see
    /// [`Tls::verify_client`].
    pub fn generation(&self) -> u64 {
        self.contents.load().generation
    }

    /// Verifies a client's certificate chain, its own certificate first, against the present client CAs.
    pub fn verify_client(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), rustls::Error> {
        let contents = self.contents.load();
        let (Some((own, intermediates)), Some(verifier)) = (chain.split_first(), &contents.client_verifier) else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since_epoch);
        verifier.verify_client_cert(own, intermediates, now).map(drop)
    }

    /// Returns a text for each file with a certificate that is probably not meant for its purpose.
    pub fn misuses(&self) -> Vec<String> {
        let contents = self.contents.load();
        let misuses = contents.misuses.iter();
        misuses
            .map(|(setting, text)| format!("{}.tls.{setting}: {text}", self.table))
            .collect()
    }

    /// Returns a text for each file with a certificate that has expired or expires within 14 days.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let contents = self.contents.load();
        let server = Some((contents.server_expiry, &self.settings.cert_file, "cert_file"));
        let ca = self.settings.client_ca_file.as_ref();
        let ca = contents
            .client_ca_expiry
            .zip(ca)
            .map(|(expiry, file)| (expiry, file, "client_ca_file"));
        let files = server.into_iter().chain(ca);
        files
            .filter_map(|(expiry, file, setting)| {
                let text = expiry_warning(expiry, now)?;
                Some(format!(
                    "{}.tls.{setting} ({}): a certificate {text}",
                    self.table,
                    file.display()
                ))
            })
            .collect()
    }

    fn set_metrics(&self) {
        let contents = self.contents.load();
        self.metrics.certificate_expiry(self.table, contents.server_expiry);
        if let Some(expiry) = contents.client_ca_expiry {
            self.metrics.certificate_expiry("client_ca", expiry);
        }
    }
}

fn read(settings: &TlsSettings) -> Result<TlsContents, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates("cert_file", &settings.cert_file)?;
    let expiry = |setting, file: &Path, certificates: &[CertificateDer<'_>]| {
        earliest_expiry(certificates).map_err(|error| TlsError::new(setting, file, &error))
    };
    let server_expiry = expiry("cert_file", &settings.cert_file, &chain)?;
    let key = private_key("key_file", &settings.key_file)?;
    let (mut client_ca, mut client_ca_expiry, mut client_verifier) = (BTreeSet::new(), None, None);
    let mut misuses: Vec<_> = server_misuse(&chain)
        .map(|text| ("cert_file", text))
        .into_iter()
        .collect();
    if let Some(file) = &settings.client_ca_file {
        let roots = certificates("client_ca_file", file)?;
        client_ca_expiry = Some(expiry("client_ca_file", file, &roots)?);
        client_verifier = Some(verifier(file, &roots, &provider)?);
        misuses.extend(
            roots
                .iter()
                .filter_map(|root| Some(("client_ca_file", ca_misuse(root)?))),
        );
        client_ca = roots.iter().map(|root| root.to_vec()).collect();
    }
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has cipher suites of TLS 1.2 and 1.3");
    let builder = match client_verifier.clone() {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (certificate, key) = (settings.cert_file.display(), settings.key_file.display());
        let message = format!("{certificate} and {key}: the certificate and the key cannot be used together: {error}");
        TlsError {
            setting: "key_file",
            message,
        }
    })?;
    // Clients that know only HTTP/1 get the response that names the protocol of this port.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if client_verifier.is_some() {
        // A resumed session would skip the check of the client certificate, which may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(TlsContents {
        config: Arc::new(config),
        client_verifier,
        client_ca,
        generation: 0,
        server_expiry,
        client_ca_expiry,
        misuses,
    })
}

/// Returns the configuration of connections to other replicas, whose certificates must be from one of the CAs in that file. Fails with
/// a text that names the file.
pub fn client_config(ca_file: &Path) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates("ca_file", ca_file).map_err(|error| error.message)? {
        roots
            .add(root)
            .map_err(|error| TlsError::new("ca_file", ca_file, &error.to_string()).message)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has cipher suites of TLS 1.2 and 1.3");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Returns the check of client certificates. They are optional, because callers may also use tokens and keys.
fn verifier(
    file: &Path,
    roots: &[CertificateDer<'static>],
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::new("client_ca_file", file, &error.to_string());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| unusable(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(&error))
}

/// Returns the certificates of a PEM file: at least one.
fn certificates(setting: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.and_then(|certificates| match certificates.is_empty() {
        true => Err(pem::Error::NoItemsFound),
        false => Ok(certificates),
    });
    certificates.map_err(|error| TlsError::new(setting, file, &pem_error(&error, "certificate")))
}

/// Returns the private key of a PEM file.
fn private_key(setting: &'static str, file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = PrivateKeyDer::from_pem_file(file);
    key.map_err(|error| TlsError::new(setting, file, &pem_error(&error, "private key")))
}

/// Returns a text without contents of the file.
fn pem_error(error: &pem::Error, item: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("reading the file failed: {error}"),
        pem::Error::NoItemsFound => format!("the file has no {item} in PEM form"),
        pem::Error::MissingSectionEnd { .. } => "invalid PEM: a section has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "invalid PEM: a BEGIN line is invalid".to_owned(),
        pem::Error::Base64Decode(_) => "invalid PEM: a section is not valid base64".to_owned(),
        _ => "invalid PEM".to_owned(),
    }
}

/// Returns when the first of these certificates expires.
pub fn earliest_expiry(certificates: &[CertificateDer<'_>]) -> Result<SystemTime, String> {
    let mut earliest = None;
    for certificate in certificates {
        let parsed = x509_parser::parse_x509_certificate(certificate);
        let (_, parsed) = parsed.map_err(|error| format!("invalid certificate: {error}"))?;
        let seconds = parsed.validity().not_after.timestamp();
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        earliest = Some(earliest.map_or(expiry, |earliest: SystemTime| earliest.min(expiry)));
    }
    earliest.ok_or_else(|| "there is no certificate".to_owned())
}

/// Returns a text if the server's own certificate, the first of its chain, is not for servers.
fn server_misuse(chain: &[CertificateDer<'_>]) -> Option<String> {
    let (_, own) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let usage = own.extended_key_usage().ok()??.value;
    (!usage.server_auth && !usage.any)
        .then(|| "clients refuse the certificate: its extended key usage is not for servers".to_owned())
}

/// Returns a text if a certificate in the file of client CAs is not one of a CA. A client certificate that is its own issuer may be
/// meant.
fn ca_misuse(root: &CertificateDer<'_>) -> Option<String> {
    let (_, root) = x509_parser::parse_x509_certificate(root).ok()?;
    (!root.is_ca() && root.subject() != root.issuer()).then(|| {
        format!(
            "the certificate of \"{}\" is not one of a CA, so no client certificate has it as issuer",
            root.subject()
        )
    })
}

/// Returns the warning for a certificate that has expired or expires soon.
fn expiry_warning(expiry: SystemTime, now: SystemTime) -> Option<String> {
    match expiry.duration_since(now) {
        Ok(remaining) if remaining > WARNING => None,
        Ok(remaining) => Some(format!("expires in {}", days(remaining))),
        Err(error) => Some(format!("expired {} ago", days(error.duration()))),
    }
}

fn days(time: Duration) -> String {
    match time.as_secs() / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

impl TlsError {
    fn new(setting: &'static str, file: &Path, text: &str) -> Self {
        let message = format!("{}: {text}", file.display());
        Self { setting, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expires_within_14_days_is_reported() {
        let day = Duration::from_secs(DAY);
        let now = SystemTime::UNIX_EPOCH + 10_000 * day;
        let second = Duration::from_secs(1);
        for (expiry, expected) in [
            (now + 14 * day + second, None),
            (now + 14 * day, Some("expires in 14 days")),
            (now + 14 * day - second, Some("expires in 13 days")),
            (now + day, Some("expires in 1 day")),
            (now + second, Some("expires in less than a day")),
            (now - second, Some("expired less than a day ago")),
            (now - 3 * day, Some("expired 3 days ago")),
        ] {
            assert_eq!(expiry_warning(expiry, now).as_deref(), expected);
        }
    }
}
