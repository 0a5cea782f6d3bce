//! `leadgate probe`: finds how an account of LeadSquared behaves where the vendor documents nothing, and which settings follow.
//!
//! Each probe is a file: what it asks, which calls it sends, and how it decides. The decision is a pure function of what was observed. A
//! new probe is a file with a `PROBE`, and a row in [`PROBES`].

mod account;
mod batch_size;
mod bodies;
pub mod call;
mod capture_id;
mod connection;
mod created;
mod duplicates;
mod finding;
mod foreign;
mod idle;
mod lead;
pub mod limit;
mod limits;
mod observed;
mod read_batch;
mod region;
mod report;
mod request;
mod session;
mod settings;
mod sharing;
mod text;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::TenantConfig;
use crate::crm::raw::RawClient;
pub use finding::{Finding, ProbeState, ProbedSetting};
use idle::IdleConnections;
pub use report::{ProbeReport, ReportRow};
pub use session::ProbeStop;
use session::{Halt, ProbeResult, Session};

/// The pace of the command between two calls.
pub const PACE: Duration = Duration::from_secs(1);

/// A future of a probe or of a hook.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All probes, in the order of the report.
pub const PROBES: [Probe; 15] = [
    account::PROBE,
    region::PROBE,
    connection::PROBE,
    bodies::PROBE,
    limits::LIMIT,
    limits::REFUSALS_COUNT,
    limits::BULK_BUCKET,
    limits::FAILURES_CHARGED,
    duplicates::PROBE,
    capture_id::PROBE,
    values::PROBE,
    batch_size::PROBE,
    read_batch::PROBE,
    sharing::PROBE,
    foreign::PROBE,
];

/// A question about the account.
pub struct Probe {
    /// The name in `--only` and in the report.
    pub id: &'static str,
    /// The question.
    pub question: &'static str,
    /// Usual number of calls. 0: those of the measurement of the limits, which has no number of its own.
    pub calls: u32,
    /// Maximum number of calls without rate limit errors.
    pub max_calls: u32,
    /// The flags that it needs.
    pub needs: ProbeNeeds,
    run: ProbeRun,
}

/// The flags that a probe needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeNeeds {
    /// `--burst`: more calls than the rate limit allows.
    pub burst: bool,
    /// `--write`: a lead of its own, or writes of random ids.
    pub write: bool,
    /// `--operator`: a person that uses the web UI.
    pub operator: bool,
}

/// How a probe runs.
enum ProbeRun {
    Own(for<'a> fn(&'a Session<'a>) -> BoxFuture<'a, ProbeResult<Finding>>),
    /// In the one measurement of the limits.
    Limit,
}

/// What a run may do.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// `--burst`.
    pub burst: bool,
    /// `--write`.
    pub write: bool,
    /// `--operator`.
    pub operator: bool,
    /// `--only`. `None`: all probes.
    pub only: Option<BTreeSet<String>>,
    /// The time between two calls. Tests have a shorter one than [`PACE`].
    pub pace: Duration,
    /// The host of another region. `None`: a known host of LeadSquared.
    pub other_region: Option<Url>,
    /// `--max-calls`: maximum number of calls. `None`: the default for these flags.
    pub max_calls: Option<u32>,
    /// The number of calls of today so far, if it is known.
    pub used_today: u64,
    /// The seed of random times.
    pub seed: u64,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            burst: false,
            write: false,
            operator: false,
            only: None,
            pace: PACE,
            other_region: None,
            max_calls: None,
            used_today: 0,
            seed: 1,
        }
    }
}

/// What the command does for a run.
pub trait ProbeHooks: Send + Sync {
    /// Shows what the run does, the number of calls so far, and the progress of a burst between 0 and 1.
    fn progress(&self, text: &str, calls: u32, fraction: f32);
    /// Pauses the tenant on the gateway before the bursts. Nothing to do without a gateway.
    fn pause(&self) -> BoxFuture<'_, Result<(), String>>;
    /// Resumes the tenant on the gateway. It is called after each successful pause.
    fn resume(&self) -> BoxFuture<'_, Result<(), String>>;
    /// Waits until the operator uses the web UI.
    fn operator(&self) -> BoxFuture<'_, ()>;
}

