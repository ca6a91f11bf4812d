//! `[identity]`: who issues it, how we say who we are; and who needs one.

use std::path::PathBuf;

use meshless_certs::{SpiffeId, TrustDomain};
use rustls::pki_types::ServerName;

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::raw::{self, Raw};
use crate::config::{
    Attest, Authority, AuthorityAddress, AuthorityTrust, Identity, KUBERNETES_TOKEN, Listener, Node, Policies, Route,
    RouteAction, UpstreamTls,
};
use crate::names::Rule;
use crate::target::{Expression, is_beside_us};

/// Port of a URL that names none.
const HTTPS: u16 = 443;

impl Check<'_> {
    pub(super) fn identity(&mut self, raw: &Raw, node: &Node) -> Option<Identity> {
        let table = raw.identity.as_ref()?;
        let path = Path::default().key("identity");
        let trust_domain = self.trust_domain(table.trust_domain.as_deref(), &path.key("trust_domain"));
        let authority = match &table.authority {
            // The trust domain of an authority that nobody here asks.
            None if self.has_table("ca") && !self.is_wrong(&path.key("authority")) => {
                self.only_for_urls(table, "`[ca]` alone");
                return None;
            }
            None => {
                self.missing(
                    &path.key("authority"),
                    "missing: write a URL such as `https://ca.internal:8443`, `embedded` (with `[ca]`), \
                     or `{ chain = …, key = …, bundle = … }`",
                );
                None
            }
            Some(raw::Authority::Files(files)) => {
                self.only_for_urls(table, "files that another agent writes");
                self.authority_files(files, &path.key("authority"))
            }
            Some(raw::Authority::Url(word)) if word == "embedded" => {
                self.only_for_urls(table, "`authority = \"embedded\"`");
                if !self.has_table("ca") {
                    let message = "`embedded` is the authority of this process: add `[ca]`";
                    self.error(&path.key("authority"), At::Value, message);
                }
                self.asked_service(node).map(|service| Authority::Embedded { service })
            }
            Some(raw::Authority::Url(url)) => self.remote(url, table, node),
        };
        Some(Identity { trust_domain: trust_domain?, authority: authority? })
    }

    fn trust_domain(&mut self, text: Option<&str>, path: &Path) -> Option<TrustDomain> {
        let Some(text) = text else {
            self.missing(path, "missing: the trust domain of every ID, such as `trust_domain = \"example.org\"`");
            return None;
        };
        match text.parse() {
            Ok(domain) => Some(domain),
            Err(error) => {
                let message = format!("expected a trust domain such as `example.org`, found {}: {error}", shown(text));
                self.error(path, At::Value, message);
                None
            }
        }
    }

    fn authority_files(&mut self, files: &raw::AuthorityFiles, path: &Path) -> Option<Authority> {
        let mut part = |file: &Option<PathBuf>, key: &str, what: &str| {
            match file {
                None => self.missing(&path.key(key), &format!("missing: the file that has {what}, PEM")),
                Some(file) => self.not_empty(&file.to_string_lossy(), &path.key(key)),
            }
            file.clone()
        };
        let chain = part(&files.chain, "chain", "the chain, leaf first");
        let key = part(&files.key, "key", "the private key");
        let bundle = part(&files.bundle, "bundle", "the roots");
        Some(Authority::Files { chain: chain?, key: key?, bundle: bundle? })
    }

    /// What says how an authority on the network is asked has no meaning where none is.
    fn only_for_urls(&mut self, table: &raw::Identity, instead: &str) {
        let path = Path::default().key("identity");
        let given = [
            ("authority_bundle", table.authority_bundle.is_some()),
            ("authority_pin", table.authority_pin.is_some()),
            ("attest", table.attest.is_some()),
            ("token_file", table.token_file.is_some()),
            ("cert", table.cert.is_some()),
            ("key", table.key.is_some()),
        ];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            let message = format!("has no meaning with {instead}; remove it, or write the URL of an authority");
            self.error(&path.key(key), At::Key, message);
        }
    }

    fn remote(&mut self, url: &str, table: &raw::Identity, node: &Node) -> Option<Authority> {
        let path = Path::default().key("identity");
        let address = authority_address(url);
        if address.is_none() {
            let message = format!(
                "expected `embedded`, or a URL such as `https://ca.internal:8443` (https alone, without a path), found {}",
                shown(url)
            );
            self.error(&path.key("authority"), At::Value, message);
        }
        let trust = self.authority_trust(table, &path);
        let attest = self.attest(table, &path);
        let service = self.asked_service(node);
        Some(Authority::Remote { address: address?, trust: trust?, attest: attest?, service: service? })
    }

    fn authority_trust(&mut self, table: &raw::Identity, path: &Path) -> Option<AuthorityTrust> {
        match (&table.authority_bundle, &table.authority_pin) {
            (None, None) => {
                if !self.is_wrong(&path.key("authority_bundle")) && !self.is_wrong(&path.key("authority_pin")) {
                    self.missing(
                        &path.key("authority_bundle"),
                        "missing: nobody is trusted at first sight; give the roots of the authority \
                         (`meshless ca bundle`), or `authority_pin`",
                    );
                }
                None
            }
            (Some(_), Some(_)) => {
                let message = "stands beside `authority_bundle`, which says all; remove one of them";
                self.error(&path.key("authority_pin"), At::Key, message);
                None
            }
            (Some(file), None) => {
                self.not_empty(&file.to_string_lossy(), &path.key("authority_bundle"));
                Some(AuthorityTrust::Bundle(file.clone()))
            }
            (None, Some(text)) => {
                let pin = parse_pin(text);
                if pin.is_none() {
                    let message = format!("expected `sha256:` and 64 hexadecimal digits, found {}", shown(text));
                    self.error(&path.key("authority_pin"), At::Value, message);
                }
                pin.map(AuthorityTrust::Pin)
            }
        }
    }

    fn attest(&mut self, table: &raw::Identity, path: &Path) -> Option<Attest> {
        let kind = table.attest.unwrap_or(raw::Attest::Auto);
        if let Some(file) = &table.token_file {
            self.not_empty(&file.to_string_lossy(), &path.key("token_file"));
            if !matches!(kind, raw::Attest::JoinToken | raw::Attest::Kubernetes) {
                let message = "has no meaning here; say which token it is by `attest = \"join-token\"` or \
                               `attest = \"kubernetes\"`, or remove it";
                self.error(&path.key("token_file"), At::Key, message);
            }
        }
        if kind != raw::Attest::X509 {
            for (key, _) in [("cert", &table.cert), ("key", &table.key)].iter().filter(|(_, file)| file.is_some()) {
                let message = "has no meaning here; write `attest = \"x509\"`, or remove it";
                self.error(&path.key(key), At::Key, message);
            }
        }
        match kind {
            raw::Attest::Auto => Some(Attest::Auto),
            raw::Attest::AwsIam => Some(Attest::AwsIam),
            raw::Attest::Ec2 => Some(Attest::Ec2),
            raw::Attest::JoinToken => {
                if table.token_file.is_none() {
                    self.missing(
                        &path.key("token_file"),
                        "missing: `attest = \"join-token\"` needs the file that the token is in",
                    );
                }
                table.token_file.clone().map(|token_file| Attest::JoinToken { token_file })
            }
            raw::Attest::Kubernetes => {
                let token_file = table.token_file.clone().unwrap_or_else(|| PathBuf::from(KUBERNETES_TOKEN));
                Some(Attest::Kubernetes { token_file })
            }
            raw::Attest::X509 => {
                if table.cert.is_none() && table.key.is_none() {
                    let message = "missing: `attest = \"x509\"` needs `cert` and `key`";
                    self.missing(&path.key("cert"), message);
                }
                let files = self.certified_key(table.cert.as_ref(), table.key.as_ref(), path)?;
                Some(Attest::X509 { cert: files.cert, key: files.key })
            }
        }
    }

    /// An authority is asked for the identity of one service.
    fn asked_service(&mut self, node: &Node) -> Option<String> {
        if node.service.is_none() {
            self.missing(
                &Path::default().key("node").key("service"),
                "missing: an identity is asked for from `identity.authority`; say which service this is, \
                 such as `service = \"web\"`",
            );
        }
        node.service.clone()
    }

    /// Says what needs an identity where there is none; `what` is as it is written.
    pub(super) fn needs_identity(&mut self, what: &str, path: &Path) {
        if !self.has_table("identity") {
            let message = format!("{what} needs an identity: add `[identity]` with `trust_domain` and `authority`");
            self.error(path, At::Value, message);
        }
    }

    /// Whom an upstream with `tls = "mesh"` is: what `identity` says, else the service of this name.
    pub(super) fn expected_identities(
        &mut self,
        name: &str,
        given: Option<&Vec<String>>,
        identity: Option<&Identity>,
        path: &Path,
    ) -> Vec<SpiffeId> {
        let Some(given) = given else {
            let Some(identity) = identity else { return Vec::new() };
            let id = identity.trust_domain.id(&format!("/svc/{name}"));
            if let Err(error) = &id {
                let message = format!("the name of the service makes no identity: {error}; set `identity`");
                self.error(path, At::Key, message);
            }
            return id.into_iter().collect();
        };
        let path = path.key("identity");
        if given.is_empty() {
            self.error(&path, At::Value, "expected at least one SPIFFE ID; nobody could be spoken to");
        }
        let mut ids = Vec::new();
        for (position, text) in given.iter().enumerate() {
            match text.parse::<SpiffeId>() {
                Err(error) => {
                    let message = format!(
                        "expected an ID such as `spiffe://example.org/svc/web`, found {}: {error}",
                        shown(text)
                    );
                    self.error(&path.position(position), At::Value, message);
                }
                Ok(id) => {
                    if let Some(identity) = identity
                        && id.trust_domain() != identity.trust_domain.as_str()
                    {
                        let message = format!(
                            "`{id}` is of another trust domain than `identity.trust_domain` (`{}`), and there is no \
                             federation in this build",
                            identity.trust_domain
                        );
                        self.error(&path.position(position), At::Value, message);
                    }
                    ids.push(id);
                }
            }
        }
        ids
    }

    /// Mesh TLS of `[defaults]` expects an identity that only a service has: a target that stands inline has no name. The
    /// application beside a listener is spoken to in clear text.
    pub(super) fn inline_mesh(
        &mut self,
        defaults: &Policies,
        listeners: &[Option<Listener>],
        routes: &[Option<Route>],
        names: &[Option<Rule>],
    ) {
        if !matches!(defaults.tls, UpstreamTls::Mesh { .. }) {
            return;
        }
        let root = Path::default();
        let at = |table: &str, position: usize| root.key(table).position(position);
        for (position, listener) in listeners.iter().enumerate() {
            let to = listener.as_ref().and_then(|listener| listener.to.as_ref());
            let far = to.filter(|to| to.targets().any(|target| !is_beside_us(target)));
            self.no_inline(far, &at("listeners", position).key("to"));
        }
        for (position, route) in routes.iter().enumerate() {
            let Some(route) = route else { continue };
            if let RouteAction::To(to) = &route.action {
                self.no_inline(Some(to), &at("routes", position).key("to"));
            }
            let mirror = route.mirror.as_ref().map(|mirror| &mirror.to);
            self.no_inline(mirror, &at("routes", position).key("mirror").key("to"));
        }
        for (position, rule) in names.iter().enumerate() {
            let target = rule.as_ref().map(|rule| rule.target.written());
            self.no_inline(target, &at("names", position).key("target"));
        }
    }

    fn no_inline(&mut self, to: Option<&Expression>, path: &Path) {
        let Some(target) = to.and_then(|to| to.targets().next()) else { return };
        let message = format!(
            "`{target}` stands inline and takes `[defaults]`, whose `tls = \"mesh\"` expects the identity of a service; \
             make it one: `[services.NAME]` with `from = \"{target}\"` and, where its identity is not `/svc/NAME`, `identity`"
        );
        self.error(path, At::Value, message);
    }
}

/// `https://HOST[:PORT]`, a slash at the end at most.
fn authority_address(url: &str) -> Option<AuthorityAddress> {
    let rest = url.strip_prefix("https://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(address) => {
            let (host, rest) = address.split_once(']')?;
            let _: std::net::Ipv6Addr = host.parse().ok()?;
            (host, rest)
        }
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => HTTPS,
        None => return None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0)?
        }
        Some(_) => return None,
    };
    // Names with a path, user information or a query are no names.
    ServerName::try_from(host).ok()?;
    Some(AuthorityAddress { host: host.to_owned(), port })
}

fn parse_pin(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut pin = [0; 32];
    for (byte, pair) in pin.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(pin)
}
