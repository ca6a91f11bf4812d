//! A real Consul agent, a server of its own in memory, with access control on.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Health, Listed, Place, Played, Trouble};
use crate::process::{self, Service};
use crate::{archive, http};

/// The token that may do everything; of this agent only.
const MANAGEMENT: &str = "6d616e61-6765-6d65-6e74-2d746f6b656e";

/// The node that services are on: not the agent's own, which Consul would tidy up.
const NODE: &str = "machine";

/// Longest wait for the agent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most operations of one transaction.
pub(crate) const TRANSACTION: usize = 64;

/// Returns Consul itself, which is fetched on first use; `None`, and a line that says why, where it cannot be had.
pub(crate) fn program() -> Option<PathBuf> {
    match archive::CONSUL.unpacked() {
        Ok(program) => Some(program),
        Err(error) => {
            println!("no Consul here: {error:#}");
            None
        }
    }
}

/// An agent; ends with this.
#[derive(Debug)]
pub(crate) struct Agent {
    program: PathBuf,
    folder: PathBuf,
    /// Where its HTTP interface is, its other ports behind that.
    ports: Vec<SocketAddr>,
    /// Most connections of one client; `None`: what Consul has by itself.
    connections: Option<u32>,
    service: Option<Service>,
    client: http::Client,
    /// Number of the token that the gateway has.
    token: u32,
    services: BTreeMap<String, Vec<Listed>>,
    registered: BTreeMap<String, Vec<String>>,
}

impl Agent {
    /// Starts one and waits until it has elected itself.
    pub(crate) fn start(program: &Path, folder: &Path, connections: Option<u32>) -> anyhow::Result<Self> {
        let ports = (0..4).map(|_| http::free_address()).collect::<anyhow::Result<Vec<_>>>()?;
        let address = *ports.first().context("no port")?;
        let mut agent = Self {
            program: program.into(),
            folder: folder.into(),
            ports,
            connections,
            service: None,
            client: http::Client::new(address, &format!("X-Consul-Token: {MANAGEMENT}\r\n")),
            token: 1,
            services: BTreeMap::new(),
            registered: BTreeMap::new(),
        };
        agent.launch()?;
        Ok(agent)
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        Ok(self.service.as_ref().context("the agent is dead")?.id())
    }

    /// Returns the port of its HTTP interface.
    pub(crate) fn port(&self) -> u16 {
        self.ports.first().map_or(0, SocketAddr::port)
    }

    /// Starts the process, without any data, and gives the gateway a token.
    fn launch(&mut self) -> anyhow::Result<()> {
        let [http, server, lan, wan] = self.ports.as_slice() else { anyhow::bail!("four ports are needed") };
        let limits = self.connections.map_or_else(|| json!({}), |most| json!({ "http_max_conns_per_client": most }));
        let settings = json!({
            "acl": { "enabled": true, "default_policy": "deny", "tokens": { "master": MANAGEMENT, "agent": MANAGEMENT } },
            "limits": limits,
            "ports": {
                "http": http.port(), "server": server.port(), "serf_lan": lan.port(), "serf_wan": wan.port(),
                "dns": -1, "grpc": -1,
            },
        });
        let file = self.folder.join("consul.json");
        fs::write(&file, settings.to_string()).context("write the agent's settings")?;
        let mut command = Command::new(&self.program);
        command.args(["agent", "-dev", "-bind=127.0.0.1", "-log-level=err"]);
        command.arg(format!("-config-file={}", file.display()));
        let mut service = Service::start("consul", &mut command, &self.folder.join("consul.log"))?;
        let client = &mut self.client;
        let policy = json!({
            "Name": "gateway",
            "Rules": "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" } agent_prefix \"\" { policy = \"read\" }",
        });
        // A new leader needs a moment before it takes policies.
        service.until(PATIENCE, |_| client.done("PUT", "/v1/acl/policy", &policy.to_string()).ok())?;
        self.service = Some(service);
        self.registered.clear();
        self.grant()
    }

    /// Makes the gateway's token known to the agent and writes it where the gateway reads it.
    fn grant(&mut self) -> anyhow::Result<()> {
        let token = json!({ "SecretID": self.secret(), "Policies": [{ "Name": "gateway" }] });
        self.client.done("PUT", "/v1/acl/token", &token.to_string())?;
        let scratch = self.folder.join(".token");
        fs::write(&scratch, self.secret()).context("write a token")?;
        fs::rename(&scratch, self.folder.join("token")).context("rename a token")
    }

    fn secret(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.token)
    }

    /// Does some operations at once, or as many as a transaction may have at a time.
    pub(crate) fn transact(&mut self, operations: &[Value]) -> anyhow::Result<()> {
        for some in operations.chunks(TRANSACTION) {
            self.client.done("PUT", "/v1/txn", &Value::from(some).to_string())?;
        }
        Ok(())
    }

    /// Makes sure of the node that all services are on.
    pub(crate) fn node() -> Value {
        json!({ "Node": { "Verb": "set", "Node": { "Node": NODE, "Address": "127.0.0.1" } } })
    }

    /// Registers an instance.
    pub(crate) fn instance(service: &str, id: &str, address: SocketAddr) -> Value {
        json!({ "Service": { "Verb": "set", "Node": NODE, "Service": {
            "ID": id, "Service": service, "Address": address.ip().to_string(), "Port": address.port(),
            "Weights": { "Passing": 1, "Warning": 1 },
        } } })
    }

    /// Takes an instance away, with its checks.
    pub(crate) fn without(service: &str, id: &str) -> Value {
        json!({ "Service": { "Verb": "delete", "Node": NODE, "Service": { "ID": id, "Service": service } } })
    }

    fn check(service: &str, id: &str, health: Health) -> Value {
        let status = match health {
            Health::Healthy => "passing",
            Health::Unhealthy => "critical",
        };
        json!({ "Check": { "Verb": "set", "Check": {
            "Node": NODE, "CheckID": id, "Name": "alive", "Status": status, "ServiceID": id, "ServiceName": service,
        } } })
    }

    /// Writes what a service consists of, in one transaction.
    fn write(&mut self, service: &str) -> anyhow::Result<()> {
        let listed = self.services.get(service).cloned().unwrap_or_default();
        let name = |listed: &Listed| format!("{service}-{}", listed.address.port());
        let mut operations = vec![Self::node()];
        for endpoint in &listed {
            let id = name(endpoint);
            operations.push(Self::instance(service, &id, endpoint.address));
            operations.push(Self::check(service, &id, endpoint.health));
        }
        let ids: Vec<String> = listed.iter().map(name).collect();
        let before = self.registered.insert(service.to_owned(), ids.clone()).unwrap_or_default();
        let gone = before.iter().filter(|id| !ids.contains(id));
        operations.extend(gone.map(|id| Self::without(service, id)));
        self.transact(&operations)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.id()?).ok().and_then(Pid::from_raw).context("a process has no id")?;
        kill_process(pid, signal).context("signal the agent")
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        let mut service = self.service.take().context("the agent is dead already")?;
        service.stop(Signal::KILL, Duration::from_secs(5)).map(drop)
    }
}

