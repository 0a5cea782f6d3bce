//! The rows on their way: through the stream in bounded memory, sent again where that helps, and recorded in order. A row is
//! sent when all earlier rows of the same lead are answered. Knows neither what is in a row nor what is done with it.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::time::Duration;

use leadgate::clock;
use leadgate::grpc::pb;
use pb::import_leads_response::Result as Told;
use pb::lead_service_client::LeadServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::RpcStatusExt;

use super::bottleneck::{Bottleneck, watch_quota};
use super::findings::Findings;
use super::order::Order;
use super::plan::{Plan, Prepared};
use super::rejected::{Flaw, OUTCOME_UNKNOWN, Reason, Rejected};
use super::unknown::WhyUnknown;
use super::window::Window;
use super::{Format, State, Unsettled};
use crate::cli::client::Gateway;
use crate::cli::transfer::broken::{Breaks, Broken, pause};
use crate::cli::transfer::progress::Progress;
use crate::cli::transfer::rows::{Row, Rows};
use crate::cli::transfer::state;

/// The most rows that have been read and are not recorded, and about the most bytes of them.
const MAX_ROWS: usize = 10_000;
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How many messages wait for the stream.
const BUFFER: usize = 16;
/// How often a row is sent at most.
const MAX_TRIES: u32 = 8;
/// Longer than an import waits by itself.
const MAX_PATIENCE: Duration = Duration::from_secs(300);
/// How often it is written down how far it is.
const EVERY: Duration = Duration::from_secs(1);

/// Rows on their way.
pub(super) struct Sending {
    pub(super) plan: Plan,
    pub(super) rows: Rows<File>,
    pub(super) end: End,
    pub(super) progress: Progress,
    pub(super) state: State,
    pub(super) all: u64,
    /// The number of the row that was read last.
    read: u64,
    /// The rows up to this one were recorded by earlier runs. Only those of unknown outcome are sent again.
    recorded: u64,
    /// What is done about rows of unknown outcome of earlier runs.
    pub(super) unsettled: Unsettled,
    /// The rows up to this one may have been sent by earlier runs.
    sent_before: u64,
    /// How many rows this run has recorded.
    count: u64,
    window: Window<Held, Outcome>,
    order: Order,
    /// About how much memory the rows in the window take.
    bytes: usize,
    is_read: bool,
    /// What is sent again when its time has come, and what at once.
    due: BTreeSet<(Instant, u64)>,
    again: VecDeque<u64>,
    /// What may be sent since the rows before it are settled.
    free: BTreeSet<u64>,
    bottleneck: watch::Receiver<Bottleneck>,
    tell: watch::Sender<Bottleneck>,
    /// Whether it was said what the import waits for.
    is_noted: bool,
}

/// Where it ends up what became of the rows.
pub(super) enum End {
    /// In the state, and in the file of rejected rows.
    Import {
        rejected: Rejected,
        keep: std::path::PathBuf,
        /// The imported file, of which rows of unknown outcome are listed.
        file: (Format, File),
    },
    /// Nothing is written, neither to LeadSquared nor beside the file.
    DryRun(Findings),
}

/// A row until it is settled.
struct Held {
    row: Row,
    keys: Vec<u64>,
    /// What is wrong with values that a dry run has not sent.
    flaws: Vec<Flaw>,
    tries: u32,
    at: At,
    doubt: Doubt,
    /// Whether the gateway can look its lead up.
    can_be_looked_up: bool,
}

/// Where a row is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Behind an earlier row of the same lead.
    Behind,
    /// At the gateway, as far as is known.
    Gateway,
    /// Waiting to be sent again.
    Pause,
}

/// Whether a row that is not settled may have been executed.
enum Doubt {
    No,
    /// It was sent, and the stream broke before its response.
    Sent,
    /// The gateway has said that it does not know.
    Unknown(Reason),
}

enum Outcome {
    Taken(pb::UpsertOutcome),
    Rejected(Reason),
    Unknown(WhyUnknown),
}

