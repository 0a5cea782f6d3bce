//! Sends waves of calls and records them. Ends the measurement if LeadSquared or the plan requires it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::LimitPlan;
use super::inference::{Named, Wave, largest_fills};
use crate::crm::response::named_limit;
use crate::probe::call::{CallKind, CallObservation, CallOutcome, ProbeCaller};

/// The measurement ends after this many calls without a usable response in succession.
const MAX_FAILED: u32 = 5;

/// Why a measurement ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// LeadSquared rejected the credentials.
    Unauthorized,
    /// The daily limit refused a call.
    DailyRefused,
    /// Too many calls had no usable response.
    Failed,
    /// The allowed number of calls is used.
    Calls,
    /// The allowed time is over.
    Time,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthorized => "LeadSquared rejected the credentials",
            Self::DailyRefused => "the daily limit refused a call",
            Self::Failed => "too many calls in succession had no usable response",
            Self::Calls => "the allowed number of calls is used",
            Self::Time => "the allowed time is over",
        })
    }
}

/// The number of calls of a wave by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u32,
    pub(super) refused: u32,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
    }
}

/// A refusal: its HTTP status, and its text.
type Refusal = (u16, String);

/// A measurement in progress.
pub(super) struct Session<'a, C> {
    caller: &'a C,
    pub(super) plan: &'a LimitPlan,
    start: Instant,
    /// The waves of reads.
    pub(super) reads: Vec<Wave>,
    /// When the last call of any kind was sent or received, in seconds since the start.
    pub(super) last: f64,
    /// The number of calls that were sent.
    pub(super) sent: u32,
    failed: u32,
    /// Whether the allowed calls did not suffice.
    pub(super) is_out_of_calls: bool,
    /// The different refusals of reads and of bulk calls, each with its number.
    refusals: Vec<(CallKind, Refusal, u32)>,
    /// One line for each wave, or for several single calls with the same outcome.
    pub(super) lines: Vec<Line>,
}

/// A line of evidence: waves of the same kind and with the same outcome.
pub(super) struct Line {
    kind: CallKind,
    from: f64,
    to: f64,
    waves: u32,
    calls: u32,
    counts: Counts,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind.name();
        let failed = self.calls - self.counts.accepted - self.counts.refused;
        if self.waves == 1 {
            write!(f, "{:.2} s: {} {name}", self.from, self.calls)?;
        } else {
            write!(
                f,
                "{:.2} s to {:.2} s: {} single {name}",
                self.from, self.to, self.calls
            )?;
        }
        write!(
            f,
            ", {} accepted, {} refused",
            self.counts.accepted, self.counts.refused
        )?;
        if failed > 0 {
            write!(f, ", {failed} without a usable response")?;
        }
        Ok(())
    }
}

