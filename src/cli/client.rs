//! The connection of commands to a running gateway: its address, the account, and its errors as text for users. Does not
//! depend on any command.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use leadgate::grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt;

/// The timeout of the connection to the gateway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of each call to the gateway.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The address of a running gateway, and one of its accounts.
#[derive(Args)]
pub(crate) struct GatewayOptions {
    #[command(flatten)]
    address: GatewayAddress,
    /// The account (tenant) of the gateway. Required if the gateway has several.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
}

/// The address of a running gateway.
#[derive(Args)]
pub(crate) struct GatewayAddress {
    /// The address of the gateway: a URL or HOST:PORT. https:// uses TLS, everything else plaintext.
    #[arg(long, global = true, value_name = "ADDR", default_value = "http://127.0.0.1:50051")]
    addr: String,
    /// A PEM file with the certificate authorities to trust for https:// [default: those of the system].
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A connection to a running gateway, for one of its accounts.
#[derive(Clone)]
pub(crate) struct GatewayClient {
    channel: Channel,
    tenant: Option<AsciiMetadataValue>,
}

impl GatewayOptions {
    pub(crate) async fn connect(&self) -> Result<GatewayClient, String> {
        let address = &self.address.addr;
        let tenant = self.tenant.as_deref().map(AsciiMetadataValue::try_from).transpose();
        let tenant = tenant.map_err(|_| "--tenant: invalid name of an account".to_owned())?;
        let failed = |error| format!("the gateway at {address} {error}; start it, or give its address with --addr");
        let authorities = self.address.authorities()?;
        let channel = grpc::connect(address, authorities.as_deref(), CONNECT_TIMEOUT).await;
        let channel = channel.map_err(failed)?;
        Ok(GatewayClient { channel, tenant })
    }
}

impl GatewayAddress {
    /// Checks that the gateway is serving.
    pub(crate) async fn health(&self) -> Result<(), String> {
        let authorities = self.authorities()?;
        let checked = grpc::health(&self.addr, authorities.as_deref(), CONNECT_TIMEOUT).await;
        checked.map_err(|error| format!("the gateway at {} {error}", self.addr))
    }

    /// Returns the certificates of the file, if one is given.
    fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &self.ca_file else {
            return Ok(None);
        };
        let name = path.display();
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("--ca-file: reading {name} failed: {error}"))?;
        match text.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(Some(text.into_bytes())),
            false => Err(format!("--ca-file: {name} has no certificate in PEM format")),
        }
    }
}

impl GatewayClient {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns a request with a timeout.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = self.plain(message);
        request.set_timeout(CALL_TIMEOUT);
        request
    }

    /// Returns a request without a timeout. It has a separate caller name, so that it does not use the quota of other callers.
    pub(crate) fn stream<M>(&self, message: M) -> Request<M> {
        let mut request = self.plain(message);
        let name = AsciiMetadataValue::from_static("transfer");
        request.metadata_mut().insert("x-leadgate-caller", name);
        request
    }

    fn plain<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(tenant) = &self.tenant {
            request.metadata_mut().insert("x-leadgate-tenant", tenant.clone());
        }
        request
    }
}

/// Prints a note to standard error, apart from the output of the command.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns an error of the gateway in one line, with what to do.
pub(crate) fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        let (code, text) = (status.code(), status.message());
        return format!("{code:?}: {text}; is it a leadgate at that address, of this version or a later one?");
    };
    let is_unnamed_tenant = |bad: &tonic_types::BadRequest| {
        let mut violations = bad.field_violations.iter();
        violations.any(|violation| violation.field == "x-leadgate-tenant")
    };
    let is_tenant = info.metadata.get("rule").is_some_and(|rule| rule == "tenant");
    let next = match info.reason.as_str() {
        _ if is_tenant || details.bad_request().is_some_and(is_unnamed_tenant) => "give it with --tenant".to_owned(),
        "SHARE_NOT_FOUND" => "`leadgate shares list` lists the shares".to_owned(),
        "USER_NOT_FOUND" => "use the id to find a user that was deleted".to_owned(),
        "SHARE_NOT_ACTIVE" => "there is no access to revoke".to_owned(),
        "OUTCOME_UNKNOWN" => "revoke it again to find the outcome".to_owned(),
        "UPSTREAM_CREDENTIALS_REJECTED" | "UPSTREAM_FEATURE_DISABLED" => {
            "`leadgate check --connect` shows details".to_owned()
        }
        _ => match details.retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => format!("try again in {} s", delay.as_secs().max(1)),
            None => return format!("{}: {}", info.reason, status.message()),
        },
    };
    format!("{}: {}; {next}", info.reason, status.message())
}
