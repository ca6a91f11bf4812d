//! Prints targets for people: a table for each, columns that say nothing left out.

use std::fmt::{self, Write as _};

use super::{Answers, EndpointFound, TargetView};

/// Most characters of metadata in a table; `--json` has all of it.
const METADATA: usize = 60;

/// Prints [`Answers`] as text.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a Answers);

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (position, target) in self.0.targets.iter().enumerate() {
            if position > 0 {
                text.push('\n');
            }
            print(&mut text, target)?;
        }
        for (position, note) in self.0.notes.iter().enumerate() {
            writeln!(text, "{}note: {note}", if position == 0 { "\n" } else { "" })?;
        }
        formatter.write_str(&plain(&text))
    }
}

fn print(text: &mut String, target: &TargetView) -> fmt::Result {
    let is_known = !target.origin.is_empty();
    let mut facts = vec![if is_known { count(target.endpoints.len(), "endpoint") } else { "no answer".to_owned() }];
    if target.origin == "disk" {
        facts.push("from disk: the backend has not answered since the start".to_owned());
    }
    if let Some(age) = target.age_seconds.filter(|age| *age > 0.0) {
        facts.push(format!("not confirmed for {age:.0} s"));
    }
    if let Some(took) = target.took_ms {
        facts.push(format!("{took:.0} ms"));
    }
    if !target.services.is_empty() {
        facts.push(format!("for {}", target.services.join(", ")));
    }
    writeln!(text, "{}  {}", target.target, facts.join(", "))?;
    if let Some(failure) = &target.failure {
        writeln!(text, "  {}", failure.error.replace('\n', "\n  "))?;
        writeln!(text, "  do: {}; `meshless doctor` looks closer", remedy(&failure.kind))?;
    }
    table(text, &target.endpoints)
}

/// Says what to do about an error of this kind.
pub(crate) fn remedy(kind: &str) -> &'static str {
    match kind {
        "denied" => "correct the credentials, or give them the permission that is missing",
        "gone" => "correct the target, or restore what it names",
        "malformed" => "look at what the backend answers: the error says what cannot be understood",
        "throttled" => "wait, or ask less often: others of the same account or agent ask too",
        _ => "see that the backend runs and can be reached from here",
    }
}

fn table(text: &mut String, endpoints: &[EndpointFound]) -> fmt::Result {
    type Column = (&'static str, fn(&EndpointFound) -> String);
    let columns: [Column; 9] = [
        ("ADDRESS", |one| one.address.clone()),
        ("WEIGHT", |one| one.weight.to_string()),
        ("ZONE", |one| one.zone.clone().unwrap_or_default()),
        ("HEALTH", |one| one.health.clone()),
        ("PROTOCOL", |one| one.protocol.clone().unwrap_or_default()),
        ("PRIORITY", |one| if one.priority == 0 { String::new() } else { one.priority.to_string() }),
        ("HELD", |one| if one.held { "held".to_owned() } else { String::new() }),
        ("ID", |one| one.id.clone().unwrap_or_default()),
        ("METADATA", metadata),
    ];
    let mut rows = vec![String::from(" "); endpoints.len() + 1];
    for (head, cell) in columns {
        let cells: Vec<String> = endpoints.iter().map(cell).collect();
        if cells.iter().all(String::is_empty) {
            continue;
        }
        let cells = std::iter::once(head.to_owned()).chain(cells.into_iter().map(|cell| or_dash(&cell)));
        let cells: Vec<String> = cells.collect();
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default();
        for (row, cell) in rows.iter_mut().zip(&cells) {
            write!(row, " {cell:<width$} ")?;
        }
    }
    if endpoints.is_empty() {
        return Ok(());
    }
    for row in rows {
        writeln!(text, "{}", row.trim_end())?;
    }
    Ok(())
}

fn or_dash(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { cell.to_owned() }
}

/// Metadata in short: what is beyond the width is counted.
fn metadata(endpoint: &EndpointFound) -> String {
    let mut text = String::new();
    for (position, (key, value)) in endpoint.metadata.iter().enumerate() {
        let next = if value.is_empty() { key.clone() } else { format!("{key}={value}") };
        if position > 0 && text.chars().count() + next.chars().count() + 2 > METADATA {
            let _ = write!(text, ", and {} more", endpoint.metadata.len() - position);
            break;
        }
        if position > 0 {
            text.push_str(", ");
        }
        text.extend(next.chars().take(METADATA));
    }
    text
}

/// An endpoint's address, with its id where it has one.
pub(super) fn name(endpoint: &EndpointFound) -> String {
    match &endpoint.id {
        Some(id) => format!("{} ({id})", endpoint.address),
        None => endpoint.address.clone(),
    }
}

/// An endpoint in one line.
pub(super) fn brief(endpoint: &EndpointFound) -> String {
    let mut text = format!("{}  weight {}, {}", name(endpoint), endpoint.weight, endpoint.health);
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, ", {word}{value}");
        }
    };
    add("zone ", endpoint.zone.clone());
    add("", endpoint.protocol.clone());
    add("priority ", (endpoint.priority > 0).then(|| endpoint.priority.to_string()));
    add("", endpoint.held.then(|| "held".to_owned()));
    add("", Some(metadata(endpoint)).filter(|metadata| !metadata.is_empty()));
    text
}

