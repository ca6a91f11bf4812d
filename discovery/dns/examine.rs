//! Asks each server by itself, over UDP and over TCP, for `meshless doctor`.

use std::sync::Arc;

use futures_util::future::join_all;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::Instant;

use super::client::Client;
use super::servers::Server;
use super::target::Question;
use crate::{Error, Finding, Target};

/// Says who answers, and how fast.
pub(super) async fn look(client: &Client, targets: &[Target]) -> Vec<Finding> {
    let servers = match client.servers().await {
        Ok(servers) => servers,
        Err(error) => {
            let remedy = "set `resolvers`, or see that /etc/resolv.conf names servers";
            return vec![Finding::bad("servers", error.to_string(), remedy)];
        }
    };
    let both = match servers.by_protocol() {
        Ok(both) => both,
        Err(error) => return vec![Finding::bad("servers", error.to_string(), "correct `resolvers`")],
    };
    if both.is_empty() {
        return vec![Finding::bad("servers", "there is none", "set `resolvers`")];
    }
    // What will be asked; else what every resolver knows.
    let question = targets.iter().find_map(|target| Question::parse(&target.path).ok());
    let (name, kind) = match question {
        Some(Question::Host { name, .. }) => (name, RecordType::A),
        Some(Question::Service { name }) => (name, RecordType::SRV),
        None => (Name::root(), RecordType::NS),
    };
    let name = servers.candidates(&name).into_iter().next().unwrap_or(name);
    let (servers, name) = (&Arc::clone(&servers), &name);
    let asked = both
        .iter()
        .flatten()
        .zip([true, false].into_iter().cycle())
        .map(|(server, over_udp)| async move { ask(client, server, over_udp, name, kind, servers.timeout).await });
    join_all(asked).await
}

async fn ask(
    client: &Client,
    server: &Server,
    over_udp: bool,
    name: &Name,
    kind: RecordType,
    wait: std::time::Duration,
) -> Finding {
    let what = format!("{} {}", server.address, if over_udp { "UDP" } else { "TCP" });
    let began = Instant::now();
    let answer = client.exchange(server, name, kind, wait).await;
    let took = began.elapsed().as_millis();
    match answer.map_err(|trouble| (trouble.error, trouble.was_silent)) {
        Ok(_) => Finding::good(what, format!("answers for {name} {kind} in {took} ms")),
        Err((error, true)) if over_udp => {
            Finding::bad(what, error.to_string(), "is that the server? Is UDP port 53 open from here, both ways?")
        }
        Err((error, true)) => Finding::warning(
            what,
            error.to_string(),
            "open TCP to the server: long answers are cut off over UDP and asked for again over TCP",
        ),
        Err((error @ Error::Denied(_), _)) => {
            Finding::bad(what, error.to_string(), "let the server answer this client, or ask another one (`resolvers`)")
        }
        Err((error, false)) => {
            Finding::warning(what, error.to_string(), "look at the server: another name may be answered well")
        }
    }
}
