//! Who gets which identity: rules over facts that were proved. Pure.
//!
//! A rule matches if it is for the method and each of its selectors is a fact with exactly that value. Its identity may
//! take facts in (`/svc/{service_account}`), but a fact never becomes more than one name: it cannot add a segment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Denied;
use crate::attest::Method;
use crate::attest::aws_iam::plain_role;
use crate::{SpiffeId, TrustDomain};

/// Facts by name, as they are recorded.
pub(crate) type Facts = BTreeMap<String, String>;

/// Every identity that policy gives begins so.
const PREFIX: &str = "/svc/";

/// Longest name of a fact or a value in a rule, in bytes (the longest ARN of a role has 2,048 and no business here).
const LONGEST: usize = 512;

/// Whoever proves this gets that identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    method: Method,
    selectors: Facts,
    template: Template,
}

/// A rule as it is stored and sent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    method: Method,
    #[serde(default)]
    selectors: Facts,
    id: String,
}

/// `/svc/` and one name, into which facts are put.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Fact(String),
}

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The identity is not of the form.
    #[error(
        "`{id}` is no identity of a service: {why}; write `/svc/NAME`, where facts may stand in NAME as `{{fact}}`"
    )]
    Id {
        /// As it was written.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// A selector is empty or too long.
    #[error("the selector `{name}` is empty or has more than {LONGEST} bytes")]
    Selector {
        /// Which one.
        name: String,
    },
    /// It would give an identity to whatever the method proves.
    #[error("the rule selects nothing, and its identity takes no fact in: everybody whom {0} attests would get it")]
    Everybody(Method),
    /// A role is not written as its ARN.
    #[error("`{0}` is no ARN of a role, such as `arn:aws:iam::123456789012:role/api`")]
    Role(String),
    /// Join tokens carry their identity themselves.
    #[error("join tokens take no rule: each is for one identity (`meshless ca token create --id /svc/NAME`)")]
    JoinToken,
}

impl Rule {
    /// Makes a rule: the method, facts that must have these values, and the identity's path. The ARN of a role may have its
    /// path, which STS does not say: the name alone is one role of an account.
    pub fn new(method: Method, mut selectors: BTreeMap<String, String>, id: &str) -> Result<Self, RuleError> {
        if method == Method::JoinToken {
            return Err(RuleError::JoinToken);
        }
        let wrong = |text: &String| text.is_empty() || text.len() > LONGEST;
        if let Some((name, _)) = selectors.iter().find(|(name, value)| wrong(name) || wrong(value)) {
            return Err(RuleError::Selector { name: name.clone() });
        }
        if method == Method::AwsIam
            && let Some(role) = selectors.get_mut("role")
        {
            *role = plain_role(role).ok_or_else(|| RuleError::Role(role.clone()))?;
        }
        let template = Template::parse(id)?;
        let takes_facts = template.parts.iter().any(|part| matches!(part, Part::Fact(_)));
        if selectors.is_empty() && !takes_facts {
            return Err(RuleError::Everybody(method));
        }
        Ok(Self { method, selectors, template })
    }

    /// Returns how it must be proved.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Returns the facts that must have these values.
    #[must_use]
    pub fn selectors(&self) -> &BTreeMap<String, String> {
        &self.selectors
    }

    /// Returns the identity's path, as it was written.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.template.text
    }

    /// Returns the path of the identity that it gives; `None` if it does not match.
    fn gives(&self, method: Method, facts: &Facts) -> Option<Result<String, String>> {
        let matches =
            self.method == method && self.selectors.iter().all(|(name, value)| facts.get(name) == Some(value));
        matches.then(|| self.template.fill(facts))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} → {}", self.method, shown(&self.selectors), self.template.text)
    }
}

impl TryFrom<Written> for Rule {
    type Error = RuleError;

    fn try_from(written: Written) -> Result<Self, RuleError> {
        Self::new(written.method, written.selectors, &written.id)
    }
}

impl From<Rule> for Written {
    fn from(rule: Rule) -> Self {
        Self { method: rule.method, selectors: rule.selectors, id: rule.template.text }
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, RuleError> {
        let wrong = |why: &str| RuleError::Id { id: text.to_owned(), why: why.to_owned() };
        let mut rest = text.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with `/svc/`"))?;
        let mut parts = vec![Part::Text(PREFIX.to_owned())];
        // What the text is with a plain name in place of each fact must be an identity.
        let mut sample = PREFIX.to_owned();
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('{') {
                let (name, after) = inner.split_once('}').ok_or_else(|| wrong("a `{` is not closed"))?;
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                if name.is_empty() || !name.bytes().all(plain) {
                    return Err(wrong("between `{` and `}` stands the name of a fact, such as `{service_account}`"));
                }
                parts.push(Part::Fact(name.to_owned()));
                sample.push('x');
                rest = after;
            } else {
                let end = rest.find('{').unwrap_or(rest.len());
                let (plain, after) = rest.split_at(end);
                parts.push(Part::Text(plain.to_owned()));
                sample.push_str(plain);
                rest = after;
            }
        }
        service_of(&sample).map_err(|why| RuleError::Id { id: text.to_owned(), why })?;
        Ok(Self { text: text.to_owned(), parts })
    }

