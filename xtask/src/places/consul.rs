//! Services of a fake Consul.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use meshless_fakes::consul::{Consul, instance};
use meshless_fakes::http::Mode;
use serde_json::{Value, json};

use super::{Health, Listed, Place, Played, Trouble};

#[derive(Debug)]
pub(super) struct Registry {
    consul: Consul,
    token_file: PathBuf,
    /// Number of the token that the gateway has.
    token: u32,
    services: Vec<(String, Vec<Listed>)>,
}

impl Registry {
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut registry =
            Self { consul: Consul::start(), token_file: folder.join("token"), token: 1, services: Vec::new() };
        registry.grant()?;
        Ok(registry)
    }

    fn secret(&self) -> String {
        format!("token-{}", self.token)
    }

    fn grant(&mut self) -> anyhow::Result<()> {
        self.consul.permit(&self.secret(), &["service:read", "node:read", "agent:read"]);
        let scratch = self.token_file.with_extension("new");
        fs::write(&scratch, self.secret()).context("write a token")?;
        fs::rename(&scratch, &self.token_file).context("rename a token")
    }

    fn write(&self, service: &str, endpoints: &[Listed]) {
        let instances = endpoints.iter().map(|endpoint| {
            let (ip, port) = (endpoint.address.ip().to_string(), endpoint.address.port());
            let mut instance = instance(&format!("{service}-{port}"), &ip, port);
            let status = match endpoint.health {
                Health::Healthy => "passing",
                Health::Unhealthy => "critical",
            };
            if let Some(of_service) = instance.get_mut("Service").and_then(Value::as_object_mut) {
                of_service.insert("Service".to_owned(), json!(service));
            }
            if let Some(checks) = instance.get_mut("Checks").and_then(Value::as_array_mut) {
                let id = format!("service:{service}-{port}");
                checks.push(json!({ "CheckID": id, "Name": "alive", "Status": status, "ServiceID": format!("{service}-{port}") }));
            }
            instance
        });
        self.consul.set(service, instances.collect());
    }

    fn clear(&self) {
        for (service, _) in &self.services {
            self.consul.set(service, Vec::new());
        }
    }
}

impl Place for Registry {
    fn configuration(&self) -> String {
        format!(
            "[discovery.consul]\naddress = \"{}\"\ntoken_file = \"{}\"\nwait = \"5s\"\n",
            self.consul.url(),
            self.token_file.display()
        )
    }

    fn target(&self, service: &str) -> String {
        format!("consul/{service}")
    }

    fn set(&mut self, service: &str, endpoints: &[Listed]) -> anyhow::Result<()> {
        self.services.retain(|(name, _)| name != service);
        self.services.push((service.to_owned(), endpoints.to_vec()));
        self.write(service, endpoints);
        Ok(())
    }

    fn strike(&mut self, trouble: Trouble) -> anyhow::Result<Played> {
        let server = &self.consul.server;
        match trouble {
            Trouble::Killed => server.set(Mode::Down),
            Trouble::Frozen => server.set(Mode::Frozen),
            Trouble::Fails => server.set(Mode::Status(500)),
            Trouble::Garbage => server.set(Mode::Garbage),
            Trouble::Slow => server.set(Mode::Slow(1000)),
            Trouble::Empty => self.clear(),
            Trouble::Revoked => self.consul.revoke(&self.secret()),
            Trouble::Replaced => {
                self.clear();
                self.consul.restart();
            }
        }
        Ok(Played::Done)
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        self.consul.server.set(Mode::Serve);
        self.token += 1;
        self.grant()?;
        for (service, endpoints) in &self.services {
            self.write(service, endpoints);
        }
        Ok(())
    }
}
