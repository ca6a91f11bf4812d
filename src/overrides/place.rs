//! What a name that is delegated no further stands for: a service, a logical name, a target, or the request's own way.

use std::net::IpAddr;

use meshless_discovery::Target;

use super::dtab::Shown;
use super::rewrite::Outcome;
use super::{Subject, leaf};
use crate::target::{Expression, Node, is_name};

/// What of the configuration an override may name.
pub(crate) trait Known {
    /// There is a service of this name.
    fn has_service(&self, name: &str) -> bool;
    /// What a normal host stands for by `[[names]]`, if all services that it names are there.
    fn name(&self, host: &str) -> Option<Expression>;
    /// There is a backend of this name that knows endpoints by theirs.
    fn has_backend(&self, name: &str) -> bool;
    /// What a target of this backend says is an address, or a name that anybody may give one.
    fn is_for_addresses(&self, backend: &str) -> bool;
    /// The target stands in the configuration as it is.
    fn has_target(&self, target: &Target) -> bool;
}

/// Maps names.
pub(super) struct Places<'a> {
    subject: &'a Subject<'a>,
    known: &'a dyn Known,
}

impl<'a> Places<'a> {
    pub(super) fn new(subject: &'a Subject<'a>, known: &'a dyn Known) -> Self {
        Self { subject, known }
    }

    /// Maps a name, or says why it stands for nothing that a request may name.
    pub(super) fn place(&self, name: &[String]) -> Result<Outcome, String> {
        let parts: Vec<&str> = name.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["svc", name] => self.service(name).map(Outcome::To),
            ["host", name] => self.host(name).map(Outcome::To),
            ["$", "nil", ..] => Ok(Outcome::Empty),
            ["$", "inet", host, port] | ["$", "io.buoyant.rinet", port, host] => self.address(host, port),
            ["#", backend, path @ ..] if !path.is_empty() => self.target(backend, path),
            ["svc" | "host", ..] => {
                Err(format!("`{}`: a name has one part behind `/svc`, such as `/svc/web`", Shown(name)))
            }
            _ => Err(format!(
                "`{}` is no name here: there are `/svc/NAME`, `/host/NAME`, `/#/BACKEND/…` and `/$/inet/ADDRESS/PORT`",
                Shown(name)
            )),
        }
    }

    fn service(&self, written: &str) -> Result<Expression, String> {
        let name = written.to_ascii_lowercase();
        if self.known.has_service(&name) {
            return Ok(leaf(Node::Service(name)));
        }
        self.logical(written, &name).ok_or_else(|| format!("there is no service and no logical name `{written}`"))
    }

    fn host(&self, written: &str) -> Result<Expression, String> {
        self.logical(written, &written.to_ascii_lowercase()).map_or_else(|| self.service(written), Ok)
    }

    /// The request's own names lead where it would go without an override.
    fn logical(&self, written: &str, name: &str) -> Option<Expression> {
        if name == self.subject.host || written == self.subject.route {
            return Some(self.subject.to.clone());
        }
        self.known.name(name)
    }

    fn address(&self, host: &str, port: &str) -> Result<Outcome, String> {
        let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
        let (backend, path) = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ("static", format!("{ip}:{port}")),
            Ok(IpAddr::V6(ip)) => ("static", format!("[{ip}]:{port}")),
            Err(_) => ("dns", format!("{host}:{port}")),
        };
        self.allowed(Target { backend: backend.to_owned(), path, options: [].into() })
    }

    /// A namer of Linkerd 1 by its kind (`io.l5d.…`), or a backend of ours by its name.
    fn target(&self, namer: &str, path: &[&str]) -> Result<Outcome, String> {
        let (backend, path, options) = match (namer, path) {
            ("io.l5d.fs", [name]) => ("file", (*name).to_owned(), Vec::new()),
            // `.local` is the datacenter of the agent, which is ours without `dc`.
            ("io.l5d.consul", [".local", name]) => ("consul", (*name).to_owned(), Vec::new()),
            ("io.l5d.consul", [dc, name]) => ("consul", (*name).to_owned(), vec![("dc", *dc)]),
            ("io.l5d.consul", [".local", tag, name]) => ("consul", (*name).to_owned(), vec![("tag", *tag)]),
            ("io.l5d.consul", [dc, tag, name]) => ("consul", (*name).to_owned(), vec![("dc", *dc), ("tag", *tag)]),
            ("io.l5d.k8s", [namespace, port, service]) => {
                ("kubernetes", format!("{namespace}/{service}:{port}"), Vec::new())
            }
            (linkerd, _) if linkerd.starts_with("io.l5d.") => {
                return Err(format!(
                    "the namer `/#/{linkerd}` with {} parts does not map; write `/#/BACKEND/…` with a backend of ours",
                    path.len()
                ));
            }
            (backend, path) => (backend, path.join("/"), Vec::new()),
        };
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let target = Target { backend: backend.to_owned(), path, options };
        // What is printed is what is read back: a part with an operator in it would be another expression.
        let read_back = Expression::parse(&target.to_string()).ok();
        if !is_name(backend) || read_back.is_none_or(|parsed| parsed != leaf(Node::Target(target.clone()))) {
            return Err(format!("`{target}` cannot be written as a target"));
        }
        self.allowed(target)
    }

    fn allowed(&self, target: Target) -> Result<Outcome, String> {
        allowed(&target, self.known)?;
        Ok(Outcome::To(leaf(Node::Target(target))))
    }
}

/// Says why a request may not name a target. A header names services and what configured backends know; an address only
/// where the configuration has it too, else whoever sets headers could reach whatever this host can reach.
pub(super) fn allowed(target: &Target, known: &dyn Known) -> Result<(), String> {
    if known.has_target(target) {
        return Ok(());
    }
    if known.is_for_addresses(&target.backend) {
        return Err(format!(
            "`{target}`: addresses are not taken from a header; make it a service, and name that (or let a route name \
             this target as it is)"
        ));
    }
    if known.has_backend(&target.backend) {
        return Ok(());
    }
    Err(format!("`{target}`: there is no backend `{}`", target.backend))
}
