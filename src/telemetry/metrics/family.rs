//! What a metric is: its name, kind and labels, checked by the compiler where it is used.

/// A metric: a name, its meaning and the names of its labels. Their number is part of the type, so that a handle with a
/// label too few does not compile.
#[derive(Debug)]
pub struct Family<Kind, const LABELS: usize> {
    /// The name; units are in it.
    pub name: &'static str,
    /// One sentence for `# HELP`.
    pub help: &'static str,
    /// Names of the labels.
    pub labels: [&'static str; LABELS],
    /// What kind of number it is.
    pub kind: Kind,
}

/// A number that only goes up.
#[derive(Debug, Clone, Copy)]
pub struct Counts;

/// A number that goes up and down.
#[derive(Debug, Clone, Copy)]
pub struct Gauges;

/// The buckets of a histogram of durations.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    /// Microseconds in one unit of the metric: 1,000 for `_ms`, 1,000,000 for `_seconds`.
    pub unit: u64,
    /// Upper bounds in microseconds, rising; at most [`Buckets::MOST`].
    pub bounds: &'static [u64],
}

impl Buckets {
    /// Most bounds that a histogram may have; its slots have a fixed size.
    pub const MOST: usize = 30;
}

/// What a family is, without its type.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// What Prometheus calls it: `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// For histograms.
    pub buckets: Option<&'static Buckets>,
}

impl<const LABELS: usize> Family<Counts, LABELS> {
    /// Returns what it is, without its type.
    pub const fn describe(&'static self) -> Description {
        Description { name: self.name, help: self.help, labels: &self.labels, kind: "counter", buckets: None }
    }
}

impl<const LABELS: usize> Family<Gauges, LABELS> {
    /// Returns what it is, without its type.
    pub const fn describe(&'static self) -> Description {
        Description { name: self.name, help: self.help, labels: &self.labels, kind: "gauge", buckets: None }
    }
}

impl<const LABELS: usize> Family<Buckets, LABELS> {
    /// Returns what it is, without its type.
    pub const fn describe(&'static self) -> Description {
        let buckets = Some(&self.kind);
        Description { name: self.name, help: self.help, labels: &self.labels, kind: "histogram", buckets }
    }
}
