//! Signed calls before a strict STS, and every way to bend them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use meshless_fakes::http::Mode;
use meshless_fakes::metadata::OfTask;
use meshless_fakes::sts::{self, Canned, Principal, Sts};
use serde_json::{Value, json};

use super::*;

pub(super) const ACCOUNT: &str = "123456789012";
const KEY: &str = "ASIAFAKEFAKEFAKE1";
const TASK: &str = "arn:aws:ecs:eu-west-1:123456789012:task/prod/0af1";

/// Signs as aws-sigv4 would; that one itself signs in the tests of the whole gateway.
#[derive(Debug)]
struct Keys {
    region: &'static str,
    secret: &'static str,
    now: SystemTime,
}

#[async_trait]
impl Signer for Keys {
    async fn region(&self) -> Result<String, SourceError> {
        Ok(self.region.to_owned())
    }

    async fn sign(&self, request: &Unsigned) -> Result<Signed, SourceError> {
        let date = sts::stamp(self.now);
        let mut headers: BTreeMap<String, String> =
            request.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        headers.insert("host".to_owned(), request.host.clone());
        headers.insert("x-amz-date".to_owned(), date.clone());
        headers.insert("x-amz-security-token".to_owned(), "session-token".to_owned());
        let authorization = sts::authorize(KEY, self.secret, &request.region, &headers, request.body);
        Ok(Signed { date, security_token: Some("session-token".to_owned()), authorization })
    }
}

/// What ECS says.
#[derive(Debug, Default)]
struct Known(Mutex<Option<Task>>);

#[async_trait]
impl Tasks for Known {
    async fn describe(&self, _: &str, _: &str, _: &str) -> Result<Option<Task>, TasksError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

fn challenge() -> Challenge {
    Challenge { authority: "example.org".to_owned(), nonce: "bm9uY2U".to_owned(), key: "c0ffee".to_owned() }
}

fn sts_with(arn: &str) -> Sts {
    let sts = Sts::start();
    let account = arn.split(':').nth(4).unwrap().to_owned();
    let token = Some("session-token".to_owned());
    sts.put(KEY, Principal { secret: "secret".to_owned(), token, account, arn: arn.to_owned() });
    sts
}

fn role_sts() -> Sts {
    sts_with("arn:aws:sts::123456789012:assumed-role/web/0af1")
}

fn roles(sts: &Sts, tasks: Option<Arc<dyn Tasks>>) -> Roles {
    Roles::new(Accounts {
        accounts: BTreeSet::from([ACCOUNT.to_owned()]),
        regions: BTreeSet::from([Region::parse("eu-west-1").unwrap()]),
        endpoint: Some(sts.server.url()),
        tasks,
        behind_nat: false,
    })
}

async fn evidence(challenge: &Challenge) -> Value {
    evidence_with(challenge, Keys { region: "eu-west-1", secret: "secret", now: SystemTime::now() }).await
}

async fn evidence_with(challenge: &Challenge, keys: Keys) -> Value {
    Role::new(Arc::new(keys), None).prove(challenge).await.unwrap()
}

async fn attest(roles: &Roles, evidence: &Value, challenge: &Challenge) -> Result<Attested, &'static str> {
    let source = Some(IpAddr::from([10, 0, 0, 7]));
    let presented = Presented { evidence, challenge, source, now: SystemTime::now() };
    roles.attest(&presented).await.map_err(|rejected| match rejected {
        Rejected::Refused { reason, .. } => reason,
        Rejected::Unavailable(_) => "unavailable",
    })
}

#[tokio::test]
async fn a_signed_call_proves_account_role_and_session() {
    let sts = role_sts();
    let attested = attest(&roles(&sts, None), &evidence(&challenge()).await, &challenge()).await.unwrap();
    assert_eq!(
        attested.facts,
        [
            ("account", ACCOUNT.to_owned()),
            ("role", "arn:aws:iam::123456789012:role/web".to_owned()),
            ("session", "0af1".to_owned()),
        ]
    );
    assert_eq!(sts.server.requests(), ["POST /"]);
}

#[tokio::test]
async fn a_signature_for_another_authority_nonce_or_key_is_none() {
    let sts = role_sts();
    let evidence = evidence(&challenge()).await;
    for other in [
        Challenge { authority: "other.example".to_owned(), ..challenge() },
        Challenge { nonce: "b3RoZXI".to_owned(), ..challenge() },
        Challenge { key: "decade".to_owned(), ..challenge() },
    ] {
        assert_eq!(attest(&roles(&sts, None), &evidence, &other).await, Err("not_authenticated"), "{other:?}");
    }
    assert!(attest(&roles(&sts, None), &evidence, &challenge()).await.is_ok());
}

