//! Evidence from the prover that `[identity]` opens to the attestors that `[ca]` opens, against strict fakes.
//!
//! Every way to bend evidence is tested beside the attestors, in `certs/attest`. moto cannot show that bad credentials are refused: it
//! answers `GetCallerIdentity` for anybody's. So STS is a fake that recomputes signatures; here AWS's own signing code makes them.

mod kubernetes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use meshless::compose::{attestors, prover};
use meshless::config::{Attest, AttestedCluster, AttestedInstances, AttestedRoles, Attestors};
use meshless_certs::attest::aws_iam::Region;
use meshless_certs::attest::{Attested, Attestor, Challenge, Method, Presented, Prover, Rejected};
use meshless_fakes::aws::{Aws, REGION, Task, definition};
use meshless_fakes::metadata::{self, CERTIFICATE, OfTask};
use meshless_fakes::sts::{Principal, Sts};
use meshless_fakes::tokens::{REVIEWER, Tokens};
use meshless_platforms::Scripted;
use serde_json::json;
use tempfile::TempDir;

use crate::authority::Authority;

const ACCOUNT: &str = "123456789012";
const KEY: &str = "ASIAFAKEFAKEFAKE1";

fn surroundings(variables: &[(&str, &str)]) -> Scripted {
    Scripted(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn challenge() -> Challenge {
    Challenge { authority: "example.org".to_owned(), nonce: "bm9uY2U".to_owned(), key: "c0ffee".to_owned() }
}

/// Proves and attests once; the error is the word that the audit log gets.
async fn attest(prover: &dyn Prover, attestor: &dyn Attestor) -> Result<Attested, String> {
    let evidence = prover.prove(&challenge()).await.map_err(|error| error.to_string())?;
    let challenge = challenge();
    let source = Some(IpAddr::from([127, 0, 0, 1]));
    let presented = Presented { evidence: &evidence, challenge: &challenge, source, now: SystemTime::now() };
    attestor.attest(&presented).await.map_err(|rejected| match rejected {
        Rejected::Refused { reason, .. } => reason.to_owned(),
        Rejected::Unavailable(why) => why,
    })
}

fn open(config: &Attestors, surroundings: &Scripted) -> Arc<dyn Attestor> {
    let mut opened = attestors(config, surroundings).unwrap();
    assert_eq!(opened.len(), 1);
    opened.remove(0)
}

fn write(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// STS, ECS with one task that has the role `web`, and the metadata that the task is told.
struct Cloud {
    sts: Sts,
    aws: Aws,
    task: OfTask,
    id: String,
}

impl Cloud {
    fn start() -> Self {
        let (sts, aws, id) = (Sts::start(), Aws::start(), format!("{:032x}", 1));
        let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/web/{id}");
        let token = Some("session-token".to_owned());
        sts.put(KEY, Principal { secret: "secret".to_owned(), token, account: ACCOUNT.to_owned(), arn });
        aws.change(|world| {
            world.keys.insert(KEY.to_owned());
            world.tasks = vec![Task::new("web", 1).at("127.0.0.1").json()];
            let role =
                json!({ "taskRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/team/web"), "containerDefinitions": [] });
            world.definitions.insert(definition("web", 1), role);
        });
        let task = OfTask::start(&format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/prod/{id}"));
        Self { sts, aws, task, id }
    }

    fn variables(&self, secret: &str) -> Scripted {
        surroundings(&[
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_SESSION_TOKEN", "session-token"),
            ("ECS_CONTAINER_METADATA_URI_V4", &self.task.url()),
        ])
    }

    fn attestor(&self) -> Arc<dyn Attestor> {
        let config = AttestedRoles {
            accounts: BTreeSet::from([ACCOUNT.to_owned()]),
            regions: BTreeSet::from([Region::parse(REGION).unwrap()]),
            ecs: true,
            behind_nat: false,
            endpoint: Some(self.sts.server.url()),
            ecs_endpoint: Some(self.aws.server.url()),
        };
        open(&Attestors { aws: Some(config), ..Attestors::default() }, &self.variables("secret"))
    }
}

#[tokio::test]
async fn a_task_of_ecs_proves_its_service_by_its_role() {
    let cloud = Cloud::start();
    let prover = prover(&Attest::Auto, &cloud.variables("secret")).unwrap();
    assert_eq!(prover.method(), Method::AwsIam);
    let attested = attest(&*prover, &*cloud.attestor()).await.unwrap();
    for (name, value) in [
        ("account", ACCOUNT),
        ("role", "arn:aws:iam::123456789012:role/web"),
        ("cluster", "prod"),
        ("service", "web"),
        ("family", "web"),
        ("task", &cloud.id),
    ] {
        assert_eq!(attested.fact(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn credentials_that_sts_does_not_know_prove_nothing() {
    let cloud = Cloud::start();
    let prover = prover(&Attest::AwsIam, &cloud.variables("guessed")).unwrap();
    assert_eq!(attest(&*prover, &*cloud.attestor()).await, Err("not_authenticated".to_owned()));
    assert!(cloud.aws.world().calls.is_empty(), "nobody is asked about the task of a stranger");
}

#[tokio::test]
async fn a_task_that_is_another_one_or_stops_is_refused() {
    let cloud = Cloud::start();
    let prover = prover(&Attest::AwsIam, &cloud.variables("secret")).unwrap();
    let attestor = cloud.attestor();
    let other = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/prod/{:032x}", 2);
    cloud.task.set(&other);
    assert_eq!(attest(&*prover, &*attestor).await, Err("task".to_owned()), "of the same role, but not its session");
    cloud.task.set(&format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/nowhere/{}", cloud.id));
    assert_eq!(attest(&*prover, &*attestor).await, Err("task".to_owned()), "a cluster that is not there");
    cloud.task.set(&format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/prod/{}", cloud.id));
    cloud.aws.world().tasks = vec![Task::new("web", 1).at("127.0.0.1").status("RUNNING", "STOPPED").json()];
    assert_eq!(attest(&*prover, &*attestor).await, Err("task_not_running".to_owned()));
    cloud.aws.world().tasks = vec![Task::new("web", 1).at("10.9.9.9").json()];
    assert_eq!(attest(&*prover, &*attestor).await, Err("address".to_owned()));
    let attachment = json!([{ "type": "ElasticNetworkInterface",
        "details": [{ "name": "privateIPv4Address", "value": "127.0.0.1" }] }]);
    let starting = Task::new("web", 1).status("PENDING", "RUNNING").with("attachments", attachment);
    cloud.aws.world().tasks = vec![starting.clone().json()];
    assert!(attest(&*prover, &*attestor).await.is_ok(), "its containers wait for us");
    let overrides = json!({ "taskRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/admin") });
    cloud.aws.world().tasks = vec![starting.with("overrides", overrides).json()];
    assert_eq!(attest(&*prover, &*attestor).await, Err("task".to_owned()), "its role is another one");
    cloud.aws.world().denied.insert("DescribeTasks".to_owned());
    let unavailable = attest(&*prover, &*attestor).await.unwrap_err();
    assert!(unavailable.contains("DescribeTasks") && unavailable.contains("IAM"), "{unavailable}");
}

#[tokio::test]
async fn a_task_on_an_instance_comes_from_the_address_of_that() {
    let cloud = Cloud::start();
    cloud.aws.change(|world| {
        world.instances.insert("ci/1".to_owned(), "i-0a".to_owned());
        world.addresses.insert("i-0a".to_owned(), "127.0.0.1".to_owned());
        world.tasks = vec![Task::new("web", 1).on("ci/1", &[(80, 32768)]).json()];
    });
    let prover = prover(&Attest::AwsIam, &cloud.variables("secret")).unwrap();
    assert!(attest(&*prover, &*cloud.attestor()).await.is_ok());
    cloud.aws.world().addresses.insert("i-0a".to_owned(), "10.9.9.9".to_owned());
    assert_eq!(attest(&*prover, &*cloud.attestor()).await, Err("address".to_owned()));
}

#[tokio::test]
async fn a_pod_proves_itself_by_its_projected_token() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let token_file = write(&directory, "token", &server.token("example.org"));
    let reviewer = write(&directory, "reviewer", REVIEWER);
    let keys = write(&directory, "keys.json", &server.jwks().to_string());
    let prover = prover(&Attest::Kubernetes { token_file }, &surroundings(&[])).unwrap();
    let ca = Some(write(&directory, "ca.pem", CERTIFICATE));
    for cluster in [
        AttestedCluster::Review { issuer: None, address: server.server.url(), ca: ca.clone(), token_file: reviewer },
        AttestedCluster::Issuer { issuer: server.issuer(), ca },
        AttestedCluster::File { issuer: server.issuer(), jwks_file: keys },
    ] {
        let kubernetes = BTreeMap::from([("prod".to_owned(), cluster)]);
        let attestor = open(&Attestors { kubernetes, ..Attestors::default() }, &surroundings(&[]));
        let attested = attest(&*prover, &*attestor).await.unwrap();
        assert_eq!((attested.fact("cluster"), attested.fact("service_account")), (Some("prod"), Some("web")));
    }
}

#[tokio::test]
async fn an_instance_proves_itself_by_its_document() {
    let (imds, directory) = (metadata::instance(), tempfile::tempdir().unwrap());
    let certificates = write(&directory, "aws.pem", CERTIFICATE);
    let accounts = BTreeSet::from([ACCOUNT.to_owned()]);
    let ec2 = Some(AttestedInstances { accounts, certificates, behind_nat: false });
    let attestor = open(&Attestors { ec2, ..Attestors::default() }, &surroundings(&[]));
    let variables = surroundings(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url())]);
    let attested = attest(&*prover(&Attest::Ec2, &variables).unwrap(), &*attestor).await.unwrap();
    assert_eq!(attested.fact("instance"), Some("i-0123456789abcdef0"));
}

#[tokio::test]
async fn a_certificate_of_another_authority_proves_itself() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new("Corp");
    let issued = ca.issue(&["client.example"]);
    let cert = write(&directory, "client.pem", &issued.cert);
    let key = write(&directory, "client.key", &issued.key);
    let x509 = BTreeMap::from([("corp".to_owned(), write(&directory, "corp.pem", &ca.pem))]);
    let attestor = open(&Attestors { x509, ..Attestors::default() }, &surroundings(&[]));
    let attested =
        attest(&*prover(&Attest::X509 { cert, key }, &surroundings(&[])).unwrap(), &*attestor).await.unwrap();
    assert_eq!((attested.fact("roots"), attested.fact("dns")), (Some("corp"), Some("client.example")));
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let missing = BTreeMap::from([("corp".to_owned(), PathBuf::from("/nowhere/corp.pem"))]);
    let error = attestors(&Attestors { x509: missing, ..Attestors::default() }, &surroundings(&[])).unwrap_err();
    assert!(error.to_string().contains("/nowhere/corp.pem"), "{error}");
    let error = prover(&Attest::Auto, &surroundings(&[])).unwrap_err();
    assert!(error.to_string().contains("identity.attest"), "{error}");
}