    fn fill(&self, facts: &Facts) -> Result<String, String> {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Fact(name) => {
                    let value = facts.get(name).ok_or_else(|| format!("the fact `{name}` was not proved"))?;
                    // By itself: two halves that are no names must not make one, and none may bring a slash.
                    service_of(&format!("{PREFIX}{value}"))
                        .map_err(|why| format!("the fact `{name}` cannot stand in an identity: {why}"))?;
                    path.push_str(value);
                }
            }
        }
        service_of(&path).map(|_| path.clone()).map_err(|why| format!("`{path}` is no identity: {why}"))
    }
}

/// Returns the name of the service that an identity's path is for: `/svc/` and one segment.
pub(crate) fn service_of(path: &str) -> Result<&str, String> {
    let name = path.strip_prefix(PREFIX).ok_or("it does not begin with `/svc/`")?;
    if name.contains('/') {
        return Err("it has more than one segment after `/svc/`".to_owned());
    }
    // Any trust domain does: the path is what is looked at.
    format!("spiffe://x{path}").parse::<SpiffeId>().map_err(|error| error.to_string())?;
    Ok(name)
}

/// Returns the identity of a service.
pub(crate) fn id_of(trust_domain: &TrustDomain, path: &str) -> Result<SpiffeId, Denied> {
    let wrong = |why: String| Denied::Malformed { reason: "service", why: format!("`{path}`: {why}") };
    service_of(path).map_err(wrong)?;
    trust_domain.id(path).map_err(|error| wrong(error.to_string()))
}

/// Decides which identity somebody gets. `service` is what the asker wants to be, if it says so.
pub(crate) fn decide<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    method: Method,
    facts: &Facts,
    service: Option<&str>,
) -> Result<String, Denied> {
    let mut paths = BTreeSet::new();
    let mut unfit = Vec::new();
    for rule in rules {
        match rule.gives(method, facts) {
            None => {}
            Some(Ok(path)) => {
                paths.insert(path);
            }
            Some(Err(why)) => unfit.push(why),
        }
    }
    let proved = format!("proved by {method}: {}", shown(facts));
    let denied = |why: String| Err(Denied::NotAllowed { why });
    match (service, paths.len()) {
        (_, 0) if !unfit.is_empty() => denied(format!("{}; {proved}", unfit.join("; "))),
        (_, 0) => denied(format!(
            "no rule gives an identity to what was {proved}; add one to `[ca] allow`, or by `meshless ca entry add`"
        )),
        (Some(service), _) => match paths.take(&format!("{PREFIX}{service}")) {
            Some(path) => Ok(path),
            None => denied(format!(
                "`{service}` is asked for, the rules give {}; {proved}",
                paths.into_iter().collect::<Vec<_>>().join(", ")
            )),
        },
        (None, 1) => Ok(paths.pop_first().unwrap_or_default()),
        (None, _) => denied(format!(
            "the rules give several identities, {}; say which one by `node.service`; {proved}",
            paths.into_iter().collect::<Vec<_>>().join(", ")
        )),
    }
}

