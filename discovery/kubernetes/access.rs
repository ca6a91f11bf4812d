//! Where the API server is and who we are there: the account of the pod, or a context of a kubeconfig.
//!
//! All files are read anew each time: tokens, authorities and kubeconfigs are replaced while we run. What was read is
//! compared with what the client was made of, so that a client is made anew only where something changed.

use std::fmt;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use kube::config::{AuthInfo, Cluster, ExecAuthCluster, ExecConfig, Kubeconfig};

use crate::{Error, KubernetesConfig, KubernetesSurroundings};

/// What a client is made of.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Access {
    /// `https://HOST:PORT`.
    pub(super) server: String,
    /// PEM of the authorities that are believed; `None`: the system's.
    pub(super) authority: Option<Vec<u8>>,
    /// The name that the server's certificate must have, where it is not the host.
    pub(super) server_name: Option<String>,
    /// Takes any certificate, as the kubeconfig asks for.
    pub(super) is_unverified: bool,
    /// Namespace that is meant where none is named.
    pub(super) namespace: String,
    /// Who we are.
    pub(super) identity: Identity,
    /// Headers that ask the server to take us for somebody else (`as`, `as-groups`).
    pub(super) impersonation: Vec<(String, String)>,
}

/// Who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nobody.
    Anonymous,
    /// A name and a password.
    Basic(String, String),
    /// A bearer token.
    Token(String),
    /// PEM of a certificate, and of its key.
    Certificate(Vec<u8>, Vec<u8>),
    /// What a program of the kubeconfig says.
    Program(Box<Program>),
}

/// A program that hands out credentials (`exec` of a kubeconfig).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// What is run, as it is or found on the `PATH`.
    pub(super) command: String,
    pub(super) arguments: Vec<String>,
    /// Variables that it gets besides ours.
    pub(super) variables: Vec<(String, String)>,
    /// Version of the exchange, such as `client.authentication.k8s.io/v1`.
    pub(super) version: String,
    /// The cluster, as JSON, where it wants to be told of it.
    pub(super) cluster: Option<String>,
    /// What to do where there is no such program.
    pub(super) hint: Option<String>,
}

/// Without anything secret.
impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = match &self.identity {
            Identity::Anonymous => "anonymous",
            Identity::Basic(..) => "name and password",
            Identity::Token(_) => "token",
            Identity::Certificate(..) => "certificate",
            Identity::Program(_) => "program",
        };
        formatter
            .debug_struct("Access")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .field("identity", &identity)
            .finish_non_exhaustive()
    }
}

/// Reads how the cluster is reached: a kubeconfig that is named, else the account of the pod, else the kubeconfigs of the
/// surroundings. A context can only stand in a kubeconfig.
pub(super) fn read(config: &KubernetesConfig) -> Result<Access, Error> {
    let KubernetesSurroundings { server, account, kubeconfigs } = &config.surroundings;
    if let Some(path) = &config.kubeconfig {
        return of_files(std::slice::from_ref(path), config.context.as_deref());
    }
    match server {
        Some(server) if config.context.is_none() => of_pod(server, account),
        _ if kubeconfigs.is_empty() => Err(Error::Unreachable(
            "no cluster is known: this is no pod, and neither KUBECONFIG nor HOME says where a kubeconfig is; set `kubeconfig`"
                .to_owned(),
        )),
        _ => of_files(kubeconfigs, config.context.as_deref()),
    }
}

fn of_pod(server: &str, account: &Path) -> Result<Access, Error> {
    let advice = "is `automountServiceAccountToken` off? then set `kubeconfig`";
    let token = file(&account.join("token")).map_err(|problem| Error::Denied(format!("{problem}; {advice}")))?;
    // Kubernetes projects the three together; a namespace that is missing is only the default one.
    let authority =
        file(&account.join("ca.crt")).map_err(|problem| Error::Unreachable(format!("{problem}; {advice}")))?;
    let namespace = file(&account.join("namespace")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Access {
        server: server.to_owned(),
        authority: Some(authority),
        server_name: None,
        is_unverified: false,
        namespace: namespace
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        identity: Identity::Token(token_of(&token, &account.join("token"))?),
        impersonation: Vec::new(),
    })
}

