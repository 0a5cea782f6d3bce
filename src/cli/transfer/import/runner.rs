//! Sends the rows of an import: through a stream, in bounded memory, with retries, and recorded in order. A row is sent when all
//! earlier rows of the same lead have an outcome.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::time::Duration;

use leadgate::clock;
use leadgate::grpc::pb;
use pb::import_leads_response::Result as RowResult;
use pb::lead_service_client::LeadServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::RpcStatusExt;

use super::bottleneck::{Bottleneck, watch_quota};
use super::findings::Findings;
use super::order::RowOrder;
use super::plan::{ImportPlan, PreparedRow};
use super::rejected::{OUTCOME_UNKNOWN, RejectionReason, RowReport, ValueError};
use super::unknown::UnknownReason;
use super::window::RowWindow;
use super::{FileFormat, ImportState, UnknownRowPolicy};
use crate::cli::client::GatewayClient;
use crate::cli::progress::Progress;
use crate::cli::reconnect::{Reconnects, StreamError};
use crate::cli::transfer::rows::{FileRow, RowReader};
use crate::cli::transfer::state;

/// Maximum number of rows that are read and not recorded.
const MAX_ROWS: usize = 10_000;
/// Approximate maximum size of these rows in memory, in bytes.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// The number of messages that wait for the stream.
const BUFFER: usize = 16;
/// The pause after the first attempt of a row. Each further pause is twice as long, up to the maximum.
const PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Maximum number of attempts of a row.
const MAX_ATTEMPTS: u32 = 8;
/// Maximum retry time of an error for which an import waits.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);
/// The interval of saving the state.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// An import in progress.
pub(super) struct ImportRunner {
    pub(super) plan: ImportPlan,
    pub(super) rows: RowReader<File>,
    pub(super) target: ImportTarget,
    pub(super) progress: Progress,
    pub(super) state: ImportState,
    pub(super) all: u64,
    /// The number of the last row that was read.
    read: u64,
    /// The last row that earlier runs recorded. Up to it, only rows of unknown outcome are sent again.
    recorded: u64,
    /// What happens to rows of unknown outcome of earlier runs.
    pub(super) unsettled: UnknownRowPolicy,
    /// The last row that earlier runs may have sent.
    sent_before: u64,
    /// The number of rows that this run has recorded.
    count: u64,
    window: RowWindow<PendingRow, RowOutcome>,
    order: RowOrder,
    /// The approximate size of the rows in the window, in bytes.
    bytes: usize,
    is_read: bool,
    /// The rows that are sent again after a pause.
    due: BTreeSet<(Instant, u64)>,
    /// The rows that are sent again now.
    again: VecDeque<u64>,
    /// The rows that may be sent, because all earlier rows of their leads have an outcome.
    free: BTreeSet<u64>,
    bottleneck: watch::Receiver<Bottleneck>,
    bottleneck_sender: watch::Sender<Bottleneck>,
    /// Whether the note about the bottleneck was printed.
    is_noted: bool,
}

/// The target of the results.
pub(super) enum ImportTarget {
    /// The state file, and the file of rejected rows.
    Import {
        rejected: RowReport,
        state_path: std::path::PathBuf,
        /// The imported file, from which rows of unknown outcome are listed.
        file: (FileFormat, File),
    },
    /// Nothing is written, neither to LeadSquared nor to files.
    DryRun(Findings),
}

/// A row without an outcome.
struct PendingRow {
    content: FileRow,
    keys: Vec<u64>,
    /// The errors of values that a dry run does not send.
    errors: Vec<ValueError>,
    attempts: u32,
    position: RowPosition,
    doubt: ExecutionDoubt,
    /// Whether the gateway can look the lead up.
    can_be_looked_up: bool,
}

/// The position of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowPosition {
    /// It waits for an earlier row of the same lead.
    Waiting,
    /// It was sent to the gateway.
    Sent,
    /// It waits to be sent again.
    Pause,
}

