//! `leadgate store backup`: a consistent copy of the SQLite store of a running gateway, through its admin port.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use leadgate::config;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tempfile::NamedTempFile;
use tokio::net::TcpStream;
use url::Url;

use crate::cli::output::print_line;
use crate::cli::process::{ConfigOption, shutdown_signal};

/// Maximum time for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for the gateway to copy the store on its own disk.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1800);
/// Maximum time between two parts of the copy.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The first bytes of each SQLite database.
const HEADER: &[u8] = b"SQLite format 3\0";
/// Maximum length of an error of the gateway, in bytes.
const MAX_ERROR: usize = 64 * 1024;

#[derive(Args)]
pub(crate) struct BackupOptions {
    /// The file to write. It must not exist. Its mode is 0600.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The address of the admin port of the gateway: http://HOST:PORT [default: admin.listen of the configuration].
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// A file with the token of admin.token [default: admin.token of the configuration].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token also over plaintext to another machine, for networks that encrypt by themselves.
    #[arg(long)]
    insecure_plaintext: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// The body of an error of the gateway.
#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
}

pub(crate) async fn run(options: &BackupOptions) -> Result<(), String> {
    let interrupted = shutdown_signal()?;
    tokio::select! {
        bytes = options.write() => {
            print_line!("Wrote {} bytes to {}.", bytes?, options.file.display());
            Ok(())
        }
        // The incomplete file is deleted when it is dropped.
        () = interrupted => Err("interrupted; nothing was written".to_owned()),
    }
}

impl BackupOptions {
    /// Writes the file. Returns its length.
    async fn write(&self) -> Result<u64, String> {
        // Other programs write to standard output then, and no file would have that name.
        if self.file.as_os_str() == "-" {
            return Err("FILE must be a file: standard output is not supported".to_owned());
        }
        let (url, token) = self.target()?;
        let name = self.file.display();
        if fs::symlink_metadata(&self.file).is_ok() {
            return Err(format!("{name} exists already; nothing was written"));
        }
        let directory = match self.file.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        let failed = |error: std::io::Error| format!("{name} cannot be written: {error}; nothing was written");
        let private = fs::Permissions::from_mode(0o600);
        let incomplete = tempfile::Builder::new()
            .prefix(".leadgate-backup-")
            .permissions(private)
            .tempfile_in(directory);
        let mut incomplete = incomplete.map_err(failed)?;
        let response = request(&url, &token).await?;
        let bytes = receive(response, &mut incomplete, &name.to_string()).await?;
        incomplete.as_file().sync_all().map_err(failed)?;
        incomplete
            .persist_noclobber(&self.file)
            .map_err(|error| failed(error.error))?;
        // The name, too, survives a power failure.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed)?;
        Ok(bytes)
    }

    /// The address of the gateway, and the token.
    fn target(&self) -> Result<(Url, SecretString), String> {
        let config = match (&self.admin, &self.token_file) {
            (Some(_), Some(_)) => None,
            (Some(_), None) if !self.config.is_given() => {
                return Err("--admin needs the token: give --token-file, or --config with admin.token".to_owned());
            }
            (None, Some(_)) if !self.config.is_given() => {
                return Err("--token-file needs the address: give --admin, or --config with admin.listen".to_owned());
            }
            _ => Some(self.config.load()?),
        };
        let url = match (&self.admin, &config) {
            (Some(url), _) => parse(url)?,
            (None, Some(config)) => parse(&format!("http://{}", reachable(config.admin_listen)))?,
            (None, None) => return Err("--admin is required".to_owned()),
        };
        if !self.insecure_plaintext && !config::is_loopback(&url) {
            return Err(format!(
                "the token would be sent in plaintext to {url}: use --insecure-plaintext if the network encrypts by itself"
            ));
        }
        let token = match (&self.token_file, config.and_then(|config| config.admin_token)) {
            (Some(path), _) => {
                let text = fs::read_to_string(path);
                let text = text.map_err(|error| format!("--token-file: reading {} failed: {error}", path.display()))?;
                text.trim().to_owned().into()
            }
            (None, Some(source)) => source.read().map_err(|error| format!("admin.token: {error}"))?,
            (None, None) => return Err("admin.token is not set, and there is no --token-file".to_owned()),
        };
        Ok((url, token))
    }
}

