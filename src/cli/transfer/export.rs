//! `leadgate export`: reads the leads that were modified in a time range into a file, which is created when it is complete. An
//! interrupted export continues, and has each lead once.

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
use leadgate::grpc::{pb, timestamp};
use pb::lead_service_client::LeadServiceClient;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sheet::LeadWriter;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::attributes::{AttributeCatalog, AttributeMatch};
use super::row_error::RowError;
use super::rows::{FileRow, RowReader};
use super::{FileFormat, LEAD_ID, LEAD_NUMBER, state};
use crate::cli::client::{GatewayClient, GatewayOptions, note};
use crate::cli::process::{parse_duration, shutdown_signal};
use crate::cli::progress::Progress;
use crate::cli::reconnect::{ReconnectOptions, Reconnects, StreamError};

/// The interval of saving the state.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct ExportOptions {
    #[command(flatten)]
    gateway: GatewayOptions,
    /// Start of the time range: a time such as 2026-07-31T05:33:50Z, a day (UTC), or a duration before now, such as 24h.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// End of the time range, in the same forms. Leads modified at that time are not in it.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    to: String,
    /// The output file, a .csv or .jsonl. Until it is complete, it is FILE.part. If records of LeadSquared cannot be read, they are
    /// listed in FILE.unreadable.jsonl, and the exit code is 1.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The attributes to export, by schema name or by the name in LeadFields [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    fields: Vec<String>,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
    /// Put a ' before texts that start with =, +, -, @, a tab or a line end, which spreadsheet programs read as formulas. Only for
    /// CSV. An import reads the ' as a part of the value.
    #[arg(long)]
    escape_formulas: bool,
    #[command(flatten)]
    reconnect: ReconnectOptions,
}

/// The state of an export, which is saved in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportState {
    of: ExportRun,
    /// The time range, fixed when the export started.
    start: Timestamp,
    end: Timestamp,
    columns: Vec<String>,
    /// The position after the last message in the file, and the size of the file then.
    resume_token: String,
    bytes: u64,
    leads: u64,
    total: u64,
    /// The number of records that could not be read, and the length of the file that lists them.
    #[serde(default)]
    unreadable: u64,
    #[serde(default)]
    unreadable_bytes: u64,
    /// The number of values in the file that spreadsheet programs read as formulas.
    #[serde(default)]
    formulas: u64,
}

impl ExportState {
    /// The request for the leads after the position.
    fn request(&self) -> pb::ExportLeadsRequest {
        pb::ExportLeadsRequest {
            start_time: Some(timestamp(self.start)),
            end_time: Some(timestamp(self.end)),
            read_mask: Some(prost_types::FieldMask {
                paths: paths(&self.columns),
            }),
            resume_token: self.resume_token.clone(),
        }
    }
}

/// The options of an export. The same command continues it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportRun {
    from: String,
    to: String,
    fields: Vec<String>,
    tenant: Option<String>,
    #[serde(default)]
    escape_formulas: bool,
}

/// An export in progress.
struct RunningExport {
    sheet: LeadWriter,
    seen: LeadIdSet,
    state: ExportState,
    progress: Progress,
    paths: ExportPaths,
    /// Prevents other processes from writing the same file.
    _lock: File,
}

/// The paths of the output file, of its incomplete part, of the state and of the list of unreadable records.
struct ExportPaths {
    out: PathBuf,
    part: PathBuf,
    state: PathBuf,
    unreadable: PathBuf,
    may_replace: bool,
}

pub(crate) async fn run(options: ExportOptions) -> Result<(), String> {
    let format = FileFormat::of(&options.out)?;
    if options.escape_formulas && format != FileFormat::Csv {
        return Err("--escape-formulas: only a .csv file has formulas".to_owned());
    }
    let paths = ExportPaths::of(&options.out, options.force)?;
    let gateway = options.gateway.connect().await?;
    let reconnects = Reconnects::new(&options.reconnect);
    let state = begin(options, &paths, &gateway).await?;
    let mut running = RunningExport::new(format, paths, state)?;
    let stop = shutdown_signal()?;
    let ended = tokio::select! {
        ended = running.run(&gateway, reconnects) => ended,
        () = stop => Err("interrupted by a signal".to_owned()),
    };
    running.progress.finish();
    match ended {
        Ok(()) => running.end(),
        Err(error) => {
            let leads = running.state.leads;
            let next = running
                .save()
                .err()
                .unwrap_or("run the same command again to continue".to_owned());
            Err(format!(
                "{error}\n{leads} leads are in {}; {next}",
                running.paths.part.display()
            ))
        }
    }
}

