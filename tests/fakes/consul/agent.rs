//! The agent: what it is, what is registered with it, and the token that it is shown.

use http::{Method, Response};
use serde_json::{Value, json};

use super::{Asked, Inner, NODE, State};
use crate::http::{Body, full, json as reply, text};

/// What a registration may have; Consul takes some more that nothing of ours sends.
const SERVICE: &[&str] = &[
    "ID",
    "Name",
    "Tags",
    "Port",
    "Address",
    "TaggedAddresses",
    "Meta",
    "Weights",
    "Check",
    "Checks",
    "EnableTagOverride",
    "Kind",
    "Proxy",
    "Connect",
    "Locality",
    "Namespace",
    "Partition",
];

/// What a check may have.
const CHECK: &[&str] = &[
    "CheckID",
    "ID",
    "Name",
    "Notes",
    "Status",
    "TTL",
    "HTTP",
    "Method",
    "Header",
    "Body",
    "TLSServerName",
    "TLSSkipVerify",
    "TCP",
    "GRPC",
    "GRPCUseTLS",
    "Interval",
    "Timeout",
    "SuccessBeforePassing",
    "FailuresBeforeCritical",
    "FailuresBeforeWarning",
    "DeregisterCriticalServiceAfter",
];

/// Answers everything below `/v1/agent` and `/v1/acl`.
pub(super) fn answer(state: &State, asked: &Asked) -> Response<Body> {
    let path: Vec<&str> = asked.segments.iter().skip(1).map(String::as_str).collect();
    let is_get = asked.method == Method::GET;
    if !is_get && asked.method != Method::PUT {
        return text(405, "method not allowed");
    }
    match (is_get, path.as_slice()) {
        (true, ["acl", "token", "self"]) => own_token(state, asked),
        (true, ["agent", "self"]) => itself(state, asked),
        (true, ["agent", "services"]) => reply(&json!(listed(state, asked))),
        (true, ["agent", "checks"]) => reply(&json!(state.lock().checks)),
        (true, ["agent", "service", id]) => match listed(state, asked).remove(*id) {
            Some(service) => reply(&service),
            None => text(404, format!("unknown service ID: {id}")),
        },
        (false, ["agent", "service", "register"]) => register(state, asked),
        (false, ["agent", "service", "deregister", id]) => deregister(state, asked, id),
        (false, ["agent", "service", "maintenance", id]) => maintain(state, asked, id),
        (false, ["agent", "check", "update", id]) => update(state, asked, id),
        (false, ["agent", "check", verb @ ("pass" | "warn" | "fail"), id]) => {
            let status = match *verb {
                "pass" => "passing",
                "warn" => "warning",
                _ => "critical",
            };
            check_is(state, asked, id, status, asked.value("note").unwrap_or_default())
        }
        _ => text(404, "not found"),
    }
}

fn own_token(state: &State, asked: &Asked) -> Response<Body> {
    if state.lock().tokens.is_none() {
        return text(401, "ACL support disabled");
    }
    let _ = asked;
    reply(&json!({ "AccessorID": "6a1253d2-1785-24fd-91c2-f8e78c745511", "Description": "of a test", "Policies": [] }))
}

fn itself(state: &State, asked: &Asked) -> Response<Body> {
    if !asked.may("agent:read") {
        return denied("agent:read", NODE);
    }
    reply(&json!({
        "Config": { "Datacenter": "dc1", "NodeName": NODE, "Version": "1.99.0", "Server": true },
        "DebugConfig": { "HTTPMaxConnsPerClient": state.lock().max_connections },
        "Member": { "Name": NODE, "Addr": "127.0.0.1" },
    }))
}

fn listed(state: &State, asked: &Asked) -> serde_json::Map<String, Value> {
    let services = state.lock().registered.clone();
    services.into_iter().filter(|_| asked.may("service:read")).map(|(id, sent)| {
        let service = json!({
            "ID": id, "Service": sent["Name"], "Tags": or(&sent["Tags"], json!([])), "Meta": or(&sent["Meta"], json!({})),
            "Port": or(&sent["Port"], json!(0)), "Address": or(&sent["Address"], json!("")),
            "Weights": or(&sent["Weights"], json!({ "Passing": 1, "Warning": 1 })), "Datacenter": "dc1",
        });
        (id, service)
    }).collect()
}