#[tokio::test]
async fn bad_credentials_are_refused() {
    let sts = role_sts();
    let now = SystemTime::now();
    let wrong = evidence_with(&challenge(), Keys { region: "eu-west-1", secret: "guessed", now }).await;
    assert_eq!(attest(&roles(&sts, None), &wrong, &challenge()).await, Err("not_authenticated"));
    let mut other_session = evidence(&challenge()).await;
    other_session["security_token"] = json!("another-token");
    assert_eq!(attest(&roles(&sts, None), &other_session, &challenge()).await, Err("not_authenticated"));
    let mut signature = evidence(&challenge()).await;
    let text = signature["authorization"].as_str().unwrap();
    let last = if text.ends_with('0') { "1" } else { "0" };
    signature["authorization"] = json!(format!("{}{last}", &text[..text.len() - 1]));
    assert_eq!(attest(&roles(&sts, None), &signature, &challenge()).await, Err("not_authenticated"));
}

/// The traps of CVE-2020-16250, and those beside it: nothing of them reaches STS.
#[tokio::test]
async fn evidence_chooses_neither_host_nor_headers_nor_body() {
    let sts = role_sts();
    let good = evidence(&challenge()).await;
    for (field, value) in [
        ("url", json!("https://evil.example/")),
        ("host", json!("evil.example")),
        ("body", json!("Action=GetSessionToken&Version=2011-06-15")),
        ("headers", json!({ "x-http-method-override": "GET" })),
        ("method", json!("GET")),
    ] {
        let mut more = good.clone();
        more[field] = value;
        assert_eq!(attest(&roles(&sts, None), &more, &challenge()).await, Err("malformed"), "{field}");
    }
    for (field, value, reason) in [
        ("region", json!("us-east-1"), "region"),
        ("region", json!("eu-west-1.evil.example/"), "region"),
        ("region", json!("evil.example#eu-west-1"), "region"),
        ("region", json!(""), "region"),
        ("region", json!(["eu-west-1"]), "malformed"),
        ("date", json!("20260102T030405Z"), "expired"),
        ("date", json!("now"), "malformed"),
        ("security_token", Value::Null, "signed_headers"),
        ("security_token", json!("a\r\nhost: evil.example"), "malformed"),
        ("authorization", json!("Bearer abc"), "malformed"),
        ("authorization", Value::Null, "malformed"),
    ] {
        let mut changed = good.clone();
        changed[field] = value.clone();
        assert_eq!(attest(&roles(&sts, None), &changed, &challenge()).await, Err(reason), "{field} = {value}");
    }
    let elsewhere = Keys { region: "us-east-1", secret: "secret", now: SystemTime::now() };
    let mut moved = evidence_with(&challenge(), elsewhere).await;
    moved["region"] = json!("eu-west-1");
    assert_eq!(attest(&roles(&sts, None), &moved, &challenge()).await, Err("scope"), "signed for another region");
    assert!(sts.server.requests().is_empty(), "{:?}", sts.server.requests());
}

#[tokio::test]
async fn a_signature_lives_for_five_minutes() {
    let sts = role_sts();
    for (ahead, behind, reason) in [(0, 301, "expired"), (305, 0, "not_yet_valid")] {
        let now = SystemTime::now() + Duration::from_secs(ahead) - Duration::from_secs(behind);
        let evidence = evidence_with(&challenge(), Keys { region: "eu-west-1", secret: "secret", now }).await;
        assert_eq!(attest(&roles(&sts, None), &evidence, &challenge()).await, Err(reason));
    }
    let now = SystemTime::now() - Duration::from_secs(280);
    let evidence = evidence_with(&challenge(), Keys { region: "eu-west-1", secret: "secret", now }).await;
    assert!(attest(&roles(&sts, None), &evidence, &challenge()).await.is_ok());
}

