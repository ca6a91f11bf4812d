//! `backendRefs`: services of the same namespace, by weight.

use meshless_discovery::Target;
use serde_json::Value;

use super::Place;
use super::objects::{BackendRef, strict};
use crate::target::{Expression, Node, Split, Term};

/// Where a rule leads.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// `None`: nothing gets anything.
    pub(super) to: Option<Expression>,
    /// Share of requests that would go to what is wrong, 0 to 1.
    pub(super) wrong: f64,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

/// Reads where a rule leads.
pub(super) fn of_rule(refs: &[Value], namespace: &str, place: &Place<'_>) -> Backends {
    let (mut terms, mut backends) = (Vec::new(), Backends::default());
    let (mut all, mut wrong) = (0_u64, 0_u64);
    for (position, value) in refs.iter().enumerate() {
        let at = format!("backendRefs[{position}]");
        // Also of one that cannot be read: how much it would have got decides how much is refused.
        let weight = value.get("weight").map_or(Some(1), Value::as_u64).unwrap_or(1);
        all = all.saturating_add(weight);
        match target(value, &at, namespace, place) {
            Ok((target, weight)) => terms.push(Term { weight, node: Node::Target(target) }),
            Err(problem) => {
                wrong = wrong.saturating_add(weight);
                backends.problems.push(problem);
            }
        }
    }
    if terms.iter().any(|term| term.weight > 0) {
        backends.to = Some(Expression { tiers: vec![Split { terms }] });
        backends.wrong = wrong as f64 / all as f64;
    } else if backends.problems.is_empty() {
        let problem =
            if refs.is_empty() { "it has no `backendRefs`" } else { "every one of its `backendRefs` has weight 0" };
        backends.problems.push(problem.to_owned());
    }
    backends
}

/// Reads one reference.
pub(super) fn target(value: &Value, at: &str, namespace: &str, place: &Place<'_>) -> Result<(Target, u32), String> {
    let written: BackendRef = strict(value, at)?;
    let (group, kind) = (written.group.as_deref().unwrap_or_default(), written.kind.as_deref().unwrap_or("Service"));
    if (group, kind) != ("", "Service") {
        return Err(format!("`{at}` is a {kind}; only a Service can be sent to"));
    }
    if let Some(other) = written.namespace.as_deref().filter(|other| *other != namespace) {
        return Err(format!(
            "`{at}` is in the namespace `{other}`: ReferenceGrants are not read, so it must be in `{namespace}`"
        ));
    }
    if written.filters.is_some_and(|filters| !filters.is_empty()) {
        return Err(format!(
            "`{at}.filters` is not supported; move the filters to the rule, or the backend to another"
        ));
    }
    let Some(port) = written.port else {
        return Err(format!("`{at}.port` is missing: a Service is sent to by its port"));
    };
    let weight = written.weight.unwrap_or(1);
    if weight > Expression::MAX_WEIGHT {
        return Err(format!("`{at}.weight`: expected at most {}, found {weight}", Expression::MAX_WEIGHT));
    }
    let path = format!("{namespace}/{}:{port}", written.name);
    let target = Target { backend: place.backend.to_owned(), path, options: std::collections::BTreeMap::new() };
    (place.check)(&target).map_err(|problem| format!("`{at}`: {problem}"))?;
    Ok((target, weight))
}
