//! What the commands share: the configuration, the listening address, the shutdown signal, and the error with its exit code.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use leadgate::config::Config;
use leadgate::telemetry::log;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code after a second signal.
const ABORTED: i32 = 130;

/// Why a command failed, and its exit code.
pub(crate) struct CommandError {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl From<String> for CommandError {
    fn from(text: String) -> Self {
        Self { code: 1, text }
    }
}

#[derive(Args)]
pub(crate) struct ConfigOption {
    /// The configuration file. Without it, the tenants must be set in the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigOption {
    /// Reads the configuration. Fails with all of its errors.
    pub(crate) fn load(&self) -> Result<Config, String> {
        Config::load(self.config.as_deref(), environment()?.into_iter()).map_err(|errors| errors.to_string())
    }

    /// Whether a file is given.
    pub(crate) fn is_given(&self) -> bool {
        self.config.is_some()
    }
}

/// The beginnings of the names of the environment variables that leadgate reads, apart from those that the settings name.
const OWN_VARIABLES: [&str; 3] = ["LEADGATE_", "OTEL_", "PG"];

/// Returns the environment variables. Other variables than those of leadgate are left out if they are not UTF-8.
pub(crate) fn environment() -> Result<Vec<(String, String)>, String> {
    readable(std::env::vars_os())
}

fn readable(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, String> {
    let mut read = Vec::new();
    for (name, value) in variables {
        let is_own = |name: &str| OWN_VARIABLES.iter().any(|own| name.starts_with(own));
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => read.push((name, value)),
            (Ok(name), Err(_)) if is_own(&name) => {
                return Err(format!("the environment variable {name} must be UTF-8"));
            }
            (Err(name), _) if is_own(&name.to_string_lossy()) => {
                let name = name.to_string_lossy().into_owned();
                return Err(format!("the name of the environment variable {name} must be UTF-8"));
            }
            (Ok(_), Err(_)) | (Err(_), _) => {}
        }
    }
    Ok(read)
}

/// Listens on an address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("listening on {address} failed: {error}"))
}

/// Returns a future that completes at the first SIGTERM or SIGINT. A second signal ends the process at once.
pub(crate) fn shutdown_signal() -> Result<impl Future<Output = ()> + Send + 'static, String> {
    shutdown_signals(|| false)
}

/// Returns a future that completes at the first SIGTERM or SIGINT. Each further signal calls `skip`, and ends the process at once if
/// that returns `false`.
pub(crate) fn shutdown_signals(
    skip: impl Fn() -> bool + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    signals(None, skip)
}

/// The same, also at the first SIGHUP. Further ones have no effect, since a terminal that closes may send several.
pub(crate) fn interruption_signals(
    skip: impl Fn() -> bool + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let hangup = signal(SignalKind::hangup());
    signals(Some(hangup.map_err(|error| handler_failed(&error))?), skip)
}

fn handler_failed(error: &std::io::Error) -> String {
    format!("installing the signal handlers failed: {error}")
}

fn signals(
    mut hangup: Option<Signal>,
    skip: impl Fn() -> bool + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| handler_failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| handler_failed(&error))?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(async move {
        let mut sender = Some(sender);
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => {
                        hangup.recv().await;
                    }
                    None => std::future::pending().await,
                }
            };
            let is_hangup = tokio::select! {
                _ = terminate.recv() => false,
                _ = interrupt.recv() => false,
                () = hung_up => true,
            };
            if is_hangup && sender.is_none() {
                continue;
            }
            match sender.take() {
                Some(sender) => drop(sender.send(())),
                None if skip() => {}
                None => {
                    log::flush();
                    std::process::exit(ABORTED)
                }
            }
        }
    });
    Ok(async move {
        let _ = receiver.await;
    })
}

/// Parses a duration such as `24h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    text.parse::<humantime::Duration>()
        .map(Into::into)
        .map_err(|error| error.to_string())
}

/// Returns a future that completes when the terminal is closed (SIGHUP) or at SIGQUIT.
pub(crate) fn hangup_signal() -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| handler_failed(&error))?;
    let mut quit = signal(SignalKind::quit()).map_err(|error| handler_failed(&error))?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn only_own_variables_must_be_utf_8() {
        let text = |text: &str| OsString::from(text);
        let invalid = || OsString::from_vec(b"\xff".to_vec());
        let read = |name: OsString, value: OsString| readable([(text("A"), text("1")), (name, value)].into_iter());
        let usual = vec![("A".to_owned(), "1".to_owned())];
        assert_eq!(read(text("LS_COLORS"), invalid()), Ok(usual.clone()));
        assert_eq!(read(invalid(), text("x")), Ok(usual));
        for name in ["LEADGATE__LOG__FILTER", "OTEL_SERVICE_NAME", "PGPASSWORD"] {
            let error = read(text(name), invalid()).unwrap_err();
            assert_eq!(error, format!("the environment variable {name} must be UTF-8"));
        }
    }
}
