//! What the commands share: the configuration, the listening address, the shutdown signal, and the error with its exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use leadgate::config::Config;
use leadgate::telemetry::log;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

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
        Config::load(self.config.as_deref(), std::env::vars()).map_err(|errors| errors.to_string())
    }
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
    let failed = |error: std::io::Error| format!("installing the signal handlers failed: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(async move {
        let mut sender = Some(sender);
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
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
