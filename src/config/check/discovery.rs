//! `[discovery.NAME]`: each kind of backend has keys of its own.

mod aws;
mod consul;
mod dns;
mod kubernetes;

use std::collections::BTreeMap;

use meshless_discovery::Config as Kind;
use meshless_platforms::Surroundings;

use super::Check;
use crate::config::problem::{At, Path};
use crate::config::raw::DiscoveryType;
use crate::config::{Backend, Cloudmap, Consul, Dns, Ecs, Kubernetes, raw};
use crate::target::is_name;

/// Which kinds of backends take a key; `type` is for all of them.
const KEYS: &[(&str, &[&str])] = &[
    ("path", &["file"]),
    ("resolvers", &["dns"]),
    ("min_ttl", &["dns"]),
    ("max_ttl", &["dns"]),
    ("family", &["dns"]),
    ("allow_link_local", &["dns"]),
    ("address", &["consul"]),
    ("token", &["consul"]),
    ("token_file", &["consul"]),
    ("ca", &["consul"]),
    ("cert", &["consul"]),
    ("key", &["consul"]),
    ("server_name", &["consul"]),
    ("datacenter", &["consul"]),
    ("namespace", &["consul", "kubernetes"]),
    ("partition", &["consul"]),
    ("peer", &["consul"]),
    ("consistency", &["consul"]),
    ("cached", &["consul"]),
    ("wait", &["consul"]),
    ("blocking", &["consul"]),
    ("region", &["ecs", "cloudmap"]),
    ("endpoint", &["ecs", "cloudmap"]),
    ("profile", &["ecs", "cloudmap"]),
    ("assume_role", &["ecs", "cloudmap"]),
    ("external_id", &["ecs", "cloudmap"]),
    ("min_interval", &["ecs", "cloudmap"]),
    ("max_interval", &["ecs", "cloudmap"]),
    ("kubeconfig", &["kubernetes"]),
    ("context", &["kubernetes"]),
    ("addresses", &["kubernetes"]),
    ("routes", &["kubernetes"]),
];

impl Check<'_> {
    pub(super) fn discovery(
        &mut self,
        raw: &BTreeMap<String, raw::Discovery>,
        surroundings: &dyn Surroundings,
    ) -> BTreeMap<String, Backend> {
        let mut backends = BTreeMap::new();
        for (name, table) in raw {
            let path = Path::default().key("discovery").key(name);
            if name == "static" {
                self.error(&path, At::Key, "`static` is always there and has no keys; remove the table");
                continue;
            }
            if !is_name(name) {
                let message = "expected a name of a-z, 0-9, `.`, `_` and `-` that begins with a letter or digit";
                self.error(&path, At::Key, message);
                continue;
            }
            let Some(kind) = kind_of(table, name) else {
                self.missing(&path.key("type"), "missing: the table's name is not a type; write `type = \"file\"`");
                continue;
            };
            if let Some(backend) = self.backend(name, kind, table, surroundings, &path) {
                backends.insert(name.clone(), backend);
            }
        }
        backends
    }

    fn backend(
        &mut self,
        name: &str,
        kind: &str,
        table: &raw::Discovery,
        surroundings: &dyn Surroundings,
        path: &Path,
    ) -> Option<Backend> {
        self.refuse_keys_of_others(name, kind, path);
        if !Kind::is_built(kind) {
            self.error(path, At::Key, format!("this build has no `{kind}` backend; it was built without that feature"));
            return None;
        }
        Some(match kind {
            "cloudmap" => Backend::Cloudmap(Cloudmap(self.cloudmap_backend(table, path, surroundings))),
            "consul" => Backend::Consul(Consul(self.consul_backend(table, path, surroundings))),
            "dns" => Backend::Dns(Dns(self.dns_backend(table, path))),
            "ecs" => Backend::Ecs(Ecs(self.ecs_backend(table, path, surroundings))),
            "kubernetes" => Backend::Kubernetes(Kubernetes(self.kubernetes_backend(table, path, surroundings))),
            _ => {
                let Some(file) = &table.path else {
                    self.missing(&path.key("path"), "missing: name a file or a directory of endpoints");
                    return None;
                };
                self.not_empty(&file.to_string_lossy(), &path.key("path"));
                Backend::File { path: file.clone() }
            }
        })
    }

    /// Refuses keys that belong to another kind of backend: they would change nothing.
    fn refuse_keys_of_others(&mut self, name: &str, kind: &str, path: &Path) {
        for (key, kinds) in KEYS.iter().filter(|(_, kinds)| !kinds.contains(&kind)) {
            if self.has_key_below(["discovery", name], key) {
                let kinds = kinds.join("` or `");
                self.error(&path.key(key), At::Key, format!("a key of backends of the type `{kinds}`; remove it"));
            }
        }
    }
}

/// The kind of a backend: what its table says, else its name.
fn kind_of(table: &raw::Discovery, name: &str) -> Option<&'static str> {
    Some(match (table.kind, name) {
        (Some(DiscoveryType::Cloudmap), _) | (None, "cloudmap") => "cloudmap",
        (Some(DiscoveryType::Consul), _) | (None, "consul") => "consul",
        (Some(DiscoveryType::Dns), _) | (None, "dns") => "dns",
        (Some(DiscoveryType::Ecs), _) | (None, "ecs") => "ecs",
        (Some(DiscoveryType::File), _) | (None, "file") => "file",
        (Some(DiscoveryType::Kubernetes), _) | (None, "kubernetes") => "kubernetes",
        (None, _) => return None,
    })
}

/// Tells whether the name of a backend is a kind of backend that needs a table of its own.
pub(super) fn is_kind(name: &str) -> bool {
    matches!(name, "cloudmap" | "consul" | "ecs" | "file" | "kubernetes")
}
