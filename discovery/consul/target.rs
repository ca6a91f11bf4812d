//! What a target asks of Consul, and how that is written as a request (pure).

use std::collections::BTreeMap;
use std::time::Duration;

use super::client::{Ask, PATIENCE};
use crate::{ConsulConfig, ConsulConsistency};

/// What Consul adds to a wait at most, as a part of it (blocking.mdx).
const JITTER_PART: u32 = 16;

/// Most bytes of a name that is asked for.
const MAX_NAME: usize = 253;

/// Every option that a target takes, as an error lists them.
const OPTIONS: &str =
    "`connect`, `dc`, `filter`, `limit`, `near`, `ns`, `partition`, `passing`, `peer`, `query` and `tag`";

/// What a target asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Instances must have all of these.
    tags: Vec<String>,
    /// Where the name is looked up, by the name of the parameter: `dc`, `ns`, `partition`, `peer`.
    place: BTreeMap<&'static str, String>,
    near: Option<String>,
    filter: Option<String>,
    /// The nearest so many are taken.
    pub(super) limit: Option<usize>,
    /// Instances with a warning get nothing.
    pub(super) only_passing: bool,
    consistency: ConsulConsistency,
    cached: bool,
}

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A service, by what of it takes connections of Consul's mesh.
    Connect,
    /// A prepared query, which cannot be waited on.
    Query,
    /// A service.
    Service,
}

/// How an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// At once, from a server.
    Fresh,
    /// At once, from the leader: the server that answered last is behind.
    OfLeader,
    /// At once, and from the agent's cache where the consistency that was asked for allows it.
    Polled,
    /// When something changed since an index, or after a time.
    Waiting { index: u64, wait: Duration },
}

