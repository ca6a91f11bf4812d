//! What a target asks: `CLUSTER/SERVICE[:PORT]` or `CLUSTER/*[:PORT]` with options (pure).

use std::collections::BTreeMap;

use crate::Target;

/// Most bytes of a cluster's, a service's or a family's name in ECS.
const MAX_NAME: usize = 255;

/// Most bytes of a port mapping's name in ECS.
const MAX_PORT_NAME: usize = 64;

/// Which tasks of a cluster, and which of their ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Query {
    pub(super) cluster: String,
    /// `None`: tasks of every service, and of none.
    pub(super) service: Option<String>,
    pub(super) family: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
    /// The container that decides about health, and whose ports are meant.
    pub(super) container: Option<String>,
    pub(super) port: Port,
}

/// Which port of a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Port {
    /// The one that it has.
    Only,
    /// The name of a port mapping in the task definition.
    Name(String),
    /// A port in the container.
    Number(u16),
}

impl Query {
    /// Reads a target; the error says what is wrong and what to write.
    pub(super) fn parse(target: &Target) -> Result<Self, String> {
        const SHAPE: &str = "write `ecs/CLUSTER/SERVICE:PORT`, or `ecs/CLUSTER/*:PORT[family=F]`";
        let Some((cluster, rest)) = target.path.split_once('/') else {
            return Err(format!("no service; {SHAPE}"));
        };
        let (service, port) = match rest.split_once(':') {
            Some((service, port)) => (service, Port::parse(port)?),
            None => (rest, Port::Only),
        };
        check_name("cluster", cluster)?;
        if service != "*" {
            check_name("service", service)?;
        }
        let mut query = Self {
            cluster: cluster.to_owned(),
            service: (service != "*").then(|| service.to_owned()),
            family: None,
            tags: BTreeMap::new(),
            container: None,
            port,
        };
        for (key, value) in &target.options {
            match key.as_str() {
                "family" => {
                    check_name("family", value)?;
                    query.family = Some(value.clone());
                }
                "container" => {
                    check_name("container", value)?;
                    query.container = Some(value.clone());
                }
                _ => match key.strip_prefix("tag.") {
                    Some(tag) if !tag.is_empty() => {
                        query.tags.insert(tag.to_owned(), value.clone());
                    }
                    _ => {
                        return Err(format!(
                            "option `{key}` is not known; there are `container`, `family` and `tag.KEY`"
                        ));
                    }
                },
            }
        }
        if query.service.is_none() && query.family.is_none() && query.tags.is_empty() {
            return Err(format!(
                "`*` alone is every task of the cluster `{cluster}`, whatever it is; add `[family=F]` or `[tag.KEY=VALUE]`"
            ));
        }
        Ok(query)
    }

    /// Returns the narrowest list of tasks that has all of them.
    pub(super) fn list(&self) -> List {
        match (&self.service, &self.family) {
            (Some(service), _) => List::Service(service.clone()),
            (None, Some(family)) => List::Family(family.clone()),
            (None, None) => List::All,
        }
    }
}

/// What one `ListTasks` can be narrowed to: a service or a family, not both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum List {
    All,
    Family(String),
    Service(String),
}

/// Most lists of parts of a cluster; for more of them the whole cluster is listed.
///
/// A sidecar has a few peers and should not read a cluster of thousands of tasks for them; a gateway has hundreds, and one
/// list of a hundred tasks is cheaper than a hundred lists.
const MAX_LISTS: usize = 4;

/// Returns the lists that cover these queries.
pub(super) fn lists<'a>(queries: impl IntoIterator<Item = &'a Query>) -> Vec<List> {
    let mut lists: Vec<List> = queries.into_iter().map(Query::list).collect();
    lists.sort();
    lists.dedup();
    if lists.len() > MAX_LISTS || lists.contains(&List::All) { vec![List::All] } else { lists }
}

impl Port {
    fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(port) if port > 0 => Ok(Self::Number(port)),
                _ => Err(format!("port `{text}` is not a number from 1 to 65535")),
            };
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if text.is_empty() || text.len() > MAX_PORT_NAME || !text.bytes().all(allowed) {
            return Err(format!(
                "port `{text}` is neither a number nor the name of a port mapping, which has a-z, 0-9, `_` and `-`"
            ));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if name.is_empty() {
        return Err(format!("the name of the {what} is missing; write `ecs/CLUSTER/SERVICE:PORT`"));
    }
    if let Some(other) = name.chars().find(|letter| !allowed(*letter)) {
        return Err(format!("{what} `{name}` has {other:?}; allowed are letters, digits, `-` and `_` (no ARN)"));
    }
    if name.len() > MAX_NAME {
        return Err(format!("the name of the {what} has {} bytes, at most {MAX_NAME} are taken", name.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, options: &[(&str, &str)]) -> Result<Query, String> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Query::parse(&Target { backend: "ecs".to_owned(), path: path.to_owned(), options })
    }

    #[test]
    fn services_families_and_tags_are_read() {
        let query = parse("prod/api:http", &[("container", "app"), ("tag.stage", "blue")]).unwrap();
        assert_eq!((query.cluster.as_str(), query.service.as_deref()), ("prod", Some("api")));
        assert_eq!((query.port, query.container.as_deref()), (Port::Name("http".to_owned()), Some("app")));
        assert_eq!(query.tags, BTreeMap::from([("stage".to_owned(), "blue".to_owned())]));
        let query = parse("prod/*:8080", &[("family", "worker")]).unwrap();
        assert_eq!((query.service.clone(), query.port.clone()), (None, Port::Number(8080)));
        assert_eq!(query.list(), List::Family("worker".to_owned()));
        assert_eq!(parse("prod/api", &[]).unwrap().port, Port::Only);
    }

    #[test]
    fn each_usual_mistake_has_its_own_answer() {
        for (path, options, answer) in [
            ("api", &[][..], "no service"),
            ("prod/", &[], "service is missing"),
            ("/api", &[], "cluster is missing"),
            ("prod/api:", &[], "port ``"),
            ("prod/api:0", &[], "1 to 65535"),
            ("prod/api:70000", &[], "1 to 65535"),
            ("prod/api:HTTP", &[], "a-z"),
            ("arn:aws:ecs:eu-west-1:1:cluster/prod/api", &[], "no ARN"),
            ("prod/a/b", &[], "'/'"),
            ("prod/*", &[], "add `[family=F]`"),
            ("prod/api", &[("tag", "x")], "`tag.KEY`"),
            ("prod/api", &[("tag.", "x")], "`tag.KEY`"),
            ("prod/api", &[("family", "a b")], "' '"),
        ] {
            let error = parse(path, options).unwrap_err();
            assert!(error.contains(answer), "{path}: {error}");
        }
    }

    #[test]
    fn a_few_services_are_listed_alone_and_many_as_the_whole_cluster() {
        let service = |number: usize| parse(&format!("prod/s{number}"), &[]).unwrap();
        let few: Vec<Query> = (0..4).chain(0..4).map(service).collect();
        assert_eq!(lists(&few).len(), 4);
        let many: Vec<Query> = (0..5).map(service).collect();
        assert_eq!(lists(&many), [List::All]);
        let tag = parse("prod/*", &[("tag.a", "b")]).unwrap();
        assert_eq!(lists(&[service(1), tag]), [List::All]);
    }
}
