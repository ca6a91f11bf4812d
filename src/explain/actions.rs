//! What a route does with a request besides sending it on, by the functions that do it.

use http::request::Parts;
use http::{HeaderMap, header};

use super::answer::{Action, Outcome};
use super::request::Asked;
use crate::config::{Fault, HeaderChanges, RateKey, RateLimit};
use crate::overrides;
use crate::proxy::actions;
use crate::route::Captures;
use crate::upstream::Table;
use crate::upstream::plan::RoutePlan;
use crate::upstream::plan::actions::{Answer, MirrorPlan};

/// What becomes of a request by the actions of its route.
#[derive(Debug)]
pub(super) enum Acted {
    /// The head that is sent on.
    Sent {
        told: Vec<Action>,
        parts: Parts,
    },
    Ended {
        told: Vec<Action>,
        outcome: Outcome,
    },
}

/// Lets a route act, in the proxy's order. Chance and counts are told, not taken: no limit counts a question.
pub(super) fn act(
    route: &RoutePlan,
    captures: &Captures,
    asked: &Asked<'_>,
    passes_overrides: bool,
    table: &Table,
) -> Acted {
    let does = &route.actions;
    let mut told = Vec::new();
    if let Some(limiter) = &does.rate_limit {
        told.push(rate_limit(limiter.settings()));
    }
    if let Some(fault) = &does.fault {
        told.push(self::fault(fault));
    }
    let mut parts = asked.parts.clone();
    if passes_overrides {
        overrides::pass_on(&mut parts.headers);
    }
    if let Some(answer) = &does.answer {
        let kind = match answer {
            Answer::Redirect(_) => "redirect",
            Answer::Respond { .. } => "respond",
        };
        let outcome = match actions::answer(answer, captures, &parts, asked.is_grpc) {
            Ok((mut head, _body)) => {
                does.response_headers.apply(&mut head.headers);
                let status = head.status.as_u16();
                let says = format!("the route answers with {status}{}", to(&head.headers));
                told.push(action(kind, says.clone()));
                Outcome::answered(status, says)
            }
            Err(failure) => Outcome::refused(&failure),
        };
        return Acted::Ended { told, outcome };
    }
    if let Some(rewrite) = &does.rewrite {
        let before = parts.uri.to_string();
        if let Err(failure) = actions::rewrite(rewrite, captures, &mut parts) {
            return Acted::Ended { told, outcome: Outcome::refused(&failure) };
        }
        let host = parts.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let path = (parts.uri.to_string() != before).then(|| format!("`{before}` becomes `{}`", parts.uri));
        let host = rewrite.host.is_some().then(|| format!("host becomes `{}`", host.unwrap_or_default()));
        let says: Vec<String> = [path, host].into_iter().flatten().collect();
        told.push(action("rewrite", if says.is_empty() { "changes nothing here".to_owned() } else { says.join(", ") }));
    }
    does.headers.apply(&mut parts.headers);
    if let Some(mirror) = &does.mirror {
        told.push(self::mirror(mirror, table, asked.is_upgrade));
    }
    if does.response_headers != HeaderChanges::default() {
        told.push(response_headers(&does.response_headers));
    }
    Acted::Sent { told, parts }
}

fn action(kind: &str, says: String) -> Action {
    Action { kind: kind.to_owned(), says }
}

fn to(headers: &HeaderMap) -> String {
    let location = headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    location.map(|location| format!(" to `{location}`")).unwrap_or_default()
}

fn rate_limit(limit: &RateLimit) -> Action {
    let per = match &limit.per {
        RateKey::Address => "each client address".to_owned(),
        RateKey::From => "each identity".to_owned(),
        RateKey::Header(name) => format!("each value of `{name}`"),
        RateKey::Route => "all together".to_owned(),
    };
    action("rate_limit", format!("{} for {per}, {} at once; more are 429 (not counted here)", limit.rate, limit.burst))
}

fn fault(fault: &Fault) -> Action {
    let delay = fault.delay.map(|delay| format!("wait {delay:?}"));
    let status = fault.status.map(|status| format!("end with {}", status.as_u16()));
    let does: Vec<String> = [delay, status].into_iter().flatten().collect();
    action("fault", format!("{} % of requests {}", fault.share * 100.0, does.join(", then ")))
}

fn mirror(mirror: &MirrorPlan, table: &Table, is_upgrade: bool) -> Action {
    if is_upgrade {
        return action("mirror", "upgrades are not copied".to_owned());
    }
    let mut names = Vec::new();
    mirror.route.to.for_each(&mut |&index| {
        names.extend(table.upstreams.get(index).map(|upstream| format!("`{}`", upstream.name)));
    });
    let (share, limit) = (mirror.share * 100.0, mirror.body_limit);
    action("mirror", format!("{share} % are copied to {}, with bodies up to {limit} bytes", names.join(", ")))
}

fn response_headers(changes: &HeaderChanges) -> Action {
    let set = changes.set.iter().map(|(name, _)| format!("sets `{name}`"));
    let removed = changes.remove.iter().map(|name| format!("removes `{name}`"));
    let added = changes.add.iter().map(|(name, _)| format!("adds `{name}`"));
    action("response_headers", set.chain(added).chain(removed).collect::<Vec<_>>().join(", "))
}
