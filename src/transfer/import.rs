//! `leadgate import`: writes the leads of a file. A run that broke off goes on where it was, and writes no lead twice: what may
//! have been sent is sent again under the request id that it had.

mod bottleneck;
mod findings;
mod order;
mod plan;
mod rejected;
mod sending;
mod survey;
mod values;
mod window;

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use findings::Findings;
use leadgate::grpc::pb;
use plan::{Manner, Mode, Plan};
use rejected::Rejected;
use sending::{End, Sending};
use serde::{Deserialize, Serialize};
use survey::{Identity, Survey};
use tokio::time::Instant;
use uuid::Uuid;

use super::attributes::Attributes;
use super::progress::Progress;
use super::rows::{Fault, Rows};
use super::{Format, state};
use crate::client::{Address, note};
use crate::{Failed, told_to_stop};

/// What `leadgate import --help` says of exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0  every row took effect, in the order of the file; of a dry run: no row is rejected
  1  some rows were rejected
  2  nothing was written: a fault in the file, the options or the connection; of a dry run also: the check did not finish
  3  the import broke off; the same command goes on where it was";

/// Some rows were rejected; nothing was done; it broke off, and goes on when it is started again.
const SOME_REJECTED: u8 = 1;
const NOTHING_DONE: u8 = 2;
const BROKE_OFF: u8 = 3;

#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Import {
    /// What to import: a .csv with a first line of names, or a .jsonl with an object per line, in UTF-8. Names are those of
    /// attributes, as mx_City, of LeadFields, as city, or the labels that users see, as City.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    gateway: Address,
    /// What to do with each row.
    #[arg(long, value_enum, default_value_t = Mode::Upsert)]
    mode: Mode,
    /// The attribute by which an upsert looks for the lead; without it, email, then phone.
    #[arg(long, value_name = "NAME")]
    match_by: Option<String>,
    /// Where rows go that are not taken, with the reason [default: FILE.rejected.csv or .jsonl].
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Where it is kept how far the import is [default: FILE.import-state].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Start what listens to updates of leads. Such rows are sent one by one.
    #[arg(long)]
    run_automations: bool,
    /// Only check the rows, and print what is wrong by kind: nothing is written, neither to LeadSquared nor beside the file.
    #[arg(long, alias = "validate-only")]
    dry_run: bool,
}

/// How far an import is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    of: Run,
    /// What the request ids of the rows are made of.
    run_id: Uuid,
    tally: Tally,
    /// How much of the file of rejected rows belongs to that.
    rejected_bytes: u64,
}

/// By what a run is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    file: Identity,
    manner: Manner,
    tenant: Option<String>,
    rejected: PathBuf,
}

/// What became of the rows up to the last one up to which all are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tally {
    rows: u64,
    created: u64,
    updated: u64,
    /// Taken, and LeadSquared does not tell whether the lead was there.
    written: u64,
    rejected: u64,
}

impl Tally {
    fn take(&mut self, outcome: pb::UpsertOutcome) {
        *match outcome {
            pb::UpsertOutcome::Created => &mut self.created,
            pb::UpsertOutcome::Updated => &mut self.updated,
            pb::UpsertOutcome::Unspecified => &mut self.written,
        } += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} created, {} updated, ", self.created, self.updated)?;
        if self.written > 0 {
            write!(f, "{} created or updated, ", self.written)?;
        }
        write!(f, "{} rejected", self.rejected)
    }
}

pub(crate) async fn run(options: Import) -> Result<(), Failed> {
    let prepared = prepare(&options).await.map_err(|fault| Failed {
        code: NOTHING_DONE,
        text: fault,
    })?;
    let (mut sending, gateway) = prepared;
    let is_dry = options.dry_run;
    let stop = told_to_stop()?;
    let ended = tokio::select! {
        ended = sending.run(&gateway) => ended,
        () = stop => Err("it was stopped".to_owned()),
    };
    sending.progress.finish();
    match ended {
        Ok(()) if is_dry => end_dry(&options, &mut sending),
        Ok(()) => end(&sending),
        Err(fault) if is_dry => Err(Failed {
            code: NOTHING_DONE,
            text: format!("{fault}\nthe check did not finish; nothing was written"),
        }),
        Err(fault) => Err(broke_off(&mut sending, &fault)),
    }
}

