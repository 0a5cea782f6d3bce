//! How far it is, for people: a bar on a terminal, and a line now and then where there is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::cli::client::note;

/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// What is shown while leads are on their way.
pub(super) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    began: Instant,
    /// How many there were at the beginning, which were not of this run.
    before: u64,
    told: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str, before: u64, all: u64, now: Instant) -> Self {
        let bar = ProgressBar::new(all).with_position(before);
        bar.reset_eta();
        let template = format!("{{bar:30}} {{pos}}/{{len}} {what} {{msg}} eta {{eta}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self {
            bar,
            what,
            began: now,
            before,
            told: now,
        }
    }

    /// Shows that there are so many now, and what is to be said of them.
    pub(super) fn show(&mut self, done: u64, all: u64, text: &str, now: Instant) {
        let rate = self.rate(done, now);
        let text = match text {
            "" => rate,
            text => format!("{rate}, {text}"),
        };
        self.bar.set_length(all);
        self.bar.set_position(done);
        if self.bar.is_hidden() && now.duration_since(self.told) >= EVERY {
            self.told = now;
            note(&format!("{done} of {all} {}, {text}", self.what));
        }
        self.bar.set_message(text);
    }

    /// How many there were in a second, since this run began.
    pub(super) fn rate(&self, done: u64, now: Instant) -> String {
        let seconds = now.duration_since(self.began).as_secs_f64().max(0.001);
        format!("{:.0}/s", done.saturating_sub(self.before) as f64 / seconds)
    }

    /// Says something beside it.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
