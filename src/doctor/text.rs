//! Prints a report for people.

use std::fmt::{self, Write as _};

use super::Report;
use crate::targets::plain;

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let width = self.findings().map(|found| found.what.chars().count()).filter(|width| *width <= 32).max();
        let width = width.unwrap_or_default();
        for section in &self.sections {
            writeln!(text, "{}", section.name)?;
            for found in &section.findings {
                writeln!(text, "  {:<7}  {:<width$}  {}", found.verdict, found.what, indented(&found.seen))?;
                if let Some(remedy) = &found.remedy {
                    writeln!(text, "           do: {}", indented(remedy))?;
                }
            }
            text.push('\n');
        }
        let count = |verdict: &str| self.findings().filter(|found| found.verdict == verdict).count();
        let plural = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        writeln!(
            text,
            "{} ok, {}, {}",
            count("ok"),
            plural(count("warning"), "warning"),
            plural(count("problem"), "problem")
        )?;
        formatter.write_str(&plain(&text))
    }
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n             ")
}

#[cfg(test)]
mod tests {
    use meshless_discovery::Finding;

    use super::super::Section;
    use super::*;

    #[test]
    fn a_report_reads_from_top_to_bottom_and_ends_with_a_count() {
        let report = Report::new([
            Section::new("process", [Finding::good("clock", "2026-09-30T12:00:00.000Z")]),
            Section::new(
                "backend consul",
                [
                    Finding::good("reachable", "1.20.1\u{7}"),
                    Finding::bad("permissions", "denied: 403\nsecond line", "give the token service:read"),
                    Finding::warning("clock", "3 s ahead", "look at chrony"),
                ],
            ),
        ]);
        let expected = "\
process
  ok       clock        2026-09-30T12:00:00.000Z

backend consul
  ok       reachable    1.20.1\u{fffd}
  problem  permissions  denied: 403
             second line
           do: give the token service:read
  warning  clock        3 s ahead
           do: look at chrony

2 ok, 1 warning, 1 problem
";
        assert_eq!(report.to_string(), expected);
    }
}