impl Question {
    /// Reads a target's path and options; the error says what is wrong and what to write.
    pub(super) fn parse(path: &str, options: &BTreeMap<String, String>, config: &ConsulConfig) -> Result<Self, String> {
        let (path, by_path) = match path.strip_prefix("query/") {
            Some(name) => (name, true),
            None => (path, false),
        };
        let mut question = Self {
            kind: if by_path { Kind::Query } else { Kind::Service },
            name: name(path)?,
            tags: Vec::new(),
            place: BTreeMap::new(),
            near: None,
            filter: None,
            limit: None,
            only_passing: false,
            consistency: config.consistency,
            cached: config.cached,
        };
        let defaults = [
            ("dc", &config.datacenter),
            ("ns", &config.namespace),
            ("partition", &config.partition),
            ("peer", &config.peer),
        ];
        for (key, value) in defaults {
            if let Some(value) = value {
                question.place.insert(key, value.clone());
            }
        }
        for (key, value) in options {
            question.option(key, value)?;
        }
        question.checked(options)
    }

    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "dc" => {
                // Linkerd 1 and Consul's own DNS know the agent's datacenter by this name.
                if matches!(value, "local" | ".local") {
                    self.place.remove("dc");
                } else {
                    self.place.insert("dc", word(key, value)?);
                }
            }
            "ns" => drop(self.place.insert("ns", word(key, value)?)),
            "partition" => drop(self.place.insert("partition", word(key, value)?)),
            "peer" => drop(self.place.insert("peer", word(key, value)?)),
            "near" => self.near = Some(word(key, value)?),
            "filter" => self.filter = Some(value.to_owned()),
            "tag" => self.tags = value.split(';').map(|tag| tag.trim().to_owned()).collect(),
            "passing" => self.only_passing = truth(key, value)?,
            "connect" if truth(key, value)? => {
                if self.kind == Kind::Query {
                    return Err("`connect` is for services; a prepared query says itself what it asks for".to_owned());
                }
                self.kind = Kind::Connect;
            }
            "query" if truth(key, value)? => {
                if self.kind == Kind::Connect {
                    return Err("`connect` is for services; a prepared query says itself what it asks for".to_owned());
                }
                self.kind = Kind::Query;
            }
            "connect" | "query" => {}
            "limit" => match value.parse() {
                Ok(limit) if limit > 0 => self.limit = Some(limit),
                _ => return Err(format!("`limit` is `{value}`; expected a number from 1")),
            },
            _ => return Err(format!("option `{key}` is not known; expected {OPTIONS}")),
        }
        Ok(())
    }

    fn checked(mut self, options: &BTreeMap<String, String>) -> Result<Self, String> {
        if self.tags.iter().any(String::is_empty) {
            return Err(
                "`tag` has an empty one; several are written as `tag=a;b`, and all of them must be there".to_owned()
            );
        }
        if self.kind == Kind::Query {
            let refused =
                ["tag", "filter", "ns", "partition", "peer"].into_iter().find(|key| options.contains_key(*key));
            if let Some(key) = refused {
                return Err(format!("`{key}` is for services; a prepared query says itself what it asks for"));
            }
            // What is the default for services is not meant for it, nor taken.
            for key in ["partition", "peer"] {
                self.place.remove(key);
            }
        } else if self.near.is_some() != self.limit.is_some() {
            // The order of an answer alone changes nothing: all of its instances are balanced over.
            return Err("`near` and `limit` go together: `near=_agent,limit=20` takes the nearest 20".to_owned());
        }
        Ok(self)
    }

    /// Returns the request, with a limit that Consul keeps to.
    pub(super) fn ask(&self, manner: Manner) -> Ask {
        let permission = self.permission();
        let mut ask = match self.kind {
            Kind::Connect => Ask::new("health/connect", permission).below(&self.name),
            Kind::Query => Ask::new("query", permission).below(&self.name).below("execute"),
            Kind::Service => Ask::new("health/service", permission).below(&self.name),
        };
        for (key, value) in &self.place {
            ask = ask.with(key, value);
        }
        for tag in &self.tags {
            ask = ask.with("tag", tag);
        }
        if let Some(near) = &self.near {
            ask = ask.with("near", near);
        }
        if let Some(filter) = &self.filter {
            ask = ask.with("filter", filter);
        }
        if let (Kind::Query, Some(limit)) = (self.kind, self.limit) {
            ask = ask.with("limit", &limit.to_string());
        }
        match (manner, self.consistency) {
            (Manner::OfLeader, ConsulConsistency::Stale) | (_, ConsulConsistency::Leader) => {}
            (_, ConsulConsistency::Stale) => ask = ask.flag("stale"),
            (_, ConsulConsistency::Consistent) => ask = ask.flag("consistent"),
        }
        // A cached answer of a prepared query is as old as the cache, which is days; one of a service is kept current.
        let is_cached = match manner {
            Manner::Fresh | Manner::Waiting { .. } => self.cached,
            Manner::OfLeader => false,
            Manner::Polled => self.cached || self.consistency == ConsulConsistency::Stale,
        };
        if is_cached && self.kind != Kind::Query {
            ask = ask.flag("cached");
        }
        if let Manner::Waiting { index, wait } = manner {
            ask = ask.with("index", &index.to_string()).with("wait", &format!("{}ms", wait.as_millis()));
            ask = ask.within(wait + wait / JITTER_PART + PATIENCE);
        }
        ask
    }

    /// Returns what a token needs for it.
    pub(super) fn permission(&self) -> String {
        let name = &self.name;
        match self.kind {
            Kind::Query => format!("query:read on `{name}`, and service:read and node:read on what it finds"),
            Kind::Connect | Kind::Service => format!("service:read on `{name}` and node:read on its nodes"),
        }
    }

    /// Returns where it is asked: targets of one datacenter wait for each other, never for those of another.
    pub(super) fn datacenter(&self) -> &str {
        self.place.get("peer").or_else(|| self.place.get("dc")).map_or("", String::as_str)
    }
}

/// Checks a name: parts of it may come from a request.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(is_plain) || text.bytes().all(|byte| byte == b'.')
    {
        return Err(format!(
            "`{text}` is not the name of a service; expected letters, digits, `.`, `-` and `_`, at most {MAX_NAME} bytes, \
             as in `consul/web` or `consul/query/web`"
        ));
    }
    Ok(text.to_owned())
}

