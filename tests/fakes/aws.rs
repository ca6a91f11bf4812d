//! ECS, EC2, SSM, Cloud Map and STS of AWS: strict about what they take, with every limit and failure that clients met.
//!
//! Tasks, definitions and instances are what AWS would answer, as JSON; [`Task`] writes the usual ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::http::{Body, Server, full};

mod cloudmap;
mod ecs;
mod task;

pub use cloudmap::Service;
pub use task::{Task, definition, definition_with};

/// The region that requests must be signed for.
pub const REGION: &str = "eu-west-1";

/// The key that is taken unless [`World::keys`] says otherwise.
pub const KEY: &str = "AKIDFAKE";

/// The one cluster that exists unless [`World::clusters`] says otherwise.
pub const CLUSTER: &str = "prod";

/// What the account has, and how it fails.
#[derive(Debug)]
pub struct World {
    /// Ids of the keys that are taken.
    pub keys: BTreeSet<String>,
    /// Names of clusters; tasks are in all of them.
    pub clusters: BTreeSet<String>,
    /// Services that exist without a task.
    pub services: BTreeSet<String>,
    /// Tasks as `DescribeTasks` answers them.
    pub tasks: Vec<Value>,
    /// Task definitions by ARN, as `DescribeTaskDefinition` answers them.
    pub definitions: BTreeMap<String, Value>,
    /// Ids of instances by the ARN of the container instance.
    pub instances: BTreeMap<String, String>,
    /// Private addresses of instances by id, those of ECS Anywhere (`mi-…`) too.
    pub addresses: BTreeMap<String, String>,
    /// Cloud Map's services, by namespace and name.
    pub discovered: BTreeMap<(String, String), Service>,
    /// Most tasks of a page.
    pub page: usize,
    /// Actions that IAM does not allow.
    pub denied: BTreeSet<String>,
    /// Actions that never answer.
    pub hanging: BTreeSet<String>,
    /// The answer to this action is an error of the server, from this call of it on (counted from 1, since this was set).
    pub failing: Option<(String, u64)>,
    /// Calls that are answered before all are throttled.
    pub budget: Option<u64>,
    /// What a throttled answer says to wait, in seconds.
    pub retry_after: Option<u64>,
    /// How far the clock of AWS is ahead, in seconds.
    pub clock_ahead: u64,
    /// Roles that were assumed, with the external id.
    pub assumed: Vec<(String, Option<String>)>,
    /// How often each action was called, whatever came of it.
    pub calls: BTreeMap<String, u64>,
    since_failing: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            keys: BTreeSet::from([KEY.to_owned()]),
            clusters: BTreeSet::from([CLUSTER.to_owned()]),
            services: BTreeSet::new(),
            tasks: Vec::new(),
            definitions: BTreeMap::new(),
            instances: BTreeMap::new(),
            addresses: BTreeMap::new(),
            discovered: BTreeMap::new(),
            page: 100,
            denied: BTreeSet::new(),
            hanging: BTreeSet::new(),
            failing: None,
            budget: None,
            retry_after: None,
            clock_ahead: 0,
            assumed: Vec::new(),
            calls: BTreeMap::new(),
            since_failing: 0,
        }
    }
}

impl World {
    /// Fails an action from its `nth` call from now on, counted from 1.
    pub fn fail(&mut self, action: &str, nth: u64) {
        self.failing = Some((action.to_owned(), nth));
        self.since_failing = 0;
    }

    /// Returns all calls so far.
    pub fn total(&self) -> u64 {
        self.calls.values().sum()
    }
}

/// The services, on one port.
#[derive(Debug)]
pub struct Aws {
    /// How it is broken as a server.
    pub server: Server,
    world: Arc<Mutex<World>>,
}

impl Aws {
    /// Starts them with nothing in them.
    pub fn start() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let of_handler = Arc::clone(&world);
        let server = Server::start(Arc::new(move |request| {
            let world = Arc::clone(&of_handler);
            Box::pin(async move {
                match answer(&world, &request) {
                    Some(response) => response,
                    None => std::future::pending().await,
                }
            })
        }));
        Self { server, world }
    }

    /// Changes several things at once.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world());
    }

    /// Returns what the account has, to look at and to change.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a request: an answer in one of the two languages.
