//! The parts of the objects that are read.
//!
//! A cluster's definitions may be newer than this build, so keys that are not known are taken where they change neither
//! what matches nor what is done: in `metadata` and `status` without a word, in `spec` and in rules with one. Matches and
//! filters are read by [`strict`]: a key that is not known there would match more, or do less.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Effect, Remark};

/// Which kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Grpc,
    Http,
}

/// An object, read so far that each of its rules can be read for itself.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) kind: Kind,
    /// `httproute/NAMESPACE/NAME`.
    pub(super) id: String,
    pub(super) namespace: String,
    /// RFC 3339 in UTC, as Kubernetes writes it: texts sort as times do.
    pub(super) created: String,
    pub(super) parents: Vec<Value>,
    pub(super) hostnames: Vec<String>,
    pub(super) rules: Vec<Value>,
    /// Keys of `spec` that are not read.
    pub(super) unread: Vec<String>,
}

#[derive(Deserialize)]
struct Written {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    creation_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    parent_refs: Option<Vec<Value>>,
    hostnames: Option<Vec<String>>,
    rules: Option<Vec<Value>>,
    #[serde(flatten)]
    unread: Map<String, Value>,
}

impl Object {
    /// Reads an object; the error says that it is left out.
    pub(super) fn read(object: &Value) -> Result<Self, Remark> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
        let id =
            || format!("{}/{}/{}", text("/kind").to_lowercase(), text("/metadata/namespace"), text("/metadata/name"));
        let left_out = |message: String| Remark { about: id(), effect: Effect::LeftOut, message };
        let Written { kind, metadata, spec } =
            Written::deserialize(object).map_err(|error| left_out(format!("cannot be read: {error}")))?;
        let kind = match kind.as_str() {
            "GRPCRoute" => Kind::Grpc,
            "HTTPRoute" => Kind::Http,
            other => return Err(left_out(format!("`{other}` is no kind of route that is read"))),
        };
        let mut rules = spec.rules.unwrap_or_default();
        // The API server fills this in for an HTTPRoute; for a GRPCRoute it is the same by its words.
        if rules.is_empty() {
            rules.push(Value::Object(Map::new()));
        }
        Ok(Self {
            kind,
            id: format!("{}/{}/{}", text("/kind").to_lowercase(), metadata.namespace, metadata.name),
            namespace: metadata.namespace,
            created: metadata.creation_timestamp.unwrap_or_default(),
            parents: spec.parent_refs.unwrap_or_default(),
            hostnames: spec.hostnames.unwrap_or_default(),
            rules,
            unread: spec.unread.into_iter().map(|(key, _)| key).collect(),
        })
    }

    /// Returns the name of our routes for one of its rules, counted from 0.
    pub(super) fn rule_name(&self, position: usize) -> String {
        format!("{}/rule-{position}", self.id)
    }
}

/// Returns the matches of a rule, whatever the rest of it is like; none stands for everything.
pub(super) fn matches_of(rule: &Value) -> Result<Vec<Value>, String> {
    let matches = rule.get("matches").unwrap_or(&Value::Null);
    let matches: Option<Vec<Value>> = strict(matches, "matches")?;
    Ok(matches.filter(|matches| !matches.is_empty()).unwrap_or_else(|| vec![Value::Object(Map::new())]))
}

/// One rule, of either kind, without its matches.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    /// For people; nothing depends on it.
    #[serde(rename = "name")]
    pub(super) _name: Option<Value>,
    /// See [`matches_of`].
    #[serde(rename = "matches")]
    pub(super) _matches: Option<Value>,
    pub(super) filters: Option<Vec<Value>>,
    pub(super) backend_refs: Option<Vec<Value>>,
    pub(super) timeouts: Option<Value>,
    pub(super) retry: Option<Value>,
    #[serde(flatten)]
    pub(super) unread: Map<String, Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeouts {
    pub(super) request: Option<String>,
    pub(super) backend_request: Option<String>,
    #[serde(flatten)]
    pub(super) unread: Map<String, Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retry {
    pub(super) codes: Option<Vec<u16>>,
    pub(super) attempts: Option<u32>,
    pub(super) backoff: Option<String>,
    #[serde(flatten)]
    pub(super) unread: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpMatch {
    pub(super) path: Option<PathMatch>,
    pub(super) method: Option<String>,
    pub(super) headers: Option<Vec<ValueMatch>>,
    pub(super) query_params: Option<Vec<ValueMatch>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathMatch {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) value: Option<String>,
}

/// A header or a query parameter.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueMatch {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrpcMatch {
    pub(super) method: Option<GrpcMethod>,
    pub(super) headers: Option<Vec<ValueMatch>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrpcMethod {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) service: Option<String>,
    pub(super) method: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// What it is told: under a key that is its kind with a small letter.
    #[serde(flatten)]
    pub(super) told: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderModifier {
    pub(super) set: Option<Vec<Header>>,
    pub(super) add: Option<Vec<Header>>,
    pub(super) remove: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RequestRedirect {
    pub(super) scheme: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) path: Option<PathModifier>,
    pub(super) port: Option<u16>,
    pub(super) status_code: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlRewrite {
    pub(super) hostname: Option<String>,
    pub(super) path: Option<PathModifier>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PathModifier {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) replace_full_path: Option<String>,
    pub(super) replace_prefix_match: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RequestMirror {
    pub(super) backend_ref: Value,
    pub(super) percent: Option<u8>,
    pub(super) fraction: Option<Fraction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fraction {
    pub(super) numerator: u32,
    pub(super) denominator: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct BackendRef {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) port: Option<u16>,
    pub(super) weight: Option<u32>,
    pub(super) filters: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParentRef {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: String,
    pub(super) section_name: Option<String>,
    pub(super) port: Option<u16>,
}

/// Reads a part; `at` is its place in the rule, for the error.
pub(super) fn strict<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("`{at}` is not understood: {error}"))
}