impl Sending {
    /// Rows to send: all after those that the state has recorded, and those of unknown outcome if they are sent again. `read`
    /// rows have been read.
    pub(super) fn new(
        plan: Plan,
        (rows, read): (Rows<File>, u64),
        end: End,
        progress: Progress,
        (state, unsettled): (State, Unsettled),
        all: u64,
    ) -> Self {
        let (tell, bottleneck) = watch::channel(Bottleneck::default());
        let recorded = state.tally.rows;
        Self {
            read,
            recorded,
            sent_before: match unsettled {
                Unsettled::NewRun => 0,
                Unsettled::SendAgain | Unsettled::TooOld => recorded + MAX_ROWS as u64,
            },
            unsettled,
            count: 0,
            window: Window::default(),
            plan,
            rows,
            end,
            progress,
            state,
            all,
            order: Order::default(),
            bytes: 0,
            is_read: false,
            due: BTreeSet::new(),
            again: VecDeque::new(),
            free: BTreeSet::new(),
            bottleneck,
            tell,
            is_noted: false,
        }
    }

    pub(super) fn is_dry(&self) -> bool {
        matches!(self.end, End::DryRun(_))
    }

    /// Sends all rows and waits until they are settled; a stream that broke off is begun anew.
    pub(super) async fn run(&mut self, gateway: &Gateway) -> Result<(), String> {
        if self.is_dry() {
            return self.send_all(gateway).await;
        }
        let watching = watch_quota(gateway.clone(), self.tell.clone());
        tokio::select! {
            ended = self.send_all(gateway) => ended,
            never = watching => match never {},
        }
    }

