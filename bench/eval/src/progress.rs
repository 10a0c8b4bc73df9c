//! What is going on, for a person who waits: a bar on a terminal, a line a proof elsewhere. On stderr.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar is drawn: slow enough to cost nothing beside a measurement.
const TICK: Duration = Duration::from_millis(500);

/// Tells how an evaluation goes on.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    done: u64,
    all: u64,
}

impl Progress {
    /// The display that fits stderr, of `all` proofs, of which `done` were made before.
    pub(crate) fn for_terminal(all: u64, done: u64) -> Self {
        let words = "{spinner} [{pos}/{len}] {prefix}  {wide_msg} {elapsed} (left: {eta})";
        let bar = match ProgressStyle::with_template(words) {
            Ok(style) if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::new(all).with_style(style).with_position(done);
                bar.reset_eta();
                bar.enable_steady_tick(TICK);
                Some(bar)
            }
            _ => None,
        };
        Self { bar, done, all }
    }

    /// A proof begins.
    pub(crate) fn begin(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(what.to_owned());
        }
    }

    /// One proof more that counts, and what came of it.
    pub(crate) fn advance(&mut self, what: &str, words: &str) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                bar.set_message(words.to_owned());
            }
            None => eprintln!("▸ [{}/{}] {what}: {words}", self.done, self.all),
        }
    }

    /// Something to know that is no proof that counts.
    pub(crate) fn note(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(words.to_owned()),
            None => eprintln!("  {words}"),
        }
    }

    /// It is over; what was drawn is taken away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
