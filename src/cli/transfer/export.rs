//! `leadgate export`: reads the leads that were modified in a time range into a file, which is there when it is complete. An
//! export that broke off goes on where it was, and has each lead once.

mod sheet;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use leadgate::clock;
use leadgate::domain::attribute::PARTS;
use leadgate::domain::lead::standard;
use leadgate::domain::lead_id_set::LeadIdSet;
use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sheet::Sheet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::attributes::{Attributes, Found};
use super::broken::{Breaks, Broken};
use super::progress::Progress;
use super::rows::{Fault, Row, Rows};
use super::{Format, LEAD_ID, LEAD_NUMBER, state};
use crate::cli::client::{Address, Gateway, note};
use crate::{duration, told_to_stop};

/// How often it is written down how far it is.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    gateway: Address,
    /// Leads modified from then on: 2026-07-31T05:33:50Z, a day (UTC), or how long ago, as 24h.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Leads modified before then, in the same forms.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    to: String,
    /// The file, a .csv or .jsonl. Until it is complete it is FILE.part. Records of LeadSquared that cannot be read are
    /// listed in FILE.unreadable.jsonl, and the exit code is 1 then.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only these attributes, by schema name or by name in LeadFields [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    fields: Vec<String>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    /// Put a ' before texts that begin with =, +, -, @, a tab or a line end, which spreadsheet programs take for formulas. Only
    /// for CSV. An import takes the ' for a part of the value.
    #[arg(long)]
    escape_formulas: bool,
}

/// How far an export is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    of: Run,
    /// The range as it was when the export began.
    start: Timestamp,
    end: Timestamp,
    columns: Vec<String>,
    /// After the last message that is in the file, and how long the file was then.
    resume_token: String,
    bytes: u64,
    leads: u64,
    total: u64,
    /// The number of records that could not be read, and the length of the file that lists them.
    #[serde(default)]
    unreadable: u64,
    #[serde(default)]
    unreadable_bytes: u64,
    /// How many values in the file spreadsheet programs take for formulas.
    #[serde(default)]
    formulas: u64,
}

/// By what a run is known again: what was given.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    from: String,
    to: String,
    fields: Vec<String>,
    tenant: Option<String>,
    #[serde(default)]
    escape_formulas: bool,
}

/// An export on its way.
struct Running {
    sheet: Sheet,
    seen: LeadIdSet,
    state: State,
    progress: Progress,
    paths: Paths,
    /// Keeps other processes from writing it as well.
    _lock: File,
}

/// The file, what it is until it is complete, and where it is kept how far it is.
struct Paths {
    out: PathBuf,
    part: PathBuf,
    state: PathBuf,
    unreadable: PathBuf,
    may_replace: bool,
}

pub(crate) async fn run(options: Export) -> Result<(), String> {
    let format = Format::of(&options.out)?;
    if options.escape_formulas && format != Format::Csv {
        return Err("--escape-formulas: only a .csv is opened as a spreadsheet".to_owned());
    }
    let paths = Paths::of(&options.out, options.force)?;
    let gateway = options.gateway.connect().await?;
    let state = begin(options, &paths, &gateway).await?;
    let mut running = Running::new(format, paths, state)?;
    let stop = told_to_stop()?;
    let ended = tokio::select! {
        ended = running.run(&gateway) => ended,
        () = stop => Err("it was stopped".to_owned()),
    };
    running.progress.finish();
    match ended {
        Ok(()) => running.end(),
        Err(fault) => {
            let leads = running.state.leads;
            let next = running
                .save()
                .err()
                .unwrap_or("the same command goes on from there".to_owned());
            Err(format!(
                "{fault}\n{leads} leads are in {}; {next}",
                running.paths.part.display()
            ))
        }
    }
}

impl Paths {
    fn of(out: &Path, may_replace: bool) -> Result<Self, String> {
        let name = out.display();
        match fs::metadata(out) {
            Ok(there) if !there.is_file() => return Err(format!("{name} cannot be written: it is no file")),
            Ok(_) if !may_replace => return Err(format!("{name} is there: give --force to replace it")),
            Ok(_) | Err(_) => {}
        }
        Ok(Self {
            out: out.to_owned(),
            part: state::beside(out, ".part"),
            state: state::beside(out, ".export-state"),
            unreadable: state::beside(out, ".unreadable.jsonl"),
            may_replace,
        })
    }
}

