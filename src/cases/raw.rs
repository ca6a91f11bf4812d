//! What a person writes into a file of cases. `config` is read apart: see [`written`](crate::config::written).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Period, Ratio};
use crate::offline::catalog::{HealthWord, Listed};

/// A file of cases.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Values for `${NAME}` that the platform would give; `--set` wins. Default: none.
    pub(super) set: BTreeMap<String, String>,
    /// What targets list, by target; those that are `static` say it themselves.
    pub(super) catalog: BTreeMap<String, Vec<Listed>>,
    /// The cases.
    pub(super) cases: Vec<Case>,
}

/// A case.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Case {
    /// A sentence. Required.
    pub(super) name: Option<String>,
    /// What is asked. Required.
    pub(super) request: Option<Request>,
    /// When, after the start. Default: after all events.
    pub(super) at: Option<Period>,
    /// What has happened before, in the order of time.
    pub(super) events: Vec<Event>,
    /// How endpoints answer, by address: a status such as `"503"`, or `"down"`, `"unreachable"`, `"frozen"`, `"reset"`.
    /// Default: 200 after 1 ms.
    pub(super) answers: BTreeMap<String, String>,
    /// What these targets list, instead of what the file says.
    pub(super) catalog: BTreeMap<String, Vec<Listed>>,
    /// What is expected. Required.
    pub(super) expect: Option<Expect>,
}

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Request {
    /// The listener that it comes in by. Default: the only one.
    pub(super) listener: Option<String>,
    /// Default GET.
    pub(super) method: Option<String>,
    /// `http://host/path?query`. Required.
    pub(super) url: Option<String>,
    /// Headers.
    pub(super) headers: BTreeMap<String, String>,
    /// SPIFFE ID of its client, as if its certificate had been verified.
    pub(super) from: Option<String>,
    /// Address of its client.
    pub(super) address: Option<String>,
}

/// Something that has happened to an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Event {
    /// When, after the start. Default: at the start.
    pub(super) at: Option<Period>,
    /// Its address. Required.
    pub(super) endpoint: Option<String>,
    /// So many requests in a row have failed there.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) fails: Option<u32>,
    /// So many requests have been served there.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) serves: Option<u32>,
    /// What its backend says of it from now on.
    pub(super) health: Option<HealthWord>,
    /// Its backend does not list it any more.
    pub(super) gone: Option<bool>,
}

/// What is expected; what is left out may be anything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// Name of the route; `""`: none.
    pub(super) route: Option<String>,
    /// The service, or the inline target as written, that gets all of such requests.
    pub(super) service: Option<String>,
    /// Shares of such requests, by service, target or address of an endpoint.
    pub(super) share: BTreeMap<String, Ratio>,
    /// How far a share may be off. Default 2 %.
    pub(super) tolerance: Option<Ratio>,
    /// Status that the client gets.
    #[schemars(range(min = 100, max = 599))]
    pub(super) status: Option<u16>,
    /// Label of the failure that the gateway answers; `""`: none.
    pub(super) error: Option<String>,
    /// No rule of `allow` of its listener allows it. With `dry_run` nothing is denied.
    pub(super) denied: Option<bool>,
    /// Tries, the first one included.
    pub(super) tries: Option<u32>,
    /// It is tried more than once.
    pub(super) retried: Option<bool>,
    /// How long it may take until the head of its reply, whatever its client says.
    pub(super) timeout: Option<Period>,
    /// How long its client gives it.
    pub(super) deadline: Option<Period>,
    /// Path and query that an endpoint gets.
    pub(super) path: Option<String>,
    /// Host that an endpoint gets.
    pub(super) host: Option<String>,
}
