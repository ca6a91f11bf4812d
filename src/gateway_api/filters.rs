//! `filters` of a rule. One that is not understood must not be skipped: the rule answers with an error then.

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::matches::Matched;
use super::objects::{
    Filter, Fraction, Header, HeaderModifier, Kind, PathModifier, RequestMirror, RequestRedirect, UrlRewrite, strict,
};
use super::{Place, backends};
use crate::config::check::{changeable, header_value, is_host, sendable};
use crate::config::problem::shown;
use crate::config::{HeaderChanges, Mirror, PathMatch, Redirect, Rewrite, Template};
use crate::target::{Expression, Node, Split, Term};

/// What the filters of a rule do.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) headers: HeaderChanges,
    pub(super) response_headers: HeaderChanges,
    pub(super) redirect: Option<Redirect>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) mirror: Option<Mirror>,
    /// Mirrors that are left out: a copy that is not sent changes nothing for who asks.
    pub(super) ignored: Vec<String>,
}

/// Reads the filters of a rule, in any order; none stands twice, save mirrors.
pub(super) fn of_rule(
    filters: &[Value],
    kind: Kind,
    namespace: &str,
    matched: &[Matched],
    place: &Place<'_>,
) -> Result<Filters, String> {
    let (mut read, mut seen) = (Filters::default(), Vec::new());
    for (position, value) in filters.iter().enumerate() {
        let at = format!("filters[{position}]");
        let Filter { kind: name, told } = strict(value, &at)?;
        if name != "RequestMirror" && seen.contains(&name) {
            return Err(format!("`{at}`: {} stands there twice", shown(&name)));
        }
        let of = |key: &str| match told.get(key) {
            Some(value) if told.len() == 1 => Ok((value, format!("{at}.{key}"))),
            _ => Err(format!("`{at}`: expected `{key}` and nothing else beside `type: {name}`")),
        };
        match (name.as_str(), kind) {
            ("RequestHeaderModifier", _) => {
                let (value, at) = of("requestHeaderModifier")?;
                read.headers = header_changes(&strict(value, &at)?, &at)?;
            }
            ("ResponseHeaderModifier", _) => {
                let (value, at) = of("responseHeaderModifier")?;
                read.response_headers = header_changes(&strict(value, &at)?, &at)?;
            }
            ("RequestMirror", _) => {
                let (value, at) = of("requestMirror")?;
                match mirror(&strict(value, &at)?, &at, namespace, place) {
                    Ok(_) if read.mirror.is_some() => {
                        read.ignored.push(format!("`{at}`: one copy of a request is sent, not two; it is left out"));
                    }
                    Ok(mirror) => read.mirror = Some(mirror),
                    Err(problem) => read.ignored.push(format!("{problem}; nothing is copied there")),
                }
            }
            ("RequestRedirect", Kind::Http) => {
                let (value, at) = of("requestRedirect")?;
                read.redirect = Some(redirect(&strict(value, &at)?, &at, matched)?);
            }
            ("URLRewrite", Kind::Http) => {
                let (value, at) = of("urlRewrite")?;
                read.rewrite = Some(rewrite(&strict(value, &at)?, &at, matched)?);
            }
            (other, _) => return Err(format!("`{at}.type` is {}, which this build does not know", shown(other))),
        }
        seen.push(name);
    }
    if read.redirect.is_some() && read.rewrite.is_some() {
        return Err("a RequestRedirect and a URLRewrite cannot stand in one rule".to_owned());
    }
    Ok(read)
}

fn header_changes(written: &HeaderModifier, at: &str) -> Result<HeaderChanges, String> {
    let name = |text: &str, at: &str| changeable(text).map_err(|problem| format!("`{at}`: {} {problem}", shown(text)));
    let pairs = |headers: &[Header], key: &str| -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut pairs: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (position, header) in headers.iter().enumerate() {
            let at = format!("{at}.{key}[{position}]");
            let name = name(&header.name, &at)?;
            let value = header_value(&header.value).map_err(|problem| format!("`{at}`: {problem}"))?;
            // Of two with one name the first counts.
            if !pairs.iter().any(|(known, _)| *known == name) {
                pairs.push((name, value));
            }
        }
        Ok(pairs)
    };
    let removed = written.remove.iter().flatten().enumerate();
    Ok(HeaderChanges {
        add: pairs(written.add.as_deref().unwrap_or_default(), "add")?,
        set: pairs(written.set.as_deref().unwrap_or_default(), "set")?,
        remove: removed
            .map(|(position, text)| name(text, &format!("{at}.remove[{position}]")))
            .collect::<Result<_, _>>()?,
    })
}

