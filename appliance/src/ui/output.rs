//! Results to stdout, for people or for machines.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::exit::Failure;
use super::results::Ready;

/// Whether escape codes may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// Colour carries emphasis; never a meaning that the words lack.
    Colour,
}

impl Style {
    /// Colour exactly if stdout is a terminal and `NO_COLOR` is unset or empty (no-color.org).
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if !refused && io::stdout().is_terminal() {
            Self::Colour
        } else {
            Self::Plain
        }
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint(text, "32")
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint(text, "31")
    }

    pub(super) fn doubtful(self, text: &str) -> String {
        self.paint(text, "33")
    }

    fn paint(self, text: &str, code: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[1;{code}m{text}\x1b[0m"),
        }
    }
}

/// A result that can be shown both ways. The JSON is its serialization.
pub trait Show: Serialize {
    /// For people; ends without a newline.
    fn render_human(&self, style: Style) -> String;
}

/// Writes a result to stdout, as one JSON document or for people.
pub(super) fn print<R: Show>(result: &R, json: bool, style: Style) -> Result<(), Failure> {
    let text = if json {
        to_json(result)?
    } else {
        result.render_human(style)
    };
    line(&text)
}

/// The one line of JSON by which a daemon says that everything is up.
///
/// # Errors
/// [`Failure`] if stdout cannot be written.
pub fn announce(ready: &Ready) -> Result<(), Failure> {
    line(&to_json(ready)?)
}

/// Writes a document that is JSON by its nature to stdout, for people's tools and people.
pub(super) fn document(value: &serde_json::Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    line(&text.map_err(|e| Failure::usage(format!("the document cannot be written: {e}")))?)
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|e| Failure::usage(format!("the result cannot be written as JSON: {e}")))
}

/// Writes a line to stdout at once. A reader that has gone away is its own decision, not a failure.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::usage(format!(
            "standard output: cannot be written: {error}"
        ))),
        _ => Ok(()),
    }
}

/// A table with a header; columns in `right` hold numbers.
pub(super) fn table(
    header: &[&str],
    right: &[usize],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for at in right {
        if let Some(column) = table.column_mut(*at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Name and value a line, values aligned.
pub(super) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}"))
        .collect();
    lines.join("\n")
}

/// `987.654 Mbit/s`: three decimals, truncated, never rounded up to a figure that was not reached.
pub(super) fn rate(bps: u64) -> String {
    scaled(
        u128::from(bps),
        &[
            (1_000_000_000, "Gbit/s"),
            (1_000_000, "Mbit/s"),
            (1_000, "kbit/s"),
        ],
        "bit/s",
    )
}

/// `1.250 ms`.
pub(super) fn nanoseconds(ns: u64) -> String {
    scaled(
        u128::from(ns),
        &[(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")],
        "ns",
    )
}

fn scaled(value: u128, units: &[(u128, &str)], smallest: &str) -> String {
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{}.{:03} {unit}", value / size, value % size * 1000 / size),
        None => format!("{value} {smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_truncated_and_carry_their_unit() {
        assert_eq!(rate(999), "999 bit/s");
        assert_eq!(rate(1_000), "1.000 kbit/s");
        assert_eq!(rate(987_654_321), "987.654 Mbit/s");
        assert_eq!(rate(999_999_999), "999.999 Mbit/s");
        assert_eq!(rate(u64::MAX), "18446744073.709 Gbit/s");
        assert_eq!(nanoseconds(999), "999 ns");
        assert_eq!(nanoseconds(1_250_000), "1.250 ms");
    }

    #[test]
    fn plain_style_has_no_escapes() {
        assert_eq!(Style::Plain.bad("x"), "x");
        assert_eq!(Style::Colour.bad("x"), "\x1b[1;31mx\x1b[0m");
    }
}
