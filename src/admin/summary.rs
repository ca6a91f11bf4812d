//! A running gateway in a few lines, for `meshless status`: what its admin interface says, put together.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Client, ClientError, Reply};
use super::view::{
    ConfigView, EndpointState, EndpointView, IdentityView, ListenerView, Readiness, RegistrationView, ServiceView,
};

/// Most endpoints that get nothing of which text tells; JSON tells of all.
const MOST_UNUSED: usize = 20;
/// Most sources of clear text of which text tells; JSON tells of all.
const MOST_PLAINTEXT: usize = 20;

/// What `meshless status` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Who was asked.
    pub admin: String,
    /// Version of the gateway; `None` if it did not tell.
    pub version: Option<String>,
    /// Whether it should get traffic, and why not.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// Where it runs; `None` if it did not tell.
    pub platform: Option<String>,
    /// Its zone; `None`: it has none.
    pub zone: Option<String>,
    /// The configuration that runs, without its text.
    pub config: ConfigSummary,
    /// Requests since it started.
    pub requests: f64,
    /// Requests a second since it started; `None` where its start is not known.
    pub requests_per_second: Option<f64>,
    /// Seconds since it started.
    pub uptime_seconds: Option<f64>,
    /// The target that its backend has not confirmed for longest; `None` if there is none.
    pub oldest_snapshot: Option<OldestSnapshot>,
    /// Who it is; `None` where it has no `[identity]`.
    pub identity: Option<IdentityView>,
    /// What it is registered as; `None` where it is not to be.
    pub registration: Option<RegistrationView>,
    /// Listeners.
    pub listeners: Vec<ListenerView>,
    /// Services.
    pub services: Vec<ServiceView>,
    /// Endpoints; text has those that get nothing, and why.
    pub endpoints: Vec<EndpointView>,
}

/// The configuration that runs, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigSummary {
    /// Its number.
    pub version: u64,
    /// When it was applied.
    pub loaded_at: String,
    /// Why a later change was refused.
    pub last_error: Option<String>,
    /// What `check` warns of.
    pub warnings: Vec<String>,
    /// Keys that were changed but need a restart.
    pub pending_restart: Vec<String>,
}

/// The target that its backend has not confirmed for longest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OldestSnapshot {
    /// The target.
    pub target: String,
    /// For how long, in seconds.
    pub age_seconds: f64,
}

/// Why there is no summary.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// Nobody answered.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Somebody answered, but not a gateway's admin interface.
    #[error("{path} at {admin} was answered with {status}{}; is that the admin interface (admin.listen, not admin.probes) of a meshless of this version?", reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})")))]
    Strange {
        /// What was asked for.
        path: &'static str,
        /// Who was asked.
        admin: String,
        /// What was answered.
        status: StatusCode,
        /// What is wrong with it.
        reason: Option<String>,
    },
}

impl Summary {
    /// Asks; `now` is for the time since the start.
    pub async fn ask(client: &Client, now: SystemTime) -> Result<Self, SummaryError> {
        let readiness: Readiness = json(client, "/ready", &[StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE]).await?;
        let config: ConfigView = json(client, "/config", &[StatusCode::OK]).await?;
        let services: Vec<ServiceView> = json(client, "/services", &[StatusCode::OK]).await?;
        let endpoints: Vec<EndpointView> = json(client, "/endpoints", &[StatusCode::OK]).await?;
        let identity: Option<IdentityView> = json(client, "/identity", &[StatusCode::OK]).await?;
        let registration: Option<RegistrationView> = json(client, "/registration", &[StatusCode::OK]).await?;
        let metrics = known(client, "/metrics", client.get("/metrics").await?, &[StatusCode::OK])?;
        let admin = client.address().to_string();
        let summary = Self::of(admin, readiness, config, services, &metrics.text, now);
        Ok(Self { identity, registration, endpoints, ..summary })
    }