impl ProbeNeeds {
    const READ: Self = Self {
        burst: false,
        write: false,
        operator: false,
    };
    const WRITE: Self = Self {
        write: true,
        ..Self::READ
    };
    const BURST: Self = Self {
        burst: true,
        ..Self::READ
    };

    /// The flags that are missing: `--burst --operator`.
    pub fn missing(&self, options: &ProbeOptions) -> Option<String> {
        let flags = [
            ("--burst", self.burst && !options.burst),
            ("--write", self.write && !options.write),
            ("--operator", self.operator && !options.operator),
        ];
        let flags: Vec<_> = flags
            .iter()
            .filter(|(_, is_missing)| *is_missing)
            .map(|(flag, _)| *flag)
            .collect();
        (!flags.is_empty()).then(|| flags.join(" "))
    }
}

/// The probes that these options select, each with the flags that it lacks.
pub fn selected(options: &ProbeOptions) -> Vec<(&'static Probe, Option<String>)> {
    static ALL: [Probe; PROBES.len()] = PROBES;
    let is_selected = |probe: &&Probe| options.only.as_ref().is_none_or(|only| only.contains(probe.id));
    ALL.iter()
        .filter(is_selected)
        .map(|probe| (probe, probe.needs.missing(options)))
        .collect()
}

/// Maximum number of calls and maximum time of a run, without its clean-up.
pub fn budget(options: &ProbeOptions) -> (u32, Duration) {
    let budget = session::budget(options);
    (budget.calls, budget.time)
}

/// The time between two calls outside of bursts.
pub fn pace(options: &ProbeOptions, config: &TenantConfig) -> Duration {
    session::pace(options, config)
}

/// Whether these options select the bulk calls of a burst, which are writes of leads that do not exist.
pub fn sends_bulk(options: &ProbeOptions) -> bool {
    let mut selected = selected(options).into_iter();
    selected.any(|(probe, missing)| probe.id == limits::BULK_BUCKET.id && missing.is_none())
}

/// Runs the selected probes. Whatever happens, the leads of the run are deleted and the gateway is resumed before it returns.
pub async fn run(
    client: &RawClient,
    config: &TenantConfig,
    options: &ProbeOptions,
    hooks: &dyn ProbeHooks,
    cancelled: &CancellationToken,
) -> ProbeReport {
    let session = Session::new(client, config, options, hooks, cancelled);
    let selected = selected(options);
    let mut findings: BTreeMap<&str, Finding> = BTreeMap::new();
    let mut ready: Vec<&Probe> = vec![];
    for (probe, missing) in &selected {
        match missing {
            Some(flags) => {
                findings.insert(probe.id, Finding::skipped(format!("needs {flags}")));
            }
            None => ready.push(probe),
        }
    }
    let (bursts, mut quiet): (Vec<_>, Vec<_>) = ready.into_iter().partition(|probe| probe.needs.burst);
    // The keys are checked before the first write.
    quiet.sort_by_key(|probe| probe.needs.write);
    // The idle connections are opened first and used last, so that the other probes run meanwhile.
    let connection = quiet.iter().position(|probe| probe.id == connection::PROBE.id);
    let connection = connection.map(|at| quiet.remove(at));
    let mut idle = None;
    if connection.is_some() {
        session.show("opening idle connections", 0.0);
        idle = IdleConnections::open(&session).await.ok();
    }
    let mut opened = session.take_evidence();
    let probes = async {
        for probe in quiet {
            let finding = match session.unreadable().filter(|_| probe.needs.write) {
                Some(reason) => Finding::skipped(format!("nothing is written: {reason}")),
                None => run_one(&session, probe).await,
            };
            findings.insert(probe.id, finding);
        }
        let not_removed = lead::clean_up(&session).await;
        // The calls of the clean-up are no evidence.
        session.take_evidence();
        if connection.is_some() && session.stop().is_none() {
            session.show("waiting for the idle connections", 0.0);
        }
        not_removed
    };
    // The connections are due at their times, whatever the other probes do.
    let checks = async {
        match idle {
            Some(idle) => idle.check(&session).await,
            None => (vec![], vec![]),
        }
    };
    let (not_removed, (results, checked)) = tokio::join!(probes, checks);
    if let Some(probe) = connection {
        session.set_idle(results);
        opened.extend(checked);
        let mut finding = run_one(&session, probe).await;
        finding.evidence.splice(0..0, opened);
        findings.insert(probe.id, finding);
    }
    let mut gateway_errors = vec![];
    if !bursts.is_empty() && session.stop().is_none() {
        match hooks.pause().await {
            Ok(()) => {
                findings.extend(run_bursts(&session, &bursts).await);
                gateway_errors.extend(hooks.resume().await.err());
            }
            Err(error) => {
                let reason = format!("the gateway was not paused: {error}");
                findings.extend(bursts.iter().map(|probe| (probe.id, Finding::skipped(reason.clone()))));
                gateway_errors.push(error);
            }
        }
    }
    let stop = session.stop();
    let rows = selected.into_iter().map(|(probe, _)| {
        let finding = findings.remove(probe.id).unwrap_or_else(|| {
            let reason = stop.as_ref().map_or("not run", ProbeStop::reason);
            Finding::skipped(reason)
        });
        ReportRow {
            id: probe.id,
            question: probe.question,
            finding,
        }
    });
    ProbeReport {
        rows: rows.collect(),
        calls: session.calls(),
        stop: session.stop(),
        not_removed,
        gateway_errors,
    }
}

