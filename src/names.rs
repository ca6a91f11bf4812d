//! Logical names: what a host that no route matched stands for (pure). Linkerd 1 did this with dtabs.
//!
//! A [`Rule`] is a pattern of hosts and a template of a target expression. Rules stand in file order, the first one whose
//! pattern matches a host names its target. They come after all routes and before "no route".

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::target::{Expression, ParseError, Template};

/// One entry of `[[names]]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// Which hosts it is for.
    #[serde(rename = "match")]
    pub pattern: Pattern,
    /// What they stand for.
    pub target: Template,
}

/// A pattern of hosts, such as `{service}.{env}.mesh`: labels that are given, and captures that take one label each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Capture(String),
    Given(String),
}

impl Rule {
    /// Returns the target expression that a normal host stands for; `None` where the pattern does not match.
    pub fn bind(&self, host: &str) -> Option<Expression> {
        if !self.pattern.matches(host) {
            return None;
        }
        let value = |name: &str| {
            let mut pairs = self.pattern.labels.iter().zip(host.split('.'));
            pairs.find_map(|(label, value)| matches!(label, Label::Capture(own) if own == name).then_some(value))
        };
        Some(self.target.bind(&value))
    }
}

impl Pattern {
    /// Parses a pattern, or says where the first wrong label stands.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut labels: Vec<Label> = Vec::new();
        let mut offset = 0;
        for written in text.split('.') {
            let refuse = |message: String| Err(ParseError { offset, message });
            let label = match written.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')) {
                Some(name) if is_capture_name(name) => Label::Capture(name.to_owned()),
                Some(_) => return refuse("expected a capture such as `{service}`: a-z, 0-9 and `_`".to_owned()),
                None if is_label(&written.to_ascii_lowercase()) => Label::Given(written.to_ascii_lowercase()),
                None => {
                    let hint = match written {
                        _ if text.contains(':') => "; ports are ignored, leave it out",
                        _ if written.contains(['{', '}']) => "; a capture takes a whole label",
                        _ if written.contains('*') => "; a capture such as `{name}` takes any label",
                        _ => "",
                    };
                    let found = written.escape_debug();
                    return refuse(format!("expected a label of a host or a capture, found `{found}`{hint}"));
                }
            };
            if matches!(label, Label::Capture(_)) && labels.contains(&label) {
                return refuse(format!("the capture `{written}` stands twice"));
            }
            labels.push(label);
            offset += written.len() + 1;
        }
        if text.len() > 253 {
            return Err(ParseError { offset: 0, message: "expected at most 253 bytes".to_owned() });
        }
        Ok(Self { labels })
    }

    /// Says whether a normal host fits.
    pub fn matches(&self, host: &str) -> bool {
        let mut labels = self.labels.iter();
        let all = host.split('.').all(|found| match labels.next() {
            Some(Label::Given(wanted)) => wanted == found,
            Some(Label::Capture(_)) => is_label(found),
            None => false,
        });
        all && labels.next().is_none()
    }

    /// Returns the names of its captures, from left to right.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().filter_map(|label| if let Label::Capture(name) = label { Some(name.as_str()) } else { None })
    }

    /// Says whether it matches every host that another one matches.
    pub fn covers(&self, other: &Self) -> bool {
        self.labels.len() == other.labels.len()
            && self.labels.iter().zip(&other.labels).all(|labels| match labels {
                (Label::Given(wide), Label::Given(narrow)) => wide == narrow,
                (Label::Capture(_), _) => true,
                (Label::Given(_), Label::Capture(_)) => false,
            })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, label) in self.labels.iter().enumerate() {
            let dot = if position > 0 { "." } else { "" };
            match label {
                Label::Capture(name) => write!(formatter, "{dot}{{{name}}}")?,
                Label::Given(text) => write!(formatter, "{dot}{text}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Returns a host as patterns match it: without port, in lower case.
pub fn normal(host: &str) -> Cow<'_, str> {
    let bare = crate::route::without_port(host);
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

/// What a capture takes: `[a-z0-9-]+`, at most 63 bytes as DNS has it.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_capture_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(pattern: &str, target: &str) -> Rule {
        let pattern = Pattern::parse(pattern).unwrap();
        let captures: Vec<&str> = pattern.captures().collect();
        let target = Template::parse(target, &captures).unwrap();
        Rule { pattern, target }
    }

    fn bound(pattern: &str, target: &str, host: &str) -> Option<String> {
        rule(pattern, target).bind(&normal(host)).map(|expression| expression.to_string())
    }

    #[test]
    fn a_host_stands_for_the_target_with_its_labels_in_it() {
        let target = "ecs/{env}/{service} | consul/{service}[tag={env}]";
        let found = bound("{service}.{env}.mesh", target, "Web.prod.MESH:8080");
        assert_eq!(found.as_deref(), Some("ecs/prod/web | consul/web[tag=prod]"));
    }

    #[test]
    fn a_capture_takes_exactly_one_label_of_a_host() {
        let fits = |host: &str| Pattern::parse("{service}.mesh").unwrap().matches(host);
        assert!(fits("web.mesh") && fits("a-1.mesh"));
        for host in ["mesh", ".mesh", "a.b.mesh", "web.mesh.", "web_1.mesh", "web.other", "wéb.mesh", "..", ""] {
            assert!(!fits(host), "{host}");
        }
        assert!(!fits(&format!("{}.mesh", "a".repeat(64))));
    }

    #[test]
    fn a_wrong_pattern_says_where() {
        let refused = |text: &str| Pattern::parse(text).map_err(|error| (error.offset, error.message)).unwrap_err();
        assert_eq!(refused("a.{A}.b").0, 2);
        assert_eq!(refused("{a}.x.{a}"), (6, "the capture `{a}` stands twice".to_owned()));
        assert!(refused("api-{a}.mesh").1.ends_with("; a capture takes a whole label"));
        assert!(refused("*.mesh").1.ends_with("; a capture such as `{name}` takes any label"));
        assert!(refused("{a}.mesh:80").1.ends_with("; ports are ignored, leave it out"));
        for text in ["", "a..b", "{}", "{a", "a}"] {
            refused(text);
        }
    }

    #[test]
    fn a_pattern_covers_what_differs_from_it_in_captures_alone() {
        let covers = |wide: &str, narrow: &str| Pattern::parse(wide).unwrap().covers(&Pattern::parse(narrow).unwrap());
        assert!(covers("{a}.{b}", "{x}.mesh") && covers("a.b", "A.b") && covers("{a}", "{b}"));
        assert!(!covers("{x}.mesh", "{a}.{b}") && !covers("{a}", "{a}.{b}") && !covers("a.x", "a.y"));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "(\\{[a-c]\\}|[a-z0-9-]{1,5})(\\.(\\{[d-f]\\}|[a-z0-9-]{1,5})){0,3}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }

        #[test]
        fn no_host_gets_more_than_labels_into_a_target(host in "[a-zA-Z0-9./:&|*\\[\\]{} -]{0,20}\\.mesh") {
            if let Some(bound) = rule("{service}.mesh", "x/{service}").bind(&normal(&host)) {
                let only = bound.targets().next().unwrap().path.clone();
                prop_assert!(is_label(&only), "{}", only);
            }
        }
    }
}
