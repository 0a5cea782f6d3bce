//! The connection of commands to a running gateway: its address, the credentials, the account, and its errors as text for users.
//! Does not depend on any command.

use std::error::Error;
use std::io::{self, Write};
#[cfg(feature = "simulator")]
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use clap::Args;
use leadgate::domain::characters::{self, TextForm};
use leadgate::grpc::{self, ClientTls};
use leadgate::identity::api_key;
use leadgate::{clock, config, tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// The timeout of the connection to the gateway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of each call to the gateway.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A running gateway, and one of its accounts.
#[derive(Args)]
pub(crate) struct GatewayOptions {
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,
    /// The account (tenant) of the gateway. Required if the gateway has several.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
}

/// The address of a running gateway, and the credentials for it.
#[derive(Args)]
pub(crate) struct ConnectionOptions {
    /// The address of the gateway: a URL or HOST:PORT. https:// uses TLS, everything else plaintext.
    #[arg(
        long,
        global = true,
        value_name = "ADDR",
        env = "LEADGATE_ADDR",
        default_value = "http://127.0.0.1:50051"
    )]
    pub(crate) addr: String,
    /// A PEM file with the certificate authorities to trust for https:// [default: those of the system].
    #[arg(long, alias = "ca-file", global = true, value_name = "FILE", env = "LEADGATE_TLS_CA")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// A PEM file with the client's certificate chain for https://. Requires --key.
    #[arg(long, global = true, value_name = "FILE", env = "LEADGATE_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// A PEM file with the private key of --cert.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LEADGATE_KEY",
        hide_env_values = true
    )]
    pub(crate) key: Option<PathBuf>,
    /// A file with an API key or a JSON Web Token. It is read again for each call, so it may be replaced at any time.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LEADGATE_TOKEN_FILE",
        hide_env_values = true
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// The name in the certificate of the gateway [default: the host of --addr].
    #[arg(long, global = true, value_name = "NAME", env = "LEADGATE_SERVER_NAME")]
    pub(crate) server_name: Option<String>,
    /// Send the token also over plaintext to another machine, for networks that encrypt by themselves.
    #[arg(long, global = true)]
    pub(crate) insecure_plaintext: bool,
}

/// A connection that sends the token of `--token-file` with each call.
pub(crate) type GatewayChannel = InterceptedService<Channel, Authorization>;

/// A connection to a running gateway, for one of its accounts.
#[derive(Clone)]
pub(crate) struct GatewayClient {
    channel: GatewayChannel,
    tenant: Option<AsciiMetadataValue>,
    has_credentials: bool,
}

/// Adds the token of `--token-file`, if there is one.
#[derive(Clone)]
pub(crate) struct Authorization(Option<TokenFile>);

/// A file with an API key or a token.
#[derive(Clone)]
struct TokenFile {
    path: PathBuf,
    /// The metadata entry for the last valid content.
    last: Arc<ArcSwap<AsciiMetadataValue>>,
}

impl GatewayOptions {
    pub(crate) async fn connect(&self) -> Result<GatewayClient, String> {
        let tenant = self.tenant.as_deref().map(AsciiMetadataValue::try_from).transpose();
        let tenant = tenant.map_err(|_| "--tenant: invalid name of an account".to_owned())?;
        Ok(GatewayClient {
            channel: self.connection.connect().await?,
            tenant,
            has_credentials: self.connection.token_file.is_some() || self.connection.cert.is_some(),
        })
    }
}

impl ConnectionOptions {
    /// A connection without TLS and credentials.
    #[cfg(feature = "simulator")]
    pub(crate) fn plaintext(address: SocketAddr) -> Self {
        Self {
            addr: format!("http://{address}"),
            tls_ca: None,
            cert: None,
            key: None,
            token_file: None,
            server_name: None,
            insecure_plaintext: false,
        }
    }

