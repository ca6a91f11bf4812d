//! The share of tries and the p99 of each endpoint over time, as SVG. One column for each configuration.

use std::fmt::Write as _;

use super::figures::Run;
use super::report::Report;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
const GAP: f64 = 56.0;
/// Okabe and Ito's colours: told apart by those who see fewer, too.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];
const TICKS: u32 = 5;

/// A curve: points where there is a figure.
struct Curve<'a> {
    colour: &'a str,
    is_thick: bool,
    points: Vec<(f64, Option<f64>)>,
}

struct Panel<'a> {
    left: f64,
    top: f64,
    title: String,
    unit: &'a str,
    seconds: f64,
    highest: f64,
    curves: Vec<Curve<'a>>,
}

/// Draws it.
pub(super) fn draw(report: &Report) -> String {
    let names = report.runs.iter().flat_map(|run| run.endpoints.iter().map(|endpoint| endpoint.address.as_str()));
    let mut legend: Vec<&str> = names.collect();
    legend.sort_unstable();
    legend.dedup();
    let lines = legend.len() + 1;
    let width = LEFT + report.runs.len() as f64 * (WIDTH + LEFT);
    let legend_top = TOP + 2.0 * (HEIGHT + GAP);
    let height = legend_top + lines as f64 * 18.0 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Both columns have the same scale, or they could not be compared by eye.
    let highest = nice(report.runs.iter().flat_map(latencies).fold(0.0, f64::max));
    for (column, run) in report.runs.iter().enumerate() {
        let left = LEFT + column as f64 * (WIDTH + LEFT);
        let colour = |address: &str| colour(legend.iter().position(|name| *name == address));
        let curves = |of: &dyn Fn(usize, usize) -> Option<f64>| -> Vec<Curve<'_>> {
            let curve = |(number, address): (usize, &str)| Curve {
                colour: colour(address),
                is_thick: false,
                points: run.slots.iter().enumerate().map(|(at, slot)| (slot.from_seconds, of(at, number))).collect(),
            };
            run.endpoints.iter().map(|endpoint| endpoint.address.as_str()).enumerate().map(curve).collect()
        };
        let share = |at: usize, number: usize| Some(run.slots.get(at)?.shares.get(number)? * 100.0);
        let p99 = |at: usize, number: usize| *run.slots.get(at)?.endpoint_p99_ms.get(number)?;
        let title = |what: &str| {
            if report.runs.len() == 1 { what.to_owned() } else { format!("{}: {what}", run.configuration) }
        };
        let mut of_latency = curves(&p99);
        let all = run.slots.iter().map(|slot| (slot.from_seconds, slot.p99_ms)).collect();
        of_latency.push(Curve { colour: "#444444", is_thick: true, points: all });
        let seconds = report.seconds;
        for panel in [
            Panel {
                left,
                top: TOP,
                title: title("share of tries"),
                unit: "%",
                seconds,
                highest: 100.0,
                curves: curves(&share),
            },
            Panel {
                left,
                top: TOP + HEIGHT + GAP,
                title: title("p99"),
                unit: "ms",
                seconds,
                highest,
                curves: of_latency,
            },
        ] {
            panel.draw(&mut svg);
        }
    }
    for (line, name) in legend.iter().copied().chain(["all requests, as their clients see them"]).enumerate() {
        let is_all = line == legend.len();
        let (top, thick) = (legend_top + line as f64 * 18.0, if is_all { 3 } else { 2 });
        let colour = if is_all { "#444444" } else { colour(Some(line)) };
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{x2}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"{thick}\"/>\
             <text x=\"{x}\" y=\"{text}\">{}</text>",
            escaped(name),
            y = top - 4.0,
            x2 = LEFT + 24.0,
            x = LEFT + 32.0,
            text = top,
        );
    }
    svg + "</svg>\n"
}

impl Panel<'_> {
    fn draw(&self, svg: &mut String) {
        let (right, bottom) = (self.left + WIDTH, self.top + HEIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}</text>",
            self.left,
            self.top - 10.0,
            escaped(&self.title)
        );
        for tick in 0..=TICKS {
            let part = f64::from(tick) / f64::from(TICKS);
            let (y, x) = (bottom - part * HEIGHT, self.left + part * WIDTH);
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{label:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{} {}</text>\
                 <text x=\"{x:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{} s</text>",
                number(part * self.highest),
                self.unit,
                number(part * self.seconds),
                left = self.left,
                label = self.left - 6.0,
                middle = y + 4.0,
                below = bottom + 16.0,
            );
        }
        for curve in &self.curves {
            self.curve(curve, svg);
        }
    }

    /// Where there is no figure, the curve has a gap.
    fn curve(&self, curve: &Curve<'_>, svg: &mut String) {
        let mut path = String::new();
        let mut is_down = false;
        for (at, figure) in &curve.points {
            let Some(figure) = figure else {
                is_down = false;
                continue;
            };
            let x = self.left + at / self.seconds.max(f64::MIN_POSITIVE) * WIDTH;
            let y = self.top + HEIGHT - (figure / self.highest).clamp(0.0, 1.0) * HEIGHT;
            let _ = write!(path, "{}{x:.1} {y:.1}", if is_down { " L" } else { " M" });
            is_down = true;
        }
        let thick = if curve.is_thick { 3 } else { 2 };
        let _ = writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{thick}\" stroke-linecap=\"round\" opacity=\"0.8\"/>",
            path.trim_start(),
            curve.colour
        );
    }
}

fn latencies(run: &Run) -> impl Iterator<Item = f64> {
    run.slots.iter().flat_map(|slot| slot.endpoint_p99_ms.iter().copied().chain([slot.p99_ms])).flatten()
}

fn colour(position: Option<usize>) -> &'static str {
    COLOURS.get(position.unwrap_or_default() % COLOURS.len()).copied().unwrap_or("#000000")
}

/// The next number that is 1, 2 or 5 times a power of ten.
fn nice(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(highest.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= highest).unwrap_or(highest)
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (highest, scale) in [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (43.0, 50.0), (101.0, 200.0), (0.3, 0.5)] {
            assert!((nice(highest) - scale).abs() < 1e-9, "{highest}: {}", nice(highest));
        }
        assert_eq!((number(20.0), number(0.25), number(0.0)), ("20".to_owned(), "0.25".to_owned(), "0".to_owned()));
    }
}