/// Whether a row without an outcome may have been executed.
enum ExecutionDoubt {
    No,
    /// It was sent, and the stream ended before its response.
    Sent,
    /// The gateway does not know.
    Unknown(RejectionReason),
}

enum RowOutcome {
    Written(pb::UpsertOutcome),
    Rejected(RejectionReason),
    Unknown(UnknownReason),
}

impl ImportRunner {
    /// Returns an import of all rows after the recorded ones, and of the rows of unknown outcome if they are sent again. `read` rows
    /// have been read.
    pub(super) fn new(
        plan: ImportPlan,
        (rows, read): (RowReader<File>, u64),
        target: ImportTarget,
        progress: Progress,
        (state, unsettled): (ImportState, UnknownRowPolicy),
        all: u64,
    ) -> Self {
        let (bottleneck_sender, bottleneck) = watch::channel(Bottleneck::default());
        let recorded = state.tally.rows;
        Self {
            read,
            recorded,
            sent_before: match unsettled {
                UnknownRowPolicy::NewRun => 0,
                UnknownRowPolicy::SendAgain | UnknownRowPolicy::TooOld => recorded + MAX_ROWS as u64,
            },
            unsettled,
            count: 0,
            window: RowWindow::default(),
            plan,
            rows,
            target,
            progress,
            state,
            all,
            order: RowOrder::default(),
            bytes: 0,
            is_read: false,
            due: BTreeSet::new(),
            again: VecDeque::new(),
            free: BTreeSet::new(),
            bottleneck,
            bottleneck_sender,
            is_noted: false,
        }
    }

    pub(super) fn is_dry(&self) -> bool {
        matches!(self.target, ImportTarget::DryRun(_))
    }

    /// Sends all rows and waits until each row has an outcome. Starts a new stream after an interruption.
    pub(super) async fn run(&mut self, gateway: &GatewayClient, reconnects: Reconnects) -> Result<(), String> {
        if self.is_dry() {
            return self.send_all(gateway, reconnects).await;
        }
        let watching = watch_quota(gateway.clone(), self.bottleneck_sender.clone());
        tokio::select! {
            ended = self.send_all(gateway, reconnects) => ended,
            never = watching => match never {},
        }
    }

    async fn send_all(&mut self, gateway: &GatewayClient, mut reconnects: Reconnects) -> Result<(), String> {
        loop {
            let before = self.count;
            let Err(error) = self.stream(gateway, &mut reconnects).await else {
                return Ok(());
            };
            let has_progressed = self.count > before;
            reconnects
                .wait(error, has_progressed, |text| self.progress.note(text))
                .await?;
        }
    }

    /// Saves the state.
    pub(super) fn save(&mut self) -> Result<(), String> {
        let ImportTarget::Import {
            rejected, state_path, ..
        } = &mut self.target
        else {
            return Ok(());
        };
        self.state.rejected_bytes = rejected.flush()?;
        if self.state.unknown.len() == 0 && self.state.unknown_since.take().is_some() {
            // Without such rows in the state, the file belongs to another run.
            state::remove(&self.state.of.unknown)?;
        }
        state::save(state_path, &self.state)
    }

