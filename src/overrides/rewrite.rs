//! Delegation: from a name of the request, by the entries of a dtab, to an expression.
//!
//! As in Linkerd 1, the last entry whose prefix matches is asked first; where it says `~` the ones before it are asked, and
//! then the configuration, which is what Linkerd 1 called the base dtab. A request has several names: `/svc/<host>` and
//! `/host/<host>`, which are Linkerd 1's, `/svc/<route>`, and `/svc/<service>` for each service that its route leads to.
//! The first that an entry speaks of decides; of services, each is replaced for itself.

use super::dtab::{Dtab, Entry, Tree};
use super::place::Places;
use super::{Problem, Subject};
use crate::target::{Expression, Node, Split, Term};

/// Most delegations of one request: what needs more goes in circles.
const MAX_STEPS: usize = 100;
/// Most delegations one after another.
const MAX_DEPTH: usize = 16;

/// What a name became.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Empty,
    Fail,
    Neg,
    To(Expression),
}

/// Returns where a request goes by a dtab; `None` where no entry speaks of it.
pub(super) fn rewrite(dtab: &Dtab, subject: &Subject<'_>, places: &Places<'_>) -> Result<Option<Expression>, Problem> {
    every_entry_can_match(dtab)?;
    let mut rewriter = Rewriter { dtab, places, steps: 0 };
    let name = |kind: &str, name: &str| vec![kind.to_owned(), name.to_owned()];
    let own = [name("svc", subject.host), name("host", subject.host), name("svc", subject.route)];
    if let Some(name) = own.iter().find(|name| rewriter.speaks_of(name)) {
        return match rewriter.delegate(name, 0)? {
            Outcome::To(expression) => Ok(Some(expression)),
            Outcome::Empty | Outcome::Fail => Err(Problem::Nowhere),
            Outcome::Neg => Ok(None),
        };
    }
    let services: Vec<&str> = subject.to.services().collect();
    if !services.iter().any(|service| rewriter.speaks_of(&name("svc", service))) {
        return Ok(None);
    }
    rewriter.services(subject.to).map(Some)
}

struct Rewriter<'a> {
    dtab: &'a Dtab,
    places: &'a Places<'a>,
    steps: usize,
}

