//! The picture: for each plan and kind the operations per window of a paced client and of leadgate, and a mark at the maximum.

use std::fmt::Write as _;

use crate::work::Kind;
use crate::{Cell, PLANS};

const WIDTH: f64 = 860.0;
const TOP: f64 = 96.0;
/// The height of a plan's heading, and of each kind below it.
const HEADING: f64 = 34.0;
const LINE: f64 = 34.0;
const BAR: f64 = 12.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 790.0;
/// The ends of the axis, which is logarithmic.
const LEAST: f64 = 1.0;
const MAX: f64 = 3_000.0;
const DECADES: [f64; 4] = [1.0, 10.0, 100.0, 1_000.0];

const STYLE: &str = "
    .page { fill: #ffffff } text { fill: #1f2328; font: 13px system-ui, sans-serif } .small { font-size: 11px }
    .title { font-size: 15px; font-weight: 600 } .plan { font-weight: 600 } .grid { stroke: #d1d9e0 }
    .paced { fill: #9a6700; fill-opacity: .75 } .ours { fill: #1a7f37; fill-opacity: .9 }
    .most { stroke: #1f2328; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #3d444d } .most { stroke: #e6edf3 }
      .paced { fill: #d29922 } .ours { fill: #3fb950 }
    }";

/// The picture of all cells.
pub(crate) fn draw(cells: &[Cell]) -> String {
    let height = TOP + HEADING * PLANS.len() as f64 + LINE * cells.len() as f64 + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Operations per window by plan and kind, of a paced client and of leadgate\">\n  <style>{STYLE}\n  \
         </style>\n  <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n"
    );
    text(&mut svg, (20.0, 30.0), "title", "Operations per window of one quota");
    legend(&mut svg);
    for decade in DECADES {
        let (x, y) = (at(decade), height - 12.0);
        let _ = writeln!(
            svg,
            "  <text class=\"small\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{decade}</text>"
        );
    }
    let mut y = TOP;
    for plan in PLANS {
        let heading = format!("{} calls, of which {} bulk", plan.calls, plan.bulk);
        text(&mut svg, (20.0, y), "plan", &heading);
        y += HEADING - 20.0;
        grid(&mut svg, y);
        for cell in cells
            .iter()
            .filter(|cell| (cell.plan.calls, cell.plan.bulk) == (plan.calls, plan.bulk))
        {
            line(&mut svg, cell, y);
            y += LINE;
        }
        y += 20.0;
    }
    svg + "</svg>\n"
}

fn legend(svg: &mut String) {
    for (x, class, name) in [(20.0, "paced", "paced client"), (140.0, "ours", "leadgate")] {
        let _ = writeln!(
            svg,
            "  <rect class=\"{class}\" x=\"{x}\" y=\"45\" width=\"14\" height=\"{BAR}\"/>"
        );
        text(svg, (x + 20.0, 56.0), "small", name);
    }
    let _ = writeln!(
        svg,
        "  <line class=\"most\" x1=\"240\" y1=\"44\" x2=\"240\" y2=\"58\"/>"
    );
    text(
        svg,
        (248.0, 56.0),
        "small",
        "maximum that the limits allow; the scale is logarithmic",
    );
}

/// The lines behind the bars of a plan.
fn grid(svg: &mut String, y: f64) {
    let bottom = y + LINE * Kind::ALL.len() as f64 - 6.0;
    for x in DECADES.map(at) {
        let _ = writeln!(
            svg,
            "  <line class=\"grid\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>"
        );
    }
}

fn line(svg: &mut String, cell: &Cell, y: f64) {
    text(svg, (40.0, y + BAR + 4.0), "", cell.kind.name());
    let bars = [("paced", cell.paced.operations), ("ours", cell.ours.operations)];
    for (row, (class, operations)) in bars.into_iter().enumerate() {
        let (y, x) = (y + BAR * row as f64, at(operations));
        let _ = writeln!(
            svg,
            "  <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>",
            x - LEFT
        );
        // Clear of the mark, which may be right at the end of the bar.
        text(svg, (x + 8.0, y + 10.0), "small", &format!("{operations:.1}"));
    }
    let x = at(cell.kind.optimum(cell.plan));
    let (top, bottom) = (y + BAR - 1.0, y + 2.0 * BAR + 1.0);
    let _ = writeln!(
        svg,
        "  <line class=\"most\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, words: &str) {
    let _ = writeln!(
        svg,
        "  <text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}

fn at(operations: f64) -> f64 {
    let place = (operations.clamp(LEAST, MAX) / LEAST).ln() / (MAX / LEAST).ln();
    LEFT + (RIGHT - LEFT) * place
}
