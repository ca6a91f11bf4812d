//! A look at an agent for a person: reachable, led, the token, each permission, the clock, the limits.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::client::{Ask, Client, Reply};
use super::instances;
use super::slots::AT_ONCE;
use super::target::{Manner, Question};
use crate::{Error, Finding, TargetError};

/// Limit of the whole look.
const PATIENCE: Duration = Duration::from_secs(9);

/// How far clocks may be apart; the agent writes whole seconds.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// Most targets that are each asked for.
const MAX_TARGETS: usize = 200;

/// What an agent takes where it does not say.
const CONNECTIONS: u64 = 200;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Itself {
    config: Option<ItsConfig>,
    debug_config: Option<ItsDebugConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ItsConfig {
    version: Option<String>,
    datacenter: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ItsDebugConfig {
    #[serde(rename = "HTTPMaxConnsPerClient")]
    connections: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnToken {
    #[serde(rename = "AccessorID")]
    accessor: Option<String>,
}

/// Looks at everything; what takes too long is said to.
pub(super) async fn examine(
    client: &Client,
    questions: Vec<(String, Result<Question, TargetError>)>,
    blocking: usize,
) -> Vec<Finding> {
    let deadline = Instant::now() + PATIENCE;
    let mut findings = Vec::new();
    let Ok(leader) = timeout_at(deadline, client.get(Ask::new("status/leader", "nothing"))).await else {
        return vec![Finding::bad("reachable", format!("no answer within {} s", PATIENCE.as_secs()), REACH)];
    };
    match leader {
        Ok(reply) => {
            findings.push(Finding::good("reachable", reply.at().to_owned()));
            findings.push(led(&reply));
            findings.extend(clock(&reply, SystemTime::now()));
        }
        Err(error) => return vec![Finding::bad("reachable", error.to_string(), REACH)],
    }
    findings.push(within(deadline, "token", token(client)).await);
    findings.push(within(deadline, "agent", itself(client, questions.len(), blocking)).await);
    for (position, (target, question)) in questions.into_iter().enumerate() {
        if position >= MAX_TARGETS {
            let seen = format!("only the first {MAX_TARGETS} targets were asked for");
            findings.push(Finding::warning("targets", seen, "the others need the same permissions"));
            break;
        }
        findings.push(within(deadline, &target, permitted(client, &target, question)).await);
    }
    findings
}

const REACH: &str =
    "does the agent run, and is `address` its HTTP (not gRPC or DNS) address, with TLS where it wants it?";

async fn within(deadline: Instant, what: &str, look: impl Future<Output = Finding>) -> Finding {
    timeout_at(deadline, look).await.unwrap_or_else(|_| {
        Finding::warning(
            what,
            "not looked at: the look took too long",
            "ask again; an agent that is slow is busy or far",
        )
    })
}

fn led(reply: &Reply) -> Finding {
    match reply.json::<String>() {
        Ok(leader) if !leader.is_empty() => Finding::good("leader", leader),
        Ok(_) => {
            Finding::bad("leader", "the cluster has none", "nothing changes without one: look at Consul's servers")
        }
        Err(error) => Finding::bad("leader", error.to_string(), "is `address` that of Consul?"),
    }
}

fn clock(reply: &Reply, now: SystemTime) -> Option<Finding> {
    let theirs = httpdate::parse_http_date(reply.date.as_deref()?).ok()?;
    let apart = now.duration_since(theirs).unwrap_or_else(|before| before.duration());
    let seen = format!("{} s apart", apart.as_secs());
    Some(if apart > MAX_SKEW {
        Finding::warning(
            "clock",
            seen,
            "set both clocks by NTP: logs do not fit each other, and certificates may not hold",
        )
    } else {
        Finding::good("clock", seen)
    })
}

async fn token(client: &Client) -> Finding {
    let has_token = client.has_token().await;
    match client.get(Ask::new("acl/token/self", "to be known")).await {
        Ok(reply) => {
            let accessor = reply.json::<OwnToken>().ok().and_then(|token| token.accessor).unwrap_or_default();
            if has_token {
                Finding::good("token", format!("accessor {accessor}"))
            } else {
                let remedy = "set `token_file` or `token`, if the targets below are denied";
                Finding::warning("token", format!("none is set, ACLs are on: we are accessor {accessor}"), remedy)
            }
        }
        Err(Error::Denied(text)) if text.contains("ACL support disabled") => Finding::good("token", "ACLs are off"),
        Err(error) => Finding::bad("token", error.to_string(), "set `token_file` or `token` to one that Consul knows"),
    }
}

async fn itself(client: &Client, targets: usize, blocking: usize) -> Finding {
    let found = client.get(Ask::new("agent/self", "agent:read")).await.and_then(|reply| reply.json::<Itself>());
    let itself = match found {
        Ok(itself) => itself,
        Err(error) => {
            let remedy =
                "grant agent:read to have the version and the connection limit looked at; nothing else needs it";
            return Finding::warning("agent", error.to_string(), remedy);
        }
    };
    let config = itself.config.as_ref();
    let version = config.and_then(|config| config.version.as_deref()).unwrap_or("?");
    let datacenter = config.and_then(|config| config.datacenter.as_deref()).unwrap_or("?");
    let most = itself.debug_config.and_then(|config| config.connections).unwrap_or(CONNECTIONS);
    let seen =
        format!("version {version}, datacenter {datacenter}, {most} connections of one client, targets: {targets}");
    limits(seen, targets, blocking, most)
}

/// Compares what is asked at one time with what the agent takes; 0 is no limit.
fn limits(seen: String, targets: usize, blocking: usize, most: u64) -> Finding {
    let needed = u64::try_from(targets.min(blocking) + AT_ONCE).unwrap_or(u64::MAX);
    if most > 0 && needed > most {
        let remedy =
            format!("raise the agent's `limits.http_max_conns_per_client` above {needed}, or lower `blocking`");
        return Finding::bad("agent", seen, remedy);
    }
    if targets > blocking {
        let remedy = format!(
            "{} targets are polled; raise `blocking` to {targets} and the agent's `limits.http_max_conns_per_client` above {}",
            targets - blocking,
            targets + AT_ONCE
        );
        return Finding::warning("agent", seen, remedy);
    }
    Finding::good("agent", seen)
}

async fn permitted(client: &Client, target: &str, question: Result<Question, TargetError>) -> Finding {
    let question = match question {
        Ok(question) => question,
        Err(error) => return Finding::bad(target, error.to_string(), "correct the target"),
    };
    let needs = format!("grant {}", question.permission());
    let reply = match client.get(question.ask(Manner::Fresh)).await {
        Ok(reply) => reply,
        Err(error @ Error::Denied(_)) => return Finding::bad(target, error.to_string(), needs),
        Err(error) => return Finding::bad(target, error.to_string(), "see what Consul says; its log has more"),
    };
    match instances::read(&reply, &question) {
        Ok(found) if found.is_empty() && reply.is_filtered => Finding::bad(target, "every instance is hidden", needs),
        Ok(found) if found.is_empty() => {
            let remedy = "is the name right? Agents before 1.11 answer so too where the token may not see it";
            Finding::warning(target, "no instance", remedy)
        }
        Ok(found) if reply.is_filtered => {
            let seen = format!("{} instances, others are hidden", found.endpoints().len());
            Finding::warning(target, seen, needs)
        }
        Ok(found) => Finding::good(target, format!("{} instances", found.endpoints().len())),
        Err(error) => Finding::bad(target, error.to_string(), "register the instances with IP addresses and ports"),
    }
}