/// Everything that can be known to be wrong before a row is sent.
async fn prepare(options: &Import) -> Result<(Sending, crate::client::Gateway), String> {
    let path = &options.file;
    let format = Format::to_read(path)?;
    let mut file = open(path, options.dry_run)?;
    let of_file = |fault: String| format!("{}: {fault}", path.display());
    let survey = Survey::of(format, &file).map_err(of_file)?;
    match (survey.identity.bytes, survey.rows) {
        (0, _) => return Err(of_file("is empty".to_owned())),
        (_, 0) => return Err(of_file("has no rows".to_owned())),
        _ => {}
    }
    let gateway = options.gateway.connect().await?;
    let attributes = Attributes::ask(&gateway).await?;
    if options.dry_run && attributes.all().is_none() {
        return Err("the account's attributes are not known, and a dry run needs them: try again later".to_owned());
    }
    let manner = Manner {
        mode: options.mode,
        match_by: options.match_by.clone(),
        run_automations: options.run_automations,
    };
    let plan = Plan::new(manner.clone(), options.dry_run, survey.names.clone(), &attributes);
    let plan = plan.map_err(|faults| of_file(format!("nothing was sent\n  {}", faults.join("\n  "))))?;
    survey.notes.iter().chain(&plan.notes).for_each(|text| note(text));
    let beside = || rejected::path_beside(path, format);
    let of = Run {
        file: survey.identity,
        manner,
        tenant: options.gateway.tenant.clone(),
        rejected: options.rejected.clone().unwrap_or_else(beside),
    };
    let (state, end) = match options.dry_run {
        true => (State::new(of), End::DryRun(Findings::of(survey.rows))),
        false => {
            let keep = state_path(options);
            let state = begin(&keep, of)?;
            let names = survey.names.into_iter().map(|name| name.text).collect();
            let rejected = Rejected::at(state.of.rejected.clone(), names, state.rejected_bytes)?;
            (state, End::Import { rejected, keep })
        }
    };
    file.rewind().map_err(|error| of_file(error.to_string()))?;
    let rows = skip(format, file, state.tally.rows).map_err(|fault| of_file(fault.to_string()))?;
    let progress = Progress::new("rows", state.tally.rows, survey.rows, Instant::now());
    let mut sending = Sending::new(plan, rows, end, progress, state, survey.rows);
    // Before anything is sent: the run's id is what keeps a row from having a second effect.
    sending.save()?;
    Ok((sending, gateway))
}

