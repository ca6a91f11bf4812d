//! Target expressions: what `from` and `to` say. Parse, print, walk (pure).
//!
//! ```text
//! expr  = split ("|" split)*                       failover tiers, left first
//! split = term ("&" term)*                         "&" binds tighter than "|"
//! term  = [NUMBER "*"] (leaf | "(" expr ")")       weights are relative, default 1, 0 = drained
//! leaf  = SERVICE | BACKEND "/" PATH ["[" key=value {"," key=value} "]"]
//! ```
//!
//! `k8s/` is another word for `kubernetes/`, and is printed so.
//!
//! [`Display`](std::fmt::Display) prints the canonical text, and `parse(print(x)) == x`.

mod parse;
mod print;
mod template;
#[cfg(test)]
mod tests;

use std::str::FromStr;

pub use parse::ParseError;
pub use template::Template;

/// A parsed target expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// Failover tiers, the first one preferred; never empty.
    pub tiers: Vec<Split>,
}

/// A weighted split; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Its terms.
    pub terms: Vec<Term>,
}

/// One weighted term.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Relative weight, default 1; 0 is drained.
    pub weight: u32,
    /// What gets that share.
    pub node: Node,
}

/// What a term names.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// An expression in parentheses.
    Group(Expression),
    /// A service by name.
    Service(String),
    /// A target.
    Target(meshless_discovery::Target),
}

impl Expression {
    /// Longest text of an expression, in bytes.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// Most parentheses inside each other; bounds the recursion of everything that walks an expression.
    pub const MAX_DEPTH: usize = 16;
    /// Most targets and services of one expression.
    pub const MAX_LEAVES: usize = 1000;
    /// Greatest weight of a term: the weights of a split add up in 32 bits.
    pub const MAX_WEIGHT: u32 = 1_000_000;

    /// Parses an expression, or says where the first wrong byte stands and what is expected there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::expression(text)
    }

    /// Returns every leaf, from left to right, groups opened.
    pub fn leaves(&self) -> Leaves<'_> {
        let mut leaves = Leaves { pending: Vec::new() };
        leaves.open(self);
        leaves
    }

    /// Returns every target, from left to right; one that is named twice comes twice.
    pub fn targets(&self) -> impl Iterator<Item = &meshless_discovery::Target> {
        self.leaves().filter_map(|node| if let Node::Target(target) = node { Some(target) } else { None })
    }

    /// Returns the name of every service, from left to right; one that is named twice comes twice.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.leaves().filter_map(|node| if let Node::Service(name) = node { Some(name.as_str()) } else { None })
    }
}

impl FromStr for Expression {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// Tells whether a target is the application beside us: addresses of this machine that no network carries.
pub(crate) fn is_beside_us(target: &meshless_discovery::Target) -> bool {
    let is_local = |address: &meshless_discovery::Address| match address {
        meshless_discovery::Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
        meshless_discovery::Address::Unix(_) => true,
    };
    let written = || meshless_discovery::written(&meshless_discovery::Config::Static, target)?.ok();
    let all_local = |snapshot: meshless_discovery::Snapshot| {
        snapshot.endpoints().iter().all(|endpoint| is_local(&endpoint.address))
    };
    target.backend == "static" && written().is_some_and(all_local)
}

/// Says whether a text can name a service or a backend: `[a-z0-9][a-z0-9._-]*`, at most 253 bytes.
pub fn is_name(text: &str) -> bool {
    text.len() <= 253
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(parse::is_name_byte)
}

/// Iterator over the leaves of an expression; see [`Expression::leaves`].
#[derive(Debug, Clone)]
pub struct Leaves<'a> {
    pending: Vec<&'a Node>,
}

impl<'a> Leaves<'a> {
    fn open(&mut self, expression: &'a Expression) {
        let terms = expression.tiers.iter().rev().flat_map(|tier| tier.terms.iter().rev());
        self.pending.extend(terms.map(|term| &term.node));
    }
}

impl<'a> Iterator for Leaves<'a> {
    type Item = &'a Node;

    fn next(&mut self) -> Option<&'a Node> {
        loop {
            match self.pending.pop()? {
                Node::Group(expression) => self.open(expression),
                leaf => return Some(leaf),
            }
        }
    }
}
