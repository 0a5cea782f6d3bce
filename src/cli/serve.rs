//! `leadgate serve`: the gateway.

use std::sync::Arc;

use leadgate::app::App;
use leadgate::config::Config;
use leadgate::telemetry::log;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::cli::open_files;
use crate::cli::process::{CommandError, ConfigOption, bind, shutdown_signals};

/// The exit code for an invalid configuration: EX_CONFIG of sysexits.h. A restart does not help.
const INVALID_CONFIGURATION: u8 = 78;

pub(crate) async fn run(options: &ConfigOption) -> Result<(), CommandError> {
    let config = options.load().map_err(|text| CommandError {
        code: INVALID_CONFIGURATION,
        text,
    })?;
    Ok(serve(config).await?)
}

async fn serve(config: Config) -> Result<(), String> {
    log::start(&config.log).map_err(|error| format!("starting the thread of the log failed: {error}"))?;
    warn_of_few_optimizations();
    warn_of_ignored_proxies(&config);
    open_files::raise_limit(config.server.max_connections);
    let listener = bind(config.listen).await?;
    let admin_listener = bind(config.admin_listen).await?;
    // From here on, a SIGHUP does not end the process.
    let hangups = signal(SignalKind::hangup());
    let hangups = hangups.map_err(|error| format!("installing the signal handler failed: {error}"))?;
    let app = App::new(config).await?;
    reload_on_hangup(hangups, app.look_now());
    let delay = app.shutdown_delay();
    let signal = shutdown_signals(move || delay.skip())?;
    app.serve(listener, admin_listener, signal).await
}

/// Reads changed files at each SIGHUP.
fn reload_on_hangup(mut hangups: Signal, look_now: Arc<Notify>) {
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!("reading changed files because of SIGHUP");
            look_now.notify_one();
        }
    });
}

/// Logs a warning if the binary has the profile `release`, which builds fast and runs slowly.
fn warn_of_few_optimizations() {
    if !cfg!(debug_assertions) && env!("LEADGATE_OPT_LEVEL") != "3" {
        tracing::warn!("binary built with few optimizations; in production, run the binary of `make release-binary`");
    }
}

/// Logs a warning if the environment names a proxy and a tenant has none.
fn warn_of_ignored_proxies(config: &Config) {
    const NAMES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let set: Vec<String> = std::env::vars_os()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| NAMES.contains(&name.to_ascii_uppercase().as_str()))
        .collect();
    let mut tenants = config.tenants.values();
    if !set.is_empty() && tenants.any(|tenant| !tenant.upstream.has_proxy()) {
        tracing::warn!(
            variables = %set.join(" "),
            "ignoring the proxies of the environment; set tenants.NAME.upstream.proxy to use one"
        );
    }
}
