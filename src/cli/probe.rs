//! `leadgate probe`: measures how an account behaves, and prints the settings that follow.

mod table;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use leadgate::clock;
use leadgate::config::{Config, TenantConfig};
use leadgate::crm::raw::RawClient;
use leadgate::domain::characters::{self, TextForm};
use leadgate::probe::{self, BoxFuture, PROBES, ProbeHooks, ProbeOptions, ProbeReport, ProbeStop};
use leadgate::store::Store;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cli::admin::{self, AdminPort, PortError};
use crate::cli::client::note;
use crate::cli::output::{print_line, print_text};
use crate::cli::process::{CommandError, ConfigOption, interruption_signals, parse_duration};
use crate::cli::progress::Progress;

/// Exit code: nothing was sent.
const NOTHING_SENT: u8 = 2;
/// Exit code: the run was interrupted.
const INTERRUPTED: u8 = 3;
/// Maximum time for a response of the gateway to a pause or a resumption.
const STEERING_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a resumption is requested.
const RESUME_ATTEMPTS: u32 = 5;
/// The pause between two requests of a resumption.
const RESUME_PAUSE: Duration = Duration::from_secs(1);
/// The time for which an operator is waited for without a terminal, in units of the pace.
const OPERATOR_WAIT: u32 = 15;
/// The beginning of the reason of the pause, which the gateway shows.
const PAUSE_REASON: &str = "leadgate probe";
/// The code of a gateway whose tenant is paused already, or for another reason.
const TENANT_PAUSED: &str = "TENANT_PAUSED";
/// Maximum of `--max-calls`.
const MAX_CALLS: i64 = 10_000;
/// The width of the table without a terminal.
const PLAIN_WIDTH: usize = 160;

#[derive(Args)]
pub(crate) struct ProbeArguments {
    #[command(flatten)]
    config: ConfigOption,
    /// The tenant. Required if the configuration has several.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Also send bursts above the rate limit. Other integrations of the account get rate limit errors for seconds. The probe bulk-bucket
    /// sends bulk updates of random ids that do not exist.
    #[arg(long)]
    burst: bool,
    /// Also write: one lead with the first name leadgate-probe, which is deleted at the end, and random ids that do not exist. A new
    /// lead may start automations of the account.
    #[arg(long)]
    write: bool,
    /// A person uses the web UI of LeadSquared during a burst. Requires --burst.
    #[arg(long, requires = "burst")]
    operator: bool,
    /// Maximum number of calls of the run [default: 600 with --burst]. A limit of more than about 60 calls needs more.
    #[arg(long, value_name = "N", requires = "burst", value_parser = clap::value_parser!(u32).range(1..=MAX_CALLS))]
    max_calls: Option<u32>,
    /// Run only these probes: ids with commas between them.
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the report as JSON, for a bug report. The file must not exist.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the settings that follow as TOML. The file must not exist.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Do not ask before the start.
    #[arg(long)]
    yes: bool,
    /// Pause the tenant on a running gateway during the bursts: http://HOST:PORT of its admin port. Needs its admin.token.
    #[arg(long, value_name = "ADDR")]
    through: Option<String>,
    /// A file with the token of the gateway [default: admin.token of the configuration].
    #[arg(long, value_name = "FILE", requires = "through")]
    token_file: Option<PathBuf>,
    /// Send the token also over plaintext to another machine, for networks that encrypt by themselves.
    #[arg(long, requires = "through")]
    insecure_plaintext: bool,
    /// The time between two calls.
    #[arg(long, hide = true, value_parser = parse_duration, default_value = "1s")]
    pace: Duration,
    /// The host of another region.
    #[arg(long, hide = true, value_name = "URL")]
    other_region: Option<Url>,
}

