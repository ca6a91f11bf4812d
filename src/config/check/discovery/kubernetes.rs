//! Backends of the type `kubernetes`.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use meshless_discovery::{KubernetesAddresses, KubernetesConfig, KubernetesSurroundings};
use meshless_platforms::Surroundings;

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::raw;

impl Check<'_> {
    pub(super) fn kubernetes_backend(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        surroundings: &dyn Surroundings,
    ) -> KubernetesConfig {
        if let Some(file) = &table.kubeconfig {
            self.not_empty(&file.to_string_lossy(), &path.key("kubeconfig"));
        }
        if table.context.as_deref() == Some("") {
            self.error(&path.key("context"), At::Value, "expected the name of a context, found nothing");
        }
        if let Some(namespace) = table.namespace.as_deref().filter(|namespace| !is_label(namespace)) {
            let message = format!("expected a namespace of a-z, 0-9 and `-`, found {}", shown(namespace));
            self.error(&path.key("namespace"), At::Value, message);
        }
        KubernetesConfig {
            kubeconfig: table.kubeconfig.clone(),
            context: table.context.clone(),
            addresses: match table.addresses {
                None | Some(raw::KubernetesAddresses::Pod) => KubernetesAddresses::Pod,
                Some(raw::KubernetesAddresses::NodePort) => KubernetesAddresses::NodePort,
                Some(raw::KubernetesAddresses::LoadBalancer) => KubernetesAddresses::LoadBalancer,
            },
            routes: table.routes.unwrap_or_default(),
            namespace: table.namespace.clone(),
            surroundings: seen(surroundings),
        }
    }
}

/// Tells whether a text can name a namespace (RFC 1123).
fn is_label(text: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.as_bytes().first().is_some_and(edge)
        && text.as_bytes().last().is_some_and(edge)
        && text.bytes().all(|byte| edge(&byte) || byte == b'-')
}

/// Reads what the surroundings say of a cluster. That they say nothing is no mistake here: a configuration may be
/// checked at another place than where it runs.
fn seen(surroundings: &dyn Surroundings) -> KubernetesSurroundings {
    let said = |name: &str| surroundings.variable(name).filter(|value| !value.is_empty());
    let server = said("KUBERNETES_SERVICE_HOST").map(|host| {
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
        let port = said("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        format!("https://{host}:{port}")
    });
    let named = said("KUBECONFIG")
        .map(|list| list.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect::<Vec<_>>());
    let home = || said("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let kubeconfigs = named.filter(|list| !list.is_empty()).unwrap_or_else(|| home().into_iter().collect());
    KubernetesSurroundings { server, kubeconfigs, ..KubernetesSurroundings::default() }
}

#[cfg(test)]
mod tests {
    use meshless_platforms::Scripted;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> KubernetesSurroundings {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        seen(&Scripted(variables.collect()))
    }

    #[test]
    fn a_pod_is_told_of_its_server() {
        let server = |host, port| of(&[("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)]).server;
        assert_eq!(server("10.0.0.1", "6443").as_deref(), Some("https://10.0.0.1:6443"));
        assert_eq!(server("fd00::1", "443").as_deref(), Some("https://[fd00::1]:443"));
        assert_eq!(server("", "443"), None);
    }

    #[test]
    fn kubeconfigs_are_those_of_the_variable_else_that_of_the_home_folder() {
        assert_eq!(of(&[("KUBECONFIG", "/a::/b"), ("HOME", "/h")]).kubeconfigs, [PathBuf::from("/a"), "/b".into()]);
        assert_eq!(of(&[("KUBECONFIG", ""), ("HOME", "/h")]).kubeconfigs, [PathBuf::from("/h/.kube/config")]);
        assert!(of(&[]).kubeconfigs.is_empty());
    }
}