fn or(value: &Value, default: Value) -> Value {
    if value.is_null() { default } else { value.clone() }
}

fn register(state: &State, asked: &Asked) -> Response<Body> {
    if let Err(refused) = asked.takes_only(&["replace-existing-checks", "ns", "partition"]) {
        return *refused;
    }
    let sent = match object(&asked.body, SERVICE) {
        Ok(sent) => sent,
        Err(refused) => return *refused,
    };
    let Some(name) = sent["Name"].as_str().filter(|name| !name.is_empty()) else {
        return text(400, "Missing service name");
    };
    if !asked.may("service:write") {
        return denied("service:write", name);
    }
    let id = sent["ID"].as_str().unwrap_or(name).to_owned();
    let checks = match checks_of(&sent, &id) {
        Ok(checks) => checks,
        Err(refused) => return *refused,
    };
    state.change(|inner| {
        // As it is without `replace-existing-checks=true`, too: checks that the new registration does not name stay.
        if asked.value("replace-existing-checks").is_some_and(|value| value.is_empty() || value == "true") {
            inner.checks.retain(|_, check| check["ServiceID"] != json!(id));
        }
        for (check, value) in checks {
            inner.checks.insert(check, value);
        }
        inner.registered.insert(id.clone(), sent.clone());
        inner.relist(name);
    });
    Response::new(full(""))
}

fn deregister(state: &State, asked: &Asked, id: &str) -> Response<Body> {
    if !asked.may("service:write") {
        return denied("service:write", id);
    }
    let was = state.change(|inner| {
        let sent = inner.registered.remove(id)?;
        inner.checks.retain(|_, check| check["ServiceID"] != json!(id));
        inner.relist(sent["Name"].as_str()?);
        Some(())
    });
    if was.is_some() {
        Response::new(full(""))
    } else {
        text(404, format!("Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name."))
    }
}

fn maintain(state: &State, asked: &Asked, id: &str) -> Response<Body> {
    if let Err(refused) = asked.takes_only(&["enable", "reason", "ns"]) {
        return *refused;
    }
    let Some(enable) = asked.value("enable").and_then(|text| text.parse::<bool>().ok()) else {
        return text(400, "Missing value for enable");
    };
    if !asked.may("service:write") {
        return denied("service:write", id);
    }
    let name = state.lock().registered.get(id).and_then(|sent| Some(sent["Name"].as_str()?.to_owned()));
    let Some(name) = name else { return text(404, format!("Unknown service ID \"{id}\"")) };
    state.change(|inner| {
        let check = format!("_service_maintenance:{id}");
        if enable {
            let value =
                json!({ "CheckID": check, "Name": "Service Maintenance Mode", "Status": "critical", "ServiceID": id });
            inner.checks.insert(check, value);
        } else {
            inner.checks.remove(&check);
        }
        inner.relist(&name);
    });
    Response::new(full(""))
}

fn update(state: &State, asked: &Asked, id: &str) -> Response<Body> {
    let sent = match object(&asked.body, &["Status", "Output"]) {
        Ok(sent) => sent,
        Err(refused) => return *refused,
    };
    match sent["Status"].as_str() {
        Some(status @ ("passing" | "warning" | "critical")) => {
            check_is(state, asked, id, status, sent["Output"].as_str().unwrap_or_default())
        }
        other => text(400, format!("Invalid check status: '{}'", other.unwrap_or_default())),
    }
}

fn check_is(state: &State, asked: &Asked, id: &str, status: &str, output: &str) -> Response<Body> {
    let check = state.lock().checks.get(id).cloned();
    let Some(check) = check else { return text(404, format!("Unknown check ID \"{id}\"")) };
    if check["Type"] != "ttl" {
        return text(500, format!("CheckID \"{id}\" does not have associated TTL"));
    }
    if !asked.may("service:write") {
        return denied("service:write", id);
    }
    state.change(|inner| inner.set_status(id, status, output));
    Response::new(full(""))
}

