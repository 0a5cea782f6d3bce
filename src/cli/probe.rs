//! `leadgate probe`: measures how an account behaves, and prints the settings that follow.

mod table;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use leadgate::clock;
use leadgate::config::{Config, TenantConfig};
use leadgate::crm::raw::RawClient;
use leadgate::probe::{self, BoxFuture, PACE, PROBES, ProbeHooks, ProbeOptions, ProbeReport, ProbeStop};
use leadgate::store::Store;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cli::admin::{self, AdminPort};
use crate::cli::client::note;
use crate::cli::output::{print_line, print_text};
use crate::cli::process::{CommandError, ConfigOption, parse_duration, shutdown_signal};
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
/// The reason of the pause, which the gateway shows.
const PAUSE_REASON: &str = "leadgate probe";
/// A pause that is older than this was not made by this command.
const NEW_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The width of the table without a terminal.
const PLAIN_WIDTH: usize = 160;

#[derive(Args)]
pub(crate) struct ProbeArguments {
    #[command(flatten)]
    config: ConfigOption,
    /// The tenant. Required if the configuration has several.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Also send bursts above the rate limit. Other integrations of the account get rate limit errors for seconds.
    #[arg(long)]
    burst: bool,
    /// Also write: one lead with the first name leadgate-probe, which is deleted at the end, and random ids that do not exist. A new
    /// lead may start automations of the account.
    #[arg(long)]
    write: bool,
    /// A person uses the web UI of LeadSquared during a burst. Requires --burst.
    #[arg(long, requires = "burst")]
    operator: bool,
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
    let interrupted = shutdown_signal().map_err(nothing_sent)?;
    tokio::pin!(interrupted);
    let mut config = arguments.config.load().map_err(nothing_sent)?;
    let prepared = tokio::select! {
        prepared = Prepared::new(arguments, &mut config) => prepared.map_err(nothing_sent)?,
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
        progress: Mutex::new(Progress::new("calls", 0, planned_calls(&options), Instant::now())),
        planned: planned_calls(&options),
        gateway,
        tenant: name.clone(),
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
                    hooks.note("interrupted: deleting the probe lead and resuming the gateway. A second signal ends the command at once.");
                    cancelled.cancel();
                }
            }
        }
    };
    hooks.finish();
    let json = serde_json::to_string_pretty(&report.json(&started, &flags(arguments)));
    let json = json.map_err(|error| error.to_string());
    files.write(&json.map_err(CommandError::from)?, &report.fragment(&name, &tenant))?;
    print_text!("{}", table::table(&report, &tenant, width()));
    print_line!("{} calls were sent.", report.calls);
    ended(&report)
}

/// The result of the command.
fn ended(report: &ProbeReport) -> Result<(), CommandError> {
    let mut errors = vec![];
    errors.extend(
        report
            .stop
            .as_ref()
            .map(|stop| format!("the run ended early: {}", stop.reason())),
    );
    if report.has_failed() && report.stop.is_none() {
        errors.push("a probe failed".to_owned());
    }
    errors.extend(report.not_removed.iter().map(|text| format!("not deleted: {text}")));
    errors.extend(report.gateway_errors.iter().cloned());
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
    gateway: Option<AdminPort>,
    files: OutputFiles,
}

