//! What is going on, for a person who waits. On stderr; all of it only where that is a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns: fast enough to look alive, slow enough to cost nothing.
const TICK: Duration = Duration::from_millis(100);

/// Steps of a measurement as its payer sees them, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Lab tokens are minted to the payer.
    Fund,
    /// The request and its escrow go to the chain.
    Request,
    /// The coordinator draws challengers.
    Draw,
    /// Seeds are committed, consent is signed, packets flow, reports come in.
    Run,
    /// The contract checks the reports; the dispute window passes.
    Settle,
    /// The bundle is fetched and checked against its hash.
    Collect,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::Fund,
        Self::Request,
        Self::Draw,
        Self::Run,
        Self::Settle,
        Self::Collect,
    ];

    /// Words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fund => "minting lab tokens",
            Self::Request => "locking the escrow",
            Self::Draw => "drawing challengers",
            Self::Run => "measuring",
            Self::Settle => "settling",
            Self::Collect => "collecting the evidence",
        }
    }
}

/// Somebody who is told how a measurement goes on.
pub trait Progress: Send + Sync {
    /// A stage begins; those before it are done.
    fn stage(&self, stage: Stage);
    /// A detail of the present stage.
    fn note(&self, words: &str);
    /// Something that should be known before the end: a line that stays, also where stderr is no terminal.
    fn tell(&self, words: &str);
    /// It is over; whatever was drawn is taken away.
    fn done(&self);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: Stage) {}
    fn note(&self, _: &str) {}
    fn tell(&self, _: &str) {}
    fn done(&self) {}
}

/// Nobody watches, and somebody reads it later: only what is told.
struct Lines;

impl Progress for Lines {
    fn stage(&self, _: Stage) {}
    fn note(&self, _: &str) {}
    fn tell(&self, words: &str) {
        eprintln!("{words}");
    }
    fn done(&self) {}
}

/// A line with a spinner that names the stage and its latest detail.
struct Spinner(ProgressBar);

impl Progress for Spinner {
    fn stage(&self, stage: Stage) {
        self.0.set_prefix(format!(
            "[{}/{}] {}",
            stage as usize + 1,
            Stage::ALL.len(),
            stage.words()
        ));
        self.0.set_message("");
    }

    fn note(&self, words: &str) {
        self.0.set_message(words.to_owned());
    }

    fn tell(&self, words: &str) {
        self.0.suspend(|| eprintln!("{words}"));
    }

    fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The progress display that fits stderr: a spinner on a terminal, elsewhere only what must be told.
pub fn for_terminal() -> Box<dyn Progress> {
    let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}");
    match style {
        Ok(style) if std::io::stderr().is_terminal() => {
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(TICK);
            Box::new(Spinner(bar))
        }
        _ => Box::new(Lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_understood() {
        assert!(ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}").is_ok());
        let spinner = Spinner(ProgressBar::hidden());
        for stage in Stage::ALL {
            spinner.stage(stage);
        }
        assert_eq!(spinner.0.prefix(), "[6/6] collecting the evidence");
        spinner.note("2 of 5");
        assert_eq!(spinner.0.message(), "2 of 5");
        spinner.done();
        assert!(spinner.0.is_finished());
    }
}