enum Answer {
    Json(Value),
    Xml(String),
    Error { status: u16, code: &'static str, message: String },
}

fn refuse(code: &'static str, message: impl Into<String>) -> Answer {
    Answer::Error { status: 400, code, message: message.into() }
}

/// `None`: never.
fn answer(world: &Mutex<World>, request: &Request<Bytes>) -> Option<Response<Body>> {
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    let target = header(request, "x-amz-target");
    let form: BTreeMap<String, String> = if target.is_empty() { form(request.body()) } else { BTreeMap::new() };
    let (service, action) = match target.split_once('.') {
        Some((service, action)) => (service, action.to_owned()),
        None => ("", form.get("Action").cloned().unwrap_or_default()),
    };
    *world.calls.entry(action.clone()).or_default() += 1;
    let is_xml = target.is_empty();
    if world.hanging.contains(&action) {
        return None;
    }
    let answer = match signature(&world, request, service, &action) {
        Some(refused) => refused,
        None => match trouble(&mut world, &action) {
            Some(trouble) => trouble,
            None => act(&mut world, service, &action, request, &form),
        },
    };
    let mut reply = Response::builder();
    if world.clock_ahead > 0 {
        let date = std::time::SystemTime::now() + Duration::from_secs(world.clock_ahead);
        reply = reply.header("date", httpdate::fmt_http_date(date));
    }
    let reply = match answer {
        Answer::Json(value) => reply.header("content-type", "application/x-amz-json-1.1").body(full(value.to_string())),
        Answer::Xml(text) => reply.header("content-type", "text/xml").body(full(text)),
        Answer::Error { status, code, message } => {
            let mut reply = reply.status(status);
            if code == "ThrottlingException"
                && let Some(seconds) = world.retry_after
            {
                reply = reply.header("retry-after", seconds);
            }
            if is_xml {
                let text = format!(
                    "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
                );
                reply.header("content-type", "text/xml").body(full(text))
            } else {
                reply.body(full(json!({ "__type": code, "message": message }).to_string()))
            }
        }
    };
    Some(reply.unwrap())
}

fn act(
    world: &mut World,
    service: &str,
    action: &str,
    request: &Request<Bytes>,
    form: &BTreeMap<String, String>,
) -> Answer {
    let Ok(input) = serde_json::from_slice::<Value>(if service.is_empty() { b"{}" } else { request.body() }) else {
        return refuse("SerializationException", "not JSON");
    };
    match (service, action) {
        ("AmazonEC2ContainerServiceV20141113", _) => ecs::act(world, action, &input),
        ("AmazonSSM", "DescribeInstanceInformation") => ecs::managed(world, &input),
        ("Route53AutoNaming_v20170314", _) => cloudmap::act(world, action, &input),
        ("", "DescribeInstances") => ecs::ec2(world, form),
        ("", "GetCallerIdentity") => Answer::Xml(
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/fake</Arn>\
             </GetCallerIdentityResult></GetCallerIdentityResponse>"
                .to_owned(),
        ),
        ("", "AssumeRole") => {
            world.assumed.push((form["RoleArn"].clone(), form.get("ExternalId").cloned()));
            world.keys.insert("ASIAASSUMED".to_owned());
            Answer::Xml(
                "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAASSUMED</AccessKeyId>\
                 <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>\
                 <Arn>arn:aws:sts::210987654321:assumed-role/reader/meshless</Arn><AssumedRoleId>A:meshless</AssumedRoleId>\
                 </AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
                    .to_owned(),
            )
        }
        _ => refuse("UnknownOperationException", format!("{service} {action}")),
    }
}

fn trouble(world: &mut World, action: &str) -> Option<Answer> {
    if let Some(budget) = &mut world.budget {
        if *budget == 0 {
            return Some(refuse("ThrottlingException", "Rate exceeded"));
        }
        *budget -= 1;
    }
    if world.denied.contains(action) {
        return Some(refuse("AccessDeniedException", format!("User: fake is not authorized to perform: {action}")));
    }
    if let Some((failing, nth)) = world.failing.clone().filter(|(failing, _)| failing == action) {
        world.since_failing += 1;
        if world.since_failing >= nth {
            return Some(Answer::Error { status: 500, code: "ServerException", message: format!("{failing} failed") });
        }
    }
    None
}

/// Says what is wrong with how a request is signed; the signature itself is not recomputed.
fn signature(world: &World, request: &Request<Bytes>, service: &str, action: &str) -> Option<Answer> {
    let refuse = |code, message: String| Some(Answer::Error { status: 403, code, message });
    let authorization = header(request, "authorization");
    let Some(rest) = authorization.strip_prefix("AWS4-HMAC-SHA256 ") else {
        return refuse("MissingAuthenticationTokenException", "no AWS4-HMAC-SHA256 signature".to_owned());
    };
    let parts: BTreeMap<&str, &str> = rest.split(", ").filter_map(|part| part.split_once('=')).collect();
    let (credential, signed) = (parts.get("Credential").copied()?, parts.get("SignedHeaders").copied()?);
    let signed: BTreeSet<&str> = signed.split(';').collect();
    let scope: Vec<&str> = credential.split('/').collect();
    let signing_name = match (service, action) {
        ("AmazonEC2ContainerServiceV20141113", _) => "ecs",
        ("AmazonSSM", _) => "ssm",
        ("Route53AutoNaming_v20170314", _) => "servicediscovery",
        (_, "DescribeInstances") => "ec2",
        _ => "sts",
    };
    let date = header(request, "x-amz-date");
    if scope.len() != 5
        || scope[1] != date.get(..8).unwrap_or("?")
        || scope[2..] != [REGION, signing_name, "aws4_request"]
    {
        return refuse("InvalidSignatureException", format!("credential scope `{credential}` for {signing_name}"));
    }
    let mut needed = vec!["host", "x-amz-date"];
    needed.extend(["x-amz-target", "x-amz-security-token"].iter().filter(|name| !header(request, name).is_empty()));
    if let Some(missing) = needed.iter().find(|name| !signed.contains(**name)) {
        return refuse("InvalidSignatureException", format!("header `{missing}` is not signed"));
    }
    let signature = parts.get("Signature").copied().unwrap_or_default();
    if signature.len() != 64 || !signature.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return refuse("InvalidSignatureException", format!("signature `{signature}`"));
    }
    if !world.keys.contains(scope[0]) {
        return refuse(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.".to_owned(),
        );
    }
    None
}

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&String::from_utf8(hex).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}