fn parse(text: &str) -> Result<Url, String> {
    let is_bare = |url: &Url| {
        let has_user = !url.username().is_empty() || url.password().is_some();
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        url.scheme() == "http" && url.has_host() && !has_user && !has_more
    };
    let url = Url::parse(text).ok().filter(is_bare);
    url.ok_or_else(|| {
        "--admin must be http://HOST:PORT, the address of the admin port, without a user, a path or a query".to_owned()
    })
}

/// The address by which this machine reaches a listening address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Requests the copy. Returns the response with it.
async fn request(url: &Url, token: &SecretString) -> Result<Response<Incoming>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the gateway at {url}: {error}; nothing was written");
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
    let stream = connecting
        .map_err(|_| failed(&format!("no connection within {CONNECT_TIMEOUT:?}")))?
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    #[expect(clippy::disallowed_methods, reason = "it ends with the connection")]
    tokio::spawn(connection);
    let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| "the token has characters that are invalid in a header".to_owned())?;
    authorization.set_sensitive(true);
    let request = Request::post("/admin/store/backup")
        .header(HOST, url.authority())
        .header(AUTHORIZATION, authorization)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed(&error))?;
    let response = tokio::time::timeout(RESPONSE_TIMEOUT, sender.send_request(request)).await;
    let response = response
        .map_err(|_| failed(&format!("no response within {RESPONSE_TIMEOUT:?}")))?
        .map_err(|error| failed(&error))?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MAX_ERROR).collect();
    let body = tokio::time::timeout(READ_TIMEOUT, body).await.ok().and_then(Result::ok);
    let body = body.and_then(|body| serde_json::from_slice::<ErrorBody>(&body.to_bytes()).ok());
    Err(match body {
        Some(ErrorBody { code, message }) => failed(&format!("{message} ({code})")),
        None => failed(&format!("HTTP {status}")),
    })
}

/// Writes the body of a response to a file. Fails if the body is incomplete, or if it is not a SQLite database.
async fn receive(response: Response<Incoming>, file: &mut NamedTempFile, name: &str) -> Result<u64, String> {
    let incomplete = "the transfer was interrupted; nothing was written";
    let length = hyper::body::Body::size_hint(response.body()).exact();
    let length = length.ok_or("the response has no length; nothing was written")?;
    let style = ProgressStyle::with_template("{bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::new(length);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    let (mut body, mut bytes, mut header) = (response.into_body(), 0, Vec::new());
    loop {
        let frame = tokio::time::timeout(READ_TIMEOUT, body.frame()).await;
        let frame = frame.map_err(|_| format!("no data within {READ_TIMEOUT:?}: {incomplete}"))?;
        let Some(frame) = frame else {
            break;
        };
        let frame = frame.map_err(|error| format!("{error}: {incomplete}"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let missing = HEADER.len().saturating_sub(header.len()).min(data.len());
        header.extend_from_slice(&data[..missing]);
        file.write_all(&data)
            .map_err(|error| format!("{name} cannot be written: {error}; nothing was written"))?;
        bytes += data.len() as u64;
        bar.set_position(bytes);
    }
    bar.finish_and_clear();
    if bytes != length {
        return Err(format!("{bytes} of {length} bytes: {incomplete}"));
    }
    if header != HEADER {
        return Err("the response is not a SQLite database; nothing was written".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_address_is_reached_on_this_machine() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(of("[::]:9464"), "[::1]:9464");
        assert_eq!(of("10.0.0.5:1"), "10.0.0.5:1");
    }

    #[test]
    fn the_address_is_a_url_without_tls() {
        assert!(parse("http://127.0.0.1:9464").is_ok());
        for text in [
            "127.0.0.1:9464",
            "https://gate:9464",
            "http://",
            "http://user@gate:9464",
            "http://:secret@gate:9464",
            "http://gate:9464/admin",
            "http://gate:9464/?x=1",
            "http://gate:9464#x",
        ] {
            assert!(parse(text).unwrap_err().contains("http://HOST:PORT"), "{text}");
        }
    }
}
