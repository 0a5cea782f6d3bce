//! The command line: serve, simulate, demo, check, health, shares, import, export.

#![expect(clippy::print_stdout, reason = "what a command says is its output")]

mod cli;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use leadgate::app::App;
use leadgate::clock;
use leadgate::config::Config;
use leadgate::context::RequestContext;
use leadgate::crm::authentication::KeyOwner;
use leadgate::domain::activity::{ActivityForm, OWNER};
use leadgate::error::ErrorKind;
use leadgate::gateway;
use leadgate::store::{DamagedRow, Store};
use leadgate::telemetry::log;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{client, shares, transfer};
#[cfg(feature = "simulator")]
use crate::cli::{demo, simulate};

/// What to do about a type of activity that cannot be shared through.
const RIGHT_TYPE: &str = "set it to the code of a type whose form has the Owner field";

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
    /// Runs the gateway.
    Serve(Settings),
    /// Runs a LeadSquared to test against.
    #[cfg(feature = "simulator")]
    Simulate(Box<simulate::Simulate>),
    /// Runs gateway and simulator together, shows what they do, and stays up to be played with.
    #[cfg(feature = "simulator")]
    Demo(demo::Demo),
    /// Checks the settings, and with --connect also the accounts behind them.
    Check(Check),
    /// Looks after the store of a gateway that is stopped.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Asks a running gateway for its health: exit code 0 if it is serving.
    Health(client::Place),
    /// Lists, revokes and exports the shares that a running gateway knows of.
    Shares(shares::Shares),
    /// Writes the leads of a file through a running gateway. Exit code 0: every row took effect, 1: some rows were rejected,
    /// 2: nothing was written, 3: it broke off, and the same command goes on where it was.
    Import(Box<transfer::import::Import>),
    /// Reads the leads that were modified in a time range into a file, through a running gateway.
    Export(transfer::export::Export),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Shows the damaged rows of the store, which a gateway ignores, and with --apply moves them to the table `damaged`.
    Repair(Repair),
}

/// Why a command failed, and its exit code.
struct Failed {
    code: u8,
    text: String,
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self { code: 1, text }
    }
}

#[derive(Args)]
struct Settings {
    /// The settings' file; without it the environment has to name the tenants.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    settings: Settings,
    /// Ask each account whose keys these are, and what shares need of it; costs one call, and one more where shares have a
    /// default type of activity.
    #[arg(long)]
    connect: bool,
}

#[derive(Args)]
struct Repair {
    #[command(flatten)]
    settings: Settings,
    /// Move the damaged rows to the table `damaged`. Without it nothing is changed.
    #[arg(long)]
    apply: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Chosen once for the process, so that no library has to guess.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Failed::from(format!("the runtime cannot be started: {error}"))),
    };
    let result = runtime.block_on(run(cli.command));
    // What still runs has had its time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => failed(&fault),
    }
}

async fn run(command: Command) -> Result<(), Failed> {
    let told = match command {
        Command::Serve(settings) => serve(&settings).await,
        #[cfg(feature = "simulator")]
        Command::Simulate(options) => simulate::run(*options).await,
        #[cfg(feature = "simulator")]
        Command::Demo(options) => demo::run(options).await,
        Command::Check(options) => check(&options).await,
        Command::Store(StoreCommand::Repair(options)) => repair(&options).await,
        Command::Health(options) => health(options).await,
        Command::Shares(options) => shares::run(options).await,
        Command::Export(options) => transfer::export::run(options).await,
        Command::Import(options) => return transfer::import::run(*options).await,
    };
    told.map_err(Failed::from)
}

fn failed(failed: &Failed) -> ExitCode {
    // The exit code tells it also where nobody reads.
    let _ = writeln!(std::io::stderr(), "leadgate: {}", failed.text);
    ExitCode::from(failed.code)
}

fn load(settings: &Settings) -> Result<Config, String> {
    Config::load(settings.config.as_deref(), std::env::vars()).map_err(|faults| faults.to_string())
}

async fn serve(settings: &Settings) -> Result<(), String> {
    let config = load(settings)?;
    log::start(&config.log);
    note_ignored_proxies(&config);
    let listener = bind(config.listen).await?;
    let admin_listener = bind(config.admin_listen).await?;
    App::new(config)
        .await?
        .serve(listener, admin_listener, told_to_stop()?)
        .await
}

/// Says that the environment's proxies are not used, where somebody may expect it.
fn note_ignored_proxies(config: &Config) {
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
            "the proxies that the environment names are not used; set tenants.NAME.upstream.proxy to use one"
        );
    }
}

