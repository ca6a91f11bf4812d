//! Where a request goes: the route that matched, an override of it, or a logical name.

use std::borrow::Cow;

use http::HeaderMap;

use super::Session;
use super::failure::Failure;
use crate::names;
use crate::overrides::{self, Problem, Subject};
use crate::upstream::Table;
use crate::upstream::live::{Lack, Refusal, Sought, Wanted};
use crate::upstream::plan::RoutePlan;
use crate::upstream::tree::Tree;

/// Where a request goes, by one table.
#[derive(Debug)]
pub(crate) struct Destination<'t> {
    /// What is done with it.
    pub(crate) route: &'t RoutePlan,
    /// Where it leads, instead of `route.to`.
    to: Cow<'t, Tree<usize>>,
}

impl Destination<'_> {
    /// Returns the upstreams that it may go to.
    pub(crate) fn to(&self) -> &Tree<usize> {
        &self.to
    }

    /// Tells whether a header of the request says where to.
    pub(crate) fn is_overridden(&self) -> bool {
        matches!(self.to, Cow::Owned(_))
    }
}

/// What the table says about a request.
#[derive(Debug)]
pub(crate) enum Found<'t> {
    At(Destination<'t>),
    /// These have to be asked for first.
    Wanted(Vec<Wanted>),
}

/// A request that asks where it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeker<'a> {
    pub(crate) host: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// Its listener lets headers say where it goes.
    pub(crate) takes_overrides: bool,
    /// Milliseconds of the process.
    pub(crate) now: u32,
}

impl Session {
    /// Decides where a request goes. `matched` is the route that matched it.
    pub(super) fn destination<'t>(
        &self,
        table: &'t Table,
        matched: Option<&'t RoutePlan>,
        host: &str,
        headers: &HeaderMap,
    ) -> Result<Found<'t>, Failure> {
        let now = self.worker().millis();
        Seeker { host, headers, takes_overrides: self.takes_overrides(), now }.find(table, matched)
    }
}

impl Seeker<'_> {
    /// Decides where it goes. `matched` is the route that matched it.
    pub(crate) fn find<'t>(&self, table: &'t Table, matched: Option<&'t RoutePlan>) -> Result<Found<'t>, Failure> {
        if self.takes_overrides
            && overrides::are_in(self.headers)
            && let Some(found) = self.overridden(table, matched)?
        {
            return Ok(found);
        }
        if let Some(route) = matched {
            return Ok(Found::At(Destination { route, to: Cow::Borrowed(&route.to) }));
        }
        self.logical(table)
    }

    /// Decides by the headers of a request; `None` where they do not speak of it. An override takes the place of where
    /// the route that matched leads; what no route and no name knows stays unknown.
    fn overridden<'t>(&self, table: &'t Table, matched: Option<&'t RoutePlan>) -> Result<Option<Found<'t>>, Failure> {
        let host = names::normal(self.host);
        let logical = &table.plan.logical;
        let (route, to) = if let Some(route) = matched {
            (route, table.expression(&route.to))
        } else {
            let bound = logical.bind(&host).ok_or(Failure::NoRoute)?;
            (&logical.rule(bound.rule).ok_or(Failure::NoRoute)?.route, bound.expression)
        };
        let subject = Subject { host: &host, route: &route.name, to: &to };
        let Some(expression) = overrides::apply(self.headers, &subject, logical)? else { return Ok(None) };
        match table.tree(&expression, self.now) {
            Ok(tree) => match table.unanswered(&expression, &tree) {
                Some(why) => Err(Failure::NameUnanswered(why.clone())),
                None => Ok(Some(Found::At(Destination { route, to: Cow::Owned(tree) }))),
            },
            Err(Lack::Wanted(wanted)) => Ok(Some(Found::Wanted(wanted))),
            Err(Lack::Refused(_, Refusal::Full)) => Err(Failure::NamesFull),
            Err(Lack::Refused(target, Refusal::Unusable(why))) => {
                Err(Failure::OverrideRefused(format!("`{target}` cannot be had: {why}")))
            }
            Err(Lack::Unknown(name)) => Err(Failure::OverrideRefused(format!("there is no service `{name}`"))),
        }
    }

    /// Looks a host up among the logical names.
    fn logical<'t>(&self, table: &'t Table) -> Result<Found<'t>, Failure> {
        let host = names::normal(self.host);
        match table.name(&host).ok_or(Failure::NoRoute)? {
            Sought::Found(name) => {
                let rule = table.plan.logical.rule(name.rule).ok_or(Failure::NoRoute)?;
                name.used.touch(self.now);
                match &name.waits_for {
                    Some(why) if table.is_empty(&name.to) => Err(Failure::NameUnanswered(why.clone())),
                    _ => Ok(Found::At(Destination { route: &rule.route, to: Cow::Borrowed(&name.to) })),
                }
            }
            Sought::Refused(Refusal::Full) => Err(Failure::NamesFull),
            Sought::Refused(Refusal::Unusable(why)) => Err(Failure::NameUnusable(why.clone())),
            Sought::Wanted => Ok(Found::Wanted(vec![Wanted::Name(host.into())])),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Malformed(why) => Self::OverrideMalformed(why),
            Problem::Nowhere => Self::NoEndpoint,
            Problem::Refused(why) => Self::OverrideRefused(why),
        }
    }
}
