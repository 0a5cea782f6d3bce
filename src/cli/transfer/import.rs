//! `leadgate import`: writes the leads of a file. An interrupted import continues, and writes no lead twice: a row that may have been
//! sent is sent again under the same request id.

mod bottleneck;
mod findings;
#[cfg(test)]
mod fuzzing;
mod order;
mod plan;
mod rejected;
mod runner;
mod survey;
mod unknown;
mod values;
mod window;

use std::fmt;
use std::fs::{File, Metadata, TryLockError};
use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use findings::Findings;
use jiff::Timestamp;
use leadgate::clock;
use leadgate::grpc::pb;
use plan::{ImportMode, ImportPlan, ImportSettings};
use rejected::RowReport;
use runner::{ImportRunner, ImportTarget};
use serde::{Deserialize, Serialize};
use survey::{FileIdentity, FileSurvey};
use tokio::time::Instant;
use unknown::UnknownRows;
use uuid::Uuid;

use super::attributes::AttributeCatalog;
use super::row_error::RowError;
use super::rows::RowReader;
use super::{FileFormat, state};
use crate::cli::client::{GatewayClient, GatewayOptions, note};
use crate::cli::process::{CommandError, shutdown_signal};
use crate::cli::progress::Progress;
use crate::cli::reconnect::{ReconnectOptions, Reconnects};

/// The exit codes in `leadgate import --help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  all rows were written, in the order of the file; with --dry-run: no row is invalid
  1  some rows were rejected
  2  nothing was written: an error in the file, the options or the connection; with --dry-run also: the check did not finish
  3  the import was interrupted; run the same command again to continue it. Or the outcome of some rows is unknown; the same
     command sends these rows again under the same request ids. They are listed in FILE.unknown.csv or .jsonl";

/// The exit code if some rows were rejected.
const SOME_REJECTED: u8 = 1;
/// The exit code if nothing was written.
const NOTHING_WRITTEN: u8 = 2;
/// The exit code if the same command continues the import.
const INTERRUPTED: u8 = 3;

/// Maximum age of rows of unknown outcome that are sent again: less than the default of `store.keep_request_ids`. After it, the
/// gateway may execute them as new requests.
const MAX_UNKNOWN_AGE: Duration = Duration::from_secs(23 * 3600);

#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ImportOptions {
    /// The file to import, in UTF-8: a .csv with column names in its first line, or a .jsonl with one object per line. Names are
    /// schema names such as mx_City, names in LeadFields such as city, or labels in LeadSquared such as City.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    gateway: GatewayOptions,
    /// The operation for each row.
    #[arg(long, value_enum, default_value_t = ImportMode::Upsert)]
    mode: ImportMode,
    /// The attribute by which an upsert finds the lead [default: email address, then phone].
    #[arg(long, value_name = "NAME")]
    match_by: Option<String>,
    /// The file of rejected rows, with the reasons [default: FILE.rejected.csv or .jsonl].
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// The file of rows of unknown outcome, with the reasons [default: FILE.unknown.csv or .jsonl].
    #[arg(long, value_name = "FILE")]
    unknown: Option<PathBuf>,
    /// The state file of the import [default: FILE.import-state].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Run the automations of LeadSquared for updates. Such rows are sent in single calls.
    #[arg(long)]
    run_automations: bool,
    /// Only check the rows, and print the errors by kind. Nothing is written, neither to LeadSquared nor to files.
    #[arg(long, alias = "validate-only")]
    dry_run: bool,
    #[command(flatten)]
    reconnect: ReconnectOptions,
}

/// The state of an import, which is saved in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportState {
    of: ImportRun,
    /// The id from which the request ids of the rows are computed.
    run_id: Uuid,
    tally: ImportCounts,
    /// The size of the file of rejected rows for these counts.
    rejected_bytes: u64,
    /// The counted rows whose outcome is unknown.
    unknown: UnknownRows,
    /// The time since which there are such rows.
    unknown_since: Option<Timestamp>,
    /// Whether the last run reached the end of the file, so that only rows of unknown outcome remain.
    has_ended: bool,
}

/// What happens to rows of unknown outcome of earlier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnknownRowPolicy {
    /// There is no earlier run.
    NewRun,
    SendAgain,
    /// They are not sent again, because the gateway may have deleted their request ids.
    TooOld,
}