pub(crate) async fn run(arguments: &ProbeArguments) -> Result<(), CommandError> {
    let nothing_sent = |text: String| CommandError {
        code: NOTHING_SENT,
        text,
    };
    let unwritten = Unwritten::default();
    let at_exit = unwritten.clone();
    let interrupted = interruption_signals(move || {
        at_exit.remove();
        false
    });
    let interrupted = interrupted.map_err(nothing_sent)?;
    tokio::pin!(interrupted);
    let mut config = arguments.config.load().map_err(nothing_sent)?;
    let prepared = tokio::select! {
        prepared = Prepared::new(arguments, &mut config, unwritten) => prepared.map_err(nothing_sent)?,
        () = &mut interrupted => return Err(nothing_sent("interrupted; nothing was sent".to_owned())),
    };
    let Prepared {
        name,
        tenant,
        client,
        options,
        gateway,
        files,
    } = prepared;
    let started = clock::now().to_string();
    let cancelled = CancellationToken::new();
    let hooks = Hooks {
        progress: Mutex::new(Progress::without_rate("calls", planned_calls(&options), Instant::now())),
        planned: planned_calls(&options),
        gateway,
        has_terminal: !arguments.yes && io::stdin().is_terminal(),
        wait: options.pace * OPERATOR_WAIT,
        cancelled: cancelled.clone(),
    };
    let report = {
        let running = probe::run(&client, &tenant, &options, &hooks, &cancelled);
        tokio::pin!(running);
        loop {
            tokio::select! {
                report = &mut running => break report,
                () = &mut interrupted, if !cancelled.is_cancelled() => {
                    hooks.note("interrupted: the command cleans up and writes its report. A second signal ends it at once.");
                    cancelled.cancel();
                }
            }
        }
    };
    hooks.finish();
    // What is found and what is left is shown first: a disk may be full.
    let fragment = report.fragment(&name, &tenant);
    let table = table::table(&report, &tenant, width());
    print_text!("{}", characters::visible(&table, TextForm::Lines));
    for conflict in report.conflicts(&tenant) {
        print_line!("Invalid together: {conflict}.");
    }
    print_line!("{} calls were sent.", report.calls);
    if report.settings().next().is_some() {
        print_text!("\n{}", characters::visible(&fragment, TextForm::Lines));
    }
    for text in &report.not_removed {
        note(&format!("not deleted: {text}"));
    }
    for text in &report.gateway_errors {
        note(text);
    }
    let json = serde_json::to_string_pretty(&report.json(&started, &flags(arguments)));
    let errors = files.write(json.map_err(|error| error.to_string()), &fragment);
    ended(&report, errors)
}

/// The result of the command. `errors`: those of its files.
fn ended(report: &ProbeReport, mut errors: Vec<String>) -> Result<(), CommandError> {
    errors.extend(
        report
            .stop
            .as_ref()
            .map(|stop| format!("the run ended early: {}", stop.reason())),
    );
    if report.has_failed() && report.stop.is_none() {
        errors.push("a probe failed".to_owned());
    }
    if !report.not_removed.is_empty() {
        errors.push(format!("{} of its leads may remain", report.not_removed.len()));
    }
    if !report.gateway_errors.is_empty() {
        errors.push("the gateway was not paused or resumed".to_owned());
    }
    let code = match report.stop {
        Some(ProbeStop::Interrupted) => INTERRUPTED,
        _ => 1,
    };
    match errors.is_empty() {
        true => Ok(()),
        false => Err(CommandError {
            code,
            text: errors.join("\n  "),
        }),
    }
}

/// What the run needs, after all questions are answered.
struct Prepared {
    name: String,
    tenant: TenantConfig,
    client: RawClient,
    options: ProbeOptions,
    gateway: Option<Gateway>,
    files: OutputFiles,
}

