//! TLS of the gRPC port: the certificate, its key and the CA of client certificates, which may change while the process runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;

/// The files of `server.tls`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate chain, PEM, the server's own certificate first.
    pub cert_file: PathBuf,
    /// The private key of the certificate, PEM.
    pub key_file: PathBuf,
    /// The CAs of client certificates, PEM. Without it client certificates are not accepted.
    pub client_ca_file: Option<PathBuf>,
}

/// The configuration of TLS connections. Open connections keep the configuration with which they began.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    config: ArcSwap<ServerConfig>,
}

impl TlsSettings {
    /// All files.
    pub fn files(&self) -> Vec<PathBuf> {
        let ca = self.client_ca_file.clone();
        [self.cert_file.clone(), self.key_file.clone()]
            .into_iter()
            .chain(ca)
            .collect()
    }
}

impl Tls {
    /// Reads the files. Fails with a text that names the file.
    pub fn load(settings: TlsSettings) -> Result<Self, String> {
        let config = ArcSwap::new(read(&settings)?);
        Ok(Self { settings, config })
    }

    /// Reads the files again. New connections use the new certificate; after an error, they use the old one.
    pub fn reload(&self) -> Result<(), String> {
        self.config.store(read(&self.settings)?);
        Ok(())
    }

    /// The configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn read(settings: &TlsSettings) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&settings.cert_file)?;
    let key_file = &settings.key_file;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unreadable(key_file, &error))?;
    let builder = ServerConfig::builder();
    let builder = match &settings.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("{}: a CA certificate cannot be used: {error}", file.display()))?;
            }
            // Callers may also identify themselves by a token or key.
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .allow_unauthenticated()
                .build();
            builder.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", file.display()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (certificate, key) = (settings.cert_file.display(), key_file.display());
        format!("{certificate} and {key}: the certificate and the key cannot be used together: {error}")
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates in a PEM file; at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(file, &error))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let certificates = certificates.map_err(|error| unreadable(file, &error))?;
    match certificates.is_empty() {
        true => Err(format!("{}: has no certificate in PEM form", file.display())),
        false => Ok(certificates),
    }
}

fn unreadable(file: &Path, error: &rustls::pki_types::pem::Error) -> String {
    format!("{}: cannot be read: {error}", file.display())
}

/// When the first certificate of a file expires.
pub fn expiry(file: &Path) -> Option<SystemTime> {
    let certificate = certificates(file).ok()?.swap_remove(0);
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds))
}
