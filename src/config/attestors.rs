//! Whose evidence an authority takes, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use meshless_certs::attest::aws_iam::Region;
use serde::Serialize;

/// `[ca.kubernetes.NAME]`, `[ca.aws]`, `[ca.ec2]`, `[ca.x509.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Attestors {
    /// Clusters by name.
    pub kubernetes: BTreeMap<String, AttestedCluster>,
    /// Roles of AWS.
    pub aws: Option<AttestedRoles>,
    /// Instances of AWS.
    pub ec2: Option<AttestedInstances>,
    /// Files of roots by name.
    pub x509: BTreeMap<String, PathBuf>,
}

/// A cluster whose service accounts are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttestedCluster {
    /// Tokens are verified by keys in a file.
    File {
        /// What tokens must say.
        issuer: String,
        /// The keys (JWKS).
        jwks_file: PathBuf,
    },
    /// Tokens are verified by the keys that their issuer publishes.
    Issuer {
        /// What tokens must say, and where the keys are found.
        issuer: String,
        /// Roots of where it publishes them; `None`: the system's.
        ca: Option<PathBuf>,
    },
    /// The API server is asked.
    Review {
        /// What tokens must say; `None`: the API server alone decides.
        issuer: Option<String>,
        /// URL of the API server.
        address: String,
        /// Its roots; `None`: the system's.
        ca: Option<PathBuf>,
        /// What it knows us by.
        token_file: PathBuf,
    },
}

/// Roles of AWS that are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttestedRoles {
    /// Numbers of accounts.
    pub accounts: BTreeSet<String>,
    /// Regions.
    pub regions: BTreeSet<Region>,
    /// Tasks of ECS are looked up. Default false.
    pub ecs: bool,
    /// Tasks may come from another address than their own. Default false.
    pub behind_nat: bool,
    /// URL of STS in place of the region's.
    pub endpoint: Option<String>,
    /// URL of ECS in place of the region's.
    pub ecs_endpoint: Option<String>,
}

/// Instances of AWS that are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttestedInstances {
    /// Numbers of accounts.
    pub accounts: BTreeSet<String>,
    /// Certificates that AWS signs with, a PEM file.
    pub certificates: PathBuf,
    /// Instances may come from another address than their own. Default false.
    pub behind_nat: bool,
}
