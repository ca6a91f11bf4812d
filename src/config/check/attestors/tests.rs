//! What `[ca]` says of whose evidence is taken.

use std::collections::BTreeSet;

use super::*;
use crate::config::document::Tree;
use crate::config::problem::Report;

/// Checks the table `[ca]`, in TOML; returns what it means, and each problem as `KEY: MESSAGE`.
fn check(text: &str) -> (Attestors, Vec<String>) {
    let raw: raw::Ca = toml_edit::de::from_str(text).unwrap();
    let tree = Tree::default();
    let mut check = Check { report: Report::new(&tree), wrong: BTreeSet::new(), tree: &tree };
    let found = check.attestors(&raw);
    let problems = check.report.into_problems();
    (found, problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect())
}

fn problem(text: &str) -> String {
    let (_, problems) = check(text);
    assert_eq!(problems.len(), 1, "{text}: {problems:?}");
    problems[0].clone()
}

#[test]
fn everything_that_can_be_said() {
    let (found, problems) = check(
        r#"
        [kubernetes.prod]
        address = "https://10.0.0.1:6443"
        issuer = "https://kubernetes.default.svc.cluster.local"
        ca = "/etc/ca.crt"
        token_file = "/etc/token"
        [kubernetes.eks]
        issuer = "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC"
        [kubernetes.lab]
        issuer = "https://lab.example"
        jwks_file = "/etc/lab.json"
        [aws]
        accounts = ["123456789012"]
        regions = ["eu-west-1", "us-gov-west-1"]
        ecs = true
        behind_nat = true
        endpoint = "http://127.0.0.1:4566"
        ecs_endpoint = "https://vpce-1.ecs.eu-west-1.vpce.amazonaws.com"
        [ec2]
        accounts = ["123456789012"]
        certificates = "/etc/aws.pem"
        [x509.corp]
        bundle = "/etc/corp.pem"
        [[allow]]
        attestor = "kubernetes"
        cluster = "prod"
        [[allow]]
        attestor = "x509"
        roots = "corp"
        "#,
    );
    assert_eq!(problems, [""; 0]);
    assert!(
        matches!(&found.kubernetes["prod"], AttestedCluster::Review { address, .. } if address == "https://10.0.0.1:6443")
    );
    assert!(matches!(&found.kubernetes["eks"], AttestedCluster::Issuer { ca: None, .. }));
    assert!(matches!(&found.kubernetes["lab"], AttestedCluster::File { .. }));
    assert_eq!(found.aws.map(|aws| (aws.regions.len(), aws.ecs, aws.behind_nat)), Some((2, true, true)));
    assert!(found.ec2.is_some_and(|ec2| !ec2.behind_nat));
}

#[test]
fn a_cluster_without_keys_is_the_one_that_the_authority_runs_in() {
    let (found, problems) = check("[kubernetes.here]");
    assert_eq!(problems, [""; 0]);
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(
        found.kubernetes["here"],
        AttestedCluster::Review {
            issuer: None,
            address: "https://kubernetes.default.svc".to_owned(),
            ca: Some(format!("{account}/ca.crt").into()),
            token_file: format!("{account}/token").into(),
        }
    );
}

#[test]
fn what_is_missing_or_cannot_be_meant_is_named() {
    for (text, expected) in [
        ("[aws]\nregions = [\"eu-west-1\"]", "ca.aws.accounts: missing"),
        ("[aws]\naccounts = []\nregions = [\"eu-west-1\"]", "ca.aws.accounts: missing"),
        ("[aws]\naccounts = [\"123456789012\"]", "ca.aws.regions: missing"),
        ("[aws]\naccounts = [\"1234\"]\nregions = [\"eu-west-1\"]", "ca.aws.accounts[0]: expected the number"),
        (
            "[aws]\naccounts = [\"123456789012\"]\nregions = [\"eu-west-1.evil.example\"]",
            "ca.aws.regions[0]: expected a region",
        ),
        (
            "[aws]\naccounts = [\"123456789012\"]\nregions = [\"eu-west-1\"]\nbehind_nat = true",
            "ca.aws.behind_nat: is for tasks",
        ),
        (
            "[aws]\naccounts = [\"123456789012\"]\nregions = [\"eu-west-1\"]\nendpoint = \"http://sts.example\"",
            "ca.aws.endpoint: expected an `https://` URL",
        ),
        ("[ec2]\naccounts = [\"123456789012\"]", "ca.ec2.certificates: missing"),
        ("[ec2]\ncertificates = \"/a\"", "ca.ec2.accounts: missing"),
        ("[x509.corp]", "ca.x509.corp.bundle: missing"),
        ("[x509.Corp]\nbundle = \"/a\"", "ca.x509.Corp: expected a name"),
        ("[kubernetes.a]\njwks_file = \"/a\"", "ca.kubernetes.a.issuer: missing"),
        (
            "[kubernetes.a]\njwks_file = \"/a\"\nissuer = \"https://a\"\nca = \"/b\"",
            "ca.kubernetes.a.ca: has no meaning",
        ),
        ("[kubernetes.a]\naddress = \"https://a\"", "ca.kubernetes.a.token_file: missing"),
        (
            "[kubernetes.a]\naddress = \"http://10.0.0.1\"\ntoken_file = \"/a\"",
            "ca.kubernetes.a.address: expected an `https://`",
        ),
        (
            "[kubernetes.a]\naddress = \"https://a@b\"\ntoken_file = \"/a\"",
            "ca.kubernetes.a.address: expected an `https://`",
        ),
        ("[kubernetes.a]\nissuer = \"a\"", "ca.kubernetes.a.issuer: expected an `https://`"),
        ("[kubernetes.a]\nissuer = \"https://a\"\ntoken_file = \"/a\"", "ca.kubernetes.a.token_file: has no meaning"),
        ("[kubernetes.a]\n[kubernetes.b]\nissuer = \"https://b\"", "ca.kubernetes.a.issuer: missing: with several"),
        (
            "[[allow]]\nattestor = \"aws-iam\"",
            "ca.allow[0].attestor: nobody's evidence of this kind is taken: add `[ca.aws]`",
        ),
        (
            "[[allow]]\nattestor = \"kubernetes\"\ncluster = \"prodd\"\n[kubernetes.prod]",
            "ca.allow[0].cluster: `prodd` is not configured; did you mean `prod`?",
        ),
    ] {
        let found = problem(text);
        assert!(found.starts_with(expected), "{text}\nfound {found}\nexpected {expected}");
    }
}

#[test]
fn clear_text_is_for_loopback_alone() {
    for (rest, loopback) in [
        ("127.0.0.1:80", true),
        ("[::1]:80/path", true),
        ("127.0.0.1", true),
        ("10.0.0.1:80", false),
        ("localhost", false),
        ("127.0.0.1.example", false),
    ] {
        assert_eq!(is_loopback(rest), loopback, "{rest}");
    }
}