impl Rewriter<'_> {
    fn speaks_of(&self, name: &[String]) -> bool {
        self.dtab.entries.iter().any(|entry| entry.residual(name).is_some())
    }

    /// Replaces the services of an expression, each for itself.
    fn services(&mut self, to: &Expression) -> Result<Expression, Problem> {
        let mut tiers = Vec::new();
        for split in &to.tiers {
            let mut terms = Vec::new();
            for term in &split.terms {
                let node = match &term.node {
                    Node::Group(inner) => Node::Group(self.services(inner)?),
                    Node::Target(target) => Node::Target(target.clone()),
                    Node::Service(name) => match self.delegate(&["svc".to_owned(), name.clone()], 0)? {
                        Outcome::To(expression) => node(expression),
                        Outcome::Neg => Node::Service(name.clone()),
                        Outcome::Empty | Outcome::Fail => return Err(Problem::Nowhere),
                    },
                };
                terms.push(Term { weight: term.weight, node });
            }
            match terms.as_mut_slice() {
                // Alone in its tier, what it became may be tiers itself.
                [Term { weight: 1.., node: Node::Group(inner) }] => tiers.append(&mut inner.tiers),
                _ => tiers.push(Split { terms }),
            }
        }
        Ok(Expression { tiers })
    }

    fn delegate(&mut self, name: &[String], depth: usize) -> Result<Outcome, Problem> {
        self.steps += 1;
        if self.steps > MAX_STEPS || depth > MAX_DEPTH {
            let shown = super::dtab::Shown(name);
            return Err(Problem::Refused(format!("dtab: it goes in circles, or is too deep, at `{shown}`")));
        }
        // What the last entry leaves open (`~`) the ones before it decide. System names are not delegated.
        let is_system = matches!(name.first().map(String::as_str), Some("#" | "$"));
        for entry in self.dtab.entries.iter().rev().filter(|_| !is_system) {
            let Some(residual) = entry.residual(name) else { continue };
            match self.tree(&entry.tree, residual, depth).map_err(|problem| in_entry(problem, entry))? {
                Outcome::Neg => {}
                outcome => return Ok(outcome),
            }
        }
        self.places.place(name).map_err(Problem::Refused)
    }

    fn tree(&mut self, tree: &Tree, residual: &[String], depth: usize) -> Result<Outcome, Problem> {
        match tree {
            Tree::Empty => Ok(Outcome::Empty),
            Tree::Fail => Ok(Outcome::Fail),
            Tree::Neg => Ok(Outcome::Neg),
            Tree::Path(path) => self.delegate(&[path, residual].concat(), depth + 1),
            Tree::Alt(trees) => {
                let mut tiers = Vec::new();
                for tree in trees {
                    match self.tree(tree, residual, depth)? {
                        Outcome::Neg => {}
                        Outcome::To(expression) => tiers.extend(expression.tiers),
                        // What stands behind them is never reached.
                        end if tiers.is_empty() => return Ok(end),
                        Outcome::Empty | Outcome::Fail => break,
                    }
                }
                Ok(if tiers.is_empty() { Outcome::Neg } else { Outcome::To(Expression { tiers }) })
            }
            Tree::Union(entries) => {
                let mut terms = Vec::new();
                for (weight, tree) in entries {
                    match self.tree(tree, residual, depth)? {
                        Outcome::Neg => {}
                        Outcome::To(expression) => terms.push(Term { weight: *weight, node: node(expression) }),
                        Outcome::Empty | Outcome::Fail => {
                            return Err(Problem::Refused("`!` or `$` with a share does not map".to_owned()));
                        }
                    }
                }
                if terms.is_empty() {
                    return Ok(Outcome::Neg);
                }
                let divisor = terms.iter().fold(0, |divisor, term| common_divisor(divisor, term.weight)).max(1);
                for term in &mut terms {
                    term.weight /= divisor;
                }
                Ok(Outcome::To(Expression { tiers: vec![Split { terms }] }))
            }
        }
    }
}

/// An expression as part of another one.
fn node(expression: Expression) -> Node {
    if let [Split { terms }] = expression.tiers.as_slice()
        && let [Term { weight: 1.., node }] = terms.as_slice()
    {
        return node.clone();
    }
    Node::Group(expression)
}

fn common_divisor(left: u32, right: u32) -> u32 {
    if right == 0 { left } else { common_divisor(right, left % right) }
}

fn in_entry(problem: Problem, entry: &Entry) -> Problem {
    match problem {
        // The innermost entry is the one to be corrected.
        Problem::Refused(why) if !why.starts_with("dtab: ") => Problem::Refused(format!("dtab: `{entry}`: {why}")),
        other => other,
    }
}

/// Says whether a path fits a prefix as far as both go.
fn is_begun(prefix: &[Option<String>], path: &[String]) -> bool {
    prefix.iter().zip(path).all(|(wanted, part)| wanted.as_ref().is_none_or(|wanted| wanted == part))
}

/// Refuses an entry that no name can ever come to: it would be ignored in silence, and was meant otherwise.
fn every_entry_can_match(dtab: &Dtab) -> Result<(), Problem> {
    let mut paths: Vec<Vec<String>> = Vec::new();
    for entry in &dtab.entries {
        entry.tree.for_each_path(&mut |path| paths.push(path.to_owned()));
    }
    for entry in &dtab.entries {
        let first = entry.prefix.first().map(Option::as_deref);
        let can_match = match first {
            // The names of a request have two parts; longer ones are made by entries alone.
            None => true,
            Some(None | Some("svc" | "host")) if entry.prefix.len() <= 2 => true,
            Some(Some("svc" | "host")) => paths.iter().any(|path| path.len() > 2 && is_begun(&entry.prefix, path)),
            // Of several environments, only one may be in use: the first part has to be known.
            Some(_) => paths.iter().any(|path| is_begun(entry.prefix.get(..1).unwrap_or_default(), path)),
        };
        if !can_match {
            let why = "no name can come to it; the names of a request are `/svc/NAME` and `/host/NAME`";
            return Err(in_entry(Problem::Refused(why.to_owned()), entry));
        }
    }
    Ok(())
}
