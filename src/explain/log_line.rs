//! From a line of the access log to the same decision, and where the decision of now is another one.
//!
//! A line has no query (queries carry secrets), no headers and no identity. So a decision that depended on one of them
//! cannot be made again from it; [`compare`] says where a route asks for such a thing.

use serde::Deserialize;

use super::answer::{Explanation, Logged};
use super::{Question, Refusal};

/// What of a line is needed. Fields that it does not have are empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Line {
    time: String,
    request_id: String,
    listener: String,
    client: Option<String>,
    method: String,
    host: String,
    path: String,
    protocol: String,
    status: Option<u64>,
    grpc_status: Option<u64>,
    route: String,
    service: String,
    endpoint: String,
    tries: u64,
    error: String,
}

impl Line {
    /// Reads a line of the JSON form.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let line: Self = serde_json::from_str(text.trim()).map_err(|error| {
            Refusal::new(
                format!("this is no line of the access log: {error}"),
                "lines of `telemetry.access_log = \"json\"` can be read back; for one of text ask with METHOD URL",
            )
        })?;
        if line.listener.is_empty() || line.protocol.is_empty() {
            let hint = "take the whole line, with `listener` and `protocol`";
            return Err(Refusal::new("this is no line of the access log: `listener` or `protocol` is missing", hint));
        }
        Ok(line)
    }

    /// Finds the line of a request among many. What is no line of JSON is passed over.
    pub fn find<'t>(lines: impl IntoIterator<Item = &'t str>, request_id: &str) -> Option<Self> {
        let mut lines = lines.into_iter().filter(|line| line.contains(request_id));
        lines.find_map(|line| Self::parse(line).ok().filter(|line| line.request_id == request_id))
    }

    /// Returns the question that the line answers. `is_encrypted` of its listener is not in the log, so both schemes of
    /// HTTP are tried by the caller: see [`Line::questions`].
    fn question(&self, scheme: &str) -> Question {
        let host = if self.host.is_empty() { "localhost" } else { &self.host };
        let path = if matches!(scheme, "http" | "https") { self.path.as_str() } else { "" };
        let grpc = self.grpc_status.map(|_| ("content-type".to_owned(), "application/grpc".to_owned()));
        let headers = if matches!(scheme, "http" | "https") { grpc.into_iter().collect() } else { Vec::new() };
        Question {
            listener: Some(self.listener.clone()),
            method: self.method.clone(),
            url: format!("{scheme}://{host}{path}"),
            headers,
            from: None,
            address: self.client.as_ref().and_then(|client| client.parse().ok()),
            seed: None,
        }
    }

    /// Returns the questions that the line may answer: the first that the listener takes is the right one.
    pub fn questions(&self) -> Vec<Question> {
        let schemes: &[&str] = match self.protocol.as_str() {
            "tcp" => &["tcp"],
            "tls" => &["tls"],
            _ => &["http", "https"],
        };
        schemes.iter().map(|scheme| self.question(scheme)).collect()
    }
}

/// Lays what was logged beside what would be decided now.
pub fn compare(line: &Line, explanation: &mut Explanation) {
    let mut differences = Vec::new();
    let route = explanation.route.as_ref().map(|route| route.name.clone()).unwrap_or_default();
    if route != line.route {
        differences.push(format!("route: the log says {}, now it is {}", named(&line.route), named(&route)));
    }
    let names: Vec<&str> = explanation.services.iter().map(|service| service.name.as_str()).collect();
    if !line.service.is_empty() && !names.contains(&line.service.as_str()) {
        let now = names.iter().map(|name| named(name)).collect::<Vec<_>>().join(", ");
        let now = if now.is_empty() { "none".to_owned() } else { now };
        differences.push(format!("service: the log says {}, now there may be {now}", named(&line.service)));
    } else if !line.endpoint.is_empty() {
        let mut endpoints = explanation.endpoints().filter(|one| one.view.service == line.service);
        if !explanation.has_assumed() && !endpoints.any(|one| one.view.address == line.endpoint) {
            differences.push(format!("endpoint: {} is not there any more", named(&line.endpoint)));
        }
    }
    let asks = explanation.lost.iter().filter_map(|lost| Some((&lost.name, lost.key.as_deref()?)));
    let unknown = asks.filter(|(_, key)| {
        let begin = key.split('.').next().unwrap_or_default();
        matches!(begin, "headers" | "query" | "from") || begin == "grpc" && line.grpc_status.is_none()
    });
    let mut unknown: Vec<String> = unknown
        .map(|(name, key)| {
            format!("route {} asks for `{key}`, which the log does not have; it may have won", named(name))
        })
        .collect();
    let rules = explanation.allow.iter().flat_map(|allow| &allow.missed);
    unknown.extend(rules.filter_map(|rule| {
        let lacks =
            |key: &str| key == "from" || key.starts_with("headers.") || key == "grpc" && line.grpc_status.is_none();
        let miss = rule.misses.iter().find(|miss| lacks(&miss.key))?;
        Some(format!(
            "{} asks for `{}`, which the log does not have; it may have allowed it",
            named(&rule.rule),
            miss.key
        ))
    }));
    explanation.logged = Some(Logged {
        request_id: line.request_id.clone(),
        time: line.time.clone(),
        route: line.route.clone(),
        service: line.service.clone(),
        endpoint: line.endpoint.clone(),
        tries: line.tries,
        status: line.status,
        error: line.error.clone(),
        differences,
        unknown,
    });
}

fn named(name: &str) -> String {
    if name.is_empty() { "none".to_owned() } else { format!("`{name}`") }
}
