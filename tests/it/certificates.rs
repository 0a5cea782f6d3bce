//! Certificates for tests: authorities, the certificates that they issue, and the files of `server.tls`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate of a server at `localhost` and `127.0.0.1`.
    pub fn server(&self) -> Issued {
        self.server_until(in_days(365))
    }

    pub fn server_until(&self, expiry: SystemTime) -> Issued {
        self.issue(
            &["dns:localhost", "ip:127.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
            expiry,
        )
    }

    /// A certificate of a client with these subject alternative names: URIs, or `dns:` and a DNS name.
    pub fn client(&self, names: &[&str]) -> Issued {
        self.client_until(names, in_days(365))
    }

    pub fn client_until(&self, names: &[&str], expiry: SystemTime) -> Issued {
        self.issue(names, ExtendedKeyUsagePurpose::ClientAuth, expiry)
    }

    /// A certificate with these subject alternative names: `dns:` and a DNS name, `ip:` and an address, or URIs.
    pub fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose, expiry: SystemTime) -> Issued {
        let mut params = CertificateParams::default();
        let names = names.iter().map(|name| match name.split_once(':').unwrap() {
            ("dns", name) => SanType::DnsName(name.try_into().unwrap()),
            ("ip", address) => SanType::IpAddress(address.parse().unwrap()),
            _ => SanType::URI((*name).try_into().unwrap()),
        });
        params.subject_alt_names = names.collect();
        // OpenSSL takes a certificate with the subject of its issuer for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "issued");
        params.extended_key_usages = vec![usage];
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch;
        params.not_after = epoch + expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        Issued { cert, key }
    }
}

/// The time in this number of days, or before if it is negative.
pub fn in_days(days: i32) -> SystemTime {
    let (now, distance) = (SystemTime::now(), DAY * days.unsigned_abs());
    if days < 0 { now - distance } else { now + distance }
}

/// The files of `server.tls`, which are deleted with the value. Servers and clients have different authorities.
pub struct TlsFiles {
    folder: tempfile::TempDir,
    pub server_authority: Authority,
    pub client_authority: Authority,
}

impl TlsFiles {
    pub fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            server_authority: Authority::new(),
            client_authority: Authority::new(),
        };
        files.write_server(&files.server_authority.server());
        files.write("ca.crt", &files.client_authority.pem);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file: `tls.crt`, `tls.key` or `ca.crt`.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn write_server(&self, server: &Issued) {
        self.write("tls.crt", &server.cert);
        self.write("tls.key", &server.key);
    }

    /// The settings `server.tls` as environment variables.
    pub fn variables(&self) -> [(String, String); 3] {
        [
            ("CERT_FILE", "tls.crt"),
            ("KEY_FILE", "tls.key"),
            ("CLIENT_CA_FILE", "ca.crt"),
        ]
        .map(|(setting, name)| {
            let path = self.path(name).to_str().unwrap().to_owned();
            (format!("LEADGATE__SERVER__TLS__{setting}"), path)
        })
    }

    /// An endpoint that trusts the server's authority, with a certificate for the client if one is given.
    pub fn endpoint(&self, address: SocketAddr, client: Option<&Issued>) -> Endpoint {
        let ca = Certificate::from_pem(&self.server_authority.pem);
        let mut config = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
        if let Some(client) = client {
            config = config.identity(Identity::from_pem(&client.cert, &client.key));
        }
        let endpoint = Endpoint::new(format!("https://{address}")).unwrap();
        endpoint.tls_config(config).unwrap()
    }
}
