//! One plot a question: horizontal bars of medians, whiskers from smallest to largest, written as SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Outcome;
use crate::plan::{Rate, SinkKind, SourceKind, Units};
use crate::row::Report;

/// Width of a plot, and of what stands left of the bars and right of them, pixels.
const WIDTH: f64 = 760.0;
const LABELS: f64 = 170.0;
const FIGURES: f64 = 90.0;
/// Height of a bar with its gap, and of what stands above and below all bars, pixels.
const LINE: f64 = 28.0;
const HEAD: f64 = 64.0;
const FOOT: f64 = 58.0;

/// Colours of the product's bars and of everybody else's: told apart without colour vision as well.
const OURS: &str = "#1f5fa8";
const OTHERS: &str = "#b0b6bd";

/// What the blue bars of packets are.
const VERIFIED: &str = "verified by the product";

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) median: f64,
    pub(super) whisker: Option<(f64, f64)>,
    pub(super) ours: bool,
}

/// A plot.
pub(super) struct Plot {
    pub(super) file: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    /// Whose bars the blue ones are.
    pub(super) ours: &'static str,
    pub(super) bars: Vec<Bar>,
}

/// Writes a plot for each question that the outcome answers; returns the files.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn write(outcome: &Outcome, directory: &Path) -> Result<Vec<PathBuf>> {
    let foot = [
        format!(
            "{}, {} cores, Linux {} · {} · a veth: no wire, no card",
            outcome.machine.cpu_model,
            outcome.machine.cores,
            outcome.machine.kernel,
            outcome.date.get(..10).unwrap_or(&outcome.date),
        ),
        outcome.command.clone(),
    ];
    write_all(&questions(outcome), &foot, directory)
}