    /// Checks that the gateway is serving.
    pub(crate) async fn health(&self) -> Result<(), String> {
        let channel = self.connect().await?;
        let mut request = Request::new(HealthCheckRequest::default());
        request.set_timeout(CONNECT_TIMEOUT);
        let response = HealthClient::new(channel).check(request).await;
        let response = response.map_err(|status| format!("the gateway at {}: {}", self.addr, explain(&status)))?;
        match response.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            _ => Err(self.failed("is not serving")),
        }
    }

    async fn connect(&self) -> Result<GatewayChannel, String> {
        let url = grpc::parse_address(&self.addr).map_err(|error| self.failed(error))?;
        self.check_paths()?;
        let tls = self.tls()?;
        let has_tls_options = self.tls_ca.is_some() || self.cert.is_some() || self.server_name.is_some();
        if url.scheme() != "https" && has_tls_options {
            return Err(self.failed(
                "has an address without TLS: --tls-ca, --cert and --server-name require an address with https://",
            ));
        }
        let token_file = self.token_file.clone().map(TokenFile::open).transpose()?;
        let is_exposed = url.scheme() != "https" && !config::is_loopback(&url);
        if token_file.is_some() && is_exposed && !self.insecure_plaintext {
            return Err(self.failed(
                "has an address without TLS, and the token of --token-file would be sent in plaintext: use https://, or \
                 --insecure-plaintext if the network encrypts by itself",
            ));
        }
        let channel = grpc::connect(&url, tls, CONNECT_TIMEOUT).await;
        let channel = channel.map_err(|error| self.failed(error))?;
        Ok(InterceptedService::new(channel, Authorization(token_file)))
    }

    /// Fails if an option has a key or a token instead of the path of its file, before an error shows the path.
    fn check_paths(&self) -> Result<(), String> {
        let options = [
            ("--token-file", &self.token_file),
            ("--cert", &self.cert),
            ("--key", &self.key),
        ];
        let is_secret = |path: &PathBuf| {
            let text = path.to_string_lossy();
            api_key::is_key(&text) || text.starts_with("eyJ") || text.contains("-----BEGIN")
        };
        match options.iter().find(|(_, path)| path.as_ref().is_some_and(is_secret)) {
            Some((option, _)) => Err(format!("{option} must be the path of a file, and not its content")),
            None => Ok(()),
        }
    }

    fn failed(&self, error: impl AsRef<str>) -> String {
        format!("the gateway at {} {}", self.addr, error.as_ref())
    }

    /// Reads the files for TLS.
    fn tls(&self) -> Result<ClientTls, String> {
        let authorities = self.tls_ca.as_deref().map(|path| certificates("--tls-ca", path));
        let identity = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                let chain = certificates("--cert", cert)?;
                check_expiry(cert, &chain)?;
                Some((chain, private_key(key)?))
            }
            (Some(_), None) => return Err("--cert requires --key, the file with its private key".to_owned()),
            (None, Some(_)) => return Err("--key requires --cert, the file with its certificate".to_owned()),
        };
        Ok(ClientTls {
            authorities: authorities.transpose()?,
            identity,
            server_name: self.server_name.clone(),
        })
    }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{option}: reading {} failed: {error}", path.display()))
}

/// Reads a PEM file with at least one certificate.
fn certificates(option: &str, path: &Path) -> Result<Vec<u8>, String> {
    let pem = read(option, path)?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(format!("{option}: {} has no certificate in PEM format", path.display())),
    }
}

/// Checks that the client's own certificate, the first one, has not expired: a server may close the connection without a reason.
fn check_expiry(path: &Path, chain: &[u8]) -> Result<(), String> {
    let own = CertificateDer::from_pem_slice(chain).map_err(|error| format!("--cert: {error}"))?;
    let failed = |error| format!("--cert: {}: {error}", path.display());
    match tls::earliest_expiry(&[own]).map_err(failed)? > SystemTime::from(clock::now()) {
        true => Ok(()),
        false => Err(failed("the certificate has expired".to_owned())),
    }
}

/// Reads a PEM file with a private key.
fn private_key(path: &Path) -> Result<Vec<u8>, String> {
    let pem = read("--key", path)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(format!("--key: {} has no private key in PEM format", path.display())),
    }
}

impl TokenFile {
    fn open(path: PathBuf) -> Result<Self, String> {
        let first = read_token(&path).map_err(|error| format!("--token-file: {error}"))?;
        let last = Arc::new(ArcSwap::from_pointee(first));
        Ok(Self { path, last })
    }

    /// Returns the metadata entry for the present content of the file, or for the last valid one.
    fn authorization(&self) -> AsciiMetadataValue {
        if let Ok(token) = read_token(&self.path) {
            self.last.store(Arc::new(token));
        }
        self.last.load().as_ref().clone()
    }
}