impl Prepared {
    async fn new(arguments: &ProbeArguments, config: &mut Config, unwritten: Unwritten) -> Result<Self, String> {
        let name = tenant_name(arguments.tenant.as_deref(), config)?;
        let tenant = config.tenants.remove(&name).ok_or("unknown tenant")?;
        let client = RawClient::new(&name, tenant.base_url.clone(), &tenant.keys, tenant.upstream.clone());
        let client = client.map_err(|error| format!("tenant {name}: {error}"))?;
        let mut options = ProbeOptions {
            burst: arguments.burst,
            write: arguments.write,
            operator: arguments.operator,
            only: only(&arguments.only)?,
            pace: arguments.pace,
            other_region: arguments.other_region.clone(),
            max_calls: arguments.max_calls,
            used_today: 0,
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        check_flags(&options)?;
        OutputFiles::check([&arguments.json, &arguments.settings])?;
        let gateway = match gateway(arguments, config, &name)? {
            Some(gateway) => Some(gateway.checked().await?),
            None => None,
        };
        let other = OtherUsers::of(config, &name, &tenant).await;
        options.used_today = other.used_today;
        announce(&name, &tenant, &options, &other, gateway.is_some());
        if !arguments.yes {
            confirm().await?;
        }
        let files = OutputFiles::create(arguments.json.as_deref(), arguments.settings.as_deref(), unwritten)?;
        Ok(Self {
            name,
            tenant,
            client,
            options,
            gateway,
            files,
        })
    }
}

fn tenant_name(given: Option<&str>, config: &Config) -> Result<String, String> {
    let names: Vec<_> = config.tenants.keys().map(String::as_str).collect();
    match (given, names.as_slice()) {
        (Some(name), _) if config.tenants.contains_key(name) => Ok(name.to_owned()),
        (Some(name), names) => Err(format!(
            "unknown tenant {name}; the configuration has {}",
            names.join(", ")
        )),
        (None, [name]) => Ok((*name).to_owned()),
        (None, names) => Err(format!(
            "--tenant is required: the configuration has {}",
            names.join(", ")
        )),
    }
}

fn only(ids: &[String]) -> Result<Option<BTreeSet<String>>, String> {
    let known: Vec<_> = PROBES.iter().map(|probe| probe.id).collect();
    match ids.iter().find(|id| !known.contains(&id.as_str())) {
        Some(id) => Err(format!(
            "--only: unknown probe {id}; the probes are {}",
            known.join(", ")
        )),
        None if ids.is_empty() => Ok(None),
        None => Ok(Some(ids.iter().cloned().collect())),
    }
}

/// Fails if a probe of `--only` lacks a flag.
fn check_flags(options: &ProbeOptions) -> Result<(), String> {
    let selected = probe::selected(options).into_iter();
    let lacking = selected.filter_map(|(probe, missing)| Some(format!("--only: {} needs {}", probe.id, missing?)));
    match lacking.collect::<Vec<_>>() {
        lacking if options.only.is_none() || lacking.is_empty() => Ok(()),
        lacking => Err(lacking.join("; ")),
    }
}

fn gateway(arguments: &ProbeArguments, config: &Config, tenant: &str) -> Result<Option<Gateway>, String> {
    let Some(address) = &arguments.through else {
        return Ok(None);
    };
    let url = match address.contains("://") {
        true => admin::parse("--through", address)?,
        false => admin::parse("--through", &format!("http://{address}"))?,
    };
    let token = admin::token(arguments.token_file.as_deref(), config.admin_token.as_ref())?;
    let port = AdminPort::new(url, token, arguments.insecure_plaintext)?;
    Ok(Some(Gateway {
        port,
        tenant: tenant.to_owned(),
        reason: format!("{PAUSE_REASON} {:08x}", uuid::Uuid::new_v4().as_fields().0),
    }))
}

/// The flags that were given, for the report.
fn flags(arguments: &ProbeArguments) -> Vec<&'static str> {
    let flags = [
        ("--burst", arguments.burst),
        ("--write", arguments.write),
        ("--operator", arguments.operator),
        ("--through", arguments.through.is_some()),
    ];
    flags
        .iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(flag, _)| *flag)
        .collect()
}

/// Number of calls of all selected probes, without repetitions after rate limit errors. The bursts may need all calls.
fn planned_calls(options: &ProbeOptions) -> u64 {
    let (max, _) = probe::budget(options);
    let selected = probe::selected(options).into_iter();
    let ready = selected.filter(|(_, missing)| missing.is_none());
    let calls = ready.map(|(probe, _)| if probe.needs.burst { max } else { probe.calls });
    calls.sum::<u32>().min(max).into()
}

/// What else uses the account, as far as the store shows it.
struct OtherUsers {
    /// Why the measurement may be blurred.
    warning: Option<String>,
    /// The calls of today, as the store has them. 0: unknown.
    used_today: u64,
}

impl OtherUsers {
    async fn of(config: &Config, name: &str, tenant: &TenantConfig) -> Self {
        let (warning, used_today) = match &config.cluster {
            Some(cluster) => (replicas(config, name, cluster.lease).await, 0),
            None => sqlite(&config.store.url, name, tenant).await,
        };
        Self { warning, used_today }
    }
}