impl Place for Agent {
    fn configuration(&self) -> String {
        let address = self.ports.first().map_or_else(String::new, ToString::to_string);
        let token = self.folder.join("token");
        format!(
            "[discovery.consul]\naddress = \"http://{address}\"\ntoken_file = \"{}\"\nwait = \"5s\"\n",
            token.display()
        )
    }

    fn target(&self, service: &str) -> String {
        format!("consul/{service}")
    }

    fn set(&mut self, service: &str, endpoints: &[Listed]) -> anyhow::Result<()> {
        self.services.insert(service.to_owned(), endpoints.to_vec());
        self.write(service)
    }

    fn strike(&mut self, trouble: Trouble) -> anyhow::Result<Played> {
        match trouble {
            Trouble::Killed => self.kill()?,
            Trouble::Frozen => self.signal(Signal::STOP)?,
            Trouble::Empty => {
                for (service, ids) in std::mem::take(&mut self.registered) {
                    let gone: Vec<Value> = ids.iter().map(|id| Self::without(&service, id)).collect();
                    self.transact(&gone)?;
                }
            }
            Trouble::Revoked => {
                let own = http::Client::new(
                    *self.ports.first().context("no port")?,
                    &format!("X-Consul-Token: {}\r\n", self.secret()),
                )
                .done("GET", "/v1/acl/token/self", "")?;
                let own: Value = serde_json::from_str(&own).context("understand a token")?;
                let accessor = own.get("AccessorID").and_then(Value::as_str).context("a token has no accessor")?;
                self.client.done("DELETE", &format!("/v1/acl/token/{accessor}"), "")?;
            }
            Trouble::Replaced => {
                self.kill()?;
                self.launch()?;
            }
            Trouble::Fails | Trouble::Garbage | Trouble::Slow => return Ok(Played::Impossible),
        }
        Ok(Played::Done)
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        if self.service.is_none() {
            self.launch()?;
        }
        self.signal(Signal::CONT)?;
        // A frozen agent has to find out that it is the leader.
        let client = &mut self.client;
        process::poll(PATIENCE, || Ok(client.done("GET", "/v1/acl/policies", "").ok()))?
            .context("the agent does not answer")?;
        self.token += 1;
        self.grant()?;
        let services: Vec<String> = self.services.keys().cloned().collect();
        services.iter().try_for_each(|service| self.write(service))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A frozen process would take the signal to end only when it goes on.
        let _ = self.signal(Signal::CONT);
    }
}
