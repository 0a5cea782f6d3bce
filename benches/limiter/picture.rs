//! The picture: one line for each limiter and one dot for each kind of window. Left: used quota. Right: refused calls.

use std::fmt::Write as _;

use crate::{KINDS, Row};

const WIDTH: f64 = 860.0;
const TOP: f64 = 96.0;
const LINE: f64 = 38.0;
/// The two panels, from left to right.
const USED: (f64, f64) = (230.0, 520.0);
const REFUSED: (f64, f64) = (570.0, 840.0);

const STYLE: &str = "
    .page { fill: #ffffff } text { fill: #1f2328; font: 13px system-ui, sans-serif } .small { font-size: 11px }
    .title { font-size: 15px; font-weight: 600 } .ours { font-weight: 700 } .grid { stroke: #d1d9e0 }
    .dot { fill: #9a6700; fill-opacity: .75 } .dot.ours { fill: #1a7f37; fill-opacity: .9 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #3d444d }
      .dot { fill: #d29922 } .dot.ours { fill: #3fb950 }
    }";

/// The picture of the saturated runs.
pub(crate) fn draw(rows: &[Row]) -> String {
    let height = TOP + LINE * rows.len() as f64 + 62.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Share of the quota used and share of calls refused, by limiter\">\n  <style>{STYLE}\n  </style>\n  \
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n"
    );
    text(
        &mut svg,
        (20.0, 30.0),
        "title",
        "25 calls in 5 s, a call is always waiting, 8 ms of jitter with spikes",
    );
    text(&mut svg, (USED.0, 58.0), "", "quota used: farther right is better");
    text(&mut svg, (REFUSED.0, 58.0), "", "calls refused: farther left is better");
    let bottom = height - 58.0;
    for share in [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] {
        tick(&mut svg, used_at(share), bottom, &format!("{:.0} %", share * 100.0));
    }
    for (share, label) in [
        (0.0, "0"),
        (1e-4, "0.01 %"),
        (1e-3, "0.1 %"),
        (1e-2, "1 %"),
        (0.1, "10 %"),
        (0.5, "50 %"),
    ] {
        tick(&mut svg, refused_at(share), bottom, label);
    }
    for (number, row) in rows.iter().enumerate() {
        line(&mut svg, row, TOP + LINE * number as f64);
    }
    let kinds: Vec<_> = KINDS.iter().map(|(_, name)| *name).collect();
    let legend = format!(
        "One dot for each way in which the server may count: {}.",
        kinds.join("; ")
    );
    text(&mut svg, (20.0, height - 14.0), "small", &legend);
    svg + "</svg>\n"
}

fn line(svg: &mut String, row: &Row, y: f64) {
    let class = if row.name.contains("**") { "ours" } else { "" };
    let name = row.name.replace(['*', '`'], "");
    text(svg, (20.0, y + 5.0), class, &name);
    for (number, report) in row.saturated.iter().enumerate() {
        // Apart by a little, so that dots of one value are seen to be several.
        let y = y + 4.0 * (number as f64 - 2.0);
        for x in [used_at(report.utilisation()), refused_at(report.refused_share())] {
            let _ = writeln!(
                svg,
                "  <circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>"
            );
        }
    }
}

fn tick(svg: &mut String, x: f64, bottom: f64, label: &str) {
    let top = TOP - 24.0;
    let _ = writeln!(
        svg,
        "  <line class=\"grid\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\n  \
         <text class=\"small\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
        bottom + 15.0
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, words: &str) {
    let _ = writeln!(svg, "  <text class=\"{class}\" x=\"{x}\" y=\"{y}\">{words}</text>");
}

/// From 50 to 100 %.
fn used_at(share: f64) -> f64 {
    USED.0 + (USED.1 - USED.0) * ((share - 0.5) / 0.5).clamp(0.0, 1.0)
}

/// By powers of ten from 0.01 to 50 %, and what is less between there and nothing.
fn refused_at(share: f64) -> f64 {
    let (least, most) = (1e-4_f64, 0.5_f64);
    let place = if share < least {
        0.15 * share / least
    } else {
        0.15 + 0.85 * (share / least).ln() / (most / least).ln()
    };
    REFUSED.0 + (REFUSED.1 - REFUSED.0) * place.min(1.0)
}