/// A new run, or the one that broke off.
async fn begin(options: Export, paths: &Paths, gateway: &Gateway) -> Result<State, String> {
    let of = Run {
        from: options.from,
        to: options.to,
        fields: options.fields,
        tenant: options.gateway.tenant,
        escape_formulas: options.escape_formulas,
    };
    if let Some(found) = state::load::<State>(&paths.state)? {
        if found.of == of {
            note(&format!("Going on after {} leads.", found.leads));
            return Ok(found);
        }
        let (name, Run { from, to, .. }) = (paths.state.display(), &found.of);
        let escaped = if found.of.escape_formulas {
            " --escape-formulas"
        } else {
            ""
        };
        return Err(format!(
            "{name} is of another export, --from {from} --to {to}{escaped}: go on with that one as it was begun, or move it and {} away",
            paths.part.display()
        ));
    }
    if paths.part.exists() {
        let name = paths.part.display();
        return Err(format!("{name} is there and nobody knows how far it is: move it away"));
    }
    if paths.unreadable.exists() && !paths.may_replace {
        let name = paths.unreadable.display();
        return Err(format!("{name} is there: give --force to replace it"));
    }
    let now = clock::now();
    let (start, end) = (moment("--from", &of.from, now)?, moment("--to", &of.to, now)?);
    if start >= end {
        return Err("--from: must be before --to".to_owned());
    }
    Ok(State {
        columns: columns(&Attributes::ask(gateway).await?, &of.fields)?,
        of,
        start,
        end,
        resume_token: String::new(),
        bytes: 0,
        leads: 0,
        total: 0,
        unreadable: 0,
        unreadable_bytes: 0,
        formulas: 0,
    })
}