/// Writes `plots`, with `foot` below each; returns the files.
///
/// # Errors
/// The directory cannot be written.
pub(super) fn write_all(
    plots: &[Plot],
    foot: &[String; 2],
    directory: &Path,
) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut files = Vec::new();
    for plot in plots {
        if plot.bars.is_empty() {
            continue;
        }
        let path = directory.join(plot.file);
        fs::write(&path, draw(plot, foot))
            .with_context(|| format!("cannot write {}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}

fn questions(outcome: &Outcome) -> Vec<Plot> {
    let rows = |keep: &dyn Fn(&Report) -> bool| -> Vec<&Report> {
        outcome.rows.iter().filter(|r| r.valid && keep(r)).collect()
    };
    let at_max = |r: &Report| matches!(r.rate, Rate::Word(_));
    // What is compared with one another: packets of 1500 bytes from a socket.
    let alike = |r: &Report| {
        let other = r.source == SourceKind::Live || r.sink == SinkKind::Iperf3Tcp;
        at_max(r) && r.mtu == 1500 && r.units == Units::Packets && !other
    };
    let taken = |r: &Report| bar(r, r.gbps, r.min.zip(r.max));
    let goodput = rows(&|r| alike(r)).into_iter().filter_map(taken);
    let unlike = |r: &Report| at_max(r) && (!alike(r) || ["verified", "drop"].contains(&&*r.name));
    let limits = rows(&unlike).into_iter().filter_map(taken);
    let cost = rows(&|r| alike(r))
        .into_iter()
        .filter_map(|r| bar(r, r.cpu_s_per_gbit, None));
    let loss = rows(&|r| r.loss.is_some())
        .into_iter()
        .filter_map(|r| bar(r, r.loss.map(|l| l * 100.0), None));
    let hashing = outcome.hashing.iter().flat_map(|h| {
        [
            ("one at a time", &h.naive, false),
            ("sixteen lanes", &h.lanes, true),
            ("one long input", &h.long, false),
        ]
        .map(|(label, spread, ours)| Bar {
            label: label.into(),
            median: spread.median,
            whisker: Some((spread.min, spread.max)),
            ours,
        })
    });
    vec![
        Plot {
            file: "goodput.svg",
            title: "What the receiver really took, packets of 1500 bytes from a socket",
            unit: "Gbit/s at the IP layer",
            ours: VERIFIED,
            bars: goodput.collect(),
        },
        Plot {
            file: "limits.svg",
            title: "Other sources, larger packets, ceilings: not comparable bar by bar",
            unit: "Gbit/s at the IP layer",
            ours: VERIFIED,
            bars: limits.collect(),
        },
        Plot {
            file: "cpu.svg",
            title: "What a Gbit cost, both cores together",
            unit: "processor seconds a Gbit",
            ours: VERIFIED,
            bars: cost.collect(),
        },
        Plot {
            file: "loss.svg",
            title: "What was lost of what was sent",
            unit: "per cent of packets",
            ours: VERIFIED,
            bars: loss.collect(),
        },
        Plot {
            file: "hashing.svg",
            title: "BLAKE3 of packets of 1472 bytes, one core",
            unit: "GB/s",
            ours: VERIFIED,
            bars: hashing.collect(),
        },
    ]
}

fn bar(row: &Report, value: Option<f64>, whisker: Option<(f64, f64)>) -> Option<Bar> {
    Some(Bar {
        label: row.name.clone(),
        median: value?,
        whisker,
        ours: row.name.starts_with("verified"),
    })
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `most / 5`: some five grid lines.
fn step(most: f64) -> f64 {
    let raw = (most / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(raw.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fits = factors.into_iter().find(|f| f * power >= raw * 0.999_999);
    fits.unwrap_or(10.0) * power
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A figure with three digits that matter.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if v < 0.01 => format!("{v:.4}"),
        v if v < 1.0 => format!("{v:.3}"),
        v if v < 10.0 => format!("{v:.2}"),
        v => format!("{v:.1}"),
    }
}

/// A round number without the zeros that round ones end in.
fn tick(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn draw(plot: &Plot, foot: &[String; 2]) -> String {
    let reach = |b: &Bar| b.whisker.map_or(b.median, |w| w.1.max(b.median));
    let most = plot.bars.iter().map(reach).fold(0.0, f64::max);
    let most = if most > 0.0 { most } else { 1.0 };
    let bars = if plot.bars.iter().any(|b| b.whisker.is_some()) {
        "bar: median, whisker: smallest to largest repeat"
    } else {
        "bar: all repeats together"
    };
    let grid = step(most);
    let span = (most / grid).ceil() * grid;
    let x = |value: f64| LABELS + value / span * (WIDTH - LABELS - FIGURES);
    let bottom = HEAD + LINE * plot.bars.len() as f64;
    let height = bottom + FOOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"600\" fill=\"#1a1d21\">{title}</text>\n<text x=\"16\" y=\"46\" fill=\"#5b626b\">{unit}; {bars}; blue: {ours}</text>\n",
        title = escape(plot.title),
        unit = escape(plot.unit),
        bars = bars,
        ours = escape(plot.ours),
    );
    let mut at = 0.0;
    while at <= span * 1.000_001 {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"{HEAD}\" x2=\"{0:.1}\" y2=\"{bottom}\" stroke=\"#e3e6ea\"/><text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#5b626b\">{2}</text>",
            x(at),
            bottom + 15.0,
            tick(at)
        );
        at += grid;
    }
    for (i, bar) in plot.bars.iter().enumerate() {
        draw_bar(&mut svg, bar, HEAD + LINE * i as f64, &x);
    }
    for (line, up) in foot.iter().zip([24.0, 10.0]) {
        let _ = writeln!(
            svg,
            "<text x=\"16\" y=\"{}\" font-size=\"10\" fill=\"#5b626b\">{}</text>",
            height - up,
            escape(line)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_bar(svg: &mut String, bar: &Bar, top: f64, x: &dyn Fn(f64) -> f64) {
    let middle = top + LINE / 2.0;
    let colour = if bar.ours { OURS } else { OTHERS };
    let end = bar.whisker.map_or(bar.median, |w| w.1.max(bar.median));
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1a1d21\">{}</text><rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
        LABELS - 8.0,
        middle + 4.5,
        escape(&bar.label),
        top + 5.0,
        x(bar.median) - LABELS,
        LINE - 10.0,
    );
    if let Some((least, most)) = bar.whisker {
        let _ = writeln!(
            svg,
            "<path d=\"M{0:.1} {2:.1}H{1:.1}M{0:.1} {3:.1}V{4:.1}M{1:.1} {3:.1}V{4:.1}\" stroke=\"#1a1d21\" stroke-width=\"1.3\" fill=\"none\"/>",
            x(least),
            x(most),
            middle,
            middle - 4.0,
            middle + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1a1d21\">{}</text>",
        x(end) + 7.0,
        middle + 4.5,
        short(bar.median)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(bars: Vec<Bar>) -> String {
        let plot = Plot {
            file: "p.svg",
            title: "a < b & c",
            unit: "u",
            ours: VERIFIED,
            bars,
        };
        draw(&plot, &["foot <&>".into(), "command".into()])
    }

    fn bar(label: &str, median: f64) -> Bar {
        Bar {
            label: label.into(),
            median,
            whisker: Some((median * 0.9, median * 1.1)),
            ours: label == "ours",
        }
    }

    /// Tags opened and not closed, or closed and not opened; text that should have been escaped.
    fn is_well_formed(svg: &str) -> bool {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let Some((tag, text)) = piece.split_once('>') else {
                return false;
            };
            if text.contains('>')
                || text
                    .replace("&amp;", "")
                    .replace("&lt;", "")
                    .replace("&gt;", "")
                    .contains('&')
            {
                return false;
            }
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap_or("");
            if tag.starts_with('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            if tag.matches('"').count() % 2 != 0 {
                return false;
            }
        }
        open.is_empty()
    }

    #[test]
    fn what_is_drawn_is_well_formed() {
        let svg = plot(vec![bar("ours", 9.5), bar("<others>", 3.1)]);
        assert!(is_well_formed(&svg), "{svg}");
        assert!(!is_well_formed("<a><b></a>") && !is_well_formed("<a>&</a>"));
        assert_eq!(svg.matches(OURS).count(), 1);
        assert!(svg.contains("&lt;others&gt;") && !svg.contains("NaN"));
    }

    #[test]
    fn bars_stay_within_the_plot_and_in_proportion() {
        let svg = plot(vec![bar("ours", 9.0), bar("others", 4.5), bar("none", 0.0)]);
        let widths: Vec<f64> = svg
            .split("<rect x=")
            .skip(1)
            .filter_map(|r| r.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths.len(), 3);
        assert!(
            (widths[0] - 2.0 * widths[1]).abs() < 0.2 && widths[2] == 0.0,
            "{widths:?}"
        );
        assert!(widths[0] <= WIDTH - LABELS - FIGURES);
    }

    #[test]
    fn grid_lines_are_few_and_round() {
        assert_eq!(
            [0.0, 5.0, 10.0, 0.25, 100.0].map(tick),
            ["0", "5", "10", "0.25", "100"]
        );
        for (most, wanted) in [
            (9.9, 2.0),
            (10.0, 2.0),
            (10.1, 2.5),
            (0.3, 0.1),
            (100.0, 20.0),
            (1.0, 0.2),
        ] {
            assert!((step(most) - wanted).abs() < 1e-9, "{most}: {}", step(most));
        }
        assert!(!plot(vec![bar("ours", 0.0)]).contains("NaN"));
    }
}
