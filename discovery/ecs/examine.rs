//! What `meshless doctor` is told: whether each call that a source makes is permitted, and whether clusters and services exist.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::target::{List, Query};
use super::wire::Listed;
use crate::Finding;
use crate::aws::{Aws, Permission, Service, Trouble};

/// The whole look has to end within 10 s.
const PATIENCE: Duration = Duration::from_secs(9);

/// Of that, for one call.
const CALL: Duration = Duration::from_secs(3);

/// Most services that are looked for.
const MAX_SERVICES: usize = 20;

/// Ids that nothing has, well-formed: who may not call is told so before anybody looks for them.
const NO_TASK: &str = "00000000000000000000000000000000";
const NO_EC2: &str = "i-00000000000000000";
const NO_MANAGED: &str = "mi-00000000000000000";

const ON_INSTANCES: Option<&str> = Some("only for tasks in the network modes `bridge` and `host`");
const ANYWHERE: Option<&str> = Some("only for tasks of ECS Anywhere");
const NAMED_PORTS: Option<&str> = Some("only for ports by name, ports that are left out, and the network mode `host`");

pub(super) async fn examine(aws: &Aws, queries: &[Query]) -> Vec<Finding> {
    let (aws, deadline) = (aws.with_timeout(CALL), Instant::now() + PATIENCE);
    let mut findings = Vec::new();
    if timeout_at(deadline, look(&aws, queries, &mut findings)).await.is_err() {
        findings.push(Finding::warning(
            "time",
            format!("not all was looked at within {PATIENCE:?}"),
            "look at the network",
        ));
    }
    findings
}

async fn look(aws: &Aws, queries: &[Query], findings: &mut Vec<Finding>) {
    findings.extend(aws.examine().await);
    if findings.last().is_some_and(|finding| finding.verdict == crate::Verdict::Bad) {
        return;
    }
    let clusters: BTreeSet<&str> = queries.iter().map(|query| query.cluster.as_str()).collect();
    if clusters.is_empty() {
        findings.push(Finding::warning(
            "targets",
            "no target names a cluster",
            "add a service with `from = \"ecs/CLUSTER/SERVICE\"`",
        ));
    }
    for cluster in clusters {
        let ecs = |action, input| aws.json::<IgnoredAny>(Service::Ecs, action, input);
        let listed = ecs("ListTasks", json!({ "cluster": cluster, "maxResults": 1 })).await;
        let is_there = listed.is_ok();
        findings.push(about(cluster, permission("ecs:ListTasks", None).found(listed.map(drop), &[])));
        if !is_there {
            continue;
        }
        let tasks = ecs("DescribeTasks", json!({ "cluster": cluster, "tasks": [NO_TASK] })).await;
        findings.push(about(
            cluster,
            permission("ecs:DescribeTasks", None).found(tasks.map(drop), &["InvalidParameterException"]),
        ));
        let instances =
            ecs("DescribeContainerInstances", json!({ "cluster": cluster, "containerInstances": [NO_TASK] })).await;
        let permission = permission("ecs:DescribeContainerInstances", ON_INSTANCES);
        findings.push(about(cluster, permission.found(instances.map(drop), &["InvalidParameterException"])));
    }
    let definition = aws
        .json::<IgnoredAny>(Service::Ecs, "DescribeTaskDefinition", json!({ "taskDefinition": "meshless-doctor-0" }))
        .await;
    // There is no such family, which who may not look is not told.
    let unknown = ["ClientException", "InvalidParameterException"];
    findings.push(permission("ecs:DescribeTaskDefinition", NAMED_PORTS).found(definition.map(drop), &unknown));
    let filter = [("Filter.1.Name", "instance-id"), ("Filter.1.Value.1", NO_EC2)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let ec2 = aws.form(Service::Ec2, "DescribeInstances", &filter).await;
    findings
        .push(permission("ec2:DescribeInstances", ON_INSTANCES).found(ec2.map(drop), &["InvalidInstanceID.NotFound"]));
    let input = json!({ "Filters": [{ "Key": "InstanceIds", "Values": [NO_MANAGED] }] });
    let ssm = aws.json::<IgnoredAny>(Service::Ssm, "DescribeInstanceInformation", input).await;
    findings.push(
        permission("ssm:DescribeInstanceInformation", ANYWHERE)
            .found(ssm.map(drop), &["InvalidInstanceId", "InvalidFilterKey"]),
    );
    services(aws, queries, findings).await;
}

/// A service that is not there looks like one without tasks to a source.
async fn services(aws: &Aws, queries: &[Query], findings: &mut Vec<Finding>) {
    let named = queries.iter().filter_map(|query| match query.list() {
        List::Service(service) => Some((query.cluster.clone(), service)),
        _ => None,
    });
    let services: BTreeSet<(String, String)> = named.collect();
    for (cluster, service) in services.iter().take(MAX_SERVICES) {
        let input = json!({ "cluster": cluster, "serviceName": service, "maxResults": 1 });
        let what = format!("service {cluster}/{service}");
        findings.push(match aws.json::<Listed>(Service::Ecs, "ListTasks", input).await {
            Ok(listed) if listed.task_arns.is_empty() => {
                Finding::warning(what, "has no tasks that are to run", "look at its desired count, and at its events")
            }
            Ok(_) => Finding::good(what, "has tasks"),
            Err(Trouble { code: Some(code), .. }) if code == "ServiceNotFoundException" => {
                Finding::bad(what, "does not exist", "correct the target, or create the service")
            }
            Err(trouble) => Finding::warning(what, trouble.error.to_string(), "see above"),
        });
    }
}

fn permission(action: &'static str, only_for: Option<&'static str>) -> Permission {
    Permission { action, only_for }
}

fn about(cluster: &str, finding: Finding) -> Finding {
    Finding { what: format!("{} in {cluster}", finding.what), ..finding }
}
