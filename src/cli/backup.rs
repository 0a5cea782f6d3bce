//! `leadgate store backup`: a consistent copy of the SQLite store of a running gateway, through its admin port.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::NamedTempFile;

use crate::cli::admin::{self, AdminPort};
use crate::cli::output::print_line;
use crate::cli::process::{ConfigOption, shutdown_signal};

/// Maximum time for the gateway to copy the store on its own disk.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1800);
/// Maximum time between two parts of the copy.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The first bytes of each SQLite database.
const HEADER: &[u8] = b"SQLite format 3\0";
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
        let port = self.target()?;
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
        let response = port.post("/admin/store/backup", "", RESPONSE_TIMEOUT).await;
        let response = response.map_err(|error| format!("{error}; nothing was written"))?;
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

    /// The admin port of the gateway.
    fn target(&self) -> Result<AdminPort, String> {
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
            (Some(url), _) => admin::parse("--admin", url)?,
            (None, Some(config)) => admin::listening_at(config.admin_listen)?,
            (None, None) => return Err("--admin is required".to_owned()),
        };
        let token = config.as_ref().and_then(|config| config.admin_token.as_ref());
        let token = admin::token(self.token_file.as_deref(), token)?;
        AdminPort::new(url, token, self.insecure_plaintext)
    }
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
