//! Credentials that a program hands out (`exec` of a kubeconfig), such as those of EKS, GKE and AKS.
//!
//! It is run as kubectl runs it, save that there is nobody to answer questions: it gets no standard input, and a time
//! limit. `kube` would run it in the middle of the runtime and wait for as long as it takes.

use std::fmt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use super::access::{Identity, Program};
use crate::Error;

/// Longest that the program may take: those of the clouds ask a service over the network.
const LIMIT: Duration = Duration::from_secs(20);

/// Most characters of what it said that go into an error.
const SHOWN: usize = 300;

/// What the program handed out.
#[derive(Clone)]
pub(super) struct Credential {
    /// A token or a certificate.
    pub(super) identity: Identity,
    /// Until when it holds; `None`: until it is refused.
    pub(super) until: Option<SystemTime>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("until", &self.until).finish_non_exhaustive()
    }
}

/// Runs the program and reads what it hands out.
pub(super) async fn run(program: &Program) -> Result<Credential, Error> {
    let cluster = program.cluster.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut spec = json!({ "interactive": false });
    if let (Some(cluster), Some(fields)) = (cluster, spec.as_object_mut()) {
        fields.insert("cluster".to_owned(), cluster);
    }
    let asked = json!({ "apiVersion": program.version, "kind": "ExecCredential", "spec": spec });
    let mut command = Command::new(&program.command);
    command
        .args(&program.arguments)
        .envs(program.variables.iter().map(|(name, value)| (name, value)))
        .env("KUBERNETES_EXEC_INFO", asked.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let failed = |problem: String| Error::Denied(format!("`{}` of the kubeconfig {problem}", program.command));
    let output = match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let hint = program.hint.as_deref().map(|hint| format!("; {}", shown(hint.as_bytes()))).unwrap_or_default();
            return Err(failed(format!("cannot be run: {error}{hint}")));
        }
        Err(_) => return Err(failed(format!("handed out nothing within {} s", LIMIT.as_secs()))),
    };
    if !output.status.success() {
        return Err(failed(format!("failed with {}: {}", output.status, shown(&output.stderr))));
    }
    parse(&output.stdout).map_err(|problem| failed(format!("handed out no credentials: {problem}")))
}

#[derive(Deserialize)]
struct Answer {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<Time>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Reads an `ExecCredential`.
fn parse(bytes: &[u8]) -> Result<Credential, String> {
    let answer: Answer = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let status = answer.status.ok_or("it has no `status`")?;
    let identity = match (status.client_certificate_data, status.client_key_data, status.token) {
        (Some(certificate), Some(key), _) => Identity::Certificate(certificate.into_bytes(), key.into_bytes()),
        (_, _, Some(token)) if !token.trim().is_empty() => Identity::Token(token.trim().to_owned()),
        _ => return Err("it has neither a token nor a certificate with its key".to_owned()),
    };
    let until = status.expiration_timestamp.map(|Time(time)| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default())
    });
    Ok(Credential { identity, until })
}

/// The end of what a program said, where the reason usually stands, in one line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let skipped = line.chars().count().saturating_sub(SHOWN);
    line.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(script: &str) -> Program {
        Program {
            command: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            variables: vec![("WHO".to_owned(), "me".to_owned())],
            version: "client.authentication.k8s.io/v1".to_owned(),
            cluster: Some(r#"{"server":"https://a"}"#.to_owned()),
            hint: None,
        }
    }

    #[tokio::test]
    async fn a_program_is_told_of_the_cluster_and_hands_out_a_token() {
        let script = r#"test -z "$(cat)" && echo "$KUBERNETES_EXEC_INFO" | grep -q '"server":"https://a"' &&
            printf '{"status":{"token":"%s\\n","expirationTimestamp":"2030-01-01T00:00:00Z"}}' "$WHO""#;
        let credential = run(&program(script)).await.unwrap();
        assert!(matches!(&credential.identity, Identity::Token(token) if token == "me"));
        assert_eq!(credential.until, Some(SystemTime::UNIX_EPOCH + Duration::from_hours(525_960)));
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted() {
        let error = run(&program("echo 'log in first' >&2; exit 3")).await.unwrap_err().to_string();
        assert_eq!(error, "denied: `sh` of the kubeconfig failed with exit status: 3: log in first");
        let missing =
            Program { command: "/no/such/program".to_owned(), hint: Some("install it".to_owned()), ..program("") };
        let error = run(&missing).await.unwrap_err().to_string();
        assert!(error.contains("cannot be run: No such file") && error.ends_with("; install it"), "{error}");
    }

    #[test]
    fn what_is_handed_out_is_a_token_or_a_whole_certificate() {
        let identity = |status: &str| parse(format!(r#"{{"status":{status}}}"#).as_bytes()).map(|found| found.identity);
        assert!(matches!(identity(r#"{"token":"a"}"#), Ok(Identity::Token(_))));
        assert!(matches!(
            identity(r#"{"clientCertificateData":"c","clientKeyData":"k"}"#),
            Ok(Identity::Certificate(..))
        ));
        assert!(identity(r#"{"clientCertificateData":"c"}"#).is_err());
        assert!(identity(r#"{"token":" "}"#).is_err());
        assert!(parse(b"{}").is_err());
        assert!(parse(b"no").is_err());
    }
}
