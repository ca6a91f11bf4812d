//! `cargo xtask outages`: what clients see while the place that endpoints are looked up in fails, and what tells of it.
//!
//! For each kind of place and each trouble: a gateway that runs as a process of its own, real endpoints behind it, requests
//! at a steady rate. The endpoints are well all the time, so that every request which fails is the registry's doing. All
//! places take part in one trouble at the same time, each with a gateway of its own.

mod drill;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum as _;

use crate::bench::network;
use crate::faults::{date, given};
use crate::places::{self, Kind, Trouble};
use crate::{gateway, workspace};
use drill::{Figures, Times};
use report::{Measured, Report};

/// The page that a whole run writes.
const PAGE: &str = "docs/outages.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these places; the page is not written then.
    #[arg(long, value_enum, value_delimiter = ',')]
    places: Vec<Kind>,
    /// Only these troubles; the page is not written then.
    #[arg(long, value_enum, value_delimiter = ',')]
    troubles: Vec<Trouble>,
    /// Requests a second at each gateway.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How long a trouble lasts, in seconds. An empty answer is believed after 30, so stay below.
    #[arg(long, default_value_t = 25)]
    length: u64,
    /// Another gateway than the one that is built here.
    #[arg(long, value_name = "FILE")]
    meshless: Option<PathBuf>,
    /// We are inside the network of our own already.
    #[arg(long, hide = true)]
    inside: bool,
}

/// Builds what is measured, then goes on inside a network of its own.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.inside {
        return inside(arguments);
    }
    let meshless = gateway::program(arguments.meshless.as_deref())?;
    // There is no way out of the network of our own.
    let _ = places::consul_program();
    let mut again = vec!["outages".to_owned(), "--inside".into()];
    again.push(format!("--rate={}", arguments.rate));
    again.push(format!("--length={}", arguments.length));
    again.push(format!("--meshless={}", meshless.display()));
    again.extend(given("places", &arguments.places));
    again.extend(given("troubles", &arguments.troubles));
    network::enter(&again)
}

/// Measures, prints the tables, and writes them as a page and as JSON.
fn inside(arguments: &Arguments) -> anyhow::Result<()> {
    network::prepare()?;
    let meshless = arguments.meshless.clone().context("no gateway was given")?;
    let folder = workspace::target()?.join("outages");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
    }
    let is_whole = arguments.places.is_empty() && arguments.troubles.is_empty();
    let places = if arguments.places.is_empty() { Kind::value_variants() } else { &arguments.places };
    let troubles = if arguments.troubles.is_empty() { Trouble::value_variants() } else { &arguments.troubles };
    let times = Times { length: Duration::from_secs(arguments.length), ..Times::default() };

    let mut report = Report { rate: arguments.rate, date: date()?, times, measured: Vec::new() };
    for trouble in troubles {
        let drill = |place: Kind| {
            let folder = folder.join(format!("{trouble:?}-{place:?}"));
            let figures = drill_in(&folder, &meshless, place, *trouble, arguments.rate, times);
            figures.with_context(|| format!("{}, {}", place.title(), trouble.title()))
        };
        let all: Vec<anyhow::Result<Option<Figures>>> = std::thread::scope(|scope| {
            let drill = &drill;
            let running: Vec<_> = places.iter().map(|place| scope.spawn(move || drill(*place))).collect();
            running
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a drill panicked"))))
                .collect()
        });
        for (place, figures) in places.iter().zip(all) {
            let Some(figures) = figures? else { continue };
            println!("{:<32} {:<28} {}", place.title(), trouble.title(), figures.json());
            report.measured.push(Measured { place: *place, trouble: *trouble, figures });
        }
    }
    report.measured.sort_by_key(|measured| (measured.place, measured.trouble));

    println!("\n{}\n{}", report.table(), report.log());
    let json = serde_json::to_string_pretty(&report.json()).context("write the figures as JSON")?;
    fs::write(folder.join("outages.json"), json + "\n").context("write the figures")?;
    if is_whole {
        fs::write(workspace::root().join(PAGE), report.page()).context("write the page")?;
        println!("written to {PAGE}");
    }
    println!("raw figures: {}", folder.display());
    Ok(())
}

/// Plays one trouble of one place in a folder of its own; `None` where there is no such trouble or no such place.
fn drill_in(
    folder: &Path,
    meshless: &Path,
    place: Kind,
    trouble: Trouble,
    rate: u32,
    times: Times,
) -> anyhow::Result<Option<Figures>> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    match place.start(folder)? {
        Some(place) => drill::run(folder, meshless, place, trouble, rate, times),
        None => Ok(None),
    }
}