    fn of(
        admin: String,
        readiness: Readiness,
        config: ConfigView,
        services: Vec<ServiceView>,
        metrics: &str,
        now: SystemTime,
    ) -> Self {
        let of_node = |key: &str| Some(config.config.pointer(&format!("/node/{key}"))?.as_str()?.to_owned());
        // The sum of nothing is -0, which prints so.
        let requests = series(metrics, "request_total").map(|(_, value)| value).sum::<f64>() + 0.0;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let started = series(metrics, "process_start_time_seconds").next().map(|(_, started)| started);
        let uptime_seconds = started.map(|started| (now - started).max(0.0));
        let oldest_snapshot = series(metrics, "meshless_discovery_snapshot_age_seconds")
            .max_by(|(_, left), (_, right)| left.total_cmp(right))
            .map(|(labels, age_seconds)| OldestSnapshot { target: label(labels, "target"), age_seconds });
        Self {
            admin,
            version: series(metrics, "proxy_build_info").next().map(|(labels, _)| label(labels, "version")),
            readiness,
            platform: of_node("platform"),
            zone: of_node("zone"),
            config: ConfigSummary {
                version: config.version,
                loaded_at: config.loaded_at,
                last_error: config.last_error,
                warnings: config.warnings,
                pending_restart: config.pending_restart,
            },
            requests,
            requests_per_second: uptime_seconds.filter(|uptime| *uptime > 0.0).map(|uptime| requests / uptime),
            uptime_seconds,
            oldest_snapshot,
            identity: None,
            registration: None,
            listeners: config.listeners,
            services,
            endpoints: Vec::new(),
        }
    }
}

async fn json<T: DeserializeOwned>(
    client: &Client,
    path: &'static str,
    expected: &[StatusCode],
) -> Result<T, SummaryError> {
    let reply = known(client, path, client.get(path).await?, expected)?;
    serde_json::from_str(&reply.text).map_err(|error| SummaryError::Strange {
        path,
        admin: client.address().to_string(),
        status: reply.status,
        reason: Some(error.to_string()),
    })
}

fn known(client: &Client, path: &'static str, reply: Reply, expected: &[StatusCode]) -> Result<Reply, SummaryError> {
    if expected.contains(&reply.status) {
        return Ok(reply);
    }
    Err(SummaryError::Strange { path, admin: client.address().to_string(), status: reply.status, reason: None })
}

/// Returns labels and value of each series of `name`, of our own exposition.
fn series<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_name = labels.is_empty() || labels.starts_with('{');
        is_name.then_some((labels, value.parse().ok()?))
    })
}

/// Returns the value of a label, its escapes undone; empty if there is none.
fn label(labels: &str, name: &str) -> String {
    let begin = format!("{name}=\"");
    let mut value = String::new();
    let Some((_, rest)) = labels.split_once(&begin) else { return value };
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some(other) => value.push(other),
                None => break,
            },
            other => value.push(other),
        }
    }
    value
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.print(&mut text)?;
        // What the network or a file said must not drive the terminal.
        for character in text.chars() {
            formatter.write_char(if character.is_control() && character != '\n' { '\u{fffd}' } else { character })?;
        }
        Ok(())
    }
}

