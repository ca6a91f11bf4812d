//! What a target names: a service and one of its ports (pure).

use std::fmt;

/// A service, and which of its ports is meant: `NAMESPACE/SERVICE[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: Port,
}

/// Which port of a service is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Port {
    /// Its name.
    Named(String),
    /// The number at which the service has it, which need not be the one that pods listen on.
    Number(u16),
    /// The only one that there is.
    Only,
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.service)?;
        match &self.port {
            Port::Named(name) => write!(formatter, ":{name}"),
            Port::Number(number) => write!(formatter, ":{number}"),
            Port::Only => Ok(()),
        }
    }
}

impl Question {
    /// Reads the path of a target, or says what is wrong with it.
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        const SHAPE: &str = "expected `NAMESPACE/SERVICE` or `NAMESPACE/SERVICE:PORT`, such as `default/web:http`";
        let Some((namespace, rest)) = path.split_once('/') else { return Err(format!("{SHAPE}, found `{path}`")) };
        let (service, port) = match rest.split_once(':') {
            Some((service, port)) => (service, Port::parse(port)?),
            None => (rest, Port::Only),
        };
        for name in [namespace, service] {
            if !is_label(name, 63) {
                return Err(format!("{SHAPE}; `{name}` is no name in Kubernetes (a-z, 0-9 and `-`, at most 63 bytes)"));
            }
        }
        Ok(Self { namespace: namespace.to_owned(), service: service.to_owned(), port })
    }
}

impl Port {
    fn parse(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return match text.parse() {
                Ok(0) | Err(_) => Err(format!("`{text}` is no port; expected 1 to 65535 or a name")),
                Ok(number) => Ok(Self::Number(number)),
            };
        }
        if is_label(text, 63) {
            return Ok(Self::Named(text.to_owned()));
        }
        Err(format!("`{text}` is no port; expected 1 to 65535 or a name of a-z, 0-9 and `-`"))
    }
}

/// RFC 1123.
fn is_label(text: &str, most: usize) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= most
        && text.as_bytes().first().is_some_and(edge)
        && text.as_bytes().last().is_some_and(edge)
        && text.bytes().all(|byte| edge(&byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_a_namespace_a_service_and_a_port() {
        for text in ["default/web", "default/web:http", "kube-system/kube-dns:9153", "a/1"] {
            assert_eq!(Question::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Question::parse("a/b:80").unwrap().port, Port::Number(80));
        assert_eq!(Question::parse("a/b:h2").unwrap().port, Port::Named("h2".to_owned()));
    }

    #[test]
    fn a_target_that_names_none_says_what_is_expected() {
        for (text, answer) in [
            ("web", "expected `NAMESPACE/SERVICE`"),
            ("web:80", "expected `NAMESPACE/SERVICE`"),
            ("a/b/c", "`b/c` is no name"),
            ("A/b", "`A` is no name"),
            ("a/b.svc", "`b.svc` is no name"),
            ("a/", "`` is no name"),
            ("a/b:0", "`0` is no port"),
            ("a/b:70000", "`70000` is no port"),
            ("a/b:", "`` is no port"),
            ("a/b:Http", "`Http` is no port"),
        ] {
            let error = Question::parse(text).unwrap_err();
            assert!(error.contains(answer), "{text}: {error}");
        }
    }
}
