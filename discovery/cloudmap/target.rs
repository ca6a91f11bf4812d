//! What a target asks: `NAMESPACE/SERVICE[:PORT]` (pure).

/// Most bytes of a name in Cloud Map.
const MAX_NAME: usize = 1024;

/// A service, and the port where it is not the instances' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: Option<u16>,
}

impl Query {
    /// Reads a target's path; the error says what is wrong and what to write.
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        const SHAPE: &str = "write `cloudmap/NAMESPACE/SERVICE`, or `cloudmap/NAMESPACE/SERVICE:PORT`";
        let Some((namespace, rest)) = path.split_once('/') else { return Err(format!("no service; {SHAPE}")) };
        let (service, port) = match rest.split_once(':') {
            None => (rest, None),
            Some((service, port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 => (service, Some(port)),
                _ => return Err(format!("port `{port}` is not a number from 1 to 65535")),
            },
        };
        for (what, name) in [("namespace", namespace), ("service", service)] {
            if name.is_empty() {
                return Err(format!("the name of the {what} is missing; {SHAPE}"));
            }
            let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
            if let Some(other) = name.chars().find(|letter| !allowed(*letter)) {
                return Err(format!("{what} `{name}` has {other:?}; allowed are letters, digits, `-`, `_` and `.`"));
            }
            if name.len() > MAX_NAME {
                return Err(format!("the name of the {what} has {} bytes, at most {MAX_NAME} are taken", name.len()));
            }
        }
        Ok(Self { namespace: namespace.to_owned(), service: service.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_with_and_without_a_port() {
        let query = Query::parse("prod.local/_api._tcp:8080").unwrap();
        assert_eq!(
            (query.namespace.as_str(), query.service.as_str(), query.port),
            ("prod.local", "_api._tcp", Some(8080))
        );
        assert_eq!(Query::parse("prod/api").unwrap().port, None);
    }

    #[test]
    fn each_usual_mistake_has_its_own_answer() {
        for (path, answer) in [
            ("api", "no service"),
            ("prod/", "service is missing"),
            ("/api", "namespace is missing"),
            ("prod/api:http", "port `http`"),
            ("prod/api:0", "port `0`"),
            ("prod/a/b", "'/'"),
        ] {
            let error = Query::parse(path).unwrap_err();
            assert!(error.contains(answer), "{path}: {error}");
        }
    }
}