impl Summary {
    fn print(&self, text: &mut String) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("(unknown version)");
        let ready = if self.readiness.ready { "ready" } else { "not ready" };
        writeln!(text, "meshless {version} at {}: {ready}", self.admin)?;
        for reason in &self.readiness.reasons {
            writeln!(text, "  because       {reason}")?;
        }
        for warning in self.readiness.warnings.iter().chain(&self.config.warnings) {
            writeln!(text, "  warning       {warning}")?;
        }
        if let Some(platform) = &self.platform {
            let zone = self.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
            writeln!(text, "platform        {platform}{zone}")?;
        }
        writeln!(text, "configuration   version {}, since {}", self.config.version, self.config.loaded_at)?;
        if let Some(error) = &self.config.last_error {
            writeln!(text, "  refused       {}", error.trim_end().replace('\n', "\n                "))?;
        }
        for key in &self.config.pending_restart {
            writeln!(text, "  needs restart {key}")?;
        }
        write!(text, "requests        {}", self.requests)?;
        if let (Some(rate), Some(uptime)) = (self.requests_per_second, self.uptime_seconds) {
            write!(text, ", {rate:.1} a second for {}", Span(uptime))?;
        }
        match &self.oldest_snapshot {
            Some(oldest) if oldest.age_seconds > 0.0 => {
                writeln!(text, "\ndiscovery       {} not confirmed for {}", oldest.target, Span(oldest.age_seconds))?;
            }
            Some(_) => writeln!(text, "\ndiscovery       every target is confirmed")?,
            None => writeln!(text)?,
        }
        if let Some(identity) = &self.identity {
            print_identity(identity, text)?;
        }
        if let Some(own) = &self.registration {
            write!(
                text,
                "registered      {} at {}:{} in {}: {}",
                own.service, own.address, own.port, own.backend, own.state
            )?;
            if let Some(waits_for) = &own.waits_for {
                write!(text, ", waits for {waits_for}")?;
            }
            writeln!(text)?;
            if let Some(failure) = &own.failure {
                writeln!(text, "  not confirmed for {}: {failure}", Span(own.unconfirmed_seconds))?;
            }
        }
        let listeners = self.listeners.iter().map(|listener| {
            [
                listener.name.clone(),
                listener.address.clone(),
                listener.protocol.clone(),
                listener.connections.to_string(),
            ]
        });
        table(text, ["LISTENER", "ADDRESS", "PROTOCOL", "CONNECTIONS"], listeners)?;
        let services = self.services.iter().map(|service| {
            [service.name.clone(), endpoints(service), service.balance.clone(), service.in_flight.to_string()]
        });
        table(text, ["SERVICE", "ENDPOINTS", "BALANCE", "IN FLIGHT"], services)?;
        self.print_plaintext(text)?;
        self.print_unused(text)
    }

    /// Prints who comes in clear text where certificates are wished for.
    fn print_plaintext(&self, text: &mut String) -> fmt::Result {
        let sources = || self.identity.iter().flat_map(|identity| &identity.plaintext);
        let rows = sources().take(MOST_PLAINTEXT).map(|source| {
            [source.listener.clone(), source.address.clone(), source.connections.to_string(), source.last.clone()]
        });
        table(text, ["LISTENER", "CLEAR TEXT FROM", "CONNECTIONS", "LAST"], rows)?;
        let more = sources().count().saturating_sub(MOST_PLAINTEXT);
        if more > 0 {
            writeln!(text, "and {more} more: --json, or /identity, tells of all")?;
        }
        Ok(())
    }

    /// Prints the endpoints that get nothing: where each was found, how old that is, and why it gets nothing.
    fn print_unused(&self, text: &mut String) -> fmt::Result {
        let unused = || self.endpoints.iter().filter(|endpoint| endpoint.unused_because.is_some());
        let rows = unused().take(MOST_UNUSED).map(|endpoint| {
            let age = if endpoint.age_seconds > 0.0 { Span(endpoint.age_seconds).to_string() } else { "-".to_owned() };
            let id = endpoint.id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
            [
                endpoint.service.clone(),
                format!("{}{id}", endpoint.address),
                format!("{}, {}", endpoint.target, endpoint.source),
                age,
                endpoint.unused_because.clone().unwrap_or_default(),
            ]
        });
        table(text, ["SERVICE", "UNUSED", "FROM", "NOT CONFIRMED", "BECAUSE"], rows)?;
        let more = unused().count().saturating_sub(MOST_UNUSED);
        if more > 0 {
            writeln!(text, "and {more} more: --json, or /endpoints, tells of all")?;
        }
        Ok(())
    }
}

/// Who it is, for how long, and why it may not stay so.
fn print_identity(identity: &IdentityView, text: &mut String) -> fmt::Result {
    let id = identity.id.as_deref().unwrap_or("none yet");
    write!(text, "identity        {id}")?;
    match identity.left_seconds {
        Some(left) if left > 0.0 => writeln!(text, ", valid for {}, from {}", Span(left), identity.source)?,
        Some(_) => writeln!(text, ", expired, from {}", identity.source)?,
        None => writeln!(text, ", from {}", identity.source)?,
    }
    match &identity.last_error {
        Some(error) => writeln!(text, "  not renewed   {error}"),
        None => Ok(()),
    }
}

/// `3 usable, 1 held`; what is zero is left out, save usable ones.
fn endpoints(service: &ServiceView) -> String {
    let count = |state| service.endpoints.get(&state).copied().unwrap_or(0);
    let mut text = format!("{} usable", count(EndpointState::Usable));
    for state in [EndpointState::Ejected, EndpointState::Unhealthy, EndpointState::Draining, EndpointState::Held] {
        if count(state) > 0 {
            // Writing to a string does not fail.
            let _ = write!(text, ", {} {}", count(state), state.label());
        }
    }
    text
}

