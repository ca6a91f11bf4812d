//! Registers at one agent of Consul, over the endpoints below `/v1/agent`.
//!
//! All of them are local to the agent, which tells the servers what changed and nothing else: a `pass` with the status
//! and the output that the check has already is not passed on (`agent/local/state.go`, `UpdateCheck`: "do nothing if
//! update is idempotent"), so a heartbeat is no write to the leader as long as its note stays the same.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Ask as Request, Client};
use crate::{Ask, Condition, ConsulConfig, Entry, Error, Registrar, Registration, Upkeep, async_trait};

/// Limit of one exchange: the agent is near, and the end of a process waits for one.
const LIMIT: Duration = Duration::from_secs(3);

/// Writes to one agent.
#[derive(Debug)]
pub(crate) struct Agent {
    client: Client,
    namespace: Option<String>,
    partition: Option<String>,
}

impl Agent {
    pub(crate) fn new(config: &ConsulConfig) -> Self {
        let ConsulConfig { namespace, partition, .. } = config;
        Self { client: Client::new(config), namespace: namespace.clone(), partition: partition.clone() }
    }

    fn request(&self, call: &'static str, permission: String) -> Request {
        let mut request = Request::new(call, permission).within(LIMIT);
        for (key, value) in [("ns", &self.namespace), ("partition", &self.partition)] {
            if let Some(value) = value {
                request = request.with(key, value);
            }
        }
        request
    }

    fn write(&self, call: &'static str, id: &str) -> Request {
        self.request(call, format!("`service:write` on the service of `{id}`"))
    }
}

#[async_trait]
impl Registrar for Agent {
    async fn announce(&self, registration: &Registration, condition: Condition) -> Result<(), Error> {
        let request = self
            .request("agent/service/register", format!("`service:write` on `{}`", registration.service))
            // What an earlier version of us checked in another way would stay beside it.
            .with("replace-existing-checks", "true");
        self.client.put(request, Some(&definition(registration, condition))).await.map(drop)
    }

    async fn confirm(&self, id: &str) -> Result<(), Error> {
        let request = self.request("agent/service", format!("`service:read` on the service of `{id}`")).below(id);
        self.client.get(request).await.map(drop)
    }

    async fn report(&self, id: &str, condition: Condition, note: &str) -> Result<(), Error> {
        let call = match condition {
            Condition::Critical => "agent/check/fail",
            Condition::Passing => "agent/check/pass",
        };
        let request = self.write(call, id).below(&check_id(id)).with("note", note);
        match self.client.put(request, None).await {
            Err(error) if is_unknown(&error) => Err(Error::Gone(error.to_string())),
            result => result.map(drop),
        }
    }

