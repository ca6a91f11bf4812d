//! Figures as tables.

use std::fmt::Write as _;

use super::figures::{Phase, Run};
use super::report::Report;

/// Writes all tables. Where there are two configurations, their rows stand below each other.
pub(super) fn write(report: &Report) -> String {
    let mut text = format!("{} requests a second for {} s, seed {}\n\n", report.rate, report.seconds, report.seed);
    let mut phases = Table::new(&["", "", "requests", "errors", "", "p50 ms", "p99 ms", "tries/request", "retries"]);
    let count = report.runs.first().map_or(0, |run| run.phases.len());
    let is_one = report.runs.len() == 1;
    for number in 0..=count {
        if number == count && count == 1 {
            // The whole is that one phase.
            continue;
        }
        for run in &report.runs {
            let phase = run.phases.get(number).unwrap_or(&run.whole);
            phases.row(phase_row(run, phase, number == count, is_one));
        }
    }
    text.push_str(&phases.print());
    text.push('\n');
    for run in &report.runs {
        text.push_str(&endpoints(run, is_one).print());
        for note in &run.notes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "note: {note}");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn phase_row(run: &Run, phase: &Phase, is_whole: bool, is_one: bool) -> Vec<String> {
    vec![
        if is_whole { "all".to_owned() } else { span(phase) },
        if is_one { String::new() } else { run.configuration.clone() },
        phase.requests.to_string(),
        phase.errors.to_string(),
        percent(phase.error_share),
        format!("{:.1}", phase.p50_ms),
        format!("{:.1}", phase.p99_ms),
        format!("{:.2}", phase.amplification),
        phase.retries.to_string(),
    ]
}

fn endpoints(run: &Run, is_one: bool) -> Table {
    let title = if is_one { "share of tries".to_owned() } else { format!("share of tries, {}", run.configuration) };
    let mut head = vec![title];
    head.extend(run.phases.iter().map(span));
    head.extend(["all", "p99 ms", "ejections", "out after", "back after"].map(str::to_owned));
    let mut table = Table { rows: vec![head] };
    for (number, endpoint) in run.endpoints.iter().enumerate() {
        let share = |phase: &Phase| percent(phase.shares.get(number).copied().unwrap_or_default());
        let after = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.2} s"));
        let mut row = vec![endpoint.address.clone()];
        row.extend(run.phases.iter().map(share));
        row.extend([
            share(&run.whole),
            format!("{:.1}", endpoint.p99_ms),
            endpoint.ejections.to_string(),
            after(endpoint.ejected_after_seconds),
            after(endpoint.back_after_seconds),
        ]);
        table.row(row);
    }
    table
}

fn span(phase: &Phase) -> String {
    format!("{}–{} s", phase.from_seconds, phase.to_seconds)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Columns as wide as their widest cell: the first one to the left, the others to the right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn print(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match (column, width) {
                    (_, 0) => Ok(()),
                    (0, _) => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                }
                .unwrap_or_default();
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
