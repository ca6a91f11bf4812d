//! For which listeners an object is: `parentRefs` say so.
//!
//! There are no `Gateway` objects here: a gateway of any name is this one, and `sectionName` is the name of a listener.
//! docs/decisions/0085 says why.

use serde_json::Value;

use super::objects::{ParentRef, strict};
use crate::config::problem::suggestion;
use crate::config::{ListenAddress, Listener, ListenerProtocol};

/// Listeners by name; `None`: all that take routes. And what is not for us.
type Found = (Vec<Option<String>>, Vec<String>);

/// Returns the listeners that an object is for, or why it is for none.
pub(super) fn listeners(parents: &[Value], listeners: &[Listener]) -> Result<Found, String> {
    if parents.is_empty() {
        return Err("it has no `parentRefs`, so it is for nobody; name a Gateway".to_owned());
    }
    // What has `to` asks no route, and what does not open requests cannot tell paths.
    let usable: Vec<&Listener> = listeners
        .iter()
        .filter(|one| one.to.is_none())
        .filter(|one| !matches!(one.protocol, ListenerProtocol::Tcp | ListenerProtocol::TlsPassthrough))
        .collect();
    if usable.is_empty() {
        return Err("there is no listener that takes routes".to_owned());
    }
    let (mut named, mut everywhere, mut ignored) = (Vec::new(), false, Vec::new());
    for (position, parent) in parents.iter().enumerate() {
        match one(parent, position, &usable) {
            Ok(None) => everywhere = true,
            Ok(Some(some)) => named.extend(some),
            Err(message) => ignored.push(message),
        }
    }
    if everywhere {
        return Ok((vec![None], ignored));
    }
    named.sort();
    named.dedup();
    if named.is_empty() { Err(ignored.join("; ")) } else { Ok((named.into_iter().map(Some).collect(), ignored)) }
}

/// Returns the listeners of one parent; `None`: all.
fn one(parent: &Value, position: usize, usable: &[&Listener]) -> Result<Option<Vec<String>>, String> {
    let at = format!("parentRefs[{position}]");
    let parent: ParentRef = strict(parent, &at)?;
    let group = parent.group.as_deref().unwrap_or("gateway.networking.k8s.io");
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    if (group, kind) != ("gateway.networking.k8s.io", "Gateway") {
        return Err(format!("`{at}` is the {kind} `{}`: only routes of a Gateway are read", parent.name));
    }
    if parent.section_name.is_none() && parent.port.is_none() {
        return Ok(None);
    }
    let is_meant = |one: &&&Listener| {
        let is_port = |port| matches!(one.listen, ListenAddress::Tcp(address) if address.port() == port);
        parent.section_name.as_deref().is_none_or(|name| name == one.name) && parent.port.is_none_or(is_port)
    };
    let found: Vec<String> = usable.iter().filter(is_meant).map(|one| one.name.clone()).collect();
    if found.is_empty() {
        let names = usable.iter().map(|one| one.name.as_str());
        return Err(match (&parent.section_name, parent.port) {
            (Some(name), None) => format!(
                "`{at}.sectionName` is `{name}`, and no listener that takes routes has that name{}",
                suggestion(name, names)
            ),
            (None, Some(port)) => format!("`{at}.port` is {port}, and no listener that takes routes has that port"),
            (name, port) => format!(
                "no listener that takes routes has the name `{}` and the port {} of `{at}`",
                name.as_deref().unwrap_or_default(),
                port.unwrap_or_default()
            ),
        });
    }
    Ok(Some(found))
}