/// Runs the probes that exceed the rate limit, after the window of the paused gateway.
async fn run_bursts(session: &Session<'_>, bursts: &[&'static Probe]) -> Vec<(&'static str, Finding)> {
    let mut findings = vec![];
    session.show("waiting for an empty window", 0.0);
    // After a stop, no probe runs.
    if session.sleep(session.settings.limits.window).await.is_err() {
        return findings;
    }
    let is_limit = |probe: &&&Probe| matches!(probe.run, ProbeRun::Limit);
    let limits: Vec<&'static str> = bursts.iter().filter(is_limit).map(|probe| probe.id).collect();
    if !limits.is_empty() {
        session.show("measuring the rate limit", 0.0);
        for (id, mut finding) in limits::run(session, &limits).await {
            finding.evidence.extend(session.take_evidence());
            findings.push((id, finding));
        }
    }
    for probe in bursts {
        if matches!(probe.run, ProbeRun::Own(_)) {
            findings.push((probe.id, run_one(session, probe).await));
        }
    }
    findings
}

async fn run_one(session: &Session<'_>, probe: &Probe) -> Finding {
    let ProbeRun::Own(run) = probe.run else {
        return Finding::skipped("measured with the limits");
    };
    if let Some(stop) = session.stop() {
        return Finding::skipped(stop.reason());
    }
    session.show(probe.id, 0.0);
    let mut finding = match run(session).await {
        Ok(finding) => finding,
        Err(Halt::Stop(stop)) => Finding::failed(stop.reason()),
        Err(Halt::Probe(reason)) => Finding::failed(reason),
        Err(Halt::Budget(reason)) => {
            let reason = format!("{reason}; this probe needs up to {} calls", probe.max_calls);
            Finding::undecided("", reason, serde_json::json!({}))
        }
    };
    finding.evidence = [session.take_evidence(), std::mem::take(&mut finding.evidence)].concat();
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_unique_and_a_read_only_run_is_small() {
        let ids: BTreeSet<_> = PROBES.iter().map(|probe| probe.id).collect();
        assert_eq!(ids.len(), PROBES.len());
        let reads = selected(&ProbeOptions::default());
        let reads = reads.iter().filter(|(_, missing)| missing.is_none());
        let calls: u32 = reads.map(|(probe, _)| probe.calls).sum();
        // Half of the budget remains for repetitions after rate limit errors.
        assert!(calls <= 30, "{calls}");
    }

    #[test]
    fn the_missing_flags_are_named() {
        let options = ProbeOptions::default();
        assert_eq!(account::PROBE.needs.missing(&options), None);
        assert_eq!(
            foreign::PROBE.needs.missing(&options).as_deref(),
            Some("--burst --operator")
        );
        let options = ProbeOptions {
            burst: true,
            operator: true,
            ..options
        };
        assert_eq!(foreign::PROBE.needs.missing(&options), None);
        assert_eq!(values::PROBE.needs.missing(&options).as_deref(), Some("--write"));
    }
}