/// Prints columns as wide as they need to be; nothing where there are no rows.
fn table<const COLUMNS: usize>(
    text: &mut String,
    heads: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> fmt::Result {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = heads.map(|head| head.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    writeln!(text)?;
    for row in std::iter::once(heads.map(String::from)).chain(rows) {
        let line: String =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>().join("  ");
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Seconds as people say them: the two largest units.
struct Span(f64);

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = std::time::Duration::try_from_secs_f64(self.0).unwrap_or_default().as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(formatter, "{seconds} s"),
            (0, 0, _) => write!(formatter, "{minutes} min {} s", seconds % 60),
            (0, _, _) => write!(formatter, "{hours} h {} min", minutes % 60),
            (_, _, _) => write!(formatter, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::client::Client;
    use crate::admin::tests::{served, served_at};
    use crate::admin::{Access, View as _};
    use crate::config::ListenAddress;
    use crate::telemetry::metrics::{ControlMetrics, Direction, WorkerMetrics};

    const METRICS: &str = r#"# HELP request_total Requests.
# TYPE request_total counter
request_total{direction="outbound",listener="in",service="a"} 7000
request_total{direction="outbound",listener="in",service="b"} 200
request_totally_other 99
process_start_time_seconds 1000
meshless_discovery_snapshot_age_seconds{backend="consul",target="consul/a[tag=\"x\\y\"]"} 90.5
meshless_discovery_snapshot_age_seconds{backend="consul",target="consul/b"} 0
proxy_build_info{version="9.8.7"} 1
"#;

    fn summary() -> Summary {
        let view = crate::admin::tests::Scripted::default();
        view.not_ready.lock().unwrap().push("draining\u{1b}[31m".into());
        let now = UNIX_EPOCH + Duration::from_secs(1000 + 7200);
        let one = view.endpoints(None);
        let well = one.iter().map(|endpoint| EndpointView { unused_because: None, ..endpoint.clone() });
        let endpoints = well.chain(one.clone()).collect();
        let summary =
            Summary::of("unix:/a.sock".into(), view.readiness(), view.config(), view.services(), METRICS, now);
        Summary { endpoints, ..summary }
    }

    #[test]
    fn the_table_shows_what_somebody_on_call_asks_first() {
        let expected = "\
meshless 9.8.7 at unix:/a.sock: not ready
  because       draining\u{fffd}[31m
  warning       consul/web never answered
platform        ecs, zone eu-west-1a
configuration   version 3, since 2026-09-30T12:34:56.789Z
  refused       meshless.toml:7:3: unknown key `form`
  needs restart node.workers
requests        7200, 1.0 a second for 2 h 0 min
discovery       consul/a[tag=\"x\\y\"] not confirmed for 1 min 30 s

LISTENER  ADDRESS         PROTOCOL  CONNECTIONS
outbound  127.0.0.1:4140  auto      2

SERVICE              ENDPOINTS         BALANCE    IN FLIGHT
static/127.0.0.1:80  1 usable, 2 held  peak-ewma  5

SERVICE              UNUSED        FROM                          NOT CONFIRMED  BECAUSE
static/127.0.0.1:80  127.0.0.1:80  static/127.0.0.1:80, backend  0 s            ejected
";
        assert_eq!(summary().to_string(), expected);
    }

    #[test]
    fn many_endpoints_that_get_nothing_are_counted_and_not_printed() {
        let summary = summary();
        let unused: Vec<_> = summary.endpoints.iter().filter(|one| one.unused_because.is_some()).cloned().collect();
        let many = Summary { endpoints: unused.into_iter().cycle().take(25).collect(), ..summary };
        let text = many.to_string();
        assert_eq!(text.matches(", backend").count(), MOST_UNUSED);
        assert!(text.ends_with("and 5 more: --json, or /endpoints, tells of all\n"), "{text}");
    }

    #[test]
    fn json_has_readiness_at_the_top_and_numbers_as_numbers() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!((&json["ready"], &json["requests"]), (&false.into(), &7200.0.into()));
        assert_eq!(json["oldest_snapshot"]["age_seconds"], 90.5);
        assert_eq!(json["services"][0]["endpoints"]["usable"], 1);
    }

    #[test]
    fn no_request_yet_is_none_and_not_less_than_none() {
        let view = crate::admin::tests::Scripted::default();
        let (readiness, config) = (view.readiness(), view.config());
        let summary = Summary::of("unix:/a.sock".into(), readiness, config, Vec::new(), "", UNIX_EPOCH);
        assert!(summary.requests.is_sign_positive() && summary.to_string().contains("\nrequests        0\n"));
    }

    #[tokio::test]
    async fn a_served_gateway_is_summed_up() {
        let directory = tempfile::tempdir().unwrap();
        let served = served_at(&ListenAddress::Unix(directory.path().join("admin.sock")), Access::Full);
        let _control = ControlMetrics::new(&served.registry);
        let worker = WorkerMetrics::new(&served.registry);
        let requests = worker.request(Direction::Outbound, "in", "web");
        requests.begin();
        requests.begin();
        let client = Client::new(served.address.clone(), Duration::from_secs(10));
        let summary = Summary::ask(&client, SystemTime::now()).await.unwrap();
        assert!((summary.requests - 2.0).abs() < f64::EPSILON);
        assert_eq!(summary.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert!(summary.readiness.ready);
    }

    #[tokio::test]
    async fn the_probes_listener_is_told_from_the_admin_interface() {
        let served = served(Access::Probes);
        let client = Client::new(served.address.clone(), Duration::from_secs(10));
        let error = Summary::ask(&client, SystemTime::now()).await.unwrap_err().to_string();
        assert!(error.contains("/config") && error.contains("404") && error.contains("admin.listen"), "{error}");
    }
}