/// What is meant where nothing else is said.
const DEFAULT_NAMESPACE: &str = "default";

fn of_files(paths: &[PathBuf], context: Option<&str>) -> Result<Access, Error> {
    let shown = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    let wrong = |problem: String| Error::Malformed(format!("kubeconfig {shown}: {problem}"));
    let mut merged = Kubeconfig::default();
    for path in paths {
        if let Err(error) = std::fs::metadata(path) {
            // Of several, those that are not there are left out, as kubectl does.
            if paths.len() > 1 {
                continue;
            }
            return Err(Error::Unreachable(format!("kubeconfig {shown}: {error}; set `kubeconfig`")));
        }
        let read = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
        merged = merged.merge(read).map_err(|error| wrong(error.to_string()))?;
    }
    let name = context
        .map(str::to_owned)
        .or_else(|| merged.current_context.clone().filter(|name| !name.is_empty()))
        .ok_or_else(|| wrong("no current context; set `context`".to_owned()))?;
    let found = merged.contexts.iter().find(|each| each.name == name).and_then(|each| each.context.as_ref());
    let found = found.ok_or_else(|| {
        let known: Vec<&str> = merged.contexts.iter().map(|each| each.name.as_str()).collect();
        wrong(format!("no context `{name}`, there are: {}", known.join(", ")))
    })?;
    let cluster = merged.clusters.iter().find(|each| each.name == found.cluster).and_then(|each| each.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| wrong(format!("no cluster `{}` of the context `{name}`", found.cluster)))?;
    let user = found.user.as_deref().filter(|user| !user.is_empty());
    let info = match user {
        None => AuthInfo::default(),
        Some(user) => merged
            .auth_infos
            .iter()
            .find(|each| each.name == user)
            .and_then(|each| each.auth_info.clone())
            .ok_or_else(|| wrong(format!("no user `{user}` of the context `{name}`")))?,
    };
    let namespace = found.namespace.clone().filter(|namespace| !namespace.is_empty());
    of_context(cluster, &info, namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())).map_err(|error| match error {
        Error::Malformed(problem) => wrong(problem),
        Error::Denied(problem) => Error::Denied(format!("kubeconfig {shown}: {problem}")),
        other => other,
    })
}

fn of_context(cluster: &Cluster, info: &AuthInfo, namespace: String) -> Result<Access, Error> {
    let wrong = |problem: &str| Error::Malformed(problem.to_owned());
    let server = cluster.server.clone().filter(|server| !server.is_empty());
    let server = server.ok_or_else(|| wrong("the cluster has no `server`"))?;
    if cluster.proxy_url.as_ref().is_some_and(|proxy| !proxy.is_empty()) {
        return Err(wrong("the cluster has a `proxy-url`, and proxies are not supported; reach the server directly"));
    }
    let authority = data("certificate-authority", &cluster.certificate_authority_data, &cluster.certificate_authority)?;
    Ok(Access {
        server,
        authority,
        server_name: cluster.tls_server_name.clone().filter(|name| !name.is_empty()),
        is_unverified: cluster.insecure_skip_tls_verify.unwrap_or(false),
        namespace,
        identity: identity(info, cluster)?,
        impersonation: impersonation(info)?,
    })
}

