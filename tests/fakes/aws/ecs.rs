//! What ECS, EC2 and SSM answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, World, refuse};

pub(super) fn act(world: &World, action: &str, input: &Value) -> Answer {
    let cluster = input["cluster"].as_str().unwrap_or("default");
    if action != "DescribeTaskDefinition" && !world.clusters.contains(cluster) {
        return refuse("ClusterNotFoundException", "Cluster not found.");
    }
    match action {
        "ListTasks" => list(world, input),
        "DescribeTasks" => describe(world, input),
        "DescribeContainerInstances" => {
            let Some(arns) = hundred(&input["containerInstances"]) else {
                return refuse("InvalidParameterException", "containerInstances can have at most 100 items");
            };
            let (known, missing): (Vec<&str>, Vec<&str>) =
                arns.iter().partition(|arn| world.instances.contains_key(**arn));
            let known: Vec<Value> = known
                .iter()
                .map(|arn| json!({ "containerInstanceArn": arn, "ec2InstanceId": world.instances[*arn] }))
                .collect();
            Answer::Json(json!({ "containerInstances": known, "failures": failures(&missing) }))
        }
        "DescribeTaskDefinition" => match world.definitions.get(input["taskDefinition"].as_str().unwrap_or_default()) {
            Some(definition) => Answer::Json(json!({ "taskDefinition": definition, "tags": [] })),
            None => refuse("ClientException", "Unable to describe task definition."),
        },
        _ => refuse("UnknownOperationException", action),
    }
}

fn list(world: &World, input: &Value) -> Answer {
    let size = input["maxResults"].as_u64().unwrap_or(100);
    if size == 0 || size > 100 {
        return refuse("InvalidParameterException", "maxResults must be between 1 and 100");
    }
    if !input["serviceName"].is_null() && !input["family"].is_null() {
        return refuse("InvalidParameterException", "Cannot specify both family and serviceName");
    }
    if let Some(service) = input["serviceName"].as_str() {
        let group = format!("service:{service}");
        if !world.services.contains(service) && !world.tasks.iter().any(|task| task["group"] == group.as_str()) {
            return refuse("ServiceNotFoundException", "Service not found.");
        }
    }
    let desired = input["desiredStatus"].as_str().unwrap_or("RUNNING");
    let arns: Vec<&Value> = world
        .tasks
        .iter()
        .filter(|task| task["desiredStatus"] == desired)
        .filter(|task| {
            input["serviceName"].as_str().is_none_or(|name| task["group"] == format!("service:{name}").as_str())
        })
        .filter(|task| {
            let definition = task["taskDefinitionArn"].as_str().unwrap_or_default();
            input["family"].as_str().is_none_or(|family| definition.contains(&format!("/{family}:")))
        })
        .map(|task| &task["taskArn"])
        .collect();
    let start: usize = match input["nextToken"].as_str().map(str::parse) {
        None => 0,
        Some(Ok(start)) => start,
        Some(Err(_)) => return refuse("InvalidParameterException", "Invalid token"),
    };
    let end = arns.len().min(start + world.page.min(usize::try_from(size).unwrap()));
    let mut answer = json!({ "taskArns": arns[start.min(end)..end] });
    if end < arns.len() {
        answer["nextToken"] = json!(end.to_string());
    }
    Answer::Json(answer)
}

fn describe(world: &World, input: &Value) -> Answer {
    let Some(arns) = hundred(&input["tasks"]) else {
        return refuse("InvalidParameterException", "taskIds can have at most 100 items");
    };
    let with_tags = input["include"].as_array().is_some_and(|list| list.contains(&json!("TAGS")));
    let known: BTreeMap<&str, &Value> =
        world.tasks.iter().map(|task| (task["taskArn"].as_str().unwrap(), task)).collect();
    let (found, missing): (Vec<&str>, Vec<&str>) = arns.iter().partition(|arn| known.contains_key(**arn));
    let tasks: Vec<Value> = found
        .iter()
        .map(|arn| {
            let mut task = known[*arn].clone();
            if !with_tags {
                task["tags"] = json!([]);
            }
            task
        })
        .collect();
    Answer::Json(json!({ "tasks": tasks, "failures": failures(&missing) }))
}

fn failures(arns: &[&str]) -> Vec<Value> {
    arns.iter().map(|arn| json!({ "arn": arn, "reason": "MISSING" })).collect()
}

/// The texts of a list that has one to a hundred.
fn hundred(list: &Value) -> Option<Vec<&str>> {
    let list: Vec<&str> = list.as_array()?.iter().filter_map(Value::as_str).collect();
    (1..=100).contains(&list.len()).then_some(list)
}

pub(super) fn ec2(world: &World, form: &BTreeMap<String, String>) -> Answer {
    let ids = form.iter().filter(|(key, _)| key.starts_with("Filter.1.Value.") || key.starts_with("InstanceId."));
    let ids: Vec<&String> = ids.map(|(_, id)| id).collect();
    if let Some(managed) = ids.iter().find(|id| !id.starts_with("i-")) {
        return refuse("InvalidInstanceID.Malformed", format!("Invalid id: \"{managed}\""));
    }
    let items: String = ids
        .iter()
        .filter_map(|id| {
            let address = world.addresses.get(*id)?;
            let field = if address.contains(':') { "ipv6Address" } else { "privateIpAddress" };
            Some(format!("<item><instancesSet><item><instanceId>{id}</instanceId><{field}>{address}</{field}></item></instancesSet></item>"))
        })
        .collect();
    Answer::Xml(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>r</requestId><reservationSet>{items}</reservationSet></DescribeInstancesResponse>"
    ))
}

pub(super) fn managed(world: &World, input: &Value) -> Answer {
    let ids: Vec<&str> =
        input["Filters"][0]["Values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if input["Filters"][0]["Key"] != "InstanceIds" || ids.is_empty() {
        return refuse("InvalidFilterKey", "no InstanceIds");
    }
    let list: Vec<Value> = ids
        .iter()
        .filter(|id| id.starts_with("mi-"))
        .filter_map(|id| {
            Some(json!({ "InstanceId": id, "IPAddress": world.addresses.get(*id)?, "PingStatus": "Online" }))
        })
        .collect();
    Answer::Json(json!({ "InstanceInformationList": list }))
}
