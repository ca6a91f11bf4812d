//! What one rule does, whichever of its matches holds.

use http::StatusCode;
use serde_json::Value;

use super::filters::{self, Filters};
use super::matches::Matched;
use super::objects::{Kind, Rule, strict};
use super::time::{self, Time};
use super::{Effect, Place, backends, unread};
use crate::config::{Fault, HostMatch, Match, Respond, Route, RouteAction};

/// Which rule it is.
pub(super) struct Of<'a> {
    pub(super) kind: Kind,
    pub(super) namespace: &'a str,
    pub(super) matched: &'a [Matched],
    /// What is answered in place of what cannot be done.
    pub(super) status: u16,
}

/// A rule that was read.
#[derive(Debug)]
pub(super) struct Built {
    action: RouteAction,
    filters: Filters,
    time: Time,
    fault: Option<Fault>,
    /// What comes of what is wrong, and what that is.
    pub(super) remarks: Vec<(Effect, String)>,
}

/// Reads a rule. One that cannot be done answers with an error: what it matches must not fall to a wider rule.
pub(super) fn build(rule: &Value, of: &Of<'_>, place: &Place<'_>) -> Built {
    read(rule, of, place).unwrap_or_else(|problem| Built {
        action: error(of.status),
        filters: Filters::default(),
        time: Time::default(),
        fault: None,
        remarks: vec![(Effect::Answers(of.status, 1.0), problem)],
    })
}

fn read(rule: &Value, of: &Of<'_>, place: &Place<'_>) -> Result<Built, String> {
    let rule: Rule = strict(rule, "rule")?;
    let (refs, filters) =
        (rule.backend_refs.as_deref().unwrap_or_default(), rule.filters.as_deref().unwrap_or_default());
    let mut filters = filters::of_rule(filters, of.kind, of.namespace, of.matched, place)?;
    let time = time::of_rule(&rule)?;
    let mut remarks: Vec<(Effect, String)> = Vec::new();
    remarks.extend(std::mem::take(&mut filters.ignored).into_iter().map(|message| (Effect::Ignored, message)));
    let unknown = rule.unread.keys().chain(&time.unread);
    remarks.extend(unknown.map(|key| (Effect::Ignored, unread("rule", key))));
    if let Some(redirect) = filters.redirect.take() {
        if !refs.is_empty() {
            return Err("a RequestRedirect and `backendRefs` cannot stand in one rule".to_owned());
        }
        // Nothing is sent on, so nothing of it is changed or copied.
        let filters = Filters { response_headers: filters.response_headers, ..Filters::default() };
        return Ok(Built {
            action: RouteAction::Redirect(redirect),
            filters,
            time: Time::default(),
            fault: None,
            remarks,
        });
    }
    let backends = backends::of_rule(refs, of.namespace, place);
    let effect = |share| if share > 0.0 { Effect::Answers(of.status, share) } else { Effect::Ignored };
    let Some(to) = backends.to else {
        remarks.extend(backends.problems.into_iter().map(|problem| (effect(1.0), problem)));
        let filters = Filters { response_headers: filters.response_headers, ..Filters::default() };
        return Ok(Built { action: error(of.status), filters, time: Time::default(), fault: None, remarks });
    };
    remarks.extend(backends.problems.into_iter().map(|problem| (effect(backends.wrong), problem)));
    let status = StatusCode::from_u16(of.status).ok();
    let fault = (backends.wrong > 0.0).then_some(Fault { delay: None, status, share: backends.wrong });
    Ok(Built { action: RouteAction::To(to), filters, time, fault, remarks })
}

/// An answer in place of one of a backend. What is wrong is for the log, not for who asks.
fn error(status: u16) -> RouteAction {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    RouteAction::Respond(Respond { status, body: "this route is not usable\n".to_owned() })
}

impl Built {
    /// Returns a route of ours for one match, host and listener.
    pub(super) fn route(&self, name: &str, listener: Option<String>, host: Option<HostMatch>, one: &Matched) -> Route {
        Route {
            name: name.to_owned(),
            listener,
            matches: Match { host, ..one.matches.clone() },
            action: self.action.clone(),
            timeout: self.time.timeout,
            retry: self.time.retry.clone(),
            hedge: None,
            rewrite: self.filters.rewrite.clone(),
            headers: self.filters.headers.clone(),
            response_headers: self.filters.response_headers.clone(),
            mirror: self.filters.mirror.clone(),
            rate_limit: None,
            fault: self.fault.clone(),
        }
    }
}
