//! Understands what the files say: services and their endpoints.
//!
//! One grammar, three notations. A person writes these files, so each problem is told with file, line and column, or
//! with the service and the number of the entry. All files together are one answer: a problem in one of them fails it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::check_name;
use super::read::{Format, Text};
use super::yaml;
use crate::{Address, AppProtocol, Endpoint, Error, Health, Snapshot};

/// Most bytes of a zone or of a key in `metadata`.
const MAX_WORD: usize = 253;

/// Most bytes of a value in `metadata`.
const MAX_VALUE: usize = 1024;

/// Most pairs in `metadata`.
const MAX_METADATA: usize = 64;

/// The services of all files.
pub(super) type Services = BTreeMap<String, Snapshot>;

/// Reads all files into one set of services; a service that stands in more than one file has the endpoints of all.
pub(super) fn parse(texts: &[Text]) -> Result<Services, Error> {
    parse_named(texts, check_name)
}

/// Reads as [`parse`] does; `check` says what is wrong with a name.
pub(super) fn parse_named(texts: &[Text], check: fn(&str) -> Result<(), String>) -> Result<Services, Error> {
    let mut merged: BTreeMap<String, Vec<(Endpoint, &Path)>> = BTreeMap::new();
    for text in texts {
        let path = text.path.as_path();
        let document = document(text).map_err(|problem| malformed(path, &problem))?;
        for (name, entries) in document.services {
            check(&name).map_err(|problem| malformed(path, &problem))?;
            let endpoints = merged.entry(name.clone()).or_default();
            for (position, entry) in entries.into_iter().enumerate() {
                let place =
                    |problem: &str| malformed(path, &format!("services.{name}, entry {}: {problem}", position + 1));
                let endpoint = entry.check().map_err(|problem| place(&problem))?;
                endpoints.push((endpoint, path));
            }
        }
    }
    merged.into_iter().map(|(name, endpoints)| Ok((name.clone(), snapshot(&name, endpoints)?))).collect()
}

fn snapshot(name: &str, mut endpoints: Vec<(Endpoint, &Path)>) -> Result<Snapshot, Error> {
    endpoints.sort_by(|(left, _), (right, _)| left.address.cmp(&right.address));
    for pair in endpoints.windows(2) {
        if let [(first, file), (second, other)] = pair
            && first.address == second.address
            && first != second
        {
            let files = if file == other { String::new() } else { format!(" and {}", other.display()) };
            let problem = format!("services.{name}: {} stands there twice, with different facts{files}", first.address);
            return Err(malformed(file, &problem));
        }
    }
    let endpoints = endpoints.into_iter().map(|(endpoint, _)| endpoint).collect();
    Snapshot::new(endpoints).map_err(|error| Error::Malformed(format!("services.{name}: {error}")))
}

fn malformed(path: &Path, problem: &str) -> Error {
    // A single line, whatever a parser says.
    Error::Malformed(format!("{}: {}", path.display(), problem.replace('\n', ", ")))
}

/// A file. `services` must be there: a file that an editor just truncated must not mean that there are none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "without_duplicates")]
    services: BTreeMap<String, Vec<Entry>>,
}

/// An endpoint as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    protocol: Option<Protocol>,
    #[serde(default, deserialize_with = "without_duplicates")]
    metadata: BTreeMap<String, String>,
}

/// The words of a service's `protocol` that say something about an endpoint.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Http1,
    Http2,
    Tcp,
}

fn one() -> u32 {
    1
}

impl Entry {
    fn check(self) -> Result<Endpoint, String> {
        let address = self.address.parse::<Address>().map_err(|error| format!("address {error}"))?;
        if self.weight > Endpoint::MAX_WEIGHT {
            return Err(format!("weight {} is more than {}", self.weight, Endpoint::MAX_WEIGHT));
        }
        if let Some(zone) = &self.zone {
            word("zone", zone)?;
        }
        if self.metadata.len() > MAX_METADATA {
            return Err(format!("metadata has {} pairs, at most {MAX_METADATA} are taken", self.metadata.len()));
        }
        for (key, value) in &self.metadata {
            word("a key in metadata", key)?;
            if value.len() > MAX_VALUE {
                return Err(format!("metadata `{key}` has {} bytes, at most {MAX_VALUE} are taken", value.len()));
            }
        }
        Ok(Endpoint {
            address,
            id: None,
            // A file has tiers by services of its own: `file/a | file/b`.
            priority: 0,
            weight: self.weight,
            zone: self.zone,
            health: self.health,
            protocol: self.protocol.map(|protocol| match protocol {
                Protocol::Http1 => AppProtocol::Http1,
                Protocol::Http2 => AppProtocol::H2c,
                Protocol::Tcp => AppProtocol::Tcp,
            }),
            metadata: self.metadata,
        })
    }
}

fn word(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_WORD || text.chars().any(char::is_control) {
        return Err(format!("{what} is {text:?}; 1 to {MAX_WORD} bytes without control characters are taken"));
    }
    Ok(())
}