/// What of an endpoint is another way, in one line.
pub(super) fn difference(before: &EndpointFound, after: &EndpointFound) -> String {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let held = |held: bool| if held { "held" } else { "listed" }.to_owned();
    let facts = [
        ("weight", before.weight.to_string(), after.weight.to_string()),
        ("health", before.health.clone(), after.health.clone()),
        ("zone", word(&before.zone), word(&after.zone)),
        ("protocol", word(&before.protocol), word(&after.protocol)),
        ("priority", before.priority.to_string(), after.priority.to_string()),
        ("", held(before.held), held(after.held)),
        ("metadata", metadata(before), metadata(after)),
    ];
    let changed = facts.into_iter().filter(|(_, before, after)| before != after);
    let told: Vec<String> =
        changed.map(|(what, before, after)| format!("{what} {before} → {after}").trim_start().to_owned()).collect();
    format!("{}  {}", name(after), if told.is_empty() { "metadata".to_owned() } else { told.join(", ") })
}

/// `1 endpoint`, `2 endpoints`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What the network or a file said must not drive the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.replace(|letter: char| letter.is_control() && letter != '\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{endpoint, view};
    use super::super::{FailureView, SCHEMA};
    use super::*;

    fn text(targets: Vec<TargetView>) -> String {
        Text(&Answers { schema: SCHEMA, targets, notes: vec!["something".to_owned()] }).to_string()
    }

    #[test]
    fn columns_that_say_nothing_are_left_out_and_the_others_stand_below_each_other() {
        let mut rich = endpoint("10.0.0.10:8080");
        rich.zone = Some("eu-west-1a".into());
        rich.id = Some("web-1".into());
        rich.metadata = [("version".into(), "1.2".into()), ("tag.blue".into(), String::new())].into();
        let mut web = view("consul/web", &[endpoint("10.0.0.1:80"), rich]);
        web.services = vec!["web".into()];
        web.took_ms = Some(12.3);
        let expected = "\
consul/web  2 endpoints, 12 ms, for web
  ADDRESS         WEIGHT  ZONE        HEALTH   ID     METADATA
  10.0.0.1:80     1       -           healthy  -      -
  10.0.0.10:8080  1       eu-west-1a  healthy  web-1  tag.blue, version=1.2

note: something
";
        assert_eq!(text(vec![web]), expected);
    }

    #[test]
    fn an_error_comes_with_what_to_do_and_what_is_known_all_the_same() {
        let mut stale = view("consul/web", &[endpoint("10.0.0.1:80")]);
        stale.age_seconds = Some(75.4);
        stale.failure = Some(FailureView {
            kind: "denied".into(),
            error: "denied: 403: the token lacks service:read on `web`".into(),
            count: 3,
            for_seconds: 75,
        });
        let told = text(vec![stale]);
        assert!(told.starts_with("consul/web  1 endpoint, not confirmed for 75 s\n  denied: 403"), "{told}");
        assert!(told.contains("  do: correct the credentials") && told.contains("10.0.0.1:80"), "{told}");
    }

    #[test]
    fn much_metadata_is_cut_short_and_counted() {
        let mut endpoint = endpoint("10.0.0.1:80");
        endpoint.metadata = (0..20).map(|number| (format!("key-{number:02}"), "value".repeat(3))).collect();
        let told = metadata(&endpoint);
        assert!(told.ends_with(", and 18 more") && told.chars().count() < METADATA + 20, "{told}");
    }
}