    async fn send_all(&mut self, gateway: &Gateway) -> Result<(), String> {
        let mut breaks = Breaks::default();
        loop {
            let before = self.count;
            let Err(broken) = self.stream(gateway).await else {
                return Ok(());
            };
            let pause = breaks.after(broken, self.count > before, &self.progress)?;
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes down how far it is.
    pub(super) fn save(&mut self) -> Result<(), String> {
        let End::Import { rejected, keep, .. } = &mut self.end else {
            return Ok(());
        };
        self.state.rejected_bytes = rejected.flush()?;
        if self.state.unknown.len() == 0 && self.state.unknown_since.take().is_some() {
            // While the state has no such rows, a file of them belongs to another run.
            state::remove(&self.state.of.unknown)?;
        }
        state::save(keep, &self.state)
    }

    async fn stream(&mut self, gateway: &Gateway) -> Result<(), Broken> {
        let (sender, messages) = mpsc::channel(BUFFER);
        // What is unanswered may have been done: its request id tells the gateway.
        self.again.clear();
        for (number, held) in self.window.under_way() {
            if held.at == At::Gateway {
                held.doubt.was_sent();
                self.again.push_back(number);
            }
        }
        let mut client = LeadServiceClient::new(gateway.channel());
        let request = gateway.stream(ReceiverStream::new(messages));
        let answers = client.import_leads(request).await.map_err(Broken::from)?;
        let mut answers = answers.into_inner();
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            let is_ready = self.is_ready(now) && !sender.is_closed();
            let due = self.due.first().map(|(at, _)| *at).filter(|at| *at > now && !is_ready);
            tokio::select! {
                place = sender.reserve(), if is_ready => {
                    // The row is read when there is a place for it, and no earlier.
                    if let (Ok(place), Some(message)) = (place, self.next(now)?) {
                        place.send(message);
                    }
                }
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.answered(answer, Instant::now())?,
                    Ok(None) => return Err(Broken::Lost(Status::unavailable("it ended before the rows did"))),
                    Err(status) => return Err(status.into()),
                },
                _ = tick.tick() => {
                    self.save()?;
                    self.show(now);
                }
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
            self.settle()?;
            if self.is_read && self.window.len() == 0 {
                self.show(Instant::now());
                return Ok(self.save()?);
            }
        }
    }

    /// Whether there is something to be sent now.
    fn is_ready(&self, now: Instant) -> bool {
        let has_room = self.window.len() < MAX_ROWS && self.bytes < MAX_BYTES;
        !self.again.is_empty() || self.is_due(now) || !self.free.is_empty() || (!self.is_read && has_room)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.first().is_some_and(|(at, _)| *at <= now)
    }

    /// The next row that is in the window and is to be sent now.
    fn take_held(&mut self, now: Instant) -> Option<u64> {
        if let Some(number) = self.again.pop_front() {
            return Some(number);
        }
        if self.is_due(now) {
            return self.due.pop_first().map(|(_, number)| number);
        }
        self.free.pop_first()
    }

    /// The next message: of a row in the window, or else of the next one of the file.
    fn next(&mut self, now: Instant) -> Result<Option<pb::ImportLeadsRequest>, String> {
        let Some(number) = self.take_held(now) else {
            return self.read();
        };
        let Some(held) = self.window.open(number) else {
            return Ok(None);
        };
        held.at = At::Gateway;
        Ok(Some(self.plan.request(self.state.run_id, number, &held.row).message))
    }

    /// The message of the next row of the file, if it may be sent now.
    fn read(&mut self) -> Result<Option<pb::ImportLeadsRequest>, String> {
        let Some(row) = self.rows.next().map_err(|fault| fault.to_string())? else {
            self.is_read = true;
            return Ok(None);
        };
        self.read += 1;
        let number = self.read;
        let unknown = self.state.unknown.get(number);
        if number <= self.recorded && (unknown.is_none() || self.unsettled != Unsettled::SendAgain) {
            return Ok(None);
        }
        let doubt = match unknown {
            Some(why) => Doubt::Unknown(why.reason.clone()),
            None if number <= self.sent_before => Doubt::Sent,
            None => Doubt::No,
        };
        self.bytes += row.size();
        let line = row.line();
        let Prepared {
            message,
            keys,
            doubts,
            flaws,
            can_be_looked_up,
        } = self.plan.request(self.state.run_id, number, &row);
        let mut held = Held {
            row,
            keys: vec![],
            flaws: vec![],
            tries: 0,
            at: At::Gateway,
            doubt,
            can_be_looked_up,
        };
        match &mut self.end {
            // What is wrong with the other values is to be known too.
            End::DryRun(findings) => {
                doubts.iter().for_each(|doubt| findings.doubt(line, doubt));
                findings.known_by(line, &keys);
                held.flaws = flaws;
            }
            End::Import { .. } if !flaws.is_empty() => {
                let outcome = held.over(Reason::local(flaws));
                self.window.push(number, held);
                self.window.settle(number, outcome);
                return Ok(None);
            }
            End::Import { .. } => held.keys = keys.iter().map(|key| key.hash).collect(),
        }
        let may_go = self.order.enter(number, &held.keys);
        if !may_go {
            held.at = At::Behind;
        }
        self.window.push(number, held);
        Ok(may_go.then_some(message))
    }

    /// Settles a row, and lets those go that waited for it.
    fn end(&mut self, number: u64, outcome: Outcome) {
        let Some(held) = self.window.open(number) else {
            return;
        };
        let (keys, flaws) = (std::mem::take(&mut held.keys), std::mem::take(&mut held.flaws));
        let outcome = match outcome {
            outcome if flaws.is_empty() => outcome,
            Outcome::Taken(_) | Outcome::Unknown(_) => Outcome::Rejected(Reason::both(flaws, None)),
            Outcome::Rejected(reason) => Outcome::Rejected(Reason::both(flaws, Some(reason))),
        };
        self.window.settle(number, outcome);
        if let Some(next) = self.order.leave(number, &keys)
            && let Some(held) = self.window.open(next)
            && held.at == At::Behind
            && self.order.is_first(next, &held.keys)
        {
            self.free.insert(next);
        }
    }

    fn answered(&mut self, answer: pb::ImportLeadsResponse, now: Instant) -> Result<(), Broken> {
        let is_dry = self.is_dry();
        let number = u64::try_from(answer.sequence).unwrap_or_default();
        let Some(held) = self.window.open(number) else {
            return Ok(());
        };
        let outcome = match answer.result {
            Some(Told::Response(lead)) => Outcome::Taken(lead.outcome()),
            Some(Told::Error(status)) => match verdict(&status, held) {
                Verdict::Again(pause) => {
                    held.tries += 1;
                    held.at = At::Pause;
                    self.due.insert((now + pause, number));
                    return Ok(());
                }
                // A row that could not be checked is not found wrong.
                Verdict::Over(_) if is_dry && !is_of_row(&status) => {
                    let reason = Reason::of(&status, &status.get_error_details());
                    return Err(Broken::Fault(reason.to_string()));
                }
                Verdict::Over(outcome) => outcome,
                Verdict::Fault(fault) => return Err(Broken::Fault(fault)),
            },
            None if is_dry => return Err(Broken::Fault(Reason::untold().to_string())),
            None => held.unknown(Reason::untold()),
        };
        self.end(number, outcome);
        Ok(())
    }

    /// Records in order what became of rows, and writes down what was rejected.
    fn settle(&mut self) -> Result<(), String> {
        while let Some((number, held, outcome)) = self.window.pop() {
            self.bytes -= held.row.size();
            self.count += 1;
            self.state.unknown.remove(number);
            match outcome {
                Outcome::Taken(outcome) => self.state.tally.take(outcome),
                Outcome::Rejected(reason) => {
                    self.reject(number, &held.row, reason)?;
                    self.state.tally.rejected += 1;
                }
                Outcome::Unknown(why) => {
                    self.state.unknown.add(number, why);
                    self.state.unknown_since.get_or_insert_with(clock::now);
                }
            }
            // Rows that are sent again were counted before.
            self.state.tally.rows = self.state.tally.rows.max(number);
        }
        Ok(())
    }

    fn reject(&mut self, number: u64, row: &Row, reason: Reason) -> Result<(), String> {
        let findings = match &mut self.end {
            End::Import { rejected, .. } => return rejected.add(number, row, &reason),
            End::DryRun(findings) => findings,
        };
        for flaw in &reason.flaws {
            let column = match self.plan.name_of(&flaw.column) {
                "lead" => "(row)",
                name => name,
            };
            let flaw = Flaw {
                column: column.to_owned(),
                ..flaw.clone()
            };
            findings.reject(row.line(), &flaw);
        }
        if reason.flaws.is_empty() {
            let flaw = Flaw {
                column: "(row)".to_owned(),
                place: None,
                text: reason.message,
            };
            findings.reject(row.line(), &flaw);
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
                self.progress.say(&note);
            }
        }
        self.progress.show(self.state.settled(), self.all, &text, now);
    }
}