#[tokio::test]
async fn only_sessions_of_roles_of_our_accounts_are_taken() {
    for (arn, reason) in [
        ("arn:aws:sts::210987654321:assumed-role/web/0af1", "account"),
        ("arn:aws:iam::123456789012:user/web", "not_a_role"),
        ("arn:aws:iam::123456789012:root", "not_a_role"),
        ("arn:aws:sts::123456789012:assumed-role/team/web/0af1", "not_a_role"),
    ] {
        let sts = sts_with(arn);
        let evidence = evidence(&challenge()).await;
        assert_eq!(attest(&roles(&sts, None), &evidence, &challenge()).await, Err(reason), "{arn}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_sts_proves_nothing() {
    let sts = role_sts();
    let evidence = evidence(&challenge()).await;
    let good = json!({ "GetCallerIdentityResponse": { "GetCallerIdentityResult": {
        "Account": ACCOUNT, "Arn": "arn:aws:sts::123456789012:assumed-role/web/0af1" } } })
    .to_string();
    let xml = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/web/0af1</Arn>\
               <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
    let json_type = || vec![("content-type", "application/json".to_owned())];
    let elsewhere = role_sts();
    let redirect = vec![("location", elsewhere.server.url()), ("content-type", "application/json".to_owned())];
    for (status, headers, body, expected) in [
        (200, vec![("content-type", "text/xml".to_owned())], xml.to_owned(), "answer"),
        (200, json_type(), xml.to_owned(), "answer"),
        (200, vec![("content-type", "text/plain".to_owned())], good.clone(), "answer"),
        (200, Vec::new(), good.clone(), "answer"),
        (200, [json_type(), vec![("content-type", "text/xml".to_owned())]].concat(), good.clone(), "answer"),
        (200, json_type(), format!("{good}{}", " ".repeat(70_000)), "unavailable"),
        (200, json_type(), "{\"a\":".repeat(5000), "answer"),
        (307, redirect, good.clone(), "unavailable"),
        (204, json_type(), String::new(), "unavailable"),
        (500, json_type(), good.clone(), "unavailable"),
        (429, json_type(), good.clone(), "unavailable"),
    ] {
        sts.answer_with(Some(Canned { status, headers, body }));
        assert_eq!(attest(&roles(&sts, None), &evidence, &challenge()).await, Err(expected), "{status}");
    }
    assert!(elsewhere.server.requests().is_empty(), "a redirect was followed");
    sts.answer_with(Some(Canned { status: 200, headers: json_type(), body: good }));
    assert!(attest(&roles(&sts, None), &evidence, &challenge()).await.is_ok(), "the shape itself is right");
    for mode in [Mode::Down, Mode::Garbage, Mode::Status(503)] {
        sts.server.set(mode);
        let reason = attest(&roles(&sts, None), &evidence, &challenge()).await.unwrap_err();
        assert!(["unavailable", "answer"].contains(&reason), "{mode:?}: {reason}");
    }
}

fn task() -> Task {
    Task {
        arn: TASK.to_owned(),
        last_status: "RUNNING".to_owned(),
        desired_status: "RUNNING".to_owned(),
        group: "service:web".to_owned(),
        definition: "arn:aws:ecs:eu-west-1:123456789012:task-definition/web-family:7".to_owned(),
        role: Some("arn:aws:iam::123456789012:role/team/web".to_owned()),
        addresses: vec![IpAddr::from([10, 0, 0, 7])],
    }
}

#[tokio::test]
async fn a_task_proves_which_one_it_is() {
    let (sts, metadata) = (role_sts(), OfTask::start(TASK));
    let known = Arc::new(Known(Mutex::new(Some(task()))));
    let keys = Keys { region: "eu-west-1", secret: "secret", now: SystemTime::now() };
    let prover = Role::new(Arc::new(keys), Some(Metadata::new(&metadata.url())));
    let evidence = prover.prove(&challenge()).await.unwrap();
    assert_eq!(evidence["task"], TASK);
    let attested = attest(&roles(&sts, Some(known.clone())), &evidence, &challenge()).await.unwrap();
    for (name, value) in
        [("cluster", "prod"), ("service", "web"), ("family", "web-family"), ("task", "0af1"), ("session", "0af1")]
    {
        assert_eq!(attested.fact(name), Some(value), "{name}");
    }
    let attested = attest(&roles(&sts, None), &evidence, &challenge()).await.unwrap();
    assert_eq!(attested.fact("service"), None, "nobody was asked about the task");
    *known.0.lock().unwrap() = Some(Task { desired_status: "STOPPED".to_owned(), ..task() });
    assert_eq!(attest(&roles(&sts, Some(known)), &evidence, &challenge()).await, Err("task_not_running"));
    metadata.server.set(Mode::Status(404));
    let error = prover.prove(&challenge()).await.unwrap_err().to_string();
    assert!(error.contains("metadata of the task") && error.contains("404"), "{error}");
}
