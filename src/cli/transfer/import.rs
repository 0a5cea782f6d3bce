//! `leadgate import`: writes the leads of a file. A run that broke off goes on where it was, and writes no lead twice: what may
//! have been sent is sent again under the request id that it had.

mod bottleneck;
mod findings;
mod order;
mod plan;
mod rejected;
mod sending;
mod survey;
mod unknown;
mod values;
mod window;

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use findings::Findings;
use jiff::Timestamp;
use leadgate::clock;
use leadgate::grpc::pb;
use plan::{Manner, Mode, Plan};
use rejected::Rejected;
use sending::{End, Sending};
use serde::{Deserialize, Serialize};
use survey::{Identity, Survey};
use tokio::time::Instant;
use unknown::Unknown;
use uuid::Uuid;

use super::attributes::Attributes;
use super::progress::Progress;
use super::rows::{Fault, Rows};
use super::{Format, state};
use crate::cli::client::{Address, note};
use crate::{Failed, told_to_stop};

/// What `leadgate import --help` says of exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0  every row took effect, in the order of the file; of a dry run: no row is rejected
  1  some rows were rejected
  2  nothing was written: a fault in the file, the options or the connection; of a dry run also: the check did not finish
  3  the import broke off, and the same command goes on where it was; or the outcome of some rows is unknown, and the same
     command sends these rows again under the same request ids. They are listed in FILE.unknown.csv or .jsonl";

/// Some rows were rejected; nothing was done; rows are left that the same command sends.
const SOME_REJECTED: u8 = 1;
const NOTHING_DONE: u8 = 2;
const BROKE_OFF: u8 = 3;

/// For how long rows of unknown outcome are sent again: a little less than the default of `store.keep_request_ids`. After that
/// the gateway may take them for new ones.
const SEND_AGAIN: Duration = Duration::from_secs(23 * 3600);

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
    /// Where rows of unknown outcome are listed, with the reason [default: FILE.unknown.csv or .jsonl].
    #[arg(long, value_name = "FILE")]
    unknown: Option<PathBuf>,
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
    /// The rows among these whose outcome is unknown.
    unknown: Unknown,
    /// Since when there have been such rows.
    unknown_since: Option<Timestamp>,
    /// Whether the last run came to the end of the file, so that only rows of unknown outcome are left.
    has_ended: bool,
}

/// What is done about the rows whose outcome was unknown to earlier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsettled {
    /// There was no earlier run.
    NewRun,
    SendAgain,
    /// The gateway may have forgotten their request ids.
    TooOld,
}

/// By what a run is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    file: Identity,
    manner: Manner,
    tenant: Option<String>,
    rejected: PathBuf,
    unknown: PathBuf,
}

/// What became of the rows up to the last one up to which all are recorded. Those of unknown outcome are in none of the counts
/// but the first.
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
        Ok(()) => end(&mut sending),
        Err(fault) if is_dry => Err(Failed {
            code: NOTHING_DONE,
            text: format!("{fault}\nthe check did not finish; nothing was written"),
        }),
        Err(fault) => Err(broke_off(&mut sending, &fault)),
    }
}