async fn check(options: &Check) -> Result<(), String> {
    let config = load(&options.settings)?;
    let looks: Vec<_> = config
        .tenants
        .values()
        .map(|tenant| (tenant.base_url.clone(), tenant.sharing.default_activity_type))
        .collect();
    let (store, recorded) = check_store(&config.store_url).await?;
    let app = App::with_store(config, store.clone()).await?;
    println!("The settings are good: {} tenant(s).", looks.len());
    let checked = match options.connect {
        true => check_accounts(&app, &looks, recorded).await,
        false => Ok(()),
    };
    store.close().await;
    checked
}

/// Asks each account. What this spends of its quota is accounted for.
async fn check_accounts(app: &App, looks: &[(url::Url, i32)], recorded: Recorded) -> Result<(), String> {
    app.write_spent(false).await;
    let mut faulty = 0;
    // Both are sorted by name.
    for ((url, share_type), (name, gateway)) in looks.iter().zip(app.tenants().iter()) {
        let found = connect(gateway, url, *share_type).await;
        found.told.iter().for_each(|text| println!("{name}: {text}"));
        found.faults.iter().for_each(|text| println!("{name}: {text}"));
        faulty += usize::from(!found.faults.is_empty());
    }
    if faulty > 0 {
        app.write_spent(true).await;
        return Err(format!("{faulty} tenant(s) cannot be used as configured"));
    }
    match recorded {
        Recorded::InTheStore => app.write_spent(true).await,
        Recorded::Nowhere => wait_for_slots(app).await,
        Recorded::BesideAGateway => {
            println!(
                "A gateway has the store: the calls of this check are outside of its count, and LeadSquared may refuse a call \
                 of the gateway within the next window."
            );
        }
    }
    Ok(())
}

/// Waits until the calls that were made share no window with calls of a gateway that is started next.
async fn wait_for_slots(app: &App) {
    let held = app
        .tenants()
        .iter()
        .filter_map(|(_, gateway)| gateway.quota_usage().slots);
    let free_at = held.flat_map(|held| held.calls.free_at.into_iter().chain(held.bulk.free_at));
    let left = free_at.filter_map(|at| Duration::try_from(at.duration_since(clock::now())).ok());
    let left = left.max().unwrap_or_default();
    if left > LONGEST_WAIT {
        println!(
            "There is no store to record the calls of this check in: start the gateway in {left:.0?}, not sooner."
        );
        return;
    }
    println!("There is no store to record the calls of this check in: waiting {left:.1?} until their slots are free.");
    tokio::time::sleep(left).await;
}

/// The longest time for which `check` waits by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where `check` records the calls that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    /// In the store, from which `serve` goes on.
    InTheStore,
    /// Nowhere: there is no store yet, and `check` makes none.
    Nowhere,
    /// Nowhere: a running gateway has the store.
    BesideAGateway,
}

/// Looks at the store without making one, and returns it, or one in memory where there is none or it is in use.
async fn check_store(url: &str) -> Result<(Store, Recorded), String> {
    let in_memory = async || Store::open("sqlite::memory:").await.map_err(|fault| fault.to_string());
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Ok((in_memory().await?, Recorded::Nowhere));
    }
    if let Some(path) = Store::check_place(url).map_err(|fault| fault.to_string())? {
        println!("The store {} will be made.", path.display());
        return Ok((in_memory().await?, Recorded::Nowhere));
    }
    match Store::open(url).await {
        Ok(store) => {
            let damaged = list_damaged(&store).await?;
            if !damaged.is_empty() {
                println!("The gateway ignores damaged rows; leadgate store repair --apply moves them away.");
            }
            Ok((store, Recorded::InTheStore))
        }
        Err(fault) if fault.is_in_use() => {
            println!("{fault}: a running gateway, if it is the one of these settings. {SEE_METRIC}");
            Ok((in_memory().await?, Recorded::BesideAGateway))
        }
        Err(fault) => Err(fault.to_string()),
    }
}

/// Where a running gateway tells about damaged rows.
const SEE_METRIC: &str = "Its metric leadgate_store_damaged_rows counts the damaged rows, and its log names them.";

/// Prints the damaged rows of a store.
async fn list_damaged(store: &Store) -> Result<Vec<DamagedRow>, String> {
    let damaged = store.find_damaged().await.map_err(|fault| fault.to_string())?;
    if !damaged.is_empty() {
        println!("The store has {} damaged row(s):", damaged.len());
        damaged.iter().for_each(|row| println!("  {row}"));
    }
    Ok(damaged)
}

