//! `[identity]`, checked.

use std::path::PathBuf;

use meshless_certs::TrustDomain;
use meshless_certs::agent::KeyHash;
use serde::{Serialize, Serializer};

/// Where Kubernetes puts the token of a service account for us, by the chart.
pub const KUBERNETES_TOKEN: &str = "/var/run/secrets/tokens/meshless";

/// Who we are to be, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Trust domain of every ID of the mesh.
    #[serde(serialize_with = "text")]
    pub trust_domain: TrustDomain,
    /// Who issues the identity.
    pub authority: Authority,
}

/// Who issues the identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authority {
    /// The authority of this process, `[ca]`. It issues the identity of `service`.
    Embedded {
        /// The service that we ask to be: `node.service`.
        service: String,
    },
    /// Files that another agent writes.
    Files {
        /// Chain, PEM, leaf first.
        chain: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
        /// Roots, PEM.
        bundle: PathBuf,
    },
    /// An authority that is asked over the network.
    Remote {
        /// Host and port.
        address: AuthorityAddress,
        /// What it is known by; nobody is trusted at first sight.
        trust: AuthorityTrust,
        /// How we say who we are.
        attest: Attest,
        /// The service that we ask to be: `node.service`.
        service: String,
    },
}

/// Where an authority is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityAddress {
    /// Name or address, without brackets.
    pub host: String,
    /// Port; 443 where none was written.
    pub port: u16,
}

/// What an authority is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorityTrust {
    /// Roots, a PEM file.
    Bundle(PathBuf),
    /// SHA-256 of the root's public key (`SubjectPublicKeyInfo`).
    Pin(#[serde(serialize_with = "pin")] [u8; 32]),
}

/// How a workload is attested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attest {
    /// By platform.
    Auto,
    /// By a signed question to AWS who we are.
    AwsIam,
    /// By the identity document of an EC2 instance.
    Ec2,
    /// By a token that is used once.
    JoinToken {
        /// The file that it is in.
        token_file: PathBuf,
    },
    /// By the token of a service account.
    Kubernetes {
        /// The file that it is in.
        token_file: PathBuf,
    },
    /// By a certificate that we have already.
    X509 {
        /// Chain, PEM, leaf first.
        cert: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
    },
}

impl std::fmt::Display for AuthorityAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "https://{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for AuthorityAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn pin<S: Serializer>(value: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&KeyHash::from(*value))
}
