//! Connects to a running gateway, for the commands that are clients of it.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{CertificateError, InvalidMessage};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use url::Url;

/// A PING is sent on a connection with RPCs in progress. Servers may close a connection with more frequent PINGs.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client needs for TLS. All files are PEM.
#[derive(Default)]
pub struct ClientTls {
    /// The certificate authorities to trust. `None`: those of the system.
    pub authorities: Option<Vec<u8>>,
    /// The client's certificate chain and its private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the certificate of the gateway. `None`: the host of the address.
    pub server_name: Option<String>,
}

/// Parses the address of a gateway: a URL, or `host:port` without TLS.
pub fn parse_address(address: &str) -> Result<Url, String> {
    let url = match address.contains("://") {
        true => Url::parse(address),
        false => Url::parse(&format!("http://{address}")),
    };
    url.ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| "is not an address of the form http://HOST:PORT or https://HOST:PORT".to_owned())
}

/// Connects to a gateway. `https` is TLS, and `http` is plaintext, which ignores `tls`.
pub async fn connect(url: &Url, tls: ClientTls, limit: Duration) -> Result<Channel, String> {
    // Endpoint::new would load the authorities of the system by itself.
    let endpoint = Endpoint::from_shared(String::from(url.clone()));
    let mut endpoint = endpoint.map_err(|_| "is not a valid address".to_owned())?;
    if url.scheme() == "https" {
        let config = endpoint.tls_config(tls.config(limit));
        endpoint = config.map_err(|error| format!("has an invalid TLS configuration: {}", describe_failure(&error)))?;
    }
    // A gateway that is frozen or cut off does not close its connections.
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let channel = endpoint.connect_timeout(limit).connect().await;
    channel.map_err(|error| match tls_advice(&error) {
        Some(_) => format!("cannot be reached: {}", describe_failure(&error)),
        None => format!(
            "cannot be reached: {}; start it, or give its address with --addr",
            root_cause(&error)
        ),
    })
}

impl ClientTls {
    fn config(self, limit: Duration) -> ClientTlsConfig {
        let mut config = match self.authorities {
            Some(authorities) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = self.server_name {
            config = config.domain_name(name);
        }
        config.timeout(limit)
    }
}

/// Returns the cause of a failed connection, with what to do if that is known.
pub fn describe_failure(error: &(dyn Error + 'static)) -> String {
    let cause = root_cause(error);
    match tls_advice(error) {
        Some(advice) => format!("{cause}; {advice}"),
        None => cause,
    }
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Returns what to do about an error of TLS.
fn tls_advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    use CertificateError as Invalid;

    if let Some(advice) = client_advice(&root_cause(error)) {
        return Some(advice);
    }
    let mut chain = std::iter::successors(Some(error), |&error| error.source());
    Some(match chain.find_map(tls_error)? {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not use TLS: try an address with http://"
        }
        // Two authorities of the same name differ in their keys.
        rustls::Error::InvalidCertificate(Invalid::UnknownIssuer | Invalid::BadSignature) => {
            "the authority of the gateway's certificate is not trusted; --tls-ca can add it"
        }
        rustls::Error::InvalidCertificate(Invalid::Expired | Invalid::ExpiredContext { .. }) => {
            "the certificate of the gateway has expired: renew the file server.tls.cert_file"
        }
        rustls::Error::InvalidCertificate(Invalid::NotValidYet | Invalid::NotValidYetContext { .. }) => {
            "the certificate of the gateway is not valid yet: check the clocks of both machines"
        }
        rustls::Error::InvalidCertificate(Invalid::NotValidForName | Invalid::NotValidForNameContext { .. }) => {
            "the certificate of the gateway has another name: use that name in --addr, or give it with --server-name"
        }
        rustls::Error::InvalidCertificate(_) => "the certificate of the gateway cannot be used",
        rustls::Error::InconsistentKeys(_) => "--cert and --key do not belong together",
        _ => return None,
    })
}

/// Returns what to do if the server does not accept the client's certificate, or its absence. With TLS 1.3, this is an error of the
/// first RPC, and only its text is left.
fn client_advice(cause: &str) -> Option<&'static str> {
    const REJECTED: [&str; 8] = [
        "UnknownCA",
        "CertificateExpired",
        "CertificateUnknown",
        "CertificateRevoked",
        "BadCertificate",
        "UnsupportedCertificate",
        "DecryptError",
        "AccessDenied",
    ];
    match cause.strip_prefix("received fatal alert: ") {
        Some("CertificateRequired") => Some("the server requires a client certificate: give --cert and --key"),
        Some(alert) if REJECTED.contains(&alert) => {
            Some("the server rejected the client certificate of --cert: check its authority, its expiry and its use")
        }
        _ => None,
    }
}

/// The error of TLS that an error of a chain is, or that it carries.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref().or_else(|| {
        // The source of such an error is the source of what it carries.
        let carried = error.downcast_ref::<io::Error>()?.get_ref()?;
        carried.downcast_ref()
    })
}
