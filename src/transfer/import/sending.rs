//! The rows on their way: through the stream in bounded memory, sent again where that helps, and settled in order. A row is
//! sent when all earlier rows of the same lead are settled. Knows neither what is in a row nor what is done with it.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::time::Duration;

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
use super::rejected::{Flaw, Reason, Rejected};
use super::window::Window;
use super::{State, Tally};
use crate::client::Gateway;
use crate::transfer::broken::{Breaks, Broken, pause};
use crate::transfer::progress::Progress;
use crate::transfer::rows::{Row, Rows};
use crate::transfer::state;

/// The most rows that have been read and are not settled in order, and about the most bytes of them.
const MOST_ROWS: usize = 10_000;
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How many messages wait for the stream.
const BUFFER: usize = 16;
/// How often a row is sent at most.
const MOST_TRIES: u32 = 8;
/// Longer than an import waits by itself.
const MOST_PATIENCE: Duration = Duration::from_secs(300);
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

enum Outcome {
    Taken(pb::UpsertOutcome),
    Rejected(Reason),
}

impl Sending {
    pub(super) fn new(plan: Plan, rows: Rows<File>, end: End, progress: Progress, state: State, all: u64) -> Self {
        let (tell, bottleneck) = watch::channel(Bottleneck::default());
        Self {
            window: Window::after(state.tally.rows),
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
            let before = self.state.tally.rows;
            let Err(broken) = self.stream(gateway).await else {
                return Ok(());
            };
            let pause = breaks.after(broken, self.state.tally.rows > before, &self.progress)?;
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes down how far it is.
    pub(super) fn save(&mut self) -> Result<(), String> {
        let End::Import { rejected, keep } = &mut self.end else {
            return Ok(());
        };
        self.state.rejected_bytes = rejected.flush()?;
        state::save(keep, &self.state)
    }

    async fn stream(&mut self, gateway: &Gateway) -> Result<(), Broken> {
        let (sender, messages) = mpsc::channel(BUFFER);
        // What is unanswered may have been done: its request id tells the gateway.
        let unanswered = self.window.under_way().filter(|(_, held)| held.at == At::Gateway);
        self.again = unanswered.map(|(number, _)| number).collect();
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
        let has_room = self.window.len() < MOST_ROWS && self.bytes < MOST_BYTES;
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
        self.bytes += row.size();
        let (line, number) = (row.line(), self.window.next());
        let Prepared {
            message,
            keys,
            doubts,
            flaws,
        } = self.plan.request(self.state.run_id, number, &row);
        let mut held = Held {
            row,
            keys: vec![],
            flaws: vec![],
            tries: 0,
            at: At::Gateway,
        };
        match &mut self.end {
            // What is wrong with the other values is to be known too.
            End::DryRun(findings) => {
                doubts.iter().for_each(|doubt| findings.doubt(line, doubt));
                findings.known_by(line, &keys);
                held.flaws = flaws;
            }
            End::Import { .. } if !flaws.is_empty() => {
                self.window.push(held);
                self.window.settle(number, Outcome::Rejected(Reason::local(flaws)));
                return Ok(None);
            }
            End::Import { .. } => held.keys = keys.iter().map(|key| key.hash).collect(),
        }
        let may_go = self.order.enter(number, &held.keys);
        if !may_go {
            held.at = At::Behind;
        }
        self.window.push(held);
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
            Outcome::Taken(_) => Outcome::Rejected(Reason::both(flaws, None)),
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
            Some(Told::Error(status)) => match verdict(&status, held.tries) {
                Verdict::Again(pause) => {
                    held.tries += 1;
                    held.at = At::Pause;
                    self.due.insert((now + pause, number));
                    return Ok(());
                }
                // A row that could not be checked is not found wrong.
                Verdict::Over(Reason {
                    code, reason, message, ..
                }) if is_dry && !is_of_row(&status) => {
                    let reason = if reason.is_empty() { code } else { reason };
                    return Err(Broken::Fault(format!("{reason}: {message}")));
                }
                Verdict::Over(reason) => Outcome::Rejected(reason),
                Verdict::Fault(fault) => return Err(Broken::Fault(fault)),
            },
            None => Outcome::Rejected(Reason::untold()),
        };
        self.end(number, outcome);
        Ok(())
    }

    /// Counts what is settled in order, and writes down what was rejected.
    fn settle(&mut self) -> Result<(), String> {
        while let Some((number, held, outcome)) = self.window.pop() {
            self.bytes -= held.row.size();
            match outcome {
                Outcome::Taken(outcome) => self.state.tally.take(outcome),
                Outcome::Rejected(reason) => {
                    self.reject(number, &held.row, reason)?;
                    self.state.tally.rejected += 1;
                }
            }
            self.state.tally.rows = number;
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
        let Tally { rows, rejected, .. } = self.state.tally;
        let bottleneck = *self.bottleneck.borrow_and_update();
        let mut text = match self.is_dry() {
            true => format!("{rejected} rejected"),
            false => self.state.tally.to_string(),
        };
        if let Some(waits) = bottleneck.shown().filter(|_| self.window.len() > 0) {
            text = format!("{text}; {waits}");
            if let Some(note) = bottleneck.note(self.plan.lane())
                && !std::mem::replace(&mut self.is_noted, true)
            {
                self.progress.say(&note);
            }
        }
        self.progress.show(rows, self.all, &text, now);
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
    Over(Reason),
    /// It is no fault of the row: all others would be told the same.
    Fault(String),
}

/// What to do about a row that was not taken for the so many-th time.
fn verdict(status: &tonic_types::Status, tries: u32) -> Verdict {
    let details = status.get_error_details();
    let reason = Reason::of(status, &details);
    if matches!(
        reason.reason.as_str(),
        "UPSTREAM_CREDENTIALS_REJECTED" | "UPSTREAM_FEATURE_DISABLED"
    ) {
        return Verdict::Fault(format!("{}: {}", reason.reason, reason.message));
    }
    let code = Code::from(status.code);
    if !matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::Aborted) {
        return Verdict::Over(reason);
    }
    let told = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .unwrap_or_default();
    if told > MOST_PATIENCE {
        let (why, minutes) = (reason.message, told.as_secs().div_ceil(60));
        return Verdict::Fault(format!("{}: {why}; try again in {minutes} minutes", reason.reason));
    }
    match tries + 1 < MOST_TRIES {
        true => Verdict::Again(told.max(pause(tries))),
        false => Verdict::Over(reason),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn status(code: Code, reason: &str, delay: Option<Duration>) -> tonic_types::Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "leadgate", std::collections::HashMap::new());
        if let Some(delay) = delay {
            details.set_retry_info(Some(delay));
        }
        let status = Status::with_error_details(code, "text", details);
        prost::Message::decode(status.details()).unwrap()
    }

    fn wait(status: &tonic_types::Status, tries: u32) -> Option<Duration> {
        match verdict(status, tries) {
            Verdict::Again(pause) => Some(pause),
            Verdict::Over(_) | Verdict::Fault(_) => None,
        }
    }

    #[test]
    fn what_may_be_otherwise_later_is_sent_again_after_the_time_told_and_not_for_ever() {
        let told = Some(Duration::from_secs(3));
        for code in [Code::ResourceExhausted, Code::Unavailable, Code::Aborted] {
            assert_eq!(wait(&status(code, "X", told), 0), told);
            assert_eq!(wait(&status(code, "X", None), 0), Some(pause(0)));
            assert_eq!(wait(&status(code, "X", Some(Duration::ZERO)), 1), Some(pause(1)));
            assert_eq!(wait(&status(code, "X", told), MOST_TRIES - 1), None);
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
            assert!(matches!(verdict(&status, 0), Verdict::Fault(_)), "{status:?}");
        }
        let duplicate = status(Code::AlreadyExists, "LEAD_DUPLICATE", None);
        assert!(matches!(verdict(&duplicate, 0), Verdict::Over(reason) if reason.code == "ALREADY_EXISTS"));
    }
}
