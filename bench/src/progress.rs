//! What is going on, for a person who waits: a spinner on a terminal, a line a part elsewhere. On stderr.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns: slow enough to cost nothing beside a measurement.
const TICK: Duration = Duration::from_millis(250);

/// Tells how a run goes on.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// The display that fits stderr.
    pub(crate) fn for_terminal() -> Self {
        let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}");
        match style {
            Ok(style) if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::new_spinner().with_style(style);
                bar.enable_steady_tick(TICK);
                Self(Some(bar))
            }
            _ => Self(None),
        }
    }

    /// A part begins.
    pub(crate) fn say(&self, part: &str) {
        match &self.0 {
            Some(bar) => {
                bar.set_prefix(part.to_owned());
                bar.set_message("");
            }
            None => eprintln!("▸ {part}"),
        }
    }

    /// One of several trials begins.
    pub(crate) fn round(&self, number: usize, of: usize, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_prefix(format!("[{number}/{of}] {what}"));
        }
    }

    /// Something is known.
    pub(crate) fn note(&self, words: &str) {
        match &self.0 {
            Some(bar) => bar.set_message(words.to_owned()),
            None => eprintln!("  {words}"),
        }
    }

    /// It is over; what was drawn is taken away.
    pub(crate) fn done(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