/// The file and the options of an import. The same command continues it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportRun {
    file: FileIdentity,
    #[serde(rename = "manner")]
    settings: ImportSettings,
    tenant: Option<String>,
    rejected: PathBuf,
    unknown: PathBuf,
}

/// The results of the rows that are recorded. Rows of unknown outcome count only in `rows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportCounts {
    rows: u64,
    created: u64,
    updated: u64,
    /// Created or updated: LeadSquared does not say which.
    written: u64,
    rejected: u64,
}

impl ImportCounts {
    fn add(&mut self, outcome: pb::UpsertOutcome) {
        *match outcome {
            pb::UpsertOutcome::Created => &mut self.created,
            pb::UpsertOutcome::Updated => &mut self.updated,
            pb::UpsertOutcome::Unspecified => &mut self.written,
        } += 1;
    }
}

impl fmt::Display for ImportCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} created, {} updated, ", self.created, self.updated)?;
        if self.written > 0 {
            write!(f, "{} created or updated, ", self.written)?;
        }
        write!(f, "{} rejected", self.rejected)
    }
}

pub(crate) async fn run(options: ImportOptions) -> Result<(), CommandError> {
    let prepared = prepare(&options).await.map_err(|error| CommandError {
        code: NOTHING_WRITTEN,
        text: error,
    })?;
    let (mut runner, gateway) = prepared;
    let is_dry = options.dry_run;
    let stop = shutdown_signal()?;
    let ended = tokio::select! {
        ended = runner.run(&gateway, Reconnects::new(&options.reconnect)) => ended,
        () = stop => Err("interrupted by a signal".to_owned()),
    };
    runner.progress.finish();
    match ended {
        Ok(()) if is_dry => finish_dry_run(&options, &mut runner),
        Ok(()) => finish(&mut runner),
        Err(error) if is_dry => Err(CommandError {
            code: NOTHING_WRITTEN,
            text: format!("{error}\nthe check did not finish; nothing was written"),
        }),
        Err(error) => Err(interrupted(&mut runner, &error)),
    }
}

/// Prepares the import. Fails with all errors that are known before a row is sent.
async fn prepare(options: &ImportOptions) -> Result<(ImportRunner, GatewayClient), String> {
    let path = &options.file;
    let format = FileFormat::to_read(path)?;
    let mut file = open(path, options.dry_run)?;
    let of_file = |error: String| format!("{}: {error}", path.display());
    let survey = FileSurvey::of(format, &file).map_err(of_file)?;
    match (survey.identity.bytes, survey.rows) {
        (0, _) => return Err(of_file("is empty".to_owned())),
        (_, 0) => return Err(of_file("has no rows".to_owned())),
        _ => {}
    }
    let gateway = options.gateway.connect().await?;
    let attributes = AttributeCatalog::request(&gateway).await?;
    if options.dry_run && attributes.all().is_none() {
        return Err(
            "the attributes of the account are not known, and a dry run needs them: try again later".to_owned(),
        );
    }
    let settings = ImportSettings {
        mode: options.mode,
        match_by: options.match_by.clone(),
        run_automations: options.run_automations,
    };
    let plan = ImportPlan::new(settings.clone(), options.dry_run, survey.names.clone(), &attributes);
    let plan = plan.map_err(|errors| of_file(format!("nothing was sent\n  {}", errors.join("\n  "))))?;
    survey.notes.iter().chain(&plan.notes).for_each(|text| note(text));
    let beside = |kind: &str| rejected::path_beside(path, kind, format);
    let of = ImportRun {
        file: survey.identity,
        settings,
        tenant: options.gateway.tenant.clone(),
        rejected: options.rejected.clone().unwrap_or_else(|| beside("rejected")),
        unknown: options.unknown.clone().unwrap_or_else(|| beside("unknown")),
    };
    let (state, unsettled, end) = match options.dry_run {
        true => {
            let findings = Findings::of(survey.rows);
            (
                ImportState::new(of),
                UnknownRowPolicy::NewRun,
                ImportTarget::DryRun(findings),
            )
        }
        false => {
            let state_path = state_path(options);
            let (state, unsettled) = begin(&state_path, of)?;
            let names = survey.names.into_iter().map(|name| name.text).collect();
            let rejected = RowReport::at(state.of.rejected.clone(), names, state.rejected_bytes)?;
            let file = file.try_clone().map_err(|error| of_file(error.to_string()))?;
            let file = (format, file);
            (
                state,
                unsettled,
                ImportTarget::Import {
                    rejected,
                    state_path,
                    file,
                },
            )
        }
    };
    file.rewind().map_err(|error| of_file(error.to_string()))?;
    let first = state
        .unknown
        .first()
        .filter(|_| unsettled == UnknownRowPolicy::SendAgain);
    let skipped = first.map_or(state.tally.rows, |first| first - 1);
    let rows = skip(format, file, skipped).map_err(|error| of_file(error.to_string()))?;
    let progress = Progress::new("rows", state.settled(), survey.rows, Instant::now());
    let state = (state, unsettled);
    let mut runner = ImportRunner::new(plan, (rows, skipped), end, progress, state, survey.rows);
    // Before a row is sent, because the id of the run prevents a second effect of a row.
    runner.save()?;
    Ok((runner, gateway))
}

