//! What all commands have in common that are clients of a running gateway: how it is reached, which of its accounts is meant,
//! and what its refusals mean to people. Knows none of the commands.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use leadgate::grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt;

/// How long the gateway may take to be reached, and each call of ours to be answered.
const CONNECT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a running gateway is, and which of its accounts is meant.
#[derive(Args)]
pub(crate) struct Address {
    #[command(flatten)]
    place: Place,
    /// Which of the gateway's accounts; needed where it has several.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
}

/// Where a running gateway is.
#[derive(Args)]
pub(crate) struct Place {
    /// Where the gateway serves gRPC: a URL, or host:port. https:// is TLS, everything else plaintext.
    #[arg(long, global = true, value_name = "ADDR", default_value = "http://127.0.0.1:50051")]
    addr: String,
    /// The certificates of the authorities to trust with https://, as PEM [default: those that the system trusts].
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A running gateway, and which of its accounts is meant.
#[derive(Clone)]
pub(crate) struct Gateway {
    channel: Channel,
    tenant: Option<AsciiMetadataValue>,
}

impl Address {
    pub(crate) async fn connect(&self) -> Result<Gateway, String> {
        let address = &self.place.addr;
        let tenant = self.tenant.as_deref().map(AsciiMetadataValue::try_from).transpose();
        let tenant = tenant.map_err(|_| "--tenant: is no name of an account".to_owned())?;
        let unreached = |fault| format!("the gateway at {address} {fault}; start it, or say by --addr where it serves");
        let authorities = self.place.authorities()?;
        let channel = grpc::connect(address, authorities.as_deref(), CONNECT).await;
        let channel = channel.map_err(unreached)?;
        Ok(Gateway { channel, tenant })
    }
}

impl Place {
    /// Asks the gateway whether it is serving.
    pub(crate) async fn health(&self) -> Result<(), String> {
        let authorities = self.authorities()?;
        let asked = grpc::health(&self.addr, authorities.as_deref(), CONNECT).await;
        asked.map_err(|fault| format!("the gateway at {} {fault}", self.addr))
    }

    /// The certificates in the file, if one is named.
    fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &self.ca_file else {
            return Ok(None);
        };
        let name = path.display();
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("--ca-file: {name} cannot be read: {error}"))?;
        match text.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(Some(text.into_bytes())),
            false => Err(format!("--ca-file: {name} has no certificate in the form of PEM")),
        }
    }
}

impl Gateway {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request that is to be answered soon.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = self.plain(message);
        request.set_timeout(PATIENCE);
        request
    }

    /// A request that may take as long as it takes. It has a name of its own, so that others need not share their turns.
    pub(crate) fn stream<M>(&self, message: M) -> Request<M> {
        let mut request = self.plain(message);
        let name = AsciiMetadataValue::from_static("leadgate-transfer");
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

/// What is said about the output and is no part of it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A refusal in one line: what is wrong, and what to do.
pub(crate) fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        let (code, text) = (status.code(), status.message());
        return format!("{code:?}: {text}; is it a leadgate that serves there, as new as this one?");
    };
    let is_tenant = |bad: &tonic_types::BadRequest| {
        let mut violations = bad.field_violations.iter();
        violations.any(|violation| violation.field == "x-leadgate-tenant")
    };
    let next = match info.reason.as_str() {
        _ if details.bad_request().is_some_and(is_tenant) => "give it by --tenant".to_owned(),
        "SHARE_NOT_FOUND" => "`leadgate shares list` shows what it has".to_owned(),
        "USER_NOT_FOUND" => "the id finds also who has gone".to_owned(),
        "SHARE_NOT_ACTIVE" => "there is no access to take back".to_owned(),
        "OUTCOME_UNKNOWN" => "revoke it again to have it settled".to_owned(),
        "UPSTREAM_CREDENTIALS_REJECTED" | "UPSTREAM_FEATURE_DISABLED" => {
            "`leadgate check --connect` tells more".to_owned()
        }
        _ => match details.retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => format!("try again in {} s", delay.as_secs().max(1)),
            None => return format!("{}: {}", info.reason, status.message()),
        },
    };
    format!("{}: {}; {next}", info.reason, status.message())
}
