//! `[ca.kubernetes.NAME]`, `[ca.aws]`, `[ca.ec2]`, `[ca.x509.NAME]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// A cluster whose service accounts are believed. Without any key: the cluster that the authority runs in is asked about each
/// token (`TokenReview`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaKubernetes {
    /// Who issues the tokens, as their `iss` has it. Without `address` and `jwks_file` its keys are taken from where it publishes
    /// them. Required where there are several clusters.
    pub issuer: Option<String>,
    /// URL of the API server that is asked about each token. Default without `issuer`: `https://kubernetes.default.svc`.
    pub address: Option<String>,
    /// Roots of the API server or of the issuer, a PEM file. Default: the system's; within the cluster those of the pod.
    pub ca: Option<PathBuf>,
    /// File with the token that the API server knows us by. Default within the cluster: that of the pod.
    pub token_file: Option<PathBuf>,
    /// File with the issuer's keys (JWKS), in place of asking anybody. Read for each token.
    pub jwks_file: Option<PathBuf>,
}

/// Accounts of AWS whose roles are believed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaAws {
    /// Numbers of accounts. Required.
    pub accounts: Option<Vec<String>>,
    /// Regions whose STS may be asked, and whose tasks may be looked up. Required.
    pub regions: Option<Vec<String>>,
    /// Looks up which task of ECS a workload is; the facts `cluster`, `service`, `family` and `task` come from there. The
    /// authority needs `ecs:DescribeTasks` and `ecs:DescribeTaskDefinition` for that. Default false.
    pub ecs: Option<bool>,
    /// Tasks may come from another address than their own, such as that of a NAT. Whoever may assume the role of a task can then
    /// say to be that task. Default false.
    pub behind_nat: Option<bool>,
    /// URL that STS is asked at, such as that of a VPC endpoint. Default: that of the region.
    pub endpoint: Option<String>,
    /// URL that ECS is asked at. Default: that of the region.
    pub ecs_endpoint: Option<String>,
}

/// Accounts of AWS whose instances are believed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaEc2 {
    /// Numbers of accounts. Required.
    pub accounts: Option<Vec<String>>,
    /// Certificates that AWS signs identity documents with: a PEM file with the one that AWS publishes as "RSA-2048" for each
    /// region. Required.
    pub certificates: Option<PathBuf>,
    /// Instances may come from another address than their own, such as that of a NAT. Each is then taken for one key alone until
    /// the authority is restarted. Default false.
    pub behind_nat: Option<bool>,
}

/// Certificates of others that are believed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaX509 {
    /// Their roots, a PEM file. Required.
    pub bundle: Option<PathBuf>,
}
