//! The progress of a command: a bar on a terminal, or a line every ten seconds without a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::cli::client::note;

/// The interval of lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The progress of a command.
pub(crate) struct Progress {
    bar: ProgressBar,
    unit: &'static str,
    /// Whether the rate says something about the rest.
    has_rate: bool,
    began: Instant,
    /// The number that earlier runs did.
    before: u64,
    noted: Instant,
}

impl Progress {
    pub(crate) fn new(unit: &'static str, before: u64, all: u64, now: Instant) -> Self {
        let bar = ProgressBar::new(all).with_position(before);
        bar.reset_eta();
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit} {{msg}} eta {{eta}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self {
            bar,
            unit,
            has_rate: true,
            began: now,
            before,
            noted: now,
        }
    }

    /// The same without a rate and a time of the end, for work whose rate changes.
    pub(crate) fn without_rate(unit: &'static str, all: u64, now: Instant) -> Self {
        let progress = Self::new(unit, 0, all, now);
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit} {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            progress.bar.set_style(style);
        }
        Self {
            has_rate: false,
            ..progress
        }
    }

    /// Shows the current number, with a text.
    pub(crate) fn show(&mut self, done: u64, all: u64, text: &str, now: Instant) {
        let rate = self.rate(done, now);
        let text = match text {
            text if !self.has_rate => text.to_owned(),
            "" => rate,
            text => format!("{rate}, {text}"),
        };
        self.bar.set_length(all);
        self.bar.set_position(done);
        if self.bar.is_hidden() && now.duration_since(self.noted) >= LINE_INTERVAL {
            self.noted = now;
            note(&format!("{done} of {all} {}, {text}", self.unit));
        }
        self.bar.set_message(text);
    }

    /// Returns the rate per second of this run.
    pub(crate) fn rate(&self, done: u64, now: Instant) -> String {
        let seconds = now.duration_since(self.began).as_secs_f64().max(0.001);
        format!("{:.0}/s", done.saturating_sub(self.before) as f64 / seconds)
    }

    /// Prints a note.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
