//! Routes of the Kubernetes Gateway API (`HTTPRoute` and `GRPCRoute`, v1) as routes of ours (pure).
//!
//! ```text
//! objects (JSON) ─► parents: for which listeners? ─► each rule: matches × hosts × listeners, filters, backends ─► sorted by precedence
//! ```
//!
//! What is not understood is never left out in silence, because what is left would match more, or do less, than what was
//! meant. A match that is not understood takes its rule out; a rule whose matches are understood and whose filters or
//! backends are not answers with an error in place of being sent where it should not be. Each is told as a [`Remark`].
//!
//! docs/gateway-api.md has the table of what is read and how it is translated.

mod backends;
mod durations;
mod filters;
mod grpc;
mod matches;
mod objects;
mod parents;
mod precedence;
mod rule;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;

use meshless_discovery::Target;
use serde_json::Value;

use self::objects::{Kind, Object};
use self::precedence::Ranked;
use crate::config::{Listener, Route};

/// Most routes of ours that are made; one object makes at most 2,048 for each listener that it names.
const MAX_ROUTES: usize = 20_000;

/// Where objects are translated to.
pub(crate) struct Place<'a> {
    /// Name of the backend that knows the services of the cluster: `[discovery.NAME]`.
    pub(crate) backend: &'a str,
    /// The listeners of the configuration.
    pub(crate) listeners: &'a [Listener],
    /// Says what is wrong with a target of that backend.
    pub(crate) check: &'a dyn Fn(&Target) -> Result<(), String>,
}

/// What objects became.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Translated {
    /// Routes in the order of their precedence: the first match wins.
    pub(crate) routes: Vec<Route>,
    /// What a person should know, in the order of the objects' names.
    pub(crate) remarks: Vec<Remark>,
    /// Rules that are served as they are written.
    pub(crate) used: usize,
    /// Rules that are not: left out, or answered with an error. An object that is left out as a whole counts as one.
    pub(crate) refused: usize,
}

/// What a person should know about an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remark {
    /// The object, or the rule of it: `httproute/NAMESPACE/NAME`, `httproute/NAMESPACE/NAME/rule-0`.
    pub(crate) about: String,
    /// What comes of it.
    pub(crate) effect: Effect,
    /// What was found, and what to do.
    pub(crate) message: String,
}

/// What comes of something that is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Effect {
    /// This share of its requests, 0 to 1, is answered with this status.
    Answers(u16, f64),
    /// The rest of it is served.
    Ignored,
    /// It is not served.
    LeftOut,
}

impl fmt::Display for Remark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.about)?;
        match self.effect {
            Effect::Answers(status, share) if share < 1.0 => {
                write!(formatter, "answers {:.1} % of its requests with {status}: ", share * 100.0)?;
            }
            Effect::Answers(status, _) => write!(formatter, "answers {status}: ")?,
            Effect::Ignored => {}
            Effect::LeftOut => formatter.write_str("is left out: ")?,
        }
        formatter.write_str(&self.message)
    }
}

/// Translates all objects of a namespace.
pub(crate) fn translate(objects: &[Value], place: &Place<'_>) -> Translated {
    let mut read: Vec<Result<Object, Remark>> = objects.iter().map(Object::read).collect();
    // What does not depend on the order of a list gives the same routes, and the same warnings, every time.
    read.sort_by(|left, right| name_of(left).cmp(name_of(right)));
    let (mut translated, mut ranked) = (Translated::default(), Vec::new());
    for object in read {
        match object {
            Ok(object) => one(&object, place, &mut translated, &mut ranked),
            Err(remark) => {
                translated.refused += 1;
                translated.remarks.push(remark);
            }
        }
    }
    ranked.sort_by(|left, right| left.rank.cmp(&right.rank));
    translated.routes = ranked.into_iter().map(|ranked| ranked.route).collect();
    translated
}

fn name_of(object: &Result<Object, Remark>) -> &str {
    match object {
        Ok(object) => &object.id,
        Err(remark) => &remark.about,
    }
}

/// Translates one object: all of its rules, each for itself.
fn one(object: &Object, place: &Place<'_>, translated: &mut Translated, ranked: &mut Vec<Ranked>) {
    let mut left_out = |message: String| {
        translated.refused += 1;
        translated.remarks.push(Remark { about: object.id.clone(), effect: Effect::LeftOut, message });
    };
    let (listeners, ignored) = match parents::listeners(&object.parents, place.listeners) {
        Ok(found) => found,
        Err(message) => return left_out(message),
    };
    let hosts = match matches::hosts(&object.hostnames) {
        Ok(hosts) => hosts,
        Err(message) => return left_out(message),
    };
    let ignore = |about: &str, message: String| Remark { about: about.to_owned(), effect: Effect::Ignored, message };
    translated.remarks.extend(ignored.into_iter().map(|message| ignore(&object.id, message)));
    translated.remarks.extend(object.unread.iter().map(|key| ignore(&object.id, unread("spec", key))));
    for (position, rule) in object.rules.iter().enumerate() {
        let about = object.rule_name(position);
        let wrong = |effect, message| Remark { about: about.clone(), effect, message };
        let (status, matched) = match object.kind {
            Kind::Http => (500, matches::of_rule(rule)),
            // UNAVAILABLE, which is what the Gateway API asks for.
            Kind::Grpc => (503, grpc::of_rule(rule)),
        };
        let matched = match matched {
            Ok(matched) => matched,
            Err(message) => {
                translated.refused += 1;
                translated.remarks.push(wrong(Effect::LeftOut, message));
                continue;
            }
        };
        if ranked.len() + matched.len() * hosts.len() * listeners.len() > MAX_ROUTES {
            translated.refused += 1;
            let message = format!("more than {MAX_ROUTES} routes would be made of all objects; match less in each");
            translated.remarks.push(wrong(Effect::LeftOut, message));
            continue;
        }
        let namespace = &object.namespace;
        let built = rule::build(rule, &rule::Of { kind: object.kind, namespace, matched: &matched, status }, place);
        if built.remarks.iter().any(|(effect, _)| *effect != Effect::Ignored) {
            translated.refused += 1;
        } else {
            translated.used += 1;
        }
        translated.remarks.extend(built.remarks.iter().map(|(effect, message)| wrong(*effect, message.clone())));
        for host in &hosts {
            for one in &matched {
                for listener in &listeners {
                    ranked.push(Ranked {
                        rank: precedence::rank(object, host.as_ref(), &one.rank, position),
                        route: built.route(&about, listener.clone(), host.clone(), one),
                    });
                }
            }
        }
    }
}

fn unread(of: &str, key: &str) -> String {
    format!("`{of}.{key}` is not read, the rest is served as if it were not there")
}
