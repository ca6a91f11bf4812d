//! What came of a simulation.

use serde::Serialize;

use super::figures::Run;
use super::{plot, text};

/// All figures: one run, or two of two configurations beside each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Requests a second.
    pub rate: f64,
    /// Length of the load, in seconds.
    pub seconds: f64,
    /// What luck was made from.
    pub seed: u64,
    /// One for each configuration.
    pub runs: Vec<Run>,
}

impl Report {
    /// Returns it as tables.
    pub fn text(&self) -> String {
        text::write(self)
    }

    /// Returns it as JSON, indented, with a line's end.
    pub fn json(&self) -> String {
        // Numbers, texts and lists are always JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Returns the share of tries and the p99 of each endpoint over time as a picture.
    pub fn svg(&self) -> String {
        plot::draw(self)
    }
}