    async fn stream(&mut self, gateway: &GatewayClient, reconnects: &mut Reconnects) -> Result<(), StreamError> {
        let (sender, messages) = mpsc::channel(BUFFER);
        // A row without a response may have been executed. The gateway recognizes its request id.
        self.again.clear();
        for (number, row) in self.window.unsettled() {
            if row.position == RowPosition::Sent {
                row.doubt.was_sent();
                self.again.push_back(number);
            }
        }
        let mut client = LeadServiceClient::new(gateway.channel());
        let request = gateway.stream(ReceiverStream::new(messages));
        let responses = client.import_leads(request).await.map_err(StreamError::from)?;
        let mut responses = responses.into_inner();
        reconnects.connected(|text| self.progress.note(text));
        let mut tick = interval(SAVE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            let is_ready = self.is_ready(now) && !sender.is_closed();
            let due = self.due.first().map(|(at, _)| *at).filter(|at| *at > now && !is_ready);
            tokio::select! {
                place = sender.reserve(), if is_ready => {
                    // A row is read only if the stream has room for it.
                    if let (Ok(place), Some(message)) = (place, self.next(now)?) {
                        place.send(message);
                    }
                }
                response = responses.message() => match response {
                    Ok(Some(response)) => self.add_response(response, Instant::now())?,
                    Ok(None) => return Err(StreamError::Retryable(Status::unavailable("the stream ended before all rows had a result"))),
                    Err(status) => return Err(StreamError::of_accepted(status)),
                },
                _ = tick.tick() => {
                    self.save()?;
                    self.show(now);
                }
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
            self.record()?;
            if self.is_read && self.window.len() == 0 {
                self.show(Instant::now());
                return Ok(self.save()?);
            }
        }
    }

    /// Whether a row can be sent now.
    fn is_ready(&self, now: Instant) -> bool {
        let has_room = self.window.len() < MAX_ROWS && self.bytes < MAX_BYTES;
        !self.again.is_empty() || self.is_due(now) || !self.free.is_empty() || (!self.is_read && has_room)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Returns the next row of the window that can be sent now.
    fn take_pending(&mut self, now: Instant) -> Option<u64> {
        if let Some(number) = self.again.pop_front() {
            return Some(number);
        }
        if self.is_due(now) {
            return self.due.pop_first().map(|(_, number)| number);
        }
        self.free.pop_first()
    }

    /// Returns the next message: of a row in the window, or else of the next row of the file.
    fn next(&mut self, now: Instant) -> Result<Option<pb::ImportLeadsRequest>, String> {
        let Some(number) = self.take_pending(now) else {
            return self.read();
        };
        let Some(row) = self.window.get_unsettled(number) else {
            return Ok(None);
        };
        row.position = RowPosition::Sent;
        Ok(Some(self.plan.request(self.state.run_id, number, &row.content).message))
    }

    /// Reads the next row of the file. Returns its message if it may be sent now.
    fn read(&mut self) -> Result<Option<pb::ImportLeadsRequest>, String> {
        let Some(row) = self.rows.next().map_err(|error| error.to_string())? else {
            self.is_read = true;
            return Ok(None);
        };
        self.read += 1;
        let number = self.read;
        let unknown = self.state.unknown.get(number);
        if number <= self.recorded && (unknown.is_none() || self.unsettled != UnknownRowPolicy::SendAgain) {
            return Ok(None);
        }
        let doubt = match unknown {
            Some(why) => ExecutionDoubt::Unknown(why.reason.clone()),
            None if number <= self.sent_before => ExecutionDoubt::Sent,
            None => ExecutionDoubt::No,
        };
        self.bytes += row.size();
        let line = row.line();
        let PreparedRow {
            message,
            keys,
            warnings,
            errors,
            can_be_looked_up,
        } = self.plan.request(self.state.run_id, number, &row);
        let mut pending = PendingRow {
            content: row,
            keys: vec![],
            errors: vec![],
            attempts: 0,
            position: RowPosition::Sent,
            doubt,
            can_be_looked_up,
        };
        match &mut self.target {
            // The row is sent without the invalid values, to find the errors of the others.
            ImportTarget::DryRun(findings) => {
                warnings.iter().for_each(|warning| findings.warn(line, warning));
                findings.add_keys(line, &keys);
                pending.errors = errors;
            }
            ImportTarget::Import { .. } if !errors.is_empty() => {
                let outcome = pending.over(RejectionReason::local(errors));
                self.window.push(number, pending);
                self.window.settle(number, outcome);
                return Ok(None);
            }
            ImportTarget::Import { .. } => pending.keys = keys.iter().map(|key| key.hash).collect(),
        }
        let is_first = self.order.enter(number, &pending.keys);
        if !is_first {
            pending.position = RowPosition::Waiting;
        }
        self.window.push(number, pending);
        Ok(is_first.then_some(message))
    }

    /// Sets the outcome of a row. The next row of its lead may be sent then.
    fn settle_row(&mut self, number: u64, outcome: RowOutcome) {
        let Some(row) = self.window.get_unsettled(number) else {
            return;
        };
        let (keys, errors) = (std::mem::take(&mut row.keys), std::mem::take(&mut row.errors));
        let outcome = match outcome {
            outcome if errors.is_empty() => outcome,
            RowOutcome::Written(_) | RowOutcome::Unknown(_) => {
                RowOutcome::Rejected(RejectionReason::both(errors, None))
            }
            RowOutcome::Rejected(reason) => RowOutcome::Rejected(RejectionReason::both(errors, Some(reason))),
        };
        self.window.settle(number, outcome);
        if let Some(next) = self.order.leave(number, &keys)
            && let Some(row) = self.window.get_unsettled(next)
            && row.position == RowPosition::Waiting
            && self.order.is_first(next, &row.keys)
        {
            self.free.insert(next);
        }
    }

    fn add_response(&mut self, response: pb::ImportLeadsResponse, now: Instant) -> Result<(), StreamError> {
        let is_dry = self.is_dry();
        let number = u64::try_from(response.sequence).unwrap_or_default();
        let Some(row) = self.window.get_unsettled(number) else {
            return Ok(());
        };
        let outcome = match response.result {
            Some(RowResult::Response(lead)) => RowOutcome::Written(lead.outcome()),
            Some(RowResult::Error(status)) => match verdict(&status, row) {
                RowVerdict::Retry(pause) => {
                    row.attempts += 1;
                    row.position = RowPosition::Pause;
                    self.due.insert((now + pause, number));
                    return Ok(());
                }
                // A row that could not be checked is not invalid.
                RowVerdict::Over(_) if is_dry && !is_of_row(&status) => {
                    let reason = RejectionReason::of(&status, &status.get_error_details());
                    return Err(StreamError::Fatal(reason.to_string()));
                }
                RowVerdict::Over(outcome) => outcome,
                RowVerdict::Fatal(error) => return Err(StreamError::Fatal(error)),
            },
            None if is_dry => return Err(StreamError::Fatal(RejectionReason::no_result().to_string())),
            None => row.unknown(RejectionReason::no_result()),
        };
        self.settle_row(number, outcome);
        Ok(())
    }

    /// Records the outcomes of rows in order, and writes rejected rows to their file.
    fn record(&mut self) -> Result<(), String> {
        while let Some((number, row, outcome)) = self.window.pop() {
            self.bytes -= row.content.size();
            self.count += 1;
            self.state.unknown.remove(number);
            match outcome {
                RowOutcome::Written(outcome) => self.state.tally.add(outcome),
                RowOutcome::Rejected(reason) => {
                    self.reject(number, &row.content, reason)?;
                    self.state.tally.rejected += 1;
                }
                RowOutcome::Unknown(why) => {
                    self.state.unknown.add(number, why);
                    self.state.unknown_since.get_or_insert_with(clock::now);
                }
            }
            // Rows that are sent again were counted before.
            self.state.tally.rows = self.state.tally.rows.max(number);
        }
        Ok(())
    }

    fn reject(&mut self, number: u64, row: &FileRow, reason: RejectionReason) -> Result<(), String> {
        let findings = match &mut self.target {
            ImportTarget::Import { rejected, .. } => return rejected.add(number, row, &reason),
            ImportTarget::DryRun(findings) => findings,
        };
        for error in &reason.values {
            let column = match self.plan.name_of(&error.column) {
                "lead" => "(row)",
                name => name,
            };
            let error = ValueError {
                column: column.to_owned(),
                ..error.clone()
            };
            findings.reject(row.line(), &error);
        }
        if reason.values.is_empty() {
            let error = ValueError {
                column: "(row)".to_owned(),
                place: None,
                text: reason.message,
            };
            findings.reject(row.line(), &error);
        }
        Ok(())
    }

    fn show(&mut self, now: Instant) {
        let rejected = self.state.tally.rejected;
        let bottleneck = *self.bottleneck.borrow_and_update();
        let mut text = match self.is_dry() {
            true => format!("{rejected} rejected"),
            false => self.state.summary(),
        };
        if let Some(waits) = bottleneck.shown().filter(|_| self.window.len() > 0) {
            text = format!("{text}; {waits}");
            if let Some(note) = bottleneck.note(self.plan.lane())
                && !std::mem::replace(&mut self.is_noted, true)
            {
                self.progress.note(&note);
            }
        }
        self.progress.show(self.state.settled(), self.all, &text, now);
    }
}

/// Whether the row itself is rejected.
fn is_of_row(status: &tonic_types::Status) -> bool {
    matches!(
        Code::from(status.code),
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::OutOfRange
    )
}

enum RowVerdict {
    Retry(Duration),
    Over(RowOutcome),
    /// The error is not about the row: all rows would have it.
    Fatal(String),
}

impl ExecutionDoubt {
    /// The stream ended before the response.
    fn was_sent(&mut self) {
        if matches!(self, Self::No) {
            *self = Self::Sent;
        }
    }
}

impl PendingRow {
    /// Returns the outcome of a row that is not sent again. An error now says nothing about an earlier attempt that may have been
    /// executed.
    fn over(&self, reason: RejectionReason) -> RowOutcome {
        match &self.doubt {
            ExecutionDoubt::Unknown(earlier) => self.unknown(earlier.clone()),
            ExecutionDoubt::No | ExecutionDoubt::Sent => RowOutcome::Rejected(reason),
        }
    }

    fn unknown(&self, reason: RejectionReason) -> RowOutcome {
        let reason = match reason.reason.as_str() {
            OUTCOME_UNKNOWN => reason,
            _ => RejectionReason {
                message: reason.to_string(),
                reason: OUTCOME_UNKNOWN.to_owned(),
                ..reason
            },
        };
        RowOutcome::Unknown(UnknownReason {
            reason,
            only_by_hand: !self.can_be_looked_up,
        })
    }
}

/// Decides what to do with a row that was not written.
fn verdict(status: &tonic_types::Status, row: &mut PendingRow) -> RowVerdict {
    let details = status.get_error_details();
    let reason = RejectionReason::of(status, &details);
    if matches!(
        reason.reason.as_str(),
        "UPSTREAM_CREDENTIALS_REJECTED" | "UPSTREAM_FEATURE_DISABLED"
    ) {
        return RowVerdict::Fatal(reason.to_string());
    }
    let info = details.error_info().map(|info| &info.metadata);
    let fact = |name: &str| info.and_then(|facts| facts.get(name)).map(String::as_str);
    let code = Code::from(status.code);
    let is_unknown = match code {
        Code::Aborted | Code::Internal | Code::DeadlineExceeded | Code::Cancelled | Code::DataLoss => true,
        Code::Unknown => matches!(reason.reason.as_str(), "" | OUTCOME_UNKNOWN),
        _ => false,
    };
    if is_unknown {
        row.doubt = ExecutionDoubt::Unknown(reason.clone());
        // The gateway says whether it can look the lead up.
        match fact("retry_same_request_id") {
            Some("false") => row.can_be_looked_up = false,
            Some("true") => row.can_be_looked_up = true,
            _ => {}
        }
        if !row.can_be_looked_up {
            return RowVerdict::Over(row.unknown(reason));
        }
    } else if !matches!(code, Code::ResourceExhausted | Code::Unavailable) {
        // An error that the gateway finds before it sends anything says nothing about an earlier attempt.
        let is_unsent = code == Code::InvalidArgument && fact("attempts").is_none_or(|attempts| attempts == "0");
        return RowVerdict::Over(match is_unsent {
            true => row.over(reason),
            false => RowOutcome::Rejected(reason),
        });
    }
    let retry_time = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .unwrap_or_default();
    if retry_time > MAX_RETRY_DELAY && !is_unknown {
        let minutes = retry_time.as_secs().div_ceil(60);
        return RowVerdict::Fatal(format!("{reason}; try again in {minutes} minutes"));
    }
    if row.attempts + 1 < MAX_ATTEMPTS && retry_time <= MAX_RETRY_DELAY {
        return RowVerdict::Retry(retry_time.max(pause(row.attempts)));
    }
    RowVerdict::Over(match row.doubt {
        ExecutionDoubt::Sent => row.unknown(RejectionReason::no_result()),
        ExecutionDoubt::No | ExecutionDoubt::Unknown(_) => row.over(reason),
    })
}

/// Returns the pause of a row after a number of attempts.
fn pause(attempts: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::cli::transfer::csv::CsvRecord;

    fn status(code: Code, reason: &str, delay: Option<Duration>) -> tonic_types::Status {
        with_details(code, reason, delay, &[])
    }

    fn with_facts(code: Code, reason: &str, facts: &[(&str, &str)]) -> tonic_types::Status {
        with_details(code, reason, None, facts)
    }

    fn with_details(code: Code, reason: &str, delay: Option<Duration>, facts: &[(&str, &str)]) -> tonic_types::Status {
        let mut details = ErrorDetails::new();
        let facts = facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        details.set_error_info(reason, "leadgate", facts.collect::<std::collections::HashMap<_, _>>());
        if let Some(delay) = delay {
            details.set_retry_info(Some(delay));
        }
        let status = Status::with_error_details(code, "text", details);
        prost::Message::decode(status.details()).unwrap()
    }

    /// A row after a number of attempts.
    fn pending(attempts: u32, doubt: ExecutionDoubt) -> PendingRow {
        PendingRow {
            content: FileRow::Csv(CsvRecord::new(2, ["Anu"])),
            keys: vec![],
            errors: vec![],
            attempts,
            position: RowPosition::Sent,
            doubt,
            can_be_looked_up: true,
        }
    }

    fn wait(status: &tonic_types::Status, attempts: u32) -> Option<Duration> {
        match verdict(status, &mut pending(attempts, ExecutionDoubt::No)) {
            RowVerdict::Retry(pause) => Some(pause),
            RowVerdict::Over(_) | RowVerdict::Fatal(_) => None,
        }
    }

    /// The outcome of a row after its last attempt.
    fn last(status: &tonic_types::Status, mut row: PendingRow) -> RowOutcome {
        row.attempts = MAX_ATTEMPTS - 1;
        match verdict(status, &mut row) {
            RowVerdict::Over(outcome) => outcome,
            RowVerdict::Retry(_) | RowVerdict::Fatal(_) => panic!("{status:?}"),
        }
    }

    fn is_unknown(outcome: &RowOutcome) -> bool {
        matches!(outcome, RowOutcome::Unknown(_))
    }

    #[test]
    fn a_row_that_may_have_been_executed_is_never_rejected() {
        let doubtful = || ExecutionDoubt::Unknown(RejectionReason::no_result());
        for code in [Code::Aborted, Code::Internal, Code::DeadlineExceeded, Code::Cancelled] {
            assert!(
                is_unknown(&last(&status(code, "X", None), pending(0, ExecutionDoubt::No))),
                "{code:?}"
            );
        }
        // An error of a later attempt, or of the check before it, says nothing about the first attempt.
        for (code, reason) in [
            (Code::Unavailable, "STORE_UNAVAILABLE"),
            (Code::ResourceExhausted, "QUEUE_FULL"),
            (Code::InvalidArgument, "INVALID_FIELD"),
        ] {
            let status = status(code, reason, None);
            assert!(is_unknown(&last(&status, pending(0, doubtful()))), "{code:?}");
            assert!(!is_unknown(&last(&status, pending(0, ExecutionDoubt::No))), "{code:?}");
        }
        let unavailable = status(Code::Unavailable, "X", None);
        assert!(is_unknown(&last(&unavailable, pending(0, ExecutionDoubt::Sent))));
        // A result of LeadSquared is the outcome of the row.
        let decided = [
            status(Code::AlreadyExists, "LEAD_DUPLICATE", None),
            status(Code::NotFound, "LEAD_NOT_FOUND", None),
            status(Code::Unknown, "UPSTREAM_EXCEPTION", None),
            with_facts(Code::InvalidArgument, "INVALID_FIELD", &[("attempts", "2")]),
        ];
        for status in decided {
            assert!(!is_unknown(&last(&status, pending(0, doubtful()))), "{status:?}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_looked_up_is_sent_once() {
        let aborted = status(Code::Aborted, OUTCOME_UNKNOWN, None);
        let nameless = || PendingRow {
            can_be_looked_up: false,
            ..pending(0, ExecutionDoubt::No)
        };
        let by_hand =
            |verdict: &RowVerdict| matches!(verdict, RowVerdict::Over(RowOutcome::Unknown(why)) if why.only_by_hand);
        assert!(by_hand(&verdict(&aborted, &mut nameless())));
        assert!(!by_hand(&verdict(&aborted, &mut pending(0, ExecutionDoubt::No))));
        // A statement of the gateway takes precedence.
        let never = with_facts(Code::Aborted, OUTCOME_UNKNOWN, &[("retry_same_request_id", "false")]);
        assert!(by_hand(&verdict(&never, &mut pending(0, ExecutionDoubt::No))));
        let may_be = with_facts(Code::Aborted, OUTCOME_UNKNOWN, &[("retry_same_request_id", "true")]);
        assert!(matches!(verdict(&may_be, &mut nameless()), RowVerdict::Retry(_)));
    }

    #[test]
    fn a_transient_error_is_retried_after_its_retry_time_and_a_limited_number_of_times() {
        let retry_time = Some(Duration::from_secs(3));
        for code in [Code::ResourceExhausted, Code::Unavailable, Code::Aborted] {
            assert_eq!(wait(&status(code, "X", retry_time), 0), retry_time);
            assert_eq!(wait(&status(code, "X", None), 0), Some(pause(0)));
            assert_eq!(wait(&status(code, "X", Some(Duration::ZERO)), 1), Some(pause(1)));
            assert_eq!(wait(&status(code, "X", retry_time), MAX_ATTEMPTS - 1), None);
        }
        assert_eq!(wait(&status(Code::InvalidArgument, "X", retry_time), 0), None);
        assert_eq!(wait(&status(Code::AlreadyExists, "X", None), 0), None);
    }

    #[test]
    fn an_error_that_is_not_about_a_row_ends_the_import() {
        let hour = Some(Duration::from_secs(3600));
        for status in [
            status(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED", None),
            status(Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED", hour),
        ] {
            assert!(
                matches!(
                    verdict(&status, &mut pending(0, ExecutionDoubt::No)),
                    RowVerdict::Fatal(_)
                ),
                "{status:?}"
            );
        }
        let duplicate = status(Code::AlreadyExists, "LEAD_DUPLICATE", None);
        let verdict = verdict(&duplicate, &mut pending(0, ExecutionDoubt::No));
        assert!(matches!(verdict, RowVerdict::Over(RowOutcome::Rejected(reason)) if reason.code == "ALREADY_EXISTS"));
    }
}