/// Reads the metadata entry for the token in a file. The error does not have the content.
fn read_token(path: &Path) -> Result<AsciiMetadataValue, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("reading {name} failed: {error}"))?;
    let text = SecretString::from(text);
    let token = text.expose_secret().trim();
    if token.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if token.starts_with("sha256:") {
        return Err(format!("{name} has the hash of an API key, and must have the key"));
    }
    let form = || format!("{name} must have one API key or token, without \"Bearer\" and spaces");
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(form());
    }
    let mut entry = AsciiMetadataValue::try_from(format!("Bearer {token}")).map_err(|_| form())?;
    entry.set_sensitive(true);
    Ok(entry)
}

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(file) = &self.0 {
            request.metadata_mut().insert("authorization", file.authorization());
        }
        Ok(request)
    }
}

impl GatewayClient {
    pub(crate) fn channel(&self) -> GatewayChannel {
        self.channel.clone()
    }

    /// Returns a request with a timeout.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = self.plain(message);
        request.set_timeout(CALL_TIMEOUT);
        request
    }

    /// Returns a request without a timeout. Without credentials, it has a separate caller name, so that it does not use the quota of
    /// other callers.
    pub(crate) fn stream<M>(&self, message: M) -> Request<M> {
        let mut request = self.plain(message);
        if !self.has_credentials {
            let name = AsciiMetadataValue::from_static("transfer");
            request.metadata_mut().insert("x-leadgate-caller", name);
        }
        request
    }

    /// Returns a request without a timeout and without a caller name.
    pub(crate) fn plain<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(tenant) = &self.tenant {
            request.metadata_mut().insert("x-leadgate-tenant", tenant.clone());
        }
        request
    }
}

/// Prints a note to standard error, apart from the output of the command.
pub(crate) fn note(text: &str) {
    // The text may be one of another program.
    let _ = writeln!(io::stderr(), "{}", characters::visible(text, TextForm::Lines));
}

/// Returns an error of the gateway in one line, with what to do.
pub(crate) fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        if let Some(cause) = status.source() {
            let cause = grpc::describe_failure(cause);
            // A server that does not accept a certificate may close the connection before its alert is read, or before the first
            // request is written ("connection was not ready").
            let is_closed = ["closed", "reset", "pipe", "not ready"]
                .iter()
                .any(|text| cause.contains(text));
            let advice = match is_closed {
                true => {
                    "; is it a leadgate at that address? If the address begins with http://, the server may use TLS: try https://. \
                     Otherwise it may require a client certificate (--cert and --key), or it rejected the client certificate of --cert: \
                     check its authority, its expiry and its use"
                }
                // The response of a server with TLS is no frame of HTTP/2.
                false if cause.contains("frame with invalid size") => {
                    "; the server may use TLS: try an address with https://"
                }
                false => "",
            };
            return format!("the connection failed: {cause}{advice}");
        }
        let (code, text) = (status.code(), status.message());
        return format!("{code:?}: {text}; is it a leadgate at that address, of this version or a later one?");
    };
    let is_unnamed_tenant = |bad: &tonic_types::BadRequest| {
        let mut violations = bad.field_violations.iter();
        violations.any(|violation| violation.field == "x-leadgate-tenant")
    };
    let rule = info.metadata.get("rule").map(String::as_str);
    let next = match (info.reason.as_str(), rule) {
        (_, Some("tenant")) => {
            "check --tenant: the gateway must have the tenant, and callers.NAME.tenants must list it".to_owned()
        }
        (_, Some("method")) => {
            "callers.NAME.allow in the settings of the gateway must list all RPCs of this command (docs/security.md)"
                .to_owned()
        }
        (_, Some("field")) => "do without these fields, or change the settings of the gateway".to_owned(),
        _ if details.bad_request().is_some_and(is_unnamed_tenant) => "give it with --tenant".to_owned(),
        ("CALLER_UNKNOWN", _) => {
            "give a valid API key or token with --token-file, or a client certificate with --cert and --key".to_owned()
        }
        ("SHARE_NOT_FOUND", _) => "`leadgate shares list` lists the shares".to_owned(),
        ("USER_NOT_FOUND", _) => "use the id to find a user that was deleted".to_owned(),
        ("SHARE_NOT_ACTIVE", _) => "there is no access to revoke".to_owned(),
        ("OUTCOME_UNKNOWN", _) => "revoke it again to find the outcome".to_owned(),
        ("UPSTREAM_CREDENTIALS_REJECTED" | "UPSTREAM_FEATURE_DISABLED", _) => {
            "`leadgate check --connect` shows details".to_owned()
        }
        _ => match details.retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => format!("try again in {} s", delay.as_secs().max(1)),
            None => return format!("{}: {}", info.reason, status.message()),
        },
    };
    format!("{}: {}; {next}", info.reason, status.message())
}
