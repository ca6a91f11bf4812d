//! `cargo xtask discovery`: what looking endpoints up costs, and how soon a change is used.
//!
//! One name over several places, the time from a change to the first request, thousands of services, and the calls of an AWS
//! account: each part is a file below, and a section of docs/discovery-figures.md.

mod delay;
mod ecs;
mod report;
mod scale;
mod tiers;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::bench::network;
use crate::faults::{date, given};
use crate::places::Kind;
use crate::{gateway, places, workspace};
use report::Report;

/// The page that a whole run writes.
const PAGE: &str = "docs/discovery-figures.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these parts; the page is not written then.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Only these places, for `delay`, or in this order for `tiers`; the page is not written then.
    #[arg(long, value_enum, value_delimiter = ',')]
    places: Vec<Kind>,
    /// Another gateway than the one that is built here.
    #[arg(long, value_name = "FILE")]
    meshless: Option<PathBuf>,
    /// We are inside the network of our own already.
    #[arg(long, hide = true)]
    inside: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Part {
    /// One name over several places, each lost in turn.
    Tiers,
    /// From a change to the first request.
    Delay,
    /// Thousands of services in Consul.
    Scale,
    /// Calls of the ECS API.
    Ecs,
}

/// Builds what is measured, then goes on inside a network of its own.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.inside {
        return inside(arguments);
    }
    let meshless = gateway::program(arguments.meshless.as_deref())?;
    // There is no way out of the network of our own.
    let _ = places::consul_program();
    let mut again = vec!["discovery".to_owned(), "--inside".into(), format!("--meshless={}", meshless.display())];
    again.extend(given("parts", &arguments.parts));
    again.extend(given("places", &arguments.places));
    network::enter(&again)
}

/// Measures, prints the tables, and writes them as a page and as JSON.
fn inside(arguments: &Arguments) -> anyhow::Result<()> {
    network::prepare()?;
    let meshless = arguments.meshless.clone().context("no gateway was given")?;
    let folder = workspace::target()?.join("discovery-figures");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let is_whole = arguments.parts.is_empty() && arguments.places.is_empty();
    let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
    let mut report = Report { date: date()?, ..Report::default() };

    if parts.contains(&Part::Tiers) {
        let kinds = if arguments.places.is_empty() { tiers::KINDS.as_slice() } else { &arguments.places };
        let figures = tiers::run(&folder.join("tiers"), &meshless, kinds, 200, Duration::from_secs(5));
        report.tiers = figures.context("one name over several places")?;
    }
    if parts.contains(&Part::Delay) {
        let kinds = if arguments.places.is_empty() { Kind::value_variants() } else { &arguments.places };
        for kind in kinds {
            println!("from a change to the first request: {}", kind.title());
            let figures = delay::run(&folder.join(format!("delay-{kind:?}")), &meshless, *kind);
            report.delays.extend(figures.with_context(|| kind.title())?);
        }
    }
    if parts.contains(&Part::Scale) {
        match places::consul_program() {
            Some(consul) => report.scale = scale::run(&folder, &meshless, &consul).context("thousands of services")?,
            None => println!("no Consul here: thousands of services are not measured"),
        }
    }
    if parts.contains(&Part::Ecs) {
        println!("calls of the ECS API, for {} s", ecs::LENGTH.as_secs() * 3);
        report.ecs = Some(ecs::run(&folder.join("ecs"), &meshless).context("calls of the ECS API")?);
    }

    println!("\n{}", report.sections());
    let json = serde_json::to_string_pretty(&report.json()).context("write the figures as JSON")?;
    fs::write(folder.join("discovery.json"), json + "\n").context("write the figures")?;
    if is_whole {
        fs::write(workspace::root().join(PAGE), report.page()).context("write the page")?;
        println!("written to {PAGE}");
    }
    println!("raw figures: {}", folder.display());
    Ok(())
}