/// Whether the row itself is refused.
fn is_of_row(status: &tonic_types::Status) -> bool {
    matches!(
        Code::from(status.code),
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::OutOfRange
    )
}

enum Verdict {
    Again(Duration),
    Over(Outcome),
    /// It is no fault of the row: all others would be told the same.
    Fault(String),
}

impl Doubt {
    /// The stream broke before the response.
    fn was_sent(&mut self) {
        if matches!(self, Self::No) {
            *self = Self::Sent;
        }
    }
}

impl Held {
    /// What becomes of a row that is not sent any more although it was not executed as far as is known, or was found wrong
    /// before it was sent: that says nothing about an earlier time.
    fn over(&self, reason: Reason) -> Outcome {
        match &self.doubt {
            Doubt::Unknown(earlier) => self.unknown(earlier.clone()),
            Doubt::No | Doubt::Sent => Outcome::Rejected(reason),
        }
    }

    fn unknown(&self, reason: Reason) -> Outcome {
        let reason = match reason.reason.as_str() {
            OUTCOME_UNKNOWN => reason,
            _ => Reason {
                message: reason.to_string(),
                reason: OUTCOME_UNKNOWN.to_owned(),
                ..reason
            },
        };
        Outcome::Unknown(WhyUnknown {
            reason,
            only_by_hand: !self.can_be_looked_up,
        })
    }
}

