//! Which listener a request comes by.

use super::request::{Scheme, Way};
use super::{Question, Refusal, answer};
use crate::config::{Config, ListenAddress, Listener, ListenerProtocol, ListenerTls, UpstreamProtocol};
use crate::target::Node;

/// The listener, and why it is this one.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub(super) listener: &'a Listener,
    because: String,
    /// Others that would take such a request.
    pub(super) others: Vec<&'a Listener>,
}

impl Chosen<'_> {
    pub(super) fn view(&self) -> answer::Listener {
        answer::Listener {
            name: self.listener.name.clone(),
            address: self.listener.listen.to_string(),
            because: self.because.clone(),
        }
    }
}

/// Chooses the listener that is named, else the one at the port of the URL, else the first one in the file of those that
/// take such a request.
pub(super) fn choose<'a>(question: &Question, way: &Way, config: &'a Config) -> Result<Chosen<'a>, Refusal> {
    let names = || config.listeners.iter().map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", ");
    if let Some(name) = &question.listener {
        let found = config.listeners.iter().find(|one| one.name == *name);
        let Some(listener) = found else {
            return Err(Refusal::new(format!("there is no listener `{name}`"), format!("there are {}", names())));
        };
        if let Some(why) = refuses(listener, way.scheme, config) {
            return Err(Refusal::new(
                format!("listener `{name}` takes no {}: {why}", way.scheme.name()),
                "ask with another scheme (http, https, tcp, tls) or another --listener",
            ));
        }
        return Ok(Chosen { listener, because: "it was asked for".to_owned(), others: Vec::new() });
    }
    let fits = |one: &&Listener| refuses(one, way.scheme, config).is_none();
    let fitting: Vec<&Listener> = config.listeners.iter().filter(fits).collect();
    let at_port = |one: &&&Listener| match &one.listen {
        ListenAddress::Tcp(address) => way.port == Some(address.port()) && address.port() != 0,
        ListenAddress::Unix(_) => false,
    };
    let Some(&first) = fitting.first() else {
        let why = config.listeners.iter().filter_map(|one| Some((&one.name, refuses(one, way.scheme, config)?)));
        let why: Vec<_> = why.map(|(name, wanted)| format!("`{name}` {wanted}")).collect();
        return Err(Refusal::new(
            format!("no listener takes {}", way.scheme.name()),
            format!("ask with the scheme that fits: {}", why.join(", ")),
        ));
    };
    let (listener, because) = match fitting.iter().find(at_port) {
        _ if fitting.len() == 1 => (first, format!("the only one that takes {}", way.scheme.name())),
        Some(&one) => (one, "it listens at the port of the URL".to_owned()),
        None => (first, format!("the first in the file of {} that take {}", fitting.len(), way.scheme.name())),
    };
    let others = fitting.into_iter().filter(|one| one.name != listener.name).collect();
    Ok(Chosen { listener, because, others })
}

/// Says why a listener does not take what comes so; `None` where it does.
fn refuses(listener: &Listener, scheme: Scheme, config: &Config) -> Option<&'static str> {
    let wanted = match (listener.protocol, &listener.tls) {
        (ListenerProtocol::TlsPassthrough, _) => "passes TLS on (tls)",
        (ListenerProtocol::Tcp, _) => "takes bytes (tcp)",
        (ListenerProtocol::Auto | ListenerProtocol::Http, ListenerTls::Off) => "takes http",
        (ListenerProtocol::Auto | ListenerProtocol::Http, ListenerTls::Permissive) => "takes http and https",
        (ListenerProtocol::Auto | ListenerProtocol::Http, ListenerTls::Server { .. } | ListenerTls::Strict) => {
            "takes https"
        }
    };
    let takes = match scheme {
        Scheme::Tls => listener.protocol == ListenerProtocol::TlsPassthrough,
        Scheme::Tcp => {
            listener.protocol == ListenerProtocol::Tcp
                || listener.protocol == ListenerProtocol::Auto && carries_bytes(listener, config)
        }
        Scheme::Http | Scheme::Https => {
            matches!(listener.protocol, ListenerProtocol::Auto | ListenerProtocol::Http)
                && listener.tls.takes(scheme == Scheme::Https)
        }
    };
    (!takes).then_some(wanted)
}

/// Tells whether all that a listener's `to` names speaks bytes.
fn carries_bytes(listener: &Listener, config: &Config) -> bool {
    listener.to.as_ref().is_some_and(|to| {
        to.leaves().all(|leaf| {
            let policies = match leaf {
                Node::Service(name) => config.services.get(name).map(|service| &service.policies),
                Node::Target(_) => Some(&config.defaults),
                Node::Group(_) => None,
            };
            policies.is_some_and(|policies| policies.protocol == UpstreamProtocol::Tcp)
        })
    })
}