/// Whether a gateway uses the SQLite store, and the calls of today.
async fn sqlite(url: &str, name: &str, tenant: &TenantConfig) -> (Option<String>, u64) {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return (None, 0);
    }
    match Store::check_path(url) {
        Ok(Some(_)) => return (None, 0),
        Ok(None) => {}
        Err(error) => return (Some(format!("the store cannot be read: {error}")), 0),
    }
    match Store::open(url).await {
        Ok(store) => {
            let usage = store.quota_usage(name).await.ok().flatten();
            store.close().await;
            let zone = TimeZone::get(&tenant.limits.daily_reset_zone).unwrap_or(TimeZone::UTC);
            let today = clock::now().to_zoned(zone).date().to_string();
            let used = usage.filter(|usage| usage.day == today).map_or(0, |usage| usage.calls);
            (None, used)
        }
        Err(error) if error.is_in_use() => {
            let text = "a gateway uses the store: its calls blur the measurement, and it does not count the calls of this command";
            (Some(text.to_owned()), 0)
        }
        Err(error) => (Some(format!("the store cannot be read: {error}")), 0),
    }
}

/// Whether replicas make calls for the tenant.
async fn replicas(config: &Config, name: &str, lease: Duration) -> Option<String> {
    let status = match Store::read_cluster_status(&config.store).await {
        Ok(status) => status,
        Err(error) => return Some(format!("whether replicas use the account is unknown: {error}")),
    };
    let alive = status.replicas.iter().filter(|replica| replica.last_beat < lease);
    let mut serving = alive.filter(|replica| replica.replica.tenants.iter().any(|tenant| tenant == name));
    let replica = serving.next()?;
    Some(format!(
        "the replica {} serves the tenant: its calls blur the measurement, and it does not count the calls of this command",
        replica.replica.address
    ))
}

/// Prints what the command is going to do.
fn announce(name: &str, tenant: &TenantConfig, options: &ProbeOptions, other: &OtherUsers, has_gateway: bool) {
    note(&format!(
        "leadgate probe measures the account of the tenant {name} at {}:",
        tenant.base_url
    ));
    let (calls, time) = probe::budget(options);
    for (probe, missing) in probe::selected(options) {
        let cost = match (missing, probe.calls, probe.max_calls) {
            (Some(flags), ..) => format!("skipped, needs {flags}"),
            (None, 0, _) => format!("up to {calls} calls together"),
            (None, _, max) if probe.needs.burst => format!("up to {} calls", max.min(calls)),
            (None, 1, 1) => "1 call".to_owned(),
            (None, usual, max) if usual == max => format!("{usual} calls"),
            (None, usual, max) => format!("{usual} to {max} calls"),
        };
        note(&format!("  {:<16}  {cost:<34}  {}", probe.id, probe.question));
    }
    let pace = humantime::format_duration(probe::pace(options, tenant));
    let about = match options.burst {
        true => String::new(),
        false => format!("about {} calls, ", planned_calls(options)),
    };
    note(&format!(
        "It sends {about}at most {calls} calls, at 1 call per {pace}{}. No call begins after {}; a call without a response may take {} longer.",
        if options.burst { ", and faster in bursts" } else { "" },
        humantime::format_duration(time),
        humantime::format_duration(tenant.upstream.connect_timeout + tenant.upstream.timeout),
    ));
    match (options.write, probe::sends_bulk(options)) {
        (false, false) => note("It only reads."),
        (false, true) => note(
            "It only reads, except for bulk updates of random ids that do not exist (bulk-bucket): they change no lead.",
        ),
        (true, _) => note(
            "--write: it creates one lead with the first name leadgate-probe and an email address of example.invalid, and deletes it at the \
             end, with some calls more. A new lead may start automations of the account. If the account allows duplicates, it creates and \
             deletes some more leads. If the account does not allow the deletion, the leads stay, with the first name \
             leadgate-probe-delete-me.",
        ),
    }
    if options.burst {
        note(
            "--burst: it exceeds the rate limit for some seconds at a time. Other integrations of the account get rate limit errors \
             meanwhile.",
        );
        if has_gateway {
            note(
                "--through: the gateway pauses the tenant during the bursts. Its calls for the tenant wait or fail meanwhile.",
            );
        }
    }
    if tenant.limits.daily > 0 {
        let (daily, used) = (tenant.limits.daily, other.used_today);
        note(&format!(
            "limits.daily is {daily}, and {used} calls of today are known: it ends before more than one half is used. The calls of earlier \
             runs of this command are not known."
        ));
    }
    if let Some(warning) = &other.warning {
        let advice = match (options.burst, has_gateway) {
            (true, false) => ". Use --through ADDR, or stop it",
            _ => "",
        };
        note(&format!("warning: {warning}{advice}"));
    }
}

