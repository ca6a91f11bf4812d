//! The Prometheus text format, version 0.0.4.
//!
//! Families in the order of their names, series in the order of their labels: two scrapes of the same numbers are the
//! same bytes. Labels without a value are left out, which Prometheus takes as the same thing.

use std::fmt::Write as _;

use super::metrics::{Buckets, Description, Distribution, Samples, Value};

/// What `Content-Type` says.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes all samples.
pub fn render(samples: &Samples) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in samples.families() {
        let description = &family.description;
        text.push_str("# HELP ");
        text.push_str(description.name);
        text.push(' ');
        escape(&mut text, description.help, Escape::Help);
        text.push_str("\n# TYPE ");
        text.push_str(description.name);
        text.push(' ');
        text.push_str(description.kind);
        text.push('\n');
        for (labels, value) in &family.samples {
            match (value, description.buckets) {
                (Value::Count(count), _) => line(&mut text, description, "", labels, None, &count.to_string()),
                (Value::Number(value), _) => line(&mut text, description, "", labels, None, &number(*value)),
                (Value::Distribution(distribution), Some(buckets)) => {
                    histogram(&mut text, description, labels, buckets, distribution);
                }
                // Only histograms have distributions.
                (Value::Distribution(_), None) => {}
            }
        }
    }
    text
}

fn histogram(
    text: &mut String,
    description: &Description,
    labels: &[Box<str>],
    buckets: &Buckets,
    distribution: &Distribution,
) {
    let unit = buckets.unit as f64;
    let mut total = 0_u64;
    let mut counts = distribution.counts.iter();
    for (bound, count) in buckets.bounds.iter().zip(counts.by_ref()) {
        total = total.wrapping_add(*count);
        line(text, description, "_bucket", labels, Some(&number(*bound as f64 / unit)), &total.to_string());
    }
    // The count is what the buckets say, so that one scrape never contradicts itself while workers go on counting.
    total = counts.fold(total, |total, count| total.wrapping_add(*count));
    line(text, description, "_bucket", labels, Some("+Inf"), &total.to_string());
    line(text, description, "_sum", labels, None, &number(distribution.sum as f64 / unit));
    line(text, description, "_count", labels, None, &total.to_string());
}

fn line(
    text: &mut String,
    description: &Description,
    suffix: &str,
    labels: &[Box<str>],
    bound: Option<&str>,
    value: &str,
) {
    text.push_str(description.name);
    text.push_str(suffix);
    let named = description.labels.iter().copied().zip(labels.iter().map(AsRef::as_ref));
    let mut before = '{';
    for (name, value) in named.chain(bound.map(|bound| ("le", bound))).filter(|(_, value)| !value.is_empty()) {
        text.push(before);
        text.push_str(name);
        text.push_str("=\"");
        escape(text, value, Escape::Label);
        text.push('"');
        before = ',';
    }
    if before == ',' {
        text.push('}');
    }
    text.push(' ');
    text.push_str(value);
    text.push('\n');
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    Help,
    Label,
}

fn escape(text: &mut String, value: &str, escape: Escape) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if escape == Escape::Label => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

fn number(value: f64) -> String {
    let mut text = String::new();
    if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        // Writing to a string does not fail.
        let _ = write!(text, "{value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::telemetry::metrics::{Counts, Family, Gauges, Registry};

    static COUNTED: Family<Counts, 2> = Family {
        name: "counted_total",
        help: "Counts \"things\" in C:\\ and\nmore.",
        labels: ["service", "error"],
        kind: Counts,
    };
    static MEASURED: Family<Gauges, 0> = Family { name: "measured", help: "A gauge.", labels: [], kind: Gauges };
    static TIMED: Family<Buckets, 1> = Family {
        name: "timed_ms",
        help: "Durations.",
        labels: ["service"],
        kind: Buckets { unit: 1000, bounds: &[500, 1_000, 10_000] },
    };

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let now = Instant::now();
        let registry = Registry::new(now);
        let web = registry.counter(&COUNTED, ["web", ""]);
        web.add(41);
        web.increment();
        let odd = registry.counter(&COUNTED, ["a\\b\"c\nd", "reset"]);
        odd.increment();
        let gauge = registry.gauge(&MEASURED, []);
        gauge.set(-0.25);
        let histogram = registry.histogram(&TIMED, ["web"]);
        for microseconds in [500, 501, 1_000, 9_000, 1_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let expected = r#"# HELP counted_total Counts "things" in C:\\ and\nmore.
# TYPE counted_total counter
counted_total{service="a\\b\"c\nd",error="reset"} 1
counted_total{service="web"} 42
# HELP measured A gauge.
# TYPE measured gauge
measured -0.25
# HELP timed_ms Durations.
# TYPE timed_ms histogram
timed_ms_bucket{service="web",le="0.5"} 1
timed_ms_bucket{service="web",le="1"} 3
timed_ms_bucket{service="web",le="10"} 4
timed_ms_bucket{service="web",le="+Inf"} 5
timed_ms_sum{service="web"} 1011.001
timed_ms_count{service="web"} 5
"#;
        assert_eq!(render(&registry.gather(now)), expected);
    }

    #[test]
    fn numbers_that_are_none_are_spelled_as_prometheus_does() {
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(3.0), "3");
        assert_eq!(number(1e15), "1000000000000000");
    }
}
