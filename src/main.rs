//! The command line: serve, simulate, demo, check, probe, caller, store, cluster, health, top, shares, import, export, completions, man.

mod cli;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use leadgate::domain::characters::{self, TextForm};
use leadgate::telemetry::log;

use crate::cli::output::{self, print_line};
use crate::cli::process::{CommandError, ConfigOption};
use crate::cli::{caller, check, client, cluster, completions, probe, serve, shares, store, top, transfer};
#[cfg(feature = "simulator")]
use crate::cli::{demo, simulate};

/// Maximum time for background tasks to end after a command.
const TASKS_TIMEOUT: Duration = Duration::from_secs(1);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A gRPC gateway in front of LeadSquared.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway. Exit code 78: the configuration is invalid.
    Serve(ConfigOption),
    /// Run a simulated LeadSquared for tests.
    #[cfg(feature = "simulator")]
    Simulate(Box<simulate::SimulateOptions>),
    /// Run a gateway and a simulated LeadSquared, show a tour of the features, and keep both running.
    #[cfg(feature = "simulator")]
    Demo(demo::DemoOptions),
    /// Check the configuration, and with --connect also the accounts.
    Check(check::CheckOptions),
    /// Measure how an account of LeadSquared behaves, and print the settings that follow. Exit code 0: all probes have run, 1: a probe
    /// failed, the run ended early, or a lead could not be deleted, 2: nothing was sent, 3: the run was interrupted.
    Probe(Box<probe::ProbeArguments>),
    /// Make API keys for callers.
    #[command(subcommand)]
    Caller(caller::CallerCommand),
    /// Maintain the store of a stopped gateway, or back up the store of a running one.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Show several replicas that share a PostgreSQL store.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Check the health of a running gateway. Exit code 0: it is serving.
    Health(client::ConnectionOptions),
    /// Show the state of the quota of a running gateway, live in a terminal or as text.
    Top(top::TopOptions),
    /// List, revoke and export the shares of a running gateway.
    Shares(shares::SharesOptions),
    /// Write the leads of a file through a running gateway. Exit code 0: all rows were written, 1: some rows were rejected,
    /// 2: nothing was written, 3: the import was interrupted; run the same command again to continue it.
    Import(Box<transfer::import::ImportOptions>),
    /// Read the leads that were modified in a time range into a file, through a running gateway.
    Export(transfer::export::ExportOptions),
    /// Print a script that completes the commands and options of leadgate in a shell.
    Completions(completions::CompletionsOptions),
    /// Write the manual pages of leadgate and its commands into a folder.
    Man(completions::ManOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS library for the whole process. A second installation cannot happen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&CommandError::from(format!("starting the runtime failed: {error}"))),
    };
    let result = runtime.block_on(run(cli.command));
    runtime.shutdown_timeout(TASKS_TIMEOUT);
    log::flush();
    let result = result.and_then(|()| output::error().map_or(Ok(()), |error| Err(error.into())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(command: Command) -> Result<(), CommandError> {
    let result = match command {
        #[cfg(feature = "simulator")]
        Command::Simulate(options) => simulate::run(*options).await,
        #[cfg(feature = "simulator")]
        Command::Demo(options) => demo::run(options).await,
        Command::Check(options) => check::run(&options).await,
        Command::Caller(command) => caller::run(&command),
        Command::Store(command) => store::run(&command).await,
        Command::Cluster(command) => cluster::run(&command).await,
        Command::Health(connection) => health(&connection).await,
        Command::Top(options) => top::run(options).await,
        Command::Shares(options) => shares::run(options).await,
        Command::Export(options) => transfer::export::run(options).await,
        Command::Completions(options) => {
            completions::completions(&options, Cli::command());
            Ok(())
        }
        Command::Man(options) => completions::man(&options, Cli::command()),
        Command::Serve(options) => return serve::run(&options).await,
        Command::Probe(options) => return probe::run(&options).await,
        Command::Import(options) => return transfer::import::run(*options).await,
    };
    result.map_err(CommandError::from)
}

fn failed(error: &CommandError) -> ExitCode {
    // The text may be one of another program.
    let text = characters::visible(&error.text, TextForm::Lines);
    // If standard error is closed, the exit code still reports the error.
    let _ = writeln!(std::io::stderr(), "leadgate: {text}");
    ExitCode::from(error.code)
}

async fn health(connection: &client::ConnectionOptions) -> Result<(), String> {
    connection.health().await?;
    print_line!("serving");
    Ok(())
}
