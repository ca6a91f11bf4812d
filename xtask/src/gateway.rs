//! A gateway that runs as a process of its own, and what it tells of itself.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::process::Service;
use crate::{http, process, workspace};

/// Longest that it may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway; ends with this.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Where its one listener is.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    service: Service,
}

/// A line of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) message: String,
    /// What went wrong, where the line says so.
    pub(crate) error: String,
}

impl Gateway {
    /// Starts one in a folder of its own. `configuration` has everything but node, admin, telemetry and the listener.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        configuration: &str,
        variables: &[(&'static str, String)],
    ) -> anyhow::Result<Self> {
        let (address, admin) = (http::free_address()?, http::free_address()?);
        let text = format!(
            "[node]\nworkers = 1\nstate_dir = \"{}\"\n\n[admin]\nlisten = \"{admin}\"\n\n[telemetry]\naccess_log = \"off\"\n\n\
             [[listeners]]\nname = \"edge\"\nlisten = \"{address}\"\nlimits = {{ requests_per_connection = 0 }}\n\n{configuration}",
            folder.join("state").display(),
        );
        let file = folder.join("meshless.toml");
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        let mut command = Command::new(program);
        command.args(["run", "-c"]).arg(file).envs(variables.iter().cloned());
        let mut service = Service::start("the gateway", &mut command, &folder.join("gateway.log"))?;
        service.until(PATIENCE, |_| http::status(admin, "/ready").ok().filter(|status| *status == 200))?;
        Ok(Self { address, admin, service })
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.service.id()
    }

    /// Returns its metrics as they are now.
    pub(crate) fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(http::get(self.admin, "/metrics")?))
    }

    /// Returns what it tells of all endpoints, as JSON.
    pub(crate) fn endpoints(&self) -> anyhow::Result<String> {
        http::get(self.admin, "/endpoints")
    }

    /// Waits until so many endpoints of all services together are usable, for so long at most.
    pub(crate) fn until_usable(&self, wanted: usize, limit: Duration) -> anyhow::Result<()> {
        let usable = || -> anyhow::Result<f64> { Ok(self.metrics()?.sum("meshless_endpoints", &["state=\"usable\""])) };
        let reached = process::poll(limit, || Ok(((usable()? - wanted as f64).abs() < 0.5).then_some(())))?;
        reached.with_context(|| format!("{wanted} endpoints should be usable, it has {}", usable().unwrap_or(-1.0)))
    }

    /// Returns what it logged so far.
    pub(crate) fn log(&self) -> Vec<Line> {
        lines(&self.service.printed())
    }
}

/// Returns the gateway that is to be measured: the one that was asked for, else one that is built now.
pub(crate) fn program(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(file) = asked {
        return file.canonicalize().with_context(|| format!("find {}", file.display()));
    }
    process::run(workspace::cargo().args(["build", "--profile", "quick-release", "--bin", "meshless"]))?;
    Ok(workspace::target()?.join("quick-release/meshless"))
}

/// A scrape.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Returns the samples of a metric whose labels contain all of `labels`, each written as in `kind="denied"`.
    pub(crate) fn samples<'a>(&'a self, name: &'a str, labels: &'a [&str]) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (named, value) = rest.rsplit_once(' ')?;
            let is_it = named.is_empty() || named.starts_with('{');
            (is_it && labels.iter().all(|label| named.contains(label))).then_some((named, value.parse().ok()?))
        })
    }

    /// Returns the largest sample; zero where there is none.
    pub(crate) fn largest(&self, name: &str, labels: &[&str]) -> f64 {
        self.samples(name, labels).map(|(_, value)| value).fold(0.0, f64::max)
    }

    /// Returns the sum of the samples.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.samples(name, labels).map(|(_, value)| value).sum()
    }
}

/// Reads lines of JSON; what is none is left out.
fn lines(printed: &str) -> Vec<Line> {
    let line = |text: &str| {
        let event: Value = serde_json::from_str(text).ok()?;
        let field = |name: &str| {
            let value = event.get("fields").and_then(|fields| fields.get(name)).or_else(|| event.get(name));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let error = [field("error"), field("why"), field("reason")].into_iter().find(|text| !text.is_empty());
        Some(Line { level: field("level"), message: field("message"), error: error.unwrap_or_default() })
    };
    printed.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics("# TYPE a gauge\na 2\na{b=\"c\",d=\"e\"} 4.5\nab 9\na{b=\"x\"} 1\n".into());
        assert!((metrics.sum("a", &[]) - 7.5).abs() < 1e-9);
        assert!((metrics.largest("a", &["b=\"c\""]) - 4.5).abs() < 1e-9);
        assert_eq!(metrics.samples("a", &["d=\"e\""]).next(), Some(("{b=\"c\",d=\"e\"}", 4.5)));
    }

    #[test]
    fn a_log_line_is_read_with_what_went_wrong() {
        let printed = "not json\n{\"level\":\"WARN\",\"fields\":{\"message\":\"No.\",\"error\":\"refused\"}}\n";
        let line = Line { level: "WARN".into(), message: "No.".into(), error: "refused".into() };
        assert_eq!(lines(printed), [line]);
    }
}