/// Everything that can be known to be wrong before a row is sent.
async fn prepare(options: &Import) -> Result<(Sending, crate::cli::client::Gateway), String> {
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
    let beside = |kind: &str| rejected::path_beside(path, kind, format);
    let of = Run {
        file: survey.identity,
        manner,
        tenant: options.gateway.tenant.clone(),
        rejected: options.rejected.clone().unwrap_or_else(|| beside("rejected")),
        unknown: options.unknown.clone().unwrap_or_else(|| beside("unknown")),
    };
    let (state, unsettled, end) = match options.dry_run {
        true => {
            let findings = Findings::of(survey.rows);
            (State::new(of), Unsettled::NewRun, End::DryRun(findings))
        }
        false => {
            let keep = state_path(options);
            let (state, unsettled) = begin(&keep, of)?;
            let names = survey.names.into_iter().map(|name| name.text).collect();
            let rejected = Rejected::at(state.of.rejected.clone(), names, state.rejected_bytes)?;
            let file = file.try_clone().map_err(|error| of_file(error.to_string()))?;
            let file = (format, file);
            (state, unsettled, End::Import { rejected, keep, file })
        }
    };
    file.rewind().map_err(|error| of_file(error.to_string()))?;
    let first = state.unknown.first().filter(|_| unsettled == Unsettled::SendAgain);
    let passed = first.map_or(state.tally.rows, |first| first - 1);
    let rows = skip(format, file, passed).map_err(|fault| of_file(fault.to_string()))?;
    let progress = Progress::new("rows", state.settled(), survey.rows, Instant::now());
    let state = (state, unsettled);
    let mut sending = Sending::new(plan, (rows, passed), end, progress, state, survey.rows);
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
            unknown: Unknown::default(),
            unknown_since: None,
            has_ended: false,
        }
    }

    /// How many rows are settled.
    fn settled(&self) -> u64 {
        self.tally.rows - self.unknown.len()
    }

    /// What became of the rows.
    fn summary(&self) -> String {
        match self.unknown.len() {
            0 => self.tally.to_string(),
            count => format!("{}, {count} of unknown outcome", self.tally),
        }
    }

    /// What is done about the rows of unknown outcome of earlier runs.
    fn unsettled(&self) -> Unsettled {
        let age = self.unknown_since.map(|since| clock::now().duration_since(since));
        match age.is_some_and(|age| age.unsigned_abs() > SEND_AGAIN) {
            true => Unsettled::TooOld,
            false => Unsettled::SendAgain,
        }
    }
}

/// A new run, or the one that broke off or has rows of unknown outcome left.
fn begin(path: &Path, of: Run) -> Result<(State, Unsettled), String> {
    let found = state::load::<State>(path)?;
    if let Some(found) = found.as_ref().filter(|found| found.of != of) {
        let (name, what) = (path.display(), difference(&found.of, &of));
        let twice = match found.unknown.len() {
            0 => String::new(),
            count => format!(", which may write the leads of {count} rows of unknown outcome twice"),
        };
        return Err(format!(
            "{name} is of another run: {what}. Go on with that one as it was begun, or move {name} away to import all rows \
             anew{twice}"
        ));
    }
    if found.as_ref().is_none_or(|found| found.unknown.len() == 0) {
        be_new(&of.unknown, "--unknown")?;
        // It is found out now whether the file can be written, and not when rows have been.
        Rejected::at(of.unknown.clone(), vec![], 0)?;
    }
    let Some(mut found) = found else {
        be_new(&of.rejected, "--rejected")?;
        return Ok((State::new(of), Unsettled::NewRun));
    };
    if std::mem::take(&mut found.has_ended) {
        found.rejected_bytes = rejected_since(&of.rejected, found.rejected_bytes)?;
    }
    let (rows, count, unsettled) = (found.tally.rows, found.unknown.len(), found.unsettled());
    let again = match unsettled {
        _ if count == 0 => String::new(),
        Unsettled::TooOld => format!(" {count} rows of unknown outcome are too old to be sent again."),
        Unsettled::NewRun | Unsettled::SendAgain => {
            format!(" {count} rows of unknown outcome are sent again under the same request ids.")
        }
    };
    note(&format!("Going on after row {rows}: {}.{again}", found.summary()));
    Ok((found, unsettled))
}

/// Fails if there is such a file already.
fn be_new(path: &Path, option: &str) -> Result<(), String> {
    if path.exists() {
        let name = path.display();
        return Err(format!(
            "{name} is there from another run: move it away, or name another by {option}"
        ));
    }
    Ok(())
}

