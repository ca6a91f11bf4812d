//! What requests asked for by a logical name or an override, and the configuration does not name itself.
//!
//! A request never opens anything: it looks here, and where what it wants is missing it asks control for it and waits for
//! the table's next version. Control opens, sweeps and publishes; see `compose/demand.rs`.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use meshless_discovery::{Address, Target};

use super::plan::UpstreamPlan;
use super::tree::Tree;
use super::{Table, Upstream};
use crate::target::{Expression, Node};

/// Something that a request asks control for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// A host that is a logical name, in normal form.
    Name(Arc<str>),
    /// A target that an override names.
    Target(Target),
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host) => formatter.write_str(host),
            Self::Target(target) => target.fmt(formatter),
        }
    }
}

/// Everything that was asked for and is in use.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// In the table they follow those of the plan, in this order.
    pub(crate) upstreams: Vec<Arc<UpstreamPlan>>,
    pub(crate) names: HashMap<Arc<str>, LiveName>,
    pub(crate) targets: HashMap<Target, LiveTarget>,
    pub(crate) refused: Refused,
}

/// A logical name in use.
#[derive(Debug)]
pub(crate) struct LiveName {
    /// Position of its rule.
    pub(crate) rule: usize,
    pub(crate) to: Tree<usize>,
    pub(crate) used: Arc<Used>,
    /// Which targets have not answered yet, and why; `None` where all have.
    pub(crate) waits_for: Option<Arc<str>>,
}

/// A target of an override in use.
#[derive(Debug)]
pub(crate) struct LiveTarget {
    pub(crate) position: usize,
    pub(crate) used: Arc<Used>,
    /// As in [`LiveName`].
    pub(crate) waits_for: Option<Arc<str>>,
}

/// What cannot be had, remembered for a short time so that a flood of nonsense ends at the workers.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) names: HashMap<Arc<str>, Refusal>,
    pub(crate) targets: HashMap<Target, Refusal>,
}

/// Why something cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many names are in use as may be.
    Full,
    /// What it stands for cannot be opened.
    Unusable(Arc<str>),
}

/// When something was last used: milliseconds of the process, which wrap.
#[derive(Debug)]
pub(crate) struct Used(AtomicU32);

impl Used {
    /// Precision of the stamp, in milliseconds: so often a busy name writes to memory that all workers read.
    const PRECISION: u32 = 1000;

    pub(crate) fn at(now: u32) -> Self {
        Self(AtomicU32::new(now))
    }

    /// It is used now.
    pub(crate) fn touch(&self, now: u32) {
        if self.idle(now) >= Self::PRECISION {
            self.0.store(now, Ordering::Relaxed);
        }
    }

    /// Returns how many milliseconds ago it was used.
    pub(crate) fn idle(&self, now: u32) -> u32 {
        now.wrapping_sub(self.0.load(Ordering::Relaxed))
    }
}

