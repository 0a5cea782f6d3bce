//! The rows on their way: through the stream in bounded memory, sent again where that helps, and settled in order. Knows
//! neither what is in a row nor what is done with it.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::time::Duration;

use leadgate::grpc::pb;
use pb::import_leads_response::Result as Told;
use pb::lead_service_client::LeadServiceClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::RpcStatusExt;

use super::plan::Plan;
use super::rejected::{Reason, Rejected};
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
    pub(super) rejected: Rejected,
    pub(super) progress: Progress,
    pub(super) state: State,
    /// Where the state is kept; `None` where there is nothing to go on with, since nothing is written.
    pub(super) keep: Option<std::path::PathBuf>,
    pub(super) all: u64,
    window: Window<Held, Outcome>,
    /// About how much memory the rows in the window take.
    bytes: usize,
    is_read: bool,
    /// What is sent again when its time has come, and what at once.
    due: BTreeSet<(Instant, u64)>,
    again: VecDeque<u64>,
}

/// A row until it is settled.
struct Held {
    row: Row,
    tries: u32,
    /// Whether it waits to be sent again.
    waits: bool,
}

enum Outcome {
    Taken(pb::UpsertOutcome),
    Rejected(Reason),
}

impl Sending {
    pub(super) fn new(
        plan: Plan,
        rows: Rows<File>,
        rejected: Rejected,
        progress: Progress,
        state: State,
        keep: Option<std::path::PathBuf>,
        all: u64,
    ) -> Self {
        Self {
            window: Window::after(state.tally.rows),
            plan,
            rows,
            rejected,
            progress,
            state,
            keep,
            all,
            bytes: 0,
            is_read: false,
            due: BTreeSet::new(),
            again: VecDeque::new(),
        }
    }

    /// Sends all rows and waits until they are settled; a stream that broke off is begun anew.
    pub(super) async fn run(&mut self, gateway: &Gateway) -> Result<(), String> {
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
        self.state.rejected_bytes = self.rejected.flush()?;
        match &self.keep {
            Some(path) => state::save(path, &self.state),
            None => Ok(()),
        }
    }

    async fn stream(&mut self, gateway: &Gateway) -> Result<(), Broken> {
        let (sender, messages) = mpsc::channel(BUFFER);
        // What is unanswered may have been done: its request id tells the gateway.
        let unanswered = self.window.under_way().filter(|(_, held)| !held.waits);
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
        !self.again.is_empty() || self.is_due(now) || (!self.is_read && has_room)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.first().is_some_and(|(at, _)| *at <= now)
    }

    /// The next row that is to be sent again.
    fn take_again(&mut self, now: Instant) -> Option<u64> {
        let again = self.again.pop_front();
        match self.is_due(now) {
            true => again.or_else(|| self.due.pop_first().map(|(_, number)| number)),
            false => again,
        }
    }

    /// The next message: of a row that is sent again, or else of the next one of the file.
    fn next(&mut self, now: Instant) -> Result<Option<pb::ImportLeadsRequest>, String> {
        let number = match self.take_again(now) {
            Some(number) => number,
            None => match self.rows.next()? {
                Some(row) => {
                    self.bytes += row.size();
                    self.window.push(Held {
                        row,
                        tries: 0,
                        waits: false,
                    })
                }
                None => {
                    self.is_read = true;
                    return Ok(None);
                }
            },
        };
        let Some(held) = self.window.open(number) else {
            return Ok(None);
        };
        held.waits = false;
        match self.plan.request(self.state.run_id, number, &held.row) {
            Ok(message) => Ok(Some(message)),
            Err(reason) => {
                self.window.settle(number, Outcome::Rejected(reason));
                Ok(None)
            }
        }
    }

    fn answered(&mut self, answer: pb::ImportLeadsResponse, now: Instant) -> Result<(), Broken> {
        let number = u64::try_from(answer.sequence).unwrap_or_default();
        let Some(held) = self.window.open(number) else {
            return Ok(());
        };
        let outcome = match answer.result {
            Some(Told::Response(lead)) => Outcome::Taken(lead.outcome()),
            Some(Told::Error(status)) => match verdict(&status, held.tries) {
                Verdict::Again(pause) => {
                    held.tries += 1;
                    held.waits = true;
                    self.due.insert((now + pause, number));
                    return Ok(());
                }
                Verdict::Over(reason) => Outcome::Rejected(reason),
                Verdict::Fault(fault) => return Err(Broken::Fault(fault)),
            },
            None => Outcome::Rejected(Reason::local("the gateway has not said what became of it")),
        };
        self.window.settle(number, outcome);
        Ok(())
    }

    /// Counts what is settled in order, and writes down what was rejected.
    fn settle(&mut self) -> Result<(), String> {
        while let Some((number, held, outcome)) = self.window.pop() {
            self.bytes -= held.row.size();
            match outcome {
                Outcome::Taken(outcome) => self.state.tally.take(outcome),
                Outcome::Rejected(reason) => {
                    self.rejected.add(number, &held.row, &reason)?;
                    self.state.tally.rejected += 1;
                }
            }
            self.state.tally.rows = number;
        }
        Ok(())
    }

    fn show(&mut self, now: Instant) {
        let Tally { rows, .. } = self.state.tally;
        self.progress.show(rows, self.all, &self.state.tally.to_string(), now);
    }
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