/// Opens the file, and locks it for one import at a time. A dry run does not lock it.
fn open(path: &Path, is_dry: bool) -> Result<File, String> {
    let name = path.display();
    let cannot = |error: std::io::Error| format!("reading {name} failed: {error}");
    let file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("{name} is not a file"));
    }
    if is_dry {
        return Ok(file);
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(format!("{name} is being imported by another process")),
        // A file system without locks does not prevent an import.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

impl ImportState {
    /// Returns the state of a new import.
    fn new(of: ImportRun) -> Self {
        Self {
            of,
            run_id: Uuid::new_v4(),
            tally: ImportCounts::default(),
            rejected_bytes: 0,
            unknown: UnknownRows::default(),
            unknown_since: None,
            has_ended: false,
        }
    }

    /// Returns the number of rows whose outcome is known.
    fn settled(&self) -> u64 {
        self.tally.rows - self.unknown.len()
    }

    /// Returns the results of the rows as text.
    fn summary(&self) -> String {
        match self.unknown.len() {
            0 => self.tally.to_string(),
            count => format!("{}, {count} of unknown outcome", self.tally),
        }
    }

    /// Returns what happens to the rows of unknown outcome of earlier runs.
    fn unsettled(&self) -> UnknownRowPolicy {
        let age = self.unknown_since.map(|since| clock::now().duration_since(since));
        match age.is_some_and(|age| age.unsigned_abs() > MAX_UNKNOWN_AGE) {
            true => UnknownRowPolicy::TooOld,
            false => UnknownRowPolicy::SendAgain,
        }
    }
}

/// Returns the state of a new import, or of the one that was interrupted or has rows of unknown outcome.
fn begin(path: &Path, of: ImportRun) -> Result<(ImportState, UnknownRowPolicy), String> {
    let found = state::load::<ImportState>(path)?;
    if let Some(found) = found.as_ref().filter(|found| found.of != of) {
        let (name, what) = (path.display(), difference(&found.of, &of));
        let twice = match found.unknown.len() {
            0 => String::new(),
            count => format!(", which may write the leads of {count} rows of unknown outcome twice"),
        };
        return Err(format!(
            "{name} belongs to another import: {what}. Continue that import with the same options, or move {name} away to import \
             all rows again{twice}"
        ));
    }
    if found.as_ref().is_none_or(|found| found.unknown.len() == 0) {
        must_not_exist(&of.unknown, "--unknown")?;
        // Checks now that the file can be written, and not after rows were written.
        RowReport::at(of.unknown.clone(), vec![], 0)?;
    }
    let Some(mut found) = found else {
        must_not_exist(&of.rejected, "--rejected")?;
        return Ok((ImportState::new(of), UnknownRowPolicy::NewRun));
    };
    if std::mem::take(&mut found.has_ended) {
        found.rejected_bytes = rejected_since(&of.rejected, found.rejected_bytes)?;
    }
    let (rows, count, unsettled) = (found.tally.rows, found.unknown.len(), found.unsettled());
    let again = match unsettled {
        _ if count == 0 => String::new(),
        UnknownRowPolicy::TooOld => format!(" {count} rows of unknown outcome are too old to be sent again."),
        UnknownRowPolicy::NewRun | UnknownRowPolicy::SendAgain => {
            format!(" {count} rows of unknown outcome are sent again under the same request ids.")
        }
    };
    note(&format!("Continuing after row {rows}: {}.{again}", found.summary()));
    Ok((found, unsettled))
}

/// Fails if the file exists, unless it is an empty file. [`RowReport::at`] leaves one if the import is killed while it checks that the
/// file can be written.
fn must_not_exist(path: &Path, option: &str) -> Result<(), String> {
    let is_empty = |found: &Metadata| found.is_file() && found.len() == 0;
    // A link always counts as a file that exists.
    if std::fs::symlink_metadata(path).is_ok_and(|found| !is_empty(&found)) {
        let name = path.display();
        return Err(format!(
            "{name} exists from another import: move it away, or give another file with {option}"
        ));
    }
    Ok(())
}

/// Returns the size of the file of rejected rows. It must be the size after the last run, or the file was moved away to be
/// corrected.
fn rejected_since(path: &Path, bytes: u64) -> Result<u64, String> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(format!("reading {} failed: {error}", path.display())),
    };
    if found != 0 && found != bytes {
        return Err(format!(
            "{} has been changed since the last run: move it away; further rejected rows are written to a new file",
            path.display()
        ));
    }
    Ok(found)
}