/// Who we are, in the order in which kubectl looks.
fn identity(info: &AuthInfo, cluster: &Cluster) -> Result<Identity, Error> {
    // The types of `kube` hide what is secret; what is written down shows it.
    let written = serde_json::to_value(info).unwrap_or_default();
    let text = |key: &str| written.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    if info.auth_provider.is_some() {
        let problem = "the user has an `auth-provider`, which Kubernetes 1.26 took away; use `exec` or a token";
        return Err(Error::Malformed(problem.to_owned()));
    }
    if let Some(token) = text("token").filter(|token| !token.is_empty()) {
        return Ok(Identity::Token(token));
    }
    if let Some(path) = info.token_file.as_deref().filter(|path| !path.is_empty()) {
        let path = Path::new(path);
        return Ok(Identity::Token(token_of(&file(path).map_err(Error::Denied)?, path)?));
    }
    if let (Some(user), Some(password)) = (&info.username, text("password")) {
        return Ok(Identity::Basic(user.clone(), password));
    }
    let certificate = data("client-certificate", &info.client_certificate_data, &info.client_certificate)?;
    let key = data("client-key", &text("client-key-data"), &info.client_key)?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => return Ok(Identity::Certificate(certificate, key)),
        (Some(_), None) => return Err(Error::Malformed("the user has a certificate, but no key for it".to_owned())),
        (None, Some(_)) => return Err(Error::Malformed("the user has a key, but no certificate for it".to_owned())),
        (None, None) => {}
    }
    let Some(exec) = &info.exec else { return Ok(Identity::Anonymous) };
    program(exec, cluster).map(|program| Identity::Program(Box::new(program)))
}

fn program(exec: &ExecConfig, cluster: &Cluster) -> Result<Program, Error> {
    let wrong = |problem: String| Error::Malformed(format!("`exec` of the user: {problem}"));
    let command = exec.command.clone().filter(|command| !command.is_empty());
    let version = exec.api_version.clone().filter(|version| !version.is_empty());
    let variable = |pair: &std::collections::HashMap<String, String>| {
        Some((pair.get("name")?.clone(), pair.get("value").cloned().unwrap_or_default()))
    };
    let cluster = if exec.provide_cluster_info {
        let told = ExecAuthCluster::try_from(cluster).map_err(|error| wrong(error.to_string()))?;
        Some(serde_json::to_string(&told).map_err(|error| wrong(error.to_string()))?)
    } else {
        None
    };
    Ok(Program {
        command: command.ok_or_else(|| wrong("no `command`".to_owned()))?,
        arguments: exec.args.clone().unwrap_or_default(),
        variables: exec.env.iter().flatten().filter_map(variable).collect(),
        version: version.ok_or_else(|| wrong("no `apiVersion`".to_owned()))?,
        cluster,
        hint: exec.install_hint.clone(),
    })
}

fn impersonation(info: &AuthInfo) -> Result<Vec<(String, String)>, Error> {
    if info.impersonate_user_extra.as_ref().is_some_and(|extra| !extra.is_empty()) {
        return Err(Error::Malformed("the user has `as-user-extra`, which is not supported; take it out".to_owned()));
    }
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &String| headers.push((name.to_owned(), value.clone()));
    info.impersonate.iter().for_each(|user| add("impersonate-user", user));
    info.impersonate_uid.iter().for_each(|uid| add("impersonate-uid", uid));
    info.impersonate_groups.iter().flatten().for_each(|group| add("impersonate-group", group));
    Ok(headers)
}

/// Returns what stands in base64, else in a file; `read_from` made the path absolute.
fn data(what: &str, written: &Option<String>, path: &Option<String>) -> Result<Option<Vec<u8>>, Error> {
    if let Some(written) = written.as_ref().filter(|written| !written.is_empty()) {
        let decoded = serde_json::from_value::<ByteString>(serde_json::Value::String(written.clone()));
        let ByteString(bytes) = decoded.map_err(|error| Error::Malformed(format!("`{what}-data`: {error}")))?;
        return Ok(Some(bytes));
    }
    let Some(path) = path.as_ref().filter(|path| !path.is_empty()) else { return Ok(None) };
    file(Path::new(path)).map(Some).map_err(|problem| Error::Malformed(format!("`{what}`: {problem}")))
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// A line end after a token is not part of it: `echo` writes one.
fn token_of(bytes: &[u8], path: &Path) -> Result<String, Error> {
    let token = std::str::from_utf8(bytes).map(str::trim).unwrap_or_default();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Denied(format!("{} holds no token", path.display())));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests;