/// Asks on the terminal. Fails unless the response is yes.
async fn confirm() -> Result<(), String> {
    if !io::stdin().is_terminal() {
        return Err("nothing was sent: there is no terminal to confirm; give --yes".to_owned());
    }
    let failed = |error: io::Error| format!("nothing was sent: {error}");
    write!(io::stderr(), "Continue? [y/N] ").map_err(failed)?;
    io::stderr().flush().map_err(failed)?;
    match read_line().await.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err("nothing was sent".to_owned()),
    }
}

/// Reads a line without blocking signals.
async fn read_line() -> String {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        // An error is no response.
        let _ = io::stdin().read_line(&mut line);
        line
    });
    read.await.unwrap_or_default()
}

/// The files that are created and not written.
#[derive(Clone, Default)]
struct Unwritten(Arc<Mutex<Vec<PathBuf>>>);

impl Unwritten {
    fn paths(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files, so that the same command works again.
    fn remove(&self) {
        for path in self.paths().drain(..) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The files of the report. They are created before the first call, so that no result is lost.
struct OutputFiles {
    json: Option<(PathBuf, File)>,
    settings: Option<(PathBuf, File)>,
    unwritten: Unwritten,
}

impl OutputFiles {
    /// Fails if a file exists.
    fn check(paths: [&Option<PathBuf>; 2]) -> Result<(), String> {
        match paths.into_iter().flatten().find(|path| path.exists()) {
            Some(path) => Err(format!("{} exists already; nothing was sent", path.display())),
            None => Ok(()),
        }
    }

    fn create(json: Option<&Path>, settings: Option<&Path>, unwritten: Unwritten) -> Result<Self, String> {
        let create = |path: &Path| {
            let file = File::options().write(true).create_new(true).open(path);
            let file =
                file.map_err(|error| format!("{} cannot be created: {error}; nothing was sent", path.display()))?;
            unwritten.paths().push(path.to_owned());
            Ok::<_, String>((path.to_owned(), file))
        };
        let files = json.map(create).transpose();
        let files = files.and_then(|json| Ok((json, settings.map(create).transpose()?)));
        let (json, settings) = files.inspect_err(|_| unwritten.remove())?;
        Ok(Self {
            json,
            settings,
            unwritten,
        })
    }

    /// Writes the files. Returns the errors: one file does not depend on the other.
    fn write(self, json: Result<String, String>, fragment: &str) -> Vec<String> {
        self.unwritten.paths().clear();
        let mut errors = vec![];
        for (file, text) in [(self.json, json), (self.settings, Ok(fragment.to_owned()))] {
            let Some((path, mut file)) = file else {
                continue;
            };
            let written = text.and_then(|text| {
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|error| error.to_string())
            });
            errors.extend(
                written
                    .err()
                    .map(|error| format!("writing {} failed: {error}", path.display())),
            );
        }
        errors
    }
}

/// The width of the terminal.
fn width() -> usize {
    match io::stdout().is_terminal() {
        true => ratatui::crossterm::terminal::size().map_or(PLAIN_WIDTH, |(columns, _)| columns.into()),
        false => PLAIN_WIDTH,
    }
}

/// What the command does for the run.
struct Hooks {
    progress: Mutex<Progress>,
    planned: u64,
    gateway: Option<Gateway>,
    has_terminal: bool,
    wait: Duration,
    cancelled: CancellationToken,
}

/// The running gateway of `--through`.
struct Gateway {
    port: AdminPort,
    tenant: String,
    /// The reason of the pauses of this run. No other pause has it.
    reason: String,
}

/// The pause of a tenant, as the gateway returns it.
#[derive(Deserialize)]
struct PauseState {
    paused: bool,
    since: Option<Timestamp>,
}

impl Gateway {
    fn path(&self, action: &str) -> String {
        format!("/admin/tenants/{}/{action}", self.tenant)
    }

    /// Fails if the gateway does not accept the token, does not have the tenant, or has paused it.
    async fn checked(self) -> Result<Self, String> {
        let path = self.path("pause");
        let response = self.port.send(Method::GET, &path, "", STEERING_TIMEOUT).await?;
        let body = admin::text(response).await?;
        let state: PauseState = serde_json::from_slice(&body).map_err(|error| format!("the gateway: {error}"))?;
        match (state.paused, state.since) {
            (false, _) => Ok(self),
            (true, since) => Err(format!(
                "the tenant {} is paused already{}: resume it first, or wait; nothing was sent",
                self.tenant,
                since.map_or(String::new(), |since| format!(", since {since}"))
            )),
        }
    }
}

impl Hooks {
    fn note(&self, text: &str) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).note(text);
    }

