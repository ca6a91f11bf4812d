//! Where a gateway runs: asked once at the start, used by the configuration, told by `meshless platform`.

use std::process::{Command, Output};
use std::sync::Arc;

use meshless_fakes::ec2::Instance;
use meshless_fakes::http::{Mode, Server, json as reply, text};
use serde_json::{Value, json};

use crate::gateway;
use crate::plain::{get, origin, wait_until};
use crate::process;

const URI: &str = "ECS_CONTAINER_METADATA_URI_V4";
const IMDS: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// The task metadata endpoint of a task on Fargate; its own address is loopback, so that a test can use it.
fn agent() -> Server {
    Server::start(Arc::new(|request| {
        let own = json!({
            "DockerId": "d1", "Name": "meshless", "Networks": [{ "NetworkMode": "awsvpc", "IPv4Addresses": ["127.0.0.1"] }]
        });
        let task = json!({
            "Cluster": "arn:aws:ecs:eu-west-1:111122223333:cluster/prod", "Family": "web", "Revision": "7",
            "TaskARN": "arn:aws:ecs:eu-west-1:111122223333:task/prod/0123abcd", "AvailabilityZone": "eu-west-1a",
            "Limits": { "CPU": 0.5, "Memory": 512 }, "Containers": [own.clone()], "LaunchType": "FARGATE"
        });
        let answer = match request.uri().path() {
            "/v4/d1/task" => reply(&task),
            "/v4/d1" => reply(&own),
            _ => text(404, ""),
        };
        Box::pin(async move { answer })
    }))
}

fn uri(agent: &Server) -> String {
    format!("{}/v4/d1", agent.url())
}

/// A configuration that uses what a task of ECS knows.
fn using_ecs(node: &str, port: u16) -> String {
    format!(
        "[node]\n{node}\nworkers = 1\n[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.ecs]\nregion = \"${{node.region}}\"\nendpoint = \"http://127.0.0.1:1\"\n\
         [services.api]\nfrom = \"ecs/${{ecs.cluster}}/api:8080 | static/${{node.address}}:{port}\"\n\
         [[routes]]\nto = \"api\"\n"
    )
}

#[test]
fn a_task_of_ecs_uses_what_its_platform_says_and_asks_once() {
    let (agent, one) = (agent(), origin("one"));
    let text = using_ecs("platform = \"ecs\"", one.address.port());
    let process = process::with(&text).variable(URI, &uri(&agent)).start();
    let config: Value = serde_json::from_str(&process.admin("/config").body).unwrap();
    let from = config["config"]["services"]["api"]["from"].to_string();
    assert!(from.contains("ecs/prod/api:8080") && from.contains("static/127.0.0.1:"), "{from}");
    let node = &config["config"]["node"];
    assert_eq!(
        (&node["platform"], &node["zone"], &node["address"]),
        (&"ecs".into(), &"eu-west-1a".into(), &"127.0.0.1".into())
    );
    assert!((process.metric("meshless_node_info", &["platform=\"ecs\"", "zone=\"eu-west-1a\""]) - 1.0).abs() < 0.1);
    // A reload goes on by what was said at the start, whatever became of the agent.
    let asked = agent.requests().len();
    agent.set(Mode::Down);
    process.reload(&text.replace("api:8080", "${ecs.family}:8080"));
    let config: Value = serde_json::from_str(&process.admin("/config").body).unwrap();
    assert_eq!(config["last_error"], Value::Null);
    assert!(config["config"]["services"]["api"]["from"].to_string().contains("ecs/prod/web:8080"));
    assert_eq!(config["pending_restart"], json!([]));
    assert_eq!(agent.requests().len(), asked);
}

#[test]
fn a_platform_that_is_named_and_silent_ends_the_start() {
    let agent = agent();
    agent.set(Mode::Frozen);
    let mut process = process::with(&using_ecs("platform = \"ecs\"", 1)).variable(URI, &uri(&agent)).spawn();
    assert_eq!(process.wait().code(), Some(69));
    let text = process.stderr();
    assert!(
        text.contains("node.platform = \"ecs\": http://127.0.0.1:") && text.contains("/v4/d1/task did not answer"),
        "{text}"
    );
}

#[test]
fn a_platform_that_is_found_and_silent_is_an_error_where_it_is_used() {
    let agent = agent();
    agent.set(Mode::Down);
    let used = using_ecs("", 1);
    let mut process = process::with(&used).variable(URI, &uri(&agent)).spawn();
    assert_eq!(process.wait().code(), Some(64));
    let text = process.stderr();
    assert!(
        text.contains("services.api.from: `ecs.cluster` is not known on this platform (`ecs`): http://127.0.0.1:"),
        "{text}"
    );
    // Who uses nothing of it is told, and served.
    let one = origin("one");
    let plain = format!("[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{}\"\n", one.address);
    let process = process::with(&plain).variable(URI, &uri(&agent)).start();
    process.wait_for_log("The platform does not answer");
    assert_eq!(process::get(&process, "edge", "/").body, "one");
}

