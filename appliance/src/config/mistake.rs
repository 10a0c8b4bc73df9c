//! A configuration mistake, said so that it can be mended without reading the source.

use std::fmt;
use std::path::PathBuf;

/// One thing wrong in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line of the file, from 1; `None` when something is missing that no line mentions.
    pub line: Option<usize>,
    /// Column of the line, from 1, where `shown` begins to be wrong.
    pub column: usize,
    /// Dotted path of the key, `chain.block_interval`; empty for a syntax mistake.
    pub key: String,
    /// The value as written, shortened; `None` when the key is missing.
    pub value: Option<String>,
    /// The whole line of the file, for display.
    pub shown: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub allowed: String,
}

/// Why a configuration was not accepted. All mistakes of the file at once, in its order.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file itself could not be read.
    #[error("configuration {file}: cannot be read: {source}; give an existing, readable TOML file to --config", file = .file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read and says things that are not allowed.
    #[error("{}", render(.file, .mistakes))]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// Everything wrong in it; never empty.
        mistakes: Vec<Mistake>,
    },
}

impl ConfigErrors {
    /// The mistakes; empty when the file could not be read at all.
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { mistakes, .. } => mistakes,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.value) {
            ("", _) => {}
            (key, Some(value)) => write!(f, "{key} = {value}: ")?,
            (key, None) => write!(f, "{key}: ")?,
        }
        write!(f, "{}", self.what)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

fn render(file: &std::path::Path, mistakes: &[Mistake]) -> String {
    let file = file.display();
    let plural = if mistakes.len() == 1 {
        "mistake"
    } else {
        "mistakes"
    };
    let mut out = format!(
        "configuration {file}: {} {plural}, nothing was started",
        mistakes.len()
    );
    for mistake in mistakes {
        match mistake.line {
            Some(line) => {
                let gutter = line.to_string();
                let pad = " ".repeat(gutter.len());
                let caret = " ".repeat(mistake.column.saturating_sub(1));
                out += &format!(
                    "\n\n{file}:{line}: {mistake}\n  {gutter} | {}\n  {pad} | {caret}^",
                    mistake.shown
                );
            }
            None => out += &format!("\n\n{file}: {mistake}"),
        }
    }
    out
}