    fn finish(&self) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).finish();
    }

    async fn pause_gateway(&self, gateway: &Gateway) -> Result<(), String> {
        let body = serde_json::json!({"reason": gateway.reason, "only_new": true}).to_string();
        let path = gateway.path("pause");
        match gateway.port.send(Method::POST, &path, &body, STEERING_TIMEOUT).await {
            Ok(_) => {
                self.note(&format!("the gateway has paused the tenant {}", gateway.tenant));
                Ok(())
            }
            Err(PortError::NotExecuted { text, .. }) => Err(text),
            // The tenant may be paused now. No pause of another operator is ended.
            Err(PortError::Unknown(error)) => Err(match self.resume_gateway(gateway).await {
                Ok(()) => error,
                Err(still_paused) => format!("{error}; {still_paused}"),
            }),
        }
    }

    async fn resume_gateway(&self, gateway: &Gateway) -> Result<(), String> {
        let reason = &gateway.reason;
        let body = serde_json::json!({"reason": reason, "only_reason": reason}).to_string();
        let (path, tenant) = (gateway.path("resume"), &gateway.tenant);
        let mut attempts = 1;
        loop {
            match gateway.port.send(Method::POST, &path, &body, STEERING_TIMEOUT).await {
                Ok(_) => {
                    self.note(&format!("the gateway has resumed the tenant {tenant}"));
                    return Ok(());
                }
                Err(PortError::NotExecuted { code, .. }) if code.as_deref() == Some(TENANT_PAUSED) => {
                    self.note(&format!(
                        "the tenant {tenant} stays paused: it was paused for another reason meanwhile"
                    ));
                    return Ok(());
                }
                Err(_) if attempts < RESUME_ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
                Err(error) => {
                    return Err(format!(
                        "the tenant {tenant} may still be paused, because its resumption failed: {}. Send POST {path} with admin.token",
                        String::from(error)
                    ));
                }
            }
        }
    }
}

impl ProbeHooks for Hooks {
    fn progress(&self, text: &str, calls: u32, fraction: f32) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match fraction > 0.0 && fraction < 1.0 {
            true => format!("{text} ({:.0} %)", fraction * 100.0),
            false => text.to_owned(),
        };
        progress.show(calls.into(), self.planned.max(calls.into()), &text, Instant::now());
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            match &self.gateway {
                Some(gateway) => self.pause_gateway(gateway).await,
                None => Ok(()),
            }
        })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            match &self.gateway {
                Some(gateway) => self.resume_gateway(gateway).await,
                None => Ok(()),
            }
        })
    }

    fn operator(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let is_ready = async {
                match self.has_terminal {
                    true => {
                        self.note("Use the web UI of LeadSquared now, without a pause: open leads, lists and reports. Press Enter when you have begun.");
                        read_line().await;
                    }
                    false => {
                        let wait = humantime::format_duration(self.wait);
                        self.note(&format!(
                            "Use the web UI of LeadSquared now: the next bursts begin in {wait}."
                        ));
                        tokio::time::sleep(self.wait).await;
                    }
                }
            };
            tokio::select! {
                () = is_ready => {}
                () = self.cancelled.cancelled() => {}
            }
        })
    }
}
