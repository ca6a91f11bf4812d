//! `[identity]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// The identity of this workload: `spiffe://TRUST-DOMAIN/svc/SERVICE`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Trust domain of the SPIFFE ID, such as `example.org`. Required.
    pub trust_domain: Option<String>,
    /// URL of the authority, `embedded` (with `[ca]`), or files that another agent writes. Required.
    pub authority: Option<Authority>,
    /// Roots of the authority, a PEM file. Required with a URL, where `authority_pin` is not set.
    pub authority_bundle: Option<PathBuf>,
    /// SHA-256 of the root's public key, `sha256:` and 64 hexadecimal digits. Required with a URL, where `authority_bundle` is
    /// not set.
    pub authority_pin: Option<String>,
    /// How this workload is attested. Default `auto`: by platform.
    pub attest: Option<Attest>,
    /// File with the join token, or with the service account token of Kubernetes. Default for Kubernetes:
    /// `/var/run/secrets/tokens/meshless`.
    pub token_file: Option<PathBuf>,
    /// The certificate that is shown first, a PEM file, leaf first; with `key`. Required for `x509`.
    pub cert: Option<PathBuf>,
    /// Its private key, a PEM file; with `cert`. Required for `x509`.
    pub key: Option<PathBuf>,
}

/// How a workload is attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as the methods are")]
pub enum Attest {
    Auto,
    AwsIam,
    Ec2,
    JoinToken,
    Kubernetes,
    X509,
}

/// Who issues the identity.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Authority {
    /// URL, or `embedded`.
    Url(String),
    /// Files that another agent writes.
    Files(AuthorityFiles),
}

/// Files that another agent writes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorityFiles {
    /// Chain, a PEM file, leaf first. Required.
    pub chain: Option<PathBuf>,
    /// Private key, a PEM file. Required.
    pub key: Option<PathBuf>,
    /// Roots, a PEM file. Required.
    pub bundle: Option<PathBuf>,
}