fn word(key: &str, value: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if value.len() > MAX_NAME || !value.bytes().all(is_plain) {
        return Err(format!("`{key}` is `{value}`; expected letters, digits, `.`, `-` and `_`"));
    }
    Ok(value.to_owned())
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("`{key}` is `{value}`; expected `true` or `false`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Question, String> {
        parse_with(text, &ConsulConfig::default())
    }

    fn parse_with(text: &str, config: &ConsulConfig) -> Result<Question, String> {
        let (path, rest) = text.split_once('[').unwrap_or((text, ""));
        let options = rest.trim_end_matches(']').split(',').filter(|pair| !pair.is_empty());
        let options = options.map(|pair| pair.split_once('=').unwrap()).map(|(key, value)| (key.into(), value.into()));
        Question::parse(path, &options.collect(), config)
    }

    fn url(question: &Question, manner: Manner) -> String {
        question.ask(manner).url()
    }

    #[test]
    fn each_option_becomes_the_parameter_that_consul_takes() {
        for (text, expected) in [
            ("web", "/v1/health/service/web?stale"),
            ("web[tag=blue]", "/v1/health/service/web?tag=blue&stale"),
            ("web[tag=blue; v2]", "/v1/health/service/web?tag=blue&tag=v2&stale"),
            ("web[dc=eu,ns=a,partition=b]", "/v1/health/service/web?dc=eu&ns=a&partition=b&stale"),
            ("web[peer=other]", "/v1/health/service/web?peer=other&stale"),
            ("web[near=_agent,limit=3]", "/v1/health/service/web?near=_agent&stale"),
            (
                "web[filter=Service.Meta.v == \"1\"]",
                "/v1/health/service/web?filter=Service.Meta.v%20%3D%3D%20%221%22&stale",
            ),
            ("web[connect=true]", "/v1/health/connect/web?stale"),
            ("web[connect=false,query=false,passing=true]", "/v1/health/service/web?stale"),
            ("web[query=true]", "/v1/query/web/execute?stale"),
            ("query/web[near=n1,limit=2]", "/v1/query/web/execute?near=n1&limit=2&stale"),
        ] {
            assert_eq!(url(&parse(text).unwrap(), Manner::Fresh), expected, "{text}");
        }
    }

    #[test]
    fn a_name_that_could_change_the_request_is_refused() {
        for text in ["", "a/b", "../acl", "..", "a?b", "a#b", "a%2fb", "a b", "é", "query/", "query/a/b", "service/a"]
        {
            assert!(parse(text).unwrap_err().contains("is not the name of a service"), "{text}");
        }
        assert!(parse(&"a".repeat(254)).is_err());
        assert!(parse("Web_1.api-x").is_ok());
    }

    #[test]
    fn a_wrong_option_says_what_is_expected() {
        for (text, answer) in [
            ("web[color=blue]", "option `color` is not known; expected `connect`"),
            ("web[passing=yes]", "`true` or `false`"),
            ("web[near=_agent]", "go together"),
            ("web[limit=3]", "go together"),
            ("web[near=_agent,limit=0]", "number from 1"),
            ("web[dc=a&b]", "letters, digits"),
            ("web[tag=a;]", "empty one"),
            ("web[query=true,tag=a]", "`tag` is for services"),
            ("web[connect=true,query=true]", "`connect` is for services"),
            ("query/web[connect=true]", "`connect` is for services"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(answer), "{text}: {error}");
        }
    }

    #[test]
    fn what_the_configuration_says_is_the_default() {
        let config = ConsulConfig {
            datacenter: Some("eu".to_owned()),
            namespace: Some("team".to_owned()),
            consistency: ConsulConsistency::Leader,
            cached: true,
            ..ConsulConfig::default()
        };
        let fresh = |text| url(&parse_with(text, &config).unwrap(), Manner::Fresh);
        assert_eq!(fresh("web"), "/v1/health/service/web?dc=eu&ns=team&cached");
        assert_eq!(fresh("web[dc=us]"), "/v1/health/service/web?dc=us&ns=team&cached");
        assert_eq!(fresh("web[dc=local]"), "/v1/health/service/web?ns=team&cached");
        assert_eq!(fresh("query/web"), "/v1/query/web/execute?dc=eu&ns=team");
    }

    #[test]
    fn the_limit_is_above_the_wait_and_what_consul_adds_to_it() {
        let (question, wait) = (parse("web").unwrap(), Duration::from_secs(600));
        let ask = question.ask(Manner::Waiting { index: 7, wait });
        assert_eq!(ask.url(), "/v1/health/service/web?stale&index=7&wait=600000ms");
        assert_eq!(ask.limit(), wait + wait / 16 + Duration::from_secs(10));
        assert_eq!(question.ask(Manner::Fresh).limit(), Duration::from_secs(10));
    }

    #[test]
    fn polls_may_come_from_the_cache_where_a_stale_answer_would_do() {
        let of = |consistency| {
            let config = ConsulConfig { consistency, ..ConsulConfig::default() };
            url(&parse_with("web", &config).unwrap(), Manner::Polled)
        };
        assert_eq!(of(ConsulConsistency::Stale), "/v1/health/service/web?stale&cached");
        assert_eq!(of(ConsulConsistency::Leader), "/v1/health/service/web");
        assert_eq!(of(ConsulConsistency::Consistent), "/v1/health/service/web?consistent");
        assert_eq!(url(&parse("web").unwrap(), Manner::OfLeader), "/v1/health/service/web");
    }
}
