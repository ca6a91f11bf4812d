//! `[[listeners]] allow`: who may do what, and rules that cannot mean what they say.

use meshless_certs::TrustDomain;

use super::Check;
use crate::config::problem::{At, Path};
use crate::config::raw::{self, Raw, TlsMode};
use crate::config::{FromMatch, Listener, ListenerProtocol, Match};
use crate::route::covers;

/// Most rules of one listener: each is a series of a metric.
const MAX_RULES: usize = 500;

impl Check<'_> {
    /// `None`: there is no `allow`, or something is wrong with it.
    pub(super) fn allow(&mut self, raw: &raw::Listener, listener: &Path) -> Option<Vec<Match>> {
        let at = listener.key("allow");
        let Some(rules) = &raw.allow else {
            if raw.dry_run == Some(true) && !self.is_wrong(&at) {
                let message = "has no meaning without `allow`: nothing would be denied; add `allow`, or remove it";
                self.error(&listener.key("dry_run"), At::Key, message);
            }
            return None;
        };
        if rules.len() > MAX_RULES {
            let message = format!("expected at most {MAX_RULES} rules, found {}", rules.len());
            self.error(&at, At::Value, message);
            return None;
        }
        // Every rule is checked, whatever the others are like.
        let checked: Vec<_> =
            rules.iter().enumerate().map(|(position, rule)| self.allow_rule(rule, &at.position(position))).collect();
        for (position, rule) in rules.iter().enumerate() {
            self.rule_can_hold(raw, rule, &at.position(position));
        }
        checked.into_iter().collect()
    }

    /// A rule that asks for what its listener never sees lets nobody in, which is surely not what it was written for.
    fn rule_can_hold(&mut self, listener: &raw::Listener, rule: &raw::Allow, at: &Path) {
        let sees_requests =
            !matches!(listener.protocol, Some(raw::ListenerProtocol::Tcp | raw::ListenerProtocol::TlsPassthrough));
        if !sees_requests {
            let needs_http = [
                ("methods", rule.methods.is_some()),
                ("path", rule.path.is_some()),
                ("headers", rule.headers.is_some()),
                ("grpc", rule.grpc.is_some()),
            ];
            for (key, _) in needs_http.iter().filter(|(_, is_set)| *is_set) {
                let message = "can never hold: this listener carries bytes and sees no requests; ask for `from` and \
                               `address` alone, or change `protocol` to \"http\"";
                self.error(&at.key(key), At::Key, message);
            }
        }
        if rule.from.is_none() {
            return;
        }
        if listener.protocol == Some(raw::ListenerProtocol::TlsPassthrough) {
            let message = "can never hold: this listener does not open TLS and sees no certificate; ask for `address`";
            self.error(&at.key("from"), At::Key, message);
        } else if !verifies_clients(listener) {
            let message = "can never hold: this listener verifies no clients, so none has an identity; set \
                           `tls = { mode = \"strict\" }`, or `client_ca` beside `mode = \"server\"`";
            self.error(&at.key("from"), At::Key, message);
        }
    }

    /// Warns of rules that decide nothing.
    pub(super) fn allow_holds(&mut self, raw: &Raw, listeners: &[Option<Listener>]) {
        let trust_domain = raw.identity.as_ref().and_then(|identity| identity.trust_domain.as_deref());
        for (position, (listener, written)) in listeners.iter().zip(&raw.listeners).enumerate() {
            let Some((listener, rules)) = listener.as_ref().and_then(|one| Some((one, one.allow.as_ref()?))) else {
                continue;
            };
            let at = Path::default().key("listeners").position(position).key("allow");
            let own = trust_domain.filter(|_| is_of_the_mesh(written));
            for (position, rule) in rules.iter().enumerate() {
                let at = at.position(position);
                if self.is_wrong(&at) {
                    // What is left of it says nothing of what was meant.
                    continue;
                }
                let earlier = rules.get(..position).unwrap_or_default();
                if let Some(first) = earlier.iter().position(|earlier| covers(earlier, rule)) {
                    let message = format!("decides nothing: allow[{first}] allows all that it allows; remove it");
                    self.report.warning(&at, At::Key, message);
                }
                if *rule == Match::default() && listener.protocol != ListenerProtocol::TlsPassthrough {
                    let message = "allows everybody everything, clients without an identity too; remove `allow` if that \
                                   is meant, or say `from`";
                    self.report.warning(&at, At::Key, message);
                }
                if let (Some(own), Some(from)) = (own, &rule.from)
                    && !is_of(from, own)
                {
                    let message = format!(
                        "can never hold: peers are of the trust domain `{}` ([identity] trust_domain)",
                        own.escape_debug()
                    );
                    self.report.warning(&at.key("from"), At::Value, message);
                }
            }
        }
    }
}

/// Tells whether clients of a listener can have an identity.
fn verifies_clients(listener: &raw::Listener) -> bool {
    is_of_the_mesh(listener) || listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

fn is_of_the_mesh(listener: &raw::Listener) -> bool {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode);
    matches!(mode, Some(TlsMode::Strict | TlsMode::Permissive))
}

fn is_of(from: &FromMatch, trust_domain: &str) -> bool {
    // What is no trust domain is told where it stands.
    if trust_domain.parse::<TrustDomain>().is_err() {
        return true;
    }
    let (FromMatch::Exact(id) | FromMatch::Below(id)) = from;
    let domain = id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
    domain == Some(trust_domain)
}