fn document(text: &Text) -> Result<Document, String> {
    if text.content.trim().is_empty() {
        return Err(
            "the file is empty; to say that there are no services, write `services = {}` in the file's format, \
                    or remove the file"
                .to_owned(),
        );
    }
    match text.format {
        Format::Json => serde_json::from_str(&text.content).map_err(|error| error.to_string()),
        Format::Toml => toml_edit::de::from_str(&text.content).map_err(|error| {
            let place = error.span().map_or_else(String::new, |span| place(&text.content, span.start));
            format!("{place}{}", error.message())
        }),
        Format::Yaml => yaml::from_str(&text.content).map_err(|error| error.to_string()),
    }
}

/// Returns `line 3, column 7: ` for an offset in bytes.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!("line {line}, column {column}: ")
}

/// Reads a map in which each key stands once. (JSON and YAML would let the last one win in silence.)
fn without_duplicates<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Pairs<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut pairs = BTreeMap::new();
            while let Some((key, value)) = access.next_entry::<String, V>()? {
                if pairs.contains_key(&key) {
                    return Err(A::Error::custom(format!("`{key}` stands there twice")));
                }
                pairs.insert(key, value);
            }
            Ok(pairs)
        }
    }

    deserializer.deserialize_map(Pairs(PhantomData))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn text(format: Format, content: &str) -> Text {
        let path = PathBuf::from(match format {
            Format::Json => "a.json",
            Format::Toml => "a.toml",
            Format::Yaml => "a.yaml",
        });
        Text { path, format, content: content.to_owned() }
    }

    fn problem(format: Format, content: &str) -> String {
        match parse(&[text(format, content)]).unwrap_err() {
            Error::Malformed(message) => message,
            other => panic!("{other}"),
        }
    }

    const TOML: &str = r#"
        [[services.web]]
        address = "10.0.0.1:80"
        weight = 3
        zone = "a"
        health = "draining"
        protocol = "http2"
        metadata = { version = "1.2" }

        [[services.web]]
        address = "unix:/run/web.sock"
    "#;

    #[test]
    fn the_three_notations_say_the_same() {
        let json = r#"{"services": {"web": [
            {"address": "10.0.0.1:80", "weight": 3, "zone": "a", "health": "draining", "protocol": "http2",
             "metadata": {"version": "1.2"}},
            {"address": "unix:/run/web.sock"}]}}"#;
        let yaml = "
services:
  web:
    - address: 10.0.0.1:80   # plain, though it has a colon
      weight: 3
      zone: a
      health: draining
      protocol: http2
      metadata: { version: '1.2' }
    - address: \"unix:/run/web.sock\"