/// Returns the differences of two imports.
fn difference(found: &ImportRun, of: &ImportRun) -> String {
    let mut what = vec![];
    if found.file != of.file {
        what.push("the file has changed".to_owned());
    }
    if found.settings != of.settings {
        let ImportSettings {
            mode,
            match_by,
            run_automations,
        } = &found.settings;
        let match_by = match_by
            .as_deref()
            .map_or(String::new(), |name| format!(" --match-by {name}"));
        let automations = if *run_automations { " --run-automations" } else { "" };
        let mode = format!("{mode:?}").to_lowercase();
        what.push(format!("it was started with --mode {mode}{match_by}{automations}"));
    }
    if found.tenant != of.tenant {
        let tenant = found
            .tenant
            .as_deref()
            .map_or("without --tenant".to_owned(), |name| format!("with --tenant {name}"));
        what.push(format!("it was started {tenant}"));
    }
    if found.rejected != of.rejected {
        what.push(format!("its rejected rows are in {}", found.rejected.display()));
    }
    if found.unknown != of.unknown {
        let unknown = found.unknown.display();
        what.push(format!("its rows of unknown outcome are listed in {unknown}"));
    }
    what.join(", ")
}

/// Returns the rows after a number of rows.
fn skip(format: FileFormat, file: File, count: u64) -> Result<RowReader<File>, RowError> {
    let mut rows = RowReader::open(format, file)?;
    for _ in 0..count {
        rows.next()?;
    }
    Ok(rows)
}

fn state_path(options: &ImportOptions) -> PathBuf {
    let beside = || state::beside(&options.file, ".import-state");
    options.state.clone().unwrap_or_else(beside)
}

/// Prints the results after all rows were recorded.
fn finish(runner: &mut ImportRunner) -> Result<(), CommandError> {
    let (rows, rejected) = (runner.state.tally.rows, runner.state.tally.rejected);
    let rate = runner.progress.rate(runner.state.settled(), Instant::now());
    // Standard output may be closed.
    let _ = writeln!(std::io::stdout(), "{rows} rows: {}; {rate}", runner.state.summary());
    let ImportTarget::Import { state_path, .. } = &runner.target else {
        return Ok(());
    };
    let of = &runner.state.of;
    let of_rejected = (rejected > 0).then(|| {
        format!(
            "{rejected} of {rows} rows were rejected. They are in {} with the reasons: correct them there and import that file",
            of.rejected.display()
        )
    });
    if runner.state.unknown.len() == 0 {
        state::remove(state_path)?;
        return of_rejected.map_or(Ok(()), |text| {
            Err(CommandError {
                code: SOME_REJECTED,
                text,
            })
        });
    }
    let mut texts = describe_unknown(&runner.state, state_path, runner.unsettled);
    texts.extend(of_rejected);
    runner.state.has_ended = true;
    texts.extend(runner.save().err());
    texts.extend(list_unknown(runner).err());
    Err(CommandError {
        code: INTERRUPTED,
        text: texts.join("\n"),
    })
}

