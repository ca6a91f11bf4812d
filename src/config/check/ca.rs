//! `[ca]`: lifetimes that fit into each other, rules that can be fulfilled.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meshless_certs::attest::Method;
use meshless_certs::authority::{
    DEFAULT_INTERMEDIATE, DEFAULT_LEAF, LEAVES, LONGEST_INTERMEDIATE, LONGEST_LEAF, Rule, SHORTEST_LEAF,
};

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::raw::{self, Raw};
use crate::config::units::Period;
use crate::config::{Ca, CaLimits, ListenAddress, Node};

impl Check<'_> {
    pub(super) fn ca(&mut self, raw: &Raw, node: &Node) -> Option<Ca> {
        let table = raw.ca.as_ref()?;
        let path = Path::default().key("ca");
        let listen = table.listen.as_deref().and_then(|text| self.ca_listen(text, &path.key("listen")));
        if let Some(directory) = &table.state_dir {
            self.not_empty(&directory.to_string_lossy(), &path.key("state_dir"));
        }
        if let Some(file) = &table.passphrase_file {
            self.not_empty(&file.to_string_lossy(), &path.key("passphrase_file"));
        }
        let leaf_ttl = self.leaf_ttl(table.leaf_ttl, &path.key("leaf_ttl"));
        let intermediate_ttl = self.intermediate_ttl(table.intermediate_ttl, leaf_ttl, &path.key("intermediate_ttl"));
        let allow = self.ca_allow(table.allow.as_deref().unwrap_or_default(), &path.key("allow"));
        let state_dir = table.state_dir.clone();
        let within = || node.state_dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/meshless")).join("ca");
        // What is wrong with it is said where `[identity]` is checked.
        let trust_domain = raw.identity.as_ref().and_then(|identity| identity.trust_domain.as_ref()?.parse().ok());
        Some(Ca {
            trust_domain,
            listen,
            state_dir: state_dir.unwrap_or_else(within),
            leaf_ttl,
            intermediate_ttl,
            passphrase_file: table.passphrase_file.clone(),
            allow,
            limits: self.ca_limits(table.limits.as_ref(), &path.key("limits")),
        })
    }

    fn ca_listen(&mut self, text: &str, path: &Path) -> Option<SocketAddr> {
        match self.listen_address(text, path)? {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) => {
                let message = "expected an IP address and a port, such as `0.0.0.0:8443`: workloads ask it by TLS";
                self.error(path, At::Value, message);
                None
            }
        }
    }

    fn leaf_ttl(&mut self, given: Option<Period>, path: &Path) -> Duration {
        let Some(Period(given)) = given else { return DEFAULT_LEAF };
        if !(SHORTEST_LEAF..=LONGEST_LEAF).contains(&given) {
            let message = format!("expected `5s` to `24h`, found `{}`: nothing is revoked but by time", Period(given));
            self.error(path, At::Value, message);
        }
        given
    }

    fn intermediate_ttl(&mut self, given: Option<Period>, leaf: Duration, path: &Path) -> Duration {
        let Some(Period(given)) = given else { return DEFAULT_INTERMEDIATE };
        if !(leaf * LEAVES..=LONGEST_INTERMEDIATE).contains(&given) {
            let least = Period(leaf * LEAVES);
            let message = format!(
                "expected `{least}` ({LEAVES} times `leaf_ttl`) to `90d`, found `{}`: the next one takes over while the leaves \
                 of this one live",
                Period(given)
            );
            self.error(path, At::Value, message);
        }
        given
    }

    fn ca_limits(&mut self, given: Option<&raw::CaLimits>, path: &Path) -> CaLimits {
        let given = given.cloned().unwrap_or_default();
        let mut of = |value: Option<u32>, default: u32, key: &str| match value {
            Some(0) => {
                self.error(&path.key(key), At::Value, "expected at least 1, found 0");
                default
            }
            other => other.unwrap_or(default),
        };
        CaLimits {
            per_second: of(given.per_second, 50, "per_second"),
            per_identity: of(given.per_identity, 10, "per_identity"),
            per_source: of(given.per_source, 20, "per_source"),
            handshakes: of(given.handshakes, 200, "handshakes"),
        }
    }

    fn ca_allow(&mut self, given: &[raw::CaAllow], path: &Path) -> Vec<Rule> {
        let rules = given.iter().enumerate().map(|(index, entry)| self.ca_rule(entry, &path.position(index)));
        rules.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    fn ca_rule(&mut self, entry: &raw::CaAllow, path: &Path) -> Option<Rule> {
        if entry.attestor.is_none() {
            self.missing(&path.key("attestor"), "missing: who attests: `aws-iam`, `ec2`, `kubernetes` or `x509`");
        }
        if entry.id.is_none() {
            self.missing(&path.key("id"), "missing: the path of the identity, such as `id = \"/svc/api\"`");
        }
        let (attestor, id) = (entry.attestor?, entry.id.as_deref()?);
        let selectors = selectors(entry);
        let mut is_right = true;
        for (key, _, takers) in selectors.iter().filter(|(_, value, _)| value.is_some()) {
            if !takers.contains(&attestor) {
                let message = format!("is no fact that `{}` attests", method(attestor));
                self.error(&path.key(key), At::Key, message);
                is_right = false;
            }
        }
        let given: BTreeMap<String, String> = selectors
            .iter()
            .filter_map(|(key, value, _)| value.as_ref().map(|value| ((*key).to_owned(), value.clone())))
            .collect();
        if given.is_empty() {
            let message = "names no fact, so everybody whom this attestor knows would get it; name what must be proved";
            self.error(path, At::Key, message);
            return None;
        }
        match Rule::new(method(attestor), given, id) {
            Ok(rule) => is_right.then_some(rule),
            Err(error) => {
                self.error(&path.key("id"), At::Value, format!("found {}: {error}", shown(id)));
                None
            }
        }
    }
}

fn method(attestor: raw::Attestor) -> Method {
    match attestor {
        raw::Attestor::AwsIam => Method::AwsIam,
        raw::Attestor::Ec2 => Method::Ec2,
        raw::Attestor::Kubernetes => Method::Kubernetes,
        raw::Attestor::X509 => Method::X509,
    }
}

type Selector<'a> = (&'static str, &'a Option<String>, &'static [raw::Attestor]);

/// Each selector, and whose fact it is.
fn selectors(entry: &raw::CaAllow) -> [Selector<'_>; 14] {
    use raw::Attestor::{AwsIam, Ec2, Kubernetes, X509};
    [
        ("namespace", &entry.namespace, &[Kubernetes]),
        ("service_account", &entry.service_account, &[Kubernetes]),
        ("cluster", &entry.cluster, &[Kubernetes, AwsIam]),
        ("account", &entry.account, &[AwsIam, Ec2]),
        ("role", &entry.role, &[AwsIam]),
        ("service", &entry.service, &[AwsIam]),
        ("family", &entry.family, &[AwsIam]),
        ("region", &entry.region, &[Ec2]),
        ("instance", &entry.instance, &[Ec2]),
        ("image", &entry.image, &[Ec2]),
        ("roots", &entry.roots, &[X509]),
        ("common_name", &entry.common_name, &[X509]),
        ("dns", &entry.dns, &[X509]),
        ("uri", &entry.uri, &[X509]),
    ]
}