impl Running {
    fn new(format: Format, paths: Paths, state: State) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("{} cannot be written: {error}", paths.part.display());
        if state.bytes == 0 {
            // First: a part without a state would be nobody's.
            state::save(&paths.state, &state)?;
        }
        let lock = state::private()
            .create(true)
            .append(true)
            .open(&paths.part)
            .map_err(cannot)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(format!("{} is being written by another process", paths.part.display()));
        }
        let file = state::reopen(&paths.part, state.bytes).map_err(cannot)?;
        let seen = seen(format, &paths.part)?;
        match state.unreadable_bytes {
            // The one of an earlier export.
            0 => state::remove(&paths.unreadable)?,
            bytes => drop(
                state::reopen(&paths.unreadable, bytes)
                    .map_err(|error| format!("{} cannot be written: {error}", paths.unreadable.display()))?,
            ),
        }
        Ok(Self {
            sheet: Sheet::new(format, file, state.columns.clone(), state.of.escape_formulas).map_err(cannot)?,
            seen,
            progress: Progress::new("leads", state.leads, state.total, Instant::now()),
            state,
            paths,
            _lock: lock,
        })
    }

    async fn run(&mut self, gateway: &Gateway) -> Result<(), String> {
        let mut breaks = Breaks::default();
        loop {
            let before = self.state.leads;
            let Err(broken) = self.stream(gateway).await else {
                return Ok(());
            };
            let pause = breaks.after(broken, self.state.leads > before, &self.progress)?;
            tokio::time::sleep(pause).await;
        }
    }

    async fn stream(&mut self, gateway: &Gateway) -> Result<(), Broken> {
        let asked = pb::ExportLeadsRequest {
            start_time: Some(timestamp(self.state.start)),
            end_time: Some(timestamp(self.state.end)),
            read_mask: Some(prost_types::FieldMask {
                paths: paths(&self.state.columns),
            }),
            resume_token: self.state.resume_token.clone(),
        };
        let mut client = LeadServiceClient::new(gateway.channel()).max_decoding_message_size(usize::MAX);
        let mut answers = client.export_leads(gateway.stream(asked)).await?.into_inner();
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                answer = answers.message() => match answer? {
                    Some(answer) => self.add(answer)?,
                    None => return Ok(()),
                },
                now = tick.tick() => {
                    self.save()?;
                    self.progress.show(self.state.leads, self.state.total, "", now);
                }
            }
        }
    }

    fn add(&mut self, answer: pb::ExportLeadsResponse) -> Result<(), String> {
        for lead in answer.leads {
            // After a break some come again.
            if self.seen.insert(&lead.lead_id) {
                self.state.formulas += self.sheet.add(lead).map_err(|error| self.cannot(&error))?;
                self.state.leads += 1;
            }
        }
        self.report(&answer.unreadable)?;
        self.state.resume_token = answer.resume_token;
        self.state.total = u64::try_from(answer.total_size).unwrap_or_default();
        Ok(())
    }

    /// Lists the records that could not be read, one object on each line.
    fn report(&mut self, records: &[pb::UnreadableRecord]) -> Result<(), String> {
        if records.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for record in records {
            let line = json!({"id": record.id, "position": record.position, "json_path": record.json_path});
            lines.extend_from_slice(line.to_string().as_bytes());
            lines.push(b'\n');
        }
        let path = &self.paths.unreadable;
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.create(true).append(true).mode(0o600).open(path)?;
            file.write_all(&lines)?;
            file.sync_data()?;
            file.stream_position()
        };
        let bytes = write().map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        self.state.unreadable_bytes = bytes;
        self.state.unreadable += records.len() as u64;
        Ok(())
    }

    /// Writes down how far it is, after what is in the file by then.
    fn save(&mut self) -> Result<(), String> {
        self.state.bytes = self.sheet.flush().map_err(|error| self.cannot(&error))?;
        state::save(&self.paths.state, &self.state)
    }

    fn end(mut self) -> Result<(), String> {
        self.save()?;
        let Paths { out, part, state, .. } = &self.paths;
        fs::rename(part, out).map_err(|error| format!("{} cannot be written: {error}", out.display()))?;
        state::remove(state)?;
        let leads = self.state.leads;
        let rate = self.progress.rate(leads, Instant::now());
        note(&format!("{leads} leads in {}; {rate}", out.display()));
        if let (1.., false) = (self.state.formulas, self.state.of.escape_formulas) {
            note(&format!(
                "{} values begin with =, +, -, @, a tab or a line end, which spreadsheet programs may take for formulas: \
                 --escape-formulas puts a ' before them.",
                self.state.formulas
            ));
        }
        match self.state.unreadable {
            0 => Ok(()),
            count => Err(format!(
                "{count} record(s) of LeadSquared cannot be read and are not in the file; they are listed in {}",
                self.paths.unreadable.display()
            )),
        }
    }

    fn cannot(&self, error: &io::Error) -> String {
        format!("{} cannot be written: {error}", self.paths.part.display())
    }
}

/// The leads that are in a part already.
fn seen(format: Format, part: &Path) -> Result<LeadIdSet, String> {
    let cannot = |fault: String| format!("{} cannot be read: {fault}", part.display());
    let mut file = File::open(part).map_err(|error| cannot(error.to_string()))?;
    file.rewind().map_err(|error| cannot(error.to_string()))?;
    let cannot_read = |fault: Fault| cannot(fault.to_string());
    let mut rows = Rows::open(format, file).map_err(cannot_read)?;
    let mut seen = LeadIdSet::default();
    while let Some(row) = rows.next().map_err(cannot_read)? {
        let id = match row {
            Row::Csv(record) => record.iter().next().map(str::to_owned),
            Row::Jsonl { object, .. } => object.0.first().and_then(|(_, id)| serde_json::from_str(id.get()).ok()),
        };
        seen.insert(&id.unwrap_or_default());
    }
    Ok(seen)
}

/// A time as it is given: a point, a day, or how long ago.
fn moment(option: &str, text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    // A date alone; with a time, an offset is missing.
    let day = Some(text).filter(|text| text.len() == "2026-07-31".len());
    if let Some(Ok(day)) = day.map(str::parse::<Date>) {
        let midnight = day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        return midnight.map_err(|error| format!("{option}: {error}"));
    }
    let ago = duration(text).ok().and_then(|ago| SignedDuration::try_from(ago).ok());
    let moment = ago.and_then(|ago| now.checked_sub(ago).ok());
    moment.ok_or_else(|| {
        format!("{option}: {text} is no time such as 2026-07-31T05:33:50Z, 2026-07-31 or 24h, which is that long ago")
    })
}

