//! Opens what an authority checks evidence by.

use std::sync::Arc;

use meshless_certs::Anchors;
use meshless_certs::attest::Attestor;
use meshless_certs::attest::aws_iam::{Accounts, Roles, Tasks};
use meshless_certs::attest::ec2::Instances;
use meshless_certs::attest::kubernetes::{Cluster, ServiceAccounts};
use meshless_certs::attest::x509::Roots;
use meshless_platforms::Surroundings;

use super::StartError;
use crate::config::{AttestedCluster, AttestedRoles, Attestors};

/// Opens an attestor for each method that a configuration has a table for. Files of certificates are read; nobody is asked yet.
pub fn attestors(config: &Attestors, surroundings: &dyn Surroundings) -> Result<Vec<Arc<dyn Attestor>>, StartError> {
    let mut opened: Vec<Arc<dyn Attestor>> = Vec::new();
    if !config.kubernetes.is_empty() {
        let clusters = config.kubernetes.iter().map(|(name, cluster)| self::cluster(name, cluster)).collect();
        opened.push(Arc::new(ServiceAccounts::new(clusters)));
    }
    if let Some(roles) = &config.aws {
        let tasks = roles.ecs.then(|| tasks(roles, surroundings)).transpose()?;
        let AttestedRoles { accounts, regions, endpoint, behind_nat, .. } = roles.clone();
        opened.push(Arc::new(Roles::new(Accounts { accounts, regions, endpoint, tasks, behind_nat })));
    }
    if let Some(instances) = &config.ec2 {
        let opening = Instances::open(instances.accounts.clone(), &instances.certificates, instances.behind_nat);
        let unusable = |error| StartError::Unusable(format!("ca.ec2.certificates: {error}"));
        opened.push(Arc::new(opening.map_err(unusable)?));
    }
    if !config.x509.is_empty() {
        let opening = Roots::open(config.x509.clone());
        opened.push(Arc::new(opening.map_err(|error| StartError::Unusable(format!("ca.x509: {error}")))?));
    }
    Ok(opened)
}

fn cluster(name: &str, cluster: &AttestedCluster) -> Cluster {
    let anchors = |ca: &Option<std::path::PathBuf>| ca.clone().map_or(Anchors::System, Anchors::File);
    match cluster {
        AttestedCluster::File { issuer, jwks_file } => Cluster::by_file(name, issuer, jwks_file.clone()),
        AttestedCluster::Issuer { issuer, ca } => Cluster::by_issuer(name, issuer, anchors(ca)),
        AttestedCluster::Review { issuer, address, ca, token_file } => {
            Cluster::by_review(name, issuer.clone(), address, anchors(ca), token_file.clone())
        }
    }
}

#[cfg(feature = "ecs")]
#[allow(clippy::unnecessary_wraps, reason = "a build without ECS has an error here")]
fn tasks(roles: &AttestedRoles, surroundings: &dyn Surroundings) -> Result<Arc<dyn Tasks>, StartError> {
    let config = super::provers::aws(surroundings, roles.ecs_endpoint.clone());
    Ok(meshless_discovery::attested_tasks(&config))
}

#[cfg(not(feature = "ecs"))]
fn tasks(_: &AttestedRoles, _: &dyn Surroundings) -> Result<Arc<dyn Tasks>, StartError> {
    Err(StartError::Unusable("ca.aws.ecs: this build cannot ask ECS; it was built without that feature".to_owned()))
}