/// Returns facts on one line: `namespace=default service_account=web`.
pub(crate) fn shown(facts: &Facts) -> String {
    if facts.is_empty() {
        return "nothing".to_owned();
    }
    facts.iter().map(|(name, value)| format!("{name}={}", value.escape_debug())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(of: &[(&str, &str)]) -> Facts {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn rule(selectors: &[(&str, &str)], id: &str) -> Rule {
        Rule::new(Method::Kubernetes, facts(selectors), id).unwrap()
    }

    fn decide_for(rules: &[Rule], proved: &[(&str, &str)], service: Option<&str>) -> Result<String, String> {
        decide(rules, Method::Kubernetes, &facts(proved), service).map_err(|denied| denied.to_string())
    }

    #[test]
    fn a_rule_matches_if_each_selector_is_a_fact() {
        let rules = [rule(&[("namespace", "default"), ("service_account", "api")], "/svc/api")];
        let api = [("namespace", "default"), ("service_account", "api"), ("pod", "api-1")];
        assert_eq!(decide_for(&rules, &api, None).unwrap(), "/svc/api");
        assert_eq!(decide_for(&rules, &api, Some("api")).unwrap(), "/svc/api");
        let error = decide_for(&rules, &[("namespace", "default"), ("service_account", "web")], None).unwrap_err();
        assert!(error.contains("namespace=default service_account=web") && error.contains("ca entry add"), "{error}");
        assert!(decide_for(&rules, &[("namespace", "default")], None).is_err());
        let other = decide(&rules, Method::X509, &facts(&api), None).unwrap_err();
        assert_eq!(other.status(), 403, "the method counts");
        let error = decide_for(&rules, &api, Some("admin")).unwrap_err();
        assert!(error.contains("`admin` is asked for, the rules give /svc/api"), "{error}");
    }

    #[test]
    fn several_identities_need_a_word_of_the_asker() {
        let rules = [rule(&[("namespace", "a")], "/svc/one"), rule(&[("namespace", "a")], "/svc/two")];
        let error = decide_for(&rules, &[("namespace", "a")], None).unwrap_err();
        assert!(error.contains("/svc/one, /svc/two") && error.contains("node.service"), "{error}");
        assert_eq!(decide_for(&rules, &[("namespace", "a")], Some("two")).unwrap(), "/svc/two");
        let same = [rule(&[("namespace", "a")], "/svc/one"), rule(&[("pod", "b")], "/svc/one")];
        assert_eq!(decide_for(&same, &[("namespace", "a"), ("pod", "b")], None).unwrap(), "/svc/one");
    }

    #[test]
    fn a_fact_in_an_identity_is_one_name() {
        let rules = [rule(&[("namespace", "default")], "/svc/{service_account}-{zone}")];
        let with = |account| {
            decide_for(&rules, &[("namespace", "default"), ("service_account", account), ("zone", "a")], None)
        };
        assert_eq!(with("api").unwrap(), "/svc/api-a");
        for wrong in ["", ".", "..", "a/b", "../ca", "a b", "a%2fb", "ä", "a\0"] {
            assert!(with(wrong).unwrap_err().contains("cannot stand in an identity"), "{wrong:?}");
        }
        let error = decide_for(&rules, &[("namespace", "default"), ("zone", "a")], None).unwrap_err();
        assert!(error.contains("`service_account` was not proved"), "{error}");
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for id in [
            "",
            "api",
            "/svc",
            "/svc/",
            "/svc/a/b",
            "/svc/..",
            "/meshless/ca",
            "/svc/{a",
            "/svc/{}",
            "/svc/{A}",
            "/svc/a b",
        ] {
            let error = Rule::new(Method::Ec2, facts(&[("account", "1")]), id).unwrap_err();
            assert!(matches!(&error, RuleError::Id { .. }), "{id}: {error}");
        }
        assert!(matches!(Rule::new(Method::Ec2, Facts::new(), "/svc/a"), Err(RuleError::Everybody(_))));
        assert!(Rule::new(Method::Ec2, Facts::new(), "/svc/{account}").is_ok());
        let with_path = facts(&[("role", "arn:aws:iam::123456789012:role/team/api")]);
        let rule = Rule::new(Method::AwsIam, with_path, "/svc/a").unwrap();
        assert_eq!(rule.selectors()["role"], "arn:aws:iam::123456789012:role/api", "STS says no path");
        assert!(matches!(Rule::new(Method::AwsIam, facts(&[("role", "api")]), "/svc/a"), Err(RuleError::Role(_))));
        assert!(matches!(Rule::new(Method::JoinToken, facts(&[("a", "b")]), "/svc/a"), Err(RuleError::JoinToken)));
        assert!(matches!(Rule::new(Method::Ec2, facts(&[("a", "")]), "/svc/a"), Err(RuleError::Selector { .. })));
    }

    #[test]
    fn a_rule_is_stored_as_it_was_written() {
        let rule = rule(&[("namespace", "default")], "/svc/{service_account}");
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(
            json,
            r#"{"method":"kubernetes","selectors":{"namespace":"default"},"id":"/svc/{service_account}"}"#
        );
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
        assert!(serde_json::from_str::<Rule>(r#"{"method":"kubernetes","id":"/other"}"#).is_err());
        assert_eq!(rule.to_string(), "kubernetes namespace=default → /svc/{service_account}");
    }

    proptest! {
        #[test]
        fn whatever_is_proved_the_identity_is_one_of_a_service(value in any::<String>()) {
            let rules = [rule(&[("namespace", "a")], "/svc/{x}")];
            if let Ok(path) = decide_for(&rules, &[("namespace", "a"), ("x", &value)], None) {
                prop_assert_eq!(path.clone(), format!("/svc/{value}"));
                prop_assert_eq!(path.matches('/').count(), 2);
            }
        }
    }
}