/// Opens the file, for one import at a time; a dry run keeps nobody away.
fn open(path: &Path, is_dry: bool) -> Result<File, String> {
    let name = path.display();
    let cannot = |error: std::io::Error| format!("{name} cannot be read: {error}");
    let file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("{name} is no file"));
    }
    if is_dry {
        return Ok(file);
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(format!("{name} is being imported by another process")),
        // Where there are no locks, nobody is kept away.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

impl State {
    /// That of a new run.
    fn new(of: Run) -> Self {
        Self {
            of,
            run_id: Uuid::new_v4(),
            tally: Tally::default(),
            rejected_bytes: 0,
        }
    }
}

/// A new run, or the one that broke off.
fn begin(path: &Path, of: Run) -> Result<State, String> {
    let Some(found) = state::load::<State>(path)? else {
        if of.rejected.exists() {
            let name = of.rejected.display();
            return Err(format!(
                "{name} is there from another run: move it away, or name another by --rejected"
            ));
        }
        return Ok(State::new(of));
    };
    if found.of != of {
        let (name, what) = (path.display(), difference(&found.of, &of));
        return Err(format!(
            "{name} is of another run: {what}. Go on with that one as it was begun, or move {name} away to import all rows anew"
        ));
    }
    let rows = found.tally.rows;
    note(&format!("Going on after row {rows}: {}.", found.tally));
    Ok(found)
}

/// In what two runs differ.
fn difference(found: &Run, of: &Run) -> String {
    let mut what = vec![];
    if found.file != of.file {
        what.push("the file has changed".to_owned());
    }
    if found.manner != of.manner {
        let Manner {
            mode,
            match_by,
            run_automations,
        } = &found.manner;
        let match_by = match_by
            .as_deref()
            .map_or(String::new(), |name| format!(" --match-by {name}"));
        let automations = if *run_automations { " --run-automations" } else { "" };
        let mode = format!("{mode:?}").to_lowercase();
        what.push(format!("it was begun with --mode {mode}{match_by}{automations}"));
    }
    if found.tenant != of.tenant {
        let tenant = found
            .tenant
            .as_deref()
            .map_or("without --tenant".to_owned(), |name| format!("with --tenant {name}"));
        what.push(format!("it was begun {tenant}"));
    }
    if found.rejected != of.rejected {
        what.push(format!("its rejected rows are in {}", found.rejected.display()));
    }
    what.join(", ")
}

/// The rows after that many.
fn skip(format: Format, file: File, many: u64) -> Result<Rows<File>, Fault> {
    let mut rows = Rows::open(format, file)?;
    for _ in 0..many {
        rows.next()?;
    }
    Ok(rows)
}

fn state_path(options: &Import) -> PathBuf {
    let beside = || state::beside(&options.file, ".import-state");
    options.state.clone().unwrap_or_else(beside)
}

/// All rows are settled: says what became of them.
fn end(sending: &Sending) -> Result<(), Failed> {
    let tally = sending.state.tally;
    let rate = sending.progress.rate(tally.rows, Instant::now());
    // Nobody may read it.
    let _ = writeln!(std::io::stdout(), "{} rows: {tally}; {rate}", tally.rows);
    let End::Import { rejected, keep } = &sending.end else {
        return Ok(());
    };
    state::remove(keep)?;
    match tally.rejected {
        0 => Ok(()),
        count => Err(Failed {
            code: SOME_REJECTED,
            text: format!(
                "{count} of {} rows were rejected; they are in {} with the reasons, and can be put right and imported there",
                tally.rows,
                rejected.path().display()
            ),
        }),
    }
}

/// All rows are checked: says what was found.
fn end_dry(options: &Import, sending: &mut Sending) -> Result<(), Failed> {
    let Tally { rows, rejected, .. } = sending.state.tally;
    let rate = sending.progress.rate(rows, Instant::now());
    let table = match &mut sending.end {
        End::DryRun(findings) => findings.table(|column| sending.plan.name(column).to_owned()),
        End::Import { .. } => String::new(),
    };
    let good = rows - rejected;
    let mut out = std::io::stdout();
    let _ = write!(
        out,
        "{rows} rows checked: {good} good, {rejected} rejected; {rate}\n{table}"
    );
    match rejected {
        0 => Ok(()),
        _ => Err(Failed {
            code: SOME_REJECTED,
            text: format!(
                "{rejected} of {rows} rows of {} would be rejected; nothing was written",
                options.file.display()
            ),
        }),
    }
}

fn broke_off(sending: &mut Sending, fault: &str) -> Failed {
    let tally = sending.state.tally;
    let so_far = format!("{fault}\n{} of {} rows: {tally}", tally.rows, sending.all);
    let next = match sending.save() {
        Err(fault) => fault,
        Ok(()) => "the same command goes on from there".to_owned(),
    };
    Failed {
        code: BROKE_OFF,
        text: format!("{so_far}; {next}"),
    }
}