";
        let toml = parse(&[text(Format::Toml, TOML)]).unwrap();
        let web = toml["web"].endpoints();
        assert_eq!((web[0].weight, web[0].health, web[0].protocol), (3, Health::Draining, Some(AppProtocol::H2c)));
        assert_eq!(web[1], Endpoint::new("unix:/run/web.sock".parse().unwrap()));
        assert_eq!(parse(&[text(Format::Json, json)]).unwrap(), toml);
        assert_eq!(parse(&[text(Format::Yaml, yaml)]).unwrap(), toml);
    }

    #[test]
    fn an_empty_file_is_an_error_and_an_empty_service_is_not() {
        for format in [Format::Json, Format::Toml, Format::Yaml] {
            assert!(problem(format, " \n").contains("the file is empty"));
        }
        for (format, none, no_endpoint) in [
            (Format::Json, r#"{"services": {}}"#, r#"{"services": {"web": []}}"#),
            (Format::Toml, "services = {}", "[services]\nweb = []"),
            (Format::Yaml, "services: {}", "services:\n  web: []"),
        ] {
            assert!(parse(&[text(format, none)]).unwrap().is_empty());
            assert!(parse(&[text(format, no_endpoint)]).unwrap()["web"].is_empty());
        }
        assert!(problem(Format::Toml, "# nothing left").contains("missing field `services`"));
        assert!(problem(Format::Yaml, "# nothing left").contains("services"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (format, content, expected) in [
            (
                Format::Toml,
                "[[services.web]]\nadress = \"10.0.0.1:80\"",
                "a.toml: line 2, column 1: unknown field `adress`",
            ),
            (Format::Toml, "[[services.web]]\naddress = \"10.0", "a.toml: line 2"),
            (Format::Toml, "[services.web]\naddress = \"10.0.0.1:80\"", "invalid type: map"),
            (
                Format::Toml,
                "[[services.web]]\naddress = \"10.0.0.1\"",
                "a.toml: services.web, entry 1: address `10.0.0.1` has no port",
            ),
            (Format::Toml, "[[services.web]]\naddress = \"web:80\"", "`dns/web:80`"),
            (Format::Toml, "[[services.web]]\naddress = \"10.0.0.1:80\"\nweight = 100001", "weight 100001 is more"),
            (Format::Toml, "[[services.web]]\naddress = \"10.0.0.1:80\"\nweight = -1", "line 3"),
            (Format::Toml, "[[services.web]]\naddress = \"10.0.0.1:80\"\nhealth = \"sick\"", "expected one of"),
            (Format::Toml, "[[services.web]]\naddress = \"10.0.0.1:80\"\nzone = \"\"", "zone is \"\""),
            (Format::Toml, "[[services.Web]]\naddress = \"10.0.0.1:80\"", "service name `Web`"),
            (Format::Toml, "[[services.\"../x\"]]\naddress = \"10.0.0.1:80\"", "service name `../x`"),
            (Format::Json, "{\"services\": {\"web\": [{\"address\": \"10.0.0.1:80\"}", "a.json: EOF while parsing"),
            (Format::Json, "{\"services\": {\"web\": [], \"web\": []}}", "`web` stands there twice"),
            (Format::Json, "{\"services\": {}} x", "trailing characters at line 1 column 18"),
            (
                Format::Yaml,
                "services:\n  web:\n    - adress: 10.0.0.1:80",
                "a.yaml: line 3, column 7: unknown field `adress`",
            ),
            (Format::Yaml, "services:\n  web: [", "a.yaml: line"),
            (Format::Yaml, "services:\n  web: []\n  web: []", "`web` stands there twice"),
            (Format::Yaml, "services:\n  web:\n    - address: 10.0.0.1:80\n      weight: many", "line 4"),
        ] {
            let problem = problem(format, content);
            assert!(problem.contains(expected), "{content:?}: {problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn a_service_in_two_files_has_the_endpoints_of_both() {
        let other =
            Text { path: "b.json".into(), ..text(Format::Json, r#"{"services":{"web":[{"address":"10.0.0.9:80"}]}}"#) };
        assert_eq!(parse(&[text(Format::Toml, TOML), other]).unwrap()["web"].endpoints().len(), 3);
    }

    #[test]
    fn the_same_endpoint_twice_is_one_but_not_with_other_facts() {
        let twice = |weight: u32| {
            let entry = |weight| format!("[[services.web]]\naddress = \"10.0.0.1:80\"\nweight = {weight}\n");
            text(Format::Toml, &format!("{}{}", entry(1), entry(weight)))
        };
        assert_eq!(parse(&[twice(1)]).unwrap()["web"].endpoints().len(), 1);
        assert!(parse(&[twice(2)]).unwrap_err().to_string().contains("10.0.0.1:80 stands there twice"));
    }

    #[test]
    fn one_broken_file_fails_the_whole_answer() {
        let broken = Text { path: "b.toml".into(), ..text(Format::Toml, "[[services.web") };
        assert!(parse(&[text(Format::Toml, TOML), broken]).unwrap_err().to_string().contains("b.toml"));
    }

    #[test]
    fn too_many_endpoints_are_an_error_and_not_cut_short() {
        let entries: Vec<String> =
            (0..=10_000).map(|port| format!("{{address = \"10.0.0.1:{}\"}},", port + 1)).collect();
        let content = format!("[services]\nweb = [{}]", entries.concat());
        assert!(problem(Format::Toml, &content).contains("10001 endpoints, at most 10000"));
    }

    #[test]
    fn the_examples_in_the_documentation_are_right_and_say_the_same() {
        let page = include_str!("../../docs/discovery.md");
        let examples: Vec<Services> = page
            .split("\n```")
            .filter_map(|block| {
                let (notation, content) = block.split_once('\n')?;
                let format = match notation {
                    "json" => Format::Json,
                    "toml" => Format::Toml,
                    "yaml" => Format::Yaml,
                    _ => return None,
                };
                content.contains("services").then(|| parse(&[text(format, content)]).unwrap())
            })
            .collect();
        assert_eq!(examples.len(), 3);
        assert!(examples.iter().all(|example| *example == examples[0]));
    }

    proptest::proptest! {
        #[test]
        fn no_content_makes_it_panic(content in "[a-z0-9:\\[\\]{}\"'=.,#&*!|>%@ \\n\\t-]{0,80}") {
            for format in [Format::Json, Format::Toml, Format::Yaml] {
                let _ = parse(&[text(format, &content)]);
            }
        }
    }

    #[test]
    fn metadata_is_bounded() {
        let with = |metadata: &str| {
            problem(Format::Toml, &format!("[[services.web]]\naddress = \"10.0.0.1:80\"\nmetadata = {{{metadata}}}"))
        };
        let many: Vec<String> = (0..65).map(|number| format!("k{number} = \"v\"")).collect();
        assert!(with(&many.join(",")).contains("65 pairs"));
        assert!(with(&format!("k = \"{}\"", "v".repeat(1025))).contains("1025 bytes"));
        assert!(with("\"\" = \"v\"").contains("a key in metadata"));
    }
}
