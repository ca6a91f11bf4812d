//! Target expressions with captures of a logical name in them: what `target` of `[[names]]` says.
//!
//! `{capture}` stands for one DNS label. It may be (a part of) a service's name, of a path or of an option's value. It is
//! put in after parsing, so no label can change the shape of an expression, and it never stands in the backend's place
//! nor in `static/` or `dns/`: a host may choose a name in a place that we configured, never the place or an address.

use std::fmt;

use super::{Expression, Node, ParseError, Split, Term, parse};

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Captures still stand in its leaves, in braces.
    expression: Expression,
}

impl Template {
    /// Parses a template whose captures all stand in `captures`, or says where the first wrong byte stands.
    pub fn parse(text: &str, captures: &[&str]) -> Result<Self, ParseError> {
        parse::template(text, captures).map(|expression| Self { expression })
    }

    /// Returns the expression as it is written, captures in braces.
    pub fn written(&self) -> &Expression {
        &self.expression
    }

    /// Puts a value in the place of each capture.
    pub fn bind<'a>(&self, value: &dyn Fn(&str) -> Option<&'a str>) -> Expression {
        bound(&self.expression, value)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt(formatter)
    }
}

impl serde::Serialize for Template {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn bound<'a>(expression: &Expression, value: &dyn Fn(&str) -> Option<&'a str>) -> Expression {
    let term = |term: &Term| {
        let node = match &term.node {
            Node::Group(inner) => Node::Group(bound(inner, value)),
            Node::Service(name) => Node::Service(filled(name, value)),
            Node::Target(target) => {
                let options = target.options.iter().map(|(key, text)| (key.clone(), filled(text, value))).collect();
                let path = filled(&target.path, value);
                Node::Target(meshless_discovery::Target { backend: target.backend.clone(), path, options })
            }
        };
        Term { weight: term.weight, node }
    };
    let split = |split: &Split| Split { terms: split.terms.iter().map(term).collect() };
    Expression { tiers: expression.tiers.iter().map(split).collect() }
}

/// Fills a text. A capture without a value stays as it is; the parser knows all of them.
fn filled<'a>(text: &str, value: &dyn Fn(&str) -> Option<&'a str>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        if let Some(value) = value(name) {
            filled.push_str(value);
        } else {
            filled.push('{');
            filled.push_str(name);
            filled.push('}');
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

/// Checks the braces of a leaf; returns where the first capture stands in it.
pub(super) fn captures(leaf: &str, known: &[&str]) -> Result<Option<usize>, ParseError> {
    let mut first = None;
    let mut offset = 0;
    while let Some(found) = leaf.get(offset..).and_then(|rest| rest.find(['{', '}'])) {
        let at = offset + found;
        let rest = leaf.get(at..).unwrap_or_default();
        let Some((name, _)) = rest.strip_prefix('{').and_then(|inside| inside.split_once('}')) else {
            let message = "expected a capture such as `{service}`".to_owned();
            return Err(ParseError { offset: at, message });
        };
        if !known.contains(&name) {
            let captures = known.iter().map(|name| format!("`{{{name}}}`")).collect::<Vec<_>>().join(", ");
            let known = if captures.is_empty() { "none".to_owned() } else { captures };
            let message = format!("`{{{}}}` is no capture of `match`, which has {known}", name.escape_debug());
            return Err(ParseError { offset: at, message });
        }
        first.get_or_insert(at);
        offset = at + name.len() + 2;
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&str; 2] = ["service", "env"];

    fn bound(text: &str) -> String {
        let values = [("service", "web"), ("env", "prod-1")];
        let value = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Template::parse(text, &KNOWN).unwrap().bind(&value).to_string()
    }

    fn refused(text: &str) -> (usize, String) {
        let error = Template::parse(text, &KNOWN).unwrap_err();
        (error.offset, error.message)
    }

    #[test]
    fn captures_stand_in_paths_options_and_names_of_services() {
        assert_eq!(
            bound("ecs/{env}/{service} | consul/{service}[tag={env}]"),
            "ecs/prod-1/web | consul/web[tag=prod-1]"
        );
        assert_eq!(bound("9 * {service}-v2 & (a.{env} | b)"), "9 * web-v2 & (a.prod-1 | b)");
        assert_eq!(bound("kubernetes/{env}/{service}:80"), "kubernetes/prod-1/web:80");
        assert_eq!(bound("static/127.0.0.1:80 | plain"), "static/127.0.0.1:80 | plain");
    }

    #[test]
    fn a_template_prints_as_it_is_written() {
        let text = "ecs/{env}/{service} | consul/{service}[tag={env}]";
        assert_eq!(Template::parse(text, &KNOWN).unwrap().to_string(), text);
    }

    #[test]
    fn a_capture_never_chooses_a_backend_or_an_address_and_the_error_says_where() {
        let place = "a capture cannot stand in the place of a backend; write the backend's name";
        assert_eq!(refused("a | {env}/x"), (4, place.to_owned()));
        assert_eq!(refused("x{env}/x"), (0, place.to_owned()));
        let (at, why) = refused("a | static/{env}:80");
        assert!(at == 11 && why.starts_with("a capture cannot stand in `static/`"), "{at} {why}");
        let (at, why) = refused("dns/{service}.internal:80");
        assert!(at == 4 && why.starts_with("a capture cannot stand in `dns/`"), "{at} {why}");
    }

    #[test]
    fn an_unknown_capture_and_a_lone_brace_are_refused() {
        let unknown = "`{name}` is no capture of `match`, which has `{service}`, `{env}`";
        assert_eq!(refused("consul/{name}"), (7, unknown.to_owned()));
        assert_eq!(refused("consul/web[tag={name}]"), (15, unknown.to_owned()));
        assert_eq!(refused("{service"), (0, "expected a capture such as `{service}`".to_owned()));
        assert_eq!(refused("consul/a}"), (8, "expected a capture such as `{service}`".to_owned()));
        assert!(Template::parse("x/{a}", &[]).unwrap_err().message.ends_with("which has none"));
    }

    #[test]
    fn braces_have_no_meaning_outside_of_templates() {
        assert!(Expression::parse("consul/{x}").is_ok());
        assert!(Expression::parse("{x}").is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_label_is_the_shape_stays_and_the_text_is_read_back_as_the_same(
            service in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", env in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        ) {
            let template = Template::parse("2 * x/{env}/{service}:80[tag={env}] & {service} | {env}-v2", &KNOWN).unwrap();
            let value = |name: &str| Some(if name == "env" { env.as_str() } else { service.as_str() });
            let bound = template.bind(&value);
            prop_assert_eq!(bound.leaves().count(), 3);
            prop_assert_eq!(Expression::parse(&bound.to_string()), Ok(bound));
        }

        #[test]
        fn any_template_is_taken_or_refused_at_a_place_in_it(text in "[a1/{}|&()\\[\\]=*,: .-]{0,30}") {
            match Template::parse(&text, &["a", "1"]) {
                Ok(template) => prop_assert!(!template.bind(&|_| Some("x")).to_string().is_empty()),
                Err(error) => prop_assert!(text.is_char_boundary(error.offset), "{} in {:?}", error.offset, text),
            }
        }
    }
}
