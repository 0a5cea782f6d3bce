//! The report of a run.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use leadgate::error::Limit;

/// The report of a run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    limit: Limit,
    length: Duration,
    /// Number of our calls that the server accepted.
    pub accepted: u64,
    /// Number of our calls that it refused.
    pub refused: u64,
    /// Number of foreign calls that it accepted.
    pub foreign_accepted: u64,
    /// Number of foreign calls that it refused.
    pub foreign_refused: u64,
    /// Maximum number of our calls that reached the server in one window, accepted or not.
    pub worst_window: usize,
    /// Accepted calls of ours and of others, weighted near the edges.
    weighed: [f64; 2],
    start: Instant,
    waits: Vec<Duration>,
    stamps: VecDeque<Instant>,
}

/// A part of a whole. 0 if the whole is 0.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Report {
    pub(super) fn new(limit: Limit, start: Instant, length: Duration) -> Self {
        Self {
            limit,
            length,
            accepted: 0,
            refused: 0,
            foreign_accepted: 0,
            foreign_refused: 0,
            worst_window: 0,
            weighed: [0.0; 2],
            start,
            waits: Vec::new(),
            stamps: VecDeque::new(),
        }
    }

    /// Part of the quota that our calls have used.
    pub(crate) fn utilisation(&self) -> f64 {
        self.weighed[0] / self.quota()
    }

    /// Part of the quota that all calls have used.
    pub(crate) fn total_utilisation(&self) -> f64 {
        (self.weighed[0] + self.weighed[1]) / self.quota()
    }

    /// Part of our calls that were refused.
    pub(crate) fn refused_share(&self) -> f64 {
        share(self.refused, self.accepted + self.refused)
    }

    /// Part of the foreign calls that were refused.
    pub(crate) fn foreign_refused_share(&self) -> f64 {
        share(self.foreign_refused, self.foreign_accepted + self.foreign_refused)
    }

    /// Maximum wait of this part of the calls, from their arrival to the sending of the attempt that was accepted.
    pub(crate) fn wait_at(&self, quantile: f64) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let at = (waits.len() as f64 * quantile) as usize;
        waits
            .get(at.min(waits.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Adds the report of another run of the same length.
    pub(crate) fn add(&mut self, other: &Self) {
        // Without the one window that the edges of each run weigh together.
        self.length += other.length - self.limit.per;
        self.weighed = [0, 1].map(|index| self.weighed[index] + other.weighed[index]);
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.foreign_accepted += other.foreign_accepted;
        self.foreign_refused += other.foreign_refused;
        self.worst_window = self.worst_window.max(other.worst_window);
        self.waits.extend(&other.waits);
    }

    pub(super) fn stamp(&mut self, now: Instant, accepted: bool) {
        if accepted {
            self.accepted += 1;
            self.weighed[0] += self.weight(now);
        } else {
            self.refused += 1;
        }
        self.stamps.push_back(now);
        while self.stamps.front().is_some_and(|at| *at + self.limit.per <= now) {
            self.stamps.pop_front();
        }
        self.worst_window = self.worst_window.max(self.stamps.len());
    }

    pub(super) fn foreign(&mut self, now: Instant, accepted: bool) {
        if accepted {
            self.foreign_accepted += 1;
            self.weighed[1] += self.weight(now);
        } else {
            self.foreign_refused += 1;
        }
    }

    pub(super) fn wait(&mut self, wait: Duration) {
        self.waits.push(wait);
    }

    /// The weight of a moment. A last burst at the edge of the run must not favor a client that sends bursts. So the
    /// first and the last window are weighted. This is the mean over all phases of a measurement that is one window
    /// shorter.
    fn weight(&self, now: Instant) -> f64 {
        let since = now - self.start;
        let left = self.length.saturating_sub(since);
        since.min(left).div_duration_f64(self.limit.per).min(1.0)
    }

    /// Number of calls that all windows together allow.
    fn quota(&self) -> f64 {
        let measured = self.length.saturating_sub(self.limit.per);
        f64::from(self.limit.calls) * measured.div_duration_f64(self.limit.per)
    }
}
