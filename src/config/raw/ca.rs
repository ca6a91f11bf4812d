//! `[ca]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::attestors::{CaAws, CaEc2, CaKubernetes, CaX509};
use crate::config::units::Period;

/// A certificate authority.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ca {
    /// Where it listens: an IP address and a port. Default: not set, it serves this process alone.
    pub listen: Option<String>,
    /// Where its keys, its database and its audit log are. Default: `ca` in `node.state_dir`.
    pub state_dir: Option<PathBuf>,
    /// Lifetime of a leaf, `5s` to `24h`. Default `24h`.
    pub leaf_ttl: Option<Period>,
    /// Lifetime of an intermediate; the next one is prepared at half of it. At most 90 days. Default 60 days.
    pub intermediate_ttl: Option<Period>,
    /// File with the passphrase that the keys at rest are sealed with, such as `${CREDENTIALS_DIRECTORY}/ca` of systemd's
    /// `LoadCredential=`; 12 bytes or more. Default: not set, they are not sealed.
    pub passphrase_file: Option<PathBuf>,
    /// Who gets which identity; what nothing matches gets none. Join tokens need no entry: each is for one
    /// identity. Default: nobody but this process itself.
    pub allow: Option<Vec<CaAllow>>,
    /// What keeps the authority from being overrun. Default: as below.
    pub limits: Option<CaLimits>,
    /// Clusters whose service accounts are believed, by their names.
    pub kubernetes: BTreeMap<String, CaKubernetes>,
    /// Accounts of AWS whose roles are believed.
    pub aws: Option<CaAws>,
    /// Accounts of AWS whose instances are believed.
    pub ec2: Option<CaEc2>,
    /// Roots of others whose certificates are believed, by their names.
    pub x509: BTreeMap<String, CaX509>,
}

/// Who gets which identity: all selectors that are given must be facts of what was attested.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaAllow {
    /// Who attests. Required.
    pub attestor: Option<Attestor>,
    /// `kubernetes`: namespace. Default: any.
    pub namespace: Option<String>,
    /// `kubernetes`: service account. Default: any.
    pub service_account: Option<String>,
    /// `kubernetes`: name of the cluster, as in `[ca.kubernetes.NAME]`; `aws-iam`: ECS cluster of the task. Default: any.
    pub cluster: Option<String>,
    /// `aws-iam`, `ec2`: account number. Default: any.
    pub account: Option<String>,
    /// `aws-iam`: ARN of the role. Default: any.
    pub role: Option<String>,
    /// `aws-iam`: ECS service of the task. Default: any.
    pub service: Option<String>,
    /// `aws-iam`: family of the task's definition. Default: any.
    pub family: Option<String>,
    /// `ec2`: region. Default: any.
    pub region: Option<String>,
    /// `ec2`: instance. Default: any.
    pub instance: Option<String>,
    /// `ec2`: image that the instance was started from. Default: any.
    pub image: Option<String>,
    /// `x509`: name of the roots, as in `[ca.x509.NAME]`. Default: any.
    pub roots: Option<String>,
    /// `x509`: common name of the certificate's subject. Default: any.
    pub common_name: Option<String>,
    /// `x509`: a DNS name of the certificate. Default: any.
    pub dns: Option<String>,
    /// `x509`: a URI of the certificate. Default: any.
    pub uri: Option<String>,
    /// Path of the identity, such as `/svc/api`; `{service_account}` and other facts may stand in it. Required.
    pub id: Option<String>,
}

/// Limits of the authority.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaLimits {
    /// Certificates that are issued in a second, over all. Default 50.
    #[schemars(range(min = 1))]
    pub per_second: Option<u32>,
    /// Certificates that one identity gets in a minute. Default 10.
    #[schemars(range(min = 1))]
    pub per_identity: Option<u32>,
    /// Challenges, issuances and renewals that one source address (for IPv6: one /64) may ask for in a second; ten times as
    /// many at once. Default 20.
    #[schemars(range(min = 1))]
    pub per_source: Option<u32>,
    /// Handshakes at the same time, a quarter of them of one source address. Default 200.
    #[schemars(range(min = 1))]
    pub handshakes: Option<u32>,
}

/// Who attests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as the methods are")]
pub enum Attestor {
    AwsIam,
    Ec2,
    Kubernetes,
    X509,
}
