//! Listeners across reloads: what stays keeps its sockets and connections, what is new is bound before anything changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshless_certs::Server;

use super::tls::Built;
use crate::config::{Config, ListenAddress, Listener};
use crate::listener::Shared;
use crate::sockets::{self, BindError, Sockets};
use crate::target::Node;
use crate::telemetry::metrics::Direction;
use crate::upstream::Table;
use crate::worker::{Command, Worker};

/// The listeners that run.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    running: BTreeMap<String, Running>,
}

#[derive(Debug, Clone)]
pub(super) struct Running {
    /// As configured; port 0 stays 0 here.
    configured: ListenAddress,
    pub(super) address: ListenAddress,
    pub(super) shared: Arc<Shared>,
}

/// What a new configuration needs, bound but not yet in force.
pub(super) struct Opened {
    kept: Vec<(String, Arc<Listener>, Option<Arc<Server>>)>,
    bound: Vec<(Running, Sockets)>,
}

impl Listeners {
    /// Binds what is new. An error leaves everything as it is.
    pub(super) fn open(&self, config: &Config, tls: &Built, workers: usize) -> Result<Opened, BindError> {
        let mut opened = Opened { kept: Vec::new(), bound: Vec::new() };
        for listener in &config.listeners {
            let server = tls.server(&listener.name);
            let same_place =
                self.running.get(&listener.name).is_some_and(|running| running.configured == listener.listen);
            if same_place {
                opened.kept.push((listener.name.clone(), Arc::new(listener.clone()), server));
                continue;
            }
            let sockets = sockets::bind(&listener.listen, workers, self.gives_up(&listener.listen, config))?;
            let shared = Shared::new(Arc::new(listener.clone()), server, direction(listener));
            let running = Running { configured: listener.listen.clone(), address: sockets.address.clone(), shared };
            opened.bound.push((running, sockets));
        }
        Ok(opened)
    }

    /// Tells whether a listener that runs now leaves an address to another one: it was renamed, or two change places.
    fn gives_up(&self, address: &ListenAddress, config: &Config) -> bool {
        self.running.iter().any(|(name, running)| {
            let stays = || config.listeners.iter().any(|one| one.name == *name && one.listen == running.configured);
            running.address == *address && !stays()
        })
    }

    /// Lets listeners that are no longer configured go on by a table until their connections have ended.
    pub(super) fn leave(&self, config: &Config, table: &Arc<Table>) {
        for (name, running) in &self.running {
            if !config.listeners.iter().any(|one| one.name == *name) {
                running.shared.leave(table.clone());
            }
        }
    }

    /// Starts what is new, changes what stays, ends what is gone.
    pub(super) fn commit(&mut self, opened: Opened, workers: &[Worker]) {
        let mut next = BTreeMap::new();
        let taken: Vec<_> = opened.bound.iter().map(|(running, _)| running.address.clone()).collect();
        for (name, listener, tls) in opened.kept {
            if let Some(running) = self.running.remove(&name) {
                running.shared.replace(listener, tls);
                next.insert(name, running);
            }
        }
        for (running, sockets) in opened.bound {
            // The same name at another place: the old one ends as the new one begins.
            if let Some(before) = self.running.remove(&*running.shared.name)
                && !taken.contains(&before.address)
            {
                remove_socket(&before);
            }
            tracing::info!(listener = &*running.shared.name, address = %running.address, "Listening.");
            for (worker, socket) in workers.iter().zip(sockets.each) {
                let _ = worker.commands.send(Command::Listen { shared: running.shared.clone(), socket });
            }
            next.insert(running.shared.name.to_string(), running);
        }
        for before in self.running.values() {
            tracing::info!(listener = &*before.shared.name, "A listener ends.");
            if !taken.contains(&before.address) {
                remove_socket(before);
            }
            for worker in workers {
                let _ = worker.commands.send(Command::Retire { name: before.shared.name.clone() });
            }
        }
        self.running = next;
    }

    pub(super) fn all(&self) -> Vec<Running> {
        self.running.values().cloned().collect()
    }

    /// Removes Unix sockets from the file system, so that nobody finds a dead one.
    pub(super) fn remove_sockets(&mut self) {
        for running in std::mem::take(&mut self.running).values() {
            remove_socket(running);
        }
    }
}

/// However control ends.
impl Drop for Listeners {
    fn drop(&mut self) {
        self.remove_sockets();
    }
}

fn remove_socket(running: &Running) {
    if let ListenAddress::Unix(path) = &running.address {
        let _ = std::fs::remove_file(path);
    }
}

/// A listener whose `to` is the application beside us is the way in; everything else is the way out.
fn direction(listener: &Listener) -> Direction {
    let to_static = listener
        .to
        .as_ref()
        .is_some_and(|to| to.leaves().all(|leaf| matches!(leaf, Node::Target(target) if target.backend == "static")));
    if to_static { Direction::Inbound } else { Direction::Outbound }
}
