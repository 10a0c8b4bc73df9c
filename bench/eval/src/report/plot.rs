//! One plot a question: horizontal bars, whiskers to the worst run, a line where the truth or a promise is; SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Report;
use super::rows::or_none;

/// Width of a plot, and of what stands left of the bars and right of them, pixels.
const WIDTH: f64 = 760.0;
const LABELS: f64 = 210.0;
const FIGURES: f64 = 80.0;
/// Height of a bar with its gap, and of what stands above and below all bars, pixels.
const LINE: f64 = 24.0;
const HEAD: f64 = 64.0;
const FOOT: f64 = 58.0;

/// Colours: told apart without colour vision as well. The dark one is what the product stands for.
const STRONG: &str = "#1f5fa8";
const WEAK: &str = "#b0b6bd";
const MARK: &str = "#c2410c";

/// A bar.
#[derive(Clone, Debug, PartialEq)]
struct Bar {
    label: String,
    value: f64,
    /// The worst run, where it is not the bar itself.
    worst: Option<f64>,
    strong: bool,
}

/// A plot.
struct Plot {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    /// Where the truth, or the promise, is.
    mark: f64,
    bars: Vec<Bar>,
}

/// Writes a plot for each question that the report answers; returns the files.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<Vec<PathBuf>> {
    let machine = &report.machine;
    let foot = [
        format!(
            "{}, {} cores, Linux {} · {} · a veth: no wire, no card",
            machine.cpu_model,
            machine.cores,
            machine.kernel,
            report.date.get(..10).unwrap_or(&report.date),
        ),
        report.command.clone(),
    ];
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut files = Vec::new();
    for plot in questions(report) {
        if plot.bars.is_empty() {
            continue;
        }
        let path = directory.join(plot.file);
        fs::write(&path, draw(&plot, &foot))
            .with_context(|| format!("cannot write {}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}

fn questions(report: &Report) -> Vec<Plot> {
    let accuracy = report.accuracy.iter().filter_map(|row| {
        let common = &row.common;
        let mut label = format!("{} Mbit/s · n={}", common.rate / 1_000_000, common.n);
        let _ = write!(label, " · {} ms", common.d_ms);
        if common.rtt_ms > 0 {
            let _ = write!(label, " · RTT {}", common.rtt_ms);
        }
        Some(Bar {
            label,
            value: row.err_median_pct?,
            worst: row.err_worst_pct,
            strong: true,
        })
    });
    let pair = |label: String, measured: Option<f64>, guaranteed: Option<f64>| {
        let bar = |strong: bool, kind: &str, value: Option<f64>| {
            value.map(|value| Bar {
                label: format!("{label}, {kind}"),
                value,
                worst: None,
                strong,
            })
        };
        let both = [
            bar(false, "measured", measured),
            bar(true, "guaranteed", guaranteed),
        ];
        both.into_iter().flatten()
    };
    let attacks = report.attacks.iter().flat_map(|row| {
        let label = or_none(&row.name).to_owned();
        pair(label, row.measured_over_true, row.guaranteed_over_true)
    });
    let corruption = report.corruption.iter().flat_map(|row| {
        let label = format!("{} f={}", or_none(&row.attack), row.common.f);
        pair(label, row.measured, row.guaranteed)
    });
    let shaper = report.shaper.iter().flat_map(|row| {
        let label = format!("{} B, {} ms", row.bucket_bytes, row.common.d_ms);
        let told = row.sustained_over_true.map(|value| Bar {
            label: format!("{label}, sustained at least"),
            value,
            worst: None,
            strong: true,
        });
        let measured = row.measured_over_true.map(|value| Bar {
            label: format!("{label}, measured"),
            value,
            worst: None,
            strong: false,
        });
        measured.into_iter().chain(told)
    });
    let cross = report.cross.iter().flat_map(|row| {
        let label = format!("others {} %", row.percent);
        pair(label, row.measured_over_link, row.guaranteed_over_link)
    });
    let plot = |file, title, unit, mark, bars| Plot {
        file,
        title,
        unit,
        mark,
        bars,
    };
    vec![
        plot(
            "accuracy.svg",
            "How far the figure is from the truth",
            "percent of the true rate: bar median, whisker worst run; line: 2 % are promised up to 1000 Mbit/s",
            2.0,
            accuracy.collect(),
        ),
        plot(
            "attacks.svg",
            "What attacks make of the figure",
            "over the true rate, worst run; blue: guaranteed; line: the truth",
            1.0,
            attacks.collect(),
        ),
        plot(
            "corruption.svg",
            "What f corrupt of ten make of the figure",
            "over the true rate; blue: guaranteed; line: the truth",
            1.0,
            corruption.collect(),
        ),
        plot(
            "shaper.svg",
            "A link that is fast for a moment",
            "over what it carries in the long run; blue: what the product tells; line: the truth",
            1.0,
            shaper.collect(),
        ),
        plot(
            "cross.svg",
            "A link that others use too",
            "over the link's rate; blue: guaranteed; line: the link",
            1.0,
            cross.collect(),
        ),
    ]
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `most / 5`: some five grid lines.
fn step(most: f64) -> f64 {
    let raw = (most / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(raw.log10().floor());
    let fits = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= raw * 0.999_999);
    fits.unwrap_or(10.0) * power
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A round number without the zeros that round ones end in.
fn tick(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn draw(plot: &Plot, foot: &[String; 2]) -> String {
    let reach = |b: &Bar| b.worst.map_or(b.value, |w| w.max(b.value));
    let most = plot.bars.iter().map(reach).fold(plot.mark, f64::max);
    let grid = step(most);
    let span = (most / grid).ceil() * grid;
    let x = |value: f64| LABELS + value / span * (WIDTH - LABELS - FIGURES);
    let bottom = HEAD + LINE * plot.bars.len() as f64;
    let height = bottom + FOOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"600\" fill=\"#1a1d21\">{title}</text>\n<text x=\"16\" y=\"46\" fill=\"#5b626b\">{unit}</text>\n",
        title = escape(plot.title),
        unit = escape(plot.unit),
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
    let _ = writeln!(
        svg,
        "<line x1=\"{0:.1}\" y1=\"{HEAD}\" x2=\"{0:.1}\" y2=\"{bottom}\" stroke=\"{MARK}\" stroke-width=\"1.5\"/>",
        x(plot.mark)
    );
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
    let colour = if bar.strong { STRONG } else { WEAK };
    let end = bar.worst.map_or(bar.value, |w| w.max(bar.value));
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1a1d21\">{}</text><rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
        LABELS - 8.0,
        middle + 4.0,
        escape(&bar.label),
        top + 4.0,
        (x(bar.value) - LABELS).max(0.0),
        LINE - 8.0,
    );
    if let Some(worst) = bar.worst {
        let _ = writeln!(
            svg,
            "<path d=\"M{0:.1} {2:.1}H{1:.1}M{1:.1} {3:.1}V{4:.1}\" stroke=\"#1a1d21\" stroke-width=\"1.3\" fill=\"none\"/>",
            x(bar.value),
            x(worst),
            middle,
            middle - 4.0,
            middle + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1a1d21\">{:.2}</text>",
        x(end) + 7.0,
        middle + 4.0,
        bar.value
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64, worst: Option<f64>) -> Bar {
        Bar {
            label: label.into(),
            value,
            worst,
            strong: label == "ours",
        }
    }

    fn plot(bars: Vec<Bar>) -> String {
        let plot = Plot {
            file: "p.svg",
            title: "a < b & c",
            unit: "u",
            mark: 1.0,
            bars,
        };
        draw(&plot, &["foot <&>".into(), "command".into()])
    }

    #[test]
    fn what_is_drawn_is_escaped_and_every_tag_closed() {
        let svg = plot(vec![
            bar("ours", 9.5, Some(12.0)),
            bar("<others>", 3.1, None),
        ]);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("&lt;others&gt;"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert_eq!(svg.matches('"').count() % 2, 0);
        assert_eq!(
            (svg.matches(STRONG).count(), svg.matches(MARK).count()),
            (1, 1)
        );
        assert!(!plot(vec![bar("ours", 0.0, None)]).contains("NaN"));
    }

    #[test]
    fn bars_stay_within_the_plot_and_in_proportion() {
        let svg = plot(vec![bar("ours", 9.0, None), bar("others", 4.5, Some(9.9))]);
        let rects = svg.split("<rect x=").skip(1);
        let widths: Vec<f64> = rects
            .filter_map(|r| r.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths.len(), 2);
        assert!((widths[0] - 2.0 * widths[1]).abs() < 0.2, "{widths:?}");
        assert!(widths[0] <= WIDTH - LABELS - FIGURES);
    }

    #[test]
    fn grid_lines_are_few_and_round() {
        for (most, wanted) in [(9.9, 2.0), (10.1, 2.5), (0.3, 0.1), (100.0, 20.0)] {
            assert!((step(most) - wanted).abs() < 1e-9, "{most}: {}", step(most));
        }
        assert_eq!([0.0, 0.25, 100.0].map(tick), ["0", "0.25", "100"]);
    }
}