    async fn withdraw(&self, id: &str) -> Result<(), Error> {
        match self.client.put(self.write("agent/service/deregister", id).below(id), None).await {
            Err(error) if is_unknown(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    async fn entries(&self, service: &str) -> Result<Vec<Entry>, Error> {
        let request = self.request("agent/services", format!("`service:read` on `{service}`"));
        let services: HashMap<String, Listed> = self.client.get(request).await?.json()?;
        let mut entries: Vec<Entry> = services
            .into_values()
            .filter(|entry| entry.service == service)
            .map(|entry| Entry { id: entry.id, meta: entry.meta.unwrap_or_default() })
            .collect();
        entries.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(entries)
    }
}

/// An entry of `/v1/agent/services`.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Service")]
    service: String,
    #[serde(rename = "Meta")]
    meta: Option<BTreeMap<String, String>>,
}

fn check_id(id: &str) -> String {
    format!("service:{id}")
}

/// The agent has no such check or service. Before 1.11 it says so with 500, from then on with 404.
fn is_unknown(error: &Error) -> bool {
    match error {
        Error::Gone(_) => true,
        Error::Unreachable(said) => {
            said.contains("does not have associated TTL")
                || said.contains("Unknown check")
                || said.contains("Unknown service")
        }
        Error::Denied(_) | Error::Malformed(_) | Error::Throttled { .. } => false,
    }
}

/// The body of `/v1/agent/service/register`.
fn definition(registration: &Registration, condition: Condition) -> Value {
    let status = match condition {
        Condition::Critical => "critical",
        Condition::Passing => "passing",
    };
    let mut check = Map::new();
    let mut add = |key: &str, value: Value| drop(check.insert(key.to_owned(), value));
    add("CheckID", check_id(&registration.id).into());
    add("Name", "Application, seen by Meshless".into());
    add("DeregisterCriticalServiceAfter", period(registration.deregister_after).into());
    match &registration.upkeep {
        Upkeep::Told { ttl } => {
            add("TTL", period(*ttl).into());
            add("Status", status.into());
        }
        Upkeep::Asked { ask, interval, timeout, healthy, unhealthy } => {
            match ask {
                Ask::Grpc { address, service } if service.is_empty() => add("GRPC", address.as_str().into()),
                Ask::Grpc { address, service } => add("GRPC", format!("{address}/{service}").into()),
                Ask::Http { url, host } => {
                    add("HTTP", url.as_str().into());
                    if let Some(host) = host {
                        add("Header", json!({ "Host": [host] }));
                    }
                }
                Ask::Tcp { address } => add("TCP", address.as_str().into()),
            }
            add("Interval", period(*interval).into());
            add("Timeout", period(*timeout).into());
            // Consul counts further ones beyond the first.
            add("SuccessBeforePassing", healthy.saturating_sub(1).into());
            add("FailuresBeforeCritical", unhealthy.saturating_sub(1).into());
        }
    }
    // Consul takes an empty address for its node's.
    let address = registration.address.map_or_else(String::new, |address| address.to_string());
    json!({
        "ID": registration.id,
        "Name": registration.service,
        "Address": address,
        "Port": registration.port,
        "Tags": registration.tags,
        "Meta": registration.meta,
        "Weights": { "Passing": registration.weight, "Warning": 1 },
        "Check": check,
    })
}

/// As Go reads a duration.
fn period(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(upkeep: Upkeep) -> Registration {
        Registration {
            id: "web-10.0.0.1-80".to_owned(),
            service: "web".to_owned(),
            address: Some("10.0.0.1".parse().unwrap()),
            port: 80,
            tags: vec!["blue".to_owned()],
            meta: [("version".to_owned(), "1".to_owned())].into(),
            weight: 3,
            upkeep,
            deregister_after: Duration::from_mins(1),
        }
    }

    #[test]
    fn an_entry_is_whole_in_one_write() {
        let told = registration(Upkeep::Told { ttl: Duration::from_secs(15) });
        let expected = json!({
            "ID": "web-10.0.0.1-80", "Name": "web", "Address": "10.0.0.1", "Port": 80, "Tags": ["blue"],
            "Meta": { "version": "1" }, "Weights": { "Passing": 3, "Warning": 1 },
            "Check": {
                "CheckID": "service:web-10.0.0.1-80", "Name": "Application, seen by Meshless", "TTL": "15000ms",
                "Status": "passing", "DeregisterCriticalServiceAfter": "60000ms",
            },
        });
        assert_eq!(definition(&told, Condition::Passing), expected);
        assert_eq!(definition(&told, Condition::Critical)["Check"]["Status"], "critical");
        let nowhere = Registration { address: None, ..told };
        assert_eq!(definition(&nowhere, Condition::Passing)["Address"], "", "Consul takes its node's");
    }

    #[test]
    fn an_agent_that_asks_begins_with_critical_and_counts_as_we_do() {
        let asked = |ask| {
            let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
            let upkeep = Upkeep::Asked { ask, interval, timeout, healthy: 2, unhealthy: 3 };
            definition(&registration(upkeep), Condition::Passing)["Check"].clone()
        };
        let http = asked(Ask::Http { url: "http://127.0.0.1:1/healthz".to_owned(), host: Some("a".to_owned()) });
        assert_eq!((&http["HTTP"], &http["Header"]["Host"]), (&json!("http://127.0.0.1:1/healthz"), &json!(["a"])));
        assert_eq!((&http["Interval"], &http["Timeout"]), (&json!("2000ms"), &json!("1000ms")));
        assert_eq!((&http["SuccessBeforePassing"], &http["FailuresBeforeCritical"]), (&json!(1), &json!(2)));
        assert_eq!((http.get("Status"), http.get("TTL")), (None, None));
        assert_eq!(asked(Ask::Tcp { address: "127.0.0.1:1".to_owned() })["TCP"], "127.0.0.1:1");
        let grpc = |service: &str| asked(Ask::Grpc { address: "127.0.0.1:1".to_owned(), service: service.to_owned() });
        assert_eq!(grpc("")["GRPC"], "127.0.0.1:1");
        assert_eq!(grpc("pkg.Api")["GRPC"], "127.0.0.1:1/pkg.Api");
    }

    #[test]
    fn both_ways_to_say_that_something_is_not_there_are_understood() {
        let said = "PUT /v1/agent/check/pass/x at a: 500: CheckID \"service:x\" does not have associated TTL";
        assert!(is_unknown(&Error::Unreachable(said.to_owned())));
        assert!(is_unknown(&Error::Gone("404: Unknown check ID".to_owned())));
        assert!(is_unknown(&Error::Unreachable("500: Unknown service \"x\"".to_owned())));
        assert!(!is_unknown(&Error::Unreachable("500: No cluster leader".to_owned())));
        assert!(!is_unknown(&Error::Denied("403: Permission denied".to_owned())));
    }
}
