//! What was read at one time, ready to be written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Counts, Description, Distribution, Family, Gauges};

/// Values of the labels, in the family's order.
pub type Labels = Arc<[Box<str>]>;

/// Everything that was read at one time, by name and then labels.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<&'static str, FamilySamples>);

/// What was read of one family.
#[derive(Debug)]
pub struct FamilySamples {
    /// The family.
    pub description: Description,
    /// Values by labels.
    pub samples: BTreeMap<Labels, Value>,
}

/// One value that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A counter.
    Count(u64),
    /// A histogram.
    Distribution(Box<Distribution>),
    /// A gauge, or a counter that is not whole.
    Number(f64),
}

impl Samples {
    /// Adds a gauge.
    pub fn gauge<const LABELS: usize>(
        &mut self,
        family: &'static Family<Gauges, LABELS>,
        labels: [&str; LABELS],
        value: f64,
    ) {
        self.push(family.describe(), labels.iter().map(|label| Box::from(*label)).collect(), Value::Number(value));
    }

    /// Adds a counter that is kept elsewhere.
    pub fn count<const LABELS: usize>(
        &mut self,
        family: &'static Family<Counts, LABELS>,
        labels: [&str; LABELS],
        value: f64,
    ) {
        self.push(family.describe(), labels.iter().map(|label| Box::from(*label)).collect(), Value::Number(value));
    }

    /// Returns the families that have a series, in the order of their names.
    pub fn families(&self) -> impl Iterator<Item = &FamilySamples> {
        self.0.values()
    }

    /// Returns one value; `None` if there is no such series.
    pub fn value(&self, name: &str, labels: &[&str]) -> Option<&Value> {
        let labels: Labels = labels.iter().map(|label| Box::from(*label)).collect();
        self.0.get(name)?.samples.get(&labels)
    }

    pub(super) fn push(&mut self, description: Description, labels: Labels, value: Value) {
        self.0
            .entry(description.name)
            .or_insert_with(|| FamilySamples { description, samples: BTreeMap::new() })
            .samples
            .insert(labels, value);
    }
}
