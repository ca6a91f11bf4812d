//! Places that a gateway looks endpoints up in, and ways to break them: fakes, and real programs where there are any.

mod aws;
mod consul;
mod consul_agent;
mod dns;
mod file;
mod kubernetes;

use std::net::SocketAddr;
use std::path::Path;

pub(crate) use aws::variables as aws_variables;
pub(crate) use consul_agent::{Agent, program as consul_program};

/// An endpoint as a place lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
}

/// What a place says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    Unhealthy,
}

/// What befalls a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Trouble {
    /// Nobody listens.
    Killed,
    /// Connections are taken, nothing is said on them, and what was under way is never answered.
    Frozen,
    /// Every question is answered by an error of the place's own.
    Fails,
    /// Bytes that mean nothing.
    Garbage,
    /// Answers that are late and come in pieces.
    Slow,
    /// Answers that nobody is there.
    Empty,
    /// Our credentials are not taken any more.
    Revoked,
    /// Gone, and back as another instance with other data.
    Replaced,
}

impl Trouble {
    /// Returns what it is, in a table's cell.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Killed => "killed, started again",
            Self::Frozen => "frozen, thawed",
            Self::Fails => "answers errors (500)",
            Self::Garbage => "answers garbage",
            Self::Slow => "answers late and in pieces",
            Self::Empty => "answers that nobody is there",
            Self::Revoked => "token revoked, replaced",
            Self::Replaced => "restarted with other data",
        }
    }
}

/// Whether a place can be broken so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Played {
    Done,
    /// This kind of place has no such trouble.
    Impossible,
}

/// A place, started for one measurement; ends with this.
pub(crate) trait Place: Send {
    /// Returns the tables of the gateway's configuration that name it.
    fn configuration(&self) -> String;

    /// Returns the variables that the gateway's environment needs.
    fn variables(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Returns the target expression of a service.
    fn target(&self, service: &str) -> String;

    /// Makes it list exactly these endpoints for a service.
    fn set(&mut self, service: &str, endpoints: &[Listed]) -> anyhow::Result<()>;

    /// Breaks it. After [`Trouble::Replaced`] it works and knows nothing.
    fn strike(&mut self, trouble: Trouble) -> anyhow::Result<Played>;

    /// Ends the trouble; what it lists then is what was set last.
    fn recover(&mut self) -> anyhow::Result<()>;
}

/// A kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    File,
    Dns,
    Consul,
    ConsulAgent,
    Ecs,
    Cloudmap,
    Kubernetes,
}

impl Kind {
    /// Returns what stands at the head of its row.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::File => "`file`",
            Self::Dns => "`dns` (SRV; a fake server)",
            Self::Consul => "`consul` (a fake)",
            Self::ConsulAgent => "`consul` (a real one)",
            Self::Ecs => "`ecs` (a fake)",
            Self::Cloudmap => "`cloudmap` (a fake)",
            Self::Kubernetes => "`kubernetes` (a fake)",
        }
    }

    /// Starts one in a folder of its own; `None` where this machine cannot have it.
    pub(crate) fn start(self, folder: &Path) -> anyhow::Result<Option<Box<dyn Place>>> {
        Ok(match self {
            Self::File => Some(Box::new(file::Directory::new(folder)?)),
            Self::Dns => Some(Box::new(dns::Zone::new())),
            Self::Cloudmap => Some(Box::new(aws::Account::start(aws::Asked::Cloudmap))),
            Self::Ecs => Some(Box::new(aws::Account::start(aws::Asked::Ecs))),
            Self::Consul => Some(Box::new(consul::Registry::start(folder)?)),
            Self::Kubernetes => Some(Box::new(kubernetes::Cluster::start(folder)?)),
            Self::ConsulAgent => match consul_agent::program() {
                Some(program) => Some(Box::new(Agent::start(&program, folder, None)?)),
                None => None,
            },
        })
    }
}
