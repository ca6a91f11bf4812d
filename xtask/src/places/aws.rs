//! Tasks of ECS and instances of Cloud Map, in a fake account.

use std::collections::BTreeMap;

use meshless_fakes::aws::{Aws, CLUSTER, KEY, REGION, Service, Task, definition, definition_with};
use meshless_fakes::http::Mode;

use super::{Health, Listed, Place, Played, Trouble};

/// The container instance that all tasks are on, and the machine below it.
const INSTANCE: (&str, &str) = ("arn:aws:ecs:eu-west-1:123456789012:container-instance/prod/1", "i-1");

/// The namespace of Cloud Map.
const NAMESPACE: &str = "prod.internal";

/// The port in the container. On the machine each task has its own.
const PORT: u16 = 8080;

/// Returns the credentials that the account takes, and keeps this machine's own out.
pub(crate) fn variables() -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
    ]
}

/// Which service of AWS is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Cloudmap,
    Ecs,
}

#[derive(Debug)]
pub(super) struct Account {
    aws: Aws,
    asked: Asked,
    services: Vec<(String, Vec<Listed>)>,
}

impl Account {
    pub(super) fn start(asked: Asked) -> Self {
        let aws = Aws::start();
        {
            let mut world = aws.world();
            world.instances.insert(INSTANCE.0.to_owned(), INSTANCE.1.to_owned());
            world.addresses.insert(INSTANCE.1.to_owned(), "127.0.0.1".to_owned());
        }
        Self { aws, asked, services: Vec::new() }
    }

    fn write(&self, service: &str, endpoints: &[Listed]) {
        let mut world = self.aws.world();
        match self.asked {
            Asked::Ecs => {
                world.services.insert(service.to_owned());
                world.definitions.insert(definition(service, 1), definition_with("bridge", &[("", PORT)]));
                let group = format!("service:{service}");
                world.tasks.retain(|task| task.get("group").and_then(|value| value.as_str()) != Some(&group));
                world.tasks.extend(endpoints.iter().map(|endpoint| {
                    let port = endpoint.address.port();
                    let health = match endpoint.health {
                        Health::Healthy => "HEALTHY",
                        Health::Unhealthy => "UNHEALTHY",
                    };
                    Task::new(service, usize::from(port)).on(INSTANCE.0, &[(PORT, port)]).health(health).json()
                }));
            }
            Asked::Cloudmap => {
                let entry = world.discovered.entry((NAMESPACE.to_owned(), service.to_owned())).or_default();
                let instances = endpoints.iter().map(|endpoint| {
                    let (ip, port) = (endpoint.address.ip().to_string(), endpoint.address.port().to_string());
                    let health = match endpoint.health {
                        Health::Healthy => "HEALTHY",
                        Health::Unhealthy => "UNHEALTHY",
                    };
                    let attributes = [("AWS_INSTANCE_IPV4", ip), ("AWS_INSTANCE_PORT", port.clone())];
                    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
                    (format!("{service}-{port}"), health.to_owned(), BTreeMap::from(attributes))
                });
                *entry = Service { revision: entry.revision + 1, instances: instances.collect() };
            }
        }
    }

    fn clear(&self) {
        for (service, _) in &self.services {
            self.write(service, &[]);
        }
    }
}

impl Place for Account {
    fn configuration(&self) -> String {
        let table = match self.asked {
            Asked::Cloudmap => "cloudmap",
            Asked::Ecs => "ecs",
        };
        format!(
            "[discovery.{table}]\nendpoint = \"{}\"\nregion = \"{REGION}\"\nmin_interval = \"1s\"\nmax_interval = \"2s\"\n",
            self.aws.server.url()
        )
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        variables()
    }

    fn target(&self, service: &str) -> String {
        match self.asked {
            Asked::Cloudmap => format!("cloudmap/{NAMESPACE}/{service}"),
            Asked::Ecs => format!("ecs/{CLUSTER}/{service}:{PORT}"),
        }
    }

    fn set(&mut self, service: &str, endpoints: &[Listed]) -> anyhow::Result<()> {
        self.services.retain(|(name, _)| name != service);
        self.services.push((service.to_owned(), endpoints.to_vec()));
        self.write(service, endpoints);
        Ok(())
    }

    fn strike(&mut self, trouble: Trouble) -> anyhow::Result<Played> {
        let server = &self.aws.server;
        match trouble {
            Trouble::Killed => server.set(Mode::Down),
            Trouble::Frozen => server.set(Mode::Frozen),
            Trouble::Fails => server.set(Mode::Status(500)),
            Trouble::Garbage => server.set(Mode::Garbage),
            Trouble::Slow => server.set(Mode::Slow(300)),
            Trouble::Empty | Trouble::Replaced => self.clear(),
            Trouble::Revoked => self.aws.world().keys.clear(),
        }
        Ok(Played::Done)
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        self.aws.server.set(Mode::Serve);
        self.aws.world().keys.insert(KEY.to_owned());
        for (service, endpoints) in &self.services {
            self.write(service, endpoints);
        }
        Ok(())
    }
}
