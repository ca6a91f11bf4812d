//! Listeners across reloads: what stays keeps its sockets and connections, what is new is bound before anything changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tls::Built;
use crate::config::{Config, ListenAddress, Listener};
use crate::listener::{Shared, Tls};
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
    kept: Vec<(String, Arc<Listener>, Option<Arc<Tls>>)>,
    bound: Vec<(Running, Sockets)>,
    /// Listeners with the sockets of another one, by its name: it was renamed, or they change places. No socket is
    /// closed, so no connection that waits in its queue is lost.
    taken: Vec<(Running, String)>,
}

impl Listeners {
    /// Binds what is new. An error leaves everything as it is.
    pub(super) fn open(&self, config: &Config, tls: &Built, workers: usize) -> Result<Opened, BindError> {
        let mut opened = Opened { kept: Vec::new(), bound: Vec::new(), taken: Vec::new() };
        for listener in &config.listeners {
            let server = tls.server(&listener.name);
            let same_place =
                self.running.get(&listener.name).is_some_and(|running| running.configured == listener.listen);
            if same_place {
                opened.kept.push((listener.name.clone(), Arc::new(listener.clone()), server));
                continue;
            }
            let shared = Shared::new(Arc::new(listener.clone()), server, direction(listener));
            let configured = listener.listen.clone();
            if let Some(before) = self.gives_up(&configured, config) {
                let address = configured.clone();
                opened.taken.push((Running { configured, address, shared }, before.to_owned()));
                continue;
            }
            let sockets = sockets::bind(&configured, workers)?;
            opened.bound.push((Running { configured, address: sockets.address.clone(), shared }, sockets));
        }
        Ok(opened)
    }

    /// Returns the listener that runs now and leaves an address to another one.
    fn gives_up(&self, address: &ListenAddress, config: &Config) -> Option<&str> {
        let leaves = |(name, running): &(&String, &Running)| {
            let stays = || config.listeners.iter().any(|one| one.name == **name && one.listen == running.configured);
            running.address == *address && !stays()
        };
        self.running.iter().find(leaves).map(|(name, _)| name.as_str())
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
        for (name, listener, tls) in opened.kept {
            if let Some(running) = self.running.remove(&name) {
                running.shared.replace(listener, tls);
                next.insert(name, running);
            }
        }
        let mut moves: Vec<(Arc<str>, Arc<Shared>)> = Vec::new();
        for (running, before) in opened.taken {
            tracing::info!(listener = &*running.shared.name, before, "A listener takes the place of another.");
            self.running.remove(&before);
            moves.push((before.into(), running.shared.clone()));
            next.insert(running.shared.name.to_string(), running);
        }
        if !moves.is_empty() {
            for worker in workers {
                let _ = worker.commands.send(Command::TakeOver { moves: moves.clone() });
            }
        }
        for (running, sockets) in opened.bound {
            tracing::info!(listener = &*running.shared.name, address = %running.address, "Listening.");
            for (worker, socket) in workers.iter().zip(sockets.each) {
                let _ = worker.commands.send(Command::Listen { shared: running.shared.clone(), socket });
            }
            next.insert(running.shared.name.to_string(), running);
        }
        for (name, before) in &self.running {
            remove_socket(before);
            if next.contains_key(name) {
                // The same name at another place: the old one ended as the new one began.
                continue;
            }
            tracing::info!(listener = name, "A listener ends.");
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