/// Returns the texts about the rows of unknown outcome, and what to do.
fn describe_unknown(state: &ImportState, keep: &Path, unsettled: UnknownRowPolicy) -> Vec<String> {
    let (rows, count, by_hand) = (state.tally.rows, state.unknown.len(), state.unknown.only_by_hand());
    let (list, keep) = (state.of.unknown.display(), keep.display());
    let mut texts = vec![format!(
        "the outcome of {count} of {rows} rows is unknown: LeadSquared may have executed them. They are listed in {list} with the \
         reasons. Do not import that file, because leads could be written twice"
    )];
    let hours = MAX_UNKNOWN_AGE.as_secs() / 3600;
    if unsettled == UnknownRowPolicy::TooOld {
        texts.push(format!(
            "these rows are older than {hours} hours. They were not sent again, because the gateway may have deleted their \
             request ids (store.keep_request_ids)"
        ));
    } else if by_hand < count {
        texts.push(format!(
            "run the same command again within {hours} hours: it sends only these rows again, under the same request ids. The \
             gateway looks them up, and writes the rows that were not executed"
        ));
    }
    if by_hand > 0 && unsettled != UnknownRowPolicy::TooOld {
        texts.push(format!(
            "{by_hand} of these rows have neither an email address nor a phone, so the gateway cannot look them up. The same command sends \
             these rows again under the same request ids. No row is written twice, but the outcome may stay unknown"
        ));
    }
    if by_hand > 0 || unsettled != UnknownRowPolicy::NewRun {
        texts.push(format!(
            "to find the outcome by hand, search LeadSquared for the values of each row. Copy the rows that are not in LeadSquared to a new \
             file, without the error columns (JSON lines: _error), and import it. Then delete {keep} and {list}"
        ));
    }
    texts
}

/// Writes the file of rows of unknown outcome, if there are any.
fn list_unknown(runner: &mut ImportRunner) -> Result<(), String> {
    let ImportState { unknown, of, .. } = &runner.state;
    let ImportTarget::Import {
        file: (format, file), ..
    } = &mut runner.target
    else {
        return Ok(());
    };
    if unknown.len() == 0 {
        return Ok(());
    }
    let cannot = |error: String| format!("writing {} failed: {error}", of.unknown.display());
    let file = file.rewind().and_then(|()| file.try_clone());
    let rows = RowReader::open(*format, file.map_err(|error| cannot(error.to_string()))?);
    let rows = rows.map_err(|error| cannot(error.to_string()))?;
    unknown.write(&of.unknown, rows)
}

/// Prints the findings after all rows were checked.
fn finish_dry_run(options: &ImportOptions, runner: &mut ImportRunner) -> Result<(), CommandError> {
    let ImportCounts { rows, rejected, .. } = runner.state.tally;
    let rate = runner.progress.rate(rows, Instant::now());
    let table = match &mut runner.target {
        ImportTarget::DryRun(findings) => findings.table(|column| runner.plan.name(column).to_owned()),
        ImportTarget::Import { .. } => String::new(),
    };
    let valid = rows - rejected;
    let mut out = std::io::stdout();
    let _ = write!(
        out,
        "{rows} rows checked: {valid} valid, {rejected} rejected; {rate}\n{table}"
    );
    match rejected {
        0 => Ok(()),
        _ => Err(CommandError {
            code: SOME_REJECTED,
            text: format!(
                "{rejected} of {rows} rows of {} would be rejected; nothing was written",
                options.file.display()
            ),
        }),
    }
}

fn interrupted(runner: &mut ImportRunner, error: &str) -> CommandError {
    let state = &runner.state;
    let so_far = format!(
        "{error}\n{} of {} rows: {}",
        state.tally.rows,
        runner.all,
        state.summary()
    );
    let saved = runner.save().and_then(|()| list_unknown(runner));
    let next = match saved {
        Err(error) => error,
        Ok(()) if runner.state.unknown.len() > 0 => format!(
            "run the same command again to continue; it also sends the rows of unknown outcome again. They are listed in {}, \
             which must not be imported",
            runner.state.of.unknown.display()
        ),
        Ok(()) => "run the same command again to continue".to_owned(),
    };
    CommandError {
        code: INTERRUPTED,
        text: format!("{so_far}; {next}"),
    }
}
