//! `meshless platform`: what is known of the place that this runs in.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use meshless::compose::processors;
use meshless_platforms::{Located, MemoryGroups, Platform, Process, Surroundings, Whereabouts};
use serde_json::json;
use tokio::runtime::Builder;

use super::{Exit, complain, print};

/// Show where this runs: each value for `${…}`, who says it, and what is not known; exit code 69 if a platform that is named
/// does not answer
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Platform to ask, as node.platform takes it (default: auto, the one that this looks like)
    #[arg(value_name = "PLATFORM", value_parser = ["auto", "ec2", "ecs", "kubernetes", "nomad", "vm"])]
    platform: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Exit {
        let named = self.platform.as_deref().and_then(Platform::parse);
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let text = format!("error: {error}\nhint: the system refused a runtime; look at its limits\n");
                return complain(&text, Exit::Failed);
            }
        };
        let place = Arc::new(runtime.block_on(Whereabouts::find(named, &Process)));
        let bounds = Bounds::of(&place);
        let text = if self.json { bounds.json(&place) } else { bounds.text(&place) };
        match print(&text) {
            Exit::Done if named.is_some() && place.unanswered.is_some() => Exit::Unreachable,
            exit => exit,
        }
    }
}

/// What a gateway would be given here.
struct Bounds {
    workers: usize,
    workers_because: String,
    /// Of the control group, in bytes.
    memory: Option<u64>,
}

impl Bounds {
    fn of(place: &Arc<Whereabouts>) -> Self {
        let located = Located::new(Arc::new(Process), place.clone());
        let workers = processors(&located);
        let read = |path: &str| located.file(path);
        let memory = MemoryGroups::find(&read).and_then(|groups| groups.read(&read));
        Self {
            workers: workers.count,
            workers_because: workers.bound.to_string(),
            memory: memory.map(|memory| memory.limit),
        }
    }

    fn json(&self, place: &Whereabouts) -> String {
        let value = json!({
            "platform": place.platform,
            "because": place.because,
            "unanswered": place.unanswered,
            "values": place.values,
            "missing": place.missing,
            "limits": { "cpus": place.limits.cpus, "memory_bytes": place.limits.memory },
            "workers": self.workers,
            "workers_because": self.workers_because,
            "memory_bytes": self.memory,
        });
        format!("{value:#}\n")
    }

    fn text(&self, place: &Whereabouts) -> String {
        let mut text = format!("platform {}: {}\n", place.platform, place.because);
        if let Some(reason) = &place.unanswered {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  does not answer: {reason}");
        }
        let values = place.values.iter().map(|(name, fact)| [name.clone(), fact.value.clone(), fact.from.clone()]);
        table(&mut text, ["NAME", "VALUE", "FROM"], values.collect());
        let mut limits = vec![["workers".to_owned(), self.workers.to_string(), self.workers_because.clone()]];
        let mut memory = |bytes: Option<u64>, from: &str| {
            if let Some(bytes) = bytes {
                limits.push(["memory".to_owned(), format!("{}MiB", bytes >> 20), from.to_owned()]);
            }
        };
        memory(self.memory, "the control group");
        memory(place.limits.memory, "the platform");
        table(&mut text, ["LIMIT", "VALUE", "FROM"], limits);
        let missing = place.missing.iter().map(|(name, reason)| [name.clone(), reason.clone()]);
        table(&mut text, ["NOT KNOWN", "BECAUSE"], missing.collect());
        text
    }
}

/// Prints columns as wide as they need to be; nothing where there are no rows.
fn table<const COLUMNS: usize>(text: &mut String, heads: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) {
    if rows.is_empty() {
        return;
    }
    let mut widths = heads.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    text.push('\n');
    for row in std::iter::once(heads.map(str::to_owned)).chain(rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}
