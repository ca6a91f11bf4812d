//! `[ca]`: lifetimes that fit into each other, and rules that can be meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meshless_certs::attest::Method;
use meshless_certs::authority::{
    DEFAULT_INTERMEDIATE, DEFAULT_LEAF, LEAVES, LONGEST_INTERMEDIATE, LONGEST_LEAF, Limits, Rule, RuleError,
    SHORTEST_LEAF,
};

use super::Check;
use crate::config::problem::{At, Path};
use crate::config::raw::{self, Attestor, CaAllow};
use crate::config::{Ca, CaLimits, Node};

/// Requests of one source address in a second.
const PER_SOURCE: u32 = 20;
/// Handshakes at the same time (security.md, 2).
const HANDSHAKES: u32 = 200;

impl Check<'_> {
    pub(super) fn ca(&mut self, raw: &raw::Raw, node: &Node) -> Option<Ca> {
        let table = raw.ca.as_ref()?;
        let path = Path::default().key("ca");
        let listen = self.ca_listen(table.listen.as_deref(), &path.key("listen"));
        for (key, given) in [("state_dir", &table.state_dir), ("passphrase_file", &table.passphrase_file)] {
            if given.as_ref().is_some_and(|given| given.as_os_str().is_empty()) {
                self.error(&path.key(key), At::Value, "expected a path, found nothing");
            }
        }
        let leaf_ttl = table.leaf_ttl.map_or(DEFAULT_LEAF, |given| given.0);
        if !(SHORTEST_LEAF..=LONGEST_LEAF).contains(&leaf_ttl) {
            self.error(&path.key("leaf_ttl"), At::Value, "expected a time from 5s to 24h");
        }
        let intermediate_ttl = self.intermediate(table, leaf_ttl, &path);
        let allow = table.allow.iter().flatten().enumerate();
        let allow = allow.filter_map(|(place, rule)| self.ca_rule(rule, &path.key("allow").position(place))).collect();
        let state_dir = table.state_dir.clone().or_else(|| Some(node.state_dir.as_ref()?.join("ca")));
        // What is wrong with it is said where `[identity]` is checked.
        let trust_domain = raw.identity.as_ref().and_then(|identity| identity.trust_domain.as_ref()?.parse().ok());
        Some(Ca {
            trust_domain,
            listen,
            state_dir: state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/meshless/ca")),
            leaf_ttl,
            intermediate_ttl,
            passphrase_file: table.passphrase_file.clone(),
            allow,
            limits: self.ca_limits(table.limits.as_ref(), &path.key("limits")),
        })
    }

    fn ca_listen(&mut self, given: Option<&str>, path: &Path) -> Option<SocketAddr> {
        let given = given?;
        let parsed = given.parse().ok();
        if parsed.is_none() {
            self.error(path, At::Value, "expected an IP address and a port, such as `0.0.0.0:8443`");
        }
        parsed
    }

    fn intermediate(&mut self, table: &raw::Ca, leaf: Duration, path: &Path) -> Duration {
        let given = table.intermediate_ttl.map_or(DEFAULT_INTERMEDIATE, |given| given.0);
        if !(leaf * LEAVES..=LONGEST_INTERMEDIATE).contains(&given) {
            let message = "expected at least four times `leaf_ttl`, so that no leaf is cut short, and at most 90d";
            self.error(&path.key("intermediate_ttl"), At::Value, message);
        }
        given
    }

    fn ca_limits(&mut self, table: Option<&raw::CaLimits>, path: &Path) -> CaLimits {
        let table = table.cloned().unwrap_or_default();
        let limits = Limits::default();
        let mut positive = |key: &str, given: Option<u32>, default: u32| {
            if given == Some(0) {
                self.error(&path.key(key), At::Value, "expected at least 1");
            }
            given.unwrap_or(default)
        };
        CaLimits {
            per_second: positive("per_second", table.per_second, limits.per_second),
            per_identity: positive("per_identity", table.per_identity, limits.per_identity),
            per_source: positive("per_source", table.per_source, PER_SOURCE),
            handshakes: positive("handshakes", table.handshakes, HANDSHAKES),
        }
    }

    fn ca_rule(&mut self, rule: &CaAllow, path: &Path) -> Option<Rule> {
        if rule.attestor.is_none() {
            self.missing(&path.key("attestor"), "missing: who attests: `aws-iam`, `ec2`, `kubernetes` or `x509`");
        }
        if rule.id.is_none() {
            self.missing(&path.key("id"), "missing: the identity that is given, such as `/svc/api`");
        }
        let (attestor, id) = (rule.attestor?, rule.id.as_deref()?);
        let (method, takes) = facts(attestor);
        let mut selectors = BTreeMap::new();
        let mut strange = false;
        for (name, value) in given(rule) {
            let Some(value) = value else { continue };
            if takes.contains(&name) {
                selectors.insert(name.to_owned(), value.clone());
            } else {
                let message = format!("`{method}` does not prove this; it proves {}", takes.join(", "));
                self.error(&path.key(name), At::Key, message);
                strange = true;
            }
        }
        let unknown = |text: &str| {
            text.split('{')
                .skip(1)
                .filter_map(|rest| rest.split_once('}'))
                .find_map(|(name, _)| (!takes.contains(&name)).then(|| name.to_owned()))
        };
        if let Some(name) = unknown(id) {
            let message = format!("`{method}` does not prove `{name}`; it proves {}", takes.join(", "));
            self.error(&path.key("id"), At::Value, message);
            return None;
        }
        // What was refused already would only be its echo.
        if strange {
            return None;
        }
        match Rule::new(method, selectors, id) {
            Ok(rule) => Some(rule),
            Err(error) => {
                match &error {
                    RuleError::Id { .. } => self.error(&path.key("id"), At::Value, error.to_string()),
                    RuleError::Selector { name } => self.error(&path.key(name), At::Value, error.to_string()),
                    RuleError::Role(_) => self.error(&path.key("role"), At::Value, error.to_string()),
                    RuleError::Everybody(_) | RuleError::JoinToken => self.error(path, At::Value, error.to_string()),
                }
                None
            }
        }
    }
}

/// What each attestor proves: its facts are named as the keys are.
fn facts(attestor: Attestor) -> (Method, &'static [&'static str]) {
    match attestor {
        Attestor::AwsIam => (Method::AwsIam, &["account", "role", "cluster", "service", "family"]),
        Attestor::Ec2 => (Method::Ec2, &["account", "region", "instance", "image"]),
        Attestor::Kubernetes => (Method::Kubernetes, &["cluster", "namespace", "service_account"]),
        Attestor::X509 => (Method::X509, &["roots", "common_name", "dns", "uri"]),
    }
}

fn given(rule: &CaAllow) -> [(&'static str, &Option<String>); 14] {
    [
        ("account", &rule.account),
        ("cluster", &rule.cluster),
        ("common_name", &rule.common_name),
        ("dns", &rule.dns),
        ("family", &rule.family),
        ("image", &rule.image),
        ("instance", &rule.instance),
        ("namespace", &rule.namespace),
        ("region", &rule.region),
        ("role", &rule.role),
        ("roots", &rule.roots),
        ("service", &rule.service),
        ("service_account", &rule.service_account),
        ("uri", &rule.uri),
    ]
}