impl ExportPaths {
    fn of(out: &Path, may_replace: bool) -> Result<Self, String> {
        let name = out.display();
        match fs::metadata(out) {
            Ok(there) if !there.is_file() => return Err(format!("writing {name} failed: it is not a file")),
            Ok(_) if !may_replace => return Err(format!("{name} exists: give --force to replace it")),
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

/// Returns the state of a new export, or of the interrupted one.
async fn begin(options: ExportOptions, paths: &ExportPaths, gateway: &GatewayClient) -> Result<ExportState, String> {
    let of = ExportRun {
        from: options.from,
        to: options.to,
        fields: options.fields,
        tenant: options.gateway.tenant,
        escape_formulas: options.escape_formulas,
    };
    if let Some(found) = state::load::<ExportState>(&paths.state)? {
        if found.of == of {
            note(&format!("Continuing after {} leads.", found.leads));
            return Ok(found);
        }
        let (name, ExportRun { from, to, .. }) = (paths.state.display(), &found.of);
        let escaped = if found.of.escape_formulas {
            " --escape-formulas"
        } else {
            ""
        };
        return Err(format!(
            "{name} belongs to another export, --from {from} --to {to}{escaped}: continue that export with the same options, or move \
             both {name} and {} away",
            paths.part.display()
        ));
    }
    if paths.part.exists() {
        let name = paths.part.display();
        return Err(format!("{name} exists without a state file: move it away"));
    }
    if paths.unreadable.exists() && !paths.may_replace {
        let name = paths.unreadable.display();
        return Err(format!("{name} exists: give --force to replace it"));
    }
    let now = clock::now();
    let (start, end) = (moment("--from", &of.from, now)?, moment("--to", &of.to, now)?);
    if start >= end {
        return Err("--from: must be before --to".to_owned());
    }
    Ok(ExportState {
        columns: columns(&AttributeCatalog::request(gateway).await?, &of.fields)?,
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

impl RunningExport {
    fn new(format: FileFormat, paths: ExportPaths, state: ExportState) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("writing {} failed: {error}", paths.part.display());
        if state.bytes == 0 {
            // First, because a part without a state cannot be continued.
            state::save(&paths.state, &state)?;
        }
        let lock = state::private()
            .create(true)
            .append(true)
            .open(&paths.part)
            .map_err(cannot)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(format!("{} is in use by another process", paths.part.display()));
        }
        let file = state::reopen(&paths.part, state.bytes).map_err(cannot)?;
        let seen = exported_ids(format, &paths.part)?;
        match state.unreadable_bytes {
            // The list of an earlier export.
            0 => state::remove(&paths.unreadable)?,
            bytes => drop(
                state::reopen(&paths.unreadable, bytes)
                    .map_err(|error| format!("writing {} failed: {error}", paths.unreadable.display()))?,
            ),
        }
        Ok(Self {
            sheet: LeadWriter::new(format, file, state.columns.clone(), state.of.escape_formulas).map_err(cannot)?,
            seen,
            progress: Progress::new("leads", state.leads, state.total, Instant::now()),
            state,
            paths,
            _lock: lock,
        })
    }

    async fn run(&mut self, gateway: &GatewayClient, mut reconnects: Reconnects) -> Result<(), String> {
        loop {
            let before = self.state.leads;
            let Err(error) = self.stream(gateway, &mut reconnects).await else {
                return Ok(());
            };
            let has_progressed = self.state.leads > before;
            reconnects
                .wait(error, has_progressed, |text| self.progress.note(text))
                .await?;
        }
    }

    async fn stream(&mut self, gateway: &GatewayClient, reconnects: &mut Reconnects) -> Result<(), StreamError> {
        let request = self.state.request();
        let mut client = LeadServiceClient::new(gateway.channel()).max_decoding_message_size(usize::MAX);
        let mut responses = client.export_leads(gateway.stream(request)).await?.into_inner();
        reconnects.connected(|text| self.progress.note(text));
        let mut tick = interval(SAVE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                response = responses.message() => match response.map_err(StreamError::of_accepted)? {
                    Some(response) => self.add(response)?,
                    None => return Ok(()),
                },
                now = tick.tick() => {
                    self.save()?;
                    self.progress.show(self.state.leads, self.state.total, "", now);
                }
            }
        }
    }

    fn add(&mut self, response: pb::ExportLeadsResponse) -> Result<(), String> {
        for lead in response.leads {
            // After an interruption, some leads are sent again.
            if self.seen.insert(&lead.lead_id) {
                self.state.formulas += self.sheet.add(lead).map_err(|error| self.cannot(&error))?;
                self.state.leads += 1;
            }
        }
        self.report(&response.unreadable)?;
        self.state.resume_token = response.resume_token;
        self.state.total = u64::try_from(response.total_size).unwrap_or_default();
        Ok(())
    }

    /// Lists the records that could not be read, one JSON object per line.
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
        let bytes = write().map_err(|error| format!("writing {} failed: {error}", path.display()))?;
        self.state.unreadable_bytes = bytes;
        self.state.unreadable += records.len() as u64;
        Ok(())
    }

    /// Saves the state, after syncing the file.
    fn save(&mut self) -> Result<(), String> {
        self.state.bytes = self.sheet.flush().map_err(|error| self.cannot(&error))?;
        state::save(&self.paths.state, &self.state)
    }

    fn end(mut self) -> Result<(), String> {
        self.save()?;
        let ExportPaths { out, part, state, .. } = &self.paths;
        fs::rename(part, out).map_err(|error| format!("writing {} failed: {error}", out.display()))?;
        state::remove(state)?;
        let leads = self.state.leads;
        let rate = self.progress.rate(leads, Instant::now());
        note(&format!("{leads} leads in {}; {rate}", out.display()));
        if let (1.., false) = (self.state.formulas, self.state.of.escape_formulas) {
            note(&format!(
                "{} values start with =, +, -, @, a tab or a line end, which spreadsheet programs read as formulas: \
                 --escape-formulas puts a ' before them.",
                self.state.formulas
            ));
        }
        match self.state.unreadable {
            0 => Ok(()),
            count => Err(format!(
                "{count} record(s) of LeadSquared cannot be read and are not in the file. They are listed in {}",
                self.paths.unreadable.display()
            )),
        }
    }

    fn cannot(&self, error: &io::Error) -> String {
        format!("writing {} failed: {error}", self.paths.part.display())
    }
}

/// Returns the ids of the leads in an incomplete file.
fn exported_ids(format: FileFormat, part: &Path) -> Result<LeadIdSet, String> {
    let cannot = |error: String| format!("reading {} failed: {error}", part.display());
    let mut file = File::open(part).map_err(|error| cannot(error.to_string()))?;
    file.rewind().map_err(|error| cannot(error.to_string()))?;
    let cannot_read = |error: RowError| cannot(error.to_string());
    let mut rows = RowReader::open(format, file).map_err(cannot_read)?;
    let mut seen = LeadIdSet::default();
    while let Some(row) = rows.next().map_err(cannot_read)? {
        let id = match row {
            FileRow::Csv(record) => record.iter().next().map(str::to_owned),
            FileRow::Jsonl { object, .. } => object.0.first().and_then(|(_, id)| serde_json::from_str(id.get()).ok()),
        };
        seen.insert(&id.unwrap_or_default());
    }
    Ok(seen)
}

/// Parses a time, a day, or a duration before now.
fn moment(option: &str, text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    // A date without a time. A time without an offset is an error.
    let day = Some(text).filter(|text| text.len() == "2026-07-31".len());
    if let Some(Ok(day)) = day.map(str::parse::<Date>) {
        let midnight = day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        return midnight.map_err(|error| format!("{option}: {error}"));
    }
    let ago = parse_duration(text)
        .ok()
        .and_then(|ago| SignedDuration::try_from(ago).ok());
    let moment = ago.and_then(|ago| now.checked_sub(ago).ok());
    moment.ok_or_else(|| {
        format!("{option}: invalid time {text}: must be a time such as 2026-07-31T05:33:50Z, a day such as 2026-07-31, or a duration before now such as 24h")
    })
}

/// Returns the schema names of the columns after id and number, in order. Fails with all unknown names.
fn columns(attributes: &AttributeCatalog, fields: &[String]) -> Result<Vec<String>, String> {
    let mut columns: Vec<String> = if fields.is_empty() {
        let all = attributes.all();
        let all = all.ok_or("the attributes of the account are not known: name some with --fields")?;
        all.iter().map(|attribute| attribute.schema_name.clone()).collect()
    } else {
        let (mut found, mut errors) = (vec![], vec![]);
        for name in fields {
            match attributes.find(name.trim()) {
                AttributeMatch::One(attribute) => found.push(attribute.schema_name),
                AttributeMatch::None => errors.push(format!("--fields: the account has no attribute {name}")),
                AttributeMatch::Several(several) => errors.push(format!(
                    "--fields: {name} is the label of {}: give one of these names",
                    several.join(" or ")
                )),
            }
        }
        if !errors.is_empty() {
            return Err(errors.join("\n  "));
        }
        found
    };
    columns.retain(|name| part(name).is_none_or(|part| part != LEAD_ID && part != LEAD_NUMBER));
    columns.sort();
    columns.dedup();
    Ok(columns)
}

/// Returns the paths of the columns in a field mask.
fn paths(columns: &[String]) -> Vec<String> {
    let path = |name: &String| match (part(name), standard(name)) {
        (Some(part), _) => part.to_owned(),
        (None, Some(standard)) => format!("fields.{}", standard.name),
        (None, None) => format!("fields.custom.{name}"),
    };
    let ours = [LEAD_ID, LEAD_NUMBER].map(str::to_owned);
    ours.into_iter().chain(columns.iter().map(path)).collect()
}

/// Returns the field of `Lead` for an attribute, if it has one.
fn part(schema_name: &str) -> Option<&'static str> {
    let found = PARTS.iter().find(|(_, name)| *name == schema_name);
    found.map(|(part, _)| *part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_time_a_day_or_a_duration_before_now() {
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
            assert!(read(text).is_err_and(|error| error.contains("--from")), "{text}");
        }
    }

    #[test]
    fn a_time_before_1970_is_sent_with_a_positive_fraction() {
        let state = ExportState {
            of: ExportRun {
                from: String::new(),
                to: String::new(),
                fields: vec![],
                tenant: None,
                escape_formulas: false,
            },
            start: "1969-12-31T23:59:58.75Z".parse().unwrap(),
            end: "1970-01-01T00:00:01.25Z".parse().unwrap(),
            columns: vec![],
            resume_token: String::new(),
            bytes: 0,
            leads: 0,
            total: 0,
            unreadable: 0,
            unreadable_bytes: 0,
            formulas: 0,
        };
        let request = state.request();
        let sent = [request.start_time, request.end_time].map(|at| at.map(|at| (at.seconds, at.nanos)));
        assert_eq!(sent, [Some((-2, 750_000_000)), Some((1, 250_000_000))]);
    }

    #[test]
    fn columns_are_in_order_and_each_once() {
        let attributes = AttributeCatalog::of_account(
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
        let errors = columns(&attributes, &["Shoe", "city", "mx_Hat"].map(str::to_owned)).unwrap_err();
        assert!(errors.contains("Shoe") && errors.contains("mx_Hat"), "{errors}");
        assert!(columns(&AttributeCatalog::standard(), &[]).is_err());
    }
}