/// What the table says about a logical name.
#[derive(Debug)]
pub(crate) enum Sought<'t> {
    Found(&'t LiveName),
    Refused(&'t Refusal),
    /// Nobody has asked for it yet.
    Wanted,
}

/// Why an expression leads nowhere (yet).
#[derive(Debug)]
pub(crate) enum Lack {
    /// A target cannot be had.
    Refused(Target, Refusal),
    /// No service has this name.
    Unknown(String),
    /// These have to be asked for.
    Wanted(Vec<Wanted>),
}

impl Table {
    /// Looks a normal host up among the logical names; `None` where it is none.
    pub(crate) fn name(&self, host: &str) -> Option<Sought<'_>> {
        if let Some(name) = self.live.names.get(host) {
            return Some(Sought::Found(name));
        }
        if let Some(refusal) = self.live.refused.names.get(host) {
            return Some(Sought::Refused(refusal));
        }
        self.plan.logical.has(host).then_some(Sought::Wanted)
    }

    /// Says whether the table answers for what was asked for, be it with a refusal.
    pub(crate) fn knows(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Name(host) => !matches!(self.name(host), Some(Sought::Wanted)),
            Wanted::Target(target) => {
                self.live.targets.contains_key(target) || self.live.refused.targets.contains_key(target)
            }
        }
    }

    /// Looks up every leaf of an expression.
    pub(crate) fn tree(&self, expression: &Expression, now: u32) -> Result<Tree<usize>, Lack> {
        let (mut lack, mut wanted) = (None, Vec::new());
        let tree = Tree::build(expression, &mut |node| {
            if let Some(position) = self.plan.logical.position(node) {
                return position;
            }
            match node {
                Node::Service(name) => lack = lack.take().or_else(|| Some(Lack::Unknown(name.clone()))),
                Node::Target(target) => match (self.live.targets.get(target), self.live.refused.targets.get(target)) {
                    (Some(live), _) => {
                        live.used.touch(now);
                        return live.position;
                    }
                    (None, Some(refusal)) => {
                        lack = lack.take().or_else(|| Some(Lack::Refused(target.clone(), refusal.clone())));
                    }
                    (None, None) => wanted.push(Wanted::Target(target.clone())),
                },
                // `Tree::build` opens groups itself.
                Node::Group(_) => {}
            }
            usize::MAX
        });
        match lack {
            Some(lack) => Err(lack),
            None if wanted.is_empty() => Ok(tree),
            None => Err(Lack::Wanted(wanted)),
        }
    }

    /// Says which targets of a tree have not answered yet, if that leaves it without any endpoint.
    pub(crate) fn unanswered(&self, expression: &Expression, tree: &Tree<usize>) -> Option<&Arc<str>> {
        let waits = |target| self.live.targets.get(target).and_then(|live| live.waits_for.as_ref());
        let why = expression.targets().find_map(waits)?;
        self.is_empty(tree).then_some(why)
    }

    /// Says whether no upstream of a tree has an endpoint.
    pub(crate) fn is_empty(&self, tree: &Tree<usize>) -> bool {
        let mut is_empty = true;
        tree.for_each(&mut |&position| {
            is_empty &= self.upstreams.get(position).is_none_or(|upstream| upstream.members.is_empty());
        });
        is_empty
    }

    /// Returns the live upstreams, each with what it was planned by.
    pub(crate) fn live_upstreams(&self) -> HashMap<Key<'_>, (&Arc<UpstreamPlan>, &Arc<Upstream>)> {
        let upstreams = self.upstreams.iter().skip(self.plan.upstreams.len());
        let both = self.live.upstreams.iter().zip(upstreams);
        both.filter_map(|(planned, upstream)| Some((key(planned)?, (planned, upstream)))).collect()
    }

    /// Writes a tree of the plan as the expression that it was made of.
    pub(crate) fn expression(&self, tree: &Tree<usize>) -> Expression {
        super::tree::written(tree, &|&position| {
            let planned = self.plan.upstreams.get(position);
            match planned.map(|planned| (&planned.name, &planned.from)) {
                // An inline target is named as it prints; a service's name has no `/`.
                Some((name, Tree::Leaf(target))) if name.contains('/') => Node::Target(target.clone()),
                Some((name, _)) => Node::Service(name.to_string()),
                None => Node::Service(String::new()),
            }
        })
    }
}

/// What tells a live upstream from others: its name in metrics is that of its rule, and so not its own alone.
pub(crate) type Key<'a> = (&'a str, &'a Target);

/// Returns the key of a live upstream, which is always planned from one target.
pub(crate) fn key(planned: &UpstreamPlan) -> Option<Key<'_>> {
    match &planned.from {
        Tree::Leaf(target) => Some((&planned.name, target)),
        Tree::Split(_) | Tree::Tiers(_) => None,
    }
}

/// Addresses that no upstream chosen by a request may have: link-local ones and the metadata services of clouds, which
/// give credentials to whoever reaches them (security paper, §1), and what is no address of one host.
pub(crate) fn is_forbidden(address: &Address) -> bool {
    let Address::Tcp(address) = address else { return false };
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                // Alibaba Cloud; Azure.
                || matches!(ip.octets(), [100, 100, 100, 200] | [168, 63, 129, 16])
        }
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                // AWS; Google Cloud.
                || matches!(ip.segments(), [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_and_link_local_addresses_are_forbidden_and_others_are_not() {
        let is = |text: &str| is_forbidden(&Address::Tcp(text.parse().unwrap()));
        for forbidden in [
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "169.254.170.2:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "[fd00:ec2::254]:80",
            "[fe80::1]:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
        ] {
            assert!(is(forbidden), "{forbidden}");
        }
        for fine in ["127.0.0.1:80", "10.0.0.1:80", "[::1]:80", "[2001:db8::1]:80", "100.100.100.201:80"] {
            assert!(!is(fine), "{fine}");
        }
    }

    #[test]
    fn a_stamp_moves_once_a_second_and_survives_the_end_of_its_number() {
        let used = Used::at(u32::MAX - 500);
        used.touch(u32::MAX);
        assert_eq!(used.idle(u32::MAX), 500);
        used.touch(600);
        assert_eq!(used.idle(700), 100);
    }
}
