//! What the authority answered, for people and for programs.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use meshless::telemetry::timestamp::Timestamp;
use meshless_certs::authority::Token;
use meshless_certs::authority::command::{LinkView, Reply, Status};
use serde_json::Value;

use super::Exit;
use crate::cli::{complain, print};

/// Prints an answer.
pub(super) fn print_reply(reply: &Reply, json: bool) -> Exit {
    if !json {
        return print(&text(reply));
    }
    match serde_json::to_value(reply) {
        Ok(Value::Object(tagged)) => {
            // The name of the answer is that of the command.
            let mut value = tagged.into_iter().next().map(|(_, value)| value).unwrap_or_default();
            without_hashes(&mut value);
            print_json(&value)
        }
        Ok(value) => print_json(&value),
        Err(error) => complain(&format!("error: {error}\nhint: this is a bug: please report it\n"), Exit::Failed),
    }
}

/// Prints one of both.
pub(super) fn print_either(text: &str, value: &Value, json: bool) -> Exit {
    if json { print_json(value) } else { print(text) }
}

fn print_json(value: &Value) -> Exit {
    print(&format!("{value:#}\n"))
}

/// What a token is compared by is nobody's business.
fn without_hashes(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("hash");
            fields.remove("needed");
            fields.values_mut().for_each(without_hashes);
        }
        Value::Array(values) => values.iter_mut().for_each(without_hashes),
        _ => {}
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::AuditVerified { lines } => format!("ok: {lines} lines, none changed, moved or missing\n"),
        Reply::Backup(_) => String::new(),
        Reply::Bundle { trust_domain, sequence, roots, pins } => {
            let pins = lines(pins.iter().map(|pin| format!("# {pin}")));
            format!("# trust domain {trust_domain}, sequence {sequence}\n{pins}{roots}")
        }
        Reply::Done { what } | Reply::Rotated { what, .. } => format!("{what}\n"),
        Reply::Entries(entries) if entries.is_empty() => "no entries\n".to_owned(),
        Reply::Entries(entries) => {
            lines(entries.iter().map(|entry| format!("{}  {}  {}", entry.id, time(entry.created), entry.rule)))
        }
        Reply::EntryAdded(entry) => format!("added {}: {}\n", entry.id, entry.rule),
        Reply::Issued { chain, .. } => chain.clone(),
        Reply::Status(told) => status(told),
        Reply::TokenCreated { token, .. } => format!("{}\n", token.expose()),
        Reply::Tokens { tokens, blocked } => {
            let mut text: String = tokens.iter().map(token_line).collect();
            for one in blocked {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "blocked {} since {}", one.path, time(one.since));
            }
            if text.is_empty() { "no tokens\n".to_owned() } else { text }
        }
    }
}

fn token_line(token: &Token) -> String {
    let state = match (token.revoked, token.used) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, Some(at)) => format!("used {}", time(at)),
        (None, None) => format!("until {}", time(token.expires)),
    };
    let from = token.cidr.map_or_else(String::new, |cidr| format!("  from {cidr}"));
    format!("{}  {}  {state}{from}\n", token.id, token.path)
}

fn status(told: &Status) -> String {
    let mut text = format!("trust domain {}, bundle sequence {}\n", told.trust_domain, told.sequence);
    // Writing to a string cannot fail.
    for (kind, links) in [("root", &told.roots), ("intermediate", &told.intermediates)] {
        for link in links {
            let _ = writeln!(text, "{}", link_line(kind, link));
        }
    }
    for step in &told.next {
        let due = if step.at <= told.now { " (due)" } else { "" };
        let _ = writeln!(text, "next: {} {}{due}", time(step.at), step.what);
    }
    let last = if told.last_issued == 0 { "never".to_owned() } else { time(told.last_issued) };
    let _ = writeln!(text, "certificates: {} valid, the last one issued {last}", told.issued);
    let _ = writeln!(
        text,
        "join tokens: {}; rules: {} of the configuration, {} of the database; blocked: {}",
        told.tokens,
        told.rules,
        told.entries,
        if told.blocked.is_empty() { "none".to_owned() } else { told.blocked.join(", ") }
    );
    let keys = if told.sealed { "sealed" } else { "not sealed" };
    let _ = writeln!(text, "audit log: {} lines; keys at rest: {keys}", told.audit_lines);
    if let Some(restored) = told.restored {
        let _ = writeln!(text, "restored from a backup {}", time(restored));
    }
    text
}

fn link_line(kind: &str, link: &LinkView) -> String {
    let phase = match link.phase.as_str() {
        "retiring" => format!("retiring until {}", time(link.time)),
        phase => format!("{phase} since {}", time(link.time)),
    };
    let elsewhere = if kind == "root" && !link.key_here && link.phase != "retiring" { ", key elsewhere" } else { "" };
    // The names of both begin with what they are.
    format!("{}: {phase}, ends {}{elsewhere}", link.name, time(link.not_after))
}

fn time(seconds: u64) -> String {
    Timestamp(UNIX_EPOCH + Duration::from_secs(seconds)).to_string().replace(".000Z", "Z")
}

/// Each line with its end.
fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.fold(String::new(), |text, line| text + &line + "\n")
}