/// Returns the checks of a registration, by the ids that an agent gives them.
fn checks_of(sent: &Value, service: &str) -> Result<Vec<(String, Value)>, Box<Response<Body>>> {
    let one = (!sent["Check"].is_null()).then(|| sent["Check"].clone());
    let many = sent["Checks"].as_array().cloned().unwrap_or_default();
    let all: Vec<Value> = one.into_iter().chain(many).collect();
    let mut checks = Vec::new();
    for (position, check) in all.iter().enumerate() {
        known(check, CHECK)?;
        let is_ttl = check["TTL"].is_string();
        let has_interval = check["Interval"].is_string();
        let kinds = ["HTTP", "TCP", "GRPC"].iter().filter(|kind| check[**kind].is_string()).count();
        if usize::from(is_ttl) + kinds != 1 || (kinds == 1) != has_interval {
            return Err(Box::new(text(400, "Invalid check: TTL must be > 0 or Interval must be > 0")));
        }
        let count = if all.len() == 1 { String::new() } else { format!(":{}", position + 1) };
        let id = check["CheckID"].as_str().map_or_else(|| format!("service:{service}{count}"), ToOwned::to_owned);
        let value = json!({
            "CheckID": id, "Name": check["Name"].as_str().unwrap_or("Service check"),
            "Status": check["Status"].as_str().unwrap_or("critical"), "Output": "", "ServiceID": service,
            "ServiceName": sent["Name"], "Type": if is_ttl { "ttl" } else { "http" },
        });
        checks.push((id, value));
    }
    Ok(checks)
}

fn object(body: &[u8], fields: &[&str]) -> Result<Value, Box<Response<Body>>> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Box::new(text(400, format!("Request decode failed: {error}"))))?;
    known(&value, fields)?;
    Ok(value)
}

fn known(value: &Value, fields: &[&str]) -> Result<(), Box<Response<Body>>> {
    let Some(map) = value.as_object() else { return Err(Box::new(text(400, "Request decode failed: not an object"))) };
    match map.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(key) => Err(Box::new(text(400, format!("Request decode failed: unknown field \"{key}\"")))),
        None => Ok(()),
    }
}

fn denied(permission: &str, on: &str) -> Response<Body> {
    text(403, format!("Permission denied: token with AccessorID 'x' lacks permission '{permission}' on \"{on}\""))
}

impl Inner {
    /// Sets the status of a check, and lists its service anew if that changed.
    pub(super) fn set_status(&mut self, check: &str, status: &str, output: &str) {
        let Some(value) = self.checks.get_mut(check) else { return };
        let changed = value["Status"] != json!(status) || value["Output"] != json!(output);
        (value["Status"], value["Output"]) = (json!(status), json!(output));
        if let Some(name) = value["ServiceName"].as_str().map(ToOwned::to_owned)
            && changed
        {
            self.relist(&name);
        }
    }

    /// Lists what is registered under a name as its instances.
    fn relist(&mut self, name: &str) {
        let entries = self.registered.iter().filter(|(_, sent)| sent["Name"] == json!(name)).map(|(id, sent)| {
            let mut checks = vec![json!({ "CheckID": "serfHealth", "Status": "passing", "ServiceID": "" })];
            checks.extend(self.checks.values().filter(|check| check["ServiceID"] == json!(id)).cloned());
            json!({
                "Node": { "Node": NODE, "Address": "127.0.0.1", "Datacenter": "dc1", "Meta": {} },
                "Service": {
                    "ID": id, "Service": name, "Tags": or(&sent["Tags"], json!([])),
                    "Address": or(&sent["Address"], json!("")), "Port": or(&sent["Port"], json!(0)),
                    "Meta": or(&sent["Meta"], json!({})),
                    "Weights": or(&sent["Weights"], json!({ "Passing": 1, "Warning": 1 })),
                },
                "Checks": checks,
            })
        });
        let entries = entries.collect();
        self.list("dc1", name, entries);
    }
}