/// What to do about a row that was not taken.
fn verdict(status: &tonic_types::Status, held: &mut Held) -> Verdict {
    let details = status.get_error_details();
    let reason = Reason::of(status, &details);
    if matches!(
        reason.reason.as_str(),
        "UPSTREAM_CREDENTIALS_REJECTED" | "UPSTREAM_FEATURE_DISABLED"
    ) {
        return Verdict::Fault(reason.to_string());
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
        held.doubt = Doubt::Unknown(reason.clone());
        // The gateway knows best whether it can look the lead up.
        match fact("retry_same_request_id") {
            Some("false") => held.can_be_looked_up = false,
            Some("true") => held.can_be_looked_up = true,
            _ => {}
        }
        if !held.can_be_looked_up {
            return Verdict::Over(held.unknown(reason));
        }
    } else if !matches!(code, Code::ResourceExhausted | Code::Unavailable) {
        // What the gateway finds wrong before it sends anything says nothing about an earlier time.
        let is_unsent = code == Code::InvalidArgument && fact("attempts").is_none_or(|attempts| attempts == "0");
        return Verdict::Over(match is_unsent {
            true => held.over(reason),
            false => Outcome::Rejected(reason),
        });
    }
    let told = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .unwrap_or_default();
    if told > MAX_PATIENCE && !is_unknown {
        let minutes = told.as_secs().div_ceil(60);
        return Verdict::Fault(format!("{reason}; try again in {minutes} minutes"));
    }
    if held.tries + 1 < MAX_TRIES && told <= MAX_PATIENCE {
        return Verdict::Again(told.max(pause(held.tries)));
    }
    Verdict::Over(match held.doubt {
        Doubt::Sent => held.unknown(Reason::untold()),
        Doubt::No | Doubt::Unknown(_) => held.over(reason),
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::cli::transfer::csv::Record;

    fn status(code: Code, reason: &str, delay: Option<Duration>) -> tonic_types::Status {
        told(code, reason, delay, &[])
    }

    fn with_facts(code: Code, reason: &str, facts: &[(&str, &str)]) -> tonic_types::Status {
        told(code, reason, None, facts)
    }

    fn told(code: Code, reason: &str, delay: Option<Duration>, facts: &[(&str, &str)]) -> tonic_types::Status {
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

    /// A row that has been sent so many times.
    fn held(tries: u32, doubt: Doubt) -> Held {
        Held {
            row: Row::Csv(Record::new(2, ["Anu"])),
            keys: vec![],
            flaws: vec![],
            tries,
            at: At::Gateway,
            doubt,
            can_be_looked_up: true,
        }
    }

    fn wait(status: &tonic_types::Status, tries: u32) -> Option<Duration> {
        match verdict(status, &mut held(tries, Doubt::No)) {
            Verdict::Again(pause) => Some(pause),
            Verdict::Over(_) | Verdict::Fault(_) => None,
        }
    }

    /// What becomes of a row at its last try.
    fn last(status: &tonic_types::Status, mut held: Held) -> Outcome {
        held.tries = MAX_TRIES - 1;
        match verdict(status, &mut held) {
            Verdict::Over(outcome) => outcome,
            Verdict::Again(_) | Verdict::Fault(_) => panic!("{status:?}"),
        }
    }

    fn is_unknown(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Unknown(_))
    }

    #[test]
    fn a_row_that_may_have_been_executed_is_never_rejected() {
        let doubtful = || Doubt::Unknown(Reason::untold());
        for code in [Code::Aborted, Code::Internal, Code::DeadlineExceeded, Code::Cancelled] {
            assert!(
                is_unknown(&last(&status(code, "X", None), held(0, Doubt::No))),
                "{code:?}"
            );
        }
        // What keeps it from being sent again says nothing about the first time, nor does what was found wrong before.
        for (code, reason) in [
            (Code::Unavailable, "STORE_UNAVAILABLE"),
            (Code::ResourceExhausted, "QUEUE_FULL"),
            (Code::InvalidArgument, "INVALID_FIELD"),
        ] {
            let status = status(code, reason, None);
            assert!(is_unknown(&last(&status, held(0, doubtful()))), "{code:?}");
            assert!(!is_unknown(&last(&status, held(0, Doubt::No))), "{code:?}");
        }
        let unavailable = status(Code::Unavailable, "X", None);
        assert!(is_unknown(&last(&unavailable, held(0, Doubt::Sent))));
        // LeadSquared's own word settles it.
        let decided = [
            status(Code::AlreadyExists, "LEAD_DUPLICATE", None),
            status(Code::NotFound, "LEAD_NOT_FOUND", None),
            status(Code::Unknown, "UPSTREAM_EXCEPTION", None),
            with_facts(Code::InvalidArgument, "INVALID_FIELD", &[("attempts", "2")]),
        ];
        for status in decided {
            assert!(!is_unknown(&last(&status, held(0, doubtful()))), "{status:?}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_looked_up_is_sent_once() {
        let aborted = status(Code::Aborted, OUTCOME_UNKNOWN, None);
        let nameless = || Held {
            can_be_looked_up: false,
            ..held(0, Doubt::No)
        };
        let by_hand = |verdict: &Verdict| matches!(verdict, Verdict::Over(Outcome::Unknown(why)) if why.only_by_hand);
        assert!(by_hand(&verdict(&aborted, &mut nameless())));
        assert!(!by_hand(&verdict(&aborted, &mut held(0, Doubt::No))));
        // Where the gateway says so, that counts.
        let never = with_facts(Code::Aborted, OUTCOME_UNKNOWN, &[("retry_same_request_id", "false")]);
        assert!(by_hand(&verdict(&never, &mut held(0, Doubt::No))));
        let may_be = with_facts(Code::Aborted, OUTCOME_UNKNOWN, &[("retry_same_request_id", "true")]);
        assert!(matches!(verdict(&may_be, &mut nameless()), Verdict::Again(_)));
    }

    #[test]
    fn what_may_be_otherwise_later_is_sent_again_after_the_time_told_and_not_for_ever() {
        let told = Some(Duration::from_secs(3));
        for code in [Code::ResourceExhausted, Code::Unavailable, Code::Aborted] {
            assert_eq!(wait(&status(code, "X", told), 0), told);
            assert_eq!(wait(&status(code, "X", None), 0), Some(pause(0)));
            assert_eq!(wait(&status(code, "X", Some(Duration::ZERO)), 1), Some(pause(1)));
            assert_eq!(wait(&status(code, "X", told), MAX_TRIES - 1), None);
        }
        assert_eq!(wait(&status(Code::InvalidArgument, "X", told), 0), None);
        assert_eq!(wait(&status(Code::AlreadyExists, "X", None), 0), None);
    }

    #[test]
    fn what_is_no_fault_of_a_row_ends_the_import() {
        let hour = Some(Duration::from_secs(3600));
        for status in [
            status(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED", None),
            status(Code::ResourceExhausted, "DAILY_BUDGET_EXHAUSTED", hour),
        ] {
            assert!(
                matches!(verdict(&status, &mut held(0, Doubt::No)), Verdict::Fault(_)),
                "{status:?}"
            );
        }
        let duplicate = status(Code::AlreadyExists, "LEAD_DUPLICATE", None);
        let verdict = verdict(&duplicate, &mut held(0, Doubt::No));
        assert!(matches!(verdict, Verdict::Over(Outcome::Rejected(reason)) if reason.code == "ALREADY_EXISTS"));
    }
}
