//! Opens what this workload proves itself by.

use std::path::PathBuf;

use meshless_certs::KeyFiles;
use meshless_certs::attest::ec2::Instance;
use meshless_certs::attest::kubernetes::ServiceAccount;
use meshless_certs::attest::x509::Certificate;
use meshless_certs::attest::{Prover, TokenProver};
#[cfg(feature = "ecs")]
use meshless_discovery::{AwsConfig, AwsKeys};
use meshless_platforms::Surroundings;

use super::StartError;
use crate::config::{Attest, KUBERNETES_TOKEN};

/// What ECS tells each container of a task: where its metadata is.
const TASK_METADATA: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// What Kubernetes tells each container of a pod.
const API_SERVER: &str = "KUBERNETES_SERVICE_HOST";
/// Where the metadata service of the instance is, if not where it always is; AWS's own tools read it too.
const INSTANCE_METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Opens what `[identity] attest` asks for. Nothing is read or asked yet.
pub fn prover(attest: &Attest, surroundings: &dyn Surroundings) -> Result<Box<dyn Prover>, StartError> {
    let said = |name: &str| surroundings.variable(name).filter(|value| !value.is_empty());
    Ok(match chosen(attest, surroundings)? {
        Attest::Auto => return Err(undecided()),
        Attest::AwsIam => role(surroundings, said(TASK_METADATA).as_deref())?,
        Attest::Ec2 => Box::new(Instance::new(said(INSTANCE_METADATA).as_deref())),
        Attest::JoinToken { token_file } => Box::new(TokenProver::new(token_file)),
        Attest::Kubernetes { token_file } => Box::new(ServiceAccount::new(token_file)),
        Attest::X509 { cert, key } => Box::new(Certificate::new(KeyFiles { cert, key })),
    })
}

/// Says what `auto` is here. A pod is told of its API server, a task of its metadata; nobody is asked to find out. An instance is
/// never chosen: any process on it can show its document (decision 0129).
fn chosen(attest: &Attest, surroundings: &dyn Surroundings) -> Result<Attest, StartError> {
    let is_said = |name: &str| surroundings.variable(name).is_some_and(|value| !value.is_empty());
    match attest {
        Attest::Auto if is_said(API_SERVER) => Ok(Attest::Kubernetes { token_file: PathBuf::from(KUBERNETES_TOKEN) }),
        Attest::Auto if is_said(TASK_METADATA) => Ok(Attest::AwsIam),
        Attest::Auto => Err(undecided()),
        other => Ok(other.clone()),
    }
}

fn undecided() -> StartError {
    StartError::Unusable(format!(
        "identity.attest: `auto` finds neither Kubernetes ({API_SERVER}) nor ECS ({TASK_METADATA}) here; write \
         `aws-iam`, `ec2`, `join-token`, `kubernetes` or `x509`"
    ))
}

#[cfg(feature = "ecs")]
#[allow(clippy::unnecessary_wraps, reason = "a build without AWS has an error here")]
fn role(surroundings: &dyn Surroundings, metadata: Option<&str>) -> Result<Box<dyn Prover>, StartError> {
    use meshless_certs::attest::aws_iam::{Metadata, Role};
    let signer = meshless_discovery::signer(&aws(surroundings, None));
    Ok(Box::new(Role::new(signer, metadata.map(Metadata::new))))
}

#[cfg(not(feature = "ecs"))]
fn role(_: &dyn Surroundings, _: Option<&str>) -> Result<Box<dyn Prover>, StartError> {
    Err(StartError::Unusable(
        "identity.attest: this build has no credentials of AWS; it was built without the feature `ecs`".to_owned(),
    ))
}

/// Returns what the environment says of AWS, for an account that no table describes.
#[cfg(feature = "ecs")]
pub(super) fn aws(surroundings: &dyn Surroundings, endpoint: Option<String>) -> AwsConfig {
    let said = |name: &str| surroundings.variable(name).filter(|value| !value.is_empty());
    AwsConfig {
        region: said("AWS_REGION").or_else(|| said("AWS_DEFAULT_REGION")),
        endpoint,
        keys: said("AWS_ACCESS_KEY_ID").zip(said("AWS_SECRET_ACCESS_KEY")).map(|(id, secret)| AwsKeys {
            id,
            secret,
            session: said("AWS_SESSION_TOKEN"),
        }),
        ..AwsConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use meshless_platforms::Scripted;

    use super::*;

    fn choose(variables: &[(&str, &str)]) -> Result<Attest, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        chosen(&Attest::Auto, &Scripted(variables.collect())).map_err(|error| error.to_string())
    }

    #[test]
    fn auto_is_what_the_platform_tells_of_itself() {
        let kubernetes = Attest::Kubernetes { token_file: KUBERNETES_TOKEN.into() };
        assert_eq!(choose(&[(API_SERVER, "10.0.0.1")]), Ok(kubernetes));
        assert_eq!(choose(&[(TASK_METADATA, "http://169.254.170.2/v4/a")]), Ok(Attest::AwsIam));
        for nothing in [&[][..], &[(API_SERVER, ""), (TASK_METADATA, "")], &[("AWS_REGION", "eu-west-1")]] {
            assert!(choose(nothing).unwrap_err().contains("join-token"), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_not_second_guessed() {
        let variables = [(API_SERVER.to_owned(), "10.0.0.1".to_owned())];
        let chosen = chosen(&Attest::Ec2, &Scripted(variables.into()));
        assert_eq!(chosen.map_err(|error| error.to_string()), Ok(Attest::Ec2));
    }
}