fn redirect(written: &RequestRedirect, at: &str, matched: &[Matched]) -> Result<Redirect, String> {
    let scheme = match written.scheme.as_deref() {
        None => None,
        Some("http") => Some("http"),
        Some("https") => Some("https"),
        Some(other) => return Err(format!("`{at}.scheme`: expected `http` or `https`, found {}", shown(other))),
    };
    let status = written.status_code.unwrap_or(302);
    let status = match status {
        301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(status).ok(),
        _ => None,
    }
    .ok_or_else(|| format!("`{at}.statusCode`: expected 301, 302, 303, 307 or 308, found {status}"))?;
    let host = written.hostname.as_deref().map(|text| host(text, at)).transpose()?;
    let path = written.path.as_ref().map(|path| new_path(path, at, matched)).transpose()?;
    if scheme.is_none() && host.is_none() && path.is_none() && written.port.is_none() {
        return Err(format!("`{at}` leads back to itself; give `scheme`, `hostname`, `port` or `path`"));
    }
    Ok(Redirect { status, scheme, host, port: written.port, path })
}

fn rewrite(written: &UrlRewrite, at: &str, matched: &[Matched]) -> Result<Rewrite, String> {
    let host = written.hostname.as_deref().map(|text| host(text, at)).transpose()?;
    Ok(Rewrite {
        path: written.path.as_ref().map(|path| new_path(path, at, matched)).transpose()?,
        host: host.map(HeaderValue::try_from).transpose().map_err(|error| format!("`{at}.hostname`: {error}"))?,
    })
}

fn host(text: &str, at: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if is_host(&lower) {
        return Ok(lower);
    }
    Err(format!("`{at}.hostname`: expected a host such as `api.example.com`, found {}", shown(text)))
}

fn new_path(written: &PathModifier, at: &str, matched: &[Matched]) -> Result<Template, String> {
    let at = format!("{at}.path");
    let (key, text, captures) = match (written.kind.as_str(), &written.replace_full_path, &written.replace_prefix_match)
    {
        ("ReplaceFullPath", Some(text), None) => ("replaceFullPath", text.clone(), &[][..]),
        ("ReplacePrefixMatch", None, Some(text)) => {
            if !matched.iter().all(|one| one.is_prefix) {
                return Err(format!("`{at}`: ReplacePrefixMatch needs matches of the type PathPrefix"));
            }
            let prefix = text.trim_end_matches('/');
            // What `sendable` looks at must not have our own capture in it.
            sendable(if prefix.is_empty() { "/" } else { prefix })
                .map_err(|problem| format!("`{at}.replacePrefixMatch`: {problem}"))?;
            ("replacePrefixMatch", format!("{prefix}/{{{}}}", PathMatch::REST), &[PathMatch::REST][..])
        }
        ("ReplaceFullPath" | "ReplacePrefixMatch", ..) => {
            return Err(format!("`{at}`: expected the one key that belongs to its type"));
        }
        (other, ..) => return Err(format!("`{at}.type` is {}, which this build does not know", shown(other))),
    };
    let literal = text.strip_suffix("/{rest}").filter(|_| !captures.is_empty()).unwrap_or(&text);
    if literal.contains(['{', '}']) {
        return Err(format!(
            "`{at}.{key}`: expected a path, found {}; write braces as `%7B` and `%7D`",
            shown(literal)
        ));
    }
    sendable(&text).map_err(|problem| format!("`{at}.{key}`: {problem}"))?;
    Template::new(&text, captures).map_err(|error| format!("`{at}.{key}`: {}", error.message))
}

fn mirror(written: &RequestMirror, at: &str, namespace: &str, place: &Place<'_>) -> Result<Mirror, String> {
    let share = match (written.percent, &written.fraction) {
        (None, None) => 1.0,
        (Some(percent @ 0..=100), None) => f64::from(percent) / 100.0,
        (None, Some(Fraction { numerator, denominator })) => {
            let denominator = denominator.unwrap_or(100);
            if denominator == 0 || *numerator > denominator {
                return Err(format!(
                    "`{at}.fraction`: expected a fraction from 0 to 1, found {numerator}/{denominator}"
                ));
            }
            f64::from(*numerator) / f64::from(denominator)
        }
        (Some(_), _) => return Err(format!("`{at}`: expected `percent` from 0 to 100, or `fraction`")),
    };
    let (target, _) = backends::target(&written.backend_ref, &format!("{at}.backendRef"), namespace, place)?;
    let term = Term { weight: 1, node: Node::Target(target) };
    Ok(Mirror { to: Expression { tiers: vec![Split { terms: vec![term] }] }, share })
}
