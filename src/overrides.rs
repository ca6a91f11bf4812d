//! Per-request overrides: headers by which a client that is trusted changes where its request goes (pure).
//!
//! `meshless-route` names a target expression. `l5d-dtab` and `l5d-ctx-dtab` hold Linkerd 1's delegation tables, for those
//! who have them in scripts and applications: [`dtab`] parses and prints them, `rewrite` delegates a name, `place` maps
//! what comes out onto our services and targets. What does not map is refused by name; nothing is ignored in silence.
//! Only listeners with `overrides = true` come here; elsewhere the headers are removed before anything looks at them.

pub mod dtab;
mod parse;
mod place;
mod rewrite;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::target::{Expression, Node, Split, Term};
use dtab::Dtab;
pub(crate) use place::Known;
use place::Places;

/// Names where a request goes, as a target expression.
pub(crate) const MESHLESS_ROUTE: HeaderName = HeaderName::from_static("meshless-route");
/// Delegations of Linkerd 1, as a person sets them.
const L5D_DTAB: HeaderName = HeaderName::from_static("l5d-dtab");
/// Delegations of Linkerd 1, as they travel with a request.
const L5D_CTX_DTAB: HeaderName = HeaderName::from_static("l5d-ctx-dtab");
/// Longest target expression in a header, in bytes.
const MAX_ROUTE: usize = 4 * 1024;
/// Most services and targets of one override.
const MAX_LEAVES: usize = 100;

/// Why an override is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It cannot be read.
    Malformed(String),
    /// It leads nowhere: by `!` or `$`, as it was meant.
    Nowhere,
    /// It can be read, but not mapped onto what is configured.
    Refused(String),
}

/// What a request is, to those who would change where it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Its host in normal form.
    pub(crate) host: &'a str,
    /// The name of the route that matched it.
    pub(crate) route: &'a str,
    /// Where it would go.
    pub(crate) to: &'a Expression,
}

/// Says whether headers ask for an override.
pub(crate) fn are_in(headers: &HeaderMap) -> bool {
    headers.contains_key(MESHLESS_ROUTE) || has_dtab(headers)
}

fn has_dtab(headers: &HeaderMap) -> bool {
    headers.contains_key(L5D_DTAB) || headers.contains_key(L5D_CTX_DTAB)
}

/// Returns where a request goes by its headers; `None` where they do not speak of it. `meshless-route` says it for this
/// request, whatever a dtab says for all that come of it.
pub(crate) fn apply(
    headers: &HeaderMap,
    subject: &Subject<'_>,
    known: &dyn Known,
) -> Result<Option<Expression>, Problem> {
    if headers.contains_key(MESHLESS_ROUTE) {
        return route(headers, known).map(Some);
    }
    let text = dtab_text(headers)?;
    let dtab = Dtab::parse(&text).map_err(|error| Problem::Malformed(format!("dtab: {error}")))?;
    let found = rewrite::rewrite(&dtab, subject, &Places::new(subject, known))?;
    match &found {
        Some(expression) if expression.leaves().count() > MAX_LEAVES => {
            Err(Problem::Refused(format!("dtab: it leads to more than {MAX_LEAVES} services and targets")))
        }
        _ => Ok(found),
    }
}

fn route(headers: &HeaderMap, known: &dyn Known) -> Result<Expression, Problem> {
    let malformed = |why: String| Problem::Malformed(format!("{MESHLESS_ROUTE}: {why}"));
    let mut values = headers.get_all(MESHLESS_ROUTE).iter();
    let text = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if values.next().is_some() {
        return Err(malformed("it stands there twice".to_owned()));
    }
    if text.len() > MAX_ROUTE {
        return Err(malformed(format!("expected at most {MAX_ROUTE} bytes, found {}", text.len())));
    }
    let expression = Expression::parse(text).map_err(|error| malformed(error.to_string()))?;
    let refused = |why: String| Problem::Refused(format!("{MESHLESS_ROUTE}: {why}"));
    if expression.leaves().count() > MAX_LEAVES {
        return Err(refused(format!("expected at most {MAX_LEAVES} services and targets")));
    }
    for leaf in expression.leaves() {
        match leaf {
            Node::Service(name) if !known.has_service(name) => {
                return Err(refused(format!("there is no service `{name}`")));
            }
            Node::Target(target) => place::allowed(target, known).map_err(refused)?,
            Node::Service(_) | Node::Group(_) => {}
        }
    }
    Ok(expression)
}

/// Returns all delegations of a request: what travelled with it first, so that what a person set wins.
fn dtab_text(headers: &HeaderMap) -> Result<String, Problem> {
    let mut text = String::new();
    for value in [L5D_CTX_DTAB, L5D_DTAB].iter().flat_map(|name| headers.get_all(name)) {
        let value = value.to_str().map_err(|_| Problem::Malformed("dtab: expected ASCII".to_owned()))?;
        if !text.is_empty() {
            // On a line of its own, or a comment at the end of one field would hide the next one.
            text.push_str("\n;");
        }
        text.push_str(value);
    }
    Ok(text)
}

/// Makes the headers of a request those of the next hop: as Linkerd 1 did, what a person set goes on as context, which
/// applications pass on. `meshless-route` stays as it is, for the gateways that this request itself goes through.
pub(crate) fn pass_on(headers: &mut HeaderMap) {
    if !headers.contains_key(L5D_DTAB) {
        return;
    }
    let Ok(text) = dtab_text(headers) else { return };
    // Printed anew: a comment goes no further than to the end of its field.
    let Ok(dtab) = Dtab::parse(&text) else { return };
    if let Ok(value) = HeaderValue::try_from(dtab.to_string()) {
        headers.insert(L5D_CTX_DTAB, value);
        headers.remove(L5D_DTAB);
    }
}

/// An expression of one leaf.
fn leaf(node: Node) -> Expression {
    Expression { tiers: vec![Split { terms: vec![Term { weight: 1, node }] }] }
}
