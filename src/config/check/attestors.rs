//! `[ca.kubernetes.NAME]`, `[ca.aws]`, `[ca.ec2]`, `[ca.x509.NAME]`: whose evidence is taken.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use meshless_certs::attest::aws_iam::Region;

use super::Check;
use crate::config::problem::{At, Path, shown, suggestion};
use crate::config::{AttestedCluster, AttestedInstances, AttestedRoles, Attestors, raw};
use crate::target::is_name;

/// The API server, as every pod finds it.
const API_SERVER: &str = "https://kubernetes.default.svc";
/// Where kubelet puts what a pod needs to speak to it.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Check<'_> {
    pub(super) fn attestors(&mut self, ca: &raw::Ca) -> Attestors {
        let path = Path::default().key("ca");
        let mut found = Attestors::default();
        for (name, table) in &ca.kubernetes {
            let path = path.key("kubernetes").key(name);
            self.table_name(name, &path);
            if let Some(cluster) = self.cluster(table, &path) {
                if ca.kubernetes.len() > 1 && table.issuer.is_none() {
                    let message =
                        "missing: with several clusters each needs its `issuer`, which tells their tokens apart";
                    self.missing(&path.key("issuer"), message);
                }
                found.kubernetes.insert(name.clone(), cluster);
            }
        }
        found.aws = ca.aws.as_ref().and_then(|table| self.roles(table, &path.key("aws")));
        found.ec2 = ca.ec2.as_ref().and_then(|table| self.instances(table, &path.key("ec2")));
        for (name, table) in &ca.x509 {
            let path = path.key("x509").key(name);
            self.table_name(name, &path);
            match &table.bundle {
                None => self.missing(&path.key("bundle"), "missing: the file that has the roots, PEM"),
                Some(file) => {
                    self.not_empty(&file.to_string_lossy(), &path.key("bundle"));
                    found.x509.insert(name.clone(), file.clone());
                }
            }
        }
        for (position, rule) in ca.allow.iter().flatten().enumerate() {
            self.rule_has_an_attestor(rule, ca, &path.key("allow").position(position));
        }
        found
    }

    fn cluster(&mut self, table: &raw::CaKubernetes, path: &Path) -> Option<AttestedCluster> {
        let raw::CaKubernetes { issuer, address, ca, token_file, jwks_file } = table;
        for (key, file) in [("ca", ca), ("token_file", token_file), ("jwks_file", jwks_file)] {
            if let Some(file) = file {
                self.not_empty(&file.to_string_lossy(), &path.key(key));
            }
        }
        if let Some(issuer) = issuer {
            self.vouching_url(issuer, &path.key("issuer"));
        }
        if let Some(jwks_file) = jwks_file {
            for (key, _) in [("address", address.is_some()), ("ca", ca.is_some()), ("token_file", token_file.is_some())]
                .iter()
                .filter(|(_, given)| *given)
            {
                self.error(
                    &path.key(key),
                    At::Key,
                    "has no meaning beside `jwks_file`: nobody is asked; remove one of them",
                );
            }
            if issuer.is_none() {
                self.missing(&path.key("issuer"), "missing: `jwks_file` has the keys of one issuer; say which");
            }
            return Some(AttestedCluster::File { issuer: issuer.clone()?, jwks_file: jwks_file.clone() });
        }
        match (address, issuer) {
            (None, Some(issuer)) => {
                if token_file.is_some() {
                    let message = "has no meaning without `address`: an issuer publishes its keys to everybody";
                    self.error(&path.key("token_file"), At::Key, message);
                }
                Some(AttestedCluster::Issuer { issuer: issuer.clone(), ca: ca.clone() })
            }
            (None, None) => {
                let file = |given: &Option<PathBuf>, name: &str| {
                    given.clone().unwrap_or_else(|| PathBuf::from(format!("{ACCOUNT}/{name}")))
                };
                Some(AttestedCluster::Review {
                    issuer: None,
                    address: API_SERVER.to_owned(),
                    ca: Some(file(ca, "ca.crt")),
                    token_file: file(token_file, "token"),
                })
            }
            (Some(address), _) => {
                self.vouching_url(address, &path.key("address"));
                if token_file.is_none() {
                    self.missing(
                        &path.key("token_file"),
                        "missing: the file with the token that the API server knows us by",
                    );
                }
                Some(AttestedCluster::Review {
                    issuer: issuer.clone(),
                    address: address.clone(),
                    ca: ca.clone(),
                    token_file: token_file.clone()?,
                })
            }
        }
    }

    fn roles(&mut self, table: &raw::CaAws, path: &Path) -> Option<AttestedRoles> {
        let accounts = self.accounts(table.accounts.as_ref(), &path.key("accounts"));
        let mut regions = BTreeSet::new();
        if table.regions.as_ref().is_none_or(Vec::is_empty) {
            let message = "missing: the regions whose STS may be asked, such as `regions = [\"eu-west-1\"]`";
            self.missing(&path.key("regions"), message);
        }
        for (position, text) in table.regions.iter().flatten().enumerate() {
            if let Some(region) = Region::parse(text) {
                regions.insert(region);
            } else {
                let message = format!("expected a region such as `eu-west-1`, found {}", shown(text));
                self.error(&path.key("regions").position(position), At::Value, message);
            }
        }
        for (key, url) in [("endpoint", &table.endpoint), ("ecs_endpoint", &table.ecs_endpoint)] {
            if let Some(url) = url {
                self.vouching_url(url, &path.key(key));
            }
        }
        let ecs = table.ecs.unwrap_or(false);
        for (key, given) in [("behind_nat", table.behind_nat.is_some()), ("ecs_endpoint", table.ecs_endpoint.is_some())]
        {
            if given && !ecs {
                self.error(&path.key(key), At::Key, "is for tasks of ECS; add `ecs = true`, or remove it");
            }
        }
        if ecs && !cfg!(feature = "ecs") {
            self.error(&path.key("ecs"), At::Value, "this build cannot ask ECS; it was built without that feature");
        }
        Some(AttestedRoles {
            accounts: accounts?,
            regions,
            ecs,
            behind_nat: table.behind_nat.unwrap_or(false),
            endpoint: table.endpoint.clone(),
            ecs_endpoint: table.ecs_endpoint.clone(),
        })
    }

    fn instances(&mut self, table: &raw::CaEc2, path: &Path) -> Option<AttestedInstances> {
        let accounts = self.accounts(table.accounts.as_ref(), &path.key("accounts"));
        match &table.certificates {
            None => self.missing(
                &path.key("certificates"),
                "missing: a PEM file with the certificates that AWS publishes as \"RSA-2048\" for your regions",
            ),
            Some(file) => self.not_empty(&file.to_string_lossy(), &path.key("certificates")),
        }
        Some(AttestedInstances {
            accounts: accounts?,
            certificates: table.certificates.clone()?,
            behind_nat: table.behind_nat.unwrap_or(false),
        })
    }

    /// Everybody has an account of AWS: without a list anybody's role would be believed.
    fn accounts(&mut self, list: Option<&Vec<String>>, path: &Path) -> Option<BTreeSet<String>> {
        let Some(list) = list.filter(|list| !list.is_empty()) else {
            self.missing(path, "missing: the accounts that are believed, such as `accounts = [\"123456789012\"]`");
            return None;
        };
        for (position, text) in list.iter().enumerate() {
            if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                let message = format!("expected the number of an account, twelve digits, found {}", shown(text));
                self.error(&path.position(position), At::Value, message);
            }
        }
        Some(list.iter().cloned().collect())
    }

    /// Whoever answers there decides who gets an identity: in clear text only on this machine.
    fn vouching_url(&mut self, text: &str, path: &Path) {
        let is_sound = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => is_authority(rest),
            (_, Some(rest)) => is_authority(rest) && is_loopback(rest),
            _ => false,
        };
        if !is_sound {
            let message = format!("expected an `https://` URL (`http://` on loopback alone), found {}", shown(text));
            self.error(path, At::Value, message);
        }
    }

    fn table_name(&mut self, name: &str, path: &Path) {
        if !is_name(name) {
            let message = "expected a name of a-z, 0-9, `.`, `_` and `-` that begins with a letter or digit";
            self.error(path, At::Key, message);
        }
    }

    /// A rule whose attestor takes nobody's evidence can never match.
    fn rule_has_an_attestor(&mut self, rule: &raw::CaAllow, ca: &raw::Ca, path: &Path) {
        let (has, table) = match rule.attestor {
            None => return,
            Some(raw::Attestor::AwsIam) => (ca.aws.is_some(), "[ca.aws]"),
            Some(raw::Attestor::Ec2) => (ca.ec2.is_some(), "[ca.ec2]"),
            Some(raw::Attestor::Kubernetes) => (!ca.kubernetes.is_empty(), "[ca.kubernetes.NAME]"),
            Some(raw::Attestor::X509) => (!ca.x509.is_empty(), "[ca.x509.NAME]"),
        };
        if !has {
            let message = format!("nobody's evidence of this kind is taken: add `{table}`");
            self.error(&path.key("attestor"), At::Value, message);
            return;
        }
        let named = match rule.attestor {
            Some(raw::Attestor::Kubernetes) => {
                Some(("cluster", &rule.cluster, ca.kubernetes.keys().collect::<Vec<_>>()))
            }
            Some(raw::Attestor::X509) => Some(("roots", &rule.roots, ca.x509.keys().collect())),
            _ => None,
        };
        if let Some((key, Some(name), known)) = named
            && !known.contains(&name)
        {
            let hint = suggestion(name, known.iter().map(|name| name.as_str()));
            self.error(&path.key(key), At::Value, format!("{} is not configured{hint}", shown(name)));
        }
    }
}

/// Host and port, and maybe a path; no user, query or fragment.
fn is_authority(rest: &str) -> bool {
    !rest.is_empty()
        && !rest.starts_with('/')
        && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\".contains(&byte))
}

fn is_loopback(rest: &str) -> bool {
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
