//! `[[names]]`, and which listeners let requests choose.

use super::Check;
use super::process::is_local;
use super::reach::takes_routes;
use super::targets::May;
use crate::config::problem::{At, Path};
use crate::config::{Listener, ListenerProtocol, raw};
use crate::names::{Pattern, Rule};
use crate::target::Template;

impl Check<'_> {
    /// Checks every rule; one that is wrong is `None`, so that the others keep their positions.
    pub(super) fn names(&mut self, raw: &[raw::Name]) -> Vec<Option<Rule>> {
        let root = Path::default().key("names");
        raw.iter().enumerate().map(|(position, table)| self.name(table, &root.position(position))).collect()
    }

    fn name(&mut self, raw: &raw::Name, path: &Path) -> Option<Rule> {
        let pattern = raw.matches.as_deref().map(Pattern::parse);
        match &pattern {
            Some(Ok(_)) => {}
            Some(Err(error)) => self.error(&path.key("match"), At::Offset(error.offset), error.message.clone()),
            None => {
                let message = "missing: say which hosts it is for, such as `match = \"{service}.mesh\"`";
                self.missing(&path.key("match"), message);
            }
        }
        let Some(text) = &raw.target else {
            let message = "missing: say what these hosts stand for, such as `target = \"consul/{service}\"`";
            self.missing(&path.key("target"), message);
            return None;
        };
        // Without its captures, nothing can be said about the target.
        let pattern = pattern?.ok()?;
        let captures: Vec<&str> = pattern.captures().collect();
        let target = match Template::parse(text, &captures) {
            Ok(target) => target,
            Err(error) => {
                let message = format!("{} (byte {})", error.message, error.offset);
                self.error(&path.key("target"), At::Offset(error.offset), message);
                return None;
            }
        };
        let may = May::Captures { pattern: &pattern };
        if !self.leaves(target.written(), text, &path.key("target"), may) {
            return None;
        }
        Some(Rule { pattern, target })
    }

    /// Warns of rules that nothing can reach, and of those that the world can.
    pub(super) fn names_reach(&mut self, names: &[Option<Rule>], listeners: &[Option<Listener>]) {
        for (position, rule) in names.iter().enumerate() {
            let Some(rule) = rule else { continue };
            let path = Path::default().key("names").position(position);
            let earlier = names.get(..position).unwrap_or_default().iter();
            let covers = |other: &Option<Rule>| other.as_ref().is_some_and(|other| other.pattern.covers(&rule.pattern));
            if let Some(first) = earlier.clone().position(covers) {
                let message =
                    format!("nothing can reach it: names[{first}] stands before it and matches all that it matches");
                self.report.warning(&path, At::Key, message);
            } else if listeners.iter().all(|one| one.as_ref().is_some_and(|listener| !takes_routes(listener))) {
                let message = "nothing can reach it: every listener has `to`";
                self.report.warning(&path, At::Key, message);
            }
        }
        for (position, listener) in listeners.iter().enumerate() {
            let Some(listener) = listener.as_ref().filter(|listener| !is_local(&listener.listen)) else { continue };
            let path = Path::default().key("listeners").position(position);
            if takes_routes(listener) && names.iter().any(Option::is_some) {
                let message = "is not on loopback, and names apply to it: whoever reaches it may ask for every service \
                               that a name can stand for";
                self.report.warning(&path.key("listen"), At::Value, message);
            }
            if listener.overrides && !listener.tls.needs_certificates() {
                let message = "is not on loopback, and takes overrides from whoever reaches it; \
                               listen on loopback, or ask for certificates of clients (`mode = \"strict\"`, or `client_ca`)";
                self.report.warning(&path.key("overrides"), At::Value, message);
            }
        }
    }

    /// Where nothing of a request can be changed, the key is a mistake.
    pub(super) fn overrides(&mut self, raw: &raw::Listener, protocol: ListenerProtocol, path: &Path) -> bool {
        let overrides = raw.overrides.unwrap_or(false);
        let problem = match protocol {
            ListenerProtocol::Tcp | ListenerProtocol::TlsPassthrough => {
                "has no meaning here: there are no headers that could change a target; remove it"
            }
            _ if raw.to.is_some() => {
                "has no meaning beside `to`, which wins over everything; write a route in place of `to`"
            }
            _ => return overrides,
        };
        if overrides {
            self.error(&path.key("overrides"), At::Value, problem);
        }
        overrides
    }
}