/// Shows the damaged rows of the store, and moves them away if told to.
async fn repair(options: &Repair) -> Result<(), String> {
    let url = load(&options.settings)?.store_url;
    if let Some(path) = Store::check_place(&url).map_err(|fault| fault.to_string())? {
        return Err(format!("there is no store at {}", path.display()));
    }
    let store = Store::open(&url).await.map_err(|fault| match fault.is_in_use() {
        true => format!("{fault}: stop the gateway that has it first. {SEE_METRIC}"),
        false => fault.to_string(),
    })?;
    let damaged = list_damaged(&store).await?;
    if damaged.is_empty() {
        println!("The store has no damaged rows.");
    } else if options.apply {
        let moved = store.move_damaged(&damaged, clock::now()).await;
        let moved = moved.map_err(|fault| fault.to_string())?;
        println!(
            "{moved} row(s) were moved to the table \"damaged\". A moved request id is unknown to the gateway, and a moved share \
             is neither revoked nor expired by it: check these in LeadSquared."
        );
    } else {
        println!("Nothing was changed; --apply moves them to the table \"damaged\".");
    }
    store.close().await;
    Ok(())
}

/// What was found out of an account.
#[derive(Default)]
struct Found {
    told: Vec<String>,
    faults: Vec<String>,
}

/// Asks an account whose keys these are, and what its shares need.
async fn connect(gateway: &gateway::Gateway, url: &url::Url, share_type: i32) -> Found {
    let context = RequestContext::internal("check", Duration::from_secs(30));
    let mut found = Found::default();
    let owner = match gateway.key_owner(&context).await {
        Ok(owner) => owner,
        Err(error) => {
            found.faults.push(with_cause(&error, gateway));
            return found;
        }
    };
    judge_keys(&owner, url, share_type != 0, &mut found);
    if share_type != 0 {
        match gateway.activity_form(&context, share_type).await {
            Ok(form) => judge_form(&form, share_type, &mut found),
            Err(error) => {
                let fault = match error.kind {
                    ErrorKind::Invalid(_) => {
                        format!("LeadSquared knows no such type, or it is not in use: {RIGHT_TYPE}")
                    }
                    _ => with_cause(&error, gateway),
                };
                let key = "sharing.default_activity_type";
                found.faults.push(format!("{key} = {share_type}: {fault}"));
            }
        }
    }
    found
}

/// The error, and why LeadSquared cannot be reached if that is the matter.
fn with_cause(error: &leadgate::error::Error, gateway: &gateway::Gateway) -> String {
    match (&error.kind, gateway.outage()) {
        (
            ErrorKind::Unavailable { .. } | ErrorKind::BreakerOpen { .. } | ErrorKind::DeadlineExceeded { .. },
            Some(outage),
        ) => {
            format!("{error}: {outage}")
        }
        _ => error.to_string(),
    }
}

/// What an account says of its keys.
fn judge_keys(owner: &KeyOwner, url: &url::Url, is_shared: bool, found: &mut Found) {
    let or_unknown = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.unwrap_or("unknown").to_owned()
    };
    let role = or_unknown(&owner.role);
    let mut text = format!(
        "the keys are good; organisation {}, role {role}, time zone {}",
        or_unknown(&owner.org_short_code),
        or_unknown(&owner.time_zone)
    );
    match (role == "Administrator", is_shared) {
        (true, false) => {}
        (true, true) => text += "; an administrator's keys, as sharing needs them",
        (false, false) => text += "; LeadSquared advises the keys of an administrator",
        (false, true) => found.faults.push(format!(
            "sharing needs the keys of an Administrator, and the role of these is {role}: have an administrator make keys, \
             and set access_key and secret_key to them"
        )),
    }
    found.told.push(text);
    let told = owner.services.api.as_deref().unwrap_or_default();
    let host = told
        .trim_start_matches("https://")
        .split('/')
        .next()
        .unwrap_or_default();
    if !host.is_empty() && host != url.authority() {
        found
            .faults
            .push(format!("the account's host is {host}: set base_url to it"));
    }
}

/// What the form of the type lacks that shares are posted with.
fn judge_form(form: &ActivityForm, share_type: i32, found: &mut Found) {
    let what = format!("sharing.default_activity_type = {share_type} ({})", form.name);
    if form.fields.iter().any(|field| field == OWNER) {
        found.told.push(format!("{what} has the Owner field"));
    } else {
        found.faults.push(format!(
            "{what} has no Owner field, which LeadSquared finds the user by: add it to the type's form, or {RIGHT_TYPE}"
        ));
    }
}

async fn health(place: client::Place) -> Result<(), String> {
    place.health().await?;
    println!("serving");
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address} cannot be listened on: {error}"))
}

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
fn told_to_stop() -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let fault = |error: std::io::Error| format!("signals cannot be heard: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
    let (told, hear) = tokio::sync::oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(async move {
        let mut told = Some(told);
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match told.take() {
                Some(told) => drop(told.send(())),
                None => std::process::exit(130),
            }
        }
    });
    Ok(async move {
        let _ = hear.await;
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<humantime::Duration>()
        .map(Into::into)
        .map_err(|error| error.to_string())
}