#[test]
fn a_value_that_the_platform_does_not_give_is_told_with_those_it_gives() {
    let agent = agent();
    let text = using_ecs("", 1).replace("${ecs.cluster}", "${ecs.clustr}").replace("${node.region}", "${ec2.region}");
    let error = gateway::with(&text).variable(URI, &uri(&agent)).try_start().unwrap_err().to_string();
    assert!(
        error.contains("`ecs.clustr` is nothing that this platform (`ecs`) gives; did you mean `ecs.cluster`?"),
        "{error}"
    );
    assert!(error.contains("`ec2.region` is nothing that this platform (`ecs`) gives"), "{error}");
}

#[test]
fn what_is_written_wins_over_what_the_platform_says() {
    let (agent, one) = (agent(), origin("one"));
    let node = "zone = \"mine\"\naddress = \"127.0.0.2\"\nplatform = \"auto\"";
    let text = using_ecs(node, one.address.port())
        .replace("to = \"api\"", "to = \"api\"\nname = \"${node.zone}-${node.address}-${node.platform}\"");
    let gateway = gateway::with(&text).variable(URI, &uri(&agent)).start();
    assert!(gateway.admin("/config").1.contains("mine-127.0.0.2-ecs"));
}

#[test]
fn an_instance_of_ec2_is_asked_by_tokens_and_its_zone_is_ours() {
    let (instance, one) = (Instance::start(), origin("one"));
    let text = format!(
        "[node]\nplatform = \"ec2\"\nworkers = 1\n[[listeners]]\nname = \"${{ec2.instance}}\"\nlisten = \"127.0.0.1:0\"\n\
         to = \"static/{}\"\n",
        one.address
    );
    let gateway = gateway::with(&text).variable(IMDS, &instance.server.url()).start();
    assert_eq!(get(gateway.address("i-0123456789abcdef0"), "a.example", "/").body, "one");
    let config: Value = serde_json::from_str(&gateway.admin("/config").1).unwrap();
    assert_eq!(config["config"]["node"]["zone"], "eu-west-1a");
}

#[test]
fn a_notice_of_aws_drains_a_spot_instance() {
    let (instance, one) = (Instance::start(), origin("one"));
    let text = format!(
        "[node]\nplatform = \"ec2\"\nworkers = 1\n[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{}\"\n",
        one.address
    );
    let mut process = process::with(&text).variable(IMDS, &instance.server.url()).start();
    let looked = || instance.server.requests().iter().any(|request| request.ends_with("/recommendations/rebalance"));
    wait_until("AWS was asked for notices", looked);
    assert!(process.runs());
    instance.interrupt("terminate", "2026-11-23T08:02:00Z");
    assert_eq!(process.wait().code(), Some(0));
    let log = process.stderr();
    assert!(log.contains("AWS takes this instance back: draining.") && log.contains("Drained."), "{log}");
}

fn platform(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.arg("platform").args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn the_command_tells_each_value_and_who_says_it() {
    let agent = agent();
    let base = uri(&agent);
    let output = platform(&[], &[(URI, &base)]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("platform ecs: ECS_CONTAINER_METADATA_URI_V4 is set\n"), "{text}");
    let line =
        |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    assert!(line("ecs.cluster ").contains("prod") && line("ecs.cluster ").ends_with(&format!("{base}/task")));
    assert!(line("ecs.service ").ends_with("set MESHLESS_ECS_SERVICE"));
    assert!(line("workers ").ends_with("1  the platform allows 0.5"), "{text}");
    let output = platform(&["ecs", "--json"], &[(URI, &base), ("MESHLESS_ECS_SERVICE", "checkout")]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["values"]["ecs.service"], json!({ "value": "checkout", "from": "MESHLESS_ECS_SERVICE" }));
    assert_eq!((&value["workers"], &value["limits"]["cpus"]), (&json!(1), &json!(0.5)));
}

#[test]
fn the_command_says_who_does_not_answer() {
    let output = platform(&["nomad"], &[]);
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("  does not answer: NOMAD_ALLOC_ID is not set: this is no task of Nomad\n"), "{text}");
    // What was found by itself is no error, and neither is a machine that says nothing.
    let agent = agent();
    agent.set(Mode::Status(500));
    assert_eq!(platform(&[], &[(URI, &uri(&agent))]).status.code(), Some(0));
    assert_eq!(platform(&["vm"], &[]).status.code(), Some(0));
    assert_eq!(platform(&["mesos"], &[]).status.code(), Some(64));
}

#[test]
fn off_the_platform_a_set_stands_for_what_it_would_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, using_ecs("platform = \"ecs\"", 80)).unwrap();
    let file = file.to_str().unwrap();
    let output = process::command(&["check", "-c", file]);
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("give `--set ecs.cluster=…`") && text.contains("give `--set node.region=…`"), "{text}");
    let sets = ["--set", "ecs.cluster=prod", "--set", "node.region=eu-west-1", "--set", "node.address=10.0.0.1"];
    let output = process::command(&[&["check", "-c", file][..], &sets].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
