//! SRV records on a fake server.

use std::net::SocketAddr;

use meshless_fakes::dns::Server;
use meshless_fakes::http::Mode;

use super::{Health, Listed, Place, Played, Trouble};

#[derive(Debug)]
pub(super) struct Zone {
    server: Server,
    /// What is to be there when the trouble is over.
    services: Vec<(String, Vec<SocketAddr>)>,
}

impl Zone {
    pub(super) fn new() -> Self {
        Self { server: Server::start(), services: Vec::new() }
    }
}

impl Place for Zone {
    fn configuration(&self) -> String {
        format!("[discovery.dns]\nresolvers = [\"{}\"]\nmin_ttl = \"1s\"\nfamily = \"ipv4\"\n", self.server.address)
    }

    fn target(&self, service: &str) -> String {
        format!("dns/srv/_{service}._tcp.mesh.test")
    }

    /// DNS cannot say that an endpoint is unhealthy: those are left out.
    fn set(&mut self, service: &str, endpoints: &[Listed]) -> anyhow::Result<()> {
        let name = format!("_{service}._tcp.mesh.test");
        let healthy = endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy);
        let addresses: Vec<SocketAddr> = healthy.map(|endpoint| endpoint.address).collect();
        self.server.set_service(&name, &addresses);
        self.services.retain(|(of, _)| *of != name);
        self.services.push((name, addresses));
        Ok(())
    }

    fn strike(&mut self, trouble: Trouble) -> anyhow::Result<Played> {
        match trouble {
            Trouble::Killed => self.server.set(Mode::Down),
            Trouble::Frozen => self.server.set(Mode::Frozen),
            Trouble::Fails => self.server.set(Mode::Status(500)),
            Trouble::Garbage => self.server.set(Mode::Garbage),
            Trouble::Slow => self.server.set(Mode::Slow(300)),
            Trouble::Revoked => self.server.set(Mode::Status(403)),
            Trouble::Empty | Trouble::Replaced => {
                for (name, _) in &self.services {
                    self.server.set_service(name, &[]);
                }
            }
        }
        Ok(Played::Done)
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        for (name, addresses) in &self.services {
            self.server.set_service(name, addresses);
        }
        self.server.set(Mode::Serve);
        Ok(())
    }
}