impl<'a, C: ProbeCaller> Session<'a, C> {
    pub(super) fn new(caller: &'a C, plan: &'a LimitPlan) -> Self {
        Self {
            caller,
            plan,
            start: Instant::now(),
            reads: Vec::new(),
            last: 0.0,
            sent: 0,
            failed: 0,
            is_out_of_calls: false,
            refusals: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Seconds since the start.
    pub(super) fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// The number of calls that may still be sent.
    pub(super) fn calls_left(&self) -> u32 {
        let of_caller = self.caller.calls_left().saturating_sub(self.plan.reserve.max(1));
        of_caller.min(self.plan.max_calls.saturating_sub(self.sent))
    }

    /// The largest number of reads that were accepted without a refusal.
    pub(super) fn largest_fill(&self) -> u32 {
        largest_fills(&self.reads).0
    }

    pub(super) fn progress(&self, text: &str) {
        let calls = f64::from(self.sent) / f64::from(self.plan.max_calls.max(1));
        let time = self.now() / self.plan.max_duration.as_secs_f64().max(0.001);
        self.caller.progress(text, calls.max(time).min(1.0) as f32);
    }

    /// Waits until a time, in seconds since the start.
    ///
    /// # Errors
    /// Returns [`Stop::Time`] without waiting if the time is not allowed.
    pub(super) async fn wait_until(&self, time: f64) -> Result<(), Stop> {
        if time >= self.plan.max_duration.as_secs_f64() {
            return Err(Stop::Time);
        }
        sleep_until(self.start + Duration::from_secs_f64(time.max(0.0))).await;
        Ok(())
    }

    /// Waits until no call was sent for a number of seconds.
    pub(super) async fn silence(&self, seconds: f64) -> Result<(), Stop> {
        self.wait_until(self.last + seconds).await
    }

    /// Sends calls of one kind at the same time, and returns the number of accepted and refused ones.
    ///
    /// # Errors
    /// Returns the reason for which no further call may be sent. If all calls were sent, their outcomes are recorded.
    pub(super) async fn wave(&mut self, kind: CallKind, size: u32) -> Result<Counts, Stop> {
        if size > self.calls_left() {
            return Err(self.out_of_calls());
        }
        if self.now() >= self.plan.max_duration.as_secs_f64() {
            return Err(Stop::Time);
        }
        let from = self.now();
        self.sent += size;
        let calls = (0..size).map(|_| self.caller.call(kind)).collect();
        let observed = join_all(calls).await;
        self.last = self.now();
        let (wave, counts, stop) = self.record(kind, observed);
        self.add_line(kind, from, size, counts);
        if kind == CallKind::Read {
            self.reads.push(wave);
        }
        stop.map_or(Ok(counts), Err)
    }

    /// Sends waves until a call is refused or `most` calls are accepted. The first wave has `expected` calls.
    pub(super) async fn fill(&mut self, kind: CallKind, expected: u32, most: u32) -> Result<Counts, Stop> {
        let mut all = self.wave(kind, expected).await?;
        let mut size = (expected / 2).max(1);
        while all.refused == 0 && all.accepted < most {
            all.add(self.wave(kind, size.min(most - all.accepted)).await?);
            size = (size * 2).min(32);
        }
        Ok(all)
    }

    /// Records that the allowed calls do not suffice.
    pub(super) fn out_of_calls(&mut self) -> Stop {
        self.is_out_of_calls = true;
        Stop::Calls
    }

    fn record(&mut self, kind: CallKind, observed: Vec<CallObservation>) -> (Wave, Counts, Option<Stop>) {
        let (mut wave, mut counts, mut stop) = (Wave::default(), Counts::default(), None);
        for call in observed {
            let sent = call.sent.saturating_duration_since(self.start).as_secs_f64();
            let times = (sent, call.received.saturating_duration_since(call.sent).as_secs_f64());
            match call.outcome {
                CallOutcome::Accepted(_) => {
                    wave.calls.push(times);
                    counts.accepted += 1;
                    self.failed = 0;
                }
                CallOutcome::Refused { status, text } => {
                    wave.calls.push(times);
                    counts.refused += 1;
                    self.failed = 0;
                    self.add_refusal(kind, (status, text));
                }
                CallOutcome::DailyRefused { .. } => stop = stop.or(Some(Stop::DailyRefused)),
                CallOutcome::Unauthorized => stop = Some(Stop::Unauthorized),
                CallOutcome::Failed(_) => {
                    wave.failed.push(times);
                    self.failed += 1;
                }
            }
        }
        wave.accepted = counts.accepted as usize;
        if self.failed >= MAX_FAILED {
            stop = stop.or(Some(Stop::Failed));
        }
        (wave, counts, stop)
    }

    fn add_refusal(&mut self, kind: CallKind, refusal: Refusal) {
        let known = self
            .refusals
            .iter_mut()
            .find(|known| known.0 == kind && known.1 == refusal);
        match known {
            Some(known) => known.2 += 1,
            None => self.refusals.push((kind, refusal, 1)),
        }
    }

    fn add_line(&mut self, kind: CallKind, from: f64, calls: u32, counts: Counts) {
        if let Some(line) = self.lines.last_mut() {
            let is_single = calls == 1 && line.calls == line.waves && line.kind == kind;
            let is_same = counts.accepted * line.calls == line.counts.accepted
                && counts.refused * line.calls == line.counts.refused;
            if is_single && is_same {
                (line.to, line.waves, line.calls) = (from, line.waves + 1, line.calls + 1);
                line.counts.add(counts);
                return;
            }
        }
        self.lines.push(Line {
            kind,
            from,
            to: from,
            waves: 1,
            calls,
            counts,
        });
    }

    /// The limit in the most frequent text of the refusals of a kind of call.
    pub(super) fn named(&self, kind: CallKind) -> Option<Named> {
        let (_, (_, text), _) = self.most_frequent(kind)?;
        let limit = named_limit(text)?;
        Some(Named {
            calls: limit.calls,
            per: limit.per.as_secs_f64(),
        })
    }

    /// All limits in the texts of refused reads.
    pub(super) fn all_named(&self) -> impl Iterator<Item = Named> {
        let reads = self.refusals.iter().filter(|refusal| refusal.0 == CallKind::Read);
        reads.filter_map(|(_, (_, text), _)| {
            let limit = named_limit(text)?;
            Some(Named {
                calls: limit.calls,
                per: limit.per.as_secs_f64(),
            })
        })
    }

    /// What happened to the calls of a kind, in a sentence.
    pub(super) fn summary(&self, kind: CallKind) -> String {
        let (mut calls, mut counts) = (0, Counts::default());
        for line in self.lines.iter().filter(|line| line.kind == kind) {
            calls += line.calls;
            counts.add(line.counts);
        }
        let name = kind.name();
        let refused = match self.most_frequent(kind) {
            Some((_, (status, text), _)) => format!("{} were refused with HTTP {status}: {text}", counts.refused),
            None => "none was refused".to_owned(),
        };
        format!("{} of {calls} {name} were accepted, and {refused}", counts.accepted)
    }

    /// The most frequent HTTP status of refused reads.
    pub(super) fn refusal_status(&self) -> Option<u16> {
        Some(self.most_frequent(CallKind::Read)?.1.0)
    }

    /// The most frequent refusal of a kind of call.
    fn most_frequent(&self, kind: CallKind) -> Option<&(CallKind, Refusal, u32)> {
        let of_kind = self.refusals.iter().filter(|refusal| refusal.0 == kind);
        of_kind.max_by_key(|refusal| refusal.2)
    }

    /// The lines of evidence from one line to another one, and the refusals.
    pub(super) fn evidence(&self, from: usize, to: usize) -> Vec<String> {
        let refusals = self.refusals.iter().map(|(kind, (status, text), count)| {
            let name = kind.name();
            format!("{count} {name} refused with HTTP {status}: {text}")
        });
        let lines = self.lines.iter().take(to).skip(from);
        lines.map(ToString::to_string).chain(refusals).collect()
    }
}

impl CallKind {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Bulk => "bulk calls",
            Self::UnknownPath => "calls of an unknown path",
            Self::BadJson => "calls with an invalid body",
        }
    }
}

/// Runs futures at the same time, and returns their outputs in order.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match Pin::as_mut(future).poll(context) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}