/// The schema names of the columns after id and number, in order; or all names that are none.
fn columns(attributes: &Attributes, fields: &[String]) -> Result<Vec<String>, String> {
    let mut columns: Vec<String> = if fields.is_empty() {
        let all = attributes.all();
        let all = all.ok_or("what attributes there are is not known: name some by --fields")?;
        all.iter().map(|attribute| attribute.schema_name.clone()).collect()
    } else {
        let (mut found, mut faults) = (vec![], vec![]);
        for name in fields {
            match attributes.find(name.trim()) {
                Found::One(attribute) => found.push(attribute.schema_name),
                Found::None => faults.push(format!("--fields: the account has no attribute {name}")),
                Found::Several(several) => faults.push(format!(
                    "--fields: {name} may be {}, which users see under this label: name one of these",
                    several.join(" or ")
                )),
            }
        }
        if !faults.is_empty() {
            return Err(faults.join("\n  "));
        }
        found
    };
    columns.retain(|name| part(name).is_none_or(|part| part != LEAD_ID && part != LEAD_NUMBER));
    columns.sort();
    columns.dedup();
    Ok(columns)
}

/// The paths of these columns in a mask.
fn paths(columns: &[String]) -> Vec<String> {
    let path = |name: &String| match (part(name), standard(name)) {
        (Some(part), _) => part.to_owned(),
        (None, Some(standard)) => format!("fields.{}", standard.name),
        (None, None) => format!("fields.custom.{name}"),
    };
    let ours = [LEAD_ID, LEAD_NUMBER].map(str::to_owned);
    ours.into_iter().chain(columns.iter().map(path)).collect()
}

/// The field of Lead itself that the attribute is.
fn part(schema_name: &str) -> Option<&'static str> {
    let found = PARTS.iter().find(|(_, name)| *name == schema_name);
    found.map(|(part, _)| *part)
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_point_a_day_or_a_while_ago() {
        let now: Timestamp = "2026-07-31T12:00:00Z".parse().unwrap();
        let read = |text| moment("--from", text, now).map(|moment| moment.to_string());
        for (text, moment) in [
            ("2026-07-30T07:33:50+02:00", "2026-07-30T05:33:50Z"),
            ("2026-07-30", "2026-07-30T00:00:00Z"),
            ("24h", "2026-07-30T12:00:00Z"),
            ("0s", "2026-07-31T12:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(moment), "{text}");
        }
        for text in ["", "yesterday", "2026-07-30 05:33", "2026-13-01", "-3h", "9999999years"] {
            assert!(read(text).is_err_and(|fault| fault.contains("--from")), "{text}");
        }
    }

    #[test]
    fn columns_are_in_order_and_each_once() {
        let attributes = Attributes::told(
            [
                "mx_City",
                "ProspectID",
                "EmailAddress",
                "CreatedOn",
                "mx_KYC",
                "ProspectAutoId",
            ]
            .map(|name| pb::LeadField {
                schema_name: name.to_owned(),
                ..Default::default()
            })
            .into(),
        );
        let all = columns(&attributes, &[]).unwrap();
        assert_eq!(all, ["CreatedOn", "EmailAddress", "mx_City", "mx_KYC"]);
        assert_eq!(
            paths(&all),
            [
                "lead_id",
                "lead_number",
                "create_time",
                "fields.email_address",
                "fields.city",
                "fields.custom.mx_KYC"
            ]
        );
        let some = ["city", "mx_City", "lead_id", "create_time"].map(str::to_owned);
        assert_eq!(columns(&attributes, &some).unwrap(), ["CreatedOn", "mx_City"]);
        let faults = columns(&attributes, &["Shoe", "city", "mx_Hat"].map(str::to_owned)).unwrap_err();
        assert!(faults.contains("Shoe") && faults.contains("mx_Hat"), "{faults}");
        assert!(columns(&Attributes::untold(), &[]).is_err());
    }
}