/// How many bytes the file of rejected rows has that a run has left with so many: it may have been moved away to be put right.
fn rejected_since(path: &Path, bytes: u64) -> Result<u64, String> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    if found != 0 && found != bytes {
        return Err(format!(
            "{} has been changed since the last run: move it away, and rows that are rejected go to a new one",
            path.display()
        ));
    }
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
    if found.unknown != of.unknown {
        let unknown = found.unknown.display();
        what.push(format!("its rows of unknown outcome are listed in {unknown}"));
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

/// All rows are recorded: says what became of them.
fn end(sending: &mut Sending) -> Result<(), Failed> {
    let (rows, rejected) = (sending.state.tally.rows, sending.state.tally.rejected);
    let rate = sending.progress.rate(sending.state.settled(), Instant::now());
    // Nobody may read it.
    let _ = writeln!(std::io::stdout(), "{rows} rows: {}; {rate}", sending.state.summary());
    let End::Import { keep, .. } = &sending.end else {
        return Ok(());
    };
    let of = &sending.state.of;
    let of_rejected = (rejected > 0).then(|| {
        format!(
            "{rejected} of {rows} rows were rejected; they are in {} with the reasons, and can be put right and imported there",
            of.rejected.display()
        )
    });
    if sending.state.unknown.len() == 0 {
        state::remove(keep)?;
        return of_rejected.map_or(Ok(()), |text| {
            Err(Failed {
                code: SOME_REJECTED,
                text,
            })
        });
    }
    let mut texts = of_unknown(&sending.state, keep, sending.unsettled);
    texts.extend(of_rejected);
    sending.state.has_ended = true;
    texts.extend(sending.save().err());
    texts.extend(list_unknown(sending).err());
    Err(Failed {
        code: BROKE_OFF,
        text: texts.join("\n"),
    })
}

/// What is to be said of the rows of unknown outcome, and what can be done about them.
fn of_unknown(state: &State, keep: &Path, unsettled: Unsettled) -> Vec<String> {
    let (rows, count, by_hand) = (state.tally.rows, state.unknown.len(), state.unknown.only_by_hand());
    let (list, keep) = (state.of.unknown.display(), keep.display());
    let mut texts = vec![format!(
        "the outcome of {count} of {rows} rows is unknown: LeadSquared may have executed them or not. They are listed in {list} \
         with the reasons. Do not import that file: leads could be written twice"
    )];
    let hours = SEND_AGAIN.as_secs() / 3600;
    if unsettled == Unsettled::TooOld {
        texts.push(format!(
            "they are older than {hours} hours and were not sent again, because the gateway may have forgotten their request ids \
             (store.keep_request_ids)"
        ));
    } else if by_hand < count {
        texts.push(format!(
            "give the same command again within {hours} hours: it sends exactly these rows again under the same request ids. The \
             gateway looks them up, and writes only those that were not executed"
        ));
    }
    if by_hand > 0 && unsettled != Unsettled::TooOld {
        texts.push(format!(
            "{by_hand} of them have neither email address nor phone, so the gateway cannot look them up: the same command sends \
             them again under the same request ids, which writes none twice, but may never settle them"
        ));
    }
    if by_hand > 0 || unsettled != Unsettled::NewRun {
        texts.push(format!(
            "to settle rows by hand, search LeadSquared for the values of each row. Copy the rows that are missing there to a new \
             file, without the error columns (JSON lines: _error), and import it. Then delete {keep} and {list}"
        ));
    }
    texts
}

/// Lists the rows of unknown outcome in their file, if there are any.
fn list_unknown(sending: &mut Sending) -> Result<(), String> {
    let State { unknown, of, .. } = &sending.state;
    let End::Import {
        file: (format, file), ..
    } = &mut sending.end
    else {
        return Ok(());
    };
    if unknown.len() == 0 {
        return Ok(());
    }
    let cannot = |fault: String| format!("{} cannot be written: {fault}", of.unknown.display());
    let file = file.rewind().and_then(|()| file.try_clone());
    let rows = Rows::open(*format, file.map_err(|error| cannot(error.to_string()))?);
    let rows = rows.map_err(|fault| cannot(fault.to_string()))?;
    unknown.write(&of.unknown, rows)
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
    let state = &sending.state;
    let so_far = format!(
        "{fault}\n{} of {} rows: {}",
        state.tally.rows,
        sending.all,
        state.summary()
    );
    let saved = sending.save().and_then(|()| list_unknown(sending));
    let next = match saved {
        Err(fault) => fault,
        Ok(()) if sending.state.unknown.len() > 0 => format!(
            "the same command goes on from there, and sends the rows of unknown outcome again; they are listed in {}, which is \
             not to be imported",
            sending.state.of.unknown.display()
        ),
        Ok(()) => "the same command goes on from there".to_owned(),
    };
    Failed {
        code: BROKE_OFF,
        text: format!("{so_far}; {next}"),
    }
}
