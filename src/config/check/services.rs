//! `[services]`.

use std::collections::BTreeMap;

use super::Check;
use super::targets::May;
use crate::config::problem::{At, Path};
use crate::config::{Identity, Policies, Service, UpstreamTls, raw};
use crate::target::is_name;

impl Check<'_> {
    pub(super) fn services(
        &mut self,
        raw: &BTreeMap<String, raw::Service>,
        defaults: &Policies,
        identity: Option<&Identity>,
    ) -> BTreeMap<String, Service> {
        let mut services = BTreeMap::new();
        for (name, table) in raw {
            let path = Path::default().key("services").key(name);
            if !is_name(name) {
                let message = "expected a name of a-z, 0-9, `.`, `_` and `-` that begins with a letter or digit";
                self.error(&path, At::Key, message);
            }
            let mut policies = self.policies(Some(&table.policies), defaults, &path);
            match &mut policies.tls {
                UpstreamTls::Mesh { expected } => {
                    *expected = self.expected_identities(name, table.identity.as_ref(), identity, &path);
                }
                _ if table.identity.is_some() => {
                    let message = "has no meaning without `tls = \"mesh\"`; write that, or remove it";
                    self.error(&path.key("identity"), At::Key, message);
                }
                _ => {}
            }
            let from = if let Some(text) = &table.from {
                self.expression(text, &path.key("from"), May::TargetsOnly { service: name })
            } else {
                let message = "missing: say where its endpoints are found, such as `from = \"static/127.0.0.1:8080\"`";
                self.missing(&path.key("from"), message);
                None
            };
            if let Some(from) = from {
                services.insert(name.clone(), Service { name: name.clone(), from, policies });
            }
        }
        services
    }
}