impl Prepared {
    async fn new(arguments: &ProbeArguments, config: &mut Config) -> Result<Self, String> {
        let name = tenant_name(arguments.tenant.as_deref(), config)?;
        let tenant = config.tenants.remove(&name).ok_or("unknown tenant")?;
        let client = RawClient::new(&name, tenant.base_url.clone(), &tenant.keys, tenant.upstream.clone());
        let client = client.map_err(|error| format!("tenant {name}: {error}"))?;
        let gateway = gateway(arguments, config)?;
        let mut options = ProbeOptions {
            burst: arguments.burst,
            write: arguments.write,
            operator: arguments.operator,
            only: only(&arguments.only)?,
            pace: arguments.pace,
            other_region: arguments.other_region.clone(),
            used_today: 0,
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let other = OtherUsers::of(config, &name, &tenant).await;
        options.used_today = other.used_today;
        announce(&name, &tenant, &options, &other, gateway.is_some());
        if !arguments.yes {
            confirm().await?;
        }
        let files = OutputFiles::create(arguments.json.as_deref(), arguments.settings.as_deref())?;
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

fn gateway(arguments: &ProbeArguments, config: &Config) -> Result<Option<AdminPort>, String> {
    let Some(address) = &arguments.through else {
        return Ok(None);
    };
    let url = match address.contains("://") {
        true => admin::parse("--through", address)?,
        false => admin::parse("--through", &format!("http://{address}"))?,
    };
    let token = admin::token(arguments.token_file.as_deref(), config.admin_token.as_ref())?;
    AdminPort::new(url, token, arguments.insecure_plaintext).map(Some)
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

/// Number of calls of all selected probes, without repetitions after rate limit errors.
fn planned_calls(options: &ProbeOptions) -> u64 {
    let selected = probe::selected(options).into_iter();
    let ready = selected.filter(|(_, missing)| missing.is_none());
    ready.map(|(probe, _)| u64::from(probe.calls)).sum()
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
    for (probe, missing) in probe::selected(options) {
        let cost = match missing {
            Some(flags) => format!("skipped, needs {flags}"),
            None if probe.needs.burst => format!("up to {} calls", probe.calls),
            None if probe.calls == 1 => "1 call".to_owned(),
            None => format!("{} calls", probe.calls),
        };
        note(&format!("  {:<16}  {cost:<34}  {}", probe.id, probe.question));
    }
    let (calls, time) = probe::budget(options);
    let pace = match options.pace {
        PACE => "1 call per second".to_owned(),
        pace => format!("1 call per {pace:?}"),
    };
    note(&format!(
        "It sends about {} calls, at most {calls} calls within {}, at {pace}{}.",
        planned_calls(options),
        humantime::format_duration(time),
        if options.burst { ", and faster in bursts" } else { "" }
    ));
    match options.write {
        false => note("It only reads."),
        true => note(
            "--write: it creates one lead with the first name leadgate-probe and an email address of example.invalid, and deletes it at the \
             end. A new lead may start automations of the account. If the account allows duplicates, it creates and deletes some more \
             leads.",
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
            "limits.daily is {daily}, and {used} calls of today are known: it ends before more than one half is used."
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

/// The files of the report. They are created before the first call, so that no result is lost.
struct OutputFiles {
    json: Option<(PathBuf, File)>,
    settings: Option<(PathBuf, File)>,
}

impl OutputFiles {
    fn create(json: Option<&Path>, settings: Option<&Path>) -> Result<Self, String> {
        let create = |path: &Path| {
            let file = File::options().write(true).create_new(true).open(path);
            let file =
                file.map_err(|error| format!("{} cannot be created: {error}; nothing was sent", path.display()))?;
            Ok::<_, String>((path.to_owned(), file))
        };
        let json = json.map(create).transpose()?;
        let settings = settings.map(create).transpose().inspect_err(|_| {
            if let Some((path, _)) = &json {
                let _ = fs::remove_file(path);
            }
        })?;
        Ok(Self { json, settings })
    }

    fn write(self, json: &str, fragment: &str) -> Result<(), String> {
        for (file, text) in [(self.json, json), (self.settings, fragment)] {
            if let Some((path, mut file)) = file {
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|error| format!("writing {} failed: {error}", path.display()))?;
            }
        }
        Ok(())
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
    gateway: Option<AdminPort>,
    tenant: String,
    has_terminal: bool,
    wait: Duration,
    cancelled: CancellationToken,
}

/// The response of the gateway to a pause.
#[derive(Deserialize)]
struct PauseResponse {
    since: Timestamp,
}

impl Hooks {
    fn note(&self, text: &str) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).note(text);
    }

    fn finish(&self) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).finish();
    }

    async fn pause_gateway(&self, port: &AdminPort) -> Result<(), String> {
        let body = serde_json::json!({"reason": PAUSE_REASON}).to_string();
        let path = format!("/admin/tenants/{}/pause", self.tenant);
        let paused = async {
            let response = port.post(&path, &body, STEERING_TIMEOUT).await?;
            let date = response.headers().get("date").and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
            let now = date.map_or_else(clock::now, |date| date.timestamp());
            let body = admin::text(response).await?;
            let pause =
                serde_json::from_slice::<PauseResponse>(&body).map_err(|error| format!("the gateway: {error}"))?;
            Ok::<_, String>((now, pause))
        };
        let (now, pause) = match paused.await {
            Ok(paused) => paused,
            Err(error) => {
                // The gateway may have received the request.
                return Err(match self.resume_gateway(port).await {
                    Ok(()) => error,
                    Err(still_paused) => format!("{error}; {still_paused}"),
                });
            }
        };
        if now.duration_since(pause.since) > NEW_PAUSE {
            return Err(format!(
                "the tenant was paused before, since {}; resume it first. Its pause has the reason \"{PAUSE_REASON}\" now",
                pause.since
            ));
        }
        self.note(&format!("the gateway has paused the tenant {}", self.tenant));
        Ok(())
    }

    async fn resume_gateway(&self, port: &AdminPort) -> Result<(), String> {
        let body = serde_json::json!({"reason": PAUSE_REASON}).to_string();
        let path = format!("/admin/tenants/{}/resume", self.tenant);
        let mut attempts = 1;
        loop {
            match port.post(&path, &body, STEERING_TIMEOUT).await {
                Ok(_) => {
                    self.note(&format!("the gateway has resumed the tenant {}", self.tenant));
                    return Ok(());
                }
                Err(_) if attempts < RESUME_ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
                Err(error) => {
                    return Err(format!(
                        "the tenant {} is still paused, because its resumption failed: {error}. Send POST {path} with admin.token",
                        self.tenant
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
                Some(port) => self.pause_gateway(port).await,
                None => Ok(()),
            }
        })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            match &self.gateway {
                Some(port) => self.resume_gateway(port).await,
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
