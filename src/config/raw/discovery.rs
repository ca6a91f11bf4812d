//! `[discovery.NAME]`: the keys of every kind of backend; which kind takes which is checked elsewhere.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::Period;

/// A backend.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Discovery {
    /// What kind of backend it is. Default: the table's name, if that is a type.
    #[serde(rename = "type")]
    pub kind: Option<DiscoveryType>,

    /// For `file`: a file or a directory of files with `[[services.NAME]]` tables; changes apply at once. Required.
    pub path: Option<PathBuf>,

    /// For `dns`: servers to ask, in this order, such as `["10.0.0.2:53"]`; at most 8. Every name is absolute then. Default:
    /// the system's, from `/etc/resolv.conf`, with its search domains.
    pub resolvers: Option<Vec<String>>,
    /// For `dns`: shortest time that an answer is taken to hold, 1 s to 1 h. Default `5s`.
    pub min_ttl: Option<Period>,
    /// For `dns`: longest time that an answer is taken to hold, `min_ttl` to 1 h. Default `5m`.
    pub max_ttl: Option<Period>,
    /// For `dns`: which addresses of a host are asked for. Default `any`, which is A and AAAA.
    pub family: Option<DnsFamily>,
    /// For `dns`: takes link-local addresses and those of cloud metadata services. Default `false`: an answer with one is an
    /// error.
    pub allow_link_local: Option<bool>,

    /// For `consul`: the agent's address, `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path`. Default
    /// `$CONSUL_HTTP_ADDR`, else `http://127.0.0.1:8500`.
    pub address: Option<String>,
    /// For `consul`: the token; write it as `${VARIABLE}`. Default `$CONSUL_HTTP_TOKEN`.
    pub token: Option<String>,
    /// For `consul`: a file that holds the token, read anew when it changes. Default `$CONSUL_HTTP_TOKEN_FILE`.
    pub token_file: Option<PathBuf>,
    /// For `consul`: PEM file with the authority of the agent's certificate. Default `$CONSUL_CACERT`, else the system's.
    pub ca: Option<PathBuf>,
    /// For `consul`: PEM file with our certificate. Default `$CONSUL_CLIENT_CERT`.
    pub cert: Option<PathBuf>,
    /// For `consul`: PEM file with the key of `cert`. Default `$CONSUL_CLIENT_KEY`.
    pub key: Option<PathBuf>,
    /// For `consul`: the name that the agent's certificate must have. Default `$CONSUL_TLS_SERVER_NAME`, else the host of
    /// `address`.
    pub server_name: Option<String>,
    /// For `consul`: datacenter of targets that name none with `dc`. Default: the agent's own.
    pub datacenter: Option<String>,
    /// For `consul`: namespace of targets that name none. Default `$CONSUL_NAMESPACE`. For `kubernetes`: namespace whose
    /// routes are read. Default: that of the account.
    pub namespace: Option<String>,
    /// For `consul`: admin partition of targets that name none. Default `$CONSUL_PARTITION`.
    pub partition: Option<String>,
    /// For `consul`: cluster peer of targets that name none. Default: not set.
    pub peer: Option<String>,
    /// For `consul`: which server may answer. Default `stale`.
    pub consistency: Option<ConsulConsistency>,
    /// For `consul`: lets the agent answer from its cache; not with `consistent`. Default `false`.
    pub cached: Option<bool>,
    /// For `consul`: how long one query waits for a change, 1 s to 10 min. Default `60s`.
    pub wait: Option<Period>,
    /// For `consul`: most queries that wait at a time; further targets are polled in turn. 1 to 10000. Default 150.
    pub blocking: Option<usize>,

    /// For `ecs` and `cloudmap`: the region. Default: what the environment, the profile or the instance says.
    pub region: Option<String>,
    /// For `ecs` and `cloudmap`: URL to ask instead of the services' own. Default: theirs.
    pub endpoint: Option<String>,
    /// For `ecs` and `cloudmap`: profile of the shared configuration. Default `$AWS_PROFILE`.
    pub profile: Option<String>,
    /// For `ecs` and `cloudmap`: ARN of a role to assume. Default: not set.
    pub assume_role: Option<String>,
    /// For `ecs` and `cloudmap`: external id for `assume_role`. Default: not set.
    pub external_id: Option<String>,
    /// For `ecs` and `cloudmap`: shortest time between two looks, 1 s to 1 h. Default `10s` for `ecs`, `5s` for `cloudmap`.
    pub min_interval: Option<Period>,
    /// For `ecs` and `cloudmap`: longest time between two looks at what does not change, `min_interval` to 1 h. Default `60s`
    /// for `ecs`, `30s` for `cloudmap`.
    pub max_interval: Option<Period>,

    /// For `kubernetes`: a kubeconfig. Default: the account of the pod, unless `context` is set; else `$KUBECONFIG`, else
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// For `kubernetes`: the context in the kubeconfig. Default: its current one.
    pub context: Option<String>,
    /// For `kubernetes`: which addresses are used; `node-port` (of every node that is ready) and `load-balancer` are for a
    /// gateway outside of the cluster. Default `pod`.
    pub addresses: Option<KubernetesAddresses>,
    /// For `kubernetes`: reads `HTTPRoute` and `GRPCRoute` objects of `namespace` and adds them behind `[[routes]]`, see
    /// `docs/gateway-api.md`. Default `false`.
    pub routes: Option<bool>,
}

/// What kind of backend it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as the backends are")]
pub enum DiscoveryType {
    Cloudmap,
    Consul,
    Dns,
    Ecs,
    File,
    Kubernetes,
}

/// Which addresses of a host are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as the families are")]
pub enum DnsFamily {
    Any,
    Ipv4,
    Ipv6,
}

/// Which of Consul's servers may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as Consul names them")]
pub enum ConsulConsistency {
    Stale,
    Leader,
    Consistent,
}

/// Which addresses of a Kubernetes service are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as Kubernetes names them")]
pub enum KubernetesAddresses {
    Pod,
    NodePort,
    LoadBalancer,
}
